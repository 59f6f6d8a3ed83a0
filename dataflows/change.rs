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
    /// The cell it contributes to, apart from the window.
    pub cell: Key,
    /// Its product where distinct ones are kept; empty for none.
    pub member: Text,
    /// The window of its event time, or `NO_WINDOW`.
    pub window: Window,
    /// What it adds to the sum.
    pub amount: i128,
    /// Whether it counts (`counts_when`); a row that does not is still the key's latest.
    pub counts: bool,
}

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Key space and primary key.
    pub key: Key,
    /// Stamp, partition and position: the order in which changes of a key apply.
    pub order: Order,
    /// Source version, if the record has one.
    pub version: Option<Version>,
    /// The new row; `None` deletes.
    pub row: Option<Row>,
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
}
