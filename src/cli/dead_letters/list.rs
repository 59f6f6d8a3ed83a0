//! `storeflow dead-letters list`: one line per dead letter.

use std::io::Write;

use clap::Args;

use super::print::{json, row};
use super::{Filters, Format, Letters};
use crate::cli::Failure;
use crate::cli::checkpoints::{Which, table};

/// List dead letters, those of the newest half hour (epoch) first: stamp, TOPIC/PARTITION/OFFSET, reason, error
///
/// Those of an epoch that is not over are in no file yet; they are listed at the end, as far as a checkpoint holds them, and marked
/// with a star (as JSON: "shown":false).
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    filters: Filters,

    /// How many at most [default: 100 as text, all as JSON]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// A table for people, or one JSON object per line with key, value and headers (base64)
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,

    #[command(flatten)]
    which: Which,
}

/// Lines of a table unless more are asked for.
const LIMIT: u64 = 100;

pub(super) fn run(args: &ListArgs, out: &mut impl Write) -> Result<(), Failure> {
    let letters = Letters::open(&args.which)?;
    let limit = args.limit.unwrap_or(if args.format == Format::Json { u64::MAX } else { LIMIT });
    let (mut rows, mut listed, mut pending, mut more) = (Vec::new(), 0, 0, false);
    letters.visit(&args.filters.filter(Vec::new()), &mut |letter| {
        if listed == limit {
            more = true;
            return Ok(false);
        }
        listed += 1;
        pending += u64::from(!letter.shown);
        if args.format == Format::Json {
            writeln!(out, "{}", json(letter)?)?;
        } else {
            let mut row = row(&letter);
            row.insert(0, if letter.shown { "" } else { "*" }.to_owned());
            rows.push(row);
        }
        Ok(true)
    })?;
    if args.format == Format::Json {
        return Ok(());
    }
    if rows.is_empty() {
        writeln!(out, "no such dead letters in generation {} of job {}", letters.chosen.generation, letters.chosen.job)?;
        return Ok(());
    }
    let mut text = Vec::new();
    table(&mut text, &["", "stamp", "record", "reason", "error"], &rows);
    out.write_all(&text)?;
    if let Some(pending) = letters.say_pending(pending) {
        writeln!(out, "* {pending}")?;
    }
    if more {
        writeln!(out, "there are more; --limit N lists them, `storeflow dead-letters stats` counts them")?;
    }
    Ok(())
}
