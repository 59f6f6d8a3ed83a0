//! The same changes of one table, written down as each publisher would.
//!
//! A row is a payment of eleven columns. A twentieth of the changes are deletes, and a row is changed about four times. What a publisher adds is
//! as large as it is in life: the schema of Debezium's events, the type maps of Canal, a MongoDB event's resume token.
//!
//! Upholds: change N says the same in every dialect (a test decodes them all), and is the same in every run.
//! Absent on purpose: chance, and speed: rendering is not measured.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Dialect;
use crate::publish::time::instant;

/// 2026-11-20T00:00:00Z.
const BEGINNING_MS: u64 = 1_795_132_800_000;
const CHANGES_OF_A_ROW: u64 = 4;
const STORES: u64 = 5_000;

/// One change of one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// Its number, which is its place in the source's log.
    number: u64,
    id: u64,
    deleted: bool,
    status: &'static str,
    /// Hundredths.
    amount: u64,
}

impl Change {
    /// The change of a number, of so many.
    pub(super) fn of(number: u64, changes: u64) -> Change {
        let chance = mix(number);
        let id = 1_000_000 + mix(chance) % (changes / CHANGES_OF_A_ROW).max(1);
        let status = ["PAID", "PENDING", "REFUNDED", "PAID"][(chance >> 8) as usize % 4];
        Change { number, id, deleted: chance.is_multiple_of(20), status, amount: 100 + mix(id) % 10_000_000 }
    }

    /// When it was committed, milliseconds.
    pub(super) fn at(self) -> u64 {
        BEGINNING_MS + self.number / 10
    }

    /// Which of so many partitions it is in.
    pub(super) fn partition(self, partitions: usize) -> usize {
        (mix(self.id) % partitions as u64) as usize
    }

    fn paid_at(self) -> u64 {
        BEGINNING_MS + mix(self.id) % 3_600_000
    }

    fn position(self) -> u64 {
        4 + self.number * 311
    }
}

/// SplitMix64.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// How a row's numbers and texts are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Notation {
    /// Amounts as text.
    Plain,
    /// Amounts as base64, whose scale a schema says.
    Precise,
    /// Everything as text.
    Texts,
    /// Extended JSON.
    Extended,
}

/// Appends the members of a row, without braces.
fn row(change: Change, status: &str, notation: Notation, out: &mut Vec<u8>) {
    let Change { id, amount, .. } = change;
    let quote = if notation == Notation::Texts { "\"" } else { "" };
    let key = if notation == Notation::Extended { "_id" } else { "payment_id" };
    let decimal = format!("{}.{:02}", amount / 100, amount % 100);
    let amount = match notation {
        Notation::Plain | Notation::Texts => format!("\"{decimal}\""),
        Notation::Precise => format!("\"{}\"", STANDARD.encode(big_endian(amount))),
        Notation::Extended => format!("{{\"$numberDecimal\":\"{decimal}\"}}"),
    };
    let time = |ms: u64| match notation {
        Notation::Extended => format!("{{\"$date\":{ms}}}"),
        _ => format!("{quote}{ms}{quote}"),
    };
    write(
        out,
        format_args!(
            "\"{key}\":{quote}{id}{quote},\"order_id\":\"O-{}\",\"store_id\":\"store-{:05}\",\"user_id\":{quote}{}{quote},\
             \"amount\":{amount},\"currency\":\"KRW\",\"method\":\"card\",\"status\":\"{status}\",\"paid_at\":{},\"updated_at\":{},\"memo\":null",
            id * 3 + 7,
            mix(id) % STORES,
            mix(id) % 900_000,
            time(change.paid_at()),
            time(change.at()),
        ),
    );
}

/// The shortest two's complement of a positive number.
fn big_endian(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    // A leading one would be a sign.
    let from = if bytes.get(zeros).is_some_and(|byte| *byte >= 0x80) { zeros.saturating_sub(1) } else { zeros };
    bytes[from..].to_vec()
}

/// Writing to memory cannot fail.
fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// Appends a change's message key, then its value; `None`: there is no key. An empty value is none.
pub(super) fn render(dialect: Dialect, change: Change, out: &mut Vec<u8>) -> Option<usize> {
    let before = out.len();
    match dialect {
        Dialect::Upsert | Dialect::Flattened | Dialect::Debezium | Dialect::Auto => {
            write(out, format_args!("{{\"payment_id\":{}}}", change.id))
        }
        Dialect::DebeziumSchema => {
            write(out, format_args!("{{\"schema\":{KEY_SCHEMA},\"payload\":{{\"payment_id\":{}}}}}", change.id))
        }
        Dialect::Avro => avro_key(change, out),
        Dialect::Dms | Dialect::Maxwell | Dialect::Canal | Dialect::Mongodb => {}
    }
    let key = out.len() - before;
    match dialect {
        Dialect::Upsert if change.deleted => {}
        Dialect::Upsert => braced(out, |out| row(change, change.status, Notation::Plain, out)),
        Dialect::Flattened => flattened(change, out),
        Dialect::Debezium | Dialect::Auto => debezium(change, Notation::Plain, out),
        Dialect::DebeziumSchema => {
            write(out, format_args!("{{\"schema\":{{\"type\":\"struct\",\"fields\":["));
            for field in ["before", "after"] {
                write(
                    out,
                    format_args!(
                        "{{\"type\":\"struct\",\"fields\":[{COLUMNS}],\"optional\":true,\"name\":\"mall.shop.payments.Value\",\"field\":\"{field}\"}},"
                    ),
                );
            }
            write(
                out,
                format_args!(
                    "{SOURCE_AND_REST}],\"optional\":false,\"name\":\"mall.shop.payments.Envelope\",\"version\":2}},\"payload\":"
                ),
            );
            debezium(change, Notation::Precise, out);
            out.push(b'}');
        }
        Dialect::Dms => dms(change, out),
        Dialect::Maxwell => maxwell(change, out),
        Dialect::Canal => canal(change, out),
        Dialect::Mongodb => mongodb(change, out),
        Dialect::Avro => avro(change, out),
    }
    (key > 0).then_some(key)
}

fn braced(out: &mut Vec<u8>, within: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'{');
    within(out);
    out.push(b'}');
}

fn flattened(change: Change, out: &mut Vec<u8>) {
    braced(out, |out| {
        row(change, change.status, Notation::Plain, out);
        let (op, at, position) = (if change.deleted { "d" } else { "u" }, change.at(), change.position());
        write(
            out,
            format_args!(
                ",\"__deleted\":\"{}\",\"__op\":\"{op}\",\"__table\":\"payments\",\"__name\":\"mall\",\"__server_id\":3,\
                 \"__file\":\"mysql-bin.000007\",\"__pos\":{position},\"__row\":0,\"__source_ts_ms\":{at}",
                change.deleted
            ),
        );
    });
}

fn debezium(change: Change, notation: Notation, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"before\":");
    braced(out, |out| row(change, "PENDING", notation, out));
    out.extend_from_slice(b",\"after\":");
    if change.deleted {
        out.extend_from_slice(b"null");
    } else {
        braced(out, |out| row(change, change.status, notation, out));
    }
    let (op, at, position) = (if change.deleted { 'd' } else { 'u' }, change.at(), change.position());
    write(
        out,
        format_args!(
            ",\"source\":{{\"version\":\"3.2.0.Final\",\"connector\":\"mysql\",\"name\":\"mall\",\"ts_ms\":{at},\"snapshot\":\"false\",\
             \"db\":\"shop\",\"sequence\":null,\"ts_us\":{at}000,\"ts_ns\":{at}000000,\"table\":\"payments\",\"server_id\":3,\"gtid\":null,\
             \"file\":\"mysql-bin.000007\",\"pos\":{position},\"row\":0,\"thread\":51,\"query\":null}},\"transaction\":null,\
             \"op\":\"{op}\",\"ts_ms\":{at},\"ts_us\":{at}412,\"ts_ns\":{at}412377}}",
        ),
    );
}

fn dms(change: Change, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"data\":");
    braced(out, |out| row(change, change.status, Notation::Plain, out));
    let (operation, at, position) =
        (if change.deleted { "delete" } else { "update" }, instant(change.at() as i64), change.position());
    write(
        out,
        format_args!(
            ",\"metadata\":{{\"timestamp\":\"{at}\",\"record-type\":\"data\",\"operation\":\"{operation}\",\"partition-key-type\":\"primary-key\",\
             \"schema-name\":\"shop\",\"table-name\":\"payments\",\"transaction-id\":{position},\"transaction-record-id\":1,\
             \"prev-transaction-id\":{},\"prev-transaction-record-id\":1,\"commit-timestamp\":\"{at}\",\
             \"stream-position\":\"mysql-bin.000007:{position}:-1:{position}:41:mysql-bin.000007:{}\"}}}}",
            position - 4,
            position - 4,
        ),
    );
}

fn maxwell(change: Change, out: &mut Vec<u8>) {
    let kind = if change.deleted { "delete" } else { "update" };
    let (seconds, position) = (change.at() / 1000, change.position());
    write(
        out,
        format_args!(
            "{{\"database\":\"shop\",\"table\":\"payments\",\"type\":\"{kind}\",\"ts\":{seconds},\"xid\":{},\"commit\":true,\
             \"position\":\"mysql-bin.000007:{position}\",\"server_id\":3,\"thread_id\":51,\"data\":",
            change.number
        ),
    );
    braced(out, |out| row(change, change.status, Notation::Plain, out));
    if !change.deleted {
        write(out, format_args!(",\"old\":{{\"status\":\"PENDING\",\"updated_at\":{}}}", change.at() - 1));
    }
    out.push(b'}');
}

fn canal(change: Change, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"data\":[");
    braced(out, |out| row(change, change.status, Notation::Texts, out));
    let kind = if change.deleted { "DELETE" } else { "UPDATE" };
    let old = if change.deleted {
        "null".to_owned()
    } else {
        format!("[{{\"status\":\"PENDING\",\"updated_at\":\"{}\"}}]", change.at() - 1)
    };
    write(
        out,
        format_args!(
            "],\"database\":\"shop\",\"es\":{at},\"gtid\":\"\",\"id\":{number},\"isDdl\":false,\"mysqlType\":{CANAL_TYPES},\"old\":{old},\
             \"pkNames\":[\"payment_id\"],\"sql\":\"\",\"sqlType\":{CANAL_CODES},\"table\":\"payments\",\"ts\":{at},\"type\":\"{kind}\"}}",
            at = change.at(),
            number = change.number,
        ),
    );
}

fn mongodb(change: Change, out: &mut Vec<u8>) {
    let (kind, at) = (if change.deleted { "delete" } else { "update" }, change.at());
    write(
        out,
        format_args!(
            "{{\"_id\":{{\"_data\":\"8265{:08X}000000012B042C0100296E5A1004{:016X}463C5F6964003C{:016X}000004\"}},\"operationType\":\"{kind}\",\
             \"clusterTime\":{{\"$timestamp\":{{\"t\":{},\"i\":{}}}}},\"wallTime\":{{\"$date\":{at}}},\
             \"ns\":{{\"db\":\"shop\",\"coll\":\"payments\"}},\"documentKey\":{{\"_id\":{}}}",
            at / 1000,
            mix(change.number),
            mix(change.id),
            at / 1000,
            change.number % 10_000 + 1,
            change.id,
        ),
    );
    if !change.deleted {
        write(
            out,
            format_args!(
                ",\"updateDescription\":{{\"updatedFields\":{{\"status\":\"{}\",\"updated_at\":{{\"$date\":{at}}}}},\"removedFields\":[],\
                 \"truncatedArrays\":[]}},\"fullDocument\":",
                change.status
            ),
        );
        braced(out, |out| row(change, change.status, Notation::Extended, out));
    }
    out.push(b'}');
}

/// Ids of the schemas below.
pub(super) const AVRO_KEY: u32 = 1;
/// That of values.
pub(super) const AVRO_VALUE: u32 = 2;

/// What Debezium registers for keys.
pub(super) const AVRO_KEY_SCHEMA: &str =
    r#"{"type":"record","name":"Key","namespace":"mall.shop.payments","fields":[{"name":"payment_id","type":"long"}]}"#;

/// What Debezium registers for values.
pub(super) const AVRO_VALUE_SCHEMA: &str = r#"{"type":"record","name":"Envelope","namespace":"mall.shop.payments","fields":[
{"name":"before","type":["null",{"type":"record","name":"Value","fields":[
    {"name":"payment_id","type":"long"},{"name":"order_id","type":"string"},{"name":"store_id","type":"string"},
    {"name":"user_id","type":"long"},
    {"name":"amount","type":{"type":"bytes","scale":2,"precision":14,"connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}},
    {"name":"currency","type":"string"},{"name":"method","type":"string"},{"name":"status","type":"string"},
    {"name":"paid_at","type":{"type":"long","connect.name":"io.debezium.time.Timestamp"}},
    {"name":"updated_at","type":{"type":"long","connect.name":"io.debezium.time.Timestamp"}},
    {"name":"memo","type":["null","string"]}]}]},
{"name":"after","type":["null","Value"]},
{"name":"source","type":{"type":"record","name":"Source","fields":[
    {"name":"version","type":"string"},{"name":"connector","type":"string"},{"name":"name","type":"string"},{"name":"ts_ms","type":"long"},
    {"name":"snapshot","type":["string","null"]},{"name":"db","type":"string"},{"name":"table","type":["null","string"]},
    {"name":"server_id","type":"long"},{"name":"gtid","type":["null","string"]},{"name":"file","type":"string"},{"name":"pos","type":"long"},
    {"name":"row","type":"int"},{"name":"thread","type":["null","long"]},{"name":"query","type":["null","string"]}]}},
{"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"]}]}"#;

fn avro_key(change: Change, out: &mut Vec<u8>) {
    header(AVRO_KEY, out);
    long(change.id, out);
}

fn avro(change: Change, out: &mut Vec<u8>) {
    header(AVRO_VALUE, out);
    long(1, out);
    avro_row(change, "PENDING", out);
    long(u64::from(!change.deleted), out);
    if !change.deleted {
        avro_row(change, change.status, out);
    }
    for text in ["3.2.0.Final", "mysql", "mall"] {
        bytes(text.as_bytes(), out);
    }
    long(change.at(), out);
    long(0, out);
    bytes(b"false", out);
    bytes(b"shop", out);
    long(1, out);
    bytes(b"payments", out);
    long(3, out);
    long(0, out);
    bytes(b"mysql-bin.000007", out);
    long(change.position(), out);
    long(0, out);
    long(1, out);
    long(51, out);
    long(0, out);
    bytes(if change.deleted { b"d" } else { b"u" }, out);
    long(1, out);
    long(change.at(), out);
}

fn avro_row(change: Change, status: &str, out: &mut Vec<u8>) {
    let Change { id, amount, .. } = change;
    long(id, out);
    bytes(format!("O-{}", id * 3 + 7).as_bytes(), out);
    bytes(format!("store-{:05}", mix(id) % STORES).as_bytes(), out);
    long(mix(id) % 900_000, out);
    bytes(&big_endian(amount), out);
    for text in ["KRW", "card", status] {
        bytes(text.as_bytes(), out);
    }
    long(change.paid_at(), out);
    long(change.at(), out);
    long(0, out);
}

fn header(schema: u32, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&schema.to_be_bytes());
}

/// A number that is not negative.
fn long(number: u64, out: &mut Vec<u8>) {
    let mut left = number << 1;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

fn bytes(text: &[u8], out: &mut Vec<u8>) {
    long(text.len() as u64, out);
    out.extend_from_slice(text);
}

const KEY_SCHEMA: &str = r#"{"type":"struct","fields":[{"type":"int64","optional":false,"field":"payment_id"}],"optional":false,"name":"mall.shop.payments.Key"}"#;

const COLUMNS: &str = r#"{"type":"int64","optional":false,"field":"payment_id"},{"type":"string","optional":false,"field":"order_id"},{"type":"string","optional":false,"field":"store_id"},{"type":"int64","optional":false,"field":"user_id"},{"type":"bytes","optional":false,"name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2","connect.decimal.precision":"14"},"field":"amount"},{"type":"string","optional":false,"field":"currency"},{"type":"string","optional":false,"field":"method"},{"type":"string","optional":false,"field":"status"},{"type":"int64","optional":false,"name":"io.debezium.time.Timestamp","version":1,"field":"paid_at"},{"type":"int64","optional":false,"name":"io.debezium.time.Timestamp","version":1,"field":"updated_at"},{"type":"string","optional":true,"field":"memo"}"#;

const SOURCE_AND_REST: &str = r#"{"type":"struct","fields":[{"type":"string","optional":false,"field":"version"},{"type":"string","optional":false,"field":"connector"},{"type":"string","optional":false,"field":"name"},{"type":"int64","optional":false,"field":"ts_ms"},{"type":"string","optional":true,"name":"io.debezium.data.Enum","version":1,"parameters":{"allowed":"true,last,false,incremental"},"default":"false","field":"snapshot"},{"type":"string","optional":false,"field":"db"},{"type":"string","optional":true,"field":"sequence"},{"type":"int64","optional":true,"field":"ts_us"},{"type":"int64","optional":true,"field":"ts_ns"},{"type":"string","optional":true,"field":"table"},{"type":"int64","optional":false,"field":"server_id"},{"type":"string","optional":true,"field":"gtid"},{"type":"string","optional":false,"field":"file"},{"type":"int64","optional":false,"field":"pos"},{"type":"int32","optional":false,"field":"row"},{"type":"int64","optional":true,"field":"thread"},{"type":"string","optional":true,"field":"query"}],"optional":false,"name":"io.debezium.connector.mysql.Source","field":"source"},{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"},{"type":"int64","optional":false,"field":"total_order"},{"type":"int64","optional":false,"field":"data_collection_order"}],"optional":true,"name":"event.block","version":1,"field":"transaction"},{"type":"string","optional":false,"field":"op"},{"type":"int64","optional":true,"field":"ts_ms"},{"type":"int64","optional":true,"field":"ts_us"},{"type":"int64","optional":true,"field":"ts_ns"}"#;

const CANAL_TYPES: &str = r#"{"payment_id":"bigint","order_id":"varchar(32)","store_id":"varchar(32)","user_id":"bigint","amount":"decimal(14,2)","currency":"char(3)","method":"varchar(16)","status":"varchar(16)","paid_at":"bigint","updated_at":"bigint","memo":"varchar(255)"}"#;

const CANAL_CODES: &str = r#"{"payment_id":-5,"order_id":12,"store_id":12,"user_id":-5,"amount":3,"currency":1,"method":12,"status":12,"paid_at":-5,"updated_at":-5,"memo":12}"#;
