//! Where the needed values of a row are: names of its own fields, and paths that lead into objects.
//!
//! ```text
//! id, payload.geo.store, payload.kind ──► names: id, payload, payload    one walk of the row, as if no path went on
//!                                         below payload: geo.store, kind ──► names: geo, kind   one of each object a path goes into
//! ```
//!
//! Upholds: of equal names the last counts at every level, as the deeper walk reads the object that counted; a path through
//! what is no object is absent. Text within a string is read as JSON only where a path goes on below it.
//! Keeps: nothing. Text that only a record's strings hold when their escapes are gone lives in its [`Texts`].

use std::cell::OnceCell;

use super::json::{self, Fields, Value};
use crate::config::field_path::FieldPath;

/// How many different fields a source can need.
pub const FIELDS_MAX: usize = 32;

/// What Debezium writes in the place of a large value that did not change, as text and as bytes.
const PLACEHOLDERS: [&[u8]; 2] = [b"__debezium_unavailable_value", b"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="];

/// Whether text stands for a large value that did not change.
#[inline]
pub(super) fn is_placeholder(text: &[u8]) -> bool {
    (text.len() == PLACEHOLDERS[0].len() || text.len() == PLACEHOLDERS[1].len()) && PLACEHOLDERS.contains(&text)
}

/// The needed fields of a row. The position of a path is that of its value.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    heads: Vec<String>,
    fields: Fields,
    below: Vec<Below>,
}

/// Paths that begin with one name and go on.
#[derive(Clone, Debug)]
struct Below {
    slots: Vec<usize>,
    tails: Paths,
}

impl Paths {
    /// At most [`FIELDS_MAX`] paths.
    pub(super) fn new<'p>(paths: impl IntoIterator<Item = &'p FieldPath>) -> Self {
        let paths: Vec<&[String]> = paths.into_iter().map(FieldPath::names).collect();
        Paths::of(&paths)
    }

    /// Several paths, each by its names.
    pub(super) fn of_all_names(paths: &[Vec<String>]) -> Self {
        Paths::of(&paths.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// One path, by its names.
    pub(super) fn of_names(names: &[String]) -> Self {
        Paths::of(&[names])
    }

    fn of(paths: &[&[String]]) -> Self {
        assert!(paths.len() <= FIELDS_MAX, "a source needs at most {FIELDS_MAX} fields");
        let heads: Vec<String> = paths.iter().map(|path| path[0].clone()).collect();
        let mut below: Vec<Below> = Vec::new();
        for (at, head) in heads.iter().enumerate() {
            if paths[at].len() > 1 && !below.iter().any(|below| heads[below.slots[0]] == *head) {
                let slots: Vec<usize> =
                    (at..paths.len()).filter(|&other| heads[other] == *head && paths[other].len() > 1).collect();
                let tails: Vec<&[String]> = slots.iter().map(|&slot| &paths[slot][1..]).collect();
                below.push(Below { tails: Paths::of(&tails), slots });
            }
        }
        Paths { fields: Fields::new(&heads), heads, below }
    }

    /// Number of paths.
    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    /// The first name of each path, to be looked for in the row; [`Paths::descend`] makes the values those of the paths.
    pub(super) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The first names, for who looks for more at the same time.
    pub(super) fn heads(&self) -> &[String] {
        &self.heads
    }

    /// Goes on from the values of the first names to those of the whole paths. With `placeholders`, what Debezium did not send
    /// is unsaid, and so is what would be within it.
    #[inline]
    pub(super) fn descend<'a>(&self, values: &mut [Value<'a>], texts: &'a Texts, placeholders: bool) {
        if placeholders {
            for value in values.iter_mut() {
                if matches!(value, Value::Plain(text) if is_placeholder(text)) {
                    *value = Value::Unsaid;
                }
            }
        }
        if !self.below.is_empty() {
            self.descend_below(values, texts, placeholders);
        }
    }

    fn descend_below<'a>(&self, values: &mut [Value<'a>], texts: &'a Texts, placeholders: bool) {
        for Below { slots, tails } in &self.below {
            let mut found = [Value::Absent; FIELDS_MAX];
            let found = &mut found[..slots.len()];
            let head = values[slots[0]];
            match texts.object(head) {
                Some(object) if json::read_object(object, &tails.fields, found).is_ok() => {
                    tails.descend(found, texts, placeholders);
                }
                _ => found.fill(if head == Value::Unsaid { Value::Unsaid } else { Value::Absent }),
            }
            for (slot, value) in slots.iter().zip(found) {
                values[*slot] = *value;
            }
        }
    }
}

/// Texts of one record that it does not hold as they are: strings without their escapes. Nothing is allocated until there is one.
#[derive(Default)]
pub(super) struct Texts(OnceCell<Box<(Vec<u8>, Texts)>>);

impl Texts {
    /// Keeps text as long as the record.
    pub(super) fn keep(&self, text: Vec<u8>) -> &[u8] {
        let mut last = self;
        while let Some(next) = last.0.get() {
            last = &next.1;
        }
        &last.0.get_or_init(|| Box::new((text, Texts::default()))).0
    }

    /// The text of a string; `None` of anything else.
    pub(super) fn string<'a>(&'a self, value: Value<'a>) -> Option<&'a [u8]> {
        match value {
            Value::Plain(text) => Some(text),
            Value::Escaped(text) => Some(self.keep(json::unescape(text))),
            _ => None,
        }
    }

    /// The object that a value is, or that the text of a string is.
    pub(super) fn object<'a>(&'a self, value: Value<'a>) -> Option<&'a [u8]> {
        match self.value(value) {
            Some(Value::Object(object)) => Some(object),
            _ => None,
        }
    }

    /// The value that a value is, or that the text of a string is (once); `None` of text that is no JSON.
    pub(super) fn value<'a>(&'a self, value: Value<'a>) -> Option<Value<'a>> {
        match self.string(value) {
            Some(text) => json::read(text, &Fields::default(), &mut []).ok(),
            None => Some(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(paths: &[&str], row: &str, placeholders: bool) -> Vec<String> {
        let paths: Vec<FieldPath> = paths.iter().map(|path| FieldPath::parse(path).expect("a path")).collect();
        let paths = Paths::new(&paths);
        let (texts, mut values) = (Texts::default(), vec![Value::Absent; paths.len()]);
        json::read(row.as_bytes(), paths.fields(), &mut values).expect("JSON");
        paths.descend(&mut values, &texts, placeholders);
        values.into_iter().map(shown).collect()
    }

    fn shown(value: Value<'_>) -> String {
        match value {
            Value::Absent => "absent".to_owned(),
            Value::Unsaid => "unsaid".to_owned(),
            Value::Null => "null".to_owned(),
            Value::Bool(text) | Value::Number(text) | Value::Object(text) | Value::Array(text) => {
                String::from_utf8_lossy(text).into_owned()
            }
            Value::Plain(text) => format!("\"{}\"", String::from_utf8_lossy(text)),
            Value::Escaped(text) => format!("\"{}\"", String::from_utf8_lossy(&json::unescape(text))),
        }
    }

    #[test]
    fn paths_lead_into_objects_and_into_json_within_strings() {
        let row = r#"{"id":1,"p":{"geo":{"store":"s","geo":2},"kind":true},"t":"{\"a\":{\"b\":\"x\\\"y\"}}","e":"{}","n":null}"#;
        for (path, expected) in [
            ("id", "1"),
            ("p.geo.store", "\"s\""),
            ("p.geo.geo", "2"),
            ("p.kind", "true"),
            ("p.geo", r#"{"store":"s","geo":2}"#),
            ("p.none", "absent"),
            ("p.kind.deeper", "absent"),
            ("id.deeper", "absent"),
            ("n.deeper", "absent"),
            ("t.a.b", "\"x\"y\""),
            ("t.a", r#"{"b":"x\"y"}"#),
            ("e.a", "absent"),
        ] {
            assert_eq!(read(&[path], row, false), [expected], "{path}");
        }
        assert_eq!(read(&["p.kind", "id", "p.geo.store", "p"], row, false)[..3], ["true", "1", "\"s\""]);
    }

    #[test]
    fn the_last_of_equal_names_counts_at_every_level() {
        let row = r#"{"p":{"a":{"x":1}},"p":{"a":{"x":2,"y":1},"a":{"x":3}}}"#;
        assert_eq!(read(&["p.a.x", "p.a.y"], row, false), ["3", "absent"]);
        assert_eq!(read(&["p.a.x"], r#"{"p":{"a":{"x":1}},"p":null}"#, false), ["absent"]);
    }

    #[test]
    fn what_debezium_did_not_send_is_unsaid_and_so_is_what_is_within() {
        let row = r#"{"a":"__debezium_unavailable_value","b":"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==","c":"__debezium_unavailable_valuE",
            "d":{"e":"__debezium_unavailable_value"}}"#;
        let paths = ["a", "a.x.y", "b", "c", "d.e", "d.f"];
        let expected = ["unsaid", "unsaid", "unsaid", "\"__debezium_unavailable_valuE\"", "unsaid", "absent"];
        assert_eq!(read(&paths, row, true), expected);
        assert_eq!(read(&["a"], row, false), ["\"__debezium_unavailable_value\""]);
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("c\"d".to_owned())]
    }

    /// Objects of objects, now and then as text within a string.
    fn row() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![any::<i32>().prop_map(serde_json::Value::from), Just(serde_json::Value::Null)];
        let object = |members| serde_json::Value::Object(serde_json::Map::from_iter(members));
        let row = leaf.prop_recursive(4, 24, 4, move |inner| {
            (proptest::collection::vec((name(), inner), 0..4), any::<bool>()).prop_map(move |(members, text)| {
                let value = object(members);
                if text { serde_json::Value::String(value.to_string()) } else { value }
            })
        });
        row.prop_map(|row| serde_json::json!({ "a": row.clone(), "b": row }))
    }

    proptest! {
        #[test]
        fn paths_lead_where_a_parsed_row_says(row in row(), path in proptest::collection::vec(name(), 1..5)) {
            let mut expected = Some(row.clone());
            for name in &path {
                let parsed = match expected {
                    Some(serde_json::Value::String(text)) => serde_json::from_str(&text).ok(),
                    other => other,
                };
                expected = parsed.and_then(|value| value.get(name).cloned());
            }
            let written: Vec<String> = path.iter().map(|name| format!("\"{}\"", name.replace('"', "\\\""))).collect();
            let found = read(&[&written.join("."), "b"], &row.to_string(), false);
            let expected = match expected {
                None => "absent".to_owned(),
                Some(serde_json::Value::String(text)) => format!("\"{text}\""),
                Some(value) => value.to_string(),
            };
            prop_assert_eq!(&found[0], &expected);
        }
    }
}
