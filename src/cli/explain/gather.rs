//! A store's rows, cells and products in one window, out of a checkpoint's objects.
//!
//! Of a key the last row that is visited counts, and an earlier one may have been of this store: so what is found is taken out again
//! when a later row of its key is elsewhere, or none.
//!
//! Rows that find their store through a lookup are joined again: first the lookup's rows that say this store, then what refers to them.
//!
//! Keeps: what is wanted, as packed as it is on its way; never a whole table.

use std::collections::{BTreeMap, HashMap};

use storeflow_checkpoints::damage::CheckpointError;
use storeflow_checkpoints::load::load;
use storeflow_checkpoints::manifest::Manifest;
use storeflow_checkpoints::objects::Objects;
use storeflow_dataflows::cells::{StoredCell, StoredMember};
use storeflow_dataflows::change::{Row, Version};
use storeflow_dataflows::entry;
use storeflow_dataflows::state::{Section, StateRow};
use storeflow_dataflows::table::{ELSEWHERE, Table, Value, Window};

use crate::decode::cell_key;

/// A latest row that counts.
#[derive(Clone, Debug)]
pub(super) struct CountedRow {
    /// Key space and primary key.
    pub(super) key: Vec<u8>,
    /// Its product; empty where it has none.
    pub(super) product: String,
    /// Minor units of money, or items; 0 in tables without a sum.
    pub(super) amount: i128,
    pub(super) version: Option<Version>,
    /// Stamp of its last change, milliseconds.
    pub(super) stamp: u64,
}

/// What belongs to one cell.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathered {
    /// By stamp, then key.
    pub(super) rows: Vec<CountedRow>,
    /// Value and revision, if it exists.
    pub(super) cell: Option<(Value, u32)>,
    /// Rows or clicks by product.
    pub(super) products: BTreeMap<String, i64>,
}

/// What belongs to the wanted cells, by table and second part.
#[derive(Default)]
pub(super) struct Store {
    cells: BTreeMap<(Table, String), Gathered>,
}

impl Store {
    /// The cells of a table, by second part.
    pub(super) fn of(&self, table: Table) -> BTreeMap<String, Gathered> {
        let of_table = self.cells.iter().filter(|((of, _), _)| *of == table);
        of_table.map(|((_, second), found)| (second.clone(), found.clone())).collect()
    }

    fn at(&mut self, table: Table, second: &[u8]) -> &mut Gathered {
        self.cells.entry((table, String::from_utf8_lossy(second).into_owned())).or_default()
    }
}

/// Reads what belongs to a store's cells in these tables and windows.
///
/// # Errors
/// If an object is damaged or missing, or the store does not answer.
pub(super) fn gather(
    objects: &dyn Objects,
    manifest: &Manifest,
    wanted: &[(Table, Window)],
    store: &str,
) -> Result<Store, CheckpointError> {
    let window_of = |table: Table| wanted.iter().find(|(of, _)| *of == table).map(|(_, window)| *window);
    let mut found = Store::default();
    let lookups = lookups(objects, manifest, store)?;
    let mut rows: HashMap<(Section, Vec<u8>), Latest> = HashMap::new();
    let is_rows = |section| rows_of(section).is_some_and(|table| window_of(table).is_some());
    load(objects, &manifest.state, is_rows, |_| true, &mut |section, row| {
        let window = rows_of(section).and_then(window_of);
        let latest = match section {
            Section::Referring(_) => joined(row, window, &lookups),
            _ => counted(row, window, store),
        };
        match latest {
            Some(latest) => drop(rows.insert((section, row.key.to_vec()), latest)),
            None if rows.is_empty() => {}
            None => drop(rows.remove(&(section, row.key.to_vec()))),
        }
    })?;
    for ((section, key), Latest { stamp, version, row }) in rows {
        let Some(table) = rows_of(section) else { continue };
        let product = row.member.to_str().into_owned();
        let at = found.at(table, row.cell.cell_parts().1);
        at.rows.push(CountedRow { key, product, amount: row.amount, version, stamp });
    }
    found.cells.values_mut().for_each(|of| of.rows.sort_by(|a, b| (a.stamp, &a.key).cmp(&(b.stamp, &b.key))));

    // A store's cells are wholly in its own shard.
    let shard = cell_key(store.as_bytes(), b"", &mut Vec::new()).shard();
    let is_cells = |section| matches!(section, Section::Cells(table) | Section::Members(table) if window_of(table).is_some());
    load(objects, &manifest.state, is_cells, |of| of == shard, &mut |section, row| match section {
        Section::Cells(table) => {
            let StoredCell { window, key, value, revision, .. } = StoredCell::read(row);
            let (of, second) = key.cell_parts();
            if of == store.as_bytes() && Some(window) == window_of(table) {
                found.at(table, second).cell = (value.count != 0).then_some((value, revision));
            }
        }
        Section::Members(table) => {
            let StoredMember { window, cell, member, rows } = StoredMember::read(row);
            let (of, second) = cell.cell_parts();
            if of == store.as_bytes() && Some(window) == window_of(table) {
                let (products, member) = (&mut found.at(table, second).products, member.to_str().into_owned());
                if rows == 0 {
                    products.remove(&member)
                } else {
                    products.insert(member, rows)
                };
            }
        }
        _ => {}
    })?;
    found.cells.retain(|_, of| !of.rows.is_empty() || of.cell.is_some() || !of.products.is_empty());
    Ok(found)
}

/// The table whose latest rows a section has.
fn rows_of(section: Section) -> Option<Table> {
    match section {
        Section::Rows(table) | Section::Referring(table) => Some(table),
        _ => None,
    }
}

/// The rows of lookups that count and say this store, by their keys, each with its window.
fn lookups(objects: &dyn Objects, manifest: &Manifest, store: &str) -> Result<HashMap<Vec<u8>, Window>, CheckpointError> {
    let mut lookups = HashMap::new();
    load(objects, &manifest.state, |section| section == Section::Lookups, |_| true, &mut |_, row| {
        let says = |of: &Row| of.counts() && of.cell.cell_parts().0 == store.as_bytes();
        match entry::read(row.value).row.filter(says) {
            Some(of) => drop(lookups.insert(row.key.to_vec(), of.window)),
            None => drop(lookups.remove(row.key)),
        }
    })?;
    Ok(lookups)
}

/// A row that counts, as long as no later one of its key has been visited.
struct Latest {
    stamp: u64,
    version: Option<Version>,
    row: Row,
}

/// A row of state, if it is live, counts, and belongs to the store and window.
fn counted(row: StateRow<'_>, window: Option<Window>, store: &str) -> Option<Latest> {
    let entry = entry::read(row.value);
    let row = entry.row.filter(|row| row.counts() && Some(row.window) == window)?;
    (row.cell.cell_parts().0 == store.as_bytes()).then_some(Latest { stamp: entry.since, version: entry.version, row })
}

/// A row of state that finds its store in one of these lookups' rows, if it is live, counts, and belongs to the window.
fn joined(row: StateRow<'_>, window: Option<Window>, lookups: &HashMap<Vec<u8>, Window>) -> Option<Latest> {
    let entry = entry::read(row.value);
    let row = entry.row.filter(Row::counts)?;
    let elsewhere = lookups.get(row.cell.cell_parts().0)?;
    let own = if row.window == ELSEWHERE { *elsewhere } else { row.window };
    (Some(own) == window).then_some(Latest { stamp: entry.since, version: entry.version, row })
}
