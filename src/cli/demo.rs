//! `storeflow demo`: a small mall, generated, replayed, summed up and proved exact.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use storeflow_dataflows::table::Table;

use super::Failure;
use super::progress::Progress;
use super::tuning::TuningArgs;
use super::verify::verify;
use crate::config::{Job, job_file};
use crate::generate::{self, Options};
use crate::publish::row::money;
use crate::publish::time::instant;
use crate::runtime::replay::{self, Kept};
use crate::store::Store;

/// Generate a day of a small mall, replay it, show the numbers and prove them exact; needs no service
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where everything goes: the dataset in `DIR/mall-dataset`, results beside it
    #[arg(long, env = "STOREFLOW_DATA_DIR", value_name = "DIR", default_value = "storeflow-data")]
    data_dir: PathBuf,

    /// Stores of the mall
    #[arg(long, value_name = "N", default_value_t = 300)]
    stores: u32,

    /// Payments, each with an order of one to four items
    #[arg(long, value_name = "N", default_value_t = 30_000)]
    payments: u64,

    /// Clicks
    #[arg(long, value_name = "N", default_value_t = 300_000)]
    clicks: u64,

    /// Where all chance comes from; the same seed gives the same numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    #[command(flatten)]
    tuning: TuningArgs,
}

/// Runs the command.
///
/// # Errors
/// If the data directory cannot be used; [`Failure::Check`] if the numbers were not exact.
pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let dataset = args.data_dir.join("mall-dataset");
    let options = Options {
        out: dataset.clone(),
        force: true,
        stores: args.stores,
        payments: args.payments,
        clicks: args.clicks,
        seed: args.seed,
        ..Options::default()
    };
    writeln!(out, "1. A day of a mall: {} stores, payments and products as CDC, clicks", args.stores)?;
    let made = generate::generate(&options)?;
    for topic in &made.topics {
        writeln!(out, "   {:<18} {:>9} records {:>9}", topic.topic.name(), topic.records, mebibytes(topic.bytes))?;
    }

    let job_path = dataset.join("mall.toml");
    let job = job_file::load(&job_path)?;
    let tuning = args.tuning.resolve();
    writeln!(out, "\n2. The dataflow, {} workers", tuning.workers)?;
    out.flush()?;
    let store = Store::folder(&args.data_dir)?;
    let mut progress = Progress::start();
    let kept = replay::run(&job, &dataset, &store, &tuning, |watch| progress.show(&watch))?;
    progress.end();
    summary(&mut out, &job, &kept)?;

    writeln!(out, "\n3. The proof: everything again from the records, by other code, one row after the other")?;
    write!(out, "   ")?;
    out.flush()?;
    drop(out);
    verify(&job, &dataset, &store, true)?;
    next(&args.data_dir, &job_path, &dataset)?;
    Ok(())
}

fn summary(out: &mut impl Write, job: &Job, kept: &Kept) -> Result<(), Failure> {
    let Kept { finished, view, totals, dir } = kept;
    let sum = |of: fn(&crate::observe::WorkerStats) -> u64| finished.sum(of);
    let (records, bytes) = (sum(|s| s.records.get()), sum(|s| s.bytes.get()));
    let micros = u64::try_from(finished.took.as_micros()).unwrap_or(u64::MAX).max(1);
    writeln!(
        out,
        "   {records} records ({}) in {}.{:03} s: {} records/s, {}/s",
        mebibytes(bytes),
        micros / 1_000_000,
        micros / 1_000 % 1_000,
        per_second(records, micros),
        mebibytes(per_second(bytes, micros)),
    )?;
    writeln!(out, "   exact as of {}", instant(finished.as_of as i64))?;
    writeln!(out, "   corrections to closed windows   {:>8}", sum(|s| s.moved_late().0))?;
    writeln!(out, "   late, of expired windows        {:>8}", sum(|s| s.moved_late().1))?;
    writeln!(out, "   stale changes (duplicates)      {:>8}", sum(|s| s.stale.get()))?;
    writeln!(out, "   dead letters                    {:>8}", sum(|s| s.dead_letters.get()))?;
    writeln!(out, "   history rows in {:>4} files      {:>8}", totals.files, totals.rows)?;
    writeln!(out)?;
    for table in Table::ALL {
        let totals = view.totals(table);
        let closed = closed_windows(job, kept, table);
        let windows = if table.windowed() { format!("{} windows, {closed} closed", totals.windows) } else { "now".to_owned() };
        writeln!(out, "   {:<16} {:>7} cells  {}", table.name(), totals.cells, windows)?;
    }
    for currency in currencies(kept) {
        writeln!(out, "\n   top stores by payments, {currency}")?;
        for (store, units) in view.top_stores(&currency, 5) {
            writeln!(out, "     store {store:<10} {:>18}", money(units, job.scale))?;
        }
    }
    writeln!(out, "\n   files: {}", dir.display())?;
    Ok(())
}

fn closed_windows(job: &Job, kept: &Kept, table: Table) -> usize {
    let windows: std::collections::BTreeSet<_> = kept.view.snapshot(table).into_iter().map(|cell| cell.window).collect();
    windows.into_iter().filter(|&window| job.horizons.closed(window, kept.finished.as_of)).count()
}

fn currencies(kept: &Kept) -> Vec<String> {
    let cells = kept.view.snapshot(Table::StorePayments);
    let all: std::collections::BTreeSet<String> =
        cells.iter().map(|cell| String::from_utf8_lossy(cell.key.cell_parts().1).into_owned()).collect();
    all.into_iter().collect()
}

fn next(data_dir: &Path, job: &Path, dataset: &Path) -> Result<(), Failure> {
    let (data_dir, job, dataset) = (data_dir.display(), job.display(), dataset.display());
    writeln!(
        std::io::stdout().lock(),
        "\nNext:
   storeflow serve --data-dir {data_dir}      the dashboard, at http://127.0.0.1:8080
   storeflow export --data-dir {data_dir} --table store_payments | head
   storeflow export --data-dir {data_dir} --table store_clicks --format csv --history | head
   storeflow check --job {job}
   storeflow run --job {job} --replay {dataset} --data-dir {data_dir} --workers 1 --speed 3600
   storeflow verify --job {job} --replay {dataset} --data-dir {data_dir} --history
(`cargo run --release --` stands for `storeflow` until it is installed)"
    )?;
    Ok(())
}

fn per_second(of: u64, micros: u64) -> u64 {
    u64::try_from(u128::from(of) * 1_000_000 / u128::from(micros)).unwrap_or(u64::MAX)
}

fn mebibytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
