//! Where a partition would go on: for each tick that is not yet in a checkpoint, the place of its first record.
//!
//! Upholds: a record read again from such a place gets the stamp it had, as the clock goes on from where it stood before it.
//! Keeps: an entry per tick between the last checkpoint and what was read.

use std::collections::VecDeque;

use super::clock::LogClock;

/// A place in a partition, and the clock before the record there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Position of the next record of a log; number of the next line of a file.
    pub position: u64,
    /// `None`: no record has been read yet.
    pub clock: Option<LogClock>,
}

/// First places of ticks, ascending.
#[derive(Debug, Default)]
pub(super) struct Marks {
    ticks: VecDeque<(u64, Resume)>,
}

impl Marks {
    /// A record of `tick` is at `place`; the first of each tick counts.
    pub(super) fn mark(&mut self, tick: u64, place: Resume) {
        if self.ticks.back().is_none_or(|(last, _)| *last < tick) {
            self.ticks.push_back((tick, place));
        }
    }

    /// The first place that is not before `as_of`, if one was marked; as-ofs asked for must ascend.
    pub(super) fn at(&mut self, as_of: u64) -> Option<Resume> {
        while self.ticks.front().is_some_and(|(tick, _)| *tick < as_of) {
            self.ticks.pop_front();
        }
        self.ticks.front().map(|(_, place)| *place)
    }
}
