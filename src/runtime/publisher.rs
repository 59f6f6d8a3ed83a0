//! The seam between what a worker has computed and what the world sees.
//!
//! A worker hands over [`Staged`] results whenever the frontier of the whole dataflow has passed an as-of. With checkpoints it
//! does so once the checkpoint of that as-of is committed (see [`super::durable`]), so the order of a commit is kept: state, manifest,
//! then view and history, then the marker. Without them (a replay that is measured) a run shows what it staged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use storeflow_dataflows::state::StateChange;
use storeflow_dataflows::table::{CellChange, HistoryRow, LateAdjustment, WindowExpiry};

use crate::observe::locked;
use crate::publish::dead_letters::DeadLetter;
use crate::publish::error::PublishError;
use crate::publish::history::{Batch, HistorySender};
use crate::publish::redis::RedisSink;
use crate::publish::view::MemoryView;

/// All that one worker has to show between two as-ofs, in the order of log time.
#[derive(Debug, Default)]
pub struct Staged {
    /// The as-of this leads to.
    pub as_of: u64,
    /// New values of cells.
    pub cells: Vec<CellChange>,
    /// Windows that leave the view.
    pub expiries: Vec<WindowExpiry>,
    /// Rows of epochs up to the as-of.
    pub history: Vec<HistoryRow>,
    /// Contributions to expired windows.
    pub late: Vec<LateAdjustment>,
    /// Records that could not be decoded.
    pub dead_letters: Vec<DeadLetter>,
    /// Changed state, for the checkpoint.
    pub state: Vec<StateChange>,
}

/// As-ofs up to which results are visible, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// In the history.
    pub history: u64,
    /// In the view.
    pub view: u64,
}

impl Shown {
    /// Nothing is waited for.
    pub const ALL: Shown = Shown { history: u64::MAX, view: u64::MAX };
}

/// Takes what workers have computed and shows it.
pub trait Publisher: Send + Sync {
    /// Takes one worker's results; each worker's as-ofs ascend.
    ///
    /// # Errors
    /// If they cannot be kept: the run must end.
    fn publish(&self, worker: usize, staged: Staged) -> Result<(), PublishError>;

    /// How far a worker's results are visible; asked often, so it must not wait.
    ///
    /// # Errors
    /// If they never will be: the run must end.
    fn shown(&self, _worker: usize) -> Result<Shown, PublishError> {
        Ok(Shown::ALL)
    }

    /// Every worker of every process has shown so much. Told to the leader's process, ascending.
    fn everywhere(&self, _shown: Shown) {}
}

/// The view in Redis, from when on it may be written.
#[derive(Default)]
enum Outside {
    /// There is none.
    #[default]
    None,
    /// What is known is older than what Redis may show already: it is opened once the view in memory is at this as-of. Until then
    /// it shows what was known at the start, or more.
    From(u64, Box<dyn FnOnce() -> Arc<RedisSink> + Send>),
    /// It is written.
    Open(Arc<RedisSink>),
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Outside::None => "none",
            Outside::From(..) => "waits",
            Outside::Open(_) => "open",
        })
    }
}

/// Publishes into the copies: the view in memory, history and dead letters in the store, and the view in Redis.
#[derive(Debug)]
pub struct Copies {
    view: Arc<MemoryView>,
    history: Option<HistorySender>,
    redis: Mutex<Outside>,
    /// Whether the outside is waited for: a replay of one process knows of its end by other means.
    waits: bool,
    /// As-of of the view in memory at the start, and from when on Redis may be written, here and in all other processes.
    loaded: u64,
    from: u64,
    published: AtomicU64,
    everywhere: Mutex<Shown>,
    impatient: AtomicBool,
}

impl Copies {
    /// A publisher into `view` and, if there is one, a history writer; without one, nothing is kept but the view.
    pub fn new(view: Arc<MemoryView>, history: Option<HistorySender>) -> Self {
        let (redis, published, everywhere, impatient) = Default::default();
        Copies { view, history, redis, waits: false, loaded: 0, from: 0, published, everywhere, impatient }
    }

    /// The same, and what is shown is what has arrived outside: in Redis as well, if there is an `open`, which is called once the view in
    /// memory is at `from`, now if it is there already.
    pub fn outside(self, from: u64, open: Option<impl FnOnce() -> Arc<RedisSink> + Send + 'static>) -> Self {
        let redis = open.map_or(Outside::None, |open| Outside::From(from, Box::new(open)));
        let copies = Copies { redis: Mutex::new(redis), waits: true, loaded: self.view.as_of(), from, ..self };
        copies.open_when_due(&mut locked(&copies.redis));
        copies
    }

    /// The view in Redis, once it is written.
    pub fn redis(&self) -> Option<Arc<RedisSink>> {
        match &*locked(&self.redis) {
            Outside::Open(redis) => Some(Arc::clone(redis)),
            Outside::None | Outside::From(..) => None,
        }
    }

    /// Opens Redis, if it is time. Whoever applies changes to the view holds the lock until they are sent, so none gets lost.
    fn open_when_due(&self, redis: &mut Outside) {
        *redis = match std::mem::take(redis) {
            Outside::From(from, open) if self.view.as_of() >= from => Outside::Open(open()),
            otherwise => otherwise,
        };
    }

    /// What every worker of every process has shown, if this is the leader's process.
    pub fn shown_everywhere(&self) -> Shown {
        *locked(&self.everywhere)
    }

    /// Waits for Redis no longer: what is not there now is missing until the next run.
    pub fn give_up(&self) {
        self.impatient.store(true, Ordering::Relaxed);
    }
}

impl Publisher for Copies {
    fn publish(&self, worker: usize, staged: Staged) -> Result<(), PublishError> {
        let Staged { as_of, mut cells, mut expiries, history: rows, late, dead_letters, state: _ } = staged;
        if let Some(history) = &self.history
            && !(rows.is_empty() && late.is_empty() && dead_letters.is_empty())
        {
            history.send(Batch { worker, rows, late, dead_letters })?;
        }
        let mut redis = locked(&self.redis);
        let changes = matches!(*redis, Outside::Open(_)).then(|| cells.clone());
        let expired = self.view.apply(worker, as_of, &mut cells, &mut expiries);
        match (&*redis, changes) {
            (Outside::Open(redis), Some(changes)) => redis.send(worker, as_of, changes, expired),
            (Outside::From(..), _) => self.open_when_due(&mut redis),
            _ => {}
        }
        drop(redis);
        // Whoever brings the last worker past an epoch lets its files be shown.
        let everyone = self.view.as_of();
        if let Some(history) = &self.history
            && self.published.fetch_max(everyone, Ordering::Relaxed) < everyone
        {
            history.publish(everyone)?;
        }
        Ok(())
    }

    fn shown(&self, worker: usize) -> Result<Shown, PublishError> {
        if let Some(failure) = self.redis().and_then(|redis| redis.failure()) {
            return Err(failure.into());
        }
        if self.history.as_ref().is_some_and(HistorySender::stopped) {
            return Err(PublishError::Stopped);
        }
        if !self.waits {
            return Ok(Shown::ALL);
        }
        let history = self.history.as_ref().map_or(u64::MAX, HistorySender::shown);
        let view = match &*locked(&self.redis) {
            _ if self.impatient.load(Ordering::Relaxed) => u64::MAX,
            Outside::None => u64::MAX,
            Outside::From(..) => self.loaded,
            Outside::Open(redis) => redis.shown(worker),
        };
        Ok(Shown { history, view })
    }

    fn everywhere(&self, shown: Shown) {
        *locked(&self.everywhere) = shown;
        // Until all processes write it, Redis shows what was there before, which may be more.
        if let Some(redis) = self.redis()
            && shown.view > 0
            && shown.view >= self.from
        {
            redis.mark(shown.view, false);
        }
    }
}
