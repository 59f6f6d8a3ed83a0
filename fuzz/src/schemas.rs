//! Avro schemas that records may name, by id from 1: every type there is, and the shapes of Debezium's envelopes, of rows and of clicks.

use std::sync::Arc;

use super::decode::avro::{Known, Schema, Schemas};

const TEXTS: [&str; 6] = [
    // 1: an envelope.
    r#"{"type": "record", "name": "Envelope", "fields": [
        {"name": "before", "type": ["null", {"type": "record", "name": "Value", "fields": [
            {"name": "id", "type": "long"},
            {"name": "store_id", "type": ["null", "string"]},
            {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
            {"name": "currency", "type": {"type": "enum", "name": "Currency", "symbols": ["KRW", "USD"]}},
            {"name": "paid_at", "type": {"type": "long", "connect.name": "io.debezium.time.Timestamp"}},
            {"name": "status", "type": "string"}]}]},
        {"name": "after", "type": ["null", "Value"]},
        {"name": "source", "type": {"type": "record", "name": "Source", "fields": [
            {"name": "connector", "type": "string"}, {"name": "name", "type": "string"}, {"name": "ts_ms", "type": "long"},
            {"name": "db", "type": "string"}, {"name": "schema", "type": ["null", "string"]}, {"name": "table", "type": "string"},
            {"name": "lsn", "type": ["null", "long"]}]}},
        {"name": "op", "type": "string"}]}"#,
    // 2: a flattened row.
    r#"{"type": "record", "name": "Flat", "fields": [
        {"name": "id", "type": "int"}, {"name": "store_id", "type": "string"}, {"name": "state", "type": "string"},
        {"name": "__op", "type": ["null", "string"]}, {"name": "__deleted", "type": ["null", "string"]}]}"#,
    // 3: a row of everything.
    r#"{"type": "record", "name": "Row", "fields": [
        {"name": "id", "type": ["int", "string"]},
        {"name": "geo", "type": {"type": "map", "values": {"type": "map", "values": "long"}}},
        {"name": "amount", "type": ["null", "double", {"type": "fixed", "name": "Money", "size": 5, "logicalType": "decimal", "precision": 10, "scale": 4}]},
        {"name": "currency", "type": "bytes"},
        {"name": "meta", "type": {"type": "record", "name": "Meta", "fields": [
            {"name": "paid_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "shop", "type": "float"},
            {"name": "flags", "type": {"type": "map", "values": "boolean"}},
            {"name": "parent", "type": ["null", "Meta"]}]}},
        {"name": "lines", "type": {"type": "array", "items": ["null", "Meta"]}},
        {"name": "status", "type": "string"}]}"#,
    // 4: a click.
    r#"{"type": "record", "name": "Click", "fields": [
        {"name": "store_id", "type": "string"}, {"name": "event_type", "type": "string"}, {"name": "product_id", "type": ["null", "long"]},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#,
    // 5: a key.
    r#"{"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}"#,
    // 6: values that take no bytes, as many as a count claims.
    r#"{"type": "array", "items": {"type": "record", "name": "Nothing", "fields": [{"name": "n", "type": "null"}]}}"#,
];

/// All of them.
pub(crate) fn all() -> Arc<Schemas> {
    let schemas = Schemas::default();
    for (text, id) in TEXTS.iter().zip(1..) {
        let schema = Schema::parse(text, &[]).unwrap_or_else(|error| panic!("schema {id}: {error}"));
        schemas.add(id, Known::Schema(Arc::new(schema)));
    }
    Arc::new(schemas)
}
