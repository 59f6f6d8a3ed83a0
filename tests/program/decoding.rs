//! Lines of every kind through the sources and through the recomputation: both read the same out of any bytes.
//!
//! `differential_*`: two decoders, written apart by `docs/semantics.md`, must agree on every record's stamp, on which records
//! are dead letters or skipped, and on every cell, row of history and late adjustment that follows.
//! `regression_*`: lines on which they once did not.

use std::path::Path;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use storeflow::config::Job;
use storeflow::decode::Decoded;
use storeflow::runtime::workers::Tuning;
use storeflow::source::dataset::partitions;
use storeflow::source::partition::Partition;
use storeflow::verify::Recomputation;

use crate::support::exact::{assert_exact, cases, dead_letters_at};
use crate::support::histories::write;
use crate::support::lines::{Line, Shape, job, lines, render, shape};
use crate::support::recorder::record;

/// One partition by itself: every record's stamp, and what became of it.
fn assert_same_records(job: &Job, dataset: &Path, files: &[(String, u32, Vec<u8>)], chunk: usize) {
    let found = partitions(job, dataset).expect("a readable dataset");
    let mut topics: Vec<String> = found.iter().map(|file| file.topic.clone()).collect();
    topics.dedup();
    for (index, file) in found.iter().enumerate() {
        let content =
            files.iter().find(|(topic, number, _)| (topic, *number) == (&file.topic, file.partition)).expect("it was written");
        let twin = Recomputation::from_files(job, std::slice::from_ref(content));
        let mut partition =
            Partition::open(job, file, index as u32, &topics, chunk, &std::sync::Arc::default()).expect("a readable file");
        let (mut stamps, mut dead, mut skipped) = (Vec::new(), Vec::new(), 0);
        while let Some(placed) = partition.next_record().expect("a readable file") {
            stamps.push(placed.order.stamp);
            match placed.outcome {
                Err(letter) => dead.push((letter.topic.to_string(), letter.partition, letter.offset)),
                Ok((Decoded::Skipped(_), _)) => skipped += 1,
                Ok(_) => {}
            }
        }
        dead.sort();
        let of = format!("topic {:?} partition {}", file.topic, file.partition);
        assert_eq!(dead, dead_letters_at(&twin, u64::MAX), "dead letters of {of}");
        assert_eq!(skipped, twin.counts_at(u64::MAX).skipped, "skipped records of {of}");
        assert!(stamps.is_sorted(), "stamps of {of} never go back");
        // How many records have each stamp: as stamps ascend, that is the stamp of every record.
        let counted: Vec<(u64, u64)> = stamps.chunk_by(|a, b| a == b).map(|equal| (equal[0], equal.len() as u64)).collect();
        let before = |stamp| twin.counts_at(stamp).records;
        let expected: Vec<(u64, u64)> = twin.stamps().map(|stamp| (stamp, before(stamp + 1) - before(stamp))).collect();
        assert_eq!(counted, expected, "stamps and records of {of}");
    }
}

/// Everything that follows from the files.
fn assert_same(job: &Job, files: &[(String, u32, Vec<u8>)], chunk: usize, tuning: &Tuning) {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), files);
    assert_same_records(job, folder.path(), files, chunk);
    assert_exact(job, tuning, &record(job, folder.path(), tuning), &Recomputation::from_files(job, files));
}

#[derive(Clone, Debug)]
struct Case {
    shape: Shape,
    lines: Vec<Line>,
    chunk: usize,
    workers: usize,
    tick: Option<u64>,
}

fn case() -> impl Strategy<Value = Case> {
    let tick = proptest::sample::select(&[None, Some(60_000), Some(1_800_000)][..]);
    (shape(), lines(120), 16usize..5_000, 1usize..3, tick).prop_map(|(shape, lines, chunk, workers, tick)| Case {
        shape,
        lines,
        chunk,
        workers,
        tick,
    })
}

/// What a good number of cases holds, so that agreeing on them means something.
#[test]
fn the_lines_reach_every_kind_of_trouble() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut total, mut reasons) = (storeflow::verify::Counts::default(), std::collections::BTreeMap::new());
    for _ in 0..300 {
        let Case { shape, lines, .. } = case().new_tree(&mut runner).expect("a case").current();
        let counts = Recomputation::from_files(&job(&shape), &render(&shape, &lines)).counts_at(u64::MAX);
        total.records += counts.records;
        total.skipped += counts.skipped;
        total.stale += counts.stale;
        total.corrections += counts.corrections;
        total.late_adjustments += counts.late_adjustments;
        total.clock_jumps += counts.clock_jumps;
        for letter in counts.dead_letters {
            *reasons.entry(letter.reason).or_insert(0u64) += 1;
        }
    }
    println!("{total:?} {reasons:?} dead {}", reasons.values().sum::<u64>());
}

proptest! {
    #![proptest_config(cases(400))]

    /// Stamps, dead letters, skipped records, cells, history, late adjustments and counts of any lines.
    #[test]
    fn differential_any_lines_are_read_the_same(case in case()) {
        let Case { shape, lines, chunk, workers, tick } = case;
        assert_same(&job(&shape), &render(&shape, &lines), chunk, &Tuning { workers, tick, in_flight_bytes: 1 << 16, ..Tuning::default() });
    }
}
