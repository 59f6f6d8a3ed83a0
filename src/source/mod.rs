//! Where records come from, and when: partitions, log clocks, alignment.
//!
//! ```text
//! kafka (partition queues) ──────────┐  ┌─ schemas of Avro records: registry, on a thread of its own
//! dataset ─► lines ─► kcat envelope ─► decode ─► log clock ─► tick: clicks combined, changes collected ─► dataflow
//! ```

#[cfg(feature = "replay-cache")]
pub mod cache;
pub mod clock;
pub mod dataset;
pub mod envelope;
pub mod feed;
pub mod kafka;
pub mod key_space;
pub mod lines;
pub mod names;
pub mod operator;
pub mod partition;
pub mod registry;
pub mod resume;

mod secrets;
