//! `storeflow export`: what the last finished run says, to standard output.

use std::io::{BufWriter, ErrorKind, Write};

use anyhow::Context;
use clap::{Args, ValueEnum};
use storeflow_dataflows::table::Table;

use super::Failure;
use super::redis_args::RedisArgs;
use super::store_args::PlaceArgs;
use crate::publish::layout::About;
use crate::publish::redis::{RedisSettings, RedisView};
use crate::publish::row::{Field, Row, cell_fields, late_fields, names};
use crate::publish::{Current, LateRow, Output};

/// Print a table of the last finished run, sorted by key.
///
/// Without --history: the cells of windows that have not expired. The value of every row is as of `as_of`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The table
    #[arg(long, value_name = "TABLE")]
    table: TableArg,
    /// Only rows of this store
    #[arg(long, value_name = "ID")]
    store: Option<String>,
    /// One JSON object per line, or CSV with a header
    #[arg(long, value_name = "FORMAT", default_value = "ndjson")]
    format: Format,
    /// Every window's final row from the history, expired windows included; `as_of` is the row's epoch.
    /// Late adjustments are history in any case
    #[arg(long)]
    history: bool,
    /// The job whose Redis view it is
    #[arg(long, value_name = "NAME", requires = "redis")]
    job_name: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    redis: RedisArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum TableArg {
    StorePayments,
    StoreSales,
    StoreClicks,
    StoreProducts,
    LateAdjustments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Ndjson,
    Csv,
}

impl From<TableArg> for Output {
    fn from(table: TableArg) -> Self {
        match table {
            TableArg::StorePayments => Output::Cells(Table::StorePayments),
            TableArg::StoreSales => Output::Cells(Table::StoreSales),
            TableArg::StoreClicks => Output::Cells(Table::StoreClicks),
            TableArg::StoreProducts => Output::Cells(Table::StoreProducts),
            TableArg::LateAdjustments => Output::LateAdjustments,
        }
    }
}

/// Runs the command.
pub fn run(args: &ExportArgs) -> Result<(), Failure> {
    let (about, as_of, rows) = match args.redis.resolve()? {
        Some(settings) => from_redis(&settings, args)?,
        None => {
            let current = Current::open(&args.place.open()?)?;
            let rows = Rows::read(&current, args)?;
            (current.about, current.as_of, rows)
        }
    };
    let out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    match print(&rows, &about, as_of, args, out) {
        // Whoever read us has seen enough: `storeflow export … | head`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed.context("could not write to standard output")?),
    }
}

/// The rows of the Redis view, which has no history.
fn from_redis(settings: &RedisSettings, args: &ExportArgs) -> Result<(About, u64, Rows), Failure> {
    let Output::Cells(table) = args.table.into() else {
        return Err(anyhow::anyhow!("late adjustments are history, which Redis does not hold; use --data-dir alone").into());
    };
    if args.history {
        return Err(anyhow::anyhow!("Redis holds no history; use --history with --data-dir alone").into());
    }
    let job = match &args.job_name {
        Some(name) => name.clone(),
        None if args.place.is_given() => Current::open(&args.place.open()?)?.about.job,
        None => return Err(anyhow::anyhow!("--redis needs to know whose view to print: give --job-name").into()),
    };
    let mut view = RedisView::connect(settings, &job)?.read()?;
    if view.ahead > 0 {
        tracing::warn!(buckets = view.ahead, "the job is running: parts of the view are ahead of its as-of");
    }
    let mut rows = view.take(table);
    rows.retain(|row| args.store.as_ref().is_none_or(|wanted| *wanted == row.store_id));
    Ok((view.current.about, view.current.as_of, Rows::Cells(rows)))
}

/// What will be printed.
enum Rows {
    Cells(Vec<Row>),
    Late(Vec<LateRow>),
}

impl Rows {
    fn read(current: &Current, args: &ExportArgs) -> Result<Rows, Failure> {
        let wanted = |store: &str| args.store.as_deref().is_none_or(|wanted| wanted == store);
        Ok(match args.table.into() {
            Output::Cells(table) => {
                let mut rows = if args.history { current.history_rows(table)? } else { current.view_rows(table)? };
                rows.retain(|row| wanted(&row.store_id));
                Rows::Cells(rows)
            }
            Output::LateAdjustments => {
                let mut rows = current.late_rows()?;
                rows.retain(|row| wanted(&row.store_id));
                Rows::Late(rows)
            }
        })
    }
}

fn print(rows: &Rows, about: &About, shown_at: u64, args: &ExportArgs, out: impl Write) -> std::io::Result<()> {
    let scale = about.scale;
    let mut printer = Printer::new(args.table.into(), args.format, scale, out)?;
    match rows {
        Rows::Cells(rows) => rows.iter().try_for_each(|row| {
            let as_of = if args.history { row.epoch } else { shown_at };
            printer.row(&cell_fields(row, &about.horizons, as_of))
        })?,
        Rows::Late(rows) => rows.iter().try_for_each(|row| printer.row(&late_fields(row, scale)))?,
    }
    printer.finish()
}

/// Rows in one of the formats.
enum Printer<W: Write> {
    Ndjson { names: &'static [&'static str], scale: u32, out: W },
    Csv { scale: u32, out: Box<csv::Writer<W>> },
}

impl<W: Write> Printer<W> {
    fn new(output: Output, format: Format, scale: u32, out: W) -> std::io::Result<Self> {
        let names = names(output);
        match format {
            Format::Ndjson => Ok(Printer::Ndjson { names, scale, out }),
            Format::Csv => {
                let mut out = Box::new(csv::Writer::from_writer(out));
                out.write_record(names).map_err(io_error)?;
                Ok(Printer::Csv { scale, out })
            }
        }
    }

    fn row(&mut self, fields: &[Field]) -> std::io::Result<()> {
        match self {
            Printer::Ndjson { names, scale, out } => {
                for (at, (name, field)) in names.iter().zip(fields).enumerate() {
                    write!(out, "{}\"{name}\":", if at == 0 { '{' } else { ',' })?;
                    match field {
                        Field::Null => out.write_all(b"null")?,
                        Field::Text(text) => serde_json::to_writer(&mut *out, text)?,
                        Field::Number(_) | Field::Bool(_) => out.write_all(field.text(*scale).as_bytes())?,
                        Field::Money(_) | Field::Time(_) => write!(out, "\"{}\"", field.text(*scale))?,
                    }
                }
                out.write_all(b"}\n")
            }
            Printer::Csv { scale, out } => out.write_record(fields.iter().map(|field| field.text(*scale))).map_err(io_error),
        }
    }

    fn finish(self) -> std::io::Result<()> {
        match self {
            Printer::Ndjson { mut out, .. } => out.flush(),
            Printer::Csv { mut out, .. } => out.flush(),
        }
    }
}

/// The cause within an error of the csv crate, so that a broken pipe is known as one.
fn io_error(error: csv::Error) -> std::io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => std::io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::publish::tests::small_run;
    use crate::store::Store;

    fn args(root: &Path, table: TableArg, format: Format, store: Option<&str>, history: bool) -> ExportArgs {
        let (place, redis) = (PlaceArgs::folder(root), RedisArgs::default());
        ExportArgs { table, store: store.map(str::to_owned), format, history, job_name: None, place, redis }
    }

    fn export(root: &Path, table: TableArg, format: Format, store: Option<&str>, history: bool) -> String {
        let args = args(root, table, format, store, history);
        let current = Current::open(&args.place.open().unwrap()).unwrap();
        let Ok(rows) = Rows::read(&current, &args) else { panic!("could not read") };
        let mut out = Vec::new();
        print(&rows, &current.about, current.as_of, &args, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_lines_are_a_public_interface() {
        let root = tempfile::tempdir().unwrap();
        small_run(root.path());
        let ndjson = |table| export(root.path(), table, Format::Ndjson, None, false);
        assert_eq!(
            ndjson(TableArg::StorePayments),
            r#"{"store_id":"s-10","currency":"KRW","window_start":"2026-11-20T10:00:00Z","payment_sum":"-12.34","payment_count":7,"window_end":"2026-11-20T10:30:00Z","closed":true,"revision":1,"as_of":"2026-11-20T11:02:00Z"}
{"store_id":"s-2","currency":"KRW","window_start":"2026-11-20T10:00:00Z","payment_sum":"-12.34","payment_count":7,"window_end":"2026-11-20T10:30:00Z","closed":true,"revision":1,"as_of":"2026-11-20T11:02:00Z"}
"#
        );
        let of_one = |table| export(root.path(), table, Format::Ndjson, Some("s-2"), false);
        assert_eq!(
            of_one(TableArg::StoreSales),
            r#"{"store_id":"s-2","window_start":"2026-11-20T10:00:00Z","items_sold":-1234,"products_sold":3,"window_end":"2026-11-20T10:30:00Z","closed":true,"revision":1,"as_of":"2026-11-20T11:02:00Z"}
"#
        );
        assert_eq!(
            of_one(TableArg::StoreClicks),
            r#"{"store_id":"s-2","kind":"view","window_start":"2026-11-20T10:00:00Z","clicks":7,"products_clicked":3,"window_end":"2026-11-20T10:30:00Z","closed":true,"revision":1,"as_of":"2026-11-20T11:02:00Z"}
"#
        );
        assert_eq!(
            of_one(TableArg::StoreProducts),
            r#"{"store_id":"s-2","product_count":7,"window_end":null,"closed":null,"revision":null,"as_of":"2026-11-20T11:02:00Z"}
"#
        );
        assert_eq!(
            of_one(TableArg::LateAdjustments),
            r#"{"table":"store_sales","store_id":"s-2","second":null,"window_start":"2026-11-17T10:00:00Z","sum_delta":"3.00","count_delta":-1,"topic":"mall.payments","partition":3,"position":4294967295,"stamp":"2026-11-20T10:32:00.005Z","as_of":"2026-11-20T11:02:00Z"}
{"table":"store_payments","store_id":"s-2","second":"KRW","window_start":"2026-11-17T10:00:00Z","sum_delta":"-19.99","count_delta":-1,"topic":"mall.payments","partition":3,"position":4294967295,"stamp":"2026-11-20T10:32:00.005Z","as_of":"2026-11-20T11:02:00Z"}
"#
        );
        assert_eq!(of_one(TableArg::StorePayments).lines().count(), 1);
        assert_eq!(export(root.path(), TableArg::StorePayments, Format::Ndjson, Some("none"), false), "");
    }

    #[test]
    fn history_has_the_final_row_of_each_cell() {
        let root = tempfile::tempdir().unwrap();
        small_run(root.path());
        assert_eq!(
            export(root.path(), TableArg::StoreClicks, Format::Csv, None, true),
            "store_id,kind,window_start,clicks,products_clicked,window_end,closed,revision,as_of\n\
             s-2,view,2026-11-20T10:00:00Z,7,3,2026-11-20T10:30:00Z,true,1,2026-11-20T11:02:00Z\n"
        );
        assert_eq!(
            export(root.path(), TableArg::StoreProducts, Format::Csv, None, true),
            "store_id,product_count,window_end,closed,revision,as_of\ns-2,7,,,,2026-11-20T11:02:00Z\n"
        );
    }

    #[test]
    fn a_reader_that_leaves_is_no_failure() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let root = tempfile::tempdir().unwrap();
        small_run(root.path());
        let current = Current::open(&Store::folder(root.path()).unwrap()).unwrap();
        for format in [Format::Ndjson, Format::Csv] {
            let args = args(root.path(), TableArg::StoreClicks, format, None, false);
            let Ok(rows) = Rows::read(&current, &args) else { panic!("could not read") };
            assert_eq!(print(&rows, &current.about, current.as_of, &args, Gone).unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
    }
}
