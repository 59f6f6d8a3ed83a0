//! The end of the log that one run writes.
//!
//! ```text
//! Log::newest ─► read ─► the run loads it ─► Writer::after(read) ─► commit(cut 43) ─► commit(cut 44) ─► ...
//!                                                                     │ taken: superseded, stop
//!                                                                     ▼
//!                                                                 view, history
//! ```
//!
//! Upholds: (1) what is committed follows exactly what the run was loaded from; (2) after a commit whose outcome is unknown nothing
//! further is committed by this writer: only a run that reads the log anew knows what it follows; (3) a run that was
//! silent for so long that the manifest that supersedes it may have been deleted looks before it writes.
//! Keeps: the last manifest's number, checksum and as-of, which are kept, and the as-of that fresh objects follow.
//! Absent on purpose: retries of what was refused (restarting is the cure), threads, clocks.

use std::time::Duration;

use serde_json::Value;

use crate::error::LogError;
use crate::log::{Log, Read};
use crate::manifest::{FORMAT, Manifest, PartitionAt};
use crate::object::Object;

/// After so long without a commit, the log is listed first. Manifests stay much longer than this ([`crate::collect::FENCE_MS`]), so
/// that clocks may differ, and a process may be stopped between listing and creating.
pub const SILENT_MAX: Duration = Duration::from_secs(3600);

/// A cut of the job that all workers have written: what a run knows of its checkpoint. The rest the log fills in.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The records before this are in the state, in milliseconds of log time. Never less than that of the cut before.
    pub as_of: u64,
    /// Wall time in milliseconds, for information and for the deletion of old manifests.
    pub written_at: u64,
    /// Whether the input had an end, and this is it.
    pub complete: bool,
    /// Workers that wrote it.
    pub workers: usize,
    /// The job's fingerprint.
    pub setting: Value,
    /// Topics by their number.
    pub topics: Vec<String>,
    /// How far each partition was read.
    pub partitions: Vec<PartitionAt>,
    /// All of the state, with what is fresh.
    pub state: Vec<Object>,
    /// What changed since the cut before.
    pub fresh: Vec<Object>,
}

/// Commits one run's checkpoints, one after the other.
pub struct Writer {
    log: Log,
    run: String,
    keep: usize,
    last: Option<Last>,
    /// The as-of that the next cut's fresh objects follow.
    follows: u64,
    /// A commit began and did not succeed.
    spent: bool,
}

/// What the next manifest needs of the one before it.
struct Last {
    number: u64,
    checksum: String,
    as_of: u64,
    kept: Vec<u64>,
}

impl Last {
    fn of(read: &Read) -> Last {
        let Read { manifest: Manifest { number, as_of, kept, .. }, checksum } = read;
        Last { number: *number, checksum: checksum.clone(), as_of: *as_of, kept: kept.clone() }
    }
}

impl Writer {
    /// Goes on after the checkpoint that this run was loaded from (`None`: it began with nothing). `run` is the run's name, never
    /// used for another start of the cluster; the newest `keep` checkpoints can be loaded. With 2 or more, a damaged
    /// object costs a replay from the checkpoint before; with 1, everything.
    ///
    /// # Panics
    /// If `keep` is 0.
    pub fn after(log: &Log, read: Option<&Read>, run: &str, keep: usize) -> Writer {
        assert!(keep > 0, "the newest checkpoint is always kept");
        let (last, follows) = (read.map(Last::of), read.map_or(0, |read| read.manifest.as_of));
        Writer { log: log.clone(), run: run.to_owned(), keep, last, follows, spent: false }
    }

    /// The state was loaded from an earlier checkpoint, of this as-of, as that of the newest is damaged: what is written first follows
    /// that one, and has the history again that the newest may not have shown.
    pub fn making_up_from(self, as_of: u64) -> Writer {
        Writer { follows: as_of, ..self }
    }

    /// The number of the next manifest, for the names of its objects.
    pub fn next(&self) -> u64 {
        self.last.as_ref().map_or(1, |last| last.number + 1)
    }

    /// Commits a checkpoint whose objects are all in the store. `silent` is the time since this run's last commit or, without
    /// one, since it read the log, by a clock that goes on while the machine sleeps. Only after this may anything
    /// of the checkpoint be shown.
    ///
    /// # Errors
    /// If another run committed in its place, or it is not known whether this one did. The run must stop in any case: the
    /// writer cannot be used again.
    ///
    /// # Panics
    /// If an earlier commit failed, or if the as-of went back.
    pub fn commit(&mut self, cut: Cut, silent: Duration) -> Result<Read, LogError> {
        assert!(!self.spent, "after a failed commit the log is read anew, by a new writer");
        self.spent = true;
        let previous_as_of = self.last.as_ref().map_or(0, |last| last.as_of);
        assert!(cut.as_of >= previous_as_of, "as-of {} would follow {previous_as_of}", cut.as_of);
        if silent > SILENT_MAX {
            self.look()?;
        }
        let number = self.next();
        let mut kept = self.last.as_ref().map_or_else(Vec::new, |last| last.kept.clone());
        kept.push(number);
        kept.drain(..kept.len().saturating_sub(self.keep));
        let Cut { as_of, written_at, complete, workers, setting, topics, partitions, state, fresh } = cut;
        let read = self.log.create(Manifest {
            format: FORMAT,
            job: self.log.job().to_owned(),
            generation: self.log.generation(),
            number,
            previous: self.last.as_ref().map(|last| last.checksum.clone()),
            restores: None,
            run: self.run.clone(),
            written_at,
            as_of,
            previous_as_of: self.follows,
            complete,
            workers,
            kept,
            setting,
            topics,
            partitions,
            state,
            fresh,
        })?;
        (self.last, self.follows) = (Some(Last::of(&read)), as_of);
        self.spent = false;
        Ok(read)
    }

    /// Whether the log still ends where this writer left it.
    fn look(&self) -> Result<(), LogError> {
        let next = self.next();
        let end = self.log.numbers()?.map_or(0, |numbers| *numbers.end());
        if end >= next {
            // The one that took our place may be gone; the newest is by whoever owns the job now.
            let run = self.log.read(end).map_or("unknown".to_owned(), |read| read.manifest.run);
            return Err(LogError::Superseded { number: next, run, place: self.log.place(end) });
        }
        if end + 1 < next {
            return Err(LogError::Missing { number: next - 1, place: self.log.place(next - 1) });
        }
        Ok(())
    }
}
