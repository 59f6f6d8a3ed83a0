//! AWS DMS to Kafka or Kinesis.
//!
//! ```text
//! {"data": row, "before-image": what the row was, "metadata": {"operation", "table-name", "stream-position", …}}
//! ```
//!
//! Shapes: AWS DMS user guide, "Using Apache Kafka as a target", "Message format". The row's key is in the row: the message key is
//! a partition value, and often the table's name.
//!
//! Upholds: one pass over the message. An old key is where the task's settings put it: in an object beside the row, or in
//! the row itself under other names.

use storeflow_dataflows::change::{Position, Version, What};

use super::json::{self, Fields, Inner, Value};
use super::keys::Keys;
use super::paths::{FIELDS_MAX, Paths, Texts};
use super::project::{Hints, Projection, ROOM};
use super::table::Table;
use super::values::{Hint, Times};
use super::version::{Incarnations, small};
use super::{Reason, Record, Reject, RowChange, Skipped, clock_read, not_an_object, not_json, positions, text_of};
use crate::config::field_path::FieldPath;
use crate::config::{Job, SourceSpec, TimeUnit};

pub(super) struct Dms {
    envelope: Fields,
    metadata: Fields,
    /// First names of the row's needed fields, and behind them those of the key's fields as a transformation renames them.
    data: Fields,
    before: Paths,
    renamed: Paths,
    table: Table,
    projection: Projection,
    keys: Keys,
    incarnations: Incarnations,
    times: Times,
}

const DATA: usize = 0;
const METADATA: usize = 1;
const BEFORE: usize = 2;

/// What a before image's fields are called if they are put into the row itself, unless the task says otherwise.
const RENAMED: &str = "BI_";

impl Dms {
    pub(super) fn new(job: &Job, spec: &SourceSpec, topic: &str, key_space: u32) -> Self {
        let projection = Projection::new(job, spec, topic).without_placeholders();
        let before = Paths::new(projection.key_paths());
        let renamed = renamed(projection.key_paths());
        Dms {
            envelope: Fields::new(["data", "metadata", "before-image"]),
            metadata: Fields::new([
                "record-type",
                "operation",
                "schema-name",
                "table-name",
                "timestamp",
                "commit-timestamp",
                "stream-position",
                "transaction-record-id",
            ]),
            data: Fields::new(projection.heads().iter().chain(renamed.heads())),
            before,
            renamed,
            table: Table::new(spec),
            keys: Keys::new(job, spec, topic, key_space),
            projection,
            incarnations: Incarnations::new(spec),
            times: Times::new(&TimeUnit::Rfc3339, None),
        }
    }

    pub(super) fn decode(&mut self, value: Option<&[u8]>) -> Result<Record, Reject> {
        let Some(text) = value else { return Ok(Record::skipped(Skipped::Tombstone, None)) };
        let texts = Texts::default();
        let (mut envelope, mut metadata) = ([Value::Absent; 3], [Value::Absent; 8]);
        let (mut data, mut before) = ([Value::Absent; 2 * FIELDS_MAX], ROOM);
        let (data, before) = (&mut data[..self.data.len()], &mut before[..self.before.len()]);
        let mut inner = [
            Inner { of: DATA, fields: &self.data, out: data },
            Inner { of: METADATA, fields: &self.metadata, out: &mut metadata },
            Inner { of: BEFORE, fields: self.before.fields(), out: before },
        ];
        match json::read_both(text, &self.envelope, &mut envelope, &mut inner).map_err(not_json)? {
            Value::Object(_) => {}
            Value::Null => return Ok(Record::skipped(Skipped::Tombstone, None)),
            _ => return Err(not_an_object("the message")),
        }
        if !matches!(envelope[METADATA], Value::Object(_)) {
            return Err(not_an_object("\"metadata\""));
        }
        let [record_type, operation, schema, table, timestamp, commit, position, record] = metadata;
        let own_time = [commit, timestamp].into_iter().find_map(|time| self.own_time(time)).flatten();
        let control = json::is_named(record_type, b"control");
        if control && text_of(table).is_empty() {
            return Ok(Record::skipped(Skipped::Control, own_time));
        }
        if !self.table.takes(table, schema, Value::Absent) {
            return Ok(Record::skipped(Skipped::OtherTable, own_time));
        }
        let version = self.version(position, record);
        let operation = text_of(operation);
        if control {
            let decoded = match &*operation {
                b"drop-table" => self.keys.truncate(version),
                _ => return Ok(Record::skipped(Skipped::Control, own_time)),
            };
            return Ok(Record { decoded, own_time });
        }
        let (delete, update) = match &*operation {
            b"load" | b"insert" => (false, false),
            b"update" => (false, true),
            b"delete" => (true, false),
            _ => return Err(Reject::new(Reason::BadOp, "\"operation\" is none of load, insert, update, delete")),
        };
        if !matches!(envelope[DATA], Value::Object(_)) {
            return Err(Reject::new(Reason::MissingRow, "\"data\" is not a row"));
        }
        let (row, renamed) = data.split_at_mut(self.projection.len());
        self.projection.complete(row, &texts);
        let new = self.projection.key_values(row);
        let key = self.keys.of_values(new, Hints::None)?;
        let old = if update {
            self.before.descend(before, &texts, false);
            self.renamed.descend(renamed, &texts, false);
            for (before, renamed) in before.iter_mut().zip(renamed) {
                if matches!(before, Value::Absent | Value::Null) {
                    *before = *renamed;
                }
            }
            self.keys.moved(&key, before, new, Hints::None)?
        } else {
            None
        };
        let what = if delete { What::Delete } else { self.projection.what(row, Hints::None)? };
        Ok(Record::moved(old, RowChange { key, version, read: false, what }, own_time))
    }

    /// The time that a value is, if it is one at all, and if a clock can take it.
    fn own_time(&self, value: Value<'_>) -> Option<Option<u64>> {
        match value {
            Value::Plain(_) | Value::Escaped(_) => clock_read(self.times.read(value, Hint::Unknown, "")),
            _ => None,
        }
    }

    fn version(&mut self, position: Value<'_>, record: Value<'_>) -> Option<Version> {
        let text = text_of(position);
        let (incarnation, file, at) = if let Some((place, _)) = positions::binlog(&text) {
            (self.incarnations.name(&[b"dms", place.base]), place.file, place.at)
        } else {
            let lsn = positions::lsn(&text)?;
            (self.incarnations.name(&[b"dms", b"lsn"]), 0, lsn)
        };
        Some(Version { incarnation, server: 0, position: Position(file, at, small(record)) })
    }
}

/// The paths with the names of a transformation's before image.
fn renamed(paths: &[FieldPath]) -> Paths {
    let renamed = |path: &FieldPath| {
        let mut names = path.names().to_vec();
        names.last_mut().into_iter().for_each(|name| name.insert_str(0, RENAMED));
        names
    };
    Paths::of_all_names(&paths.iter().map(renamed).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use storeflow_dataflows::change::says;

    use super::super::told::{Told, payments};
    use super::*;
    use crate::config::{Absent, Format};
    use crate::decode::Decoded;

    const ROW: &str = r#""id":7,"store":"s1","amount":"12.50","at":1795168800005"#;
    const WINDOW: u64 = 1_795_168_800_000;

    /// A record of an operation with a row, and more of the metadata.
    fn record(operation: &str, data: &str, more: &str) -> String {
        format!(
            r#"{{"data":{data},"metadata":{{"timestamp":"2026-11-20T10:00:01.5Z","record-type":"data","operation":"{operation}","schema-name":"shop","table-name":"payments"{more}}}}}"#
        )
    }

    fn row() -> String {
        format!("{{{ROW}}}")
    }

    #[test]
    fn operations_by_their_names() {
        let mut told = Told::of(&payments(Format::Dms));
        for operation in ["load", "insert", "update"] {
            let expected = format!("row 7: s1 KRW 1250 in {WINDOW}; own 1795168801500");
            assert_eq!(told.tell(&record(operation, &row(), "")), expected, "{operation}");
        }
        assert_eq!(told.tell(&record("delete", &row(), "")), "delete 7; own 1795168801500");
        assert_eq!(told.tell(&record("delete", r#"{"id":"7","store":null}"#, "")), "delete 7; own 1795168801500");
        assert_eq!(told.tell(&record("upsert", &row(), "")), "bad_op");
        for data in ["null", "[]", "\"{}\"", "7"] {
            assert_eq!(told.tell(&record("insert", data, "")), "missing_row", "{data}");
            assert_eq!(told.tell(&record("delete", data, "")), "missing_row", "{data}");
        }
        assert_eq!(told.tell(&record("insert", r#"{"id":7}"#, "")), "missing_field");
        assert_eq!(told.tell(&record("delete", "{}", "")), "missing_field");
        assert_eq!(told.tell(&record("delete", r#"{"id":null}"#, "")), "bad_id");
        // The message key is a partition value.
        assert_eq!(told.tell_keyed(Some("shop.payments"), Some(&record("delete", &row(), ""))), "delete 7; own 1795168801500");
    }

    #[test]
    fn what_is_no_record_of_dms() {
        let mut told = Told::of(&payments(Format::Dms));
        for value in
            [r#"{"data":{}}"#, r#"{"data":{},"metadata":null}"#, r#"{"metadata":"{}"}"#, "{}", "[]", "7", r#""x""#, "true"]
        {
            assert_eq!(told.tell(value), "not_an_object", "{value}");
        }
        assert_eq!(told.tell("{"), "not_json");
        assert_eq!(told.tell("null"), "skipped tombstone");
        assert_eq!(told.tell(""), "skipped tombstone");
        assert_eq!(told.tell_keyed(Some("k"), None), "skipped tombstone");
        assert_eq!(told.tell(r#"{"data":{},"metadata":{}}"#), "bad_op");
        assert_eq!(told.tell(r#"{"data":{},"metadata":{"operation":{"operation":"load"},"record-type":[[]]}}"#), "bad_op");
    }

    #[test]
    fn controls_are_skipped_but_a_dropped_table_is_emptied() {
        let control = |operation: &str, table: &str| {
            format!(
                r#"{{"control":{{"table-def":{{}}}},"metadata":{{"timestamp":"2026-11-20T10:00:01.5Z","record-type":"control","operation":"{operation}","schema-name":"shop","table-name":{table}}}}}"#
            )
        };
        for (spec, of_other) in
            [(None, "truncate"), (Some("payments"), "skipped other_table"), (Some("shop.payments"), "skipped other_table")]
        {
            let spec = SourceSpec { table: spec.map(str::to_owned), ..payments(Format::Dms) };
            let mut told = Told::of(&spec);
            let mut tell = |operation, table| told.tell(&control(operation, table)).replace("; own 1795168801500", "");
            assert_eq!(tell("drop-table", r#""payments""#), "truncate");
            assert_eq!(tell("drop-table", r#""orders""#), of_other);
            assert_eq!(tell("create-table", r#""payments""#), "skipped control");
            assert_eq!(tell("drop-table", r#""""#), "skipped control");
            assert_eq!(tell("drop-table", "null"), "skipped control");
        }
    }

    #[test]
    fn tables_are_told_apart_with_their_schema() {
        for (table, taken) in
            [("payments", true), ("shop.payments", true), ("Payments", false), ("mall.payments", false), ("shop.orders", false)]
        {
            let spec = SourceSpec { table: Some(table.to_owned()), ..payments(Format::Dms) };
            let expected = if taken { "delete 7; own 1795168801500" } else { "skipped other_table; own 1795168801500" };
            assert_eq!(Told::of(&spec).tell(&record("delete", &row(), "")), expected, "{table}");
        }
        // Whatever else a record of another table holds.
        let spec = SourceSpec { table: Some("orders".to_owned()), ..payments(Format::Dms) };
        assert_eq!(Told::of(&spec).tell(&record("?", "null", "")), "skipped other_table; own 1795168801500");
    }

    #[test]
    fn a_moved_key_is_deleted_first() {
        let mut told = Told::of(&payments(Format::Dms));
        let moved = format!("delete 6; row 7: s1 KRW 1250 in {WINDOW}; at 3/9/0");
        let stays = format!("row 7: s1 KRW 1250 in {WINDOW}; at 3/9/0");
        for (before, data, expected) in [
            (r#"{"id":6}"#, "", &moved),
            (r#"{"id":"6"}"#, "", &moved),
            (r#"{"id":"7"}"#, "", &stays),
            (r#"{"id":7,"amount":0}"#, "", &stays),
            ("{}", "", &stays),
            (r#"{"id":null}"#, "", &stays),
            ("null", "", &stays),
            ("[6]", "", &stays),
            ("null", r#","BI_id":6"#, &moved),
            ("null", r#","BI_id":null"#, &stays),
            ("{}", r#","BI_id":6"#, &moved),
            (r#"{"id":7}"#, r#","BI_id":6"#, &stays),
        ] {
            let value = format!(
                r#"{{"data":{{{ROW}{data}}},"before-image":{before},"metadata":{{"record-type":"data","operation":"update","stream-position":"b.3:9"}}}}"#
            );
            assert_eq!(told.tell(&value), *expected, "{before} {data}");
            let inserted = value.replace(r#""operation":"update""#, r#""operation":"insert""#);
            assert_eq!(told.tell(&inserted), stays, "only an update moves a key");
        }
        let value = record("update", &row(), "").replace(r#"{"data""#, r#"{"before-image":{"id":1.5},"data""#);
        assert_eq!(told.tell(&value), "bad_id");
    }

    #[test]
    fn keys_of_several_fields_and_within_objects() {
        let spec = SourceSpec { key: vec!["site".into(), FieldPath::parse("ref.no").expect("a path")], ..payments(Format::Dms) };
        let mut told = Told::of(&spec);
        let data = |more: &str| format!(r#"{{{ROW},"site":"kr","ref":{{"no":2,"BI_no":1}}{more}}}"#);
        let row = format!("row kr|2: s1 KRW 1250 in {WINDOW}; own 1795168801500");
        assert_eq!(told.tell(&record("update", &data(""), "")), format!("delete kr|1; {row}"));
        assert_eq!(told.tell(&record("update", &data(r#","BI_site":"jp""#), "")), format!("delete jp|1; {row}"));
        let image = record("update", &data(""), "").replace(r#"{"data""#, r#"{"before-image":{"site":"us"},"data""#);
        assert_eq!(told.tell(&image), format!("delete us|1; {row}"));
    }

    #[test]
    fn versions_are_places_in_the_databases_log() {
        let mut told = Told::of(&payments(Format::Dms));
        for (more, expected) in [
            (
                r#","stream-position":"mysql-bin-changelog.002171:36912271:0:36912333:9324410911751:mysql-bin-changelog.002171:36912209""#,
                "; at 2171/36912271/0",
            ),
            (r#","stream-position":"b.1:2","transaction-record-id":17"#, "; at 1/2/17"),
            (r#","stream-position":"b.1:2","transaction-record-id":4294967295"#, "; at 1/2/4294967295"),
            (r#","stream-position":"b.1:2","transaction-record-id":4294967296"#, "; at 1/2/0"),
            (r#","stream-position":"b.1:2","transaction-record-id":"17""#, "; at 1/2/0"),
            (r#","stream-position":"b.1:2","transaction-record-id":-1"#, "; at 1/2/0"),
            (r#","stream-position":"00000002/7C007178.3.00000002/7C007178","transaction-record-id":2"#, "; at 0/10670338424/2"),
            (r#","stream-position":"\u0031\/2""#, "; at 0/4294967298/0"),
            (r#","stream-position":"123456789/0""#, ""),
            (r#","stream-position":"0001:Opaque""#, ""),
            (r#","stream-position":12"#, ""),
            (r#","stream-position":null,"transaction-record-id":2"#, ""),
        ] {
            assert_eq!(told.tell(&record("delete", &row(), more)), format!("delete 7{expected}; own 1795168801500"), "{more}");
        }
    }

    #[test]
    fn incarnations_are_the_binlogs_or_the_log() {
        let incarnation = |spec: &SourceSpec, position: &str| {
            let value = record("delete", &row(), &format!(r#","stream-position":"{position}""#));
            match Told::of(spec).decode(None, Some(&value)).expect("a change").decoded {
                Decoded::Change(RowChange { version: Some(version), .. }) => version.incarnation,
                other => panic!("{other:?} has no version"),
            }
        };
        let spec = payments(Format::Dms);
        let one = incarnation(&spec, "a.1:2");
        assert_eq!(incarnation(&spec, "a.2:1"), one);
        assert_ne!(incarnation(&spec, "b.1:2"), one);
        assert_eq!(incarnation(&spec, "1/2"), incarnation(&spec, "2/1"));
        assert_ne!(incarnation(&SourceSpec { incarnation: Some("restored".to_owned()), ..payments(Format::Dms) }, "a.1:2"), one);
    }

    #[test]
    fn own_time_is_that_of_the_commit() {
        let mut told = Told::of(&payments(Format::Dms));
        for (more, expected) in [
            (r#","commit-timestamp":"2026-11-20T10:00:00.123456Z""#, "; own 1795168800123"),
            (r#","commit-timestamp":"yesterday""#, "; own 1795168801500"),
            (r#","commit-timestamp":1795168800123"#, "; own 1795168801500"),
            (r#","commit-timestamp":null"#, "; own 1795168801500"),
            (r#","commit-timestamp":"1969-12-31T23:59:59Z""#, ""),
        ] {
            assert_eq!(told.tell(&record("delete", &row(), more)), format!("delete 7{expected}"), "{more}");
        }
        assert_eq!(told.tell(r#"{"data":{"id":7},"metadata":{"operation":"delete"}}"#), "delete 7");
    }

    #[test]
    fn what_is_absent_is_unchanged_if_the_source_says_so() {
        let spec = SourceSpec { absent: Absent::Unchanged, ..payments(Format::Dms) };
        let mut told = Told::of(&spec);
        let said = says::ALL & !(says::STORE | says::WINDOW);
        let expected = format!("patch 7:  KRW -5 says {said:x}; own 1795168801500");
        assert_eq!(told.tell(&record("update", r#"{"id":7,"amount":-0.05}"#, "")), expected);
        assert_eq!(told.tell(&record("update", r#"{"id":7,"amount":-0.05,"store":null}"#, "")), "bad_id", "null is never unsaid");
        assert_eq!(told.tell(&record("update", r#"{"amount":1}"#, "")), "missing_field", "keys must be said");
    }

    #[test]
    fn the_last_of_equal_names_and_escaped_names_count() {
        let mut told = Told::of(&payments(Format::Dms));
        let value = format!(
            r#"{{"data":{{"id":1}},"metadata":{{"operation":"insert"}},"d\u0061ta":{{{ROW}}},"metadata":{{"\u006fperation":"delete"}}}}"#
        );
        assert_eq!(told.tell(&value), "delete 7");
        let value = r#"{"data":{"id":1},"metadata":{"operation":"delete"},"data":null}"#;
        assert_eq!(told.tell(value), "missing_row");
        let value =
            format!(r#"{{"data":{{"id":1}},"metadata":{{"operation":"delete"}},"deep":{}{}}}"#, "[".repeat(127), "]".repeat(127));
        assert_eq!(told.tell(&value), "not_json");
    }
}
