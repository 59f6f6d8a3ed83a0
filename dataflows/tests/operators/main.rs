//! Operators against differential's own, on the same collections, at every time.
//!
//! `differential_*`: two implementations agree. The twin of `latest` is a `reduce` over all changes of a key; that of `tally`
//! is made of `reduce`, `count` and `distinct`. Both read the very stream that ours reads: updates of disordered times,
//! entering at several workers in any order that frontiers allow.
//! `oracle_*`: a plain recomputation, where differential has no word for what is to be shown (markers, expiry).
//! `going_on`: a dataflow against itself, begun in the middle.

mod going_on;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Receiver;

use differential_dataflow::AsCollection;
use proptest::prelude::*;
use storeflow_dataflows::change::{Change, Guard, Order, Position, Row, Version, What};
use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::key::{Key, Text};
use storeflow_dataflows::latest::latest;
use storeflow_dataflows::measure::{Contribution, Measure};
use storeflow_dataflows::table::{LateAdjustment, NO_WINDOW, Table, Window};
use storeflow_dataflows::tally::{End, Ending, Published, tally};
use storeflow_dataflows::tick::Ladder;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::vec::{Input, Map};
use timely::dataflow::operators::{Capture, capture::Event};

const MINUTE: u64 = 60_000;

// --- Feeding ---

/// An update, with the worker it enters at and its turn there.
#[derive(Clone, Debug)]
struct Entering<D> {
    data: D,
    time: u64,
    diff: isize,
    worker: u8,
    turn: u16,
}

/// What a captured stream held: (time, datum), in order of arrival.
type Captured<D> = Receiver<Event<u64, Vec<D>>>;

/// Runs a dataflow on so many workers. Each feeds its updates by turn, and says at each that log time has come to the least of
/// those still to come. At its end the first worker says how far log time got.
fn run<D, O>(
    workers: usize,
    updates: Vec<Entering<D>>,
    end: u64,
    build: impl for<'s> Fn(StreamVec<'s, u64, (D, u64, isize)>, StreamVec<'s, u64, End>) -> O + Send + Sync + 'static,
) -> Vec<O>
where
    D: Clone + Send + Sync + 'static,
    O: Send + 'static,
{
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let (mut input, mut ends, outputs) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, updates) = scope.new_input();
            let (ends, ends_stream) = scope.new_input();
            (input, ends, build(updates, ends_stream))
        });
        let mut mine: Vec<_> = updates.iter().filter(|update| usize::from(update.worker) % peers == index).collect();
        mine.sort_by_key(|update| update.turn);
        for at in 0..mine.len() {
            let least = mine[at..].iter().map(|update| update.time).min().expect("there is one");
            input.advance_to(least);
            ends.advance_to(least);
            let Entering { data, time, diff, turn, .. } = mine[at].clone();
            input.send((data, time, diff));
            if turn.is_multiple_of(3) {
                worker.step();
            }
        }
        ends.send(End::Complete(if index == 0 { end } else { 0 }));
        outputs
    });
    guards.expect("workers").join().into_iter().map(|outputs| outputs.expect("no worker panics")).collect()
}

fn arrived<D>(captured: Captured<D>) -> Vec<(u64, D)> {
    let mut all = Vec::new();
    for event in captured {
        if let Event::Messages(stamp, data) = event {
            let time = *stamp.into_elements().first().expect("a time");
            all.extend(data.into_iter().map(|datum| (time, datum)));
        }
    }
    all
}

/// Updates (datum, time, difference) that the workers captured.
fn updates<D, R>(captured: Vec<Captured<(D, u64, R)>>) -> Vec<(D, u64, R)> {
    let all = captured.into_iter().flat_map(arrived);
    let late = |(sent, (datum, time, diff)): (u64, (D, u64, R))| {
        assert!(sent <= time, "sent at {sent}, so nobody may expect it at {time}");
        (datum, time, diff)
    };
    all.map(late).collect()
}

// --- Keys ---

/// A key whose hash is one of few, so that different keys meet.
fn row_key(number: u8) -> Key {
    Key { hash: u64::from(number % 3) << 54 | 7, text: Text::new(format!("key {number}").as_bytes()) }
}

fn cell_key(store: u8, second: u8) -> Key {
    let (store, second) = (format!("store {store}"), format!("second {second}"));
    let mut bytes = Vec::new();
    Key::cell_bytes(store.as_bytes(), second.as_bytes(), &mut bytes);
    // The shard is the store's, as decoders make it.
    let hash = u64::from(store.as_bytes()[6]) << 54 | u64::from(second.as_bytes()[7]);
    Key { hash, text: Text::new(&bytes) }
}

fn member(number: u8) -> Text {
    if number == 0 { Text::EMPTY } else { Text::new(format!("product {number}").as_bytes()) }
}

// --- Latest ---

#[derive(Clone, Debug)]
struct Step {
    key: u8,
    stamp: u64,
    partition: u32,
    /// Incarnation, server, position.
    version: Option<(u8, u8, u8)>,
    row: Option<Row>,
    worker: u8,
    turn: u16,
}

fn row() -> impl Strategy<Value = Row> {
    let amount = prop_oneof![8 => -50i128..50, 1 => Just(10i128.pow(26)), 1 => Just(-10i128.pow(26))];
    (0u8..3, 0u8..3, 0i64..4, amount, prop::bool::weighted(0.8)).prop_map(|(store, product, window, amount, counts)| Row {
        cell: cell_key(store, 0),
        member: member(product),
        window: window * 10 * MINUTE as i64,
        amount,
        lacks: u32::from(!counts),
    })
}

fn steps(last_stamp: u64) -> impl Strategy<Value = Vec<Step>> {
    let version = proptest::option::weighted(0.8, (0u8..2, 0u8..3, 0u8..30));
    let step =
        (0u8..8, 0..last_stamp, 0u32..4, version, proptest::option::weighted(0.8, row()), any::<u8>(), any::<u16>()).prop_map(
            |(key, stamp, partition, version, row, worker, turn)| Step { key, stamp, partition, version, row, worker, turn },
        );
    proptest::collection::vec(step, 1..80)
}

fn changes(steps: &[Step], tick: u64) -> Vec<Entering<Change>> {
    let change = |(position, step): (usize, &Step)| {
        let version = step.version.map(|(incarnation, server, position)| Version {
            incarnation: incarnation.into(),
            server: server.into(),
            position: Position(u32::from(position) / 10, u64::from(position) % 10, 0),
        });
        let order = Order { stamp: step.stamp, partition: step.partition, position: position as u64, part: 0 };
        let what = step.row.clone().map_or(What::Delete, What::Row);
        let data =
            Change { key: row_key(step.key), order, guard: version.map_or(Guard::None, Guard::Version), fresh: false, what };
        Entering { data, time: step.stamp / tick * tick, diff: 1, worker: step.worker, turn: step.turn }
    };
    steps.iter().enumerate().map(change).collect()
}

/// What contributions amount to at a time; those that amount to nothing are not there.
fn contributed(updates: &[(Contribution, u64, Measure)], at: u64) -> BTreeMap<Contribution, Measure> {
    let mut cells = BTreeMap::<Contribution, Measure>::new();
    for (contribution, _, measure) in updates.iter().filter(|(_, time, _)| *time <= at) {
        let cell = cells.entry(contribution.clone()).or_default();
        cell.sum += measure.sum;
        cell.count += measure.count;
    }
    cells.retain(|_, measure| *measure != Measure::default());
    cells
}

fn version_of(guard: Guard) -> Option<Version> {
    match guard {
        Guard::Version(version) => Some(version),
        Guard::None | Guard::Since(_) => None,
    }
}

fn row_of(what: What) -> Option<Row> {
    match what {
        What::Row(row) => Some(row),
        What::Delete => None,
        What::Patch(..) | What::Truncate => unreachable!("none are made here"),
    }
}

fn contribution(row: &Row) -> Contribution {
    Contribution { window: row.window, cell: row.cell.clone(), member: row.member.clone() }
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
            let of_key = |change: Change| {
                let version = version_of(change.guard).map(|version| (version.incarnation, version.server, version.position));
                (change.key, (change.order, version, row_of(change.what)))
            };
            let left = changes.clone().map(of_key).reduce(|_key, changes, left| {
                let mut stored: (Option<Version>, Option<&Row>) = (None, None);
                // Values come sorted, and the order of a change stands first in them.
                for ((_, version, row), _) in changes {
                    let version = version.map(|(incarnation, server, position)| Version { incarnation, server, position });
                    let stale = version.as_ref().zip(stored.0.as_ref()).is_some_and(|(new, old)| new.stale_against(old));
                    if !stale {
                        stored = (version, row.as_ref());
                    }
                }
                left.extend(stored.1.filter(|row| row.counts()).map(|row| (row.clone(), 1)));
            });
            let ours = latest(changes, Table::StoreSales, horizons);
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
        // On the minute, where windows expire and markers are forgotten, and a millisecond before.
        let on_edges = |step: &Step| Step { stamp: (step.stamp / MINUTE * MINUTE + step.stamp % 2).saturating_sub(1), ..step.clone() };
        let steps: Vec<Step> = steps.iter().map(on_edges).collect();
        let entering = changes(&steps, tick);
        let (twin, twin_late) = plain_latest(&entering, &horizons);
        let times: BTreeSet<u64> = entering.iter().map(|update| update.time).collect();
        let outputs = run(workers, entering, 0, move |changes, _| {
            let ours = latest(changes.as_collection(), Table::StoreSales, horizons);
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

type Late = Vec<(LateAdjustment, u64, isize)>;

/// One pass over all changes in their order, with a plain map. `docs/semantics.md`, "Latest row per key".
fn plain_latest(entering: &[Entering<Change>], horizons: &Horizons) -> (Vec<(Contribution, u64, Measure)>, Late) {
    struct Entry {
        version: Option<Version>,
        since: u64,
        row: Option<Row>,
    }
    let mut sorted: Vec<_> = entering.iter().collect();
    sorted.sort_by_key(|update| update.data.order);
    let (mut known, mut contributions, mut late) = (BTreeMap::<Key, Entry>::new(), Vec::new(), Vec::new());
    for Entering { data: Change { key, order, guard, what, .. }, time, .. } in sorted {
        let (version, row) = (&version_of(*guard), &row_of(what.clone()));
        let now = order.stamp;
        let mut old = known.remove(key);
        if let Some(entry) = &mut old
            && let Some(row) = &entry.row
        {
            let forgotten = (row.window as u64 + horizons.window + horizons.retention).max(entry.since + horizons.replay_horizon);
            if forgotten <= now {
                (entry.row, entry.since) = (None, forgotten);
            }
        }
        old = old.filter(|entry| entry.row.is_some() || entry.since + horizons.replay_horizon > now);
        let stored = old.as_ref().and_then(|entry| entry.version);
        if version.as_ref().zip(stored.as_ref()).is_some_and(|(new, old)| new.stale_against(old)) {
            known.extend(old.map(|entry| (key.clone(), entry)));
            continue;
        }
        let counted = |row: &Option<Row>| row.clone().filter(|row| row.counts());
        let (taken, put) = (old.and_then(|entry| counted(&entry.row)), counted(row));
        known.insert(key.clone(), Entry { version: *version, since: now, row: row.clone() });
        let mut moves = BTreeMap::<Contribution, Measure>::new();
        for (row, sign) in [(taken, -1), (put, 1)] {
            if let Some(row) = row {
                let measure = moves.entry(contribution(&row)).or_default();
                measure.sum += row.amount * i128::from(sign);
                measure.count += sign;
            }
        }
        moves.retain(|_, measure| *measure != Measure::default());
        for (contribution, Measure { sum, count }) in moves {
            if contribution.window as u64 + horizons.window + horizons.retention <= now {
                let Contribution { window, cell: key, .. } = contribution;
                let Order { stamp, partition, position, .. } = *order;
                let row = LateAdjustment { table: Table::StoreSales, window, key, sum, count, partition, position, stamp };
                late.push((row, *time, 1));
            } else {
                contributions.push((contribution, *time, Measure { sum, count }));
            }
        }
    }
    late.sort();
    (contributions, late)
}

// --- Tally ---

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
type Values = (i128, i64, i64);
type CellOf = (Window, Key);

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
fn view_at(published: &[(u64, Published)], as_of: u64) -> BTreeMap<CellOf, (Values, u32)> {
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
