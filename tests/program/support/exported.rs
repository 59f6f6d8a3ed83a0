//! What `export` says, laid out as a page shows it: by store and window, every measure with its exact text.
//!
//! Upholds: nothing here is taken from the API. Days are made of windows by the zone, with code of its own.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::binary::succeed;

/// What a store, or all of them, did in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) closed: bool,
    /// The highest of its cells; of all stores together 0.
    pub(crate) revision: u64,
    /// By the API's names of measures, such as `payment_sum:KRW`: the exact text.
    pub(crate) cells: BTreeMap<String, String>,
}

/// A store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Store {
    /// 0 without a cell.
    pub(crate) product_count: i64,
    /// By their start.
    pub(crate) windows: BTreeMap<String, Window>,
}

/// Every cell that was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exported {
    pub(crate) as_of: String,
    pub(crate) stores: BTreeMap<String, Store>,
}

impl Exported {
    /// Exports all tables from `place`, such as `["--data-dir", "out"]`.
    pub(crate) fn read(place: &[&str]) -> Exported {
        let mut exported = Exported { as_of: String::new(), stores: BTreeMap::new() };
        for table in ["store_payments", "store_sales", "store_clicks", "store_products"] {
            for line in succeed(&[&["export", "--table", table][..], place].concat()).lines() {
                exported.add(table, &serde_json::from_str(line).expect("a row"));
            }
        }
        exported
    }

    fn add(&mut self, table: &str, row: &Value) {
        let text = |name: &str| row[name].as_str().expect("text").to_owned();
        // Numbers keep their digits.
        let exact = |name: &str| row[name].as_str().map_or_else(|| row[name].to_string(), str::to_owned);
        self.as_of = text("as_of");
        let store = self.stores.entry(text("store_id")).or_default();
        if table == "store_products" {
            store.product_count = row["product_count"].as_i64().expect("a count");
            return;
        }
        let window = store.windows.entry(text("window_start")).or_default();
        window.closed = row["closed"].as_bool().expect("known");
        window.revision = window.revision.max(row["revision"].as_u64().expect("a number"));
        let named = |measure: &str, column: &str| {
            let of = if column.is_empty() { String::new() } else { format!(":{}", text(column)) };
            format!("{measure}{of}")
        };
        let measures: &[(&str, &str, &str)] = match table {
            "store_payments" => &[("payment_sum", "payment_sum", "currency"), ("payment_count", "payment_count", "currency")],
            "store_sales" => &[("items_sold", "items_sold", ""), ("products_sold", "products_sold", "")],
            _ => &[("clicks", "clicks", "kind"), ("products_clicked", "products_clicked", "kind")],
        };
        for (measure, column, of) in measures {
            window.cells.insert(named(measure, of), exact(column));
        }
    }

    /// The stores that show most: corrections, an open window, several currencies.
    pub(crate) fn telling(&self, count: usize) -> Vec<String> {
        let worth = |store: &Store| {
            let of = |judge: &dyn Fn(&Window) -> bool| store.windows.values().filter(|window| judge(window)).count();
            let currencies = store.measures().iter().filter(|measure| measure.starts_with("payment_sum:")).count();
            (currencies, of(&|window| !window.closed).min(1), of(&|window| window.revision > 0), store.windows.len())
        };
        let mut stores: Vec<(&String, &Store)> = self.stores.iter().collect();
        stores.sort_by_key(|(_, store)| std::cmp::Reverse(worth(store)));
        stores.into_iter().take(count).map(|(id, _)| id.clone()).collect()
    }

    /// All stores together; what is distinct does not add up, and neither do revisions.
    pub(crate) fn all(&self) -> Store {
        let mut all = Store::default();
        for store in self.stores.values() {
            all.product_count += store.product_count;
            for (start, of) in &store.windows {
                let window = all.windows.entry(start.clone()).or_default();
                window.closed = of.closed;
                let adding = of.cells.iter().filter(|(measure, _)| !measure.starts_with("products_"));
                for (measure, value) in adding.map(|(measure, value)| (measure.clone(), value)) {
                    add(&mut window.cells, measure, value);
                }
                add(&mut window.cells, "stores".to_owned(), "1");
                // Where nothing was sold, the sum over all stores is 0; a store has no cell.
                window.cells.entry("items_sold".to_owned()).or_insert_with(|| "0".to_owned());
            }
        }
        all
    }
}

impl Store {
    /// Every measure that it has anywhere.
    pub(crate) fn measures(&self) -> BTreeSet<String> {
        self.windows.values().flat_map(|window| window.cells.keys().cloned()).collect()
    }

    /// Its windows from `from` on.
    pub(crate) fn since(&self, from: Timestamp) -> BTreeMap<&str, &Window> {
        let all = self.windows.iter().map(|(start, window)| (start.as_str(), window));
        all.filter(|(start, _)| instant(start) >= from).collect()
    }

    /// The sums of a measure over the windows of a kind from `from` on, by what follows its colon, exactly.
    pub(crate) fn sums(&self, measure: &str, from: Timestamp, closed: bool) -> BTreeMap<String, String> {
        let mut sums: BTreeMap<String, String> = BTreeMap::new();
        let windows = self.windows.iter().filter(|(start, window)| instant(start) >= from && window.closed == closed);
        for (name, value) in windows.flat_map(|(_, window)| &window.cells) {
            let (of, what) = name.split_once(':').unwrap_or((name, ""));
            if of == measure {
                add(&mut sums, what.to_owned(), value);
            }
        }
        sums
    }

    /// The sum of a measure over all closed windows from `from` on, of whatever it has behind its colon.
    pub(crate) fn total(&self, measure: &str, from: Timestamp) -> String {
        self.sums(measure, from, true).values().fold("0".to_owned(), |sum, value| plus(&sum, value))
    }
}

/// An instant of RFC 3339.
pub(crate) fn instant(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

/// When the day of an instant begins in a zone.
pub(crate) fn midnight_before(text: &str, zone: &str) -> Timestamp {
    let zone = TimeZone::get(zone).expect("a zone");
    instant(text).to_zoned(zone).start_of_day().expect("a day has a beginning").timestamp()
}

/// Adds a number to the one of that name.
fn add(sums: &mut BTreeMap<String, String>, name: String, value: &str) {
    sums.entry(name).and_modify(|sum| *sum = plus(sum, value)).or_insert_with(|| value.to_owned());
}

/// Adds decimal numbers of equally many digits after the point.
fn plus(left: &str, right: &str) -> String {
    let digits = |text: &str| text.split_once('.').map_or(0, |(_, digits)| digits.len());
    let units = |text: &str| text.replace('.', "").parse::<i128>().expect("a number");
    let scale = digits(right);
    let sum = units(left) + units(right);
    let text = format!("{:0>width$}", sum.unsigned_abs(), width = scale + 1);
    let (whole, part) = text.split_at(text.len() - scale);
    let sign = if sum < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

/// The number that a person reads in a text of digits, separators and a currency, without zeros at its end.
pub(crate) fn read_number(text: &str) -> String {
    let number: String =
        text.replace(['\u{2212}', '\u{2013}'], "-").chars().filter(|c| c.is_ascii_digit() || "-.".contains(*c)).collect();
    canonical(&number)
}

/// A number without zeros at its end.
pub(crate) fn canonical(number: &str) -> String {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.').to_owned() } else { number.to_owned() }
}
