//! Who may ask the query API, from outside: every error that is documented, keys that are made, limited and revoked, floods, and
//! what logs say of it.
//!
//! What is asked is the real program, with the files of a finished run. One error is of a server in this process, because no way is
//! known to make the program panic: `internal`, of a view that does.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use storeflow::observe::status::ProcessStatus;
use storeflow::serve::admission::{Admission, AdmissionSettings};
use storeflow::serve::api::{Api, ApiSettings};
use storeflow::serve::keys::digest_of;
use storeflow::serve::problem::Code;
use storeflow::serve::server::{Listener, SILENCE_MAX, Server, ServerSettings};
use storeflow::serve::view::{Measure, Shown, StoreCut, StoreIds, TopStores, Totals, View, ViewError};
use storeflow_dataflows::table::Window;

use crate::support::binary::{self, Ended, refuse, run, storeflow, succeed, text};
use crate::support::running::Running;
use crate::support::wire::{Answer, ask, get, stream};

/// Stores of the dataset.
const OWN: &str = "A";
const OTHER: &str = "C";

/// What anything that is waited for gets.
const PATIENCE: Duration = Duration::from_secs(60);

/// A finished run, and a file of keys.
struct Finished {
    folder: tempfile::TempDir,
}

impl Finished {
    fn run() -> Finished {
        let folder = tempfile::tempdir().expect("a folder");
        let dataset = binary::dataset("edge-cases");
        let (job, replay, out) = (text(&dataset.join("edge-cases.toml")), text(&dataset), text(&folder.path().join("out")));
        succeed(&["run", "--job", &job, "--replay", &replay, "--data-dir", &out]);
        Finished { folder }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn keys(&self) -> PathBuf {
        self.folder.path().join("keys.toml")
    }

    /// Makes a key.
    fn key(&self, id: &str, flags: &[&str]) -> String {
        let printed = succeed(&[&["api-keys", "new", "--file", &text(&self.keys()), "--id", id], flags].concat());
        let key = printed.strip_suffix('\n').expect("a line").to_owned();
        assert!(key.starts_with("sfk_") && !key.contains(['\n', ' ']), "a key and nothing else: {printed:?}");
        key
    }

    fn revoke(&self, id: &str) {
        succeed(&["api-keys", "revoke", "--file", &text(&self.keys()), "--id", id]);
    }

    /// Serves it to whoever has a key.
    fn serve(&self, flags: &[&str]) -> Served {
        Served::start(&self.out(), &[&["--api-keys", &text(&self.keys())], flags].concat())
    }
}

/// The program, serving.
struct Served {
    running: Running,
    address: String,
}

impl Served {
    fn start(data_dir: &Path, flags: &[&str]) -> Served {
        let usual = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &text(data_dir)];
        let mut command = storeflow(&[&usual[..], flags].concat());
        let mut running = Running::start(command.env("STOREFLOW_LOG", "debug"));
        let address = running.wait("an address", |log| {
            let line = log.lines().find(|line| line.contains("serving the query API"))?;
            Some(line.split_once("address=")?.1.split_whitespace().next()?.to_owned())
        });
        Served { running, address }
    }

    fn get(&self, path: &str, key: &str) -> Answer {
        get(&self.address, path, &[("X-Api-Key", key)])
    }

    /// Asks until the answer is as wanted.
    fn wait(&self, path: &str, key: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path, key);
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "it never came: {path}: {answer:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The codes that were seen, each in a problem document as it should be.
#[derive(Default)]
struct Produced(BTreeSet<&'static str>);

impl Produced {
    fn by(&mut self, code: Code, answer: &Answer) {
        assert_eq!(answer.code(), code.text(), "{answer:?}");
        assert_eq!(answer.status, code.status().as_u16(), "{answer:?}");
        let (document, id) = (answer.json(), answer.header("x-request-id"));
        assert_eq!(document["status"], answer.status, "{answer:?}");
        assert_eq!((&document["type"], &document["title"]), (&"about:blank".into(), &code.title().into()), "{answer:?}");
        assert!(id.is_some() && document["request_id"].as_str() == id, "{answer:?}");
        assert!(!document["detail"].as_str().expect("a text").is_empty(), "{answer:?}");
        // These are worth asking again, and no others.
        assert_eq!(answer.header("retry-after").is_some(), matches!(answer.status, 429 | 503), "{answer:?}");
        assert_eq!(answer.header("www-authenticate").is_some(), answer.status == 401, "{answer:?}");
        assert_eq!(answer.header("allow").is_some(), answer.status == 405, "{answer:?}");
        self.0.insert(code.text());
    }
}

#[test]
fn every_documented_error_is_produced() {
    let finished = Finished::run();
    let (all, owner, slow) =
        (finished.key("all", &[]), finished.key("owner", &["--store", OWN]), finished.key("slow", &["--rate", "1"]));
    let served = finished.serve(&["--streams-max", "1"]);
    let mut produced = Produced::default();
    let long = "x".repeat(9 << 10);
    let address = &served.address;
    produced.by(Code::BadParameter, &served.get("/v1/stores?limit=0", &all));
    produced.by(Code::NoKey, &get(address, "/v1/stores", &[]));
    produced.by(Code::UnknownKey, &served.get("/v1/stores", "sfk_guess"));
    produced.by(Code::StoreNotAllowed, &served.get(&format!("/v1/stores/{OTHER}"), &owner));
    produced.by(Code::AllStoresNotAllowed, &served.get("/v1/status", &owner));
    let page = [("X-Api-Key", all.as_str()), ("Origin", "https://evil.example")];
    produced.by(Code::OriginNotAllowed, &get(address, "/v1/stores", &page));
    produced.by(Code::UnknownStore, &served.get("/v1/stores/none", &all));
    produced.by(Code::NotFound, &served.get("/v1/none", &all));
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        produced.by(Code::MethodNotAllowed, &ask(address, method, "/v1/stores", &[("X-Api-Key", &all)], ""));
    }
    let with_body = |length: (&str, &str), body: &str| ask(address, "GET", "/v1/stores", &[("X-Api-Key", &all), length], body);
    produced.by(Code::BodyTooLarge, &with_body(("Content-Length", "16385"), ""));
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    produced.by(Code::BodyTooLarge, &with_body(("Transfer-Encoding", "chunked"), &format!("{chunk}1\r\nx\r\n")));
    assert_eq!(with_body(("Transfer-Encoding", "chunked"), &format!("{chunk}0\r\n\r\n")).status, 200);
    assert_eq!(with_body(("Content-Length", "2"), "{}").status, 200);
    produced.by(Code::UriTooLong, &served.get(&format!("/v1/stores?prefix={long}"), &all));
    produced.by(Code::HeadersTooLarge, &get(address, "/v1/stores", &[("X-Api-Key", &all), ("A", &long), ("B", &long)]));
    produced.by(Code::RateLimited, &served.wait("/v1/stores", &slow, |answer| answer.status == 429));
    let mut first = stream(address, "/v1/stream", &[("X-Api-Key", &all)]);
    first.until("event: status");
    produced.by(Code::TooManyStreams, &served.get("/v1/stream", &all));
    drop(served);

    let (empty, broken, stuck) = (tempfile::tempdir(), tempfile::tempdir(), tempfile::tempdir());
    let (empty, broken, stuck) = (empty.expect("a folder"), broken.expect("a folder"), stuck.expect("a folder"));
    produced.by(Code::NoView, &Served::start(empty.path(), &[]).get("/v1/stores", ""));
    fs::write(broken.path().join("current.json"), "{").expect("written");
    produced.by(Code::ViewUnavailable, &Served::start(broken.path(), &[]).get("/v1/stores", ""));
    // A file system that does not answer: nobody ever writes into the pipe.
    let made = Command::new("mkfifo").arg(stuck.path().join("current.json")).status().expect("mkfifo");
    assert!(made.success());
    produced.by(Code::Timeout, &Served::start(stuck.path(), &["--request-timeout", "1s"]).get("/v1/stores", ""));

    let admission = Admission::open(AdmissionSettings::default()).expect("no file to read");
    let listener = Listener::bind("127.0.0.1:0").expect("a port");
    let settings = ServerSettings { threads: 1, connections_max: 10, drain: Duration::from_secs(1), silence_max: SILENCE_MAX };
    let server =
        Server::start(listener, Api::new(Arc::new(Mistaken), admission, ApiSettings::default()), settings).expect("started");
    produced
        .by(Code::Internal, &get(&server.address().to_string(), "/v1/top?measure=items_sold&window=2026-11-20T00:00:00Z", &[]));

    let documented: BTreeSet<&str> = Code::ALL.iter().map(|code| code.text()).collect();
    assert_eq!(produced.0, documented);
}

/// A view with a mistake.
struct Mistaken;

impl View for Mistaken {
    fn place(&self) -> &'static str {
        "memory"
    }

    fn shown(&self) -> BoxFuture<'_, Result<Shown, ViewError>> {
        panic!("a mistake, as a test wants it")
    }

    fn store<'v>(&'v self, _: &'v str, _: Range<Window>, _: usize) -> BoxFuture<'v, Result<StoreCut, ViewError>> {
        unreachable!("nothing is shown")
    }

    fn stores<'v>(&'v self, _: &'v str, _: Option<&'v str>, _: usize) -> BoxFuture<'v, Result<StoreIds, ViewError>> {
        unreachable!("nothing is shown")
    }

    fn top<'v>(&'v self, _: &'v Measure, _: Window, _: usize) -> BoxFuture<'v, Result<TopStores, ViewError>> {
        unreachable!("nothing is shown")
    }

    fn totals(&self, _: Range<Window>, _: usize) -> BoxFuture<'_, Result<Totals, ViewError>> {
        unreachable!("nothing is shown")
    }

    fn status(&self) -> BoxFuture<'_, Result<Vec<ProcessStatus>, ViewError>> {
        unreachable!("nothing is shown")
    }
}

#[test]
fn an_owner_sees_his_own_store_and_nothing_of_others() {
    let finished = Finished::run();
    let (all, owner) = (finished.key("all", &[]), finished.key("owner", &["--store", OWN, "--store", "not there yet"]));
    let served = finished.serve(&[]);
    let stores = |key: &str| served.get("/v1/stores", key).json()["stores"].clone();
    let (listed, others) = (stores(&all), [OWN, OTHER].map(serde_json::Value::from));
    assert!(others.iter().all(|store| listed.as_array().is_some_and(|listed| listed.contains(store))), "{listed}");
    assert_eq!(stores(&owner), serde_json::json!([OWN]));
    for path in [format!("/v1/stores/{OWN}"), format!("/v1/stores/{OWN}/windows")] {
        let (of_all, of_owner) = (served.get(&path, &all), served.get(&path, &owner));
        assert_eq!((of_owner.status, of_owner.header("cache-control")), (200, Some("private, no-cache")));
        let numbers = |answer: &Answer| {
            let mut json = answer.json();
            // Ages go on from one answer to the next.
            json.as_object_mut().expect("an object").remove("fresh");
            json
        };
        assert_eq!(numbers(&of_owner), numbers(&of_all));
    }
    assert!(
        stream(&served.address, &format!("/v1/stream?store={OWN}"), &[("X-Api-Key", &owner)])
            .until("data: ")
            .contains("event: store")
    );
    // What is refused tells nothing of whether a store exists.
    let refused = |path: &str, code: Code| {
        let answer = served.get(path, &owner);
        assert_eq!(answer.code(), code.text(), "{path}: {answer:?}");
        let mut document = answer.json();
        document.as_object_mut().expect("an object").remove("request_id");
        document
    };
    for path in ["/v1/stores/STORE", "/v1/stores/STORE/windows", "/v1/stream?store=STORE"] {
        let of = |store: &str| refused(&path.replace("STORE", store), Code::StoreNotAllowed);
        assert_eq!(of(OTHER), of("none"));
        // Neither another spelling of it nor one that begins alike.
        of("a");
        of(&format!("{OWN}{OWN}"));
        of(&format!("{OWN}%2F..%2F{OTHER}"));
        of(&format!("{OWN}%00"));
    }
    for path in ["/v1/top?measure=items_sold", "/v1/totals", "/v1/status", "/v1/stream"] {
        refused(path, Code::AllStoresNotAllowed);
    }
    // One of its own that does not exist.
    assert_eq!(served.get("/v1/stores/not%20there%20yet", &owner).code(), Code::UnknownStore.text());
}

#[test]
fn a_revoked_key_stops_while_the_server_runs() {
    let finished = Finished::run();
    let (all, owner) = (finished.key("all", &[]), finished.key("owner", &["--store", OWN]));
    let mut served = finished.serve(&[]);
    let own = format!("/v1/stores/{OWN}");
    assert_eq!(served.get(&own, &owner).status, 200);
    let mut events = stream(&served.address, &format!("/v1/stream?store={OWN}"), &[("X-Api-Key", &owner)]);
    events.until("event: store");
    finished.revoke("owner");
    events.read_to_end();
    let refused = served.wait(&own, &owner, |answer| answer.status != 200);
    assert_eq!(refused.code(), Code::UnknownKey.text());
    assert_eq!(served.get(&own, &all).status, 200);
    // A new one of the same name counts without a restart, too.
    let again = finished.key("owner", &["--store", OTHER]);
    let other = format!("/v1/stores/{OTHER}");
    served.wait(&other, &again, |answer| answer.status == 200);
    assert_eq!(served.get(&own, &again).code(), Code::StoreNotAllowed.text());
    assert_eq!(served.get(&own, &owner).code(), Code::UnknownKey.text());
    // A file that became wrong takes no key away, and says where it is wrong.
    let right = fs::read_to_string(finished.keys()).expect("a file");
    fs::write(finished.keys(), right.clone() + "[[key]]\nid = 7\n").expect("written");
    let address = served.address.clone();
    let complaint = served.running.wait("a complaint", |log| {
        assert_eq!(get(&address, &other, &[("X-Api-Key", &again)]).status, 200);
        log.lines().find(|line| line.contains("API keys could not be read again")).map(str::to_owned)
    });
    let line = right.lines().count() + 2;
    assert!(
        complaint.contains("ERROR") && complaint.contains(&format!("keys.toml:{line}:6: key 3: id must be text")),
        "{complaint}"
    );
    fs::write(finished.keys(), "").expect("written");
    served.wait(&other, &again, |answer| answer.code() == Code::UnknownKey.text());
}

#[test]
fn a_flood_is_told_when_to_come_back_and_is_served_then() {
    let finished = Finished::run();
    let (slow, other) = (finished.key("slow", &["--rate", "1"]), finished.key("other", &[]));
    let served = finished.serve(&[]);
    let refused = served.wait("/v1/stores", &slow, |answer| answer.status == 429);
    let seconds: u64 = refused.header("retry-after").expect("when").parse().expect("seconds");
    assert!((1..=10).contains(&seconds), "{refused:?}");
    assert_eq!(served.get("/v1/stores", &other).status, 200);
    assert_eq!(get(&served.address, "/healthz", &[]).status, 200);
    std::thread::sleep(Duration::from_secs(seconds));
    assert_eq!(served.get("/v1/stores", &slow).status, 200);
    // So are wrong keys, which keep nobody out who has a right one.
    served.wait("/v1/stores", "sfk_wrong", |answer| answer.status == 429);
    assert_eq!(served.get("/v1/stores", &other).status, 200);
}

#[test]
fn no_log_has_a_key_or_its_hash() {
    let finished = Finished::run();
    let (all, owner) = (finished.key("all", &[]), finished.key("owner", &["--store", OWN]));
    let wrong = "sfk_d3Jvbmd3cm9uZ3dyb25nd3Jvbmd3cm9uZ3dyb25nd3I";
    let mut served = finished.serve(&[]);
    for key in [&all, &owner, wrong] {
        for path in ["/v1/stores", "/v1/status", "/v1/stores/none", "/v1/none", "/"] {
            get(&served.address, path, &[("X-Api-Key", key)]);
            get(&served.address, path, &[("Authorization", &format!("Bearer {key}"))]);
        }
        get(&served.address, "/v1/stores", &[("X-Api-Key", key), ("Authorization", "Bearer sfk_other")]);
        ask(&served.address, "POST", "/v1/stores", &[("X-Api-Key", key), ("Content-Length", "99999")], key);
    }
    // Somebody pastes a key where its hash belongs.
    let right = fs::read_to_string(finished.keys()).expect("a file");
    fs::write(finished.keys(), format!("{right}[[key]]\nid = \"{wrong}\"\nsha256 = {wrong}\n")).expect("written");
    let address = served.address.clone();
    served.running.wait("a complaint", |log| {
        get(&address, "/v1/stores", &[("X-Api-Key", &all)]);
        log.contains("API keys could not be read again").then_some(())
    });
    served.running.stop();
    let log = served.running.log();
    // The log is of what was asked, and names who did.
    assert!(log.contains("key=\"owner\"") && log.contains("/v1/stores/none"), "{log}");
    for key in [&all, &owner, wrong] {
        for secret in [&key[4..], &digest_of(key).hex()] {
            assert!(!log.contains(secret), "{log}");
        }
    }
}

#[test]
fn other_machines_are_not_served_without_keys() {
    let finished = Finished::run();
    let out = text(&finished.out());
    for address in ["0.0.0.0:0", "[::]:0"] {
        refuse(&["serve", "--data-dir", &out, "--listen", address], &["there are no API keys", "--api-keys", "127.0.0.1"]);
    }
    let dataset = binary::dataset("edge-cases");
    let (job, replay) = (text(&dataset.join("edge-cases.toml")), text(&dataset));
    let (again, keys) = (text(&finished.folder.path().join("again")), text(&finished.keys()));
    let run = ["run", "--job", &job, "--replay", &replay, "--data-dir", &again, "--serve", "0.0.0.0:0"];
    refuse(&run, &["there are no API keys", "--api-keys"]);
    // Nor with a file that is not there, or wrong.
    let serve = ["serve", "--data-dir", &out, "--listen", "127.0.0.1:0", "--api-keys", &keys];
    refuse(&serve, &["could not read API key file", "keys.toml"]);
    fs::write(finished.keys(), "[[key]]\nid = \"a\"\n").expect("written");
    refuse(&serve, &["keys.toml:1:1: key 1 (id \"a\"): missing field \"sha256\""]);
    refuse(&[&serve[..], &["--cors-origin", "a.example"]].concat(), &["is no origin"]);
}

#[test]
fn pages_of_listed_origins_can_read_numbers_and_problems() {
    let finished = Finished::run();
    let all = finished.key("all", &[]);
    let served = finished.serve(&["--cors-origin", "https://a.example"]);
    let page = |origin: &str, key: &str| {
        get(&served.address, "/v1/stores", &[("Origin", origin), ("Authorization", &format!("Bearer {key}"))])
    };
    for (key, status) in [(all.as_str(), 200), ("sfk_wrong", 401)] {
        let answer = page("https://a.example", key);
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (status, Some("https://a.example")),
            "{answer:?}"
        );
        assert_eq!(answer.header("access-control-expose-headers"), Some("etag, retry-after, x-request-id"), "{answer:?}");
        assert!(answer.header("x-request-id").is_some());
    }
    assert_eq!(page(&format!("http://{}", served.address), &all).status, 200);
    assert_eq!(page("https://b.example", &all).code(), Code::OriginNotAllowed.text());
    let first = [
        ("Origin", "https://a.example"),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "authorization"),
    ];
    let preflight = ask(&served.address, "OPTIONS", "/v1/stores", &first, "");
    assert_eq!(
        (preflight.status, preflight.header("access-control-allow-origin")),
        (204, Some("https://a.example")),
        "{preflight:?}"
    );
}

#[test]
fn keys_are_made_listed_checked_and_revoked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys.toml");
    let file = text(&path);
    let keys = |flags: &[&str]| succeed(&[&["api-keys"], flags].concat());
    let all = keys(&["new", "--file", &file, "--id", "all"]);
    let owner = keys(&[
        "new",
        "--file",
        &file,
        "--id",
        "owner-7",
        "--store",
        "7",
        "--store",
        "a \u{1b}",
        "--rate",
        "50",
        "--expires",
        "2199-01-01",
    ]);
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let written = fs::read_to_string(&path).expect("a file");
    for key in [&all, &owner] {
        assert!(!written.contains(&key[4..40]) && written.contains(&digest_of(key.trim()).hex()), "{written}");
    }
    let listed = keys(&["list", "--file", &file]);
    for word in ["all", "server's", "never", "owner-7", "50", "2199-01-01T00:00:00Z", "\"7\", \"a \\u001B\""] {
        assert!(listed.contains(word), "{word}: {listed}");
    }
    assert!(!listed.contains("sfk_") && !listed.contains(&digest_of(all.trim()).hex()), "{listed}");
    let check = |key: &str| {
        let input = folder.path().join("input");
        fs::write(&input, key).expect("written");
        let input = fs::File::open(&input).expect("readable");
        let Ended { code, out, err } = run(storeflow(&["api-keys", "check", "--file", &file]).stdin(Stdio::from(input)));
        assert!(!(out.clone() + &err).contains("sfk_"), "{out}{err}");
        (code, out)
    };
    let (code, said) = check(&owner);
    assert!(code == Some(0) && said.contains("owner-7") && said.contains("\"7\""), "{said}");
    assert_eq!(check("sfk_wrong").0, Some(1));
    assert_eq!(check("").0, Some(1));
    refuse(&["api-keys", "new", "--file", &file, "--id", "all"], &["key \"all\" is in", "revoke it first"]);
    refuse(&["api-keys", "new", "--file", &file, "--id", "a b"], &["must be 1 to 64 letters"]);
    refuse(&["api-keys", "revoke", "--file", &file, "--id", "none"], &["there is no key \"none\""]);
    assert_eq!(fs::read_to_string(&path).expect("a file"), written);
    keys(&["revoke", "--file", &file, "--id", "owner-7"]);
    assert_eq!(check(&owner).0, Some(1));
    assert_eq!(check(&all).0, Some(0));
    // One that is over is known, and refused.
    let hash = digest_of("sfk_old").hex();
    fs::write(&path, format!("[[key]]\nid = \"old\"\nsha256 = \"{hash}\"\nexpires = 2020-01-01T00:00:00Z\n")).expect("written");
    let (code, said) = check("sfk_old\n");
    assert!(code == Some(1) && said.contains("2020-01-01T00:00:00Z (expired)"), "{said}");
}
