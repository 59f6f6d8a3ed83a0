//! Latest row per key: changes in, contributions out.
//!
//! ```text
//! changes ─(by shard of key)─► stash per tick ─frontier─► in order per key: guard, take out, put in ─┬─► contributions
//!                                                                                                    └─► late adjustments
//! ```
//!
//! Upholds: (1) changes of a key apply in the order (stamp, partition, position), however they were cut into ticks or spread
//! over partitions; (2) a change strictly older in the same incarnation changes nothing; (3) what is taken out is what was put
//! in, from our own state, never from the message; (4) whether a row was forgotten, or a window expired or closed, is decided
//! by the change's own stamp.
//!
//! Keeps: per key a packed entry (see [`crate::rows`]): version, row, stamp of the last change; deleted and forgotten
//! rows as markers for the replay horizon. Sweeping a few slots per change bounds what is due but never touched again.
//!
//! Absent on purpose: differential's arrangement. Its upsert keeps the greatest value at ties, and costs ten times the
//! private state.

use std::cell::Cell;
use std::rc::Rc;

use differential_dataflow::collection::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::change::{Change, Position, Row, Version};
use crate::epoch::Horizons;
use crate::key::{Key, Text, push_varint, read_varint};
use crate::measure::{Contribution, Measure};
use crate::rows::Rows;
use crate::stash::Stash;
use crate::table::{LateAdjustment, NO_WINDOW, Table};

/// What an operator counted on this worker; for logs and the summary.
#[derive(Debug, Default)]
pub struct Counts {
    /// Changes older than the stored version.
    pub stale: Cell<u64>,
    /// Contributions that reached a closed window.
    pub corrections: Cell<u64>,
    /// Contributions that reached an expired window.
    pub late: Cell<u64>,
    /// Entries (rows and markers) kept.
    pub entries: Cell<u64>,
    /// Bytes allocated for them.
    pub bytes: Cell<u64>,
}

fn bump(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// Contributions, late adjustments and counts of [`latest`].
pub struct Latest<'scope> {
    /// What the latest rows contribute to cells of windows that are not expired.
    pub contributions: VecCollection<'scope, u64, Contribution, Measure>,
    /// What changed for windows that are.
    pub late: VecCollection<'scope, u64, LateAdjustment, isize>,
    /// Live counts of this worker.
    pub counts: Rc<Counts>,
}

/// Keeps the latest row of every key and emits how each change moves the cells of `table`.
///
/// The collection holds each change once (difference 1). Times are log time; a change's own stamp is at or after its time and
/// before the next tick.
pub fn latest<'scope>(changes: VecCollection<'scope, u64, Change, isize>, table: Table, horizons: Horizons) -> Latest<'scope> {
    let counts = Rc::new(Counts::default());
    let scope = changes.inner.scope();
    let mut builder = OperatorBuilder::new(format!("Latest: {}", table.name()), scope);
    let route = |(change, _, _): &(Change, u64, isize)| change.key.shard();
    let mut input = builder.new_input(changes.inner, Exchange::new(route));
    let (contributions_out, contributions) = builder.new_output();
    let (late_out, late) = builder.new_output();
    let mut contributions_out: OutputBuilder<_, CapacityContainerBuilder<Vec<_>>> = OutputBuilder::from(contributions_out);
    let mut late_out: OutputBuilder<_, CapacityContainerBuilder<Vec<_>>> = OutputBuilder::from(late_out);

    let shared = Rc::clone(&counts);
    builder.build(move |capabilities| {
        let mut capabilities = Some(capabilities);
        let mut stash: Stash<Change> = Stash::default();
        let mut state = LatestRows::new(table, horizons, shared);
        move |frontiers| {
            input.for_each(|_, batch| {
                stash.extend(batch.drain(..).map(|(change, time, diff)| {
                    debug_assert!(diff > 0, "a change is never taken back");
                    (time, change)
                }));
            });
            let frontier = frontiers[0].frontier().first().copied();
            let due = stash.before(frontier);
            if let Some(capabilities) = &mut capabilities {
                let mut contributions_out = contributions_out.activate();
                let mut late_out = late_out.activate();
                for (time, mut changes) in due {
                    for capability in capabilities.iter_mut() {
                        capability.downgrade(&time);
                    }
                    let mut contributions = contributions_out.session(&capabilities[0]);
                    let mut late = late_out.session(&capabilities[1]);
                    state.apply(
                        &mut changes,
                        |contribution, measure| contributions.give((contribution, time, measure)),
                        |adjustment| late.give((adjustment, time, 1)),
                    );
                    stash.recycle(changes);
                }
                if let Some(frontier) = frontier {
                    for capability in capabilities.iter_mut() {
                        capability.downgrade(&frontier);
                    }
                }
            }
            if frontier.is_none() {
                capabilities = None;
            }
        }
    });
    Latest { contributions: contributions.as_collection(), late: late.as_collection(), counts }
}

/// The state of [`latest`] on one worker, without the dataflow around it.
struct LatestRows {
    table: Table,
    horizons: Horizons,
    rows: Rows,
    incarnations: Vec<(u64, u32)>,
    counts: Rc<Counts>,
    /// Hash and place of the changes of a tick.
    order: Vec<(u64, u32)>,
    payload: Vec<u8>,
}

/// What is kept of a key.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    version: Option<Version>,
    /// Stamp of the last change; for a marker the instant it was deleted or forgotten.
    since: u64,
    /// `None`: a marker.
    row: Option<Row>,
}

impl LatestRows {
    fn new(table: Table, horizons: Horizons, counts: Rc<Counts>) -> Self {
        LatestRows {
            table,
            horizons,
            rows: Rows::default(),
            incarnations: Vec::new(),
            counts,
            order: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// Applies the changes of one tick, and leaves none.
    fn apply(
        &mut self,
        changes: &mut Vec<Change>,
        mut contribute: impl FnMut(Contribution, Measure),
        mut late: impl FnMut(LateAdjustment),
    ) {
        // By hash, so that neighbours in the index are touched together; within a key (mostly one change) in its order.
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(changes.iter().zip(0..).map(|(change, at)| (change.key.hash, at)));
        order.sort_unstable();
        for run in order.chunk_by_mut(|(one, _), (other, _)| one == other) {
            if run.len() > 1 {
                run.sort_by_key(|(_, at)| changes[*at as usize].order);
            }
            for &(_, at) in &*run {
                self.apply_one(&mut changes[at as usize], &mut contribute, &mut late);
            }
        }
        // Later changes have stamps at or above the least of this tick, whatever partition they come from.
        if let Some(now) = changes.iter().map(|change| change.order.stamp).min() {
            self.sweep(changes.len(), now);
        }
        changes.clear();
        self.order = order;
        self.counts.entries.set(self.rows.len() as u64);
        self.counts.bytes.set(self.rows.bytes() as u64);
    }

    fn apply_one(
        &mut self,
        change: &mut Change,
        contribute: &mut impl FnMut(Contribution, Measure),
        late: &mut impl FnMut(LateAdjustment),
    ) {
        let (hash, key, at) = (change.key.hash, change.key.text.as_bytes(), change.order);
        let old = self.rows.get(hash, key).map(|payload| decode(payload, &self.incarnations));
        let old = old.and_then(|entry| remember(entry, &self.horizons, at.stamp));
        if let (Some(new), Some(stored)) = (&change.version, old.as_ref().and_then(|entry| entry.version.as_ref()))
            && new.stale_against(stored)
        {
            return bump(&self.counts.stale);
        }
        let new = change.row.take();
        let entry = Entry { version: change.version, since: at.stamp, row: new };
        self.payload.clear();
        encode(&entry, &mut self.incarnations, &mut self.payload);
        self.rows.put(hash, key, &self.payload);

        let taken = old.and_then(|entry| entry.row).filter(|row| row.counts);
        let put = entry.row.filter(|row| row.counts);
        let mut emit = |row: Row, measure: Measure| {
            if measure == Measure::default() {
                return;
            }
            if self.horizons.expired(row.window, at.stamp) {
                bump(&self.counts.late);
                late(LateAdjustment {
                    table: self.table,
                    window: row.window,
                    key: row.cell,
                    sum: measure.sum,
                    count: measure.count,
                    partition: at.partition,
                    position: at.position,
                    stamp: at.stamp,
                });
            } else {
                if self.horizons.closed(row.window, at.stamp) {
                    bump(&self.counts.corrections);
                }
                contribute(Contribution { window: row.window, cell: row.cell, member: row.member }, measure);
            }
        };
        match (taken, put) {
            (Some(old), Some(new)) if old.window == new.window && old.member == new.member && old.cell == new.cell => {
                let sum = new.amount - old.amount;
                emit(new, Measure { sum, count: 0 });
            }
            (taken, put) => {
                if let Some(old) = taken {
                    let sum = -old.amount;
                    emit(old, Measure { sum, count: -1 });
                }
                if let Some(new) = put {
                    let sum = new.amount;
                    emit(new, Measure { sum, count: 1 });
                }
            }
        }
    }

    /// Forgets what is due among two slots per change: every slot is visited while half its number of changes arrives.
    fn sweep(&mut self, applied: usize, now: u64) {
        let horizons = self.horizons;
        self.rows.sweep(applied * 2, |payload| {
            let Header { live, since, window, .. } = header(payload);
            !gone(live, since, window, &horizons, now)
        });
    }
}

/// The instant at which a live row is forgotten; never for rows without a window.
fn forgotten_at(since: u64, window: i64, horizons: &Horizons) -> Option<u64> {
    horizons.expiry(window).map(|expiry| expiry.max(since + horizons.replay_horizon))
}

/// Whether at `now` nothing is left of an entry, not even its marker.
fn gone(live: bool, since: u64, window: i64, horizons: &Horizons, now: u64) -> bool {
    let marked = if live { forgotten_at(since, window, horizons) } else { Some(since) };
    marked.is_some_and(|marked| marked + horizons.replay_horizon <= now)
}

/// The entry as it stands at `now`: whole, as a marker, or not at all.
fn remember(entry: Entry, horizons: &Horizons, now: u64) -> Option<Entry> {
    let window = entry.row.as_ref().map_or(NO_WINDOW, |row| row.window);
    if gone(entry.row.is_some(), entry.since, window, horizons, now) {
        return None;
    }
    match forgotten_at(entry.since, window, horizons) {
        Some(at) if entry.row.is_some() && at <= now => Some(Entry { version: entry.version, since: at, row: None }),
        _ => Some(entry),
    }
}

/// The first fields of a packed entry: flags, since, window.
struct Header {
    live: bool,
    counts: bool,
    versioned: bool,
    since: u64,
    window: i64,
    end: usize,
}

const LIVE: u8 = 1;
const COUNTS: u8 = 2;
const VERSIONED: u8 = 4;
const WINDOWED: u8 = 8;

fn header(payload: &[u8]) -> Header {
    let flags = payload[0];
    let mut end = 1;
    let since = read_varint(payload, &mut end);
    let windowed = flags & WINDOWED != 0;
    // Windows start on whole minutes.
    let window = if windowed { read_varint(payload, &mut end) as i64 * 60_000 } else { NO_WINDOW };
    Header { live: flags & LIVE != 0, counts: flags & COUNTS != 0, versioned: flags & VERSIONED != 0, since, window, end }
}

fn encode(entry: &Entry, incarnations: &mut Vec<(u64, u32)>, out: &mut Vec<u8>) {
    let row = entry.row.as_ref();
    let windowed = row.is_some_and(|row| row.window != NO_WINDOW);
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(
        flag(row.is_some(), LIVE)
            | flag(row.is_some_and(|row| row.counts), COUNTS)
            | flag(entry.version.is_some(), VERSIONED)
            | flag(windowed, WINDOWED),
    );
    push_varint(out, entry.since);
    if let (true, Some(row)) = (windowed, row) {
        debug_assert!(row.window % 60_000 == 0);
        push_varint(out, (row.window / 60_000) as u64);
    }
    if let Some(Version { incarnation, server, position }) = entry.version {
        let named = (incarnation, server);
        let at = incarnations.iter().position(|&known| known == named).unwrap_or_else(|| {
            incarnations.push(named);
            incarnations.len() - 1
        });
        push_varint(out, at as u64);
        push_varint(out, u64::from(position.0));
        push_varint(out, position.1);
        push_varint(out, u64::from(position.2));
    }
    if let Some(row) = row {
        let zigzag = (row.amount << 1) ^ (row.amount >> 127);
        push_varint(out, zigzag as u128 as u64 & (u64::MAX >> 1) | if zigzag as u128 >> 63 != 0 { 1 << 63 } else { 0 });
        if zigzag as u128 >> 63 != 0 {
            // Rare: more than 63 bits. The high bits follow.
            push_varint(out, (zigzag as u128 >> 63) as u64);
            push_varint(out, (zigzag as u128 >> 127) as u64);
        }
        out.extend_from_slice(&row.cell.hash.to_le_bytes());
        for text in [&row.cell.text, &row.member] {
            push_varint(out, text.as_bytes().len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
    }
}

fn decode(payload: &[u8], incarnations: &[(u64, u32)]) -> Entry {
    let Header { live, counts, versioned, since, window, end: mut at } = header(payload);
    let version = versioned.then(|| {
        let (incarnation, server) = incarnations[read_varint(payload, &mut at) as usize];
        let major = read_varint(payload, &mut at) as u32;
        let minor = read_varint(payload, &mut at);
        Version { incarnation, server, position: Position(major, minor, read_varint(payload, &mut at) as u32) }
    });
    let row = live.then(|| {
        let low = read_varint(payload, &mut at);
        let mut zigzag = u128::from(low & (u64::MAX >> 1));
        if low >> 63 != 0 {
            zigzag |= u128::from(read_varint(payload, &mut at)) << 63;
            zigzag |= u128::from(read_varint(payload, &mut at)) << 127;
        }
        let amount = (zigzag >> 1) as i128 ^ -((zigzag & 1) as i128);
        let mut hash = [0; 8];
        hash.copy_from_slice(&payload[at..at + 8]);
        at += 8;
        let mut text = || {
            let len = read_varint(payload, &mut at) as usize;
            at += len;
            Text::new(&payload[at - len..at])
        };
        let cell = Key { hash: u64::from_le_bytes(hash), text: text() };
        Row { cell, member: text(), window, amount, counts }
    });
    Entry { version, since, row }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = Text> {
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| Text::new(&bytes))
    }

    fn row() -> impl Strategy<Value = Row> {
        let window = prop_oneof![Just(NO_WINDOW), (0i64..4_000_000).prop_map(|w| w * 60_000)];
        let amount = prop_oneof![any::<i128>(), any::<i64>().prop_map(i128::from), -500i128..500];
        (any::<u64>(), text(), text(), window, amount, any::<bool>()).prop_map(|(hash, text, member, window, amount, counts)| {
            Row { cell: Key { hash, text }, member, window, amount, counts }
        })
    }

    fn version() -> impl Strategy<Value = Version> {
        (0u64..3, 0u32..3, any::<u32>(), any::<u64>(), any::<u32>()).prop_map(|(incarnation, server, a, b, c)| Version {
            incarnation,
            server,
            position: Position(a, b, c),
        })
    }

    proptest! {
        #[test]
        fn entries_come_back(
            version in proptest::option::of(version()),
            row in proptest::option::of(row()),
            since in 0u64..8_000_000_000_000,
        ) {
            let entry = Entry { version, since, row };
            let (mut names, mut bytes) = (vec![(9, 9)], Vec::new());
            encode(&entry, &mut names, &mut bytes);
            prop_assert_eq!(decode(&bytes, &names), entry);
        }
    }

    #[test]
    fn a_payment_row_packs_into_64_bytes() {
        let mut bytes = Vec::new();
        let entry = Entry {
            version: Some(Version { incarnation: 1, server: 2, position: Position(171, 369_123_330, 3) }),
            since: 1_795_000_000_000,
            row: Some(Row {
                cell: Key { hash: 1, text: Text::new(b"\x09store-123KRW") },
                member: Text::EMPTY,
                window: 1_795_000_200_000 / 1_800_000 * 1_800_000,
                amount: 1_234_500,
                counts: true,
            }),
        };
        encode(&entry, &mut Vec::new(), &mut bytes);
        // Plus hash 4, two lengths, and a key of two bytes of key space and an eight digit integer.
        assert!(bytes.len() + 4 + 2 + 10 <= 72, "{}", bytes.len());
    }
}
