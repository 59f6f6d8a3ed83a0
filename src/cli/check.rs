//! `storeflow check`: is this job file right, and what exactly does it say?

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::config::job_file::{self, JobFileError};

/// Check a job file and print the job it describes, with every default filled in.
///
/// Reads the job file only: no broker, no object store. Prints the job as a job file, which can be kept and run in
/// place of the original. Mistakes go to stderr, all of them, one per line as file:line:column: what is wrong and what
/// would be right.
///
/// Exit code: 0 the job is right, 2 it is not, or could not be read.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Job file (TOML)
    ///
    /// What to compute from which topics. Required; there is no default place.
    #[arg(long, env = "STOREFLOW_JOB", value_name = "PATH")]
    job: PathBuf,
}

/// Reads the job, prints it or its mistakes.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    match job_file::load(&args.job) {
        Ok(job) => print(&job.to_string()),
        Err(mistakes @ JobFileError::Mistakes { .. }) => {
            // On lines of their own, so that an editor can jump to each.
            eprintln!("{mistakes}");
            Err(anyhow::anyhow!("job file \"{}\" cannot be run as it is", args.job.display()).into())
        }
        Err(error) => Err(error.into()),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever read along (`| head`) has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
