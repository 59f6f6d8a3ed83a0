//! What librdkafka tells of itself: logs, errors, statistics.
//!
//! Upholds: (1) the values of secrets are struck from every text before anybody sees it; (2) a broker that goes away is one
//! line, and one when it is back, however often librdkafka tries in between.
//! Keeps: the brokers that are away, the latest trouble (for the message of a connection that fails).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError as Native, KafkaResult, RDKafkaErrorCode as Code};
use serde::Deserialize;

use super::partition::Partitions;

/// Between two lines about positions that could not be reported: nobody waits for them.
const REPORT_TROUBLE_EVERY: Duration = Duration::from_secs(60);

/// Locks; a thread that panicked left nothing half done in the small values kept here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Receives librdkafka's callbacks; one for all clients of a source.
#[derive(Clone)]
pub(crate) struct Context {
    shared: Arc<Shared>,
    partitions: Partitions,
}

struct Shared {
    secrets: Vec<String>,
    away: Mutex<BTreeSet<String>>,
    trouble: Mutex<Option<Trouble>>,
    report_trouble: Mutex<Option<Instant>>,
}

/// The most telling trouble heard of.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    /// What kind.
    pub(crate) kind: TroubleKind,
    /// In librdkafka's words, without secrets.
    pub(crate) reason: String,
}

/// Kinds of trouble, the more telling the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TroubleKind {
    /// Every broker is away: says nothing of why.
    AllAway,
    /// A connection failed.
    Connection,
    /// TLS failed.
    Tls,
    /// A user or password was refused.
    Authentication,
}

impl Context {
    /// A context that strikes `secrets` and notes statistics in `partitions`.
    pub(super) fn new(secrets: Vec<String>, partitions: Partitions) -> Self {
        let shared = Shared { secrets, away: Mutex::default(), trouble: Mutex::default(), report_trouble: Mutex::default() };
        Context { shared: Arc::new(shared), partitions }
    }

    /// The most telling trouble since the last time it was taken.
    pub(super) fn take_trouble(&self) -> Option<Trouble> {
        lock(&self.shared.trouble).take()
    }

    fn without_secrets(&self, text: &str) -> String {
        self.shared.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "(secret)"))
    }

    fn note(&self, kind: TroubleKind, reason: String) {
        let mut trouble = lock(&self.shared.trouble);
        if trouble.as_ref().is_none_or(|known| known.kind <= kind) {
            *trouble = Some(Trouble { kind, reason });
        }
    }
}

fn kind_of(code: Code, reason: &str) -> Option<TroubleKind> {
    match code {
        Code::AllBrokersDown => Some(TroubleKind::AllAway),
        Code::SSL => Some(TroubleKind::Tls),
        // librdkafka reports a refused handshake as a lost connection; only the text tells.
        Code::BrokerTransportFailure if reason.contains("SSL handshake") => Some(TroubleKind::Tls),
        Code::Authentication | Code::SaslAuthenticationFailed => Some(TroubleKind::Authentication),
        Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => Some(TroubleKind::Connection),
        _ => None,
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Attempts to connect, which `error` tells once each.
        if matches!(facility, "FAIL" | "ERROR" | "CONNECT" | "DISCONN" | "TERMINATE") {
            tracing::debug!(facility, "{}", self.without_secrets(message));
            return;
        }
        let message = self.without_secrets(message);
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(facility, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Warning => tracing::info!(facility, "librdkafka: {message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(facility, "librdkafka: {message}");
            }
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else {
            tracing::debug!("could not read librdkafka's statistics");
            return;
        };
        let up = statistics.brokers.iter().filter(|(_, broker)| broker.state == "UP");
        let mut away = lock(&self.shared.away);
        for (name, _) in up {
            if away.remove(name) {
                tracing::info!(broker = name, "kafka broker is back");
            }
        }
        drop(away);
        for (topic, of_topic) in statistics.topics {
            for (partition, of_partition) in of_topic.partitions {
                let Some(state) = partition.parse().ok().and_then(|partition| self.partitions.get(&topic, partition)) else {
                    continue;
                };
                state.note_statistics(u64::try_from(of_partition.eof_offset).ok(), of_partition.fetchq_size);
            }
        }
    }

    fn error(&self, error: Native, reason: &str) {
        let reason = self.without_secrets(reason);
        let kind = error.rdkafka_error_code().and_then(|code| kind_of(code, &reason));
        let Some(kind) = kind else {
            tracing::debug!(%error, reason, "librdkafka reported");
            return;
        };
        self.note(kind, reason.clone());
        // "host:9092/1: Connect to … failed": the name comes first, as in the statistics.
        if let Some((broker, _)) = reason.split_once(": ").filter(|_| kind != TroubleKind::AllAway)
            && lock(&self.shared.away).insert(broker.to_owned())
        {
            tracing::warn!(broker, reason, "kafka broker is away; trying again until it is back");
        }
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _positions: &TopicPartitionList) {
        let Err(error) = result else { return };
        let mut last = lock(&self.shared.report_trouble);
        if last.is_none_or(|last| last.elapsed() >= REPORT_TROUBLE_EVERY) {
            *last = Some(Instant::now());
            tracing::warn!(%error, "could not report positions to the consumer group; lag tools show old ones");
        }
    }
}

/// The few of librdkafka's statistics that are used.
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    brokers: BTreeMap<String, OfBroker>,
    #[serde(default)]
    topics: BTreeMap<String, OfTopic>,
}

#[derive(Deserialize)]
struct OfBroker {
    state: String,
}

#[derive(Deserialize)]
struct OfTopic {
    #[serde(default)]
    partitions: BTreeMap<String, OfPartition>,
}

#[derive(Deserialize)]
struct OfPartition {
    eof_offset: i64,
    fetchq_size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_struck_and_the_most_telling_trouble_is_kept() {
        let context = Context::new(vec!["hunter2".to_owned()], Partitions::default());
        context.error(Native::Global(Code::Authentication), "b:1/1: password hunter2 is wrong");
        context.error(Native::Global(Code::AllBrokersDown), "1/1 brokers are down");
        let trouble = context.take_trouble().expect("trouble was noted");
        assert_eq!(trouble.kind, TroubleKind::Authentication);
        assert_eq!(trouble.reason, "b:1/1: password (secret) is wrong");
        assert!(context.take_trouble().is_none());
    }
}
