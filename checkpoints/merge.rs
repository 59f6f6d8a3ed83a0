//! Several objects to one: of each key the last row.
//!
//! ```text
//! object (older) ─► block ─┐  rows up to some hash
//! object         ─► block ─┼─► band: thousands of rows ─► last of each key ─► keep? ─► object
//! object (newer) ─► block ─┘
//! ```
//!
//! Band by band, because sorting a few thousand rows costs less than a heap that decides row by row between twenty inputs, each in
//! a part of memory of its own.
//!
//! Upholds: loading the merged object instead of its inputs gives every key that is kept the same row; the same inputs make the
//! same bytes. Keeps: of each input one block and a read, of the output one block, whatever the inputs' size.

use storeflow_dataflows::state::{Section, StateRow};

use crate::block::At;
use crate::damage::CheckpointError;
use crate::file::Writer;
use crate::last;
use crate::load::{Blocks, Wanted, in_order};
use crate::object::{Group, Object};
use crate::objects::Objects;
use crate::sizes::{BAND, BAND_LEAST, MERGE_READ, MERGE_READ_LEAST};

/// Merges objects into one with `group`'s shards. Inputs stay as they are.
///
/// `keep` may drop the last row of a key only if no older object with that key stays in use: a merge that does not begin at its
/// chain's beginning (see [`plan`](crate::chain::plan)) has to keep everything, or the older row would count again.
///
/// # Errors
/// If an input is damaged, missing, of another format, or cannot be read, or the object cannot be written.
pub fn merge(
    objects: &dyn Objects,
    inputs: &[Object],
    key: &str,
    group: Group,
    keep: &dyn Fn(Section, StateRow<'_>) -> bool,
) -> Result<Object, CheckpointError> {
    let ahead = (MERGE_READ / inputs.len().max(1) as u64).max(MERGE_READ_LEAST);
    let mut open = Vec::new();
    for (object, wanted) in in_order(inputs, |shard| group.owns(shard)) {
        let mut input = Input { blocks: Blocks::open(objects, object, |_| true, &wanted, ahead)?, wanted, at: At::default() };
        input.settle()?;
        open.push(input);
    }
    let mut writer = Writer::new(objects, key)?;
    let rows_ahead = (BAND / open.len().max(1)).max(BAND_LEAST);
    let mut ends: Vec<At> = Vec::new();
    while let Some(section) = open.iter().filter_map(Input::section).min_by_key(|section| section.code()) {
        let of_section = |input: &&Input<'_>| input.section() == Some(section);
        let end = open.iter().filter(of_section).filter_map(|input| input.blocks.block.hash_ahead(input.at, rows_ahead)).min();
        let Some(end) = end else { break };
        let (mut rows, mut order) = (Vec::with_capacity(2 * BAND), Vec::with_capacity(2 * BAND));
        ends.clear();
        for input in &open {
            let mut at = input.at;
            if input.section() == Some(section) {
                input.take_to(end, &mut at, |row| {
                    order.push(last::entry(row.hash, rows.len() as u64));
                    rows.push(row);
                });
            }
            ends.push(at);
        }
        // Inputs are in the order of as-ofs, and so are places.
        last::for_each(&mut order, |place| rows[place as usize], &mut |row| {
            if keep(section, row) { writer.push(section, row) } else { Ok(()) }
        })?;
        for (input, &end) in open.iter_mut().zip(&ends) {
            input.at = end;
            input.settle()?;
        }
    }
    let through = inputs.iter().map(|object| object.through).max().unwrap_or_default();
    Ok(writer.finish(key, through, group)?)
}

/// An object that is being merged, and where in its block the next row is.
struct Input<'a> {
    blocks: Blocks<'a>,
    wanted: Wanted,
    at: At,
}

impl Input<'_> {
    /// The section of its next row; `None` at its end.
    fn section(&self) -> Option<Section> {
        let block = &self.blocks.block;
        block.row(self.at).map(|_| block.section())
    }

    /// Takes its wanted rows up to a hash, which is never in two blocks.
    #[inline]
    fn take_to<'s>(&'s self, end: u64, at: &mut At, mut take: impl FnMut(StateRow<'s>)) {
        let block = &self.blocks.block;
        while let Some(row) = block.row(*at).filter(|row| row.hash <= end) {
            if self.blocks.every || self.wanted.has(row.hash) {
                take(row);
            }
            block.step(at);
        }
    }

    /// At the end of a block, goes on to the next.
    fn settle(&mut self) -> Result<(), CheckpointError> {
        if self.blocks.block.row(self.at).is_none() && self.blocks.next()? {
            self.at = self.blocks.block.start();
        }
        Ok(())
    }
}
