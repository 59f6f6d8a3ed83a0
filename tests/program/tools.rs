//! `storeflow explain` and `storeflow rebuild-view` from outside, over checkpoints that runs have made.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value as Json;
use storeflow::publish::layout::Current;
use storeflow::store::Store;
use storeflow_checkpoints::commit::{Cut, Writer};
use storeflow_checkpoints::load::load;
use storeflow_checkpoints::log::Log;
use storeflow_checkpoints::manifest::Manifest;
use storeflow_checkpoints::names::StateName;
use storeflow_checkpoints::object::{Group, write};
use storeflow_dataflows::cells::StoredCell;
use storeflow_dataflows::key::push_varint;
use storeflow_dataflows::state::{Section, StateRow, StateRows};
use storeflow_dataflows::table::Table;

use crate::support::binary::{dataset, refuse, run, storeflow, succeed, text};
use crate::support::redis;
use crate::support::running::{Running, as_of};

/// The small mall, and a data directory.
struct Mall {
    folder: tempfile::TempDir,
    store: Store,
}

impl Mall {
    fn new() -> Mall {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::folder(folder.path()).expect("a store");
        Mall { folder, store }
    }

    fn out(&self) -> String {
        text(self.folder.path())
    }

    /// The arguments of a command over the job, its records and the data directory.
    fn args(&self, command: &str, more: &[&str]) -> Vec<String> {
        let mall = dataset("mall-small");
        let (job, replay, out) = (text(&mall.join("mall.toml")), text(&mall), self.out());
        let usual = [command, "--job", &job, "--replay", &replay, "--data-dir", &out];
        usual.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
    }

    fn succeed(&self, command: &str, more: &[&str]) -> String {
        let args = self.args(command, more);
        succeed(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn log(&self) -> Log {
        Log::open(Arc::new(self.store.clone()), "mall/gen-000001/checkpoints", "mall", 1)
    }

    fn newest(&self) -> Option<Manifest> {
        self.log().newest().expect("readable").map(|read| read.manifest)
    }

    fn explain(&self, more: &[&str]) -> (Option<i32>, String) {
        let out = self.out();
        let ended = run(&mut storeflow(&[&["explain", "--data-dir", &out], more].concat()));
        assert!(ended.code.is_some_and(|code| code < 2), "{}{}", ended.out, ended.err);
        (ended.code, ended.out)
    }
}

/// The lines of a command as JSON.
fn objects(lines: &str) -> Vec<Json> {
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Digits of a decimal, as an integer of its last one.
fn units(decimal: &Json) -> i128 {
    decimal.as_str().expect("text").replace('.', "").parse().expect("a number")
}

/// Redis lost, then a checkpoint dropped: each time the view is that of a checkpoint again, exactly, and the job goes on from it to
/// its end.
#[test]
fn redis_view_is_rebuilt_from_a_checkpoint_and_taken_back_when_asked() {
    let Some(redis) = redis::redis("redis_view_is_rebuilt_from_a_checkpoint_and_taken_back_when_asked") else { return };
    let (mall, url, settings) = (Mall::new(), redis.url(), redis.settings());
    let out = mall.out();
    let verify_view = || {
        let job = dataset("mall-small").join("mall.toml");
        let verified = succeed(&["verify", "--job", &text(&job), "--replay", &text(&dataset("mall-small")), "--redis", &url]);
        assert!(verified.contains("exact") && verified.contains("rows of the Redis view equal"), "{verified}");
    };
    let rebuild = ["rebuild-view", "--data-dir", &out, "--job-name", "mall", "--redis", &url];
    let rebuild_with = |more: &[&str]| succeed(&[&rebuild[..], more].concat());
    refuse(&rebuild, &["no generation of job \"mall\""]);

    // Six hours in six seconds: it dies with three checkpoints made, and Redis with it.
    let args = mall.args("run", &["--redis", &url, "--speed", "3600", "--checkpoint-interval", "1s", "--keep", "1000"]);
    let mut slow = Running::start(&mut storeflow(&args.iter().map(String::as_str).collect::<Vec<_>>()));
    slow.wait_with("a third checkpoint", |_| mall.newest().filter(|newest| newest.number >= 3));
    refuse(&rebuild, &["in use by another run"]);
    slow.signal(Signal::KILL);
    assert_eq!(slow.end(), None);
    let newest = mall.newest().expect("checkpoints");
    assert!(!newest.complete, "it was in the middle");
    redis.ask::<()>(&["FLUSHALL"]);
    rebuild_with(&[]);
    assert_eq!(as_of(&settings, "mall"), newest.as_of);
    verify_view();

    // Another one, back and forth; back only if it is said.
    let first = mall.log().read(1).expect("kept").manifest;
    refuse(&[&rebuild[..], &["--checkpoint", "1"]].concat(), &["is newer", "than checkpoint 1", "--force"]);
    refuse(&[&rebuild[..], &["--checkpoint", "99"]].concat(), &["checkpoint 99 cannot be loaded", "no longer keeps it"]);
    assert_eq!(as_of(&settings, "mall"), newest.as_of);
    rebuild_with(&["--checkpoint", "1", "--force"]);
    assert_eq!(as_of(&settings, "mall"), first.as_of);
    verify_view();
    rebuild_with(&[]);
    assert_eq!(as_of(&settings, "mall"), newest.as_of);
    let go_on = ["--redis", &url, "--keep", "1000"];
    mall.succeed("run", &go_on);
    let exact = |lines: String| assert_eq!(lines.lines().filter(|line| line.starts_with("exact")).count(), 2, "{lines}");
    exact(mall.succeed("verify", &["--history", "--redis", &url]));
    refuse(&[&rebuild[..], &["--generation", "7"]].concat(), &["generation 7", "is not the one that is shown"]);

    // Somebody goes back: the view is in the way until it has gone back, too.
    let second = mall.log().read(2).expect("kept").manifest;
    succeed(&["checkpoints", "drop-after", "--number", "2", "--yes", "--data-dir", &out]);
    let again = mall.args("run", &go_on);
    refuse(&again.iter().map(String::as_str).collect::<Vec<_>>(), &["the view in Redis is as of", "rebuild-view"]);
    let ended = run(&mut storeflow(&rebuild));
    assert!(ended.code == Some(0) && ended.err.contains("the view is taken back"), "{}", ended.err);
    assert_eq!(as_of(&settings, "mall"), second.as_of);
    verify_view();
    let current = Current::open(&mall.store).expect("a pointer");
    assert_eq!((current.as_of, current.finished), (second.as_of, false));
    mall.succeed("run", &go_on);
    exact(mall.succeed("verify", &["--history", "--redis", &url]));
    assert_eq!(Current::open(&mall.store).expect("a pointer").about.generation, 1, "no new generation was needed");
}

/// Cells of every table are what their rows come to; one that is not is found.
#[test]
fn explain_adds_up_the_rows_of_a_cell() {
    let mall = Mall::new();
    // Six hours in six seconds: rows have changed, and moved to other stores, since the objects in which they were first.
    mall.succeed("run", &["--speed", "3600", "--checkpoint-interval", "1s"]);
    assert!(mall.newest().is_some_and(|newest| newest.number > 3 && newest.state.len() > 3), "the state is in several objects");
    let out = mall.out();
    let export = |table: &str| objects(&succeed(&["export", "--data-dir", &out, "--table", table]));
    let mut explained = 0;
    for (table, sum, count, distinct) in [
        ("store_payments", Some("payment_sum"), Some("payment_count"), None),
        ("store_sales", Some("items_sold"), None, Some("products_sold")),
        ("store_clicks", None, Some("clicks"), Some("products_clicked")),
        ("store_products", None, Some("product_count"), None),
    ] {
        for published in export(table).iter().step_by(13) {
            let store = published["store_id"].as_str().expect("an id");
            let window: Vec<&str> = published["window_start"].as_str().map(|at| vec!["--window", at]).unwrap_or_default();
            let second = [&published["currency"], &published["kind"]].into_iter().find(|second| second.is_string());
            let asked = [&["--store", store, "--table", table, "--format", "json"], &window[..]].concat();
            let (code, lines) = mall.explain(&asked);
            assert_eq!(code, Some(0), "{lines}");
            let mut lines = objects(&lines);
            lines.retain(|line| second.is_none_or(|second| line["second"] == *second));
            let (cell, parts) = lines.split_last().expect("a cell");
            assert_eq!((&cell["of"], &cell["agree"]), (&"cell".into(), &true.into()), "{cell}");
            let of = |what: &str| parts.iter().filter(|line| line["of"] == what).cloned().collect::<Vec<_>>();
            let (rows, products) = (of("row"), of("product"));
            if let Some(sum) = sum {
                let added: i128 = rows.iter().map(|row| units(&row["amount"])).sum();
                let shown = if table == "store_payments" {
                    units(&published[sum])
                } else {
                    published[sum].to_string().parse().expect("items")
                };
                assert_eq!(added, shown, "{cell}");
            }
            if let Some(count) = count.filter(|_| table != "store_clicks") {
                assert_eq!(rows.len() as u64, published[count].as_u64().expect("a count"), "{cell}");
            }
            if let Some(distinct) = distinct {
                assert_eq!(products.len() as u64, published[distinct].as_u64().expect("a count"), "{cell}");
            }
            let keys: std::collections::BTreeSet<String> = rows.iter().map(|row| row["key"].to_string()).collect();
            assert_eq!(keys.len(), rows.len(), "a key has one latest row");
            assert!(
                rows.iter()
                    .all(|row| row["stamp"].is_string()
                        && row["key_space"].as_str().is_some_and(|topic| topic.starts_with("mall.")))
            );
            explained += 1;
        }
    }
    assert!(explained > 20, "{explained}");

    let published = export("store_payments").into_iter().find(|row| row["payment_count"].as_u64() > Some(2)).expect("a cell");
    let [store, window, sum] = ["store_id", "window_start", "payment_sum"].map(|name| published[name].as_str().expect("text"));
    let asked = ["--store", store, "--window", window];
    let (code, page) = mall.explain(&asked);
    let whole = format!("view:  payment_sum {sum}, payment_count {}, revision", published["payment_count"]);
    assert!(code == Some(0) && page.contains("they agree") && page.contains(&whole), "{page}");
    assert!(page.contains("mall.payments payment_id=") && page.contains("binlog 0"), "{page}");
    refuse(&["explain", "--data-dir", &out, "--store", store, "--window", "2026-11-01T00:00:00Z"], &["expired", "--history"]);
    refuse(&["explain", "--data-dir", &out, "--store", store, "--table", "store_sales"], &["--window"]);
    refuse(&["explain", "--data-dir", &out, "--store", store], &["--window"]);
    let (code, page) = mall.explain(&["--store", "nobody", "--window", window]);
    assert!(code == Some(0) && page.contains("no row and no cell"), "{page}");

    let honest = mall.newest().expect("a checkpoint").number.to_string();
    forge(&mall, store, window);
    let (code, page) = mall.explain(&asked);
    assert!(code == Some(1) && page.matches("they DIFFER").count() == 1, "{page}");
    assert_eq!(mall.explain(&[&asked[..], &["--checkpoint", &honest]].concat()).0, Some(0));
}

/// Adds a checkpoint in which one cell of payments has a unit too many.
fn forge(mall: &Mall, store: &str, window: &str) {
    let log = mall.log();
    let newest = log.newest().expect("readable").expect("a checkpoint");
    let Manifest { as_of, workers, complete, setting, topics, partitions, mut state, .. } = newest.manifest.clone();
    let wanted = |cell: &StoredCell| {
        cell.key.cell_parts().0 == store.as_bytes() && storeflow::publish::time::instant(cell.window) == window
    };
    let mut rows = StateRows::default();
    let payments = |section| section == Section::Cells(Table::StorePayments);
    load(&**log.objects(), &state, payments, |_| true, &mut |_, row| {
        let cell = StoredCell::read(row);
        if wanted(&cell) {
            let mut value = Vec::new();
            push_varint(&mut value, u64::try_from((cell.value.sum + 1) * 2).expect("positive and small"));
            for number in [0, cell.value.count as u64 * 2, 0, cell.revision.into()] {
                push_varint(&mut value, number);
            }
            rows.push(StateRow { hash: row.hash, key: row.key, value: &value });
        }
    })
    .expect("whole");
    assert!(!rows.is_empty(), "the cell is there");
    let mut writer = Writer::after(&log, Some(&newest), "a-forger", 1000);
    let group = Group { index: 0, of: 1 };
    let key = StateName { number: writer.next(), group, merged: None, run: "a-forger" }.key(log.prefix());
    let sections = [(Section::Cells(Table::StorePayments), vec![rows])].into();
    let fresh = write(&**log.objects(), &key, as_of + 1, group, &sections).expect("written");
    state.push(fresh.clone());
    let written_at = newest.manifest.written_at;
    let cut = Cut { as_of, written_at, complete, workers, setting, topics, partitions, state, fresh: vec![fresh] };
    writer.commit(cut, Duration::ZERO).expect("committed");
}
