//! What a worker's buckets still lack: changes that wait for Redis, the last of each cell.
//!
//! Upholds: (1) the changes of an as-of are taken in as a whole, so what is flushed is a cut; (2) a cell that changed twice is
//! written once; (3) changes come out by bucket, then window, store and table, so that a hash is written in one step.
//! Keeps: changes in the order they came, thinned out whenever they have doubled, so that cells that change again
//! and again take no more room; and the cells of expired windows.

use storeflow_dataflows::key::{SHARDS, Text};
use storeflow_dataflows::table::{CellChange, Window};

use crate::publish::view::ExpiredWindow;

/// Thinned out at this many changes at the earliest.
const THIN_AT: usize = 16_384;

/// Of one worker.
#[derive(Debug, Default)]
pub(super) struct Pending {
    changes: Vec<CellChange>,
    expired: Vec<(u64, Window, Text)>,
    /// Changes left when they were last thinned out.
    thinned: usize,
    /// The as-of of all this, milliseconds.
    pub(super) as_of: u64,
}

impl Pending {
    /// Takes in what changed on the way to `as_of`.
    pub(super) fn add(&mut self, as_of: u64, changes: Vec<CellChange>, expired: Vec<ExpiredWindow>) {
        self.as_of = self.as_of.max(as_of);
        let first = self.changes.is_empty();
        // From here on `after` says which as-of brought the change, so that a rebuilt bucket knows what it has already.
        self.changes.extend(changes.into_iter().map(|change| CellChange { after: as_of.saturating_sub(1), ..change }));
        if first {
            self.thinned = self.changes.len();
        } else if self.changes.len() >= 2 * self.thinned.max(THIN_AT) {
            self.thin_out();
        }
        for window in expired {
            let mut stores: Vec<(u64, Window, Text)> =
                window.keys().map(|key| (key.shard(), window.window, Text::new(key.cell_parts().0))).collect();
            stores.sort_unstable();
            stores.dedup();
            self.expired.append(&mut stores);
        }
    }

    /// How many things wait.
    pub(super) fn len(&self) -> usize {
        self.changes.len() + self.expired.len()
    }

    /// Forgets everything but the as-of.
    pub(super) fn clear(&mut self) {
        self.changes.clear();
        self.expired.clear();
        self.thinned = 0;
        if self.changes.capacity() > 8 * THIN_AT {
            self.changes = Vec::new();
        }
    }

    /// All of it by bucket; see [`Of`]. A bucket is sorted when it is asked for, while Redis works on those before.
    pub(super) fn by_bucket(&mut self) -> ByBucket<'_> {
        self.expired.sort_unstable();
        self.expired.dedup();
        let mut starts = vec![0_u32; SHARDS as usize + 1];
        for change in &self.changes {
            starts[change.key.shard() as usize + 1] += 1;
        }
        for bucket in 0..SHARDS as usize {
            starts[bucket + 1] += starts[bucket];
        }
        let (mut next, mut order) = (starts.clone(), vec![0_u32; self.changes.len()]);
        for (at, change) in (0..).zip(&self.changes) {
            let place = &mut next[change.key.shard() as usize];
            order[*place as usize] = at;
            *place += 1;
        }
        ByBucket { changes: &self.changes, starts, order, expired: &self.expired, bucket: 0 }
    }

    fn thin_out(&mut self) {
        // Stable, so that of equal cells the last stays last.
        self.changes.sort_by(|a, b| place(a).cmp(&place(b)));
        self.changes.dedup_by(|next, kept| {
            let same = place(next) == place(kept);
            if same {
                std::mem::swap(next, kept);
            }
            same
        });
        self.thinned = self.changes.len();
    }
}

/// What orders changes, and what a cell is known by. A store's cells follow each other, as the text of a key begins with the
/// store's length and the store.
fn place(change: &CellChange) -> (u64, Window, &[u8], usize) {
    (change.key.shard(), change.window, change.key.text.as_bytes(), change.table as usize)
}

/// Changes and expired hashes, bucket by bucket.
pub(super) struct ByBucket<'a> {
    changes: &'a [CellChange],
    /// By bucket: where its part of `order` begins.
    starts: Vec<u32>,
    order: Vec<u32>,
    expired: &'a [(u64, Window, Text)],
    bucket: u64,
}

/// What waits for one bucket: changes, sorted, the last of each cell, and expired hashes.
pub(super) struct Of<'a> {
    pub(super) bucket: u64,
    pub(super) changes: Vec<&'a CellChange>,
    pub(super) expired: &'a [(u64, Window, Text)],
}

impl<'a> Iterator for ByBucket<'a> {
    type Item = Of<'a>;

    fn next(&mut self) -> Option<Of<'a>> {
        while self.bucket < SHARDS {
            let bucket = self.bucket;
            self.bucket += 1;
            let [start, end] = [0, 1].map(|more| self.starts[bucket as usize + more] as usize);
            let (expired, later) = self.expired.split_at(self.expired.partition_point(|(of, ..)| *of <= bucket));
            self.expired = later;
            if start == end && expired.is_empty() {
                continue;
            }
            let mut changes: Vec<&CellChange> = self.order[start..end].iter().map(|at| &self.changes[*at as usize]).collect();
            changes.sort_by(|a, b| place(a).cmp(&place(b)));
            changes.dedup_by(|next, kept| {
                let same = place(next) == place(kept);
                if same {
                    *kept = *next;
                }
                same
            });
            return Some(Of { bucket, changes, expired });
        }
        None
    }
}

/// Sorted changes cut into those of one hash each.
pub(super) fn by_hash<'s, 'a>(changes: &'s [&'a CellChange]) -> impl Iterator<Item = &'s [&'a CellChange]> {
    changes.chunk_by(|a, b| a.window == b.window && a.key.cell_parts().0 == b.key.cell_parts().0)
}

/// Sorts cells as [`by_hash`] wants them.
pub(super) fn sort(cells: &mut [&CellChange]) {
    cells.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
}

#[cfg(test)]
mod tests {
    use storeflow_dataflows::table::{Table, Value};

    use super::*;
    use crate::decode::cell_key;

    fn change(store: &str, table: Table, window: Window, count: i64) -> CellChange {
        let key = cell_key(store.as_bytes(), b"", &mut Vec::new());
        CellChange { after: 0, table, window, key, value: Some((Value { sum: 0, count, distinct: 0 }, 0)) }
    }

    #[test]
    fn the_last_of_each_cell_comes_out_by_bucket_and_hash() {
        let mut pending = Pending::default();
        let (sales, clicks) = (Table::StoreSales, Table::StoreClicks);
        pending.add(5, vec![change("a", sales, 0, 1), change("b", sales, 0, 2), change("a", clicks, 0, 3)], Vec::new());
        pending.add(6, vec![change("a", sales, 0, 4), change("a", sales, 60, 5)], Vec::new());
        assert_eq!(pending.as_of, 6);
        let mut hashes = Vec::new();
        for of in pending.by_bucket() {
            for hash in by_hash(&of.changes) {
                assert!(hash.iter().all(|change| change.key.shard() == of.bucket));
                let counts: Vec<_> = hash.iter().map(|change| (change.value.unwrap().0.count, change.after)).collect();
                hashes.push((hash[0].key.cell_parts().0[0], hash[0].window, counts));
            }
        }
        hashes.sort();
        assert_eq!(hashes, [(b'a', 0, vec![(4, 5), (3, 4)]), (b'a', 60, vec![(5, 5)]), (b'b', 0, vec![(2, 4)])]);
    }

    #[test]
    fn what_changes_again_and_again_takes_no_room() {
        let mut pending = Pending::default();
        for as_of in 1..=200 {
            pending.add(as_of, (0..1_000).map(|n| change(&n.to_string(), Table::StoreSales, 0, 1)).collect(), Vec::new());
        }
        assert!(pending.len() < 40_000, "{}", pending.len());
        assert_eq!(pending.by_bucket().map(|of| of.changes.len()).sum::<usize>(), 1_000);
    }
}
