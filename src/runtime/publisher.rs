//! The seam between what a worker has computed and what the world sees.
//!
//! A worker hands over [`Staged`] results whenever the frontier of the whole dataflow has passed an as-of. The order of a
//! commit (state, manifest, then view and history, then the marker) is kept here: durable checkpoints come between
//! `stage` and `show` when they are built; until then a run shows what it staged, and a crashed run is never current.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use storeflow_dataflows::table::{CellChange, HistoryRow, LateAdjustment, WindowExpiry};

use crate::publish::dead_letters::DeadLetter;
use crate::publish::error::PublishError;
use crate::publish::history::{Batch, HistorySender};
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

/// Publishes into this process: the view in memory, history and dead letters in the data directory.
#[derive(Debug)]
pub struct Embedded {
    view: Arc<MemoryView>,
    history: Option<HistorySender>,
    shown: AtomicU64,
}

impl Embedded {
    /// A publisher into `view` and, if there is one, a history writer; without one, nothing is kept but the view.
    pub fn new(view: Arc<MemoryView>, history: Option<HistorySender>) -> Self {
        Embedded { view, history, shown: AtomicU64::new(0) }
    }
}

impl Publisher for Embedded {
    fn publish(&self, worker: usize, staged: Staged) -> Result<(), PublishError> {
        let Staged { as_of, mut cells, mut expiries, history: rows, late, dead_letters } = staged;
        if let Some(history) = &self.history
            && !(rows.is_empty() && late.is_empty() && dead_letters.is_empty())
        {
            history.send(Batch { worker, rows, late, dead_letters })?;
        }
        self.view.apply(worker, as_of, &mut cells, &mut expiries);
        // Whoever brings the last worker past an epoch lets its files be shown.
        let everyone = self.view.as_of();
        if let Some(history) = &self.history
            && self.shown.fetch_max(everyone, Ordering::Relaxed) < everyone
        {
            history.publish(everyone)?;
        }
        Ok(())
    }
}
