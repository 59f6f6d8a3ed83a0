//! Debezium's JSON envelope, bare or inside its schema wrapper.
//!
//! Shapes and orders: Debezium documentation, "Data change events" of the MySQL and PostgreSQL connectors. The row's key is the
//! message key's; `before` is looked at only where a delete came without a message key.

use std::borrow::Cow;

use storeflow_dataflows::change::{Position, Version, What};

use super::json::{self, Fields, Inner, Value};
use super::project::{Keys, Projection};
use super::{Decoded, Reason, Record, Reject, RowChange, Skipped, not_an_object, not_json, values};
use crate::config::{Job, SourceSpec};

pub(super) struct Debezium {
    envelope: Fields,
    source: Fields,
    projection: Projection,
    keys: Keys,
    incarnations: Incarnations,
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
            incarnations: Incarnations::default(),
        }
    }

    pub(super) fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, table: Option<&[u8]>) -> Result<Record, Reject> {
        let tombstone = Ok(Record { decoded: Decoded::Skipped(Skipped::Tombstone), own_time: None });
        let Some(text) = value else { return tombstone };
        // Envelope, row and source in one pass; only what a schema wraps takes a second one.
        let (mut envelope, mut source, mut fields) = ([Value::Absent; 5], [Value::Absent; 10], [Value::Absent; 32]);
        let fields = &mut fields[..self.projection.fields().len()];
        let after = Inner { of: AFTER, fields: self.projection.fields(), out: fields };
        let mut inner = [Inner { of: SOURCE, fields: &self.source, out: &mut source }, after];
        match json::read_both(text, &self.envelope, &mut envelope, &mut inner).map_err(not_json)? {
            Value::Object(_) => {}
            Value::Null => return tombstone,
            _ => return Err(not_an_object("the message")),
        }
        match envelope[PAYLOAD] {
            Value::Object(payload) => {
                json::read_both(payload, &self.envelope, &mut envelope, &mut inner).map_err(not_json)?;
            }
            Value::Null => return tombstone,
            _ => {}
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
            b"mysql" | b"mariadb" => self.incarnations.mysql(name, file, pos, row, server_id),
            // That of a row which was read says where the log was, not where the row was changed: a transaction that was open
            // then has lower ones and is newer.
            b"postgresql" if &*text_of(envelope[OP]) != b"r" => self.incarnations.postgres(name, db, lsn),
            _ => None,
        };
        let found = match (if delete { envelope[BEFORE] } else { envelope[AFTER] }, delete) {
            (Value::Object(row), true) => {
                json::read_object(row, self.projection.fields(), fields).map_err(not_json)?;
                true
            }
            (Value::Object(_), false) => true,
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
        let what = if delete { What::Delete } else { What::Row(self.projection.row(fields)?) };
        Ok(Record { decoded: Decoded::Change(RowChange { key, version, what }), own_time })
    }
}

fn unsigned(value: Value<'_>) -> Option<u64> {
    match value {
        Value::Number(text) => values::integer(text).and_then(|number| u64::try_from(number).ok()),
        _ => None,
    }
}

/// The text of a string; empty for anything else.
fn text_of(value: Value<'_>) -> Cow<'_, [u8]> {
    match value {
        Value::Plain(text) => Cow::Borrowed(text),
        Value::Escaped(text) => Cow::Owned(json::unescape(text)),
        _ => Cow::Borrowed(&[]),
    }
}

/// Stable names of incarnations. Records of one are followed by more of it, so the last is kept.
#[derive(Default)]
struct Incarnations {
    parts: Vec<u8>,
    last: (Vec<u8>, u64),
}

impl Incarnations {
    /// The parts are separated by a byte that no valid text holds.
    fn name(&mut self, parts: [&[u8]; 3]) -> u64 {
        self.parts.clear();
        for part in parts {
            self.parts.extend_from_slice(part);
            self.parts.push(0xff);
        }
        if self.last.0 != self.parts {
            self.last.1 = xxhash_rust::xxh3::xxh3_64(&self.parts);
            self.last.0.clone_from(&self.parts);
        }
        self.last.1
    }

    fn mysql(
        &mut self,
        name: Value<'_>,
        file: Value<'_>,
        pos: Value<'_>,
        row: Value<'_>,
        server_id: Value<'_>,
    ) -> Option<Version> {
        let file = text_of(file);
        let dot = file.iter().rposition(|&byte| byte == b'.')?;
        let number = Some(&file[dot + 1..]).filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let number = number.and_then(values::integer).and_then(|number| u32::try_from(number).ok())?;
        let pos = unsigned(pos).filter(|&pos| pos > 0)?;
        let row = unsigned(row).and_then(|row| u32::try_from(row).ok()).unwrap_or(0);
        let server = unsigned(server_id).and_then(|server| u32::try_from(server).ok()).unwrap_or(0);
        let incarnation = self.name([b"mysql", &text_of(name), &file[..dot]]);
        Some(Version { incarnation, server, position: Position(number, pos, row) })
    }

    fn postgres(&mut self, name: Value<'_>, db: Value<'_>, lsn: Value<'_>) -> Option<Version> {
        let lsn = unsigned(lsn).filter(|&lsn| lsn > 0)?;
        let incarnation = self.name([b"postgresql", &text_of(name), &text_of(db)]);
        Some(Version { incarnation, server: 0, position: Position(0, lsn, 0) })
    }
}
