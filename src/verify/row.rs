//! A row's fields: ids, amounts, times, and whether it counts. Each may be left unsaid.

use std::collections::BTreeMap;

use storeflow_dataflows::table::Table;

use super::fields::{Fields, Said, Value};
use super::number::{NumberError, parse_decimal};
use super::time::{TimeError, event_time};
use super::types::Reason;
use crate::config::field_path::{FieldPath, IdPart, IdSpec};
use crate::config::{Decimal, Job, MeasureSpec, Role, SourceSpec, StoreSpec};

/// Money further from zero, in minor units, is refused.
const AMOUNT_MAX: i128 = 10_i128.pow(26);
/// Quantities further from zero are refused.
const QUANTITY_MAX: i128 = 10_i128.pow(9);

/// What a record says of a row. What is `None` it does not say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Where it counts; a row of a lookup counts nowhere by itself.
    pub(super) table: Option<Table>,
    /// The store, or where that is found.
    pub(super) store: Option<Store>,
    /// The currency of a payment, the kind of a click, empty otherwise.
    pub(super) second: Option<String>,
    /// The product that is to be counted once.
    pub(super) member: Option<Option<String>>,
    /// Minor units or items.
    pub(super) sum: Option<i128>,
    /// Its event time.
    pub(super) time: Option<Time>,
    /// Whether each condition holds.
    pub(super) conditions: Vec<Option<bool>>,
    /// How long a row of a lookup is kept.
    pub(super) keep: Option<u64>,
}

/// The store of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Store {
    /// This.
    Own(String),
    /// That of a row of a lookup, whose key has these parts.
    Through(Vec<String>),
}

/// The event time of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// It has none and needs none.
    Without,
    /// That of the row it refers to.
    Elsewhere,
    /// Milliseconds since 1970.
    At(u64),
}

impl Row {
    /// Whether it leaves anything unsaid.
    pub(super) fn is_patch(&self) -> bool {
        let Row { table: _, store, second, member, sum, time, conditions, keep: _ } = self;
        store.is_none()
            || second.is_none()
            || member.is_none()
            || sum.is_none()
            || time.is_none()
            || conditions.iter().any(Option::is_none)
    }

    /// Its event time, if it says one.
    pub(super) fn millis(&self) -> Option<u64> {
        match self.time {
            Some(Time::At(millis)) => Some(millis),
            Some(Time::Without | Time::Elsewhere) | None => None,
        }
    }
}

/// Reads the row that `source` describes.
pub(super) fn read_row(
    job: &Job,
    source: &SourceSpec,
    captured: &BTreeMap<String, String>,
    fields: &Fields<'_>,
) -> Result<Row, Reason> {
    let id = |spec: &IdSpec| id(spec, captured, fields);
    let store = match &source.store {
        StoreSpec::Own(spec) => needed(id(spec)?)?.map(Store::Own),
        StoreSpec::Through { on, .. } => {
            let parts: Vec<_> = on.iter().map(|path| needed(id_of_field(path, fields)?)).collect::<Result<_, _>>()?;
            whole(parts)?.map(Store::Through)
        }
    };
    let (table, second, member, sum) = match source.role {
        Role::Payments => {
            let spec = source.amount.as_ref().ok_or(Reason::MissingField)?;
            let amount = measure(source, spec, job.scale, AMOUNT_MAX, fields)?.map_err(|error| match error {
                MeasureError::Float => Reason::Float,
                MeasureError::Number(NumberError::Grammar) => Reason::BadAmount,
                MeasureError::Number(NumberError::Precision) => Reason::AmountPrecision,
                MeasureError::Number(NumberError::Range) => Reason::AmountRange,
            })?;
            (Some(Table::StorePayments), currency(job, source, id)?, Some(None), amount)
        }
        Role::OrderItems => {
            let product = source.product.as_ref().map_or(Ok(Part::Null), id)?;
            let spec = source.quantity.as_ref().ok_or(Reason::MissingField)?;
            let quantity = measure(source, spec, 0, QUANTITY_MAX, fields)?.map_err(|error| match error {
                MeasureError::Float => Reason::Float,
                MeasureError::Number(_) => Reason::BadQuantity,
            })?;
            (Some(Table::StoreSales), Some(String::new()), needed(product)?.map(Some), quantity)
        }
        Role::Products => (Some(Table::StoreProducts), Some(String::new()), Some(None), Some(0)),
        Role::Lookup => (None, Some(String::new()), Some(None), Some(0)),
        Role::Clicks => {
            let kind = source.kind.as_ref().map(|spec| needed(id(spec)?)).unwrap_or(Ok(Some(String::new())))?;
            let product = match source.product.as_ref().map_or(Ok(Part::Null), id)? {
                Part::Unsaid => None,
                Part::Null => Some(None),
                Part::Said(product) => Some(Some(product).filter(|_| source.distinct)),
            };
            (Some(Table::StoreClicks), kind, product, Some(0))
        }
    };
    let time = match (&source.time, source.role, &source.store) {
        (_, Role::Products, _) | (None, Role::Lookup, _) => Some(Time::Without),
        (None, _, StoreSpec::Through { .. }) => Some(Time::Elsewhere),
        (None, _, StoreSpec::Own(_)) => return Err(Reason::MissingField),
        (Some(spec), ..) => match fields.get(&spec.field) {
            Said::Nothing => None,
            Said::Null => return Err(Reason::MissingField),
            Said::Value(value) => Some(Time::At(event_time(&value, spec)?)),
        },
    };
    let conditions = source.counts_when.iter().map(|(path, accepted)| match fields.get(path) {
        Said::Nothing => None,
        Said::Null => Some(false),
        Said::Value(value) => Some(value.text().is_some_and(|text| accepted.contains(&text))),
    });
    Ok(Row { table, store, second, member, sum, time, conditions: conditions.collect(), keep: source.keep })
}

/// The id by which a click is known that is told twice.
pub(super) fn event_id(
    source: &SourceSpec,
    captured: &BTreeMap<String, String>,
    fields: &Fields<'_>,
) -> Result<Option<String>, Reason> {
    match &source.dedup {
        None => Ok(None),
        Some(dedup) => needed(id(&dedup.id, captured, fields)?)?.ok_or(Reason::MissingField).map(Some),
    }
}

/// The key of a row, which must be said.
pub(super) fn key_parts(source: &SourceSpec, fields: &Fields<'_>) -> Result<Vec<String>, Reason> {
    let part = |path| needed(id_of_field(path, fields)?)?.ok_or(Reason::MissingField);
    source.key.iter().map(part).collect()
}

/// An id, if it is one.
pub(super) fn id_of_field(path: &FieldPath, fields: &Fields<'_>) -> Result<Part, Reason> {
    Ok(match fields.get(path) {
        Said::Nothing => Part::Unsaid,
        Said::Null => Part::Null,
        Said::Value(value) => Part::Said(value.id().ok_or(Reason::BadId)?),
    })
}

/// What is said of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Unsaid,
    Null,
    Said(String),
}

/// An id that must not be null; `None` if it is unsaid.
pub(super) fn needed(part: Part) -> Result<Option<String>, Reason> {
    match part {
        Part::Unsaid => Ok(None),
        Part::Null => Err(Reason::MissingField),
        Part::Said(text) => Ok(Some(text)),
    }
}

/// All parts, or none.
fn whole(parts: Vec<Option<String>>) -> Result<Option<Vec<String>>, Reason> {
    if parts.iter().all(Option::is_none) {
        return Ok(None);
    }
    parts.into_iter().collect::<Option<Vec<_>>>().ok_or(Reason::PartialId).map(Some)
}

/// An id by its specification. A composed one is null if all of its fields are.
fn id(spec: &IdSpec, captured: &BTreeMap<String, String>, fields: &Fields<'_>) -> Result<Part, Reason> {
    let parts = match spec {
        IdSpec::Field(path) => return id_of_field(path, fields),
        IdSpec::Composed(parts) => parts,
    };
    let of_fields: Vec<Part> = spec.fields().into_iter().map(|path| id_of_field(path, fields)).collect::<Result<_, _>>()?;
    let unsaid = of_fields.iter().filter(|part| **part == Part::Unsaid).count();
    if unsaid > 0 {
        return if unsaid == of_fields.len() { Ok(Part::Unsaid) } else { Err(Reason::PartialId) };
    }
    if !of_fields.is_empty() && of_fields.iter().all(|part| *part == Part::Null) {
        return Ok(Part::Null);
    }
    let (mut text, mut of_fields) = (String::new(), of_fields.into_iter());
    for part in parts {
        match part {
            IdPart::Text(fixed) => text.push_str(fixed),
            IdPart::Captured(name) => text.push_str(captured.get(name).ok_or(Reason::MissingField)?),
            IdPart::Field(_) => {
                let said = of_fields.next().map(needed).transpose()?.flatten();
                text.push_str(&said.ok_or(Reason::MissingField)?);
            }
        }
    }
    Ok(Part::Said(text))
}

fn currency(job: &Job, source: &SourceSpec, id: impl Fn(&IdSpec) -> Result<Part, Reason>) -> Result<Option<String>, Reason> {
    let part = source.currency.as_ref().map_or(Ok(Part::Null), id);
    match part {
        Ok(Part::Said(text)) => Ok(Some(text)),
        Ok(Part::Unsaid) => Ok(None),
        Ok(Part::Null) => job.currency.clone().ok_or(Reason::BadCurrency).map(Some),
        Err(Reason::PartialId) => Err(Reason::PartialId),
        Err(_) => Err(Reason::BadCurrency),
    }
}

enum MeasureError {
    Float,
    Number(NumberError),
}

/// A number in units of 10^-scale, at most `limit` from zero; `None` if it is unsaid.
fn measure(
    source: &SourceSpec,
    spec: &MeasureSpec,
    scale: u32,
    limit: i128,
    fields: &Fields<'_>,
) -> Result<Result<Option<i128>, MeasureError>, Reason> {
    let value: Value<'_> = match fields.get(&spec.field) {
        Said::Nothing => return Ok(Ok(None)),
        Said::Null => return Err(Reason::MissingField),
        Said::Value(value) => value,
    };
    if value.is_float() && !source.allow_float {
        return Ok(Err(MeasureError::Float));
    }
    let base64 = match spec.decimal {
        Decimal::Text => None,
        Decimal::Base64 { scale } => Some(scale),
    };
    let units = value.number(base64).and_then(|(text, lenient)| parse_decimal(&text, lenient, scale, limit));
    Ok(units.map(Some).map_err(MeasureError::Number))
}

impl From<TimeError> for Reason {
    fn from(error: TimeError) -> Self {
        match error {
            TimeError::Grammar => Reason::BadTime,
            TimeError::Range => Reason::TimeRange,
        }
    }
}
