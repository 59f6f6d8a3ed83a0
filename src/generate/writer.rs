//! The files of a dataset: `<dataset>/<topic>/<partition>.ndjson[.zst|.gz]` and the job file.
//!
//! ```text
//! begin ──► DIR/.partial/<topic>/<n>.ndjson … ──► finish: rename every topic folder, then the job file
//! ```
//!
//! Upholds: a topic folder or job file under its final name is whole; what an interrupted run leaves behind is in `.partial`,
//! where no dataset reader looks, and the next run removes it. A dataset that is there is replaced only when forced to.
//! Absent on purpose: fsync. A dataset can be made again from its seed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Compression, GenerateError, Topic};

const PARTIAL: &str = ".partial";
const JOB_FILE: &str = "mall.toml";
/// Per partition file; large enough that a write is not felt, small enough for a thousand partitions.
const BUFFER_BYTES: usize = 64 << 10;

/// A dataset being written. Dropped before [`Dataset::finish`], it leaves nothing behind.
pub(super) struct Dataset {
    dir: PathBuf,
    partial: PathBuf,
    /// What was there before, in the way of the new one.
    replaced: Vec<PathBuf>,
    topics: Vec<Topic>,
    finished: bool,
}

impl Dataset {
    /// Makes the folder, or refuses one that holds something, unless `force`d to replace a former dataset in it.
    pub(super) fn begin(dir: &Path, force: bool) -> Result<Self, GenerateError> {
        fs::create_dir_all(dir).map_err(io_error("create the folder", dir))?;
        let entries = fs::read_dir(dir).map_err(io_error("list the folder", dir))?;
        let names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
        let mut names = names.map_err(io_error("list the folder", dir))?;
        names.retain(|name| name != PARTIAL);
        if !names.is_empty() && !force {
            return Err(GenerateError::NotEmpty { dir: dir.to_owned() });
        }
        let ours = Topic::ALL.map(Topic::name).into_iter().chain([JOB_FILE]);
        let replaced = ours.filter(|ours| names.iter().any(|name| name == ours)).map(|name| dir.join(name));
        let replaced = replaced.collect();
        let partial = dir.join(PARTIAL);
        remove(&partial).map_err(io_error("remove the leftovers of an interrupted run in", &partial))?;
        fs::create_dir(&partial).map_err(io_error("create the folder", &partial))?;
        Ok(Dataset { dir: dir.to_owned(), partial, replaced, topics: Vec::new(), finished: false })
    }

    /// Opens the partition files of a topic.
    pub(super) fn topic(&mut self, topic: Topic, partitions: u32, compression: Compression) -> Result<Partitions, GenerateError> {
        let dir = self.partial.join(topic.name());
        fs::create_dir(&dir).map_err(io_error("create the folder", &dir))?;
        self.topics.push(topic);
        let files = (0..partitions).map(|partition| PartitionFile::create(&dir, partition, partitions, compression));
        Ok(Partitions { files: files.collect::<Result<_, _>>()?, bytes: 0, records: 0 })
    }

    /// Gives everything its final name; the job file comes last.
    pub(super) fn finish(mut self, job_file: &str) -> Result<(), GenerateError> {
        let partial_job = self.partial.join(JOB_FILE);
        fs::write(&partial_job, job_file).map_err(io_error("write", &partial_job))?;
        for path in &self.replaced {
            remove(path).map_err(io_error("remove the former", path))?;
        }
        let names = self.topics.iter().map(|topic| topic.name()).chain([JOB_FILE]);
        for name in names {
            let path = self.dir.join(name);
            fs::rename(self.partial.join(name), &path).map_err(io_error("rename the finished", &path))?;
        }
        self.finished = true;
        remove(&self.partial).map_err(io_error("remove", &self.partial))
    }
}

impl Drop for Dataset {
    fn drop(&mut self) {
        if !self.finished {
            // The error that brought us here says more than one of tidying up.
            let _ = remove(&self.partial);
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GenerateError {
    let path = path.to_owned();
    move |source| GenerateError::Io { what, path, source }
}

/// The partition files of one topic.
pub(super) struct Partitions {
    files: Vec<PartitionFile>,
    bytes: u64,
    records: u64,
}

impl Partitions {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.files.len() as u64
    }

    /// The number of the next line of a partition.
    pub(super) fn next_line(&self, partition: usize) -> u64 {
        self.files[partition].lines
    }

    /// Appends a line, which ends with its `\n`.
    pub(super) fn write(&mut self, partition: usize, line: &[u8]) -> Result<(), GenerateError> {
        let file = &mut self.files[partition];
        let written = match &mut file.encoder {
            Encoder::Plain(plain) => plain.write_all(line),
            Encoder::Zstd(zstd) => zstd.write_all(line),
            Encoder::Gzip(gzip) => gzip.write_all(line),
        };
        written.map_err(io_error("write", &file.path))?;
        file.lines += 1;
        self.records += 1;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Flushes and closes all files; how many records and bytes (before compression) they hold.
    pub(super) fn finish(self) -> Result<(u64, u64), GenerateError> {
        for PartitionFile { path, encoder, .. } in self.files {
            let buffer = match encoder {
                Encoder::Plain(plain) => Ok(plain),
                Encoder::Zstd(zstd) => zstd.finish(),
                Encoder::Gzip(gzip) => gzip.finish(),
            };
            let flushed = buffer.and_then(|mut buffer| buffer.flush());
            flushed.map_err(io_error("write", &path))?;
        }
        Ok((self.records, self.bytes))
    }
}

struct PartitionFile {
    path: PathBuf,
    encoder: Encoder,
    lines: u64,
}

enum Encoder {
    Plain(BufWriter<File>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
    Gzip(flate2::write::GzEncoder<BufWriter<File>>),
}

impl PartitionFile {
    fn create(dir: &Path, partition: u32, partitions: u32, compression: Compression) -> Result<Self, GenerateError> {
        let compression = match compression {
            // Plain first, so that there is something to look at.
            Compression::Mixed if partition == 0 => Compression::None,
            Compression::Mixed if partition + 1 == partitions => Compression::Gzip,
            Compression::Mixed => Compression::Zstd,
            same => same,
        };
        let ending = match compression {
            Compression::Zstd => ".zst",
            Compression::Gzip => ".gz",
            Compression::None | Compression::Mixed => "",
        };
        let path = dir.join(format!("{partition}.ndjson{ending}"));
        let file = File::create_new(&path).map_err(io_error("create", &path))?;
        let buffer = BufWriter::with_capacity(BUFFER_BYTES, file);
        let encoder = match compression {
            Compression::Zstd => Encoder::Zstd(zstd::Encoder::new(buffer, 9).map_err(io_error("compress", &path))?),
            Compression::Gzip => Encoder::Gzip(flate2::write::GzEncoder::new(buffer, flate2::Compression::best())),
            Compression::None | Compression::Mixed => Encoder::Plain(buffer),
        };
        Ok(PartitionFile { path, encoder, lines: 0 })
    }
}
