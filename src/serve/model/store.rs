//! Answers about one store, and the list of them.

use serde::Serialize;
use storeflow_dataflows::table::{Table, Window};
use utoipa::ToSchema;

use super::{Fresh, Instant};
use crate::publish::layout::About;
use crate::publish::row::money;
use crate::serve::calendar::{self, Zone};
use crate::serve::view::{StoreCell, StoreCut, WindowCells};

/// A store now.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct StoreAnswer {
    /// Its numbers.
    #[serde(flatten)]
    pub now: StoreNow,
    /// How fresh they are.
    pub fresh: Fresh,
}

/// A store's numbers now.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct StoreNow {
    /// Its id.
    pub store: String,
    /// They hold every record before this instant, and nothing after it.
    pub as_of: Instant,
    /// Products on sale.
    pub product_count: i64,
    /// The day so far.
    pub today: Today,
    /// The last window that is closed, also if nothing happened in it; none before the first.
    pub newest_closed_window: Option<WindowAnswer>,
}

/// The day of the as-of in the job's time zone.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Today {
    /// The day.
    #[schema(format = Date, example = "2026-11-25")]
    pub date: String,
    /// IANA name of the time zone.
    #[schema(example = "Asia/Seoul")]
    pub timezone: String,
    /// Its first instant.
    pub from: Instant,
    /// All its windows are kept still.
    pub complete: bool,
    /// Sums of its closed windows.
    pub closed: Sums,
    /// Sums of its open windows.
    pub open: Sums,
}

/// Sums over windows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sums {
    /// By currency, in its order.
    pub payments: Vec<PaymentSum>,
    /// Items sold.
    pub items_sold: i128,
    /// By kind, in its order.
    pub clicks: Vec<ClickCount>,
}

/// Payments in a currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PaymentSum {
    /// The currency.
    #[schema(example = "KRW")]
    pub currency: String,
    /// Money as a decimal with exactly the job's digits.
    #[schema(pattern = r"^-?[0-9]+(\.[0-9]+)?$", example = "120000.00")]
    pub sum: String,
    /// How many payments.
    pub count: i64,
}

/// Clicks of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ClickCount {
    /// The kind.
    #[schema(example = "view")]
    pub kind: String,
    /// How many clicks.
    pub count: i64,
}

/// A store in a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WindowAnswer {
    /// Its first instant, which names it.
    pub start: Instant,
    /// The first instant after it.
    pub end: Instant,
    /// It is final, but for corrections.
    pub closed: bool,
    /// How many times it was corrected since it was closed: the most of its parts.
    pub revision: u32,
    /// By currency, in its order.
    pub payments: Vec<Payment>,
    /// None if nothing was sold.
    pub sales: Option<Sales>,
    /// By kind, in its order.
    pub clicks: Vec<Clicks>,
}

/// Payments in a currency in a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Payment {
    /// The currency.
    #[schema(example = "KRW")]
    pub currency: String,
    /// Money as a decimal with exactly the job's digits.
    #[schema(pattern = r"^-?[0-9]+(\.[0-9]+)?$", example = "9900.00")]
    pub sum: String,
    /// How many payments.
    pub count: i64,
    /// How many times it was corrected.
    pub revision: u32,
}

/// What was sold in a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sales {
    /// Items.
    pub items_sold: i128,
    /// Distinct products.
    pub products_sold: i64,
    /// How many times it was corrected.
    pub revision: u32,
}

/// Clicks of a kind in a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Clicks {
    /// The kind.
    #[schema(example = "view")]
    pub kind: String,
    /// How many clicks.
    pub count: i64,
    /// Distinct products; none where the job does not keep them.
    pub products_clicked: Option<i64>,
    /// How many times it was corrected.
    pub revision: u32,
}

/// A store's windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WindowsAnswer {
    /// Its id.
    pub store: String,
    /// They hold every record before this instant, and nothing after it.
    pub as_of: Instant,
    /// Oldest first; one in which the store has no cell is not there.
    pub windows: Vec<WindowAnswer>,
    /// The cursor of those that follow, if there are more.
    #[schema(pattern = "^[0-9]{1,18}$")]
    pub next_cursor: Option<String>,
}

/// Ids of stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct StoresAnswer {
    /// They are those of this instant at least.
    pub as_of: Instant,
    /// Bytewise ascending.
    pub stores: Vec<String>,
    /// The cursor of those that follow, if there are more.
    pub next_cursor: Option<String>,
}

/// A store's numbers now, of a cut that has the windows that are needed for it.
pub fn store_now(store: &str, cut: &StoreCut, about: &About, zone: &Zone) -> StoreNow {
    let horizons = &about.horizons;
    let day = calendar::day_of(horizons, zone, cut.as_of);
    let of_today = cut.windows.iter().filter(|cells| day.windows.contains(&cells.window));
    let (closed, open): (Vec<_>, Vec<_>) = of_today.partition(|cells| horizons.closed(cells.window, cut.as_of));
    let newest_closed = calendar::newest_closed(horizons, cut.as_of);
    let sums_of = |windows: &[&WindowCells]| sums(windows.iter().flat_map(|cells| &cells.cells), about);
    StoreNow {
        store: store.to_owned(),
        as_of: Instant::of(cut.as_of),
        product_count: cut.product_count,
        today: Today {
            timezone: about.timezone.clone(),
            from: Instant(day.from),
            // The oldest window is the first to expire.
            complete: !horizons.expired(day.windows.start, cut.as_of),
            closed: sums_of(&closed),
            open: sums_of(&open),
            date: day.date,
        },
        newest_closed_window: newest_closed.map(|window| {
            let cells = cut.windows.iter().find(|cells| cells.window == window);
            window_answer(window, cells.map_or(&[], |cells| &cells.cells), about, cut.as_of)
        }),
    }
}

/// Windows of a store; of those that are open only if `open`.
pub fn windows(store: &str, cut: &StoreCut, about: &About, open: bool) -> WindowsAnswer {
    let (shown, next_cursor) = page(&cut.windows, |cells| cells.window, cut.more, about, cut.as_of, open);
    let windows = shown.iter().map(|cells| window_answer(cells.window, &cells.cells, about, cut.as_of)).collect();
    WindowsAnswer { store: store.to_owned(), as_of: Instant::of(cut.as_of), windows, next_cursor }
}

/// Those of some windows, oldest first, that are wanted, and where to go on if there are more. Open ones come after all that are closed.
pub(super) fn page<'w, W>(
    windows: &'w [W],
    window: impl Fn(&W) -> Window,
    more: bool,
    about: &About,
    as_of: u64,
    open: bool,
) -> (&'w [W], Option<String>) {
    let wanted = |each: &W| open || about.horizons.closed(window(each), as_of);
    let shown = &windows[..windows.partition_point(wanted)];
    let last = shown.last().filter(|_| more && shown.len() == windows.len());
    (shown, last.map(|last| about.horizons.end(window(last)).to_string()))
}

fn window_answer(window: Window, cells: &[StoreCell], about: &About, as_of: u64) -> WindowAnswer {
    let mut answer = WindowAnswer {
        start: Instant(window),
        end: Instant::of(about.horizons.end(window)),
        closed: about.horizons.closed(window, as_of),
        revision: cells.iter().map(|cell| cell.revision).max().unwrap_or(0),
        payments: Vec::new(),
        sales: None,
        clicks: Vec::new(),
    };
    for StoreCell { table, second, value, revision } in cells {
        let revision = *revision;
        match table {
            Table::StorePayments => {
                let sum = money(value.sum, about.scale);
                answer.payments.push(Payment { currency: second.clone(), sum, count: value.count, revision });
            }
            Table::StoreSales => {
                answer.sales = Some(Sales { items_sold: value.sum, products_sold: value.distinct, revision });
            }
            Table::StoreClicks => {
                let products_clicked = about.clicks_distinct.then_some(value.distinct);
                answer.clicks.push(Clicks { kind: second.clone(), count: value.count, products_clicked, revision });
            }
            Table::StoreProducts => {}
        }
    }
    answer
}

/// Sums of cells of any windows.
pub(super) fn sums<'c>(cells: impl Iterator<Item = &'c StoreCell>, about: &About) -> Sums {
    let mut payments = std::collections::BTreeMap::<&str, (i128, i64)>::new();
    let mut clicks = std::collections::BTreeMap::<&str, i64>::new();
    let mut items_sold = 0;
    for StoreCell { table, second, value, .. } in cells {
        match table {
            Table::StorePayments => {
                let (sum, count) = payments.entry(second).or_default();
                (*sum, *count) = (*sum + value.sum, *count + value.count);
            }
            Table::StoreSales => items_sold += value.sum,
            Table::StoreClicks => *clicks.entry(second).or_default() += value.count,
            Table::StoreProducts => {}
        }
    }
    let payment = |(currency, (sum, count)): (&str, (i128, i64))| PaymentSum {
        currency: currency.to_owned(),
        sum: money(sum, about.scale),
        count,
    };
    let click = |(kind, count): (&str, i64)| ClickCount { kind: kind.to_owned(), count };
    Sums { payments: payments.into_iter().map(payment).collect(), items_sold, clicks: clicks.into_iter().map(click).collect() }
}

#[cfg(test)]
mod tests {
    use storeflow_dataflows::table::Value;

    use super::*;
    use crate::serve::model::{fresh, json};
    use crate::serve::testing::{about, ms};

    fn cell(table: Table, second: &str, sum: i128, count: i64, distinct: i64, revision: u32) -> StoreCell {
        StoreCell { table, second: second.to_owned(), value: Value { sum, count, distinct }, revision }
    }

    fn window(start: &str, cells: Vec<StoreCell>) -> WindowCells {
        WindowCells { window: ms(start) as i64, cells }
    }

    fn cut(windows: Vec<WindowCells>) -> StoreCut {
        StoreCut { as_of: ms("2026-11-25T05:41:07Z"), known: true, product_count: 118, windows, more: false }
    }

    fn seoul() -> Zone {
        Zone::named("Asia/Seoul").expect("a zone")
    }

    #[test]
    fn the_answer_about_a_store_is_that_of_the_page() {
        let view = |count, distinct| cell(Table::StoreClicks, "view", 0, count, distinct, 0);
        let windows = vec![
            // Yesterday's, which is not of today.
            window("2026-11-24T14:30:00Z", vec![view(1_000, 1)]),
            window(
                "2026-11-24T15:00:00Z",
                vec![
                    cell(Table::StorePayments, "KRW", 11_010_000, 11, 0, 2),
                    cell(Table::StoreSales, "", 29, 11, 5, 0),
                    view(495, 5),
                ],
            ),
            window(
                "2026-11-25T05:00:00Z",
                vec![cell(Table::StorePayments, "KRW", 990_000, 1, 0, 0), cell(Table::StoreSales, "", 2, 2, 2, 0), view(17, 9)],
            ),
            window("2026-11-25T05:30:00Z", vec![view(3, 1)]),
        ];
        let about = crate::publish::layout::About { timezone: "Asia/Seoul".to_owned(), ..about() };
        let now = store_now("1042", &cut(windows), &about, &seoul());
        let expected = r#"{"store":"1042","as_of":"2026-11-25T05:41:07Z","product_count":118,"today":{"date":"2026-11-25","timezone":"Asia/Seoul","from":"2026-11-24T15:00:00Z","complete":true,"closed":{"payments":[{"currency":"KRW","sum":"120000.00","count":12}],"items_sold":31,"clicks":[{"kind":"view","count":512}]},"open":{"payments":[],"items_sold":0,"clicks":[{"kind":"view","count":3}]}},"newest_closed_window":{"start":"2026-11-25T05:00:00Z","end":"2026-11-25T05:30:00Z","closed":true,"revision":0,"payments":[{"currency":"KRW","sum":"9900.00","count":1,"revision":0}],"sales":{"items_sold":2,"products_sold":2,"revision":0},"clicks":[{"kind":"view","count":17,"products_clicked":9,"revision":0}]}}"#;
        assert_eq!(String::from_utf8(json(&now)).expect("UTF-8"), expected);
        // What is put together of two parts is what the type says.
        let fresh = fresh(&about, ms("2026-11-25T05:41:07Z"), false, ms("2026-11-25T05:41:08Z"), &[]);
        let kept = crate::serve::answers::Kept::new(0, json(&now)).with(&json(&fresh));
        let whole: serde_json::Value = serde_json::from_slice(&kept).expect("JSON");
        let typed: serde_json::Value = serde_json::from_slice(&json(&StoreAnswer { now, fresh })).expect("JSON");
        assert_eq!(whole, typed);
    }

    #[test]
    fn a_quiet_store_has_an_empty_newest_window() {
        let now = store_now("1", &cut(Vec::new()), &about(), &seoul());
        let newest = now.newest_closed_window.expect("one is closed");
        assert_eq!((newest.start, newest.closed, newest.sales), (Instant(ms("2026-11-25T05:00:00Z") as i64), true, None));
        assert_eq!((now.today.closed, now.today.open), (Sums::default(), Sums::default()));
    }

    #[test]
    fn a_short_retention_makes_today_incomplete() {
        let mut about = about();
        about.horizons.retention = 60 * 60_000;
        assert!(!store_now("1", &cut(Vec::new()), &about, &seoul()).today.complete);
    }

    #[test]
    fn open_windows_are_shown_to_those_who_ask() {
        let click = || vec![cell(Table::StoreClicks, "view", 0, 1, 1, 3)];
        let mut cut = cut(vec![window("2026-11-25T05:00:00Z", click()), window("2026-11-25T05:30:00Z", click())]);
        let closed = windows("1", &cut, &about(), false);
        assert_eq!((closed.windows.len(), closed.next_cursor, closed.windows[0].revision), (1, None, 3));
        assert_eq!(windows("1", &cut, &about(), true).windows.len(), 2);
        cut.more = true;
        // All that comes after an open window is open.
        assert_eq!(windows("1", &cut, &about(), false).next_cursor, None);
        assert_eq!(windows("1", &cut, &about(), true).next_cursor, Some(ms("2026-11-25T06:00:00Z").to_string()));
    }

    #[test]
    fn distinct_products_that_are_not_kept_are_null() {
        let about = crate::publish::layout::About { clicks_distinct: false, ..about() };
        let cut = cut(vec![window("2026-11-25T05:00:00Z", vec![cell(Table::StoreClicks, "view", 0, 1, 0, 0)])]);
        assert_eq!(windows("1", &cut, &about, false).windows[0].clicks[0].products_clicked, None);
    }
}
