//! From a row's fields to its key and what it contributes.

use std::borrow::Cow;

use storeflow_dataflows::change::Row;
use storeflow_dataflows::key::{Key, Text, push_varint, read_varint};
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
        let key_names: Vec<String> = spec.key.iter().map(ToString::to_string).collect();
        let mut names = key_names.clone();
        let mut add = |name: String| {
            names.push(name.clone());
            (names.len() - 1, name)
        };
        let store = add(spec.store_field());
        let second = spec.currency.as_ref().map(|spec| add(spec.to_string()));
        let member = spec.product.as_ref().map(|spec| add(spec.to_string()));
        let measure = spec.amount.as_ref().or(spec.quantity.as_ref()).map(|spec| add(spec.field.to_string()));
        let time = spec.time.as_ref().map(|time| (add(time.field.to_string()).0, time.clone()));
        let accepted = |texts: &Vec<String>| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let counts_when = spec.counts_when.iter().map(|(field, texts)| (add(field.to_string()).0, accepted(texts))).collect();
        Projection {
            settings: Settings::new(job),
            role: spec.role,
            fields: Fields::new(&names),
            key_count: spec.key.len(),
            key_names,
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
        values::time(values[*at], &spec.unit, spec.field.last()).ok()
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
            Some((at, spec)) => self.settings.horizons.window_of(values::time(values[*at], &spec.unit, spec.field.last())?),
            None => NO_WINDOW,
        };
        let matches = |(at, accepted): &(usize, Vec<Vec<u8>>)| {
            values::comparable(values[*at]).is_some_and(|text| accepted.iter().any(|one| one[..] == *text))
        };
        let unmet = |(at, condition)| if matches(condition) { 0 } else { 1u32 << at };
        let lacks = self.counts_when.iter().enumerate().map(unmet).sum();
        Ok(Row { cell: cell_key(&store, &second, &mut self.scratch), member, window, amount, lacks })
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

/// A row's key, taken apart for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyParts<'a> {
    /// The number of its key space.
    pub space: u32,
    rest: &'a [u8],
}

impl<'a> KeyParts<'a> {
    /// The parts of the bytes of a key; `None` if they are none.
    pub fn of(bytes: &'a [u8]) -> Option<KeyParts<'a>> {
        let (space, rest) = leading_number(bytes)?;
        Some(KeyParts { space: u32::try_from(space).ok()?, rest })
    }

    /// The texts of its fields, if it has so many.
    pub fn texts(&self, fields: usize) -> Option<Vec<String>> {
        let (mut texts, mut rest) = (Vec::new(), self.rest);
        for _ in 1..fields {
            let (length, after) = leading_number(rest)?;
            let (text, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
            texts.push(String::from_utf8_lossy(text).into_owned());
            rest = after;
        }
        texts.push(String::from_utf8_lossy(rest).into_owned());
        Some(texts)
    }
}

fn leading_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let last = bytes.iter().position(|byte| *byte < 0x80).filter(|last| *last < 9)?;
    Some((read_varint(bytes, &mut 0), &bytes[last + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_apart_again() {
        let names = ["site", "id", "line"].map(str::to_owned).to_vec();
        for texts in [vec!["7"], vec!["kr", "x:y"], vec!["", "상점", "12"]] {
            let names = names[..texts.len()].to_vec();
            let (fields, wrapper) = (Fields::new(&names), Fields::new(["payload"]));
            let mut keys = Keys { space: 9_000, fields, wrapper, names, bytes: Vec::new() };
            let values: Vec<Value<'_>> = texts.iter().map(|text| Value::Plain(text.as_bytes())).collect();
            let Ok(key) = keys.of_values(&values, None) else {
                assert!(texts.contains(&""), "{texts:?} is a key");
                continue;
            };
            let parts = KeyParts::of(key.text.as_bytes()).expect("a key");
            assert_eq!((parts.space, parts.texts(texts.len())), (9_000, Some(texts.iter().map(|&t| t.to_owned()).collect())));
        }
        for bytes in [&[][..], &[0x80], &[0xff; 12]] {
            assert_eq!(KeyParts::of(bytes), None);
        }
        assert_eq!(KeyParts::of(&[5, 200]).and_then(|parts| parts.texts(2)), None, "a length without its text");
    }
}
