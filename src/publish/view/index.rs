//! Which cells each store of a part has, and what all its stores add up to in each window: kept beside the cells if readers ask for it.
//!
//! ```text
//! a cell appears or goes ─► stores: id ─► (table, second) ─► windows it has a cell in
//!                                     └─► windows it has any cell in, and how many
//! a value changes ────────► windows: (table, second) ─► sum, count, cells; and how many stores
//! ```
//!
//! Upholds: (1) at the end of each change it holds exactly the cells there are, so what is gone (a window, a kind, a store) costs nothing;
//! (2) a read of a store looks up the cells it has and no others, however many kinds it had before.
//! Keeps: 8 to 16 bytes per cell; per store and (table, second) about 100 bytes more, per store and window 16. A `kind` per click, which
//! makes each click a cell, so costs about as much again as the cells themselves, and goes with their windows.
//! Absent on purpose: values of cells, which the tables have; an order of stores by their sums, which moves with every change.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Range};

use storeflow_dataflows::key::{Key, Text};
use storeflow_dataflows::table::{Table, Value, Window};

/// The index of one part.
#[derive(Debug, Default)]
pub(super) struct Index {
    stores: BTreeMap<Text, StoreIndex>,
    windows: BTreeMap<Window, WindowIndex>,
    /// Windows that have expired, and whose cells are being unlinked. Almost always none.
    leaving: Vec<Window>,
}

/// The cells of a store; at least one.
#[derive(Debug, Default)]
pub(super) struct StoreIndex {
    cells: BTreeMap<(Table, Text), Places>,
    /// Windows with cells, ascending, and how many.
    windows: VecDeque<(Window, u32)>,
}

/// Where a store has cells of one table and second part; in one window at least.
#[derive(Debug)]
pub(super) struct Places {
    /// Of the cells' key.
    pub hash: u64,
    /// Ascending.
    pub windows: VecDeque<Window>,
}

/// What a part has in a window: a cell at least.
#[derive(Debug, Default)]
struct WindowIndex {
    stores: u64,
    sums: BTreeMap<(Table, Text), Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    value: Value,
    cells: u64,
}

impl Index {
    /// The value of a cell has become another; `None`: there is no such cell.
    pub(super) fn changed(&mut self, table: Table, window: Window, key: &Key, before: Option<Value>, after: Option<Value>) {
        let (store, second) = key.cell_parts();
        if table.windowed() {
            self.add(table, window, second, before, after);
        }
        match (before, after) {
            (None, Some(_)) => self.link(table, window, key.hash, store, second),
            (Some(_), None) => self.unlink(table, window, key),
            _ => {}
        }
        if before.is_some() && after.is_none() && self.windows.get(&window).is_some_and(|of| of.sums.is_empty()) {
            self.windows.remove(&window);
        }
    }

    fn add(&mut self, table: Table, window: Window, second: &[u8], before: Option<Value>, after: Option<Value>) {
        let sums = &mut self.windows.entry(window).or_default().sums;
        let mut sum = match sums.entry((table, Text::new(second))) {
            Entry::Occupied(sum) => sum,
            Entry::Vacant(none) => none.insert_entry(Sum::default()),
        };
        let Sum { value, cells } = sum.get_mut();
        let (old, new) = (before.unwrap_or_default(), after.unwrap_or_default());
        value.sum += new.sum - old.sum;
        value.count += new.count - old.count;
        *cells = *cells + u64::from(after.is_some()) - u64::from(before.is_some());
        if *cells == 0 {
            sum.remove();
        }
    }

    fn link(&mut self, table: Table, window: Window, hash: u64, store: &[u8], second: &[u8]) {
        let of_store = self.stores.entry(Text::new(store)).or_default();
        let places = of_store.cells.entry((table, Text::new(second)));
        let places = places.or_insert_with(|| Places { hash, windows: VecDeque::new() });
        let at = places.windows.partition_point(|before| *before < window);
        places.windows.insert(at, window);
        if !table.windowed() {
            return;
        }
        let at = of_store.windows.partition_point(|(before, _)| *before < window);
        match of_store.windows.get_mut(at) {
            Some((found, cells)) if *found == window => *cells += 1,
            _ => {
                of_store.windows.insert(at, (window, 1));
                self.windows.entry(window).or_default().stores += 1;
            }
        }
    }

    /// A cell has gone, or its window has expired.
    pub(super) fn unlink(&mut self, table: Table, window: Window, key: &Key) {
        let (store, second) = key.cell_parts();
        let Entry::Occupied(mut of_store) = self.stores.entry(Text::new(store)) else { return };
        let StoreIndex { cells, windows } = of_store.get_mut();
        let Entry::Occupied(mut places) = cells.entry((table, Text::new(second))) else { return };
        let Ok(at) = places.get().windows.binary_search(&window) else { return };
        places.get_mut().windows.remove(at);
        if places.get().windows.is_empty() {
            places.remove();
        }
        if let Ok(at) = windows.binary_search_by_key(&window, |(window, _)| *window) {
            windows[at].1 -= 1;
            if windows[at].1 == 0 {
                windows.remove(at);
                if let Some(of_window) = self.windows.get_mut(&window) {
                    of_window.stores -= 1;
                }
            }
        }
        if cells.is_empty() {
            of_store.remove();
        }
    }

    /// A window of a table has expired: its sums go.
    pub(super) fn expired(&mut self, table: Table, window: Window) {
        if let Some(of_window) = self.windows.get_mut(&window) {
            of_window.sums.retain(|(of, _), _| *of != table);
        }
    }

    /// Whether a window that has expired in some table is gone from all. Then nobody sees its cells any more, and they may be unlinked a few
    /// at a time.
    pub(super) fn leaves(&mut self, window: Window) -> bool {
        if self.windows.get(&window).is_some_and(|of_window| !of_window.sums.is_empty()) {
            return false;
        }
        self.windows.remove(&window);
        if !self.leaving(window) {
            self.leaving.push(window);
        }
        true
    }

    /// Whether a window has expired and some of its cells are not unlinked yet.
    pub(super) fn leaving(&self, window: Window) -> bool {
        self.leaving.contains(&window)
    }

    /// All cells of the windows that have expired are unlinked.
    pub(super) fn all_left(&mut self) {
        self.leaving = Vec::new();
    }

    /// The index of a store, if it has cells.
    pub(super) fn store(&self, store: &[u8]) -> Option<&StoreIndex> {
        self.stores.get(&Text::new(store)).filter(|store| self.lives(store))
    }

    /// The ids of stores with cells that begin with `prefix` and come after `after`, ascending.
    pub(super) fn stores(&self, prefix: &[u8], after: Option<&[u8]>) -> impl Iterator<Item = &Text> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(Text::new(after)),
            _ => Bound::Included(Text::new(prefix)),
        };
        let all = self.stores.range((from, Bound::Unbounded));
        let all = all.take_while(move |(store, _)| store.as_bytes().starts_with(prefix));
        all.filter(|(_, of_store)| self.lives(of_store)).map(|(store, _)| store)
    }

    /// Windows of a store in a range, ascending.
    pub(super) fn windows_of(&self, store: &StoreIndex, within: &Range<Window>) -> impl Iterator<Item = Window> {
        let from = store.windows.partition_point(|(window, _)| *window < within.start);
        let windows = store.windows.range(from..).map(|(window, _)| *window).take_while(|window| *window < within.end);
        windows.filter(|window| !self.leaving(*window))
    }

    /// The windows with cells in a range, ascending.
    pub(super) fn windows(&self, within: &Range<Window>) -> impl Iterator<Item = Window> {
        let none = within.start >= within.end;
        let within = if none { 0..0 } else { within.clone() };
        self.windows.range(within).map(|(window, _)| *window)
    }

    /// How many stores have cells in a window, and the sums over them, in the order of table and second part.
    pub(super) fn totals(&self, window: Window) -> (u64, Vec<(Table, Text, Value)>) {
        let Some(of_window) = self.windows.get(&window) else { return (0, Vec::new()) };
        let sums = of_window.sums.iter().map(|((table, second), sum)| (*table, second.clone(), sum.value));
        (of_window.stores, sums.collect())
    }

    fn lives(&self, store: &StoreIndex) -> bool {
        self.leaving.is_empty()
            || store.cells.contains_key(&(Table::StoreProducts, Text::EMPTY))
            || store.windows.iter().any(|(window, _)| !self.leaving(*window))
    }
}

impl StoreIndex {
    /// Where it has cells, in the order of table and second part.
    pub(super) fn cells(&self) -> impl Iterator<Item = (Table, &Text, &Places)> {
        self.cells.iter().map(|((table, second), places)| (*table, second, places))
    }
}

#[cfg(test)]
impl Index {
    /// All cells it knows of, and how many windows it has sums of.
    pub(super) fn all(&self) -> (Vec<(Text, Table, Text, Window)>, usize) {
        assert!(self.leaving.is_empty(), "windows that have left: {:?}", self.leaving);
        let of_store = |(store, of): (&Text, &StoreIndex)| {
            let mut windows = BTreeMap::new();
            let mut cells = Vec::new();
            for (table, second, places) in of.cells() {
                for &window in &places.windows {
                    *windows.entry(window).or_default() += u32::from(table.windowed());
                    cells.push((store.clone(), table, second.clone(), window));
                }
            }
            windows.retain(|_, cells| *cells > 0);
            assert_eq!(of.windows.iter().copied().collect::<Vec<_>>(), windows.into_iter().collect::<Vec<_>>());
            cells
        };
        (self.stores.iter().flat_map(of_store).collect(), self.windows.len())
    }
}
