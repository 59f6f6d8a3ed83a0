//! The query API and the dashboard: the view's numbers over HTTP. What is asked and answered is a public interface, described
//! in `docs/api.md`.
//!
//! ```text
//! request ─► server ─► request id, log, limits ─► admission (keys, rate) ─► routes ─► View ─► model ─► JSON
//!            (HTTP/1.1 and 2)                                                 │
//!                                     view::memory (run --serve), view::files (a finished run), view::redis
//! ```
//!
//! Upholds: (1) whoever asks holds a worker up for as long as one store's cells take to copy at most, but for lists of the best, which look
//! through a table's cells of one window, on as few threads as answer; (2) an answer about one store is one cut, and says of which as-of; (3) money never passes through a float; (4) every error is a
//! [`problem::Problem`] with a code of the documented list.
//! Absent on purpose: TLS, which a load balancer ends, and anything that writes.

pub mod admission;
pub mod api;
pub mod calendar;
pub mod dashboard;
pub mod keys;
#[cfg(feature = "lambda")]
pub mod lambda;
pub mod limits;
pub mod model;
pub mod origins;
pub mod problem;
pub mod server;
pub mod view;

mod answers;
mod bounds;
mod descriptors;
mod openapi;
mod outer;
mod params;
mod routes;
mod stream;
#[cfg(test)]
pub(crate) mod testing;

pub use routes::router;
