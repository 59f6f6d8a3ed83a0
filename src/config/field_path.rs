//! Where in a record a value is, and ids that are composed of several.
//!
//! ```text
//! payload.geo.store.id      a path: names from the outside in; "a.b".id if a name holds a dot
//! {site}/{store_id}         a template: text, what the topic's name captures, and paths
//! ```
//!
//! A brace that comes before any quote makes a template, so that a text is one or the other and never both; outside braces a
//! template has no quotes.
//! Upholds: what is written by [`Display`](fmt::Display) reads as itself again; of a template, as long as no field in it is called like a
//! name that is captured (see [`IdSpec::written`]).

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
    /// Reads an id as job files write it; `captured` says which names the topic's name captures.
    ///
    /// # Errors
    /// What is wrong with it, to follow the text in a sentence.
    pub fn parse(text: &str, captured: impl Fn(&str) -> bool) -> Result<Self, &'static str> {
        match (text.find(['{', '}']), text.find('"')) {
            (Some(brace), quote) if quote.is_none_or(|quote| brace < quote) => template(text, captured).map(IdSpec::Composed),
            _ => FieldPath::parse(text).map(IdSpec::Field),
        }
    }

    /// As job files write it, where the topic's name captures what `captured` says: a field that is called like a captured name is quoted.
    pub fn written(&self, captured: impl Fn(&str) -> bool) -> String {
        let IdSpec::Composed(parts) = self else { return self.to_string() };
        let part = |part: &IdPart| match part {
            IdPart::Field(path) if captured(&path.to_string()) => format!("{{\"{path}\"}}"),
            part => part.to_string(),
        };
        parts.iter().map(part).collect()
    }

    /// The names it takes from the topic's name, in order.
    pub fn captured(&self) -> impl Iterator<Item = &str> {
        let parts = match self {
            IdSpec::Field(_) => &[],
            IdSpec::Composed(parts) => parts.as_slice(),
        };
        parts.iter().filter_map(|part| if let IdPart::Captured(name) = part { Some(name.as_str()) } else { None })
    }

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
            IdSpec::Composed(parts) => parts.iter().try_for_each(|part| part.fmt(f)),
        }
    }
}

impl Display for IdPart {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            IdPart::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            IdPart::Captured(name) => write!(f, "{{{name}}}"),
            IdPart::Field(path) => write!(f, "{{{path}}}"),
        }
    }
}

fn template(text: &str, captured: impl Fn(&str) -> bool) -> Result<Vec<IdPart>, &'static str> {
    let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("{{") || rest.starts_with("}}") {
            literal.push(c);
            rest = &rest[2..];
        } else if c == '{' {
            let end = end_of_braces(rest).ok_or("has a brace that is not closed; a brace itself is written {{")?;
            let name = &rest[1..end];
            if !literal.is_empty() {
                parts.push(IdPart::Text(std::mem::take(&mut literal)));
            }
            parts.push(match name {
                "" => return Err("has braces with nothing in them; put a field's name there"),
                name if captured(name) => IdPart::Captured(name.to_owned()),
                name => IdPart::Field(FieldPath::parse(name)?),
            });
            rest = &rest[end + 1..];
        } else if c == '}' {
            return Err("has a closing brace that nothing opens; a brace itself is written }}");
        } else if c == '"' {
            return Err("has a quote outside its braces; only names within braces may have quotes");
        } else {
            literal.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    if parts.is_empty() {
        return Err("names no field; put one in braces, such as {store_id}");
    }
    if !literal.is_empty() {
        parts.push(IdPart::Text(literal));
    }
    Ok(parts)
}

/// Where the braces that `text` begins with are closed; not within quotes.
fn end_of_braces(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
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

    #[test]
    fn ids_read_and_write() {
        let captured = |name: &str| name == "site";
        let text = |text: &str| IdPart::Text(text.to_owned());
        let site = || IdPart::Captured("site".to_owned());
        let field = |names: &[&str]| IdPart::Field(FieldPath(names.iter().map(|name| (*name).to_owned()).collect()));
        for (written, parts) in [
            ("{site}/{store_id}", vec![site(), text("/"), field(&["store_id"])]),
            ("{a.b}", vec![field(&["a", "b"])]),
            (r#"{{{"}"."x.y"}}}é"#, vec![text("{"), field(&["}", "x.y"]), text("}é")]),
            (r#"{"site"}"#, vec![field(&["site"])]),
            ("site-{site}", vec![text("site-"), site()]),
        ] {
            let id = IdSpec::parse(written, captured).expect(written);
            assert_eq!(id, IdSpec::Composed(parts));
            assert_eq!(id.written(captured), written);
        }
        for path in ["store_id", "a.b", r#""{site}".x"#] {
            assert_eq!(IdSpec::parse(path, captured), FieldPath::parse(path).map(IdSpec::Field));
        }
        for wrong in ["{", "}", "{}", "{a", "a}", "{{a}}", "{a.}", "{a}\"", "{a\"}", "", "\"a", "{{", "{a}}", r#"{"a}"#] {
            assert!(IdSpec::parse(wrong, captured).is_err(), "{wrong}");
        }
    }
}
