//! Changed state, as operators hand it out: what a checkpoint is made of.
//!
//! ```text
//! latest ─┐ per tick: what each touched key has now
//! tally  ─┴─► StateChange (section, packed rows) ─► checkpoint ─► ... ─► restored rows, in any order of keys ─► latest, tally
//! ```
//!
//! Upholds: (1) a row says all there is to know of its key, so of several the last one counts, and nothing is ever taken back: what
//! is forgotten is forgotten by the instants that its own row holds; (2) rows are routed by the hash they carry, whose top ten
//! bits are the shard, and mean the same to any number of workers.
//! Keeps: nothing. Absent on purpose: files, compression, and any knowledge of what a key or a value holds.

use serde::{Deserialize, Serialize};

use crate::key::{push_varint, read_varint};
use crate::table::Table;

/// What rows of state are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Section {
    /// Latest rows by primary key.
    Rows(Table),
    /// Cells by window.
    Cells(Table),
    /// Rows per cell and product, where distinct products are kept.
    Members(Table),
    /// Contributions to expired windows that are not in a finished epoch's file.
    Late,
    /// Dead letters that are not in a finished epoch's file.
    DeadLetters,
    /// Rows of epochs that the history must show with this checkpoint.
    History,
    /// Rows that others find their store through, of all lookups.
    Lookups,
    /// Groups of the rows that refer to them.
    Groups,
    /// Event ids of clicks that were counted.
    Seen,
    /// Latest rows, by primary key, that find their store through a lookup.
    Referring(Table),
}

/// Sections without a table.
const SINGLE: [Section; 6] =
    [Section::Late, Section::DeadLetters, Section::History, Section::Lookups, Section::Groups, Section::Seen];

impl Section {
    /// The number it has in files.
    pub fn code(self) -> u8 {
        match self {
            Section::Rows(table) => table as u8,
            Section::Cells(table) => 16 + table as u8,
            Section::Members(table) => 32 + table as u8,
            Section::Late => 48,
            Section::DeadLetters => 49,
            Section::History => 50,
            Section::Lookups => 51,
            Section::Groups => 52,
            Section::Seen => 53,
            Section::Referring(table) => 64 + table as u8,
        }
    }

    /// The section with this number.
    pub fn of_code(code: u8) -> Option<Section> {
        let table = || Table::ALL.get(usize::from(code % 16)).copied();
        match code / 16 {
            0 => table().map(Section::Rows),
            1 => table().map(Section::Cells),
            2 => table().map(Section::Members),
            4 => table().map(Section::Referring),
            _ => SINGLE.into_iter().find(|section| section.code() == code),
        }
    }

    /// For people: `rows of store_payments`.
    pub fn name(self) -> String {
        match self {
            Section::Rows(table) => format!("rows of {}", table.name()),
            Section::Cells(table) => format!("cells of {}", table.name()),
            Section::Members(table) => format!("members of {}", table.name()),
            Section::Late => "late adjustments".to_owned(),
            Section::DeadLetters => "dead letters".to_owned(),
            Section::History => "history".to_owned(),
            Section::Lookups => "rows of lookups".to_owned(),
            Section::Groups => "groups of referring rows".to_owned(),
            Section::Seen => "event ids".to_owned(),
            Section::Referring(table) => format!("referring rows of {}", table.name()),
        }
    }
}

/// Rows of one section, one after the other in one piece of memory: hash (8 bytes), lengths of key and value, key, value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateRows {
    bytes: Vec<u8>,
    count: usize,
}

/// A row of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateRow<'a> {
    /// Routes the row: its top ten bits are the shard.
    pub hash: u64,
    /// What it is of. Equal keys of a section have equal hashes.
    pub key: &'a [u8],
    /// All there is to know.
    pub value: &'a [u8],
}

impl StateRows {
    /// Adds a row.
    #[inline]
    pub fn push(&mut self, row: StateRow<'_>) {
        self.bytes.extend_from_slice(&row.hash.to_le_bytes());
        push_varint(&mut self.bytes, row.key.len() as u64);
        push_varint(&mut self.bytes, row.value.len() as u64);
        self.bytes.extend_from_slice(row.key);
        self.bytes.extend_from_slice(row.value);
        self.count += 1;
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes they take.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The rows, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = StateRow<'_>> {
        self.places().map(|(_place, row)| row)
    }

    /// The rows, each with its place, which [`at`](StateRows::at) takes.
    pub fn places(&self) -> impl Iterator<Item = (usize, StateRow<'_>)> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let place = next;
            (place < self.bytes.len()).then(|| (place, self.read(&mut next)))
        })
    }

    /// The row at a place.
    ///
    /// # Panics
    /// If no row begins there.
    #[inline]
    pub fn at(&self, place: usize) -> StateRow<'_> {
        self.read(&mut { place })
    }

    #[inline]
    fn read(&self, at: &mut usize) -> StateRow<'_> {
        let hash = self.bytes[*at..*at + 8].try_into().expect("eight bytes are eight bytes");
        *at += 8;
        let key = read_varint(&self.bytes, at) as usize;
        let value = read_varint(&self.bytes, at) as usize;
        let from = *at;
        *at += key + value;
        StateRow { hash: u64::from_le_bytes(hash), key: &self.bytes[from..from + key], value: &self.bytes[from + key..*at] }
    }
}

/// Rows that are being collected, in pieces of a size that the allocator has at hand: one piece that grows is copied as it does, and
/// what is large comes from the system anew each time, page by page.
#[derive(Clone, Debug, Default)]
pub struct StateLog {
    full: Vec<StateRows>,
    open: StateRows,
}

/// Bytes after which another piece is begun.
const PIECE: usize = 128 << 10;

impl StateLog {
    /// Adds a row.
    #[inline]
    pub fn push(&mut self, row: StateRow<'_>) {
        if self.open.bytes.len() >= PIECE {
            let next = StateRows { bytes: Vec::with_capacity(PIECE + PIECE / 8), count: 0 };
            self.full.push(std::mem::replace(&mut self.open, next));
        }
        self.open.push(row);
    }

    /// Takes what was added, in its order.
    pub fn drain(&mut self) -> impl Iterator<Item = StateRows> {
        let open = Some(std::mem::take(&mut self.open)).filter(|rows| !rows.is_empty());
        std::mem::take(&mut self.full).into_iter().chain(open)
    }
}

/// What one operator changed in one tick, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateChange {
    /// What the rows are about.
    pub section: Section,
    /// The rows.
    pub rows: StateRows,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sections_have_numbers_of_their_own() {
        let of_table = |table| [Section::Rows(table), Section::Cells(table), Section::Members(table), Section::Referring(table)];
        let all: Vec<Section> = Table::ALL.into_iter().flat_map(of_table).chain(SINGLE).collect();
        for section in &all {
            assert_eq!(Section::of_code(section.code()), Some(*section));
        }
        let known = (0..=255).filter(|&code| Section::of_code(code).is_some()).count();
        assert_eq!(known, all.len());
    }

    #[test]
    fn a_log_keeps_the_order_over_its_pieces() {
        let mut log = StateLog::default();
        for number in 0..20_000u32 {
            log.push(StateRow { hash: number.into(), key: &number.to_be_bytes(), value: &[7; 20] });
        }
        let pieces: Vec<StateRows> = log.drain().collect();
        assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.bytes() < 2 * PIECE));
        assert!(pieces.iter().flat_map(StateRows::iter).map(|row| row.hash).eq(0..20_000));
        assert_eq!(log.drain().count(), 0);
    }

    proptest! {
        #[test]
        fn rows_come_back(rows in proptest::collection::vec((any::<u64>(), proptest::collection::vec(any::<u8>(), 0..200), proptest::collection::vec(any::<u8>(), 0..200)), 0..20)) {
            let mut packed = StateRows::default();
            for (hash, key, value) in &rows {
                packed.push(StateRow { hash: *hash, key, value });
            }
            let found: Vec<_> = packed.iter().map(|row| (row.hash, row.key.to_vec(), row.value.to_vec())).collect();
            prop_assert_eq!(found.len(), packed.len());
            prop_assert_eq!(found, rows);
            for (place, row) in packed.places() {
                prop_assert_eq!(packed.at(place), row);
            }
        }
    }
}
