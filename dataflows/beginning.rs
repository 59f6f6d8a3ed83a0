//! What a worker knows before its first record: nothing, or what a checkpoint kept.
//!
//! Rows of state come in any order of keys and sections, those of one key in the order of time, and only for shards that are the
//! worker's own; [`Beginning::complete`] then says of which as-of they are.

use crate::dedup::DedupState;
use crate::epoch::Horizons;
use crate::groups::{Groups, StoredGroup};
use crate::key::{Hashing, Key};
use crate::latest::LatestState;
use crate::lookup::{LookupState, restore_group};
use crate::rows::Rows;
use crate::state::{Section, StateRow};
use crate::stored::{Keeps, RestoredRows};
use crate::table::{Table, Value, Window};
use crate::tally::TallyState;

/// The state a dataflow begins with.
pub struct Beginning {
    horizons: Horizons,
    hashing: Hashing,
    tracked: bool,
    rows: [Option<RestoredRows>; 4],
    referring: [Option<RestoredRows>; 4],
    cells: [Option<TallyState>; 4],
    lookups: RestoredRows,
    groups: Groups,
    seen: Rows,
}

impl Beginning {
    /// Nothing is known. `tracked` says whether changed state is to be handed out.
    pub fn new(horizons: Horizons, hashing: Hashing, tracked: bool) -> Self {
        let (rows, referring, cells, lookups, groups, seen) = Default::default();
        Beginning { horizons, hashing, tracked, rows, referring, cells, lookups, groups, seen }
    }

    /// Takes a row. Sections that are none of the dataflow's are not its business; whether it was.
    pub fn restore(&mut self, section: Section, row: StateRow<'_>) -> bool {
        match section {
            Section::Rows(table) => self.rows[table as usize].get_or_insert_default().restore(row),
            Section::Referring(table) => self.referring[table as usize].get_or_insert_default().restore(row),
            Section::Cells(table) => self.cells(table).restore_cell(row),
            Section::Members(table) => self.cells(table).restore_member(row),
            Section::Lookups => self.lookups.restore(row),
            Section::Groups => restore_group(&mut self.groups, &self.hashing, row),
            Section::Seen => self.seen.put(row.hash, row.key, row.value),
            Section::Late | Section::DeadLetters | Section::History => return false,
        }
        true
    }

    /// All rows were given, and they are of this as-of.
    pub fn complete(&mut self, as_of: u64) {
        self.cells.iter_mut().flatten().for_each(|cells| cells.complete(as_of));
    }

    /// How many latest rows (groups and event ids included), and how many cells and members, are known.
    pub fn len(&self) -> (usize, usize) {
        let rows: usize = self.rows.iter().chain(&self.referring).flatten().map(RestoredRows::len).sum();
        let rows = rows + self.lookups.len() + self.groups.len() + self.seen.len();
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
            Section::Rows(_) | Section::Referring(_) | Section::Lookups => RestoredRows::keeps(row.value, horizons, as_of),
            Section::Cells(_) => TallyState::keeps(row.key, horizons, as_of),
            Section::Members(_) => TallyState::keeps(row.key, horizons, as_of) && TallyState::has_rows(row.value),
            Section::Groups => StoredGroup::keeps(row, horizons, as_of),
            Section::Seen => DedupState::keeps(row.value, as_of),
            Section::Late | Section::DeadLetters | Section::History => true,
        }
    }

    pub(crate) fn take_rows(&mut self, table: Table) -> LatestState {
        let restored = self.rows[table as usize].take().unwrap_or_default();
        self.latest(Section::Rows(table), table, restored)
    }

    pub(crate) fn take_referring(&mut self, table: Table) -> LatestState {
        let restored = self.referring[table as usize].take().unwrap_or_default();
        self.latest(Section::Referring(table), table, restored)
    }

    fn latest(&self, section: Section, table: Table, restored: RestoredRows) -> LatestState {
        let mut state = LatestState::of(section, table, self.horizons, self.hashing, restored);
        if self.tracked {
            state.track();
        }
        state
    }

    pub(crate) fn take_lookups(&mut self, keeps: Keeps) -> LookupState {
        let (rows, groups) = (std::mem::take(&mut self.lookups), std::mem::take(&mut self.groups));
        let mut state = LookupState::of(self.horizons, self.hashing, keeps, rows, groups);
        if self.tracked {
            state.track();
        }
        state
    }

    pub(crate) fn take_seen(&mut self) -> DedupState {
        let mut state = DedupState::of(self.horizons, std::mem::take(&mut self.seen));
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
