//! Questions to the brokers: which topics there are, where their logs begin and end, where a group was.
//!
//! All of these wait, each at most [`REQUEST_TIMEOUT`]; no worker asks them. They go through a client of their own, because
//! a broker answers a connection in order and a fetch may keep it waiting.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::KafkaError;
use super::context::{Context, Trouble, TroubleKind};
use super::options::Options;

/// How long brokers have to answer one question.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// One try of the first question; between tries the reasons are collected.
const FIRST_TRY: Duration = Duration::from_secs(1);

/// A partition by name.
pub(super) type Place = (String, u32);

/// Asks brokers.
pub(super) struct Control {
    client: BaseConsumer<Context>,
    context: Context,
    pub(super) brokers: String,
}

impl Control {
    /// Makes the client and waits for a broker to answer it.
    pub(super) fn connect(
        brokers: &str,
        options: &Options,
        group: &str,
        context: Context,
        patience: Duration,
    ) -> Result<Self, KafkaError> {
        let config = options.control(group);
        let client: BaseConsumer<Context> = config.create_with_context(context.clone()).map_err(unmade)?;
        let control = Control { client, context, brokers: brokers.to_owned() };
        control.wait_for_answer(options, patience)?;
        Ok(control)
    }

    fn wait_for_answer(&self, options: &Options, patience: Duration) -> Result<(), KafkaError> {
        let began = Instant::now();
        let mut heard: Option<Trouble> = None;
        loop {
            let answer = self.client.fetch_metadata(None, FIRST_TRY.min(patience));
            let Err(error) = answer else { return Ok(()) };
            self.serve(Duration::from_millis(50));
            if let Some(trouble) = self.context.take_trouble()
                && heard.as_ref().is_none_or(|known| known.kind <= trouble.kind)
            {
                heard = Some(trouble);
            }
            let reason = || heard.as_ref().map_or_else(|| error.to_string(), |trouble| trouble.reason.clone());
            let brokers = self.brokers.clone();
            match heard.as_ref().map(|trouble| trouble.kind) {
                // Trying again would only lock the account.
                Some(TroubleKind::Authentication) => {
                    let user = options.get("sasl.username").unwrap_or("(no sasl.username)").to_owned();
                    let mechanism = options.get("sasl.mechanism").or(options.get("sasl.mechanisms")).unwrap_or("GSSAPI");
                    let mechanism = mechanism.to_owned();
                    return Err(KafkaError::Authentication { brokers, user, mechanism, reason: reason() });
                }
                Some(TroubleKind::Tls) => return Err(KafkaError::Tls { brokers, reason: reason() }),
                _ if began.elapsed() >= patience => {
                    return Err(KafkaError::Unreachable { brokers, waited: patience, reason: reason() });
                }
                _ => {}
            }
        }
    }

    /// Serves the client's callbacks for about `wait`. Not for no time at all: then rust-rdkafka serves only one, and does not
    /// say whether there are more.
    pub(super) fn serve(&self, wait: Duration) {
        let began = Instant::now();
        while let Some(left) = wait.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
            drop(self.client.poll(left));
        }
    }

    /// All topics with their number of partitions; those whose leader is being elected included.
    pub(super) fn topics(&self) -> Result<BTreeMap<String, u32>, KafkaError> {
        let metadata =
            self.client.fetch_metadata(None, REQUEST_TIMEOUT).map_err(|source| self.failed("list the topics", source))?;
        let topics = metadata.topics().iter().filter(|topic| topic.error().is_none() || !topic.partitions().is_empty());
        Ok(topics.map(|topic| (topic.name().to_owned(), u32::try_from(topic.partitions().len()).unwrap_or(0))).collect())
    }

    /// Where the log of each partition stands: its first position, its last that is committed + 1, or (for a timestamp)
    /// the first record not before it; `None` where there is none. One request per broker.
    pub(super) fn offsets(&self, places: &[Place], which: Offset) -> Result<Vec<Option<u64>>, KafkaError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |source| self.failed("ask where partitions begin and end", source);
        let list = list(places, which).map_err(failed)?;
        let list = self.client.offsets_for_times(list, REQUEST_TIMEOUT).map_err(failed)?;
        read_offsets(&list).map_err(failed)
    }

    /// The first position of each partition and the one after its last committed record.
    pub(super) fn ranges(&self, places: &[Place]) -> Result<Vec<(u64, u64)>, KafkaError> {
        let low = self.offsets(places, Offset::Beginning)?;
        let high = self.offsets(places, Offset::End)?;
        Ok(low.into_iter().zip(high).map(|(low, high)| (low.unwrap_or(0), high.or(low).unwrap_or(0))).collect())
    }

    /// What was reported for the group.
    pub(super) fn stored(&self, places: &[Place]) -> Result<Vec<Option<u64>>, KafkaError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |source| self.failed("ask for the positions of the consumer group", source);
        let list = list(places, Offset::Invalid).map_err(failed)?;
        let list = self.client.committed_offsets(list, REQUEST_TIMEOUT).map_err(failed)?;
        read_offsets(&list).map_err(failed)
    }

    /// Reports positions for the group, without waiting for the answer.
    pub(super) fn report(&self, positions: &[(String, u32, u64)]) -> Result<(), Native> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (topic, partition, position) in positions {
            let offset = Offset::Offset(i64::try_from(*position).unwrap_or(i64::MAX));
            list.add_partition_offset(topic, signed(*partition), offset)?;
        }
        self.client.commit(&list, rdkafka::consumer::CommitMode::Async)
    }

    fn failed(&self, what: &str, source: Native) -> KafkaError {
        KafkaError::Request { what: format!("{what} at \"{}\"", self.brokers), source }
    }
}

/// A client that could not be made: a wrong option is named, its value is not.
pub(super) fn unmade(error: Native) -> KafkaError {
    match error {
        Native::ClientConfig(_, _, option, _) => {
            KafkaError::Option { option, why: "is unknown to librdkafka, or its value is not allowed".to_owned() }
        }
        Native::ClientCreation(reason) => KafkaError::Client { reason },
        other => KafkaError::Client { reason: other.to_string() },
    }
}

/// A partition's number as librdkafka takes it.
pub(super) fn signed(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

fn list(places: &[Place], which: Offset) -> Result<TopicPartitionList, Native> {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for (topic, partition) in places {
        list.add_partition(topic, signed(*partition)).set_offset(which)?;
    }
    Ok(list)
}

fn read_offsets(list: &TopicPartitionList) -> Result<Vec<Option<u64>>, Native> {
    let read = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        element.error()?;
        match element.offset() {
            Offset::Offset(offset) => Ok(u64::try_from(offset).ok()),
            _ => Ok(None),
        }
    };
    list.elements().into_iter().map(read).collect()
}

/// Whether an error says that a topic or partition does not exist.
pub(super) fn says_gone(error: &KafkaError) -> bool {
    let KafkaError::Request { source, .. } = error else { return false };
    let gone = [Code::UnknownTopicOrPartition, Code::UnknownTopic, Code::UnknownPartition];
    source.rdkafka_error_code().is_some_and(|code| gone.contains(&code))
}
