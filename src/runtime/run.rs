//! Runs a job as its users do: from Kafka or a dataset, in one process or several, into a store and a view.
//!
//! ```text
//! process 0: choose a generation, list the input ─┐                       ┌─ clocks ─┐
//! all processes: ───────────────────── plan, to all ─► load, open ─► least, to all ─► workers ─► copies ─► pointers
//! ```
//!
//! Upholds: (1) all processes run the same plan; (2) a run goes on from the newest checkpoint of its generation, with whatever
//! number of workers, and shows nothing older than what is shown; (3) a later generation becomes the current one only when
//! it has caught up with the one before; (4) a signal lets what was read be published, a second one does not wait.

mod again;
mod arrivals;
mod opening;
mod recovery;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use storeflow_checkpoints::collect::Collector;
use storeflow_checkpoints::commit::Writer;
use storeflow_checkpoints::damage::CheckpointError;
use storeflow_checkpoints::manifest::Manifest;

use self::again::Again;
use self::arrivals::Arrivals;
use self::opening::{Clocks, Opener, agree, chain, clocks_of, decoded, encoded, intake};
use self::recovery::{Adopted, Loaded, Places, Restored, adopt, check_accepted, choose, log_of, setting_of};
use super::checkpointer::{self, Checkpointer, Leader, Silence};
use super::cluster::Cluster;
use super::dead_share::DeadShare;
use super::durable::Durability;
use super::publisher::Copies;
use super::replay::{Kept, settle};
use super::workers::{self, Crew, Finished, RunError, Tuning, Watch};
use crate::config::Job;
use crate::observe::health::Health;
use crate::observe::metrics::{Observed, Registry, Sample, Workers};
use crate::observe::status::ProcessStatus;
use crate::observe::{PartitionStats, WorkerStats, holder_of, locked, wall_ms};
use crate::publish::error::PublishError;
use crate::publish::history::HistoryWriter;
use crate::publish::layout::{Current, Generation, run_id};
use crate::publish::redis::{RedisSettings, RedisSink, RedisView};
use crate::publish::replays::{Request, requests};
use crate::publish::time::instant;
use crate::publish::view::MemoryView;
use crate::serve::view::memory::ServedView;
use crate::source::dataset::partitions;
use crate::source::kafka::{KafkaSettings, KafkaSource, Listed};
use crate::source::names::{PartitionNames, REPLAY};
use crate::source::registry::SchemaRegistry;
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
    /// How checkpoints are made; `None`: there are none, and a run that ends early has shown what it has shown.
    pub checkpoints: Option<Checkpoints>,
    /// The generation to go on with or to begin; `None`: the one that is shown.
    pub generation: Option<u64>,
    /// Between two moves of the store's pointer, while the job goes on.
    pub advance_every: Duration,
    /// Whether the job may read records in another way than the one that has made the checkpoint.
    pub accept_job_change: bool,
    /// The share of a topic's records that may be dead letters; `None`: any.
    pub dead_letter_max_share: Option<f64>,
    /// What a stopped run still waits for a store or a Redis that does not answer.
    pub stop_patience: Duration,
    /// Set to stop.
    pub stop: Arc<AtomicBool>,
    /// Where whoever has numbers registers.
    pub registry: Registry,
    /// Told of workers, sources and view.
    pub health: Arc<Health>,
    /// Where the view in memory is shown to whoever asks this process, which then has to be the only one.
    pub served: Option<Arc<ServedView>>,
}

/// How checkpoints are made.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoints {
    /// From one to the next, at least.
    pub every: Duration,
    /// How many can be loaded.
    pub keep: usize,
}

/// What process 0 decides for all.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Plan {
    generation: u64,
    /// The checkpoint to go on from.
    checkpoint: Option<u64>,
    /// The name of this start of the cluster, which no other has.
    run: String,
    listed: Vec<Listed>,
    /// As-of of what the store showed before this run.
    shown_before: u64,
    /// Dead letters to be read again.
    requests: Vec<Request>,
}

/// Between two reports of positions to Kafka.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Until all processes must have written their part of the end.
const END_PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at something waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Runs a job to its end.
///
/// # Errors
/// Whatever the user can mend; nothing half-written is taken for whole then.
pub fn run(setup: Setup, mut watch: impl FnMut(Watch<'_>)) -> Result<Kept, RunError> {
    let Setup { mut job, tuning, input, store, redis, mut cluster, checkpoints, generation, .. } = setup;
    let Setup { advance_every, accept_job_change, dead_letter_max_share, stop_patience, stop, registry, health, served, .. } =
        setup;
    let leader = cluster.process() == 0;
    let (workers, peers) = (cluster.worker_range(tuning.workers), tuning.workers * cluster.processes());
    let (process, processes) = (cluster.process(), cluster.processes());
    let (began, silence) = (Instant::now(), Silence::new());

    // Everybody proves that it can reach all it needs before anything begins.
    let wanted = Wanted { generation, durable: checkpoints.is_some(), accept_job_change };
    let alone = check_alone(served.is_some(), processes);
    let ready = alone.and_then(|()| prepare(&mut job, &input, &store, redis.as_ref(), &wanted, leader, peers));
    let (mut ready, plan) = agree(&mut cluster, ready, |ready| encoded(&ready.plan))?;
    let mut plan: Plan = decoded(&plan[0]);
    let log = log_of(&store, &job.name, plan.generation);
    let view = Arc::new(if served.is_some() { MemoryView::served(workers.clone()) } else { MemoryView::of(workers.clone()) });
    let joined = (|| {
        let dataset = match &input {
            Input::Dataset(dataset) => Some(&**dataset),
            Input::Kafka(_) => None,
        };
        let schema_registry = SchemaRegistry::start(&job, dataset, Some(&store))?;
        let restored = plan.checkpoint.map(|number| log.read(number)).transpose()?.map(Restored::of);
        let adopted = match &restored {
            Some(restored) => adopt(&mut job, &input, &restored.read.manifest, accept_job_change)?,
            None => Adopted::default(),
        };
        let generation = match ready.generation.take() {
            Some(generation) => generation,
            None => Generation::join(&store, &job, peers, plan.generation)?,
        };
        Ok((generation, restored, adopted.accepted, schema_registry))
    })();
    let ((generation, restored, accepted, schema_registry), _) = agree(&mut cluster, joined, |_| Vec::new())?;
    registry.register(schema_registry.observed());
    let schemas = schema_registry.schemas();
    let (restored, loaded) = match restored {
        Some(restored) => {
            let part = |from: &Restored| from.load(&store, job.horizons, workers.clone(), peers, &view, (process, processes));
            let setting = setting_of(&job, &input, &accepted);
            let (restored, loaded) =
                load(&mut cluster, restored, part, |from, damaged| from.fall_back(&log, peers, &setting, damaged))?;
            (Some(restored), loaded)
        }
        None => (None, Loaded::nothing(job.horizons, workers.len(), checkpoints.is_some())),
    };
    let Loaded { beginnings, chains, pending, unshown } = loaded;
    let origin = restored.as_ref().map_or(0, Restored::as_of);
    let names = Arc::new(match &restored {
        Some(restored) => PartitionNames::numbered(&restored.newest().manifest.topics),
        None => PartitionNames::default(),
    });
    for listed in &plan.listed {
        names.register(&listed.topic);
    }
    let places = restored.as_ref().map(Restored::places).unwrap_or_default();
    place(&mut plan.listed, &places);

    // Opening reads the first records already, and Kafka sends on while the workers are being started.
    let opened = (|| {
        if let Some(restored) = &restored {
            restored.show_again(&generation, &names, leader, unshown)?;
        }
        let (kafka, places) = (ready.kafka.as_ref(), &places);
        let (job, input, tuning, listed, names, stop) = (&job, &input, &tuning, &plan.listed[..], &*names, &*stop);
        let (store, keys, requests, workers) = (&store, generation.keys(), &plan.requests[..], workers.clone());
        let (places, health) = (places, &*health);
        let at = Opener {
            job,
            input,
            tuning,
            kafka,
            listed,
            names,
            schemas,
            places,
            origin,
            workers,
            peers,
            stop,
            health,
            store,
            keys,
            requests,
        };
        at.open()
    })();
    let (hands, clocks) = agree(&mut cluster, opened, |hands| encoded(&clocks_of(hands)))?;
    let clocks: Vec<Clocks> = clocks.iter().map(|clocks| decoded(clocks)).collect();
    if let Some(restored) = &restored {
        let Manifest { number, as_of, state, .. } = &restored.read.manifest;
        let (bytes, took) = (state.iter().map(|object| object.bytes).sum::<u64>(), began.elapsed());
        let as_of = instant(*as_of as i64);
        tracing::info!(checkpoint = number, %as_of, bytes, ?took, "going on from a checkpoint");
    }

    let goes_on = matches!(&input, Input::Kafka(settings) if !settings.until_end);
    // A run that ends is synced once, at its end; nothing points at it before. A checkpoint follows only what is on stable storage.
    let history = match (goes_on, &checkpoints) {
        (false, None) => HistoryWriter::start(&generation, workers.clone(), Arc::clone(&names))?,
        _ => HistoryWriter::start_live(&generation, workers.clone(), Arc::clone(&names), origin)?,
    };
    for batch in pending {
        history.sender().send(batch)?;
    }
    // What is known may be older than what was committed last, which Redis may show.
    let committed = restored.as_ref().map_or(0, |restored| restored.newest().manifest.as_of);
    if let Some(served) = &served {
        served.fill(Arc::clone(&view), Arc::new(generation.about().clone()), committed);
    }
    let with_redis = ready.redis.is_some();
    // It has read all there was.
    let through = Arc::new(AtomicBool::new(false));
    let open_redis = ready.redis.map(|redis| {
        let (about, view, workers, registry) = (generation.about().clone(), Arc::clone(&view), workers.clone(), registry.clone());
        let (observed, through) = (registry.clone(), Arc::clone(&through));
        let redis = redis.telling(move || ProcessStatus {
            finished: through.load(Ordering::Acquire),
            ..ProcessStatus::of(process, processes, &observed.sample(wall_ms()))
        });
        move || {
            let sink = Arc::new(redis.start(&about, view, workers, peers));
            registry.register(Arc::new(ViewObserved(Arc::downgrade(&sink))));
            sink
        }
    });
    let copies = Arc::new(Copies::new(Arc::clone(&view), Some(history.sender())).outside(committed, open_redis));
    let checkpointer = checkpoints.as_ref().map(|settings| {
        let newest = restored.as_ref().map(Restored::newest);
        let mut left_out = match &input {
            Input::Kafka(kafka) => kafka.exclude.clone(),
            Input::Dataset(_) => Vec::new(),
        };
        let read = plan.requests.iter().filter(|request| places.has_read(request));
        left_out.extend(read.map(|request| (REPLAY.to_owned(), request.number)));
        let left_out = restored.as_ref().map(|restored| restored.left_out(&left_out)).unwrap_or_default();
        let setting = setting_of(&job, &input, &accepted);
        let leader = leader.then(|| Leader {
            writer: Writer::after(&log, newest, &plan.run, settings.keep).making_up_from(origin),
            collector: Collector::new(&log, &plan.run),
            setting,
            names: Arc::clone(&names),
            left_out,
            silence,
        });
        let number = newest.map_or(1, |newest| newest.manifest.number + 1);
        let (log, run, horizons) = (log.clone(), plan.run.clone(), job.horizons);
        let (workers, made_by) = (workers.clone(), Arc::clone(generation.made_by()));
        let setting = checkpointer::Setting { log, run, workers, peers, number, chains, horizons, made_by, leader };
        Checkpointer::start(setting).map(Arc::new)
    });
    let checkpointer = checkpointer.transpose()?;
    let durability = checkpointer.iter().zip(&checkpoints).next().map(|(checkpointer, settings)| Durability {
        checkpoints: Arc::clone(checkpointer),
        every: settings.every,
        not_before: committed,
    });

    let (senders, intakes): (Vec<_>, Vec<_>) = hands.into_iter().map(|partitions| intake(partitions, goes_on)).unzip();
    let stats: Vec<Arc<WorkerStats>> = intakes.iter().map(|_| Arc::default()).collect();
    let drain = Arc::new(AtomicBool::new(false));
    let peer_watch = (processes > 1).then(|| cluster.watch());
    let crew = Crew {
        job: Arc::new(job.clone()),
        tuning: tuning.clone(),
        intakes,
        beginnings,
        origin,
        durability,
        start: clocks.iter().filter_map(|clocks| clocks.start).min().unwrap_or(0),
        records_per_hour: clocks.iter().map(|clocks| clocks.records_per_hour).fold(0, u64::saturating_add),
        names: Arc::clone(&names),
        stats: stats.clone(),
        measure_latency: false,
        drain: Arc::clone(&drain),
        peers: peer_watch.clone(),
    };
    let builders = cluster.into_timely(tuning.workers)?;

    registry.register(Arc::new(Workers { first: workers.start, stats: stats.clone() }));
    registry.register(history.sender().written());
    if let Some(checkpointer) = &checkpointer {
        registry.register(Arc::clone(checkpointer) as _);
    }
    if let Some(kafka) = &ready.kafka {
        registry.register(Arc::new(kafka.clone()));
    }
    health.set_sources_reading(true);
    health.set_view_connected(!with_redis);

    let unnamed = Vec::new();
    let mut arrivals = Arrivals { job: &job, names: &names, schemas, senders, workers: workers.clone(), peers, leader, unnamed };
    let known = plan.requests.iter().map(|request| request.number).collect();
    let look = || Again::look(&store, generation.keys(), known, workers.clone(), peers);
    let again = (goes_on && checkpoints.is_some()).then(look).transpose()?;
    let mut pointer = Pointer { advanced: plan.shown_before, due: Instant::now(), every: advance_every };
    let (mut report_due, mut stopped, mut holder) = (Instant::now(), None, Holder { said: Instant::now() });
    let opening = began.elapsed();
    let mut share = dead_letter_max_share.map(|allowed| DeadShare::new(allowed, job.horizons.window));
    let mut too_many = None;
    let ran = workers::run(crew, builders, Arc::clone(&copies) as _, || {
        watch(Watch { stats: &stats, input_bytes: ready.input_bytes });
        for (worker, stats) in stats.iter().enumerate().filter(|(_, stats)| stats.stepped.get() > 0) {
            health.stepped(worker, stats.stepped.get());
        }
        if let Some(sink) = copies.redis() {
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
        if let Some(again) = &again {
            again.found().for_each(|(number, letters)| arrivals.take_again(number, letters));
        }
        if goes_on {
            holder.say(&stats);
        }
        health.set_schema_wait(schemas.longest_wait());
        if let (Some(share), None) = (&mut share, &too_many) {
            too_many = share.look(&stats);
            // Others of the cluster learn of it as of any process that is told to stop.
            too_many.iter().for_each(|_| stop.store(true, Ordering::Relaxed));
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
    // Whoever ends because another has gone does so at once, not when a store that does not answer is given up.
    match &checkpointer {
        Some(checkpointer) if ran.is_ok() => checkpointer.close(),
        Some(checkpointer) => checkpointer.shown(u64::MAX),
        None => {}
    }
    let (finished, totals) = settle(ran, history)?;
    // An input may end before it is looked at.
    let too_many = too_many.or_else(|| share.as_mut()?.look(&stats));
    // Stopped before it had caught up, a run takes nothing back: what was shown before stays current.
    let stopped = stop.load(Ordering::Relaxed);
    let finished = Finished { took: opening + finished.took, ..finished };
    let behind = stopped && finished.as_of < plan.shown_before.max(committed);
    if !behind {
        view.dump(&generation)?;
    }
    if let Some(kafka) = ready.kafka {
        kafka.report(&published_positions(&stats));
        kafka.close();
    }
    if let Some(sink) = copies.redis() {
        drop(copies);
        through.store(!stopped && too_many.is_none(), Ordering::Release);
        if leader {
            sink.mark(finished.as_of, !stopped);
        }
        close_redis(sink, stop_patience)?;
    }
    let place = generation.place();
    end(generation, process, processes, finished.as_of, behind, &plan.run)?;
    served.iter().for_each(|served| served.end(!stopped && too_many.is_none()));
    if let Some(too_many) = too_many {
        return Err(RunError::DeadLetters(too_many));
    }
    Ok(Kept { finished, view, totals, dir: place })
}

/// Loads a checkpoint's state in all processes; if one of them finds it damaged, all take the checkpoint before it, and so on.
fn load(
    cluster: &mut Cluster,
    mut from: Restored,
    part: impl Fn(&Restored) -> Result<Loaded, CheckpointError>,
    fall_back: impl Fn(Restored, &str) -> Result<Restored, RunError>,
) -> Result<(Restored, Loaded), RunError> {
    loop {
        let (mine, damage) = match part(&from) {
            Ok(loaded) => (Ok(Some(loaded)), None),
            Err(error) if error.is_damage() => (Ok(None), Some(chain(&error))),
            Err(error) => (Err(error.into()), None),
        };
        let (mine, damages) = agree(cluster, mine, |_| encoded(&damage))?;
        let damaged = damages.iter().find_map(|damage| decoded::<Option<String>>(damage));
        match (mine, damaged) {
            (Some(loaded), None) => return Ok((from, loaded)),
            (_, Some(damaged)) => from = agree(cluster, fall_back(from, &damaged), |_| Vec::new())?.0,
            (None, None) => unreachable!("whoever has nothing has told why"),
        }
    }
}

/// Refuses to show the memory of one process as if it were all.
fn check_alone(served: bool, processes: usize) -> Result<(), RunError> {
    if served && processes > 1 {
        let text = "--serve shows what one process has in memory, and this job has several: give them --redis, and serve from there \
                    by `storeflow serve --redis`";
        return Err(RunError::Flag(text.to_owned()));
    }
    Ok(())
}

/// What a process has at hand before the run.
struct Ready {
    plan: Plan,
    generation: Option<Generation>,
    kafka: Option<KafkaSource>,
    redis: Option<RedisView>,
    input_bytes: u64,
}

/// What is wanted of what there is.
struct Wanted {
    /// The generation to go on with or to begin; `None`: the one that is shown.
    generation: Option<u64>,
    /// There are checkpoints.
    durable: bool,
    accept_job_change: bool,
}

fn prepare(
    job: &mut Job,
    input: &Input,
    store: &Store,
    redis: Option<&RedisSettings>,
    wanted: &Wanted,
    leader: bool,
    peers: usize,
) -> Result<Ready, RunError> {
    let (kafka, input_bytes) = match input {
        Input::Kafka(settings) => (Some(KafkaSource::connect(job, settings)?), 0),
        Input::Dataset(dataset) => (None, partitions(job, dataset)?.iter().map(|file| file.bytes).sum()),
    };
    let mut redis = redis.map(|settings| RedisView::connect(settings, &job.name)).transpose()?;
    let mut ready = Ready { plan: Plan::default(), generation: None, kafka, redis: None, input_bytes };
    if leader {
        let current = match Current::open(store) {
            Ok(current) => Some(current),
            Err(PublishError::NoRun { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        ready.plan.shown_before = current.as_ref().map_or(0, |current| current.as_of);
        // What is shown without checkpoints can be gone on with by nobody.
        let chosen = if wanted.durable { choose(store, job, input, wanted.generation, current.as_ref())? } else { None };
        let generation = match &chosen {
            Some((generation, read)) => {
                if let Some(read) = read {
                    let adopted = adopt(job, input, &read.manifest, wanted.accept_job_change)?;
                    check_accepted(store, job, &read.manifest, &adopted)?;
                }
                Generation::resume(store, job, peers, *generation)?
            }
            None => {
                let in_redis = redis.as_mut().map(RedisView::current).transpose()?.flatten();
                let next = in_redis.map(|current| current.about.generation + 1);
                Generation::create(store, job, peers, wanted.generation.or(next))?
            }
        };
        let number = generation.about().generation;
        let read = chosen.and_then(|(_, read)| read);
        if let Some(read) = &read {
            check_ahead(number, read.manifest.as_of, current.as_ref(), redis.as_mut())?;
        }
        if let Some(kafka) = &ready.kafka {
            ready.plan.listed = kafka.list()?;
        }
        (ready.plan.generation, ready.plan.run) = (number, run_id());
        // Without checkpoints nobody could tell which of them were read.
        if wanted.durable {
            ready.plan.requests = requests(store, generation.keys())?;
        }
        ready.plan.checkpoint = read.map(|read| read.manifest.number);
        ready.generation = Some(generation);
    }
    ready.redis = redis;
    Ok(ready)
}

/// Partitions begin where the checkpoint that is loaded says; those that it does not know, of topics that it does, at their beginning: they
/// are new.
fn place(listed: &mut [Listed], places: &Places) {
    for listed in listed {
        match places.position(&listed.topic, listed.partition) {
            Some(position) => listed.start = position,
            None if places.knows(&listed.topic) => listed.start = listed.low,
            None => {}
        }
    }
}

/// Refuses to go on from a checkpoint that is older than what is shown of its generation.
fn check_ahead(generation: u64, as_of: u64, current: Option<&Current>, redis: Option<&mut RedisView>) -> Result<(), RunError> {
    let in_store = current.filter(|current| current.about.generation == generation).map(|current| current.as_of);
    let in_redis = redis.map(|redis| redis.furthest(generation)).transpose()?.flatten();
    for (what, shown) in [("the store's current.json", in_store), ("the view in Redis", in_redis)] {
        if let Some(shown) = shown.filter(|shown| *shown > as_of) {
            let (shown, as_of) = (instant(shown as i64), instant(as_of as i64));
            return Err(RunError::Recovery(format!(
                "{what} is as of {shown}, the newest checkpoint as of {as_of}: going on would take back what was shown. Put the \
                 later checkpoints back; or, to go back on purpose, `storeflow checkpoints drop-after` and then \
                 `storeflow rebuild-view`; or begin a new generation with --generation"
            )));
        }
    }
    Ok(())
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
        (position > 0 && of.topic != REPLAY).then(|| (of.topic.clone(), of.partition, position))
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
fn end(generation: Generation, process: usize, processes: usize, as_of: u64, behind: bool, run: &str) -> Result<(), RunError> {
    let said = |process: usize| format!("{}/ended/{run}-{process}", generation.keys().prefix());
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
    // Runs of other numbers of workers have dumped their views under other names.
    let (views, ours) = generation.keys().views();
    let store = generation.store();
    for key in store.list(&views).map_err(PublishError::from)?.iter().filter(|key| !key.ends_with(&ours)) {
        store.delete(key).map_err(PublishError::from)?;
    }
    if behind {
        tracing::warn!(as_of, "stopped before it had caught up with what was shown before, which stays as it is");
        return Ok(());
    }
    generation.finish(as_of)?;
    Ok(())
}
