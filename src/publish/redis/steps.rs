//! What one bucket is to become, as steps of the script `apply.lua`.
//!
//! The ordinary step sets some fields of a hash in a window that is still open: one `HSET`. Windows that are closed, and
//! cells that go, are rarer and take the step "mend", which keeps `revision` the highest of what is left and takes a hash
//! away with its last cell.
//!
//! Upholds: applying steps twice is applying them once, so what may have been applied is sent again.
//! Keeps: packed bytes only; see [`Packed`].

use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::key::{Key, Text, WordMap};
use storeflow_dataflows::table::{CellChange, NO_WINDOW, Table, Value, Window};

use super::keys::{CHANGED, NEWEST, REVISION, STORES, fields, push_money, push_number, push_store, push_window};
use super::link::Packed;

/// Time to live beyond the retention, milliseconds. A job that runs deletes what expires; what one that is gone has left must not lose
/// window after window while people still read it, since a window that is missing reads as one in which nothing happened.
pub(super) const AFTERLIFE: u64 = 7 * 24 * 3_600_000;

/// Arguments given to one command within the script at most: Lua's stack ends at about 8,000.
const ARGS_MAX: usize = 2_000;

/// What the values of a job look like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) horizons: Horizons,
    pub(super) scale: u32,
    pub(super) clicks_distinct: bool,
}

impl Style {
    /// Time to live of what belongs to a window: what is left of its retention and [`AFTERLIFE`], milliseconds.
    pub(super) fn ttl(&self, window: Window, as_of: u64) -> u64 {
        self.horizons.expiry(window).map_or(0, |expiry| expiry.saturating_sub(as_of)) + AFTERLIFE
    }
}

/// The steps of one bucket.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) keys: Packed,
    pub(super) args: Packed,
    pairs: Packed,
    gone: Packed,
    scratch: Vec<u8>,
}

/// The newest window of each store, as far as it is known, so that it need not be asked for at every change.
pub(super) type Newest = WordMap<Text, Window>;

impl Steps {
    /// Forgets all steps; their memory is used again.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.args.clear();
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.len() == 0
    }

    /// Bytes of them.
    pub(super) fn bytes(&self) -> usize {
        self.keys.bytes() + self.args.bytes()
    }

    /// The changes of one store and window at `as_of`, of any tables; the last of each cell.
    pub(super) fn change(&mut self, prefix: &str, changes: &[&CellChange], as_of: u64, style: &Style, newest: &mut Newest) {
        let Some(first) = changes.first() else { return };
        let (window, store) = (first.window, first.key.cell_parts().0);
        if window == NO_WINDOW {
            return self.change_products(prefix, store, changes, as_of, style);
        }
        let set = changes.iter().any(|change| change.value.is_some());
        let gone = changes.iter().any(|change| change.value.is_none());
        let revision = changes.iter().filter_map(|change| change.value).map(|(_, revision)| revision).max().unwrap_or(0);
        if gone || revision > 0 || style.horizons.closed(window, as_of) {
            if gone {
                newest.remove(&Text::new(store));
            }
            self.mend(prefix, window, store, changes, revision, as_of, style);
        } else {
            for change in changes {
                self.cell(&change.key, change.table, change.value, style);
                if self.pairs.len() >= ARGS_MAX {
                    self.set(prefix, window, store, Some(style.ttl(window, as_of)), false);
                }
            }
            self.meta(Some(0), as_of);
            self.set(prefix, window, store, Some(style.ttl(window, as_of)), false);
        }
        if set && newest.get(&Text::new(store)).is_none_or(|known| *known < window) {
            self.newest(prefix, store, window, as_of);
            if !gone {
                newest.insert(Text::new(store), window);
            }
        }
    }

    /// The hash of one store and window, all of it, in place of whatever is there; with the store's own for [`NO_WINDOW`],
    /// where `newest` is its newest window.
    pub(super) fn replace(&mut self, prefix: &str, cells: &[&CellChange], as_of: u64, style: &Style, newest: Option<Window>) {
        let Some(first) = cells.first() else { return };
        let (window, store) = (first.window, first.key.cell_parts().0);
        let ttl = (window != NO_WINDOW).then(|| style.ttl(window, as_of));
        let mut fresh = true;
        for cell in cells {
            self.cell(&cell.key, cell.table, cell.value, style);
            if self.pairs.len() >= ARGS_MAX {
                self.set(prefix, window, store, ttl, fresh);
                fresh = false;
            }
        }
        let revision = cells.iter().filter_map(|cell| cell.value).map(|(_, revision)| revision).max().unwrap_or(0);
        if let (NO_WINDOW, Some(newest)) = (window, newest) {
            self.pair(NEWEST.as_bytes(), b"", |out| push_number(out, newest));
        }
        self.meta((window != NO_WINDOW).then_some(revision), as_of);
        self.set(prefix, window, store, ttl, fresh);
    }

    /// A store's hash that has nothing but its newest window.
    pub(super) fn replace_newest(&mut self, prefix: &str, store: &[u8], newest: Window, as_of: u64) {
        self.pair(NEWEST.as_bytes(), b"", |out| push_number(out, newest));
        self.meta(None, as_of);
        self.set(prefix, NO_WINDOW, store, None, true);
    }

    /// The hash of a store in a window that expired.
    pub(super) fn expire(&mut self, prefix: &str, window: Window, store: &[u8], newest: &mut Newest) {
        self.key(prefix, window, store);
        self.args.push(b"remove");
        if newest.remove(&Text::new(store)).is_none_or(|known| known <= window) {
            self.key(prefix, NO_WINDOW, store);
            self.args.push(b"expire");
            self.args.number(window);
        }
    }

    /// A key that should not be there.
    pub(super) fn remove(&mut self, key: &[u8]) {
        self.keys.push(key);
        self.args.push(b"remove");
    }

    /// The totals of a window, in place of whatever is there: of so many stores, by table and second part.
    pub(super) fn totals(&mut self, key: &[u8], ttl: u64, stores: u64, sums: &[(Table, Text, Value)], style: &Style) {
        let mut fresh = true;
        for (table, second, value) in sums {
            self.values(*table, second.as_bytes(), *value, false, style);
            if self.pairs.len() >= ARGS_MAX {
                self.keys.push(key);
                self.put(Some(ttl), fresh);
                fresh = false;
            }
        }
        self.pair(STORES.as_bytes(), b"", |out| push_number(out, stores as i64));
        self.keys.push(key);
        self.put(Some(ttl), fresh);
    }

    /// A hash that says one number.
    pub(super) fn number(&mut self, key: &[u8], field: &str, number: usize) {
        self.pair(field.as_bytes(), b"", |out| push_number(out, number as i64));
        self.keys.push(key);
        self.put(None, true);
    }

    /// The ids of a bucket's stores, in place of whatever is there.
    pub(super) fn ids<'s>(&mut self, key: &[u8], stores: impl Iterator<Item = &'s Text>) {
        self.remove(key);
        let mut stores = stores.peekable();
        while stores.peek().is_some() {
            self.pairs.clear();
            stores.by_ref().take(ARGS_MAX / 2).for_each(|store| {
                self.pairs.push(b"0");
                self.pairs.push(store.as_bytes());
            });
            self.keys.push(key);
            self.args.push(b"ids");
            self.args.number(self.pairs.len() as i64);
            self.args.append(&self.pairs);
        }
        self.pairs.clear();
    }

    /// Members of a top list: scores and stores to add, stores to remove.
    pub(super) fn rank(&mut self, key: &[u8], ttl: u64, adds: &Packed, removes: &Packed) {
        self.keys.push(key);
        self.args.push(b"rank");
        for number in [ttl as usize, adds.len(), removes.len()] {
            self.args.number(number as i64);
        }
        self.args.append(adds);
        self.args.append(removes);
    }

    fn change_products(&mut self, prefix: &str, store: &[u8], changes: &[&CellChange], as_of: u64, style: &Style) {
        for change in changes {
            if change.value.is_some() {
                self.cell(&change.key, change.table, change.value, style);
                self.meta(None, as_of);
                self.set(prefix, NO_WINDOW, store, None, false);
            } else {
                self.key(prefix, NO_WINDOW, store);
                self.args.push(b"unsell");
                self.args.number(as_of as i64);
            }
        }
    }

    fn newest(&mut self, prefix: &str, store: &[u8], window: Window, as_of: u64) {
        self.key(prefix, NO_WINDOW, store);
        self.args.push(b"newest");
        self.args.number(window);
        self.args.number(as_of as i64);
    }

    #[allow(clippy::too_many_arguments)]
    fn mend(
        &mut self,
        prefix: &str,
        window: Window,
        store: &[u8],
        changes: &[&CellChange],
        revision: u32,
        as_of: u64,
        style: &Style,
    ) {
        let length = style.horizons.window as i64;
        let oldest = (as_of.saturating_sub(style.horizons.retention) as i64 - length).max(0);
        for changes in changes.chunks(ARGS_MAX / 8) {
            for change in changes {
                self.cell(&change.key, change.table, change.value, style);
            }
            self.key(prefix, window, store);
            self.key(prefix, NO_WINDOW, store);
            self.args.push(b"mend");
            self.args.number(style.ttl(window, as_of) as i64);
            self.args.number(revision.into());
            self.args.number(as_of as i64);
            self.args.number(window);
            self.args.number(length);
            self.args.number(oldest);
            self.args.push(format!("{prefix}w:").as_bytes());
            self.args.push(store);
            self.args.number(self.pairs.len() as i64);
            self.args.number(self.gone.len() as i64);
            self.args.append(&self.pairs);
            self.args.append(&self.gone);
            self.pairs.clear();
            self.gone.clear();
        }
    }

    /// The fields of a cell: to be set, or to be deleted.
    fn cell(&mut self, key: &Key, table: Table, value: Option<(Value, u32)>, style: &Style) {
        let names = fields(table);
        let second = key.cell_parts().1;
        let Some((value, revision)) = value else {
            for name in [names.sum, names.count, names.distinct, Some(names.revision)].into_iter().flatten() {
                self.scratch.clear();
                self.scratch.extend_from_slice(name.as_bytes());
                self.scratch.extend_from_slice(second);
                self.gone.push(&self.scratch);
            }
            return;
        };
        self.values(table, second, value, table != Table::StoreClicks || style.clicks_distinct, style);
        if revision > 0 && table != Table::StoreProducts {
            self.pair(names.revision.as_bytes(), second, |out| push_number(out, revision.into()));
        }
    }

    /// The fields of a value.
    fn values(&mut self, table: Table, second: &[u8], value: Value, distinct: bool, style: &Style) {
        let names = fields(table);
        if let Some(name) = names.sum {
            let scale = if table == Table::StorePayments { style.scale } else { 0 };
            self.pair(name.as_bytes(), second, |out| push_money(out, value.sum, scale));
        }
        if let Some(name) = names.count {
            self.pair(name.as_bytes(), second, |out| push_number(out, value.count));
        }
        if let Some(name) = names.distinct.filter(|_| distinct) {
            self.pair(name.as_bytes(), second, |out| push_number(out, value.distinct));
        }
    }

    /// The fields that every hash has.
    fn meta(&mut self, revision: Option<u32>, as_of: u64) {
        if let Some(revision) = revision {
            self.pair(REVISION.as_bytes(), b"", |out| push_number(out, revision.into()));
        }
        self.pair(CHANGED.as_bytes(), b"", |out| push_number(out, as_of as i64));
    }

    fn pair(&mut self, name: &[u8], second: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        self.scratch.clear();
        self.scratch.extend_from_slice(name);
        self.scratch.extend_from_slice(second);
        self.pairs.push(&self.scratch);
        self.scratch.clear();
        value(&mut self.scratch);
        self.pairs.push(&self.scratch);
    }

    fn set(&mut self, prefix: &str, window: Window, store: &[u8], ttl: Option<u64>, replace: bool) {
        self.key(prefix, window, store);
        self.put(ttl, replace);
    }

    /// The pairs, for the key that was added last.
    fn put(&mut self, ttl: Option<u64>, replace: bool) {
        if replace {
            self.args.push(b"replace");
        } else {
            self.args.number(self.pairs.len() as i64);
        }
        match ttl {
            Some(ttl) => self.args.number(ttl as i64),
            None => self.args.push(b""),
        }
        if replace {
            self.args.number(self.pairs.len() as i64);
        }
        self.args.append(&self.pairs);
        self.pairs.clear();
    }

    fn key(&mut self, prefix: &str, window: Window, store: &[u8]) {
        self.scratch.clear();
        if window == NO_WINDOW {
            push_store(&mut self.scratch, prefix, store);
        } else {
            push_window(&mut self.scratch, prefix, window, store);
        }
        self.keys.push(&self.scratch);
    }
}
