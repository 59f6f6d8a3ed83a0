//! The view as it is read against a plain recount of the same changes, at every as-of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use storeflow_dataflows::key::Text;
use storeflow_dataflows::table::NO_WINDOW;

use super::read::{StoreCells, Sums};
use super::*;
use crate::decode::cell_key;

const STORES: [&str; 9] = ["", "1", "10", "2", "a", "ab", "가게", "a shop with a name of more than thirty bytes", "z"];
const SECONDS: [&str; 3] = ["KRW", "USD", "a kind with a name of more than thirty bytes"];
const WINDOWS: Window = 4;

/// Store, second, window.
type Name = (&'static str, &'static str, Window);

/// All cells of a view, in the least clever way.
#[derive(Default)]
struct Recount {
    as_ofs: Vec<u64>,
    cells: BTreeMap<(Table, Name), (Value, u32)>,
}

impl Recount {
    fn as_of(&self) -> u64 {
        self.as_ofs.iter().copied().min().unwrap_or(0)
    }

    fn worker(&self, store: &str) -> usize {
        (cell_key(store.as_bytes(), b"", &mut Vec::new()).shard() % self.as_ofs.len() as u64) as usize
    }

    fn windowed(&self) -> impl Iterator<Item = (Table, Name, (Value, u32))> {
        self.cells.iter().filter(|((table, _), _)| table.windowed()).map(|((table, name), cell)| (*table, *name, *cell))
    }

    fn store(&self, wanted: &str, within: &Range<Window>, most: usize) -> StoreCells {
        let mut windows: BTreeMap<Window, Vec<_>> = BTreeMap::new();
        for (table, (_, second, window), (value, revision)) in
            self.windowed().filter(|(_, (store, _, window), _)| *store == wanted && within.contains(window))
        {
            windows.entry(window).or_default().push((table, Text::new(second.as_bytes()), value, revision));
        }
        let products = self.cells.iter().find(|((table, (store, ..)), _)| !table.windowed() && *store == wanted);
        StoreCells {
            as_of: self.as_ofs[self.worker(wanted)],
            known: self.cells.keys().any(|(_, (store, ..))| *store == wanted),
            products: products.map_or(0, |(_, (value, _))| value.count),
            more: windows.len() > most,
            windows: windows.into_iter().take(most).collect(),
        }
    }

    fn stores(&self, prefix: &str, after: Option<&str>, of: impl Fn(&str) -> bool) -> Vec<Text> {
        let all: BTreeSet<&str> = self.cells.keys().map(|(_, (store, ..))| *store).collect();
        let wanted = |store: &&str| store.starts_with(prefix) && after.is_none_or(|after| *store > after) && of(store);
        all.into_iter().filter(wanted).map(|store| Text::new(store.as_bytes())).collect()
    }

    fn sums(&self, within: &Range<Window>, of: impl Fn(&str) -> bool) -> Vec<Sums> {
        let mut windows: BTreeMap<Window, (BTreeSet<&str>, BTreeMap<_, Value>)> = BTreeMap::new();
        for (table, (store, second, window), (value, _)) in self.windowed() {
            if !within.contains(&window) || !of(store) {
                continue;
            }
            let (stores, sums) = windows.entry(window).or_default();
            stores.insert(store);
            let sum = sums.entry((table, second)).or_default();
            *sum = Value { sum: sum.sum + value.sum, count: sum.count + value.count, distinct: 0 };
        }
        let sums = windows.into_iter().map(|(window, (stores, sums))| {
            let sums = sums.into_iter().map(|((table, second), value)| (table, Text::new(second.as_bytes()), value));
            Sums { window, stores: stores.len() as u64, sums: sums.collect() }
        });
        sums.collect()
    }

    fn top(&self, wanted: Table, of: &str, at: Window, most: usize) -> Vec<(Text, i128)> {
        let cells = self.windowed().filter(|(table, (_, second, window), _)| (*table, *second, *window) == (wanted, of, at));
        let mut all: Vec<(i128, &str)> = cells
            .map(|(table, (store, ..), (value, _))| {
                (if table == Table::StoreClicks { value.count.into() } else { value.sum }, store)
            })
            .collect();
        all.sort_by(|(value, store), (other, other_store)| other.cmp(value).then(store.cmp(other_store)));
        all.into_iter().take(most).map(|(value, store)| (Text::new(store.as_bytes()), value)).collect()
    }
}

/// Whatever can be asked has the recount's answer.
fn check(view: &MemoryView, plain: &MemoryView, recount: &Recount) -> Result<(), TestCaseError> {
    let most = [0, 1, 2, usize::MAX];
    let ranges = [Window::MIN..Window::MAX, 0..2, 1..WINDOWS, 2..2];
    prop_assert_eq!(view.as_of(), recount.as_of());
    for store in STORES.into_iter().chain(["none"]) {
        for (range, most) in ranges.iter().flat_map(|range| most.map(|most| (range, most))) {
            prop_assert_eq!(view.store(store.as_bytes(), range.clone(), most), recount.store(store, range, most));
        }
    }
    for prefix in ["", "1", "a", "a shop", "가", "z", "zz"] {
        for after in [None, Some(""), Some("1"), Some("a"), Some("zz")] {
            let wanted = recount.stores(prefix, after, |_| true);
            let after = after.map(str::as_bytes);
            for most in most {
                let page = wanted.iter().take(most).cloned().collect();
                let read = view.stores(prefix.as_bytes(), after, most);
                prop_assert_eq!(read, (recount.as_of(), page, wanted.len() > most), "{} {:?} {}", prefix, after, most);
            }
        }
    }
    for range in &ranges {
        let wanted = recount.sums(range, |_| true);
        for most in most {
            let some = wanted.iter().take(most).cloned().collect();
            prop_assert_eq!(view.sums(range, most), (recount.as_of(), some, wanted.len() > most));
        }
    }
    for table in [Table::StorePayments, Table::StoreSales, Table::StoreClicks] {
        for (second, window) in SECONDS.into_iter().chain([""]).flat_map(|second| (0..WINDOWS).map(move |at| (second, at))) {
            for most in most {
                let wanted = recount.top(table, second, window, most);
                prop_assert_eq!(view.top(table, second.as_bytes(), window, most), (recount.as_of(), wanted));
            }
        }
    }
    for worker in view.workers() {
        let ours = |store: &str| recount.worker(store) == worker;
        for window in 0..WINDOWS {
            let wanted = recount.sums(&(window..window + 1), ours).pop().map_or((0, Vec::new()), |of| (of.stores, of.sums));
            prop_assert_eq!(&view.totals_of(worker, window), &wanted);
            prop_assert_eq!(&plain.totals_of(worker, window), &wanted);
        }
        for (after, most) in [None, Some("1"), Some("z")].into_iter().flat_map(|after| most.map(|most| (after, most))) {
            let wanted: Vec<_> = recount.stores("", after, ours).into_iter().take(most).collect();
            let after = after.map(str::as_bytes);
            prop_assert_eq!(&view.stores_of(worker, b"", after, most), &wanted);
            prop_assert_eq!(&plain.stores_of(worker, b"", after, most), &wanted);
        }
    }
    Ok(())
}

/// The index holds the cells there are, and nothing else.
fn check_index(view: &MemoryView, recount: &Recount) -> Result<(), TestCaseError> {
    let (mut cells, mut windows) = (Vec::new(), 0);
    for worker in view.workers() {
        let (more, of_part) = view.part(worker).index.as_ref().expect("a served view").all();
        cells.extend(more);
        windows += of_part;
    }
    cells.sort_unstable();
    let text = |text: &str| Text::new(text.as_bytes());
    let mut wanted: Vec<_> =
        recount.cells.keys().map(|(table, (store, second, window))| (text(store), *table, text(second), *window)).collect();
    wanted.sort_unstable();
    prop_assert_eq!(cells, wanted);
    let of_workers: BTreeSet<_> = recount.windowed().map(|(_, (store, _, window), _)| (recount.worker(store), window)).collect();
    prop_assert_eq!(windows, of_workers.len());
    Ok(())
}

/// A change: table, store, second, window, and the value if there is one.
type Change = (usize, usize, usize, Window, Option<(i128, i64, u32)>);

#[derive(Clone, Debug)]
enum Step {
    /// One worker goes on by an as-of. Windows of tables expire: none, some, or all of them.
    Apply { worker: usize, changes: Vec<Change>, expire: Vec<(usize, Window)>, whole: Option<Window> },
    /// One worker is filled again.
    Restore { worker: usize, cells: Vec<Change> },
}

fn changes(most: usize) -> impl Strategy<Value = Vec<Change>> {
    let value = prop::option::weighted(0.7, (-3..3_i128, 1..4_i64, 0..3_u32));
    vec((0..4_usize, 0..STORES.len(), 0..SECONDS.len(), 0..WINDOWS, value), 0..most)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let expire = prop_oneof![4 => Just(Vec::new()), 1 => vec((0..3_usize, 0..WINDOWS), 1..3)];
    let apply = (0..3_usize, changes(25), expire, prop::option::weighted(0.15, 0..WINDOWS));
    let apply = apply.prop_map(|(worker, changes, expire, whole)| Step::Apply { worker, changes, expire, whole });
    let restore = (0..3_usize, changes(25)).prop_map(|(worker, cells)| Step::Restore { worker, cells });
    vec(prop_oneof![8 => apply, 1 => restore], 1..12)
}

/// A view, its twin without an index, and the recount of both.
struct Trial {
    view: MemoryView,
    plain: MemoryView,
    recount: Recount,
    expired: BTreeSet<(usize, Table, Window)>,
}

impl Trial {
    fn new(workers: usize) -> Trial {
        let recount = Recount { as_ofs: vec![0; workers], ..Recount::default() };
        Trial { view: MemoryView::served(0..workers), plain: MemoryView::new(workers), recount, expired: BTreeSet::new() }
    }

    /// The cell of a change, if that worker may have it.
    fn cell(&self, worker: usize, (table, store, second, window, _): &Change) -> Option<(Table, Name)> {
        let (table, store) = (Table::ALL[*table], STORES[*store]);
        let (second, window) = match table {
            Table::StorePayments | Table::StoreClicks => (SECONDS[*second], *window),
            Table::StoreSales => ("", *window),
            Table::StoreProducts => ("", NO_WINDOW),
        };
        let may = self.recount.worker(store) == worker && !self.expired.contains(&(worker, table, window));
        may.then_some((table, (store, second, window)))
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Apply { worker, changes, expire, whole } => {
                let mut windows: BTreeSet<(Table, Window)> = expire.iter().map(|(table, at)| (Table::ALL[*table], *at)).collect();
                windows.extend(whole.iter().flat_map(|window| Table::ALL[..3].iter().map(|table| (*table, *window))));
                self.apply(worker % self.recount.as_ofs.len(), changes, windows)
            }
            Step::Restore { worker, cells } => {
                self.restore(worker % self.recount.as_ofs.len(), cells);
                check(&self.view, &self.plain, &self.recount)?;
                check_index(&self.view, &self.recount)
            }
        }
    }

    fn apply(&mut self, worker: usize, changes: &[Change], windows: BTreeSet<(Table, Window)>) -> Result<(), TestCaseError> {
        let as_of = self.recount.as_ofs[worker] + 1;
        self.recount.as_ofs[worker] = as_of;
        let mut given = Vec::new();
        for change in changes {
            let Some((table, (store, second, window))) = self.cell(worker, change) else { continue };
            let value = change.4.map(|(sum, count, revision)| (Value { sum, count, distinct: count }, revision));
            match value {
                Some(value) => self.recount.cells.insert((table, (store, second, window)), value),
                None => self.recount.cells.remove(&(table, (store, second, window))),
            };
            let key = cell_key(store.as_bytes(), second.as_bytes(), &mut Vec::new());
            given.push(CellChange { after: as_of - 1, table, window, key, value });
        }
        let of_worker: BTreeMap<&str, usize> = STORES.map(|store| (store, self.recount.worker(store))).into();
        let expired = |table: &Table, window: &Window| windows.contains(&(*table, *window));
        self.recount.cells.retain(|(table, (store, _, window)), _| of_worker[store] != worker || !expired(table, window));
        self.expired.extend(windows.iter().map(|(table, window)| (worker, *table, *window)));
        let expiries = windows.iter().map(|&(table, window)| WindowExpiry { after: as_of - 1, table, window });
        let mut expiries: Vec<_> = expiries.collect();
        self.plain.apply(worker, as_of, &mut given.clone(), &mut expiries.clone());
        let gone = self.view.move_to(worker, as_of, &mut given, &mut expiries);
        // Readers may come in here.
        check(&self.view, &self.plain, &self.recount)?;
        self.view.leave(worker, &gone);
        check(&self.view, &self.plain, &self.recount)?;
        check_index(&self.view, &self.recount)
    }

    fn restore(&mut self, worker: usize, cells: &[Change]) {
        let of_worker: BTreeMap<&str, usize> = STORES.map(|store| (store, self.recount.worker(store))).into();
        self.recount.cells.retain(|(_, (store, ..)), _| of_worker[store] != worker);
        let mut restored = BTreeMap::new();
        for change in cells {
            let (Some(cell), Some((sum, count, revision))) = (self.cell(worker, change), change.4) else { continue };
            restored.insert(cell, (Value { sum, count, distinct: count }, revision));
        }
        let key = |(_, (store, second, _)): &(Table, Name)| cell_key(store.as_bytes(), second.as_bytes(), &mut Vec::new());
        let keys: Vec<_> = restored.keys().map(key).collect();
        for view in [&self.view, &self.plain] {
            let cells = restored.iter().zip(&keys);
            let cells = cells.map(|((&(table, (.., window)), &(value, revision)), key)| (table, window, key, value, revision));
            view.restore(worker, self.recount.as_ofs[worker], cells);
        }
        self.recount.cells.extend(restored);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_read_is_what_a_recount_says(workers in 1..4_usize, steps in steps()) {
        let mut trial = Trial::new(workers);
        check(&trial.view, &trial.plain, &trial.recount)?;
        for step in &steps {
            trial.take(step)?;
        }
        // At last everything goes: windows expire, products are taken off sale.
        for worker in 0..workers {
            let products: Vec<Change> = (0..STORES.len()).map(|store| (3, store, 0, 0, None)).collect();
            let all = Table::ALL[..3].iter().flat_map(|table| (0..WINDOWS).map(|window| (*table, window))).collect();
            trial.apply(worker, &products, all)?;
            let (cells, windows) = trial.view.part(worker).index.as_ref().expect("a served view").all();
            prop_assert!(cells.is_empty() && windows == 0, "what is gone costs nothing");
        }
    }
}

#[test]
fn a_kind_per_click_goes_with_its_window() {
    let view = MemoryView::served(0..1);
    let click = |window: Window, kind: u32| CellChange {
        after: window as u64,
        table: Table::StoreClicks,
        window,
        key: cell_key(b"1", kind.to_string().as_bytes(), &mut Vec::new()),
        value: Some((Value { count: 1, ..Value::default() }, 0)),
    };
    for window in 0..5 {
        let mut kinds = (0..2_500).map(|kind| click(window, window as u32 * 10_000 + kind)).collect();
        let mut expiries = (window > 0)
            .then(|| WindowExpiry { after: window as u64, table: Table::StoreClicks, window: window - 1 })
            .into_iter()
            .collect();
        view.apply(0, window as u64 + 1, &mut kinds, &mut expiries);
        let (cells, windows) = view.part(0).index.as_ref().expect("a served view").all();
        assert_eq!((cells.len(), windows), (2_500, 1), "of one window, whatever was before");
        assert_eq!(view.store(b"1", 0..10, 10).windows[0].1.len(), 2_500);
    }
}

#[test]
fn readers_see_whole_cuts_while_it_moves() {
    const LAST: u64 = 400;
    // More than are unlinked at a time, so that readers come between.
    let others: Vec<String> = (0..LEAVE_AT_A_TIME + 200).map(|store| format!("other-{store}")).collect();
    let view = MemoryView::served(0..2);
    let stores: Vec<Vec<&str>> = (0..2)
        .map(|worker| {
            let all = others.iter().map(|store| &**store).chain(STORES);
            all.filter(|store| cell_key(store.as_bytes(), b"", &mut Vec::new()).shard() % 2 == worker).collect()
        })
        .collect();
    // At as-of T each store has the windows T-2, T-1 and T, all cells with the sum T; others only those of T.
    let step = |worker: usize, as_of: u64| {
        let mut changes = Vec::new();
        let named = stores[worker].iter().filter(|store| as_of.is_multiple_of(50) || !store.starts_with("other"));
        for store in named {
            let first = if store.starts_with("other") { as_of } else { as_of.saturating_sub(2) };
            for (window, (table, second)) in (first..=as_of)
                .flat_map(|window| [(Table::StorePayments, "KRW"), (Table::StoreClicks, "view")].map(|cell| (window, cell)))
            {
                let key = cell_key(store.as_bytes(), second.as_bytes(), &mut Vec::new());
                let value = Value { sum: as_of.into(), count: as_of as i64, distinct: 0 };
                let window = window as Window;
                changes.push(CellChange { after: as_of - 1, table, window, key, value: Some((value, 0)) });
            }
        }
        let expired = as_of.checked_sub(3).map(|window| window as Window);
        let expiries = expired.into_iter().flat_map(|window| {
            [Table::StorePayments, Table::StoreClicks].map(|table| WindowExpiry { after: as_of - 1, table, window })
        });
        view.apply(worker, as_of, &mut changes, &mut expiries.collect());
    };
    let cuts = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let step = &step;
            scope.spawn(move || (1..=LAST).for_each(|as_of| step(worker, as_of)));
        }
        for reader in 0..2 {
            let (view, cuts) = (&view, &cuts);
            scope.spawn(move || {
                let mut before = [0; STORES.len()];
                while before.iter().any(|as_of| *as_of < LAST) {
                    for (store, before) in STORES.iter().zip(&mut before) {
                        let cut = view.store(store.as_bytes(), 0..Window::MAX, usize::MAX);
                        assert!(cut.as_of >= *before, "reader {reader} was taken back");
                        *before = cut.as_of;
                        if cut.as_of == 0 {
                            continue;
                        }
                        let windows: Vec<u64> = cut.windows.iter().map(|(window, _)| *window as u64).collect();
                        assert_eq!(windows, (cut.as_of.saturating_sub(2)..=cut.as_of).collect::<Vec<_>>(), "at {}", cut.as_of);
                        for (window, cells) in &cut.windows {
                            let whole = cells.iter().all(|(_, _, value, _)| value.sum == i128::from(cut.as_of));
                            assert!(whole && cells.len() == 2, "at {} in {window}: {cells:?}", cut.as_of);
                        }
                        cuts.fetch_add(1, Ordering::Relaxed);
                    }
                    let (as_of, ids, more) = view.stores(b"1", None, 10);
                    assert!(as_of == 0 || (ids.len() == 2 && !more), "\"1\" and \"10\" have always something: {ids:?}");
                    let (as_of, stores) = view.top(Table::StorePayments, b"KRW", as_of as Window, 3);
                    assert!(stores.iter().all(|(_, sum)| *sum >= as_of.into()), "all are as new as is said: {stores:?}");
                }
            });
        }
    });
    assert!(cuts.load(Ordering::Relaxed) >= 2 * STORES.len() as u64, "each reader has seen each store at the end");
}
