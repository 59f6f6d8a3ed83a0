//! One `[[source]]` of a job file: which fields its role needs, may have, and cannot have.
//!
//! Upholds: every field that is set is used. A field the role has no use for is a mistake with the reason, because it
//! shows that its author expects an answer the job will not give.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::diagnostics::{Mistakes, Reported, quoted, quoted_list};
use super::field_path::{FieldPath, IdSpec};
use super::fields::{Field, Section};
use super::lookups::{Party, Through};
use super::topics::{self, Captured, Reader};
use super::{
    Absent, ClockMode, Decimal, DedupSpec, Format, Idle, KeySpace, MeasureSpec, Role, SourceSpec, StoreSpec, TimeSpec, job_file,
    time,
};
use crate::decode::FIELDS_MAX;

/// Every field a source can have.
pub(super) const FIELDS: [&str; 24] = [
    "topic",
    "topics",
    "role",
    "name",
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
    "dedup",
    "table",
    "allow_float",
    "absent",
    "incarnation",
    "keep",
    "clock",
    "idle",
];

const ROLES: [Role; 5] = [Role::Payments, Role::OrderItems, Role::Products, Role::Clicks, Role::Lookup];

const FORMATS: [Format; 10] = [
    Format::Debezium,
    Format::Flattened,
    Format::Dms,
    Format::Maxwell,
    Format::Canal,
    Format::Mongodb,
    Format::Upsert,
    Format::Avro,
    Format::Json,
    Format::Auto,
];

/// Conditions of one source: a change says of each whether it is said, in two bytes.
const CONDITIONS_MAX: usize = 16;

const SECOND: u64 = 1_000;
const TEN_YEARS: u64 = 3650 * 24 * 3600 * SECOND;
const LENGTHS: RangeInclusive<u64> = SECOND..=TEN_YEARS;

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
    use Role::{Clicks, Lookup, OrderItems, Payments, Products};
    use Use::{Allowed, Needed, Senseless};
    match (field, role) {
        ("name", Lookup) => Needed("a name by which sources refer to it"),
        ("name", _) => Senseless("only a lookup is referred to by a name"),
        ("key" | "key_space", Clicks) => Senseless("a click is an event and has no key"),
        ("key", _) => Needed("the field of the row's primary key, or a list of fields"),
        ("counts_when", Clicks) => Senseless("every click counts"),
        ("absent" | "incarnation", Clicks) => Senseless("a click is whole, and never the later version of another"),
        ("amount", Payments) => Needed("the field of the amount"),
        ("currency", Payments) => Allowed,
        ("amount" | "currency", _) => Senseless("only payments have it"),
        ("product", OrderItems) => Needed("the field of the product id"),
        ("product", Products) => Senseless("a product is known by its key"),
        ("product", Payments | Lookup) => Senseless("only order_items and clicks have it"),
        ("quantity", OrderItems) => Needed("the field of the quantity"),
        ("quantity", _) => Senseless("only order_items have it"),
        ("allow_float", Products | Clicks | Lookup) => Senseless("only payments and order_items have a number"),
        ("kind", Clicks) => Needed("the field of the click's kind"),
        ("kind", _) => Senseless("only clicks have it"),
        ("distinct", OrderItems) => Senseless("distinct products of order_items are always counted"),
        ("distinct" | "dedup", Payments | OrderItems | Products | Lookup) => Senseless("only clicks have it"),
        ("keep", Payments | OrderItems | Products | Clicks) => {
            Senseless("only the rows of a lookup are kept for a time of their own")
        }
        ("time", Products) => Senseless("products are counted as they are now, in no window"),
        ("time", Payments | OrderItems | Clicks) => {
            Needed("the field of the event time and its unit, such as { field = \"paid_at\", unit = \"ms\" }")
        }
        _ => Allowed,
    }
}

impl Format {
    /// Whether rows of a role may come in it.
    fn suits(self, role: Role) -> bool {
        match self {
            Format::Json => role == Role::Clicks,
            Format::Avro => true,
            _ => role != Role::Clicks,
        }
    }

    /// Whether its records may name their table.
    fn names_tables(self) -> bool {
        !matches!(self, Format::Upsert | Format::Json)
    }

    /// Whether its changes may have versions.
    fn has_versions(self) -> bool {
        !matches!(self, Format::Upsert | Format::Canal | Format::Json)
    }
}

/// A source, and what the others are held against, each as far as it could be read.
pub(super) struct Read<'a> {
    /// The source.
    pub(super) source: Result<SourceSpec, Reported>,
    /// What it reads.
    pub(super) reader: Option<Reader<'a>>,
    /// What it says of lookups.
    pub(super) party: Party<'a>,
}

/// Reads one source.
pub(super) fn read<'a>(section: &Section<'a>, number: usize, job_has_currency: bool, mistakes: &mut Mistakes<'_>) -> Read<'a> {
    section.unknown(hint, mistakes);
    let topics = topics::read(section, mistakes);
    let roles: Vec<(&str, Role)> = ROLES.iter().map(|role| (role.name(), *role)).collect();
    let words = roles.iter().map(|(word, _)| *word);
    let role = section
        .required("role", &format!("every source needs one of {}", quoted_list(words)), mistakes)
        .and_then(|field| field.choice(&roles, mistakes));
    let part = Part {
        section,
        role: role.ok(),
        captured: topics.as_ref().ok().map(|topics| Captured::new(topics.clone())).unwrap_or_default(),
    };
    let format = part.format(mistakes);
    let table = part.table(format, mistakes);
    let key = part.field("key", mistakes).and_then(|field| match field {
        Some(field) => key(&field, format, mistakes),
        None => Ok(Vec::new()),
    });
    let key_space = part.field("key_space", mistakes).and_then(|field| match field {
        Some(field) => field.choice(&[("topic", KeySpace::Topic), ("role", KeySpace::Role)], mistakes),
        None => Ok(KeySpace::Topic),
    });
    let store = part.store(mistakes);
    let keep = part.field("keep", mistakes).and_then(|field| field.map(|field| field.duration(LENGTHS, mistakes)).transpose());
    let reader = match (&topics, &table) {
        (Ok(topics), Ok(table)) => Some(Reader { number, topics: topics.clone(), table: table.clone(), format: format.ok() }),
        _ => None,
    };
    let party = Party {
        number,
        section: section.clone(),
        role: role.ok(),
        captured: topics.is_ok().then(|| part.captured.clone()),
        key_count: key.as_ref().ok().map(Vec::len),
        key_space: key_space.ok(),
        keep: keep.ok(),
        through: match &store {
            Ok(Store::Own(_)) => Some(None),
            Ok(Store::Through(through, _)) => Some(Some(through.clone())),
            Err(_) => None,
        },
    };
    let store = store.map(|store| match store {
        Store::Own(id) => StoreSpec::Own(id),
        Store::Through(through, on) => StoreSpec::Through { lookup: through.lookup.1.to_owned(), on },
    });
    let topics = topics.map(|topics| topics.iter().map(|(_, topic)| (*topic).to_owned()).collect());
    let known = Known { topics, role, format, table, key, key_space, store, keep };
    Read { source: part.rest(known, job_has_currency, mistakes), reader, party }
}

/// What is read of a source before the rest.
struct Known {
    topics: Result<Vec<String>, Reported>,
    role: Result<Role, Reported>,
    format: Result<Format, Reported>,
    table: Result<Option<String>, Reported>,
    key: Result<Vec<FieldPath>, Reported>,
    key_space: Result<KeySpace, Reported>,
    store: Result<StoreSpec, Reported>,
    keep: Result<Option<u64>, Reported>,
}

/// Where the store is, as it was read.
enum Store<'a> {
    Own(IdSpec),
    Through(Through<'a>, Vec<FieldPath>),
}

/// A source whose role is known, or was itself a mistake: then nothing is asked of its fields but their type.
struct Part<'s, 'a> {
    section: &'s Section<'a>,
    role: Option<Role>,
    captured: Captured<'a>,
}

impl<'a> Part<'_, 'a> {
    fn rest(&self, known: Known, job_has_currency: bool, mistakes: &mut Mistakes<'_>) -> Result<SourceSpec, Reported> {
        let name = self.text("name", mistakes);
        let amount = self.measure("amount", mistakes);
        let currency = self.currency(job_has_currency, mistakes);
        let product = self.id("product", mistakes);
        let quantity = self.measure("quantity", mistakes);
        let kind = self.id("kind", mistakes);
        let time = self.time(mistakes);
        let counts_when = self.field("counts_when", mistakes).and_then(|field| match field {
            Some(field) => counts_when(&field, mistakes),
            None => Ok(BTreeMap::new()),
        });
        let distinct = self.distinct(mistakes);
        let dedup = self.field("dedup", mistakes).and_then(|field| field.map(|field| self.dedup(&field, mistakes)).transpose());
        let allow_float =
            self.field("allow_float", mistakes).and_then(|field| field.map_or(Ok(false), |field| field.boolean(mistakes)));
        let absents = [("missing", Absent::Missing), ("unchanged", Absent::Unchanged)];
        let absent = self
            .field("absent", mistakes)
            .and_then(|field| field.map_or(Ok(Absent::Missing), |field| field.choice(&absents, mistakes)));
        let incarnation = self.incarnation(known.format, mistakes);
        let clock = match self.section.field("clock") {
            Some(field) => field.choice(&[("live", ClockMode::Live), ("records", ClockMode::Records)], mistakes),
            None => Ok(ClockMode::Live),
        };
        let idle = self.idle(mistakes);
        let source = SourceSpec {
            topics: known.topics?,
            role: known.role?,
            name: name?,
            format: known.format?,
            key: known.key?,
            key_space: known.key_space?,
            slot: 0,
            store: known.store?,
            amount: amount?,
            currency: currency?,
            product: product?,
            quantity: quantity?,
            kind: kind?,
            time: time?,
            counts_when: counts_when?,
            distinct: distinct?,
            dedup: dedup?,
            table: known.table?,
            allow_float: allow_float?,
            absent: absent?,
            incarnation: incarnation?,
            keep: known.keep?,
            clock: clock?,
            idle: idle?,
        };
        let fields = source.fields().len();
        if fields > FIELDS_MAX {
            let what = format!("needs {fields} different fields of its rows; {FIELDS_MAX} is the most");
            return Err(mistakes.note(self.section.extent.start, format!("{}{what}", self.section.subject)));
        }
        Ok(source)
    }

    /// A field, as far as the role needs or allows it.
    fn field(&self, name: &str, mistakes: &mut Mistakes<'_>) -> Result<Option<Field<'a>>, Reported> {
        let Some(role) = self.role else {
            return Ok(self.section.field(name));
        };
        match (use_of(role, name), self.section.field(name)) {
            (Use::Senseless(why), Some(field)) => {
                Err(field.wrong(format!("makes no sense for {}; {why}", plural(role)), mistakes))
            }
            (Use::Needed(what), None) => Err(self.section.missing(name, &format!("{} need {what}", plural(role)), mistakes)),
            (_, field) => Ok(field),
        }
    }

    fn text(&self, name: &str, mistakes: &mut Mistakes<'_>) -> Result<Option<String>, Reported> {
        let field = self.field(name, mistakes)?;
        field.map(|field| Ok(field.text(mistakes)?.to_owned())).transpose()
    }

    fn id(&self, name: &str, mistakes: &mut Mistakes<'_>) -> Result<Option<IdSpec>, Reported> {
        let field = self.field(name, mistakes)?;
        field.map(|field| self.id_of(&field, mistakes)).transpose()
    }

    /// An id, and whether each topic captures what it takes from the topic's name.
    fn id_of(&self, field: &Field<'a>, mistakes: &mut Mistakes<'_>) -> Result<IdSpec, Reported> {
        let text = field.text(mistakes)?;
        let id = IdSpec::parse(text, |name| self.captured.has(name));
        let id = id.map_err(|what| field.wrong(format!("{} {what}", quoted(text)), mistakes))?;
        let without = id.captured().find_map(|name| Some((name, self.captured.without(name)?)));
        match without.map(|(name, (_, topic))| (name.to_owned(), *topic)) {
            None => Ok(id),
            Some((name, topic)) => {
                let what = format!("{} has {{{name}}}, which topic {} does not capture", quoted(text), quoted(topic));
                Err(field.wrong(format!("{what}; let every topic of the source capture it"), mistakes))
            }
        }
    }

    fn format(&self, mistakes: &mut Mistakes<'_>) -> Result<Format, Reported> {
        let suits = |format: &Format| self.role.is_none_or(|role| format.suits(role));
        let formats: Vec<(&str, Format)> = FORMATS.into_iter().filter(suits).map(|format| (format.name(), format)).collect();
        let words = quoted_list(formats.iter().map(|(word, _)| *word));
        let who = self.role.map_or("every source needs".to_owned(), |role| format!("{} need", plural(role)));
        let field = self.section.required("format", &format!("{who} one of {words}"), mistakes)?;
        let text = field.text(mistakes)?;
        if let (Some(role), Some(format)) = (self.role, FORMATS.into_iter().find(|format| format.name() == text))
            && !format.suits(role)
        {
            let what = format!("{} is not for {}; use one of {words}", quoted(text), plural(role));
            return Err(field.wrong(what, mistakes));
        }
        field.choice(&formats, mistakes)
    }

    fn table(&self, format: Result<Format, Reported>, mistakes: &mut Mistakes<'_>) -> Result<Option<String>, Reported> {
        let Some(field) = self.section.field("table") else { return Ok(None) };
        if self.role == Some(Role::Clicks) {
            return Err(field.wrong("makes no sense for clicks; a click is of no table", mistakes));
        }
        if let Ok(format) = format
            && !format.names_tables()
        {
            let what = format!("makes no sense here; {} records do not name their table", format.name());
            return Err(field.wrong(what, mistakes));
        }
        Ok(Some(field.text(mistakes)?.to_owned()))
    }

    fn store(&self, mistakes: &mut Mistakes<'_>) -> Result<Store<'a>, Reported> {
        const EXAMPLE: &str = "{ through = \"orders\", on = \"order_id\" }";
        let field = self.section.required("store", "every source needs the field of the store id", mistakes)?;
        match (field.value(), self.role) {
            (DeValue::String(_), _) => return Ok(Store::Own(self.id_of(&field, mistakes)?)),
            (DeValue::Table(_), Some(Role::Clicks)) => {
                let what = "through a lookup makes no sense for clicks; a click is counted once, whatever becomes of other rows";
                return Err(field.wrong(what, mistakes));
            }
            (DeValue::Table(_), Some(Role::Lookup)) => {
                return Err(field.wrong("of a lookup cannot be found through another one; name a field of its rows", mistakes));
            }
            (DeValue::Table(_), _) => {}
            _ => return Err(field.wrong_type(&format!("text, or a table, such as {EXAMPLE}"), mistakes)),
        }
        let section = field.table(&["through", "on"], EXAMPLE, mistakes)?;
        section.unknown(|_| None, mistakes);
        let lookup = section
            .required("through", "the name of the lookup that has the store", mistakes)
            .and_then(|field| Ok((field.text(mistakes)?, field)));
        let on = section
            .required("on", "the field that holds the lookup's key, or a list of fields", mistakes)
            .and_then(|field| Ok((field.paths(mistakes)?, field)));
        let ((name, field), (on, field_of_on)) = (lookup?, on?);
        Ok(Store::Through(Through { lookup: (field, name), on: (field_of_on, on.len()) }, on))
    }

    /// A number's field, with how it is written if it is not as text.
    fn measure(&self, name: &str, mistakes: &mut Mistakes<'_>) -> Result<Option<MeasureSpec>, Reported> {
        const EXAMPLE: &str = "{ field = \"amount\", decimal = \"base64\", scale = 2 }";
        let Some(field) = self.field(name, mistakes)? else { return Ok(None) };
        match field.value() {
            DeValue::String(_) => return Ok(Some(MeasureSpec { field: field.path(mistakes)?, decimal: Decimal::Text })),
            DeValue::Table(_) => {}
            _ => return Err(field.wrong_type(&format!("text, or a table, such as {EXAMPLE}"), mistakes)),
        }
        let section = field.table(&["field", "decimal", "scale"], EXAMPLE, mistakes)?;
        section.unknown(|_| None, mistakes);
        let path = section.required("field", "name the field that holds the number", mistakes);
        let path = path.and_then(|field| field.path(mistakes));
        let base64 =
            section.field("decimal").map_or(Ok(false), |field| field.choice(&[("text", false), ("base64", true)], mistakes));
        let decimal = match (base64, section.field("scale")) {
            (Ok(true), None) => {
                let why = "base64 needs the number of decimal digits, which the column's type says";
                Err(section.missing("scale", why, mistakes))
            }
            (Ok(false), Some(field)) => {
                Err(field.wrong("makes no sense without decimal = \"base64\"; text says its own", mistakes))
            }
            (Ok(false), None) => Ok(Decimal::Text),
            (base64, Some(field)) => {
                let scale = field.integer(0..=38, mistakes);
                base64.and(scale).map(|scale| Decimal::Base64 { scale })
            }
            (Err(reported), None) => Err(reported),
        };
        Ok(Some(MeasureSpec { field: path?, decimal: decimal? }))
    }

    fn currency(&self, job_has_currency: bool, mistakes: &mut Mistakes<'_>) -> Result<Option<IdSpec>, Reported> {
        let currency = self.id("currency", mistakes)?;
        if self.role == Some(Role::Payments) && currency.is_none() && !job_has_currency {
            let why = "payments need the field of the currency here, or one currency for the whole job above the sources";
            return Err(self.section.missing("currency", why, mistakes));
        }
        Ok(currency)
    }

    /// The time; that of a lookup's row may take its place, which is found out later.
    fn time(&self, mistakes: &mut Mistakes<'_>) -> Result<Option<TimeSpec>, Reported> {
        let through = matches!(self.section.field("store").map(|store| store.value()), Some(DeValue::Table(_)));
        if through && self.section.field("time").is_none() {
            return Ok(None);
        }
        self.field("time", mistakes)?.map(|field| time::read(&field, mistakes)).transpose()
    }

    fn dedup(&self, field: &Field<'a>, mistakes: &mut Mistakes<'_>) -> Result<DedupSpec, Reported> {
        const EXAMPLE: &str = "{ field = \"event_id\", horizon = \"1h\" }";
        let section = field.table(&["field", "horizon"], EXAMPLE, mistakes)?;
        section.unknown(|_| None, mistakes);
        let id = section.required("field", "name the field of the event id", mistakes).and_then(|field| {
            let id = self.id_of(&field, mistakes)?;
            if id.fields().is_empty() {
                return Err(field.wrong("is the same for all clicks of a topic; name a field of the click", mistakes));
            }
            Ok(id)
        });
        let horizon = section
            .required("horizon", "say how long an event id is remembered, such as \"1h\"", mistakes)
            .and_then(|field| field.duration(LENGTHS, mistakes));
        Ok(DedupSpec { id: id?, horizon: horizon? })
    }

    fn incarnation(&self, format: Result<Format, Reported>, mistakes: &mut Mistakes<'_>) -> Result<Option<String>, Reported> {
        let field = self.field("incarnation", mistakes)?;
        if let (Some(field), Ok(format)) = (&field, format)
            && !format.has_versions()
        {
            let what = format!("makes no sense here; {} changes have no version", format.name());
            return Err(field.wrong(what, mistakes));
        }
        field.map(|field| Ok(field.text(mistakes)?.to_owned())).transpose()
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

/// A role as the subject of a sentence.
fn plural(role: Role) -> &'static str {
    if role == Role::Lookup { "lookups" } else { role.name() }
}

/// More than a likeness: fields of the job.
fn hint(name: &str) -> Option<&'static str> {
    let of_job = job_file::FIELDS.contains(&name) && name != "source";
    of_job.then_some("it belongs to the job, above the first [[source]]")
}

fn key(field: &Field<'_>, format: Result<Format, Reported>, mistakes: &mut Mistakes<'_>) -> Result<Vec<FieldPath>, Reported> {
    let key = field.paths(mistakes)?;
    if format == Ok(Format::Mongodb) && key.len() > 1 {
        return Err(field.wrong("has several fields; a document of mongodb has one, its _id", mistakes));
    }
    Ok(key)
}

fn counts_when(field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<BTreeMap<FieldPath, Vec<String>>, Reported> {
    let section = field.table(&[], "{ status = [\"PAID\"] }", mistakes)?;
    let mut conditions = BTreeMap::new();
    let mut trouble = Ok(());
    for (at, (name, field)) in section.fields().enumerate() {
        if at == CONDITIONS_MAX {
            return Err(field.wrong(format!("is one condition too many; at most {CONDITIONS_MAX}"), mistakes));
        }
        let accepted = accepted(&field, mistakes);
        let path = match FieldPath::parse(name) {
            Err(_) if name.is_empty() => Err(field.wrong("is no field name; name the field to compare", mistakes)),
            Err(what) => Err(field.wrong(format!("is no field name: it {what}"), mistakes)),
            Ok(path) if conditions.contains_key(&path) => Err(field.wrong("is compared twice; keep one of them", mistakes)),
            Ok(path) => Ok(path),
        };
        match path.and_then(|path| Ok((path, accepted?))) {
            Ok((path, accepted)) => drop(conditions.insert(path, accepted)),
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
                "must be text or a list of texts; put the path of a field in quotes, such as \"payload.status\"",
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
