//! The time line of all cells, once from its beginning to an as-of.

use std::collections::{BTreeMap, HashMap};

use super::effects::Delta;
use super::types::{CellId, CellRow, HistoryId, HistoryValue};
use super::windows::Windows;

/// The values of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Values {
    sum: i128,
    count: i64,
    distinct: i64,
}

/// All cells at an as-of, and what the epochs until then have published.
#[derive(Debug)]
pub(super) struct Timeline<'a> {
    windows: Windows,
    as_of: u64,
    cells: &'a [CellId],
    /// By cell: its values over the deltas applied so far; all zero is no cell.
    values: Vec<Values>,
    /// By cell: its values at the last epoch, from its window's own epoch on.
    published: Vec<Values>,
    revisions: Vec<u32>,
    /// Rows and events by cell and product.
    members: HashMap<(u32, u32), i64>,
    /// Cells with a delta since the last epoch.
    touched: Vec<u32>,
    history: Vec<(u64, u32, HistoryValue)>,
}

impl<'a> Timeline<'a> {
    /// Applies all deltas with stamps before `as_of`, publishing at every epoch up to it. `deltas` are in the order of stamps.
    pub(super) fn run(windows: Windows, cells: &'a [CellId], deltas: &[Delta], as_of: u64) -> Self {
        let mut line = Timeline {
            windows,
            as_of,
            cells,
            values: vec![Values::default(); cells.len()],
            published: vec![Values::default(); cells.len()],
            revisions: vec![0; cells.len()],
            members: HashMap::new(),
            touched: Vec::new(),
            history: Vec::new(),
        };
        let mut deltas = deltas[..deltas.partition_point(|delta| delta.stamp < as_of)].iter().peekable();
        for (epoch, own) in line.epochs(deltas.clone()).range(..=as_of) {
            while let Some(delta) = deltas.next_if(|delta| delta.stamp < *epoch) {
                line.apply(delta);
            }
            line.publish(*epoch, own);
        }
        deltas.for_each(|delta| line.apply(delta));
        line
    }

    /// The epochs at which there may be something to publish, each with the cells whose own epoch it is. All other epochs
    /// publish nothing, so a gap of years costs nothing.
    fn epochs<'d>(&self, deltas: impl Iterator<Item = &'d Delta>) -> BTreeMap<u64, Vec<u32>> {
        let mut epochs: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        let mut seen = vec![false; self.cells.len()];
        for delta in deltas {
            epochs.entry(self.windows.epoch_of(delta.stamp)).or_default();
            if !std::mem::replace(&mut seen[delta.cell as usize], true)
                && let Some(window) = self.cells[delta.cell as usize].window
            {
                epochs.entry(self.windows.own_epoch(window)).or_default().push(delta.cell);
            }
        }
        epochs
    }

    fn apply(&mut self, delta: &Delta) {
        let values = &mut self.values[delta.cell as usize];
        values.sum += delta.sum;
        values.count += delta.count;
        if let Some(member) = delta.member {
            let rows = self.members.entry((delta.cell, member)).or_default();
            values.distinct -= i64::from(*rows > 0);
            *rows += delta.count;
            values.distinct += i64::from(*rows > 0);
            assert!(*rows >= 0, "a row is taken out only where it was put in");
        }
        assert!(values.count > 0 || *values == Values::default(), "a cell without rows has no values");
        self.touched.push(delta.cell);
    }

    /// Publishes an epoch: all cells of the windows that close at it, and of earlier windows what has changed.
    fn publish(&mut self, epoch: u64, own: &[u32]) {
        for &cell in own {
            let values = self.values[cell as usize];
            self.published[cell as usize] = values;
            if values.count != 0 {
                self.history.push((epoch, cell, self.history_value(cell)));
            }
        }
        for cell in std::mem::take(&mut self.touched) {
            let index = cell as usize;
            let window = self.cells[index].window;
            let due = window.is_none_or(|window| self.windows.own_epoch(window) < epoch);
            if due && self.values[index] != self.published[index] {
                self.published[index] = self.values[index];
                self.revisions[index] += u32::from(window.is_some());
                self.history.push((epoch, cell, self.history_value(cell)));
            }
        }
    }

    fn history_value(&self, cell: u32) -> HistoryValue {
        let Values { sum, count, distinct } = self.values[cell as usize];
        HistoryValue { sum, count, distinct, revision: self.revisions[cell as usize], deleted: count == 0 }
    }

    /// The cells that exist and have not expired.
    pub(super) fn cells(&self) -> BTreeMap<CellId, CellRow> {
        let covered = |window| self.windows.expiry(window) > self.as_of;
        let rows = self.cells.iter().zip(&self.values).zip(&self.revisions);
        rows.filter(|((cell, values), _)| values.count != 0 && cell.window.is_none_or(covered))
            .map(|((cell, &Values { sum, count, distinct }), &revision)| {
                (cell.clone(), CellRow { sum, count, distinct, revision })
            })
            .collect()
    }

    /// All history rows.
    pub(super) fn into_history(self) -> BTreeMap<HistoryId, HistoryValue> {
        let id = |epoch, cell: u32| HistoryId { epoch, cell: self.cells[cell as usize].clone() };
        self.history.into_iter().map(|(epoch, cell, value)| (id(epoch, cell), value)).collect()
    }
}
