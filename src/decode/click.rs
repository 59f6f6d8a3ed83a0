//! Clicks: one JSON event per message.

use storeflow_dataflows::key::Text;

use super::json::{self, Fields, Value};
use super::{Click, Decoded, Record, Reject, cell_key, not_an_object, not_json, values};
use crate::config::field_path::IdSpec;
use crate::config::{Job, SourceSpec, TimeSpec};

pub(super) struct Clicks {
    fields: Fields,
    store: String,
    kind: String,
    product: Option<String>,
    time: TimeSpec,
    distinct: bool,
    scratch: Vec<u8>,
}

impl Clicks {
    pub(super) fn new(_job: &Job, spec: &SourceSpec) -> Self {
        let store = spec.store_field();
        let kind = spec.kind.as_ref().map(IdSpec::to_string).unwrap_or_default();
        let time = spec.time.clone().expect("clicks have a time");
        let product = spec.product.as_ref().map(IdSpec::to_string);
        let names = [Some(store.clone()), Some(kind.clone()), Some(time.field.to_string()), product.clone()];
        Clicks {
            fields: Fields::new(names.into_iter().flatten()),
            store,
            kind,
            product,
            time,
            distinct: spec.distinct,
            scratch: Vec::new(),
        }
    }

    pub(super) fn decode(&mut self, value: Option<&[u8]>) -> Result<Record, Reject> {
        let Some(text) = value else { return Err(not_an_object("an empty message")) };
        let mut fields = [Value::Absent; 4];
        let fields = &mut fields[..self.fields.len()];
        match json::read(text, &self.fields, fields).map_err(not_json)? {
            Value::Object(_) => {}
            _ => return Err(not_an_object("the message")),
        }
        let store = values::id(fields[0], &self.store)?;
        let kind = values::id(fields[1], &self.kind)?;
        let product = match (&self.product, fields.get(3)) {
            (Some(_), Some(Value::Absent | Value::Null)) | (None, _) | (_, None) => Text::EMPTY,
            (Some(field), Some(value)) => {
                let product = values::id(*value, field)?;
                if self.distinct { Text::new(&product) } else { Text::EMPTY }
            }
        };
        let time = values::time(fields[2], &self.time.unit, self.time.field.last())?;
        let cell = cell_key(&store, &kind, &mut self.scratch);
        let own_time = Some(time).filter(|&time| time > 0);
        Ok(Record { decoded: Decoded::Click(Click { cell, product, time, event: None }), own_time })
    }
}
