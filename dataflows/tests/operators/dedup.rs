//! `dedup` against differential's `reduce`, and against one pass over a plain map.

use std::collections::{BTreeMap, BTreeSet};

use differential_dataflow::AsCollection;
use proptest::prelude::*;
use storeflow_dataflows::change::Order;
use storeflow_dataflows::dedup::{Told, dedup};
use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::key::{Key, Text};
use storeflow_dataflows::measure::{Contribution, Measure};
use storeflow_dataflows::table::{LateAdjustment, Table};
use timely::dataflow::operators::Capture;

use crate::latest::contributed;
use crate::{Entering, MINUTE, cell_key, member, row_hash, run, updates};

/// Clicks of a few events, told once and again, with stamps on the minute and a millisecond before.
pub(crate) fn clicks(tick: u64, horizon: impl Strategy<Value = u64>) -> impl Strategy<Value = Vec<Entering<Told>>> {
    let click = (0u8..8, 0..120u64, any::<bool>(), (0u8..3, 0u8..3, 0i64..4), 0u32..3, any::<u8>(), any::<u16>());
    (proptest::collection::vec(click, 1..120), horizon).prop_map(move |(clicks, horizon)| {
        type Click = (u8, u64, bool, (u8, u8, i64), u32, u8, u16);
        let told = |(position, click): (u64, Click)| {
            let (event, minute, before, (store, product, window), partition, worker, turn) = click;
            let stamp = (minute * MINUTE).saturating_sub(u64::from(before));
            let text = format!("event {event}");
            let event = Key { hash: row_hash(text.as_bytes()), text: Text::new(text.as_bytes()) };
            let contribution =
                Contribution { window: window * 10 * MINUTE as i64, cell: cell_key(store, 0), member: member(product) };
            let order = Order { stamp, partition, position, part: 0 };
            let data = Told { event, horizon, order, contribution };
            Entering { data, time: stamp / tick * tick, diff: 1, worker, turn }
        };
        (0..).zip(clicks).map(told).collect()
    })
}

fn ticks() -> impl Strategy<Value = u64> {
    proptest::sample::select(&[1_000, MINUTE, 10 * MINUTE][..])
}

fn horizons(retention: u64) -> Horizons {
    Horizons { window: 10 * MINUTE, grace: MINUTE, retention, replay_horizon: MINUTE, before: Before::NOTHING }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// With a horizon longer than the log, what is left of each event is the least click by its place, as `reduce` finds it.
    #[test]
    fn differential_dedup_equals_a_reduce_to_the_first(
        entering in ticks().prop_flat_map(|tick| clicks(tick, Just(1_000 * MINUTE))),
        workers in 1usize..=3,
    ) {
        let times: BTreeSet<u64> = entering.iter().map(|update| update.time).collect();
        let horizons = horizons(1_000_000 * MINUTE);
        let outputs = run(workers, entering, 0, move |clicks, _| {
            let clicks = clicks.as_collection();
            let by_event = clicks.clone().map(|told| (told.event, (told.order, told.contribution)));
            let first = by_event.reduce(|_, clicks, first| first.push((clicks[0].0.1.clone(), 1)));
            let ours = dedup(clicks, horizons);
            (ours.clicks.inner.capture(), ours.late.inner.capture(), first.inner.capture())
        });
        let (mut ours, mut late, mut twin) = (Vec::new(), Vec::new(), Vec::new());
        for (clicks, adjustments, first) in outputs {
            ours.append(&mut updates(vec![clicks]));
            late.append(&mut updates(vec![adjustments]));
            let count = |((_, contribution), time, diff): ((Key, Contribution), u64, isize)| {
                (contribution, time, Measure { sum: 0, count: diff as i64 })
            };
            twin.extend(updates(vec![first]).into_iter().map(count));
        }
        prop_assert_eq!(late, vec![], "nothing expires");
        for &time in &times {
            prop_assert_eq!(contributed(&ours, time), contributed(&twin, time), "at {}", time);
        }
    }

    /// With horizons that end and windows that expire, clicks and late adjustments are those of one pass over a plain map.
    #[test]
    fn oracle_dedup_forgets_like_a_plain_map(
        entering in ticks().prop_flat_map(|tick| clicks(tick, (0..60u64).prop_map(|minutes| minutes * MINUTE))),
        retention in 10u64..60,
        workers in 1usize..=3,
    ) {
        let horizons = horizons(retention * MINUTE);
        let mut sorted: Vec<_> = entering.iter().collect();
        sorted.sort_by_key(|update| update.data.order);
        let (mut seen, mut twin, mut twin_late, mut duplicates) = (BTreeMap::<Key, u64>::new(), Vec::new(), Vec::new(), 0);
        for Entering { data: Told { event, horizon, order, contribution }, time, .. } in sorted {
            let Order { stamp, partition, position, .. } = *order;
            if seen.get(event).is_some_and(|first| stamp - first < *horizon) {
                duplicates += 1;
                continue;
            }
            seen.insert(event.clone(), stamp);
            if contribution.window as u64 + horizons.window + horizons.retention <= stamp {
                let Contribution { window, cell: key, .. } = contribution.clone();
                let late = LateAdjustment { table: Table::StoreClicks, window, key, sum: 0, count: 1, partition, position, stamp };
                twin_late.push((late, *time, 1isize));
            } else {
                twin.push((contribution.clone(), *time, Measure { sum: 0, count: 1 }));
            }
        }
        twin_late.sort();
        let (times, all): (BTreeSet<u64>, usize) = (entering.iter().map(|update| update.time).collect(), entering.len());
        prop_assert_eq!(twin.len() + twin_late.len() + duplicates, all);
        let outputs = run(workers, entering, 0, move |clicks, _| {
            let ours = dedup(clicks.as_collection(), horizons);
            (ours.clicks.inner.capture(), ours.late.inner.capture())
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
