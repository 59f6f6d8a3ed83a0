//! When too many records of a topic are dead letters: a job that is wrong about its records stops, before it has gone on for a day.
//!
//! ```text
//! counts of partitions, looked at often ─► per topic: since the start, and over the last window of log time ─► too many
//! ```
//!
//! Upholds: fewer than [`LEAST`] records say nothing. Keeps: per topic a few marks of its counts.
//! Absent on purpose: stopping, which is the run's; other processes, each of which judges what it reads itself; and dead letters that
//! are replayed, of which many may be dead again.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use crate::observe::{WorkerStats, locked};
use crate::source::names::REPLAY;

/// Records that say something about a topic.
pub const LEAST: u64 = 1_000;
/// Marks per window of log time: how finely it slides.
const MARKS: u64 = 12;

/// More records of a topic are dead letters than are allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct TooMany {
    /// The topic.
    pub topic: String,
    /// Dead letters among them.
    pub dead: u64,
    /// Records that were judged.
    pub records: u64,
    /// The share that is allowed.
    pub allowed: f64,
    /// The most frequent reason.
    pub reason: String,
    /// Dead letters for it.
    pub of_reason: u64,
    /// Whether all since the start were judged, or those of the last window of log time.
    pub since_start: bool,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooMany { topic, dead, records, allowed, reason, of_reason, since_start } = self;
        let share = *dead as f64 * 100.0 / *records as f64;
        let span = if *since_start { "since the start" } else { "within the last window of log time" };
        write!(
            f,
            "stopped on purpose: of {records} records of topic \"{topic}\" read {span}, {dead} are dead letters ({share:.1} %), more than \
             --dead-letter-max-share {allowed} allows; the most frequent reason is \"{reason}\" ({of_reason}). What was read is kept. Look \
             at them with `storeflow dead-letters list --topic '{topic}'`, mend the job file or what writes the topic, start again, and have \
             them read again with `storeflow dead-letters replay`; see docs/dead-letters.md"
        )
    }
}

/// Watches the shares.
#[derive(Debug)]
pub struct DeadShare {
    allowed: f64,
    /// Of log time, milliseconds.
    window: u64,
    marks: BTreeMap<String, VecDeque<Counted>>,
}

/// What a topic's partitions have counted.
#[derive(Clone, Debug, Default)]
struct Counted {
    /// The latest clock among them, milliseconds.
    clock: u64,
    records: u64,
    reasons: BTreeMap<&'static str, u64>,
}

impl Counted {
    fn dead(&self) -> u64 {
        self.reasons.values().sum()
    }
}

impl DeadShare {
    /// Allows this share of a topic's records, judged over a window of log time (milliseconds) and since the start.
    pub fn new(allowed: f64, window: u64) -> DeadShare {
        DeadShare { allowed, window, marks: BTreeMap::new() }
    }

    /// Looks at the counts of this process's workers as they are now.
    pub fn look(&mut self, stats: &[Arc<WorkerStats>]) -> Option<TooMany> {
        let mut topics: BTreeMap<String, Counted> = BTreeMap::new();
        for stats in stats {
            for of in locked(&stats.partitions).iter().filter(|of| of.topic != REPLAY) {
                let counted = topics.entry(of.topic.clone()).or_default();
                // Dead letters first: a record that is counted in between makes the share smaller, never larger.
                for (reason, count) in &*locked(&of.dead_letters) {
                    *counted.reasons.entry(reason).or_default() += count;
                }
                counted.records += of.records.get();
                counted.clock = counted.clock.max(of.clock.get());
            }
        }
        topics.into_iter().find_map(|(topic, counted)| self.judge(&topic, counted))
    }

    fn judge(&mut self, topic: &str, now: Counted) -> Option<TooMany> {
        let found = self.too_many(topic, &Counted::default(), &now);
        let marks = match self.marks.get_mut(topic) {
            Some(marks) => marks,
            None => self.marks.entry(topic.to_owned()).or_default(),
        };
        // The first mark is the last one that is a window old, or the start.
        while marks.get(1).is_some_and(|mark| mark.clock.saturating_add(self.window) <= now.clock) {
            marks.pop_front();
        }
        let start = Counted::default();
        let before = marks.front().cloned().unwrap_or(start);
        if marks.back().is_none_or(|last| last.clock + self.window / MARKS <= now.clock) {
            marks.push_back(now.clone());
        }
        found.or_else(|| self.too_many(topic, &before, &now))
    }

    fn too_many(&self, topic: &str, before: &Counted, now: &Counted) -> Option<TooMany> {
        let (records, dead) = (now.records - before.records, now.dead() - before.dead());
        if records < LEAST || dead as f64 <= self.allowed * records as f64 {
            return None;
        }
        let since = |reason: &str, count: u64| count - before.reasons.get(reason).copied().unwrap_or(0);
        let each = now.reasons.iter().map(|(reason, count)| (since(reason, *count), *reason));
        let (of_reason, reason) = each.max()?;
        let (topic, reason, allowed) = (topic.to_owned(), reason.to_owned(), self.allowed);
        Some(TooMany { topic, dead, records, allowed, reason, of_reason, since_start: before.records == 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::PartitionStats;

    const WINDOW: u64 = 1_800_000;

    fn topic(name: &str, partitions: u32) -> (Arc<WorkerStats>, Vec<Arc<PartitionStats>>) {
        let stats: Arc<WorkerStats> = Arc::default();
        let all: Vec<_> = (0..partitions).map(|number| Arc::new(PartitionStats::new(name, number))).collect();
        locked(&stats.partitions).extend(all.iter().cloned());
        (stats, all)
    }

    fn read(of: &PartitionStats, clock: u64, records: u64, dead: &[(&'static str, u64)]) {
        of.clock.set(clock);
        of.records.add(records);
        for (reason, count) in dead {
            *locked(&of.dead_letters).entry(reason).or_default() += count;
        }
    }

    #[test]
    fn few_records_say_nothing_and_all_partitions_of_a_topic_count() {
        let (stats, partitions) = topic("clicks", 2);
        let stats = [stats];
        let mut share = DeadShare::new(0.05, WINDOW);
        read(&partitions[0], 1, LEAST - 1, &[("bad_id", LEAST - 1)]);
        assert_eq!(share.look(&stats), None);
        read(&partitions[1], 2, 19_000 + 1 - LEAST, &[]);
        read(&partitions[1], 2, LEAST, &[]);
        let allowed = 19_000 + LEAST - 1;
        assert!((LEAST - 1) as f64 <= 0.05 * allowed as f64);
        assert_eq!(share.look(&stats), None, "a twentieth is allowed");
        read(&partitions[1], 2, 2, &[("bad_time", 2)]);
        let found = share.look(&stats).expect("one more is too many");
        assert_eq!(
            (found.topic.as_str(), found.dead, found.reason.as_str(), found.of_reason),
            ("clicks", LEAST + 1, "bad_id", LEAST - 1)
        );
        assert!(found.since_start && found.to_string().contains("topic \"clicks\""), "{found}");
    }

    #[test]
    fn a_good_day_does_not_hide_a_bad_window() {
        let (stats, partitions) = topic("clicks", 1);
        let stats = [stats];
        let mut share = DeadShare::new(0.5, WINDOW);
        for minute in 0..1_440 {
            read(&partitions[0], minute * 60_000, 10_000, &[("bad_id", 100)]);
            assert_eq!(share.look(&stats), None, "minute {minute}");
        }
        let found = (1_440..1_470).find_map(|minute| {
            read(&partitions[0], minute * 60_000, 10_000, &[("bad_time", 10_000)]);
            share.look(&stats)
        });
        let found = found.expect("within a window");
        assert!(!found.since_start && found.reason == "bad_time" && found.records <= 33 * 10_000, "{found:?}");
        assert!(share.marks["clicks"].len() as u64 <= MARKS + 2, "no more than it needs");
    }

    #[test]
    fn what_is_replayed_is_not_judged() {
        let (stats, partitions) = topic(REPLAY, 1);
        read(&partitions[0], 1, 5_000, &[("bad_id", 5_000)]);
        assert_eq!(DeadShare::new(0.05, WINDOW).look(&[stats]), None);
    }
}
