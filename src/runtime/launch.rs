//! Several processes of one run on this machine, under one that watches them.
//!
//! ```text
//! signals ──► supervisor ──► child 0, child 1, …   their lines come back with "[0] ", "[1] " before them
//!                 ▲ ends ◄────────┘
//! ```
//!
//! Upholds: (1) nobody is left behind: the supervisor ends after the last child; (2) one failure ends all, with a time to
//! finish and then without; the first failure is the one that is told, the others follow from it; (3) ports cannot be lost:
//! each child is given its listening socket, already open, as standard input; (4) the secret is in the environment only.
//! Keeps: the last lines of each child's standard error.
//! Absent on purpose: starting anything again (all processes must, together; that is for whoever started this one).

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::cluster::{Secret, hexadecimal, random};

/// Between two looks at children and signals.
const WATCH_EVERY: Duration = Duration::from_millis(10);
/// What the others get to finish when one has failed. They cannot complete without it, so they need not much.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is waited for a child's last lines once it has ended; a grandchild may hold the pipe open.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Lines that are repeated of the first failure.
const LAST_WORDS: usize = 8;
/// Longer lines are cut: a line is kept whole until it is written.
const LINE_MAX: u64 = 64 << 10;

/// Why processes could not be started or watched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Ports, random numbers or signal handlers were refused.
    #[error("could not prepare {processes} processes")]
    Prepare {
        /// How many.
        processes: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The program did not start.
    #[error("could not start process {process}")]
    Start {
        /// Its index.
        process: usize,
        /// What the system said.
        source: io::Error,
    },
}

/// The first failure of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Which process.
    pub process: usize,
    /// Its exit code; 128 and the signal's number if a signal ended it.
    pub code: u8,
    /// The end of its standard error.
    pub last_words: Vec<String>,
}

/// Makes `processes` commands into one cluster on loopback: hosts, run id, secret and open sockets are added to each.
///
/// # Errors
/// If the system has no ports or random numbers to give.
pub fn cluster(processes: usize, command: impl Fn(usize) -> Command) -> Result<Vec<Command>, LaunchError> {
    let refused = |source| LaunchError::Prepare { processes, source };
    let listeners: Vec<TcpListener> =
        (0..processes).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>().map_err(refused)?;
    let hosts: Vec<String> =
        listeners.iter().map(|one| one.local_addr().map(|at| at.to_string())).collect::<io::Result<_>>().map_err(refused)?;
    let secret = Secret::generate().map_err(refused)?;
    let run_id = hexadecimal(&random::<8>().map_err(refused)?);
    let each = listeners.into_iter().enumerate().map(|(process, listener)| {
        let mut command = command(process);
        command.args(["--process", &process.to_string(), "--hosts", &hosts.join(",")]);
        command.env("STOREFLOW_BIND", "stdin").env("STOREFLOW_RUN_ID", &run_id);
        command.env("STOREFLOW_CLUSTER_SECRET", secret.for_child()).env_remove("STOREFLOW_CLUSTER_SECRET_FILE");
        command.stdin(Stdio::from(OwnedFd::from(listener)));
        command
    });
    Ok(each.collect())
}

/// Runs all commands to their ends. SIGTERM and SIGINT are handed on; the second one ends everything at once.
///
/// # Errors
/// If one could not be started: the others are ended first.
pub fn supervise(commands: Vec<Command>) -> Result<Result<(), Failed>, LaunchError> {
    let processes = commands.len();
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|source| LaunchError::Prepare { processes, source })?;
    let mut children = Children(Vec::new());
    for (process, command) in commands.into_iter().enumerate() {
        children.0.push(Running::start(process, command).map_err(|source| LaunchError::Start { process, source })?);
    }
    let (mut failed, mut signalled, mut kill_at) = (None, false, None);
    loop {
        for signal in signals.pending() {
            let signal = match signal {
                _ if signalled => Signal::KILL,
                SIGINT => Signal::INT,
                _ => Signal::TERM,
            };
            signalled = true;
            tracing::info!(?signal, "handed on to all processes");
            children.tell(signal);
        }
        for child in &mut children.0 {
            let Some(status) = child.end() else { continue };
            if !status.success() && failed.is_none() {
                failed = Some(child.failed(status));
                kill_at = Some(Instant::now() + PATIENCE);
            }
        }
        if children.0.iter().all(|child| child.ended) {
            return Ok(failed.map_or(Ok(()), Err));
        }
        if let Some(at) = kill_at {
            // Told once, when the time starts.
            if !std::mem::replace(&mut children.0[0].told, true) {
                children.tell(Signal::TERM);
            }
            if Instant::now() >= at {
                children.tell(Signal::KILL);
            }
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

/// Ends what still runs when the supervisor leaves early.
struct Children(Vec<Running>);

impl Children {
    fn tell(&self, signal: Signal) {
        // A child that has ended but was not yet looked at keeps its number until then: no other process can have it.
        for child in self.0.iter().filter(|child| !child.ended) {
            let _ = kill_process(Pid::from_child(&child.child), signal);
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in self.0.iter_mut().filter(|child| !child.ended) {
            let _ = child.child.kill();
            let _ = child.child.wait();
        }
    }
}

struct Running {
    process: usize,
    child: Child,
    ended: bool,
    told: bool,
    readers: Vec<JoinHandle<()>>,
    last_words: Arc<Mutex<VecDeque<String>>>,
}

impl Running {
    fn start(process: usize, mut command: Command) -> io::Result<Running> {
        // Its own group: a terminal's Ctrl-C reaches the supervisor alone, which hands it on once.
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn()?;
        let last_words = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&last_words);
        let mut readers = Vec::new();
        if let Some(out) = child.stdout.take() {
            readers.push(std::thread::spawn(move || pass_on(process, out, &mut io::stdout(), |_| {})));
        }
        if let Some(err) = child.stderr.take() {
            readers.push(std::thread::spawn(move || {
                pass_on(process, err, &mut io::stderr(), |line| {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    if kept.len() == LAST_WORDS {
                        kept.pop_front();
                    }
                    kept.push_back(line.to_owned());
                });
            }));
        }
        Ok(Running { process, child, ended: false, told: false, readers, last_words })
    }

    /// How it ended, the first time that is asked after its end.
    fn end(&mut self) -> Option<ExitStatus> {
        let status = if self.ended { None } else { self.child.try_wait().ok().flatten() }?;
        self.ended = true;
        let until = Instant::now() + LAST_LINES;
        while !self.readers.iter().all(JoinHandle::is_finished) && Instant::now() < until {
            std::thread::sleep(WATCH_EVERY);
        }
        Some(status)
    }

    fn failed(&self, status: ExitStatus) -> Failed {
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(2);
        let last_words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        Failed { process: self.process, code: u8::try_from(code).unwrap_or(2), last_words }
    }
}

/// Writes a child's lines, each whole and with the child's number before it.
fn pass_on(process: usize, from: impl Read, to: &mut impl Write, mut keep: impl FnMut(&str)) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while (&mut from).take(LINE_MAX).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        keep(text);
        // One write per line, so that lines of two children do not mix. Nobody may be listening any more.
        let _ = to.write_all(format!("[{process}] {text}\n").as_bytes());
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    /// A signal reaches every supervisor of this process, so there is one at a time.
    fn alone() -> std::sync::MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends this process a signal once a file is there.
    fn raise_after(file: std::path::PathBuf, signal: i32) -> JoinHandle<()> {
        std::thread::spawn(move || {
            while !file.exists() {
                std::thread::sleep(Duration::from_millis(2));
            }
            signal_hook::low_level::raise(signal).expect("raised");
        })
    }

    #[test]
    fn a_signal_is_handed_on_and_children_end_in_their_own_way() {
        let _alone = alone();
        let folder = tempfile::tempdir().expect("a folder");
        let started = folder.path().join("started");
        let patient = || {
            let mut command = shell("trap 'exit 0' INT; touch \"$STARTED\"; while :; do sleep 0.01; done");
            command.env("STARTED", &started);
            command
        };
        // A child that has not set its trap yet when the other has is ended by the signal: only one is asked.
        let raised = raise_after(started.clone(), SIGINT);
        assert_eq!(supervise(vec![patient()]).expect("started"), Ok(()));
        raised.join().expect("no panic");
    }

    #[test]
    fn a_second_signal_ends_who_does_not_listen() {
        let _alone = alone();
        let folder = tempfile::tempdir().expect("a folder");
        let (started, heard) = (folder.path().join("started"), folder.path().join("heard"));
        let mut deaf = shell("trap 'touch \"$HEARD\"' TERM; touch \"$STARTED\"; while :; do sleep 0.01; done");
        deaf.env("STARTED", &started).env("HEARD", &heard);
        let raised = [raise_after(started, SIGTERM), raise_after(heard, SIGTERM)];
        assert_eq!(supervise(vec![deaf]).expect("started").expect_err("killed").code, 137);
        raised.into_iter().for_each(|one| one.join().expect("no panic"));
    }

    #[test]
    fn all_well() {
        let _alone = alone();
        assert_eq!(supervise(vec![shell("echo one"), shell("echo two >&2")]).expect("started"), Ok(()));
    }

    #[test]
    fn the_first_failure_ends_all_and_is_quoted() {
        let _alone = alone();
        // The other ends when it is told to, with a failure of its own that follows from the first.
        let failing = shell("echo before; echo \"error: no such topic\" >&2; exit 3");
        let waiting = shell("trap 'exit 7' TERM; while :; do sleep 0.01; done");
        let failed = supervise(vec![waiting, failing]).expect("started").expect_err("one failed");
        assert_eq!(failed, Failed { process: 1, code: 3, last_words: vec!["error: no such topic".to_owned()] });
    }

    #[test]
    fn a_killed_child_has_the_signals_code() {
        let _alone = alone();
        let failed = supervise(vec![shell("kill -9 $$")]).expect("started").expect_err("killed");
        assert_eq!(failed.code, 137);
    }

    #[test]
    fn what_cannot_start_leaves_nobody_behind() {
        let _alone = alone();
        let error = supervise(vec![shell("sleep 1000"), Command::new("/no/such/program")]).expect_err("not started");
        assert!(error.to_string().contains("process 1"), "{error}");
    }

    #[test]
    fn the_secret_is_in_no_argument() {
        let commands = cluster(2, |_| shell("true")).expect("prepared");
        let of = |command: &Command, name: &str| {
            let value = command.get_envs().find(|(key, _)| *key == name).and_then(|(_, value)| value);
            value.expect("set").to_str().expect("text").to_owned()
        };
        let secret = of(&commands[0], "STOREFLOW_CLUSTER_SECRET");
        assert_eq!((secret.len(), &secret), (64, &of(&commands[1], "STOREFLOW_CLUSTER_SECRET")));
        assert_eq!(of(&commands[0], "STOREFLOW_RUN_ID"), of(&commands[1], "STOREFLOW_RUN_ID"));
        for (process, command) in commands.iter().enumerate() {
            let args: Vec<_> = command.get_args().map(|arg| arg.to_str().expect("text")).collect();
            assert!(args.windows(2).any(|pair| pair == ["--process", &process.to_string()]), "{args:?}");
            assert!(args.iter().all(|arg| !arg.contains(&secret)));
        }
    }

    #[test]
    fn a_line_is_passed_on_whole() {
        let (mut out, mut kept) = (Vec::new(), Vec::new());
        pass_on(3, &b"one\r\ntwo\n\xffthree"[..], &mut out, |line| kept.push(line.to_owned()));
        assert_eq!(String::from_utf8_lossy(&out), "[3] one\n[3] two\n[3] \u{fffd}three\n");
        assert_eq!(kept, ["one", "two", "\u{fffd}three"]);
    }
}
