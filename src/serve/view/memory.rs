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
