//! What a process says of its run, for readers that are elsewhere: a digest of its metrics.
//!
//! ```text
//! Registry ─ sample ─► ProcessStatus ─ JSON ─► `sf:<job>:<gen>:status` in Redis ─► `GET /v1/status`
//!                            └──────────── in one process ───────────────────────────┘
//! ```
//!
//! Upholds: whatever is in it is in the metrics as well, so that the two never disagree; instants, not ages, so that it can be read later.
//! Absent on purpose: anything per partition; topics have their worst.

use serde::{Deserialize, Serialize};

use super::metrics::{self, Metric, Sample};

/// A process of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Its index.
    pub process: usize,
    /// How many there are.
    pub processes: usize,
    /// When it said so: wall time, milliseconds.
    pub reported: u64,
    /// It said so at its end, having read all there was or been told to stop.
    pub ended: bool,
    /// It has ended because it had read all there was, not because it was told to stop.
    #[serde(default)]
    pub finished: bool,
    /// The frontier, milliseconds of log time, if it is known.
    pub frontier: Option<u64>,
    /// When its last checkpoint was committed (wall time, milliseconds), and how many were; the leader's process knows.
    pub checkpoint: Option<u64>,
    /// See `checkpoint`.
    pub checkpoints: u64,
    /// What it reads.
    pub topics: Vec<TopicStatus>,
    /// Records that could not be decoded, by reason.
    pub dead_letters: Vec<(String, u64)>,
    /// Contributions to expired windows.
    pub late_contributions: u64,
    /// Contributions to closed windows.
    pub corrections: u64,
    /// Changes older than the stored row.
    pub stale_changes: u64,
}

/// A topic, as far as a process reads it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TopicStatus {
    /// Its name.
    pub topic: String,
    /// The least log clock of its partitions, milliseconds.
    pub clock: Option<u64>,
    /// Records between what was read and the ends of its partitions, where there is a log.
    pub lag_records: Option<u64>,
    /// Records read.
    pub records: u64,
    /// Dead letters among them.
    pub dead_letters: u64,
}

impl ProcessStatus {
    /// What a sample of a process's metrics says.
    pub fn of(process: usize, processes: usize, sample: &Sample) -> ProcessStatus {
        let sum = |metric: &Metric| sample.labelled(metric).map(|(_, value)| value).sum::<f64>() as u64;
        let since = |metric: &Metric| sample.value(metric, &[]).map(|age| instant(sample, age));
        let mut status = ProcessStatus {
            process,
            processes,
            reported: sample.now(),
            frontier: since(&metrics::FRONTIER_AGE),
            checkpoint: since(&metrics::CHECKPOINT_AGE),
            checkpoints: sum(&metrics::CHECKPOINTS),
            late_contributions: sum(&metrics::LATE),
            corrections: sum(&metrics::CORRECTIONS),
            stale_changes: sum(&metrics::STALE),
            ..ProcessStatus::default()
        };
        status.dead_letters =
            sample.labelled(&metrics::DEAD_LETTERS).map(|(labels, count)| (labels[0].clone(), count as u64)).collect();
        status.topics = sample
            .labelled(&metrics::TOPIC_RECORDS)
            .map(|(labels, records)| {
                let topic = &labels[0];
                let of_topic = |metric: &'static Metric| {
                    sample.labelled(metric).filter(|(labels, _)| labels[0] == *topic).map(|(_, value)| value)
                };
                TopicStatus {
                    topic: topic.clone(),
                    clock: of_topic(&metrics::PARTITION_AGE).reduce(f64::max).map(|age| instant(sample, age)),
                    lag_records: of_topic(&metrics::PARTITION_LAG).reduce(|sum, lag| sum + lag).map(|lag| lag as u64),
                    records: records as u64,
                    dead_letters: of_topic(&metrics::TOPIC_DEAD_LETTERS).sum::<f64>() as u64,
                }
            })
            .collect();
        status
    }
}

/// The instant of something of an age in seconds.
fn instant(sample: &Sample, age: f64) -> u64 {
    (sample.now() as f64 - age * 1_000.0).round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_summed_up_by_topic() {
        let mut sample = Sample::new(100_000);
        sample.age(&metrics::FRONTIER_AGE, &[], 98_999);
        for (partition, clock, lag) in [("0", 90_000, 4), ("1", 95_000, 3)] {
            sample.count(&metrics::TOPIC_RECORDS, &["a"], 10);
            sample.age(&metrics::PARTITION_AGE, &["a", partition], clock);
            sample.count(&metrics::PARTITION_LAG, &["a", partition], lag);
        }
        sample.count(&metrics::TOPIC_RECORDS, &["b"], 1);
        sample.count(&metrics::TOPIC_DEAD_LETTERS, &["b"], 1);
        sample.count(&metrics::DEAD_LETTERS, &["bad_time"], 1);
        let status = ProcessStatus::of(1, 2, &sample);
        assert_eq!((status.reported, status.frontier, status.checkpoint), (100_000, Some(98_999), None));
        assert_eq!(status.dead_letters, [("bad_time".to_owned(), 1)]);
        let topic = |topic: &str, clock, lag_records, records, dead_letters| TopicStatus {
            topic: topic.to_owned(),
            clock,
            lag_records,
            records,
            dead_letters,
        };
        assert_eq!(status.topics, [topic("a", Some(90_000), Some(7), 20, 0), topic("b", None, None, 1, 1)]);
        let text = serde_json::to_string(&status).expect("JSON");
        assert_eq!(serde_json::from_str::<ProcessStatus>(&text).expect("the same"), status);
    }
}
