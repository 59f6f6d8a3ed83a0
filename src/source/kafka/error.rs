//! What goes wrong with Kafka, by what whoever reads the message can do about it.
//!
//! Upholds: no value of a secret option is in any variant, so none can be shown. Every error can be cloned: what a
//! background thread found is told to each worker that asks.

use std::time::Duration;

/// Why topics cannot be read, or no longer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KafkaError {
    /// An option that cannot be used; `why` continues the sentence.
    #[error("kafka option \"{option}\" {why}")]
    Option {
        /// Its name.
        option: String,
        /// Why not, and what to do instead.
        why: String,
    },
    /// Nobody answered at any of the brokers.
    #[error(
        "could not reach kafka at \"{brokers}\" within {} s: {reason}; check --brokers, the network, and security.protocol",
        waited.as_secs()
    )]
    Unreachable {
        /// The brokers that were tried.
        brokers: String,
        /// For how long.
        waited: Duration,
        /// The last thing heard of them.
        reason: String,
    },
    /// A broker refused the user or the password.
    #[error(
        "kafka at \"{brokers}\" refused to let {user} in by {mechanism}: {reason}; check sasl.username, sasl.password and sasl.mechanism"
    )]
    Authentication {
        /// The brokers that were tried.
        brokers: String,
        /// Who asked.
        user: String,
        /// The SASL mechanism.
        mechanism: String,
        /// What the broker said.
        reason: String,
    },
    /// No TLS connection could be made.
    #[error(
        "could not talk TLS with kafka at \"{brokers}\": {reason}; check ssl.ca.location, the broker's name, and security.protocol"
    )]
    Tls {
        /// The brokers that were tried.
        brokers: String,
        /// What went wrong.
        reason: String,
    },
    /// A topic or pattern of the job that no topic answers to.
    #[error("the job reads topic \"{topic}\", but kafka at \"{brokers}\" has none; it has {found}")]
    UnknownTopic {
        /// The topic or pattern.
        topic: String,
        /// The brokers.
        brokers: String,
        /// The topics there are, for people.
        found: String,
    },
    /// Access lists forbid a topic.
    #[error("kafka does not let this user read topic \"{topic}\"; grant it READ and DESCRIBE")]
    Forbidden {
        /// The topic.
        topic: String,
    },
    /// A position that the log does not hold, or not any more.
    #[error(
        "position {wanted} of topic \"{topic}\" partition {partition} is outside its log, which holds {low} to {high}; \
         records were deleted before they were read, or the topic was recreated: restore the topic, or start anew with --start"
    )]
    OutsideLog {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The position to read next.
        wanted: u64,
        /// The first position there is.
        low: u64,
        /// The position after the last.
        high: u64,
    },
    /// A topic that was being read is gone.
    #[error("topic \"{topic}\" was deleted while it was read; restore it, or take it out of the job")]
    Deleted {
        /// The topic.
        topic: String,
    },
    /// A log that ends before what was read of it.
    #[error(
        "topic \"{topic}\" partition {partition} ends at {high} (it holds {low} to {high}), but was read up to {position}: it was \
         deleted and recreated, or its leader lost records; start anew with --start"
    )]
    Recreated {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The position to read next.
        position: u64,
        /// The first position there is.
        low: u64,
        /// The position after the last.
        high: u64,
    },
    /// A request that was not answered, or with an error.
    #[error("could not {what}")]
    Request {
        /// What was tried, and on what.
        what: String,
        /// Why not.
        source: rdkafka::error::KafkaError,
    },
    /// A partition whose records cannot be read on.
    #[error("could not read on in topic \"{topic}\" partition {partition} at position {position}")]
    Partition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The position to read next.
        position: u64,
        /// Why not.
        source: rdkafka::error::KafkaError,
    },
    /// A client could not be made.
    #[error("could not make a kafka client: {reason}")]
    Client {
        /// Why not.
        reason: String,
    },
    /// The operating system gave no thread.
    #[error("could not start the thread \"{name}\": {reason}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// Why not.
        reason: String,
    },
}

impl KafkaError {
    /// Whether the same may work later with nothing mended here: the brokers did not answer, or not well.
    pub fn may_pass(&self) -> bool {
        matches!(self, KafkaError::Unreachable { .. } | KafkaError::Request { .. } | KafkaError::Partition { .. })
    }
}
