//! The view of a run in this process, read where the run keeps it.
//!
//! ```text
//! run ── fill(view, about) ─► ServedView ◄── routes      before: nothing has been shown yet
//!     ── end(finished) ─────►
//! ```
//!
//! Upholds: (1) nothing older is shown than what was committed before the run began; (2) a read of one store holds up its worker, and is held
//! up by it, for no longer than one side copies cells: so it is made where the request is, while looks through all cells of a window
//! are made on threads that may block.
//! Keeps: a sample of the process's metrics, for a second.
//! Absent on purpose: the view of a process that has only some of the job's workers: no reader would know which.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt, ready};
use storeflow_dataflows::table::Window;

use super::{Measure, Shown, StoreCell, StoreCut, StoreIds, TopStores, Totals, View, ViewError, WindowCells, WindowTotals};
use crate::observe::metrics::Registry;
use crate::observe::status::ProcessStatus;
use crate::observe::{locked, wall_ms};
use crate::publish::layout::About;
use crate::publish::view::MemoryView;
use crate::publish::view::read::{StoreCells, Sums};

/// A sample of all metrics is taken no more often.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// The view of the run in this process, which may be asked for before there is one.
#[derive(Debug, Default)]
pub struct ServedView {
    held: OnceLock<Held>,
    ended: AtomicBool,
    finished: AtomicBool,
    registry: Registry,
    sampled: Mutex<Option<(Instant, ProcessStatus)>>,
}

impl ServedView {
    /// A view that nothing is in yet, of a process with these metrics.
    pub fn new(registry: Registry) -> ServedView {
        ServedView { registry, ..ServedView::default() }
    }

    /// Shows a run's view from when on it is at `from`, milliseconds: what was committed before.
    ///
    /// # Panics
    /// If there is a view already, if it is not a served one, or if it is not of all workers of the job.
    pub fn fill(&self, view: Arc<MemoryView>, about: Arc<About>, from: u64) {
        assert_eq!(view.workers(), 0..about.workers, "a store is looked for at the worker that has it");
        let filled = self.held.set(Held::new(view, about, from));
        assert!(filled.is_ok(), "a process runs one job");
    }

    /// The run has ended; `finished`: it has read all there was.
    pub fn end(&self, finished: bool) {
        self.finished.store(finished, Ordering::Release);
        self.ended.store(true, Ordering::Relaxed);
        *locked(&self.sampled) = None;
    }

    fn held(&self) -> Result<&Held, ViewError> {
        self.held.get().ok_or_else(nothing)
    }

    /// One process's, as whoever serves its memory has all workers of the job.
    fn sample(&self) -> ProcessStatus {
        let mut sampled = locked(&self.sampled);
        if let Some((at, status)) = &*sampled
            && at.elapsed() < SAMPLE_EVERY
        {
            return status.clone();
        }
        let ended = self.ended.load(Ordering::Relaxed);
        let status = ProcessStatus { ended, ..ProcessStatus::of(0, 1, &self.registry.sample(wall_ms())) };
        *sampled = Some((Instant::now(), status.clone()));
        status
    }
}

impl View for ServedView {
    fn place(&self) -> &'static str {
        "memory"
    }

    fn shown(&self) -> BoxFuture<'_, Result<Shown, ViewError>> {
        // Read before the as-of: what is at its end has its last as-of.
        let finished = self.finished.load(Ordering::Acquire);
        ready(self.held().and_then(|held| held.shown(finished))).boxed()
    }

    fn store<'v>(&'v self, store: &'v str, windows: Range<Window>, most: usize) -> BoxFuture<'v, Result<StoreCut, ViewError>> {
        ready(self.held().and_then(|held| held.store(store, windows, most))).boxed()
    }

    fn stores<'v>(&'v self, prefix: &'v str, after: Option<&'v str>, most: usize) -> BoxFuture<'v, Result<StoreIds, ViewError>> {
        ready(self.held().and_then(|held| held.stores(prefix, after, most))).boxed()
    }

    fn top<'v>(&'v self, measure: &'v Measure, window: Window, most: usize) -> BoxFuture<'v, Result<TopStores, ViewError>> {
        async move { self.held()?.clone().top(measure.clone(), window, most).await }.boxed()
    }

    fn totals(&self, windows: Range<Window>, most: usize) -> BoxFuture<'_, Result<Totals, ViewError>> {
        async move { self.held()?.clone().totals(windows, most).await }.boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<Vec<ProcessStatus>, ViewError>> {
        ready(Ok(vec![self.sample()])).boxed()
    }
}

fn nothing() -> ViewError {
    ViewError::Nothing("the run has not shown anything yet; ask again in a moment".to_owned())
}

/// A served view of all workers of a job, and what is true of it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    view: Arc<MemoryView>,
    about: Arc<About>,
    /// It is not shown before this as-of, milliseconds.
    from: u64,
}

impl Held {
    /// # Panics
    /// If the view is not a served one of all workers.
    pub(super) fn new(view: Arc<MemoryView>, about: Arc<About>, from: u64) -> Held {
        assert!(view.is_served(), "only a view with an index is read by store");
        Held { view, about, from }
    }

    pub(super) fn about(&self) -> Arc<About> {
        Arc::clone(&self.about)
    }

    pub(super) fn shown(&self, finished: bool) -> Result<Shown, ViewError> {
        Ok(Shown { about: Arc::clone(&self.about), as_of: self.shows()?, finished })
    }

    pub(super) fn store(&self, store: &str, windows: Range<Window>, most: usize) -> Result<StoreCut, ViewError> {
        self.shows()?;
        Ok(cut_of(self.view.store(store.as_bytes(), windows, most)))
    }

    pub(super) fn stores(&self, prefix: &str, after: Option<&str>, most: usize) -> Result<StoreIds, ViewError> {
        self.shows()?;
        let (as_of, stores, more) = self.view.stores(prefix.as_bytes(), after.map(str::as_bytes), most);
        Ok(StoreIds { as_of, stores: stores.iter().map(|store| store.to_str().into_owned()).collect(), more })
    }

    pub(super) async fn top(self, measure: Measure, window: Window, most: usize) -> Result<TopStores, ViewError> {
        self.shows()?;
        let Measure { table, second } = measure;
        let (as_of, stores) = blocking(move || self.view.top(table, second.as_bytes(), window, most)).await?;
        Ok(TopStores { as_of, stores: stores.into_iter().map(|(store, value)| (store.to_str().into_owned(), value)).collect() })
    }

    pub(super) async fn totals(self, windows: Range<Window>, most: usize) -> Result<Totals, ViewError> {
        self.shows()?;
        let (as_of, sums, more) = blocking(move || self.view.sums(&windows, most)).await?;
        Ok(Totals { as_of, windows: sums.into_iter().map(totals_of).collect(), more })
    }

    /// The as-of that it is at, if it is shown.
    fn shows(&self) -> Result<u64, ViewError> {
        Some(self.view.as_of()).filter(|as_of| *as_of > 0 && *as_of >= self.from).ok_or_else(nothing)
    }
}

fn cut_of(StoreCells { as_of, known, products, windows, more }: StoreCells) -> StoreCut {
    let windows = windows.into_iter().map(|(window, cells)| {
        let cells = cells.into_iter().map(|(table, second, value, revision)| {
            let second = second.to_str().into_owned();
            StoreCell { table, second, value, revision }
        });
        WindowCells { window, cells: cells.collect() }
    });
    StoreCut { as_of, known, product_count: products, windows: windows.collect(), more }
}

fn totals_of(Sums { window, stores, sums }: Sums) -> WindowTotals {
    let cells = sums.into_iter().map(|(table, second, value)| {
        let second = second.to_str().into_owned();
        StoreCell { table, second, value, revision: 0 }
    });
    WindowTotals { window, stores, cells: cells.collect() }
}

/// What may take milliseconds, where that keeps no request waiting.
pub(super) async fn blocking<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> Result<T, ViewError> {
    let done = tokio::task::spawn_blocking(what).await;
    done.map_err(|error| ViewError::Unavailable { what: "look through the view".to_owned(), source: error.into() })
}

#[cfg(test)]
mod tests {
    use storeflow_dataflows::table::{CellChange, NO_WINDOW, Table, Value};

    use super::*;
    use crate::decode::cell_key;
    use crate::observe::metrics::{CHECKPOINTS, Observed, Sample};
    use crate::publish::testing::job;

    fn waited<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn about(workers: usize) -> Arc<About> {
        let root = tempfile::tempdir().unwrap();
        let store = crate::store::Store::folder(root.path()).unwrap();
        Arc::new(crate::publish::Generation::create(&store, &job("mall"), workers, None).unwrap().about().clone())
    }

    fn cell(table: Table, window: Window, store: &str, second: &str, value: i64) -> CellChange {
        let key = cell_key(store.as_bytes(), second.as_bytes(), &mut Vec::new());
        let value = Value { sum: value.into(), count: value, distinct: 1 };
        CellChange { after: 0, table, window, key, value: Some((value, 2)) }
    }

    /// Gives each worker the cells of its stores, as of `as_of`.
    fn shown(view: &MemoryView, as_of: u64, cells: &[CellChange]) {
        let workers = view.workers();
        for worker in workers.clone() {
            let ours = |cell: &&CellChange| cell.key.shard() % workers.len() as u64 == worker as u64;
            view.apply(worker, as_of, &mut cells.iter().filter(ours).cloned().collect(), &mut Vec::new());
        }
    }

    fn is_nothing<T>(answer: Result<T, ViewError>) -> bool {
        matches!(answer, Err(ViewError::Nothing(why)) if why.contains("has not shown anything yet"))
    }

    #[test]
    fn nothing_is_shown_before_there_is_something() {
        let served = ServedView::default();
        let sales = Measure { table: Table::StoreSales, second: String::new() };
        let all_nothing = || {
            is_nothing(waited(served.shown()))
                && is_nothing(waited(served.store("1", 0..1, 1)))
                && is_nothing(waited(served.stores("", None, 1)))
                && is_nothing(waited(served.top(&sales, 0, 1)))
                && is_nothing(waited(served.totals(0..1, 1)))
        };
        assert!(all_nothing(), "before there is a view");
        let (view, about) = (Arc::new(MemoryView::served(0..2)), about(2));
        served.fill(Arc::clone(&view), Arc::clone(&about), 50);
        assert!(all_nothing(), "before the first as-of");
        shown(&view, 49, &[]);
        assert!(all_nothing(), "before what was committed when the run began");
        shown(&view, 50, &[]);
        assert_eq!(waited(served.shown()).unwrap(), Shown { about: Arc::clone(&about), as_of: 50, finished: false });
        assert!(!waited(served.store("1", 0..1, 1)).unwrap().known);
        served.end(false);
        assert!(!waited(served.shown()).unwrap().finished, "it was told to stop");
        assert!(waited(served.status()).unwrap()[0].ended);
        served.end(true);
        assert!(waited(served.shown()).unwrap().finished);
    }

    #[test]
    fn answers_are_made_of_the_cells() {
        let (served, view) = (ServedView::default(), Arc::new(MemoryView::served(0..2)));
        served.fill(Arc::clone(&view), about(2), 0);
        let mut cells = vec![cell(Table::StoreProducts, NO_WINDOW, "가게", "", 7)];
        for (store, sum) in [("1", 5), ("가게", 9), ("3", 5)] {
            cells.push(cell(Table::StorePayments, 0, store, "KRW", sum));
            cells.push(cell(Table::StoreClicks, 30, store, "view", sum));
        }
        shown(&view, 77, &cells);
        let at = |table, second: &str, value: i64, revision| StoreCell {
            table,
            second: second.to_owned(),
            value: Value { sum: value.into(), count: value, distinct: i64::from(revision > 0) },
            revision,
        };
        let (payments, clicks) = (at(Table::StorePayments, "KRW", 9, 2), at(Table::StoreClicks, "view", 9, 2));
        let windows = vec![WindowCells { window: 0, cells: vec![payments] }];
        let cut = waited(served.store("가게", 0..60, 1)).unwrap();
        assert_eq!(cut, StoreCut { as_of: 77, known: true, product_count: 7, windows, more: true });
        let windows = vec![WindowCells { window: 30, cells: vec![clicks] }];
        let cut = waited(served.store("가게", 1..60, 1)).unwrap();
        assert_eq!(cut, StoreCut { as_of: 77, known: true, product_count: 7, windows, more: false });
        let stores =
            |stores: &[&str], more| StoreIds { as_of: 77, stores: stores.iter().map(|&store| store.to_owned()).collect(), more };
        assert_eq!(waited(served.stores("", Some("1"), 1)).unwrap(), stores(&["3"], true));
        assert_eq!(waited(served.stores("가", None, 5)).unwrap(), stores(&["가게"], false));
        let clicks = Measure { table: Table::StoreClicks, second: "view".to_owned() };
        let ranked = [("가게", 9), ("1", 5)].map(|(store, value)| (store.to_owned(), value)).to_vec();
        assert_eq!(waited(served.top(&clicks, 30, 2)).unwrap(), TopStores { as_of: 77, stores: ranked });
        let totals = waited(served.totals(0..60, 1)).unwrap();
        let windows = vec![WindowTotals { window: 0, stores: 3, cells: vec![at(Table::StorePayments, "KRW", 19, 0)] }];
        assert_eq!(totals, Totals { as_of: 77, windows, more: true });
    }

    /// Something that says how often it was looked at.
    #[derive(Default)]
    struct Looked(std::sync::atomic::AtomicU64);

    impl Observed for Looked {
        fn collect(&self, sample: &mut Sample) {
            sample.count(&CHECKPOINTS, &[], self.0.fetch_add(1, Ordering::Relaxed) + 1);
        }
    }

    #[test]
    fn many_who_ask_for_the_status_share_a_sample() {
        let (registry, looked) = (Registry::default(), Arc::new(Looked::default()));
        registry.register(Arc::clone(&looked) as _);
        let served = ServedView::new(registry);
        let began = Instant::now();
        let statuses: Vec<_> = (0..20).map(|_| waited(served.status()).unwrap()).collect();
        let seconds = began.elapsed().as_secs();
        assert_eq!((statuses[0][0].process, statuses[0][0].processes, statuses[0][0].checkpoints), (0, 1, 1));
        assert!(looked.0.load(Ordering::Relaxed) <= 1 + seconds, "one a second");
        served.end(true);
        assert!(waited(served.status()).unwrap()[0].ended, "an end is not kept back for a second");
    }
}
