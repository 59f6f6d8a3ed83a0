//! Requests to read dead letters again that come while a job runs: found in the store, told to the worker that reads them.
//!
//! Upholds: (1) neither workers nor the loop that watches them wait for the store; (2) a request is found once, by the process whose
//! worker reads it; (3) what cannot be read is said, and looked at again.
//! Absent on purpose: any word between processes. Each looks for itself; which worker reads a request follows from its number.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Thread;
use std::time::Duration;

use super::opening::{chain, owner};
use crate::publish::dead_letters::read::Letter;
use crate::publish::error::PublishError;
use crate::publish::layout::Keys;
use crate::publish::replays::{numbers, read};
use crate::runtime::workers::RunError;
use crate::source::names::REPLAY;
use crate::store::Store;

/// Between two looks at the store.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Looks for requests until it is dropped.
pub(super) struct Again {
    found: Receiver<(u32, Vec<Letter>)>,
    over: Arc<AtomicBool>,
    thread: Thread,
}

impl Again {
    /// Looks for requests other than those that are `known`, for workers of this process.
    ///
    /// # Errors
    /// If there can be no thread.
    pub(super) fn look(
        store: &Store,
        keys: &Keys,
        known: BTreeSet<u32>,
        workers: Range<usize>,
        peers: usize,
    ) -> Result<Again, RunError> {
        // One at a time: they wait in memory.
        let (sender, found) = sync_channel(1);
        let over = Arc::<AtomicBool>::default();
        let looking =
            Looking { store: store.clone(), keys: keys.clone(), known, workers, peers, sender, over: Arc::clone(&over) };
        let thread = std::thread::Builder::new().name("replays".to_owned()).spawn(move || looking.run());
        let no_thread =
            |error| RunError::Workers(format!("could not start a thread that looks for dead letters to replay: {error}"));
        Ok(Again { found, over, thread: thread.map_err(no_thread)?.thread().clone() })
    }

    /// Requests that were found since the last time, with their letters.
    pub(super) fn found(&self) -> impl Iterator<Item = (u32, Vec<Letter>)> + '_ {
        self.found.try_iter()
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

struct Looking {
    store: Store,
    keys: Keys,
    known: BTreeSet<u32>,
    workers: Range<usize>,
    peers: usize,
    sender: SyncSender<(u32, Vec<Letter>)>,
    over: Arc<AtomicBool>,
}

impl Looking {
    fn run(mut self) {
        let mut said = false;
        while !self.over.load(Ordering::Relaxed) {
            match self.look() {
                Ok(true) => said = false,
                Ok(false) => return,
                Err(error) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::error!(error = %chain(&error), "could not look for dead letters to replay; trying again");
                    }
                }
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// Looks once; whether anybody still wants to know.
    fn look(&mut self) -> Result<bool, PublishError> {
        for number in numbers(&self.store, &self.keys)? {
            if self.known.contains(&number) {
                continue;
            }
            if self.workers.contains(&owner(REPLAY, number, self.peers)) {
                let letters = read(&self.store, &self.keys, number)?;
                if self.sender.send((number, letters)).is_err() {
                    return Ok(false);
                }
            }
            self.known.insert(number);
        }
        Ok(true)
    }
}
