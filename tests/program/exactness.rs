//! The promise itself: at every as-of every number equals a recomputation, whatever the ticks, workers and troubles.

use proptest::prelude::*;
use storeflow::config::Job;
use storeflow::runtime::workers::Tuning;
use storeflow::verify::{Recomputation, compare};
use storeflow_dataflows::table::Table;

use crate::support::exact::{as_ofs, assert_exact, cases};
use crate::support::histories::{Step, history, job, render, write};
use crate::support::recorder::record;

/// Steps of the 30-minute ladder, and what divides shorter windows.
fn tuning(window: u64) -> impl Strategy<Value = Tuning> {
    let ticks = [None, Some(1_000), Some(5_000), Some(60_000), Some(window * 60_000)];
    (1usize..=4, proptest::sample::select(ticks.to_vec()), 0u64..6, proptest::sample::select(vec![1_000u64, 60_000]))
        .prop_map(|(workers, tick, align, frontier)| Tuning { workers, tick, frontier, align, ..Tuning::default() })
}

#[derive(Clone, Debug)]
struct Case {
    job: Job,
    steps: Vec<Step>,
    tunings: Vec<Tuning>,
}

fn case() -> impl Strategy<Value = Case> {
    let windows = proptest::sample::select(vec![10u64, 30]);
    (windows, 0u64..4, 1u64..5, 1u64..90, any::<bool>()).prop_flat_map(|(window, grace, retention, horizon, distinct)| {
        let retention = (retention * window).max(grace);
        let job = job(window, grace, retention, horizon, distinct);
        (Just(job), history(160), proptest::collection::vec(tuning(window), 2..=2)).prop_map(|(job, steps, tunings)| Case {
            job,
            steps,
            tunings,
        })
    })
}

fn check(Case { job, steps, tunings }: Case) {
    let files = render(&steps);
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &files);
    let twin = Recomputation::from_files(&job, &files);
    for tuning in &tunings {
        assert_exact(&job, tuning, &record(&job, folder.path(), tuning), &twin);
    }
}

proptest! {
    #![proptest_config(cases(150))]

    /// Every cell, revision, history row and late adjustment, at every as-of, for two ways of running the same history.
    #[test]
    fn every_as_of_equals_a_recomputation(case in case()) {
        check(case);
    }
}

/// Updates that only move payments between stores keep the sum over stores the same at every as-of.
#[test]
fn moves_conserve_the_sum() {
    let job = job(30, 2, 120, 600, false);
    let mut lines = String::new();
    let start = crate::support::histories::START;
    let (keys, rounds) = (40u64, 25u64);
    for round in 0..rounds {
        for key in 0..keys {
            let (op, at, store) = (if round == 0 { "c" } else { "u" }, start * 1_000, (key * 7 + round * 3) % 9);
            let ts = start + round * 60_000 + key;
            lines += &format!(
                r#"{{"op":"{op}","after":{{"id":{key},"store":"s{store}","amount":"{key}.25","at":{at},"status":"PAID"}},"source":{{"connector":"mysql","name":"m","file":"b.1","pos":{},"ts_ms":{ts},"server_id":1}}}}"#,
                round * keys + key + 1,
            );
            lines.push('\n');
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = render(&[]);
    files[0].2 = lines.into_bytes();
    write(folder.path(), &files);
    let expected: i128 = (0..i128::from(keys)).map(|key| key * 100 + 25).sum();
    for (workers, tick) in [(1, Some(1_000)), (3, Some(60_000)), (2, None)] {
        let tuning = Tuning { workers, tick, ..Tuning::default() };
        let run = record(&job, folder.path(), &tuning);
        let full = as_ofs(&job, &tuning, &run).into_iter().filter(|&as_of| as_of > start + keys);
        let mut looked = 0;
        for as_of in full {
            let cells = run.cells_at(as_of);
            let sum: i128 = cells.iter().filter(|(id, _)| id.table == Table::StorePayments).map(|(_, row)| row.sum).sum();
            let count: i64 = cells.iter().filter(|(id, _)| id.table == Table::StorePayments).map(|(_, row)| row.count).sum();
            assert_eq!((sum, count), (expected, keys as i64), "at {as_of} with {workers} workers, tick {tick:?}");
            looked += 1;
        }
        assert!(looked > 0);
    }
}

/// A mall of the generator, whose products begin with a snapshot: dense at first, then sparse, so that the tick changes while
/// partitions stand at gaps. With other ticks than the frontier's next ones, updates were lost and capabilities went back.
#[test]
fn ticks_that_change_at_gaps_lose_nothing() {
    use storeflow::generate::{Options, Topic, generate};
    for (clicks, topics) in [(10_000, Topic::ALL.to_vec()), (0, vec![Topic::OrderItems, Topic::Products])] {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("mall");
        let options = Options { out: out.clone(), payments: 5_000, clicks, topics, ..Options::default() };
        generate(&options).expect("a dataset");
        let job = storeflow::config::job_file::load(&out.join("mall.toml")).expect("its job");
        let twin = Recomputation::read(&job, &out).expect("readable");
        let expected = twin.cells_at(twin.end_as_of());
        for workers in 1..=4 {
            let run = record(&job, &out, &Tuning { workers, ..Tuning::default() });
            let differences = compare(&expected, &run.cells_at(run.finished.as_of));
            assert!(differences.is_empty(), "{workers} workers: {:?}", &differences[..differences.len().min(20)]);
        }
    }
}
