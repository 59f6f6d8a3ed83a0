//! A line to what it says, by the formats of the job. One file per format, by `docs/formats.md`.
//!
//! ```text
//! line ──► kcat envelope or bare ──► key, value ──► the topic's format ──► table ──► the source that takes it
//!                                                         │                            │
//!                                              skipped, dead letter      key, row, version ──► changes | truncate | event
//! ```
//!
//! Absent on purpose: Avro, which a dataset of lines cannot hold.

mod auto;
mod canal;
mod debezium;
mod dms;
mod flattened;
mod key;
mod maxwell;
mod mongodb;
mod table;
mod upsert;
mod version;

use std::borrow::Cow;
use std::collections::BTreeMap;

use self::table::TableName;
pub(super) use self::version::Version;
use super::base64;
use super::fields::{Dialect, Fields, PLAIN};
use super::json::{Json, Node, NotJson, parse};
use super::row::{Row, event_id, key_parts, read_row};
use super::time::TIME_END;
use super::topics::{captured_names, captures};
use super::types::Reason;
use crate::config::{Absent, Format, Job, KeySpace, Role, SourceSpec, StoreSpec};

/// What a record says, and where and when it says it.
#[derive(Debug)]
pub(super) struct Record {
    /// Its position in the partition.
    pub(super) position: u64,
    /// Its record timestamp.
    pub(super) timestamp: Option<u64>,
    /// What it says.
    pub(super) outcome: Outcome,
}

/// What a record says.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It could not be decoded.
    Dead(Reason),
    /// Nothing about a row.
    Skipped(Skip),
    /// A row that stands for itself (clicks), and by which id it is known when it is told twice.
    Event(Row, Option<EventId>),
    /// What becomes of some keys, one after the other.
    Changes(Vec<Change>),
    /// All keys of a space have no row any more.
    Truncate(Space, Option<Version>),
}

/// Why a record says nothing about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Skip {
    Tombstone,
    OtherTable,
    Heartbeat,
    SchemaChange,
    Transaction,
    Message,
    Signal,
    Bootstrap,
    Control,
}

impl Skip {
    /// The name in metrics.
    pub(super) fn code(self) -> &'static str {
        match self {
            Skip::Tombstone => "tombstone",
            Skip::OtherTable => "other_table",
            Skip::Heartbeat => "heartbeat",
            Skip::SchemaChange => "schema_change",
            Skip::Transaction => "transaction",
            Skip::Message => "message",
            Skip::Signal => "signal",
            Skip::Bootstrap => "bootstrap",
            Skip::Control => "control",
        }
    }
}

/// The id of an event within its source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct EventId {
    /// Where the source stands in the job file.
    pub(super) source: usize,
    id: String,
}

/// What becomes of one key.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// The key.
    pub(super) key: Key,
    /// Where the source stood.
    pub(super) version: Option<Version>,
    /// The new row, or what is said of it; `None`: there is none any more.
    pub(super) row: Option<Row>,
    /// The key of the lookup's row that the row refers to, if it refers to one.
    pub(super) refers_to: Option<Key>,
}

/// A row's key in its key space.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Where it is unique.
    pub(super) space: Space,
    parts: Vec<String>,
}

/// Where a key is unique.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Space {
    /// A topic, or one table in a topic of several.
    Topic(String, Option<String>),
    /// All topics of a role.
    Role(Role),
    /// A lookup, and what its topics' names capture.
    Lookup(String, Vec<(String, String)>),
}

/// The message of a record.
#[derive(Clone, Copy, Debug)]
struct Message<'m> {
    key: Option<&'m str>,
    /// `None`: empty.
    value: Option<&'m Node<'m>>,
}

/// The message's own time, and what it says.
type Said = Result<(Option<u64>, Outcome), Reason>;

/// A source that reads the topic.
#[derive(Debug)]
struct Reader<'a> {
    job: &'a Job,
    topic: &'a str,
    spec: &'a SourceSpec,
    /// Where it stands in the job file.
    index: usize,
    /// What its pattern captures of the topic's name.
    captured: BTreeMap<String, String>,
}

/// Decodes the records of one topic.
#[derive(Debug)]
pub(super) struct TopicDecoder<'a> {
    /// The topic.
    pub(super) topic: &'a str,
    readers: Vec<Reader<'a>>,
}

impl<'a> TopicDecoder<'a> {
    pub(super) fn new(job: &'a Job, topic: &'a str) -> Self {
        let reader = |(index, spec)| Some(Reader { job, topic, spec, index, captured: captures(spec, topic)? });
        TopicDecoder { topic, readers: job.sources.iter().enumerate().filter_map(reader).collect() }
    }

    /// Whether any source reads the topic.
    pub(super) fn reads_topic(&self) -> bool {
        !self.readers.is_empty()
    }

    /// Whether the topic's records are Avro, which this cannot read.
    pub(super) fn is_avro(&self) -> bool {
        self.readers.iter().any(|reader| reader.spec.format == Format::Avro)
    }

    /// The record of a line; `None` if it is blank.
    pub(super) fn record(&self, number: u64, line: &[u8]) -> Option<Record> {
        if line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
            return None;
        }
        let broken = |reason| Some(Record { position: number, timestamp: None, outcome: Outcome::Dead(reason) });
        let Ok(text) = std::str::from_utf8(line) else { return broken(Reason::NotUtf8) };
        let Ok(node) = parse(text) else { return broken(Reason::NotJson) };
        if !is_envelope(&node) {
            let (own_time, outcome) = self.message(Message { key: None, value: Some(&node) });
            return Some(Record { position: number, timestamp: own_time, outcome });
        }

        let Some(position) = node.get("offset").and_then(natural) else { return broken(Reason::Envelope) };
        let timestamp = match node.get("ts").map(Node::as_integer) {
            None => None,
            Some(Some(text)) => timestamp(text),
            Some(None) => return broken(Reason::Envelope),
        };
        let (Ok(key), Ok(value)) = (bytes_of(&node, "key"), bytes_of(&node, "payload")) else { return broken(Reason::Envelope) };
        let dead = |reason| Some(Record { position, timestamp, outcome: Outcome::Dead(reason) });
        let texts = (key.map(String::from_utf8).transpose(), value.map(String::from_utf8).transpose());
        let (Ok(key), Ok(value)) = texts else { return dead(Reason::NotUtf8) };
        let value = value.filter(|value| !value.is_empty());
        let Ok(value) = value.as_deref().map(parse).transpose() else { return dead(Reason::NotJson) };
        let (own_time, outcome) = self.message(Message { key: key.as_deref(), value: value.as_ref() });
        Some(Record { position, timestamp: timestamp.or(own_time), outcome })
    }

    /// The message's own time and what it says, by the format of the topic's sources.
    fn message(&self, message: Message<'_>) -> (Option<u64>, Outcome) {
        let message = Message { value: message.value.filter(|value| !value.is_null()), ..message };
        let said = match self.readers[0].spec.format {
            Format::Debezium => self.debezium(message),
            Format::Flattened => self.flattened(message),
            Format::Dms => self.dms(message),
            Format::Maxwell => self.maxwell(message),
            Format::Canal => self.canal(message),
            Format::Mongodb => self.mongodb(message),
            Format::Upsert => self.upsert(message),
            Format::Auto => self.auto(message),
            Format::Json => self.event(message),
            Format::Avro => unreachable!("a dataset of Avro is refused before it is read"),
        };
        let (own_time, outcome) = said.unwrap_or_else(|reason| (None, Outcome::Dead(reason)));
        // An event time of exactly 1970 is a time but no timestamp.
        (own_time.filter(|time| *time > 0), outcome)
    }

    /// The first source in the job file that takes records of a table.
    fn taking(&self, table: &TableName<'_>) -> Option<&Reader<'a>> {
        self.readers.iter().find(|reader| table.is_of(reader.spec.table.as_deref()))
    }

    fn event(&self, message: Message<'_>) -> Said {
        let value = message.value.ok_or(Reason::NotAnObject)?;
        let Some(reader) = self.taking(&TableName::default()) else { return skipped(None, Skip::OtherTable) };
        let fields = Fields::of_row(object(value)?, None, PLAIN, Absent::Missing);
        let row = reader.row(&fields)?;
        let event = event_id(reader.spec, &reader.captured, &fields)?;
        Ok((row.millis(), Outcome::Event(row, event.map(|id| EventId { source: reader.index, id }))))
    }
}

impl Reader<'_> {
    /// The fields of a row of this source.
    fn fields<'n>(&self, row: &'n Node<'n>, schema: Option<&'n Node<'n>>, dialect: Dialect) -> Fields<'n> {
        Fields::of_row(row, schema, dialect, self.spec.absent)
    }

    fn row(&self, fields: &Fields<'_>) -> Result<Row, Reason> {
        read_row(self.job, self.spec, &self.captured, fields)
    }

    fn key_parts(&self, fields: &Fields<'_>) -> Result<Vec<String>, Reason> {
        key_parts(self.spec, fields)
    }

    /// What a key's new row does.
    fn change(&self, parts: Vec<String>, version: Option<Version>, row: Option<Row>) -> Change {
        let refers_to = match (&self.spec.store, row.as_ref().and_then(|row| row.store.as_ref())) {
            (StoreSpec::Through { lookup, .. }, Some(super::row::Store::Through(parts))) => {
                Some(Key { space: self.lookup_space(lookup), parts: parts.clone() })
            }
            _ => None,
        };
        Change { key: Key { space: self.space(), parts }, version, row, refers_to }
    }

    /// A key's new row that replaces that of another key, if the two are not the same.
    fn moved(&self, old: Vec<String>, new: Vec<String>, version: Option<Version>, row: Row) -> Vec<Change> {
        let leaving = (old != new).then(|| self.change(old, version.clone(), None));
        leaving.into_iter().chain([self.change(new, version, Some(row))]).collect()
    }

    fn truncate(&self, version: Option<Version>) -> Outcome {
        match self.spec.key_space {
            KeySpace::Topic => Outcome::Truncate(self.space(), version),
            KeySpace::Role => Outcome::Skipped(Skip::Control),
        }
    }

    fn space(&self) -> Space {
        match (self.spec.role, self.spec.key_space) {
            (Role::Lookup, _) => self.lookup_space(self.spec.name.as_deref().unwrap_or("")),
            (_, KeySpace::Topic) => Space::Topic(self.topic.to_string(), self.spec.table.clone()),
            (role, KeySpace::Role) => Space::Role(role),
        }
    }

    /// The key space of the rows of a lookup that this topic has, or refers to.
    fn lookup_space(&self, lookup: &str) -> Space {
        let is_lookup = |spec: &&SourceSpec| spec.role == Role::Lookup && spec.name.as_deref() == Some(lookup);
        let names = match self.job.sources.iter().find(is_lookup) {
            Some(spec) if spec.key_space == KeySpace::Topic => captured_names(spec),
            _ => Vec::new(),
        };
        let named = |name: String| self.captured.get(&name).map(|value| (name.clone(), value.clone()));
        let mut captured: Vec<_> = names.into_iter().filter_map(named).collect();
        captured.sort_unstable();
        Space::Lookup(lookup.to_string(), captured)
    }
}

fn skipped(own_time: Option<u64>, why: Skip) -> Said {
    Ok((own_time, Outcome::Skipped(why)))
}

fn object<'n>(node: &'n Node<'n>) -> Result<&'n Node<'n>, Reason> {
    if node.is_object() { Ok(node) } else { Err(Reason::NotAnObject) }
}

/// Whether a line is written by `kcat -J`.
fn is_envelope(line: &Node<'_>) -> bool {
    let Json::Object(members) = &line.value else { return false };
    // A borrowed name is one that was written without escapes.
    let starts_with_topic = matches!(members.first(), Some((Cow::Borrowed("topic"), _)));
    let has = |name: &str| line.get(name).is_some();
    starts_with_topic && has("partition") && has("offset") && (has("payload") || has("payload_base64"))
}

/// The bytes of a kcat envelope's key or payload: of a string its text, of other JSON its own, or what stands in base64.
fn bytes_of(line: &Node<'_>, name: &str) -> Result<Option<Vec<u8>>, NotJson> {
    match line.get(&format!("{name}_base64")) {
        Some(base64) if base64.is_null() => Ok(None),
        Some(base64) => base64.as_str().and_then(base64::bytes).ok_or(NotJson).map(Some),
        None => Ok(line.get_some(name).map(|node| node.as_str().unwrap_or(&node.text).as_bytes().to_vec())),
    }
}

/// A record timestamp, if it is one: after the first millisecond of 1970 and before 2200.
fn timestamp(integer: &str) -> Option<u64> {
    integer.parse::<i128>().ok().and_then(in_range)
}

fn in_range(millis: i128) -> Option<u64> {
    (1..TIME_END).contains(&millis).then_some(millis as u64)
}

/// A JSON integer that is not negative and fits into 64 bits.
fn natural(node: &Node<'_>) -> Option<u64> {
    node.as_integer()?.parse::<i128>().ok()?.try_into().ok()
}

/// A JSON integer that is not negative and fits into 32 bits.
fn small(node: &Node<'_>) -> Option<u32> {
    natural(node)?.try_into().ok()
}

#[cfg(test)]
mod tests;
