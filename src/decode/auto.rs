//! Whatever each record is: recognised by its outermost names, then read by the format's own decoder.
//!
//! ```text
//! operationType ─► mongodb          metadata{} and data or control ─► dms          type and data[] or isDdl ─► canal
//! type, database, table ─► maxwell  op and an image or a source, and signs of Debezium's ─► debezium, else flattened
//! payload ─► what the payload is
//! ```
//!
//! Upholds: a record is read as its format would read it, to the byte: recognition decides which, and nothing else. It is one shallow
//! walk, in which a payload's names are found as well.
//! Keeps: every format's decoder, and what they keep.

use super::canal::Canal;
use super::debezium::Debezium;
use super::dms::Dms;
use super::flattened::Flattened;
use super::json::{self, Fields, Inner, Value};
use super::maxwell::Maxwell;
use super::mongodb::Mongodb;
use super::{Record, Reject, is_there, not_an_object, not_json};
use crate::config::{Job, SourceSpec};

pub(super) struct Auto {
    names: Fields,
    debezium_names: Fields,
    debezium: Debezium,
    flattened: Flattened,
    dms: Dms,
    maxwell: Maxwell,
    canal: Canal,
    mongodb: Mongodb,
}

/// Names by which an envelope or a row of Debezium's is recognised.
const DEBEZIUM: [&str; 11] =
    ["op", "before", "after", "source", "ddl", "tableChanges", "status", "id", "event_count", "data_collections", "ts_ms"];
/// The other formats' names, and the wrapper's.
const OTHERS: [&str; 10] =
    ["operationType", "metadata", "data", "control", "type", "isDdl", "database", "table", "payload", "schema"];
const PAYLOAD: usize = DEBEZIUM.len() + 8;

impl Auto {
    pub(super) fn new(job: &Job, spec: &SourceSpec, topic: &str, key_space: u32) -> Self {
        Auto {
            names: Fields::new(DEBEZIUM.into_iter().chain(OTHERS)),
            debezium_names: Fields::new(DEBEZIUM),
            debezium: Debezium::new(job, spec, topic, key_space),
            flattened: Flattened::new(job, spec, topic, key_space),
            dms: Dms::new(job, spec, topic, key_space),
            maxwell: Maxwell::new(job, spec, topic, key_space),
            canal: Canal::new(job, spec, topic, key_space),
            mongodb: Mongodb::new(job, spec, topic, key_space),
        }
    }

    pub(super) fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Record, Reject> {
        let Some(text) = value else { return self.flattened.decode(key, None) };
        match self.recognised(text)? {
            Format::Mongodb => self.mongodb.decode(value),
            Format::Dms => self.dms.decode(value),
            Format::Canal => self.canal.decode(value),
            Format::Maxwell => self.maxwell.decode(value),
            Format::Debezium => self.debezium.decode(key, value),
            Format::Flattened(row) => self.flattened.decode(key, row),
        }
    }

    fn recognised<'a>(&self, text: &'a [u8]) -> Result<Format<'a>, Reject> {
        let mut values = [Value::Absent; DEBEZIUM.len() + OTHERS.len()];
        let mut payload_values = [Value::Absent; DEBEZIUM.len()];
        let mut inner = [Inner { of: PAYLOAD, fields: &self.debezium_names, out: &mut payload_values }];
        match json::read_both(text, &self.names, &mut values, &mut inner).map_err(not_json)? {
            Value::Object(_) => {}
            Value::Null => return Ok(Format::Flattened(None)),
            Value::Plain(_) | Value::Escaped(_) => return Ok(Format::Mongodb),
            _ => return Err(not_an_object("the message")),
        }
        let own = std::array::from_fn(|at| values[at]);
        let [.., operation_type, metadata, data, control, kind, is_ddl, database, table, payload, schema] = values;
        if is_there(operation_type) {
            return Ok(Format::Mongodb);
        }
        if matches!(metadata, Value::Object(_)) && (is_there(data) || is_there(control)) {
            return Ok(Format::Dms);
        }
        if is_text(kind) {
            if matches!(data, Value::Array(_)) || is_ddl == Value::Bool(b"true") {
                return Ok(Format::Canal);
            }
            if is_text(database) && is_text(table) {
                return Ok(Format::Maxwell);
            }
        }
        Ok(match payload {
            Value::Object(object) if is_of_debezium(&payload_values, object) => Format::Debezium,
            // The schema says what the row's values are.
            Value::Object(_) if is_there(schema) => Format::Flattened(Some(text)),
            Value::Object(row) => Format::Flattened(Some(row)),
            Value::Null => Format::Flattened(None),
            _ if is_of_debezium(&own, text) => Format::Debezium,
            _ => Format::Flattened(Some(text)),
        })
    }
}

/// What a record is; of a row or its tombstone, where the row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format<'a> {
    Debezium,
    Flattened(Option<&'a [u8]>),
    Dms,
    Maxwell,
    Canal,
    Mongodb,
}

/// Whether an object with these values of the names is a change, or anything else that Debezium's connectors write but a row: a row
/// may have columns of the same names, so these are asked for together.
fn is_of_debezium(values: &[Value<'_>; DEBEZIUM.len()], object: &[u8]) -> bool {
    let [op, before, after, source, ddl, table_changes, status, id, event_count, data_collections, ts_ms] = *values;
    if is_there(op) && (is_there(before) || is_there(after) || is_there(source)) {
        return true;
    }
    let schema_change = || is_there(source) && (is_there(ddl) || is_there(table_changes));
    let transaction = || [status, id, event_count, data_collections].into_iter().all(is_there);
    let heartbeat = || is_there(ts_ms) && json::members(object).all(|(name, _)| json::is_named(name, b"ts_ms"));
    matches!(op, Value::Absent | Value::Null) && (schema_change() || transaction() || heartbeat())
}

fn is_text(value: Value<'_>) -> bool {
    matches!(value, Value::Plain(_) | Value::Escaped(_))
}

#[cfg(test)]
mod tests {
    use super::super::told::{Told, payments};
    use crate::config::Format as Name;

    const WINDOW: u64 = 1_795_168_800_000;
    const ROW: &str = r#""id":7,"store":"s1","amount":12.5,"at":1795168800005"#;

    fn row() -> String {
        format!("{{{ROW}}}")
    }

    /// Each record is read as by its own format, whatever is in it.
    #[test]
    fn records_are_what_their_formats_say() {
        let row = row();
        let long = |text: &str| text.replace("12.5", r#"{"$numberLong":"12"}"#);
        for (format, key, value) in [
            (
                Name::Mongodb,
                None,
                format!(r#"{{"operationType":"insert","documentKey":{{"_id":7}},"fullDocument":{}}}"#, long(&row)),
            ),
            (Name::Mongodb, None, r#"{"operationType":"invalidate","op":"c","after":{}}"#.to_owned()),
            (Name::Mongodb, None, r#"{"operationType":null,"metadata":{},"data":{}}"#.to_owned()),
            (Name::Mongodb, None, serde_json::to_string(r#"{"operationType":"delete","documentKey":{"_id":7}}"#).expect("text")),
            (Name::Mongodb, None, r#""text""#.to_owned()),
            (Name::Dms, None, format!(r#"{{"data":{row},"metadata":{{"operation":"load"}}}}"#)),
            (
                Name::Dms,
                None,
                r#"{"data":null,"metadata":{"operation":"load"},"type":"insert","database":"d","table":"t"}"#.to_owned(),
            ),
            (
                Name::Dms,
                None,
                r#"{"control":{},"metadata":{"record-type":"control","operation":"drop-table","table-name":"t"}}"#.to_owned(),
            ),
            (Name::Canal, None, format!(r#"{{"type":"INSERT","data":[{row},{row}]}}"#)),
            (Name::Canal, None, r#"{"type":"insert","database":"d","table":"t","data":[]}"#.to_owned()),
            (Name::Canal, None, r#"{"type":"TRUNCATE","isDdl":true,"data":null,"database":"d","table":"t"}"#.to_owned()),
            (Name::Maxwell, None, format!(r#"{{"type":"insert","database":"d","table":"t","ts":1795168801,"data":{row}}}"#)),
            (Name::Maxwell, None, r#"{"type":"table-alter","database":"d","table":"t","isDdl":false}"#.to_owned()),
            (Name::Debezium, None, format!(r#"{{"op":"c","after":{row},"source":{{"ts_ms":1795168801000}}}}"#)),
            (Name::Debezium, None, format!(r#"{{"payload":{{"op":"c","after":{row}}}}}"#)),
            (Name::Debezium, None, format!(r#"{{"schema":{{}},"payload":{{"op":"d","before":{row}}}}}"#)),
            (Name::Debezium, Some(r#"{"id":7}"#), r#"{"op":"d","source":null}"#.to_owned()),
            (Name::Debezium, None, r#"{"op":"m","source":{}}"#.to_owned()),
            (Name::Debezium, None, r#"{"source":{},"ddl":"create table t","tableChanges":[]}"#.to_owned()),
            (
                Name::Debezium,
                None,
                r#"{"status":"BEGIN","id":"1","event_count":null,"data_collections":null,"ts_ms":1}"#.to_owned(),
            ),
            (Name::Debezium, None, r#"{"ts_ms":1795168801000}"#.to_owned()),
            (Name::Debezium, None, r#"{"ts_ms":1,"ts_\u006ds":1795168801000}"#.to_owned()),
            (Name::Debezium, None, r#"{"schema":{},"payload":{"ts_ms":1795168801000}}"#.to_owned()),
            (Name::Flattened, None, row.clone()),
            (Name::Flattened, None, format!(r#"{{{ROW},"op":"c"}}"#)),
            (Name::Flattened, None, format!(r#"{{{ROW},"ts_ms":1795168801000}}"#)),
            (Name::Flattened, None, format!(r#"{{{ROW},"status":"BEGIN","event_count":1}}"#)),
            (Name::Flattened, None, format!(r#"{{{ROW},"ddl":"x","type":"INSERT","database":"d"}}"#)),
            (Name::Flattened, None, format!(r#"{{{ROW},"payload":7,"metadata":{{}},"__deleted":"true"}}"#)),
            (Name::Flattened, None, format!(r#"{{"schema":{{}},"payload":{row}}}"#)),
            (Name::Flattened, Some("7"), r#"{"schema":null,"payload":null}"#.to_owned()),
            (Name::Flattened, Some(r#"{"id":7}"#), row.clone()),
            (Name::Flattened, Some("7"), "null".to_owned()),
            (Name::Flattened, None, "null".to_owned()),
            (Name::Flattened, None, "{}".to_owned()),
        ] {
            let expected = Told::of(&payments(format)).tell_keyed(key, Some(&value));
            assert_eq!(Told::of(&payments(Name::Auto)).tell_keyed(key, Some(&value)), expected, "{value}");
        }
    }

    #[test]
    fn one_topic_may_have_them_all() {
        let mut told = Told::of(&payments(Name::Auto));
        let upsert = format!("row 7: s1 KRW 1250 in {WINDOW}");
        for _ in 0..2 {
            assert_eq!(told.tell(&row()), upsert);
            assert_eq!(told.tell(&format!(r#"{{"op":"u","after":{}}}"#, row())), upsert);
            assert_eq!(told.tell(&format!(r#"{{"payload":{}}}"#, row())), upsert, "a payload without a schema is the row");
            assert_eq!(told.tell(&format!(r#"{{"data":{},"metadata":{{"operation":"update"}}}}"#, row())), upsert);
            assert_eq!(told.tell(&format!(r#"{{"type":"UPDATE","data":[{}]}}"#, row())), upsert);
            assert_eq!(told.tell_keyed(Some("7"), None), "delete 7");
            assert_eq!(told.tell_keyed(Some("7"), Some(r#"{"payload":null}"#)), "delete 7");
            assert_eq!(told.tell_keyed(None, None), "missing_key");
        }
        for (value, expected) in
            [("[]", "not_an_object"), ("7", "not_an_object"), ("true", "not_an_object"), ("{", "not_json"), ("\"", "not_json")]
        {
            assert_eq!(told.tell(value), expected, "{value}");
        }
    }

    #[test]
    fn the_last_of_equal_names_decides() {
        let mut told = Told::of(&payments(Name::Auto));
        let twice = format!(r#"{{"payload":{{"op":"x","after":{{}}}},"payl\u006fad":{}}}"#, row());
        assert_eq!(told.tell(&twice), format!("row 7: s1 KRW 1250 in {WINDOW}"));
        let none = format!(r#"{{"payload":{{"op":"x","after":{{}}}},{ROW},"payload":1}}"#);
        assert_eq!(told.tell(&none), format!("row 7: s1 KRW 1250 in {WINDOW}"));
    }
}
