//! The Redis view read back: the rows of every table, as one cut.
//!
//! Guards are read before and after the hashes; buckets that moved in between are read again. A bucket may be ahead of the
//! marker, as buckets move first; how many are is told, and none is once a job has stopped.
//!
//! Upholds: the rows are those of [`Current::view_rows`](crate::publish::Current), in the same order.
//! Absent on purpose: reading one store; that is one `HGETALL`, see `docs/redis-view.md`.

use std::collections::BTreeMap;

use storeflow_dataflows::key::SHARDS;
use storeflow_dataflows::table::{Table, Window};

use super::bucket::Guard;
use super::error::RedisError;
use super::keys::{Keys, Kind, PRODUCTS};
use super::link::{Cursor, Link, Wire, pairs, text};
use super::marker::CurrentView;
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
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| "it is not UTF-8".to_owned());
    let store_id = utf8(store)?;
    let window_start = window.map(u64::try_from).transpose().map_err(|_| "its window is before 1970".to_owned())?;
    let mut cells: BTreeMap<(Table, String), Row> = BTreeMap::new();
    for (name, value) in pairs {
        let (name, value) = (utf8(&name)?, utf8(&value)?);
        let wrong = || format!("field \"{name}\" is \"{value}\"");
        let Some((table, second, part)) = field(&name) else { continue };
        let row = cells.entry((table, second.to_owned())).or_insert_with(|| Row {
            table,
            store_id: store_id.clone(),
            second: second.to_owned(),
            window_start,
            sum: 0,
            count: None,
            distinct: None,
            revision: table.windowed().then_some(0),
            deleted: false,
            epoch: current.as_of,
        });
        match part {
            Part::Money => row.sum = minor_units(&value, current.about.scale).ok_or_else(wrong)?,
            Part::Items => row.sum = value.parse().map_err(|_| wrong())?,
            Part::Count => row.count = Some(value.parse().map_err(|_| wrong())?),
            Part::Distinct => row.distinct = Some(value.parse().map_err(|_| wrong())?),
            Part::Revision => row.revision = Some(value.parse().map_err(|_| wrong())?),
        }
    }
    for row in cells.into_values() {
        let whole = match row.table {
            Table::StoreSales => row.distinct.is_some(),
            Table::StoreClicks => row.count.is_some() && row.distinct.is_some() == current.about.clicks_distinct,
            Table::StorePayments | Table::StoreProducts => row.count.is_some(),
        };
        if !whole {
            return Err(format!("fields of {} \"{}\" are missing", row.table.name(), row.second));
        }
        rows.push(row);
    }
    Ok(())
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
fn minor_units(text: &str, scale: u32) -> Option<i128> {
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
