//! Several objects to one: of each key the last row.
//!
//! ```text
//! object (older) ─► cursor ─┐  least (section, hash)
//! object         ─► cursor ─┼─► heap ──► of equal keys the row of the latest object ──► keep? ──► object
//! object (newer) ─► cursor ─┘
//! ```
//!
//! Upholds: loading the merged object instead of its inputs gives every key that is kept the same row; the same inputs make the
//! same bytes. Keeps: of each input one block and a read, of the output one block, whatever the inputs' size.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use storeflow_dataflows::state::{Section, StateRow};

use crate::damage::CheckpointError;
use crate::file::Writer;
use crate::load::{Cursor, in_order};
use crate::object::{Group, Object};
use crate::objects::Objects;

/// Merged objects live longer than what they were made of, and are read by every start.
const LEVEL: i32 = -1;
/// What all inputs together read at once.
const READ: u64 = 32 << 20;
/// The least that one input reads at once.
const READ_LEAST: u64 = 512 << 10;

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
    let ahead = (READ / inputs.len().max(1) as u64).max(READ_LEAST);
    let mut cursors = Vec::new();
    for (object, wanted) in in_order(inputs, |shard| group.owns(shard)) {
        cursors.push(Cursor::open(objects, object, wanted, ahead)?);
    }
    let mut writer = Writer::new(objects, key, LEVEL)?;
    let mut heap: BinaryHeap<Reverse<u128>> = (0..cursors.len()).filter_map(|rank| head(&cursors, rank)).collect();
    let mut tied = Vec::new();
    while let Some(first) = heap.pop() {
        let rank = rank(first);
        let next = heap.peek().copied();
        if next.is_some_and(|next| same_hash(first, next)) {
            tied.push(rank);
            while heap.peek().is_some_and(|&next| same_hash(first, next)) {
                tied.extend(heap.pop().map(self::rank));
            }
            merge_tied(
                &mut cursors,
                &mut tied,
                first,
                &mut |section, row| {
                    if keep(section, row) {
                        writer.push(section, row)?;
                    }
                    Ok(())
                },
                &mut heap,
            )?;
            continue;
        }
        // Rows that come before any other input's need no heap: most, where a large object meets small ones.
        loop {
            if let Some((section, row)) = cursors[rank].row()
                && keep(section, row)
            {
                writer.push(section, row)?;
            }
            cursors[rank].step()?;
            match head(&cursors, rank) {
                Some(head) if next.is_none_or(|next| before(head, next)) => {}
                head => break heap.extend(head),
            }
        }
    }
    let through = inputs.iter().map(|object| object.through).max().unwrap_or_default();
    Ok(writer.finish(key, through, group)?)
}

/// Visits the last row of each key with this section and hash, in the order of keys; inputs go back to the heap.
fn merge_tied(
    cursors: &mut [Cursor<'_>],
    tied: &mut Vec<usize>,
    first: Reverse<u128>,
    visit: &mut dyn FnMut(Section, StateRow<'_>) -> Result<(), CheckpointError>,
    heap: &mut BinaryHeap<Reverse<u128>>,
) -> Result<(), CheckpointError> {
    tied.sort_unstable();
    let mut equal = Vec::new();
    while !tied.is_empty() {
        let key = |rank: usize| cursors[rank].row().map(|(_, row)| row.key);
        let least = tied.iter().map(|&rank| key(rank)).min().flatten();
        equal.clear();
        equal.extend(tied.iter().copied().filter(|&rank| key(rank) == least));
        // Ranks are in the order of as-ofs.
        if let Some((section, row)) = equal.last().and_then(|&rank| cursors[rank].row()) {
            visit(section, row)?;
        }
        for &rank in &equal {
            cursors[rank].step()?;
            match head(cursors, rank) {
                Some(head) if same_hash(head, first) => {}
                head => {
                    tied.retain(|&other| other != rank);
                    heap.extend(head);
                }
            }
        }
    }
    Ok(())
}

const RANK_BITS: u32 = 32;

/// Section, hash and rank of an input's row as one number in their order.
#[inline]
fn head(cursors: &[Cursor<'_>], rank: usize) -> Option<Reverse<u128>> {
    let (section, row) = cursors[rank].row()?;
    Some(Reverse((u128::from(section.code()) << 64 | u128::from(row.hash)) << RANK_BITS | rank as u128))
}

fn rank(Reverse(head): Reverse<u128>) -> usize {
    (head & ((1 << RANK_BITS) - 1)) as usize
}

#[inline]
fn same_hash(Reverse(a): Reverse<u128>, Reverse(b): Reverse<u128>) -> bool {
    a >> RANK_BITS == b >> RANK_BITS
}

#[inline]
fn before(Reverse(a): Reverse<u128>, Reverse(b): Reverse<u128>) -> bool {
    a >> RANK_BITS < b >> RANK_BITS
}
