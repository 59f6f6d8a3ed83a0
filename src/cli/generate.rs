//! `storeflow generate`: a dataset of a simulated mall, with its job file.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;

use super::Failure;
use crate::generate::{self, Compression, Envelope, Options, Share, Shares, Summary, Topic};

/// Makes a dataset of a simulated mall to replay: payments, order items, products and clicks, with all the trouble real
/// topics have, and the job file that goes with it. The same options and seed give the same bytes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder to make; it must be empty or not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace a former dataset in DIR
    #[arg(long)]
    force: bool,
    /// Topics to make
    #[arg(long, value_enum, value_delimiter = ',', default_value = "payments,order-items,products,clicks")]
    topics: Vec<TopicArg>,
    /// Where all chance comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,

    #[command(flatten)]
    sizes: SizeArgs,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    shares: ShareArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How much")]
struct SizeArgs {
    /// Stores; a few are busy, most are quiet
    #[arg(long, default_value_t = 300)]
    stores: u32,
    /// Products in the initial snapshot; one in twenty more are added later
    #[arg(long, default_value_t = 5_000)]
    products: u32,
    /// Payments, each of an order with one to four order items
    #[arg(long, default_value_t = 20_000)]
    payments: u64,
    /// Clicks
    #[arg(long, default_value_t = 100_000)]
    clicks: u64,
    /// Hours the dataset covers
    #[arg(long, default_value_t = 24)]
    hours: u32,
    /// First instant, RFC 3339
    #[arg(long, default_value = "2026-11-20T00:00:00Z", value_name = "TIME")]
    start: jiff::Timestamp,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How it is written down")]
struct FormArgs {
    /// Partitions of every topic
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Clicks in kcat envelopes too (`kcat -C -J`: offset, time, key, payload); CDC topics always are, unless --bare
    #[arg(long, conflicts_with = "bare")]
    kcat: bool,
    /// Payments and products as bare values, without kcat envelopes; order items keep theirs, for their keys
    #[arg(long)]
    bare: bool,
    /// Wrap Debezium keys and values in their Connect schema
    #[arg(long)]
    schema: bool,
    /// Compression of partition files; mixed: the first plain, the last gzip, those between zstd
    #[arg(long, value_enum, default_value = "none")]
    compress: CompressArg,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Changes and trouble (shares from 0 to 1)")]
struct ShareArgs {
    /// Rows changed once more after they were created: paid, corrected, sold out [default: 0.6]
    #[arg(long, value_name = "SHARE")]
    updates: Option<Share>,
    /// Rows deleted in the end [default: 0.02]
    #[arg(long, value_name = "SHARE")]
    deletes: Option<Share>,
    /// Payments refunded, wholly or partly, and order items returned [default: 0.04]
    #[arg(long, value_name = "SHARE")]
    refunds: Option<Share>,
    /// Rows that move to another store [default: 0.005]
    #[arg(long, value_name = "SHARE")]
    store_moves: Option<Share>,
    /// Rows and clicks whose event time is in a closed window, one in eight of them beyond retention [default: 0.005]
    #[arg(long, value_name = "SHARE")]
    late: Option<Share>,
    /// Rows and clicks whose event time is seconds or minutes before those around them [default: 0.05]
    #[arg(long, value_name = "SHARE")]
    out_of_order: Option<Share>,
    /// CDC records sent again in swaths with the same source positions, as after a connector's restart [default: 0.01]
    #[arg(long, value_name = "SHARE")]
    duplicates: Option<Share>,
    /// Records followed by a broken copy: cut off, not UTF-8, wrong types, no store, too many digits [default: 0.0005]
    #[arg(long, value_name = "SHARE")]
    malformed: Option<Share>,
    /// No trouble: late, out-of-order, duplicates and malformed are 0 where they are not given
    #[arg(long)]
    clean: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TopicArg {
    Payments,
    #[value(alias = "order_items")]
    OrderItems,
    Products,
    Clicks,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompressArg {
    None,
    Zstd,
    Gzip,
    Mixed,
}

impl From<TopicArg> for Topic {
    fn from(arg: TopicArg) -> Topic {
        match arg {
            TopicArg::Payments => Topic::Payments,
            TopicArg::OrderItems => Topic::OrderItems,
            TopicArg::Products => Topic::Products,
            TopicArg::Clicks => Topic::Clicks,
        }
    }
}

impl From<CompressArg> for Compression {
    fn from(arg: CompressArg) -> Compression {
        match arg {
            CompressArg::None => Compression::None,
            CompressArg::Zstd => Compression::Zstd,
            CompressArg::Gzip => Compression::Gzip,
            CompressArg::Mixed => Compression::Mixed,
        }
    }
}

impl ShareArgs {
    fn resolve(&self) -> Shares {
        let usual = Shares::default();
        let trouble = |share: Option<Share>, usual| share.unwrap_or(if self.clean { Share::ZERO } else { usual });
        Shares {
            updates: self.updates.unwrap_or(usual.updates),
            deletes: self.deletes.unwrap_or(usual.deletes),
            refunds: self.refunds.unwrap_or(usual.refunds),
            store_moves: self.store_moves.unwrap_or(usual.store_moves),
            late: trouble(self.late, usual.late),
            out_of_order: trouble(self.out_of_order, usual.out_of_order),
            duplicates: trouble(self.duplicates, usual.duplicates),
            malformed: trouble(self.malformed, usual.malformed),
        }
    }
}

impl Args {
    fn resolve(&self) -> Options {
        let envelope = match (self.form.kcat, self.form.bare) {
            (true, _) => Envelope::Kcat,
            (_, true) => Envelope::Bare,
            _ => Envelope::Mixed,
        };
        Options {
            out: self.out.clone(),
            force: self.force,
            topics: self.topics.iter().map(|topic| Topic::from(*topic)).collect(),
            stores: self.sizes.stores,
            products: self.sizes.products,
            payments: self.sizes.payments,
            clicks: self.sizes.clicks,
            hours: self.sizes.hours,
            start_ms: self.sizes.start.as_millisecond(),
            partitions: self.form.partitions,
            seed: self.seed,
            envelope,
            schema: self.form.schema,
            compression: self.form.compress.into(),
            shares: self.shares.resolve(),
        }
    }
}

/// Makes the dataset and says what is in it.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let options = args.resolve();
    let summary = generate::generate(&options)?;
    print(&options, &summary).context("could not print the summary")?;
    Ok(())
}

fn print(options: &Options, summary: &Summary) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for topic in &summary.topics {
        writeln!(out, "{:<17} {:>11} records {:>9.1} MB", topic.topic.name(), topic.records, topic.bytes as f64 / 1e6)?;
        let counts = topic.counts.named().into_iter().filter(|(_, count)| *count > 0);
        let counts: Vec<String> = counts.map(|(name, count)| format!("{count} {name}")).collect();
        writeln!(out, "    {}", counts.join(", "))?;
    }
    let dir = options.out.display();
    writeln!(out, "next: storeflow run --job {} --replay {dir}", options.out.join("mall.toml").display())
}
