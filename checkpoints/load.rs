//! Objects back to rows.
//!
//! ```text
//! objects by as-of ─► index ─► blocks with wanted shards, some at a read ─► one block in memory ─► rows of wanted shards
//! ```
//!
//! Upholds: rows of a later object are visited after those of an earlier one, so of a key the last visit counts; and nothing of a
//! block is visited before the block has proved to be what was written. Keeps: one block, and one read of a few megabytes.
//! Absent on purpose: threads. Workers each load their own shards.

use bytes::Bytes;
use storeflow_dataflows::key::SHARDS;
use storeflow_dataflows::state::{Section, StateRow};
use xxhash_rust::xxh3::xxh3_64;

use crate::block::{Block, shard};
use crate::damage::CheckpointError;
use crate::file::{Placed, read_header, read_index};
use crate::object::Object;
use crate::objects::Objects;
use crate::sizes::LOAD_READ;

/// What was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Rows that were visited.
    pub rows: u64,
    /// Bytes that were read.
    pub bytes: u64,
}

/// Visits the rows of the wanted sections and shards: objects in ascending order of `through` (then of their key), within an
/// object by section, hash and key. An object counts for its [group](Object::group)'s shards only.
///
/// # Errors
/// If an object is damaged, missing, of another format, or cannot be read. Rows may have been visited by then.
pub fn load(
    objects: &dyn Objects,
    all: &[Object],
    sections: impl Fn(Section) -> bool,
    shards: impl Fn(u64) -> bool,
    visit: &mut dyn FnMut(Section, StateRow<'_>),
) -> Result<Loaded, CheckpointError> {
    let mut loaded = Loaded::default();
    for (object, wanted) in in_order(all, shards) {
        let mut blocks = Blocks::open(objects, object, &sections, &wanted, LOAD_READ)?;
        while blocks.next()? {
            let (block, mut at) = (&blocks.block, blocks.block.start());
            while let Some(row) = block.row(at) {
                if blocks.every || wanted.has(row.hash) {
                    visit(block.section(), row);
                    loaded.rows += 1;
                }
                block.step(&mut at);
            }
        }
        loaded.bytes += blocks.bytes;
    }
    Ok(loaded)
}

/// Reads all of an object and checks it: checksums, and that rows are in order and each key is there once.
///
/// # Errors
/// What is wrong with it, or that it cannot be read.
pub fn check(objects: &dyn Objects, object: &Object) -> Result<Loaded, CheckpointError> {
    let damaged = |what: String| CheckpointError::Damaged { place: objects.place(&object.key), what };
    let mut blocks = Blocks::open(objects, object, |_| true, &Wanted([true; SHARDS as usize]), LOAD_READ)?;
    read_header(objects, object)?;
    let (mut loaded, mut raw) = (Loaded::default(), 0);
    let mut last: Option<(u8, u64, Vec<u8>)> = None;
    while blocks.next()? {
        let (block, mut at) = (&blocks.block, blocks.block.start());
        let code = block.section().code();
        while let Some(row) = block.row(at) {
            if last.as_ref().is_some_and(|(section, hash, key)| (*section, *hash, &key[..]) >= (code, row.hash, row.key)) {
                return Err(damaged(format!("row {} is out of order", loaded.rows)));
            }
            let (section, hash, key) = last.get_or_insert_default();
            (*section, *hash) = (code, row.hash);
            key.clear();
            key.extend_from_slice(row.key);
            loaded.rows += 1;
            block.step(&mut at);
        }
        raw += blocks.raw;
    }
    if raw != object.raw {
        return Err(damaged(format!("its manifest says {} bytes before compression, and it has {raw}", object.raw)));
    }
    Ok(Loaded { bytes: blocks.bytes, ..loaded })
}

/// Shards, by number.
#[derive(Clone)]
pub(crate) struct Wanted([bool; SHARDS as usize]);

impl Wanted {
    #[inline]
    pub(crate) fn has(&self, hash: u64) -> bool {
        self.0[shard(hash) as usize]
    }

    fn of(&self, block: &Placed) -> &[bool] {
        let (first, last) = (shard(block.packed.first) as usize, shard(block.packed.last) as usize);
        // An index in whose blocks hashes go back is none that we wrote, and the block itself will say so.
        if first <= last { &self.0[first..=last] } else { &self.0 }
    }
}

/// Objects in the order in which their rows count, each once with the shards for which it does; without those that have none.
pub(crate) fn in_order(all: &[Object], shards: impl Fn(u64) -> bool) -> Vec<(&Object, Wanted)> {
    let mut sorted: Vec<&Object> = all.iter().collect();
    sorted.sort_by_key(|object| (object.through, &object.key));
    let mut out = Vec::new();
    for entries in sorted.chunk_by(|a, b| (a.through, &a.key) == (b.through, &b.key)) {
        let mut wanted = Wanted([false; SHARDS as usize]);
        for (number, wanted) in (0..).zip(&mut wanted.0) {
            *wanted = entries.iter().any(|entry| entry.group.owns(number)) && shards(number);
        }
        if wanted.0.contains(&true) {
            out.push((entries[0], wanted));
        }
    }
    out
}

/// The wanted blocks of an object, one after the other.
pub(crate) struct Blocks<'a> {
    objects: &'a dyn Objects,
    object: &'a Object,
    /// With whether all of its shards are wanted; in reverse.
    left: Vec<(Placed, bool)>,
    /// Bytes to read at once, where wanted blocks lie side by side.
    ahead: u64,
    read: Bytes,
    read_from: u64,
    pub(crate) block: Block,
    /// Whether all shards of the block are wanted.
    pub(crate) every: bool,
    /// Bytes of the block before compression.
    pub(crate) raw: u64,
    /// Bytes read so far.
    pub(crate) bytes: u64,
}

impl<'a> Blocks<'a> {
    pub(crate) fn open(
        objects: &'a dyn Objects,
        object: &'a Object,
        sections: impl Fn(Section) -> bool,
        wanted: &Wanted,
        ahead: u64,
    ) -> Result<Self, CheckpointError> {
        let (all, bytes) = read_index(objects, object)?;
        let mut left = Vec::new();
        for block in all {
            let shards = wanted.of(&block);
            if sections(block.packed.section) && shards.contains(&true) {
                let every = !shards.contains(&false);
                left.push((block, every));
            }
        }
        left.reverse();
        let read = Bytes::new();
        Ok(Blocks { objects, object, left, ahead, read, read_from: 0, block: Block::new(), every: false, raw: 0, bytes })
    }

    /// Moves to the next block; whether there is one.
    pub(crate) fn next(&mut self) -> Result<bool, CheckpointError> {
        let Some((placed, every)) = self.left.pop() else {
            // What was the last block is none any more.
            self.block.clear();
            self.read = Bytes::new();
            return Ok(false);
        };
        let end = placed.offset + placed.length;
        if placed.offset < self.read_from || end > self.read_from + self.read.len() as u64 {
            self.read_ahead(&placed)?;
        }
        let bytes = &self.read[(placed.offset - self.read_from) as usize..(end - self.read_from) as usize];
        if xxh3_64(bytes) != placed.checksum {
            return Err(self.damaged(&placed, "does not have its checksum"));
        }
        if self.block.read(&placed.packed, bytes).is_none() {
            return Err(self.damaged(&placed, "is not what the index says"));
        }
        self.every = every;
        self.raw = placed.packed.plain as u64 + 8 * placed.packed.rows as u64;
        Ok(true)
    }

    fn read_ahead(&mut self, placed: &Placed) -> Result<(), CheckpointError> {
        let mut end = placed.offset + placed.length;
        for (next, _) in self.left.iter().rev() {
            if next.offset != end || next.offset + next.length > placed.offset + self.ahead {
                break;
            }
            end += next.length;
        }
        // The last read goes before the next comes.
        self.read = Bytes::new();
        let key = &self.object.key;
        let read = self.objects.get_range(key, placed.offset..end)?;
        self.read = read.ok_or_else(|| CheckpointError::Missing { place: self.objects.place(key) })?;
        self.read_from = placed.offset;
        self.bytes += self.read.len() as u64;
        if (self.read.len() as u64) < placed.length {
            return Err(self.damaged(placed, "is cut off"));
        }
        Ok(())
    }

    fn damaged(&self, placed: &Placed, what: &str) -> CheckpointError {
        let (first, last) = (shard(placed.packed.first), shard(placed.packed.last));
        let (section, offset, length) = (placed.packed.section.name(), placed.offset, placed.length);
        let what = format!("the block at byte {offset} of length {length} ({section}, shards {first} to {last}) {what}");
        CheckpointError::Damaged { place: self.objects.place(&self.object.key), what }
    }
}
