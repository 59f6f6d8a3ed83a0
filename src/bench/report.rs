//! Medians of what was measured, as a table for people and as JSON; see the schema in [`super`].

use std::fmt::Write;

use serde::Serialize;

use super::{Latency, Sample, Stage};

/// All runs of one stage with so many workers.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The stage.
    pub stage: Stage,
    /// Worker threads.
    pub workers: usize,
    /// Its runs, in order.
    pub samples: Vec<Sample>,
}

/// A bench.
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
    /// Runs of each stage.
    pub runs: usize,
    /// Stages in order, by workers.
    pub stages: Vec<StageReport>,
    /// From read to visible.
    pub latency: Option<Latency>,
}

/// Medians of a stage.
#[derive(Debug, Serialize)]
pub struct StageReport {
    /// The stage.
    pub stage: Stage,
    /// Worker threads.
    pub workers: usize,
    /// What was measured.
    pub runs: Vec<Sample>,
    /// Megabytes (10^6) of records per second.
    pub mb_per_s: f64,
    /// Records per second.
    pub records_per_s: f64,
    /// Records per second of processor time.
    pub records_per_cpu_s: f64,
    /// Processor time, seconds.
    pub cpu_seconds: f64,
    /// Of the ceiling: MB/s over those of reading and decoding alone with as many workers.
    pub of_decode: Option<f64>,
    /// MB/s over those of one worker.
    pub over_one_worker: Option<f64>,
}

fn mb_per_s(sample: &Sample) -> f64 {
    sample.bytes as f64 / 1e6 / sample.seconds.max(1e-9)
}

/// Least, middle and greatest; the middle of an even number is the mean of both.
fn spread(measured: &Measured, of: impl Fn(&Sample) -> f64) -> [f64; 3] {
    spread_of(measured.samples.iter().map(of))
}

/// The same of any values; zeros of none.
pub(crate) fn spread_of(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match (values.first(), values.last()) {
        (Some(&least), Some(&most)) => [least, (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0, most],
        _ => [0.0; 3],
    }
}

fn median(measured: &Measured, of: impl Fn(&Sample) -> f64) -> f64 {
    spread(measured, of)[1]
}

impl Report {
    /// Summarises what was measured.
    pub fn new(job: &str, dataset: &str, runs: usize, all: &[Measured], latency: Option<Latency>) -> Self {
        let speed = |stage: Stage, workers: usize| {
            let found = all.iter().find(|one| one.stage == stage && one.workers == workers && !one.samples.is_empty());
            found.map(|one| median(one, mb_per_s)).filter(|speed| *speed > 0.0)
        };
        let stages = all.iter().map(|one| {
            let mine = median(one, mb_per_s);
            StageReport {
                stage: one.stage,
                workers: one.workers,
                runs: one.samples.clone(),
                mb_per_s: mine,
                records_per_s: median(one, |sample| sample.records as f64 / sample.seconds.max(1e-9)),
                records_per_cpu_s: median(one, |sample| sample.records as f64 / sample.cpu_seconds.max(0.01)),
                cpu_seconds: median(one, |sample| sample.cpu_seconds),
                of_decode: speed(Stage::Decode, one.workers).map(|ceiling| mine / ceiling),
                over_one_worker: speed(one.stage, 1).filter(|_| one.workers > 1).map(|alone| mine / alone),
            }
        });
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Report { format: 1, job: job.to_owned(), dataset: dataset.to_owned(), cores, runs, stages: stages.collect(), latency }
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut text = format!(
            "job \"{}\" on {}, {} processors, {} runs of each stage after a warm-up; medians\n\n",
            self.job, self.dataset, self.cores, self.runs
        );
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<17} {:>7} {:>8} {:>15} {:>11} {:>14} {:>7} {:>9} {:>9} {:>9} {:>8}",
            "stage",
            "workers",
            "MB/s",
            "least-most",
            "records/s",
            "per core",
            "CPU s",
            "RSS MB",
            "anon MB",
            "of decode",
            "over one"
        );
        for stage in &self.stages {
            let measured = Measured { stage: stage.stage, workers: stage.workers, samples: stage.runs.clone() };
            let [least, _, most] = spread(&measured, mb_per_s);
            let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let megabytes = |of: fn(&Sample) -> u64| spread(&measured, |sample| of(sample) as f64 / 1e6)[2];
            let _ = writeln!(
                text,
                "{:<17} {:>7} {:>8.0} {:>15} {:>11.0} {:>14.0} {:>7.2} {:>9.0} {:>9.0} {:>9} {:>8}",
                stage.stage.title(),
                stage.workers,
                stage.mb_per_s,
                format!("{least:.0}-{most:.0}"),
                stage.records_per_s,
                stage.records_per_cpu_s,
                stage.cpu_seconds,
                megabytes(|sample| sample.peak_rss_bytes),
                megabytes(|sample| sample.peak_anonymous_bytes),
                ratio(stage.of_decode),
                ratio(stage.over_one_worker),
            );
        }
        text.push_str(
            "\nEvery stage does all of those above it. +history is everything `run` does, the view dumped at the end and every\n\
             file synced included. MB are 10^6 bytes of records, unpacked; per core: records per second of processor time.\n",
        );
        if let Some(Latency { speed_permille, records, p50_us, p95_us, p99_us }) = self.latency {
            let millis = |micros: u64| micros as f64 / 1e3;
            let _ = writeln!(
                text,
                "\nread to visible in the view, {records} records of the first 20 s at {} times real time: \
                 p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms",
                speed_permille as f64 / 1e3,
                millis(p50_us),
                millis(p95_us),
                millis(p99_us)
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(megabytes: u64, seconds: f64) -> Sample {
        Sample { bytes: megabytes * 1_000_000, records: megabytes * 1_000, seconds, cpu_seconds: 2.0, ..Sample::default() }
    }

    #[test]
    fn medians_and_ratios() {
        let all = [
            (Stage::Decode, 1, vec![sample(100, 1.0)]),
            (Stage::Decode, 2, vec![sample(100, 0.5)]),
            (Stage::View, 2, vec![sample(100, 2.0), sample(100, 1.0), sample(100, 9.0)]),
            (Stage::View, 1, vec![sample(100, 4.0), sample(100, 4.0)]),
        ];
        let all = all.map(|(stage, workers, samples)| Measured { stage, workers, samples });
        let report = Report::new("mall", "/data", 3, &all, None);
        let view = &report.stages[2];
        assert_eq!((view.mb_per_s, view.of_decode, view.over_one_worker), (50.0, Some(0.25), Some(2.0)));
        assert_eq!((view.records_per_cpu_s, report.stages[0].over_one_worker), (50_000.0, None));
        assert!(report.table().contains("11-100"), "{}", report.table());
    }
}
