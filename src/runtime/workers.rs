//! Worker threads: starts them with what each is to read, watches them, gathers what they come back with.
//!
//! Upholds: whatever ends one worker ends all of this process, and the first error is the one told.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use storeflow_checkpoints::damage::CheckpointError;
use storeflow_checkpoints::error::LogError;
use storeflow_checkpoints::objects::ObjectError;
use storeflow_dataflows::beginning::Beginning;
use storeflow_dataflows::tick::{Ladder, Pacemaker, Schedule};
use timely::communication::allocator::AllocatorBuilder;

use super::cluster::{ClusterError, PeerLost, PeerWatch};
use super::dead_share::TooMany;
use super::durable::Durability;
use super::latency::Latencies;
use super::publisher::Publisher;
use super::worker::{Assignment, LAG_PER_TICK, Outcome, work};
use crate::config::Job;
use crate::observe::{WorkerStats, locked, wall_ms};
use crate::publish::error::PublishError;
use crate::publish::redis::RedisError;
use crate::source::dataset::DatasetError;
use crate::source::kafka::KafkaError;
use crate::source::names::PartitionNames;
use crate::source::operator::{Intake, Speed};
use crate::source::partition::SourceError;
use crate::source::registry::SchemasError;
use crate::store::StoreError;

/// Updates per tick aimed at; a tick below this costs more in progress tracking than in work.
pub const TICK_UPDATES: u64 = 50_000;

/// How often a run is looked at for progress and for its end.
const WATCH_EVERY: Duration = Duration::from_millis(10);

/// How to run.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Worker threads.
    pub workers: usize,
    /// Fixed tick in milliseconds; `None` follows volume.
    pub tick: Option<u64>,
    /// Milliseconds of log time between as-ofs at least.
    pub frontier: u64,
    /// Ticks a partition may be ahead of the frontier.
    pub align: u64,
    /// Bytes of undecoded input held at most, over all partitions.
    pub in_flight_bytes: u64,
    /// Speed of log time.
    pub speed: Speed,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning { workers: 1, tick: None, frontier: 1_000, align: 4, in_flight_bytes: 64 << 20, speed: Speed::Max }
    }
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The input.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The output.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// Redis, at the start or the end.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// State that was kept.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log of checkpoints.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Where checkpoints are written.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// What is kept or shown does not fit what is wanted.
    #[error("{0}")]
    Recovery(String),
    /// The schemas of Avro sources.
    #[error(transparent)]
    Schemas(#[from] SchemasError),
    /// The other processes, before the run.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// One of the other processes, in the run.
    #[error(transparent)]
    Peer(#[from] PeerLost),
    /// A source's positions have jumped back.
    #[error("{0}")]
    SteppedBack(String),
    /// A flag that does not fit the job.
    #[error("{0}")]
    Flag(String),
    /// Too many records could not be decoded; what was read is finished.
    #[error("{0}")]
    DeadLetters(TooMany),
    /// Worker threads could not be started or one broke; its own message was printed.
    #[error("{0}")]
    Workers(String),
}

impl RunError {
    /// Whether the same run, started again with nothing mended, may do better: something outside was away, another process
    /// went, or a promise of storeflow's own was broken.
    pub fn may_pass(&self) -> bool {
        match self {
            RunError::Publish(error) => error.may_pass(),
            RunError::Kafka(error) => error.may_pass(),
            RunError::Redis(error) => error.may_pass(),
            RunError::Cluster(error) => error.may_pass(),
            RunError::Log(LogError::Objects(error) | LogError::Unconfirmed { source: error, .. }) => store_may_answer(error),
            RunError::Checkpoint(CheckpointError::Objects(error)) | RunError::Objects(error) => store_may_answer(error),
            RunError::Schemas(SchemasError::Store(error)) => error.may_pass(),
            RunError::Schemas(_) | RunError::Log(_) | RunError::Checkpoint(_) => false,
            RunError::Peer(_) | RunError::Workers(_) => true,
            RunError::Source(SourceError::Feed(error)) => error.source.downcast_ref().is_some_and(KafkaError::may_pass),
            RunError::Source(_) | RunError::SteppedBack(_) | RunError::Flag(_) => false,
            RunError::Recovery(_) | RunError::DeadLetters(_) => false,
        }
    }
}

/// Whether a store that failed may do better later: not a full disk, nor wrong credentials.
pub(crate) fn store_may_answer(error: &ObjectError) -> bool {
    error.source.downcast_ref().is_none_or(StoreError::may_pass)
}

impl From<DatasetError> for RunError {
    fn from(error: DatasetError) -> Self {
        RunError::Source(error.into())
    }
}

/// What a finished run tells.
#[derive(Debug)]
pub struct Finished {
    /// The as-of everything is shown at.
    pub as_of: u64,
    /// From the first byte to the last cell in the view.
    pub took: Duration,
    /// Each worker's counts.
    pub stats: Vec<Arc<WorkerStats>>,
    /// From read to visible.
    pub latencies: Latencies,
}

impl Finished {
    /// A count over all workers.
    pub fn sum(&self, of: impl Fn(&WorkerStats) -> u64) -> u64 {
        self.stats.iter().map(|stats| of(stats)).sum()
    }
}

/// A run that can be watched.
pub struct Watch<'a> {
    /// Each worker's counts, live.
    pub stats: &'a [Arc<WorkerStats>],
    /// Size of the input files, bytes on disk.
    pub input_bytes: u64,
}

/// What one process's workers are given.
pub struct Crew {
    /// The job.
    pub job: Arc<Job>,
    /// How to run.
    pub tuning: Tuning,
    /// What each worker of this process reads.
    pub intakes: Vec<Intake>,
    /// What each worker begins with.
    pub beginnings: Vec<Beginning>,
    /// Of which as-of that is; 0: it is nothing.
    pub origin: u64,
    /// Where checkpoints go.
    pub durability: Option<Durability>,
    /// The lowest clock of all partitions of all processes.
    pub start: u64,
    /// Records per hour of log time, of all partitions of all processes.
    pub records_per_hour: u64,
    /// The names of partitions.
    pub names: Arc<PartitionNames>,
    /// Counts of this process's workers.
    pub stats: Vec<Arc<WorkerStats>>,
    /// Whether to measure the time from read to visible.
    pub measure_latency: bool,
    /// Set to end an input that goes on.
    pub drain: Arc<AtomicBool>,
    /// The other processes, if there are any: they are told goodbye only after a good end.
    pub peers: Option<PeerWatch>,
}

/// What timely makes workers of: a builder for each, and what keeps their connections.
pub type Builders = (Vec<AllocatorBuilder>, Box<dyn Any + Send>);

/// Builders for the workers of one process alone.
///
/// # Errors
/// If threads cannot be set up.
pub fn alone(workers: usize) -> Result<Builders, RunError> {
    timely::communication::Config::Process(workers)
        .try_build()
        .map_err(|error| RunError::Workers(format!("could not set up {workers} workers: {error}")))
}

/// Runs workers to their end. `watch` is called every few milliseconds; its error stops them.
///
/// # Errors
/// The first there was: of the input, the publisher, a flag that does not fit, or of `watch`.
pub fn run(
    crew: Crew,
    (builders, others): Builders,
    publisher: Arc<dyn Publisher>,
    mut watch: impl FnMut() -> Result<(), RunError>,
) -> Result<Finished, RunError> {
    let Crew { job, tuning, intakes, beginnings, origin, durability, start, records_per_hour, .. } = crew;
    let Crew { names, stats, measure_latency, drain, peers, .. } = crew;
    let start = start.max(origin);
    let workers = intakes.len();
    let ladder = Ladder::new(job.horizons.window, job.horizons.grace);
    if !ladder.steps().contains(&tuning.frontier) {
        return Err(not_a_step("frontier", tuning.frontier, &ladder));
    }
    let going_on = intakes.iter().any(|intake| intake.arrivals.is_some());
    let (schedule, pacemaker) = ticks(&ladder, &tuning, start, records_per_hour, going_on, origin)?;
    let assignments: Vec<Mutex<Option<Assignment>>> = intakes
        .into_iter()
        .zip(beginnings)
        .zip(&stats)
        .map(|((intake, beginning), stats)| {
            Mutex::new(Some(Assignment {
                intake,
                schedule: schedule.clone(),
                pacemaker: pacemaker.clone(),
                align: tuning.align,
                speed: tuning.speed,
                start,
                frontier_step: tuning.frontier,
                names: Arc::clone(&names),
                stats: Arc::clone(stats),
                measure_latency,
                drain: Arc::clone(&drain),
                beginning,
                origin,
                durability: durability.clone(),
                workers,
            }))
        })
        .collect();

    let began = Instant::now();
    let shared = Arc::new(Shared {
        stop: AtomicBool::new(false),
        broken: AtomicBool::new(false),
        left: AtomicUsize::new(workers),
        outcomes: Mutex::default(),
    });
    let workers_shared = Arc::clone(&shared);
    let guards = timely::execute::execute_from(builders, others, timely::WorkerConfig::default(), move |worker| {
        let mut ended = Ended { shared: Arc::clone(&workers_shared), panicked: true };
        let assignment = locked(&assignments[worker.index() % workers]).take();
        if let Some(assignment) = assignment {
            let stop = || workers_shared.stop.load(Ordering::Relaxed);
            let outcome = work(worker, &job, assignment, &*publisher, &stop);
            if outcome.is_err() {
                workers_shared.stop.store(true, Ordering::Relaxed);
            }
            locked(&workers_shared.outcomes).push(outcome);
        }
        ended.panicked = false;
    })
    .map_err(|error| RunError::Workers(format!("could not start {workers} workers: {error}")))?;
    let mut trouble = None;
    while shared.left.load(Ordering::Acquire) > 0 {
        if trouble.is_none()
            && let Err(error) = watch()
        {
            trouble = Some(error);
            shared.stop.store(true, Ordering::Relaxed);
        }
        std::thread::sleep(WATCH_EVERY);
    }
    let took = began.elapsed();
    let (mut as_of, mut latencies) = (u64::MAX, Latencies::default());
    let mut ended = trouble.map_or(Ok(()), Err);
    for outcome in locked(&shared.outcomes).drain(..) {
        match outcome {
            Ok(outcome) => {
                as_of = as_of.min(outcome.as_of);
                latencies.merge(&outcome.latencies);
            }
            Err(error) if ended.is_ok() => ended = Err(error),
            Err(_) => {}
        }
    }
    if ended.is_ok() && shared.broken.load(Ordering::Relaxed) {
        let broken = "a worker broke one of storeflow's own promises and was ended; see above";
        ended = Err(RunError::Workers(broken.to_owned()));
    }
    match (peers, ended) {
        (Some(_), Err(error)) => {
            // Timely's threads of a cluster that broke never end; the process does, and so tells the others.
            std::mem::forget(guards);
            return Err(error);
        }
        (peers, ended) => {
            peers.iter().for_each(PeerWatch::completed);
            drop(guards.join());
            ended?;
        }
    }
    Ok(Finished { as_of, took, stats, latencies })
}

/// What workers and the thread that watches them share.
struct Shared {
    stop: AtomicBool,
    broken: AtomicBool,
    left: AtomicUsize,
    outcomes: Mutex<Vec<Result<Outcome, RunError>>>,
}

/// Says that a worker is at its end, also when it panics: then the others stop.
struct Ended {
    shared: Arc<Shared>,
    panicked: bool,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if self.panicked {
            self.shared.broken.store(true, Ordering::Relaxed);
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        self.shared.left.fetch_sub(1, Ordering::Release);
    }
}

/// The ticks to start with, and who changes them: nobody with a fixed tick. The first step is guessed from how dense the
/// partitions begin.
fn ticks(
    ladder: &Ladder,
    tuning: &Tuning,
    start: u64,
    records_per_hour: u64,
    going_on: bool,
    origin: u64,
) -> Result<(Schedule, Option<Pacemaker>), RunError> {
    if let Some(tick) = tuning.tick {
        let known = ladder.steps().contains(&tick);
        return if known {
            Ok((Schedule::fixed(ladder.clone(), tick).starting_at(origin), None))
        } else {
            Err(not_a_step("tick", tick, ladder))
        };
    }
    // At a limited speed a tick need not be longer than a second of wall time.
    let coarsest = match tuning.speed {
        // Without a record there is no backlog to be behind with.
        Speed::Max if going_on && start == 0 => 0,
        Speed::Max if going_on => wall_ms().saturating_sub(start) / LAG_PER_TICK,
        Speed::Max => u64::MAX,
        Speed::Permille(permille) => permille.max(1_000),
    };
    let fits = |step: u64| step <= coarsest && records_per_hour.saturating_mul(step) / 3_600_000 <= TICK_UPDATES;
    let first = ladder.steps().iter().rev().copied().find(|&step| fits(step)).unwrap_or(ladder.steps()[0]);
    let schedule = Schedule::new(ladder.clone(), first).starting_at(origin);
    Ok((schedule.clone(), Some(Pacemaker::new(schedule, start, tuning.align, TICK_UPDATES, coarsest))))
}

fn not_a_step(flag: &str, wanted: u64, ladder: &Ladder) -> RunError {
    let steps: Vec<String> = ladder.steps().iter().map(|step| format!("{}s", step / 1_000)).collect();
    RunError::Flag(format!("--{flag} {wanted} ms does not nest in this job's window; use one of {}", steps.join(", ")))
}
