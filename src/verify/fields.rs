//! A row's fields by their paths: what a record says of them, and what its schema says about that.

use std::borrow::Cow;

use super::base64;
use super::json::{Json, Node, parse};
use super::number::NumberError;
use crate::config::Absent;
use crate::config::field_path::FieldPath;

/// What Debezium puts in the place of a large column that did not change, as text and as bytes.
const UNAVAILABLE: [&str; 2] = ["__debezium_unavailable_value", "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="];

/// What there is to know of how a record writes its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    /// Values are extended JSON, as MongoDB writes it.
    pub(super) mongodb: bool,
    /// Columns that did not change may be Debezium's placeholder.
    pub(super) placeholders: bool,
}

/// Rows of plain JSON.
pub(super) const PLAIN: Dialect = Dialect { mongodb: false, placeholders: false };
/// Rows that Debezium wrote.
pub(super) const DEBEZIUM: Dialect = Dialect { mongodb: false, placeholders: true };
/// Rows of MongoDB's own events.
pub(super) const MONGODB: Dialect = Dialect { mongodb: true, placeholders: false };

/// A row, as far as a record says it.
#[derive(Clone, Debug)]
pub(super) struct Fields<'n> {
    content: Content<'n>,
    /// The Kafka Connect schema of the row, if the record has one.
    schema: Option<&'n Node<'n>>,
    dialect: Dialect,
    absent: Absent,
}

#[derive(Clone, Debug)]
enum Content<'n> {
    /// All of it.
    Row(&'n Node<'n>),
    /// What an update of MongoDB changed: new values by dotted name, and names that are gone.
    Update(Vec<(Vec<String>, Option<Node<'n>>)>),
}

/// What a record says of a field.
#[derive(Clone, Debug)]
pub(super) enum Said<'n> {
    /// Nothing: it is as it was.
    Nothing,
    /// That it is null, or not there.
    Null,
    /// A value.
    Value(Value<'n>),
}

/// A value that is not null.
#[derive(Clone, Debug)]
pub(super) struct Value<'n> {
    /// The value.
    pub(super) node: Cow<'n, Node<'n>>,
    schema: Option<&'n Node<'n>>,
    mongodb: bool,
}

impl<'n> Fields<'n> {
    /// Those of a row, or of a key.
    pub(super) fn of_row(row: &'n Node<'n>, schema: Option<&'n Node<'n>>, dialect: Dialect, absent: Absent) -> Self {
        Fields { content: Content::Row(row), schema, dialect, absent }
    }

    /// Those that an update description of MongoDB names; `None` if it is none.
    pub(super) fn of_update(description: &'n Node<'n>, absent: Absent) -> Option<Self> {
        if !description.is_object() {
            return None;
        }
        let mut changes = Vec::new();
        // Where names are equal, what comes later goes before, so the removed ones come first.
        match description.get_some("removedFields").map(Node::as_array) {
            None => {}
            Some(None) => return None,
            Some(Some(names)) => {
                let names = names.iter().filter_map(Node::as_str);
                changes.extend(names.map(|name| (name.split('.').map(str::to_string).collect(), None)));
            }
        }
        match description.get_some("updatedFields") {
            None => {}
            Some(updated) => {
                // Text of an object, or the object.
                let text = updated.as_str().map(parse).transpose().ok()?.map(Node::into_owned);
                let Json::Object(members) = text.unwrap_or_else(|| updated.clone()).value else { return None };
                for (name, value) in members {
                    changes.push((name.split('.').map(str::to_string).collect(), Some(value)));
                }
            }
        }
        Some(Fields { content: Content::Update(changes), schema: None, dialect: MONGODB, absent })
    }

    /// What is said of the field at `path`.
    pub(super) fn get(&self, path: &FieldPath) -> Said<'n> {
        let found = match &self.content {
            Content::Row(row) => walk(Cow::Borrowed(*row), self.schema, path.names(), self.dialect),
            Content::Update(changes) => {
                let fitting = changes.iter().filter(|(name, _)| path.names().starts_with(name));
                match fitting.max_by_key(|(name, _)| name.len()) {
                    None => return Said::Nothing,
                    Some((_, None)) => Found::Value(Value { node: Cow::Owned(null()), schema: None, mongodb: true }),
                    Some((name, Some(value))) => walk(Cow::Owned(value.clone()), None, &path.names()[name.len()..], self.dialect),
                }
            }
        };
        match (found, self.absent) {
            (Found::Placeholder, _) | (Found::Nowhere, Absent::Unchanged) => Said::Nothing,
            (Found::Nowhere, Absent::Missing) => Said::Null,
            (Found::Value(value), _) if value.node.is_null() => Said::Null,
            (Found::Value(value), _) => Said::Value(value),
        }
    }
}

enum Found<'n> {
    Value(Value<'n>),
    Placeholder,
    Nowhere,
}

fn null() -> Node<'static> {
    Node { text: Cow::Borrowed("null"), value: Json::Null }
}

/// Follows a path, through texts that are JSON too.
fn walk<'n>(node: Cow<'n, Node<'n>>, schema: Option<&'n Node<'n>>, names: &[String], dialect: Dialect) -> Found<'n> {
    if dialect.placeholders && node.as_str().is_some_and(|text| UNAVAILABLE.contains(&text)) {
        return Found::Placeholder;
    }
    let Some((name, rest)) = names.split_first() else {
        return Found::Value(Value { node, schema, mongodb: dialect.mongodb });
    };
    let (inner, schema) = match node.as_str() {
        Some(text) => match parse(text) {
            Ok(inner) if inner.is_object() => (Cow::Owned(inner.into_owned()), None),
            _ => return Found::Nowhere,
        },
        None => (node, field_of(schema, name)),
    };
    let child = match inner {
        Cow::Borrowed(inner) => inner.get(name).map(Cow::Borrowed),
        Cow::Owned(inner) => inner.get(name).cloned().map(Cow::Owned),
    };
    child.map_or(Found::Nowhere, |child| walk(child, schema, rest, dialect))
}

/// The schema of a field of a struct.
pub(super) fn field_of<'n>(schema: Option<&'n Node<'n>>, name: &str) -> Option<&'n Node<'n>> {
    schema?.get("fields")?.as_array()?.iter().rev().find(|field| field.get("field").and_then(Node::as_str) == Some(name))
}

impl Value<'_> {
    fn schema_text(&self, name: &str) -> Option<&str> {
        self.schema?.get(name)?.as_str()
    }

    /// The name that the schema gives the value's type.
    pub(super) fn type_name(&self) -> Option<&str> {
        self.schema_text("name")
    }

    /// The scale of a decimal, if the schema says that it is one, and of which.
    fn decimal(&self) -> Option<i32> {
        if self.type_name() != Some("org.apache.kafka.connect.data.Decimal") {
            return None;
        }
        let scale = self.schema?.get("parameters")?.get("scale")?;
        scale.as_str().or(scale.as_integer()).filter(|scale| is_integer(scale))?.parse().ok()
    }

    /// An id: a text that is not empty, or digits.
    pub(super) fn id(&self) -> Option<String> {
        let text = match (&self.node.value, self.decimal()) {
            (Json::Text(_), Some(0)) => self.whole_decimal()?,
            (Json::Text(_), Some(_)) => return None,
            (Json::Text(text), None) => text.to_string(),
            (Json::Number, _) => self.node.as_integer()?.to_string(),
            (Json::Object(_), _) => match self.extended(&["$oid", "$uuid"]) {
                Some(text) => text.to_string(),
                None => self.extended(&["$numberLong", "$numberInt"]).filter(|text| is_integer(text))?.to_string(),
            },
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// The digits of a decimal of scale 0.
    fn whole_decimal(&self) -> Option<String> {
        Some(base64::integer(self.node.as_str()?).ok()?.to_string())
    }

    /// The text of an integer, also as extended JSON writes one, or a text that may be one.
    pub(super) fn integer(&self) -> Option<&str> {
        self.node.as_integer().or(self.node.as_str()).or(self.extended(&["$numberLong", "$numberInt"]))
    }

    /// What is within MongoDB's `{"$date": …}`.
    pub(super) fn date(&self) -> Option<&Node<'_>> {
        self.node.only("$date").filter(|_| self.mongodb)
    }

    /// What conditions compare.
    pub(super) fn text(&self) -> Option<String> {
        match &self.node.value {
            Json::Text(_) if self.decimal() == Some(0) => self.whole_decimal(),
            Json::Text(text) => Some(text.to_string()),
            Json::Number | Json::Bool => Some(self.node.text.to_string()),
            Json::Object(_) => self
                .extended(&["$numberInt", "$numberLong", "$numberDouble", "$numberDecimal", "$oid", "$uuid"])
                .map(str::to_string),
            Json::Null | Json::Array(_) => None,
        }
    }

    /// Whether it is a floating-point number.
    pub(super) fn is_float(&self) -> bool {
        let by_schema = matches!(self.schema_text("type"), Some("float" | "double" | "float32" | "float64"));
        let bare = self.node.value == Json::Number && self.node.as_integer().is_none();
        by_schema || self.extended(&["$numberDouble"]).is_some() || self.mongodb && bare
    }

    /// A number as decimal text, and whether that is a text with the liberties of one. `scale` is that of base64 where no schema
    /// says it.
    pub(super) fn number(&self, scale: Option<u32>) -> Result<(String, bool), NumberError> {
        let plain = |text: &str| Ok((text.to_string(), true));
        let scaled = |text: &str, scale: i32| Ok((format!("{}e{}", base64::integer(text)?, -scale), true));
        match &self.node.value {
            Json::Number => Ok((self.node.text.to_string(), false)),
            Json::Text(text) => match (self.decimal(), scale) {
                (Some(schema_scale), _) => scaled(text, schema_scale),
                (None, Some(scale)) if !self.is_float() => scaled(text, scale as i32),
                (None, _) => plain(text),
            },
            Json::Object(_) => {
                if let Some(text) = self.extended(&["$numberDouble", "$numberDecimal", "$numberLong", "$numberInt"]) {
                    return plain(text);
                }
                let scale = self.node.get("scale").and_then(Node::as_integer).and_then(|scale| scale.parse().ok());
                match (scale.filter(|scale| (-38..=38).contains(scale)), self.node.get("value").and_then(Node::as_str)) {
                    (Some(scale), Some(text)) => scaled(text, scale),
                    _ => Err(NumberError::Grammar),
                }
            }
            Json::Null | Json::Bool | Json::Array(_) => Err(NumberError::Grammar),
        }
    }

    /// The text within `{"$name": "…"}`, where values are extended JSON.
    fn extended(&self, names: &[&str]) -> Option<&str> {
        let of = |name: &&str| self.node.only(name).and_then(Node::as_str);
        names.iter().find_map(of).filter(|_| self.mongodb)
    }
}

/// `-?digits`
pub(super) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
