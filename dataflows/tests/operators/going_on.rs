//! A dataflow that begins with the state another has handed out does from there on what that one does, with any number of workers,
//! also when the state was compacted; and with another grace and retention it takes back nothing.

use std::collections::{BTreeMap, BTreeSet};

use differential_dataflow::input::Input as _;
use differential_dataflow::{AsCollection, VecCollection};
use proptest::prelude::*;
use storeflow_dataflows::beginning::Beginning;
use storeflow_dataflows::change::{Change, Guard, Order, What};
use storeflow_dataflows::dedup::Told;
use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::graph::{Inputs, storeflow};
use storeflow_dataflows::state::{Section, StateRow, StateRows};
use storeflow_dataflows::table::{NO_WINDOW, Table, Window};
use storeflow_dataflows::tally::Published;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::Capture;
use timely::dataflow::operators::vec::{Filter, Map};

use crate::dedup::clicks;
use crate::latest::{Step, changes, steps};
use crate::lookup::{JoinStep, Side, TABLES, join_steps, joining, keeps};
use crate::tally::view_at;
use crate::{Entering, HASHING, MINUTE, arrived, row_key, run, updates};

/// A record of any kind.
#[derive(Clone, Debug)]
enum Entered {
    /// Of a row behind `store_sales`.
    Row(Change),
    /// Of a lookup's row, or of one that refers to it.
    Side(Side, Change),
    /// A click.
    Told(Told),
}

/// What one kind of test begins with: changes of rows alone, so that little is in each other's way, or all there is.
#[derive(Clone, Debug)]
struct Log {
    rows: Vec<Step>,
    joining: Vec<JoinStep>,
    clicks: Vec<Entering<Told>>,
}

fn logs(tick: u64) -> impl Strategy<Value = Log> {
    let last = 120 * MINUTE;
    let rows = steps(last).prop_map(|rows| Log { rows, joining: Vec::new(), clicks: Vec::new() });
    let clicks = clicks(tick, (0..60u64).prop_map(|minutes| minutes * MINUTE));
    let all = (steps(last), join_steps(last), clicks).prop_map(|(rows, joining, clicks)| Log { rows, joining, clicks });
    prop_oneof![rows, all]
}

type Entereds<'scope> = StreamVec<'scope, u64, (Entered, u64, isize)>;

/// The updates of a kind.
fn only<'scope, D: Clone + 'static>(
    entered: &Entereds<'scope>,
    of: impl Fn(Entered) -> Option<D> + Clone + 'static,
) -> VecCollection<'scope, u64, D, isize> {
    let is = of.clone();
    let ours = entered.clone().filter(move |(entered, _, _)| is(entered.clone()).is_some());
    ours.map(move |(entered, time, diff)| (of(entered).expect("filtered"), time, diff)).as_collection()
}

/// What was published at each time, but for expiries: cells and history as they are, and of changed state what each key has.
type Shown = (Vec<(u64, Published)>, BTreeMap<(u64, Section, Vec<u8>), Vec<u8>>, BTreeSet<(u64, Table, Window)>);

fn told(published: &[(u64, Published)], from: u64) -> Shown {
    let (mut shown, mut state, mut expired) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
    for (time, one) in published.iter().filter(|(time, _)| *time >= from) {
        match one {
            Published::Expired(expiry) => drop(expired.insert((*time, expiry.table, expiry.window))),
            Published::State(change) => {
                for row in change.rows.iter() {
                    state.insert((*time, change.section, row.key.to_vec()), row.value.to_vec());
                }
            }
            one => shown.push((*time, one.clone())),
        }
    }
    shown.sort();
    (shown, state, expired)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A dataflow that begins with the state handed out before an as-of publishes from there on what the first one did, with
    /// any number of workers, and hands out the same state.
    #[test]
    fn a_dataflow_goes_on_from_its_changed_state(
        (tick, log) in proptest::sample::select(&[1_000, MINUTE, 10 * MINUTE][..]).prop_flat_map(|tick| (Just(tick), logs(tick))),
        (grace, retention, replay_horizon) in (0u64..25, 0u64..50, 1u64..60),
        orders in prop_oneof![Just(0), (1..100u64).prop_map(|minutes| minutes * MINUTE)],
        cut in any::<proptest::sample::Index>(),
        forget in any::<bool>(),
        (workers, later_workers) in (1usize..=3, 1usize..=3),
        windowed in prop::bool::weighted(0.8),
        (other_grace, other_retention) in (0u64..25, 25u64..90),
    ) {
        let horizons = Horizons {
            window: 10 * MINUTE,
            grace: grace * MINUTE,
            retention: (grace.max(10) + retention) * MINUTE,
            replay_horizon: replay_horizon * MINUTE, before: Before::NOTHING };
        // Of a truncate, each of the workers gets one, however many there are; those of the others change nothing a second time.
        let mut rows = changes(&log.rows, tick);
        if !windowed {
            for update in &mut rows {
                if let What::Row(row) | What::Patch(row, _) = &mut update.data.what {
                    row.window = NO_WINDOW;
                }
            }
        }
        let mut entering: Vec<Entering<Entered>> = rows.into_iter().map(|one| one.map(Entered::Row)).collect();
        entering.extend(joining(&log.joining, tick).into_iter().map(|one| one.map(|(side, change)| Entered::Side(side, change))));
        entering.extend(log.clicks.into_iter().map(|one| one.map(Entered::Told)));
        // A table's windows are its cells', whichever way they came.
        let tables: Vec<Table> = TABLES.into_iter().filter(|table| windowed || *table != Table::StoreSales).collect();
        let end = 121 * MINUTE;
        let cut = tick * (1 + cut.index((120 * MINUTE / tick) as usize) as u64);
        let go = |entering: Vec<Entering<Entered>>, workers: usize, kept: Vec<(Section, StateRows)>, horizons: Horizons| {
            let tables = tables.clone();
            let outputs = run(workers, entering, end, move |entered, ends| {
                let scope = entered.scope();
                let mut beginning = Beginning::new(horizons, HASHING, true);
                for (section, rows) in &kept {
                    for row in rows.iter().filter(|row| (row.hash >> 54) as usize % scope.peers() == scope.index()) {
                        assert!(beginning.restore(*section, row));
                    }
                }
                beginning.complete(cut);
                let (_, late_clicks) = scope.new_collection();
                let of_side = |wanted| only(&entered, move |one| match one {
                    Entered::Side(side, change) if side == wanted => Some(change),
                    _ => None,
                });
                let rows = only(&entered, |one| if let Entered::Row(change) = one { Some(change) } else { None });
                let told = only(&entered, |one| if let Entered::Told(told) = one { Some(told) } else { None });
                let inputs = Inputs {
                    rows: vec![(Table::StoreSales, rows)],
                    referring: tables.iter().map(|table| (*table, of_side(Side::Referring(*table)))).collect(),
                    lookups: Some((of_side(Side::Lookup), keeps(orders))),
                    clicks: None,
                    told: Some(told),
                    late_clicks,
                    ends,
                };
                let outputs = storeflow(inputs, beginning);
                (outputs.published.capture(), outputs.late.inner.capture())
            });
            let (mut published, mut late) = (Vec::new(), Vec::new());
            for (ours, adjustments) in outputs {
                published.append(&mut arrived(ours));
                late.append(&mut updates(vec![adjustments]));
            }
            late.sort();
            published.sort_by_key(|(time, _)| *time);
            (published, late)
        };
        let (published, late) = go(entering.clone(), workers, Vec::new(), horizons);
        let mut kept = Vec::new();
        for (time, one) in &published {
            if let Published::State(change) = one && *time < cut {
                kept.push((change.section, change.rows.clone()));
            }
        }
        if forget {
            // What a compaction of all of it leaves.
            let mut newest = BTreeMap::new();
            for (section, rows) in &kept {
                newest.extend(rows.iter().map(|row| ((*section, row.key.to_vec()), (row.hash, row.value.to_vec()))));
            }
            kept.clear();
            for ((section, key), (hash, value)) in &newest {
                let row = StateRow { hash: *hash, key, value };
                if Beginning::keeps(*section, row, &horizons, cut) {
                    let mut rows = StateRows::default();
                    rows.push(row);
                    kept.push((*section, rows));
                }
            }
        }
        entering.retain(|update| update.time >= cut);
        // Before its first record, a worker that goes on is at the as-of; what comes of this is a marker.
        let order = Order { stamp: cut, partition: 9, position: 0, part: 0 };
        let nothing = Entered::Row(Change { key: row_key(200), order, against: Guard::None.into(), what: What::Delete });
        entering.extend((0..later_workers).map(|worker| Entering { data: nothing.clone(), time: cut, diff: 1, worker: worker as u8, turn: 0 }));
        let (later, later_late) = go(entering.clone(), later_workers, kept.clone(), horizons);
        let (shown, state, expired) = told(&published, cut);
        let (later_shown, mut later_state, later_expired) = told(&later, 0);
        later_state.retain(|(_, _, key), _| key != row_key(200).text.as_bytes());
        prop_assert_eq!(later_shown, shown);
        prop_assert_eq!(later_state, state);
        // A window all of whose cells were emptied before the cut is not known any more.
        let before: Vec<_> = published.iter().filter(|(time, _)| *time < cut).cloned().collect();
        let of_table = |table: Table| before.iter().filter(move |(_, one)| match one {
            Published::Cell(change) => change.table == table,
            Published::Expired(expiry) => expiry.table == table,
            Published::History(_) | Published::State(_) => false,
        });
        for (time, table, window) in expired.difference(&later_expired) {
            let cells = view_at(&of_table(*table).cloned().collect::<Vec<_>>(), cut);
            prop_assert!(cells.keys().all(|(of, _)| of != window), "{} is not told to expire at {}", window, time);
        }
        prop_assert!(later_expired.is_subset(&expired));
        let late: Vec<_> = late.into_iter().filter(|(_, time, _)| *time >= cut).collect();
        prop_assert_eq!(later_late, late);

        // The same with another grace and retention from the cut on: what was decided stays decided.
        let (changed, _) = go(entering, later_workers, kept, horizons.changed(other_grace * MINUTE, other_retention * MINUTE, cut));
        for (time, one) in &changed {
            prop_assert!(*time >= cut || matches!(one, Published::Expired(_)) && *time + 1 >= cut, "{:?} at {}", one, time);
            match one {
                Published::History(row) => {
                    prop_assert!(row.epoch > cut);
                    let again = row.revision == 0 && row.window != NO_WINDOW && horizons.closed(row.window, cut);
                    prop_assert!(!again, "published a second time: {:?}", row);
                }
                Published::Cell(change) => {
                    prop_assert!(change.window == NO_WINDOW || !horizons.expired(change.window, cut), "{:?}", change);
                }
                Published::Expired(_) | Published::State(_) => {}
            }
        }
    }
}
