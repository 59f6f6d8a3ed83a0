//! What a CDC record says happened to one row.

use serde::{Deserialize, Serialize};

use crate::key::{Key, Text};
use crate::table::Window;

/// Where the source database stood when it made the change. Comparable within one incarnation only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Stable hash of what names the incarnation (server and binlog base name; PostgreSQL database).
    pub incarnation: u64,
    /// The server's id; 0 matches any (snapshots name none).
    pub server: u32,
    /// Order within the incarnation.
    pub position: Position,
}

/// A position of a source database: binlog file, position, row; or (0, LSN, 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position(pub u32, pub u64, pub u32);

impl Version {
    /// Whether `self` is strictly older than `stored` in the same incarnation.
    pub fn stale_against(&self, stored: &Version) -> bool {
        self.incarnation == stored.incarnation
            && (self.server == stored.server || self.server == 0 || stored.server == 0)
            && self.position < stored.position
    }
}

/// A row, projected to what the tables need.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Row {
    /// The cell it contributes to, apart from the window: store and second part. Of a row that refers to another table's, the key
    /// of that row in the place of the store.
    pub cell: Key,
    /// Its product where distinct ones are kept; empty for none.
    pub member: Text,
    /// The window of its event time; [`NO_WINDOW`](crate::table::NO_WINDOW), or [`ELSEWHERE`](crate::table::ELSEWHERE).
    pub window: Window,
    /// What it adds to the sum.
    pub amount: i128,
    /// What keeps it from counting, as bits of [`says`]: conditions of `counts_when` that do not hold, and fields that are not known.
    /// A row that does not count is still the key's latest.
    pub lacks: u32,
}

impl Row {
    /// Whether it counts.
    pub fn counts(&self) -> bool {
        self.lacks == 0
    }
}

/// Bits for the parts of a row.
pub mod says {
    /// Conditions of `counts_when`, from bit 0 on in the order of their fields' paths.
    pub const CONDITIONS: u32 = 0xffff;
    /// The store, or the key of the row that it refers to.
    pub const STORE: u32 = 1 << 16;
    /// The second part: a currency.
    pub const SECOND: u32 = 1 << 17;
    /// The product.
    pub const MEMBER: u32 = 1 << 18;
    /// The event time.
    pub const WINDOW: u32 = 1 << 19;
    /// The amount or quantity.
    pub const AMOUNT: u32 = 1 << 20;
    /// All of it.
    pub const ALL: u32 = CONDITIONS | STORE | SECOND | MEMBER | WINDOW | AMOUNT;
}

/// What a change does to its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum What {
    /// There is no row any more.
    Delete,
    /// This is the row now.
    Row(Row),
    /// This is what is said of the row; the bits of [`says`] that are set say which parts. The rest is as stored.
    Patch(Row, u32),
    /// Not of one key: all rows of the key space are deleted. The change's key is the beginning of their keys' texts, and a hash
    /// that routes it to a worker; every worker gets one.
    Truncate,
}

/// By what a change is found to be older than what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guard {
    /// By nothing: the log's order is all there is.
    #[default]
    None,
    /// By its source version.
    Version(Version),
    /// By the stamp it had when it was a dead letter; see `docs/semantics.md`.
    Since(u64),
}

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Key space and primary key.
    pub key: Key,
    /// Stamp, partition and position: the order in which changes of a key apply.
    pub order: Order,
    /// What it is held against the stored row by.
    pub guard: Guard,
    /// Its message's own time is later than that of all before it in its partition.
    pub fresh: bool,
    /// What it does.
    pub what: What,
}

/// Where and when a record stands: a total order that no cutting into ticks or workers changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Order {
    /// The record's stamp, milliseconds.
    pub stamp: u64,
    /// Index of its partition in the job's sorted list of (topic, partition).
    pub partition: u32,
    /// Its position within the partition.
    pub position: u64,
    /// Which of the record's changes it is.
    pub part: u32,
}
