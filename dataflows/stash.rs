//! What has arrived and is not due: updates by log time, in lists that are used again.
//!
//! A tick holds some ten thousand updates of a hundred bytes and more. Lists that grew and were freed with every tick cost a
//! page fault per 4 KiB, each time anew: a twentieth of all processor time of payments (m). So lists come back.
//!
//! Keeps: as many empty lists as there ever were ticks open at once, [`SPARE`] at most.

use std::collections::BTreeMap;

/// Empty lists kept at most; with more ticks open than that, memory matters more.
const SPARE: usize = 4;

/// Updates by log time.
pub(crate) struct Stash<U> {
    open: BTreeMap<u64, Vec<U>>,
    spare: Vec<Vec<U>>,
}

impl<U> Default for Stash<U> {
    fn default() -> Self {
        Stash { open: BTreeMap::new(), spare: Vec::new() }
    }
}

impl<U> Stash<U> {
    /// Adds updates with their times; those of one time mostly come together.
    pub(crate) fn extend(&mut self, updates: impl Iterator<Item = (u64, U)>) {
        let mut last: Option<(u64, &mut Vec<U>)> = None;
        for (time, update) in updates {
            let list = match last {
                Some((at, list)) if at == time => list,
                _ => self.open.entry(time).or_insert_with(|| self.spare.pop().unwrap_or_default()),
            };
            list.push(update);
            last = Some((time, list));
        }
    }

    /// Takes what is before the frontier, all if there is none.
    pub(crate) fn before(&mut self, frontier: Option<u64>) -> BTreeMap<u64, Vec<U>> {
        let later = frontier.map(|frontier| self.open.split_off(&frontier)).unwrap_or_default();
        std::mem::replace(&mut self.open, later)
    }

    /// Takes back a list that was used up.
    pub(crate) fn recycle(&mut self, mut list: Vec<U>) {
        list.clear();
        if self.spare.len() < SPARE {
            self.spare.push(list);
        }
    }
}
