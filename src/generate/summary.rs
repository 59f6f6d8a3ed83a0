//! What was made, counted where it was published.

use super::Topic;

/// What was made, per topic in the order of [`Topic::ALL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// One entry per topic.
    pub topics: Vec<TopicSummary>,
}

/// What was made of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSummary {
    /// The topic.
    pub topic: Topic,
    /// Lines.
    pub records: u64,
    /// Bytes of all lines, before compression.
    pub bytes: u64,
    /// What the records are, and how much trouble is among them.
    pub counts: Counts,
}

/// How many of what. `snapshot + inserts + updates + deletes + tombstones + duplicates + malformed` is every record of a CDC
/// topic, `inserts + malformed` every record of the clicks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows read by the initial snapshot.
    pub snapshot: u64,
    /// Rows created, or clicks.
    pub inserts: u64,
    /// Rows changed; refunds and store moves are among them.
    pub updates: u64,
    /// Updates that refund.
    pub refunds: u64,
    /// Updates that change the store.
    pub store_moves: u64,
    /// Rows deleted.
    pub deletes: u64,
    /// Tombstones after Debezium's deletes.
    pub tombstones: u64,
    /// Records sent again.
    pub duplicates: u64,
    /// Broken copies.
    pub malformed: u64,
    /// Rows or clicks created with an event time in a closed window; the expired ones are among them.
    pub late: u64,
    /// Rows or clicks created with an event time beyond retention.
    pub expired: u64,
    /// Rows or clicks created with an event time seconds or minutes back.
    pub out_of_order: u64,
}

impl Counts {
    /// All of them with their names, for people.
    pub fn named(&self) -> [(&'static str, u64); 12] {
        [
            ("snapshot", self.snapshot),
            ("inserts", self.inserts),
            ("updates", self.updates),
            ("refunds", self.refunds),
            ("store moves", self.store_moves),
            ("deletes", self.deletes),
            ("tombstones", self.tombstones),
            ("duplicates", self.duplicates),
            ("malformed", self.malformed),
            ("late", self.late),
            ("expired", self.expired),
            ("out of order", self.out_of_order),
        ]
    }
}
