//! `storeflow verify`: recompute everything and compare.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use storeflow_checkpoints::log::Log;
use storeflow_dataflows::table::Table;

use super::Failure;
use super::redis_args::RedisArgs;
use super::store_args::StoreArgs;
use crate::config::{Job, job_file};
use crate::publish::layout::Current;
use crate::publish::redis::{RedisSettings, RedisView};
use crate::publish::replays::numbers;
use crate::publish::time::instant;
use crate::store::Store;
use crate::verify::{Difference, Recomputation, compare, compare_late, published};

/// Recompute every cell of a finished run from its records, independently and slowly, and compare
///
/// Prints the first 20 differences and exits with 1 if there are any, with 0 if every cell, revision and late adjustment is
/// exact.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The job file of the run
    #[arg(long, env = "STOREFLOW_JOB", value_name = "FILE")]
    job: PathBuf,

    /// The dataset that was replayed
    #[arg(long, env = "STOREFLOW_REPLAY", value_name = "DIR")]
    replay: PathBuf,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    redis: RedisArgs,

    /// Also compare every row of history, of every epoch and of windows that have expired
    #[arg(long)]
    history: bool,
}

/// Differences printed at most.
const PRINTED: usize = 20;

/// Runs the command.
///
/// # Errors
/// [`Failure::Check`] if anything differs; otherwise if the job, the dataset or the data directory has something to mend.
pub fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let job = job_file::load(&args.job)?;
    if let Some(settings) = args.redis.resolve()? {
        verify_redis(&job, &args.replay, &settings)?;
        if args.history && !args.store.is_given() {
            return Err(anyhow::anyhow!("Redis holds no history; give --store or --data-dir too, to compare it").into());
        }
        if !args.store.is_given() {
            return Ok(());
        }
    }
    verify(&job, &args.replay, &args.store.open()?, args.history)
}

/// Compares every cell of the Redis view with a recomputation, and reports.
fn verify_redis(job: &Job, dataset: &Path, settings: &RedisSettings) -> Result<(), Failure> {
    let began = Instant::now();
    let mut view = RedisView::connect(settings, &job.name)?.read()?;
    let (about, as_of) = (view.current.about.clone(), view.current.as_of);
    if about.horizons != job.horizons || about.scale != job.scale {
        let other = "the Redis view of this job has other settings than the job file; give the job file it was run with";
        return Err(anyhow::anyhow!(other).into());
    }
    if view.ahead > 0 {
        let running = format!("{} buckets are ahead of the view's as-of: the job is running; stop it first", view.ahead);
        return Err(anyhow::anyhow!(running).into());
    }
    let twin = Recomputation::read(job, dataset)?;
    let mut out = std::io::stdout().lock();
    say_ends(as_of, &twin, &mut out)?;
    let cells = twin.cells_at(as_of);
    let mut report = Report { rows: 0, differences: Vec::new() };
    for table in Table::ALL {
        let found: BTreeMap<_, _> = view.take(table).into_iter().map(published::cell).collect();
        report.add(found.len(), compare(&published::visible_cells(&cells, table), &found));
    }
    for difference in report.differences.iter().take(PRINTED) {
        writeln!(out, "{difference}")?;
    }
    let (rows, wrong, records) = (report.rows, report.differences.len(), twin.counts_at(as_of).records);
    if wrong > 0 {
        writeln!(out, "NOT exact: {wrong} differences in {rows} rows of the Redis view")?;
        return Err(Failure::Check);
    }
    let (as_of, took) = (instant(as_of as i64), began.elapsed().as_millis());
    let seconds = format!("{}.{:03} s", took / 1_000, took % 1_000);
    writeln!(
        out,
        "exact: {rows} rows of the Redis view equal an independent recomputation of {records} records as of {as_of} ({seconds})"
    )?;
    Ok(())
}

/// Says if the as-of is not the one at which a replay of the dataset ends: the run was stopped before its end, or went on with
/// wall time after its last record, or the dataset is another than it was. What was read must be exact all the same.
fn say_ends(as_of: u64, twin: &Recomputation, out: &mut impl Write) -> std::io::Result<()> {
    let (ended, ends) = (instant(as_of as i64), instant(twin.end_as_of() as i64));
    match as_of.cmp(&twin.end_as_of()) {
        Ordering::Less => writeln!(out, "the run is as of {ended}; the dataset goes on to {ends}, which is not compared"),
        Ordering::Equal => Ok(()),
        Ordering::Greater => {
            writeln!(out, "the run is as of {ended}; the dataset ends at {ends}, nothing may have come after it")
        }
    }
}

/// Compares and reports; see [`run`].
pub(super) fn verify(job: &Job, dataset: &Path, store: &Store, history: bool) -> Result<(), Failure> {
    let began = Instant::now();
    let current = Current::open(store)?;
    current.require_finished()?;
    let about = &current.about;
    if about.job != job.name || about.horizons != job.horizons || about.scale != job.scale {
        return Err(anyhow::anyhow!(
            "\"{}\" holds a run of job \"{}\" with other settings than the job file's \"{}\"; give the job file it was run with",
            store.address(),
            about.job,
            job.name
        )
        .into());
    }
    check_one_setting(&current)?;
    let as_of = current.as_of;
    let twin = Recomputation::read(job, dataset)?;
    let mut out = std::io::stdout().lock();
    let mut report = Report { rows: 0, differences: Vec::new() };
    say_ends(as_of, &twin, &mut out)?;
    let cells = twin.cells_at(as_of);
    for table in Table::ALL {
        let found: BTreeMap<_, _> = current.view_rows(table)?.into_iter().map(published::cell).collect();
        report.add(found.len(), compare(&published::visible_cells(&cells, table), &found));
    }
    drop(cells);
    if history {
        let expected = twin.history_through(as_of);
        for table in Table::ALL {
            let found: BTreeMap<_, _> = current.history_changes(table)?.into_iter().map(published::history).collect();
            report.add(found.len(), compare(&published::visible_history(&expected, table), &found));
        }
    }
    let late: Vec<_> = current.late_rows()?.into_iter().map(published::late).collect();
    report.add(late.len(), compare_late(&twin.late_at(as_of), &late));
    let counts = twin.counts_at(as_of);
    let (dead, found) = (counts.dead_letters.len() as u64, current.dead_letter_count()?);
    let took = began.elapsed().as_millis();
    for difference in report.differences.iter().take(PRINTED) {
        writeln!(out, "{difference}")?;
    }
    if dead != found {
        writeln!(out, "dead letters: expected {dead}, found {found}")?;
    }
    let wrong = report.differences.len();
    if wrong > 0 || dead != found {
        writeln!(out, "NOT exact: {wrong} differences in {} rows", report.rows)?;
        return Err(Failure::Check);
    }
    writeln!(
        out,
        "exact: {} rows equal an independent recomputation of {} records as of {} ({} dead letters, {}.{:03} s)",
        report.rows,
        counts.records,
        instant(as_of as i64),
        dead,
        took / 1_000,
        took % 1_000
    )?;
    Ok(())
}

/// Refuses a run whose numbers no recomputation from the records by one job gives: records that were replayed have other stamps than
/// in their topics, and records before a change of the job were read in another way.
fn check_one_setting(current: &Current) -> anyhow::Result<()> {
    let (store, about) = (&current.store, &current.about);
    let (job, generation, requests) = (&about.job, about.generation, numbers(store, &current.keys)?.len());
    let log = Log::open(Arc::new(store.clone()), &current.keys.checkpoints_prefix(), job, generation);
    let newest = log.newest()?.map(|read| read.manifest.setting);
    let accepted = newest.as_ref().and_then(|setting| setting.get("accepted")?.as_array()).map_or(0, Vec::len);
    let what = match (requests, accepted) {
        (0, 0) => return Ok(()),
        (0, _) => format!("has gone on with {accepted} changes of how its job reads records (--accept-job-change)"),
        _ => format!("has replayed dead letters ({requests} requests), whose stamps are those of the replay"),
    };
    anyhow::bail!(
        "generation {generation} of job \"{job}\" {what}: a recomputation from the records, which knows one job and the stamps of the \
         topics, would find differences that are none. To prove the numbers, run a new generation with the job file as it is now \
         (--generation {}) and verify that",
        generation + 1
    )
}

struct Report {
    rows: usize,
    differences: Vec<Difference>,
}

impl Report {
    fn add(&mut self, rows: usize, mut differences: Vec<Difference>) {
        self.rows += rows;
        self.differences.append(&mut differences);
    }
}
