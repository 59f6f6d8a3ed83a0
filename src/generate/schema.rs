//! The Connect schema around Debezium's keys and values (`schemas.enable=true`), as text to put before the payload.
//!
//! It is what such topics carry and what a decoder has to skip, several times the size of the payload.

use std::fmt::Write;

use super::Topic;

/// A column of a table.
pub(super) struct Column {
    name: &'static str,
    kind: Kind,
    key: bool,
}

/// Its type.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Int32,
    Int64,
    Text,
    /// Milliseconds since 1970.
    Millis,
    /// Microseconds since 1970.
    Micros,
}

impl Column {
    /// A column that is not part of the key.
    pub(super) const fn new(name: &'static str, kind: Kind) -> Self {
        Column { name, kind, key: false }
    }

    /// A column of the primary key.
    pub(super) const fn key(name: &'static str, kind: Kind) -> Self {
        Column { name, kind, key: true }
    }

    fn field(&self) -> String {
        let (kind, semantic) = match self.kind {
            Kind::Int32 => ("int32", None),
            Kind::Int64 => ("int64", None),
            Kind::Text => ("string", None),
            Kind::Millis => ("int64", Some("io.debezium.time.Timestamp")),
            Kind::Micros => ("int64", Some("io.debezium.time.MicroTimestamp")),
        };
        let semantic = semantic.map_or(String::new(), |name| format!(r#","name":"{name}","version":1"#));
        format!(r#"{{"type":"{kind}","optional":false{semantic},"field":"{}"}}"#, self.name)
    }
}

/// What stands before the payload of a key and of a value.
pub(super) struct Wrapper {
    pub(super) key: String,
    pub(super) value: String,
}

impl Wrapper {
    /// For the table behind a topic.
    pub(super) fn new(topic: Topic, columns: &[Column]) -> Self {
        let name = topic.name();
        let list = |columns: &mut dyn Iterator<Item = &Column>| columns.map(Column::field).collect::<Vec<_>>().join(",");
        let key = list(&mut columns.iter().filter(|column| column.key));
        let row = list(&mut columns.iter());
        let key = format!(r#"{{"schema":{{"type":"struct","fields":[{key}],"optional":false,"name":"{name}.Key"}},"payload":"#);
        let mut value = String::from(r#"{"schema":{"type":"struct","fields":["#);
        for image in ["before", "after"] {
            let _ =
                write!(value, r#"{{"type":"struct","fields":[{row}],"optional":true,"name":"{name}.Value","field":"{image}"}},"#);
        }
        value.push_str(r#"{"type":"struct","fields":["#);
        value.push_str(&fields(match topic {
            Topic::Products => &POSTGRESQL,
            _ => &MYSQL,
        }));
        value.push_str(r#"],"optional":false,"name":"io.debezium.connector.Source","version":1,"field":"source"},"#);
        value.push_str(TAIL);
        let _ = write!(value, r#"],"optional":false,"name":"{name}.Envelope","version":2}},"payload":"#);
        Wrapper { key, value }
    }
}

fn fields(fields: &[(&str, &str, bool)]) -> String {
    let field =
        |(name, kind, optional): &(&str, &str, bool)| format!(r#"{{"type":"{kind}","optional":{optional},"field":"{name}"}}"#);
    fields.iter().map(field).collect::<Vec<_>>().join(",")
}

const MYSQL: [(&str, &str, bool); 17] = [
    ("version", "string", false),
    ("connector", "string", false),
    ("name", "string", false),
    ("ts_ms", "int64", false),
    ("ts_us", "int64", true),
    ("ts_ns", "int64", true),
    ("snapshot", "string", true),
    ("db", "string", false),
    ("sequence", "string", true),
    ("table", "string", true),
    ("server_id", "int64", false),
    ("gtid", "string", true),
    ("file", "string", false),
    ("pos", "int64", false),
    ("row", "int32", false),
    ("thread", "int64", true),
    ("query", "string", true),
];

const POSTGRESQL: [(&str, &str, bool); 14] = [
    ("version", "string", false),
    ("connector", "string", false),
    ("name", "string", false),
    ("ts_ms", "int64", false),
    ("ts_us", "int64", true),
    ("ts_ns", "int64", true),
    ("snapshot", "string", true),
    ("db", "string", false),
    ("sequence", "string", true),
    ("schema", "string", false),
    ("table", "string", false),
    ("txId", "int64", true),
    ("lsn", "int64", true),
    ("xmin", "int64", true),
];

const TAIL: &str = r#"{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"},{"type":"int64","optional":false,"field":"total_order"},{"type":"int64","optional":false,"field":"data_collection_order"}],"optional":true,"name":"event.block","version":1,"field":"transaction"},{"type":"string","optional":false,"field":"op"},{"type":"int64","optional":true,"field":"ts_ms"},{"type":"int64","optional":true,"field":"ts_us"},{"type":"int64","optional":true,"field":"ts_ns"}"#;
