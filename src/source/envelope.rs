//! kcat's JSON envelope (`kcat -C -J`): a captured record with its offset, timestamp, key and payload; and, of ours, `key_base64` and
//! `payload_base64` for bytes that are no text, such as Avro's.

use std::borrow::Cow;

use crate::decode::json::{self, Fields, Value, unescape};
use crate::decode::values;
use crate::decode::{Reason, Reject};

/// A record taken out of its envelope.
#[derive(Debug)]
pub struct Unwrapped<'a> {
    /// Its offset.
    pub position: u64,
    /// Its timestamp, milliseconds.
    pub timestamp: Option<u64>,
    /// Its key.
    pub key: Option<Cow<'a, [u8]>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Cow<'a, [u8]>>,
    /// Key and value are text, as the line is.
    pub utf8: bool,
}

/// Recognises and opens envelopes.
pub struct Envelopes {
    fields: Fields,
}

impl Default for Envelopes {
    fn default() -> Self {
        Envelopes {
            fields: Fields::new(["topic", "partition", "offset", "ts", "key", "payload", "key_base64", "payload_base64"]),
        }
    }
}

/// Whether the first key of the object is `"topic"`: all that a line costs which is no envelope.
#[inline]
fn starts_like_one(line: &[u8]) -> bool {
    if line.starts_with(b"{\"") {
        return line[2..].starts_with(b"topic\"");
    }
    let skip = |text: &[u8]| text.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r')).unwrap_or(text.len());
    let rest = &line[skip(line)..];
    match rest {
        [b'{', rest @ ..] => rest[skip(rest)..].starts_with(b"\"topic\""),
        _ => false,
    }
}

impl Envelopes {
    /// The record in the envelope; `None` if the line is no envelope but a bare value.
    ///
    /// # Errors
    /// If it is one, but its fields are not what kcat writes.
    #[inline]
    pub fn open<'a>(&self, line: &'a [u8]) -> Result<Option<Unwrapped<'a>>, Reject> {
        if !starts_like_one(line) { Ok(None) } else { self.open_likely(line) }
    }

    fn open_likely<'a>(&self, line: &'a [u8]) -> Result<Option<Unwrapped<'a>>, Reject> {
        let mut fields = [Value::Absent; 8];
        let Ok(Value::Object(_)) = json::read(line, &self.fields, &mut fields) else { return Ok(None) };
        let [topic, partition, offset, ts, key, payload, key_base64, payload_base64] = fields;
        let no_payload = payload == Value::Absent && payload_base64 == Value::Absent;
        if no_payload || [topic, partition, offset].contains(&Value::Absent) {
            return Ok(None);
        }
        let integer = |value: Value<'_>| match value {
            Value::Number(text) => values::integer(text),
            _ => None,
        };
        let bad = |field: &str| {
            Reject::new(Reason::Envelope, format!("field \"{field}\" of the kcat envelope is not an integer in range"))
        };
        let position = integer(offset).and_then(|offset| u64::try_from(offset).ok()).ok_or_else(|| bad("offset"))?;
        let timestamp = match ts {
            Value::Absent => None,
            ts => valid_timestamp(integer(ts).ok_or_else(|| bad("ts"))?),
        };
        let utf8 = key_base64 == Value::Absent && payload_base64 == Value::Absent;
        let (key, value) = (either(key, key_base64, "key_base64")?, either(payload, payload_base64, "payload_base64")?);
        Ok(Some(Unwrapped { position, timestamp, key, value, utf8 }))
    }
}

/// A timestamp that can move a clock: within 1970 to 2200.
pub fn valid_timestamp(millis: i128) -> Option<u64> {
    values::in_range(millis).filter(|&millis| millis > 0)
}

/// The bytes of a member; of the one in base64, if there is one.
fn either<'a>(plain: Value<'a>, base64: Value<'a>, name: &str) -> Result<Option<Cow<'a, [u8]>>, Reject> {
    use base64::Engine;
    let text = match base64 {
        Value::Absent => return Ok(bytes(plain)),
        Value::Null => return Ok(None),
        Value::Plain(text) => Cow::Borrowed(text),
        Value::Escaped(text) => Cow::Owned(unescape(text)),
        _ => Cow::Borrowed(&b"?"[..]),
    };
    let decoded = base64::engine::general_purpose::STANDARD.decode(&text[..]);
    let bad = |_| Reject::new(Reason::Envelope, format!("field \"{name}\" of the envelope is not base64"));
    Ok(Some(Cow::Owned(decoded.map_err(bad)?)))
}

fn bytes(value: Value<'_>) -> Option<Cow<'_, [u8]>> {
    match value {
        Value::Absent | Value::Unsaid | Value::Null => None,
        Value::Escaped(text) => Some(Cow::Owned(unescape(text))),
        Value::Plain(text) | Value::Number(text) | Value::Bool(text) | Value::Object(text) | Value::Array(text) => {
            Some(Cow::Borrowed(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kcat_lines_are_opened() {
        let envelopes = Envelopes::default();
        let open = |line: &'static str| envelopes.open(line.as_bytes()).expect("no reject");
        assert!(open(r#"{"id":1}"#).is_none());
        assert!(open(r#"{"topic":"t","partition":0,"offset":1}"#).is_none(), "no payload");
        assert!(open(r#"{"topic":"t","partition":0,"offset":1,"payload":nonsense}"#).is_none());
        let record = open(
            r#" { "topic":"t","partition":0,"offset":7,"tstype":"create","ts":1795000000000,"key":"{\"id\":1}","payload":{"a":[1]}}"#,
        );
        let record = record.expect("an envelope");
        assert_eq!((record.position, record.timestamp), (7, Some(1_795_000_000_000)));
        assert_eq!(record.key.as_deref(), Some(&br#"{"id":1}"#[..]));
        assert_eq!(record.value.as_deref(), Some(&br#"{"a":[1]}"#[..]));
        let tombstone = open(r#"{"topic":"t","partition":0,"offset":8,"ts":-1,"key":"k","payload":null}"#).expect("an envelope");
        assert_eq!((tombstone.timestamp, tombstone.value), (None, None));
    }

    #[test]
    fn bytes_that_are_no_text_come_as_base64() {
        let line =
            r#"{"topic":"t","partition":0,"offset":7,"key_base64":"AAAAAAEC","key":"k","payload_base64":"AP8=","payload":"x"}"#;
        let record = Envelopes::default().open(line.as_bytes()).expect("no reject").expect("an envelope");
        assert_eq!(record.key.as_deref(), Some(&[0, 0, 0, 0, 1, 2][..]));
        assert_eq!((record.value.as_deref(), record.utf8), (Some(&[0, 0xff][..]), false));
        let line = r#"{"topic":"t","partition":0,"offset":7,"key":"k","payload_base64":null}"#;
        let record = Envelopes::default().open(line.as_bytes()).expect("no reject").expect("an envelope");
        assert_eq!((record.key.as_deref(), record.value), (Some(&b"k"[..]), None));
    }

    #[test]
    fn odd_envelopes_are_dead_letters() {
        for line in [
            r#"{"topic":"t","partition":0,"offset":"7","payload":"x"}"#,
            r#"{"topic":"t","partition":0,"offset":-7,"payload":"x"}"#,
            r#"{"topic":"t","partition":0,"offset":1,"ts":1.5,"payload":"x"}"#,
            r#"{"topic":"t","partition":0,"offset":1,"payload_base64":"AP8"}"#,
            r#"{"topic":"t","partition":0,"offset":1,"payload":"x","key_base64":7}"#,
        ] {
            let reject = Envelopes::default().open(line.as_bytes()).expect_err(line);
            assert_eq!(reject.reason, Reason::Envelope);
        }
    }
}
