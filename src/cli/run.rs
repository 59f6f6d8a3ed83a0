//! `storeflow run`: a job, from Kafka or a dataset, into a store and a view.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::Failure;
use super::cluster_args::ClusterArgs;
use super::kafka_args::KafkaArgs;
use super::observe_args::ObserveArgs;
use super::progress::Progress;
use super::redis_args::RedisArgs;
use super::serve_args::ServeArgs;
use super::store_args::StoreArgs;
use super::tuning::TuningArgs;
use crate::config::{duration, job_file};
use crate::observe::health::Health;
use crate::observe::metrics::Registry;
use crate::observe::{Counter, wall_ms};
use crate::runtime::launch;
use crate::runtime::replay::Kept;
use crate::runtime::run::{self, Checkpoints, Input, Setup};
use crate::serve::server::Server;
use crate::serve::view::memory::ServedView;

/// Run a job: from Kafka until it is stopped (or to the end with --until-end), or over a dataset
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The job file; `storeflow check` explains it
    #[arg(long, env = "STOREFLOW_JOB", value_name = "FILE")]
    job: PathBuf,

    /// A dataset to replay instead of Kafka: `DIR/TOPIC/PARTITION.ndjson`, also `.zst` or `.gz`
    #[arg(long, env = "STOREFLOW_REPLAY", value_name = "DIR")]
    replay: Option<PathBuf>,

    #[command(flatten)]
    kafka: KafkaArgs,

    #[command(flatten)]
    store: StoreArgs,

    /// From one checkpoint to the next, at least; what is shown follows them. `off`: none, so a restart begins anew
    #[arg(long, env = "STOREFLOW_CHECKPOINT_INTERVAL", value_name = "DURATION|off", default_value = "10s", value_parser = parse_interval)]
    checkpoint_interval: Interval,

    /// Checkpoints that stay loadable; with one, a damaged object costs everything
    #[arg(long, env = "STOREFLOW_KEEP", value_name = "N", default_value = "3", value_parser = parse_keep)]
    keep: usize,

    /// Go on with this generation, or begin it if there is none of that number: a backfill beside what is shown, which takes over
    /// once it has caught up [default: the one that is shown]
    #[arg(long, env = "STOREFLOW_GENERATION", value_name = "N")]
    generation: Option<u64>,

    /// While the job goes on, the store's current.json moves this often at most, so that the history can be read as of it
    #[arg(long, env = "STOREFLOW_ADVANCE_EVERY", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    advance_every: Duration,

    /// Go on from the checkpoint with a job file that reads records in another way (the fields of a row, how they are written, the
    /// format): what was read before stays as it was read then, until its next change; what could not be read can be replayed. See
    /// docs/dead-letters.md
    #[arg(long, env = "STOREFLOW_ACCEPT_JOB_CHANGE")]
    accept_job_change: bool,

    /// Stop on purpose, with exit code 2 and all that was read kept, once more than this share of a topic's records (at least 1000,
    /// since the start or within the last window of log time) are dead letters, such as 0.05 [default: never]
    #[arg(long, env = "STOREFLOW_DEAD_LETTER_MAX_SHARE", value_name = "SHARE", value_parser = parse_share)]
    dead_letter_max_share: Option<f64>,

    /// What a run that is stopped still waits for a store or a Redis that does not answer
    #[arg(long, env = "STOREFLOW_STOP_PATIENCE", value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    stop_patience: Duration,

    #[command(flatten)]
    redis: RedisArgs,

    #[command(flatten)]
    cluster: ClusterArgs,

    #[command(flatten)]
    observe: ObserveArgs,

    #[command(flatten)]
    tuning: TuningArgs,

    /// Serve the query API here from this process's memory, for jobs of one process; port 0 takes a free one, which the log
    /// names. See docs/api.md
    #[arg(long, env = "STOREFLOW_SERVE", value_name = "HOST:PORT", help_heading = "Query API")]
    serve: Option<String>,

    #[command(flatten)]
    serve_args: ServeArgs,
}

impl RunArgs {
    /// How it is watched.
    pub fn observe(&self) -> &ObserveArgs {
        &self.observe
    }
}

/// From one checkpoint to the next; `None`: there are none.
#[derive(Clone, Copy, Debug)]
struct Interval(Option<Duration>);

fn parse_interval(text: &str) -> Result<Interval, String> {
    if text == "off" { Ok(Interval(None)) } else { parse_duration(text).map(|every| Interval(Some(every))) }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("is a share from 0 to less than 1, such as 0.05".to_owned()),
    }
}

fn parse_keep(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("is a number from 1".to_owned()),
        Ok(keep) => Ok(keep),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::read(text).map(Duration::from_millis).map_err(str::to_owned)
}

/// Runs the command.
///
/// # Errors
/// If the job, its input, the store or the view has something to mend.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    launch::end_with_launcher()?;
    let job = job_file::load(&args.job)?;
    let tuning = args.tuning.resolve();
    let input = match &args.replay {
        Some(dataset) => Input::Dataset(dataset.clone()),
        None => match args.kafka.settings(&job, tuning.in_flight_bytes)? {
            Some(settings) => Input::Kafka(settings),
            None => {
                let what = "nothing to read: give --brokers (or brokers in the job file's [kafka]), or --replay DIR";
                return Err(anyhow::anyhow!(what).into());
            }
        },
    };
    let (stop, redis) = (stop_on_signals()?, args.redis.resolve()?);
    tracing::info!(job = %args.job.display(), job_version = job.version(), ?input, store = %args.store, ?redis, ?tuning, "starting");
    // All processes must run the same job, not only one of the same name.
    let same = format!("{} {:016x}", job.name, xxhash_rust::xxh3::xxh3_64(format!("{job:?}").as_bytes()));
    let cluster = args.cluster.form(&same, tuning.workers)?;
    let (registry, workers) = (Registry::default(), cluster.worker_range(tuning.workers));
    let health = Arc::new(Health::new(workers.start, workers.len(), wall_ms()));
    registry.register(Arc::clone(&health) as _);
    let _watching = args.observe.start(&registry, &health, &job.name, cluster.process())?;
    let served = args.serve.as_ref().map(|_| Arc::new(ServedView::new(registry.clone())));
    // Several processes are refused by the run, in all of them; until then they need not quarrel over the port.
    let api = match (&args.serve, &served) {
        (Some(address), Some(served)) if cluster.processes() == 1 => {
            Some(args.serve_args.open(address, 1)?.start(Arc::clone(served) as _, &registry, None)?)
        }
        _ => None,
    };
    let store = args.store.create()?;
    let setup = Setup {
        job,
        tuning,
        input,
        store,
        redis,
        cluster,
        checkpoints: args.checkpoint_interval.0.map(|every| Checkpoints { every, keep: args.keep }),
        generation: args.generation,
        advance_every: args.advance_every,
        accept_job_change: args.accept_job_change,
        dead_letter_max_share: args.dead_letter_max_share,
        stop_patience: args.stop_patience,
        served,
        stop,
        registry,
        health,
    };
    let mut progress = Progress::start();
    let kept = run::run(setup, |watch| progress.show(&watch))?;
    progress.end();
    log_end(&kept);
    api.into_iter().for_each(Server::stop);
    Ok(())
}

/// A flag that SIGTERM and SIGINT set; the second of them ends the process at once.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let flag = Arc::clone(&stop);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if flag.swap(true, Ordering::Relaxed) {
                tracing::warn!(signal, "told twice to stop: ending without finishing");
                std::process::exit(2);
            }
            tracing::info!(signal, "stopping: what was read is finished and published");
        }
    })?;
    Ok(stop)
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
        corrections = finished.sum(|stats| stats.moved_late().0),
        late = finished.sum(|stats| stats.moved_late().1),
        stale = finished.sum(|stats| stats.stale.get()),
        duplicate_clicks = finished.sum(|stats| stats.duplicate_clicks.get()),
        waiting_rows = finished.sum(|stats| stats.waiting_rows.get()),
        skipped = finished.sum(|stats| stats.skipped.iter().map(Counter::get).sum()),
        clock_jumps = finished.sum(|stats| stats.clock_jumps.get()),
        rows_kept = finished.sum(|stats| stats.entries.get()),
        row_bytes = finished.sum(|stats| stats.entry_bytes.get()),
        history_rows = totals.rows,
        history_files = totals.files,
        dir = %dir.display(),
        "finished"
    );
}
