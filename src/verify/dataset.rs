//! The files of a dataset: `<dataset>/<topic>/<partition>.ndjson[.zst|.gz]`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Why a dataset could not be read. Nothing in a record can cause it.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A folder or file could not be opened, listed, read or unpacked.
    #[error("could not read \"{}\"", path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A data file whose name is not a partition number.
    #[error("could not tell the partition of \"{}\": its name is not a number", path.display())]
    Partition {
        /// The file.
        path: PathBuf,
    },
    /// A topic whose source is in Avro: lines of text cannot hold its records.
    #[error("could not recompute topic \"{topic}\": its format is avro, which no dataset of lines can hold")]
    Avro {
        /// The topic.
        topic: String,
    },
    /// Two files of one partition.
    #[error("could not choose a file for topic \"{topic}\" partition {partition}: there are several")]
    Twice {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
    },
}

impl VerifyError {
    /// That `path` could not be read.
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        VerifyError::Read { path: path.to_path_buf(), source }
    }
}

/// The file of a partition.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PartitionFile {
    /// Name of the folder.
    pub(super) topic: String,
    /// Number in the file's name.
    pub(super) partition: u32,
    /// The file.
    pub(super) path: PathBuf,
}

/// All partitions of a dataset, sorted. Files with other endings than those of data are left alone.
pub(super) fn partition_files(dataset: &Path, reads: impl Fn(&str) -> bool) -> Result<BTreeSet<PartitionFile>, VerifyError> {
    let mut files = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for (topic, folder) in entries(dataset)?.into_iter().filter(|(topic, path)| reads(topic) && path.is_dir()) {
        for (name, path) in entries(&folder)? {
            // A hidden file is somebody's unfinished write.
            if name.starts_with('.') {
                continue;
            }
            let plain = name.strip_suffix(".zst").or(name.strip_suffix(".gz")).unwrap_or(&name);
            let Some(number) = plain.strip_suffix(".ndjson") else { continue };
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            let Some(partition) = number.parse().ok().filter(|_| digits) else { return Err(VerifyError::Partition { path }) };
            if !seen.insert((topic.clone(), partition)) {
                return Err(VerifyError::Twice { topic, partition });
            }
            files.insert(PartitionFile { topic: topic.clone(), partition, path });
        }
    }
    Ok(files)
}

/// Names and paths in a folder.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, VerifyError> {
    let list = || -> io::Result<Vec<_>> {
        fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
            .collect()
    };
    list().map_err(|source| VerifyError::read(folder, source))
}

/// The content of a file, unpacked by its ending.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead>, VerifyError> {
    let open = || -> io::Result<Box<dyn BufRead>> {
        let file = File::open(path)?;
        Ok(match path.extension().and_then(|extension| extension.to_str()) {
            Some("zst") => Box::new(BufReader::new(zstd::Decoder::new(file)?)),
            Some("gz") => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(BufReader::new(file)))),
            _ => Box::new(BufReader::new(file)),
        })
    };
    open().map_err(|source| VerifyError::read(path, source))
}

/// Calls `visit` with every line and its number from 0, without the `\n`.
pub(super) fn for_each_line(mut content: impl BufRead, mut visit: impl FnMut(u64, &[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    let mut number = 0;
    while content.read_until(b'\n', &mut line)? > 0 {
        visit(number, line.strip_suffix(b"\n").unwrap_or(&line));
        number += 1;
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn lines_keep_their_numbers() {
        let mut lines = Vec::new();
        for_each_line(&b"a\n\nb\r\n\n c"[..], |number, line| lines.push((number, line.to_vec()))).unwrap();
        let expected: [(u64, &[u8]); 5] = [(0, b"a"), (1, b""), (2, b"b\r"), (3, b""), (4, b" c")];
        assert_eq!(lines, expected.map(|(number, line)| (number, line.to_vec())));
    }

    #[test]
    fn files_are_found_and_unpacked() {
        let dataset = tempfile::tempdir().unwrap();
        let topic = dataset.path().join("mall.payments");
        fs::create_dir(&topic).unwrap();
        fs::write(dataset.path().join("README.md"), "about").unwrap();
        fs::write(topic.join("notes.txt"), "about").unwrap();
        fs::write(topic.join(".2.ndjson"), "half").unwrap();
        fs::write(topic.join("2.ndjson"), "two").unwrap();
        fs::write(topic.join("10.ndjson.zst"), zstd::encode_all(&b"ten"[..], 1).unwrap()).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"three").unwrap();
        fs::write(topic.join("3.ndjson.gz"), gz.finish().unwrap()).unwrap();

        let files = partition_files(dataset.path(), |_| true).unwrap();
        let read = |file: &PartitionFile| {
            let mut text = String::new();
            open(&file.path).unwrap().read_to_string(&mut text).unwrap();
            (file.topic.clone(), file.partition, text)
        };
        let expected = [(2, "two"), (3, "three"), (10, "ten")];
        assert_eq!(
            files.iter().map(read).collect::<Vec<_>>(),
            expected.map(|(n, t)| ("mall.payments".to_string(), n, t.to_string()))
        );

        fs::write(topic.join("3.ndjson"), "three").unwrap();
        assert!(matches!(partition_files(dataset.path(), |_| true), Err(VerifyError::Twice { partition: 3, .. })));
        fs::remove_file(topic.join("3.ndjson")).unwrap();
        fs::write(topic.join("three.ndjson"), "three").unwrap();
        assert!(matches!(partition_files(dataset.path(), |_| true), Err(VerifyError::Partition { .. })));
    }

    #[test]
    fn a_missing_dataset_is_named() {
        let error = partition_files(Path::new("/nonexistent/dataset"), |_| true).unwrap_err();
        assert_eq!(error.to_string(), "could not read \"/nonexistent/dataset\"");
    }
}
