//! The query API from outside: what it answers is what `export` says, wherever it is served from; and how servers begin and end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::binary::{dataset, refuse, storeflow, succeed, text};
use crate::support::exported::{Exported, Store, Window, midnight_before};
use crate::support::http::{Answer, ask};
use crate::support::redis;
use crate::support::running::Running;

/// Stores that are compared window by window.
const STORES: usize = 6;

/// A program that serves, and where.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) address: String,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(args: &[&str]) -> Server {
        let mut running = Running::start(&mut storeflow(args));
        let address = running.wait("an address", |log| {
            let line = log.lines().find(|line| line.contains("serving the query API"))?;
            Some(line.split_once("address=")?.1.split_whitespace().next()?.to_owned())
        });
        running.wait_with("readiness", |_| (ask(&address, "GET", "/readyz", &[]).status == 200).then_some(()));
        Server { running, address }
    }

    fn get(&self, path: &str) -> Answer {
        let answer = ask(&self.address, "GET", path, &[]);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer
    }

    /// All that a list has, page by page.
    fn all(&self, path: &str, of: &str) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("{path}{cursor}")).json();
            all.extend(page[of].as_array().expect("a list").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// Every answer equals what was exported.
    fn equals(&self, exported: &Exported) {
        let ids = self.all("/v1/stores?limit=3", "stores");
        let known: BTreeSet<&str> = ids.iter().filter_map(Value::as_str).collect();
        assert_eq!(known, exported.stores.keys().map(String::as_str).collect());
        for id in exported.telling(STORES) {
            let (store, answer) = (&exported.stores[&id], self.get(&format!("/v1/stores/{id}")).json());
            let windows = self.all(&format!("/v1/stores/{id}/windows?open=true&limit=5"), "windows");
            assert_eq!(windows.iter().map(window).collect::<BTreeMap<_, _>>(), store.windows, "store {id}");
            let closed = self.all(&format!("/v1/stores/{id}/windows?limit=5"), "windows");
            assert_eq!(closed.len(), store.windows.values().filter(|window| window.closed).count(), "store {id}");
            assert_eq!(
                (answer["product_count"].as_i64(), &answer["as_of"]),
                (Some(store.product_count), &exported.as_of.as_str().into())
            );
            self.equals_today(&answer, store, &exported.as_of);
            let newest = &answer["newest_closed_window"];
            match store.windows.get(newest["start"].as_str().expect("one is closed")) {
                Some(expected) => assert_eq!(&window(newest).1, expected, "store {id}"),
                None => assert_eq!(window(newest).1.cells, BTreeMap::new(), "store {id}"),
            }
        }
        let all = exported.all();
        let totals = self.all("/v1/totals?open=true&limit=5", "windows");
        assert_eq!(totals.iter().map(window).collect::<BTreeMap<_, _>>(), all.windows);
        self.equals_leaders(exported, &all);
    }

    fn equals_today(&self, answer: &Value, store: &Store, as_of: &str) {
        let today = &answer["today"];
        let from = midnight_before(as_of, today["timezone"].as_str().expect("a zone"));
        assert_eq!(today["from"], from.to_string().as_str());
        for closed in [true, false] {
            let sums = &today[if closed { "closed" } else { "open" }];
            let of = |list: &str, by: &str, value: &str| -> BTreeMap<String, String> {
                let list = sums[list].as_array().expect("a list").iter();
                list.map(|each| (exact(&each[by]), exact(&each[value]))).collect()
            };
            assert_eq!(of("payments", "currency", "sum"), store.sums("payment_sum", from, closed));
            assert_eq!(of("payments", "currency", "count"), store.sums("payment_count", from, closed));
            assert_eq!(of("clicks", "kind", "count"), store.sums("clicks", from, closed));
            let items = store.sums("items_sold", from, closed).remove("").unwrap_or_else(|| "0".to_owned());
            assert_eq!(exact(&sums["items_sold"]), items);
        }
    }

    /// Who leads, by every measure, in a window in which much has happened.
    fn equals_leaders(&self, exported: &Exported, all: &Store) {
        let (start, _) = all.windows.iter().max_by_key(|(_, window)| window.cells.len()).expect("windows");
        let ranked = all
            .measures()
            .into_iter()
            .filter(|measure| ["payment_sum:", "items_sold", "clicks:"].iter().any(|ranked| measure.starts_with(ranked)));
        let mut seen = 0;
        for measure in ranked {
            let value = |store: &Store| store.windows.get(start)?.cells.get(&measure).cloned();
            let mut expected: Vec<(String, String)> =
                exported.stores.iter().filter_map(|(id, store)| Some((id.clone(), value(store)?))).collect();
            let units = |value: &str| value.replace('.', "").parse::<i128>().expect("a number");
            expected.sort_by_key(|(id, value)| (-units(value), id.clone()));
            expected.truncate(100);
            seen += expected.len();
            let encoded = measure.replace(':', "%3A");
            let answer = self.get(&format!("/v1/top?measure={encoded}&window={start}&limit=100")).json();
            let leaders = answer["stores"].as_array().expect("a list").iter();
            let leaders: Vec<(String, String)> = leaders.map(|each| (exact(&each["store"]), exact(&each["value"]))).collect();
            assert_eq!(leaders, expected, "{measure} in {start}");
            assert_eq!(answer["window"]["start"], start.as_str());
        }
        assert!(seen > 0, "nobody led anything");
    }
}

/// The exact text of a value.
fn exact(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A window of an answer, of one store or of all.
fn window(answer: &Value) -> (String, Window) {
    let mut cells = BTreeMap::new();
    let list = |name: &str| answer[name].as_array().expect("a list").clone();
    for payment in list("payments") {
        let currency = exact(&payment["currency"]);
        cells.insert(format!("payment_sum:{currency}"), exact(&payment["sum"]));
        cells.insert(format!("payment_count:{currency}"), exact(&payment["count"]));
    }
    for click in list("clicks") {
        let kind = exact(&click["kind"]);
        cells.insert(format!("clicks:{kind}"), exact(&click["count"]));
        if click.get("products_clicked").is_some() {
            cells.insert(format!("products_clicked:{kind}"), exact(&click["products_clicked"]));
        }
    }
    if answer.get("stores").is_some() {
        cells.insert("stores".to_owned(), exact(&answer["stores"]));
        cells.insert("items_sold".to_owned(), exact(&answer["items_sold"]));
    } else if !answer["sales"].is_null() {
        cells.insert("items_sold".to_owned(), exact(&answer["sales"]["items_sold"]));
        cells.insert("products_sold".to_owned(), exact(&answer["sales"]["products_sold"]));
    }
    let revision = answer["revision"].as_u64().unwrap_or(0);
    (exact(&answer["start"]), Window { closed: answer["closed"].as_bool().expect("known"), revision, cells })
}

/// Arguments that run the small mall into a folder.
fn small_mall<'a>(job: &'a str, whole: &'a str, out: &'a str) -> Vec<&'a str> {
    vec!["run", "--job", job, "--replay", whole, "--data-dir", out]
}

/// The small mall, run into a folder.
pub(crate) fn ran() -> (tempfile::TempDir, String) {
    let (folder, mall) = (tempfile::tempdir().expect("a folder"), dataset("mall-small"));
    let out = text(&folder.path().join("data"));
    succeed(&small_mall(&text(&mall.join("mall.toml")), &text(&mall), &out));
    (folder, out)
}

/// The data of events of a stream, as they come, to its end.
fn events(address: &str, path: &str) -> Events {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a patience");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").expect("it reads");
    let mut lines = BufReader::new(stream).lines();
    let head: Vec<String> = lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    assert!(head[0].contains(" 200 ") && head.iter().any(|line| line == "content-type: text/event-stream"), "{head:?}");
    Events(lines)
}

struct Events(std::io::Lines<BufReader<TcpStream>>);

impl Iterator for Events {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let data = self.0.by_ref().map(|line| line.expect("more, or an end")).find(|line| line.starts_with("data: "))?;
        Some(serde_json::from_str(&data["data: ".len()..]).expect("JSON"))
    }
}

#[test]
fn the_files_of_a_run_are_answered_as_they_are_exported() {
    let (_folder, out) = ran();
    let mut server = Server::start(&["serve", "--data-dir", &out, "--listen", "127.0.0.1:0"]);
    server.equals(&Exported::read(&["--data-dir", &out]));
    assert_eq!(server.get("/v1/status").json()["served_from"], "files");
    server.running.stop();
}

#[test]
fn the_view_in_redis_is_answered_as_it_is_exported() {
    let Some(redis) = redis::redis("the_view_in_redis_is_answered_as_it_is_exported") else { return };
    let (folder, mall, url) = (tempfile::tempdir().expect("a folder"), dataset("mall-small"), redis.url());
    let (job, whole, out) = (text(&mall.join("mall.toml")), text(&mall), text(&folder.path().join("data")));
    succeed(&[&small_mall(&job, &whole, &out)[..], &["--redis", &url]].concat());
    let mut server = Server::start(&["serve", "--redis", &url, "--job-name", "mall", "--listen", "127.0.0.1:0"]);
    server.equals(&Exported::read(&["--redis", &url, "--job-name", "mall"]));
    server.equals(&Exported::read(&["--data-dir", &out]));
    let status = server.get("/v1/status").json();
    assert_eq!((&status["served_from"], &status["fresh"]["state"]), (&"redis".into(), &"finished".into()));
    server.running.stop();
}

#[test]
fn a_run_streams_its_numbers_and_ends_its_server_with_itself() {
    let (folder, mall) = (tempfile::tempdir().expect("a folder"), dataset("mall-small"));
    let (job, whole, out) = (text(&mall.join("mall.toml")), text(&mall), text(&folder.path().join("data")));
    // Six hours in half a minute, each second of which is shown once it is committed.
    let slowly = ["--speed", "720", "--checkpoint-interval", "1s", "--serve", "127.0.0.1:0"];
    let mut server = Server::start(&[&small_mall(&job, &whole, &out)[..], &slowly].concat());
    let store = server.get("/v1/stores?limit=1").json()["stores"][0].as_str().map(str::to_owned);
    let path = store.map_or("/v1/stream".to_owned(), |store| format!("/v1/stream?store={store}"));
    // To the end of the stream, which is that of the run.
    let as_ofs: Vec<String> = events(&server.address, &path).map(|event| exact(&event["as_of"])).collect();
    assert!(as_ofs.len() >= 2 && as_ofs.is_sorted_by(|one, other| one < other), "{as_ofs:?}\n{}", server.running.log());
    server.running.succeed();
    assert!(TcpStream::connect(&server.address).is_err());
    assert!(Exported::read(&["--data-dir", &out]).as_of >= *as_ofs.last().expect("some"));
}

#[test]
fn a_server_that_is_told_to_stop_ends_its_streams_and_finishes() {
    let (_folder, out) = ran();
    let mut server = Server::start(&["serve", "--data-dir", &out, "--listen", "127.0.0.1:0"]);
    let mut stream = events(&server.address, "/v1/stream");
    assert_eq!(stream.next().expect("one at once")["fresh"]["state"], "finished");
    let known = server.get("/v1/stores").header("etag").to_owned();
    let same = ask(&server.address, "GET", "/v1/stores", &[("If-None-Match", &known)]);
    assert_eq!((same.status, same.body.len()), (304, 0));
    server.running.signal(Signal::TERM);
    assert_eq!(stream.next(), None);
    server.running.succeed();
    let log = server.running.log();
    assert!(log.contains("drained") && log.contains("no keys: loopback only"), "{log}");
    assert!(log.contains("storeflow::access") && log.contains("path=\"/v1/stores\""), "{log}");
}

#[test]
fn http_2_is_spoken_without_an_upgrade() {
    let (_folder, out) = ran();
    let mut server = Server::start(&["serve", "--data-dir", &out, "--listen", "127.0.0.1:0"]);
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("a short frame");
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    // GET, http, and two literals that are not kept: the path and the authority.
    let headers = [&[0x82, 0x86, 0x04, 8], &b"/healthz"[..], &[0x01, 1], b"x"].concat();
    let mut connection = TcpStream::connect(&server.address).expect("it listens");
    connection.set_read_timeout(Some(Duration::from_secs(60))).expect("a patience");
    let sent = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), frame(1, 5, 1, &headers)].concat();
    connection.write_all(&sent).expect("it reads");
    let (mut status, mut body) = (None, Vec::new());
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).expect("a frame");
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        connection.read_exact(&mut payload).expect("its payload");
        match (head[3], head[8]) {
            (1, 1) => status = payload.first().copied(),
            (0, 1) => body.extend(payload),
            _ => continue,
        }
        // The end of the stream.
        if head[4] & 1 == 1 {
            break;
        }
    }
    // The first entry of the table of headers that says 200.
    assert_eq!((status, body.as_slice()), (Some(0x88), &b"ok\n"[..]));
    drop(connection);
    server.running.stop();
}

#[test]
fn what_is_too_large_for_the_protocol_is_refused_all_the_same() {
    let (_folder, out) = ran();
    let mut server = Server::start(&["serve", "--data-dir", &out, "--listen", "127.0.0.1:0"]);
    let of = |path: &str, headers: &[(&str, &str)]| {
        let answer = ask(&server.address, "GET", path, headers);
        (answer.status, if answer.body.is_empty() { String::new() } else { exact(&answer.json()["code"]) })
    };
    let long = |length: usize| "x".repeat(length);
    assert_eq!(of(&format!("/v1/stores/{}", long(9_000)), &[]), (414, "uri_too_long".to_owned()));
    assert_eq!(of("/v1/stores", &[("a", &long(20_000))]), (431, "headers_too_large".to_owned()));
    // What is beyond all reason is not read to its end, and has no document.
    assert_eq!(of("/v1/stores", &[("a", &long(200_000))]), (431, String::new()));
    server.running.stop();
}

#[test]
fn what_cannot_be_served_is_said_at_once() {
    let (_folder, out) = ran();
    let listen = ["--listen", "127.0.0.1:0"];
    let serve = |args: &[&str], words: &[&str]| refuse(&[&["serve"], args].concat(), words);
    serve(&["--data-dir", &out, "--listen", "0.0.0.0:0"], &["0.0.0.0", "--api-keys"]);
    serve(&[&listen[..], &["--data-dir", &(out.clone() + "/nothing")]].concat(), &["nothing"]);
    serve(&[&listen[..], &["--redis", "redis://127.0.0.1:1"]].concat(), &["--job-name"]);
    serve(&[&listen[..], &["--data-dir", &out, "--serve-threads", "0"]].concat(), &["1 to 256"]);
    serve(&["--data-dir", &out, "--listen", "nowhere"], &["\"nowhere\"", "HOST:PORT"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    serve(&["--data-dir", &out, "--listen", &taken], &["nothing else"].map(|_| taken.as_str()));
    let mall = dataset("mall-small");
    let (job, whole, other) = (text(&mall.join("mall.toml")), text(&mall), out + "/other");
    let run = small_mall(&job, &whole, &other);
    refuse(&[&run[..], &["--serve", "0.0.0.0:0"]].concat(), &["--api-keys"]);
    // The memory of one process is not that of the job.
    let launch = [&["launch", "--processes", "2"], &run[1..], &["--serve", "127.0.0.1:0"]].concat();
    refuse(&launch, &["storeflow serve --redis"]);
    assert!(!std::path::Path::new(&other).join("current.json").exists());
}
