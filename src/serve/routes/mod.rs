//! The paths, and what answers each.
//!
//! ```text
//! outer (request id, log, span, panics) ─► origins, bounds ─► gzip ─► admission ─┬─ /healthz, /readyz, /openapi.json, the dashboard
//!                                                                                └─ /v1/… ─► Asked, StorePath ─► Api ─► model
//! ```
//!
//! Upholds: (1) a key is held against a store before the store is looked for, so that no answer tells whether one exists that may not be
//! seen; (2) whether a client has the newest answer is decided before anything is read.

mod all_stores;
mod public;
mod status;
mod stores;

use std::sync::Arc;

pub(super) use self::status::status_now;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::Api;
use super::keys::Access;
use super::model;
use super::problem::{Code, Problem};
use super::view::Shown;
use super::{admission, dashboard, openapi, outer, stream};
use crate::observe::wall_ms;

/// Below so many bytes an answer is not worth packing.
const PACKED_MIN: u64 = 1_024;

/// Characters of a path that a problem repeats.
const PATH_SAID: usize = 200;

/// The API, but for what listens.
pub fn router(api: Arc<Api>) -> Router {
    let (v1, document) = OpenApiRouter::with_openapi(openapi::frame(api.keyed()))
        .routes(routes!(stores::list))
        .routes(routes!(stores::now))
        .routes(routes!(stores::windows))
        .routes(routes!(all_stores::top))
        .routes(routes!(all_stores::totals))
        .routes(routes!(status::status))
        .routes(routes!(stream::stream))
        .split_for_parts();
    let document = Bytes::from(model::json(&openapi::completed(document, api.keyed())));
    let packed = SizeAbove::new(PACKED_MIN).and(NotForContentType::SSE).and(NotForContentType::IMAGES);
    let public = Router::new()
        .route("/healthz", get(public::alive))
        .route("/readyz", get(public::ready))
        .route("/openapi.json", get(move || public::document(document.clone())));
    let (admission, http) = (Arc::clone(api.admission()), Arc::clone(api.http()));
    let routes = v1.merge(public).with_state(api).merge(dashboard::routes());
    let routes = routes.method_not_allowed_fallback(other_method).fallback(no_such_path);
    let routes = admission::inner_layer(routes, &admission).layer(CompressionLayer::new().gzip(true).compress_when(packed));
    admission::outer_layers(routes, &admission).layer(from_fn_with_state(http, outer::outer))
}

/// All paths take the same methods.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

async fn other_method(method: Method) -> Response {
    let mut response = if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        Problem::new(Code::MethodNotAllowed, "ask with GET; nothing can be written here").into_response()
    };
    response.headers_mut().insert(header::ALLOW, METHODS);
    response
}

async fn no_such_path(request: Request) -> Problem {
    // What is long is not said back: it is the client's to hold, not ours.
    let path: String = request.uri().path().chars().take(PATH_SAID).collect();
    Problem::new(Code::NotFound, format!("there is nothing at {path:?}; /openapi.json says what there is"))
}

/// What a client may keep of an answer, and for how long.
pub(super) struct Freshness {
    etag: HeaderValue,
    keyed: bool,
}

impl Freshness {
    /// Of answers from what is shown.
    pub(super) fn of(api: &Api, shown: &Shown) -> Freshness {
        Freshness::as_of(api, shown, shown.as_of)
    }

    /// Of an answer that is as of another instant than what is shown.
    fn as_of(api: &Api, shown: &Shown, as_of: u64) -> Freshness {
        // The state may change while the as-of stands, which is when it matters most.
        let state = model::state(&shown.about, shown.as_of, shown.finished, wall_ms()).text();
        let etag = format!("W/\"{}-{as_of}-{state}\"", shown.about.generation);
        let etag = HeaderValue::try_from(etag).expect("digits and a word");
        Freshness { etag, keyed: api.keyed() }
    }

    /// The answer to somebody who has it already.
    pub(super) fn unchanged(&self, headers: &HeaderMap) -> Option<Response> {
        let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let ours = bare(self.etag.to_str().unwrap_or_default());
        let same = known.flat_map(|tags| tags.split(',')).any(|tag| bare(tag) == ours);
        same.then(|| self.on(StatusCode::NOT_MODIFIED.into_response()))
    }

    /// An answer.
    pub(super) fn json(&self, body: impl Into<Body>) -> Response {
        self.on(json(self.keyed, body))
    }

    fn on(&self, mut response: Response) -> Response {
        response.headers_mut().insert(header::ETAG, self.etag.clone());
        keep(self.keyed, &mut response);
        response
    }
}

/// An answer that nobody may keep without asking again.
pub(super) fn json(keyed: bool, body: impl Into<Body>) -> Response {
    let mut response = ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response();
    keep(keyed, &mut response);
    response
}

fn keep(keyed: bool, response: &mut Response) {
    let how = if keyed { "private, no-cache" } else { "no-cache" };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(how));
    if keyed {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("authorization, x-api-key"));
    }
}

/// Refuses a key that may not see a store.
pub(super) fn may_see(access: &Access, store: &str) -> Result<(), Problem> {
    let refused = || Problem::new(Code::StoreNotAllowed, "this key is not for this store; /v1/stores lists those that it is for");
    access.may_see(store).then_some(()).ok_or_else(refused)
}

/// Refuses a key that is limited to some stores.
pub(super) fn sees_all(access: &Access) -> Result<(), Problem> {
    let detail = "this is of all stores, and this key is for some; /v1/stores lists them";
    access.sees_all().then_some(()).ok_or_else(|| Problem::new(Code::AllStoresNotAllowed, detail))
}

#[cfg(test)]
mod tests;
