//! What stands between a database and its topic: it stamps records with its own time, and after a restart sends some again.
//!
//! Upholds: record timestamps never go back within a topic; a record sent again has its source position and value unchanged,
//! and a later connector time. Keeps: the last records, as many as a restart can send again, and only if there are restarts.

use std::collections::VecDeque;

use super::envelope::{Flaw, Log, damage, push_times};
use super::random::{Dice, Share, Stream};
use super::schema::{Column, Wrapper};
use super::text::push;
use super::writer::Partitions;
use super::{Counts, Envelope, GenerateError, Options, Topic, TopicSummary};

/// What a record says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload<'a> {
    /// A Debezium envelope without the connector's time and closing brace.
    Debezium(&'a [u8]),
    /// A row as it is.
    Row(&'a [u8]),
    /// Nothing: the row is gone.
    Tombstone,
}

/// A connector that publishes one table.
pub(super) struct Connector {
    topic: Topic,
    log: Log,
    dice: Dice,
    clock_ms: i64,
    wrapper: Option<Wrapper>,
    value: Vec<u8>,
    wrapped_key: Vec<u8>,
    malformed: Share,
    /// Chance that the connector restarts after a record.
    restart: Share,
    recent: VecDeque<Sent>,
    recent_max: usize,
    /// What was published so far.
    pub(super) counts: Counts,
}

/// A record that may be sent again.
#[derive(Default)]
struct Sent {
    key: Vec<u8>,
    body: Vec<u8>,
    kind: Kind,
}

#[derive(Clone, Copy, Default)]
enum Kind {
    Debezium,
    Row,
    #[default]
    Tombstone,
}

impl Connector {
    /// A connector that is to publish about `expected` rows of a table with these columns (none: rows without schema).
    pub(super) fn new(options: &Options, topic: Topic, expected: u64, partitions: Partitions, columns: &[Column]) -> Self {
        let kcat = options.envelope != Envelope::Bare || topic == Topic::OrderItems;
        let recent_max = (expected / 32).clamp(32, 2_048) as usize;
        Connector {
            topic,
            log: Log::new(topic, kcat, partitions),
            dice: Dice::of(options.seed, Stream::Connector, topic as u64),
            clock_ms: 0,
            wrapper: (options.schema && !columns.is_empty()).then(|| Wrapper::new(topic, columns)),
            value: Vec::new(),
            wrapped_key: Vec::new(),
            malformed: options.shares.malformed,
            // A restart sends half of `recent_max` again on average.
            restart: options.shares.duplicates.divided(recent_max as u32 / 2),
            recent: VecDeque::new(),
            recent_max,
            counts: Counts::default(),
        }
    }

    /// Publishes a record of the change committed at `commit_ms`.
    pub(super) fn send(&mut self, commit_ms: i64, key: &[u8], payload: Payload<'_>) -> Result<(), GenerateError> {
        let lag_ms = self.dice.between(3, 60);
        self.clock_ms = self.clock_ms.max(commit_ms + lag_ms);
        self.publish(key, payload, None)?;
        if self.restart > Share::ZERO {
            self.remember(key, payload);
            if self.dice.hits(self.restart) {
                self.send_again()?;
            }
        }
        Ok(())
    }

    /// Whether, and how, the next record is to be followed by a broken copy.
    pub(super) fn flaw(&mut self, flaws: &[Flaw]) -> Option<Flaw> {
        let hit = self.dice.hits(self.malformed);
        hit.then(|| self.dice.pick(flaws))
    }

    /// Publishes a broken copy of the record before, right after it.
    pub(super) fn send_broken(&mut self, key: &[u8], payload: Payload<'_>, flaw: Flaw) -> Result<(), GenerateError> {
        self.counts.malformed += 1;
        self.publish(key, payload, Some(flaw))
    }

    /// Closes the topic.
    pub(super) fn finish(self) -> Result<TopicSummary, GenerateError> {
        let (records, bytes) = self.log.finish()?;
        Ok(TopicSummary { topic: self.topic, records, bytes, counts: self.counts })
    }

    fn remember(&mut self, key: &[u8], payload: Payload<'_>) {
        let mut sent = match self.recent.len() {
            full if full >= self.recent_max => self.recent.pop_front().unwrap_or_default(),
            _ => Sent::default(),
        };
        let (kind, body) = match payload {
            Payload::Debezium(body) => (Kind::Debezium, body),
            Payload::Row(body) => (Kind::Row, body),
            Payload::Tombstone => (Kind::Tombstone, &[][..]),
        };
        sent.key.clear();
        sent.key.extend_from_slice(key);
        sent.body.clear();
        sent.body.extend_from_slice(body);
        sent.kind = kind;
        self.recent.push_back(sent);
    }

    /// The connector is down for some seconds, then reads again from where it last noted its position.
    fn send_again(&mut self) -> Result<(), GenerateError> {
        self.clock_ms += self.dice.between(2_000, 20_000);
        let recent = std::mem::take(&mut self.recent);
        let swath = 1 + self.dice.below(self.recent_max as u64) as usize;
        for sent in recent.iter().skip(recent.len().saturating_sub(swath)) {
            let payload = match sent.kind {
                Kind::Debezium => Payload::Debezium(&sent.body),
                Kind::Row => Payload::Row(&sent.body),
                Kind::Tombstone => Payload::Tombstone,
            };
            self.publish(&sent.key, payload, None)?;
            self.counts.duplicates += 1;
        }
        self.recent = recent;
        Ok(())
    }

    fn publish(&mut self, key: &[u8], payload: Payload<'_>, flaw: Option<Flaw>) -> Result<(), GenerateError> {
        let partition = self.log.partition(key);
        let value = &mut self.value;
        value.clear();
        let mut key = key;
        if let Some(wrapper) = &self.wrapper {
            self.wrapped_key.clear();
            push(&mut self.wrapped_key, &wrapper.key);
            self.wrapped_key.extend_from_slice(key);
            self.wrapped_key.push(b'}');
            key = &self.wrapped_key;
            push(value, &wrapper.value);
        }
        let value = match payload {
            Payload::Tombstone => return self.log.append(partition, self.clock_ms, key, None),
            Payload::Row(row) => {
                value.extend_from_slice(row);
                value
            }
            Payload::Debezium(body) => {
                value.extend_from_slice(body);
                value.push(b',');
                push_times(value, self.clock_ms * 1_000 + (self.clock_ms * 7919) % 1_000);
                value.push(b'}');
                if self.wrapper.is_some() {
                    value.push(b'}');
                }
                value
            }
        };
        if let Some(flaw) = flaw {
            damage(value, flaw, self.dice.bits());
        }
        self.log.append(partition, self.clock_ms, key, Some(value))
    }
}
