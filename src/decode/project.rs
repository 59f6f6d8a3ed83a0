//! From a row's fields to its key and what it contributes.

use std::borrow::Cow;

use storeflow_dataflows::change::Row;
use storeflow_dataflows::key::{Key, Text, push_varint};
use storeflow_dataflows::table::NO_WINDOW;

use super::json::{self, Fields, Value};
use super::{Reason, Reject, Settings, cell_key, not_an_object, not_json, row_hash, values};
use crate::config::{Job, Role, SourceSpec, TimeSpec};

/// The fields a source needs of a row, in the order key fields, store, …; and how they become a row.
pub(super) struct Projection {
    settings: Settings,
    role: Role,
    fields: Fields,
    key_count: usize,
    key_names: Vec<String>,
    store: (usize, String),
    second: Option<(usize, String)>,
    member: Option<(usize, String)>,
    measure: Option<(usize, String)>,
    time: Option<(usize, TimeSpec)>,
    counts_when: Vec<(usize, Vec<Vec<u8>>)>,
    scratch: Vec<u8>,
}

impl Projection {
    pub(super) fn new(job: &Job, spec: &SourceSpec) -> Self {
        let mut names: Vec<String> = spec.key.clone();
        let mut add = |name: &String| {
            names.push(name.clone());
            (names.len() - 1, name.clone())
        };
        let store = add(&spec.store);
        let second = spec.currency.as_ref().map(&mut add);
        let member = spec.product.as_ref().map(&mut add);
        let measure = spec.amount.as_ref().or(spec.quantity.as_ref()).map(&mut add);
        let time = spec.time.as_ref().map(|time| (add(&time.field).0, time.clone()));
        let accepted = |texts: &Vec<String>| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let counts_when = spec.counts_when.iter().map(|(field, texts)| (add(field).0, accepted(texts))).collect();
        Projection {
            settings: Settings::new(job),
            role: spec.role,
            fields: Fields::new(&names),
            key_count: spec.key.len(),
            key_names: spec.key.clone(),
            store,
            second,
            member,
            measure,
            time,
            counts_when,
            scratch: Vec::new(),
        }
    }

    pub(super) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The values of the key fields, which come first.
    pub(super) fn key_values<'v, 'a>(&self, values: &'v [Value<'a>]) -> &'v [Value<'a>] {
        &values[..self.key_count]
    }

    /// The row's own event time, if it is readable.
    pub(super) fn own_time(&self, values: &[Value<'_>]) -> Option<u64> {
        let (at, spec) = self.time.as_ref()?;
        values::time(values[*at], &spec.unit, &spec.field).ok()
    }

    pub(super) fn row(&mut self, values: &[Value<'_>]) -> Result<Row, Reject> {
        let store = values::id(values[self.store.0], &self.store.1)?;
        let second = match (self.role, &self.second) {
            (Role::Payments, second) => currency(second.as_ref(), values, self.settings.currency.as_deref())?,
            _ => Cow::Borrowed(&b""[..]),
        };
        let member = match &self.member {
            Some((at, field)) => Text::new(&values::id(values[*at], field)?),
            None => Text::EMPTY,
        };
        let amount = match (&self.measure, self.role) {
            (Some((at, field)), Role::Payments) => values::amount(values[*at], self.settings.scale, field)?,
            (Some((at, field)), _) => values::quantity(values[*at], field)?,
            (None, _) => 0,
        };
        let window = match &self.time {
            Some((at, spec)) => self.settings.horizons.window_of(values::time(values[*at], &spec.unit, &spec.field)?),
            None => NO_WINDOW,
        };
        let matches = |(at, accepted): &(usize, Vec<Vec<u8>>)| {
            values::comparable(values[*at]).is_some_and(|text| accepted.iter().any(|one| one[..] == *text))
        };
        let counts = self.counts_when.iter().all(matches);
        Ok(Row { cell: cell_key(&store, &second, &mut self.scratch), member, window, amount, counts })
    }
}

fn currency<'a>(
    field: Option<&(usize, String)>,
    values: &[Value<'a>],
    default: Option<&'a str>,
) -> Result<Cow<'a, [u8]>, Reject> {
    let bad = |what: String| Err(Reject::new(Reason::BadCurrency, what));
    let Some((at, field)) = field else {
        return match default {
            Some(default) => Ok(Cow::Borrowed(default.as_bytes())),
            None => bad("neither the source nor the job names a currency".to_owned()),
        };
    };
    match (values[*at], default) {
        (Value::Absent | Value::Null, Some(default)) => Ok(Cow::Borrowed(default.as_bytes())),
        (Value::Absent | Value::Null, None) => bad(format!("field \"{field}\" is missing and the job names no currency")),
        (value, _) => values::id(value, field).map_err(|reject| Reject { reason: Reason::BadCurrency, ..reject }),
    }
}

/// Reads row keys, from a message key or from a row.
pub(super) struct Keys {
    space: u32,
    names: Vec<String>,
    fields: Fields,
    wrapper: Fields,
    bytes: Vec<u8>,
}

impl Keys {
    pub(super) fn new(projection: &Projection, space: u32) -> Self {
        let names = projection.key_names.clone();
        Keys { space, fields: Fields::new(&names), wrapper: Fields::new(["payload"]), names, bytes: Vec::new() }
    }

    /// The key from the values of its fields.
    pub(super) fn of_values(&mut self, values: &[Value<'_>], reason: Option<Reason>) -> Result<Key, Reject> {
        self.bytes.clear();
        push_varint(&mut self.bytes, u64::from(self.space));
        for (at, (value, name)) in values.iter().zip(&self.names).enumerate() {
            let text = values::id(*value, name).map_err(|reject| Reject { reason: reason.unwrap_or(reject.reason), ..reject })?;
            if at + 1 < self.names.len() {
                push_varint(&mut self.bytes, text.len() as u64);
            }
            self.bytes.extend_from_slice(&text);
        }
        Ok(self.key())
    }

    /// The key from a message key that must be an object, bare or in a schema wrapper.
    pub(super) fn of_object(&mut self, text: &[u8]) -> Result<Key, Reject> {
        match self.read(text).map_err(not_json)? {
            (Value::Object(_), values) => self.of_values(&values, Some(Reason::MissingKey)),
            _ => Err(Reject { reason: Reason::MissingKey, ..not_an_object("the message key") }),
        }
    }

    /// The key from a message key that may also be a bare text or integer.
    pub(super) fn of_any(&mut self, text: &[u8]) -> Result<Key, Reject> {
        let single = self.names.len() == 1;
        match self.read(text) {
            Ok((Value::Object(_), values)) => self.of_values(&values, Some(Reason::MissingKey)),
            Ok((value, _)) if single => self.of_values(&[value], Some(Reason::MissingKey)),
            Err(_) if single => self.of_values(&[Value::Plain(text)], Some(Reason::MissingKey)),
            _ => Err(Reject { reason: Reason::MissingKey, ..not_an_object("the message key") }),
        }
    }

    /// The value itself and, of an object, the key fields (of its payload if it is a schema wrapper).
    fn read<'a>(&self, text: &'a [u8]) -> Result<(Value<'a>, Vec<Value<'a>>), json::JsonError> {
        let mut values = vec![Value::Absent; self.names.len()];
        let mut wrapper = [Value::Absent; 1];
        let value = json::read(text, &self.wrapper, &mut wrapper)?;
        if let Value::Object(object) = value {
            let inner = match wrapper {
                [Value::Object(payload)] => payload,
                _ => object,
            };
            json::read_object(inner, &self.fields, &mut values)?;
        }
        Ok((value, values))
    }

    fn key(&self) -> Key {
        Key { hash: row_hash(&self.bytes), text: Text::new(&self.bytes) }
    }
}
