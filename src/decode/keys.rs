//! Row keys: made of a message key or of a row, and taken apart for people.
//!
//! ```text
//! beginning of the key space, then each field's text, all but the last with its length before it
//! ```
//!
//! Upholds: these bytes are in checkpoints and do not change. Keeps: scratch space, and the schemas of message keys.

use storeflow_dataflows::change::Version;
use storeflow_dataflows::key::{Key, Text, push_varint, read_varint};

use super::json::{Fields, JsonError, Value};
use super::paths::{FIELDS_MAX, Paths, Texts};
use super::project::{Hints, ROOM};
use super::schema::{Schemas, WRAPPER, Wrapper};
use super::space::Space;
use super::{Decoded, Reason, Reject, extended_json, not_an_object, not_json, row_hash, values};
use crate::config::{Job, SourceSpec};

/// Reads row keys, from a message key or from a row.
pub(super) struct Keys {
    writer: Writer,
    paths: Paths,
    /// The first names of the key fields, and the wrapper's.
    fields: Fields,
    document: Fields,
    schemas: Schemas,
}

struct Writer {
    space: Space,
    names: Vec<String>,
    bytes: Vec<u8>,
    part: Vec<u8>,
}

impl Keys {
    /// Of a source's rows in one of its topics; `key_space` is that of [`super::Decoder::new`].
    pub(super) fn new(job: &Job, spec: &SourceSpec, topic: &str, key_space: u32) -> Self {
        let paths = Paths::new(&spec.key);
        let heads = paths.heads().iter().map(String::as_str);
        Keys {
            writer: Writer {
                space: Space::own(job, spec, topic, key_space),
                names: spec.key.iter().map(ToString::to_string).collect(),
                bytes: Vec::new(),
                part: Vec::new(),
            },
            fields: Fields::new(heads.chain(WRAPPER)),
            document: Fields::new(["id"].into_iter().chain(WRAPPER)),
            schemas: Schemas::new(spec.key.iter().map(|path| path.names().to_vec()), Wrapper::ByPayload),
            paths,
        }
    }

    /// The key from the values of its fields.
    ///
    /// # Errors
    /// If one of them is no id, or is unsaid.
    pub(super) fn of_values(&mut self, values: &[Value<'_>], hints: Hints<'_>) -> Result<Key, Reject> {
        self.writer.write(values, hints)
    }

    /// The old key of a row whose key fields are `new` now and were `old`, as far as `old` has them and they are not null. `None` if it is
    /// the same.
    ///
    /// # Errors
    /// If a value is no id.
    pub(super) fn moved(
        &mut self,
        key: &Key,
        old: &[Value<'_>],
        new: &[Value<'_>],
        hints: Hints<'_>,
    ) -> Result<Option<Key>, Reject> {
        let mut values = ROOM;
        for (value, (old, new)) in values.iter_mut().zip(old.iter().zip(new)) {
            *value = if matches!(old, Value::Absent | Value::Null | Value::Unsaid) { *new } else { *old };
        }
        let old = self.writer.write(&values[..new.len()], hints)?;
        Ok(Some(old).filter(|old| old != key))
    }

    /// The key of a source with one key field, by its value, whatever the field is called.
    ///
    /// # Errors
    /// If the source has several, or the value is no id.
    pub(super) fn of_one(&mut self, value: Value<'_>, hints: Hints<'_>) -> Result<Key, Reject> {
        if self.writer.names.len() != 1 {
            return Err(Reject::new(Reason::MissingKey, "a document has one key, but the source has several key fields"));
        }
        self.writer.write(&[value], hints).map_err(missing_key)
    }

    /// The key from a message key that must be an object, bare or in a schema wrapper.
    ///
    /// # Errors
    /// If it is none, or does not hold the key.
    pub(super) fn of_object(&mut self, text: &[u8]) -> Result<Key, Reject> {
        let texts = Texts::default();
        let key = self.of_message(text, &texts).map_err(no_json_key)?;
        key.unwrap_or_else(|_| Err(not_an_object_key()))
    }

    /// The key from a message key that may also be a bare text or integer.
    ///
    /// # Errors
    /// If it is none, or does not hold the key.
    pub(super) fn of_any(&mut self, text: &[u8]) -> Result<Key, Reject> {
        let single = self.writer.names.len() == 1;
        let texts = Texts::default();
        let value = match self.of_message(text, &texts) {
            Ok(Ok(key)) => return key,
            Ok(Err(value)) if single => value,
            Err(_) if single => Value::Plain(text),
            _ => return Err(not_an_object_key()),
        };
        self.writer.write(&[value], Hints::None).map_err(missing_key)
    }

    /// The key from the message key of Debezium's MongoDB connector: `id` of an object, bare or in a schema wrapper.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn of_document(&mut self, text: &[u8]) -> Result<Key, Reject> {
        let (texts, mut values) = (Texts::default(), [Value::Absent; 3]);
        let (_, _) = self.schemas.read(text, &self.document, &mut values, &mut []).map_err(no_json_key)?;
        self.of_one(extended_json::in_text(values[0], &texts), Hints::Extended)
    }

    /// The key in a message key that is an object; of anything else its value.
    fn of_message<'a>(&mut self, text: &'a [u8], texts: &'a Texts) -> Result<Result<Result<Key, Reject>, Value<'a>>, JsonError> {
        let mut values = [Value::Absent; FIELDS_MAX + WRAPPER.len()];
        let values = &mut values[..self.fields.len()];
        let (value, hints) = self.schemas.read(text, &self.fields, values, &mut [])?;
        if !matches!(value, Value::Object(_)) {
            return Ok(Err(value));
        }
        let values = &mut values[..self.paths.len()];
        self.paths.descend(values, texts, false);
        Ok(Ok(self.writer.write(values, Hints::Schema(hints)).map_err(missing_key)))
    }

    /// That the table was emptied, or why that has no effect.
    pub(super) fn truncate(&self, version: Option<Version>) -> Decoded {
        self.writer.space.truncate(version)
    }
}

impl Writer {
    fn write(&mut self, values: &[Value<'_>], hints: Hints<'_>) -> Result<Key, Reject> {
        self.bytes.clear();
        self.bytes.extend_from_slice(self.space.beginning());
        for (at, name) in self.names.iter().enumerate() {
            let (value, hint) = hints.of(values, at);
            self.part.clear();
            values::push_id(value, hint, name, &mut self.part)?;
            push_part(&mut self.bytes, &self.part, at + 1 == self.names.len());
        }
        Ok(Key { hash: row_hash(&self.bytes), text: Text::new(&self.bytes) })
    }
}

/// Appends a part of a key; all but the last have their length before them.
pub(super) fn push_part(out: &mut Vec<u8>, part: &[u8], last: bool) {
    if !last {
        push_varint(out, part.len() as u64);
    }
    out.extend_from_slice(part);
}

#[cold]
fn no_json_key(error: JsonError) -> Reject {
    missing_key(not_json(error))
}

#[cold]
fn not_an_object_key() -> Reject {
    Reject { reason: Reason::MissingKey, ..not_an_object("the message key") }
}

#[cold]
fn missing_key(reject: Reject) -> Reject {
    Reject::new(Reason::MissingKey, format!("in the message key: {}", reject.detail))
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
        texts(self.rest, fields)
    }
}

/// The texts of a key's fields, if it has so many; `rest` is what follows the beginning of the key space.
pub(crate) fn texts(mut rest: &[u8], fields: usize) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    for _ in 1..fields {
        let (length, after) = leading_number(rest)?;
        let (text, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
        texts.push(String::from_utf8_lossy(text).into_owned());
        rest = after;
    }
    texts.push(String::from_utf8_lossy(rest).into_owned());
    Some(texts)
}

fn leading_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let last = bytes.iter().position(|byte| *byte < 0x80).filter(|last| *last < 9)?;
    Some((read_varint(bytes, &mut 0), &bytes[last + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::field_path::FieldPath;
    use crate::config::{Format, Role};
    use crate::decode::testing::job_of;

    fn keys(names: &[&str], space: u32) -> Keys {
        let mut spec = SourceSpec::plain("t", Role::Products, Format::Upsert, "store");
        spec.key = names.iter().map(|name| FieldPath::parse(name).expect("a path")).collect();
        Keys::new(&job_of(spec.clone()), &spec, "t", space)
    }

    #[test]
    fn a_key_comes_apart_again() {
        for texts in [vec!["7"], vec!["kr", "x:y"], vec!["", "상점", "12"]] {
            let mut keys = keys(&["site", "id", "line"][..texts.len()], 9_000);
            let values: Vec<Value<'_>> = texts.iter().map(|text| Value::Plain(text.as_bytes())).collect();
            let Ok(key) = keys.of_values(&values, Hints::None) else {
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

    #[test]
    fn message_keys_of_every_kind_are_the_rows_key() {
        let mut keys = keys(&["id"], 8);
        let of_row = keys.of_values(&[Value::Number(b"7")], Hints::None).expect("a key");
        assert_eq!(of_row.text.as_bytes(), b"7", "the bytes are in checkpoints");
        let unsigned = r#"{"schema":{"type":"struct","fields":[{"type":"bytes","optional":false,
            "name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"0"},"field":"id"}]},"payload":{"id":"Bw=="}}"#;
        for text in
            [r#"{"id":7}"#, r#"{"x":1,"id":"7"}"#, r#"{"schema":{},"payload":{"id":7}}"#, r#"{"payload":{"id":7}}"#, unsigned]
        {
            assert_eq!(keys.of_object(text.as_bytes()).as_ref(), Ok(&of_row), "{text}");
            assert_eq!(keys.of_any(text.as_bytes()).as_ref(), Ok(&of_row), "{text}");
        }
        for text in ["7", "\"7\"", "\"\\u0037\""] {
            assert_eq!(keys.of_any(text.as_bytes()).as_ref(), Ok(&of_row), "{text}");
            assert_eq!(keys.of_object(text.as_bytes()).map_err(|reject| reject.reason), Err(Reason::MissingKey), "{text}");
        }
        let raw = keys.of_any(b"****").expect("a key");
        assert_eq!(raw.text.as_bytes(), b"****");
        for text in ["{}", r#"{"id":null}"#, r#"{"id":""}"#, r#"{"payload":null}"#, "null", "", "[]"] {
            assert_eq!(keys.of_any(text.as_bytes()).map_err(|reject| reject.reason), Err(Reason::MissingKey), "{text}");
        }
        assert_eq!(keys.of_object(b"{").map_err(|reject| reject.reason), Err(Reason::MissingKey));
    }

    #[test]
    fn keys_lie_as_deep_as_their_paths_say() {
        let mut keys = keys(&["k.site", "k.id"], 8);
        let key = keys.of_object(br#"{"k":{"site":"kr","id":7}}"#).expect("a key");
        assert_eq!(key.text.as_bytes(), b"kr7");
        assert!(keys.of_any(b"7").is_err(), "one value is not two");
    }

    #[test]
    fn documents_have_one_key() {
        let mut keys = keys(&["_id"], 8);
        for (text, id) in [
            (r#"{"id":"1234"}"#, "1234"),
            (r#"{"id":1234}"#, "1234"),
            (r#"{"id":"\"a\""}"#, "a"),
            (r#"{"id":"plain"}"#, "plain"),
            (r#"{"id":"{\"$oid\": \"66f0\"}"}"#, "66f0"),
            (r#"{"schema":{},"payload":{"id":"{\"$numberLong\":\"5\"}"}}"#, "5"),
        ] {
            let key = keys.of_document(text.as_bytes()).expect(text);
            assert_eq!(key.text.as_bytes(), [b"", id.as_bytes()].concat(), "{text}");
        }
        for text in [r#"{"_id":"1"}"#, "5", r#"{"id":"{\"a\":1}"}"#] {
            assert_eq!(keys.of_document(text.as_bytes()).map_err(|reject| reject.reason), Err(Reason::MissingKey), "{text}");
        }
    }

    #[test]
    fn a_row_moved_if_its_old_key_is_another() {
        let mut keys = keys(&["site", "id"], 8);
        let new = [Value::Plain(b"kr"), Value::Number(b"7")];
        let key = keys.of_values(&new, Hints::None).expect("a key");
        for (old, expected) in [
            ([Value::Absent, Value::Number(b"6")], Some(&b"kr6"[..])),
            ([Value::Plain(b"jp"), Value::Null], Some(b"jp7")),
            ([Value::Absent, Value::Plain(b"7")], None),
            ([Value::Absent, Value::Absent], None),
        ] {
            let moved = keys.moved(&key, &old, &new, Hints::None).expect("keys");
            assert_eq!(moved.as_ref().map(|key| key.text.as_bytes()), expected);
        }
    }
}
