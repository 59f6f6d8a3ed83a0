//! `latest` against a `reduce` over all changes of a key, and against one pass over a plain map.

use std::collections::{BTreeMap, BTreeSet};

use differential_dataflow::AsCollection;
use proptest::prelude::*;
use storeflow_dataflows::change::{Change, Guard, Order, Position, Row, Version, What, says};
use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::key::{Key, Text};
use storeflow_dataflows::latest::latest;
use storeflow_dataflows::measure::{Contribution, Measure};
use storeflow_dataflows::table::{ELSEWHERE, LateAdjustment, NO_WINDOW, Table, Window};
use timely::dataflow::operators::Capture;

use crate::{Entering, HASHING, MINUTE, cell_key, cell_of, member, row_key, run, space, updates};

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) key: u8,
    pub(crate) stamp: u64,
    pub(crate) partition: u32,
    pub(crate) guard: Guard,
    pub(crate) what: What,
    pub(crate) worker: u8,
    pub(crate) turn: u16,
}

pub(crate) fn row() -> impl Strategy<Value = Row> {
    let amount = prop_oneof![8 => -50i128..50, 1 => Just(10i128.pow(26)), 1 => Just(-10i128.pow(26))];
    let lacks = prop_oneof![8 => Just(0u32), 1 => 1u32..4];
    (0u8..3, 0u8..2, 0u8..3, 0i64..4, amount, lacks).prop_map(|(store, second, product, window, amount, lacks)| Row {
        cell: cell_key(store, second),
        member: member(product),
        window: window * 10 * MINUTE as i64,
        amount,
        lacks,
    })
}

/// Parts that a patch says; of the conditions there are two.
fn said() -> impl Strategy<Value = u32> {
    let parts = [1, 2, says::STORE, says::SECOND, says::MEMBER, says::WINDOW, says::AMOUNT];
    let subset = proptest::sample::subsequence(parts.to_vec(), 0..=parts.len());
    subset.prop_map(|parts| parts.into_iter().sum::<u32>() | says::CONDITIONS & !3)
}

pub(crate) fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        10 => row().prop_map(What::Row),
        3 => Just(What::Delete),
        4 => (row(), said()).prop_map(|(row, said)| What::Patch(row, said)),
        1 => Just(What::Truncate),
    ]
}

pub(crate) fn guard(last_stamp: u64) -> impl Strategy<Value = Guard> {
    let version = (0u8..2, 0u8..3, 0u8..30).prop_map(|(incarnation, server, position)| Version {
        incarnation: incarnation.into(),
        server: server.into(),
        position: Position(u32::from(position) / 10, u64::from(position) % 10, 0),
    });
    prop_oneof![8 => version.clone().prop_map(Guard::Version), 2 => version.prop_map(Guard::Read), 2 => Just(Guard::None), 1 => (0..last_stamp).prop_map(Guard::Since)]
}

pub(crate) fn steps(last_stamp: u64) -> impl Strategy<Value = Vec<Step>> {
    let step = (0u8..8, 0..last_stamp, 0u32..4, guard(last_stamp), what(), any::<u8>(), any::<u16>())
        .prop_map(|(key, stamp, partition, guard, what, worker, turn)| Step { key, stamp, partition, guard, what, worker, turn });
    proptest::collection::vec(step, 1..80)
}

/// The steps as changes, each a record of its own or the next part of the one before; of a truncate one for each shard that keys are in.
pub(crate) fn changes(steps: &[Step], tick: u64) -> Vec<Entering<Change>> {
    let mut entering = Vec::new();
    for (position, step) in steps.iter().enumerate() {
        let Step { stamp, partition, guard, ref what, worker, turn, .. } = *step;
        let order = Order { stamp, partition, position: position as u64 / 2, part: position as u32 % 2 };
        let keys: Vec<Key> = match what {
            What::Truncate => {
                let text = Text::new(space(step.key).as_bytes());
                // One for each shard that a key is in.
                (0..3).map(|shard| Key { hash: shard << 54, text: text.clone() }).collect()
            }
            _ => vec![row_key(step.key)],
        };
        let change = |key| Change { key, order, against: guard.into(), what: what.clone() };
        let enters = |key| Entering { data: change(key), time: stamp / tick * tick, diff: 1, worker, turn };
        entering.extend(keys.into_iter().map(enters));
    }
    entering
}

/// All keys of rows.
pub(crate) fn row_keys() -> impl Iterator<Item = Key> {
    (0..8).map(row_key)
}

/// The changes as each key sees them: a truncate is one of every key that begins so.
pub(crate) fn by_key(change: Change, keys: impl Iterator<Item = Key>) -> Vec<Change> {
    match change.what {
        // Its copies for other workers say the same.
        What::Truncate if change.key.hash > 0 => Vec::new(),
        What::Truncate => {
            let keys = keys.filter(|key| key.text.as_bytes().starts_with(change.key.text.as_bytes()));
            keys.map(|key| Change { key, ..change.clone() }).collect()
        }
        _ => vec![change],
    }
}

/// What contributions amount to at a time; those that amount to nothing are not there.
pub(crate) fn contributed(updates: &[(Contribution, u64, Measure)], at: u64) -> BTreeMap<Contribution, Measure> {
    let mut cells = BTreeMap::<Contribution, Measure>::new();
    for (contribution, _, measure) in updates.iter().filter(|(_, time, _)| *time <= at) {
        let cell = cells.entry(contribution.clone()).or_default();
        cell.sum += measure.sum;
        cell.count += measure.count;
    }
    cells.retain(|_, measure| *measure != Measure::default());
    cells
}

pub(crate) fn contribution(row: &Row) -> Contribution {
    Contribution { window: row.window, cell: row.cell.clone(), member: row.member.clone() }
}

/// An entry as `docs/semantics.md` has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plain {
    pub(crate) version: Option<Version>,
    pub(crate) since: u64,
    pub(crate) row: Option<Row>,
    /// The last truncate of its table, with its stamp.
    pub(crate) fence: Option<(Version, u64)>,
}

/// Whether a row is forgotten, and at which instant.
pub(crate) fn forgotten(window: Window, since: u64, horizons: &Horizons) -> Option<u64> {
    let Horizons { window: length, retention, replay_horizon, .. } = *horizons;
    match window {
        NO_WINDOW => None,
        ELSEWHERE => Some(since + length + retention + replay_horizon),
        window => Some((window as u64 + length + retention).max(since + replay_horizon)),
    }
}

impl Plain {
    /// What is left of an entry at an instant.
    pub(crate) fn at(mut self, now: u64, horizons: &Horizons) -> Option<Plain> {
        if let Some(row) = &self.row
            && let Some(at) = forgotten(row.window, self.since, horizons).filter(|at| *at <= now)
        {
            (self.row, self.since) = (None, at);
        }
        self.fence = self.fence.filter(|(_, at)| at + horizons.replay_horizon > now);
        if self.row.is_none() && self.since + horizons.replay_horizon <= now {
            (self.version, self.since) = (None, 0);
        }
        (self != Plain::default()).then_some(self)
    }

    /// The entry after a change; `None` if that changes nothing.
    pub(crate) fn after(old: Option<&Plain>, guard: Guard, now: u64, what: &What) -> Option<Plain> {
        let live = old.and_then(|entry| entry.row.as_ref());
        let version = match guard {
            Guard::Version(version) => Some(version),
            // What was stored says where the row was changed last.
            Guard::Read(read) => {
                let stored = old.and_then(|entry| entry.version).filter(|stored| read.comparable(stored));
                Some(stored.unwrap_or(Version { position: Position::default(), ..read }))
            }
            Guard::Since(then) => Some(Version::replayed(then)),
            Guard::None => None,
        };
        let replayed = |entry: &Plain| entry.version.and_then(|version| version.replayed_since());
        let fence = old.and_then(|entry| entry.fence);
        let fenced = match (guard, fence) {
            (Guard::Version(new) | Guard::Read(new), Some((fence, _))) => new.stale_against(&fence),
            _ => false,
        };
        if fenced {
            return None;
        }
        let stale = match (guard, old) {
            (Guard::Version(new) | Guard::Read(new), Some(Plain { version: Some(old), .. })) => new.stale_against(old),
            (Guard::Since(then), Some(old)) => replayed(old).unwrap_or(old.since) > then,
            _ => false,
        };
        let nothing = match what {
            What::Delete => {
                let versioned = old.is_some_and(|entry| entry.version.is_some() && replayed(entry).is_none());
                guard == Guard::None && live.is_none() && versioned
            }
            What::Truncate => live.is_none(),
            What::Row(_) | What::Patch(..) => false,
        };
        let fence = match (what, guard) {
            (What::Truncate, Guard::Version(version)) => Some((version, now)),
            _ => fence,
        };
        if stale || nothing {
            let old = old.cloned().unwrap_or_default();
            return (what == &What::Truncate).then_some(Plain { fence, ..old });
        }
        let row = match what {
            What::Row(row) => Some(row.clone()),
            What::Delete | What::Truncate => None,
            What::Patch(patch, said) => Some(Plain::patched(live, patch, *said)),
        };
        Some(Plain { version, since: now, row, fence })
    }

    fn patched(live: Option<&Row>, patch: &Row, said: u32) -> Row {
        let unknown =
            Row { cell: cell_of(b"", b"", &mut Vec::new()), member: Text::EMPTY, window: ELSEWHERE, amount: 0, lacks: says::ALL };
        let mut row = live.cloned().unwrap_or(unknown);
        for part in (0..32).map(|bit| 1u32 << bit).filter(|part| said & part != 0) {
            let (store, second) = row.cell.cell_parts();
            let (new_store, new_second) = patch.cell.cell_parts();
            match part {
                says::STORE => row.cell = cell_of(new_store, second, &mut Vec::new()),
                says::SECOND => row.cell = cell_of(store, new_second, &mut Vec::new()),
                says::MEMBER => row.member = patch.member.clone(),
                says::WINDOW => row.window = patch.window,
                says::AMOUNT => row.amount = patch.amount,
                _ => {}
            }
            row.lacks = row.lacks & !part | patch.lacks & part;
        }
        row
    }
}

/// A change as differential sorts it: its order stands first.
pub(crate) type Sorted = (Order, Guarded, Option<(Row, u32)>, bool);
pub(crate) type Guarded = (Option<(u64, u32, Position)>, Option<u64>);

/// The row that the changes of a key leave, if it counts; they come sorted.
pub(crate) fn last_row(changes: &[(&Sorted, isize)]) -> Option<(Row, isize)> {
    let mut stored: Option<Plain> = None;
    for (change, _) in changes {
        let (guard, stamp, what) = unsorted(change);
        stored = Plain::after(stored.as_ref(), guard, stamp, &what).or(stored);
    }
    stored.and_then(|entry| entry.row).filter(Row::counts).map(|row| (row, 1))
}

pub(crate) fn sorted(change: &Change) -> Sorted {
    let guard = match change.against.guard() {
        Guard::None => (None, None),
        Guard::Version(Version { incarnation, server, position }) => (Some((incarnation, server, position)), None),
        Guard::Read(Version { incarnation, server, position }) => (Some((incarnation, server, position)), Some(0)),
        Guard::Since(since) => (None, Some(since)),
    };
    let row = match &change.what {
        What::Row(row) => Some((row.clone(), says::ALL)),
        What::Patch(row, said) => Some((row.clone(), *said)),
        What::Delete | What::Truncate => None,
    };
    // A patch that says all is a row.
    (change.order, guard, row, change.what == What::Truncate)
}

fn unsorted((order, guard, row, truncate): &Sorted) -> (Guard, u64, What) {
    let guard = match *guard {
        (Some((incarnation, server, position)), None) => Guard::Version(Version { incarnation, server, position }),
        (Some((incarnation, server, position)), Some(_)) => Guard::Read(Version { incarnation, server, position }),
        (None, Some(since)) => Guard::Since(since),
        (None, None) => Guard::None,
    };
    let what = match row {
        Some((row, said)) => What::Patch(row.clone(), *said),
        None if *truncate => What::Truncate,
        None => What::Delete,
    };
    (guard, order.stamp, what)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Without expiry the latest rows are those that a `reduce` over all changes of each key leaves.
    #[test]
    fn differential_latest_equals_a_reduce_over_all_changes(
        steps in steps(5_000),
        tick in proptest::sample::select(&[1u64, 10, 500, 5_000][..]),
        workers in 1usize..=3,
    ) {
        let forever = 1_000_000_000 * MINUTE;
        let horizons = Horizons { window: 10 * MINUTE, grace: MINUTE, retention: forever, replay_horizon: forever, before: Before::NOTHING };
        let entering = changes(&steps, tick);
        let times: BTreeSet<u64> = entering.iter().map(|update| update.time).collect();
        let outputs = run(workers, entering, 0, move |changes, _| {
            let changes = changes.as_collection();
            let of_keys = changes.clone().flat_map(|change| by_key(change, row_keys())).map(|change| (change.key.clone(), sorted(&change)));
            let left = of_keys.reduce(|_key, changes, left| left.extend(last_row(changes)));
            let ours = latest(changes, Table::StoreSales, horizons, HASHING);
            (ours.contributions.inner.capture(), ours.late.inner.capture(), left.inner.capture())
        });
        let (mut ours, mut late, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for (contributions, adjustments, rows) in outputs {
            ours.push(contributions);
            late.push(adjustments);
            left.push(rows);
        }
        let (ours, late, left) = (updates(ours), updates(late), updates(left));
        prop_assert_eq!(late, vec![], "nothing expires");
        let twin: Vec<(Contribution, u64, Measure)> = left
            .iter()
            .map(|((_, row), time, diff)| {
                (contribution(row), *time, Measure { sum: row.amount * *diff as i128, count: *diff as i64 })
            })
            .collect();
        for &time in &times {
            prop_assert_eq!(contributed(&ours, time), contributed(&twin, time), "at {}", time);
        }
    }

    /// With rows and markers that are forgotten, and windows that expire, the contributions and late adjustments are those of
    /// one pass over a plain map.
    #[test]
    fn oracle_latest_forgets_like_a_plain_map(
        steps in steps(120 * MINUTE),
        tick in proptest::sample::select(&[1_000, MINUTE, 10 * MINUTE][..]),
        retention in 10u64..60,
        replay_horizon in 1u64..60,
        workers in 1usize..=3,
    ) {
        let horizons =
            Horizons { window: 10 * MINUTE, grace: MINUTE, retention: retention * MINUTE, replay_horizon: replay_horizon * MINUTE, before: Before::NOTHING };
        let steps: Vec<Step> = steps.iter().map(on_edges).collect();
        let entering = changes(&steps, tick);
        let (twin, twin_late) = plain_latest(&entering, &horizons);
        let times: BTreeSet<u64> = entering.iter().map(|update| update.time).collect();
        let outputs = run(workers, entering, 0, move |changes, _| {
            let ours = latest(changes.as_collection(), Table::StoreSales, horizons, HASHING);
            (ours.contributions.inner.capture(), ours.late.inner.capture())
        });
        let (ours, late): (Vec<_>, Vec<_>) = outputs.into_iter().unzip();
        let (ours, mut late) = (updates(ours), updates(late));
        late.sort();
        prop_assert_eq!(late, twin_late);
        for &time in &times {
            prop_assert_eq!(contributed(&ours, time), contributed(&twin, time), "at {}", time);
        }
    }
}

/// On the minute, where windows expire and markers are forgotten, and a millisecond before.
pub(crate) fn on_edges(step: &Step) -> Step {
    Step { stamp: (step.stamp / MINUTE * MINUTE + step.stamp % 2).saturating_sub(1), ..step.clone() }
}

pub(crate) type Late = Vec<(LateAdjustment, u64, isize)>;

/// One pass over all changes in their order, with a plain map. `docs/semantics.md`, "Latest row per key".
fn plain_latest(entering: &[Entering<Change>], horizons: &Horizons) -> (Vec<(Contribution, u64, Measure)>, Late) {
    let of_keys = |update: &Entering<Change>| {
        by_key(update.data.clone(), row_keys()).into_iter().map(|change| (change, update.time)).collect::<Vec<_>>()
    };
    let mut sorted: Vec<(Change, u64)> = entering.iter().flat_map(of_keys).collect();
    sorted.sort_by_key(|(change, _)| change.order);
    let (mut known, mut contributions, mut late) = (BTreeMap::<Key, Plain>::new(), Vec::new(), Vec::new());
    for (Change { key, order, against, what }, time) in sorted {
        let now = order.stamp;
        let old = known.get(&key).cloned().and_then(|entry| entry.at(now, horizons));
        let Some(new) = Plain::after(old.as_ref(), against.guard(), now, &what) else { continue };
        known.insert(key, new.clone());
        let mut moves = BTreeMap::<Contribution, Measure>::new();
        for (row, sign) in [(old.and_then(|entry| entry.row), -1), (new.row, 1)] {
            if let Some(row) = row.filter(Row::counts) {
                let measure = moves.entry(contribution(&row)).or_default();
                measure.sum += row.amount * i128::from(sign);
                measure.count += sign;
            }
        }
        moves.retain(|_, measure| *measure != Measure::default());
        for (contribution, Measure { sum, count }) in moves {
            let Contribution { window, cell: key, .. } = contribution.clone();
            if window != NO_WINDOW && window as u64 + horizons.window + horizons.retention <= now {
                let Order { stamp, partition, position, .. } = order;
                let row = LateAdjustment { table: Table::StoreSales, window, key, sum, count, partition, position, stamp };
                late.push((row, time, 1));
            } else {
                contributions.push((contribution, time, Measure { sum, count }));
            }
        }
    }
    late.sort();
    (contributions, late)
}
