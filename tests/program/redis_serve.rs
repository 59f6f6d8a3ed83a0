//! What the API reads of the Redis view, against a plain recomputation, on real servers: while it is written, by any number of workers, after
//! every loss.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use storeflow::decode::cell_key;
use storeflow::observe::status::ProcessStatus;
use storeflow::publish::redis::{RedisError, RedisSettings, RedisView, SecretUrl};
use storeflow::publish::{MemoryView, Row};
use storeflow::serve::view::redis::RedisServed;
use storeflow::serve::view::{Measure, Shown, StoreCell, StoreCut, View, ViewError, WindowCells, WindowTotals};
use storeflow_dataflows::table::{CellChange, Table, Value, Window};
use tokio::runtime::Runtime;

use crate::redis_view::{MINUTE, Mall, START, STORES, WORKERS, everything_shown, shown_by, wait};
use crate::support::binary::{self, succeed, text};
use crate::support::redis::{self, Redis};

const ALL: Range<Window> = 0..Window::MAX;

/// A store, recomputed.
#[derive(Clone, Debug, Default)]
struct Store {
    products: i64,
    windows: BTreeMap<Window, Vec<StoreCell>>,
}

/// All that a view shows, recomputed from its rows.
#[derive(Clone, Debug, Default)]
struct Model {
    as_of: u64,
    stores: BTreeMap<String, Store>,
}

impl Model {
    fn of(mall: &Mall) -> Model {
        Model::new(mall.as_of, Table::ALL.into_iter().flat_map(|table| mall.rows(table)))
    }

    fn new(as_of: u64, rows: impl Iterator<Item = Row>) -> Model {
        let mut stores: BTreeMap<String, Store> = BTreeMap::new();
        for row in rows {
            let store = stores.entry(row.store_id).or_default();
            let Some(window) = row.window_start else {
                store.products = row.count.expect("products are counted");
                continue;
            };
            // Rows of sales are not counted in public.
            let value = Value { sum: row.sum, count: row.count.unwrap_or(1), distinct: row.distinct.unwrap_or(0) };
            let cell = StoreCell { table: row.table, second: row.second, value, revision: row.revision.unwrap_or(0) };
            store.windows.entry(window as Window).or_default().push(cell);
        }
        stores.values_mut().flat_map(|store| store.windows.values_mut()).for_each(|cells| cells.sort());
        Model { as_of, stores }
    }

    fn cut(&self, store: &str, windows: &Range<Window>, most: usize) -> StoreCut {
        let of = self.stores.get(store).cloned().unwrap_or_default();
        let all: Vec<WindowCells> = of
            .windows
            .range(windows.clone())
            .map(|(window, cells)| WindowCells { window: *window, cells: cells.clone() })
            .collect();
        StoreCut {
            as_of: self.as_of,
            known: self.stores.contains_key(store),
            product_count: of.products,
            more: all.len() > most,
            windows: all.into_iter().take(most).collect(),
        }
    }

    fn totals(&self) -> Vec<WindowTotals> {
        type Sums = BTreeMap<(Table, String), Value>;
        let mut windows: BTreeMap<Window, (u64, Sums)> = BTreeMap::new();
        for (window, cells) in self.stores.values().flat_map(|store| &store.windows) {
            let (stores, sums) = windows.entry(*window).or_default();
            *stores += 1;
            for cell in cells {
                let sum = sums.entry((cell.table, cell.second.clone())).or_default();
                sum.sum += cell.value.sum;
                sum.count += cell.value.count;
            }
        }
        let cell = |((table, second), value)| StoreCell { table, second, value, revision: 0 };
        windows
            .into_iter()
            .map(|(window, (stores, sums))| WindowTotals { window, stores, cells: sums.into_iter().map(cell).collect() })
            .collect()
    }

    fn lists(&self) -> BTreeMap<(Table, String, Window), Vec<(String, i128)>> {
        let mut lists: BTreeMap<_, Vec<(String, i128)>> = BTreeMap::new();
        for (id, store) in &self.stores {
            for (window, cells) in &store.windows {
                for cell in cells {
                    let value = if cell.table == Table::StoreClicks { cell.value.count.into() } else { cell.value.sum };
                    lists.entry((cell.table, cell.second.clone(), *window)).or_default().push((id.clone(), value));
                }
            }
        }
        for list in lists.values_mut() {
            list.sort_by(|(store, value), (other, of_other)| of_other.cmp(value).then_with(|| store.cmp(other)));
        }
        lists
    }
}

/// The count of rows of sales is not published: it is 1 where there is a cell.
fn public(mut totals: Vec<WindowTotals>) -> Vec<WindowTotals> {
    for cell in totals.iter_mut().flat_map(|window| &mut window.cells).filter(|cell| cell.table == Table::StoreSales) {
        cell.value.count = 1;
    }
    totals
}

struct Reader {
    runtime: Runtime,
    view: RedisServed,
}

impl Reader {
    fn new(redis: &Redis) -> Reader {
        Reader::of(&redis.settings())
    }

    fn of(settings: &RedisSettings) -> Reader {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads can be had");
        Reader { runtime, view: RedisServed::connect(settings, "mall") }
    }

    fn shown(&self) -> Result<Shown, ViewError> {
        self.runtime.block_on(self.view.shown())
    }

    fn store(&self, store: &str, windows: Range<Window>, most: usize) -> Result<StoreCut, ViewError> {
        self.runtime.block_on(self.view.store(store, windows, most))
    }

    fn ids(&self, prefix: &str, after: Option<&str>, most: usize) -> (Vec<String>, bool) {
        let found = self.runtime.block_on(self.view.stores(prefix, after, most)).expect("ids");
        (found.stores, found.more)
    }

    fn status(&self) -> Vec<ProcessStatus> {
        self.runtime.block_on(self.view.status()).expect("a status")
    }

    /// Waits until everything is shown as of the model's instant, then compares all of it.
    fn check(&self, model: &Model) {
        wait("the marker", || self.shown().is_ok_and(|shown| shown.as_of == model.as_of));
        wait("the lists", || {
            let totals = self.runtime.block_on(self.view.totals(ALL, 1));
            totals.is_ok_and(|totals| totals.as_of == model.as_of)
        });
        self.check_stores(model);
        self.check_ids(model);
        self.check_sums(model);
    }

    fn check_stores(&self, model: &Model) {
        let unknown = ["", "store-", "nobody", "s"];
        for store in model.stores.keys().map(String::as_str).chain(unknown) {
            let windows: Vec<Window> = model.stores.get(store).map(|of| of.windows.keys().copied().collect()).unwrap_or_default();
            let mut ranges = vec![(ALL, 1_000), (ALL, 1), (ALL, 2), (0..0, 5), ((START as Window)..Window::MAX, 0)];
            if let (Some(first), Some(last)) = (windows.first(), windows.last()) {
                ranges.extend([
                    (*first..*last, 100),
                    (first + 1..last + 1, 100),
                    (*last..Window::MAX, 1),
                    (Window::MIN..*last, 1),
                ]);
            }
            for (range, most) in ranges {
                let found = self.store(store, range.clone(), most).expect("a cut");
                assert_eq!(found, model.cut(store, &range, most), "{store:?} {range:?} {most}");
            }
        }
    }

    fn check_ids(&self, model: &Model) {
        let all: Vec<String> = model.stores.keys().cloned().collect();
        assert_eq!(self.ids("", None, 10_000), (all.clone(), false));
        for prefix in ["s", "store-1", "상", "{", "nobody", "\u{0}"] {
            let expected: Vec<String> = all.iter().filter(|id| id.starts_with(prefix)).cloned().collect();
            assert_eq!(self.ids(prefix, None, 10_000), (expected.clone(), false), "{prefix:?}");
            for most in [1, 7] {
                let (mut pages, mut after) = (Vec::new(), None);
                loop {
                    let (page, more) = self.ids(prefix, after.as_deref(), most);
                    assert_eq!(more, pages.len() + page.len() < expected.len(), "{prefix:?} after {after:?}");
                    after = page.last().cloned();
                    pages.extend(page);
                    if !more {
                        break;
                    }
                }
                assert_eq!(pages, expected, "{prefix:?} by {most}");
            }
        }
    }

    fn check_sums(&self, model: &Model) {
        let totals = |range, most| {
            let found = self.runtime.block_on(self.view.totals(range, most)).expect("totals");
            assert_eq!(found.as_of, model.as_of);
            (public(found.windows), found.more)
        };
        let expected = public(model.totals());
        assert_eq!(totals(ALL, 1_000), (expected.clone(), false));
        assert_eq!(totals(ALL, expected.len()), (expected.clone(), false));
        if let [first, .., last] = &expected[..] {
            assert_eq!(totals(ALL, 1), (vec![first.clone()], true));
            let (range, len) = (first.window + 1..last.window, expected.len());
            assert_eq!(totals(range, 1_000), (expected[1..len - 1].to_vec(), false));
        }
        for ((table, second, window), list) in model.lists() {
            let measure = Measure { table, second };
            for most in [1, 10, 100] {
                let found = self.runtime.block_on(self.view.top(&measure, window, most)).expect("a list");
                assert_eq!(found.as_of, model.as_of);
                assert_eq!(found.stores, list[..most.min(list.len())], "{measure:?} {window} {most}");
            }
        }
        let nothing = Measure { table: Table::StorePayments, second: "XXX".to_owned() };
        let found = self.runtime.block_on(self.view.top(&nothing, START as Window, 10)).expect("a list");
        assert!(found.stores.is_empty());
    }
}

/// Reads stores again and again while they change: what comes back must be what they were at the instant that comes with it.
struct Watch {
    ended: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<(String, StoreCut)>>,
}

impl Watch {
    fn start(settings: &RedisSettings) -> Watch {
        let reader = Reader::of(settings);
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !end.load(Ordering::Relaxed) {
                for store in STORES.iter().copied().chain(["store-1", "store-2", "store-3", "nobody"]) {
                    // Away, empty or half written: that is said.
                    if let Ok(cut) = reader.store(store, ALL, 1_000) {
                        seen.push((store.to_owned(), cut));
                    }
                }
            }
            seen
        });
        Watch { ended, thread }
    }

    fn end(self, history: &BTreeMap<u64, Model>) {
        self.ended.store(true, Ordering::Relaxed);
        let seen = self.thread.join().expect("it only reads");
        assert!(seen.iter().any(|(_, cut)| cut.known), "something was seen");
        for (store, cut) in seen {
            let model = history.get(&cut.as_of).unwrap_or_else(|| panic!("{} was no as-of", cut.as_of));
            assert_eq!(cut, model.cut(&store, &ALL, 1_000), "{store:?} as of {}", cut.as_of);
        }
    }
}

/// As the job goes on, a reader sees each store as it was at the as-of it is told; and everything at each as-of at which all stands still.
#[test]
fn redis_serve_shows_every_cut_while_it_is_written() {
    let Some(redis) = redis::redis("redis_serve_shows_every_cut_while_it_is_written") else { return };
    let mut mall = Mall::new(21, 1);
    let reader = Reader::new(&redis);
    assert!(matches!(reader.shown(), Err(ViewError::Nothing(_))), "nothing is there yet");
    let sink = mall.start(&redis);
    let mut history = BTreeMap::new();
    let watch = Watch::start(&redis.settings());
    for round in 0..20 {
        mall.step(&sink, 200);
        history.insert(mall.as_of, Model::of(&mall));
        if round % 3 == 0 {
            everything_shown(&sink, mall.as_of);
            sink.mark(mall.as_of, false);
        }
        if round % 10 == 9 {
            everything_shown(&sink, mall.as_of);
            sink.mark(mall.as_of, false);
            reader.check(&history[&mall.as_of]);
        }
    }
    watch.end(&history);
}

/// Whatever the number of workers was before: sums and lists are those of all stores, and nothing of the others' stays.
#[test]
fn redis_serve_is_right_after_a_restart_with_any_number_of_workers() {
    let Some(redis) = redis::redis("redis_serve_is_right_after_a_restart_with_any_number_of_workers") else { return };
    let mut mall = Mall::new(22, 1);
    let reader = Reader::new(&redis);
    let sink = mall.start(&redis);
    let mut history = BTreeMap::new();
    for _ in 0..5 {
        mall.step(&sink, 200);
        history.insert(mall.as_of, Model::of(&mall));
    }
    everything_shown(&sink, mall.as_of);
    sink.mark(mall.as_of, false);
    reader.check(&history[&mall.as_of]);
    // It dies, as far as Redis can tell.
    drop(sink);
    let watch = Watch::start(&redis.settings());
    for workers in [1, 4, 2, 2] {
        mall.restart(workers);
        let sink = mall.start(&redis);
        shown_by(&sink, workers, mall.as_of);
        sink.mark(mall.as_of, false);
        reader.check(&history[&mall.as_of]);
        for _ in 0..3 {
            mall.step(&sink, 150);
            history.insert(mall.as_of, Model::of(&mall));
        }
        shown_by(&sink, workers, mall.as_of);
        sink.mark(mall.as_of, false);
        sink.close(Duration::from_secs(60)).expect("everything is written");
        reader.check(&history[&mall.as_of]);
        let keys: Vec<String> = redis.ask(&["KEYS", "sf:{top}:mall:1:totals:*"]);
        let of_us = format!("of{workers}");
        let of_others: Vec<&String> =
            keys.iter().filter(|key| !key.ends_with(&of_us) && !key.contains(&format!("{of_us}:"))).collect();
        assert!(of_others.is_empty() && !keys.is_empty(), "{of_others:?}");
        let windows = history[&mall.as_of].totals().len();
        assert!(keys.len() > windows, "an index and its windows: {keys:?}");
    }
    watch.end(&history);
}

/// Redis goes away, comes back empty, comes back with what it had some time ago, is emptied: what is not there is said, and then all is there.
#[test]
fn redis_serve_outlives_redis() {
    let Some(mut redis) = redis::redis("redis_serve_outlives_redis") else { return };
    let mut mall = Mall::new(23, 1);
    let reader = Reader::new(&redis);
    let sink = mall.start(&redis);
    let mut history = BTreeMap::new();
    let watch = Watch::start(&redis.settings());
    for loss in 0..4 {
        for _ in 0..3 {
            mall.step(&sink, 150);
            history.insert(mall.as_of, Model::of(&mall));
        }
        everything_shown(&sink, mall.as_of);
        sink.mark(mall.as_of, false);
        reader.check(&history[&mall.as_of]);
        match loss {
            0 => {
                redis.kill();
                for found in [reader.shown().err(), reader.store("s1", ALL, 10).err()] {
                    let Some(ViewError::Unavailable { what, .. }) = found else { panic!("{found:?}") };
                    assert!(what.contains("127.0.0.1"), "{what}");
                }
                mall.step(&sink, 150);
                history.insert(mall.as_of, Model::of(&mall));
                redis.start();
            }
            1 => {
                redis.ask::<String>(&["SAVE"]);
                mall.step(&sink, 150);
                history.insert(mall.as_of, Model::of(&mall));
                everything_shown(&sink, mall.as_of);
                redis.kill();
                redis.start();
            }
            2 => redis.ask::<()>(&["FLUSHALL"]),
            // The lists only.
            _ => {
                for key in redis.ask::<Vec<String>>(&["KEYS", "sf:{top}:mall:*"]) {
                    redis.ask::<i64>(&["DEL", &key]);
                }
            }
        }
        mall.step(&sink, 150);
        history.insert(mall.as_of, Model::of(&mall));
        // It finds out by itself, or when it writes.
        wait("what was lost", || {
            let guards: Vec<String> = redis.ask(&["KEYS", "sf:{*}:mall:1:guard*"]);
            guards.len() == 1024 + WORKERS && sink.shown(0) >= mall.as_of
        });
        everything_shown(&sink, mall.as_of);
        sink.mark(mall.as_of, false);
        reader.check(&history[&mall.as_of]);
    }
    sink.close(Duration::from_secs(60)).expect("everything is written");
    watch.end(&history);
}

/// A bucket without a guard tells nothing, and neither does one that is being written.
#[test]
fn redis_serve_tells_nothing_of_what_is_lost_or_half_written() {
    let Some(redis) = redis::redis("redis_serve_tells_nothing_of_what_is_lost_or_half_written") else { return };
    let mut mall = Mall::new(24, 1);
    let sink = mall.start(&redis);
    (0..3).for_each(|_| mall.step(&sink, 200));
    everything_shown(&sink, mall.as_of);
    sink.mark(mall.as_of, false);
    sink.close(Duration::from_secs(60)).expect("everything is written");
    let reader = Reader::new(&redis);
    let model = Model::of(&mall);
    reader.check(&model);
    let store = model.stores.keys().next().expect("a store");
    let guard = format!("sf:{{{}}}:mall:1:guard", cell_key(store.as_bytes(), b"", &mut Vec::new()).shard());
    let whole: String = redis.ask(&["GET", &guard]);
    let half = whole.replace(&mall.as_of.to_string(), "rebuilding");
    assert_ne!(half, whole);
    redis.ask::<()>(&["SET", &guard, &half]);
    assert!(matches!(reader.store(store, ALL, 10), Err(ViewError::Unavailable { .. })));
    redis.ask::<i64>(&["DEL", &guard]);
    assert!(matches!(reader.store(store, ALL, 10), Err(ViewError::Unavailable { .. })));
    assert!(reader.runtime.block_on(reader.view.stores("", None, 10)).is_err());
    redis.ask::<()>(&["SET", &guard, &whole]);
    reader.check(&model);
    let of_lists = "sf:{top}:mall:1:guard:1";
    let whole: String = redis.ask(&["GET", of_lists]);
    redis.ask::<i64>(&["DEL", of_lists]);
    assert!(reader.runtime.block_on(reader.view.totals(ALL, 10)).is_err());
    redis.ask::<()>(&["SET", of_lists, &whole]);
    // An older program has gone on with it: its totals are not kept up.
    redis.ask::<i64>(&["HSET", "sf:mall:1:about", "run", "somebody"]);
    let other = Reader::new(&redis);
    assert!(other.runtime.block_on(other.view.totals(ALL, 10)).is_err());
    assert!(other.store(store, ALL, 10).is_ok());
}

/// Several processes tell of themselves, until they end; one that is no more is not told of. A later generation takes over, and all keys
/// of the one before go.
#[test]
fn redis_serve_tells_what_processes_say_and_changes_generations() {
    let Some(redis) = redis::redis("redis_serve_tells_what_processes_say_and_changes_generations") else { return };
    let reader = Reader::new(&redis);
    let through = Arc::new(AtomicBool::new(false));
    let start = |mall: &Mall, process: usize, processes: usize, workers: Range<usize>| {
        let through = Arc::clone(&through);
        let status = move || ProcessStatus {
            process,
            processes,
            reported: 5,
            late_contributions: 7,
            finished: through.load(Ordering::Relaxed),
            ..ProcessStatus::default()
        };
        let view = RedisView::connect(&redis.settings(), "mall").expect("Redis is there").telling(status);
        view.start(&mall.about, Arc::clone(&mall.view), workers, WORKERS)
    };
    let mut first = Mall::new(25, 4);
    first.go(None, 300);
    let sinks = [start(&first, 0, 2, 0..2), start(&first, 1, 2, 2..3)];
    wait("both", || sinks.iter().enumerate().all(|(at, sink)| (2 * at..2 + at).all(|worker| sink.shown(worker) >= first.as_of)));
    sinks[0].mark(first.as_of, false);
    reader.check(&Model::of(&first));
    wait("both reports", || reader.status().len() == 2);
    let told = reader.status();
    assert!(told.iter().enumerate().all(|(at, status)| status.process == at && !status.ended && status.late_contributions == 7));
    assert!(!reader.shown().expect("a view").finished);
    for sink in sinks {
        assert!(!reader.shown().expect("a view").finished);
        sink.close(Duration::from_secs(60)).expect("everything is written");
    }
    assert!(reader.status().iter().all(|status| status.ended));
    assert!(!reader.shown().expect("a view").finished, "both were told to stop");
    let ttl = redis.ask::<u64>(&["PTTL", "sf:mall:4:status"]);
    assert!(ttl > 60 * MINUTE, "it lives {ttl} ms");

    // One process where there were two.
    let sink = start(&first, 0, 1, 0..3);
    wait("its report", || redis.ask::<Vec<String>>(&["HKEYS", "sf:mall:4:status"]) == ["0"]);
    assert!(!reader.shown().expect("a view").finished);
    through.store(true, Ordering::Relaxed);
    sink.close(Duration::from_secs(60)).expect("everything is written");
    reader.check(&Model::of(&first));
    assert!(reader.shown().expect("a view").finished);

    let mut second = Mall::new(26, 5);
    let sink = start(&second, 0, 1, 0..3);
    while second.as_of < first.as_of {
        second.step(&sink, 50);
    }
    second.step(&sink, 50);
    everything_shown(&sink, second.as_of);
    sink.mark(second.as_of, false);
    reader.check(&Model::of(&second));
    sink.close(Duration::from_secs(60)).expect("everything is written");
    assert!(redis.ask::<Vec<String>>(&["KEYS", "*mall:4:*"]).is_empty());
    assert_eq!(reader.shown().expect("a view").about.generation, 5);
    let left: BTreeSet<String> = redis.ask(&["KEYS", "sf:mall:*"]);
    assert_eq!(left, ["sf:mall:5:about", "sf:mall:5:status", "sf:mall:current"].map(str::to_owned).into());
}

/// Beyond 2^53 scores cannot tell values apart; readers can.
#[test]
fn redis_serve_orders_by_exact_values() {
    let Some(redis) = redis::redis("redis_serve_orders_by_exact_values") else { return };
    let mut mall = Mall::new(27, 1);
    (mall.workers, mall.about.workers, mall.view) = (1, 1, Arc::new(MemoryView::of(0..1)));
    let (window, high) = (mall.about.horizons.window_of(START), 1_i128 << 62);
    // In no order of their ids; all of them one score, and more than are asked for.
    let value = |store: i128| high + (store * 37) % 60;
    let mut changes: Vec<CellChange> = (0..60_i128)
        .map(|store| CellChange {
            after: START,
            table: Table::StorePayments,
            window,
            key: cell_key(format!("s{store:02}").as_bytes(), b"KRW", &mut Vec::new()),
            value: Some((Value { sum: value(store), count: 1, distinct: 0 }, 0)),
        })
        .collect();
    let sink = mall.start(&redis);
    mall.as_of = START + MINUTE;
    let copy = changes.clone();
    let expired = mall.view.apply(0, mall.as_of, &mut changes, &mut Vec::new());
    sink.send(0, mall.as_of, copy, expired);
    shown_by(&sink, 1, mall.as_of);
    sink.mark(mall.as_of, false);
    let scores: BTreeSet<String> = {
        wait("the list", || redis.ask::<i64>(&["ZCARD", &format!("sf:{{top}}:mall:1:top:payment_sum:{window}:KRW")]) == 60);
        let list: Vec<(String, String)> =
            redis.ask(&["ZRANGE", &format!("sf:{{top}}:mall:1:top:payment_sum:{window}:KRW"), "0", "-1", "WITHSCORES"]);
        list.into_iter().map(|(_, score)| score).collect()
    };
    assert!(scores.len() < 60, "{scores:?}");
    Reader::new(&redis).check(&Model::of(&mall));
}

/// The same in a cluster of three, where every question stays in its slot.
#[test]
fn redis_serve_reads_a_cluster() {
    let name = "redis_serve_reads_a_cluster";
    let nodes: Option<Vec<Redis>> = (0..3).map(|_| redis::start(name, Some("hunter2"), true)).collect();
    let Some(nodes) = nodes else { return };
    let settings = Redis::cluster(&nodes);
    let mut mall = Mall::new(28, 1);
    let reader = Reader::of(&settings);
    let mut history = BTreeMap::new();
    let watch = Watch::start(&settings);
    for workers in [3, 2] {
        mall.restart(workers);
        let view = RedisView::connect(&settings, "mall").expect("the cluster is there");
        let sink = view.start(&mall.about, Arc::clone(&mall.view), 0..workers, workers);
        for _ in 0..3 {
            mall.step(&sink, 100);
            history.insert(mall.as_of, Model::of(&mall));
            shown_by(&sink, workers, mall.as_of);
            sink.mark(mall.as_of, false);
        }
        reader.check(&history[&mall.as_of]);
        sink.close(Duration::from_secs(60)).expect("everything is written");
    }
    let kept = |node: &Redis| node.ask::<Vec<String>>(&["KEYS", "sf:*"]).len();
    assert!(nodes.iter().all(|node| kept(node) > 100), "it is spread over all");
    watch.end(&history);
    assert!(!format!("{:?}", reader.view).contains("hunter2"));
    // A single server, taken for a cluster: that is said.
    let Some(single) = redis::redis(name) else { return };
    let mut settings = single.settings();
    settings.cluster = true;
    let wrong = RedisServed::connect(&settings, "mall");
    let Err(ViewError::Unavailable { source, .. }) = reader.runtime.block_on(wrong.shown()) else { panic!("it is no cluster") };
    assert!(matches!(source.downcast_ref(), Some(RedisError::NotCluster { .. })), "{source:?}");
}

/// Windows go by their time to live when a job is long gone, and the ids of stores stay: nothing is told then, rather than that nothing was sold.
#[test]
fn redis_serve_takes_nothing_for_zero_that_has_gone_with_time() {
    let Some(redis) = redis::redis("redis_serve_takes_nothing_for_zero_that_has_gone_with_time") else { return };
    let reader = Reader::new(&redis);
    let mut mall = Mall::new(28, 7);
    mall.go(None, 300);
    let sink = mall.start(&redis);
    everything_shown(&sink, mall.as_of);
    sink.mark(mall.as_of, false);
    sink.close(Duration::from_secs(60)).expect("everything is written");
    reader.check(&Model::of(&mall));
    let hashes = redis.ask::<Vec<String>>(&["KEYS", "sf:*:mall:7:w:*"]);
    assert!(!hashes.is_empty());
    let store = hashes[0].splitn(7, ':').last().expect("a store").to_owned();
    for key in &hashes {
        redis.ask::<u64>(&["DEL", key]);
    }
    assert!(matches!(reader.store(&store, ALL, 10), Err(ViewError::Unavailable { .. })), "store {store}");
}

/// Redis comes back as it was a while ago. The process that leads has written its part again; the marker waits for the other one's, whose
/// buckets would count as unchanged.
#[test]
fn redis_serve_believes_no_marker_before_all_processes_are_back() {
    let Some(redis) = redis::redis("redis_serve_believes_no_marker_before_all_processes_are_back") else { return };
    let mut mall = Mall::new(27, 6);
    mall.go(None, 300);
    let start = |workers: Range<usize>| {
        let view = RedisView::connect(&redis.settings(), "mall").expect("Redis is there");
        view.start(&mall.about, Arc::clone(&mall.view), workers, WORKERS)
    };
    let marked = || redis.ask::<u64>(&["HGET", "sf:mall:6:about", "as_of"]);
    let [leader, other] = [start(0..2), start(2..3)];
    wait("both", || leader.shown(1) >= mall.as_of && other.shown(2) >= mall.as_of);
    leader.mark(mall.as_of, false);
    wait("the marker", || redis.ask::<bool>(&["EXISTS", "sf:mall:6:about"]) && marked() == mall.as_of);
    other.close(Duration::from_secs(60)).expect("everything is written");

    let old = (mall.as_of - MINUTE).to_string();
    redis.ask::<u64>(&["HSET", "sf:mall:6:about", "as_of", &old]);
    for guard in ["sf:{0}:mall:6:guard", "sf:{2}:mall:6:guard", "sf:{top}:mall:6:guard:2"] {
        let said = redis.ask::<String>(&["GET", guard]);
        let parts: Vec<&str> = said.split(':').collect();
        redis.ask::<String>(&["SET", guard, &format!("{}:{}:0:{old}", parts[0], parts[1])]);
    }
    let before = leader.stats().reconciliations;
    redis.ask::<u64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    wait("the leader's part", || leader.stats().reconciliations > before);
    // When the second of these is shown, all that came of the loss has been done.
    for later in 1..=2 {
        (0..2).for_each(|worker| leader.send(worker, mall.as_of + later, Vec::new(), Vec::new()));
        wait("the next", || leader.shown(1) >= mall.as_of + later);
    }
    assert_eq!(marked().to_string(), old, "the other's buckets may be old");
    let other = start(2..3);
    wait("the other's part", || marked() == mall.as_of);
    for sink in [leader, other] {
        sink.close(Duration::from_secs(60)).expect("everything is written");
    }
}

/// A run of the program: what it leaves in Redis is what its own rows add up to, and it says that it has ended.
#[test]
fn redis_serve_shows_a_run_of_the_program() {
    let Some(redis) = redis::redis("redis_serve_shows_a_run_of_the_program") else { return };
    let dataset = binary::dataset("mall-small");
    let folder = tempfile::tempdir().expect("a folder");
    let (job, replay, out, url) = (text(&dataset.join("mall.toml")), text(&dataset), text(folder.path()), redis.url());
    succeed(&["run", "--job", &job, "--replay", &replay, "--data-dir", &out, "--redis", &url, "--workers", "2"]);
    let name = redis.ask::<Vec<String>>(&["KEYS", "sf:*:current"])[0].split(':').nth(1).expect("a job").to_owned();
    let mut view = RedisView::connect(&redis.settings(), &name).expect("Redis is there").read().expect("a whole view");
    let as_of = view.current.as_of;
    let model = Model::new(as_of, Table::ALL.into_iter().flat_map(|table| view.take(table)));
    let reader = Reader { view: RedisServed::connect(&redis.settings(), &name), ..Reader::new(&redis) };
    reader.check(&model);
    assert!(reader.shown().expect("a view").finished);
    let [status] = &reader.status()[..] else { panic!("{:?}", reader.status()) };
    assert!(status.ended && status.checkpoints > 0 && status.topics.iter().all(|topic| topic.records > 0), "{status:?}");
    assert!(!status.topics.is_empty());
}

/// The access lists in the documentation are enough, the job's for a run that goes on after another, the API's for all that it asks.
#[test]
fn redis_serve_needs_the_documented_rights_only() {
    let Some(redis) = redis::start("redis_serve_needs_the_documented_rights_only", Some("hunter2"), false) else { return };
    let documented = include_str!("../../docs/redis-view.md");
    let lists: Vec<&str> = documented.split('`').filter(|quoted| quoted.starts_with("~sf:*")).collect();
    let settings = |user: &str, rights: &str| {
        let rule: Vec<&str> = ["ACL", "SETUSER", user, "on", ">letmein"].into_iter().chain(rights.split_whitespace()).collect();
        redis.ask::<()>(&rule);
        let url = SecretUrl::parse(&redis.url().replace(":hunter2", &format!("{user}:letmein")), None).expect("a URL");
        RedisSettings { url, cluster: false }
    };
    let [of_job, of_api] = lists[..] else { panic!("{lists:?}") };
    let (of_job, of_api) = (settings("job", of_job), settings("api", of_api));
    let mut mall = Mall::new(29, 1);
    let reader = Reader { view: RedisServed::connect(&of_api, "mall"), ..Reader::new(&redis) };
    for workers in [3, 2] {
        mall.restart(workers);
        let view = RedisView::connect(&of_job, "mall").expect("Redis is there");
        let view = view.telling(|| ProcessStatus { processes: 1, ..ProcessStatus::default() });
        let sink = view.start(&mall.about, Arc::clone(&mall.view), 0..workers, workers);
        (0..3).for_each(|_| mall.step(&sink, 150));
        shown_by(&sink, workers, mall.as_of);
        sink.mark(mall.as_of, false);
        sink.close(Duration::from_secs(60)).expect("everything is written");
        reader.check(&Model::of(&mall));
        assert_eq!(reader.status().len(), 1);
    }
    // And what is not in it is refused: the list is in force.
    let mut client = ::redis::Client::open(redis.url().replace(":hunter2", "api:letmein"))
        .and_then(|client| client.get_connection())
        .expect("it may");
    assert!(::redis::cmd("DEL").arg("sf:mall:current").query::<i64>(&mut client).is_err());
}
