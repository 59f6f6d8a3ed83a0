//! `storeflow bench`: measures the stages of a replay, each in a process of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Args;

use super::Failure;
use super::tuning::TuningArgs;
use crate::bench::report::{Measured, Report};
use crate::bench::stage::{self, Setting};
use crate::bench::{Sample, Stage};
use crate::config::job_file;

/// Measure a replay stage by stage: reading, decoding, dataflow, view, history
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The dataset to replay: `DIR/TOPIC/PARTITION.ndjson`, also `.zst` or `.gz`
    #[arg(long, env = "STOREFLOW_REPLAY", value_name = "DIR")]
    replay: PathBuf,

    /// The job file; without it the only *.toml in the dataset
    #[arg(long, env = "STOREFLOW_JOB", value_name = "FILE")]
    job: Option<PathBuf>,

    /// Worker threads, one measurement each
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u16).range(1..=512))]
    workers: Vec<u16>,

    /// Runs of every stage, after one that warms up
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    runs: u16,

    /// Write all numbers as JSON to FILE too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Measure the dataflow on records decoded before, too
    #[arg(long)]
    cache: bool,

    /// Existing folder for temporary data directories, slices and the replay cache [default: the system's]
    #[arg(long, value_name = "TMP")]
    data_dir: Option<PathBuf>,

    /// Also measure the time from read to visible, over 20 s at this multiple of real time
    #[arg(long, value_name = "FACTOR")]
    speed: Option<String>,
}

/// One stage, once; what `bench` starts
#[derive(Debug, Args)]
pub struct StageArgs {
    /// The stage
    #[arg(long, value_enum)]
    stage: Stage,
    /// The job file
    #[arg(long)]
    job: PathBuf,
    /// The dataset
    #[arg(long)]
    replay: PathBuf,
    /// For what the stage writes
    #[arg(long)]
    folder: PathBuf,
    #[command(flatten)]
    tuning: TuningArgs,
}

/// Runs the command.
///
/// # Errors
/// If a stage cannot run.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let job_path = match &args.job {
        Some(path) => path.clone(),
        None => only_job(&args.replay)?,
    };
    let job = job_file::load(&job_path)?;
    let folder = Folder::create(args.data_dir.as_deref())?;
    let cached = args.cache.then_some(Stage::Cached);
    let mut all: Vec<Measured> = Vec::new();
    for &workers in &args.workers {
        let measured = |stage| Measured { stage, workers: usize::from(workers), samples: Vec::new() };
        all.extend(Stage::ALL.into_iter().chain(cached).map(measured));
    }
    let total = all.len() * (usize::from(args.runs) + 1);
    let (mut done, start) =
        (0, |one: &Measured, speed: Option<&str>| child(one.stage, one.workers, speed, &job_path, &args.replay, &folder.0));
    for round in 0..=args.runs {
        for one in &mut all {
            let sample = start(one, None)?;
            done += 1;
            let (stage, workers) = (one.stage.title(), one.workers);
            tracing::info!(stage, workers, round, done, of = total, seconds = sample.seconds, "measured");
            if round > 0 {
                one.samples.push(sample);
            }
        }
    }
    let latency = match &args.speed {
        Some(speed) => {
            let workers = args.workers.iter().copied().max().map_or(1, usize::from);
            start(&Measured { stage: Stage::View, workers, samples: Vec::new() }, Some(speed))?.latency
        }
        None => None,
    };
    let report = Report::new(&job.name, &args.replay.display().to_string(), usize::from(args.runs), &all, latency);
    if let Some(path) = &args.json {
        let text = serde_json::to_vec_pretty(&report).context("could not write the numbers as JSON")?;
        std::fs::write(path, text).with_context(|| format!("could not write \"{}\"", path.display()))?;
    }
    write!(std::io::stdout(), "{}", report.table()).context("could not print the table")?;
    Ok(())
}

/// Runs one stage and prints its sample.
///
/// # Errors
/// If it cannot run.
pub fn run_stage(args: &StageArgs) -> Result<(), Failure> {
    let job = job_file::load(&args.job)?;
    let setting = Setting { job: &job, dataset: &args.replay, folder: &args.folder, tuning: args.tuning.resolve() };
    let sample = stage::run(args.stage, &setting)?;
    let line = serde_json::to_string(&sample).context("could not write a sample as JSON")?;
    writeln!(std::io::stdout(), "{line}").context("could not print a sample")?;
    Ok(())
}

/// Runs a stage in a process of its own.
fn child(stage: Stage, workers: usize, speed: Option<&str>, job: &Path, dataset: &Path, folder: &Path) -> anyhow::Result<Sample> {
    let program = std::env::current_exe().context("could not find this program's own file")?;
    let mut command = Command::new(&program);
    command.args(["bench-stage", "--stage", stage.name(), "--workers", &workers.to_string()]);
    command.arg("--job").arg(job).arg("--replay").arg(dataset).arg("--folder").arg(folder);
    command.args(speed.iter().flat_map(|speed| ["--speed", speed]));
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("could not start \"{}\"", program.display()))?;
    if !output.status.success() {
        bail!("stage \"{}\" with {workers} workers ended with {}", stage.name(), output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("could not read what stage \"{}\" measured", stage.name()))
}

/// The job file that lies beside the topics.
fn only_job(dataset: &Path) -> anyhow::Result<PathBuf> {
    let context = || format!("could not list dataset \"{}\"", dataset.display());
    let mut jobs = Vec::new();
    for entry in std::fs::read_dir(dataset).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            jobs.push(path);
        }
    }
    match &jobs[..] {
        [one] => Ok(one.clone()),
        some => bail!("dataset \"{}\" holds {} job files (*.toml); name one with --job", dataset.display(), some.len()),
    }
}

/// A temporary folder, removed in the end.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn create(within: Option<&Path>) -> anyhow::Result<Self> {
        let within = within.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = within.join(format!("storeflow-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("could not create \"{}\"", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "could not remove a temporary folder");
        }
    }
}
