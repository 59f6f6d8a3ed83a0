//! Rows that Debezium's `ExtractNewRecordState` took out of the envelope.

use super::super::fields::DEBEZIUM;
use super::super::json::Node;
use super::super::types::Reason;
use super::table::TableName;
use super::version::Place;
use super::{Message, Outcome, Reader, Said, Skip, TopicDecoder, Version, natural, object, skipped, small, timestamp};

impl TopicDecoder<'_> {
    pub(super) fn flattened(&self, message: Message<'_>) -> Said {
        let Some(value) = message.value else { return self.null_value(message.key) };
        match (object(value)?.get("schema"), value.get("payload")) {
            (Some(_), Some(payload)) if payload.is_null() => self.null_value(message.key),
            (Some(schema), Some(payload)) if payload.is_object() => self.flattened_row(message.key, payload, Some(schema)),
            // Both may be columns of a row.
            _ => self.flattened_row(message.key, value, None),
        }
    }

    /// A null value says that there is no row of its key; it names no table.
    pub(super) fn null_value(&self, key: Option<&str>) -> Said {
        let Some(reader) = self.taking(&TableName::default()) else { return skipped(None, Skip::OtherTable) };
        let parts = reader.key_of(key, None, None, DEBEZIUM)?;
        Ok((None, Outcome::Changes(vec![reader.change(parts, None, None)])))
    }

    pub(super) fn flattened_row<'n>(&self, key: Option<&str>, row: &'n Node<'n>, schema: Option<&'n Node<'n>>) -> Said {
        let text = |name: &str| metadata(row, name).and_then(Node::as_str);
        let time = |name: &str| row.get(name).and_then(Node::as_integer);
        let own_time = time("__source_ts_ms").or(time("__ts_ms")).and_then(timestamp);
        let name = text("table").or(text("collection"));
        let table = TableName { name, schema: text("schema"), database: text("db") };
        let Some(reader) = self.taking(&table) else { return skipped(own_time, Skip::OtherTable) };

        let version = version(row).map(|version| version.of_source(reader));
        let op = match metadata(row, "op") {
            None => "r",
            Some(op) => op.as_str().filter(|op| ["c", "r", "u", "d", "t"].contains(op)).ok_or(Reason::BadOp)?,
        };
        if op == "t" {
            return Ok((own_time, reader.truncate(version)));
        }
        let deleted = row.get("__deleted").is_some_and(|deleted| deleted.is_true() || deleted.as_str() == Some("true"));
        let by_snapshot = !deleted && metadata(row, "op").and_then(Node::as_str) == Some("r");
        let version = version.map(|version| version.read(by_snapshot));
        let parts = reader.key_of(key, Some(row), schema, DEBEZIUM)?;
        Ok((own_time, Outcome::Changes(vec![reader.new_row(parts, version, op == "d" || deleted, row, schema)?])))
    }
}

impl Reader<'_> {
    fn new_row<'n>(
        &self,
        parts: Vec<String>,
        version: Option<Version>,
        deletes: bool,
        row: &'n Node<'n>,
        schema: Option<&'n Node<'n>>,
    ) -> Result<super::Change, Reason> {
        let row = if deletes { None } else { Some(self.row(&self.fields(row, schema, DEBEZIUM))?) };
        Ok(self.change(parts, version, row))
    }
}

/// A metadata field: `__x`, or failing that `__source_x`.
fn metadata<'n>(row: &'n Node<'n>, name: &str) -> Option<&'n Node<'n>> {
    row.get_some(&format!("__{name}")).or_else(|| row.get_some(&format!("__source_{name}")))
}

fn version(row: &Node<'_>) -> Option<Version> {
    let text = |name: &str| metadata(row, name).and_then(Node::as_str).unwrap_or("");
    let number = |name: &str| metadata(row, name).and_then(natural).unwrap_or(0);
    let small = |name: &str| metadata(row, name).and_then(small).unwrap_or(0);
    if !text("file").is_empty() && number("pos") > 0 {
        return Version::of_binlog(&Place {
            name: text("name"),
            file: text("file"),
            pos: number("pos"),
            row: small("row"),
            server: small("server_id"),
        });
    }
    Version::of_lsn(text("name"), text("db"), number("lsn"))
}
