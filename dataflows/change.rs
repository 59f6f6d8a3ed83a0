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

/// The incarnation of rows that a dead letter without a version has left: their position is the stamp that it had then.
const REPLAYED: u64 = u64::from_le_bytes(*b"replayed");

impl Version {
    /// What a row is known by that a dead letter without a version has left, which had this stamp.
    pub fn replayed(since: u64) -> Version {
        Version { incarnation: REPLAYED, server: 0, position: Position(0, since, 0) }
    }

    /// The stamp of the dead letter that has left the row, if one without a version did.
    pub fn replayed_since(&self) -> Option<u64> {
        (self.incarnation == REPLAYED).then_some(self.position.1)
    }

    /// Whether the order of `self` and `stored` is known: they are of one incarnation, and no other server's.
    pub fn comparable(&self, stored: &Version) -> bool {
        self.incarnation == stored.incarnation && (self.server == stored.server || self.server == 0 || stored.server == 0)
    }

    /// Whether `self` is strictly older than `stored` in the same incarnation.
    pub fn stale_against(&self, stored: &Version) -> bool {
        self.comparable(stored) && self.position < stored.position
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

/// Bits for the parts of a row. What a source does not have (a product, a time, conditions beyond its own) every change of it says.
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
    /// that is the least of a shard; every shard gets one, whoever owns it.
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
    /// By the place in the log at which a snapshot read the row: transactions that were under way then have lower positions and come
    /// later, so it does not become the row's version.
    Read(Version),
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
    pub against: Against,
    /// What it does.
    pub what: What,
}

/// A [`Guard`], and whether its change is fresh, in 32 bytes: changes are many, and travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Against {
    /// Of a version; or the stamp of a dead letter.
    incarnation: u64,
    position: Position,
    server: u32,
    kind: Kind,
    fresh: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    None,
    Version,
    Read,
    Since,
}

impl Against {
    /// `fresh`: the message's own time is later than that of all before it in its partition.
    #[inline]
    pub fn new(guard: Guard, fresh: bool) -> Against {
        let (kind, Version { incarnation, server, position }) = match guard {
            Guard::None => (Kind::None, Version { incarnation: 0, server: 0, position: Position::default() }),
            Guard::Version(version) => (Kind::Version, version),
            Guard::Read(version) => (Kind::Read, version),
            Guard::Since(since) => (Kind::Since, Version { incarnation: since, server: 0, position: Position::default() }),
        };
        Against { incarnation, position, server, kind, fresh }
    }

    /// The guard.
    #[inline]
    pub fn guard(&self) -> Guard {
        let Against { incarnation, position, server, kind, .. } = *self;
        match kind {
            Kind::None => Guard::None,
            Kind::Version => Guard::Version(Version { incarnation, server, position }),
            Kind::Read => Guard::Read(Version { incarnation, server, position }),
            Kind::Since => Guard::Since(incarnation),
        }
    }

    /// Whether its change is fresh.
    pub fn fresh(&self) -> bool {
        self.fresh
    }
}

impl From<Guard> for Against {
    /// Of a change that is not fresh.
    fn from(guard: Guard) -> Against {
        Against::new(guard, false)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_takes_224_bytes_and_keeps_its_guard() {
        assert_eq!(size_of::<Change>(), 224);
        let version = Version { incarnation: 1, server: 2, position: Position(3, 4, 5) };
        for guard in [Guard::None, Guard::Version(version), Guard::Read(version), Guard::Since(7)] {
            for fresh in [false, true] {
                let against = Against::new(guard, fresh);
                assert_eq!((against.guard(), against.fresh()), (guard, fresh));
            }
        }
    }
}
