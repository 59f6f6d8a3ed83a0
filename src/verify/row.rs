//! A row's fields: ids, amounts, times, and whether it counts.

use storeflow_dataflows::table::Table;

use super::json::{Json, Node};
use super::number::{NumberError, parse_decimal};
use super::time::{TimeError, parse_time};
use super::types::{CellId, Reason};
use super::windows::Windows;
use crate::config::field_path::IdSpec;
use crate::config::{Job, MeasureSpec, Role, SourceSpec};

/// Money further from zero, in minor units, is refused.
const AMOUNT_MAX: i128 = 10_i128.pow(26);
/// Quantities further from zero are refused.
const QUANTITY_MAX: i128 = 10_i128.pow(9);

/// What a row or an event contributes, if it counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// The cell it belongs to.
    pub(super) cell: CellId,
    /// The product that is to be counted once.
    pub(super) member: Option<String>,
    /// Minor units or items.
    pub(super) sum: i128,
    /// Its event time.
    pub(super) time: Option<u64>,
    /// Whether it contributes.
    pub(super) counts: bool,
}

/// Reads the row that `source` describes from `node`.
pub(super) fn read_row(job: &Job, source: &SourceSpec, node: &Node<'_>) -> Result<Row, Reason> {
    if !node.is_object() {
        return Err(Reason::NotAnObject);
    }
    // A field the job file does not name is one the row does not have.
    let named = |field: Option<String>| field.and_then(|field| node.get_some(&field));
    let of_id = |spec: &Option<IdSpec>| named(spec.as_ref().map(IdSpec::to_string));
    let of_measure = |spec: &Option<MeasureSpec>| named(spec.as_ref().map(|spec| spec.field.to_string()));
    let store = id(node.get(&source.store_field()))?;
    let (table, second, member, sum) = match source.role {
        Role::Payments => {
            (Table::StorePayments, currency(job, of_id(&source.currency))?, None, amount(job, of_measure(&source.amount))?)
        }
        Role::OrderItems => {
            (Table::StoreSales, String::new(), Some(id(of_id(&source.product))?), quantity(of_measure(&source.quantity))?)
        }
        Role::Lookup => unreachable!("no job with a lookup passes yet"),
        Role::Products => (Table::StoreProducts, String::new(), None, 0),
        Role::Clicks => {
            let kind = if source.kind.is_some() { id(of_id(&source.kind))? } else { String::new() };
            let product = of_id(&source.product).map(|product| id(Some(product))).transpose()?;
            (Table::StoreClicks, kind, product.filter(|_| source.distinct), 0)
        }
    };
    let time = match &source.time {
        Some(spec) => Some(parse_time(node.get_some(&spec.field.to_string()).ok_or(Reason::MissingField)?, &spec.unit)?),
        None => None,
    };
    let window = match table.windowed() {
        true => Some(Windows::of(job).start(time.ok_or(Reason::MissingField)?)),
        false => None,
    };
    Ok(Row { cell: CellId { table, store, second, window }, member, sum, time, counts: counts(source, node) })
}

/// An id: a string that is not empty, or the text of an integer.
pub(super) fn id(node: Option<&Node<'_>>) -> Result<String, Reason> {
    let node = node.filter(|node| !node.is_null()).ok_or(Reason::MissingField)?;
    match node.as_str().or(node.as_integer()) {
        None | Some("") => Err(Reason::BadId),
        Some(text) => Ok(text.to_string()),
    }
}

fn currency(job: &Job, node: Option<&Node<'_>>) -> Result<String, Reason> {
    match node {
        Some(_) => id(node).map_err(|_| Reason::BadCurrency),
        None => job.currency.clone().ok_or(Reason::BadCurrency),
    }
}

fn amount(job: &Job, node: Option<&Node<'_>>) -> Result<i128, Reason> {
    decimal(node.ok_or(Reason::MissingField)?, job.scale, AMOUNT_MAX).map_err(|error| match error {
        NumberError::Grammar => Reason::BadAmount,
        NumberError::Precision => Reason::AmountPrecision,
        NumberError::Range => Reason::AmountRange,
    })
}

fn quantity(node: Option<&Node<'_>>) -> Result<i128, Reason> {
    decimal(node.ok_or(Reason::MissingField)?, 0, QUANTITY_MAX).map_err(|_| Reason::BadQuantity)
}

/// A JSON number, or a string that is one but for leading zeros and a plus.
fn decimal(node: &Node<'_>, scale: u32, limit: i128) -> Result<i128, NumberError> {
    match &node.value {
        Json::Number => parse_decimal(node.text, false, scale, limit),
        Json::Text(text) => parse_decimal(text, true, scale, limit),
        _ => Err(NumberError::Grammar),
    }
}

fn counts(source: &SourceSpec, node: &Node<'_>) -> bool {
    source.counts_when.iter().all(|(field, accepted)| {
        let text = node.get(&field.to_string()).and_then(|node| match &node.value {
            Json::Text(text) => Some(&**text),
            Json::Number | Json::Bool => Some(node.text),
            _ => None,
        });
        text.is_some_and(|text| accepted.iter().any(|accepted| accepted == text))
    })
}

impl From<TimeError> for Reason {
    fn from(error: TimeError) -> Self {
        match error {
            TimeError::Grammar => Reason::BadTime,
            TimeError::Range => Reason::TimeRange,
        }
    }
}
