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
pub mod collect;
mod column;
pub mod commit;
pub mod damage;
pub mod error;
mod file;
mod last;
pub mod load;
pub mod log;
#[cfg(test)]
mod log_tests;
pub mod manifest;
pub mod merge;
pub mod names;
pub mod object;
#[cfg(test)]
mod object_tests;
pub mod objects;
#[cfg(test)]
mod simulation;
mod sizes;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
