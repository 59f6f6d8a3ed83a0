//! Canal's FlatMessage.

use super::super::fields::PLAIN;
use super::super::json::Node;
use super::super::types::Reason;
use super::table::TableName;
use super::{Message, Outcome, Said, Skip, TopicDecoder, object, skipped, timestamp};

impl TopicDecoder<'_> {
    pub(super) fn canal(&self, message: Message<'_>) -> Said {
        let Some(value) = message.value else { return skipped(None, Skip::Tombstone) };
        let kind = object(value)?.get("type").and_then(Node::as_str).ok_or(Reason::BadOp)?;
        let is_ddl = value.get("isDdl").is_some_and(Node::is_true);
        let has_rows = !is_ddl && ["INSERT", "UPDATE", "INIT", "DELETE"].contains(&kind);
        let time = |name: &str| value.get(name).and_then(Node::as_integer);
        let own_time = time("es").or(time("ts")).filter(|_| has_rows).and_then(timestamp);
        let Some(reader) = self.taking(&TableName::of(value, "table", None, Some("database"))) else {
            return skipped(own_time, Skip::OtherTable);
        };

        match kind {
            "TRUNCATE" | "ERASE" if is_ddl => return Ok((own_time, reader.truncate(None))),
            _ if is_ddl => return skipped(own_time, Skip::SchemaChange),
            _ if has_rows => {}
            "MHEARTBEAT" => return skipped(own_time, Skip::Heartbeat),
            _ if value.get_some("data").is_none() => return skipped(own_time, Skip::SchemaChange),
            _ => return Err(Reason::BadOp),
        }
        let rows = value.get("data").and_then(Node::as_array).filter(|rows| !rows.is_empty()).ok_or(Reason::MissingRow)?;
        let olds = value.get("old").and_then(Node::as_array).unwrap_or(&[]);
        let mut changes = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let fields = reader.fields(if row.is_object() { row } else { return Err(Reason::MissingRow) }, None, PLAIN);
            let parts = reader.key_parts(&fields)?;
            match kind {
                "DELETE" => changes.push(reader.change(parts, None, None)),
                "UPDATE" => {
                    let old = reader.old_key(olds.get(at).filter(|old| old.is_object()), &parts)?;
                    changes.extend(reader.moved(old, parts, None, reader.row(&fields)?));
                }
                _ => changes.push(reader.change(parts, None, Some(reader.row(&fields)?))),
            }
        }
        Ok((own_time, Outcome::Changes(changes)))
    }
}
