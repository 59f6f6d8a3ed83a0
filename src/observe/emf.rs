//! The metrics for CloudWatch, as lines in its embedded metric format: one JSON document per set of dimensions and interval.
//!
//! ```text
//! every interval ─► Registry: one sample ─► by dimensions ─► {"_aws": …, "job": …, "topic": …, "topic_records": 12} ─► stdout, or a file
//!                                             └ counters: what came since the last line
//! ```
//!
//! Upholds: (1) a line is written whole, all of an interval with one write, so that processes may share a file; (2) what could not be
//! written is told once and counts towards the next line; (3) nothing waits for it: it has a thread of its own; (4) there is
//! a line of the end.
//! Keeps: the counters as of the last line.
//! Absent on purpose: histograms, the build (a constant would be paid for), and, unless it is asked for, anything per partition: each
//! set of dimensions is a metric that is paid for by the month.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Map, Number, Value, json};

use super::metrics::{BUILD, CATALOGUE, Kind, Metric, Registry, Sample, Unit};
use super::wall_ms;

/// Metrics that one directive may have.
const METRICS_MAX: usize = 100;
/// Characters that the value of a dimension may have.
const DIMENSION_MAX: usize = 1_024;
/// Labels that are summed up: their values are many.
const SUMMED_UP: [&str; 3] = ["partition", "schema", "worker"];

/// Where lines go, and which.
#[derive(Clone, Debug)]
pub struct EmfSettings {
    /// A file that they are appended to; `None`: standard output.
    pub file: Option<PathBuf>,
    /// From one to the next.
    pub every: Duration,
    /// CloudWatch's namespace.
    pub namespace: String,
    /// Partitions and workers keep their own metrics.
    pub in_full: bool,
}

/// The file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("could not append metrics to \"{path}\"; may this user write it?")]
pub struct EmfError {
    path: PathBuf,
    source: io::Error,
}

/// Writes until it is dropped, and a last time then.
#[derive(Debug)]
pub struct EmfWriter {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EmfWriter {
    /// Begins to write the metrics of a process of a job.
    ///
    /// # Errors
    /// If the file cannot be opened, or there can be no thread.
    pub fn start(settings: EmfSettings, registry: Registry, job: &str, process: usize) -> Result<EmfWriter, EmfError> {
        let path = settings.file.clone().unwrap_or_else(|| "-".into());
        let refused = |source| EmfError { path: path.clone(), source };
        let mut writer = Writer { documents: Documents::new(&settings, job, process), settings, torn: false, told: false };
        if let Some(file) = &writer.settings.file {
            OpenOptions::new().append(true).create(true).open(file).map_err(refused)?;
        }
        let (stop, stopped) = channel();
        let run = move || writer.run(&registry, &stopped);
        let thread = std::thread::Builder::new().name("metrics-emf".to_owned()).spawn(run).map_err(refused)?;
        Ok(EmfWriter { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for EmfWriter {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer {
    settings: EmfSettings,
    documents: Documents,
    /// The last write may have left part of a line.
    torn: bool,
    /// The last write failed, and that was said.
    told: bool,
}

impl Writer {
    fn run(&mut self, registry: &Registry, stopped: &Receiver<()>) {
        loop {
            let over = !matches!(stopped.recv_timeout(self.settings.every), Err(RecvTimeoutError::Timeout));
            self.write(&registry.sample(wall_ms()));
            if over {
                return;
            }
        }
    }

    fn write(&mut self, sample: &Sample) {
        let (documents, counted) = self.documents.of(sample);
        let lines: String = documents.iter().map(|document| format!("{document}\n")).collect();
        match self.append(&lines) {
            Ok(()) => {
                self.documents.counted = counted;
                if std::mem::take(&mut self.told) {
                    tracing::info!(to = self.place(), "metrics for CloudWatch are written again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::error!(%error, to = self.place(), "could not write metrics for CloudWatch; tried again without saying so");
                }
            }
        }
    }

    fn append(&mut self, lines: &str) -> io::Result<()> {
        let mut to: Box<dyn Write> = match &self.settings.file {
            // Opened anew, whoever moves it away to rotate it gets a new one.
            Some(file) => Box::new(OpenOptions::new().append(true).create(true).open(file)?),
            None => Box::new(io::stdout().lock()),
        };
        // Until it is known that all was written, part of a line may have been.
        let begun = if std::mem::replace(&mut self.torn, true) { "\n" } else { "" };
        to.write_all(format!("{begun}{lines}").as_bytes())?;
        to.flush()?;
        self.torn = false;
        Ok(())
    }

    fn place(&self) -> String {
        self.settings.file.as_ref().map_or_else(|| "standard output".to_owned(), |file| file.display().to_string())
    }
}

/// Names and values of dimensions.
type Dimensions = Vec<(&'static str, String)>;
/// Of each set of dimensions, the values of metrics.
type Values = BTreeMap<Dimensions, BTreeMap<&'static str, f64>>;

/// Makes documents of samples.
struct Documents {
    own: Dimensions,
    namespace: String,
    in_full: bool,
    /// Counters as of the last lines that were written.
    counted: Values,
}

impl Documents {
    fn new(settings: &EmfSettings, job: &str, process: usize) -> Documents {
        let own = vec![("job", dimension(job)), ("process", process.to_string())];
        Documents { own, namespace: settings.namespace.clone(), in_full: settings.in_full, counted: Values::new() }
    }

    /// A sample's documents, and the counters that become the last ones once those are written.
    fn of(&self, sample: &Sample) -> (Vec<Value>, Values) {
        let (mut gauges, mut counters) = (Values::new(), Values::new());
        for metric in CATALOGUE.iter().filter(|metric| **metric != BUILD) {
            // A counter that has never moved would be paid for as well.
            let is_worth_a_line = |value: f64| value.is_finite() && (metric.kind == Kind::Gauge || value > 0.0);
            for (labels, value) in sample.labelled(metric).filter(|(_, value)| is_worth_a_line(*value)) {
                let values = if metric.kind == Kind::Counter { &mut counters } else { &mut gauges };
                let at = values.entry(self.dimensions(metric, labels)).or_default().entry(metric.name);
                at.and_modify(|sum| *sum = if oldest_counts(metric) { sum.max(value) } else { *sum + value }).or_insert(value);
            }
        }
        let mut values = gauges;
        for (dimensions, of) in &counters {
            let last = self.counted.get(dimensions);
            let values = values.entry(dimensions.clone()).or_default();
            values.extend(of.iter().map(|(&name, count)| {
                (name, (count - last.and_then(|last| last.get(name)).copied().unwrap_or_default()).max(0.0))
            }));
        }
        let documents = values.iter().flat_map(|(dimensions, values)| self.documents(sample.now(), dimensions, values));
        (documents.collect(), counters)
    }

    fn dimensions(&self, metric: &Metric, labels: &[String]) -> Dimensions {
        let kept = metric.labels.iter().copied().zip(labels).filter(|(name, _)| self.in_full || !SUMMED_UP.contains(name));
        self.own.iter().cloned().chain(kept.map(|(name, value)| (name, dimension(value)))).collect()
    }

    fn documents(&self, now: u64, dimensions: &Dimensions, values: &BTreeMap<&'static str, f64>) -> Vec<Value> {
        let values: Vec<(&'static str, f64)> = values.iter().map(|(&name, &value)| (name, value)).collect();
        let document = |values: &[(&'static str, f64)]| {
            let metrics: Vec<Value> = values.iter().map(|(name, _)| json!({"Name": name, "Unit": unit(name)})).collect();
            let names: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
            let directive = json!({"Namespace": self.namespace, "Dimensions": [names], "Metrics": metrics});
            let mut document = Map::new();
            document.insert("_aws".to_owned(), json!({"Timestamp": now, "CloudWatchMetrics": [directive]}));
            document.extend(dimensions.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))));
            let numbers = values.iter().filter_map(|(name, value)| Some(((*name).to_owned(), Number::from_f64(*value)?)));
            document.extend(numbers.map(|(name, value)| (name, Value::Number(value))));
            Value::Object(document)
        };
        values.chunks(METRICS_MAX).map(document).collect()
    }
}

/// Of several ages, the oldest counts; everything else is summed up.
fn oldest_counts(metric: &Metric) -> bool {
    metric.kind == Kind::Gauge && metric.unit() == Unit::Seconds
}

fn unit(name: &str) -> &'static str {
    match Unit::of(name) {
        Unit::Seconds => "Seconds",
        Unit::Bytes => "Bytes",
        Unit::Count => "Count",
    }
}

/// A value that CloudWatch takes: printable ASCII, not empty, not too long.
fn dimension(value: &str) -> String {
    let printable = |char: char| if char.is_ascii_graphic() || char == ' ' { char } else { '?' };
    let value: String = value.chars().take(DIMENSION_MAX).map(printable).collect();
    if value.trim().is_empty() { "?".to_owned() } else { value }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::{self, Observed};
    use super::*;
    use std::sync::{Arc, Mutex};

    fn settings(in_full: bool) -> EmfSettings {
        EmfSettings { file: None, every: Duration::from_secs(60), namespace: "storeflow".to_owned(), in_full }
    }

    /// Holds a document against the rules of the specification.
    fn check(document: &Value) {
        let members = document.as_object().expect("a document is an object");
        let meta = &members["_aws"];
        assert!(meta["Timestamp"].as_u64().is_some_and(|at| at < 1 << 53), "{document}");
        let directives = meta["CloudWatchMetrics"].as_array().expect("directives");
        assert!(!directives.is_empty());
        for directive in directives {
            let namespace = directive["Namespace"].as_str().expect("a namespace");
            assert!((1..=1_024).contains(&namespace.len()));
            let sets = directive["Dimensions"].as_array().expect("sets of dimensions");
            assert!(!sets.is_empty());
            for name in sets.iter().flat_map(|set| {
                let set = set.as_array().expect("a set is an array");
                assert!(set.len() <= 30);
                set
            }) {
                let name = name.as_str().expect("a name");
                assert!((1..=250).contains(&name.len()) && name.is_ascii() && !name.starts_with(':'));
                let value = members[name].as_str().expect("the value of a dimension is a string at the top");
                assert!((1..=1_024).contains(&value.chars().count()) && value.is_ascii() && !value.trim().is_empty());
            }
            let metrics = directive["Metrics"].as_array().expect("metrics");
            assert!((1..=100).contains(&metrics.len()));
            for metric in metrics {
                let name = metric["Name"].as_str().expect("a name");
                assert!(!name.is_empty() && name.len() <= 1_024);
                assert!(members[name].is_number(), "{name} is a number at the top of {document}");
                assert!(["Seconds", "Bytes", "Count"].contains(&metric["Unit"].as_str().expect("a unit")));
            }
        }
        let named = directives.iter().flat_map(|directive| directive["Metrics"].as_array().expect("metrics"));
        let named: Vec<&str> = named.map(|metric| metric["Name"].as_str().expect("a name")).collect();
        for (name, _) in members.iter().filter(|(name, value)| *name != "_aws" && value.is_number()) {
            assert!(named.contains(&name.as_str()), "{name} is a metric of a directive");
        }
    }

    fn number(documents: &[Value], topic: Option<&str>, name: &str) -> Option<f64> {
        let of = documents
            .iter()
            .find(|document| document.get("topic").and_then(Value::as_str) == topic && document.get(name).is_some());
        of.and_then(|document| document[name].as_f64())
    }

    #[test]
    fn every_metric_of_the_catalogue_keeps_the_rules() {
        let mut sample = Sample::new(1_700_000_000_123);
        for metric in CATALOGUE {
            let labels: Vec<&str> = metric.labels.iter().map(|_| "a \u{e4} \"label\"\n").collect();
            sample.add(metric, &labels, 2.5);
        }
        for in_full in [false, true] {
            let (documents, _) = Documents::new(&settings(in_full), "a \u{4e2d} job", 3).of(&sample);
            documents.iter().for_each(check);
            let named: std::collections::BTreeSet<&str> =
                documents.iter().flat_map(|of| of.as_object().expect("an object").keys()).map(String::as_str).collect();
            for metric in CATALOGUE.iter().filter(|metric| **metric != BUILD) {
                assert!(named.contains(metric.name), "{} is written", metric.name);
            }
            assert_eq!(named.contains("partition"), in_full);
            assert!(documents.iter().all(|of| of["job"] == "a ? job" && of["process"] == "3"));
        }
    }

    #[test]
    fn partitions_become_their_topic_the_oldest_of_ages_and_the_sum_of_lags() {
        let mut sample = Sample::new(100_000);
        for (partition, clock, lag) in [("0", 90_000, 4), ("1", 40_000, 3)] {
            sample.age(&metrics::PARTITION_AGE, &["clicks", partition], clock);
            sample.count(&metrics::PARTITION_LAG, &["clicks", partition], lag);
        }
        sample.add(&metrics::FRONTIER_AGE, &[], f64::NAN);
        let (documents, _) = Documents::new(&settings(false), "mall", 0).of(&sample);
        documents.iter().for_each(check);
        assert_eq!(number(&documents, Some("clicks"), "partition_age_seconds"), Some(60.0));
        assert_eq!(number(&documents, Some("clicks"), "partition_lag_records"), Some(7.0));
        assert_eq!(number(&documents, None, "frontier_age_seconds"), None, "what is no number is left out");
        let (documents, _) = Documents::new(&settings(true), "mall", 0).of(&sample);
        assert_eq!(documents.iter().filter(|of| of.get("partition").is_some()).count(), 2);
    }

    #[test]
    fn more_metrics_than_a_directive_may_have_become_several_documents() {
        let names: Vec<&'static str> = (0..250).map(|number| &*format!("metric_{number}_bytes").leak()).collect();
        let values = names.iter().map(|name| (*name, 1.0)).collect();
        let documents = Documents::new(&settings(false), "mall", 0).documents(1, &vec![("job", "mall".to_owned())], &values);
        documents.iter().for_each(check);
        assert_eq!(documents.len(), 3);
        assert_eq!(documents.iter().map(|of| of.as_object().expect("an object").len() - 2).sum::<usize>(), 250);
    }

    /// A counter that a test moves.
    struct Records(Mutex<u64>);

    impl Observed for Records {
        fn collect(&self, sample: &mut Sample) {
            sample.count(&metrics::TOPIC_RECORDS, &["clicks"], *self.0.lock().expect("whole"));
        }
    }

    #[test]
    fn counters_are_what_came_since_the_last_line_also_when_one_could_not_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, away) = (folder.path().join("metrics.emf"), folder.path().join("away"));
        let records = Arc::new(Records(Mutex::new(5)));
        let registry = Registry::default();
        registry.register(Arc::clone(&records) as _);
        let settings = EmfSettings { file: Some(file.clone()), ..settings(false) };
        let mut writer = Writer { documents: Documents::new(&settings, "mall", 0), settings, torn: false, told: false };
        let mut say = |total: u64| {
            *records.0.lock().expect("whole") = total;
            writer.write(&registry.sample(1_000));
        };
        say(5);
        say(12);
        // A folder in its place cannot be appended to.
        std::fs::rename(&file, &away).expect("moved");
        std::fs::create_dir(&file).expect("a folder");
        say(20);
        std::fs::remove_dir(&file).expect("removed");
        say(21);
        let read = |path| -> Vec<f64> {
            let text = std::fs::read_to_string(path).expect("lines");
            let documents: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            documents.iter().for_each(check);
            documents.iter().filter_map(|of| of.get("topic_records")?.as_f64()).collect()
        };
        assert_eq!(read(&away), [5.0, 7.0]);
        assert_eq!(read(&file), [9.0], "what could not be written is in the next");
    }

    #[test]
    fn a_counter_is_there_once_it_has_moved_and_a_gauge_always() {
        let mut sample = Sample::new(1);
        sample.count(&metrics::STALE, &[], 0);
        sample.count(&metrics::LATE, &["clicks"], 2);
        sample.count(&metrics::WAITING_ROWS, &[], 0);
        let mut documents = Documents::new(&settings(false), "mall", 0);
        let (first, counted) = documents.of(&sample);
        assert_eq!((number(&first, None, "stale_changes"), number(&first, None, "waiting_rows")), (None, Some(0.0)));
        assert_eq!(number(&first, None, "late_contributions"), Some(2.0));
        documents.counted = counted;
        assert_eq!(number(&documents.of(&sample).0, None, "late_contributions"), Some(0.0), "it stands still");
    }

    #[test]
    fn the_end_has_a_line_and_a_file_that_cannot_be_had_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("metrics.emf");
        let registry = Registry::default();
        registry.register(Arc::new(Records(Mutex::new(5))));
        let long = Duration::from_secs(86_400);
        let settings = EmfSettings { file: Some(file.clone()), every: long, ..settings(false) };
        drop(EmfWriter::start(settings.clone(), registry.clone(), "mall", 0).expect("started"));
        assert_eq!(std::fs::read_to_string(&file).expect("lines").lines().count(), 1);
        let nowhere = EmfSettings { file: Some(folder.path().join("no/such")), ..settings };
        let error = EmfWriter::start(nowhere, registry, "mall", 0).expect_err("no such folder");
        assert!(error.to_string().contains("no/such"), "{error}");
    }
}
