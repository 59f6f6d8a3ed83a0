//! Maxwell.

use super::super::fields::{Fields, PLAIN};
use super::super::json::Node;
use super::super::row::{id_of_field, needed};
use super::super::types::Reason;
use super::table::TableName;
use super::{Message, Outcome, Reader, Said, Skip, TopicDecoder, Version, in_range, object, skipped};
use crate::config::Absent;

impl TopicDecoder<'_> {
    pub(super) fn maxwell(&self, message: Message<'_>) -> Said {
        let Some(value) = message.value else { return skipped(None, Skip::Tombstone) };
        let kind = object(value)?.get("type").and_then(Node::as_str).ok_or(Reason::BadOp)?;
        match kind {
            "bootstrap-start" | "bootstrap-complete" => return skipped(None, Skip::Bootstrap),
            "heartbeat" => return skipped(None, Skip::Heartbeat),
            _ if kind.starts_with("database-") => return skipped(None, Skip::SchemaChange),
            _ => {}
        }
        let has_row = ["insert", "update", "bootstrap-insert", "delete"].contains(&kind);
        let seconds = value.get("ts").and_then(Node::as_integer).and_then(|text| text.parse::<i128>().ok());
        let own_time = seconds.filter(|_| has_row).and_then(|seconds| in_range(seconds.saturating_mul(1000)));
        let Some(reader) = self.taking(&TableName::of(value, "table", None, Some("database"))) else {
            return skipped(own_time, Skip::OtherTable);
        };

        let version = Version::of_maxwell(value).map(|version| version.of_source(reader));
        match kind {
            "table-drop" => return Ok((own_time, reader.truncate(version))),
            _ if has_row => {}
            _ if kind.starts_with("table-") => return skipped(own_time, Skip::SchemaChange),
            _ => return Err(Reason::BadOp),
        }
        let data = value.get("data").filter(|data| data.is_object()).ok_or(Reason::MissingRow)?;
        let fields = reader.fields(data, None, PLAIN);
        let parts = reader.key_parts(&fields)?;
        let changes = match kind {
            "delete" => vec![reader.change(parts, version, None)],
            "update" => {
                let old = reader.old_key(value.get("old"), &parts)?;
                reader.moved(old, parts, version, reader.row(&fields)?)
            }
            _ => vec![reader.change(parts, version, Some(reader.row(&fields)?))],
        };
        Ok((own_time, Outcome::Changes(changes)))
    }
}

impl Reader<'_> {
    /// The key that a row had before, by the columns that changed.
    pub(super) fn old_key(&self, changed: Option<&Node<'_>>, new: &[String]) -> Result<Vec<String>, Reason> {
        let mut old = new.to_vec();
        for (path, part) in self.spec.key.iter().zip(&mut old) {
            if let Some(changed) = changed.filter(|changed| changed.get_some(&path.names()[0]).is_some()) {
                let before = id_of_field(path, &Fields::of_row(changed, None, PLAIN, Absent::Missing))?;
                *part = needed(before)?.ok_or(Reason::MissingField)?;
            }
        }
        Ok(old)
    }
}
