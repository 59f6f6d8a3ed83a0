//! The view in memory: the newest value of every cell that is not expired, served while the process runs and dumped at
//! its end.
//!
//! A process keeps the parts of its own workers, which are numbered over all processes of the job.
//!
//! Upholds: (1) a worker's part moves from one as-of to the next as a whole, under its lock; (2) the view's as-of is the
//! least of its parts, so everything shown is at least as new, and a reader of one store, whose shard is in one part, always
//! sees one cut; (3) an expired window leaves with all its cells at once.
//! Keeps: a map per table and window, so that expiry is one removal and not one per cell; of a served view an [`index`] by store, which runs
//! that nobody asks do not pay for.
//! Absent on purpose: history, and lists of the best kept up to date; they are looked up when asked for ([`read`]).

mod index;
pub mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use storeflow_dataflows::key::{Key, WordMap};
use storeflow_dataflows::table::{CellChange, Table, Value, Window, WindowExpiry};

use self::index::Index;
use super::columns::Cell;
use super::encode::Encoder;
use super::error::PublishError;
use super::layout::Generation;
use super::schema::{Output, TableSchema};
use super::table_file::{FileMeta, ROW_GROUP_ROWS, TableFile};

type Cells = WordMap<Key, (Value, u32)>;

/// One worker's cells.
#[derive(Debug, Default)]
struct Part {
    as_of: u64,
    /// By place in [`Table::ALL`].
    tables: [WordMap<Window, Cells>; 4],
    /// Of what is in the tables, if the view is served.
    index: Option<Index>,
}

/// Cells of an expired window that are taken out of the index under one lock: some tenths of a millisecond.
const LEAVE_AT_A_TIME: usize = 1_000;

/// The serving copy of the cells of this process's workers, one part each.
#[derive(Debug)]
pub struct MemoryView {
    /// Index of the first part's worker.
    first: usize,
    /// Readers share a part: whoever writes one to a file keeps none of them waiting.
    parts: Vec<RwLock<Part>>,
}

/// All cells a worker had in a window of a table, when it expired.
#[derive(Debug)]
pub struct ExpiredWindow {
    /// The table.
    pub table: Table,
    /// The window.
    pub window: Window,
    cells: Cells,
}

impl ExpiredWindow {
    /// The keys of the cells, in no order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.cells.keys()
    }
}

/// Some of a worker's cells, all as of one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The instant, milliseconds.
    pub as_of: u64,
    /// The cells, in no order.
    pub cells: Vec<(Table, ViewCell)>,
}

/// A cell of the view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ViewCell {
    /// Store and second part.
    pub key: Key,
    /// The window.
    pub window: Window,
    /// The value.
    pub value: Value,
    /// Its revision.
    pub revision: u32,
}

/// Sums over all cells of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableTotals {
    /// Cells.
    pub cells: u64,
    /// Sum of the sums; over all currencies for payments.
    pub sum: i128,
    /// Sum of the counts.
    pub count: i128,
    /// Windows that have cells.
    pub windows: u64,
}

impl MemoryView {
    /// An empty view of so many workers, all of one process.
    pub fn new(workers: usize) -> Self {
        MemoryView::of(0..workers)
    }

    /// An empty view of some of the job's workers: those of one process.
    pub fn of(workers: Range<usize>) -> Self {
        MemoryView { first: workers.start, parts: workers.map(|_| RwLock::default()).collect() }
    }

    /// The same, with an index by store: cells of one store are found without looking through all of them, and totals of windows are at hand.
    pub fn served(workers: Range<usize>) -> Self {
        let part = || RwLock::new(Part { index: Some(Index::default()), ..Part::default() });
        MemoryView { first: workers.start, parts: workers.map(|_| part()).collect() }
    }

    /// The workers whose parts it has.
    pub fn workers(&self) -> Range<usize> {
        self.first..self.first + self.parts.len()
    }

    /// Whether it has an index by store.
    pub fn is_served(&self) -> bool {
        self.parts.iter().all(|part| lock(part).index.is_some())
    }

    /// Moves a worker's part to `as_of`: takes what is due (`after < as_of`) from the front of both lists, which are in the
    /// order of `after`. What is not due stays in them. Gives back what expired: other copies of the view drop it too, and
    /// freeing a window of many cells takes a while, which readers need not wait for.
    pub fn apply(
        &self,
        worker: usize,
        as_of: u64,
        changes: &mut Vec<CellChange>,
        expiries: &mut Vec<WindowExpiry>,
    ) -> Vec<ExpiredWindow> {
        let expired = self.move_to(worker, as_of, changes, expiries);
        self.leave(worker, &expired);
        expired
    }

    fn move_to(
        &self,
        worker: usize,
        as_of: u64,
        changes: &mut Vec<CellChange>,
        expiries: &mut Vec<WindowExpiry>,
    ) -> Vec<ExpiredWindow> {
        let due_changes = changes.partition_point(|change| change.after < as_of);
        let due_expiries = expiries.partition_point(|expiry| expiry.after < as_of);
        let mut part = self.part_mut(worker);
        assert!(part.as_of <= as_of, "the view of worker {worker} is at {}, so it cannot go to {as_of}", part.as_of);
        part.as_of = as_of;
        for change in changes.drain(..due_changes) {
            part.change(change);
        }
        // No change of a window comes after its expiry, so these can come last.
        let expired = expiries.drain(..due_expiries).filter_map(|WindowExpiry { table, window, .. }| {
            part.tables[table as usize].remove(&window).map(|cells| ExpiredWindow { table, window, cells })
        });
        let expired: Vec<_> = expired.collect();
        part.expire(&expired);
        expired
    }

    /// Fills a worker's part with the cells it had at an as-of, in place of all it has.
    pub fn restore<'c>(&self, worker: usize, as_of: u64, cells: impl Iterator<Item = (Table, Window, &'c Key, Value, u32)>) {
        let mut part = self.part_mut(worker);
        *part = Part { as_of, index: part.index.as_ref().map(|_| Index::default()), ..Part::default() };
        for (table, window, key, value, revision) in cells {
            part.change(CellChange { after: 0, table, window, key: key.clone(), value: Some((value, revision)) });
        }
    }

    /// The cells of a worker in the shards that are wanted, as one cut.
    pub fn cut(&self, worker: usize, wanted: impl Fn(u64) -> bool) -> Cut {
        let part = self.part(worker);
        let mut cells = Vec::new();
        for table in Table::ALL {
            for (window, of_window) in &part.tables[table as usize] {
                let of_window = of_window.iter().filter(|(key, _)| wanted(key.shard()));
                cells.extend(
                    of_window.map(|(key, &(value, revision))| {
                        (table, ViewCell { key: key.clone(), window: *window, value, revision })
                    }),
                );
            }
        }
        Cut { as_of: part.as_of, cells }
    }

    /// The as-of of a worker's part, milliseconds, and how many cells it has.
    pub fn extent(&self, worker: usize) -> (u64, usize) {
        let part = self.part(worker);
        (part.as_of, part.tables.iter().flat_map(WordMap::values).map(WordMap::len).sum())
    }

    /// The windows in which a worker has cells, oldest first.
    pub fn windows(&self, worker: usize) -> Vec<Window> {
        let part = self.part(worker);
        let windows: BTreeSet<Window> = Table::ALL
            .into_iter()
            .filter(|table| table.windowed())
            .flat_map(|table| part.tables[table as usize].keys().copied())
            .collect();
        windows.into_iter().collect()
    }

    /// Looks at a worker's cells of one table and window, under the lock of its part: keep it short.
    pub fn look<T>(
        &self,
        worker: usize,
        table: Table,
        window: Window,
        see: impl FnOnce(&mut dyn Iterator<Item = (&Key, &Value)>) -> T,
    ) -> T {
        let part = self.part(worker);
        let cells = part.tables[table as usize].get(&window).into_iter().flatten();
        see(&mut cells.map(|(key, (value, _))| (key, value)))
    }

    /// Takes the cells of windows that nobody sees any more out of the index, letting readers in between.
    fn leave(&self, worker: usize, expired: &[ExpiredWindow]) {
        let leaves = |of: &&ExpiredWindow| self.part(worker).index.as_ref().is_some_and(|index| index.leaving(of.window));
        let leaving: Vec<_> = expired.iter().filter(leaves).collect();
        if leaving.is_empty() {
            return;
        }
        for ExpiredWindow { table, window, cells } in leaving {
            let mut keys = cells.keys();
            while keys.len() > 0 {
                let mut part = self.part_mut(worker);
                let Some(index) = &mut part.index else { return };
                keys.by_ref().take(LEAVE_AT_A_TIME).for_each(|key| index.unlink(*table, *window, key));
            }
        }
        self.part_mut(worker).index.iter_mut().for_each(Index::all_left);
    }

    fn part(&self, worker: usize) -> RwLockReadGuard<'_, Part> {
        lock(&self.parts[worker - self.first])
    }

    fn part_mut(&self, worker: usize) -> RwLockWriteGuard<'_, Part> {
        // See `lock`.
        self.parts[worker - self.first].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The as-of all workers have reached, milliseconds.
    pub fn as_of(&self) -> u64 {
        self.parts.iter().map(|part| lock(part).as_of).min().unwrap_or(0)
    }

    /// The cells of a table, in no order.
    pub fn snapshot(&self, table: Table) -> Vec<ViewCell> {
        let mut cells = Vec::new();
        self.for_each(table, |window, key, value, revision| {
            cells.push(ViewCell { key: key.clone(), window, value: *value, revision });
        });
        cells
    }

    /// Sums over all cells of a table.
    pub fn totals(&self, table: Table) -> TableTotals {
        let mut totals = TableTotals::default();
        let mut windows = std::collections::BTreeSet::new();
        self.for_each(table, |window, _, value, _| {
            totals.cells += 1;
            totals.sum += value.sum;
            totals.count += i128::from(value.count);
            windows.insert(window);
        });
        totals.windows = windows.len() as u64;
        totals
    }

    /// The stores with the highest payment sums in a currency over all windows in the view, highest first; equal sums by id.
    pub fn top_stores(&self, currency: &str, most: usize) -> Vec<(String, i128)> {
        let mut sums: std::collections::HashMap<Vec<u8>, i128> = std::collections::HashMap::new();
        self.for_each(Table::StorePayments, |_, key, value, _| {
            let (store, second) = key.cell_parts();
            if second == currency.as_bytes() {
                match sums.get_mut(store) {
                    Some(sum) => *sum += value.sum,
                    None => {
                        sums.insert(store.to_vec(), value.sum);
                    }
                }
            }
        });
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_unstable_by(|(store, sum), (other, other_sum)| other_sum.cmp(sum).then_with(|| store.cmp(other)));
        sums.truncate(most);
        sums.into_iter().map(|(store, sum)| (String::from_utf8_lossy(&store).into_owned(), sum)).collect()
    }

    /// Writes the files of a generation that are this process's, one thread per worker's part. Returns rows and bytes.
    pub fn dump(&self, generation: &Generation) -> Result<(u64, u64), PublishError> {
        std::thread::scope(|scope| {
            let parts: Vec<_> = (self.first..).zip(&self.parts).collect();
            let threads: Vec<_> =
                parts.into_iter().map(|(worker, part)| scope.spawn(move || dump_part(generation, worker, &lock(part)))).collect();
            threads.into_iter().try_fold((0, 0), |(rows, bytes), thread| {
                let (more_rows, more_bytes) = thread.join().unwrap_or(Err(PublishError::Stopped))?;
                Ok((rows + more_rows, bytes + more_bytes))
            })
        })
    }

    fn for_each(&self, table: Table, mut visit: impl FnMut(Window, &Key, &Value, u32)) {
        for part in &self.parts {
            for (window, cells) in &lock(part).tables[table as usize] {
                for (key, (value, revision)) in cells {
                    visit(*window, key, value, *revision);
                }
            }
        }
    }
}

impl Part {
    fn change(&mut self, CellChange { table, window, key, value, .. }: CellChange) {
        let windows = &mut self.tables[table as usize];
        match (value, &mut self.index) {
            (Some(value), None) => {
                windows.entry(window).or_default().insert(key, value);
            }
            (Some(value), Some(index)) => match windows.entry(window).or_default().entry(key) {
                Entry::Occupied(mut cell) => {
                    let (before, _) = cell.insert(value);
                    index.changed(table, window, cell.key(), Some(before), Some(value.0));
                }
                Entry::Vacant(none) => {
                    index.changed(table, window, none.key(), None, Some(value.0));
                    none.insert(value);
                }
            },
            (None, index) => {
                let Some((before, _)) = windows.get_mut(&window).and_then(|cells| cells.remove(&key)) else { return };
                if let Some(index) = index {
                    index.changed(table, window, &key, Some(before), None);
                }
            }
        }
    }

    /// Tells the index what has expired.
    fn expire(&mut self, expired: &[ExpiredWindow]) {
        let Some(index) = &mut self.index else { return };
        expired.iter().for_each(|of| index.expired(of.table, of.window));
        for of in expired {
            // Cells of a window that other tables still have count among its stores, so they go at once.
            if !index.leaves(of.window) {
                of.cells.keys().for_each(|key| index.unlink(of.table, of.window, key));
            }
        }
    }
}

fn dump_part(generation: &Generation, worker: usize, part: &Part) -> Result<(u64, u64), PublishError> {
    let (mut rows, mut bytes, mut spools) = (0, 0, Vec::new());
    let mut encoder = Encoder::new().map_err(PublishError::io("compress for", &generation.place()))?;
    for table in Table::ALL {
        let output = Output::Cells(table);
        let schema = TableSchema::of(output, generation.about())?;
        let meta = FileMeta::new(generation.about(), part.as_of);
        let mut file = TableFile::create(generation.store(), &generation.keys().view(output, worker), &schema, &meta)?;
        let mut cells = part.tables[table as usize].iter().flat_map(|(window, cells)| {
            cells.iter().map(|(key, (value, revision))| Cell {
                key,
                window: *window,
                value: *value,
                revision: *revision,
                epoch: part.as_of,
            })
        });
        loop {
            let before = file.rows();
            file.append_cells(&mut encoder, cells.by_ref().take(ROW_GROUP_ROWS))?;
            if file.rows() == before {
                break;
            }
        }
        rows += file.rows();
        bytes += file.close()?;
        spools.push(file.into_spool());
    }
    generation.store().show(spools)?;
    Ok((rows, bytes))
}

/// A part; a panic elsewhere while it was locked ends the process, so what is in it no longer matters.
fn lock(part: &RwLock<Part>) -> RwLockReadGuard<'_, Part> {
    part.read().unwrap_or_else(PoisonError::into_inner)
}
