//! One worker's part in checkpoints: where to cut, whether all have written, whether it is committed.
//!
//! ```text
//! leader: cut at T ─► every worker, once its frontier is there: changed state, positions, what is to be shown ─► object
//!           ▲                                                                                                      │ written
//!           └── next, once shown ◄── all: show up to T ◄── committed ◄── manifest ◄── leader: all have written ◄───┘
//! ```
//!
//! The three words `cut`, `written` and `committed` are said by capabilities: whoever looks at the probe of such a stream sees how far
//! *all* who hold one have come, in every process, by timely's own progress. No message can be lost, nor overtake what it speaks of.
//!
//! Upholds: (1) all workers cut at the same as-ofs; (2) a checkpoint is committed only when every worker's object is in the
//! store, and shown only when it is committed; (3) the next is cut only when the history of the one before is shown, so
//! that a restart never has more than one to repeat; (4) an input that ends leaves a checkpoint of its end, but none older than
//! what is committed.
//! Keeps: of the cut under way, what is to be shown.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use super::checkpointer::{Checkpointer, Written};
use super::publisher::Staged;
use super::stage::{Reached, Stage, Told};
use super::workers::RunError;
use crate::observe::PartitionStats;
use crate::source::operator::Shelf;

/// Where checkpoints go, and how often.
#[derive(Clone)]
pub struct Durability {
    /// Who writes and commits them.
    pub checkpoints: Arc<Checkpointer>,
    /// From one cut to the next, at least.
    pub every: Duration,
    /// No cut before this as-of: an earlier run has committed it, and this one is still making up for what was lost.
    pub not_before: u64,
}

/// What may wait for a checkpoint, bytes over all workers of a process; beyond, nothing more is read. The leader cuts when a quarter of its
/// share waits.
pub(super) const WAITING_MAX: usize = 256 << 20;

/// What a worker's loop keeps of checkpoints.
pub(super) struct Durable {
    durability: Durability,
    leader: bool,
    peers: usize,
    /// Of the last cut announced, by the leader.
    announced: u64,
    announced_at: Instant,
    /// A commit was asked for, and is under way.
    committing: bool,
    cutting: Option<Cutting>,
    /// As-of of the last cut that was committed.
    reached: u64,
    /// The cut at the end is committed, or none is needed.
    finished: bool,
    /// Of each cut not yet shown everywhere, where its partitions go on.
    positions: VecDeque<(u64, Positions)>,
}

/// Where partitions go on.
type Positions = Vec<(Arc<PartitionStats>, u64)>;

/// A cut under way.
struct Cutting {
    as_of: u64,
    last: bool,
    /// What is to be shown, once the object is in the store.
    staged: Option<Staged>,
}

/// What the probes say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The cut announced last; `None`: no more will be.
    pub cut: Option<u64>,
    /// The cut committed last; `None`: all are.
    pub committed: Option<u64>,
    /// The as-of up to which all history is shown.
    pub history: u64,
    /// So much waits for the next cut that it should not be waited for: a job that catches up.
    pub much: bool,
}

impl Durable {
    pub(super) fn new(durability: Durability, index: usize, peers: usize, origin: u64) -> Durable {
        Durable {
            durability,
            leader: index as u64 == super::worker::LEADER,
            peers,
            announced: origin,
            announced_at: Instant::now(),
            committing: false,
            cutting: None,
            reached: origin,
            finished: false,
            positions: VecDeque::new(),
        }
    }

    /// The cut at the end is committed and handed out.
    pub(super) fn finished(&self) -> bool {
        self.finished
    }

    /// Does what can be done now. Gives what is to be shown, when it is.
    pub(super) fn turn(
        &mut self,
        worker: usize,
        stage: &mut Stage,
        shelf: &RefCell<Shelf>,
        candidate: Option<u64>,
        seen: Seen,
        gathered: &RefCell<Gathered>,
    ) -> Result<Option<Staged>, RunError> {
        if self.leader {
            self.lead(stage, candidate, seen, gathered)?;
        }
        if self.cutting.is_none() && !self.finished {
            self.begin(worker, stage, shelf, seen)?;
        }
        let Some(cutting) = &mut self.cutting else { return Ok(None) };
        if cutting.staged.is_none() {
            let Some((written, staged)) = self.durability.checkpoints.written(worker)? else { return Ok(None) };
            cutting.staged = Some(staged);
            stage.outgoing.push(written);
            stage.told.written = if cutting.last { Reached::Over } else { Reached::At(cutting.as_of) };
            stage.changed = true;
        }
        let committed = match seen.committed {
            Some(committed) => committed >= cutting.as_of && !cutting.last,
            None => true,
        };
        if !committed {
            return Ok(None);
        }
        self.reached = cutting.as_of;
        self.finished = cutting.last;
        Ok(self.cutting.take().and_then(|cutting| cutting.staged))
    }

    /// Cuts, if a cut was announced or the input has ended, and everything before it has arrived.
    fn begin(&mut self, worker: usize, stage: &mut Stage, shelf: &RefCell<Shelf>, seen: Seen) -> Result<(), RunError> {
        let announced = seen.cut.filter(|cut| *cut > self.reached);
        let (as_of, last) = match (announced, stage.frontier) {
            (Some(cut), Some(frontier)) if frontier >= cut => (cut, false),
            (Some(cut), None) => (cut, false),
            // Stopped while it makes up for what was lost: what it has is older than what is committed.
            (None, None) if seen.cut.is_none() && stage.ending.as_of() < self.durability.not_before => {
                (stage.told.written, stage.told.committed) = (Reached::Over, Reached::Over);
                (stage.changed, self.finished) = (true, true);
                return Ok(());
            }
            // Everybody knows the end, and nobody announces it.
            (None, None) if seen.cut.is_none() => (stage.ending.as_of().max(self.reached), true),
            _ => return Ok(()),
        };
        let staged = stage.take(as_of);
        let places = shelf.borrow_mut().resume_at(as_of);
        self.positions.push_back((as_of, places.iter().map(|(of, place)| (Arc::clone(of), place.position)).collect()));
        let complete = last && stage.ending.limit().is_none();
        self.durability.checkpoints.write(worker, staged, places, complete)?;
        self.cutting = Some(Cutting { as_of, last, staged: None });
        Ok(())
    }

    /// The leader's part: announces cuts, and commits them.
    fn lead(
        &mut self,
        stage: &mut Stage,
        candidate: Option<u64>,
        seen: Seen,
        gathered: &RefCell<Gathered>,
    ) -> Result<(), RunError> {
        let Told { cut, committed, .. } = &mut stage.told;
        if self.committing {
            if !self.durability.checkpoints.committed()? {
                return Ok(());
            }
            self.committing = false;
            let last = self.cutting.as_ref().is_some_and(|cutting| cutting.last);
            *committed = if last { Reached::Over } else { Reached::At(self.announced) };
            stage.changed = true;
            return Ok(());
        }
        let mut gathered = gathered.borrow_mut();
        if let Some(cutting) = &self.cutting {
            // All have said that they have written, when nobody can say so at an earlier time any more.
            if gathered.frontier.is_none_or(|frontier| !cutting.last && frontier >= cutting.as_of) && !gathered.written.is_empty()
            {
                let written = std::mem::take(&mut gathered.written);
                assert_eq!(written.len(), self.peers, "every worker writes its part of a checkpoint once");
                self.announced = cutting.as_of;
                self.durability.checkpoints.commit(cutting.as_of, written)?;
                self.committing = true;
            }
            return Ok(());
        }
        // A restart shows again what the newest checkpoint brought, and nothing older.
        let idle = self.announced == self.reached && seen.history >= self.reached;
        match (candidate, stage.frontier) {
            (_, None) if idle && *cut != Reached::Over => {
                *cut = Reached::Over;
                stage.changed = true;
            }
            (Some(candidate), Some(_))
                if idle
                    && candidate > self.announced
                    && candidate >= self.durability.not_before
                    && (seen.much || self.announced_at.elapsed() >= self.durability.every) =>
            {
                (self.announced, self.announced_at) = (candidate, Instant::now());
                self.durability.checkpoints.cut(candidate);
                *cut = Reached::At(candidate);
                stage.changed = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Everything up to an as-of is shown everywhere: positions up to there may be told.
    pub(super) fn shown_everywhere(&mut self, as_of: u64) {
        if self.leader {
            self.durability.checkpoints.shown(as_of);
        }
        while let Some((_, places)) = self.positions.pop_front_if(|(of, _)| *of <= as_of) {
            for (partition, position) in places {
                partition.published_position.set(position);
            }
        }
    }
}

/// What the leader was told by all workers.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    written: Vec<Written>,
    /// Nobody says anything before this time any more; `None`: at all.
    frontier: Option<u64>,
}

/// Brings to one worker what all have written.
pub(super) fn gather(written: StreamVec<'_, u64, Written>, leader: u64, gathered: Rc<RefCell<Gathered>>) {
    gathered.borrow_mut().frontier = Some(0);
    written.sink(Exchange::new(move |_| leader), "Written", move |(input, frontier)| {
        let mut gathered = gathered.borrow_mut();
        input.for_each(|_, batch| gathered.written.append(batch));
        gathered.frontier = frontier.frontier().first().copied();
    });
}

#[cfg(test)]
mod tests {
    use storeflow_checkpoints::log::Log;
    use storeflow_dataflows::epoch::{Before, Horizons};

    use super::*;
    use crate::runtime::checkpointer::Setting;
    use crate::store::Store;

    /// A leader that goes on from a checkpoint as of 1000, and what it tells when so much history is shown.
    fn told(frontier: Option<u64>, candidate: Option<u64>, history: u64) -> Reached {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::folder(folder.path()).expect("a store");
        let horizons = Horizons { window: 60_000, grace: 0, retention: 60_000, replay_horizon: 0, before: Before::NOTHING };
        let (log, run, made_by) = (Log::open(Arc::new(store), "p", "job", 1), "run".to_owned(), Arc::default());
        let setting =
            Setting { log, run, workers: 0..1, peers: 1, number: 2, chains: vec![vec![]], horizons, leader: None, made_by };
        let checkpoints = Arc::new(Checkpointer::start(setting).expect("threads"));
        let durability = Durability { checkpoints: Arc::clone(&checkpoints), every: Duration::ZERO, not_before: 0 };
        let (mut durable, mut stage) = (Durable::new(durability, 0, 1, 1_000), Stage::new(true, true));
        stage.frontier = frontier;
        let seen = Seen { cut: Some(0), committed: Some(0), history, much: true };
        durable.lead(&mut stage, candidate, seen, &RefCell::default()).expect("nothing fails");
        checkpoints.close();
        stage.told.cut
    }

    #[test]
    fn no_cut_follows_one_whose_history_is_not_shown_not_even_the_last() {
        for (frontier, candidate, then) in [(Some(2_000), Some(2_000), Reached::At(2_000)), (None, Some(2_000), Reached::Over)] {
            assert_eq!(told(frontier, candidate, 999), Reached::At(0));
            assert_eq!(told(frontier, candidate, 1_000), then);
        }
    }
}
