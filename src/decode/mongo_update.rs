//! What an update of a MongoDB document says of the needed fields, where the document itself was not sent.
//!
//! Upholds: of names that fit, the longest counts, and of equally long ones what was written before what was removed. What no
//! name fits is unsaid.

use super::json::{self, Value};
use super::paths::{Paths, Texts};
use super::{Reason, Reject};

/// The paths of the needed fields, to be held against the names in update descriptions.
pub(super) struct Updates {
    paths: Vec<Tails>,
}

/// A path, and how it goes on behind each of its beginnings.
struct Tails {
    names: Vec<String>,
    /// Behind the first name, behind the first two, …, all but the whole path.
    tails: Vec<Paths>,
}

impl Updates {
    /// For these paths; the position of a path is that of its value.
    pub(super) fn new<'p>(paths: impl IntoIterator<Item = &'p [String]>) -> Self {
        let tails = |names: &[String]| (1..names.len()).map(|from| Paths::of_names(&names[from..])).collect();
        Updates { paths: paths.into_iter().map(|names| Tails { names: names.to_vec(), tails: tails(names) }).collect() }
    }

    /// The values of the needed fields by `updatedFields` (an object, or the text of one) and `removedFields` (an array); each
    /// may be null.
    ///
    /// # Errors
    /// If one of them is something else.
    pub(super) fn read<'a>(
        &self,
        updated: Value<'a>,
        removed: Value<'a>,
        values: &mut [Value<'a>],
        texts: &'a Texts,
    ) -> Result<(), Reject> {
        if !matches!(removed, Value::Absent | Value::Null | Value::Array(_)) {
            return Err(Reject::new(Reason::MissingRow, "\"removedFields\" of the update is no list"));
        }
        let is_null = matches!(updated, Value::Absent | Value::Null);
        let updated = texts.object(updated);
        if updated.is_none() && !is_null {
            return Err(Reject::new(Reason::MissingRow, "\"updatedFields\" of the update is no object"));
        }
        for (path, value) in self.paths.iter().zip(values) {
            let (mut longest, mut found) = (0, Value::Unsaid);
            if let Value::Array(names) = removed {
                for name in json::items(names) {
                    if let Some(length) = path.fits(name).filter(|length| *length > longest) {
                        (longest, found) = (length, Value::Null);
                    }
                }
            }
            for (name, its) in updated.into_iter().flat_map(json::members) {
                if let Some(length) = path.fits(name).filter(|length| *length >= longest) {
                    (longest, found) = (length, path.within(its, length, texts));
                }
            }
            *value = found;
        }
        Ok(())
    }
}

impl Tails {
    /// How many names of the path a dotted name is, if it is the path or its beginning.
    fn fits(&self, dotted: Value<'_>) -> Option<usize> {
        let mut length = 0;
        let owned;
        let text = match dotted {
            Value::Plain(text) => text,
            Value::Escaped(text) => {
                owned = json::unescape(text);
                &owned[..]
            }
            _ => return None,
        };
        for name in text.split(|byte| *byte == b'.') {
            if self.names.get(length)?.as_bytes() != name {
                return None;
            }
            length += 1;
        }
        Some(length)
    }

    /// The value of the rest of the path, behind its first names.
    fn within<'a>(&self, value: Value<'a>, length: usize, texts: &'a Texts) -> Value<'a> {
        match self.tails.get(length - 1) {
            None => value,
            Some(tail) => {
                let mut found = [Value::Absent];
                if let Some(object) = texts.object(value)
                    && json::read_object(object, tail.fields(), &mut found).is_ok()
                {
                    tail.descend(&mut found, texts, false);
                }
                found[0]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, updated: &str, removed: &str) -> String {
        let names: Vec<String> = path.split('/').map(str::to_owned).collect();
        let texts = Texts::default();
        let parse = |text: &'static str| json::read(text.as_bytes(), &json::Fields::default(), &mut []).expect("JSON");
        let (updated, removed) = (updated.to_owned().leak(), removed.to_owned().leak());
        let mut values = [Value::Absent];
        Updates::new([&names[..]]).read(parse(updated), parse(removed), &mut values, &texts).expect("a description");
        match values[0] {
            Value::Number(text) => String::from_utf8_lossy(text).into_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_longest_name_that_fits_says_it() {
        for (path, updated, removed, expected) in [
            ("a", r#"{"a":1}"#, "null", "1"),
            ("a", r#""{\"a\":1}""#, "[]", "1"),
            ("a", r#"{"b":1}"#, "[]", "Unsaid"),
            ("a/b", r#"{"a":{"b":2}}"#, "[]", "2"),
            ("a/b", r#"{"a.b":3}"#, "[]", "3"),
            ("a/b", r#"{"a.b":3,"a":{"b":2}}"#, "[]", "3"),
            ("a/b", r#"{"a":{"c":2}}"#, "[]", "Absent"),
            ("a/b", r#"{"a":7}"#, "[]", "Absent"),
            ("a/b", r#"{"a.b.c":7}"#, "[]", "Unsaid"),
            ("a/b/c", r#"{"a.b":{"c":7}}"#, "[]", "7"),
            ("a/b", r#"{"x":1}"#, r#"["a"]"#, "Null"),
            ("a/b", r#"{"x":1}"#, r#"["a.b"]"#, "Null"),
            ("a/b", r#"{"x":1}"#, r#"["a.b.c","a.c","b"]"#, "Unsaid"),
            ("a/b", r#"{"a":{"b":2}}"#, r#"["a.b"]"#, "Null"),
            ("a", r#"{"a":1}"#, r#"["a"]"#, "1"),
            ("a", r#"{"a":1,"\u0061":2}"#, "[]", "2"),
            ("a", "null", "[]", "Unsaid"),
            ("a.b", r#"{"a.b":1}"#, "[]", "Unsaid"),
        ] {
            assert_eq!(read(path, updated, removed), expected, "{path} in {updated} and {removed}");
        }
    }
}
