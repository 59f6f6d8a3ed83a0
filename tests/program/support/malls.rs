//! Datasets under names of their own, so that many tests share one broker, and cut in two by record time.
//!
//! ```text
//! generate ─► whole/ ─► first/  records before the instant of the cut
//!                   └─► rest/   the others, of the same partitions
//! ```
//!
//! Upholds: `first` and then `rest` produced into Kafka is `whole`, partition by partition, so what was read of both is
//! verified against `whole`.

use std::fs;
use std::path::{Path, PathBuf};

use super::binary::{succeed, text};
use super::services::Service;

/// A generated mall whose topics and job have a name that no other test and no earlier run has.
pub(crate) struct Mall {
    folder: tempfile::TempDir,
    /// The job's name, and what its topics' names begin with.
    pub(crate) name: String,
}

/// When the middle of malls is whose beginning does not matter: so old that no wall clock moves them.
const MIDDLE: u64 = 1_793_496_600_000;

impl Mall {
    /// Three hours of 2026-11-01, and `flags` more; every record has a timestamp.
    pub(crate) fn generate(name: &str, flags: &[&str]) -> Mall {
        Mall::generate_at(name, "2026-11-01T00:00:00Z", flags)
    }

    /// Three hours from `start` on.
    pub(crate) fn generate_at(name: &str, start: &str, flags: &[&str]) -> Mall {
        let mall = Mall::empty(name);
        let whole = mall.folder.path().join("whole");
        let usual = ["generate", "--out", &text(&whole), "--start", start, "--hours", "3", "--kcat"];
        succeed(&[&usual[..], flags].concat());
        for topic in folders(&whole) {
            let short = topic.file_name().expect("a name").to_str().expect("UTF-8").trim_start_matches("mall.").to_owned();
            fs::rename(&topic, whole.join(format!("{}.{short}", mall.name))).expect("renamed");
        }
        let job = fs::read_to_string(whole.join("mall.toml")).expect("a job file");
        let job = job.replace("\"mall.", &format!("\"{}.", mall.name)).replace("\"mall\"", &format!("\"{}\"", mall.name));
        mall.write_job(&job);
        mall
    }

    /// A folder for a dataset that the test writes itself.
    pub(crate) fn empty(name: &str) -> Mall {
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
        let mall = Mall { folder: tempfile::tempdir().expect("a folder"), name: format!("{name}-{nanos:x}") };
        fs::create_dir(mall.folder.path().join("whole")).expect("made");
        mall
    }

    /// Writes the job file.
    pub(crate) fn write_job(&self, job: &str) {
        fs::write(self.job(), job).expect("written");
    }

    /// Writes, or goes on with, the first partition of a topic.
    pub(crate) fn write(&self, folder: &str, topic: &str, lines: &[String]) {
        self.write_partition(folder, topic, 0, lines);
    }

    /// The same of any partition.
    pub(crate) fn write_partition(&self, folder: &str, topic: &str, partition: u32, lines: &[String]) {
        let topic = self.folder.path().join(folder).join(format!("{}.{topic}", self.name));
        fs::create_dir_all(&topic).expect("made");
        let path = topic.join(format!("{partition}.ndjson"));
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, before + &lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("written");
    }

    /// The job file.
    pub(crate) fn job(&self) -> String {
        self.dir("whole") + "/mall.toml"
    }

    /// The whole dataset.
    pub(crate) fn whole(&self) -> String {
        self.dir("whole")
    }

    /// A folder of this test.
    pub(crate) fn dir(&self, name: &str) -> String {
        text(&self.folder.path().join(name))
    }

    /// Moves the records of a topic on by a whole number of milliseconds: those of the log, not what they say.
    pub(crate) fn delay(&self, topic: &str, millis: u64) {
        for path in files(&self.folder.path().join("whole").join(format!("{}.{topic}", self.name))) {
            let later = |line: Vec<u8>| match (stamp(&line), String::from_utf8(line)) {
                (Some(at), Ok(line)) => {
                    line.replacen(&format!("\"ts\":{at}"), &format!("\"ts\":{}", at + millis), 1).into_bytes()
                }
                (_, Ok(line)) => line.into_bytes(),
                (_, Err(broken)) => broken.into_bytes(),
            };
            let moved: Vec<Vec<u8>> = lines(&path).into_iter().map(later).collect();
            fs::write(&path, moved.concat()).expect("written");
        }
    }

    /// Cuts the dataset in the middle of its time. Partitions of `late` (topic, number) are wholly in `late/`.
    pub(crate) fn cut(&self, late: Option<(&str, u32)>) {
        for topic in folders(&self.folder.path().join("whole")) {
            let name = topic.file_name().expect("a name").to_owned();
            for path in files(&topic) {
                let file = path.file_name().expect("a name").to_owned();
                let is_late = late.is_some_and(|(topic, number)| {
                    *name == *format!("{}.{topic}", self.name) && *file == *format!("{number}.ndjson")
                });
                let all = lines(&path);
                let cut = all.iter().position(|line| stamp(line).is_some_and(|stamp| stamp >= MIDDLE)).unwrap_or(all.len());
                let parts = if is_late { vec![("late", &all[..])] } else { vec![("first", &all[..cut]), ("rest", &all[cut..])] };
                for (part, lines) in parts {
                    let folder = self.folder.path().join(part).join(&name);
                    fs::create_dir_all(&folder).expect("made");
                    fs::write(folder.join(&file), lines.concat()).expect("written");
                }
            }
        }
    }

    /// An as-of, in milliseconds, that a run with ticks of ten seconds reaches once it has read `part`.
    pub(crate) fn reached_by(&self, part: &str) -> u64 {
        let last = |path: &PathBuf| lines(path).iter().filter_map(|line| stamp(line)).max().unwrap_or(0);
        let of_topics = folders(&self.folder.path().join(part)).into_iter().flat_map(|topic| files(&topic));
        let least = of_topics.map(|path| last(&path)).filter(|&last| last > 0).min().expect("records");
        least - 20_000
    }

    /// How many records a part has.
    pub(crate) fn records(&self, part: &str) -> usize {
        let of_topics = folders(&self.folder.path().join(part)).into_iter().flat_map(|topic| files(&topic));
        of_topics.map(|path| lines(&path).len()).sum()
    }

    /// Loads a part into Kafka.
    pub(crate) fn produce(&self, part: &str, kafka: &Service) {
        self.produce_with(part, kafka, &[]);
    }

    /// The same with more flags.
    pub(crate) fn produce_with(&self, part: &str, kafka: &Service, more: &[&str]) {
        let dir = self.dir(part);
        succeed(&[&["produce", "--replay", &dir, "--brokers", kafka.address()][..], more].concat());
    }

    /// Compares what a run left in each of `places` with all of the dataset.
    pub(crate) fn verify(&self, places: &[&str]) {
        let (job, whole) = (self.job(), self.whole());
        let verified = succeed(&[&["verify", "--job", &job, "--replay", &whole][..], places].concat());
        assert!(verified.contains("exact: "), "{verified}");
    }
}

/// The lines of a file, each with its end. Some of a mall are broken on purpose: no UTF-8.
fn lines(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).expect("readable");
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// The timestamp of an envelope, which stands before its payload.
fn stamp(line: &[u8]) -> Option<u64> {
    let line = String::from_utf8_lossy(line);
    let (_, rest) = line.split_once("\"ts\":")?;
    rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(of).expect("a folder").map(|entry| entry.expect("readable").path());
    all.filter(|path| path.is_dir()).collect()
}

fn files(of: &Path) -> Vec<PathBuf> {
    fs::read_dir(of).expect("a folder").map(|entry| entry.expect("readable").path()).collect()
}
