//! Latest row per key: changes in, contributions out.
//!
//! ```text
//! changes ─(by shard of key)─► stash per tick ─frontier─► in order per key: guard, take out, put in ─┬─► contributions
//!                                                                                                    ├─► late adjustments
//!                                                                              if it is tracked ─────└─► changed state
//! rows that find their store through another table: ─────────────────────────────────────────────────┴─► moves ─► lookup
//! ```
//!
//! Upholds: (1) changes of a key apply in the order (stamp, partition, position, part), however they were cut into ticks or spread
//! over partitions, and a truncate in its place among those of all its keys; (2) what is taken out is what was put in, from our own state,
//! never from the message; (3) whether a window is expired or closed is decided by the change's own stamp. What becomes of a row is
//! [`crate::stored`]'s to say.
//!
//! Absent on purpose: differential's arrangement. Its upsert keeps the greatest value at ties, and costs ten times the
//! private state.

use std::rc::Rc;

use differential_dataflow::collection::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use timely::dataflow::StreamVec;

use crate::change::{Change, Order, Row, What};
use crate::counts::Counts;
use crate::epoch::Horizons;
use crate::key::{Hashing, Key, Text};
use crate::measure::{Contribution, Measure};
use crate::stash::Stash;
use crate::state::{Section, StateChange, StateLog};
use crate::stored::{RestoredRows, Stored, Turned};
use crate::table::{LateAdjustment, Table, Window};
use crate::turns::Turns;

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

/// One side of a change of a row that refers to another table's: it was taken out, put in, or touched only.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Move {
    /// The table it contributes to.
    pub table: Table,
    /// The place of the change.
    pub order: Order,
    /// The key of the row that is referred to, and the second part. Its shard is that row's.
    pub cell: Key,
    /// The product where distinct ones are kept; empty for none.
    pub member: Text,
    /// The row's own window, [`NO_WINDOW`](crate::table::NO_WINDOW), or [`ELSEWHERE`](crate::table::ELSEWHERE).
    pub window: Window,
    /// What it adds; nothing of a change that leaves all as it was but its stamp.
    pub measure: Measure,
}

/// Moves and changed state of [`referring_from`].
pub struct Referring<'scope> {
    /// What became of the rows.
    pub moves: StreamVec<'scope, u64, Move>,
    /// What the touched keys have after each tick, if that is tracked.
    pub state: StreamVec<'scope, u64, StateChange>,
    /// Live counts of this worker.
    pub counts: Rc<Counts>,
}

/// Keeps the latest row of every key and emits how each change moves the cells of `table`.
///
/// The collection holds each change once (difference 1). Times are log time; a change's own stamp is at or after its time and
/// before the next tick.
pub fn latest<'scope>(
    changes: VecCollection<'scope, u64, Change, isize>,
    table: Table,
    horizons: Horizons,
    hashing: Hashing,
) -> Latest<'scope> {
    latest_from(changes, LatestState::new(table, horizons, hashing))
}

/// As [`latest`], going on from what is known already.
pub fn latest_from(changes: VecCollection<'_, u64, Change, isize>, state: LatestState) -> Latest<'_> {
    let counts = Rc::clone(&state.stored.counts);
    let direct = Direct { table: state.table, horizons: state.stored.horizons, counts: Rc::clone(&counts) };
    let (contributions, late, state) = operator(changes, state, direct);
    Latest { contributions: contributions.as_collection(), late: late.as_collection(), state, counts }
}

/// As [`referring_from`], of rows of which none is known yet.
pub fn referring<'scope>(
    changes: VecCollection<'scope, u64, Change, isize>,
    table: Table,
    horizons: Horizons,
    hashing: Hashing,
) -> Referring<'scope> {
    let none = RestoredRows::default();
    referring_from(changes, LatestState::of(Section::Referring(table), table, horizons, hashing, none))
}

/// Keeps the latest row of every key, of rows that find their store through another table: what they come to is decided there.
pub fn referring_from(changes: VecCollection<'_, u64, Change, isize>, state: LatestState) -> Referring<'_> {
    let (counts, table) = (Rc::clone(&state.stored.counts), state.table);
    let (moves, _late, state) = operator(changes, state, Moving { table });
    Referring { moves, state, counts }
}

/// What is said of a row that was taken out or put in.
trait Sides {
    type Said: Clone + 'static;

    /// Whether a change that leaves the sides as they were is worth a word.
    const TOUCHES: bool;

    fn side(
        &mut self,
        time: u64,
        order: Order,
        row: Row,
        measure: Measure,
        say: &mut impl FnMut(Self::Said),
        late: &mut impl FnMut(LateAdjustment),
    );
}

/// Contributions and late adjustments.
struct Direct {
    table: Table,
    horizons: Horizons,
    counts: Rc<Counts>,
}

impl Sides for Direct {
    type Said = (Contribution, u64, Measure);
    const TOUCHES: bool = false;

    #[inline]
    fn side(
        &mut self,
        time: u64,
        order: Order,
        row: Row,
        measure: Measure,
        say: &mut impl FnMut(Self::Said),
        late: &mut impl FnMut(LateAdjustment),
    ) {
        let Row { cell, member, window, .. } = row;
        let contribution = Contribution { window, cell, member };
        judge(self.table, &self.horizons, &self.counts, order, contribution, measure, late, |one| say((one, time, measure)));
    }
}

/// Moves.
struct Moving {
    table: Table,
}

impl Sides for Moving {
    type Said = Move;
    const TOUCHES: bool = true;

    fn side(
        &mut self,
        _time: u64,
        order: Order,
        row: Row,
        measure: Measure,
        say: &mut impl FnMut(Move),
        _late: &mut impl FnMut(LateAdjustment),
    ) {
        let Row { cell, member, window, .. } = row;
        say(Move { table: self.table, order, cell, member, window, measure });
    }
}

/// Sends what contributes to where it belongs by the stamp of what moved it: to its cell, counted if its window is closed, or to the late
/// adjustments if that is expired.
#[inline]
#[allow(clippy::too_many_arguments, reason = "the three operators that judge have these at hand")]
pub(crate) fn judge(
    table: Table,
    horizons: &Horizons,
    counts: &Counts,
    order: Order,
    contribution: Contribution,
    measure: Measure,
    late: &mut impl FnMut(LateAdjustment),
    contribute: impl FnOnce(Contribution),
) {
    let Order { stamp, partition, position, .. } = order;
    if horizons.expired(contribution.window, stamp) {
        Counts::bump(&counts.late);
        let Contribution { window, cell: key, .. } = contribution;
        let Measure { sum, count } = measure;
        return late(LateAdjustment { table, window, key, sum, count, partition, position, stamp });
    }
    if horizons.closed(contribution.window, stamp) {
        Counts::bump(&counts.corrections);
    }
    contribute(contribution);
}

/// Late adjustments as updates.
type Lates<'scope> = StreamVec<'scope, u64, (LateAdjustment, u64, isize)>;

/// The operator around a [`LatestState`]: what its sides say, late adjustments, changed state.
fn operator<'scope, S: Sides + 'static>(
    changes: VecCollection<'scope, u64, Change, isize>,
    mut state: LatestState,
    mut sides: S,
) -> (StreamVec<'scope, u64, S::Said>, Lates<'scope>, StreamVec<'scope, u64, StateChange>) {
    let section = state.section;
    let scope = changes.inner.scope();
    let mut builder = OperatorBuilder::new(format!("Latest: {}", section.name()), scope);
    let route = |(change, _, _): &(Change, u64, isize)| change.key.shard();
    let mut input = builder.new_input(changes.inner, Exchange::new(route));
    let (said_out, said) = builder.new_output();
    let (late_out, late) = builder.new_output();
    let (state_out, changed) = builder.new_output();
    let mut state_out: OutputBuilder<_, CapacityContainerBuilder<Vec<_>>> = OutputBuilder::from(state_out);
    let mut said_out: OutputBuilder<_, CapacityContainerBuilder<Vec<_>>> = OutputBuilder::from(said_out);
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
                let mut said_out = said_out.activate();
                let mut late_out = late_out.activate();
                let mut state_out = state_out.activate();
                for (time, mut changes) in due {
                    for capability in capabilities.iter_mut() {
                        capability.downgrade(&time);
                    }
                    let mut said = said_out.session(&capabilities[0]);
                    let mut late = late_out.session(&capabilities[1]);
                    state.apply(&mut changes, &mut |order, turned| {
                        let mut say = |one| said.give(one);
                        let mut late = |adjustment| late.give((adjustment, time, 1));
                        turn::<S>(turned, |row, measure| sides.side(time, order, row, measure, &mut say, &mut late));
                    });
                    if let Some(changed) = &mut state.stored.changed {
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
    (said, late, changed)
}

/// The sides of a change: what is taken out, what is put in, or the net of both.
#[inline]
fn turn<S: Sides>(Turned { before, after }: Turned, mut side: impl FnMut(Row, Measure)) {
    match (before.filter(Row::counts), after.filter(Row::counts)) {
        (Some(old), Some(new)) if old.window == new.window && old.member == new.member && old.cell == new.cell => {
            let sum = new.amount - old.amount;
            if sum != 0 || S::TOUCHES {
                side(new, Measure { sum, count: 0 });
            }
        }
        (taken, put) => {
            if let Some(old) = taken {
                let sum = -old.amount;
                side(old, Measure { sum, count: -1 });
            }
            if let Some(new) = put {
                let sum = new.amount;
                side(new, Measure { sum, count: 1 });
            }
        }
    }
}

/// The state of [`latest`] on one worker, without the dataflow around it.
pub struct LatestState {
    table: Table,
    section: Section,
    stored: Stored,
    turns: Turns,
}

impl LatestState {
    /// No rows yet.
    pub fn new(table: Table, horizons: Horizons, hashing: Hashing) -> Self {
        LatestState::of(Section::Rows(table), table, horizons, hashing, RestoredRows::default())
    }

    /// From now on changed state is handed out.
    pub fn track(&mut self) {
        self.stored.changed.get_or_insert_with(StateLog::default);
    }

    /// The rows that were handed out and restored.
    pub(crate) fn of(section: Section, table: Table, horizons: Horizons, hashing: Hashing, restored: RestoredRows) -> Self {
        let stored = Stored::new(horizons, hashing, None, restored);
        stored.counts.entries.set(stored.len() as u64);
        LatestState { table, section, stored, turns: Turns::default() }
    }

    /// Applies the changes of one tick, and leaves none.
    fn apply(&mut self, changes: &mut Vec<Change>, turned: &mut impl FnMut(Order, Turned)) {
        let stored = &mut self.stored;
        self.turns.take(changes, |change| {
            let Change { key, order, against, what } = change;
            if let What::Truncate = what {
                return stored.truncate((key.hash, key.text.as_bytes()), *order, *against, |_, _, row| turned(*order, row));
            }
            let what = std::mem::replace(what, What::Delete);
            if let Some(row) = stored.change((key.hash, key.text.as_bytes()), *order, *against, what) {
                turned(*order, row);
            }
        });
        // Later changes have stamps at or above the least of this tick, whatever partition they come from.
        if let Some(now) = changes.iter().map(|change| change.order.stamp).min() {
            stored.sweep(changes.len(), now, |_| {});
        }
        changes.clear();
        stored.counts.entries.set(stored.len() as u64);
        stored.counts.bytes.set(stored.bytes() as u64);
    }
}
