//! Which records of a shared topic a source takes: by the name of their table.

use super::json::{self, Value};
use crate::config::SourceSpec;

/// The table that a source takes, if it takes one alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Table(Option<Named>);

#[derive(Clone, Debug)]
struct Named {
    /// What is before the name's first dot.
    place: Option<Vec<u8>>,
    name: Vec<u8>,
}

impl Table {
    pub(super) fn new(spec: &SourceSpec) -> Self {
        Table(spec.table.as_deref().map(|table| match table.split_once('.') {
            Some((place, name)) => Named { place: Some(place.into()), name: name.into() },
            None => Named { place: None, name: table.into() },
        }))
    }

    /// Whether the source takes every table.
    pub(super) fn is_any(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it takes the table of this name, in this schema or else this database; pass [`Value::Absent`] for what there is not.
    #[inline]
    pub(super) fn takes(&self, name: Value<'_>, schema: Value<'_>, database: Value<'_>) -> bool {
        match &self.0 {
            None => true,
            Some(named) => json::is_named(name, &named.name) && named.is_in(schema, database),
        }
    }

    /// Whether it takes tables of this database, whatever their names.
    pub(super) fn takes_database(&self, database: Value<'_>) -> bool {
        self.0.as_ref().is_none_or(|named| named.is_in(Value::Absent, database))
    }
}

impl Named {
    fn is_in(&self, schema: Value<'_>, database: Value<'_>) -> bool {
        let empty = !matches!(schema, Value::Plain([_, ..]) | Value::Escaped(_));
        self.place.as_ref().is_none_or(|place| json::is_named(if empty { database } else { schema }, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Format, Role};

    #[test]
    fn tables_by_name_and_place() {
        let text = |text: &'static str| if text.is_empty() { Value::Absent } else { Value::Plain(text.as_bytes()) };
        for (wanted, name, schema, database, expected) in [
            ("t", "t", "", "", true),
            ("t", "t", "s", "d", true),
            ("t", "u", "s", "d", false),
            ("t", "", "s", "d", false),
            ("s.t", "t", "s", "d", true),
            ("d.t", "t", "s", "d", false),
            ("d.t", "t", "", "d", true),
            ("d.t", "t", "", "", false),
            ("s.t.u", "t.u", "s", "", true),
            ("s.t.u", "u", "s.t", "", false),
        ] {
            let mut spec = SourceSpec::plain("topic", Role::Products, Format::Debezium, "store");
            spec.table = Some(wanted.to_owned());
            let table = Table::new(&spec);
            assert_eq!(table.takes(text(name), text(schema), text(database)), expected, "{wanted}: {schema}/{database} {name}");
            assert!(Table::default().takes(text(name), text(schema), text(database)));
        }
    }
}
