//! Inputs that go on: what comes by way of a connector gives the same numbers as files, quiet partitions hold nobody back, and a
//! stop leaves a cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use storeflow::config::Job;
use storeflow::decode::HASHING;
use storeflow::observe::{WorkerStats, wall_ms};
use storeflow::runtime::workers::{self, Crew, Finished, Tuning, alone};
use storeflow::source::names::PartitionNames;
use storeflow::source::operator::{Arrival, Intake};
use storeflow::source::partition::{Next, Partition, Quiet};
use storeflow::verify::{Recomputation, compare};
use storeflow_dataflows::beginning::Beginning;

use crate::support::exact::{assert_exact, assert_none, cases};
use crate::support::histories::{Step, history, job, render};
use crate::support::memory::{Entry, MemoryLog, entries};
use crate::support::recorder::{Recorder, Run, record_by};

type Files = Vec<(String, u32, Vec<u8>)>;

/// Longer than anything here takes; only so that a fault is a message and not a hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// The files' records as logs, and the files without what no log could hold.
fn logs(files: Files, ends: bool) -> (Vec<Arc<MemoryLog>>, Files) {
    let split = files.into_iter().map(|(topic, number, content)| {
        let (entries, kept) = entries(&content);
        (if ends { MemoryLog::ending(entries) } else { MemoryLog::going_on(entries) }, (topic, number, kept))
    });
    split.unzip()
}

/// A partition of the job's, by its place among the files.
fn partition(job: &Job, files: &Files, at: usize, log: &Arc<MemoryLog>, dry_every: u64, quiet: Quiet) -> Partition {
    let (topic, number, _) = &files[at];
    let names = PartitionNames::sorted(topics(files));
    let id = names.id(topic, *number);
    Partition::going_on(job, topic, *number, id, log.feed(dry_every), quiet, &Arc::default())
}

/// A crew whose workers read these partitions, each dealt to the worker with its number.
pub(crate) fn crew(job: &Job, tuning: &Tuning, mut partitions: Vec<Partition>, dealt: impl Fn(usize) -> usize) -> Crew {
    for partition in &mut partitions {
        while !partition.looked_through() {
            partition.start(0, true).expect("memory");
        }
        partition.start(0, true).expect("memory");
    }
    let clocks = || partitions.iter().filter(|partition| !partition.waiting()).map(|partition| partition.clock().now());
    let (start, workers) = (clocks().filter(|&clock| clock > 0).min().unwrap_or(0), tuning.workers);
    let records_per_hour = partitions.iter().map(Partition::records_per_hour).sum();
    let mut intakes: Vec<Intake> = (0..workers).map(|_| Intake { partitions: Vec::new(), arrivals: None }).collect();
    for (at, partition) in partitions.into_iter().enumerate() {
        intakes[dealt(at) % workers].partitions.push(partition);
    }
    let stats = (0..workers).map(|_| Arc::default()).collect();
    let (job, tuning) = (Arc::new(job.clone()), tuning.clone());
    let (names, drain) = Default::default();
    let beginnings = (0..workers).map(|_| Beginning::new(job.horizons, HASHING, false)).collect();
    Crew {
        job,
        tuning,
        intakes,
        beginnings,
        origin: 0,
        durability: None,
        start,
        records_per_hour,
        names,
        stats,
        measure_latency: false,
        drain,
        peers: None,
    }
}

fn topics(files: &Files) -> Vec<String> {
    files.iter().map(|(topic, ..)| topic.clone()).collect()
}

fn tuning() -> impl Strategy<Value = Tuning> {
    let ticks = [None, Some(1_000), Some(60_000)];
    (1usize..=3, proptest::sample::select(ticks.to_vec()), 0u64..6).prop_map(|(workers, tick, align)| Tuning {
        workers,
        tick,
        align,
        ..Tuning::default()
    })
}

fn sorted(steps: &[Step]) -> Files {
    let mut files = render(steps);
    files.sort();
    files
}

proptest! {
    #![proptest_config(cases(60))]

    /// Logs that end give every number that files give, wherever a poll brings nothing.
    #[test]
    fn logs_that_end_equal_files(steps in history(120), tuning in tuning(), dry_every in 0u64..4, distinct in any::<bool>()) {
        let job = job(30, 2, 60, 90, distinct);
        let (logs, files) = logs(sorted(&steps), true);
        let twin = Recomputation::from_files(&job, &files);
        let dry_every = if dry_every == 1 { 0 } else { dry_every };
        let partitions = (0..).zip(&logs).map(|(at, log)| partition(&job, &files, at, log, dry_every, Quiet::Wall)).collect();
        let crew = crew(&job, &tuning, partitions, |at| at);
        let run = record_by(&job, topics(&files), |recorder| finish(crew, recorder));
        assert_exact(&job, &tuning, &run, &twin);
    }

    /// A stop at any moment leaves a cut: every as-of that was shown is exact, and none is beyond what was read.
    #[test]
    fn a_stop_leaves_a_cut(steps in history(120), tuning in tuning(), after in 0u64..3_000) {
        let job = job(30, 2, 60, 90, true);
        let (logs, files) = logs(sorted(&steps), false);
        let twin = Recomputation::from_files(&job, &files);
        let partitions = (0..).zip(&logs).map(|(at, log)| partition(&job, &files, at, log, 3, Quiet::Hold)).collect();
        let (crew, senders) = going(crew(&job, &tuning, partitions, |at| at));
        let drain = Arc::clone(&crew.drain);
        let began = Instant::now();
        let run = record_by(&job, topics(&files), |recorder| {
            workers::run(crew, alone(tuning.workers).expect("threads"), recorder, || {
                if began.elapsed() >= Duration::from_micros(after) {
                    drain.store(true, Ordering::Relaxed);
                }
                Ok(())
            })
            .expect("a run")
        });
        drop(senders);
        exact_at_all(&run, &twin);
    }
}

/// Lets the workers' input go on; arrivals come by the senders.
pub(crate) fn going(mut crew: Crew) -> (Crew, Vec<Sender<Arrival>>) {
    let senders = crew.intakes.iter_mut().map(|intake| {
        let (sender, receiver) = channel();
        intake.arrivals = Some(receiver);
        sender
    });
    let senders = senders.collect();
    (crew, senders)
}

fn finish(crew: Crew, recorder: Arc<Recorder>) -> Finished {
    let workers = crew.intakes.len();
    workers::run(crew, alone(workers).expect("threads"), recorder, || Ok(())).expect("a run")
}

pub(crate) fn exact_at_all(run: &Run, twin: &Recomputation) {
    for as_of in run.as_ofs(None) {
        let of = format!("at {as_of} of {:?}, the end is {}", run.as_ofs(None), run.finished.as_of);
        assert_none(&compare(&twin.cells_at(as_of), &run.cells_at(as_of)), &of);
    }
}

/// Runs until all workers have handed over an as-of of `until`, doing `meanwhile` again and again, then stops.
pub(crate) fn run_until(
    crew: Crew,
    recorder: Arc<Recorder>,
    until: u64,
    mut meanwhile: impl FnMut(&[Arc<WorkerStats>]),
) -> Finished {
    let (stats, drain, began) = (crew.stats.clone(), Arc::clone(&crew.drain), Instant::now());
    let workers = crew.intakes.len();
    let stop = |drain: &AtomicBool| drain.store(true, Ordering::Relaxed);
    workers::run(crew, alone(workers).expect("threads"), recorder, || {
        meanwhile(&stats);
        if stats.iter().all(|stats| stats.as_of.get() >= until) {
            stop(&drain);
        }
        assert!(began.elapsed() < PATIENCE, "no as-of {until}: {:?}", stats.iter().map(|s| s.as_of.get()).collect::<Vec<_>>());
        Ok(())
    })
    .expect("a run")
}

fn click(at: u64) -> Entry {
    let value = format!(r#"{{"store":"s","kind":"view","product":"p","at":{at}}}"#);
    (at, Some(at), None, Some(value.into_bytes()))
}

fn line(topic: &str, (position, ts, _, value): &Entry) -> String {
    let value = String::from_utf8(value.clone().expect("a value")).expect("UTF-8");
    format!(
        "{{\"topic\":\"{topic}\",\"partition\":0,\"offset\":{position},\"ts\":{},\"payload\":{value}}}\n",
        ts.expect("a time")
    )
}

/// Two partitions of clicks: one goes quiet, the other goes on.
struct Clicks {
    job: Job,
    files: Files,
    logs: Vec<Arc<MemoryLog>>,
}

impl Clicks {
    fn new(times: [Vec<u64>; 2]) -> Self {
        let job = job(30, 2, 2_880, 600, true);
        let topic = render(&[]).into_iter().map(|(topic, ..)| topic).find(|topic| topic.contains("click")).expect("clicks");
        let (mut files, mut logs) = (Files::new(), Vec::new());
        for (number, times) in (0..).zip(times) {
            let entries: Vec<_> = times.iter().map(|&at| click(at)).collect();
            let content: String = entries.iter().map(|entry| line(&topic, entry)).collect();
            files.push((topic.clone(), number, content.into_bytes()));
            logs.push(MemoryLog::going_on(entries));
        }
        Clicks { job, files, logs }
    }
    fn partition(&self, at: usize, quiet: Quiet) -> Partition {
        partition(&self.job, &self.files, at, &self.logs[at], 0, quiet)
    }
    fn twin(&self) -> Recomputation {
        Recomputation::from_files(&self.job, &self.files)
    }
}

const MINUTE: u64 = 60_000;

#[test]
fn a_quiet_partition_follows_wall_time_once_the_log_confirms_it() {
    for workers in [1, 2] {
        let now = wall_ms();
        let clicks = Clicks::new([(0..200).map(|i| now - (200 - i) * MINUTE).collect(), vec![now - 50 * MINUTE]]);
        clicks.logs.iter().for_each(|log| log.ask(now));
        let tuning = Tuning { workers, ..Tuning::default() };
        let partitions = vec![clicks.partition(0, Quiet::Wall), clicks.partition(1, Quiet::Wall)];
        let (crew, _senders) = going(crew(&clicks.job, &tuning, partitions, |at| at));
        // All but what may be on its way to the log is shown.
        let run = record_by(&clicks.job, topics(&clicks.files), |recorder| run_until(crew, recorder, now - 2 * MINUTE, |_| ()));
        assert!(run.finished.as_of < now);
        exact_at_all(&run, &clicks.twin());
    }
}

#[test]
fn wall_time_waits_for_records_that_were_read_and_not_taken() {
    let now = wall_ms();
    let times = vec![now - 50 * MINUTE, now - 40 * MINUTE];
    let clicks = Clicks::new([times.clone(), vec![]]);
    clicks.logs[0].ask(now);
    let mut partition = clicks.partition(0, Quiet::Wall);
    // Its clock starts with both records, and the log has nothing beyond them.
    assert!(partition.start(0, true).expect("memory"));
    for time in times {
        partition.pass_time(now);
        let Next::Record(placed) = partition.next(0).expect("memory") else { panic!("a record of {time}") };
        assert_eq!(placed.order.stamp, time);
    }
    partition.pass_time(now);
    assert!(partition.clock().now() > now - MINUTE, "now it is quiet");
}

#[test]
fn a_quiet_partition_that_is_told_to_hold_holds() {
    let now = wall_ms();
    let quiet_since = now - 50 * MINUTE;
    let clicks = Clicks::new([(0..200).map(|i| now - (200 - i) * MINUTE).collect(), vec![quiet_since]]);
    clicks.logs.iter().for_each(|log| log.ask(now));
    let partitions = vec![clicks.partition(0, Quiet::Wall), clicks.partition(1, Quiet::Hold)];
    let (crew, _senders) = going(crew(&clicks.job, &Tuning::default(), partitions, |at| at));
    let until = quiet_since - MINUTE;
    let run = record_by(&clicks.job, topics(&clicks.files), |recorder| run_until(crew, recorder, until, |_| ()));
    assert!(run.finished.as_of <= quiet_since, "nobody knows what is still to come there");
    exact_at_all(&run, &clicks.twin());
}

#[test]
fn an_old_log_being_loaded_does_not_follow_wall_time() {
    let now = wall_ms();
    let old = now - 10_000 * MINUTE;
    let clicks = Clicks::new([(0..50).map(|i| old + i * MINUTE).collect(), vec![old]]);
    clicks.logs.iter().for_each(|log| log.ask(now));
    clicks.logs[1].append(click(old + 49 * MINUTE));
    let partitions = vec![clicks.partition(0, Quiet::Wall), clicks.partition(1, Quiet::Wall)];
    // So far behind wall time, ticks would be long.
    let tuning = Tuning { tick: Some(1_000), ..Tuning::default() };
    let (crew, _senders) = going(crew(&clicks.job, &tuning, partitions, |at| at));
    let run = record_by(&clicks.job, topics(&clicks.files), |recorder| run_until(crew, recorder, old + 45 * MINUTE, |_| ()));
    assert!(run.finished.as_of <= old + 49 * MINUTE);
}

#[test]
fn workers_without_partitions_hold_nobody_back_and_take_what_arrives() {
    for workers in [1, 3] {
        let now = wall_ms();
        let start = now - 300 * MINUTE;
        let minutes = |from: u64, to: u64| (from..to).map(|i| start + i * MINUTE).collect::<Vec<_>>();
        let clicks = Clicks::new([minutes(0, 120), minutes(121, 300)]);
        // Five hours behind, ticks would be of five minutes, and whether one ends after the 115th minute would be up to the clock.
        let tuning = Tuning { workers, tick: Some(MINUTE), ..Tuning::default() };
        let (crew, senders) = going(crew(&clicks.job, &tuning, vec![clicks.partition(0, Quiet::Hold)], |_| 0));
        let mut arrives = Some(clicks.partition(1, Quiet::Hold));
        let (log, mut more) = (Arc::clone(&clicks.logs[0]), minutes(120, 299));
        let mut files = clicks.files.clone();
        files[0].2.extend(more.iter().flat_map(|&at| line(&clicks.files[0].0, &click(at)).into_bytes()));
        let run = record_by(&clicks.job, topics(&clicks.files), |recorder| {
            run_until(crew, recorder, start + 295 * MINUTE, |stats| {
                // Once everybody is past what the first partition had, a second one appears, for the last worker.
                if stats.iter().all(|stats| stats.as_of.get() >= start + 115 * MINUTE)
                    && let Some(partition) = arrives.take()
                {
                    senders[workers - 1].send(Arrival::Partition(Box::new(partition), true)).expect("it listens");
                }
                // It holds log time until it is read, so that the others cannot pass it.
                let read = |stats: &Arc<WorkerStats>| {
                    stats.partitions.lock().expect("not poisoned").iter().any(|p| p.records.get() > 0 && p.partition == 1)
                };
                if stats.iter().any(read) {
                    more.drain(..).for_each(|at| log.append(click(at)));
                }
            })
        });
        let twin = Recomputation::from_files(&clicks.job, &files);
        exact_at_all(&run, &twin);
        assert!(run.finished.as_of <= start + 298 * MINUTE);
    }
}

#[test]
fn a_clock_starts_with_the_records_that_are_there_and_only_an_empty_log_holds_nobody() {
    let first = wall_ms() - 50 * MINUTE;
    let clicks = Clicks::new([vec![first], vec![]]);
    let mut partition = clicks.partition(0, Quiet::Wall);
    clicks.logs[0].ask(0);
    assert!(!partition.start(0, true).expect("memory"), "more may be on the way");
    clicks.logs[0].ask(first + MINUTE);
    assert!(!partition.looked_through(), "its record has come, its clock has not started");
    assert!(partition.start(0, true).expect("memory") && partition.looked_through() && partition.holds());
    assert_eq!(partition.clock().now(), first);

    let mut empty = clicks.partition(1, Quiet::Wall);
    assert!(empty.looked_through() && empty.waiting() && !empty.holds());
    empty.arrive(first, true);
    assert!(empty.holds() && empty.clock().now() == first, "its log is said to have records");
    assert!(!empty.start(first, false).expect("memory") && !empty.holds(), "it has none after all");
}
