//! Questions to a schema registry (Confluent's API, which Karapace, Apicurio and Redpanda speak as well), one after the other.
//!
//! Upholds: (1) only a registry's own word that it does not know an id is taken for that: a proxy's or a wrong address's 404 is trouble, and
//! trouble makes records wait instead of dead letters; (2) each question ends in a bounded time, with a bounded answer, and at once when
//! nobody wants it any more; (3) no error holds the password.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Notify;

use super::kept::{Kept, Reference};
use crate::config::RegistrySpec;
use crate::source::secrets;

/// Until a connection is there, at most.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Until an answer is.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(15);
/// Longest answer; schemas have kilobytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Most schemas that one refers to, in all.
const REFERENCES_MAX: usize = 200;

/// Why a registry cannot be asked at all; see the job file.
#[derive(Clone, Debug, thiserror::Error)]
#[error("[schema_registry] {0}")]
pub struct RegistryError(pub(super) String);

/// What came of a question.
pub(super) enum Fetched {
    /// The schema, whatever it is worth.
    Schema(Kept),
    /// The registry does not know it, or what it refers to; why.
    Unknown(String),
    /// It is none that can be read by, and never will be; why.
    Unreadable(String),
}

/// Why there is no answer now.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Trouble(String);

pub(super) struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    base: Url,
    user: Option<(String, Option<String>)>,
    /// Nobody waits for an answer any more.
    closing: Arc<Notify>,
}

/// A registry's answer, to either of the questions.
#[derive(Deserialize)]
struct Answer {
    schema: String,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<ReferenceTo>>,
}

#[derive(Deserialize)]
struct ReferenceTo {
    name: String,
    subject: String,
    version: i64,
}

#[derive(Deserialize)]
struct Refusal {
    error_code: i64,
    #[serde(default)]
    message: String,
}

impl Client {
    pub(super) fn new(spec: &RegistrySpec, patience: Duration, closing: Arc<Notify>) -> Result<Client, RegistryError> {
        let wrong = |what: String| RegistryError(what);
        let mut base = Url::parse(&spec.url).map_err(|error| wrong(format!("url is no URL: {error}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(wrong("url must begin with http:// or https://".to_owned()));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let password = spec.password.as_deref().map(secrets::look_up).transpose();
        let password = password.map_err(|why| wrong(format!("password {why}")))?;
        let user = spec.username.clone().map(|name| (name, password));
        let http = reqwest::Client::builder().connect_timeout(CONNECT_PATIENCE.min(patience)).timeout(patience);
        let http = http.user_agent(concat!("storeflow/", env!("CARGO_PKG_VERSION"))).build();
        let http = http.map_err(|error| wrong(format!("cannot be asked: {}", chain(&error))))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| wrong(format!("cannot be asked: {error}")))?;
        Ok(Client { http, runtime, base, user, closing })
    }

    /// A schema with all that it refers to.
    pub(super) fn fetch(&self, id: u32) -> Result<Fetched, Trouble> {
        let answer = match self.ask(&["schemas", "ids", &id.to_string()])? {
            Ok(answer) => answer,
            Err(message) => return Ok(Fetched::Unknown(format!("the registry does not know it: {message}"))),
        };
        if let Some(other) = answer.schema_type.as_deref().filter(|kind| *kind != "AVRO") {
            return Ok(Fetched::Unreadable(format!("it is of type {other}, and only AVRO is read")));
        }
        let mut gathered = Gathered { references: Vec::new(), seen: BTreeSet::new() };
        if let Err(no) = self.gather(answer.references.unwrap_or_default(), &mut gathered)? {
            return Ok(no);
        }
        Ok(Fetched::Schema(Kept { id, schema: answer.schema, references: gathered.references }))
    }

    /// Fetches what a schema refers to, and what that refers to before it.
    fn gather(&self, references: Vec<ReferenceTo>, into: &mut Gathered) -> Result<Result<(), Fetched>, Trouble> {
        for ReferenceTo { name, subject, version } in references {
            if !into.seen.insert((subject.clone(), version)) {
                continue;
            }
            if into.seen.len() > REFERENCES_MAX {
                return Ok(Err(Fetched::Unreadable(format!("it refers to more than {REFERENCES_MAX} schemas"))));
            }
            let answer = match self.ask(&["subjects", &subject, "versions", &version.to_string()])? {
                Ok(answer) => answer,
                Err(message) => {
                    let what = format!("it refers to subject \"{subject}\" version {version}, which the registry does not know");
                    return Ok(Err(Fetched::Unknown(format!("{what}: {message}"))));
                }
            };
            if let Err(no) = self.gather(answer.references.unwrap_or_default(), into)? {
                return Ok(Err(no));
            }
            into.references.push(Reference { name, schema: answer.schema });
        }
        Ok(Ok(()))
    }

    /// One question; the inner error is the registry's own word that there is no such thing.
    fn ask(&self, path: &[&str]) -> Result<Result<Answer, String>, Trouble> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let (status, body) = self.runtime.block_on(async {
            let (answer, closed) = (pin!(self.get(url)), pin!(self.closing.notified()));
            match select(answer, closed).await {
                Either::Left((answer, _)) => answer,
                Either::Right(_) => Err(Trouble("nobody waits for it any more".to_owned())),
            }
        })?;
        if status.is_success() {
            return match serde_json::from_slice(&body) {
                Ok(answer) => Ok(Ok(answer)),
                Err(error) => Err(Trouble(format!("its answer is not that of a schema registry: {error}"))),
            };
        }
        let refusal: Option<Refusal> = serde_json::from_slice(&body).ok();
        match (status, refusal) {
            (StatusCode::NOT_FOUND, Some(Refusal { error_code: 404 | 40_400..=40_499, message })) => Ok(Err(message)),
            (StatusCode::NOT_FOUND, _) => {
                Err(Trouble("it answers 404, and not as a schema registry does: is the url right?".to_owned()))
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                Err(Trouble(format!("it refuses the user ({status}): are username and password right?")))
            }
            (status, refusal) => {
                let message = refusal.map(|refusal| format!(": {}", refusal.message)).unwrap_or_default();
                Err(Trouble(format!("it answers {status}{message}")))
            }
        }
    }

    async fn get(&self, url: Url) -> Result<(StatusCode, Vec<u8>), Trouble> {
        let trouble = |error: reqwest::Error| Trouble(chain(&error.without_url()));
        let mut request = self.http.get(url).header("accept", "application/vnd.schemaregistry.v1+json, application/json");
        if let Some((name, password)) = &self.user {
            request = request.basic_auth(name, password.as_ref());
        }
        let mut response = request.send().await.map_err(trouble)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(trouble)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Trouble(format!("its answer has more than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), body))
    }
}

struct Gathered {
    references: Vec<Reference>,
    seen: BTreeSet<(String, i64)>,
}

/// An error with its causes, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
