//! The trace of a checkpoint: what of its time goes where.
//!
//! ```text
//! checkpoint ├───────────────────────────────────────────┤   from the cut until all is shown; the leader's process
//!   write       ├──┤ ├──┤                                    each worker's part, where it is written
//!   commit                 ├────┤
//!   show                         ├───────────────────────┤   from the commit until history and view show it everywhere
//! ```
//!
//! Upholds: what is left at the end of a run ends with it; without a collector there are no spans, and nothing here costs more than a
//! few words. In other processes than the leader's a worker's part is a trace of its own, with the same `number` and `as_of`.
//! Keeps: the spans of checkpoints that are not shown yet, [`OPEN_MAX`] at most: a view may be behind for long.

use std::collections::VecDeque;
use std::sync::Mutex;

use tracing::field::Empty;
use tracing::{Span, info_span};

use crate::observe::locked;
use crate::observe::otlp::CHECKPOINTS;
use crate::publish::time::instant;

/// Checkpoints that are waited for; of more, the oldest end without having been shown.
const OPEN_MAX: usize = 64;

/// Checkpoints that are not shown yet, the one under way last.
#[derive(Debug, Default)]
pub(super) struct CheckpointSpan(Mutex<VecDeque<Open>>);

#[derive(Debug)]
struct Open {
    as_of: u64,
    whole: Span,
    /// Since the commit.
    show: Option<Span>,
}

impl CheckpointSpan {
    /// The leader's process cuts at an as-of, unless it is at it.
    pub(super) fn cut(&self, as_of: u64) {
        let mut open = locked(&self.0);
        if open.back().is_some_and(|open| open.as_of == as_of && open.show.is_none()) {
            return;
        }
        let at = instant(as_of as i64);
        let whole = info_span!(target: CHECKPOINTS, "checkpoint", as_of = at, number = Empty, bytes = Empty, objects = Empty, workers = Empty);
        if open.len() == OPEN_MAX {
            open.pop_front();
        }
        open.push_back(Open { as_of, whole, show: None });
    }

    /// A worker's part is being written, until the span is dropped; record its `bytes`, if anything changed.
    pub(super) fn write(&self, number: u64, worker: usize, as_of: u64) -> Span {
        let whole = self.under_way();
        let (number, worker, as_of) = (number as i64, worker as i64, instant(as_of as i64).to_string());
        match whole {
            Some(whole) => {
                info_span!(target: CHECKPOINTS, parent: &whole, "checkpoint write", number, worker, as_of, bytes = Empty)
            }
            None => info_span!(target: CHECKPOINTS, "checkpoint write", number, worker, as_of, bytes = Empty),
        }
    }

    /// What all have written is being committed, until the span is dropped.
    pub(super) fn commit(&self) -> Span {
        match self.under_way() {
            Some(whole) => info_span!(target: CHECKPOINTS, parent: &whole, "checkpoint commit"),
            None => Span::none(),
        }
    }

    /// It is committed, as this number: so many bytes have changed, and all state is in so many objects.
    pub(super) fn committed(&self, number: u64, workers: usize, objects: usize, bytes: u64) {
        let mut open = locked(&self.0);
        if let Some(Open { whole, show, .. }) = open.back_mut().filter(|open| open.show.is_none()) {
            whole.record("number", number as i64);
            whole.record("workers", workers as i64);
            whole.record("objects", objects as i64);
            whole.record("bytes", bytes as i64);
            *show = Some(info_span!(target: CHECKPOINTS, parent: &*whole, "checkpoint show"));
        }
    }

    /// Everything up to an as-of that is committed is shown everywhere; `u64::MAX`: nothing is waited for any more.
    pub(super) fn shown(&self, as_of: u64) {
        locked(&self.0).retain(|open| open.as_of > as_of || (open.show.is_none() && as_of < u64::MAX));
    }

    fn under_way(&self) -> Option<Span> {
        locked(&self.0).back().filter(|open| open.show.is_none()).map(|open| open.whole.clone())
    }
}
