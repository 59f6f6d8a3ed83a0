//! `storeflow bench-formats`: what decoding costs in each dialect, for the same changes of the same rows.
//!
//! ```text
//! change N ─► upsert │ flattened │ debezium │ … in memory ─► decoders, one per worker ─► changes/s, MB/s, over upsert
//!                                        └─ as lines of files ─► a replay into the view
//! ```
//!
//! Upholds: (1) every dialect says the same; (2) the decoders are those of `run`, and a worker does with a record what a source does: hands it
//! over by key and value; (3) runs of all dialects take turns, after one turn that warms up, so that a slow minute hits all alike.
//! Keeps: the records of one dialect at a time.
//! Absent on purpose: Kafka, which [`super::kafka`] measures.

mod render;

use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use serde::Serialize;

use self::render::Change;
use super::process::cpu_seconds;
use super::report::spread_of;
use super::{Sample, Stage, stage};
use crate::config::job_file::{self, JobFileError};
use crate::config::{Format, Job};
use crate::decode::avro::{Known, Schema, Schemas};
use crate::decode::{Decoder, Message, Reject};
use crate::runtime::workers::{RunError, Tuning};

const TOPIC: &str = "shop.payments";
/// Records rendered of a dialect; decoded again until there were enough. With their schemas 100 MB, far more than a cache.
const RENDERED_MAX: u64 = 20_000;

/// How changes are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Rows by key; what the others are compared with.
    Upsert,
    /// Debezium flattened.
    Flattened,
    /// Debezium without schema.
    Debezium,
    /// Debezium with its schema in each record, decimals as base64.
    DebeziumSchema,
    /// AWS DMS.
    Dms,
    /// Maxwell.
    Maxwell,
    /// Canal, a row per record.
    Canal,
    /// MongoDB's change events with the full document.
    Mongodb,
    /// Debezium without schema, recognised by each record.
    Auto,
    /// Debezium in Avro.
    Avro,
}

impl Dialect {
    /// All, the one to compare with first.
    pub const ALL: [Dialect; 10] = [
        Dialect::Upsert,
        Dialect::Flattened,
        Dialect::Debezium,
        Dialect::DebeziumSchema,
        Dialect::Dms,
        Dialect::Maxwell,
        Dialect::Canal,
        Dialect::Mongodb,
        Dialect::Auto,
        Dialect::Avro,
    ];

    /// As people see it.
    pub fn title(self) -> &'static str {
        match self {
            Dialect::DebeziumSchema => "debezium + schema",
            Dialect::Auto => "auto (debezium)",
            Dialect::Avro => "avro (debezium)",
            other => other.format().name(),
        }
    }

    fn format(self) -> Format {
        match self {
            Dialect::Upsert => Format::Upsert,
            Dialect::Flattened => Format::Flattened,
            Dialect::Debezium | Dialect::DebeziumSchema => Format::Debezium,
            Dialect::Dms => Format::Dms,
            Dialect::Maxwell => Format::Maxwell,
            Dialect::Canal => Format::Canal,
            Dialect::Mongodb => Format::Mongodb,
            Dialect::Auto => Format::Auto,
            Dialect::Avro => Format::Avro,
        }
    }

    /// Whether its records are text, as lines of a file are.
    fn is_text(self) -> bool {
        self != Dialect::Avro
    }

    fn job(self) -> Result<Job, JobFileError> {
        let registry = if self == Dialect::Avro { "[schema_registry]\nurl = \"http://localhost\"\n" } else { "" };
        let (format, key) = (self.format().name(), if self == Dialect::Mongodb { "_id" } else { "payment_id" });
        let text = format!(
            "name = \"bench-formats\"\ncurrency = \"KRW\"\n{registry}[[source]]\ntopic = \"{TOPIC}\"\nrole = \"payments\"\nformat = \"{format}\"\n\
             key = \"{key}\"\nstore = \"store_id\"\namount = \"amount\"\ncurrency = \"currency\"\ntime = {{ field = \"paid_at\", unit = \"ms\" }}\n\
             counts_when = {{ status = [\"PAID\", \"REFUNDED\"] }}\n"
        );
        job_file::parse(&text, "bench-formats")
    }
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Setting<'a> {
    /// Changes decoded in one run.
    pub changes: u64,
    /// Threads that decode.
    pub workers: usize,
    /// Runs of each dialect that count.
    pub runs: usize,
    /// Changes of a whole replay as well; 0: none.
    pub replayed: u64,
    /// For the replays' files; the caller's to remove.
    pub folder: &'a Path,
}

/// What stops a bench.
#[derive(Debug, thiserror::Error)]
pub enum FormatsError {
    /// A record of our own making.
    #[error("could not decode a rendered {dialect} record")]
    Decode {
        /// Its dialect.
        dialect: &'static str,
        /// Why it is a dead letter.
        source: Reject,
    },
    /// A job of our own making.
    #[error("could not read the bench's own job file")]
    Job(#[from] JobFileError),
    /// A schema of our own making.
    #[error("could not read the bench's own Avro schema")]
    Schema(#[from] crate::decode::avro::SchemaError),
    /// A file to replay.
    #[error("could not write records to replay to \"{}\"", path.display())]
    Write {
        /// Where to.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A replay.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// All runs of a dialect, and what they say.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The dialect.
    pub dialect: Dialect,
    /// Bytes of a record, key and value, on average.
    pub record_bytes: f64,
    /// Changes per second, decoding only.
    pub decoded_per_s: Vec<f64>,
    /// Changes per second of processor time, decoding only: what one core does.
    pub decoded_per_cpu_s: Vec<f64>,
    /// Changes per second through a whole replay into the view; empty where there was none.
    pub replayed_per_s: Vec<f64>,
}

/// A bench.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this format.
    pub format: u32,
    /// Processors of the machine.
    pub cores: usize,
    /// Threads that decoded.
    pub workers: usize,
    /// Changes in one run.
    pub changes: u64,
    /// Changes in one replay.
    pub replayed: u64,
    /// By dialect.
    pub dialects: Vec<Measured>,
}

/// Measures all dialects; `said` hears of each run.
///
/// # Errors
/// If a record cannot be decoded, or a replay does not come to its end.
pub fn measure(setting: &Setting<'_>, mut said: impl FnMut(Dialect, usize, f64)) -> Result<Report, FormatsError> {
    let mut dialects: Vec<Measured> = Dialect::ALL
        .into_iter()
        .map(|dialect| Measured {
            dialect,
            record_bytes: 0.0,
            decoded_per_s: Vec::new(),
            decoded_per_cpu_s: Vec::new(),
            replayed_per_s: Vec::new(),
        })
        .collect();
    for round in 0..=setting.runs {
        for one in &mut dialects {
            let records = Records::render(one.dialect, setting.changes.min(RENDERED_MAX));
            one.record_bytes = records.bytes.len() as f64 / records.ends.len().max(1) as f64;
            let (speed, per_cpu) = decode(&records, setting)?;
            let replayed = (setting.replayed > 0 && one.dialect.is_text()).then(|| replay(one.dialect, setting)).transpose()?;
            said(one.dialect, round, speed);
            if round > 0 {
                one.decoded_per_s.push(speed);
                one.decoded_per_cpu_s.push(per_cpu);
                one.replayed_per_s.extend(replayed);
            }
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let Setting { workers, changes, replayed, .. } = *setting;
    Ok(Report { format: 1, cores, workers, changes, replayed, dialects })
}

/// Records of one dialect, one after the other.
struct Records {
    dialect: Dialect,
    bytes: Vec<u8>,
    /// Of each record: how long its key is, if it has one, and where it ends.
    ends: Vec<(Option<usize>, usize)>,
}

impl Records {
    fn render(dialect: Dialect, changes: u64) -> Records {
        let mut records = Records { dialect, bytes: Vec::new(), ends: Vec::new() };
        for number in 0..changes {
            let key = render::render(dialect, Change::of(number, changes), &mut records.bytes);
            records.ends.push((key, records.bytes.len()));
        }
        records
    }

    /// Every `of`th message from `first` on.
    fn share(&self, first: usize, of: usize) -> impl Iterator<Item = Message<'_>> {
        (first..self.ends.len()).step_by(of).map(|at| {
            let begin = if at == 0 { 0 } else { self.ends[at - 1].1 };
            let (key, end) = self.ends[at];
            let (key_bytes, value) = self.bytes[begin..end].split_at(key.unwrap_or(0));
            Message { key: key.map(|_| key_bytes), value: Some(value), utf8: false }
        })
    }
}

/// The decoder that a source of a run would have.
fn decoder(dialect: Dialect) -> Result<Decoder, FormatsError> {
    let job = dialect.job()?;
    let schemas = Schemas::default();
    for (id, text) in [(render::AVRO_KEY, render::AVRO_KEY_SCHEMA), (render::AVRO_VALUE, render::AVRO_VALUE_SCHEMA)] {
        schemas.add(id, Known::Schema(Arc::new(Schema::parse(text, &[])?)));
    }
    Ok(Decoder::new(&job, &job.sources[0], TOPIC, 8).with_schemas(&Arc::new(schemas)))
}

/// Changes per second of wall and of processor time.
fn decode(records: &Records, setting: &Setting<'_>) -> Result<(f64, f64), FormatsError> {
    let dialect = records.dialect;
    let passes = setting.changes.div_ceil(records.ends.len().max(1) as u64);
    let decoders = (0..setting.workers).map(|_| decoder(dialect)).collect::<Result<Vec<_>, _>>()?;
    let start = Barrier::new(setting.workers + 1);
    let work = &|(worker, mut decoder): (usize, Decoder)| {
        start.wait();
        for _ in 0..passes {
            for message in records.share(worker, setting.workers) {
                black_box(decoder.decode(message)?);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = decoders.into_iter().enumerate().map(|one| scope.spawn(move || work(one))).collect();
        start.wait();
        let (cpu, began) = (cpu_seconds(), Instant::now());
        for thread in threads {
            let done: Result<(), Reject> = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            done.map_err(|source| FormatsError::Decode { dialect: dialect.title(), source })?;
        }
        let decoded = passes as f64 * records.ends.len() as f64;
        // The system counts processor time in hundredths of a second.
        Ok((decoded / began.elapsed().as_secs_f64().max(1e-9), decoded / (cpu_seconds() - cpu).max(0.01)))
    })
}

/// Changes per second of a replay: lines, decoding, dataflow, view.
fn replay(dialect: Dialect, setting: &Setting<'_>) -> Result<f64, FormatsError> {
    let dataset = setting.folder.join("formats");
    let folder = dataset.join(TOPIC);
    write_lines(dialect, setting, &folder).map_err(|source| FormatsError::Write { path: folder.clone(), source })?;
    let job = dialect.job()?;
    let tuning = Tuning { workers: setting.workers, ..Tuning::default() };
    let sample: Sample =
        stage::run(Stage::View, &stage::Setting { job: &job, dataset: &dataset, folder: setting.folder, tuning })?;
    std::fs::remove_dir_all(&dataset).map_err(|source| FormatsError::Write { path: dataset.clone(), source })?;
    Ok(sample.records as f64 / sample.seconds.max(1e-9))
}

/// As kcat writes a topic, with a partition per worker; values as JSON within the line, since Kafka's records are not escaped either.
fn write_lines(dialect: Dialect, setting: &Setting<'_>, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = |number: usize| Ok(BufWriter::new(std::fs::File::create(folder.join(format!("{number}.ndjson")))?));
    let mut files = (0..setting.workers).map(file).collect::<std::io::Result<Vec<_>>>()?;
    let mut record = Vec::new();
    for number in 0..setting.replayed {
        let change = Change::of(number, setting.replayed);
        record.clear();
        let key = render::render(dialect, change, &mut record).unwrap_or(0);
        let (key, value) = record.split_at(key);
        let text = |bytes: &[u8]| if bytes.is_empty() { b"null".to_vec() } else { bytes.to_vec() };
        // All changes of a row are in one partition.
        let partition = change.partition(setting.workers);
        let line = &mut files[partition];
        write!(line, "{{\"topic\":\"{TOPIC}\",\"partition\":{partition},\"offset\":{number},\"ts\":{},\"key\":", change.at())?;
        line.write_all(&text(key))?;
        line.write_all(b",\"payload\":")?;
        line.write_all(&text(value))?;
        line.write_all(b"}\n")?;
    }
    files.into_iter().try_for_each(|mut file| file.flush())
}

impl Report {
    /// The table.
    pub fn table(&self) -> String {
        let median = |speeds: &[f64]| spread_of(speeds.iter().copied())[1];
        let upsert =
            self.dialects.first().map(|one| (median(&one.decoded_per_s), median(&one.replayed_per_s))).unwrap_or_default();
        let runs = self.dialects.first().map_or(0, |one| one.decoded_per_s.len());
        let mut text = format!(
            "{} changes in every dialect, {} workers, {} processors, {runs} runs each in turn after a warm-up; medians\n\n",
            self.changes, self.workers, self.cores
        );
        let ratio = |of: f64, to: f64| if of > 0.0 && to > 0.0 { format!("{:.2}", of / to) } else { "-".to_owned() };
        text.push_str(&format!(
            "{:<18} {:>9} {:>11} {:>19} {:>11} {:>7} {:>11} {:>12} {:>11}\n",
            "dialect", "bytes", "decoded/s", "least-most", "per core", "MB/s", "of upsert", "replayed/s", "of upsert"
        ));
        for one in &self.dialects {
            let [least, decoded, most] = spread_of(one.decoded_per_s.iter().copied());
            let replayed = median(&one.replayed_per_s);
            text.push_str(&format!(
                "{:<18} {:>9.0} {:>11.0} {:>19} {:>11.0} {:>7.0} {:>11} {:>12} {:>11}\n",
                one.dialect.title(),
                one.record_bytes,
                decoded,
                format!("{least:.0}-{most:.0}"),
                median(&one.decoded_per_cpu_s),
                decoded * one.record_bytes / 1e6,
                ratio(decoded, upsert.0),
                if replayed > 0.0 { format!("{replayed:.0}") } else { "-".to_owned() },
                ratio(replayed, upsert.1),
            ));
        }
        text.push_str(
            "\nbytes: of a record, key and value. decoded/s: decoding alone, from memory; per core: per second of\n\
             processor time. replayed/s: lines of files, decoding,\n\
             dataflow and view. MB are 10^6 bytes of records.\n",
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Decoded;

    /// The rows and deletes that a dialect's records are decoded to, without versions, which differ.
    fn said(dialect: Dialect, changes: u64) -> Vec<String> {
        let records = Records::render(dialect, changes);
        let mut decoder = decoder(dialect).unwrap();
        let change = |message| match decoder.decode(message).map(|record| record.decoded) {
            Ok(Decoded::Change(change)) => format!("{:?} {:?}", change.key, change.what),
            Ok(Decoded::Changes(changes)) => match &changes[..] {
                [change] => format!("{:?} {:?}", change.key, change.what),
                several => panic!("{}: {several:?}", dialect.title()),
            },
            other => panic!("{}: {other:?}", dialect.title()),
        };
        records.share(0, 1).map(change).collect()
    }

    #[test]
    fn every_dialect_says_the_same() {
        let expected = said(Dialect::Upsert, 500);
        assert!(expected.iter().any(|change| change.ends_with("Delete")));
        for dialect in Dialect::ALL {
            assert_eq!(said(dialect, 500), expected, "{}", dialect.title());
        }
    }

    #[test]
    fn measures_and_replays_every_dialect() {
        let folder = tempfile::tempdir().unwrap();
        let setting = Setting { changes: 300, workers: 2, runs: 1, replayed: 200, folder: folder.path() };
        let mut turns = Vec::new();
        let report = measure(&setting, |dialect, round, _| turns.push((round, dialect))).unwrap();
        assert_eq!(turns.len(), 2 * Dialect::ALL.len());
        for one in &report.dialects {
            assert_eq!(one.decoded_per_s.len(), 1);
            assert_eq!(one.replayed_per_s.len(), usize::from(one.dialect.is_text()), "{}", one.dialect.title());
        }
        let table = report.table();
        assert_eq!(
            table.lines().filter(|line| Dialect::ALL.iter().any(|dialect| line.starts_with(dialect.title()))).count(),
            10,
            "{table}"
        );
    }
}
