//! The Redis view against the view in memory, on a real server that is killed, emptied and set back in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use storeflow::decode::cell_key;
use storeflow::publish::layout::About;
use storeflow::publish::redis::{RedisError, RedisSettings, RedisSink, RedisView, SecretUrl};
use storeflow::publish::view::ViewCell;
use storeflow::publish::{MemoryView, Row};
use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::key::Key;
use storeflow_dataflows::table::{CellChange, NO_WINDOW, Table, Value, Window, WindowExpiry};

use crate::support::binary::{self, refuse, run, storeflow, succeed, text};
use crate::support::redis::{self, Redis};

pub(crate) const MINUTE: u64 = 60_000;
pub(crate) const START: u64 = 1_795_168_800_000;
pub(crate) const WORKERS: usize = 3;
pub(crate) const STORES: [&str; 8] = ["s1", "a:b", "{x}", "}{", "상점 🛒", "w:5:z", " ", "\u{0}\r\n"];

fn about(generation: u64, workers: usize) -> About {
    About {
        job: "mall".to_owned(),
        generation,
        horizons: Horizons {
            window: 30 * MINUTE,
            grace: 2 * MINUTE,
            retention: 120 * MINUTE,
            replay_horizon: 0,
            before: Before::NOTHING,
        },
        scale: 2,
        workers,
        clicks_distinct: true,
        timezone: "Asia/Seoul".to_owned(),
    }
}

/// A job that makes things up: random changes, correct expiries, revisions that only grow.
pub(crate) struct Mall {
    random: Pcg64Mcg,
    pub(crate) about: About,
    pub(crate) workers: usize,
    pub(crate) view: Arc<MemoryView>,
    pub(crate) as_of: u64,
    cells: BTreeMap<(Table, Window, Vec<u8>), u32>,
    revisions: BTreeMap<(Table, Window, Vec<u8>), u32>,
}

impl Mall {
    pub(crate) fn new(seed: u64, generation: u64) -> Mall {
        println!("seed {seed}");
        Mall {
            random: Pcg64Mcg::seed_from_u64(seed),
            about: about(generation, WORKERS),
            workers: WORKERS,
            view: Arc::new(MemoryView::of(0..WORKERS)),
            as_of: START,
            cells: BTreeMap::new(),
            revisions: BTreeMap::new(),
        }
    }

    pub(crate) fn start(&self, redis: &Redis) -> RedisSink {
        let view = RedisView::connect(&redis.settings(), "mall").expect("Redis is there");
        view.start(&self.about, Arc::clone(&self.view), 0..self.workers, self.workers)
    }

    /// What a run of so many workers begins with that continues this one from a checkpoint: the same cells, dealt anew.
    pub(crate) fn restart(&mut self, workers: usize) {
        let mut of_worker: Vec<Vec<CellChange>> = vec![Vec::new(); workers];
        for table in Table::ALL {
            for ViewCell { key, window, value, revision } in self.view.snapshot(table) {
                let worker = (key.shard() % workers as u64) as usize;
                of_worker[worker].push(CellChange { after: 0, table, window, key, value: Some((value, revision)) });
            }
        }
        self.view = Arc::new(MemoryView::of(0..workers));
        for (worker, mut cells) in of_worker.into_iter().enumerate() {
            self.view.apply(worker, self.as_of, &mut cells, &mut Vec::new());
        }
        (self.workers, self.about.workers) = (workers, workers);
    }

    /// Goes to the next as-of: applies it to the view in memory, then sends it.
    pub(crate) fn step(&mut self, sink: &RedisSink, changes: usize) {
        self.go(Some(sink), changes);
    }

    /// The same, sent to nobody if there is none.
    pub(crate) fn go(&mut self, sink: Option<&RedisSink>, changes: usize) {
        let horizons = self.about.horizons;
        let after = self.as_of;
        self.as_of += MINUTE * self.random.random_range(1..6);
        let mut of_worker: Vec<(Vec<CellChange>, Vec<WindowExpiry>)> = vec![Default::default(); self.workers];
        for _ in 0..changes {
            let (change, worker) = self.change(after);
            of_worker[worker].0.push(change);
        }
        let expired: BTreeSet<(Table, Window)> = self
            .cells
            .keys()
            .filter(|(_, window, _)| horizons.expired(*window, self.as_of))
            .map(|(table, window, _)| (*table, *window))
            .collect();
        self.cells.retain(|(_, window, _), _| !horizons.expired(*window, self.as_of));
        for (table, window) in expired {
            let at = horizons.expiry(window).expect("a window") - 1;
            for (_, expiries) in &mut of_worker {
                expiries.push(WindowExpiry { after: at, table, window });
            }
        }
        for (worker, (mut changes, mut expiries)) in of_worker.into_iter().enumerate() {
            expiries.sort_by_key(|expiry| expiry.after);
            let copy = changes.clone();
            let expired = self.view.apply(worker, self.as_of, &mut changes, &mut expiries);
            if let Some(sink) = sink {
                sink.send(worker, self.as_of, copy, expired);
            }
        }
    }

    fn change(&mut self, after: u64) -> (CellChange, usize) {
        let table = Table::ALL[self.random.random_range(0..4)];
        let horizons = self.about.horizons;
        let back = self.random.random_range(0..3) * horizons.window;
        let window = if table.windowed() { horizons.window_of(after - back) } else { NO_WINDOW };
        let store = match self.random.random_range(0..3) {
            0 => STORES[self.random.random_range(0..STORES.len())].to_owned(),
            _ => format!("store-{}", self.random.random_range(0..60)),
        };
        let second = match table {
            Table::StorePayments => ["KRW", "a:b:", "{}"][self.random.random_range(0..3)],
            Table::StoreClicks => ["view", "cart", "revision"][self.random.random_range(0..3)],
            Table::StoreSales | Table::StoreProducts => "",
        };
        let key: Key = cell_key(store.as_bytes(), second.as_bytes(), &mut Vec::new());
        let worker = (key.shard() % self.workers as u64) as usize;
        let id = (table, window, key.text.as_bytes().to_vec());
        let closed = horizons.closed(window, after);
        let revision = self.revisions.entry(id.clone()).or_default();
        *revision += u32::from(closed && table.windowed());
        let revision = *revision;
        let value = if self.random.random_range(0..5) == 0 {
            self.cells.remove(&id);
            None
        } else {
            self.cells.insert(id, revision);
            let sum = if matches!(table, Table::StorePayments | Table::StoreSales) {
                self.random.random_range(-500_000..5_000_000)
            } else {
                0
            };
            let count = self.random.random_range(1..1_000);
            Some((Value { sum, count, distinct: count / 2 }, revision))
        };
        (CellChange { after, table, window, key, value }, worker)
    }

    /// What a reader must see.
    pub(crate) fn rows(&self, table: Table) -> Vec<Row> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let mut rows: Vec<Row> = self
            .view
            .snapshot(table)
            .into_iter()
            .map(|cell| Row {
                table,
                store_id: text(cell.key.cell_parts().0),
                second: text(cell.key.cell_parts().1),
                window_start: table.windowed().then_some(cell.window as u64),
                sum: cell.value.sum,
                count: (table != Table::StoreSales).then_some(cell.value.count),
                distinct: matches!(table, Table::StoreSales | Table::StoreClicks).then_some(cell.value.distinct),
                revision: table.windowed().then_some(cell.revision),
                deleted: false,
                epoch: self.as_of,
            })
            .collect();
        rows.sort_by(|a, b| a.key().cmp(&b.key()));
        rows
    }

    /// Compares every row, and all else that hangs on them.
    fn check(&self, redis: &Redis, generation: u64) {
        let mut view = RedisView::connect(&redis.settings(), "mall").expect("Redis is there").read().expect("a whole view");
        assert_eq!(
            (view.current.as_of, view.current.about.clone(), view.ahead),
            (self.as_of, about(generation, self.workers), 0)
        );
        let mut hashes: BTreeMap<(String, Option<u64>), u32> = BTreeMap::new();
        for table in Table::ALL {
            let (expected, found) = (self.rows(table), view.take(table));
            assert_eq!(expected.len(), found.len(), "{} rows", table.name());
            for (expected, found) in expected.iter().zip(&found) {
                assert_eq!(expected, found);
                let highest = hashes.entry((expected.store_id.clone(), expected.window_start)).or_default();
                *highest = (*highest).max(expected.revision.unwrap_or(0));
            }
        }
        // Keys of buckets: the hashes that have cells, and one for each store.
        let keys: Vec<String> = redis.ask(&["KEYS", &format!("sf:{{*}}:mall:{generation}:[ws]:*")]);
        let stores: BTreeSet<&String> = hashes.keys().map(|(store, _)| store).collect();
        let windows = hashes.keys().filter(|(_, window)| window.is_some()).count();
        assert_eq!(keys.len(), windows + stores.len(), "{keys:?}");
        for ((store, window), highest) in &hashes {
            let bucket = cell_key(store.as_bytes(), b"", &mut Vec::new()).shard();
            let prefix = format!("sf:{{{bucket}}}:mall:{generation}:");
            match window {
                Some(window) => {
                    let key = format!("{prefix}w:{window}:{store}");
                    assert_eq!(redis.ask::<u32>(&["HGET", &key, "revision"]), *highest, "{key}");
                    let ttl = redis.ask::<u64>(&["PTTL", &key]);
                    // What is left of the retention, and a week for those who read on when the job is gone.
                    let week = 7 * 24 * 60 * MINUTE;
                    assert!(ttl > week - 10 * MINUTE && ttl <= week + 150 * MINUTE, "{key} lives {ttl} ms");
                }
                None => assert_eq!(redis.ask::<i64>(&["TTL", &format!("{prefix}s:{store}")]), -1),
            }
        }
        for store in stores {
            let bucket = cell_key(store.as_bytes(), b"", &mut Vec::new()).shard();
            let newest: Option<u64> =
                redis.ask(&["HGET", &format!("sf:{{{bucket}}}:mall:{generation}:s:{store}"), "newest_window"]);
            let expected = hashes.keys().filter(|(of, _)| of == store).filter_map(|(_, window)| *window).max();
            assert_eq!(newest, expected, "newest window of {store:?}");
        }
        self.check_tops(redis, generation);
    }

    fn check_tops(&self, redis: &Redis, generation: u64) {
        let mut lists: BTreeMap<String, BTreeMap<String, i128>> = BTreeMap::new();
        for (table, measure) in
            [(Table::StorePayments, "payment_sum"), (Table::StoreSales, "items_sold"), (Table::StoreClicks, "clicks")]
        {
            for row in self.rows(table) {
                let colon = if table == Table::StoreSales { "" } else { ":" };
                let key =
                    format!("sf:{{top}}:mall:{generation}:top:{measure}:{}{colon}{}", row.window_start.unwrap_or(0), row.second);
                let score = if table == Table::StoreClicks { row.count.unwrap_or(0).into() } else { row.sum };
                lists.entry(key).or_default().insert(row.store_id, score);
            }
        }
        let found: BTreeSet<String> = redis.ask::<BTreeSet<String>>(&["KEYS", &format!("sf:{{top}}:mall:{generation}:top:*")]);
        assert_eq!(found, lists.keys().cloned().collect());
        for (key, expected) in lists {
            let money = key.contains("payment_sum");
            let members: Vec<(String, f64)> = redis.ask(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]);
            let scaled = |score: f64| if money { (score * 100.0).round() as i128 } else { score as i128 };
            let members: BTreeMap<String, i128> = members.into_iter().map(|(store, score)| (store, scaled(score))).collect();
            assert_eq!(members, expected, "{key}");
        }
    }
}

/// Waits until a condition holds; what it waits for is said if it never does.
pub(crate) fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn everything_shown(sink: &RedisSink, as_of: u64) {
    shown_by(sink, WORKERS, as_of);
}

pub(crate) fn shown_by(sink: &RedisSink, workers: usize, as_of: u64) {
    wait("the last as-of", || {
        assert!(sink.failure().is_none(), "{:?}", sink.failure());
        (0..workers).all(|worker| sink.shown(worker) >= as_of)
    });
}

/// Looks at a generation again and again: no as-of of the marker, of a guard or of a hash ever goes back.
struct Watch {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Watch {
    fn start(redis: &Redis, generation: u64) -> Watch {
        let ended = Arc::new(AtomicBool::new(false));
        let (end, settings) = (Arc::clone(&ended), redis.url());
        let client = ::redis::Client::open(settings).expect("a URL");
        let thread = std::thread::spawn(move || {
            let mut connection = client.get_connection().expect("Redis is there");
            let mut seen: BTreeMap<String, u64> = BTreeMap::new();
            let mut looks = 0;
            while !end.load(Ordering::Relaxed) {
                let keys = |pattern: &str| ::redis::cmd("KEYS").arg(format!("sf:{pattern}")).to_owned();
                let hashes: Vec<String> = keys(&format!("{{*}}:mall:{generation}:[ws]:*")).query(&mut connection).expect("keys");
                let guards: Vec<String> = keys(&format!("{{*}}:mall:{generation}:guard")).query(&mut connection).expect("keys");
                let mut asked: Vec<(String, ::redis::Cmd)> = Vec::new();
                let about = format!("sf:mall:{generation}:about");
                for (key, field) in hashes.into_iter().map(|key| (key, "changed_as_of")).chain([(about, "as_of")]) {
                    let get = ::redis::cmd("HGET").arg(&key).arg(field).to_owned();
                    asked.push((key, get));
                }
                asked.extend(guards.into_iter().map(|key| (key.clone(), ::redis::cmd("GET").arg(key).to_owned())));
                for (key, ask) in asked {
                    let Some(value) = ask.query::<Option<String>>(&mut connection).expect("an answer") else { continue };
                    // While a bucket is written in full it says nothing.
                    let Ok(as_of) = value.rsplit(':').next().expect("text").parse::<u64>() else { continue };
                    let before = seen.entry(key.clone()).or_default();
                    assert!(as_of >= *before, "{key} was at {before} and is at {as_of}");
                    *before = as_of;
                }
                looks += 1;
            }
            looks
        });
        Watch { ended, thread: Some(thread) }
    }

    fn end(mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let looks = self.thread.take().expect("not ended before").join().expect("nothing went back");
        assert!(looks > 1, "it looked {looks} times");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Random changes and expiries, and every way of losing Redis; the view in Redis is the view in memory at the end, and neither
/// what is shown nor the marker ever goes back.
#[test]
fn redis_view_is_the_view_in_memory_after_any_outage() {
    let Some(mut redis) = redis::redis("redis_view_is_the_view_in_memory_after_any_outage") else { return };
    let mut mall = Mall::new(7, 1);
    let sink = mall.start(&redis);
    let mut marked = 0;
    for round in 0..12 {
        for _ in 0..6 {
            let before: Vec<u64> = (0..WORKERS).map(|worker| sink.shown(worker)).collect();
            mall.step(&sink, 150);
            if mall.random.random_range(0..2) == 0 {
                everything_shown(&sink, mall.as_of);
                sink.mark(mall.as_of, false);
            }
            assert!((0..WORKERS).all(|worker| sink.shown(worker) >= before[worker]));
        }
        match round {
            1 | 6 => {
                // It goes away with all it has, while changes keep coming.
                redis.ask::<String>(&["SAVE"]);
                redis.kill();
                mall.step(&sink, 300);
                redis.start();
            }
            3 | 8 => {
                // It comes back empty.
                redis.remove_saved();
                redis.kill();
                mall.step(&sink, 300);
                redis.start();
                marked = 0;
            }
            4 | 9 => {
                // It comes back with what it had some time ago.
                redis.ask::<String>(&["SAVE"]);
                for _ in 0..4 {
                    mall.step(&sink, 200);
                    everything_shown(&sink, mall.as_of);
                }
                redis.kill();
                redis.start();
                marked = 0;
            }
            5 => redis.ask::<()>(&["SCRIPT", "FLUSH"]),
            7 => {
                redis.ask::<()>(&["FLUSHALL"]);
                marked = 0;
            }
            _ => {}
        }
        if let Ok(mut view) = RedisView::connect(&redis.settings(), "mall")
            && let Ok(Some(current)) = view.current()
        {
            assert!(current.as_of >= marked, "{} after {marked}", current.as_of);
            marked = current.as_of;
        }
    }
    mall.step(&sink, 150);
    everything_shown(&sink, mall.as_of);
    sink.mark(mall.as_of, false);
    let stats = sink.close(Duration::from_secs(60)).expect("everything is written");
    assert!(stats.reconciliations > 1024 && stats.pending == 0, "{stats:?}");
    mall.check(&redis, 1);
}

/// A second run of a generation takes it from the first, which may then write nothing any more.
#[test]
fn redis_view_is_written_by_one_run_only() {
    let Some(redis) = redis::redis("redis_view_is_written_by_one_run_only") else { return };
    let (mut old, mut new) = (Mall::new(1, 1), Mall::new(2, 1));
    let stale = old.start(&redis);
    old.step(&stale, 500);
    everything_shown(&stale, old.as_of);
    stale.mark(old.as_of, false);
    let sink = new.start(&redis);
    new.step(&sink, 500);
    everything_shown(&sink, new.as_of);
    sink.mark(new.as_of, false);
    old.step(&stale, 500);
    wait("the failure of the old run", || stale.failure().is_some());
    assert!(matches!(stale.failure(), Some(RedisError::OtherRun { .. })), "{:?}", stale.failure());
    assert!(stale.close(Duration::from_secs(10)).is_err());
    sink.close(Duration::from_secs(60)).expect("everything is written");
    new.check(&redis, 1);
}

/// A run that begins from a checkpoint continues the generation, whatever the run before it had shown of it up to there, and
/// with how many workers; nothing a reader sees goes back, and runs that were replaced change nothing.
#[test]
fn redis_view_is_continued_from_a_checkpoint_by_any_number_of_workers() {
    let Some(redis) = redis::redis("redis_view_is_continued_from_a_checkpoint_by_any_number_of_workers") else { return };
    let furthest = || RedisView::connect(&redis.settings(), "mall").expect("Redis is there").furthest(1).expect("an answer");
    assert_eq!(furthest(), None);
    let mut mall = Mall::new(11, 1);
    // A run that was started, and got no further than taking the buckets.
    let asleep = mall.start(&redis);
    wait("its guards", || redis.ask::<Vec<String>>(&["KEYS", "sf:{*}:mall:1:guard"]).len() == 1024);
    let first = mall.start(&redis);
    (0..5).for_each(|_| mall.step(&first, 300));
    everything_shown(&first, mall.as_of);
    first.mark(mall.as_of, false);
    wait("the marker", || {
        furthest() == Some(mall.as_of) && redis.ask::<u64>(&["HGET", "sf:mall:1:about", "as_of"]) == mall.as_of
    });
    let marked = mall.as_of;
    mall.step(&first, 300);
    everything_shown(&first, mall.as_of);
    assert!(marked < mall.as_of && furthest() == Some(mall.as_of), "buckets may be ahead of the marker");
    // A bucket that is being written in full counts with nothing.
    let guards: Vec<String> = redis.ask(&["KEYS", "sf:{*}:mall:1:guard"]);
    let at_end: Vec<&String> =
        guards.iter().filter(|guard| redis.ask::<String>(&["GET", guard]).ends_with(&format!(":{}", mall.as_of))).collect();
    assert!(!at_end.is_empty());
    let watch = Watch::start(&redis, 1);
    for workers in [2, 5, 1] {
        // Checkpoints go on while Redis does not hear of them: cells come, go and expire.
        for _ in 0..8 {
            mall.go(None, 150);
        }
        mall.restart(workers);
        assert!(furthest() < Some(mall.as_of));
        let sink = mall.start(&redis);
        shown_by(&sink, workers, mall.as_of);
        assert_eq!(furthest(), Some(mall.as_of), "all was written without anything being sent");
        sink.mark(mall.as_of, false);
        if workers == 2 {
            // Who wakes up now owns nothing any more: neither buckets nor lists nor the marker, which it has never had.
            asleep.mark(START, false);
            first.mark(marked, false);
            for stale in [&asleep, &first] {
                wait("the failure of a run that was replaced", || stale.failure().is_some());
                assert!(matches!(stale.failure(), Some(RedisError::OtherRun { .. })), "{:?}", stale.failure());
            }
            let claims = |worker: usize| {
                let guard: String = redis.ask(&["GET", &format!("sf:{{top}}:mall:1:guard:{worker}")]);
                let mut parts = guard.split(':').map(str::to_owned);
                (parts.next().expect("a claim"), parts.next().expect("a run"))
            };
            assert_eq!((claims(0).1, claims(2).0.as_str()), (claims(2).1, "3"), "lists of a worker that there is no more");
        }
        for _ in 0..3 {
            mall.step(&sink, 150);
        }
        shown_by(&sink, workers, mall.as_of);
        sink.mark(mall.as_of, false);
        sink.close(Duration::from_secs(60)).expect("everything is written");
        mall.check(&redis, 1);
    }
    watch.end();
    // Whoever dies while it takes buckets has not hidden how far they were.
    redis.ask::<i64>(&["DEL", "sf:mall:1:about"]);
    mall.restart(4);
    let sink = mall.start(&redis);
    drop(sink);
    assert_eq!(furthest(), Some(mall.as_of));
}

/// The pointer goes to a later generation when that one has caught up; then the keys of the earlier one go.
#[test]
fn redis_view_changes_generations() {
    let Some(redis) = redis::redis("redis_view_changes_generations") else { return };
    let mut first = Mall::new(3, 4);
    let sink = first.start(&redis);
    (0..5).for_each(|_| first.step(&sink, 300));
    everything_shown(&sink, first.as_of);
    sink.mark(first.as_of, false);
    sink.close(Duration::from_secs(60)).expect("everything is written");
    first.check(&redis, 4);

    let mut second = Mall::new(4, 5);
    let sink = second.start(&redis);
    let generation = || redis.ask::<u64>(&["HGET", "sf:mall:current", "generation"]);
    while second.as_of < first.as_of {
        assert_eq!(generation(), 4);
        second.step(&sink, 50);
        everything_shown(&sink, second.as_of);
        sink.mark(second.as_of, false);
    }
    sink.close(Duration::from_secs(60)).expect("everything is written");
    assert_eq!(generation(), 5);
    second.check(&redis, 5);
    assert!(redis.ask::<Vec<String>>(&["KEYS", "*mall:4:*"]).is_empty());
}

/// Each way in which Redis cannot be used is one message, and none repeats the password.
#[test]
fn redis_view_says_what_is_wrong() {
    let name = "redis_view_says_what_is_wrong";
    let Some(locked) = redis::start(name, Some("hunter2"), false) else { return };
    let Some(cluster) = redis::start(name, None, true) else { return };
    let connect = |url: &str, cluster: bool| {
        let settings = RedisSettings { url: SecretUrl::parse(url, None).expect("a URL"), cluster };
        let error = RedisView::connect(&settings, "mall").err().expect("it cannot be used");
        let text = format!("{error} {error:?} {settings:?}");
        assert!(!text.contains("hunter2") && !text.contains("letmein"), "{text}");
        error
    };
    let of_locked = locked.url();
    assert!(matches!(connect(&of_locked.replace("hunter2", "letmein"), false), RedisError::Password { .. }));
    assert!(matches!(connect(&of_locked.replace(":hunter2@", ""), false), RedisError::Password { .. }));
    assert!(matches!(connect(&of_locked, true), RedisError::NotCluster { .. }));
    assert!(matches!(connect(&cluster.url(), false), RedisError::IsCluster { .. }));
    locked.ask::<()>(&["ACL", "SETUSER", "reader", "on", ">letmein", "~*", "+get", "+ping", "+client"]);
    let of_reader = of_locked.replace(":hunter2", "reader:letmein");
    assert!(matches!(connect(&of_reader, false), RedisError::Permission { .. }));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = nobody.local_addr().expect("an address").port();
    drop(nobody);
    assert!(matches!(connect(&format!("redis://:hunter2@127.0.0.1:{port}"), false), RedisError::Unreachable { .. }));
}

/// The commands: a finished run's view goes into Redis, is exact there, is printed as from the files; damage is found; a newer
/// view is not replaced unasked.
#[test]
fn redis_view_is_rebuilt_verified_and_exported() {
    let Some(redis) = redis::start("redis_view_is_rebuilt_verified_and_exported", Some("hunter2"), false) else { return };
    let dataset = binary::dataset("mall-small");
    let folder = tempfile::tempdir().expect("a folder");
    let (job, replay, out) = (text(&dataset.join("mall.toml")), text(&dataset), text(folder.path()));
    succeed(&["run", "--job", &job, "--replay", &replay, "--data-dir", &out]);
    let url = redis.url();
    let rebuild = ["rebuild-view", "--data-dir", &out, "--redis", &url];
    let verify = ["verify", "--job", &job, "--replay", &replay, "--redis", &url];
    refuse(&verify, &["no view of job"]);
    succeed(&rebuild);
    assert!(succeed(&verify).contains("rows of the Redis view equal"));
    redis.ask::<()>(&["FLUSHALL"]);
    succeed(&rebuild);
    // Again over what is there.
    succeed(&rebuild);
    let both = [&verify[..], &["--data-dir", &out, "--history"]].concat();
    assert_eq!(succeed(&both).lines().count(), 2);
    let name = succeed(&["export", "--redis", &url, "--data-dir", &out, "--table", "store_products"]);
    assert_eq!(name, succeed(&["export", "--data-dir", &out, "--table", "store_products"]));
    let job_name = redis.ask::<Vec<String>>(&["KEYS", "sf:*:current"])[0].split(':').nth(1).expect("a job").to_owned();
    for table in ["store_payments", "store_sales", "store_clicks", "store_products"] {
        let of_redis = succeed(&["export", "--redis", &url, "--job-name", &job_name, "--table", table]);
        assert_eq!(of_redis, succeed(&["export", "--data-dir", &out, "--table", table]), "{table}");
    }
    // One number off by one is found.
    let keys: Vec<String> = redis.ask(&["KEYS", "sf:{*}:*:s:*"]);
    redis.ask::<i64>(&["HINCRBY", &keys[0], "product_count", "1"]);
    let ended = run(&mut storeflow(&verify));
    assert!(ended.code == Some(1) && ended.out.contains("NOT exact: 1 differences"), "{}{}", ended.out, ended.err);
    succeed(&rebuild);
    succeed(&verify);
    // A later generation is there: it stays, unless it is told to go.
    redis.ask::<i64>(&["HINCRBY", &format!("sf:{job_name}:1:about"), "as_of", "1000"]);
    refuse(&rebuild, &["newer", "--force"]);
    succeed(&[&rebuild[..], &["--force"]].concat());
    succeed(&verify);
    for mistyped in ["redis://x:hunter2@host:port", "http://x:hunter2@host", "x:hunter2@host"] {
        let ended = run(&mut storeflow(&["rebuild-view", "--data-dir", &out, "--redis", mistyped]));
        assert!(ended.code == Some(2) && ended.err.contains("redis://[user:password@]host"), "{}", ended.err);
        assert!(!ended.err.contains("hunter2"), "{}", ended.err);
    }
    let wrong = url.replace("hunter2", "letmein");
    let ended = run(&mut storeflow(&["rebuild-view", "--data-dir", &out, "--redis", &wrong]));
    assert!(ended.code == Some(2) && ended.err.contains("refused user or password"), "{}", ended.err);
    assert!(!ended.err.contains("letmein") && !ended.err.contains("hunter2"), "{}", ended.err);
}
