//! Makes datasets: a simulated mall whose databases and sites write the four topics of the job "mall".
//!
//! ```text
//! Options ─► mall (stores, products, orders) ─► payments, order_items, products ─► connector ─► partition files
//!                      │                         (life of every row, by schedule)  (positions,      ▲
//!                      └───────────────────────► clicks (sessions) ─────────────────duplicates)─────┘
//! ```
//!
//! Upholds: the same options and seed give byte-identical files on every machine; the bytes of a topic do not depend on which
//! other topics are made; a dataset whose shares are all zero is clean: every record decodes and is in time.
//! Keeps, whatever the number of records: one small entry per row that still has a change to come, and one per product.
//! Absent on purpose: what the numbers should be. Expected results come from an independent recomputation, not from here.

mod clicks;
mod connector;
mod envelope;
mod job;
mod life;
mod mall;
mod order_items;
mod payments;
mod products;
mod random;
mod schema;
mod summary;
mod table;
mod text;
mod traffic;
mod writer;

use std::io;
use std::path::PathBuf;

pub use random::{Share, ShareError};
pub use summary::{Counts, Summary, TopicSummary};
use traffic::Traffic;

/// What to make.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Folder of the dataset.
    pub out: PathBuf,
    /// Replaces a former dataset in `out`; otherwise `out` must be empty or not exist.
    pub force: bool,
    /// Topics to make.
    pub topics: Vec<Topic>,
    /// Number of stores, at least 1.
    pub stores: u32,
    /// Number of products in the initial snapshot, at least 1.
    pub products: u32,
    /// Number of payments, each of an order with one to four items.
    pub payments: u64,
    /// Number of clicks.
    pub clicks: u64,
    /// Length of the dataset.
    pub hours: u32,
    /// First instant, milliseconds since 1970.
    pub start_ms: i64,
    /// Partitions of every topic.
    pub partitions: u32,
    /// Where all chance comes from.
    pub seed: u64,
    /// How records are written down.
    pub envelope: Envelope,
    /// Wraps Debezium keys and values in their Connect schema.
    pub schema: bool,
    /// Compression of the partition files.
    pub compression: Compression,
    /// How much of each kind of trouble.
    pub shares: Shares,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            out: PathBuf::from("mall"),
            force: false,
            topics: Topic::ALL.to_vec(),
            stores: 300,
            products: 5_000,
            payments: 20_000,
            clicks: 100_000,
            hours: 24,
            // 2026-11-20T00:00:00Z
            start_ms: 1_795_132_800_000,
            partitions: 4,
            seed: 1,
            envelope: Envelope::Mixed,
            schema: false,
            compression: Compression::None,
            shares: Shares::default(),
        }
    }
}

/// A topic of the mall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// `mall.payments`: Debezium MySQL.
    Payments,
    /// `mall.order_items`: upsert JSON.
    OrderItems,
    /// `mall.products`: Debezium PostgreSQL.
    Products,
    /// `mall.clicks`: JSON events.
    Clicks,
}

impl Topic {
    /// All, in the order of the job file.
    pub const ALL: [Topic; 4] = [Topic::Payments, Topic::OrderItems, Topic::Products, Topic::Clicks];

    /// The topic's name, which is its folder's.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Payments => "mall.payments",
            Topic::OrderItems => "mall.order_items",
            Topic::Products => "mall.products",
            Topic::Clicks => "mall.clicks",
        }
    }
}

/// How records are written down. Order items are always in kcat envelopes: an upsert without its message key says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// CDC topics in kcat envelopes, clicks as bare values.
    Mixed,
    /// Everything in kcat envelopes.
    Kcat,
    /// Values only, wherever that is possible.
    Bare,
}

/// Compression of partition files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `.ndjson`
    None,
    /// `.ndjson.zst`
    Zstd,
    /// `.ndjson.gz`
    Gzip,
    /// The first partition plain, the last gzip, those between zstd.
    Mixed,
}

/// How much of each kind of trouble, as a share of the rows (or clicks) it can happen to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Rows changed once more after they were created: paid, corrected, sold out.
    pub updates: Share,
    /// Rows deleted in the end.
    pub deletes: Share,
    /// Payments refunded, wholly or partly, and order items returned.
    pub refunds: Share,
    /// Rows that move to another store.
    pub store_moves: Share,
    /// Rows and clicks whose event time is in a closed window; one in eight of them is beyond retention.
    pub late: Share,
    /// Rows and clicks whose event time lies seconds or minutes before those around them.
    pub out_of_order: Share,
    /// CDC records sent again in swaths, as after the restart of a connector.
    pub duplicates: Share,
    /// Records followed by a broken copy of themselves.
    pub malformed: Share,
}

impl Shares {
    /// No change after creation and no trouble at all.
    pub const NONE: Shares = Shares {
        updates: Share::ZERO,
        deletes: Share::ZERO,
        refunds: Share::ZERO,
        store_moves: Share::ZERO,
        late: Share::ZERO,
        out_of_order: Share::ZERO,
        duplicates: Share::ZERO,
        malformed: Share::ZERO,
    };
}

impl Default for Shares {
    fn default() -> Self {
        Shares {
            updates: Share::millionths(600_000),
            deletes: Share::millionths(20_000),
            refunds: Share::millionths(40_000),
            store_moves: Share::millionths(5_000),
            late: Share::millionths(5_000),
            out_of_order: Share::millionths(50_000),
            duplicates: Share::millionths(10_000),
            malformed: Share::millionths(500),
        }
    }
}

/// Why no dataset was made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// An option has a value nothing can be made with.
    #[error("{option} is {value}: it must be {allowed}")]
    Option {
        /// The option, as it is typed.
        option: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// There is something already.
    #[error("the folder \"{}\" is not empty: choose another, or replace the dataset in it with --force", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// A file or folder could not be written.
    #[error("could not {what} \"{}\"", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Makes a dataset and its job file, whole or not at all.
pub fn generate(options: &Options) -> Result<Summary, GenerateError> {
    check(options)?;
    let traffic = Traffic::new(options.start_ms, options.hours);
    let mall = mall::Mall::new(options);
    let mut dataset = writer::Dataset::begin(&options.out, options.force)?;
    let mut summary = Summary { topics: Vec::new() };
    for topic in Topic::ALL.into_iter().filter(|topic| options.topics.contains(topic)) {
        let partitions = dataset.topic(topic, options.partitions, options.compression)?;
        let write = match topic {
            Topic::Payments => payments::write,
            Topic::OrderItems => order_items::write,
            Topic::Products => products::write,
            Topic::Clicks => clicks::write,
        };
        summary.topics.push(write(options, &mall, &traffic, partitions)?);
    }
    dataset.finish(&job::file(options))?;
    Ok(summary)
}

fn check(options: &Options) -> Result<(), GenerateError> {
    let limit = |option, value: u64, least: u64, most: u64, allowed| {
        let fits = (least..=most).contains(&value);
        if fits { Ok(()) } else { Err(GenerateError::Option { option, value: value.to_string(), allowed }) }
    };
    limit("--stores", options.stores.into(), 1, 10_000_000, "1 to 10000000")?;
    limit("--products", options.products.into(), 1, 100_000_000, "1 to 100000000")?;
    limit("--payments", options.payments, 0, 10_000_000_000, "at most 10000000000")?;
    limit("--clicks", options.clicks, 0, 100_000_000_000, "at most 100000000000")?;
    limit("--hours", options.hours.into(), 1, 8_784, "1 to 8784 (a year)")?;
    limit("--partitions", options.partitions.into(), 1, 512, "1 to 512")?;
    limit("--topics", options.topics.len() as u64, 1, 99, "at least one topic")?;
    // Late events reach days back, and event times must stay between 1970 and 2200.
    if !(30 * traffic::DAY_MS..7_000_000_000_000).contains(&options.start_ms) {
        let value = format!("{} ms since 1970", options.start_ms);
        return Err(GenerateError::Option { option: "--start", value, allowed: "from 1970-02 to 2191" });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
