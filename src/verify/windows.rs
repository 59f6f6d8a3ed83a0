//! Windows and epochs. Written out again, not taken from the dataflow.

use crate::config::Job;

/// The lengths of the job, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    window: u64,
    grace: u64,
    retention: u64,
    /// How long deleted and forgotten rows leave a marker.
    pub(super) replay_horizon: u64,
}

impl Windows {
    /// Those of `job`.
    pub(super) fn of(job: &Job) -> Self {
        let horizons = job.horizons;
        let (window, grace, retention) = (horizons.window, horizons.grace, horizons.retention);
        Windows { window, grace, retention, replay_horizon: horizons.replay_horizon }
    }

    /// The length of a window.
    pub(super) fn length(&self) -> u64 {
        self.window
    }

    /// How long a window can be corrected.
    pub(super) fn retention(&self) -> u64 {
        self.retention
    }

    /// Start of the window of an event time.
    pub(super) fn start(&self, event_time: u64) -> u64 {
        event_time / self.window * self.window
    }

    /// The epoch of a window: its end and grace.
    pub(super) fn own_epoch(&self, start: u64) -> u64 {
        start + self.window + self.grace
    }

    /// When a window expires.
    pub(super) fn expiry(&self, start: u64) -> u64 {
        start + self.window + self.retention
    }

    /// The epoch of a stamp: the least k * window + grace (any whole k) greater than it.
    pub(super) fn epoch_of(&self, stamp: u64) -> u64 {
        let first = self.grace % self.window;
        if stamp < first { first } else { first + ((stamp - first) / self.window + 1) * self.window }
    }
}

#[cfg(test)]
mod tests {
    use super::Windows;

    #[test]
    fn epochs_follow_stamps() {
        let windows = Windows { window: 30, grace: 2, retention: 100, replay_horizon: 0 };
        for (stamp, epoch) in [(0, 2), (1, 2), (2, 32), (31, 32), (32, 62)] {
            assert_eq!(windows.epoch_of(stamp), epoch, "{stamp}");
        }
        assert_eq!((windows.start(59), windows.own_epoch(30), windows.expiry(30)), (30, 62, 160));
        let long = Windows { grace: 70, ..windows };
        for (stamp, epoch) in [(0, 10), (9, 10), (10, 40)] {
            assert_eq!(long.epoch_of(stamp), epoch, "{stamp}");
        }
        let none = Windows { grace: 0, ..windows };
        for (stamp, epoch) in [(0, 30), (29, 30), (30, 60)] {
            assert_eq!(none.epoch_of(stamp), epoch, "{stamp}");
        }
    }
}
