//! `storeflow dead-letters stats`: how many there are, of what.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use super::{Filters, Format, Letters};
use crate::cli::Failure;
use crate::cli::checkpoints::{Which, table};
use crate::publish::layout::Keys;
use crate::publish::replays::requests;
use crate::publish::time::{date, day};
use crate::source::names::REPLAY;

/// Count dead letters by reason, topic and day (of their stamps, UTC)
///
/// Of a dataset it is known how many records each topic had up to the newest checkpoint, and so the share of them. Of Kafka's topics
/// the metrics know it: storeflow_topic_dead_letters_total over storeflow_topic_records_total.
#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    filters: Filters,

    /// Tables for people, or one JSON object
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,

    #[command(flatten)]
    which: Which,
}

#[derive(Default)]
struct Counts {
    all: u64,
    pending: u64,
    reasons: BTreeMap<String, u64>,
    topics: BTreeMap<String, u64>,
    days: BTreeMap<String, u64>,
}

pub(super) fn run(args: &StatsArgs, out: &mut impl Write) -> Result<(), Failure> {
    let letters = Letters::open(&args.which)?;
    let mut counts = Counts::default();
    letters.visit(&args.filters.filter(Vec::new()), &mut |letter| {
        counts.all += 1;
        counts.pending += u64::from(!letter.shown);
        *counts.reasons.entry(letter.reason).or_default() += 1;
        *counts.days.entry(date(day(i64::try_from(letter.place.stamp).unwrap_or(i64::MAX)))).or_default() += 1;
        *counts.topics.entry(letter.place.topic).or_default() += 1;
        Ok(true)
    })?;
    let (records, replays) = (records(&letters), replays(&letters)?);
    let (job, generation) = (&letters.chosen.job, letters.chosen.generation);
    if args.format == Format::Json {
        let Counts { all, pending, reasons, topics, days } = counts;
        let object = json!({
            "job": job, "generation": generation, "dead_letters": all, "in_no_file_yet": pending,
            "by_reason": reasons, "by_topic": topics, "by_day": days, "records_by_topic": records,
            "replays": { "requests": replays.requests, "letters": replays.letters, "read": replays.read },
        });
        writeln!(out, "{object}")?;
        return Ok(());
    }
    writeln!(out, "{} dead letters of generation {generation} of job {job}", counts.all)?;
    if let Some(pending) = letters.say_pending(counts.pending) {
        writeln!(out, "{pending}")?;
    }
    let share = |count: u64, of: u64| if of == 0 { String::new() } else { format!("{:.1} %", count as f64 * 100.0 / of as f64) };
    let mut text = Vec::new();
    for (name, by) in [("reason", &counts.reasons), ("day", &counts.days)] {
        let rows: Vec<Vec<String>> =
            by.iter().map(|(of, count)| vec![count.to_string(), share(*count, counts.all), of.clone()]).collect();
        text.push(b'\n');
        table(&mut text, &["dead letters", "of all", name], &rows);
    }
    let of_topic = |(topic, count): (&String, &u64)| {
        let known = records.as_ref().and_then(|records| records.get(topic)).copied();
        let unknown = || "unknown".to_owned();
        let records = known.map_or_else(unknown, |known| known.to_string());
        let of_records = known.map_or_else(unknown, |known| share(*count, known));
        vec![count.to_string(), share(*count, counts.all), records, of_records, topic.clone()]
    };
    text.push(b'\n');
    let rows: Vec<Vec<String>> = counts.topics.iter().map(of_topic).collect();
    table(&mut text, &["dead letters", "of all", "records", "of records", "topic"], &rows);
    out.write_all(&text)?;
    if replays.requests > 0 {
        let Replays { requests, letters, read } = replays;
        writeln!(out, "\n{requests} requests to replay {letters} of them, {read} read by the newest checkpoint")?;
    }
    Ok(())
}

/// What was requested to be read again, and how much of that was.
#[derive(Default)]
struct Replays {
    requests: usize,
    letters: u64,
    read: u64,
}

fn replays(of: &Letters) -> anyhow::Result<Replays> {
    let keys = Keys::new(&of.chosen.job, of.chosen.generation, 1);
    let all = requests(&of.chosen.store, &keys)?;
    let letters = all.iter().map(|request| request.letters).sum();
    let read = of.newest.as_ref().map_or(0, |newest| all.iter().map(|request| request.read_by(newest)).sum());
    Ok(Replays { requests: all.len(), letters, read })
}

/// Records of each topic up to the newest checkpoint, of a dataset: there a position is the number of lines before it.
fn records(letters: &Letters) -> Option<BTreeMap<String, u64>> {
    let newest = letters.newest.as_ref().filter(|newest| newest.setting.get("input") == Some(&Value::from("dataset")))?;
    let mut records: BTreeMap<String, u64> = BTreeMap::new();
    for at in newest.partitions.iter().filter(|at| at.topic != REPLAY) {
        *records.entry(at.topic.clone()).or_default() += at.position;
    }
    Some(records)
}
