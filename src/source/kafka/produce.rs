//! A dataset into topics: the way in for tests, demos and backfills.
//!
//! Upholds: (1) what is read from Kafka is what a replay reads from the files: same keys, values, timestamps and order
//! within a partition, lines of white space left out; (2) each record once: the producer is idempotent, and the first record
//! that cannot be delivered ends everything with its reason.
//! An envelope that is none after all (a dead letter in a replay) goes as it stands, as a value without timestamp.
//! Keeps: one chunk of each file, and librdkafka's queue, which is bounded.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::context::{Context, lock};
use super::partition::Partitions;
use super::queries::{Control, REQUEST_TIMEOUT, signed, unmade};
use super::{CONNECT_PATIENCE, KafkaError, Options, shown};
use crate::source::dataset::PartitionFile;
use crate::source::envelope::Envelopes;
use crate::source::lines::Lines;

/// Records of one partition sent before it is the next one's turn: all partitions grow together.
const TURN: usize = 64;
/// Bytes of a file read at once.
const CHUNK: usize = 256 << 10;
/// Between two lines about progress.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Shorter waits than this are not worth a call; the next one makes up for it.
const NAP_MIN: Duration = Duration::from_millis(2);
/// How long the last records may take to arrive.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);

/// What to load and how.
#[derive(Clone)]
pub struct Produce {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Properties of librdkafka; see [`super::KafkaSettings::options`].
    pub options: Vec<(String, String)>,
    /// Goes before every topic's name.
    pub topic_prefix: String,
    /// Records per second; `None`: as fast as it goes.
    pub rate: Option<u64>,
    /// Copies of each partition of created topics.
    pub replication: i32,
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub compression: &'static str,
}

impl std::fmt::Debug for Produce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Produce { brokers, options, topic_prefix, rate, replication, compression } = self;
        let options = shown(options);
        write!(f, "{brokers} {options:?} {topic_prefix:?} {rate:?} {replication} {compression}")
    }
}

/// What was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// By name.
    pub topics: Vec<Topic>,
    /// From the first record to the last acknowledgement.
    pub took: Duration,
}

/// What was loaded into a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Partitions of the dataset.
    pub partitions: u32,
    /// Whether it was created.
    pub created: bool,
    /// Records sent.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// Why a dataset could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// Kafka could not be reached or asked.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A partition file could not be read.
    #[error("could not read \"{}\"", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A topic has fewer partitions than the dataset.
    #[error(
        "topic \"{topic}\" has {found} partitions, but the dataset needs {needed}; delete it, add partitions, or use --topic-prefix"
    )]
    FewerPartitions {
        /// The topic.
        topic: String,
        /// How many it has.
        found: u32,
        /// How many the dataset needs.
        needed: u32,
    },
    /// A topic could not be created.
    #[error("could not create topic \"{topic}\" with {partitions} partitions")]
    Create {
        /// The topic.
        topic: String,
        /// How many partitions.
        partitions: u32,
        /// Why not.
        source: Native,
    },
    /// A record was not accepted; those before it may have been.
    #[error("could not deliver a record of {bytes} bytes to topic \"{topic}\" partition {partition}")]
    Deliver {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its key and value.
        bytes: usize,
        /// Why not.
        source: Native,
    },
    /// Brokers did not acknowledge everything in time.
    #[error("{missing} records were not acknowledged within {} s; are brokers reachable?", FLUSH_TIMEOUT.as_secs())]
    Unacknowledged {
        /// How many.
        missing: u64,
    },
}

/// Creates the topics and loads the files.
///
/// # Errors
/// See [`ProduceError`].
pub fn run(plan: &Produce, files: &[PartitionFile]) -> Result<Loaded, ProduceError> {
    let options = Options::resolve(&plan.brokers, &plan.options)?;
    let context = Context::new(options.secrets(), Partitions::default());
    let control = Control::connect(&plan.brokers, &options, "storeflow-produce", context.clone(), CONNECT_PATIENCE)?;
    let mut topics = prepare_topics(plan, &options, &control, files)?;
    let began = Instant::now();
    let producer = producer(plan, &options, context)?;
    send_all(plan, &producer, files, &mut topics)?;
    producer.finish()?;
    Ok(Loaded { topics: topics.into_values().collect(), took: began.elapsed() })
}

fn prepare_topics(
    plan: &Produce,
    options: &Options,
    control: &Control,
    files: &[PartitionFile],
) -> Result<BTreeMap<String, Topic>, ProduceError> {
    let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
    for file in files {
        let name = format!("{}{}", plan.topic_prefix, file.topic);
        let fresh = || Topic { name, partitions: 0, created: false, records: 0, bytes: 0 };
        let topic = topics.entry(file.topic.clone()).or_insert_with(fresh);
        topic.partitions = topic.partitions.max(file.partition + 1);
    }
    let found = control.topics()?;
    let mut missing = Vec::new();
    for topic in topics.values_mut() {
        match found.get(&topic.name).copied() {
            None => missing.push(topic),
            Some(found) if found < topic.partitions => {
                return Err(ProduceError::FewerPartitions { topic: topic.name.clone(), found, needed: topic.partitions });
            }
            Some(_) => {}
        }
    }
    if !missing.is_empty() {
        let admin = Admin::connect(options, plan.replication)?;
        for topic in missing {
            admin.create(topic)?;
            topic.created = true;
        }
    }
    Ok(topics)
}

/// Creates topics.
struct Admin {
    client: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
    replication: i32,
}

impl Admin {
    fn connect(options: &Options, replication: i32) -> Result<Self, KafkaError> {
        let client = options.client(&[]).create().map_err(unmade)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| KafkaError::Client { reason: error.to_string() })?;
        Ok(Admin { client, runtime, replication })
    }

    fn create(&self, topic: &Topic) -> Result<(), ProduceError> {
        // Old records must stay, and so must those of a device whose clock is in 2099. Brokers before 3.6 do not know the
        // second property, and do not need it.
        let forever = [("retention.ms", "-1"), ("message.timestamp.after.max.ms", "9223372036854775807")];
        let tried = match self.try_create(topic, &forever) {
            Err(Native::AdminOp(Code::InvalidConfig)) => self.try_create(topic, &forever[..1]),
            tried => tried,
        };
        tried.map_err(|source| ProduceError::Create { topic: topic.name.clone(), partitions: topic.partitions, source })
    }

    fn try_create(&self, topic: &Topic, properties: &[(&str, &str)]) -> Result<(), Native> {
        let replication = TopicReplication::Fixed(self.replication);
        let new = NewTopic::new(&topic.name, signed(topic.partitions), replication);
        let new = properties.iter().fold(new, |new, (name, value)| new.set(name, value));
        let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT)).request_timeout(Some(REQUEST_TIMEOUT));
        let created = self.runtime.block_on(self.client.create_topics([&new], &options))?;
        match created.into_iter().next() {
            Some(Err((_, code))) => Err(Native::AdminOp(code)),
            _ => Ok(()),
        }
    }
}

/// The first record that was refused, and how many were acknowledged.
#[derive(Default)]
struct Deliveries {
    acknowledged: AtomicU64,
    refused: std::sync::Mutex<Option<(String, i32, usize, Native)>>,
}

/// Counts deliveries; logs and errors go where those of a source go.
struct DeliveryContext {
    context: Context,
    deliveries: Arc<Deliveries>,
}

impl ClientContext for DeliveryContext {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: Native, reason: &str) {
        self.context.error(error, reason);
    }
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        match result {
            Ok(_) => drop(self.deliveries.acknowledged.fetch_add(1, Ordering::Relaxed)),
            Err((error, message)) => {
                let bytes = message.key_len() + message.payload_len();
                let refused = || (message.topic().to_owned(), message.partition(), bytes, error.clone());
                lock(&self.deliveries.refused).get_or_insert_with(refused);
            }
        }
    }
}

struct Sender {
    producer: BaseProducer<DeliveryContext>,
    deliveries: Arc<Deliveries>,
    sent: std::cell::Cell<u64>,
}

fn producer(plan: &Produce, options: &Options, context: Context) -> Result<Sender, KafkaError> {
    let ours = [
        ("enable.idempotence", "true".to_owned()),
        ("compression.type", plan.compression.to_owned()),
        ("linger.ms", "20".to_owned()),
        ("batch.size", (1 << 20).to_string()),
        ("batch.num.messages", "100000".to_owned()),
        // Bounds memory; librdkafka refuses more until there is room.
        ("queue.buffering.max.kbytes", (128 << 10).to_string()),
        ("queue.buffering.max.messages", "1000000".to_owned()),
    ];
    let deliveries = Arc::<Deliveries>::default();
    let context = DeliveryContext { context, deliveries: Arc::clone(&deliveries) };
    let producer = options.client(&ours).create_with_context(context).map_err(unmade)?;
    Ok(Sender { producer, deliveries, sent: std::cell::Cell::new(0) })
}

impl Sender {
    fn send(
        &self,
        topic: &str,
        partition: u32,
        timestamp: Option<u64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(), ProduceError> {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(signed(partition));
        // -1 is Kafka's own "no timestamp"; nothing at all would become now.
        record = record.timestamp(timestamp.and_then(|millis| i64::try_from(millis).ok()).unwrap_or(-1));
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.payload(value);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((Native::MessageProduction(Code::QueueFull), again)) => {
                    record = again;
                    self.producer.poll(Duration::from_millis(10));
                    self.check()?;
                }
                Err((source, record)) => {
                    let bytes = record.key.map_or(0, <[u8]>::len) + record.payload.map_or(0, <[u8]>::len);
                    return Err(ProduceError::Deliver { topic: topic.to_owned(), partition: signed(partition), bytes, source });
                }
            }
        }
        self.sent.set(self.sent.get() + 1);
        Ok(())
    }

    /// Serves acknowledgements; fails with the first record that was refused.
    fn serve(&self) -> Result<(), ProduceError> {
        self.producer.poll(Duration::ZERO);
        self.check()
    }

    fn check(&self) -> Result<(), ProduceError> {
        match lock(&self.deliveries.refused).take() {
            Some((topic, partition, bytes, source)) => Err(ProduceError::Deliver { topic, partition, bytes, source }),
            None => Ok(()),
        }
    }

    fn finish(&self) -> Result<(), ProduceError> {
        let flushed = self.producer.flush(FLUSH_TIMEOUT);
        self.check()?;
        let missing = self.sent.get() - self.deliveries.acknowledged.load(Ordering::Relaxed);
        if flushed.is_err() || missing > 0 {
            return Err(ProduceError::Unacknowledged { missing });
        }
        Ok(())
    }
}

/// A partition file being sent.
struct Sending<'a> {
    file: &'a PartitionFile,
    lines: Lines,
}

fn send_all(
    plan: &Produce,
    sender: &Sender,
    files: &[PartitionFile],
    topics: &mut BTreeMap<String, Topic>,
) -> Result<(), ProduceError> {
    let unreadable = |file: &PartitionFile| {
        let path = file.path.clone();
        move |source| ProduceError::Unreadable { path, source }
    };
    let open = |file| Ok(Sending { file, lines: Lines::open(file, CHUNK).map_err(unreadable(file))? });
    let mut sending: Vec<Sending<'_>> = files.iter().map(open).collect::<Result<_, ProduceError>>()?;
    let envelopes = Envelopes::default();
    let mut pace = Pace::new(plan.rate);
    // At a rate, turns are short, so that a second is not one partition's.
    let turn = if plan.rate.is_some() { 1 } else { TURN };
    while !sending.is_empty() {
        let mut trouble = Ok(());
        sending.retain_mut(|Sending { file, lines }| {
            let Some(topic) = topics.get_mut(&file.topic).filter(|_| trouble.is_ok()) else { return false };
            match send_turn(sender, file, lines, &envelopes, topic, &mut pace, turn) {
                Ok(more) => more,
                Err(error) => {
                    trouble = Err(error);
                    false
                }
            }
        });
        trouble?;
        sender.serve()?;
    }
    Ok(())
}

/// Sends some records of a file; false if there are no more.
fn send_turn(
    sender: &Sender,
    file: &PartitionFile,
    lines: &mut Lines,
    envelopes: &Envelopes,
    topic: &mut Topic,
    pace: &mut Pace,
    turn: usize,
) -> Result<bool, ProduceError> {
    for _ in 0..turn {
        let line = lines.next_line().map_err(|source| ProduceError::Unreadable { path: file.path.clone(), source })?;
        let Some(line) = line else { return Ok(false) };
        pace.wait(sender)?;
        // What is no UTF-8 is no envelope: the reader of envelopes may rely on it.
        let utf8 = line.utf8 || simdutf8::basic::from_utf8(line.bytes).is_ok();
        let opened = if utf8 { envelopes.open(line.bytes).ok().flatten() } else { None };
        let (timestamp, key, value) = match &opened {
            Some(record) => (record.timestamp, record.key.as_deref(), record.value.as_deref()),
            None => (None, None, Some(line.bytes)),
        };
        sender.send(&topic.name, file.partition, timestamp, key, value)?;
        topic.records += 1;
        topic.bytes += (key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)) as u64;
    }
    Ok(true)
}

/// Keeps a rate, and tells of progress.
struct Pace {
    rate: Option<u64>,
    began: Instant,
    records: u64,
    last_line: Instant,
}

impl Pace {
    fn new(rate: Option<u64>) -> Self {
        Pace { rate, began: Instant::now(), records: 0, last_line: Instant::now() }
    }

    /// Waits until it is the next record's time.
    fn wait(&mut self, sender: &Sender) -> Result<(), ProduceError> {
        self.records += 1;
        if let Some(rate) = self.rate {
            let due = Duration::from_secs_f64(self.records as f64 / rate as f64);
            while let Some(ahead) = due.checked_sub(self.began.elapsed()).filter(|ahead| *ahead >= NAP_MIN) {
                sender.serve()?;
                thread::sleep(ahead.min(Duration::from_millis(50)));
            }
        }
        if self.records.is_multiple_of(1024) && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let seconds = self.began.elapsed().as_secs_f64();
            tracing::info!(records = self.records, records_per_s = (self.records as f64 / seconds) as u64, "producing");
        }
        Ok(())
    }
}
