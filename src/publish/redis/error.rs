//! Why the Redis view could not be written or read. No variant ever holds a password.

use ::redis::RedisError as Cause;

/// Why the Redis view could not be written or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RedisError {
    /// The address makes no sense. The text typed is not repeated, as a password may be in it.
    #[error("{problem}; a Redis URL looks like redis://[user:password@]host[:port][/database], or rediss:// for TLS")]
    Url {
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody answers there.
    #[error("could not reach Redis at {server}; check that it runs, and host, port and TLS of the URL")]
    Unreachable {
        /// Host and port.
        server: String,
        /// Why not.
        source: Cause,
    },
    /// User or password are wrong, or are needed.
    #[error("Redis at {server} refused user or password; give them in the URL, or the password by STOREFLOW_REDIS_PASSWORD")]
    Password {
        /// Host and port.
        server: String,
        /// What it answered.
        source: Cause,
    },
    /// The user may not do what the view needs.
    #[error("Redis at {server} does not let this user {action}; docs/redis-view.md lists the rights it needs")]
    Permission {
        /// Host and port.
        server: String,
        /// What was tried.
        action: &'static str,
        /// What it answered.
        source: Cause,
    },
    /// Something answers, but it does not speak Redis' protocol.
    #[error("what answers at {server} is not a Redis server")]
    NotRedis {
        /// Host and port.
        server: String,
        /// What went wrong.
        source: Cause,
    },
    /// A cluster, taken for a single server.
    #[error("Redis at {server} is in cluster mode; add --redis-cluster")]
    IsCluster {
        /// Host and port.
        server: String,
    },
    /// A single server, taken for a cluster.
    #[error("Redis at {server} is not in cluster mode; leave --redis-cluster away and give one URL")]
    NotCluster {
        /// Host and port.
        server: String,
    },
    /// Anything else; it may have taken effect.
    #[error("could not {action} in Redis at {server}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// Host and port.
        server: String,
        /// Why not.
        source: Cause,
    },
    /// Another run writes this generation: this one must stop.
    #[error("another run owns {what} in Redis (\"{found}\"); this run has been replaced and must stop")]
    OtherRun {
        /// The guard or marker.
        what: String,
        /// What it says.
        found: String,
    },
    /// A later generation is current and this one was removed: this run must stop.
    #[error("generation {generation} of job \"{job}\" was replaced in Redis by generation {current}; this run must stop")]
    Replaced {
        /// The job.
        job: String,
        /// The run's own generation.
        generation: u64,
        /// The one that is current.
        current: u64,
    },
    /// A key holds something else than it should.
    #[error("could not read key \"{key}\" of the Redis view: {problem}")]
    Unreadable {
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no view of that job.
    #[error("no view of job \"{job}\" in Redis at {server}; run the job with --redis, or use storeflow rebuild-view")]
    NoView {
        /// The job.
        job: String,
        /// Host and port.
        server: String,
    },
    /// Parts of the view are not there.
    #[error(
        "the Redis view is not whole: {missing} of 1024 buckets are lost or being rebuilt; wait, or use storeflow rebuild-view"
    )]
    Incomplete {
        /// Buckets that are not there.
        missing: usize,
    },
    /// The view moved on each time it was read.
    #[error("the Redis view kept changing while it was read; read it when the run has stopped")]
    Restless,
    /// The view could not be finished in time. It catches up when it is written again.
    #[error("{pending} changes were still waiting for Redis at {server} after {seconds} s{last}")]
    Unflushed {
        /// Host and port.
        server: String,
        /// Changes.
        pending: u64,
        /// How long was waited.
        seconds: u64,
        /// The last error, if any, as text in brackets.
        last: String,
    },
    /// The sink's thread could not be started or has died.
    #[error("the Redis sink has stopped: {0}")]
    Stopped(String),
}

impl RedisError {
    /// Of an answer to `action`, or of none.
    pub(crate) fn of(server: &str, action: &'static str, source: Cause) -> RedisError {
        use ::redis::{ErrorKind, ServerErrorKind};
        let server = server.to_owned();
        let code = source.code().unwrap_or_default().to_owned();
        let text = source.to_string();
        if source.kind() == ErrorKind::AuthenticationFailed || code == "NOAUTH" || code == "WRONGPASS" || text.contains("AUTH") {
            return RedisError::Password { server, source };
        }
        match source.kind() {
            ErrorKind::Server(ServerErrorKind::NoPerm) => RedisError::Permission { server, action, source },
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => RedisError::NotRedis { server, source },
            ErrorKind::Io | ErrorKind::ClusterConnectionNotFound if action == CONNECT => {
                RedisError::Unreachable { server, source }
            }
            _ => RedisError::Failed { action, server, source },
        }
    }

    /// Whether the same may work later with nothing mended here.
    pub fn may_pass(&self) -> bool {
        use RedisError::{Failed, Stopped, Unflushed, Unreachable};
        matches!(self, Unreachable { .. } | Failed { .. } | Unflushed { .. } | Stopped(_))
    }

    /// Whether the run must end: somebody else owns what it writes. All else passes.
    pub fn is_final(&self) -> bool {
        matches!(self, RedisError::OtherRun { .. } | RedisError::Replaced { .. } | RedisError::Stopped(_))
    }
}

/// The action of making a connection.
pub(crate) const CONNECT: &str = "connect";
