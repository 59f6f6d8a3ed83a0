//! Avro schemas: from a registry's JSON to types that a walk over a datum needs, and nothing else.
//!
//! ```text
//! {"type":"record","fields":[…]}, and the schemas it refers to by name ──► Schema: types in a row, referring to each other by place
//! ```
//!
//! Upholds: (1) what a name refers to is found once, here, and not while records are read; recursive types cost nothing; (2) of each
//! type it is known whether its values take any bytes: no count of values without bytes can keep a reader busy.
//! Absent on purpose: reader's schemas and resolution (fields are found by their writer's names), defaults, aliases (which only resolution
//! looks at), and protocols.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::decode::values::Clock;

/// The place of a type in its [`Schema`].
pub(super) type Place = usize;

/// A writer's schema.
#[derive(Debug)]
pub struct Schema {
    types: Vec<Type>,
    /// Whether values of the type take no bytes at all.
    empty: Vec<bool>,
    root: Place,
}

/// A type, as a walk needs it.
#[derive(Debug)]
pub(super) enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(Place),
    Map(Place),
    Union(Vec<Place>),
    Record(Vec<(String, Place)>),
    /// A type that means more than its bytes say.
    Meant(Place, Meaning),
}

/// What logical types and Kafka Connect's names say of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A big-endian two's complement integer in units of 10^-scale.
    Decimal(i32),
    /// Sixteen bytes, written as a UUID's text; text that is one needs no word.
    Uuid,
    /// A time, written so.
    Time(Clock),
}

/// Why a text is no schema that can be read by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(String);

fn wrong(what: impl Into<String>) -> SchemaError {
    SchemaError(what.into())
}

/// Most types in a schema; real ones have hundreds.
const TYPES_MAX: usize = 100_000;

impl Schema {
    /// Reads a schema. `references` are the texts of the schemas whose named types it uses, each after those that it uses itself.
    ///
    /// # Errors
    /// If a text is not JSON, no Avro schema, or uses a name that is defined nowhere.
    pub fn parse(text: &str, references: &[String]) -> Result<Schema, SchemaError> {
        let mut reading = Reading { types: Vec::new(), named: HashMap::new() };
        for reference in references {
            reading.text(reference)?;
        }
        let root = reading.text(text)?;
        let types = reading.types;
        let mut known = vec![None; types.len()];
        for place in 0..types.len() {
            is_empty(&types, place, &mut known);
        }
        Ok(Schema { types, empty: known.into_iter().map(|empty| empty == Some(true)).collect(), root })
    }

    /// The type of a whole datum.
    pub(super) fn root(&self) -> Place {
        self.root
    }

    /// A type.
    pub(super) fn of(&self, place: Place) -> &Type {
        &self.types[place]
    }

    /// Whether values of a type take no bytes at all.
    pub(super) fn is_empty(&self, place: Place) -> bool {
        self.empty[place]
    }

    /// The record that a datum is, alone or as the first branch of a union that is one.
    pub(super) fn root_record(&self) -> Option<&[(String, Place)]> {
        let record = |place: Place| match self.of(place) {
            Type::Record(fields) => Some(&fields[..]),
            _ => None,
        };
        match self.of(self.root) {
            Type::Union(branches) => branches.iter().find_map(|&branch| record(branch)),
            _ => record(self.root),
        }
    }
}

/// A schema being read.
struct Reading {
    types: Vec<Type>,
    named: HashMap<String, Place>,
}

impl Reading {
    fn text(&mut self, text: &str) -> Result<Place, SchemaError> {
        let json: Value = match serde_json::from_str(text) {
            Ok(json) => json,
            // A primitive type may be written without quotes: registries have taken that.
            Err(_) if primitive(text.trim()).is_some() => Value::String(text.trim().to_owned()),
            Err(error) => return Err(wrong(format!("the schema is not JSON: {error}"))),
        };
        self.read(&json, "")
    }

    fn add(&mut self, of: Type) -> Result<Place, SchemaError> {
        if self.types.len() >= TYPES_MAX {
            return Err(wrong(format!("the schema has more than {TYPES_MAX} types")));
        }
        self.types.push(of);
        Ok(self.types.len() - 1)
    }

    fn read(&mut self, json: &Value, namespace: &str) -> Result<Place, SchemaError> {
        match json {
            Value::String(name) => self.by_name(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.read(branch, namespace)).collect::<Result<_, _>>()?;
                self.add(Type::Union(branches))
            }
            Value::Object(object) => {
                let place = self.read_object(object, namespace)?;
                match meaning(object, &self.types[place])? {
                    Some(meaning) => self.add(Type::Meant(place, meaning)),
                    None => Ok(place),
                }
            }
            _ => Err(wrong("a type is neither a name, a list nor an object")),
        }
    }

    fn by_name(&mut self, name: &str, namespace: &str) -> Result<Place, SchemaError> {
        if let Some(primitive) = primitive(name) {
            return self.add(primitive);
        }
        let near = if name.contains('.') || namespace.is_empty() { None } else { self.named.get(&format!("{namespace}.{name}")) };
        let found = near.or_else(|| self.named.get(name)).copied();
        found.ok_or_else(|| wrong(format!("there is no type \"{name}\", neither in the schema nor in those that it refers to")))
    }

    fn read_object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Place, SchemaError> {
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            // A type within an object of its own.
            Some(inner @ (Value::Object(_) | Value::Array(_))) => return self.read(inner, namespace),
            _ => return Err(wrong("an object of the schema has no \"type\"")),
        };
        let part = |name: &str| object.get(name).ok_or_else(|| wrong(format!("a type \"{kind}\" has no \"{name}\"")));
        match kind {
            "array" => {
                let items = self.read(part("items")?, namespace)?;
                self.add(Type::Array(items))
            }
            "map" => {
                let values = self.read(part("values")?, namespace)?;
                self.add(Type::Map(values))
            }
            "enum" => {
                let symbols = part("symbols")?.as_array().ok_or_else(|| wrong("an enum's \"symbols\" are no list"))?;
                let symbol = |symbol: &Value| symbol.as_str().map(str::to_owned).ok_or_else(|| wrong("a symbol is no text"));
                let symbols = symbols.iter().map(symbol).collect::<Result<_, _>>()?;
                self.define(object, namespace, Type::Enum(symbols)).map(|(place, _)| place)
            }
            "fixed" => {
                let size = part("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| wrong("a fixed type's \"size\" is no length"))?;
                self.define(object, namespace, Type::Fixed(size)).map(|(place, _)| place)
            }
            "record" | "error" => {
                let fields = part("fields")?.as_array().ok_or_else(|| wrong("a record's \"fields\" are no list"))?;
                // Known by its name before its fields are read: they may be of it.
                let (place, namespace) = self.define(object, namespace, Type::Record(Vec::new()))?;
                let mut read = Vec::with_capacity(fields.len());
                for field in fields {
                    let name = field.get("name").and_then(Value::as_str).ok_or_else(|| wrong("a field has no \"name\""))?;
                    let of = field.get("type").ok_or_else(|| wrong(format!("field \"{name}\" has no \"type\"")))?;
                    read.push((name.to_owned(), self.read(of, &namespace)?));
                }
                self.types[place] = Type::Record(read);
                Ok(place)
            }
            name => self.by_name(name, namespace),
        }
    }

    /// Adds a named type; also the namespace of what is within it.
    fn define(&mut self, object: &Map<String, Value>, outer: &str, of: Type) -> Result<(Place, String), SchemaError> {
        let name = object.get("name").and_then(Value::as_str).ok_or_else(|| wrong("a named type has no \"name\""))?;
        let (namespace, full) = match name.rsplit_once('.') {
            Some((namespace, _)) => (namespace.to_owned(), name.to_owned()),
            None => {
                let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(outer);
                let full = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") };
                (namespace.to_owned(), full)
            }
        };
        let place = self.add(of)?;
        // What several of the referred schemas define is the same type.
        self.named.insert(full, place);
        Ok((place, namespace))
    }
}

fn primitive(name: &str) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int,
        "long" => Type::Long,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "string" => Type::String,
        _ => return None,
    })
}

/// What an object of the schema says beyond its type. Words that do not fit the type say nothing, as Avro's specification has it.
fn meaning(object: &Map<String, Value>, of: &Type) -> Result<Option<Meaning>, SchemaError> {
    let word = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or("");
    let (logical, connect) = (word("logicalType"), word("connect.name"));
    Ok(match of {
        Type::Bytes | Type::Fixed(_) if logical == "decimal" || connect == "org.apache.kafka.connect.data.Decimal" => {
            let parameter = object.get("connect.parameters").and_then(|parameters| parameters.get("scale"));
            let scale = match object.get("scale").or(parameter) {
                None => Some(0),
                Some(Value::String(text)) => text.parse().ok(),
                Some(scale) => scale.as_i64(),
            };
            let scale = scale.and_then(|scale| i32::try_from(scale).ok()).filter(|scale| (-1_000..=1_000).contains(scale));
            Some(Meaning::Decimal(scale.ok_or_else(|| wrong("a decimal's \"scale\" is no number within ±1000"))?))
        }
        Type::Fixed(16) if logical == "uuid" => Some(Meaning::Uuid),
        Type::Int | Type::Long | Type::String => time(logical, connect, of).map(Meaning::Time),
        _ => None,
    })
}

fn time(logical: &str, connect: &str, of: &Type) -> Option<Clock> {
    let number = matches!(of, Type::Int | Type::Long);
    Some(match (connect, number) {
        ("io.debezium.time.Date" | "org.apache.kafka.connect.data.Date", true) => Clock::Days,
        ("io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp", true) => Clock::Millis,
        ("io.debezium.time.MicroTimestamp", true) => Clock::Micros,
        ("io.debezium.time.NanoTimestamp", true) => Clock::Nanos,
        ("io.debezium.time.ZonedTimestamp" | "io.debezium.time.IsoTimestamp", false) => Clock::Rfc3339,
        ("io.debezium.time.IsoDate", false) => Clock::IsoDate,
        _ => match (logical, of) {
            ("date", Type::Int) => Clock::Days,
            ("timestamp-millis" | "local-timestamp-millis", Type::Long) => Clock::Millis,
            ("timestamp-micros" | "local-timestamp-micros", Type::Long) => Clock::Micros,
            ("timestamp-nanos" | "local-timestamp-nanos", Type::Long) => Clock::Nanos,
            _ => return None,
        },
    })
}

/// Whether values of a type take no bytes. One that contains itself has no finite value, so that the answer does not matter.
fn is_empty(types: &[Type], place: Place, known: &mut Vec<Option<bool>>) -> bool {
    if let Some(known) = known[place] {
        return known;
    }
    known[place] = Some(false);
    let empty = match &types[place] {
        Type::Null | Type::Fixed(0) => true,
        Type::Record(fields) => fields.iter().all(|&(_, of)| is_empty(types, of, known)),
        Type::Meant(of, _) => is_empty(types, *of, known),
        _ => false,
    };
    known[place] = Some(empty);
    empty
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Schema, SchemaError> {
        Schema::parse(text, &[])
    }

    #[test]
    fn names_are_found_by_their_namespaces() {
        let text = r#"{"type":"record","name":"a.b.Outer","fields":[
            {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["X","Y"]}},
            {"name":"other","type":["null","Kind","a.b.Outer"]},
            {"name":"inner","type":{"type":"record","name":"Inner","namespace":"c","fields":[{"name":"next","type":["null","Inner"]}]}},
            {"name":"again","type":"c.Inner"}]}"#;
        let schema = parse(text).expect("a schema");
        let Type::Record(fields) = schema.of(schema.root()) else { panic!("a record") };
        let Type::Union(branches) = schema.of(fields[1].1) else { panic!("a union") };
        assert_eq!(branches[1..], [fields[0].1, schema.root()]);
        assert_eq!(fields[2].1, fields[3].1);
        assert!(parse(&text.replace("\"c.Inner\"", "\"Inner\"")).is_err(), "Inner is of another namespace");
    }

    #[test]
    fn references_are_read_before() {
        let store = r#"{"type":"record","name":"Store","namespace":"mall","fields":[{"name":"id","type":"long"}]}"#;
        let row = r#"{"type":"record","name":"Row","namespace":"mall","fields":[{"name":"store","type":"Store"}]}"#;
        assert!(Schema::parse(row, &[store.to_owned()]).is_ok());
        let error = parse(row).expect_err("no Store").to_string();
        assert!(error.contains("\"Store\""), "{error}");
    }

    #[test]
    fn what_takes_no_bytes_is_known() {
        let schema = parse(
            r#"{"type":"record","name":"R","fields":[{"name":"n","type":"null"},{"name":"f","type":{"type":"fixed","name":"F","size":0}}]}"#,
        );
        let schema = schema.expect("a schema");
        assert!(schema.is_empty(schema.root()));
        let endless = parse(r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}"#).expect("a schema");
        assert!(!endless.is_empty(endless.root()));
    }

    #[test]
    fn words_that_fit_their_type_count() {
        let meaning = |text: &str| {
            let schema = parse(text).expect(text);
            match schema.of(schema.root()) {
                Type::Meant(_, meaning) => Some(*meaning),
                _ => None,
            }
        };
        let connect =
            r#"{"type":"bytes","connect.name":"org.apache.kafka.connect.data.Decimal","connect.parameters":{"scale":"4"}}"#;
        for (text, expected) in [
            (r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#, Some(Meaning::Decimal(2))),
            (connect, Some(Meaning::Decimal(4))),
            (r#"{"type":"string","logicalType":"decimal","precision":9}"#, None),
            (r#"{"type":"long","connect.name":"io.debezium.time.MicroTimestamp"}"#, Some(Meaning::Time(Clock::Micros))),
            (r#"{"type":"string","connect.name":"io.debezium.time.MicroTimestamp"}"#, None),
            (r#"{"type":"long","logicalType":"local-timestamp-nanos"}"#, Some(Meaning::Time(Clock::Nanos))),
            (r#"{"type":"int","logicalType":"timestamp-millis"}"#, None),
            (r#"{"type":"string","connect.name":"io.debezium.time.ZonedTimestamp"}"#, Some(Meaning::Time(Clock::Rfc3339))),
            (r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#, Some(Meaning::Uuid)),
            (r#"{"type":"string","logicalType":"uuid"}"#, None),
        ] {
            assert_eq!(meaning(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_schema_says_why() {
        for text in ["", "{", "7", "{}", r#"{"type":"record","name":"R"}"#, r#""nonsense""#, r#"{"type":"enum","name":"E"}"#] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("string").is_ok() && parse("\"string\"").is_ok());
    }
}
