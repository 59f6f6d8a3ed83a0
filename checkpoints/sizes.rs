//! How much is done at once. In tests of this crate everything is small, so that a few rows cross every border there is.

const fn size(usual: usize, in_tests: usize) -> usize {
    if cfg!(test) { in_tests } else { usual }
}

/// A block with this many rows has no more.
pub(crate) const BLOCK_ROWS_MOST: usize = size(64 << 10, 12);
/// A block with this many uncompressed bytes has no more: it fits the cache between processor and memory.
pub(crate) const BLOCK_BYTES_MOST: usize = size(512 << 10, 150);
/// A block with this many rows ends with its shard. Fewer are not worth a block, nor a read, of their own.
pub(crate) const BLOCK_ROWS_ENOUGH: usize = size(4 << 10, 4);

/// What is read of an object's end at first: most indexes are within it.
pub(crate) const TAIL: u64 = size(64 << 10, 256) as u64;
/// What is read at once of an object that is being loaded: a request to a far store is worth a few megabytes.
pub(crate) const LOAD_READ: u64 = size(4 << 20, 400) as u64;
/// What all inputs of a merge together read at once.
pub(crate) const MERGE_READ: u64 = size(16 << 20, 1000) as u64;
/// The least that one input of a merge reads at once.
pub(crate) const MERGE_READ_LEAST: u64 = size(256 << 10, 100) as u64;

/// Rows that are looked up before the first of them is copied.
pub(crate) const BATCH: usize = size(64, 3);
/// Rows of all inputs that are merged together, about: they stay in the cache next to the processor.
pub(crate) const BAND: usize = size(8 << 10, 8);
/// The least rows that an input looks ahead for the end of a band.
pub(crate) const BAND_LEAST: usize = size(128, 2);
