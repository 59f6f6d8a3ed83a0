//! One partition's records, for the worker that owns it.
//!
//! Upholds: (1) polling never waits; (2) each record once, in order of position; (3) the worker sees librdkafka's own
//! memory: nothing is copied on the way.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers};

use super::KafkaError;
use super::context::Context;
use super::failure::Failure;
use super::partition::PartitionState;
use crate::publish::dead_letters::Header;
use crate::source::envelope::valid_timestamp;
use crate::source::feed::{self, Feed, FeedError, Headers as HeadersOf, Raw};

/// What a poll gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled<R> {
    /// The next record, as it was taken.
    Record(R),
    /// Nothing for now.
    Empty,
    /// Nothing ever: the position it was opened until is reached.
    End,
}

/// An open partition, owned by one worker.
pub struct KafkaInput {
    queue: PartitionQueue<Context>,
    state: Arc<PartitionState>,
    failure: Arc<Failure>,
    position: u64,
    until: Option<u64>,
}

impl KafkaInput {
    pub(super) fn new(
        queue: PartitionQueue<Context>,
        state: Arc<PartitionState>,
        failure: Arc<Failure>,
        until: Option<u64>,
    ) -> Self {
        let position = state.position();
        KafkaInput { queue, state, failure, position, until }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.state.topic
    }

    /// The partition's number.
    pub fn partition(&self) -> u32 {
        self.state.partition
    }

    /// The position of the next record, or before it.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Hands the next record to `take`, if there is one. Never waits.
    ///
    /// # Errors
    /// If the partition cannot be read on, or a background thread found that the job must stop.
    #[inline]
    pub fn poll<R>(&mut self, take: impl FnOnce(Raw<'_>) -> R) -> Result<Polled<R>, KafkaError> {
        if self.ended() {
            return Ok(Polled::End);
        }
        let end = self.state.end();
        loop {
            match self.queue.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    let position = u64::try_from(message.offset()).unwrap_or_default();
                    if position < self.position {
                        continue;
                    }
                    if self.until.is_some_and(|until| position >= until) {
                        // Between the last record before the end and this one there were only markers.
                        self.state.found_empty(position);
                        return Ok(Polled::End);
                    }
                    self.position = position + 1;
                    let taken = take(raw(&message, position));
                    self.state.take_up_to(self.position);
                    return Ok(Polled::Record(taken));
                }
                Some(Err(error)) => self.judge(error)?,
                None => {
                    self.state.found_empty(end);
                    if let Some(failure) = self.failure.get() {
                        return Err(failure);
                    }
                    return Ok(if self.ended() { Polled::End } else { Polled::Empty });
                }
            }
        }
    }

    /// The wall time (ms) up to which nothing of this partition is missing: the latest query of the log's end made at that
    /// time whose answer showed nothing beyond what was taken. `None` before one.
    pub fn caught_up(&self) -> Option<u64> {
        self.state.answer().caught_up
    }

    /// Log time (ms) of the newest heartbeat covered by such an answer; `None` before one.
    pub fn heartbeat(&self) -> Option<u64> {
        self.state.answer().covered_heartbeat
    }

    #[inline]
    fn ended(&self) -> bool {
        self.until.is_some_and(|until| self.position >= until || self.state.reached() >= until)
    }

    /// Whether an error of the queue ends the reading. What librdkafka mends by itself does not.
    #[cold]
    fn judge(&self, error: Native) -> Result<(), KafkaError> {
        let state = &self.state;
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) => {
                // The message must name what the log holds, and only a thread that may wait can ask.
                state.lose();
                Ok(())
            }
            Some(Code::TopicAuthorizationFailed) => Err(KafkaError::Forbidden { topic: state.topic.clone() }),
            Some(
                Code::PartitionEOF
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::NetworkException
                | Code::Resolve
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                // Whether the topic is really gone is found out by asking for all topics.
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::UnknownTopicOrPartition,
            ) => Ok(()),
            _ => Err(KafkaError::Partition {
                topic: state.topic.clone(),
                partition: state.partition,
                position: self.position,
                source: error,
            }),
        }
    }
}

fn raw<'a>(message: &'a BorrowedMessage<'_>, position: u64) -> Raw<'a> {
    let timestamp = message.timestamp().to_millis().and_then(|millis| valid_timestamp(i128::from(millis)));
    Raw { position, timestamp, key: message.key(), value: message.payload(), headers: Some(message) }
}

impl HeadersOf for BorrowedMessage<'_> {
    fn headers(&self) -> Vec<Header> {
        let all = Message::headers(self).into_iter().flat_map(Headers::iter);
        all.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    }
}

impl Feed for KafkaInput {
    fn poll(&mut self, take: &mut dyn FnMut(Raw<'_>)) -> Result<feed::Polled, FeedError> {
        match KafkaInput::poll(self, take) {
            Ok(Polled::Record(())) => Ok(feed::Polled::Record),
            Ok(Polled::Empty) => Ok(feed::Polled::Empty),
            Ok(Polled::End) => Ok(feed::Polled::End),
            Err(error) => {
                let (topic, partition) = (self.state.topic.clone(), self.state.partition);
                Err(FeedError { topic, partition, source: Arc::new(error) })
            }
        }
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn complete_until(&self) -> Option<u64> {
        self.caught_up()
    }

    fn heartbeat(&self) -> Option<u64> {
        KafkaInput::heartbeat(self)
    }
}
