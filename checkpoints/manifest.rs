//! What one checkpoint consists of: the object whose creation commits it.
//!
//! ```text
//! {
//!   "format": 1,
//!   "job": "mall",
//!   ...                                  one field per line, long lists one entry per line: `diff` and `jq` both serve
//!   "partitions": [
//!     {"topic":"mall.payments","partition":0,"position":1287,"clock":{"now":1767225599000,...}}
//!   ],
//!   "checksum": "9f0c6a52d0a3b1e7"       of everything before this line
//! }
//! ```
//!
//! Upholds: (1) every byte is covered: a flipped bit or a missing end is found when it is read; (2) the same manifest is the same
//! bytes; (3) a format of a newer program is refused by its number, whatever else it holds.
//! Keeps: nothing. Absent on purpose: what the setting means, and what is in the objects.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::object::Object;

/// The format that this program writes, and the only one it reads.
pub const FORMAT: u32 = 1;

/// A committed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The job's name.
    pub job: String,
    /// The job's generation.
    pub generation: u64,
    /// Place in the sequence: dense, from 1.
    pub number: u64,
    /// Checksum of the manifest before it in the sequence.
    pub previous: Option<String>,
    /// Set if this is what manifest so-and-so was, made the newest again by `checkpoints drop-after`.
    pub restores: Option<u64>,
    /// The run that committed it: one start of the whole cluster.
    pub run: String,
    /// Wall time of the commit in milliseconds. Nothing is decided by it but when old manifests are deleted.
    pub written_at: u64,
    /// The records before this, in milliseconds of log time, are in the state.
    pub as_of: u64,
    /// The as-of that the newly written objects follow; 0 for the first.
    pub previous_as_of: u64,
    /// Whether the input had an end, and this is it.
    pub complete: bool,
    /// Workers that wrote it.
    pub workers: usize,
    /// Manifests that can be loaded, in ascending order, this one at the end. The objects of others may be gone.
    pub kept: Vec<u64>,
    /// The job's fingerprint; what it means is not known here.
    pub setting: Value,
    /// Topics by their number.
    pub topics: Vec<String>,
    /// How far each partition was read.
    pub partitions: Vec<PartitionAt>,
    /// All of the state.
    pub state: Vec<Object>,
    /// What changed since `previous_as_of`, with the rows that the history must show.
    pub fresh: Vec<Object>,
}

/// How far a partition was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionAt {
    /// Its topic.
    pub topic: String,
    /// Its number in the topic.
    pub partition: u32,
    /// The position to go on from: the first that is not in the state.
    pub position: u64,
    /// Its log clock; `None`: not started.
    pub clock: Option<ClockAt>,
}

/// A log clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockAt {
    /// What it shows, in milliseconds.
    pub now: u64,
    /// Records of a jump ahead that is not confirmed yet.
    pub pending: u32,
    /// The least timestamp among them, in milliseconds; 0 without any.
    pub pending_least: u64,
    /// Jumps that were confirmed.
    pub jumps: u64,
}

/// Why bytes are no manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// They are not what was written.
    Damaged(String),
    /// A program that this one does not know wrote them.
    Format(u32),
}

const TAIL_START: &[u8] = b",\n  \"checksum\": \"";
const TAIL_END: &[u8] = b"\"\n}\n";
const TAIL_LENGTH: usize = TAIL_START.len() + 16 + TAIL_END.len();

impl Manifest {
    /// Whether the objects of manifest `number` are still there, as far as this one decides it.
    pub fn keeps(&self, number: u64) -> bool {
        self.kept.contains(&number)
    }

    /// All objects that it names, some twice.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.state.iter().chain(&self.fresh)
    }

    /// As it is stored, and as people read it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Manifest { format, job, generation, number, previous, restores, run, written_at, as_of, .. } = self;
        let Manifest { previous_as_of, complete, workers, kept, setting, topics, partitions, state, fresh, .. } = self;
        let mut text = Text { bytes: b"{".to_vec() };
        text.field("format", format);
        text.field("job", job);
        text.field("generation", generation);
        text.field("number", number);
        text.field("previous", previous);
        text.field("restores", restores);
        text.field("run", run);
        text.field("written_at", written_at);
        text.field("as_of", as_of);
        text.field("previous_as_of", previous_as_of);
        text.field("complete", complete);
        text.field("workers", workers);
        text.field("kept", kept);
        text.field("setting", setting);
        text.list("topics", topics);
        text.list("partitions", partitions);
        text.list("state", state);
        text.list("fresh", fresh);
        let mut bytes = text.bytes;
        let checksum = format!("{:016x}", xxh3_64(&bytes));
        for part in [TAIL_START, checksum.as_bytes(), TAIL_END] {
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// Reads what [`Manifest::to_bytes`] wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Manifest, Flaw> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let damaged = |what: &str| Flaw::Damaged(what.to_owned());
        let (body, stated) = split(bytes);
        if stated.is_some_and(|stated| stated != checksum(bytes).as_bytes()) {
            return Err(damaged("its checksum is not that of its bytes"));
        }
        // Looked for first, and in a text of any shape: other formats need not end as this one does.
        match serde_json::from_slice::<Versioned>(bytes) {
            Ok(Versioned { format: FORMAT }) => {}
            Ok(Versioned { format }) => return Err(Flaw::Format(format)),
            Err(_) => return Err(damaged("its end is missing, or it is no manifest")),
        }
        if stated.is_none() {
            return Err(damaged("it does not end with its checksum"));
        }
        let manifest: Manifest =
            serde_json::from_slice(&[body, b"}"].concat()).map_err(|error| Flaw::Damaged(error.to_string()))?;
        let Manifest { number, restores, kept, .. } = &manifest;
        if *number == 0 || restores.is_some_and(|restored| restored >= *number) || kept.last() != Some(number) {
            return Err(damaged("its numbers contradict each other"));
        }
        Ok(manifest)
    }
}

/// The checksum that the next manifest repeats. Of a whole manifest it is the one in its last line; damaged ones have one, too.
pub(crate) fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(split(bytes).0))
}

/// What the checksum covers, and the checksum that is written after it, if there is one.
fn split(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(middle) = bytes.len().checked_sub(TAIL_LENGTH) else { return (bytes, None) };
    let (body, tail) = bytes.split_at(middle);
    match tail.strip_prefix(TAIL_START).and_then(|tail| tail.strip_suffix(TAIL_END)) {
        Some(stated) => (body, Some(stated)),
        None => (bytes, None),
    }
}

/// JSON with one field, or one entry of a long list, per line.
struct Text {
    bytes: Vec<u8>,
}

impl Text {
    fn field(&mut self, name: &str, value: &impl Serialize) {
        self.name(name);
        self.value(value);
    }

    fn list(&mut self, name: &str, values: &[impl Serialize]) {
        self.name(name);
        self.bytes.push(b'[');
        for (index, value) in values.iter().enumerate() {
            self.bytes.extend_from_slice(if index == 0 { b"\n    " } else { b",\n    " });
            self.value(value);
        }
        self.bytes.extend_from_slice(if values.is_empty() { b"]" } else { b"\n  ]" });
    }

    fn name(&mut self, name: &str) {
        let separator = if self.bytes == b"{" { "" } else { "," };
        self.bytes.extend_from_slice(format!("{separator}\n  \"{name}\": ").as_bytes());
    }

    fn value(&mut self, value: &impl Serialize) {
        serde_json::to_writer(&mut self.bytes, value).expect("texts, numbers, and lists of them are JSON");
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::object::Group;

    pub(crate) fn object(key: &str) -> Object {
        Object {
            key: key.to_owned(),
            bytes: 123,
            checksum: "00112233445566ff".to_owned(),
            through: 2000,
            group: Group { index: 0, of: 2 },
            rows: 4,
            raw: 456,
        }
    }

    fn example() -> Manifest {
        let clock = ClockAt { now: 1999, pending: 0, pending_least: 0, jumps: 1 };
        Manifest {
            format: FORMAT,
            job: "mall".to_owned(),
            generation: 1,
            number: 3,
            previous: Some("0123456789abcdef".to_owned()),
            restores: None,
            run: "5f1c09aa".to_owned(),
            written_at: 1_767_225_600_000,
            as_of: 2000,
            previous_as_of: 1000,
            complete: false,
            workers: 2,
            kept: vec![2, 3],
            setting: serde_json::json!({ "scale": 2, "sources": ["a \"quoted\" one"] }),
            topics: vec!["mall.payments".to_owned()],
            partitions: vec![
                PartitionAt { topic: "mall.payments".to_owned(), partition: 0, position: u64::MAX, clock: Some(clock) },
                PartitionAt { topic: "mall.payments".to_owned(), partition: 1, position: 0, clock: None },
            ],
            state: vec![object("p/state/0000000002-0of2-5f1c09aa"), object("p/state/0000000003-0of2-5f1c09aa")],
            fresh: vec![],
        }
    }

    #[test]
    fn a_manifest_is_text_of_one_shape_and_comes_back() {
        let bytes = example().to_bytes();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let expected = r#"{
  "format": 1,
  "job": "mall",
  "generation": 1,
  "number": 3,
  "previous": "0123456789abcdef",
  "restores": null,
  "run": "5f1c09aa",
  "written_at": 1767225600000,
  "as_of": 2000,
  "previous_as_of": 1000,
  "complete": false,
  "workers": 2,
  "kept": [2,3],
  "setting": {"scale":2,"sources":["a \"quoted\" one"]},
  "topics": [
    "mall.payments"
  ],
  "partitions": [
    {"topic":"mall.payments","partition":0,"position":18446744073709551615,"clock":{"now":1999,"pending":0,"pending_least":0,"jumps":1}},
    {"topic":"mall.payments","partition":1,"position":0,"clock":null}
  ],
  "state": [
    {"key":"p/state/0000000002-0of2-5f1c09aa","bytes":123,"checksum":"00112233445566ff","through":2000,"group":{"index":0,"of":2},"rows":4,"raw":456},
    {"key":"p/state/0000000003-0of2-5f1c09aa","bytes":123,"checksum":"00112233445566ff","through":2000,"group":{"index":0,"of":2},"rows":4,"raw":456}
  ],
  "fresh": [],
  "checksum": ""#;
        assert_eq!(&text[..expected.len()], expected);
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "the whole of it is JSON");
        assert_eq!(Manifest::from_bytes(&bytes), Ok(example()));
        assert_eq!(example().to_bytes(), bytes);
    }

    #[test]
    fn any_bit_flipped_and_any_missing_end_is_damage() {
        let bytes = example().to_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(matches!(Manifest::from_bytes(&damaged), Err(Flaw::Damaged(_))), "bit {bit} of byte {at}");
            }
            assert!(matches!(Manifest::from_bytes(&bytes[..at]), Err(Flaw::Damaged(_))), "the first {at} bytes");
        }
    }

    #[test]
    fn another_format_is_refused_by_its_number() {
        let newer = Manifest { format: 2, ..example() };
        assert_eq!(Manifest::from_bytes(&newer.to_bytes()), Err(Flaw::Format(2)));
        assert_eq!(Manifest::from_bytes(br#"{"format": 9, "shape": "of its own"}"#), Err(Flaw::Format(9)));
    }

    #[test]
    fn a_field_that_nobody_knows_is_damage() {
        let mut body = split(&example().to_bytes()).0.to_vec();
        body.extend_from_slice(b",\n  \"surprise\": 1");
        let checksum = format!("{:016x}", xxh3_64(&body));
        let bytes = [&body[..], TAIL_START, checksum.as_bytes(), TAIL_END].concat();
        let Err(Flaw::Damaged(what)) = Manifest::from_bytes(&bytes) else { panic!("accepted") };
        assert!(what.contains("surprise"), "{what}");
    }
}
