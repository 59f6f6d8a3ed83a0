//! `storeflow rebuild-view`: the view of a finished run, from its files into Redis.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use storeflow_dataflows::table::{CellChange, NO_WINDOW, Table, Value};

use super::Failure;
use super::redis_args::RedisArgs;
use super::store_args::StoreArgs;
use crate::decode::cell_key;
use crate::publish::layout::Current;
use crate::publish::redis::RedisView;
use crate::publish::row::Row;
use crate::publish::time::instant;
use crate::publish::view::MemoryView;

/// Write the view of the last finished run into Redis, in place of whatever is there
///
/// For a Redis that was lost, emptied or damaged. It refuses if the view in Redis is newer than the files.
#[derive(Debug, Args)]
pub struct RebuildViewArgs {
    /// Also when the view in Redis is newer
    #[arg(long)]
    force: bool,

    /// Longest to wait for Redis, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    patience: u64,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    redis: RedisArgs,
}

/// Runs the command.
///
/// # Errors
/// If there is no finished run, Redis cannot be used, or its view is newer.
pub fn run(args: &RebuildViewArgs) -> Result<(), Failure> {
    let Some(settings) = args.redis.resolve()? else {
        return Err(anyhow::anyhow!("where is Redis? give --redis or STOREFLOW_REDIS").into());
    };
    let current = Current::open(&args.store.open()?)?;
    let mut redis = RedisView::connect(&settings, &current.about.job)?;
    if let Some(there) = redis.current()?
        && (there.about.generation, there.as_of) > (current.about.generation, current.as_of)
        && !args.force
    {
        return Err(anyhow::anyhow!(
            "the view in Redis is newer (generation {} as of {}) than the files (generation {} as of {}); --force replaces it",
            there.about.generation,
            instant(there.as_of as i64),
            current.about.generation,
            instant(current.as_of as i64)
        )
        .into());
    }
    let view = Arc::new(MemoryView::new(1));
    let mut changes = Vec::new();
    for table in Table::ALL {
        changes.extend(current.view_rows(table)?.into_iter().map(|row| change(row, current.as_of)));
    }
    let rows = changes.len();
    view.apply(0, current.as_of, &mut changes, &mut Vec::new());
    let sink = redis.start(&current.about, view, 0..1, 1);
    sink.mark(current.as_of, true);
    let stats = sink.close(Duration::from_secs(args.patience))?;
    if !stats.current {
        return Err(anyhow::anyhow!("the view was written, but the pointer was moved by another run; run it again").into());
    }
    tracing::info!(rows, generation = current.about.generation, as_of = %instant(current.as_of as i64), redis = %settings.url, "view rebuilt");
    Ok(())
}

/// A row that was read, as the change that makes it.
fn change(row: Row, as_of: u64) -> CellChange {
    let key = cell_key(row.store_id.as_bytes(), row.second.as_bytes(), &mut Vec::new());
    let window = row.window_start.map_or(NO_WINDOW, |start| start as i64);
    // A table that publishes no count has cells all the same: they exist, so they count.
    let value = Value { sum: row.sum, count: row.count.unwrap_or(1), distinct: row.distinct.unwrap_or(0) };
    CellChange { after: as_of.saturating_sub(1), table: row.table, window, key, value: Some((value, row.revision.unwrap_or(0))) }
}
