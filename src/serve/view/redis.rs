//! The view that a job publishes into Redis, read for whoever asks. Keys and fields are those of `docs/redis-view.md`; how they are read is
//! shared with [`crate::publish::redis`].
//!
//! ```text
//! shown, store, top … ─► RedisServed ─► commands ─► Link (one connection, many requests) ─► Redis
//!                           └─ the marker as it was read last
//! ```
//!
//! Upholds: (1) a store's hashes are read in one `MULTI` with their bucket's guard, or in several between which the guard stood still; (2) what
//! comes back is as of the guard or of the marker, whichever is later: a bucket that is behind the marker has not changed since, as the marker
//! moves last; (3) of a bucket that is being written in full, or has lost its guard, nothing is told: it may be half of two cuts;
//! (4) no request asks for more keys than there can be.
//! Keeps: the marker, for [`MARKER_AGE`] at most, and never past the connection over which it came.
//! Absent on purpose: a cache of answers, which is the server's.

mod link;
mod stores;
mod sums;

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::redis::{Cmd, Value, cmd};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use storeflow_dataflows::table::Window;

use self::link::Link;
use super::{Measure, Shown, StoreCut, StoreIds, TopStores, Totals, View, ViewError};
use crate::observe::locked;
use crate::observe::status::ProcessStatus;
use crate::publish::layout::About;
use crate::publish::redis::keys::{self, Keys};
use crate::publish::redis::link::pairs;
use crate::publish::redis::{CurrentView, RedisError, RedisSettings, marker};

/// How old what is known of the marker may be.
const MARKER_AGE: Duration = Duration::from_secs(1);

/// Times something is read that moves or is not whole for a moment, and what is waited in between.
const ATTEMPTS: u32 = 8;
const BETWEEN: Duration = Duration::from_millis(100);

/// The view of a job in Redis.
pub struct RedisServed {
    link: Link,
    job: String,
    marked: Mutex<Option<Arc<Marked>>>,
}

/// What a marker said.
#[derive(Debug)]
struct Marked {
    about: Arc<About>,
    as_of: u64,
    extended: bool,
    keys: Keys,
    read: Instant,
    /// The connection it came over.
    number: u64,
}

/// Why an attempt gave nothing.
#[derive(Debug)]
enum Miss {
    /// It may be whole in a moment: what is not is said.
    Unsettled(String),
    /// Another attempt may not help.
    Failed(RedisError),
}

impl From<RedisError> for Miss {
    fn from(error: RedisError) -> Miss {
        Miss::Failed(error)
    }
}

/// It is not whole now; it will be.
#[derive(Debug, thiserror::Error)]
#[error("{0}; it is whole again in a moment")]
struct Unsettled(String);

impl std::fmt::Debug for RedisServed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisServed").field("server", &self.link.server()).field("job", &self.job).finish_non_exhaustive()
    }
}

impl RedisServed {
    /// The view of a job of that name. Nothing is asked for yet: Redis may still be away.
    pub fn connect(settings: &RedisSettings, job: &str) -> RedisServed {
        RedisServed { link: Link::new(settings), job: job.to_owned(), marked: Mutex::default() }
    }

    /// What the marker says, asked for now.
    async fn look(&self) -> Result<Arc<Marked>, ViewError> {
        const MARKER: &str = "read the marker";
        let failed = |error| self.unavailable(MARKER, error);
        // Without any connection yet, these questions make the first.
        let number = self.link.number().max(1);
        for _ in 0..2 {
            let pointer = self.one(MARKER, cmd("HGET").arg(keys::pointer(&self.job)).arg("generation")).await.map_err(failed)?;
            let Some(generation) = marker::pointed(&self.job, &pointer).map_err(failed)? else { break };
            let keys = Keys::new(&self.job, generation);
            let answer = self.one(MARKER, cmd("HGETALL").arg(keys.about())).await.map_err(failed)?;
            // Gone, if a later generation took over in between.
            let Some(found) = marker::read(&self.job, generation, answer).map_err(failed)? else { continue };
            let CurrentView { about, as_of, extended, run: _ } = found;
            let mut known = locked(&self.marked);
            let about = match &*known {
                Some(known) if *known.about == about => Arc::clone(&known.about),
                _ => Arc::new(about),
            };
            let marked = Arc::new(Marked { about, as_of, extended, keys, read: Instant::now(), number });
            *known = Some(Arc::clone(&marked));
            return Ok(marked);
        }
        Err(ViewError::Nothing(format!("no view of job \"{}\" in Redis at {}", self.job, self.link.server())))
    }

    /// The same, a moment old at most.
    async fn marked(&self) -> Result<Arc<Marked>, ViewError> {
        let known = locked(&self.marked).clone();
        match known {
            Some(known) if known.read.elapsed() < MARKER_AGE && known.number == self.link.number() => Ok(known),
            _ => self.look().await,
        }
    }

    /// Reads something until it is whole, with the marker as it is each time.
    async fn settled<T, F>(&self, what: &str, attempt: impl Fn(Arc<Marked>, u32) -> F) -> Result<T, ViewError>
    where
        F: Future<Output = Result<T, Miss>>,
    {
        let mut marked = self.marked().await?;
        for number in 0.. {
            let connection = marked.number;
            let found = attempt(marked, number).await;
            // Over another connection than the marker's, Redis may be another, or have less than it had.
            let found = match found {
                Ok(_) if self.link.number() != connection => Err(Miss::Unsettled("the connection is a new one".to_owned())),
                found => found,
            };
            match found {
                Ok(found) => return Ok(found),
                Err(Miss::Failed(error)) => return Err(self.unavailable(what, error)),
                Err(Miss::Unsettled(why)) if number >= ATTEMPTS => return Err(self.unavailable(what, Unsettled(why))),
                Err(Miss::Unsettled(_)) => {}
            }
            // The first time at once: the generation may have been replaced.
            if number > 0 {
                tokio::time::sleep(BETWEEN).await;
            }
            marked = self.look().await?;
        }
        unreachable!("attempts are counted")
    }

    async fn one(&self, action: &'static str, command: &Cmd) -> Result<Value, RedisError> {
        Ok(self.link.ask_each(action, std::slice::from_ref(command)).await?.pop().unwrap_or(Value::Nil))
    }

    fn unavailable(&self, what: &str, error: impl std::error::Error + Send + Sync + 'static) -> ViewError {
        ViewError::Unavailable { what: format!("{what} of the view in Redis at {}", self.link.server()), source: Box::new(error) }
    }

    async fn statuses(&self, keys: &Keys) -> Result<Vec<ProcessStatus>, ViewError> {
        const STATUS: &str = "read the status";
        let answer =
            self.one(STATUS, cmd("HGETALL").arg(keys.status())).await.map_err(|error| self.unavailable(STATUS, error))?;
        Ok(statuses(answer))
    }
}

/// The processes of the newest report, by index. What cannot be read is of another version, and left out.
fn statuses(answer: Value) -> Vec<ProcessStatus> {
    let mut found: Vec<ProcessStatus> = pairs(answer).iter().filter_map(|(_, json)| serde_json::from_slice(json).ok()).collect();
    let processes = found.iter().max_by_key(|status| status.reported).map_or(0, |newest| newest.processes);
    // Those beyond are of a run that had more of them.
    found.retain(|status| status.process < processes);
    found.sort_by_key(|status| status.process);
    found
}

impl View for RedisServed {
    fn place(&self) -> &'static str {
        "redis"
    }

    fn shown(&self) -> BoxFuture<'_, Result<Shown, ViewError>> {
        async move {
            // The status first: whoever says that it has ended has moved the marker before.
            let known = self.marked().await?;
            let statuses = self.statuses(&known.keys).await?;
            let marked = self.look().await?;
            // Who was told to stop may go on later, and is late until then.
            let ended = |status: &ProcessStatus| status.ended && status.finished && status.processes == statuses.len();
            let finished =
                known.about.generation == marked.about.generation && !statuses.is_empty() && statuses.iter().all(ended);
            Ok(Shown { about: Arc::clone(&marked.about), as_of: marked.as_of, finished })
        }
        .boxed()
    }

    fn now(&self) -> Option<Arc<About>> {
        locked(&self.marked).as_ref().map(|marked| Arc::clone(&marked.about))
    }

    fn store<'v>(&'v self, store: &'v str, windows: Range<Window>, most: usize) -> BoxFuture<'v, Result<StoreCut, ViewError>> {
        let cut = move |marked, attempt| stores::cut(&self.link, marked, store, windows.clone(), most, attempt);
        async move { self.settled("read a store", cut).await }.boxed()
    }

    fn stores<'v>(&'v self, prefix: &'v str, after: Option<&'v str>, most: usize) -> BoxFuture<'v, Result<StoreIds, ViewError>> {
        let ids = move |marked, _| stores::ids(&self.link, marked, prefix, after, most);
        async move { self.settled("read ids of stores", ids).await }.boxed()
    }

    fn top<'v>(&'v self, measure: &'v Measure, window: Window, most: usize) -> BoxFuture<'v, Result<TopStores, ViewError>> {
        let top = move |marked, _| sums::top(&self.link, marked, measure, window, most);
        async move { self.settled("read a top list", top).await }.boxed()
    }

    fn totals(&self, windows: Range<Window>, most: usize) -> BoxFuture<'_, Result<Totals, ViewError>> {
        let totals = move |marked, _| sums::totals(&self.link, marked, windows.clone(), most);
        async move { self.settled("read totals", totals).await }.boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<Vec<ProcessStatus>, ViewError>> {
        async move {
            let marked = self.marked().await?;
            if marked.extended { self.statuses(&marked.keys).await } else { Ok(Vec::new()) }
        }
        .boxed()
    }
}
