//! The view of a finished run, loaded from its files.
//!
//! ```text
//! current.json ── every few seconds, while somebody asks ─► the run that finished last ─► its cells in memory ─► routes
//! ```
//!
//! Upholds: (1) what is shown is one finished run's, whole; (2) it is shown until a later one has finished and is loaded, also while a run goes
//! on, and while the store is away; (3) a store that does not answer holds up nobody who can be answered from memory.
//! Keeps: the cells of the view, twice while a later run is loaded.
//! Absent on purpose: windows that have left the view; they are in the history.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt, ready};
use storeflow_dataflows::table::{CellChange, NO_WINDOW, Table, Value, Window};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::memory::{Held, blocking};
use super::{Measure, Shown, StoreCut, StoreIds, TopStores, Totals, View, ViewError};
use crate::decode::cell_key;
use crate::observe::locked;
use crate::observe::status::ProcessStatus;
use crate::publish::error::PublishError;
use crate::publish::layout::{About, Current};
use crate::publish::row::Row;
use crate::publish::time::instant;
use crate::publish::view::MemoryView;
use crate::store::Store;

/// Between two looks at the pointer.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The finished run in a folder or below a prefix of a bucket.
#[derive(Debug)]
pub struct FilesServed {
    files: Arc<Files>,
    /// Held by whoever looks.
    turn: Arc<Turn<()>>,
}

#[derive(Debug)]
struct Files {
    store: Store,
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// What the pointer said at the last look.
    seen: Option<Seen>,
    looked: Option<Instant>,
    failure: Option<Failure>,
}

/// Job, generation, as-of, and whether that run has finished.
type Seen = (String, u64, u64, bool);

/// Why there is nothing to show, for all who ask until the next look.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    Nothing(&'static str),
    Unavailable { what: String, why: String },
}

impl FilesServed {
    /// The run in a store; nothing is read before somebody asks.
    pub fn new(store: Store) -> FilesServed {
        FilesServed::looking(store, LOOK_EVERY)
    }

    fn looking(store: Store, every: Duration) -> FilesServed {
        FilesServed { files: Arc::new(Files { store, every, state: Mutex::default() }), turn: Arc::default() }
    }

    /// What is shown. Only who would have nothing waits for a look.
    async fn held(&self) -> Result<Held, ViewError> {
        let (held, due) = self.files.now();
        match held {
            Ok(held) => {
                if due && let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() {
                    // Its end is seen by whoever asks after it.
                    drop(tokio::task::spawn_blocking(self.look(turn)));
                }
                Ok(held)
            }
            Err(_) if due => {
                let turn = Arc::clone(&self.turn).lock_owned().await;
                // Somebody may have looked in the meantime.
                match self.files.now() {
                    (_, true) => blocking(self.look(turn)).await?,
                    (_, false) => drop(turn),
                }
                self.files.now().0
            }
            Err(error) => Err(error),
        }
    }

    fn look(&self, turn: OwnedMutexGuard<()>) -> impl FnOnce() + Send + use<> {
        let files = Arc::clone(&self.files);
        move || {
            files.look();
            drop(turn);
        }
    }
}

impl View for FilesServed {
    fn place(&self) -> &'static str {
        "files"
    }

    fn shown(&self) -> BoxFuture<'_, Result<Shown, ViewError>> {
        async move { self.held().await?.shown(true) }.boxed()
    }

    fn now(&self) -> Option<Arc<About>> {
        locked(&self.files.state).held.as_ref().map(Held::about)
    }

    fn store<'v>(&'v self, store: &'v str, windows: Range<Window>, most: usize) -> BoxFuture<'v, Result<StoreCut, ViewError>> {
        async move { self.held().await?.store(store, windows, most) }.boxed()
    }

    fn stores<'v>(&'v self, prefix: &'v str, after: Option<&'v str>, most: usize) -> BoxFuture<'v, Result<StoreIds, ViewError>> {
        async move { self.held().await?.stores(prefix, after, most) }.boxed()
    }

    fn top<'v>(&'v self, measure: &'v Measure, window: Window, most: usize) -> BoxFuture<'v, Result<TopStores, ViewError>> {
        async move { self.held().await?.top(measure.clone(), window, most).await }.boxed()
    }

    fn totals(&self, windows: Range<Window>, most: usize) -> BoxFuture<'_, Result<Totals, ViewError>> {
        async move { self.held().await?.totals(windows, most).await }.boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<Vec<ProcessStatus>, ViewError>> {
        ready(Ok(Vec::new())).boxed()
    }
}

impl Files {
    /// What is shown, and whether it is time to look.
    fn now(&self) -> (Result<Held, ViewError>, bool) {
        let state = locked(&self.state);
        let due = state.looked.is_none_or(|looked| looked.elapsed() >= self.every);
        let held = match (&state.held, &state.failure) {
            (Some(held), _) => Ok(held.clone()),
            (None, Some(Failure::Unavailable { what, why })) => {
                Err(ViewError::Unavailable { what: what.clone(), source: why.clone().into() })
            }
            (None, Some(Failure::Nothing(why))) => Err(ViewError::Nothing((*why).to_owned())),
            (None, None) => Err(ViewError::Nothing("the files have not been looked at yet; ask again".to_owned())),
        };
        (held, due)
    }

    /// Looks at the pointer, and loads the run that it names if that has finished and is not shown yet.
    fn look(&self) {
        let before = locked(&self.state).seen.clone();
        let read = self.read(before);
        let mut state = locked(&self.state);
        state.looked = Some(Instant::now());
        let failure = match read {
            Ok((seen, loaded)) => {
                state.seen = Some(seen);
                state.held = loaded.or_else(|| state.held.take());
                None
            }
            // What was not loaded is not seen, and tried again.
            Err(failure) => Some(failure),
        };
        if failure != state.failure {
            let place = self.store.place("").display().to_string();
            match &failure {
                Some(Failure::Nothing(why)) => tracing::warn!(place, "{why}"),
                Some(Failure::Unavailable { what, why }) => tracing::warn!(place, %why, "could not {what}"),
                None => {}
            }
        }
        state.failure = failure;
    }

    /// What the pointer says now, and what is to be shown from now on if that is something else.
    fn read(&self, before: Option<Seen>) -> Result<(Seen, Option<Held>), Failure> {
        let unavailable = |error: PublishError| {
            let what = "read the view of the finished run".to_owned();
            Failure::Unavailable { what, why: chain(&error) }
        };
        let current = match Current::open(&self.store) {
            Ok(current) => current,
            Err(PublishError::NoRun { .. }) => {
                let why = "no run has finished here yet; name the folder or the bucket that `storeflow run` wrote to";
                return Err(Failure::Nothing(why));
            }
            Err(error) => return Err(unavailable(error)),
        };
        let seen = (current.about.job.clone(), current.about.generation, current.as_of, current.finished);
        if before.as_ref() == Some(&seen) || (!current.finished && locked(&self.state).held.is_some()) {
            return Ok((seen, None));
        }
        if !current.finished {
            let why = "the run goes on, and its view is in its memory or in Redis: serve it by `storeflow run --serve` or \
                       `storeflow serve --redis`, or wait for its end";
            return Err(Failure::Nothing(why));
        }
        if current.as_of == 0 {
            return Err(Failure::Nothing("the finished run has read nothing"));
        }
        let held = load(&current).map_err(unavailable)?;
        Ok((seen, Some(held)))
    }
}

fn load(current: &Current) -> Result<Held, PublishError> {
    let began = Instant::now();
    let view = MemoryView::served(0..1);
    for table in Table::ALL {
        let mut changes = current.view_rows(table)?.into_iter().map(|row| change(row, current.as_of)).collect();
        view.apply(0, current.as_of, &mut changes, &mut Vec::new());
    }
    let (job, generation, as_of) = (&current.about.job, current.about.generation, instant(current.as_of as i64));
    tracing::info!(job, generation, %as_of, cells = view.extent(0).1, took = ?began.elapsed(), "showing a finished run");
    Ok(Held::new(Arc::new(view), Arc::new(current.about.clone()), 0))
}

/// A row that was read, as the change that makes it.
fn change(row: Row, as_of: u64) -> CellChange {
    let key = cell_key(row.store_id.as_bytes(), row.second.as_bytes(), &mut Vec::new());
    let window = row.window_start.map_or(NO_WINDOW, |start| start as i64);
    // A table that publishes no count has cells all the same: they exist, so they count.
    let value = Value { sum: row.sum, count: row.count.unwrap_or(1), distinct: row.distinct.unwrap_or(0) };
    CellChange { after: as_of.saturating_sub(1), table: row.table, window, key, value: Some((value, row.revision.unwrap_or(0))) }
}

/// An error with its causes, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use storeflow_dataflows::table::WindowExpiry;

    use super::*;
    use crate::publish::Generation;
    use crate::publish::testing::job;
    use crate::serve::view::{StoreCell, WindowCells};

    fn waited<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap().block_on(future)
    }

    /// Files that are looked at each time somebody asks, or never again.
    fn files(root: &Path, every: Duration) -> FilesServed {
        FilesServed::looking(Store::folder(root).unwrap(), every)
    }

    fn cell(table: Table, window: Window, store: &str, second: &str, value: i64) -> CellChange {
        let key = cell_key(store.as_bytes(), second.as_bytes(), &mut Vec::new());
        let sum = if table == Table::StoreClicks { 0 } else { value.into() };
        CellChange { after: 0, table, window, key, value: Some((Value { sum, count: value, distinct: value }, 3)) }
    }

    /// A run of two workers, whose view has a store with products, a payment of `value` and clicks.
    fn written(root: &Path, as_of: u64, value: i64) -> Generation {
        let generation = Generation::create(&Store::folder(root).unwrap(), &job("mall"), 2, None).unwrap();
        let view = MemoryView::new(2);
        let mut changes = vec![
            cell(Table::StorePayments, 0, "가게", "KRW", value),
            cell(Table::StorePayments, 0, "가게", "USD", -value),
            cell(Table::StoreClicks, 1_800_000, "가게", "view", 4),
            cell(Table::StoreClicks, 3_600_000, "gone", "view", 4),
            cell(Table::StoreProducts, NO_WINDOW, "가게", "", 5),
        ];
        let mut expiries = vec![WindowExpiry { after: 0, table: Table::StoreClicks, window: 3_600_000 }];
        view.apply(0, as_of, &mut Vec::new(), &mut Vec::new());
        view.apply(1, as_of, &mut changes, &mut expiries);
        view.dump(&generation).unwrap();
        generation
    }

    fn says<T: std::fmt::Debug>(answer: Result<T, ViewError>) -> String {
        match answer.unwrap_err() {
            ViewError::Nothing(why) => why,
            ViewError::Unavailable { what, source } => format!("could not {what}: {source}"),
        }
    }

    #[test]
    fn a_finished_run_is_shown_and_then_the_next_one() {
        let root = tempfile::tempdir().unwrap();
        let served = files(root.path(), Duration::ZERO);
        assert!(says(waited(served.shown())).contains("name the folder or the bucket"));
        let generation = written(root.path(), 9, 100);
        generation.advance(8).unwrap();
        assert!(says(waited(served.shown())).contains("storeflow run --serve"));
        generation.finish(9).unwrap();
        let shown = waited(served.shown()).unwrap();
        assert_eq!((shown.about.generation, shown.about.workers, shown.as_of, shown.finished), (1, 2, 9, true));
        let at = |table, second: &str, sum, count, distinct| StoreCell {
            table,
            second: second.to_owned(),
            value: Value { sum, count, distinct },
            revision: 3,
        };
        let windows = vec![
            WindowCells {
                window: 0,
                cells: vec![at(Table::StorePayments, "KRW", 100, 100, 0), at(Table::StorePayments, "USD", -100, -100, 0)],
            },
            WindowCells { window: 1_800_000, cells: vec![at(Table::StoreClicks, "view", 0, 4, 0)] },
        ];
        let cut = StoreCut { as_of: 9, known: true, product_count: 5, windows, more: false };
        assert_eq!(waited(served.store("가게", 0..Window::MAX, 9)).unwrap(), cut);
        assert_eq!(waited(served.stores("", None, 9)).unwrap().stores, ["가게"]);
        assert_eq!(waited(served.totals(0..Window::MAX, 9)).unwrap().windows.len(), 2);
        let measure = Measure { table: Table::StorePayments, second: "KRW".to_owned() };
        assert_eq!(waited(served.top(&measure, 0, 9)).unwrap().stores, [("가게".to_owned(), 100)]);
        assert_eq!(waited(served.status()).unwrap(), []);

        // The next run goes on for a while, and the pointer names it.
        let generation = written(root.path(), 12, 200);
        generation.advance(11).unwrap();
        served.files.look();
        assert_eq!(waited(served.shown()).unwrap().about.generation, 1, "of the run that goes on no view is here");
        generation.finish(12).unwrap();
        served.files.look();
        let shown = waited(served.shown()).unwrap();
        assert_eq!((shown.about.generation, shown.as_of), (2, 12));
        assert_eq!(waited(served.top(&measure, 0, 9)).unwrap().stores, [("가게".to_owned(), 200)]);
    }

    #[test]
    fn what_cannot_be_read_is_said_and_takes_nothing_back() {
        let root = tempfile::tempdir().unwrap();
        let served = files(root.path(), Duration::ZERO);
        let pointer = root.path().join("current.json");
        std::fs::write(&pointer, "no pointer").unwrap();
        let why = says(waited(served.shown()));
        assert!(why.starts_with("could not read the view of the finished run: ") && why.contains("current.json"), "{why}");
        std::fs::remove_file(&pointer).unwrap();
        written(root.path(), 9, 100).finish(9).unwrap();
        let whole = std::fs::read(&pointer).unwrap();
        let views = root.path().join("mall/gen-000001/view");
        std::fs::rename(&views, root.path().join("elsewhere")).unwrap();
        assert!(says(waited(served.shown())).starts_with("could not read the view of the finished run: "));
        std::fs::rename(root.path().join("elsewhere"), &views).unwrap();
        assert_eq!(waited(served.shown()).unwrap().as_of, 9, "what was not loaded is tried again");
        std::fs::write(&pointer, "no pointer").unwrap();
        served.files.look();
        assert!(locked(&served.files.state).failure.is_some());
        assert_eq!(waited(served.shown()).unwrap().as_of, 9, "what is known is shown while the store is away");
        std::fs::write(&pointer, whole).unwrap();
        served.files.look();
        assert_eq!(locked(&served.files.state).failure, None);
    }

    #[test]
    fn those_who_ask_between_two_looks_share_the_answer() {
        let root = tempfile::tempdir().unwrap();
        let served = files(root.path(), Duration::MAX);
        assert!(waited(served.shown()).is_err());
        written(root.path(), 9, 100).finish(9).unwrap();
        assert!(waited(served.shown()).is_err(), "it is not looked at again yet");
        let served = files(root.path(), Duration::MAX);
        let all = waited(async { futures_util::future::join_all((0..20).map(|_| served.shown())).await });
        assert!(all.into_iter().all(|shown| shown.is_ok_and(|shown| shown.as_of == 9)), "and all wait for the first look");
        written(root.path(), 10, 100).finish(10).unwrap();
        assert_eq!(waited(served.shown()).unwrap().as_of, 9);
    }

    #[test]
    fn a_run_that_read_nothing_has_nothing() {
        let root = tempfile::tempdir().unwrap();
        let generation = Generation::create(&Store::folder(root.path()).unwrap(), &job("mall"), 1, None).unwrap();
        MemoryView::new(1).dump(&generation).unwrap();
        generation.finish(0).unwrap();
        assert!(says(waited(files(root.path(), Duration::ZERO).shown())).contains("has read nothing"));
    }
}
