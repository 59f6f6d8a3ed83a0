//! The query API under load: how many requests about one store it answers, how long they take at half of that, and what a running job
//! loses while it answers.
//!
//! ```text
//! generator (this process, one thread) ─► storeflow serve --data-dir     the view in memory     flat out, then at half of that
//!                                      ─► storeflow serve --redis        the view in Redis      the same
//!                                         both once more with no answer kept: each is read from the view, as the first one after each as-of is
//!                                      ─► storeflow run --replay --serve at a fixed rate, in turn with the same run left alone
//! ```
//!
//! Upholds: (1) the server and the job are processes of their own, started as users start them, and the generator shares the machine with
//! them; (2) each path is one store, stores take turns, so that no store is asked twice before all were; (3) runs that are compared
//! take turns, so that a slow minute of the machine hits both; medians are given.
//! Absent on purpose: a bare rate without the machine's count of processors and the number of stores beside it.
//!
//! JSON: `format` (1), `cores`, `stores`, `connections`, `runs`, `views` (`place`, `kept`: whether answers are kept while the as-of stands, `runs` of `flat_out` and `half`, medians), `job`
//! (`records`, seconds with and without requests, `kept`: the quotient of the medians, `answered`).

pub mod generator;

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::generator::{Answers, Load, LoadError, Pace, send};
use super::report::spread_of;

/// Until a server that was started must answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Stores that the server names at a time.
const PAGE: usize = 1_000;
/// Variables by which a process finds Redis.
pub const REDIS: [&str; 4] =
    ["STOREFLOW_REDIS", "STOREFLOW_REDIS_CLUSTER", "STOREFLOW_REDIS_PASSWORD", "STOREFLOW_REDIS_PASSWORD_FILE"];

/// Why the bench ended early.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A process could not be started, or looked after.
    #[error("could not {what} `storeflow {command}`")]
    Process {
        /// What was tried.
        what: &'static str,
        /// The command's first words.
        command: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A process ended early or badly.
    #[error("`storeflow {command}` ended with {status}; what it wrote is above")]
    Ended {
        /// The command's first words.
        command: String,
        /// How.
        status: std::process::ExitStatus,
    },
    /// A server was started and does not answer.
    #[error("the server at {address} is not ready after {} s; what it wrote is above", PATIENCE.as_secs())]
    NotReady {
        /// Where it should answer.
        address: SocketAddr,
    },
    /// The server named no stores, or not as it should.
    #[error("the server at {0} names no stores; is the dataset empty?")]
    NoStores(SocketAddr),
    /// The generator.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A question beside the load.
    #[error("could not ask {url}")]
    Ask {
        /// What was asked.
        url: String,
        /// Why not.
        source: reqwest::Error,
    },
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The job file.
    pub job: String,
    /// Its dataset.
    pub dataset: String,
    /// An existing folder, the caller's to remove.
    pub folder: String,
    /// Variables that say where Redis is: in arguments everybody on the machine could read a password. None: it is left out.
    pub redis: Vec<(&'static str, String)>,
    /// The name in the job file.
    pub job_name: String,
    /// Connections of the generator.
    pub connections: usize,
    /// How long each load lasts.
    pub span: Duration,
    /// Measurements of each kind.
    pub runs: usize,
    /// Requests per second while the job runs.
    pub beside: f64,
}

/// A bench.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this format.
    pub format: u32,
    /// Processors of the machine.
    pub cores: usize,
    /// Stores that were asked for in turn.
    pub stores: usize,
    /// Connections.
    pub connections: usize,
    /// Measurements of each kind.
    pub runs: usize,
    /// By place.
    pub views: Vec<ViewReport>,
    /// The job beside its requests.
    pub job: JobReport,
}

/// The API over one view.
#[derive(Debug, Serialize)]
pub struct ViewReport {
    /// `memory` or `redis`.
    pub place: &'static str,
    /// Whether answers are kept while the as-of stands; otherwise each is read from the view.
    pub kept: bool,
    /// As fast as it answers.
    pub flat_out: Vec<Answers>,
    /// At half of the median of those.
    pub half: Vec<Answers>,
    /// Median of the good answers per second, flat out.
    pub per_second: f64,
    /// Medians at half of that, microseconds.
    pub p50_us: f64,
    /// See `p50_us`.
    pub p99_us: f64,
}

/// What a running job loses.
#[derive(Debug, Serialize)]
pub struct JobReport {
    /// Requests per second.
    pub requests_per_second: f64,
    /// Seconds of each run that was left alone.
    pub alone: Vec<f64>,
    /// Seconds of each run that was asked meanwhile.
    pub asked: Vec<f64>,
    /// The throughput that is left: median of `alone` over median of `asked`.
    pub kept: f64,
    /// What came of the requests.
    pub answers: Vec<Answers>,
}

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let Report { cores, stores, connections, runs, .. } = self;
        let _ = writeln!(
            text,
            "GET /v1/stores/ID of {stores} stores in turn, {connections} connections, {cores} cores with the generator, medians of {runs}"
        );
        let _ = writeln!(text, "{:<18} {:>12} {:>16} {:>10} {:>10}", "view", "requests/s", "at half: p50 ms", "p99 ms", "bytes");
        for view in &self.views {
            let ViewReport { place, kept, per_second, p50_us, p99_us, flat_out, .. } = view;
            let bytes = flat_out.iter().map(|answers| answers.bytes).sum::<u64>()
                / flat_out.iter().map(|answers| answers.good + answers.other).sum::<u64>().max(1);
            let (p50, p99) = (p50_us / 1e3, p99_us / 1e3);
            let place = if *kept { (*place).to_owned() } else { format!("{place}, none kept") };
            let _ = writeln!(text, "{place:<18} {per_second:>12.0} {p50:>16.2} {p99:>10.2} {bytes:>10}");
        }
        let JobReport { requests_per_second, alone, asked, kept, answers } = &self.job;
        let [alone, asked] = [alone, asked].map(|seconds| spread_of(seconds.iter().copied())[1]);
        let (good, other) = answers.iter().fold((0, 0), |sums, of| (sums.0 + of.good, sums.1 + of.other));
        let _ = writeln!(
            text,
            "a replay beside {requests_per_second:.0} requests/s: {asked:.2} s, alone {alone:.2} s: {:.1} % of its throughput is left ({good} answered, {other} before there was a view)",
            kept * 100.0
        );
        text
    }
}

/// Measures everything; `progress` is told of each measurement.
///
/// # Errors
/// If a process or the generator fails.
pub fn measure(setting: &Setting, mut progress: impl FnMut(&str)) -> Result<Report, BenchError> {
    let view = format!("{}/view", setting.folder);
    let usual = ["run", "--job", &setting.job, "--replay", &setting.dataset];
    progress("making the view that is served");
    Process::start(&[&usual[..], &["--data-dir", &view]].concat(), &setting.redis)?.succeed()?;
    let mut report = Report {
        format: 1,
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        stores: 0,
        connections: setting.connections,
        runs: setting.runs,
        views: Vec::new(),
        job: JobReport {
            requests_per_second: setting.beside,
            alone: Vec::new(),
            asked: Vec::new(),
            kept: 0.0,
            answers: Vec::new(),
        },
    };
    let mut paths: Arc<[String]> = Arc::new([]);
    let memory = ("memory", ["serve", "--data-dir", &view], &[][..]);
    let redis = ("redis", ["serve", "--job-name", &setting.job_name], &setting.redis[..]);
    let views = [Some(memory), (!setting.redis.is_empty()).then_some(redis)].into_iter().flatten();
    for ((place, command, variables), kept) in views.flat_map(|view| [(view, true), (view, false)]) {
        let none_kept = if kept { &[][..] } else { &["--answers-bytes-max", "0"] };
        let server = Server::start(&[&command[..], none_kept].concat(), variables)?;
        if paths.is_empty() {
            paths = server.stores()?.into();
            report.stores = paths.len();
        }
        let load = Load {
            address: server.address,
            paths: Arc::clone(&paths),
            connections: setting.connections,
            pace: Pace::FlatOut,
            span: setting.span,
        };
        // Warm: connections, caches, the branch predictor.
        send(&Load { span: Duration::from_secs(1), ..load.clone() })?;
        let (flat_out, half) = (Vec::new(), Vec::new());
        let mut of_view = ViewReport { place, kept, flat_out, half, per_second: 0.0, p50_us: 0.0, p99_us: 0.0 };
        for run in 0..setting.runs {
            of_view.flat_out.push(send(&load)?);
            progress(&format!(
                "{place}, kept {kept}, flat out, {} of {}: {:.0}/s",
                run + 1,
                setting.runs,
                of_view.flat_out[run].per_second()
            ));
        }
        of_view.per_second = median(&of_view.flat_out, Answers::per_second);
        let half = Load { pace: Pace::PerSecond(of_view.per_second / 2.0), ..load };
        for run in 0..setting.runs {
            of_view.half.push(send(&half)?);
            progress(&format!(
                "{place}, kept {kept}, at half, {} of {}: p99 {} us",
                run + 1,
                setting.runs,
                of_view.half[run].p99_us
            ));
        }
        of_view.p50_us = median(&of_view.half, |answers| answers.p50_us as f64);
        of_view.p99_us = median(&of_view.half, |answers| answers.p99_us as f64);
        report.views.push(of_view);
    }
    beside(setting, &paths, &mut report.job, progress)?;
    Ok(report)
}

/// The same replay, left alone and asked meanwhile.
fn beside(
    setting: &Setting,
    paths: &Arc<[String]>,
    job: &mut JobReport,
    mut progress: impl FnMut(&str),
) -> Result<(), BenchError> {
    for run in 0..setting.runs {
        // Whoever comes first may find the machine in another state: turns change.
        for asked in if run % 2 == 0 { [false, true] } else { [true, false] } {
            let (folder, address) = (format!("{}/job-{run}-{asked}", setting.folder), free_address("run")?);
            let listen = address.to_string();
            let began = Instant::now();
            let usual = ["run", "--job", &setting.job, "--replay", &setting.dataset, "--data-dir", &folder];
            // What is shown is committed: without many checkpoints a short replay would show nothing before its end.
            let serving = ["--serve", &listen, "--checkpoint-interval", "1s"];
            let mut process = Process::start(&[&usual[..], &serving].concat(), &[])?;
            if asked {
                job.answers.push(ask_while(&mut process, address, paths, setting)?);
            }
            process.succeed()?;
            let seconds = began.elapsed().as_secs_f64();
            (if asked { &mut job.asked } else { &mut job.alone }).push(seconds);
            progress(&format!(
                "replay {}, {} of {}: {seconds:.2} s",
                if asked { "asked" } else { "alone" },
                run + 1,
                setting.runs
            ));
            // The next one's writes should not wait for this one's.
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
    let middle = |seconds: &[f64]| spread_of(seconds.iter().copied())[1];
    job.kept = middle(&job.alone) / middle(&job.asked).max(1e-9);
    Ok(())
}

/// Asks a job's server until its process has ended: a second at a time, over connections of each second.
fn ask_while(
    process: &mut Process,
    address: SocketAddr,
    paths: &Arc<[String]>,
    setting: &Setting,
) -> Result<Answers, BenchError> {
    let load = Load {
        address,
        paths: Arc::clone(paths),
        connections: setting.connections,
        pace: Pace::PerSecond(setting.beside),
        span: Duration::from_secs(1),
    };
    let (mut sum, mut worst) = (Answers::default(), Answers::default());
    while process.goes_on()? {
        match send(&load) {
            Ok(answers) => {
                sum.good += answers.good;
                sum.other += answers.other;
                sum.bytes += answers.bytes;
                sum.seconds += answers.seconds;
                if answers.p99_us > worst.p99_us {
                    worst = answers;
                }
            }
            // It is not there yet, or no longer.
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    let Answers { p50_us, p99_us, p999_us, longest_us, .. } = worst;
    Ok(Answers { p50_us, p99_us, p999_us, longest_us, ..sum })
}

fn median(answers: &[Answers], of: impl Fn(&Answers) -> f64) -> f64 {
    spread_of(answers.iter().map(of))[1]
}

/// A `storeflow` of this very program; ended with its value.
struct Process {
    child: Child,
    command: String,
}

impl Process {
    fn start(arguments: &[&str], redis: &[(&str, String)]) -> Result<Process, BenchError> {
        let command = arguments.iter().take(1).copied().collect::<String>();
        let failed = |source| BenchError::Process { what: "start", command: command.clone(), source };
        let program = std::env::current_exe().map_err(failed)?;
        // One line per request is what a server in use writes as well; it goes where nobody waits for it.
        let mut child = Command::new(program);
        child.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).env("STOREFLOW_LOG", "warn");
        REDIS.iter().for_each(|name| _ = child.env_remove(name));
        child.envs(redis.iter().map(|(name, value)| (name, value)));
        let child = child.spawn().map_err(failed)?;
        Ok(Process { child, command })
    }

    fn goes_on(&mut self) -> Result<bool, BenchError> {
        let ended = self.child.try_wait();
        let ended = ended.map_err(|source| BenchError::Process { what: "look after", command: self.command.clone(), source })?;
        Ok(ended.is_none())
    }

    fn succeed(mut self) -> Result<(), BenchError> {
        let status = self.child.wait();
        let status = status.map_err(|source| BenchError::Process { what: "wait for", command: self.command.clone(), source })?;
        if status.success() { Ok(()) } else { Err(BenchError::Ended { command: self.command.clone(), status }) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already cannot be ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address(command: &str) -> Result<SocketAddr, BenchError> {
    let found = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    found.map_err(|source| BenchError::Process { what: "find a port for", command: command.to_owned(), source })
}

/// A server that answers.
struct Server {
    _process: Process,
    address: SocketAddr,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(arguments: &[&str], redis: &[(&str, String)]) -> Result<Server, BenchError> {
        let address = free_address("serve")?;
        let listen = address.to_string();
        let mut process = Process::start(&[arguments, &["--listen", &listen]].concat(), redis)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| BenchError::Process { what: "ask", command: "serve".to_owned(), source })?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let url = format!("http://{address}/readyz");
            if runtime.block_on(reqwest::get(&url)).is_ok_and(|answer| answer.status().is_success()) {
                return Ok(Server { _process: process, address, runtime });
            }
            if !process.goes_on()? {
                process.succeed()?;
                return Err(BenchError::NotReady { address });
            }
            if Instant::now() > deadline {
                return Err(BenchError::NotReady { address });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The paths of all stores.
    fn stores(&self) -> Result<Vec<String>, BenchError> {
        #[derive(Deserialize)]
        struct Page {
            stores: Vec<String>,
            next_cursor: Option<String>,
        }
        let (mut paths, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let after = cursor.map(|cursor| format!("&cursor={}", escaped(&cursor))).unwrap_or_default();
            let url = format!("http://{}/v1/stores?limit={PAGE}{after}", self.address);
            let page = self.runtime.block_on(async { reqwest::get(&url).await?.error_for_status()?.bytes().await });
            let page = page.map_err(|source| BenchError::Ask { url, source })?;
            let page: Page = serde_json::from_slice(&page).map_err(|_| BenchError::NoStores(self.address))?;
            paths.extend(page.stores.iter().map(|store| format!("/v1/stores/{}", escaped(store))));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        if paths.is_empty() { Err(BenchError::NoStores(self.address)) } else { Ok(paths) }
    }
}

/// An id as part of a URL.
fn escaped(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    id.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Writes a job's file under another name, so that what it leaves in Redis is the bench's own.
///
/// # Errors
/// If the file cannot be written.
pub fn renamed(job: &crate::config::Job, name: &str, folder: &Path) -> std::io::Result<String> {
    let mut job = job.clone();
    job.name = name.to_owned();
    let path = folder.join("job.toml");
    std::fs::write(&path, job.to_string())?;
    Ok(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_ids_are_escaped() {
        assert_eq!(escaped("a-1_.~"), "a-1_.~");
        assert_eq!(escaped("상/ %"), "%EC%83%81%2F%20%25");
    }
}
