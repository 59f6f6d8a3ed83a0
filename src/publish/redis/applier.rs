//! Puts the steps of many buckets into few script calls, and those into few pipelines, and reads what became of them.
//!
//! ```text
//! bucket, bucket, … ─► call (one script) ─► wire (one pipeline) ─► in flight, at most two ─► guards accepted or judged
//! ```
//!
//! Upholds: a bucket counts as moved only when Redis said so; a guard that was not where we left it is judged, never ignored.

use std::collections::VecDeque;

use ::redis::Value;

use super::bucket::{Bucket, Found};
use super::error::RedisError;
use super::link::{Link, Packed, Wire, text};
use super::steps::Steps;

/// Keys of one script call at most (beyond it only by the steps of one bucket): a script is not interrupted by readers.
const CALL_KEYS_MAX: usize = 100;

/// Bytes of a pipeline from which it is sent: some milliseconds of work for Redis, while the next one is packed.
const WIRE_BYTES: usize = 256 << 10;

/// The buckets of a call: place among ours, place of the guard among the keys, the guard it leads to, its as-of.
type Call = Vec<(usize, usize, String, Option<u64>)>;

pub(super) struct Applier<'a> {
    link: &'a mut Link,
    script: &'a str,
    run: &'a str,
    buckets: &'a mut [Bucket],
    one_per_call: bool,
    keys: Packed,
    args: Packed,
    call: Call,
    wire: Wire,
    calls: Vec<Call>,
    flying: VecDeque<Vec<Call>>,
}

const APPLY: &str = "write the view";

impl<'a> Applier<'a> {
    pub(super) fn new(link: &'a mut Link, script: &'a str, run: &'a str, buckets: &'a mut [Bucket]) -> Applier<'a> {
        let one_per_call = link.is_cluster();
        Applier {
            link,
            script,
            run,
            buckets,
            one_per_call,
            keys: Packed::default(),
            args: Packed::default(),
            call: Call::new(),
            wire: Wire::default(),
            calls: Vec::new(),
            flying: VecDeque::new(),
        }
    }

    /// The bucket at a place.
    pub(super) fn bucket(&self, at: usize) -> &Bucket {
        &self.buckets[at]
    }

    /// Adds the steps that bring a bucket to an as-of; `None`: it is still being rebuilt after them.
    pub(super) fn add(&mut self, at: usize, guard_key: &str, as_of: Option<u64>, steps: &Steps) -> Result<(), RedisError> {
        let bucket = &mut self.buckets[at];
        let shown = as_of.map_or_else(|| super::bucket::REBUILDING.to_owned(), |as_of| as_of.to_string());
        let next = bucket.next_guard(self.run, &shown);
        bucket.sequence += 1;
        let expected = bucket.maybe.take().unwrap_or_else(|| bucket.guard.clone());
        bucket.maybe = Some(next.clone());
        self.call.push((at, self.keys.len() + 1, next.clone(), as_of));
        self.keys.push(guard_key.as_bytes());
        self.keys.append(&steps.keys);
        self.args.push(expected.as_bytes());
        self.args.push(next.as_bytes());
        self.args.number(steps.keys.len() as i64);
        self.args.number(steps.args.len() as i64);
        self.args.append(&steps.args);
        if self.one_per_call || self.keys.len() >= CALL_KEYS_MAX { self.end_call() } else { Ok(()) }
    }

    /// Sends what is left and waits for every answer.
    pub(super) fn finish(mut self) -> Result<(), RedisError> {
        self.end_call()?;
        self.launch()?;
        while !self.flying.is_empty() {
            self.land()?;
        }
        Ok(())
    }

    fn end_call(&mut self) -> Result<(), RedisError> {
        if self.call.is_empty() {
            return Ok(());
        }
        self.wire.script(self.script, &self.keys, &self.args);
        self.keys.clear();
        self.args.clear();
        self.calls.push(std::mem::take(&mut self.call));
        if self.wire.bytes() >= WIRE_BYTES { self.launch() } else { Ok(()) }
    }

    fn launch(&mut self) -> Result<(), RedisError> {
        if self.calls.is_empty() {
            return Ok(());
        }
        self.link.send(&self.wire).map_err(|error| RedisError::of(self.link.server(), APPLY, error))?;
        self.wire.clear();
        self.flying.push_back(std::mem::take(&mut self.calls));
        if self.flying.len() > 1 { self.land() } else { Ok(()) }
    }

    fn land(&mut self) -> Result<(), RedisError> {
        let answers = self.link.receive().map_err(|error| RedisError::of(self.link.server(), APPLY, error))?;
        let Some(calls) = self.flying.pop_front() else { return Ok(()) };
        let mut theirs = None;
        for (call, answer) in calls.into_iter().zip(answers) {
            let refused = refusals(&answer);
            for (at, key, next, as_of) in call {
                let bucket = &mut self.buckets[at];
                let found = match refused.iter().find(|(place, _)| *place == key) {
                    None => &next,
                    Some((_, found)) => found,
                };
                let accepted = *found == next;
                if accepted {
                    if bucket.maybe.as_ref() == Some(&next) {
                        bucket.maybe = None;
                    }
                    bucket.guard = next;
                    bucket.as_of = as_of.unwrap_or(bucket.as_of);
                } else if let Found::Theirs = bucket.judge(found, self.run) {
                    theirs.get_or_insert_with(|| bucket.taken(found));
                } else {
                    // Ours, but not where it should be: whatever happened, the bucket is written anew.
                    bucket.state = super::bucket::State::Lost;
                }
            }
        }
        theirs.map_or(Ok(()), Err)
    }
}

fn refusals(answer: &Value) -> Vec<(usize, String)> {
    let Value::Array(parts) = answer else { return Vec::new() };
    let pairs = parts.chunks_exact(2);
    pairs
        .filter_map(|pair| {
            Some((usize::try_from(if let Value::Int(at) = pair[0] { at } else { return None }).ok()?, text(&pair[1])))
        })
        .collect()
}
