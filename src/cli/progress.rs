//! How a run shows that it moves: a bar on a terminal, a log line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::publish::time::instant;
use crate::runtime::workers::Watch;

/// Between two log lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress of one run.
pub(super) struct Progress {
    began: Instant,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Progress {
    /// Starts showing.
    pub(super) fn start() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        Progress { began: Instant::now(), bar, last_line: Instant::now() }
    }

    /// Shows where the run is; called every few milliseconds.
    pub(super) fn show(&mut self, watch: &Watch<'_>) {
        let due = self.last_line.elapsed() >= LINE_EVERY;
        if self.bar.is_none() && !due {
            return;
        }
        let (mut bytes, mut records) = (0, 0);
        for stats in watch.stats {
            bytes += stats.bytes.get();
            records += stats.records.get();
        }
        let clocks = || watch.stats.iter().map(|stats| stats.clock.get()).filter(|&clock| clock > 0);
        let (clock, lag) = (clocks().min().unwrap_or(0), clocks().max().unwrap_or(0) - clocks().min().unwrap_or(0));
        let millis = self.began.elapsed().as_millis().max(1);
        let rate = |of: u64| u64::try_from(u128::from(of) * 1_000 / millis).unwrap_or(u64::MAX);
        match &self.bar {
            Some(bar) => {
                bar.set_message(format!(
                    "as of {}  lag {} s  {} ({}/s)  {} records ({}/s)",
                    instant(clock as i64),
                    lag / 1_000,
                    HumanBytes(bytes),
                    HumanBytes(rate(bytes)),
                    HumanCount(records),
                    HumanCount(rate(records)),
                ));
                bar.tick();
            }
            None => {
                self.last_line = Instant::now();
                tracing::info!(as_of = %instant(clock as i64), lag_ms = lag, bytes, records, records_per_s = rate(records), "running");
            }
        }
    }

    /// Takes the bar away.
    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
