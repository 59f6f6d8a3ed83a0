//! What is asked of the view while a run goes on.
//!
//! Upholds: (1) a part is locked for as long as it takes to copy the cells of one store, the ids of one page, or the totals of one window; texts
//! are made of them afterwards; (2) lists of the best look through all cells of one table and window, a part at a time: some tens of
//! nanoseconds per cell, in which that worker can show nothing new; (3) the as-of of an answer that takes several looks is read before
//! the first.
//! Absent on purpose: answers kept for the next who asks; that is for whoever knows when the as-of moves.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Range;

use storeflow_dataflows::key::{Key, Text, WordMap};
use storeflow_dataflows::table::{NO_WINDOW, Table, Value, Window};

use super::index::Index;
use super::{MemoryView, Part};
use crate::decode::cell_key;

/// The value of a store's cell, and its revision.
pub type Read = (Table, Text, Value, u32);

/// Some of a store's cells, all as of one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreCells {
    /// The instant, milliseconds.
    pub as_of: u64,
    /// It has cells, in whichever window or without.
    pub known: bool,
    /// Products on sale.
    pub products: i64,
    /// The first windows of those asked for in which it has cells, oldest first; cells by table and second part.
    pub windows: Vec<(Window, Vec<Read>)>,
    /// There are more such windows.
    pub more: bool,
}

/// Sums over all stores with cells in a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// The window.
    pub window: Window,
    /// How many stores.
    pub stores: u64,
    /// Sums by table and second part, in that order; `distinct` is 0: distinct products do not add up.
    pub sums: Vec<(Table, Text, Value)>,
}

impl MemoryView {
    /// The cells of a store in the first `most` windows of `windows` in which it has any, as one cut.
    ///
    /// # Panics
    /// If the view is not served, or not of all workers of the job.
    pub fn store(&self, store: &[u8], windows: Range<Window>, most: usize) -> StoreCells {
        let shard = cell_key(store, b"", &mut Vec::new()).shard();
        assert_eq!(self.first, 0, "which of a process's workers has a store is known if it has all workers");
        let part = self.part((shard % self.parts.len() as u64) as usize);
        part.store(store, &windows, most)
    }

    /// The ids of up to `most` stores that begin with `prefix` and come after `after`, ascending; the least as-of of the parts they are from,
    /// milliseconds; and whether there are more.
    pub fn stores(&self, prefix: &[u8], after: Option<&[u8]>, most: usize) -> (u64, Vec<Text>, bool) {
        let (as_of, mut stores) = (self.as_of(), Vec::new());
        for worker in self.workers() {
            stores.append(&mut self.stores_of(worker, prefix, after, most.saturating_add(1)));
        }
        stores.sort_unstable();
        let more = stores.len() > most;
        stores.truncate(most);
        (as_of, stores, more)
    }

    /// The ids of up to `most` of a worker's stores that begin with `prefix` and come after `after`, ascending. A view that is not served looks
    /// through all cells for them.
    pub fn stores_of(&self, worker: usize, prefix: &[u8], after: Option<&[u8]>, most: usize) -> Vec<Text> {
        let part = self.part(worker);
        if let Some(index) = &part.index {
            return index.stores(prefix, after).take(most).cloned().collect();
        }
        let mut least = BTreeSet::new();
        for key in part.tables.iter().flat_map(|windows| windows.values()).flat_map(|cells| cells.keys()) {
            let (store, _) = key.cell_parts();
            let wanted = store.starts_with(prefix) && after.is_none_or(|after| store > after);
            if !wanted || (least.len() == most && least.last().is_none_or(|last: &Text| last.as_bytes() <= store)) {
                continue;
            }
            least.insert(Text::new(store));
            if least.len() > most {
                least.pop_last();
            }
        }
        least.into_iter().collect()
    }

    /// How many of a worker's stores have cells in a window, and the sums over them by table and second part, in that order (`distinct` is 0).
    /// A view that is not served looks through all cells of the window.
    pub fn totals_of(&self, worker: usize, window: Window) -> (u64, Vec<(Table, Text, Value)>) {
        let part = self.part(worker);
        if let Some(index) = &part.index {
            return index.totals(window);
        }
        let (mut stores, mut sums) = (WordMap::default(), BTreeMap::new());
        for table in Table::ALL.into_iter().filter(|table| table.windowed()) {
            for (key, (value, _)) in part.tables[table as usize].get(&window).into_iter().flatten() {
                let (store, second) = key.cell_parts();
                stores.insert(Text::new(store), ());
                let sum: &mut Value = sums.entry((table, second)).or_default();
                sum.sum += value.sum;
                sum.count += value.count;
            }
        }
        let sums = sums.into_iter().map(|((table, second), sum)| (table, Text::new(second), sum));
        (stores.len() as u64, sums.collect())
    }

    /// Sums over all stores in the first `most` windows of `windows` that have cells, oldest first; the as-of they are of at least, milliseconds;
    /// and whether there are more such windows.
    pub fn sums(&self, windows: &Range<Window>, most: usize) -> (u64, Vec<Sums>, bool) {
        let as_of = self.as_of();
        let mut found = BTreeSet::new();
        for worker in self.workers() {
            found.extend(self.windows_within(worker, windows, most.saturating_add(1)));
        }
        let more = found.len() > most;
        let sums = found.into_iter().take(most).map(|window| {
            let (mut stores, mut sums) = (0, BTreeMap::new());
            for worker in self.workers() {
                let (more, of_worker) = self.totals_of(worker, window);
                stores += more;
                for (table, second, value) in of_worker {
                    let sum: &mut Value = sums.entry((table, second)).or_default();
                    sum.sum += value.sum;
                    sum.count += value.count;
                }
            }
            Sums { window, stores, sums: sums.into_iter().map(|((table, second), sum)| (table, second, sum)).collect() }
        });
        // A window may have gone since it was found.
        (as_of, sums.filter(|sums| sums.stores > 0).collect(), more)
    }

    /// The `most` stores with the highest values of a table's second part in a window (of clicks the count, else the sum), highest first, equal
    /// ones by id; and the as-of they are of at least, milliseconds.
    pub fn top(&self, table: Table, second: &[u8], window: Window, most: usize) -> (u64, Vec<(Text, i128)>) {
        let as_of = self.as_of();
        // The worst of those kept is the greatest.
        let mut best: BinaryHeap<Reverse<(i128, Reverse<Text>)>> = BinaryHeap::new();
        for worker in self.workers() {
            self.look(worker, table, window, |cells| {
                for (key, value) in cells {
                    let (store, of) = key.cell_parts();
                    if of != second {
                        continue;
                    }
                    let value = if table == Table::StoreClicks { value.count.into() } else { value.sum };
                    if best.len() == most && best.peek().is_none_or(|Reverse((least, _))| value < *least) {
                        continue;
                    }
                    best.push(Reverse((value, Reverse(Text::new(store)))));
                    if best.len() > most {
                        best.pop();
                    }
                }
            });
        }
        let best = best.into_sorted_vec().into_iter();
        (as_of, best.map(|Reverse((value, Reverse(store)))| (store, value)).collect())
    }

    /// The first `most` windows of a worker with cells.
    fn windows_within(&self, worker: usize, within: &Range<Window>, most: usize) -> Vec<Window> {
        if let Some(index) = &self.part(worker).index {
            return index.windows(within).take(most).collect();
        }
        // Windows that were emptied and have not expired are among these, and have no sums.
        self.windows(worker).into_iter().filter(|window| within.contains(window)).collect()
    }
}

impl Part {
    fn store(&self, store: &[u8], windows: &Range<Window>, most: usize) -> StoreCells {
        let index: &Index = self.index.as_ref().expect("a view that is read by store is a served one");
        let mut read = StoreCells { as_of: self.as_of, ..StoreCells::default() };
        let Some(of_store) = index.store(store) else { return read };
        read.known = true;
        let mut found = index.windows_of(of_store, windows);
        read.windows = found.by_ref().take(most).map(|window| (window, Vec::new())).collect();
        read.more = found.next().is_some();
        let (mut bytes, through) = (Vec::new(), read.windows.last().map(|(window, _)| *window));
        for (table, second, places) in of_store.cells() {
            Key::cell_bytes(store, second.as_bytes(), &mut bytes);
            let key = Key { hash: places.hash, text: Text::new(&bytes) };
            let tables = &self.tables[table as usize];
            if table == Table::StoreProducts {
                let products = tables.get(&NO_WINDOW).and_then(|cells| cells.get(&key));
                read.products = products.map_or(0, |(value, _)| value.count);
                continue;
            }
            let (Some((first, _)), Some(through)) = (read.windows.first(), through) else { continue };
            let from = places.windows.partition_point(|window| window < first);
            let mut at = 0;
            for window in places.windows.range(from..).take_while(|window| **window <= through) {
                at += read.windows[at..].partition_point(|(before, _)| before < window);
                let (of, cells) = &mut read.windows[at];
                // What has just expired is in the index for a moment longer.
                if of == window
                    && let Some((value, revision)) = tables.get(window).and_then(|cells| cells.get(&key))
                {
                    cells.push((table, second.clone(), *value, *revision));
                }
            }
        }
        read
    }
}
