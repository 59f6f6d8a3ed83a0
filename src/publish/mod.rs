//! What the outside may read: a store with history, view and dead letters.
//!
//! ```text
//! HistoryRow, LateAdjustment, DeadLetter ─► history (one thread) ─┐
//! CellChange, WindowExpiry ───────────────► view (in memory) ─────┼─► files of one generation ─► current.json
//!             │                               at the end: dump ───┘    (layout, table_file)      moves last
//!             └─ while it runs ──► redis
//! ```
//!
//! Upholds: (1) a file under its final name is whole, and holds only what a committed as-of covers; (2) readers follow
//! `current.json`, so a run is seen only as far as it says there; (3) two runs never write one generation at a time: the later one
//! goes on from the checkpoint, where the earlier one can commit nothing any more.
//! Keeps: the view, and rows waiting for their file (bounded, see [`history`]).
//! Absent on purpose: any decision about values, which were computed in `dataflows`, and where files are: see `store`.

pub mod columns;
mod current;
pub mod ddl;
pub mod dead_letters;
pub mod encode;
pub mod error;
pub mod history;
pub mod layout;
mod pages;
pub mod redis;
pub mod replays;
pub mod row;
pub mod schema;
pub mod state_rows;
pub mod table_file;
pub mod table_reader;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod tests;
mod texts;
pub mod time;
pub mod view;

pub use dead_letters::DeadLetter;
pub use error::PublishError;
pub use history::{Batch, HistorySender, HistoryWriter, Totals};
pub use layout::{Current, Generation, Keys};
pub use row::{LateRow, Row};
pub use schema::Output;
pub use view::MemoryView;
