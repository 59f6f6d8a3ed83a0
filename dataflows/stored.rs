//! The latest row of each key: changes are held against it, and become it.
//!
//! Upholds: (1) a change strictly older than what is stored, by version or by the stamp of a dead letter, changes nothing; nor does a
//! delete without version where a delete has left a version, so that a tombstone behind a delete keeps that; (2) whether a row was
//! forgotten is decided by the change's own stamp; (3) a patch leaves what it does not say as it was; (4) a change that is older than the
//! last truncate of its table changes nothing, whichever comes first: the log orders them by chance if they are in two partitions.
//! Keeps: per key a packed entry (see [`crate::entry`], [`crate::rows`]): version, row, stamp of the last change; deleted and forgotten rows
//! as markers for the replay horizon; of a truncated table one such marker per shard, under what its keys begin with. Sweeping a few slots per change bounds what is due but never touched again; what was swept is
//! no changed state, as its entry says itself from when on it is nothing.
//! Absent on purpose: what rows contribute to, and the order of changes, which is the caller's.

use std::rc::Rc;

use crate::change::{Against, Guard, Order, Position, Row, Version, What};
use crate::counts::Counts;
use crate::entry::{Entry, decode, encode, from_portable, gone, header, remember, to_portable};
use crate::epoch::Horizons;
use crate::key::{Hashing, SHARDS};
use crate::merge::merged;
use crate::rows::{Place, Rows};
use crate::state::{StateLog, StateRow};

/// How long rows of lookups are kept after their last change, milliseconds, by what their keys begin with; 0: until they are deleted.
pub type Keeps = Vec<(Box<[u8]>, u64)>;

/// A row before and after a change.
#[derive(Debug)]
pub(crate) struct Turned {
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
}

/// The latest rows of one worker.
pub(crate) struct Stored {
    pub(crate) horizons: Horizons,
    pub(crate) hashing: Hashing,
    pub(crate) counts: Rc<Counts>,
    /// `None`: rows are forgotten by their windows.
    keeps: Option<Keeps>,
    rows: Rows,
    incarnations: Vec<(u64, u32)>,
    /// What the keys of tables begin with that were truncated, by a truncate with a version.
    truncated: Vec<Box<[u8]>>,
    /// The truncate applied last: of its copies, one for each shard, the first deletes all rows.
    applied: Option<(Order, Box<[u8]>)>,
    payload: Vec<u8>,
    portable: Vec<u8>,
    scratch: Vec<u8>,
    /// What the keys touched in this tick have now; `None` if nobody wants to know.
    pub(crate) changed: Option<StateLog>,
}

/// Bits of a hash below its shard.
const LOW_BITS: u32 = u64::BITS - SHARDS.ilog2();
/// Rows of a truncated table that are looked up at once.
const TRUNCATED_AT_ONCE: usize = 65_536;

impl Stored {
    pub(crate) fn new(horizons: Horizons, hashing: Hashing, keeps: Option<Keeps>, restored: RestoredRows) -> Self {
        let RestoredRows { rows, incarnations, payload, truncated } = restored;
        let (counts, applied, portable, scratch, changed) = Default::default();
        Stored { horizons, hashing, counts, keeps, rows, incarnations, truncated, applied, payload, portable, scratch, changed }
    }

    /// Number of rows and markers.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes allocated for them.
    pub(crate) fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// The row of a key as a change at `now` finds it.
    pub(crate) fn row(&self, hash: u64, key: &[u8], now: u64) -> Option<Row> {
        let entry = decode(self.rows.get(hash, key)?, &self.incarnations);
        remember(entry, &self.horizons, now)?.row
    }

    /// Whether a key has a row, be it one that is due to be forgotten.
    pub(crate) fn has_row(&self, hash: u64, key: &[u8]) -> bool {
        self.rows.get(hash, key).is_some_and(|payload| header(payload).live)
    }

    /// Forgets the row of a key if nothing of it is left at `now`; whether it was so.
    pub(crate) fn forget(&mut self, hash: u64, key: &[u8], now: u64) -> bool {
        let gone = |payload: &[u8]| header(payload).live && gone(payload, &self.horizons, now);
        let gone = self.rows.get(hash, key).is_some_and(gone);
        if gone {
            self.rows.remove(hash, key);
        }
        gone
    }

    /// Applies one change, later than all of its key before; `None` if it changes nothing.
    #[inline]
    pub(crate) fn change(&mut self, (hash, key): (u64, &[u8]), order: Order, against: Against, what: What) -> Option<Turned> {
        let now = order.stamp;
        let old = self.rows.get(hash, key).map(|payload| decode(payload, &self.incarnations));
        let old = old.and_then(|entry| remember(entry, &self.horizons, now));
        let version = match against.guard() {
            Guard::Version(found) | Guard::Read(found) => {
                if self.fence(hash, key, now).is_some_and(|fence| found.stale_against(&fence)) {
                    Counts::bump(&self.counts.stale);
                    return None;
                }
                let stored = old.as_ref().and_then(|entry| entry.version);
                if let Some(stored) = stored {
                    if found.stale_against(&stored) {
                        Counts::bump(&self.counts.stale);
                        if against.fresh() {
                            self.counts.went_back(order, key, found, stored);
                        }
                        return None;
                    }
                    if against.fresh() && found.comparable(&stored) {
                        self.counts.went_on();
                    }
                }
                match against.guard() {
                    Guard::Read(_) => {
                        let least = Version { position: Position::default(), ..found };
                        Some(stored.filter(|stored| found.comparable(stored)).unwrap_or(least))
                    }
                    _ => Some(found),
                }
            }
            Guard::Since(since) => {
                // What another dead letter has left was said when that one was first read, not when it was read again.
                let said = |entry: &Entry| entry.version.and_then(|version| version.replayed_since()).unwrap_or(entry.since);
                if old.as_ref().is_some_and(|entry| said(entry) > since) {
                    Counts::bump(&self.counts.stale);
                    return None;
                }
                Some(Version::replayed(since))
            }
            Guard::None => {
                let nothing = old.as_ref().is_none_or(|entry| entry.row.is_none());
                // The row that is deleted may have been a dead letter: when that is read again, it must find that it was deleted
                // since. A version is what a marker is for, and stays.
                let unversioned = old.as_ref().and_then(|entry| entry.version).is_none_or(|of| of.replayed_since().is_some());
                if nothing && (what == What::Truncate || what == What::Delete && !unversioned) {
                    return None;
                }
                None
            }
        };
        let before = old.and_then(|entry| entry.row);
        let after = match what {
            What::Row(row) => Some(row),
            What::Patch(patch, said) => Some(merged(before.as_ref(), patch, said, self.hashing.cell, &mut self.scratch)),
            What::Delete | What::Truncate => None,
        };
        let kept = match (&self.keeps, &after) {
            (Some(keeps), Some(_)) => Some(keeps.iter().find(|(prefix, _)| key.starts_with(prefix)).map_or(0, |(_, keep)| *keep)),
            _ => None,
        };
        let entry = Entry { version, since: now, row: after, kept };
        self.put((hash, key), &entry);
        Some(Turned { before, after: entry.row })
    }

    #[inline]
    fn put(&mut self, (hash, key): (u64, &[u8]), entry: &Entry) {
        self.payload.clear();
        encode(entry, &mut self.incarnations, &mut self.payload);
        self.rows.put(hash, key, &self.payload);
        if let Some(changed) = &mut self.changed {
            to_portable(&self.payload, &self.incarnations, &mut self.portable);
            changed.push(StateRow { hash, key, value: &self.portable });
        }
    }

    /// The version of the last truncate of a key's table, while it is remembered.
    #[inline]
    fn fence(&self, hash: u64, key: &[u8], now: u64) -> Option<Version> {
        let prefix = self.truncated.iter().find(|prefix| key.starts_with(prefix))?;
        let marker = self.rows.get(hash >> LOW_BITS << LOW_BITS, &marker_key(hash, prefix))?;
        remember(decode(marker, &self.incarnations), &self.horizons, now)?.version
    }

    /// Deletes every row whose key begins with `prefix`, as by a delete with the truncate's guard in its place; tells what became of each.
    /// There is one for each shard, `hash` being the least of it; it marks the shard, and the first of them does the rest.
    pub(crate) fn truncate(
        &mut self,
        (hash, prefix): (u64, &[u8]),
        order: Order,
        guard: Against,
        mut turned: impl FnMut(u64, &[u8], Turned),
    ) {
        if let Guard::Version(version) = guard.guard() {
            if self.fence(hash, prefix, order.stamp).is_some_and(|fence| version.stale_against(&fence)) {
                // Of all copies on all workers one is counted.
                if hash >> LOW_BITS == 0 {
                    Counts::bump(&self.counts.stale);
                }
                return;
            }
            let marker = Entry { version: Some(version), since: order.stamp, row: None, kept: None };
            self.put((hash, &marker_key(hash, prefix)), &marker);
            if self.truncated.iter().all(|known| **known != *prefix) {
                self.truncated.push(prefix.into());
            }
        }
        if self.applied.as_ref().is_some_and(|(at, of)| (*at, &**of) == (order, prefix)) {
            return;
        }
        self.applied = Some((order, prefix.into()));
        let mut at = Place::default();
        loop {
            let live = |key: &[u8], payload: &[u8]| key.starts_with(prefix) && header(payload).live;
            let keys = self.rows.keys_from(&mut at, TRUNCATED_AT_ONCE, live);
            if keys.is_empty() {
                return;
            }
            for key in keys {
                let hash = (self.hashing.row)(&key);
                if self.row(hash, &key, order.stamp).is_some()
                    && let Some(row) = self.change((hash, &key), order, guard, What::Delete)
                {
                    turned(hash, &key, row);
                }
            }
        }
    }

    /// Forgets what is due among two slots per change: every slot is visited while half its number of changes arrives. Tells the keys of
    /// rows (not of markers) that are gone.
    pub(crate) fn sweep(&mut self, applied: usize, now: u64, mut forgotten: impl FnMut(&[u8])) {
        let horizons = &self.horizons;
        self.rows.sweep(applied * 2, |key, payload| {
            let gone = gone(payload, horizons, now);
            if gone && header(payload).live {
                forgotten(key);
            }
            !gone
        });
    }
}

/// The key of the marker of a truncated table in the shard of `hash`: what no key of a row is, as texts are UTF-8 and a length that begins
/// so is that of a longer text.
fn marker_key(hash: u64, prefix: &[u8]) -> Vec<u8> {
    let [high, low] = ((hash >> LOW_BITS) as u16).to_be_bytes();
    [prefix, &[0xff, high, low]].concat()
}

/// What the keys of a table begin with, if the row is the marker of a truncated table.
fn marked<'a>(row: StateRow<'a>) -> Option<&'a [u8]> {
    let (prefix, _) = row.key.split_at_checked(row.key.len().checked_sub(3)?)?;
    (row.hash << (u64::BITS - LOW_BITS) == 0 && marker_key(row.hash, prefix) == row.key).then_some(prefix)
}

/// Latest rows, between a checkpoint and the dataflow that begins with them.
#[derive(Default)]
pub(crate) struct RestoredRows {
    rows: Rows,
    incarnations: Vec<(u64, u32)>,
    payload: Vec<u8>,
    /// What the keys of truncated tables begin with.
    truncated: Vec<Box<[u8]>>,
}

impl RestoredRows {
    /// Takes a row that was handed out, by whichever worker; of several of a key the last one given counts.
    pub(crate) fn restore(&mut self, row: StateRow<'_>) {
        from_portable(row.value, &mut self.incarnations, &mut self.payload);
        self.rows.put(row.hash, row.key, &self.payload);
        if let Some(prefix) = marked(row)
            && self.truncated.iter().all(|known| **known != *prefix)
        {
            self.truncated.push(prefix.into());
        }
    }

    /// Number of rows and markers.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether at `now` anything is left of a row that was handed out.
    pub(crate) fn keeps(value: &[u8], horizons: &Horizons, now: u64) -> bool {
        !gone(value, horizons, now)
    }
}
