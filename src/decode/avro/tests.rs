//! Held against apache-avro's writer and reader, and against the JSON decoders of the same records.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::plan::{Plan, Wanted};
use super::*;
use crate::config::field_path::FieldPath;
use crate::config::{Decimal, Format, MeasureSpec, TimeSpec, TimeUnit};
use crate::decode::testing::job_of;
use crate::decode::values::Clock;
use crate::decode::{Decoder, Skipped};

/// A schema, a value of it, and the JSON that it is.
type Typed = (Json, Avro, Json);

fn number(text: String) -> Json {
    serde_json::from_str(&text).expect("a number")
}

/// Types without others in them. `logical` ones among them have a meaning.
fn leaf(logical: bool) -> BoxedStrategy<Typed> {
    let plain = prop_oneof![
        Just((json!("null"), Avro::Null, Json::Null)),
        any::<bool>().prop_map(|value| (json!("boolean"), Avro::Boolean(value), json!(value))),
        any::<i32>().prop_map(|value| (json!("int"), Avro::Int(value), json!(value))),
        any::<i64>().prop_map(|value| (json!({"type": "long"}), Avro::Long(value), json!(value))),
        (-1e9f32..1e9).prop_map(|value| (json!("float"), Avro::Float(value), number(format!("{value:?}")))),
        any::<f64>()
            .prop_filter("numbers", |value| value.is_finite())
            .prop_map(|value| { (json!("double"), Avro::Double(value), number(format!("{value:?}"))) }),
        vec(any::<u8>(), 0..40).prop_map(|value| (json!("bytes"), Avro::Bytes(value.clone()), json!(STANDARD.encode(value)))),
        any::<String>().prop_map(|value| (json!("string"), Avro::String(value.clone()), json!(value))),
        vec(any::<u8>(), 0..20).prop_map(|value| {
            let schema = json!({"type": "fixed", "name": "F", "size": value.len()});
            (schema, Avro::Fixed(value.len(), value.clone()), json!(STANDARD.encode(value)))
        }),
        (0u32..3).prop_map(|at| {
            let symbol = ["A", "B_1", "c"][at as usize];
            let schema = json!({"type": "enum", "name": "E", "symbols": ["A", "B_1", "c"]});
            (schema, Avro::Enum(at, symbol.to_owned()), json!(symbol))
        }),
    ];
    if !logical {
        return plain.boxed();
    }
    let decimal = (any::<i128>(), 0usize..30, 0u32..100).prop_map(|(value, scale, shift)| {
        let value = value >> shift;
        let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if value < 0 { "-" } else { "" };
        let text = if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
        let schema = json!({"type": "bytes", "logicalType": "decimal", "precision": 60, "scale": scale});
        (schema, Avro::Decimal(value.to_be_bytes().to_vec().into()), number(text))
    });
    let time = (any::<i64>(), 0usize..5).prop_map(|(value, at)| {
        let (name, of): (&str, fn(i64) -> Avro) = [
            ("timestamp-millis", Avro::TimestampMillis as fn(i64) -> Avro),
            ("timestamp-micros", Avro::TimestampMicros),
            ("timestamp-nanos", Avro::TimestampNanos),
            ("local-timestamp-millis", Avro::LocalTimestampMillis),
            ("local-timestamp-micros", Avro::LocalTimestampMicros),
        ][at];
        (json!({"type": "long", "logicalType": name}), of(value), json!(value))
    });
    let date = any::<i32>().prop_map(|value| (json!({"type": "int", "logicalType": "date"}), Avro::Date(value), json!(value)));
    prop_oneof![6 => plain, 2 => decimal, 1 => time, 1 => date].boxed()
}

/// Gives every named type a name of its own.
fn name_apart(schema: &mut Json, named: &mut u32) {
    match schema {
        Json::Array(branches) => branches.iter_mut().for_each(|branch| name_apart(branch, named)),
        Json::Object(object) => {
            if let Some(name) = object.get_mut("name") {
                *named += 1;
                *name = json!(format!("N{named}"));
            }
            for part in ["items", "values"] {
                object.get_mut(part).into_iter().for_each(|part| name_apart(part, named));
            }
            for field in object.get_mut("fields").and_then(Json::as_array_mut).into_iter().flatten() {
                name_apart(&mut field["type"], named);
            }
        }
        _ => {}
    }
}

fn typed(logical: bool) -> impl Strategy<Value = Typed> {
    nested(logical).prop_map(|(mut schema, value, json)| {
        name_apart(&mut schema, &mut 0);
        (schema, value, json)
    })
}

fn nested(logical: bool) -> impl Strategy<Value = Typed> {
    leaf(logical).prop_recursive(5, 40, 5, move |inner| {
        let record = vec(inner.clone(), 0..5).prop_map(|fields| {
            let names: Vec<String> = (0..fields.len()).map(|at| format!("f{at}")).collect();
            let of = |(name, (schema, ..)): (&String, &Typed)| json!({"name": name, "type": schema});
            let schema = json!({"type": "record", "name": "R", "fields": names.iter().zip(&fields).map(of).collect::<Vec<_>>()});
            let value = names.iter().cloned().zip(fields.iter().map(|(_, value, _)| value.clone())).collect();
            let json = names.into_iter().zip(fields.into_iter().map(|(.., json)| json)).collect::<serde_json::Map<_, _>>();
            (schema, Avro::Record(value), Json::Object(json))
        });
        // All items of one type: several times the same value.
        let array = (inner.clone(), 0usize..4)
            .prop_filter("items with bytes", |((schema, ..), _)| !takes_nothing(schema))
            .prop_map(|((schema, value, json), count)| {
                (json!({"type": "array", "items": schema}), Avro::Array(vec![value; count]), Json::Array(vec![json; count]))
            });
        let map = (inner.clone(), proptest::collection::btree_set("[a-z\"\\\\]{0,4}", 0..4)).prop_map(
            |((schema, value, json), names)| {
                let all = names.iter().map(|name| (name.clone(), value.clone())).collect();
                let json = names.into_iter().map(|name| (name, json.clone())).collect::<serde_json::Map<_, _>>();
                (json!({"type": "map", "values": schema}), Avro::Map(all), Json::Object(json))
            },
        );
        let union = (inner, any::<bool>(), any::<bool>())
            .prop_filter("branches differ", |((schema, ..), ..)| !schema.is_array() && *schema != "null")
            .prop_map(|((schema, value, json), first, null)| {
                let at = u32::from(!first);
                let schema = if first { json!([schema, "null"]) } else { json!(["null", schema]) };
                if null {
                    (schema, Avro::Union(1 - at, Box::new(Avro::Null)), Json::Null)
                } else {
                    (schema, Avro::Union(at, Box::new(value)), json)
                }
            });
        prop_oneof![3 => record, 1 => array, 1 => map, 2 => union]
    })
}

/// Whether values of a type take no bytes: ours does not count such items out.
fn takes_nothing(schema: &Json) -> bool {
    let schema = Arc::new(Schema::parse(&schema.to_string(), &[]).expect("a schema"));
    schema.is_empty(schema.root())
}

fn encode(schema: &Json, value: &Avro) -> Vec<u8> {
    let schema = apache_avro::Schema::parse(schema).expect("a schema");
    let writer = GenericDatumWriter::builder(&schema).build().expect("a writer");
    writer.write_value_to_vec(value.clone()).expect("a value of the schema")
}

/// All of a datum as JSON, as ours writes it.
fn written(schema: &Json, datum: &[u8]) -> Result<String, String> {
    let schema = Arc::new(Schema::parse(&schema.to_string(), &[]).expect("a schema"));
    let mut wanted = Wanted::default();
    wanted.add::<&str>(&[], None);
    let mut out = Vec::new();
    let plan = Plan::new(&schema, &wanted);
    plan.write(datum, &mut out, &mut [Hint::Unknown; HINTS]).map_err(|wrong| wrong.to_string())?;
    // Whatever is wanted, the same datums are good.
    let skipped = Plan::new(&schema, &Wanted::default()).write(datum, &mut Vec::new(), &mut [Hint::Unknown; HINTS]);
    assert!(skipped.is_ok(), "{skipped:?}");
    Ok(String::from_utf8(out).expect("text"))
}

/// A value that apache-avro has read of a schema without logical types.
fn shown(value: &Avro) -> Json {
    match value {
        Avro::Null => Json::Null,
        Avro::Boolean(value) => json!(value),
        Avro::Int(value) => json!(value),
        Avro::Long(value) => json!(value),
        Avro::Float(value) if value.is_finite() => number(format!("{value:?}")),
        Avro::Double(value) if value.is_finite() => number(format!("{value:?}")),
        Avro::Float(value) => json!(format!("{value:?}")),
        Avro::Double(value) => json!(format!("{value:?}")),
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => json!(STANDARD.encode(bytes)),
        Avro::String(text) | Avro::Enum(_, text) => json!(text),
        Avro::Union(_, value) => shown(value),
        Avro::Array(items) => items.iter().map(shown).collect(),
        Avro::Map(values) => Json::Object(values.iter().map(|(name, value)| (name.clone(), shown(value))).collect()),
        Avro::Record(fields) => Json::Object(fields.iter().map(|(name, value)| (name.clone(), shown(value))).collect()),
        other => panic!("{other:?} is of a logical type"),
    }
}

proptest! {
    #[test]
    fn what_apache_avro_writes_is_read((schema, value, json) in typed(true)) {
        let text = written(&schema, &encode(&schema, &value));
        let text = text.map_err(|wrong| TestCaseError::fail(format!("{schema}: {wrong}")))?;
        prop_assert_eq!(serde_json::from_str::<Json>(&text).expect("JSON"), json, "{}", schema);
    }

    /// Bytes that are cut off, too many, or changed, are refused, or are what apache-avro takes them for.
    #[test]
    fn hostile_bytes_are_refused_or_mean_the_same(
        (schema, value, _) in typed(false),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        more in vec(any::<u8>(), 0..3),
    ) {
        let mut datum = encode(&schema, &value);
        for (at, byte) in changes {
            if !datum.is_empty() {
                let at = at.index(datum.len());
                datum[at] = byte;
            }
        }
        datum.truncate(cut.index(datum.len() + 1).max(datum.len() / 2));
        datum.extend(more);
        if let Ok(text) = written(&schema, &datum) {
            let parsed = apache_avro::Schema::parse(&schema).expect("a schema");
            let mut rest = &datum[..];
            let read = GenericDatumReader::builder(&parsed).build().expect("a reader").read_value(&mut rest);
            let read = read.map_err(|error| TestCaseError::fail(format!("{schema}: {error}")))?;
            prop_assert!(rest.is_empty());
            // Of equal names in a map the last counts, for both.
            prop_assert_eq!(serde_json::from_str::<Json>(&text).expect("JSON"), shown(&read), "{}", schema);
        }
    }

    #[test]
    fn no_bytes_panic((schema, ..) in typed(true), datum in vec(any::<u8>(), 0..200)) {
        let _ = written(&schema, &datum);
    }
}

/// A number of variable length, as hostile bytes would have it.
fn long(value: i64) -> Vec<u8> {
    let mut rest = (value << 1 ^ value >> 63) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

#[test]
fn claims_beyond_the_bytes_are_refused_at_once() {
    let refused = |schema: &str, datum: &[u8], what: &str| {
        let wrong = written(&serde_json::from_str(schema).expect("JSON"), datum).expect_err(what);
        assert!(wrong.contains(what), "{wrong}");
    };
    refused("\"string\"", &long(i64::MAX), "beyond the end");
    refused("\"bytes\"", &long(-1), "negative length");
    refused("\"long\"", &[0xff; 11], "number without end");
    refused("\"int\"", &long(1 << 40), "beyond 32 bits");
    refused("\"boolean\"", &[2], "neither 0 nor 1");
    refused("\"string\"", &[2, 0xff], "not UTF-8");
    refused(r#"["null","long"]"#, &long(2), "branch");
    refused(r#"{"type":"array","items":"long"}"#, &long(i64::MAX), "more items than bytes");
    refused(r#"{"type":"array","items":"long"}"#, &[long(i64::MIN), long(0)].concat(), "beyond all bounds");
    refused("\"long\"", &[0, 0], "more bytes than");
}

/// Blocks upon blocks of items that take no bytes end as soon as the bytes do.
#[test]
fn values_without_bytes_are_not_counted_out() {
    let nothing = r#"{"type":"record","name":"N","fields":[{"name":"a","type":"null"}]}"#;
    let schema = serde_json::from_str(&format!(r#"{{"type":"array","items":{nothing}}}"#)).expect("JSON");
    let mut datum: Vec<u8> = (0..10_000).flat_map(|_| long(i64::MAX)).collect();
    datum.push(0);
    assert_eq!(written(&schema, &datum).as_deref(), Ok("[]"));
}

#[test]
fn recursive_types_go_so_deep_and_no_deeper() {
    let schema = json!({"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]});
    let deep = |levels: usize| written(&schema, &[vec![2; levels], vec![0]].concat());
    assert!(deep(30).is_ok());
    assert!(deep(100_000).expect_err("too deep").contains("too deep"));
}

#[test]
fn decimals_of_any_length_and_scale() {
    let decimal = |scale: i32, bytes: &[u8]| {
        let schema = json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": scale});
        written(&schema, &[&long(bytes.len() as i64)[..], bytes].concat()).expect("a decimal")
    };
    for (scale, bytes, expected) in [
        (2, &[][..], "0.00"),
        (2, &[0x04, 0xd2], "12.34"),
        (2, &[0xff, 0xff, 0xfb, 0x2e], "-12.34"),
        (4, &[0xff], "-0.0001"),
        (0, &[0x80], "-128"),
        (0, &[0x00, 0x80], "128"),
        (-2, &[0x07], "7e2"),
        (50, &[0x07], "7e-50"),
        (0, &[0x7f; 17], "1e999"),
        (0, &[0x81; 17], "-1e999"),
    ] {
        assert_eq!(decimal(scale, bytes), expected, "{bytes:02x?} at {scale}");
    }
    assert_eq!(decimal(0, &[&[0xff; 100][..], &[0x85]].concat()), "-123", "sign bytes say nothing");
    let smallest = [&[0x80][..], &[0; 15]].concat();
    assert_eq!(decimal(0, &smallest), i128::MIN.to_string());
}

#[test]
fn only_what_is_wanted_is_written_and_told() {
    let schema = json!({"type": "record", "name": "R", "fields": [
        {"name": "id", "type": "long"},
        {"name": "__op", "type": "string"},
        {"name": "geo", "type": ["null", {"type": "record", "name": "G", "fields": [
            {"name": "x", "type": ["null", "double"]},
            {"name": "store", "type": {"type": "map", "values": "string"}}]}]},
        {"name": "json", "type": "string"},
        {"name": "at", "type": {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"}},
    ]});
    let parsed = Arc::new(Schema::parse(&schema.to_string(), &[]).expect("a schema"));
    let mut wanted = Wanted::default();
    for (at, path) in ["geo.x", "geo.store.id", "json.a", "at", "geo.none"].iter().enumerate() {
        wanted.add(FieldPath::parse(path).expect("a path").names(), Some(at));
    }
    wanted.add_prefix("__");
    let plan = Plan::new(&parsed, &wanted);
    let store = Avro::Map([("id".to_owned(), Avro::String("s\"1".into())), ("y".to_owned(), Avro::String("n".into()))].into());
    let geo = Avro::Record(vec![("x".into(), Avro::Union(1, Box::new(Avro::Double(2.0)))), ("store".into(), store)]);
    let row = Avro::Record(vec![
        ("id".into(), Avro::Long(7)),
        ("__op".into(), Avro::String("c".into())),
        ("geo".into(), Avro::Union(1, Box::new(geo))),
        ("json".into(), Avro::String("{\"a\":1}".into())),
        ("at".into(), Avro::Long(5)),
    ]);
    let (mut out, mut hints) = (Vec::new(), [Hint::Unknown; 5]);
    plan.write(&encode(&schema, &row), &mut out, &mut hints).expect("a datum");
    let text = r#"{"__op":"c","geo":{"x":2.0,"store":{"id":"s\"1"}},"json":"{\"a\":1}","at":5}"#;
    assert_eq!(String::from_utf8(out).expect("text"), text);
    assert_eq!(hints, [Hint::Float, Hint::Unknown, Hint::Unknown, Hint::Time(Clock::Micros), Hint::Unknown]);
}

// What follows is about whole messages.

fn message(id: u32, schema: &Json, value: &Avro) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), &encode(schema, value)].concat()
}

fn schemas(all: &[(u32, &Json)]) -> Arc<Schemas> {
    let schemas = Arc::new(Schemas::default());
    for (id, schema) in all {
        schemas.add(*id, Known::Schema(Arc::new(Schema::parse(&schema.to_string(), &[]).expect("a schema"))));
    }
    schemas
}

fn payments(format: Format) -> SourceSpec {
    let mut spec = SourceSpec::plain("t", Role::Payments, format, "store_id");
    spec.key = vec![FieldPath::field("id")];
    spec.amount = Some(MeasureSpec { field: FieldPath::field("amount"), decimal: Decimal::Text });
    spec.currency = Some("currency".into());
    spec.time = Some(TimeSpec { field: FieldPath::field("paid_at"), unit: TimeUnit::Auto, zone: None });
    spec.counts_when = [(FieldPath::field("status"), vec!["PAID".to_owned()])].into();
    spec
}

fn decoder(spec: &SourceSpec) -> Decoder {
    Decoder::new(&job_of(spec.clone()), spec, "t", 8)
}

fn row_schema(name: &str) -> Json {
    json!({"type": "record", "name": name, "fields": [
        {"name": "id", "type": "long"},
        {"name": "store_id", "type": "string"},
        {"name": "amount", "type": ["null", {"type": "bytes", "scale": 2, "precision": 12, "connect.version": 1,
            "connect.parameters": {"scale": "2"}, "connect.name": "org.apache.kafka.connect.data.Decimal", "logicalType": "decimal"}]},
        {"name": "currency", "type": {"type": "enum", "name": "Currency", "symbols": ["KRW", "USD"]}},
        {"name": "status", "type": "string"},
        {"name": "paid_at", "type": {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"}},
        {"name": "more", "type": {"type": "array", "items": "string"}}]})
}

const PAID_AT: i64 = 1_795_168_800_000_123;

fn row(id: i64, units: i16) -> Avro {
    Avro::Record(vec![
        ("id".into(), Avro::Long(id)),
        ("store_id".into(), Avro::String("상점 \"1\"".into())),
        ("amount".into(), Avro::Union(1, Box::new(Avro::Decimal(units.to_be_bytes().to_vec().into())))),
        ("currency".into(), Avro::Enum(1, "USD".into())),
        ("status".into(), Avro::String("PAID".into())),
        ("paid_at".into(), Avro::Long(PAID_AT)),
        ("more".into(), Avro::Array(vec![Avro::String("x".into())])),
    ])
}

/// The same row as a Debezium with `decimal.handling.mode = string` writes it as JSON.
fn row_json(id: i64, amount: &str) -> Json {
    json!({"id": id, "store_id": "상점 \"1\"", "amount": amount, "currency": "USD", "status": "PAID", "paid_at": PAID_AT})
}

fn key_schema() -> Json {
    json!({"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]})
}

fn key(id: i64) -> Avro {
    Avro::Record(vec![("id".into(), Avro::Long(id))])
}

/// A JSON source takes the unit from the job file.
fn in_json(format: Format) -> SourceSpec {
    let mut spec = payments(format);
    spec.time = Some(TimeSpec { field: FieldPath::field("paid_at"), unit: TimeUnit::Micros, zone: None });
    spec
}

fn of_json(format: Format, key: &Json, value: &Json) -> Result<Record, Reject> {
    let (key, value) = (key.to_string(), value.to_string());
    decoder(&in_json(format)).decode(Message { key: Some(key.as_bytes()), value: Some(value.as_bytes()), utf8: true })
}

#[test]
fn an_envelope_in_avro_is_what_it_is_in_json() {
    let optional = json!(["null", "row"]);
    let source = json!({"type": "record", "name": "Source", "fields": [
        {"name": "connector", "type": "string"}, {"name": "name", "type": "string"}, {"name": "db", "type": "string"},
        {"name": "table", "type": "string"}, {"name": "ts_ms", "type": "long"}, {"name": "lsn", "type": ["null", "long"]}]});
    let envelope = json!({"type": "record", "name": "Envelope", "fields": [
        {"name": "before", "type": ["null", row_schema("row")]}, {"name": "after", "type": optional},
        {"name": "source", "type": source}, {"name": "op", "type": "string"}, {"name": "ts_ms", "type": ["null", "long"]}]});
    let null = || Avro::Union(0, Box::new(Avro::Null));
    let image = |row: Option<Avro>| row.map_or_else(null, |row| Avro::Union(1, Box::new(row)));
    let change = |op: &str, before: Option<Avro>, after: Option<Avro>| {
        let text = |text: &str| Avro::String(text.to_owned());
        let source = Avro::Record(vec![
            ("connector".into(), text("postgresql")),
            ("name".into(), text("mall")),
            ("db".into(), text("shop")),
            ("table".into(), text("payments")),
            ("ts_ms".into(), Avro::Long(1_795_168_800_500)),
            ("lsn".into(), Avro::Union(1, Box::new(Avro::Long(77)))),
        ]);
        Avro::Record(vec![
            ("before".into(), image(before)),
            ("after".into(), image(after)),
            ("source".into(), source),
            ("op".into(), text(op)),
            ("ts_ms".into(), null()),
        ])
    };
    let in_json = |op: &str, before: Json, after: Json| {
        let source = json!({"connector": "postgresql", "name": "mall", "db": "shop", "table": "payments", "ts_ms": 1_795_168_800_500u64, "lsn": 77});
        json!({"before": before, "after": after, "source": source, "op": op})
    };
    let mut decoder = decoder(&payments(Format::Avro)).with_schemas(&schemas(&[(1, &key_schema()), (2, &envelope)]));
    let mut decode = |id: Option<i64>, value: &Avro| {
        let (key, value) = (id.map(|id| message(1, &key_schema(), &key(id))), message(2, &envelope, value));
        let message = Message { key: key.as_deref(), value: Some(&value), utf8: false };
        assert_eq!(decoder.needs(message), None);
        decoder.decode(message)
    };
    let twin = |value: Json| of_json(Format::Debezium, &json!({"id": 7}), &value);
    for (units, amount) in [(1234, "12.34"), (-5, "-0.05")] {
        let expected = twin(in_json("c", Json::Null, row_json(7, amount))).expect("a change");
        assert_eq!(decode(Some(7), &change("c", None, Some(row(7, units)))).expect("a change"), expected);
        assert_eq!(decode(None, &change("u", None, Some(row(7, units)))).expect("a change"), expected, "the row has the key");
    }
    let expected = twin(in_json("d", row_json(7, "1.00"), Json::Null)).expect("a delete");
    assert_eq!(decode(Some(7), &change("d", Some(row(7, 1)), None)).expect("a delete"), expected);
    assert_eq!(decode(None, &change("d", Some(row(7, 1)), None)).expect("a delete"), expected, "\"before\" has the key");
    assert_eq!(decode(Some(7), &change("t", None, None)), twin(in_json("t", Json::Null, Json::Null)));
    let reason = |result: Result<Record, Reject>| result.map_err(|reject| reject.reason);
    assert_eq!(reason(decode(Some(7), &change("x", None, None))), Err(Reason::BadOp));
    assert_eq!(reason(decode(Some(7), &change("c", None, None))), Err(Reason::MissingRow));
}

#[test]
fn rows_flattened_rows_and_what_deletes_them() {
    let mut flat = row_schema("Flat");
    let more = json!([{"name": "__op", "type": ["null", "string"]}, {"name": "__deleted", "type": "string"}, {"name": "__lsn", "type": "long"}]);
    flat["fields"].as_array_mut().expect("a list").extend(more.as_array().cloned().unwrap_or_default());
    let plain = row_schema("Plain");
    let mut decoder = decoder(&payments(Format::Avro)).with_schemas(&schemas(&[
        (1, &key_schema()),
        (2, &flat),
        (3, &plain),
        (4, &json!("string")),
    ]));
    let key_bytes = message(1, &key_schema(), &key(7));
    let mut decode = |key: Option<&[u8]>, value: Option<&[u8]>| decoder.decode(Message { key, value, utf8: false });
    let flat_row = |op: Option<&str>, deleted: &str| {
        let Avro::Record(mut fields) = row(7, 1234) else { unreachable!("a row") };
        let op = op.map_or(Avro::Union(0, Box::new(Avro::Null)), |op| Avro::Union(1, Box::new(Avro::String(op.into()))));
        fields.extend([("__op".into(), op), ("__deleted".into(), Avro::String(deleted.into())), ("__lsn".into(), Avro::Long(9))]);
        message(2, &flat, &Avro::Record(fields))
    };
    let with = |op: Json, deleted: &str| {
        let mut row = row_json(7, "12.34");
        row.as_object_mut().expect("a row").extend([
            ("__op".into(), op),
            ("__deleted".into(), json!(deleted)),
            ("__lsn".into(), json!(9)),
        ]);
        of_json(Format::Flattened, &json!({"id": 7}), &row).expect("a record")
    };
    for (op, deleted) in [(Some("c"), "false"), (None, "false"), (Some("d"), "true"), (None, "true")] {
        let expected = with(op.map_or(Json::Null, Json::from), deleted);
        assert_eq!(decode(Some(&key_bytes), Some(&flat_row(op, deleted))).expect("a record"), expected, "{op:?} {deleted}");
    }
    let expected = of_json(Format::Upsert, &json!(7), &row_json(7, "12.34")).expect("a row");
    let plain_row = message(3, &plain, &row(7, 1234));
    for key in [
        Some(&key_bytes[..]),
        Some(b"7"),
        Some(br#"{"id":7}"#),
        Some(&message(4, &json!("string"), &Avro::String("7".into()))),
        None,
    ] {
        assert_eq!(decode(key, Some(&plain_row)).as_ref(), Ok(&expected), "{key:?}");
    }
    let gone = of_json(Format::Upsert, &json!(7), &Json::Null).expect("a delete");
    assert_eq!(decode(Some(&key_bytes), None).as_ref(), Ok(&gone));
    assert_eq!(decode(Some(&key_bytes), Some(b"")).as_ref(), Ok(&gone));
    let reason = |result: Result<Record, Reject>| result.map_err(|reject| reject.reason);
    assert_eq!(reason(decode(None, None)), Err(Reason::MissingKey));
    assert_eq!(reason(decode(Some(&[0, 0, 0, 0, 1, 0xff]), Some(&plain_row))), Err(Reason::BadAvro));
    assert_eq!(reason(decode(Some(b"\xff"), Some(&plain_row))), Err(Reason::NotUtf8));
    assert_eq!(reason(decode(None, Some(b"{}"))), Err(Reason::BadAvro));
    assert_eq!(reason(decode(None, Some(&[0, 0, 0, 0, 9]))), Err(Reason::UnknownSchema), "nobody fetches here");
    assert_eq!(reason(decode(None, Some(&[&plain_row[..], &[0]].concat()))), Err(Reason::BadAvro));
    assert_eq!(reason(decode(None, Some(&message(4, &json!("string"), &Avro::String("7".into()))))), Err(Reason::NotAnObject));
}

#[test]
fn clicks_are_their_json() {
    let mut spec = SourceSpec::plain("t", Role::Clicks, Format::Avro, "store.id");
    spec.store =
        crate::config::StoreSpec::Own(crate::config::field_path::IdSpec::Field(FieldPath::parse("store.id").expect("a path")));
    spec.kind = Some("kind".into());
    spec.time = Some(TimeSpec { field: FieldPath::field("at"), unit: TimeUnit::Auto, zone: None });
    let schema = json!({"type": "record", "name": "Click", "fields": [
        {"name": "store", "type": {"type": "record", "name": "Store", "fields": [{"name": "id", "type": "int"}]}},
        {"name": "kind", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]});
    let click = Avro::Record(vec![
        ("store".into(), Avro::Record(vec![("id".into(), Avro::Int(5))])),
        ("kind".into(), Avro::String("view".into())),
        ("at".into(), Avro::TimestampMillis(1_795_168_800_000)),
    ]);
    let mut avro = decoder(&spec).with_schemas(&schemas(&[(6, &schema)]));
    let bytes = message(6, &schema, &click);
    let found = avro.decode(Message { key: Some(b"\0\0\0\0\x09x"), value: Some(&bytes), utf8: false }).expect("a click");
    spec.format = Format::Json;
    spec.time = Some(TimeSpec { field: FieldPath::field("at"), unit: TimeUnit::Millis, zone: None });
    let text = br#"{"store":{"id":5},"kind":"view","at":1795168800000}"#;
    assert_eq!(found, decoder(&spec).decode(Message { key: None, value: Some(text), utf8: true }).expect("a click"));
    assert_eq!(avro.decode(Message::default()).map_err(|reject| reject.reason), Err(Reason::NotAnObject));
}

#[test]
fn what_is_not_known_yet_is_needed_value_first() {
    let fetched = Arc::new(Schemas::default());
    fetched.serve();
    let mut decoder = decoder(&payments(Format::Avro)).with_schemas(&fetched);
    let (key, value) = (message(1, &key_schema(), &key(7)), message(2, &row_schema("R"), &row(7, 1)));
    let message = Message { key: Some(&key), value: Some(&value), utf8: false };
    let known = |schema: Json| Known::Schema(Arc::new(Schema::parse(&schema.to_string(), &[]).expect("a schema")));
    assert_eq!(decoder.needs(message), Some(2));
    fetched.add(2, known(row_schema("R")));
    assert_eq!(decoder.needs(message), Some(1));
    fetched.add(1, known(key_schema()));
    assert_eq!(decoder.needs(message), None);
    assert!(decoder.decode(message).is_ok());
    let other = [&[0, 0, 0, 0, 3][..], &value[5..]].concat();
    let message = Message { value: Some(&other), ..message };
    assert_eq!(decoder.needs(message), Some(3));
    fetched.add(3, Known::Refused("no such schema".into()));
    assert_eq!(decoder.needs(message), None);
    let reject = decoder.decode(message).expect_err("refused");
    assert_eq!((reject.reason, reject.detail.as_str()), (Reason::UnknownSchema, "schema 3: no such schema"));
}

#[test]
fn floats_and_placeholders_are_what_they_are_in_json() {
    let mut schema = row_schema("R");
    schema["fields"][2] = json!({"name": "amount", "type": ["null", "double", "string"]});
    let record = |amount: Avro| {
        let Avro::Record(mut fields) = row(7, 1) else { unreachable!("a row") };
        fields[2].1 = amount;
        message(2, &schema, &Avro::Record(fields))
    };
    let double = |value: f64| Avro::Union(1, Box::new(Avro::Double(value)));
    let text = |text: &str| Avro::Union(2, Box::new(Avro::String(text.into())));
    let decode = |allow_float: bool, value: &[u8]| {
        let mut spec = payments(Format::Avro);
        spec.allow_float = allow_float;
        let mut decoder = decoder(&spec).with_schemas(&schemas(&[(2, &schema)]));
        let record = decoder.decode(Message { key: None, value: Some(value), utf8: false });
        record.map_err(|reject| reject.reason).map(|record| match record.decoded {
            Decoded::Change(change) => change.what,
            other => panic!("{other:?}"),
        })
    };
    use storeflow_dataflows::change::What;
    let amount = |what: Result<What, Reason>| match what {
        Ok(What::Row(row)) => Ok(Some(row.amount)),
        Ok(_) => Ok(None),
        Err(reason) => Err(reason),
    };
    assert_eq!(amount(decode(false, &record(double(12.5)))), Err(Reason::Float));
    assert_eq!(amount(decode(true, &record(double(12.5)))), Ok(Some(1250)));
    assert_eq!(amount(decode(true, &record(double(0.1 + 0.2)))), Err(Reason::AmountPrecision));
    assert_eq!(amount(decode(true, &record(double(f64::NAN)))), Err(Reason::BadAmount));
    assert_eq!(amount(decode(false, &record(text("12.5")))), Ok(Some(1250)), "a union is its branch");
    assert_eq!(amount(decode(false, &record(text("__debezium_unavailable_value")))), Ok(None), "a patch");
}

#[test]
fn other_tables_are_skipped_whatever_their_keys() {
    let source = json!({"type": "record", "name": "S", "fields": [{"name": "table", "type": "string"}]});
    let envelope = json!({"type": "record", "name": "E", "fields": [
        {"name": "after", "type": ["null", "string"]}, {"name": "source", "type": source}, {"name": "op", "type": "string"}]});
    let mut spec = payments(Format::Avro);
    spec.table = Some("payments".into());
    let mut decoder = decoder(&spec).with_schemas(&schemas(&[(2, &envelope)]));
    let value = message(
        2,
        &envelope,
        &Avro::Record(vec![
            ("after".into(), Avro::Union(0, Box::new(Avro::Null))),
            ("source".into(), Avro::Record(vec![("table".into(), Avro::String("orders".into()))])),
            ("op".into(), Avro::String("c".into())),
        ]),
    );
    let record = decoder.decode(Message { key: Some(&[0, 0, 0, 0, 99, 1]), value: Some(&value), utf8: false });
    assert_eq!(record.expect("skipped").decoded, Decoded::Skipped(Skipped::OtherTable));
}
