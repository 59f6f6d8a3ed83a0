//! Replays a dataset: from the folder to finished files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use storeflow_dataflows::tick::{Ladder, Pacemaker, Schedule};

use super::latency::Latencies;
use super::publisher::{Embedded, Publisher};
use super::worker::{Assignment, Outcome, work};
use crate::config::Job;
use crate::observe::WorkerStats;
use crate::publish::error::PublishError;
use crate::publish::history::{HistoryWriter, Totals};
use crate::publish::layout::Generation;
use crate::publish::view::MemoryView;
use crate::source::dataset::{DatasetError, PartitionFile, partitions};
use crate::source::names::PartitionNames;
use crate::source::operator::Speed;
use crate::source::partition::Partition;
use crate::store::Store;

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
    Dataset(#[from] DatasetError),
    /// The output.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A flag that does not fit the job.
    #[error("{0}")]
    Flag(String),
    /// Worker threads could not be started or one broke; its own message was printed.
    #[error("{0}")]
    Workers(String),
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

/// What is left of an embedded run: its view and what was written.
pub struct Kept {
    /// How it went.
    pub finished: Finished,
    /// The view at the end.
    pub view: Arc<MemoryView>,
    /// History and dead letters.
    pub totals: Totals,
    /// Where the files are.
    pub dir: PathBuf,
}

/// Replays `dataset` into `store`: history as it goes, the view at the end, then the pointer to it all.
///
/// # Errors
/// Whatever the user can mend; nothing half-written is taken for whole then.
pub fn run(job: &Job, dataset: &Path, store: &Store, tuning: &Tuning, watch: impl FnMut(Watch<'_>)) -> Result<Kept, RunError> {
    let files = partitions(job, dataset)?;
    let generation = Generation::create(store, job, tuning.workers, None)?;
    let names = Arc::new(PartitionNames::sorted(topics_of(&files)));
    let history = HistoryWriter::start(&generation, 0..tuning.workers, names)?;
    let view = Arc::new(MemoryView::new(tuning.workers));
    let publisher = Arc::new(Embedded::new(Arc::clone(&view), Some(history.sender())));
    let replayed = replay(job, &files, tuning, false, publisher, watch);
    let finished = match replayed {
        Ok(finished) => finished,
        // The writer knows better than the worker that found it gone.
        Err(RunError::Publish(PublishError::Stopped)) => {
            return Err(history.close().err().unwrap_or(PublishError::Stopped).into());
        }
        Err(error) => return Err(error),
    };
    history.publish(finished.as_of)?;
    let totals = history.close()?;
    view.dump(&generation)?;
    let dir = generation.place();
    generation.finish(finished.as_of)?;
    Ok(Kept { finished, view, totals, dir })
}

/// Replays partition files through the dataflow into a publisher.
///
/// # Errors
/// If the input cannot be read, the publisher refuses, or a flag does not fit.
pub fn replay(
    job: &Job,
    files: &[PartitionFile],
    tuning: &Tuning,
    measure_latency: bool,
    publisher: Arc<dyn Publisher>,
    watch: impl FnMut(Watch<'_>),
) -> Result<Finished, RunError> {
    replay_opened(job, files, open(job, files, tuning)?, tuning, measure_latency, publisher, watch)
}

/// Opens the files for a replay, in their order.
///
/// # Errors
/// If one cannot be read.
pub fn open(job: &Job, files: &[PartitionFile], tuning: &Tuning) -> Result<Vec<Partition>, DatasetError> {
    let topics = topics_of(files);
    let chunk = chunk_of(files, tuning);
    let names = PartitionNames::sorted(&topics);
    files.iter().map(|file| Partition::open(job, file, names.id(&file.topic, file.partition), &topics, chunk)).collect()
}

/// The topics of the files, which are sorted by them.
pub fn topics_of(files: &[PartitionFile]) -> Vec<String> {
    let mut topics: Vec<String> = files.iter().map(|file| file.topic.clone()).collect();
    topics.dedup();
    topics
}

/// Bytes to read of a file at a time, so that all of them stay within what may be in flight.
pub fn chunk_of(files: &[PartitionFile], tuning: &Tuning) -> usize {
    (tuning.in_flight_bytes / files.len().max(1) as u64).clamp(16 << 10, 512 << 10) as usize
}

/// As [`replay`], with the partitions of the files opened by the caller, in the order of the files.
///
/// # Errors
/// As [`replay`].
pub fn replay_opened(
    job: &Job,
    files: &[PartitionFile],
    partitions: Vec<Partition>,
    tuning: &Tuning,
    measure_latency: bool,
    publisher: Arc<dyn Publisher>,
    mut watch: impl FnMut(Watch<'_>),
) -> Result<Finished, RunError> {
    let workers = tuning.workers.max(1);
    let ladder = Ladder::new(job.horizons.window, job.horizons.grace);
    if !ladder.steps().contains(&tuning.frontier) {
        return Err(not_a_step("frontier", tuning.frontier, &ladder));
    }
    let hands = deal(partitions, files, workers);
    let start = hands.iter().flatten().map(|partition| partition.clock().now()).filter(|&clock| clock > 0).min().unwrap_or(0);
    let rate = hands.iter().flatten().map(Partition::records_per_hour).fold(0, u64::saturating_add);
    let (schedule, pacemaker) = ticks(&ladder, tuning, start, rate)?;
    let stats: Vec<Arc<WorkerStats>> = (0..workers).map(|_| Arc::default()).collect();
    let assignments: Vec<Mutex<Option<Assignment>>> = hands
        .into_iter()
        .zip(&stats)
        .map(|(partitions, stats)| {
            Mutex::new(Some(Assignment {
                partitions,
                schedule: schedule.clone(),
                pacemaker: pacemaker.clone(),
                align: tuning.align,
                speed: tuning.speed,
                start,
                frontier_step: tuning.frontier,
                stats: Arc::clone(stats),
                measure_latency,
            }))
        })
        .collect();

    let began = Instant::now();
    let shared = Arc::new(Shared { stop: AtomicBool::new(false), left: AtomicUsize::new(workers), outcomes: Mutex::default() });
    let (builders, others) = timely::communication::Config::Process(workers)
        .try_build()
        .map_err(|error| RunError::Workers(format!("could not set up {workers} workers: {error}")))?;
    let (job, workers_shared) = (Arc::new(job.clone()), Arc::clone(&shared));
    let guards = timely::execute::execute_from(builders, others, timely::WorkerConfig::default(), move |worker| {
        let mut ended = Ended { shared: Arc::clone(&workers_shared), panicked: true };
        let assignment = assignments[worker.index()].lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(assignment) = assignment {
            let stop = || workers_shared.stop.load(Ordering::Relaxed);
            let outcome = work(worker, &job, assignment, &*publisher, &stop);
            if outcome.is_err() {
                workers_shared.stop.store(true, Ordering::Relaxed);
            }
            workers_shared.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        }
        ended.panicked = false;
    })
    .map_err(|error| RunError::Workers(format!("could not start {workers} workers: {error}")))?;
    let input_bytes = files.iter().map(|file| file.bytes).sum();
    while shared.left.load(Ordering::Acquire) > 0 {
        watch(Watch { stats: &stats, input_bytes });
        std::thread::sleep(WATCH_EVERY);
    }
    let took = began.elapsed();
    let (mut as_of, mut latencies) = (u64::MAX, Latencies::default());
    let broken = guards.join().into_iter().any(|worker| worker.is_err());
    for outcome in shared.outcomes.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let outcome = outcome?;
        as_of = as_of.min(outcome.as_of);
        latencies.merge(&outcome.latencies);
    }
    if broken {
        return Err(RunError::Workers("a worker broke one of storeflow's own promises and was ended; see above".to_owned()));
    }
    Ok(Finished { as_of, took, stats, latencies })
}

/// What workers and the thread that watches them share.
struct Shared {
    stop: AtomicBool,
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
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        self.shared.left.fetch_sub(1, Ordering::Release);
    }
}

/// Deals what belongs to the files to workers, the largest file first to whoever has least, so that workers end together.
pub fn deal<T>(of_files: Vec<T>, files: &[PartitionFile], workers: usize) -> Vec<Vec<T>> {
    let mut order: Vec<(&PartitionFile, T)> = files.iter().zip(of_files).collect();
    order.sort_by_key(|(file, _)| std::cmp::Reverse(file.bytes));
    let mut hands: Vec<(u64, Vec<T>)> = (0..workers).map(|_| (0, Vec::new())).collect();
    for (file, one) in order {
        if let Some((bytes, hand)) = hands.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes += file.bytes.max(1);
            hand.push(one);
        }
    }
    hands.into_iter().map(|(_, hand)| hand).collect()
}

/// The ticks to start with, and who changes them: nobody with a fixed tick. The first step is guessed from how dense the
/// partitions begin.
fn ticks(ladder: &Ladder, tuning: &Tuning, start: u64, records_per_hour: u64) -> Result<(Schedule, Option<Pacemaker>), RunError> {
    if let Some(tick) = tuning.tick {
        let known = ladder.steps().contains(&tick);
        return if known { Ok((Schedule::fixed(ladder.clone(), tick), None)) } else { Err(not_a_step("tick", tick, ladder)) };
    }
    // At a limited speed a tick need not be longer than a second of wall time.
    let coarsest = match tuning.speed {
        Speed::Max => u64::MAX,
        Speed::Permille(permille) => permille.max(1_000),
    };
    let fits = |step: u64| step <= coarsest && records_per_hour.saturating_mul(step) / 3_600_000 <= TICK_UPDATES;
    let first = ladder.steps().iter().rev().copied().find(|&step| fits(step)).unwrap_or(ladder.steps()[0]);
    let schedule = Schedule::new(ladder.clone(), first);
    Ok((schedule.clone(), Some(Pacemaker::new(schedule, start, tuning.align, TICK_UPDATES, coarsest))))
}

fn not_a_step(flag: &str, wanted: u64, ladder: &Ladder) -> RunError {
    let steps: Vec<String> = ladder.steps().iter().map(|step| format!("{}s", step / 1_000)).collect();
    RunError::Flag(format!("--{flag} {wanted} ms does not nest in this job's window; use one of {}", steps.join(", ")))
}
