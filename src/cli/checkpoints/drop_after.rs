//! `storeflow checkpoints drop-after`: an earlier checkpoint becomes the newest again.
//!
//! Upholds: (1) first a manifest that says what the earlier one said is committed, so that a run that lives all the same is
//! fenced; only then is anything taken back that it had shown. Interrupted anywhere, the same command goes on; (2) nothing
//! happens without `--yes`; (3) objects stay until the next run collects them.
//! Absent on purpose: Redis. What readers there have seen is taken back by `rebuild-view`, or not at all.

use std::io::Write;

use anyhow::anyhow;
use clap::Args;
use storeflow_checkpoints::log::Read;

use super::{Chosen, Which};
use crate::cli::Failure;
use crate::observe::wall_ms;
use crate::publish::layout::{Keys, run_id, shown_after, take_back};
use crate::publish::replays::unknown_to;
use crate::publish::time::{instant, parse_instant};

/// Go back to the last checkpoint as of T or before: what was shown after it is taken back from the store
///
/// For when the newest one is damaged, or what was read since should not have been. History and dead letters of epochs
/// after its as-of are removed. No run may be writing. Without --yes it only says what it would do.
#[derive(Debug, Args)]
pub(super) struct DropAfterArgs {
    /// An as-of, as `list` prints it or in milliseconds since 1970
    #[arg(value_name = "T", value_parser = parse_as_of, required_unless_present = "number")]
    as_of: Option<u64>,

    /// Exactly this checkpoint, by its number
    #[arg(long, value_name = "N", conflicts_with = "as_of")]
    number: Option<u64>,

    /// Do it
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    which: Which,
}

fn parse_as_of(text: &str) -> Result<u64, String> {
    parse_instant(text).ok_or_else(|| "is no instant such as 2026-11-20T10:00:00Z, and no number of milliseconds".to_owned())
}

pub(super) fn run(args: &DropAfterArgs, out: &mut Vec<u8>) -> Result<(), Failure> {
    let chosen = args.which.open()?;
    // A folder is held against runs until the end; elsewhere a run that lives finds its next number taken.
    let _exclusive = chosen.store.exclusive()?;
    let mut all = Vec::new();
    chosen.log.each(&mut |number, read| all.push((number, read.ok())))?;
    let Some((last, newest)) = all.last().cloned() else { return Err(chosen.none().into()) };
    let (number, as_of) = wanted(args, &all, newest.as_ref())?;
    let (job, generation) = (&chosen.job, chosen.generation);
    // Of the newest nothing is to be taken back, unless it is there because this command was interrupted.
    let again = newest.as_ref().is_some_and(|newest| newest.manifest.restores.is_some());
    let keys = Keys::new(job, generation, 1);
    // Letters in them may be read again from where they came; those that are not can be requested again.
    let requests =
        if number < last || again { unknown_to(&chosen.store, &keys, &chosen.log.read(number)?.manifest)? } else { Vec::new() };
    let files =
        if number < last || again { shown_after(&chosen.store, job, generation, as_of)?.len() } else { 0 } + requests.len();
    let (shown, checkpoints) = (instant(as_of as i64), last - number);
    if checkpoints == 0 && files == 0 {
        writeln!(out, "nothing to do: checkpoint {number} as of {shown} is the newest, and nothing after it was shown")?;
        return Ok(());
    }
    if !args.yes {
        writeln!(
            out,
            "would go back to checkpoint {number} as of {shown} of generation {generation} of job {job}: \
             drop {checkpoints} checkpoints after it and remove {files} files of history, dead letters, requests to replay them, and the view"
        )?;
        return Err(anyhow!("what was published after {shown} is taken back; say --yes if that is what you want").into());
    }
    if number < last {
        chosen.log.drop_after(number, &run_id(), wall_ms())?;
    }
    requests.iter().try_for_each(|key| chosen.store.delete(key))?;
    let removed = if number < last || again { take_back(&chosen.store, job, generation, as_of)? } else { 0 } + requests.len();
    writeln!(out, "checkpoint {number} as of {shown} is the newest again; {checkpoints} were dropped, {removed} files removed")?;
    writeln!(out, "{}", next(&chosen))?;
    Ok(())
}

/// The checkpoint to go back to, and its as-of.
fn wanted(args: &DropAfterArgs, all: &[(u64, Option<Read>)], newest: Option<&Read>) -> anyhow::Result<(u64, u64)> {
    let loadable = all.iter().rev().filter_map(|(number, read)| {
        // If the newest cannot be read, whether the objects are still there is found out when it is tried.
        let kept = newest.is_none_or(|newest| newest.manifest.keeps(*number));
        read.as_ref().filter(|_| kept).map(|read| (*number, read.manifest.as_of))
    });
    let fits = |(number, as_of): &(u64, u64)| match (args.number, args.as_of) {
        (Some(wanted), _) => *number == wanted,
        (None, Some(wanted)) => *as_of <= wanted,
        (None, None) => false,
    };
    let said =
        args.number.map_or_else(|| format!("as of {} or before", instant(args.as_of.unwrap_or(0) as i64)), |n| n.to_string());
    let none = || anyhow!("no checkpoint {said} can be loaded; `storeflow checkpoints list` shows which can");
    loadable.into_iter().find(fits).ok_or_else(none)
}

/// What to do next.
fn next(chosen: &Chosen) -> String {
    let Chosen { job, generation, .. } = chosen;
    format!(
        "next: start the job again, and it goes on from there. If its view is in Redis, which still shows more, a start is refused \
         until `storeflow rebuild-view` has put generation {generation} of \"{job}\" back to this checkpoint; or begin a new \
         generation with `--generation {}`, which takes over when it has caught up",
        generation + 1
    )
}
