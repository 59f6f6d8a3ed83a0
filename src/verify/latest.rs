//! The latest row of every key, change by change.

use std::collections::HashMap;

use super::decode::Version;
use super::windows::Windows;

/// What a row or an event puts into its cell, or takes out again; all names by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contribution {
    /// The cell.
    pub(super) cell: u32,
    /// Start of the cell's window.
    pub(super) window: Option<u64>,
    /// The product that is to be counted once.
    pub(super) member: Option<u32>,
    /// Minor units or items.
    pub(super) sum: i128,
}

/// A row as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeptRow {
    /// What it contributes if it counts.
    pub(super) contribution: Contribution,
    /// Whether it does.
    pub(super) counts: bool,
}

/// What is known of a key.
#[derive(Clone, Debug)]
enum Entry {
    /// It has a row.
    Live { row: KeptRow, version: Option<Version>, last_change: u64 },
    /// It was deleted or forgotten.
    Marker { version: Option<Version>, instant: u64 },
}

/// What a change does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing, it is older than what is known.
    Stale,
    /// Contributions are exchanged.
    Exchange {
        /// Taken out of its cell.
        taken: Option<Contribution>,
        /// Put into its cell.
        put: Option<Contribution>,
    },
}

/// The latest row of every key seen so far.
#[derive(Debug, Default)]
pub(super) struct Latest(HashMap<u32, Entry>);

impl Latest {
    /// Applies a change: the new row of `key`, or a deletion.
    pub(super) fn apply(
        &mut self,
        windows: Windows,
        key: u32,
        stamp: u64,
        version: Option<Version>,
        row: Option<KeptRow>,
    ) -> Effect {
        let known = self.0.remove(&key).and_then(|entry| entry.at(windows, stamp));
        let known_version = match &known {
            Some(Entry::Live { version, .. } | Entry::Marker { version, .. }) => version.as_ref(),
            None => None,
        };
        if let (Some(version), Some(known_version)) = (&version, known_version)
            && version.is_older_than(known_version)
        {
            self.0.extend(known.map(|entry| (key, entry)));
            return Effect::Stale;
        }
        let contribution = |row: KeptRow| row.counts.then_some(row.contribution);
        let taken = match known {
            Some(Entry::Live { row, .. }) => contribution(row),
            Some(Entry::Marker { .. }) | None => None,
        };
        let entry = match row {
            Some(row) => Entry::Live { row, version, last_change: stamp },
            None => Entry::Marker { version, instant: stamp },
        };
        self.0.insert(key, entry);
        Effect::Exchange { taken, put: row.and_then(contribution) }
    }
}

impl Entry {
    /// What is left of the entry at `stamp`: rows of expired windows are forgotten, and so are old markers.
    fn at(self, windows: Windows, stamp: u64) -> Option<Entry> {
        let horizon = windows.replay_horizon;
        let entry = match self {
            Entry::Live { row, version, last_change } => match row.contribution.window {
                Some(window) if windows.expiry(window).max(last_change + horizon) <= stamp => {
                    Entry::Marker { version, instant: windows.expiry(window).max(last_change + horizon) }
                }
                _ => Entry::Live { row, version, last_change },
            },
            marker => marker,
        };
        match entry {
            Entry::Marker { instant, .. } if instant + horizon <= stamp => None,
            entry => Some(entry),
        }
    }
}
