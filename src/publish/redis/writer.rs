//! The thread that keeps Redis up to date: one per process, one connection, never more than two pipelines on their way.
//!
//! ```text
//! inbox ─► pending, by cell ─► steps by bucket ─► script calls ─► guards ─► shown
//!             │ guard lost, inbox too full                          │ another run's guard: the job stops
//!             └────────────► rebuild from the view in memory ◄──────┘ lost: rebuild
//! then: top lists and totals, the leader's marker and pointer, times to live, keys of old generations, status
//! ```
//!
//! Upholds: (1) what is shown of a worker is in Redis, all of it; (2) a bucket goes from one as-of to another in one script;
//! (3) an outage is logged once, loses nothing and ends with every guard checked; (4) nothing is kept beyond what the view in
//! memory holds, but for a bounded number of changes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::Value;
use storeflow_dataflows::key::SHARDS;
use storeflow_dataflows::table::{CellChange, NO_WINDOW, Table, Window};

use super::applier::Applier;
use super::bucket::{Bucket, Found, REBUILDING, State, buckets, guard_keys};
use super::error::RedisError;
use super::keys::Keys;
use super::link::{Link, Packed, Traffic, Wire, text};
use super::marker::Marker;
use super::pending::{Pending, by_hash};
use super::settings::RedisSettings;
use super::sink::{INBOX_CHANGES_MAX, Inbox, Shared, lock};
use super::status::{Ask, Status};
use super::steps::{Newest, Steps, Style};
use super::sweep::{Refresh, Sweep};
use super::tops::Tops;
use crate::publish::layout::About;
use crate::publish::view::MemoryView;

/// Longest the thread sleeps with nothing to do.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often all guards are looked at, so that lost data is found where nothing changes.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// Between attempts to connect: doubled each time.
const BACKOFF: Range<Duration> = Duration::from_millis(50)..Duration::from_secs(5);

/// The scripts, by hash.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    pub(super) apply: String,
    pub(super) claim: String,
    pub(super) mark: String,
    pub(super) point: String,
}

impl Scripts {
    fn load(link: &mut Link) -> Result<Scripts, RedisError> {
        Ok(Scripts {
            apply: link.load(include_str!("apply.lua"))?,
            claim: link.load(include_str!("claim.lua"))?,
            mark: link.load(include_str!("mark.lua"))?,
            point: link.load(include_str!("point.lua"))?,
        })
    }
}

/// One worker's share.
#[derive(Debug)]
struct Share {
    worker: usize,
    pending: Pending,
    /// The as-of of what it sent last.
    received: u64,
    tops: Tops,
    /// The guard of its top lists; its number means nothing.
    top_guard: Bucket,
}

impl Share {
    /// Whether its lists should be made now.
    fn lists_due(&self, now: Instant) -> bool {
        self.tops.due(now, self.lists_behind())
    }

    /// The guard of its lists does not say yet that they are as new as the hashes.
    fn lists_behind(&self) -> bool {
        self.top_guard.as_of < self.received
    }
}

/// What a writer is given once and for all.
pub(super) struct Setting {
    pub(super) settings: RedisSettings,
    pub(super) view: Arc<MemoryView>,
    pub(super) workers: Range<usize>,
    pub(super) peers: usize,
    pub(super) run: String,
    pub(super) status: Option<Ask>,
}

/// All the thread has.
pub(super) struct Writer {
    settings: RedisSettings,
    pub(super) about: About,
    pub(super) keys: Keys,
    pub(super) style: Style,
    pub(super) view: Arc<MemoryView>,
    pub(super) run: String,
    pub(super) link: Option<Link>,
    pub(super) scripts: Scripts,
    pub(super) buckets: Vec<Bucket>,
    pub(super) guards: Vec<String>,
    pub(super) prefixes: Vec<String>,
    /// Where a bucket is among ours.
    places: Vec<Option<usize>>,
    pub(super) newest: Newest,
    shares: Vec<Share>,
    /// Workers of all processes.
    peers: usize,
    pub(super) marker: Marker,
    /// Another run has written the generation before.
    inherits: bool,
    sweep: Sweep,
    refresh: Refresh,
    status: Status,
    shared: Arc<Shared>,
    began: Instant,
    next_attempt: Instant,
    backoff: Duration,
    next_check: Instant,
    up: Option<bool>,
    /// What links of the past have done.
    past: Traffic,
}

impl Writer {
    pub(super) fn new(setting: Setting, link: Link, about: &About, shared: Arc<Shared>) -> Writer {
        let Setting { settings, view, workers, peers, run, status } = setting;
        let (now, peers) = (Instant::now(), peers.max(1));
        let keys = Keys::new(&about.job, about.generation);
        let buckets = buckets(&workers, peers);
        let mut places = vec![None; SHARDS as usize];
        for (place, bucket) in buckets.iter().enumerate() {
            places[bucket.number as usize] = Some(place);
        }
        let share = |worker| Share {
            worker,
            pending: Pending::default(),
            received: view.extent(worker).0,
            tops: Tops::new(worker, peers, now),
            top_guard: super::bucket::unclaimed(worker as u64, worker),
        };
        Writer {
            settings,
            // Readers find each worker's totals by how many write them, which another program may have decided than the one that began.
            about: About { workers: peers, ..about.clone() },
            style: Style { horizons: about.horizons, scale: about.scale, clicks_distinct: about.clicks_distinct },
            run,
            link: Some(link),
            scripts: Scripts::default(),
            guards: guard_keys(&keys, &buckets),
            prefixes: buckets.iter().map(|bucket| keys.bucket(bucket.number)).collect(),
            buckets,
            places,
            newest: Newest::default(),
            shares: workers.map(share).collect(),
            marker: Marker::default(),
            inherits: false,
            sweep: Sweep::default(),
            refresh: Refresh::new(now, peers),
            status: Status::new(status, now),
            keys,
            peers,
            view,
            shared,
            began: now,
            next_attempt: now,
            backoff: BACKOFF.start,
            next_check: now,
            up: None,
            past: Traffic::default(),
        }
    }

    /// Works until the sink is closed and everything is written, nobody waits any longer, or the job must stop.
    pub(super) fn run(mut self) {
        let mut closing = false;
        loop {
            let patience = match () {
                () if self.up == Some(true) && (self.sweep.is_busy() || self.refresh.is_busy()) => Duration::ZERO,
                () if self.up == Some(false) => self.next_attempt.saturating_duration_since(Instant::now()).min(PATIENCE),
                () if self.shares.iter().any(|share| share.lists_due(Instant::now() + PATIENCE)) => PATIENCE / 5,
                () => PATIENCE,
            };
            let inbox = self.shared.take(patience, closing);
            if inbox.abandoned {
                return;
            }
            closing = inbox.closing;
            self.take_in(inbox);
            let began = Instant::now();
            let done = self.cycle(closing);
            lock(&self.shared.stats).busy += began.elapsed();
            let finished = match done {
                Ok(finished) => finished,
                Err(error) if error.is_final() => {
                    tracing::error!(%error, "the Redis view belongs to another run");
                    self.shared.fail(error);
                    self.report();
                    return;
                }
                Err(error) => {
                    self.outage(error);
                    false
                }
            };
            self.report();
            if closing && finished {
                return;
            }
        }
    }

    /// Takes over what waited in the inbox.
    fn take_in(&mut self, inbox: Inbox) {
        let first = self.shares.first().map_or(0, |share| share.worker);
        for (worker, as_of) in inbox.forgotten {
            let share = &mut self.shares[worker - first];
            share.received = share.received.max(as_of);
            self.rewrite(worker - first);
        }
        for message in inbox.messages {
            let share = &mut self.shares[message.worker - first];
            share.received = share.received.max(message.as_of);
            share.pending.add(message.as_of, message.changes, message.expired);
        }
        // While Redis is there, all of it is written at once, and the inbox bounds how much that is.
        for share in 0..self.shares.len() {
            if self.up == Some(false) && self.shares[share].pending.len() > INBOX_CHANGES_MAX / self.shares.len() {
                self.rewrite(share);
            }
        }
        if let Some(mark) = inbox.mark {
            self.marker.want(mark);
        }
    }

    /// Too much waits: forget it, and write all of the worker's buckets in full.
    fn rewrite(&mut self, share: usize) {
        let share = &mut self.shares[share];
        share.pending.clear();
        for bucket in self.buckets.iter_mut().filter(|bucket| bucket.worker == share.worker && bucket.state == State::Ready) {
            bucket.state = State::Lost;
        }
    }

    /// Brings Redis up to date, as far as it is there. Whether nothing is left to do.
    fn cycle(&mut self, closing: bool) -> Result<bool, RedisError> {
        let now = Instant::now();
        if !self.connect(now)? {
            return Ok(false);
        }
        if now >= self.next_check {
            self.check()?;
            self.next_check = now + CHECK_EVERY;
        }
        for share in 0..self.shares.len() {
            self.flush(share)?;
        }
        self.rebuild()?;
        for share in &self.shares {
            let of_worker = |bucket: &&Bucket| bucket.worker == share.worker;
            if self.buckets.iter().filter(of_worker).all(|bucket| bucket.state == State::Ready) {
                self.shared.show(share.worker, share.received);
            }
        }
        for share in 0..self.shares.len() {
            if closing || self.shares[share].lists_due(now) {
                self.write_tops(share)?;
            }
        }
        if closing {
            self.level()?;
        }
        self.write_marker()?;
        let current = self.marker.is_current();
        if let Some(link) = &mut self.link {
            self.sweep.step(link, &self.keys, self.about.generation, current)?;
            let as_of = self.shares.iter().map(|share| share.received).min().unwrap_or(0);
            let workers: Vec<usize> = self.shares.iter().map(|share| share.worker).collect();
            self.refresh.step(link, &self.keys, &self.view, &workers, as_of, &self.style, self.began, now)?;
            self.status.step(link, &self.keys, &self.style, now, closing && !self.marker.is_waiting())?;
        }
        Ok(!self.sweep.is_busy() && !self.marker.is_waiting())
    }

    /// Makes sure there is a connection, with the scripts loaded and the guards known. Whether there is one.
    fn connect(&mut self, now: Instant) -> Result<bool, RedisError> {
        if self.up == Some(true) {
            return Ok(true);
        }
        if now < self.next_attempt {
            return Ok(false);
        }
        if self.link.is_none() {
            self.link = Some(Link::connect(&self.settings)?);
        }
        if let Some(link) = &mut self.link {
            self.scripts = Scripts::load(link)?;
        }
        self.check()?;
        self.next_check = now + CHECK_EVERY;
        if self.up == Some(false) {
            tracing::info!(server = %self.settings.url, "Redis is back");
        }
        self.up = Some(true);
        self.backoff = BACKOFF.start;
        lock(&self.shared.stats).connections += 1;
        Ok(true)
    }

    /// Redis is away, or does not serve us now: everything waits.
    fn outage(&mut self, error: RedisError) {
        let chain = in_full(&error);
        if self.up != Some(false) {
            tracing::warn!(server = %self.settings.url, error = %chain, "Redis is away; the view waits for it");
        }
        lock(&self.shared.stats).last_error = Some(chain);
        if let Some(link) = self.link.take() {
            self.past = sum(self.past, link.traffic);
        }
        self.up = Some(false);
        self.next_attempt = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF.end);
        // What was on its way may not have arrived.
        self.newest.clear();
        for bucket in &mut self.buckets {
            let rebuilding = |guard: &str| guard.ends_with(REBUILDING);
            if rebuilding(&bucket.guard) || bucket.maybe.as_deref().is_some_and(rebuilding) {
                bucket.state = State::Lost;
            }
        }
    }

    /// Looks at every guard: takes buckets not taken yet, finds those that were lost.
    fn check(&mut self) -> Result<(), RedisError> {
        self.check_buckets()?;
        // A view that holds something when we start is written in full.
        for share in self.shares.iter().filter(|share| share.top_guard.state == State::Unclaimed) {
            if self.view.extent(share.worker).1 > 0 {
                let of_worker = self.buckets.iter_mut().filter(|bucket| bucket.worker == share.worker);
                of_worker.for_each(|bucket| bucket.state = State::Lost);
            }
        }
        self.check_tops()
    }

    /// A bucket that another run has left is written in full, also one that says exactly where our view is. It has every change
    /// then, but maybe not every key: while no run went on, log time stood still and times to live, which are wall time, did not.
    fn check_buckets(&mut self) -> Result<(), RedisError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let unclaimed = self.buckets.iter().any(|bucket| bucket.state == State::Unclaimed);
        let known = if unclaimed { super::marker::claim(link, &self.keys)? } else { 0 };
        let mut wire = Wire::default();
        let mut asked = Vec::new();
        for (at, bucket) in self.buckets.iter().enumerate() {
            match bucket.state {
                State::Unclaimed => {
                    claim(&mut wire, &self.scripts.claim, &self.guards[at], &self.run, Claim { held: 0, known }, "");
                }
                State::Ready => wire.command(&[b"GET", self.guards[at].as_bytes()]),
                State::Lost => continue,
            }
            asked.push(at);
        }
        let answers = link.call("read the guards", &wire)?;
        for (at, answer) in asked.into_iter().zip(answers) {
            let bucket = &mut self.buckets[at];
            if bucket.state == State::Unclaimed {
                let before = claimed(bucket, &answer)?;
                self.inherits |= before;
                // Without a guard in a generation that has a marker, it was lost.
                bucket.state = if before || known > 0 { State::Lost } else { State::Ready };
            } else {
                let found = text(&answer);
                if let Found::Theirs = bucket.judge(&found, &self.run) {
                    return Err(bucket.taken(&found));
                }
            }
        }
        Ok(())
    }

    /// The same for top lists. What another run has left in them is found out, of whichever workers it had.
    fn check_tops(&mut self) -> Result<(), RedisError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let (mut recalled, mut leads) = (Vec::new(), false);
        // Lists of as many workers stay what they are until they are written anew: their stores are the same.
        let rest = if super::marker::workers(link, &self.keys)? == self.peers { "" } else { "0:0" };
        for (at, share) in self.shares.iter_mut().enumerate() {
            let key = self.keys.top_guard(share.worker);
            if share.top_guard.state == State::Ready {
                let found = text(&link.ask("read the guards", &[b"GET", key.as_bytes()])?);
                match share.top_guard.judge(&found, &self.run) {
                    Found::Ours => continue,
                    Found::Lost => {}
                    Found::Theirs => return Err(share.top_guard.taken(&found)),
                }
            }
            let begins = share.top_guard.state == State::Unclaimed;
            let mut wire = Wire::default();
            let held = Claim { held: share.top_guard.claim, known: 0 };
            claim(&mut wire, &self.scripts.claim, &key, &self.run, held, rest);
            let answer = link.call("take the top lists", &wire)?.pop().unwrap_or(Value::Nil);
            if claimed(&mut share.top_guard, &answer)? || (begins && self.inherits) {
                recalled.push(at);
                leads |= begins && share.worker == 0;
            } else {
                share.tops.lost(&self.view);
                share.top_guard.state = State::Ready;
            }
        }
        if recalled.is_empty() {
            return Ok(());
        }
        let chosen = self.shares.iter_mut().enumerate().filter(|(at, _)| recalled.contains(at));
        let tops = chosen.map(|(_, share)| &mut share.tops).collect();
        let guards = super::tops::recall(tops, link, &self.keys, &self.view, self.peers)?;
        if leads {
            // Workers of a run that had more of them than this one: if it wakes up, it must find these taken, too.
            let beyond = guards.iter().filter(|key| self.keys.parse_top_guard(key).is_some_and(|worker| worker >= self.peers));
            let mut wire = Wire::default();
            beyond.for_each(|key| claim(&mut wire, &self.scripts.claim, key, &self.run, Claim::default(), "0:0"));
            link.call("take the top lists", &wire)?;
        }
        for at in recalled {
            self.shares[at].top_guard.state = State::Ready;
        }
        Ok(())
    }

    /// Writes what waits of one worker.
    fn flush(&mut self, share: usize) -> Result<(), RedisError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let share = &mut self.shares[share];
        let count = share.pending.len();
        if count == 0 {
            return Ok(());
        }
        let as_of = share.pending.as_of;
        let now = self.began.elapsed();
        let mut applier = Applier::new(link, &self.scripts.apply, &self.run, &mut self.buckets);
        let mut steps = Steps::default();
        for of in share.pending.by_bucket() {
            let Some(at) = self.places[of.bucket as usize] else { continue };
            let bucket = applier.bucket(at);
            if bucket.state != State::Ready {
                continue;
            }
            let (known, prefix) = (bucket.as_of, &self.prefixes[at]);
            steps.clear();
            for hash in by_hash(&of.changes) {
                let window = hash[0].window;
                if self.style.horizons.expired(window, as_of) {
                    continue;
                }
                // A rebuilt bucket may be ahead of what waits.
                let fresh: Vec<&CellChange>;
                let hash = if hash.iter().all(|change| change.after >= known) {
                    hash
                } else {
                    fresh = hash.iter().copied().filter(|change| change.after >= known).collect();
                    &fresh
                };
                steps.change(prefix, hash, as_of, &self.style, &mut self.newest);
                if window != NO_WINDOW {
                    self.refresh.gave(window, now, self.style.ttl(window, as_of));
                }
                for change in hash {
                    share.tops.touch(change.table, window);
                }
            }
            for (_, window, store) in of.expired {
                steps.expire(prefix, *window, store.as_bytes(), &mut self.newest);
                // Its lists go with it; their times to live may be longer.
                Table::ALL.into_iter().for_each(|table| share.tops.touch(table, *window));
            }
            if !steps.is_empty() {
                applier.add(at, &self.guards[at], Some(as_of.max(known)), &steps)?;
            }
        }
        applier.finish()?;
        share.pending.clear();
        lock(&self.shared.stats).cells += count as u64;
        Ok(())
    }

    /// Writes every lost bucket in full.
    fn rebuild(&mut self) -> Result<(), RedisError> {
        let lost = |buckets: &[Bucket]| buckets.iter().filter(|bucket| bucket.state == State::Lost).count();
        if lost(&self.buckets) == 0 {
            return Ok(());
        }
        // One that was lost is seldom alone, and the marker will say that all are there.
        self.check_buckets()?;
        let lost = lost(&self.buckets);
        let Some(link) = &mut self.link else { return Ok(()) };
        self.marker.check_replaced(link, &self.about)?;
        let began = Instant::now();
        let now = self.began.elapsed();
        let hashes = super::rebuild::rebuild(self)?;
        for (window, ttl) in hashes.windows {
            self.refresh.gave(window, now, ttl);
        }
        for share in &mut self.shares {
            share.tops.touch_all(&self.view);
        }
        self.marker.again();
        lock(&self.shared.stats).reconciliations += lost as u64;
        tracing::info!(buckets = lost, hashes = hashes.written, stale = hashes.stale, took = ?began.elapsed(), "Redis buckets written in full");
        Ok(())
    }

    fn write_tops(&mut self, share: usize) -> Result<(), RedisError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let share = &mut self.shares[share];
        let mut steps = Steps::default();
        let written = share.tops.steps(&self.keys, &self.view, share.received, &self.style, &mut steps);
        if !steps.is_empty() || share.lists_behind() {
            let guard = self.keys.top_guard(share.worker);
            let guards = std::slice::from_mut(&mut share.top_guard);
            let mut applier = Applier::new(link, &self.scripts.apply, &self.run, guards);
            applier.add(0, &guard, Some(share.received), &steps)?;
            applier.finish()?;
        }
        if share.top_guard.state == State::Ready {
            share.tops.wrote(written);
        } else {
            self.next_check = Instant::now();
        }
        Ok(())
    }

    /// At the end all guards are brought to one as-of, so that a reader sees that they are of one cut.
    fn level(&mut self) -> Result<(), RedisError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let received: BTreeMap<usize, u64> = self.shares.iter().map(|share| (share.worker, share.received)).collect();
        let mut applier = Applier::new(link, &self.scripts.apply, &self.run, &mut self.buckets);
        let nothing = Steps::default();
        for (at, guard) in self.guards.iter().enumerate() {
            let bucket = applier.bucket(at);
            let as_of = received.get(&bucket.worker).copied().unwrap_or(0);
            if bucket.state == State::Ready && bucket.as_of < as_of {
                applier.add(at, guard, Some(as_of), &nothing)?;
            }
        }
        applier.finish()
    }

    fn write_marker(&mut self) -> Result<(), RedisError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        // The leader has worker 0, whose first bucket is 0.
        let claim = self.buckets.first().map_or(0, |bucket| bucket.claim);
        let ours: Vec<usize> = self.shares.iter().map(|share| share.worker).collect();
        if self.marker.is_held(link, &self.keys, (0..self.peers).filter(|worker| !ours.contains(worker)))? {
            return Ok(());
        }
        self.marker.write(link, &self.scripts, &self.keys, &self.about, (&self.run, claim))
    }

    fn report(&self) {
        let mut stats = lock(&self.shared.stats);
        let traffic = sum(self.past, self.link.as_ref().map(|link| link.traffic).unwrap_or_default());
        stats.pipelines = traffic.pipelines;
        stats.round_trips = traffic.round_trips;
        stats.commands = traffic.commands;
        stats.bytes = traffic.bytes;
        stats.pending = self.shares.iter().map(|share| share.pending.len() as u64).sum();
        stats.connected = self.up == Some(true);
        stats.current = self.marker.is_current();
    }
}

/// What a claim is made by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claim {
    /// The claim that is held; 0 takes the bucket from whoever has it.
    pub(super) held: u64,
    /// The highest that is known to have been given; a new one is higher.
    pub(super) known: u64,
}

/// Appends the claim of a bucket; `rest` is what its guard says then after claim and run, "" the as-of it says now.
pub(super) fn claim(wire: &mut Wire, script: &str, guard: &str, run: &str, claim: Claim, rest: &str) {
    let (mut keys, mut args) = (Packed::default(), Packed::default());
    keys.push(guard.as_bytes());
    args.push(run.as_bytes());
    args.number(claim.held as i64);
    args.push(rest.as_bytes());
    args.number(claim.known as i64);
    wire.script(script, &keys, &args);
}

/// Reads the answer to a claim. Whether there was a guard before.
pub(super) fn claimed(bucket: &mut Bucket, answer: &Value) -> Result<bool, RedisError> {
    let parts = if let Value::Array(parts) = answer { &parts[..] } else { &[] };
    let before = parts.get(1).map(text).unwrap_or_default();
    let (Some(Value::Int(claim @ 0..)), Some(now)) = (parts.first(), parts.get(2)) else { return Err(bucket.taken(&before)) };
    bucket.claim = claim.unsigned_abs();
    bucket.maybe = None;
    bucket.guard = text(now);
    Ok(!before.is_empty())
}

fn sum(a: Traffic, b: Traffic) -> Traffic {
    Traffic {
        pipelines: a.pipelines + b.pipelines,
        round_trips: a.round_trips + b.round_trips,
        commands: a.commands + b.commands,
        bytes: a.bytes + b.bytes,
    }
}

/// An error with all its causes, on one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Windows that were written, and the times to live that were given.
#[derive(Debug, Default)]
pub(super) struct Rebuilt {
    pub(super) written: usize,
    pub(super) stale: usize,
    pub(super) windows: BTreeMap<Window, u64>,
}
