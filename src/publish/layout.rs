//! The data directory, a local folder or a prefix of a bucket: where every object is, and which run's objects count.
//!
//! ```text
//! <store>/lock                                       held while a run writes (folders only)
//!        /current.json                               the pointer: job, generation, as-of, whether the run has finished
//!        /<job>/gen-000001/started.json              whose generation it is: created once
//!                         /history/<table>/date=2026-11-20/epoch=20261120T103200Z-0of2.parquet
//!                         /view/<table>-0of2.parquet
//!                         /dead_letters/date=2026-11-20/reason=bad_time/epoch=20261120T103200Z-0of2.ndjson
//!                         /replays/0000000001.ndjson  dead letters that are to be read again: see [`super::replays`]
//!                         /checkpoints/...            see `storeflow_checkpoints::names`
//!              /schemas/7.json                        schemas of Avro records, of all generations: see `source::registry`
//! ```
//!
//! `0of2` is a shard group: worker w of n, over all processes, owns the shards s with s % n == w.
//!
//! Upholds: (1) the pointer moves last, whole, after everything it points at is on stable storage, and never to an older
//! generation; (2) what the pointer does not name is not shown: a later generation is being built, an earlier one is removed by
//! the next run that finishes; (3) one job per store; a number of a generation is created once, and gone on with by its checkpoints.
//! Keeps: the operating system's lock on `lock`, released with the process however it ends. A bucket has no such thing:
//! there, two runs write beside each other, and the one that began first is told so when it moves the pointer.
//! Absent on purpose: removing anything shown while a run goes on. Who reads what it points at may still be reading.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use storeflow_dataflows::epoch::{Before, Horizons};

use super::dead_letters::MadeBy;
use super::error::PublishError;
use super::schema::Output;
use super::time;
use crate::config::{Job, Role};
use crate::store::{Exclusive, Store, StoreError};

/// Version of the files in a generation.
pub const FORMAT: u32 = 1;

/// Version of the pointer. 1 had no `finished`: it was written by runs that had.
const POINTER_FORMAT: u32 = 2;

const POINTER: &str = "current.json";

/// What is true of a whole generation.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// The job's name.
    pub job: String,
    /// Number of the run in this store, from 1.
    pub generation: u64,
    /// The job's lengths of time.
    pub horizons: Horizons,
    /// Decimal digits of money.
    pub scale: u32,
    /// Workers of all processes, hence shard groups.
    pub workers: usize,
    /// Whether distinct products of clicks are known.
    pub clicks_distinct: bool,
    /// The IANA name of the time zone that "today" is of, to readers.
    pub timezone: String,
}

impl About {
    fn of(job: &Job, generation: u64, workers: usize) -> About {
        About {
            job: job.name.clone(),
            generation,
            horizons: job.horizons,
            scale: job.scale,
            workers,
            clicks_distinct: job.sources.iter().any(|source| source.role == Role::Clicks && source.distinct),
            timezone: job.timezone.clone(),
        }
    }
}

/// `current.json`. The field order is the file's.
#[derive(Serialize, Deserialize)]
struct PointerV2 {
    format: u32,
    job: String,
    generation: u64,
    as_of: u64,
    #[serde(default = "finished")]
    finished: bool,
    window_ms: u64,
    grace_ms: u64,
    retention_ms: u64,
    replay_horizon_ms: u64,
    scale: u32,
    workers: usize,
    clicks_distinct: bool,
    #[serde(default = "utc")]
    timezone: String,
    /// Grace and retention up to the as-of at which they were changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<ChangedV2>,
}

#[derive(Serialize, Deserialize)]
struct ChangedV2 {
    as_of: u64,
    grace_ms: u64,
    retention_ms: u64,
}

/// Of a pointer written before there was an API that says "today".
pub(crate) fn utc() -> String {
    "UTC".to_owned()
}

/// Of a pointer of format 1.
fn finished() -> bool {
    true
}

/// `started.json`: one run's claim to a generation.
#[derive(Serialize, Deserialize)]
struct StartedV1 {
    format: u32,
    job: String,
    generation: u64,
    workers: usize,
    /// What no other run has, so that a claim whose answer was lost can be told from somebody else's.
    run: String,
}

/// The keys of a generation.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
    workers: usize,
}

impl Keys {
    /// The keys of a job's generation, laid out for so many workers.
    pub fn new(job: &str, generation: u64, workers: usize) -> Keys {
        Keys { prefix: generation_prefix(job, generation), workers }
    }

    fn of(about: &About) -> Keys {
        Keys::new(&about.job, about.generation, about.workers)
    }

    /// What all of them begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What all objects and manifests of its checkpoints begin with.
    pub fn checkpoints_prefix(&self) -> String {
        format!("{}/checkpoints", self.prefix)
    }

    /// What all files of the dumped view begin with, and how those of these workers end.
    pub(crate) fn views(&self) -> (String, String) {
        (format!("{}/view", self.prefix), format!("of{}.parquet", self.workers))
    }

    /// What the history of an output begins with, over all dates.
    pub fn history_prefix(&self, output: Output) -> String {
        format!("{}/history/{}", self.prefix, output.name())
    }

    /// A file of history; `day` counts from 1970.
    pub(crate) fn history(&self, output: Output, day: i64, epoch: u64, worker: usize) -> String {
        format!("{}/{}.parquet", self.history_prefix(output), self.of_epoch(day, epoch, worker))
    }

    /// A file of the dumped view.
    pub fn view(&self, output: Output, worker: usize) -> String {
        format!("{}/view/{}-{worker}of{}.parquet", self.prefix, output.name(), self.workers)
    }

    /// What all dead letters begin with, over all dates.
    pub fn dead_letters_prefix(&self) -> String {
        format!("{}/dead_letters", self.prefix)
    }

    /// What all requests to read dead letters again begin with.
    pub fn replays_prefix(&self) -> String {
        format!("{}/replays", self.prefix)
    }

    /// A request to read dead letters again.
    pub fn replay(&self, number: u32) -> String {
        format!("{}/{number:010}.ndjson", self.replays_prefix())
    }

    /// A worker's dead letters of an epoch and reason.
    pub(crate) fn dead_letters(&self, epoch: u64, reason: &str, worker: usize) -> String {
        let date = time::date(time::day(i64::try_from(epoch).unwrap_or(i64::MAX)));
        format!("{}/date={date}/reason={reason}/{}.ndjson", self.dead_letters_prefix(), self.epoch(epoch, worker))
    }

    fn of_epoch(&self, day: i64, epoch: u64, worker: usize) -> String {
        format!("date={}/{}", time::date(day), self.epoch(epoch, worker))
    }

    fn epoch(&self, epoch: u64, worker: usize) -> String {
        format!("epoch={}-{worker}of{}", time::compact(epoch), self.workers)
    }
}

/// The reason in the key of a file of dead letters; those of programs before there were such folders have none.
pub(crate) fn reason_of(key: &str) -> Option<&str> {
    key.rsplit('/').nth(1)?.strip_prefix("reason=")
}

/// Whether the epoch in a key's name is at or before an as-of.
pub(crate) fn is_through(key: &str, as_of: u64) -> bool {
    let name = key.rsplit('/').next().unwrap_or(key);
    // Names are of one length and sort by time.
    let last = format!("epoch={}", time::compact(as_of));
    name.get(..last.len()).is_some_and(|epoch| epoch <= last.as_str())
}

/// A run's own generation, while it is being written.
#[derive(Debug)]
pub struct Generation {
    store: Store,
    about: About,
    keys: Keys,
    made_by: Arc<MadeBy>,
    _exclusive: Option<Exclusive>,
}

impl Generation {
    /// Takes the store for `job` and begins its next generation, for `peers` workers over all processes. Its number is at
    /// least `at_least`, if given.
    ///
    /// # Errors
    /// If another run has the folder, the store holds another job, or does not do what is asked.
    pub fn create(store: &Store, job: &Job, peers: usize, at_least: Option<u64>) -> Result<Generation, PublishError> {
        let exclusive = store.exclusive()?;
        if let Some(pointer) = read_pointer(store)?
            && pointer.job != job.name
        {
            return Err(PublishError::OtherJob { root: store.place(""), found: pointer.job, wanted: job.name.clone() });
        }
        // Past the remains of crashed runs as well, so that nothing of them can be taken for ours.
        let next = generations(store, &job.name)?.last().map_or(1, |last| last + 1);
        let mut generation = next.max(at_least.unwrap_or(1));
        let run = run_id();
        loop {
            let about = About::of(job, generation, peers);
            let keys = Keys::of(&about);
            let started = StartedV1 { format: FORMAT, job: job.name.clone(), generation, workers: peers, run: run.clone() };
            let key = started_key(&keys);
            if store.put_if_absent(&key, json(store, &key, &started)?)? {
                let made_by = Arc::new(MadeBy::of(job));
                return Ok(Generation { store: store.clone(), about, keys, made_by, _exclusive: Some(exclusive) });
            }
            // Somebody was faster.
            generation += 1;
        }
    }

    /// Takes the store for `job` and goes on with a generation that an earlier run has begun, with any number of workers.
    ///
    /// # Errors
    /// If another run has the folder, or there is no such generation.
    pub fn resume(store: &Store, job: &Job, peers: usize, number: u64) -> Result<Generation, PublishError> {
        let exclusive = store.exclusive()?;
        Ok(Generation { _exclusive: Some(exclusive), ..Generation::join(store, job, peers, number)? })
    }

    /// The same generation as it was laid out by so many workers: for files of theirs.
    pub fn laid_out_for(&self, workers: usize) -> Generation {
        let about = About { workers, ..self.about.clone() };
        let (store, made_by) = (self.store.clone(), Arc::clone(&self.made_by));
        Generation { store, keys: Keys::of(&about), about, made_by, _exclusive: None }
    }

    /// The generation that another process of this run has taken, without taking the store.
    ///
    /// # Errors
    /// If there is no such generation.
    pub fn join(store: &Store, job: &Job, peers: usize, number: u64) -> Result<Generation, PublishError> {
        let about = About::of(job, number, peers);
        let keys = Keys::of(&about);
        let key = started_key(&keys);
        let place = store.place(&key);
        let Some(text) = store.get(&key)? else { return Err(PublishError::NoGeneration { place }) };
        let _started: StartedV1 =
            serde_json::from_slice(&text).map_err(PublishError::unreadable(&place, "what a run has started"))?;
        Ok(Generation { store: store.clone(), about, keys, made_by: Arc::new(MadeBy::of(job)), _exclusive: None })
    }

    /// What is true of all its files.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Where its files are.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The store it is in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Who makes its dead letters now.
    pub fn made_by(&self) -> &Arc<MadeBy> {
        &self.made_by
    }

    /// Where it is, for people.
    pub fn place(&self) -> PathBuf {
        self.store.place(self.keys.prefix())
    }

    /// Puts all that this process has shown on stable storage. Every process must, before the first one moves the pointer.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn sync(&self) -> Result<(), PublishError> {
        Ok(self.store.sync()?)
    }

    /// Everything up to `as_of` is shown and synced by all processes, and the run goes on: moves the pointer there. Only the
    /// process that created the generation may.
    ///
    /// # Errors
    /// If a newer run has taken the store over, or it does not do what is asked.
    pub fn advance(&self, as_of: u64) -> Result<(), PublishError> {
        self.point(as_of, false)
    }

    /// The run has finished and all its files are written and synced by all processes: makes this generation the current one
    /// and removes the older ones.
    ///
    /// # Errors
    /// As [`Generation::advance`].
    pub fn finish(self, as_of: u64) -> Result<(), PublishError> {
        self.point(as_of, true)?;
        // From here on the run has succeeded. What cannot be removed now is removed by the next one.
        let others = generations(&self.store, &self.about.job).unwrap_or_else(|error| {
            tracing::warn!(%error, "could not look for old generations");
            Vec::new()
        });
        for other in others.into_iter().filter(|other| *other < self.about.generation) {
            let prefix = generation_prefix(&self.about.job, other);
            if let Err(error) = self.store.delete_all(&prefix) {
                tracing::warn!(path = %self.store.place(&prefix).display(), %error, "could not remove an old generation");
            }
        }
        Ok(())
    }

    fn point(&self, as_of: u64, finished: bool) -> Result<(), PublishError> {
        self.sync()?;
        let found = read_pointer(&self.store)?.map_or(0, |pointer| pointer.generation);
        if found > self.about.generation {
            return Err(PublishError::Superseded { place: self.place(), newer: found });
        }
        let About { job, generation, horizons, scale, workers, clicks_distinct, timezone } = self.about.clone();
        let pointer = PointerV2 {
            format: POINTER_FORMAT,
            job,
            generation,
            as_of,
            finished,
            window_ms: horizons.window,
            grace_ms: horizons.grace,
            retention_ms: horizons.retention,
            replay_horizon_ms: horizons.replay_horizon,
            scale,
            workers,
            clicks_distinct,
            timezone,
            changed: (horizons.before != Before::NOTHING).then_some(ChangedV2 {
                as_of: horizons.before.until,
                grace_ms: horizons.before.grace,
                retention_ms: horizons.before.retention,
            }),
        };
        Ok(self.store.put(POINTER, json(&self.store, POINTER, &pointer)?)?)
    }
}

/// The generation that the pointer names.
#[derive(Clone, Debug)]
pub struct Current {
    /// The store it is in.
    pub store: Store,
    /// What is true of all its files.
    pub about: About,
    /// Everything in it is as of this instant, milliseconds.
    pub as_of: u64,
    /// Whether its run has finished. Until then it has a history, and its view is elsewhere.
    pub finished: bool,
    /// Where its files are.
    pub keys: Keys,
}

impl Current {
    /// Follows the pointer of a store.
    ///
    /// # Errors
    /// If there is no pointer, or it cannot be read.
    pub fn open(store: &Store) -> Result<Current, PublishError> {
        let pointer = read_pointer(store)?.ok_or_else(|| PublishError::NoRun { root: store.place("") })?;
        let about = About {
            job: pointer.job,
            generation: pointer.generation,
            horizons: Horizons {
                window: pointer.window_ms,
                grace: pointer.grace_ms,
                retention: pointer.retention_ms,
                replay_horizon: pointer.replay_horizon_ms,
                before: pointer.changed.map_or(Before::NOTHING, |changed| Before {
                    until: changed.as_of,
                    grace: changed.grace_ms,
                    retention: changed.retention_ms,
                }),
            },
            scale: pointer.scale,
            workers: pointer.workers,
            clicks_distinct: pointer.clicks_distinct,
            timezone: pointer.timezone,
        };
        let keys = Keys::of(&about);
        Ok(Current { store: store.clone(), about, as_of: pointer.as_of, finished: pointer.finished, keys })
    }
}

/// Takes back what a generation has shown after `as_of`, when somebody goes back to a checkpoint: first the pointer, if it names
/// this generation and says more; then the files of later epochs, and the view that was dumped at the end. No run may be writing.
/// Doing it again does what is left. How many files went.
///
/// # Errors
/// If the store does not do what is asked.
pub fn take_back(store: &Store, job: &str, generation: u64, as_of: u64) -> Result<usize, PublishError> {
    if let Some(pointer) = read_pointer(store)?
        && (pointer.job.as_str(), pointer.generation) == (job, generation)
        && pointer.as_of > as_of
    {
        let pointer = PointerV2 { format: POINTER_FORMAT, as_of, finished: false, ..pointer };
        store.put(POINTER, json(store, POINTER, &pointer)?)?;
    }
    let later = shown_after(store, job, generation, as_of)?;
    later.iter().try_for_each(|key| store.delete(key))?;
    Ok(later.len())
}

/// The files that [`take_back`] would remove.
///
/// # Errors
/// If they cannot be listed.
pub fn shown_after(store: &Store, job: &str, generation: u64, as_of: u64) -> Result<Vec<String>, StoreError> {
    let prefix = generation_prefix(job, generation);
    let mut later = store.list(&format!("{prefix}/view"))?;
    for of_epochs in ["history", "dead_letters"] {
        let all = store.list(&format!("{prefix}/{of_epochs}"))?;
        later.extend(all.into_iter().filter(|key| !is_through(key, as_of)));
    }
    Ok(later)
}

fn generation_prefix(job: &str, generation: u64) -> String {
    format!("{job}/gen-{generation:06}")
}

fn started_key(keys: &Keys) -> String {
    format!("{}/started.json", keys.prefix())
}

/// The numbers of a job's generations, ascending.
///
/// # Errors
/// If they cannot be listed.
pub fn generations(store: &Store, job: &str) -> Result<Vec<u64>, StoreError> {
    let folders = store.folders(job)?;
    let mut found: Vec<u64> = folders.iter().filter_map(|name| name.strip_prefix("gen-")?.parse().ok()).collect();
    found.sort_unstable();
    Ok(found)
}

fn read_pointer(store: &Store) -> Result<Option<PointerV2>, PublishError> {
    const EXPECTED: &str = "the pointer of a data directory";
    let place = store.place(POINTER);
    let Some(text) = store.get(POINTER)? else { return Ok(None) };
    let pointer: PointerV2 = serde_json::from_slice(&text).map_err(PublishError::unreadable(&place, EXPECTED))?;
    if !(1..=POINTER_FORMAT).contains(&pointer.format) {
        let wrong = format!("it has format {}, this program knows 1 to {POINTER_FORMAT}", pointer.format);
        return Err(PublishError::unreadable(&place, EXPECTED)(wrong));
    }
    Ok(Some(pointer))
}

fn json(store: &Store, key: &str, value: &impl Serialize) -> Result<Bytes, PublishError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(PublishError::encode(&store.place(key)))?;
    text.push(b'\n');
    Ok(text.into())
}

/// What no other run has: process, wall time, and a count within the process.
pub fn run_id() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let host = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let all = format!("{}-{time}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    format!("{:016x}{:016x}", xxhash_rust::xxh3::xxh3_64(&host), xxhash_rust::xxh3::xxh3_64(all.as_bytes()))
}
