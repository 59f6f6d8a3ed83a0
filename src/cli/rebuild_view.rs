//! `storeflow rebuild-view`: what was committed last, into Redis.
//!
//! ```text
//! checkpoint: cells of all shards ─┐
//! or, without any, the dumped view ┴─► a view in memory, one part ─► Redis, in full ─► marker, pointer
//! ```
//!
//! Upholds: (1) nothing that readers have seen is taken back unasked: neither a later generation nor a later as-of is replaced without
//! `--force`, except after `checkpoints drop-after`, which was asked; (2) what is taken back is removed before anything is written,
//! so that a reader sees one as-of or none; (3) a run goes on from what is left as from any other view.
//! Absent on purpose: the dataflow. Cells are in checkpoints as the view shows them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use storeflow_checkpoints::load::load;
use storeflow_checkpoints::manifest::Manifest;
use storeflow_dataflows::beginning::Beginning;
use storeflow_dataflows::state::{Section, StateRow};
use storeflow_dataflows::table::{CellChange, NO_WINDOW, Table, Value};

use super::Failure;
use super::checkpoints::{Chosen, Which};
use super::redis_args::RedisArgs;
use crate::decode::{HASHING, cell_key};
use crate::publish::layout::{About, Current};
use crate::publish::redis::{RedisSettings, RedisView};
use crate::publish::row::Row;
use crate::publish::time::instant;
use crate::publish::view::MemoryView;
use crate::runtime::setting::Setting;

/// Write what was committed last into Redis, in place of whatever is there
///
/// From the newest checkpoint, also of a run that was stopped or died; of a run without checkpoints from the view that it left at
/// its end. For a Redis that was lost, emptied or damaged, and after `checkpoints drop-after`, when it takes the view back to
/// where the job goes on. No run may be writing. It refuses if the view in Redis is newer for any other reason.
#[derive(Debug, Args)]
pub struct RebuildViewArgs {
    /// From this checkpoint in place of the newest; `storeflow checkpoints list` shows which can be loaded
    #[arg(long, value_name = "N")]
    checkpoint: Option<u64>,

    /// Also when the view in Redis is newer
    #[arg(long)]
    force: bool,

    /// Longest to wait for Redis, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    patience: u64,

    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    redis: RedisArgs,
}

/// Runs the command.
///
/// # Errors
/// If there is nothing to build it from, a run is writing, Redis cannot be used, or its view is newer.
pub fn run(args: &RebuildViewArgs) -> Result<(), Failure> {
    let Some(settings) = args.redis.resolve()? else {
        return Err(anyhow!("where is Redis? give --redis or STOREFLOW_REDIS").into());
    };
    let chosen = args.which.open()?;
    if let Some(current) = &chosen.current
        && (&current.about.job, current.about.generation) != (&chosen.job, chosen.generation)
    {
        return Err(not_shown(&chosen, current).into());
    }
    // A run that lives keeps its view whole by itself, and would find its buckets taken.
    let _exclusive = chosen.store.exclusive()?;
    let mut redis = RedisView::connect(&settings, &chosen.job)?;
    // Before the log is read: a run that lives all the same, on S3, has shown no more than what is in the log afterwards.
    let shown = redis.furthest(chosen.generation)?;
    let content = match chosen.loadable(args.checkpoint)? {
        Some((newest, wanted)) => {
            Content { went_back: newest.restores.is_some() && newest == wanted, ..of_checkpoint(&chosen, &wanted)? }
        }
        None => of_files(&Current::open(&chosen.store)?)?,
    };
    make_way(&mut redis, &content, shown, args.force)?;
    let Content { about, as_of, what, cells, .. } = &content;
    write(redis, &settings, &content, Duration::from_secs(args.patience))?;
    let (generation, as_of) = (about.generation, instant(*as_of as i64));
    tracing::info!(cells, generation, %as_of, from = what, redis = %settings.url, "view rebuilt");
    Ok(())
}

fn not_shown(chosen: &Chosen, current: &Current) -> anyhow::Error {
    anyhow!(
        "generation {} of job \"{}\" is not the one that is shown, which is {} of \"{}\": a run with --generation shows it, once it \
         has caught up",
        chosen.generation,
        chosen.job,
        current.about.generation,
        current.about.job
    )
}

/// What Redis is to show.
struct Content {
    about: About,
    as_of: u64,
    view: Arc<MemoryView>,
    cells: usize,
    /// Where it is from, for people.
    what: String,
    /// It is what somebody went back to.
    went_back: bool,
}

fn of_checkpoint(chosen: &Chosen, manifest: &Manifest) -> anyhow::Result<Content> {
    let Manifest { number, as_of, state, .. } = manifest;
    let setting = Setting::of(manifest)?;
    let mut beginning = Beginning::new(setting.horizons(), HASHING, false);
    // All that the view shows of a cell is in its own row.
    let cells = |section| matches!(section, Section::Cells(_));
    let mut take = |section, row: StateRow<'_>| {
        beginning.restore(section, row);
    };
    load(&**chosen.log.objects(), state, cells, |_| true, &mut take)
        .with_context(|| format!("could not load checkpoint {number}; `storeflow checkpoints verify` says what is whole"))?;
    beginning.complete(*as_of);
    let view = Arc::new(MemoryView::new(1));
    view.restore(0, *as_of, beginning.shown_cells());
    let (cells, what) = (view.extent(0).1, format!("checkpoint {number}"));
    Ok(Content { about: setting.about(manifest), as_of: *as_of, view, cells, what, went_back: false })
}

fn of_files(current: &Current) -> anyhow::Result<Content> {
    let mut changes = Vec::new();
    for table in Table::ALL {
        changes.extend(current.view_rows(table)?.into_iter().map(|row| change(row, current.as_of)));
    }
    let (view, cells) = (Arc::new(MemoryView::new(1)), changes.len());
    view.apply(0, current.as_of, &mut changes, &mut Vec::new());
    let (about, what) = (current.about.clone(), "the view's files".to_owned());
    Ok(Content { about, as_of: current.as_of, view, cells, what, went_back: false })
}

/// A row that was read, as the change that makes it.
fn change(row: Row, as_of: u64) -> CellChange {
    let key = cell_key(row.store_id.as_bytes(), row.second.as_bytes(), &mut Vec::new());
    let window = row.window_start.map_or(NO_WINDOW, |start| start as i64);
    // A table that publishes no count has cells all the same: they exist, so they count.
    let value = Value { sum: row.sum, count: row.count.unwrap_or(1), distinct: row.distinct.unwrap_or(0) };
    CellChange { after: as_of.saturating_sub(1), table: row.table, window, key, value: Some((value, row.revision.unwrap_or(0))) }
}

/// Refuses if Redis shows more, or removes what it does. `shown`: how far this generation is there.
fn make_way(redis: &mut RedisView, content: &Content, shown: Option<u64>, force: bool) -> Result<(), Failure> {
    let Content { about, as_of, what, went_back, .. } = content;
    let generation = about.generation;
    let newer = |of: u64, at: u64| {
        let (at, as_of) = (instant(at as i64), instant(*as_of as i64));
        anyhow!(
            "the view in Redis is newer (generation {of} as of {at}) than {what} (generation {generation} as of {as_of}); --force replaces it"
        )
    };
    if let Some(there) = redis.current()?.filter(|there| there.about.generation > generation)
        && !force
    {
        return Err(newer(there.about.generation, there.as_of).into());
    }
    let Some(shown) = shown.filter(|shown| shown > as_of) else { return Ok(()) };
    if !force && !went_back {
        return Err(newer(generation, shown).into());
    }
    // Buckets and marker never go back by themselves.
    redis.remove(generation)?;
    let (from, to) = (instant(shown as i64), instant(*as_of as i64));
    tracing::warn!(generation, %from, %to, "the view is taken back: its keys are removed, and what readers saw after that as-of is gone");
    Ok(())
}

fn write(redis: RedisView, settings: &RedisSettings, content: &Content, patience: Duration) -> Result<(), Failure> {
    let sink = redis.start(&content.about, Arc::clone(&content.view), 0..1, 1);
    sink.mark(content.as_of, true);
    if sink.close(patience)?.current {
        return Ok(());
    }
    let server = &settings.url;
    Err(anyhow!("the view was written, but the pointer in Redis at {server} was moved by another run; run it again").into())
}
