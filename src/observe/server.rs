//! `/metrics`, `/healthz` and `/readyz` over HTTP, on a thread of their own.
//!
//! Upholds: nothing that asks can slow a worker down (the thread only reads); the port is bound before the run starts, so
//! that a taken one is an error of the start; when the server is dropped, its thread has ended.
//! Absent on purpose: TLS and passwords. The numbers name topics and workers and nothing else; bind to a private address.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::oneshot;

use super::health::Health;
use super::metrics::{Registry, text};

/// The server could not start.
#[derive(Debug, thiserror::Error)]
#[error("could not serve metrics at \"{address}\"; is it HOST:PORT of this machine, and the port free?")]
pub struct ServeError {
    address: String,
    source: io::Error,
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsServer {
    /// Serves at `address` (`HOST:PORT`; port 0 takes a free one).
    ///
    /// # Errors
    /// If the address cannot be bound, or a thread is refused.
    pub fn start(address: &str, registry: Registry, health: Arc<Health>) -> Result<MetricsServer, ServeError> {
        let refused = |source| ServeError { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
        let (stop, stopped) = oneshot::channel();
        let routes = routes(registry, health);
        let thread = std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
            runtime.block_on(async {
                let listener = match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => return tracing::error!(%error, "could not serve metrics"),
                };
                // Its error type says that it never ends by itself; connections that are kept open end with the runtime.
                tokio::spawn(axum::serve(listener, routes).into_future());
                let _ = stopped.await;
            });
        });
        Ok(MetricsServer { address: bound, stop: Some(stop), thread: Some(thread.map_err(refused)?) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        // Either end may be gone already: then there is nothing to end.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn routes(registry: Registry, health: Arc<Health>) -> Router {
    let ready = Arc::clone(&health);
    Router::new()
        .route(
            "/metrics",
            get(move || async move {
                let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                ([(header::CONTENT_TYPE, format)], text(registry.sample(now()))).into_response()
            }),
        )
        .route("/healthz", get(move || async move { answer(health.illness(now())) }))
        .route("/readyz", get(move || async move { answer(ready.wants(now()).map(str::to_owned)) }))
}

fn answer(trouble: Option<String>) -> (StatusCode, String) {
    match trouble {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n")),
    }
}

/// Wall time, milliseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn ask(server: &MetricsServer, path: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).expect("connected");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    #[test]
    fn metrics_and_health_are_served_until_the_end() {
        let health = Arc::new(Health::new(0, 1, now()));
        let registry = Registry::default();
        registry.register(Arc::<Health>::clone(&health));
        let server = MetricsServer::start("127.0.0.1:0", registry, Arc::clone(&health)).expect("started");
        assert!(ask(&server, "/healthz").starts_with("HTTP/1.1 200 "));
        assert!(ask(&server, "/readyz").starts_with("HTTP/1.1 503 "));
        assert!(ask(&server, "/metrics").contains("\nstoreflow_ready 0.0\n"));
        health.set_sources_reading(true);
        health.set_view_connected(true);
        assert!(ask(&server, "/readyz").starts_with("HTTP/1.1 200 "));
        assert!(ask(&server, "/metrics").contains("\nstoreflow_ready 1.0\n"));
        health.stepped(0, 1);
        assert!(ask(&server, "/healthz").contains("worker 0 has not stepped"));
        assert!(ask(&server, "/nothing").starts_with("HTTP/1.1 404 "));
        // One that stays connected does not hold the end up.
        let _open = TcpStream::connect(server.address()).expect("connected");
        let address = server.address();
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("an address").to_string();
        let error = MetricsServer::start(&address, Registry::default(), Arc::new(Health::new(0, 1, 0))).expect_err("taken");
        assert!(error.to_string().contains(&address), "{error}");
    }
}
