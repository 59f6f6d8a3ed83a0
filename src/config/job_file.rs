//! Reads a job file: TOML in, a complete [`Job`] or every mistake out.
//!
//! ```text
//! bytes ──► text ──► TOML, with places ──► job fields ─┬─► Job
//!              └► not UTF-8   └► what TOML could not   └─ [[source]] … ──► topics read once
//!                                read: the rest is checked all the same
//! ```
//!
//! Upholds: (1) no bytes make it panic or run for long; (2) every field is checked even if others are wrong; (3) a
//! [`Job`] it returns holds only values the rest of the program may rely on without looking again.
//! A field of a record is named by its path: `store = "order.store_id"` is within `order`, and `"\"order.store_id\""` the field with that name.
//! Absent on purpose: serde (it stops at the first mistake), and any default outside this folder.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use storeflow_dataflows::epoch::{Before, Horizons};
use toml::de::{DeTable, DeValue};

pub use super::diagnostics::{JobFileError, Mistake};

use super::diagnostics::{Mistakes, Reported, quoted};
use super::fields::{Field, Section};
use super::{Job, KafkaSpec, SourceSpec, duration, kafka, lookups, schema_registry, source, time, topics};

/// Every field of the job itself.
pub(super) const FIELDS: [&str; 11] = [
    "name",
    "window",
    "grace",
    "retention",
    "replay_horizon",
    "scale",
    "currency",
    "timezone",
    "source",
    "kafka",
    "schema_registry",
];

/// Room for 300 sites with sources of their own; also bounds what checking may cost.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// TOML's reader drops nested tables recursively, and lets dotted keys nest them some 6,000 deep (6 MiB of stack).
const STACK_BYTES: usize = 64 << 20;
const NAME_CHARACTERS_MAX: usize = 64;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const TEN_YEARS: u64 = 3650 * DAY;

/// Reads a job file.
pub fn load(path: &Path) -> Result<Job, JobFileError> {
    let file = path.display().to_string();
    match read(path) {
        Ok(bytes) => parse_bytes(&bytes, &file),
        Err(source) => Err(JobFileError::Unreadable { file, source }),
    }
}

/// Reads the text of a job file; `file` is its name in messages.
pub fn parse(text: &str, file: &str) -> Result<Job, JobFileError> {
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(too_large(file));
    }
    on_large_stack("job file", || resolve(text, file))
        .unwrap_or_else(|source| Err(JobFileError::Unreadable { file: file.to_owned(), source }))
}

/// Does what TOML's reader needs a large stack for; an error if there is no thread to be had.
pub(super) fn on_large_stack<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn_scoped(scope, work)?;
        Ok(reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse_bytes(bytes: &[u8], file: &str) -> Result<Job, JobFileError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text, file),
        Err(_) if bytes.len() as u64 > FILE_BYTES_MAX => Err(too_large(file)),
        Err(error) => Err(not_utf8(bytes, error, file)),
    }
}

/// Says where a file stops being UTF-8.
pub(super) fn not_utf8(bytes: &[u8], error: std::str::Utf8Error, file: &str) -> JobFileError {
    let (before, rest) = bytes.split_at(error.valid_up_to());
    let before = String::from_utf8_lossy(before);
    let mut mistakes = Mistakes::new(&before);
    let byte = rest.first().copied().unwrap_or_default();
    let what = format!("byte 0x{byte:02x} is not UTF-8; save the file as UTF-8");
    let reported = mistakes.note(before.len(), what);
    mistakes.into_error(file, reported)
}

fn too_large(file: &str) -> JobFileError {
    JobFileError::TooLarge { file: file.to_owned(), limit: FILE_BYTES_MAX }
}

fn resolve(text: &str, file: &str) -> Result<Job, JobFileError> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let table = table.get_ref();
    let mut mistakes = Mistakes::new(text);
    let sources = source_sections(table, text.len());
    mistakes.syntax(&errors, |offset| {
        // A header is not yet part of what it begins.
        let line = text[..offset].rsplit('\n').next().unwrap_or("");
        if line.trim_start().starts_with('[') {
            return String::new();
        }
        let within = sources.iter().find(|(_, source)| source.extent.contains(&offset));
        within.map(|(_, source)| source.subject.clone()).unwrap_or_default()
    });
    let head = sources.iter().map(|(_, source)| source.extent.start).min().unwrap_or(text.len());
    let job = Section { table, extent: 0..head, subject: String::new(), path: String::new(), known: &FIELDS };
    match resolve_job(&job, &sources, &mut mistakes) {
        Ok(job) => mistakes.into_result(file, job),
        Err(reported) => Err(mistakes.into_error(file, reported)),
    }
}

/// The tables of `source` with their numbers, each up to the next one; what else `source` may be is noted later.
fn source_sections<'a>(table: &'a DeTable<'a>, end: usize) -> Vec<(usize, Section<'a>)> {
    let Some(DeValue::Array(items)) = table.get("source").map(|source| source.get_ref()) else {
        return Vec::new();
    };
    let starts: Vec<usize> = items.iter().map(|item| item.span().start).collect();
    let ends = starts.iter().skip(1).copied().chain([end]);
    items
        .iter()
        .zip(starts.iter().copied().zip(ends))
        .zip(1..)
        .filter_map(|((item, (start, end)), number)| {
            let table = item.get_ref().as_table()?;
            let extent = Range { start, end };
            Some((
                number,
                Section { table, extent, subject: subject(number, table), path: String::new(), known: &source::FIELDS },
            ))
        })
        .collect()
}

fn subject(number: usize, table: &DeTable<'_>) -> String {
    let first_of_topics = || table.get("topics")?.get_ref().get(0)?.get_ref().as_str();
    let topic = table.get("topic").and_then(|topic| topic.get_ref().as_str()).or_else(first_of_topics);
    match topic {
        Some(topic) => format!("source {number} (topic {}): ", quoted(topic)),
        None => format!("source {number}: "),
    }
}

fn resolve_job(section: &Section<'_>, sources: &[(usize, Section<'_>)], mistakes: &mut Mistakes<'_>) -> Result<Job, Reported> {
    section.unknown(hint, mistakes);
    let name = section
        .required("name", "every job needs one, such as name = \"mall\"", mistakes)
        .and_then(|field| name(&field, mistakes));
    let horizons = horizons(section, mistakes);
    let scale = section.field("scale").map_or(Ok(2), |field| field.integer(0..=18, mistakes));
    let currency = section.field("currency").map(|field| Ok(field.text(mistakes)?.to_owned())).transpose();
    let timezone = section.field("timezone").map_or(Ok("UTC".to_owned()), |field| time::read_zone(&field, mistakes));
    let kafka = section.field("kafka").map_or(Ok(KafkaSpec::default()), |field| kafka::read(&field, mistakes));
    let registry = section.field("schema_registry").map(|field| schema_registry::read(&field, mistakes)).transpose();
    let sources = resolve_sources(section, sources, mistakes);
    let sources = sources.and_then(|sources| schema_registry::check_used(section, &sources, mistakes).map(|()| sources));
    Ok(Job {
        name: name?,
        horizons: horizons?,
        scale: scale?,
        currency: currency?,
        timezone: timezone?,
        sources: sources?,
        kafka: kafka?,
        schema_registry: registry?,
    })
}

/// A field of a source that stands above all of them.
fn hint(name: &str) -> Option<&'static str> {
    source::FIELDS.contains(&name).then_some("it belongs to a source, below [[source]]")
}

fn name(field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<String, Reported> {
    let name = field.text(mistakes)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let what = if name.len() > NAME_CHARACTERS_MAX {
        "is too long; at most 64 characters"
    } else if !name.chars().all(allowed) {
        "is no name; letters, digits, \"-\" and \"_\", as it becomes part of paths and keys"
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        "must begin with a letter or a digit"
    } else {
        return Ok(name.to_owned());
    };
    Err(field.wrong(format!("{} {what}", quoted(name)), mistakes))
}

fn horizons(section: &Section<'_>, mistakes: &mut Mistakes<'_>) -> Result<Horizons, Reported> {
    let window = minutes(section, "window", 30 * MINUTE, MINUTE..=HOUR, mistakes).and_then(|(window, field)| match field {
        Some(field) if !HOUR.is_multiple_of(window) => {
            let what = "does not divide the hour; use 1m, 2m, 3m, 4m, 5m, 6m, 10m, 12m, 15m, 20m, 30m or 1h";
            Err(field.wrong(format!("{} {what}", quoted(&duration::written(window))), mistakes))
        }
        _ => Ok(window),
    });
    let grace = minutes(section, "grace", 2 * MINUTE, 0..=DAY, mistakes).map(|(grace, _)| grace);
    let retention = minutes(section, "retention", 2 * DAY, MINUTE..=TEN_YEARS, mistakes);
    let replay_horizon = minutes(section, "replay_horizon", 7 * DAY, MINUTE..=TEN_YEARS, mistakes);
    let retention = retention.and_then(|(retention, field)| {
        let shortest = [("window", window), ("grace", grace)];
        let too_short = shortest.into_iter().filter_map(|(name, length)| Some((name, length.ok()?)));
        match (too_short.max_by_key(|(_, length)| *length).filter(|(_, length)| *length > retention), field) {
            (Some((name, length)), Some(field)) => {
                let [retention, length] = [retention, length].map(|length| quoted(&duration::written(length)));
                Err(field.wrong(format!("{retention} is shorter than {name}; at least {length}"), mistakes))
            }
            _ => Ok(retention),
        }
    });
    Ok(Horizons {
        window: window?,
        grace: grace?,
        retention: retention?,
        replay_horizon: replay_horizon?.0,
        before: Before::NOTHING,
    })
}

/// A duration of whole minutes within a range, and its field unless it is the default.
fn minutes<'a>(
    section: &Section<'a>,
    name: &str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    mistakes: &mut Mistakes<'_>,
) -> Result<(u64, Option<Field<'a>>), Reported> {
    let Some(field) = section.field(name) else {
        return Ok((default, None));
    };
    let DeValue::String(text) = field.value() else {
        let example = quoted(&duration::written(default));
        return Err(field.wrong_type(&format!("a duration in quotes, such as {example}"), mistakes));
    };
    let length = duration::read(text).map_err(str::to_owned).and_then(|length| {
        let [least, most] = [range.start(), range.end()].map(|length| quoted(&duration::written(*length)));
        if !range.contains(&length) {
            Err(format!("is out of range; from {least} to {most}"))
        } else if !length.is_multiple_of(MINUTE) {
            let next = quoted(&duration::written(length.next_multiple_of(MINUTE)));
            Err(format!("is not whole minutes; such as {next}"))
        } else {
            Ok(length)
        }
    });
    match length {
        Ok(length) => Ok((length, Some(field))),
        Err(what) => Err(field.wrong(format!("{} {what}", quoted(text)), mistakes)),
    }
}

fn resolve_sources(
    job: &Section<'_>,
    sections: &[(usize, Section<'_>)],
    mistakes: &mut Mistakes<'_>,
) -> Result<Vec<SourceSpec>, Reported> {
    const EXAMPLE: &str = "a job needs at least one [[source]] with its topic, role and format";
    let mut trouble = Ok(());
    match job.field("source") {
        None => {
            let misspelt = mistakes.misspelt(job.extent.start, "source");
            return Err(misspelt.unwrap_or_else(|| mistakes.note_missing(&job.extent, format!("no source; {EXAMPLE}"))));
        }
        Some(field) => match field.value() {
            DeValue::Array(items) if items.is_empty() => {
                return Err(field.wrong(format!("is empty; {EXAMPLE}"), mistakes));
            }
            DeValue::Array(_) => {
                for item in field.items(mistakes)?.iter().filter(|item| !matches!(item.value(), DeValue::Table(_))) {
                    trouble = Err(item.wrong_type("tables, each below its own [[source]]", mistakes));
                }
            }
            DeValue::Table(_) => {
                return Err(field.wrong("is a single table; write [[source]], with two brackets", mistakes));
            }
            _ => return Err(field.wrong_type("tables, each below its own [[source]]", mistakes)),
        },
    }
    let job_has_currency = job.field("currency").is_some();
    let mut sources = Vec::with_capacity(sections.len());
    let (mut readers, mut parties) = (Vec::with_capacity(sections.len()), Vec::with_capacity(sections.len()));
    for (number, section) in sections {
        let read = source::read(section, *number, job_has_currency, mistakes);
        readers.extend(read.reader);
        parties.push(read.party);
        match read.source {
            Ok(source) => sources.push(SourceSpec { slot: sources.len(), ..source }),
            Err(reported) => trouble = Err(reported),
        }
    }
    topics::check_read_once(&readers, mistakes);
    lookups::check(&parties, mistakes);
    trouble.map(|()| sources)
}

#[cfg(test)]
mod any_bytes;
#[cfg(test)]
mod lookups_and_dialects;
#[cfg(test)]
mod messages;
