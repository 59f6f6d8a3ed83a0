//! One worker: builds the dataflow, steps it, hands over what the frontier has completed.
//!
//! ```text
//! dataflow ─► Stage ─► handover, per as-of ─► publisher ─ shown ─► Stage's capabilities ─ probes of all workers ─► everywhere
//!                          │                      ▲
//!                          └─ with checkpoints ─► durable (cut, write, commit)
//! ```
//!
//! Upholds: (1) what is handed over for an as-of is all of it, of this worker, and nothing beyond; (2) with checkpoints, it is shown
//! only once the checkpoint of that as-of is committed (see [`super::durable`]); (3) an as-of is called shown everywhere only when
//! timely's own progress says that every worker of every process has shown it; (4) the loop never waits on anything but
//! the dataflow itself (and a full history channel, which bounds memory).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use storeflow_dataflows::beginning::Beginning;
use storeflow_dataflows::counts::Counts;
use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::graph::{Inputs, Outputs, storeflow};
use storeflow_dataflows::stored::Keeps;
use storeflow_dataflows::table::Table;
use storeflow_dataflows::tally::{End, Published};
use storeflow_dataflows::tick::{Ladder, Pacemaker, Schedule};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::{Operator, OutputBuilder};
use timely::dataflow::operators::probe::{Handle, Probe};
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::operators::{Capability, Concat, InputCapability};
use timely::worker::Worker;

use super::checkpointer::Written;
use super::durable::{Durability, Durable, Gathered, Seen, WAITING_MAX, gather};
use super::latency::Latencies;
use super::publisher::{Publisher, Shown};
use super::stage::{CELL_BYTES, Reached, Stage, WRITTEN};
use super::stepped_back;
use super::workers::RunError;
use crate::config::{Job, Role, SourceSpec};
use crate::decode::lookup_key_prefix;
use crate::observe::{WorkerStats, wall_ms};
use crate::source::names::PartitionNames;
use crate::source::operator::{Control, Intake, Pace, ReadTimes, Records, Shelf, Speed, records};
use crate::source::partition::Feeds;

/// What a worker is given.
pub(super) struct Assignment {
    pub intake: Intake,
    pub schedule: Schedule,
    /// Decides changes of the tick, on one worker for all; `None` with a fixed tick.
    pub pacemaker: Option<Pacemaker>,
    pub align: u64,
    pub speed: Speed,
    /// Log time at which wall time starts.
    pub start: u64,
    /// Milliseconds of log time between as-ofs at least.
    pub frontier_step: u64,
    pub names: Arc<PartitionNames>,
    pub stats: Arc<WorkerStats>,
    pub measure_latency: bool,
    /// Set to end an input that goes on, by whoever; all workers of all processes follow.
    pub drain: Arc<AtomicBool>,
    /// What is known before the first record, and of which as-of it is.
    pub beginning: Beginning,
    pub origin: u64,
    pub durability: Option<Durability>,
    /// Workers of this process.
    pub workers: usize,
}

/// What it comes back with.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub as_of: u64,
    pub latencies: Latencies,
}

/// Longest a worker sleeps without being woken.
const PATIENCE: Duration = Duration::from_millis(20);

pub(super) fn work(
    worker: &mut Worker,
    job: &Job,
    assignment: Assignment,
    publisher: &dyn Publisher,
    stop: &dyn Fn() -> bool,
) -> Result<Outcome, RunError> {
    let Assignment { intake, schedule, pacemaker, align, speed, start, frontier_step, .. } = assignment;
    let Assignment { names, stats, measure_latency, drain, beginning, origin, durability, workers: workers_here, .. } =
        assignment;
    let Intake { partitions, arrivals } = intake;
    let going_on = arrivals.is_some();
    let schedule = Rc::new(RefCell::new(schedule));
    let pacemaker = pacemaker.filter(|_| worker.index() as u64 == LEADER);
    let clocks: Rc<RefCell<BTreeMap<usize, u64>>> = Rc::default();
    let (stop_reading, brake) = (Arc::clone(&drain), Rc::new(Cell::new(false)));
    let pace = Pace {
        schedule: Rc::clone(&schedule),
        clocks: Rc::clone(&clocks),
        stop: stop_reading,
        align,
        speed,
        start,
        origin,
        brake: Rc::clone(&brake),
    };
    let shelf = Rc::new(RefCell::new(Shelf::new(partitions, going_on || durability.is_some())));
    let names_here = Arc::clone(&names);
    let mut durable = durability.map(|durability| Durable::new(durability, worker.index(), worker.peers(), origin));
    let read_times: Option<ReadTimes> = measure_latency.then(Rc::default);
    let failure = Rc::new(RefCell::new(None));
    let (frontier, history_everywhere, view_everywhere) = (Handle::new(), Handle::new(), Handle::new());
    let (cut, committed, written) = (Handle::new(), Handle::new(), Rc::new(RefCell::new(Gathered::default())));
    let stage_activator = Rc::new(RefCell::new(None));
    let stage = Rc::new(RefCell::new(Stage::new(worker.index() as u64 == LEADER, durable.is_some())));
    let feeds: Vec<Feeds> = job.sources.iter().map(Feeds::of).collect();
    let dataflow = worker.next_dataflow_index();
    let counts: Vec<(&'static str, Rc<Counts>)> = worker.dataflow(|scope| {
        let read = records(
            scope,
            Rc::clone(&shelf),
            arrivals,
            &feeds,
            job.horizons,
            pace,
            frontier.clone(),
            Arc::clone(&stats),
            read_times.clone(),
            Rc::clone(&failure),
        );
        let Records { rows, referring, lookups, told, clicks, late_clicks, dead_letters, ends, volumes, controls } = read;
        let clicks = Some(clicks).filter(|_| feeds.contains(&Feeds::Clicks(None)));
        let lookups = lookups.map(|lookups| (lookups, keeps(job)));
        let inputs = Inputs { rows, referring, lookups, clicks, told, late_clicks, ends: ends.clone() };
        let Outputs { published, late, counts } = storeflow(inputs, beginning);

        let controls = announcements(volumes, pacemaker, going_on).concat(controls).broadcast();

        let mut builder = OperatorBuilder::new("Stage".to_owned(), scope);
        let mut published = builder.new_input(published, Pipeline);
        let mut late = builder.new_input(late.inner, Pipeline);
        let mut dead_letters = builder.new_input(dead_letters, Pipeline);
        let mut ends = builder.new_input(ends.broadcast(), Pipeline);
        let mut controls = builder.new_input(controls, Pipeline);
        let (_done, done_stream) = builder.new_output::<Vec<()>>();
        // What is said by capabilities must not depend on the inputs: a word that is said no more would be mistaken for one that is
        // said at the time of an input which a worker does not know to be over yet.
        let (_history_shown, history_shown) = builder.new_output_connection::<Vec<()>, _>([]);
        let (_view_shown, view_shown) = builder.new_output_connection::<Vec<()>, _>([]);
        let (written_out, written_stream) = builder.new_output_connection::<Vec<Written>, _>([]);
        let mut written_out: OutputBuilder<_, CapacityContainerBuilder<Vec<Written>>> = OutputBuilder::from(written_out);
        let (_cut, cut_stream) = builder.new_output_connection::<Vec<()>, _>([]);
        let (_committed, committed_stream) = builder.new_output_connection::<Vec<()>, _>([]);
        *stage_activator.borrow_mut() = Some(scope.activator_for(builder.operator_info().address));
        let (stage, drain) = (Rc::clone(&stage), Arc::clone(&drain));
        builder.build(move |mut capabilities| {
            // Each held until this worker has done what its stream tells of; the first tells nothing.
            let mut held: Vec<Option<Capability<u64>>> = capabilities.drain(..).skip(1).map(Some).collect();
            move |frontiers| {
                let mut stage = stage.borrow_mut();
                let stage = &mut *stage;
                published.for_each(|capability, batch| {
                    let staged = stage.open.entry(time_of(&capability)).or_default();
                    for one in batch.drain(..) {
                        match one {
                            Published::Cell(change) => {
                                stage.waiting += CELL_BYTES;
                                staged.cells.push(change);
                            }
                            Published::Expired(expiry) => staged.expiries.push(expiry),
                            Published::History(row) => staged.history.push(row),
                            Published::State(change) => {
                                stage.waiting += change.rows.bytes();
                                staged.state.push(change);
                            }
                        }
                    }
                });
                late.for_each(|capability, batch| {
                    let staged = stage.open.entry(time_of(&capability)).or_default();
                    staged.late.extend(batch.drain(..).map(|(late, _, _)| late));
                });
                dead_letters.for_each(|capability, batch| {
                    stage.open.entry(time_of(&capability)).or_default().dead_letters.append(batch);
                });
                ends.for_each(|_, batch| {
                    for end in batch.drain(..) {
                        stage.ending.add(end);
                        if matches!(end, End::Stopped(_)) {
                            drain.store(true, Ordering::Relaxed);
                        }
                    }
                });
                controls.for_each(|_, batch| {
                    for control in batch.drain(..) {
                        match control {
                            Control::Tick(from, step) => schedule.borrow_mut().announce(from, step),
                            Control::Clock(worker, time) => drop(clocks.borrow_mut().insert(worker, time)),
                            Control::Topic(number, name) => {
                                let known = names.register(&name);
                                assert_eq!(known, number, "the leader numbers topics for all, and called \"{name}\" so");
                            }
                        }
                    }
                });
                stage.changed = false;
                for (place, (held, reached)) in held.iter_mut().zip(stage.told.all()).enumerate() {
                    let Some(capability) = held else { continue };
                    if place == WRITTEN && !stage.outgoing.is_empty() {
                        written_out.activate().session(capability).give_iterator(stage.outgoing.drain(..));
                    }
                    match reached {
                        Reached::Over => *held = None,
                        Reached::At(time) if time > *capability.time() => capability.downgrade(&time),
                        Reached::At(_) => {}
                    }
                }
                stage.frontier = frontiers.iter().filter_map(|frontier| frontier.frontier().first().copied()).min();
            }
        });
        done_stream.probe_with(&frontier);
        history_shown.probe_with(&history_everywhere);
        view_shown.probe_with(&view_everywhere);
        cut_stream.probe_with(&cut);
        committed_stream.probe_with(&committed);
        gather(written_stream, LEADER, Rc::clone(&written));
        counts
    });

    let activator = stage_activator.borrow_mut().take();
    let mut handover = Handover::new(job.horizons, frontier_step, origin, read_times);
    let mut everywhere = Shown::default();
    let reached = |probe: &Handle<u64>| probe.with_frontier(|frontier| frontier.first().copied());
    loop {
        if stop() {
            worker.drop_dataflow(dataflow);
            return Ok(handover.outcome);
        }
        if let Some(error) = failure.borrow_mut().take() {
            worker.drop_dataflow(dataflow);
            return Err(error.into());
        }
        let more = worker.step_or_park(Some(PATIENCE));
        if let Some((of, back)) = counts.iter().find_map(|(of, counts)| Some((of, counts.stepped_back()?))) {
            worker.drop_dataflow(dataflow);
            return Err(stepped_back::error(of, &back, job, &names_here));
        }
        note(&counts, &stats);
        stats.stepped.set(wall_ms());
        let shown = (|| {
            let mut stage = stage.borrow_mut();
            let candidate = handover.candidate(&stage);
            let staged = match &mut durable {
                None => candidate.map(|as_of| stage.take(as_of)),
                Some(durable) => {
                    brake.set(stage.waiting > WAITING_MAX / workers_here);
                    let much = stage.waiting > WAITING_MAX / workers_here / 4;
                    let seen = Seen { cut: reached(&cut), committed: reached(&committed), history: everywhere.history, much };
                    durable.turn(worker.index(), &mut stage, &shelf, candidate, seen, &written)?
                }
            };
            drop(stage);
            if let Some(staged) = staged {
                let as_of = staged.as_of;
                publisher.publish(worker.index(), staged)?;
                handover.published(as_of);
                stats.as_of.set(as_of);
            }
            Ok::<Shown, RunError>(publisher.shown(worker.index())?)
        })();
        match shown {
            Ok(shown) => {
                let handed = handover.outcome.as_of;
                let mut stage = stage.borrow_mut();
                let shown = Shown { history: shown.history.min(handed), view: shown.view.min(handed) };
                let done = durable.as_ref().is_none_or(Durable::finished);
                let over = stage.frontier.is_none() && done && shown == Shown { history: handed, view: handed };
                if (shown, over) != (stage.shown, stage.over) {
                    (stage.shown, stage.over) = (shown, over);
                    let told = |at: u64| if over { Reached::Over } else { Reached::At(at) };
                    (stage.told.history, stage.told.view) = (told(shown.history), told(shown.view));
                    stage.changed = true;
                }
                if stage.changed {
                    activator.iter().for_each(|activator| activator.activate());
                }
            }
            Err(error) => {
                // A dataflow left behind would be stepped on, waiting for workers that have stopped.
                worker.drop_dataflow(dataflow);
                return Err(error);
            }
        }
        let end = handover.outcome.as_of;
        let now = Shown { history: reached(&history_everywhere).unwrap_or(end), view: reached(&view_everywhere).unwrap_or(end) };
        if now != everywhere {
            everywhere = now;
            let published = now.history.min(now.view);
            match &mut durable {
                Some(durable) => durable.shown_everywhere(published),
                None if going_on => {
                    for (partition, place) in shelf.borrow_mut().resume_at(published) {
                        partition.published_position.set(place.position);
                    }
                }
                None => {}
            }
            if worker.index() as u64 == LEADER {
                publisher.everywhere(now);
            }
        }
        reached(&frontier).iter().for_each(|frontier| stats.frontier.set(*frontier));
        if !more {
            return Ok(handover.outcome);
        }
    }
}

/// What operators have counted, for whoever watches.
fn note(counts: &[(&'static str, Rc<Counts>)], stats: &WorkerStats) {
    let sum = |of: &dyn Fn(&Counts) -> u64| counts.iter().map(|(_, counts)| of(counts)).sum::<u64>();
    let clicks = |name: &str| name == Table::StoreClicks.name();
    let part = |clicked: bool, of: fn(&Counts) -> u64| {
        counts.iter().filter(|(name, _)| clicks(name) == clicked).map(|(_, counts)| of(counts)).sum::<u64>()
    };
    stats.stale.set(sum(&|counts| counts.stale.get()));
    stats.entries.set(sum(&|counts| counts.entries.get()));
    stats.entry_bytes.set(sum(&|counts| counts.bytes.get()));
    stats.duplicate_clicks.set(sum(&|counts| counts.duplicates.get()));
    stats.waiting_rows.set(sum(&|counts| counts.waiting.get()));
    stats.row_corrections.set(part(false, |counts| counts.corrections.get()));
    stats.row_late.set(part(false, |counts| counts.late.get()));
    stats.told_corrections.set(part(true, |counts| counts.corrections.get()));
    stats.told_late.set(part(true, |counts| counts.late.get()));
    let since = counts.iter().map(|(_, counts)| counts.waiting_since.get()).filter(|since| *since > 0).min();
    stats.waiting_since.set(since.unwrap_or(0));
}

/// How long the rows of each lookup are kept, by what their keys begin with.
fn keeps(job: &Job) -> Keeps {
    let lookups = job.sources.iter().filter(|source| source.role == Role::Lookup);
    let keep = |source: &SourceSpec| {
        let name = source.name.as_deref().unwrap_or_default();
        (lookup_key_prefix(name).into_boxed_slice(), source.keep.unwrap_or(0))
    };
    lookups.map(keep).collect()
}

/// The one worker that decides for all.
pub(super) const LEADER: u64 = 0;

/// A job that goes on has ticks no longer than this share of how far it is behind wall time.
pub(super) const LAG_PER_TICK: u64 = 32;

/// Changes of the tick, decided on one worker from the volumes of all.
fn announcements<'scope>(
    volumes: StreamVec<'scope, u64, u64>,
    mut pacemaker: Option<Pacemaker>,
    going_on: bool,
) -> StreamVec<'scope, u64, Control> {
    volumes.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(Exchange::new(|_| LEADER), "Pacemaker", |held, _| {
        let mut held = Some(held);
        let mut ticks: BTreeMap<u64, u64> = BTreeMap::new();
        move |(input, frontier), output| {
            input.for_each(|capability, batch| *ticks.entry(time_of(&capability)).or_default() += batch.drain(..).sum::<u64>());
            let (Some(capability), Some(&frontier)) = (&mut held, frontier.frontier().first()) else {
                held = None;
                return;
            };
            let before = *capability.time();
            if frontier == before {
                return;
            }
            capability.downgrade(&frontier);
            let later = ticks.split_off(&frontier);
            let over = std::mem::replace(&mut ticks, later);
            // Ticks without records count as well: through a gap log time goes in large steps.
            let (tick, updates) = over.last_key_value().map_or((before, 0), |(tick, updates)| (*tick, *updates));
            let Some(pacemaker) = &mut pacemaker else { return };
            if going_on {
                pacemaker.limit(wall_ms().saturating_sub(frontier) / LAG_PER_TICK);
            }
            if let Some((from, step)) = pacemaker.decide(tick, updates, frontier) {
                output.session(&*capability).give(Control::Tick(from, step));
            }
        }
    })
}

/// The log time a batch was sent at.
fn time_of(capability: &InputCapability<u64>) -> u64 {
    *capability.least().expect("log times are never empty stamps")
}

/// Decides which as-ofs are handed over.
struct Handover {
    ladder: Ladder,
    step: u64,
    outcome: Outcome,
    read_times: Option<ReadTimes>,
}

impl Handover {
    fn new(horizons: Horizons, step: u64, origin: u64, read_times: Option<ReadTimes>) -> Self {
        let outcome = Outcome { as_of: origin, ..Outcome::default() };
        Handover { ladder: Ladder::new(horizons.window, horizons.grace), step, outcome, read_times }
    }

    /// The as-of to hand over next, if the frontier has reached another.
    fn candidate(&self, stage: &Stage) -> Option<u64> {
        let as_of = match stage.frontier {
            // A source that was told to stop holds the frontier no longer.
            Some(frontier) => self.ladder.floor(frontier.min(stage.ending.limit().unwrap_or(u64::MAX)), self.step),
            None => stage.ending.as_of(),
        };
        (as_of > self.outcome.as_of).then_some(as_of)
    }

    fn published(&mut self, as_of: u64) {
        self.outcome.as_of = as_of;
        let Some(times) = &self.read_times else { return };
        let mut times = times.borrow_mut();
        let later = times.split_off(&as_of);
        let now = Instant::now();
        for (read, records) in std::mem::replace(&mut *times, later).into_values().flatten() {
            self.outcome.latencies.add(now.duration_since(read), records);
        }
    }
}
