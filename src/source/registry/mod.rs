//! The schema registry of Avro sources: a thread that fetches what decoders want, and keeps it.
//!
//! ```text
//! partition ── wants 7 ──► Schemas ◄── 7 is known ── registry thread ── GET /schemas/ids/7 ──► registry
//!                             ▲                            └── put if absent ──► <store>/<job>/schemas/7.json
//!                             └── at the start: all that was kept, and what the dataset brings
//! ```
//!
//! Upholds: (1) workers never wait: who wants a schema looks again at its next turn; (2) a registry that does not answer is asked again for as
//! long as somebody wants something of it, ever less often up to [`BACKOFF_MAX`]; (3) what was known once needs no registry, in this run and
//! in those after it; (4) what the registry says again and again there is not is not asked for again within a minute.
//! Keeps: what could not be put into the store yet.
//! Absent on purpose: registering schemas, and asking for the latest one of a subject: a record says which is its own.

mod client;
mod kept;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use self::client::{Client, Fetched};
use self::kept::Kept;
use crate::config::{Format, Job};
use crate::decode::avro::{Known, Schemas, Waiting};
use crate::observe::Counter;
use crate::observe::metrics::{self, Observed, Sample};
use crate::store::{Store, StoreError};

pub use self::client::RegistryError;
pub use self::kept::{DATASET_FOLDER, FileError, load_dataset};

/// Between two attempts, from the first failure on.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Answers in a row that must agree before an id counts as unknown: a follower of the registry's leader learns of a schema a moment
/// later than who wrote records by it.
const AGREEING_ANSWERS: u32 = 3;
/// Between two of them.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long the thread waits for something to do, and so for its end.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two lines about a registry that does not answer.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Why an Avro source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SchemasError {
    /// The registry cannot be asked at all.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The dataset's schemas.
    #[error(transparent)]
    File(#[from] FileError),
    /// What was kept.
    #[error("could not read the schemas that were kept")]
    Store(#[from] StoreError),
    /// The thread.
    #[error("could not start the thread that asks the schema registry")]
    Thread(#[source] std::io::Error),
}

/// The schemas of a run, and the thread that fetches them while this lives.
#[derive(Debug)]
pub struct SchemaRegistry {
    schemas: Arc<Schemas>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    closing: AtomicBool,
    closed: Arc<Notify>,
    failures: Counter,
}

impl SchemaRegistry {
    /// What a job needs to read Avro: nothing, if it has no such source.
    ///
    /// # Errors
    /// If the registry cannot be asked at all, or what is kept or brought along cannot be read. A registry that does not answer is no error.
    pub fn start(job: &Job, dataset: Option<&Path>, store: Option<&Store>) -> Result<SchemaRegistry, SchemasError> {
        SchemaRegistry::start_within(job, dataset, store, client::ANSWER_PATIENCE)
    }

    fn start_within(
        job: &Job,
        dataset: Option<&Path>,
        store: Option<&Store>,
        patience: Duration,
    ) -> Result<SchemaRegistry, SchemasError> {
        let mut registry = SchemaRegistry { schemas: Arc::default(), shared: Arc::default(), thread: None };
        if !job.sources.iter().any(|source| source.format == Format::Avro) {
            return Ok(registry);
        }
        if let Some(store) = store {
            kept::load(store, &job.name, &registry.schemas)?;
        }
        if let Some(dataset) = dataset {
            load_dataset(dataset, &registry.schemas)?;
        }
        if let Some(spec) = &job.schema_registry {
            let client = Client::new(spec, patience, Arc::clone(&registry.shared.closed))?;
            registry.schemas.serve();
            let (schemas, shared) = (Arc::clone(&registry.schemas), Arc::clone(&registry.shared));
            let keeper = Keeper { store: store.cloned(), job: job.name.clone(), unkept: BTreeMap::new(), due: Instant::now() };
            let fetcher = Fetcher { client, schemas, shared, keeper, unknown: BTreeMap::new() };
            let thread = thread::Builder::new().name("schema-registry".to_owned()).spawn(move || fetcher.run());
            registry.thread = Some(thread.map_err(SchemasError::Thread)?);
        }
        Ok(registry)
    }

    /// The schemas, for decoders.
    pub fn schemas(&self) -> &Arc<Schemas> {
        &self.schemas
    }
}

impl Drop for SchemaRegistry {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.closed.notify_one();
        self.schemas.wake();
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the schema registry's thread panicked");
            }
        }
    }
}

/// Tells of schemas, and of who waits for one; see [`SchemaRegistry::observed`].
struct RegistryObserved {
    schemas: Arc<Schemas>,
    shared: Arc<Shared>,
}

impl SchemaRegistry {
    /// Who has its numbers.
    pub fn observed(&self) -> Arc<dyn Observed> {
        Arc::new(RegistryObserved { schemas: Arc::clone(&self.schemas), shared: Arc::clone(&self.shared) })
    }
}

impl Observed for RegistryObserved {
    fn collect(&self, sample: &mut Sample) {
        sample.count(&metrics::SCHEMAS, &[], self.schemas.len() as u64);
        sample.count(&metrics::REGISTRY_FAILURES, &[], self.shared.failures.get());
        for (id, Waiting { since, partitions }) in self.schemas.wanted(Duration::ZERO) {
            for (topic, numbers) in partitions {
                for partition in numbers {
                    sample.age(&metrics::SCHEMA_WAIT, &[&topic, &partition.to_string(), &id.to_string()], since);
                }
            }
        }
    }
}

/// The thread that fetches.
struct Fetcher {
    client: Client,
    schemas: Arc<Schemas>,
    shared: Arc<Shared>,
    keeper: Keeper,
    /// Ids that the registry does not know, with how often it said so in a row.
    unknown: BTreeMap<u32, u32>,
}

impl Fetcher {
    fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        let mut failing: Option<Instant> = None;
        loop {
            let wanted = self.schemas.wanted(LOOK_EVERY);
            if self.shared.closing.load(Ordering::Acquire) {
                return;
            }
            let (mut failed, mut unsure) = (false, false);
            for (id, waiting) in wanted {
                match self.client.fetch(id) {
                    Ok(Fetched::Schema(kept)) => {
                        let known = kept.known();
                        match &known {
                            Known::Schema(_) => tracing::info!(schema = id, "schema fetched"),
                            Known::Refused(why) => tracing::warn!(schema = id, %why, "a schema cannot be read by"),
                        }
                        self.schemas.add(id, known);
                        self.keeper.keep(kept);
                    }
                    Ok(Fetched::Unknown(why)) if !self.agreed(id) => {
                        tracing::debug!(schema = id, why, "asked again, to be sure");
                        unsure = true;
                    }
                    Ok(Fetched::Unknown(why) | Fetched::Unreadable(why)) => {
                        tracing::warn!(schema = id, why, "there is no such schema: records that name it are dead letters");
                        self.schemas.add(id, Known::Refused(why.into()));
                    }
                    Err(_) if self.shared.closing.load(Ordering::Acquire) => return,
                    Err(trouble) => {
                        failed = true;
                        self.shared.failures.add(1);
                        if failing.is_none_or(|said| said.elapsed() > SAY_EVERY) {
                            failing = Some(Instant::now());
                            say_waiting(id, &waiting, &trouble.to_string());
                        }
                    }
                }
                if self.shared.closing.load(Ordering::Acquire) {
                    return;
                }
            }
            self.keeper.keep_more();
            if failed {
                thread::park_timeout(backoff);
                backoff = (backoff * 2).min(BACKOFF_MAX);
                continue;
            }
            backoff = BACKOFF_MIN;
            if failing.take().is_some() {
                tracing::info!("the schema registry answers again");
            }
            if unsure {
                thread::park_timeout(ASK_AGAIN);
            }
        }
    }
}

impl Fetcher {
    /// Whether a registry has said often enough that it does not know an id.
    fn agreed(&mut self, id: u32) -> bool {
        let answers = self.unknown.entry(id).or_insert(0);
        *answers += 1;
        let agreed = *answers >= AGREEING_ANSWERS;
        if agreed {
            self.unknown.remove(&id);
        }
        agreed
    }
}

fn say_waiting(id: u32, waiting: &Waiting, trouble: &str) {
    let of_topic = |(topic, numbers): (&String, &BTreeSet<u32>)| {
        let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
        format!("{topic}/{}", numbers.join(","))
    };
    let partitions: Vec<String> = waiting.partitions.iter().map(of_topic).collect();
    let since = crate::publish::time::instant(i64::try_from(waiting.since).unwrap_or(i64::MAX));
    tracing::warn!(
        schema = id,
        partitions = partitions.join(" "),
        %since,
        trouble,
        "the schema registry does not answer: these partitions wait, and hold the frontier, until it does"
    );
}

/// Puts schemas into the store.
struct Keeper {
    store: Option<Store>,
    job: String,
    /// What the store did not take yet, and when it is asked again.
    unkept: BTreeMap<u32, Kept>,
    due: Instant,
}

impl Keeper {
    fn keep(&mut self, kept: Kept) {
        self.unkept.insert(kept.id, kept);
        self.due = Instant::now();
    }

    /// Tries again with all that is not kept; trouble is said once per attempt.
    fn keep_more(&mut self) {
        let Some(store) = &self.store else { return self.unkept.clear() };
        if self.unkept.is_empty() || self.due > Instant::now() {
            return;
        }
        self.due = Instant::now() + BACKOFF_MAX;
        let job = &self.job;
        self.unkept.retain(|id, kept| match kept::keep(store, job, kept) {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(schema = id, %error, "could not keep a schema; trying again");
                true
            }
        });
    }
}
