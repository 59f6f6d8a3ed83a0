//! Every dialect tells the same: what databases did, told by connectors that start again and read tables anew, gives the sums of
//! the rows there are.
//!
//! For each dialect random histories of rows are rendered in it, in every setting of its connector, and held three ways: the
//! recomputation equals a plain fold of the true rows whenever all of it was told; the program equals the recomputation at every
//! as-of, whatever the workers and ticks; and so the program equals the fold.
//!
//! Clicks that are told twice are held against a plain list of what was counted when.
//!
//! Swaths that are told again are harmless in every dialect, once they are told to their end. A snapshot that is told late is
//! harmless only where it is known to be old; see [`Setting::abilities`]. Partitions may be behind each other wherever no record
//! speaks of more than one key.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use storeflow::config::{Job, job_file};
use storeflow::runtime::workers::Tuning;
use storeflow::verify::{Reason, Recomputation};

use crate::support::dialects::fold::{Sums, fold};
use crate::support::dialects::job::job;
use crate::support::dialects::render::{Rendered, render};
use crate::support::dialects::setting::{Dialect, Setting, any_dialect, dms, flattened, mongodb, settings};
use crate::support::dialects::truth::{History, SITES, Told, What, history, tell};
use crate::support::exact::{assert_exact, cases};
use crate::support::histories::{START, write};
use crate::support::recorder::record;

#[derive(Clone, Debug)]
struct Case {
    setting: Setting,
    history: History,
    workers: usize,
    tick: Option<u64>,
}

fn case(dialect: impl Strategy<Value = Dialect>, lookups: bool) -> impl Strategy<Value = Case> {
    let tick = proptest::sample::select(&[None, Some(1_000), Some(60_000), Some(1_800_000)][..]);
    (settings(dialect, lookups), history(24), 1usize..=3, tick).prop_map(|(setting, history, workers, tick)| Case {
        setting,
        history,
        workers,
        tick,
    })
}

fn check(Case { setting, history, workers, tick }: &Case) {
    let told = tell(history, &setting.abilities());
    let (job, Rendered { files, fillers }) = (job(setting), render(&told, setting));
    let twin = Recomputation::from_files(&job, &files);
    let (dead, read): (Vec<_>, Vec<_>) =
        twin.counts_at(u64::MAX).dead_letters.into_iter().partition(|letter| letter.reason == Reason::NotJson);
    assert_eq!((dead.len(), read), (fillers, Vec::new()), "dead letters are the fillers");
    if !setting.short {
        assert_true(&twin, setting, &told, job.horizons.window);
    }
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &files);
    let tuning = Tuning { workers: *workers, tick: *tick, ..Tuning::default() };
    let run = record(&job, folder.path(), &tuning);
    assert_exact(&job, &tuning, &run, &twin);
    if !setting.short {
        // Nothing is forgotten, so the gauge is exact.
        let waiting = run.finished.sum(|stats| stats.waiting_rows.get());
        assert_eq!(waiting, twin.counts_at(run.finished.as_of).waiting_rows, "rows that wait");
    }
}

/// The recomputation is what a fold of the true rows gives: at the end, and, where all partitions are told at once, whenever
/// everything was told.
fn assert_true(twin: &Recomputation, setting: &Setting, told: &Told, window: u64) {
    let sums_at = |as_of: u64| -> Sums {
        twin.cells_at(as_of).into_iter().map(|(cell, row)| (cell, (row.sum, row.count, row.distinct))).collect()
    };
    if !setting.lagging() && !setting.ahead {
        for (as_of, state) in &told.checks {
            assert_eq!(sums_at(*as_of), fold(state, setting, window), "at {as_of}");
        }
    }
    assert_eq!(sums_at(twin.end_as_of()), fold(told.end(), setting, window), "at the end");
}

/// What a good number of cases holds, so that agreeing on them means something.
#[test]
fn the_histories_hold_all_that_can_happen() {
    let mut runner = TestRunner::deterministic();
    let mut happened: BTreeMap<&str, u64> = BTreeMap::new();
    for lookups in [false, true] {
        for _ in 0..150 {
            let Case { setting, history, .. } = case(any_dialect(), lookups).new_tree(&mut runner).expect("a case").current();
            let told = tell(&history, &setting.abilities());
            for entry in &told.entries {
                let what = match entry.event.what {
                    What::Insert(_) => "insert",
                    What::Update { .. } => "update",
                    What::Delete(_) => "delete",
                    What::Move { .. } => "move",
                    What::Truncate => "truncate",
                    What::Load { first: true, .. } => "first snapshot",
                    What::Load { first: false, .. } => "snapshot",
                };
                *happened.entry(what).or_default() += 1;
            }
            let counts = Recomputation::from_files(&job(&setting), &render(&told, &setting).files).counts_at(u64::MAX);
            for (what, count) in [
                ("stale", counts.stale),
                ("corrections", counts.corrections),
                ("late", counts.late_adjustments),
                ("skipped", counts.skipped),
                ("waiting", counts.waiting_rows),
            ] {
                *happened.entry(what).or_default() += count;
            }
        }
    }
    let rare: Vec<_> = happened.iter().filter(|(_, count)| **count < 20).collect();
    assert_eq!((happened.len(), rare), (12, Vec::new()), "all of it happens, and often enough");
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn debezium_of_mysql(case in case(Just(Dialect::Mysql), false)) {
        check(&case);
    }

    #[test]
    fn debezium_of_postgresql(case in case(any::<bool>().prop_map(|unchanged| Dialect::Postgres { unchanged }), false)) {
        check(&case);
    }

    #[test]
    fn debezium_of_mongodb(case in case(any::<bool>().prop_map(|partial| Dialect::MongoConnector { partial }), false)) {
        check(&case);
    }

    #[test]
    fn debezium_flattened(case in case(flattened(), false)) {
        check(&case);
    }

    #[test]
    fn aws_dms(case in case(dms(), false)) {
        check(&case);
    }

    #[test]
    fn maxwell(case in case(any::<bool>().prop_map(|position| Dialect::Maxwell { position }), false)) {
        check(&case);
    }

    #[test]
    fn canal(case in case(any::<bool>().prop_map(|grouped| Dialect::Canal { grouped }), false)) {
        check(&case);
    }

    #[test]
    fn mongodb_events(case in case(mongodb(), false)) {
        check(&case);
    }

    #[test]
    fn upserts(case in case(any::<bool>().prop_map(|raw_key| Dialect::Upsert { raw_key }), false)) {
        check(&case);
    }

    #[test]
    fn all_in_one_topic(case in case(Just(Dialect::Auto), false)) {
        check(&case);
    }

    /// Payments, items and products that find their store through their order, at several sites.
    #[test]
    fn stores_by_way_of_orders(case in case(any_dialect(), true)) {
        check(&case);
    }
}

/// A click: seconds since the one before, partition, event id, store, minutes between it and the record.
type Click = (u16, u8, u8, u8, u16);

fn clicks() -> impl Strategy<Value = Vec<Click>> {
    // Less than an hour in all, so that no clock waits for a jump to be confirmed.
    proptest::collection::vec((0u16..60, 0u8..3, 0u8..8, 0u8..3, 0u16..50), 1..60)
}

/// Clicks of two sites, whose event ids are those of their sites, and whose stores are told apart by the sites.
fn click_job(minutes: u64) -> Job {
    let text = format!(
        r#"
name = "clicks"
window = "30m"
grace = "2m"
retention = "10d"

[[source]]
topics = ["{{site}}.clicks"]
role = "clicks"
format = "json"
store = "{{site}}/{{place.store}}"
kind = "kind"
product = "product"
time = {{ field = "at", unit = "ms" }}
dedup = {{ field = "{{site}}-{{event}}", horizon = "{minutes}m" }}
"#
    );
    job_file::parse(&text, "clicks.toml").unwrap_or_else(|error| panic!("{error}"))
}

proptest! {
    #![proptest_config(cases(48))]

    /// The first click of an id counts, and so does the first that comes a horizon after one that counted.
    #[test]
    fn clicks_that_are_told_twice(clicks in clicks(), minutes in 1u64..20, workers in 1usize..=3) {
        let mut files: BTreeMap<(String, u32), String> =
            SITES.iter().map(|site| ((format!("{site}.clicks"), 0), String::new())).collect();
        let (mut time, mut counted, mut duplicates) = (START, BTreeMap::new(), 0);
        let mut expected: BTreeMap<(String, u64), (i64, BTreeSet<u8>)> = BTreeMap::new();
        for (seconds, partition, event, store, age) in clicks {
            time += u64::from(seconds) * 1_000 + 1;
            let (site, partition) = (SITES[usize::from(partition) % 2], u32::from(partition) / 2);
            let at = time - u64::from(age) * 60_000;
            let value = format!(r#"{{"event":{event},"place":{{"store":"s{store}"}},"kind":"view","product":{},"at":{at}}}"#, event % 4);
            let file = files.entry((format!("{site}.clicks"), partition)).or_default();
            let offset = file.lines().count();
            *file += &format!(
                "{{\"topic\":\"t\",\"partition\":{partition},\"offset\":{offset},\"ts\":{time},\"key\":null,\"payload\":{value}}}\n"
            );
            let before = counted.get(&(site, event)).copied();
            if before.is_some_and(|before: u64| time - before < minutes * 60_000) {
                duplicates += 1;
                continue;
            }
            counted.insert((site, event), time);
            let cell = expected.entry((format!("{site}/s{store}"), at / 1_800_000 * 1_800_000)).or_default();
            cell.0 += 1;
            cell.1.insert(event % 4);
        }
        let files: Vec<_> =
            files.into_iter().map(|((topic, partition), content)| (topic, partition, content.into_bytes())).collect();
        let (job, folder) = (click_job(minutes), tempfile::tempdir().expect("a folder"));
        let twin = Recomputation::from_files(&job, &files);
        let cells = twin.cells_at(twin.end_as_of());
        let found: Vec<_> = cells.iter().map(|(cell, row)| ((cell.store.clone(), cell.window), (row.count, row.distinct))).collect();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|((store, window), (count, products))| ((store, Some(window)), (count, products.len() as i64)))
            .collect();
        assert_eq!((found, twin.counts_at(u64::MAX).duplicate_clicks), (expected, duplicates));
        write(folder.path(), &files);
        let tuning = Tuning { workers, tick: Some(60_000), ..Tuning::default() };
        assert_exact(&job, &tuning, &record(&job, folder.path(), &tuning), &twin);
    }
}
