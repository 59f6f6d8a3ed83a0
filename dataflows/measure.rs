//! The difference our collections carry: what a contribution adds to a cell.
//!
//! The accumulation lives in the difference, so a cell is one entry however many rows make it up.

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Semigroup};
use serde::{Deserialize, Serialize};

use crate::key::{Key, Text};
use crate::table::Window;

/// A sum and a count of rows or clicks; the difference type of contributions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Measure {
    /// Minor units of money, or items.
    pub sum: i128,
    /// Rows or clicks.
    pub count: i64,
}

impl IsZero for Measure {
    fn is_zero(&self) -> bool {
        self.sum == 0 && self.count == 0
    }
}
impl Semigroup for Measure {
    #[inline]
    fn plus_equals(&mut self, rhs: &Self) {
        self.sum += rhs.sum;
        self.count += rhs.count;
    }
}
impl Monoid for Measure {
    fn zero() -> Self {
        Measure::default()
    }
}
impl Abelian for Measure {
    fn negate(&mut self) {
        self.sum = -self.sum;
        self.count = -self.count;
    }
}

/// What contributes to a cell: the datum of a collection whose difference is a [`Measure`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Contribution {
    /// Window of event time, or `NO_WINDOW`.
    pub window: Window,
    /// Store and second part.
    pub cell: Key,
    /// The product where distinct ones are kept; empty text for none.
    pub member: Text,
}
