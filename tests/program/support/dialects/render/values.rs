//! Values of a row's columns.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::super::setting::{Amount, Setting, Time};

/// Seoul is so many milliseconds ahead of UTC.
const SEOUL: u64 = 9 * 3_600_000;

/// Hundredths as an amount.
pub(super) fn amount(setting: &Setting, hundredths: i32) -> Value {
    let text = decimal_text(hundredths);
    match setting.amount {
        Amount::Text => json!(text),
        Amount::Number | Amount::Float => number(&text),
        Amount::Base64(scale) => json!(base64(i128::from(hundredths) * 10i128.pow(scale) / 100)),
        Amount::Variable => json!({"scale": 2, "value": base64(hundredths.into())}),
        Amount::Decimal128 => json!({"$numberDecimal": text}),
    }
}

/// The schema of an amount.
pub(super) fn amount_schema(setting: &Setting) -> Value {
    match setting.amount {
        Amount::Base64(scale) => decimal_schema("amount", scale),
        Amount::Float => json!({"type": "double", "optional": true, "field": "amount"}),
        Amount::Variable => json!({
            "type": "struct", "name": "io.debezium.data.VariableScaleDecimal", "field": "amount",
            "fields": [{"type": "int32", "field": "scale"}, {"type": "bytes", "field": "value"}],
        }),
        _ => json!({"type": "string", "field": "amount"}),
    }
}

/// The schema of a decimal.
pub(super) fn decimal_schema(field: &str, scale: u32) -> Value {
    json!({
        "type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "version": 1,
        "parameters": {"scale": scale.to_string(), "connect.decimal.precision": "20"}, "field": field,
    })
}

/// An instant in milliseconds as a time.
pub(super) fn time(setting: &Setting, millis: u64) -> Value {
    match setting.time {
        Time::Millis => json!(millis),
        Time::Micros => json!(millis * 1_000 + 999),
        Time::Nanos => json!(millis * 1_000_000),
        Time::Rfc3339 => json!(text(millis, "%Y-%m-%dT%H:%M:%S%.fZ")),
        Time::LocalMillis => json!(millis + SEOUL),
        Time::LocalText => json!(text(millis + SEOUL, "%Y-%m-%d %H:%M:%S%.3f")),
        Time::Date(0) => json!({"$date": millis}),
        Time::Date(1) => json!({"$date": {"$numberLong": millis.to_string()}}),
        Time::Date(_) => json!({"$date": text(millis, "%Y-%m-%dT%H:%M:%S%.3fZ")}),
    }
}

/// The schema of a time.
pub(super) fn time_schema(setting: &Setting) -> Value {
    let (kind, name) = match setting.time {
        Time::Millis => ("int64", "org.apache.kafka.connect.data.Timestamp"),
        Time::LocalMillis => ("int64", "io.debezium.time.Timestamp"),
        Time::Micros => ("int64", "io.debezium.time.MicroTimestamp"),
        Time::Nanos => ("int64", "io.debezium.time.NanoTimestamp"),
        Time::Rfc3339 => ("string", "io.debezium.time.ZonedTimestamp"),
        Time::LocalText | Time::Date(_) => unreachable!("no schema says this"),
    };
    json!({"type": kind, "name": name, "version": 1, "field": "at"})
}

/// An instant in milliseconds by a format, in UTC.
pub(super) fn text(millis: u64, format: &str) -> String {
    let instant = jiff::Timestamp::from_millisecond(millis as i64).expect("in range").to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(format, &instant).expect("a format")
}

/// Hundredths as a decimal number.
pub(super) fn decimal_text(hundredths: i32) -> String {
    let (sign, magnitude) = (if hundredths < 0 { "-" } else { "" }, hundredths.unsigned_abs());
    format!("{sign}{}.{:02}", magnitude / 100, magnitude % 100)
}

/// A number with just these digits.
pub(super) fn number(text: &str) -> Value {
    serde_json::from_str(text).expect("a number")
}

/// Base64 of an integer's bytes, as few as there need be.
pub(super) fn base64(value: i128) -> String {
    let bytes = value.to_be_bytes();
    let filler = if value < 0 { 0xff } else { 0 };
    let needless = bytes.windows(2).take_while(|pair| pair[0] == filler && (pair[1] >= 0x80) == (value < 0)).count();
    BASE64_STANDARD.encode(&bytes[needless..])
}
