//! What every answer has, whoever gives it: an id, a line in the log, a span, and an end that is no panic.
//!
//! Upholds: (1) the id in the header, in the problem document and in the log is one; (2) no key, no query and no body is logged;
//! (3) a panic is an answer, and a line that says which request it was.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::Instrument;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::keys::Access;
use super::problem::{Code, Problem};
use crate::observe::http::HttpStats;
use crate::observe::otlp::{REQUESTS, parent_of};

/// The header of a request's id.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a request.
const ID_LENGTH_MAX: usize = 128;

/// Around everything else.
pub(super) async fn outer(State(http): State<Arc<HttpStats>>, request: Request, next: Next) -> Response {
    let (began, in_flight) = (Instant::now(), http.begin());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map(MatchedPath::as_str);
    let id = taken(request.headers().get(REQUEST_ID)).unwrap_or_else(new_id);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let text = id.to_str().unwrap_or_default();
    // Made only where somebody listens: an exporter of traces.
    let span = tracing::debug_span!(
        target: REQUESTS, "request", otel.name = %format_args!("{method} {}", route.unwrap_or("other")), otel.kind = "server",
        http.request.method = %method, http.route = route, url.path = uri.path(), request_id = text,
        http.response.status_code = Empty, otel.status_code = Empty
    );
    if !span.is_disabled() {
        // It fails where another layer has begun the span already; then it is a trace of its own.
        let _ = span.set_parent(parent_of(request.headers()));
    }
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let mut response = answered.unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<&str>().map(|why| (*why).to_owned());
        let why = why.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        tracing::error!(request_id = text, %method, path = uri.path(), why, "a request ended in a panic: a mistake of storeflow's");
        Problem::new(Code::Internal, "a mistake of storeflow's; its log has this request's id").into_response()
    });
    if let Some(problem) = response.extensions().get::<Problem>() {
        let document = problem.document(Some(text));
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(document.len()));
        response.headers_mut().remove(header::CONTENT_ENCODING);
        *response.body_mut() = if method == Method::HEAD { Body::empty() } else { Body::from(document) };
    }
    let status = response.status().as_u16();
    span.record("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
    in_flight.done(route, status);
    tracing::info!(
        target: "storeflow::access", %method, path = uri.path(), status, took = ?began.elapsed(), bytes = bytes(&response),
        key = response.extensions().get::<Access>().and_then(Access::id), request_id = text, "answered"
    );
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// A request's own id, if it is well formed.
fn taken(header: Option<&HeaderValue>) -> Option<HeaderValue> {
    let id = header?;
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    ((1..=ID_LENGTH_MAX).contains(&id.len()) && id.as_bytes().iter().all(allowed)).then(|| id.clone())
}

/// An id that no other request has: random for each process, counted within.
fn new_id() -> HeaderValue {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| getrandom::u64().unwrap_or_else(|_| crate::observe::wall_ms()));
    static REQUEST: AtomicU64 = AtomicU64::new(0);
    let id = format!("{:016x}-{:x}", *PROCESS, REQUEST.fetch_add(1, Ordering::Relaxed));
    HeaderValue::try_from(id).expect("hexadecimal digits")
}

/// The length of an answer, where it is known.
fn bytes(response: &Response) -> Option<u64> {
    let length = || response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    response.body().size_hint().exact().or_else(length)
}
