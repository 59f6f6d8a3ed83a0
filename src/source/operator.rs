//! The source operator: reads this worker's partitions in step and hands ticks to the dataflow.
//!
//! ```text
//! partitions ─lowest clock first─► records ─► per tick: clicks combined, changes collected ─when the tick is over─► dataflow
//!     ▲ arrivals: partitions that appear while running           controls: this worker's clock, new topics ─► all workers
//! ```
//!
//! Upholds: (1) one capability per output, however many partitions, held at the tick of the lowest clock; (2) a tick is sent
//! once all own partitions are past it, combined, so that exchange volume follows cells and not clicks; (3) no record more
//! than `align + 1` ticks ahead of the frontier of all workers is taken (it is held), so that nobody is where a change of the tick
//! may be announced for; nor is one before its time at a limited speed;
//! (4) every decision about a click is made from its own stamp, here or, if it has an event id, where those meet; (5) a worker that
//! has nothing to read holds nobody back: in a replay it ends, in a job that goes on its capability follows the clocks of the
//! others, so that partitions may come to it;
//! (6) told to stop, it says the last tick boundary before which it has read everything, and ends.
//! Keeps: the open ticks; the partitions on a [`Shelf`] that it shares with the worker's loop.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use differential_dataflow::collection::{AsCollection, VecCollection};
use serde::{Deserialize, Serialize};
use storeflow_dataflows::change::{Against, Change, Guard, Order, What};
use storeflow_dataflows::dedup::Told;
use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::key::{Key, SHARDS, WordMap};
use storeflow_dataflows::measure::{Contribution, Measure};
use storeflow_dataflows::table::{LateAdjustment, Table};
use storeflow_dataflows::tally::End;
use storeflow_dataflows::tick::Schedule;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::{Scope, StreamVec};

use super::partition::{Feeds, Next, Partition, Placed, SourceError};
use super::resume::Resume;
use crate::decode::{Click, Decoded, HASHING, RowChange, Truncate};
use crate::observe::{PartitionStats, WorkerStats, locked, wall_ms};
use crate::publish::dead_letters::DeadLetter;

/// How fast log time may pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as it can be computed.
    Max,
    /// So many milliseconds of log time per 1,000 milliseconds of wall time.
    Permille(u64),
}

/// What a worker reads.
pub struct Intake {
    /// Its partitions at the start.
    pub partitions: Vec<Partition>,
    /// What appears while running; `None` if the input ends.
    pub arrivals: Option<Receiver<Arrival>>,
}

/// What appears while running.
pub enum Arrival {
    /// A partition for this worker, and whether its log has records.
    Partition(Box<Partition>, bool),
    /// A topic with its number, for all workers of all processes to know it by; told to the leader.
    Topic(u32, String),
}

/// What one worker tells all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// From this log time on, ticks are so many milliseconds long.
    Tick(u64, u64),
    /// A worker has read everything before this log time.
    Clock(usize, u64),
    /// A topic has this number.
    Topic(u32, String),
}

/// How a worker reads.
pub struct Pace {
    /// The ticks; announced changes arrive here (see `runtime::worker`).
    pub schedule: Rc<RefCell<Schedule>>,
    /// The log time each worker has read to, by [`Control::Clock`].
    pub clocks: Rc<RefCell<BTreeMap<usize, u64>>>,
    /// Set to end before the input does.
    pub stop: Arc<AtomicBool>,
    /// Ticks that a partition may be ahead of the frontier.
    pub align: u64,
    /// Speed of log time.
    pub speed: Speed,
    /// The lowest clock of all partitions of all workers: where log time starts, and wall time at a limited speed.
    pub start: u64,
    /// The as-of of what the dataflow begins with: nothing is sent before it.
    pub origin: u64,
    /// Set while too much waits for a checkpoint: nothing more is read.
    pub brake: Rc<Cell<bool>>,
}

/// A worker's partitions, which its loop asks between two turns where they would go on.
#[derive(Default)]
pub struct Shelf {
    reading: Vec<Partition>,
    /// At their end, or stopped; kept only of those that are tracked.
    done: Vec<Partition>,
    tracked: bool,
}

impl Shelf {
    /// A worker's partitions at the start. `tracked` says that [`Shelf::resume_at`] will be asked.
    pub fn new(mut partitions: Vec<Partition>, tracked: bool) -> Shelf {
        if tracked {
            partitions.iter_mut().for_each(Partition::track);
        }
        Shelf { reading: partitions, done: Vec::new(), tracked }
    }

    /// Where each partition would go on from an as-of; those asked for must ascend.
    pub fn resume_at(&mut self, as_of: u64) -> Vec<(Arc<PartitionStats>, Resume)> {
        let all = self.reading.iter_mut().chain(&mut self.done);
        all.map(|partition| (Arc::clone(partition.stats()), partition.resume_at(as_of))).collect()
    }

    fn add(&mut self, mut partition: Partition) {
        if self.tracked {
            partition.track();
        }
        self.reading.push(partition);
    }

    fn end(&mut self, at: usize) -> &Partition {
        let ended = self.reading.swap_remove(at);
        if !self.tracked {
            self.done.clear();
        }
        self.done.push(ended);
        &self.done[self.done.len() - 1]
    }

    fn stop(&mut self) {
        self.done.append(&mut self.reading);
    }
}

/// The streams of records.
pub struct Records<'scope> {
    /// Changes of rows, by the table they are behind.
    pub rows: Vec<(Table, VecCollection<'scope, u64, Change, isize>)>,
    /// The same of rows that find their store through a lookup.
    pub referring: Vec<(Table, VecCollection<'scope, u64, Change, isize>)>,
    /// Changes of rows of lookups.
    pub lookups: Option<VecCollection<'scope, u64, Change, isize>>,
    /// Clicks that may be told twice, of all windows.
    pub told: Option<VecCollection<'scope, u64, Told, isize>>,
    /// Other clicks of windows not expired, combined per tick.
    pub clicks: VecCollection<'scope, u64, Contribution, Measure>,
    /// Clicks of expired windows.
    pub late_clicks: VecCollection<'scope, u64, LateAdjustment, isize>,
    /// What could not be decoded.
    pub dead_letters: StreamVec<'scope, u64, DeadLetter>,
    /// How this worker's source came to its end.
    pub ends: StreamVec<'scope, u64, End>,
    /// Updates of each tick that is over.
    pub volumes: StreamVec<'scope, u64, u64>,
    /// What is to be told to all workers.
    pub controls: StreamVec<'scope, u64, Control>,
}

/// When records of a tick were read: for the time from read to visible.
pub type ReadTimes = Rc<RefCell<BTreeMap<u64, Vec<(Instant, u64)>>>>;

/// Records read in one go before the rest of the dataflow has its turn.
const RECORDS_PER_TURN: usize = 4_096;
/// How long to wait for the frontier or for the time of the next record.
const PATIENCE: Duration = Duration::from_millis(1);
/// How long to wait for a log that has nothing new.
const PATIENCE_DRY: Duration = Duration::from_millis(5);

/// What is known of a tick that is not over.
#[derive(Default)]
struct OpenTick {
    /// By [`place_of`].
    changes: [Vec<Change>; PLACES],
    told: Vec<Told>,
    clicks: WordMap<Contribution, i64>,
    late_clicks: Vec<LateAdjustment>,
    dead_letters: Vec<DeadLetter>,
    updates: u64,
}

/// Streams of changes that a job may have: of rows and of referring rows by table, and of lookups.
const PLACES: usize = 2 * Table::ALL.len() + 1;

/// Which of a job's streams of changes a source's go into; `None`: it has none.
#[inline]
fn place_of(feeds: Feeds) -> Option<usize> {
    match feeds {
        Feeds::Rows(table) => Some(table as usize),
        Feeds::Referring(table) => Some(Table::ALL.len() + table as usize),
        Feeds::Lookup => Some(PLACES - 1),
        Feeds::Clicks(_) => None,
    }
}

/// Places of outputs that every job has; those of its streams of changes and of clicks that may be told twice are behind them.
const CLICKS: usize = 0;
const LATE: usize = 1;
const DEAD: usize = 2;
const ENDS: usize = 3;
const VOLUMES: usize = 4;
const CONTROLS: usize = 5;

/// Builds the operator, for sources that feed this. A failing read is left in `failure`, and the operator ends.
#[allow(clippy::too_many_arguments, reason = "built in one place, from what that place has at hand")]
pub fn records<'scope>(
    scope: Scope<'scope, u64>,
    shelf: Rc<RefCell<Shelf>>,
    arrivals: Option<Receiver<Arrival>>,
    feeds: &[Feeds],
    horizons: Horizons,
    pace: Pace,
    frontier: Handle<u64>,
    stats: Arc<WorkerStats>,
    read_times: Option<ReadTimes>,
    failure: Rc<RefCell<Option<SourceError>>>,
) -> Records<'scope> {
    let mut builder = OperatorBuilder::new("Source".to_owned(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let (me, peers) = (scope.index(), scope.peers());
    macro_rules! output {
        () => {{
            let (output, stream) = builder.new_output();
            (OutputBuilder::<u64, CapacityContainerBuilder<Vec<_>>>::from(output), stream)
        }};
    }
    let (mut clicks_out, clicks) = output!();
    let (mut late_out, late_clicks) = output!();
    let (mut dead_out, dead_letters) = output!();
    let (mut ends_out, ends) = output!();
    let (mut volumes_out, volumes) = output!();
    let (mut controls_out, controls) = output!();
    // Only what the job has: every output costs progress tracking at every tick.
    let (mut changes_out, mut changes) = (Vec::new(), Vec::new());
    let places: BTreeSet<usize> = feeds.iter().filter_map(|feeds| place_of(*feeds)).collect();
    for place in places {
        let (out, stream) = output!();
        changes_out.push((place, out));
        changes.push((place, stream.as_collection()));
    }
    let (mut told_out, told) = if feeds.iter().any(|feeds| matches!(feeds, Feeds::Clicks(Some(_)))) {
        let (out, stream) = output!();
        (Some(out), Some(stream.as_collection()))
    } else {
        (None, None)
    };

    builder.build(move |mut capabilities| {
        capabilities.iter_mut().for_each(|capability| capability.downgrade(&pace.origin));
        let going_on = arrivals.is_some();
        let mut capabilities = Some(capabilities);
        let mut open: BTreeMap<u64, OpenTick> = BTreeMap::new();
        let mut spare: Vec<OpenTick> = Vec::new();
        let mut dry: Vec<bool> = Vec::new();
        let mut end = 0;
        let wall = Instant::now();
        locked(&stats.partitions).extend(shelf.borrow().reading.iter().map(|partition| Arc::clone(partition.stats())));
        move |_| {
            let Some(held) = &mut capabilities else { return };
            let mut shelf = shelf.borrow_mut();
            let shelf = &mut *shelf;
            for arrival in arrivals.iter().flat_map(Receiver::try_iter) {
                match arrival {
                    Arrival::Partition(mut partition, has_records) => {
                        partition.arrive(*held[0].time(), has_records);
                        locked(&stats.partitions).push(Arc::clone(partition.stats()));
                        shelf.add(*partition);
                    }
                    Arrival::Topic(number, name) => {
                        controls_out.activate().session(&held[CONTROLS]).give(Control::Topic(number, name))
                    }
                }
            }
            let now = Instant::now();
            let due = match pace.speed {
                Speed::Max => u64::MAX,
                Speed::Permille(permille) => {
                    let passed = now.duration_since(wall).as_millis() * u128::from(permille) / 1_000;
                    pace.start.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
                }
            };
            let everyone = frontier.with_frontier(|frontier| frontier.first().copied()).unwrap_or(u64::MAX).max(pace.start);
            let schedule = pace.schedule.borrow();
            let step = schedule.step_at(everyone);
            let ahead = everyone.saturating_add((pace.align + 1).saturating_mul(step));
            let limit = due.min(ahead);
            let held_at = *held[0].time();

            let stopped = pace.stop.load(Ordering::Relaxed);
            if stopped {
                let least = active(&shelf.reading).map(|partition| partition.clock().now()).min();
                let at = least.map_or(u64::MAX, |clock| schedule.floor(clock));
                // What is not before this is read again by whoever goes on from here.
                let _later = open.split_off(&at);
                shelf.stop();
                end = at;
            }

            let mut turn = Turn { horizons, stats: &stats, open: &mut open, spare: &mut spare, read: 0, waiting: false };
            // A partition that has had no record yet may have one now, or turn out to have none.
            let mut at = 0;
            while at < shelf.reading.len() {
                let partition = &mut shelf.reading[at];
                if !partition.waiting() {
                    at += 1;
                    continue;
                }
                match partition.next(held_at) {
                    Ok(Next::Record(placed)) => {
                        // From here on it holds log time; it may be long until its turn to be read.
                        partition.stats().clock.set(partition.clock().now());
                        partition.hold(placed);
                    }
                    Ok(Next::Empty) => {
                        turn.waiting = true;
                        at += 1;
                    }
                    Ok(Next::End) => drop(shelf.end(at)),
                    Err(error) => {
                        *failure.borrow_mut() = Some(error);
                        capabilities = None;
                        return;
                    }
                }
            }
            dry.clear();
            dry.resize(shelf.reading.len(), false);
            while turn.read < RECORDS_PER_TURN && !pace.brake.get() {
                let Some((lowest, next)) = lowest_clocks(&shelf.reading, &dry) else { break };
                let stop = next.map_or(limit, |next| limit.min(next.saturating_add(step / 4)));
                match turn.read_from(&mut shelf.reading[lowest], &schedule, stop, limit, held_at) {
                    Ok(More::Yes) => {}
                    Ok(More::Waits) => break,
                    Ok(More::Empty) => dry[lowest] = true,
                    Ok(More::No) => {
                        let ended = shelf.end(lowest);
                        dry.swap_remove(lowest);
                        end = end.max(ended.end());
                        stats.clock_jumps.add(ended.clock().jumps());
                    }
                    Err(error) => {
                        *failure.borrow_mut() = Some(error);
                        capabilities = None;
                        return;
                    }
                }
            }
            if going_on {
                let wall = wall_ms();
                shelf.reading.iter_mut().for_each(|partition| partition.pass_time(wall));
            }
            let (waiting, read) = (turn.waiting, turn.read as u64);
            if let (Some(times), true) = (&read_times, read > 0) {
                let tick = open.last_key_value().map_or(0, |(&tick, _)| tick);
                times.borrow_mut().entry(tick).or_default().push((now, read));
            }

            // Send the ticks that are over, and say so.
            let least = active(&shelf.reading).map(|partition| partition.clock().now()).min();
            let over = match least {
                Some(clock) => schedule.reach(clock, ahead),
                None if going_on && !stopped => {
                    let others = pace.clocks.borrow().iter().filter(|(worker, _)| **worker != me).map(|(_, time)| *time).min();
                    others.map_or(held_at, |others| others.max(held_at))
                }
                None => u64::MAX,
            };
            note_holder(&shelf.reading, &stats);
            while let Some(entry) = open.first_entry() {
                if *entry.key() >= over {
                    break;
                }
                let (time, mut tick) = entry.remove_entry();
                for capability in held.iter_mut() {
                    capability.downgrade(&time);
                }
                volumes_out.activate().session(&held[VOLUMES]).give(std::mem::take(&mut tick.updates));
                let OpenTick { changes, told, clicks, late_clicks, dead_letters, updates: _ } = &mut tick;
                let (of_changes, of_told) = held[CONTROLS + 1..].split_at(changes_out.len());
                for ((place, out), held) in changes_out.iter_mut().zip(of_changes) {
                    out.activate().session(held).give_iterator(changes[*place].drain(..).map(|change| (change, time, 1)));
                }
                for (out, held) in told_out.iter_mut().zip(of_told) {
                    out.activate().session(held).give_iterator(told.drain(..).map(|told| (told, time, 1)));
                }
                let counted = |(contribution, count)| (contribution, time, Measure { sum: 0, count });
                clicks_out.activate().session(&held[CLICKS]).give_iterator(clicks.drain().map(counted));
                late_out.activate().session(&held[LATE]).give_iterator(late_clicks.drain(..).map(|late| (late, time, 1)));
                dead_out.activate().session(&held[DEAD]).give_iterator(dead_letters.drain(..));
                spare.push(tick);
            }
            if shelf.reading.is_empty() && (stopped || !going_on) {
                ends_out.activate().session(&held[ENDS]).give(if stopped { End::Stopped(end) } else { End::Complete(end) });
                capabilities = None;
                return;
            }
            if over > *held[0].time() {
                for capability in held.iter_mut() {
                    capability.downgrade(&over);
                }
                stats.clock.set(over);
            }
            if over > held_at && going_on && peers > 1 && least.is_some() {
                controls_out.activate().session(&held[CONTROLS]).give(Control::Clock(me, over));
            }
            if read == 0 && going_on {
                activator.activate_after(PATIENCE_DRY);
            } else if waiting && over == held_at {
                activator.activate_after(PATIENCE);
            } else {
                activator.activate();
            }
        }
    });
    let (mut rows, mut referring, mut lookups) = (Vec::new(), Vec::new(), None);
    for (place, changes) in changes {
        match (Table::ALL.get(place), place.checked_sub(Table::ALL.len()).and_then(|place| Table::ALL.get(place))) {
            (Some(&table), _) => rows.push((table, changes)),
            (None, Some(&table)) => referring.push((table, changes)),
            (None, None) => lookups = Some(changes),
        }
    }
    Records {
        rows,
        referring,
        lookups,
        told,
        clicks: clicks.as_collection(),
        late_clicks: late_clicks.as_collection(),
        dead_letters,
        ends,
        volumes,
        controls,
    }
}

/// The partitions that hold log time.
fn active(partitions: &[Partition]) -> impl Iterator<Item = &Partition> {
    partitions.iter().filter(|partition| partition.holds())
}

/// The partition with the lowest clock of those that may have records now, and the lowest clock of the others.
fn lowest_clocks(partitions: &[Partition], dry: &[bool]) -> Option<(usize, Option<u64>)> {
    let (mut lowest, mut next): (Option<(u64, usize)>, Option<u64>) = (None, None);
    for (at, partition) in partitions.iter().enumerate() {
        if dry[at] || partition.waiting() {
            continue;
        }
        let clock = partition.clock().now();
        match lowest {
            Some((least, _)) if least <= clock => next = Some(next.map_or(clock, |next| next.min(clock))),
            _ => {
                next = lowest.map(|(least, _)| least);
                lowest = Some((clock, at));
            }
        }
    }
    lowest.map(|(_, at)| (at, next))
}

/// Notes which partition has the lowest clock, and since when.
fn note_holder(partitions: &[Partition], stats: &WorkerStats) {
    let lowest = active(partitions).min_by_key(|partition| partition.clock().now());
    let mut holder = locked(&stats.holder);
    match (lowest, &*holder) {
        (Some(lowest), Some((known, _))) if Arc::ptr_eq(known, lowest.stats()) => {}
        (Some(lowest), _) => *holder = Some((Arc::clone(lowest.stats()), wall_ms())),
        (None, _) => *holder = None,
    }
}

enum More {
    Yes,
    Waits,
    Empty,
    No,
}

/// One activation's reading.
struct Turn<'a> {
    horizons: Horizons,
    stats: &'a WorkerStats,
    open: &'a mut BTreeMap<u64, OpenTick>,
    spare: &'a mut Vec<OpenTick>,
    read: usize,
    waiting: bool,
}

impl Turn<'_> {
    /// Reads one partition until its clock passes `stop` (another's turn) or `limit` (wait), or the turn is over.
    fn read_from(
        &mut self,
        partition: &mut Partition,
        schedule: &Schedule,
        stop: u64,
        limit: u64,
        reached: u64,
    ) -> Result<More, SourceError> {
        let (mut bytes, mut records) = (0, 0u64);
        let mut more = More::Yes;
        let mut tick = (u64::MAX, OpenTick::default());
        loop {
            let placed = match partition.next(reached)? {
                Next::Record(placed) => placed,
                Next::Empty => {
                    self.waiting = true;
                    more = More::Empty;
                    break;
                }
                Next::End => {
                    more = More::No;
                    break;
                }
            };
            if placed.order.stamp > limit {
                partition.hold(placed);
                self.waiting = true;
                more = More::Waits;
                break;
            }
            let Placed { order, bytes: size, line: _, fresh, outcome } = placed;
            bytes += size as u64;
            records += 1;
            let time = schedule.floor(order.stamp);
            if time != tick.0 {
                self.put_back(tick);
                tick = (time, self.open.remove(&time).or_else(|| self.spare.pop()).unwrap_or_default());
                partition.mark(time);
            }
            tick.1.updates += 1;
            self.take(&mut tick.1, order, fresh, outcome, partition);
            if order.stamp > stop || records as usize + self.read >= RECORDS_PER_TURN {
                break;
            }
        }
        self.put_back(tick);
        self.read += records as usize;
        self.stats.bytes.add(bytes);
        self.stats.records.add(records);
        let stats = partition.stats();
        stats.bytes.add(bytes);
        stats.records.add(records);
        stats.clock.set(partition.clock().now());
        Ok(more)
    }

    fn put_back(&mut self, (time, tick): (u64, OpenTick)) {
        if time != u64::MAX {
            self.open.insert(time, tick);
        }
    }

    /// Adds a record to its tick.
    #[inline]
    fn take(
        &mut self,
        tick: &mut OpenTick,
        order: Order,
        fresh: bool,
        outcome: Result<(Decoded, usize), DeadLetter>,
        partition: &Partition,
    ) {
        let since = partition.dead_since();
        let place = |decoder: usize| place_of(partition.feeds(decoder)).expect("sources of clicks have no changes");
        match outcome {
            Ok((Decoded::Click(click), decoder)) => match (partition.feeds(decoder), click) {
                (Feeds::Clicks(Some(horizon)), Click { cell, product: member, time, event: Some(event) }) => {
                    let contribution = Contribution { window: self.horizons.window_of(time), cell, member };
                    let event = Key { hash: (HASHING.row)(event.as_bytes()), text: event };
                    tick.told.push(Told { event, horizon, order, contribution });
                }
                (_, click) => self.take_click(tick, order, click),
            },
            Ok((Decoded::Change(change), decoder)) => tick.changes[place(decoder)].push(change_at(order, fresh, since, change)),
            Ok((Decoded::Changes(changes), decoder)) => {
                let changes = (0..).zip(changes).map(|(part, change)| change_at(Order { part, ..order }, fresh, since, change));
                tick.changes[place(decoder)].extend(changes);
            }
            Ok((Decoded::Truncate(truncate), decoder)) => {
                tick.changes[place(decoder)].extend(truncates(order, &truncate));
            }
            Ok((Decoded::Skipped(why), _)) => self.stats.skipped[why as usize].add(1),
            Err(letter) => {
                self.stats.dead_letters.add(1);
                *locked(&partition.stats().dead_letters).entry(letter.reason).or_default() += 1;
                *locked(&self.stats.reasons).entry(letter.reason).or_default() += 1;
                tick.dead_letters.push(letter);
            }
        }
    }

    #[inline]
    fn take_click(&mut self, tick: &mut OpenTick, order: Order, click: Click) {
        let window = self.horizons.window_of(click.time);
        if self.horizons.expired(window, order.stamp) {
            self.stats.late.add(1);
            let Order { stamp, partition, position, .. } = order;
            let (table, key) = (Table::StoreClicks, click.cell);
            tick.late_clicks.push(LateAdjustment { table, window, key, sum: 0, count: 1, partition, position, stamp });
            return;
        }
        if self.horizons.closed(window, order.stamp) {
            self.stats.corrections.add(1);
        }
        *tick.clicks.entry(Contribution { window, cell: click.cell, member: click.product }).or_insert(0) += 1;
    }
}

/// A change at its place; `since` is the stamp that it had as a dead letter, if it is read again.
#[inline]
fn change_at(order: Order, fresh: bool, since: Option<u64>, RowChange { key, version, read, what }: RowChange) -> Change {
    let unversioned = since.map_or(Guard::None, Guard::Since);
    Change {
        key,
        order,
        against: Against::new(version.map_or(unversioned, if read { Guard::Read } else { Guard::Version }), fresh),
        what,
    }
}

/// A truncate for every shard, whoever owns it.
fn truncates(order: Order, Truncate { space, version }: &Truncate) -> impl Iterator<Item = Change> {
    let against = Against::from(version.map_or(Guard::None, Guard::Version));
    let change = move |shard: u64| {
        let key = Key { hash: shard << (u64::BITS - SHARDS.ilog2()), text: space.clone() };
        Change { key, order, against, what: What::Truncate }
    };
    (0..SHARDS).map(change)
}
