//! One `[[source]]` of a job file: which fields its role needs, may have, and cannot have.
//!
//! Upholds: every field that is set is used. A field the role has no use for is a mistake with the reason, because it
//! shows that its author expects an answer the job will not give.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::diagnostics::{Mistakes, Reported, quoted};
use super::field_path::{FieldPath, IdSpec};
use super::fields::{Field, Section};
use super::topics::{self, Reader};
use super::{Absent, ClockMode, Format, Idle, KeySpace, MeasureSpec, Role, SourceSpec, StoreSpec, job_file, time};

/// Every field a source can have.
pub(super) const FIELDS: [&str; 18] = [
    "topic",
    "topics",
    "role",
    "format",
    "key",
    "key_space",
    "store",
    "amount",
    "currency",
    "product",
    "quantity",
    "kind",
    "time",
    "counts_when",
    "distinct",
    "table",
    "clock",
    "idle",
];

/// Envelopes of the design that no decoder exists for yet.
const FORMATS_TO_COME: [&str; 6] = ["dms", "maxwell", "canal", "mongodb", "avro", "auto"];

const ROLES: [(&str, Role); 4] =
    [("payments", Role::Payments), ("order_items", Role::OrderItems), ("products", Role::Products), ("clicks", Role::Clicks)];

/// What a role says to a field.
#[derive(Clone, Copy)]
enum Use {
    /// It cannot do without.
    Needed(&'static str),
    /// It may have it.
    Allowed,
    /// It has no use for it.
    Senseless(&'static str),
}

fn use_of(role: Role, field: &str) -> Use {
    use Role::{Clicks, OrderItems, Payments, Products};
    use Use::{Allowed, Needed, Senseless};
    match (field, role) {
        ("key" | "key_space", Clicks) => Senseless("a click is an event and has no key"),
        ("key", _) => Needed("the field of the row's primary key, or a list of fields"),
        ("counts_when", Clicks) => Senseless("every click counts"),
        ("amount", Payments) => Needed("the field of the amount"),
        ("amount" | "currency", OrderItems | Products | Clicks) => Senseless("only payments have it"),
        ("product", OrderItems) => Needed("the field of the product id"),
        ("product", Payments) => Senseless("only order_items and clicks have it"),
        ("product", Products) => Senseless("a product is known by its key"),
        ("quantity", OrderItems) => Needed("the field of the quantity"),
        ("quantity", _) => Senseless("only order_items have it"),
        ("kind", Clicks) => Needed("the field of the click's kind"),
        ("kind", _) => Senseless("only clicks have it"),
        ("distinct", OrderItems) => Senseless("distinct products of order_items are always counted"),
        ("distinct", Payments | Products) => Senseless("only clicks have it"),
        ("time", Products) => Senseless("products are counted as they are now, in no window"),
        ("time", _) => Needed("the field of the event time and its unit, such as { field = \"paid_at\", unit = \"ms\" }"),
        _ => Allowed,
    }
}

/// Reads one source; its topics also come back alone, to be held against those of the others.
pub(super) fn read<'a>(
    section: &Section<'a>,
    number: usize,
    job_has_currency: bool,
    mistakes: &mut Mistakes<'_>,
) -> (Result<SourceSpec, Reported>, Option<Reader<'a>>) {
    section.unknown(hint, mistakes);
    let topics = topics::read(section, mistakes);
    let table = section.field("table").map(|field| Ok(field.text(mistakes)?.to_owned())).transpose();
    let reader = match (&topics, &table) {
        (Ok(topics), Ok(table)) => Some(Reader { number, topics: topics.clone(), table: table.clone() }),
        _ => None,
    };
    let names = topics.map(|topics| topics.iter().map(|(_, topic)| (*topic).to_owned()).collect());
    (rest(section, names, table, job_has_currency, mistakes), reader)
}

fn rest(
    section: &Section<'_>,
    topics: Result<Vec<String>, Reported>,
    table: Result<Option<String>, Reported>,
    job_has_currency: bool,
    mistakes: &mut Mistakes<'_>,
) -> Result<SourceSpec, Reported> {
    let role = section
        .required("role", "every source needs one of \"payments\", \"order_items\", \"products\", \"clicks\"", mistakes)
        .and_then(|field| field.choice(&ROLES, mistakes));
    let part = Part { section, role: role.ok() };
    let format = part.format(mistakes);
    let table = match (section.field("table"), format) {
        (Some(field), Ok(format)) if format != Format::Debezium => {
            Err(field.wrong("makes no sense here; only debezium records name their table", mistakes))
        }
        _ => table,
    };
    let key = part.field("key", mistakes).and_then(|field| match field {
        Some(field) => Ok(field.texts(mistakes)?.into_iter().map(|(_, text)| FieldPath::field(text)).collect()),
        None => Ok(Vec::new()),
    });
    let key_space = part.field("key_space", mistakes).and_then(|field| match field {
        Some(field) => field.choice(&[("topic", KeySpace::Topic), ("role", KeySpace::Role)], mistakes),
        None => Ok(KeySpace::Topic),
    });
    let store = part.store(mistakes);
    let amount = part.text("amount", mistakes);
    let currency = part.currency(job_has_currency, mistakes);
    let product = part.text("product", mistakes);
    let quantity = part.text("quantity", mistakes);
    let kind = part.text("kind", mistakes);
    let time = part.field("time", mistakes).and_then(|field| field.map(|field| time::read(&field, mistakes)).transpose());
    let counts_when = part.field("counts_when", mistakes).and_then(|field| match field {
        Some(field) => counts_when(&field, mistakes),
        None => Ok(BTreeMap::new()),
    });
    let distinct = part.distinct(mistakes);
    let clock = match section.field("clock") {
        Some(field) => field.choice(&[("live", ClockMode::Live), ("records", ClockMode::Records)], mistakes),
        None => Ok(ClockMode::Live),
    };
    let idle = part.idle(mistakes);
    Ok(SourceSpec {
        topics: topics?,
        role: role?,
        name: None,
        format: format?,
        key: key?,
        key_space: key_space?,
        slot: 0,
        store: StoreSpec::Own(store?.into()),
        amount: amount?.map(MeasureSpec::from),
        currency: currency?.map(IdSpec::from),
        product: product?.map(IdSpec::from),
        quantity: quantity?.map(MeasureSpec::from),
        kind: kind?.map(IdSpec::from),
        time: time?,
        counts_when: counts_when?,
        distinct: distinct?,
        dedup: None,
        table: table?,
        allow_float: false,
        absent: Absent::Missing,
        incarnation: None,
        keep: None,
        clock: clock?,
        idle: idle?,
    })
}

/// A source whose role is known, or was itself a mistake: then nothing is asked of its fields but their type.
struct Part<'s, 'a> {
    section: &'s Section<'a>,
    role: Option<Role>,
}

impl<'a> Part<'_, 'a> {
    /// A field, as far as the role needs or allows it.
    fn field(&self, name: &str, mistakes: &mut Mistakes<'_>) -> Result<Option<Field<'a>>, Reported> {
        let Some(role) = self.role else {
            return Ok(self.section.field(name));
        };
        match (use_of(role, name), self.section.field(name)) {
            (Use::Senseless(why), Some(field)) => {
                Err(field.wrong(format!("makes no sense for {}; {why}", role.name()), mistakes))
            }
            (Use::Needed(what), None) => Err(self.section.missing(name, &format!("{} need {what}", role.name()), mistakes)),
            (_, field) => Ok(field),
        }
    }

    fn text(&self, name: &str, mistakes: &mut Mistakes<'_>) -> Result<Option<String>, Reported> {
        let field = self.field(name, mistakes)?;
        field.map(|field| Ok(field.text(mistakes)?.to_owned())).transpose()
    }

    fn format(&self, mistakes: &mut Mistakes<'_>) -> Result<Format, Reported> {
        let formats: &[(&str, Format)] = match self.role {
            Some(Role::Clicks) => &[("json", Format::Json)],
            Some(_) => &[("debezium", Format::Debezium), ("upsert", Format::Upsert)],
            None => &[("debezium", Format::Debezium), ("upsert", Format::Upsert), ("json", Format::Json)],
        };
        let words = formats.iter().map(|(word, _)| *word);
        let who = match self.role {
            Some(role) => format!("{} need", role.name()),
            None => "every source needs".to_owned(),
        };
        let field = self.section.required("format", &format!("{who} {}", either(words.clone())), mistakes)?;
        let text = field.text(mistakes)?;
        if FORMATS_TO_COME.contains(&text) {
            let supported = words.collect::<Vec<_>>().join(", ");
            return Err(field.wrong(format!("{} is not built yet; supported: {supported}", quoted(text)), mistakes));
        }
        if let (Some(role), "debezium" | "upsert" | "json") = (self.role, text)
            && !formats.iter().any(|(word, _)| *word == text)
        {
            let what = format!("{} is not for {}; use {}", quoted(text), role.name(), either(words));
            return Err(field.wrong(what, mistakes));
        }
        field.choice(formats, mistakes)
    }

    fn store(&self, mistakes: &mut Mistakes<'_>) -> Result<String, Reported> {
        let field = self.section.required("store", "every source needs the field of the store id", mistakes)?;
        if let DeValue::Table(_) = field.value() {
            return Err(field.wrong("by way of another table is not built yet; name a field of the record", mistakes));
        }
        let text = field.text(mistakes)?;
        if text.split_once('{').is_some_and(|(_, rest)| rest.contains('}')) {
            return Err(field
                .wrong(format!("{} is a template, which is not built yet; name a field of the record", quoted(text)), mistakes));
        }
        Ok(text.to_owned())
    }

    fn currency(&self, job_has_currency: bool, mistakes: &mut Mistakes<'_>) -> Result<Option<String>, Reported> {
        let currency = self.text("currency", mistakes)?;
        if self.role == Some(Role::Payments) && currency.is_none() && !job_has_currency {
            let why = "payments need the field of the currency here, or one currency for the whole job above the sources";
            return Err(self.section.missing("currency", why, mistakes));
        }
        Ok(currency)
    }

    fn idle(&self, mistakes: &mut Mistakes<'_>) -> Result<Idle, Reported> {
        let Some(field) = self.section.field("idle") else {
            return Ok(Idle::Wall);
        };
        let words = [("wall", Idle::Wall), ("heartbeat", Idle::Heartbeat), ("hold", Idle::Hold)];
        let idle = field.choice(&words, mistakes)?;
        if idle == Idle::Heartbeat && self.role == Some(Role::Clicks) {
            let what = "\"heartbeat\" makes no sense for clicks; only a change connector writes heartbeats";
            return Err(field.wrong(what, mistakes));
        }
        Ok(idle)
    }

    fn distinct(&self, mistakes: &mut Mistakes<'_>) -> Result<bool, Reported> {
        let field = self.field("distinct", mistakes)?;
        let has_product = self.section.field("product").is_some();
        let clicks = self.role == Some(Role::Clicks);
        let Some(field) = field else {
            return Ok(clicks && has_product);
        };
        let distinct = field.boolean(mistakes)?;
        if distinct && clicks && !has_product {
            return Err(self.section.missing("product", "distinct = true needs the field of the product id", mistakes));
        }
        Ok(distinct)
    }
}

fn either<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(quoted).collect::<Vec<_>>().join(" or ")
}

/// More than a likeness: fields of the job.
fn hint(name: &str) -> Option<&'static str> {
    let of_job = job_file::FIELDS.contains(&name) && name != "source";
    of_job.then_some("it belongs to the job, above the first [[source]]")
}

fn counts_when(field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<BTreeMap<FieldPath, Vec<String>>, Reported> {
    let section = field.table(&[], "{ status = [\"PAID\"] }", mistakes)?;
    let mut conditions = BTreeMap::new();
    let mut trouble = Ok(());
    for (name, field) in section.fields() {
        let accepted = match (name, accepted(&field, mistakes)) {
            ("", _) => Err(field.wrong("is no field name; name the field to compare", mistakes)),
            (_, accepted) => accepted,
        };
        match accepted {
            Ok(accepted) => drop(conditions.insert(FieldPath::field(name), accepted)),
            Err(reported) => trouble = Err(reported),
        }
    }
    trouble.map(|()| conditions)
}

/// The accepted values of one field, as the text the record is compared by.
fn accepted(field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<Vec<String>, Reported> {
    let items = match field.value() {
        DeValue::Array(_) => field.items(mistakes)?,
        _ => vec![field.clone()],
    };
    let mut texts = Vec::with_capacity(items.len());
    let mut trouble = Ok(());
    for item in items {
        let text = match item.value() {
            DeValue::String(text) => Ok(text.clone().into_owned()),
            DeValue::Boolean(value) => Ok(value.to_string()),
            DeValue::Integer(integer) => match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(value) if integer.radix() != 10 => Ok(value.to_string()),
                // As written, less the plus sign that JSON does not know.
                _ => Ok(integer.as_str().trim_start_matches('+').to_owned()),
            },
            DeValue::Float(float) if !float.as_str().contains(['i', 'n']) => {
                Ok(float.as_str().trim_start_matches('+').to_owned())
            }
            DeValue::Table(_) => Err(item.wrong(
                "must be text or a list of texts; a field is named literally, so put a name with dots in quotes",
                mistakes,
            )),
            _ => Err(item.wrong_type("text, a number, true, false, or a list of them", mistakes)),
        };
        match text {
            Ok(text) => texts.push(text),
            Err(reported) => trouble = Err(reported),
        }
    }
    trouble.map(|()| texts)
}
