//! Before the workers: what all processes agree on, and which partitions each of their workers opens, where.
//!
//! Upholds: (1) what keeps one process from starting is told by all; (2) a partition belongs to worker `(topic hash + number) % workers`;
//! (3) a partition that a checkpoint knows goes on where that says, and none of them is left out unnoticed; (4) dead letters that are
//! to be read again are partitions as any, of a topic that no log has.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::recovery::Places;
use super::{Input, LOOK_EVERY};
use crate::config::{ClockMode, Idle, Job};
use crate::decode::avro::Schemas;
use crate::observe::health::Health;
use crate::observe::wall_ms;
use crate::publish::layout::Keys;
use crate::publish::replays::{Request, read};
use crate::runtime::cluster::{Cluster, ClusterError};
use crate::runtime::replay::{chunk_of, deal, topics_of};
use crate::runtime::workers::{RunError, Tuning};
use crate::source::dataset::{PartitionFile, partitions};
use crate::source::kafka::{KafkaSettings, KafkaSource, Listed, Opening};
use crate::source::names::{PartitionNames, REPLAY};
use crate::source::operator::{Arrival, Intake};
use crate::source::partition::{Partition, Quiet};
use crate::store::Store;

/// Between two lines about what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What each process says of its partitions.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Clocks {
    /// The lowest, if it has any.
    pub start: Option<u64>,
    pub records_per_hour: u64,
}

/// Everybody tells what it has, or why it cannot go on; then all go on, or nobody.
pub(super) fn agree<T>(
    cluster: &mut Cluster,
    mine: Result<T, RunError>,
    told: impl FnOnce(&T) -> Vec<u8>,
) -> Result<(T, Vec<Vec<u8>>), RunError> {
    match mine {
        Ok(mine) => {
            let told = told(&mine);
            Ok((mine, cluster.all_gather(Ok(told))?))
        }
        Err(error) => {
            let text = chain(&error);
            // Its own error is what this process tells its user.
            let _: Result<_, ClusterError> = cluster.all_gather(Err(text));
            Err(error)
        }
    }
}

/// An error with its causes, as one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

pub(super) fn encoded(of: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(of).expect("plain data has a JSON form")
}

pub(super) fn decoded<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> T {
    serde_json::from_slice(bytes).expect("processes of one handshake are of one version")
}

/// The worker, counted over all processes, that reads a partition.
pub(super) fn owner(topic: &str, partition: u32, peers: usize) -> usize {
    let hash = xxhash_rust::xxh3::xxh3_64(topic.as_bytes());
    usize::try_from(hash.wrapping_add(partition.into()) % peers as u64).expect("less than the number of workers")
}

/// What a process opens its partitions with.
pub(super) struct Opener<'a> {
    pub job: &'a Job,
    pub input: &'a Input,
    pub tuning: &'a Tuning,
    pub kafka: Option<&'a KafkaSource>,
    pub listed: &'a [Listed],
    pub names: &'a PartitionNames,
    pub schemas: &'a Arc<Schemas>,
    /// Where partitions go on.
    pub places: &'a Places,
    /// The as-of of what is known already.
    pub origin: u64,
    pub workers: Range<usize>,
    pub peers: usize,
    pub stop: &'a AtomicBool,
    pub health: &'a Health,
    pub store: &'a Store,
    pub keys: &'a Keys,
    /// Dead letters that are to be read again.
    pub requests: &'a [Request],
}

impl Opener<'_> {
    /// Opens this process's partitions: those of each of its workers.
    pub(super) fn open(&self) -> Result<Vec<Vec<Partition>>, RunError> {
        let mut hands = match (self.input, self.kafka) {
            (Input::Dataset(dataset), _) => self.open_files(dataset)?,
            (Input::Kafka(settings), Some(kafka)) => self.open_topics(settings, kafka)?,
            (Input::Kafka(_), None) => unreachable!("whoever reads Kafka has connected to it"),
        };
        // Numbered by all processes, and behind the topics that there are.
        self.names.register(REPLAY);
        for request in self.requests.iter().filter(|request| !self.places.has_read(request)) {
            let (number, worker) = (request.number, owner(REPLAY, request.number, self.peers));
            if !self.workers.contains(&worker) {
                continue;
            }
            let letters = read(self.store, self.keys, number)?;
            tracing::info!(request = number, letters = letters.len(), "dead letters are read again");
            let mut partition =
                Partition::again(self.job, self.names, number, self.names.id(REPLAY, number), letters, self.schemas);
            partition.join(self.origin);
            self.places.apply(REPLAY, number, &mut partition)?;
            hands[worker - self.workers.start].push(partition);
        }
        Ok(hands)
    }

    /// The partitions of an input, and those that are requests.
    fn with_requests(&self, places: impl Iterator<Item = (String, u32)>) -> BTreeSet<(String, u32)> {
        places.chain(self.requests.iter().map(|request| (REPLAY.to_owned(), request.number))).collect()
    }

    fn open_files(&self, dataset: &Path) -> Result<Vec<Vec<Partition>>, RunError> {
        let files = partitions(self.job, dataset)?;
        for topic in topics_of(&files) {
            self.names.register(&topic);
        }
        self.places.check(&self.with_requests(files.iter().map(|file| (file.topic.clone(), file.partition))), &[])?;
        let topics = self.names.topics();
        let chunk = chunk_of(&files, self.tuning);
        let open = |file: &PartitionFile| -> Result<Partition, RunError> {
            let id = self.names.id(&file.topic, file.partition);
            let mut partition = Partition::open(self.job, file, id, &topics, chunk, self.schemas)?;
            if self.origin > 0 && self.places.position(&file.topic, file.partition).is_none() {
                partition.join(self.origin);
            }
            self.places.apply(&file.topic, file.partition, &mut partition)?;
            Ok(partition)
        };
        let hands = deal(files.iter().collect(), &files, self.peers).into_iter().enumerate();
        let mine = hands.filter(|(worker, _)| self.workers.contains(worker));
        mine.map(|(_, files)| files.into_iter().map(open).collect()).collect()
    }

    fn open_topics(&self, settings: &KafkaSettings, kafka: &KafkaSource) -> Result<Vec<Vec<Partition>>, RunError> {
        let there = self.with_requests(self.listed.iter().map(|listed| (listed.topic.clone(), listed.partition)));
        self.places.check(&there, &settings.exclude)?;
        let mine = |listed: &&Listed| self.workers.contains(&owner(&listed.topic, listed.partition, self.peers));
        let mine: Vec<&Listed> = self.listed.iter().filter(mine).collect();
        let mut partitions = open_kafka(self.job, kafka, self.names, self.schemas, &mine, settings.until_end)?;
        for (partition, listed) in partitions.iter_mut().zip(&mine) {
            self.places.apply(&listed.topic, listed.partition, partition)?;
        }
        let mut said = Instant::now();
        // A clock starts with the first records, so these must be there, or the log have said that there are no more.
        loop {
            let mut missing = 0;
            for partition in &mut partitions {
                partition.start(self.origin, true)?;
                missing += usize::from(!partition.looked_through());
            }
            if missing == 0 {
                break;
            }
            if let Some(failure) = kafka.failure() {
                return Err(failure.into());
            }
            // Waiting for a log or a schema is no illness of the workers, which are not there yet.
            (0..self.workers.len()).for_each(|worker| self.health.stepped(worker, wall_ms()));
            if self.stop.load(Ordering::Relaxed) {
                return Err(RunError::Flag("stopped before the first records had come".to_owned()));
            }
            if said.elapsed() > SAY_EVERY {
                said = Instant::now();
                let schemas = self.schemas.wanted(Duration::ZERO).len();
                tracing::info!(partitions = missing, schemas, "waiting for the first records");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let mut hands: Vec<Vec<Partition>> = self.workers.clone().map(|_| Vec::new()).collect();
        for (partition, listed) in partitions.into_iter().zip(mine) {
            hands[owner(&listed.topic, listed.partition, self.peers) - self.workers.start].push(partition);
        }
        Ok(hands)
    }
}

pub(super) fn open_kafka(
    job: &Job,
    kafka: &KafkaSource,
    names: &PartitionNames,
    schemas: &Arc<Schemas>,
    listed: &[&Listed],
    until_end: bool,
) -> Result<Vec<Partition>, RunError> {
    let wanted: Vec<Opening> = listed
        .iter()
        .map(|listed| Opening {
            topic: listed.topic.clone(),
            partition: listed.partition,
            from: listed.start,
            until: until_end.then_some(listed.high),
        })
        .collect();
    let inputs = kafka.open(&wanted)?;
    let partition = |(input, listed): (_, &&Listed)| {
        let id = names.id(&listed.topic, listed.partition);
        let quiet = quiet(job, &listed.topic, until_end);
        Partition::going_on(job, &listed.topic, listed.partition, id, Box::new(input), quiet, schemas)
    };
    Ok(inputs.into_iter().zip(listed).map(partition).collect())
}

fn quiet(job: &Job, topic: &str, until_end: bool) -> Quiet {
    match job.quiet(topic) {
        _ if until_end => Quiet::Hold,
        (ClockMode::Records, _) | (_, Idle::Hold) => Quiet::Hold,
        (ClockMode::Live, Idle::Wall) => Quiet::Wall,
        (ClockMode::Live, Idle::Heartbeat) => Quiet::Heartbeat,
    }
}

pub(super) fn clocks_of(hands: &[Vec<Partition>]) -> Clocks {
    let all = || hands.iter().flatten();
    let clocks = all().filter(|partition| !partition.waiting()).map(|partition| partition.clock().now());
    Clocks {
        start: clocks.filter(|&clock| clock > 0).min(),
        records_per_hour: all().map(Partition::records_per_hour).fold(0, u64::saturating_add),
    }
}

pub(super) fn intake(partitions: Vec<Partition>, goes_on: bool) -> (Option<Sender<Arrival>>, Intake) {
    let (sender, receiver) = channel();
    let (sender, arrivals) = if goes_on { (Some(sender), Some(receiver)) } else { (None, None) };
    (sender, Intake { partitions, arrivals })
}
