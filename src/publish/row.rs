//! Rows as they are read back, and as people and programs read them: names and values of fields, in order.
//!
//! Upholds: the order and the names of the fields are a public interface; money has exactly the job's digits, ids are
//! text whatever they look like, times are UTC.

use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::table::Table;

use super::columns::unit;
use super::schema::Output;
use super::time::instant;

/// A cell read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The table.
    pub table: Table,
    /// The store.
    pub store_id: String,
    /// Currency or kind; empty where the table has neither.
    pub second: String,
    /// Start of the window, milliseconds; `None` in tables without.
    pub window_start: Option<u64>,
    /// Minor units of money, or items; 0 where the table has no sum.
    pub sum: i128,
    /// Rows or clicks; `None` where the table does not publish them.
    pub count: Option<i64>,
    /// Distinct products; `None` where the table has none or the job does not keep them.
    pub distinct: Option<i64>,
    /// Its revision; `None` in tables without windows.
    pub revision: Option<u32>,
    /// The cell was emptied at this epoch.
    pub deleted: bool,
    /// The epoch of history, or the view's as-of; milliseconds.
    pub epoch: u64,
}

impl Row {
    /// What a cell is known by; rows are sorted by it, bytewise.
    pub fn key(&self) -> (&str, &str, Option<u64>) {
        (&self.store_id, &self.second, self.window_start)
    }
}

/// A late adjustment read from a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LateRow {
    /// The table it would have changed.
    pub table: Table,
    /// The store.
    pub store_id: String,
    /// Currency or kind; empty where the table has neither.
    pub second: String,
    /// Start of the expired window, milliseconds.
    pub window_start: u64,
    /// Change of the sum, in the table's own unit: minor units of money, or items.
    pub sum: i128,
    /// Change of the count of rows or clicks.
    pub count: i64,
    /// Topic of the record.
    pub topic: String,
    /// Partition of the record.
    pub partition: u32,
    /// Position of the record in it.
    pub position: u64,
    /// The record's stamp, milliseconds.
    pub stamp: u64,
    /// The epoch of the stamp, milliseconds.
    pub as_of: u64,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// None.
    Null,
    /// Text.
    Text(&'a str),
    /// A number.
    Number(i128),
    /// Minor units of money.
    Money(i128),
    /// An instant, milliseconds.
    Time(u64),
    /// Yes or no.
    Bool(bool),
}

impl Field<'_> {
    /// The value as bare text, for formats that have nothing else; null is empty. `scale`: decimal digits of money.
    pub fn text(&self, scale: u32) -> String {
        match self {
            Field::Null => String::new(),
            Field::Text(text) => (*text).to_owned(),
            Field::Number(number) => number.to_string(),
            Field::Money(units) => money(*units, scale),
            Field::Time(ms) => instant(i64::try_from(*ms).unwrap_or(i64::MAX)),
            Field::Bool(yes) => yes.to_string(),
        }
    }
}

/// Minor units as a decimal with exactly `scale` digits.
pub fn money(units: i128, scale: u32) -> String {
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    let sign = if units < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// The names of an output's fields, in order.
pub fn names(output: Output) -> &'static [&'static str] {
    match output {
        Output::Cells(Table::StorePayments) => {
            &["store_id", "currency", "window_start", "payment_sum", "payment_count", "window_end", "closed", "revision", "as_of"]
        }
        Output::Cells(Table::StoreSales) => {
            &["store_id", "window_start", "items_sold", "products_sold", "window_end", "closed", "revision", "as_of"]
        }
        Output::Cells(Table::StoreClicks) => {
            &["store_id", "kind", "window_start", "clicks", "products_clicked", "window_end", "closed", "revision", "as_of"]
        }
        Output::Cells(Table::StoreProducts) => &["store_id", "product_count", "window_end", "closed", "revision", "as_of"],
        Output::LateAdjustments => &[
            "table",
            "store_id",
            "second",
            "window_start",
            "sum_delta",
            "count_delta",
            "topic",
            "partition",
            "position",
            "stamp",
            "as_of",
        ],
    }
}

/// The fields of a cell shown at `as_of`, in the order of [`names`].
pub fn cell_fields<'a>(row: &'a Row, horizons: &Horizons, as_of: u64) -> Vec<Field<'a>> {
    let number = |value: Option<i64>| value.map_or(Field::Null, |value| Field::Number(value.into()));
    let time = |value: Option<u64>| value.map_or(Field::Null, Field::Time);
    let end = row.window_start.map(|start| start + horizons.window);
    let mut fields = vec![Field::Text(&row.store_id)];
    match row.table {
        Table::StorePayments => {
            fields.extend([Field::Text(&row.second), time(row.window_start), Field::Money(row.sum), number(row.count)]);
        }
        Table::StoreSales => fields.extend([time(row.window_start), Field::Number(row.sum), number(row.distinct)]),
        Table::StoreClicks => {
            fields.extend([Field::Text(&row.second), time(row.window_start), number(row.count), number(row.distinct)]);
        }
        Table::StoreProducts => fields.push(number(row.count)),
    }
    let closed = row.window_start.map_or(Field::Null, |window| Field::Bool(horizons.closed(window as i64, as_of)));
    fields.extend([time(end), closed, number(row.revision.map(i64::from)), Field::Time(as_of)]);
    fields
}

/// The fields of a late adjustment, in the order of [`names`].
pub fn late_fields(row: &LateRow, scale: u32) -> Vec<Field<'_>> {
    vec![
        Field::Text(row.table.name()),
        Field::Text(&row.store_id),
        if row.second.is_empty() { Field::Null } else { Field::Text(&row.second) },
        Field::Time(row.window_start),
        Field::Money(row.sum * unit(row.table, scale)),
        Field::Number(row.count.into()),
        Field::Text(&row.topic),
        Field::Number(row.partition.into()),
        Field::Number(row.position.into()),
        Field::Time(row.stamp),
        Field::Time(row.as_of),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_exactly_its_digits() {
        for (units, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (5, 2, "0.05"),
            (-5, 2, "-0.05"),
            (12345, 2, "123.45"),
            (-12345, 0, "-12345"),
            (1, 18, "0.000000000000000001"),
            (-(10_i128.pow(37)), 2, "-100000000000000000000000000000000000.00"),
        ] {
            assert_eq!(money(units, scale), text);
        }
    }
}
