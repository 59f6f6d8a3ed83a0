//! Kafka, Redis, S3, databases with Kafka Connect, a Python with DuckDB and a Chromium for tests, through `scripts/services`.
//!
//! ```text
//! shared()   STOREFLOW_TEST_… says where ──► that one
//!            else ──► one of this test process's own, started by whoever asks first, ended with the process
//! own()      one of this test alone, in a folder of its own: to be stopped, killed, emptied; ended at drop
//! ```
//!
//! What a machine does not have makes no test fail: it says `skipped: <test>: <why>` past the test harness's capture and
//! returns. In CI (`CI=true`) it fails. Every service is watched by a keeper that ends it when this process is gone, so a
//! test that panics or is killed leaves nothing behind.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What can be had of `scripts/services`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `STOREFLOW_TEST_KAFKA` (plain), `…_KAFKA_SASL_SSL`, `…_KAFKA_USER`, `…_KAFKA_PASSWORD`, `…_KAFKA_CA`.
    Kafka,
    /// `STOREFLOW_TEST_REDIS`, a URL.
    Redis,
    /// `STOREFLOW_TEST_S3`, a URL, and `…_S3_BUCKET`; any credentials do.
    S3,
    /// `STOREFLOW_TEST_PYTHON`, an interpreter with DuckDB.
    Python,
    /// `STOREFLOW_TEST_SCHEMATHESIS`, the program.
    Schemathesis,
    /// `STOREFLOW_TEST_PROMTOOL`, Prometheus' checker of rules.
    Promtool,
    /// `STOREFLOW_TEST_BROWSER`, the path of Chromium, `…_BROWSER_NODE`, that of Node.js, and `…_BROWSER_MODULES`, what it drives it with.
    Browser,
    /// `STOREFLOW_TEST_POSTGRES`, a URL, and `…_POSTGRES_CLIENT`, the path of psql.
    Postgres,
    /// `STOREFLOW_TEST_MARIADB`, a URL, and `…_MARIADB_CLIENT`, the path of mariadb.
    MariaDb,
    /// `STOREFLOW_TEST_CONNECT`, the URL of a worker's REST interface.
    Connect,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Kafka => "kafka",
            Kind::Redis => "redis",
            Kind::S3 => "s3",
            Kind::Python => "venv",
            Kind::Schemathesis => "schemathesis",
            Kind::Promtool => "promtool",
            Kind::Browser => "browser",
            Kind::Postgres => "postgres",
            Kind::MariaDb => "mariadb",
            Kind::Connect => "connect",
        }
    }
    /// The variable that says where it is.
    fn variable(self) -> &'static str {
        match self {
            Kind::Kafka => "STOREFLOW_TEST_KAFKA",
            Kind::Redis => "STOREFLOW_TEST_REDIS",
            Kind::S3 => "STOREFLOW_TEST_S3",
            Kind::Python => "STOREFLOW_TEST_PYTHON",
            Kind::Schemathesis => "STOREFLOW_TEST_SCHEMATHESIS",
            Kind::Promtool => "STOREFLOW_TEST_PROMTOOL",
            Kind::Browser => "STOREFLOW_TEST_BROWSER",
            Kind::Postgres => "STOREFLOW_TEST_POSTGRES",
            Kind::MariaDb => "STOREFLOW_TEST_MARIADB",
            Kind::Connect => "STOREFLOW_TEST_CONNECT",
        }
    }
}

/// What `scripts/services` prints, less `export`.
type Variables = BTreeMap<String, String>;

/// A service that runs, and the variables that describe it.
#[derive(Debug)]
pub(crate) struct Service {
    kind: Kind,
    variables: Variables,
    /// Of a service of one test's own.
    folder: Option<tempfile::TempDir>,
    /// The Kafka that it uses.
    kafka: Option<String>,
}

/// One that all tests of this process share; `None`, said aloud, where it cannot be had.
#[track_caller]
pub(crate) fn shared(kind: Kind) -> Option<Service> {
    static FOUND: Mutex<BTreeMap<Kind, Result<Variables, String>>> = Mutex::new(BTreeMap::new());
    let found = FOUND
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(kind)
        .or_insert_with(|| {
            if std::env::var_os(kind.variable()).is_some() {
                return Ok(std::env::vars().filter(|(name, _)| name.starts_with(kind.variable())).collect());
            }
            let folder = std::env::temp_dir().join(format!("storeflow-services-test-{}", std::process::id()));
            up(&folder, kind, &[], None)
        })
        .clone();
    given(found.map(|variables| Service { kind, variables, folder: None, kafka: None }))
}

/// One for this test alone; `None`, said aloud, where it cannot be had.
#[track_caller]
pub(crate) fn own(kind: Kind) -> Option<Service> {
    own_beside(kind, None)
}

/// The same of one that uses a Kafka: this one, where it is named.
#[track_caller]
pub(crate) fn own_beside(kind: Kind, kafka: Option<&Service>) -> Option<Service> {
    let (folder, kafka) = (tempfile::tempdir().expect("a folder"), kafka.map(|kafka| kafka.address().to_owned()));
    let found = up(folder.path(), kind, &[], kafka.as_deref());
    given(found.map(|variables| Service { kind, variables, folder: Some(folder), kafka }))
}

impl Service {
    /// Where it is: `HOST:PORT` of Kafka, the path of a tool, the URL of the others. The same after a restart.
    pub(crate) fn address(&self) -> &str {
        self.variable(self.kind.variable())
    }

    /// One of the variables that `scripts/services` prints for it.
    pub(crate) fn variable(&self, name: &str) -> &str {
        self.variables.get(name).unwrap_or_else(|| panic!("{name} is not set beside {}", self.kind.variable()))
    }

    /// Ends it in order; its data stays.
    pub(crate) fn stop(&self) {
        self.call("stop");
    }

    /// Ends it at once (SIGKILL); its data stays.
    pub(crate) fn kill(&self) {
        self.call("kill");
    }

    /// Starts it again where it was, with its data.
    pub(crate) fn start(&self) {
        self.up_again(&[]);
    }

    /// Starts it again where it was, as if it had never held anything.
    pub(crate) fn start_empty(&self) {
        self.up_again(&["--empty"]);
    }

    fn up_again(&self, more: &[&str]) {
        let variables = up(self.own_folder(), self.kind, more, self.kafka.as_deref()).expect("it ran before");
        assert_eq!(variables, self.variables, "it is where it was");
    }

    fn call(&self, command: &str) {
        run(services(self.own_folder()).args([command, self.kind.name()])).expect("it is ours");
    }

    fn own_folder(&self) -> &Path {
        self.folder.as_ref().expect("a shared service is left alone: take one by own()").path()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // Failing here would hide why the test fails; the keeper ends it in any case.
            let _ = run(services(folder.path()).arg("down"));
        }
    }
}

/// Starts one and reads the `export NAME=value` lines.
fn up(folder: &Path, kind: Kind, more: &[&str], kafka: Option<&str>) -> Result<Variables, String> {
    let mut command = services(folder);
    command.envs(kafka.map(|kafka| ("STOREFLOW_SERVICES_KAFKA", kafka)));
    match kind {
        Kind::Python | Kind::Schemathesis | Kind::Promtool | Kind::Browser => command.arg(kind.name()),
        _ => command.args(["up", kind.name(), "--while", &std::process::id().to_string()]).args(more),
    };
    let out = run(&mut command)?;
    // None of the values needs quoting.
    let pairs = out.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn services(folder: &Path) -> Command {
    let mut command = Command::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts/services"));
    command.env("STOREFLOW_SERVICES_DIR", folder).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("could not start scripts/services: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// The service, or this test is skipped: said so by name.
#[track_caller]
fn given(found: Result<Service, String>) -> Option<Service> {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let why = match found {
        Ok(service) => return Some(service),
        Err(why) => why,
    };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must have every service; {why}");
    let (thread, place) = (std::thread::current(), Location::caller());
    // With one test at a time they run on the main thread, which has no test's name.
    let test = thread.name().filter(|name| *name != "main").map_or_else(|| place.to_string(), str::to_owned);
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    // Straight to the descriptor: the harness captures what passing tests print by macros.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why} ({count} skipped so far)");
    None
}
