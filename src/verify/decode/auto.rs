//! Whatever each record is.

use super::super::json::Node;
use super::super::types::Reason;
use super::{Message, Said, TopicDecoder};

impl TopicDecoder<'_> {
    pub(super) fn auto(&self, message: Message<'_>) -> Said {
        let Some(value) = message.value else { return self.null_value(message.key) };
        if value.as_str().is_some() {
            return self.mongodb(message);
        }
        if !value.is_object() {
            return Err(Reason::NotAnObject);
        }
        let is_text = |name: &str| value.get(name).is_some_and(|node| node.as_str().is_some());
        let has = |name: &str| value.get(name).is_some();
        if has("operationType") {
            self.mongodb(message)
        } else if value.get("metadata").is_some_and(Node::is_object) && (has("data") || has("control")) {
            self.dms(message)
        } else if is_text("type")
            && (value.get("data").is_some_and(|data| data.as_array().is_some()) || value.get("isDdl").is_some_and(Node::is_true))
        {
            self.canal(message)
        } else if is_text("type") && is_text("database") && is_text("table") {
            self.maxwell(message)
        } else {
            match value.get("payload") {
                Some(payload) if payload.is_null() => self.null_value(message.key),
                Some(payload) if payload.is_object() => self.debezium_or_row(message.key, payload, value.get("schema")),
                _ => self.debezium_or_row(message.key, value, None),
            }
        }
    }

    fn debezium_or_row<'n>(&self, key: Option<&str>, value: &'n Node<'n>, schema: Option<&'n Node<'n>>) -> Said {
        let has = |name: &str| value.get(name).is_some();
        let envelope = has("op") && (has("before") || has("after") || has("source"));
        // Less than is looked for in an envelope: a row may have a column that is called so.
        let schema_change = has("source") && (has("ddl") || has("tableChanges"));
        let transaction = ["status", "id", "event_count", "data_collections"].iter().all(|name| has(name));
        let heartbeat = value.only("ts_ms").is_some();
        let sign = schema_change || transaction || heartbeat;
        if envelope || sign && value.get_some("op").is_none() {
            self.debezium_envelope(key, value, schema)
        } else {
            self.flattened_row(key, value, schema)
        }
    }
}
