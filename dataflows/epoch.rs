//! Windows, grace, retention and epochs: arithmetic on log time, in one place.

use serde::{Deserialize, Serialize};

use crate::table::{NO_WINDOW, Window};

/// The job's lengths of time, all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Horizons {
    /// Length of a window; divides the hour.
    pub window: u64,
    /// A window closes this long after its end; whole minutes.
    pub grace: u64,
    /// A window expires this long after its end.
    pub retention: u64,
    /// How long deleted and forgotten rows leave a marker, and how long past their last change rows are kept at least.
    pub replay_horizon: u64,
}

impl Horizons {
    /// The window of an event time (milliseconds, not negative).
    #[inline]
    pub fn window_of(&self, event_time: u64) -> Window {
        (event_time - event_time % self.window) as Window
    }
    /// The first instant after the window.
    pub fn end(&self, window: Window) -> u64 {
        window as u64 + self.window
    }
    /// The window's own epoch: its end and grace.
    pub fn own_epoch(&self, window: Window) -> u64 {
        self.end(window) + self.grace
    }
    /// Whether the window is closed at a stamp or as-of.
    #[inline]
    pub fn closed(&self, window: Window, at: u64) -> bool {
        window != NO_WINDOW && self.own_epoch(window) <= at
    }
    /// The instant the window expires; `None` without a window.
    #[inline]
    pub fn expiry(&self, window: Window) -> Option<u64> {
        (window != NO_WINDOW).then(|| self.end(window) + self.retention)
    }
    /// Whether the window is expired at a stamp or as-of.
    #[inline]
    pub fn expired(&self, window: Window, at: u64) -> bool {
        window != NO_WINDOW && self.end(window) + self.retention <= at
    }
    /// The least epoch not before `at`.
    pub fn epoch_from(&self, at: u64) -> u64 {
        match at.checked_sub(self.grace) {
            None => self.grace % self.window + (at.saturating_sub(self.grace % self.window)).div_ceil(self.window) * self.window,
            Some(past) => self.grace + past.div_ceil(self.window) * self.window,
        }
    }
    /// The least epoch after `at`: where a record with this stamp is first in history.
    pub fn epoch_after(&self, at: u64) -> u64 {
        self.epoch_from(at + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_window_ends_and_grace() {
        let minute = 60_000;
        let h = Horizons { window: 30 * minute, grace: 2 * minute, retention: 60 * minute, replay_horizon: 0 };
        assert_eq!(h.epoch_from(0), 2 * minute);
        assert_eq!(h.epoch_from(2 * minute), 2 * minute);
        assert_eq!(h.epoch_after(2 * minute), 32 * minute);
        assert_eq!(h.own_epoch(30 * minute as i64), 62 * minute);
        let long = Horizons { grace: 70 * minute, ..h };
        assert_eq!(long.epoch_from(0), 10 * minute);
        assert_eq!(long.epoch_from(11 * minute), 40 * minute);
    }
}
