//! Sums over all stores, window by window: each worker writes those over its own stores, and readers add them up.
//!
//! They are made with the top lists, from the view in memory, under the same guard, which says up to where they are. Their keys name the worker
//! and how many there are; how many is also said by worker 0, which takes away those of another number. Who reads those of the marker's number,
//! and finds it said, never adds up parts of two divisions of the stores.
//!
//! Upholds: the index names a window before any reader can miss its sums, as both are written by one script; keys of another number of
//! workers go once this run has taken the lists.
//! Keeps: which windows are written.

use std::collections::BTreeSet;

use storeflow_dataflows::table::Window;

use super::keys::{Keys, WORKERS};
use super::link::Packed;
use super::steps::{Steps, Style};
use crate::publish::view::MemoryView;

/// One worker's totals.
#[derive(Debug)]
pub(super) struct Totals {
    worker: usize,
    peers: usize,
    written: BTreeSet<Window>,
    /// What the index names is not known.
    begins: bool,
    /// Keys of another number of workers.
    others: Vec<Vec<u8>>,
}

/// What is written once the steps are taken.
#[derive(Debug, Default)]
pub(super) struct WrittenTotals {
    there: Vec<Window>,
    gone: Vec<Window>,
}

impl Totals {
    pub(super) fn new(worker: usize, peers: usize) -> Totals {
        Totals { worker, peers, written: BTreeSet::new(), begins: true, others: Vec::new() }
    }

    /// Nothing is known of what Redis holds.
    pub(super) fn lost(&mut self) {
        self.written.clear();
        self.begins = true;
    }

    /// A key of totals that is there: it is this worker's, or, where the leader finds it, of a number of workers that is no more.
    pub(super) fn recall(&mut self, key: &[u8], (worker, peers, window): (usize, usize, Option<Window>)) {
        if (worker, peers) == (self.worker, self.peers) {
            self.written.extend(window);
        } else if self.worker == 0 && peers != self.peers {
            self.others.push(key.to_vec());
        }
    }

    /// The windows that are written.
    pub(super) fn windows(&self) -> impl Iterator<Item = Window> {
        self.written.iter().copied()
    }

    /// The steps that make the totals of some windows those of now.
    pub(super) fn steps(
        &self,
        windows: &BTreeSet<Window>,
        (keys, view): (&Keys, &MemoryView),
        as_of: u64,
        style: &Style,
        steps: &mut Steps,
    ) -> WrittenTotals {
        let index = keys.totals_index(self.worker, self.peers);
        let mut next = WrittenTotals::default();
        let (mut adds, mut removes) = (Packed::default(), Packed::default());
        self.others.iter().for_each(|key| steps.remove(key));
        if self.begins {
            steps.remove(index.as_bytes());
        }
        if self.begins && self.worker == 0 {
            steps.number(keys.totals_of().as_bytes(), WORKERS, self.peers);
        }
        for &window in windows {
            let key = keys.totals(self.worker, self.peers, window);
            let expired = style.horizons.expired(window, as_of);
            let (stores, sums) = if expired { (0, Vec::new()) } else { view.totals_of(self.worker, window) };
            if stores > 0 {
                steps.totals(key.as_bytes(), style.ttl(window, as_of), stores, &sums, style);
                if self.begins || !self.written.contains(&window) {
                    adds.number(window);
                    adds.number(window);
                }
                next.there.push(window);
            } else if self.written.contains(&window) {
                steps.remove(key.as_bytes());
                removes.number(window);
                next.gone.push(window);
            }
        }
        if adds.len() + removes.len() > 0 {
            // As long as the last of its windows.
            let newest = next.there.last().max(self.written.last()).copied().unwrap_or(0);
            steps.rank(index.as_bytes(), style.ttl(newest, as_of), &adds, &removes);
        }
        next
    }

    /// The steps were taken.
    pub(super) fn wrote(&mut self, written: WrittenTotals) {
        self.begins = false;
        self.others.clear();
        self.written.retain(|window| !written.gone.contains(window));
        self.written.extend(written.there);
    }

    /// Whether there is something to do even if nothing changed.
    pub(super) fn is_waiting(&self) -> bool {
        !self.others.is_empty()
    }
}
