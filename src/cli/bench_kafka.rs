//! `storeflow bench-kafka`: the Kafka path against a consumer that only counts and a replay of the same records.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use super::Failure;
use super::bench::Folder;
use super::kafka_args::BrokerArgs;
use crate::bench::kafka::{Setting, measure};
use crate::config::job_file;
use crate::runtime::workers::Tuning;
use crate::source::kafka::{KafkaSettings, Start};

/// Measure reading a dataset's records from Kafka against counting them there and replaying them from files
///
/// The job's topics must hold the dataset, loaded by `storeflow produce`; nothing is written to them. The quotient at the end
/// is our rate over that of fetching and computing one after the other, 1 / (1/bare + 1/replay).
#[derive(Debug, Args)]
pub struct BenchKafkaArgs {
    /// The dataset that was loaded: `DIR/TOPIC/PARTITION.ndjson`, also `.zst` or `.gz`
    #[arg(long, env = "STOREFLOW_REPLAY", value_name = "DIR")]
    replay: PathBuf,

    /// The job file
    #[arg(long, env = "STOREFLOW_JOB", value_name = "FILE")]
    job: PathBuf,

    #[command(flatten)]
    brokers: BrokerArgs,

    /// Worker threads of the replay and of the Kafka run
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=512))]
    workers: u16,

    /// Runs of each side, after one that warms up
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    runs: u16,

    /// Write all numbers as JSON to FILE too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Existing folder for temporary data directories [default: the system's]
    #[arg(long, value_name = "TMP")]
    data_dir: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If a side cannot run, or the topics hold other records than the dataset.
pub fn run(args: &BenchKafkaArgs) -> Result<(), Failure> {
    let job = job_file::load(&args.job)?;
    let Some(brokers) = args.brokers.brokers(Some(&job)) else {
        return Err(anyhow::anyhow!("where is Kafka? give --brokers, or brokers in the job file's [kafka]").into());
    };
    let folder = Folder::create(args.data_dir.as_deref())?;
    let tuning = Tuning { workers: usize::from(args.workers), ..Tuning::default() };
    let kafka = KafkaSettings {
        brokers,
        options: options(args, &job)?,
        start: Start::Earliest,
        until_end: true,
        in_flight_bytes: tuning.in_flight_bytes,
        discover_every: Duration::from_secs(30),
        exclude: Vec::new(),
        group: "storeflow-bench".to_owned(),
    };
    let setting = Setting { job: &job, dataset: &args.replay, kafka, tuning, folder: folder.path() };
    let report = measure(&setting, usize::from(args.runs), |side, round, run| {
        tracing::info!(side = side.name(), round, records = run.records, seconds = run.seconds, "measured");
    })?;
    if let Some(path) = &args.json {
        let text = serde_json::to_vec_pretty(&report).context("could not write the numbers as JSON")?;
        std::fs::write(path, text).with_context(|| format!("could not write \"{}\"", path.display()))?;
    }
    write!(std::io::stdout(), "{}", report.table()).context("could not print the table")?;
    Ok(())
}

/// The options for reaching Kafka. One that tunes fetching would tune the bare consumer as well, which is to be as librdkafka
/// makes it.
fn options(args: &BenchKafkaArgs, job: &crate::config::Job) -> anyhow::Result<Vec<(String, String)>> {
    let mut options = args.brokers.options(Some(job))?;
    options.retain(|(name, _)| name != "group.id");
    let tunes = |name: &str| ["fetch.", "queued.", "check.crcs"].iter().any(|prefix| name.starts_with(prefix));
    if let Some((name, _)) = options.iter().find(|(name, _)| tunes(name)) {
        bail!("kafka option \"{name}\" would change the bare consumer too; leave it out");
    }
    Ok(options)
}
