//! Traces and metrics to an OpenTelemetry collector, by OTLP over HTTP.
//!
//! ```text
//! spans of targets SPANS ─► layer ─► sampler ─► queue ─► thread ─► POST /v1/traces   ┐
//! Registry: one sample per interval ─────────────────► thread ─► POST /v1/metrics  ┴─► the collector
//! ```
//!
//! Upholds: (1) without `--otlp` there is no layer, and a span costs what a disabled log line does; with it, only spans of [`SPANS`]
//! reach the layer, and no worker's hot path has one; (2) whoever ends a span never waits: what does not fit into the queue is
//! dropped; (3) a collector that does not answer is told of once, is tried again for ever, and stops nothing; (4) the end waits
//! for it a few seconds at most; (5) headers with secrets come from the environment and go nowhere but to the collector.
//! Keeps: what the queue holds.
//! Absent on purpose: gRPC; logs, which are on standard error; the SDK's own diagnostics, which would repeat each failure.

mod metrics;
mod traces;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::HeaderMap;
use opentelemetry::KeyValue;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;

use self::metrics::Metrics;
pub use self::traces::{Traces, TracesLayer};
use super::locked;
use super::metrics::Registry;

/// The targets of spans that are traces; they are in no log line.
pub const SPANS: [&str; 2] = [CHECKPOINTS, REQUESTS];
/// The target of spans of checkpoints.
pub const CHECKPOINTS: &str = "storeflow::checkpoint";
/// The target of spans of requests.
pub const REQUESTS: &str = "storeflow::request";

/// How long one attempt to send may take, and the end of traces and of metrics each.
const PATIENCE: Duration = Duration::from_secs(3);

/// Headers that go with everything that is sent.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

/// Where traces and metrics go.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpSettings {
    /// The collector, without a path of a signal.
    pub url: String,
    /// Of requests, the share that is traced, unless their caller says.
    pub sample: f64,
    /// From one export of metrics to the next.
    pub every: Duration,
}

/// What a user has to mend.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The address.
    #[error(
        "--otlp \"{0}\" is not where a collector listens for OTLP over HTTP; say http://HOST:PORT or https://HOST:PORT (often port 4318)"
    )]
    Address(String),
    /// The address has a password, which logs would show.
    #[error("--otlp has a user or password in it; put secrets into {HEADERS}, such as \"authorization=Bearer …\"")]
    Secret,
    /// The headers.
    #[error("{HEADERS} is not NAME=VALUE,NAME=VALUE")]
    Headers,
    /// The client.
    #[error("could not prepare to send traces and metrics by OTLP: {0}")]
    Client(String),
}

impl OtlpSettings {
    /// Holds the address and the headers against what they have to be.
    ///
    /// # Errors
    /// If one of them is not.
    pub fn checked(mut self) -> Result<OtlpSettings, OtlpError> {
        let wrong = || if self.url.contains('@') { OtlpError::Secret } else { OtlpError::Address(self.url.clone()) };
        let url = reqwest::Url::parse(&self.url).map_err(|_| wrong())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OtlpError::Secret);
        }
        if !["http", "https"].contains(&url.scheme()) || !url.has_host() || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong());
        }
        let headers = std::env::var(HEADERS).unwrap_or_default();
        let is_header =
            |header: &str| header.trim().is_empty() || header.split_once('=').is_some_and(|(name, _)| !name.trim().is_empty());
        if !headers.split(',').all(is_header) {
            return Err(OtlpError::Headers);
        }
        url.as_str().trim_end_matches('/').clone_into(&mut self.url);
        Ok(self)
    }
}

/// The collector, as far as both signals know it.
#[derive(Debug)]
struct Collector {
    url: String,
    /// What it did not take the last time.
    failing: Mutex<BTreeSet<&'static str>>,
}

impl Collector {
    /// Tells of the first failure, and of the end of failures.
    fn answered(&self, what: &'static str, answer: OTelSdkResult) -> OTelSdkResult {
        let mut failing = locked(&self.failing);
        let before = !failing.is_empty();
        match &answer {
            Ok(()) => failing.remove(what),
            Err(_) => failing.insert(what),
        };
        let url = &self.url;
        match &answer {
            Err(error) if !before => {
                tracing::warn!(url, what, %error, "the collector does not take what is sent by OTLP; tried again without saying so");
            }
            Ok(()) if before && failing.is_empty() => tracing::info!(url, "the collector takes what is sent by OTLP again"),
            _ => {}
        }
        answer
    }
}

/// Sends until it is dropped, and what is left then.
#[derive(Debug)]
pub struct Otlp {
    traces: Traces,
    metrics: Metrics,
}

impl Otlp {
    /// Sends what [`Traces`] has got, and metrics, as a process of a job.
    ///
    /// # Errors
    /// If there can be no client.
    pub fn start(traces: &Traces, registry: &Registry, job: &str, process: usize) -> Result<Otlp, OtlpError> {
        let resource = resource(job, process);
        traces.attach(&resource)?;
        let metrics = Metrics::start(traces.settings(), traces.collector(), registry.clone(), resource)?;
        Ok(Otlp { traces: traces.clone(), metrics })
    }
}

impl Drop for Otlp {
    fn drop(&mut self) {
        self.traces.end();
        self.metrics.end();
    }
}

fn resource(job: &str, process: usize) -> Resource {
    let own = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", format!("{job}-{process}")),
        KeyValue::new("storeflow.job", job.to_owned()),
        KeyValue::new("storeflow.process", process as i64),
    ];
    Resource::builder().with_service_name("storeflow").with_attributes(own).build()
}

fn client_error(error: impl std::fmt::Display) -> OtlpError {
    OtlpError::Client(error.to_string())
}

/// The span that a request was made in, as its `traceparent` says (W3C Trace Context); empty without one.
///
/// Give it to the request's own span before anything happens in it: `span.set_parent(parent_of(headers))`.
pub fn parent_of(headers: &HeaderMap) -> opentelemetry::Context {
    TraceContextPropagator::new().extract(&Headers(headers))
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }
    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

/// What everything about the collector is shared by.
fn collector(settings: &OtlpSettings) -> Arc<Collector> {
    Arc::new(Collector { url: settings.url.clone(), failing: Mutex::default() })
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceContextExt;

    use super::*;

    fn checked(url: &str) -> Result<String, String> {
        let settings = OtlpSettings { url: url.to_owned(), sample: 0.01, every: Duration::from_secs(15) };
        settings.checked().map(|settings| settings.url).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_is_a_collector_or_an_error_without_secrets() {
        assert_eq!(checked("http://collector:4318").as_deref(), Ok("http://collector:4318"));
        assert_eq!(checked("https://collector/otlp/").as_deref(), Ok("https://collector/otlp"));
        for wrong in ["", "collector", "collector:4318", "ftp://collector", "http://", "http://a/?b", "file:///etc"] {
            assert!(checked(wrong).expect_err("no address").contains(&format!("--otlp \"{wrong}\"")), "{wrong}");
        }
        for secret in ["http://user:hidden@collector", "http://hidden@collector", "hidden@", "http://user:hidden@:x"] {
            let error = checked(secret).expect_err("a secret");
            assert!(error.contains(HEADERS) && !error.contains("hidden"), "{error}");
        }
    }

    #[test]
    fn a_parent_is_what_the_header_says() {
        let mut headers = HeaderMap::new();
        assert!(!parent_of(&headers).span().span_context().is_valid());
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.insert("traceparent", text.parse().expect("a value"));
        let context = parent_of(&headers);
        let (trace, sampled) = (context.span().span_context().trace_id().to_string(), context.span().span_context().is_sampled());
        assert_eq!((trace.as_str(), sampled), ("0af7651916cd43dd8448eb211c80319c", true));
        headers.insert("traceparent", "nonsense".parse().expect("a value"));
        assert!(!parent_of(&headers).span().span_context().is_valid());
    }
}
