//! What "exact" means: a run against the independent recomputation, at every as-of there is.

use std::collections::BTreeSet;

use proptest::prelude::ProptestConfig;
use storeflow::config::Job;
use storeflow::decode::Skipped;
use storeflow::observe::WorkerStats;
use storeflow::runtime::workers::Tuning;
use storeflow::verify::{Difference, Recomputation, compare, compare_late};

use super::recorder::Run;

/// So many cases, or what `STOREFLOW_CASES` says: a night of them finds what a minute does not. A failure is shrunk by as many
/// steps as `STOREFLOW_SHRINK` says.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let asked = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let max_shrink_iters = asked("STOREFLOW_SHRINK").unwrap_or(4_096);
    ProptestConfig { max_shrink_iters, ..ProptestConfig::with_cases(asked("STOREFLOW_CASES").unwrap_or(usual)) }
}

/// Panics with the first differences at the first as-of that is wrong.
pub(crate) fn assert_exact(job: &Job, tuning: &Tuning, run: &Run, twin: &Recomputation) {
    assert_eq!(run.finished.as_of, twin.end_as_of(), "the end");
    for as_of in as_ofs(job, tuning, run) {
        assert_none(&compare(&twin.cells_at(as_of), &run.cells_at(as_of)), &format!("at {as_of} with {tuning:?}"));
        assert_eq!(run.dead_letters_at(as_of), dead_letters_at(twin, as_of), "dead letters at {as_of} with {tuning:?}");
    }
    let end = run.finished.as_of;
    assert_none(&compare(&twin.history_through(end), &run.history()), "history");
    assert_none(&compare_late(&twin.late_at(end), &run.late()), "late");
    let counts = twin.counts_at(end);
    let sum = |of: fn(&WorkerStats) -> u64| run.finished.sum(of);
    assert_eq!(sum(|s| s.records.get()), counts.records, "records");
    assert_eq!(sum(|s| s.dead_letters.get()), counts.dead_letters.len() as u64, "dead letters counted");
    let skipped = twin.skipped_at(end);
    for (at, kind) in Skipped::ALL.iter().enumerate() {
        let counted: u64 = run.finished.stats.iter().map(|stats| stats.skipped[at].get()).sum();
        assert_eq!(counted, skipped.get(kind.code()).copied().unwrap_or(0), "skipped as {}", kind.code());
    }
    assert_eq!(sum(|s| s.stale.get()), counts.stale, "stale");
    assert_eq!(sum(|s| s.moved_late().0), counts.corrections, "corrections");
    assert_eq!(sum(|s| s.moved_late().1), counts.late_adjustments, "late adjustments");
    assert_eq!(sum(|s| s.duplicate_clicks.get()), counts.duplicate_clicks, "clicks that were told before");
    // What is forgotten is counted until the state that holds it is swept.
    assert!(sum(|s| s.waiting_rows.get()) >= counts.waiting_rows, "rows that wait");
    assert_eq!(sum(|s| s.clock_jumps.get()), counts.clock_jumps, "clock jumps");
}

/// Places (topic, partition, position) of the dead letters among the records before `as_of`, sorted.
pub(crate) fn dead_letters_at(twin: &Recomputation, as_of: u64) -> Vec<(String, u32, u64)> {
    let letters = twin.counts_at(as_of).dead_letters.into_iter();
    letters.map(|letter| (letter.topic, letter.partition, letter.position)).collect()
}

/// The as-ofs to look at: with a fixed tick all there are.
pub(crate) fn as_ofs(job: &Job, tuning: &Tuning, run: &Run) -> BTreeSet<u64> {
    let Some(tick) = tuning.tick else { return run.as_ofs(None) };
    let phase = job.horizons.grace % tick;
    run.as_ofs(Some(&|after| if after < phase { phase } else { phase + ((after - phase) / tick + 1) * tick }))
}

/// Panics with the first of the differences, if there are any.
pub(crate) fn assert_none(differences: &[Difference], of: &str) {
    let lines: Vec<String> = differences.iter().take(20).map(|difference| format!("\n  {difference}")).collect();
    assert!(differences.is_empty(), "{of}: {} differences{}", differences.len(), lines.concat());
}
