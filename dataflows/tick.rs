//! Ticks: how stamps are rounded to log time.
//!
//! Fine ticks are dear (each costs a round of progress tracking and a pass over what it touched), coarse ones are late. So the
//! tick follows volume: nested steps, each a multiple of the finer one, all aligned to epochs, finest one second, coarsest the
//! window.
//!
//! Upholds: rounding is down and monotone; every boundary of a coarser step is one of each finer step; every epoch is a boundary.
//! **One [`Schedule`] holds for all workers**: if they rounded differently, a record rounded coarsely would show in an as-of
//! before its stamp, and changes of a key that comes from two partitions would apply out of order. So a change of step is
//! announced for a log time that nobody can have reached yet (see [`Pacemaker`]).

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
            if step <= window && window.is_multiple_of(step) && step.is_multiple_of(steps[steps.len() - 1]) {
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

/// Which step holds from which log time on; the same for all workers.
#[derive(Clone, Debug)]
pub struct Schedule {
    ladder: Ladder,
    /// (from, step), ascending; the first is from 0. Only the last few are kept.
    segments: Vec<(u64, u64)>,
    /// Another step may be announced.
    changes: bool,
    /// Where log time begins: no tick is before it, though a boundary of its step may be.
    origin: u64,
}

impl Schedule {
    /// One step for all times, until another is announced.
    pub fn new(ladder: Ladder, step: u64) -> Self {
        Schedule { ladder, segments: vec![(0, step)], changes: true, origin: 0 }
    }

    /// One step for all times.
    pub fn fixed(ladder: Ladder, step: u64) -> Self {
        Schedule { changes: false, ..Schedule::new(ladder, step) }
    }

    /// The same, with log time that begins at `origin`, milliseconds: everything before is done with.
    pub fn starting_at(self, origin: u64) -> Self {
        Schedule { origin, ..self }
    }

    /// The step that holds at a stamp, milliseconds.
    #[inline]
    pub fn step_at(&self, stamp: u64) -> u64 {
        let segment = self.segments.iter().rev().find(|(from, _)| *from <= stamp);
        segment.unwrap_or(&self.segments[0]).1
    }

    /// The log time of a stamp.
    #[inline]
    pub fn floor(&self, stamp: u64) -> u64 {
        self.ladder.floor(stamp, self.step_at(stamp)).max(self.origin)
    }

    /// The log time that a capability may have when the next record has stamp `next` and records are taken up to `ahead` only.
    ///
    /// Up to `ahead` nothing can change, so there it is the log time of the record. Beyond, the step may yet change; but a
    /// boundary of the coarsest step is one whatever is announced, and so a gap is crossed at once.
    pub fn reach(&self, next: u64, ahead: u64) -> u64 {
        if !self.changes {
            return self.floor(next);
        }
        let coarsest = self.ladder.steps[self.ladder.steps.len() - 1];
        self.floor(next.min(ahead)).max(self.ladder.floor(next, coarsest))
    }

    /// From `from` on, a boundary of both steps, `step` holds.
    pub fn announce(&mut self, from: u64, step: u64) {
        debug_assert!(self.segments.last().is_none_or(|(last, _)| *last < from));
        self.segments.push((from, step));
        if self.segments.len() > 4 {
            self.segments.remove(0);
        }
    }
}

/// Decides, for all workers, when the step changes. Runs in one place, on the volumes of all.
///
/// A worker takes records at most `align + 1` ticks ahead of the frontier it sees, or of the start, and its capability goes no
/// further either, but for boundaries that every step has (see [`Schedule::reach`]). So a change decided at frontier F may hold from
/// `align + 2` ticks after F: whoever gets there has seen the frontier pass F, and with it the announcement.
#[derive(Clone, Debug)]
pub struct Pacemaker {
    schedule: Schedule,
    start: u64,
    align: u64,
    target: u64,
    coarsest: u64,
}

/// A change of step is not waited for longer than so many ticks; a less coarse one comes first then.
const BOUNDARY_TICKS: u64 = 16;

impl Pacemaker {
    /// Aims at `target` updates per tick, never coarser than `coarsest` milliseconds. Log time begins at `start`: workers may
    /// go there at once, so nothing is decided before.
    pub fn new(schedule: Schedule, start: u64, align: u64, target: u64, coarsest: u64) -> Self {
        Pacemaker { schedule, start, align, target, coarsest }
    }

    /// From now on never coarser than `coarsest` milliseconds; a coarser tick gets finer.
    pub fn limit(&mut self, coarsest: u64) {
        self.coarsest = coarsest;
    }

    /// The frontier reached `frontier`, and the tick that began at `tick` had so many updates: the change of step to
    /// announce now, if any, as (from, step).
    pub fn decide(&mut self, tick: u64, updates: u64, frontier: u64) -> Option<(u64, u64)> {
        let (last_from, last_step) = *self.schedule.segments.last()?;
        // A change is decided only on ticks of the step before it.
        if frontier < self.start || tick < last_from || self.schedule.step_at(tick) != last_step {
            return None;
        }
        let steps = self.schedule.ladder.steps();
        let fits = |step: u64| step <= self.coarsest && updates.saturating_mul(step / last_step.min(step)) <= self.target;
        let small = updates.saturating_mul(2) <= self.target;
        let large = updates > self.target.saturating_mul(4);
        let widest = self.schedule.segments.iter().rev().take(2).map(|(_, step)| *step).max()?;
        let safe = frontier.saturating_add((self.align + 2).saturating_mul(widest));
        let next_boundary = |step: u64| {
            let floor = self.schedule.ladder.floor(safe, step);
            if floor == safe { floor } else { floor + step }
        };
        let step = if last_step > self.coarsest && last_step > steps[0] {
            steps.iter().copied().rev().find(|&step| step <= self.coarsest).unwrap_or(steps[0])
        } else if small {
            let near = |step: u64| next_boundary(step) - safe <= BOUNDARY_TICKS * last_step;
            let coarser = steps.iter().copied().filter(|&step| step > last_step && fits(step));
            let next = coarser.clone().filter(|&step| near(step)).max();
            next.or_else(|| coarser.min())?
        } else if large {
            // As many updates per millisecond, in ticks a fraction as long.
            let fits = |step: u64| u128::from(updates) * u128::from(step) / u128::from(last_step) <= u128::from(self.target);
            steps.iter().copied().filter(|&step| step < last_step).rev().find(|&step| fits(step) || step == steps[0])?
        } else {
            return None;
        };
        let from = next_boundary(step.max(last_step));
        self.schedule.announce(from, step);
        Some((from, step))
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

    #[test]
    fn no_tick_is_before_the_origin() {
        let origin = 600_007_000;
        let schedule = Schedule::new(Ladder::new(1_800_000, 0), 60_000).starting_at(origin);
        assert_eq!(schedule.floor(origin), origin);
        assert_eq!(schedule.floor(origin + 30_000), origin, "rounded down, but not before");
        assert_eq!(schedule.floor(600_060_000), 600_060_000);
        assert_eq!(schedule.reach(origin, origin + 1), origin);
    }

    #[test]
    fn ticks_get_finer_as_a_job_catches_up() {
        let ladder = Ladder::new(1_800_000, 120_000);
        let mut shared = Schedule::new(ladder.clone(), 1_800_000);
        let (start, wall) = (0, 86_400_000);
        let mut pacemaker = Pacemaker::new(shared.clone(), start, 4, 50_000, u64::MAX);
        let mut time = start;
        while time < wall + 1_800_000 {
            let step = shared.step_at(time);
            pacemaker.limit(wall.saturating_sub(time) / 32);
            if let Some((from, new)) = pacemaker.decide(time, 10, time + step) {
                shared.announce(from, new);
            }
            time += step;
        }
        assert_eq!(shared.step_at(time), 1_000, "caught up, a tick is a second");
    }

    #[test]
    fn steps_follow_volume_and_change_where_nobody_is() {
        let ladder = Ladder::new(1_800_000, 120_000);
        let mut shared = Schedule::new(ladder.clone(), 1_000);
        let mut pacemaker = Pacemaker::new(shared.clone(), 0, 4, 50_000, u64::MAX);
        let per_second = |stamp: u64| if (3_000_000..4_000_000).contains(&stamp) { 9_000 } else { 20 };
        let (mut time, mut seen) = (1_000_000, Vec::new());
        while time < 90_000_000 {
            let step = shared.step_at(time);
            assert_eq!(shared.floor(time), time, "ticks begin on boundaries");
            if let Some((from, new)) = pacemaker.decide(time, per_second(time) * step / 1_000, time + step) {
                assert!(from >= time + step + 6 * step, "not before anybody can be there");
                assert!(ladder.is_boundary(from, new) && ladder.is_boundary(from, step));
                shared.announce(from, new);
                seen.push(new);
            }
            time += step;
        }
        assert!(seen.contains(&1_800_000), "{seen:?}");
        assert_eq!(shared.step_at(time), 1_800_000, "{seen:?}");
    }
}
