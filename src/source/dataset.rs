//! A dataset: a folder of topics, each a folder of partition files; `_schemas`, which holds the schemas of Avro records, is none.
//!
//! Absent on purpose: what a line means (see `lines` and `envelope`) and what a topic is for (see the job).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::registry::{DATASET_FOLDER, FileError};
use crate::config::Job;

/// Why a dataset cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file or folder could not be opened, listed or read.
    #[error("could not read \"{}\"", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A topic the job names has no folder.
    #[error("the job reads topic \"{topic}\", but \"{}\" has no folder for it; it holds {found}", dataset.display())]
    NoTopic {
        /// The topic or pattern.
        topic: String,
        /// The dataset.
        dataset: PathBuf,
        /// The topics there are, for people.
        found: String,
    },
    /// A topic's folder holds no partition file.
    #[error("\"{}\" holds no partition: files are named <number>.ndjson, .ndjson.zst or .ndjson.gz", path.display())]
    NoPartition {
        /// The folder.
        path: PathBuf,
    },
    /// A file does not reach to where a checkpoint goes on.
    #[error("\"{}\" has {lines} lines, the checkpoint goes on at {wanted}: it is not the dataset that was being read", path.display())]
    Shorter {
        /// The file.
        path: PathBuf,
        /// The lines it has.
        lines: u64,
        /// The line to go on with.
        wanted: u64,
    },
    /// A partition has two files, or a name that is no number; a schema is none.
    #[error("\"{}\" {what}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl From<FileError> for DatasetError {
    fn from(FileError { path, what }: FileError) -> Self {
        DatasetError::BadFile { path, what }
    }
}

/// How a partition file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As it is.
    Plain,
    /// Zstandard.
    Zstd,
    /// gzip.
    Gzip,
}

/// One partition's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFile {
    /// The topic, its folder's name.
    pub topic: String,
    /// The partition's number.
    pub partition: u32,
    /// The file.
    pub path: PathBuf,
    /// How it is packed.
    pub packing: Packing,
    /// Its size on disk, bytes.
    pub bytes: u64,
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> DatasetError + '_ {
    |source| DatasetError::Unreadable { path: path.to_owned(), source }
}

/// The partitions of all topics that a job reads, sorted by topic and number. Their places in this list are the partition
/// indices that the dataflow uses.
///
/// # Errors
/// If a folder is unreadable or a topic the job names is missing; see [`DatasetError`].
pub fn partitions(job: &Job, dataset: &Path) -> Result<Vec<PartitionFile>, DatasetError> {
    let topics = topics(dataset)?;
    for pattern in job.sources.iter().flat_map(|source| &source.topics) {
        if !topics.iter().any(|topic| crate::config::matches_pattern(pattern, topic)) {
            let found = match &topics[..] {
                [] => "no folders".to_owned(),
                some => some.iter().take(10).map(|topic| format!("\"{topic}\"")).collect::<Vec<_>>().join(", "),
            };
            return Err(DatasetError::NoTopic { topic: pattern.clone(), dataset: dataset.to_owned(), found });
        }
    }
    let mut files = Vec::new();
    for topic in topics.iter().filter(|topic| job.sources.iter().any(|source| source.reads(topic))) {
        files.extend(topic_partitions(&dataset.join(topic), topic)?);
    }
    Ok(files)
}

/// The partitions of every topic there is, sorted by topic and number; hidden folders and `expected/`, which holds results,
/// are no topics.
///
/// # Errors
/// If a folder is unreadable or a topic is not laid out as it should be; see [`DatasetError`].
pub fn all_partitions(dataset: &Path) -> Result<Vec<PartitionFile>, DatasetError> {
    let mut files = Vec::new();
    for topic in topics(dataset)?.iter().filter(|topic| !topic.starts_with('.') && *topic != "expected") {
        files.extend(topic_partitions(&dataset.join(topic), topic)?);
    }
    if files.is_empty() {
        return Err(DatasetError::NoPartition { path: dataset.to_owned() });
    }
    Ok(files)
}

fn topics(dataset: &Path) -> Result<Vec<String>, DatasetError> {
    let mut topics = Vec::new();
    for entry in fs::read_dir(dataset).map_err(unreadable(dataset))? {
        let entry = entry.map_err(unreadable(dataset))?;
        if entry.path().is_dir()
            && let Some(name) = entry.file_name().to_str()
            && name != DATASET_FOLDER
        {
            topics.push(name.to_owned());
        }
    }
    topics.sort();
    Ok(topics)
}

fn topic_partitions(folder: &Path, topic: &str) -> Result<Vec<PartitionFile>, DatasetError> {
    let mut files: Vec<PartitionFile> = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let (stem, packing) = match name {
            // Hidden files are somebody's unfinished writes.
            hidden if hidden.starts_with('.') => continue,
            name => match (name.strip_suffix(".ndjson"), name.strip_suffix(".ndjson.zst"), name.strip_suffix(".ndjson.gz")) {
                (Some(stem), _, _) => (stem, Packing::Plain),
                (_, Some(stem), _) => (stem, Packing::Zstd),
                (_, _, Some(stem)) => (stem, Packing::Gzip),
                _ => continue,
            },
        };
        let bad = |what: String| DatasetError::BadFile { path: path.clone(), what };
        // Numbers of 16 bits, as in the ids of `names`.
        let partition = stem.parse::<u16>().map_err(|_| bad("is not named after a partition number (0 to 65535)".to_owned()))?;
        let partition = u32::from(partition);
        if files.iter().any(|file| file.partition == partition) {
            return Err(bad(format!("is a second file of partition {partition}")));
        }
        let bytes = fs::metadata(&path).map_err(unreadable(&path))?.len();
        files.push(PartitionFile { topic: topic.to_owned(), partition, path, packing, bytes });
    }
    if files.is_empty() {
        return Err(DatasetError::NoPartition { path: folder.to_owned() });
    }
    files.sort_by_key(|file| file.partition);
    Ok(files)
}
