//! The connector's two threads: one serves librdkafka's callbacks and reads heartbeats, one asks the brokers.
//!
//! ```text
//! events ── every 100 ms or sooner: callbacks, statistics, heartbeats
//! watch ─── every second: where do the open partitions end? does the log still hold our positions?
//!           every `discover_every`: new partitions, new topics, deleted topics
//! ```
//!
//! Upholds: (1) the wall time of an answer is taken before its question is asked; (2) an unanswered question proves
//! nothing and moves nothing; it is asked again.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::Message;
use rdkafka::Offset;

use super::context::lock;
use super::queries::{Place, says_gone};
use super::{KafkaError, Listed, Shared};
use crate::source::envelope::valid_timestamp;

/// Between two questions where partitions end: the freshness of a quiet partition's clock.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long the events thread waits for an event, and so for the end.
const EVENTS_WAIT: Duration = Duration::from_millis(100);
/// How long it serves the client that asks, each time; there is hardly anything to serve.
const CONTROL_EVENTS_WAIT: Duration = Duration::from_millis(2);
/// Answers in a row that must agree before a log counts as cut off, or a topic as gone: after a change of leaders the
/// first answers may be old.
const AGREEING_ANSWERS: u32 = 3;
/// Between two looks at the topics while one seems to be gone.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Wall time, milliseconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Serves callbacks until the source closes.
pub(super) fn serve_events(shared: &Shared) {
    while !shared.closing.load(Ordering::Acquire) {
        shared.control.serve(CONTROL_EVENTS_WAIT);
        let data = shared.data.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(Arc::clone);
        let Some(data) = data else {
            thread::park_timeout(EVENTS_WAIT);
            continue;
        };
        match data.poll(EVENTS_WAIT) {
            Some(Ok(message)) => {
                if let Some(timestamp) = message.timestamp().to_millis().and_then(|at| valid_timestamp(i128::from(at))) {
                    shared.heartbeats.beat(message.topic(), timestamp);
                }
            }
            Some(Err(error)) => tracing::debug!(%error, "librdkafka reported"),
            None => {}
        }
    }
}

/// Asks until the source closes.
pub(super) fn watch(shared: &Shared) {
    let mut watch = Watch { shared, behind: BTreeMap::new(), missing: BTreeMap::new(), asking_fails: false };
    let mut look_at = Instant::now() + shared.settings.discover_every;
    while !shared.closing.load(Ordering::Acquire) {
        let mut suspicious = watch.ask_ends();
        watch.look_for_lost();
        if Instant::now() >= look_at || suspicious {
            suspicious = watch.look_at_topics();
            let wait = if suspicious { LOOK_AGAIN } else { shared.settings.discover_every };
            look_at = Instant::now() + wait;
        }
        thread::park_timeout(ASK_EVERY);
    }
}

struct Watch<'a> {
    shared: &'a Shared,
    /// Partitions whose log ends before our position, with the number of answers that said so.
    behind: BTreeMap<Place, u32>,
    /// Topics that are not listed, likewise.
    missing: BTreeMap<String, u32>,
    asking_fails: bool,
}

impl Watch<'_> {
    /// Asks where the open partitions end; true if one of them seems to be gone.
    fn ask_ends(&mut self) -> bool {
        let open = self.shared.partitions.all();
        let places: Vec<Place> = open.iter().map(|state| (state.topic.clone(), state.partition)).collect();
        let heartbeats = self.shared.heartbeats.newest();
        let reached: Vec<u64> = open.iter().map(|state| state.reached()).collect();
        let at = now();
        let ends = match self.shared.control.offsets(&places, Offset::End) {
            Ok(ends) => ends,
            Err(error) => {
                if !std::mem::replace(&mut self.asking_fails, true) {
                    tracing::warn!(error = %chain(&error), "quiet partitions hold the frontier until brokers answer again");
                }
                return says_gone(&error);
            }
        };
        if std::mem::replace(&mut self.asking_fails, false) {
            tracing::info!("brokers answer again");
        }
        for (state, (end, reached)) in open.iter().zip(ends.into_iter().zip(reached)) {
            let Some(end) = end else { continue };
            let heartbeat = state.heartbeats_of.as_ref().and_then(|prefix| heartbeats.get(prefix).copied());
            state.note_answer(end, at, heartbeat);
            let place = (state.topic.clone(), state.partition);
            // What was reached before the question was asked; since then more may have come.
            if end >= reached {
                self.behind.remove(&place);
                continue;
            }
            let answers = self.behind.entry(place.clone()).or_insert(0);
            *answers += 1;
            if *answers >= AGREEING_ANSWERS {
                self.report_cut_off(place, reached);
            }
        }
        false
    }

    fn report_cut_off(&self, (topic, partition): Place, position: u64) {
        let range = self.shared.control.ranges(&[(topic.clone(), partition)]);
        let Some(&(low, high)) = range.as_ref().ok().and_then(|ranges| ranges.first()) else { return };
        if high < position {
            self.shared.failure.set(KafkaError::Recreated { topic, partition, position, low, high });
        }
    }

    /// Finds out what the log holds of partitions whose position it does not.
    fn look_for_lost(&self) {
        for state in self.shared.partitions.all().into_iter().filter(|state| state.take_lost()) {
            let (topic, partition, wanted) = (state.topic.clone(), state.partition, state.position());
            match self.shared.control.ranges(&[(topic.clone(), partition)]).as_deref() {
                Ok(&[(low, high), ..]) => {
                    self.shared.failure.set(KafkaError::OutsideLog { topic, partition, wanted, low, high });
                }
                // Nobody answers: the partition stands still until somebody does.
                _ => state.lose(),
            }
        }
    }

    /// Looks for new and deleted topics; true if one seems to be gone.
    fn look_at_topics(&mut self) -> bool {
        let Ok(topics) = self.shared.control.topics() else { return false };
        let mut highest: BTreeMap<String, u32> = BTreeMap::new();
        for state in self.shared.partitions.all() {
            let partition = highest.entry(state.topic.clone()).or_insert(0);
            *partition = state.partition.max(*partition);
        }
        for (topic, highest) in highest {
            if topics.get(&topic).is_some_and(|partitions| highest < *partitions) {
                self.missing.remove(&topic);
                continue;
            }
            let answers = self.missing.entry(topic.clone()).or_insert(0);
            *answers += 1;
            if *answers >= AGREEING_ANSWERS {
                self.shared.failure.set(KafkaError::Deleted { topic });
            }
        }
        if let Err(error) = self.shared.read_heartbeats(&topics) {
            tracing::warn!(error = %chain(&error), "could not read heartbeats; trying again");
        }
        if !self.shared.settings.until_end
            && let Err(error) = self.discover(&topics)
        {
            tracing::warn!(error = %chain(&error), "could not look for new partitions; trying again");
        }
        !self.missing.is_empty()
    }

    fn discover(&self, topics: &BTreeMap<String, u32>) -> Result<(), KafkaError> {
        let fresh: Vec<Place> = {
            let known = lock(&self.shared.known);
            self.shared.wanted(topics).into_iter().filter(|place| !known.contains(place)).collect()
        };
        let ranges = self.shared.control.ranges(&fresh)?;
        for (place, (low, high)) in fresh.into_iter().zip(ranges) {
            lock(&self.shared.known).insert(place.clone());
            let (topic, partition) = place;
            tracing::info!(topic, partition, low, high, "new partition");
            lock(&self.shared.discovered).push(Listed { topic, partition, low, high, start: low });
        }
        Ok(())
    }
}

/// An error with its causes, for a log line.
fn chain(error: &KafkaError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
