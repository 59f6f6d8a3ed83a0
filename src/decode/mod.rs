//! Bytes to changes and clicks, or a reason why not. One file per envelope, all behind [`Decoder`].
//!
//! ```text
//! record (key, value) ──► envelope: operation, row, version ──► projection: key, cell, product, amount, window ──► Decoded
//!                                   └──────────── any mistake ────────────────────────────────────────────────► Reject
//! ```
//!
//! Upholds: no byte sequence panics or stops anything; what is refused says why; only the needed fields are looked at, but all
//! of the JSON (or Avro) is checked, so that a record is good or bad whatever fields a job needs.
//! Keeps: scratch space only. Absent on purpose: I/O, clocks, and any state that outlives a record but the schemas it was written by.

pub mod avro;
pub mod json;
pub mod values;

mod auto;
mod base64;
mod canal;
mod click;
mod debezium;
mod dms;
mod extended_json;
mod flattened;
mod keys;
mod maxwell;
mod mongo_update;
mod mongodb;
mod paths;
mod positions;
mod project;
mod scan;
mod schema;
mod space;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod told;
mod upsert;
mod version;

use std::borrow::Cow;
use std::sync::Arc;

use storeflow_dataflows::change::{Version, What};
use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::key::{Hashing, Key, Text};

use self::avro::Schemas;
use self::json::Value;
pub use self::keys::KeyParts;
pub(crate) use self::keys::texts as key_texts;
pub use self::paths::FIELDS_MAX;
pub(crate) use self::space::lookup as lookup_beginning;
pub use self::space::lookup_key_prefix;
use crate::config::{Format, Job, Role, SourceSpec};

/// The message of a record, as the source hands it over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// The message key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Key and value are known to be valid UTF-8.
    pub utf8: bool,
}

/// What a good record says.
#[derive(Debug, PartialEq)]
pub enum Decoded {
    /// A click.
    Click(Click),
    /// A change of a row.
    Change(RowChange),
    /// Several changes of rows, in their order: rows of one message, or the old and the new key of one row.
    Changes(Vec<RowChange>),
    /// The table was emptied.
    Truncate(Truncate),
    /// Nothing to do, by intention.
    Skipped(Skipped),
}

/// A click, ready to be counted.
#[derive(Debug, PartialEq)]
pub struct Click {
    /// Store and kind.
    pub cell: Key,
    /// The product where distinct ones are kept; empty for none.
    pub product: Text,
    /// Event time, milliseconds.
    pub time: u64,
    /// Where clicks that are told twice count once: source and event id.
    pub event: Option<Text>,
}

/// A change, without its place in the log.
#[derive(Debug, PartialEq)]
pub struct RowChange {
    /// Key space and primary key.
    pub key: Key,
    /// Source version, if the record has one.
    pub version: Option<Version>,
    /// The version is the place at which a snapshot read the row, not that of a change.
    pub read: bool,
    /// Delete, row or patch.
    pub what: What,
}

/// That a table was emptied.
#[derive(Debug, PartialEq)]
pub struct Truncate {
    /// The beginning of its keys' texts.
    pub space: Text,
    /// Source version, if the record has one.
    pub version: Option<Version>,
}

/// Why a good record has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// A null value behind a delete.
    Tombstone,
    /// A table that no source of the job reads.
    OtherTable,
    /// A connector's sign of life.
    Heartbeat,
    /// A change of a table's columns, or of what tables there are.
    SchemaChange,
    /// Where a transaction begins or ends.
    Transaction,
    /// A logical message in PostgreSQL's log.
    Message,
    /// A row of a connector's signal table.
    Signal,
    /// Where a bootstrap begins or ends.
    Bootstrap,
    /// Anything else without data.
    Control,
}

impl Skipped {
    /// All kinds.
    pub const ALL: [Skipped; 9] = [
        Skipped::Tombstone,
        Skipped::OtherTable,
        Skipped::Heartbeat,
        Skipped::SchemaChange,
        Skipped::Transaction,
        Skipped::Message,
        Skipped::Signal,
        Skipped::Bootstrap,
        Skipped::Control,
    ];

    /// The name in metrics and logs.
    pub fn code(self) -> &'static str {
        match self {
            Skipped::Tombstone => "tombstone",
            Skipped::OtherTable => "other_table",
            Skipped::Heartbeat => "heartbeat",
            Skipped::SchemaChange => "schema_change",
            Skipped::Transaction => "transaction",
            Skipped::Message => "message",
            Skipped::Signal => "signal",
            Skipped::Bootstrap => "bootstrap",
            Skipped::Control => "control",
        }
    }
}

/// A decoded record with the message's own time.
#[derive(Debug, PartialEq)]
pub struct Record {
    /// What it says.
    pub decoded: Decoded,
    /// The message's own time in milliseconds, the record timestamp where the log has none.
    pub own_time: Option<u64>,
}

/// Why a record is a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.code())]
pub struct Reject {
    /// The class, part of the public interface.
    pub reason: Reason,
    /// For people.
    pub detail: String,
}

impl Reject {
    /// A reject with words for people.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Reject { reason, detail: detail.into() }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $code:literal,)*) => {
        /// Classes of dead letters.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $doc])* $variant,)* }

        impl Reason {
            /// All classes.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The code in files, logs and metrics.
            pub fn code(self) -> &'static str {
                match self { $(Reason::$variant => $code,)* }
            }
        }
    };
}

reasons! {
    /// A kcat envelope whose fields are not what kcat writes.
    Envelope = "envelope",
    /// Not UTF-8.
    NotUtf8 = "not_utf8",
    /// Not JSON, or nested too deep.
    NotJson = "not_json",
    /// JSON, but not the object the format asks for.
    NotAnObject = "not_an_object",
    /// A field the job needs is not there.
    MissingField = "missing_field",
    /// An id that is null, empty, or neither text nor an integer.
    BadId = "bad_id",
    /// An amount that is no decimal number.
    BadAmount = "bad_amount",
    /// An amount with more digits than the job's scale.
    AmountPrecision = "amount_precision",
    /// An amount beyond 10^26 minor units.
    AmountRange = "amount_range",
    /// A quantity that is no whole number in range.
    BadQuantity = "bad_quantity",
    /// A currency that is not text, or missing without a default.
    BadCurrency = "bad_currency",
    /// A time that is not of the declared unit.
    BadTime = "bad_time",
    /// A time outside 1970 to 2200.
    TimeRange = "time_range",
    /// A change without the row it must carry.
    MissingRow = "missing_row",
    /// A message key that does not hold the row's key.
    MissingKey = "missing_key",
    /// An unknown operation.
    BadOp = "bad_op",
    /// A floating-point number where the source does not allow it.
    Float = "float",
    /// A composed id of which a patch says only a part.
    PartialId = "partial_id",
    /// A schema that the registry does not know.
    UnknownSchema = "unknown_schema",
    /// Bytes that are not of their Avro schema.
    BadAvro = "bad_avro",
}

/// Decodes the records of one source.
pub struct Decoder {
    role: Role,
    envelope: Envelope,
}

enum Envelope {
    Avro(Box<avro::Avro>),
    Click(Box<click::Clicks>),
    Debezium(Box<debezium::Debezium>),
    Flattened(Box<flattened::Flattened>),
    Dms(Box<dms::Dms>),
    Maxwell(Box<maxwell::Maxwell>),
    Canal(Box<canal::Canal>),
    Mongodb(Box<mongodb::Mongodb>),
    Auto(Box<auto::Auto>),
    Upsert(Box<upsert::Upsert>),
}

impl Decoder {
    /// A decoder for one source of a job and one of its topics. `key_space` names where its keys are unique, the same for equal spaces;
    /// the keys of lookups do without.
    pub fn new(job: &Job, spec: &SourceSpec, topic: &str, key_space: u32) -> Self {
        let envelope = match spec.format {
            Format::Json => Envelope::Click(Box::new(click::Clicks::new(spec, topic))),
            Format::Debezium => Envelope::Debezium(Box::new(debezium::Debezium::new(job, spec, topic, key_space))),
            Format::Flattened => Envelope::Flattened(Box::new(flattened::Flattened::new(job, spec, topic, key_space))),
            Format::Upsert => Envelope::Upsert(Box::new(upsert::Upsert::new(job, spec, topic, key_space))),
            Format::Dms => Envelope::Dms(Box::new(dms::Dms::new(job, spec, topic, key_space))),
            Format::Maxwell => Envelope::Maxwell(Box::new(maxwell::Maxwell::new(job, spec, topic, key_space))),
            Format::Canal => Envelope::Canal(Box::new(canal::Canal::new(job, spec, topic, key_space))),
            Format::Mongodb => Envelope::Mongodb(Box::new(mongodb::Mongodb::new(job, spec, topic, key_space))),
            Format::Auto => Envelope::Auto(Box::new(auto::Auto::new(job, spec, topic, key_space))),
            Format::Avro => Envelope::Avro(Box::new(avro::Avro::new(job, spec, topic, key_space))),
        };
        Decoder { role: spec.role, envelope }
    }

    /// The same, reading Avro by these schemas.
    #[must_use]
    pub fn with_schemas(mut self, schemas: &Arc<Schemas>) -> Self {
        if let Envelope::Avro(avro) = &mut self.envelope {
            avro.set_schemas(schemas);
        }
        self
    }

    /// The id of a schema that must be known before the message can be decoded, and is not known yet. Decoded all the same, it is a dead letter.
    #[inline]
    pub fn needs(&mut self, message: Message<'_>) -> Option<u32> {
        match &mut self.envelope {
            Envelope::Avro(avro) => avro.needs(message),
            _ => None,
        }
    }

    /// What the rows of this source are.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Decodes one record.
    ///
    /// # Errors
    /// The reason why it is a dead letter.
    pub fn decode(&mut self, message: Message<'_>) -> Result<Record, Reject> {
        let value = message.value.filter(|value| !value.is_empty());
        let text = !matches!(self.envelope, Envelope::Avro(_));
        for bytes in [message.key, value].into_iter().flatten() {
            if text && !message.utf8 && simdutf8::basic::from_utf8(bytes).is_err() {
                return Err(Reject::new(Reason::NotUtf8, "the message is not UTF-8"));
            }
        }
        match &mut self.envelope {
            Envelope::Avro(avro) => avro.decode(message.key, value),
            Envelope::Click(clicks) => clicks.decode(value),
            Envelope::Debezium(debezium) => debezium.decode(message.key, value),
            Envelope::Flattened(flattened) => flattened.decode(message.key, value),
            Envelope::Dms(dms) => dms.decode(value),
            Envelope::Maxwell(maxwell) => maxwell.decode(value),
            Envelope::Canal(canal) => canal.decode(value),
            Envelope::Mongodb(mongodb) => mongodb.decode(value),
            Envelope::Auto(auto) => auto.decode(message.key, value),
            Envelope::Upsert(upsert) => upsert.decode(message.key, value),
        }
    }
}

/// How texts are hashed, for the dataflow.
pub const HASHING: Hashing = Hashing { row: row_hash, cell: cell_key };

impl Record {
    /// A record of one change.
    fn change(key: Key, version: Option<Version>, what: What, own_time: Option<u64>) -> Record {
        Record { decoded: Decoded::Change(RowChange { key, version, read: false, what }), own_time }
    }

    /// A record of a change of a row that had the key `old` before, if it has moved.
    fn moved(old: Option<Key>, change: RowChange, own_time: Option<u64>) -> Record {
        let decoded = match old {
            None => Decoded::Change(change),
            Some(key) => {
                Decoded::Changes(vec![RowChange { key, version: change.version, read: false, what: What::Delete }, change])
            }
        };
        Record { decoded, own_time }
    }

    /// A record without an effect.
    fn skipped(why: Skipped, own_time: Option<u64>) -> Record {
        Record { decoded: Decoded::Skipped(why), own_time }
    }
}

/// A message's own time that a clock can take.
fn clock_time(millis: i128) -> Option<u64> {
    values::in_range(millis).filter(|&time| time > 0)
}

/// A message's own time from a value that is an integer.
fn clock_millis(value: Value<'_>) -> Option<u64> {
    match value {
        Value::Number(text) => values::integer(text).and_then(clock_time),
        _ => None,
    }
}

/// A message's own time from a value that is an integer, in seconds.
fn clock_seconds(value: Value<'_>) -> Option<u64> {
    match value {
        Value::Number(text) => values::integer(text).and_then(|seconds| clock_time(seconds.saturating_mul(1_000))),
        _ => None,
    }
}

/// A message's own time from what was read as a time, unless it is none at all; one that is beyond any clock leaves the message
/// without.
fn clock_read(read: Result<u64, Reject>) -> Option<Option<u64>> {
    match read {
        Ok(time) => Some(clock_time(time.into())),
        Err(reject) if reject.reason == Reason::TimeRange => Some(None),
        Err(_) => None,
    }
}

/// Of two values the first that is an integer.
fn integer_of<'a>(first: Value<'a>, second: Value<'a>) -> Value<'a> {
    match first {
        Value::Number(text) if values::integer(text).is_some() => first,
        _ => second,
    }
}

/// Whether an object has a member, be it null.
fn is_there(value: Value<'_>) -> bool {
    value != Value::Absent
}

/// A number from 0 to 2^64 - 1.
fn unsigned(value: Value<'_>) -> Option<u64> {
    match value {
        Value::Number(text) => values::integer(text).and_then(|number| u64::try_from(number).ok()),
        _ => None,
    }
}

/// The text of a string; empty for anything else.
fn text_of(value: Value<'_>) -> Cow<'_, [u8]> {
    match value {
        Value::Plain(text) => Cow::Borrowed(text),
        Value::Escaped(text) => Cow::Owned(json::unescape(text)),
        _ => Cow::Borrowed(&[]),
    }
}

/// The stable hash of a row's key.
fn row_hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// The key of a cell: its shard is that of the store alone, so that a store is wholly in one place.
pub fn cell_key(store: &[u8], second: &[u8], scratch: &mut Vec<u8>) -> Key {
    Key::cell_bytes(store, second, scratch);
    let shard = xxhash_rust::xxh3::xxh3_64(store) >> 54 << 54;
    Key { hash: shard | xxhash_rust::xxh3::xxh3_64(scratch) >> 10, text: Text::new(scratch) }
}

/// The job's settings that projections need.
#[derive(Clone, Debug)]
struct Settings {
    horizons: Horizons,
    scale: u32,
    currency: Option<String>,
}

impl Settings {
    fn new(job: &Job) -> Self {
        Settings { horizons: job.horizons, scale: job.scale, currency: job.currency.clone() }
    }
}

fn not_json(error: json::JsonError) -> Reject {
    Reject::new(Reason::NotJson, error.to_string())
}

fn not_an_object(what: &str) -> Reject {
    Reject::new(Reason::NotAnObject, format!("{what} is not a JSON object"))
}
