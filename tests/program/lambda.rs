//! The real function against a local Lambda runtime API and a real Redis, beside the server that answers from the same view.
//!
//! ```text
//! replay ─► Redis ─┬─► serve ─────────────► answer ─┐
//!                  ├─► storeflow-lambda ──► answer ─┴─► the same, but for what only one of them can say
//!                  └─► export ────────────────────────► the same numbers
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::binary::{storeflow, succeed, text};
use crate::support::http::{self, Answer};
use crate::support::lambda::{Function, Sender, request_id};
use crate::support::malls::Mall;
use crate::support::redis::{self, Redis};
use crate::support::running::Running;

/// Ids of stores, most of them hard on addresses.
const STORES: [&str; 9] = ["1042", "상점 🛒", "a/b", "a b", "50%", "a?b", "a,b", "%41", "a+b&c=d"];
/// 2026-11-20T00:00:00Z.
const START: u64 = 1_795_132_800_000;
const HALF_HOUR: u64 = 1_800_000;
/// Windows in which every store has numbers.
const WINDOWS: u64 = 8;

/// Settings of which nothing can be reached.
const NOWHERE: [(&str, &str); 3] =
    [("STOREFLOW_REDIS", "redis://127.0.0.1:1"), ("STOREFLOW_JOB_NAME", "mall"), ("STOREFLOW_PUBLIC", "true")];

/// A view in Redis, as a replay left it.
struct View {
    mall: Mall,
    redis: Redis,
}

impl View {
    /// Of the stores above; `None`, said by name, where there is no Redis.
    fn new(test: &str) -> Option<View> {
        let redis = redis::redis(test)?;
        let mall = Mall::empty("lambda");
        let name = &mall.name;
        let source =
            |topic: &str, rest: &str| format!("\n[[source]]\ntopic = \"{name}.{topic}\"\nstore = \"store_id\"\n{rest}\n");
        let job = [
            format!(
                "name = \"{name}\"\nwindow = \"30m\"\ngrace = \"2m\"\nretention = \"48h\"\ncurrency = \"KRW\"\n\
                 timezone = \"Asia/Seoul\"\n"
            ),
            source(
                "payments",
                "role = \"payments\"\nformat = \"upsert\"\nkey = \"id\"\namount = \"amount\"\ntime = { field = \"at\", unit = \"ms\" }",
            ),
            source("products", "role = \"products\"\nformat = \"upsert\"\nkey = \"id\""),
            source(
                "clicks",
                "role = \"clicks\"\nformat = \"json\"\nproduct = \"product\"\nkind = \"kind\"\ndistinct = true\n\
                 time = { field = \"at\", unit = \"ms\" }",
            ),
        ];
        mall.write_job(&job.concat());
        let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut write = |topic: &'static str, ts: u64, id: &str, row: Value| {
            let of = lines.entry(topic).or_default();
            let (offset, key, payload) = (of.len(), json!(json!(id).to_string()), json!(row.to_string()));
            // What begins with its topic is an envelope.
            of.push(format!(
                r#"{{"topic":"{name}.{topic}","partition":0,"offset":{offset},"ts":{ts},"key":{key},"payload":{payload}}}"#
            ));
        };
        for window in 0..WINDOWS {
            let at = START + window * HALF_HOUR + 60_000;
            for (number, store) in (1..).zip(STORES) {
                let id = format!("{window}-{number}");
                if window == 0 {
                    write("products", at, &id, json!({ "id": id, "store_id": store }));
                }
                let amount = format!("{}.{number:02}", number * (window + 1) * 1_000);
                write("payments", at, &id, json!({ "id": id, "store_id": store, "amount": amount, "at": at }));
                write("clicks", at, &id, json!({ "store_id": store, "product": id, "kind": "view", "at": at }));
            }
        }
        lines.iter().for_each(|(topic, lines)| mall.write("whole", topic, lines));
        let (job, whole, out) = (mall.job(), mall.whole(), mall.dir("out"));
        succeed(&["run", "--job", &job, "--replay", &whole, "--data-dir", &out, "--redis", &redis.url(), "--workers", "1"]);
        Some(View { mall, redis })
    }

    /// What a function is told to serve it, and this.
    fn function(&self, more: &[(&str, &str)]) -> Function {
        let url = self.redis.url();
        let usual = [("STOREFLOW_REDIS", url.as_str()), ("STOREFLOW_JOB_NAME", &self.mall.name)];
        let mut function = Function::start(&[&usual[..], more].concat());
        function.ready();
        function
    }

    /// The server of it, and where it is.
    fn serve(&self) -> (Running, String) {
        let url = self.redis.url();
        let args = ["serve", "--redis", &url, "--job-name", &self.mall.name, "--listen", "127.0.0.1:0"];
        let mut server = Running::start(&mut storeflow(&args));
        let address = server.wait("an address", |log| {
            let line = log.lines().find(|line| line.contains("serving the query API"))?;
            Some(line.split_once("address=")?.1.split_whitespace().next()?.to_owned())
        });
        (server, address)
    }

    /// Moves the as-of that it shows on by so many milliseconds, as a run does last of all.
    fn advance(&self, millis: u64) {
        let name = &self.mall.name;
        let generation: String = self.redis.ask(&["HGET", &format!("sf:{name}:current"), "generation"]);
        let about = format!("sf:{name}:{generation}:about");
        let as_of: u64 = self.redis.ask(&["HGET", &about, "as_of"]);
        let _: u64 = self.redis.ask(&["HSET", &about, "as_of", &(as_of + millis).to_string()]);
    }
}

/// Every byte but letters and digits, percent-encoded.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(byte).collect()
}

/// What is asked of the two, for ids that are encoded this way in paths.
fn targets(in_path: impl Fn(&str) -> String) -> Vec<(String, String)> {
    let mut targets = Vec::new();
    for store in STORES {
        let (sent, query) = (in_path(store), encoded(store));
        let plain = encoded(store);
        for rest in ["", "/windows", "/windows?limit=3", "/windows?from=2026-11-20T10%3A00%3A00%2B09%3A00&open=true&limit=2"] {
            targets.push((format!("/v1/stores/{sent}{rest}"), format!("/v1/stores/{plain}{rest}")));
        }
        for target in [format!("/v1/stores?prefix={query}"), format!("/v1/stores?limit=2&cursor={query}")] {
            targets.push((target.clone(), target));
        }
    }
    for target in [
        "/v1/stores",
        "/v1/top?measure=payment_sum%3AKRW&limit=4",
        "/v1/top?measure=payment_sum:KRW",
        "/v1/totals?open=true",
        "/v1/status",
        "/openapi.json",
        "/healthz",
        "/readyz",
        "/",
        "/v1/stores/nobody",
        "/v1/nothing",
        "/nothing",
        "/v1/stores?limit=0",
        "/v1/stores/1042/windows?from=yesterday",
        "/v1/top",
    ] {
        targets.push((target.to_owned(), target.to_owned()));
    }
    targets
}

/// What two answers to the same question have in common, whenever they were asked and by whom.
fn lasting(answer: &Answer) -> (u16, BTreeMap<String, Vec<String>>, Option<String>, Value) {
    // Of a connection, of a request, or not known before a body is packed.
    const OF_ONE: [&str; 6] = ["connection", "content-length", "date", "keep-alive", "transfer-encoding", "x-request-id"];
    let headers = answer.headers.iter().filter(|(name, _)| !OF_ONE.contains(&name.as_str()));
    let headers = headers.map(|(name, values)| (name.clone(), values.clone())).collect();
    let text = answer.text();
    let mut body = serde_json::from_str(&text).unwrap_or(Value::Null);
    without_ages(&mut body);
    let text = body.is_null().then_some(text);
    (answer.status, headers, text, body)
}

fn without_ages(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !name.ends_with("age_seconds") && name != "request_id");
            fields.values_mut().for_each(without_ages);
        }
        Value::Array(values) => values.iter_mut().for_each(without_ages),
        _ => {}
    }
}

fn code_of(answer: &Answer) -> String {
    answer.json()["code"].as_str().expect("a problem").to_owned()
}

#[test]
fn every_sender_gets_what_the_server_says() {
    let Some(view) = View::new("every_sender_gets_what_the_server_says") else { return };
    let (_server, address) = view.serve();
    let mut function = view.function(&[("STOREFLOW_PUBLIC", "true")]);
    let mut compared = 0;
    let page = http::ask(&address, "GET", "/", &[]).text();
    let assets: Vec<String> = page.split('"').filter(|link| link.starts_with("assets/")).map(|link| format!("/{link}")).collect();
    assert_eq!(assets.is_empty(), !cfg!(feature = "dashboard"), "{page}");
    for sender in Sender::ALL {
        // An HTTP API decodes paths twice, so that ids that hold what it would decode are encoded once more.
        let targets = if sender == Sender::Http { targets(|store| encoded(&encoded(store))) } else { targets(encoded) };
        for (sent, plain) in targets.iter().map(|(sent, plain)| (sent, plain)).chain(assets.iter().map(|asset| (asset, asset))) {
            for headers in [&[][..], &[("Accept-Encoding", "gzip")]] {
                for method in ["GET", "HEAD"] {
                    let said = function.ask(sender, method, sent, headers);
                    let served = http::ask(&address, method, plain, headers);
                    assert_eq!(lasting(&said), lasting(&served), "{method} {sent} by {sender:?}");
                    if method == "HEAD" {
                        assert!(said.body.is_empty(), "{sent} by {sender:?}");
                    }
                    compared += 1;
                }
            }
        }
        for method in ["POST", "OPTIONS", "DELETE"] {
            let said = function.ask(sender, method, "/v1/stores", &[]);
            assert_eq!(lasting(&said), lasting(&http::ask(&address, method, "/v1/stores", &[])), "{method} by {sender:?}");
        }
        // What a client has already is not sent again.
        let first = function.ask(sender, "GET", "/v1/stores/1042/windows", &[]);
        let known = [("If-None-Match", first.header("etag")), ("If-None-Match", "\"other\"")];
        // A balancer without lists passes the last of repeated headers on.
        let known = if sender == Sender::Balancer { &known[..1] } else { &known[..] };
        let again = function.ask(sender, "GET", "/v1/stores/1042/windows", known);
        assert_eq!((again.status, again.body.len()), (304, 0), "{sender:?}");
    }
    assert!(compared > 1_000, "{compared} compared");
}

#[test]
fn ids_that_survive_an_http_api_need_no_care() {
    let Some(view) = View::new("ids_that_survive_an_http_api_need_no_care") else { return };
    let mut function = view.function(&[("STOREFLOW_PUBLIC", "true")]);
    for store in ["1042", "상점 🛒", "a/b", "a b", "a,b", "a+b&c=d"] {
        for rest in ["", "/windows"] {
            let answer = function.ask(Sender::Http, "GET", &format!("/v1/stores/{}{rest}", encoded(store)), &[]);
            assert_eq!((answer.status, answer.json()["store"].as_str()), (200, Some(store)));
        }
    }
}

#[test]
fn answers_hold_the_numbers_of_export() {
    let Some(view) = View::new("answers_hold_the_numbers_of_export") else { return };
    let mut function = view.function(&[("STOREFLOW_PUBLIC", "true")]);
    let (url, name) = (view.redis.url(), view.mall.name.as_str());
    for (store, sender) in STORES.into_iter().zip(Sender::ALL.into_iter().cycle()) {
        let path = if sender == Sender::Http { encoded(&encoded(store)) } else { encoded(store) };
        let rows = |table: &str| -> Vec<Value> {
            let rows = succeed(&["export", "--table", table, "--store", store, "--redis", &url, "--job-name", name]);
            rows.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
        };
        let answer = function.ask(sender, "GET", &format!("/v1/stores/{path}/windows?open=true&limit=1000"), &[]).json();
        let windows = answer["windows"].as_array().expect("windows");
        let told: Vec<Value> = windows
            .iter()
            .flat_map(|window| {
                let payments = window["payments"].as_array().expect("payments").iter();
                payments.map(|payment| {
                    json!([window["start"], payment["currency"], payment["sum"], payment["count"], window["closed"]])
                })
            })
            .collect();
        let exported: Vec<Value> = rows("store_payments")
            .iter()
            .map(|row| json!([row["window_start"], row["currency"], row["payment_sum"], row["payment_count"], row["closed"]]))
            .collect();
        assert_eq!((told.len() as u64, &told), (WINDOWS, &exported), "{store}");
        let clicks: u64 = rows("store_clicks").iter().map(|row| row["clicks"].as_u64().expect("a count")).sum();
        let told = windows.iter().flat_map(|window| window["clicks"].as_array().expect("clicks"));
        assert_eq!(told.map(|click| click["count"].as_u64().expect("a count")).sum::<u64>(), clicks, "{store}");
        let now = function.ask(sender, "GET", &format!("/v1/stores/{path}"), &[]).json();
        assert_eq!(now["product_count"], rows("store_products")[0]["product_count"], "{store}");
        assert_eq!(now["as_of"], rows("store_products")[0]["as_of"], "{store}");
    }
}

#[test]
fn packed_answers_are_base64_and_unpack_to_the_same() {
    let Some(view) = View::new("packed_answers_are_base64_and_unpack_to_the_same") else { return };
    let mut function = view.function(&[("STOREFLOW_PUBLIC", "true")]);
    for sender in Sender::ALL {
        let target = "/v1/stores/1042/windows?open=true";
        let event = sender.event("GET", target, &[("accept-encoding", "br, gzip")]).expect("it arrives");
        let said = function.invoke(&event).1;
        assert_eq!(said["isBase64Encoded"], true, "{said}");
        let packed = sender.answer(&said);
        let plain = function.ask(sender, "GET", target, &[]);
        assert_eq!((packed.header("content-encoding"), plain.header("content-encoding")), ("gzip", ""));
        assert!(packed.body.len() < plain.body.len());
        assert_eq!(packed.text(), plain.text());
    }
}

#[test]
fn keys_are_needed_where_they_are_in_use_and_logged_nowhere() {
    let Some(view) = View::new("keys_are_needed_where_they_are_in_use_and_logged_nowhere") else { return };
    let file = view.mall.dir("keys.toml");
    let new = |id: &str, more: &[&str]| {
        let printed = succeed(&[&["api-keys", "new", "--file", &file, "--id", id][..], more].concat());
        printed.split_whitespace().find(|word| word.starts_with("sfk_")).expect("a key").to_owned()
    };
    let (all, one) = (new("office", &[]), new("owner", &["--store", "a/b"]));
    let mut function = view.function(&[("STOREFLOW_API_KEYS", &file)]);
    for sender in Sender::ALL {
        let ab = if sender == Sender::Http { "/v1/stores/a%252Fb" } else { "/v1/stores/a%2Fb" };
        let bearer = |key: &str| format!("Bearer {key}");
        let mut ask = |target: &str, headers: &[(&str, &str)]| function.ask(sender, "GET", target, headers);
        let none = ask(ab, &[]);
        assert_eq!(
            (none.status, code_of(&none).as_str(), none.header("www-authenticate")),
            (401, "no_key", "Bearer"),
            "{sender:?}"
        );
        let unknown = ask(ab, &[("X-Api-Key", "sfk_nobody")]);
        assert_eq!((unknown.status, code_of(&unknown).as_str()), (401, "unknown_key"));
        assert_eq!(ask(ab, &[("X-Api-Key", &all)]).status, 200);
        assert_eq!(ask(ab, &[("Authorization", &bearer(&one))]).status, 200);
        let other = ask("/v1/stores/1042", &[("Authorization", &bearer(&one))]);
        assert_eq!((other.status, code_of(&other).as_str()), (403, "store_not_allowed"));
        let of_all = ask("/v1/totals", &[("x-api-key", &one)]);
        assert_eq!((of_all.status, code_of(&of_all).as_str()), (403, "all_stores_not_allowed"));
        assert_eq!(ask("/healthz", &[]).status, 200);
    }
    let log = function.log();
    assert!(!log.contains(&all) && !log.contains(&one), "{log}");
}

#[test]
fn requests_have_lambdas_id_and_logs_are_json() {
    let Some(view) = View::new("requests_have_lambdas_id_and_logs_are_json") else { return };
    let mut function = view.function(&[("STOREFLOW_PUBLIC", "true")]);
    for sender in Sender::ALL {
        let (number, said) = function.invoke(&sender.event("GET", "/v1/stores/nobody", &[]).expect("it arrives"));
        let answer = sender.answer(&said);
        let id = request_id(number);
        assert_eq!((answer.header("x-request-id"), &answer.json()["request_id"]), (id.as_str(), &json!(id)));
        let log = function.log();
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let line = lines.iter().find(|line| line["target"] == "storeflow::access" && line["request_id"] == id.as_str());
        assert_eq!(line.unwrap_or_else(|| panic!("{log}"))["status"], 404, "{log}");
        let own = function.ask(sender, "GET", "/healthz", &[("x-request-id", "mine:1")]);
        assert_eq!(own.header("x-request-id"), "mine:1");
    }
}

#[test]
fn each_event_sees_the_newest_numbers() {
    let Some(view) = View::new("each_event_sees_the_newest_numbers") else { return };
    let mut function = view.function(&[("STOREFLOW_PUBLIC", "true")]);
    let mut as_of =
        |sender| function.ask(sender, "GET", "/v1/status", &[]).json()["as_of"].as_str().expect("an as-of").to_owned();
    let mut last = as_of(Sender::Rest);
    for sender in Sender::ALL.into_iter().cycle().take(20) {
        // A container may have been frozen for any time since its last event, and its clocks with it.
        view.advance(1_000);
        let next = as_of(sender);
        assert!(next > last, "{next} after {last}");
        last = next;
    }
}

#[test]
fn a_stream_is_one_event_and_ends() {
    let Some(view) = View::new("a_stream_is_one_event_and_ends") else { return };
    let mut function = view.function(&[("STOREFLOW_PUBLIC", "true")]);
    for sender in Sender::ALL {
        for (target, name) in [("/v1/stream?store=a%2Fb", "store"), ("/v1/stream", "status")] {
            let answer = function.ask(sender, "GET", target, &[("accept", "text/event-stream")]);
            assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"), "{sender:?}");
            let text = answer.text();
            let events: Vec<&str> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
            let [event] = events[..] else { panic!("{text}") };
            assert!(event.contains(&format!("event: {name}\n")) && event.contains("\"as_of\":"), "{text}");
            assert!(event.contains("retry: 5000\n") || event.ends_with("retry: 5000"), "{text}");
        }
    }
}

#[test]
fn redis_may_go_and_come_back_and_containers_may_freeze() {
    let Some(mut view) = View::new("redis_may_go_and_come_back_and_containers_may_freeze") else { return };
    let mut function = view.function(&[("STOREFLOW_PUBLIC", "true")]);
    let target = "/v1/stores/1042";
    assert_eq!(function.ask(Sender::Rest, "GET", target, &[]).status, 200);
    view.redis.stop_saving();
    for sender in Sender::ALL {
        let away = function.ask(sender, "GET", target, &[]);
        assert_eq!((away.status, code_of(&away).as_str()), (503, "view_unavailable"), "{sender:?}");
        assert!(away.header("retry-after").parse::<u64>().is_ok(), "{away:?}");
    }
    assert_eq!(function.ask(Sender::Balancer, "GET", "/readyz", &[]).status, 503);
    assert_eq!(function.ask(Sender::Balancer, "GET", "/healthz", &[]).status, 200);
    // A function that starts meanwhile is there as soon as Redis is.
    let mut late = view.function(&[("STOREFLOW_PUBLIC", "true")]);
    assert_eq!(late.ask(Sender::Http, "GET", target, &[]).status, 503);
    view.redis.start();
    assert_eq!(function.ask(Sender::Http, "GET", target, &[]).status, 200);
    assert_eq!(late.ask(Sender::Http, "GET", target, &[]).status, 200);

    // Connections that died while nobody was there to notice are no reason to refuse anybody.
    for sender in Sender::ALL {
        function.freeze();
        let _: u64 = view.redis.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
        function.thaw();
        assert_eq!(function.ask(sender, "GET", target, &[]).status, 200, "{sender:?}");
        function.freeze();
        view.redis.stop_saving();
        view.redis.start();
        function.thaw();
        assert_eq!(function.ask(sender, "GET", target, &[]).status, 200, "{sender:?}");
    }
}

#[test]
fn a_password_opens_redis_and_is_shown_to_nobody() {
    let password = "hidden-redis-password";
    let Some(redis) = redis::start("a_password_opens_redis_and_is_shown_to_nobody", Some(password), false) else { return };
    let mall = Mall::empty("password");
    let file = mall.dir("password");
    std::fs::write(&file, format!("{password}\n")).expect("written");
    let open = redis.url().replace(&format!(":{password}@"), "");
    let usual = [
        ("STOREFLOW_REDIS", open.as_str()),
        ("STOREFLOW_JOB_NAME", "mall"),
        ("STOREFLOW_PUBLIC", "true"),
        ("STOREFLOW_LOG", "debug"),
    ];
    // There is no view in it: `no_view` is what is said once Redis answers.
    for (more, code) in [
        (("STOREFLOW_REDIS_PASSWORD", password), "no_view"),
        (("STOREFLOW_REDIS_PASSWORD_FILE", &*file), "no_view"),
        (("STOREFLOW_REDIS_PASSWORD", "wrong-redis-password"), "view_unavailable"),
    ] {
        let mut function = Function::start(&[&usual[..], &[more]].concat());
        function.ready();
        let answer = function.ask(Sender::Http, "GET", "/v1/stores", &[]);
        assert_eq!((answer.status, code_of(&answer).as_str()), (503, code), "{}", function.log());
        let shown = function.log() + &answer.text();
        assert!(!shown.contains(password) && !shown.contains("wrong-redis-password"), "{shown}");
    }
}

#[test]
fn a_start_that_cannot_be_is_told_to_lambda_in_one_line() {
    let secret = "hunter2";
    let mall = Mall::empty("wrong");
    let wrong = mall.dir("wrong.toml");
    std::fs::write(&wrong, "[[key]]\nid = \"one\"\n[[key]]\nid = 1\n").expect("written");
    let none = mall.dir("none.toml");
    for (changes, words) in [
        (&[("STOREFLOW_REDIS", "")][..], "STOREFLOW_REDIS is not set: "),
        (&[("STOREFLOW_REDIS", "http://x:hunter2@y")], "STOREFLOW_REDIS is not what it may be: "),
        (&[("STOREFLOW_JOB_NAME", "")], "STOREFLOW_JOB_NAME is not set: "),
        (&[("STOREFLOW_PUBLIC", "false")], "STOREFLOW_API_KEYS is not set: "),
        (&[("STOREFLOW_PUBLIC", ""), ("STOREFLOW_API_KEYS", &*none)], "could not read API key file "),
        (&[("STOREFLOW_PUBLIC", ""), ("STOREFLOW_API_KEYS", &*wrong)], ""),
    ] {
        let function = Function::start(&[&NOWHERE[..], changes].concat());
        let (kind, error, code, log) = function.fail_to_start();
        let message = error["errorMessage"].as_str().expect("a message");
        assert_eq!(
            (kind.as_str(), &error["errorType"], code),
            ("Storeflow.Settings", &json!("Storeflow.Settings"), Some(2)),
            "{log}"
        );
        assert!(message.starts_with(words) && !message.is_empty() && !message.contains('\n'), "{message}");
        assert_eq!(log.trim_end(), format!("error: {message}"));
        assert!(!log.contains(secret) && !error.to_string().contains(secret), "{log}");
    }
}

#[test]
fn what_is_no_event_is_refused_and_the_next_one_is_answered() {
    let mut function = Function::start(&NOWHERE);
    function.ready();
    for event in [json!({}), json!({ "Records": [] }), json!("x")] {
        let error = function.refuse(&event);
        assert!(error["errorMessage"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    }
    for sender in Sender::ALL {
        assert_eq!(function.ask(sender, "GET", "/healthz", &[]).status, 200, "{sender:?}");
    }
    let health: Value = serde_json::from_str(include_str!("events/alb_health.json")).expect("JSON");
    assert_eq!(function.invoke(&health).1["statusCode"], 200);
}

#[test]
fn the_template_has_no_findings() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lint-template");
    let done = Command::new(&script).output().expect("it starts");
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if done.status.code() == Some(3) && std::env::var("CI").as_deref() != Ok("true") {
        eprintln!("SKIPPED: the_template_has_no_findings: {said}");
        return;
    }
    assert!(done.status.success(), "{} says:\n{said}", text(&script));
}
