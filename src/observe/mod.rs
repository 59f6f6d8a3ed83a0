//! What a run tells of itself while it runs: logs, counters of its workers, metrics and health.

pub mod health;
pub mod metrics;
pub mod server;

use std::sync::atomic::{AtomicU64, Ordering};

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people: one line each, with colours on a terminal.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// Sends logs to standard error, by `STOREFLOW_LOG` (a filter such as `info` or `storeflow=debug`; default `info`).
pub fn start_logging(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("STOREFLOW_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
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
    /// Debezium tombstones.
    pub tombstones: Counter,
    /// Records without data.
    pub control_records: Counter,
    /// Records of tables that no source reads.
    pub other_tables: Counter,
    /// Clicks that reached a closed window.
    pub corrections: Counter,
    /// Clicks that reached an expired window.
    pub late: Counter,
    /// Of rows: contributions that reached a closed window.
    pub row_corrections: Counter,
    /// Of rows: contributions that reached an expired window.
    pub row_late: Counter,
    /// Changes older than what was stored.
    pub stale: Counter,
    /// Confirmed jumps of log clocks.
    pub clock_jumps: Counter,
    /// Rows and markers kept.
    pub entries: Counter,
    /// Bytes of them.
    pub entry_bytes: Counter,
    /// The worker's log time, milliseconds.
    pub clock: Counter,
}
