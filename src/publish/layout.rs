//! The data directory: where every file is, and which run's files count.
//!
//! ```text
//! <data-dir>/lock                                    held while a run writes
//!           /current.json                            the pointer: job, generation, as-of
//!           /<job>/gen-000001/history/<table>/date=2026-11-20/epoch=20261120T103200Z-0of2.parquet
//!                            /view/<table>-0of2.parquet
//!                            /dead_letters/0of2.ndjson
//! ```
//!
//! `0of2` is a shard group: worker w of n owns the shards s with s % n == w.
//!
//! Upholds: (1) the pointer moves last, whole, after everything it points at is on stable storage; (2) a generation is
//! current or it is nothing: what a crash left behind is removed by the next run that finishes; (3) one job per directory,
//! one run at a time.
//! Keeps: the operating system's lock on `lock`, released with the process however it ends.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use storeflow_dataflows::epoch::Horizons;

use super::error::PublishError;
use super::schema::Output;
use super::time;
use crate::config::{Job, Role};

/// Version of the layout and of the files in it.
pub const FORMAT: u32 = 1;

/// Files put on stable storage at the same time.
const SYNC_THREADS: usize = 16;

/// What is true of a whole generation.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// The job's name.
    pub job: String,
    /// Number of the run in this data directory, from 1.
    pub generation: u64,
    /// The job's lengths of time.
    pub horizons: Horizons,
    /// Decimal digits of money.
    pub scale: u32,
    /// Workers, hence shard groups.
    pub workers: usize,
    /// Whether distinct products of clicks are known.
    pub clicks_distinct: bool,
}

/// `current.json`. The field order is the file's.
#[derive(Serialize, Deserialize)]
struct PointerV1 {
    format: u32,
    job: String,
    generation: u64,
    as_of: u64,
    window_ms: u64,
    grace_ms: u64,
    retention_ms: u64,
    replay_horizon_ms: u64,
    scale: u32,
    workers: usize,
    clicks_distinct: bool,
}

/// The paths of a generation.
#[derive(Clone, Debug)]
pub struct Paths {
    dir: PathBuf,
    workers: usize,
}

impl Paths {
    /// The generation's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of an output's history, over all dates.
    pub fn history_dir(&self, output: Output) -> PathBuf {
        self.dir.join("history").join(output.name())
    }

    /// A file of history; `day` counts from 1970.
    pub(crate) fn history(&self, output: Output, day: i64, epoch: u64, worker: usize) -> PathBuf {
        let name = format!("epoch={}-{worker}of{}.parquet", time::compact(epoch), self.workers);
        self.history_dir(output).join(format!("date={}", time::date(day))).join(name)
    }

    /// A file of the dumped view.
    pub fn view(&self, output: Output, worker: usize) -> PathBuf {
        self.dir.join("view").join(format!("{}-{worker}of{}.parquet", output.name(), self.workers))
    }

    /// The folder of dead letters.
    pub fn dead_letters_dir(&self) -> PathBuf {
        self.dir.join("dead_letters")
    }

    /// A worker's dead letters.
    pub fn dead_letters(&self, worker: usize) -> PathBuf {
        self.dead_letters_dir().join(format!("{worker}of{}.ndjson", self.workers))
    }
}

/// A run's own generation, while it is being written.
#[derive(Debug)]
pub struct Generation {
    root: PathBuf,
    about: About,
    paths: Paths,
    _lock: File,
}

impl Generation {
    /// Takes the data directory for `job` (creating it if need be) and begins its next generation.
    pub fn create(root: &Path, job: &Job, workers: usize) -> Result<Generation, PublishError> {
        std::fs::create_dir_all(root).map_err(PublishError::io("create", root))?;
        let lock = lock(root)?;
        if let Some(pointer) = read_pointer(root)?
            && pointer.job != job.name
        {
            return Err(PublishError::OtherJob { root: root.to_owned(), found: pointer.job, wanted: job.name.clone() });
        }
        let of_job = root.join(&job.name);
        std::fs::create_dir_all(&of_job).map_err(PublishError::io("create", &of_job))?;
        // Past the remains of crashed runs as well, so that nothing of them can be taken for ours.
        let generation = generations(&of_job)?.last().map_or(1, |(last, _)| last + 1);
        let dir = generation_dir(root, &job.name, generation);
        std::fs::create_dir(&dir).map_err(PublishError::io("create", &dir))?;
        let about = About {
            job: job.name.clone(),
            generation,
            horizons: job.horizons,
            scale: job.scale,
            workers,
            clicks_distinct: job.sources.iter().any(|source| source.role == Role::Clicks && source.distinct),
        };
        Ok(Generation { root: root.to_owned(), about, paths: Paths { dir, workers }, _lock: lock })
    }

    /// What is true of all its files.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Where its files are.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The run has finished and all its files are written: makes this generation the current one and removes the others.
    pub fn finish(self, as_of: u64) -> Result<(), PublishError> {
        sync_tree(&self.paths.dir)?;
        let of_job = self.root.join(&self.about.job);
        sync(&of_job)?;
        let About { job, generation, horizons, scale, workers, clicks_distinct } = self.about;
        let pointer = PointerV1 {
            format: FORMAT,
            job,
            generation,
            as_of,
            window_ms: horizons.window,
            grace_ms: horizons.grace,
            retention_ms: horizons.retention,
            replay_horizon_ms: horizons.replay_horizon,
            scale,
            workers,
            clicks_distinct,
        };
        let path = self.root.join("current.json");
        let mut text = serde_json::to_vec_pretty(&pointer).map_err(PublishError::encode(&path))?;
        text.push(b'\n');
        replace(&path, &text)?;
        // From here on the run has succeeded. What cannot be removed now is removed by the next one.
        for (other, dir) in generations(&of_job)? {
            if other != generation
                && let Err(error) = std::fs::remove_dir_all(&dir)
            {
                tracing::warn!(path = %dir.display(), %error, "could not remove an old generation");
            }
        }
        Ok(())
    }
}

/// The generation of the last run that finished.
#[derive(Clone, Debug)]
pub struct Current {
    /// What is true of all its files.
    pub about: About,
    /// Everything in it is as of this instant, milliseconds.
    pub as_of: u64,
    /// Where its files are.
    pub paths: Paths,
}

impl Current {
    /// Follows the pointer of a data directory.
    pub fn open(root: &Path) -> Result<Current, PublishError> {
        if !root.is_dir() {
            return Err(PublishError::NoDirectory { root: root.to_owned() });
        }
        let pointer = read_pointer(root)?.ok_or_else(|| PublishError::NoRun { root: root.to_owned() })?;
        let paths = Paths { dir: generation_dir(root, &pointer.job, pointer.generation), workers: pointer.workers };
        let about = About {
            job: pointer.job,
            generation: pointer.generation,
            horizons: Horizons {
                window: pointer.window_ms,
                grace: pointer.grace_ms,
                retention: pointer.retention_ms,
                replay_horizon: pointer.replay_horizon_ms,
            },
            scale: pointer.scale,
            workers: pointer.workers,
            clicks_distinct: pointer.clicks_distinct,
        };
        Ok(Current { about, as_of: pointer.as_of, paths })
    }
}

/// The name a file has while it is being written. No pattern of engines (`*.parquet`, `*.ndjson`) matches it.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Creates the folder a file is to be in.
pub(crate) fn create_parent(path: &Path) -> Result<(), PublishError> {
    match path.parent() {
        Some(parent) => std::fs::create_dir_all(parent).map_err(PublishError::io("create", parent)),
        None => Ok(()),
    }
}

fn generation_dir(root: &Path, job: &str, generation: u64) -> PathBuf {
    root.join(job).join(format!("gen-{generation:06}"))
}

/// The generations in a job's folder, by number.
fn generations(of_job: &Path) -> Result<Vec<(u64, PathBuf)>, PublishError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(of_job).map_err(PublishError::io("list", of_job))? {
        let path = entry.map_err(PublishError::io("list", of_job))?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_prefix("gen-")?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort_unstable();
    Ok(found)
}

fn lock(root: &Path) -> Result<File, PublishError> {
    let path = root.join("lock");
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(PublishError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(PublishError::Locked { root: root.to_owned() }),
        Err(TryLockError::Error(error)) => Err(PublishError::io("lock", &path)(error)),
    }
}

fn read_pointer(root: &Path) -> Result<Option<PointerV1>, PublishError> {
    const EXPECTED: &str = "the pointer of a data directory";
    let path = root.join("current.json");
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(PublishError::io("read", &path))?,
    };
    let pointer: PointerV1 = serde_json::from_slice(&text).map_err(PublishError::unreadable(&path, EXPECTED))?;
    if pointer.format != FORMAT {
        let wrong = format!("it has format {}, this program knows {FORMAT}", pointer.format);
        return Err(PublishError::unreadable(&path, EXPECTED)(wrong));
    }
    Ok(Some(pointer))
}

/// Replaces a small file: the old or the new one is there, whole, whatever happens.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), PublishError> {
    let temporary = temporary(path);
    let mut file = File::create(&temporary).map_err(PublishError::io("create", &temporary))?;
    file.write_all(bytes).map_err(PublishError::io("write", &temporary))?;
    file.sync_all().map_err(PublishError::io("sync", &temporary))?;
    std::fs::rename(&temporary, path).map_err(PublishError::io("rename to", path))?;
    path.parent().map_or(Ok(()), sync)
}

/// Puts a file or a folder's entries on stable storage.
fn sync(path: &Path) -> Result<(), PublishError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(PublishError::io("sync", path))
}

/// Puts everything below a folder on stable storage.
///
/// Waiting for the disk is all there is to it, and a file system commits what is asked for at the same time in one go: 400
/// files take 60 ms together and 20 times as long one after the other.
fn sync_tree(dir: &Path) -> Result<(), PublishError> {
    let mut paths = vec![dir.to_owned()];
    let mut listed = 0;
    while let Some(path) = paths.get(listed).cloned() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(PublishError::io("list", &path))? {
                paths.push(entry.map_err(PublishError::io("list", &path))?.path());
            }
        }
        listed += 1;
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let sync_some = || {
            while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                sync(path)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..SYNC_THREADS.min(paths.len())).map(|_| scope.spawn(sync_some)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(PublishError::Stopped)))
    })
}
