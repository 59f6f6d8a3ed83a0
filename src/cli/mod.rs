//! What was typed: one file per command, each with its `Args` and a `run`.
//!
//! Exit codes are decided here alone: 0 done, 1 a check found differences, 2 something the user can mend, 3 the same command
//! may do better later: something outside did not answer, another process of the cluster went, or storeflow broke a promise.

pub mod admission_args;
pub mod api_keys;
pub mod bench;
pub mod bench_api;
pub mod bench_formats;
pub mod bench_kafka;
pub mod bench_redis;
pub mod check;
pub mod checkpoints;
pub mod cluster_args;
pub mod ddl;
pub mod dead_letters;
pub mod decode;
pub mod demo;
pub mod explain;
pub mod export;
pub mod generate;
pub mod kafka_args;
pub mod launch;
pub mod observe_args;
pub mod produce;
pub mod rebuild_view;
pub mod run;
pub mod serve;
pub mod serve_args;
pub mod verify;

mod progress;
mod redis_args;
mod store_args;
mod tuning;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use storeflow_checkpoints::damage::CheckpointError;
use storeflow_checkpoints::error::LogError;

use crate::observe::LogFormat;
use crate::publish::error::PublishError;
use crate::publish::redis::RedisError;
use crate::runtime::cluster::ClusterError;
use crate::runtime::launch::{AGAIN, MEND};
use crate::runtime::workers::{RunError, store_may_answer};
use crate::source::kafka::KafkaError;
use crate::store::StoreError;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The user, or the machine, can mend it: exit code 2; or it may pass: exit code 3. The whole chain of causes is printed.
    Trouble(anyhow::Error),
    /// A check ran and found differences, already printed: exit code 1.
    Check,
    /// A process of `launch` failed and was quoted: its exit code.
    Child(u8),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Trouble(error.into())
    }
}

/// Exact sums and counts of every store, kept current from CDC and click topics.
#[derive(Debug, Parser)]
#[command(name = "storeflow", version, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// How logs are written to standard error; STOREFLOW_LOG chooses which
    #[arg(long, env = "STOREFLOW_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t, global = true)]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    ApiKeys(api_keys::ApiKeysArgs),
    Check(check::CheckArgs),
    Checkpoints(checkpoints::CheckpointsArgs),
    DeadLetters(dead_letters::DeadLettersArgs),
    Run(Box<run::RunArgs>),
    Serve(Box<serve::ServeCommandArgs>),
    Launch(launch::LaunchArgs),
    Export(export::ExportArgs),
    Explain(explain::ExplainArgs),
    Ddl(ddl::DdlArgs),
    Decode(decode::DecodeArgs),
    Generate(generate::Args),
    Produce(produce::ProduceArgs),
    Verify(verify::VerifyArgs),
    RebuildView(rebuild_view::RebuildViewArgs),
    Bench(bench::BenchArgs),
    #[command(hide = true)]
    BenchStage(bench::StageArgs),
    BenchApi(bench_api::BenchApiArgs),
    BenchFormats(bench_formats::BenchFormatsArgs),
    BenchKafka(bench_kafka::BenchKafkaArgs),
    BenchRedis(bench_redis::BenchRedisArgs),
}

/// Parses the command line, runs the command, prints what went wrong, decides the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let logging = match &cli.command {
        Command::Run(args) => args.observe().start_logging(cli.log_format).map_err(Failure::from),
        Command::Serve(args) => args.observe().start_logging(cli.log_format).map_err(Failure::from),
        _ => {
            crate::observe::start_logging(cli.log_format, None);
            Ok(())
        }
    };
    match logging.and_then(|()| run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Check) => ExitCode::from(1),
        Err(Failure::Child(code)) => ExitCode::from(code),
        Err(Failure::Trouble(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if may_pass(&error) { AGAIN } else { MEND })
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::ApiKeys(args) => api_keys::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::BenchApi(args) => bench_api::run(&args),
        Command::BenchStage(args) => bench::run_stage(&args),
        Command::Check(args) => check::run(&args),
        Command::Checkpoints(args) => checkpoints::run(&args),
        Command::DeadLetters(args) => dead_letters::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Launch(args) => launch::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Ddl(args) => ddl::run(&args),
        Command::Decode(args) => decode::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Produce(args) => produce::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::RebuildView(args) => rebuild_view::run(&args),
        Command::BenchFormats(args) => bench_formats::run(&args),
        Command::BenchKafka(args) => bench_kafka::run(&args),
        Command::BenchRedis(args) => bench_redis::run(&args),
    }
}

/// Whether the same command may do better later, with nothing mended.
fn may_pass(error: &anyhow::Error) -> bool {
    fn is<E: std::error::Error + Send + Sync + 'static>(error: &anyhow::Error, may_pass: fn(&E) -> bool) -> bool {
        error.downcast_ref().is_some_and(may_pass)
    }
    is(error, RunError::may_pass)
        || is(error, PublishError::may_pass)
        || is(error, StoreError::may_pass)
        || is(error, RedisError::may_pass)
        || is(error, KafkaError::may_pass)
        || is(error, ClusterError::may_pass)
        || is(
            error,
            |error| matches!(error, LogError::Objects(error) | LogError::Unconfirmed { source: error, .. } if store_may_answer(error)),
        )
        || is(error, |error| matches!(error, CheckpointError::Objects(error) if store_may_answer(error)))
}
