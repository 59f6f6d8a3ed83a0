//! Plain upsert JSON: the row as value, its key as message key; a null value deletes.
//!
//! There is no source version: the log's order is the only one.

use storeflow_dataflows::change::What;

use super::json::{self, Value};
use super::project::{Keys, Projection};
use super::{Decoded, Reason, Record, Reject, RowChange, not_an_object, not_json};
use crate::config::{Job, SourceSpec};

pub(super) struct Upsert {
    projection: Projection,
    keys: Keys,
}

impl Upsert {
    pub(super) fn new(job: &Job, spec: &SourceSpec, key_space: u32) -> Self {
        let projection = Projection::new(job, spec);
        Upsert { keys: Keys::new(&projection, key_space), projection }
    }

    pub(super) fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Record, Reject> {
        let mut fields = [Value::Absent; 32];
        let fields = &mut fields[..self.projection.fields().len()];
        let value = match value {
            Some(text) => json::read(text, self.projection.fields(), fields).map_err(not_json)?,
            None => Value::Null,
        };
        let delete = match value {
            Value::Null => true,
            Value::Object(_) => false,
            _ => return Err(not_an_object("the message")),
        };
        let key = match key {
            Some(text) => self.keys.of_any(text)?,
            None if delete => return Err(Reject::new(Reason::MissingKey, "a delete without a message key")),
            None => self.keys.of_values(self.projection.key_values(fields), None)?,
        };
        let what = if delete { What::Delete } else { What::Row(self.projection.row(fields)?) };
        let own_time = if delete { None } else { self.projection.own_time(fields).filter(|&time| time > 0) };
        Ok(Record { decoded: Decoded::Change(RowChange { key, version: None, what }), own_time })
    }
}
