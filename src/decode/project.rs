//! From a row's fields to what it contributes.
//!
//! ```text
//! values, hints ──► store (own, composed, or the key of a lookup's row) ─┐
//!                   second, product, amount, time, conditions           ├─► Row, or Patch with what it says
//!                   any of them unsaid ─────────────────────────────────┘
//! ```
//!
//! Upholds: the same row whatever format brought it. Keeps: scratch space. Absent on purpose: what a format's message looks like, and
//! keys (see [`keys`](super::keys)).

use storeflow_dataflows::change::{Row, What, says};
use storeflow_dataflows::key::Text;
use storeflow_dataflows::table::{ELSEWHERE, NO_WINDOW};

use super::json::{Fields, Value};
use super::paths::{FIELDS_MAX, Paths, Texts};
use super::values::{self, Hint, Measure, Times};
use super::{Reason, Reject, Settings, cell_key, extended_json, keys, space};
use crate::config::field_path::{FieldPath, IdPart, IdSpec};
use crate::config::{Absent, Format, Job, MeasureSpec, Role, SourceSpec, StoreSpec};

/// What is known of the needed values besides their text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hints<'h> {
    /// Nothing.
    None,
    /// What a schema says, one for each needed field.
    Schema(&'h [Hint]),
    /// The values are MongoDB's extended JSON and say it themselves.
    Extended,
}

impl Hints<'_> {
    /// A value as it is to be read, with what is known of it.
    #[inline]
    pub(super) fn of<'a>(self, values: &[Value<'a>], at: usize) -> (Value<'a>, Hint) {
        match self {
            Hints::None => (values[at], Hint::Unknown),
            Hints::Schema(hints) => (values[at], hints.get(at).copied().unwrap_or_default()),
            Hints::Extended => extended_json::open(values[at]),
        }
    }
}

/// Room for the values of a row's needed fields.
pub(super) const ROOM: [Value<'static>; FIELDS_MAX] = [Value::Absent; FIELDS_MAX];

/// The fields that a source needs of a row, each once.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    paths: Vec<FieldPath>,
}

impl Needs {
    /// The place of a field's value.
    pub(super) fn add(&mut self, path: &FieldPath) -> usize {
        self.paths.iter().position(|known| known == path).unwrap_or_else(|| {
            self.paths.push(path.clone());
            self.paths.len() - 1
        })
    }

    /// An id; what the topic captures becomes text.
    pub(super) fn id(&mut self, id: &IdSpec, captures: &[(String, String)]) -> Id {
        match id {
            IdSpec::Field(path) => Id::Field(self.add(path)),
            IdSpec::Composed(parts) => Id::Composed(parts.iter().map(|part| self.piece(part, captures)).collect()),
        }
    }

    fn piece(&mut self, part: &IdPart, captures: &[(String, String)]) -> Piece {
        match part {
            IdPart::Text(text) => Piece::Text(text.clone().into_bytes()),
            IdPart::Captured(name) => {
                let value = captures.iter().find(|(its, _)| its == name).map(|(_, value)| value.clone());
                Piece::Text(value.unwrap_or_default().into_bytes())
            }
            IdPart::Field(path) => Piece::Field(self.add(path)),
        }
    }

    /// Names of the fields, for people, and where they are.
    pub(super) fn finish(self) -> (Vec<String>, Paths, Vec<FieldPath>) {
        (self.paths.iter().map(ToString::to_string).collect(), Paths::new(&self.paths), self.paths)
    }
}

/// How an id is made of needed fields.
#[derive(Clone, Debug)]
pub(super) enum Id {
    Field(usize),
    Composed(Vec<Piece>),
}

#[derive(Clone, Debug)]
pub(super) enum Piece {
    Text(Vec<u8>),
    Field(usize),
}

impl Id {
    /// Writes the id to `out`; false if it is unsaid.
    #[inline]
    pub(super) fn write(
        &self,
        values: &[Value<'_>],
        hints: Hints<'_>,
        names: &[String],
        out: &mut Vec<u8>,
    ) -> Result<bool, Reject> {
        out.clear();
        match self {
            Id::Field(at) if values[*at] == Value::Unsaid => Ok(false),
            Id::Field(at) => {
                let (value, hint) = hints.of(values, *at);
                values::push_id(value, hint, &names[*at], out).map(|()| true)
            }
            Id::Composed(pieces) => {
                if !all_or_none_said(self.fields(), values, names)? {
                    return Ok(false);
                }
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.extend_from_slice(text),
                        Piece::Field(at) => {
                            let (value, hint) = hints.of(values, *at);
                            values::push_id(value, hint, &names[*at], out)?;
                        }
                    }
                }
                Ok(true)
            }
        }
    }

    /// The places of its fields.
    pub(super) fn fields(&self) -> impl Iterator<Item = usize> + Clone {
        let (one, pieces) = match self {
            Id::Field(at) => (Some(*at), &[][..]),
            Id::Composed(pieces) => (None, &pieces[..]),
        };
        let fields = pieces.iter().filter_map(|piece| if let Piece::Field(at) = piece { Some(*at) } else { None });
        one.into_iter().chain(fields)
    }

    /// Whether any of its fields is null or absent.
    pub(super) fn lacks(&self, values: &[Value<'_>]) -> bool {
        self.fields().any(|at| matches!(values[at], Value::Absent | Value::Null))
    }
}

/// Whether the fields of one id are said; some without the others are not enough.
fn all_or_none_said(
    mut fields: impl Iterator<Item = usize> + Clone,
    values: &[Value<'_>],
    names: &[String],
) -> Result<bool, Reject> {
    let unsaid = |at: usize| values[at] == Value::Unsaid;
    let Some(lost) = fields.clone().find(|at| unsaid(*at)) else { return Ok(true) };
    match fields.find(|at| !unsaid(*at)) {
        None => Ok(false),
        Some(said) => Err(Reject::new(
            Reason::PartialId,
            format!("the change says field \"{}\" of an id, but not \"{}\"", names[said], names[lost]),
        )),
    }
}

/// Where a row's store is.
enum Store {
    Own(Id),
    /// In the lookup's row whose key begins so and goes on with these fields.
    Through(Vec<u8>, Vec<usize>),
}

/// What a source needs of a row, and how it becomes what the row contributes. Its key fields come first.
pub(super) struct Projection {
    settings: Settings,
    role: Role,
    names: Vec<String>,
    paths: Paths,
    field_paths: Vec<FieldPath>,
    key_count: usize,
    store: Store,
    second: Option<Id>,
    member: Option<Id>,
    measure: Option<(usize, Measure)>,
    time: Option<(usize, Times)>,
    /// In the order of their fields' paths: the place of a condition is its bit in [`says`].
    conditions: Vec<(usize, Vec<Vec<u8>>)>,
    absent: Absent,
    placeholders: bool,
    scratch: Scratch,
}

#[derive(Default)]
struct Scratch {
    store: Vec<u8>,
    second: Vec<u8>,
    member: Vec<u8>,
    part: Vec<u8>,
    cell: Vec<u8>,
}

impl Projection {
    /// Of a source's rows in one of its topics.
    pub(super) fn new(job: &Job, spec: &SourceSpec, topic: &str) -> Self {
        let captures = space::captures(spec, topic).unwrap_or_default();
        let mut needs = Needs { paths: spec.key.clone() };
        let store = match &spec.store {
            StoreSpec::Own(id) => Store::Own(needs.id(id, &captures)),
            StoreSpec::Through { lookup, on } => {
                let on = on.iter().map(|path| needs.add(path)).collect();
                Store::Through(space::lookup(job, lookup, spec, topic), on)
            }
        };
        let second = spec.currency.as_ref().map(|id| needs.id(id, &captures));
        let member = spec.product.as_ref().map(|id| needs.id(id, &captures));
        let measure = spec.amount.as_ref().or(spec.quantity.as_ref());
        let measure = measure.map(|measure| (needs.add(&measure.field), Projection::measure(measure, spec)));
        let time = spec.time.as_ref().map(|time| (needs.add(&time.field), Times::new(&time.unit, time.zone.as_deref())));
        let accepted = |texts: &Vec<String>| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let conditions = spec.counts_when.iter().map(|(field, texts)| (needs.add(field), accepted(texts))).collect();
        let (names, paths, field_paths) = needs.finish();
        Projection {
            settings: Settings::new(job),
            role: spec.role,
            names,
            paths,
            field_paths,
            key_count: spec.key.len(),
            store,
            second,
            member,
            measure,
            time,
            conditions,
            absent: spec.absent,
            placeholders: matches!(spec.format, Format::Debezium | Format::Flattened | Format::Avro | Format::Auto),
            scratch: Scratch::default(),
        }
    }

    fn measure(spec: &MeasureSpec, source: &SourceSpec) -> Measure {
        Measure { decimal: spec.decimal, allow_float: source.allow_float }
    }

    /// The same source's rows in a format that never leaves out large values.
    pub(super) fn without_placeholders(mut self) -> Self {
        self.placeholders = false;
        self
    }

    /// The first names of the needed fields, to be looked for in a row; then see [`Projection::complete`].
    pub(super) fn fields(&self) -> &Fields {
        self.paths.fields()
    }

    /// The needed fields, key fields first.
    pub(super) fn field_paths(&self) -> &[FieldPath] {
        &self.field_paths
    }

    /// The fields of the key.
    pub(super) fn key_paths(&self) -> &[FieldPath] {
        &self.field_paths[..self.key_count]
    }

    /// The first names, for who looks for more at the same time.
    pub(super) fn heads(&self) -> &[String] {
        self.paths.heads()
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.paths.len()
    }

    /// Makes the values of the first names those of the needed fields, and tells what is unsaid from what is absent. Once for each row.
    #[inline]
    pub(super) fn complete<'a>(&self, values: &mut [Value<'a>], texts: &'a Texts) {
        self.paths.descend(values, texts, self.placeholders);
        if self.absent == Absent::Unchanged {
            values.iter_mut().filter(|value| **value == Value::Absent).for_each(|value| *value = Value::Unsaid);
        }
    }

    /// The values of the key fields.
    pub(super) fn key_values<'v, 'a>(&self, values: &'v [Value<'a>]) -> &'v [Value<'a>] {
        &values[..self.key_count]
    }

    /// The row's own event time, if it is readable.
    pub(super) fn own_time(&self, values: &[Value<'_>], hints: Hints<'_>) -> Option<u64> {
        let (at, times) = self.time.as_ref()?;
        let (value, hint) = hints.of(values, *at);
        times.read(value, hint, "").ok()
    }

    /// What the row is, or what it says of the stored one.
    ///
    /// # Errors
    /// The first of its fields that is not what it must be.
    pub(super) fn what(&mut self, values: &[Value<'_>], hints: Hints<'_>) -> Result<What, Reject> {
        let Scratch { store, second, member, part, cell } = &mut self.scratch;
        let names = &self.names[..];
        let mut said = says::ALL;
        let mut note = |bit: u32, is_said: bool| said &= if is_said { u32::MAX } else { !bit };
        let store_said = match &self.store {
            Store::Own(id) => id.write(values, hints, names, store)?,
            Store::Through(beginning, on) => through(beginning, on, values, hints, names, store, part)?,
        };
        note(says::STORE, store_said);
        if self.role == Role::Payments {
            note(says::SECOND, currency(self.second.as_ref(), values, hints, names, self.settings.currency.as_deref(), second)?);
        }
        if let Some(id) = &self.member {
            note(says::MEMBER, id.write(values, hints, names, member)?);
        }
        let amount = match &self.measure {
            Some((at, _)) if values[*at] == Value::Unsaid => {
                note(says::AMOUNT, false);
                0
            }
            Some((at, measure)) => {
                let (value, hint) = hints.of(values, *at);
                match self.role {
                    Role::Payments => measure.amount(value, hint, self.settings.scale, &names[*at])?,
                    _ => measure.quantity(value, hint, &names[*at])?,
                }
            }
            None => 0,
        };
        let window = match &self.time {
            Some((at, _)) if values[*at] == Value::Unsaid => {
                note(says::WINDOW, false);
                NO_WINDOW
            }
            Some((at, times)) => {
                let (value, hint) = hints.of(values, *at);
                self.settings.horizons.window_of(times.read(value, hint, &names[*at])?)
            }
            None => match self.role {
                Role::Payments | Role::OrderItems => ELSEWHERE,
                Role::Products | Role::Clicks | Role::Lookup => NO_WINDOW,
            },
        };
        let mut lacks = 0;
        for (bit, (at, accepted)) in self.conditions.iter().enumerate() {
            if values[*at] == Value::Unsaid {
                note(1 << bit, false);
                continue;
            }
            let (value, hint) = hints.of(values, *at);
            let met = values::comparable(value, hint).is_some_and(|text| accepted.iter().any(|one| one[..] == *text));
            lacks |= u32::from(!met) << bit;
        }
        let row = Row { cell: cell_key(store, second, cell), member: Text::new(member), window, amount, lacks };
        Ok(if said == says::ALL { What::Row(row) } else { What::Patch(row, said) })
    }
}

/// Writes the key of the lookup's row that a row refers to; false if it is unsaid.
fn through(
    beginning: &[u8],
    on: &[usize],
    values: &[Value<'_>],
    hints: Hints<'_>,
    names: &[String],
    out: &mut Vec<u8>,
    part: &mut Vec<u8>,
) -> Result<bool, Reject> {
    out.clear();
    if !all_or_none_said(on.iter().copied(), values, names)? {
        return Ok(false);
    }
    out.extend_from_slice(beginning);
    for (place, at) in on.iter().enumerate() {
        let (value, hint) = hints.of(values, *at);
        part.clear();
        values::push_id(value, hint, &names[*at], part)?;
        keys::push_part(out, part, place + 1 == on.len());
    }
    Ok(true)
}

/// Writes the currency; false if it is unsaid.
fn currency(
    id: Option<&Id>,
    values: &[Value<'_>],
    hints: Hints<'_>,
    names: &[String],
    default: Option<&str>,
    out: &mut Vec<u8>,
) -> Result<bool, Reject> {
    let of_job = |out: &mut Vec<u8>| {
        out.clear();
        out.extend_from_slice(default.unwrap_or_default().as_bytes());
        Ok(true)
    };
    match (id, default) {
        (None, Some(_)) => of_job(out),
        (None, None) => Err(Reject::new(Reason::BadCurrency, "neither the source nor the job names a currency")),
        (Some(id), Some(_)) if id.lacks(values) => of_job(out),
        (Some(id), _) => id.write(values, hints, names, out).map_err(|reject| match reject.reason {
            Reason::PartialId => reject,
            _ => Reject { reason: Reason::BadCurrency, ..reject },
        }),
    }
}
