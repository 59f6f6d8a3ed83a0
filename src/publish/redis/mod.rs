//! The view in Redis: the serving copy that APIs read.
//!
//! ```text
//! view in memory ──► changes, expired windows ──► sink ──► one thread: pipelines of guarded scripts ──► Redis
//!      └───────────────── whole buckets, when Redis lost them ──────────┘                               │
//! export, verify ◄── reader ◄───────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Cells live in 1,024 buckets, one per shard, so a store is wholly in one; keys and fields are described in
//! `docs/redis-view.md`. A worker owns the buckets that are its shards and writes them from its own process.
//!
//! Upholds: (1) a bucket moves from one as-of to the next in one script, only from where its writer left it, so a store is
//! always one cut and a stale writer moves nothing; (2) Redis going away stops and loses nothing: what it lost is written
//! again from the view in memory; (3) passwords appear in no message and no log; (4) no worker ever waits for Redis.
//! Keeps: a bounded number of changes, the newest window per store, the members of top lists.
//! Absent on purpose: any decision about values; and reading by stores, which is one command for any client.

mod applier;
pub(crate) mod bucket;
pub mod error;
pub(crate) mod keys;
pub(crate) mod link;
pub(crate) mod marker;
mod pending;
pub(crate) mod reader;
mod rebuild;
mod settings;
mod sink;
mod status;
mod steps;
mod sweep;
mod tops;
mod totals;
mod writer;

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

pub use error::RedisError;
pub use marker::CurrentView;
pub use reader::ViewRows;
pub use settings::{RedisSettings, SecretUrl};
pub use sink::{RedisSink, RedisStats};

use super::layout::About;
use super::view::MemoryView;
use crate::observe::status::ProcessStatus;
use keys::Keys;
use link::Link;
use sink::Shared;
use writer::Writer;

/// A connection to the Redis view of a job.
pub struct RedisView {
    link: Link,
    settings: RedisSettings,
    job: String,
    status: Option<status::Ask>,
}

impl RedisView {
    /// Connects for a job of that name.
    ///
    /// # Errors
    /// One for each way in which it cannot be: nobody there, wrong password, no permission, not Redis, wrong mode.
    pub fn connect(settings: &RedisSettings, job: &str) -> Result<RedisView, RedisError> {
        Ok(RedisView { link: Link::connect(settings)?, settings: settings.clone(), job: job.to_owned(), status: None })
    }

    /// The same, and once it is [started](RedisView::start), what the process says of itself is written beside the view, every two seconds
    /// and at the end. `status` must not wait.
    pub fn telling(self, status: impl Fn() -> ProcessStatus + Send + 'static) -> RedisView {
        RedisView { status: Some(Box::new(status)), ..self }
    }

    /// The view that the job's pointer names; `None` if there is none.
    ///
    /// # Errors
    /// If Redis does not answer, or with something that is not a view.
    pub fn current(&mut self) -> Result<Option<CurrentView>, RedisError> {
        marker::current(&mut self.link, &self.job)
    }

    /// All rows of the job's current view.
    ///
    /// # Errors
    /// If there is none, or it is not whole, or it keeps changing.
    pub fn read(&mut self) -> Result<ViewRows, RedisError> {
        let current = self.current()?;
        let missing = || RedisError::NoView { job: self.job.clone(), server: self.settings.url.server().to_owned() };
        let current = current.ok_or_else(missing)?;
        reader::read(&mut self.link, current)
    }

    /// How far a generation of the job is in Redis, milliseconds: the greatest as-of that its marker or any of its buckets shows;
    /// `None` if nothing is there. A run that continues it from a checkpoint before that would take back what readers have seen.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub fn furthest(&mut self, generation: u64) -> Result<Option<u64>, RedisError> {
        marker::furthest(&mut self.link, &Keys::new(&self.job, generation))
    }

    /// Removes all keys of a generation of the job but the pointer. Nobody may be writing it.
    ///
    /// # Errors
    /// If Redis does not answer; some may be gone then.
    pub fn remove(&mut self, generation: u64) -> Result<(), RedisError> {
        sweep::remove(&mut self.link, &Keys::new(&self.job, generation))
    }

    /// Starts the thread that keeps generation `about` in Redis equal to `view`.
    ///
    /// `workers` are the indices of this process's workers among `peers` workers of all processes; `view` holds their parts.
    /// If `view` is not empty, or the generation has been written before, by however many workers, its buckets are first written
    /// in full. The view must not be behind what the generation shows; see [`RedisView::furthest`].
    pub fn start(self, about: &About, view: Arc<MemoryView>, workers: Range<usize>, peers: usize) -> RedisSink {
        let shared = Arc::new(Shared::new(&workers));
        let server = self.settings.url.server().to_owned();
        let setting = writer::Setting { settings: self.settings, view, workers, peers, run: run_id(), status: self.status };
        RedisSink::start(Writer::new(setting, self.link, about, Arc::clone(&shared)), shared, server)
    }
}

/// A name for this process's writing that no other has: from the operating system's randomness, through the standard
/// library's hash seeds.
fn run_id() -> String {
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_u128(SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos()));
    format!("{:016x}", hasher.finish())
}
