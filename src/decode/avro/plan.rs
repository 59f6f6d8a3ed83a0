//! What a source needs of the records of one schema: found once per schema, so that a walk over a datum only follows it.
//!
//! ```text
//! wanted paths (op, source.*, after.id, after.store.id, …) × schema ──► for each field of each record on the way: skip, write, or go into
//! ```
//!
//! Upholds: what is written is JSON text with the wanted fields where the schema has them; what is not wanted is not in it. A union is
//! its branch, a map an object.
//! Keeps: per schema as many steps as there are fields in the records that wanted paths lead into.

use std::sync::Arc;

use super::datum::{Reader, Wrong, push_text};
use super::schema::{Meaning, Place, Schema, Type};
use crate::decode::values::Hint;

/// Paths that are wanted, as a tree of names.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// The value itself.
    whole: bool,
    /// What its schema says of the value is to be told of these fields of the row.
    told: u64,
    /// Names that begin so, and their whole values.
    prefixed: Option<&'static str>,
    names: Vec<(String, Wanted)>,
}

impl Wanted {
    /// Wants a path's value; `field` is the number of the row's field that it is.
    pub(super) fn add<N: AsRef<str>>(&mut self, path: &[N], field: Option<usize>) {
        let [first, rest @ ..] = path else {
            self.whole = true;
            self.told |= field.map_or(0, |field| 1 << field);
            return;
        };
        self.below(first.as_ref()).add(rest, field);
    }

    /// Wants all fields of the record whose names begin with this.
    pub(super) fn add_prefix(&mut self, prefix: &'static str) {
        self.prefixed = Some(prefix);
    }

    fn below(&mut self, name: &str) -> &mut Wanted {
        let at = match self.names.iter().position(|(known, _)| known == name) {
            Some(at) => at,
            None => {
                self.names.push((name.to_owned(), Wanted::default()));
                self.names.len() - 1
            }
        };
        &mut self.names[at].1
    }

    fn of(&self, name: &str) -> Option<&Wanted> {
        self.names.iter().find(|(known, _)| known == name).map(|(_, wanted)| wanted)
    }
}

/// What to do with a value.
#[derive(Debug)]
enum Step {
    Skip(Place),
    /// Write all of it, and tell of it.
    Whole(Place, u64, Hint),
    Union(Vec<Step>),
    /// Each field with its name as JSON text and a colon; without one it is skipped.
    Record(Vec<(Vec<u8>, Step)>),
    /// The wanted names, and how all other values are skipped.
    Map(Vec<(String, Step)>, Place),
}

/// How the datums of a schema are read.
#[derive(Debug)]
pub(super) struct Plan {
    schema: Arc<Schema>,
    root: Step,
}

impl Plan {
    pub(super) fn new(schema: &Arc<Schema>, wanted: &Wanted) -> Plan {
        Plan { schema: Arc::clone(schema), root: step(schema, schema.root(), wanted) }
    }

    /// Writes a datum's wanted parts as one JSON value, and what the schema says of the row's fields to `said`.
    pub(super) fn write(&self, datum: &[u8], out: &mut Vec<u8>, said: &mut [Hint]) -> Result<(), Wrong> {
        let mut reader = Reader::new(datum);
        self.follow(&self.root, &mut reader, 0, out, said)?;
        reader.end()
    }

    fn follow(
        &self,
        step: &Step,
        reader: &mut Reader<'_>,
        depth: u32,
        out: &mut Vec<u8>,
        said: &mut [Hint],
    ) -> Result<(), Wrong> {
        match step {
            Step::Skip(place) => reader.skip(&self.schema, *place, depth),
            Step::Whole(place, told, what) => {
                let mut told = *told;
                while told != 0 {
                    said[told.trailing_zeros() as usize] = *what;
                    told &= told - 1;
                }
                reader.write(&self.schema, *place, depth, out)
            }
            Step::Union(branches) => {
                let branch = reader.choice(branches.len())?;
                self.follow(&branches[branch], reader, depth + 1, out, said)
            }
            Step::Record(fields) => {
                let mut before = b'{';
                for (name, step) in fields {
                    if !name.is_empty() {
                        out.push(before);
                        before = b',';
                        out.extend_from_slice(name);
                    }
                    self.follow(step, reader, depth + 1, out, said)?;
                }
                out.extend_from_slice(if before == b'{' { b"{}" } else { b"}" });
                Ok(())
            }
            Step::Map(wanted, values) => {
                let mut before = b'{';
                reader.items(&self.schema, Place::MAX, |reader| {
                    let name = reader.text()?;
                    let Some((_, step)) = wanted.iter().find(|(known, _)| known.as_bytes() == name) else {
                        return reader.skip(&self.schema, *values, depth + 1);
                    };
                    out.push(before);
                    before = b',';
                    push_text(out, name);
                    out.push(b':');
                    self.follow(step, reader, depth + 1, out, said)
                })?;
                out.extend_from_slice(if before == b'{' { b"{}" } else { b"}" });
                Ok(())
            }
        }
    }
}

/// What to do with the values of a type. It ends, as each step into a record or a map goes one name down the paths.
fn step(schema: &Schema, place: Place, wanted: &Wanted) -> Step {
    if wanted.whole {
        return whole(schema, place, wanted);
    }
    match schema.of(place) {
        Type::Union(branches) => Step::Union(branches.iter().map(|&branch| step(schema, branch, wanted)).collect()),
        Type::Record(fields) => {
            let field = |(name, of): &(String, Place)| {
                let text = || {
                    let mut text = Vec::with_capacity(name.len() + 3);
                    push_text(&mut text, name.as_bytes());
                    text.push(b':');
                    text
                };
                match wanted.of(name) {
                    Some(wanted) => (text(), step(schema, *of, wanted)),
                    None if wanted.prefixed.is_some_and(|prefix| name.starts_with(prefix)) => {
                        (text(), Step::Whole(*of, 0, Hint::Unknown))
                    }
                    None => (Vec::new(), Step::Skip(*of)),
                }
            };
            Step::Record(fields.iter().map(field).collect())
        }
        Type::Map(values) => {
            let names = wanted.names.iter();
            Step::Map(names.map(|(name, wanted)| (name.clone(), step(schema, *values, wanted))).collect(), *values)
        }
        // A path may go on within a string that is JSON; through anything else it leads nowhere, which its value shows.
        _ => whole(schema, place, wanted),
    }
}

/// Writes all of a value; of a union, what is told depends on the branch.
fn whole(schema: &Schema, place: Place, wanted: &Wanted) -> Step {
    let said = match schema.of(place) {
        Type::Union(branches) if wanted.told != 0 => {
            return Step::Union(branches.iter().map(|&branch| whole(schema, branch, wanted)).collect());
        }
        Type::Float | Type::Double => Hint::Float,
        Type::Meant(_, Meaning::Time(clock)) => Hint::Time(*clock),
        _ => Hint::Unknown,
    };
    Step::Whole(place, wanted.told, said)
}
