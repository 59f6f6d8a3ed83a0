//! What a worker knows before its first record: nothing, or what a checkpoint kept.
//!
//! Rows of state come in any order of keys and sections, those of one key in the order of time, and only for shards that are the
//! worker's own; [`Beginning::complete`] then says of which as-of they are.

use crate::epoch::Horizons;
use crate::key::{Hashing, Key};
use crate::latest::LatestState;
use crate::state::{Section, StateRow};
use crate::stored::RestoredRows;
use crate::table::{Table, Value, Window};
use crate::tally::TallyState;

/// The state a dataflow begins with.
pub struct Beginning {
    horizons: Horizons,
    tracked: bool,
    rows: [Option<RestoredRows>; 4],
    referring: [Option<RestoredRows>; 4],
    cells: [Option<TallyState>; 4],
}

impl Beginning {
    /// Nothing is known. `tracked` says whether changed state is to be handed out.
    pub fn new(horizons: Horizons, tracked: bool) -> Self {
        let (rows, referring, cells) = Default::default();
        Beginning { horizons, tracked, rows, referring, cells }
    }

    /// Takes a row. Sections that are none of the dataflow's are not its business; whether it was.
    pub fn restore(&mut self, section: Section, row: StateRow<'_>) -> bool {
        match section {
            Section::Rows(table) => self.rows[table as usize].get_or_insert_default().restore(row),
            Section::Referring(table) => self.referring[table as usize].get_or_insert_default().restore(row),
            Section::Cells(table) => self.cells(table).restore_cell(row),
            Section::Members(table) => self.cells(table).restore_member(row),
            Section::Lookups | Section::Groups | Section::Seen => return false,
            Section::Late | Section::DeadLetters | Section::History => return false,
        }
        true
    }

    /// All rows were given, and they are of this as-of.
    pub fn complete(&mut self, as_of: u64) {
        self.cells.iter_mut().flatten().for_each(|cells| cells.complete(as_of));
    }

    /// How many latest rows, and how many cells and members, are known.
    pub fn len(&self) -> (usize, usize) {
        let rows = self.rows.iter().chain(&self.referring).flatten().map(RestoredRows::len).sum();
        (rows, self.cells.iter().flatten().map(TallyState::len).sum())
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// The cells that the view shows, of all tables, in no order.
    pub fn shown_cells(&self) -> impl Iterator<Item = (Table, Window, &Key, Value, u32)> {
        let tables = self.cells.iter().flatten();
        tables.flat_map(|cells| {
            cells.shown_cells().map(|(window, key, value, revision)| (cells.table(), window, key, value, revision))
        })
    }

    /// Whether at `as_of` anything is left of a row. Only whoever has all rows of its key may drop it: an older one would count again.
    pub fn keeps(section: Section, row: StateRow<'_>, horizons: &Horizons, as_of: u64) -> bool {
        match section {
            Section::Rows(_) | Section::Referring(_) => RestoredRows::keeps(row.value, horizons, as_of),
            Section::Cells(_) => TallyState::keeps(row.key, horizons, as_of),
            Section::Members(_) => TallyState::keeps(row.key, horizons, as_of) && TallyState::has_rows(row.value),
            Section::Lookups => RestoredRows::keeps_lookup(row.value, horizons, as_of),
            Section::Groups | Section::Seen => true,
            Section::Late | Section::DeadLetters | Section::History => true,
        }
    }

    pub(crate) fn take_rows(&mut self, table: Table, hashing: Hashing) -> LatestState {
        let restored = self.rows[table as usize].take().unwrap_or_default();
        self.latest(Section::Rows(table), table, hashing, restored)
    }

    pub(crate) fn take_referring(&mut self, table: Table, hashing: Hashing) -> LatestState {
        let restored = self.referring[table as usize].take().unwrap_or_default();
        self.latest(Section::Referring(table), table, hashing, restored)
    }

    fn latest(&self, section: Section, table: Table, hashing: Hashing, restored: RestoredRows) -> LatestState {
        let mut state = LatestState::of(section, table, self.horizons, hashing, restored);
        if self.tracked {
            state.track();
        }
        state
    }

    pub(crate) fn take_cells(&mut self, table: Table) -> TallyState {
        let mut state = self.cells[table as usize].take().unwrap_or_else(|| TallyState::new(table, self.horizons));
        if self.tracked {
            state.track();
        }
        state
    }

    fn cells(&mut self, table: Table) -> &mut TallyState {
        let horizons = self.horizons;
        self.cells[table as usize].get_or_insert_with(|| TallyState::new(table, horizons))
    }
}
