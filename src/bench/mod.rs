//! `storeflow bench`: what each stage of a replay costs, alone and together with those before it.
//!
//! ```text
//! read ─► decode ─► dataflow ─► view ─► history      cached: dataflow without lines and JSON
//!   every measurement: a fresh process of its own (`bench-stage`), one JSON line on its standard output
//! ```
//!
//! Upholds: (1) every stage does all that the stages before it do, with the code that `run` uses, on the same files and
//! worker threads; (2) measurements of one round follow each other, round after round, so that a slow minute of the machine
//! hits all stages alike; the first round only warms up (the page cache, the replay cache) and is not counted.
//! Absent on purpose: means. Medians are given, with the least and the greatest.
//!
//! `--json` writes one object: `format` (1), `job`, `dataset`, `cores`, `runs`, `stages`, `latency` (null without `--speed`).
//! A stage has `stage`, `workers`, `runs` (each: `bytes`, `records`, `seconds`, `cpu_seconds`, `peak_rss_bytes`,
//! `peak_anonymous_bytes`), medians `mb_per_s` (10^6 bytes of records, unpacked), `records_per_s`, `records_per_cpu_s`
//! (per second of processor time: what one core does), `cpu_seconds`; `of_decode` (its MB/s over those of `decode` with as
//! many workers) and `over_one_worker` (over its own with one worker), null where there is nothing to compare with.
//! `latency` has `speed_permille`, `records`, `p50_us`, `p95_us`, `p99_us`: from read to visible in the view.

pub mod api;
pub mod formats;
pub mod kafka;
pub mod process;
pub mod report;
pub mod slice;
pub mod stage;

use serde::{Deserialize, Serialize};

/// A stage of a replay, with all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Lines only.
    Read,
    /// Every record read and decoded.
    Decode,
    /// The dataflow, into a publisher that only counts.
    Dataflow,
    /// The dataflow into the view in memory.
    View,
    /// All that `run` does: history and the dumped view in a data directory.
    History,
    /// The dataflow on records that were decoded before; see `source::cache`.
    Cached,
}

impl Stage {
    /// The stages of every bench, in order.
    pub const ALL: [Stage; 5] = [Stage::Read, Stage::Decode, Stage::Dataflow, Stage::View, Stage::History];

    /// The name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Decode => "decode",
            Stage::Dataflow => "dataflow",
            Stage::View => "view",
            Stage::History => "history",
            Stage::Cached => "cached",
        }
    }

    /// The name as people see it: what the stage adds to the one before.
    pub fn title(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Decode => "+decode",
            Stage::Dataflow => "+dataflow",
            Stage::View => "+view",
            Stage::History => "+history",
            Stage::Cached => "cached +dataflow",
        }
    }
}

/// What one run of one stage took.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Bytes of records, unpacked.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Wall time.
    pub seconds: f64,
    /// Processor time of all threads, user and system.
    pub cpu_seconds: f64,
    /// Most memory the process held, mapped files included.
    pub peak_rss_bytes: u64,
    /// Most memory of its own, as seen every 10 ms.
    pub peak_anonymous_bytes: u64,
    /// From read to visible, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency: Option<Latency>,
}

/// Percentiles of the time from read to visible in the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Milliseconds of log time per 1,000 of wall time.
    pub speed_permille: u64,
    /// Records measured.
    pub records: u64,
    /// Half of them were visible within this, microseconds.
    pub p50_us: u64,
    /// 95 of a hundred.
    pub p95_us: u64,
    /// 99 of a hundred.
    pub p99_us: u64,
}
