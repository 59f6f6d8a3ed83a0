//! How records are written down: kcat envelopes or bare values, and Debezium's envelope inside them.
//!
//! ```text
//! row ─► {"before","after","source","transaction","op"} ─► … + ts_ms (connector) ─► {"topic","partition","offset",…,"payload"}
//!         debezium()                                        connector.rs             Log::append
//! ```
//!
//! Upholds: `topic` is the first key of a kcat envelope and its offset is its line number, so positions are the same in both
//! forms. Absent on purpose: serde_json; these are the hottest lines of the generator.

use super::text::{push, push_i64, push_json_string, push_u64};
use super::writer::Partitions;
use super::{GenerateError, Topic};

/// A way to break a record, each for one reason a decoder has to give.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flaw {
    /// The value ends in the middle.
    CutOff,
    /// A byte that occurs in no UTF-8 text.
    NotUtf8,
    /// No store.
    NoStore,
    /// An empty store id.
    EmptyStore,
    /// A time that is text.
    WrongTime,
    /// An amount or quantity that is a boolean.
    WrongNumber,
    /// An amount with too many digits after the point.
    TooPrecise,
}

/// Breaks a whole value in the ways that need no knowledge of its fields; `chance` says where.
pub(super) fn damage(value: &mut Vec<u8>, flaw: Flaw, chance: u64) {
    let middle = value.len() / 4 + (chance % (value.len() as u64 / 2).max(1)) as usize;
    match flaw {
        Flaw::CutOff => value.truncate(middle.max(1)),
        Flaw::NotUtf8 => value[middle] = 0xff,
        _ => {}
    }
}

/// The records of one topic, as lines of its partition files.
pub(super) struct Log {
    topic: Topic,
    kcat: bool,
    partitions: Partitions,
    line: Vec<u8>,
}

impl Log {
    /// An empty topic.
    pub(super) fn new(topic: Topic, kcat: bool, partitions: Partitions) -> Self {
        Log { topic, kcat, partitions, line: Vec::new() }
    }

    /// The partition of a key: by its hash, so that all records of a key are in one.
    pub(super) fn partition(&self, key: &[u8]) -> usize {
        (xxhash_rust::xxh3::xxh3_64(key) % self.partitions.count()) as usize
    }

    /// Appends a record to a partition. Without `value` it is a tombstone.
    pub(super) fn append(
        &mut self,
        partition: usize,
        timestamp_ms: i64,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), GenerateError> {
        let line = &mut self.line;
        line.clear();
        if self.kcat {
            push(line, "{\"topic\":\"");
            push(line, self.topic.name());
            push(line, "\",\"partition\":");
            push_u64(line, partition as u64);
            push(line, ",\"offset\":");
            push_u64(line, self.partitions.next_line(partition));
            push(line, ",\"tstype\":\"create\",\"ts\":");
            push_i64(line, timestamp_ms);
            push(line, ",\"broker\":1,\"key\":");
            push_json_string(line, key);
            push(line, ",\"payload\":");
            match value {
                Some(value) => push_json_string(line, value),
                None => push(line, "null"),
            }
            line.push(b'}');
        } else {
            line.extend_from_slice(value.unwrap_or(b"null"));
        }
        line.push(b'\n');
        self.partitions.write(partition, line)
    }

    /// Closes the files; records and bytes written.
    pub(super) fn finish(self) -> Result<(u64, u64), GenerateError> {
        self.partitions.finish()
    }
}

/// Writes Debezium's envelope up to and without the connector's own time, which is known only when it is sent.
pub(super) fn debezium(
    out: &mut Vec<u8>,
    before: Option<&[u8]>,
    after: Option<&[u8]>,
    source: impl FnOnce(&mut Vec<u8>),
    op: &str,
) {
    push(out, "{\"before\":");
    out.extend_from_slice(before.unwrap_or(b"null"));
    push(out, ",\"after\":");
    out.extend_from_slice(after.unwrap_or(b"null"));
    push(out, ",\"source\":");
    source(out);
    push(out, ",\"transaction\":null,\"op\":\"");
    push(out, op);
    out.push(b'"');
}

/// Writes `"ts_ms":…,"ts_us":…,"ts_ns":…`, as Debezium does since 2.6.
pub(super) fn push_times(out: &mut Vec<u8>, at_us: i64) {
    push(out, "\"ts_ms\":");
    push_i64(out, at_us / 1_000);
    push(out, ",\"ts_us\":");
    push_i64(out, at_us);
    push(out, ",\"ts_ns\":");
    push_i64(out, at_us * 1_000);
}
