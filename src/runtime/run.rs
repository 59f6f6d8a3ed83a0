//! Runs a job as its users do: from Kafka or a dataset, in one process or several, into a store and a view.
//!
//! ```text
//! process 0: list the input, take a generation ─┐                 ┌─ clocks ─┐
//! all processes: ─────────────────────── plan, to all ─► open ─► least, to all ─► workers ─► copies ─► pointers
//! ```
//!
//! Upholds: (1) all processes run the same plan; what keeps one from starting is told by all; (2) a partition belongs to worker
//! `(topic hash + number) % workers`; (3) a later generation becomes the current one only when it has caught up with the one
//! before, so that no crash and no fresh start takes back what was shown; (4) a signal lets what was read be published, a
//! second one does not wait.
//! Absent on purpose: durable checkpoints. A run that was stopped or killed begins anew, from `--start`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::cluster::{Cluster, ClusterError};
use super::publisher::Copies;
use super::replay::{Kept, chunk_of, deal, settle};
use super::workers::{self, Crew, Finished, RunError, Tuning, Watch};
use crate::config::{ClockMode, Idle, Job};
use crate::observe::health::Health;
use crate::observe::metrics::{Observed, Registry, Sample, Workers};
use crate::observe::{PartitionStats, WorkerStats, holder_of, locked, wall_ms};
use crate::publish::error::PublishError;
use crate::publish::history::HistoryWriter;
use crate::publish::layout::{Current, Generation};
use crate::publish::redis::{RedisSettings, RedisSink, RedisView};
use crate::publish::view::MemoryView;
use crate::source::dataset::partitions;
use crate::source::kafka::{KafkaSettings, KafkaSource, Listed, Opening};
use crate::source::names::PartitionNames;
use crate::source::operator::{Arrival, Intake};
use crate::source::partition::{Partition, Quiet};
use crate::store::Store;

/// What is read.
#[derive(Clone, Debug)]
pub enum Input {
    /// A dataset, to its end.
    Dataset(PathBuf),
    /// Kafka's topics, for ever or to the ends they have at the start.
    Kafka(KafkaSettings),
}

/// A run.
pub struct Setup {
    /// The job.
    pub job: Job,
    /// How to run.
    pub tuning: Tuning,
    /// What is read.
    pub input: Input,
    /// Where history and dead letters go, and the view at the end.
    pub store: Store,
    /// Where the view goes.
    pub redis: Option<RedisSettings>,
    /// The processes.
    pub cluster: Cluster,
    /// Between two moves of the store's pointer, while the job goes on.
    pub advance_every: Duration,
    /// What a stopped run still waits for a store or a Redis that does not answer.
    pub stop_patience: Duration,
    /// Set to stop.
    pub stop: Arc<AtomicBool>,
    /// Where whoever has numbers registers.
    pub registry: Registry,
    /// Told of workers, sources and view.
    pub health: Arc<Health>,
}

/// What process 0 decides for all.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Plan {
    generation: u64,
    listed: Vec<Listed>,
}

/// What each process says of its partitions.
#[derive(Debug, Serialize, Deserialize)]
struct Clocks {
    /// The lowest, if it has any.
    start: Option<u64>,
    records_per_hour: u64,
}

/// Between two reports of positions to Kafka.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Between two lines about what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Until all processes must have written their part of the end.
const END_PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at something waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Runs a job to its end.
///
/// # Errors
/// Whatever the user can mend; nothing half-written is taken for whole then.
pub fn run(setup: Setup, mut watch: impl FnMut(Watch<'_>)) -> Result<Kept, RunError> {
    let Setup { job, tuning, input, store, redis, mut cluster, advance_every, stop_patience, stop, registry, health } = setup;
    let leader = cluster.process() == 0;
    let workers = cluster.worker_range(tuning.workers);
    let peers = tuning.workers * cluster.processes();

    // Everybody proves that it can reach all it needs before anything begins.
    let ready = prepare(&job, &input, &store, redis.as_ref(), leader, peers);
    let (mut ready, plan) = agree(&mut cluster, ready, |ready| encoded(&ready.plan))?;
    let plan: Plan = decoded(&plan[0]);
    let names = Arc::new(PartitionNames::sorted(plan.listed.iter().map(|listed| &listed.topic)));
    // Opening reads the first records already, and Kafka sends on while the workers are being started.
    let began = Instant::now();
    let opened = (|| {
        let generation = match ready.generation.take() {
            Some(generation) => generation,
            None => Generation::join(&store, &job, peers, plan.generation)?,
        };
        Ok((generation, open(&job, &input, &tuning, &ready, &plan, &names, &workers, peers, &stop)?))
    })();
    let ((generation, hands), clocks) = agree(&mut cluster, opened, |(_, hands)| encoded(&clocks_of(hands)))?;
    let clocks: Vec<Clocks> = clocks.iter().map(|clocks| decoded(clocks)).collect();

    let goes_on = matches!(&input, Input::Kafka(settings) if !settings.until_end);
    // A run that ends is synced once, at its end; nothing points at it before.
    let start = if goes_on { HistoryWriter::start_live } else { HistoryWriter::start };
    let history = start(&generation, workers.clone(), Arc::clone(&names))?;
    let view = Arc::new(MemoryView::of(workers.clone()));
    let sink = ready.redis.map(|redis| Arc::new(redis.start(generation.about(), Arc::clone(&view), workers.clone(), peers)));
    let copies = Arc::new(Copies::new(Arc::clone(&view), Some(history.sender())).outside(sink.clone()));

    let (senders, intakes): (Vec<_>, Vec<_>) = hands.into_iter().map(|partitions| intake(partitions, goes_on)).unzip();
    let stats: Vec<Arc<WorkerStats>> = intakes.iter().map(|_| Arc::default()).collect();
    let drain = Arc::new(AtomicBool::new(false));
    let peer_watch = (cluster.processes() > 1).then(|| cluster.watch());
    let crew = Crew {
        job: Arc::new(job.clone()),
        tuning: tuning.clone(),
        intakes,
        start: clocks.iter().filter_map(|clocks| clocks.start).min().unwrap_or(0),
        records_per_hour: clocks.iter().map(|clocks| clocks.records_per_hour).fold(0, u64::saturating_add),
        names: Arc::clone(&names),
        stats: stats.clone(),
        measure_latency: false,
        drain: Arc::clone(&drain),
        peers: peer_watch.clone(),
    };
    let (process, processes) = (cluster.process(), cluster.processes());
    let builders = cluster.into_timely(tuning.workers)?;

    registry.register(Arc::new(Workers { first: workers.start, stats: stats.clone() }));
    registry.register(history.sender().written());
    if let Some(kafka) = &ready.kafka {
        registry.register(Arc::new(kafka.clone()));
    }
    if let Some(sink) = &sink {
        registry.register(Arc::new(ViewObserved(Arc::downgrade(sink))));
    }
    health.set_sources_reading(true);
    health.set_view_connected(sink.is_none());

    let mut arrivals =
        Arrivals { job: &job, names: &names, senders, workers: workers.clone(), peers, leader, unnamed: Vec::new() };
    let mut pointer = Pointer { advanced: ready.shown_before, due: Instant::now(), every: advance_every };
    let (mut report_due, mut stopped, mut holder) = (Instant::now(), None, Holder { said: Instant::now() });
    let opening = began.elapsed();
    let ran = workers::run(crew, builders, Arc::clone(&copies) as _, || {
        watch(Watch { stats: &stats, input_bytes: ready.input_bytes });
        for (worker, stats) in stats.iter().enumerate().filter(|(_, stats)| stats.stepped.get() > 0) {
            health.stepped(worker, stats.stepped.get());
        }
        if let Some(sink) = &sink {
            health.set_view_connected(sink.stats().connected);
        }
        if let Some(lost) = peer_watch.as_ref().and_then(|watch| watch.lost()) {
            return Err(lost.into());
        }
        if let Some(kafka) = &ready.kafka {
            if let Some(failure) = kafka.failure() {
                return Err(failure.into());
            }
            arrivals.take(kafka)?;
            if report_due <= Instant::now() {
                report_due = Instant::now() + REPORT_EVERY;
                kafka.report(&published_positions(&stats));
            }
        }
        if goes_on {
            holder.say(&stats);
        }
        if leader && goes_on {
            pointer.advance(&generation, copies.shown_everywhere().history)?;
        }
        if stop.load(Ordering::Relaxed) {
            drain.store(true, Ordering::Relaxed);
            let since = *stopped.get_or_insert_with(Instant::now);
            if since.elapsed() > stop_patience {
                copies.give_up();
            }
        }
        Ok(())
    });
    let (finished, totals) = settle(ran, history)?;
    // Stopped before it had caught up, a run takes nothing back: what was shown before stays current.
    let stopped = stop.load(Ordering::Relaxed);
    let finished = Finished { took: opening + finished.took, ..finished };
    view.dump(&generation)?;
    if let Some(kafka) = ready.kafka {
        kafka.report(&published_positions(&stats));
        kafka.close();
    }
    if let Some(sink) = sink {
        drop(copies);
        if leader {
            sink.mark(finished.as_of, !stopped);
        }
        close_redis(sink, stop_patience)?;
    }
    let place = generation.place();
    let behind = stopped && finished.as_of < ready.shown_before;
    end(generation, process, processes, finished.as_of, behind)?;
    Ok(Kept { finished, view, totals, dir: place })
}

/// What a process has at hand before the run.
struct Ready {
    plan: Plan,
    generation: Option<Generation>,
    kafka: Option<KafkaSource>,
    redis: Option<RedisView>,
    /// As-of of what the store showed before this run.
    shown_before: u64,
    input_bytes: u64,
}

fn prepare(
    job: &Job,
    input: &Input,
    store: &Store,
    redis: Option<&RedisSettings>,
    leader: bool,
    peers: usize,
) -> Result<Ready, RunError> {
    let (kafka, input_bytes) = match input {
        Input::Kafka(settings) => (Some(KafkaSource::connect(job, settings)?), 0),
        Input::Dataset(dataset) => (None, partitions(job, dataset)?.iter().map(|file| file.bytes).sum()),
    };
    let mut redis = redis.map(|settings| RedisView::connect(settings, &job.name)).transpose()?;
    let (mut plan, mut generation, mut shown_before) = (Plan::default(), None, 0);
    if leader {
        let in_redis = redis.as_mut().map(RedisView::current).transpose()?.flatten();
        if let Some(kafka) = &kafka {
            plan.listed = kafka.list()?;
        }
        shown_before = match Current::open(store) {
            Ok(current) => current.as_of,
            Err(PublishError::NoRun { .. }) => 0,
            Err(error) => return Err(error.into()),
        };
        let next = in_redis.map(|current| current.about.generation + 1);
        let created = Generation::create(store, job, peers, next)?;
        plan.generation = created.about().generation;
        generation = Some(created);
    }
    Ok(Ready { plan, generation, kafka, redis, shown_before, input_bytes })
}

/// Everybody tells what it has, or why it cannot go on; then all go on, or nobody.
fn agree<T>(
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
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn encoded(of: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(of).expect("plain data has a JSON form")
}

fn decoded<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> T {
    serde_json::from_slice(bytes).expect("processes of one handshake are of one version")
}

/// The worker, counted over all processes, that reads a partition.
fn owner(topic: &str, partition: u32, peers: usize) -> usize {
    let hash = xxhash_rust::xxh3::xxh3_64(topic.as_bytes());
    usize::try_from(hash.wrapping_add(partition.into()) % peers as u64).expect("less than the number of workers")
}

/// Opens this process's partitions: those of each of its workers.
#[allow(clippy::too_many_arguments, reason = "built in one place, from what that place has at hand")]
fn open(
    job: &Job,
    input: &Input,
    tuning: &Tuning,
    ready: &Ready,
    plan: &Plan,
    names: &PartitionNames,
    workers: &std::ops::Range<usize>,
    peers: usize,
    stop: &AtomicBool,
) -> Result<Vec<Vec<Partition>>, RunError> {
    match (input, &ready.kafka) {
        (Input::Dataset(dataset), _) => {
            let files = partitions(job, dataset)?;
            let topics = super::replay::topics_of(&files);
            for topic in &topics {
                names.register(topic);
            }
            let chunk = chunk_of(&files, tuning);
            let hands = deal(files.iter().collect(), &files, peers);
            let open = |file: &crate::source::dataset::PartitionFile| {
                Partition::open(job, file, names.id(&file.topic, file.partition), &topics, chunk)
            };
            let mine = hands.into_iter().enumerate().filter(|(worker, _)| workers.contains(worker));
            Ok(mine.map(|(_, files)| files.into_iter().map(open).collect()).collect::<Result<_, _>>()?)
        }
        (Input::Kafka(settings), Some(kafka)) => {
            let mine = |listed: &&Listed| workers.contains(&owner(&listed.topic, listed.partition, peers));
            let mine: Vec<&Listed> = plan.listed.iter().filter(mine).collect();
            let mut partitions = open_kafka(job, kafka, names, &mine, settings.until_end)?;
            let mut said = Instant::now();
            // A clock starts with the first records, so these must be there, or the log have said that there are no more.
            loop {
                let mut missing = 0;
                for partition in &mut partitions {
                    partition.start(0, true)?;
                    missing += usize::from(!partition.looked_through());
                }
                if missing == 0 {
                    break;
                }
                if let Some(failure) = kafka.failure() {
                    return Err(failure.into());
                }
                if stop.load(Ordering::Relaxed) {
                    return Err(RunError::Flag("stopped before the first records had come".to_owned()));
                }
                if said.elapsed() > SAY_EVERY {
                    said = Instant::now();
                    tracing::info!(partitions = missing, "waiting for the first records");
                }
                std::thread::sleep(LOOK_EVERY);
            }
            let mut hands: Vec<Vec<Partition>> = workers.clone().map(|_| Vec::new()).collect();
            for (partition, listed) in partitions.into_iter().zip(mine) {
                hands[owner(&listed.topic, listed.partition, peers) - workers.start].push(partition);
            }
            Ok(hands)
        }
        (Input::Kafka(_), None) => unreachable!("whoever reads Kafka has connected to it"),
    }
}

fn open_kafka(
    job: &Job,
    kafka: &KafkaSource,
    names: &PartitionNames,
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
        Partition::going_on(job, &listed.topic, listed.partition, id, Box::new(input), quiet(job, &listed.topic, until_end))
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

fn clocks_of(hands: &[Vec<Partition>]) -> Clocks {
    let all = || hands.iter().flatten();
    let clocks = all().filter(|partition| !partition.waiting()).map(|partition| partition.clock().now());
    Clocks {
        start: clocks.filter(|&clock| clock > 0).min(),
        records_per_hour: all().map(Partition::records_per_hour).fold(0, u64::saturating_add),
    }
}

fn intake(partitions: Vec<Partition>, goes_on: bool) -> (Option<Sender<Arrival>>, Intake) {
    let (sender, receiver) = channel();
    let (sender, arrivals) = if goes_on { (Some(sender), Some(receiver)) } else { (None, None) };
    (sender, Intake { partitions, arrivals })
}

/// Partitions that appear while the job runs.
struct Arrivals<'a> {
    job: &'a Job,
    names: &'a PartitionNames,
    /// One per worker of this process.
    senders: Vec<Option<Sender<Arrival>>>,
    workers: std::ops::Range<usize>,
    peers: usize,
    leader: bool,
    /// Those whose topic has no number yet.
    unnamed: Vec<Listed>,
}

impl Arrivals<'_> {
    fn take(&mut self, kafka: &KafkaSource) -> Result<(), RunError> {
        let mut found = kafka.discovered();
        for listed in &found {
            if self.leader && !self.names.knows(&listed.topic) {
                let number = self.names.register(&listed.topic);
                self.send(0, Arrival::Topic(number, listed.topic.clone()));
            }
        }
        found.append(&mut self.unnamed);
        let (named, unnamed) = found.into_iter().partition(|listed| self.names.knows(&listed.topic));
        self.unnamed = unnamed;
        let named: Vec<Listed> = named;
        let mine: Vec<&Listed> =
            named.iter().filter(|listed| self.workers.contains(&owner(&listed.topic, listed.partition, self.peers))).collect();
        if mine.is_empty() {
            return Ok(());
        }
        for (partition, listed) in open_kafka(self.job, kafka, self.names, &mine, false)?.into_iter().zip(mine) {
            tracing::info!(topic = listed.topic, partition = listed.partition, "new partition");
            let worker = owner(&listed.topic, listed.partition, self.peers) - self.workers.start;
            self.send(worker, Arrival::Partition(Box::new(partition), listed.high > listed.start));
        }
        Ok(())
    }

    fn send(&self, worker: usize, arrival: Arrival) {
        // A worker that has ended takes nothing more, and needs nothing more.
        let _ = self.senders[worker].as_ref().map(|sender| sender.send(arrival));
    }
}

/// The view in Redis, as long as it is written.
struct ViewObserved(Weak<RedisSink>);

impl Observed for ViewObserved {
    fn collect(&self, sample: &mut Sample) {
        self.0.upgrade().iter().for_each(|sink| sink.collect(sample));
    }
}

/// Says who holds the frontier for long.
struct Holder {
    said: Instant,
}

/// A frontier held for so long is worth a line, and a line again.
const HELD_FOR: Duration = Duration::from_secs(60);

impl Holder {
    fn say(&mut self, stats: &[Arc<WorkerStats>]) {
        if self.said.elapsed() < HELD_FOR {
            return;
        }
        let now = wall_ms();
        let behind = |since: u64| Duration::from_millis(now.saturating_sub(since));
        if let Some((holder, since)) =
            holder_of(stats).filter(|(of, since)| behind(*since).min(behind(of.clock.get())) > HELD_FOR)
        {
            self.said = Instant::now();
            let (topic, partition) = (&holder.topic, holder.partition);
            let (held, behind) = (behind(since), behind(holder.clock.get()));
            tracing::warn!(topic, partition, ?held, ?behind, "frontier held by");
        }
    }
}

/// The store's pointer, while the job goes on.
struct Pointer {
    advanced: u64,
    due: Instant,
    every: Duration,
}

impl Pointer {
    fn advance(&mut self, generation: &Generation, as_of: u64) -> Result<(), RunError> {
        if as_of > self.advanced && self.due <= Instant::now() {
            generation.advance(as_of)?;
            self.advanced = as_of;
            self.due = Instant::now() + self.every;
        }
        Ok(())
    }
}

/// The first positions that no published as-of covers.
fn published_positions(stats: &[Arc<WorkerStats>]) -> Vec<(String, u32, u64)> {
    let known = |of: &Arc<PartitionStats>| {
        let position = of.published_position.get();
        (position > 0).then(|| (of.topic.clone(), of.partition, position))
    };
    stats.iter().flat_map(|stats| locked(&stats.partitions).iter().filter_map(known).collect::<Vec<_>>()).collect()
}

fn close_redis(sink: Arc<RedisSink>, patience: Duration) -> Result<(), RunError> {
    let began = Instant::now();
    let mut sink = sink;
    loop {
        match Arc::try_unwrap(sink) {
            Ok(sink) => {
                sink.close(patience)?;
                return Ok(());
            }
            // The workers' threads are letting go of it.
            Err(shared) if began.elapsed() < patience => {
                sink = shared;
                std::thread::sleep(LOOK_EVERY);
            }
            Err(_) => return Ok(()),
        }
    }
}

/// Everybody says that its part is written; then process 0 shows the whole, unless it is behind what is shown.
fn end(generation: Generation, process: usize, processes: usize, as_of: u64, behind: bool) -> Result<(), RunError> {
    let said = |process: usize| format!("{}/ended/{process}", generation.keys().prefix());
    generation.sync()?;
    if process > 0 {
        generation.store().put(&said(process), Bytes::from_static(b"ended\n")).map_err(PublishError::from)?;
        return Ok(());
    }
    let began = Instant::now();
    for other in 1..processes {
        while generation.store().get(&said(other)).map_err(PublishError::from)?.is_none() {
            if began.elapsed() > END_PATIENCE {
                let text = format!("process {other} has not said that its part is written; its log says why. Run again");
                return Err(RunError::Workers(text));
            }
            std::thread::sleep(LOOK_EVERY * 10);
        }
    }
    if behind {
        tracing::warn!(as_of, "stopped before it had caught up with the generation before it, which stays the current one");
        return Ok(());
    }
    generation.finish(as_of)?;
    Ok(())
}
