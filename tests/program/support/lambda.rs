//! The two sides of a function: Lambda's runtime API, which hands out events, and those who send events and read the answers.
//!
//! ```text
//! request ─► Sender::event ─► RuntimeApi ─► storeflow-lambda ─► RuntimeApi ─► Sender::answer ─► Answer
//! ```
//!
//! Upholds: senders change a request on its way as AWS' do (`src/serve/lambda/event.rs` has the table); nothing is waited for without
//! an end.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender as Queue, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use base64::Engine;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::http::Answer;
use super::running::Running;

/// What an answer gets: much more than it needs on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a function says to Lambda.
#[derive(Debug)]
pub(crate) enum Said {
    /// It has started and waits for an event.
    Ready,
    /// The answer to the event of that number.
    Answer(u64, Value),
    /// It could not answer the event of that number.
    Error(u64, Value),
    /// It could not start; the kind of error is a header's.
    InitError(String, Value),
}

/// Lambda's runtime API for one function, on a port of its own.
pub(crate) struct RuntimeApi {
    address: String,
    events: UnboundedSender<(u64, String)>,
    said: Receiver<Said>,
    given: u64,
    runtime: Option<tokio::runtime::Runtime>,
}

struct Shared {
    events: tokio::sync::Mutex<UnboundedReceiver<(u64, String)>>,
    said: Mutex<Queue<Said>>,
}

impl Shared {
    fn say(&self, said: Said) {
        // Nobody may wait for it any more.
        let _ = self.said.lock().unwrap_or_else(PoisonError::into_inner).send(said);
    }
}

impl RuntimeApi {
    /// Starts it.
    pub(crate) fn start() -> RuntimeApi {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let ((events, events_of), (said_by, said)) = (unbounded_channel(), channel());
        let shared = Shared { events: tokio::sync::Mutex::new(events_of), said: Mutex::new(said_by) };
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(answered))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(failed))
            .route("/2018-06-01/runtime/init/error", post(never_started))
            .with_state(Arc::new(shared));
        runtime.spawn(async move { axum::serve(listener, router).await });
        RuntimeApi { address, events, said, given: 0, runtime: Some(runtime) }
    }

    /// What Lambda tells a function where this is.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_LAMBDA_RUNTIME_API", &self.address),
            ("AWS_LAMBDA_FUNCTION_NAME", "storeflow-api"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ]
    }

    /// Hands an event to whoever asks next; its number.
    fn give(&mut self, event: &Value) -> u64 {
        self.given += 1;
        self.events.send((self.given, event.to_string())).expect("the API runs");
        self.given
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A function waits for its next event for ever.
            runtime.shutdown_background();
        }
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    shared.say(Said::Ready);
    let Some((number, event)) = shared.events.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let headers = [
        ("lambda-runtime-aws-request-id", request_id(number)),
        ("lambda-runtime-deadline-ms", "4102444800000".to_owned()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:ap-northeast-2:111122223333:function:storeflow-api".to_owned()),
        ("lambda-runtime-trace-id", "Root=1-6a26f6d0-0c1d5b7e3f2a4b6c8d9e0f12;Parent=53995c3f42cd8ad8;Sampled=0".to_owned()),
    ];
    (headers, event).into_response()
}

async fn answered(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: String) -> StatusCode {
    shared.say(Said::Answer(number_of(&id), serde_json::from_str(&body).expect("an answer in JSON")));
    StatusCode::ACCEPTED
}

async fn failed(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: String) -> StatusCode {
    shared.say(Said::Error(number_of(&id), serde_json::from_str(&body).expect("an error in JSON")));
    StatusCode::ACCEPTED
}

async fn never_started(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> StatusCode {
    let kind = headers.get("lambda-runtime-function-error-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    shared.say(Said::InitError(kind.to_owned(), serde_json::from_str(&body).expect("an error in JSON")));
    StatusCode::ACCEPTED
}

/// The id of an event, as Lambda makes them.
pub(crate) fn request_id(number: u64) -> String {
    format!("8476a536-e9f4-11e8-9739-{number:012x}")
}

fn number_of(id: &str) -> u64 {
    u64::from_str_radix(id.rsplit('-').next().unwrap_or_default(), 16).expect("an id of ours")
}

/// A function that runs.
pub(crate) struct Function {
    api: RuntimeApi,
    running: Running,
}

impl Function {
    /// Starts `storeflow-lambda` with these variables and no others of storeflow's.
    pub(crate) fn start(variables: &[(&str, &str)]) -> Function {
        let api = RuntimeApi::start();
        let mut command = Command::new(env!("CARGO_BIN_EXE_storeflow-lambda"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STOREFLOW_") || name.starts_with("AWS_")) {
            command.env_remove(name);
        }
        command.envs(api.environment()).envs(variables.iter().copied());
        let running = Running::start(&mut command);
        Function { api, running }
    }

    /// What it says next.
    fn hear(&mut self) -> Said {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.api.said.recv_timeout(Duration::from_millis(50)) {
                Ok(said) => return said,
                Err(RecvTimeoutError::Disconnected) => panic!("the runtime API has ended"),
                Err(RecvTimeoutError::Timeout) => {
                    assert!(self.running.goes_on(), "the function has ended\n{}", self.running.log());
                    assert!(Instant::now() < deadline, "the function says nothing\n{}", self.running.log());
                }
            }
        }
    }

    /// Waits until it has started.
    pub(crate) fn ready(&mut self) {
        let said = self.hear();
        assert!(matches!(said, Said::Ready), "{said:?}\n{}", self.running.log());
    }

    /// Gives it an event; what it answers, and the event's number.
    pub(crate) fn invoke(&mut self, event: &Value) -> (u64, Value) {
        let number = self.api.give(event);
        match self.hear_of(number) {
            Said::Answer(_, answer) => (number, answer),
            said => panic!("{said:?} to {event}\n{}", self.running.log()),
        }
    }

    /// Gives it an event that it cannot answer; what it says.
    pub(crate) fn refuse(&mut self, event: &Value) -> Value {
        let number = self.api.give(event);
        match self.hear_of(number) {
            Said::Error(_, error) => error,
            said => panic!("{said:?} to {event}\n{}", self.running.log()),
        }
    }

    fn hear_of(&mut self, number: u64) -> Said {
        loop {
            match self.hear() {
                // It asks for the next event when it has answered.
                Said::Ready => {}
                said @ (Said::Answer(of, _) | Said::Error(of, _)) if of == number => return said,
                said => panic!("{said:?} while {number} is open\n{}", self.running.log()),
            }
        }
    }

    /// Asks by way of a sender.
    pub(crate) fn ask(&mut self, sender: Sender, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        let event = sender.event(method, target, headers).unwrap_or_else(|| panic!("{target} does not arrive by {sender:?}"));
        sender.answer(&self.invoke(&event).1)
    }

    /// Freezes it, as Lambda does between events.
    pub(crate) fn freeze(&self) {
        self.running.signal(Signal::STOP);
    }

    /// Thaws it.
    pub(crate) fn thaw(&self) {
        self.running.signal(Signal::CONT);
    }

    /// What it wrote.
    pub(crate) fn log(&self) -> String {
        self.running.log()
    }

    /// Waits for a start to fail: the error's kind, what it says, the exit code, and the log.
    pub(crate) fn fail_to_start(mut self) -> (String, Value, Option<i32>, String) {
        let code = self.running.end();
        let log = self.running.log();
        match self.api.said.recv_timeout(PATIENCE) {
            Ok(Said::InitError(kind, error)) => (kind, error, code, log),
            said => panic!("{said:?}\n{log}"),
        }
    }
}

/// Who sends events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A REST API of API Gateway.
    Rest,
    /// An HTTP API of API Gateway.
    Http,
    /// A function URL.
    FunctionUrl,
    /// A load balancer.
    Balancer,
    /// A load balancer whose target group has lists of values turned on.
    BalancerLists,
}

impl Sender {
    pub(crate) const ALL: [Sender; 5] =
        [Sender::Rest, Sender::Http, Sender::FunctionUrl, Sender::Balancer, Sender::BalancerLists];

    fn sample(self) -> Value {
        let text = match self {
            Sender::Rest => include_str!("../events/rest_v1.json"),
            Sender::Http => include_str!("../events/http_v2.json"),
            Sender::FunctionUrl => include_str!("../events/function_url.json"),
            Sender::Balancer => include_str!("../events/alb.json"),
            Sender::BalancerLists => include_str!("../events/alb_multi.json"),
        };
        serde_json::from_str(text).expect("JSON")
    }

    /// What arrives of a request whose headers are these alone; `None` if the sender refuses to pass it on.
    pub(crate) fn event(self, method: &str, target: &str, headers: &[(&str, &str)]) -> Option<Value> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs: Vec<(&str, &str)> =
            query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
        let once = |pairs: &[(String, String)]| Value::Object(pairs.iter().map(|(k, v)| (k.clone(), json!(v))).collect());
        let lists = |pairs: &[(String, String)]| {
            let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            pairs.iter().for_each(|(name, value)| all.entry(name).or_default().push(value));
            json!(all)
        };
        let headers: Vec<(String, String)> = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let as_sent: Vec<(String, String)> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut event = self.sample();
        match self {
            Sender::Rest => {
                let decoded: Option<Vec<(String, String)>> =
                    pairs.iter().map(|(k, v)| Some((decoded(&k.replace('+', " "))?, decoded(&v.replace('+', " "))?))).collect();
                let decoded = decoded?;
                event["httpMethod"] = json!(method);
                event["requestContext"]["httpMethod"] = json!(method);
                event["path"] = json!(path);
                event["requestContext"]["path"] = json!(format!("/prod{path}"));
                event["pathParameters"]["proxy"] = json!(path.trim_start_matches('/'));
                event["headers"] = once(&headers);
                event["multiValueHeaders"] = lists(&headers);
                event["queryStringParameters"] = if decoded.is_empty() { Value::Null } else { once(&decoded) };
                event["multiValueQueryStringParameters"] = if decoded.is_empty() { Value::Null } else { lists(&decoded) };
            }
            Sender::Http | Sender::FunctionUrl => {
                let raw_path = if self == Sender::Http { twice_decoded(path)? } else { path.to_owned() };
                let mut joined: BTreeMap<String, String> = BTreeMap::new();
                for (name, value) in &headers {
                    let all = joined.entry(name.to_lowercase()).or_default();
                    *all = if all.is_empty() { value.clone() } else { format!("{all},{value}") };
                }
                event["rawPath"] = json!(raw_path);
                event["requestContext"]["http"]["path"] = json!(raw_path);
                event["requestContext"]["http"]["method"] = json!(method);
                event["rawQueryString"] = json!(query);
                event["headers"] = json!(joined);
            }
            Sender::Balancer => {
                event["httpMethod"] = json!(method);
                event["path"] = json!(path);
                event["headers"] = once(&headers);
                event["queryStringParameters"] = once(&as_sent);
            }
            Sender::BalancerLists => {
                event["httpMethod"] = json!(method);
                event["path"] = json!(path);
                event["multiValueHeaders"] = lists(&headers);
                event["multiValueQueryStringParameters"] = lists(&as_sent);
            }
        }
        Some(event)
    }

    /// What the client gets of a function's answer.
    pub(crate) fn answer(self, said: &Value) -> Answer {
        let status = said["statusCode"].as_u64().and_then(|status| status.try_into().ok()).expect("a status");
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let texts = |value: &Value| match value {
            Value::Array(values) => values.iter().map(|value| value.as_str().expect("text").to_owned()).collect(),
            value => vec![value.as_str().expect("text").to_owned()],
        };
        let field = match self {
            Sender::Rest | Sender::BalancerLists => "multiValueHeaders",
            Sender::Http | Sender::FunctionUrl | Sender::Balancer => "headers",
        };
        for (name, value) in said[field].as_object().expect("headers") {
            headers.insert(name.to_lowercase(), texts(value));
        }
        let body = said["body"].as_str().unwrap_or_default();
        let body = if said["isBase64Encoded"] == true {
            base64::engine::general_purpose::STANDARD.decode(body).expect("base64")
        } else {
            body.as_bytes().to_vec()
        };
        Answer { status, headers, body }
    }
}

/// A path as an HTTP API passes it on: decoded, cut at a question mark, decoded again. `None`: it answers 400 itself.
fn twice_decoded(path: &str) -> Option<String> {
    let once = decoded(path)?;
    decoded(once.split('?').next().unwrap_or_default())
}

/// Percent signs and what follows them, as the bytes they stand for.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some(at) = rest.find('%') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.push(u8::from_str_radix(rest.get(at + 1..at + 3)?, 16).ok()?);
        rest = &rest[at + 3..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}
