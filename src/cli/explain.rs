//! `storeflow explain`: what a number is made of.
//!
//! ```text
//! checkpoint ─┬─ latest rows, all shards ─► those of the store and window that count ─► their sums ─┐
//!             └─ cells, the store's shard ────────────────────────────────────────────► the cell ──┴─► agree, or exit code 1
//!                                              the dumped view, if it is of the same as-of ─► its row ─┘
//! ```
//!
//! Rows and cells are kept by different operators on different workers, so that they agree is no matter of course: whoever
//! doubts a number sees its parts, and adds them up by hand.
//!
//! Upholds: (1) all that is compared is of one as-of; (2) what cannot be said is said to be so: the rows of clicks are not kept,
//! windows that have expired have no cells.
//! Absent on purpose: records. Where in its topic a row came from is not kept; where in the source's own log, is.

mod gather;
mod print;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};

use anyhow::{Context, anyhow};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use storeflow_checkpoints::manifest::Manifest;
use storeflow_dataflows::table::{NO_WINDOW, Table, Value, Window};

use self::gather::{Gathered, gather};
use super::Failure;
use super::checkpoints::Chosen;
use super::store_args::PlaceArgs;
use crate::publish::layout::Current;
use crate::publish::row::Row;
use crate::publish::time::{instant, parse_instant};
use crate::runtime::setting::Setting;

/// Print the rows that make up a store's cells in a window, with their sum next to the cell; exit code 1 if they differ
///
/// As of the newest checkpoint. Every latest row that counts: primary key, amount or quantity, product, the stamp of its last change,
/// and where its database stood then (binlog file and position, or LSN). Rows of clicks are not kept: of these the cell and
/// its distinct products, if the job keeps them. All rows of the table are looked through, so it takes as long as a start.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The store's id
    #[arg(long, value_name = "ID")]
    store: String,

    /// An instant in the window, such as 2026-11-20T10:00:00Z or milliseconds since 1970; without --table all tables with windows
    #[arg(long, value_name = "W", value_parser = parse_window, required_unless_present = "table")]
    window: Option<u64>,

    /// One table only; store_products has no window
    #[arg(long, value_name = "TABLE", value_parser = parse_table())]
    table: Option<Table>,

    /// This checkpoint in place of the newest; `storeflow checkpoints list` shows which can be loaded
    #[arg(long, value_name = "N")]
    checkpoint: Option<u64>,

    /// Text for people, or one JSON object per line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,

    /// The job's name [default: that of the current run]
    #[arg(long, value_name = "NAME")]
    job_name: Option<String>,

    /// The generation's number [default: the current one; of a job that has none, the latest]
    #[arg(long, value_name = "N")]
    generation: Option<u64>,

    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Tables by their names, which the help lists.
fn parse_table() -> impl TypedValueParser<Value = Table> {
    let of = |name: String| Table::ALL.into_iter().find(|table| table.name() == name).expect("it is one of the possible values");
    PossibleValuesParser::new(Table::ALL.map(Table::name)).map(of)
}

fn parse_window(text: &str) -> Result<u64, String> {
    parse_instant(text).ok_or_else(|| "is no instant such as 2026-11-20T10:00:00Z, and no number of milliseconds".to_owned())
}

/// Runs the command.
///
/// # Errors
/// [`Failure::Check`] if rows and cells differ; otherwise if there is no checkpoint, it cannot be loaded, or the window is none.
pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let chosen = Chosen::of(args.place.open()?, args.job_name.as_deref(), args.generation)?;
    let (_newest, manifest) = chosen.loadable(args.checkpoint)?.ok_or_else(|| chosen.none())?;
    let setting = Setting::of(&manifest)?;
    let wanted = wanted(args, &setting, &manifest)?;
    let gathered = gather(&**chosen.log.objects(), &manifest, &wanted, &args.store).with_context(|| {
        format!("could not load checkpoint {}; `storeflow checkpoints verify` says what is whole", manifest.number)
    })?;
    let view = dumped(&chosen, &manifest);
    let mut explained = Vec::new();
    for &(table, window) in &wanted {
        let mut found = gathered.of(table);
        let shown = view.map(|view| view_rows(view, table, window, &args.store)).transpose()?;
        // A cell that the view alone has is wrong, too.
        for second in shown.iter().flat_map(BTreeMap::keys) {
            found.entry(second.clone()).or_default();
        }
        for (second, Gathered { rows, cell, products }) in found {
            let view = shown.as_ref().map(|shown| shown.get(&second).cloned());
            explained.push(Explained { table, window, second, rows, cell, products, view });
        }
    }
    let about = setting.about(&manifest);
    let page = print::Page { manifest: &manifest, setting: &setting, about: &about, store: &args.store, wanted: &wanted };
    let out = match args.format {
        Format::Text => page.text(&explained),
        Format::Json => page.json(&explained),
    };
    match std::io::stdout().lock().write_all(&out) {
        // Whoever read us has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    if explained.iter().all(Explained::agrees) { Ok(()) } else { Err(Failure::Check) }
}

/// The tables and windows to look at.
fn wanted(args: &ExplainArgs, setting: &Setting, manifest: &Manifest) -> anyhow::Result<Vec<(Table, Window)>> {
    let horizons = setting.horizons();
    let tables: Vec<Table> = match args.table {
        Some(table) => vec![table],
        None => Table::ALL.into_iter().filter(|table| table.windowed() && setting.feeds(*table)).collect(),
    };
    let window = match args.window {
        Some(_) if args.table == Some(Table::StoreProducts) => {
            return Err(anyhow!("store_products has no window: products on sale count whenever they came; leave --window away"));
        }
        Some(at) => Some(horizons.window_of(at)),
        None => None,
    };
    if let Some(window) = window.filter(|window| horizons.expired(*window, manifest.as_of)) {
        return Err(anyhow!(
            "the window {} has expired as of {}: it has no cells any more, and rows of it are being forgotten. `storeflow export \
             --history` has its final rows, and its table late_adjustments what came afterwards",
            instant(window),
            instant(manifest.as_of as i64)
        ));
    }
    let of = |table: Table| match (table.windowed(), window) {
        (false, _) => Ok((table, NO_WINDOW)),
        (true, Some(window)) => Ok((table, window)),
        (true, None) => Err(anyhow!("{} has windows: say which by --window", table.name())),
    };
    tables.into_iter().map(of).collect()
}

/// The dumped view, if it is of the same as-of.
fn dumped<'a>(chosen: &'a Chosen, manifest: &Manifest) -> Option<&'a Current> {
    let same = |about: &crate::publish::layout::About| (&about.job, about.generation) == (&manifest.job, manifest.generation);
    chosen.current.as_ref().filter(|current| current.finished && current.as_of == manifest.as_of && same(&current.about))
}

/// The view's rows of a store in a window, by their second part.
fn view_rows(view: &Current, table: Table, window: Window, store: &str) -> anyhow::Result<BTreeMap<String, Row>> {
    let start = u64::try_from(window).ok();
    let rows = view.view_rows(table)?.into_iter().filter(|row| row.store_id == store && row.window_start == start);
    Ok(rows.map(|row| (row.second.clone(), row)).collect())
}

/// A cell, and all there is to say of it.
struct Explained {
    table: Table,
    window: Window,
    /// Currency or kind; empty where the table has neither.
    second: String,
    rows: Vec<gather::CountedRow>,
    /// Its value and revision; `None`: there is none.
    cell: Option<(Value, u32)>,
    /// Rows or clicks by product, as the cell's own state has them.
    products: BTreeMap<String, i64>,
    /// Its row in the dumped view, if that is of the same as-of.
    view: Option<Option<Row>>,
}

impl Explained {
    /// What the rows come to; `None` for clicks, of which they are not kept.
    fn sum(&self) -> Option<Value> {
        let different: std::collections::BTreeSet<&str> =
            self.rows.iter().map(|row| row.product.as_str()).filter(|product| !product.is_empty()).collect();
        (self.table != Table::StoreClicks).then(|| Value {
            sum: self.rows.iter().map(|row| row.amount).sum(),
            count: self.rows.len() as i64,
            distinct: different.len() as i64,
        })
    }

    fn value(&self) -> Value {
        self.cell.map_or_else(Value::default, |(value, _)| value)
    }

    /// Rows, products and view say what the cell says.
    fn agrees(&self) -> bool {
        let (value, revision) = (self.value(), self.cell.map(|(_, revision)| revision));
        let rows = self.sum().is_none_or(|sum| sum == value);
        let view = self.view.as_ref().is_none_or(|row| match (row, self.cell) {
            (None, cell) => cell.is_none(),
            (Some(row), _) => {
                row.sum == value.sum
                    && row.count.is_none_or(|count| count == value.count)
                    && row.distinct.is_none_or(|distinct| distinct == value.distinct)
                    && row.revision.is_none_or(|shown| revision == Some(shown))
            }
        });
        rows && view && self.products.len() as i64 == value.distinct
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(product: &str, amount: i128) -> gather::CountedRow {
        gather::CountedRow { key: Vec::new(), product: product.to_owned(), amount, version: None, stamp: 0 }
    }

    #[test]
    fn every_difference_counts() {
        let exact = || Explained {
            table: Table::StoreSales,
            window: 0,
            second: String::new(),
            rows: vec![row("a", 3), row("b", -1), row("a", 0)],
            cell: Some((Value { sum: 2, count: 3, distinct: 2 }, 1)),
            products: BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]),
            view: Some(Some(Row {
                table: Table::StoreSales,
                store_id: "s".to_owned(),
                second: String::new(),
                window_start: Some(0),
                sum: 2,
                count: None,
                distinct: Some(2),
                revision: Some(1),
                deleted: false,
                epoch: 0,
            })),
        };
        assert!(exact().agrees());
        let wrong: [fn(&mut Explained); 8] = [
            |cell| drop(cell.rows.pop()),
            |cell| cell.rows[0].amount += 1,
            |cell| cell.rows[0].product = "c".to_owned(),
            |cell| drop(cell.products.pop_first()),
            |cell| cell.cell = None,
            |cell| cell.view = Some(None),
            |cell| cell.view.as_mut().and_then(Option::as_mut).expect("a row").sum = 3,
            |cell| cell.view.as_mut().and_then(Option::as_mut).expect("a row").revision = Some(0),
        ];
        for (at, wrong) in wrong.into_iter().enumerate() {
            let mut cell = exact();
            wrong(&mut cell);
            assert!(!cell.agrees(), "{at}");
        }
        // An emptied cell is no cell, and no rows are no sum.
        assert!(Explained { rows: Vec::new(), cell: None, products: BTreeMap::new(), view: Some(None), ..exact() }.agrees());
        // Clicks: nothing to add up but products.
        let clicks = Explained { table: Table::StoreClicks, rows: Vec::new(), view: None, ..exact() };
        assert!(clicks.agrees() && !Explained { products: BTreeMap::new(), ..clicks }.agrees());
    }
}
