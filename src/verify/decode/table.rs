//! Which table a record is of.

use super::super::json::Node;

/// What a record says of its table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TableName<'n> {
    /// The table; `None`: the record does not say.
    pub(super) name: Option<&'n str>,
    /// The schema that it is in.
    pub(super) schema: Option<&'n str>,
    /// The database that it is in.
    pub(super) database: Option<&'n str>,
}

impl<'n> TableName<'n> {
    /// By the names of an object's members; those that have none stay out.
    pub(super) fn of(node: &'n Node<'n>, name: &str, schema: Option<&str>, database: Option<&str>) -> Self {
        let text = |name: &str| node.get(name).and_then(Node::as_str);
        TableName { name: text(name), schema: schema.and_then(text), database: database.and_then(text) }
    }

    /// Whether a source takes it that takes `wanted` only.
    pub(super) fn is_of(&self, wanted: Option<&str>) -> bool {
        let Some(wanted) = wanted else { return true };
        match wanted.split_once('.') {
            None => self.name == Some(wanted),
            Some((place, name)) => self.name == Some(name) && self.place() == Some(place),
        }
    }

    /// Whether a source takes the whole database that takes `wanted` only.
    pub(super) fn is_in_database_of(&self, wanted: Option<&str>) -> bool {
        match wanted.and_then(|wanted| wanted.split_once('.')) {
            None => true,
            Some((place, _)) => self.place() == Some(place),
        }
    }

    fn place(&self) -> Option<&'n str> {
        self.schema.filter(|schema| !schema.is_empty()).or(self.database)
    }
}
