//! Kafka and MSK as a source: which partitions there are, their records, and how far they are complete.
//!
//! ```text
//!            control client ──► list, ends, groups        ┌─ queue of partition 0 ─► KafkaInput ─► its worker
//! KafkaSource ├─ watch thread ──► ends, discovery, failure │
//!            data client ──► fetches ─────────────────────┼─ queue of partition 1 ─► KafkaInput ─► its worker
//!             └─ events thread ──► statistics, heartbeats └─ …
//! ```
//!
//! One source per process. Partitions are assigned by us: nobody joins the consumer group, and nothing rebalances. A
//! partition's queue is split from the client's *before* the partition is assigned: librdkafka keeps a queue that the
//! application has forwarded (here: to nowhere) as it is, so no record ever takes the way through the client's queue.
//!
//! Upholds: (1) each record of an open partition once, in order of position, from exactly the position asked for; (2) a
//! position that the log does not hold stops the job, with the range there is; nothing jumps; (3) workers never wait, and
//! never copy a record; (4) bytes waiting in queues are bounded (see `options`); (5) a broker that goes away stops nothing;
//! (6) no secret is in an error, a log line or a `Debug`.
//! Keeps: per open partition its position, the last answer of its broker, and librdkafka's queue.
//! Absent on purpose: decoding, clocks, and where positions are kept (the checkpoint's business; a group's offsets are
//! only reported). The topic's id: rust-rdkafka does not tell it, so a topic that was recreated *and* grew beyond our
//! position between two answers, a second apart, is not noticed.

mod context;
mod error;
mod failure;
mod heartbeats;
mod input;
mod options;
mod partition;
pub mod produce;
mod queries;
mod settings;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as Native;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

pub use error::KafkaError;
pub use input::{KafkaInput, Polled};
pub use settings::{KafkaSettings, Start};

pub(crate) use options::Options;
pub(crate) use settings::shown;

use crate::config::{Idle, Job, matches_pattern};
use crate::observe::metrics::{self, Observed, Sample};
use context::{Context, lock};
use failure::Failure;
use heartbeats::Heartbeats;
use partition::{PartitionState, Partitions};
use queries::{Control, Place, signed};

/// How long a first answer may take; librdkafka needs up to two seconds to find that nobody listens.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// Topics named in a message.
const TOPICS_SHOWN: usize = 10;
/// Looks at a log that does not seem to hold a position: right after a leader changed its end may be an old one.
const LOOKS: u32 = 3;

/// A partition that the job reads, and its log.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: u32,
    /// The first position there is.
    pub low: u64,
    /// The position after the last committed record.
    pub high: u64,
    /// Where it starts, by [`KafkaSettings::start`]; within `low..=high`.
    pub start: u64,
}

/// A partition to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: u32,
    /// The first position to read.
    pub from: u64,
    /// The position to end before; `None`: read on forever.
    pub until: Option<u64>,
}

/// How a partition is getting on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: u32,
    /// The next position its worker takes.
    pub position: u64,
    /// The end of its log as last answered; 0 before.
    pub high: u64,
    /// Wall time (ms) at which that was asked for; 0 before.
    pub high_at: u64,
    /// Positions between what was taken and the end; 0 if only markers of transactions are left.
    pub lag: u64,
    /// Bytes fetched and not yet taken, as of librdkafka's last statistics (each second).
    pub waiting_bytes: u64,
}

/// The topics of a job. Cheap to clone; closed when the last clone goes.
#[derive(Clone)]
pub struct KafkaSource {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads share with whoever holds the source.
struct Shared {
    settings: KafkaSettings,
    options: Options,
    context: Context,
    /// Topic names and patterns of the job.
    patterns: Vec<String>,
    /// Those whose quiet partitions wait for heartbeats.
    heartbeat_patterns: Vec<String>,
    control: Control,
    data: RwLock<Option<Arc<BaseConsumer<Context>>>>,
    partitions: Partitions,
    /// Partitions that were listed, opened or discovered.
    known: Mutex<BTreeSet<Place>>,
    discovered: Mutex<Vec<Listed>>,
    heartbeats: Heartbeats,
    failure: Arc<Failure>,
    closing: AtomicBool,
}

impl KafkaSource {
    /// Connects, and proves that brokers are reachable and let us in.
    ///
    /// # Errors
    /// If an option is wrong, no broker answers in time, or one refuses; see [`KafkaError`].
    pub fn connect(job: &Job, settings: &KafkaSettings) -> Result<KafkaSource, KafkaError> {
        KafkaSource::connect_within(job, settings, CONNECT_PATIENCE)
    }

    fn connect_within(job: &Job, settings: &KafkaSettings, patience: Duration) -> Result<KafkaSource, KafkaError> {
        let options = Options::resolve(&settings.brokers, &settings.options)?;
        let partitions = Partitions::default();
        let context = Context::new(options.secrets(), partitions.clone());
        let control = Control::connect(&settings.brokers, &options, &settings.group, context.clone(), patience)?;
        let heartbeats = job.sources.iter().filter(|source| source.idle == Idle::Heartbeat);
        let shared = Arc::new(Shared {
            settings: settings.clone(),
            options,
            context,
            patterns: job.sources.iter().flat_map(|source| source.topics.clone()).collect(),
            heartbeat_patterns: heartbeats.flat_map(|source| source.topics.clone()).collect(),
            control,
            data: RwLock::new(None),
            partitions,
            known: Mutex::default(),
            discovered: Mutex::default(),
            heartbeats: Heartbeats::default(),
            failure: Arc::default(),
            closing: AtomicBool::new(false),
        });
        let mut inner = Inner { shared: Arc::clone(&shared), threads: Vec::new() };
        inner.start("kafka-events", watch::serve_events)?;
        inner.start("kafka-watch", watch::watch)?;
        Ok(KafkaSource { inner: Arc::new(inner) })
    }

    /// All partitions of all topics that the job reads, by topic and number, less those excluded.
    ///
    /// # Errors
    /// If a topic is unknown, a stored position is outside its log, or brokers do not answer.
    pub fn list(&self) -> Result<Vec<Listed>, KafkaError> {
        let shared = &self.inner.shared;
        let topics = shared.control.topics()?;
        shared.check_topics(&topics)?;
        let places = shared.wanted(&topics);
        let ranges = shared.control.ranges(&places)?;
        let starts = match shared.settings.start {
            Start::Earliest | Start::Latest => vec![None; places.len()],
            Start::Timestamp(millis) => {
                shared.control.offsets(&places, Offset::Offset(i64::try_from(millis).unwrap_or(i64::MAX)))?
            }
            Start::Stored => shared.control.stored(&places)?,
        };
        lock(&shared.known).extend(places.iter().cloned());
        let listed = places.into_iter().zip(ranges.into_iter().zip(starts));
        listed
            .map(|((topic, partition), ((low, high), found))| {
                let start = match (shared.settings.start, found) {
                    (Start::Earliest | Start::Stored, None) => low,
                    (Start::Latest | Start::Timestamp(_), None) => high,
                    // A log may have moved on since it was asked for its range.
                    (Start::Timestamp(_) | Start::Earliest | Start::Latest, Some(found)) => found.clamp(low, high),
                    (Start::Stored, Some(wanted)) if !(low..=high).contains(&wanted) => {
                        return Err(KafkaError::OutsideLog { topic, partition, wanted, low, high });
                    }
                    (Start::Stored, Some(found)) => found,
                };
                Ok(Listed { topic, partition, low, high, start })
            })
            .collect()
    }

    /// Opens partitions, in the order asked for. Those opened before are not disturbed. The bytes in flight are shared out
    /// among the partitions of the first call.
    ///
    /// # Errors
    /// If a position is outside its log, or librdkafka refuses.
    pub fn open(&self, wanted: &[Opening]) -> Result<Vec<KafkaInput>, KafkaError> {
        let shared = &self.inner.shared;
        shared.check_positions(wanted)?;
        let data = shared.data(wanted.len())?;
        let mut assignment = TopicPartitionList::with_capacity(wanted.len());
        let mut inputs = Vec::with_capacity(wanted.len());
        let refused = |source: Native| KafkaError::Request { what: "assign partitions".to_owned(), source };
        for Opening { topic, partition, from, until } in wanted {
            // Before it is assigned; see the head of this module.
            let Some(queue) = data.split_partition_queue(topic, signed(*partition)) else {
                let what = format!("split the queue of topic \"{topic}\" partition {partition}");
                return Err(KafkaError::Request { what, source: Native::Canceled });
            };
            let waits = shared.heartbeat_patterns.iter().any(|pattern| matches_pattern(pattern, topic));
            let heartbeats_of = waits.then(|| heartbeats::prefix_of(topic).to_owned());
            let state = Arc::new(PartitionState::new(topic, *partition, *from, heartbeats_of));
            shared.partitions.insert(Arc::clone(&state));
            lock(&shared.known).insert((topic.clone(), *partition));
            if until.is_none_or(|until| *from < until) {
                let offset = Offset::Offset(i64::try_from(*from).unwrap_or(i64::MAX));
                assignment.add_partition_offset(topic, signed(*partition), offset).map_err(refused)?;
            }
            inputs.push(KafkaInput::new(queue, state, Arc::clone(&shared.failure), *until));
        }
        if assignment.count() > 0 {
            data.incremental_assign(&assignment).map_err(refused)?;
        }
        if !shared.heartbeat_patterns.is_empty() {
            shared.read_heartbeats(&shared.control.topics()?)?;
        }
        self.inner.wake();
        Ok(inputs)
    }

    /// Partitions that appeared since they were listed, each told once.
    pub fn discovered(&self) -> Vec<Listed> {
        std::mem::take(&mut *lock(&self.inner.shared.discovered))
    }

    /// How the open partitions are getting on, by topic and number.
    pub fn status(&self) -> Vec<PartitionStatus> {
        let status = |state: &Arc<PartitionState>| {
            let (high, high_at) = state.answer().asked.unwrap_or((0, 0));
            PartitionStatus {
                topic: state.topic.clone(),
                partition: state.partition,
                position: state.position(),
                high,
                high_at,
                lag: high.saturating_sub(state.reached()),
                waiting_bytes: state.waiting_bytes(),
            }
        };
        self.inner.shared.partitions.all().iter().map(status).collect()
    }

    /// Reports positions as the group's offsets, for lag tools. Neither waits nor fails; trouble is logged at most once a
    /// minute.
    pub fn report(&self, positions: &[(String, u32, u64)]) {
        let shared = &self.inner.shared;
        if positions.is_empty() {
            return;
        }
        if let Err(error) = shared.control.report(positions) {
            rdkafka::consumer::ConsumerContext::commit_callback(&shared.context, Err(error), &TopicPartitionList::new());
        }
    }

    /// What a background thread found that must stop the job.
    pub fn failure(&self) -> Option<KafkaError> {
        self.inner.shared.failure.get()
    }

    /// Ends the threads, if this is the last clone. Inputs that are still open give no more records.
    pub fn close(self) {
        drop(self);
    }
}

impl Observed for KafkaSource {
    fn collect(&self, sample: &mut Sample) {
        for of in self.status() {
            sample.count(&metrics::PARTITION_LAG, &[&of.topic, &of.partition.to_string()], of.lag);
            sample.count(&metrics::IN_FLIGHT, &[], of.waiting_bytes);
        }
    }
}

impl Inner {
    fn start(&mut self, name: &'static str, run: fn(&Shared)) -> Result<(), KafkaError> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
        let thread = thread.map_err(|error| KafkaError::Thread { name, reason: error.to_string() })?;
        self.threads.push(thread);
        Ok(())
    }

    /// New work: the threads need not wait for their next turn.
    fn wake(&self) {
        self.threads.iter().for_each(|thread| thread.thread().unpark());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.wake();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a kafka thread panicked");
            }
        }
    }
}

impl Shared {
    /// Partitions of the topics that the job reads, by topic and number.
    fn wanted(&self, topics: &BTreeMap<String, u32>) -> Vec<Place> {
        let read = topics.iter().filter(|(topic, _)| self.patterns.iter().any(|pattern| matches_pattern(pattern, topic)));
        let places = read.flat_map(|(topic, partitions)| (0..*partitions).map(|partition| (topic.clone(), partition)));
        places.filter(|place| !self.settings.exclude.contains(place)).collect()
    }

    fn check_topics(&self, topics: &BTreeMap<String, u32>) -> Result<(), KafkaError> {
        let unknown = self.patterns.iter().find(|pattern| !topics.keys().any(|topic| matches_pattern(pattern, topic)));
        let Some(unknown) = unknown else { return Ok(()) };
        let own: Vec<String> = topics.keys().filter(|topic| !topic.starts_with("__")).map(|t| format!("\"{t}\"")).collect();
        let more = own.len().saturating_sub(TOPICS_SHOWN);
        let found = match own.get(..TOPICS_SHOWN.min(own.len())) {
            None | Some([]) => "no topics".to_owned(),
            Some(some) if more > 0 => format!("{} and {more} more", some.join(", ")),
            Some(some) => some.join(", "),
        };
        Err(KafkaError::UnknownTopic { topic: unknown.clone(), brokers: self.control.brokers.clone(), found })
    }

    fn check_positions(&self, wanted: &[Opening]) -> Result<(), KafkaError> {
        let places: Vec<Place> = wanted.iter().map(|opening| (opening.topic.clone(), opening.partition)).collect();
        let mut outside = Ok(());
        for look in 0..LOOKS {
            if look > 0 {
                thread::sleep(Duration::from_millis(500));
            }
            let ranges = self.control.ranges(&places)?;
            let lost = wanted.iter().zip(ranges).find(|(opening, (low, high))| !(*low..=*high).contains(&opening.from));
            let Some((Opening { topic, partition, from, .. }, (low, high))) = lost else { return Ok(()) };
            let (topic, partition) = (topic.clone(), *partition);
            outside = Err(KafkaError::OutsideLog { topic, partition, wanted: *from, low, high });
        }
        outside
    }

    /// The client that reads; made once the number of partitions is known, as it decides how the bytes are shared.
    fn data(&self, partitions: usize) -> Result<Arc<BaseConsumer<Context>>, KafkaError> {
        let mut data = self.data.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(data) = &*data {
            return Ok(Arc::clone(data));
        }
        let config = self.options.data(&self.settings, partitions);
        let client = config.create_with_context(self.context.clone()).map_err(queries::unmade)?;
        Ok(Arc::clone(data.insert(Arc::new(client))))
    }

    /// Starts reading the heartbeat topics that there are by now, each from its last heartbeat. They are not split: the
    /// events thread reads them from the client's queue.
    fn read_heartbeats(&self, topics: &BTreeMap<String, u32>) -> Result<(), KafkaError> {
        let prefixes: BTreeSet<String> = self.partitions.all().iter().filter_map(|state| state.heartbeats_of.clone()).collect();
        let topics = prefixes.iter().map(|prefix| heartbeats::topic_of(prefix)).filter_map(|topic| {
            let partitions = *topics.get(&topic)?;
            Some((topic, partitions))
        });
        let mut open = lock(&self.heartbeats.open);
        let places = topics.flat_map(|(topic, partitions)| (0..partitions).map(move |partition| (topic.clone(), partition)));
        let fresh: Vec<Place> = places.filter(|place| !open.contains(place)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let refused = |source: Native| KafkaError::Request { what: "assign heartbeat topics".to_owned(), source };
        let mut assignment = TopicPartitionList::with_capacity(fresh.len());
        for ((topic, partition), (low, high)) in fresh.iter().zip(self.control.ranges(&fresh)?) {
            let last = Offset::Offset(i64::try_from(high.saturating_sub(1).max(low)).unwrap_or(i64::MAX));
            assignment.add_partition_offset(topic, signed(*partition), last).map_err(refused)?;
        }
        self.data(fresh.len())?.incremental_assign(&assignment).map_err(refused)?;
        open.extend(fresh);
        Ok(())
    }
}
