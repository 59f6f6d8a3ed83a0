//! `storeflow bench-formats`: the cost of each dialect.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::Failure;
use super::bench::Folder;
use crate::bench::formats::{Setting, measure};

/// Measure decoding in every dialect, on the same changes of the same rows, against plain upsert JSON
///
/// Makes its own records, in memory. All dialects take turns in this one process.
#[derive(Debug, Args)]
pub struct BenchFormatsArgs {
    /// Changes decoded in one run of one dialect
    #[arg(long, value_name = "N", default_value_t = 400_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    changes: u64,

    /// Threads that decode
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=512))]
    workers: u16,

    /// Runs of every dialect, after one that warms up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    runs: u16,

    /// Also replay so many changes from files through the dataflow into the view; with schemas 6 KB each on disk
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    replay_changes: u64,

    /// Write all numbers as JSON to FILE too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Existing folder for temporary files [default: the system's]
    #[arg(long, value_name = "TMP")]
    data_dir: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If a record cannot be decoded, or a replay cannot run.
pub fn run(args: &BenchFormatsArgs) -> Result<(), Failure> {
    let folder = Folder::create(args.data_dir.as_deref())?;
    let setting = Setting {
        changes: args.changes,
        workers: usize::from(args.workers),
        runs: usize::from(args.runs),
        replayed: args.replay_changes,
        folder: folder.path(),
    };
    let report = measure(&setting, |dialect, round, decoded_per_s| {
        tracing::info!(dialect = dialect.title(), round, decoded_per_s, "measured");
    })?;
    if let Some(path) = &args.json {
        let text = serde_json::to_vec_pretty(&report).context("could not write the numbers as JSON")?;
        std::fs::write(path, text).with_context(|| format!("could not write \"{}\"", path.display()))?;
    }
    write!(std::io::stdout(), "{}", report.table()).context("could not print the table")?;
    Ok(())
}
