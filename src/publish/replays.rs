//! Requests to read dead letters again: one immutable object each, in a generation, numbered densely from 1.
//!
//! ```text
//! dead letters ─ chosen, in the order they were read ─► <job>/gen-…/replays/0000000007.ndjson ─► partition 7 of "~replay" of the job
//!                                                        a line that says what it is, then the letters
//! ```
//!
//! Upholds: (1) a request is there whole or not at all, and is never changed; how far it was read is in the checkpoints, as of any
//! partition; (2) a letter that is in one is in no other, unless somebody asks for that: of several who make requests at the same
//! time, who is later looks again; (3) readable by the owner only, as dead letters are.
//! Keeps: nothing. Absent on purpose: removing a request that was read; its records are the proof of what was done.

use std::collections::HashMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use storeflow_checkpoints::manifest::Manifest;

use super::dead_letters::read::{Letter, Place, Stored, lines};
use super::error::PublishError;
use super::layout::{Keys, run_id};
use crate::source::names::REPLAY;
use crate::store::Store;

/// Version of requests.
const FORMAT: u32 = 1;
/// Bytes of letters in one request, at most, unless one letter has more: a job holds what it has not read of a request in memory.
const BYTES_MAX: usize = 16 << 20;
/// Numbers of requests, which are numbers of partitions.
const NUMBER_MAX: u32 = 65_535;
const EXPECTED: &str = "a request to replay dead letters";

/// The first line.
#[derive(Serialize, Deserialize)]
struct HeadV1 {
    format: u32,
    job: String,
    generation: u64,
    letters: u64,
    storeflow_version: String,
    /// What no other request has, so that one whose answer was lost can be told from somebody else's.
    id: String,
}

/// A request, and how many letters it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Request {
    /// Its number.
    pub number: u32,
    /// Its letters.
    pub letters: u64,
}

impl Request {
    /// How many of them a checkpoint has read.
    pub fn read_by(&self, manifest: &Manifest) -> u64 {
        let mut partitions = manifest.partitions.iter();
        let at = partitions.find(|at| at.topic == REPLAY && at.partition == self.number);
        at.map_or(0, |at| at.position.min(self.letters))
    }
}

/// The numbers of a generation's requests, ascending.
///
/// # Errors
/// If they cannot be listed.
pub fn numbers(store: &Store, keys: &Keys) -> Result<Vec<u32>, PublishError> {
    let number = |key: &String| key.rsplit('/').next()?.strip_suffix(".ndjson")?.parse().ok();
    let mut numbers: Vec<u32> = store.list(&keys.replays_prefix())?.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A generation's requests, ascending.
///
/// # Errors
/// If one cannot be read.
pub fn requests(store: &Store, keys: &Keys) -> Result<Vec<Request>, PublishError> {
    let head = |number: u32| {
        let mut letters = None;
        let (key, place) = (keys.replay(number), store.place(&keys.replay(number)));
        lines(store, &key, &mut |line| {
            letters = Some(head_of(line, &place)?.letters);
            Ok::<_, PublishError>(false)
        })?;
        let letters = letters.ok_or_else(|| PublishError::unreadable(&place, EXPECTED)("it is empty"))?;
        Ok(Request { number, letters })
    };
    numbers(store, keys)?.into_iter().map(head).collect()
}

/// The letters of a request, in their order.
///
/// # Errors
/// If it cannot be read, or is not whole.
pub fn read(store: &Store, keys: &Keys, number: u32) -> Result<Vec<Letter>, PublishError> {
    let (mut letters, mut head, place) = (Vec::new(), None, store.place(&keys.replay(number)));
    lines(store, &keys.replay(number), &mut |line| {
        if head.is_none() {
            head = Some(head_of(line, &place)?);
            return Ok(true);
        }
        let stored: Stored = serde_json::from_slice(line).map_err(PublishError::unreadable(&place, EXPECTED))?;
        letters.push(Letter::try_from(stored).map_err(PublishError::unreadable(&place, EXPECTED))?);
        Ok::<_, PublishError>(true)
    })?;
    let wanted = head.map_or(0, |head| head.letters);
    if wanted != letters.len() as u64 {
        let wrong = format!("it has {} of {wanted} letters", letters.len());
        return Err(PublishError::unreadable(&place, EXPECTED)(wrong));
    }
    Ok(letters)
}

fn head_of(line: &[u8], place: &std::path::Path) -> Result<HeadV1, PublishError> {
    let head: HeadV1 = serde_json::from_slice(line).map_err(PublishError::unreadable(place, EXPECTED))?;
    if head.format != FORMAT {
        let wrong = format!("it has format {}, this program knows {FORMAT}", head.format);
        return Err(PublishError::unreadable(place, EXPECTED)(wrong));
    }
    Ok(head)
}

/// The letters that are in requests already, and how often: a dataset may repeat a position.
///
/// # Errors
/// If a request cannot be read.
pub fn requested(store: &Store, keys: &Keys) -> Result<HashMap<Place, u64>, PublishError> {
    let mut places: HashMap<Place, u64> = HashMap::new();
    for number in numbers(store, keys)? {
        for letter in read(store, keys, number)? {
            *places.entry(letter.place).or_default() += 1;
        }
    }
    Ok(places)
}

/// What became of making requests.
#[derive(Debug, PartialEq, Eq)]
pub enum Made {
    /// All of them are there.
    All(Vec<Request>),
    /// Somebody else has made one meanwhile, so nothing of the rest is: which letters are left is to be looked at again.
    Overtaken(Vec<Request>),
}

/// Makes requests of letters, as many as it takes, in the order the letters were read in. `after` is the last number that is taken, as far
/// as the caller knows: of what is listed, and of what a checkpoint knows.
///
/// # Errors
/// If one cannot be written; those before it are there.
pub fn make(
    store: &Store,
    keys: &Keys,
    (job, generation): (&str, u64),
    mut letters: Vec<Letter>,
    after: u32,
) -> Result<Made, PublishError> {
    letters.sort_by(|one, other| (one.read_first(), &one.place).cmp(&(other.read_first(), &other.place)));
    let (mut made, mut number, mut all) = (Vec::new(), after, letters.into_iter().peekable());
    while all.peek().is_some() {
        number += 1;
        let (mut text, mut count) = (Vec::new(), 0);
        let place = store.place(&keys.replay(number));
        if number > NUMBER_MAX {
            let wrong = format!("a generation has at most {NUMBER_MAX} of them");
            return Err(PublishError::unreadable(&place, EXPECTED)(wrong));
        }
        while text.len() < BYTES_MAX
            && let Some(letter) = all.next()
        {
            serde_json::to_writer(&mut text, &Stored::from(letter)).map_err(PublishError::encode(&place))?;
            text.push(b'\n');
            count += 1;
        }
        let head = HeadV1 {
            format: FORMAT,
            job: job.to_owned(),
            generation,
            letters: count,
            storeflow_version: env!("CARGO_PKG_VERSION").to_owned(),
            id: run_id(),
        };
        let mut bytes = serde_json::to_vec(&head).map_err(PublishError::encode(&place))?;
        bytes.push(b'\n');
        bytes.append(&mut text);
        if !store.put_if_absent_private(&keys.replay(number), Bytes::from(bytes))? {
            return Ok(Made::Overtaken(made));
        }
        made.push(Request { number, letters: count });
    }
    Ok(Made::All(made))
}

/// The keys of requests that a checkpoint does not know: somebody who goes back to it removes them, as the letters in them are read
/// again from where they came, or are to be asked for again.
///
/// # Errors
/// If they cannot be listed.
pub fn unknown_to(store: &Store, keys: &Keys, manifest: &Manifest) -> Result<Vec<String>, PublishError> {
    let known = |number: &u32| manifest.partitions.iter().any(|at| at.topic == REPLAY && at.partition == *number);
    Ok(numbers(store, keys)?.into_iter().filter(|number| !known(number)).map(|number| keys.replay(number)).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::publish::dead_letters::MadeBy;

    fn letter(offset: u64, value: &[u8]) -> Letter {
        Letter {
            place: Place { stamp: 1_000 - offset, topic: "t".to_owned(), partition: 0, offset },
            timestamp: None,
            key: Some(vec![0xff]),
            value: Some(value.to_vec()),
            headers: vec![("h".to_owned(), None)],
            reason: "bad_id".to_owned(),
            error: "an error".to_owned(),
            job: "mall".to_owned(),
            by: MadeBy::default(),
            first_stamp: None,
            shown: true,
        }
    }

    #[test]
    fn requests_are_whole_in_order_private_and_never_made_twice() {
        let dir = tempfile::tempdir().unwrap();
        let (store, keys) = (Store::folder(dir.path()).unwrap(), Keys::new("mall", 1, 1));
        let of = ("mall", 1);
        assert_eq!((numbers(&store, &keys).unwrap(), requests(&store, &keys).unwrap()), (vec![], vec![]));
        // Two of them fill a request.
        let large = vec![b'x'; BYTES_MAX * 3 / 8];
        let mut letters: Vec<Letter> = (0..5).map(|offset| letter(offset, &large)).collect();
        // Both have failed again; the first was read last, the others are by their stamps.
        (letters[0].first_stamp, letters[4].first_stamp) = (Some(1_001), Some(7));
        let made = make(&store, &keys, of, letters.clone(), 0).unwrap();
        let request = |number, letters| Request { number, letters };
        assert_eq!(made, Made::All(vec![request(1, 2), request(2, 2), request(3, 1)]));
        let mode = std::fs::metadata(store.place(&keys.replay(1))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read_back: Vec<Letter> = (1..=3).flat_map(|number| read(&store, &keys, number).unwrap()).collect();
        let in_order: Vec<Letter> = letters.iter().skip(1).rev().chain(&letters[..1]).cloned().collect();
        assert!(read_back == in_order, "as they were read first");
        assert_eq!(requests(&store, &keys).unwrap(), [request(1, 2), request(2, 2), request(3, 1)]);
        assert_eq!(requested(&store, &keys).unwrap().len(), 5);
        // Who did not see the second one makes nothing in its place.
        assert_eq!(make(&store, &keys, of, letters, 1).unwrap(), Made::Overtaken(vec![]));
        let cut = std::fs::read(store.place(&keys.replay(3))).unwrap();
        store.put(&keys.replay(3), cut[..cut.iter().position(|byte| *byte == b'\n').unwrap() + 1].to_vec().into()).unwrap();
        assert!(std::error::Error::source(&read(&store, &keys, 3).unwrap_err()).unwrap().to_string().contains("0 of 1"));
    }
}
