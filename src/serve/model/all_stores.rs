//! Answers about all stores.

use serde::Serialize;
use storeflow_dataflows::table::{Table, Window};
use utoipa::ToSchema;

use super::store::{page, sums};
use super::{ClickCount, Instant, PaymentSum};
use crate::publish::layout::About;
use crate::publish::row::money;
use crate::serve::view::{Measure, TopStores, Totals};

/// The stores that lead a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TopAnswer {
    /// The list holds every record before this instant; values may be newer.
    pub as_of: Instant,
    /// The window.
    pub window: TopWindow,
    /// What they are ranked by.
    #[schema(example = "payment_sum:KRW")]
    pub measure: String,
    /// Highest first.
    pub stores: Vec<TopStore>,
}

/// A window that stores lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TopWindow {
    /// Its first instant, which names it.
    pub start: Instant,
    /// The first instant after it.
    pub end: Instant,
    /// It is final, but for corrections.
    pub closed: bool,
}

/// A store among those that lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TopStore {
    /// Its place, from 1. Equal values are in the order of ids.
    #[schema(minimum = 1, maximum = 100)]
    pub rank: u32,
    /// Its id.
    pub store: String,
    /// Money as a decimal with exactly the job's digits, items or clicks.
    #[schema(pattern = r"^-?[0-9]+(\.[0-9]+)?$", example = "120000.00")]
    pub value: String,
}

/// Sums over all stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TotalsAnswer {
    /// They hold every record before this instant.
    pub as_of: Instant,
    /// Oldest first; one in which no store has a cell is not there.
    pub windows: Vec<WindowTotalsAnswer>,
    /// The cursor of those that follow, if there are more.
    #[schema(pattern = "^[0-9]{1,18}$")]
    pub next_cursor: Option<String>,
}

/// Sums over all stores in a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WindowTotalsAnswer {
    /// Its first instant, which names it.
    pub start: Instant,
    /// The first instant after it.
    pub end: Instant,
    /// It is final, but for corrections.
    pub closed: bool,
    /// Stores that have a cell in it.
    pub stores: u64,
    /// By currency, in its order.
    pub payments: Vec<PaymentSum>,
    /// Items sold.
    pub items_sold: i128,
    /// By kind, in its order.
    pub clicks: Vec<ClickCount>,
}

/// The stores that lead a window by a measure.
pub fn top(measure: &Measure, window: Window, top: &TopStores, about: &About) -> TopAnswer {
    let value = |value: i128| match measure.table {
        Table::StorePayments => money(value, about.scale),
        _ => value.to_string(),
    };
    let stores = top.stores.iter().zip(1..);
    TopAnswer {
        as_of: Instant::of(top.as_of),
        window: TopWindow {
            start: Instant(window),
            end: Instant::of(about.horizons.end(window)),
            closed: about.horizons.closed(window, top.as_of),
        },
        measure: text(measure),
        stores: stores.map(|((store, number), rank)| TopStore { rank, store: store.clone(), value: value(*number) }).collect(),
    }
}

/// A measure as it is asked for.
fn text(measure: &Measure) -> String {
    match measure.table {
        Table::StorePayments => format!("payment_sum:{}", measure.second),
        Table::StoreClicks => format!("clicks:{}", measure.second),
        Table::StoreSales | Table::StoreProducts => "items_sold".to_owned(),
    }
}

/// Sums over all stores; of windows that are open only if `open`.
pub fn totals(totals: &Totals, about: &About, open: bool) -> TotalsAnswer {
    let (shown, next_cursor) = page(&totals.windows, |window| window.window, totals.more, about, totals.as_of, open);
    let windows = shown.iter().map(|of| {
        let sums = sums(of.cells.iter(), about);
        WindowTotalsAnswer {
            start: Instant(of.window),
            end: Instant::of(about.horizons.end(of.window)),
            closed: about.horizons.closed(of.window, totals.as_of),
            stores: of.stores,
            payments: sums.payments,
            items_sold: sums.items_sold,
            clicks: sums.clicks,
        }
    });
    TotalsAnswer { as_of: Instant::of(totals.as_of), windows: windows.collect(), next_cursor }
}

#[cfg(test)]
mod tests {
    use storeflow_dataflows::table::Value;

    use super::*;
    use crate::serve::model::json;
    use crate::serve::testing::{about, ms};
    use crate::serve::view::{StoreCell, WindowTotals};

    #[test]
    fn leaders_are_ranked_and_their_values_text() {
        let as_of = ms("2026-11-25T05:41:07Z");
        let stores = TopStores { as_of, stores: vec![("7".to_owned(), 12_000_000), ("1042".to_owned(), 5)] };
        let window = ms("2026-11-25T05:00:00Z") as i64;
        let of = |table, second: &str| {
            let measure = Measure { table, second: second.to_owned() };
            String::from_utf8(json(&top(&measure, window, &stores, &about()))).expect("UTF-8")
        };
        assert_eq!(
            of(Table::StorePayments, "KRW"),
            r#"{"as_of":"2026-11-25T05:41:07Z","window":{"start":"2026-11-25T05:00:00Z","end":"2026-11-25T05:30:00Z","closed":true},"measure":"payment_sum:KRW","stores":[{"rank":1,"store":"7","value":"120000.00"},{"rank":2,"store":"1042","value":"0.05"}]}"#
        );
        assert!(of(Table::StoreClicks, "view").ends_with(r#""measure":"clicks:view","stores":[{"rank":1,"store":"7","value":"12000000"},{"rank":2,"store":"1042","value":"5"}]}"#));
        assert!(of(Table::StoreSales, "").contains(r#""measure":"items_sold""#));
    }

    #[test]
    fn totals_are_sums_of_a_window() {
        let cell = |table, second: &str, sum, count| StoreCell {
            table,
            second: second.to_owned(),
            value: Value { sum, count, distinct: 0 },
            revision: 0,
        };
        let cells = vec![
            cell(Table::StorePayments, "EUR", -5, 1),
            cell(Table::StorePayments, "KRW", 100, 2),
            cell(Table::StoreSales, "", 3, 2),
            cell(Table::StoreClicks, "view", 0, 9),
        ];
        let window = |start: &str| WindowTotals { window: ms(start) as i64, stores: 2, cells: cells.clone() };
        let windows = vec![window("2026-11-25T05:00:00Z"), window("2026-11-25T05:30:00Z")];
        let answer = totals(&Totals { as_of: ms("2026-11-25T05:41:07Z"), windows, more: false }, &about(), false);
        assert_eq!(
            String::from_utf8(json(&answer)).expect("UTF-8"),
            r#"{"as_of":"2026-11-25T05:41:07Z","windows":[{"start":"2026-11-25T05:00:00Z","end":"2026-11-25T05:30:00Z","closed":true,"stores":2,"payments":[{"currency":"EUR","sum":"-0.05","count":1},{"currency":"KRW","sum":"1.00","count":2}],"items_sold":3,"clicks":[{"kind":"view","count":9}]}],"next_cursor":null}"#
        );
    }
}
