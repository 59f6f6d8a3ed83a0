//! What listens: HTTP/1.1 and HTTP/2 (without TLS: prior knowledge) on threads of their own.
//!
//! ```text
//! bind ─► start ─► accept ─ room? ─► one task per connection ─► router
//!                    │
//! stop: no more accept, not ready, streams end ─► requests in flight finish, or `drain` is over ─► threads end
//! ```
//!
//! Upholds: (1) a port that is taken is an error before a run starts; (2) a client holds at most one connection's memory, and one that
//! neither asks nor takes what it asked for holds it for twice [`SILENCE_MAX`] at most; (3) what was accepted before a stop is answered, if
//! it is within `drain`; (4) the rest of the process keeps file descriptors, however many connections there are.
//! Absent on purpose: TLS, and limits of what is asked: those are layers of the router, so that they are problem documents.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};
use tower::ServiceExt;

use super::admission::goes_on;
use super::api::Api;
use super::descriptors;

/// The server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is of no use.
    #[error("could not listen at \"{address}\"; is it HOST:PORT of this machine, and the port free?")]
    Bind {
        /// What was typed.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The system has no threads to give.
    #[error("could not start the server's threads")]
    Threads(#[source] io::Error),
}

/// A connection on which no request's headers are whole for so long is closed, whether it is idle or slow; so is one that takes nothing
/// of its answers. Longer than load balancers keep idle ones (AWS: 60 s), so that it is they who close.
pub const SILENCE_MAX: Duration = Duration::from_secs(75);
/// A request's headers, in bytes, before the protocol itself gives up. What is refused with a problem document is a quarter of it.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Requests at a time on a connection of HTTP/2.
const STREAMS_OF_CONNECTION_MAX: u32 = 64;
/// Bytes that wait for a client of HTTP/2, per stream.
const UNSENT_BYTES_MAX: usize = 256 << 10;
/// After an accept that failed, such as for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How to serve.
#[derive(Clone, Copy, Debug)]
pub struct ServerSettings {
    /// Threads.
    pub threads: usize,
    /// Connections at a time; more of them wait to be accepted.
    pub connections_max: usize,
    /// How long a stop waits for what is in flight.
    pub drain: Duration,
    /// A connection on which no request's headers are whole for so long is closed; see [`SILENCE_MAX`].
    pub silence_max: Duration,
}

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes an address (`HOST:PORT`; port 0 takes a free one).
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn bind(address: &str) -> Result<Listener, ServeError> {
        let refused = |source| ServeError::Bind { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Listener { listener, address })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A server; it drains when it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    api: Arc<Api>,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<()>>,
    runtime: Option<Runtime>,
}

impl Server {
    /// Serves the API where `listener` is.
    ///
    /// # Errors
    /// If threads are refused.
    pub fn start(listener: Listener, api: Arc<Api>, settings: ServerSettings) -> Result<Server, ServeError> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        // What looks through all stores does so beside the threads that answer, as few at a time as these are: the job needs its processors.
        builder.worker_threads(settings.threads).max_blocking_threads(settings.threads);
        let runtime = builder.thread_name("serve").enable_all().build();
        let runtime = runtime.map_err(ServeError::Threads)?;
        let Listener { listener, address } = listener;
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let entered = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).map_err(ServeError::Threads)?;
        drop(entered);
        let router = super::router(Arc::clone(&api));
        runtime.spawn(Arc::clone(&api).poll());
        runtime.spawn(async move {
            serve(listener, router, &settings, stopped).await;
            // Nobody may wait for it any more.
            let _ = end.send(());
        });
        Ok(Server { address, api, stop: Some(stop), ended: Some(ended), runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it, and waits until what is in flight is finished.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.api.drain();
        drop(self.stop.take());
        if let Some(ended) = self.ended.take() {
            // An error says that it has ended in another way.
            let _ = ended.blocking_recv();
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: tokio::net::TcpListener, router: Router, settings: &ServerSettings, stopped: oneshot::Receiver<()>) {
    let builder = connections(settings.silence_max);
    let connections_max = descriptors::spared(settings.connections_max);
    let (graceful, room) = (GracefulShutdown::new(), Arc::new(Semaphore::new(connections_max)));
    let mut stopped = std::pin::pin!(stopped);
    loop {
        // Those that find no room wait in the system's queue.
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, (socket, peer)) = match select(&mut stopped, std::pin::pin!(accepted)).await {
            Either::Left(_) => break,
            Either::Right(((permit, Ok(accepted)), _)) => (permit, accepted),
            Either::Right(((_, Err(error)), _)) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        // Answers are written whole; waiting for more of them only delays the last packet.
        let _ = socket.set_nodelay(true);
        let motion = Arc::new(Motion::default());
        let of_answers = Arc::clone(&motion);
        let service = router.clone().map_request(move |request: Request<_>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            request
        });
        let service = service.map_future(move |answer| answered(answer, Arc::clone(&of_answers)));
        let connection = builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service)).into_owned();
        let (connection, silence_max) = (graceful.watch(connection), settings.silence_max);
        tokio::spawn(async move {
            match select(std::pin::pin!(connection), std::pin::pin!(motion.stands_still(silence_max))).await {
                // Clients come and go as they like.
                Either::Left((Err(error), _)) => tracing::debug!(error, "a connection ended"),
                Either::Left((Ok(()), _)) => {}
                Either::Right(((), _)) => tracing::debug!(%peer, "a connection is closed on which nothing moves"),
            }
            drop(permit);
        });
    }
    drop(listener);
    let open = graceful.count();
    if tokio::time::timeout(settings.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(drain = ?settings.drain, "connections are cut that were not finished in time");
    } else {
        tracing::info!(connections = open, "drained");
    }
}

/// What moves on a connection, whichever protocol it speaks.
#[derive(Debug, Default)]
struct Motion {
    /// Requests that have no answer yet. How long that may take is not for the connection to say.
    waiting: AtomicUsize,
    /// Counts requests, answers, and what is taken of answers that go on.
    moved: AtomicU64,
}

impl Motion {
    /// Ends once nothing has moved for so long, or for up to twice that.
    async fn stands_still(&self, silence_max: Duration) {
        loop {
            let before = self.moved.load(Ordering::Relaxed);
            tokio::time::sleep(silence_max).await;
            if self.waiting.load(Ordering::Relaxed) == 0 && self.moved.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }

    fn moves(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request that waits for its answer, or is given up.
struct Waiting<'m>(&'m Motion);

impl<'m> Waiting<'m> {
    fn of(motion: &'m Motion) -> Waiting<'m> {
        motion.moves();
        motion.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(motion)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.moves();
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer, whose connection knows of it.
async fn answered<E>(answer: impl Future<Output = Result<Response, E>>, motion: Arc<Motion>) -> Result<Response, E> {
    let response = {
        let _waiting = Waiting::of(&motion);
        answer.await?
    };
    if !goes_on(&response) {
        return Ok(response);
    }
    // Its next part is asked for when the client has taken those before.
    Ok(response.map(|body| Body::from_stream(body.into_data_stream().inspect(move |_| motion.moves()))))
}

fn connections(silence_max: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(silence_max).max_buf_size(HEAD_BYTES_MAX).keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_concurrent_streams(STREAMS_OF_CONNECTION_MAX)
        .max_send_buf_size(UNSENT_BYTES_MAX)
        .keep_alive_interval(silence_max / 3)
        .keep_alive_timeout(silence_max / 3);
    builder
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::serve::admission::{Admission, AdmissionSettings};
    use crate::serve::api::ApiSettings;
    use crate::serve::testing::Fake;

    /// More than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn serving(fake: &Arc<Fake>, settings: ServerSettings) -> Server {
        let admission = Admission::open(AdmissionSettings::default()).expect("settings");
        let api = Api::new(Arc::clone(fake) as _, admission, ApiSettings::default());
        Server::start(Listener::bind("127.0.0.1:0").expect("an address"), api, settings).expect("threads")
    }

    fn settings() -> ServerSettings {
        ServerSettings { threads: 1, connections_max: 10, drain: PATIENCE, silence_max: PATIENCE }
    }

    fn say(server: &Server, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(server.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a patience");
        stream.write_all(text.as_bytes()).expect("sent");
        stream
    }

    fn hear(mut stream: TcpStream) -> String {
        let mut heard = String::new();
        stream.read_to_string(&mut heard).expect("an end");
        heard
    }

    const ASK: &str = "GET /v1/totals HTTP/1.1\r\nHost: localhost\r\n\r\n";

    #[test]
    fn one_who_says_nothing_or_too_little_is_hung_up_on() {
        let server = serving(&Fake::mall(), ServerSettings { silence_max: Duration::from_millis(200), ..settings() });
        // "P" may become either protocol.
        for said in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost: "] {
            let heard = hear(say(&server, said));
            assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 408"), "{said:?}: {heard}");
        }
        // One that has asked may be silent, but no longer than that.
        assert!(hear(say(&server, ASK)).starts_with("HTTP/1.1 200 OK"));
    }

    #[test]
    fn one_who_takes_nothing_of_the_answers_is_hung_up_on() {
        let silence_max = Duration::from_millis(200);
        let server = serving(&Fake::mall(), ServerSettings { connections_max: 1, silence_max, ..settings() });
        // Far more than there are buffers for on the way.
        let asks = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
        let takes_nothing = say(&server, &asks);
        assert!(hear(say(&server, ASK)).starts_with("HTTP/1.1 200 OK"), "there is room again");
        drop(takes_nothing);
    }

    #[test]
    fn what_is_in_flight_is_answered_before_the_end() {
        let fake = Fake::mall();
        let server = serving(&fake, settings());
        let idle = say(&server, "");
        fake.set(|numbers| numbers.slow = Some(Duration::from_millis(300)));
        let asked = say(&server, ASK);
        while fake.0.lock().expect("no panic").begun == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let address = server.address();
        server.stop();
        assert!(TcpStream::connect(address).is_err());
        let heard = hear(asked);
        assert!(heard.starts_with("HTTP/1.1 200 OK") && heard.contains("\"windows\""), "{heard}");
        assert_eq!(hear(idle), "");
    }

    #[test]
    fn what_takes_longer_than_the_drain_is_cut() {
        let fake = Fake::mall();
        let server = serving(&fake, ServerSettings { drain: Duration::from_millis(50), ..settings() });
        fake.set(|numbers| numbers.slow = Some(Duration::from_secs(3_600)));
        let asked = say(&server, ASK);
        while fake.0.lock().expect("no panic").begun == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        server.stop();
        let mut heard = Vec::new();
        // Cut is cut: an end, or a reset.
        let _ = { asked }.read_to_end(&mut heard);
        assert_eq!(heard, b"");
    }

    #[test]
    fn those_who_find_no_room_wait_for_it() {
        let server = serving(&Fake::mall(), ServerSettings { connections_max: 1, ..settings() });
        let first = say(&server, "");
        let second = say(&server, &ASK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        second.set_read_timeout(Some(Duration::from_millis(200))).expect("a patience");
        assert!((&second).read(&mut [0]).is_err(), "there was room");
        drop(first);
        second.set_read_timeout(Some(PATIENCE)).expect("a patience");
        assert!(hear(second).starts_with("HTTP/1.1 200 OK"));
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = Listener::bind("127.0.0.1:0").expect("a port").address().to_string();
        let held = TcpListener::bind(&taken).expect("free again");
        let error = Listener::bind(&taken).expect_err("taken");
        assert!(error.to_string().contains(&taken), "{error}");
        drop(held);
    }
}
