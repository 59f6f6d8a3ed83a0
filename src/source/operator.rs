//! The source operator: reads this worker's partitions in step and hands ticks to the dataflow.
//!
//! ```text
//! partitions ─lowest clock first─► records ─► per tick: clicks combined, changes collected ─when the tick is over─► dataflow
//! ```
//!
//! Upholds: (1) one capability per output, however many partitions, held at the tick of the lowest clock; (2) a tick is sent
//! once all own partitions are past it, combined, so that exchange volume follows cells and not clicks; (3) no partition runs
//! more than `align` ticks ahead of the frontier of all workers, and none is read before its time at a limited speed;
//! (4) every decision about a click is made from its own stamp.
//! Keeps: the open ticks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use differential_dataflow::collection::{AsCollection, VecCollection};
use storeflow_dataflows::change::{Change, Order};
use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::key::WordMap;
use storeflow_dataflows::measure::{Contribution, Measure};
use storeflow_dataflows::table::{LateAdjustment, Table};
use storeflow_dataflows::tick::Schedule;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::{Scope, StreamVec};

use super::dataset::DatasetError;
use super::partition::{Partition, Placed};
use crate::config::Role;
use crate::decode::{Click, Decoded, RowChange, Skipped};
use crate::observe::WorkerStats;
use crate::publish::dead_letters::DeadLetter;

/// How fast log time may pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as it can be computed.
    Max,
    /// So many milliseconds of log time per 1,000 milliseconds of wall time.
    Permille(u64),
}

/// How a worker reads.
pub struct Pace {
    /// The ticks; announced changes arrive here (see `runtime::worker`).
    pub schedule: Rc<RefCell<Schedule>>,
    /// Ticks that a partition may be ahead of the frontier.
    pub align: u64,
    /// Speed of log time.
    pub speed: Speed,
    /// Log time at which wall time starts, for a limited speed: the lowest clock of all partitions.
    pub start: u64,
}

/// The streams of records.
pub struct Records<'scope> {
    /// By role: payments, order items, products.
    pub changes: [VecCollection<'scope, u64, Change, isize>; 3],
    /// Clicks of windows not expired, combined per tick.
    pub clicks: VecCollection<'scope, u64, Contribution, Measure>,
    /// Clicks of expired windows.
    pub late_clicks: VecCollection<'scope, u64, LateAdjustment, isize>,
    /// What could not be decoded.
    pub dead_letters: StreamVec<'scope, u64, DeadLetter>,
    /// The first instant after all of this worker's records, at its end; 0 if it had none.
    pub ends: StreamVec<'scope, u64, u64>,
    /// Updates of each tick that is over.
    pub volumes: StreamVec<'scope, u64, u64>,
}

/// When records of a tick were read: for the time from read to visible.
pub type ReadTimes = Rc<RefCell<BTreeMap<u64, Vec<(Instant, u64)>>>>;

/// Records read in one go before the rest of the dataflow has its turn.
const RECORDS_PER_TURN: usize = 4_096;
/// How long to wait for the frontier or for the time of the next record.
const PATIENCE: Duration = Duration::from_millis(1);

/// What is known of a tick that is not over.
#[derive(Default)]
struct OpenTick {
    changes: [Vec<Change>; 3],
    clicks: WordMap<Contribution, i64>,
    late_clicks: Vec<LateAdjustment>,
    dead_letters: Vec<DeadLetter>,
    updates: u64,
}

/// Builds the operator. A failing read is left in `failure`, and the operator ends.
#[allow(clippy::too_many_arguments, reason = "built in one place, from what that place has at hand")]
pub fn records<'scope>(
    scope: Scope<'scope, u64>,
    mut partitions: Vec<Partition>,
    horizons: Horizons,
    pace: Pace,
    frontier: Handle<u64>,
    stats: Arc<WorkerStats>,
    read_times: Option<ReadTimes>,
    failure: Rc<RefCell<Option<DatasetError>>>,
) -> Records<'scope> {
    let mut builder = OperatorBuilder::new("Source".to_owned(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    macro_rules! output {
        () => {{
            let (output, stream) = builder.new_output();
            (OutputBuilder::<u64, CapacityContainerBuilder<Vec<_>>>::from(output), stream)
        }};
    }
    let (mut payments_out, payments) = output!();
    let (mut items_out, items) = output!();
    let (mut products_out, products) = output!();
    let (mut clicks_out, clicks) = output!();
    let (mut late_out, late_clicks) = output!();
    let (mut dead_out, dead_letters) = output!();
    let (mut ends_out, ends) = output!();
    let (mut volumes_out, volumes) = output!();

    builder.build(move |capabilities| {
        let mut capabilities = Some(capabilities);
        let mut open: BTreeMap<u64, OpenTick> = BTreeMap::new();
        let mut spare: Vec<OpenTick> = Vec::new();
        let (mut announced, mut end) = (false, 0);
        let wall = Instant::now();
        move |_| {
            let Some(held) = &mut capabilities else { return };
            let now = Instant::now();
            let due = match pace.speed {
                Speed::Max => u64::MAX,
                Speed::Permille(permille) => {
                    let passed = now.duration_since(wall).as_millis() * u128::from(permille) / 1_000;
                    pace.start.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
                }
            };
            let everyone = frontier.with_frontier(|frontier| frontier.first().copied()).unwrap_or(u64::MAX);
            let schedule = pace.schedule.borrow();
            let step = schedule.step_at(everyone);
            let ahead = everyone.saturating_add((pace.align + 1).saturating_mul(step));
            let limit = due.min(ahead);

            let mut turn = Turn { horizons, stats: &stats, open: &mut open, spare: &mut spare, read: 0, waiting: false };
            // Before the first record, everyone says where they start: frontiers begin at 0.
            let started = std::mem::replace(&mut announced, true);
            while started && turn.read < RECORDS_PER_TURN && !partitions.is_empty() {
                let lowest = lowest_clock(&partitions);
                let next = partitions.iter().enumerate().filter(|(at, _)| *at != lowest).map(|(_, p)| p.clock().now()).min();
                let stop = next.map_or(limit, |next| limit.min(next.saturating_add(step / 4)));
                match turn.read_from(&mut partitions[lowest], &schedule, stop, limit) {
                    Ok(More::Yes) => {}
                    Ok(More::Waits) => break,
                    Ok(More::No) => {
                        let ended = partitions.swap_remove(lowest);
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
            let (waiting, read) = (turn.waiting, turn.read as u64);
            if let (Some(times), true) = (&read_times, read > 0) {
                let tick = open.last_key_value().map_or(0, |(&tick, _)| tick);
                times.borrow_mut().entry(tick).or_default().push((now, read));
            }

            // Send the ticks that are over, and say so.
            let least = partitions.iter().map(|partition| partition.clock().now()).min();
            let over = least.map_or(u64::MAX, |clock| schedule.floor(clock));
            while let Some(entry) = open.first_entry() {
                if *entry.key() >= over {
                    break;
                }
                let (time, mut tick) = entry.remove_entry();
                for capability in held.iter_mut() {
                    capability.downgrade(&time);
                }
                volumes_out.activate().session(&held[7]).give(std::mem::take(&mut tick.updates));
                let OpenTick { changes: [payments, items, products], clicks, late_clicks, dead_letters, updates: _ } = &mut tick;
                payments_out.activate().session(&held[0]).give_iterator(payments.drain(..).map(|change| (change, time, 1)));
                items_out.activate().session(&held[1]).give_iterator(items.drain(..).map(|change| (change, time, 1)));
                products_out.activate().session(&held[2]).give_iterator(products.drain(..).map(|change| (change, time, 1)));
                let counted = |(contribution, count)| (contribution, time, Measure { sum: 0, count });
                clicks_out.activate().session(&held[3]).give_iterator(clicks.drain().map(counted));
                late_out.activate().session(&held[4]).give_iterator(late_clicks.drain(..).map(|late| (late, time, 1)));
                dead_out.activate().session(&held[5]).give_iterator(dead_letters.drain(..));
                spare.push(tick);
            }
            if partitions.is_empty() {
                ends_out.activate().session(&held[6]).give(end);
                capabilities = None;
                return;
            }
            if over > *held[0].time() {
                for capability in held.iter_mut() {
                    capability.downgrade(&over);
                }
                stats.clock.set(over);
            }
            if waiting {
                activator.activate_after(PATIENCE);
            } else {
                activator.activate();
            }
        }
    });
    Records {
        changes: [payments.as_collection(), items.as_collection(), products.as_collection()],
        clicks: clicks.as_collection(),
        late_clicks: late_clicks.as_collection(),
        dead_letters,
        ends,
        volumes,
    }
}

fn lowest_clock(partitions: &[Partition]) -> usize {
    let clocks = partitions.iter().enumerate().map(|(at, partition)| (partition.clock().now(), at));
    clocks.min().map_or(0, |(_, at)| at)
}

enum More {
    Yes,
    Waits,
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
    fn read_from(&mut self, partition: &mut Partition, schedule: &Schedule, stop: u64, limit: u64) -> Result<More, DatasetError> {
        if partition.clock().now() > limit {
            self.waiting = true;
            return Ok(More::Waits);
        }
        let (mut bytes, mut records) = (0, 0u64);
        let mut more = More::Yes;
        let mut tick = (u64::MAX, OpenTick::default());
        loop {
            let Some(placed) = partition.next()? else {
                more = More::No;
                break;
            };
            let Placed { order, bytes: size, outcome } = placed;
            bytes += size as u64;
            records += 1;
            let time = schedule.floor(order.stamp);
            if time != tick.0 {
                self.put_back(tick);
                tick = (time, self.open.remove(&time).or_else(|| self.spare.pop()).unwrap_or_default());
            }
            tick.1.updates += 1;
            self.take(&mut tick.1, order, outcome, partition);
            if order.stamp > stop || records as usize + self.read >= RECORDS_PER_TURN {
                break;
            }
        }
        self.put_back(tick);
        self.read += records as usize;
        self.stats.bytes.add(bytes);
        self.stats.records.add(records);
        Ok(more)
    }

    fn put_back(&mut self, (time, tick): (u64, OpenTick)) {
        if time != u64::MAX {
            self.open.insert(time, tick);
        }
    }

    /// Adds a record to its tick.
    #[inline]
    fn take(&mut self, tick: &mut OpenTick, order: Order, outcome: Result<(Decoded, usize), DeadLetter>, partition: &Partition) {
        match outcome {
            Ok((Decoded::Click(click), _)) => self.take_click(tick, order, click),
            Ok((Decoded::Change(RowChange { key, version, row }), decoder)) => {
                let role = match partition.decoder(decoder).role() {
                    Role::Payments => 0,
                    Role::OrderItems => 1,
                    Role::Products | Role::Clicks => 2,
                };
                tick.changes[role].push(Change { key, order, version, row });
            }
            Ok((Decoded::Skipped(why), _)) => match why {
                Skipped::Tombstone => self.stats.tombstones.add(1),
                Skipped::Control => self.stats.control_records.add(1),
                Skipped::OtherTable => self.stats.other_tables.add(1),
            },
            Err(letter) => {
                self.stats.dead_letters.add(1);
                tick.dead_letters.push(letter);
            }
        }
    }

    #[inline]
    fn take_click(&mut self, tick: &mut OpenTick, order: Order, click: Click) {
        let window = self.horizons.window_of(click.time);
        if self.horizons.expired(window, order.stamp) {
            self.stats.late.add(1);
            let Order { stamp, partition, position } = order;
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
