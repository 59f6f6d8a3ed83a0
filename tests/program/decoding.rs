//! Lines of every kind through the sources and through the recomputation: both read the same out of any bytes.
//!
//! `differential_*`: two decoders, written apart by `docs/formats.md` and `docs/semantics.md`, must agree on every record's stamp,
//! on which records are dead letters (and whether for their shape or for what is in the row), on which are skipped and as what,
//! and on every cell, row of history and late adjustment that follows.
//! `regression_*`: lines on which they once did not.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use storeflow::config::{Absent, Format, Job, KeySpace};
use storeflow::decode::Decoded;
use storeflow::runtime::workers::Tuning;
use storeflow::source::dataset::partitions;
use storeflow::source::partition::Partition;
use storeflow::verify::Recomputation;

use crate::support::dialects::damage::{Accident, accidents, damaged};
use crate::support::dialects::setting::{Setting, any_dialect, settings};
use crate::support::dialects::truth::{History, history, tell};
use crate::support::dialects::{job as dialect_job, render as dialect_render};
use crate::support::exact::{assert_exact, cases};
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
        let (mut stamps, mut dead, mut skipped) = (Vec::new(), Vec::new(), BTreeMap::new());
        while let Some(placed) = partition.next_record().expect("a readable file") {
            stamps.push(placed.order.stamp);
            match placed.outcome {
                Err(letter) => dead.push((letter.topic.to_string(), letter.partition, letter.offset, class(letter.reason))),
                Ok((Decoded::Skipped(why), _)) => *skipped.entry(why.code()).or_insert(0) += 1,
                Ok(_) => {}
            }
        }
        dead.sort();
        let of = format!("topic {:?} partition {}", file.topic, file.partition);
        let mut expected: Vec<_> = twin
            .counts_at(u64::MAX)
            .dead_letters
            .into_iter()
            .map(|letter| (letter.topic, letter.partition, letter.position, class(letter.reason.code())))
            .collect();
        expected.sort();
        let differ =
            dead.iter().find(|letter| !expected.contains(letter)).or(expected.iter().find(|letter| !dead.contains(letter)));
        if let Some((_, _, position, _)) = differ {
            // The lines of one position, which may repeat.
            let is_there = |line: &&str| line.contains(&format!("\"offset\":{position},"));
            let text = String::from_utf8_lossy(&content.2);
            let lines: Vec<&str> = text.lines().filter(is_there).collect();
            panic!("dead letters of {of}: {dead:?}, and recomputed {expected:?}; the lines at {position}: {lines:#?}");
        }
        assert_eq!(dead, expected, "dead letters of {of}");
        assert_eq!(skipped, twin.skipped_at(u64::MAX), "skipped records of {of}");
        assert!(stamps.is_sorted(), "stamps of {of} never go back");
        // How many records have each stamp: as stamps ascend, that is the stamp of every record.
        let counted: Vec<(u64, u64)> = stamps.chunk_by(|a, b| a == b).map(|equal| (equal[0], equal.len() as u64)).collect();
        let before = |stamp| twin.counts_at(stamp).records;
        let expected: Vec<(u64, u64)> = twin.stamps().map(|stamp| (stamp, before(stamp + 1) - before(stamp))).collect();
        assert_eq!(counted, expected, "stamps and records of {of}");
    }
}

/// What a record is a dead letter for: of what is found wrong in a key or row anything may be named, but what is found before
/// them is found in one order.
fn class(reason: &'static str) -> &'static str {
    match reason {
        "envelope" | "not_utf8" | "not_json" | "not_an_object" | "bad_op" => reason,
        _ => "what is in the key or row",
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

/// What dialects tell, after accidents, and how it is read.
#[derive(Clone, Debug)]
struct Spoiled {
    setting: Setting,
    history: History,
    accidents: Vec<Accident>,
    /// The format it is taken for, if that is another.
    format: Option<Format>,
    unchanged: bool,
    /// Of keys of two fields the other one.
    second_key: Option<&'static str>,
    shards: bool,
    chunk: usize,
}

const FORMATS: [Format; 8] = [
    Format::Auto,
    Format::Debezium,
    Format::Flattened,
    Format::Dms,
    Format::Maxwell,
    Format::Canal,
    Format::Mongodb,
    Format::Upsert,
];

fn spoiled() -> impl Strategy<Value = Spoiled> {
    let format = prop::option::weighted(0.3, proptest::sample::select(&FORMATS[..]));
    let second_key = prop::option::weighted(0.2, proptest::sample::select(&["store", "ordered", "geo"][..]));
    let reading = (format, any::<bool>(), second_key, prop::bool::weighted(0.2), 16usize..5_000);
    (any::<bool>().prop_flat_map(|lookups| settings(any_dialect(), lookups)), history(10), accidents(60), reading).prop_map(
        |(setting, history, accidents, (format, unchanged, second_key, shards, chunk))| Spoiled {
            setting,
            history,
            accidents,
            format,
            unchanged,
            second_key,
            shards,
            chunk,
        },
    )
}

impl Spoiled {
    /// The job that reads it, and the files.
    fn rendered(&self) -> (Job, Vec<(String, u32, Vec<u8>)>) {
        let mut job = dialect_job::job(&self.setting);
        for source in &mut job.sources {
            // Rows that name no table are of no source that wants one, which the job file says.
            source.format =
                self.format.filter(|format| *format != Format::Upsert || !self.setting.shared).unwrap_or(source.format);
            if self.unchanged {
                source.absent = Absent::Unchanged;
            }
            source.key.extend(self.second_key.map(Into::into));
            if self.shards && !self.setting.lookups {
                source.key_space = KeySpace::Role;
            }
        }
        let told = tell(&self.history, &self.setting.abilities());
        (job, damaged(&dialect_render::render(&told, &self.setting).files, &self.accidents))
    }
}

/// What a good number of cases holds, so that agreeing on them means something: every reason there is but those of Avro, and every
/// kind of record that is skipped.
#[test]
fn spoiled_dialects_reach_every_kind_of_trouble() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut reasons, mut skipped) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..300 {
        let case = spoiled().new_tree(&mut runner).expect("a case").current();
        let (job, files) = case.rendered();
        let twin = Recomputation::from_files(&job, &files);
        let counts = twin.counts_at(u64::MAX);
        for letter in counts.dead_letters {
            *reasons.entry(letter.reason.code()).or_insert(0u64) += 1;
        }
        for (kind, count) in twin.skipped_at(u64::MAX) {
            *skipped.entry(kind).or_insert(0u64) += count;
        }
    }
    let wanted = [
        "amount_precision",
        "amount_range",
        "bad_amount",
        "bad_id",
        "bad_op",
        "bad_quantity",
        "bad_time",
        "float",
        "missing_field",
        "missing_key",
        "missing_row",
        "not_an_object",
        "not_json",
        "time_range",
    ];
    for reason in wanted {
        assert!(reasons.contains_key(reason), "no dead letter is {reason}");
    }
    for kind in storeflow::decode::Skipped::ALL {
        assert!(skipped.contains_key(kind.code()) || kind.code() == "signal", "no record is skipped as {}", kind.code());
    }
}

proptest! {
    #![proptest_config(cases(120))]

    /// The same of what dialects tell, after accidents to some of its values and names, and taken for another dialect.
    #[test]
    fn differential_dialects_are_read_the_same(case in spoiled()) {
        let (job, files) = case.rendered();
        assert_same(&job, &files, case.chunk, &Tuning { workers: 2, tick: Some(60_000), ..Tuning::default() });
    }
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
