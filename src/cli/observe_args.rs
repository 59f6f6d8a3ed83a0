//! Flags by which a run is watched, shared by every command that runs the dataflow for long.

use std::sync::Arc;

use clap::Args;

use crate::observe::health::Health;
use crate::observe::metrics::Registry;
use crate::observe::server::{MetricsServer, ServeError};

/// How to watch a run.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Watching")]
pub struct ObserveArgs {
    /// Serve /metrics (Prometheus), /healthz and /readyz here; port 0 takes a free one, which the log names
    #[arg(long, env = "STOREFLOW_METRICS", value_name = "HOST:PORT")]
    metrics: Option<String>,
}

impl ObserveArgs {
    /// Starts the server, if one is wanted. Keep what is returned as long as it shall serve.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub fn serve(&self, registry: &Registry, health: &Arc<Health>) -> Result<Option<MetricsServer>, ServeError> {
        let Some(address) = &self.metrics else { return Ok(None) };
        let server = MetricsServer::start(address, registry.clone(), Arc::clone(health))?;
        tracing::info!(address = %server.address(), "serving metrics");
        Ok(Some(server))
    }
}
