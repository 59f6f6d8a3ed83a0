//! AWS DMS.

use super::super::fields::{Fields, PLAIN};
use super::super::json::Node;
use super::super::row::{Part, id_of_field};
use super::super::time::rfc3339;
use super::super::types::Reason;
use super::table::TableName;
use super::{Message, Outcome, Reader, Said, Skip, TopicDecoder, Version, in_range, object, skipped};
use crate::config::Absent;
use crate::config::field_path::FieldPath;

impl TopicDecoder<'_> {
    pub(super) fn dms(&self, message: Message<'_>) -> Said {
        let Some(value) = message.value else { return skipped(None, Skip::Tombstone) };
        let metadata = object(object(value)?.get("metadata").ok_or(Reason::NotAnObject)?)?;
        let text = |name: &str| metadata.get(name).and_then(Node::as_str);
        let time = |name: &str| text(name).and_then(|text| rfc3339(text).ok());
        let own_time = time("commit-timestamp").or(time("timestamp")).and_then(in_range);
        let control = text("record-type") == Some("control");
        let table = TableName::of(metadata, "table-name", Some("schema-name"), None);
        if control && table.name.is_none_or(str::is_empty) {
            return skipped(own_time, Skip::Control);
        }
        let Some(reader) = self.taking(&table) else { return skipped(own_time, Skip::OtherTable) };

        let version = Version::of_dms(metadata).map(|version| version.of_source(reader));
        match (control, text("operation")) {
            (true, Some("drop-table")) => return Ok((own_time, reader.truncate(version))),
            (true, _) => return skipped(own_time, Skip::Control),
            (false, Some("load" | "insert" | "update" | "delete")) => {}
            (false, _) => return Err(Reason::BadOp),
        }
        let data = value.get("data").filter(|data| data.is_object()).ok_or(Reason::MissingRow)?;
        let fields = reader.fields(data, None, PLAIN);
        let parts = reader.key_parts(&fields)?;
        let changes = match text("operation") {
            Some("delete") => vec![reader.change(parts, version, None)],
            Some("update") => {
                let old = reader.old_key_of_dms(value, data, &parts)?;
                reader.moved(old, parts, version, reader.row(&fields)?)
            }
            _ => vec![reader.change(parts, version, Some(reader.row(&fields)?))],
        };
        Ok((own_time, Outcome::Changes(changes)))
    }
}

impl Reader<'_> {
    /// The key that an update's row had before: as its before-image says, or the columns that a rule put beside the new ones.
    fn old_key_of_dms(&self, value: &Node<'_>, data: &Node<'_>, new: &[String]) -> Result<Vec<String>, Reason> {
        let before = value.get("before-image").filter(|before| before.is_object());
        let old = |(path, new): (&FieldPath, &String)| {
            let beside = beside(path);
            for (row, path) in before.map(|before| (before, path)).into_iter().chain([(data, &beside)]) {
                let fields = Fields::of_row(row, None, PLAIN, Absent::Missing);
                if let Part::Said(before) = id_of_field(path, &fields)? {
                    return Ok(before);
                }
            }
            Ok(new.clone())
        };
        self.spec.key.iter().zip(new).map(old).collect()
    }
}

/// A path whose last name begins with `BI_`.
fn beside(path: &FieldPath) -> FieldPath {
    let (last, outer) = path.names().split_last().expect("a path has a name");
    let quoted = |name: &String| FieldPath::field(name.clone()).to_string();
    let names: Vec<String> = outer.iter().map(quoted).chain([quoted(&format!("BI_{last}"))]).collect();
    FieldPath::parse(&names.join(".")).expect("what is written reads")
}
