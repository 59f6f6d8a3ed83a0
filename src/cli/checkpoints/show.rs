//! `storeflow checkpoints show`: what one manifest says.

use std::io::Write;

use clap::Args;
use storeflow_checkpoints::manifest::{Manifest, PartitionAt};
use storeflow_checkpoints::object::Object;

use super::{Which, bytes_of, table};
use crate::cli::Failure;
use crate::publish::time::instant;

/// Show a checkpoint: the positions it was read up to, with their log clocks, and the objects of its state
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Its number [default: the newest]
    #[arg(value_name = "N")]
    number: Option<u64>,

    #[command(flatten)]
    which: Which,
}

pub(super) fn run(args: &ShowArgs, out: &mut Vec<u8>) -> Result<(), Failure> {
    let chosen = args.which.open()?;
    let read = chosen.read(args.number)?;
    let Manifest { job, generation, number, restores, run, written_at, as_of, previous_as_of, .. } = &read.manifest;
    let Manifest { complete, workers, kept, setting, partitions, state, fresh, .. } = &read.manifest;
    let (objects, bytes) = bytes_of(state);
    writeln!(out, "checkpoint  {number} of generation {generation} of job {job}")?;
    writeln!(out, "as-of       {} ({as_of})", instant(*as_of as i64))?;
    writeln!(out, "before it   {} ({previous_as_of})", instant(*previous_as_of as i64))?;
    writeln!(out, "written     {} by run {run}, {workers} workers", instant(*written_at as i64))?;
    if let Some(restored) = restores {
        writeln!(out, "restores    checkpoint {restored}")?;
    }
    writeln!(out, "input       {}", if *complete { "read to its end" } else { "goes on" })?;
    writeln!(out, "kept        {}", kept.iter().map(u64::to_string).collect::<Vec<_>>().join(", "))?;
    writeln!(out, "state       {objects} objects, {bytes} bytes; fresh {} bytes", bytes_of(fresh).1)?;
    writeln!(out, "setting     {setting}\n")?;
    let positions: Vec<Vec<String>> = partitions.iter().map(position).collect();
    table(out, &["partition", "position", "clock", "topic"], &positions);
    writeln!(out)?;
    let of = |what: &'static str| move |object: &Object| object_row(object, what);
    let objects: Vec<Vec<String>> = state.iter().map(of("state")).chain(fresh.iter().map(of("fresh"))).collect();
    table(out, &["of", "through", "shards", "rows", "bytes", "unpacked", "object"], &objects);
    Ok(())
}

fn position(at: &PartitionAt) -> Vec<String> {
    let clock = at.clock.map_or_else(|| "not started".to_owned(), |clock| instant(clock.now as i64));
    vec![at.partition.to_string(), at.position.to_string(), clock, at.topic.clone()]
}

fn object_row(object: &Object, what: &str) -> Vec<String> {
    vec![
        what.to_owned(),
        instant(object.through as i64),
        format!("{}of{}", object.group.index, object.group.of),
        object.rows.to_string(),
        object.bytes.to_string(),
        object.raw.to_string(),
        object.key.clone(),
    ]
}
