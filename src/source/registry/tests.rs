//! Against a registry in this process that answers as a test says: not at all, late, wrong, or as it should.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::*;
use crate::config::{RegistrySpec, Role, SourceSpec};
use crate::observe::locked;
use crate::publish::testing;

/// Longer than anything here takes; only so that a fault is a message and not a hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the registry answers.
#[derive(Default)]
struct Script {
    /// By path.
    answers: BTreeMap<String, Value>,
    /// Before that, to whatever is asked, one after the other; `None`: nothing, for ever.
    first: Vec<Option<(u16, String)>>,
    /// Who may ask.
    authorization: Option<String>,
    asked: Vec<String>,
}

/// A registry; it ends when this is dropped.
struct Stub {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Stub {
    fn start(at: &str, script: Script) -> Stub {
        let listener = TcpListener::bind(at).expect("an address");
        listener.set_nonblocking(true).expect("a listener");
        let (address, script) = (listener.local_addr().expect("bound"), Arc::new(Mutex::new(script)));
        let (stop, stopped) = oneshot::channel();
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&script));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                tokio::spawn(axum::serve(listener, routes).into_future());
                let _ = stopped.await;
            });
        });
        Stub { address, script, stop: Some(stop), thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://{}/ccompat", self.address)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join).transpose().expect("the stub did not panic");
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, headers: HeaderMap, uri: Uri) -> (StatusCode, String) {
    let path = uri.path().strip_prefix("/ccompat").unwrap_or("outside").to_owned();
    let first = {
        let mut script = locked(&script);
        script.asked.push(path.clone());
        if script.first.is_empty() { None } else { Some(script.first.remove(0)) }
    };
    match first {
        Some(None) => std::future::pending().await,
        Some(Some((status, body))) => return (StatusCode::from_u16(status).expect("a status"), body),
        None => {}
    }
    let script = locked(&script);
    let authorization = headers.get("authorization").map(|value| value.to_str().expect("text").to_owned());
    if authorization != script.authorization {
        return (StatusCode::UNAUTHORIZED, json!({"error_code": 401, "message": "Unauthorized"}).to_string());
    }
    match script.answers.get(&path) {
        Some(answer) => (StatusCode::OK, answer.to_string()),
        None => (StatusCode::NOT_FOUND, json!({"error_code": 40403, "message": "Schema not found"}).to_string()),
    }
}

fn job(url: String) -> Job {
    let mut job = testing::job("mall");
    job.sources = vec![SourceSpec::plain("t", Role::Products, Format::Avro, "store")];
    job.schema_registry = Some(RegistrySpec { url, username: None, password: None });
    job
}

fn long() -> BTreeMap<String, Value> {
    [("/schemas/ids/7".to_owned(), json!({"schema": "\"long\""}))].into()
}

fn start(job: &Job, store: Option<&Store>) -> SchemaRegistry {
    SchemaRegistry::start_within(job, None, store, Duration::from_millis(300)).expect("a registry")
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited too long: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn fetched(registry: &SchemaRegistry, id: u32) -> Known {
    registry.schemas().want(id, "t", 3);
    let mut known = None;
    wait_until("a schema", || {
        known = registry.schemas().get(id);
        known.is_some()
    });
    known.expect("waited for")
}

fn refused(known: &Known) -> &str {
    match known {
        Known::Refused(why) => why,
        Known::Schema(_) => panic!("there is a schema"),
    }
}

#[test]
fn what_was_fetched_once_needs_no_registry() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = Store::folder(folder.path()).expect("a folder");
    let stub = Stub::start("127.0.0.1:0", Script { answers: long(), ..Script::default() });
    let job = job(stub.url());
    let registry = start(&job, Some(&store));
    assert!(matches!(fetched(&registry, 7), Known::Schema(_)));
    wait_until("the schema is kept", || folder.path().join("mall/schemas/7.json").is_file());
    assert_eq!(locked(&stub.script).asked, ["/schemas/ids/7"]);
    drop((registry, stub));
    let again = start(&job, Some(&store));
    assert!(matches!(again.schemas().get(7), Some(Known::Schema(_))));
    assert!(again.schemas().get(8).is_none(), "this one waits");
}

#[test]
fn a_registry_that_is_down_is_waited_for_and_told_of() {
    let address = Stub::start("127.0.0.1:0", Script::default()).address;
    let registry = start(&job(format!("http://{address}/ccompat/")), None);
    registry.schemas().want(7, "t", 3);
    wait_until("it was asked", || registry.shared.failures.get() > 0);
    assert!(registry.schemas().get(7).is_none());
    let sample = || {
        let mut sample = Sample::new(crate::observe::wall_ms());
        registry.observed().collect(&mut sample);
        sample
    };
    assert!(sample().value(&metrics::SCHEMA_WAIT, &["t", "3", "7"]).is_some());
    assert!(registry.schemas().longest_wait().is_some());
    let _stub = Stub::start(&address.to_string(), Script { answers: long(), ..Script::default() });
    assert!(matches!(fetched(&registry, 7), Known::Schema(_)));
    wait_until("nobody waits", || registry.schemas().longest_wait().is_none());
    let sample = sample();
    assert_eq!(sample.value(&metrics::SCHEMA_WAIT, &["t", "3", "7"]), None);
    assert_eq!(sample.value(&metrics::SCHEMAS, &[]), Some(1.0));
    assert!(sample.value(&metrics::REGISTRY_FAILURES, &[]).is_some_and(|failures| failures > 0.0));
}

#[test]
fn trouble_is_no_answer() {
    let answers = |status: u16, body: &str| Some((status, body.to_owned()));
    let first = vec![
        None,
        answers(500, r#"{"error_code":50001,"message":"no store"}"#),
        answers(404, "<html>not here</html>"),
        answers(404, r#"{"message":"no Route matched with those values"}"#),
        answers(429, ""),
        answers(200, "<html>welcome</html>"),
        answers(200, "{}"),
    ];
    let failures = first.len() as u64;
    let stub = Stub::start("127.0.0.1:0", Script { answers: long(), first, ..Script::default() });
    let registry = start(&job(stub.url()), None);
    assert!(matches!(fetched(&registry, 7), Known::Schema(_)));
    assert_eq!(registry.shared.failures.get(), failures);
}

#[test]
fn what_the_registry_does_not_know_is_refused() {
    let answers = [
        ("/schemas/ids/1", json!({"schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF"})),
        ("/schemas/ids/2", json!({"schema": "{\"type\":\"nonsense\"}"})),
        ("/schemas/ids/3", json!({"schema": "\"S\"", "references": [{"name": "S", "subject": "s", "version": 1}]})),
    ];
    let answers = answers.into_iter().map(|(path, answer)| (path.to_owned(), answer)).collect();
    let stub = Stub::start("127.0.0.1:0", Script { answers, ..Script::default() });
    let registry = start(&job(stub.url()), None);
    for (id, why) in [(9, "does not know"), (1, "PROTOBUF"), (2, "nonsense"), (3, "subject \"s\" version 1")] {
        let known = fetched(&registry, id);
        assert!(refused(&known).contains(why), "{known:?}");
    }
    assert_eq!(registry.shared.failures.get(), 0);
}

#[test]
fn one_answer_that_it_is_unknown_is_none() {
    let unknown = || Some((404, json!({"error_code": 40403, "message": "Schema 7 not found"}).to_string()));
    let first = vec![unknown(), unknown()];
    let stub = Stub::start("127.0.0.1:0", Script { answers: long(), first, ..Script::default() });
    let registry = start(&job(stub.url()), None);
    assert!(matches!(fetched(&registry, 7), Known::Schema(_)), "it was registered a moment ago");
}

#[test]
fn an_end_does_not_wait_for_an_answer() {
    let stub = Stub::start("127.0.0.1:0", Script { first: vec![None], ..Script::default() });
    let registry = SchemaRegistry::start_within(&job(stub.url()), None, None, Duration::from_secs(86_400)).expect("a registry");
    registry.schemas().want(7, "t", 3);
    wait_until("it was asked", || !locked(&stub.script).asked.is_empty());
    drop(registry);
}

#[test]
fn references_are_fetched_before_what_refers_to_them() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = Store::folder(folder.path()).expect("a folder");
    let record =
        |name: &str, of: &str| json!({"type": "record", "name": name, "fields": [{"name": "f", "type": of}]}).to_string();
    let reference = |name: &str, subject: &str| json!([{"name": name, "subject": subject, "version": 2}]);
    let answers = [
        ("/schemas/ids/7", json!({"schema": record("Row", "Store"), "references": reference("Store", "a store/1")})),
        ("/subjects/a%20store%2F1/versions/2", json!({"schema": record("Store", "Geo"), "references": reference("Geo", "geo")})),
        ("/subjects/geo/versions/2", json!({"schema": record("Geo", "long"), "references": null})),
    ];
    let answers = answers.into_iter().map(|(path, answer)| (path.to_owned(), answer)).collect();
    let stub = Stub::start("127.0.0.1:0", Script { answers, ..Script::default() });
    let job = job(stub.url());
    let registry = start(&job, Some(&store));
    let known = fetched(&registry, 7);
    assert!(matches!(known, Known::Schema(_)), "{known:?}");
    wait_until("the schema is kept", || folder.path().join("mall/schemas/7.json").is_file());
    drop((registry, stub));
    assert!(matches!(start(&job, Some(&store)).schemas().get(7), Some(Known::Schema(_))), "with all that it refers to");
}

#[test]
fn the_user_is_told_and_the_password_is_not() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("password");
    std::fs::write(&path, "hunter2\n").expect("temporary file");
    // "reader:hunter2"
    let authorization = Some("Basic cmVhZGVyOmh1bnRlcjI=".to_owned());
    let stub = Stub::start("127.0.0.1:0", Script { answers: long(), authorization, ..Script::default() });
    let mut job = job(stub.url());
    let user = |password: String| RegistrySpec { url: stub.url(), username: Some("reader".to_owned()), password: Some(password) };
    job.schema_registry = Some(user(format!("file:{}", path.display())));
    let registry = start(&job, None);
    assert!(matches!(fetched(&registry, 7), Known::Schema(_)));
    assert!(!format!("{registry:?}").contains("hunter2"));
    job.schema_registry = Some(user("file:/does/not/exist".to_owned()));
    let error = SchemaRegistry::start(&job, None, None).expect_err("no password").to_string();
    assert!(error.contains("[schema_registry] password could not be read from \"/does/not/exist\""), "{error}");
    for url in ["nonsense", "ftp://x", "mailto:x"] {
        let spec = RegistrySpec { url: url.to_owned(), username: None, password: None };
        assert!(client::Client::new(&spec, PATIENCE, Arc::default()).is_err(), "{url}");
    }
}

#[test]
fn jobs_without_avro_have_no_thread() {
    let mut job = job("http://127.0.0.1:1".to_owned());
    job.sources[0].format = Format::Upsert;
    assert!(SchemaRegistry::start(&job, None, None).expect("nothing").thread.is_none());
}
