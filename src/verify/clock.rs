//! The clock of a partition: record timestamps to stamps.

/// A jump further ahead than this needs confirmation.
const JUMP: u64 = 3_600_000;
/// Records ahead of the clock, without one near it between them, that confirm a jump; and those that set a clock at first.
pub(super) const CONFIRMATIONS: usize = 101;

/// A partition's clock.
#[derive(Debug)]
pub(super) struct Clock {
    now: u64,
    /// Timestamps far ahead since the last one that was not.
    ahead: Vec<u64>,
}

impl Clock {
    /// A clock that starts at the smallest of the timestamps of a partition's first [`CONFIRMATIONS`] records.
    pub(super) fn starting(first: impl Iterator<Item = Option<u64>>) -> Self {
        Clock { now: first.flatten().min().unwrap_or(0), ahead: Vec::new() }
    }

    /// Moves the clock by a record's timestamp. Returns the record's stamp, and whether the clock jumped.
    pub(super) fn stamp(&mut self, timestamp: Option<u64>) -> (u64, bool) {
        let mut jumped = false;
        if let Some(timestamp) = timestamp {
            if timestamp <= self.now + JUMP {
                self.ahead.clear();
                self.now = self.now.max(timestamp);
            } else {
                self.ahead.push(timestamp);
                if self.ahead.len() == CONFIRMATIONS {
                    self.now = self.ahead.drain(..).min().unwrap_or(self.now);
                    jumped = true;
                }
            }
        }
        (self.now, jumped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn an_hour_ahead_is_followed_and_a_millisecond_more_is_not() {
        let mut clock = Clock::starting([Some(10), None].into_iter());
        assert_eq!(clock.stamp(None), (10, false));
        assert_eq!(clock.stamp(Some(5)), (10, false));
        assert_eq!(clock.stamp(Some(10 + HOUR + 1)), (10, false));
        assert_eq!(clock.stamp(Some(10 + HOUR)), (10 + HOUR, false));
    }

    #[test]
    fn a_jump_is_confirmed_by_101_records_and_goes_to_the_least() {
        let mut clock = Clock::starting([Some(10)].into_iter());
        for ahead in 0..100 {
            assert_eq!(clock.stamp(Some(9 * HOUR + 100 - ahead)), (10, false));
            assert_eq!(clock.stamp(None), (10, false), "a record without timestamp does not disturb");
        }
        assert_eq!(clock.stamp(Some(20 * HOUR)), (9 * HOUR + 1, true));
        assert_eq!(clock.stamp(Some(20 * HOUR)), (9 * HOUR + 1, false));
    }

    #[test]
    fn a_record_near_the_clock_forgets_the_jump() {
        let mut clock = Clock::starting([Some(10)].into_iter());
        for _ in 0..100 {
            clock.stamp(Some(9 * HOUR));
        }
        assert_eq!(clock.stamp(Some(3)), (10, false));
        for _ in 0..100 {
            assert_eq!(clock.stamp(Some(9 * HOUR)), (10, false));
        }
        assert_eq!(clock.stamp(Some(9 * HOUR)), (9 * HOUR, true));
    }

    #[test]
    fn without_timestamps_a_clock_starts_at_zero() {
        let mut clock = Clock::starting([None, None].into_iter());
        assert_eq!(clock.stamp(None), (0, false));
        assert_eq!(clock.stamp(Some(HOUR + 1)), (0, false));
        assert_eq!(clock.stamp(Some(HOUR)), (HOUR, false));
    }
}
