//! Runs a job: workers, their dataflow, and the order in which what they computed is shown.
//!
//! ```text
//! run, replay ─► workers (timely) ── staged, per as-of ──► publisher: view, history, Redis
//!    ▲ cluster      ▲ partitions                            (durable checkpoints will stand between the two, see ARCHITECTURE.md)
//! launch (several processes of run)
//! ```

pub mod cluster;
mod latency;
pub mod launch;
pub mod publisher;
pub mod replay;
pub mod run;
mod worker;
pub mod workers;

pub use latency::Latencies;
