//! Blocks: some rows of one section, by column, compressed.
//!
//! ```text
//! hash - hash before (as is: nothing compresses them) │ zstd( lengths of keys │ lengths of values │ keys │ values )
//! ```
//!
//! Like lies with like, which is what the fastest levels of zstd need to find anything. Rows are in the order of (hash, key), so
//! that shards are ranges, and merging is reading along. A block ends where its section or, if it has enough rows by then, its shard
//! ends: an object of millions of rows has blocks of one shard each, and whoever wants some shards reads only those. Rows of one hash
//! are in one block.
//!
//! Absent on purpose: checksums and places, which are in the [index](crate::file).

use storeflow_dataflows::key::SHARDS;
use storeflow_dataflows::state::{Section, StateRow};
use zstd::bulk::{Compressor, Decompressor};

use crate::column;
use crate::sizes::{BLOCK_BYTES_MOST, BLOCK_ROWS_ENOUGH, BLOCK_ROWS_MOST};

/// One of zstd's fast levels: of those that cost about the same, the one that leaves the least. (Rows of 77 bytes, as payments have,
/// become 60 at -20, 40 at -5, 32 at -3 and 30 at -1; writing one costs 120, 160, 170 and 200 ns.)
const LEVEL: i32 = -3;

/// The shard of a hash.
pub(crate) fn shard(hash: u64) -> u64 {
    const { assert!(SHARDS == 1 << 10) };
    hash >> 54
}

/// Rows on their way into a block.
pub(crate) struct Packing {
    section: Section,
    first: u64,
    last: u64,
    /// Hash of each row less that of the row before; of the first row 0.
    steps: Vec<u64>,
    key_lengths: Vec<u64>,
    value_lengths: Vec<u64>,
    keys: Vec<u8>,
    values: Vec<u8>,
    plain: Vec<u8>,
    compressed: Vec<u8>,
    compressor: Compressor<'static>,
}

/// What there is to know about a block that was packed.
pub(crate) struct Packed {
    pub(crate) section: Section,
    pub(crate) rows: usize,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Bytes of the compressed part before it was.
    pub(crate) plain: usize,
}

impl Packing {
    pub(crate) fn new() -> Self {
        Packing {
            section: Section::Late,
            first: 0,
            last: 0,
            steps: Vec::new(),
            key_lengths: Vec::new(),
            value_lengths: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
            plain: Vec::new(),
            compressed: Vec::new(),
            compressor: Compressor::new(LEVEL).expect("it is a level of zstd"),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether the block has to end before this row.
    #[inline]
    pub(crate) fn ends_before(&self, section: Section, hash: u64) -> bool {
        if section != self.section {
            return true;
        }
        let rows = self.steps.len();
        let full = rows >= BLOCK_ROWS_MOST || self.keys.len() + self.values.len() >= BLOCK_BYTES_MOST;
        let ends_shard = rows >= BLOCK_ROWS_ENOUGH && shard(hash) != shard(self.last);
        (full || ends_shard) && hash != self.last
    }

    /// Adds a row; the first one says the section.
    #[inline]
    pub(crate) fn push(&mut self, section: Section, row: StateRow<'_>) {
        if self.is_empty() {
            self.section = section;
            self.first = row.hash;
            self.last = row.hash;
        }
        self.steps.push(row.hash - self.last);
        self.last = row.hash;
        self.key_lengths.push(row.key.len() as u64);
        self.value_lengths.push(row.value.len() as u64);
        self.keys.extend_from_slice(row.key);
        self.values.extend_from_slice(row.value);
    }

    /// Appends the block to `out`, and begins the next.
    pub(crate) fn pack(&mut self, out: &mut Vec<u8>) -> Packed {
        column::push(out, &self.steps);
        self.plain.clear();
        column::push(&mut self.plain, &self.key_lengths);
        column::push(&mut self.plain, &self.value_lengths);
        self.plain.extend_from_slice(&self.keys);
        self.plain.extend_from_slice(&self.values);
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(self.plain.len()));
        self.compressor.compress_to_buffer(&self.plain, &mut self.compressed).expect("there is room for the worst case");
        out.extend_from_slice(&self.compressed);
        let packed =
            Packed { section: self.section, rows: self.steps.len(), first: self.first, last: self.last, plain: self.plain.len() };
        self.steps.clear();
        self.key_lengths.clear();
        self.value_lengths.clear();
        self.keys.clear();
        self.values.clear();
        packed
    }
}

/// A block in memory. Its buffers serve one block after the other.
pub(crate) struct Block {
    section: Section,
    hashes: Vec<u64>,
    key_lengths: Vec<u64>,
    value_lengths: Vec<u64>,
    /// Columns of lengths, keys, values.
    plain: Vec<u8>,
    keys: usize,
    values: usize,
    decompressor: Decompressor<'static>,
}

/// Where in a block one is.
#[derive(Clone, Copy, Default)]
pub(crate) struct At {
    row: usize,
    key: usize,
    value: usize,
}

impl Block {
    pub(crate) fn new() -> Self {
        Block {
            section: Section::Late,
            hashes: Vec::new(),
            key_lengths: Vec::new(),
            value_lengths: Vec::new(),
            plain: Vec::new(),
            keys: 0,
            values: 0,
            decompressor: Decompressor::new().expect("zstd takes some memory"),
        }
    }

    /// Takes in the bytes of a block of which this is known; `None` if they are not that block.
    pub(crate) fn read(&mut self, known: &Packed, mut bytes: &[u8]) -> Option<()> {
        self.section = known.section;
        column::take(&mut bytes, known.rows, &mut self.hashes)?;
        let mut hash = known.first;
        for step in &mut self.hashes {
            hash = hash.checked_add(*step)?;
            *step = hash;
        }
        self.plain.clear();
        self.plain.reserve(known.plain);
        let found = self.decompressor.decompress_to_buffer(bytes, &mut self.plain).ok()?;
        let mut rest = &self.plain[..];
        column::take(&mut rest, known.rows, &mut self.key_lengths)?;
        column::take(&mut rest, known.rows, &mut self.value_lengths)?;
        let total = |lengths: &[u64]| lengths.iter().try_fold(0, |sum: u64, &length| sum.checked_add(length));
        let (keys, values) = (total(&self.key_lengths)?, total(&self.value_lengths)?);
        self.keys = found - rest.len();
        self.values = self.keys + usize::try_from(keys).ok()?;
        let whole = found == known.plain && keys.checked_add(values)? == rest.len() as u64 && hash == known.last;
        whole.then_some(())
    }

    pub(crate) fn section(&self) -> Section {
        self.section
    }

    /// Forgets its rows.
    pub(crate) fn clear(&mut self) {
        self.hashes.clear();
    }

    /// Where its first row is.
    pub(crate) fn start(&self) -> At {
        At { row: 0, key: self.keys, value: self.values }
    }

    /// The hash some rows on, or of the last row; `None` at the end.
    pub(crate) fn hash_ahead(&self, at: At, rows: usize) -> Option<u64> {
        let left = self.hashes.get(at.row..)?;
        left.get(rows).or(left.last()).copied()
    }

    /// Moves to the next row.
    #[inline]
    pub(crate) fn step(&self, at: &mut At) {
        at.key += self.key_lengths[at.row] as usize;
        at.value += self.value_lengths[at.row] as usize;
        at.row += 1;
    }

    /// The row there, if it is not the end.
    #[inline]
    pub(crate) fn row(&self, at: At) -> Option<StateRow<'_>> {
        let hash = *self.hashes.get(at.row)?;
        let key = &self.plain[at.key..at.key + self.key_lengths[at.row] as usize];
        let value = &self.plain[at.value..at.value + self.value_lengths[at.row] as usize];
        Some(StateRow { hash, key, value })
    }
}
