//! `storeflow ddl`: the statements that make a history queryable elsewhere.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::Failure;
use super::store_args::StoreArgs;
use crate::config::job_file;
use crate::publish::ddl::{Dialect, History, statements};
use crate::publish::{Current, Output};
use crate::store::Address;

/// Print CREATE statements for the history tables of Athena, Redshift or DuckDB
///
/// Per table: its columns and types, its dates as partitions, and a view TABLE_latest with each cell's last row. Reads where
/// the current generation is from the store; with --job it looks at nothing.
#[derive(Debug, Args)]
pub struct DdlArgs {
    /// Whose statements
    #[arg(value_enum, value_name = "ENGINE")]
    engine: Engine,

    /// Take job and digits of money from this job file instead of from the store, for a run that has not begun
    // Without the variable other commands have: it would silently keep this one from looking.
    #[arg(long, value_name = "FILE")]
    job: Option<PathBuf>,

    /// The generation's number, with --job
    #[arg(long, value_name = "N", default_value_t = 1, requires = "job")]
    generation: u64,

    /// Database or schema the tables go into
    #[arg(long, env = "STOREFLOW_DDL_SCHEMA", value_name = "NAME", default_value = "storeflow", value_parser = parse_name)]
    schema: String,

    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    Athena,
    RedshiftSpectrum,
    RedshiftCopy,
    Duckdb,
}

impl From<Engine> for Dialect {
    fn from(engine: Engine) -> Dialect {
        match engine {
            Engine::Athena => Dialect::Athena,
            Engine::RedshiftSpectrum => Dialect::RedshiftSpectrum,
            Engine::RedshiftCopy => Dialect::RedshiftCopy,
            Engine::Duckdb => Dialect::DuckDb,
        }
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if text.is_empty() || !text.bytes().all(allowed) {
        return Err("is no name of letters, digits and _".to_owned());
    }
    Ok(text.to_owned())
}

/// Runs the command.
///
/// # Errors
/// If the store or the job file has something to mend.
pub fn run(args: &DdlArgs) -> Result<(), Failure> {
    let history = match &args.job {
        Some(path) => {
            let job = job_file::load(path)?;
            let place = args.store.address()?.place(&format!("{}/gen-{:06}/history", job.name, args.generation));
            History {
                generation: args.generation,
                location: place.display().to_string(),
                scale: job.scale,
                schema: args.schema.clone(),
                dates: None,
                job: job.name,
            }
        }
        None => of_current(&Current::open(&args.store.open()?)?, &args.schema)?,
    };
    if !matches!(args.engine, Engine::Duckdb) && matches!(args.store.address()?, Address::Folder(_)) {
        tracing::warn!("Athena and Redshift read from S3 only; the statements name a local folder");
    }
    match std::io::stdout().lock().write_all(statements(args.engine.into(), &history).as_bytes()) {
        // Whoever read along (`| head`) has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.context("could not write to standard output")?),
    }
}

fn of_current(current: &Current, schema: &str) -> Result<History, Failure> {
    let mut dates = Vec::new();
    for output in Output::ALL {
        let prefix = current.keys.history_prefix(output);
        let keys = current.store.list(&prefix)?;
        let of_key = |key: &String| Some(key.strip_prefix(&prefix)?.strip_prefix("/date=")?.split('/').next()?.to_owned());
        dates.push((output, keys.iter().filter_map(of_key).collect::<BTreeSet<String>>()));
    }
    let place = current.store.place(&format!("{}/history", current.keys.prefix()));
    Ok(History {
        job: current.about.job.clone(),
        generation: current.about.generation,
        location: place.display().to_string(),
        scale: current.about.scale,
        schema: schema.to_owned(),
        dates: Some(dates),
    })
}
