//! What databases did, and how every dialect tells it.
//!
//! ```text
//! steps ──► what happened (truth): rows, changes of them in transactions ──► entries of a log: again after restarts, snapshots
//!                 │                                                               │
//!                 └──► the sums by a plain fold (fold)          a dialect (render) ──► files of a dataset, and the job that reads them (job)
//! ```
//!
//! Everything is kept as small numbers until it is rendered, so that proptest shrinks a failure to the few that matter.

pub(crate) mod damage;
pub(crate) mod fold;
pub(crate) mod job;
pub(crate) mod render;
pub(crate) mod setting;
pub(crate) mod truth;
