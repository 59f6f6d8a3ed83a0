//! Dead letters back from a store: those in files, and those that only a checkpoint holds yet.
//!
//! ```text
//! dead_letters/date=…/reason=…/epoch=…  ─► newest epoch first, a few megabytes at a time ─┐
//! (date=…/epoch=… of earlier programs)                                                     ├─► visit, by the filter
//! newest checkpoint: of epochs that are not over, less what a stopped run has shown ───────┘
//! ```
//!
//! Upholds: (1) each letter is visited once, also while a job runs: what moves from the checkpoint into a file between two looks is
//! told apart by its place and stamp; (2) files that the filter rules out are not read.
//! Keeps: the letters that only the checkpoint holds, and one read of a file.
//! Absent on purpose: what a letter means to people (see `cli::dead_letters`), and order within an epoch.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use storeflow_checkpoints::damage::CheckpointError;
use storeflow_checkpoints::load::load;
use storeflow_checkpoints::manifest::Manifest;
use storeflow_dataflows::state::Section;

use super::{DeadLetter, Header, MadeBy};
use crate::publish::error::PublishError;
use crate::publish::layout::{Keys, reason_of};
use crate::publish::state_rows::read_dead_letter;
use crate::publish::time;
use crate::store::Store;

/// Bytes of a file that are read at a time; a longer line is read whole.
const READ: u64 = 4 << 20;
/// A window divides the hour, so an epoch has no stamps earlier than this before its end, milliseconds.
const EPOCH_MAX: u64 = 3_600_000;

/// What a store says of a record that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Where the record was.
    pub place: Place,
    /// The record's timestamp, milliseconds.
    pub timestamp: Option<i64>,
    /// The raw key.
    pub key: Option<Vec<u8>>,
    /// The raw value; the whole line if that was not a record.
    pub value: Option<Vec<u8>>,
    /// Its headers, in their order.
    pub headers: Vec<Header>,
    /// The kind of error; one that a newer program knows may be among them.
    pub reason: String,
    /// The error in words.
    pub error: String,
    /// The job's name.
    pub job: String,
    /// Who could not read it.
    pub by: MadeBy,
    /// If it was replayed and could not be read again: the stamp that it had when it was read first.
    pub first_stamp: Option<u64>,
    /// Whether it is in a file; otherwise only a checkpoint holds it yet.
    pub shown: bool,
}

/// Where a record was, and when it was read: what no two dead letters of a generation share, unless a dataset repeats a position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The record's stamp, milliseconds.
    pub stamp: u64,
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: u32,
    /// The position.
    pub offset: u64,
}

/// A line of a file; also of a request to replay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    #[serde(default)]
    pub(crate) headers: Vec<(String, Option<String>)>,
    pub(crate) reason: String,
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) job: String,
    #[serde(default)]
    pub(crate) job_version: Option<String>,
    #[serde(default)]
    pub(crate) storeflow_version: Option<String>,
    pub(crate) stamp: u64,
    #[serde(default)]
    pub(crate) first_stamp: Option<u64>,
}

impl From<Letter> for Stored {
    fn from(letter: Letter) -> Stored {
        let Letter { place: Place { stamp, topic, partition, offset }, timestamp, key, value, headers, .. } = letter;
        let Letter { reason, error, job, by: MadeBy { job_version, storeflow_version }, first_stamp, .. } = letter;
        let encoded = |bytes: Option<Vec<u8>>| bytes.map(|bytes| STANDARD.encode(bytes));
        let headers = headers.into_iter().map(|(name, value)| (name, encoded(value))).collect();
        let (key, value) = (encoded(key), encoded(value));
        Stored {
            topic,
            partition,
            offset,
            timestamp,
            key,
            value,
            headers,
            reason,
            error,
            job,
            job_version,
            storeflow_version,
            stamp,
            first_stamp,
        }
    }
}

impl TryFrom<Stored> for Letter {
    type Error = base64::DecodeError;

    fn try_from(stored: Stored) -> Result<Letter, base64::DecodeError> {
        let Stored { topic, partition, offset, timestamp, key, value, headers, reason, error, job, .. } = stored;
        let Stored { job_version, storeflow_version, stamp, first_stamp, .. } = stored;
        let decoded = |text: Option<String>| text.map(|text| STANDARD.decode(text)).transpose();
        let headers: Result<_, _> = headers.into_iter().map(|(name, value)| Ok((name, decoded(value)?))).collect();
        Ok(Letter {
            place: Place { stamp, topic, partition, offset },
            timestamp,
            key: decoded(key)?,
            value: decoded(value)?,
            headers: headers?,
            reason,
            error,
            job,
            by: MadeBy { job_version, storeflow_version },
            first_stamp,
            shown: true,
        })
    }
}

impl Letter {
    /// The stamp that the record had when it was read first.
    pub fn read_first(&self) -> u64 {
        self.first_stamp.unwrap_or(self.place.stamp)
    }

    fn of(letter: DeadLetter, job: &str) -> Letter {
        let DeadLetter { topic, partition, offset, timestamp, key, value, headers, reason, error, stamp, first_stamp, by } =
            letter;
        Letter {
            place: Place { stamp, topic: topic.to_string(), partition, offset },
            timestamp,
            key,
            value,
            headers,
            reason: reason.to_owned(),
            error,
            job: job.to_owned(),
            by: by.as_deref().cloned().unwrap_or_default(),
            first_stamp,
            shown: false,
        }
    }
}

/// Which dead letters are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of these reasons; empty: of any.
    pub reasons: Vec<String>,
    /// Of these topics, in which `*` stands for any run of characters; empty: of any.
    pub topics: Vec<String>,
    /// With stamps from here on, milliseconds.
    pub since: Option<u64>,
    /// With stamps before this, milliseconds.
    pub until: Option<u64>,
    /// At these places (topic, partition, position); empty: anywhere.
    pub places: Vec<(String, u32, u64)>,
}

impl Filter {
    /// Whether a letter is wanted.
    pub fn wants(&self, letter: &Letter) -> bool {
        let Place { stamp, topic, partition, offset } = &letter.place;
        let is_there = |(of, number, at): &(String, u32, u64)| (of, number, at) == (topic, partition, offset);
        (self.reasons.is_empty() || self.reasons.contains(&letter.reason))
            && (self.topics.is_empty() || self.topics.iter().any(|pattern| crate::config::matches_pattern(pattern, topic)))
            && self.since.is_none_or(|since| *stamp >= since)
            && self.until.is_none_or(|until| *stamp < until)
            && (self.places.is_empty() || self.places.iter().any(is_there))
    }

    /// Whether a file may hold such letters, by its name.
    fn may_hold(&self, key: &str) -> bool {
        let reason = reason_of(key).is_none_or(|reason| self.reasons.is_empty() || self.reasons.iter().any(|one| one == reason));
        let Some(epoch) = epoch_of(key) else { return reason };
        let since = self.since.is_none_or(|since| epoch > since);
        reason && since && self.until.is_none_or(|until| epoch.saturating_sub(EPOCH_MAX) < until)
    }
}

/// The end of the epoch in a file's name.
fn epoch_of(key: &str) -> Option<u64> {
    let name = key.rsplit('/').next()?.strip_prefix("epoch=")?;
    time::parse_compact(name.split('-').next()?)
}

/// Visits a generation's dead letters, those of the newest epoch first; `newest` is its newest checkpoint, if it has any. `visit` says whether
/// to go on. At the end come those that only the checkpoint holds.
///
/// # Errors
/// If a file cannot be read, or what `visit` returns.
pub fn visit<E: From<PublishError> + From<CheckpointError>>(
    store: &Store,
    keys: &Keys,
    newest: Option<&Manifest>,
    filter: &Filter,
    visit: &mut dyn FnMut(Letter) -> Result<bool, E>,
) -> Result<(), E> {
    // Before the files are listed: what is shown in between is in both, and counts as shown.
    let mut pending = newest.map(|newest| pending(store, newest, filter)).transpose()?.unwrap_or_default();
    let mut files = store.list(&keys.dead_letters_prefix()).map_err(PublishError::from)?;
    files.retain(|key| key.ends_with(".ndjson") && filter.may_hold(key));
    files.sort_by_key(|key| std::cmp::Reverse(epoch_of(key)));
    for key in files {
        let mut goes_on = true;
        let place = store.place(&key);
        lines(store, &key, &mut |line| {
            let letter = read(line, &place)?;
            if let Some(same) = pending.get_mut(&letter.place) {
                same.pop();
            }
            goes_on = !filter.wants(&letter) || visit(letter)?;
            Ok::<bool, E>(goes_on)
        })?;
        if !goes_on {
            return Ok(());
        }
    }
    for letter in pending.into_values().flatten() {
        if !visit(letter)? {
            return Ok(());
        }
    }
    Ok(())
}

/// The wanted letters in the state of a checkpoint; some of them are in files, too.
fn pending(store: &Store, newest: &Manifest, filter: &Filter) -> Result<BTreeMap<Place, Vec<Letter>>, CheckpointError> {
    let mut found: BTreeMap<Place, Vec<Letter>> = BTreeMap::new();
    let letters = |section| section == Section::DeadLetters;
    load(store, &newest.state, letters, |_| true, &mut |_, row| {
        let letter = Letter::of(read_dead_letter(row), &newest.job);
        // Files are removed when a later checkpoint knows that they are: what is of epochs that were over before is in files, or gone.
        if letter.place.stamp.saturating_add(EPOCH_MAX) > newest.previous_as_of && filter.wants(&letter) {
            found.entry(letter.place.clone()).or_default().push(letter);
        }
    })?;
    Ok(found)
}

fn read(line: &[u8], place: &Path) -> Result<Letter, PublishError> {
    let unreadable = || PublishError::unreadable(place, "dead letters");
    let stored: Stored = serde_json::from_slice(line).map_err(|error| PublishError::unreadable(place, "dead letters")(error))?;
    Letter::try_from(stored).map_err(|error| unreadable()(error))
}

/// Visits the lines of an object, a few megabytes at a time, until `visit` says that it is enough.
pub(crate) fn lines<E: From<PublishError>>(
    store: &Store,
    key: &str,
    visit: &mut dyn FnMut(&[u8]) -> Result<bool, E>,
) -> Result<(), E> {
    let (mut at, mut rest) = (0, Vec::new());
    loop {
        let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let bytes = store.get_range(key, at..at + READ).map_err(PublishError::from)?;
        let bytes = bytes.ok_or_else(|| PublishError::io("read", &store.place(key))(gone()))?;
        at += bytes.len() as u64;
        let last = (bytes.len() as u64) < READ;
        rest.extend_from_slice(&bytes);
        let mut from = 0;
        while let Some(end) = memchr::memchr(b'\n', &rest[from..]) {
            let line = &rest[from..from + end];
            from += end + 1;
            if !visit(line)? {
                return Ok(());
            }
        }
        drop(rest.drain(..from));
        if last {
            // A whole file ends with a line's end.
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::DeadLetterFile;
    use super::*;
    use crate::publish::testing::dead_letter;
    use crate::runtime::workers::RunError;

    fn write(store: &Store, key: &str, letters: &[DeadLetter]) {
        let mut file = DeadLetterFile::create(store, key).unwrap();
        file.append("mall", &MadeBy::default(), letters).unwrap();
        store.show(vec![file.into_spool()]).unwrap();
    }

    fn found(store: &Store, filter: &Filter) -> Vec<u64> {
        let mut offsets = Vec::new();
        let keys = Keys::new("mall", 1, 2);
        visit(store, &keys, None, filter, &mut |letter: Letter| {
            offsets.push(letter.place.offset);
            Ok::<_, RunError>(true)
        })
        .unwrap();
        offsets
    }

    #[test]
    fn letters_come_back_newest_epoch_first_and_what_is_ruled_out_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::folder(dir.path()).unwrap();
        let keys = Keys::new("mall", 1, 2);
        let (first, second) = (1_795_170_720_000, 1_795_172_520_000);
        let letter = |stamp, offset, topic: &str| DeadLetter { stamp, offset, topic: topic.into(), ..dead_letter() };
        let headers = vec![("a".to_owned(), None), ("b".to_owned(), Some(vec![0xff]))];
        let with_headers = DeadLetter { headers: headers.clone(), ..letter(first - 1, 1, "clicks") };
        write(&store, &keys.dead_letters(first, "json", 0), &[with_headers, letter(first - 2, 2, "payments")]);
        write(
            &store,
            &keys.dead_letters(first, "bad_time", 1),
            &[DeadLetter { reason: "bad_time", ..letter(first - 9, 3, "clicks") }],
        );
        write(&store, &keys.dead_letters(second, "json", 0), &[letter(second - 1, 4, "clicks")]);
        // As programs before there were folders by reason have it, lines without headers and versions.
        let old = r#"{"topic":"clicks","partition":0,"offset":5,"timestamp":null,"key":null,"value":"eA==","reason":"not_json","error":"x","job":"mall","stamp":1795170719999}"#;
        store
            .put("mall/gen-000001/dead_letters/date=2026-11-20/epoch=20261120T103200Z-0of1.ndjson", format!("{old}\n").into())
            .unwrap();
        assert_eq!(found(&store, &Filter::default())[0], 4);
        let all = |filter: Filter| {
            let mut all = found(&store, &filter);
            all.sort_unstable();
            all
        };
        let of = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(all(Filter::default()), [1, 2, 3, 4, 5]);
        assert_eq!(all(Filter { reasons: of(&["bad_time", "not_json"]), ..Filter::default() }), [3, 5]);
        assert_eq!(all(Filter { topics: of(&["pay*"]), ..Filter::default() }), [2]);
        assert_eq!(all(Filter { since: Some(first - 1), ..Filter::default() }), [1, 4, 5]);
        assert_eq!(all(Filter { until: Some(first - 1), ..Filter::default() }), [2, 3]);
        assert_eq!(all(Filter { places: vec![("clicks".to_owned(), 3, 1)], ..Filter::default() }), [1]);
        // A file that is ruled out by its name is not opened: what is no dead letter in it is not noticed.
        store.put(&keys.dead_letters(first, "bad_id", 0), "nothing of the kind\n".into()).unwrap();
        assert_eq!(all(Filter { reasons: of(&["bad_time"]), ..Filter::default() }), [3]);
        assert_eq!(all(Filter { since: Some(first), ..Filter::default() }), [4]);
        let kept = Filter { places: vec![("clicks".to_owned(), 3, 1)], reasons: of(&["json"]), ..Filter::default() };
        let mut seen = Vec::new();
        visit(&store, &keys, None, &kept, &mut |letter| {
            seen.push(letter);
            Ok::<_, RunError>(false)
        })
        .unwrap();
        assert_eq!((seen.len(), &seen[0].headers), (1, &headers));
        assert_eq!(Letter::try_from(Stored::from(seen[0].clone())).unwrap(), seen[0]);
    }

    #[test]
    fn lines_longer_than_a_read_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::folder(dir.path()).unwrap();
        let text = ["a".repeat(READ as usize * 2 + 5), "b".repeat(READ as usize - 6), String::new(), "c".to_owned()];
        store.put("x", (text.join("\n") + "\n").into()).unwrap();
        let mut found = Vec::new();
        lines(&store, "x", &mut |line| {
            found.push(String::from_utf8(line.to_vec()).unwrap());
            Ok::<_, PublishError>(true)
        })
        .unwrap();
        assert!(found == text, "{:?}", found.iter().map(String::len).collect::<Vec<_>>());
    }
}
