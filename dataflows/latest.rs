//! Latest row per key: changes in, contributions out.
//!
//! ```text
//! changes ─(by shard of key)─► stash per tick ─frontier─► in order per key: guard, take out, put in ─┬─► contributions
//!                                                                                                    ├─► late adjustments
//!                                                                              if it is tracked ─────└─► changed state
//! ```
//!
//! Upholds: (1) changes of a key apply in the order (stamp, partition, position), however they were cut into ticks or spread
//! over partitions; (2) a change strictly older in the same incarnation changes nothing; (3) what is taken out is what was put
//! in, from our own state, never from the message; (4) whether a row was forgotten, or a window expired or closed, is decided
//! by the change's own stamp.
//!
//! Keeps: per key a packed entry (see [`crate::entry`], [`crate::rows`]): version, row, stamp of the last change; deleted and
//! forgotten rows as markers for the replay horizon. Sweeping a few slots per change bounds what is due but never touched
//! again; what was swept is no changed state, as its entry says itself from when on it is nothing.
//!
//! Absent on purpose: differential's arrangement. Its upsert keeps the greatest value at ties, and costs ten times the
//! private state.

use std::cell::Cell;
use std::rc::Rc;

use differential_dataflow::collection::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use timely::dataflow::StreamVec;

use crate::change::{Change, Guard, Row, What};
use crate::entry::{Entry, Header, decode, encode, from_portable, gone, header, remember, to_portable};
use crate::epoch::Horizons;
use crate::measure::{Contribution, Measure};
use crate::rows::Rows;
use crate::stash::Stash;
use crate::state::{Section, StateChange, StateLog, StateRow};
use crate::table::{LateAdjustment, Table};

/// What an operator counted on this worker; for logs and the summary.
#[derive(Debug, Default)]
pub struct Counts {
    /// Changes older than the stored version.
    pub stale: Cell<u64>,
    /// Contributions that reached a closed window.
    pub corrections: Cell<u64>,
    /// Contributions that reached an expired window.
    pub late: Cell<u64>,
    /// Entries (rows and markers) kept.
    pub entries: Cell<u64>,
    /// Bytes allocated for them.
    pub bytes: Cell<u64>,
}

fn bump(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// Contributions, late adjustments and counts of [`latest`].
pub struct Latest<'scope> {
    /// What the latest rows contribute to cells of windows that are not expired.
    pub contributions: VecCollection<'scope, u64, Contribution, Measure>,
    /// What changed for windows that are.
    pub late: VecCollection<'scope, u64, LateAdjustment, isize>,
    /// What the touched keys have after each tick, if that is tracked.
    pub state: StreamVec<'scope, u64, StateChange>,
    /// Live counts of this worker.
    pub counts: Rc<Counts>,
}

/// Keeps the latest row of every key and emits how each change moves the cells of `table`.
///
/// The collection holds each change once (difference 1). Times are log time; a change's own stamp is at or after its time and
/// before the next tick.
pub fn latest<'scope>(changes: VecCollection<'scope, u64, Change, isize>, table: Table, horizons: Horizons) -> Latest<'scope> {
    latest_from(changes, LatestState::new(table, horizons))
}

/// As [`latest`], going on from what is known already.
pub fn latest_from(changes: VecCollection<'_, u64, Change, isize>, mut state: LatestState) -> Latest<'_> {
    let (counts, table) = (Rc::clone(&state.counts), state.table);
    let scope = changes.inner.scope();
    let mut builder = OperatorBuilder::new(format!("Latest: {}", table.name()), scope);
    let route = |(change, _, _): &(Change, u64, isize)| change.key.shard();
    let mut input = builder.new_input(changes.inner, Exchange::new(route));
    let (contributions_out, contributions) = builder.new_output();
    let (late_out, late) = builder.new_output();
    let (state_out, changed) = builder.new_output();
    let mut state_out: OutputBuilder<_, CapacityContainerBuilder<Vec<_>>> = OutputBuilder::from(state_out);
    let mut contributions_out: OutputBuilder<_, CapacityContainerBuilder<Vec<_>>> = OutputBuilder::from(contributions_out);
    let mut late_out: OutputBuilder<_, CapacityContainerBuilder<Vec<_>>> = OutputBuilder::from(late_out);

    builder.build(move |capabilities| {
        let mut capabilities = Some(capabilities);
        let mut stash: Stash<Change> = Stash::default();
        move |frontiers| {
            input.for_each(|_, batch| {
                stash.extend(batch.drain(..).map(|(change, time, diff)| {
                    debug_assert!(diff > 0, "a change is never taken back");
                    (time, change)
                }));
            });
            let frontier = frontiers[0].frontier().first().copied();
            let due = stash.before(frontier);
            if let Some(capabilities) = &mut capabilities {
                let mut contributions_out = contributions_out.activate();
                let mut late_out = late_out.activate();
                let mut state_out = state_out.activate();
                for (time, mut changes) in due {
                    for capability in capabilities.iter_mut() {
                        capability.downgrade(&time);
                    }
                    let mut contributions = contributions_out.session(&capabilities[0]);
                    let mut late = late_out.session(&capabilities[1]);
                    state.apply(
                        &mut changes,
                        |contribution, measure| contributions.give((contribution, time, measure)),
                        |adjustment| late.give((adjustment, time, 1)),
                    );
                    if let Some(changed) = &mut state.changed {
                        let section = Section::Rows(table);
                        state_out
                            .session(&capabilities[2])
                            .give_iterator(changed.drain().map(|rows| StateChange { section, rows }));
                    }
                    stash.recycle(changes);
                }
                if let Some(frontier) = frontier {
                    for capability in capabilities.iter_mut() {
                        capability.downgrade(&frontier);
                    }
                }
            }
            if frontier.is_none() {
                capabilities = None;
            }
        }
    });
    Latest { contributions: contributions.as_collection(), late: late.as_collection(), state: changed, counts }
}

/// The state of [`latest`] on one worker, without the dataflow around it.
pub struct LatestState {
    table: Table,
    horizons: Horizons,
    rows: Rows,
    incarnations: Vec<(u64, u32)>,
    counts: Rc<Counts>,
    /// Hash and place of the changes of a tick.
    order: Vec<(u64, u32)>,
    payload: Vec<u8>,
    portable: Vec<u8>,
    /// What the keys touched in this tick have now; `None` if nobody wants to know.
    changed: Option<StateLog>,
}

impl LatestState {
    /// No rows yet.
    pub fn new(table: Table, horizons: Horizons) -> Self {
        LatestState {
            table,
            horizons,
            rows: Rows::default(),
            incarnations: Vec::new(),
            counts: Rc::default(),
            order: Vec::new(),
            payload: Vec::new(),
            portable: Vec::new(),
            changed: None,
        }
    }

    /// From now on changed state is handed out.
    pub fn track(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// The rows that were handed out and restored.
    pub(crate) fn of(table: Table, horizons: Horizons, restored: RestoredRows) -> Self {
        let RestoredRows { rows, incarnations, payload } = restored;
        let state = LatestState { rows, incarnations, payload, ..LatestState::new(table, horizons) };
        state.count();
        state
    }

    fn count(&self) {
        self.counts.entries.set(self.rows.len() as u64);
    }

    /// Applies the changes of one tick, and leaves none.
    fn apply(
        &mut self,
        changes: &mut Vec<Change>,
        mut contribute: impl FnMut(Contribution, Measure),
        mut late: impl FnMut(LateAdjustment),
    ) {
        // By hash, so that neighbours in the index are touched together; within a key (mostly one change) in its order.
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(changes.iter().zip(0..).map(|(change, at)| (change.key.hash, at)));
        order.sort_unstable();
        for run in order.chunk_by_mut(|(one, _), (other, _)| one == other) {
            if run.len() > 1 {
                run.sort_by_key(|(_, at)| changes[*at as usize].order);
            }
            for &(_, at) in &*run {
                self.apply_one(&mut changes[at as usize], &mut contribute, &mut late);
            }
        }
        // Later changes have stamps at or above the least of this tick, whatever partition they come from.
        if let Some(now) = changes.iter().map(|change| change.order.stamp).min() {
            self.sweep(changes.len(), now);
        }
        changes.clear();
        self.order = order;
        self.count();
        self.counts.bytes.set(self.rows.bytes() as u64);
    }

    fn apply_one(
        &mut self,
        change: &mut Change,
        contribute: &mut impl FnMut(Contribution, Measure),
        late: &mut impl FnMut(LateAdjustment),
    ) {
        let (hash, key, at) = (change.key.hash, change.key.text.as_bytes(), change.order);
        let old = self.rows.get(hash, key).map(|payload| decode(payload, &self.incarnations));
        let old = old.and_then(|entry| remember(entry, &self.horizons, at.stamp));
        if let (Guard::Version(new), Some(stored)) = (&change.guard, old.as_ref().and_then(|entry| entry.version.as_ref()))
            && new.stale_against(stored)
        {
            return bump(&self.counts.stale);
        }
        let new = match std::mem::replace(&mut change.what, What::Delete) {
            What::Row(row) | What::Patch(row, _) => Some(row),
            What::Delete | What::Truncate => None,
        };
        let version = match change.guard {
            Guard::Version(version) => Some(version),
            Guard::None | Guard::Since(_) => None,
        };
        let entry = Entry { version, since: at.stamp, row: new };
        self.payload.clear();
        encode(&entry, &mut self.incarnations, &mut self.payload);
        self.rows.put(hash, key, &self.payload);
        if let Some(changed) = &mut self.changed {
            to_portable(&self.payload, &self.incarnations, &mut self.portable);
            changed.push(StateRow { hash, key, value: &self.portable });
        }

        let taken = old.and_then(|entry| entry.row).filter(Row::counts);
        let put = entry.row.filter(Row::counts);
        let mut emit = |row: Row, measure: Measure| {
            if measure == Measure::default() {
                return;
            }
            if self.horizons.expired(row.window, at.stamp) {
                bump(&self.counts.late);
                late(LateAdjustment {
                    table: self.table,
                    window: row.window,
                    key: row.cell,
                    sum: measure.sum,
                    count: measure.count,
                    partition: at.partition,
                    position: at.position,
                    stamp: at.stamp,
                });
            } else {
                if self.horizons.closed(row.window, at.stamp) {
                    bump(&self.counts.corrections);
                }
                contribute(Contribution { window: row.window, cell: row.cell, member: row.member }, measure);
            }
        };
        match (taken, put) {
            (Some(old), Some(new)) if old.window == new.window && old.member == new.member && old.cell == new.cell => {
                let sum = new.amount - old.amount;
                emit(new, Measure { sum, count: 0 });
            }
            (taken, put) => {
                if let Some(old) = taken {
                    let sum = -old.amount;
                    emit(old, Measure { sum, count: -1 });
                }
                if let Some(new) = put {
                    let sum = new.amount;
                    emit(new, Measure { sum, count: 1 });
                }
            }
        }
    }

    /// Forgets what is due among two slots per change: every slot is visited while half its number of changes arrives.
    fn sweep(&mut self, applied: usize, now: u64) {
        let horizons = self.horizons;
        self.rows.sweep(applied * 2, |payload| {
            let Header { live, since, window, .. } = header(payload);
            !gone(live, since, window, &horizons, now)
        });
    }
}

/// Latest rows, between a checkpoint and the dataflow that begins with them.
#[derive(Default)]
pub(crate) struct RestoredRows {
    rows: Rows,
    incarnations: Vec<(u64, u32)>,
    payload: Vec<u8>,
}

impl RestoredRows {
    /// Takes a row that was handed out, by whichever worker; of several of a key the last one given counts.
    pub(crate) fn restore(&mut self, row: StateRow<'_>) {
        from_portable(row.value, &mut self.incarnations, &mut self.payload);
        self.rows.put(row.hash, row.key, &self.payload);
    }

    /// Number of rows and markers.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether at `now` anything is left of a row that was handed out.
    pub(crate) fn keeps(value: &[u8], horizons: &Horizons, now: u64) -> bool {
        let Header { live, since, window, .. } = header(value);
        !gone(live, since, window, horizons, now)
    }
}
