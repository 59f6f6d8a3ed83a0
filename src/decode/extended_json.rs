//! MongoDB's extended JSON: what a value is, from what it is wrapped in. Canonical, relaxed and the older strict form alike.
//!
//! Upholds: only an object of the one member is a wrapper; anything else is what it is. A bare number with a fraction or an
//! exponent is a double, as relaxed form writes them.

use super::json::{self, Value};
use super::paths::Texts;
use super::values::Hint;

/// The value within its wrapper, and what the wrapper says.
#[inline]
pub(super) fn open(value: Value<'_>) -> (Value<'_>, Hint) {
    match value {
        Value::Object(object) => wrapped(object).unwrap_or((value, Hint::Unknown)),
        Value::Number(text) if text.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => (value, Hint::Float),
        _ => (value, Hint::Unknown),
    }
}

fn wrapped(object: &[u8]) -> Option<(Value<'_>, Hint)> {
    let (name, mut value) = json::members(object).next()?;
    let Value::Plain(
        name @ (b"$oid" | b"$uuid" | b"$numberLong" | b"$numberInt" | b"$numberDouble" | b"$numberDecimal" | b"$date"),
    ) = name
    else {
        return None;
    };
    // Of equal names the last counts.
    for (other, its) in json::members(object) {
        if !json::is_named(other, name) {
            return None;
        }
        value = its;
    }
    let text = matches!(value, Value::Plain(_) | Value::Escaped(_));
    match name {
        b"$date" => match open(value) {
            (inner, Hint::Unknown) if text || matches!(inner, Value::Number(_)) => Some((inner, Hint::Date)),
            (inner, Hint::Integer) => Some((inner, Hint::DateMillis)),
            _ => None,
        },
        _ if !text => None,
        b"$oid" | b"$uuid" => Some((value, Hint::Label)),
        b"$numberLong" | b"$numberInt" => Some((value, Hint::Integer)),
        b"$numberDouble" => Some((value, Hint::Float)),
        _ => Some((value, Hint::Decimal128)),
    }
}

/// What Debezium's MongoDB connector writes as a document's key: extended JSON as text, or a plain value.
pub(super) fn in_text<'a>(value: Value<'a>, texts: &'a Texts) -> Value<'a> {
    texts.value(value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_by_example() {
        for (text, expected) in [
            (r#"{"$oid":"66f0"}"#, (Value::Plain(b"66f0"), Hint::Label)),
            (r#"{ "$uuid" : "a-b" }"#, (Value::Plain(b"a-b"), Hint::Label)),
            (r#"{"$numberLong":"12"}"#, (Value::Plain(b"12"), Hint::Integer)),
            (r#"{"$numberInt":"12"}"#, (Value::Plain(b"12"), Hint::Integer)),
            (r#"{"$numberDouble":"NaN"}"#, (Value::Plain(b"NaN"), Hint::Float)),
            (r#"{"$numberDecimal":"1.50"}"#, (Value::Plain(b"1.50"), Hint::Decimal128)),
            (r#"{"$date":5}"#, (Value::Number(b"5"), Hint::Date)),
            (r#"{"$date":"2024-01-01T00:00:00Z"}"#, (Value::Plain(b"2024-01-01T00:00:00Z"), Hint::Date)),
            (r#"{"$date":{"$numberLong":"5"}}"#, (Value::Plain(b"5"), Hint::DateMillis)),
            ("1.5", (Value::Number(b"1.5"), Hint::Float)),
            ("1e3", (Value::Number(b"1e3"), Hint::Float)),
            ("15", (Value::Number(b"15"), Hint::Unknown)),
            ("\"1.5\"", (Value::Plain(b"1.5"), Hint::Unknown)),
        ] {
            let value = json::read(text.as_bytes(), &json::Fields::default(), &mut []).expect(text);
            assert_eq!(open(value), expected, "{text}");
        }
        for text in
            ["{}", r#"{"$oid":5}"#, r#"{"$oid":"a","x":1}"#, r#"{"x":"a"}"#, r#"{"$date":{"x":1}}"#, r#"{"$numberLong":5}"#]
        {
            assert_eq!(open(Value::Object(text.as_bytes())), (Value::Object(text.as_bytes()), Hint::Unknown), "{text}");
        }
    }
}
