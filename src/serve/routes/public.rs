//! What needs no key: health, readiness and the description of the API.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::serve::api::Api;

/// The server answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Whether it is of use: it has numbers, and is not about to end.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, String) {
    match api.wants().await {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n")),
    }
}

/// The OpenAPI document.
pub(super) async fn document(document: Bytes) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (headers, document).into_response()
}
