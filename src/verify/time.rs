//! Event times to milliseconds since 1970, rounded down.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;

use super::fields::{Value, is_integer};
use super::json::Node;
use crate::config::{TimeSpec, TimeUnit};

/// 2200-01-01, the first millisecond that is too late.
pub(super) const TIME_END: i128 = 7_258_118_400_000;

/// Why a value is no event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeError {
    /// Not written the way the job says.
    Grammar,
    /// Before 1970 or after 2199.
    Range,
}

/// The time that a field says.
pub(super) fn event_time(value: &Value<'_>, spec: &TimeSpec) -> Result<u64, TimeError> {
    if let Some(date) = value.date() {
        return in_range(extended_date(date)?);
    }
    let by_schema = value.type_name().and_then(schema_unit);
    let unit = match (&spec.unit, by_schema) {
        (TimeUnit::Auto, Some(SchemaUnit::IsoDate)) => return in_range(iso_date(&value.node)?),
        (TimeUnit::Auto, Some(SchemaUnit::Unit(unit))) => unit,
        (TimeUnit::Auto, None) if value.node.as_str().is_some() => TimeUnit::Rfc3339,
        (TimeUnit::Auto, None) => return Err(TimeError::Grammar),
        (unit, None) => unit.clone(),
        (unit, Some(SchemaUnit::Unit(schema))) if *unit == schema => schema,
        (_, Some(_)) => return Err(TimeError::Grammar),
    };
    parse_time(value, &unit, spec.zone.as_deref())
}

/// The time `node` says in `unit`; a number is the wall clock of `zone`, if one is given.
fn parse_time(value: &Value<'_>, unit: &TimeUnit, zone: Option<&str>) -> Result<u64, TimeError> {
    let number = |millis: fn(i128) -> i128| {
        let millis = millis(integer_text(value.integer().ok_or(TimeError::Grammar)?)?);
        zone.map_or(Ok(millis), |zone| from_wall_clock(millis, zone))
    };
    let text = || value.node.as_str().ok_or(TimeError::Grammar);
    in_range(match unit {
        TimeUnit::Seconds => number(|seconds| seconds.saturating_mul(1000))?,
        TimeUnit::Millis => number(|millis| millis)?,
        TimeUnit::Micros => number(|micros| micros.div_euclid(1000))?,
        TimeUnit::Nanos => number(|nanos| nanos.div_euclid(1_000_000))?,
        TimeUnit::Days => number(|days| days.saturating_mul(86_400_000))?,
        TimeUnit::Rfc3339 | TimeUnit::Auto => rfc3339(text()?)?,
        TimeUnit::Format { format, zone } => formatted(text()?, format, zone.as_deref().unwrap_or("UTC"))?,
    })
}

fn in_range(millis: i128) -> Result<u64, TimeError> {
    if (0..TIME_END).contains(&millis) { Ok(millis as u64) } else { Err(TimeError::Range) }
}

/// How a schema says that a time is written.
enum SchemaUnit {
    Unit(TimeUnit),
    /// `YYYY-MM-DD`, and a `Z` or not.
    IsoDate,
}

fn schema_unit(type_name: &str) -> Option<SchemaUnit> {
    Some(SchemaUnit::Unit(match type_name {
        "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date" => TimeUnit::Days,
        "io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp" => TimeUnit::Millis,
        "io.debezium.time.MicroTimestamp" => TimeUnit::Micros,
        "io.debezium.time.NanoTimestamp" => TimeUnit::Nanos,
        "io.debezium.time.ZonedTimestamp" | "io.debezium.time.IsoTimestamp" => TimeUnit::Rfc3339,
        "io.debezium.time.IsoDate" => return Some(SchemaUnit::IsoDate),
        _ => return None,
    }))
}

/// What is within MongoDB's `{"$date": …}`.
pub(super) fn extended_date(date: &Node<'_>) -> Result<i128, TimeError> {
    match date.only("$numberLong").or(date.only("$numberInt")) {
        Some(long) => integer_text(long.as_str().ok_or(TimeError::Grammar)?),
        None => match (date.as_integer(), date.as_str()) {
            (Some(text), _) => integer_text(text),
            (None, Some(text)) => rfc3339(text),
            (None, None) => Err(TimeError::Grammar),
        },
    }
}

/// The instant at which the clocks of `zone` show what UTC's show at `millis`.
fn from_wall_clock(millis: i128, zone: &str) -> Result<i128, TimeError> {
    let shown = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok()).ok_or(TimeError::Range)?;
    let civil = shown.to_zoned(TimeZone::UTC).datetime();
    let zoned = TimeZone::get(zone).and_then(|zone| civil.to_zoned(zone)).map_err(|_| TimeError::Range)?;
    Ok(i128::from(zoned.timestamp().as_millisecond()))
}

/// `-?digits`; too long for an `i128` is out of any range.
fn integer_text(text: &str) -> Result<i128, TimeError> {
    if is_integer(text) { text.parse().map_err(|_| TimeError::Range) } else { Err(TimeError::Grammar) }
}

/// `YYYY-MM-DD`, and a `Z` or not: midnight in UTC.
fn iso_date(node: &Node<'_>) -> Result<i128, TimeError> {
    let text = node.as_str().ok_or(TimeError::Grammar)?;
    let date = text.strip_suffix('Z').unwrap_or(text);
    if date.len() == 10 { rfc3339(&format!("{date}T00:00:00Z")) } else { Err(TimeError::Grammar) }
}

/// `YYYY-MM-DD[Tt ]HH:MM:SS[.digits](Z|z|±HH:MM)`
pub(super) fn rfc3339(text: &str) -> Result<i128, TimeError> {
    // Byte positions: 2024-01-02T03:04:05 is the first 19.
    let (Some(local), Some(mut rest)) = (text.get(..19), text.get(19..)) else { return Err(TimeError::Grammar) };
    let shape = local.bytes().zip("dddd-dd-ddTdd:dd:dd".bytes()).all(|(byte, expected)| match expected {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        _ => byte == expected,
    });
    if !shape {
        return Err(TimeError::Grammar);
    }
    let number = |from: usize, to: usize| local[from..to].parse::<i16>().map_err(|_| TimeError::Grammar);
    let small = |from: usize| local[from..from + 2].parse::<i8>().map_err(|_| TimeError::Grammar);
    let civil = DateTime::new(number(0, 4)?, small(5)?, small(8)?, small(11)?, small(14)?, small(17)?, 0)
        .map_err(|_| TimeError::Grammar)?;
    let utc = civil.to_zoned(TimeZone::UTC).map_err(|_| TimeError::Range)?;

    let mut millis = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 {
            return Err(TimeError::Grammar);
        }
        let three = format!("{:0<3.3}", &fraction[..length]);
        millis = three.parse::<i128>().map_err(|_| TimeError::Grammar)?;
        rest = &fraction[length..];
    }
    let offset_minutes = if rest == "Z" || rest == "z" { 0 } else { offset_minutes(rest)? };
    Ok(i128::from(utc.timestamp().as_second()) * 1000 + millis - offset_minutes * 60_000)
}

/// `±HH:MM`
fn offset_minutes(text: &str) -> Result<i128, TimeError> {
    let bytes = text.as_bytes();
    let sign = match bytes.first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Err(TimeError::Grammar),
    };
    let digit = |at: usize| match bytes.get(at) {
        Some(byte @ b'0'..=b'9') => Ok(i128::from(byte - b'0')),
        _ => Err(TimeError::Grammar),
    };
    let (hours, minutes) = (digit(1)? * 10 + digit(2)?, digit(4)? * 10 + digit(5)?);
    if bytes.len() != 6 || bytes[3] != b':' || hours > 23 || minutes > 59 {
        return Err(TimeError::Grammar);
    }
    Ok(sign * (hours * 60 + minutes))
}

/// By jiff's `strptime`. What the text itself says of its place (an offset, a zone, a Unix time) goes before `zone`;
/// in a gap or fold of the zone jiff's "compatible" rule decides.
fn formatted(text: &str, format: &str, zone: &str) -> Result<i128, TimeError> {
    let parsed = BrokenDownTime::parse(format, text).map_err(|_| TimeError::Grammar)?;
    let placed = parsed.offset().is_some() || parsed.iana_time_zone().is_some() || parsed.timestamp().is_some();
    let zoned =
        if placed { parsed.to_zoned() } else { TimeZone::get(zone).and_then(|zone| parsed.to_datetime()?.to_zoned(zone)) };
    let zoned = zoned.map_err(|_| TimeError::Grammar)?;
    Ok(zoned.timestamp().as_nanosecond().div_euclid(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::TimeError::{Grammar, Range};
    use super::*;
    use crate::config::Absent;
    use crate::verify::fields::{Fields, PLAIN, Said};
    use crate::verify::json::parse;

    fn check(unit: TimeUnit, cases: &[(&str, Result<u64, TimeError>)]) {
        for (text, expected) in cases {
            let spec = TimeSpec { field: "at".into(), unit: unit.clone(), zone: None };
            let row = format!("{{\"at\":{text}}}");
            let row = parse(&row).unwrap();
            let read = match Fields::of_row(&row, None, PLAIN, Absent::Missing).get(&spec.field) {
                Said::Value(value) => event_time(&value, &spec),
                Said::Null | Said::Nothing => Err(Grammar),
            };
            assert_eq!(read, *expected, "{text} as {unit:?}");
        }
    }

    #[test]
    fn integers() {
        check(TimeUnit::Millis, &[("0", Ok(0)), ("-0", Ok(0)), ("-1", Err(Range)), ("7258118399999", Ok(7_258_118_399_999))]);
        check(
            TimeUnit::Millis,
            &[("7258118400000", Err(Range)), ("\"0012\"", Ok(12)), ("\"-1\"", Err(Range)), ("\"+1\"", Err(Grammar))],
        );
        check(
            TimeUnit::Millis,
            &[("1.0", Err(Grammar)), ("1e3", Err(Grammar)), ("\" 1\"", Err(Grammar)), ("\"\"", Err(Grammar))],
        );
        check(
            TimeUnit::Millis,
            &[("\"-\"", Err(Grammar)), ("true", Err(Grammar)), ("null", Err(Grammar)), ("[1]", Err(Grammar))],
        );
        check(TimeUnit::Millis, &[(&"9".repeat(60), Err(Range)), (&format!("-{}", "9".repeat(60)), Err(Range))]);
        check(
            TimeUnit::Seconds,
            &[("1700000000", Ok(1_700_000_000_000)), ("170141183460469231731687303715884105727", Err(Range))],
        );
        check(TimeUnit::Micros, &[("1999", Ok(1)), ("-1", Err(Range)), ("7258118399999999", Ok(7_258_118_399_999))]);
        check(TimeUnit::Nanos, &[("1999999", Ok(1)), ("-1", Err(Range))]);
        check(TimeUnit::Days, &[("18460", Ok(1_594_944_000_000)), ("84006", Err(Range)), ("84005", Ok(7_258_032_000_000))]);
    }

    #[test]
    fn rfc3339_texts() {
        let ok = 1_704_164_645_000; // 2024-01-02T03:04:05Z
        let cases: &[(&str, Result<u64, TimeError>)] = &[
            ("2024-01-02T03:04:05Z", Ok(ok)),
            ("2024-01-02t03:04:05z", Ok(ok)),
            ("2024-01-02 03:04:05+00:00", Ok(ok)),
            ("2024-01-02T03:04:05-00:00", Ok(ok)),
            ("2024-01-02T12:04:05+09:00", Ok(ok)),
            ("2024-01-01T21:34:05-05:30", Ok(ok)),
            ("2024-01-02T03:04:05.1Z", Ok(ok + 100)),
            ("2024-01-02T03:04:05.9999999999999Z", Ok(ok + 999)),
            ("1970-01-01T00:00:00Z", Ok(0)),
            ("1970-01-01T00:00:00.000+00:01", Err(Range)),
            ("1969-12-31T23:59:00.000-00:01", Ok(0)),
            ("2199-12-31T23:59:59.999Z", Ok(7_258_118_399_999)),
            ("2200-01-01T00:00:00Z", Err(Range)),
            ("0000-01-01T00:00:00Z", Err(Range)),
            ("2024-02-29T00:00:00Z", Ok(1_709_164_800_000)),
            ("2023-02-29T00:00:00Z", Err(Grammar)),
            ("2024-13-01T00:00:00Z", Err(Grammar)),
            ("2024-01-02T24:00:00Z", Err(Grammar)),
            ("2024-01-02T03:60:05Z", Err(Grammar)),
            ("2024-01-02T03:04:60Z", Err(Grammar)),
            ("2024-01-02T03:04:05", Err(Grammar)),
            ("2024-01-02T03:04Z", Err(Grammar)),
            ("2024-01-02T03:04:05.Z", Err(Grammar)),
            ("2024-01-02T03:04:05,1Z", Err(Grammar)),
            ("2024-01-02T03:04:05+0900", Err(Grammar)),
            ("2024-01-02T03:04:05+09", Err(Grammar)),
            ("2024-01-02T03:04:05+24:00", Err(Grammar)),
            ("2024-01-02T03:04:05+00:60", Err(Grammar)),
            ("2024-01-02T03:04:05+09:000", Err(Grammar)),
            ("2024-01-02T03:04:05+é", Err(Grammar)),
            ("2024-01-02T03:04:05Z ", Err(Grammar)),
            ("2024-01-02_03:04:05Z", Err(Grammar)),
            ("+024-01-02T03:04:05Z", Err(Grammar)),
            ("2024-01-02T03:04:0é", Err(Grammar)),
            ("", Err(Grammar)),
        ];
        for (text, expected) in cases {
            check(TimeUnit::Rfc3339, &[(&format!("\"{text}\""), *expected)]);
        }
        check(TimeUnit::Rfc3339, &[("1704164645000", Err(Grammar))]);
    }

    #[test]
    fn formats() {
        let unit =
            |format: &str, zone: Option<&str>| TimeUnit::Format { format: format.to_string(), zone: zone.map(str::to_string) };
        let ok = 1_704_164_645_000; // 2024-01-02T03:04:05Z
        check(
            unit("%Y-%m-%d %H:%M:%S", None),
            &[("\"2024-01-02 03:04:05\"", Ok(ok)), ("\"2024-01-02\"", Err(Grammar)), ("1", Err(Grammar))],
        );
        check(unit("%Y-%m-%d %H:%M:%S", Some("Asia/Seoul")), &[("\"2024-01-02 12:04:05\"", Ok(ok))]);
        check(
            unit("%Y-%m-%d %H:%M:%S%.f", None),
            &[("\"2024-01-02 03:04:05.1239\"", Ok(ok + 123)), ("\"2024-01-02 03:04:05\"", Ok(ok))],
        );
        check(unit("%Y-%m-%d %H:%M:%S %z", Some("Asia/Seoul")), &[("\"2024-01-02 03:04:05 +0000\"", Ok(ok))]);
        check(unit("%s", Some("Asia/Seoul")), &[("\"1704164645\"", Ok(ok))]);
        check(unit("%Y-%m-%d", Some("Asia/Seoul")), &[("\"2024-01-02\"", Ok(1_704_121_200_000))]);
        // 02:30 does not exist on this day (it becomes 03:30 EDT), 01:30 exists twice (the first, EDT, is meant).
        check(unit("%Y-%m-%d %H:%M", Some("America/New_York")), &[("\"2024-03-10 02:30\"", Ok(1_710_055_800_000))]);
        check(unit("%Y-%m-%d %H:%M", Some("America/New_York")), &[("\"2024-11-03 01:30\"", Ok(1_730_611_800_000))]);
        check(unit("%Y-%m-%d", None), &[("\"1969-12-31\"", Err(Range)), ("\"2200-01-01\"", Err(Range))]);
    }
}
