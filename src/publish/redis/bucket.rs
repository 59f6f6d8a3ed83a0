//! The buckets of a process: where each one is in Redis, and what its guard says.
//!
//! A guard is `<claim>:<run>:<sequence>:<as-of>`, or `…:rebuilding` while the bucket is written in full. Every run that
//! starts takes the claim of the one before and one more; every write of a bucket is one more in the sequence. So the guard
//! tells another run's write (a claim that is not ours and not older) from lost data (no guard, or an older one).

use std::ops::Range;

use storeflow_dataflows::key::SHARDS;

use super::error::RedisError;
use super::keys::Keys;

/// What is known of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not taken yet by this run.
    Unclaimed,
    /// Its guard is where we left it.
    Ready,
    /// It must be written in full.
    Lost,
}

/// A bucket of ours.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    pub(super) number: u64,
    /// The worker it belongs to.
    pub(super) worker: usize,
    pub(super) state: State,
    pub(super) claim: u64,
    pub(super) sequence: u64,
    /// It holds everything up to here, milliseconds.
    pub(super) as_of: u64,
    /// The guard as we left it.
    pub(super) guard: String,
    /// The guard that a write without answer may have left.
    pub(super) maybe: Option<String>,
}

/// What a guard that was read says.
#[derive(Debug)]
pub(super) enum Found {
    /// As we left it.
    Ours,
    /// Gone, or older.
    Lost,
    /// Another run's.
    Theirs,
}

impl Bucket {
    /// The guard after the next write, which brings it to `as_of`.
    pub(super) fn next_guard(&self, run: &str, as_of: &str) -> String {
        format!("{}:{run}:{}:{as_of}", self.claim, self.sequence + 1)
    }

    /// Judges a guard that was read. A write whose answer was lost may turn out to have happened.
    pub(super) fn judge(&mut self, found: &str, run: &str) -> Found {
        if found == self.guard || self.maybe.as_deref() == Some(found) {
            found.clone_into(&mut self.guard);
            self.maybe = None;
            return Found::Ours;
        }
        self.state = State::Lost;
        match Guard::parse(found) {
            Some(guard) if guard.claim > self.claim || (guard.claim == self.claim && guard.run != run) => Found::Theirs,
            _ => Found::Lost,
        }
    }

    /// Another run took it.
    pub(super) fn taken(&self, found: &str) -> RedisError {
        RedisError::OtherRun { what: format!("bucket {}", self.number), found: found.to_owned() }
    }
}

/// A guard, read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Guard<'a> {
    pub(crate) claim: u64,
    pub(crate) run: &'a str,
    /// `None` while it is rebuilt.
    pub(crate) as_of: Option<u64>,
}

impl Guard<'_> {
    pub(crate) fn parse(text: &str) -> Option<Guard<'_>> {
        let mut parts = text.split(':');
        let (claim, run, _sequence, as_of) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Guard { claim: claim.parse().ok()?, run, as_of: as_of.parse().ok() })
    }
}

/// What a guard says while its bucket is written in full.
pub(super) const REBUILDING: &str = "rebuilding";

/// The buckets that belong to these workers of so many.
pub(super) fn buckets(workers: &Range<usize>, peers: usize) -> Vec<Bucket> {
    let of_worker = |number: u64| (number % peers.max(1) as u64) as usize;
    (0..SHARDS)
        .filter(|number| workers.contains(&of_worker(*number)))
        .map(|number| unclaimed(number, of_worker(number)))
        .collect()
}

/// A bucket of which nothing is known.
pub(super) fn unclaimed(number: u64, worker: usize) -> Bucket {
    Bucket { number, worker, state: State::Unclaimed, claim: 0, sequence: 0, as_of: 0, guard: String::new(), maybe: None }
}

/// The guards' keys, in the order of the buckets.
pub(super) fn guard_keys(keys: &Keys, buckets: &[Bucket]) -> Vec<String> {
    buckets.iter().map(|bucket| keys.guard(bucket.number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_belongs_to_one_worker() {
        let [one, two] = [0..2, 2..3].map(|workers| buckets(&workers, 3));
        assert_eq!(one.len() + two.len(), 1024);
        assert!(two.iter().all(|bucket| bucket.number % 3 == 2 && bucket.worker == 2));
    }

    #[test]
    fn guards_tell_other_runs_from_lost_data() {
        let mut bucket = buckets(&(0..1), 1).remove(0);
        bucket.claim = 4;
        bucket.guard = "4:me:7:1000".to_owned();
        bucket.maybe = Some("4:me:8:2000".to_owned());
        assert!(matches!(bucket.judge("", "me"), Found::Lost));
        assert!(matches!(bucket.judge("4:me:6:900", "me"), Found::Lost));
        assert!(matches!(bucket.judge("3:other:900:5000", "me"), Found::Lost));
        assert!(matches!(bucket.judge("nonsense", "me"), Found::Lost));
        assert!(matches!(bucket.judge("4:other:1:0", "me"), Found::Theirs));
        assert!(matches!(bucket.judge("5:other:1:rebuilding", "me"), Found::Theirs));
        assert!(matches!(bucket.judge("4:me:8:2000", "me"), Found::Ours));
        assert_eq!(bucket.guard, "4:me:8:2000");
        assert_eq!(bucket.next_guard("me", "5"), "4:me:1:5");
    }
}
