//! Rows that find their store through another table, clicks that are told twice, and a source whose positions jump back: the program
//! from outside, on a few lines that are written here.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::{Value as Json, json};
use storeflow::store::Store;
use storeflow_checkpoints::load::load;
use storeflow_checkpoints::log::Log;
use storeflow_dataflows::state::Section;
use storeflow_dataflows::table::Table;

use crate::support::binary::{refuse, run, storeflow, text};
use crate::support::running::Running;

/// 2026-11-20T00:00:00Z, and a minute.
const START: u64 = 1_795_132_800_000;
const MINUTE: u64 = 60_000;

/// A dataset, its job, and a data directory.
struct Docks {
    folder: tempfile::TempDir,
}

impl Docks {
    fn new(sources: &str) -> Docks {
        let docks = Docks { folder: tempfile::tempdir().expect("a folder") };
        let head = "name = \"docks\"\nwindow = \"30m\"\ngrace = \"2m\"\nretention = \"48h\"\ncurrency = \"KRW\"\n";
        fs::write(docks.folder.path().join("job.toml"), format!("{head}{sources}")).expect("written");
        docks
    }

    /// Writes a topic's records: minute, key, value.
    fn write(&self, topic: &str, records: &[(u64, Json, Json)]) {
        let path = self.folder.path().join("whole").join(topic);
        fs::create_dir_all(&path).expect("made");
        let line = |(offset, (minute, key, value)): (usize, &(u64, Json, Json))| {
            let value = if value.is_null() { Json::Null } else { value.to_string().into() };
            let (ts, key) = (START + minute * MINUTE, key.to_string());
            // The topic must come first, which a map of JSON does not promise.
            format!(
                r#"{{"topic":"{topic}","partition":0,"offset":{offset},"ts":{ts},"key":{},"payload":{value}}}"#,
                Json::from(key)
            )
        };
        let lines: Vec<String> = records.iter().enumerate().map(line).collect();
        fs::write(path.join("0.ndjson"), lines.join("\n")).expect("written");
    }

    /// The arguments of a run.
    fn run(&self) -> Vec<String> {
        let of = |name: &str| text(&self.folder.path().join(name));
        // One worker and a fine tick: each worker keeps a score of its own of positions that jump back, and within a tick by keys.
        ["run", "--job", &of("job.toml"), "--replay", &of("whole"), "--data-dir", &of("out"), "--workers", "1", "--tick", "1s"]
            .map(str::to_owned)
            .to_vec()
    }

    /// What a command over the data directory prints, as JSON, and its exit code.
    fn ask(&self, args: &[&str]) -> (Option<i32>, Vec<Json>) {
        let out = text(&self.folder.path().join("out"));
        let ended = run(&mut storeflow(&[args, &["--data-dir", &out]].concat()));
        let lines =
            ended.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{}{}", ended.out, ended.err)));
        (ended.code, lines.collect())
    }
}

const SOURCES: &str = r#"
[[source]]
topic = "orders"
role = "lookup"
name = "orders"
format = "upsert"
key = "order_id"
store = "store_id"
time = { field = "placed_at", unit = "ms" }
counts_when = { state = ["OPEN"] }

[[source]]
topic = "payments"
role = "payments"
format = "upsert"
key = "payment_id"
store = { through = "orders", on = "order_id" }
amount = "amount"

[[source]]
topic = "items"
role = "order_items"
format = "upsert"
key = "item_id"
store = { through = "orders", on = "order_id" }
product = "product_id"
quantity = "quantity"
time = { field = "at", unit = "ms" }

[[source]]
topic = "clicks"
role = "clicks"
format = "json"
store = "store_id"
kind = "kind"
time = { field = "at", unit = "ms" }
dedup = { field = "event_id", horizon = "10m" }
"#;

#[test]
fn rows_find_their_store_through_orders_and_are_explained() {
    let docks = Docks::new(SOURCES);
    let order = |id: u64, store: &str, state: &str| json!({"order_id": id, "store_id": store, "state": state, "placed_at": START + id * MINUTE});
    let payment = |id: u64, order: u64, amount: &str| json!({"payment_id": id, "order_id": order, "amount": amount});
    let item = |id: u64, order: u64, product: &str| json!({"item_id": id, "order_id": order, "product_id": product, "quantity": 2, "at": START + 40 * MINUTE});
    let click = |id: &str, minute: u64| json!({"event_id": id, "store_id": "a", "kind": "view", "at": START + minute * MINUTE});
    // 1 comes after its payment and goes from one store to another; 2 does not count in the end; 3 is deleted; 9 never comes.
    docks.write(
        "orders",
        &[
            (2, json!(1), order(1, "a", "OPEN")),
            (3, json!(2), order(2, "a", "OPEN")),
            (4, json!(3), order(3, "a", "OPEN")),
            (6, json!(4), order(4, "b", "OPEN")),
            (8, json!(1), order(1, "b", "OPEN")),
            (9, json!(2), order(2, "a", "VOID")),
            (10, json!(3), Json::Null),
        ],
    );
    docks.write(
        "payments",
        &[
            (1, json!(10), payment(10, 1, "1.50")),
            (5, json!(20), payment(20, 2, "2")),
            (5, json!(30), payment(30, 3, "4")),
            (7, json!(40), payment(40, 4, "8")),
            (7, json!(90), payment(90, 9, "16")),
            (11, json!(40), payment(40, 4, "9.25")),
        ],
    );
    docks.write("items", &[(5, json!(1), item(1, 1, "p")), (6, json!(2), item(2, 4, "q")), (7, json!(3), item(3, 4, "q"))]);
    docks.write(
        "clicks",
        &[
            (1, json!(1), click("x", 1)),
            (2, json!(1), click("x", 1)),
            (3, json!(2), click("y", 3)),
            (12, json!(1), click("x", 1)),
        ],
    );
    let args = docks.run();
    let ended = run(&mut storeflow(&args.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    // Payments of orders 3 and 9.
    assert!(ended.err.contains("waiting_rows=2") && ended.err.contains("duplicate_clicks=1"), "{}", ended.err);

    let of = |table: &str, fields: &[&str]| {
        let (code, rows) = docks.ask(&["export", "--table", table]);
        assert_eq!(code, Some(0));
        rows.iter().map(|row| fields.iter().map(|field| row[*field].clone()).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let [first, second] = ["2026-11-20T00:00:00Z", "2026-11-20T00:30:00Z"];
    let payments = of("store_payments", &["store_id", "window_start", "payment_sum", "payment_count"]);
    assert_eq!(payments, [[json!("b"), json!(first), json!("10.75"), json!(2)]]);
    let sales = of("store_sales", &["store_id", "window_start", "items_sold", "products_sold"]);
    assert_eq!(sales, [[json!("b"), json!(second), json!(6), json!(2)]]);
    assert_eq!(of("store_clicks", &["store_id", "clicks"]), [[json!("a"), json!(3)]]);

    let rows = |store: &str, window: &str, table: &str| {
        let asked = ["explain", "--store", store, "--window", window, "--table", table, "--format", "json"];
        let (code, lines) = docks.ask(&asked);
        assert_eq!(code, Some(0), "{lines:?}");
        lines
            .into_iter()
            .filter(|line| line["of"] == "row")
            .map(|row| [row["key"].clone(), row["amount"].clone()])
            .collect::<Vec<_>>()
    };
    let b = rows("b", first, "store_payments");
    assert_eq!(b, [[json!({"payment_id": "10"}), json!("1.50")], [json!({"payment_id": "40"}), json!("9.25")]]);
    assert_eq!(rows("a", first, "store_payments"), Vec::<[Json; 2]>::new());
    assert_eq!(rows("b", second, "store_sales").len(), 3);
}

/// Killed in the middle, a job goes on with the lookup rows, groups and event ids that it had, with another number of workers.
#[test]
fn joins_and_event_ids_outlive_a_kill() {
    let docks = Docks::new(SOURCES);
    let order = |id: u64, store: u64| json!({"order_id": id, "store_id": format!("s{store}"), "state": "OPEN", "placed_at": START + id * MINUTE});
    // Every minute an order comes, and the one of ten minutes ago moves to another store; its payment came before it. Clicks are told
    // twice, eight minutes apart.
    let orders = (0..120u64).flat_map(|at| {
        let moved = at.checked_sub(10).map(|old| (at, json!(old), order(old, at % 3)));
        std::iter::once((at, json!(at), order(at, at % 5))).chain(moved)
    });
    docks.write("orders", &orders.collect::<Vec<_>>());
    let payment = |id: u64| json!({"payment_id": id, "order_id": id, "amount": id});
    docks.write("payments", &(0..120u64).map(|at| (at, json!(at + 3), payment(at + 3))).collect::<Vec<_>>());
    let item =
        |id: u64| json!({"item_id": id, "order_id": id / 2, "product_id": id % 4, "quantity": 1, "at": START + id * MINUTE});
    docks.write("items", &(0..120u64).map(|at| (at, json!(at), item(at))).collect::<Vec<_>>());
    let click = |id: u64, minute| json!({"event_id": id, "store_id": "s1", "kind": "view", "at": START + minute * MINUTE});
    let told = |at: u64| {
        std::iter::once((at, json!(1), click(at, at))).chain(at.checked_sub(8).map(|old| (at, json!(1), click(old, at))))
    };
    docks.write("clicks", &(0..120u64).flat_map(told).collect::<Vec<_>>());

    let args = docks.run();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let slow = [&args[..], &["--speed", "300", "--checkpoint-interval", "1s"]].concat();
    let mut slow = Running::start(&mut storeflow(&slow));
    let store = Store::folder(&docks.folder.path().join("out")).expect("a store");
    let log = || Log::open(Arc::new(store.clone()), "docks/gen-000001/checkpoints", "docks", 1);
    slow.wait_with("half an hour", |_| {
        log().newest().ok().flatten().filter(|newest| newest.manifest.as_of >= START + 30 * MINUTE)
    });
    slow.signal(Signal::KILL);
    assert_eq!(slow.end(), None);
    let newest = log().newest().expect("readable").expect("a checkpoint").manifest;
    assert!(!newest.complete, "it was in the middle");
    let mut sections = BTreeSet::new();
    load(&store, &newest.state, |_| true, |_| true, &mut |section, _| {
        sections.insert(section);
    })
    .expect("whole");
    let expected = [Section::Lookups, Section::Groups, Section::Seen, Section::Referring(Table::StorePayments)];
    assert!(expected.iter().all(|section| sections.contains(section)), "{sections:?}");

    let again: Vec<&str> = args.iter().map(|arg| if *arg == "1" { "3" } else { *arg }).collect();
    let ended = run(&mut storeflow(&again));
    assert!(ended.code == Some(0) && ended.err.contains("state loaded"), "{}", ended.err);
    let tail = ["--job", args[2], "--replay", args[4], "--data-dir", args[6], "--history"];
    let verified = run(&mut storeflow(&[&["verify"], &tail[..]].concat()));
    assert!(verified.code == Some(0) && verified.out.starts_with("exact: "), "{}{}", verified.out, verified.err);
    let (_, clicks) = docks.ask(&["export", "--table", "store_clicks"]);
    assert_eq!(clicks.iter().map(|row| row["clicks"].as_u64().expect("a count")).sum::<u64>(), 120, "each once");
}

#[test]
fn a_source_whose_positions_jump_back_is_told() {
    let payment = |incarnation: &str| {
        format!(
            "[[source]]\ntopic = \"payments\"\nrole = \"payments\"\nformat = \"debezium\"\nkey = \"id\"\nstore = \"store\"\namount = \
             \"amount\"\ntime = {{ field = \"at\", unit = \"ms\" }}\n{incarnation}"
        )
    };
    let change = |minute: u64, id: u64, lsn: u64| {
        let source = json!({"connector": "postgresql", "name": "pg", "db": "shop", "lsn": lsn, "ts_ms": START + minute * MINUTE});
        let row = json!({"id": id, "store": "a", "amount": 1, "at": START});
        (minute, json!({"id": id}), json!({"op": "u", "after": row, "before": null, "source": source}))
    };
    let before = (0..100).map(|id| change(id, id % 50, 1_000_000 + id));
    // What a connector tells again has the times it had: nothing is noticed, however much it is.
    let again = before.clone().chain(before.clone()).chain(before.clone());
    let back = (0..100).map(|id| change(100 + id, id % 50, 1_000 + id));

    let docks = Docks::new(&payment(""));
    docks.write("payments", &again.clone().chain(back.clone().take(99)).collect::<Vec<_>>());
    let args = docks.run();
    let ended = run(&mut storeflow(&args.iter().map(String::as_str).collect::<Vec<_>>()));
    assert!(ended.code == Some(0) && ended.err.contains("stale=199"), "{}", ended.err);

    docks.write("payments", &again.chain(back).collect::<Vec<_>>());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let words = ["have jumped back", "\"payments\"", "row \"49\"", "store_payments", "LSN 0/44B", "LSN 0/F42A3", "incarnation"];
    refuse(&args, &words);
}
