//! The output tables and the value of a cell.

use serde::{Deserialize, Serialize};

use crate::key::Key;

/// An output table keyed by cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Table {
    /// Payment sum and count per store, currency and window.
    StorePayments,
    /// Items and distinct products sold per store and window.
    StoreSales,
    /// Clicks and distinct products clicked per store, kind and window.
    StoreClicks,
    /// Products on sale now, per store; no window.
    StoreProducts,
}

impl Table {
    /// All tables, in the order they are listed everywhere.
    pub const ALL: [Table; 4] = [Table::StorePayments, Table::StoreSales, Table::StoreClicks, Table::StoreProducts];

    /// The name in the public interface.
    pub fn name(self) -> &'static str {
        match self {
            Table::StorePayments => "store_payments",
            Table::StoreSales => "store_sales",
            Table::StoreClicks => "store_clicks",
            Table::StoreProducts => "store_products",
        }
    }

    /// Whether cells belong to windows of event time.
    pub fn windowed(self) -> bool {
        self != Table::StoreProducts
    }
}

/// Start of a window in milliseconds since 1970, a multiple of the window's length; [`NO_WINDOW`] for tables without.
pub type Window = i64;

/// The window of cells of [`Table::StoreProducts`]. Never closed, never expired.
pub const NO_WINDOW: Window = i64::MIN;

/// The window of a row whose event time is that of the row it refers to. No cell has it.
pub const ELSEWHERE: Window = i64::MIN + 1;

/// The value of a cell. Which fields a table publishes is said by [`Table`]'s variants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Value {
    /// Minor units of money (payments) or items (sales).
    pub sum: i128,
    /// Rows or clicks that contribute. A cell exists iff this is not zero.
    pub count: i64,
    /// Distinct products among them, where the table keeps them.
    pub distinct: i64,
}

/// The new value of a cell, as the view takes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CellChange {
    /// Shown at every as-of greater than this (a log time, milliseconds).
    pub after: u64,
    /// The table.
    pub table: Table,
    /// The window.
    pub window: Window,
    /// Store and second part.
    pub key: Key,
    /// The value, and the revision at this as-of; `None` when the cell no longer exists.
    pub value: Option<(Value, u32)>,
}

/// A window that expired: all its cells leave the view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WindowExpiry {
    /// Gone from every as-of greater than this.
    pub after: u64,
    /// The table.
    pub table: Table,
    /// The window.
    pub window: Window,
}

/// One row of the history: a cell as published at an epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HistoryRow {
    /// The epoch, a log time in milliseconds.
    pub epoch: u64,
    /// The table.
    pub table: Table,
    /// The window.
    pub window: Window,
    /// Store and second part.
    pub key: Key,
    /// The value at the epoch; all zero if the cell was emptied (`count == 0`).
    pub value: Value,
    /// Epochs after the window's own at which the value changed.
    pub revision: u32,
}

/// A contribution to a window that had expired by the record's own stamp. Append-only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LateAdjustment {
    /// The table it would have changed.
    pub table: Table,
    /// The expired window.
    pub window: Window,
    /// Store and second part.
    pub key: Key,
    /// Change of the sum.
    pub sum: i128,
    /// Change of the count of rows or clicks.
    pub count: i64,
    /// Index of the partition in the job's sorted list of (topic, partition).
    pub partition: u32,
    /// Position of the record within its partition.
    pub position: u64,
    /// The record's stamp, milliseconds.
    pub stamp: u64,
}
