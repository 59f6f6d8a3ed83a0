//! Canal's FlatMessage.
//!
//! ```text
//! {"data": [row, row, …], "old": [what it was, …], "database", "table", "type", "isDdl", "es": milliseconds, "ts": milliseconds, …}
//! ```
//!
//! Shapes: alibaba/canal, `FlatMessage` and `MQMessageUtils`. One message has many rows, in the binlog's order, and says nothing of
//! where in the binlog they are.
//!
//! Upholds: the message is walked once and each row once more; a message of one row allocates nothing.

use storeflow_dataflows::change::What;

use super::json::{self, Fields, Value};
use super::keys::Keys;
use super::maxwell::old_key;
use super::paths::{Paths, Texts};
use super::project::{Hints, Projection, ROOM};
use super::table::Table;
use super::{Decoded, Reason, Record, Reject, RowChange, Skipped, clock_millis, integer_of, not_an_object, not_json, text_of};
use crate::config::{Job, SourceSpec};

pub(super) struct Canal {
    envelope: Fields,
    old: Paths,
    table: Table,
    projection: Projection,
    keys: Keys,
}

impl Canal {
    pub(super) fn new(job: &Job, spec: &SourceSpec, topic: &str, key_space: u32) -> Self {
        let projection = Projection::new(job, spec, topic).without_placeholders();
        Canal {
            envelope: Fields::new(["type", "isDdl", "database", "table", "es", "ts", "data", "old"]),
            old: Paths::new(projection.key_paths()),
            table: Table::new(spec),
            keys: Keys::new(job, spec, topic, key_space),
            projection,
        }
    }

    pub(super) fn decode(&mut self, value: Option<&[u8]>) -> Result<Record, Reject> {
        let Some(text) = value else { return Ok(Record::skipped(Skipped::Tombstone, None)) };
        let mut envelope = [Value::Absent; 8];
        match json::read(text, &self.envelope, &mut envelope).map_err(not_json)? {
            Value::Object(_) => {}
            Value::Null => return Ok(Record::skipped(Skipped::Tombstone, None)),
            _ => return Err(not_an_object("the message")),
        }
        let [kind, is_ddl, database, table, es, ts, data, old] = envelope;
        if !matches!(kind, Value::Plain(_) | Value::Escaped(_)) {
            return Err(Reject::new(Reason::BadOp, "field \"type\" is not text"));
        }
        let kind = text_of(kind);
        let is_ddl = is_ddl == Value::Bool(b"true");
        let operation = match &*kind {
            b"INSERT" | b"INIT" => Some(Operation::Row),
            b"UPDATE" => Some(Operation::Update),
            b"DELETE" => Some(Operation::Delete),
            _ => None,
        };
        let own_time = if operation.is_some() && !is_ddl { clock_millis(integer_of(es, ts)) } else { None };
        if !self.table.takes(table, Value::Absent, database) {
            return Ok(Record::skipped(Skipped::OtherTable, own_time));
        }
        let decoded = match (&*kind, operation) {
            (b"TRUNCATE" | b"ERASE", _) if is_ddl => self.keys.truncate(None),
            _ if is_ddl => Decoded::Skipped(Skipped::SchemaChange),
            (_, Some(operation)) => self.rows(operation, data, old)?,
            (b"MHEARTBEAT", _) => Decoded::Skipped(Skipped::Heartbeat),
            _ if matches!(data, Value::Null | Value::Absent) => Decoded::Skipped(Skipped::SchemaChange),
            _ => return Err(Reject::new(Reason::BadOp, "field \"type\" is none of INSERT, UPDATE, DELETE, INIT")),
        };
        Ok(Record { decoded, own_time })
    }

    fn rows(&mut self, operation: Operation, data: Value<'_>, old: Value<'_>) -> Result<Decoded, Reject> {
        let no_row = || Reject::new(Reason::MissingRow, "\"data\" is not a list of rows");
        let Value::Array(data) = data else { return Err(no_row()) };
        let mut old = match old {
            Value::Array(old) if operation == Operation::Update => Some(json::items(old)),
            _ => None,
        };
        let mut data = json::items(data);
        let (mut first, mut all): (Option<RowChange>, Vec<RowChange>) = (None, Vec::new());
        let mut add = |change: RowChange| match first.take() {
            None if all.is_empty() => first = Some(change),
            before => all.extend(before.into_iter().chain([change])),
        };
        loop {
            let (texts, mut row) = (Texts::default(), ROOM);
            let row = &mut row[..self.projection.len()];
            match data.next_object(self.projection.fields(), row) {
                None => break,
                Some(Value::Object(_)) => {}
                Some(_) => return Err(no_row()),
            }
            self.projection.complete(row, &texts);
            let new = self.projection.key_values(row);
            let key = self.keys.of_values(new, Hints::None)?;
            if let Some(old) = &mut old {
                let mut before = ROOM;
                let before = &mut before[..self.old.len()];
                old.next_object(self.old.fields(), before);
                if let Some(key) = old_key(&mut self.keys, &self.old, before, new, &key, &texts)? {
                    add(RowChange { key, version: None, read: false, what: What::Delete });
                }
            }
            let what = if operation == Operation::Delete { What::Delete } else { self.projection.what(row, Hints::None)? };
            add(RowChange { key, version: None, read: false, what });
        }
        match first {
            Some(one) => Ok(Decoded::Change(one)),
            None if all.is_empty() => Err(no_row()),
            None => Ok(Decoded::Changes(all)),
        }
    }
}

/// What a type does to the rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Row,
    Update,
    Delete,
}

#[cfg(test)]
mod tests {
    use super::super::told::{Told, payments};
    use super::*;
    use crate::config::Format;

    const WINDOW: u64 = 1_795_168_800_000;

    fn record(kind: &str, data: &str, more: &str) -> String {
        format!(
            r#"{{"data":{data},"database":"shop","es":1795168801000,"id":3,"isDdl":false,"mysqlType":{{"id":"INTEGER"}},"sql":""{more},"table":"payments","ts":1795168801477,"type":"{kind}"}}"#
        )
    }

    fn row(id: &str, store: &str) -> String {
        format!(r#"{{"id":"{id}","store":"{store}","amount":"12.5","at":"1795168800005"}}"#)
    }

    fn told_row(id: &str, store: &str) -> String {
        format!("row {id}: {store} KRW 1250 in {WINDOW}")
    }

    #[test]
    fn a_record_has_many_rows_in_their_order() {
        let mut told = Told::of(&payments(Format::Canal));
        let own = "own 1795168801000";
        for kind in ["INSERT", "UPDATE", "INIT"] {
            assert_eq!(
                told.tell(&record(kind, &format!("[{}]", row("7", "s1")), "")),
                format!("{}; {own}", told_row("7", "s1")),
                "{kind}"
            );
            let three = format!("[{} , {},\n{}]", row("7", "s1"), row("8", "s2"), row("7", "s3"));
            let expected = format!("{}; {}; {}; {own}", told_row("7", "s1"), told_row("8", "s2"), told_row("7", "s3"));
            assert_eq!(told.tell(&record(kind, &three, "")), expected, "{kind}");
        }
        let two = format!("[{},{}]", row("7", "s1"), r#"{"id":8}"#);
        assert_eq!(told.tell(&record("DELETE", &two, "")), format!("delete 7; delete 8; {own}"));
        assert_eq!(told.tell(&record("INSERT", &two, "")), "missing_field", "a record is good or bad as a whole");
        // Some writers number what others write as text.
        let plain = r#"[{"id":7,"store":1,"amount":12.5,"at":1795168800005}]"#;
        assert_eq!(told.tell(&record("INSERT", plain, "")), format!("{}; {own}", told_row("7", "1")));
    }

    #[test]
    fn what_is_no_record_of_canal() {
        let mut told = Told::of(&payments(Format::Canal));
        for data in ["null", "[]", "{}", "7", "[7]", "[null]", "\"[]\""] {
            assert_eq!(told.tell(&record("INSERT", data, "")), "missing_row", "{data}");
        }
        let mixed = format!("[{},[]]", row("7", "s1"));
        assert_eq!(told.tell(&record("DELETE", &mixed, "")), "missing_row");
        for (value, expected) in [
            ("{}", "bad_op"),
            (r#"{"type":7,"data":[{}]}"#, "bad_op"),
            (r#"{"isDdl":true}"#, "bad_op"),
            (r#"{"type":"INSERT"}"#, "missing_row"),
            (r#"{"data":[{"id":"1"}],"type":"DELETE"}"#, "delete 1"),
            ("[]", "not_an_object"),
            (r#""INSERT""#, "not_an_object"),
            ("null", "skipped tombstone"),
            ("", "skipped tombstone"),
            ("{", "not_json"),
        ] {
            assert_eq!(told.tell(value), expected, "{value}");
        }
        assert_eq!(told.tell_keyed(Some("7"), None), "skipped tombstone");
    }

    #[test]
    fn statements_are_skipped_but_those_that_empty_the_table() {
        let ddl = |kind: &str, flag: &str| record(kind, "null", "").replace(r#""isDdl":false"#, &format!(r#""isDdl":{flag}"#));
        for (table, taken) in
            [(None, true), (Some("payments"), true), (Some("shop.payments"), true), (Some("mall.payments"), false)]
        {
            let spec = SourceSpec { table: table.map(str::to_owned), ..payments(Format::Canal) };
            let mut told = Told::of(&spec);
            let of = |expected: &'static str| if taken { expected } else { "skipped other_table" };
            for (kind, flag, expected) in [
                ("TRUNCATE", "true", "truncate"),
                ("ERASE", "true", "truncate"),
                ("CREATE", "true", "skipped schema_change"),
                ("ALTER", "true", "skipped schema_change"),
                ("INSERT", "true", "skipped schema_change"),
                ("TRUNCATE", "false", "skipped schema_change"),
                ("QUERY", "null", "skipped schema_change"),
                ("MHEARTBEAT", "false", "skipped heartbeat"),
            ] {
                assert_eq!(told.tell(&ddl(kind, flag)), of(expected), "{kind} {flag}");
            }
            assert_eq!(told.tell(&record("MERGE", "[{}]", "")), of("bad_op"));
        }
    }

    #[test]
    fn moved_keys_are_deleted_first_each_at_its_place() {
        let mut told = Told::of(&payments(Format::Canal));
        let data = format!("[{},{},{}]", row("7", "s1"), row("8", "s2"), row("9", "s3"));
        let (seven, eight, nine) = (told_row("7", "s1"), told_row("8", "s2"), told_row("9", "s3"));
        let stays = format!("{seven}; {eight}; {nine}; own 1795168801000");
        for (old, expected) in [
            (r#"[{"id":"6"}]"#, format!("delete 6; {stays}")),
            (r#"[{"id":"7"},{"amount":"1"},{"id":"5"}]"#, format!("{seven}; {eight}; delete 5; {nine}; own 1795168801000")),
            (
                r#"[{"amount":"1"},{"id":7},{"id":null},{"id":"1"}]"#,
                format!("{seven}; delete 7; {eight}; {nine}; own 1795168801000"),
            ),
            (r#"[null,7,[]]"#, stays.clone()),
            ("null", stays.clone()),
            ("[]", stays.clone()),
            (r#"{"id":"6"}"#, stays.clone()),
            (r#"[{},{},{"id":[]}]"#, "bad_id".to_owned()),
        ] {
            assert_eq!(told.tell(&record("UPDATE", &data, &format!(r#","old":{old}"#))), expected, "{old}");
            assert_eq!(told.tell(&record("INSERT", &data, &format!(r#","old":{old}"#))), stays, "only an update moves a key");
        }
        let one = record("UPDATE", &format!("[{}]", row("7", "s1")), r#","old":[{"id":"6"}]"#);
        assert_eq!(told.tell(&one), format!("delete 6; {seven}; own 1795168801000"));
    }

    #[test]
    fn own_time_is_that_of_the_statement() {
        let mut told = Told::of(&payments(Format::Canal));
        for (es, expected) in [
            ("1795168801000", "; own 1795168801000"),
            ("0", ""),
            ("\"1795168801000\"", "; own 1795168801477"),
            ("null", "; own 1795168801477"),
        ] {
            let value = record("DELETE", r#"[{"id":7}]"#, "").replace("1795168801000", es);
            assert_eq!(told.tell(&value), format!("delete 7{expected}"), "{es}");
        }
        assert_eq!(told.tell(r#"{"type":"DELETE","data":[{"id":7}]}"#), "delete 7");
        let spec = SourceSpec { table: Some("orders".to_owned()), ..payments(Format::Canal) };
        assert_eq!(Told::of(&spec).tell(&record("DELETE", "7", "")), "skipped other_table; own 1795168801000");
    }

    #[test]
    fn hostile_shapes() {
        let mut told = Told::of(&payments(Format::Canal));
        let nested = |levels: usize| format!(r#"[{{"id":"7","x":{}{}}}]"#, "{\"x\":[".repeat(levels), "]}".repeat(levels));
        assert_eq!(told.tell(&record("DELETE", &nested(62), "")), "delete 7; own 1795168801000");
        assert_eq!(told.tell(&record("DELETE", &nested(63), "")), "not_json");
        let last = r#"{"type":"INSERT","data":[{"id":1}],"data":[{"id":"\u0037","id":"2","i\u0064":"3"}],"t\u0079pe":"DELETE"}"#;
        assert_eq!(told.tell(last), "delete 3");
        let many = vec![r#"{"id":7}"#; 10_000].join(",");
        let deletes = vec!["delete 7"; 10_000].join("; ");
        assert_eq!(told.tell(&record("DELETE", &format!("[{many}]"), "")), format!("{deletes}; own 1795168801000"));
    }
}
