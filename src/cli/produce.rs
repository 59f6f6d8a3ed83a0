//! `storeflow produce`: a dataset into Kafka's topics.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::Failure;
use super::kafka_args::BrokerArgs;
use crate::config::job_file;
use crate::source::dataset;
use crate::source::kafka::produce::{self, Produce, Topic};

/// Load a dataset into Kafka: topics with their partitions, keys, values and timestamps
///
/// Topics that do not exist are created with as many partitions as the dataset has, and keep records forever
/// (retention.ms=-1), as old timestamps would otherwise have them deleted at once. Within a partition, records keep the
/// dataset's order and take the positions 0, 1, 2 …; a record without timestamp (no envelope, or none in it) has none in
/// Kafka either. Envelopes (`kcat -C -J`) are opened; any other line is a value.
#[derive(Debug, Args)]
pub struct ProduceArgs {
    /// The dataset: `DIR/TOPIC/PARTITION.ndjson`, also `.zst` or `.gz`
    #[arg(long, env = "STOREFLOW_REPLAY", value_name = "DIR")]
    replay: PathBuf,

    /// Load only the topics that this job reads; also says how to reach Kafka ([kafka])
    #[arg(long, env = "STOREFLOW_JOB", value_name = "FILE")]
    job: Option<PathBuf>,

    #[command(flatten)]
    brokers: BrokerArgs,

    /// Put this before every topic's name
    #[arg(long, value_name = "TEXT", default_value = "")]
    topic_prefix: String,

    /// Records per second over all partitions, or "max"
    #[arg(long, value_name = "RATE", default_value = "max", value_parser = parse_rate)]
    rate: Rate,

    /// Copies of each partition of topics that are created; must not be more than there are brokers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    replication: u16,

    /// Compression of what is sent
    #[arg(long, value_enum, default_value = "lz4")]
    compression: Compression,
}

#[derive(Clone, Copy, Debug)]
struct Rate(Option<u64>);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    match text.parse() {
        _ if text == "max" => Ok(Rate(None)),
        Ok(rate) if rate > 0 => Ok(Rate(Some(rate))),
        _ => Err("is neither \"max\" nor a number of records per second".to_owned()),
    }
}

/// Loads the dataset and says what was loaded.
///
/// # Errors
/// If the dataset or Kafka has something to mend.
pub fn run(args: &ProduceArgs) -> Result<(), Failure> {
    let job = args.job.as_deref().map(job_file::load).transpose()?;
    let files = match &job {
        Some(job) => dataset::partitions(job, &args.replay)?,
        None => dataset::all_partitions(&args.replay)?,
    };
    let brokers = args.brokers.brokers(job.as_ref());
    let brokers = brokers.context("no brokers; give --brokers, or a --job whose [kafka] names them")?;
    let plan = Produce {
        brokers,
        options: args.brokers.options(job.as_ref())?,
        topic_prefix: args.topic_prefix.clone(),
        rate: args.rate.0,
        replication: i32::from(args.replication),
        compression: args.compression.name(),
    };
    let loaded = produce::run(&plan, &files)?;
    print(&loaded.topics, loaded.took).context("could not print the summary")?;
    Ok(())
}

fn print(topics: &[Topic], took: std::time::Duration) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for topic in topics {
        let created = if topic.created { ", created" } else { "" };
        let mb = topic.bytes as f64 / 1e6;
        writeln!(
            out,
            "{:<24} {:>3} partitions {:>11} records {mb:>9.1} MB{created}",
            topic.name, topic.partitions, topic.records
        )?;
    }
    let records: u64 = topics.iter().map(|topic| topic.records).sum();
    let rate = records as f64 / took.as_secs_f64().max(0.001);
    writeln!(out, "produced {records} records in {:.1} s ({rate:.0} records/s)", took.as_secs_f64())
}
