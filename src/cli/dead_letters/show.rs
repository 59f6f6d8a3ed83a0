//! `storeflow dead-letters show`: all that there is of some dead letters.

use std::io::Write;

use anyhow::anyhow;
use clap::Args;

use super::print::{json, parse_address, whole};
use super::{Filters, Format, Letters};
use crate::cli::Failure;
use crate::cli::checkpoints::Which;

/// Show dead letters in full: the error, and key, headers and value as text if they are UTF-8, otherwise as hexadecimal
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Which, as `list` prints them; a record that was replayed and failed again is there twice [default: all that the filters let
    /// through]
    #[arg(value_name = "TOPIC/PARTITION/OFFSET", value_parser = parse_address)]
    records: Vec<(String, u32, u64)>,

    #[command(flatten)]
    filters: Filters,

    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: u64,

    /// For people, or one JSON object per line with key, value and headers as base64
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,

    #[command(flatten)]
    which: Which,
}

pub(super) fn run(args: &ShowArgs, out: &mut impl Write) -> Result<(), Failure> {
    let letters = Letters::open(&args.which)?;
    let (mut missing, mut shown, mut more) = (args.records.clone(), 0, false);
    letters.visit(&args.filters.filter(args.records.clone()), &mut |letter| {
        if shown == args.limit {
            more = true;
            return Ok(false);
        }
        let place = &letter.place;
        missing
            .retain(|(topic, partition, offset)| (topic, partition, offset) != (&place.topic, &place.partition, &place.offset));
        match args.format {
            Format::Json => writeln!(out, "{}", json(letter)?)?,
            Format::Text if shown > 0 => write!(out, "\n{}", whole(&letter))?,
            Format::Text => write!(out, "{}", whole(&letter))?,
        }
        shown += 1;
        Ok(true)
    })?;
    if more {
        eprintln!("there are more; --limit N shows them");
        return Ok(());
    }
    match missing.first() {
        Some((topic, partition, offset)) => {
            let (job, generation) = (&letters.chosen.job, letters.chosen.generation);
            Err(anyhow!("generation {generation} of job \"{job}\" has no such dead letter: {topic}/{partition}/{offset}").into())
        }
        None => Ok(()),
    }
}
