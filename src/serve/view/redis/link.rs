//! The connection that all requests share, to one server or to a cluster: many requests are on their way at once, each answered as
//! soon as Redis has.
//!
//! Upholds: (1) nobody waits for longer than [`PATIENCE`] for an answer, and about as long for a connection; while Redis is known to be away
//! nobody waits at all, so nothing piles up; (2) a connection that broke or fell silent is replaced by the next request, one attempt at a time,
//! for half of the time at most; (3) whatever is sent only reads, so it may be sent again.
//! Absent on purpose: connecting at the start. The server may be there before Redis is.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::ClusterClientBuilder;
use ::redis::cluster_async::ClusterConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError as Cause, ServerErrorKind, Value};
use futures_util::future::try_join_all;

use crate::observe::locked;
use crate::publish::redis::RedisSettings;
use crate::publish::redis::error::{CONNECT, RedisError};

/// Longest to wait for an answer, and for a connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between attempts to connect at least; and as long as the last one took, so that one that is refused at once is soon made again.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(10);

/// Commands to a cluster that are on their way at once, of one question.
const AT_ONCE: usize = 128;

/// Commands that may wait to be sent.
const QUEUE: usize = 4_096;

#[derive(Clone)]
enum Peer {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// What is asked.
#[derive(Clone, Copy)]
enum Question<'a> {
    Together(&'a Pipeline),
    Each(&'a [Cmd]),
}

impl Peer {
    async fn answer(self, question: Question<'_>) -> Result<Vec<Value>, Cause> {
        match (self, question) {
            (Peer::One(mut connection), Question::Together(pipeline)) => pipeline.query_async(&mut connection).await,
            (Peer::Cluster(mut connection), Question::Together(pipeline)) => pipeline.query_async(&mut connection).await,
            (Peer::One(mut connection), Question::Each(commands)) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipeline.add_command(command.clone());
                }
                pipeline.query_async(&mut connection).await
            }
            (Peer::Cluster(connection), Question::Each(commands)) => {
                let mut answers = Vec::with_capacity(commands.len());
                for some in commands.chunks(AT_ONCE) {
                    let one = |command: Cmd| {
                        let mut connection = connection.clone();
                        async move { connection.req_packed_command(&command).await.and_then(Value::extract_error) }
                    };
                    answers.extend(try_join_all(some.iter().cloned().map(one)).await?);
                }
                Ok(answers)
            }
        }
    }
}

/// A connection, or why there is none.
struct State {
    peer: Option<Peer>,
    /// Counts connections.
    number: u64,
    failure: Option<RedisError>,
    not_before: Instant,
}

pub(super) struct Link {
    settings: RedisSettings,
    state: Mutex<State>,
    connecting: tokio::sync::Mutex<()>,
}

impl Link {
    pub(super) fn new(settings: &RedisSettings) -> Link {
        let state = State { peer: None, number: 0, failure: None, not_before: Instant::now() };
        Link { settings: settings.clone(), state: Mutex::new(state), connecting: tokio::sync::Mutex::default() }
    }

    /// Whether a question is split up by slots.
    pub(super) fn is_cluster(&self) -> bool {
        self.settings.cluster || self.settings.url.count() > 1
    }

    /// How many connections were made so far. What was read over an earlier one may be of before Redis lost data.
    pub(super) fn number(&self) -> u64 {
        locked(&self.state).number
    }

    /// Hosts and ports.
    pub(super) fn server(&self) -> &str {
        self.settings.url.server()
    }

    /// One pipeline; in a cluster all of its keys are in one slot. The answers are those of an atomic pipeline's commands, too.
    pub(super) async fn ask(&self, action: &'static str, pipeline: &Pipeline) -> Result<Vec<Value>, RedisError> {
        self.run(action, Question::Together(pipeline)).await
    }

    /// Commands in whatever slots, each for itself.
    pub(super) async fn ask_each(&self, action: &'static str, commands: &[Cmd]) -> Result<Vec<Value>, RedisError> {
        self.run(action, Question::Each(commands)).await
    }

    async fn run(&self, action: &'static str, question: Question<'_>) -> Result<Vec<Value>, RedisError> {
        let mut again = true;
        loop {
            let (number, peer) = self.peer().await?;
            let answer = tokio::time::timeout(PATIENCE, peer.answer(question)).await.unwrap_or_else(|_| Err(timed_out()));
            let cause = match answer {
                Ok(answer) => return Ok(answer),
                Err(cause) => cause,
            };
            let broken = cause.is_io_error() || cause.is_unrecoverable_error();
            if broken || cause.is_timeout() {
                self.drop_peer(number);
            }
            // A server that was started anew leaves a connection of which only the next request finds out.
            if broken && !cause.is_timeout() && std::mem::take(&mut again) {
                continue;
            }
            return Err(of(self.server(), action, cause));
        }
    }

    /// The connection, made if there is none.
    async fn peer(&self) -> Result<(u64, Peer), RedisError> {
        if let Some(found) = self.there()? {
            return Ok(found);
        }
        let _alone = self.connecting.lock().await;
        // Whoever had the lock has tried.
        if let Some(found) = self.there()? {
            return Ok(found);
        }
        let began = Instant::now();
        let made = tokio::time::timeout(PATIENCE, self.connect()).await.unwrap_or_else(|_| Err(timed_out()));
        let made = made.map_err(|cause| of(self.server(), CONNECT, cause));
        let mut state = locked(&self.state);
        match made {
            Ok(peer) => {
                state.number += 1;
                if state.failure.take().is_some() {
                    tracing::info!(server = self.server(), "the view in Redis answers again");
                }
                state.peer = Some(peer.clone());
                Ok((state.number, peer))
            }
            Err(error) => {
                if state.failure.is_none() {
                    tracing::warn!(server = self.server(), error = %chain(&error), "the view in Redis does not answer");
                }
                state.failure = Some(error.clone());
                state.not_before = Instant::now() + began.elapsed().max(BETWEEN_ATTEMPTS);
                Err(error)
            }
        }
    }

    /// The connection; `None` if one should be made now, an error if it is too early for that.
    fn there(&self) -> Result<Option<(u64, Peer)>, RedisError> {
        let state = locked(&self.state);
        match (&state.peer, &state.failure) {
            (Some(peer), _) => Ok(Some((state.number, peer.clone()))),
            (None, Some(failure)) if Instant::now() < state.not_before => Err(failure.clone()),
            (None, _) => Ok(None),
        }
    }

    /// Lets go of a connection that is no good, unless somebody has replaced it.
    fn drop_peer(&self, number: u64) {
        let mut state = locked(&self.state);
        if state.number == number {
            state.peer = None;
        }
    }

    async fn connect(&self) -> Result<Peer, Cause> {
        let infos = self.settings.url.infos();
        if self.is_cluster() {
            let builder = ClusterClientBuilder::new(infos.iter().cloned())
                .connection_timeout(PATIENCE)
                .response_timeout(PATIENCE)
                .retries(2)
                .max_retry_wait(200);
            return Ok(Peer::Cluster(builder.build()?.get_async_connection().await?));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_pipeline_buffer_size(QUEUE);
        let no_address = || Cause::from((ErrorKind::InvalidClientConfig, "no address"));
        let client = Client::open(infos.first().ok_or_else(no_address)?.clone())?;
        Ok(Peer::One(client.get_multiplexed_async_connection_with_config(&config).await?))
    }
}

fn timed_out() -> Cause {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// An error as the publisher would say it. A mode that was given wrongly shows only in the answers, as nobody asks for it.
fn of(server: &str, action: &'static str, cause: Cause) -> RedisError {
    match cause.kind() {
        ErrorKind::Server(ServerErrorKind::Moved) => RedisError::IsCluster { server: server.to_owned() },
        _ if cause.to_string().contains("cluster support disabled") => RedisError::NotCluster { server: server.to_owned() },
        _ => RedisError::of(server, action, cause),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
