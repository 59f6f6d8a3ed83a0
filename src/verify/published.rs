//! Published rows in the terms of the recomputation.
//!
//! Tables publish fewer values than a cell has (sales no row count, clicks no sum): what is not published is left out on both
//! sides, so that only what users can see is compared.

use std::collections::BTreeMap;

use storeflow_dataflows::table::Table;

use super::types::{CellId, CellRow, HistoryId, HistoryValue, LateRow};
use crate::publish::row;

/// The published values of a cell.
pub fn visible(table: Table, row: CellRow) -> CellRow {
    match table {
        Table::StorePayments => CellRow { distinct: 0, ..row },
        Table::StoreSales => CellRow { count: 0, ..row },
        Table::StoreClicks => CellRow { sum: 0, ..row },
        Table::StoreProducts => CellRow { sum: 0, distinct: 0, ..row },
    }
}

/// The published values of all cells of one table.
pub fn visible_cells(cells: &BTreeMap<CellId, CellRow>, table: Table) -> BTreeMap<CellId, CellRow> {
    cells.iter().filter(|(id, _)| id.table == table).map(|(id, row)| (id.clone(), visible(table, *row))).collect()
}

/// The published values of all history rows of one table.
pub fn visible_history(history: &BTreeMap<HistoryId, HistoryValue>, table: Table) -> BTreeMap<HistoryId, HistoryValue> {
    let rows = history.iter().filter(|(id, _)| id.cell.table == table);
    rows.map(|(id, &HistoryValue { sum, count, distinct, revision, deleted })| {
        let CellRow { sum, count, distinct, revision } = visible(table, CellRow { sum, count, distinct, revision });
        (id.clone(), HistoryValue { sum, count, distinct, revision, deleted })
    })
    .collect()
}

/// A published row as a cell.
pub fn cell(row: row::Row) -> (CellId, CellRow) {
    let values = CellRow {
        sum: row.sum,
        count: row.count.unwrap_or(0),
        distinct: row.distinct.unwrap_or(0),
        revision: row.revision.unwrap_or(0),
    };
    (CellId { table: row.table, store: row.store_id, second: row.second, window: row.window_start }, values)
}

/// A published row as a row of history.
pub fn history(row: row::Row) -> (HistoryId, HistoryValue) {
    let (epoch, deleted) = (row.epoch, row.deleted);
    let (cell, CellRow { sum, count, distinct, revision }) = cell(row);
    (HistoryId { epoch, cell }, HistoryValue { sum, count, distinct, revision, deleted })
}

/// A published late adjustment.
pub fn late(row: row::LateRow) -> LateRow {
    LateRow {
        stamp: row.stamp,
        topic: row.topic,
        partition: row.partition,
        position: row.position,
        cell: CellId { table: row.table, store: row.store_id, second: row.second, window: Some(row.window_start) },
        sum: row.sum,
        count: row.count,
        epoch: row.as_of,
    }
}
