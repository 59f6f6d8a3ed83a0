//! What the API reads, wherever that is.
//!
//! ```text
//! routes ─► dyn View ─┬─ view::memory   the view of this process, or of a finished run's files
//!                     └─ view::redis    the view that a job publishes
//! ```
//!
//! Upholds: (1) what is said of one store is one cut: all of it is as of the as-of that comes with it; (2) what is said of all stores is at
//! least as new as the as-of that comes with it; (3) values are exact: scores of Redis' lists only choose and order, and even that only as
//! far as they can tell values apart.
//! Absent on purpose: JSON, and what is closed, today or late; those follow from the as-of and the job's lengths of time.

pub mod files;
pub mod memory;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use storeflow_dataflows::table::{Table, Value, Window};

pub mod redis;

use crate::observe::status::ProcessStatus;
use crate::publish::layout::About;

/// The view did not answer; whether it will is not known.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// It cannot be reached, or what it says makes no sense.
    #[error("could not {what}")]
    Unavailable {
        /// What was tried, and on what.
        what: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is nothing to read yet.
    #[error("{0}")]
    Nothing(String),
}

/// What a view holds, and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// What is true of all of it.
    pub about: Arc<About>,
    /// All of it is as of this instant at least, milliseconds.
    pub as_of: u64,
    /// The job has come to its end: nothing newer will come.
    pub finished: bool,
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreCell {
    /// Its table; none of [`Table::StoreProducts`].
    pub table: Table,
    /// Currency or kind; empty where the table has neither.
    pub second: String,
    /// Its value. `distinct` is 0 where the job does not keep it.
    pub value: Value,
    /// Its revision.
    pub revision: u32,
}

/// The cells of a store in a window, at least one, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowCells {
    /// The window.
    pub window: Window,
    /// Its cells.
    pub cells: Vec<StoreCell>,
}

/// Some of a store's cells, all as of one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreCut {
    /// The instant, milliseconds. It may be later than the view's.
    pub as_of: u64,
    /// Whether the store is in the view at all, with products on sale or with cells in any window.
    pub known: bool,
    /// Products on sale.
    pub product_count: i64,
    /// The first windows of those asked for in which it has cells, oldest first.
    pub windows: Vec<WindowCells>,
    /// There are more of them.
    pub more: bool,
}

/// Sums over all stores in a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowTotals {
    /// The window.
    pub window: Window,
    /// Stores that have a cell in it.
    pub stores: u64,
    /// Cells summed over stores, in their order; `distinct` is 0, as distinct products do not add up, and so is the revision.
    pub cells: Vec<StoreCell>,
}

/// Sums over all stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// They hold all before this instant, milliseconds.
    pub as_of: u64,
    /// The first windows of those asked for that have cells, oldest first.
    pub windows: Vec<WindowTotals>,
    /// There are more of them.
    pub more: bool,
}

/// What stores are ranked by: a table's sum, of clicks the count; and the currency or kind, empty of sales.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// One of the tables with windows.
    pub table: Table,
    /// Currency or kind.
    pub second: String,
}

/// The stores that lead a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopStores {
    /// The list holds all before this instant, milliseconds; values may be newer.
    pub as_of: u64,
    /// Stores and exact values (minor units, items or clicks), highest first; equal ones by id.
    pub stores: Vec<(String, i128)>,
}

/// Some ids of stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreIds {
    /// They are those of this instant at least, milliseconds.
    pub as_of: u64,
    /// Ids, bytewise ascending.
    pub stores: Vec<String>,
    /// There are more.
    pub more: bool,
}

/// A view. Windows are multiples of its window length. Methods may wait for a network, never for a worker that computes.
pub trait View: Send + Sync {
    /// Where it is served from: `memory`, `redis` or `files`.
    fn place(&self) -> &'static str;

    /// What it holds now. Asked several times a second by the server, not by each request.
    fn shown(&self) -> BoxFuture<'_, Result<Shown, ViewError>>;

    /// What is true of the view as its last answers were read, where another may take over; whoever asked for numbers of one that was shown
    /// before finds out by it that they may be another's.
    fn now(&self) -> Option<Arc<About>> {
        None
    }

    /// The cells of a store in the first `most` windows of `windows` in which it has any.
    fn store<'v>(&'v self, store: &'v str, windows: Range<Window>, most: usize) -> BoxFuture<'v, Result<StoreCut, ViewError>>;

    /// The ids of up to `most` stores that begin with `prefix` and come after `after`.
    fn stores<'v>(&'v self, prefix: &'v str, after: Option<&'v str>, most: usize) -> BoxFuture<'v, Result<StoreIds, ViewError>>;

    /// The first `most` (up to 100) stores of a window.
    fn top<'v>(&'v self, measure: &'v Measure, window: Window, most: usize) -> BoxFuture<'v, Result<TopStores, ViewError>>;

    /// Sums over all stores in the first `most` windows of `windows` that have cells.
    fn totals(&self, windows: Range<Window>, most: usize) -> BoxFuture<'_, Result<Totals, ViewError>>;

    /// What the processes of the job say of themselves; nothing where that is not known.
    fn status(&self) -> BoxFuture<'_, Result<Vec<ProcessStatus>, ViewError>>;
}
