//! A job file that changed between two runs: what would give the state another meaning is refused by name, a new source is
//! read from its beginning.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::crash::Replay;
use crate::support::binary::{Ended, dataset, run, succeed, text};

/// What is changed, and how the refusal calls it.
const CHANGES: [(&str, &str, &str); 10] = [
    (r#"window = "30m""#, r#"window = "15m""#, "window_ms was 1800000 and is 900000"),
    ("scale = 2", "scale = 3", "scale was 2 and is 3"),
    (r#"currency = "KRW""#, r#"currency = "USD""#, "currency was"),
    (r#"key = "payment_id""#, r#"key = "order_id""#, "key of the source of topics"),
    (r#"store = "store_id""#, r#"store = "user_id""#, "store of the source of topics"),
    (r#"amount = "amount""#, r#"amount = "order_id""#, "amount of the source of topics"),
    (r#"field = "paid_at", unit = "us""#, r#"field = "paid_at", unit = "ms""#, "time of the source of topics"),
    (r#"["PAID", "REFUNDED"]"#, r#"["PAID"]"#, "counts_when of the source of topics"),
    (r#"quantity = "quantity""#, r#"quantity = "item_id""#, "quantity of the source of topics"),
    ("distinct = true", "distinct = false", "distinct of the source of topics"),
];

#[test]
fn what_gives_state_another_meaning_is_refused_by_name() {
    let mut replay = Replay::new();
    replay.run_and_kill(1, 2, &[]);
    for (from, to, word) in CHANGES {
        replay.change(&[(from, to)]);
        let Ended { code, out, err } = run(&mut replay.command(1, &[]));
        assert_eq!(code, Some(2), "{to}\n{out}{err}");
        let message = err.lines().find(|line| line.starts_with("error: ")).expect("a message");
        for word in [word, "another meaning", "--generation"] {
            assert!(message.contains(word), "nothing of {word:?} about {to}:\n{message}");
        }
    }
    // Once it is taken back, all is as before.
    replay.change(&[]);
    replay.finish(2, &[]);
    replay.verify();
}

/// The rows of a table as they are shown, without what a record's lateness decides.
fn rows(of: &str, lateness: &[&str]) -> BTreeSet<String> {
    let without_lateness = |line: &str| {
        let mut row: Value = serde_json::from_str(line).expect("JSON");
        lateness.iter().for_each(|field| drop(row.as_object_mut().expect("a row").remove(*field)));
        row.to_string()
    };
    of.lines().map(without_lateness).collect()
}

#[test]
fn another_grace_and_retention_hold_from_the_checkpoint_on() {
    let (mut replay, dataset) = (Replay::new(), dataset("mall-small"));
    replay.run_and_kill(2, 4, &[]);
    // Longer, so that windows which are closed would be open again; then shorter than any window has been open.
    for (workers, grace, retention) in [(3, "25m", "48h30m"), (1, "0m", "30h")] {
        let number = replay.kept().newest_number();
        replay.change(&[
            (r#"grace = "2m""#, &format!("grace = \"{grace}\"")),
            (r#"retention = "48h""#, &format!("retention = \"{retention}\"")),
        ]);
        replay.run_and_kill(workers, number + 3, &[]);
    }
    replay.finish(2, &[]);
    for table in ["store_payments", "store_sales", "store_clicks"] {
        let shown = succeed(&["export", "--data-dir", &replay.out(), "--table", table]);
        let expected = std::fs::read_to_string(dataset.join(format!("expected/{table}.ndjson"))).expect("expected rows");
        let lateness = ["revision", "closed"];
        let (shown, expected) = (rows(&shown, &lateness), rows(&expected, &lateness));
        let other = shown.symmetric_difference(&expected).next();
        assert_eq!(other, None, "sums of {table} do not depend on when windows close");
        // A window is published once, and then corrected: never a second time from the start.
        let history = succeed(&["export", "--data-dir", &replay.out(), "--table", table, "--history"]);
        let mut last = std::collections::BTreeMap::new();
        let mut all: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        all.sort_by_key(|row| (row["as_of"].as_str().map(str::to_owned), row["revision"].as_u64()));
        for row in &all {
            let cell = [&row["store_id"], &row["currency"], &row["kind"], &row["window_start"]].map(Value::to_string);
            let revision = row["revision"].as_u64().expect("a revision");
            let before = last.insert(cell, revision);
            assert!(before.is_none_or(|before| revision == before + 1), "revision {revision} follows {before:?}: {row}");
        }
    }
    // What another setting decided in between, one recomputation does not know.
    let (job, data, out) = (text(&replay.job), text(&dataset), replay.out());
    let refused = run(&mut crate::support::binary::storeflow(&["verify", "--job", &job, "--replay", &data, "--data-dir", &out]));
    assert_eq!(refused.code, Some(2), "{}{}", refused.out, refused.err);
}

#[test]
fn a_new_source_is_read_from_its_beginning() {
    let clicks = std::fs::read_to_string(dataset("mall-small").join("mall.toml")).expect("a job");
    let (_, clicks) = clicks.split_once("quantity = \"quantity\"\n").expect("items");
    let (_, clicks) = clicks.split_once("counts_when = { state = [\"ON_SALE\"] }\n").expect("products");
    let (mut replay, out) = (Replay::new(), |replay: &Replay| replay.out());
    replay.change(&[(clicks, "")]);
    replay.run_and_kill(2, 4, &[]);
    let number = replay.kept().newest_number();
    replay.change(&[]);
    // What has joined does so once, though it may not have been read yet.
    replay.run_and_kill(3, number + 1, &[]);
    replay.finish(1, &[]);
    assert!(replay.kept().newest_number() > number + 1 && replay.kept().generation() == 1, "it went on");
    let expected = |table: &str| text(&dataset("mall-small").join(format!("expected/{table}.ndjson")));
    for table in ["store_payments", "store_sales", "store_products", "store_clicks"] {
        let shown = succeed(&["export", "--data-dir", &out(&replay), "--table", table]);
        let expected = std::fs::read_to_string(expected(table)).expect("expected rows");
        if table == "store_clicks" {
            // Its records came when their windows were closed: corrections, so only the revisions are others.
            assert_eq!(rows(&shown, &["revision"]), rows(&expected, &["revision"]));
        } else {
            assert!(shown == expected, "{table} is another");
        }
    }
}
