//! What a run tells of itself while it runs: logs, traces, counters of its workers, metrics and health.

pub mod emf;
pub mod health;
pub mod http;
pub mod metrics;
pub mod otlp;
pub mod server;
pub mod status;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use self::otlp::Traces;
use crate::decode::Skipped;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people: one line each, with colours on a terminal.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// Sends logs to standard error, by `STOREFLOW_LOG` (a filter such as `info` or `storeflow=debug`; default `info`), and spans of
/// the targets [`otlp::SPANS`] to `traces`.
pub fn start_logging(format: LogFormat, traces: Option<&Traces>) {
    let filter = EnvFilter::try_from_env("STOREFLOW_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let is_traced = |metadata: &Metadata<'_>| metadata.is_span() && otlp::SPANS.contains(&metadata.target());
    // A span that is a trace begins no log line: those are the same with and without a collector.
    let filter = filter.and(filter_fn(move |metadata| !is_traced(metadata)));
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logs = match format {
        LogFormat::Text => logs.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => logs.json().flatten_event(true).boxed(),
    };
    let spans = filter_fn(is_traced).with_max_level_hint(LevelFilter::DEBUG);
    let traces = traces.map(|traces| traces.layer().with_filter(spans));
    tracing_subscriber::registry().with(logs.with_filter(filter)).with(traces).init();
}

/// Wall time, milliseconds since 1970.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
}

/// What a lock guards, also after its holder panicked: counts are never half-written.
pub fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A counter that one worker writes and anybody reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. Only its own worker does.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts of one worker.
#[derive(Debug, Default)]
pub struct WorkerStats {
    /// Bytes of records, unpacked.
    pub bytes: Counter,
    /// Records.
    pub records: Counter,
    /// Records that became dead letters.
    pub dead_letters: Counter,
    /// Records without data for this job, by the place of their kind in [`Skipped::ALL`].
    pub skipped: [Counter; Skipped::ALL.len()],
    /// Clicks without an event id that reached a closed window.
    pub corrections: Counter,
    /// Clicks without an event id that reached an expired window.
    pub late: Counter,
    /// Clicks with an event id that reached a closed window.
    pub told_corrections: Counter,
    /// Clicks with an event id that reached an expired window.
    pub told_late: Counter,
    /// Clicks that were told before.
    pub duplicate_clicks: Counter,
    /// Of rows: contributions that reached a closed window.
    pub row_corrections: Counter,
    /// Of rows: contributions that reached an expired window.
    pub row_late: Counter,
    /// Changes older than what was stored.
    pub stale: Counter,
    /// Rows that wait for the row they find their store in.
    pub waiting_rows: Counter,
    /// About when the oldest of them last changed, milliseconds of log time; 0: none waits.
    pub waiting_since: Counter,
    /// Confirmed jumps of log clocks.
    pub clock_jumps: Counter,
    /// Rows and markers kept.
    pub entries: Counter,
    /// Bytes of them.
    pub entry_bytes: Counter,
    /// The worker's log time, milliseconds.
    pub clock: Counter,
    /// When the worker last had its turn, milliseconds of wall time.
    pub stepped: Counter,
    /// The frontier of the whole dataflow as this worker sees it, milliseconds of log time.
    pub frontier: Counter,
    /// The last as-of this worker handed over, milliseconds.
    pub as_of: Counter,
    /// Ticks it has records of that are not over.
    pub open_ticks: Counter,
    /// Dead letters by reason.
    pub reasons: Mutex<BTreeMap<&'static str, u64>>,
    /// Its partitions, ended ones included.
    pub partitions: Mutex<Vec<Arc<PartitionStats>>>,
    /// Since when which of its partitions has the lowest clock: index into `partitions`, wall time in milliseconds.
    pub holder: Mutex<Option<(Arc<PartitionStats>, u64)>>,
}

impl WorkerStats {
    /// Contributions of clicks and rows to closed windows, and to expired ones.
    pub fn moved_late(&self) -> (u64, u64) {
        let corrections = [&self.corrections, &self.told_corrections, &self.row_corrections];
        let late = [&self.late, &self.told_late, &self.row_late];
        (corrections.map(Counter::get).iter().sum(), late.map(Counter::get).iter().sum())
    }
}

/// The partition that holds the frontier, as far as these workers know, and since when (wall time, milliseconds): of those
/// that hold their workers, the one with the lowest clock.
pub fn holder_of(stats: &[Arc<WorkerStats>]) -> Option<(Arc<PartitionStats>, u64)> {
    let holders = stats.iter().filter_map(|stats| locked(&stats.holder).clone());
    holders.min_by_key(|(holder, _)| holder.clock.get())
}

/// Counts of one partition.
#[derive(Debug)]
pub struct PartitionStats {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: u32,
    /// Records read.
    pub records: Counter,
    /// Bytes of them.
    pub bytes: Counter,
    /// Dead letters among them, by reason.
    pub dead_letters: Mutex<BTreeMap<&'static str, u64>>,
    /// Its log clock, milliseconds.
    pub clock: Counter,
    /// The position of the first record that no published as-of covers.
    pub published_position: Counter,
}

impl PartitionStats {
    /// Of a partition that has not been read.
    pub fn new(topic: &str, partition: u32) -> Self {
        let (records, bytes, dead_letters, clock, published_position) = Default::default();
        PartitionStats { topic: topic.to_owned(), partition, records, bytes, dead_letters, clock, published_position }
    }
}
