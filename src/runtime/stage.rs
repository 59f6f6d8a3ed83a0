//! What a worker's dataflow has computed and not yet handed over, and what the worker tells all others.
//!
//! Upholds: what is taken for an as-of is all that arrived for times before it.

use std::collections::BTreeMap;

use storeflow_dataflows::table::CellChange;
use storeflow_dataflows::tally::Ending;

use super::checkpointer::Written;
use super::publisher::{Shown, Staged};

/// How far a worker has come with something that it tells all others, by a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// So far, milliseconds of log time.
    At(u64),
    /// To the end, or it is not for this worker to say.
    Over,
}

/// What a worker tells all others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub history: Reached,
    pub view: Reached,
    pub written: Reached,
    /// The leader alone.
    pub cut: Reached,
    /// The leader alone.
    pub committed: Reached,
}

impl Told {
    /// In the order of the stage's outputs.
    pub(super) fn all(&self) -> [Reached; 5] {
        [self.history, self.view, self.written, self.cut, self.committed]
    }
}

/// The place of [`Told::written`] among all.
pub(super) const WRITTEN: usize = 2;

/// Bytes of a changed cell that waits.
pub(super) const CELL_BYTES: usize = size_of::<CellChange>();

/// What has arrived, by the log time after which it shows.
pub(super) struct Stage {
    pub open: BTreeMap<u64, Staged>,
    /// Bytes in `open`, of changed state and of changed cells.
    pub waiting: usize,
    pub frontier: Option<u64>,
    pub ending: Ending,
    pub shown: Shown,
    /// Everything has arrived, was handed over and is shown.
    pub over: bool,
    pub told: Told,
    /// To be sent before the next word about what was written.
    pub outgoing: Vec<Written>,
    /// Something is to be told.
    pub changed: bool,
}

impl Stage {
    /// Nothing yet. `durable`: there are checkpoints.
    pub(super) fn new(leader: bool, durable: bool) -> Self {
        let at = Reached::At(0);
        let of = |says: bool| if says { at } else { Reached::Over };
        let told =
            Told { history: at, view: at, written: of(durable), cut: of(durable && leader), committed: of(durable && leader) };
        let (open, ending, shown, outgoing) = Default::default();
        Stage { open, waiting: 0, frontier: Some(0), ending, shown, over: false, told, outgoing, changed: false }
    }

    /// Takes all that shows at an as-of.
    pub(super) fn take(&mut self, as_of: u64) -> Staged {
        let later = self.open.split_off(&as_of);
        let mut all = Staged { as_of, ..Staged::default() };
        let due = std::mem::replace(&mut self.open, later);
        if due.len() > 1 {
            all.cells.reserve_exact(due.values().map(|staged| staged.cells.len()).sum());
        }
        for (_, staged) in due {
            let Staged { as_of: _, cells, expiries, history, late, dead_letters, state } = staged;
            append(&mut all.cells, cells);
            append(&mut all.expiries, expiries);
            append(&mut all.history, history);
            append(&mut all.late, late);
            append(&mut all.dead_letters, dead_letters);
            append(&mut all.state, state);
        }
        self.waiting -= all.state.iter().map(|change| change.rows.bytes()).sum::<usize>() + all.cells.len() * CELL_BYTES;
        all
    }
}

fn append<T>(all: &mut Vec<T>, mut more: Vec<T>) {
    if all.capacity() == 0 { *all = more } else { all.append(&mut more) }
}
