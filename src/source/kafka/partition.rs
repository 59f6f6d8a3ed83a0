//! What is known of an open partition, shared between the worker that reads it and the connector's threads.
//!
//! ```text
//! worker ──► position ────────┐                     ┌─► caught up at w: nothing up to then is missing
//! statistics ──► end ──► reached ──► ≥ end answered ┤
//! query at w ──► answer (end, w, heartbeat) ────────┘
//! ```
//!
//! Upholds: a partition is caught up at w only if everything below an end asked for *at* w was taken by its worker.
//! A transaction's marker takes a position without being a record, so a partition's end can be beyond its last record + 1.
//! Hence *reached*: the position, or the end that librdkafka had read up to, once a queue that was looked at after
//! that was empty; librdkafka queues all records below such an end before it notes the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::context::lock;

/// The open partitions of a source.
#[derive(Clone, Default)]
pub(super) struct Partitions(Arc<RwLock<BTreeMap<String, BTreeMap<u32, Arc<PartitionState>>>>>);

impl Partitions {
    pub(super) fn get(&self, topic: &str, partition: u32) -> Option<Arc<PartitionState>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(topic)?.get(&partition).map(Arc::clone)
    }

    pub(super) fn insert(&self, state: Arc<PartitionState>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(state.topic.clone()).or_default().insert(state.partition, state);
    }

    /// All of them, by topic and number.
    pub(super) fn all(&self) -> Vec<Arc<PartitionState>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.values().flat_map(BTreeMap::values).map(Arc::clone).collect()
    }
}

/// One open partition.
pub(super) struct PartitionState {
    pub(super) topic: String,
    pub(super) partition: u32,
    /// The next position the worker takes.
    position: AtomicU64,
    /// Everything below was taken, or is no record.
    reached: AtomicU64,
    /// The end librdkafka last read up to, as of its last statistics; 0 before.
    end: AtomicU64,
    /// Bytes in the partition's queue, as of the last statistics.
    waiting_bytes: AtomicU64,
    /// The worker's queue said that the position is not in the log; somebody who may wait must look.
    lost: AtomicBool,
    /// The connector's prefix, if the topic waits for heartbeats.
    pub(super) heartbeats_of: Option<String>,
    answer: Mutex<Answer>,
}

/// What brokers answered, and what follows.
#[derive(Clone, Copy, Default)]
pub(super) struct Answer {
    /// The end of the log, and when it was asked for, milliseconds of the wall clock.
    pub(super) asked: Option<(u64, u64)>,
    /// The newest heartbeat read before asking.
    pub(super) heartbeat: Option<u64>,
    /// The latest query whose end was reached.
    pub(super) caught_up: Option<u64>,
    /// The heartbeat of that query.
    pub(super) covered_heartbeat: Option<u64>,
}

impl Answer {
    fn settle(&mut self, reached: u64) {
        if let Some((end, at)) = self.asked
            && reached >= end
        {
            self.caught_up = Some(at);
            self.covered_heartbeat = self.covered_heartbeat.max(self.heartbeat);
        }
    }
}

impl PartitionState {
    pub(super) fn new(topic: &str, partition: u32, from: u64, heartbeats_of: Option<String>) -> Self {
        PartitionState {
            topic: topic.to_owned(),
            partition,
            position: AtomicU64::new(from),
            reached: AtomicU64::new(from),
            end: AtomicU64::new(0),
            waiting_bytes: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            heartbeats_of,
            answer: Mutex::default(),
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    pub(super) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }

    /// The worker took everything below `position`. Only the worker says so.
    #[inline]
    pub(super) fn take_up_to(&self, position: u64) {
        self.position.store(position, Ordering::Release);
        self.reached.store(position, Ordering::Release);
    }

    /// The worker found its queue empty, after it had seen that librdkafka had read up to `end`.
    pub(super) fn found_empty(&self, end: u64) {
        if end > self.reached() {
            self.reached.store(end, Ordering::Release);
        }
    }

    /// The end librdkafka last read up to.
    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Notes what librdkafka's statistics say of it.
    pub(super) fn note_statistics(&self, end: Option<u64>, waiting_bytes: u64) {
        if let Some(end) = end {
            self.end.store(end, Ordering::Release);
        }
        self.waiting_bytes.store(waiting_bytes, Ordering::Relaxed);
    }

    /// Notes an end asked for at `at`, with the newest heartbeat read before.
    pub(super) fn note_answer(&self, end: u64, at: u64, heartbeat: Option<u64>) {
        let mut answer = lock(&self.answer);
        // What the former answer proves by now would be lost with it.
        answer.settle(self.reached());
        answer.asked = Some((end, at));
        answer.heartbeat = heartbeat;
        answer.settle(self.reached());
    }

    /// The last answer, and what follows from it by now.
    pub(super) fn answer(&self) -> Answer {
        let mut answer = lock(&self.answer);
        answer.settle(self.reached());
        *answer
    }

    /// The position is not in the log, as far as the worker can tell.
    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Whether that was said since it was last asked.
    pub(super) fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caught_up_only_by_an_end_that_was_asked_for() {
        let state = PartitionState::new("t", 0, 5, None);
        assert_eq!(state.answer().caught_up, None);
        state.note_answer(8, 1_000, Some(900));
        assert_eq!(state.answer().caught_up, None);
        state.take_up_to(7);
        assert_eq!((state.answer().caught_up, state.answer().covered_heartbeat), (None, None));
        state.take_up_to(8);
        assert_eq!((state.answer().caught_up, state.answer().covered_heartbeat), (Some(1_000), Some(900)));
        state.note_answer(20, 2_000, Some(1_900));
        assert_eq!((state.answer().caught_up, state.answer().covered_heartbeat), (Some(1_000), Some(900)), "the next is open");
    }

    #[test]
    fn an_answer_is_settled_before_the_next_replaces_it() {
        let state = PartitionState::new("t", 0, 0, None);
        state.note_answer(3, 1_000, None);
        state.take_up_to(3);
        state.note_answer(9, 2_000, None);
        assert_eq!(state.answer().caught_up, Some(1_000));
    }

    #[test]
    fn markers_at_the_end_are_reached_by_an_empty_queue() {
        let state = PartitionState::new("t", 0, 0, None);
        state.take_up_to(4);
        state.note_statistics(Some(5), 0);
        state.note_answer(5, 1_000, None);
        assert_eq!(state.answer().caught_up, None, "nobody looked yet");
        state.found_empty(state.end());
        assert_eq!((state.answer().caught_up, state.position(), state.reached()), (Some(1_000), 4, 5));
    }
}
