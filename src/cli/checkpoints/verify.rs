//! `storeflow checkpoints verify`: reads every byte of a checkpoint.
//!
//! Upholds: damage is a finding (exit code 1) that names the object; a store that does not answer is not.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use storeflow_checkpoints::damage::CheckpointError;
use storeflow_checkpoints::error::LogError;
use storeflow_checkpoints::load::check;
use storeflow_checkpoints::object::Object;

use super::{Chosen, Which};
use crate::cli::Failure;
use crate::publish::time::instant;

/// Read a checkpoint's manifest and every object that it names, and check them all; exit code 1 if one is damaged or missing
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Its number [default: the newest]
    #[arg(value_name = "N")]
    number: Option<u64>,

    #[command(flatten)]
    which: Which,
}

pub(super) fn run(args: &VerifyArgs, out: &mut Vec<u8>) -> Result<(), Failure> {
    let chosen = args.which.open()?;
    let read = match args.number.map_or_else(|| chosen.log.newest(), |number| chosen.log.read(number).map(Some)) {
        Ok(read) => read.ok_or_else(|| chosen.none())?,
        Err(error @ (LogError::Damaged { .. } | LogError::Gap { .. } | LogError::Lost { .. })) => {
            writeln!(out, "damaged: {error}")?;
            return Err(Failure::Check);
        }
        Err(error) => return Err(error.into()),
    };
    let number = read.manifest.number;
    // A manifest that is not kept is there as a fence only; that its objects are gone is no damage.
    if let Ok(Some(newest)) = chosen.log.newest()
        && !newest.manifest.keeps(number)
    {
        let what = format!("checkpoint {} no longer keeps it", newest.manifest.number);
        return Err(LogError::Collected { number, what }.into());
    }
    // State and what is fresh name the same objects, and an object may be there for several groups of shards.
    let objects: BTreeMap<&str, &Object> = read.manifest.objects().map(|object| (object.key.as_str(), object)).collect();
    let (mut damaged, mut rows, mut bytes) = (0, 0, 0);
    for object in objects.values() {
        match check(&**chosen.log.objects(), object) {
            Ok(loaded) => {
                rows += loaded.rows;
                bytes += loaded.bytes;
            }
            Err(error @ CheckpointError::Objects(_)) => return Err(error.into()),
            Err(error) => {
                damaged += 1;
                writeln!(out, "damaged: {error}")?;
            }
        }
    }
    let (as_of, count) = (instant(read.manifest.as_of as i64), objects.len());
    if damaged == 0 {
        writeln!(out, "whole: checkpoint {number} as of {as_of}, {count} objects, {rows} rows, {bytes} bytes read")?;
        return Ok(());
    }
    writeln!(out, "NOT whole: {damaged} of {count} objects of checkpoint {number} as of {as_of}; {}", remedy(&chosen, &read))?;
    Err(Failure::Check)
}

/// What to do about a checkpoint whose objects are damaged.
fn remedy(chosen: &Chosen, read: &storeflow_checkpoints::log::Read) -> String {
    match chosen.log.earlier(&read.manifest, read.manifest.number) {
        Ok(Some(before)) => {
            let number = before.manifest.number;
            format!(
                "put intact copies back, or start: the run replays from checkpoint {number} to this one before it shows anything"
            )
        }
        _ => "put intact copies back, or start as a new generation: no earlier checkpoint leads to this one any more".to_owned(),
    }
}
