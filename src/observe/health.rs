//! Whether this process is alive and of use, as `/healthz` and `/readyz` answer.
//!
//! Upholds: a worker that stands still for [`SILENCE_MAX`] makes the process unhealthy, whatever its threads and sockets
//! look like; before its first step a worker counts from the start, so that a slow start is no illness.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Counter;
use super::metrics::{Observed, READY, Sample, WORKER_STEP_AGE};

/// A worker steps at least every few milliseconds; one that has not for so long is stuck. Milliseconds.
pub const SILENCE_MAX: u64 = 30_000;

/// What workers and connectors say of themselves.
#[derive(Debug)]
pub struct Health {
    first: usize,
    /// When each worker last stepped: wall time, milliseconds.
    stepped: Vec<Counter>,
    sources_reading: AtomicBool,
    view_connected: AtomicBool,
    /// Since when a partition has waited for its schema, milliseconds of wall time; 0: none does.
    schema_wait: Counter,
}

impl Health {
    /// Of a process's workers, the first of which has timely's index `first`, starting at `now` (wall time, milliseconds).
    pub fn new(first: usize, workers: usize, now: u64) -> Health {
        let stepped: Vec<Counter> = (0..workers).map(|_| Counter::default()).collect();
        stepped.iter().for_each(|worker| worker.set(now));
        let (sources_reading, view_connected) = (AtomicBool::new(false), AtomicBool::new(false));
        Health { first, stepped, sources_reading, view_connected, schema_wait: Counter::default() }
    }

    /// A worker (by its place in this process) stepped at `now`.
    pub fn stepped(&self, worker: usize, now: u64) {
        self.stepped[worker].set(now);
    }

    /// Whether records are being read.
    pub fn set_sources_reading(&self, reading: bool) {
        self.sources_reading.store(reading, Ordering::Relaxed);
    }

    /// Whether the view takes what it is sent; an embedded view always does.
    pub fn set_view_connected(&self, connected: bool) {
        self.view_connected.store(connected, Ordering::Relaxed);
    }

    /// Since when (wall time, milliseconds) a partition has waited for its schema, if one does.
    pub fn set_schema_wait(&self, since: Option<u64>) {
        self.schema_wait.set(since.unwrap_or(0));
    }

    /// Why the process is not alive at `now`, if it is not.
    pub fn illness(&self, now: u64) -> Option<String> {
        let silent = |since: &Counter| now.saturating_sub(since.get());
        let (at, worst) = self.stepped.iter().enumerate().max_by_key(|(_, since)| silent(since))?;
        let silent = silent(worst);
        (silent > SILENCE_MAX).then(|| format!("worker {} has not stepped for {} s", self.first + at, silent / 1_000))
    }

    /// What is missing at `now` for the process to be of use, if something is.
    pub fn wants(&self, now: u64) -> Option<&'static str> {
        let since = self.schema_wait.get();
        match (self.sources_reading.load(Ordering::Relaxed), self.view_connected.load(Ordering::Relaxed)) {
            (false, _) => Some("the sources are not being read yet"),
            (true, false) => Some("the view is not connected"),
            // What is fetched in a moment is nothing to speak of.
            (true, true) if since > 0 && now.saturating_sub(since) > SILENCE_MAX => Some(
                "a partition waits for its schema, and the schema registry does not answer: storeflow_schema_wait_seconds says which",
            ),
            (true, true) => None,
        }
    }
}

impl Observed for Health {
    fn collect(&self, sample: &mut Sample) {
        sample.add(&READY, &[], f64::from(u8::from(self.wants(sample.now()).is_none())));
        for (worker, since) in (self.first..).zip(&self.stepped) {
            sample.age(&WORKER_STEP_AGE, &[&worker.to_string()], since.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_worker_is_an_illness() {
        let health = Health::new(4, 2, 1_000);
        assert_eq!(health.illness(1_000 + SILENCE_MAX), None);
        health.stepped(0, 40_000);
        assert_eq!(health.illness(41_000).as_deref(), Some("worker 5 has not stepped for 40 s"));
        health.stepped(1, 40_000);
        assert_eq!(health.illness(41_000), None);
    }

    #[test]
    fn ready_when_read_and_connected() {
        let health = Health::new(0, 1, 0);
        assert!(health.wants(1).is_some());
        health.set_sources_reading(true);
        assert!(health.wants(1).is_some_and(|what| what.contains("view")));
        health.set_view_connected(true);
        assert_eq!(health.wants(1), None);
        health.set_schema_wait(Some(5));
        assert_eq!(health.wants(5 + SILENCE_MAX), None);
        assert!(health.wants(6 + SILENCE_MAX).is_some_and(|what| what.contains("schema")));
        health.set_schema_wait(None);
        assert_eq!(health.wants(6 + SILENCE_MAX), None);
    }
}
