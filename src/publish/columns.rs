//! Rows turned into columns: the shape Parquet wants, built in one pass over the rows.
//!
//! Texts are looked up in their column's dictionary at once: ids repeat, so most are never copied.

use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::key::Key;
use storeflow_dataflows::table::{HistoryRow, LateAdjustment, NO_WINDOW, Table, Value, Window};

use super::texts::Texts;
use crate::source::names::PartitionNames;

/// A cell to be written, from the history or the view.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    /// Store and second part.
    pub key: &'a Key,
    /// The window.
    pub window: Window,
    /// The value; `count == 0` is a deleted cell.
    pub value: Value,
    /// Its revision.
    pub revision: u32,
    /// The epoch of history, or the view's as-of; milliseconds.
    pub epoch: u64,
}

impl<'a> From<&'a HistoryRow> for Cell<'a> {
    fn from(row: &'a HistoryRow) -> Self {
        Cell { key: &row.key, window: row.window, value: row.value, revision: row.revision, epoch: row.epoch }
    }
}

/// The columns of some rows. Which of them an output has, its schema says.
#[derive(Default)]
pub(crate) struct Columns {
    pub(crate) rows: usize,
    pub(crate) tables: Texts,
    pub(crate) stores: Texts,
    /// An empty text may be null, see the schema.
    pub(crate) seconds: Texts,
    pub(crate) windows: Vec<i64>,
    pub(crate) sums: Vec<i128>,
    pub(crate) counts: Vec<i64>,
    pub(crate) distincts: Vec<i64>,
    pub(crate) revisions: Vec<i64>,
    pub(crate) epochs: Vec<i64>,
    pub(crate) topics: Texts,
    pub(crate) partitions: Vec<i64>,
    pub(crate) positions: Vec<i64>,
    pub(crate) stamps: Vec<i64>,
}

/// A log time or position as the signed 64 bits Parquet has.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Columns {
    /// Makes it the columns of these cells; what it held is forgotten, its memory is used again.
    pub(crate) fn set_cells<'a>(&mut self, cells: impl Iterator<Item = Cell<'a>>) {
        self.clear();
        for cell in cells {
            let (store, second) = cell.key.cell_parts();
            self.rows += 1;
            self.stores.push(store);
            self.seconds.push(second);
            self.windows.push(cell.window);
            self.sums.push(cell.value.sum);
            self.counts.push(cell.value.count);
            self.distincts.push(cell.value.distinct);
            self.revisions.push(cell.revision.into());
            self.epochs.push(signed(cell.epoch));
        }
    }

    /// Makes it the columns of these rows. `names` resolves their partitions. `scale`: decimal digits of the sum column.
    pub(crate) fn set_late(&mut self, rows: &[LateAdjustment], horizons: &Horizons, names: &PartitionNames, scale: u32) {
        self.clear();
        for row in rows {
            let (store, second) = row.key.cell_parts();
            let (topic, partition) = names.get(row.partition);
            self.rows += 1;
            self.tables.push(row.table.name().as_bytes());
            self.stores.push(store);
            self.seconds.push(second);
            self.windows.push(if row.window == NO_WINDOW { 0 } else { row.window });
            self.sums.push(row.sum * unit(row.table, scale));
            self.counts.push(row.count);
            self.topics.push(topic.as_bytes());
            self.partitions.push(partition.into());
            self.positions.push(signed(row.position));
            self.stamps.push(signed(row.stamp));
            self.epochs.push(signed(horizons.epoch_after(row.stamp)));
        }
    }

    fn clear(&mut self) {
        self.rows = 0;
        for texts in [&mut self.tables, &mut self.stores, &mut self.seconds, &mut self.topics] {
            texts.clear();
        }
        for longs in [
            &mut self.windows,
            &mut self.counts,
            &mut self.distincts,
            &mut self.revisions,
            &mut self.epochs,
            &mut self.partitions,
            &mut self.positions,
            &mut self.stamps,
        ] {
            longs.clear();
        }
        self.sums.clear();
    }
}

/// What one unit of a table's sum is in the last digit of `sum_delta`: that column is a decimal of the job's scale for all
/// tables, so 5 items are 5.00 there.
pub(crate) fn unit(table: Table, scale: u32) -> i128 {
    if table == Table::StorePayments { 1 } else { 10_i128.pow(scale) }
}
