//! Debezium's JSON envelope, bare or inside its schema wrapper.
//!
//! Shapes and orders: Debezium documentation, "Data change events" of the MySQL and PostgreSQL connectors. The row's key is the
//! message key's; `before` is looked at only where a delete came without a message key.

use std::borrow::Cow;

use storeflow_dataflows::change::{Position, Version};

use super::json::{self, Fields, Value};
use super::project::{Keys, Projection};
use super::{Decoded, Reason, Record, Reject, RowChange, Skipped, not_an_object, not_json, values};
use crate::config::{Job, SourceSpec};

pub(super) struct Debezium {
    envelope: Fields,
    source: Fields,
    projection: Projection,
    keys: Keys,
}

const PAYLOAD: usize = 0;
const OP: usize = 1;
const BEFORE: usize = 2;
const AFTER: usize = 3;
const SOURCE: usize = 4;

impl Debezium {
    pub(super) fn new(job: &Job, spec: &SourceSpec, key_space: u32) -> Self {
        let projection = Projection::new(job, spec);
        Debezium {
            envelope: Fields::new(["payload", "op", "before", "after", "source"]),
            source: Fields::new(["connector", "name", "db", "ts_ms", "table", "file", "pos", "row", "server_id", "lsn"]),
            keys: Keys::new(&projection, key_space),
            projection,
        }
    }

    pub(super) fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, table: Option<&[u8]>) -> Result<Record, Reject> {
        let tombstone = Ok(Record { decoded: Decoded::Skipped(Skipped::Tombstone), own_time: None });
        let Some(text) = value else { return tombstone };
        let mut envelope = [Value::Absent; 5];
        match json::read(text, &self.envelope, &mut envelope).map_err(not_json)? {
            Value::Object(_) => {}
            Value::Null => return tombstone,
            _ => return Err(not_an_object("the message")),
        }
        match envelope[PAYLOAD] {
            Value::Object(payload) => json::read_object(payload, &self.envelope, &mut envelope).map_err(not_json)?,
            Value::Null => return tombstone,
            _ => {}
        }
        let mut source = [Value::Absent; 10];
        if let Value::Object(object) = envelope[SOURCE] {
            json::read_object(object, &self.source, &mut source).map_err(not_json)?;
        }
        let [connector, name, db, ts_ms, source_table, file, pos, row, server_id, lsn] = source;
        let own_time = match ts_ms {
            Value::Number(text) => values::integer(text).and_then(values::in_range).filter(|&time| time > 0),
            _ => None,
        };
        let skipped = |why| Ok(Record { decoded: Decoded::Skipped(why), own_time });
        if matches!(envelope[OP], Value::Absent | Value::Null) {
            return skipped(Skipped::Control);
        }
        if table.is_some_and(|table| *text_of(source_table) != *table) {
            return skipped(Skipped::OtherTable);
        }
        let delete = match &*text_of(envelope[OP]) {
            b"c" | b"r" | b"u" => false,
            b"d" => true,
            b"t" | b"m" => return skipped(Skipped::Control),
            _ => return Err(Reject::new(Reason::BadOp, "field \"op\" is none of c, r, u, d, t, m")),
        };
        let version = match &*text_of(connector) {
            b"mysql" | b"mariadb" => mysql_version(name, file, pos, row, server_id),
            b"postgresql" => postgres_version(name, db, lsn),
            _ => None,
        };
        let image = if delete { envelope[BEFORE] } else { envelope[AFTER] };
        let mut fields = [Value::Absent; 32];
        let fields = &mut fields[..self.projection.fields().len()];
        let found = match image {
            Value::Object(row) => {
                json::read_object(row, self.projection.fields(), fields).map_err(not_json)?;
                true
            }
            _ => false,
        };
        if !found && (!delete || key.is_none()) {
            let image = if delete { "before" } else { "after" };
            return Err(Reject::new(Reason::MissingRow, format!("\"{image}\" is not a row")));
        }
        let key = match key {
            Some(text) => self.keys.of_object(text)?,
            None => self.keys.of_values(self.projection.key_values(fields), None)?,
        };
        let row = if delete { None } else { Some(self.projection.row(fields)?) };
        Ok(Record { decoded: Decoded::Change(RowChange { key, version, row }), own_time })
    }
}

fn unsigned(value: Value<'_>) -> Option<u64> {
    match value {
        Value::Number(text) => values::integer(text).and_then(|number| u64::try_from(number).ok()),
        _ => None,
    }
}

/// Stable name of an incarnation. The parts are separated by a byte that no valid text holds.
fn incarnation(parts: [&[u8]; 3]) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for part in parts {
        hasher.update(part);
        hasher.update(&[0xff]);
    }
    hasher.digest()
}

/// The text of a string; empty for anything else.
fn text_of(value: Value<'_>) -> Cow<'_, [u8]> {
    match value {
        Value::Plain(text) => Cow::Borrowed(text),
        Value::Escaped(text) => Cow::Owned(json::unescape(text)),
        _ => Cow::Borrowed(&[]),
    }
}

fn mysql_version(name: Value<'_>, file: Value<'_>, pos: Value<'_>, row: Value<'_>, server_id: Value<'_>) -> Option<Version> {
    let file = text_of(file);
    let dot = file.iter().rposition(|&byte| byte == b'.')?;
    let number = Some(&file[dot + 1..]).filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let number = number.and_then(values::integer).and_then(|number| u32::try_from(number).ok())?;
    let pos = unsigned(pos).filter(|&pos| pos > 0)?;
    let row = unsigned(row).and_then(|row| u32::try_from(row).ok()).unwrap_or(0);
    let server = unsigned(server_id).and_then(|server| u32::try_from(server).ok()).unwrap_or(0);
    let incarnation = incarnation([b"mysql", &text_of(name), &file[..dot]]);
    Some(Version { incarnation, server, position: Position(number, pos, row) })
}

fn postgres_version(name: Value<'_>, db: Value<'_>, lsn: Value<'_>) -> Option<Version> {
    let lsn = unsigned(lsn).filter(|&lsn| lsn > 0)?;
    let incarnation = incarnation([b"postgresql", &text_of(name), &text_of(db)]);
    Some(Version { incarnation, server: 0, position: Position(0, lsn, 0) })
}
