//! What operators count on one worker, for the worker's loop to read: no number depends on any of it.

use std::cell::{Cell, RefCell};

use crate::change::{Order, Version};
use crate::key::Text;

/// What an operator counted on this worker; for logs and the summary.
#[derive(Debug, Default)]
pub struct Counts {
    /// Changes older than what is stored.
    pub stale: Cell<u64>,
    /// Contributions that reached a closed window.
    pub corrections: Cell<u64>,
    /// Contributions that reached an expired window.
    pub late: Cell<u64>,
    /// Clicks that were told before.
    pub duplicates: Cell<u64>,
    /// Entries (rows and markers, groups, event ids) kept.
    pub entries: Cell<u64>,
    /// Bytes allocated for them.
    pub bytes: Cell<u64>,
    /// Rows that wait for the row they refer to.
    pub waiting: Cell<u64>,
    /// About when the oldest of them last changed, milliseconds of log time; 0: none waits.
    pub waiting_since: Cell<u64>,
    /// How much more often of late a fresh change was older than what is stored than not.
    score: Cell<u32>,
    stepped_back: RefCell<Option<SteppedBack>>,
}

/// So many fresh changes that are stale, less those that are not, and the source's positions have jumped back.
const SCORE_MAX: u32 = 100;

/// A source whose positions go on from before where they were: its newest changes would be ignored as if they were replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct SteppedBack {
    /// The partition it was noticed in, by its index in the job's list.
    pub partition: u32,
    /// The row's key.
    pub key: Text,
    /// What its newest change says.
    pub found: Version,
    /// What is stored.
    pub stored: Version,
}

impl Counts {
    /// One more of something.
    pub(crate) fn bump(counter: &Cell<u64>) {
        counter.set(counter.get() + 1);
    }

    /// A fresh change is older than what is stored.
    pub(crate) fn went_back(&self, order: Order, key: &[u8], found: Version, stored: Version) {
        let score = (self.score.get() + 1).min(SCORE_MAX);
        self.score.set(score);
        if score == SCORE_MAX {
            let partition = order.partition;
            self.stepped_back.borrow_mut().get_or_insert_with(|| SteppedBack { partition, key: Text::new(key), found, stored });
        }
    }

    /// A fresh change could be held against what is stored, and is not older.
    pub(crate) fn went_on(&self) {
        self.score.set(self.score.get().saturating_sub(1));
    }

    /// Takes the news that a source's positions have jumped back.
    pub fn stepped_back(&self) -> Option<SteppedBack> {
        self.stepped_back.borrow_mut().take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Position;

    #[test]
    fn a_run_of_stale_changes_is_told_and_a_mixture_is_not() {
        let version = |at| Version { incarnation: 1, server: 0, position: Position(0, at, 0) };
        let order = Order { stamp: 5, partition: 3, position: 9, part: 0 };
        let counts = Counts::default();
        for _ in 0..10_000 {
            counts.went_back(order, b"row", version(1), version(2));
            counts.went_on();
        }
        assert_eq!(counts.stepped_back(), None);
        for _ in 0..SCORE_MAX - 1 {
            counts.went_back(order, b"row", version(1), version(2));
        }
        assert_eq!(counts.stepped_back(), None);
        counts.went_back(order, b"last", version(3), version(4));
        let expected = SteppedBack { partition: 3, key: Text::new(b"last"), found: version(3), stored: version(4) };
        assert_eq!(counts.stepped_back(), Some(expected));
    }
}
