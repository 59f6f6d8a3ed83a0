//! The marker of a generation, which says up to where all of it is shown, and the pointer, which says which generation counts.
//!
//! Upholds: (1) the marker moves only when the leader says so, and only by the run that has taken bucket 0 last, so that a run
//! that was replaced, even before it had marked anything, cannot move it back; (2) the pointer moves from an
//! older generation to this one when this one has caught up, or when it is told to take over, and never back by itself; (3) where Redis lost
//! data, it moves when all processes have written theirs again: buckets that say less than it count as unchanged.

use std::ops::RangeInclusive;

use ::redis::Value;
use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::key::SHARDS;

use super::bucket::Guard;
use super::error::RedisError;
use super::keys::{Keys, pointer};
use super::link::{Link, Packed, Wire, pairs, text};
use super::sink::Mark;
use super::writer::Scripts;
use crate::publish::layout::{About, utc};

const MINUTE: u64 = 60_000;
/// As long as a job's grace or retention can be, milliseconds: ten years.
const LENGTH_MAX: u64 = 3_660 * 24 * 60 * MINUTE;
/// More than any job's workers, of all processes.
const WORKERS_MAX: u64 = 65_536;
/// Digits that money can have.
const SCALE_MAX: u32 = 18;

/// Version of keys and fields.
pub(super) const FORMAT: u32 = 1;

/// The field that says who writes totals, ids of stores and status. The name of the run and not just "yes": an older program that goes on with
/// the generation leaves the field, and is another run.
const EXTENDED: &str = "extended_by";

/// The view that a job's pointer names.
#[derive(Clone, Debug, PartialEq)]
pub struct CurrentView {
    /// What is true of all of it.
    pub about: About,
    /// All of it is as of this instant at least, milliseconds.
    pub as_of: u64,
    /// The run that writes it.
    pub run: String,
    /// It has totals, ids of stores and status as well, which programs before there was an API did not write.
    pub extended: bool,
}

/// What the leader wants, and what was done of it.
#[derive(Debug, Default)]
pub(super) struct Marker {
    wanted: Option<u64>,
    take_over: bool,
    done: Option<u64>,
    /// Redis may have lost what other processes wrote up to here: until their lists are there again, so may be their buckets that say less.
    lost: Option<u64>,
    current: bool,
}

impl Marker {
    pub(super) fn want(&mut self, mark: Mark) {
        self.wanted = Some(self.wanted.or(self.done).map_or(mark.as_of, |as_of| as_of.max(mark.as_of)));
        self.take_over |= mark.take_over;
    }

    /// The marker may be lost: it is written again.
    pub(super) fn again(&mut self) {
        self.wanted = self.wanted.or(self.done);
        self.lost = self.done.and(self.wanted).max(self.lost);
    }

    /// Whether others must be there again before it may be written. A bucket that came back as it was long ago is told from one in which nothing
    /// changed by the marker alone. Whoever brings the guard of its lists this far has looked at its buckets since.
    pub(super) fn is_held(
        &mut self,
        link: &mut Link,
        keys: &Keys,
        others: impl Iterator<Item = usize>,
    ) -> Result<bool, RedisError> {
        let (Some(lost), Some(_)) = (self.lost, self.wanted) else { return Ok(false) };
        let mut wire = Wire::default();
        others.for_each(|worker| wire.command(&[b"GET", keys.top_guard(worker).as_bytes()]));
        let answers = if wire.len() > 0 { link.call("read the guards of others", &wire)? } else { Vec::new() };
        let there = |guard: &Value| Guard::parse(&text(guard)).and_then(|guard| guard.as_of).is_some_and(|as_of| as_of >= lost);
        if answers.iter().all(there) {
            self.lost = None;
        }
        Ok(self.lost.is_some())
    }

    /// Something is still to be written.
    pub(super) fn is_waiting(&self) -> bool {
        self.wanted.is_some()
    }

    /// The pointer named this generation when it was last looked at.
    pub(super) fn is_current(&self) -> bool {
        self.current
    }

    /// Ends a run whose generation was removed because a later one counts.
    pub(super) fn check_replaced(&self, link: &mut Link, about: &About) -> Result<(), RedisError> {
        if self.done.is_none() {
            return Ok(());
        }
        let keys = Keys::new(&about.job, about.generation);
        let mut wire = Wire::default();
        wire.command(&[b"HGET", keys.pointer().as_bytes(), b"generation"]);
        wire.command(&[b"EXISTS", keys.about().as_bytes()]);
        let answers = link.call("read the pointer", &wire)?;
        let current: u64 = answers.first().map(text).unwrap_or_default().parse().unwrap_or(0);
        if current > about.generation && answers.get(1) == Some(&Value::Int(0)) {
            return Err(RedisError::Replaced { job: about.job.clone(), generation: about.generation, current });
        }
        Ok(())
    }

    /// Writes what is wanted, by a run with its claim of bucket 0.
    pub(super) fn write(
        &mut self,
        link: &mut Link,
        scripts: &Scripts,
        keys: &Keys,
        about: &About,
        (run, claim): (&str, u64),
    ) -> Result<(), RedisError> {
        let Some(as_of) = self.wanted else { return Ok(()) };
        let mut wire = Wire::default();
        let (mut script_keys, mut args) = (Packed::default(), Packed::default());
        script_keys.push(keys.about().as_bytes());
        args.push(run.as_bytes());
        args.number(claim as i64);
        args.push(EXTENDED.as_bytes());
        args.push(run.as_bytes());
        for (name, value) in fields(about, as_of) {
            args.push(name.as_bytes());
            args.push(value.as_bytes());
        }
        wire.script(&scripts.mark, &script_keys, &args);
        wire.command(&[b"HGET", keys.pointer().as_bytes(), b"generation"]);
        let answers = link.call("move the marker", &wire)?;
        if answers.first() != Some(&Value::Int(1)) {
            let found = answers.first().map(text).unwrap_or_default();
            return Err(RedisError::OtherRun { what: format!("marker {}", keys.about()), found });
        }
        self.done = Some(as_of);
        let now = answers.get(1).map(text).unwrap_or_default();
        self.current = self.point(link, scripts, keys, about, as_of, &now)?;
        self.take_over &= !self.current;
        self.wanted = None;
        Ok(())
    }

    /// Moves the pointer here from where it is now, if it is time. Whether it is here.
    fn point(
        &self,
        link: &mut Link,
        scripts: &Scripts,
        keys: &Keys,
        about: &About,
        as_of: u64,
        now: &str,
    ) -> Result<bool, RedisError> {
        let due = match now.parse::<u64>() {
            Ok(current) if current == about.generation => return Ok(true),
            Err(_) => true,
            Ok(_) if self.take_over => true,
            Ok(current) if current > about.generation => false,
            Ok(current) => {
                let key = Keys::new(&about.job, current).about();
                let theirs = text(&link.ask("read the current marker", &[b"HGET", key.as_bytes(), b"as_of"])?);
                theirs.parse::<u64>().map_or(true, |theirs| as_of >= theirs)
            }
        };
        if !due {
            return Ok(false);
        }
        let mut wire = Wire::default();
        let (mut script_keys, mut args) = (Packed::default(), Packed::default());
        script_keys.push(keys.pointer().as_bytes());
        for part in [now, &about.generation.to_string(), &FORMAT.to_string()] {
            args.push(part.as_bytes());
        }
        wire.script(&scripts.point, &script_keys, &args);
        let moved = link.call("move the pointer", &wire)?.pop() == Some(Value::Int(1));
        if moved {
            tracing::info!(job = about.job, generation = about.generation, as_of, before = now, "the Redis view is current");
        }
        Ok(moved)
    }
}

/// The fields of a marker.
fn fields(about: &About, as_of: u64) -> Vec<(&'static str, String)> {
    let Horizons { window, grace, retention, replay_horizon, before } = about.horizons;
    let mut fields = vec![
        ("format", FORMAT.to_string()),
        ("as_of", as_of.to_string()),
        ("job", about.job.clone()),
        ("generation", about.generation.to_string()),
        ("window_ms", window.to_string()),
        ("grace_ms", grace.to_string()),
        ("retention_ms", retention.to_string()),
        ("replay_horizon_ms", replay_horizon.to_string()),
        ("scale", about.scale.to_string()),
        ("workers", about.workers.to_string()),
        ("clicks_distinct", about.clicks_distinct.to_string()),
        ("timezone", about.timezone.clone()),
    ];
    if before != Before::NOTHING {
        fields.push(("changed_as_of", before.until.to_string()));
        fields.push(("grace_before_ms", before.grace.to_string()));
        fields.push(("retention_before_ms", before.retention.to_string()));
    }
    fields
}

/// The claim of the run that holds a generation's marker; 0 if nobody does.
pub(super) fn claim(link: &mut Link, keys: &Keys) -> Result<u64, RedisError> {
    let claim = text(&link.ask("read the marker", &[b"HGET", keys.about().as_bytes(), b"claim"])?);
    Ok(claim.parse().unwrap_or(0))
}

/// The greatest as-of that the marker or any guard of a generation shows; `None` if there is none. Buckets that are being
/// written in full count with nothing: whoever began that held what it writes, and says so in the others or in the marker.
pub(super) fn furthest(link: &mut Link, keys: &Keys) -> Result<Option<u64>, RedisError> {
    let mut wire = Wire::default();
    for bucket in 0..SHARDS {
        wire.command(&[b"GET", keys.guard(bucket).as_bytes()]);
    }
    wire.command(&[b"HGET", keys.about().as_bytes(), b"as_of"]);
    let mut answers = link.call("read how far the view is", &wire)?;
    let marker = answers.pop().and_then(|answer| text(&answer).parse().ok());
    let guards = answers.iter().filter_map(|answer| Guard::parse(&text(answer))?.as_of);
    Ok(guards.chain(marker).max())
}

/// The workers of the run that holds a generation's marker; 0 if nobody does.
pub(super) fn workers(link: &mut Link, keys: &Keys) -> Result<usize, RedisError> {
    let workers = text(&link.ask("read the marker", &[b"HGET", keys.about().as_bytes(), b"workers"])?);
    Ok(workers.parse().unwrap_or(0))
}

/// Follows a job's pointer.
pub(super) fn current(link: &mut Link, job: &str) -> Result<Option<CurrentView>, RedisError> {
    let answer = link.ask("read the pointer", &[b"HGET", pointer(job).as_bytes(), b"generation"])?;
    let Some(generation) = pointed(job, &answer)? else { return Ok(None) };
    let answer = link.ask("read the marker", &[b"HGETALL", Keys::new(job, generation).about().as_bytes()])?;
    read(job, generation, answer)
}

/// The generation that a job's pointer names, from the answer to `HGET <pointer> generation`.
pub(crate) fn pointed(job: &str, answer: &Value) -> Result<Option<u64>, RedisError> {
    let generation = text(answer);
    if generation.is_empty() {
        return Ok(None);
    }
    let wrong = |_| RedisError::Unreadable { key: pointer(job), problem: format!("its generation is \"{generation}\"") };
    generation.parse().map(Some).map_err(wrong)
}

/// What a generation's marker says, from the answer to `HGETALL <marker>`; `None` if there is none.
pub(crate) fn read(job: &str, generation: u64, answer: Value) -> Result<Option<CurrentView>, RedisError> {
    let found = pairs(answer);
    if found.is_empty() {
        return Ok(None);
    }
    let wrong = |problem: String| RedisError::Unreadable { key: Keys::new(job, generation).about(), problem };
    let field = |name: &str| {
        let value = found.iter().find(|(field, _)| field == name.as_bytes());
        value.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).ok_or_else(|| wrong(format!("it has no {name}")))
    };
    let number = |name: &str| -> Result<u64, RedisError> {
        let value = field(name)?;
        value.parse().map_err(|_| wrong(format!("its {name} is \"{value}\"")))
    };
    let format = number("format")?;
    if format != u64::from(FORMAT) {
        return Err(wrong(format!("it has format {format}, this program knows {FORMAT}")));
    }
    // Whoever writes to Redis must not be able to make a reader count to a billion.
    let within = |name: &str, bounds: RangeInclusive<u64>| match number(name)? {
        value if bounds.contains(&value) => Ok(value),
        value => Err(wrong(format!("its {name} is {value}, which no job has"))),
    };
    let horizons = Horizons {
        window: within("window_ms", MINUTE..=60 * MINUTE)?,
        grace: within("grace_ms", 0..=LENGTH_MAX)?,
        retention: within("retention_ms", 0..=LENGTH_MAX)?,
        replay_horizon: number("replay_horizon_ms")?,
        before: match number("changed_as_of") {
            Ok(until) => Before {
                until,
                grace: within("grace_before_ms", 0..=LENGTH_MAX)?,
                retention: within("retention_before_ms", 0..=LENGTH_MAX)?,
            },
            Err(_) => Before::NOTHING,
        },
    };
    let about = About {
        job: job.to_owned(),
        generation,
        horizons,
        scale: within("scale", 0..=u64::from(SCALE_MAX))? as u32,
        workers: within("workers", 1..=WORKERS_MAX)? as usize,
        clicks_distinct: field("clicks_distinct")? == "true",
        timezone: field("timezone").unwrap_or_else(|_| utc()),
    };
    let run = field("run")?;
    let extended = field(EXTENDED).is_ok_and(|by| by == run);
    Ok(Some(CurrentView { as_of: number("as_of")?, about, run, extended }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(changed: &[(&str, &str)]) -> Result<Option<CurrentView>, RedisError> {
        let usual = [
            ("format", "1"),
            ("window_ms", "1800000"),
            ("grace_ms", "120000"),
            ("retention_ms", "172800000"),
            ("replay_horizon_ms", "0"),
            ("scale", "2"),
            ("workers", "4"),
            ("clicks_distinct", "true"),
            ("run", "r"),
            ("as_of", "7"),
        ];
        let value = |name: &str, usual: &str| {
            let changed = changed.iter().find(|(of, _)| *of == name).map_or(usual.to_owned(), |(_, value)| (*value).to_owned());
            [name.to_owned(), changed]
        };
        let texts = usual.iter().flat_map(|(name, usual)| value(name, usual));
        read("mall", 1, Value::Array(texts.map(|text| Value::BulkString(text.into_bytes())).collect()))
    }

    #[test]
    fn a_marker_that_no_job_writes_is_refused_by_name() {
        let read = marker(&[]).expect("a marker").expect("it is there");
        assert_eq!((read.as_of, read.about.workers, read.about.scale), (7, 4, 2));
        assert_eq!(read.about.timezone, "UTC");
        for (name, value) in [
            ("workers", "1000000000"),
            ("workers", "0"),
            ("window_ms", "0"),
            ("window_ms", "1"),
            ("window_ms", "9223372036854775807"),
            ("retention_ms", "1000000000000000"),
            ("grace_ms", "18446744073709551615"),
            ("scale", "19"),
            ("as_of", "-5"),
        ] {
            let RedisError::Unreadable { key, problem } = marker(&[(name, value)]).expect_err("refused") else {
                panic!("{name} {value}")
            };
            assert!(key.ends_with(":about") && problem.contains(name) && problem.contains(value), "{key}: {problem}");
        }
    }
}
