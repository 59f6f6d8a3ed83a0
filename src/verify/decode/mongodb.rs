//! Change events of MongoDB, as its own Kafka connector publishes them.

use super::super::fields::{Fields, MONGODB};
use super::super::json::{Node, NotJson, parse};
use super::super::time::{TimeError, extended_date};
use super::super::types::Reason;
use super::table::TableName;
use super::version::cluster_numbers;
use super::{Message, Outcome, Reader, Said, Skip, TopicDecoder, Version, in_range, object, skipped};

impl<'a> TopicDecoder<'a> {
    pub(super) fn mongodb(&self, message: Message<'_>) -> Said {
        let Some(value) = message.value else { return skipped(None, Skip::Tombstone) };
        match value.as_str().map(parse) {
            None => self.mongodb_event(value),
            Some(Ok(inner)) => self.mongodb_event(&inner),
            Some(Err(NotJson)) => Err(Reason::NotJson),
        }
    }

    fn mongodb_event(&self, event: &Node<'_>) -> Said {
        let kind = object(event)?.get("operationType").and_then(Node::as_str).ok_or(Reason::BadOp)?;
        let own_time = match event.get("wallTime").and_then(|time| time.only("$date")).map(extended_date) {
            Some(Ok(wall_time)) => in_range(wall_time),
            Some(Err(TimeError::Range)) => None,
            Some(Err(TimeError::Grammar)) | None => {
                cluster_numbers(event).and_then(|(seconds, _)| in_range(i128::from(seconds) * 1000))
            }
        };
        let table = event.get("ns").map(|ns| TableName::of(ns, "coll", None, Some("db"))).unwrap_or_default();
        let reader = if kind == "dropDatabase" { self.taking_database(&table) } else { self.taking(&table) };
        let Some(reader) = reader else { return skipped(own_time, Skip::OtherTable) };

        let version = Version::of_mongodb(event).map(|version| version.of_source(reader));
        match kind {
            "insert" | "replace" | "update" | "delete" => {}
            "drop" | "dropDatabase" => return Ok((own_time, reader.truncate(version))),
            _ => return skipped(own_time, Skip::Control),
        }
        let parts = reader.mongodb_id(event.get("documentKey").and_then(|key| key.get("_id")))?;
        let row = match event.get("fullDocument").filter(|document| document.is_object()) {
            _ if kind == "delete" => None,
            Some(document) => Some(reader.row(&reader.fields(document, None, MONGODB))?),
            None if kind == "update" => {
                let description = event.get("updateDescription").ok_or(Reason::MissingRow)?;
                let fields = Fields::of_update(description, reader.spec.absent);
                Some(reader.row(&fields.ok_or(Reason::MissingRow)?)?)
            }
            None => return Err(Reason::MissingRow),
        };
        Ok((own_time, Outcome::Changes(vec![reader.change(parts, version, row)])))
    }

    fn taking_database(&self, table: &TableName<'_>) -> Option<&Reader<'a>> {
        self.readers.iter().find(|reader| table.is_in_database_of(reader.spec.table.as_deref()))
    }
}
