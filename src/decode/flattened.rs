//! Debezium's `ExtractNewRecordState`: the row itself, with what is known of it in fields that begin with two underscores.
//!
//! Which of those there are is up to the connector's settings (`add.fields`, `delete.tombstone.handling.mode`): without `__op` a record
//! is a row, and without a position the log's order is all there is.

use storeflow_dataflows::change::{Version, What};

use super::json::{Fields, Value};
use super::keys::Keys;
use super::paths::{FIELDS_MAX, Texts};
use super::project::{Hints, Projection};
use super::schema::{Schemas, WRAPPER, Wrapper};
use super::table::Table;
use super::values::Hint;
use super::version::Incarnations;
use super::{Decoded, Reason, Record, Reject, RowChange, Skipped, clock_millis, integer_of, not_an_object, not_json, text_of};
use crate::config::{Job, SourceSpec};

pub(super) struct Flattened {
    /// First names of the needed fields, metadata, wrapper.
    fields: Fields,
    projection: Projection,
    keys: Keys,
    schemas: Schemas,
    table: Table,
    incarnations: Incarnations,
}

/// Each is `__x` or, where there is none, `__source_x`.
const METADATA: [&str; 12] =
    ["op", "deleted", "table", "collection", "schema", "db", "file", "pos", "name", "server_id", "row", "lsn"];
/// When the database committed, and else when the connector read it.
const TIMES: [&str; 2] = ["__source_ts_ms", "__ts_ms"];
const TIMES_AT: [usize; 2] = [2 * METADATA.len(), 2 * METADATA.len() + 1];
const METADATA_FIELDS: usize = 2 * METADATA.len() + TIMES.len();

impl Flattened {
    pub(super) fn new(job: &Job, spec: &SourceSpec, topic: &str, key_space: u32) -> Self {
        let projection = Projection::new(job, spec, topic);
        let heads = projection.heads().iter().cloned();
        let metadata = ["__", "__source_"].into_iter().flat_map(|before| METADATA.map(|name| format!("{before}{name}")));
        let rest = TIMES.into_iter().chain(WRAPPER).map(str::to_owned);
        Flattened {
            fields: Fields::new(heads.chain(metadata).chain(rest)),
            keys: Keys::new(job, spec, topic, key_space),
            schemas: Schemas::new(projection.field_paths().iter().map(|path| path.names().to_vec()), Wrapper::ByBoth),
            table: Table::new(spec),
            incarnations: Incarnations::new(spec),
            projection,
        }
    }

    /// What is known of the next record's row, where no schema wrapper says it.
    pub(super) fn hints(&mut self) -> &mut [Hint] {
        self.schemas.told()
    }

    pub(super) fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Record, Reject> {
        let texts = Texts::default();
        let mut values = [Value::Absent; FIELDS_MAX + METADATA_FIELDS + WRAPPER.len()];
        let values = &mut values[..self.fields.len()];
        let (value, hints) = match value {
            Some(text) => self.schemas.read(text, &self.fields, values, &mut []).map_err(not_json)?,
            None => (Value::Null, &[][..]),
        };
        match value {
            Value::Null if !self.table.is_any() => return Ok(Record::skipped(Skipped::OtherTable, None)),
            Value::Null => {
                let Some(text) = key else { return Err(Reject::new(Reason::MissingKey, "a delete without a message key")) };
                return Ok(Record::change(self.keys.of_any(text)?, None, What::Delete, None));
            }
            Value::Object(_) => {}
            _ => return Err(not_an_object("the message")),
        }
        let (row, more) = values.split_at_mut(self.projection.len());
        let metadata: [Value<'_>; METADATA.len()] = std::array::from_fn(|at| match more[at] {
            Value::Absent => more[METADATA.len() + at],
            found => found,
        });
        let [op, deleted, table, collection, schema, db, ..] = metadata;
        let [of_source, of_connector] = TIMES_AT.map(|at| more[at]);
        let own_time = clock_millis(integer_of(of_source, of_connector));
        let table = if table == Value::Absent { collection } else { table };
        if !self.table.takes(table, schema, db) {
            return Ok(Record::skipped(Skipped::OtherTable, own_time));
        }
        let (version, of_log) = version(&mut self.incarnations, &metadata);
        let delete = match &*text_of(op) {
            b"t" => return Ok(Record { decoded: self.keys.truncate(version), own_time }),
            b"d" => true,
            b"c" | b"r" | b"u" => false,
            _ if matches!(op, Value::Absent | Value::Null) => false,
            _ => return Err(Reject::new(Reason::BadOp, "field \"__op\" is none of c, r, u, d, t")),
        };
        let delete = delete || *text_of(deleted) == *b"true" || matches!(deleted, Value::Bool(b"true"));
        self.projection.complete(row, &texts);
        let hints = Hints::Schema(hints);
        let key = match key {
            Some(text) => self.keys.of_any(text)?,
            None => self.keys.of_values(self.projection.key_values(row), hints)?,
        };
        let what = if delete { What::Delete } else { self.projection.what(row, hints)? };
        let read = !delete && of_log && *text_of(op) == *b"r";
        Ok(Record { decoded: Decoded::Change(RowChange { key, version, read, what }), own_time })
    }
}

/// The version, and whether it is a place in PostgreSQL's log.
fn version(incarnations: &mut Incarnations, metadata: &[Value<'_>; METADATA.len()]) -> (Option<Version>, bool) {
    let [.., db, file, pos, name, server_id, row, lsn] = *metadata;
    let of_binlog = incarnations.mysql(name, [file, pos, row, server_id]);
    match of_binlog {
        Some(version) => (Some(version), false),
        None => (incarnations.postgres(name, db, lsn, Value::Absent), true),
    }
}

#[cfg(test)]
mod tests {
    use storeflow_dataflows::change::Position;
    use storeflow_dataflows::key::Text;

    use super::*;
    use crate::config::{Format, Role};
    use crate::decode::testing::decode;
    use crate::decode::{Decoded, RowChange, Truncate};

    fn products() -> SourceSpec {
        SourceSpec { key: vec!["id".into()], ..SourceSpec::plain("t", Role::Products, Format::Flattened, "store") }
    }

    /// Key, store (none of a delete) and position of a change.
    fn change(
        spec: &SourceSpec,
        key: Option<&str>,
        value: Option<&str>,
    ) -> Result<(String, Option<String>, Option<Position>), Reason> {
        match decode(spec, key, value).map_err(|reject| reject.reason)?.decoded {
            Decoded::Change(RowChange { key, version, what, .. }) => {
                let store = match what {
                    What::Row(row) => Some(String::from_utf8_lossy(row.cell.cell_parts().0).into_owned()),
                    What::Delete => None,
                    other => panic!("{value:?} is {other:?}"),
                };
                Ok((key.text.to_str()[1..].to_owned(), store, version.map(|version| version.position)))
            }
            other => panic!("{value:?} is {other:?}"),
        }
    }

    #[test]
    fn rows_and_deletes() {
        let spec = products();
        let row = |id: &str| Ok((id.to_owned(), Some("7".to_owned()), None));
        let deleted = |id: &str| Ok((id.to_owned(), None, None));
        for (value, expected) in [
            (r#"{"id":1,"store":7}"#, row("1")),
            (r#"{"id":1,"store":7,"__op":"r","__deleted":"false"}"#, row("1")),
            (r#"{"id":1,"store":7,"__source_op":"u","__deleted":false}"#, row("1")),
            (r#"{"id":1,"store":7,"__op":null,"__source_op":"d"}"#, row("1")),
            (r#"{"id":1,"store":7,"__deleted":"true"}"#, deleted("1")),
            (r#"{"id":1,"store":"","__deleted":true,"__op":"u"}"#, deleted("1")),
            (r#"{"id":1,"__op":"d"}"#, deleted("1")),
            (r#"{"schema":{"type":"struct","fields":[]},"payload":{"id":1,"store":7}}"#, row("1")),
            (r#"{"id":1,"store":7,"payload":{"id":9}}"#, row("1")),
            (r#"{"id":1,"store":7,"__op":"x"}"#, Err(Reason::BadOp)),
            (r#"{"id":1,"store":7,"__op":5}"#, Err(Reason::BadOp)),
            (r#"{"id":1}"#, Err(Reason::MissingField)),
            ("5", Err(Reason::NotAnObject)),
        ] {
            assert_eq!(change(&spec, None, Some(value)), expected, "{value}");
        }
        assert_eq!(change(&spec, Some(r#"{"id":2}"#), Some(r#"{"id":1,"store":7}"#)), row("2"));
        for value in [None, Some("null"), Some(""), Some(r#"{"schema":null,"payload":null}"#)] {
            assert_eq!(change(&spec, Some("2"), value), deleted("2"), "{value:?}");
            assert_eq!(change(&spec, None, value), Err(Reason::MissingKey), "{value:?}");
        }
    }

    #[test]
    fn positions() {
        for (metadata, expected) in [
            (r#""__lsn":77"#, Some(Position(0, 77, 0))),
            (r#""__source_lsn":77"#, Some(Position(0, 77, 0))),
            (r#""__file":"bin.000012","__pos":34,"__row":5"#, Some(Position(12, 34, 5))),
            (r#""__source_file":"bin.000012","__source_pos":34"#, Some(Position(12, 34, 0))),
            (r#""__file":"bin.000012","__pos":34,"__lsn":77"#, Some(Position(12, 34, 0))),
            (r#""__file":"","__pos":0,"__lsn":77"#, Some(Position(0, 77, 0))),
            (r#""__lsn":0"#, None),
            (r#""__lsn":"77""#, None),
        ] {
            let value = format!(r#"{{"id":1,"store":7,{metadata}}}"#);
            let found = change(&products(), None, Some(&value)).map(|(.., position)| position);
            assert_eq!(found, Ok(expected), "{metadata}");
        }
    }

    #[test]
    fn own_times() {
        for (metadata, expected) in [
            (r#""__source_ts_ms":5,"__ts_ms":6"#, Some(5)),
            (r#""__ts_ms":6"#, Some(6)),
            (r#""__ts_ms":0"#, None),
            (r#""x":6"#, None),
        ] {
            let record = decode(&products(), None, Some(&format!(r#"{{"id":1,"store":7,{metadata}}}"#)));
            assert_eq!(record.map(|record| record.own_time), Ok(expected), "{metadata}");
        }
    }

    #[test]
    fn tables_and_truncates() {
        let of = |table: &str| SourceSpec { table: Some(table.to_owned()), ..products() };
        for (table, metadata, taken) in [
            ("p", r#""__table":"p""#, true),
            ("p", r#""__source_table":"p""#, true),
            ("p", r#""__collection":"p""#, true),
            ("public.p", r#""__table":"p","__schema":"public","__db":"shop""#, true),
            ("shop.p", r#""__table":"p","__source_schema":"public","__db":"shop""#, false),
            ("shop.p", r#""__table":"p","__source_db":"shop""#, true),
            ("p", r#""__table":"q""#, false),
            ("p", r#""x":1"#, false),
        ] {
            let record = decode(&of(table), None, Some(&format!(r#"{{"id":1,"store":7,{metadata}}}"#))).expect("a record");
            let skipped = record.decoded == Decoded::Skipped(Skipped::OtherTable);
            assert_eq!(skipped, !taken, "{table} of {metadata}");
        }
        let truncate = decode(&products(), None, Some(r#"{"__op":"t","__lsn":9}"#)).expect("a record");
        let Decoded::Truncate(Truncate { space, version }) = truncate.decoded else { panic!("a truncate") };
        assert_eq!((space, version.map(|version| version.position)), (Text::new(&[8]), Some(Position(0, 9, 0))));
    }
}
