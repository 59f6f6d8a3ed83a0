//! `storeflow run`: replay a dataset into a store.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::progress::Progress;
use super::store_args::StoreArgs;
use super::tuning::TuningArgs;
use crate::config::job_file;
use crate::runtime::replay::{self, Kept};

/// Run a job over a dataset: history and dead letters as it goes, the view at the end
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The job file; `storeflow check` explains it
    #[arg(long, env = "STOREFLOW_JOB", value_name = "FILE")]
    job: PathBuf,

    /// The dataset to replay: `DIR/TOPIC/PARTITION.ndjson`, also `.zst` or `.gz`
    #[arg(long, env = "STOREFLOW_REPLAY", value_name = "DIR")]
    replay: PathBuf,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    tuning: TuningArgs,
}

/// Runs the command.
///
/// # Errors
/// If the job, the dataset or the data directory has something to mend.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let job = job_file::load(&args.job)?;
    let tuning = args.tuning.resolve();
    tracing::info!(job = %args.job.display(), replay = %args.replay.display(), store = %args.store, ?tuning, "starting");
    let store = args.store.create()?;
    let mut progress = Progress::start();
    let kept = replay::run(&job, &args.replay, &store, &tuning, |watch| progress.show(&watch))?;
    progress.end();
    log_end(&kept);
    Ok(())
}

/// One line that says what a run did.
pub(super) fn log_end(kept: &Kept) {
    let Kept { finished, totals, dir, .. } = kept;
    tracing::info!(
        as_of = %crate::publish::time::instant(finished.as_of as i64),
        records = finished.sum(|stats| stats.records.get()),
        bytes = finished.sum(|stats| stats.bytes.get()),
        took = ?finished.took,
        dead_letters = finished.sum(|stats| stats.dead_letters.get()),
        corrections = finished.sum(|stats| stats.corrections.get() + stats.row_corrections.get()),
        late = finished.sum(|stats| stats.late.get() + stats.row_late.get()),
        stale = finished.sum(|stats| stats.stale.get()),
        skipped = finished.sum(|stats| stats.tombstones.get() + stats.control_records.get() + stats.other_tables.get()),
        clock_jumps = finished.sum(|stats| stats.clock_jumps.get()),
        rows_kept = finished.sum(|stats| stats.entries.get()),
        row_bytes = finished.sum(|stats| stats.entry_bytes.get()),
        history_rows = totals.rows,
        history_files = totals.files,
        dir = %dir.display(),
        "finished"
    );
}
