//! Flags by which a run is watched, shared by every command that runs for long.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;

use crate::config::duration;
use crate::observe::LogFormat;
use crate::observe::emf::{EmfSettings, EmfWriter};
use crate::observe::health::Health;
use crate::observe::metrics::Registry;
use crate::observe::otlp::{Otlp, OtlpError, OtlpSettings, Traces};
use crate::observe::server::MetricsServer;

/// How to watch a run.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Watching")]
pub struct ObserveArgs {
    /// Serve /metrics (Prometheus), /healthz and /readyz here; port 0 takes a free one, which the log names
    #[arg(long, env = "STOREFLOW_METRICS", value_name = "HOST:PORT")]
    metrics: Option<String>,

    /// Append the metrics to this file as lines in CloudWatch's embedded metric format; "-" is standard output
    #[arg(long, env = "STOREFLOW_METRICS_EMF", value_name = "PATH|-")]
    metrics_emf: Option<PathBuf>,

    /// From one of these lines to the next
    #[arg(long, env = "STOREFLOW_METRICS_EMF_EVERY", value_name = "DURATION", default_value = "1m", value_parser = parse_every)]
    metrics_emf_every: Every,

    /// The namespace of CloudWatch that they name
    #[arg(long, env = "STOREFLOW_METRICS_EMF_NAMESPACE", value_name = "NAME", default_value = "storeflow", value_parser = parse_namespace)]
    metrics_emf_namespace: String,

    /// Keep partitions and workers apart in them; otherwise they are summed up, since CloudWatch bills every set of dimensions
    #[arg(long, env = "STOREFLOW_METRICS_EMF_IN_FULL")]
    metrics_emf_in_full: bool,

    /// Send traces (checkpoints, requests) and metrics to this OpenTelemetry collector, by OTLP over HTTP: http://HOST:4318.
    /// Headers with secrets come from OTEL_EXPORTER_OTLP_HEADERS
    #[arg(long, env = "STOREFLOW_OTLP", value_name = "URL", hide_env_values = true)]
    otlp: Option<String>,

    /// The share of requests that are traced, unless their traceparent says; checkpoints always are
    #[arg(long, env = "STOREFLOW_OTLP_SAMPLE", value_name = "SHARE", default_value = "0.01", value_parser = parse_sample)]
    otlp_sample: Share,

    /// From one export of metrics to the next
    #[arg(long, env = "STOREFLOW_OTLP_EVERY", value_name = "DURATION", default_value = "15s", value_parser = parse_every)]
    otlp_every: Every,

    /// Spans since the start of the logs.
    #[arg(skip)]
    traces: OnceLock<Traces>,
}

/// What watches a run; dropping it ends it, with what there is left to tell.
#[derive(Debug, Default)]
pub struct Watching {
    _otlp: Option<Otlp>,
    _emf: Option<EmfWriter>,
    _server: Option<MetricsServer>,
}

impl ObserveArgs {
    /// Sends logs to standard error, and spans to where they are wanted, once [`ObserveArgs::start`] says whose they are.
    ///
    /// # Errors
    /// If the collector's address is none.
    pub fn start_logging(&self, format: LogFormat) -> Result<(), OtlpError> {
        let settings = self
            .otlp
            .as_ref()
            .map(|url| OtlpSettings { url: url.clone(), sample: self.otlp_sample.0, every: self.otlp_every.0 }.checked());
        let traces = settings.transpose()?.map(|settings| Traces::start(&settings));
        crate::observe::start_logging(format, traces.as_ref());
        if let Some(traces) = traces {
            let _ = self.traces.set(traces);
        }
        Ok(())
    }

    /// Starts what is wanted, for a process of a job. Keep what is returned as long as it is to be watched.
    ///
    /// # Errors
    /// If an address or a file cannot be used.
    pub fn start(&self, registry: &Registry, health: &Arc<Health>, job: &str, process: usize) -> anyhow::Result<Watching> {
        let emf = self.metrics_emf.as_ref().map(|path| EmfSettings {
            file: (path.as_os_str() != "-").then(|| path.clone()),
            every: self.metrics_emf_every.0,
            namespace: self.metrics_emf_namespace.clone(),
            in_full: self.metrics_emf_in_full,
        });
        Ok(Watching {
            _otlp: self.traces.get().map(|traces| Otlp::start(traces, registry, job, process)).transpose()?,
            _emf: emf.map(|settings| EmfWriter::start(settings, registry.clone(), job, process)).transpose()?,
            _server: self.serve(registry, health)?,
        })
    }

    fn serve(&self, registry: &Registry, health: &Arc<Health>) -> anyhow::Result<Option<MetricsServer>> {
        let Some(address) = &self.metrics else { return Ok(None) };
        let server = MetricsServer::start(address, registry.clone(), Arc::clone(health))?;
        tracing::info!(address = %server.address(), "serving metrics");
        Ok(Some(server))
    }
}

/// From one time to the next.
#[derive(Clone, Copy, Debug)]
struct Every(Duration);

impl Default for Every {
    fn default() -> Self {
        Every(Duration::from_secs(60))
    }
}

fn parse_every(text: &str) -> Result<Every, String> {
    match duration::read(text) {
        Ok(millis) if millis >= 1_000 => Ok(Every(Duration::from_millis(millis))),
        Ok(_) => Err("is a second at least".to_owned()),
        Err(what) => Err(what.to_owned()),
    }
}

/// From 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
struct Share(f64);

fn parse_sample(text: &str) -> Result<Share, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(Share(share)),
        _ => Err("is a share from 0 to 1, such as 0.01".to_owned()),
    }
}

fn parse_namespace(text: &str) -> Result<String, String> {
    let allowed = |char: char| char.is_ascii_alphanumeric() || ".-_/#: ".contains(char);
    match text.len() {
        1..=255 if text.chars().all(allowed) && !text.trim().is_empty() && !text.starts_with("AWS/") => Ok(text.to_owned()),
        _ => Err("is 1 to 255 letters, digits and any of \".-_/#: \", and does not begin with \"AWS/\"".to_owned()),
    }
}
