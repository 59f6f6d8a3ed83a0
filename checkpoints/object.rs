//! One object of changed state, as manifests name it.

use serde::{Deserialize, Serialize};

/// An object of state.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Where it is.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// xxh3 of its index, hexadecimal: covers every block by its own checksum.
    pub checksum: String,
    /// As-of up to which it holds what changed, in milliseconds.
    pub through: u64,
    /// Whose shards.
    pub group: Group,
    /// Rows in it.
    pub rows: u64,
    /// Bytes before compression.
    pub raw: u64,
}

/// The shards of worker `index` of `of`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Which worker.
    pub index: usize,
    /// Of so many.
    pub of: usize,
}
