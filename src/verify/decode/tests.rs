//! Single lines and what becomes of them.

mod formats;
mod values;

use super::super::row::{Store, Time};
use super::*;
use crate::verify::stories::job;

/// Decodes one line of a topic of the stories' job, and says in short what became of it.
fn decode(topic: &str, line: &str) -> String {
    decode_by(&job(), topic, line)
}

fn decode_by(job: &Job, topic: &str, line: &str) -> String {
    let record = TopicDecoder::new(job, topic).record(9, line.as_bytes()).expect("a record");
    format!("{} [{} {}]", said(&record), record.position, record.timestamp.map_or("-".to_string(), |ts| ts.to_string()))
}

/// What a record says: rows as `key: store/second time sum of product`, what is unsaid as `?`.
fn said(record: &Record) -> String {
    match &record.outcome {
        Outcome::Dead(reason) => reason.to_string(),
        Outcome::Skipped(why) => format!("skipped {}", why.code()),
        Outcome::Event(event, id) => id.iter().map(|id| format!("{}#", id.id)).chain([row(event)]).collect(),
        Outcome::Truncate(space, version) => format!("truncate {space:?}{}", at(version)),
        Outcome::Changes(changes) => {
            let change = |change: &Change| {
                let row = change.row.as_ref().map_or("-".to_string(), row);
                format!("{}: {row}{}", change.key.parts.join(","), at(&change.version))
            };
            changes.iter().map(change).collect::<Vec<_>>().join("; ")
        }
    }
}

fn at(version: &Option<Version>) -> String {
    version.as_ref().map_or(String::new(), |version| format!(" at {version}"))
}

fn row(row: &Row) -> String {
    let unsaid = || "?".to_string();
    let store = match &row.store {
        None => unsaid(),
        Some(Store::Own(store)) => store.clone(),
        Some(Store::Through(parts)) => format!("through {}", parts.join(",")),
    };
    let time = match row.time {
        None => " ?".to_string(),
        Some(Time::Without) => String::new(),
        Some(Time::Elsewhere) => " elsewhere".to_string(),
        Some(Time::At(millis)) => format!(" {}", millis / 1_800_000 * 1_800_000),
    };
    let member = match &row.member {
        None => " of ?".to_string(),
        Some(member) => member.as_ref().map_or(String::new(), |member| format!(" of {member}")),
    };
    let counts = match () {
        () if row.conditions.contains(&Some(false)) => " (not counted)",
        () if row.conditions.contains(&None) => " (if counted)",
        () => "",
    };
    let second = row.second.clone().unwrap_or_else(unsaid);
    format!("{store}/{second}{time} {}{member}{counts}", row.sum.map_or_else(unsaid, |sum| sum.to_string()))
}

fn check(topic: &str, cases: &[(&str, &str)]) {
    for (line, expected) in cases {
        assert_eq!(decode(topic, line), *expected, "{line} in {topic}");
    }
}

#[test]
fn envelopes() {
    let click = r#"{"store":"s","kind":"k","at":7}"#;
    let text = serde_json::to_string(click).unwrap();
    let envelope = |fields: &str| format!(r#"{{"topic":"t","partition":0,{fields}}}"#);
    for (line, expected) in [
        (envelope(&format!(r#""offset":3,"ts":5,"payload":{text}"#)), "s/k 0 0 [3 5]"),
        (envelope(&format!(r#""offset":3,"ts":5,"payload": {click} "#)), "s/k 0 0 [3 5]"),
        // Without a timestamp, or with one that is none, the event's own.
        (envelope(&format!(r#""offset":3,"payload":{text}"#)), "s/k 0 0 [3 7]"),
        (envelope(&format!(r#""offset":3,"ts":0,"payload":{text}"#)), "s/k 0 0 [3 7]"),
        (envelope(&format!(r#""offset":3,"ts":-1,"payload":{text}"#)), "s/k 0 0 [3 7]"),
        (envelope(&format!(r#""offset":3,"ts":7258118400000,"payload":{text}"#)), "s/k 0 0 [3 7]"),
        (envelope(&format!(r#""offset":3,"ts":99999999999999999999999999999999999999999999,"payload":{text}"#)), "s/k 0 0 [3 7]"),
        (envelope(r#""offset":3,"ts":5,"payload":"nonsense""#), "not_json [3 5]"),
        // In base64, beside which the other is not looked at.
        (
            envelope(r#""offset":3,"ts":5,"payload":"x","payload_base64":"eyJzdG9yZSI6InMiLCJraW5kIjoiayIsImF0Ijo3fQ==""#),
            "s/k 0 0 [3 5]",
        ),
        (envelope(r#""offset":3,"ts":5,"payload_base64":null"#), "not_an_object [3 5]"),
        (envelope(r#""offset":3,"ts":5,"payload_base64":"/w==""#), "not_utf8 [3 5]"),
        (envelope(r#""offset":3,"ts":5,"key_base64":"/w==","payload":{}"#), "not_utf8 [3 5]"),
        (envelope(r#""offset":3,"ts":5,"payload_base64":"/w""#), "envelope [9 -]"),
        (envelope(r#""offset":3,"ts":5,"key_base64":5,"payload":{}"#), "envelope [9 -]"),
        (envelope(r#""offset":3,"ts":5,"payload":" ""#), "not_json [3 5]"),
        (envelope(r#""offset":3,"ts":5,"payload":"""#), "not_an_object [3 5]"),
        (envelope(r#""offset":3,"ts":5,"payload":null"#), "not_an_object [3 5]"),
        (envelope(r#""offset":18446744073709551615,"ts":5,"payload":null"#), "not_an_object [18446744073709551615 5]"),
        (envelope(r#""offset":18446744073709551616,"ts":5,"payload":null"#), "envelope [9 -]"),
        (envelope(r#""offset":-0,"ts":5,"payload":null"#), "not_an_object [0 5]"),
        (envelope(r#""offset":-1,"ts":5,"payload":null"#), "envelope [9 -]"),
        (envelope(r#""offset":3.0,"ts":5,"payload":null"#), "envelope [9 -]"),
        (envelope(r#""offset":null,"ts":5,"payload":null"#), "envelope [9 -]"),
        (envelope(r#""offset":3,"ts":"5","payload":null"#), "envelope [9 -]"),
        (envelope(r#""offset":3,"ts":5e0,"payload":null"#), "envelope [9 -]"),
        (envelope(r#""offset":3,"ts":null,"payload":null"#), "envelope [9 -]"),
        // Of equal names the last counts.
        (envelope(&format!(r#""offset":"x","payload":7,"offset":4,"payload":{text}"#)), "s/k 0 0 [4 7]"),
        // Not envelopes, so the line itself is the event: something is missing, or `topic` is not first.
        (r#"{"topic":"t","offset":3,"payload":"x","store":"s","kind":"k","at":7}"#.to_string(), "s/k 0 0 [9 7]"),
        (r#"{"store":"s","topic":"t","partition":0,"offset":"x","payload":"x","kind":"k","at":7}"#.to_string(), "s/k 0 0 [9 7]"),
        (
            r#"{"\u0074opic":"t","partition":0,"offset":"x","payload":"x","store":"s","kind":"k","at":7}"#.to_string(),
            "s/k 0 0 [9 7]",
        ),
        (format!("  {click}\r"), "s/k 0 0 [9 7]"),
    ] {
        assert_eq!(decode("clicks", &line), expected, "{line}");
    }
    assert_eq!(TopicDecoder::new(&job(), "clicks").record(0, b" \t\r").map(|_| ()), None);
    let broken = TopicDecoder::new(&job(), "clicks").record(0, b"{\"store\":\"\xff\"}").expect("a record");
    assert!(matches!(broken.outcome, Outcome::Dead(Reason::NotUtf8)));
}

#[test]
fn clicks() {
    check(
        "clicks",
        &[
            (r#"{"store":1,"kind":"k","product":"p","at":1800000}"#, "1/k 1800000 0 of p [9 1800000]"),
            (r#"{"store":-0,"kind":7,"product":12345678901234567890,"at":"0"}"#, "-0/7 0 0 of 12345678901234567890 [9 -]"),
            (r#"{"store":"1","kind":"k","product":null,"at":1}"#, "1/k 0 0 [9 1]"),
            (r#"{"store":"1","kind":"k","product":"","at":1}"#, "bad_id [9 -]"),
            (r#"{"store":"1","kind":"k","product":1.5,"at":1}"#, "bad_id [9 -]"),
            (r#"{"store":" ","kind":"k","at":1}"#, " /k 0 0 [9 1]"),
            (r#"{"store":"","kind":"k","at":1}"#, "bad_id [9 -]"),
            (r#"{"store":1e2,"kind":"k","at":1}"#, "bad_id [9 -]"),
            (r#"{"store":true,"kind":"k","at":1}"#, "bad_id [9 -]"),
            (r#"{"store":{"$serde_json::private::Number":"1"},"kind":"k","at":1}"#, "bad_id [9 -]"),
            (r#"{"store":null,"kind":"k","at":1}"#, "missing_field [9 -]"),
            (r#"{"store":"s","at":1}"#, "missing_field [9 -]"),
            (r#"{"store":"s","kind":"k"}"#, "missing_field [9 -]"),
            (r#"{"store":"s","kind":"k","at":null}"#, "missing_field [9 -]"),
            (r#"{"store":"s","kind":"k","at":1.5}"#, "bad_time [9 -]"),
            (r#"{"store":"s","kind":"k","at":-1}"#, "time_range [9 -]"),
            (r#"[]"#, "not_an_object [9 -]"),
            (r#""x""#, "not_an_object [9 -]"),
            (r#"null"#, "not_an_object [9 -]"),
            (r#"{"store":"s","kind":"k","at":1}x"#, "not_json [9 -]"),
            (r#"{"store":"s","store":"t","\u006bind":"k","at":1}"#, "t/k 0 0 [9 1]"),
        ],
    );
    // Where products are not distinct they are no members, but must be products.
    check("views", &[(r#"{"store":"s","kind":"k","product":"p","at":1}"#, "s/k 0 0 [9 1]")]);
    check("views", &[(r#"{"store":"s","kind":"k","product":"","at":1}"#, "bad_id [9 -]")]);
}

#[test]
fn debezium() {
    let row = r#"{"id":1,"store":"s","amount":1.5,"at":60000,"status":"PAID"}"#;
    let spoiled = |from: &str, to: &str| format!(r#"{{"op":"c","after":{}}}"#, row.replace(from, to));
    for (value, expected) in [
        (format!(r#"{{"op":"c","after":{row}}}"#), "1: s/KRW 0 150 [9 -]"),
        (format!(r#"{{"op":"u","after":{row},"before":5,"source":{{"ts_ms":44}}}}"#), "1: s/KRW 0 150 [9 44]"),
        (format!(r#"{{"payload":{{"op":"r","after":{row},"source":{{"ts_ms":44}}}},"op":"x"}}"#), "1: s/KRW 0 150 [9 44]"),
        (format!(r#"{{"payload":3,"op":"r","after":{row},"source":{{"ts_ms":"44"}}}}"#), "1: s/KRW 0 150 [9 -]"),
        (format!(r#"{{"op":"d","before":{row}}}"#), "1: - [9 -]"),
        (r#"{"op":"d","before":{"id":"x","store":null},"source":{"ts_ms":3}}"#.to_string(), "x: - [9 3]"),
        (r#"{"op":"d","before":{"id":""}}"#.to_string(), "bad_id [9 -]"),
        (r#"{"op":"d","before":null,"source":{"ts_ms":3}}"#.to_string(), "missing_row [9 -]"),
        (r#"{"op":"d","before":[]}"#.to_string(), "missing_row [9 -]"),
        (format!(r#"{{"op":"u","before":{row},"after":null}}"#), "missing_row [9 -]"),
        (r#"{"op":"c"}"#.to_string(), "missing_row [9 -]"),
        (r#"{"op":"c","after":"x"}"#.to_string(), "missing_row [9 -]"),
        (format!(r#"{{"op":"x","after":{row},"source":{{"ts_ms":3}}}}"#), "bad_op [9 -]"),
        (format!(r#"{{"op":1,"after":{row}}}"#), "bad_op [9 -]"),
        (r#"{"op":"t","source":{"ts_ms":3}}"#.to_string(), "truncate Topic(\"payments\", None) [9 3]"),
        (r#"{"op":"m","source":{"ts_ms":7258118400000}}"#.to_string(), "skipped message [9 -]"),
        (format!(r#"{{"op":null,"after":{row}}}"#), "skipped control [9 -]"),
        (r#"{"ts_ms":3}"#.to_string(), "skipped heartbeat [9 -]"),
        (r#"{"ts_ms":3,"source":{"ts_ms":4},"ddl":"x"}"#.to_string(), "skipped schema_change [9 4]"),
        (r#"{"ts_ms":3,"source":{},"tableChanges":[]}"#.to_string(), "skipped schema_change [9 -]"),
        (r#"{"ts_ms":3,"status":"END","event_count":3}"#.to_string(), "skipped transaction [9 -]"),
        (r#"{"op":"c","source":{"table":"x_debezium_signal"}}"#.to_string(), "skipped signal [9 -]"),
        (r#"{"schema":null,"payload":null}"#.to_string(), "skipped tombstone [9 -]"),
        ("null".to_string(), "skipped tombstone [9 -]"),
        ("[]".to_string(), "not_an_object [9 -]"),
        (spoiled("1.5", "1.555"), "amount_precision [9 -]"),
        (spoiled("1.5", "\"+01.50\""), "1: s/KRW 0 150 [9 -]"),
        (spoiled("1.5", "\" 1.5\""), "bad_amount [9 -]"),
        (spoiled("1.5", "true"), "bad_amount [9 -]"),
        (spoiled("1.5", "null"), "missing_field [9 -]"),
        (spoiled("1.5", "1e24"), "1: s/KRW 0 100000000000000000000000000 [9 -]"),
        (spoiled("1.5", "-1000000000000000000000000.01"), "amount_range [9 -]"),
        (spoiled("\"PAID\"", "\"FAILED\""), "1: s/KRW 0 150 (not counted) [9 -]"),
        (spoiled("\"PAID\"", "null"), "1: s/KRW 0 150 (not counted) [9 -]"),
        (spoiled("\"PAID\"", "[\"PAID\"]"), "1: s/KRW 0 150 (not counted) [9 -]"),
        (spoiled("\"PAID\"", "\"PAID\",\"currency\":\"USD\""), "1: s/USD 0 150 [9 -]"),
        (spoiled("\"PAID\"", "\"PAID\",\"currency\":840"), "1: s/840 0 150 [9 -]"),
        (spoiled("\"PAID\"", "\"PAID\",\"currency\":null"), "1: s/KRW 0 150 [9 -]"),
        (spoiled("\"PAID\"", "\"PAID\",\"currency\":\"\""), "bad_currency [9 -]"),
        (spoiled("\"PAID\"", "\"PAID\",\"currency\":false"), "bad_currency [9 -]"),
        (spoiled("60000", "\"x\""), "bad_time [9 -]"),
    ] {
        assert_eq!(decode("payments", &value), expected, "{value}");
    }
    let no_default = Job { currency: None, ..job() };
    assert_eq!(decode_by(&no_default, "payments", &format!(r#"{{"op":"c","after":{row}}}"#)), "bad_currency [9 -]");
}

#[test]
fn debezium_keys() {
    let row = r#"{"id":1,"store":"s","amount":1.5,"at":60000,"status":"PAID"}"#;
    for (key, expected) in [
        (r#""{\"id\":\"k\"}""#, "k"),
        (r#"{"id":12}"#, "12"),
        (r#""{\"schema\":{},\"payload\":{\"id\":7}}""#, "7"),
        (r#"{"id":7,"payload":3}"#, "7"),
        ("null", "1"),
        (r#""{}""#, "missing_key"),
        (r#""null""#, "missing_key"),
        (r#""""#, "missing_key"),
        (r#""k""#, "missing_key"),
        (r#"{"id":null}"#, "missing_key"),
        (r#"{"id":1,"payload":{}}"#, "missing_key"),
    ] {
        for change in [format!(r#"{{"op":"u","after":{row}}}"#), format!(r#"{{"op":"d","before":{row}}}"#)] {
            let line = format!(r#"{{"topic":"t","partition":0,"offset":3,"key":{key},"payload":{change}}}"#);
            let decoded = decode("payments", &line);
            assert_eq!(decoded.split([':', ' ']).next(), Some(expected), "{line}");
        }
    }
    let line = r#"{"topic":"t","partition":0,"offset":3,"key":{"id":2},"payload":{"op":"d","before":null}}"#;
    assert_eq!(decode("payments", line), "2: - [3 -]");
    let line = r#"{"topic":"t","partition":0,"offset":3,"key":{},"payload":{"op":"t"}}"#;
    assert_eq!(decode("payments", line), "truncate Topic(\"payments\", None) [3 -]");
}

#[test]
fn upserts() {
    let row = r#"{"item":1,"store":"s","product":"p","quantity":3,"at":60000}"#;
    let keyless = row.replace("\"item\":1,", "");
    let envelope = |key: &str, value: &str| format!(r#"{{"topic":"t","partition":0,"offset":3,"key":{key},"payload":{value}}}"#);
    for (line, expected) in [
        (row.to_string(), "1: s/ 0 3 of p [9 60000]"),
        (envelope(r#"{"item":"k"}"#, row), "k: s/ 0 3 of p [3 60000]"),
        (envelope(r#""{\"payload\":{\"item\":2}}""#, &keyless), "2: s/ 0 3 of p [3 60000]"),
        (envelope(r#""raw key ""#, &keyless), "raw key : s/ 0 3 of p [3 60000]"),
        (envelope(r#""007""#, &keyless), "007: s/ 0 3 of p [3 60000]"),
        (envelope(r#"" 7 ""#, &keyless), "7: s/ 0 3 of p [3 60000]"),
        (envelope(r#""\"quoted\"""#, &keyless), "quoted: s/ 0 3 of p [3 60000]"),
        (envelope("5", &keyless), "5: s/ 0 3 of p [3 60000]"),
        (envelope("null", row), "1: s/ 0 3 of p [3 60000]"),
        (envelope("null", &keyless), "missing_field [3 -]"),
        (envelope(r#""""#, row), "missing_key [3 -]"),
        (envelope(r#""1.0""#, row), "missing_key [3 -]"),
        (envelope(r#""true""#, row), "missing_key [3 -]"),
        (envelope(r#""null""#, row), "missing_key [3 -]"),
        (envelope(r#""\"\"""#, row), "missing_key [3 -]"),
        (envelope("{}", row), "missing_key [3 -]"),
        (envelope("\"k\"", "null"), "k: - [3 -]"),
        (envelope("\"k\"", "\"\""), "k: - [3 -]"),
        (envelope("\"k\"", "\" null\""), "k: - [3 -]"),
        (envelope("\"k\"", "[]"), "not_an_object [3 -]"),
        (envelope("null", "null"), "missing_key [3 -]"),
        ("null".to_string(), "missing_key [9 -]"),
        ("7".to_string(), "not_an_object [9 -]"),
        (row.replace(":3,", ":\"-3.0e0\","), "1: s/ 0 -3 of p [9 60000]"),
        (row.replace(":3,", ":1000000000,"), "1: s/ 0 1000000000 of p [9 60000]"),
        (row.replace(":3,", ":1000000001,"), "bad_quantity [9 -]"),
        (row.replace(":3,", ":0.5,"), "bad_quantity [9 -]"),
        (row.replace("\"p\"", "null"), "missing_field [9 -]"),
    ] {
        assert_eq!(decode("items", &line), expected, "{line}");
    }
}

#[test]
fn composite_keys() {
    let mut job = job();
    job.sources[1].key = vec!["b".into(), "a".into()];
    let row = r#"{"a":1,"b":"2","store":"s","product":"p","quantity":3,"at":60000}"#;
    assert_eq!(decode_by(&job, "items", row), "2,1: s/ 0 3 of p [9 60000]");
    for (key, expected) in
        [(r#"{"a":"x","b":"y"}"#, "y,x: - [3 -]"), ("\"raw\"", "missing_key [3 -]"), ("7", "missing_key [3 -]")]
    {
        let line = format!(r#"{{"topic":"t","partition":0,"offset":3,"key":{key},"payload":null}}"#);
        assert_eq!(decode_by(&job, "items", &line), expected, "{line}");
    }
}

#[test]
fn versions() {
    let version = |source: &str| Version::of_debezium(&parse(source).expect("JSON")).map(|version| version.to_string());
    let mysql = |file: &str, rest: &str| version(&format!(r#"{{"connector":"mysql","name":"n","file":"{file}"{rest}}}"#));
    let some = |text: &str| Some(text.to_string());
    assert_eq!(mysql("a.b.000012", r#","pos":5,"row":2"#), some("Binlog n/a.b 12:5:2"));
    assert_eq!(mysql("a.12", r#","pos":5,"row":null"#), some("Binlog n/a 12:5:0"));
    for (file, rest) in
        [("a.12", ""), ("a.12", ",\"pos\":0"), ("a.12", ",\"pos\":\"5\""), ("a.12", ",\"pos\":-5"), ("", ",\"pos\":5")]
    {
        assert_eq!(mysql(file, rest), None, "{file} {rest}");
    }
    for file in ["a12", "a.", "a.+1", "a.x", "a.4294967296", "a.99999999999999999999"] {
        assert_eq!(mysql(file, ",\"pos\":5"), None, "{file}");
    }
    for (id, expected) in [("", ""), (",\"server_id\":0", ""), (",\"server_id\":3", " of server 3")] {
        assert_eq!(mysql("a.1", &format!(",\"pos\":5{id}")), some(&format!("Binlog n/a 1:5:0{expected}")));
    }
    assert_eq!(version(r#"{"connector":"postgresql","lsn":24023128}"#), some("Postgres / 0:24023128:0"));
    assert_eq!(version(r#"{"connector":"postgresql","lsn":0}"#), None);
    assert_eq!(version(r#"{"connector":"postgresql","lsn":null}"#), None);
    let mongodb = r#"{"connector":"mongodb","name":"n","rs":"rs0","lsn":5,"ts_ms":7999,"ord":3}"#;
    assert_eq!(version(mongodb), some(&format!("ClusterTime n/rs0 0:{}:0", (7u64 << 32) + 3)));
    assert_eq!(version(r#"{"connector":"mongodb","ts_ms":0,"ord":3}"#), None);
    assert_eq!(version(r#"{"connector":"mongodb","ts_ms":7000,"ord":"3"}"#), None);
}
