//! Values of fields: ids, money, quantities, times. Exact or refused, never through floating point.

use std::borrow::Cow;

use jiff::tz::TimeZone;

use super::json::{self, Value, unescape, unescape_into};
use super::{Reason, Reject, base64};
use crate::config::{Decimal, TimeUnit};

/// Greatest magnitude of an amount, in minor units.
pub const AMOUNT_MAX: i128 = 100_000_000_000_000_000_000_000_000;
/// Greatest magnitude of a quantity.
pub const QUANTITY_MAX: i128 = 1_000_000_000;
/// 2200-01-01, the first instant that is out of range, in milliseconds.
pub const TIME_END: u64 = 7_258_118_400_000;

/// What is known of a value besides its text: by a schema, or by what extended JSON wraps it in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hint {
    /// Nothing.
    #[default]
    Unknown,
    /// A schema's decimal: a string is base64 of units of 10^-scale.
    Decimal(i32),
    /// A floating-point number.
    Float,
    /// A schema's time.
    Time(Clock),
    /// Extended JSON `$oid` or `$uuid`: text that is nothing but an id.
    Label,
    /// Extended JSON `$numberLong` or `$numberInt`: text that is an integer.
    Integer,
    /// Extended JSON `$numberDecimal`: text that is a decimal.
    Decimal128,
    /// Extended JSON `$date`: milliseconds as a number, or RFC 3339 text.
    Date,
    /// Extended JSON `$date` with a `$numberLong`: milliseconds as text.
    DateMillis,
}

/// How a schema says that a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Days since 1970.
    Days,
    /// Milliseconds since 1970.
    Millis,
    /// Microseconds since 1970.
    Micros,
    /// Nanoseconds since 1970.
    Nanos,
    /// RFC 3339 text.
    Rfc3339,
    /// `YYYY-MM-DD` and an optional `Z`.
    IsoDate,
}

/// Appends the text of an id to `out`: that of a non-empty string, or the literal of an integer.
///
/// # Errors
/// If it is neither.
#[inline]
pub fn push_id(value: Value<'_>, hint: Hint, field: &str, out: &mut Vec<u8>) -> Result<(), Reject> {
    match (value, hint) {
        (Value::Plain(text), Hint::Unknown | Hint::Label | Hint::Time(_)) if !text.is_empty() => out.extend_from_slice(text),
        (Value::Escaped(text), Hint::Unknown | Hint::Label | Hint::Time(_)) => unescape_into(text, out),
        (Value::Number(text), hint) if hint != Hint::Date && is_integer(text) => out.extend_from_slice(text),
        _ => out.extend_from_slice(&rare_id(value, hint, field)?),
    }
    Ok(())
}

/// Ids that a schema or a wrapper makes, and what is none.
#[cold]
fn rare_id(value: Value<'_>, hint: Hint, field: &str) -> Result<Vec<u8>, Reject> {
    let bad = |what: &str| Err(Reject::new(Reason::BadId, format!("field \"{field}\" {what}, where an id must be")));
    match (value, hint) {
        (Value::Absent, _) => Err(missing(field)),
        (Value::Unsaid, _) => Err(Reject::new(Reason::MissingField, format!("the change does not say \"{field}\""))),
        (Value::Null, _) => bad("is null"),
        (Value::Plain(b""), Hint::Unknown | Hint::Label | Hint::Time(_)) => bad("is empty"),
        (Value::Plain(_) | Value::Escaped(_), Hint::Decimal(0)) => match text_of(value).map(|text| base64::integer(&text)) {
            Some(Ok(number)) => Ok(number.to_string().into_bytes()),
            _ => bad("is no base64 of a whole number, as its schema says,"),
        },
        (Value::Plain(_) | Value::Escaped(_), Hint::Decimal(_)) => bad("is a decimal with a fraction by its schema"),
        (Value::Plain(text), Hint::Integer) if integer(text).is_some() => Ok(text.to_vec()),
        (Value::Escaped(text), Hint::Integer) if integer(&unescape(text)).is_some() => Ok(unescape(text)),
        (_, Hint::Date | Hint::DateMillis) => bad("is a date"),
        (Value::Number(_), _) => bad("is not a whole number"),
        _ => bad("is neither text nor a whole number"),
    }
}

/// A required field that the row does not have.
#[cold]
pub fn missing(field: &str) -> Reject {
    Reject::new(Reason::MissingField, format!("there is no field \"{field}\""))
}

/// The text by which a value is compared in `counts_when`; `None` for null, absent and containers.
pub fn comparable(value: Value<'_>, hint: Hint) -> Option<Cow<'_, [u8]>> {
    match (value, hint) {
        (_, Hint::Date | Hint::DateMillis) => None,
        (Value::Plain(_) | Value::Escaped(_), Hint::Decimal(0)) => {
            let number = base64::integer(&text_of(value)?).ok()?;
            Some(Cow::Owned(number.to_string().into_bytes()))
        }
        (Value::Plain(text) | Value::Number(text) | Value::Bool(text), _) => Some(Cow::Borrowed(text)),
        (Value::Escaped(text), _) => Some(Cow::Owned(unescape(text))),
        (Value::Absent | Value::Unsaid | Value::Null | Value::Object(_) | Value::Array(_), _) => None,
    }
}

/// The text of a string or number.
fn text_of(value: Value<'_>) -> Option<Cow<'_, [u8]>> {
    match value {
        Value::Plain(text) | Value::Number(text) => Some(Cow::Borrowed(text)),
        Value::Escaped(text) => Some(Cow::Owned(unescape(text))),
        _ => None,
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
    /// A floating-point number where none may be.
    Float,
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

/// How a source writes its amounts or quantities.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// What the job file says of text whose schema says nothing.
    pub decimal: Decimal,
    /// Floating-point numbers count by their decimal text.
    pub allow_float: bool,
}

impl Measure {
    /// The exact value of a field in units of `10^-scale`.
    #[inline]
    fn units(self, value: Value<'_>, hint: Hint, scale: u32, max: i128) -> Result<i128, DecimalError> {
        match (value, hint, self.decimal) {
            (Value::Number(text) | Value::Plain(text), Hint::Unknown, Decimal::Text) => decimal(text, scale, max),
            (Value::Number(_) | Value::Plain(_) | Value::Escaped(_), Hint::Float, _) if !self.allow_float => {
                Err(DecimalError::Float)
            }
            (Value::Plain(text), Hint::Decimal(its), _) => binary(text, its, scale, max),
            (Value::Escaped(text), Hint::Decimal(its), _) => binary(&unescape(text), its, scale, max),
            (Value::Plain(text), Hint::Unknown, Decimal::Base64 { scale: its }) => binary(text, its as i32, scale, max),
            (Value::Escaped(text), Hint::Unknown, Decimal::Base64 { scale: its }) => {
                binary(&unescape(text), its as i32, scale, max)
            }
            (Value::Object(object), ..) => variable(object, scale, max),
            (_, Hint::Label | Hint::Date | Hint::DateMillis, _) => Err(DecimalError::Syntax),
            (Value::Number(text) | Value::Plain(text), ..) => decimal(text, scale, max),
            (Value::Escaped(text), ..) => decimal(&unescape(text), scale, max),
            _ => Err(DecimalError::Syntax),
        }
    }

    /// An amount of money in minor units of `10^-scale`.
    ///
    /// # Errors
    /// If it is none, is beyond 10^26 of them, or is no whole number of them.
    #[inline]
    pub fn amount(self, value: Value<'_>, hint: Hint, scale: u32, field: &str) -> Result<i128, Reject> {
        self.units(value, hint, scale, AMOUNT_MAX).map_err(|error| match error {
            _ if value == Value::Absent => missing(field),
            DecimalError::Syntax => {
                let more = if looks_binary(value, hint) { BINARY_ADVICE } else { "" };
                Reject::new(Reason::BadAmount, format!("field \"{field}\" is not a decimal number{more}"))
            }
            DecimalError::Precision => {
                Reject::new(Reason::AmountPrecision, format!("field \"{field}\" has more than {scale} decimal digits"))
            }
            DecimalError::Range => Reject::new(Reason::AmountRange, format!("field \"{field}\" exceeds 10^26 minor units")),
            DecimalError::Float => float(field),
        })
    }

    /// A whole number of items.
    ///
    /// # Errors
    /// If it is none, or is beyond 10^9.
    #[inline]
    pub fn quantity(self, value: Value<'_>, hint: Hint, field: &str) -> Result<i128, Reject> {
        self.units(value, hint, 0, QUANTITY_MAX).map_err(|error| match error {
            _ if value == Value::Absent => missing(field),
            DecimalError::Float => float(field),
            _ => {
                let more = if looks_binary(value, hint) { BINARY_ADVICE } else { "" };
                Reject::new(Reason::BadQuantity, format!("field \"{field}\" is not a whole number within ±{QUANTITY_MAX}{more}"))
            }
        })
    }
}

const BINARY_ADVICE: &str = "; it could be a decimal as Kafka Connect writes it: let the converter send the schema (schemas.enable), \
                             or say so in the job file: { field = \"…\", decimal = \"base64\", scale = … }";

fn float(field: &str) -> Reject {
    Reject::new(
        Reason::Float,
        format!(
            "field \"{field}\" is a floating-point number, whose digits may not be those that were stored; let the connector \
                 send decimals (decimal.handling.mode), or accept it with allow_float = true"
        ),
    )
}

/// Whether text that is no number would be one as base64.
fn looks_binary(value: Value<'_>, hint: Hint) -> bool {
    hint == Hint::Unknown && text_of(value).is_some_and(|text| !text.is_empty() && base64::integer(&text).is_ok())
}

/// The exact value of base64 of an integer that counts units of `10^-its`.
fn binary(text: &[u8], its: i32, scale: u32, max: i128) -> Result<i128, DecimalError> {
    rescale(base64::integer(text)?, i64::from(scale) - i64::from(its), max)
}

/// The exact value of `{"scale": s, "value": "base64"}`.
fn variable(object: &[u8], scale: u32, max: i128) -> Result<i128, DecimalError> {
    let its = match json::member(object, b"scale") {
        Value::Number(text) => integer(text).filter(|its| (-38..=38).contains(its)),
        _ => None,
    };
    match (its, json::member(object, b"value")) {
        (Some(its), Value::Plain(text)) => binary(text, its as i32, scale, max),
        (Some(its), Value::Escaped(text)) => binary(&unescape(text), its as i32, scale, max),
        _ => Err(DecimalError::Syntax),
    }
}

/// `value` times `10^shift`.
fn rescale(value: i128, shift: i64, max: i128) -> Result<i128, DecimalError> {
    let power = |digits: i64| u32::try_from(digits).ok().and_then(|digits| 10i128.checked_pow(digits));
    let units = match (value, power(shift.abs())) {
        (0, _) => 0,
        (_, None) if shift < 0 => return Err(DecimalError::Precision),
        (_, None) => return Err(DecimalError::Range),
        (_, Some(power)) if shift >= 0 => value.checked_mul(power).ok_or(DecimalError::Range)?,
        (_, Some(power)) if value % power != 0 => return Err(DecimalError::Precision),
        (_, Some(power)) => value / power,
    };
    if units.unsigned_abs() > max.unsigned_abs() { Err(DecimalError::Range) } else { Ok(units) }
}

/// How a source writes its times.
#[derive(Clone, Debug)]
pub struct Times {
    unit: TimeUnit,
    /// Of numbers, the zone whose wall clock they are; of text by a format, the zone it is in if it names none.
    zone: Option<TimeZone>,
}

impl Times {
    /// By what the job file says.
    pub fn new(unit: &TimeUnit, zone: Option<&str>) -> Self {
        let zone = match unit {
            TimeUnit::Format { zone, .. } => Some(zone.as_deref().unwrap_or("UTC")),
            _ => zone,
        };
        Times { unit: unit.clone(), zone: zone.and_then(crate::config::zone::find) }
    }

    /// An instant in milliseconds since 1970, rounded down.
    ///
    /// # Errors
    /// If it is none by the job file's unit or by its schema's, or outside of 1970 to 2200.
    #[inline]
    pub fn read(&self, value: Value<'_>, hint: Hint, field: &str) -> Result<u64, Reject> {
        let millis = self.millis(value, hint).ok_or_else(|| self.wrong(value, hint, field))?;
        in_range(millis).ok_or_else(|| Reject::new(Reason::TimeRange, format!("field \"{field}\" is not within 1970 to 2200")))
    }

    fn millis(&self, value: Value<'_>, hint: Hint) -> Option<i128> {
        let unescaped;
        let (text, quoted) = match value {
            Value::Plain(text) => (text, true),
            Value::Escaped(text) => {
                unescaped = unescape(text);
                (&unescaped[..], true)
            }
            Value::Number(text) => (text, false),
            _ => return None,
        };
        let clock = match (hint, &self.unit) {
            (Hint::Label | Hint::Decimal128 | Hint::Float, _) if quoted => return None,
            (Hint::Date, _) if quoted => return rfc3339(text),
            (Hint::Date | Hint::DateMillis, _) => return integer(text),
            (Hint::Time(clock), TimeUnit::Auto) => clock,
            (Hint::Time(clock), unit) if clock_of(unit) != Some(clock) => return None,
            (_, TimeUnit::Auto) => Clock::Rfc3339,
            (_, TimeUnit::Seconds) => return self.wall(integer(text)?.saturating_mul(1_000)),
            (_, TimeUnit::Format { format, .. }) if quoted => return formatted(text, format, self.zone.as_ref()),
            (_, unit) => clock_of(unit)?,
        };
        match clock {
            Clock::Days => self.wall(integer(text)?.saturating_mul(86_400_000)),
            Clock::Millis => self.wall(integer(text)?),
            Clock::Micros => self.wall(integer(text)?.div_euclid(1_000)),
            Clock::Nanos => self.wall(integer(text)?.div_euclid(1_000_000)),
            Clock::Rfc3339 if quoted => rfc3339(text),
            Clock::IsoDate if quoted => iso_date(text),
            Clock::Rfc3339 | Clock::IsoDate => None,
        }
    }

    /// The instant of a number: itself, or when the zone's clocks on the wall show what it would be in UTC. What is far out of
    /// range stays so.
    #[inline]
    fn wall(&self, millis: i128) -> Option<i128> {
        let Some(zone) = &self.zone else { return Some(millis) };
        let wall = i64::try_from(millis).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
        let placed = wall.and_then(|wall| wall.to_zoned(TimeZone::UTC).datetime().to_zoned(zone.clone()).ok());
        Some(placed.map_or(millis, |placed| placed.timestamp().as_millisecond().into()))
    }

    #[cold]
    fn wrong(&self, value: Value<'_>, hint: Hint, field: &str) -> Reject {
        match (value, hint) {
            (Value::Absent, _) => missing(field),
            (_, Hint::Time(clock)) if self.unit != TimeUnit::Auto && clock_of(&self.unit) != Some(clock) => {
                let what =
                    format!("field \"{field}\" is a time in {} by its schema; say unit = \"auto\" in the job file", clock.name());
                Reject::new(Reason::BadTime, what)
            }
            (Value::Number(_), Hint::Unknown) if self.unit == TimeUnit::Auto => {
                let what = format!("field \"{field}\" is a number, and no schema says its unit; name it in the job file");
                Reject::new(Reason::BadTime, what)
            }
            _ => Reject::new(Reason::BadTime, format!("field \"{field}\" is not a time of the declared unit")),
        }
    }
}

impl Clock {
    fn name(self) -> &'static str {
        match self {
            Clock::Days => "days",
            Clock::Millis => "ms",
            Clock::Micros => "us",
            Clock::Nanos => "ns",
            Clock::Rfc3339 => "RFC 3339",
            Clock::IsoDate => "days as text",
        }
    }
}

/// What a schema calls a unit of the job file; none for what no schema says.
fn clock_of(unit: &TimeUnit) -> Option<Clock> {
    match unit {
        TimeUnit::Millis => Some(Clock::Millis),
        TimeUnit::Micros => Some(Clock::Micros),
        TimeUnit::Nanos => Some(Clock::Nanos),
        TimeUnit::Days => Some(Clock::Days),
        TimeUnit::Rfc3339 => Some(Clock::Rfc3339),
        TimeUnit::Seconds | TimeUnit::Auto | TimeUnit::Format { .. } => None,
    }
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

/// A date alone, at midnight UTC, in milliseconds since 1970.
fn iso_date(text: &[u8]) -> Option<i128> {
    let date = text.strip_suffix(b"Z").unwrap_or(text);
    let mut full = *b"YYYY-MM-DDT00:00:00Z";
    full[..10].copy_from_slice(<&[u8; 10]>::try_from(date).ok()?);
    rfc3339(&full)
}

fn formatted(text: &[u8], format: &str, zone: Option<&TimeZone>) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let parsed = jiff::fmt::strtime::parse(format, text).ok()?;
    let placed = parsed.offset().is_some() || parsed.iana_time_zone().is_some() || parsed.timestamp().is_some();
    let zoned = if placed { parsed.to_zoned().ok()? } else { parsed.to_datetime().ok()?.to_zoned(zone?.clone()).ok()? };
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

    const PLAIN: Measure = Measure { decimal: Decimal::Text, allow_float: false };

    fn amount(measure: Measure, value: Value<'_>, hint: Hint) -> Result<i128, Reason> {
        measure.amount(value, hint, 2, "amount").map_err(|reject| reject.reason)
    }

    #[test]
    fn decimals_of_schemas_are_base64_or_numbers() {
        use Reason::{AmountPrecision, AmountRange, BadAmount};
        for (text, scale, expected) in [
            ("EtaH", 4, Err(AmountPrecision)),
            ("AYag", 3, Ok(10_000)),
            ("MDk=", 2, Ok(12_345)),
            ("z8c=", 2, Ok(-12_345)),
            ("Bw==", 0, Ok(700)),
            ("Bw==", -3, Ok(700_000)),
            ("", 9, Ok(0)),
            ("AA==", 400, Ok(0)),
            ("Bw==", 400, Err(AmountPrecision)),
            ("Bw==", -400, Err(AmountRange)),
            ("f////////////////////w==", 2, Err(AmountRange)),
            ("f////////////////////w==", 0, Err(AmountRange)),
            ("12.5", 2, Err(BadAmount)),
            ("12345678", 2, Ok(-44_607_649_370_372)),
        ] {
            assert_eq!(amount(PLAIN, Value::Plain(text.as_bytes()), Hint::Decimal(scale)), expected, "{text} of scale {scale}");
        }
        assert_eq!(amount(PLAIN, Value::Number(b"123.45"), Hint::Decimal(4)), Ok(12_345), "decimal.format=NUMERIC");
        assert_eq!(amount(PLAIN, Value::Escaped(br"\/\/\/\/"), Hint::Decimal(2)), Ok(-1), "a slash may be escaped");
        assert_eq!(amount(PLAIN, Value::Null, Hint::Decimal(2)), Err(BadAmount));
        assert_eq!(amount(PLAIN, Value::Absent, Hint::Decimal(2)), Err(Reason::MissingField));
    }

    #[test]
    fn decimals_of_the_job_file_are_base64_unless_a_schema_says_more() {
        let base64 = Measure { decimal: Decimal::Base64 { scale: 4 }, allow_float: false };
        assert_eq!(amount(base64, Value::Plain(b"D0JA"), Hint::Unknown), Ok(10_000));
        assert_eq!(amount(base64, Value::Escaped(br"\u0044\u0030JA"), Hint::Unknown), Ok(10_000));
        assert_eq!(amount(base64, Value::Plain(b"D0JA"), Hint::Decimal(2)), Ok(1_000_000));
        assert_eq!(amount(base64, Value::Number(b"1.5"), Hint::Unknown), Ok(150));
        assert_eq!(amount(base64, Value::Plain(b"1.5"), Hint::Unknown), Err(Reason::BadAmount));
        let quantity = base64.quantity(Value::Plain(b"D0JA"), Hint::Unknown, "q").map_err(|reject| reject.reason);
        assert_eq!(quantity, Ok(100));
    }

    #[test]
    fn decimals_of_any_scale_say_it_themselves() {
        for (object, expected) in [
            (r#"{"scale":2,"value":"JwY="}"#, Ok(9_990)),
            (r#"{ "value" : "JwY=" , "scale" : 1 }"#, Ok(99_900)),
            (r#"{"scale":0,"scale":2,"value":"Bw==","value":"JwY=","x":1}"#, Ok(9_990)),
            (r#"{"scale":-38,"value":"AQ=="}"#, Err(Reason::AmountRange)),
            (r#"{"scale":38,"value":"AQ=="}"#, Err(Reason::AmountPrecision)),
            (r#"{"scale":39,"value":"AA=="}"#, Err(Reason::BadAmount)),
            (r#"{"scale":"2","value":"JwY="}"#, Err(Reason::BadAmount)),
            (r#"{"scale":2,"value":5}"#, Err(Reason::BadAmount)),
            (r#"{"scale":2}"#, Err(Reason::BadAmount)),
            ("{}", Err(Reason::BadAmount)),
        ] {
            assert_eq!(amount(PLAIN, Value::Object(object.as_bytes()), Hint::Unknown), expected, "{object}");
        }
    }

    #[test]
    fn floats_are_refused_unless_they_are_allowed() {
        let allowed = Measure { allow_float: true, ..PLAIN };
        for value in [Value::Number(b"99.9"), Value::Plain(b"99.9")] {
            assert_eq!(amount(PLAIN, value, Hint::Float), Err(Reason::Float));
            assert_eq!(amount(allowed, value, Hint::Float), Ok(9_990));
            assert_eq!(amount(PLAIN, value, Hint::Unknown), Ok(9_990));
        }
        assert_eq!(amount(allowed, Value::Plain(b"NaN"), Hint::Float), Err(Reason::BadAmount));
        assert_eq!(amount(PLAIN, Value::Null, Hint::Float), Err(Reason::BadAmount));
        let quantity =
            |measure: Measure| measure.quantity(Value::Number(b"3.0"), Hint::Float, "q").map_err(|reject| reject.reason);
        assert_eq!((quantity(PLAIN), quantity(allowed)), (Err(Reason::Float), Ok(3)));
    }

    #[test]
    fn a_dead_amount_says_what_to_do() {
        let detail = |value, hint| PLAIN.amount(value, hint, 2, "amount").map_err(|reject| reject.detail);
        assert!(detail(Value::Plain(b"JwY="), Hint::Unknown).is_err_and(|detail| detail.contains("decimal = \"base64\"")));
        assert!(detail(Value::Plain(b"12,50"), Hint::Unknown).is_err_and(|detail| !detail.contains("base64")));
        assert!(detail(Value::Number(b"1.5"), Hint::Float).is_err_and(|detail| detail.contains("allow_float")));
    }

    #[test]
    fn ids_by_what_is_known_of_them() {
        let id = |value, hint| {
            let mut out = Vec::new();
            push_id(value, hint, "id", &mut out)
                .map(|()| String::from_utf8_lossy(&out).into_owned())
                .map_err(|reject| reject.reason)
        };
        let is = |text: &str| Ok(text.to_owned());
        assert_eq!(id(Value::Plain(b"AP//////////"), Hint::Decimal(0)), is("18446744073709551615"));
        assert_eq!(id(Value::Number(b"18446744073709551615"), Hint::Decimal(0)), is("18446744073709551615"));
        assert_eq!(id(Value::Plain(b"12"), Hint::Decimal(0)), Err(Reason::BadId));
        assert_eq!(id(Value::Plain(b"Bw=="), Hint::Decimal(2)), Err(Reason::BadId));
        assert_eq!(id(Value::Plain(b"12"), Hint::Integer), is("12"));
        assert_eq!(id(Value::Plain(b"x"), Hint::Integer), Err(Reason::BadId));
        assert_eq!(id(Value::Plain(b"2026"), Hint::Time(Clock::IsoDate)), is("2026"));
        assert_eq!(id(Value::Escaped(br"a\u0062"), Hint::Unknown), is("ab"));
        assert_eq!(id(Value::Number(b"1.0"), Hint::Unknown), Err(Reason::BadId));
        for value in [Value::Null, Value::Plain(b""), Value::Bool(b"true"), Value::Object(b"{}"), Value::Array(b"[]")] {
            assert_eq!(id(value, Hint::Unknown), Err(Reason::BadId), "{value:?}");
        }
        for value in [Value::Absent, Value::Unsaid] {
            assert_eq!(id(value, Hint::Unknown), Err(Reason::MissingField), "{value:?}");
        }
    }

    #[test]
    fn conditions_compare_text() {
        let text = |value, hint| comparable(value, hint).map(|text| String::from_utf8_lossy(&text).into_owned());
        assert_eq!(text(Value::Plain(b"PAID"), Hint::Unknown).as_deref(), Some("PAID"));
        assert_eq!(text(Value::Escaped(br"P\u0041ID"), Hint::Unknown).as_deref(), Some("PAID"));
        assert_eq!(text(Value::Number(b"1.0"), Hint::Float).as_deref(), Some("1.0"));
        assert_eq!(text(Value::Bool(b"true"), Hint::Unknown).as_deref(), Some("true"));
        assert_eq!(text(Value::Plain(b"AQ=="), Hint::Decimal(0)).as_deref(), Some("1"));
        assert_eq!(text(Value::Plain(b"AQ=="), Hint::Decimal(1)).as_deref(), Some("AQ=="));
        for (value, hint) in
            [(Value::Null, Hint::Unknown), (Value::Object(b"{}"), Hint::Unknown), (Value::Plain(b"x"), Hint::Date)]
        {
            assert_eq!(text(value, hint), None);
        }
    }

    #[test]
    fn times_by_their_schema() {
        let at = |value, clock, unit: TimeUnit| {
            Times::new(&unit, None).read(value, Hint::Time(clock), "t").map_err(|reject| reject.reason)
        };
        for (value, clock, unit) in [
            (Value::Number(b"20777"), Clock::Days, TimeUnit::Days),
            (Value::Number(b"1795132800000"), Clock::Millis, TimeUnit::Millis),
            (Value::Number(b"1795132800000999"), Clock::Micros, TimeUnit::Micros),
            (Value::Number(b"1795132800000999999"), Clock::Nanos, TimeUnit::Nanos),
            (Value::Plain(b"2026-11-20T00:00:00Z"), Clock::Rfc3339, TimeUnit::Rfc3339),
            (Value::Plain(b"2026-11-20Z"), Clock::IsoDate, TimeUnit::Auto),
            (Value::Plain(b"2026-11-20"), Clock::IsoDate, TimeUnit::Auto),
        ] {
            assert_eq!(at(value, clock, TimeUnit::Auto), Ok(1_795_132_800_000), "{clock:?}");
            assert_eq!(at(value, clock, unit), Ok(1_795_132_800_000), "{clock:?}");
            assert_eq!(at(value, clock, TimeUnit::Seconds), Err(Reason::BadTime), "{clock:?}");
        }
        assert_eq!(at(Value::Number(b"1795132800000"), Clock::Micros, TimeUnit::Millis), Err(Reason::BadTime), "never a guess");
        for text in ["2026-11-20T", "2026-11-2Z", "2026-02-30", "20261120Z", "2026-11-20ZZ"] {
            assert_eq!(at(Value::Plain(text.as_bytes()), Clock::IsoDate, TimeUnit::Auto), Err(Reason::BadTime), "{text}");
        }
        let auto = |value| Times::new(&TimeUnit::Auto, None).read(value, Hint::Unknown, "t").map_err(|reject| reject.reason);
        assert_eq!(auto(Value::Plain(b"2026-11-20T00:00:00Z")), Ok(1_795_132_800_000));
        assert_eq!(auto(Value::Number(b"1795132800000")), Err(Reason::BadTime));
    }

    #[test]
    fn clocks_on_the_wall() {
        fn at(value: Value<'_>, unit: TimeUnit, hint: Hint, zone: &str) -> Result<u64, Reason> {
            Times::new(&unit, Some(zone)).read(value, hint, "t").map_err(|reject| reject.reason)
        }
        // 2026-11-20 19:00 as if it were UTC is 10:00 in UTC when Seoul's clocks show it.
        let wall = 1_795_168_800_000 + 9 * 3_600_000u64;
        for (text, unit) in [
            (format!("{}", wall / 1_000), TimeUnit::Seconds),
            (format!("{wall}"), TimeUnit::Millis),
            (format!("{wall}000"), TimeUnit::Micros),
            (format!("{wall}000999"), TimeUnit::Nanos),
        ] {
            assert_eq!(at(Value::Number(text.as_bytes()), unit, Hint::Unknown, "Asia/Seoul"), Ok(1_795_168_800_000), "{text}");
        }
        let micros = format!("{wall}000");
        assert_eq!(
            at(Value::Number(micros.as_bytes()), TimeUnit::Auto, Hint::Time(Clock::Micros), "Asia/Seoul"),
            Ok(1_795_168_800_000)
        );
        assert_eq!(
            at(Value::Number(b"20777"), TimeUnit::Days, Hint::Unknown, "Asia/Seoul"),
            Ok(1_795_132_800_000 - 9 * 3_600_000)
        );
        // Berlin, 2026-03-29: 02:30 is skipped and read as 03:30; 2026-10-25: 02:30 comes twice, the first counts.
        let berlin = |text: &'static str| at(Value::Number(text.as_bytes()), TimeUnit::Millis, Hint::Unknown, "Europe/Berlin");
        assert_eq!(berlin("1774751400000"), Ok(1_774_747_800_000));
        assert_eq!(berlin("1792895400000"), Ok(1_792_888_200_000));
        let untouched = Ok(1_795_168_800_000);
        let text = Value::Plain(b"2026-11-20T10:00:00Z");
        assert_eq!(at(text, TimeUnit::Auto, Hint::Time(Clock::Rfc3339), "Asia/Seoul"), untouched);
        assert_eq!(at(text, TimeUnit::Millis, Hint::Date, "Asia/Seoul"), untouched);
        assert_eq!(at(Value::Number(b"1795168800000"), TimeUnit::Micros, Hint::Date, "Asia/Seoul"), untouched);
        assert_eq!(at(Value::Plain(b"1795168800000"), TimeUnit::Micros, Hint::DateMillis, "Asia/Seoul"), untouched);
        assert_eq!(at(Value::Number(&[b'9'; 60]), TimeUnit::Millis, Hint::Unknown, "Asia/Seoul"), Err(Reason::TimeRange));
        assert_eq!(at(Value::Number(b"3600000"), TimeUnit::Millis, Hint::Unknown, "Asia/Seoul"), Err(Reason::TimeRange));
    }

    #[test]
    fn times_of_every_unit() {
        let at = |value, unit: TimeUnit| Times::new(&unit, None).read(value, Hint::Unknown, "t").map_err(|reject| reject.reason);
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

        /// A binary decimal is what its digits are as text.
        #[test]
        fn binary_decimals_are_what_their_text_is(unscaled in any::<i128>(), drop in 0usize..16, its in -6i32..24, scale in 0u32..=18) {
            use ::base64::Engine;
            let unscaled = unscaled >> (8 * drop);
            let encoded = ::base64::engine::general_purpose::STANDARD.encode(unscaled.to_be_bytes());
            let text = format!("{unscaled}e{}", -its);
            prop_assert_eq!(binary(encoded.as_bytes(), its, scale, AMOUNT_MAX), decimal(text.as_bytes(), scale, AMOUNT_MAX));
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
