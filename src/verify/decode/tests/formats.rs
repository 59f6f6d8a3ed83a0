//! Each format, record by record.

use super::*;
use crate::config::{Absent, MeasureSpec, TimeSpec, TimeUnit};

/// A job with one source of payments in `format`, as `change` changes it.
pub(super) fn job_of(format: Format, change: impl Fn(&mut SourceSpec)) -> Job {
    let mut source = SourceSpec {
        key: vec!["id".into()],
        amount: Some(MeasureSpec::from("amount")),
        time: Some(TimeSpec { field: "at".into(), unit: TimeUnit::Millis, zone: None }),
        counts_when: [("status".into(), vec!["PAID".to_string()])].into(),
        ..SourceSpec::plain("{site}.log", Role::Payments, format, "store")
    };
    change(&mut source);
    Job { sources: vec![source], ..job() }
}

/// What becomes of a value and its key, both as text; without the position.
pub(super) fn of(job: &Job, key: Option<&str>, value: &str) -> String {
    let text = |text: Option<&str>| serde_json::to_string(&text).expect("text");
    let line = format!(r#"{{"topic":"t","partition":0,"offset":3,"key":{},"payload":{}}}"#, text(key), text(Some(value)));
    let decoded = decode_by(job, "seoul.log", &line);
    decoded.strip_suffix(" [3 -]").map_or(decoded.clone(), str::to_string)
}

const ROW: &str = r#"{"id":1,"store":"s","amount":"1.50","at":60000,"status":"PAID"}"#;
const READ: &str = "1: s/KRW 0 150";

fn check(job: &Job, cases: &[(&str, &str)]) {
    for (value, expected) in cases {
        assert_eq!(of(job, None, value), *expected, "{value}");
    }
}

#[test]
fn debezium_by_schema() {
    let job =
        job_of(Format::Debezium, |source| source.time = Some(TimeSpec { field: "at".into(), unit: TimeUnit::Auto, zone: None }));
    let field = |name: &str, rest: &str| format!(r#"{{"field":"{name}",{rest}}}"#);
    let decimal = |scale: &str| {
        format!(r#""type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{{"scale":{scale}}}"#)
    };
    let value = |id: &str, amount: &str, fields: &[String]| {
        let fields = fields.join(",");
        format!(
            r#"{{"schema":{{"fields":[{{"field":"before"}},{{"field":"after","fields":[{fields}]}}]}},"payload":{{"op":"c","after":{{"id":{id},"store":"s","amount":{amount},"at":60000,"status":"PAID"}}}}}}"#
        )
    };
    let millis = field("at", r#""type":"int64","name":"io.debezium.time.Timestamp""#);
    for (id, amount, fields, expected) in [
        (
            "\"AQ==\"",
            "\"EtaH\"",
            vec![field("id", &decimal("\"0\"")), field("amount", &decimal("\"4\"")), millis.clone()],
            "amount_precision",
        ),
        (
            "\"AQ==\"",
            "\"EtaI\"",
            vec![field("id", &decimal("\"0\"")), field("amount", &decimal("3")), millis.clone()],
            "amount_precision",
        ),
        (
            "\"AQ==\"",
            "\"EtaI\"",
            vec![field("id", &decimal("\"0\"")), field("amount", &decimal("2")), millis.clone()],
            "1: s/KRW 0 1234568",
        ),
        (
            "\"AP//////////\"",
            "1.50",
            vec![field("id", &decimal("\"0\"")), field("amount", &decimal("2")), millis.clone()],
            "18446744073709551615: s/KRW 0 150",
        ),
        ("1", "\"AQ=\"", vec![field("amount", &decimal("2")), millis.clone()], "bad_amount"),
        ("1", "\"1.25\"", vec![field("amount", &decimal("null")), millis.clone()], "1: s/KRW 0 125"),
        ("\"AQ==\"", "1", vec![field("id", &decimal("1")), millis.clone()], "bad_id"),
        ("1", "1.5", vec![field("amount", "\"type\":\"double\""), millis.clone()], "float"),
        ("1", "1", vec![field("amount", "\"type\":\"float32\""), millis.clone()], "float"),
        ("1", "{\"scale\":3,\"value\":\"Bdw=\"}", vec![millis.clone()], "1: s/KRW 0 150"),
        ("1", "{\"scale\":-1,\"value\":\"Aw==\"}", vec![millis.clone()], "1: s/KRW 0 3000"),
        ("1", "{\"scale\":39,\"value\":\"AA==\"}", vec![millis.clone()], "bad_amount"),
        ("1", "1.5", vec![], "bad_time"),
        ("1", "1.5", vec![field("at", r#""name":"io.debezium.time.MicroTimestamp""#)], READ),
        ("1", "1.5", vec![field("at", r#""name":"io.debezium.time.Date""#)], "1: s/KRW 5184000000000 150"),
        ("1", "1.5", vec![field("at", r#""name":"io.debezium.time.ZonedTimestamp""#)], "bad_time"),
    ] {
        assert_eq!(of(&job, None, &value(id, amount, &fields)), expected, "{id} {amount} {fields:?}");
    }
    // The schema of the message key says how its fields are written.
    let key = format!(r#"{{"schema":{{"fields":[{}]}},"payload":{{"id":"Ag=="}}}}"#, field("id", &decimal("\"0\"")));
    assert_eq!(of(&job, Some(&key), r#"{"op":"d","before":null}"#), "2: -");
    assert_eq!(of(&job, Some(r#"{"schema":null,"payload":{"id":"Ag=="}}"#), r#"{"op":"d","before":null}"#), "Ag==: -");
}

#[test]
fn debezium_columns_that_did_not_change() {
    let job = job_of(Format::Debezium, |_| {});
    let spoiled = |from: &str, to: &str| format!(r#"{{"op":"u","after":{}}}"#, ROW.replace(from, to));
    for unavailable in ["\"__debezium_unavailable_value\"", "\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\""] {
        for (from, expected) in [
            ("\"s\"", "1: ?/KRW 0 150"),
            ("\"1.50\"", "1: s/KRW 0 ?"),
            ("60000", "1: s/KRW ? 150"),
            ("\"PAID\"", "1: s/KRW 0 150 (if counted)"),
            ("\"id\":1", "missing_field"),
        ] {
            let to = if from == "\"id\":1" { format!("\"id\":{unavailable}") } else { unavailable.to_string() };
            assert_eq!(of(&job, None, &spoiled(from, &to)), expected, "{from}");
        }
    }
    assert_eq!(of(&job, None, &spoiled("\"s\"", "null")), "missing_field");
    let composed = job_of(Format::Debezium, |source| {
        source.store = StoreSpec::Own(crate::config::field_path::IdSpec::Composed(vec![
            crate::config::field_path::IdPart::Captured("site".to_string()),
            crate::config::field_path::IdPart::Text("/".to_string()),
            crate::config::field_path::IdPart::Field("store".into()),
            crate::config::field_path::IdPart::Field("status".into()),
        ]))
    });
    check(
        &composed,
        &[
            (&spoiled("1,", "1,"), "1: seoul/sPAID/KRW 0 150"),
            (&spoiled("\"s\"", "\"__debezium_unavailable_value\""), "partial_id"),
            (
                r#"{"op":"u","after":{"id":1,"store":"__debezium_unavailable_value","status":"__debezium_unavailable_value","amount":1,"at":1}}"#,
                "1: ?/KRW 0 100 (if counted)",
            ),
            (&spoiled("\"s\"", "null"), "missing_field"),
        ],
    );
    // Below a text that is JSON, and below one that did not change.
    let nested = job_of(Format::Debezium, |source| {
        source.store = StoreSpec::Own(crate::config::field_path::IdSpec::Field(
            crate::config::field_path::FieldPath::parse("geo.\"a.b\".store").expect("a path"),
        ))
    });
    let geo = |geo: &str| format!(r#"{{"op":"u","after":{{"id":1,"geo":{geo},"amount":1,"at":1,"status":"PAID"}}}}"#);
    check(
        &nested,
        &[
            (&geo(r#"{"a.b":{"store":"x"}}"#), "1: x/KRW 0 100"),
            (&geo(r#""{\"a.b\":{\"store\":\"x\"}}""#), "1: x/KRW 0 100"),
            (&geo(r#"{"a.b":"{\"store\":7}"}"#), "1: 7/KRW 0 100"),
            (&geo(r#"{"a.b":{"store":"x"},"a":{"b":{"store":"y"}},"a.b":{"id":"z"}}"#), "missing_field"),
            (&geo(r#""{\"a.b\":""#), "missing_field"),
            (&geo("[]"), "missing_field"),
            (&geo("\"__debezium_unavailable_value\""), "1: ?/KRW 0 100"),
        ],
    );
}

#[test]
fn debezium_of_mongodb() {
    let job = job_of(Format::Debezium, |source| source.table = Some("shop.payments".to_string()));
    let source =
        r#""source":{"connector":"mongodb","name":"m","rs":"r","db":"shop","collection":"payments","ts_ms":2000,"ord":1}"#;
    let value = |op: &str, rest: &str| format!(r#"{{"op":"{op}",{rest}{source}}}"#);
    let row = r#"{"_id":{"$oid":"5f"},"store":{"$numberInt":"7"},"amount":{"$numberDecimal":"1.5"},"at":{"$date":{"$numberLong":"60000"}},"status":"PAID"}"#;
    let quoted = serde_json::to_string(row).expect("text");
    let read = format!("7/KRW 0 150 at ClusterTime m/r 0:{}:0 [3 2000]", (2u64 << 32) + 1);
    let at = format!("at ClusterTime m/r 0:{}:0 [3 2000]", (2u64 << 32) + 1);
    for (key, value, expected) in [
        (Some(r#"{"id":"{\"$oid\": \"5f\"}"}"#), value("c", &format!(r#""after":{quoted},"#)), format!("5f: {read}")),
        (Some(r#"{"id":"\"x\""}"#), value("r", &format!(r#""after":{row},"#)), format!("x: {read}")),
        (Some(r#"{"payload":{"id":"1234"}}"#), value("u", &format!(r#""after":{row},"#)), format!("1234: {read}")),
        (Some(r#"{"id":"plain"}"#), value("d", ""), format!("plain: - {at}")),
        (Some(r#"{"id":5}"#), value("d", ""), format!("5: - {at}")),
        (Some(r#"{"id":"1.5"}"#), value("d", ""), "missing_key".to_string()),
        (Some(r#"{"_id":5}"#), value("d", ""), "missing_key".to_string()),
        (None, value("c", &format!(r#""after":{quoted},"#)), format!("5f: {read}")),
        (None, value("c", r#""after":"{","#), "missing_row".to_string()),
        (Some(r#"{"id":"1"}"#), value("u", r#""after":null,"#), "missing_row".to_string()),
        (
            Some(r#"{"id":"1"}"#),
            value("u", r#""updateDescription":{"updatedFields":"{\"amount\":3,\"status\":\"PAID\"}","removedFields":null},"#),
            format!("1: ?/KRW ? 300 {at}"),
        ),
        (Some(r#"{"id":"1"}"#), value("u", r#""updateDescription":{"updatedFields":"{"},"#), "missing_row".to_string()),
        (Some(r#"{"id":"1"}"#), value("c", r#""updateDescription":{},"#), "missing_row".to_string()),
        (
            Some(r#"{"id":"1"}"#),
            value("c", r#""after":null,"#).replace("shop", "else"),
            "skipped other_table [3 2000]".to_string(),
        ),
        (
            Some(r#"{"id":"1"}"#),
            value("c", &format!(r#""after":{},"#, row.replace(r#"{"$numberDecimal":"1.5"}"#, "1.5"))),
            "float".to_string(),
        ),
    ] {
        assert_eq!(of(&job, key, &value), expected, "{key:?} {value}");
    }
}

#[test]
fn flattened() {
    let job = job_of(Format::Flattened, |source| source.table = Some("shop.payments".to_string()));
    let row = |more: &str| ROW.replace("\"PAID\"", &format!("\"PAID\",{more}"));
    let here = r#""__table":"payments","__source_schema":"shop""#;
    check(
        &job,
        &[
            (&row(here), READ),
            (&row(r#""__source_table":"payments","__db":"shop","__schema":"""#), READ),
            (&row(r#""__collection":"payments","__db":"shop""#), READ),
            (&row(r#""__table":"payments","__db":"shop","__schema":"x""#), "skipped other_table"),
            (ROW, "skipped other_table"),
            (&row(&format!(r#"{here},"__op":"d""#)), "1: -"),
            (&row(&format!(r#"{here},"__deleted":"true""#)), "1: -"),
            (&row(&format!(r#"{here},"__deleted":true"#)), "1: -"),
            (&row(&format!(r#"{here},"__deleted":"false","__op":"c""#)), READ),
            (&row(&format!(r#"{here},"__op":"t""#)), r#"truncate Topic("seoul.log", Some("shop.payments"))"#),
            (&row(&format!(r#"{here},"__op":"x""#)), "bad_op"),
            (&row(&format!(r#"{here},"__op":1"#)), "bad_op"),
            (&row(&format!(r#"{here},"__lsn":7,"__ts_ms":5"#)), "1: s/KRW 0 150 at Postgres / 0:7:0 [3 5]"),
            (
                &row(&format!(r#"{here},"__source_file":"b.3","__pos":9,"__name":"n","__server_id":2,"__row":1,"__lsn":7"#)),
                "1: s/KRW 0 150 at Binlog n/b 3:9:1 of server 2",
            ),
            (&row(&format!(r#"{here},"__source_ts_ms":"5","__ts_ms":6"#)), "1: s/KRW 0 150 [3 6]"),
            ("[]", "not_an_object"),
        ],
    );
    let job = job_of(Format::Flattened, |_| {});
    let wrapped = format!(r#"{{"schema":{{"fields":[{{"field":"amount","type":"double"}}]}},"payload":{ROW}}}"#);
    for (key, value, expected) in [
        (None, ROW, READ),
        (Some("7"), ROW, "7: s/KRW 0 150"),
        (Some("raw"), "null", "raw: -"),
        (Some("raw"), "", "raw: -"),
        (Some(r#"{"id":2}"#), r#"{"schema":null,"payload":null}"#, "2: -"),
        (None, "null", "missing_key"),
        (None, &wrapped, "float"),
        (None, r#"{"schema":null,"payload":5}"#, "missing_field"),
        (None, &ROW.replace("\"PAID\"", "\"PAID\",\"schema\":\"x\",\"payload\":[]"), READ),
        (None, r#"{"payload":{"id":1}}"#, "missing_field"),
        (None, r#"{"id":3,"__deleted":"true"}"#, "3: -"),
    ] {
        assert_eq!(of(&job, key, value), expected, "{key:?} {value}");
    }
}

#[test]
fn dms() {
    let job = job_of(Format::Dms, |source| source.table = Some("shop.payments".to_string()));
    let value = |data: &str, more: &str, metadata: &str| {
        format!(r#"{{"data":{data},{more}"metadata":{{"table-name":"payments","schema-name":"shop",{metadata}}}}}"#)
    };
    let mysql = r#""stream-position":"mysql-bin.002171:36912271:0:36912333:93:mysql-bin.002171:3"#;
    let with = |name: &str| ROW.replace("\"PAID\"", &format!("\"PAID\",{name}"));
    check(
        &job,
        &[
            (&value(ROW, "", r#""operation":"load""#), READ),
            (&value(ROW, "", r#""operation":"insert","record-type":"data""#), READ),
            (
                &value(ROW, "", &format!(r#""operation":"update",{mysql}","transaction-record-id":4"#)),
                "1: s/KRW 0 150 at Dms dms/mysql-bin 2171:36912271:4",
            ),
            (
                &value(ROW, "", r#""operation":"update","stream-position":"00000002/7C007178.3.00000002/7C007178""#),
                &format!("1: s/KRW 0 150 at Dms dms/lsn 0:{}:0", (2u64 << 32) + 0x7C00_7178),
            ),
            (&value(ROW, "", r#""operation":"update","stream-position":"123456789/0""#), READ),
            (&value(ROW, "", r#""operation":"update","stream-position":"1/A""#), "1: s/KRW 0 150 at Dms dms/lsn 0:4294967306:0"),
            (&value(ROW, r#""before-image":{},"#, r#""operation":"update""#), READ),
            (&value(ROW, r#""before-image":{"id":9},"#, r#""operation":"update""#), "9: -; 1: s/KRW 0 150"),
            (&value(ROW, r#""before-image":{"id":"1"},"#, r#""operation":"update""#), READ),
            (&value(ROW, r#""before-image":{"id":[]},"#, r#""operation":"update""#), "bad_id"),
            (&value(&with(r#""BI_id":8"#), r#""before-image":{"id":null},"#, r#""operation":"update""#), "8: -; 1: s/KRW 0 150"),
            (&value(&with(r#""BI_id":8"#), "", r#""operation":"insert""#), READ),
            (&value(r#"{"id":1,"store":null}"#, "", r#""operation":"delete""#), "1: -"),
            (&value("null", "", r#""operation":"delete""#), "missing_row"),
            (&value(ROW, "", r#""operation":"merge""#), "bad_op"),
            (&value(ROW, "", r#""operation":"drop-table""#), "bad_op"),
            (
                &value("null", "", r#""record-type":"control","operation":"drop-table""#),
                r#"truncate Topic("seoul.log", Some("shop.payments"))"#,
            ),
            (&value("null", "", r#""record-type":"control","operation":"create-table""#), "skipped control"),
            (r#"{"metadata":{"record-type":"control","table-name":"","operation":"drop-table"}}"#, "skipped control"),
            (r#"{"metadata":{"table-name":"else","schema-name":"shop","operation":"x"}}"#, "skipped other_table"),
            (r#"{"metadata":{"operation":"insert"}}"#, "skipped other_table"),
            (r#"{"data":{}}"#, "not_an_object"),
            ("null", "skipped tombstone"),
            (
                &value(ROW, "", r#""operation":"load","commit-timestamp":"x","timestamp":"1970-01-01T00:00:09.000001Z""#),
                "1: s/KRW 0 150 [3 9000]",
            ),
            (
                &value(
                    "null",
                    "",
                    r#""record-type":"control","commit-timestamp":"1970-01-01T00:00:07Z","timestamp":"1970-01-01T00:00:09Z""#,
                ),
                "skipped control [3 7000]",
            ),
        ],
    );
    // Not the message key, which is a partition's.
    assert_eq!(of(&job, Some("shop.payments"), &value(ROW, "", r#""operation":"load""#)), READ);
    let changed_only = job_of(Format::Dms, |source| source.absent = Absent::Unchanged);
    let value = r#"{"data":{"id":1,"amount":2},"metadata":{"operation":"update"}}"#;
    assert_eq!(of(&changed_only, None, value), "1: ?/KRW ? 200 (if counted)");
    assert_eq!(of(&changed_only, None, &value.replace("\"id\":1,", "")), "missing_field");
    assert_eq!(of(&changed_only, None, &value.replace("2}", "null}")), "missing_field");
}

#[test]
fn maxwell() {
    let job = job_of(Format::Maxwell, |source| source.table = Some("shop.payments".to_string()));
    let value =
        |kind: &str, more: &str| format!(r#"{{"database":"shop","table":"payments","type":"{kind}","ts":9,"data":{ROW}{more}}}"#);
    let plain = |value: &str| value.replace(r#""type""#, r#""x":1,"type""#).replace(r#""table":"payments""#, r#""table":"x""#);
    check(
        &job,
        &[
            (&value("insert", ""), "1: s/KRW 0 150 [3 9000]"),
            (&value("bootstrap-insert", ""), "1: s/KRW 0 150 [3 9000]"),
            (&value("update", r#","old":{"amount":3}"#), "1: s/KRW 0 150 [3 9000]"),
            (&value("update", r#","old":{"id":3}"#), "3: -; 1: s/KRW 0 150 [3 9000]"),
            (&value("update", r#","old":{"id":null}"#), "1: s/KRW 0 150 [3 9000]"),
            (&value("update", r#","old":{"id":{}}"#), "bad_id"),
            (&value("insert", r#","old":{"id":3}"#), "1: s/KRW 0 150 [3 9000]"),
            (&value("delete", ""), "1: - [3 9000]"),
            (
                &value("update", r#","position":"b.1:5","xoffset":3,"commit":true,"server_id":7,"old":{"id":2}"#),
                "2: - at Maxwell maxwell/b 1:5:3 of server 7; 1: s/KRW 0 150 at Maxwell maxwell/b 1:5:3 of server 7 [3 9000]",
            ),
            (&value("delete", r#","position":"b.1:5","commit":true"#), "1: - at Maxwell maxwell/b 1:5:4294967295 [3 9000]"),
            (&value("delete", r#","position":"b.1:5""#), "1: - at Maxwell maxwell/b 1:5:0 [3 9000]"),
            (&value("delete", r#","position":"b.1:5:6""#), "1: - [3 9000]"),
            (&value("table-drop", ""), r#"truncate Topic("seoul.log", Some("shop.payments"))"#),
            (&value("table-alter", ""), "skipped schema_change"),
            (&value("database-drop", ""), "skipped schema_change"),
            (&value("bootstrap-start", ""), "skipped bootstrap"),
            (&value("heartbeat", ""), "skipped heartbeat"),
            (&value("upsert", ""), "bad_op"),
            (&plain(&value("insert", "")), "skipped other_table [3 9000]"),
            (&plain(&value("table-drop", "")), "skipped other_table"),
            (r#"{"type":1}"#, "bad_op"),
            (r#"{"type":"insert","database":"shop","table":"payments","data":[]}"#, "missing_row"),
            ("null", "skipped tombstone"),
            ("5", "not_an_object"),
        ],
    );
}

#[test]
fn canal() {
    let job = job_of(Format::Canal, |source| source.table = Some("payments".to_string()));
    let other = ROW.replace("\"id\":1", "\"id\":\"2\"");
    let value = |kind: &str, data: &str, more: &str| {
        format!(r#"{{"database":"shop","table":"payments","type":"{kind}","es":9,"data":{data}{more}}}"#)
    };
    check(
        &job,
        &[
            (&value("INSERT", &format!("[{ROW},{other}]"), ""), "1: s/KRW 0 150; 2: s/KRW 0 150 [3 9]"),
            (&value("INIT", &format!("[{ROW}]"), r#","old":[{"id":5}]"#), "1: s/KRW 0 150 [3 9]"),
            (&value("DELETE", &format!("[{ROW},{other}]"), ""), "1: -; 2: - [3 9]"),
            (
                &value("UPDATE", &format!("[{ROW},{other}]"), r#","old":[{"amount":1},{"id":"3"}]"#),
                "1: s/KRW 0 150; 3: -; 2: s/KRW 0 150 [3 9]",
            ),
            (&value("UPDATE", &format!("[{ROW},{other}]"), r#","old":[null]"#), "1: s/KRW 0 150; 2: s/KRW 0 150 [3 9]"),
            (&value("UPDATE", &format!("[{ROW},{{\"id\":2}}]"), ""), "missing_field"),
            (&value("UPDATE", &format!("[{ROW},5]"), ""), "missing_row"),
            (&value("INSERT", "[]", ""), "missing_row"),
            (&value("INSERT", ROW, ""), "missing_row"),
            (&value("TRUNCATE", "null", r#","isDdl":true"#), r#"truncate Topic("seoul.log", Some("payments"))"#),
            (&value("ERASE", "null", r#","isDdl":true"#), r#"truncate Topic("seoul.log", Some("payments"))"#),
            (&value("TRUNCATE", "null", ""), "skipped schema_change"),
            (&value("TRUNCATE", "[]", ""), "bad_op"),
            (&value("INSERT", "[]", r#","isDdl":true"#), "skipped schema_change"),
            (&value("MHEARTBEAT", "null", ""), "skipped heartbeat"),
            (&value("ALTER", "null", r#","isDdl":false"#), "skipped schema_change"),
            (&value("INSERT", "[]", "").replace("payments", "x"), "skipped other_table [3 9]"),
            (r#"{"table":"payments","data":[]}"#, "bad_op"),
        ],
    );
}

#[test]
fn mongodb() {
    let job = job_of(Format::Mongodb, |source| {
        source.key = vec!["payment".into()];
        source.table = Some("shop.payments".to_string());
        source.time = Some(TimeSpec {
            field: crate::config::field_path::FieldPath::parse("paid.at").expect("a path"),
            unit: TimeUnit::Millis,
            zone: None,
        });
    });
    let time = r#""clusterTime":{"$timestamp":{"t":2,"i":1}}"#;
    let event = |kind: &str, more: &str| {
        format!(
            r#"{{"operationType":"{kind}","ns":{{"db":"shop","coll":"payments"}},"documentKey":{{"_id":{{"$oid":"5f"}}}},{more}{time}}}"#
        )
    };
    let document = r#""fullDocument":{"store":"s","amount":{"$numberLong":"2"},"paid":{"at":{"$date":"1970-01-01T00:01:00Z"}},"status":"PAID"},"#;
    let at = format!("at Mongodb mongodb/ 0:{}:0 [3 2000]", (2u64 << 32) + 1);
    let update = |updated: &str, removed: &str| {
        event(
            "update",
            &format!(r#""fullDocument":null,"updateDescription":{{"updatedFields":{updated},"removedFields":{removed}}},"#),
        )
    };
    let quoted = serde_json::to_string(&event("insert", document)).expect("text");
    check(
        &job,
        &[
            (&event("insert", document), &format!("5f: s/KRW 0 200 {at}")),
            (&quoted, &format!("5f: s/KRW 0 200 {at}")),
            (&event("replace", document), &format!("5f: s/KRW 0 200 {at}")),
            (&event("update", document), &format!("5f: s/KRW 0 200 {at}")),
            (&event("insert", ""), "missing_row"),
            (&event("update", ""), "missing_row"),
            (&event("delete", ""), &format!("5f: - {at}")),
            (&event("delete", "").replace("_id", "id"), "missing_key"),
            (&event("drop", ""), &format!(r#"truncate Topic("seoul.log", Some("shop.payments")) {at}"#)),
            (&event("drop", "").replace("payments", "x"), "skipped other_table [3 2000]"),
            (
                &event("dropDatabase", "").replace("payments", "x"),
                &format!(r#"truncate Topic("seoul.log", Some("shop.payments")) {at}"#),
            ),
            (&event("dropDatabase", "").replace("shop", "x"), "skipped other_table [3 2000]"),
            (&event("invalidate", ""), "skipped control [3 2000]"),
            (&event("delete", r#""wallTime":{"$date":{"$numberLong":"7"}},"#), &format!("5f: - {}", at.replace("2000", "7"))),
            (&update(r#"{"amount":3,"paid.at":{"$date":60000}}"#, "[]"), &format!("5f: ?/KRW 0 300 (if counted) {at}")),
            (&update(r#"{"paid":{"at":60000,"x":1}}"#, "null"), &format!("5f: ?/KRW 0 ? (if counted) {at}")),
            (&update(r#"{"paid":{"x":1}}"#, "null"), "missing_field"),
            (&update(r#"{"paid.x":1}"#, "null"), &format!("5f: ?/KRW ? ? (if counted) {at}")),
            (&update(r#"{"paid":{"at":1},"paid.at":1800000}"#, "null"), &format!("5f: ?/KRW 1800000 ? (if counted) {at}")),
            (&update("{}", r#"["status"]"#), &format!("5f: ?/KRW ? ? (not counted) {at}")),
            (&update(r#"{"status":"PAID"}"#, r#"["status",5]"#), &format!("5f: ?/KRW ? ? {at}")),
            (&update("{}", r#"["paid"]"#), "missing_field"),
            (&update("{}", "5"), "missing_row"),
            (&update("[]", "[]"), "missing_row"),
            (&event("insert", &document.replace(r#"{"$numberLong":"2"}"#, "2.5")), "float"),
            (&event("insert", &document.replace(r#"{"$numberLong":"2"}"#, r#"{"$numberDouble":"2.5"}"#)), "float"),
            (
                r#"{"_id":{"copyingData":true},"operationType":"delete","ns":{"db":"shop","coll":"payments"},"documentKey":{"_id":1}}"#,
                "1: - at Mongodb mongodb/ 0:0:0",
            ),
            ("\"null\"", "not_an_object"),
            ("\"x\"", "not_json"),
            ("\"5\"", "not_an_object"),
            ("{}", "bad_op"),
        ],
    );
}

#[test]
fn auto_knows_them_apart() {
    let job = job_of(Format::Auto, |source| source.incarnation = Some("new".to_string()));
    let after = format!(r#"{{"op":"c","after":{ROW},"source":{{"ts_ms":9,"connector":"postgresql","lsn":5}}}}"#);
    let version = "at Postgres /+new 0:5:0 [3 9]";
    check(
        &job,
        &[
            (&after, &format!("{READ} {version}")),
            (&format!(r#"{{"schema":null,"payload":{after}}}"#), &format!("{READ} {version}")),
            (&format!(r#"{{"payload":{ROW}}}"#), READ),
            (ROW, READ),
            (&ROW.replace("\"PAID\"", "\"PAID\",\"__op\":\"d\""), "1: -"),
            (r#"{"op":"x","source":{}}"#, "bad_op"),
            (r#"{"op":"x","id":1}"#, "missing_field"),
            (r#"{"ts_ms":5}"#, "skipped heartbeat"),
            (r#"{"payload":{"ddl":"x","source":null}}"#, "skipped schema_change"),
            (r#"{"payload":{"ddl":"x"}}"#, "missing_field"),
            (&ROW.replace("\"PAID\"", "\"PAID\",\"ts_ms\":7,\"event_count\":3"), READ),
            (r#"{"status":"BEGIN","id":"5:7","event_count":null,"data_collections":null}"#, "skipped transaction"),
            (&format!(r#"{{"operationType":"insert","documentKey":{{"_id":4}},"fullDocument":{ROW}}}"#), "4: s/KRW 0 150"),
            (r#"{"operationType":null}"#, "bad_op"),
            (&format!(r#"{{"metadata":{{"operation":"load"}},"data":{ROW}}}"#), READ),
            (r#"{"metadata":{"record-type":"control"},"control":{}}"#, "skipped control"),
            (&format!(r#"{{"type":"INSERT","data":[{ROW}]}}"#), READ),
            (r#"{"type":"ALTER","isDdl":true}"#, "skipped schema_change"),
            (&format!(r#"{{"type":"insert","database":"d","table":"t","data":{ROW}}}"#), READ),
            (r#""{\"operationType\":\"invalidate\"}""#, "skipped control"),
            ("[]", "not_an_object"),
            ("null", "missing_key"),
        ],
    );
    assert_eq!(of(&job, Some("k"), r#"{"schema":null,"payload":null}"#), "k: -");
    assert_eq!(of(&job, Some("k"), ""), "k: -");
}

#[test]
fn rows_without_a_table_are_of_no_source_that_wants_one() {
    let job = job_of(Format::Upsert, |source| source.table = Some("payments".to_string()));
    check(&job, &[(ROW, "skipped other_table"), ("null", "skipped other_table"), ("5", "not_an_object")]);
    let role = job_of(Format::Debezium, |source| source.key_space = KeySpace::Role);
    check(&role, &[(r#"{"op":"t"}"#, "skipped control")]);
}

#[test]
fn rows_that_refer_to_others() {
    let mut job = job_of(Format::Upsert, |source| {
        source.store = StoreSpec::Through { lookup: "orders".to_string(), on: vec!["store".into(), "status".into()] };
        source.time = None;
    });
    let lookup = SourceSpec {
        name: Some("orders".to_string()),
        key: vec!["order".into(), "line".into()],
        keep: Some(5),
        ..SourceSpec::plain("{site}.orders", Role::Lookup, Format::Upsert, "store")
    };
    job.sources.push(lookup);
    check(&job, &[(ROW, "1: through s,PAID/KRW elsewhere 150"), (&ROW.replace("\"s\"", "null"), "missing_field")]);
    let change =
        |topic: &str, value: &str| match TopicDecoder::new(&job, topic).record(0, value.as_bytes()).expect("a record").outcome {
            Outcome::Changes(mut changes) => changes.remove(0),
            other => panic!("{other:?}"),
        };
    let orders = change("seoul.orders", r#"{"order":"s","line":"PAID","store":5}"#);
    assert_eq!(change("seoul.log", ROW).refers_to, Some(orders.key));
    assert_eq!(orders.row.as_ref().map(row), Some("5/ 0".to_string()));
    let elsewhere = change("busan.orders", r#"{"order":"s","line":"PAID","store":5}"#);
    assert_ne!(change("seoul.log", ROW).refers_to, Some(elsewhere.key));
    job.sources[1].key_space = KeySpace::Role;
    let key =
        |topic: &str, value: &str| match TopicDecoder::new(&job, topic).record(0, value.as_bytes()).expect("a record").outcome {
            Outcome::Changes(mut changes) => changes.remove(0),
            other => panic!("{other:?}"),
        };
    let elsewhere = key("busan.orders", r#"{"order":"s","line":"PAID","store":5}"#);
    assert_eq!(key("seoul.log", ROW).refers_to, Some(elsewhere.key));
}
