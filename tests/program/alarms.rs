//! What looks at storeflow from outside — dashboard, alerts, alarms — against what the running program says.
//!
//! ```text
//! deploy/grafana ─┐                                    ┌─ /metrics of a job between Kafka and Redis, with its API
//! deploy/prometheus ├─ names and labels ── are in ──────┤
//! deploy/cloudwatch ┘                                    └─ the lines of --metrics-emf of the same run
//! ```
//!
//! Upholds: a metric or a label that is renamed, or mistyped, in either place is noticed; every alert fires on a trouble made up for it,
//! is silent otherwise, and says where to read on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use storeflow::observe::metrics::{CATALOGUE, Kind as Moves};

use crate::crash::Replay;
use crate::support::binary::{run, storeflow, text};
use crate::support::malls::Mall;
use crate::support::redis;
use crate::support::running::{Running, metrics, metrics_at, sum_of};
use crate::support::services::{Kind, shared};

/// Labels that Prometheus adds.
const OF_PROMETHEUS: [&str; 2] = ["job", "instance"];
/// Metrics that have samples only in a trouble that this job is not in.
const IN_TROUBLE: [&str; 2] = ["storeflow_schema_wait_seconds", "storeflow_waiting_oldest_seconds"];

fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(deployed(name)).expect("readable")
}

/// Names of metrics, each with the names of its labels.
type Labelled = BTreeMap<String, BTreeSet<String>>;

/// What there is: names as /metrics serves them.
fn served(text: &str) -> Labelled {
    let mut labelled = Labelled::new();
    for line in text.lines().filter(|line| line.starts_with("storeflow_")) {
        let (name, labels) =
            line.rsplit_once(' ').expect("a value").0.split_once('{').unwrap_or((line.split(' ').next().expect("a name"), ""));
        let names = labels.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0.to_owned()));
        labelled.entry(name.to_owned()).or_default().extend(names);
    }
    labelled
}

/// What an expression of PromQL asks for: metrics, with the labels that it selects by or keeps.
fn asked(expression: &str) -> Labelled {
    let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let mut labelled = Labelled::new();
    let mut kept: Vec<String> = Vec::new();
    let mut rest = expression;
    while let Some(at) = ["storeflow_", "by ("].iter().filter_map(|word| rest.find(word)).min() {
        rest = &rest[at..];
        if let Some(list) = rest.strip_prefix("by (") {
            let (list, after) = list.split_once(')').expect("an end of the labels");
            kept = list.split(',').map(|label| label.trim().to_owned()).collect();
            rest = after;
            continue;
        }
        let name: String = rest.chars().take_while(|char| is_word(*char)).collect();
        rest = &rest[name.len()..];
        let labels = labelled.entry(name).or_default();
        labels.extend(kept.drain(..));
        if let Some(selectors) = rest.strip_prefix('{') {
            let selectors = selectors.split_once('}').expect("an end of the selectors").0;
            labels
                .extend(selectors.split(',').map(|one| one.trim().chars().take_while(|char| is_word(*char)).collect::<String>()));
        }
    }
    labelled
}

#[test]
fn what_an_expression_asks_for_is_found() {
    let expression = "sum by (route, job) (rate(storeflow_a_total{job=~\"$job\", status=~\"5..\"}[5m])) / max(storeflow_b) > 1";
    let labels = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    let expected = [("storeflow_a_total", &["job", "route", "status"][..]), ("storeflow_b", &[])];
    assert_eq!(asked(expression), expected.map(|(name, of)| (name.to_owned(), labels(of))).into());
}

/// Labels that a text names in two braces, less `prefix`.
fn mentioned(text: &str, prefix: &str) -> BTreeSet<String> {
    let inside = text.split("{{").skip(1).map(|part| part.split("}}").next().expect("an end").trim());
    inside.filter_map(|label| Some(label.strip_prefix(prefix)?.to_owned())).collect()
}

/// Every expression of the dashboard, with its legend.
fn of_dashboard() -> Vec<(String, String)> {
    fn collect(value: &Value, into: &mut Vec<(String, String)>) {
        match value {
            Value::Object(members) => {
                if let Some(expression) = members.get("expr").and_then(Value::as_str) {
                    let legend = members.get("legendFormat").and_then(Value::as_str).unwrap_or_default();
                    into.push((expression.to_owned(), legend.to_owned()));
                }
                members.values().for_each(|value| collect(value, into));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
    let dashboard: Value = serde_json::from_str(&read("grafana/storeflow.json")).expect("JSON");
    let mut expressions = Vec::new();
    collect(&dashboard, &mut expressions);
    expressions
}

/// An alert of the rules.
struct Alert {
    name: String,
    expression: String,
    annotations: String,
}

/// The rules, which promtool holds to their format in another test; here a block of lines each.
fn alerts() -> Vec<Alert> {
    let rules = read("prometheus/rules.yml");
    let of = |block: &str| {
        let (name, rest) = block.split_once('\n').expect("lines");
        let (expression, rest) = rest.split_once("expr:").expect("an expression").1.split_once("for:").expect("a duration");
        Alert { name: name.trim().to_owned(), expression: expression.to_owned(), annotations: rest.to_owned() }
    };
    rules.split("- alert:").skip(1).map(of).collect()
}

/// Names of storeflow's metrics anywhere in a text.
fn named(text: &str) -> BTreeSet<String> {
    let is_name = |char: char| char.is_ascii_lowercase() || char == '_';
    let begin = text.match_indices("storeflow_").map(|(at, _)| &text[at..]);
    begin.map(|text| text.chars().take_while(|char| is_name(*char)).collect()).collect()
}

/// Every alarm of CloudFormation's template: each metric, with its dimensions.
fn of_cloudwatch() -> Vec<(String, BTreeSet<String>)> {
    let template = read("cloudwatch/alarms.yaml");
    let metrics = template.split("MetricName: ").skip(1).map(|block| {
        let name = block.lines().next().expect("a name").trim().to_owned();
        let dimensions = block.lines().skip_while(|line| line.trim() != "Dimensions:").skip(1);
        let dimensions = dimensions.map_while(|line| Some(line.trim().strip_prefix("- {Name: ")?.split(',').next()?.to_owned()));
        (name, dimensions.collect())
    });
    metrics.collect()
}

/// Documents of CloudWatch's embedded metric format, as their metrics and dimensions.
fn documents(lines: &str) -> Vec<(Value, BTreeSet<String>, BTreeSet<String>)> {
    let document = |line: &str| {
        let document: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let directive = &document["_aws"]["CloudWatchMetrics"][0];
        let texts = |value: &Value| value.as_array().expect("an array").clone();
        let metrics =
            texts(&directive["Metrics"]).iter().map(|metric| metric["Name"].as_str().expect("a name").to_owned()).collect();
        let dimensions =
            texts(&directive["Dimensions"][0]).iter().map(|name| name.as_str().expect("a name").to_owned()).collect();
        (document, metrics, dimensions)
    };
    lines.lines().map(document).collect()
}

/// Asks the query API for something.
fn ask(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Where a run serves its API.
pub(crate) fn api_at(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("serving the query API"))?;
    Some(line.split_once("address=")?.1.split_whitespace().next()?.to_owned())
}

#[test]
fn what_dashboard_alerts_and_alarms_ask_for_is_what_a_run_tells() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let Some(redis) = redis::redis("what_dashboard_alerts_and_alarms_ask_for_is_what_a_run_tells") else { return };
    let small = ["--payments", "1500", "--clicks", "6000", "--products", "300", "--partitions", "2", "--malformed", "0.01"];
    let mall = Mall::generate("alarms", &small);
    mall.produce("whole", &kafka);
    let (job, out, emf) = (mall.job(), mall.dir("out"), mall.dir("metrics.emf"));
    let usual = ["run", "--job", &job, "--brokers", kafka.address(), "--workers", "1", "--tick", "10s", "--store", &out];
    let watched = ["--redis", &redis.url(), "--metrics", "127.0.0.1:0", "--metrics-emf", &emf, "--metrics-emf-every", "1s"];
    let serve = ["--serve", "127.0.0.1:0", "--checkpoint-interval", "1s"];
    let mut running = Running::start(&mut storeflow(&[&usual[..], &watched, &serve].concat()));
    let address = running.wait("metrics", |log| metrics_at(log).into_iter().next());
    let api = running.wait("the API", api_at);
    assert!(running.wait("an answer", |_| ask(&api, "/v1/status")).starts_with("HTTP/1.1 "));
    ask(&api, "/nowhere").expect("an answer");

    let expressions = of_dashboard();
    let alerts = alerts();
    assert!(expressions.len() > 50 && alerts.len() > 10, "{} and {}", expressions.len(), alerts.len());
    let all = expressions.iter().map(|(expression, _)| expression).chain(alerts.iter().map(|alert| &alert.expression));
    let mut wanted = Labelled::new();
    for (name, labels) in all.flat_map(|expression| asked(expression)) {
        wanted.entry(name).or_default().extend(labels);
    }
    // All that is asked for has samples, once the job has read, shown and committed.
    let (mut last, mut said) = (Labelled::new(), 0);
    let there = running.wait_with("samples of everything that is asked for", |_| {
        last = served(&metrics(&address)?);
        let missing: Vec<&String> =
            wanted.keys().filter(|name| !last.contains_key(*name) && !IN_TROUBLE.contains(&name.as_str())).collect();
        if said != missing.len() {
            println!("without {missing:?}");
            said = missing.len();
        }
        missing.is_empty().then(|| last.clone())
    });
    for (name, labels) in &wanted {
        let of_catalogue = CATALOGUE.iter().find(|metric| name_of(metric.name, metric.kind) == *name).expect("in the catalogue");
        let known: BTreeSet<String> = match there.get(name) {
            Some(labels) => labels.clone(),
            None => of_catalogue.labels.iter().map(|&label| label.to_owned()).collect(),
        };
        let strange: Vec<&String> =
            labels.iter().filter(|label| !known.contains(*label) && !OF_PROMETHEUS.contains(&label.as_str())).collect();
        assert!(strange.is_empty(), "{name} has no {strange:?}, only {known:?}");
    }
    for (expression, legend) in &expressions {
        let kept: BTreeSet<String> = asked(expression).into_values().flatten().collect();
        assert!(mentioned(legend, "").is_subset(&kept), "{legend:?} of {expression}");
    }
    for Alert { name, expression, annotations } in &alerts {
        let kept: BTreeSet<String> = asked(expression).into_values().flatten().collect();
        assert!(mentioned(annotations, "$labels.").is_subset(&kept), "{name}: {annotations}");
    }
    // Nor does a text name anything that is not there.
    let catalogue: BTreeSet<String> = CATALOGUE.iter().map(|metric| name_of(metric.name, metric.kind)).collect();
    for file in ["grafana/storeflow.json", "prometheus/rules.yml", "prometheus/rules_test.yml"] {
        let strange: Vec<String> = named(&read(file)).difference(&catalogue).cloned().collect();
        assert!(strange.is_empty(), "{file} names {strange:?}");
    }
    // And the dashboard leaves out nothing but constants.
    let constant = ["storeflow_build_info".to_owned()].into();
    let unseen: BTreeSet<String> = catalogue.difference(&wanted.keys().cloned().collect()).cloned().collect();
    assert_eq!(unseen, constant, "metrics that neither dashboard nor alerts look at");

    let alarms = of_cloudwatch();
    assert!(alarms.len() > 8, "{alarms:?}");
    let written = running.wait_with("lines with everything that alarms look at", |_| {
        let written = fs::read_to_string(&emf).ok()?;
        // The last line may be on its way.
        let whole = documents(&written[..written.rfind('\n')? + 1]);
        let is_there = |(name, dimensions): &(String, BTreeSet<String>)| {
            whole.iter().any(|(_, metrics, of)| metrics.contains(name) && of == dimensions)
        };
        alarms.iter().all(is_there).then_some(whole)
    });
    assert!(written.iter().all(|(document, ..)| document["job"] == mall.name.as_str() && document["process"] == "0"));
    running.stop();
}

fn name_of(name: &str, kind: Moves) -> String {
    format!("storeflow_{name}{}", if kind == Moves::Counter { "_total" } else { "" })
}

fn promtool(arguments: &[&str], program: &str) {
    let checked = run(Command::new(program).args(arguments));
    assert_eq!(checked.code, Some(0), "promtool {arguments:?}\n{}{}", checked.out, checked.err);
}

#[test]
fn every_expression_is_promql_and_every_alert_fires_on_its_trouble_alone() {
    let Some(tool) = shared(Kind::Promtool) else { return };
    let (rules, tests) = (text(&deployed("prometheus/rules.yml")), text(&deployed("prometheus/rules_test.yml")));
    promtool(&["check", "rules", &rules], tool.address());
    promtool(&["test", "rules", &tests], tool.address());
    // The dashboard's, as rules of their own, with what Grafana puts in.
    let folder = tempfile::tempdir().expect("a folder");
    let mut recorded = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, (expression, _)) in of_dashboard().iter().enumerate() {
        let expression = expression.replace("$__rate_interval", "1m").replace("$job", "mall");
        recorded += &format!("      - record: dashboard_{number}\n        expr: {}\n", Value::from(expression));
    }
    let file = folder.path().join("dashboard.yml");
    fs::write(&file, recorded).expect("written");
    promtool(&["check", "rules", &text(&file)], tool.address());
    // Each alert is one that a test sees fire.
    let tested = read("prometheus/rules_test.yml");
    for Alert { name, .. } in alerts() {
        assert!(tested.contains(&format!("alertname=\"{name}\"")), "{name} is in no test");
    }
}

#[test]
fn every_alert_says_where_to_read_on() {
    let documented = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).expect("readable");
    let headings: Vec<&str> = documented.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let names: Vec<String> = alerts().into_iter().map(|alert| alert.name).collect();
    for Alert { name, annotations, .. } in alerts() {
        assert!(headings.contains(&name.as_str()), "docs/metrics.md has no section {name}");
        assert!(annotations.contains(&format!("runbook: \"docs/metrics.md#{}\"", name.to_lowercase())), "{name}: {annotations}");
        assert!(annotations.contains("summary:") && annotations.contains("description:"), "{name}");
    }
    let gone: Vec<&&str> =
        headings.iter().filter(|heading| heading.starts_with("Storeflow") && !names.contains(&(**heading).to_owned())).collect();
    assert!(gone.is_empty(), "docs/metrics.md has sections of {gone:?}, which are no alerts");
}

/// The records that lines count, by process.
fn records(written: &[(Value, BTreeSet<String>, BTreeSet<String>)]) -> BTreeMap<String, f64> {
    let mut records = BTreeMap::new();
    for (document, ..) in written {
        if let Some(count) = document.get("topic_records").and_then(Value::as_f64) {
            *records.entry(document["process"].as_str().expect("a process").to_owned()).or_default() += count;
        }
    }
    records
}

/// The records that a run says it has read.
fn said(log: &str) -> f64 {
    let finished = log.lines().filter(|line| line.contains("finished") && line.contains("records="));
    let count = |line: &str| line.split_once("records=")?.1.split(' ').next()?.parse::<f64>().ok();
    finished.filter_map(count).sum()
}

#[test]
fn lines_for_cloudwatch_add_up_to_what_was_read() {
    let replay = Replay::new();
    let ended =
        run(&mut replay.command(2, &["--metrics-emf", "-", "--metrics-emf-every", "1s", "--metrics-emf-namespace", "malls"]));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let written = documents(&ended.out);
    assert!(written.iter().all(|(document, ..)| document["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "malls"));
    let instants: BTreeSet<u64> = written.iter().filter_map(|(document, ..)| document["_aws"]["Timestamp"].as_u64()).collect();
    assert!(instants.len() > 1, "{instants:?}");
    assert_eq!(records(&written).into_values().sum::<f64>(), said(&ended.err), "{}", ended.err);
    // Not by partition, which would cost as many metrics as there are partitions.
    assert!(written.iter().all(|(_, _, dimensions)| !dimensions.contains("partition") && !dimensions.contains("worker")));
    let full = run(&mut replay.command(2, &["--metrics-emf", "-", "--metrics-emf-in-full", "--generation", "2"]));
    assert!(documents(&full.out).iter().any(|(_, _, dimensions)| dimensions.contains("partition")), "{}", full.out);
}

#[test]
fn processes_of_a_launch_write_lines_that_are_whole_whether_to_the_output_or_into_one_file() {
    let (replay, folder) = (Replay::new(), tempfile::tempdir().expect("a folder"));
    let file = text(&folder.path().join("metrics.emf"));
    for to in ["-", &file] {
        let mut arguments = replay.args(1, &["--metrics-emf", to, "--metrics-emf-every", "1s"]);
        arguments.splice(0..1, ["launch", "--processes", "2"].map(str::to_owned));
        let out = folder.path().join(format!("out-{}", to.len()));
        let at = arguments.iter().position(|argument| argument == "--data-dir").expect("a place");
        arguments[at + 1] = text(&out);
        let ended = run(&mut storeflow(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let lines = if to == "-" { ended.out } else { fs::read_to_string(&file).expect("lines") };
        let records = records(&documents(&lines));
        assert_eq!(records.len(), 2, "{records:?}");
        assert_eq!(records.into_values().sum::<f64>(), said(&ended.err), "{}", ended.err);
    }
}

#[test]
fn a_file_for_cloudwatch_that_takes_nothing_is_told_of_once_and_stops_nothing() {
    let replay = Replay::new();
    let ended = run(&mut replay.command(1, &["--metrics-emf", "/dev/full", "--metrics-emf-every", "1s"]));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.err.matches("could not write metrics for CloudWatch").count(), 1, "{}", ended.err);
    replay.verify();
    let refused = run(&mut replay.command(1, &["--metrics-emf", "/nowhere/at/all"]));
    assert!(refused.code == Some(2) && refused.err.contains("\"/nowhere/at/all\""), "{}", refused.err);
    let wrong = run(&mut replay.command(1, &["--metrics-emf", "-", "--metrics-emf-namespace", "AWS/Kinesis"]));
    assert!(wrong.code == Some(2) && wrong.err.contains("does not begin with \"AWS/\""), "{}", wrong.err);
}

/// What a run or a server tells after it was asked four things.
fn told(running: &mut Running) -> String {
    let (api, address) = (running.wait("the API", api_at), running.wait("metrics", |log| metrics_at(log).into_iter().next()));
    for path in ["/healthz", "/healthz", "/v1/stores?bad=1", "/nowhere"] {
        ask(&api, path).expect("an answer");
    }
    let text = metrics(&address).expect("metrics");
    let has = |line: &str| assert!(text.lines().any(|other| other == line), "no {line} in\n{text}");
    has("storeflow_http_requests_total{route=\"/healthz\",status=\"200\"} 2.0");
    has("storeflow_http_requests_total{route=\"other\",status=\"404\"} 1.0");
    has("storeflow_http_in_flight 0.0");
    has("storeflow_http_streams 0.0");
    assert_eq!(sum_of(&text, "storeflow_http_requests_total"), 4.0, "{text}");
    assert!(sum_of(&text, "storeflow_http_request_seconds_total") > 0.0, "{text}");
    address
}

#[test]
fn the_apis_own_numbers_are_of_what_it_was_asked() {
    let replay = Replay::new();
    let listen = ["--serve", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
    let mut running = Running::start(&mut replay.command(1, &listen));
    told(&mut running);
    running.succeed();
    // The same of a server of what it left, which is ready once its view has answered.
    let serve =
        ["serve", "--data-dir", &replay.out(), "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--metrics-emf", "-"];
    let mut server = Running::start(&mut storeflow(&serve));
    let address = told(&mut server);
    server.wait_with("a view that answers", |_| metrics(&address)?.contains("\nstoreflow_ready 1.0\n").then_some(()));
    server.stop();
    let log = server.log();
    let lines: String = log.lines().filter(|line| line.starts_with('{')).map(|line| format!("{line}\n")).collect();
    assert!(
        documents(&lines).iter().any(|(document, ..)| document["route"] == "/healthz" && document["http_requests"] == 2.0),
        "{log}"
    );
}
