//! What every answer has, whoever gives it: an id, a line in the log, a span, and an end that is no panic.
//!
//! Upholds: (1) the id in the header, in the problem document and in the log is one; (2) no key, no query and no body is logged;
//! (3) a panic is an answer, and a line that says which request it was.

use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::Instrument;
use tracing::field::Empty;

use super::keys::Access;
use super::problem::{Code, Problem};

/// The header of a request's id.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a request.
const ID_LENGTH_MAX: usize = 128;

/// Around everything else.
pub(super) async fn outer(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = taken(request.headers().get(REQUEST_ID)).unwrap_or_else(new_id);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let text = id.to_str().unwrap_or_default();
    // Finer than the usual filter: made only where somebody listens, such as an exporter of traces.
    let span = tracing::debug_span!(
        target: "storeflow::request", "request", method = %method, path = uri.path(), request_id = text, status = Empty
    );
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
    span.record("status", status);
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
