//! Debezium's heartbeat topics: proof that a connector lives, for sources with `idle = "heartbeat"`.
//!
//! A connector whose topics begin with `mall.` writes heartbeats to `__debezium-heartbeat.mall`. One that was read before a
//! question was asked says that all changes before it are in the log by then.
//! Keeps: the newest heartbeat of each prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use super::context::lock;

const TOPIC_BEFORE_PREFIX: &str = "__debezium-heartbeat.";

/// The prefix of a topic's connector: its name up to the first dot.
pub(super) fn prefix_of(topic: &str) -> &str {
    topic.split_once('.').map_or(topic, |(prefix, _)| prefix)
}

/// The heartbeat topic of a prefix.
pub(super) fn topic_of(prefix: &str) -> String {
    format!("{TOPIC_BEFORE_PREFIX}{prefix}")
}

/// Heartbeats by prefix.
#[derive(Default)]
pub(super) struct Heartbeats {
    newest: Mutex<BTreeMap<String, u64>>,
    /// Heartbeat partitions being read.
    pub(super) open: Mutex<BTreeSet<(String, u32)>>,
}

impl Heartbeats {
    /// Notes a heartbeat.
    pub(super) fn beat(&self, topic: &str, timestamp: u64) {
        if let Some(prefix) = topic.strip_prefix(TOPIC_BEFORE_PREFIX) {
            let mut newest = lock(&self.newest);
            let known = newest.entry(prefix.to_owned()).or_insert(timestamp);
            *known = timestamp.max(*known);
        }
    }

    /// The newest of every prefix.
    pub(super) fn newest(&self) -> BTreeMap<String, u64> {
        lock(&self.newest).clone()
    }
}
