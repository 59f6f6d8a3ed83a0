//! What an OpenTelemetry collector is sent by a real run: the trace of every checkpoint, and the metrics.
//!
//! Upholds: what a trace says is what the store holds; a collector that is away, or was never there, changes nothing but one line of the
//! log; secrets go to the collector alone.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::alarms::api_at;
use crate::crash::Replay;
use crate::support::binary::{refuse, run, storeflow};
use crate::support::collector::{Collector, Taken, attributes};
use crate::support::running::{Running, metrics, metrics_at, sum_of};

const SECRET: &str = "hidden-token";
/// What a collector that does not answer is told of by.
const AWAY: &str = "does not take what is sent by OTLP";

/// Flags that send everything to a collector, often.
fn to(collector: &Collector) -> [String; 4] {
    ["--otlp".to_owned(), collector.url(), "--otlp-every".to_owned(), "1s".to_owned()]
}

fn command(replay: &Replay, workers: usize, flags: &[String], more: &[&str]) -> Command {
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
    of_its_own(replay.command(workers, &flags))
}

fn of_its_own(mut command: Command) -> Command {
    // The machine's own collector, and its proxy, are nobody's business here.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command.env("NO_PROXY", "127.0.0.1");
    command
}

/// Every checkpoint's trace is whole; how many there are.
fn check_checkpoints(taken: &Taken, workers: usize) -> Vec<u64> {
    let (mut numbers, mut objects) = (Vec::new(), Vec::<u64>::new());
    let mut before = String::new();
    for whole in taken.named("checkpoint") {
        let own = attributes(&whole.attributes);
        let number: u64 = own["number"].parse().expect("a number");
        assert!(whole.parent_span_id.is_empty() && own["as_of"] > before, "{own:?} follows {before}");
        assert_eq!(own["workers"], workers.to_string());
        // Before anything has changed there is no object.
        objects.push(own["objects"].parse().expect("a number"));
        let below = taken.below(whole);
        let of = |name: &str| below.iter().filter(|span| span.name == name).copied().collect::<Vec<_>>();
        let (writes, commits, shows) = (of("checkpoint write"), of("checkpoint commit"), of("checkpoint show"));
        assert_eq!((writes.len(), commits.len(), shows.len()), (workers, 1, 1), "{own:?}");
        let mut bytes = 0;
        for write in &writes {
            let write = attributes(&write.attributes);
            assert_eq!((&write["number"], &write["as_of"]), (&own["number"], &own["as_of"]));
            bytes += write.get("bytes").map_or(0, |bytes| bytes.parse().expect("a number"));
        }
        assert_eq!(own["bytes"], bytes.to_string(), "{own:?}");
        let order = [whole.start_time_unix_nano, commits[0].start_time_unix_nano, shows[0].start_time_unix_nano];
        assert!(order.is_sorted() && writes.iter().all(|write| write.end_time_unix_nano <= order[1]), "{below:?}");
        assert!(shows[0].end_time_unix_nano <= whole.end_time_unix_nano);
        own["as_of"].clone_into(&mut before);
        numbers.push(number);
    }
    assert!(objects.is_sorted_by_key(|objects| *objects > 0) && objects.last() > Some(&0), "{objects:?}");
    numbers
}

#[test]
fn every_checkpoint_is_a_trace_and_every_metric_is_sent() {
    let (replay, collector) = (Replay::new(), Collector::start());
    let mut command = command(&replay, 2, &to(&collector), &["--metrics", "127.0.0.1:0"]);
    command.env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer%20{SECRET}"));
    let mut running = Running::start(&mut command);
    let address = running.wait("metrics", |log| metrics_at(log).into_iter().next());
    let mut served = String::new();
    running.wait("checkpoints", |_| {
        served = metrics(&address)?;
        (sum_of(&served, "storeflow_checkpoints_total") > 3.0).then_some(())
    });
    running.succeed();
    let (taken, log) = (collector.taken(), running.log());
    assert!(!log.contains(SECRET) && !log.contains(AWAY), "{log}");
    assert_eq!(taken.authorized, BTreeSet::from([Some(format!("Bearer {SECRET}"))]));

    let numbers = check_checkpoints(&taken, 2);
    assert_eq!(numbers, (1..=replay.kept().newest_number()).collect::<Vec<_>>(), "the store has as many");
    assert!(taken.spans.iter().all(|span| span.name.starts_with("checkpoint")), "{:?}", taken.spans);

    assert_eq!(taken.resources.len(), 1, "{:?}", taken.resources);
    let resource = taken.resources.first().expect("one");
    assert_eq!(resource["service.name"], "storeflow");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&*resource["storeflow.job"], &*resource["storeflow.process"]), ("mall", "0"));

    // What /metrics had in the middle is in the last export as well, with the numbers of the end.
    let samples = served.lines().filter(|line| line.starts_with("storeflow_"));
    let names: BTreeSet<&str> = samples.filter_map(|line| line.split(['{', ' ']).next()).collect();
    assert!(names.len() > 20, "{served}");
    for name in names.iter().filter(|name| **name != "storeflow_frontier_held_seconds") {
        assert!(taken.metrics.contains_key(name.trim_end_matches("_total")), "{name} is not among {:?}", taken.metrics.keys());
    }
    let sent = |name: &str| taken.metrics[name].values().sum::<f64>();
    let finished = log.lines().find(|line| line.contains("finished")).expect("a last line");
    let records: f64 =
        finished.split_once("records=").expect("a count").1.split(' ').next().expect("a count").parse().expect("a count");
    assert_eq!((sent("storeflow_topic_records"), sent("storeflow_worker_records")), (records, records));
    assert_eq!(sent("storeflow_checkpoints"), numbers.len() as f64);
    let topic = taken.metrics["storeflow_topic_records"].keys().next().expect("a topic");
    assert_eq!(topic.keys().collect::<Vec<_>>(), ["topic"]);
}

#[test]
fn a_collector_that_goes_away_and_comes_back_is_told_of_once_and_sent_to_again() {
    let (replay, mut collector) = (Replay::new(), Collector::start());
    let slower = |arg: String| if arg == "7200" { "900".to_owned() } else { arg };
    let args: Vec<String> = replay.args(1, &[]).into_iter().map(slower).chain(to(&collector)).collect();
    let command = storeflow(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let mut running = Running::start(&mut of_its_own(command));
    running.wait_with("an export", |_| (collector.taken().exports > 0).then_some(()));
    collector.go_away();
    running.wait("a warning", |log| log.contains(AWAY).then_some(()));
    let number = replay.kept().newest_number();
    // Two signals and several attempts of each; the job goes on.
    running.wait_with("checkpoints", |_| (replay.kept().newest_number() > number + 3).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(running.log().matches(AWAY).count(), 1, "{}", running.log());
    let before = collector.taken();
    collector.come_back();
    running.wait_with("an export", |_| (collector.taken().exports > before.exports).then_some(()));
    running.succeed();
    let log = running.log();
    assert!(log.contains("takes what is sent by OTLP again"), "{log}");
    assert!(collector.taken().named("checkpoint").len() > before.named("checkpoint").len());
    replay.verify();
}

#[test]
fn a_collector_that_was_never_there_is_one_line() {
    let (replay, mut collector) = (Replay::new(), Collector::start());
    collector.go_away();
    let ended = run(&mut command(&replay, 1, &to(&collector), &[]));
    assert_eq!((ended.code, ended.err.matches(AWAY).count()), (Some(0), 1), "{}", ended.err);
    replay.verify();
}

/// Asks a run's API, with one more header; the answer's first line.
fn ask(address: &str, path: &str, header: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the API is there");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{header}\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_request_is_a_span_of_its_callers_trace_and_the_caller_decides_over_it() {
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let header = |flags: &str| format!("traceparent: 00-{trace}-{parent}-{flags}\r\n");
    for (sample, of_its_own) in [("0", 0), ("1", 1)] {
        let (replay, collector) = (Replay::new(), Collector::start());
        let serve = ["--serve", "127.0.0.1:0", "--otlp-sample", sample];
        let mut running = Running::start(command(&replay, 1, &to(&collector), &serve).env("STOREFLOW_LOG", "storeflow=debug"));
        let api = running.wait("the API", api_at);
        assert_eq!(ask(&api, "/healthz", &header("01")), "HTTP/1.1 200 OK");
        // A caller that does not want it to be sent is obeyed, whatever the share is.
        ask(&api, "/openapi.json", &header("00"));
        assert_eq!(ask(&api, "/nowhere", ""), "HTTP/1.1 404 Not Found");
        running.succeed();
        let taken = collector.taken();
        let requests: Vec<_> = taken.spans.iter().filter(|span| !span.name.starts_with("checkpoint")).collect();
        let (told, others): (Vec<_>, Vec<_>) = requests.into_iter().partition(|span| hex(&span.trace_id) == trace);
        assert_eq!((told.len(), others.len()), (1, of_its_own), "{told:?} {others:?}");
        let of = attributes(&told[0].attributes);
        assert_eq!((told[0].name.as_str(), hex(&told[0].parent_span_id).as_str(), told[0].kind), ("GET /healthz", parent, 2));
        assert_eq!((&*of["http.route"], &*of["http.response.status_code"], &*of["url.path"]), ("/healthz", "200", "/healthz"));
        assert!(others.iter().all(|span| span.name == "GET other" && span.parent_span_id.is_empty()), "{others:?}");
        // Checkpoints are there in any case, and traces are in no line of the log.
        let log = running.log();
        assert!(!taken.named("checkpoint").is_empty() && !log.contains("checkpoint{") && !log.contains("request{"), "{log}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_address_that_is_none_is_refused_and_no_secret_is_shown() {
    let replay = Replay::new();
    let args = |more: &[&str]| replay.args(1, more);
    let refused = |more: &[&str], words: &[&str]| {
        let args = args(more);
        refuse(&args.iter().map(String::as_str).collect::<Vec<_>>(), words);
    };
    refused(&["--otlp", "collector:4318"], &["\"collector:4318\"", "http://HOST:PORT"]);
    refused(&["--otlp", "http://127.0.0.1:1", "--otlp-sample", "2"], &["from 0 to 1"]);
    refused(&["--otlp", "http://127.0.0.1:1", "--otlp-every", "0s"], &["a second at least"]);
    let ended = run(&mut replay.command(1, &["--otlp", &format!("http://me:{SECRET}@127.0.0.1:1")]));
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("OTEL_EXPORTER_OTLP_HEADERS") && !ended.err.contains(SECRET), "{}", ended.err);
    let mut headers = replay.command(1, &["--otlp", "http://127.0.0.1:1"]);
    let ended = run(headers.env("OTEL_EXPORTER_OTLP_HEADERS", SECRET));
    assert!(ended.code == Some(2) && ended.err.contains("NAME=VALUE") && !ended.err.contains(SECRET), "{}", ended.err);
}
