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

    /// Whether it is null: it has fields, and all of them are null or absent.
    pub(super) fn is_null(&self, values: &[Value<'_>]) -> bool {
        let mut fields = self.fields().peekable();
        fields.peek().is_some() && fields.all(|at| matches!(values[at], Value::Absent | Value::Null))
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
        let captures = spec.captures(topic).unwrap_or_default();
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
        self.complete_found(values);
    }

    /// As [`Projection::complete`], where the values are those of the needed fields already.
    #[inline]
    pub(super) fn complete_found(&self, values: &mut [Value<'_>]) {
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
        (Some(id), Some(_)) if id.is_null(values) => of_job(out),
        (Some(id), _) => id.write(values, hints, names, out).map_err(|reject| match reject.reason {
            Reason::PartialId => reject,
            _ => Reject { reason: Reason::BadCurrency, ..reject },
        }),
    }
}

#[cfg(test)]
mod tests {
    use storeflow_dataflows::key::Key;

    use super::*;
    use crate::config::{KeySpace, TimeSpec, TimeUnit};
    use crate::decode::keys::Keys;
    use crate::decode::testing::job_of;
    use crate::decode::{Decoded, Skipped, Truncate, json};

    fn payments() -> SourceSpec {
        SourceSpec {
            key: vec!["id".into()],
            amount: Some("amount".into()),
            currency: Some("currency".into()),
            time: Some(TimeSpec { field: "at".into(), unit: TimeUnit::Millis, zone: None }),
            counts_when: [("ok".into(), vec!["true".to_owned()]), ("state".into(), vec!["PAID".to_owned(), "1".to_owned()])]
                .into(),
            ..SourceSpec::plain("{site}.payments", Role::Payments, Format::Upsert, "store")
        }
    }

    fn what(spec: &SourceSpec, row: &str) -> Result<What, Reason> {
        what_of(&job_of(spec.clone()), spec, "kr.payments", row)
    }

    fn what_of(job: &Job, spec: &SourceSpec, topic: &str, row: &str) -> Result<What, Reason> {
        let mut projection = Projection::new(job, spec, topic);
        let (texts, mut values) = (Texts::default(), ROOM);
        let values = &mut values[..projection.len()];
        json::read(row.as_bytes(), projection.fields(), values).expect("JSON");
        projection.complete(values, &texts);
        let hints = if spec.format == Format::Mongodb { Hints::Extended } else { Hints::None };
        projection.what(values, hints).map_err(|reject| reject.reason)
    }

    fn cell(store: &str, second: &str) -> Key {
        cell_key(store.as_bytes(), second.as_bytes(), &mut Vec::new())
    }

    const WINDOW: u64 = 30 * 60_000;

    #[test]
    fn a_whole_row() {
        let row = r#"{"id":1,"store":7,"amount":"12.30","currency":"KRW","at":1800001,"state":"PAID","ok":true}"#;
        let expected = Row { cell: cell("7", "KRW"), member: Text::EMPTY, window: WINDOW as i64, amount: 1_230, lacks: 0 };
        assert_eq!(what(&payments(), row), Ok(What::Row(expected.clone())));
        for (state, ok, lacks) in
            [("1", "true", 0), ("\"1\"", "\"true\"", 0), ("2", "true", 2), ("null", "true", 2), ("1", "false", 1), ("{}", "1", 3)]
        {
            let row = format!(r#"{{"id":1,"store":7,"amount":12.3,"currency":"KRW","at":1800001,"state":{state},"ok":{ok}}}"#);
            assert_eq!(what(&payments(), &row), Ok(What::Row(Row { lacks, ..expected.clone() })), "{row}");
        }
        let without = r#"{"id":1,"store":7,"amount":"12.30","currency":"KRW","at":1800001}"#;
        assert_eq!(
            what(&payments(), without),
            Ok(What::Row(Row { lacks: 3, ..expected })),
            "a condition on what is not there does not hold"
        );
    }

    #[test]
    fn what_is_lacking_or_wrong_has_its_reason() {
        for (row, reason) in [
            (r#"{"amount":1,"currency":"K","at":1}"#, Reason::MissingField),
            (r#"{"store":"","amount":1,"currency":"K","at":1}"#, Reason::BadId),
            (r#"{"store":1,"amount":"x","currency":"K","at":1}"#, Reason::BadAmount),
            (r#"{"store":1,"amount":0.001,"currency":"K","at":1}"#, Reason::AmountPrecision),
            (r#"{"store":1,"amount":1e27,"currency":"K","at":1}"#, Reason::AmountRange),
            (r#"{"store":1,"amount":1,"at":1}"#, Reason::BadCurrency),
            (r#"{"store":1,"amount":1,"currency":"K","at":"x"}"#, Reason::BadTime),
        ] {
            assert_eq!(what(&payments(), row), Err(reason), "{row}");
        }
    }

    #[test]
    fn ids_are_composed_of_the_topic_and_of_fields() {
        let field = |name: &str| IdPart::Field(FieldPath::parse(name).expect("a path"));
        let text = |text: &str| IdPart::Text(text.to_owned());
        let spec = SourceSpec {
            store: StoreSpec::Own(IdSpec::Composed(vec![IdPart::Captured("site".to_owned()), text("/"), field("geo.store")])),
            currency: Some(IdSpec::Composed(vec![field("unit"), text("-"), field("part")])),
            absent: Absent::Unchanged,
            ..payments()
        };
        let row = |ids: &str| what(&spec, &format!(r#"{{"id":1,"amount":1,"at":0,"ok":true,"state":1,{ids}}}"#));
        let whole = |cell| Ok(What::Row(Row { cell, member: Text::EMPTY, window: 0, amount: 100, lacks: 0 }));
        let patch = |cell, says: u32| Ok(What::Patch(Row { cell, member: Text::EMPTY, window: 0, amount: 100, lacks: 0 }, says));
        assert_eq!(row(r#""geo":{"store":7},"unit":"K","part":"W""#), whole(cell("kr/7", "K-W")));
        assert_eq!(row(r#""geo":{"store":7}"#), patch(cell("kr/7", ""), says::ALL & !says::SECOND));
        assert_eq!(row(r#""unit":"K","part":"W""#), patch(cell("", "K-W"), says::ALL & !says::STORE));
        assert_eq!(row(r#""geo":{"store":7},"unit":"K""#), Err(Reason::PartialId));
        assert_eq!(row(r#""geo":{"store":7},"unit":"K","part":null"#), Err(Reason::BadCurrency));
        assert_eq!(row(r#""geo":{"store":[]},"unit":"K","part":"W""#), Err(Reason::BadId));
        let of_job = Job { currency: Some("EUR".to_owned()), ..job_of(spec.clone()) };
        let null = r#"{"id":1,"amount":1,"at":0,"ok":true,"state":1,"geo":{"store":7},"unit":null,"part":null}"#;
        assert_eq!(what_of(&of_job, &spec, "kr.payments", null), whole(cell("kr/7", "EUR")));
    }

    #[test]
    fn a_patch_says_which_parts() {
        let spec = SourceSpec { absent: Absent::Unchanged, ..payments() };
        let (all, row) =
            (says::ALL, |lacks, amount| Row { cell: cell("", ""), member: Text::EMPTY, window: NO_WINDOW, amount, lacks });
        let nothing = all & !(says::STORE | says::SECOND | says::WINDOW | says::AMOUNT | 3);
        assert_eq!(what(&spec, r#"{"id":1}"#), Ok(What::Patch(row(0, 0), nothing)));
        assert_eq!(what(&spec, r#"{"id":1,"amount":2}"#), Ok(What::Patch(row(0, 200), nothing | says::AMOUNT)));
        assert_eq!(what(&spec, r#"{"id":1,"state":"VOID"}"#), Ok(What::Patch(row(2, 0), nothing | 2)));
        assert_eq!(what(&spec, r#"{"id":1,"state":null,"ok":true}"#), Ok(What::Patch(row(2, 0), nothing | 3)));
        assert_eq!(what(&spec, r#"{"id":1,"amount":null}"#), Err(Reason::BadAmount), "a null is said");
        let of_job = SourceSpec { currency: None, ..spec };
        let job = Job { currency: Some("EUR".to_owned()), ..job_of(of_job.clone()) };
        let expected = Row { cell: cell("", "EUR"), ..row(0, 0) };
        let patch = what_of(&job, &of_job, "kr.payments", r#"{"id":1}"#);
        assert_eq!(patch, Ok(What::Patch(expected, nothing | says::SECOND)), "every change says the job's currency");
    }

    /// Orders that payments find their store through.
    fn through(lookup_topic: &str, topic: &str, key_space: KeySpace) -> (Job, SourceSpec, SourceSpec) {
        let orders = SourceSpec {
            name: Some("orders".to_owned()),
            key: vec!["region".into(), "id".into()],
            key_space,
            ..SourceSpec::plain(lookup_topic, Role::Lookup, Format::Upsert, "store")
        };
        let payments = SourceSpec {
            topics: vec![topic.to_owned()],
            store: StoreSpec::Through {
                lookup: "orders".to_owned(),
                on: ["o.region", "o.id"].map(|path| FieldPath::parse(path).expect("a path")).to_vec(),
            },
            time: None,
            counts_when: Default::default(),
            ..payments()
        };
        let job = Job { sources: vec![orders.clone(), payments.clone()], ..job_of(payments.clone()) };
        (job, orders, payments)
    }

    #[test]
    fn a_row_refers_to_the_lookups_row_by_its_key_and_lives_in_its_shard() {
        for (lookup_topic, topic, of_lookup, of_payment, key_space, beginning) in [
            ("orders", "payments", "orders", "payments", KeySpace::Topic, &b"\x04\x06orders"[..]),
            ("{site}.orders", "{site}.payments", "kr.orders", "kr.payments", KeySpace::Topic, b"\x04\x06orders\x02kr"),
            ("{b}-{a}.orders", "p.{a}.{b}", "x-yy.orders", "p.yy.x", KeySpace::Topic, b"\x04\x06orders\x02yy\x01x"),
            ("{site}.orders", "{site}.payments", "kr.orders", "kr.payments", KeySpace::Role, b"\x04\x06orders"),
            ("orders", "{site}.payments", "orders", "kr.payments", KeySpace::Topic, b"\x04\x06orders"),
        ] {
            let (job, orders, payments) = through(lookup_topic, topic, key_space);
            let mut keys = Keys::new(&job, &orders, of_lookup, 9_000);
            let key = keys.of_object(br#"{"region":"ap","id":42}"#).expect("a key");
            assert_eq!(key.text.as_bytes(), [beginning, b"\x02ap42"].concat(), "{lookup_topic}");
            let row = r#"{"id":1,"amount":1,"currency":"KRW","o":{"region":"ap","id":"42"}}"#;
            let Ok(What::Row(row)) = what_of(&job, &payments, of_payment, row) else { panic!("a row") };
            assert_eq!(row.cell.cell_parts(), (key.text.as_bytes(), &b"KRW"[..]));
            assert_eq!((row.cell.shard(), row.window), (key.shard(), ELSEWHERE));
            let expected = match key_space {
                KeySpace::Topic => Decoded::Truncate(Truncate { space: Text::new(beginning), version: None }),
                KeySpace::Role => Decoded::Skipped(Skipped::Control),
            };
            assert_eq!(keys.truncate(None), expected);
        }
        let (job, _, payments) = through("orders", "payments", KeySpace::Topic);
        let unchanged = SourceSpec { absent: Absent::Unchanged, ..payments.clone() };
        let of = |spec: &SourceSpec, row: &str| what_of(&job, spec, "payments", row);
        assert_eq!(of(&unchanged, r#"{"id":1,"amount":1,"currency":"K","o":{"id":1}}"#), Err(Reason::PartialId));
        assert_eq!(of(&payments, r#"{"id":1,"amount":1,"currency":"K","o":{"id":1}}"#), Err(Reason::MissingField));
        let Ok(What::Patch(row, said)) = of(&unchanged, r#"{"id":1,"amount":1,"currency":"K"}"#) else { panic!("a patch") };
        assert_eq!((row.cell.cell_parts(), said), ((&b""[..], &b"K"[..]), says::ALL & !says::STORE));
    }

    #[test]
    fn a_lookups_row_has_a_store_and_no_window_unless_it_has_a_time() {
        let (job, orders, _) = through("orders", "payments", KeySpace::Topic);
        let row = r#"{"region":"ap","id":42,"store":7,"at":1800000}"#;
        let of = |spec: &SourceSpec| what_of(&job, spec, "orders", row);
        let expected = Row { cell: cell("7", ""), member: Text::EMPTY, window: NO_WINDOW, amount: 0, lacks: 0 };
        assert_eq!(of(&orders), Ok(What::Row(expected.clone())));
        let timed = SourceSpec { time: Some(TimeSpec { field: "at".into(), unit: TimeUnit::Millis, zone: None }), ..orders };
        assert_eq!(of(&timed), Ok(What::Row(Row { window: WINDOW as i64, ..expected })));
    }

    #[test]
    fn extended_json_says_itself_what_it_is() {
        let spec =
            SourceSpec { format: Format::Mongodb, counts_when: [("state".into(), vec!["1".to_owned()])].into(), ..payments() };
        let row = |store: &str, amount: &str, at: &str, state: &str| {
            what(&spec, &format!(r#"{{"store":{store},"amount":{amount},"currency":"K","at":{at},"state":{state}}}"#))
        };
        let good = |store: &str, lacks| {
            Ok(What::Row(Row { cell: cell(store, "K"), member: Text::EMPTY, window: WINDOW as i64, amount: 150, lacks }))
        };
        let (date, decimal) = (r#"{"$date":1800000}"#, r#"{"$numberDecimal":"1.50"}"#);
        assert_eq!(row(r#"{"$oid":"66f0"}"#, decimal, date, "1"), good("66f0", 0));
        let (long, canonical) = (r#"{"$numberLong":"12"}"#, r#"{"$date":{"$numberLong":"1800000"}}"#);
        assert_eq!(row(long, "\"1.5\"", canonical, r#"{"$numberInt":"1"}"#), good("12", 0));
        assert_eq!(
            row(r#"{"$uuid":"a-b"}"#, decimal, r#"{"$date":"1970-01-01T00:30:00Z"}"#, r#"{"$numberDouble":"1"}"#),
            good("a-b", 0)
        );
        assert_eq!(row("5", decimal, "1800000", date), good("5", 1), "a date is no text");
        assert_eq!(row("5", "1.5", date, "1"), Err(Reason::Float));
        assert_eq!(row("5", r#"{"$numberDouble":"1.5"}"#, date, "1"), Err(Reason::Float));
        assert_eq!(row(decimal, decimal, date, "1"), Err(Reason::BadId));
        assert_eq!(row("5", r#"{"$oid":"12"}"#, date, "1"), Err(Reason::BadAmount));
        assert_eq!(row("5", decimal, r#"{"$oid":"12"}"#, "1"), Err(Reason::BadTime));
        let floats = SourceSpec { allow_float: true, ..spec.clone() };
        let of =
            |amount: &str| what(&floats, &format!(r#"{{"store":5,"amount":{amount},"currency":"K","at":1800000,"state":1}}"#));
        assert_eq!(of("1.5"), good("5", 0));
        assert_eq!(of(r#"{"$numberDouble":"1.5"}"#), good("5", 0));
        assert_eq!(of(r#"{"$numberDouble":"NaN"}"#), Err(Reason::BadAmount));
    }
}
