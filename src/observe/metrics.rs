//! What storeflow tells a Prometheus server, and where each number comes from.
//!
//! ```text
//! scrape ─► Registry ─► every Observed: collect(sample) ─► one sample ─► text
//!                        workers, sources, view, history …: whoever keeps the numbers registers itself
//! ```
//!
//! Upholds: numbers are read when they are asked for and never pushed, so that nothing on the hot path knows of metrics;
//! every metric is in the catalogue below, documented in `docs/metrics.md` and always served (a test holds the three
//! together); labels hold topics, partitions and reasons, never keys, ids or secrets.
//! Time comes in with the sample: ages are against one `now` per scrape.
//! Absent on purpose: histograms. Durations are sums beside counts, whose rates give means over any range.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{WorkerStats, holder_of, locked};
use crate::decode::Skipped;

/// How a metric may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only up, from the start of the process; served with `_total`.
    Counter,
    /// Up and down.
    Gauge,
}

/// One line of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name less `storeflow_` and `_total`; the unit comes last.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Its labels, in the order of the values given to [`Sample::add`].
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

impl Metric {
    /// What it is measured in, as its name says.
    pub fn unit(&self) -> Unit {
        Unit::of(self.name)
    }
}

/// What a metric is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Whatever its name counts.
    Count,
}

impl Unit {
    /// Of the metric of this name.
    pub fn of(name: &str) -> Unit {
        match name.rsplit('_').next() {
            Some("seconds") => Unit::Seconds,
            Some("bytes") => Unit::Bytes,
            _ => Unit::Count,
        }
    }
}

macro_rules! catalogue {
    ($($constant:ident: $kind:ident $name:literal $labels:expr, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Metric = Metric { name: $name, kind: Kind::$kind, labels: &$labels, help: $help };)*
        /// Every metric there is.
        pub const CATALOGUE: &[Metric] = &[$($constant),*];
    };
}

catalogue! {
    BUILD: Gauge "build_info" ["version"], "Always 1; the program's version is the label";
    READY: Gauge "ready" [], "1 once sources are read and the view is connected, as /readyz says";
    WORKER_STEP_AGE: Gauge "worker_step_age_seconds" ["worker"], "Wall time since a worker last stepped";
    WORKER_RECORDS: Counter "worker_records" ["worker"], "Records that a worker has decoded";
    TOPIC_RECORDS: Counter "topic_records" ["topic"], "Records read of a topic";
    TOPIC_BYTES: Counter "topic_bytes" ["topic"], "Bytes of keys and values read of a topic, unpacked";
    TOPIC_DEAD_LETTERS: Counter "topic_dead_letters" ["topic"], "Records of a topic that could not be decoded; over topic_records it is their share";
    PARTITION_LAG: Gauge "partition_lag_records" ["topic", "partition"], "Positions between the next record to take and the end of the partition";
    PARTITION_AGE: Gauge "partition_age_seconds" ["topic", "partition"], "Wall time less the partition's log clock";
    IN_FLIGHT: Gauge "in_flight_bytes" [], "Bytes fetched and not yet decoded";
    SCHEMAS: Gauge "schemas" [], "Avro schemas known";
    SCHEMA_WAIT: Gauge "schema_wait_seconds" ["topic", "partition", "schema"], "How long this partition has waited for this schema; only those that do are there";
    REGISTRY_FAILURES: Counter "schema_registry_failures" [], "Questions to the schema registry without an answer; each is asked again";
    DEAD_LETTERS: Counter "dead_letters" ["reason"], "Records that could not be decoded, by reason";
    SKIPPED: Counter "skipped_records" ["reason"], "Records without data for this job, by kind";
    LATE: Counter "late_contributions" ["of"], "Contributions to expired windows, of clicks and of rows; they went to late_adjustments";
    CORRECTIONS: Counter "corrections" ["of"], "Contributions to closed windows, of clicks and of rows";
    STALE: Counter "stale_changes" [], "Changes older than the stored row, which changed nothing";
    DUPLICATE_CLICKS: Counter "duplicate_clicks" [], "Clicks whose event id had been counted, which were not counted again";
    WAITING_ROWS: Gauge "waiting_rows" [], "Rows that count for nothing until the row comes that they find their store in";
    WAITING_OLDEST: Gauge "waiting_oldest_seconds" [], "Wall time since the oldest of them, with those it is summed up with, last changed";
    CLOCK_JUMPS: Counter "clock_jumps" [], "Jumps of a log clock by more than an hour that later records confirmed";
    ROWS: Gauge "latest_rows" [], "Latest rows and markers kept, groups of rows that refer to lookups, and event ids";
    ROW_BYTES: Gauge "latest_row_bytes" [], "Memory of them";
    FRONTIER_AGE: Gauge "frontier_age_seconds" [], "Wall time less the frontier";
    AS_OF_AGE: Gauge "as_of_age_seconds" [], "Wall time less the as-of that is shown";
    FRONTIER_HELD: Gauge "frontier_held_seconds" ["topic", "partition"], "How long this partition has held the frontier; only the one that does is there";
    HISTORY_FILES: Counter "history_files" [], "History and dead letter files written";
    HISTORY_ROWS: Counter "history_rows" [], "Rows in them";
    HISTORY_BYTES: Counter "history_bytes" [], "Bytes of them";
    HISTORY_SECONDS: Counter "history_write_seconds" [], "Time spent writing them";
    CHECKPOINTS: Counter "checkpoints" [], "Checkpoints committed; the leader's process knows";
    CHECKPOINT_AGE: Gauge "checkpoint_age_seconds" [], "Wall time since the last commit of this run; the leader's process knows";
    CHECKPOINT_BYTES: Counter "checkpoint_bytes" [], "Bytes of changed state written, compressed";
    CHECKPOINT_SECONDS: Counter "checkpoint_seconds" [], "Time spent writing and committing them";
    CHECKPOINT_OBJECTS: Gauge "checkpoint_objects" [], "Objects that the newest state of this process's workers is in";
    CHECKPOINT_MERGED_BYTES: Counter "checkpoint_merged_bytes" [], "Bytes that compaction has written";
    CHECKPOINT_MERGE_SECONDS: Counter "checkpoint_merge_seconds" [], "Time that compaction took";
    VIEW_CONNECTED: Gauge "view_connected" [], "1 while the view's server answers";
    VIEW_PENDING: Gauge "view_pending_changes" [], "Changes of cells that wait for the view";
    REDIS_ROUND_TRIPS: Counter "redis_round_trips" [], "Pipelines sent to Redis and answered";
    REDIS_COMMANDS: Counter "redis_commands" [], "Commands in them";
    REDIS_BYTES: Counter "redis_bytes" [], "Bytes of them";
    REDIS_SECONDS: Counter "redis_seconds" [], "Time spent in them";
    REDIS_RECONNECTS: Counter "redis_reconnects" [], "Connections to Redis made again";
    REDIS_RECONCILIATIONS: Counter "redis_reconciliations" [], "Buckets of the view that were written anew in full";
    HTTP_REQUESTS: Counter "http_requests" ["route", "status"], "Requests to the query API, answered; status 429 is those that a limit refused";
    HTTP_REQUEST_SECONDS: Counter "http_request_seconds" ["route"], "Time spent answering them, until the answer begins";
    HTTP_IN_FLIGHT: Gauge "http_in_flight" [], "Requests that are being answered";
    HTTP_STREAMS: Gauge "http_streams" [], "Streams of events that go on";
}

/// Whoever keeps numbers that are worth a metric.
pub trait Observed: Send + Sync {
    /// Adds the numbers as they are now. Must not wait: it reads what is there.
    fn collect(&self, sample: &mut Sample);
}

/// The numbers of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    now: u64,
    values: BTreeMap<&'static str, BTreeMap<Vec<String>, f64>>,
}

impl Sample {
    /// An empty one, taken at `now` (wall time, milliseconds).
    pub fn new(now: u64) -> Sample {
        Sample { now, values: BTreeMap::new() }
    }

    /// When it is taken: wall time, milliseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Adds to a metric with these values of its labels; several observers of one sum up.
    pub fn add(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        assert_eq!(labels.len(), metric.labels.len(), "{} has its labels", metric.name);
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        *self.values.entry(metric.name).or_default().entry(labels).or_default() += value;
    }

    /// Adds a count.
    pub fn count(&mut self, metric: &Metric, labels: &[&str], count: u64) {
        self.add(metric, labels, count as f64);
    }

    /// Adds the seconds since an instant of wall time, in milliseconds. An instant of nothing (0) has no age.
    pub fn age(&mut self, metric: &Metric, labels: &[&str], since: u64) {
        if since > 0 {
            self.add(metric, labels, (self.now as f64 - since as f64) / 1_000.0);
        }
    }

    /// What was added to a metric, with the values of its labels.
    pub fn labelled(&self, metric: &Metric) -> impl Iterator<Item = (&[String], f64)> {
        self.values.get(metric.name).into_iter().flatten().map(|(labels, value)| (&labels[..], *value))
    }

    /// What was added, for tests and logs.
    pub fn value(&self, metric: &Metric, labels: &[&str]) -> Option<f64> {
        let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        self.values.get(metric.name)?.get(&labels).copied()
    }
}

/// Everybody who is observed. Clones share it.
#[derive(Clone, Default)]
pub struct Registry {
    observed: Arc<RwLock<Vec<Arc<dyn Observed>>>>,
}

impl Registry {
    /// Observes one more from now on.
    pub fn register(&self, observed: Arc<dyn Observed>) {
        self.observed.write().unwrap_or_else(PoisonError::into_inner).push(observed);
    }

    /// The numbers at `now` (wall time, milliseconds).
    pub fn sample(&self, now: u64) -> Sample {
        let mut sample = Sample::new(now);
        sample.add(&BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
        for observed in &*self.observed.read().unwrap_or_else(PoisonError::into_inner) {
            observed.collect(&mut sample);
        }
        sample
    }
}

impl Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

/// A sample as text, in the format of OpenMetrics, which Prometheus reads.
pub fn text(sample: Sample) -> String {
    let mut registry = prometheus_client::registry::Registry::with_prefix("storeflow");
    registry.register_collector(Box::new(sample));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("texts grow without failing");
    text
}

impl Collector for Sample {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let none = BTreeMap::new();
        for Metric { name, kind, labels, help } in CATALOGUE {
            let metric_type = match kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut family = encoder.encode_descriptor(name, help, None, metric_type)?;
            let encode = |one: MetricEncoder<'_>, value: f64| match kind {
                Kind::Counter => ConstCounter::new(value).encode(one),
                Kind::Gauge => ConstGauge::new(value).encode(one),
            };
            let values = self.values.get(name).unwrap_or(&none);
            // A family without labels would be written with empty braces.
            if let ([], Some(&value)) = (*labels, values.values().next()) {
                encode(family, value)?;
                continue;
            }
            for (values, &value) in values {
                let labels: Vec<(&str, &str)> = labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
                encode(family.encode_family(&labels)?, value)?;
            }
        }
        Ok(())
    }
}

/// Counts of one process's workers, the first of which has timely's index `first`.
pub struct Workers {
    /// Timely's index of the first.
    pub first: usize,
    /// In their order.
    pub stats: Vec<Arc<WorkerStats>>,
}

impl Observed for Workers {
    fn collect(&self, sample: &mut Sample) {
        for (worker, stats) in (self.first..).zip(&self.stats) {
            sample.count(&WORKER_RECORDS, &[&worker.to_string()], stats.records.get());
            for kind in Skipped::ALL {
                sample.count(&SKIPPED, &[kind.code()], stats.skipped[kind as usize].get());
            }
            sample.count(&LATE, &["clicks"], stats.late.get() + stats.told_late.get());
            sample.count(&LATE, &["rows"], stats.row_late.get());
            sample.count(&CORRECTIONS, &["clicks"], stats.corrections.get() + stats.told_corrections.get());
            sample.count(&CORRECTIONS, &["rows"], stats.row_corrections.get());
            sample.count(&STALE, &[], stats.stale.get());
            sample.count(&DUPLICATE_CLICKS, &[], stats.duplicate_clicks.get());
            sample.count(&WAITING_ROWS, &[], stats.waiting_rows.get());
            sample.count(&CLOCK_JUMPS, &[], stats.clock_jumps.get());
            sample.count(&ROWS, &[], stats.entries.get());
            sample.count(&ROW_BYTES, &[], stats.entry_bytes.get());
            for (reason, &count) in &*locked(&stats.reasons) {
                sample.count(&DEAD_LETTERS, &[reason], count);
            }
            for of in &*locked(&stats.partitions) {
                sample.count(&TOPIC_RECORDS, &[&of.topic], of.records.get());
                sample.count(&TOPIC_BYTES, &[&of.topic], of.bytes.get());
                sample.count(&TOPIC_DEAD_LETTERS, &[&of.topic], locked(&of.dead_letters).values().sum());
                sample.age(&PARTITION_AGE, &[&of.topic, &of.partition.to_string()], of.clock.get());
            }
        }
        let least = |of: fn(&WorkerStats) -> u64| self.stats.iter().map(|stats| of(stats)).min().unwrap_or(0);
        sample.age(&FRONTIER_AGE, &[], least(|stats| stats.frontier.get()));
        sample.age(&AS_OF_AGE, &[], least(|stats| stats.as_of.get()));
        let oldest = self.stats.iter().map(|stats| stats.waiting_since.get()).filter(|since| *since > 0).min();
        sample.age(&WAITING_OLDEST, &[], oldest.unwrap_or(0));
        if let Some((holder, since)) = holder_of(&self.stats) {
            sample.age(&FRONTIER_HELD, &[&holder.topic, &holder.partition.to_string()], since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::PartitionStats;
    use super::*;

    fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
        text.lines().find(|line| line.starts_with(name))
    }

    #[test]
    fn what_is_documented_is_served_and_the_reverse() {
        let documented: Vec<&str> = include_str!("../../docs/metrics.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `storeflow_")?.split_once('`'))
            .map(|(name, _)| name)
            .collect();
        let catalogue: Vec<String> = CATALOGUE
            .iter()
            .map(|metric| format!("{}{}", metric.name, if metric.kind == Kind::Counter { "_total" } else { "" }))
            .collect();
        assert_eq!(documented, catalogue, "docs/metrics.md and the catalogue, in the same order");
        let served = text(Sample::new(0));
        let served: Vec<&str> = served
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE storeflow_")?.split_once(' '))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(served, CATALOGUE.iter().map(|metric| metric.name).collect::<Vec<_>>());
    }

    #[test]
    fn observers_sum_up_and_labels_are_escaped() {
        let registry = Registry::default();
        let workers = Workers { first: 2, stats: vec![Arc::default(), Arc::default()] };
        workers.stats[0].records.add(5);
        workers.stats[0].stale.add(2);
        workers.stats[1].stale.add(3);
        let stats = Arc::clone(&workers.stats[0]);
        registry.register(Arc::new(workers));
        locked(&stats.reasons).insert("a \"bad\" one", 2);
        let sample = registry.sample(0);
        assert_eq!(sample.value(&STALE, &[]), Some(5.0));
        let text = text(sample);
        assert_eq!(line(&text, "storeflow_worker_records_total{"), Some("storeflow_worker_records_total{worker=\"2\"} 5.0"));
        let dead = "storeflow_dead_letters_total{reason=\"a \\\"bad\\\" one\"} 2.0";
        assert_eq!(line(&text, "storeflow_dead_letters_total{"), Some(dead));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn ages_are_against_the_samples_own_time() {
        let workers = Workers { first: 0, stats: vec![Arc::default()] };
        let stats = Arc::clone(&workers.stats[0]);
        let registry = Registry::default();
        registry.register(Arc::new(workers));
        assert_eq!(registry.sample(10_000).value(&FRONTIER_AGE, &[]), None, "no frontier has no age");
        stats.frontier.set(4_000);
        let partition = Arc::new(PartitionStats::new("clicks", 3));
        partition.records.add(7);
        locked(&stats.partitions).push(Arc::clone(&partition));
        *locked(&stats.holder) = Some((partition, 7_000));
        let sample = registry.sample(10_000);
        assert_eq!(sample.value(&FRONTIER_AGE, &[]), Some(6.0));
        assert_eq!(sample.value(&FRONTIER_HELD, &["clicks", "3"]), Some(3.0));
        assert_eq!(sample.value(&TOPIC_RECORDS, &["clicks"]), Some(7.0));
        assert_eq!(sample.value(&AS_OF_AGE, &[]), None);
        assert_eq!(sample.value(&WAITING_OLDEST, &[]), None, "nothing waits");
        stats.waiting_since.set(2_000);
        assert_eq!(registry.sample(10_000).value(&WAITING_OLDEST, &[]), Some(8.0));
    }
}
