//! Cells and their products as rows of state, and a tally made of them again.
//!
//! A cell's key is its window (8 bytes, big end first) and the cell's own; its value: sum, count, distinct products, revision, and of a
//! closed window's cell changed since the last epoch what that epoch published. A member's key is that of its cell, with its length
//! before, and the product; its value the rows it has in the cell.
//!
//! Upholds: a restored tally does at every later instant what the one it was handed out by would have done. What it does not
//! have in rows follows from the as-of: which windows are open, shown, hidden or gone.
//! Keeps: between two ticks, nothing.

use crate::epoch::Horizons;
use crate::key::{Key, Text, push_signed, push_varint, read_signed, read_varint};
use crate::state::{Section, StateChange, StateLog, StateRow};
use crate::table::{NO_WINDOW, Table, Value, Window};
use crate::tally::{CellState, Cells, Published, TallyState};

/// A row of [`Section::Cells`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCell {
    /// The window.
    pub window: Window,
    /// Store and second part.
    pub key: Key,
    /// Its value; all zero if nothing contributes any more.
    pub value: Value,
    /// Its revision.
    pub revision: u32,
    /// What the last epoch published, if the cell is of a closed window and has changed since.
    pub published: Option<Value>,
}

impl StoredCell {
    /// Reads a row that was handed out. Files carry checksums, so what is read is what was written.
    ///
    /// # Panics
    /// If it is a row of another section.
    pub fn read(row: StateRow<'_>) -> StoredCell {
        let (window, text) = split_window(row.key);
        let key = Key { hash: row.hash, text: Text::new(text) };
        let mut at = 0;
        let value = read_value(row.value, &mut at);
        let revision = read_varint(row.value, &mut at) as u32;
        let published = (at < row.value.len()).then(|| read_value(row.value, &mut at));
        StoredCell { window, key, value, revision, published }
    }
}

/// A row of [`Section::Members`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMember {
    /// The window.
    pub window: Window,
    /// The key of its cell.
    pub cell: Key,
    /// The product.
    pub member: Text,
    /// Rows or clicks of it in the cell; none: it is not a member any more.
    pub rows: i64,
}

impl StoredMember {
    /// As [`StoredCell::read`].
    ///
    /// # Panics
    /// If it is a row of another section.
    pub fn read(row: StateRow<'_>) -> StoredMember {
        let (window, rest) = split_window(row.key);
        let mut at = 0;
        let len = read_varint(rest, &mut at) as usize;
        let (text, member) = rest[at..].split_at(len);
        let rows = unzigzag(read_varint(row.value, &mut 0));
        StoredMember { window, cell: Key { hash: row.hash, text: Text::new(text) }, member: Text::new(member), rows }
    }
}

/// What was touched since it was last taken.
#[derive(Default)]
pub(crate) struct ChangedCells {
    cells: StateLog,
    members: StateLog,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl ChangedCells {
    /// A cell has this state now; `published` is what the last epoch said, if it has changed since.
    pub(crate) fn cell(&mut self, window: Window, key: &Key, state: &CellState, published: Option<&Value>) {
        self.key.clear();
        push_cell_key(window, key, &mut self.key);
        self.value.clear();
        push_value(&state.value, &mut self.value);
        push_varint(&mut self.value, u64::from(state.revision));
        if let Some(published) = published {
            push_value(published, &mut self.value);
        }
        self.cells.push(StateRow { hash: key.hash, key: &self.key, value: &self.value });
    }

    /// Says which member comes next.
    pub(crate) fn name_member(&mut self, window: Window, key: &Key, member: &Text) {
        self.key.clear();
        self.key.extend_from_slice(&(window as u64).to_be_bytes());
        push_varint(&mut self.key, key.text.as_bytes().len() as u64);
        self.key.extend_from_slice(key.text.as_bytes());
        self.key.extend_from_slice(member.as_bytes());
    }

    /// The member last named has so many rows now.
    pub(crate) fn member(&mut self, hash: u64, rows: i64) {
        self.value.clear();
        push_varint(&mut self.value, zigzag(rows));
        self.members.push(StateRow { hash, key: &self.key, value: &self.value });
    }

    /// Hands out what there is.
    pub(crate) fn take(&mut self, table: Table, out: &mut Vec<Published>) {
        for (section, log) in [(Section::Cells(table), &mut self.cells), (Section::Members(table), &mut self.members)] {
            out.extend(log.drain().map(|rows| Published::State(StateChange { section, rows })));
        }
    }
}

impl TallyState {
    /// From now on changed state is handed out.
    pub fn track(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// Takes a row of cells that was handed out, by whichever worker; of several of a key the last one given counts.
    pub fn restore_cell(&mut self, row: StateRow<'_>) {
        let StoredCell { window, key, value, revision, published } = StoredCell::read(row);
        let cells = self.windows.entry(window).or_default();
        let state = cells.of(&key);
        (state.value, state.revision) = (value, revision);
        match published {
            Some(published) => drop(cells.dirty.insert(key, published)),
            None => drop(cells.dirty.remove(&key)),
        }
    }

    /// The same of a row of members.
    pub fn restore_member(&mut self, row: StateRow<'_>) {
        let StoredMember { window, cell, member, rows } = StoredMember::read(row);
        let cells = self.windows.entry(window).or_default();
        let member = (cells.of(&cell).id, member);
        if rows == 0 {
            cells.members.remove(&member);
        } else {
            cells.members.insert(member, rows);
        }
    }

    /// All rows were given, and they are of this as-of: everything before it, and nothing else.
    pub fn complete(&mut self, as_of: u64) {
        let horizons = self.horizons;
        self.windows.retain(|window, cells| {
            let Cells { cells: states, dirty, .. } = &mut *cells;
            states.retain(|key, state| state.value != Value::default() || state.revision != 0 || dirty.contains_key(key));
            keeps_window(*window, &horizons, as_of) && !states.is_empty()
        });
        for (&window, cells) in &mut self.windows {
            cells.closed = window == NO_WINDOW || horizons.own_epoch(window) <= as_of;
            cells.hidden = horizons.expired(window, as_of);
            if !cells.closed {
                self.open.insert(window);
            }
            if window != NO_WINDOW {
                if cells.hidden { &mut self.hidden } else { &mut self.shown }.insert(window);
            }
            if !cells.dirty.is_empty() {
                self.dirty.insert(window);
            }
        }
        // An epoch at the as-of itself has run.
        self.dirty_epoch = (!self.dirty.is_empty()).then(|| horizons.epoch_after(as_of));
    }

    /// The cells that the view shows: window, key, value, revision; in no order.
    pub fn shown_cells(&self) -> impl Iterator<Item = (Window, &Key, Value, u32)> {
        let shown = self.windows.iter().filter(|(_, cells)| !cells.hidden);
        shown.flat_map(|(&window, cells)| {
            let there = cells.cells.iter().filter(|(_, state)| state.value.count != 0);
            there.map(move |(key, state)| (window, key, state.value, state.revision))
        })
    }

    /// Number of cells and members kept.
    pub fn len(&self) -> usize {
        self.windows.values().map(|cells| cells.cells.len() + cells.members.len()).sum()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The table.
    pub fn table(&self) -> Table {
        self.table
    }

    /// Whether at `now` anything is left of a row of cells or members that was handed out.
    pub(crate) fn keeps(key: &[u8], horizons: &Horizons, now: u64) -> bool {
        keeps_window(split_window(key).0, horizons, now)
    }

    /// Whether a row of members says that there are any.
    pub(crate) fn has_rows(value: &[u8]) -> bool {
        read_varint(value, &mut 0) != 0
    }
}

impl Cells {
    /// The cell with a key, made if it is not there.
    fn of(&mut self, key: &Key) -> &mut CellState {
        let Cells { cells, next_id, .. } = self;
        cells.entry(key.clone()).or_insert_with(|| {
            *next_id += 1;
            CellState { value: Value::default(), revision: 0, id: *next_id - 1, touched: 0 }
        })
    }
}

/// Whether a window's last corrections are still to come into history.
fn keeps_window(window: Window, horizons: &Horizons, now: u64) -> bool {
    horizons.dropped(window).is_none_or(|dropped| dropped > now)
}

fn push_cell_key(window: Window, key: &Key, out: &mut Vec<u8>) {
    out.extend_from_slice(&(window as u64).to_be_bytes());
    out.extend_from_slice(key.text.as_bytes());
}

fn split_window(key: &[u8]) -> (Window, &[u8]) {
    let (window, rest) = key.split_at(8);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(window);
    (u64::from_be_bytes(bytes) as Window, rest)
}

fn push_value(value: &Value, out: &mut Vec<u8>) {
    push_signed(out, value.sum);
    push_varint(out, zigzag(value.count));
    push_varint(out, zigzag(value.distinct));
}

fn read_value(bytes: &[u8], at: &mut usize) -> Value {
    let sum = read_signed(bytes, at);
    let count = unzigzag(read_varint(bytes, at));
    Value { sum, count, distinct: unzigzag(read_varint(bytes, at)) }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_come_back(sum in any::<i128>(), count in any::<i64>(), distinct in any::<i64>()) {
            let value = Value { sum, count, distinct };
            let mut bytes = Vec::new();
            push_value(&value, &mut bytes);
            let mut at = 0;
            prop_assert_eq!((read_value(&bytes, &mut at), at), (value, bytes.len()));
        }
    }
}
