//! Who may ask, and how often: what a request passes before it reaches a route.
//!
//! ```text
//! request ─► origins ─► bounds ─► admission ─┬─ key ─► its limit ─► route, with its Access
//!            (pages)    (size,               └─ none in use ─► the address' limit ─► route, with Access::everything()
//!                        time)
//! ```
//!
//! Upholds: (1) no route but those in [`is_open`] is reached without an [`Access`] in the request's extensions; (2) an answer that goes on ends
//! within five seconds of its key's end; (3) keys and hashes are in no log and no answer.
//! Keeps: rates (see `limits`). Those of failed attempts are by address, and are no reason to refuse a key that is right: behind a load
//! balancer all have one address.
//! Absent on purpose: keys in addresses, which end up in logs and histories, and cookies, which a browser sends for any page.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use super::bounds;
use super::keys::{Access, Key, Keys, RATE_DEFAULT, digest_of, now};
use super::limits::{AddressLimit, Limit};
use super::origins::{self, Origin, Origins};
use super::problem::{Code, Problem};
use crate::config::key_file::{Digest, KeyFileError};

/// Failed attempts per second and address.
const FAILURES_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("not 0");

/// How often a key is looked for again while an answer goes on.
const CHECK_EVERY: Duration = Duration::from_secs(2);

const X_API_KEY: &str = "x-api-key";

/// What was asked for.
#[derive(Clone, Debug)]
pub struct AdmissionSettings {
    /// The file of keys; `None`: whoever reaches the server may ask.
    pub keys: Option<PathBuf>,
    /// Requests per second of a key, or of an address where there are no keys. `None`: [`RATE_DEFAULT`] of a key, no limit of an address.
    pub rate: Option<NonZeroU32>,
    /// Whose pages may ask, besides the server's own.
    pub origins: Vec<Origin>,
    /// How long a request may take until its answer begins.
    pub request_timeout: Duration,
}

impl Default for AdmissionSettings {
    /// Whoever reaches the server may ask, and gets an answer within ten seconds.
    fn default() -> Self {
        AdmissionSettings { keys: None, rate: None, origins: Vec::new(), request_timeout: Duration::from_secs(10) }
    }
}

/// What decides.
pub struct Admission {
    keys: Option<Arc<Keys>>,
    addresses: Option<AddressLimit>,
    failures: AddressLimit,
    origins: Arc<Origins>,
    request_timeout: Duration,
}

impl Admission {
    /// Reads the keys.
    ///
    /// # Errors
    /// If their file cannot be read or is wrong.
    pub fn open(settings: AdmissionSettings) -> Result<Arc<Admission>, KeyFileError> {
        let AdmissionSettings { keys, rate, origins, request_timeout } = settings;
        let addresses = if keys.is_none() { rate.map(AddressLimit::new) } else { None };
        let keys = keys.map(|path| Keys::open(&path, rate.unwrap_or(RATE_DEFAULT)).map(Arc::new)).transpose()?;
        Ok(Arc::new(Admission {
            keys,
            addresses,
            failures: AddressLimit::new(FAILURES_PER_SECOND),
            origins: Arc::new(Origins { listed: origins.into_iter().collect() }),
            request_timeout,
        }))
    }

    /// Whether keys are in use.
    pub fn has_keys(&self) -> bool {
        self.keys.is_some()
    }
}

/// Puts around all routes what every request passes: origins, size, time.
pub fn outer_layers(routes: Router, admission: &Arc<Admission>) -> Router {
    routes
        .layer(from_fn_with_state(admission.request_timeout, bounds::bound))
        .layer(from_fn_with_state(Arc::clone(&admission.origins), origins::check))
}

/// Puts around routes what decides who may ask: keys and rates. Requests say where they come from by [`ConnectInfo`] in their extensions;
/// those that do not share one limit. What was admitted has its [`Access`] in the extensions of request and response.
pub fn inner_layer(routes: Router, admission: &Arc<Admission>) -> Router {
    routes.layer(from_fn_with_state(Arc::clone(admission), admit))
}

/// What everybody may have: whether the server is well, its description, and a page without numbers.
pub fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/healthz" | "/readyz" | "/openapi.json") || path.starts_with("/assets/")
}

async fn admit(State(admission): State<Arc<Admission>>, request: Request, next: Next) -> Response {
    if is_open(request.uri().path()) || request.method() == Method::OPTIONS {
        return next.run(request).await;
    }
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let Some(keys) = &admission.keys else {
        // Only this machine may ask, and what its browsers are made to ask is somebody else's.
        let own = address.is_some_and(|address| address.to_canonical().is_loopback());
        if own && !admission.origins.know_host(request.headers(), request.uri()) {
            let detail = "ask 127.0.0.1 or localhost; another name needs keys, or its origin listed with --cors-origin";
            return Problem::new(Code::OriginNotAllowed, detail).into_response();
        }
        if let Some(Err(wait)) = admission.addresses.as_ref().map(|limit| limit.take(address)) {
            return too_many("too many requests from this address", wait).into_response();
        }
        return run(request, next, Access::everything()).await;
    };
    look_again(keys).await;
    let (digest, key) = match admission.known(keys, request.headers(), address) {
        Ok(known) => known,
        Err(problem) => return problem.into_response(),
    };
    if let Err(wait) = Limit::take(&key.limit) {
        let mut response = too_many("too many requests with this key", wait).into_response();
        response.extensions_mut().insert(key.access.clone());
        return response;
    }
    let response = run(request, next, key.access.clone()).await;
    if goes_on(&response) { until_revoked(response, Arc::clone(keys), digest, key.access.clone()) } else { response }
}

async fn run(mut request: Request, next: Next, access: Access) -> Response {
    request.extensions_mut().insert(access.clone());
    let mut response = next.run(request).await;
    response.extensions_mut().insert(access);
    response
}

impl Admission {
    fn known(&self, keys: &Keys, headers: &HeaderMap, address: Option<IpAddr>) -> Result<(Digest, Arc<Key>), Problem> {
        let found = key_in(headers).and_then(|key| {
            let digest = digest_of(key);
            let key = keys.find(&digest, now());
            key.map(|key| (digest, key)).ok_or_else(|| {
                Problem::new(Code::UnknownKey, "ask for a new key; this one was revoked, has expired, or never was")
            })
        });
        found.map_err(|problem| match self.failures.take(address) {
            Ok(()) => problem,
            Err(wait) => too_many("too many requests without a key that is known", wait),
        })
    }
}

/// The key of a request, which may send it in one way or in both.
fn key_in(headers: &HeaderMap) -> Result<&str, Problem> {
    let bearers = headers.get_all(header::AUTHORIZATION).iter().filter_map(bearer);
    let mut found: Option<&[u8]> = None;
    for key in bearers.chain(headers.get_all(X_API_KEY).iter().map(HeaderValue::as_bytes)).map(<[u8]>::trim_ascii) {
        if found.is_some_and(|other| other != key) {
            return Err(Problem::new(Code::UnknownKey, "there are two keys that differ; send one"));
        }
        found = Some(key);
    }
    let found = found.filter(|key| !key.is_empty());
    let key =
        found.ok_or_else(|| Problem::new(Code::NoKey, "send a key as \"Authorization: Bearer KEY\" or \"X-Api-Key: KEY\""))?;
    std::str::from_utf8(key).map_err(|_| Problem::new(Code::UnknownKey, "send a key as it was given; it has plain letters only"))
}

/// What follows `Bearer`; `None` for another scheme, which may be a proxy's.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, rest) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(rest)
}

/// Looks at the file of keys if it is time, on a thread that may wait for it.
async fn look_again(keys: &Arc<Keys>) {
    if keys.is_due() {
        let keys = Arc::clone(keys);
        // It ends in an error only while the server does.
        let _ = tokio::task::spawn_blocking(move || keys.look_again()).await;
    }
}

/// Whether an answer has no end of its own.
pub(super) fn goes_on(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// The answer, which ends when its key does, or may see something else.
fn until_revoked(response: Response, keys: Arc<Keys>, digest: Digest, access: Access) -> Response {
    let ended = async move {
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            look_again(&keys).await;
            let same = keys.find(&digest, now()).is_some_and(|key| key.access.stores() == access.stores());
            if !same {
                break;
            }
        }
    };
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(ended))))
}

fn too_many(detail: &str, wait: Duration) -> Problem {
    Problem::new(Code::RateLimited, format!("{detail}; ask again after Retry-After")).retry_after(wait)
}

#[cfg(test)]
mod tests;
