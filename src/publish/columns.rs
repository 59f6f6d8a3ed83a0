//! Rows turned into columns: the shape Parquet wants, built in one pass over the rows.
//!
//! Texts are looked up in their column's dictionary at once: ids repeat, so most are never copied.

use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::key::Key;
use storeflow_dataflows::table::{HistoryRow, LateAdjustment, NO_WINDOW, Table, Value, Window};

use super::texts::Texts;

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
    pub(crate) fn of_cells<'a>(cells: impl Iterator<Item = Cell<'a>>) -> Self {
        let mut columns = Columns::default();
        let expected = cells.size_hint().0;
        columns.windows.reserve(expected);
        columns.sums.reserve(expected);
        columns.counts.reserve(expected);
        columns.distincts.reserve(expected);
        columns.revisions.reserve(expected);
        columns.epochs.reserve(expected);
        for cell in cells {
            let (store, second) = cell.key.cell_parts();
            columns.rows += 1;
            columns.stores.push(store);
            columns.seconds.push(second);
            columns.windows.push(cell.window);
            columns.sums.push(cell.value.sum);
            columns.counts.push(cell.value.count);
            columns.distincts.push(cell.value.distinct);
            columns.revisions.push(cell.revision.into());
            columns.epochs.push(signed(cell.epoch));
        }
        columns
    }

    /// `partitions`: the job's sorted list of topics and partitions. `scale`: decimal digits of the sum column.
    pub(crate) fn of_late(rows: &[LateAdjustment], horizons: &Horizons, partitions: &[(String, u32)], scale: u32) -> Self {
        let mut columns = Columns::default();
        for row in rows {
            let (store, second) = row.key.cell_parts();
            let (topic, partition) = partitions.get(row.partition as usize).map_or(("", 0), |(topic, index)| (topic, *index));
            columns.rows += 1;
            columns.tables.push(row.table.name().as_bytes());
            columns.stores.push(store);
            columns.seconds.push(second);
            columns.windows.push(if row.window == NO_WINDOW { 0 } else { row.window });
            columns.sums.push(row.sum * unit(row.table, scale));
            columns.counts.push(row.count);
            columns.topics.push(topic.as_bytes());
            columns.partitions.push(partition.into());
            columns.positions.push(signed(row.position));
            columns.stamps.push(signed(row.stamp));
            columns.epochs.push(signed(horizons.epoch_after(row.stamp)));
        }
        columns
    }
}

/// What one unit of a table's sum is in the last digit of `sum_delta`: that column is a decimal of the job's scale for all
/// tables, so 5 items are 5.00 there.
pub(crate) fn unit(table: Table, scale: u32) -> i128 {
    if table == Table::StorePayments { 1 } else { 10_i128.pow(scale) }
}
