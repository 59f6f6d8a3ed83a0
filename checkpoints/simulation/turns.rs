//! Several processes at once, one step at a time, in an order that a seed decides.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::world::Dice;

/// Whose turn it is. Each process is a thread; only the one whose turn it is runs, so everything is as the seed has it.
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    dice: Dice,
    running: Vec<usize>,
    turn: usize,
}

impl State {
    /// Mostly goes on with the same one: processes sleep for long and run for long.
    fn next(&mut self, of: usize) {
        if !self.running.contains(&of) || self.dice.one_in(12) {
            let among = self.running.len() as u64;
            self.turn = self.running.get(self.dice.below(among.max(1)) as usize).copied().unwrap_or(usize::MAX);
        }
    }
}

impl Turns {
    pub(super) fn new(dice: Dice, processes: usize) -> Turns {
        let running = (0..processes).collect();
        Turns { state: Mutex::new(State { dice, running, turn: 0 }), changed: Condvar::new() }
    }

    /// Before a step: others may go first.
    pub(super) fn pass(&self, process: usize) {
        let mut state = self.lock();
        if state.turn == process {
            state.next(process);
            self.changed.notify_all();
        }
        while state.turn != process {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs a process; its turn goes to others when it ends, also in a panic.
    pub(super) fn run<R>(&self, process: usize, run: impl FnOnce() -> R) -> R {
        struct Leave<'a>(&'a Turns, usize);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                let mut state = self.0.lock();
                state.running.retain(|&other| other != self.1);
                state.next(self.1);
                self.0.changed.notify_all();
            }
        }
        let _leave = Leave(self, process);
        let mut state = self.lock();
        while state.turn != process {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        run()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
