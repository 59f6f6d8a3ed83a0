//! A collector that takes traces and metrics by OTLP over HTTP, goes away and comes back.
//!
//! Upholds: what it took is decoded by the protocol's own types; it is at one address all the time; what is started is ended with its
//! value.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// Values by key, as text.
pub(crate) type Attributes = BTreeMap<String, String>;

/// What a collector has taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    /// Spans, in the order of their coming.
    pub(crate) spans: Vec<Span>,
    /// Of the resource of each request.
    pub(crate) resources: BTreeSet<Attributes>,
    /// The last export of metrics: by name, what there is by labels.
    pub(crate) metrics: BTreeMap<String, BTreeMap<Attributes, f64>>,
    /// How many exports of metrics there were.
    pub(crate) exports: usize,
    /// The value of the header "authorization" of each request.
    pub(crate) authorized: BTreeSet<Option<String>>,
}

impl Taken {
    /// Spans of a name.
    pub(crate) fn named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// Spans below one.
    pub(crate) fn below(&self, parent: &Span) -> Vec<&Span> {
        let is_child = |span: &&Span| span.parent_span_id == parent.span_id && span.trace_id == parent.trace_id;
        self.spans.iter().filter(is_child).collect()
    }
}

/// A collector.
pub(crate) struct Collector {
    address: SocketAddr,
    taken: Arc<Mutex<Taken>>,
    serving: Option<Serving>,
}

struct Serving {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Collector {
    /// Starts one at a free port.
    pub(crate) fn start() -> Collector {
        let address = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
        let mut collector = Collector { address, taken: Arc::default(), serving: None };
        collector.come_back();
        collector
    }

    /// Where it is, or will be again.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has taken so far.
    pub(crate) fn taken(&self) -> Taken {
        self.taken.lock().expect("whole").clone()
    }

    /// Nobody listens any more, and connections are cut.
    pub(crate) fn go_away(&mut self) {
        if let Some(Serving { stop, thread }) = self.serving.take() {
            stop.store(true, Ordering::Relaxed);
            let _ = TcpStream::connect(self.address);
            thread.join().expect("it ends");
        }
    }

    /// Listens again where it was.
    pub(crate) fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).expect("its own port");
        let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::clone(&self.taken));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                if stopping.load(Ordering::Relaxed) {
                    break;
                }
                let (taken, stopping) = (Arc::clone(&taken), Arc::clone(&stopping));
                connections.push(std::thread::spawn(move || while answer(&stream, &taken, &stopping).is_some() {}));
            }
            connections.into_iter().for_each(|connection| connection.join().expect("it ends"));
        });
        self.serving = Some(Serving { stop, thread });
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.go_away();
    }
}

/// Takes one request of a connection; `None`: there is no more.
fn answer(mut stream: &TcpStream, taken: &Mutex<Taken>, stop: &AtomicBool) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
    let mut byte = [0];
    while stream.peek(&mut byte).is_err() {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
    }
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut from = BufReader::new(stream);
    let mut line = String::new();
    from.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut authorization, mut kind) = (0, None, String::new());
    loop {
        let mut header = String::new();
        from.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => authorization = Some(value.trim().to_owned()),
            "content-type" => value.trim().clone_into(&mut kind),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    assert_eq!(kind, "application/x-protobuf");
    take(&path, &body, authorization, &mut taken.lock().expect("whole"));
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n").ok()
}

fn take(path: &str, body: &[u8], authorization: Option<String>, taken: &mut Taken) {
    taken.authorized.insert(authorization);
    match path {
        "/v1/traces" => {
            let request = ExportTraceServiceRequest::decode(body).expect("a request");
            for of in request.resource_spans {
                taken.resources.insert(attributes(&of.resource.expect("a resource").attributes));
                taken.spans.extend(of.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        "/v1/metrics" => {
            let request = ExportMetricsServiceRequest::decode(body).expect("a request");
            taken.exports += 1;
            taken.metrics.clear();
            for of in request.resource_metrics {
                taken.resources.insert(attributes(&of.resource.expect("a resource").attributes));
                for metric in of.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                    let points = match metric.data.expect("data") {
                        metric::Data::Gauge(gauge) => gauge.data_points,
                        metric::Data::Sum(sum) => {
                            assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "{} is cumulative", metric.name);
                            sum.data_points
                        }
                        other => panic!("{} is {other:?}", metric.name),
                    };
                    let value = |value: Option<number_data_point::Value>| match value {
                        Some(number_data_point::Value::AsDouble(value)) => value,
                        other => panic!("{other:?} is no number with a fraction"),
                    };
                    let points = points.into_iter().map(|point| (attributes(&point.attributes), value(point.value)));
                    taken.metrics.insert(metric.name, points.collect());
                }
            }
        }
        other => panic!("nothing is sent to {other}"),
    }
}

/// Attributes as text.
pub(crate) fn attributes(attributes: &[KeyValue]) -> Attributes {
    let text = |value: &any_value::Value| match value {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value = |of: &KeyValue| of.value.as_ref().and_then(|any| any.value.as_ref()).map(text).unwrap_or_default();
    let all: Attributes = attributes.iter().map(|of| (of.key.clone(), value(of))).collect();
    assert_eq!(all.len(), attributes.len(), "no attribute is there twice: {attributes:?}");
    all
}
