//! Values in all the ways in which they are written.

use super::formats::{job_of, of};
use super::*;
use crate::config::field_path::{IdPart, IdSpec};
use crate::config::{Decimal, DedupSpec, MeasureSpec, TimeSpec, TimeUnit};

fn amount(job: &Job, amount: &str) -> String {
    of(job, None, &format!(r#"{{"id":1,"store":"s","amount":{amount},"at":1,"status":"PAID"}}"#))
}

fn check(job: &Job, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let expected = expected.parse::<i128>().map_or(expected.to_string(), |units| format!("1: s/KRW 0 {units} [3 1]"));
        assert_eq!(amount(job, text), expected, "{text}");
    }
}

#[test]
fn amounts() {
    let base64 = job_of(Format::Upsert, |source| {
        source.amount = Some(MeasureSpec { field: "amount".into(), decimal: Decimal::Base64 { scale: 3 } })
    });
    check(
        &base64,
        &[
            ("\"Bdw=\"", "150"),
            ("\"\"", "0"),
            ("\"Bd0=\"", "amount_precision"),
            ("\"AAAAAAAAAAAAAAAAAAAAAAAAAAXc\"", "150"),
            ("\"f////////////////////w==\"", "amount_precision"),
            ("\"AP////////////////////8=\"", "amount_range"),
            ("\"1.50\"", "bad_amount"),
            ("1.5", "150"),
            ("{\"scale\":1,\"value\":\"Dw==\"}", "150"),
            ("{\"scale\":\"1\",\"value\":\"Dw==\"}", "bad_amount"),
            ("{\"value\":\"Dw==\"}", "bad_amount"),
            ("{\"$numberDecimal\":\"1.5\"}", "bad_amount"),
            ("{\"$numberDouble\":\"1.5\"}", "bad_amount"),
            ("null", "missing_field"),
        ],
    );
    let float = job_of(Format::Upsert, |source| source.allow_float = true);
    check(
        &float,
        &[("1.5", "150"), ("{\"$numberDouble\":\"1.5\"}", "bad_amount"), ("{\"$numberDouble\":\"NaN\"}", "bad_amount")],
    );
}

#[test]
fn times() {
    let at = |unit: TimeUnit, zone: Option<&str>, at: &str| {
        let zone = zone.map(str::to_string);
        let job = job_of(Format::Upsert, |source| {
            source.time = Some(TimeSpec { field: "at".into(), unit: unit.clone(), zone: zone.clone() })
        });
        let decoded = of(&job, None, &format!(r#"{{"id":1,"store":"s","amount":1,"at":{at},"status":"PAID"}}"#));
        decoded.split_once("[3 ").map_or(decoded.clone(), |(_, time)| time.trim_end_matches(']').to_string())
    };
    let seoul = Some("Asia/Seoul");
    for (unit, zone, text, expected) in [
        (TimeUnit::Millis, seoul, "1704164645000", "1704132245000"),
        (TimeUnit::Seconds, seoul, "\"1704164645\"", "1704132245000"),
        (TimeUnit::Micros, seoul, "1704164645000999", "1704132245000"),
        (TimeUnit::Days, seoul, "19724", "1704121200000"),
        (TimeUnit::Millis, seoul, "0", "time_range"),
        (TimeUnit::Millis, seoul, "99999999999999999999", "time_range"),
        // The clocks of New York skip 02:30 on this day, and show 01:30 twice on the other.
        (TimeUnit::Seconds, Some("America/New_York"), "1710037800", "1710055800000"),
        (TimeUnit::Seconds, Some("America/New_York"), "1730597400", "1730611800000"),
        (TimeUnit::Rfc3339, seoul, "\"2024-01-02T03:04:05Z\"", "1704164645000"),
        (TimeUnit::Auto, seoul, "\"2024-01-02T03:04:05Z\"", "1704164645000"),
        (TimeUnit::Auto, seoul, "1704164645000", "bad_time"),
        (TimeUnit::Millis, None, "{\"$date\":5}", "bad_time"),
        (TimeUnit::Millis, None, "{\"date\":5}", "bad_time"),
    ] {
        assert_eq!(at(unit.clone(), zone, text), expected, "{text} as {unit:?} in {zone:?}");
    }
}

#[test]
fn dates_of_mongodb_are_themselves_under_any_unit() {
    for unit in [TimeUnit::Auto, TimeUnit::Days, TimeUnit::Rfc3339, TimeUnit::Millis] {
        let job = job_of(Format::Mongodb, |source| {
            source.time = Some(TimeSpec { field: "at".into(), unit: unit.clone(), zone: Some("Asia/Seoul".to_string()) })
        });
        for (at, expected) in [
            (r#"{"$date":1704164645000}"#, "1: s/KRW 1704164400000 100"),
            (r#"{"$date":{"$numberLong":"1704164645000"}}"#, "1: s/KRW 1704164400000 100"),
            (r#"{"$date":"2024-01-02T03:04:05.001Z"}"#, "1: s/KRW 1704164400000 100"),
            (r#"{"$date":"1704164645000"}"#, "bad_time"),
            (r#"{"$date":{"$numberLong":5}}"#, "bad_time"),
            (r#"{"$date":-1}"#, "time_range"),
            (r#"{"$date":5,"x":1}"#, "bad_time"),
            (r#"{"date":5}"#, "bad_time"),
        ] {
            let row = format!(r#"{{"store":"s","amount":1,"at":{at},"status":"PAID"}}"#);
            let event = format!(r#"{{"operationType":"insert","documentKey":{{"_id":1}},"fullDocument":{row}}}"#);
            assert_eq!(of(&job, None, &event), expected, "{at} as {unit:?}");
        }
    }
    let job = job_of(Format::Mongodb, |source| {
        source.time = Some(TimeSpec { field: "at".into(), unit: TimeUnit::Seconds, zone: None })
    });
    let event = r#"{"operationType":"insert","documentKey":{"_id":1},"fullDocument":{"store":"s","amount":1,"at":{"$numberInt":"1800"},"status":"PAID"}}"#;
    assert_eq!(of(&job, None, event), "1: s/KRW 1800000 100");
}

#[test]
fn times_by_schema() {
    let at = |unit: TimeUnit, name: &str, at: &str| {
        let job = job_of(Format::Flattened, |source| {
            source.time = Some(TimeSpec { field: "at".into(), unit: unit.clone(), zone: Some("Asia/Seoul".to_string()) })
        });
        let decoded = of(
            &job,
            None,
            &format!(
                r#"{{"schema":{{"fields":[{{"field":"at","name":"{name}"}}]}},"payload":{{"id":1,"store":"s","amount":1,"at":{at},"status":"PAID"}}}}"#
            ),
        );
        decoded.strip_prefix("1: s/KRW ").map_or(decoded.clone(), |row| row.trim_end_matches(" 100").to_string())
    };
    for (unit, name, text, expected) in [
        (TimeUnit::Auto, "io.debezium.time.Timestamp", "1704164645000", "1704132000000"),
        (TimeUnit::Auto, "org.apache.kafka.connect.data.Timestamp", "1704164645000", "1704132000000"),
        (TimeUnit::Auto, "io.debezium.time.NanoTimestamp", "1704164645000000000", "1704132000000"),
        (TimeUnit::Auto, "org.apache.kafka.connect.data.Date", "19724", "1704121200000"),
        (TimeUnit::Auto, "io.debezium.time.ZonedTimestamp", "\"2024-01-02T03:04:05Z\"", "1704164400000"),
        (TimeUnit::Auto, "io.debezium.time.IsoTimestamp", "\"2024-01-02T03:04:05Z\"", "1704164400000"),
        (TimeUnit::Auto, "io.debezium.time.IsoDate", "\"2024-01-02Z\"", "1704153600000"),
        (TimeUnit::Auto, "io.debezium.time.IsoDate", "\"2024-01-02\"", "1704153600000"),
        (TimeUnit::Auto, "io.debezium.time.IsoDate", "\"2024-01-02ZZ\"", "bad_time"),
        (TimeUnit::Auto, "io.debezium.time.IsoDate", "19724", "bad_time"),
        (TimeUnit::Auto, "io.debezium.time.Time", "1704164645000", "bad_time"),
        (TimeUnit::Auto, "io.debezium.time.Time", "\"2024-01-02T03:04:05Z\"", "1704164400000"),
        (TimeUnit::Millis, "io.debezium.time.Timestamp", "1704164645000", "1704132000000"),
        (TimeUnit::Millis, "io.debezium.time.MicroTimestamp", "1704164645000", "bad_time"),
        (TimeUnit::Seconds, "io.debezium.time.Timestamp", "1704164645", "bad_time"),
        (TimeUnit::Rfc3339, "io.debezium.time.IsoDate", "\"2024-01-02\"", "bad_time"),
        (TimeUnit::Rfc3339, "io.debezium.time.ZonedTimestamp", "\"2024-01-02T03:04:05Z\"", "1704164400000"),
        (TimeUnit::Millis, "else", "1704164645000", "1704132000000"),
    ] {
        assert_eq!(at(unit.clone(), name, text), expected, "{text} of {name} as {unit:?}");
    }
}

#[test]
fn extended_json_is_read_in_formats_of_mongodb_only() {
    let value = |store: &str, status: &str| format!(r#"{{"id":1,"store":{store},"amount":1,"at":5,"status":{status}}}"#);
    let event = |row: &str| format!(r#"{{"operationType":"insert","documentKey":{{"_id":1}},"fullDocument":{row}}}"#);
    let of_mongodb = |store: &str, status: &str| of(&job_of(Format::Mongodb, |_| {}), None, &event(&value(store, status)));
    let of_row = |store: &str, status: &str| of(&job_of(Format::Flattened, |_| {}), None, &value(store, status));
    for (store, expected) in [
        (r#"{"$oid":"5f"}"#, "5f"),
        (r#"{"$uuid":"x-y"}"#, "x-y"),
        (r#"{"$numberLong":"-7"}"#, "-7"),
        (r#"{"$numberInt":"7"}"#, "7"),
        (r#"{"$numberInt":"7.0"}"#, "bad_id"),
        (r#"{"$numberDecimal":"7"}"#, "bad_id"),
        (r#"{"$oid":""}"#, "bad_id"),
        (r#"{"$oid":"5f","x":1}"#, "bad_id"),
        (r#"{"$oid":5}"#, "bad_id"),
        ("{}", "bad_id"),
    ] {
        let read = of_mongodb(store, "\"PAID\"");
        assert_eq!(read.strip_prefix("1: ").map_or(&*read, |row| row.split('/').next().expect("a store")), expected, "{store}");
        assert_eq!(of_row(store, "\"PAID\""), "bad_id", "{store}");
    }
    for name in ["$numberInt", "$numberLong", "$numberDouble", "$numberDecimal", "$oid", "$uuid"] {
        let status = format!(r#"{{"{name}":"PAID"}}"#);
        assert_eq!(of_mongodb("\"s\"", &status), "1: s/KRW 0 100");
        assert_eq!(of_row("\"s\"", &status), "1: s/KRW 0 100 (not counted)");
    }
}

#[test]
fn clicks_that_can_be_told_twice() {
    let mut job = job();
    job.sources[3].dedup = Some(DedupSpec {
        id: IdSpec::Composed(vec![IdPart::Field("device".into()), IdPart::Text("-".to_string()), IdPart::Field("event".into())]),
        horizon: 5,
    });
    let click = |more: &str| format!(r#"{{"store":"s","kind":"k","at":7{more}}}"#);
    for (more, expected) in [
        (r#","device":1,"event":"x""#, "1-x#s/k 0 0 [9 7]"),
        (r#","device":1"#, "missing_field [9 -]"),
        ("", "missing_field [9 -]"),
        (r#","device":1,"event":true"#, "bad_id [9 -]"),
    ] {
        assert_eq!(decode_by(&job, "clicks", &click(more)), expected, "{more}");
    }
}

#[test]
fn composed_ids_that_may_be_null() {
    let composed = |names: [&str; 2]| {
        IdSpec::Composed(
            names.map(|name| IdPart::Field(name.into())).into_iter().chain([IdPart::Text("!".to_string())]).collect(),
        )
    };
    let mut job = job();
    job.sources[3].product = Some(composed(["p", "q"]));
    let click = |more: &str| format!(r#"{{"store":"s","kind":"k","at":7{more}}}"#);
    for (more, expected) in [
        ("", "s/k 0 0 [9 7]"),
        (r#","p":null"#, "s/k 0 0 [9 7]"),
        (r#","p":1"#, "missing_field [9 -]"),
        (r#","p":1,"q":"x""#, "s/k 0 0 of 1x! [9 7]"),
    ] {
        assert_eq!(decode_by(&job, "clicks", &click(more)), expected, "{more}");
    }
}
