//! Lines as connectors, sites and accidents write them: mostly in order, in part odd, now and then broken.
//!
//! ```text
//! fields ─► row ─► Debezium | upsert | click ─► kcat envelope or bare ─► flaws in the bytes ─► line of a partition
//! ```
//!
//! Everything is kept as small numbers until it is rendered, so that proptest shrinks a failure to the few that matter.

use proptest::prelude::*;
use proptest::sample::Index;
use storeflow::config::{Job, job_file};

use super::histories::START;

/// How the job reads its rows.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Encoding of event time: an index into [`UNITS`].
    pub(crate) unit: usize,
    /// Keys of two fields.
    pub(crate) composite: bool,
    /// The job's currency.
    pub(crate) currency: bool,
    /// The field of a payment's currency, if it names one.
    pub(crate) currency_field: bool,
    pub(crate) scale: u32,
    pub(crate) key_space_role: bool,
    pub(crate) distinct: bool,
    /// Minutes.
    pub(crate) retention: u64,
}

/// Encodings of event time, as the job file has them.
pub(crate) const UNITS: [&str; 9] = [
    "\"s\"",
    "\"ms\"",
    "\"us\"",
    "\"ns\"",
    "\"days\"",
    "\"rfc3339\"",
    "{ format = \"%Y-%m-%d %H:%M:%S\", zone = \"America/New_York\" }",
    "{ format = \"%d/%b/%Y:%H:%M:%S %z\", zone = \"Asia/Seoul\" }",
    "{ format = \"%Y%m%d%H%M%S%.f\" }",
];

/// The job of a shape. Every way of reading a topic is there once.
pub(crate) fn job(shape: &Shape) -> Job {
    let Shape { unit, composite, currency, currency_field, scale, key_space_role, distinct, retention } = *shape;
    let key = if composite { r#"["id", "part"]"# } else { r#""id""# };
    let time = format!("{{ field = \"at\", unit = {} }}", UNITS[unit]);
    let optional = |given: bool, line: &'static str| if given { line } else { "" };
    let payments = format!(
        r#"key = {key}
store = "store"
amount = "amount"
{}
time = {time}"#,
        optional(currency_field || !currency, "currency = \"cur\"")
    );
    let items = format!(
        r#"key = {key}
store = "store"
product = "product"
quantity = "qty"
time = {time}"#
    );
    let text = format!(
        r#"
name = "lines"
window = "30m"
grace = "1m"
retention = "{retention}m"
replay_horizon = "90m"
scale = {scale}
{}

[[source]]
topics = ["pay-*"]
role = "payments"
format = "debezium"
key_space = "{}"
{payments}
counts_when = {{ status = ["PAID", "REFUNDED"] }}

[[source]]
topic = "shop"
table = "payments"
role = "payments"
format = "debezium"
{payments}
counts_when = {{ status = ["PAID"], on = [true, "yes"], rank = [1, 2.50, -3] }}

[[source]]
topic = "shop"
table = "goods"
role = "products"
format = "debezium"
key = {key}
store = "store"
counts_when = {{ on = true }}

[[source]]
topic = "shop"
table = "items"
role = "order_items"
format = "debezium"
{items}

[[source]]
topic = "items"
role = "order_items"
format = "upsert"
{items}

[[source]]
topic = "stock"
role = "products"
format = "upsert"
key = {key}
store = "store"
counts_when = {{ rank = [1, 2] }}

[[source]]
topic = "wallet"
role = "payments"
format = "upsert"
{payments}

[[source]]
topic = "clicks"
role = "clicks"
format = "json"
store = "store"
product = "product"
kind = "kind"
time = {time}
distinct = {distinct}

[[source]]
topic = "views"
role = "clicks"
format = "json"
store = "store"
kind = "kind"
time = {time}
"#,
        optional(currency, "currency = \"KRW\""),
        if key_space_role { "role" } else { "topic" },
    );
    job_file::parse(&text, "lines.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// A form of value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Debezium,
    Row,
}

/// The partitions of the dataset, and what is mostly in them.
const FILES: [(&str, u32, Form); 10] = [
    ("pay-a", 0, Form::Debezium),
    ("pay-b", 0, Form::Debezium),
    ("pay-b", 1, Form::Debezium),
    ("shop", 0, Form::Debezium),
    ("items", 0, Form::Row),
    ("items", 1, Form::Row),
    ("stock", 0, Form::Row),
    ("wallet", 0, Form::Row),
    ("clicks", 0, Form::Row),
    ("views", 7, Form::Row),
];

/// One line, before it is rendered.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a few hundred of them live at once")]
pub(crate) enum Line {
    /// Seconds the log moves on, the partition, and its record.
    Record { step: i32, file: Index, value: Value, key: MessageKey, envelope: Option<Fields>, as_text: bool, flaws: Vec<Flaw> },
    /// Any bytes, but for line feeds.
    Bytes(Index, Vec<u8>),
    /// Brackets, so many levels deep, as a whole line or in a record.
    Deep { file: Index, levels: usize, objects: bool, within: bool },
    /// So many records in a row from a clock so many hours ahead.
    Ahead { file: Index, records: u8, hours: u8 },
    /// A line again, so many back; in its partition or in another.
    Again { back: usize, elsewhere: Option<Index> },
}

/// The value of a message.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Row(Fields),
    Debezium { operation: u8, before: Image, after: Image, source: Fields, wrapper: u8 },
    Odd(Index),
}

/// `before` or `after`.
#[derive(Clone, Debug)]
pub(crate) enum Image {
    Row(Fields),
    Odd(Index),
    Absent,
}

/// The key of a message.
#[derive(Clone, Debug)]
pub(crate) enum MessageKey {
    /// That of the row.
    OfRow {
        wrapped: bool,
    },
    Fields {
        fields: Fields,
        wrapped: bool,
    },
    Word(Word),
    Odd(Index),
    None,
}

/// Which of the ordinary values each field has, and what is unusual about the object.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    seed: u64,
    odd: Vec<(Index, Word)>,
    absent: Option<Index>,
    twice: Option<(Index, Word)>,
    dress: u8,
}

/// An unusual value.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    /// Odd for a field of its kind.
    Odd(Index),
    /// Odd for whatever field.
    Any(Index),
    /// Any JSON.
    Json(String),
}

/// What happens to a line on its way.
#[derive(Clone, Debug)]
pub(crate) enum Flaw {
    Insert(Index, Index),
    Replace(Index, u8),
    Cut(Index, u8),
    Twice(Index, u8),
    End(Index),
    CarriageReturn,
}

const ROW: [&str; 12] = ["id", "part", "store", "product", "amount", "qty", "cur", "kind", "at", "status", "on", "rank"];
const SOURCE: [&str; 10] = ["connector", "name", "db", "table", "file", "pos", "row", "server_id", "lsn", "ts_ms"];
const ENVELOPE: [&str; 8] = ["topic", "partition", "offset", "tstype", "ts", "broker", "key", "payload"];

const IDS: [&str; 4] = ["1", "\"1\"", "2", "\"a\""];
const ODD_IDS: [&str; 20] = [
    "\"\"",
    "null",
    "1.0",
    "1e0",
    "-0",
    "-7",
    "true",
    "[]",
    "{}",
    "\"\\u0061\"",
    "\"\\u0000\"",
    "\" \"",
    "\"\\n\"",
    "123456789012345678901234567890",
    "\"é\"",
    "\"\\ud83d\\ude00\"",
    "\"😀\"",
    "\"twenty-nine or thirty bytes..\"",
    "\"an id of more than thirty bytes, which has to go somewhere else\"",
    "{\"id\":1}",
];
const ODD_NUMBERS: [&str; 40] = [
    "0",
    "-0",
    "-0.00",
    "7",
    "1.5",
    "1.25",
    "1.125",
    "1.2500",
    "\"12.50\"",
    "\"+3\"",
    "\"007\"",
    "\"-08.10\"",
    "\" 1\"",
    "\"1 \"",
    "\"\"",
    "\"-\"",
    "\"+\"",
    "\".5\"",
    "\"5.\"",
    "\"1e2\"",
    "\"1E+02\"",
    "\"--1\"",
    "\"\\u0031\"",
    "\"0x1\"",
    "\"1_000\"",
    "\"NaN\"",
    "\"1,5\"",
    "1e2",
    "1E-2",
    "12e-1",
    "0e99999999999999999999",
    "1e99999999999999999999",
    "1e-99999999999999999999",
    "1e24",
    "100000000000000000000000000",
    "1000000000000000000000000.01",
    "99999999999999999999999999999999999999999999.9",
    "1000000000",
    "1000000001",
    "0.000000000000000001",
];
const ODD_TIMES: [&str; 40] = [
    "0",
    "-0",
    "-1",
    "1",
    "999",
    "1.0",
    "1e3",
    "\"0001\"",
    "\"-1\"",
    "\"+1\"",
    "\"\"",
    "\"-\"",
    "\"\\u0031\"",
    "7258118399999",
    "7258118400000",
    "7258118400",
    "84006",
    "170141183460469231731687303715884105727",
    "-170141183460469231731687303715884105729",
    "\"99999999999999999999999999999999999999999999\"",
    "null",
    "true",
    "{}",
    "\"1970-01-01T00:00:00Z\"",
    "\"1970-01-01T00:00:00+00:01\"",
    "\"2026-02-29T00:00:00Z\"",
    "\"2026-11-20T24:00:00Z\"",
    "\"2026-11-20T01:02:60Z\"",
    "\"2026-11-20T01:02:03\"",
    "\"2026-11-20T01:02:03.Z\"",
    "\"2026-11-20T01:02:03+0900\"",
    "\"2026-11-20T01:02:03-23:59\"",
    "\"2200-01-01T00:00:00Z\"",
    "\"0000-01-01T00:00:00Z\"",
    "\"9999-12-31T23:59:59.999999999-12:00\"",
    "\"2026-03-08 02:30:00\"",
    "\"2026-11-01 01:30:00\"",
    "\"2026-11-20 1:2:3\"",
    " \"2026-11-20 01:02:03 \"",
    "\"20/Nov/2026:01:02:03 -2359\"",
];
const ODD_FLAGS: [&str; 20] = [
    "null",
    "true",
    "false",
    "\"true\"",
    "\"yes\"",
    "1",
    "1.0",
    "1.00",
    "2.5",
    "2.50",
    "\"2.50\"",
    "-3",
    "-3.0",
    "\"paid\"",
    "\"P\\u0041ID\"",
    "\"PAID \"",
    "[\"PAID\"]",
    "{}",
    "\"\"",
    "10e-1",
];
const ODD_ANYTHING: [&str; 24] = [
    "null",
    "true",
    "0",
    "-1",
    "\"x\"",
    "[]",
    "{}",
    "[[],{\"a\":[1e400]}]",
    "{\"\":{\"\":null}}",
    "\"\\\\\\\"\\/\\b\\f\\n\\r\\t\"",
    "\"\\ud83d\"",
    "\"\\ude00\\ud83d\"",
    "\"\\u12g4\"",
    "\"\\x\"",
    "\"\u{7f}\u{2028}\u{feff}\"",
    "\"tab\tin text\"",
    "01",
    "+1",
    "1.",
    ".1",
    "NaN",
    "nul",
    "{\"$serde_json::private::Number\":\"1\"}",
    "",
];
const ODD_VALUES: [&str; 14] = [
    "null",
    " null ",
    "[]",
    "{}",
    "5",
    "\"text\"",
    "",
    " ",
    "nonsense",
    "{\"payload\":null}",
    "{\"schema\":null,\"payload\":{}}",
    "{\"op\":\"m\"}",
    "{\"status\":\"BEGIN\",\"id\":\"1:2\",\"event_count\":null}",
    "{\"op\":\"t\",\"source\":{\"ts_ms\":1795132900000,\"table\":\"goods\"}}",
];
const ODD_KEYS: [&str; 18] = [
    "raw",
    "007",
    "a b",
    " 7 ",
    "",
    " ",
    "{",
    "null",
    "1.5",
    "[1]",
    "true",
    "\"\"",
    "\"a\"",
    "{\"id\":1,\"part\":1,\"payload\":{}}",
    "{\"id\":1,\"part\":1,\"payload\":3}",
    "{\"schema\":null,\"payload\":{\"id\":2,\"part\":3}}",
    "{\"id\":1}{\"id\":2}",
    "{\"\\u0069d\":\"\\u0031\",\"part\":1}",
];
const FRAGMENTS: [&str; 30] = [
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "\\u0000",
    "\\ud83d",
    "\\",
    "é",
    "-",
    ".",
    "e9",
    "e+",
    "0",
    "00",
    " ",
    "\t",
    "\r",
    "\u{feff}",
    "\u{2028}",
    "\"topic\"",
    "\"topic\":1,",
    "\"payload\":null,",
    "\"id\":1,",
    "\u{1}",
    "\\\"",
];
const BYTES: [u8; 12] = [0xff, 0xc3, 0x80, 0xed, 0xf0, 0, b'"', b'\\', b'{', b'}', b'0', b' '];

fn any_index() -> impl Strategy<Value = Index> {
    any::<Index>()
}

fn any_json() -> impl Strategy<Value = String> {
    let text = proptest::collection::vec(any::<char>(), 0..12).prop_map(|chars| {
        let text: String = chars.into_iter().collect();
        serde_json::to_string(&text).expect("text")
    });
    let number = (any::<i64>(), 0u32..4, any::<bool>()).prop_map(|(whole, digits, exponent)| {
        let fraction =
            if digits > 0 { format!(".{:0width$}", whole.unsigned_abs() % 10, width = digits as usize) } else { String::new() };
        format!("{whole}{fraction}{}", if exponent { "e-2" } else { "" })
    });
    let leaf =
        prop_oneof![text.clone(), number, proptest::sample::select(&["null", "true", "false"][..]).prop_map(str::to_owned)];
    leaf.prop_recursive(3, 12, 4, move |inner| {
        let list = proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(",")));
        let name = prop_oneof![proptest::sample::select(&ROW[..]).prop_map(|name| format!("\"{name}\"")), text.clone()];
        let object = proptest::collection::vec((name, inner), 0..4).prop_map(|members| {
            let members: Vec<String> = members.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
            format!("{{{}}}", members.join(","))
        });
        prop_oneof![list, object]
    })
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        12 => any_index().prop_map(Word::Odd),
        1 => any_index().prop_map(Word::Any),
        1 => any_json().prop_map(Word::Json),
    ]
}

/// An object whose fields are unusual one time in so many.
fn fields(usual: u32) -> impl Strategy<Value = Fields> {
    let rare = 1.0 / f64::from(usual * 8);
    let odd = prop_oneof![
        usual => Just(Vec::new()),
        1 => proptest::collection::vec((any_index(), word()), 1..4),
    ];
    let twice = proptest::option::weighted(rare, (any_index(), word()));
    let dress = prop_oneof![usual => Just(0u8), 1 => any::<u8>()];
    (any::<u64>(), odd, proptest::option::weighted(rare, any_index()), twice, dress)
        .prop_map(|(seed, odd, absent, twice, dress)| Fields { seed, odd, absent, twice, dress })
}

fn image() -> impl Strategy<Value = Image> {
    prop_oneof![
        24 => fields(6).prop_map(Image::Row),
        1 => any_index().prop_map(Image::Odd),
        1 => Just(Image::Absent),
    ]
}

fn value(form: Form) -> BoxedStrategy<Value> {
    let row = fields(5).prop_map(Value::Row);
    let operation = prop_oneof![15 => 0u8..4, 1 => any::<u8>()];
    let wrapper = prop_oneof![5 => Just(0u8), 2 => any::<u8>()];
    let debezium = (operation, image(), image(), fields(8), wrapper)
        .prop_map(|(operation, before, after, source, wrapper)| Value::Debezium { operation, before, after, source, wrapper });
    let odd = any_index().prop_map(Value::Odd);
    match form {
        Form::Debezium => prop_oneof![1 => row, 40 => debezium, 2 => odd].boxed(),
        Form::Row => prop_oneof![40 => row, 1 => debezium, 3 => odd].boxed(),
    }
}

fn key() -> impl Strategy<Value = MessageKey> {
    prop_oneof![
        10 => any::<bool>().prop_map(|wrapped| MessageKey::OfRow { wrapped }),
        4 => (fields(6), any::<bool>()).prop_map(|(fields, wrapped)| MessageKey::Fields { fields, wrapped }),
        1 => word().prop_map(MessageKey::Word),
        1 => any_index().prop_map(MessageKey::Odd),
        3 => Just(MessageKey::None),
    ]
}

fn flaw() -> impl Strategy<Value = Flaw> {
    prop_oneof![
        4 => (any_index(), any_index()).prop_map(|(at, what)| Flaw::Insert(at, what)),
        3 => (any_index(), any::<u8>()).prop_map(|(at, what)| Flaw::Replace(at, what)),
        2 => (any_index(), any::<u8>()).prop_map(|(at, length)| Flaw::Cut(at, length)),
        2 => (any_index(), any::<u8>()).prop_map(|(at, length)| Flaw::Twice(at, length)),
        1 => any_index().prop_map(Flaw::End),
        2 => Just(Flaw::CarriageReturn),
    ]
}

fn line() -> impl Strategy<Value = Line> {
    let step = prop_oneof![8 => 0i32..120, 2 => -600i32..0, 1 => 0i32..3_700];
    let envelope = prop_oneof![1 => Just(None), 4 => fields(15).prop_map(Some)];
    let flaws = prop_oneof![16 => Just(Vec::new()), 1 => proptest::collection::vec(flaw(), 1..4)];
    let record = any_index().prop_flat_map(move |file| {
        let (_, _, form) = FILES[file.index(FILES.len())];
        (Just(file), value(form))
    });
    let record =
        (step, record, key(), envelope, any::<bool>(), flaws).prop_map(|(step, (file, value), key, envelope, as_text, flaws)| {
            Line::Record { step, file, value, key, envelope, as_text, flaws }
        });
    let bytes = proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(&BYTES[..])], 0..40);
    prop_oneof![
        120 => record,
        2 => (any_index(), bytes).prop_map(|(file, bytes)| Line::Bytes(file, bytes)),
        2 => (any_index(), 120usize..132, any::<bool>(), any::<bool>())
            .prop_map(|(file, levels, objects, within)| Line::Deep { file, levels, objects, within }),
        1 => (any_index(), 95u8..110, 0u8..6).prop_map(|(file, records, hours)| Line::Ahead { file, records, hours }),
        4 => (0usize..20, prop::option::weighted(0.2, any_index())).prop_map(|(back, elsewhere)| Line::Again { back, elsewhere }),
    ]
}

/// Up to `most` lines.
pub(crate) fn lines(most: usize) -> impl Strategy<Value = Vec<Line>> {
    proptest::collection::vec(line(), 1..most)
}

/// Any way to read them.
pub(crate) fn shape() -> impl Strategy<Value = Shape> {
    let retention = proptest::sample::select(&[30u64, 120, 2_880, 5_256_000][..]);
    let scale = proptest::sample::select(&[0u32, 2, 18][..]);
    (0..UNITS.len(), any::<[bool; 5]>(), scale, retention).prop_map(
        |(unit, [composite, currency, currency_field, key_space_role, distinct], scale, retention)| Shape {
            unit,
            composite,
            currency,
            currency_field,
            scale,
            key_space_role,
            distinct,
            retention,
        },
    )
}

/// The files of a dataset: (topic, partition, content).
pub(crate) fn render(shape: &Shape, lines: &[Line]) -> Vec<(String, u32, Vec<u8>)> {
    let mut renderer = Renderer {
        unit: shape.unit,
        clock: START as i64,
        sequence: 1_000,
        offsets: [0; FILES.len()],
        files: FILES.iter().map(|(topic, partition, _)| ((*topic).to_owned(), *partition, Vec::new())).collect(),
        written: Vec::new(),
    };
    lines.iter().for_each(|line| renderer.line(line));
    renderer.files
}

struct Renderer {
    unit: usize,
    clock: i64,
    sequence: u64,
    offsets: [u64; FILES.len()],
    files: Vec<(String, u32, Vec<u8>)>,
    written: Vec<(Index, Vec<u8>)>,
}

/// One of the list by a seed; a different one for each salt.
fn choose<'a>(list: &[&'a str], seed: u64, salt: usize) -> &'a str {
    let mixed = (seed ^ (salt as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    list[(mixed >> 40) as usize % list.len()]
}

impl Renderer {
    fn line(&mut self, line: &Line) {
        let (file, bytes) = match line {
            Line::Bytes(file, bytes) => (*file, bytes.clone()),
            Line::Deep { file, levels, objects, within } => (*file, self.deep(*levels, *objects, *within)),
            Line::Again { back, elsewhere } => match self.written.iter().rev().nth(*back) {
                Some((file, bytes)) => (elsewhere.unwrap_or(*file), bytes.clone()),
                None => return,
            },
            Line::Ahead { file, records, hours } => {
                let ts = self.clock + i64::from(*hours) * 3_600_000;
                let one = |at: u8| {
                    format!(r#"{{"topic":"t","partition":0,"offset":{at},"ts":{},"payload":null}}"#, ts + i64::from(at % 7))
                };
                let content = &mut self.files[file.index(FILES.len())].2;
                (0..*records).for_each(|at| content.extend_from_slice((one(at) + "\n").as_bytes()));
                return;
            }
            Line::Record { step, file, value, key, envelope, as_text, flaws } => {
                self.clock = (self.clock + i64::from(*step) * 1_000 + 17).max(START as i64);
                self.sequence += 5;
                let at = file.index(FILES.len());
                let mut bytes = self.record(at, value, key, envelope.as_ref(), *as_text).into_bytes();
                flaws.iter().for_each(|flaw| damage(&mut bytes, flaw));
                (*file, bytes)
            }
        };
        let content = &mut self.files[file.index(FILES.len())].2;
        // A line feed would make two lines of it.
        content.extend(bytes.iter().copied().filter(|&byte| byte != b'\n'));
        content.push(b'\n');
        self.written.push((file, bytes));
    }

    fn deep(&self, levels: usize, objects: bool, within: bool) -> Vec<u8> {
        let (open, close) = if objects { ("{\"a\":", "}") } else { ("[", "]") };
        let deep = format!("{}1{}", open.repeat(levels), close.repeat(levels));
        let row = format!(r#"{{"id":1,"part":2,"store":"deep","kind":"k","x":{deep},"at":{}}}"#, self.clock);
        if within { row.into_bytes() } else { deep.into_bytes() }
    }

    fn record(&mut self, file: usize, value: &Value, key: &MessageKey, envelope: Option<&Fields>, as_text: bool) -> String {
        let row = match value {
            Value::Row(row) => Some(row),
            Value::Debezium { before: Image::Row(row), operation: 3, .. } | Value::Debezium { after: Image::Row(row), .. } => {
                Some(row)
            }
            _ => None,
        };
        let key = match (key, row) {
            (MessageKey::OfRow { wrapped }, Some(row)) => {
                let plain = Fields { odd: Vec::new(), absent: None, twice: None, dress: 0, ..row.clone() };
                Some(self.key(&plain, *wrapped))
            }
            (MessageKey::Fields { fields, wrapped }, _) => Some(self.key(fields, *wrapped)),
            (MessageKey::Word(word), _) => Some(self.word(ODD_IDS.as_slice(), word)),
            (MessageKey::Odd(which), _) => Some(ODD_KEYS[which.index(ODD_KEYS.len())].to_owned()),
            (MessageKey::OfRow { .. }, None) | (MessageKey::None, _) => None,
        };
        let value = self.value(value);
        let Some(envelope) = envelope else { return value };
        let offset = self.offsets[file];
        // Now and then an offset repeats.
        self.offsets[file] += u64::from(!envelope.seed.is_multiple_of(16));
        let text = |json: &str| match serde_json::from_str::<serde_json::Value>(json) {
            Ok(_) if !as_text => json.to_owned(),
            _ => serde_json::to_string(json).expect("text"),
        };
        let usual = [
            "\"some-topic\"".to_owned(),
            "0".to_owned(),
            offset.to_string(),
            "\"create\"".to_owned(),
            self.clock.to_string(),
            "1".to_owned(),
            key.map_or("null".to_owned(), |key| text(&key)),
            if value == "null" { value } else { text(&value) },
        ];
        self.object(&ENVELOPE, envelope, &|at| usual[at].clone(), &|at| match at {
            2 | 4 => &ODD_TIMES,
            _ => &ODD_ANYTHING,
        })
    }

    fn key(&self, fields: &Fields, wrapped: bool) -> String {
        let key = self.object(&ROW[..2], fields, &|at| choose(&IDS, fields.seed, at).to_owned(), &|_| &ODD_IDS);
        if wrapped { format!(r#"{{"schema":{{"type":"struct"}},"payload":{key}}}"#) } else { key }
    }

    fn value(&self, value: &Value) -> String {
        let (operation, before, after, source, wrapper) = match value {
            Value::Odd(which) => return ODD_VALUES[which.index(ODD_VALUES.len())].to_owned(),
            Value::Row(row) => return self.row(row),
            Value::Debezium { operation, before, after, source, wrapper } => (*operation, before, after, source, *wrapper),
        };
        let operation = match operation {
            0..4 => ["\"c\"", "\"u\"", "\"r\"", "\"d\""][usize::from(operation)],
            more => choose(&["\"t\"", "\"m\"", "\"x\"", "null", "1", "\"\"", "\"\\u0063\"", "\"C\"", "[]"], u64::from(more), 0),
        };
        let mut members = vec![("op", operation.to_owned()), ("source", self.source(source))];
        for (name, image) in [("before", before), ("after", after)] {
            match image {
                Image::Row(row) => members.push((name, self.row(row))),
                Image::Odd(which) => members.push((name, ODD_ANYTHING[which.index(6)].to_owned())),
                Image::Absent => {}
            }
        }
        // Kafka Connect keeps the order of the schema; others do not.
        let first = usize::from(wrapper) % members.len();
        members.rotate_left(first);
        let members: Vec<String> = members.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let envelope = format!("{{{}}}", members.join(","));
        match wrapper % 8 {
            1 => format!(r#"{{"schema":{{"type":"struct","fields":[{{"field":"op"}}]}},"payload":{envelope}}}"#),
            2 => format!(r#"{{"payload":{envelope},"schema":null}}"#),
            3 => format!(r#"{{"payload":{},{}"#, choose(&ODD_ANYTHING, u64::from(wrapper), 1), &envelope[1..]),
            4 => format!(r#"{{{},"payload":{envelope}}}"#, &envelope[1..envelope.len() - 1]),
            5 => format!(" {} ", envelope.replace(":{", " : {")),
            _ => envelope,
        }
    }

    fn row(&self, fields: &Fields) -> String {
        let seed = fields.seed;
        let usual = |at: usize| match ROW[at] {
            "amount" => choose(&["1", "2.00", "\"10.00\"", "-3", "\"7\"", "4e0"], seed, at).to_owned(),
            "qty" => choose(&["1", "2", "\"3\"", "-1", "5.0"], seed, at).to_owned(),
            "cur" => choose(&["\"KRW\"", "\"USD\"", "978", "null"], seed, at).to_owned(),
            "kind" => choose(&["\"view\"", "\"buy\"", "7"], seed, at).to_owned(),
            "at" => self.time(seed),
            "status" => choose(&["\"PAID\"", "\"PAID\"", "\"REFUNDED\"", "\"FAILED\""], seed, at).to_owned(),
            "on" => choose(&["true", "\"true\"", "\"yes\"", "false"], seed, at).to_owned(),
            "rank" => choose(&["1", "2", "2.50", "\"1\"", "-3"], seed, at).to_owned(),
            _ => choose(&IDS, seed, at).to_owned(),
        };
        self.object(&ROW, fields, &usual, &|at| match ROW[at] {
            "amount" | "qty" => &ODD_NUMBERS,
            "at" => &ODD_TIMES,
            "status" | "on" | "rank" => &ODD_FLAGS,
            _ => &ODD_IDS,
        })
    }

    fn source(&self, fields: &Fields) -> String {
        let seed = fields.seed;
        let usual = |at: usize| match SOURCE[at] {
            "connector" => {
                choose(&["\"mysql\"", "\"mysql\"", "\"mysql\"", "\"postgresql\"", "\"mariadb\"", "\"oracle\""], seed, at)
                    .to_owned()
            }
            "name" => choose(&["\"m\"", "\"m\"", "\"m\"", "\"m\"", "\"n\""], seed, at).to_owned(),
            "db" => choose(&["\"d\"", "\"d\"", "\"e\""], seed, at).to_owned(),
            "table" => choose(&["\"payments\"", "\"goods\"", "\"items\"", "\"other\""], seed, at).to_owned(),
            "file" => {
                choose(&["\"bin.000002\"", "\"bin.000002\"", "\"bin.3\"", "\"bin.2\"", "\"new.000001\""], seed, at).to_owned()
            }
            "server_id" => choose(&["7", "7", "7", "0", "8"], seed, at).to_owned(),
            "row" => choose(&["0", "1"], seed, at).to_owned(),
            "ts_ms" => self.clock.to_string(),
            _ => (self.sequence - (seed / 8 % 3) * (seed % 100)).to_string(),
        };
        self.object(&SOURCE, fields, &usual, &|at| match SOURCE[at] {
            "pos" | "lsn" | "ts_ms" | "row" | "server_id" => &[
                "0",
                "-0",
                "-1",
                "1.5",
                "1e3",
                "null",
                "\"9\"",
                "true",
                "4294967295",
                "4294967296",
                "18446744073709551615",
                "18446744073709551616",
                "7258118399999",
                "7258118400000",
                "999999999999999999999999999999999999999999",
            ],
            "file" => &[
                "null",
                "5",
                "\"bin\"",
                "\"bin.\"",
                "\"bin.x\"",
                "\"bin.4294967295\"",
                "\"bin.4294967296\"",
                "\"bin.-1\"",
                "\"bin.+1\"",
                "\".5\"",
                "\"a.b.000003\"",
                "\"b\\u0069n.000002\"",
                "\"bin.\\u0032\"",
                "\"bin.2 \"",
            ],
            _ => &["null", "\"\"", "5", "true", "[]", "\"\\u006d\"", "\"\\u006dysql\"", "\"goo\\u0064s\"", "\"MYSQL\""],
        })
    }

    /// An event time not far from the log's clock, as the job's unit has it.
    fn time(&self, seed: u64) -> String {
        const AGES: [i64; 8] = [0, 1, 60, 600, 1_800, 3_600, 9_000, -1_200];
        let millis = (self.clock - AGES[(seed % 8) as usize] * 1_000 - (seed / 8 % 1_000) as i64).max(0);
        let instant = jiff::Timestamp::from_millisecond(millis).expect("in range");
        let in_zone = |zone: &str, format: &str| {
            let zoned = instant.in_tz(zone).expect("a zone");
            format!("\"{}\"", jiff::fmt::strtime::format(format, &zoned).expect("a format"))
        };
        let whole = match self.unit {
            0 => millis / 1_000,
            1 => millis,
            2 => millis * 1_000 + 999,
            3 => millis * 1_000_000 + 1,
            4 => millis / 86_400_000,
            5 => {
                let formats = ["%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%dt%H:%M:%Sz", "%Y-%m-%d %H:%M:%S%.3fZ"];
                return match seed % 4 {
                    3 => in_zone("Asia/Seoul", "%Y-%m-%dT%H:%M:%S%.6f%:z"),
                    which => in_zone("UTC", formats[which as usize]),
                };
            }
            6 => return in_zone("America/New_York", "%Y-%m-%d %H:%M:%S"),
            7 => return in_zone(["Asia/Seoul", "UTC", "America/New_York"][(seed % 3) as usize], "%d/%b/%Y:%H:%M:%S %z"),
            _ => return in_zone("UTC", "%Y%m%d%H%M%S%.f"),
        };
        if seed.is_multiple_of(5) { format!("\"{whole}\"") } else { whole.to_string() }
    }

    fn word(&self, odd: &[&str], word: &Word) -> String {
        match word {
            Word::Odd(which) => odd[which.index(odd.len())].to_owned(),
            Word::Any(which) => ODD_ANYTHING[which.index(ODD_ANYTHING.len())].to_owned(),
            Word::Json(json) => json.clone(),
        }
    }

    fn object(
        &self,
        names: &[&str],
        fields: &Fields,
        usual: &dyn Fn(usize) -> String,
        odd: &dyn Fn(usize) -> &'static [&'static str],
    ) -> String {
        let mut members: Vec<(String, String)> = (0..names.len()).map(|at| (names[at].to_owned(), usual(at))).collect();
        for (at, word) in &fields.odd {
            let at = at.index(names.len());
            members[at].1 = self.word(odd(at), word);
        }
        if let Some((at, word)) = &fields.twice {
            let at = at.index(names.len());
            members.push((names[at].to_owned(), self.word(odd(at), word)));
        }
        if let Some(at) = &fields.absent {
            members.remove(at.index(names.len()));
        }
        let dressed = |bit: u8| fields.dress >> bit & 1 == 1;
        if dressed(0) {
            let first = fields.seed as usize % members.len();
            members.rotate_left(first);
        }
        if dressed(1)
            && let Some((name, _)) = members.first_mut()
        {
            *name = format!("\\u{:04x}{}", u32::from(name.as_bytes()[0]), &name[1..]);
        }
        if dressed(2) {
            members.insert(members.len() / 2, ("more".to_owned(), r#"{"id":9,"at":[{"store":"no"},"}\"]",-1.5e+3]}"#.to_owned()));
        }
        if dressed(3) && dressed(4) {
            members.insert(0, ("x".repeat(70), format!("\"{}\"", "long ".repeat(fields.seed as usize % 9_000))));
        }
        let space = if dressed(5) { " " } else { "" };
        let members: Vec<String> =
            members.into_iter().map(|(name, value)| format!("{space}\"{name}\"{space}:{space}{value}{space}")).collect();
        format!("{space}{{{}}}{space}", members.join(","))
    }
}

fn damage(bytes: &mut Vec<u8>, flaw: &Flaw) {
    let place = |at: &Index| at.index(bytes.len() + 1);
    let range = |at: &Index, length: u8| {
        let start = at.index(bytes.len() + 1);
        start..(start + usize::from(length % 24) + 1).min(bytes.len())
    };
    match flaw {
        Flaw::Insert(at, what) => {
            let at = place(at);
            bytes.splice(at..at, FRAGMENTS[what.index(FRAGMENTS.len())].bytes());
        }
        Flaw::Replace(at, what) => {
            let at = range(at, 0);
            bytes[at].fill(BYTES[usize::from(*what) % BYTES.len()]);
        }
        Flaw::Cut(at, length) => drop(bytes.drain(range(at, *length))),
        Flaw::Twice(at, length) => {
            let range = range(at, *length);
            let again = bytes[range.clone()].to_vec();
            bytes.splice(range.start..range.start, again);
        }
        Flaw::End(at) => bytes.truncate(place(at)),
        Flaw::CarriageReturn => bytes.push(b'\r'),
    }
}
