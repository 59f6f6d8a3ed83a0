//! The Kafka path against what it is made of: a consumer that only counts, and a replay of the same records.
//!
//! ```text
//! bare    librdkafka's defaults ─► count                               fetching alone
//! replay  files ─► decode ─► dataflow ─► view, history                 computing alone
//! kafka   our source   ─► decode ─► dataflow ─► view, history          both, by `runtime::run` as for the replay
//! ```
//!
//! One after the other, fetching and computing would take 1/bare + 1/replay per record: the *bound* is the rate of that, and
//! the quotient kafka / bound says what the path adds, or hides by doing both at once.
//!
//! Upholds: (1) the three take turns, so that a slow minute of the machine hits all alike; the first round only warms up (the
//! page caches of us and of the broker) and is not counted; (2) each is timed from opening its input to its last record, or
//! to its last cell shown in view and history; for Kafka that is from the making of the client that reads, with the ends of
//! the logs known; (3) topics that do not hold as many records as the dataset are refused.
//! Absent on purpose: loading the topics, which is `storeflow produce`; means.
//!
//! JSON: `format` (1), `job`, `dataset`, `cores`, `workers`, `sides` (`side`, `runs` of [`Run`], and medians),
//! `bound_records_per_s`, `kafka_over_bound`.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use serde::Serialize;

use super::process::cpu_seconds;
use super::report::spread_of;
use crate::config::Job;
use crate::observe::health::Health;
use crate::observe::metrics::Registry;
use crate::observe::wall_ms;
use crate::publish::error::PublishError;
use crate::runtime::cluster::Cluster;
use crate::runtime::run::{self, Input, Setup};
use crate::runtime::workers::{RunError, Tuning};
use crate::source::kafka::{KafkaError, KafkaSettings, KafkaSource, Listed, Options};
use crate::store::Store;

/// How long the bare consumer waits for a record that should be there.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the bench ended early.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// One of our own runs.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The topics could not be listed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The bare consumer.
    #[error("the bare consumer could not {what}")]
    Bare {
        /// What was tried.
        what: &'static str,
        /// What librdkafka says.
        source: rdkafka::error::KafkaError,
    },
    /// Nothing came although the log's ends say that there is more.
    #[error(
        "the bare consumer took {records} of {expected} records, then none for {} s; load fresh topics with `storeflow produce`",
        PATIENCE.as_secs()
    )]
    Dry {
        /// Records taken.
        records: u64,
        /// Positions between the beginnings and the ends.
        expected: u64,
    },
    /// The topics are not the dataset's.
    #[error(
        "the topics hold {topics} records and the dataset {dataset}; load it into fresh topics with `storeflow produce --replay`"
    )]
    Differ {
        /// Records of the topics.
        topics: u64,
        /// Records of the dataset.
        dataset: u64,
    },
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// A librdkafka consumer that only counts.
    Bare,
    /// The dataset's files through the job.
    Replay,
    /// The topics through the job.
    Kafka,
}

impl Side {
    /// In the order of each round.
    pub const ALL: [Side; 3] = [Side::Bare, Side::Replay, Side::Kafka];

    /// The name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Side::Bare => "bare",
            Side::Replay => "replay",
            Side::Kafka => "kafka",
        }
    }
}

/// What one run took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Run {
    /// Records taken.
    pub records: u64,
    /// Their bytes: keys and values, or the lines of files.
    pub bytes: u64,
    /// From opening to the last record counted, or the last cell shown.
    pub seconds: f64,
    /// With connecting, listing, the view's dump, syncing and closing.
    pub whole_seconds: f64,
    /// Processor time of the whole, all threads of this process, user and system.
    pub cpu_seconds: f64,
}

/// What is measured.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The job.
    pub job: &'a Job,
    /// The dataset whose records the topics hold.
    pub dataset: &'a Path,
    /// How to reach Kafka.
    pub kafka: KafkaSettings,
    /// How to run.
    pub tuning: Tuning,
    /// For what runs write; the caller's to remove.
    pub folder: &'a Path,
}

/// Measures all sides `runs` times, after a round that warms up. `told` hears of each run, that of the warm-up as round 0.
///
/// # Errors
/// If a side cannot run, or the topics hold other records than the dataset.
pub fn measure(setting: &Setting<'_>, runs: usize, mut told: impl FnMut(Side, usize, &Run)) -> Result<Report, BenchError> {
    let mut sides = Side::ALL.map(|side| (side, Vec::new()));
    for round in 0..=runs {
        let mut counts = Vec::new();
        for (side, all) in &mut sides {
            let run = setting.run(*side, round)?;
            told(*side, round, &run);
            counts.push(run.records);
            if round > 0 {
                all.push(run);
            }
        }
        if let [topics, dataset, kafka] = counts[..]
            && (topics, topics) != (dataset, kafka)
        {
            return Err(BenchError::Differ { topics: topics.min(kafka), dataset });
        }
    }
    Ok(Report::new(setting, sides))
}

impl Setting<'_> {
    fn run(&self, side: Side, round: usize) -> Result<Run, BenchError> {
        let (cpu, began) = (cpu_seconds(), Instant::now());
        let run = match side {
            Side::Bare => self.bare()?,
            Side::Replay => self.ours(Input::Dataset(self.dataset.to_owned()), side, round)?,
            Side::Kafka => self.ours(Input::Kafka(self.kafka.clone()), side, round)?,
        };
        Ok(Run { whole_seconds: began.elapsed().as_secs_f64(), cpu_seconds: cpu_seconds() - cpu, ..run })
    }

    /// The job over an input, into the view in memory and the history in a folder.
    fn ours(&self, input: Input, side: Side, round: usize) -> Result<Run, RunError> {
        let folder = self.folder.join(format!("{}-{round}", side.name()));
        let setup = Setup {
            job: self.job.clone(),
            tuning: self.tuning.clone(),
            input,
            store: Store::folder(&folder).map_err(PublishError::from)?,
            redis: None,
            cluster: Cluster::single(),
            checkpoints: None,
            generation: None,
            advance_every: Duration::from_secs(10),
            accept_job_change: false,
            dead_letter_max_share: None,
            stop_patience: Duration::from_secs(30),
            served: None,
            stop: Arc::default(),
            registry: Registry::default(),
            health: Arc::new(Health::new(0, self.tuning.workers, wall_ms())),
        };
        let finished = run::run(setup, |_| ())?.finished;
        Ok(Run {
            records: finished.sum(|stats| stats.records.get()),
            bytes: finished.sum(|stats| stats.bytes.get()),
            seconds: finished.took.as_secs_f64(),
            ..Run::default()
        })
    }

    /// One consumer over all partitions that the job reads, from their beginnings to the ends they have now.
    fn bare(&self) -> Result<Run, BenchError> {
        let listed = KafkaSource::connect(self.job, &self.kafka)?.list()?;
        let expected: u64 = listed.iter().map(|listed| listed.high - listed.low).sum();
        let began = Instant::now();
        let consumer = self.consumer(&listed)?;
        let (mut records, mut bytes) = (0, 0);
        while records < expected {
            match consumer.poll(PATIENCE) {
                Some(Ok(message)) => {
                    records += 1;
                    bytes += (message.key_len() + message.payload_len()) as u64;
                }
                Some(Err(source)) => return Err(BenchError::Bare { what: "read on", source }),
                None => return Err(BenchError::Dry { records, expected }),
            }
        }
        Ok(Run { records, bytes, seconds: began.elapsed().as_secs_f64(), ..Run::default() })
    }

    /// A consumer as librdkafka makes it: only how to reach the brokers is said.
    fn consumer(&self, listed: &[Listed]) -> Result<BaseConsumer<Quiet>, BenchError> {
        let group = [("group.id", self.kafka.group.clone()), ("enable.auto.commit", "false".to_owned())];
        let mut config = Options::resolve(&self.kafka.brokers, &self.kafka.options)?.client(&group);
        config.set_log_level(RDKafkaLogLevel::Emerg);
        let consumer = config.create_with_context(Quiet).map_err(|source| BenchError::Bare { what: "be made", source })?;
        let consumer: BaseConsumer<Quiet> = consumer;
        let mut assignment = TopicPartitionList::with_capacity(listed.len());
        let refused = |source| BenchError::Bare { what: "be given its partitions", source };
        for Listed { topic, partition, low, .. } in listed {
            let offset = Offset::Offset(i64::try_from(*low).unwrap_or(i64::MAX));
            let partition = i32::try_from(*partition).unwrap_or(i32::MAX);
            assignment.add_partition_offset(topic, partition, offset).map_err(refused)?;
        }
        consumer.assign(&assignment).map_err(refused)?;
        Ok(consumer)
    }
}

/// Takes no notice of what librdkafka logs, in which secrets may be; errors come with `poll`.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}
    fn error(&self, _error: rdkafka::error::KafkaError, _reason: &str) {}
}

impl ConsumerContext for Quiet {}

/// What was measured, with medians.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this format.
    pub format: u32,
    /// The job's name.
    pub job: String,
    /// The dataset.
    pub dataset: String,
    /// Processors of the machine.
    pub cores: usize,
    /// Worker threads of replay and kafka.
    pub workers: usize,
    /// Bare, replay, kafka.
    pub sides: Vec<SideReport>,
    /// Records per second of fetching and computing one after the other.
    pub bound_records_per_s: f64,
    /// What kafka reaches of that.
    pub kafka_over_bound: f64,
}

/// Medians of one side.
#[derive(Debug, Serialize)]
pub struct SideReport {
    /// The side.
    pub side: Side,
    /// Records per second.
    pub records_per_s: f64,
    /// Megabytes (10^6) per second.
    pub mb_per_s: f64,
    /// Seconds from opening to the last record or cell.
    pub seconds: f64,
    /// Seconds of the whole.
    pub whole_seconds: f64,
    /// Processor time of the whole.
    pub cpu_seconds: f64,
    /// What was measured.
    pub runs: Vec<Run>,
}

impl SideReport {
    fn new((side, runs): (Side, Vec<Run>)) -> Self {
        let median = |of: fn(&Run) -> f64| spread_of(runs.iter().map(of))[1];
        SideReport {
            side,
            records_per_s: median(|run| run.records as f64 / run.seconds.max(1e-9)),
            mb_per_s: median(|run| run.bytes as f64 / 1e6 / run.seconds.max(1e-9)),
            seconds: median(|run| run.seconds),
            whole_seconds: median(|run| run.whole_seconds),
            cpu_seconds: median(|run| run.cpu_seconds),
            runs,
        }
    }
}

impl Report {
    fn new(setting: &Setting<'_>, sides: [(Side, Vec<Run>); 3]) -> Self {
        let sides = sides.map(SideReport::new);
        let [bare, replay, kafka] = sides.each_ref().map(|side| side.records_per_s);
        let bound = 1.0 / (1.0 / bare.max(1e-9) + 1.0 / replay.max(1e-9));
        Report {
            format: 1,
            job: setting.job.name.clone(),
            dataset: setting.dataset.display().to_string(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            workers: setting.tuning.workers,
            sides: sides.into(),
            bound_records_per_s: bound,
            kafka_over_bound: kafka / bound,
        }
    }

    /// The table.
    pub fn table(&self) -> String {
        let (runs, records) = self.sides.first().map_or((0, 0), |side| (side.runs.len(), side.runs[0].records));
        let mut text = format!(
            "job \"{}\" on {}, {} processors, {} workers, {records} records; medians of {runs} runs after a warm-up\n\n",
            self.job, self.dataset, self.cores, self.workers
        );
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<8} {:>11} {:>8} {:>8} {:>12} {:>8} {:>7}",
            "side", "records/s", "MB/s", "seconds", "least-most", "whole s", "CPU s"
        );
        for side in &self.sides {
            let seconds = || side.runs.iter().map(|run| run.seconds);
            let (least, most) = (seconds().fold(f64::INFINITY, f64::min), seconds().fold(0.0, f64::max));
            let _ = writeln!(
                text,
                "{:<8} {:>11.0} {:>8.0} {:>8.2} {:>12} {:>8.2} {:>7.2}",
                side.side.name(),
                side.records_per_s,
                side.mb_per_s,
                side.seconds,
                format!("{least:.2}-{most:.2}"),
                side.whole_seconds,
                side.cpu_seconds,
            );
        }
        let (bound, quotient) = (self.bound_records_per_s, self.kafka_over_bound);
        let _ = writeln!(text, "{:<8} {bound:>11.0}   1 / (1/bare + 1/replay)", "bound");
        let _ = writeln!(text, "{:<8} {quotient:>11.2}   kafka / bound", "quotient");
        text.push_str(
            "\nMB are 10^6 bytes of keys and values; of a replay, of lines. Seconds are from opening to the last record counted or\n\
             cell shown, history in files included; whole and CPU (of this process, the broker's not) are with start and end.\n",
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::*;
    use crate::config::job_file;
    use crate::source::kafka::Start;

    const JOB: &str =
        "name = \"j\"\n[[source]]\ntopics = [\"t\"]\nrole = \"products\"\nformat = \"upsert\"\nkey = \"k\"\nstore = \"s\"\n";

    /// Topic `t` with as many records in each of two partitions, and a dataset of the same but for `missing` records.
    fn bench(missing: usize, runs: usize) -> Result<Report, BenchError> {
        let root = tempfile::tempdir().expect("temporary folder");
        let dataset = root.path().join("data");
        std::fs::create_dir_all(dataset.join("t")).expect("temporary folder");
        let mock = MockCluster::new(1).expect("mock cluster");
        mock.create_topic("t", 2, 1).expect("mock topic");
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", mock.bootstrap_servers());
        let producer: BaseProducer = config.create().expect("producer");
        for partition in 0..2 {
            let values: Vec<String> =
                (0..300).map(|number| format!("{{\"k\":\"{partition}-{number}\",\"s\":\"{}\"}}", number % 7)).collect();
            for value in &values {
                let record = BaseRecord::<[u8], str>::to("t").partition(partition).payload(value).timestamp(1_795_168_800_000);
                assert!(producer.send(record).is_ok());
            }
            let file = dataset.join(format!("t/{partition}.ndjson"));
            std::fs::write(file, values[missing..].join("\n")).expect("temporary file");
        }
        producer.flush(Duration::from_secs(60)).expect("mock brokers acknowledge");
        let kafka = KafkaSettings {
            brokers: mock.bootstrap_servers(),
            options: Vec::new(),
            start: Start::Earliest,
            until_end: true,
            in_flight_bytes: 1 << 20,
            discover_every: Duration::from_secs(30),
            exclude: Vec::new(),
            group: "storeflow-test".to_owned(),
        };
        let job = job_file::parse(JOB, "job").expect("valid job");
        let tuning = Tuning { workers: 2, ..Tuning::default() };
        measure(&Setting { job: &job, dataset: &dataset, kafka, tuning, folder: root.path() }, runs, |_, _, _| ())
    }

    #[test]
    fn all_sides_see_every_record() {
        let report = bench(0, 2).expect("measured");
        assert_eq!(report.sides.iter().map(|side| side.side).collect::<Vec<_>>(), Side::ALL);
        assert!(report.sides.iter().all(|side| side.runs.len() == 2 && side.runs.iter().all(|run| run.records == 600)));
        assert!(report.kafka_over_bound > 0.0 && report.table().contains("600 records"), "{}", report.table());
    }

    #[test]
    fn topics_of_another_dataset_are_refused() {
        let error = bench(1, 1).expect_err("two records are missing in the files");
        assert!(matches!(error, BenchError::Differ { topics: 600, dataset: 598 }), "{error}");
    }

    #[test]
    fn the_bound_is_one_after_the_other() {
        let job = job_file::parse(JOB, "job").expect("valid job");
        let kafka = KafkaSettings {
            brokers: String::new(),
            options: Vec::new(),
            start: Start::Earliest,
            until_end: true,
            in_flight_bytes: 0,
            discover_every: Duration::ZERO,
            exclude: Vec::new(),
            group: String::new(),
        };
        let setting = Setting { job: &job, dataset: Path::new("d"), kafka, tuning: Tuning::default(), folder: Path::new("f") };
        let took = |seconds: f64| Run { records: 300, bytes: 3_000_000, seconds, ..Run::default() };
        let sides = [
            (Side::Bare, vec![took(1.0), took(2.0), took(90.0)]),
            (Side::Replay, vec![took(4.0), took(4.0)]),
            (Side::Kafka, vec![took(5.0), took(7.0)]),
        ];
        let report = Report::new(&setting, sides);
        // 2 s of fetching and 4 s of computing: 50 records/s; reached: the mean of 60 and 42.9.
        assert!((report.bound_records_per_s - 50.0).abs() < 1e-6, "{report:?}");
        assert!((report.kafka_over_bound - (60.0 + 300.0 / 7.0) / 2.0 / 50.0).abs() < 1e-6, "{report:?}");
    }
}
