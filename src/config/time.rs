//! The `time` of a source: where event time is and how it is written.
//!
//! Upholds: a text format that is accepted here names a whole instant, for it was written and read back once. So a
//! format without a year, or with a 12-hour clock and no half of the day, is a mistake of the job file and not a dead
//! letter per record.

use jiff::civil::{DateTime, date};
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use toml::de::DeValue;

use super::diagnostics::{Mistakes, Reported, did_you_mean, quoted, quoted_list};
use super::fields::Field;
use super::{TimeSpec, TimeUnit, zone};

const EXAMPLE: &str = "{ field = \"paid_at\", unit = \"ms\" }";
const FORMAT_EXAMPLE: &str = "{ format = \"%Y-%m-%d %H:%M:%S\", zone = \"Asia/Seoul\" }";
const UNITS: [(&str, TimeUnit); 7] = [
    ("s", TimeUnit::Seconds),
    ("ms", TimeUnit::Millis),
    ("us", TimeUnit::Micros),
    ("ns", TimeUnit::Nanos),
    ("days", TimeUnit::Days),
    ("rfc3339", TimeUnit::Rfc3339),
    ("auto", TimeUnit::Auto),
];

/// Reads `time = { field = …, unit = … }`.
pub(super) fn read(field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<TimeSpec, Reported> {
    let section = field.table(&["field", "unit", "zone"], EXAMPLE, mistakes)?;
    section.unknown(|_| None, mistakes);
    let path = section.required("field", "name the field that holds the time", mistakes).and_then(|field| field.path(mistakes));
    let units = quoted_list(UNITS.iter().map(|(word, _)| *word));
    let unit = section
        .required("unit", &format!("one of {units}, or a table with a format"), mistakes)
        .and_then(|field| unit(&field, mistakes));
    let zone = section.field("zone").map(|field| match &unit {
        Ok(TimeUnit::Rfc3339) => Err(field.wrong("makes no sense beside \"rfc3339\"; the text says its offset", mistakes)),
        Ok(TimeUnit::Format { .. }) => {
            Err(field.wrong(format!("belongs to the format; write unit = {FORMAT_EXAMPLE}"), mistakes))
        }
        _ => read_zone(&field, mistakes),
    });
    Ok(TimeSpec { field: path?, unit: unit?, zone: zone.transpose()? })
}

fn unit(field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<TimeUnit, Reported> {
    match field.value() {
        DeValue::Table(_) => format(field, mistakes),
        DeValue::String(text) if text.contains('%') => {
            Err(field.wrong(format!("{} is a format; write unit = {FORMAT_EXAMPLE}", quoted(text)), mistakes))
        }
        DeValue::String(_) => {
            let choices = UNITS.each_ref().map(|(word, unit)| (*word, unit));
            field.choice(&choices, mistakes).cloned()
        }
        _ => Err(field.wrong_type(&format!("text, such as \"ms\", or a table, such as {FORMAT_EXAMPLE}"), mistakes)),
    }
}

fn format(field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<TimeUnit, Reported> {
    let section = field.table(&["format", "zone"], FORMAT_EXAMPLE, mistakes)?;
    section.unknown(|_| None, mistakes);
    let zone = section.field("zone").map(|field| read_zone(&field, mistakes)).transpose();
    let format = section.required("format", "such as \"%Y-%m-%d %H:%M:%S\"", mistakes).and_then(|field| {
        let format = field.text(mistakes)?;
        check_format(format).map_err(|what| field.wrong(format!("{} {what}", quoted(format)), mistakes))?;
        Ok(format.to_owned())
    });
    Ok(TimeUnit::Format { format: format?, zone: zone? })
}

/// Reads the name of a zone; the result is as the zone database spells it.
pub(super) fn read_zone(field: &Field<'_>, mistakes: &mut Mistakes<'_>) -> Result<String, Reported> {
    let name = field.text(mistakes)?;
    if let Some(zone) = zone::find(name) {
        return Ok(zone.iana_name().unwrap_or(name).to_owned());
    }
    let names = zone::names();
    // Not the old abbreviations: each is likely to be close to another, and to mean another zone.
    let places = || names.iter().map(String::as_str).filter(|name| name.contains('/'));
    let city = |place: &&str| place.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(name));
    let advice = match places().find(city).or_else(|| did_you_mean(name, places())) {
        Some(meant) => format!("did you mean {}?", quoted(meant)),
        None => "use an IANA name, such as \"UTC\" or \"Asia/Seoul\"".to_owned(),
    };
    Err(field.wrong(format!("{} is no time zone; {advice}", quoted(name)), mistakes))
}

/// Writes an instant in the format and reads it back: the same day must come out, and the same hour if it has one.
fn check_format(format: &str) -> Result<(), String> {
    // An afternoon, and a day of the month that is no month.
    let sample: DateTime = date(2026, 11, 22).at(17, 45, 39, 123_456_789);
    let in_utc = sample.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
    let text = strtime::format(format, &in_utc).map_err(|error| format!("is no time format: {error}"))?;
    let read = strtime::parse(format, &text).map_err(|error| format!("cannot be read back: {error}"))?;
    let back = match read.timestamp() {
        Some(timestamp) => timestamp.to_zoned(TimeZone::UTC).datetime(),
        None => read.to_datetime().map_err(|error| format!("names no instant: {error}"))?,
    };
    if back.date() != sample.date() {
        return Err("does not give back the day it was written from; write all of it, such as \"%Y-%m-%d\"".to_owned());
    }
    if back.hour() != sample.hour() && back.time() != jiff::civil::Time::midnight() {
        return Err("does not tell morning from afternoon; use %H, or %p with %I".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        for format in [
            "%Y-%m-%d %H:%M:%S",
            "%Y%m%d%H%M%S%3f",
            "%s",
            "%Y-%m-%dT%H:%M:%S%.f%:z",
            "%Y-%m-%d %I:%M %p",
            "%F",
            "%d/%b/%Y:%T %z",
            "%F %T %Q",
            "%Y년 %m월 %d일 %R",
        ] {
            assert_eq!(check_format(format), Ok(()), "{format}");
        }
        for format in [
            "",
            "x",
            "%",
            "%H:%M:%S",
            "%Y-%m",
            "%Y-%m-%d %I:%M",
            "%c",
            "%Z",
            "%!",
            "%Y-%m-%d %S",
            "%m-%d %T",
            "%999999999999d",
            "\u{0}%",
        ] {
            assert!(check_format(format).is_err(), "{format}");
        }
    }
}
