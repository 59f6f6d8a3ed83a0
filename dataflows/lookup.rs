//! Joins: rows that find their store, and perhaps their event time, in a row of another table.
//!
//! ```text
//! changes of lookup rows ─┐ (by shard of the lookup row's key)                               ┌─► contributions, per table
//!                         ├─► stash per tick ─frontier─► per lookup key, in order: ──────────┼─► late adjustments
//! moves of referring rows ┘                              row changes ─► all its groups move  └─► changed state
//!                                                        group changes ─► alone
//! ```
//!
//! Upholds: (1) changes of both sides apply in one order; what a pair contributed is taken out and what it contributes now put in at the stamp
//! of the change that moved it, of whichever side, which alone decides what is closed, expired or forgotten; (2) what a group contributes
//! follows from its measure and the lookup row as they stand, so nothing has to be remembered of what was put in.
//! Keeps: the lookup rows (see [`crate::stored`]), and the groups of rows that refer to each key (see [`crate::groups`]), for whose
//! last change to be forgotten. How many rows wait for a lookup row, by the minute they last changed in.
//! Absent on purpose: the referring rows themselves, which [`crate::latest`] keeps by their own keys; and differential's `join`, which keeps
//! both sides of every pair indexed by time, and has no word for what is to be forgotten.

use std::collections::BTreeMap;
use std::rc::Rc;

use differential_dataflow::collection::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::InputCapability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::change::{Change, Order, Row, What};
use crate::counts::Counts;
use crate::epoch::Horizons;
use crate::groups::{Group, GroupId, Groups, StoredGroup, write_stored};
use crate::key::{Hashing, Text};
use crate::latest::{Move, judge};
use crate::measure::{Contribution, Measure};
use crate::stash::Stash;
use crate::state::{Section, StateChange, StateLog, StateRow};
use crate::stored::{Keeps, RestoredRows, Stored, Turned};
use crate::table::{ELSEWHERE, LateAdjustment, Table, Window};
use crate::turns::{Event, Turns};

/// What [`lookup_from`] gives.
pub struct Lookup<'scope> {
    /// Per table what its rows contribute to cells of windows that are not expired.
    pub contributions: Vec<(Table, VecCollection<'scope, u64, Contribution, Measure>)>,
    /// What changed for windows that are.
    pub late: VecCollection<'scope, u64, LateAdjustment, isize>,
    /// What touched keys and groups have after each tick, if that is tracked.
    pub state: StreamVec<'scope, u64, StateChange>,
    /// Live counts of this worker.
    pub counts: Rc<Counts>,
}

/// What happened to a lookup key, with the hash of that.
struct Happened {
    hash: u64,
    what: Happening,
}

#[allow(clippy::large_enum_variant, reason = "kept for a tick, in lists that are used again")]
enum Happening {
    /// To its row.
    Row(Change),
    /// To a row that refers to it.
    Referring(Move),
}

impl Event for Happened {
    fn hash(&self) -> u64 {
        self.hash
    }

    fn order(&self) -> Order {
        match &self.what {
            Happening::Row(change) => change.order,
            Happening::Referring(moved) => moved.order,
        }
    }

    fn truncates(&self) -> bool {
        matches!(&self.what, Happening::Row(Change { what: What::Truncate, .. }))
    }
}

/// As [`lookup_from`], of rows and groups of which none is known yet.
pub fn lookup<'scope>(
    changes: VecCollection<'scope, u64, Change, isize>,
    moves: StreamVec<'scope, u64, Move>,
    tables: Vec<Table>,
    (horizons, hashing, keeps): (Horizons, Hashing, Keeps),
) -> Lookup<'scope> {
    lookup_from(changes, moves, tables, LookupState::of(horizons, hashing, keeps, RestoredRows::default(), Groups::default()))
}

/// Joins the rows of lookups with what refers to them, going on from what is known already. `tables` are those of the moves.
pub fn lookup_from<'scope>(
    changes: VecCollection<'scope, u64, Change, isize>,
    moves: StreamVec<'scope, u64, Move>,
    tables: Vec<Table>,
    mut state: LookupState,
) -> Lookup<'scope> {
    let counts = Rc::clone(&state.rows.counts);
    let scope = changes.inner.scope();
    let mut builder = OperatorBuilder::new("Lookup".to_owned(), scope);
    let mut changes = builder.new_input(changes.inner, Exchange::new(|(change, _, _): &(Change, u64, isize)| change.key.shard()));
    let mut moves = builder.new_input(moves, Exchange::new(|moved: &Move| moved.cell.shard()));
    macro_rules! output {
        () => {{
            let (output, stream) = builder.new_output();
            (OutputBuilder::<u64, CapacityContainerBuilder<Vec<_>>>::from(output), stream)
        }};
    }
    let (mut late_out, late) = output!();
    let (mut state_out, changed) = output!();
    let (mut outs, mut contributions) = (Vec::new(), Vec::new());
    for &table in &tables {
        let (out, stream) = output!();
        outs.push(out);
        contributions.push((table, stream.as_collection()));
    }
    builder.build(move |capabilities| {
        let mut capabilities = Some(capabilities);
        let mut stash: Stash<Happened> = Stash::default();
        move |frontiers| {
            changes.for_each(|_, batch| {
                let happened = |(change, time, _): (Change, u64, isize)| {
                    (time, Happened { hash: change.key.hash, what: Happening::Row(change) })
                };
                stash.extend(batch.drain(..).map(happened));
            });
            let row_hash = state.joined.hashing.row;
            moves.for_each(|capability, batch| {
                let time = time_of(&capability);
                let happened = |moved: Move| {
                    (time, Happened { hash: row_hash(moved.cell.cell_parts().0), what: Happening::Referring(moved) })
                };
                stash.extend(batch.drain(..).map(happened));
            });
            let frontier = frontiers.iter().filter_map(|frontier| frontier.frontier().first().copied()).min();
            let due = stash.before(frontier);
            let Some(held) = &mut capabilities else { return };
            for (time, mut happened) in due {
                held.iter_mut().for_each(|capability| capability.downgrade(&time));
                state.apply(&mut happened);
                stash.recycle(happened);
                let Said { late, contributions } = &mut state.joined.said;
                late_out.activate().session(&held[0]).give_iterator(late.drain(..).map(|late| (late, time, 1)));
                for ((out, held), table) in outs.iter_mut().zip(&held[2..]).zip(&tables) {
                    let contributions = contributions[*table as usize].drain(..);
                    out.activate().session(held).give_iterator(contributions.map(|(one, measure)| (one, time, measure)));
                }
                let mut state_out = state_out.activate();
                let mut session = state_out.session(&held[1]);
                for (section, log) in [(Section::Lookups, &mut state.rows.changed), (Section::Groups, &mut state.joined.changed)]
                {
                    let rows = log.iter_mut().flat_map(StateLog::drain);
                    session.give_iterator(rows.map(|rows| StateChange { section, rows }));
                }
            }
            match frontier {
                Some(frontier) => held.iter_mut().for_each(|capability| capability.downgrade(&frontier)),
                None => capabilities = None,
            }
        }
    });
    Lookup { contributions, late: late.as_collection(), state: changed, counts }
}

/// The log time a batch was sent at.
fn time_of(capability: &InputCapability<u64>) -> u64 {
    *capability.least().expect("log times are never empty stamps")
}

/// The state of [`lookup_from`] on one worker.
pub struct LookupState {
    rows: Stored,
    joined: Joined,
    turns: Turns,
}

/// All of it but the rows of the lookups.
struct Joined {
    horizons: Horizons,
    hashing: Hashing,
    counts: Rc<Counts>,
    groups: Groups,
    waiting: Waiting,
    said: Said,
    changed: Option<StateLog>,
    key: Vec<u8>,
    value: Vec<u8>,
    scratch: Vec<u8>,
    /// Groups that a lookup row moves.
    moving: Vec<(GroupId, Group)>,
}

/// What a tick says.
#[derive(Default)]
struct Said {
    late: Vec<LateAdjustment>,
    contributions: [Vec<(Contribution, Measure)>; 4],
}

impl LookupState {
    /// Goes on from rows and groups that were handed out and restored; `keeps` says how long rows are kept.
    pub(crate) fn of(horizons: Horizons, hashing: Hashing, keeps: Keeps, rows: RestoredRows, groups: Groups) -> LookupState {
        let rows = Stored::new(horizons, hashing, Some(keeps), rows);
        let mut waiting = Waiting::default();
        groups.visit_all(|key, _, group| {
            if !rows.has_row((hashing.row)(key), key) {
                waiting.add(group);
            }
        });
        let counts = Rc::clone(&rows.counts);
        let (said, changed, key, value, scratch, moving) = Default::default();
        let joined = Joined { horizons, hashing, counts, groups, waiting, said, changed, key, value, scratch, moving };
        let state = LookupState { rows, joined, turns: Turns::default() };
        state.count();
        state
    }

    /// From now on changed state is handed out.
    pub(crate) fn track(&mut self) {
        self.rows.changed.get_or_insert_with(StateLog::default);
        self.joined.changed.get_or_insert_with(StateLog::default);
    }

    fn count(&self) {
        let LookupState { rows, joined: Joined { groups, waiting, counts, .. }, .. } = self;
        counts.entries.set((rows.len() + groups.len()) as u64);
        counts.bytes.set((rows.bytes() + groups.bytes()) as u64);
        counts.waiting.set(waiting.rows);
        counts.waiting_since.set(waiting.oldest());
    }

    /// Applies what happened in one tick, and leaves nothing.
    fn apply(&mut self, happened: &mut Vec<Happened>) {
        let LookupState { rows, joined, turns } = self;
        turns.take(happened, |one| match &mut one.what {
            Happening::Row(Change { key, order, against, what: What::Truncate }) => {
                rows.truncate((key.hash, key.text.as_bytes()), *order, *against, |hash, key, row| {
                    joined.turned(hash, key, *order, row)
                });
            }
            Happening::Row(Change { key, order, against, what }) => {
                let (hash, key) = (key.hash, key.text.as_bytes());
                joined.forget(rows, hash, key, order.stamp);
                if let Some(row) = rows.change((hash, key), *order, *against, std::mem::replace(what, What::Delete)) {
                    joined.turned(hash, key, *order, row);
                }
            }
            Happening::Referring(moved) => joined.moved(rows, one.hash, moved),
        });
        // As in `latest`: nothing earlier comes any more.
        if let Some(now) = happened.iter().map(|one| one.order().stamp).min() {
            let Joined { groups, waiting, hashing, horizons, .. } = joined;
            rows.sweep(happened.len(), now, |key| {
                groups.visit((hashing.row)(key), key, |_, group| waiting.add(group));
            });
            groups.sweep(happened.len(), now, horizons, |key, group| {
                if !rows.has_row((hashing.row)(key), key) {
                    waiting.remove(group);
                }
            });
        }
        happened.clear();
        self.count();
    }
}

impl Joined {
    /// Forgets a lookup row that is nothing any more: what refers to it waits from now on.
    fn forget(&mut self, rows: &mut Stored, hash: u64, key: &[u8], now: u64) {
        if rows.forget(hash, key, now) {
            self.groups.visit(hash, key, |_, group| self.waiting.add(group));
        }
    }

    /// A referring row was put in, taken out, or touched.
    fn moved(&mut self, rows: &mut Stored, hash: u64, moved: &Move) {
        let Move { table, order, cell, member, window, measure } = moved;
        let (key, second) = cell.cell_parts();
        let now = order.stamp;
        self.forget(rows, hash, key, now);
        let row = rows.row(hash, key, now);
        let id = GroupId { table: *table, window: *window, second: Text::new(second), member: member.clone() };
        let waiting = &mut self.waiting;
        let waits = row.is_none();
        let gone = |group: &Group| {
            if waits {
                waiting.remove(group);
            }
        };
        let (before, after) = self.groups.add((hash, key), id.clone(), *measure, now, &self.horizons, gone);
        if waits {
            before.iter().for_each(|group| self.waiting.remove(group));
            self.waiting.add(&after);
        }
        if let Some(changed) = &mut self.changed {
            write_stored(key, &id, &after, &mut self.key, &mut self.value);
            // The shard is that of the lookup row's key.
            let hash = hash >> 54 << 54 | (self.hashing.row)(&self.key) >> 10;
            changed.push(StateRow { hash, key: &self.key, value: &self.value });
        }
        if let Some(row) = row.filter(Row::counts) {
            self.say(*order, &row, &id, *measure);
        }
    }

    /// A lookup row is another: all that refers to it moves.
    fn turned(&mut self, hash: u64, key: &[u8], order: Order, Turned { before, after }: Turned) {
        let place = |row: &Row| (row.cell.text.clone(), row.window);
        let (was_there, is_there) = (before.is_some(), after.is_some());
        let (before, after) = (before.filter(Row::counts), after.filter(Row::counts));
        if was_there == is_there && before.as_ref().map(place) == after.as_ref().map(place) {
            return;
        }
        let mut moving = std::mem::take(&mut self.moving);
        self.groups.visit(hash, key, |id, group| {
            match (was_there, is_there) {
                (false, true) => self.waiting.remove(group),
                (true, false) => self.waiting.add(group),
                _ => {}
            }
            if !group.forgotten(id.window, &self.horizons, order.stamp) {
                moving.push((id.clone(), *group));
            }
        });
        for (id, Group { measure, .. }) in moving.drain(..) {
            let cell = |row: &Row| (row.cell.text.clone(), window_of(row, &id));
            if before.as_ref().map(cell) == after.as_ref().map(cell) {
                continue;
            }
            if let Some(row) = &before {
                self.say(order, row, &id, Measure { sum: -measure.sum, count: -measure.count });
            }
            if let Some(row) = &after {
                self.say(order, row, &id, measure);
            }
        }
        self.moving = moving;
    }

    /// Says what rows of a group add to the cell that a lookup row puts them into.
    fn say(&mut self, order: Order, row: &Row, id: &GroupId, measure: Measure) {
        if measure == Measure::default() {
            return;
        }
        let cell = (self.hashing.cell)(row.cell.cell_parts().0, id.second.as_bytes(), &mut self.scratch);
        let contribution = Contribution { window: window_of(row, id), cell, member: id.member.clone() };
        let Said { late, contributions } = &mut self.said;
        let contributions = &mut contributions[id.table as usize];
        let late = &mut |adjustment| late.push(adjustment);
        judge(id.table, &self.horizons, &self.counts, order, contribution, measure, late, |one| {
            contributions.push((one, measure))
        });
    }
}

/// The window of a group's rows: their own, or that of the row they refer to.
fn window_of(row: &Row, id: &GroupId) -> Window {
    if id.window == ELSEWHERE { row.window } else { id.window }
}

/// Rows that wait for the row they refer to.
#[derive(Default)]
struct Waiting {
    rows: u64,
    /// By the minute of the last change of their group.
    minutes: BTreeMap<u64, i64>,
}

const MINUTE: u64 = 60_000;

impl Waiting {
    fn add(&mut self, group: &Group) {
        self.count(group.since, group.measure.count);
    }

    fn remove(&mut self, group: &Group) {
        self.count(group.since, -group.measure.count);
    }

    fn count(&mut self, since: u64, rows: i64) {
        let of_minute = self.minutes.entry(since / MINUTE).or_default();
        *of_minute += rows;
        if *of_minute == 0 {
            self.minutes.remove(&(since / MINUTE));
        }
        self.rows = self.rows.saturating_add_signed(rows);
    }

    /// The minute since which the oldest has waited, milliseconds; 0 if none does.
    fn oldest(&self) -> u64 {
        self.minutes.keys().next().map_or(0, |minute| minute * MINUTE)
    }
}

/// A group that was handed out, and the hash of the key that it refers to.
pub(crate) fn restore_group(groups: &mut Groups, hashing: &Hashing, row: StateRow<'_>) {
    let stored = StoredGroup::read(row);
    groups.restore((hashing.row)(&stored.lookup), stored);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Guard, Position, Version};
    use crate::epoch::Before;
    use crate::key::Key;
    use proptest::prelude::*;

    fn row_hash(text: &[u8]) -> u64 {
        u64::from(text.last().copied().unwrap_or_default()) << 54
    }

    fn cell(store: &[u8], second: &[u8], scratch: &mut Vec<u8>) -> Key {
        Key::cell_bytes(store, second, scratch);
        Key { hash: row_hash(store), text: Text::new(scratch) }
    }

    /// Key, minutes passed, version, and what happens: a lookup row comes or goes, or rows are put in or taken out.
    type Step = (u8, u64, u64, Option<Option<bool>>, i64);

    fn happened((key, _, version, row, count): &Step, stamp: u64) -> Happened {
        let order = Order { stamp, partition: 0, position: stamp, part: 0 };
        let key = [b'k', *key];
        let what = match row {
            Some(row) => {
                let store = |counts: &bool| Row {
                    cell: cell(b"store", b"", &mut Vec::new()),
                    member: Text::EMPTY,
                    window: 0,
                    amount: 0,
                    lacks: u32::from(!counts),
                };
                let version = Version { incarnation: 0, server: 0, position: Position(0, *version, 0) };
                let what = row.as_ref().map_or(What::Delete, |counts| What::Row(store(counts)));
                let key = Key { hash: row_hash(&key), text: Text::new(&key) };
                Happening::Row(Change { key, order, against: Guard::Version(version).into(), what })
            }
            None => Happening::Referring(Move {
                table: Table::StorePayments,
                order,
                cell: cell(&key, b"KRW", &mut Vec::new()),
                member: Text::EMPTY,
                window: ELSEWHERE,
                measure: Measure { sum: 0, count: *count },
            }),
        };
        Happened { hash: row_hash(&key), what }
    }

    proptest! {
        /// What waits is known at every instant: groups whose key has no row, whichever way that went or never came.
        #[test]
        fn rows_wait_for_what_is_not_there(
            steps in proptest::collection::vec((0u8..3, 0u64..4, 0u64..9, proptest::option::of(proptest::option::of(any::<bool>())), 1i64..5), 1..150),
            keep in 0u64..8,
        ) {
            let horizons =
                Horizons { window: 10 * MINUTE, grace: 0, retention: 10 * MINUTE, replay_horizon: 9 * MINUTE, before: Before::NOTHING };
            let hashing = Hashing { row: row_hash, cell };
            let keeps = vec![(Box::from(&b"k"[..]), keep * MINUTE)];
            let mut state = LookupState::of(horizons, hashing, keeps, RestoredRows::default(), Groups::default());
            let mut now = 0;
            for step in &steps {
                now += step.1 * MINUTE + 1;
                state.apply(&mut vec![happened(step, now)]);
                let (mut rows, mut minutes) = (0, BTreeMap::<u64, i64>::new());
                state.joined.groups.visit_all(|key, _, group| {
                    if !state.rows.has_row(row_hash(key), key) {
                        rows += group.measure.count as u64;
                        *minutes.entry(group.since / MINUTE).or_default() += group.measure.count;
                    }
                });
                prop_assert_eq!(state.joined.waiting.rows, rows);
                prop_assert_eq!(&state.joined.waiting.minutes, &minutes);
                let counts = &state.joined.counts;
                prop_assert_eq!(counts.waiting.get(), rows);
                prop_assert_eq!(counts.waiting_since.get(), minutes.keys().next().map_or(0, |minute| minute * MINUTE));
            }
        }
    }
}
