//! `referring` and `lookup` against differential's `reduce` and `join`, and against one pass that knows all pairs.

use std::collections::{BTreeMap, BTreeSet};

use differential_dataflow::{AsCollection, VecCollection};
use proptest::prelude::*;
use storeflow_dataflows::change::{Change, Guard, Order, Row, What};
use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::key::{Key, Text};
use storeflow_dataflows::latest::referring;
use storeflow_dataflows::lookup::lookup;
use storeflow_dataflows::measure::{Contribution, Measure};
use storeflow_dataflows::stored::Keeps;
use storeflow_dataflows::table::{ELSEWHERE, LateAdjustment, NO_WINDOW, Table, Window};
use timely::dataflow::StreamVec;
use timely::dataflow::operators::vec::{Filter, Map};
use timely::dataflow::operators::{Capture, Concatenate};

use crate::latest::{Late, Plain, by_key, contributed, forgotten, guard, last_row, row_keys, sorted, what};
use crate::{Captured, Entering, HASHING, MINUTE, cell_of, row_hash, row_key, run, space, updates};

/// Which side a change is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Lookup,
    Referring(Table),
}

/// A change of either side.
#[derive(Clone, Debug)]
pub(crate) struct JoinStep {
    side: Side,
    key: u8,
    stamp: u64,
    partition: u32,
    guard: Guard,
    what: What,
    worker: u8,
    turn: u16,
}

/// The tables that have rows which refer to others.
pub(crate) const TABLES: [Table; 3] = [Table::StorePayments, Table::StoreSales, Table::StoreProducts];

pub(crate) fn join_steps(last_stamp: u64) -> impl Strategy<Value = Vec<JoinStep>> {
    let side = prop_oneof![2 => Just(Side::Lookup), 3 => proptest::sample::select(&TABLES[..]).prop_map(Side::Referring)];
    let keys = (0u8..8, 0u8..6);
    let step = (side, keys, 0..last_stamp, 0u32..4, guard(last_stamp), what(), prop::bool::ANY, any::<u8>(), any::<u16>())
        .prop_map(|(side, (key, refers), stamp, partition, guard, what, elsewhere, worker, turn)| {
            let key = if side == Side::Lookup { key % 6 } else { key };
            let what = match what {
                What::Row(row) => What::Row(of_side(side, refers, elsewhere, row)),
                What::Patch(row, said) => What::Patch(of_side(side, refers, elsewhere, row), said),
                what => what,
            };
            JoinStep { side, key, stamp, partition, guard, what, worker, turn }
        });
    proptest::collection::vec(step, 1..120)
}

/// A row as decoders make it of one side.
fn of_side(side: Side, refers: u8, elsewhere: bool, row: Row) -> Row {
    let (store, second) = row.cell.cell_parts();
    let cell = |store: &[u8], second: &[u8]| cell_of(store, second, &mut Vec::new());
    match side {
        Side::Lookup => Row { cell: cell(store, b""), member: Text::EMPTY, amount: 0, ..row },
        Side::Referring(table) => {
            let cell = cell(lookup_key(refers).text.as_bytes(), second);
            let window = match table {
                Table::StoreProducts => NO_WINDOW,
                _ if elsewhere => ELSEWHERE,
                _ => row.window,
            };
            Row { cell, window, ..row }
        }
    }
}

/// The keys of two lookups.
pub(crate) fn lookup_key(number: u8) -> Key {
    let text = format!("{}{number}", lookup_space(number));
    Key { hash: row_hash(text.as_bytes()), text: Text::new(text.as_bytes()) }
}

fn lookup_space(number: u8) -> &'static str {
    if number.is_multiple_of(2) { "\u{4}\u{6}orders" } else { "\u{4}\u{5}carts" }
}

/// Rows of carts are kept until they are deleted.
pub(crate) fn keeps(orders: u64) -> Keeps {
    vec![(lookup_space(0).as_bytes().into(), orders), (lookup_space(1).as_bytes().into(), 0)]
}

pub(crate) fn joining(steps: &[JoinStep], tick: u64) -> Vec<Entering<(Side, Change)>> {
    let mut entering = Vec::new();
    for (position, step) in steps.iter().enumerate() {
        let JoinStep { side, key, stamp, partition, guard, ref what, worker, turn, .. } = *step;
        let order = Order { stamp, partition, position: position as u64 / 2, part: position as u32 % 2 };
        let keys: Vec<Key> = match (what, side) {
            (What::Truncate, _) => {
                let space = if side == Side::Lookup { lookup_space(key) } else { space(key) };
                // One for each shard that a key is in.
                (0..3).map(|shard| Key { hash: shard << 54, text: Text::new(space.as_bytes()) }).collect()
            }
            (_, Side::Lookup) => vec![lookup_key(key)],
            (_, Side::Referring(_)) => vec![row_key(key)],
        };
        let change = |key| Change { key, order, against: guard.into(), what: what.clone() };
        let enters = |key| Entering { data: (side, change(key)), time: stamp / tick * tick, diff: 1, worker, turn };
        entering.extend(keys.into_iter().map(enters));
    }
    entering
}

type Changes<'scope> = StreamVec<'scope, u64, ((Side, Change), u64, isize)>;

/// The changes of one side.
pub(crate) fn only<'scope>(changes: &Changes<'scope>, side: Side) -> VecCollection<'scope, u64, Change, isize> {
    let ours = changes.clone().filter(move |((of, _), _, _)| *of == side);
    ours.map(|((_, change), time, diff)| (change, time, diff)).as_collection()
}

/// By table.
type Contributed = BTreeMap<Table, Vec<(Contribution, u64, Measure)>>;
/// A cell with its window, and what a group adds to it.
type Placed = (Option<(Key, Window)>, Measure);

type Contributions = Vec<(Table, Captured<(Contribution, u64, Measure)>)>;

/// What the operators make of it.
fn ours(changes: &Changes<'_>, horizons: Horizons, orders: u64) -> (Contributions, Captured<(LateAdjustment, u64, isize)>) {
    let moves = TABLES.map(|table| referring(only(changes, Side::Referring(table)), table, horizons, HASHING).moves);
    let moves = changes.scope().concatenate(moves);
    let joined = lookup(only(changes, Side::Lookup), moves, TABLES.to_vec(), (horizons, HASHING, keeps(orders)));
    let contributions = joined.contributions.into_iter().map(|(table, of)| (table, of.inner.capture()));
    (contributions.collect(), joined.late.inner.capture())
}

/// By table, of all workers.
fn gathered(outputs: Vec<Contributions>) -> Contributed {
    let mut all = BTreeMap::<Table, Vec<_>>::new();
    for (table, captured) in outputs.into_iter().flatten() {
        all.entry(table).or_default().append(&mut updates(vec![captured]));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Where nothing is forgotten, contributions are those of differential's join of the latest rows of both sides.
    #[test]
    fn differential_lookup_equals_reduce_and_join(
        steps in join_steps(5_000),
        tick in proptest::sample::select(&[1u64, 10, 500, 5_000][..]),
        workers in 1usize..=3,
    ) {
        let forever = 1_000_000_000 * MINUTE;
        let horizons = Horizons { window: 10 * MINUTE, grace: MINUTE, retention: forever, replay_horizon: forever, before: Before::NOTHING };
        let entering = joining(&steps, tick);
        let times: BTreeSet<u64> = entering.iter().map(|update| update.time).collect();
        let outputs = run(workers, entering, 0, move |changes, _| {
            let keys = |side| if side == Side::Lookup { (0..6).map(lookup_key).collect::<Vec<_>>() } else { row_keys().collect() };
            let left = |side| {
                let of_keys = only(&changes, side).flat_map(move |change| by_key(change, keys(side).into_iter()));
                of_keys.map(|change| (change.key.clone(), sorted(&change))).reduce(|_, changes, left| left.extend(last_row(changes)))
            };
            let lookups = left(Side::Lookup);
            let twins: Vec<_> = TABLES.map(|table| {
                let rows = left(Side::Referring(table)).map(|(key, row)| {
                    let text = Text::new(row.cell.cell_parts().0);
                    (Key { hash: row_hash(text.as_bytes()), text }, (key, row))
                });
                let joined = rows.join_map(lookups.clone(), |_, (key, row), lookup: &Row| {
                    let window = if row.window == ELSEWHERE { lookup.window } else { row.window };
                    let cell = cell_of(lookup.cell.cell_parts().0, row.cell.cell_parts().1, &mut Vec::new());
                    (key.clone(), Contribution { window, cell, member: row.member.clone() }, row.amount)
                });
                (table, joined.inner.capture())
            }).into_iter().collect();
            (ours(&changes, horizons, 0), twins)
        });
        let (mut found, mut late, mut twins) = (Vec::new(), Vec::new(), BTreeMap::<Table, Vec<_>>::new());
        for ((contributions, adjustments), joined) in outputs {
            found.push(contributions);
            late.push(adjustments);
            for (table, joined) in joined {
                let measure = |((_, contribution, amount), time, diff): ((Key, Contribution, i128), u64, isize)| {
                    (contribution, time, Measure { sum: amount * diff as i128, count: diff as i64 })
                };
                twins.entry(table).or_default().extend(updates(vec![joined]).into_iter().map(measure));
            }
        }
        prop_assert_eq!(updates(late), vec![], "nothing expires");
        let found = gathered(found);
        for table in TABLES {
            for &time in &times {
                prop_assert_eq!(contributed(&found[&table], time), contributed(&twins[&table], time), "{:?} at {}", table, time);
            }
        }
    }

    /// With all that is forgotten and expires on either side, contributions and late adjustments are those of one pass over plain maps.
    #[test]
    fn oracle_lookup_forgets_like_plain_maps(
        steps in join_steps(120 * MINUTE),
        tick in proptest::sample::select(&[1_000, MINUTE, 10 * MINUTE][..]),
        (retention, replay_horizon) in (10u64..60, 1u64..60),
        orders in prop_oneof![Just(0), 1..100 * MINUTE],
        workers in 1usize..=3,
    ) {
        let horizons =
            Horizons { window: 10 * MINUTE, grace: MINUTE, retention: retention * MINUTE, replay_horizon: replay_horizon * MINUTE, before: Before::NOTHING };
        // On the minute, and a millisecond before, where it is decided what is over.
        let orders = orders / MINUTE * MINUTE;
        let on_edges = |step: &JoinStep| JoinStep { stamp: (step.stamp / MINUTE * MINUTE + step.stamp % 2).saturating_sub(1), ..step.clone() };
        let steps: Vec<JoinStep> = steps.iter().map(on_edges).collect();
        let entering = joining(&steps, tick);
        let (twins, twin_late) = plain_join(&entering, &horizons, orders);
        let times: BTreeSet<u64> = entering.iter().map(|update| update.time).collect();
        let outputs = run(workers, entering, 0, move |changes, _| ours(&changes, horizons, orders));
        let (found, late): (Vec<_>, Vec<_>) = outputs.into_iter().unzip();
        let (found, mut late) = (gathered(found), updates(late));
        late.sort();
        prop_assert_eq!(late, twin_late);
        for table in TABLES {
            let twin = twins.get(&table).cloned().unwrap_or_default();
            for &time in &times {
                prop_assert_eq!(contributed(&found[&table], time), contributed(&twin, time), "{:?} at {}", table, time);
            }
        }
    }
}

/// Lookup key, table, own window, second part, product.
type Group = (Key, Table, Window, Text, Text);

/// One pass over all changes of both sides in their order: before and after each, what every group of its lookup keys contributes.
fn plain_join(entering: &[Entering<(Side, Change)>], horizons: &Horizons, orders: u64) -> (Contributed, Late) {
    let mut events = Vec::new();
    for Entering { data: (side, change), time, .. } in entering {
        let keys: Vec<Key> = if *side == Side::Lookup { (0..6).map(lookup_key).collect() } else { row_keys().collect() };
        events.extend(by_key(change.clone(), keys.into_iter()).into_iter().map(|change| (*side, change, *time)));
    }
    events.sort_by_key(|(_, change, _)| change.order);
    let mut lookups = BTreeMap::<Key, Plain>::new();
    let mut rows = BTreeMap::<(Side, Key), Plain>::new();
    let mut groups = BTreeMap::<Group, (Measure, u64)>::new();
    let (mut contributions, mut late) = (BTreeMap::<Table, Vec<_>>::new(), Vec::new());
    for (side, Change { key, order, against, what }, time) in events {
        let now = order.stamp;
        lookups.retain(|key, entry| {
            let keep = if key.text.as_bytes().starts_with(lookup_space(0).as_bytes()) { orders } else { 0 };
            let gone = match entry.row {
                Some(_) => keep != 0 && entry.since + keep <= now,
                None => entry.since + horizons.replay_horizon <= now,
            };
            let fence = entry.fence.filter(|(_, at)| at + horizons.replay_horizon > now);
            *entry = if gone { Plain { fence, ..Plain::default() } } else { Plain { fence, ..entry.clone() } };
            *entry != Plain::default()
        });
        groups.retain(|(_, _, window, _, _), (_, since)| forgotten(*window, *since, horizons).is_none_or(|at| at > now));
        let place = |lookups: &BTreeMap<Key, Plain>, (of, _, window, second, _): &Group| {
            let row = lookups.get(of)?.row.as_ref().filter(|row| row.counts())?;
            let cell = cell_of(row.cell.cell_parts().0, second.as_bytes(), &mut Vec::new());
            Some((cell, if *window == ELSEWHERE { row.window } else { *window }))
        };
        let before: Vec<_> =
            groups.iter().map(|(group, (measure, _))| (group.clone(), place(&lookups, group), *measure)).collect();
        if side == Side::Lookup {
            let Some(new) = Plain::after(lookups.get(&key), against.guard(), now, &what) else { continue };
            lookups.insert(key, new);
        } else if let Side::Referring(table) = side {
            let old = rows.get(&(side, key.clone())).cloned().and_then(|entry| entry.at(now, horizons));
            let Some(new) = Plain::after(old.as_ref(), against.guard(), now, &what) else { continue };
            // A truncate that is older than the row is remembered, and does nothing to it.
            if old.as_ref().is_some_and(|old| (&old.row, old.since) == (&new.row, new.since)) {
                rows.insert((side, key), new);
                continue;
            }
            for (row, sign) in [(old.and_then(|entry| entry.row), -1), (new.row.clone(), 1)] {
                let Some(row) = row.filter(Row::counts) else { continue };
                let (of, second) = row.cell.cell_parts();
                let of = Key { hash: row_hash(of), text: Text::new(of) };
                let (measure, since) = groups.entry((of, table, row.window, Text::new(second), row.member)).or_default();
                measure.sum += row.amount * i128::from(sign);
                measure.count += sign;
                *since = now;
            }
            rows.insert((side, key), new);
        }
        let mut moved: BTreeMap<Group, [Placed; 2]> = BTreeMap::new();
        for (group, place, measure) in before {
            moved.entry(group).or_default()[0] = (place, measure);
        }
        for (group, (measure, _)) in &groups {
            moved.entry(group.clone()).or_default()[1] = (place(&lookups, group), *measure);
        }
        groups.retain(|_, (measure, _)| *measure != Measure::default());
        for (group, [(from, old), (to, new)]) in moved {
            let minus = |of: Measure, less: Measure| Measure { sum: of.sum - less.sum, count: of.count - less.count };
            let sides = match (from, to) {
                (Some(from), Some(to)) if from == to => vec![(to, minus(new, old))],
                (from, to) => {
                    let from = from.map(|from| (from, minus(Measure::default(), old)));
                    from.into_iter().chain(to.map(|to| (to, new))).collect()
                }
            };
            let (_, table, _, _, member) = group;
            for ((cell, window), measure) in sides.into_iter().filter(|(_, measure)| *measure != Measure::default()) {
                if window != NO_WINDOW && window as u64 + horizons.window + horizons.retention <= now {
                    let Order { stamp, partition, position, .. } = order;
                    let Measure { sum, count } = measure;
                    late.push((LateAdjustment { table, window, key: cell, sum, count, partition, position, stamp }, time, 1));
                } else {
                    contributions.entry(table).or_default().push((
                        Contribution { window, cell, member: member.clone() },
                        time,
                        measure,
                    ));
                }
            }
        }
    }
    late.sort();
    (contributions, late)
}
