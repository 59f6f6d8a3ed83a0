//! Avro records with a schema registry's ids: read by their writer's schema, then by whichever of the JSON formats they have the shape of.
//!
//! ```text
//! 0, id, datum ──► plan of (schema, what the source needs) ──► JSON text of what is needed, what the schema says of it
//!                        └─ not known yet: needs id                         └──► debezium │ flattened │ upsert │ json
//! ```
//!
//! Why text in between: an Avro record of one of these formats means what its JSON twin means, to the byte, and one decoder that says
//! so is one that cannot disagree with itself. Only what the source needs is written, so that there is little to read again.
//!
//! Upholds: (1) no I/O and no waiting: what cannot be read yet says which schema it needs, and stays as it is; (2) a datum is checked to its last
//! byte, whatever is needed of it (see [`datum`]); (3) nothing is allocated per record.
//! Keeps: the plans of the schemas seen, and scratch space.

mod datum;
mod plan;
mod schema;
mod table;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::schema::{Schema, SchemaError};
pub use self::table::{Known, REFUSED_FOR, Schemas, Waiting};

use self::plan::{Plan, Wanted};
use super::click::Clicks;
use super::debezium::{self, Debezium};
use super::flattened::Flattened;
use super::upsert::Upsert;
use super::values::Hint;
use super::{Decoded, Message, Reason, Record, Reject, not_an_object};
use crate::config::field_path::FieldPath;
use crate::config::{Job, Role, SourceSpec};

/// Fields of which a schema can say something: those of a row, and its key's in Debezium's "before".
const HINTS: usize = 64;

/// Decodes the records of an Avro source.
pub(super) struct Avro {
    schemas: Arc<Schemas>,
    inner: Inner,
    wanted: WantedOf,
    values: Plans,
    keys: Plans,
    value: Vec<u8>,
    key: Vec<u8>,
    hints: [Hint; HINTS],
}

/// What is wanted of each shape, and of a message key.
struct WantedOf {
    debezium: Wanted,
    flattened: Wanted,
    row: Wanted,
    key: Wanted,
}

enum Inner {
    Clicks(Box<Clicks>),
    Rows(Box<Rows>),
}

struct Rows {
    debezium: Debezium,
    flattened: Flattened,
    upsert: Upsert,
}

/// What a record's fields show that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Debezium,
    Flattened,
    Row,
}

/// What a datum is of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Key,
    /// A click has no envelope.
    Click,
    Value,
}

/// The plans of the schemas seen, by id.
struct Plans {
    of: Part,
    plans: Vec<(u32, Shape, Plan)>,
    /// The place of the one used last: records of a topic seldom change their schema.
    last: usize,
}

/// A message in the wire format: the schema's id, and the datum.
type Wired<'a> = (u32, &'a [u8]);

impl Avro {
    pub(super) fn new(job: &Job, spec: &SourceSpec, topic: &str, key_space: u32) -> Self {
        let (inner, paths, key_count) = match spec.role {
            Role::Clicks => {
                let clicks = Clicks::new(spec, topic);
                let paths = clicks.field_paths().to_vec();
                (Inner::Clicks(Box::new(clicks)), paths, 0)
            }
            _ => {
                let debezium = Debezium::new(job, spec, topic, key_space).with_any_key();
                let (flattened, upsert) = (Flattened::new(job, spec, topic, key_space), Upsert::new(job, spec, topic, key_space));
                let paths = upsert.field_paths().to_vec();
                (Inner::Rows(Box::new(Rows { debezium, flattened, upsert })), paths, spec.key.len())
            }
        };
        Avro {
            schemas: Arc::default(),
            inner,
            wanted: WantedOf::new(&paths, key_count),
            values: Plans::of(if spec.role == Role::Clicks { Part::Click } else { Part::Value }),
            keys: Plans::of(Part::Key),
            value: Vec::new(),
            key: Vec::new(),
            hints: [Hint::Unknown; HINTS],
        }
    }

    /// Reads by these schemas from now on.
    pub(super) fn set_schemas(&mut self, schemas: &Arc<Schemas>) {
        self.schemas = Arc::clone(schemas);
    }

    /// The id of a schema that must be known before the message can be decoded, and is not.
    #[inline]
    pub(super) fn needs(&mut self, message: Message<'_>) -> Option<u32> {
        let value = message.value.and_then(wired).map(|(id, _)| id);
        let key = message.key.and_then(wired).map(|(id, _)| id);
        // A click has no key.
        let key = key.filter(|_| matches!(self.inner, Inner::Rows(_)));
        let needs =
            |plans: &mut Plans, id: Option<u32>| id.filter(|id| plans.find(*id).is_none() && self.schemas.get(*id).is_none());
        needs(&mut self.values, value).or_else(|| needs(&mut self.keys, key))
    }

    pub(super) fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Record, Reject> {
        let Some(value) = value else {
            // No schema says what shape the topic's records have. Behind a delete of Debezium's a delete of the same key changes nothing.
            return match &mut self.inner {
                Inner::Clicks(_) => Err(not_an_object("an empty message")),
                Inner::Rows(_) => self.rows(key, None),
            };
        };
        let Some((id, datum)) = wired(value) else {
            return Err(Reject::new(Reason::BadAvro, "the value does not begin with a byte 0 and the id of a schema"));
        };
        let at = self.values.place(id, &self.schemas, &self.wanted)?;
        let (_, shape, plan) = &self.values.plans[at];
        let shape = *shape;
        self.value.clear();
        self.hints.fill(Hint::Unknown);
        plan.write(datum, &mut self.value, &mut self.hints).map_err(|wrong| bad_avro("value", id, &wrong.to_string()))?;
        match &mut self.inner {
            Inner::Clicks(clicks) => {
                let hints = clicks.hints();
                hints.copy_from_slice(&self.hints[..hints.len()]);
                clicks.decode(Some(&self.value))
            }
            Inner::Rows(_) => self.rows(key, Some(shape)),
        }
    }

    /// A row's record whose value, if there is one, is written. A key that cannot be read matters only where a key does.
    fn rows(&mut self, key: Option<&[u8]>, shape: Option<Shape>) -> Result<Record, Reject> {
        let key = key.map(|key| self.write_key(key)).transpose();
        let Inner::Rows(rows) = &mut self.inner else { unreachable!("clicks have no rows") };
        let text = match &key {
            Ok(None) => None,
            Ok(Some(())) => Some(&self.key[..]),
            Err(_) => Some(&[][..]),
        };
        let value = Some(&self.value[..]);
        let decoded = match shape {
            Some(Shape::Debezium) => {
                let hints = rows.debezium.hints();
                hints.copy_from_slice(&self.hints[..hints.len()]);
                rows.debezium.decode(text, value)
            }
            Some(Shape::Flattened) => {
                let hints = rows.flattened.hints();
                hints.copy_from_slice(&self.hints[..hints.len()]);
                rows.flattened.decode(text, value)
            }
            Some(Shape::Row) => {
                let hints = rows.upsert.hints();
                hints.copy_from_slice(&self.hints[..hints.len()]);
                rows.upsert.decode(text, value)
            }
            None => rows.upsert.decode(text, None),
        };
        match (key, decoded) {
            (Ok(_), decoded) => decoded,
            (Err(_), Ok(record)) if !matches!(record.decoded, Decoded::Change(_) | Decoded::Changes(_)) => Ok(record),
            (Err(_), Err(reject)) if matches!(reject.reason, Reason::BadOp | Reason::NotAnObject) => Err(reject),
            (Err(reject), _) => Err(reject),
        }
    }

    /// Writes a message key as JSON text; one that is not in the wire format is text itself.
    fn write_key(&mut self, key: &[u8]) -> Result<(), Reject> {
        self.key.clear();
        let Some((id, datum)) = wired(key) else {
            if simdutf8::basic::from_utf8(key).is_err() {
                return Err(Reject::new(Reason::NotUtf8, "the message key is neither Avro nor UTF-8"));
            }
            self.key.extend_from_slice(key);
            return Ok(());
        };
        let at = self.keys.place(id, &self.schemas, &self.wanted)?;
        let plan = &self.keys.plans[at].2;
        // Numbers are written as what they are: of a key no schema needs to say more.
        let mut hints = [Hint::Unknown; HINTS];
        plan.write(datum, &mut self.key, &mut hints).map_err(|wrong| bad_avro("key", id, &wrong.to_string()))
    }
}

/// A message in the wire format.
#[inline]
fn wired(message: &[u8]) -> Option<Wired<'_>> {
    match message {
        [0, a, b, c, d, datum @ ..] => Some((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        _ => None,
    }
}

#[cold]
fn bad_avro(what: &str, id: u32, wrong: &str) -> Reject {
    Reject::new(Reason::BadAvro, format!("the {what} is not of schema {id}: {wrong}"))
}

impl WantedOf {
    fn new(paths: &[FieldPath], key_count: usize) -> Self {
        let (mut debezium, mut flattened, mut row, mut key) = <(Wanted, Wanted, Wanted, Wanted)>::default();
        for name in debezium::ENVELOPE.iter().filter(|name| !matches!(**name, "before" | "after" | "source")) {
            debezium.add(&[*name], None);
        }
        for name in debezium::SOURCE_FIELDS {
            debezium.add(&["source", name], None);
        }
        flattened.add_prefix("__");
        for (at, path) in paths.iter().enumerate() {
            debezium.add(&within("after", path), Some(at));
            flattened.add(path.names(), Some(at));
            row.add(path.names(), Some(at));
            if at < key_count {
                debezium.add(&within("before", path), Some(paths.len() + at));
                key.add(path.names(), None);
            }
        }
        // Of documents, whatever their key is called.
        key.add(&["id"], None);
        WantedOf { debezium, flattened, row, key }
    }
}

fn within<'p>(image: &'p str, path: &'p FieldPath) -> Vec<&'p str> {
    std::iter::once(image).chain(path.names().iter().map(String::as_str)).collect()
}

/// What a schema's records are, by their fields.
fn shape(schema: &Schema) -> Shape {
    let fields = schema.root_record().unwrap_or_default();
    let has = |name: &str| fields.iter().any(|(known, _)| known == name);
    if has("op") && (has("before") || has("after") || has("source")) {
        Shape::Debezium
    } else if fields.iter().any(|(name, _)| name.starts_with("__op") || name.starts_with("__deleted")) {
        Shape::Flattened
    } else {
        Shape::Row
    }
}

impl Plans {
    fn of(part: Part) -> Self {
        Plans { of: part, plans: Vec::new(), last: 0 }
    }

    #[inline]
    fn find(&mut self, id: u32) -> Option<usize> {
        if self.plans.get(self.last).is_some_and(|(known, ..)| *known == id) {
            return Some(self.last);
        }
        let found = self.plans.iter().position(|(known, ..)| *known == id)?;
        self.last = found;
        Some(found)
    }

    /// The place of a schema's plan, which is made if this is its first record.
    #[inline]
    fn place(&mut self, id: u32, schemas: &Schemas, wanted: &WantedOf) -> Result<usize, Reject> {
        match self.find(id) {
            Some(found) => Ok(found),
            None => self.add(id, schemas, wanted),
        }
    }

    #[cold]
    fn add(&mut self, id: u32, schemas: &Schemas, wanted: &WantedOf) -> Result<usize, Reject> {
        let unknown = |why: &str| Err(Reject::new(Reason::UnknownSchema, format!("schema {id}: {why}")));
        let schema = match schemas.get(id) {
            Some(Known::Schema(schema)) => schema,
            Some(Known::Refused(why)) => return unknown(&why),
            None => return unknown("it is not fetched yet"),
        };
        let shape = if self.of == Part::Value { shape(&schema) } else { Shape::Row };
        let wanted = match (self.of, shape) {
            (Part::Key, _) => &wanted.key,
            (_, Shape::Debezium) => &wanted.debezium,
            (_, Shape::Flattened) => &wanted.flattened,
            (_, Shape::Row) => &wanted.row,
        };
        self.plans.push((id, shape, Plan::new(&schema, wanted)));
        self.last = self.plans.len() - 1;
        Ok(self.last)
    }
}
