//! Several processes of one run on this machine, under one that watches them and starts them again.
//!
//! ```text
//! signals ──► supervisor ──► child 0, child 1, …   their lines come back with "[0] ", "[1] " before them
//!                 ▲ ends ◄────────┘      └ by the same pipes they notice its death
//!                 └─ one died: all end ─► backoff ─► all again: new ports, run id and secret
//! ```
//!
//! Upholds: (1) nobody is left behind: the supervisor ends after the last child, and children end when it is killed; (2) one
//! failure ends all, with a time to finish and then without, before anything is started again: two incarnations never run at
//! the same time, and neither's processes would take the other's for a peer (run id, secret); (3) what a user has to mend (exit
//! code [`MEND`]) is not started again; (4) the failure that is told is the cause: not that of a process that only followed
//! from another's; (5) ports cannot be lost: each child is given its listening socket, already open, as standard input; (6) the
//! secret is in the environment only.
//! Keeps: the last lines of each child's standard error.
//! Absent on purpose: starting one process alone again; in timely a cluster starts together or not at all.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::cluster::{Secret, hexadecimal, random};

/// The exit code of what a user has to mend.
pub const MEND: u8 = 2;
/// The exit code of what may be better when everything is started again: something outside was away, or another process went.
pub const AGAIN: u8 = 3;

/// Set for children: they end when the one at the other end of their standard error does.
const END_WITH_LAUNCHER: &str = "STOREFLOW_END_WITH_LAUNCHER";

/// Between two looks at children and signals.
const WATCH_EVERY: Duration = Duration::from_millis(10);
/// What processes get to end by themselves once one has failed. Who lost a peer does so at once, and who failed for a reason of
/// its own says it; after that they are told to, and how they end then says nothing.
const FOLLOWING: Duration = Duration::from_millis(500);
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
    /// Signal handlers were refused.
    #[error("could not listen for SIGTERM and SIGINT")]
    Signals(#[source] io::Error),
    /// Ports or random numbers were refused.
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

/// The failure that ended a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Which process.
    pub process: usize,
    /// Its exit code; 128 and the signal's number if a signal ended it.
    pub code: u8,
    /// The end of its standard error.
    pub last_words: Vec<String>,
}

impl Failed {
    /// Which of several failures the others follow from: what is to be mended, then deaths, then what says itself that
    /// something else was the trouble.
    fn rank(&self) -> u8 {
        match self.code {
            MEND => 0,
            AGAIN => 2,
            _ => 1,
        }
    }
}

/// When and how often a cluster that failed is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarts {
    /// How often in a row; `None` is without end.
    pub limit: Option<u32>,
    /// The first wait, and the longest; each is twice the one before.
    pub backoff: Range<Duration>,
    /// A cluster that has run for so long begins a new row.
    pub healthy: Duration,
}

impl Default for Restarts {
    /// Without end; waits of half a second to half a minute; a minute is a healthy while.
    fn default() -> Self {
        let backoff = Duration::from_millis(500)..Duration::from_secs(30);
        Restarts { limit: None, backoff, healthy: Duration::from_secs(60) }
    }
}

/// Where a row of restarts is.
struct Row<'a> {
    restarts: &'a Restarts,
    attempts: u32,
}

impl Row<'_> {
    /// How long to wait before the next start, after a cluster that ran for so long; `None` if there is to be none.
    fn next(&mut self, ran: Duration) -> Option<Duration> {
        let Restarts { limit, backoff, healthy } = self.restarts;
        if ran >= *healthy {
            self.attempts = 0;
        }
        if limit.is_some_and(|limit| self.attempts >= limit) {
            return None;
        }
        // Beyond 2^16 times the first wait, any longest one is reached.
        let delay = backoff.start.saturating_mul(1 << self.attempts.min(16)).min(backoff.end);
        self.attempts = self.attempts.saturating_add(1);
        Some(delay)
    }
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
        command.env("STOREFLOW_BIND", "stdin").env("STOREFLOW_RUN_ID", &run_id).env(END_WITH_LAUNCHER, "1");
        command.env("STOREFLOW_CLUSTER_SECRET", secret.for_child()).env_remove("STOREFLOW_CLUSTER_SECRET_FILE");
        command.stdin(Stdio::from(OwnedFd::from(listener)));
        command
    });
    Ok(each.collect())
}

/// In a child of a launch: ends this process, without finishing anything, when the launcher is gone. Elsewhere it does nothing.
///
/// The launcher reads its children's standard error and closes it only by ending; however it ends, the system then reports an
/// error on this end of the pipe. A thread waits for that and costs nothing meanwhile.
///
/// # Errors
/// If there is no thread to be had.
pub fn end_with_launcher() -> io::Result<()> {
    if std::env::var_os(END_WITH_LAUNCHER).is_none() {
        return Ok(());
    }
    std::thread::Builder::new().name("launcher".to_owned()).spawn(|| {
        let pipe = io::stderr();
        loop {
            // Errors and hang-ups are told without being asked for.
            let mut polled = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::empty())];
            match poll(&mut polled, None) {
                Ok(_) if polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => std::process::exit(AGAIN.into()),
                Err(rustix::io::Errno::INTR) => {}
                // Not a pipe, or not any more: nothing to wait for.
                Ok(_) | Err(_) => return,
            }
        }
    })?;
    Ok(())
}

/// Runs the commands that `prepare` makes to their ends; if one fails, ends all and runs those of the next call, as `restarts`
/// says. SIGTERM and SIGINT are handed on and end it all; the second one ends everything at once.
///
/// # Errors
/// If one could not be started the first time: the others are ended first. Later that is a failure like others.
pub fn supervise(
    mut prepare: impl FnMut() -> Result<Vec<Command>, LaunchError>,
    restarts: &Restarts,
) -> Result<Result<(), Failed>, LaunchError> {
    let mut asked = Asked { signals: Signals::new([SIGTERM, SIGINT]).map_err(LaunchError::Signals)?, before: false };
    let mut row = Row { restarts, attempts: 0 };
    let mut first = true;
    loop {
        let began = Instant::now();
        let ended = prepare().and_then(|commands| run_together(commands, &mut asked));
        let failed = match ended {
            Ok(Ok(())) => return Ok(Ok(())),
            Ok(Err(failed)) => failed,
            Err(error) if first => return Err(error),
            Err(error) => unstarted(&error),
        };
        first = false;
        if asked.before || failed.code == MEND {
            return Ok(Err(failed));
        }
        let Some(delay) = row.next(began.elapsed()) else { return Ok(Err(failed)) };
        let (process, code, attempt) = (failed.process, failed.code, row.attempts);
        let reason = failed.last_words.last().map_or("", String::as_str);
        tracing::warn!(process, code, reason, attempt, ?delay, "a process failed; starting all again");
        let until = Instant::now() + delay;
        while Instant::now() < until {
            if asked.next().is_some() {
                tracing::info!("stopped while it waited to start again");
                return Ok(Err(failed));
            }
            std::thread::sleep(WATCH_EVERY.min(until.saturating_duration_since(Instant::now())));
        }
    }
}

/// A later start that did not come about.
fn unstarted(error: &LaunchError) -> Failed {
    let process = if let LaunchError::Start { process, .. } = error { *process } else { 0 };
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    Failed { process, code: AGAIN, last_words: vec![format!("{error}{cause}")] }
}

/// Runs commands to their ends; one that fails ends all.
fn run_together(commands: Vec<Command>, asked: &mut Asked) -> Result<Result<(), Failed>, LaunchError> {
    let mut children = Children(Vec::new());
    for (process, command) in commands.into_iter().enumerate() {
        children.0.push(Running::start(process, command).map_err(|source| LaunchError::Start { process, source })?);
    }
    let (mut failures, mut since, mut told) = (Vec::new(), None, false);
    loop {
        while let Some(signal) = asked.next() {
            tracing::info!(?signal, "handed on to all processes");
            children.tell(signal);
        }
        for child in &mut children.0 {
            let Some(status) = child.end() else { continue };
            if !status.success() && !told {
                failures.push(child.failed(status));
                since.get_or_insert_with(Instant::now);
            }
        }
        if children.0.iter().all(|child| child.ended) {
            return Ok(failures.into_iter().min_by_key(Failed::rank).map_or(Ok(()), Err));
        }
        if let Some(since) = since.map(|since| since.elapsed()) {
            if since >= FOLLOWING && !std::mem::replace(&mut told, true) {
                children.tell(Signal::TERM);
            }
            if since >= PATIENCE {
                children.tell(Signal::KILL);
            }
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

/// The signals this process was sent.
struct Asked {
    signals: Signals,
    /// There was one.
    before: bool,
}

impl Asked {
    /// What is to be handed on; all but the first are meant to end everything at once.
    fn next(&mut self) -> Option<Signal> {
        let signal = self.signals.pending().next()?;
        Some(match signal {
            _ if std::mem::replace(&mut self.before, true) => Signal::KILL,
            SIGINT => Signal::INT,
            _ => Signal::TERM,
        })
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
        Ok(Running { process, child, ended: false, readers, last_words })
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

/// What metrics for CloudWatch begin with, which take a line only as it is and name their process themselves.
const EMF: &str = "{\"_aws\":";

/// Writes a child's lines, each whole and with the child's number before it.
fn pass_on(process: usize, from: impl Read, to: &mut impl Write, mut keep: impl FnMut(&str)) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while (&mut from).take(LINE_MAX).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        keep(text);
        // One write per line, so that lines of two children do not mix. Nobody may be listening any more.
        let line_of = if text.starts_with(EMF) { format!("{text}\n") } else { format!("[{process}] {text}\n") };
        let _ = to.write_all(line_of.as_bytes());
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

    /// Runs commands once.
    fn once(commands: Vec<Command>) -> Result<Result<(), Failed>, LaunchError> {
        let mut commands = Some(commands);
        supervise(|| Ok(commands.take().expect("started once")), &Restarts { limit: Some(0), ..Restarts::default() })
    }

    /// Restarts that take no time.
    fn quick(limit: Option<u32>) -> Restarts {
        Restarts { limit, backoff: Duration::from_millis(1)..Duration::from_millis(4), healthy: Duration::from_secs(60) }
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
        assert_eq!(once(vec![patient()]).expect("started"), Ok(()));
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
        assert_eq!(once(vec![deaf]).expect("started").expect_err("killed").code, 137);
        raised.into_iter().for_each(|one| one.join().expect("no panic"));
    }

    #[test]
    fn all_well() {
        let _alone = alone();
        assert_eq!(once(vec![shell("echo one"), shell("echo two >&2")]).expect("started"), Ok(()));
    }

    #[test]
    fn the_first_failure_ends_all_and_is_quoted() {
        let _alone = alone();
        // The other ends when it is told to, with a failure of its own that follows from the first.
        let failing = shell("echo before; echo \"error: no such topic\" >&2; exit 3");
        let waiting = shell("trap 'exit 7' TERM; while :; do sleep 0.01; done");
        let failed = once(vec![waiting, failing]).expect("started").expect_err("one failed");
        assert_eq!(failed, Failed { process: 1, code: 3, last_words: vec!["error: no such topic".to_owned()] });
    }

    #[test]
    fn a_killed_child_has_the_signals_code() {
        let _alone = alone();
        let failed = once(vec![shell("kill -9 $$")]).expect("started").expect_err("killed");
        assert_eq!(failed.code, 137);
    }

    #[test]
    fn who_follows_from_another_is_not_the_cause() {
        let _alone = alone();
        let follows = || shell(&format!("exit {AGAIN}"));
        let later = |end: &str| shell(&format!("sleep 0.1; {end}"));
        assert_eq!(once(vec![follows(), later("kill -9 $$")]).expect("started").expect_err("killed").process, 1);
        assert_eq!(once(vec![follows(), later("exit 7"), later("exit 2")]).expect("started").expect_err("failed").process, 2);
        assert_eq!(once(vec![follows(), shell("sleep 1000")]).expect("started").expect_err("failed").code, AGAIN);
    }

    #[test]
    fn all_are_started_again_until_they_are_well() {
        let _alone = alone();
        let folder = tempfile::tempdir().expect("a folder");
        // The second process dies twice; the first one waits, so that only an end makes room for its next incarnation.
        let script = "echo >> \"$0\"; test $(wc -l < \"$0\") -ge 3 && exit 0; kill -9 $$";
        let file = folder.path().join("starts");
        let mut starts = 0;
        let prepare = || {
            starts += 1;
            let mut dies = shell(script);
            dies.arg(&file);
            let waits = if starts < 3 { shell("sleep 1000") } else { shell("exit 0") };
            Ok(vec![waits, dies])
        };
        assert_eq!(supervise(prepare, &quick(None)).expect("started"), Ok(()));
        assert_eq!(starts, 3);
    }

    #[test]
    fn a_row_of_failures_ends_and_what_is_to_be_mended_is_not_started_again() {
        let _alone = alone();
        let count = |exit: u8, limit: Option<u32>| {
            let mut starts = 0;
            let failed = supervise(
                || {
                    starts += 1;
                    Ok(vec![shell(&format!("exit {exit}"))])
                },
                &quick(limit),
            );
            (starts, failed.expect("started").expect_err("failed").code)
        };
        assert_eq!(count(AGAIN, Some(3)), (4, AGAIN));
        assert_eq!(count(MEND, None), (1, MEND));
        assert_eq!(count(7, Some(0)), (1, 7));
    }

    #[test]
    fn waits_double_up_to_the_longest_and_begin_again_after_a_healthy_while() {
        let (restarts, brief) = (Restarts { limit: Some(40), ..Restarts::default() }, Duration::from_secs(1));
        let mut row = Row { restarts: &restarts, attempts: 0 };
        let waits: Vec<u128> = (0..8).filter_map(|_| row.next(brief)).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(row.next(restarts.healthy), Some(restarts.backoff.start));
        assert!((0..39).all(|_| row.next(brief).is_some()));
        assert_eq!(row.next(brief), None);
    }

    #[test]
    fn a_signal_ends_the_wait_for_the_next_start() {
        let _alone = alone();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("failed");
        let raised = raise_after(file.clone(), SIGTERM);
        // The signal comes while the process ends, or in a wait that no test would see the end of.
        let mut fails = shell("touch \"$0\"; exit 7");
        fails.arg(&file);
        let mut commands = Some(vec![fails]);
        let long = Restarts { backoff: Duration::from_secs(3_600)..Duration::from_secs(3_600), ..Restarts::default() };
        let failed = supervise(|| Ok(commands.take().expect("started once")), &long).expect("started").expect_err("failed");
        assert_eq!(failed.code, 7);
        raised.join().expect("no panic");
    }

    #[test]
    fn what_cannot_start_leaves_nobody_behind() {
        let _alone = alone();
        let error = once(vec![shell("sleep 1000"), Command::new("/no/such/program")]).expect_err("not started");
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
