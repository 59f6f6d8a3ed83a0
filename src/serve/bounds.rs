//! How large a request may be, and how long it may take.
//!
//! Upholds: no request holds more than its bounds, whoever sends it and however slowly; what a handler sees has no body.
//! Absent on purpose: an end of answers that go on. The time counts until an answer begins; only streams go on after that. What a head
//! may have before it is read at all, and the time until they are there, are the server's.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use super::problem::{Code, Problem};

/// Bytes of a request's address.
const URI_BYTES_MAX: usize = 8 << 10;
/// Bytes of all headers, as HTTP/1.1 writes them.
const HEADERS_BYTES_MAX: usize = 16 << 10;
/// Bytes of a body, which nobody reads.
const BODY_BYTES_MAX: usize = 16 << 10;

/// Refuses what is too large, and gives up on what takes longer than the state says.
pub(super) async fn bound(State(most): State<Duration>, request: Request, next: Next) -> Response {
    if length(request.uri()) > URI_BYTES_MAX {
        let detail = format!("ask with an address of up to {URI_BYTES_MAX} bytes");
        return Problem::new(Code::UriTooLong, detail).into_response();
    }
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    if headers.sum::<usize>() > HEADERS_BYTES_MAX {
        let detail = format!("ask with headers of up to {HEADERS_BYTES_MAX} bytes");
        return Problem::new(Code::HeadersTooLarge, detail).into_response();
    }
    let answer = async {
        match without_body(request).await {
            Ok(request) => next.run(request).await,
            Err(problem) => problem.into_response(),
        }
    };
    tokio::time::timeout(most, answer).await.unwrap_or_else(|_| {
        let detail = format!("no answer within {} s; ask again, or for less", most.as_secs());
        Problem::new(Code::Timeout, detail).retry_after(Duration::from_secs(1)).into_response()
    })
}

fn length(uri: &Uri) -> usize {
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    path + uri.authority().map_or(0, |authority| authority.as_str().len())
}

/// The request when its body has been read and forgotten, so that the connection can be used again.
async fn without_body(request: Request) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Request::from_parts(parts, Body::empty()));
    }
    let too_large =
        || Problem::new(Code::BodyTooLarge, format!("ask without a body; up to {BODY_BYTES_MAX} bytes of one are overlooked"));
    let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let (mut body, mut read) = (body.into_data_stream(), 0);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| Problem::new(Code::BadParameter, "the body broke off; ask without one"))?;
        read += chunk.len();
        if read > BODY_BYTES_MAX {
            return Err(too_large());
        }
    }
    Ok(Request::from_parts(parts, Body::empty()))
}
