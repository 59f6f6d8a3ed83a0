//! `storeflow checkpoints`: what there is to start from, whether it is whole, and the way back to an earlier one.
//!
//! ```text
//! current.json, or --job-name and --generation ─► the log of one generation ─► list, show, verify
//!                                                          └─► drop-after: a manifest more; then the pointer; then later files
//! ```
//!
//! Upholds: looking changes nothing and may be done while a run goes on; what is damaged is named and makes the exit code 1
//! (`verify`), what cannot be read for another reason 2 or 3.
//! Absent on purpose: what is in the objects. Their rows are the workers' business.

mod drop_after;
mod list;
mod show;
mod verify;

use std::io::{ErrorKind, Write};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use storeflow_checkpoints::error::LogError;
use storeflow_checkpoints::log::{Log, Read};
use storeflow_checkpoints::manifest::Manifest;

use super::Failure;
use super::store_args::StoreArgs;
use crate::publish::error::PublishError;
use crate::publish::layout::{Current, Keys, generations};
use crate::store::Store;

/// List, show and verify a job's checkpoints, or go back to an earlier one
#[derive(Debug, Args)]
pub struct CheckpointsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Verify(verify::VerifyArgs),
    DropAfter(drop_after::DropAfterArgs),
}

/// Runs the command.
///
/// # Errors
/// If there are no checkpoints there, they cannot be read, or one is damaged.
pub fn run(args: &CheckpointsArgs) -> Result<(), Failure> {
    let mut out = Vec::new();
    let done = match &args.command {
        Command::List(args) => list::run(args, &mut out),
        Command::Show(args) => show::run(args, &mut out),
        Command::Verify(args) => verify::run(args, &mut out),
        Command::DropAfter(args) => drop_after::run(args, &mut out),
    };
    // What was found before something went wrong is worth reading, too.
    match std::io::stdout().lock().write_all(&out) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => done.and(Err(error.into())),
        _ => done,
    }
}

/// Whose checkpoints.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The job's name [default: that of the store's current run]
    #[arg(long, value_name = "NAME")]
    job_name: Option<String>,

    /// The generation's number [default: the current one; of a job that has none, the latest]
    #[arg(long, value_name = "N")]
    generation: Option<u64>,

    #[command(flatten)]
    store: StoreArgs,
}

/// The checkpoints of one generation.
pub(super) struct Chosen {
    pub(super) store: Store,
    pub(super) job: String,
    pub(super) generation: u64,
    pub(super) log: Log,
    /// What the store shows, of this or another generation; `None`: nothing yet.
    pub(super) current: Option<Current>,
}

impl Which {
    pub(super) fn open(&self) -> anyhow::Result<Chosen> {
        Chosen::of(self.store.open()?, self.job_name.as_deref(), self.generation)
    }
}

impl Chosen {
    /// Those of a job and generation; of which, the store's pointer says if nobody else does.
    pub(super) fn of(store: Store, job_name: Option<&str>, generation: Option<u64>) -> anyhow::Result<Chosen> {
        let current = match Current::open(&store) {
            Ok(current) => Some(current),
            Err(PublishError::NoRun { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let about = current.as_ref().map(|current| &current.about);
        let root = store.place("").display().to_string();
        let no_job = || anyhow!("no run has shown anything in \"{root}\" yet; say whose checkpoints: --job-name NAME");
        let job = job_name.or(about.map(|about| about.job.as_str())).with_context(no_job)?.to_owned();
        let of_pointer = || about.filter(|about| about.job == job).map(|about| about.generation);
        let generation = match generation.or_else(of_pointer) {
            Some(generation) => generation,
            None => {
                let all = generations(&store, &job)?;
                all.last().copied().with_context(|| format!("\"{root}\" has no generation of job \"{job}\""))?
            }
        };
        // The prefix does not depend on how many workers there are.
        let prefix = Keys::new(&job, generation, 1).checkpoints_prefix();
        let log = Log::open(Arc::new(store.clone()), &prefix, &job, generation);
        Ok(Chosen { store, job, generation, log, current })
    }

    pub(super) fn none(&self) -> anyhow::Error {
        let (job, generation, place) = (&self.job, self.generation, self.store.place(self.log.prefix()));
        anyhow!("no checkpoint of generation {generation} of job \"{job}\" at \"{}\"", place.display())
    }

    /// A checkpoint by its number, or the newest.
    fn read(&self, number: Option<u64>) -> anyhow::Result<Read> {
        match number {
            Some(number) => Ok(self.log.read(number)?),
            None => self.log.newest()?.ok_or_else(|| self.none()),
        }
    }

    /// The newest checkpoint, and the one whose state is wanted: by its number, or the newest as well. `None` if there is none at all.
    pub(super) fn loadable(&self, number: Option<u64>) -> anyhow::Result<Option<(Manifest, Manifest)>> {
        let Some(newest) = self.log.newest()?.map(|read| read.manifest) else {
            return if number.is_some() { Err(self.none()) } else { Ok(None) };
        };
        let wanted = match number {
            None => newest.clone(),
            // If another keeps it no more, its objects may be gone.
            Some(number) if !newest.keeps(number) => {
                let what = format!("checkpoint {} no longer keeps it", newest.number);
                return Err(LogError::Collected { number, what }.into());
            }
            Some(number) => self.log.read(number)?.manifest,
        };
        Ok(Some((newest, wanted)))
    }
}

/// Bytes of all objects, each counted once.
fn bytes_of<'a>(objects: impl IntoIterator<Item = &'a storeflow_checkpoints::object::Object>) -> (usize, u64) {
    let bytes: std::collections::BTreeMap<&str, u64> =
        objects.into_iter().map(|object| (object.key.as_str(), object.bytes)).collect();
    (bytes.len(), bytes.values().sum())
}

/// Rows of text under a heading, each column as wide as it must be: the first columns to the right, the last to the left.
pub(super) fn table(out: &mut Vec<u8>, heading: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).chain([heading[column].len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let heading: Vec<String> = heading.iter().map(|&name| name.to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let last = row.len() - 1;
        let cells = row.iter().zip(&widths).take(last).map(|(cell, &width)| format!("{cell:>width$}  "));
        out.extend(cells.collect::<String>().bytes());
        out.extend_from_slice(format!("{}\n", row[last]).as_bytes());
    }
}
