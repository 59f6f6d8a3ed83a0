//! One worker: builds the dataflow, steps it, hands over what the frontier has completed.
//!
//! Upholds: what is handed over for an as-of is all of it, of this worker, and nothing beyond; the loop never waits on
//! anything but the dataflow itself (and a full history channel, which bounds memory).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::graph::{Inputs, Outputs, storeflow};
use storeflow_dataflows::latest::Counts;
use storeflow_dataflows::table::Table;
use storeflow_dataflows::tally::{Published, end_as_of};
use storeflow_dataflows::tick::{Ladder, Pacemaker, Schedule};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::InputCapability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::{Operator, OutputBuilder};
use timely::dataflow::operators::probe::{Handle, Probe};
use timely::dataflow::operators::vec::Broadcast;
use timely::worker::Worker;

use super::latency::Latencies;
use super::publisher::{Publisher, Staged};
use super::replay::RunError;
use crate::config::{Job, Role};
use crate::observe::WorkerStats;
use crate::source::operator::{Pace, ReadTimes, Records, Speed, records};
use crate::source::partition::Partition;

/// What a worker is given.
pub(super) struct Assignment {
    pub partitions: Vec<Partition>,
    pub schedule: Schedule,
    /// Decides changes of the tick, on one worker for all; `None` with a fixed tick.
    pub pacemaker: Option<Pacemaker>,
    pub align: u64,
    pub speed: Speed,
    /// Log time at which wall time starts.
    pub start: u64,
    /// Milliseconds of log time between as-ofs at least.
    pub frontier_step: u64,
    pub stats: Arc<WorkerStats>,
    pub measure_latency: bool,
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
    let Assignment { partitions, schedule, pacemaker, align, speed, start, frontier_step, stats, measure_latency } = assignment;
    let schedule = Rc::new(RefCell::new(schedule));
    let pacemaker = pacemaker.filter(|_| worker.index() as u64 == LEADER);
    let pace = Pace { schedule: Rc::clone(&schedule), align, speed, start };
    let read_times: Option<ReadTimes> = measure_latency.then(Rc::default);
    let failure = Rc::new(RefCell::new(None));
    let frontier = Handle::new();
    let stage = Rc::new(RefCell::new(Stage::default()));
    let has = |role: Role| job.sources.iter().any(|source| source.role == role);
    let dataflow = worker.next_dataflow_index();
    let counts: Vec<(Table, Rc<Counts>)> = worker.dataflow(|scope| {
        let read = records(
            scope,
            partitions,
            job.horizons,
            pace,
            frontier.clone(),
            Arc::clone(&stats),
            read_times.clone(),
            Rc::clone(&failure),
        );
        let Records { changes: [payments, order_items, products], clicks, late_clicks, dead_letters, ends, volumes } = read;
        let inputs = Inputs {
            payments: has(Role::Payments).then_some(payments),
            order_items: has(Role::OrderItems).then_some(order_items),
            products: has(Role::Products).then_some(products),
            clicks: has(Role::Clicks).then_some(clicks),
            late_clicks,
            ends: ends.clone(),
        };
        let Outputs { published, late, counts } = storeflow(inputs, job.horizons);

        let announcements = announcements(volumes, pacemaker);

        let mut builder = OperatorBuilder::new("Stage".to_owned(), scope);
        let mut published = builder.new_input(published, Pipeline);
        let mut late = builder.new_input(late.inner, Pipeline);
        let mut dead_letters = builder.new_input(dead_letters, Pipeline);
        let mut ends = builder.new_input(ends.broadcast(), Pipeline);
        let mut announcements = builder.new_input(announcements.broadcast(), Pipeline);
        let (done, done_stream) = builder.new_output::<Vec<()>>();
        let _done: OutputBuilder<u64, CapacityContainerBuilder<Vec<()>>> = OutputBuilder::from(done);
        let stage = Rc::clone(&stage);
        builder.build(move |capabilities| {
            drop(capabilities);
            move |frontiers| {
                let mut stage = stage.borrow_mut();
                let stage = &mut *stage;
                published.for_each(|capability, batch| {
                    let staged = stage.open.entry(time_of(&capability)).or_default();
                    for one in batch.drain(..) {
                        match one {
                            Published::Cell(change) => staged.cells.push(change),
                            Published::Expired(expiry) => staged.expiries.push(expiry),
                            Published::History(row) => staged.history.push(row),
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
                        stage.end = stage.end.max(end);
                    }
                });
                announcements.for_each(|_, batch| {
                    for (from, step) in batch.drain(..) {
                        schedule.borrow_mut().announce(from, step);
                    }
                });
                stage.frontier = frontiers.iter().filter_map(|frontier| frontier.frontier().first().copied()).min();
            }
        });
        done_stream.probe_with(&frontier);
        counts
    });

    let mut handover = Handover::new(job.horizons, frontier_step, read_times);
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
        for (at, counter) in [
            (&stats.stale, (|c: &Counts| c.stale.get()) as fn(&Counts) -> u64),
            (&stats.entries, |c| c.entries.get()),
            (&stats.entry_bytes, |c| c.bytes.get()),
            (&stats.row_corrections, |c| c.corrections.get()),
            (&stats.row_late, |c| c.late.get()),
        ] {
            at.set(counts.iter().map(|(_, counts)| counter(counts)).sum());
        }
        let staged = handover.due(&mut stage.borrow_mut());
        if let Some(staged) = staged {
            let as_of = staged.as_of;
            if let Err(error) = publisher.publish(worker.index(), staged) {
                // A dataflow left behind would be stepped on, waiting for workers that have stopped.
                worker.drop_dataflow(dataflow);
                return Err(error.into());
            }
            handover.published(as_of);
        }
        if !more {
            break;
        }
    }
    // The dataflow may end in the step that completed it.
    stage.borrow_mut().frontier = None;
    let staged = handover.due(&mut stage.borrow_mut());
    if let (Some(staged), None) = (staged, failure.borrow_mut().take()) {
        let as_of = staged.as_of;
        publisher.publish(worker.index(), staged)?;
        handover.published(as_of);
    }
    Ok(handover.outcome)
}

/// The one worker that decides for all.
const LEADER: u64 = 0;

/// Changes of the tick, decided on one worker from the volumes of all: (from, step).
fn announcements<'scope>(
    volumes: StreamVec<'scope, u64, u64>,
    mut pacemaker: Option<Pacemaker>,
) -> StreamVec<'scope, u64, (u64, u64)> {
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
            if let Some(change) = pacemaker.as_mut().and_then(|pacemaker| pacemaker.decide(tick, updates, frontier)) {
                output.session(&*capability).give(change);
            }
        }
    })
}

/// The log time a batch was sent at.
fn time_of(capability: &InputCapability<u64>) -> u64 {
    *capability.least().expect("log times are never empty stamps")
}

/// What has arrived, by the log time after which it shows.
struct Stage {
    open: BTreeMap<u64, Staged>,
    frontier: Option<u64>,
    /// The first instant after all records of the workers that have ended.
    end: u64,
}

impl Default for Stage {
    fn default() -> Self {
        Stage { open: BTreeMap::new(), frontier: Some(0), end: 0 }
    }
}

/// Decides which as-ofs are handed over.
struct Handover {
    ladder: Ladder,
    step: u64,
    outcome: Outcome,
    read_times: Option<ReadTimes>,
}

impl Handover {
    fn new(horizons: Horizons, step: u64, read_times: Option<ReadTimes>) -> Self {
        Handover { ladder: Ladder::new(horizons.window, horizons.grace), step, outcome: Outcome::default(), read_times }
    }

    /// All that is due, if the frontier has reached another as-of.
    fn due(&mut self, stage: &mut Stage) -> Option<Staged> {
        let as_of = match stage.frontier {
            Some(frontier) => self.ladder.floor(frontier, self.step),
            None => end_as_of(stage.end),
        };
        if as_of <= self.outcome.as_of {
            return None;
        }
        let later = stage.open.split_off(&as_of);
        let mut all = Staged { as_of, ..Staged::default() };
        for (_, staged) in std::mem::replace(&mut stage.open, later) {
            let Staged { as_of: _, cells, expiries, history, late, dead_letters } = staged;
            append(&mut all.cells, cells);
            append(&mut all.expiries, expiries);
            append(&mut all.history, history);
            append(&mut all.late, late);
            append(&mut all.dead_letters, dead_letters);
        }
        Some(all)
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

fn append<T>(all: &mut Vec<T>, mut more: Vec<T>) {
    if all.is_empty() { *all = more } else { all.append(&mut more) }
}
