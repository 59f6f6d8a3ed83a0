//! Dead letters: records that could not be decoded, one JSON object per line, raw key, value and headers included.
//!
//! Upholds: (1) readable by the owner only (mode 0600 in a folder, and while they wait for an upload), as raw records may
//! hold what the columns of the tables do not; (2) one object per worker, epoch of the records' stamps and reason, so that a job
//! that never ends has them as well, and who looks for one reason reads no other; (3) a line says which job and which program could
//! not read the record, also if it is shown by a later one.
//! Keeps: nothing between two batches; a file is open only while lines are added, so one is open at a time.
//! Absent on purpose: reading them back, see [`read`].

pub mod read;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::error::PublishError;
use crate::config::Job;
use crate::store::{Spool, Store};

/// A header of a record: its name, and its value if it has one.
pub type Header = (String, Option<Vec<u8>>);

/// Who could not read a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MadeBy {
    /// The job's version, see [`Job::version`]; `None`: a program wrote it that did not say so.
    pub job_version: Option<String>,
    /// The program's version.
    pub storeflow_version: Option<String>,
}

impl MadeBy {
    /// This program with a job.
    pub fn of(job: &Job) -> MadeBy {
        let storeflow_version = Some(env!("CARGO_PKG_VERSION").to_owned());
        MadeBy { job_version: Some(job.version()), storeflow_version }
    }
}

/// A record that could not be decoded, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Where it was.
    pub topic: Arc<str>,
    /// Where it was.
    pub partition: u32,
    /// Where it was.
    pub offset: u64,
    /// The record's timestamp, milliseconds.
    pub timestamp: Option<i64>,
    /// The raw key.
    pub key: Option<Vec<u8>>,
    /// The raw value; the whole line if that was not a record.
    pub value: Option<Vec<u8>>,
    /// Its headers, in their order; files of a dataset have none.
    pub headers: Vec<Header>,
    /// The kind of error, a stable code.
    pub reason: &'static str,
    /// The error in words.
    pub error: String,
    /// The record's stamp.
    pub stamp: u64,
    /// If it was replayed and could not be read again: the stamp that it had when it was read first.
    pub first_stamp: Option<u64>,
    /// Who could not read it; `None`: this run.
    pub by: Option<Arc<MadeBy>>,
}

/// A dead letter on disk; the field order is part of the format.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    timestamp: Option<i64>,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(&'a str, Option<String>)>,
    reason: &'a str,
    error: &'a str,
    job: &'a str,
    job_version: Option<&'a str>,
    storeflow_version: Option<&'a str>,
    stamp: u64,
    first_stamp: Option<u64>,
}

/// One worker's dead letters of an epoch and reason, being written.
pub(crate) struct DeadLetterFile {
    /// As people read its key.
    path: PathBuf,
    spool: Spool,
    letters: u64,
    bytes: u64,
}

impl DeadLetterFile {
    pub(crate) fn create(store: &Store, key: &str) -> Result<Self, PublishError> {
        let spool = store.spool(key)?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(spool.path())
            .map_err(PublishError::io("create", spool.path()))?;
        Ok(DeadLetterFile { path: store.place(key), spool, letters: 0, bytes: 0 })
    }

    /// Adds lines; `by` is this run.
    pub(crate) fn append(&mut self, job: &str, by: &MadeBy, letters: &[DeadLetter]) -> Result<(), PublishError> {
        let mut lines = Vec::new();
        for letter in letters {
            let by = letter.by.as_deref().unwrap_or(by);
            let encoded = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes));
            serde_json::to_writer(
                &mut lines,
                &Line {
                    topic: &letter.topic,
                    partition: letter.partition,
                    offset: letter.offset,
                    timestamp: letter.timestamp,
                    key: encoded(&letter.key),
                    value: encoded(&letter.value),
                    headers: letter.headers.iter().map(|(name, value)| (name.as_str(), encoded(value))).collect(),
                    reason: letter.reason,
                    error: &letter.error,
                    job,
                    job_version: by.job_version.as_deref(),
                    storeflow_version: by.storeflow_version.as_deref(),
                    stamp: letter.stamp,
                    first_stamp: letter.first_stamp,
                },
            )
            .map_err(PublishError::encode(&self.path))?;
            lines.push(b'\n');
        }
        self.letters += letters.len() as u64;
        self.bytes += lines.len() as u64;
        let file = OpenOptions::new().append(true).open(self.spool.path());
        file.and_then(|mut file| file.write_all(&lines)).map_err(PublishError::io("write", self.spool.path()))
    }

    /// Letters so far, and their size.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.letters, self.bytes)
    }

    /// The file, for [`Store::show`].
    pub(crate) fn into_spool(self) -> Spool {
        self.spool
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::publish::testing::dead_letter as letter;

    #[test]
    fn lines_for_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::folder(dir.path()).unwrap();
        let path = dir.path().join("dead_letters/0of1.ndjson");
        let mut file = DeadLetterFile::create(&store, "dead_letters/0of1.ndjson").unwrap();
        let by = |version: &str| MadeBy { job_version: Some(version.to_owned()), storeflow_version: None };
        let headers = vec![("trace".to_owned(), Some(b"{\xff".to_vec())), ("empty".to_owned(), None)];
        file.append("mall", &by("now"), &[letter()]).unwrap();
        let earlier = Some(Arc::new(by("before")));
        let other = DeadLetter { timestamp: None, key: Some(vec![]), headers, first_stamp: Some(5), by: earlier, ..letter() };
        file.append("mall", &by("now"), &[other]).unwrap();
        assert!(!path.exists(), "not before it is whole");
        let size = file.size();
        store.show(vec![file.into_spool()]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(size, (2, text.len() as u64));
        assert_eq!(
            text,
            r#"{"topic":"mall.payments","partition":3,"offset":42,"timestamp":1795168800000,"key":null,"value":"e/8=","headers":[],"reason":"json","error":"expected value at byte 1 of \"x\"","job":"mall","job_version":"now","storeflow_version":null,"stamp":1795168800001,"first_stamp":null}
{"topic":"mall.payments","partition":3,"offset":42,"timestamp":null,"key":"","value":"e/8=","headers":[["trace","e/8="],["empty",null]],"reason":"json","error":"expected value at byte 1 of \"x\"","job":"mall","job_version":"before","storeflow_version":null,"stamp":1795168800001,"first_stamp":5}
"#
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
