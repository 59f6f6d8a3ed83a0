//! Where in a record a value is, and ids that are composed of several.
//!
//! ```text
//! payload.geo.store.id      a path: names from the outside in; "a.b".id if a name holds a dot
//! {site}/{store_id}         a template: text, what the topic's name captures, and paths
//! ```
//!
//! Upholds: what is written by [`Display`](fmt::Display) reads as itself again.

use std::fmt::{self, Display, Formatter};

/// Names of the fields that lead to a value, from the outside in; at least one, none empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<String>);

impl FieldPath {
    /// A field of the row itself.
    pub fn field(name: impl Into<String>) -> Self {
        FieldPath(vec![name.into()])
    }

    /// Reads a path as job files write it.
    ///
    /// # Errors
    /// What is wrong with it, to follow the path in a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (mut names, mut name, mut chars) = (Vec::new(), String::new(), text.chars().peekable());
        loop {
            if chars.peek() == Some(&'"') {
                chars.next();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => name.extend(chars.next()),
                        Some(c) => name.push(c),
                        None => return Err("has a quote that is not closed"),
                    }
                }
            } else {
                while let Some(&c) = chars.peek() {
                    match c {
                        '.' => break,
                        '"' => return Err("has a quote within a name; put the whole name in quotes"),
                        '{' | '}' => return Err("has a brace, which only a composed id has; put the name in quotes"),
                        c => name.push(c),
                    }
                    chars.next();
                }
            }
            if name.is_empty() {
                return Err("has an empty name");
            }
            names.push(std::mem::take(&mut name));
            match chars.next() {
                None => return Ok(FieldPath(names)),
                Some('.') => {}
                Some(_) => return Err("goes on behind a quoted name; a dot must follow"),
            }
        }
    }

    /// The names.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The last name, by which people know the field.
    pub fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }
}

impl<T: Into<String>> From<T> for FieldPath {
    fn from(name: T) -> Self {
        FieldPath::field(name)
    }
}

impl Display for FieldPath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            if name.contains(['.', '"', '{', '}']) {
                write!(f, "\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))?;
            } else {
                f.write_str(name)?;
            }
        }
        Ok(())
    }
}

/// How an id is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdSpec {
    /// A field's text.
    Field(FieldPath),
    /// Several texts, one after the other: at least one of them a field or captured.
    Composed(Vec<IdPart>),
}

/// A piece of a composed id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdPart {
    /// Itself.
    Text(String),
    /// What the topic's name has in the place of this name.
    Captured(String),
    /// A field's text.
    Field(FieldPath),
}

impl IdSpec {
    /// The fields it is made of, in order.
    pub fn fields(&self) -> Vec<&FieldPath> {
        match self {
            IdSpec::Field(path) => vec![path],
            IdSpec::Composed(parts) => {
                parts.iter().filter_map(|part| if let IdPart::Field(path) = part { Some(path) } else { None }).collect()
            }
        }
    }
}

impl<T: Into<String>> From<T> for IdSpec {
    fn from(name: T) -> Self {
        IdSpec::Field(FieldPath::field(name))
    }
}

impl Display for IdSpec {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            IdSpec::Field(path) => path.fmt(f),
            IdSpec::Composed(parts) => parts.iter().try_for_each(|part| match part {
                IdPart::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
                IdPart::Captured(name) => write!(f, "{{{name}}}"),
                IdPart::Field(path) => write!(f, "{{{path}}}"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_and_write() {
        for (text, names) in [
            ("id", &["id"][..]),
            ("a.b.c", &["a", "b", "c"]),
            (r#""a.b".c"#, &["a.b", "c"]),
            (r#"a."q\"u\\o""#, &["a", "q\"u\\o"]),
            ("상점.아이디", &["상점", "아이디"]),
        ] {
            let path = FieldPath::parse(text).expect(text);
            assert_eq!(path.names(), names, "{text}");
            assert_eq!(FieldPath::parse(&path.to_string()), Ok(path));
        }
        for text in ["", ".", "a.", ".a", "a..b", "\"a", "a\"b\"", "\"a\"b", "{a}", "\"\""] {
            assert!(FieldPath::parse(text).is_err(), "{text}");
        }
    }
}
