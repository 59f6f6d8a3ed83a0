//! Maxwell's JSON.
//!
//! ```text
//! {"database", "table", "type", "ts": seconds, "position", "xoffset" or "commit", "server_id", "data": row, "old": what it was}
//! ```
//!
//! Shapes: Maxwell documentation, "Data format" and "Bootstrapping". `old` has only the columns that changed.
//!
//! Upholds: one pass over the message. Changes of one transaction are told apart by their number in it; the last one has none,
//! but says that it commits.

use storeflow_dataflows::change::{Position, Version, What};
use storeflow_dataflows::key::Key;

use super::json::{self, Fields, Inner, Value};
use super::keys::Keys;
use super::paths::{FIELDS_MAX, Paths, Texts};
use super::project::{Hints, Projection, ROOM};
use super::table::Table;
use super::version::{Incarnations, small};
use super::{Reason, Record, Reject, RowChange, Skipped, clock_seconds, not_an_object, not_json, positions, text_of, unsigned};
use crate::config::{Job, SourceSpec};

pub(super) struct Maxwell {
    envelope: Fields,
    old: Paths,
    table: Table,
    projection: Projection,
    keys: Keys,
    incarnations: Incarnations,
}

const DATA: usize = 8;
const OLD: usize = 9;

impl Maxwell {
    pub(super) fn new(job: &Job, spec: &SourceSpec, topic: &str, key_space: u32) -> Self {
        let projection = Projection::new(job, spec, topic).without_placeholders();
        Maxwell {
            envelope: Fields::new([
                "type",
                "database",
                "table",
                "ts",
                "position",
                "xoffset",
                "commit",
                "server_id",
                "data",
                "old",
            ]),
            old: Paths::new(projection.key_paths()),
            table: Table::new(spec),
            keys: Keys::new(job, spec, topic, key_space),
            projection,
            incarnations: Incarnations::new(spec),
        }
    }

    pub(super) fn decode(&mut self, value: Option<&[u8]>) -> Result<Record, Reject> {
        let Some(text) = value else { return Ok(Record::skipped(Skipped::Tombstone, None)) };
        let texts = Texts::default();
        let (mut envelope, mut row, mut old) = ([Value::Absent; 10], ROOM, ROOM);
        let (row, old) = (&mut row[..self.projection.len()], &mut old[..self.old.len()]);
        let mut inner = [
            Inner { of: DATA, fields: self.projection.fields(), out: row },
            Inner { of: OLD, fields: self.old.fields(), out: old },
        ];
        match json::read_both(text, &self.envelope, &mut envelope, &mut inner).map_err(not_json)? {
            Value::Object(_) => {}
            Value::Null => return Ok(Record::skipped(Skipped::Tombstone, None)),
            _ => return Err(not_an_object("the message")),
        }
        let [kind, database, table, ts, position, xoffset, commit, server_id, data, _] = envelope;
        if !matches!(kind, Value::Plain(_) | Value::Escaped(_)) {
            return Err(bad_type());
        }
        let kind = text_of(kind);
        let (what, own_time) = match &*kind {
            b"insert" | b"bootstrap-insert" => (Kind::Row { update: false }, clock_seconds(ts)),
            b"update" => (Kind::Row { update: true }, clock_seconds(ts)),
            b"delete" => (Kind::Delete, clock_seconds(ts)),
            b"bootstrap-start" | b"bootstrap-complete" => return Ok(Record::skipped(Skipped::Bootstrap, None)),
            b"heartbeat" => return Ok(Record::skipped(Skipped::Heartbeat, None)),
            other if other.starts_with(b"database-") => return Ok(Record::skipped(Skipped::SchemaChange, None)),
            b"table-drop" => (Kind::Truncate, None),
            other if other.starts_with(b"table-") => (Kind::SchemaChange, None),
            _ => (Kind::Unknown, None),
        };
        if !self.table.takes(table, Value::Absent, database) {
            return Ok(Record::skipped(Skipped::OtherTable, own_time));
        }
        let version = |incarnations: &mut Incarnations| version(incarnations, position, xoffset, commit, server_id);
        let update = match what {
            Kind::Row { update } => update,
            Kind::Delete => false,
            Kind::Truncate => {
                let version = version(&mut self.incarnations);
                return Ok(Record { decoded: self.keys.truncate(version), own_time });
            }
            Kind::SchemaChange => return Ok(Record::skipped(Skipped::SchemaChange, own_time)),
            Kind::Unknown => return Err(bad_type()),
        };
        if !matches!(data, Value::Object(_)) {
            return Err(Reject::new(Reason::MissingRow, "\"data\" is not a row"));
        }
        self.projection.complete(row, &texts);
        let new = self.projection.key_values(row);
        let key = self.keys.of_values(new, Hints::None)?;
        let old = if update { old_key(&mut self.keys, &self.old, old, new, &key, &texts)? } else { None };
        let what = if what == Kind::Delete { What::Delete } else { self.projection.what(row, Hints::None)? };
        let version = version(&mut self.incarnations);
        Ok(Record::moved(old, RowChange { key, version, read: false, what }, own_time))
    }
}

/// What a type says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Row { update: bool },
    Delete,
    Truncate,
    SchemaChange,
    Unknown,
}

fn bad_type() -> Reject {
    Reject::new(Reason::BadOp, "field \"type\" is none that Maxwell writes")
}

/// The key that a row had before an update, if it is another than `key`: `old` has the columns that changed, by the first names of the
/// key's paths, and is overwritten. Also Canal's.
pub(super) fn old_key<'a>(
    keys: &mut Keys,
    paths: &Paths,
    old: &mut [Value<'a>],
    new: &[Value<'a>],
    key: &Key,
    texts: &'a Texts,
) -> Result<Option<Key>, Reject> {
    let mut changed = [false; FIELDS_MAX];
    for (changed, column) in changed.iter_mut().zip(&*old) {
        *changed = !matches!(column, Value::Absent | Value::Null);
    }
    if !changed.contains(&true) {
        return Ok(None);
    }
    paths.descend(old, texts, false);
    for ((old, new), _) in old.iter_mut().zip(new).zip(changed).filter(|(_, changed)| !changed) {
        *old = *new;
    }
    Ok(Some(keys.of_values(old, Hints::None)?).filter(|old| old != key))
}

fn version(
    incarnations: &mut Incarnations,
    position: Value<'_>,
    xoffset: Value<'_>,
    commit: Value<'_>,
    server_id: Value<'_>,
) -> Option<Version> {
    let text = text_of(position);
    let (place, rest) = positions::binlog(&text)?;
    if !rest.is_empty() {
        return None;
    }
    let in_transaction = unsigned(xoffset).and_then(|offset| u32::try_from(offset).ok());
    let row = in_transaction.unwrap_or(if commit == Value::Bool(b"true") { u32::MAX } else { 0 });
    let incarnation = incarnations.name(&[b"maxwell", place.base]);
    Some(Version { incarnation, server: small(server_id), position: Position(place.file, place.at, row) })
}

#[cfg(test)]
mod tests {
    use storeflow_dataflows::change::says;

    use super::super::told::{Told, payments};
    use super::*;
    use crate::config::field_path::FieldPath;
    use crate::config::{Absent, Format};

    const ROW: &str = r#""id":7,"store":"s1","amount":12.5,"at":1795168800005"#;
    const WINDOW: u64 = 1_795_168_800_000;

    fn record(kind: &str, data: &str, more: &str) -> String {
        format!(r#"{{"database":"shop","table":"payments","type":"{kind}","ts":1795168801,"xid":7125{more},"data":{data}}}"#)
    }

    fn row() -> String {
        format!("{{{ROW}}}")
    }

    #[test]
    fn types_by_their_names() {
        let mut told = Told::of(&payments(Format::Maxwell));
        let row_of = |told: &mut Told, kind: &str| told.tell(&record(kind, &row(), ""));
        for kind in ["insert", "update", "bootstrap-insert"] {
            let expected = format!("row 7: s1 KRW 1250 in {WINDOW}; own 1795168801000");
            assert_eq!(row_of(&mut told, kind), expected, "{kind}");
        }
        assert_eq!(row_of(&mut told, "delete"), "delete 7; own 1795168801000");
        for (kind, expected) in [
            ("bootstrap-start", "skipped bootstrap"),
            ("bootstrap-complete", "skipped bootstrap"),
            ("database-create", "skipped schema_change"),
            ("database-", "skipped schema_change"),
            ("heartbeat", "skipped heartbeat"),
            ("table-create", "skipped schema_change"),
            ("table-alter", "skipped schema_change"),
            ("table-drop", "truncate"),
            ("table", "bad_op"),
            ("replace", "bad_op"),
            ("", "bad_op"),
        ] {
            assert_eq!(row_of(&mut told, kind), expected, "{kind}");
        }
        for data in ["null", "[]", "\"{}\"", "7"] {
            assert_eq!(told.tell(&record("insert", data, "")), "missing_row", "{data}");
            assert_eq!(told.tell(&record("delete", data, "")), "missing_row", "{data}");
        }
        assert_eq!(told.tell(&record("update", r#"{"id":7}"#, "")), "missing_field");
        // The message key is Maxwell's own.
        let key = r#"{"database":"shop","table":"payments","pk.id":7}"#;
        assert_eq!(told.tell_keyed(Some(key), Some(&record("delete", &row(), ""))), "delete 7; own 1795168801000");
    }

    #[test]
    fn what_is_no_record_of_maxwell() {
        let mut told = Told::of(&payments(Format::Maxwell));
        for (value, expected) in [
            ("{}", "bad_op"),
            (r#"{"type":null}"#, "bad_op"),
            (r#"{"type":["insert"],"data":{}}"#, "bad_op"),
            (r#"{"type":"insert"}"#, "missing_row"),
            (r#"{"type":"heartbeat"}"#, "skipped heartbeat"),
            ("[]", "not_an_object"),
            (r#""insert""#, "not_an_object"),
            ("12", "not_an_object"),
            ("null", "skipped tombstone"),
            ("", "skipped tombstone"),
            ("{]", "not_json"),
        ] {
            assert_eq!(told.tell(value), expected, "{value}");
        }
        assert_eq!(told.tell_keyed(Some("7"), None), "skipped tombstone");
    }

    #[test]
    fn tables_are_told_apart_with_their_database() {
        for (table, taken) in [("payments", true), ("shop.payments", true), ("mall.payments", false), ("orders", false)] {
            let spec = SourceSpec { table: Some(table.to_owned()), ..payments(Format::Maxwell) };
            let mut told = Told::of(&spec);
            let expected = if taken { "delete 7; own 1795168801000" } else { "skipped other_table; own 1795168801000" };
            assert_eq!(told.tell(&record("delete", &row(), "")), expected, "{table}");
            assert_eq!(told.tell(&record("table-drop", "{}", "")), if taken { "truncate" } else { "skipped other_table" });
            assert_eq!(
                told.tell(&record("table-alter", "{}", "")),
                if taken { "skipped schema_change" } else { "skipped other_table" }
            );
            // Whatever else a record of another table holds; but some have no table.
            assert_eq!(told.tell(&record("?", "7", "")), if taken { "bad_op" } else { "skipped other_table" });
            assert_eq!(told.tell(&record("", "7", "")), if taken { "bad_op" } else { "skipped other_table" });
            assert_eq!(told.tell(&record("database-drop", "7", "")), "skipped schema_change");
            assert_eq!(told.tell(&record("bootstrap-start", "7", "")), "skipped bootstrap");
        }
    }

    #[test]
    fn a_moved_key_is_deleted_first() {
        let spec = SourceSpec { key: vec!["id".into(), "site".into()], ..payments(Format::Maxwell) };
        let mut told = Told::of(&spec);
        let data = format!(r#"{{{ROW},"site":"kr"}}"#);
        let stays = format!("row 7|kr: s1 KRW 1250 in {WINDOW}; own 1795168801000");
        for (old, expected) in [
            (r#"{"id":6}"#, format!("delete 6|kr; {stays}")),
            (r#"{"id":"6","amount":1}"#, format!("delete 6|kr; {stays}")),
            (r#"{"site":"jp"}"#, format!("delete 7|jp; {stays}")),
            (r#"{"id":6,"site":"jp"}"#, format!("delete 6|jp; {stays}")),
            (r#"{"id":"7"}"#, stays.clone()),
            (r#"{"id":null}"#, stays.clone()),
            (r#"{"amount":1}"#, stays.clone()),
            ("{}", stays.clone()),
            ("null", stays.clone()),
            ("[1]", stays.clone()),
            (r#"{"id":{}}"#, "bad_id".to_owned()),
        ] {
            assert_eq!(told.tell(&record("update", &data, &format!(r#","old":{old}"#))), expected, "{old}");
            assert_eq!(told.tell(&record("insert", &data, &format!(r#","old":{old}"#))), stays, "only an update moves a key");
        }
    }

    #[test]
    fn a_column_that_changed_is_all_that_it_was() {
        let spec = SourceSpec { key: vec![FieldPath::parse("ref.no").expect("a path")], ..payments(Format::Maxwell) };
        let mut told = Told::of(&spec);
        let data = format!(r#"{{{ROW},"ref":{{"no":2,"site":"kr"}}}}"#);
        let stays = format!("row 2: s1 KRW 1250 in {WINDOW}; own 1795168801000");
        for (old, expected) in [
            (r#"{"ref":{"no":1}}"#, format!("delete 1; {stays}")),
            (r#"{"ref":{"no":2}}"#, stays.clone()),
            (r#"{"ref":null}"#, stays.clone()),
            (r#"{"ref":{"site":"jp"}}"#, "missing_field".to_owned()),
        ] {
            assert_eq!(told.tell(&record("update", &data, &format!(r#","old":{old}"#))), expected, "{old}");
        }
    }

    #[test]
    fn versions_are_binlog_places() {
        let mut told = Told::of(&payments(Format::Maxwell));
        for (more, expected) in [
            (r#","position":"master.000006:800911","xoffset":2,"server_id":23042"#, "; at 6/800911/2 of 23042"),
            (r#","position":"master.000006:800911","commit":true"#, "; at 6/800911/4294967295"),
            (r#","position":"master.000006:800911","commit":true,"xoffset":2"#, "; at 6/800911/2"),
            (r#","position":"master.000006:800911","commit":true,"xoffset":4294967296"#, "; at 6/800911/4294967295"),
            (r#","position":"master.000006:800911","commit":"true""#, "; at 6/800911/0"),
            (r#","position":"master.000006:800911","commit":false,"xoffset":"2","server_id":"1""#, "; at 6/800911/0"),
            (r#","position":"master.000006:800911","server_id":4294967296"#, "; at 6/800911/0"),
            (r#","position":"ma\u0073ter.000006:1""#, "; at 6/1/0"),
            (r#","position":"master.000006:800911:1""#, ""),
            (r#","position":"master:800911""#, ""),
            (r#","position":800911"#, ""),
            (r#","xoffset":2,"commit":true"#, ""),
        ] {
            assert_eq!(told.tell(&record("delete", &row(), more)), format!("delete 7{expected}; own 1795168801000"), "{more}");
        }
        assert_eq!(told.tell(&record("table-drop", "{}", r#","position":"m.1:2","server_id":3"#)), "truncate; at 1/2/0 of 3");
    }

    #[test]
    fn own_time_is_seconds_of_rows_only() {
        let mut told = Told::of(&payments(Format::Maxwell));
        for (ts, expected) in [
            ("1795168801", "; own 1795168801000"),
            ("0", ""),
            ("7258118400", ""),
            ("-1", ""),
            ("\"1\"", ""),
            ("1.5", ""),
            (&"9".repeat(60), ""),
        ] {
            let value = record("delete", &row(), "").replace("1795168801,", &format!("{ts},"));
            assert_eq!(told.tell(&value), format!("delete 7{expected}"), "{ts}");
        }
    }

    #[test]
    fn a_minimal_row_image_says_a_part() {
        let spec = SourceSpec { absent: Absent::Unchanged, ..payments(Format::Maxwell) };
        let said = says::ALL & !(says::AMOUNT | says::WINDOW);
        let expected = format!("patch 7: s2 KRW 0 says {said:x}; own 1795168801000");
        assert_eq!(Told::of(&spec).tell(&record("update", r#"{"id":7,"store":"s2"}"#, "")), expected);
    }

    #[test]
    fn hostile_shapes() {
        let mut told = Told::of(&payments(Format::Maxwell));
        let deep = |levels: usize| format!(r#","more":{}{}"#, "[".repeat(levels), "]".repeat(levels));
        assert_eq!(told.tell(&record("delete", &row(), &deep(126))), "delete 7; own 1795168801000");
        assert_eq!(told.tell(&record("delete", &row(), &deep(127))), "not_json");
        let last = format!(r#"{{"type":"insert","data":{{"id":1}},"ty\u0070e":"delete","d\u0061ta":{{{ROW}}}}}"#);
        assert_eq!(told.tell(&last), "delete 7");
        let huge = format!(r#"{{"type":"delete","data":{{"id":{}}},"xoffset":1e999}}"#, "9".repeat(5_000));
        assert_eq!(told.tell(&huge), format!("delete {}", "9".repeat(5_000)));
    }
}
