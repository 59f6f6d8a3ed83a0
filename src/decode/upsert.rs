//! Plain upsert JSON: the row as value, its key as message key; a null value deletes.
//!
//! There is no source version: the log's order is the only one.

use storeflow_dataflows::change::What;

use super::json::{self, Value};
use super::keys::Keys;
use super::paths::Texts;
use super::project::{Hints, Projection, ROOM};
use super::table::Table;
use super::values::Hint;
use super::{Reason, Record, Reject, Skipped, clock_time, not_an_object, not_json};
use crate::config::field_path::FieldPath;
use crate::config::{Job, SourceSpec};

pub(super) struct Upsert {
    projection: Projection,
    keys: Keys,
    table: Table,
    /// What is known of the fields, if they are of Avro; else nothing.
    hints: Vec<Hint>,
}

impl Upsert {
    pub(super) fn new(job: &Job, spec: &SourceSpec, topic: &str, key_space: u32) -> Self {
        Upsert {
            projection: Projection::new(job, spec, topic),
            keys: Keys::new(job, spec, topic, key_space),
            table: Table::new(spec),
            hints: Vec::new(),
        }
    }

    /// The needed fields, key fields first.
    pub(super) fn field_paths(&self) -> &[FieldPath] {
        self.projection.field_paths()
    }

    /// What is known of the next record's fields, where it is JSON of Avro.
    pub(super) fn hints(&mut self) -> &mut [Hint] {
        self.hints.resize(self.projection.len(), Hint::Unknown);
        &mut self.hints
    }

    pub(super) fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Record, Reject> {
        let (texts, mut values) = (Texts::default(), ROOM);
        let values = &mut values[..self.projection.len()];
        let delete = match value {
            Some(text) => match json::read(text, self.projection.fields(), values).map_err(not_json)? {
                Value::Null => true,
                Value::Object(_) => false,
                _ => return Err(not_an_object("the message")),
            },
            None => true,
        };
        if !self.table.is_any() {
            // Nothing says what table it is of.
            return Ok(Record::skipped(Skipped::OtherTable, None));
        }
        self.projection.complete(values, &texts);
        let key = match key {
            Some(text) => self.keys.of_any(text)?,
            None if delete => return Err(Reject::new(Reason::MissingKey, "a delete without a message key")),
            None => self.keys.of_values(self.projection.key_values(values), Hints::Schema(&self.hints))?,
        };
        if delete {
            return Ok(Record::change(key, None, What::Delete, None));
        }
        let what = self.projection.what(values, Hints::Schema(&self.hints))?;
        let own_time = self.projection.own_time(values, Hints::Schema(&self.hints)).and_then(|time| clock_time(time.into()));
        Ok(Record::change(key, None, what, own_time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Format, Role};
    use crate::decode::testing::decode;
    use crate::decode::{Decoded, RowChange};

    fn products() -> SourceSpec {
        SourceSpec { key: vec!["id".into()], ..SourceSpec::plain("t", Role::Products, Format::Upsert, "geo") }
    }

    fn change(key: Option<&str>, value: Option<&str>) -> Result<(String, bool), Reason> {
        match decode(&products(), key, value).map_err(|reject| reject.reason)?.decoded {
            Decoded::Change(RowChange { key, version: None, what, .. }) => {
                Ok((key.text.to_str()[1..].to_owned(), what == What::Delete))
            }
            other => panic!("{value:?} is {other:?}"),
        }
    }

    #[test]
    fn rows_by_key_and_null_deletes() {
        let row = r#"{"id":1,"geo":"s"}"#;
        for (key, value, expected) in [
            (None, Some(row), Ok(("1", false))),
            (Some("2"), Some(row), Ok(("2", false))),
            (Some("raw text"), Some(row), Ok(("raw text", false))),
            (Some(r#"{"id":"2"}"#), Some(row), Ok(("2", false))),
            (Some(r#"{"id":"2"}"#), None, Ok(("2", true))),
            (Some("2"), Some(""), Ok(("2", true))),
            (Some("2"), Some(" null "), Ok(("2", true))),
            (None, None, Err(Reason::MissingKey)),
            (Some("[]"), Some(row), Err(Reason::MissingKey)),
            (Some(""), Some(row), Err(Reason::MissingKey)),
            (None, Some("5"), Err(Reason::NotAnObject)),
            (None, Some(r#"{"id":1}"#), Err(Reason::MissingField)),
            (None, Some("{"), Err(Reason::NotJson)),
        ] {
            let expected = expected.map(|(key, deletes)| (key.to_owned(), deletes));
            assert_eq!(change(key, value), expected, "{key:?} {value:?}");
        }
    }

    #[test]
    fn nothing_says_what_table_it_is() {
        let spec = SourceSpec { table: Some("p".to_owned()), ..products() };
        let skipped = decode(&spec, Some("1"), Some(r#"{"id":1,"geo":"s"}"#));
        assert_eq!(skipped, Ok(Record::skipped(Skipped::OtherTable, None)));
    }
}
