//! What a run goes on from: a generation, its newest checkpoint, the state in it, and what it may not have shown.
//!
//! ```text
//! leader: which generation, which manifest ─► all: state of own shards, positions ─► workers
//!                                             └─► history and dead letters that the checkpoint committed: shown again
//! ```
//!
//! Upholds: (1) a job that would give the state another meaning is refused, with what differs; (2) so is a store or a view that is ahead of
//! the checkpoint; (3) files of what is committed have the names they had, whoever shows them again.
//! Absent on purpose: taking a damaged object for nothing; see [`Restored::load`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};
use storeflow_checkpoints::chain;
use storeflow_checkpoints::damage::CheckpointError;
use storeflow_checkpoints::load::load;
use storeflow_checkpoints::log::{Log, Read};
use storeflow_checkpoints::manifest::{Manifest, PartitionAt};
use storeflow_checkpoints::object::{Group, Object};
use storeflow_checkpoints::objects::Objects;
use storeflow_dataflows::beginning::Beginning;
use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::state::{Section, StateRow};

use super::Input;
use crate::config::field_path::{FieldPath, IdPart, IdSpec};
use crate::config::{Absent, Decimal, Job, MeasureSpec, Role, SourceSpec, StoreSpec, TimeSpec};
use crate::decode::{HASHING, KeyParts};
use crate::publish::error::PublishError;
use crate::publish::history::{Batch, HistoryWriter};
use crate::publish::layout::{Current, Generation, Keys, generations, is_through, reason_of};
use crate::publish::replays::{Request, requests};
use crate::publish::schema::Output;
use crate::publish::state_rows::{epoch_of, read_dead_letter, read_history, read_late};
use crate::publish::view::MemoryView;
use crate::runtime::workers::RunError;
use crate::source::clock::LogClock;
use crate::source::key_space::key_spaces;
use crate::source::names::{PartitionNames, REPLAY};
use crate::source::partition::Partition;
use crate::source::resume::Resume;
use crate::store::Store;

/// The log of a generation's checkpoints.
pub(super) fn log_of(store: &Store, job: &str, generation: u64) -> Log {
    let objects: Arc<dyn Objects> = Arc::new(store.clone());
    Log::open(objects, &Keys::new(job, generation, 1).checkpoints_prefix(), job, generation)
}

/// The generation to go on with, and its newest checkpoint; `None`: a new one is to be begun.
///
/// # Errors
/// If the generation that is wanted is older than the one that is shown, or its log cannot be read.
pub(super) fn choose(
    store: &Store,
    job: &Job,
    input: &Input,
    wanted: Option<u64>,
    current: Option<&Current>,
) -> Result<Option<(u64, Option<Read>)>, RunError> {
    let shown = current.map(|current| current.about.generation);
    let known = generations(store, &job.name).map_err(PublishError::from)?;
    if let Some(wanted) = wanted {
        if let Some(shown) = shown.filter(|shown| wanted < *shown) {
            let text =
                format!("generation {wanted} is older than generation {shown}, which is shown: take that one, or a new number");
            return Err(RunError::Recovery(text));
        }
        let found = known.contains(&wanted);
        return if found { Ok(Some((wanted, log_of(store, &job.name, wanted).newest()?))) } else { Ok(None) };
    }
    // A generation that is not shown is somebody's backfill, and continued only by its number; unless nothing is shown yet. A replay
    // that came to its end is repeated, and one that did not is finished.
    let candidates: Vec<u64> = match (shown, input) {
        (Some(shown), Input::Kafka(_)) => vec![shown],
        (None, Input::Kafka(_)) | (_, Input::Dataset(_)) => known.into_iter().rev().collect(),
    };
    for generation in candidates {
        if let Some(read) = log_of(store, &job.name, generation).newest()? {
            let finished = current.is_some_and(|current| current.finished && current.about.generation == generation);
            let over = matches!(input, Input::Dataset(_)) && read.manifest.complete && finished;
            // Dead letters of it that are to be read again are read there, and nowhere else.
            let over = over && !has_unread(store, &job.name, generation, &read.manifest)?;
            return Ok((!over).then_some((generation, Some(read))));
        }
    }
    Ok(None)
}

/// Whether there are dead letters to be read again that a checkpoint has not read.
fn has_unread(store: &Store, job: &str, generation: u64, manifest: &Manifest) -> Result<bool, RunError> {
    let all = requests(store, &Keys::new(job, generation, 1))?;
    Ok(all.iter().any(|request| request.read_by(manifest) < request.letters))
}

/// What the state of a job depends on: all that gives it its meaning, and nothing that does not.
pub(super) fn setting_of(job: &Job, input: &Input, accepted: &[Value]) -> Value {
    let Horizons { window, grace, retention, replay_horizon, before } = job.horizons;
    let mut sources: Vec<&SourceSpec> = job.sources.iter().collect();
    sources.sort_by_key(|source| source.slot);
    let mut setting = json!({
        "input": match input { Input::Dataset(_) => "dataset", Input::Kafka(_) => "kafka" },
        "window_ms": window,
        "grace_ms": grace,
        "retention_ms": retention,
        "replay_horizon_ms": replay_horizon,
        "changed": { "as_of": before.until, "grace_ms": before.grace, "retention_ms": before.retention },
        "scale": job.scale,
        "currency": job.currency,
        "timezone": job.timezone,
        "sources": sources.into_iter().map(source_setting).collect::<Vec<_>>(),
    });
    if let (Some(setting), false) = (setting.as_object_mut(), accepted.is_empty()) {
        setting.insert("accepted".to_owned(), Value::from(accepted.to_vec()));
    }
    setting
}

/// What a source may say otherwise from a checkpoint on: none of it gives another meaning to what is kept.
const MAY_CHANGE: [&str; 5] = ["allow_float", "absent", "incarnation", "keep_ms", "dedup_horizon_ms"];

/// A source in words that stay the same from version to version: what came later is there only where it is said, so that the setting of a
/// job without it is that of an older program.
fn source_setting(source: &SourceSpec) -> Value {
    let SourceSpec { topics, role, name, format, key, key_space, slot: _, store, amount, currency, product, quantity, .. } =
        source;
    let SourceSpec { kind, time, counts_when, distinct, dedup, table, allow_float, absent, incarnation, keep, .. } = source;
    let mut setting = json!({
        "topics": topics,
        "role": format!("{role:?}"),
        "format": format!("{format:?}"),
        "table": table,
        "key": key.iter().map(path_setting).collect::<Vec<_>>(),
        "key_space": format!("{key_space:?}"),
        "store": match store {
            StoreSpec::Own(store) => id_setting(store),
            StoreSpec::Through { lookup, on } => json!({"through": lookup, "on": on.iter().map(path_setting).collect::<Vec<_>>()}),
        },
        "amount": amount.as_ref().map(measure_setting),
        "currency": currency.as_ref().map(id_setting),
        "product": product.as_ref().map(id_setting),
        "quantity": quantity.as_ref().map(measure_setting),
        "kind": kind.as_ref().map(id_setting),
        "time": time.as_ref().map(time_setting),
        "counts_when": counts_when.iter().map(|(field, texts)| (path_setting(field), texts)).collect::<BTreeMap<_, _>>(),
        "distinct": distinct,
    });
    let later = [
        ("name", name.as_ref().map(|name| json!(name))),
        ("dedup", dedup.as_ref().map(|dedup| id_setting(&dedup.id))),
        ("dedup_horizon_ms", dedup.as_ref().map(|dedup| json!(dedup.horizon))),
        ("allow_float", allow_float.then_some(json!(true))),
        ("absent", (*absent == Absent::Unchanged).then_some(json!("unchanged"))),
        ("incarnation", incarnation.as_ref().map(|incarnation| json!(incarnation))),
        ("keep_ms", keep.map(|keep| json!(keep))),
    ];
    if let Some(setting) = setting.as_object_mut() {
        setting.extend(later.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
    setting
}

/// A field of the row by its bare name, as before there were paths (its name could have dots); a longer path with each name in quotes.
fn path_setting(path: &FieldPath) -> String {
    match path.names() {
        [name] => name.clone(),
        names => names.iter().map(|name| json!(name).to_string()).collect::<Vec<_>>().join("."),
    }
}

fn id_setting(id: &IdSpec) -> Value {
    let part = |part: &IdPart| match part {
        IdPart::Text(text) => json!(text),
        IdPart::Captured(name) => json!({ "captured": name }),
        IdPart::Field(path) => json!({ "field": path_setting(path) }),
    };
    match id {
        IdSpec::Field(path) => json!(path_setting(path)),
        IdSpec::Composed(parts) => parts.iter().map(part).collect(),
    }
}

fn measure_setting(measure: &MeasureSpec) -> Value {
    match measure.decimal {
        Decimal::Text => json!(path_setting(&measure.field)),
        Decimal::Base64 { scale } => json!({ "field": path_setting(&measure.field), "base64_scale": scale }),
    }
}

fn time_setting(time: &TimeSpec) -> Value {
    let TimeSpec { field, unit, zone } = time;
    let plain = format!("{} as {unit:?}", path_setting(field));
    match zone {
        None => json!(plain),
        Some(zone) => json!({ "time": plain, "zone": zone }),
    }
}

/// What a job brings along that is not the job it was.
#[derive(Debug, Default)]
pub(super) struct Adopted {
    /// Changes that were accepted on purpose, those of earlier runs first: for the next checkpoints to say.
    pub accepted: Vec<Value>,
    /// Sources, by their place in the job, whose rows have another key now: there must be none.
    pub rekeyed: Vec<usize>,
}

/// Gives the sources of a job the slots they had, if the job may go on with the state of `found`, and lets another grace or retention hold
/// from its as-of on. With `accept` how sources read their records may differ.
///
/// # Errors
/// What differs, if it may not.
pub(super) fn adopt(job: &mut Job, input: &Input, found: &Manifest, accept: bool) -> Result<Adopted, RunError> {
    let (as_of, found) = (found.as_of, &found.setting);
    let refused = |what: String| {
        let text = format!(
            "the checkpoint was made by another job: {what}, which gives its state another meaning. \
             Take the change back, or begin a new generation beside it with --generation (see docs/checkpoints.md)"
        );
        Err(RunError::Recovery(text))
    };
    let wanted = setting_of(job, input, &[]);
    let (Some(found), Some(wanted)) = (found.as_object(), wanted.as_object()) else {
        return refused("it has no setting that this program knows".to_owned());
    };
    // The time zone is of "today", which readers reckon.
    let may_change = ["sources", "timezone", "grace_ms", "retention_ms", "changed", "accepted"];
    if let Some((name, before, now)) = differences(found, wanted, &may_change).next() {
        return refused(format!("{name} was {before} and is {now}"));
    }
    let number = |of: Option<&Value>| of.and_then(Value::as_u64).unwrap_or_default();
    let changed = |name: &str| number(found.get("changed").and_then(|changed| changed.get(name)));
    let before = Before { until: changed("as_of"), grace: changed("grace_ms"), retention: changed("retention_ms") };
    let was =
        Horizons { grace: number(found.get("grace_ms")), retention: number(found.get("retention_ms")), before, ..job.horizons };
    job.horizons = match job.horizons {
        Horizons { grace, retention, .. } if (grace, retention) == (was.grace, was.retention) => was,
        Horizons { grace, retention, .. } => was.changed(grace, retention, as_of),
    };
    let empty = Vec::new();
    let earlier = found.get("accepted").and_then(Value::as_array).unwrap_or(&empty).clone();
    let found: Vec<&Map<String, Value>> =
        found.get("sources").and_then(Value::as_array).unwrap_or(&empty).iter().filter_map(Value::as_object).collect();
    let (mut slots, mut adopted) = (BTreeMap::new(), Adopted { accepted: earlier, rekeyed: Vec::new() });
    for (slot, before) in found.iter().enumerate() {
        let same = |now: &Value| ["topics", "role", "table"].iter().all(|name| now.get(*name) == before.get(*name));
        let topics = before.get("topics").map(Value::to_string).unwrap_or_default();
        let Some((at, now)) = job.sources.iter().map(source_setting).enumerate().find(|(_, now)| same(now)) else {
            return refused(format!("it had a source of topics {topics} and has none like it"));
        };
        for (name, was, is) in now.as_object().into_iter().flat_map(|now| differences(before, now, &MAY_CHANGE)) {
            let what = format!("{name} of the source of topics {topics} was {was} and is {is}");
            let of_lookup = job.sources[at].role == Role::Lookup;
            if !only_reads(&name, of_lookup, before.get(&name), now.get(&name)) {
                return refused(what);
            }
            if !accept {
                let hint = "or, if it mends how records are read (rows that were read before stay as they are until their next \
                            change), accept it with --accept-job-change";
                return refused(what).map_err(|error| match error {
                    RunError::Recovery(text) => RunError::Recovery(format!("{text}; {hint}")),
                    other => other,
                });
            }
            if name == "key" {
                adopted.rekeyed.push(at);
            }
            adopted.accepted.push(json!({ "as_of": as_of, "what": what }));
        }
        slots.insert(at, slot);
    }
    let mut next = found.len();
    for (at, source) in job.sources.iter_mut().enumerate() {
        source.slot = slots.get(&at).copied().unwrap_or_else(|| {
            next += 1;
            next - 1
        });
    }
    Ok(adopted)
}

/// Whether a setting of a source only says how records are read, so that what was read before keeps its meaning: where the parts of a row
/// are and how they are written, but not which parts it has, what rows are told apart by, nor which of them count.
fn only_reads(name: &str, of_lookup: bool, before: Option<&Value>, now: Option<&Value>) -> bool {
    let (Some(before), Some(now)) = (before, now) else { return false };
    match name {
        // The job's currency is another way to find it.
        "format" | "currency" => true,
        // Rows of other tables refer to it.
        "key" => !of_lookup,
        "store" => before.get("through") == now.get("through"),
        "amount" | "product" | "quantity" | "kind" | "time" => before.is_null() == now.is_null(),
        _ => false,
    }
}

/// Says which changes are accepted, and what that means; refuses another key of rows that are there.
///
/// # Errors
/// If rows of a source with another key are in the state, or that cannot be read.
pub(super) fn check_accepted(store: &Store, job: &Job, found: &Manifest, adopted: &Adopted) -> Result<(), RunError> {
    let before = found.setting.get("accepted").and_then(Value::as_array).map_or(0, Vec::len);
    for change in &adopted.accepted[before..] {
        let what = change.get("what").and_then(Value::as_str).unwrap_or_default();
        tracing::warn!(
            what,
            "job change accepted: records are read so from here on; what was read before stays as the job read it then, until its next \
             change, and what could not be read stays a dead letter until it is replayed"
        );
    }
    for source in adopted.rekeyed.iter().map(|at| &job.sources[*at]) {
        let spaces = key_spaces(source, &found.topics);
        let mut rows = 0;
        load(store, &found.state, |section| matches!(section, Section::Rows(_)), |_| true, &mut |_, row| {
            rows += u64::from(KeyParts::of(row.key).is_some_and(|parts| spaces.contains(&parts.space)));
        })?;
        if rows > 0 {
            return Err(RunError::Recovery(format!(
                "key of the source of topics {:?} has changed, and {rows} rows are kept by the other one, which would stay for ever: take \
                 the change back, or begin a new generation beside it with --generation (see docs/checkpoints.md)",
                source.topics
            )));
        }
    }
    Ok(())
}

/// The fields that differ, with both values.
fn differences<'a>(
    before: &'a Map<String, Value>,
    now: &'a Map<String, Value>,
    without: &'a [&str],
) -> impl Iterator<Item = (String, String, String)> + 'a {
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let differ =
        names.into_iter().filter(|name| !without.contains(&name.as_str())).filter(|name| before.get(*name) != now.get(*name));
    let text = |of: &Map<String, Value>, name: &str| of.get(name).map_or_else(|| "not there".to_owned(), Value::to_string);
    differ.map(move |name| (name.clone(), text(before, name), text(now, name)))
}

/// Where partitions go on.
#[derive(Debug, Default)]
pub(super) struct Places {
    of: BTreeMap<(String, u32), Resume>,
    /// Where an earlier run had got to that is being caught up with.
    posts: BTreeMap<(String, u32), Resume>,
}

impl Places {
    fn of(manifest: &Manifest) -> BTreeMap<(String, u32), Resume> {
        let place = |at: &PartitionAt| {
            let clock = at.clock.map(|at| LogClock::of_parts((at.now, at.pending, at.pending_least, at.jumps)));
            ((at.topic.clone(), at.partition), Resume { position: at.position, clock })
        };
        manifest.partitions.iter().map(place).collect()
    }

    /// The position of a partition; `None`: the checkpoint does not know it.
    pub(super) fn position(&self, topic: &str, partition: u32) -> Option<u64> {
        self.of.get(&(topic.to_owned(), partition)).map(|place| place.position)
    }

    /// Whether all letters of a request were read.
    pub(super) fn has_read(&self, request: &Request) -> bool {
        self.position(REPLAY, request.number).is_some_and(|position| position >= request.letters)
    }

    /// Whether the checkpoint knows a partition of a topic.
    pub(super) fn knows(&self, topic: &str) -> bool {
        self.of.keys().any(|(known, _)| known == topic)
    }

    /// Lets a partition go on.
    pub(super) fn apply(&self, topic: &str, number: u32, partition: &mut Partition) -> Result<(), RunError> {
        let name = (topic.to_owned(), number);
        if let Some(place) = self.of.get(&name) {
            partition.resume(*place)?;
        }
        if let Some(post) = self.posts.get(&name) {
            partition.post(*post);
        }
        Ok(())
    }

    /// Refuses an input that lacks a partition which the checkpoint knows, unless it is left out on purpose.
    pub(super) fn check(&self, there: &BTreeSet<(String, u32)>, left_out: &[(String, u32)]) -> Result<(), RunError> {
        match self.of.keys().find(|known| !there.contains(*known) && !left_out.contains(*known)) {
            None => Ok(()),
            Some((topic, number)) if topic == REPLAY => Err(RunError::Recovery(format!(
                "the checkpoint knows request {number} to replay dead letters, and the store has it no more: put replays/{number:010}.ndjson of \
                 its generation back, or begin a new generation with --generation"
            ))),
            Some((topic, partition)) => Err(RunError::Recovery(format!(
                "the checkpoint goes on with topic \"{topic}\" partition {partition}, which the input does not have: \
                 bring it back, leave it out with --exclude-partition, or begin a new generation with --generation"
            ))),
        }
    }
}

/// A checkpoint as a run begins with it.
pub(super) struct Restored {
    /// The checkpoint whose state is loaded.
    pub read: Read,
    /// The newest one, if that is another: its state is damaged, and made up for.
    newest: Option<Read>,
}

/// What this process's workers begin with.
pub(super) struct Loaded {
    pub beginnings: Vec<Beginning>,
    pub chains: Vec<Vec<Object>>,
    /// Late adjustments and dead letters of epochs that are not over.
    pub pending: Vec<Batch>,
    /// What the checkpoint committed and may not have shown: of each worker that wrote it and is this process's to show.
    pub unshown: Vec<Batch>,
}

impl Loaded {
    /// Nothing is known. `tracked`: there will be checkpoints.
    pub(super) fn nothing(horizons: Horizons, workers: usize, tracked: bool) -> Loaded {
        let beginnings = (0..workers).map(|_| Beginning::new(horizons, HASHING, tracked)).collect();
        Loaded { beginnings, chains: vec![Vec::new(); workers], pending: Vec::new(), unshown: Vec::new() }
    }
}

impl Restored {
    pub(super) fn of(newest: Read) -> Restored {
        Restored { read: newest, newest: None }
    }

    /// The newest checkpoint.
    pub(super) fn newest(&self) -> &Read {
        self.newest.as_ref().unwrap_or(&self.read)
    }

    /// Where partitions go on that are left out of this run.
    pub(super) fn left_out(&self, left_out: &[(String, u32)]) -> Vec<PartitionAt> {
        let is_left_out = |at: &&PartitionAt| left_out.contains(&(at.topic.clone(), at.partition));
        self.newest().manifest.partitions.iter().filter(is_left_out).cloned().collect()
    }

    /// The as-of of the state that is loaded.
    pub(super) fn as_of(&self) -> u64 {
        self.read.manifest.as_of
    }

    /// The state of the newest checkpoint is damaged, as `what` says: takes the one before.
    ///
    /// # Errors
    /// If there is none any more, or there are other workers than wrote what is made up for: their files have other names.
    pub(super) fn fall_back(self, log: &Log, peers: usize, setting: &Value, what: &str) -> Result<Restored, RunError> {
        let number = self.read.manifest.number;
        let written_by = self.newest().manifest.workers;
        if written_by != peers {
            let text = format!(
                "{what}; the checkpoint before it can make up for that, with as many workers as wrote it: start with {written_by} \
                 over all processes, and change their number when that run has made its first checkpoint"
            );
            return Err(RunError::Recovery(text));
        }
        let Some(before) = log.earlier(&self.newest().manifest, number)? else {
            let text = format!(
                "{what}, and no checkpoint before number {number} can be loaded any more. Put the object back from a backup, or \
                 begin a new generation with --generation and --start, and see `storeflow checkpoints list`"
            );
            return Err(RunError::Recovery(text));
        };
        if before.manifest.setting != *setting {
            let text = format!(
                "{what}; the checkpoint before it could make up for that, with the job as it was when both were made: take the change of \
                 the job file back, and make it again when that run has made its first checkpoint"
            );
            return Err(RunError::Recovery(text));
        }
        tracing::error!(
            what,
            checkpoint = number,
            before = before.manifest.number,
            "state is damaged; going on from the checkpoint before"
        );
        let newest = Some(self.newest.unwrap_or(self.read));
        Ok(Restored { read: before, newest })
    }

    /// Where partitions go on.
    pub(super) fn places(&self) -> Places {
        let posts = self.newest.as_ref().map(|newest| Places::of(&newest.manifest)).unwrap_or_default();
        Places { of: Places::of(&self.read.manifest), posts }
    }

    /// Loads the state of this process's workers, side by side, fills their parts of the view, and reads what this process (its
    /// number, of so many) is to show again.
    ///
    /// # Errors
    /// If an object is damaged or cannot be read; what was loaded is of no use then.
    pub(super) fn load(
        &self,
        store: &Store,
        horizons: Horizons,
        workers: Range<usize>,
        peers: usize,
        view: &MemoryView,
        (process, processes): (usize, usize),
    ) -> Result<Loaded, CheckpointError> {
        let manifest = &self.read.manifest;
        let parts: Vec<Result<_, CheckpointError>> = std::thread::scope(|scope| {
            let load = |worker| move || load_worker(store, manifest, horizons, Group { index: worker, of: peers }, view);
            let threads: Vec<_> = workers.map(|worker| scope.spawn(load(worker))).collect();
            threads.into_iter().map(|thread| thread.join().expect("loading does not panic")).collect()
        });
        let mut loaded = Loaded { beginnings: Vec::new(), chains: Vec::new(), pending: Vec::new(), unshown: Vec::new() };
        for part in parts {
            let (beginning, chain, pending) = part?;
            loaded.beginnings.push(beginning);
            loaded.chains.push(chain);
            loaded.pending.push(pending);
        }
        let writers = (0..manifest.workers).filter(|worker| worker % processes == process);
        loaded.unshown = self.unshown(store, horizons, writers)?;
        Ok(loaded)
    }

    /// What the checkpoint committed, by each of these workers that wrote it; nothing if no epoch ended with it. Whoever makes up for
    /// damage computes it again.
    fn unshown(
        &self,
        store: &Store,
        horizons: Horizons,
        writers: impl Iterator<Item = usize>,
    ) -> Result<Vec<Batch>, CheckpointError> {
        let Manifest { as_of, previous_as_of, workers, state, fresh, .. } = &self.read.manifest;
        if self.newest.is_some() || horizons.epoch_after(*previous_as_of) > *as_of {
            return Ok(Vec::new());
        }
        let of_writer = |worker| {
            let group = Group { index: worker, of: *workers };
            let mut batch = Batch { worker, ..Batch::default() };
            let own: Vec<Object> = fresh.iter().filter(|object| object.group == group).cloned().collect();
            load(store, &own, |section| section == Section::History, |_| true, &mut |_, row| {
                batch.rows.push(read_history(row));
            })?;
            let to_show = |section| matches!(section, Section::Late | Section::DeadLetters);
            load(store, state, to_show, |shard| group.owns(shard), &mut |section, row| {
                let epoch = epoch_of(row, &horizons);
                if epoch > *previous_as_of && epoch <= *as_of {
                    match section {
                        Section::Late => batch.late.push(read_late(row)),
                        _ => batch.dead_letters.push(read_dead_letter(row)),
                    }
                }
            })?;
            Ok(batch)
        };
        writers.map(of_writer).collect()
    }

    /// Shows again what the checkpoint committed, as its own workers would have; the leader removes files of epochs that were not over.
    ///
    /// # Errors
    /// If the store does not do what is asked.
    pub(super) fn show_again(
        &self,
        generation: &Generation,
        names: &Arc<PartitionNames>,
        leader: bool,
        unshown: Vec<Batch>,
    ) -> Result<(), RunError> {
        if leader {
            self.remove_unfinished(generation)?;
        }
        if unshown.is_empty() {
            return Ok(());
        }
        let Manifest { as_of, workers, .. } = &self.read.manifest;
        let layout = generation.laid_out_for(*workers);
        let history = HistoryWriter::start(&layout, 0..*workers, Arc::clone(names))?;
        for batch in unshown {
            history.sender().send(batch)?;
        }
        history.publish(*as_of)?;
        history.close()?;
        generation.sync()?;
        Ok(())
    }

    /// A run that was stopped has shown late adjustments and dead letters of an epoch that goes on now. And what an earlier program
    /// has shown of dead letters, before they had folders by reason, is shown again under other names.
    fn remove_unfinished(&self, generation: &Generation) -> Result<(), RunError> {
        let (store, keys, as_of) = (generation.store(), generation.keys(), self.newest().manifest.as_of);
        let shown_for_good = if self.newest.is_some() { self.as_of() } else { self.read.manifest.previous_as_of };
        let letters = keys.dead_letters_prefix();
        for prefix in [keys.history_prefix(Output::LateAdjustments), letters.clone()] {
            for key in store.list(&prefix).map_err(PublishError::from)? {
                let moves = prefix == letters && reason_of(&key).is_none() && !is_through(&key, shown_for_good);
                if moves || !is_through(&key, as_of) {
                    store.delete(&key).map_err(PublishError::from)?;
                }
            }
        }
        Ok(())
    }
}

/// Loads one worker's state.
fn load_worker(
    store: &Store,
    manifest: &Manifest,
    horizons: Horizons,
    group: Group,
    view: &MemoryView,
) -> Result<(Beginning, Vec<Object>, Batch), CheckpointError> {
    let (mut beginning, began) = (Beginning::new(horizons, HASHING, true), Instant::now());
    let mut pending = Batch { worker: group.index, ..Batch::default() };
    let chain = chain::chain(&manifest.state, group);
    let mut take = |section, row: StateRow<'_>| {
        let goes_on = || epoch_of(row, &horizons) > manifest.as_of;
        match section {
            Section::Late if goes_on() => pending.late.push(read_late(row)),
            Section::DeadLetters if goes_on() => pending.dead_letters.push(read_dead_letter(row)),
            section => drop(beginning.restore(section, row)),
        }
    };
    load(store, &chain, |section| section != Section::History, |shard| group.owns(shard), &mut take)?;
    beginning.complete(manifest.as_of);
    view.restore(group.index, manifest.as_of, beginning.shown_cells());
    let (rows, cells) = beginning.len();
    tracing::info!(worker = group.index, rows, cells, objects = chain.len(), took = ?began.elapsed(), "state loaded");
    Ok((beginning, chain, pending))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::job_file;

    const CHECKPOINT_OF_FORMAT_1: &str = "datasets/checkpoint-v1/mall/gen-000001/checkpoints/manifests/0000000002.json";

    const PAYMENTS: &str = r#"role = "payments"
key = "k"
store = "s"
amount = "a"
time = { field = "t", unit = "ms" }"#;

    const LOOKUP_AND_USER: &str = r#"
[[source]]
topic = "{site}.o"
role = "lookup"
name = "o"
format = "upsert"
key = "k"
store = "s"
[[source]]
topic = "{site}.p"
role = "products"
format = "upsert"
key = "k"
store = { through = "o", on = "x" }
"#;

    const CLICKS: &str = r#"name = "j"
[[source]]
topic = "c"
role = "clicks"
format = "json"
store = "s"
kind = "k"
time = { field = "t", unit = "ms" }
"#;

    fn first(text: &str) -> Map<String, Value> {
        let job = job_file::parse(text, "f").unwrap_or_else(|error| panic!("{error}"));
        source_setting(&job.sources[0]).as_object().unwrap().clone()
    }

    fn setting(source: &str) -> Map<String, Value> {
        let head = "name = \"j\"\ncurrency = \"KRW\"\n[[source]]\ntopic = \"{site}.t\"\nformat = \"dms\"\n";
        first(&format!("{head}{source}\n{LOOKUP_AND_USER}"))
    }

    #[test]
    fn a_job_without_later_words_has_the_setting_of_an_older_program() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(root.join(CHECKPOINT_OF_FORMAT_1)).unwrap();
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        let job = job_file::load(&root.join("datasets/mall-small/mall.toml")).unwrap();
        let sources: Vec<Value> = job.sources.iter().map(source_setting).collect();
        assert_eq!(json!(sources), manifest["setting"]["sources"]);
    }

    /// A field that was called `a.b` is written in quotes now, and the same; a path through `a` is another field.
    #[test]
    fn names_with_dots_are_no_paths() {
        let store = |text: &str| setting(&PAYMENTS.replace("store = \"s\"", &format!("store = {text}")))["store"].clone();
        assert_eq!(store(r#"'"a.b"'"#), json!("a.b"));
        assert_eq!(store(r#""a.b""#), json!(r#""a"."b""#));
        assert_eq!(store(r#""{site}/{a.b}""#), json!([{"captured": "site"}, "/", {"field": r#""a"."b""#}]));
        assert_ne!(store(r#""{site}""#), store(r#"'{"site"}'"#));
    }

    /// Everything that a source says of its rows is in its setting, and some of it may be said otherwise.
    #[test]
    fn what_changes_and_what_may() {
        let plain = setting(PAYMENTS);
        let with = |line: &str| PAYMENTS.to_owned() + "\n" + line;
        for (source, refused) in [
            (with("allow_float = true"), None),
            (with("absent = \"unchanged\""), None),
            (with("incarnation = \"2\""), None),
            (with("table = \"t\""), Some("table")),
            (with("counts_when = { \"a.b\" = 1 }"), Some("counts_when")),
            (PAYMENTS.replace("\"a\"", "{ field = \"a\", decimal = \"base64\", scale = 2 }"), Some("amount")),
            (PAYMENTS.replace("\"ms\"", "\"ms\", zone = \"Asia/Seoul\""), Some("time")),
            (PAYMENTS.replace("\"ms\"", "\"auto\""), Some("time")),
            (PAYMENTS.replace("\"s\"", "{ through = \"o\", on = \"x\" }"), Some("store")),
        ] {
            let now = setting(&source);
            assert!(differences(&plain, &now, &[]).next().is_some(), "{source}");
            let found = differences(&plain, &now, &MAY_CHANGE).next().map(|(name, ..)| name);
            assert_eq!(found.as_deref(), refused, "{source}");
        }
        assert_eq!(differences(&plain, &setting(&with("clock = \"records\"")), &[]).next(), None);

        let dedup = |field, horizon| format!("{CLICKS}dedup = {{ field = \"{field}\", horizon = \"{horizon}\" }}\n");
        let [none, hour, day, other] =
            [CLICKS.to_owned(), dedup("e", "1h"), dedup("e", "1d"), dedup("f", "1h")].map(|text| first(&text));
        let refused = |before, now| differences(before, now, &MAY_CHANGE).next().map(|(name, ..)| name);
        assert_eq!(refused(&hour, &day), None);
        assert_eq!(refused(&none, &hour).as_deref(), Some("dedup"));
        assert_eq!(refused(&hour, &other).as_deref(), Some("dedup"));
    }
}
