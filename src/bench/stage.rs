//! One stage, run once in this process and measured.
//!
//! Absent on purpose: stages of their own making. Reading and decoding are the source's, the rest is `runtime::replay`.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::process::{cpu_seconds, peak_rss_bytes, with_peak_anonymous};
use super::slice::slice;
use super::{Latency, Sample, Stage};
use crate::config::Job;
use crate::publish::error::PublishError;
use crate::publish::view::MemoryView;
use crate::runtime::publisher::{Embedded, Publisher, Staged};
use crate::runtime::replay::{self, chunk_of, deal, open};
use crate::runtime::workers::{Finished, RunError, Tuning};
use crate::source::dataset::{DatasetError, PartitionFile, partitions};
use crate::source::lines::Lines;
use crate::source::operator::Speed;
use crate::store::Store;

/// Wall time of a run at a limited speed, milliseconds.
const SLICE_MS: u64 = 20_000;

/// What a stage runs on.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The job.
    pub job: &'a Job,
    /// The dataset.
    pub dataset: &'a Path,
    /// For what stages write; the caller's to remove.
    pub folder: &'a Path,
    /// How to run.
    pub tuning: Tuning,
}

/// Runs a stage. At a limited speed only the view stage makes sense: on the first `SLICE_MS` of wall time, with latencies.
///
/// # Errors
/// Whatever stops a run.
pub fn run(stage: Stage, setting: &Setting<'_>) -> Result<Sample, RunError> {
    let Setting { job, dataset, folder, tuning } = setting;
    let files = partitions(job, dataset)?;
    match stage {
        Stage::Read => {
            measured(|| on_workers(&files, tuning, Vec::from_iter(&files), |file| read(file, chunk_of(&files, tuning))))
        }
        Stage::Decode => measured(|| {
            let partitions = open(job, &files, tuning)?;
            on_workers(&files, tuning, partitions, |mut partition| {
                let (mut bytes, mut records) = (0, 0);
                while let Some(placed) = partition.next_record()? {
                    bytes += placed.bytes as u64;
                    records += 1;
                    black_box(placed);
                }
                Ok((bytes, records))
            })
        }),
        Stage::Dataflow => measured(|| {
            let counting = Arc::new(Counting::default());
            finished(replay::replay(job, &files, tuning, false, counting, |_| ()))
        }),
        Stage::View => match tuning.speed {
            Speed::Max => measured(|| {
                let view = Arc::new(MemoryView::new(tuning.workers));
                finished(replay::replay(job, &files, tuning, false, Arc::new(Embedded::new(view, None)), |_| ()))
            }),
            Speed::Permille(permille) => latency(setting, &files, permille),
        },
        Stage::History => {
            let store = Store::folder(&folder.join("data")).map_err(PublishError::from)?;
            measured(|| finished(replay::run(job, dataset, &store, tuning, |_| ()).map(|kept| kept.finished)))
        }
        Stage::Cached => cached(setting, &files),
    }
}

/// The dataflow on records decoded before. Writing and checking the cache is not measured.
#[cfg(feature = "replay-cache")]
fn cached(setting: &Setting<'_>, files: &[PartitionFile]) -> Result<Sample, RunError> {
    let Setting { job, folder, tuning, .. } = setting;
    let (topics, chunk, folder) = (replay::topics_of(files), chunk_of(files, tuning), folder.join("cache"));
    let open = |(index, file)| crate::source::cache::open(job, file, index, &topics, chunk, &folder);
    let partitions = (0..).zip(files).map(open).collect::<Result<Vec<_>, _>>()?;
    measured(|| finished(replay::replay_opened(job, files, partitions, tuning, false, Arc::new(Counting::default()), |_| ())))
}

#[cfg(not(feature = "replay-cache"))]
fn cached(_: &Setting<'_>, _: &[PartitionFile]) -> Result<Sample, RunError> {
    Err(RunError::Flag("this build has no replay cache (cargo feature \"replay-cache\")".to_owned()))
}

/// Time from read to visible, on a slice of the dataset.
fn latency(setting: &Setting<'_>, files: &[PartitionFile], permille: u64) -> Result<Sample, RunError> {
    let Setting { job, folder, tuning, .. } = setting;
    let slices: PathBuf = folder.join("slice");
    let files = slice(job, files, SLICE_MS.saturating_mul(permille) / 1_000, &slices)?;
    let mut latency = None;
    let mut sample = measured(|| {
        let view = Arc::new(MemoryView::new(tuning.workers));
        let finished = replay::replay(job, &files, tuning, true, Arc::new(Embedded::new(view, None)), |_| ())?;
        let records = finished.sum(|stats| stats.records.get());
        let micros = |percent| finished.latencies.percentile(percent).map_or(0, |time| time.as_micros() as u64);
        let (p50_us, p95_us, p99_us) = (micros(50), micros(95), micros(99));
        latency = Some(Latency { speed_permille: permille, records, p50_us, p95_us, p99_us });
        Ok((finished.sum(|stats| stats.bytes.get()), records))
    })?;
    sample.latency = latency;
    Ok(sample)
}

/// Measures what reads so many bytes and records.
fn measured(work: impl FnOnce() -> Result<(u64, u64), RunError>) -> Result<Sample, RunError> {
    let (cpu, began) = (cpu_seconds(), Instant::now());
    let (done, peak_anonymous_bytes) = with_peak_anonymous(|| {
        let done = work();
        (done, began.elapsed().as_secs_f64())
    });
    let ((bytes, records), seconds) = (done.0?, done.1);
    let cpu_seconds = cpu_seconds() - cpu;
    Ok(Sample { bytes, records, seconds, cpu_seconds, peak_rss_bytes: peak_rss_bytes(), peak_anonymous_bytes, latency: None })
}

fn finished(run: Result<Finished, RunError>) -> Result<(u64, u64), RunError> {
    let finished = run?;
    Ok((finished.sum(|stats| stats.bytes.get()), finished.sum(|stats| stats.records.get())))
}

/// Does one thing with what belongs to each file, on threads that share the files as workers do; adds up bytes and records.
fn on_workers<T: Send>(
    files: &[PartitionFile],
    tuning: &Tuning,
    of_files: Vec<T>,
    work: impl Fn(T) -> Result<(u64, u64), DatasetError> + Sync,
) -> Result<(u64, u64), RunError> {
    let work = &work;
    std::thread::scope(|scope| {
        let one = move |hand: Vec<T>| {
            hand.into_iter().try_fold((0, 0), |(bytes, records), one| {
                let (more_bytes, more_records) = work(one)?;
                Ok::<_, DatasetError>((bytes + more_bytes, records + more_records))
            })
        };
        let hands = deal(of_files, files, tuning.workers);
        let threads: Vec<_> = hands.into_iter().map(|hand| scope.spawn(move || one(hand))).collect();
        threads.into_iter().try_fold((0, 0), |(bytes, records), thread| {
            let (more_bytes, more_records) =
                thread.join().map_err(|_| RunError::Workers("a reading thread broke; see above".to_owned()))??;
            Ok((bytes + more_bytes, records + more_records))
        })
    })
}

/// Lines of a file, untouched but for finding their ends.
fn read(file: &PartitionFile, chunk: usize) -> Result<(u64, u64), DatasetError> {
    let unreadable = |source| DatasetError::Unreadable { path: file.path.clone(), source };
    let mut lines = Lines::open(file, chunk).map_err(unreadable)?;
    let (mut bytes, mut records) = (0, 0);
    while let Some(line) = lines.next_line().map_err(unreadable)? {
        bytes += line.bytes.len() as u64 + 1;
        records += 1;
    }
    Ok((bytes, records))
}

/// Takes results and lets them go.
#[derive(Debug, Default)]
struct Counting {
    published: AtomicU64,
}

impl Publisher for Counting {
    fn publish(&self, _worker: usize, staged: Staged) -> Result<(), PublishError> {
        let published = staged.cells.len() + staged.history.len() + staged.late.len() + staged.dead_letters.len();
        self.published.fetch_add(published as u64, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::job_file;
    use crate::generate::{Options, generate};

    #[test]
    fn every_stage_sees_every_record() {
        let root = tempfile::tempdir().unwrap();
        let dataset = root.path().join("mall");
        generate(&Options { out: dataset.clone(), payments: 300, clicks: 2_000, products: 50, ..Options::default() }).unwrap();
        let job = job_file::load(&dataset.join("mall.toml")).unwrap();
        let mut seen = Vec::new();
        for stage in Stage::ALL.into_iter().chain(cfg!(feature = "replay-cache").then_some(Stage::Cached)) {
            for workers in [1, 2] {
                let folder = root.path().join(format!("{}{workers}", stage.name()));
                let tuning = Tuning { workers, ..Tuning::default() };
                let setting = Setting { job: &job, dataset: &dataset, folder: &folder, tuning };
                let sample = run(stage, &setting).unwrap();
                seen.push((sample.bytes, sample.records));
            }
        }
        assert!(seen[0].1 > 3_000 && seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    }

    #[test]
    fn latencies_are_of_a_slice() {
        let root = tempfile::tempdir().unwrap();
        let dataset = root.path().join("mall");
        generate(&Options { out: dataset.clone(), payments: 300, clicks: 2_000, products: 50, ..Options::default() }).unwrap();
        let job = job_file::load(&dataset.join("mall.toml")).unwrap();
        // An hour of log time, or 20 s of wall time at 180 times real time; run a thousand times as fast as that.
        let files = partitions(&job, &dataset).unwrap();
        let slices = slice(&job, &files, 3_600_000, &root.path().join("slice")).unwrap();
        let lines = |files: &[PartitionFile]| files.iter().map(|file| read(file, 4_096).unwrap().1).sum::<u64>();
        let (some, all) = (lines(&slices), lines(&files));
        assert!(0 < some && some < all, "{some} of {all}");
    }
}
