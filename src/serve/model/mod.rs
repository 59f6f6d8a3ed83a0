//! The answers of `docs/api.md` as types, and how they follow from what a view gives.
//!
//! Upholds: (1) nothing here reads a clock or a view: numbers, as-of and wall time come in as data; (2) money is text made by the
//! function that `export` uses; (3) the names and the order of fields are a public interface.

mod all_stores;
mod freshness;
mod status;
mod store;

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

pub use all_stores::{TopAnswer, TopStore, TopWindow, TotalsAnswer, WindowTotalsAnswer, top, totals};
pub use freshness::{Fresh, FreshState, SourceFresh, fresh, state};
pub use status::{CheckpointAnswer, DeadLetterCount, ProcessAnswer, ProcessState, StatusAnswer, TopicAnswer, status};
pub use store::{
    ClickCount, Clicks, Payment, PaymentSum, Sales, StoreAnswer, StoreNow, StoresAnswer, Sums, Today, WindowAnswer,
    WindowsAnswer, store_now, windows,
};

use crate::publish::time::instant;

/// An instant of RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-25T05:30:00Z")]
pub struct Instant(
    /// Milliseconds since 1970.
    pub i64,
);

impl Instant {
    /// Of milliseconds.
    pub fn of(ms: u64) -> Instant {
        Instant(i64::try_from(ms).unwrap_or(i64::MAX))
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&instant(self.0))
    }
}

/// An answer as it is sent.
pub fn json<T: Serialize>(answer: &T) -> Vec<u8> {
    // Texts, whole numbers and finite ages: none of it can be refused.
    serde_json::to_vec(answer).expect("an answer is JSON")
}

/// Seconds from one instant to another, both in milliseconds; 0 if it is not later.
fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1_000.0
}
