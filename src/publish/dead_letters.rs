//! Dead letters: records that could not be decoded, one JSON object per line, raw key and value included.
//!
//! Upholds: readable by the owner only (mode 0600), as raw records may hold what the columns of the tables do not.
//! Keeps: an open file per worker that had any. It has its final name once the writer is closed; until then the run is
//! not finished and nobody is told to read it.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::error::PublishError;
use super::layout::{create_parent, temporary};

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

/// One worker's dead letters, being written.
pub(crate) struct DeadLetterFile {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

impl DeadLetterFile {
    pub(crate) fn create(path: PathBuf) -> Result<Self, PublishError> {
        create_parent(&path)?;
        let temporary = temporary(&path);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(PublishError::io("create", &temporary))?;
        Ok(DeadLetterFile { path, temporary, file: BufWriter::new(file), bytes: 0 })
    }

    pub(crate) fn append(&mut self, job: &str, letters: &[DeadLetter]) -> Result<(), PublishError> {
        let mut line = Vec::new();
        for letter in letters {
            let encoded = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes));
            line.clear();
            serde_json::to_writer(
                &mut line,
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
            line.push(b'\n');
            self.bytes += line.len() as u64;
            self.file.write_all(&line).map_err(PublishError::io("write", &self.temporary))?;
        }
        Ok(())
    }

    /// Gives the file its final name; returns its size.
    pub(crate) fn close(mut self) -> Result<u64, PublishError> {
        self.file.flush().map_err(PublishError::io("write", &self.temporary))?;
        std::fs::rename(&self.temporary, &self.path).map_err(PublishError::io("rename to", &self.path))?;
        Ok(self.bytes)
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
        let path = dir.path().join("dead_letters/0of1.ndjson");
        let mut file = DeadLetterFile::create(path.clone()).unwrap();
        file.append("mall", &[letter(), DeadLetter { timestamp: None, key: Some(vec![]), ..letter() }]).unwrap();
        assert!(!path.exists(), "not before it is whole");
        let bytes = file.close().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(bytes, text.len() as u64);
        assert_eq!(
            text,
            r#"{"topic":"mall.payments","partition":3,"offset":42,"timestamp":1795168800000,"key":null,"value":"e/8=","reason":"json","error":"expected value at byte 1 of \"x\"","job":"mall","stamp":1795168800001}
{"topic":"mall.payments","partition":3,"offset":42,"timestamp":null,"key":"","value":"e/8=","reason":"json","error":"expected value at byte 1 of \"x\"","job":"mall","stamp":1795168800001}
"#
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
