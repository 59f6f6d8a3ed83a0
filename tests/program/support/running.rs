//! Programs that go on while a test does something to what they stand on, and what they show meanwhile.
//!
//! Upholds: what is started is ended with its value; nothing is waited for without an end, and a wait that fails says what
//! the program wrote.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use storeflow::publish::redis::{RedisSettings, RedisView};

/// What anything that is waited for gets: much more than it needs on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program that goes on.
pub(crate) struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

impl Running {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Running {
        let folder = tempfile::tempdir().expect("a folder");
        let log = File::create(folder.path().join("log")).expect("a file");
        let both = log.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(both).spawn().expect("the program starts");
        Running { child, folder }
    }

    /// All that it wrote so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).expect("a log")).into_owned()
    }

    /// Waits until there is something to see while it goes on.
    pub(crate) fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&str) -> Option<T>) -> T {
        self.wait_with(what, |running| look(&running.log()))
    }

    /// The same of what can be seen of it otherwise.
    pub(crate) fn wait_with<T>(&mut self, what: &str, mut look: impl FnMut(&Running) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look(self) {
                return seen;
            }
            let ended = self.child.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "{what} never came: it ended with {ended:?}\n{}", self.log());
            assert!(Instant::now() < deadline, "{what} never came\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it goes on.
    pub(crate) fn goes_on(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// Waits for its end; the exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                break status;
            }
            assert!(Instant::now() < deadline, "it never ended\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        };
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        status.code()
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn succeed(&mut self) {
        let code = self.end();
        assert_eq!(code, Some(0), "{}", self.log());
    }

    /// Asks it to stop as an operator does; it must finish what it read.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.succeed();
    }

    /// Ends it as a power failure would, unless it has ended by itself: the exit code then.
    pub(crate) fn crash(&mut self) -> Option<i32> {
        self.child.kill().expect("a child of ours");
        let code = self.child.wait().expect("a child of ours").code();
        assert!(code.is_none_or(|code| code == 0), "it ended with {code:?}\n{}", self.log());
        code
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it goes on");
    }

    /// The processes that it started and that go on: number and arguments.
    pub(crate) fn children(&self) -> Vec<(u32, String)> {
        let of = |pid: u32| {
            let ours = parent_of(pid)? == self.child.id();
            let arguments = ours.then(|| fs::read(format!("/proc/{pid}/cmdline")).ok())??;
            Some((pid, String::from_utf8_lossy(&arguments).replace('\0', " ")))
        };
        let all = fs::read_dir("/proc").expect("a list of processes");
        all.filter_map(|entry| of(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A launcher ends its processes when it is asked to stop, and cannot when it is killed.
        if self.goes_on() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(15);
            while self.goes_on() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Who started a process that goes on; `None` if it has ended, whether or not anybody has looked at how.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let (state, parent) = (fields.next()?, fields.next()?);
    if state == "Z" { None } else { parent.parse().ok() }
}

/// Whether a process goes on.
pub(crate) fn is_there(pid: u32) -> bool {
    parent_of(pid).is_some()
}

/// Ends a process as a power failure would.
pub(crate) fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a number of a process")).expect("not 0");
    kill_process(pid, Signal::KILL).expect("it goes on");
}

/// Ends a process as a power failure would, unless it has ended.
pub(crate) fn kill_if_there(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a number of a process")).expect("not 0");
    let _ = kill_process(pid, Signal::KILL);
}

/// The addresses at which processes serve their metrics, by what they logged.
pub(crate) fn metrics_at(log: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| line.contains("serving metrics"));
    lines.filter_map(|line| Some(line.split_once("address=")?.1.split_whitespace().next()?.to_owned())).collect()
}

/// What a process says of itself; `None` if it does not answer.
pub(crate) fn metrics(address: &str) -> Option<String> {
    get(address, "/metrics")
}

/// The whole answer, head and all, to a request for a path; `None` if there is none, or it says other than that all is well.
pub(crate) fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.contains(" 200 OK").then_some(answer)
}

/// The sum over all labels of a metric.
pub(crate) fn sum_of(metrics: &str, name: &str) -> f64 {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(['{', ' ']).map(|_| line));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// The as-of that Redis shows of a job, milliseconds; 0 while there is none, or no Redis.
pub(crate) fn as_of(settings: &RedisSettings, job: &str) -> u64 {
    let current = RedisView::connect(settings, job).and_then(|mut view| view.current());
    current.ok().flatten().map_or(0, |current| current.as_of)
}
