//! Ticks: how stamps are rounded to log time.
//!
//! Fine ticks are dear (each costs a round of progress tracking and a pass over what it touched), coarse ones are late. So the
//! tick follows volume: nested steps, each a multiple of the finer one, all aligned to epochs, finest one second, coarsest the
//! window. A step is made finer at any time, coarser only on a boundary of the coarser step: times sent before stay valid.
//!
//! Upholds: rounding is down and monotone; every boundary of a coarser step is one of each finer step; every epoch is a boundary.

const SECOND: u64 = 1_000;

/// The nested steps of a job.
#[derive(Clone, Debug)]
pub struct Ladder {
    /// Boundaries are `phase + k * step`.
    phase: u64,
    /// Steps in milliseconds, ascending, each dividing the next.
    steps: Vec<u64>,
}

impl Ladder {
    /// Steps from one second to the window. Both in milliseconds: `window` whole minutes, `grace` whole minutes.
    pub fn new(window: u64, grace: u64) -> Self {
        let mut steps = vec![SECOND];
        for step in [5, 10, 30, 60, 300, 600, 1800, 3600].map(|s| s * SECOND) {
            if step <= window && window % step == 0 && step % steps[steps.len() - 1] == 0 {
                steps.push(step);
            }
        }
        if steps[steps.len() - 1] != window {
            steps.push(window);
        }
        Ladder { phase: grace % window, steps }
    }

    /// The steps, milliseconds, ascending.
    pub fn steps(&self) -> &[u64] {
        &self.steps
    }

    /// Rounds a stamp down to a boundary of `step`. Stamps before the first boundary round to 0.
    #[inline]
    pub fn floor(&self, stamp: u64, step: u64) -> u64 {
        let phase = self.phase % step;
        match stamp.checked_sub(phase) {
            Some(past) => phase + past - past % step,
            None => 0,
        }
    }

    /// Whether `time` is a boundary of `step`.
    pub fn is_boundary(&self, time: u64, step: u64) -> bool {
        self.floor(time, step) == time
    }
}

/// Picks the step of one worker by the volume it sees.
#[derive(Clone, Debug)]
pub struct Picker {
    ladder: Ladder,
    at: usize,
    finest: usize,
    coarsest: usize,
    target: u64,
    updates: u64,
}

impl Picker {
    /// Starts fine and aims at `target` updates per tick, never coarser than `coarsest` milliseconds.
    pub fn adaptive(ladder: Ladder, target: u64, coarsest: u64) -> Self {
        let coarsest = ladder.steps.iter().rposition(|&step| step <= coarsest).unwrap_or(0);
        Picker { ladder, at: 0, finest: 0, coarsest, target, updates: 0 }
    }

    /// Always the same step, which must be one of the ladder's.
    pub fn fixed(ladder: Ladder, step: u64) -> Option<Self> {
        let at = ladder.steps.iter().position(|&s| s == step)?;
        Some(Picker { ladder, at, finest: at, coarsest: at, target: u64::MAX, updates: 0 })
    }

    /// The current step, milliseconds.
    pub fn step(&self) -> u64 {
        self.ladder.steps[self.at]
    }

    /// The log time of a stamp.
    #[inline]
    pub fn floor(&self, stamp: u64) -> u64 {
        self.ladder.floor(stamp, self.ladder.steps[self.at])
    }

    /// Counts updates of the current tick; a tick that grows to four times the target makes the step finer at once.
    pub fn count(&mut self, updates: u64) {
        self.updates += updates;
        if self.updates > self.target.saturating_mul(4) && self.at > self.finest {
            self.at -= 1;
            self.updates = 0;
        }
    }

    /// A tick ended and log time is now `time`, the least that any later record can have: takes the next coarser step if
    /// the ended tick was small and `time` is one of its boundaries.
    pub fn ended(&mut self, time: u64) {
        let small = self.updates < self.target;
        self.updates = 0;
        if small && self.at < self.coarsest && self.ladder.is_boundary(time, self.ladder.steps[self.at + 1]) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_nest_and_hold_every_epoch() {
        for window_minutes in [1u64, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60] {
            for grace_minutes in [0u64, 1, 2, 7, 45, 90] {
                let (window, grace) = (window_minutes * 60_000, grace_minutes * 60_000);
                let ladder = Ladder::new(window, grace);
                assert_eq!(*ladder.steps().last().expect("has steps"), window);
                for pair in ladder.steps().windows(2) {
                    assert_eq!(pair[1] % pair[0], 0, "{:?}", ladder.steps());
                }
                for epoch in (0..5).map(|k| grace % window + k * window) {
                    assert!(ladder.steps().iter().all(|&step| ladder.is_boundary(epoch, step)));
                }
            }
        }
    }

    #[test]
    fn a_finer_step_never_rounds_below_a_coarser_one() {
        let ladder = Ladder::new(1_800_000, 120_000);
        for stamp in (0..10_000_000).step_by(77_777) {
            let floors: Vec<u64> = ladder.steps().iter().map(|&step| ladder.floor(stamp, step)).collect();
            assert!(floors.is_sorted_by(|fine, coarse| fine >= coarse), "{stamp}: {floors:?}");
        }
    }
}
