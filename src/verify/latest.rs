//! The latest row of every key, change by change, and the rows that find their store through another's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use storeflow_dataflows::table::Table;

use super::decode::Version;
use super::names::Names;
use super::types::CellId;
use super::windows::Windows;

/// What a row, a group of rows or an event puts into a cell, or takes out again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contribution {
    /// The cell, by number.
    pub(super) cell: u32,
    /// Start of the cell's window.
    pub(super) window: Option<u64>,
    /// The product that is to be counted once.
    pub(super) member: Option<Arc<str>>,
    /// Minor units or items.
    pub(super) sum: i128,
    /// Rows or events.
    pub(super) count: i64,
}

/// A row as it is kept. What is `None` is not known, or in a patch not said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptRow {
    /// Where it counts; `None`: it is a lookup's.
    pub(super) table: Option<Table>,
    /// Its store.
    pub(super) store: Option<KeptStore>,
    /// The second part of its cell.
    pub(super) second: Option<Arc<str>>,
    /// The product that is to be counted once.
    pub(super) member: Option<Option<Arc<str>>>,
    /// Minor units or items.
    pub(super) sum: Option<i128>,
    /// Its window.
    pub(super) window: Option<OwnWindow>,
    /// Whether each condition holds.
    pub(super) conditions: Box<[Option<bool>]>,
    /// How long after its last change it is gone, if it is a lookup's.
    pub(super) keep: Option<u64>,
}

/// Where a row's store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeptStore {
    /// Here.
    Own(Arc<str>),
    /// In the row of this key, by number.
    Through(u32),
}

/// The window of a row itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OwnWindow {
    /// Its table has none.
    Without,
    /// That of the row it refers to.
    Elsewhere,
    /// By its start.
    At(u64),
}

/// A change of a key, or of all keys of a space.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// The stamp of its record.
    pub(super) stamp: u64,
    /// Where the source stood.
    pub(super) version: Option<Version>,
    /// What happens.
    pub(super) what: What,
}

/// What happens to a key; keys and spaces by their number.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// There is no row any more.
    Delete(u32),
    /// This is the row, or what is said of it.
    Row {
        key: u32,
        row: KeptRow,
        /// Some of it is not said.
        patch: bool,
    },
    /// All rows of a space are deleted.
    Truncate(u32),
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

/// What is known of a key.
#[derive(Clone, Debug)]
enum Entry {
    /// It has a row.
    Live { row: KeptRow, version: Option<Version>, last_change: u64 },
    /// It was deleted or forgotten.
    Marker { version: Option<Version>, instant: u64 },
}

/// What rows that refer to one row of a lookup have in common: table, second part, product and window.
type GroupId = (Table, Arc<str>, Option<Arc<str>>, OwnWindow);

/// Rows that count, if the row they refer to does.
#[derive(Clone, Copy, Debug)]
struct Group {
    sum: i128,
    count: i64,
    last_change: u64,
}

/// The latest row of every key seen so far.
#[derive(Debug)]
pub(super) struct Latest {
    windows: Windows,
    rows: HashMap<u32, Entry>,
    /// By space: the last truncate that had a version, and its stamp.
    truncates: HashMap<u32, (Version, u64)>,
    /// By the number of the key of a lookup: those that refer to it.
    groups: BTreeMap<u32, BTreeMap<GroupId, Group>>,
}

impl Latest {
    pub(super) fn new(windows: Windows) -> Self {
        Latest { windows, rows: HashMap::new(), truncates: HashMap::new(), groups: BTreeMap::new() }
    }

    /// Applies a change. `space_of` tells the space of a key; cells get their numbers from `cells`.
    pub(super) fn apply(&mut self, change: &Change, space_of: &[u32], cells: &mut Names<CellId>) -> Vec<Effect> {
        let Change { stamp, version, what } = change;
        let space = match what {
            What::Delete(key) | What::Row { key, .. } => space_of[*key as usize],
            What::Truncate(space) => *space,
        };
        let remembered = |(_, at): &&(Version, u64)| at + self.windows.replay_horizon > *stamp;
        let last = self.truncates.get(&space).filter(remembered);
        if version.as_ref().zip(last).is_some_and(|(version, (last, _))| version.is_older_than(last)) {
            return vec![Effect::Stale];
        }
        match what {
            What::Delete(key) => self.one(*key, *stamp, version, None, cells),
            What::Row { key, row, patch } => self.one(*key, *stamp, version, Some((row, *patch)), cells),
            What::Truncate(space) => {
                self.truncates.extend(version.clone().map(|version| (*space, (version, *stamp))));
                let windows = self.windows;
                let is_live = |entry: &Entry| matches!(entry.clone().at(windows, *stamp), Some(Entry::Live { .. }));
                let in_space = |key: &u32| space_of[*key as usize] == *space;
                let mut keys: Vec<u32> =
                    self.rows.iter().filter(|(key, entry)| in_space(key) && is_live(entry)).map(|(key, _)| *key).collect();
                keys.sort_unstable();
                keys.into_iter().flat_map(|key| self.one(key, *stamp, version, None, cells)).collect()
            }
        }
    }

    /// Rows that would count but for the row they refer to, at an instant: how many, and their groups' oldest last change.
    pub(super) fn waiting(&self, at: u64) -> (u64, Option<u64>) {
        let there = |key: &u32| {
            matches!(self.rows.get(key).cloned().and_then(|entry| entry.at(self.windows, at)), Some(Entry::Live { .. }))
        };
        let waiting = self.groups.iter().filter(|(key, _)| !there(key)).flat_map(|(_, groups)| groups);
        let remembered =
            waiting.filter(|(id, group)| self.windows.forgets(id.3, group.last_change).is_none_or(|instant| instant > at));
        remembered.fold((0, None), |(rows, oldest), (_, group)| {
            let oldest = oldest.map_or(group.last_change, |oldest: u64| oldest.min(group.last_change));
            (rows + group.count as u64, Some(oldest))
        })
    }

    fn one(
        &mut self,
        key: u32,
        stamp: u64,
        version: &Option<Version>,
        new: Option<(&KeptRow, bool)>,
        cells: &mut Names<CellId>,
    ) -> Vec<Effect> {
        let known = self.rows.remove(&key).and_then(|entry| entry.at(self.windows, stamp));
        let (old, known_version) = match &known {
            Some(Entry::Live { row, version, .. }) => (Some(row.clone()), version.as_ref()),
            Some(Entry::Marker { version, .. }) => (None, version.as_ref()),
            None => (None, None),
        };
        let stale = version.as_ref().zip(known_version).is_some_and(|(version, known)| version.is_older_than(known));
        let says_nothing = new.is_none() && old.is_none() && version.is_none();
        if stale || says_nothing {
            self.rows.extend(known.map(|entry| (key, entry)));
            return if stale { vec![Effect::Stale] } else { Vec::new() };
        }
        let new = new.map(|(row, patch)| match &old {
            Some(old) if patch => row.over(old),
            _ => row.clone(),
        });
        let is_lookup = old.iter().chain(&new).any(|row| row.table.is_none());
        let (before, after) = (old.clone(), new.clone());
        let version = version.as_ref().map(|version| version.over(known_version));
        self.rows.insert(
            key,
            match new {
                Some(row) => Entry::Live { row, version, last_change: stamp },
                None => Entry::Marker { version, instant: stamp },
            },
        );
        if is_lookup {
            return self.moved(key, stamp, before, after, cells);
        }
        let one_group = match (&before, &after) {
            (Some(before), Some(after)) => !(before.refers() || after.refers()) || before.group() == after.group(),
            _ => false,
        };
        let taken = before.and_then(|row| self.regroup(&row, stamp, -1, cells));
        let put = after.and_then(|row| self.regroup(&row, stamp, 1, cells));
        if one_group {
            vec![Effect::Exchange { taken, put }]
        } else {
            // From one group to another each is a side by itself.
            vec![Effect::Exchange { taken, put: None }, Effect::Exchange { taken: None, put }]
        }
    }

    /// What a change of a lookup's row does to all that refer to it.
    fn moved(
        &mut self,
        key: u32,
        stamp: u64,
        before: Option<KeptRow>,
        after: Option<KeptRow>,
        cells: &mut Names<CellId>,
    ) -> Vec<Effect> {
        let Some(groups) = self.groups.get_mut(&key) else { return Vec::new() };
        groups.retain(|id, group| self.windows.forgets(id.3, group.last_change).is_none_or(|instant| instant > stamp));
        let of = |row: &Option<KeptRow>, id: &GroupId, group: &Group, cells: &mut Names<CellId>| {
            row.as_ref().filter(|row| row.counts()).and_then(|row| id_contribution(id, row, group.sum, group.count, cells))
        };
        let exchange = |(id, group): (&GroupId, &Group)| Effect::Exchange {
            taken: of(&before, id, group, cells),
            put: of(&after, id, group, cells),
        };
        groups.iter().map(exchange).collect()
    }

    /// Puts a row among those that count (1) or takes it out (-1). Returns what it contributes.
    fn regroup(&mut self, row: &KeptRow, stamp: u64, count: i64, cells: &mut Names<CellId>) -> Option<Contribution> {
        if !row.counts() {
            return None;
        }
        let (table, second, member) = (row.table?, row.second.clone()?, row.member.clone()?);
        let (window, sum) = (row.window?, row.sum?);
        match row.store.as_ref()? {
            KeptStore::Own(store) => {
                let id = (table, second, member, window);
                contribution(&id, store, window, sum, 1, cells)
            }
            KeptStore::Through(key) => {
                let id = (table, second, member, window);
                let groups = self.groups.entry(*key).or_default();
                let windows = self.windows;
                groups.retain(|id, group| windows.forgets(id.3, group.last_change).is_none_or(|instant| instant > stamp));
                let group = groups.entry(id.clone()).or_insert(Group { sum: 0, count: 0, last_change: stamp });
                group.sum += sum * i128::from(count);
                group.count += count;
                group.last_change = stamp;
                assert!(group.count >= 0, "a row is remembered no longer than its group");
                if group.count == 0 {
                    groups.remove(&id);
                }
                match self.rows.get(key).cloned().and_then(|entry| entry.at(windows, stamp)) {
                    Some(Entry::Live { row, .. }) if row.counts() => id_contribution(&id, &row, sum, 1, cells),
                    _ => None,
                }
            }
        }
    }
}

/// What rows of a group contribute through a row of a lookup that counts.
fn id_contribution(id: &GroupId, through: &KeptRow, sum: i128, count: i64, cells: &mut Names<CellId>) -> Option<Contribution> {
    let Some(KeptStore::Own(store)) = &through.store else { return None };
    let window = if id.3 == OwnWindow::Elsewhere { through.window? } else { id.3 };
    contribution(id, store, window, sum, count, cells)
}

fn contribution(
    (table, second, member, _): &GroupId,
    store: &str,
    window: OwnWindow,
    sum: i128,
    count: i64,
    cells: &mut Names<CellId>,
) -> Option<Contribution> {
    let window = match window {
        OwnWindow::Without => None,
        OwnWindow::At(start) => Some(start),
        OwnWindow::Elsewhere => return None,
    };
    let cell = cells.number(CellId { table: *table, store: store.to_string(), second: second.to_string(), window });
    Some(Contribution { cell, window, member: member.clone(), sum, count })
}

impl KeptRow {
    /// Whether all of it is known, and every condition holds.
    pub(super) fn counts(&self) -> bool {
        let known =
            self.store.is_some() && self.second.is_some() && self.member.is_some() && self.sum.is_some() && self.window.is_some();
        known && self.conditions.iter().all(|condition| *condition == Some(true))
    }

    /// Whether it finds its store through another row.
    fn refers(&self) -> bool {
        matches!(self.store, Some(KeptStore::Through(_)))
    }

    /// What it has in common with the rows of its group.
    fn group(&self) -> impl PartialEq {
        (self.store.clone(), self.table, self.second.clone(), self.member.clone(), self.window)
    }

    /// This, and where it says nothing what `stored` has.
    fn over(&self, stored: &KeptRow) -> KeptRow {
        let length = self.conditions.len().max(stored.conditions.len());
        let condition = |row: &KeptRow, at: usize| row.conditions.get(at).copied().flatten();
        KeptRow {
            table: self.table,
            store: self.store.clone().or_else(|| stored.store.clone()),
            second: self.second.clone().or_else(|| stored.second.clone()),
            member: self.member.clone().or_else(|| stored.member.clone()),
            sum: self.sum.or(stored.sum),
            window: self.window.or(stored.window),
            conditions: (0..length).map(|at| condition(self, at).or(condition(stored, at))).collect(),
            keep: self.keep,
        }
    }
}

impl Windows {
    /// When what has this window, and was last changed then, is forgotten.
    fn forgets(&self, window: OwnWindow, last_change: u64) -> Option<u64> {
        match window {
            OwnWindow::Without => None,
            OwnWindow::At(start) => Some(self.expiry(start).max(last_change + self.replay_horizon)),
            OwnWindow::Elsewhere => Some(last_change + self.length() + self.retention() + self.replay_horizon),
        }
    }
}

impl Entry {
    /// What is left of the entry at `stamp`: rows of expired windows are forgotten, and so are old markers.
    fn at(self, windows: Windows, stamp: u64) -> Option<Entry> {
        let entry = match self {
            Entry::Live { row, version, last_change } if row.table.is_none() => {
                // Nothing remembers a row of a lookup that was kept for its time.
                let gone = row.keep.is_some_and(|keep| last_change + keep <= stamp);
                return (!gone).then_some(Entry::Live { row, version, last_change });
            }
            Entry::Live { row, version, last_change } => {
                // The window of a row whose time is not known could be any.
                let window = row.window.unwrap_or(OwnWindow::Elsewhere);
                match windows.forgets(window, last_change) {
                    Some(instant) if instant <= stamp => Entry::Marker { version, instant },
                    _ => Entry::Live { row, version, last_change },
                }
            }
            marker => marker,
        };
        match entry {
            Entry::Marker { instant, .. } if instant + windows.replay_horizon <= stamp => None,
            entry => Some(entry),
        }
    }
}
