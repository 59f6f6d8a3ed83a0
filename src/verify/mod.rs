//! Every number again, from scratch.
//!
//! ```text
//! dataset ──► lines ──► decode ──► stamps ──► latest row ──► deltas ──► time line: cells, revisions, history
//! (dataset)            (decode)   (clock)      (latest)    (effects)        (timeline)
//! ```
//!
//! An independent, single-threaded recomputation of what `docs/semantics.md` says a dataset means. It is what the dataflow is
//! held against, so it shares nothing with it but the job and the names of tables: its own JSON, numbers, times, window
//! arithmetic and ids, plain maps, one pass in time order.
//!
//! Upholds: everything asked of a [`Recomputation`] at an as-of is computed from the first record on, never from an answer
//! given before. Keeps: per record a stamp, per contribution a few integers (all names are numbered while reading), so 3
//! million clicks (1.6 GB) take under a gigabyte; per change its row, and with lookups until the end. Absent on purpose: workers, ticks, frontiers, checkpoints, incremental
//! updates, and any cleverness that would have to be checked itself.

mod base64;
mod clock;
mod compare;
mod dataset;
mod decode;
mod effects;
mod fields;
mod json;
mod latest;
mod names;
mod number;
pub mod published;
mod row;
#[cfg(test)]
mod stories;
mod time;
mod timeline;
mod topics;
mod types;
mod windows;

use std::collections::BTreeMap;
use std::path::Path;

pub use compare::{Difference, Fields, Subject, compare, compare_dead_letters, compare_late};
pub use dataset::VerifyError;
pub use types::{CellId, CellRow, Counts, DeadLetter, HistoryId, HistoryValue, LateRow, Reason};

use crate::config::Job;
use dataset::{PartitionFile, partition_files};
use decode::{Skip, TopicDecoder};
use effects::{Delta, Effects};
use latest::{Change, Latest};
use names::Names;
use timeline::Timeline;
use windows::Windows;

/// All that a dataset means for a job, ready to be asked about any as-of.
#[derive(Debug)]
pub struct Recomputation {
    windows: Windows,
    /// The cells that deltas name by index.
    cells: Vec<CellId>,
    /// Changes of cells, by stamp.
    deltas: Vec<Delta>,
    /// Late adjustments, sorted.
    late: Vec<LateRow>,
    /// Dead letters and their stamps, sorted.
    dead_letters: Vec<(DeadLetter, u64)>,
    /// The stamp of every record, ascending; likewise of those that were stale, a correction, a duplicate, a jump of the clock.
    records: Vec<u64>,
    stale: Vec<u64>,
    corrections: Vec<u64>,
    duplicate_clicks: Vec<u64>,
    clock_jumps: Vec<u64>,
    /// Records that say nothing about a row, by stamp.
    skipped: Vec<(u64, Skip)>,
    /// All changes in their order, if the job has lookups, whose waiting rows are counted anew for every as-of.
    changes: Vec<Change>,
    /// The space of each key that the changes name by number.
    space_of: Vec<u32>,
}

impl Recomputation {
    /// Reads and decodes a dataset folder: all topics that some source of the job reads.
    pub fn read(job: &Job, dataset: &Path) -> Result<Self, VerifyError> {
        let mut effects = Effects::new(job);
        let reads = |topic: &str| TopicDecoder::new(job, topic).reads_topic();
        for PartitionFile { topic, partition, path } in partition_files(dataset, reads)? {
            let decoder = TopicDecoder::new(job, &topic);
            if decoder.is_avro() {
                return Err(VerifyError::Avro { topic });
            }
            let content = dataset::open(&path)?;
            let read = effects.read_partition(&decoder, partition, content);
            read.map_err(|source| VerifyError::read(&path, source))?;
        }
        Ok(effects.finish())
    }

    /// The same from memory: (topic, partition, content of its file, unpacked). Each partition may be there once, and none of a
    /// source in Avro.
    pub fn from_files(job: &Job, files: &[(String, u32, Vec<u8>)]) -> Self {
        let mut effects = Effects::new(job);
        let mut files: Vec<_> = files.iter().collect();
        files.sort_unstable();
        for (topic, partition, content) in files {
            let decoder = TopicDecoder::new(job, topic);
            if decoder.reads_topic() {
                effects.read_partition(&decoder, *partition, &content[..]).expect("memory can be read");
            }
        }
        effects.finish()
    }

    /// The as-of at the end of a replay: the millisecond after the highest clock, rounded up to a second; 0 without records.
    pub fn end_as_of(&self) -> u64 {
        // A partition's clock is the stamp of its last record, and stamps never go back.
        self.records.last().map_or(0, |clock| (clock + 1).div_ceil(1000) * 1000)
    }

    /// The distinct stamps, ascending.
    pub fn stamps(&self) -> impl Iterator<Item = u64> {
        self.records.chunk_by(|a, b| a == b).map(|equal| equal[0])
    }

    /// The view at `as_of`: all cells whose windows have not expired, with their revisions.
    pub fn cells_at(&self, as_of: u64) -> BTreeMap<CellId, CellRow> {
        self.timeline(as_of).cells()
    }

    /// Every history row of the epochs up to `as_of`, that one included.
    pub fn history_through(&self, as_of: u64) -> BTreeMap<HistoryId, HistoryValue> {
        self.timeline(as_of).into_history()
    }

    fn timeline(&self, as_of: u64) -> Timeline<'_> {
        Timeline::run(self.windows, &self.cells, &self.deltas, as_of)
    }

    /// The late adjustments of the records before `as_of`, in the order of stamp, topic, partition and position.
    pub fn late_at(&self, as_of: u64) -> Vec<LateRow> {
        self.late[..self.late.partition_point(|row| row.stamp < as_of)].to_vec()
    }

    /// What became of the records before `as_of`.
    pub fn counts_at(&self, as_of: u64) -> Counts {
        let before = |stamps: &[u64]| stamps.partition_point(|stamp| *stamp < as_of) as u64;
        let dead = self.dead_letters.iter().filter(|(_, stamp)| *stamp < as_of);
        let (waiting_rows, waiting_since) = self.waiting_at(as_of);
        Counts {
            records: before(&self.records),
            dead_letters: dead.map(|(letter, _)| letter.clone()).collect(),
            skipped: self.skipped.partition_point(|(stamp, _)| *stamp < as_of) as u64,
            stale: before(&self.stale),
            corrections: before(&self.corrections),
            late_adjustments: self.late.partition_point(|row| row.stamp < as_of) as u64,
            duplicate_clicks: before(&self.duplicate_clicks),
            waiting_rows,
            waiting_since,
            clock_jumps: before(&self.clock_jumps),
        }
    }

    /// How many of the records before `as_of` say nothing about a row, by the name of why.
    pub fn skipped_at(&self, as_of: u64) -> BTreeMap<&'static str, u64> {
        let mut kinds = BTreeMap::new();
        for (_, why) in self.skipped.iter().filter(|(stamp, _)| *stamp < as_of) {
            *kinds.entry(why.code()).or_default() += 1;
        }
        kinds
    }

    /// Rows that wait for the row they refer to, and since when the oldest does: every change again, up to `as_of`.
    fn waiting_at(&self, as_of: u64) -> (u64, Option<u64>) {
        let (mut latest, mut cells) = (Latest::new(self.windows), Names::new());
        for change in self.changes.iter().filter(|change| change.stamp < as_of) {
            latest.apply(change, &self.space_of, &mut cells);
        }
        latest.waiting(as_of)
    }
}
