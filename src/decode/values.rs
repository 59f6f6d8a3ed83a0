//! Values of fields: ids, money, quantities, times. Exact or refused, never through floating point.

use std::borrow::Cow;

use super::json::{Value, unescape};
use super::{Reason, Reject};
use crate::config::TimeUnit;

/// Greatest magnitude of an amount, in minor units.
pub const AMOUNT_MAX: i128 = 100_000_000_000_000_000_000_000_000;
/// Greatest magnitude of a quantity.
pub const QUANTITY_MAX: i128 = 1_000_000_000;
/// 2200-01-01, the first instant that is out of range, in milliseconds.
pub const TIME_END: u64 = 7_258_118_400_000;

/// The text of an id: a non-empty string, or the literal of an integer.
pub fn id<'a>(value: Value<'a>, field: &str) -> Result<Cow<'a, [u8]>, Reject> {
    let bad = |what: &str| Err(Reject::new(Reason::BadId, format!("field \"{field}\" {what}, where an id must be")));
    match value {
        Value::Plain(text) if !text.is_empty() => Ok(Cow::Borrowed(text)),
        Value::Escaped(text) => Ok(Cow::Owned(unescape(text))),
        Value::Number(text) if is_integer(text) => Ok(Cow::Borrowed(text)),
        Value::Absent => Err(missing(field)),
        Value::Plain(_) => bad("is empty"),
        Value::Null => bad("is null"),
        Value::Number(_) => bad("is not a whole number"),
        _ => bad("is neither text nor a number"),
    }
}

/// A required field that the row does not have.
pub fn missing(field: &str) -> Reject {
    Reject::new(Reason::MissingField, format!("there is no field \"{field}\""))
}

/// The text by which a value is compared in `counts_when`; `None` for null, absent and containers.
pub fn comparable(value: Value<'_>) -> Option<Cow<'_, [u8]>> {
    match value {
        Value::Plain(text) | Value::Number(text) | Value::Bool(text) => Some(Cow::Borrowed(text)),
        Value::Escaped(text) => Some(Cow::Owned(unescape(text))),
        Value::Absent | Value::Null | Value::Object(_) | Value::Array(_) => None,
    }
}

fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    digits.iter().all(u8::is_ascii_digit)
}

/// Why a decimal is no multiple of the unit within range.
#[derive(Debug, PartialEq, Eq)]
pub enum DecimalError {
    /// Not a number at all.
    Syntax,
    /// More digits than the scale holds.
    Precision,
    /// Beyond the greatest magnitude.
    Range,
}

/// The exact value of decimal text in units of `10^-scale`.
///
/// # Errors
/// If it is no number, no whole number of units, or its magnitude exceeds `max` units.
pub fn decimal(text: &[u8], scale: u32, max: i128) -> Result<i128, DecimalError> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let whole_end = unsigned.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(unsigned.len());
    let (whole, rest) = unsigned.split_at(whole_end);
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => {
            let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
            if end == 0 {
                return Err(DecimalError::Syntax);
            }
            rest.split_at(end)
        }
        _ => (&[][..], rest),
    };
    if whole.is_empty() {
        return Err(DecimalError::Syntax);
    }
    let exponent = match rest {
        [] => 0,
        [b'e' | b'E', rest @ ..] => exponent(rest)?,
        _ => return Err(DecimalError::Syntax),
    };
    // value = digits * 10^shift units, digits without zeros at either end
    let mut shift = exponent - fraction.len() as i64 + i64::from(scale);
    let digits = || whole.iter().chain(fraction).map(|byte| byte - b'0');
    let count = whole.len() + fraction.len();
    let leading = digits().take_while(|&digit| digit == 0).count();
    if leading == count {
        return Ok(0);
    }
    let trailing = digits().rev().take_while(|&digit| digit == 0).count();
    shift += trailing as i64;
    let significant = (count - leading - trailing) as i64;
    if shift < 0 {
        return Err(DecimalError::Precision);
    }
    if significant.saturating_add(shift) > 38 {
        return Err(DecimalError::Range);
    }
    let mut value = digits().skip(leading).take(significant as usize).fold(0i128, |value, digit| value * 10 + i128::from(digit));
    value *= 10i128.pow(shift as u32);
    if value > max {
        return Err(DecimalError::Range);
    }
    Ok(if negative { -value } else { value })
}

/// The exponent of a number; beyond what any text can make up for it stands for "very large" or "very small".
fn exponent(text: &[u8]) -> Result<i64, DecimalError> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(DecimalError::Syntax);
    }
    let value = digits.iter().fold(0i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(1 << 40));
    Ok(if negative { -value } else { value })
}

/// The decimal in a value: a number, or text that is one.
fn decimal_of(value: Value<'_>, scale: u32, max: i128) -> Result<i128, DecimalError> {
    match value {
        Value::Number(text) | Value::Plain(text) => decimal(text, scale, max),
        Value::Escaped(text) => decimal(&unescape(text), scale, max),
        _ => Err(DecimalError::Syntax),
    }
}

/// An amount of money in minor units.
pub fn amount(value: Value<'_>, scale: u32, field: &str) -> Result<i128, Reject> {
    if value == Value::Absent {
        return Err(missing(field));
    }
    decimal_of(value, scale, AMOUNT_MAX).map_err(|error| match error {
        DecimalError::Syntax => Reject::new(Reason::BadAmount, format!("field \"{field}\" is not a decimal number")),
        DecimalError::Precision => {
            Reject::new(Reason::AmountPrecision, format!("field \"{field}\" has more than {scale} decimal digits"))
        }
        DecimalError::Range => Reject::new(Reason::AmountRange, format!("field \"{field}\" exceeds 10^26 minor units")),
    })
}

/// A whole number of items.
pub fn quantity(value: Value<'_>, field: &str) -> Result<i128, Reject> {
    if value == Value::Absent {
        return Err(missing(field));
    }
    decimal_of(value, 0, QUANTITY_MAX)
        .map_err(|_| Reject::new(Reason::BadQuantity, format!("field \"{field}\" is not a whole number within ±{QUANTITY_MAX}")))
}

/// An instant in milliseconds since 1970, rounded down.
pub fn time(value: Value<'_>, unit: &TimeUnit, field: &str) -> Result<u64, Reject> {
    if value == Value::Absent {
        return Err(missing(field));
    }
    let bad = || Reject::new(Reason::BadTime, format!("field \"{field}\" is not a time of the declared unit"));
    let unescaped;
    let (text, quoted) = match value {
        Value::Plain(text) => (text, true),
        Value::Escaped(text) => {
            unescaped = unescape(text);
            (&unescaped[..], true)
        }
        Value::Number(text) => (text, false),
        _ => return Err(bad()),
    };
    let millis = match unit {
        TimeUnit::Rfc3339 | TimeUnit::Auto if quoted => rfc3339(text).ok_or_else(bad)?,
        TimeUnit::Format { format, zone } if quoted => formatted(text, format, zone.as_deref()).ok_or_else(bad)?,
        TimeUnit::Rfc3339 | TimeUnit::Auto | TimeUnit::Format { .. } => return Err(bad()),
        TimeUnit::Seconds => integer(text).ok_or_else(bad)?.saturating_mul(1_000),
        TimeUnit::Millis => integer(text).ok_or_else(bad)?,
        TimeUnit::Micros => integer(text).ok_or_else(bad)?.div_euclid(1_000),
        TimeUnit::Nanos => integer(text).ok_or_else(bad)?.div_euclid(1_000_000),
        TimeUnit::Days => integer(text).ok_or_else(bad)?.saturating_mul(86_400_000),
    };
    in_range(millis).ok_or_else(|| Reject::new(Reason::TimeRange, format!("field \"{field}\" is not within 1970 to 2200")))
}

/// The instant if it lies within 1970 to 2200.
pub fn in_range(millis: i128) -> Option<u64> {
    u64::try_from(millis).ok().filter(|&millis| millis < TIME_END)
}

/// An integer of any length; beyond what an `i128` holds it stands for "far out of range".
pub fn integer(text: &[u8]) -> Option<i128> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = if digits.len() <= 18 {
        i128::from(digits.iter().fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0')))
    } else {
        digits.iter().fold(0i128, |value, digit| value.saturating_mul(10).saturating_add(i128::from(digit - b'0')))
    };
    Some(if negative { -value } else { value })
}

/// RFC 3339 text in milliseconds since 1970, rounded down.
fn rfc3339(text: &[u8]) -> Option<i128> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits.iter().all(u8::is_ascii_digit).then(|| digits.iter().fold(0, |n, digit| n * 10 + i64::from(digit - b'0')))
    };
    let is = |at: usize, bytes: &[u8]| text.get(at).is_some_and(|byte| bytes.contains(byte));
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(1..=month_days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut at = 19;
    let mut millis = 0;
    if is(at, b".") {
        at += 1;
        let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        for place in 0..3 {
            millis = millis * 10 + if place < digits { i64::from(text[at + place] - b'0') } else { 0 };
        }
        at += digits;
    }
    let offset = match text.get(at..)? {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (number(at + 1..at + 3)?, number(at + 4..at + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + (hour * 60 + minute - offset) * 60 + second;
    Some(i128::from(seconds * 1_000 + millis))
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar (H. Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn formatted(text: &[u8], format: &str, zone: Option<&str>) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let parsed = jiff::fmt::strtime::parse(format, text).ok()?;
    let placed = parsed.offset().is_some() || parsed.iana_time_zone().is_some() || parsed.timestamp().is_some();
    let zoned = if placed {
        parsed.to_zoned().ok()?
    } else {
        let zone = crate::config::zone::find(zone.unwrap_or("UTC"))?;
        parsed.to_datetime().ok()?.to_zoned(zone).ok()?
    };
    Some(zoned.timestamp().as_nanosecond().div_euclid(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_exact_or_refused() {
        use DecimalError::{Precision, Range, Syntax};
        for (text, expected) in [
            ("12.34", Ok(1234)),
            ("-12.3", Ok(-1230)),
            ("12.3400", Ok(1234)),
            ("1.5e3", Ok(150_000)),
            ("15E-1", Ok(150)),
            ("+007.5", Ok(750)),
            ("-0.00", Ok(0)),
            ("0e999999999999999999999", Ok(0)),
            ("0.000", Ok(0)),
            ("12.345", Err(Precision)),
            ("1e-3", Err(Precision)),
            ("1e-99999999999999999999", Err(Precision)),
            ("1e24", Ok(AMOUNT_MAX)),
            ("1000000000000000000000000.01", Err(Range)),
            ("1e99999999999999999999", Err(Range)),
            ("1e36", Err(Range)),
            ("", Err(Syntax)),
            ("-", Err(Syntax)),
            (".5", Err(Syntax)),
            ("5.", Err(Syntax)),
            ("1e", Err(Syntax)),
            (" 1", Err(Syntax)),
            ("--1", Err(Syntax)),
            ("NaN", Err(Syntax)),
        ] {
            assert_eq!(decimal(text.as_bytes(), 2, AMOUNT_MAX), expected, "{text}");
        }
    }

    #[test]
    fn times_of_every_unit() {
        let at = |value, unit: TimeUnit| time(value, &unit, "t").map_err(|reject| reject.reason);
        let zone = || TimeUnit::Format { format: "%Y-%m-%d %H:%M:%S".into(), zone: Some("Asia/Seoul".into()) };
        assert_eq!(at(Value::Number(b"1795168800"), TimeUnit::Seconds), Ok(1_795_168_800_000));
        assert_eq!(at(Value::Plain(b"1795168800999999"), TimeUnit::Micros), Ok(1_795_168_800_999));
        assert_eq!(at(Value::Number(b"1795168800999999999"), TimeUnit::Nanos), Ok(1_795_168_800_999));
        assert_eq!(at(Value::Number(b"1"), TimeUnit::Days), Ok(86_400_000));
        assert_eq!(at(Value::Number(b"-1"), TimeUnit::Micros), Err(Reason::TimeRange));
        assert_eq!(at(Value::Number(b"7258118399999"), TimeUnit::Millis), Ok(TIME_END - 1));
        assert_eq!(at(Value::Number(b"7258118400000"), TimeUnit::Millis), Err(Reason::TimeRange));
        assert_eq!(at(Value::Number(&[b'9'; 200]), TimeUnit::Seconds), Err(Reason::TimeRange));
        assert_eq!(at(Value::Number(b"1.5"), TimeUnit::Millis), Err(Reason::BadTime));
        assert_eq!(at(Value::Null, TimeUnit::Millis), Err(Reason::BadTime));
        assert_eq!(at(Value::Absent, TimeUnit::Millis), Err(Reason::MissingField));
        assert_eq!(at(Value::Plain(b"2026-11-20 19:00:00"), zone()), Ok(1_795_168_800_000));
        assert_eq!(at(Value::Plain(b"soon"), zone()), Err(Reason::BadTime));
    }

    #[test]
    fn rfc3339_by_example() {
        for (text, expected) in [
            ("2026-11-20T10:00:00Z", Some(1_795_168_800_000)),
            ("2026-11-20t19:00:00.1239+09:00", Some(1_795_168_800_123)),
            ("2026-11-20 10:00:00.5z", Some(1_795_168_800_500)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800_000)),
            ("2023-02-29T00:00:00Z", None),
            ("2026-11-20T24:00:00Z", None),
            ("2026-11-20T10:00:00", None),
            ("2026-11-20T10:00:00.Z", None),
            ("2026-11-20T10:00:00+0900", None),
            ("2026-11-20T10:00:00Zx", None),
        ] {
            assert_eq!(rfc3339(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn rfc3339_agrees_with_jiff(millis in 0i64..7_258_118_400_000) {
            let text = jiff::Timestamp::from_millisecond(millis).expect("in range").to_string();
            prop_assert_eq!(rfc3339(text.as_bytes()), Some(i128::from(millis)));
        }

        #[test]
        fn decimals_come_back(units in -AMOUNT_MAX..=AMOUNT_MAX, scale in 0u32..=18) {
            let ten = 10i128.pow(scale);
            let sign = if units < 0 { "-" } else { "" };
            let text = match scale {
                0 => units.to_string(),
                _ => format!("{sign}{}.{:0width$}", units.abs() / ten, units.abs() % ten, width = scale as usize),
            };
            prop_assert_eq!(decimal(text.as_bytes(), scale, AMOUNT_MAX), Ok(units));
        }
    }
}
