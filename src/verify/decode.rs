//! A line to what it says, by the formats of the job.
//!
//! ```text
//! line ──► kcat envelope or bare ──► key, value ──► Debezium | upsert | JSON ──► change | event | skipped | dead letter
//! ```

use std::borrow::Cow;

use super::json::{Json, Node, NotJson, parse};
use super::row::{Row, id, read_row};
use super::time::TIME_END;
use super::types::Reason;
use crate::config::{Format, Job, KeySpace, Role, SourceSpec};

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
    Skipped,
    /// A row that stands for itself (clicks).
    Event(Row),
    /// The new row of a key, or that there is none any more.
    Change(Key, Option<Version>, Option<Row>),
}

/// A row's key in its key space.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    space: Space,
    parts: Vec<String>,
}

/// Where a key is unique.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Space {
    /// A topic, or one table in a topic of several.
    Topic(String, Option<String>),
    /// All topics of a role.
    Role(Role),
}

/// A source version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    connector: Connector,
    /// Name, and base name of the binlog or database.
    incarnation: (String, String),
    /// `None`: any.
    server: Option<u32>,
    /// File, position and row; or LSN.
    position: (u32, u64, u32),
}

/// Connectors whose positions can be compared at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connector {
    /// MySQL and MariaDB.
    Binlog,
    Postgres,
}

impl Version {
    /// Whether this is known to be older than `stored`.
    pub(super) fn is_older_than(&self, stored: &Version) -> bool {
        let same_incarnation = (self.connector, &self.incarnation) == (stored.connector, &stored.incarnation);
        let same_server = self.server.is_none() || stored.server.is_none() || self.server == stored.server;
        same_incarnation && same_server && self.position < stored.position
    }
}

/// Decodes the records of one topic.
#[derive(Debug)]
pub(super) struct TopicDecoder<'a> {
    job: &'a Job,
    /// The topic.
    pub(super) topic: &'a str,
    sources: Vec<&'a SourceSpec>,
}

impl<'a> TopicDecoder<'a> {
    pub(super) fn new(job: &'a Job, topic: &'a str) -> Self {
        TopicDecoder { job, topic, sources: job.sources.iter().filter(|source| source.reads(topic)).collect() }
    }

    /// Whether any source reads the topic.
    pub(super) fn reads_topic(&self) -> bool {
        !self.sources.is_empty()
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
            let (own_time, outcome) = self.message(None, Some(&node));
            return Some(Record { position: number, timestamp: own_time, outcome });
        }

        let Some(position) = node.get("offset").and_then(natural) else { return broken(Reason::Envelope) };
        let timestamp = match node.get("ts").map(Node::as_integer) {
            None => None,
            Some(Some(text)) => timestamp(text),
            Some(None) => return broken(Reason::Envelope),
        };
        // The payload as string is text to parse again; as anything else it has been parsed with the line.
        let inner: Result<Node<'_>, NotJson>;
        let key = node.get_some("key").map(|key| key.as_str().unwrap_or(key.text));
        let value = match node.get("payload").map(|payload| (payload, payload.as_str())) {
            None | Some((_, Some(""))) => None,
            Some((payload, None)) => Some(payload),
            Some((_, Some(text))) => {
                inner = parse(text);
                let Ok(node) = &inner else {
                    return Some(Record { position, timestamp, outcome: Outcome::Dead(Reason::NotJson) });
                };
                Some(node)
            }
        };
        let (own_time, outcome) = self.message(key, value);
        Some(Record { position, timestamp: timestamp.or(own_time), outcome })
    }

    /// The message's own time and what it says, by the format of the topic's sources.
    fn message(&self, key: Option<&str>, value: Option<&Node<'_>>) -> (Option<u64>, Outcome) {
        let value = value.filter(|value| !value.is_null());
        let decoded = match self.sources[0].format {
            Format::Debezium => self.debezium(key, value),
            Format::Upsert => self.upsert(self.sources[0], key, value),
            Format::Json => self.event(self.sources[0], value),
            other => unreachable!("no job with format {} passes yet", other.name()),
        };
        let (own_time, outcome) = decoded.unwrap_or_else(|reason| (None, Outcome::Dead(reason)));
        // An event time of exactly 1970 is a time but no timestamp.
        (own_time.filter(|time| *time > 0), outcome)
    }

    fn debezium(&self, key: Option<&str>, value: Option<&Node<'_>>) -> Result<(Option<u64>, Outcome), Reason> {
        let Some(value) = value else { return Ok((None, Outcome::Skipped)) };
        if !value.is_object() {
            return Err(Reason::NotAnObject);
        }
        let body = match value.get("payload") {
            Some(payload) if payload.is_null() => return Ok((None, Outcome::Skipped)),
            Some(payload) if payload.is_object() => payload,
            _ => value,
        };
        let origin = body.get("source");
        let own_time = origin.and_then(|origin| timestamp(origin.get("ts_ms")?.as_integer()?));
        let table = origin.and_then(|origin| origin.get("table")?.as_str());
        let matching = self.sources.iter().find(|source| source.table.is_none() || source.table.as_deref() == table);
        let (Some(source), Some(op)) = (matching, body.get_some("op")) else { return Ok((own_time, Outcome::Skipped)) };

        let deletes = match op.as_str() {
            Some("c" | "u" | "r") => false,
            Some("d") => true,
            Some("t" | "m") => return Ok((own_time, Outcome::Skipped)),
            _ => return Err(Reason::BadOp),
        };
        let image = body.get_some(if deletes { "before" } else { "after" });
        let parts = match (key, image) {
            (Some(key), _) => key_of_object(source, &parse(key).map_err(|NotJson| Reason::MissingKey)?)?,
            (None, Some(image)) => key_parts(source, image)?,
            (None, None) => return Err(Reason::MissingRow),
        };
        let row = match (deletes, image) {
            (true, _) => None,
            (false, Some(after)) => Some(read_row(self.job, source, after)?),
            (false, None) => return Err(Reason::MissingRow),
        };
        let reads = op.as_str() == Some("r");
        let version = origin.and_then(version).filter(|version| !(reads && version.connector == Connector::Postgres));
        Ok((own_time, Outcome::Change(self.key(source, parts), version, row)))
    }

    fn upsert(&self, source: &SourceSpec, key: Option<&str>, value: Option<&Node<'_>>) -> Result<(Option<u64>, Outcome), Reason> {
        let parts = match (key, value) {
            (Some(key), _) => upsert_key(source, key)?,
            (None, Some(value)) => key_parts(source, value)?,
            (None, None) => return Err(Reason::MissingKey),
        };
        let row = value.map(|value| read_row(self.job, source, value)).transpose()?;
        let own_time = row.as_ref().and_then(|row| row.time);
        Ok((own_time, Outcome::Change(self.key(source, parts), None, row)))
    }

    fn event(&self, source: &SourceSpec, value: Option<&Node<'_>>) -> Result<(Option<u64>, Outcome), Reason> {
        let row = read_row(self.job, source, value.ok_or(Reason::NotAnObject)?)?;
        Ok((row.time, Outcome::Event(row)))
    }

    fn key(&self, source: &SourceSpec, parts: Vec<String>) -> Key {
        let space = match source.key_space {
            KeySpace::Topic => Space::Topic(self.topic.to_string(), source.table.clone()),
            KeySpace::Role => Space::Role(source.role),
        };
        Key { space, parts }
    }
}

/// Whether a line is written by `kcat -J`.
fn is_envelope(line: &Node<'_>) -> bool {
    let Json::Object(members) = &line.value else { return false };
    // A borrowed name is one that was written without escapes.
    let starts_with_topic = matches!(members.first(), Some((Cow::Borrowed("topic"), _)));
    starts_with_topic && ["partition", "offset", "payload"].iter().all(|name| line.get(name).is_some())
}

/// A record timestamp, if it is one: after the first millisecond of 1970 and before 2200.
fn timestamp(integer: &str) -> Option<u64> {
    integer.parse::<i128>().ok().filter(|millis| (1..TIME_END).contains(millis)).map(|millis| millis as u64)
}

/// A JSON integer that is not negative and fits into 64 bits.
fn natural(node: &Node<'_>) -> Option<u64> {
    node.as_integer()?.parse::<i128>().ok()?.try_into().ok()
}

/// The key fields of a row or of a key object.
fn key_parts(source: &SourceSpec, node: &Node<'_>) -> Result<Vec<String>, Reason> {
    source.key.iter().map(|field| id(node.get(&field.to_string()))).collect()
}

/// The key fields of a message key that is an object, or wraps one as its `payload`.
fn key_of_object(source: &SourceSpec, key: &Node<'_>) -> Result<Vec<String>, Reason> {
    let object = key.get("payload").filter(|payload| payload.is_object()).unwrap_or(key);
    key_parts(source, object).map_err(|_| Reason::MissingKey)
}

/// The message key of an upsert: an object, or for a key of one field also its plain text.
fn upsert_key(source: &SourceSpec, key: &str) -> Result<Vec<String>, Reason> {
    let plain = match parse(key) {
        Ok(node) if node.is_object() => return key_of_object(source, &node),
        Ok(node) => id(Some(&node)).map_err(|_| Reason::MissingKey)?,
        Err(NotJson) => key.to_string(),
    };
    if source.key.len() == 1 && !plain.is_empty() { Ok(vec![plain]) } else { Err(Reason::MissingKey) }
}

/// The source version, from a Debezium `source`.
fn version(origin: &Node<'_>) -> Option<Version> {
    let text = |name| origin.get(name).and_then(Node::as_str).unwrap_or("");
    let number = |name| origin.get(name).and_then(natural).unwrap_or(0);
    let small = |name| u32::try_from(number(name)).unwrap_or(0);
    match text("connector") {
        "mysql" | "mariadb" if number("pos") > 0 => {
            let (base, suffix) = text("file").rsplit_once('.')?;
            if !suffix.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            Some(Version {
                connector: Connector::Binlog,
                incarnation: (text("name").to_string(), base.to_string()),
                server: Some(small("server_id")).filter(|server| *server != 0),
                position: (suffix.parse().ok()?, number("pos"), small("row")),
            })
        }
        "postgresql" if number("lsn") > 0 => Some(Version {
            connector: Connector::Postgres,
            incarnation: (text("name").to_string(), text("db").to_string()),
            server: None,
            position: (0, number("lsn"), 0),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
