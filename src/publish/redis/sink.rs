//! The door through which workers reach the Redis view, without ever waiting for it.
//!
//! ```text
//! workers ── send ──► inbox (bounded) ──► writer thread ── pipelines ──► Redis
//!         ◄─ shown ──────────────────────────┘
//! ```
//!
//! Upholds: (1) no call but [`RedisSink::close`] waits; (2) the inbox is bounded: beyond [`INBOX_CHANGES_MAX`] changes it
//! forgets a worker's, and the writer takes all of them from the view in memory instead.
//! Absent on purpose: values of its own; whatever is lost on the way is read from [`MemoryView`] again.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use storeflow_dataflows::table::CellChange;

use super::error::RedisError;
use super::writer::Writer;
use crate::observe::metrics::{self, Observed, Sample};
use crate::publish::view::ExpiredWindow;
#[cfg(doc)]
use crate::publish::view::MemoryView;

/// Changes that may wait in the inbox, and again with the writer, about 130 bytes each: minutes of a large job's changes.
pub(super) const INBOX_CHANGES_MAX: usize = 1_000_000;

/// What a worker sent.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) worker: usize,
    pub(super) as_of: u64,
    pub(super) changes: Vec<CellChange>,
    pub(super) expired: Vec<ExpiredWindow>,
}

/// What the leader wants the marker to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) as_of: u64,
    pub(super) take_over: bool,
}

/// What waits for the writer.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) messages: Vec<Message>,
    changes: usize,
    /// Workers of which something was forgotten, and the as-of they have reached.
    pub(super) forgotten: Vec<(usize, u64)>,
    pub(super) mark: Option<Mark>,
    pub(super) closing: bool,
    /// Nobody waits any longer.
    pub(super) abandoned: bool,
}

/// Counts of a sink.
#[derive(Clone, Debug, Default)]
pub struct RedisStats {
    /// Pipelines sent.
    pub pipelines: u64,
    /// Pipelines answered, and pages of scans.
    pub round_trips: u64,
    /// Commands; one script may move many buckets.
    pub commands: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Cells written: of several changes of a cell that waited together, one.
    pub cells: u64,
    /// Connections made, the first included.
    pub connections: u64,
    /// Buckets written again in full.
    pub reconciliations: u64,
    /// Time spent with Redis.
    pub busy: Duration,
    /// Changes that wait.
    pub pending: u64,
    /// Whether there is a connection.
    pub connected: bool,
    /// Whether the job's pointer names this generation, as far as known.
    pub current: bool,
    /// The last error.
    pub last_error: Option<String>,
}

/// What the sink and its thread share.
#[derive(Debug)]
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    woken: Condvar,
    first_worker: usize,
    shown: Vec<AtomicU64>,
    pub(super) stats: Mutex<RedisStats>,
    failure: Mutex<Option<RedisError>>,
    failed: AtomicBool,
    ended: Mutex<bool>,
    at_end: Condvar,
}

impl Shared {
    pub(super) fn new(workers: &Range<usize>) -> Shared {
        Shared {
            inbox: Mutex::default(),
            woken: Condvar::new(),
            first_worker: workers.start,
            shown: workers.clone().map(|_| AtomicU64::new(0)).collect(),
            stats: Mutex::default(),
            failure: Mutex::default(),
            failed: AtomicBool::new(false),
            ended: Mutex::default(),
            at_end: Condvar::new(),
        }
    }

    /// Takes what has arrived, waiting for it for a while if there is nothing that was not known before.
    pub(super) fn take(&self, patience: Duration, closing_known: bool) -> Inbox {
        let mut inbox = lock(&self.inbox);
        let empty = inbox.messages.is_empty() && inbox.forgotten.is_empty() && inbox.mark.is_none();
        if empty && !inbox.abandoned && (closing_known || !inbox.closing) {
            inbox = self.woken.wait_timeout(inbox, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        let (closing, abandoned) = (inbox.closing, inbox.abandoned);
        std::mem::replace(&mut *inbox, Inbox { closing, abandoned, ..Inbox::default() })
    }

    pub(super) fn show(&self, worker: usize, as_of: u64) {
        self.shown[worker - self.first_worker].fetch_max(as_of, Ordering::Release);
    }

    pub(super) fn shown(&self, worker: usize) -> u64 {
        self.shown[worker - self.first_worker].load(Ordering::Acquire)
    }

    pub(super) fn fail(&self, error: RedisError) {
        lock(&self.failure).get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn end(&self) {
        *lock(&self.ended) = true;
        self.at_end.notify_all();
    }
}

pub(super) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The Redis view of a running process.
#[derive(Debug)]
pub struct RedisSink {
    shared: Arc<Shared>,
    server: String,
}

impl RedisSink {
    /// Starts the thread that writes. If there cannot be one, [`RedisSink::failure`] says so.
    pub(super) fn start(writer: Writer, shared: Arc<Shared>, server: String) -> RedisSink {
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("redis".to_owned()).spawn(move || {
            // However the thread ends, whoever waits for its end is told.
            let end = End(Arc::clone(&of_thread));
            writer.run();
            drop(end);
        });
        if let Err(error) = thread {
            shared.fail(RedisError::Stopped(error.to_string()));
            shared.end();
        }
        RedisSink { shared, server }
    }

    /// Takes what changed in a worker's cells on the way to `as_of` (milliseconds), and the windows that expired. Call it
    /// after the same changes were applied to the view in memory, as-of by as-of, also when nothing changed.
    pub fn send(&self, worker: usize, as_of: u64, changes: Vec<CellChange>, expired: Vec<ExpiredWindow>) {
        let mut inbox = lock(&self.shared.inbox);
        inbox.changes += changes.len() + expired.iter().map(|window| window.keys().len()).sum::<usize>();
        if inbox.changes > INBOX_CHANGES_MAX {
            let forgotten = std::mem::take(&mut inbox.messages);
            inbox.forgotten.extend(forgotten.into_iter().map(|message| (message.worker, message.as_of)));
            inbox.forgotten.push((worker, as_of));
            // One entry per worker.
            inbox.forgotten.sort_unstable_by(|a, b| b.cmp(a));
            inbox.forgotten.dedup_by_key(|(worker, _)| *worker);
            inbox.changes = 0;
        } else {
            inbox.messages.push(Message { worker, as_of, changes, expired });
        }
        drop(inbox);
        self.shared.woken.notify_one();
    }

    /// The as-of up to which all of a worker's buckets are in Redis, milliseconds. It stands still while Redis is away.
    pub fn shown(&self, worker: usize) -> u64 {
        self.shared.shown(worker)
    }

    /// Leader only, once all workers of all processes have shown `as_of`: moves the generation's marker there; and the job's
    /// pointer to this generation, if it is later than the one that is current and has caught up with it, or with `take_over`.
    pub fn mark(&self, as_of: u64, take_over: bool) {
        let mut inbox = lock(&self.shared.inbox);
        let before = inbox.mark;
        inbox.mark = Some(Mark {
            as_of: before.map_or(as_of, |mark| mark.as_of.max(as_of)),
            take_over: take_over || before.is_some_and(|mark| mark.take_over),
        });
        drop(inbox);
        self.shared.woken.notify_one();
    }

    /// Why the job must stop, if it must: somebody else owns the view. An outage is no failure.
    pub fn failure(&self) -> Option<RedisError> {
        if self.shared.failed.load(Ordering::Acquire) { lock(&self.shared.failure).clone() } else { None }
    }

    /// What was done so far.
    pub fn stats(&self) -> RedisStats {
        lock(&self.shared.stats).clone()
    }

    /// Writes what still waits, for so long at most, and ends the thread.
    ///
    /// # Errors
    /// [`RedisSink::failure`], or what was left when patience ended.
    pub fn close(self, patience: Duration) -> Result<RedisStats, RedisError> {
        lock(&self.shared.inbox).closing = true;
        self.shared.woken.notify_one();
        let until = Instant::now() + patience;
        let mut ended = lock(&self.shared.ended);
        while !*ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            ended = self.shared.at_end.wait_timeout(ended, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let in_time = *ended;
        drop(ended);
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let stats = self.stats();
        if in_time {
            return Ok(stats);
        }
        Err(RedisError::Unflushed {
            server: self.server.clone(),
            pending: stats.pending,
            seconds: patience.as_secs(),
            last: stats.last_error.map_or_else(String::new, |error| format!(" ({error})")),
        })
    }
}

impl Observed for RedisSink {
    fn collect(&self, sample: &mut Sample) {
        let stats = self.stats();
        sample.add(&metrics::VIEW_CONNECTED, &[], f64::from(u8::from(stats.connected)));
        sample.count(&metrics::VIEW_PENDING, &[], stats.pending);
        sample.count(&metrics::REDIS_ROUND_TRIPS, &[], stats.round_trips);
        sample.count(&metrics::REDIS_COMMANDS, &[], stats.commands);
        sample.count(&metrics::REDIS_BYTES, &[], stats.bytes);
        sample.add(&metrics::REDIS_SECONDS, &[], stats.busy.as_secs_f64());
        sample.count(&metrics::REDIS_RECONNECTS, &[], stats.connections.saturating_sub(1));
        sample.count(&metrics::REDIS_RECONCILIATIONS, &[], stats.reconciliations);
    }
}

impl Drop for RedisSink {
    /// The thread ends by itself as soon as it is not waiting for Redis.
    fn drop(&mut self) {
        let mut inbox = lock(&self.shared.inbox);
        inbox.closing = true;
        inbox.abandoned = true;
        drop(inbox);
        self.shared.woken.notify_one();
    }
}

struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(RedisError::Stopped("its thread broke one of storeflow's own promises; see above".to_owned()));
        }
        self.0.end();
    }
}
