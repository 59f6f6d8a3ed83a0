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
use super::{Reason, Record, Reject, Skipped, clock_millis, not_an_object, not_json, text_of};
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
/// The last of them is what the clock takes where there is no other.
const TIMES: [&str; 2] = ["__source_ts_ms", "__ts_ms"];
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
        let own_time = match (more[2 * METADATA.len()], more[2 * METADATA.len() + 1]) {
            (Value::Absent, of_connector) => clock_millis(of_connector),
            (of_source, _) => clock_millis(of_source),
        };
        let table = if table == Value::Absent { collection } else { table };
        if !self.table.takes(table, schema, db) {
            return Ok(Record::skipped(Skipped::OtherTable, own_time));
        }
        let version = version(&mut self.incarnations, &metadata);
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
        Ok(Record::change(key, version, what, own_time))
    }
}

fn version(incarnations: &mut Incarnations, metadata: &[Value<'_>; METADATA.len()]) -> Option<Version> {
    let [.., db, file, pos, name, server_id, row, lsn] = *metadata;
    let of_binlog = incarnations.mysql(name, [file, pos, row, server_id]);
    of_binlog.or_else(|| incarnations.postgres(name, db, lsn))
}
