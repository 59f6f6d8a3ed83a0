//! The catalogue as instruments that are read once per interval.
//!
//! Upholds: all values of an export are of one sample; names are those of `/metrics`, so that what a collector hands on to Prometheus is
//! called the same there.

use std::sync::{Arc, Mutex};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider};
use opentelemetry_otlp::{MetricExporter, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{Instrument, PeriodicReader, SdkMeterProvider, Stream, Temporality};

use super::{Collector, OtlpError, OtlpSettings, PATIENCE, client_error};
use crate::observe::metrics::{CATALOGUE, Kind, Metric, Registry, Sample, Unit};
use crate::observe::{locked, wall_ms};

/// Partitions of which there are numbers; of more, the rest become one. The SDK makes room for all of them beforehand.
const PARTITIONS_MAX: usize = 10_000;

/// Sends metrics.
#[derive(Debug)]
pub(super) struct Metrics(SdkMeterProvider);

impl Metrics {
    pub(super) fn start(
        settings: &OtlpSettings,
        collector: Arc<Collector>,
        registry: Registry,
        resource: Resource,
    ) -> Result<Metrics, OtlpError> {
        let exporter = MetricExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/metrics", settings.url))
            .with_timeout(PATIENCE)
            // The next interval brings all counters again.
            .with_retry_policy(opentelemetry_otlp::RetryPolicy::disabled())
            .build();
        let shared = Arc::new(Shared { registry, sample: Mutex::new(None) });
        let exporter = OneSample { exporter: exporter.map_err(client_error)?, collector, shared: Arc::clone(&shared) };
        let provider = SdkMeterProvider::builder()
            .with_reader(PeriodicReader::builder(exporter).with_interval(settings.every).build())
            .with_resource(resource)
            .with_view(roomy)
            .build();
        let meter = provider.meter("storeflow");
        CATALOGUE.iter().for_each(|metric| instrument(&meter, metric, &shared));
        Ok(Metrics(provider))
    }

    /// Sends a last time, if the collector takes it in time.
    pub(super) fn end(&self) {
        // What could not be sent was told of by the exporter.
        let _ = self.0.shutdown_with_timeout(PATIENCE);
    }
}

/// Room for the partitions of metrics that have them.
fn roomy(instrument: &Instrument) -> Option<Stream> {
    let metric = CATALOGUE.iter().find(|metric| instrument.name() == name(metric))?;
    let partitions = metric.labels.contains(&"partition");
    partitions.then(|| Stream::builder().with_cardinality_limit(PARTITIONS_MAX).build().ok()).flatten()
}

fn instrument(meter: &Meter, metric: &'static Metric, shared: &Arc<Shared>) {
    let (name, help) = (name(metric), metric.help);
    let unit = match metric.unit() {
        Unit::Seconds => "s",
        Unit::Bytes => "By",
        Unit::Count => "",
    };
    let shared = Arc::clone(shared);
    let observe = move |instrument: &dyn AsyncInstrument<f64>| {
        let sample = shared.sample();
        for (labels, value) in sample.labelled(metric) {
            let labels = metric.labels.iter().zip(labels);
            let labels: Vec<KeyValue> = labels.map(|(&label, value)| KeyValue::new(label, value.clone())).collect();
            instrument.observe(value, &labels);
        }
    };
    // The provider keeps what is built.
    match metric.kind {
        Kind::Counter => {
            let _ = meter.f64_observable_counter(name).with_description(help).with_unit(unit).with_callback(observe).build();
        }
        Kind::Gauge => {
            let _ = meter.f64_observable_gauge(name).with_description(help).with_unit(unit).with_callback(observe).build();
        }
    }
}

fn name(metric: &Metric) -> String {
    format!("storeflow_{}", metric.name)
}

/// The sample of the export under way.
struct Shared {
    registry: Registry,
    sample: Mutex<Option<Arc<Sample>>>,
}

impl Shared {
    /// Whoever asks first takes it.
    fn sample(&self) -> Arc<Sample> {
        Arc::clone(locked(&self.sample).get_or_insert_with(|| Arc::new(self.registry.sample(wall_ms()))))
    }
}

/// Exports, and lets go of the sample.
struct OneSample {
    exporter: MetricExporter,
    collector: Arc<Collector>,
    shared: Arc<Shared>,
}

impl PushMetricExporter for OneSample {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        *locked(&self.shared.sample) = None;
        self.collector.answered("metrics", self.exporter.export(metrics).await)
    }
    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }
    fn shutdown_with_timeout(&self, timeout: std::time::Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }
    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}
