//! Events of API Gateway and of load balancers, mended before `lambda_http` makes requests of them.
//!
//! ```text
//! event ─► mended ─► lambda_http ─► restored ─► router
//! ```
//!
//! What is sent is not what arrives, and differently so for each sender:
//!
//! | sender | path | query | headers |
//! |---|---|---|---|
//! | REST API (v1) | as sent, without the stage | decoded | once and repeated |
//! | HTTP API (v2, or v1 with `version`) | **decoded, twice**, with the stage; cut at a decoded `?` | as sent | joined by commas |
//! | function URL (v2) | as sent | as sent | the same |
//! | load balancer | as sent | as sent, in pieces | once, or repeated |
//!
//! Upholds: (1) the request that the router sees has the path, query and headers that a server would have seen; (2) nothing that
//! an event may hold makes `lambda_http` panic.
//! `lambda_http` alone would drop all but the last of repeated headers, cut single query values at commas, resolve `.` and `..` in
//! paths, which are stores' ids like any other, and give up on a `Host` that is no name.
//! Absent on purpose: what an HTTP API has cut off or refused to pass on; `deploy/lambda/README.md` says which ids that are.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use lambda_http::http::header::HOST;
use lambda_http::http::{HeaderValue, Uri};
use lambda_http::{Request, RequestExt};
use serde_json::{Map, Value};

/// Where the paths that the router knows begin.
const ROOTS: [&str; 6] = ["", "v1", "assets", "openapi.json", "healthz", "readyz"];

/// Where a store's own paths begin, and what may follow its id.
const STORES: &str = "/v1/stores/";
const WINDOWS: &str = "/windows";

/// What `lambda_http` would lose of a request, or trip over.
#[derive(Clone, Debug, Default)]
pub(super) struct Aside {
    host: Option<HeaderValue>,
    peer: Option<IpAddr>,
}

/// An event that `lambda_http` understands as it was meant, and what is kept aside of it. `base_path` (`/numbers`, or empty) is
/// taken off paths that have it.
pub(super) fn mended(mut event: Value, base_path: &str) -> (Value, Aside) {
    let mut aside = Aside::default();
    let Some(fields) = event.as_object_mut() else { return (event, aside) };
    let context = fields.get("requestContext");
    let in_context = |name: &str| context.and_then(|context| context.get(name));
    let stage = in_context("stage").and_then(Value::as_str).filter(|stage| *stage != "$default").map(str::to_owned);
    let (of_v2, of_balancer) = (in_context("http").is_some(), in_context("elb").is_some());
    let domain = in_context("domainName").and_then(Value::as_str).unwrap_or_default();
    let decoded = if of_v2 { !domain.contains(".lambda-url.") } else { fields.get("version").is_some() && !of_balancer };

    let address = ["http", "identity"].iter().find_map(|part| in_context(part)?.get("sourceIp")?.as_str());
    aside.peer = address.and_then(|address| address.parse().ok());

    let path_field = if of_v2 { "rawPath" } else { "path" };
    let path = fields.get(path_field).and_then(Value::as_str).unwrap_or_default();
    let path = request_path(path, stage.as_deref(), base_path, decoded);
    fields.insert(path_field.to_owned(), Value::String(path));
    if let Some(Value::Object(context)) = fields.get_mut("requestContext") {
        // The path has no stage any more, and is not to get it back; names are for links that nobody makes.
        context.remove("stage");
        context.remove("domainName");
    }
    if of_v2 {
        if let Some(Value::String(query)) = fields.get_mut("rawQueryString") {
            *query = escaped(query, |byte| is_path_byte(byte) || byte == b'?');
        }
        if let Some(Value::Object(headers)) = fields.get_mut("headers") {
            aside.host = headers.remove("host").and_then(|host| host.as_str()?.parse().ok());
        }
    } else {
        repeated(fields, "headers", "multiValueHeaders");
        repeated(fields, "queryStringParameters", "multiValueQueryStringParameters");
    }
    (event, aside)
}

/// The request with path and host as they were, with who asked, and with Lambda's own id if it came with none.
pub(super) fn restored(mut request: Request, aside: &Aside) -> Request {
    let query = request.uri().query().map_or_else(String::new, |query| format!("?{query}"));
    if let Ok(uri) = Uri::try_from(format!("{}{query}", request.raw_http_path())) {
        *request.uri_mut() = uri;
    }
    if let Some(host) = &aside.host {
        request.headers_mut().insert(HOST, host.clone());
    }
    // A load balancer says it in a header alone, and adds it to what the client may have made up.
    let forwarded = request.headers().get_all("x-forwarded-for").iter().next_back().and_then(|all| all.to_str().ok());
    let last = forwarded.and_then(|all| all.rsplit(',').next()?.trim().parse().ok());
    if let Some(peer) = aside.peer.or(last) {
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer, 0)));
    }
    let id = request.lambda_context_ref().and_then(|context| context.request_id.parse().ok());
    if let Some(id) = id {
        request.headers_mut().entry("x-request-id").or_insert(id);
    }
    request
}

/// Leaves only the field that can say all: what is there once moves into the one with lists, unless that has it already.
fn repeated(fields: &mut Map<String, Value>, once: &str, lists: &str) {
    let single = fields.remove(once);
    let filled = |value: &Value| value.as_object().is_some_and(|values| !values.is_empty());
    let values = match (fields.remove(lists).filter(filled), single) {
        (Some(Value::Object(values)), _) => values,
        (_, Some(Value::Object(values))) => values.into_iter().map(|(name, value)| (name, Value::Array(vec![value]))).collect(),
        _ => Map::new(),
    };
    fields.insert(lists.to_owned(), Value::Object(values));
}

/// The path that the router knows: no base path, no stage, percent-encoded once.
fn request_path(raw: &str, stage: Option<&str>, base_path: &str, decoded: bool) -> String {
    let mut path = if raw.starts_with('/') { raw.to_owned() } else { format!("/{raw}") };
    if let Some(rest) = without(&path, base_path) {
        path = rest;
    }
    if let Some(rest) = stage.and_then(|stage| without(&path, &format!("/{stage}")))
        // A stage may be named as one of our paths begins.
        && (is_ours(&rest) || !is_ours(&path))
    {
        path = rest;
    }
    if decoded { encoded(&path) } else { escaped(&path, is_path_byte) }
}

/// What follows a prefix of whole segments; `None` if it has no such prefix.
fn without(path: &str, prefix: &str) -> Option<String> {
    let rest = path.strip_prefix(prefix).filter(|_| !prefix.is_empty())?;
    match rest.as_bytes().first() {
        None => Some("/".to_owned()),
        Some(b'/') => Some(rest.to_owned()),
        Some(_) => None,
    }
}

fn is_ours(path: &str) -> bool {
    path.split('/').nth(1).is_some_and(|root| ROOTS.contains(&root))
}

/// A path that was decoded, encoded again. A store's id may hold slashes, so it is found by what stands around it.
fn encoded(path: &str) -> String {
    let segment = |text: &str| escaped(text, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let Some(rest) = path.strip_prefix(STORES).filter(|rest| !rest.is_empty()) else {
        return path.split('/').map(segment).collect::<Vec<_>>().join("/");
    };
    match rest.strip_suffix(WINDOWS).filter(|store| !store.is_empty()) {
        Some(store) => format!("{STORES}{}{WINDOWS}", segment(store)),
        None => format!("{STORES}{}", segment(rest)),
    }
}

/// The same with every byte but the allowed ones percent-encoded.
fn escaped(text: &str, allowed: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if allowed(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// What may stand in a path as it is (RFC 3986), and the sign of what may not.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte)
}
