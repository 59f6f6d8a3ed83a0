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
    /// What was decided before grace or retention were changed stays decided.
    pub before: Before,
}

/// Grace and retention of a job up to an instant, from which on it has others. Windows that were closed or expired by then have been
/// since; all others close and expire by what holds now, but not before that instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The as-of of the change, milliseconds of log time; 0: there was none.
    pub until: u64,
    /// Milliseconds.
    pub grace: u64,
    /// Milliseconds.
    pub retention: u64,
}

impl Before {
    /// Nothing was ever changed.
    pub const NOTHING: Before = Before { until: 0, grace: 0, retention: 0 };
}

impl Horizons {
    /// Another grace and another retention from an as-of on, which is not before that of the last change.
    pub fn changed(self, grace: u64, retention: u64, at: u64) -> Horizons {
        let Before { until, grace: old_grace, retention: old_retention } = self.before;
        // A window was over by then if it was by the last change or, from the first instant that one let windows be over, by what has held
        // since: the later of two ends.
        let either = |old: u64, now: u64, from: u64| match until {
            0 => now,
            _ if at < from => at - until + old,
            _ => now.min(at - until + old),
        };
        let before = Before {
            until: at,
            grace: either(old_grace, self.grace, self.epoch_after(until)),
            retention: either(old_retention, self.retention, until + 1),
        };
        Horizons { grace, retention, before, ..self }
    }

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
    #[inline]
    pub fn own_epoch(&self, window: Window) -> u64 {
        let Before { until, grace, .. } = self.before;
        let epoch = self.end(window) + self.grace;
        match until {
            0 => epoch,
            _ if self.end(window) + grace <= until => self.end(window) + grace,
            _ => epoch.max(self.epoch_after(until)),
        }
    }
    /// Whether the window is closed at a stamp or as-of.
    #[inline]
    pub fn closed(&self, window: Window, at: u64) -> bool {
        window != NO_WINDOW && self.own_epoch(window) <= at
    }
    /// The instant the window expires; `None` without a window.
    #[inline]
    pub fn expiry(&self, window: Window) -> Option<u64> {
        (window != NO_WINDOW).then(|| self.expires(window))
    }
    /// Whether the window is expired at a stamp or as-of.
    #[inline]
    pub fn expired(&self, window: Window, at: u64) -> bool {
        window != NO_WINDOW && self.expires(window) <= at
    }
    #[inline]
    fn expires(&self, window: Window) -> u64 {
        self.over(self.end(window))
    }
    /// The instant at which the retention of what ends at `end` is over.
    #[inline]
    fn over(&self, end: u64) -> u64 {
        let Before { until, retention, .. } = self.before;
        let over = end + self.retention;
        match until {
            0 => over,
            _ if end + retention <= until => end + retention,
            _ => over.max(until + 1),
        }
    }
    /// The instant at which a row without an event time of its own is forgotten, if it last changed at `since`.
    pub fn forgotten_elsewhere(&self, since: u64) -> u64 {
        self.over(since + self.window + self.replay_horizon)
    }
    /// The epoch that brings an expired window's last corrections into history, after which nothing of it is kept; `None` without a
    /// window.
    pub fn dropped(&self, window: Window) -> Option<u64> {
        let epoch = self.epoch_from(self.expiry(window)?);
        // Corrections from before a change come with the first epoch after it.
        Some(if self.before.until == 0 { epoch } else { epoch.max(self.epoch_after(self.before.until)) })
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
        let h = Horizons {
            window: 30 * minute,
            grace: 2 * minute,
            retention: 60 * minute,
            replay_horizon: 0,
            before: Before::NOTHING,
        };
        assert_eq!(h.epoch_from(0), 2 * minute);
        assert_eq!(h.epoch_from(2 * minute), 2 * minute);
        assert_eq!(h.epoch_after(2 * minute), 32 * minute);
        assert_eq!(h.own_epoch(30 * minute as i64), 62 * minute);
        let long = Horizons { grace: 70 * minute, ..h };
        assert_eq!(long.epoch_from(0), 10 * minute);
        assert_eq!(long.epoch_from(11 * minute), 40 * minute);
    }

    #[test]
    fn a_change_leaves_alone_what_was_decided() {
        let minute = 60_000;
        let first = Horizons {
            window: 10 * minute,
            grace: 3 * minute,
            retention: 60 * minute,
            replay_horizon: 0,
            before: Before::NOTHING,
        };
        let windows = || (0..60).map(|number| number * 10 * minute as i64);
        let mut now = first;
        // Longer, shorter, there and back, at instants on no epoch.
        for (at, grace, retention) in [(101, 17, 200), (140, 0, 30), (141, 5, 90), (300, 0, 10)] {
            let at = at * minute + 7_000;
            let next = now.changed(grace * minute, retention * minute, at);
            for window in windows() {
                assert_eq!(next.closed(window, at), now.closed(window, at), "window {window} at {at}");
                assert_eq!(next.expired(window, at), now.expired(window, at), "window {window} at {at}");
                if now.closed(window, at) {
                    assert_eq!(next.own_epoch(window) <= at, now.own_epoch(window) <= at);
                } else {
                    let epoch = next.own_epoch(window);
                    assert!(epoch > at && epoch == next.epoch_from(epoch), "a window to be closed is, at an epoch to come");
                }
                let later = (at..at + 400 * minute).step_by(77_777);
                assert!(later.clone().map(|at| next.closed(window, at)).is_sorted(), "what is closed stays closed");
                assert!(later.map(|at| next.expired(window, at)).is_sorted(), "what is expired stays expired");
                assert!(next.dropped(window).is_some_and(|dropped| dropped > at || now.dropped(window) <= Some(at)));
            }
            now = next;
        }
    }
}
