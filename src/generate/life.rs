//! The life of a row: when it is created, changed and deleted, and in which order all rows' changes are committed.
//!
//! Upholds: a life is drawn from the row's own dice, so it can be drawn again at each of its steps instead of being kept;
//! steps are in order, none later than the end by more than a few milliseconds; the schedule gives changes in commit order.
//! Keeps: one [`Due`] per row with a step to come.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;

use super::random::{Dice, Share};
use super::traffic::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use super::{Counts, Shares};

/// What happens to a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// It appears.
    Create,
    /// A value changes.
    Change,
    /// It moves to another store.
    Move,
    /// It is refunded.
    Refund,
    /// It goes.
    Delete,
}

/// How soon things happen to a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tempo {
    /// Paid within minutes, refunded within a day.
    Order,
    /// At any time until the end, as products on a shelf.
    Shelf,
}

/// The steps of one row, in order.
pub(super) struct Life {
    steps: [(i64, Step); 5],
    count: usize,
}

impl Life {
    /// Draws the life of a row created at `created_ms`; steps that would lie at or after `end_ms` are brought forward.
    pub(super) fn draw(dice: &mut Dice, tempo: Tempo, created_ms: i64, end_ms: i64, shares: &Shares) -> Life {
        let refunds = if tempo == Tempo::Order { shares.refunds } else { Share::ZERO };
        let later = [
            (shares.updates, Step::Change, 2 * SECOND_MS, 5 * MINUTE_MS),
            (shares.store_moves, Step::Move, 10 * MINUTE_MS, 6 * HOUR_MS),
            (refunds, Step::Refund, 20 * MINUTE_MS, DAY_MS),
            (shares.deletes, Step::Delete, 5 * MINUTE_MS, DAY_MS),
        ];
        let mut life = Life { steps: [(created_ms, Step::Create); 5], count: 1 };
        let mut at_ms = created_ms;
        for (share, step, least_ms, most_ms) in later {
            if !dice.hits(share) {
                continue;
            }
            let left_ms = (end_ms - 1 - at_ms).max(1);
            let delay_ms = match tempo {
                Tempo::Order => dice.between(least_ms, most_ms),
                Tempo::Shelf => dice.between(1, left_ms),
            };
            at_ms += if delay_ms <= left_ms { delay_ms } else { 1 + delay_ms % left_ms };
            life.steps[life.count] = (at_ms, step);
            life.count += 1;
        }
        life
    }

    /// The steps up to and including the `last`-th.
    pub(super) fn until(&self, last: u8) -> &[(i64, Step)] {
        &self.steps[..=usize::from(last)]
    }

    /// The `nth` step.
    pub(super) fn step(&self, nth: u8) -> Step {
        self.steps[usize::from(nth)].1
    }

    /// Whether there is such a step in it.
    pub(super) fn has(&self, step: Step) -> bool {
        self.steps[..self.count].iter().any(|(_, other)| *other == step)
    }

    /// When the `nth` step is due, if there is one.
    pub(super) fn due_ms(&self, nth: u8) -> Option<i64> {
        self.steps[..self.count].get(usize::from(nth)).map(|(at_ms, _)| *at_ms)
    }
}

/// A step of a row that is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Due {
    /// When it is committed.
    pub(super) at_ms: i64,
    /// The row's number.
    pub(super) row: u64,
    /// When the row was created: what its life is drawn from.
    pub(super) created_ms: i64,
    /// Which step of its life, counted from the creation as 0.
    pub(super) step: u8,
}

/// All steps of all rows in commit order: rows being created, merged with later steps of those that were.
pub(super) struct Schedule<I: Iterator<Item = (u64, i64)>> {
    creations: Peekable<I>,
    later: BinaryHeap<Reverse<Due>>,
}

impl<I: Iterator<Item = (u64, i64)>> Schedule<I> {
    /// Rows with these numbers are created at these instants, which are in order.
    pub(super) fn new(creations: I) -> Self {
        Schedule { creations: creations.peekable(), later: BinaryHeap::new() }
    }

    /// Enters the step after `due`, if its row has one.
    pub(super) fn enter_next(&mut self, due: Due, life: &Life) {
        let step = due.step + 1;
        if let Some(at_ms) = life.due_ms(step) {
            self.later.push(Reverse(Due { at_ms, step, ..due }));
        }
    }
}

impl<I: Iterator<Item = (u64, i64)>> Iterator for Schedule<I> {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        let later_ms = self.later.peek().map(|Reverse(due)| due.at_ms);
        let create = self.creations.next_if(|(_, at_ms)| later_ms.is_none_or(|later_ms| *at_ms <= later_ms));
        match create {
            Some((row, at_ms)) => Some(Due { at_ms, row, created_ms: at_ms, step: 0 }),
            None => self.later.pop().map(|Reverse(due)| due),
        }
    }
}

/// How far before its creation or arrival the event of a row or click was.
#[derive(Clone, Copy)]
pub(super) enum Delay {
    /// Not at all.
    None,
    /// Seconds or minutes: what other events have overtaken.
    OutOfOrder(i64),
    /// Longer than a window and its grace.
    Late(i64),
    /// Longer than a window and its retention.
    Expired(i64),
}

impl Delay {
    /// Draws it; `late` alone may be forbidden.
    pub(super) fn draw(dice: &mut Dice, shares: &Shares, late_allowed: bool) -> Delay {
        let late = dice.hits(shares.late);
        let out_of_order = dice.hits(shares.out_of_order);
        if late && late_allowed {
            if dice.below(8) == 0 {
                Delay::Expired(dice.between(49 * HOUR_MS, 5 * DAY_MS))
            } else {
                Delay::Late(dice.between(35 * MINUTE_MS, 6 * HOUR_MS))
            }
        } else if out_of_order {
            let most_ms = dice.weighted(&[(3, 5 * SECOND_MS), (2, MINUTE_MS), (1, 10 * MINUTE_MS)]);
            Delay::OutOfOrder(dice.between(1, most_ms))
        } else {
            Delay::None
        }
    }

    /// In milliseconds.
    pub(super) fn ms(self) -> i64 {
        match self {
            Delay::None => 0,
            Delay::OutOfOrder(ms) | Delay::Late(ms) | Delay::Expired(ms) => ms,
        }
    }

    /// Counts a row or click created with it.
    pub(super) fn count(self, counts: &mut Counts) {
        match self {
            Delay::None => {}
            Delay::OutOfOrder(_) => counts.out_of_order += 1,
            Delay::Late(_) => counts.late += 1,
            Delay::Expired(_) => {
                counts.late += 1;
                counts.expired += 1;
            }
        }
    }
}
