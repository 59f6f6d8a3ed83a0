//! One run of a cluster, from its newest checkpoint to the end of the input, or to what stops it.
//!
//! ```text
//! newest ─► load ─► show ─► { tick ─► objects of each worker, merges ─► commit ─► show ─► collect } until the end
//! ```
//!
//! Workers are a number here: one thread does what each would do in turn, and every request of any of them is a step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use storeflow_dataflows::state::{Section, StateRow, StateRows};
use storeflow_dataflows::table::Table;

use super::world::{Applied, BUCKETS, Dice, END, PREFIX, Totals, World};
use crate::chain::{chain, plan};
use crate::collect::Collector;
use crate::commit::{Cut, Writer};
use crate::damage::CheckpointError;
use crate::error::LogError;
use crate::load::load;
use crate::log::{Log, Read};
use crate::manifest::Manifest;
use crate::merge::merge;
use crate::names::StateName;
use crate::object::{Group, Object, write};
use crate::objects::{ObjectError, Objects};
use crate::testing::Process;

const SECTION: Section = Section::Cells(Table::StoreProducts);

/// Why a run ended before its input did.
#[derive(Debug)]
pub(super) enum Stop {
    /// The process crashed, as the test wanted, or a request failed.
    Failed,
    /// Another run owns the job.
    Superseded,
    /// What it was loading was collected under it, or the view is ahead of it: only if another run has committed.
    Overtaken(String),
}

impl From<ObjectError> for Stop {
    fn from(_: ObjectError) -> Stop {
        Stop::Failed
    }
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Stop {
        match error {
            LogError::Superseded { .. } => Stop::Superseded,
            error if error.is_outage() => Stop::Failed,
            LogError::Missing { .. } => Stop::Overtaken(error.to_string()),
            error => panic!("{error}"),
        }
    }
}

impl From<CheckpointError> for Stop {
    fn from(error: CheckpointError) -> Stop {
        match error {
            CheckpointError::Objects(_) => Stop::Failed,
            CheckpointError::Missing { .. } => Stop::Overtaken(error.to_string()),
            error => panic!("{error}"),
        }
    }
}

/// Whether a run found a damaged object, and replayed what was in it.
#[derive(Debug)]
pub(super) struct Repaired(pub(super) bool);

/// How a run is started.
pub(super) struct Start {
    pub(super) run: String,
    pub(super) workers: usize,
    pub(super) keep: usize,
    pub(super) dice: Dice,
}

struct Cluster<'a> {
    world: &'a World,
    process: &'a Process,
    start: Start,
    /// Each worker's objects in the order of their as-ofs.
    chains: Vec<Vec<Object>>,
    /// Merged, and not in a manifest yet: worker, first object, how many, what takes their place.
    merged: Vec<(usize, usize, usize, Object)>,
    merges: u64,
    totals: Totals,
    as_of: u64,
    /// As-of up to which changes are in objects.
    written: u64,
    /// Whether a damaged object was replaced by a replay.
    repaired: bool,
    /// What this run's clock shows beyond the true time, in milliseconds, plus two hours.
    ahead_ms: u64,
}

/// Runs a cluster; whether it had to repair its state.
pub(super) fn run(world: &World, process: &Arc<Process>, mut start: Start) -> Result<Repaired, Stop> {
    let log = Log::open(Arc::clone(process) as Arc<dyn Objects>, PREFIX, "mall", 1);
    let ahead_ms = start.dice.below(4 * 3_600_000);
    let (chains, merged) = (vec![Vec::new(); start.workers], Vec::new());
    let mut cluster = Cluster {
        world,
        process,
        start,
        chains,
        merged,
        merges: 0,
        totals: Totals::new(),
        as_of: 0,
        written: 0,
        repaired: false,
        ahead_ms,
    };
    let mut looked_at = world.tick();
    let newest = log.newest()?;
    if let Some(read) = &newest {
        world.saw(&read.manifest);
        cluster.load(&log, read)?;
        if read.manifest.complete {
            return Ok(Repaired(cluster.repaired));
        }
    }
    let mut writer = Writer::after(&log, newest.as_ref(), &cluster.start.run, cluster.start.keep);
    let mut collector = Collector::new(&log, &cluster.start.run);
    while cluster.as_of < END {
        if cluster.start.dice.one_in(6) {
            world.sleep(cluster.start.dice.below(30));
        }
        let previous = cluster.as_of;
        let (changes, cut) = cluster.next(writer.next())?;
        let read = world.committing(|| {
            let silent = Duration::from_millis(world.tick() - looked_at);
            writer.commit(cut, silent)
        })?;
        world.saw(&read.manifest);
        looked_at = world.tick();
        assert_eq!(read.manifest.previous_as_of, previous);
        cluster.show(Some(previous), &changes)?;
        // The next checkpoint tries again, and so does the next run.
        let collected = collector.collect(&read, cluster.wall());
        match collected {
            Ok(_) => world.check_store(),
            Err(error) => match Stop::from(error) {
                Stop::Failed if !process.crashed() => {}
                stop => return Err(stop),
            },
        }
    }
    Ok(Repaired(cluster.repaired))
}

impl Cluster<'_> {
    fn own(&self, worker: usize) -> Group {
        Group { index: worker, of: self.start.workers }
    }

    fn wall(&self) -> u64 {
        self.world.tick() + self.ahead_ms - 2 * 3_600_000
    }

    /// Takes over what a checkpoint holds, and shows it where it is not shown yet.
    fn load(&mut self, log: &Log, newest: &Read) -> Result<(), Stop> {
        let manifest = &newest.manifest;
        assert_eq!(manifest.partitions, self.world.partitions(manifest.as_of), "positions are those of the cut");
        let mut from = Some(newest.clone());
        while let Some(read) = &from {
            match self.load_state(&read.manifest) {
                Ok(()) => break,
                // The state before it, and a replay to exactly the newest's positions, or the whole input if it must be.
                Err(CheckpointError::Damaged { .. }) => {
                    self.repaired = true;
                    from = log.earlier(manifest, read.manifest.number)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if from.is_none() {
            (self.chains, self.totals) = (vec![Vec::new(); self.start.workers], Totals::new());
        }
        // What is replayed is written with the next checkpoint.
        self.written = from.map_or(0, |read| read.manifest.as_of);
        for (key, add) in self.world.added(self.written..manifest.as_of) {
            *self.totals.entry(key).or_default() += add;
        }
        self.totals.retain(|_, total| *total != 0);
        self.as_of = manifest.as_of;
        assert_eq!(self.totals, self.world.twin(self.as_of), "state at as-of {}", self.as_of);
        match rows(self.process, &manifest.fresh, Group { index: 0, of: 1 }) {
            Ok(fresh) => self.show(Some(manifest.previous_as_of), &fresh),
            Err(CheckpointError::Damaged { .. }) => self.show(None, &self.totals),
            Err(error) => Err(error.into()),
        }
    }

    fn load_state(&mut self, manifest: &Manifest) -> Result<(), CheckpointError> {
        self.totals.clear();
        for worker in 0..self.start.workers {
            let own = self.own(worker);
            self.chains[worker] = chain(&manifest.state, own);
            let loaded = rows(self.process, &self.chains[worker], own)?;
            self.totals.extend(loaded);
        }
        self.totals.retain(|_, total| *total != 0);
        assert_eq!(self.totals, self.world.twin(manifest.as_of), "state at as-of {}", manifest.as_of);
        Ok(())
    }

    /// Reads to the next as-of, writes what changed, and merges something.
    fn next(&mut self, number: u64) -> Result<(Totals, Cut), Stop> {
        let previous = self.as_of;
        // Ticks of any size; some are empty.
        self.as_of = (previous + 1 + self.start.dice.below(40)).min(END);
        let mut changes = Totals::new();
        for (key, add) in self.world.added(previous..self.as_of) {
            *self.totals.entry(key).or_default() += add;
        }
        for (key, _) in self.world.added(self.written..self.as_of) {
            changes.insert(key, self.totals.get(&key).copied().unwrap_or_default());
        }
        self.written = self.as_of;
        for (worker, from, count, object) in std::mem::take(&mut self.merged) {
            self.chains[worker].splice(from..from + count, [object]);
        }
        let mut fresh = Vec::new();
        for worker in 0..self.start.workers {
            let group = self.own(worker);
            let mut list = StateRows::default();
            for (&key, total) in changes.iter().filter(|&(&key, _)| group.owns(hash(key) >> 54)) {
                list.push(StateRow { hash: hash(key), key: &key.to_le_bytes(), value: &total.to_le_bytes() });
            }
            let key = StateName { number, group, merged: None, run: &self.start.run }.key(PREFIX);
            let object = write(self.process, &key, self.as_of, group, &BTreeMap::from([(SECTION, vec![list])]))?;
            fresh.push(object.clone());
            self.chains[worker].push(object);
            self.merge(worker, number)?;
        }
        let cut = Cut {
            as_of: self.as_of,
            written_at: self.wall(),
            complete: self.as_of == END,
            workers: self.start.workers,
            setting: serde_json::Value::Null,
            topics: vec!["mall.payments".to_owned()],
            partitions: self.world.partitions(self.as_of),
            state: self.chains.iter().flatten().cloned().collect(),
            fresh,
        };
        Ok((changes, cut))
    }

    /// Merges what is due, or anything; the outcome comes into this manifest or the next one.
    fn merge(&mut self, worker: usize, number: u64) -> Result<(), Stop> {
        let group = self.own(worker);
        let (dice, chain) = (&mut self.start.dice, &mut self.chains[worker]);
        let mut any = || {
            let from = dice.below(chain.len() as u64 - 1) as usize;
            from..from + 2 + dice.below((chain.len() - from) as u64 - 1) as usize
        };
        let range = match plan(chain, group) {
            Some(range) => range,
            None if chain.len() > 3 => any(),
            None => return Ok(()),
        };
        self.merges += 1;
        let key = StateName { number, group, merged: Some(self.merges), run: &self.start.run }.key(PREFIX);
        // What is zero is forgotten, but only where nothing older could come back.
        let keep = |_, row: StateRow<'_>| range.start > 0 || row.value != 0i64.to_le_bytes();
        let object = merge(self.process, &chain[range.clone()], &key, group, &keep)?;
        if self.start.dice.one_in(2) {
            self.chains[worker].splice(range, [object]);
        } else {
            self.merged.push((worker, range.start, range.len(), object));
        }
        Ok(())
    }

    /// Shows the state in all buckets: by changes where the view is near enough, otherwise whole; then moves the marker.
    fn show(&self, since: Option<u64>, changes: &Totals) -> Result<(), Stop> {
        for bucket in 0..BUCKETS {
            let step = |since, totals: &Totals| {
                self.process.step("could not show", "view", || self.world.show(bucket, since, self.as_of, totals))
            };
            let applied = match step(since, changes)? {
                Applied::Behind => step(None, &self.totals)?,
                applied => applied,
            };
            if applied == Applied::Ahead {
                return Err(Stop::Overtaken("the view is ahead".to_owned()));
            }
        }
        self.process.step("could not mark", "view", || self.world.mark(self.as_of))?;
        Ok(())
    }
}

fn hash(key: u64) -> u64 {
    (key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The last rows of some objects.
fn rows(objects: &dyn Objects, all: &[Object], group: Group) -> Result<Totals, CheckpointError> {
    let mut totals = Totals::new();
    load(objects, all, |_| true, |shard| group.owns(shard), &mut |_, row| {
        let number = |bytes: &[u8]| bytes.try_into().expect("eight bytes were written");
        totals.insert(u64::from_le_bytes(number(row.key)), i64::from_le_bytes(number(row.value)));
    })?;
    Ok(totals)
}
