//! Flags of a server of the query API, shared by `serve` and `run --serve`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::Failure;
use super::admission_args::AdmissionArgs;
use crate::config::duration;
use crate::observe::health::Health;
use crate::observe::metrics::Registry;
use crate::serve::admission::Admission;
use crate::serve::api::{Api, ApiSettings};
use crate::serve::server::{Listener, SILENCE_MAX, Server, ServerSettings};
use crate::serve::view::View;

/// How the query API is served.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Query API")]
pub struct ServeArgs {
    /// Threads that answer; they are no workers' threads [default: 1 beside a run, which it disturbs least, otherwise 2]
    #[arg(long, env = "STOREFLOW_SERVE_THREADS", value_name = "N", value_parser = threads)]
    serve_threads: Option<usize>,

    /// Connections at a time; more of them wait
    #[arg(long, env = "STOREFLOW_CONNECTIONS_MAX", value_name = "N", default_value = "10000")]
    connections_max: NonZeroUsize,

    /// Streams of server-sent events at a time
    #[arg(long, env = "STOREFLOW_STREAMS_MAX", value_name = "N", default_value = "1000")]
    streams_max: usize,

    /// Memory for answers about one store, which are kept until the as-of moves; 0 keeps none
    #[arg(long, env = "STOREFLOW_ANSWERS_BYTES_MAX", value_name = "BYTES", default_value_t = ApiSettings::default().answers_bytes_max)]
    answers_bytes_max: usize,

    /// How long a stop waits for requests in flight
    #[arg(long, env = "STOREFLOW_DRAIN", value_name = "DURATION", default_value = "10s", value_parser = drain)]
    drain: Duration,

    #[command(flatten)]
    admission: AdmissionArgs,
}

/// A server that has its address and its keys, and no view yet.
pub(super) struct Opened {
    listener: Listener,
    admission: Arc<Admission>,
    server: ServerSettings,
    api: ApiSettings,
}

fn threads(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|threads| (1..=256).contains(threads)).ok_or_else(|| "is a number from 1 to 256".to_owned())
}

fn drain(text: &str) -> Result<Duration, String> {
    duration::read(text).map(Duration::from_millis).map_err(str::to_owned)
}

impl ServeArgs {
    /// Takes the address, and reads the keys. `threads` answer, unless others are wanted.
    ///
    /// # Errors
    /// If the address cannot be had, is open to other machines while there are no keys, or the keys cannot be read.
    pub(super) fn open(&self, address: &str, threads: usize) -> Result<Opened, Failure> {
        let admission = Admission::open(self.admission.settings())?;
        let listener = Listener::bind(address)?;
        // Nothing is accepted before it is known to be of this machine.
        self.admission.check_address(listener.address())?;
        let server = ServerSettings {
            threads: self.serve_threads.unwrap_or(threads),
            connections_max: self.connections_max.get(),
            drain: self.drain,
            silence_max: SILENCE_MAX,
        };
        let api = ApiSettings { streams_max: self.streams_max, answers_bytes_max: self.answers_bytes_max };
        Ok(Opened { listener, admission, server, api })
    }
}

impl Opened {
    /// Serves a view, and tells `registry` of what it is asked, `health` of whether the view answers. Keep what is returned as long
    /// as it shall serve.
    ///
    /// # Errors
    /// If threads are refused.
    pub(super) fn start(self, view: Arc<dyn View>, registry: &Registry, health: Option<&Arc<Health>>) -> Result<Server, Failure> {
        let Opened { listener, admission, server, api } = self;
        let (served_from, keyed) = (view.place(), admission.has_keys());
        let api = Api::new(view, admission, api);
        registry.register(Arc::clone(api.http()) as _);
        health.into_iter().for_each(|health| api.tell(health));
        let server = Server::start(listener, api, server)?;
        let address = server.address();
        if keyed {
            tracing::info!(%address, served_from, "serving the query API");
        } else {
            tracing::info!(%address, served_from, "serving the query API; no keys: loopback only");
        }
        Ok(server)
    }
}
