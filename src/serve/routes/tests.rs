//! The routes over a view in a test's hand.

use std::time::Duration;

use axum::body::to_bytes;
use axum::http::header::IF_NONE_MATCH;
use futures_util::StreamExt;
use storeflow_dataflows::table::Table;
use tower::ServiceExt;

use super::*;
use crate::serve::admission::{Admission, AdmissionSettings};
use crate::serve::api::ApiSettings;
use crate::serve::keys::{digest_of, new_key};
use crate::serve::testing::{Fake, block_on, ms};

struct Asked {
    api: Arc<Api>,
    router: Router,
}

#[derive(Debug)]
struct Got {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

fn over(fake: &Arc<Fake>) -> Asked {
    with(fake, ApiSettings::default(), AdmissionSettings::default())
}

fn with(fake: &Arc<Fake>, settings: ApiSettings, admission: AdmissionSettings) -> Asked {
    let admission = Admission::open(admission).expect("settings");
    let api = Api::new(Arc::clone(fake) as _, admission, settings);
    Asked { router: router(Arc::clone(&api)), api }
}

impl Asked {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let Ok(response) = self.router.clone().oneshot(request.body(Body::empty()).expect("a request")).await;
        response
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Got {
        let response = self.send(method, path, headers).await;
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.expect("a body");
        let body = String::from_utf8_lossy(&body).into_owned();
        Got { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Got {
        self.ask("GET", path, &[]).await
    }

    /// A problem of this code, with all that a problem has.
    async fn problem(&self, path: &str, code: Code) -> serde_json::Value {
        let got = self.get(path).await;
        let document = got.json();
        assert_eq!((got.status, &document["code"]), (code.status().as_u16(), &code.text().into()), "{path}: {got:?}");
        assert_eq!(got.header("content-type"), "application/problem+json");
        assert_eq!(document["request_id"], got.header("x-request-id"));
        assert_eq!((&document["title"], &document["status"]), (&code.title().into(), &got.status.into()));
        document
    }
}

#[test]
fn a_store_is_answered_with_its_numbers_and_freshness() {
    block_on(async {
        let asked = over(&Fake::mall());
        let got = asked.get("/v1/stores/1042").await;
        assert_eq!((got.status, got.header("content-type")), (200, "application/json"), "{got:?}");
        let answer = got.json();
        assert_eq!(answer["product_count"], 118);
        assert_eq!(answer["today"]["closed"]["payments"][0]["sum"], "19800.00");
        assert_eq!(answer["today"]["open"]["clicks"][0]["count"], 17);
        assert_eq!(answer["newest_closed_window"]["payments"][0]["sum"], "9900.00");
        assert_eq!(answer["fresh"]["exact_until"], "2026-11-25T05:30:00Z");
        assert_eq!(got.header("cache-control"), "no-cache");
        // Any text is an id.
        assert_eq!(asked.get("/v1/stores/a%2Fb%20%C3%BC").await.json()["store"], "a/b ü");
        let unknown = asked.problem("/v1/stores/43", Code::UnknownStore).await;
        assert!(unknown["detail"].as_str().is_some_and(|detail| !detail.contains("43")), "{unknown}");
        asked.problem("/v1/stores/%FF", Code::BadParameter).await;
        asked.problem("/v1/stores/43/windows", Code::UnknownStore).await;
    });
}

#[test]
fn a_client_that_has_the_newest_answer_gets_no_other() {
    block_on(async {
        let fake = Fake::mall();
        let asked = over(&fake);
        for path in ["/v1/stores/1042", "/v1/stores/1042/windows", "/v1/stores", "/v1/totals", "/v1/top?measure=items_sold"] {
            let got = asked.get(path).await;
            let etag = got.header("etag").to_owned();
            assert!(etag.starts_with(&format!("W/\"3-{}-", ms("2026-11-25T05:41:07Z"))), "{path}: {etag}");
            let reads = fake.0.lock().unwrap().reads;
            for known in [etag.clone(), format!("\"x\", {etag}"), etag.trim_start_matches("W/").to_owned()] {
                let same = asked.ask("GET", path, &[(IF_NONE_MATCH.as_str(), &known)]).await;
                assert_eq!((same.status, same.body.as_str(), same.header("etag")), (304, "", etag.as_str()), "{path} {known}");
            }
            assert_eq!(fake.0.lock().unwrap().reads, reads, "nothing is read for it");
            assert_eq!(asked.ask("GET", path, &[(IF_NONE_MATCH.as_str(), "W/\"3-1-live\"")]).await.status, 200);
        }
        let known = asked.get("/v1/stores/1042").await.header("etag").to_owned();
        fake.set(|numbers| numbers.finished = true);
        let asked = over(&fake);
        assert_eq!(asked.ask("GET", "/v1/stores/1042", &[(IF_NONE_MATCH.as_str(), &known)]).await.status, 200);
        // The status has none: it moves while the as-of stands.
        assert_eq!(asked.get("/v1/status").await.header("etag"), "");
    });
}

#[test]
fn lists_that_are_behind_are_not_taken_for_the_newest() {
    block_on(async {
        let fake = Fake::mall();
        fake.set(|numbers| numbers.behind = Some(numbers.as_of - 1_000));
        let asked = over(&fake);
        for path in ["/v1/totals", "/v1/top?measure=items_sold"] {
            let got = asked.get(path).await;
            assert_eq!(got.json()["as_of"], "2026-11-25T05:41:06Z");
            let etag = got.header("etag").to_owned();
            assert_eq!(asked.ask("GET", path, &[(IF_NONE_MATCH.as_str(), &etag)]).await.status, 200, "{path}");
        }
    });
}

#[test]
fn the_window_that_is_led_is_closed_in_the_lists() {
    block_on(async {
        let fake = Fake::mall();
        fake.set(|numbers| numbers.behind = Some(ms("2026-11-25T05:31:59Z")));
        let asked = over(&fake);
        let top = asked.get("/v1/top?measure=items_sold").await.json();
        assert_eq!((&top["window"]["start"], &top["window"]["closed"]), (&"2026-11-25T04:30:00Z".into(), &true.into()));
        let named = asked.get("/v1/top?measure=items_sold&window=2026-11-25T05:00:00Z").await.json();
        assert_eq!((&named["window"]["start"], &named["window"]["closed"]), (&"2026-11-25T05:00:00Z".into(), &false.into()));
    });
}

#[test]
fn what_a_later_generation_holds_is_told_as_its_own() {
    block_on(async {
        for path in ["/v1/stores/1042", "/v1/stores/1042/windows", "/v1/totals", "/v1/top?measure=payment_sum:KRW"] {
            let fake = Fake::mall();
            let asked = over(&fake);
            let first = asked.get(path).await;
            assert!(first.header("etag").starts_with("W/\"3-"), "{}", first.header("etag"));
            // What is shown was asked for a moment ago, and nothing is kept of this view.
            let fake = Fake::mall();
            let asked = over(&fake);
            assert!(asked.api.shown().await.is_ok());
            fake.set(|numbers| (numbers.about.generation, numbers.about.scale) = (4, 0));
            let next = asked.get(path).await;
            assert!(next.header("etag").starts_with("W/\"4-"), "{path}: {}", next.header("etag"));
            let text = next.json().to_string();
            let sum = if path == "/v1/totals" { r#""12990005""# } else { r#""990000""# };
            assert!(text.contains(sum), "{path}: {text}");
        }
    });
}

#[test]
fn what_was_kept_of_a_view_that_was_taken_back_is_forgotten() {
    block_on(async {
        let fake = Fake::mall();
        let asked = over(&fake);
        let products = async || {
            tokio::time::sleep(asked.api.interval()).await;
            asked.get("/v1/stores/7").await.json()["product_count"].clone()
        };
        assert_eq!(products().await, 3);
        fake.set(|numbers| numbers.as_of -= 1_000);
        fake.products("7", 2);
        assert_eq!(products().await, 2);
        fake.set(|numbers| numbers.as_of += 1_000);
        fake.products("7", 4);
        assert_eq!(products().await, 4);
    });
}

#[test]
fn an_answer_about_a_store_is_read_once_per_as_of() {
    block_on(async {
        let fake = Fake::mall();
        let asked = over(&fake);
        let reads = || fake.0.lock().unwrap().reads;
        let first = asked.get("/v1/stores/1042").await.json();
        let read = reads();
        assert_eq!(asked.get("/v1/stores/1042").await.json(), first);
        assert_eq!(reads(), read);
        fake.cell("1042", "2026-11-25T05:30:00Z", Table::StorePayments, "KRW", (1, 1, 0));
        fake.set(|numbers| numbers.as_of += 1_000);
        tokio::time::sleep(asked.api.interval()).await;
        let next = asked.get("/v1/stores/1042").await.json();
        assert_eq!(
            (&next["as_of"], &next["today"]["open"]["payments"][0]["sum"]),
            (&"2026-11-25T05:41:08Z".into(), &"0.01".into())
        );
    });
}

#[test]
fn a_cut_that_runs_ahead_is_read_until_it_has_all_its_windows() {
    block_on(async {
        let fake = Fake::mall();
        // Two days on: another today, and another newest closed window.
        fake.cell("1042", "2026-11-27T05:00:00Z", Table::StoreSales, "", (7, 1, 1));
        fake.set(|numbers| numbers.ahead = Some(ms("2026-11-27T05:33:00Z")));
        let answer = over(&fake).get("/v1/stores/1042").await.json();
        assert_eq!((&answer["as_of"], &answer["today"]["date"]), (&"2026-11-27T05:33:00Z".into(), &"2026-11-27".into()));
        assert_eq!(answer["newest_closed_window"]["sales"]["items_sold"], 7);
        assert_eq!(answer["fresh"]["exact_until"], "2026-11-27T05:30:00Z");
    });
}

#[test]
fn windows_are_paged_and_bounded() {
    block_on(async {
        let asked = over(&Fake::mall());
        let starts = |got: &Got| -> Vec<String> {
            let answer = got.json();
            let windows = answer["windows"].as_array().expect("windows").iter();
            windows.map(|window| window["start"].as_str().expect("text")[11..16].to_owned()).collect()
        };
        let of = async |query: &str| asked.get(&format!("/v1/stores/1042/windows{query}")).await;
        assert_eq!(starts(&of("").await), ["04:30", "05:00"]);
        assert_eq!(starts(&of("?open=true").await), ["04:30", "05:00", "05:30"]);
        assert_eq!(starts(&of("?from=2026-11-25T04:30:00.001Z").await), ["05:00"]);
        assert_eq!(starts(&of("?to=2026-11-25T14:00:00%2B09:00").await), ["04:30"]);
        assert_eq!(starts(&of("?from=9999-12-31T23:59:60Z&to=0001-01-01T00:00:00Z").await), [""; 0]);
        for path in ["/v1/stores/1042/windows", "/v1/totals"] {
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            loop {
                let got = asked.get(&format!("{path}?open=true&limit=1{cursor}")).await;
                seen.extend(starts(&got));
                match got.json()["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            assert_eq!(seen, ["04:30", "05:00", "05:30"], "{path}");
        }
    });
}

#[test]
fn ids_are_paged_by_prefix() {
    block_on(async {
        let asked = over(&Fake::mall());
        let of = async |query: &str| {
            let answer = asked.get(&format!("/v1/stores{query}")).await.json();
            (answer["stores"].clone(), answer["next_cursor"].clone())
        };
        let null = serde_json::Value::Null;
        assert_eq!(of("").await, (serde_json::json!(["1042", "7", "a/b ü"]), null.clone()));
        assert_eq!(of("?limit=2").await, (serde_json::json!(["1042", "7"]), "7".into()));
        assert_eq!(of("?limit=2&cursor=7").await, (serde_json::json!(["a/b ü"]), null.clone()));
        assert_eq!(of("?prefix=a/b+").await, (serde_json::json!(["a/b ü"]), null.clone()));
        assert_eq!(of("?cursor=%00&limit=1000&prefix=").await.0, serde_json::json!(["1042", "7", "a/b ü"]));
        assert_eq!(of("?prefix=z").await, (serde_json::json!([]), null));
    });
}

#[test]
fn leaders_are_of_a_measure_and_a_window() {
    block_on(async {
        let asked = over(&Fake::mall());
        let of = async |query: &str| asked.get(&format!("/v1/top?measure={query}")).await.json();
        let leads = of("payment_sum:KRW&limit=1").await;
        assert_eq!(leads["stores"], serde_json::json!([{ "rank": 1, "store": "7", "value": "120000.00" }]));
        assert_eq!(leads["window"]["start"], "2026-11-25T05:00:00Z");
        let clicks = of("clicks:view&window=2026-11-25T14:45:00%2B09:00").await;
        assert_eq!((&clicks["window"]["closed"], &clicks["stores"][0]["value"]), (&false.into(), &"17".into()));
        assert_eq!(of("items_sold&window=0001-01-01T00:00:00Z").await["window"]["start"], "1970-01-01T00:00:00Z");
        assert_eq!(of("clicks:&window=9999-12-31T23:59:60Z").await["stores"], serde_json::json!([]));
    });
}

#[test]
fn what_no_parameter_may_be_is_refused_by_name() {
    block_on(async {
        let asked = over(&Fake::mall());
        for (path, names) in [
            ("/v1/stores?limit=0", "limit"),
            ("/v1/stores?limit=1001", "limit"),
            ("/v1/stores?limit=%2B5", "limit"),
            ("/v1/stores?limit=5&limit=5", "twice"),
            ("/v1/stores?limt=5", "limt"),
            ("/v1/stores/1042?open=true", "open"),
            ("/v1/stores/1042/windows?from=yesterday", "from"),
            ("/v1/stores/1042/windows?open=1", "open"),
            ("/v1/stores/1042/windows?cursor=-1", "cursor"),
            ("/v1/totals?cursor=1234567890123456789", "cursor"),
            ("/v1/top", "measure"),
            ("/v1/top?measure=sums", "measure"),
            ("/v1/top?measure=items_sold&limit=101", "limit"),
            ("/v1/top?measure=items_sold&window=", "window"),
            ("/v1/status?x", "x"),
            ("/v1/stream?stores=1", "stores"),
        ] {
            let problem = asked.problem(path, Code::BadParameter).await;
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(names)), "{path}: {problem}");
        }
    });
}

#[test]
fn a_view_that_does_not_answer_is_said_to_be() {
    block_on(async {
        let fake = Fake::mall();
        fake.set(|numbers| numbers.nothing = true);
        let asked = over(&fake);
        asked.problem("/v1/stores/1042", Code::NoView).await;
        assert_eq!((asked.get("/readyz").await.status, asked.get("/healthz").await.body.as_str()), (503, "ok\n"));
        fake.set(|numbers| numbers.nothing = false);
        let asked = over(&fake);
        assert_eq!(asked.get("/readyz").await.body, "ok\n");
        // What was read before it failed is no answer to a question that would be read now.
        fake.set(|numbers| numbers.down = true);
        for path in
            ["/v1/stores/7", "/v1/stores/7/windows", "/v1/stores", "/v1/totals", "/v1/top?measure=items_sold", "/v1/status"]
        {
            asked.problem(path, Code::ViewUnavailable).await;
            assert_eq!(asked.get(path).await.header("retry-after"), "1");
        }
        tokio::time::sleep(asked.api.interval()).await;
        assert_eq!(asked.get("/readyz").await.status, 503);
        fake.set(|numbers| (numbers.down, numbers.panics) = (false, true));
        tokio::time::sleep(asked.api.interval()).await;
        asked.problem("/v1/stores/7", Code::Internal).await;
        fake.set(|numbers| (numbers.panics, numbers.slow) = (false, Some(Duration::from_secs(3_600))));
        let hasty = AdmissionSettings { request_timeout: Duration::from_millis(20), ..AdmissionSettings::default() };
        with(&fake, ApiSettings::default(), hasty).problem("/v1/totals", Code::Timeout).await;
    });
}

#[test]
fn other_paths_and_methods_are_problems() {
    block_on(async {
        let asked = over(&Fake::mall());
        for path in ["/v1/nothing", "/v2", "/v1/stores/", "/v1/stores/1/2"] {
            asked.problem(path, Code::NotFound).await;
        }
        for path in ["/v1/stores", "/v1/stores/1042", "/v1/status", "/healthz", "/openapi.json"] {
            for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
                let got = asked.ask(method, path, &[]).await;
                assert_eq!((got.status, got.header("allow")), (405, "GET, HEAD, OPTIONS"), "{method} {path}");
                assert_eq!(got.json()["code"], "method_not_allowed");
            }
            let options = asked.ask("OPTIONS", path, &[]).await;
            assert_eq!((options.status, options.header("allow")), (204, "GET, HEAD, OPTIONS"), "{path}");
            let (get, head) = (asked.get(path).await, asked.ask("HEAD", path, &[]).await);
            assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
            assert_eq!((head.header("content-type"), head.header("etag")), (get.header("content-type"), get.header("etag")));
        }
        let head = asked.ask("HEAD", "/v1/stores/43", &[]).await;
        assert_eq!((head.status, head.body.as_str(), head.header("content-type")), (404, "", "application/problem+json"));
    });
}

#[test]
fn every_answer_has_an_id() {
    block_on(async {
        let asked = over(&Fake::mall());
        let id = async |id: &str| asked.ask("GET", "/v1/stores", &[("x-request-id", id)]).await.header("x-request-id").to_owned();
        for own in ["a", "1-67891233:abc.def_0", &"x".repeat(128)] {
            assert_eq!(id(own).await, own);
        }
        let mut new = vec![asked.get("/nothing").await.header("x-request-id").to_owned()];
        for other in ["", "a b", "a\tb", "<b>", &"x".repeat(129)] {
            new.push(id(other).await);
        }
        assert!(new.iter().all(|id| id.len() > 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')), "{new:?}");
        new.sort();
        new.dedup();
        assert_eq!(new.len(), 6);
    });
}

#[test]
fn long_answers_are_packed_for_those_who_take_it() {
    block_on(async {
        let asked = over(&Fake::mall());
        let packed = [("accept-encoding", "gzip")];
        let long = asked.ask("GET", "/openapi.json", &packed).await;
        assert_eq!((long.status, long.header("content-encoding")), (200, "gzip"));
        assert!(long.headers.get_all(header::VARY).iter().any(|vary| vary == "accept-encoding"));
        assert_eq!(asked.get("/openapi.json").await.header("content-encoding"), "");
        assert_eq!(asked.ask("GET", "/v1/stores", &packed).await.header("content-encoding"), "");
    });
}

#[test]
fn the_document_says_what_there_is() {
    block_on(async {
        let document = over(&Fake::mall()).get("/openapi.json").await.json();
        let (_, table) = include_str!("../../../docs/api.md").split_once("## Endpoints").expect("endpoints");
        let (table, _) = table.split_once("## Answers").expect("answers");
        let mut documented: Vec<&str> = table.split("`GET ").skip(1).filter_map(|cell| cell.split(['`', '?']).next()).collect();
        documented.retain(|path| path.starts_with("/v1/"));
        documented.sort_unstable();
        let paths = document["paths"].as_object().expect("paths");
        let mut described: Vec<&str> = paths.keys().map(String::as_str).collect();
        described.sort_unstable();
        assert_eq!(described, documented);
        for (path, item) in paths {
            for status in ["200", "400", "413", "414", "431", "500", "503"] {
                assert!(item["get"]["responses"][status].is_object(), "{path} {status}");
            }
            assert!(item["get"]["security"].is_null(), "there are no keys here");
        }
        let limit = paths["/v1/stores"]["get"]["parameters"].as_array().expect("parameters");
        let limit = limit.iter().find(|parameter| parameter["name"] == "limit").expect("a limit");
        assert_eq!(
            (&limit["schema"]["minimum"], &limit["schema"]["maximum"], &limit["required"]),
            (&1.into(), &1000.into(), &false.into())
        );
        let measure = &paths["/v1/top"]["get"]["parameters"][0];
        assert_eq!((&measure["name"], &measure["required"]), (&"measure".into(), &true.into()));
    });
}

/// The events of a stream until one is not there yet.
async fn next_event(body: &mut axum::body::BodyDataStream) -> Option<(String, String, serde_json::Value)> {
    let text = String::from_utf8(body.next().await?.expect("a chunk").to_vec()).expect("UTF-8");
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    Some((field("event"), field("id"), serde_json::from_str(&field("data")).expect("JSON")))
}

#[test]
fn a_stream_sends_each_new_as_of_and_ends_with_the_server() {
    block_on(async {
        let fake = Fake::mall();
        let asked = with(&fake, ApiSettings { streams_max: 2, ..ApiSettings::default() }, AdmissionSettings::default());
        let poller = tokio::spawn(Arc::clone(&asked.api).poll());
        let response = asked.send("GET", "/v1/stream?store=1042", &[("accept-encoding", "gzip")]).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &HeaderValue::from_static("text/event-stream"))
        );
        assert!(!response.headers().contains_key("content-encoding"));
        let mut store = response.into_body().into_data_stream();
        let mut status = asked.send("GET", "/v1/stream", &[]).await.into_body().into_data_stream();
        asked.problem("/v1/stream", Code::TooManyStreams).await;
        let (name, id, data) = next_event(&mut store).await.expect("an event");
        assert_eq!((name.as_str(), id.as_str()), ("store", ms("2026-11-25T05:41:07Z").to_string().as_str()));
        assert_eq!(data, asked.get("/v1/stores/1042").await.json());
        let (name, _, data) = next_event(&mut status).await.expect("an event");
        assert_eq!((name.as_str(), &data["job"]), ("status", &"mall".into()));
        // One who is slow gets the newest alone.
        for _ in 0..3 {
            fake.set(|numbers| numbers.as_of += 1_000);
            tokio::time::sleep(asked.api.interval() * 2).await;
        }
        let (_, _, data) = next_event(&mut store).await.expect("an event");
        assert_eq!(data["as_of"], "2026-11-25T05:41:10Z");
        // The end of the job is news as well, and it is told also if it cannot be read at once: no other news will come.
        fake.set(|numbers| (numbers.finished, numbers.fails) = (true, true));
        let (_, _, data) = next_event(&mut store).await.expect("an event");
        assert_eq!((&data["as_of"], &data["fresh"]["state"]), (&"2026-11-25T05:41:10Z".into(), &"finished".into()));
        asked.api.drain();
        assert!(next_event(&mut store).await.is_none());
        poller.await.expect("it ends as well");
        assert_eq!(asked.get("/readyz").await.body, "draining\n");
        drop((store, status));
        drop(asked.api.stream_permit().expect("room again"));
    });
}

#[test]
fn where_nobody_polls_a_stream_is_one_event() {
    block_on(async {
        let asked = over(&Fake::mall());
        let mut stream = asked.send("GET", "/v1/stream?store=7", &[]).await.into_body().into_data_stream();
        assert_eq!(next_event(&mut stream).await.expect("an event").0, "store");
        assert!(next_event(&mut stream).await.is_none());
        asked.problem("/v1/stream?store=8", Code::UnknownStore).await;
    });
}

#[test]
fn keys_see_what_they_may() {
    block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("keys.toml");
        let (all, some) = (new_key().expect("random"), new_key().expect("random"));
        let hash = |key: &str| digest_of(key).0.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let entries = format!(
            "[[key]]\nid = \"all\"\nsha256 = \"{}\"\n[[key]]\nid = \"some\"\nsha256 = \"{}\"\nstores = [\"1042\", \"8\", \"7\"]\n",
            hash(&all),
            hash(&some)
        );
        std::fs::write(&file, entries).expect("written");
        let settings = AdmissionSettings { keys: Some(file), ..AdmissionSettings::default() };
        let asked = with(&Fake::mall(), ApiSettings::default(), settings);
        let by = async |key: &str, path: &str| {
            let got = asked.ask("GET", path, &[("x-api-key", key)]).await;
            let code = got.json()["code"].as_str().unwrap_or("fine").to_owned();
            (code, got)
        };
        for path in ["/v1/stores/1042", "/v1/stores", "/v1/status", "/v1/stream", "/nothing"] {
            asked.problem(path, Code::NoKey).await;
        }
        for path in ["/v1/top?measure=items_sold", "/v1/totals", "/v1/status", "/v1/stream"] {
            assert_eq!(by(&some, path).await.0, "all_stores_not_allowed", "{path}");
        }
        for path in ["/v1/top?measure=items_sold", "/v1/totals", "/v1/status"] {
            assert_eq!(by(&all, path).await.0, "fine", "{path}");
        }
        // Whether another store is there, nobody is told.
        for store in ["a%2Fb%20%C3%BC", "43"] {
            for path in
                [format!("/v1/stores/{store}"), format!("/v1/stores/{store}/windows"), format!("/v1/stream?store={store}")]
            {
                assert_eq!(by(&some, &path).await.0, "store_not_allowed", "{path}");
            }
        }
        assert_eq!(by(&some, "/v1/stores/8").await.0, "unknown_store");
        let (_, store) = by(&some, "/v1/stores/1042").await;
        assert_eq!((store.header("cache-control"), store.header("vary")), ("private, no-cache", "authorization, x-api-key"));
        let ids = async |query: &str| {
            let answer = by(&some, &format!("/v1/stores{query}")).await.1.json();
            (answer["stores"].clone(), answer["next_cursor"].clone())
        };
        assert_eq!(ids("").await, (serde_json::json!(["1042", "7"]), serde_json::Value::Null));
        assert_eq!(ids("?limit=1").await, (serde_json::json!(["1042"]), "1042".into()));
        assert_eq!(ids("?limit=1&cursor=1042").await, (serde_json::json!(["7"]), serde_json::Value::Null));
        assert_eq!(ids("?prefix=7").await.0, serde_json::json!(["7"]));
        // What it may see can change while the as-of stands.
        let etag = by(&some, "/v1/stores").await.1.header("etag").to_owned();
        for (key, status) in [(&some, 200), (&all, 304)] {
            let known = [("x-api-key", key.as_str()), (IF_NONE_MATCH.as_str(), etag.as_str())];
            assert_eq!(asked.ask("GET", "/v1/stores", &known).await.status, status);
        }
        for path in ["/healthz", "/readyz"] {
            assert_eq!(asked.get(path).await.body, "ok\n");
        }
        let document = asked.get("/openapi.json").await.json();
        let of_store = &document["paths"]["/v1/stores/{store}"]["get"];
        assert_eq!(of_store["security"], serde_json::json!([{ "bearer": [] }, { "header": [] }]));
        assert!(of_store["responses"]["401"].is_object() && of_store["responses"]["429"].is_object());
    });
}
