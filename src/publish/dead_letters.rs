//! Dead letters: records that could not be decoded, one JSON object per line, raw key and value included.
//!
//! Upholds: (1) readable by the owner only (mode 0600 in a folder, and while they wait for an upload), as raw records may
//! hold what the columns of the tables do not; (2) one object per worker and epoch of the records' stamps, so that a job
//! that never ends has them as well.
//! Keeps: nothing between two batches; a file is open only while lines are added.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::error::PublishError;
use crate::store::{Spool, Store};

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
    /// The kind of error, a stable code.
    pub reason: &'static str,
    /// The error in words.
    pub error: String,
    /// The record's stamp.
    pub stamp: u64,
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
    reason: &'a str,
    error: &'a str,
    job: &'a str,
    stamp: u64,
}

/// One worker's dead letters of an epoch, being written.
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

    pub(crate) fn append(&mut self, job: &str, letters: &[DeadLetter]) -> Result<(), PublishError> {
        let mut lines = Vec::new();
        for letter in letters {
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
                    reason: letter.reason,
                    error: &letter.error,
                    job,
                    stamp: letter.stamp,
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
        file.append("mall", &[letter()]).unwrap();
        file.append("mall", &[DeadLetter { timestamp: None, key: Some(vec![]), ..letter() }]).unwrap();
        assert!(!path.exists(), "not before it is whole");
        let size = file.size();
        store.show(vec![file.into_spool()]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(size, (2, text.len() as u64));
        assert_eq!(
            text,
            r#"{"topic":"mall.payments","partition":3,"offset":42,"timestamp":1795168800000,"key":null,"value":"e/8=","reason":"json","error":"expected value at byte 1 of \"x\"","job":"mall","stamp":1795168800001}
{"topic":"mall.payments","partition":3,"offset":42,"timestamp":null,"key":"","value":"e/8=","reason":"json","error":"expected value at byte 1 of \"x\"","job":"mall","stamp":1795168800001}
"#
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
