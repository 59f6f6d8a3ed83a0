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
use super::{Reason, Record, Reject, Skipped, clock_millis, not_an_object, not_json, text_of};
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
pub(super) const SOURCE_FIELDS: [&str; 14] =
    ["connector", "name", "db", "schema", "table", "collection", "ts_ms", "file", "pos", "row", "server_id", "lsn", "rs", "ord"];

/// Where a change comes from.
struct Source<'a> {
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
        let own_time = clock_millis(source[6]);
        let is_there = |value| !matches!(value, Value::Absent | Value::Null);
        if !is_there(op) {
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
        let source = Source::of(source);
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
        Ok(Record::change(key, version, what, own_time))
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
                self.updates.read(updated, removed, row, texts);
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

fn missing_row(image: &str) -> Reject {
    Reject::new(Reason::MissingRow, format!("\"{image}\" is not a row"))
}

impl<'a> Source<'a> {
    fn of(values: [Value<'a>; SOURCE_FIELDS.len()]) -> Self {
        let [connector, name, db, schema, table, collection, ts_ms, file, pos, row, server_id, lsn, rs, ord] = values;
        let mut source = Source { connector, name, db, schema, table, ts_ms, file, pos, row, server_id, lsn, rs, ord };
        if source.is_mongodb() {
            source.table = collection;
        }
        source
    }

    fn is_mongodb(&self) -> bool {
        json::is_named(self.connector, b"mongodb")
    }

    fn version(&self, incarnations: &mut Incarnations) -> Option<Version> {
        match &*text_of(self.connector) {
            b"mysql" | b"mariadb" => incarnations.mysql(self.name, [self.file, self.pos, self.row, self.server_id]),
            b"postgresql" => incarnations.postgres(self.name, self.db, self.lsn),
            b"mongodb" => incarnations.mongodb(self.name, self.rs, self.ts_ms, self.ord),
            _ => None,
        }
    }
}
