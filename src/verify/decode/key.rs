//! A row's key, from the message key or from the row.

use super::super::fields::{Dialect, Fields, MONGODB, Said};
use super::super::json::{Node, NotJson, parse};
use super::super::types::Reason;
use super::Reader;

impl Reader<'_> {
    /// The key that a message key of Debezium holds: an object, or the payload of one.
    pub(super) fn debezium_key(&self, key: &str, dialect: Dialect) -> Result<Vec<String>, Reason> {
        let key = parse(key).map_err(|NotJson| Reason::MissingKey)?;
        self.key_of_object(&key, dialect)
    }

    /// The key that any message key holds: an object, or for a key of one field also its plain text.
    pub(super) fn any_key(&self, key: &str, dialect: Dialect) -> Result<Vec<String>, Reason> {
        let plain = match parse(key) {
            Ok(node) if node.is_object() => return self.key_of_object(&node, dialect),
            Ok(node) => node.as_str().or(node.as_integer()).ok_or(Reason::MissingKey)?.to_string(),
            Err(NotJson) => key.to_string(),
        };
        if self.spec.key.len() == 1 && !plain.is_empty() { Ok(vec![plain]) } else { Err(Reason::MissingKey) }
    }

    /// The key of a message key of any kind, or without one that of the row.
    pub(super) fn key_of<'n>(
        &self,
        key: Option<&str>,
        row: Option<&'n Node<'n>>,
        schema: Option<&'n Node<'n>>,
        dialect: Dialect,
    ) -> Result<Vec<String>, Reason> {
        match (key, row) {
            (Some(key), _) => self.any_key(key, dialect),
            (None, Some(row)) => self.key_parts(&self.fields(row, schema, dialect)),
            (None, None) => Err(Reason::MissingKey),
        }
    }

    fn key_of_object(&self, key: &Node<'_>, dialect: Dialect) -> Result<Vec<String>, Reason> {
        if !key.is_object() {
            return Err(Reason::MissingKey);
        }
        let payload = key.get("payload").filter(|payload| payload.is_object());
        let schema = payload.and_then(|_| key.get("schema"));
        self.key_parts(&self.fields(payload.unwrap_or(key), schema, dialect)).map_err(|_| Reason::MissingKey)
    }

    /// The key that a message key of Debezium's MongoDB connector holds: extended JSON as text, or a plain value.
    pub(super) fn mongodb_key(&self, key: &str) -> Result<Vec<String>, Reason> {
        let key = parse(key).map_err(|NotJson| Reason::MissingKey)?;
        let key = key.get("payload").filter(|payload| payload.is_object()).unwrap_or(&key);
        let id = key.get_some("id").ok_or(Reason::MissingKey)?;
        match id.as_str().map(parse) {
            Some(Ok(inner)) => self.mongodb_id(Some(&inner)),
            Some(Err(NotJson)) | None => self.mongodb_id(Some(id)),
        }
    }

    /// The key that `_id` is, whatever the job file calls it.
    pub(super) fn mongodb_id(&self, id: Option<&Node<'_>>) -> Result<Vec<String>, Reason> {
        let node = id.ok_or(Reason::MissingKey)?;
        // Put into an object of its own, it is read as any field.
        let text = format!("{{\"_id\":{}}}", node.text);
        let object = parse(&text).map_err(|NotJson| Reason::MissingKey)?;
        match Fields::of_row(&object, None, MONGODB, self.spec.absent).get(&"_id".into()) {
            Said::Value(value) if self.spec.key.len() == 1 => Ok(vec![value.id().ok_or(Reason::MissingKey)?]),
            _ => Err(Reason::MissingKey),
        }
    }
}
