//! Debezium's JSON envelope, bare or inside its schema wrapper.
//!
//! ```text
//! {"before":row,"after":row,"source":{…},"op":"c|r|u|d|t|m"}      MongoDB: rows are extended JSON as text, updates may be descriptions
//! ```
//!
//! Shapes and orders: Debezium documentation, "Data change events" of the connectors. The row's key is the message key's; `before` is
//! looked at only where a delete came without a message key.
//!
//! Upholds: one walk of the envelope, with row and source in it; what a schema says is read once per schema (see [`schema`](super::schema)).

use storeflow_dataflows::change::{Version, What};
use storeflow_dataflows::key::Key;

use super::json::{self, Fields, Inner, Value};
use super::keys::Keys;
use super::mongo_update::Updates;
use super::paths::Texts;
use super::project::{Hints, Projection, ROOM};
use super::schema::{Schemas, WRAPPER, Wrapper};
use super::table::Table;
use super::values::Hint;
use super::version::Incarnations;
use super::{Decoded, Reason, Record, Reject, RowChange, Skipped, clock_millis, is_there, not_an_object, not_json, text_of};
use crate::config::field_path::FieldPath;
use crate::config::{Job, SourceSpec};

pub(super) struct Debezium {
    envelope: Fields,
    source: Fields,
    projection: Projection,
    /// The row in `after` of the MongoDB connector, whose strings are never placeholders.
    documents: Projection,
    updates: Updates,
    keys: Keys,
    id: Fields,
    schemas: Schemas,
    table: Table,
    incarnations: Incarnations,
    /// Message keys need not be objects.
    any_key: bool,
}

pub(super) const ENVELOPE: [&str; 10] =
    ["op", "before", "after", "source", "updateDescription", "ddl", "tableChanges", "status", "event_count", "ts_ms"];
const AFTER: usize = 2;
const SOURCE: usize = 3;
pub(super) const SOURCE_FIELDS: [&str; 16] = [
    "connector",
    "name",
    "db",
    "schema",
    "table",
    "collection",
    "ts_ms",
    "file",
    "pos",
    "row",
    "server_id",
    "lsn",
    "rs",
    "ord",
    "snapshot",
    "sequence",
];

/// Where a change comes from.
struct Source<'a> {
    snapshot: Value<'a>,
    sequence: Value<'a>,
    connector: Value<'a>,
    name: Value<'a>,
    db: Value<'a>,
    schema: Value<'a>,
    table: Value<'a>,
    ts_ms: Value<'a>,
    file: Value<'a>,
    pos: Value<'a>,
    row: Value<'a>,
    server_id: Value<'a>,
    lsn: Value<'a>,
    rs: Value<'a>,
    ord: Value<'a>,
}

impl Debezium {
    pub(super) fn new(job: &Job, spec: &SourceSpec, topic: &str, key_space: u32) -> Self {
        let projection = Projection::new(job, spec, topic);
        let within =
            |image: &str, path: &FieldPath| std::iter::once(image.to_owned()).chain(path.names().iter().cloned()).collect();
        let paths = projection.field_paths();
        // First those of "after", then those of the key in "before".
        let hinted = paths
            .iter()
            .map(|path| within("after", path))
            .chain(projection.key_paths().iter().map(|path| within("before", path)));
        Debezium {
            envelope: Fields::new(ENVELOPE.into_iter().chain(WRAPPER)),
            source: Fields::new(SOURCE_FIELDS),
            schemas: Schemas::new(hinted.collect::<Vec<_>>(), Wrapper::ByPayload),
            updates: Updates::new(paths.iter().map(FieldPath::names)),
            documents: Projection::new(job, spec, topic).without_placeholders(),
            keys: Keys::new(job, spec, topic, key_space),
            id: Fields::new(["_id"]),
            table: Table::new(spec),
            incarnations: Incarnations::new(spec),
            projection,
            any_key: false,
        }
    }

    /// The same for topics whose message keys may be bare texts or integers.
    pub(super) fn with_any_key(mut self) -> Self {
        self.any_key = true;
        self
    }

    /// What is known of the next record's row, and then of the key fields of "before", where no schema wrapper says it.
    pub(super) fn hints(&mut self) -> &mut [Hint] {
        self.schemas.told()
    }

    pub(super) fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Record, Reject> {
        let Some(text) = value else { return Ok(Record::skipped(Skipped::Tombstone, None)) };
        // Envelope, row and source in one pass.
        let (texts, mut row) = (Texts::default(), ROOM);
        let row = &mut row[..self.projection.len()];
        let mut envelope = [Value::Absent; ENVELOPE.len() + WRAPPER.len()];
        let mut source = [Value::Absent; SOURCE_FIELDS.len()];
        let after = Inner { of: AFTER, fields: self.projection.fields(), out: row };
        let mut inner = [Inner { of: SOURCE, fields: &self.source, out: &mut source }, after];
        let (value, hints) = self.schemas.read(text, &self.envelope, &mut envelope, &mut inner).map_err(not_json)?;
        match value {
            Value::Object(_) => {}
            Value::Null => return Ok(Record::skipped(Skipped::Tombstone, None)),
            _ => return Err(not_an_object("the message")),
        }
        let [op, before, after, source_object, description, ddl, table_changes, status, event_count, ts_ms, ..] = envelope;
        let source = Source::of(source);
        let own_time = clock_millis(source.ts_ms);
        if matches!(op, Value::Absent | Value::Null) {
            // Null is there, too: where a transaction begins, its events are not counted yet.
            let why = if is_there(ddl) || is_there(table_changes) {
                Skipped::SchemaChange
            } else if is_there(status) && is_there(event_count) {
                Skipped::Transaction
            } else if is_there(ts_ms) && !is_there(source_object) {
                Skipped::Heartbeat
            } else {
                Skipped::Control
            };
            return Ok(Record::skipped(why, own_time));
        }
        let op = text_of(op);
        if *op == *b"m" {
            return Ok(Record::skipped(Skipped::Message, own_time));
        }
        if text_of(source.table).ends_with(b"debezium_signal") {
            return Ok(Record::skipped(Skipped::Signal, own_time));
        }
        if !self.table.takes(source.table, source.schema, source.db) {
            return Ok(Record::skipped(Skipped::OtherTable, own_time));
        }
        let version = source.version(&mut self.incarnations);
        let image = match &*op {
            b"c" | b"r" | b"u" => after,
            b"d" => before,
            b"t" => return Ok(Record { decoded: self.keys.truncate(version), own_time }),
            _ => return Err(Reject::new(Reason::BadOp, "field \"op\" is none of c, r, u, d, t, m")),
        };
        let delete = *op == *b"d";
        if source.is_mongodb() {
            let document = Document { key, image, description, delete, update: *op == *b"u" };
            let (key, what) = self.document(document, row, &texts)?;
            return Ok(Record::change(key, version, what, own_time));
        }
        let (of_after, of_before) = hints.split_at_checked(row.len()).unwrap_or_default();
        if delete {
            let key = match key {
                Some(text) => message_key(&mut self.keys, self.any_key, text)?,
                None => key_of_before(&self.projection, &mut self.keys, image, of_before, row, &texts)?,
            };
            return Ok(Record::change(key, version, What::Delete, own_time));
        }
        self.projection.complete(row, &texts);
        let hints = Hints::Schema(of_after);
        let key = match key {
            Some(text) => message_key(&mut self.keys, self.any_key, text)?,
            None if matches!(image, Value::Object(_)) => self.keys.of_values(self.projection.key_values(row), hints)?,
            None => return Err(missing_row("after")),
        };
        let Value::Object(_) = image else { return Err(missing_row("after")) };
        let what = self.projection.what(row, hints)?;
        let read = source.read(&op);
        Ok(Record { decoded: Decoded::Change(RowChange { key, version, read, what }), own_time })
    }

    /// A change of a document: rows are extended JSON, as text or as objects.
    fn document<'a>(&mut self, change: Document<'a>, row: &mut [Value<'a>], texts: &'a Texts) -> Result<(Key, What), Reject> {
        let image = texts.object(change.image);
        let key = match (change.key, image) {
            (Some(text), _) => self.keys.of_document(text)?,
            (None, Some(document)) => {
                let mut id = [Value::Absent];
                json::read_object(document, &self.id, &mut id).map_err(not_json)?;
                self.keys.of_one(id[0], Hints::Extended)?
            }
            (None, None) => return Err(missing_row(if change.delete { "before" } else { "after" })),
        };
        if change.delete {
            return Ok((key, What::Delete));
        }
        match (image, change.description) {
            (Some(document), _) => {
                json::read_object(document, self.documents.fields(), row).map_err(not_json)?;
                self.documents.complete(row, texts);
            }
            (None, Value::Object(description)) if change.update && matches!(change.image, Value::Null | Value::Absent) => {
                let (updated, removed) =
                    (json::member(description, b"updatedFields"), json::member(description, b"removedFields"));
                self.updates.read(updated, removed, row, texts)?;
                self.documents.complete_found(row);
            }
            _ => return Err(missing_row("after")),
        }
        Ok((key, self.documents.what(row, Hints::Extended)?))
    }
}

/// What a record of the MongoDB connector says.
struct Document<'a> {
    key: Option<&'a [u8]>,
    image: Value<'a>,
    description: Value<'a>,
    delete: bool,
    update: bool,
}

fn message_key(keys: &mut Keys, any: bool, text: &[u8]) -> Result<Key, Reject> {
    if any { keys.of_any(text) } else { keys.of_object(text) }
}

/// The key of a delete without a message key.
fn key_of_before<'a>(
    projection: &Projection,
    keys: &mut Keys,
    before: Value<'a>,
    hints: &[Hint],
    row: &mut [Value<'a>],
    texts: &'a Texts,
) -> Result<Key, Reject> {
    let Value::Object(before) = before else { return Err(missing_row("before")) };
    json::read_object(before, projection.fields(), row).map_err(not_json)?;
    projection.complete(row, texts);
    keys.of_values(projection.key_values(row), Hints::Schema(hints))
}

#[cold]
fn missing_row(image: &str) -> Reject {
    let more = if image == "before" { ", and there is no message key either; let the connector send one" } else { "" };
    Reject::new(Reason::MissingRow, format!("\"{image}\" is not a row{more}"))
}

impl<'a> Source<'a> {
    fn of(values: [Value<'a>; SOURCE_FIELDS.len()]) -> Self {
        let [connector, name, db, schema, table, collection, ts_ms, file, pos, row, server_id, lsn, rs, ord, snapshot, sequence] =
            values;
        let mut source =
            Source { snapshot, sequence, connector, name, db, schema, table, ts_ms, file, pos, row, server_id, lsn, rs, ord };
        if source.is_mongodb() {
            source.table = collection;
        }
        source
    }

    fn is_mongodb(&self) -> bool {
        json::is_named(self.connector, b"mongodb")
    }

    /// Whether the version is where PostgreSQL's log was when a snapshot read the row, and not where the row was changed.
    fn read(&self, op: &[u8]) -> bool {
        let snapshot = match self.snapshot {
            Value::Absent | Value::Null => false,
            Value::Bool(text) | Value::Plain(text) => text != b"false",
            _ => true,
        };
        json::is_named(self.connector, b"postgresql") && (op == b"r" || snapshot)
    }

    fn version(&self, incarnations: &mut Incarnations) -> Option<Version> {
        match &*text_of(self.connector) {
            b"mysql" | b"mariadb" => incarnations.mysql(self.name, [self.file, self.pos, self.row, self.server_id]),
            b"postgresql" => incarnations.postgres(self.name, self.db, self.lsn, self.sequence),
            b"mongodb" => incarnations.mongodb(self.name, self.rs, self.ts_ms, self.ord),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use storeflow_dataflows::change::{Position, Row, says};
    use storeflow_dataflows::key::Text;
    use storeflow_dataflows::table::NO_WINDOW;

    use super::*;
    use crate::config::{Absent, Decimal, Format, KeySpace, MeasureSpec, Role, TimeSpec, TimeUnit};
    use crate::decode::testing::{decode, job_of};
    use crate::decode::{Decoded, Decoder, Message, RowChange, Truncate, cell_key};

    fn payments() -> SourceSpec {
        SourceSpec {
            key: vec!["id".into()],
            amount: Some("amount".into()),
            currency: Some("currency".into()),
            time: Some(TimeSpec { field: "at".into(), unit: TimeUnit::Auto, zone: None }),
            ..SourceSpec::plain("t", Role::Payments, Format::Debezium, "store")
        }
    }

    fn row(store: &str, amount: i128) -> Row {
        let cell = cell_key(store.as_bytes(), b"KRW", &mut Vec::new());
        Row { cell, member: Text::EMPTY, window: 1_795_168_800_000, amount, lacks: 0 }
    }

    /// The change of a record, without its version.
    fn change(spec: &SourceSpec, key: Option<&str>, value: &str) -> Result<(String, What), Reason> {
        match decode(spec, key, Some(value)).map_err(|reject| reject.reason)?.decoded {
            Decoded::Change(RowChange { key, what, .. }) => Ok((key.text.to_str()[1..].to_owned(), what)),
            other => panic!("{value} is {other:?}"),
        }
    }

    fn skipped(spec: &SourceSpec, value: &str) -> Result<Skipped, Reason> {
        match decode(spec, None, Some(value)).map_err(|reject| reject.reason)?.decoded {
            Decoded::Skipped(why) => Ok(why),
            other => panic!("{value} is {other:?}"),
        }
    }

    const AFTER: &str = r#"{"id":1,"store":7,"amount":"12.30","currency":"KRW","at":"2026-11-20T10:00:00Z"}"#;

    #[test]
    fn rows_and_deletes() {
        let spec = payments();
        for op in ["c", "r", "u"] {
            let value = format!(r#"{{"before":null,"after":{AFTER},"source":{{}},"op":"{op}"}}"#);
            let expected = Ok(("1".to_owned(), What::Row(row("7", 1_230))));
            assert_eq!(change(&spec, None, &value), expected);
            assert_eq!(change(&spec, Some(r#"{"id":1}"#), &value), expected);
            assert_eq!(change(&spec, None, &format!(r#"{{"payload":{value}}}"#)), expected);
            assert_eq!(change(&spec, None, &format!(r#"{{"schema":null,"payload":{value}}}"#)), expected);
        }
        let delete = r#"{"before":{"id":"1","store":""},"after":null,"source":{},"op":"d"}"#;
        assert_eq!(change(&spec, None, delete), Ok(("1".to_owned(), What::Delete)));
        assert_eq!(change(&spec, Some(r#"{"id":2}"#), delete), Ok(("2".to_owned(), What::Delete)));
        let without = r#"{"before":null,"op":"d"}"#;
        assert_eq!(change(&spec, Some(r#"{"id":2}"#), without), Ok(("2".to_owned(), What::Delete)));
        for (key, value, reason) in [
            (None, without, Reason::MissingRow),
            (None, r#"{"after":null,"op":"c"}"#, Reason::MissingRow),
            (Some(r#"{"id":1}"#), r#"{"after":[],"op":"u"}"#, Reason::MissingRow),
            (Some("5"), r#"{"after":null,"op":"c"}"#, Reason::MissingKey),
            (Some(r#"{"x":1}"#), delete, Reason::MissingKey),
            (None, r#"{"after":{},"op":"c"}"#, Reason::MissingField),
            (None, r#"{"after":{},"op":"x"}"#, Reason::BadOp),
            (None, r#"{"after":{},"op":7}"#, Reason::BadOp),
            (None, "[]", Reason::NotAnObject),
            (None, "{", Reason::NotJson),
        ] {
            assert_eq!(change(&spec, key, value), Err(reason), "{value}");
        }
    }

    #[test]
    fn what_is_skipped_and_why() {
        let spec = payments();
        for (value, why) in [
            ("null", Skipped::Tombstone),
            (r#"{"schema":null,"payload":null}"#, Skipped::Tombstone),
            (r#"{"payload":null}"#, Skipped::Tombstone),
            (r#"{"source":{},"ddl":"CREATE TABLE t"}"#, Skipped::SchemaChange),
            (r#"{"source":{},"ddl":null,"tableChanges":[]}"#, Skipped::SchemaChange),
            (r#"{"status":"END","id":"7","event_count":3,"ts_ms":5}"#, Skipped::Transaction),
            (r#"{"schema":{},"payload":{"ts_ms":5}}"#, Skipped::Heartbeat),
            (r#"{"ts_ms":5,"source":{}}"#, Skipped::Control),
            (r#"{"status":"BEGIN","id":"7","event_count":null,"data_collections":null,"ts_ms":5}"#, Skipped::Transaction),
            (r#"{"status":"BEGIN","id":"7"}"#, Skipped::Control),
            ("{}", Skipped::Control),
            (r#"{"op":null}"#, Skipped::Control),
            (r#"{"op":"m","source":{"table":""},"message":{"prefix":"x"}}"#, Skipped::Message),
            (r#"{"op":"c","source":{"table":"debezium_signal"},"after":{}}"#, Skipped::Signal),
            (r#"{"op":"x","source":{"table":"my_debezium_signal"}}"#, Skipped::Signal),
        ] {
            assert_eq!(skipped(&spec, value), Ok(why), "{value}");
        }
        let record = decode(&spec, None, None).expect("a tombstone");
        assert_eq!(record, Record::skipped(Skipped::Tombstone, None));
        let of = |table: &str| SourceSpec { table: Some(table.to_owned()), ..payments() };
        let postgres =
            format!(r#"{{"op":"c","after":{AFTER},"source":{{"table":"p","schema":"public","db":"shop","ts_ms":5}}}}"#);
        let mysql = format!(r#"{{"op":"c","after":{AFTER},"source":{{"table":"p","db":"shop"}}}}"#);
        for (table, value, taken) in [
            ("p", &postgres, true),
            ("public.p", &postgres, true),
            ("shop.p", &postgres, false),
            ("shop.p", &mysql, true),
            ("q", &mysql, false),
        ] {
            assert_eq!(
                matches!(decode(&of(table), None, Some(value)), Ok(Record { decoded: Decoded::Change(_), .. })),
                taken,
                "{table}"
            );
        }
        let other = decode(&of("q"), None, Some(&postgres.replace("\"c\"", "\"x\"")));
        assert_eq!(other, Ok(Record::skipped(Skipped::OtherTable, Some(5))), "whatever else it holds");
    }

    #[test]
    fn truncates() {
        let value = r#"{"op":"t","source":{"connector":"postgresql","name":"s","db":"d","lsn":9,"ts_ms":5}}"#;
        let Ok(Record { decoded: Decoded::Truncate(Truncate { space, version }), own_time }) =
            decode(&payments(), None, Some(value))
        else {
            panic!("a truncate")
        };
        assert_eq!(
            (space, version.map(|version| version.position), own_time),
            (Text::new(&[8]), Some(Position(0, 9, 0)), Some(5))
        );
        let role = SourceSpec { key_space: KeySpace::Role, ..payments() };
        assert_eq!(skipped(&role, value), Ok(Skipped::Control));
    }

    /// A schema as Debezium sends it, for these columns.
    fn schema(columns: &[(&str, &str)]) -> String {
        let field = |(name, of): &(&str, &str)| format!(r#"{{{of},"optional":true,"field":"{name}"}}"#);
        let row: Vec<String> = columns.iter().map(field).collect();
        let image = |name: &str| {
            format!(r#"{{"type":"struct","fields":[{}],"optional":true,"name":"t.Value","field":"{name}"}}"#, row.join(","))
        };
        format!(
            r#"{{"type":"struct","fields":[{},{}],"optional":false,"name":"t.Envelope","version":1}}"#,
            image("before"),
            image("after")
        )
    }

    #[test]
    fn a_schema_says_how_values_are_written() {
        let spec = payments();
        let mut decoder = Decoder::new(&job_of(spec.clone()), &spec, "t", 8);
        let decimal = |scale| {
            format!(
                r#""type":"bytes","name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{{"scale":"{scale}"}}"#
            )
        };
        let (amount, id) = (decimal(4), decimal(0));
        let micros = r#""type":"int64","name":"io.debezium.time.MicroTimestamp","version":1"#;
        let zoned = r#""type":"string","name":"io.debezium.time.ZonedTimestamp","version":1"#;
        let (float, text) = (r#""type":"double""#, r#""type":"string""#);
        let first = schema(&[("id", &id), ("store", text), ("amount", &amount), ("currency", text), ("at", micros)]);
        let second = schema(&[("id", text), ("store", text), ("amount", text), ("currency", text), ("at", zoned)]);
        let third = schema(&[("id", text), ("amount", float), ("at", micros)]);
        let mut read = |schema: &str, after: &str| {
            let value = format!(r#"{{"schema":{schema},"payload":{{"before":null,"after":{after},"source":{{}},"op":"c"}}}}"#);
            let record = decoder.decode(Message { key: None, value: Some(value.as_bytes()), utf8: false });
            match record.map_err(|reject| reject.reason)?.decoded {
                Decoded::Change(RowChange { key, what, .. }) => Ok((key.text.to_str()[1..].to_owned(), what)),
                other => panic!("{value} is {other:?}"),
            }
        };
        for _ in 0..3 {
            let of_first = r#"{"id":"AP//////////","store":"7","amount":"AeB4","currency":"KRW","at":1795168800000000}"#;
            let expected = ("18446744073709551615".to_owned(), What::Row(row("7", 1_230)));
            assert_eq!(read(&first, of_first), Ok(expected));
            assert_eq!(read(&second, AFTER), Ok(("1".to_owned(), What::Row(row("7", 1_230)))));
            assert_eq!(read(&second, of_first), Err(Reason::BadAmount), "without its schema");
            let of_third = r#"{"id":"1","store":"7","amount":12.3,"currency":"KRW","at":1795168800000000}"#;
            assert_eq!(read(&third, of_third), Err(Reason::Float));
        }
    }

    #[test]
    fn a_deletes_key_is_typed_by_the_schema_of_before() {
        let spec = payments();
        let unsigned = r#""type":"bytes","name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"0"}"#;
        let schema = schema(&[("id", unsigned)]);
        let value =
            format!(r#"{{"schema":{schema},"payload":{{"before":{{"id":"Bw=="}},"after":null,"source":{{}},"op":"d"}}}}"#);
        assert_eq!(change(&spec, None, &value), Ok(("7".to_owned(), What::Delete)));
    }

    #[test]
    fn unchanged_large_values_make_a_patch() {
        let spec = payments();
        let value = |store: &str, amount: &str| {
            let after =
                format!(r#"{{"id":1,"store":"{store}","amount":"{amount}","currency":"KRW","at":"2026-11-20T10:00:00Z"}}"#);
            format!(r#"{{"after":{after},"source":{{}},"op":"u"}}"#)
        };
        let (text, bytes) = ("__debezium_unavailable_value", "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==");
        let patch = Ok(("1".to_owned(), What::Patch(row("", 1_230), says::ALL & !says::STORE)));
        assert_eq!(change(&spec, None, &value(text, "12.30")), patch);
        assert_eq!(change(&spec, None, &value(bytes, "12.30")), patch);
        let patch = Ok(("1".to_owned(), What::Patch(row("7", 0), says::ALL & !says::AMOUNT)));
        assert_eq!(change(&spec, None, &value("7", bytes)), patch);
        let key = format!(r#"{{"after":{},"source":{{}},"op":"u"}}"#, AFTER.replace("\"id\":1", &format!("\"id\":\"{text}\"")));
        assert_eq!(change(&spec, None, &key), Err(Reason::MissingField), "a key must be said");
    }

    #[test]
    fn a_connector_that_sends_changed_columns_alone() {
        let value = r#"{"after":{"id":1,"amount":"12.30"},"source":{},"op":"u"}"#;
        assert_eq!(change(&payments(), None, value), Err(Reason::MissingField));
        let spec = SourceSpec { absent: Absent::Unchanged, ..payments() };
        let Ok((_, What::Patch(row, said))) = change(&spec, None, value) else { panic!("a patch") };
        assert_eq!((row.amount, said), (1_230, says::ALL & !(says::STORE | says::SECOND | says::WINDOW)));
    }

    #[test]
    fn versions() {
        for (source, expected) in [
            (
                r#""connector":"mysql","name":"n","file":"bin.000012","pos":34,"row":5,"server_id":9"#,
                Some((Position(12, 34, 5), 9)),
            ),
            (r#""connector":"mariadb","name":"n","file":"bin.000012","pos":34"#, Some((Position(12, 34, 0), 0))),
            (r#""connector":"mysql","file":"","pos":0"#, None),
            (r#""connector":"postgresql","name":"n","db":"d","lsn":77"#, Some((Position(0, 77, 0), 0))),
            (r#""connector":"postgresql","lsn":null"#, None),
            (r#""connector":"sqlserver","lsn":77"#, None),
            ("", None),
        ] {
            let value = format!(r#"{{"after":{AFTER},"source":{{{source}}},"op":"c"}}"#);
            let Ok(Record { decoded: Decoded::Change(change), .. }) = decode(&payments(), None, Some(&value)) else {
                panic!("{value} is a change")
            };
            assert_eq!(change.version.map(|version| (version.position, version.server)), expected, "{source}");
        }
    }

    #[test]
    fn documents_and_what_updates_say_of_them() {
        let total = MeasureSpec { field: FieldPath::parse("money.total").expect("a path"), decimal: Decimal::Text };
        let spec = SourceSpec { key: vec!["_id".into()], amount: Some(total), ..payments() };
        let source =
            r#"{"connector":"mongodb","name":"m","rs":"rs0","collection":"p","db":"shop","ts_ms":1700000000000,"ord":3}"#;
        let quoted = |document: &str| serde_json::to_string(document).expect("a string");
        let key = Some(r#"{"id":"{\"$oid\":\"66f0\"}"}"#);
        let value = |after: &str, more: &str, op: &str| {
            format!(r#"{{"before":null,"after":{after},{more}"source":{source},"op":"{op}"}}"#)
        };
        let document = r#"{"_id":{"$oid":"66f0"},"store":{"$numberLong":"7"},"money":{"total":{"$numberDecimal":"12.30"}},"currency":"KRW",
            "at":{"$date":1795168800000}}"#;
        let expected = Ok(("66f0".to_owned(), What::Row(row("7", 1_230))));
        for op in ["c", "r", "u"] {
            assert_eq!(change(&spec, key, &value(&quoted(document), "", op)), expected);
            assert_eq!(change(&spec, None, &value(&quoted(document), "", op)), expected, "_id of the document");
            assert_eq!(change(&spec, None, &value(document, "", op)), expected, "an object");
        }
        let placeholder = document.replace(r#""KRW""#, r#""__debezium_unavailable_value""#);
        let Ok((_, What::Row(_))) = change(&spec, key, &value(&quoted(&placeholder), "", "u")) else {
            panic!("documents have no placeholders")
        };

        let described = |updated: &str, removed: &str| {
            format!(
                r#""updateDescription":{{"updatedFields":{},"removedFields":{removed},"truncatedArrays":null}},"#,
                quoted(updated)
            )
        };
        let update = |updated: &str, removed: &str| change(&spec, key, &value("null", &described(updated, removed), "u"));
        let nothing = says::ALL & !(says::STORE | says::SECOND | says::AMOUNT | says::WINDOW);
        let none = |amount| Row { cell: cell_key(b"", b"", &mut Vec::new()), window: NO_WINDOW, ..row("", amount) };
        let patch = |row, says| Ok(("66f0".to_owned(), What::Patch(row, says)));
        assert_eq!(update(r#"{"x":1}"#, "null"), patch(none(0), nothing));
        assert_eq!(update(r#"{"money.total":{"$numberDecimal":"5"}}"#, "null"), patch(none(500), nothing | says::AMOUNT));
        assert_eq!(update(r#"{"money":{"total":5}}"#, "[]"), patch(none(500), nothing | says::AMOUNT));
        assert_eq!(update(r#"{"money":{}}"#, "[]"), Err(Reason::MissingField));
        assert_eq!(update("{}", r#"["money"]"#), Err(Reason::BadAmount), "it is null now");
        assert_eq!(change(&spec, key, &value("null", "", "u")), Err(Reason::MissingRow));
        assert_eq!(change(&spec, key, &value("null", &described("{}", "[]"), "c")), Err(Reason::MissingRow));
        assert_eq!(change(&spec, key, &value("\"x\"", &described("{}", "[]"), "u")), Err(Reason::MissingRow));

        let delete = value("null", "", "d");
        assert_eq!(change(&spec, key, &delete), Ok(("66f0".to_owned(), What::Delete)));
        assert_eq!(change(&spec, None, &delete), Err(Reason::MissingRow));
        assert_eq!(change(&payments_of_two_keys(), key, &delete), Err(Reason::MissingKey));
        let of_other = SourceSpec { table: Some("q".to_owned()), ..spec.clone() };
        assert_eq!(skipped(&of_other, &delete), Ok(Skipped::OtherTable));
        let taken = SourceSpec { table: Some("shop.p".to_owned()), ..spec };
        let Ok(Record { decoded: Decoded::Change(change), own_time }) = decode(&taken, key, Some(&delete)) else {
            panic!("a delete")
        };
        assert_eq!(change.version.map(|version| version.position), Some(Position(0, (1_700_000_000 << 32) + 3, 0)));
        assert_eq!(own_time, Some(1_700_000_000_000));
    }

    fn payments_of_two_keys() -> SourceSpec {
        SourceSpec { key: vec!["_id".into(), "shard".into()], ..payments() }
    }
}
