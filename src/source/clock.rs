//! Log clocks: how the record timestamps of a partition become stamps.
//!
//! Upholds: stamps never go back within a partition, so a cut in log time is one position per partition; one record with a
//! clock far ahead (a device in 2099) moves nothing, 101 in a row do.

use serde::{Deserialize, Serialize};

/// A jump further ahead than this, in milliseconds, must be confirmed.
const JUMP: u64 = 3_600_000;
/// Records in a row that make a jump count: the first and a hundred further ones.
const CONFIRMATIONS: u32 = 101;

/// Records looked at for where a clock starts.
pub const START_RECORDS: usize = 101;

/// The running maximum of a partition's record timestamps, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogClock {
    now: u64,
    /// Records in a row that are far ahead, and the least timestamp among them.
    pending: u32,
    pending_least: u64,
    jumps: u64,
}

impl LogClock {
    /// A clock that starts at the least timestamp among a partition's first [`START_RECORDS`] records.
    pub fn starting_at(least: Option<u64>) -> Self {
        LogClock { now: least.unwrap_or(0), ..LogClock::default() }
    }

    /// The clock of records that were stamped before, and that confirmed so many jumps.
    #[cfg(feature = "replay-cache")]
    pub(super) fn replayed(start: u64, jumps: u64) -> Self {
        LogClock { now: start, jumps, ..LogClock::default() }
    }

    /// Goes to the stamp of such a record.
    #[cfg(feature = "replay-cache")]
    #[inline]
    pub(super) fn show(&mut self, stamp: u64) {
        self.now = stamp;
    }

    /// The stamp of a record: moves the clock by its timestamp, then reads it.
    #[inline]
    pub fn stamp(&mut self, timestamp: Option<u64>) -> u64 {
        if let Some(timestamp) = timestamp {
            if timestamp <= self.now.saturating_add(JUMP) {
                self.pending = 0;
                self.now = self.now.max(timestamp);
            } else {
                self.pending_least = if self.pending == 0 { timestamp } else { self.pending_least.min(timestamp) };
                self.pending += 1;
                if self.pending == CONFIRMATIONS {
                    self.now = self.pending_least;
                    self.pending = 0;
                    self.jumps += 1;
                }
            }
        }
        self.now
    }

    /// Moves the clock without a record: nothing before `time` is missing.
    pub fn pass(&mut self, time: u64) {
        if time > self.now {
            self.now = time;
            self.pending = 0;
        }
    }

    /// All there is to it, in the order of [`LogClock::of_parts`].
    pub fn parts(&self) -> (u64, u32, u64, u64) {
        (self.now, self.pending, self.pending_least, self.jumps)
    }

    /// A clock as it was: what it shows, records of a jump not confirmed yet, the least timestamp among them, confirmed jumps.
    pub fn of_parts((now, pending, pending_least, jumps): (u64, u32, u64, u64)) -> Self {
        LogClock { now, pending, pending_least, jumps }
    }

    /// The clock.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Confirmed jumps so far.
    pub fn jumps(&self) -> u64 {
        self.jumps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn one_far_clock_moves_nothing_and_many_do() {
        let start = 1_000 * HOUR;
        let mut clock = LogClock::starting_at(Some(start));
        assert_eq!(clock.stamp(Some(start + HOUR)), start + HOUR);
        assert_eq!(clock.stamp(Some(start)), start + HOUR, "never back");
        assert_eq!(clock.stamp(Some(start + 50 * HOUR)), start + HOUR);
        assert_eq!(clock.stamp(None), start + HOUR);
        for i in 0..99 {
            assert_eq!(clock.stamp(Some(start + (40 + i) * HOUR)), start + HOUR);
        }
        assert_eq!(clock.jumps(), 0);
        assert_eq!(clock.stamp(Some(start + 60 * HOUR)), start + 40 * HOUR, "the least of the run");
        assert_eq!(clock.jumps(), 1);
    }

    #[test]
    fn wall_time_that_steps_back_moves_nothing() {
        let mut clock = LogClock::starting_at(Some(10 * HOUR));
        clock.pass(11 * HOUR);
        clock.pass(9 * HOUR);
        assert_eq!((clock.now(), clock.stamp(Some(10 * HOUR))), (11 * HOUR, 11 * HOUR));
    }

    #[test]
    fn a_clock_goes_on_from_where_it_stood() {
        let mut clock = LogClock::starting_at(Some(HOUR));
        (0..60).for_each(|_| assert!(clock.stamp(Some(100 * HOUR)) < 100 * HOUR));
        let mut other = LogClock::of_parts(clock.parts());
        for _ in 0..60 {
            assert_eq!(other.stamp(Some(101 * HOUR)), clock.stamp(Some(101 * HOUR)), "halfway through a jump, too");
        }
        assert_eq!(other, clock);
    }

    #[test]
    fn a_record_in_step_forgets_the_jump() {
        let mut clock = LogClock::starting_at(Some(HOUR));
        for _ in 0..10 {
            for _ in 0..100 {
                clock.stamp(Some(100 * HOUR));
            }
            assert_eq!(clock.stamp(Some(HOUR + 1)), HOUR + 1);
        }
        assert_eq!(clock.jumps(), 0);
    }
}
