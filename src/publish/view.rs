//! The view in memory: the newest value of every cell that is not expired, served while the process runs and dumped at
//! its end.
//!
//! A process keeps the parts of its own workers, which are numbered over all processes of the job.
//!
//! Upholds: (1) a worker's part moves from one as-of to the next as a whole, under its lock; (2) the view's as-of is the
//! least of its parts, so everything shown is at least as new, and a reader of one store, whose shard is in one part, always
//! sees one cut; (3) an expired window leaves with all its cells at once.
//! Keeps: a map per table and window, so that expiry is one removal and not one per cell.
//! Absent on purpose: history, and totals kept up to date; sums and lists are computed when asked for.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use storeflow_dataflows::key::{Key, WordMap};
use storeflow_dataflows::table::{CellChange, Table, Value, Window, WindowExpiry};

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
}

/// The serving copy of the cells of this process's workers, one part each.
#[derive(Debug)]
pub struct MemoryView {
    /// Index of the first part's worker.
    first: usize,
    parts: Vec<Mutex<Part>>,
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
        MemoryView { first: workers.start, parts: workers.map(|_| Mutex::default()).collect() }
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
        let due_changes = changes.partition_point(|change| change.after < as_of);
        let due_expiries = expiries.partition_point(|expiry| expiry.after < as_of);
        let mut part = self.part(worker);
        assert!(part.as_of <= as_of, "the view of worker {worker} is at {}, so it cannot go to {as_of}", part.as_of);
        part.as_of = as_of;
        for change in changes.drain(..due_changes) {
            let windows = &mut part.tables[change.table as usize];
            match change.value {
                Some(value) => {
                    windows.entry(change.window).or_default().insert(change.key, value);
                }
                None => {
                    if let Some(cells) = windows.get_mut(&change.window) {
                        cells.remove(&change.key);
                    }
                }
            }
        }
        // No change of a window comes after its expiry, so these can come last.
        let expired = expiries.drain(..due_expiries).filter_map(|WindowExpiry { table, window, .. }| {
            part.tables[table as usize].remove(&window).map(|cells| ExpiredWindow { table, window, cells })
        });
        expired.collect()
    }

    /// Fills a worker's part with the cells it had at an as-of, in place of all it has.
    pub fn restore<'c>(&self, worker: usize, as_of: u64, cells: impl Iterator<Item = (Table, Window, &'c Key, Value, u32)>) {
        let mut part = self.part(worker);
        *part = Part { as_of, ..Part::default() };
        for (table, window, key, value, revision) in cells {
            part.tables[table as usize].entry(window).or_default().insert(key.clone(), (value, revision));
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

    fn part(&self, worker: usize) -> MutexGuard<'_, Part> {
        lock(&self.parts[worker - self.first])
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
fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
