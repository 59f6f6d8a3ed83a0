//! Random histories: what a database and its shops may do, and what logs do to it on the way.

use std::path::Path;

use proptest::prelude::*;
use storeflow::config::{Job, job_file};

/// Where histories start: 2026-11-20T00:00:00Z.
pub(crate) const START: u64 = 1_795_132_800_000;

/// The job of all random histories: short lengths, so that everything closes, expires and is forgotten within hours.
pub(crate) fn job(window: u64, grace: u64, retention: u64, horizon: u64, distinct: bool) -> Job {
    let text = format!(
        r#"
name = "random"
window = "{window}m"
grace = "{grace}m"
retention = "{retention}m"
replay_horizon = "{horizon}m"
scale = 2
currency = "KRW"

[[source]]
topics = ["pay-*"]
role = "payments"
format = "debezium"
key = "id"
key_space = "role"
store = "store"
amount = "amount"
currency = "cur"
time = {{ field = "at", unit = "us" }}
counts_when = {{ status = ["PAID", "REFUNDED"] }}

[[source]]
topic = "items"
role = "order_items"
format = "upsert"
key = ["order", "line"]
store = "store"
product = "product"
quantity = "qty"
time = {{ field = "at", unit = "ms" }}

[[source]]
topic = "products"
role = "products"
format = "debezium"
key = "id"
store = "store"
counts_when = {{ state = "ON" }}

[[source]]
topic = "clicks"
role = "clicks"
format = "json"
store = "store"
product = "product"
kind = "kind"
time = {{ field = "at", unit = "s" }}
distinct = {distinct}
"#
    );
    job_file::parse(&text, "random.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// One line of one partition, without the clock of the log.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Payment {
        key: u8,
        op: Op,
        store: u8,
        amount: i32,
        currency: u8,
        age: i32,
        status: u8,
        position: Pos,
    },
    Item {
        key: u8,
        delete: bool,
        store: u8,
        product: u8,
        quantity: i8,
        age: i32,
    },
    Product {
        key: u8,
        op: Op,
        store: u8,
        on: bool,
        position: Pos,
    },
    Click {
        store: u8,
        kind: u8,
        product: u8,
        age: i32,
    },
    Garbage(Vec<u8>),
    /// A record again, as it was, this many lines back.
    Again(u8),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Create,
    Update,
    Delete,
    Snapshot,
    Tombstone,
}

/// Where the database says the change was: mostly onwards, sometimes behind, of another incarnation, or nowhere.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pos {
    Next,
    Behind(u8),
    OtherServer(u8),
    None,
}

/// A line with its place and time.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub line: Line,
    pub partition: u8,
    /// Seconds the log's clock moves before this record; may be negative (disorder).
    pub seconds: i32,
    /// The envelope's timestamp: none, or another year.
    pub timestamp: Stamp,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Stamp {
    Log,
    Missing,
    Far,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Create),
        5 => Just(Op::Update),
        3 => Just(Op::Delete),
        1 => Just(Op::Snapshot),
        1 => Just(Op::Tombstone),
    ]
}

fn position() -> impl Strategy<Value = Pos> {
    prop_oneof![
        10 => Just(Pos::Next),
        2 => (0u8..20).prop_map(Pos::Behind),
        1 => (0u8..3).prop_map(Pos::OtherServer),
        1 => Just(Pos::None),
    ]
}

/// How far event time is behind the log's clock, in seconds: mostly little, sometimes around closing and expiry, and to the
/// second at their edges.
fn age() -> impl Strategy<Value = i32> {
    prop_oneof![
        6 => 0i32..600,
        2 => 0i32..10_000,
        1 => -4_000i32..0,
        1 => (0i32..8).prop_map(|k| k * 600),
    ]
}

fn line() -> impl Strategy<Value = Line> {
    prop_oneof![
        8 => (0u8..12, op(), 0u8..4, -500i32..5_000, 0u8..3, age(), 0u8..3, position()).prop_map(
            |(key, op, store, amount, currency, age, status, position)| Line::Payment { key, op, store, amount, currency, age, status, position }
        ),
        4 => (0u8..10, prop::bool::weighted(0.2), 0u8..4, 0u8..5, -3i8..10, age())
            .prop_map(|(key, delete, store, product, quantity, age)| Line::Item { key, delete, store, product, quantity, age }),
        3 => (0u8..10, op(), 0u8..4, any::<bool>(), position())
            .prop_map(|(key, op, store, on, position)| Line::Product { key, op, store, on, position }),
        5 => (0u8..4, 0u8..3, 0u8..6, age()).prop_map(|(store, kind, product, age)| Line::Click { store, kind, product, age }),
        1 => proptest::collection::vec(any::<u8>(), 0..30).prop_map(Line::Garbage),
        2 => (0u8..40).prop_map(Line::Again),
    ]
}

/// A history of up to `most` records.
pub(crate) fn history(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let seconds = prop_oneof![6 => 0i32..120, 2 => -300i32..0, 2 => 0i32..1_500, 1 => Just(3_600)];
    let timestamp = prop_oneof![30 => Just(Stamp::Log), 2 => Just(Stamp::Missing), 1 => Just(Stamp::Far)];
    let step = (line(), 0u8..3, seconds, timestamp).prop_map(|(line, partition, seconds, timestamp)| Step {
        line,
        partition,
        seconds,
        timestamp,
    });
    proptest::collection::vec(step, 1..most)
}

/// Renders a history as the files of a dataset: (topic, partition, content).
pub(crate) fn render(steps: &[Step]) -> Vec<(String, u32, Vec<u8>)> {
    let mut files: Vec<(String, u32, Vec<u8>)> = Vec::new();
    for (topic, partitions) in [("pay-a", 2), ("pay-b", 1), ("items", 2), ("products", 1), ("clicks", 3)] {
        files.extend((0..partitions).map(|partition| (topic.to_owned(), partition, Vec::new())));
    }
    let (mut clock, mut sequence) = (START as i64, 1_000u64);
    let mut written: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut offsets = vec![0u64; files.len()];
    for step in steps {
        clock = (clock + i64::from(step.seconds) * 1_000).max(START as i64);
        sequence += 10;
        let (file, key, value) = match &step.line {
            Line::Again(back) => match written.len().checked_sub(usize::from(*back) + 1) {
                Some(at) => {
                    let (file, body) = written[at].clone();
                    push(&mut files[file].2, &mut offsets[file], &body, step.timestamp, clock);
                    continue;
                }
                None => continue,
            },
            Line::Garbage(bytes) => {
                let file = usize::from(step.partition) % files.len();
                let bytes: Vec<u8> = bytes.iter().copied().filter(|&byte| byte != b'\n').collect();
                files[file].2.extend_from_slice(&bytes);
                files[file].2.push(b'\n');
                offsets[file] += 1;
                continue;
            }
            Line::Payment { key, op, store, amount, currency, age, status, position } => {
                let at = (clock - i64::from(*age) * 1_000).max(0) * 1_000 + 7;
                let status = ["PAID", "CREATED", "REFUNDED"][usize::from(*status)];
                let currency = ["\"KRW\"", "\"USD\"", "null"][usize::from(*currency)];
                let (sign, cents) = (if *amount < 0 { "-" } else { "" }, amount.unsigned_abs());
                let row = format!(
                    r#"{{"id":{key},"store":"s{store}","amount":"{sign}{}.{:02}","cur":{currency},"at":{at},"status":"{status}"}}"#,
                    cents / 100,
                    cents % 100
                );
                let source = mysql(*position, sequence, clock);
                (usize::from(step.partition) % 3, format!(r#"{{"id":{key}}}"#), debezium(*op, &row, &source))
            }
            Line::Product { key, op, store, on, position } => {
                let state = if *on { "ON" } else { "OFF" };
                let row = format!(r#"{{"id":"p{key}","store":{store},"state":"{state}"}}"#);
                let source = postgres(*position, sequence, clock);
                (5, format!(r#"{{"schema":{{}},"payload":{{"id":"p{key}"}}}}"#), debezium(*op, &row, &source))
            }
            Line::Item { key, delete, store, product, quantity, age } => {
                let at = (clock - i64::from(*age) * 1_000).max(0);
                let row = format!(r#"{{"store":"s{store}","product":"p{product}","qty":{quantity},"at":"{at}"}}"#);
                let key = format!(r#"{{"order":"o{}","line":{}}}"#, key / 3, key % 3);
                (3 + usize::from(step.partition) % 2, key, if *delete { None } else { Some(row) })
            }
            Line::Click { store, kind, product, age } => {
                let at = (clock / 1_000 - i64::from(*age)).max(0);
                let product = if *product == 0 { "null".to_owned() } else { format!("\"p{product}\"") };
                let kind = ["view", "cart", "buy"][usize::from(*kind)];
                let row = format!(r#"{{"x":{{"store":"no"}},"store":"s{store}","kind":"{kind}","product":{product},"at":{at}}}"#);
                (6 + usize::from(step.partition) % 3, "null".to_owned(), Some(row))
            }
        };
        let key = if key == "null" { key } else { serde_json::to_string(&key).expect("text") };
        let value = value.map_or("null".to_owned(), |value| serde_json::to_string(&value).expect("text"));
        let body = format!(r#""key":{key},"payload":{value}}}"#).into_bytes();
        written.push((file, body.clone()));
        push(&mut files[file].2, &mut offsets[file], &body, step.timestamp, clock);
    }
    files
}

fn push(file: &mut Vec<u8>, offset: &mut u64, body: &[u8], timestamp: Stamp, clock: i64) {
    let ts = match timestamp {
        Stamp::Log => format!("\"ts\":{clock},"),
        Stamp::Missing => String::new(),
        Stamp::Far => format!("\"ts\":{},", 4_070_908_800_000u64 + *offset),
    };
    file.extend_from_slice(format!(r#"{{"topic":"t","partition":0,"offset":{offset},{ts}"#).as_bytes());
    file.extend_from_slice(body);
    file.push(b'\n');
    *offset += 1;
}

fn debezium(op: Op, row: &str, source: &str) -> Option<String> {
    Some(match op {
        Op::Create => format!(r#"{{"before":null,"after":{row},"source":{source},"op":"c"}}"#),
        Op::Update => format!(r#"{{"schema":{{"a":[1]}},"payload":{{"before":{{}},"after":{row},"source":{source},"op":"u"}}}}"#),
        Op::Snapshot => format!(r#"{{"before":null,"after":{row},"source":{source},"op":"r"}}"#),
        Op::Delete => format!(r#"{{"before":{row},"after":null,"source":{source},"op":"d"}}"#),
        Op::Tombstone => return None,
    })
}

fn mysql(position: Pos, sequence: u64, clock: i64) -> String {
    let (server, pos) = match position {
        Pos::Next => (7, sequence),
        Pos::Behind(by) => (7, sequence - u64::from(by) * 10),
        Pos::OtherServer(server) => (server, sequence / 2),
        Pos::None => (7, 0),
    };
    format!(r#"{{"connector":"mysql","name":"m","ts_ms":{clock},"file":"bin.000003","pos":{pos},"row":0,"server_id":{server}}}"#)
}

fn postgres(position: Pos, sequence: u64, clock: i64) -> String {
    let (db, lsn) = match position {
        Pos::Next => ("a", sequence),
        Pos::Behind(by) => ("a", sequence - u64::from(by) * 10),
        Pos::OtherServer(_) => ("b", sequence / 2),
        Pos::None => ("a", 0),
    };
    format!(r#"{{"connector":"postgresql","name":"p","db":"{db}","ts_ms":{clock},"lsn":{lsn}}}"#)
}

/// Writes files as a dataset.
pub(crate) fn write(dataset: &Path, files: &[(String, u32, Vec<u8>)]) {
    for (topic, partition, content) in files {
        let folder = dataset.join(topic);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(format!("{partition}.ndjson")), content).expect("a file");
    }
}
