//! Replays a dataset: from the folder to finished files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use storeflow_dataflows::beginning::Beginning;

use super::publisher::{Copies, Publisher};
use super::workers::{self, Crew, Finished, RunError, Tuning, Watch, alone};
use crate::config::Job;
use crate::decode::HASHING;
use crate::publish::error::PublishError;
use crate::publish::history::{HistoryWriter, Totals};
use crate::publish::layout::Generation;
use crate::publish::view::MemoryView;
use crate::source::dataset::{DatasetError, PartitionFile, partitions};
use crate::source::names::PartitionNames;
use crate::source::operator::Intake;
use crate::source::partition::Partition;
use crate::source::registry::load_dataset;
use crate::store::Store;

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
    let publisher = Arc::new(Copies::new(Arc::clone(&view), Some(history.sender())));
    let replayed = replay(job, &files, tuning, false, publisher, watch);
    let (finished, totals) = settle(replayed, history)?;
    view.dump(&generation)?;
    let dir = generation.place();
    generation.finish(finished.as_of)?;
    Ok(Kept { finished, view, totals, dir })
}

/// Ends the history of workers that have ended.
pub(super) fn settle(ran: Result<Finished, RunError>, history: HistoryWriter) -> Result<(Finished, Totals), RunError> {
    let finished = match ran {
        Ok(finished) => finished,
        // The writer knows better than the worker that found it gone.
        Err(RunError::Publish(PublishError::Stopped)) => {
            return Err(history.close().err().unwrap_or(PublishError::Stopped).into());
        }
        Err(error) => return Err(error),
    };
    let published = history.publish(finished.as_of);
    // If the writer has stopped, its own error says why.
    let totals = history.close()?;
    published?;
    Ok((finished, totals))
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

/// Opens the files for a replay, in their order. Schemas of Avro records are those of the files' dataset; none is fetched.
///
/// # Errors
/// If one cannot be read.
pub fn open(job: &Job, files: &[PartitionFile], tuning: &Tuning) -> Result<Vec<Partition>, DatasetError> {
    let schemas = Arc::default();
    if let Some(dataset) = files.first().and_then(|file| file.path.parent()?.parent()) {
        load_dataset(dataset, &schemas)?;
    }
    let topics = topics_of(files);
    let chunk = chunk_of(files, tuning);
    let names = PartitionNames::sorted(&topics);
    files.iter().map(|file| Partition::open(job, file, names.id(&file.topic, file.partition), &topics, chunk, &schemas)).collect()
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
    let hands = deal(partitions, files, workers);
    let start = hands.iter().flatten().map(|partition| partition.clock().now()).filter(|&clock| clock > 0).min().unwrap_or(0);
    let crew = Crew {
        job: Arc::new(job.clone()),
        tuning: tuning.clone(),
        beginnings: (0..workers).map(|_| Beginning::new(job.horizons, HASHING, false)).collect(),
        origin: 0,
        durability: None,
        start,
        records_per_hour: hands.iter().flatten().map(Partition::records_per_hour).fold(0, u64::saturating_add),
        intakes: hands.into_iter().map(|partitions| Intake { partitions, arrivals: None }).collect(),
        names: Arc::default(),
        stats: (0..workers).map(|_| Arc::default()).collect(),
        measure_latency,
        drain: Arc::default(),
        peers: None,
    };
    let (stats, input_bytes) = (crew.stats.clone(), files.iter().map(|file| file.bytes).sum());
    workers::run(crew, alone(workers)?, publisher, || {
        watch(Watch { stats: &stats, input_bytes });
        Ok(())
    })
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
