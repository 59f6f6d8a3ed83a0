//! `tally` against `reduce`, `count` and `distinct`.

use std::collections::{BTreeMap, BTreeSet};

use differential_dataflow::AsCollection;
use proptest::prelude::*;
use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::key::{Key, Text};
use storeflow_dataflows::measure::{Contribution, Measure};
use storeflow_dataflows::table::{NO_WINDOW, Table, Window};
use storeflow_dataflows::tally::{End, Ending, Published, tally};
use storeflow_dataflows::tick::Ladder;
use timely::dataflow::operators::Capture;
use timely::dataflow::operators::vec::Map;

use crate::{Entering, MINUTE, arrived, cell_key, member, run, updates};

/// A row that is in its cell from one time until another.
#[derive(Clone, Debug)]
struct Stay {
    store: u8,
    second: u8,
    product: u8,
    window: u8,
    amount: i128,
    /// Shares of the time until the window expires.
    put: u16,
    taken: Option<u16>,
    workers: [u8; 2],
    turns: [u16; 2],
}

fn stays() -> impl Strategy<Value = Vec<Stay>> {
    let amount = prop_oneof![8 => -5i128..5, 1 => Just(10i128.pow(26))];
    let of = (0u8..3, 0u8..2, 0u8..4, 0u8..4, amount);
    let stay = (of, any::<u16>(), proptest::option::weighted(0.6, any::<u16>()), any::<[u8; 2]>(), any::<[u16; 2]>()).prop_map(
        |((store, second, product, window, amount), put, taken, workers, turns)| Stay {
            store,
            second,
            product,
            window,
            amount,
            put,
            taken,
            workers,
            turns,
        },
    );
    proptest::collection::vec(stay, 1..60)
}

/// Cell, product, amount, and a number that tells equal ones apart.
type Kept = ((Window, Key), (Text, i128, usize));

/// Each row as an update that puts it in, and perhaps one that takes it out, before its window expires.
fn puts_and_takes(stays: &[Stay], horizons: &Horizons, ladder: &Ladder, step: u64, windowed: bool) -> Vec<Entering<Kept>> {
    let mut entering = Vec::new();
    for (number, stay) in stays.iter().enumerate() {
        let window = u64::from(stay.window) * horizons.window;
        let life = window + horizons.window + horizons.retention;
        let at = |share: u16| ladder.floor(life * u64::from(share) / (u64::from(u16::MAX) + 1), step);
        let of_cell = if windowed { window as i64 } else { NO_WINDOW };
        let data = ((of_cell, cell_key(stay.store, stay.second)), (member(stay.product), stay.amount, number));
        let [put, taken] = [at(stay.put.min(stay.taken.unwrap_or(u16::MAX))), at(stay.put.max(stay.taken.unwrap_or(0)))];
        let one =
            |at: usize, time, diff| Entering { data: data.clone(), time, diff, worker: stay.workers[at], turn: stay.turns[at] };
        entering.push(one(0, put, 1));
        if stay.taken.is_some() {
            entering.push(one(1, taken, -1));
        }
    }
    entering
}

/// Sum, count, distinct.
pub(crate) type Values = (i128, i64, i64);
pub(crate) type CellOf = (Window, Key);

/// What differential's operators say of every cell.
struct Twin {
    sums: Vec<((CellOf, i128), u64, isize)>,
    counts: Vec<((CellOf, isize), u64, isize)>,
    products: Vec<((CellOf, isize), u64, isize)>,
}

impl Twin {
    /// All cells over the updates of times before `until`.
    fn cells(&self, until: u64) -> BTreeMap<CellOf, Values> {
        let mut cells = BTreeMap::<CellOf, Values>::new();
        for ((cell, sum), _, diff) in self.sums.iter().filter(|(_, time, _)| *time < until) {
            cells.entry(cell.clone()).or_default().0 += sum * *diff as i128;
        }
        for ((cell, count), _, diff) in self.counts.iter().filter(|(_, time, _)| *time < until) {
            cells.entry(cell.clone()).or_default().1 += (count * diff) as i64;
        }
        for ((cell, products), _, diff) in self.products.iter().filter(|(_, time, _)| *time < until) {
            cells.entry(cell.clone()).or_default().2 += (products * diff) as i64;
        }
        cells.retain(|_, values| *values != Values::default());
        assert!(cells.values().all(|(_, count, _)| *count > 0), "a cell is there if rows are");
        cells
    }

    /// The values at an epoch of all cells that changed there since the epoch before, empty ones included.
    fn changed(&self, epoch: u64, window: u64) -> BTreeMap<CellOf, Values> {
        let (before, mut now) = (self.cells(epoch.saturating_sub(window)), self.cells(epoch));
        for cell in before.keys() {
            now.entry(cell.clone()).or_default();
        }
        now.retain(|cell, values| before.get(cell).copied().unwrap_or_default() != *values);
        now
    }
}

/// The history by its definition: (epoch, cell) to values and revision; and the revision of every cell after its last row.
fn history_of(twin: &Twin, horizons: &Horizons, through: u64) -> BTreeMap<(u64, CellOf), (Values, u32)> {
    let (mut rows, mut revisions) = (BTreeMap::new(), BTreeMap::<CellOf, u32>::new());
    let first = horizons.grace % horizons.window;
    for epoch in (first..=through).step_by(horizons.window as usize) {
        for (cell, values) in twin.changed(epoch, horizons.window) {
            if cell.0 == NO_WINDOW {
                rows.insert((epoch, cell), (values, 0));
                continue;
            }
            let end = cell.0 as u64 + horizons.window;
            if end + horizons.grace < epoch {
                assert!(epoch < end + horizons.retention + horizons.window, "nothing changes after that");
                let revision = revisions.entry(cell.clone()).or_default();
                *revision += 1;
                rows.insert((epoch, cell), (values, *revision));
            }
        }
        for (cell, values) in twin.cells(epoch) {
            if cell.0 != NO_WINDOW && cell.0 as u64 + horizons.window + horizons.grace == epoch {
                rows.insert((epoch, cell), (values, 0));
            }
        }
    }
    rows
}

/// The view at an as-of, as whoever applies what was published holds it.
pub(crate) fn view_at(published: &[(u64, Published)], as_of: u64) -> BTreeMap<CellOf, (Values, u32)> {
    let mut view = BTreeMap::new();
    for (_, one) in published.iter().filter(|(time, _)| *time < as_of) {
        match one {
            Published::Cell(change) => {
                let cell = (change.window, change.key.clone());
                match change.value {
                    Some((value, revision)) => view.insert(cell, ((value.sum, value.count, value.distinct), revision)),
                    None => view.remove(&cell),
                };
            }
            Published::Expired(expiry) => view.retain(|(window, _), _| *window != expiry.window),
            Published::History(_) | Published::State(_) => {}
        }
    }
    view
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Every cell at every as-of, and every row of history with its revision, follow from what `reduce`, `count` and
    /// `distinct` make of the same rows.
    #[test]
    fn differential_tally_equals_reduce_count_and_distinct(
        stays in stays(),
        (grace, retention) in (0u64..25, 0u64..30),
        step in any::<proptest::sample::Index>(),
        windowed in prop::bool::weighted(0.8),
        consolidated in any::<bool>(),
        workers in 1usize..=3,
        tail in 0u64..90,
    ) {
        let window = 10 * MINUTE;
        let horizons =
            Horizons { window, grace: grace * MINUTE, retention: (grace.max(10) + retention) * MINUTE, replay_horizon: MINUTE, before: Before::NOTHING };
        let ladder = Ladder::new(window, horizons.grace);
        let step = ladder.steps()[step.index(ladder.steps().len())];
        let entering = puts_and_takes(&stays, &horizons, &ladder, step, windowed);
        let last = entering.iter().map(|update| update.time).max().expect("there are rows");
        let end = last + 1 + tail * MINUTE;
        let times: BTreeSet<u64> = entering.iter().map(|update| update.time).collect();
        let table = if windowed { Table::StoreSales } else { Table::StoreProducts };

        let outputs = run(workers, entering, end, move |rows, ends| {
            let contributions = rows.clone().map(|((cell, (member, amount, _)), time, diff): (Kept, u64, isize)| {
                let measure = Measure { sum: amount * diff as i128, count: diff as i64 };
                (Contribution { window: cell.0, cell: cell.1, member }, time, measure)
            });
            let contributions = contributions.as_collection();
            let contributions = if consolidated { contributions.consolidate() } else { contributions };
            let published = tally(contributions, ends, table, horizons);
            let rows = rows.as_collection();
            let sums = rows.clone().map(|(cell, (_, amount, _))| (cell, amount)).reduce(|_cell, amounts, out| {
                out.push((amounts.iter().map(|(amount, rows)| **amount * *rows as i128).sum::<i128>(), 1));
            });
            let counts = rows.clone().map(|(cell, _)| cell).count();
            let products = rows.filter(|(_, (member, _, _))| !member.is_empty()).map(|(cell, (member, _, _))| (cell, member));
            let products = products.distinct().map(|(cell, _)| cell).count();
            (published.capture(), sums.inner.capture(), counts.inner.capture(), products.inner.capture())
        });
        let (mut published, mut twin) = (Vec::new(), Twin { sums: vec![], counts: vec![], products: vec![] });
        for (ours, sums, counts, products) in outputs {
            published.append(&mut arrived(ours));
            twin.sums.append(&mut updates(vec![sums]));
            twin.counts.append(&mut updates(vec![counts]));
            twin.products.append(&mut updates(vec![products]));
        }
        for (time, one) in &published {
            let shows = match one {
                Published::Cell(change) => change.after,
                Published::Expired(expiry) => expiry.after,
                Published::History(row) => row.epoch - 1,
                Published::State(change) => panic!("nobody tracks {change:?}"),
            };
            prop_assert_eq!(*time, shows, "sent when it first shows: {:?}", one);
        }
        published.sort_by_key(|(time, _)| *time);

        let mut ending = Ending::default();
        ending.add(End::Complete(end));
        let as_of = ending.as_of();
        let expected = history_of(&twin, &horizons, as_of);
        let mut found = BTreeMap::new();
        for (_, one) in &published {
            if let Published::History(row) = one {
                let values = (row.value.sum, row.value.count, row.value.distinct);
                let before = found.insert((row.epoch, (row.window, row.key.clone())), (values, row.revision));
                prop_assert_eq!(before, None, "a cell is written once per epoch: {:?}", row);
            }
        }
        prop_assert_eq!(&found, &expected);

        let edges = times.iter().flat_map(|time| [*time, time + 1]).chain((0..=as_of / MINUTE).map(|minute| minute * MINUTE));
        for at in edges.chain([as_of]).filter(|at| *at <= as_of).collect::<BTreeSet<u64>>() {
            let mut cells = twin.cells(at);
            cells.retain(|(window, _), _| *window == NO_WINDOW || !horizons.expired(*window, at));
            let revision = |cell: &CellOf| {
                let rows = expected.iter().filter(|((epoch, of), _)| *epoch <= at && of == cell);
                rows.map(|(_, (_, revision))| *revision).max().unwrap_or(0)
            };
            let cells: BTreeMap<_, _> = cells.into_iter().map(|(cell, values)| (cell.clone(), (values, revision(&cell)))).collect();
            prop_assert_eq!(view_at(&published, at), cells, "at {}", at);
        }
    }
}
