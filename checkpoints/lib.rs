//! Where storeflow's state is between two runs.
//!
//! ```text
//! changed state of a worker ──► object (blocks by shard) ─┐                     ┌─► load: any number of workers
//! compaction: several objects ─► one ─────────────────────┴─► manifest n+1 ─────┴─► collection of what nobody names
//! ```
//!
//! Absent on purpose: threads, clocks, networks, and any knowledge of what keys and values hold.

mod block;
pub mod chain;
mod column;
pub mod damage;
mod file;
pub mod load;
pub mod merge;
pub mod object;
pub mod objects;
