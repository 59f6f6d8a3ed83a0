//! Debezium's envelope.

use super::super::fields::{DEBEZIUM, Fields, MONGODB, field_of};
use super::super::json::{Node, parse};
use super::super::types::Reason;
use super::table::TableName;
use super::{Message, Outcome, Said, Skip, TopicDecoder, Version, object, skipped, timestamp};

impl TopicDecoder<'_> {
    pub(super) fn debezium(&self, message: Message<'_>) -> Said {
        let Some(value) = message.value else { return skipped(None, Skip::Tombstone) };
        match object(value)?.get("payload") {
            Some(payload) if payload.is_null() => skipped(None, Skip::Tombstone),
            Some(payload) if payload.is_object() => self.debezium_envelope(message.key, payload, value.get("schema")),
            _ => self.debezium_envelope(message.key, value, None),
        }
    }

    /// What an envelope says, of which `schema` is the Kafka Connect schema.
    pub(super) fn debezium_envelope<'n>(&self, key: Option<&str>, envelope: &'n Node<'n>, schema: Option<&'n Node<'n>>) -> Said {
        let origin = envelope.get("source");
        let of_origin = |name: &str| origin.and_then(|origin| origin.get(name));
        let own_time = of_origin("ts_ms").and_then(Node::as_integer).and_then(timestamp);
        let Some(op) = envelope.get_some("op") else {
            return skipped(own_time, without_table(envelope).unwrap_or(Skip::Control));
        };
        if op.as_str() == Some("m") {
            return skipped(own_time, Skip::Message);
        }
        let mongodb = of_origin("connector").and_then(Node::as_str) == Some("mongodb");
        let name = if mongodb { "collection" } else { "table" };
        let table = origin.map(|origin| TableName::of(origin, name, Some("schema"), Some("db"))).unwrap_or_default();
        if table.name.is_some_and(|name| name.ends_with("debezium_signal")) {
            return skipped(own_time, Skip::Signal);
        }
        let Some(reader) = self.taking(&table) else { return skipped(own_time, Skip::OtherTable) };

        let version = origin.and_then(Version::of_debezium).map(|version| version.of_source(reader));
        let op = op.as_str().filter(|op| ["c", "r", "u", "d", "t"].contains(op)).ok_or(Reason::BadOp)?;
        let by_snapshot = of_origin("snapshot")
            .is_some_and(|snapshot| !snapshot.is_null() && snapshot.text != "false" && snapshot.as_str() != Some("false"));
        let version = version.map(|version| version.read((op == "r" || by_snapshot) && op != "d" && op != "t"));
        if op == "t" {
            return Ok((own_time, reader.truncate(version)));
        }
        let dialect = if mongodb { MONGODB } else { DEBEZIUM };
        let side = if op == "d" { "before" } else { "after" };
        let inner = envelope.get(side).and_then(Node::as_str).filter(|_| mongodb).and_then(|text| parse(text).ok());
        let image = inner.as_ref().or(envelope.get(side)).filter(|image| image.is_object());
        let schema = field_of(schema, side);

        let parts = match (key, image) {
            (Some(key), _) if mongodb => reader.mongodb_key(key)?,
            (Some(key), _) => reader.debezium_key(key, dialect)?,
            (None, None) => return Err(Reason::MissingRow),
            (None, Some(image)) if mongodb => reader.mongodb_id(image.get("_id"))?,
            (None, Some(image)) => reader.key_parts(&reader.fields(image, schema, dialect))?,
        };
        let row = match image {
            _ if op == "d" => None,
            Some(image) => Some(reader.row(&reader.fields(image, schema, dialect))?),
            None if mongodb && op == "u" && envelope.get_some("after").is_none() => {
                let description = envelope.get_some("updateDescription").ok_or(Reason::MissingRow)?;
                let fields = Fields::of_update(description, reader.spec.absent);
                Some(reader.row(&fields.ok_or(Reason::MissingRow)?)?)
            }
            None => return Err(Reason::MissingRow),
        };
        Ok((own_time, Outcome::Changes(vec![reader.change(parts, version, row)])))
    }
}

/// What an envelope without an operation is, if it looks like something.
fn without_table(envelope: &Node<'_>) -> Option<Skip> {
    let has = |name: &str| envelope.get(name).is_some();
    if has("ddl") || has("tableChanges") {
        Some(Skip::SchemaChange)
    } else if has("status") && has("event_count") {
        Some(Skip::Transaction)
    } else if has("ts_ms") && !has("source") {
        Some(Skip::Heartbeat)
    } else {
        None
    }
}
