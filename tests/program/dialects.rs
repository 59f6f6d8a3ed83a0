//! Every dialect tells the same: what databases did, told by connectors that start again and read tables anew, gives the sums of
//! the rows there are.
//!
//! For each dialect random histories of rows are rendered in it, in every setting of its connector, and held three ways: the
//! recomputation equals a plain fold of the true rows whenever all of it was told; the program equals the recomputation at every
//! as-of, whatever the workers and ticks; and so the program equals the fold.
//!
//! Swaths that are told again are harmless in every dialect, once they are told to their end. A snapshot that is told late is
//! harmless only where it is known to be old; see [`Setting::abilities`]. Partitions may be behind each other wherever no record
//! speaks of more than one key.

use proptest::prelude::*;
use storeflow::runtime::workers::Tuning;
use storeflow::verify::{Reason, Recomputation};

use crate::support::dialects::fold::{Sums, fold};
use crate::support::dialects::job::job;
use crate::support::dialects::render::{Rendered, render};
use crate::support::dialects::setting::{Dialect, Setting, any_dialect, dms, flattened, mongodb, settings};
use crate::support::dialects::truth::{History, Told, history, tell};
use crate::support::exact::{assert_exact, cases};
use crate::support::histories::write;
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
    assert_exact(&job, &tuning, &record(&job, folder.path(), &tuning), &twin);
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
