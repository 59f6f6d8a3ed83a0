//! The threads that write checkpoints, beside the workers of a process.
//!
//! ```text
//! workers ── write (changed state, positions, what to show) ──► objects ──► written
//! leader ─── commit (what all have written) ──────────────────► manifest ─► committed ─► collection
//!                                        chains of objects ◄──── merged ─── compaction thread
//! ```
//!
//! Upholds: (1) no worker waits for a store; (2) a worker's chain of objects, together with those of all others, is all of the
//! state; (3) the first failure is told to the next worker that asks, and nothing is written after it; (4) what a merge leaves is in
//! the store before a manifest names it, and its inputs until no kept manifest does.
//! Keeps: per worker the list of its objects.
//! Absent on purpose: any decision when to cut; see [`super::durable`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use storeflow_checkpoints::chain;
use storeflow_checkpoints::collect::Collector;
use storeflow_checkpoints::commit::{Cut, Writer};
use storeflow_checkpoints::log::Log;
use storeflow_checkpoints::manifest::{ClockAt, PartitionAt};
use storeflow_checkpoints::merge::merge;
use storeflow_checkpoints::names::StateName;
use storeflow_checkpoints::object::{self, Group, Object};
use storeflow_checkpoints::objects::Objects;
use storeflow_dataflows::beginning::Beginning;
use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::state::{Section, StateRow, StateRows};

use super::checkpoint_span::CheckpointSpan;
use super::publisher::Staged;
use super::workers::RunError;
use crate::observe::metrics::{self, Observed, Sample};
use crate::observe::{PartitionStats, locked, wall_ms};
use crate::publish::dead_letters::MadeBy;
use crate::publish::state_rows::{epoch_of, push_dead_letters, push_history, push_lates};
use crate::source::names::PartitionNames;
use crate::source::resume::Resume;

/// What a worker has written of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// What changed; `None`: nothing did.
    fresh: Option<Object>,
    /// All of the worker's state.
    chain: Vec<Object>,
    places: Vec<PartitionAt>,
    /// Its input has ended by itself.
    complete: bool,
}

/// What checkpoints of a run are made with.
pub struct Setting {
    /// Where they go.
    pub log: Log,
    /// The run's name.
    pub run: String,
    /// This process's workers, and how many there are over all processes.
    pub workers: Range<usize>,
    /// Over all processes.
    pub peers: usize,
    /// Number of the first checkpoint.
    pub number: u64,
    /// Objects that each of this process's workers goes on with.
    pub chains: Vec<Vec<Object>>,
    /// The job's lengths of time.
    pub horizons: Horizons,
    /// Who makes dead letters now.
    pub made_by: Arc<MadeBy>,
    /// The leader's: commits what all have written.
    pub leader: Option<Leader>,
}

/// What only the leader has.
pub struct Leader {
    /// Commits.
    pub writer: Writer,
    /// Deletes what is of no use any more.
    pub collector: Collector,
    /// The job's fingerprint.
    pub setting: serde_json::Value,
    /// Topics by number.
    pub names: Arc<PartitionNames>,
    /// Partitions that this run leaves out, where they would go on.
    pub left_out: Vec<PartitionAt>,
    /// Since when nothing was committed by this run: since it read the log.
    pub silence: Silence,
}

enum Message {
    Write { worker: usize, staged: Staged, places: Vec<(Arc<PartitionStats>, Resume)>, complete: bool },
    Commit { as_of: u64, written: Vec<Written> },
    Close,
}

/// What the threads share with the workers.
#[derive(Default)]
struct Shared {
    written: Mutex<BTreeMap<usize, (Written, Staged)>>,
    committed: AtomicBool,
    failure: Mutex<Option<RunError>>,
    counts: Mutex<Counts>,
    span: CheckpointSpan,
}

/// For whoever watches.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    commits: u64,
    committed_at: u64,
    bytes: u64,
    merged_bytes: u64,
    objects: u64,
    writing: Duration,
    merging: Duration,
}

/// The way to the threads.
pub struct Checkpointer {
    sender: Sender<Message>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Checkpointer {
    /// Starts the threads.
    ///
    /// # Errors
    /// If there can be no threads.
    pub fn start(setting: Setting) -> Result<Checkpointer, RunError> {
        let (sender, receiver) = channel();
        let shared: Arc<Shared> = Arc::default();
        let no_thread = |error| RunError::Workers(format!("could not start a thread for checkpoints: {error}"));
        let (merges, merge_jobs) = channel::<Merge>();
        let (merged_sender, merged) = channel();
        let (objects, counts) = (Arc::clone(setting.log.objects()), Arc::clone(&shared));
        let compaction = move || compact(&*objects, &merge_jobs, &merged_sender, &counts);
        let compaction = std::thread::Builder::new().name("compaction".to_owned()).spawn(compaction).map_err(no_thread)?;
        let thread_shared = Arc::clone(&shared);
        let run = move || {
            let chains = setting.workers.clone().zip(setting.chains.iter().cloned()).collect();
            let number = setting.number;
            let writing = BTreeSet::new();
            let shared = thread_shared;
            let _told = Broken(Arc::clone(&shared));
            Thread { setting, chains, number, writing, merging: BTreeSet::new(), merges, merged, shared }.run(&receiver);
            drop(compaction.join());
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(run).map_err(no_thread)?;
        Ok(Checkpointer { sender, shared, thread: Mutex::new(Some(thread)) })
    }

    /// Takes a worker's part of the next checkpoint; [`Checkpointer::written`] says when it is in the store.
    ///
    /// # Errors
    /// What went wrong before.
    pub fn write(
        &self,
        worker: usize,
        staged: Staged,
        places: Vec<(Arc<PartitionStats>, Resume)>,
        complete: bool,
    ) -> Result<(), RunError> {
        self.send(Message::Write { worker, staged, places, complete })
    }

    /// What a worker has written, once it is, with what is to be shown once it is committed.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn written(&self, worker: usize) -> Result<Option<(Written, Staged)>, RunError> {
        self.check()?;
        Ok(locked(&self.shared.written).remove(&worker))
    }

    /// The leader's: commits what all workers have written; [`Checkpointer::committed`] says when it is.
    ///
    /// # Errors
    /// What went wrong before.
    pub fn commit(&self, as_of: u64, written: Vec<Written>) -> Result<(), RunError> {
        self.send(Message::Commit { as_of, written })
    }

    /// Whether what was to be committed now is; says so once.
    ///
    /// # Errors
    /// If it could not be committed.
    pub fn committed(&self) -> Result<bool, RunError> {
        self.check()?;
        Ok(self.shared.committed.swap(false, Ordering::AcqRel))
    }

    /// The leader's: a checkpoint as of this begins.
    pub fn cut(&self, as_of: u64) {
        self.shared.span.cut(as_of);
    }

    /// Everything up to an as-of is shown everywhere; `u64::MAX`: nothing is waited for any more.
    pub fn shown(&self, as_of: u64) {
        self.shared.span.shown(as_of);
    }

    /// Ends the threads; what they are at is done first.
    pub fn close(&self) {
        let _ = self.sender.send(Message::Close);
        if let Some(thread) = locked(&self.thread).take() {
            drop(thread.join());
        }
        self.shown(u64::MAX);
    }

    fn send(&self, message: Message) -> Result<(), RunError> {
        self.check()?;
        self.sender.send(message).map_err(|_| RunError::Workers("the thread that writes checkpoints has ended".to_owned()))
    }

    fn check(&self) -> Result<(), RunError> {
        locked(&self.shared.failure).take().map_or(Ok(()), Err)
    }
}

impl Observed for Checkpointer {
    fn collect(&self, sample: &mut Sample) {
        let counts = *locked(&self.shared.counts);
        sample.count(&metrics::CHECKPOINTS, &[], counts.commits);
        sample.count(&metrics::CHECKPOINT_BYTES, &[], counts.bytes);
        sample.count(&metrics::CHECKPOINT_MERGED_BYTES, &[], counts.merged_bytes);
        sample.count(&metrics::CHECKPOINT_OBJECTS, &[], counts.objects);
        sample.add(&metrics::CHECKPOINT_SECONDS, &[], counts.writing.as_secs_f64());
        sample.add(&metrics::CHECKPOINT_MERGE_SECONDS, &[], counts.merging.as_secs_f64());
        if counts.committed_at > 0 {
            sample.add(&metrics::CHECKPOINT_AGE, &[], wall_ms().saturating_sub(counts.committed_at) as f64 / 1_000.0);
        }
    }
}

/// Objects that are to become one.
struct Merge {
    worker: usize,
    inputs: Vec<Object>,
    key: String,
    group: Group,
    horizons: Horizons,
    /// Nothing older is left: what is forgotten may go.
    from_the_oldest: bool,
}

/// What became of it.
struct Merged {
    worker: usize,
    inputs: Vec<Object>,
    output: Object,
}

/// How long nothing was committed, by whichever clock says more: one goes on while the machine sleeps, the other cannot be set.
pub struct Silence {
    since: Instant,
    wall: u64,
}

impl Default for Silence {
    fn default() -> Silence {
        Silence::new()
    }
}

impl Silence {
    /// From now on.
    pub fn new() -> Silence {
        Silence { since: Instant::now(), wall: wall_ms() }
    }

    fn length(&self) -> Duration {
        self.since.elapsed().max(Duration::from_millis(wall_ms().saturating_sub(self.wall)))
    }
}

/// Tells the workers if the thread breaks one of storeflow's own promises; they would wait for it for ever.
struct Broken(Arc<Shared>);

impl Drop for Broken {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = "the thread that writes checkpoints broke one of storeflow's own promises and was ended; see above";
            *locked(&self.0.failure) = Some(RunError::Workers(text.to_owned()));
        }
    }
}

/// The thread that writes and commits.
struct Thread {
    setting: Setting,
    chains: BTreeMap<usize, Vec<Object>>,
    number: u64,
    /// Workers that have written their part of the checkpoint under way.
    writing: BTreeSet<usize>,
    /// Workers of which something is being merged, and the number of merges so far.
    merging: BTreeSet<usize>,
    merges: Sender<Merge>,
    merged: Receiver<Merged>,
    shared: Arc<Shared>,
}

impl Thread {
    fn run(mut self, receiver: &Receiver<Message>) {
        for message in receiver {
            let began = Instant::now();
            let done = match message {
                Message::Write { worker, staged, places, complete } => self.write(worker, staged, &places, complete),
                Message::Commit { as_of, written } => self.commit(as_of, written),
                Message::Close => return,
            };
            locked(&self.shared.counts).writing += began.elapsed();
            if let Err(error) = done {
                *locked(&self.shared.failure) = Some(error);
                return;
            }
        }
    }

    fn write(
        &mut self,
        worker: usize,
        mut staged: Staged,
        places: &[(Arc<PartitionStats>, Resume)],
        complete: bool,
    ) -> Result<(), RunError> {
        // Every worker writes once per checkpoint: whoever writes again begins the next.
        if !self.writing.insert(worker) {
            self.number += 1;
            self.writing = BTreeSet::from([worker]);
        }
        if self.setting.leader.is_some() {
            // The end is announced by nobody: whoever is there first begins it.
            self.shared.span.cut(staged.as_of);
        }
        let span = self.shared.span.write(self.number, worker, staged.as_of);
        let group = Group { index: worker, of: self.setting.peers };
        let sections = sections(worker, &self.setting.made_by, &mut staged);
        let mut fresh = None;
        if !sections.is_empty() {
            let name = StateName { number: self.number, group, merged: None, run: &self.setting.run };
            let (objects, key) = (self.setting.log.objects(), name.key(self.setting.log.prefix()));
            let object = object::write(&**objects, &key, staged.as_of, group, &sections)?;
            span.record("bytes", object.bytes as i64);
            fresh = Some(object);
        }
        drop(span);
        for Merged { worker, inputs, output } in self.merged.try_iter() {
            self.merging.remove(&worker);
            if let Some(chain) = self.chains.get_mut(&worker)
                && let Some(at) = chain.iter().position(|object| *object == inputs[0])
            {
                chain.splice(at..at + inputs.len(), [output]);
            }
        }
        let chain = self.chains.entry(worker).or_default();
        chain.extend(fresh.iter().cloned());
        let mut counts = locked(&self.shared.counts);
        counts.bytes += fresh.as_ref().map_or(0, |object| object.bytes);
        drop(counts);
        let written = Written { fresh, chain: chain.clone(), places: places.iter().map(place).collect(), complete };
        if !self.merging.contains(&worker)
            && let Some(range) = chain::plan(chain, group)
        {
            let inputs = chain[range.clone()].to_vec();
            // Named after the last of what it holds, so no two merges of a worker have one name.
            let name = StateName { number: self.number + 1, group, merged: Some(self.number), run: &self.setting.run };
            let key = name.key(self.setting.log.prefix());
            let horizons = self.setting.horizons;
            let merge = Merge { worker, inputs, key, group, horizons, from_the_oldest: range.start == 0 };
            self.merging.insert(worker);
            // Without that thread nothing is merged any more; it has said why.
            let _ = self.merges.send(merge);
        }
        locked(&self.shared.counts).objects = self.chains.values().map(|chain| chain.len() as u64).sum();
        locked(&self.shared.written).insert(worker, (written, staged));
        Ok(())
    }

    fn commit(&mut self, as_of: u64, written: Vec<Written>) -> Result<(), RunError> {
        let Some(Leader { writer, collector, setting, names, left_out, silence }) = &mut self.setting.leader else {
            return Ok(());
        };
        let (mut partitions, mut state, mut fresh) = (left_out.clone(), BTreeMap::new(), Vec::new());
        let (workers, complete) = (written.len(), written.iter().all(|written| written.complete));
        for Written { fresh: own, chain, places, .. } in written {
            fresh.extend(own);
            partitions.extend(places);
            // After a rescale several workers go on with parts of one object.
            state.extend(chain.into_iter().map(|object| ((object.through, object.key.clone(), object.group), object)));
        }
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let (bytes, objects) = (fresh.iter().map(|object| object.bytes).sum(), state.len());
        let cut = Cut {
            as_of,
            written_at: wall_ms(),
            complete,
            workers,
            setting: setting.clone(),
            topics: names.topics(),
            partitions,
            state: state.into_values().collect(),
            fresh,
        };
        let span = self.shared.span.commit();
        let read = writer.commit(cut, silence.length())?;
        drop(span);
        self.shared.span.committed(read.manifest.number, workers, objects, bytes);
        *silence = Silence::new();
        let mut counts = locked(&self.shared.counts);
        (counts.commits, counts.committed_at) = (counts.commits + 1, wall_ms());
        drop(counts);
        self.shared.committed.store(true, Ordering::Release);
        // What could not be deleted now is deleted after a later commit.
        if let Err(error) = collector.collect(&read, wall_ms()) {
            tracing::warn!(%error, "could not delete what no checkpoint needs any more");
        }
        Ok(())
    }
}

/// What changed and what is to be shown, by section.
fn sections(worker: usize, made_by: &MadeBy, staged: &mut Staged) -> BTreeMap<Section, Vec<StateRows>> {
    let mut sections: BTreeMap<Section, Vec<StateRows>> = BTreeMap::new();
    for change in staged.state.drain(..) {
        sections.entry(change.section).or_default().push(change.rows);
    }
    let (mut history, mut late, mut letters) = (StateRows::default(), StateRows::default(), StateRows::default());
    staged.history.iter().for_each(|row| push_history(row, &mut history));
    push_lates(&staged.late, worker, &mut late);
    push_dead_letters(&staged.dead_letters, worker, made_by, &mut letters);
    for (section, rows) in [(Section::History, history), (Section::Late, late), (Section::DeadLetters, letters)] {
        if !rows.is_empty() {
            sections.insert(section, vec![rows]);
        }
    }
    sections
}

fn place((of, place): &(Arc<PartitionStats>, Resume)) -> PartitionAt {
    let clock = place.clock.map(|clock| {
        let (now, pending, pending_least, jumps) = clock.parts();
        ClockAt { now, pending, pending_least, jumps }
    });
    PartitionAt { topic: of.topic.clone(), partition: of.partition, position: place.position, clock }
}

/// The thread that merges.
fn compact(objects: &dyn Objects, jobs: &Receiver<Merge>, merged: &Sender<Merged>, shared: &Shared) {
    for Merge { worker, inputs, key, group, horizons, from_the_oldest } in jobs {
        let began = Instant::now();
        let through = inputs.last().map_or(0, |object| object.through);
        let keep = |section: Section, row: StateRow<'_>| match section {
            // Shown with the checkpoint that brought it.
            Section::History => false,
            Section::Late | Section::DeadLetters => epoch_of(row, &horizons) > through,
            section => !from_the_oldest || Beginning::keeps(section, row, &horizons, through),
        };
        match merge(objects, &inputs, &key, group, &keep) {
            Ok(output) => {
                let mut counts = locked(&shared.counts);
                counts.merged_bytes += output.bytes;
                counts.merging += began.elapsed();
                drop(counts);
                if merged.send(Merged { worker, inputs, output }).is_err() {
                    return;
                }
            }
            // The run has all of it in memory; what is merged no more only takes longer to load.
            Err(error) => tracing::error!(worker, %error, "could not merge state; this worker's objects are merged no more"),
        }
    }
}
