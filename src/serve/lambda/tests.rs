//! Events of every sender against a router that says what it was asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use base64::Engine;
use lambda_http::{Context, LambdaEvent};
use serde_json::{Value, json};

use super::answer;

const REST: &str = include_str!("../../../tests/program/events/rest_v1.json");
const HTTP: &str = include_str!("../../../tests/program/events/http_v2.json");
const FUNCTION_URL: &str = include_str!("../../../tests/program/events/function_url.json");
const BALANCER: &str = include_str!("../../../tests/program/events/alb.json");
const BALANCER_MULTI: &str = include_str!("../../../tests/program/events/alb_multi.json");
const HEALTH: &str = include_str!("../../../tests/program/events/alb_health.json");
const ALL: [&str; 5] = [REST, HTTP, FUNCTION_URL, BALANCER, BALANCER_MULTI];

/// Says which store it was asked for, and how.
async fn told(path: Option<Path<String>>, Query(query): Query<Vec<(String, String)>>, request: Request) -> impl IntoResponse {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_string());
    let query: BTreeMap<String, String> = query.into_iter().collect();
    let headers: Vec<(String, String)> =
        request.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().expect("ASCII").to_owned())).collect();
    let path = path.map(|Path(store)| store);
    axum::Json(json!({ "store": path, "path": request.uri().path(), "query": query, "headers": headers, "peer": peer }))
}

fn router() -> Router {
    Router::new()
        .route("/v1/stores/{store}", get(told))
        .route("/v1/stores/{store}/windows", get(told))
        .route("/v1/stores", get(told))
        .route("/healthz", get(told))
        .route("/", get(told))
        .route("/assets/picture", get(|| async { ([(CONTENT_TYPE, "image/png")], vec![0xff, 0x00, 0x80]) }))
        .route(
            "/assets/packed",
            get(|| async { ([(CONTENT_TYPE, "text/css"), (CONTENT_ENCODING, "gzip")], vec![0x1f, 0x8b, 0xff]) }),
        )
        .route("/v1/status", get(|| async { (StatusCode::IM_A_TEAPOT, [(CONTENT_TYPE, "application/problem+json")], "상점 🛒") }))
}

fn ask(event: Value) -> Value {
    ask_below("", event)
}

fn ask_below(base_path: &str, event: Value) -> Value {
    let mut context = Context::default();
    context.request_id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let answer = runtime.block_on(answer(router(), base_path, LambdaEvent::new(event, context))).expect("an event that is known");
    serde_json::to_value(answer).expect("JSON")
}

/// What the router was asked.
fn asked(event: Value) -> Value {
    let answer = ask(event);
    assert_eq!(answer["statusCode"], 200, "{answer}");
    serde_json::from_str(answer["body"].as_str().expect("text")).expect("JSON")
}

fn parsed(event: &str) -> Value {
    serde_json::from_str(event).expect("JSON")
}

/// An event with another path, given as it arrives.
fn at(event: &str, path: &str) -> Value {
    let mut event = parsed(event);
    let field = if event["requestContext"]["http"].is_object() { "rawPath" } else { "path" };
    event[field] = json!(path);
    event
}

#[test]
fn all_senders_ask_the_same() {
    for event in ALL {
        let asked = asked(parsed(event));
        assert_eq!(asked["store"], "1042");
        assert_eq!(asked["path"], "/v1/stores/1042/windows");
        assert_eq!(asked["query"], json!({ "from": "2026-11-25T14:00:00+09:00", "limit": "5" }));
        let headers = asked["headers"].to_string();
        for header in ["user-agent", "x-forwarded-for", "host", "accept-encoding"] {
            assert!(headers.contains(&format!("[\"{header}\"")), "{header} of {headers}");
        }
        assert!(headers.contains("[\"x-request-id\",\"8476a536-e9f4-11e8-9739-2dfe598c3fcd\"]"), "{headers}");
        // A balancer without lists sends the last of repeated headers only.
        let first = headers.contains("W/\\\"1\\\"");
        assert_eq!(first, event != BALANCER, "{headers}");
        assert!(headers.contains("W/\\\"2\\\""), "{headers}");
    }
    assert_eq!(asked(parsed(HEALTH))["path"], "/healthz");
}

#[test]
fn who_asked_is_who_the_sender_says() {
    for event in ALL {
        assert_eq!(asked(parsed(event))["peer"], "203.0.113.77", "{event}");
    }
    for (event, field) in [(BALANCER, "headers"), (BALANCER_MULTI, "multiValueHeaders")] {
        let mut event = parsed(event);
        let made_up = "10.0.0.1, 198.51.100.9";
        event[field]["x-forwarded-for"] = if field == "headers" { json!(made_up) } else { json!(["10.0.0.2", made_up]) };
        assert_eq!(asked(event)["peer"], "198.51.100.9");
    }
    assert_eq!(asked(parsed(HEALTH))["peer"], Value::Null);
}

#[test]
fn a_clients_own_request_id_stays() {
    for (event, lists) in [(REST, true), (HTTP, false), (BALANCER, false), (BALANCER_MULTI, true)] {
        let mut event = parsed(event);
        if lists {
            event["multiValueHeaders"]["x-request-id"] = json!(["mine"]);
        } else {
            event["headers"]["x-request-id"] = json!("mine");
        }
        let headers = asked(event)["headers"].to_string();
        assert!(headers.contains("[\"x-request-id\",\"mine\"]") && !headers.contains("8476a536"), "{headers}");
    }
}

#[test]
fn odd_ids_arrive_from_those_who_send_paths_as_they_are() {
    let ids = [
        ("%EC%83%81%EC%A0%90%20%F0%9F%9B%92", "상점 🛒"),
        ("a%2Fb", "a/b"),
        ("a%20b", "a b"),
        ("50%25", "50%"),
        ("a%3Fb%23c", "a?b#c"),
        ("%2541", "%41"),
        ("a+b", "a+b"),
        ("..", ".."),
        ("%2E%2E", ".."),
        (".", "."),
        ("a%2Fwindows", "a/windows"),
        ("%00%7F", "\u{0}\u{7f}"),
    ];
    for event in [REST, FUNCTION_URL, BALANCER, BALANCER_MULTI] {
        for (sent, id) in ids {
            for end in ["", "/windows"] {
                let asked = asked(at(event, &format!("/v1/stores/{sent}{end}")));
                assert_eq!(asked["store"], id, "{sent} of {event}");
                assert_eq!(asked["path"], format!("/v1/stores/{sent}{end}"));
            }
        }
    }
}

#[test]
fn http_apis_decode_paths_and_are_understood() {
    // What arrives, as it was decoded on the way.
    for id in ["상점 🛒", "a/b", "a b", "50%", "a#b", "%41", "a+b", "..", "windows", "a//b"] {
        for end in ["", "/windows"] {
            assert_eq!(asked(at(HTTP, &format!("/v1/stores/{id}{end}")))["store"], id, "{id}{end}");
            let mut of_v1 = at(REST, &format!("/v1/stores/{id}{end}"));
            of_v1["version"] = json!("1.0");
            assert_eq!(asked(of_v1)["store"], id, "{id}{end}");
        }
    }
}

#[test]
fn odd_queries_arrive() {
    let with = |event: &str, decoded: &str, sent: &str| {
        let mut event = parsed(event);
        for (field, once) in [("queryStringParameters", true), ("multiValueQueryStringParameters", false)] {
            let value = if event["requestContext"]["elb"].is_object() { sent } else { decoded };
            if event[field].is_object() {
                event[field] = if once { json!({ "prefix": value }) } else { json!({ "prefix": [value] }) };
            }
        }
        if event["rawQueryString"].is_string() {
            event["rawQueryString"] = json!(format!("prefix={sent}"));
        }
        event
    };
    let texts = [
        ("상점 🛒", "%EC%83%81%EC%A0%90%20%F0%9F%9B%92"),
        ("a,b", "a,b"),
        ("a b", "a+b"),
        ("a+b", "a%2Bb"),
        ("50%", "50%25"),
        ("%41", "%2541"),
        ("a&b=c", "a%26b%3Dc"),
        ("a=b", "a=b"),
        ("?a/b#", "?a/b%23"),
        ("", ""),
    ];
    for event in ALL {
        for (decoded, sent) in texts {
            assert_eq!(asked(with(event, decoded, sent))["query"]["prefix"], decoded, "{sent} of {event}");
        }
        // What no browser sends, and clients may: it fails at the router, or not at all.
        assert_eq!(asked(with(event, "a b\"<", "a b\"<"))["query"]["prefix"], "a b\"<", "{event}");
    }
}

#[test]
fn stages_and_base_paths_are_no_part_of_a_path() {
    let staged = |event: &str, stage: &str, path: &str| {
        let mut event = at(event, path);
        event["requestContext"]["stage"] = json!(stage);
        event
    };
    for (stage, path, seen) in [
        ("prod", "/prod/v1/stores/7", "/v1/stores/7"),
        ("prod", "/v1/stores/7", "/v1/stores/7"),
        ("prod", "/prod/", "/"),
        ("prod", "/prod", "/"),
        ("v1", "/v1/v1/stores/7", "/v1/stores/7"),
        ("v1", "/v1/stores/7", "/v1/stores/7"),
        ("v1", "/v1", "/"),
        ("v", "/v1/stores/7", "/v1/stores/7"),
        ("$default", "/v1/stores/7", "/v1/stores/7"),
    ] {
        for event in [REST, HTTP] {
            assert_eq!(asked(staged(event, stage, path))["path"], seen, "{path} of {stage}");
        }
    }
    for (path, seen) in [("/numbers/v1/stores/7", "/v1/stores/7"), ("/v1/stores/7", "/v1/stores/7"), ("/numbers", "/")] {
        for event in ALL {
            let answer = ask_below("/numbers", at(event, path));
            let body = answer["body"].as_str().expect("text");
            assert!(body.contains(&format!("\"path\":\"{seen}\"")), "{path}: {body}");
        }
    }
    // What begins like a stage is none.
    let answer = ask(staged(HTTP, "prod", "/production/v1/stores/7"));
    assert_eq!(answer["statusCode"], 404);
}

#[test]
fn what_is_no_text_is_base64_and_says_so() {
    for event in ALL {
        for (path, bytes) in [("/assets/picture", vec![0xff, 0x00, 0x80]), ("/assets/packed", vec![0x1f, 0x8b, 0xff])] {
            let answer = ask(at(event, path));
            assert_eq!(answer["isBase64Encoded"], true, "{answer}");
            let body = base64::engine::general_purpose::STANDARD.decode(answer["body"].as_str().expect("text")).expect("base64");
            assert_eq!(body, bytes);
        }
        let answer = ask(at(event, "/v1/status"));
        assert_eq!(
            (&answer["statusCode"], &answer["isBase64Encoded"], &answer["body"]),
            (&json!(418), &json!(false), &json!("상점 🛒"))
        );
    }
}

#[test]
fn answers_have_the_shape_of_their_sender() {
    let header = "content-type";
    let rest = ask(parsed(REST));
    assert_eq!((&rest["multiValueHeaders"][header], &rest["headers"]), (&json!(["application/json"]), &json!({})));
    for event in [HTTP, FUNCTION_URL] {
        assert_eq!(ask(parsed(event))["headers"][header], "application/json");
    }
    for event in [BALANCER, BALANCER_MULTI] {
        let answer = ask(parsed(event));
        assert_eq!(answer["statusDescription"], "200 OK");
        assert_eq!(answer["headers"][header], "application/json");
        assert_eq!(answer["multiValueHeaders"][header], json!(["application/json"]));
    }
}

#[test]
fn a_host_that_is_none_stops_nobody() {
    for host in ["[", "a b", "xn--a", "", "mall.example:99999", "#?/"] {
        for event in ALL {
            let mut event = parsed(event);
            for (field, value) in [("headers", json!(host)), ("multiValueHeaders", json!([host]))] {
                if let Some(headers) = event[field].as_object_mut() {
                    headers.retain(|name, _| !name.eq_ignore_ascii_case("host"));
                    headers.insert("host".to_owned(), value);
                }
            }
            assert_eq!(asked(event)["store"], "1042");
        }
    }
}

#[test]
fn what_is_no_event_is_an_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for event in [json!({}), json!(null), json!("x"), json!({ "Records": [] }), json!({ "requestContext": 1, "path": 2 })] {
        let answered = runtime.block_on(answer(router(), "", LambdaEvent::new(event, Context::default())));
        assert!(answered.is_err());
    }
}
