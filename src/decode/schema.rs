//! Kafka Connect's schema wrapper: `{"schema":{…},"payload":{…}}`.
//!
//! ```text
//! {"schema": S ,"payload": P }
//!            │             └─ read at once, if S is known
//!            └─ compared byte by byte with the schemas seen last; only a new one is read, for what it says of the needed fields
//! ```
//!
//! Upholds: what is skipped has been checked before: bytes that begin with a known schema, which is one whole object, hold that
//! schema and nothing else. A wrapper of any other form (white space, another order, members twice) is walked as all JSON is.
//! Keeps: the few schemas seen last. Absent on purpose: a hash; the schemas of a topic are few, and compare at memory speed.

use super::json::{self, Fields, Inner, JsonError, Value};
use super::values::{Clock, Hint, integer};

/// Schemas that are known at a time; a topic has one, or as many as it has tables.
const KNOWN: usize = 16;

const BEFORE_SCHEMA: &[u8] = b"{\"schema\":";
const BEFORE_PAYLOAD: &[u8] = b",\"payload\":";

/// The names of a wrapper's members, which [`Schemas::read`] expects as the last ones.
pub(super) const WRAPPER: [&str; 2] = ["payload", "schema"];

/// When a value is a wrapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapper {
    /// If it has a `payload` that is an object or null.
    ByPayload,
    /// If it has a `schema` besides: a row may have a column of the other name.
    ByBoth,
}

/// What schemas say of the needed fields.
pub(super) struct Schemas {
    paths: Vec<Vec<String>>,
    wrapper: Wrapper,
    /// The one seen last first.
    known: Vec<Known>,
    /// Values come bare, and this is known of them.
    told: Option<Vec<Hint>>,
}

struct Known {
    text: Vec<u8>,
    hints: Vec<Hint>,
}

impl Schemas {
    /// For values of these fields of the payload; the position of a path is that of its hint.
    pub(super) fn new(paths: impl IntoIterator<Item = Vec<String>>, wrapper: Wrapper) -> Self {
        Schemas { paths: paths.into_iter().collect(), wrapper, known: Vec::new(), told: None }
    }

    /// From now on no value is a wrapper: what is known of the fields is what is written here before each.
    pub(super) fn told(&mut self) -> &mut [Hint] {
        let fields = self.paths.len();
        self.told.get_or_insert_with(|| vec![Hint::Unknown; fields])
    }

    /// Reads a value, or what is in its wrapper: null, an object whose wanted fields go to `out`, or anything else; and what the schema
    /// says, if there is one. The last two of `fields` are [`WRAPPER`].
    ///
    /// # Errors
    /// If `text` is not one JSON value.
    #[inline]
    pub(super) fn read<'s, 'a>(
        &'s mut self,
        text: &'a [u8],
        fields: &Fields,
        out: &mut [Value<'a>],
        inner: &mut [Inner<'_, '_, 'a>],
    ) -> Result<(Value<'a>, &'s [Hint]), JsonError> {
        if self.told.is_some() {
            let value = json::read_both(text, fields, out, inner)?;
            return Ok((value, self.told.as_deref().unwrap_or_default()));
        }
        if let Some(at) = self.skip(text)
            && let Ok(payload @ (Value::Object(_) | Value::Null)) = json::read_last(text, at, fields, out, inner)
        {
            return Ok((payload, &self.known[0].hints));
        }
        let value = json::read_both(text, fields, out, inner)?;
        let [.., payload, schema] = *out else { return Ok((value, &[])) };
        let wrapped = self.wrapper == Wrapper::ByPayload || schema != Value::Absent;
        match (value, payload) {
            (Value::Object(_), Value::Object(object)) if wrapped => {
                json::read_both(object, fields, out, inner)?;
                Ok((payload, self.hints(schema)))
            }
            (Value::Object(_), Value::Null) if wrapped => Ok((Value::Null, &[])),
            _ => Ok((value, &[])),
        }
    }

    /// Where the payload of a wrapper begins whose schema is known; that schema is then the first.
    #[inline]
    fn skip(&mut self, text: &[u8]) -> Option<usize> {
        let rest = text.strip_prefix(BEFORE_SCHEMA)?;
        let at = self.known.iter().position(|known| rest.starts_with(&known.text))?;
        let schema = self.known[at].text.len();
        if !rest[schema..].starts_with(BEFORE_PAYLOAD) {
            return None;
        }
        self.known[..=at].rotate_right(1);
        Some(BEFORE_SCHEMA.len() + schema + BEFORE_PAYLOAD.len())
    }

    fn hints(&mut self, schema: Value<'_>) -> &[Hint] {
        let Value::Object(text) = schema else { return &[] };
        let at = match self.known.iter().position(|known| known.text == text) {
            Some(at) => at,
            None => {
                let hints = self.paths.iter().map(|path| hint_at(schema, path)).collect();
                self.known.truncate(KNOWN - 1);
                self.known.push(Known { text: text.to_vec(), hints });
                self.known.len() - 1
            }
        };
        self.known[..=at].rotate_right(1);
        &self.known[0].hints
    }
}

/// What a schema says of the field that a path leads to.
fn hint_at(schema: Value<'_>, path: &[String]) -> Hint {
    let Value::Object(object) = schema else { return Hint::Unknown };
    let Some((name, rest)) = path.split_first() else { return hint_of(object) };
    let Value::Array(fields) = json::member(object, b"fields") else { return Hint::Unknown };
    let named = |field: &Value<'_>| match field {
        Value::Object(field) => json::is_named(json::member(field, b"field"), name.as_bytes()),
        _ => false,
    };
    json::items(fields).filter(named).last().map_or(Hint::Unknown, |field| hint_at(field, rest))
}

/// What a field's schema says of its values.
fn hint_of(schema: &[u8]) -> Hint {
    let is = |member: &str, texts: &[&str]| {
        let value = json::member(schema, member.as_bytes());
        texts.iter().any(|text| json::is_named(value, text.as_bytes()))
    };
    let scale = || {
        let Value::Object(parameters) = json::member(schema, b"parameters") else { return None };
        match json::member(parameters, b"scale") {
            Value::Plain(text) | Value::Number(text) => integer(text).and_then(|scale| i32::try_from(scale).ok()),
            _ => None,
        }
    };
    if is("name", &["org.apache.kafka.connect.data.Decimal"]) {
        return scale().map_or(Hint::Unknown, Hint::Decimal);
    }
    let times = [
        (Clock::Days, &["io.debezium.time.Date", "org.apache.kafka.connect.data.Date"][..]),
        (Clock::Millis, &["io.debezium.time.Timestamp", "org.apache.kafka.connect.data.Timestamp"]),
        (Clock::Micros, &["io.debezium.time.MicroTimestamp"]),
        (Clock::Nanos, &["io.debezium.time.NanoTimestamp"]),
        (Clock::Rfc3339, &["io.debezium.time.ZonedTimestamp", "io.debezium.time.IsoTimestamp"]),
        (Clock::IsoDate, &["io.debezium.time.IsoDate"]),
    ];
    if let Some((clock, _)) = times.iter().find(|(_, names)| is("name", names)) {
        return Hint::Time(*clock);
    }
    if is("type", &["float", "double", "float32", "float64"]) { Hint::Float } else { Hint::Unknown }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCHEMA: &str = r#"{"type":"struct","fields":[
        {"type":"struct","field":"after","fields":[{"type":"int64","field":"id"},
            {"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"},"field":"amount"},
            {"type":"int64","name":"io.debezium.time.MicroTimestamp","field":"at"},
            {"type":"double","field":"rate"},{"type":"struct","field":"geo","fields":[{"type":"float32","field":"x"}]}]},
        {"type":"string","field":"op"}]}"#;

    fn paths(paths: &[&str]) -> Vec<Vec<String>> {
        paths.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect()
    }

    #[test]
    fn a_schema_says_what_its_fields_are() {
        let schema = json::read(SCHEMA.as_bytes(), &Fields::default(), &mut []).expect("JSON");
        for (path, expected) in [
            ("after.id", Hint::Unknown),
            ("after.amount", Hint::Decimal(2)),
            ("after.at", Hint::Time(Clock::Micros)),
            ("after.rate", Hint::Float),
            ("after.geo.x", Hint::Float),
            ("after.none", Hint::Unknown),
            ("before.id", Hint::Unknown),
            ("op.x", Hint::Unknown),
        ] {
            assert_eq!(hint_at(schema, &paths(&[path])[0]), expected, "{path}");
        }
    }

    #[test]
    fn a_known_schema_is_skipped_and_nothing_else_is() {
        let schema = SCHEMA.replace(['\n', ' '], "");
        let other = schema.replace("\"scale\":\"2\"", "\"scale\":\"3\"");
        let mut schemas = Schemas::new(paths(&["after.amount"]), Wrapper::ByPayload);
        let fields = Fields::new(["op", "payload", "schema"]);
        let mut read = |text: &str| {
            let mut out = [Value::Absent; 3];
            let text = text.to_owned().leak();
            let found = schemas.read(text.as_bytes(), &fields, &mut out, &mut []);
            found.map(|(value, hints)| (value, hints.to_vec(), out[0])).ok()
        };
        for _ in 0..3 {
            for (schema, scale) in [(&schema, 2), (&other, 3)] {
                let payload = Value::Object(b"{\"op\":1}");
                let expected = Some((payload, vec![Hint::Decimal(scale)], Value::Number(b"1")));
                assert_eq!(read(&format!("{{\"schema\":{schema},\"payload\":{{\"op\":1}}}}")), expected);
                assert_eq!(read(&format!(" {{\"schema\":{schema} , \"payload\" : {{\"op\":1}}}} ")), expected);
                assert_eq!(read(&format!("{{\"payload\":{{\"op\":1}},\"schema\":{schema}}}")), expected);
                let twice = format!("{{\"schema\":{schema},\"payload\":{{\"op\":2}},\"payload\":{{\"op\":1}}}}");
                assert_eq!(read(&twice), expected, "the last counts");
                let null = read(&format!("{{\"schema\":{schema},\"payload\":null}}"));
                assert_eq!(null.map(|(value, ..)| value), Some(Value::Null));
                for broken in ["}", "", "},", "}}}", ",}}", "}1"] {
                    assert_eq!(read(&format!("{{\"schema\":{schema},\"payload\":{{\"op\":1{broken}")), None, "{broken}");
                }
            }
        }
        assert_eq!(read("{\"op\":1}"), Some((Value::Object(b"{\"op\":1}"), vec![], Value::Number(b"1"))));
        assert_eq!(read("[]").map(|(value, ..)| value), Some(Value::Array(b"[]")));
    }

    /// What a reader that has seen `known` makes of `text`.
    fn read(known: Option<&str>, text: &[u8]) -> Option<(Vec<u8>, Vec<Hint>)> {
        let mut schemas = Schemas::new(paths(&["after.amount", "after.at"]), Wrapper::ByPayload);
        let fields = Fields::new(["op", "payload", "schema"]);
        if let Some(known) = known {
            let primer = format!("{{\"schema\":{known},\"payload\":{{}}}}");
            schemas.read(primer.as_bytes(), &fields, &mut [Value::Absent; 3], &mut []).expect("JSON");
        }
        let mut out = [Value::Absent; 3];
        let (value, hints) = schemas.read(text, &fields, &mut out, &mut []).ok()?;
        Some((format!("{value:?} {:?}", out[0]).into_bytes(), hints.to_vec()))
    }

    #[test]
    fn nesting_is_bounded_whether_a_schema_is_known_or_not() {
        for depth in [1, 124, 125, 126, 127] {
            let payload = ["{\"k\":".repeat(depth), "1".to_owned(), "}".repeat(depth)].concat();
            let text = format!("{{\"schema\":{{\"a\":1}},\"payload\":{payload}}}");
            assert_eq!(read(None, text.as_bytes()).is_some(), depth < 127, "{depth}");
            assert_eq!(read(Some("{\"a\":1}"), text.as_bytes()).is_some(), depth < 127, "{depth}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        /// Skipping a known schema makes no difference, whatever the bytes are.
        #[test]
        fn what_is_skipped_would_have_been_read_the_same(
            inner in any::<bool>(),
            edits in proptest::collection::vec((any::<u16>(), any::<u8>(), 0u8..3), 0..4),
        ) {
            let schema = if inner { SCHEMA.replace(['\n', ' '], "") } else { "{\"a\":{}}".to_owned() };
            let mut text = format!("{{\"schema\":{schema},\"payload\":{{\"op\":\"c\",\"after\":{{}}}}}}").into_bytes();
            for (at, byte, kind) in edits {
                // More often near the end, where the payload is.
                let at = if at % 2 == 0 { usize::from(at) % (text.len() + 1) } else { text.len() - usize::from(at) % 60.min(text.len()) };
                match kind {
                    0 if at < text.len() => text[at] = byte,
                    1 if at < text.len() => { text.remove(at); }
                    _ => text.insert(at, b"{}[]\",:\\0e- "[usize::from(byte) % 12]),
                }
            }
            prop_assert_eq!(read(Some(&schema), &text), read(None, &text), "{:?}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn many_schemas_are_told_apart() {
        let mut schemas = Schemas::new(paths(&["a"]), Wrapper::ByBoth);
        let fields = Fields::new(WRAPPER);
        for round in 0..3 {
            for scale in 0..KNOWN as i32 + 4 {
                let field = format!(
                    r#"{{"field":"a","name":"org.apache.kafka.connect.data.Decimal","parameters":{{"scale":"{scale}"}}}}"#
                );
                let text = format!(r#"{{"schema":{{"fields":[{field}]}},"payload":{{}}}}"#);
                let mut out = [Value::Absent; 2];
                let (_, hints) = schemas.read(text.as_bytes(), &fields, &mut out, &mut []).expect("JSON");
                assert_eq!(hints, [Hint::Decimal(scale)], "round {round}");
            }
        }
        assert_eq!(schemas.known.len(), KNOWN);
    }

    #[test]
    fn a_row_may_have_a_column_of_the_wrappers_name() {
        let mut schemas = Schemas::new(paths(&["a"]), Wrapper::ByBoth);
        let fields = Fields::new(["a", "payload", "schema"]);
        let mut out = [Value::Absent; 3];
        let text = br#"{"a":1,"payload":{"a":2}}"#;
        let (value, _) = schemas.read(text, &fields, &mut out, &mut []).expect("JSON");
        assert_eq!((value, out[0]), (Value::Object(text), Value::Number(b"1")));
    }
}
