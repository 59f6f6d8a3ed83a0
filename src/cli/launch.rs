//! `storeflow launch`: several processes of one run on this machine.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Parser};

use super::{Cli, Failure};
use crate::runtime::launch::{Failed, Restarts, cluster, supervise};

/// Run a job in several local processes under one that watches them; every flag of `run` may follow
#[derive(Debug, Args)]
#[command(override_usage = "storeflow launch --processes N [FLAGS OF run]...")]
pub struct LaunchArgs {
    /// How many processes; each has the --workers of `run`
    #[arg(long, env = "STOREFLOW_PROCESSES", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    processes: Option<u16>,

    /// How often in a row all processes are started again when one has died, with growing waits; 0 is never. A minute without
    /// a failure begins a new row [default: without end]
    #[arg(long, env = "STOREFLOW_RESTARTS", value_name = "N")]
    restarts: Option<u32>,

    /// Flags of `run`, handed to every process; see `storeflow run --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS OF run")]
    flags: Vec<String>,
}

/// What `launch` decides for its processes.
const OWN: [&str; 5] = ["--process", "--hosts", "--bind", "--run-id", "--cluster-secret-file"];

/// Runs the command.
///
/// # Errors
/// If the flags are wrong, or a process failed: with the exit code of the first that did.
pub fn run(args: &LaunchArgs) -> Result<(), Failure> {
    let Split { processes, restarts, flags } = split(args)?;
    // A mistyped flag is one message of this process, in place of one from each child.
    let probe = ["storeflow".to_owned(), "run".to_owned()].into_iter().chain(flags.iter().cloned());
    if let Err(error) = Cli::try_parse_from(probe) {
        error.exit();
    }
    let program = std::env::current_exe().context("could not find this program's own file")?;
    let metrics = std::env::var("STOREFLOW_METRICS").ok();
    let flags_of: Vec<Vec<String>> =
        (0..processes).map(|process| with_own_metrics(&flags, process)).collect::<anyhow::Result<_>>()?;
    let metrics_of: Vec<Option<String>> = (0..processes)
        .map(|process| metrics.as_deref().map(|address| moved(address, process)).transpose())
        .collect::<anyhow::Result<_>>()?;
    let prepare = || {
        tracing::info!(processes, "launching");
        cluster(processes, |process| {
            let mut command = Command::new(&program);
            command.arg("run").args(&flags_of[process]);
            if let Some(address) = &metrics_of[process] {
                command.env("STOREFLOW_METRICS", OsString::from(address));
            }
            command
        })
    };
    match supervise(prepare, &Restarts { limit: restarts, ..Restarts::default() })? {
        Ok(()) => Ok(()),
        Err(Failed { process, code, last_words }) => {
            eprintln!("error: process {process} of {processes} failed with exit code {code}; its last words:");
            last_words.iter().for_each(|line| eprintln!("    {line}"));
            Err(Failure::Child(code))
        }
    }
}

/// What is for this process, and what is for the others.
#[derive(Debug, PartialEq, Eq)]
struct Split {
    processes: usize,
    restarts: Option<u32>,
    flags: Vec<String>,
}

/// `--processes` and `--restarts` may stand anywhere among the flags of `run`.
fn split(args: &LaunchArgs) -> anyhow::Result<Split> {
    let (mut processes, mut restarts) = (args.processes.map(usize::from), args.restarts);
    let mut rest = Vec::new();
    let mut flags = args.flags.iter();
    while let Some(flag) = flags.next() {
        let (name, value) = flag.split_once('=').map_or((flag.as_str(), None), |(name, value)| (name, Some(value)));
        if OWN.contains(&name) {
            bail!(
                "{name} is not for launch, which decides it for each process; for processes on several machines use `storeflow run`"
            );
        }
        if name == "--processes" {
            let value = value.or_else(|| flags.next().map(String::as_str)).unwrap_or_default();
            let count = value.parse::<u8>().ok().filter(|&count| count > 0).map(usize::from);
            processes = Some(count.ok_or_else(|| anyhow!("--processes \"{value}\" is no number from 1 to 255"))?);
        } else if name == "--restarts" {
            let value = value.or_else(|| flags.next().map(String::as_str)).unwrap_or_default();
            restarts = Some(value.parse().map_err(|_| anyhow!("--restarts \"{value}\" is no number; 0 is never"))?);
        } else if flag != "--" {
            rest.push(flag.clone());
        }
    }
    Ok(Split { processes: processes.context("how many processes? say --processes N")?, restarts, flags: rest })
}

/// Each process serves its metrics at a port of its own: the first at the given one, the others at those that follow.
fn with_own_metrics(flags: &[String], process: usize) -> anyhow::Result<Vec<String>> {
    let mut own = Vec::new();
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        own.push(match flag.strip_prefix("--metrics=") {
            Some(address) => format!("--metrics={}", moved(address, process)?),
            None => flag.clone(),
        });
        if flag == "--metrics"
            && let Some(address) = flags.next()
        {
            own.push(moved(address, process)?);
        }
    }
    Ok(own)
}

fn moved(address: &str, by: usize) -> anyhow::Result<String> {
    let wrong = || anyhow!("--metrics \"{address}\" is not HOST:PORT with room for one port per process");
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    // Port 0 is any free one, for each.
    let moved = if port == 0 { Some(0) } else { u16::try_from(by).ok().and_then(|by| port.checked_add(by)) };
    Ok(format!("{host}:{}", moved.ok_or_else(wrong)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn processes_may_stand_anywhere() {
        let parse = |line: &str| {
            let cli = LaunchOnly::try_parse_from(words(line)).expect("flags");
            split(&cli.args)
        };
        let flags = words("--job a --workers 3");
        for line in [
            "launch --processes 2 --job a --workers 3",
            "launch --job a --processes 2 --workers 3",
            "launch --job a --workers 3 --processes=2",
            "launch --processes 2 -- --job a --workers 3",
        ] {
            let expected = Split { processes: 2, restarts: None, flags: flags.clone() };
            assert_eq!(parse(line).expect("good"), expected, "{line}");
        }
        for line in [
            "launch --processes 2 --restarts 5 --job a --workers 3",
            "launch --processes 2 --job a --restarts 5 --workers 3",
            "launch --job a --processes 2 --workers 3 --restarts=5",
        ] {
            let expected = Split { processes: 2, restarts: Some(5), flags: flags.clone() };
            assert_eq!(parse(line).expect("good"), expected, "{line}");
        }
        assert!(parse("launch --processes 2 --job a --restarts -1").expect_err("no number").to_string().contains("\"-1\""));
        assert!(parse("launch --job a").expect_err("how many").to_string().contains("--processes N"));
        assert!(parse("launch --job a --processes none").expect_err("no number").to_string().contains("\"none\""));
        assert!(parse("launch --processes 2 --hosts a:1").expect_err("own").to_string().contains("--hosts"));
    }

    #[derive(Debug, Parser)]
    struct LaunchOnly {
        #[command(flatten)]
        args: LaunchArgs,
    }

    #[test]
    fn metrics_get_a_port_each() {
        assert_eq!(
            with_own_metrics(&words("--metrics 127.0.0.1:9000 --job a"), 2).expect("good"),
            words("--metrics 127.0.0.1:9002 --job a")
        );
        assert_eq!(with_own_metrics(&words("--metrics=[::]:0"), 2).expect("good"), words("--metrics=[::]:0"));
        assert!(with_own_metrics(&words("--metrics 127.0.0.1:65535"), 1).is_err());
    }
}
