//! Many small rows by key, packed: the state of "latest row per key".
//!
//! ```text
//! index (256 open-addressed tables) ──handle──► page (one slot size each) ──► [hash 4][key len][payload len][key][payload]
//! ```
//!
//! A row costs its bytes rounded up to eight, plus about twelve bytes of index. Pages of 64 KiB hold slots of one size and reuse
//! freed ones. [`Rows::sweep`] walks slots in memory order a few at a time, so that forgetting costs a constant per change and
//! needs no queue: every slot is visited once per as many changes as there are slots.
//!
//! Absent on purpose: knowledge of what a payload means.

const PAGE: usize = 64 * 1024;
const SLOT_BITS: u32 = 12;
const TABLES: usize = 256;
/// Slots larger than this have a page of their own.
const LARGEST_SHARED: usize = PAGE / 4;

/// Rows by key. Keys come with their 64-bit hash.
#[derive(Default)]
pub struct Rows {
    tables: Vec<Table>,
    pages: Vec<Page>,
    /// Pages with free slots, by slot size in units of eight bytes (0: pages of their own that were freed).
    free: Vec<Vec<u32>>,
    live: usize,
    sweep_page: usize,
    sweep_slot: usize,
}

/// A place in the memory order of rows: page and slot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place(usize, usize);

#[derive(Default)]
struct Table {
    /// `hash << 32 | handle + 1`; 0 is empty.
    slots: Vec<u64>,
    used: usize,
}

struct Page {
    bytes: Box<[u8]>,
    slot_size: usize,
    /// First free slots, as a stack.
    free: Vec<u16>,
    /// Slots never used yet start here.
    fresh: usize,
}

impl Page {
    fn capacity(&self) -> usize {
        self.bytes.len().checked_div(self.slot_size).unwrap_or(0).min(1 << SLOT_BITS)
    }
    fn slot(&self, slot: usize) -> &[u8] {
        &self.bytes[slot * self.slot_size..(slot + 1) * self.slot_size]
    }
}

/// Hash as kept in index and slot; never 0, which marks a free slot.
fn short_hash(hash: u64) -> u32 {
    (hash as u32).max(1)
}

/// Key and payload of an occupied slot.
fn parts(slot: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 4;
    let key = crate::key::read_varint(slot, &mut at) as usize;
    let payload = crate::key::read_varint(slot, &mut at) as usize;
    (&slot[at..at + key], &slot[at + key..at + key + payload])
}

fn varint_len(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Bytes allocated for rows and index.
    pub fn bytes(&self) -> usize {
        self.pages.iter().map(|p| p.bytes.len() + p.free.capacity() * 2).sum::<usize>()
            + self.tables.iter().map(|t| t.slots.capacity() * 8).sum::<usize>()
    }

    /// The payload of a key.
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<&[u8]> {
        let handle = self.find(hash, key)?.1;
        Some(parts(self.slot(handle)).1)
    }

    /// Sets the payload of a key.
    pub fn put(&mut self, hash: u64, key: &[u8], payload: &[u8]) {
        let needed = 4 + varint_len(key.len()) + varint_len(payload.len()) + key.len() + payload.len();
        if let Some((index, handle)) = self.find(hash, key) {
            let (page, slot) = split(handle);
            let size = self.pages[page].slot_size;
            // In place while it fits without wasting a half.
            if needed <= size && (needed * 2 > size || size <= 64) {
                write(&mut self.pages[page].bytes[slot * size..(slot + 1) * size], hash, key, payload);
            } else {
                self.release(handle);
                let handle = self.allocate(needed);
                self.fill(handle, hash, key, payload);
                let table = table_of(hash);
                self.tables[table].slots[index] = u64::from(short_hash(hash)) << 32 | u64::from(handle + 1);
            }
            return;
        }
        let handle = self.allocate(needed);
        self.fill(handle, hash, key, payload);
        if self.tables.is_empty() {
            self.tables.resize_with(TABLES, Table::default);
        }
        self.tables[table_of(hash)].insert(short_hash(hash), handle);
        self.live += 1;
    }

    /// Forgets a key.
    pub fn remove(&mut self, hash: u64, key: &[u8]) {
        if let Some((index, handle)) = self.find(hash, key) {
            self.tables[table_of(hash)].remove(index);
            self.release(handle);
            self.live -= 1;
        }
    }

    /// Visits up to `slots` slots in memory order, going round; rows whose key and payload `keep` refuses are forgotten.
    pub fn sweep(&mut self, slots: usize, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let mut left = slots;
        while left > 0 && !self.pages.is_empty() {
            if self.sweep_page >= self.pages.len() {
                self.sweep_page = 0;
            }
            let page = &self.pages[self.sweep_page];
            if self.sweep_slot >= page.fresh {
                self.sweep_page += 1;
                self.sweep_slot = 0;
                left -= 1;
                continue;
            }
            let slot = self.sweep_slot;
            self.sweep_slot += 1;
            left -= 1;
            let bytes = page.slot(slot);
            let short = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            if short == 0 {
                continue;
            }
            let (key, payload) = parts(bytes);
            if keep(key, payload) {
                continue;
            }
            let handle = (self.sweep_page as u32) << SLOT_BITS | slot as u32;
            // The table is chosen by hash bits that the slot does not keep, so look through them for the handle:
            // rare enough (once per forgotten row), and each look is one probe.
            let target = u64::from(short) << 32 | u64::from(handle + 1);
            for table in &mut self.tables {
                if let Some(index) = table.position_of(short, target) {
                    table.remove(index);
                    break;
                }
            }
            self.release(handle);
            self.live -= 1;
        }
    }

    /// The keys of up to `limit` rows that `wanted` says yes to by key and payload, from a place in memory order on, which is moved; none
    /// at the end. Between two calls payloads may be set; rows that are new then may be passed over.
    pub fn keys_from(&self, at: &mut Place, limit: usize, mut wanted: impl FnMut(&[u8], &[u8]) -> bool) -> Vec<Box<[u8]>> {
        let mut keys = Vec::new();
        while let Some(page) = self.pages.get(at.0) {
            while at.1 < page.fresh {
                if keys.len() == limit {
                    return keys;
                }
                let slot = page.slot(at.1);
                at.1 += 1;
                if slot[..4] == [0; 4] {
                    continue;
                }
                let (key, payload) = parts(slot);
                if wanted(key, payload) {
                    keys.push(key.into());
                }
            }
            *at = Place(at.0 + 1, 0);
        }
        keys
    }

    /// All (key, payload) pairs, in memory order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pages
            .iter()
            .flat_map(|page| (0..page.fresh).map(|slot| page.slot(slot)).filter(|bytes| bytes[..4] != [0; 4]).map(parts))
    }

    fn slot(&self, handle: u32) -> &[u8] {
        let (page, slot) = split(handle);
        self.pages[page].slot(slot)
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<(usize, u32)> {
        let table = self.tables.get(table_of(hash))?;
        if table.slots.is_empty() {
            return None;
        }
        let short = short_hash(hash);
        let mut index = table.home(short);
        loop {
            let entry = table.slots[index];
            if entry == 0 {
                return None;
            }
            if (entry >> 32) as u32 == short {
                let handle = entry as u32 - 1;
                if parts(self.slot(handle)).0 == key {
                    return Some((index, handle));
                }
            }
            index += 1;
            if index == table.slots.len() {
                index = 0;
            }
        }
    }

    fn allocate(&mut self, needed: usize) -> u32 {
        if needed > LARGEST_SHARED {
            let page = Page { bytes: vec![0; needed].into(), slot_size: needed, free: Vec::new(), fresh: 1 };
            let at = match self.free.first_mut().and_then(Vec::pop) {
                Some(at) => {
                    self.pages[at as usize] = page;
                    at
                }
                None => self.add_page(page),
            };
            return at << SLOT_BITS;
        }
        let class = class_of(needed);
        if self.free.len() <= class {
            self.free.resize_with(class + 1, Vec::new);
        }
        let at = match self.free[class].last() {
            Some(&at) => at,
            None => {
                let slot_size = class * 8;
                let page = Page { bytes: vec![0; PAGE].into(), slot_size, free: Vec::new(), fresh: 0 };
                let at = self.add_page(page);
                self.free[class].push(at);
                at
            }
        };
        let page = &mut self.pages[at as usize];
        let slot = match page.free.pop() {
            Some(slot) => usize::from(slot),
            None => {
                page.fresh += 1;
                page.fresh - 1
            }
        };
        if page.free.is_empty() && page.fresh == page.capacity() {
            self.free[class].pop();
        }
        at << SLOT_BITS | slot as u32
    }

    fn add_page(&mut self, page: Page) -> u32 {
        assert!(self.pages.len() < 1 << (32 - SLOT_BITS) as usize, "a worker's rows exceed 64 GiB");
        self.pages.push(page);
        self.pages.len() as u32 - 1
    }

    fn release(&mut self, handle: u32) {
        let (at, slot) = split(handle);
        let page = &mut self.pages[at];
        if page.slot_size > LARGEST_SHARED {
            *page = Page { bytes: Box::default(), slot_size: 0, free: Vec::new(), fresh: 0 };
            if self.free.is_empty() {
                self.free.push(Vec::new());
            }
            self.free[0].push(at as u32);
            return;
        }
        let size = page.slot_size;
        page.bytes[slot * size..slot * size + 4].fill(0);
        let was_full = page.free.is_empty() && page.fresh == page.capacity();
        page.free.push(slot as u16);
        if was_full {
            self.free[size / 8].push(at as u32);
        }
    }

    fn fill(&mut self, handle: u32, hash: u64, key: &[u8], payload: &[u8]) {
        let (page, slot) = split(handle);
        let page = &mut self.pages[page];
        write(&mut page.bytes[slot * page.slot_size..(slot + 1) * page.slot_size], hash, key, payload);
    }
}

impl Table {
    fn home(&self, short: u32) -> usize {
        ((u64::from(short) * self.slots.len() as u64) >> 32) as usize
    }

    fn insert(&mut self, short: u32, handle: u32) {
        // Four fifths full at most; grows by half, so that on average two thirds are used.
        if (self.used + 1) * 5 > self.slots.len() * 4 {
            let grown = (self.slots.len() * 3 / 2).max(8);
            let old = std::mem::replace(&mut self.slots, vec![0; grown]);
            for entry in old.into_iter().filter(|&entry| entry != 0) {
                self.place(entry);
            }
        }
        self.place(u64::from(short) << 32 | u64::from(handle + 1));
        self.used += 1;
    }

    fn place(&mut self, entry: u64) {
        let mut index = self.home((entry >> 32) as u32);
        while self.slots[index] != 0 {
            index += 1;
            if index == self.slots.len() {
                index = 0;
            }
        }
        self.slots[index] = entry;
    }

    fn position_of(&self, short: u32, target: u64) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut index = self.home(short);
        loop {
            match self.slots[index] {
                0 => return None,
                entry if entry == target => return Some(index),
                _ => index = (index + 1) % self.slots.len(),
            }
        }
    }

    /// Removes by moving later entries of the run back (Knuth, TAOCP 3, algorithm 6.4 R).
    fn remove(&mut self, index: usize) {
        let len = self.slots.len();
        let mut hole = index;
        let mut next = (hole + 1) % len;
        loop {
            let entry = self.slots[next];
            if entry == 0 {
                break;
            }
            let home = self.home((entry >> 32) as u32);
            // The entry may move to the hole unless its home lies cyclically in (hole, next].
            let stays = if hole <= next { hole < home && home <= next } else { hole < home || home <= next };
            if !stays {
                self.slots[hole] = entry;
                hole = next;
            }
            next = (next + 1) % len;
        }
        self.slots[hole] = 0;
        self.used -= 1;
    }
}

fn table_of(hash: u64) -> usize {
    (hash >> 32) as usize % TABLES
}

fn split(handle: u32) -> (usize, usize) {
    ((handle >> SLOT_BITS) as usize, (handle & ((1 << SLOT_BITS) - 1)) as usize)
}

/// Slot size in units of eight bytes: exact up to 512 bytes, then in steps of an eighth.
fn class_of(needed: usize) -> usize {
    let units = needed.div_ceil(8).max(2);
    if units <= 64 {
        units
    } else {
        let step = (units.next_power_of_two() / 16).max(1);
        units.div_ceil(step) * step
    }
}

fn write(slot: &mut [u8], hash: u64, key: &[u8], payload: &[u8]) {
    slot[..4].copy_from_slice(&short_hash(hash).to_le_bytes());
    let mut at = 4;
    for len in [key.len(), payload.len()] {
        let mut value = len;
        while value >= 0x80 {
            slot[at] = value as u8 | 0x80;
            at += 1;
            value >>= 7;
        }
        slot[at] = value as u8;
        at += 1;
    }
    slot[at..at + key.len()].copy_from_slice(key);
    slot[at + key.len()..at + key.len() + payload.len()].copy_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn hash(key: &[u8]) -> u64 {
        // Few distinct hashes, so that runs and collisions happen.
        key.iter().fold(7u64, |h, &b| h.wrapping_mul(31).wrapping_add(u64::from(b))) % 40 * 0x1_0101_0101
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, usize),
        Remove(u8),
        Sweep(usize, u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let size = prop_oneof![8 => 0usize..90, 2 => 90usize..3_000, 1 => 16_000usize..70_000];
        let step = prop_oneof![
            6 => (0u8..80, size).prop_map(|(k, n)| Step::Put(k, n)),
            2 => (0u8..80).prop_map(Step::Remove),
            1 => (1usize..200, any::<u8>()).prop_map(|(n, r)| Step::Sweep(n, r)),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        /// Whatever is put, removed and swept, the rows are those of a sorted map.
        #[test]
        fn agree_with_a_sorted_map(steps in steps()) {
            let (mut rows, mut twin) = (Rows::default(), BTreeMap::<Vec<u8>, Vec<u8>>::new());
            for step in steps {
                match step {
                    Step::Put(k, n) => {
                        let (key, payload) = (vec![b'k', k], vec![k; n]);
                        rows.put(hash(&key), &key, &payload);
                        twin.insert(key, payload);
                    }
                    Step::Remove(k) => {
                        let key = vec![b'k', k];
                        rows.remove(hash(&key), &key);
                        twin.remove(&key);
                    }
                    Step::Sweep(n, refused) => {
                        let mut gone = Vec::new();
                        rows.sweep(n, |_, payload| {
                            let keep = payload.first() != Some(&refused);
                            if !keep { gone.push(refused) }
                            keep
                        });
                        for k in gone { twin.remove(&vec![b'k', k]); }
                    }
                }
                prop_assert_eq!(rows.len(), twin.len());
            }
            let mut all: Vec<_> = rows.iter().map(|(k, p)| (k.to_vec(), p.to_vec())).collect();
            let (mut found, mut at) = (Vec::new(), Place::default());
            loop {
                let keys = rows.keys_from(&mut at, 3, |key, _| key[1] % 2 == 0);
                if keys.is_empty() {
                    break;
                }
                found.extend(keys);
            }
            let even: Vec<&[u8]> = all.iter().map(|(key, _)| &key[..]).filter(|key| key[1] % 2 == 0).collect();
            prop_assert_eq!(found.iter().map(|key| &key[..]).collect::<Vec<_>>(), even);
            all.sort();
            prop_assert_eq!(all, twin.clone().into_iter().collect::<Vec<_>>());
            for k in 0u8..80 {
                let key = vec![b'k', k];
                prop_assert_eq!(rows.get(hash(&key), &key), twin.get(&key).map(Vec::as_slice));
            }
        }
    }

    #[test]
    fn a_full_round_of_sweeping_forgets_all() {
        let mut rows = Rows::default();
        for i in 0..10_000u32 {
            let key = i.to_le_bytes();
            rows.put(u64::from(i).wrapping_mul(0x9E37_79B9_7F4A_7C15), &key, &[1; 50]);
        }
        rows.sweep(10_000 + 200, |_, _| false);
        assert!(rows.is_empty());
    }
}
