//! Spans: the layer that makes them, which of them are sent, and where they wait.
//!
//! Upholds: a checkpoint is always sent, a request as often as is wanted or as its caller says; the layer can be there before it is
//! known whose spans they are, and what ends before [`Traces::attach`] is dropped.

use std::sync::{Arc, OnceLock};

use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider,
    ShouldSample, SpanData, SpanExporter,
};
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

use super::{Collector, OtlpError, OtlpSettings, PATIENCE, client_error, collector};

/// What begins the name of spans that are always sent.
const ALWAYS: &str = "checkpoint";

/// The layer that makes spans.
pub type TracesLayer<S> = OpenTelemetryLayer<S, SdkTracer>;

/// Spans on their way; clones share it.
#[derive(Clone, Debug)]
pub struct Traces {
    settings: OtlpSettings,
    collector: Arc<Collector>,
    exporter: Arc<OnceLock<opentelemetry_otlp::SpanExporter>>,
    provider: SdkTracerProvider,
}

impl Traces {
    /// Begins to take spans.
    pub fn start(settings: &OtlpSettings) -> Traces {
        let (collector, exporter) = (collector(settings), Arc::default());
        let late = Late { collector: Arc::clone(&collector), exporter: Arc::clone(&exporter) };
        let delay = settings.every.min(PATIENCE);
        let batches = BatchConfigBuilder::default().with_scheduled_delay(delay).build();
        let processor = BatchSpanProcessor::builder(late).with_batch_config(batches).build();
        let requests = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample)));
        let provider = SdkTracerProvider::builder().with_span_processor(processor).with_sampler(Sampled { requests }).build();
        Traces { settings: settings.clone(), collector, exporter, provider }
    }

    /// The layer for a subscriber; restrict it to spans of [`super::SPANS`].
    pub fn layer<S: Subscriber + for<'span> LookupSpan<'span>>(&self) -> TracesLayer<S> {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("storeflow"))
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
    }

    /// Sends from now on, in the name of this process.
    pub(super) fn attach(&self, resource: &Resource) -> Result<(), OtlpError> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", self.settings.url))
            .with_timeout(PATIENCE)
            .build();
        let mut exporter = exporter.map_err(client_error)?;
        exporter.set_resource(resource);
        // Whoever attaches a second time goes on with the first.
        let _ = self.exporter.set(exporter);
        Ok(())
    }

    pub(super) fn settings(&self) -> &OtlpSettings {
        &self.settings
    }

    pub(super) fn collector(&self) -> Arc<Collector> {
        Arc::clone(&self.collector)
    }

    /// Sends what is left, if the collector takes it in time.
    pub(super) fn end(&self) {
        // What could not be sent was told of by the exporter.
        let _ = self.provider.shutdown_with_timeout(PATIENCE);
    }
}

/// Sends once it is known whose spans they are.
#[derive(Debug)]
struct Late {
    collector: Arc<Collector>,
    exporter: Arc<OnceLock<opentelemetry_otlp::SpanExporter>>,
}

impl SpanExporter for Late {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        match self.exporter.get() {
            Some(exporter) => self.collector.answered("traces", exporter.export(batch).await),
            None => Ok(()),
        }
    }
}

/// Which spans are sent.
#[derive(Clone, Debug)]
struct Sampled {
    requests: Sampler,
}

impl ShouldSample for Sampled {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if !name.starts_with(ALWAYS) {
            return self.requests.should_sample(parent, trace, name, kind, attributes, links);
        }
        let trace_state = parent.map(|parent| parent.span().span_context().trace_state().clone()).unwrap_or_default();
        SamplingResult { decision: SamplingDecision::RecordAndSample, attributes: Vec::new(), trace_state }
    }
}
