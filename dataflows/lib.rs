//! What storeflow computes: collections in, collections out.
//!
//! ```text
//! changes ──► latest row per key ──► deltas ──┐
//!             (own state, by key)             ├──► tally per store and window ──► new values of cells ─► view
//! clicks, combined per tick ──────────────────┘    (own state, by window)    └──► rows of an epoch ────► history
//!        └── expired ─► late adjustments ◄── expired deltas
//!
//! rows that refer to others ──► latest row per key ─ moves ─┐
//! rows of lookups ──────────────────────────────────────────┴─► lookup ──► deltas, expired deltas
//! clicks with event ids ──────────────────────────────────────► dedup ───► clicks, expired clicks
//! ```
//!
//! Upholds: at every as-of the cells equal a recomputation over the records before it; workers, ticks and the cutting of
//! input into batches change nothing, because every decision (stale, closed, late, expired) is made from the record's own stamp.
//!
//! Absent on purpose: clocks, files, networks, hashing of text (keys arrive with their stable hash), and any
//! knowledge of sources or sinks.

pub mod beginning;
pub mod cells;
pub mod change;
pub mod counts;
pub mod dedup;
pub mod entry;
pub mod epoch;
pub mod graph;
pub mod groups;
pub mod key;
pub mod latest;
pub mod lookup;
pub mod measure;
mod merge;
pub mod rows;
mod stash;
pub mod state;
pub mod stored;
pub mod table;
pub mod tally;
pub mod tick;
mod turns;
