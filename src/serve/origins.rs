//! Pages of which origins may ask from a browser (CORS).
//!
//! Upholds: (1) a page of an origin that is neither listed nor the server's own gets nothing, not even from what a browser would
//! send without asking first; (2) a page that may ask can read problems and their headers as well; (3) no answer for one origin is
//! kept for another.
//! Absent on purpose: credentials. Keys are sent by the page itself, never by the browser on its behalf, so that no page can
//! ask in the name of whoever looks at it. A request without `Origin` is no page's, or one whose answer no page can read.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::{Code, Problem};

const EXPOSED: &str = "etag, retry-after, x-request-id";
const METHODS: &str = "GET, HEAD, OPTIONS";
const HEADERS: &str = "authorization, x-api-key, if-none-match, last-event-id, x-request-id, cache-control";
/// How long a browser need not ask again, seconds. Browsers cap it themselves.
const MAX_AGE: &str = "3600";

/// An origin as browsers write it: scheme and host, the port if it is not the scheme's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(String);

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Origin, String> {
        let wrong = || "is no origin; write scheme and host, such as https://a.example or http://localhost:5173".to_owned();
        let text = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
        let (scheme, host) = text.split_once("://").ok_or_else(wrong)?;
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let whole = uri.authority().is_some_and(|authority| authority.as_str() == host && !host.contains('@'));
        if !whole || uri.host().is_none_or(str::is_empty) || !matches!(scheme, "http" | "https") {
            return Err(wrong());
        }
        Ok(Origin(format!("{scheme}://{}", without_default_port(scheme, host))))
    }
}

/// Which pages may ask.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// Those besides the server's own.
    pub listed: BTreeSet<Origin>,
}

/// Answers what browsers ask first, refuses pages that may not ask, and lets the others read what they get.
pub(super) async fn check(State(origins): State<Arc<Origins>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let Some(origin) = headers.get(header::ORIGIN).cloned() else {
        let mut response = next.run(request).await;
        if !origins.listed.is_empty() {
            vary(&mut response);
        }
        return response;
    };
    let listed = origins.lists(&origin);
    if !listed && !is_own(&origin, headers, request.uri()) {
        let detail = "list the page's origin with --cors-origin, or ask from a page of this server";
        let mut response = Problem::new(Code::OriginNotAllowed, detail).into_response();
        vary(&mut response);
        return response;
    }
    let preflight = request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight { answer_preflight() } else { next.run(request).await };
    vary(&mut response);
    if listed {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    response
}

impl Origins {
    /// Whether this machine is asked by a name of its own: an address, `localhost`, or the host of a listed origin. A page whose
    /// name was made to lead here (DNS rebinding) has this server's origin to its browser, and asks by that name.
    pub(super) fn know_host(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        // Browsers always say whom they ask.
        let Some(asked) = host_of(headers, uri) else { return true };
        let Ok(asked) = asked.to_ascii_lowercase().parse::<Authority>() else { return false };
        let host = asked.host();
        let listed =
            || self.listed.iter().any(|Origin(origin)| origin.parse().is_ok_and(|origin: Uri| origin.host() == Some(host)));
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        address || host == "localhost" || host.ends_with(".localhost") || listed()
    }

    fn lists(&self, origin: &HeaderValue) -> bool {
        let origin = origin.to_str().ok().and_then(|origin| origin.parse().ok());
        origin.is_some_and(|origin| self.listed.contains(&origin))
    }
}

/// Whether a page is the server's own: the browser says so, or its origin has the host that was asked. Older browsers do not say it,
/// and a proxy may ask for another host than the page did.
fn is_own(origin: &HeaderValue, headers: &HeaderMap, uri: &Uri) -> bool {
    if headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin") {
        return true;
    }
    let Some(Origin(origin)) = origin.to_str().ok().and_then(|origin| origin.parse().ok()) else { return false };
    let (Some((scheme, host)), Some(asked)) = (origin.split_once("://"), host_of(headers, uri)) else { return false };
    without_default_port(scheme, &asked.to_ascii_lowercase()) == host
}

/// Whom a request asks; HTTP/2 says it in the address.
fn host_of<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    host.or(uri.authority().map(|host| host.as_str()))
}

fn without_default_port<'a>(scheme: &str, host: &'a str) -> &'a str {
    let port = if scheme == "https" { ":443" } else { ":80" };
    host.strip_suffix(port).unwrap_or(host)
}

fn answer_preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn vary(response: &mut Response) {
    response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_scheme_and_host() {
        for (text, origin) in [
            ("https://a.example", "https://a.example"),
            ("https://A.example:443/", "https://a.example"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://[::1]:80", "http://[::1]"),
            ("https://a.example:80", "https://a.example:80"),
        ] {
            assert_eq!(text.parse(), Ok(Origin(origin.to_owned())), "{text}");
        }
        for text in [
            "",
            "null",
            "*",
            "a.example",
            "ftp://a.example",
            "https://",
            "https://a/b",
            "https://u@a",
            "https://a?b",
            "https://:80",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }

    #[test]
    fn own_pages_are_told_by_the_host_that_was_asked() {
        let own = |origin: &'static str, host: Option<&'static str>, uri: &str| {
            let mut headers = HeaderMap::new();
            headers.extend(host.map(|host| (header::HOST, HeaderValue::from_static(host))));
            is_own(&HeaderValue::from_static(origin), &headers, &uri.parse().expect("a URI"))
        };
        assert!(own("http://127.0.0.1:8080", Some("127.0.0.1:8080"), "/"));
        assert!(own("https://a.example", Some("A.example"), "/"));
        assert!(own("https://a.example", Some("a.example:443"), "/"));
        // HTTP/2 has no Host.
        assert!(own("https://a.example", None, "https://a.example/v1/status"));
        for origin in ["https://b.example", "http://a.example:8080", "null", "https://a.example.evil"] {
            assert!(!own(origin, Some("a.example"), "/"), "{origin}");
        }
        assert!(!own("https://a.example", None, "/"));
    }

    #[test]
    fn this_machine_is_known_by_addresses_localhost_and_what_is_listed() {
        let origins = Origins { listed: BTreeSet::from(["https://a.example:8443".parse().expect("an origin")]) };
        let known = |host: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).expect("a header"))]);
            origins.know_host(&headers, &Uri::from_static("/"))
        };
        for host in
            ["127.0.0.1:8080", "[::1]:8080", "10.0.0.1", "localhost", "LOCALHOST:1", "x.localhost", "a.example", "A.example:1"]
        {
            assert!(known(host), "{host}");
        }
        for host in
            ["evil.example:8080", "", "localhost.evil.example", "127.0.0.1.evil.example", "b.a.example", "a.example@evil", "a b"]
        {
            assert!(!known(host), "{host}");
        }
        assert!(origins.know_host(&HeaderMap::new(), &Uri::from_static("/")));
        assert!(!origins.know_host(&HeaderMap::new(), &Uri::from_static("http://evil.example/")));
    }
}
