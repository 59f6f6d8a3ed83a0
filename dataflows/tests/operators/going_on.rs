//! A dataflow that begins with the state another has handed out does from there on what that one does, with any number of workers,
//! also when the state was compacted; and with another grace and retention it takes back nothing.

use std::collections::{BTreeMap, BTreeSet};

use differential_dataflow::AsCollection;
use differential_dataflow::input::Input as _;
use proptest::prelude::*;
use storeflow_dataflows::beginning::Beginning;
use storeflow_dataflows::change::{Change, Guard, Order, What};
use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::graph::{Inputs, storeflow};
use storeflow_dataflows::state::{Section, StateRow, StateRows};
use storeflow_dataflows::table::{NO_WINDOW, Window};
use storeflow_dataflows::tally::Published;
use timely::dataflow::operators::Capture;

use crate::latest::{changes, steps};
use crate::tally::view_at;
use crate::{Entering, HASHING, MINUTE, arrived, row_key, run, updates};

/// What was published at each time, but for expiries: cells and history as they are, and of changed state what each key has.
type Told = (Vec<(u64, Published)>, BTreeMap<(u64, Section, Vec<u8>), Vec<u8>>, BTreeSet<(u64, Window)>);

fn told(published: &[(u64, Published)], from: u64) -> Told {
    let (mut shown, mut state, mut expired) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
    for (time, one) in published.iter().filter(|(time, _)| *time >= from) {
        match one {
            Published::Expired(expiry) => drop(expired.insert((*time, expiry.window))),
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
        steps in steps(120 * MINUTE),
        tick in proptest::sample::select(&[1_000, MINUTE, 10 * MINUTE][..]),
        (grace, retention, replay_horizon) in (0u64..25, 0u64..50, 1u64..60),
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
        let mut entering = changes(&steps, tick, workers.max(later_workers));
        if !windowed {
            for update in &mut entering {
                if let What::Row(row) | What::Patch(row, _) = &mut update.data.what {
                    row.window = NO_WINDOW;
                }
            }
        }
        let end = 121 * MINUTE;
        let cut = tick * (1 + cut.index((120 * MINUTE / tick) as usize) as u64);
        let go = |entering: Vec<Entering<Change>>, workers: usize, kept: Vec<(Section, StateRows)>, horizons: Horizons| {
            let outputs = run(workers, entering, end, move |changes, ends| {
                let scope = changes.scope();
                let mut beginning = Beginning::new(horizons, true);
                for (section, rows) in &kept {
                    for row in rows.iter().filter(|row| (row.hash >> 54) as usize % scope.peers() == scope.index()) {
                        assert!(beginning.restore(*section, row));
                    }
                }
                beginning.complete(cut);
                let (_, late_clicks) = scope.new_collection();
                let items = Some(changes.as_collection());
                let inputs = Inputs { payments: None, order_items: items, products: None, clicks: None, late_clicks, ends, hashing: HASHING };
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
        // Before its first record, a worker that goes on is at the as-of.
        let nothing = Change { key: row_key(200), order: Order { stamp: cut, partition: 9, position: 0, part: 0 }, against: Guard::None.into(), what: What::Delete };
        entering.extend((0..later_workers).map(|worker| Entering { data: nothing.clone(), time: cut, diff: 1, worker: worker as u8, turn: 0 }));
        let (later, later_late) = go(entering.clone(), later_workers, kept.clone(), horizons);
        let (shown, mut state, expired) = told(&published, cut);
        let (later_shown, mut later_state, later_expired) = told(&later, 0);
        let is_ours = |key: &[u8]| key == row_key(200).text.as_bytes();
        later_state.retain(|(_, _, key), _| !is_ours(key));
        state.retain(|(_, _, key), _| !is_ours(key));
        prop_assert_eq!(later_shown, shown);
        prop_assert_eq!(later_state, state);
        // A window all of whose cells were emptied before the cut is not known any more.
        let before: Vec<_> = published.iter().filter(|(time, _)| *time < cut).cloned().collect();
        let cells: BTreeSet<Window> = view_at(&before, cut).into_keys().map(|(window, _)| window).collect();
        for (time, window) in expired.difference(&later_expired) {
            prop_assert!(!cells.contains(window), "{} is not told to expire at {}", window, time);
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
