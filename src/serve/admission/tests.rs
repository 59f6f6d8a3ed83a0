use std::convert::Infallible;
use std::fs;
use std::future::Future;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::http::StatusCode;
use axum::http::request::Builder;
use axum::routing::get;
use futures_util::stream;
use tower::ServiceExt;

use super::*;
use crate::serve::keys::new_key;

/// A router behind the layers, and the file of its keys.
struct Server {
    routes: Router,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(settings: impl FnOnce(AdmissionSettings) -> AdmissionSettings, entries: Option<&str>) -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = entries.map(|entries| {
            let path = folder.path().join("keys.toml");
            fs::write(&path, entries).expect("written");
            path
        });
        let plain = AdmissionSettings { keys, request_timeout: Duration::from_secs(60), ..AdmissionSettings::default() };
        let admission = Admission::open(settings(plain)).expect("right");
        let seen = |request: Request| async move {
            let access = request.extensions().get::<Access>().cloned();
            let read = to_bytes(request.into_body(), usize::MAX).await.expect("a body");
            format!("{access:?} {}", read.len())
        };
        let event = || stream::once(async { Ok::<_, Infallible>(Bytes::from("data: 1\n\n")) });
        let events = move || async move {
            ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(event().chain(stream::pending())))
        };
        let routes = Router::new()
            .route("/", get(seen))
            .route("/assets/x.js", get(seen))
            .route("/v1/status", get(seen))
            .route("/v1/stream", get(events))
            .route("/never", get(std::future::pending::<()>));
        Server { routes: outer_layers(inner_layer(routes, &admission), &admission), folder }
    }

    async fn ask(&self, request: Request) -> Response {
        self.routes.clone().oneshot(request).await.expect("an answer")
    }

    /// The status, or the code of the problem.
    async fn code(&self, request: Request) -> String {
        let response = self.ask(request).await;
        match response.extensions().get::<Problem>() {
            Some(problem) => problem.code.text().to_owned(),
            None => response.status().as_u16().to_string(),
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn to(path: &str) -> Builder {
    Request::get(path).header("host", "api.example")
}

fn plain(builder: Builder) -> Request {
    builder.body(Body::empty()).expect("a request")
}

fn entry(id: &str, key: &str, more: &str) -> String {
    format!("[[key]]\nid = \"{id}\"\nsha256 = \"{}\"\n{more}\n", digest_of(key).hex())
}

async fn text(response: Response) -> String {
    String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.expect("a body").to_vec()).expect("UTF-8")
}

#[test]
fn keys_are_asked_for_and_known() {
    block_on(async {
        let key = new_key().expect("random");
        let server = Server::start(|settings| settings, Some(&entry("owner-7", &key, "stores = [\"7\"]")));
        let bearer = format!("Bearer {key}");
        let status = || to("/v1/status");
        for open in ["/", "/assets/x.js"] {
            assert_eq!(server.code(plain(to(open))).await, "200", "{open}");
        }
        let refused = server.ask(plain(status())).await;
        assert_eq!(refused.headers()["www-authenticate"], "Bearer");
        for (host, (request, code)) in (1..).zip([
            (status(), "no_key"),
            (status().header("authorization", "Basic b3duZXI6"), "no_key"),
            (status().header("x-api-key", ""), "no_key"),
            // Without the layer, a path that is not there would say so to anybody.
            (to("/v1/none"), "no_key"),
            (to("/assetsx"), "no_key"),
            (status().header("x-api-key", "sfk_x"), "unknown_key"),
            (status().header("x-api-key", digest_of(&key).hex()), "unknown_key"),
            (status().header("authorization", bearer.to_uppercase()), "unknown_key"),
            (status().header("authorization", &bearer).header("x-api-key", "sfk_x"), "unknown_key"),
            (status().header("x-api-key", &key).header("x-api-key", "sfk_x"), "unknown_key"),
            (status().header("x-api-key", b"\xff".as_slice()), "unknown_key"),
            (status().header("authorization", &bearer), "200"),
            (status().header("authorization", format!("bearer  {key}")), "200"),
            (status().header("authorization", "Basic b3duZXI6").header("x-api-key", &key), "200"),
            (status().header("authorization", &bearer).header("x-api-key", &key), "200"),
            (to("/v1/none").header("x-api-key", &key), "404"),
        ]) {
            // Each from an address of its own: failures have a limit.
            let peer = ConnectInfo(SocketAddr::from(([10, 0, 0, host], 5)));
            let request = plain(request.extension(peer));
            let shown = format!("{:?} {:?}", request.uri(), request.headers());
            assert_eq!(server.code(request).await, code, "{shown}");
        }
        let seen = text(server.ask(plain(status().header("x-api-key", &key))).await).await;
        assert!(seen.contains("owner-7") && seen.contains("{\"7\"}"), "{seen}");
    });
}

#[test]
fn a_key_has_its_rate_and_wrong_ones_do_not_lock_it_out() {
    block_on(async {
        let entries = entry("slow", "a", "rate = 1") + &entry("other", "b", "");
        let server = Server::start(|settings| settings, Some(&entries));
        let with = |key: &str| plain(to("/v1/status").header("x-api-key", key));
        let refused = async |key: &'static str, code: &'static str| {
            // Many more than a burst, as time goes on meanwhile.
            for served in 0..10_000 {
                let response = server.ask(with(key)).await;
                if response.status() == StatusCode::TOO_MANY_REQUESTS {
                    assert!(response.headers().contains_key("retry-after"));
                    return served;
                }
                assert_eq!(response.extensions().get::<Problem>().map_or("200", |problem| problem.code.text()), code);
            }
            panic!("{key} was never refused");
        };
        assert!(refused("a", "200").await >= 10);
        assert!(refused("wrong", "unknown_key").await >= 10);
        assert_eq!(server.code(with("b")).await, "200");
        assert_eq!(server.code(plain(to("/"))).await, "200");
    });
}

#[test]
fn without_keys_everybody_sees_everything_as_often_as_the_rate_says() {
    block_on(async {
        let from = |host: u8| {
            let mut request = plain(to("/v1/status"));
            request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([10, 0, 0, host], 5))));
            request
        };
        let unlimited = Server::start(|settings| settings, None);
        for _ in 0..2_000 {
            assert_eq!(unlimited.code(from(1)).await, "200");
        }
        let seen = text(unlimited.ask(from(1)).await).await;
        assert_eq!(seen, format!("{:?} 0", Some(Access::everything())));
        // A page whose name was made to lead to this machine.
        let by_name = |host: [u8; 4]| {
            let mut request = plain(to("/v1/status"));
            request.extensions_mut().insert(ConnectInfo(SocketAddr::from((host, 5))));
            request
        };
        assert_eq!(unlimited.code(by_name([127, 0, 0, 1])).await, "origin_not_allowed");
        assert_eq!(unlimited.code(by_name([10, 0, 0, 1])).await, "200");
        let limited = Server::start(|settings| AdmissionSettings { rate: NonZeroU32::new(1), ..settings }, None);
        let mut served = 0;
        while limited.code(from(1)).await == "200" {
            served += 1;
            assert!(served < 10_000, "never refused");
        }
        assert_eq!(limited.code(from(2)).await, "200");
    });
}

#[test]
fn requests_have_bounds() {
    block_on(async {
        let server = Server::start(|settings| settings, None);
        let long = |length: usize| plain(to(&format!("/v1/status?{}", "x".repeat(length - "/v1/status?".len()))));
        assert_eq!(server.code(long(8192)).await, "200");
        assert_eq!(server.code(long(8193)).await, "uri_too_long");
        let head = |bytes: usize| plain(Request::get("/v1/status").header("x", "y".repeat(bytes - "x: \r\n".len())));
        assert_eq!(server.code(head(16 << 10)).await, "200");
        assert_eq!(server.code(head((16 << 10) + 1)).await, "headers_too_large");
        let body = |body: Body| to("/v1/status").body(body).expect("a request");
        let announced = |bytes: usize| to("/v1/status").header("content-length", bytes).body(Body::from("x")).expect("a request");
        let pieces = |bytes: usize| Body::from_stream(stream::iter((0..bytes).map(|_| Ok::<_, Infallible>(Bytes::from("x")))));
        assert_eq!(
            text(server.ask(body(Body::from(vec![b'x'; 16 << 10]))).await).await,
            format!("{:?} 0", Some(Access::everything()))
        );
        assert_eq!(server.code(body(Body::from(vec![b'x'; (16 << 10) + 1]))).await, "body_too_large");
        assert_eq!(server.code(announced((16 << 10) + 1)).await, "body_too_large");
        assert_eq!(server.code(body(pieces(16 << 10))).await, "200");
        assert_eq!(server.code(body(pieces((16 << 10) + 1))).await, "body_too_large");
        let endless = Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from("x"))));
        assert_eq!(server.code(body(endless)).await, "body_too_large");
        let broken = Body::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other("broken"))]));
        assert_eq!(server.code(body(broken)).await, "bad_parameter");
    });
}

#[test]
fn what_takes_too_long_is_given_up_but_no_stream() {
    block_on(async {
        let most = Duration::from_millis(20);
        let server = Server::start(|settings| AdmissionSettings { request_timeout: most, ..settings }, None);
        let late = server.ask(plain(to("/never"))).await;
        assert_eq!((late.status().as_u16(), &late.headers()["retry-after"]), (503, &HeaderValue::from_static("1")));
        assert_eq!(late.extensions().get::<Problem>().map(|problem| problem.code), Some(Code::Timeout));
        let slow = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        assert_eq!(server.code(to("/v1/status").body(slow).expect("a request")).await, "timeout");
        let mut events = server.ask(plain(to("/v1/stream"))).await.into_body().into_data_stream();
        assert!(events.next().await.is_some());
        assert!(tokio::time::timeout(most * 5, events.next()).await.is_err(), "it goes on");
    });
}

#[test]
fn a_stream_ends_with_its_key() {
    block_on(async {
        let server = Server::start(|settings| settings, Some(&(entry("a", "a", "") + &entry("b", "b", ""))));
        let stream = async |key: &str| {
            let response = server.ask(plain(to("/v1/stream").header("x-api-key", key))).await;
            let mut events = response.into_body().into_data_stream();
            assert!(events.next().await.is_some());
            events
        };
        let (mut of_a, mut of_b) = (stream("a").await, stream("b").await);
        fs::write(server.folder.path().join("keys.toml"), entry("b", "b", "rate = 7")).expect("written");
        let ended = tokio::time::timeout(Duration::from_secs(60), of_a.next()).await.expect("an end");
        assert!(ended.is_none());
        assert_eq!(server.code(plain(to("/v1/status").header("x-api-key", "a"))).await, "unknown_key");
        assert!(tokio::time::timeout(CHECK_EVERY * 2, of_b.next()).await.is_err(), "it goes on");
    });
}

#[test]
fn pages_of_other_origins_are_refused() {
    block_on(async {
        let origins = vec!["https://a.example".parse().expect("an origin")];
        let server = Server::start(|settings| AdmissionSettings { origins, ..settings }, Some(&entry("a", "a", "")));
        let with = |origin: &str| to("/v1/status").header("x-api-key", "a").header("origin", origin);
        for (request, code) in [
            (with("https://a.example"), "200"),
            (with("http://api.example"), "200"),
            (with("https://b.example").header("sec-fetch-site", "same-origin"), "200"),
            (with("https://b.example").header("sec-fetch-site", "cross-site"), "origin_not_allowed"),
            (with("https://b.example"), "origin_not_allowed"),
            (with("http://a.example"), "origin_not_allowed"),
            (with("null"), "origin_not_allowed"),
            (to("/").header("origin", "https://b.example"), "origin_not_allowed"),
        ] {
            let request = plain(request);
            let shown = format!("{:?}", request.headers());
            assert_eq!(server.code(request).await, code, "{shown}");
        }
        let allowed = server.ask(plain(with("https://a.example"))).await;
        assert_eq!(allowed.headers()["access-control-allow-origin"], "https://a.example");
        assert_eq!(allowed.headers()["access-control-expose-headers"], "etag, retry-after, x-request-id");
        assert_eq!(allowed.headers()["vary"], "origin");
        // Problems can be read by pages as well.
        let keyless = server.ask(plain(to("/v1/status").header("origin", "https://a.example"))).await;
        assert_eq!(
            (keyless.status().as_u16(), &keyless.headers()["access-control-allow-origin"]),
            (401, &HeaderValue::from_static("https://a.example"))
        );
        let own = server.ask(plain(with("http://api.example"))).await;
        assert!(!own.headers().contains_key("access-control-allow-origin"));
        let none = server.ask(plain(to("/v1/status").header("x-api-key", "a"))).await;
        assert_eq!(none.headers()["vary"], "origin");
    });
}

#[test]
fn browsers_may_ask_first_without_a_key() {
    block_on(async {
        let origins = vec!["https://a.example".parse().expect("an origin")];
        let server = Server::start(|settings| AdmissionSettings { origins, ..settings }, Some(&entry("a", "a", "")));
        let first = |origin: &str| {
            let request = Request::options("/v1/status").header("host", "api.example").header("origin", origin);
            plain(
                request.header("access-control-request-method", "GET").header("access-control-request-headers", "authorization"),
            )
        };
        let answer = server.ask(first("https://a.example")).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert_eq!(answer.headers()["access-control-allow-origin"], "https://a.example");
        assert_eq!(answer.headers()["access-control-allow-methods"], "GET, HEAD, OPTIONS");
        let allowed = answer.headers()["access-control-allow-headers"].to_str().expect("text").to_owned();
        for header in ["authorization", "x-api-key", "if-none-match", "last-event-id"] {
            assert!(allowed.contains(header), "{allowed}");
        }
        assert_eq!(server.code(first("https://b.example")).await, "origin_not_allowed");
        // No preflight: the route's own answer.
        assert_eq!(server.code(plain(Request::options("/v1/status"))).await, "405");
    });
}
