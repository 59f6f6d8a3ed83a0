//! The sums of all rows there are, as a database would answer.
//!
//! ```sql
//! SELECT store, currency, window, sum(amount), count(*) FROM payments WHERE status IN ('PAID', 'REFUNDED') GROUP BY 1, 2, 3
//! ```

use std::collections::{BTreeMap, BTreeSet};

use storeflow::verify::CellId;
use storeflow_dataflows::table::Table;

use super::setting::Setting;
use super::truth::{CURRENCIES, Row, SITES, State, TableOf};

/// By cell: sum, rows, distinct products.
pub(crate) type Sums = BTreeMap<CellId, (i128, i64, i64)>;

/// The sums of all cells.
pub(crate) fn fold(state: &State, setting: &Setting, window: u64) -> Sums {
    let mut sums: Sums = Sums::new();
    let mut products: BTreeMap<CellId, BTreeSet<u8>> = BTreeMap::new();
    for ((site, table, _), row) in state {
        // The row that says the store, and the time of what has none of its own.
        let order = match (setting.lookups, table) {
            (_, TableOf::Orders) => continue,
            (false, _) => row,
            (true, _) => match state.get(&(*site, TableOf::Orders, row.order)) {
                Some(order) if order.counts() => order,
                _ => continue,
            },
        };
        if !row.counts() {
            continue;
        }
        let start = |row: &Row| Some(row.at / window * window);
        let (of, second, window, sum) = match table {
            TableOf::Payments => {
                let currency = CURRENCIES[row.currency.map_or(0, usize::from)];
                (Table::StorePayments, currency, start(row), i128::from(row.amount))
            }
            TableOf::Items => (Table::StoreSales, "", start(if setting.lookups { order } else { row }), i128::from(row.quantity)),
            TableOf::Products => (Table::StoreProducts, "", None, 0),
            TableOf::Orders => continue,
        };
        let store = setting.store(SITES[usize::from(*site)], order.store);
        let cell = CellId { table: of, store, second: second.to_string(), window };
        if of == Table::StoreSales {
            products.entry(cell.clone()).or_default().insert(row.product);
        }
        let sums = sums.entry(cell).or_default();
        *sums = (sums.0 + sum, sums.1 + 1, 0);
    }
    for (cell, products) in products {
        sums.entry(cell).or_default().2 = products.len() as i64;
    }
    sums
}
