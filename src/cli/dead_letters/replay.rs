//! `storeflow dead-letters replay`: has dead letters read again, once, by the job as it is then.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{anyhow, bail};
use clap::Args;

use super::print::parse_address;
use super::{Filters, Letters};
use crate::cli::Failure;
use crate::cli::checkpoints::{Which, table};
use crate::publish::dead_letters::read::Letter;
use crate::publish::layout::Keys;
use crate::publish::replays::{Made, Request, make, numbers, requested};
use crate::source::names::REPLAY;

/// Have dead letters read again by the job as it is now, each once
///
/// Mend what made them dead letters first: the job file (start the job again with it; if it reads fields in another way, with
/// --accept-job-change), or nothing, if a newer storeflow can read them. The letters go into the store as a request, which the job
/// reads within seconds if it runs, or when it is started next; a crash changes nothing of that. They count in the windows of their own
/// times, as corrections, or as late adjustments where those have expired. What cannot be read again becomes a dead letter again.
///
/// A letter that was requested before is left out, so doing this twice does nothing twice.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// Which, as `list` prints them [default: all that the filters let through]
    #[arg(value_name = "TOPIC/PARTITION/OFFSET", value_parser = parse_address)]
    records: Vec<(String, u32, u64)>,

    #[command(flatten)]
    filters: Filters,

    /// Say what would be read again, and request nothing
    #[arg(long)]
    dry_run: bool,

    /// Also those that were requested before. Clicks that could be read then are counted twice
    #[arg(long)]
    again: bool,

    #[command(flatten)]
    which: Which,
}

/// How often somebody else may be faster.
const ATTEMPTS: usize = 100;

pub(super) fn run(args: &ReplayArgs, out: &mut impl Write) -> Result<(), Failure> {
    let mut made: Vec<Request> = Vec::new();
    for _ in 0..ATTEMPTS {
        let letters = Letters::open(&args.which)?;
        let (job, generation) = (&letters.chosen.job, letters.chosen.generation);
        goes_on(&letters)?;
        let keys = Keys::new(job, generation, 1);
        // Before the letters are read, so that whoever makes a request meanwhile is noticed.
        let known = letters.newest.iter().flat_map(|newest| &newest.partitions).filter(|at| at.topic == REPLAY);
        let listed = numbers(&letters.chosen.store, &keys)?;
        let last = known.map(|at| at.partition).chain(listed).max().unwrap_or(0);
        let (chosen, left_out) = choose(args, &letters, &keys)?;
        if made.is_empty() || args.dry_run {
            say(&chosen, left_out, args, out)?;
        }
        if args.dry_run || chosen.is_empty() && made.is_empty() {
            return Ok(());
        }
        match make(&letters.chosen.store, &keys, (job, generation), chosen, last)? {
            Made::All(requests) => {
                made.extend(requests);
                for Request { number, letters: count } in &made {
                    let key = keys.replay(*number);
                    writeln!(out, "request {number}: {count} dead letters, in {}", letters.chosen.store.place(&key).display())?;
                }
                writeln!(out, "the job reads them within seconds if it runs (not: a dataset's), or when it is started next")?;
                return Ok(());
            }
            // The next look leaves out what these have requested; with --again it could not tell.
            Made::Overtaken(requests) => made.extend(requests),
        }
        if args.again && !made.is_empty() {
            return Err(anyhow!(
                "somebody else has requested a replay meanwhile: the first {} requests of these letters are made, the others are not. \
                 `storeflow dead-letters replay --dry-run` without --again says which were never requested",
                made.len()
            )
            .into());
        }
    }
    Err(anyhow!("others have requested replays of this job all the time; try again").into())
}

/// Whether any job goes on with this generation, and could tell which letters it has read.
fn goes_on(letters: &Letters) -> anyhow::Result<()> {
    let (job, generation) = (&letters.chosen.job, letters.chosen.generation);
    if letters.newest.is_none() {
        bail!(
            "generation {generation} of job \"{job}\" has no checkpoint, so no job goes on with it and nobody could tell what was read: \
             start the job anew with the mended job file"
        );
    }
    if let Some(current) = &letters.chosen.current
        && current.about.job == *job
        && current.about.generation > generation
    {
        let shown = current.about.generation;
        bail!(
            "generation {generation} of job \"{job}\" is older than generation {shown}, which is shown: no job goes on with it"
        );
    }
    Ok(())
}

/// The letters to be read again, and how many are left out as they were requested before.
fn choose(args: &ReplayArgs, letters: &Letters, keys: &Keys) -> anyhow::Result<(Vec<Letter>, u64)> {
    let mut before = requested(&letters.chosen.store, keys)?;
    let (mut chosen, mut left_out) = (Vec::new(), 0);
    letters.visit(&args.filters.filter(args.records.clone()), &mut |letter| {
        match before.get_mut(&letter.place) {
            Some(times) if *times > 0 && !args.again => {
                *times -= 1;
                left_out += 1;
            }
            _ => chosen.push(letter),
        }
        Ok(true)
    })?;
    Ok((chosen, left_out))
}

fn say(chosen: &[Letter], left_out: u64, args: &ReplayArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let mut of: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for letter in chosen {
        *of.entry((&letter.place.topic, &letter.reason)).or_default() += 1;
    }
    let would = if args.dry_run { "would be read again" } else { "to be read again" };
    writeln!(out, "{} dead letters {would}; {left_out} left out, which were requested before", chosen.len())?;
    if !of.is_empty() {
        let row =
            |((topic, reason), count): (&(&str, &str), &u64)| vec![count.to_string(), (*topic).to_owned(), (*reason).to_owned()];
        let rows: Vec<Vec<String>> = of.iter().map(row).collect();
        let mut text = Vec::new();
        table(&mut text, &["dead letters", "topic", "reason"], &rows);
        out.write_all(&text)?;
    }
    Ok(())
}
