//! `storeflow dead-letters`: what could not be decoded, why, and how to have it read again once that is mended.
//!
//! ```text
//! files by day and reason ─┐
//! newest checkpoint ───────┴─► filter ─► list, show, stats
//!                                └─► replay ─► a request in the store, which the running or the next job reads
//! ```
//!
//! Upholds: looking changes nothing and may be done while a job runs; what is printed of raw records moves no terminal.
//! Absent on purpose: decoding. Which records are dead letters is the job's to say.

mod list;
mod print;
mod replay;
mod show;
mod stats;

use std::io::{BufWriter, ErrorKind, Write};

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};
use storeflow_checkpoints::manifest::Manifest;

use super::Failure;
use super::checkpoints::{Chosen, Which};
use crate::decode::Reason;
use crate::publish::dead_letters::read::{Filter, Letter, visit};
use crate::publish::layout::Keys;
use crate::publish::time::parse_instant;

/// List, show, count and replay dead letters: records that could not be decoded
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Stats(stats::StatsArgs),
    Replay(replay::ReplayArgs),
}

/// Runs the command.
///
/// # Errors
/// If there is nothing there, it cannot be read, or what is asked for does not exist.
pub fn run(args: &DeadLettersArgs) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let done = match &args.command {
        Command::List(args) => list::run(args, &mut out),
        Command::Show(args) => show::run(args, &mut out),
        Command::Stats(args) => stats::run(args, &mut out),
        Command::Replay(args) => replay::run(args, &mut out),
    };
    // Whoever read us has seen enough: `storeflow dead-letters list … | head`.
    let closed = |error: &std::io::Error| error.kind() == ErrorKind::BrokenPipe;
    match done {
        Err(Failure::Trouble(error)) if error.downcast_ref().is_some_and(closed) => Ok(()),
        Ok(()) => match out.flush() {
            Err(error) if !closed(&error) => Err(error.into()),
            _ => Ok(()),
        },
        failed => {
            // What was found before something went wrong is worth reading, too.
            drop(out.flush());
            failed
        }
    }
}

/// How they are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line, as the files have them, with `shown`: whether it is in a file.
    Json,
}

/// Which dead letters.
#[derive(Debug, Args)]
struct Filters {
    /// Only those with this reason; may be given several times
    #[arg(long, value_name = "REASON", value_parser = PossibleValuesParser::new(Reason::ALL.iter().map(|reason| reason.code())), hide_possible_values = true)]
    reason: Vec<String>,

    /// Only those of this topic, where * is any run of characters; may be given several times
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,

    /// Only those whose stamp (log time) is at this instant or after it: 2026-11-20T10:00:00Z, 2026-11-20, or milliseconds
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<u64>,

    /// Only those whose stamp is before this instant
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<u64>,
}

impl Filters {
    fn filter(&self, places: Vec<(String, u32, u64)>) -> Filter {
        let Filters { reason, topic, since, until } = self;
        Filter { reasons: reason.clone(), topics: topic.clone(), since: *since, until: *until, places }
    }
}

fn parse_time(text: &str) -> Result<u64, String> {
    let time = parse_instant(text).or_else(|| parse_instant(&format!("{text}T00:00:00Z")));
    time.ok_or_else(|| "is no time such as 2026-11-20T10:00:00Z or 2026-11-20, nor milliseconds since 1970".to_owned())
}

/// The dead letters of one generation.
struct Letters {
    chosen: Chosen,
    newest: Option<Manifest>,
}

impl Letters {
    fn open(which: &Which) -> anyhow::Result<Letters> {
        let chosen = which.open()?;
        let newest = chosen.log.newest()?.map(|read| read.manifest);
        Ok(Letters { chosen, newest })
    }

    /// Visits those that are wanted; `wanted` says whether to go on.
    fn visit(&self, filter: &Filter, wanted: &mut dyn FnMut(Letter) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        // Their names do not depend on how many workers there are.
        let keys = Keys::new(&self.chosen.job, self.chosen.generation, 1);
        visit(&self.chosen.store, &keys, self.newest.as_ref(), filter, wanted)
    }

    /// Of those that are in no file yet.
    fn say_pending(&self, pending: u64) -> Option<String> {
        let number = self.newest.as_ref()?.number;
        (pending > 0).then(|| {
            let (are, their) = if pending == 1 { ("is", "its") } else { ("are", "their") };
            format!(
                "{pending} of them {are} in no file yet, as {their} epoch is not over: checkpoint {number} holds {}",
                if pending == 1 { "it" } else { "them" }
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_instants_days_or_milliseconds() {
        assert_eq!(parse_time("2026-11-20T10:00:00Z"), Ok(1_795_168_800_000));
        assert_eq!(parse_time("2026-11-20"), Ok(1_795_132_800_000));
        assert_eq!(parse_time("17"), Ok(17));
        assert!(parse_time("yesterday").is_err());
    }
}
