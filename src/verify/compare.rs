//! Expected against found, in words.

use std::collections::BTreeMap;
use std::fmt;

use storeflow_dataflows::table::Table;

use super::types::{CellId, CellRow, DeadLetter, HistoryId, HistoryValue, LateRow};

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It should be there and is not.
    Missing {
        /// Key, or the whole row where that is its key.
        subject: String,
        /// Fields and values.
        expected: String,
    },
    /// It is there and should not be.
    Unexpected {
        /// As above.
        subject: String,
        /// Fields and values.
        found: String,
    },
    /// Some fields have other values.
    Differs {
        /// As above.
        subject: String,
        /// Field, value expected, value found.
        fields: Vec<(&'static str, String, String)>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing { subject, expected } if expected.is_empty() => write!(f, "missing: {subject}"),
            Difference::Missing { subject, expected } => write!(f, "missing: {subject}: expected {expected}"),
            Difference::Unexpected { subject, found } if found.is_empty() => write!(f, "not expected: {subject}"),
            Difference::Unexpected { subject, found } => write!(f, "not expected: {subject}: found {found}"),
            Difference::Differs { subject, fields } => {
                write!(f, "different: {subject}:")?;
                for (index, (field, expected, found)) in fields.iter().enumerate() {
                    write!(f, "{} {field} expected {expected}, found {found}", if index > 0 { ";" } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

/// A key of rows that can be compared.
pub trait Subject: Ord + fmt::Display {
    /// The table its row belongs to.
    fn table(&self) -> Table;
}

/// A row that can be compared.
pub trait Fields: PartialEq {
    /// Names, as in the public interface of `table` where it has them, and values of all fields.
    fn fields(&self, table: Table) -> Vec<(&'static str, String)>;
}

/// Every difference between two maps, in the order of their keys.
pub fn compare<K: Subject, V: Fields>(expected: &BTreeMap<K, V>, found: &BTreeMap<K, V>) -> Vec<Difference> {
    let mut differences = BTreeMap::new();
    for (key, value) in expected {
        let subject = key.to_string();
        match found.get(key) {
            None => differences.insert(key, Difference::Missing { subject, expected: in_words(key, value) }),
            Some(other) if other != value => {
                differences.insert(key, Difference::Differs { subject, fields: unequal(key, value, other) })
            }
            Some(_) => None,
        };
    }
    for (key, value) in found.iter().filter(|(key, _)| !expected.contains_key(key)) {
        differences.insert(key, Difference::Unexpected { subject: key.to_string(), found: in_words(key, value) });
    }
    differences.into_values().collect()
}

fn in_words<K: Subject, V: Fields>(key: &K, value: &V) -> String {
    let fields = value.fields(key.table()).into_iter().map(|(name, value)| format!("{name} {value}"));
    fields.collect::<Vec<_>>().join(", ")
}

fn unequal<K: Subject, V: Fields>(key: &K, expected: &V, found: &V) -> Vec<(&'static str, String, String)> {
    let pairs = expected.fields(key.table()).into_iter().zip(found.fields(key.table()));
    pairs.filter(|(expected, found)| expected != found).map(|((name, expected), (_, found))| (name, expected, found)).collect()
}

/// Every late adjustment that one side has and the other has not, or not as often. The order of rows does not matter.
pub fn compare_late(expected: &[LateRow], found: &[LateRow]) -> Vec<Difference> {
    compare_rows(expected.iter(), found.iter())
}

/// Every dead letter that one side has and the other has not. Reasons may differ, as a record can have several.
pub fn compare_dead_letters(expected: &[DeadLetter], found: &[DeadLetter]) -> Vec<Difference> {
    let place = |letter: &DeadLetter| {
        format!("dead letter of topic {:?} partition {} position {}", letter.topic, letter.partition, letter.position)
    };
    compare_rows(expected.iter().map(place), found.iter().map(place))
}

fn compare_rows<R: Ord + fmt::Display>(expected: impl Iterator<Item = R>, found: impl Iterator<Item = R>) -> Vec<Difference> {
    let mut balance: BTreeMap<R, i64> = BTreeMap::new();
    for row in expected {
        *balance.entry(row).or_default() += 1;
    }
    for row in found {
        *balance.entry(row).or_default() -= 1;
    }
    let difference = |(row, times): (R, i64)| {
        let subject = row.to_string();
        let difference = match times {
            0 => None,
            1.. => Some(Difference::Missing { subject, expected: String::new() }),
            _ => Some(Difference::Unexpected { subject, found: String::new() }),
        };
        std::iter::repeat_n(difference, times.unsigned_abs() as usize).flatten()
    };
    balance.into_iter().flat_map(difference).collect()
}

impl Subject for CellId {
    fn table(&self) -> Table {
        self.table
    }
}

impl Subject for HistoryId {
    fn table(&self) -> Table {
        self.cell.table
    }
}

impl Fields for CellRow {
    fn fields(&self, table: Table) -> Vec<(&'static str, String)> {
        let [sum, count, distinct] = names(table);
        let CellRow { sum: s, count: c, distinct: d, revision } = self;
        vec![(sum, s.to_string()), (count, c.to_string()), (distinct, d.to_string()), ("revision", revision.to_string())]
    }
}

impl Fields for HistoryValue {
    fn fields(&self, table: Table) -> Vec<(&'static str, String)> {
        let HistoryValue { sum, count, distinct, revision, deleted } = *self;
        let mut fields = CellRow { sum, count, distinct, revision }.fields(table);
        fields.push(("deleted", deleted.to_string()));
        fields
    }
}

/// What sum, count and distinct are called in a table. Those it does not publish keep their own names.
fn names(table: Table) -> [&'static str; 3] {
    match table {
        Table::StorePayments => ["payment_sum", "payment_count", "distinct"],
        Table::StoreSales => ["items_sold", "rows", "products_sold"],
        Table::StoreClicks => ["sum", "clicks", "products_clicked"],
        Table::StoreProducts => ["sum", "product_count", "distinct"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_read_well() {
        let cell = |store: &str| CellId {
            table: Table::StorePayments,
            store: store.to_string(),
            second: "KRW".to_string(),
            window: Some(1_704_164_400_000),
        };
        let row = CellRow { sum: 12_345, count: 2, distinct: 0, revision: 0 };
        let expected = BTreeMap::from([(cell("a"), row), (cell("b"), row), (cell("d"), row)]);
        let found = BTreeMap::from([(cell("a"), row), (cell("b"), CellRow { sum: 5, revision: 1, ..row }), (cell("c"), row)]);
        let lines: Vec<String> = compare(&expected, &found).iter().map(Difference::to_string).collect();
        assert_eq!(
            lines,
            [
                "different: store_payments store \"b\" currency \"KRW\" window 2024-01-02T03:00:00Z: \
                 payment_sum expected 12345, found 5; revision expected 0, found 1",
                "not expected: store_payments store \"c\" currency \"KRW\" window 2024-01-02T03:00:00Z: \
                 found payment_sum 12345, payment_count 2, distinct 0, revision 0",
                "missing: store_payments store \"d\" currency \"KRW\" window 2024-01-02T03:00:00Z: \
                 expected payment_sum 12345, payment_count 2, distinct 0, revision 0",
            ]
        );
        assert_eq!(compare(&expected, &expected), []);

        let history = |deleted| {
            let id = HistoryId { epoch: 1_704_166_320_000, cell: cell("a") };
            BTreeMap::from([(id, HistoryValue { deleted, ..HistoryValue::default() })])
        };
        assert_eq!(
            compare(&history(true), &history(false))[0].to_string(),
            "different: epoch 2024-01-02T03:32:00Z store_payments store \"a\" currency \"KRW\" window 2024-01-02T03:00:00Z: \
             deleted expected true, found false"
        );
    }

    #[test]
    fn late_rows_are_counted() {
        let late = |sum| LateRow {
            stamp: 1_704_164_400_000,
            topic: "t".to_string(),
            partition: 1,
            position: 7,
            cell: CellId { table: Table::StoreSales, store: "s".to_string(), second: String::new(), window: Some(0) },
            sum,
            count: -1,
            epoch: 0,
        };
        let lines: Vec<String> =
            compare_late(&[late(1), late(1), late(2)], &[late(2), late(3), late(1)]).iter().map(Difference::to_string).collect();
        let row = "store_sales store \"s\" window 1970-01-01T00:00:00Z from topic \"t\" partition 1 position 7, stamp 2024-01-02T03:00:00Z";
        assert_eq!(lines, [format!("missing: {row}: sum +1, count -1"), format!("not expected: {row}: sum +3, count -1")]);
    }

    #[test]
    fn reasons_of_dead_letters_may_differ() {
        use crate::verify::Reason;
        let letter = |position, reason| DeadLetter { topic: "t".to_string(), partition: 0, position, reason };
        let differences =
            compare_dead_letters(&[letter(1, Reason::BadId), letter(2, Reason::BadId)], &[letter(1, Reason::BadTime)]);
        let lines: Vec<String> = differences.iter().map(Difference::to_string).collect();
        assert_eq!(lines, ["missing: dead letter of topic \"t\" partition 0 position 2"]);
    }
}
