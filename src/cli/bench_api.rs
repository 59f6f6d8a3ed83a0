//! `storeflow bench-api`: the query API under load, and what a running job loses beside it.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::Failure;
use super::bench::Folder;
use super::redis_args::RedisArgs;
use crate::bench::api::{Setting, measure, renamed};
use crate::config::job_file;
use crate::publish::redis::RedisView;

/// Measure the query API: requests about one store per second, their latency at half of that, and what a running job loses
///
/// Serves the dataset's view from memory and, with --redis, from Redis (keys of a job "storeflow-bench-api", removed at the end). The
/// generator runs in this process, on the same machine.
#[derive(Debug, Args)]
pub struct BenchApiArgs {
    /// The dataset: `DIR/TOPIC/PARTITION.ndjson`, also `.zst` or `.gz`
    #[arg(long, env = "STOREFLOW_REPLAY", value_name = "DIR")]
    replay: PathBuf,

    /// The job file
    #[arg(long, env = "STOREFLOW_JOB", value_name = "FILE")]
    job: PathBuf,

    #[command(flatten)]
    redis: RedisArgs,

    /// Connections of the generator
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,

    /// How long each load lasts, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=3_600))]
    seconds: u16,

    /// Measurements of each kind
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,

    /// Requests per second while the job runs
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    beside: u32,

    /// Write all numbers as JSON to FILE too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Existing folder for temporary data directories [default: the system's]
    #[arg(long, value_name = "TMP")]
    data_dir: Option<PathBuf>,
}

const JOB: &str = "storeflow-bench-api";

/// Runs the command.
///
/// # Errors
/// If the servers, the job or Redis cannot be used.
pub fn run(args: &BenchApiArgs) -> Result<(), Failure> {
    let job = job_file::load(&args.job)?;
    let settings = args.redis.resolve()?;
    let folder = Folder::create(args.data_dir.as_deref())?;
    let setting = Setting {
        job: renamed(&job, JOB, folder.path()).context("could not write the job file of the bench")?,
        dataset: args.replay.to_string_lossy().into_owned(),
        folder: folder.path().to_string_lossy().into_owned(),
        redis: args.redis.variables(),
        job_name: JOB.to_owned(),
        connections: usize::from(args.connections),
        span: Duration::from_secs(args.seconds.into()),
        runs: usize::from(args.runs),
        beside: f64::from(args.beside),
    };
    let measured = measure(&setting, |what| tracing::info!("{what}"));
    if let Some(settings) = &settings {
        let mut redis = RedisView::connect(settings, JOB)?;
        if let Some(current) = redis.current()? {
            redis.remove(current.about.generation)?;
        }
    }
    let report = measured?;
    if let Some(path) = &args.json {
        let text = serde_json::to_vec_pretty(&report).context("could not write the numbers as JSON")?;
        std::fs::write(path, text).with_context(|| format!("could not write \"{}\"", path.display()))?;
    }
    write!(std::io::stdout(), "{}", report.table()).context("could not print the table")?;
    Ok(())
}
