//! What will run: the job, checked and resolved.
//!
//! [`Job`] is built once, by [`load`](job_file::load) from a TOML job file; nothing after it looks at TOML again.
//! Absent on purpose: anything typed on the command line (see `cli`), and any value that is not yet valid.

pub mod job_file;
pub mod key_file;

mod advice;
mod diagnostics;
pub(crate) mod duration;
pub mod field_path;
mod fields;
pub(crate) mod kafka;
mod lookups;
mod pattern;
mod schema_registry;
mod source;
mod time;
mod to_toml;
mod topics;
pub mod zone;

use std::collections::{BTreeMap, BTreeSet};

use storeflow_dataflows::epoch::Horizons;

use self::field_path::{FieldPath, IdSpec};
pub use self::pattern::matches_pattern;

/// A job, complete and valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Name; letters, digits, `-` and `_`, as it becomes part of paths and keys.
    pub name: String,
    /// Window, grace, retention, replay horizon.
    pub horizons: Horizons,
    /// Decimal digits of money, 0 to 18.
    pub scale: u32,
    /// Currency where a source names none.
    pub currency: Option<String>,
    /// IANA zone of "today" in the API.
    pub timezone: String,
    /// Sources in file order.
    pub sources: Vec<SourceSpec>,
    /// `[kafka]`.
    pub kafka: KafkaSpec,
    /// `[schema_registry]`; there if and only if a source is Avro.
    pub schema_registry: Option<RegistrySpec>,
}

/// `[schema_registry]`: where the schemas of Avro records are.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistrySpec {
    /// Its address, `http://…` or `https://…`, without user and password.
    pub url: String,
    /// Who asks; there if and only if there is a password.
    pub username: Option<String>,
    /// Where the password is, `env:NAME` or `file:PATH`; never itself.
    pub password: Option<String>,
}

/// `[kafka]`: how topics are reached, unless the command line says otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KafkaSpec {
    /// `host:port`, separated by commas; the default of `--brokers`.
    pub brokers: Option<String>,
    /// Properties of librdkafka by name, each once. Secrets are `env:NAME` or `file:PATH`, never themselves.
    pub options: Vec<(String, String)>,
}

/// One `[[source]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSpec {
    /// Topic names or patterns (`*` matches any run of characters, `{name}` one of at least one character that it captures).
    pub topics: Vec<String>,
    /// What its rows are.
    pub role: Role,
    /// Of a lookup: the name by which others refer to it.
    pub name: Option<String>,
    /// The envelope.
    pub format: Format,
    /// Fields of the primary key; empty for clicks.
    pub key: Vec<FieldPath>,
    /// Whether equal keys of several topics are the same row.
    pub key_space: KeySpace,
    /// Number that tells it from the other sources of its topics, wherever it stands in the file. A job that goes on from a
    /// checkpoint gives each source the number it had.
    pub slot: usize,
    /// The store.
    pub store: StoreSpec,
    /// The amount (payments).
    pub amount: Option<MeasureSpec>,
    /// The currency (payments); `None`: the job's currency.
    pub currency: Option<IdSpec>,
    /// The product id (order items; clicks, optional).
    pub product: Option<IdSpec>,
    /// The quantity (order items).
    pub quantity: Option<MeasureSpec>,
    /// The click's kind.
    pub kind: Option<IdSpec>,
    /// Field and encoding of event time; `None` for products, lookups without one, and rows whose time is the lookup row's.
    pub time: Option<TimeSpec>,
    /// Field to accepted texts; all must match for a row to count. At most 16.
    pub counts_when: BTreeMap<FieldPath, Vec<String>>,
    /// Whether distinct products of clicks are kept.
    pub distinct: bool,
    /// Clicks that are told twice within a horizon count once.
    pub dedup: Option<DedupSpec>,
    /// Only records of this table; see docs/formats.md.
    pub table: Option<String>,
    /// Whether floating-point amounts and quantities count, by their decimal text.
    pub allow_float: bool,
    /// What a field says that the row does not have.
    pub absent: Absent,
    /// A part of the incarnation of all source versions: another text makes them incomparable with those before.
    pub incarnation: Option<String>,
    /// Of a lookup: how long after its last change a row is kept, milliseconds; `None`: until it is deleted.
    pub keep: Option<u64>,
    /// What moves a partition's clock when no record does.
    pub clock: ClockMode,
    /// When a quiet partition counts as caught up.
    pub idle: Idle,
}

/// Where a row's store is.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreSpec {
    /// In the row.
    Own(IdSpec),
    /// In the row of a lookup that the row refers to.
    Through {
        /// The lookup's name.
        lookup: String,
        /// The fields that hold its key.
        on: Vec<FieldPath>,
    },
}

impl StoreSpec {
    /// How the row's own store is made, if it has one.
    pub fn own(&self) -> Option<&IdSpec> {
        match self {
            StoreSpec::Own(id) => Some(id),
            StoreSpec::Through { .. } => None,
        }
    }
}

/// A number of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasureSpec {
    /// The field.
    pub field: FieldPath,
    /// How it is written.
    pub decimal: Decimal,
}

impl<T: Into<String>> From<T> for MeasureSpec {
    fn from(name: T) -> Self {
        MeasureSpec { field: FieldPath::field(name), decimal: Decimal::Text }
    }
}

/// How a decimal is written where no schema says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decimal {
    /// As a JSON number, or as a string that is one.
    Text,
    /// As base64 of a big-endian two's complement integer, in units of 10^-scale.
    Base64 {
        /// The scale, 0 to 38.
        scale: u32,
    },
}

/// How clicks that are told twice are known.
#[derive(Clone, Debug, PartialEq)]
pub struct DedupSpec {
    /// The event id.
    pub id: IdSpec,
    /// How long an id is remembered from the click that counted, milliseconds of log time.
    pub horizon: u64,
}

/// What a field says that the row does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It is missing: a dead letter where it is needed.
    Missing,
    /// It is as it was.
    Unchanged,
}

/// What the rows of a source are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Payments: sums and counts per currency.
    Payments,
    /// Items of orders: quantities and distinct products.
    OrderItems,
    /// Products: how many are on sale now.
    Products,
    /// Clicks: counts by kind, and distinct products.
    Clicks,
    /// Rows that others find their store through.
    Lookup,
}

/// Envelope of a source's messages; see docs/formats.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Debezium JSON, with or without its schema wrapper.
    Debezium,
    /// Debezium's `ExtractNewRecordState`.
    Flattened,
    /// AWS DMS.
    Dms,
    /// Maxwell.
    Maxwell,
    /// Canal's FlatMessage.
    Canal,
    /// MongoDB change events.
    Mongodb,
    /// A row as JSON by message key; null deletes.
    Upsert,
    /// Avro with a schema registry.
    Avro,
    /// A bare JSON event (clicks).
    Json,
    /// Whatever each record is.
    Auto,
}

/// Where a key is unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeySpace {
    /// Within its topic.
    Topic,
    /// Within its role: topics are shards of one table.
    Role,
}

/// What moves the clock of a quiet partition that is read live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClockMode {
    /// The wall clock, on the answer that nothing is missing, as long as the last record is recent.
    Live,
    /// Records only.
    Records,
}

/// When a quiet partition counts as caught up, from the boldest to the most careful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Idle {
    /// When the broker holds nothing beyond what was read.
    Wall,
    /// When, besides, Debezium's heartbeat topic shows that its connector lives.
    Heartbeat,
    /// Never: it holds the frontier until its next record.
    Hold,
}

/// Where event time is and how it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeSpec {
    /// The field.
    pub field: FieldPath,
    /// Its encoding.
    pub unit: TimeUnit,
    /// The zone whose wall clock a number is, written as if it were UTC; `None`: it is an instant.
    pub zone: Option<String>,
}

/// Encoding of a time.
#[derive(Clone, Debug, PartialEq)]
pub enum TimeUnit {
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Millis,
    /// Microseconds since 1970.
    Micros,
    /// Nanoseconds since 1970.
    Nanos,
    /// Days since 1970.
    Days,
    /// RFC 3339 text.
    Rfc3339,
    /// As the record's schema says, or RFC 3339.
    Auto,
    /// Text by a `strptime` format (jiff's), in a zone if the text names none.
    Format {
        /// The format.
        format: String,
        /// IANA zone; `None`: UTC.
        zone: Option<String>,
    },
}

impl Role {
    /// The name in the job file.
    pub fn name(self) -> &'static str {
        match self {
            Role::Payments => "payments",
            Role::OrderItems => "order_items",
            Role::Products => "products",
            Role::Clicks => "clicks",
            Role::Lookup => "lookup",
        }
    }
}

impl Format {
    /// The name in the job file.
    pub fn name(self) -> &'static str {
        match self {
            Format::Debezium => "debezium",
            Format::Flattened => "flattened",
            Format::Dms => "dms",
            Format::Maxwell => "maxwell",
            Format::Canal => "canal",
            Format::Mongodb => "mongodb",
            Format::Upsert => "upsert",
            Format::Avro => "avro",
            Format::Json => "json",
            Format::Auto => "auto",
        }
    }
}

impl ClockMode {
    /// The name in the job file.
    pub fn name(self) -> &'static str {
        match self {
            ClockMode::Live => "live",
            ClockMode::Records => "records",
        }
    }
}

impl Idle {
    /// The name in the job file.
    pub fn name(self) -> &'static str {
        match self {
            Idle::Wall => "wall",
            Idle::Heartbeat => "heartbeat",
            Idle::Hold => "hold",
        }
    }
}

impl Job {
    /// Names this version of the job: a hash of what `storeflow check` prints of it, less `[kafka]`, which changes no record's meaning.
    pub fn version(&self) -> String {
        let text = Job { kafka: KafkaSpec::default(), ..self.clone() }.to_string();
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
    }

    /// How the quiet partitions of a topic are to be taken: of several sources that share it, the most careful words count.
    pub fn quiet(&self, topic: &str) -> (ClockMode, Idle) {
        let sources = || self.sources.iter().filter(|source| source.reads(topic));
        let clock = sources().map(|source| source.clock).max().unwrap_or(ClockMode::Live);
        let idle = sources().map(|source| source.idle).max().unwrap_or(Idle::Wall);
        (clock, idle)
    }
}

impl SourceSpec {
    /// A source that says nothing but this.
    pub fn plain(topic: impl Into<String>, role: Role, format: Format, store: impl Into<IdSpec>) -> Self {
        SourceSpec {
            topics: vec![topic.into()],
            role,
            name: None,
            format,
            key: Vec::new(),
            key_space: KeySpace::Topic,
            slot: 0,
            store: StoreSpec::Own(store.into()),
            amount: None,
            currency: None,
            product: None,
            quantity: None,
            kind: None,
            time: None,
            counts_when: BTreeMap::new(),
            distinct: false,
            dedup: None,
            table: None,
            allow_float: false,
            absent: Absent::Missing,
            incarnation: None,
            keep: None,
            clock: ClockMode::Live,
            idle: Idle::Wall,
        }
    }

    /// Whether this source reads `topic`.
    pub fn reads(&self, topic: &str) -> bool {
        self.topics.iter().any(|pattern| matches_pattern(pattern, topic))
    }

    /// The fields that this source needs of a row, each once.
    pub fn fields(&self) -> BTreeSet<&FieldPath> {
        let ids = [self.store.own(), self.currency.as_ref(), self.product.as_ref(), self.kind.as_ref()];
        let ids = ids.into_iter().flatten().chain(self.dedup.as_ref().map(|dedup| &dedup.id)).flat_map(IdSpec::fields);
        let on = if let StoreSpec::Through { on, .. } = &self.store { &on[..] } else { &[] };
        let measures = self.amount.iter().chain(&self.quantity).map(|measure| &measure.field);
        let others = measures.chain(self.time.as_ref().map(|time| &time.field)).chain(self.counts_when.keys());
        self.key.iter().chain(ids).chain(on).chain(others).collect()
    }

    /// The names that this source's topics capture, with what `topic` has in their place: in the order of the first pattern that matches.
    /// `None`: this source does not read it.
    pub fn captures(&self, topic: &str) -> Option<Vec<(String, String)>> {
        self.topics.iter().find_map(|pattern| pattern::captures(pattern, topic))
    }

    /// Whether any of this source's topics captures a name.
    pub(crate) fn is_captured(&self, name: &str) -> bool {
        self.topics.iter().any(|topic| pattern::names(topic).any(|captured| captured == name))
    }
}
