//! The Redis view read back: the rows of every table, as one cut.
//!
//! Guards are read before and after the hashes; buckets that moved in between are read again. A bucket may be ahead of the
//! marker, as buckets move first; how many are is told, and none is once a job has stopped.
//!
//! Upholds: the rows are those of [`Current::view_rows`](crate::publish::Current), in the same order.
//! Absent on purpose: reading one store, or part of a view; that is `serve::view::redis`, and for others `docs/redis-view.md`.

use std::collections::BTreeMap;

use storeflow_dataflows::key::SHARDS;
use storeflow_dataflows::table::{Table, Value, Window};

use super::bucket::Guard;
use super::error::RedisError;
use super::keys::{Keys, Kind, PRODUCTS};
use super::link::{Cursor, Link, Wire, pairs, text};
use super::marker::CurrentView;
use crate::publish::layout::About;
use crate::publish::row::Row;

/// Times a bucket that moves is read again.
const ATTEMPTS: usize = 5;

/// Hashes asked for in one pipeline.
const HASHES_AT_A_TIME: usize = 1_000;

/// All rows of a view.
#[derive(Clone, Debug)]
pub struct ViewRows {
    /// Which view it is.
    pub current: CurrentView,
    /// Buckets that are ahead of the marker; 0 when the job has stopped.
    pub ahead: usize,
    tables: [Vec<Row>; 4],
}

impl ViewRows {
    /// The rows of a table, by store, second part and window, bytewise.
    pub fn view_rows(&self, table: Table) -> &[Row] {
        &self.tables[table as usize]
    }

    /// The rows of a table, to keep.
    pub fn take(&mut self, table: Table) -> Vec<Row> {
        std::mem::take(&mut self.tables[table as usize])
    }
}

/// Reads all of the view.
pub(super) fn read(link: &mut Link, current: CurrentView) -> Result<ViewRows, RedisError> {
    let keys = Keys::new(&current.about.job, current.about.generation);
    let mut wanted: Vec<bool> = vec![true; SHARDS as usize];
    let mut rows: BTreeMap<u64, Vec<Row>> = BTreeMap::new();
    for _ in 0..ATTEMPTS {
        let before = guards(link, &keys)?;
        let missing = before.iter().filter(|guard| Guard::parse(guard).is_none_or(|guard| guard.as_of.is_none())).count();
        if missing > 0 {
            return Err(RedisError::Incomplete { missing });
        }
        rows.retain(|bucket, _| !wanted[*bucket as usize]);
        read_buckets(link, &keys, &current, &wanted, &mut rows)?;
        let after = guards(link, &keys)?;
        wanted = before.iter().zip(&after).map(|(before, after)| before != after).collect();
        if !wanted.contains(&true) {
            let ahead =
                |guard: &&String| Guard::parse(guard).and_then(|guard| guard.as_of).is_some_and(|as_of| as_of > current.as_of);
            let ahead = after.iter().filter(ahead).count();
            let mut tables: [Vec<Row>; 4] = Default::default();
            for row in rows.into_values().flatten() {
                tables[row.table as usize].push(row);
            }
            tables.iter_mut().for_each(|rows| rows.sort_unstable_by(|row, other| row.key().cmp(&other.key())));
            return Ok(ViewRows { current, ahead, tables });
        }
    }
    Err(RedisError::Restless)
}

fn guards(link: &mut Link, keys: &Keys) -> Result<Vec<String>, RedisError> {
    let mut wire = Wire::default();
    for bucket in 0..SHARDS {
        wire.command(&[b"GET", keys.guard(bucket).as_bytes()]);
    }
    Ok(link.call("read the guards", &wire)?.iter().map(text).collect())
}

fn read_buckets(
    link: &mut Link,
    keys: &Keys,
    current: &CurrentView,
    wanted: &[bool],
    rows: &mut BTreeMap<u64, Vec<Row>>,
) -> Result<(), RedisError> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let (mut cursor, mut page) = (Cursor::default(), Vec::new());
    while !cursor.at_end() {
        link.scan(&mut cursor, &keys.all(), &mut page)?;
        names.extend(page.drain(..).filter(|name| match keys.parse(name) {
            Some((bucket, Kind::Store(_) | Kind::Window(..))) => wanted.get(bucket as usize) == Some(&true),
            _ => false,
        }));
    }
    // A scan may name a key twice.
    names.sort_unstable();
    names.dedup();
    for names in names.chunks(HASHES_AT_A_TIME) {
        let mut wire = Wire::default();
        names.iter().for_each(|name| wire.command(&[b"HGETALL", name]));
        for (name, answer) in names.iter().zip(link.call("read the view", &wire)?) {
            let Some((bucket, kind)) = keys.parse(name) else { continue };
            let wrong = |problem| RedisError::Unreadable { key: String::from_utf8_lossy(name).into_owned(), problem };
            let rows = rows.entry(bucket).or_default();
            let (window, store) = match kind {
                Kind::Window(window, store) => (Some(window), store),
                Kind::Store(store) => (None, store),
                Kind::Guard => continue,
            };
            hash(window, store, pairs(answer), current, rows).map_err(wrong)?;
        }
    }
    Ok(())
}

/// The rows of one hash.
fn hash(
    window: Option<Window>,
    store: &[u8],
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    current: &CurrentView,
    rows: &mut Vec<Row>,
) -> Result<(), String> {
    let store_id = utf8(store)?.to_owned();
    let window_start = window.map(u64::try_from).transpose().map_err(|_| "its window is before 1970".to_owned())?;
    let distinct = |table| match table {
        Table::StoreSales => true,
        Table::StoreClicks => current.about.clicks_distinct,
        Table::StorePayments | Table::StoreProducts => false,
    };
    rows.extend(cells(&pairs, &current.about)?.into_iter().map(|(table, second, value, revision)| Row {
        table,
        store_id: store_id.clone(),
        second,
        window_start,
        sum: value.sum,
        count: (table != Table::StoreSales).then_some(value.count),
        distinct: distinct(table).then_some(value.distinct),
        revision: table.windowed().then_some(revision),
        deleted: false,
        epoch: current.as_of,
    }));
    Ok(())
}

/// The cells in the fields of a hash, by table and second part. A table that publishes no count has 1, as its cell is there, and
/// `distinct` is 0 where it is not kept.
pub(crate) fn cells(pairs: &[(Vec<u8>, Vec<u8>)], about: &About) -> Result<Vec<(Table, String, Value, u32)>, String> {
    let whole = |cell: Found<'_>| {
        let Found { table, second, sum, count, distinct, revision } = cell;
        let whole = match table {
            Table::StoreSales => sum.is_some() && distinct.is_some(),
            Table::StoreClicks => count.is_some() && distinct.is_some() == about.clicks_distinct,
            Table::StorePayments => sum.is_some() && count.is_some(),
            Table::StoreProducts => count.is_some(),
        };
        let value = Value { sum: sum.unwrap_or(0), count: count.unwrap_or(1), distinct: distinct.unwrap_or(0) };
        let missing = || format!("fields of {} \"{second}\" are missing", table.name());
        whole.then(|| (table, second.to_owned(), value, revision)).ok_or_else(missing)
    };
    met(pairs, about.scale)?.into_iter().map(whole).collect()
}

/// The sums in the fields of a hash of totals, by table and second part.
pub(crate) fn sums(pairs: &[(Vec<u8>, Vec<u8>)], scale: u32) -> Result<Vec<(Table, String, Value)>, String> {
    let value = |found: &Found<'_>| Value { sum: found.sum.unwrap_or(0), count: found.count.unwrap_or(1), distinct: 0 };
    Ok(met(pairs, scale)?.into_iter().map(|found| (found.table, found.second.to_owned(), value(&found))).collect())
}

/// What the fields of a hash say of cells, by table and second part.
fn met(pairs: &[(Vec<u8>, Vec<u8>)], scale: u32) -> Result<Vec<Found<'_>>, String> {
    let mut cells: Vec<Found<'_>> = Vec::with_capacity(4);
    for (name, value) in pairs {
        let (name, value) = (utf8(name)?, utf8(value)?);
        let Some((table, second, part)) = field(name) else { continue };
        let at = cells.iter().position(|cell| (cell.table, cell.second) == (table, second)).unwrap_or_else(|| {
            cells.push(Found { table, second, ..Found::default() });
            cells.len() - 1
        });
        cells[at].take(part, value, scale).ok_or_else(|| format!("field \"{name}\" is \"{value}\""))?;
    }
    cells.sort_unstable_by_key(|cell| (cell.table, cell.second));
    Ok(cells)
}

/// A cell, as far as its fields were met.
struct Found<'a> {
    table: Table,
    second: &'a str,
    sum: Option<i128>,
    count: Option<i64>,
    distinct: Option<i64>,
    revision: u32,
}

impl Default for Found<'_> {
    fn default() -> Self {
        Found { table: Table::StoreProducts, second: "", sum: None, count: None, distinct: None, revision: 0 }
    }
}

impl Found<'_> {
    /// Takes a field's value; `None` if it makes no sense.
    fn take(&mut self, part: Part, value: &str, scale: u32) -> Option<()> {
        match part {
            Part::Money => self.sum = Some(minor_units(value, scale)?),
            Part::Items => self.sum = Some(value.parse().ok()?),
            Part::Count => self.count = Some(value.parse().ok()?),
            Part::Distinct => self.distinct = Some(value.parse().ok()?),
            Part::Revision => self.revision = value.parse().ok()?,
        }
        Some(())
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

enum Part {
    Money,
    Items,
    Count,
    Distinct,
    Revision,
}

/// What a field belongs to; `None` for what is not of a cell.
fn field(name: &str) -> Option<(Table, &str, Part)> {
    const PREFIXES: [(&str, Table, Part); 6] = [
        ("payment_sum:", Table::StorePayments, Part::Money),
        ("payment_count:", Table::StorePayments, Part::Count),
        ("revision:payments:", Table::StorePayments, Part::Revision),
        ("clicks:", Table::StoreClicks, Part::Count),
        ("products_clicked:", Table::StoreClicks, Part::Distinct),
        ("revision:clicks:", Table::StoreClicks, Part::Revision),
    ];
    match name {
        "items_sold" => return Some((Table::StoreSales, "", Part::Items)),
        "products_sold" => return Some((Table::StoreSales, "", Part::Distinct)),
        "revision:sales" => return Some((Table::StoreSales, "", Part::Revision)),
        PRODUCTS => return Some((Table::StoreProducts, "", Part::Count)),
        _ => {}
    }
    PREFIXES.into_iter().find_map(|(prefix, table, part)| Some((table, name.strip_prefix(prefix)?, part)))
}

/// Money with exactly `scale` digits, in minor units.
pub(crate) fn minor_units(text: &str, scale: u32) -> Option<i128> {
    if scale == 0 {
        return text.parse().ok();
    }
    let (whole, fraction) = text.split_once('.')?;
    if fraction.len() != scale as usize {
        return None;
    }
    format!("{whole}{fraction}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::row::money;

    #[test]
    fn money_comes_back() {
        for scale in [0, 2, 18] {
            for units in [0, 1, -1, 99, -12_345, 10_i128.pow(37)] {
                assert_eq!(minor_units(&money(units, scale), scale), Some(units));
            }
        }
        for wrong in ["", "1", "1.2", "1.234", "x.00", "1.-5"] {
            assert_eq!(minor_units(wrong, 2), None, "{wrong}");
        }
    }
}
