//! A view whose numbers and failures a test sets.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use storeflow_dataflows::epoch::{Before, Horizons};
use storeflow_dataflows::table::{Table, Value, Window};

use super::view::{Measure, Shown, StoreCell, StoreCut, StoreIds, TopStores, Totals, View, ViewError, WindowCells, WindowTotals};
use crate::observe::locked;
use crate::observe::status::ProcessStatus;
use crate::publish::layout::About;

const MINUTE: u64 = 60_000;

/// Of a job with windows of half an hour, two minutes of grace and two days of retention, in UTC.
pub(crate) fn about() -> About {
    About {
        job: "mall".to_owned(),
        generation: 3,
        horizons: Horizons {
            window: 30 * MINUTE,
            grace: 2 * MINUTE,
            retention: 2 * 24 * 60 * MINUTE,
            replay_horizon: 24 * 60 * MINUTE,
            before: Before::NOTHING,
        },
        scale: 2,
        workers: 1,
        clicks_distinct: true,
        timezone: "UTC".to_owned(),
    }
}

/// An instant in milliseconds.
pub(crate) fn ms(text: &str) -> u64 {
    text.parse::<jiff::Timestamp>().expect("an instant").as_millisecond().try_into().expect("after 1970")
}

/// Runs a future to its end, with timers.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// What a [`Fake`] holds.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    pub(crate) about: About,
    pub(crate) as_of: u64,
    pub(crate) finished: bool,
    /// The as-of of the answers about one store, if it is another than the view's.
    pub(crate) ahead: Option<u64>,
    /// The as-of of the answers about all stores, if it is another than the view's.
    pub(crate) behind: Option<u64>,
    /// Products on sale and cells.
    pub(crate) stores: BTreeMap<String, (i64, BTreeMap<Window, Vec<StoreCell>>)>,
    pub(crate) said: Vec<ProcessStatus>,
    pub(crate) down: bool,
    /// The next read fails, while what is shown is known.
    pub(crate) fails: bool,
    pub(crate) nothing: bool,
    pub(crate) panics: bool,
    pub(crate) slow: Option<Duration>,
    /// How many times anything but what is shown was asked, and was begun to be answered.
    pub(crate) reads: usize,
    pub(crate) begun: usize,
}

/// A view in a test's hand.
#[derive(Debug)]
pub(crate) struct Fake(pub(crate) Mutex<Numbers>);

impl Fake {
    /// Without stores, as of 05:41:07 on 2026-11-25.
    pub(crate) fn new() -> Arc<Fake> {
        Arc::new(Fake(Mutex::new(Numbers {
            about: about(),
            as_of: ms("2026-11-25T05:41:07Z"),
            finished: false,
            ahead: None,
            behind: None,
            stores: BTreeMap::new(),
            said: Vec::new(),
            down: false,
            fails: false,
            nothing: false,
            panics: false,
            slow: None,
            reads: 0,
            begun: 0,
        })))
    }

    /// Changes what it holds.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Numbers)) {
        change(&mut locked(&self.0));
    }

    /// Sets a store's products on sale.
    pub(crate) fn products(&self, store: &str, count: i64) {
        self.set(|numbers| numbers.stores.entry(store.to_owned()).or_default().0 = count);
    }

    /// Adds a cell to a store's window. `value`: sum, count, distinct.
    pub(crate) fn cell(&self, store: &str, window: &str, table: Table, second: &str, value: (i128, i64, i64)) {
        let (sum, count, distinct) = value;
        let cell = StoreCell { table, second: second.to_owned(), value: Value { sum, count, distinct }, revision: 0 };
        self.set(|numbers| {
            let windows = &mut numbers.stores.entry(store.to_owned()).or_default().1;
            let cells = windows.entry(ms(window) as i64).or_default();
            cells.push(cell);
            cells.sort();
        });
    }

    /// Three stores with a few windows, of all tables.
    pub(crate) fn mall() -> Arc<Fake> {
        let fake = Fake::new();
        for (store, products, sum) in [("1042", 118, 990_000), ("7", 3, 12_000_000), ("a/b ü", 0, 5)] {
            fake.products(store, products);
            for window in ["2026-11-25T04:30:00Z", "2026-11-25T05:00:00Z"] {
                fake.cell(store, window, Table::StorePayments, "KRW", (sum, 1, 0));
                fake.cell(store, window, Table::StoreSales, "", (2, 2, 2));
            }
            for window in ["2026-11-25T05:00:00Z", "2026-11-25T05:30:00Z"] {
                fake.cell(store, window, Table::StoreClicks, "view", (0, 17, 9));
            }
        }
        fake
    }

    async fn read<T: Send>(&self, read: impl FnOnce(&Numbers) -> T + Send) -> Result<T, ViewError> {
        let slow = {
            let mut numbers = locked(&self.0);
            numbers.begun += 1;
            numbers.slow
        };
        if let Some(slow) = slow {
            tokio::time::sleep(slow).await;
        }
        let mut numbers = locked(&self.0);
        numbers.reads += 1;
        assert!(!numbers.panics, "told to");
        if numbers.down || std::mem::take(&mut numbers.fails) {
            return Err(down());
        }
        Ok(read(&numbers))
    }
}

fn down() -> ViewError {
    ViewError::Unavailable { what: "reach the test's view".to_owned(), source: "it was told to be down".into() }
}

impl View for Fake {
    fn place(&self) -> &'static str {
        "memory"
    }

    fn shown(&self) -> BoxFuture<'_, Result<Shown, ViewError>> {
        async {
            let numbers = locked(&self.0);
            match (numbers.down, numbers.nothing) {
                (true, _) => Err(down()),
                (false, true) => Err(ViewError::Nothing("nothing has been shown yet; ask again".to_owned())),
                (false, false) => {
                    let about = Arc::new(numbers.about.clone());
                    Ok(Shown { about, as_of: numbers.as_of, finished: numbers.finished })
                }
            }
        }
        .boxed()
    }

    fn now(&self) -> Option<Arc<About>> {
        Some(Arc::new(locked(&self.0).about.clone()))
    }

    fn store<'v>(&'v self, store: &'v str, windows: Range<Window>, most: usize) -> BoxFuture<'v, Result<StoreCut, ViewError>> {
        self.read(move |numbers| {
            let of_store = numbers.stores.get(store);
            let cells = of_store.map(|(_, cells)| cells).into_iter().flat_map(|cells| cells.range(windows.clone()));
            let mut cells: Vec<_> = cells.map(|(window, cells)| WindowCells { window: *window, cells: cells.clone() }).collect();
            let more = cells.len() > most;
            cells.truncate(most);
            StoreCut {
                as_of: numbers.ahead.unwrap_or(numbers.as_of),
                known: of_store.is_some(),
                product_count: of_store.map_or(0, |(products, _)| *products),
                windows: cells,
                more,
            }
        })
        .boxed()
    }

    fn stores<'v>(&'v self, prefix: &'v str, after: Option<&'v str>, most: usize) -> BoxFuture<'v, Result<StoreIds, ViewError>> {
        self.read(move |numbers| {
            let wanted =
                numbers.stores.keys().filter(|id| id.starts_with(prefix) && after.is_none_or(|after| id.as_str() > after));
            let mut stores: Vec<String> = wanted.cloned().collect();
            let more = stores.len() > most;
            stores.truncate(most);
            StoreIds { as_of: numbers.as_of, stores, more }
        })
        .boxed()
    }

    fn top<'v>(&'v self, measure: &'v Measure, window: Window, most: usize) -> BoxFuture<'v, Result<TopStores, ViewError>> {
        self.read(move |numbers| {
            let value =
                |cell: &StoreCell| if cell.table == Table::StoreClicks { cell.value.count.into() } else { cell.value.sum };
            let mut stores: Vec<(String, i128)> = Vec::new();
            for (id, (_, windows)) in &numbers.stores {
                let mut cells = windows.get(&window).into_iter().flatten();
                let cell = cells.find(|cell| cell.table == measure.table && cell.second == measure.second);
                stores.extend(cell.map(|cell| (id.clone(), value(cell))));
            }
            stores.sort_by_key(|(_, value)| -value);
            stores.truncate(most);
            TopStores { as_of: numbers.behind.unwrap_or(numbers.as_of), stores }
        })
        .boxed()
    }

    fn totals(&self, windows: Range<Window>, most: usize) -> BoxFuture<'_, Result<Totals, ViewError>> {
        self.read(move |numbers| {
            let mut sums = BTreeMap::<Window, (u64, BTreeMap<(Table, String), Value>)>::new();
            for (window, cells) in numbers.stores.values().flat_map(|(_, of_store)| of_store.range(windows.clone())) {
                let (stores, sums) = sums.entry(*window).or_default();
                *stores += 1;
                for cell in cells {
                    let sum = sums.entry((cell.table, cell.second.clone())).or_default();
                    (sum.sum, sum.count) = (sum.sum + cell.value.sum, sum.count + cell.value.count);
                }
            }
            let (as_of, more) = (numbers.behind.unwrap_or(numbers.as_of), sums.len() > most);
            let windows = sums.into_iter().take(most).map(|(window, (stores, sums))| {
                let cell = |((table, second), value)| StoreCell { table, second, value, revision: 0 };
                WindowTotals { window, stores, cells: sums.into_iter().map(cell).collect() }
            });
            Totals { as_of, windows: windows.collect(), more }
        })
        .boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<Vec<ProcessStatus>, ViewError>> {
        self.read(|numbers| numbers.said.clone()).boxed()
    }
}
