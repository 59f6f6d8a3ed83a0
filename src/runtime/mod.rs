//! Runs a job: workers, their dataflow, and the order in which what they computed is shown.
//!
//! ```text
//! run, replay ─► workers (timely) ── staged, per as-of ──► publisher: view, history, Redis
//!    ▲ cluster      ▲ partitions, state   │ durable          ▲ once it is committed
//! launch (several processes of run)       └─► checkpointer ──┘
//! ```

mod checkpoint_span;
pub mod checkpointer;
pub mod cluster;
pub mod dead_share;
pub mod durable;
mod latency;
pub mod launch;
pub mod publisher;
pub mod replay;
pub mod run;
pub mod setting;
mod stage;
pub mod stepped_back;
mod worker;
pub mod workers;

pub use latency::Latencies;
