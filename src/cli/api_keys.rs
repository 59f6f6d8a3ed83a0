//! `storeflow api-keys`: the file of who may ask the query API.
//!
//! ```text
//! new ─► 256 random bits ─┬─► stdout, once
//!                         └─► SHA-256 ─► an entry at the end of the file ─► servers that follow it
//! ```
//!
//! Upholds: a key is printed by `new` and by nothing else, after its entry is in the file; see `edit` for how the file is changed.
//! Absent on purpose: a server. Servers look at the file every few seconds, so that it may be a mounted secret as well.

mod edit;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::num::NonZeroU32;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};

use super::Failure;
use super::checkpoints::table;
use crate::config::duration;
use crate::config::key_file::{self, KeySpec, RATE_MAX};
use crate::publish::time::{instant, parse_instant};
use crate::serve::keys::{digest_of, new_key, now};

/// Bytes of standard input in which a key is looked for.
const KEY_BYTES_MAX: u64 = 1 << 10;

/// Make, list, revoke and check the keys of the query API
///
/// The file has hashes only, and is followed by running servers: a change counts within five seconds.
#[derive(Debug, Args)]
pub struct ApiKeysArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(NewArgs),
    List(ListArgs),
    Revoke(RevokeArgs),
    Check(CheckArgs),
}

/// Make a key: printed once, its hash added to the file
#[derive(Debug, Args)]
struct NewArgs {
    #[command(flatten)]
    file: KeyFile,

    /// What the key is called in the file and in logs: letters, digits, -, _ and .
    #[arg(long, value_name = "ID", value_parser = id)]
    id: String,

    /// A store that it may see; may be given several times; without, all stores and what is of all
    #[arg(long, value_name = "STORE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    store: Vec<String>,

    /// Requests per second [default: the server's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    rate: Option<u32>,

    /// When it ends: 2027-01-01T00:00:00Z, 2027-01-01, or from now on: 90d, 12h [default: never]
    #[arg(long, value_name = "TIME", value_parser = expiry)]
    expires: Option<u64>,
}

/// List keys: id, stores, rate, expiry
#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    file: KeyFile,
}

/// Take a key out of the file; servers refuse it within five seconds
#[derive(Debug, Args)]
struct RevokeArgs {
    #[command(flatten)]
    file: KeyFile,

    /// The key's id
    #[arg(long, value_name = "ID")]
    id: String,
}

/// Read a key from standard input, and say which it is and what it may see
///
/// Exit code: 0 servers take it, 1 they do not, 2 the file is wrong or could not be read.
#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    file: KeyFile,
}

#[derive(Debug, Args)]
struct KeyFile {
    /// The file of keys
    #[arg(long = "file", env = "STOREFLOW_API_KEYS", value_name = "FILE")]
    path: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// If the file cannot be read or changed, is wrong, or an id is or is not there.
pub fn run(args: &ApiKeysArgs) -> Result<(), Failure> {
    match &args.command {
        Command::New(args) => new(args),
        Command::List(args) => list(args),
        Command::Revoke(args) => edit::revoke(&args.file.path, &args.id),
        Command::Check(args) => check(args),
    }
}

fn new(args: &NewArgs) -> Result<(), Failure> {
    let NewArgs { file, id, store, rate, expires } = args;
    let key = new_key().map_err(|error| anyhow!("the system has no random numbers: {error}"))?;
    let stores: BTreeSet<String> = store.iter().cloned().collect();
    let spec = KeySpec {
        id: id.clone(),
        digest: digest_of(&key),
        stores: (!stores.is_empty()).then_some(stores),
        rate: rate.and_then(NonZeroU32::new),
        expires: *expires,
        place: 0..0,
    };
    edit::append(&file.path, &spec)?;
    let mut out = std::io::stdout().lock();
    let printed = writeln!(out, "{key}").and_then(|()| out.flush());
    printed.with_context(|| format!("could not print the key; revoke \"{id}\" and make another"))?;
    Ok(())
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let now = now();
    let rows = args.file.keys()?.into_iter().map(|key| {
        let rate = key.rate.map_or_else(|| "server's".to_owned(), |rate| rate.to_string());
        vec![key.id.clone(), rate, until(&key, now), stores(&key)]
    });
    let (rows, mut out): (Vec<_>, _) = (rows.collect(), Vec::new());
    table(&mut out, &["id", "rate", "expires", "stores"], &rows);
    print(&out)
}

fn check(args: &CheckArgs) -> Result<(), Failure> {
    let keys = args.file.keys()?;
    let mut text = String::new();
    let read = std::io::stdin().lock().take(KEY_BYTES_MAX).read_to_string(&mut text);
    read.context("could not read a key from standard input")?;
    let digest = digest_of(text.trim());
    let Some(key) = keys.iter().find(|key| key.digest == digest) else {
        eprintln!("no key of \"{}\"", args.file.path.display());
        return Err(Failure::Check);
    };
    let now = now();
    print(format!("id       {}\nstores   {}\nexpires  {}\n", key.id, stores(key), until(key, now)).as_bytes())?;
    if key.expires.is_some_and(|expires| expires <= now) { Err(Failure::Check) } else { Ok(()) }
}

impl KeyFile {
    fn keys(&self) -> Result<Vec<KeySpec>, Failure> {
        Ok(key_file::parse(&key_file::read(&self.path)?, &self.path.display().to_string())?)
    }
}

fn stores(key: &KeySpec) -> String {
    match &key.stores {
        None => "all".to_owned(),
        // As in the file: an id may hold blanks, commas, and what moves a terminal.
        Some(stores) => stores.iter().map(|store| edit::quoted(store)).collect::<Vec<_>>().join(", "),
    }
}

fn until(key: &KeySpec, now: u64) -> String {
    match key.expires {
        None => "never".to_owned(),
        Some(expires) => {
            let expired = if expires <= now { " (expired)" } else { "" };
            format!("{}{expired}", edit::written(expires))
        }
    }
}

fn print(text: &[u8]) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn id(text: &str) -> Result<String, &'static str> {
    if key_file::is_id(text) { Ok(text.to_owned()) } else { Err("must be 1 to 64 letters, digits, -, _ or .") }
}

fn expiry(text: &str) -> Result<u64, String> {
    let now = now();
    // A bare number would be milliseconds, of which nobody thinks here.
    let written = text.contains('-').then(|| parse_instant(text).or_else(|| parse_instant(&format!("{text}T00:00:00Z"))));
    let at = written.flatten().or_else(|| duration::read(text).ok().map(|length| now.saturating_add(length)));
    let at = at.ok_or("is no time such as 2027-01-01T00:00:00Z or 2027-01-01, nor a length of time such as 90d")?;
    // Whole seconds are what one expects to read.
    let at = at / 1_000 * 1_000;
    match instant(i64::try_from(at).unwrap_or(i64::MAX)).ends_with('Z') {
        false => Err("is beyond the calendar".to_owned()),
        true if at <= now => Err("is over already".to_owned()),
        true => Ok(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_an_instant_to_come() {
        assert_eq!(expiry("2199-01-01"), Ok(7_226_582_400_000));
        assert_eq!(expiry("2199-01-01T01:00:00.5+01:00"), Ok(7_226_582_400_000));
        let (before, at) = (now(), expiry("90d").expect("a length"));
        assert!((before + 90 * 86_400_000 - 1_000..=now() + 90 * 86_400_000).contains(&at));
        for wrong in ["", "1999-01-01", "0m", "7226582400000", "soon", "99999999999999999999d", "2199-13-01"] {
            assert!(expiry(wrong).is_err(), "{wrong}");
        }
    }
}
