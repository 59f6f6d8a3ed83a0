//! `storeflow checkpoints list`: one line per manifest, newest first.

use clap::Args;

use super::{Which, bytes_of, table};
use crate::cli::Failure;
use crate::observe::wall_ms;
use crate::publish::time::instant;

/// List checkpoints, newest first: number, as-of, when it was written, by how many workers, what it holds
///
/// `objects` and `bytes` are all of its state, `fresh` the bytes that were written for it. A checkpoint can be loaded if its
/// last column says newest or kept; of others the objects may be gone.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(args: &ListArgs, out: &mut Vec<u8>) -> Result<(), Failure> {
    let chosen = args.which.open()?;
    let mut all = Vec::new();
    chosen.log.each(&mut |number, read| all.push((number, read)))?;
    if all.is_empty() {
        return Err(chosen.none().into());
    }
    let now = wall_ms();
    let newest = all.last().and_then(|(_, read)| read.as_ref().ok()).map(|read| read.manifest.clone());
    let row = |(number, read): &(u64, Result<storeflow_checkpoints::log::Read, _>)| {
        let manifest = match read {
            Ok(read) => &read.manifest,
            Err(error) => {
                let mut row = vec![number.to_string()];
                row.extend(["", "", "", "", "", "", ""].map(str::to_owned));
                row.push(format!("{error}"));
                return row;
            }
        };
        let (objects, bytes) = bytes_of(&manifest.state);
        let mut what = match &newest {
            Some(newest) if newest.number == *number => "newest".to_owned(),
            Some(newest) if newest.keeps(*number) => "kept".to_owned(),
            Some(_) => "not kept".to_owned(),
            None => "unknown".to_owned(),
        };
        if let Some(restored) = manifest.restores {
            what += &format!(", is {restored} again");
        }
        if manifest.complete {
            what += ", the input's end";
        }
        vec![
            number.to_string(),
            instant(manifest.as_of as i64),
            instant(manifest.written_at as i64),
            age(now.saturating_sub(manifest.written_at)),
            manifest.workers.to_string(),
            objects.to_string(),
            bytes.to_string(),
            bytes_of(&manifest.fresh).1.to_string(),
            what,
        ]
    };
    let rows: Vec<Vec<String>> = all.iter().rev().map(row).collect();
    table(out, &["number", "as-of", "written", "age", "workers", "objects", "bytes", "fresh", ""], &rows);
    // A newest one that is damaged or missing is what somebody who lists them must hear of.
    chosen.log.newest()?;
    Ok(())
}

/// A time that has passed, in its largest unit.
fn age(millis: u64) -> String {
    let seconds = millis / 1_000;
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let (length, unit) = units.into_iter().find(|(length, _)| seconds >= 2 * length).unwrap_or((1, "s"));
    format!("{}{unit}", seconds / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read_at_a_glance() {
        let seconds = [0, 59, 119, 120, 7_199, 7_200, 172_799, 172_800];
        assert_eq!(seconds.map(|seconds| age(seconds * 1_000)), ["0s", "59s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }
}
