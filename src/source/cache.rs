//! The replay cache: a partition that was decoded before, mapped back, so that `bench` can time the dataflow without JSON.
//!
//! ```text
//! header (one page: what wrote it, of what, how long, checksums) | abomonation of Records: flat records, then their texts
//! ```
//!
//! Upholds: not one byte is trusted before the header has proven that this very build wrote the file, for this job and this
//! state of the partition file, and a checksum that nothing of it has changed since. Anything else is refused by name, and
//! the cache is written anew.
//! Keeps: the mapping; records are copied out of it one by one, as the dataflow takes them.
//!
//! **Unsafe code lives here and nowhere else.** `abomonation` (RUSTSEC-2021-0120, see deny.toml) takes memory for values:
//! unsound for bytes of others, for types with padding, with pointers to the heap, or with an alignment that the bytes do
//! not have. Hence flat `repr(C)` records without padding, all aligned to eight, behind a header of one page. The mapping is
//! private, so our writes (it sets the two vectors' pointers) stay ours. Another process that cuts the file off while it is
//! mapped would end this one with a signal: the cache is a bench's own temporary file, and replaced by renaming only.
#![allow(unsafe_code, reason = "the one place where decoded records are taken from memory as they are; see above")]

use std::any::type_name;
use std::fs::File;
use std::io::{self, Write};
use std::mem::{align_of, size_of};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use abomonation::Abomonation;
use abomonation::abomonated::Abomonated;
use memmap2::MmapMut;
use storeflow_dataflows::change::{Change, Order, Position, Row, Version, What};
use storeflow_dataflows::key::{Key, Text};
use xxhash_rust::xxh3::xxh3_64;

use super::dataset::{DatasetError, PartitionFile};
use super::partition::{Partition, Placed};
use crate::config::Job;
use crate::decode::{Click, Decoded, Reason, RowChange, Skipped};
use crate::publish::dead_letters::DeadLetter;

/// Version of the file format.
const FORMAT: u64 = 1;
const MAGIC: u64 = u64::from_le_bytes(*b"sfcache\n");
/// Bytes before the records: a page, so that they are aligned however they are mapped.
const HEADER: usize = 4_096;

/// Why a cache file is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none.
    #[error("there is no replay cache yet")]
    Missing,
    /// It could not be read or mapped.
    #[error("the replay cache cannot be read")]
    Unreadable,
    /// Something else.
    #[error("this is no replay cache")]
    Foreign,
    /// Another format.
    #[error("the replay cache has another format version")]
    Version,
    /// Another build, whose types may lie otherwise in memory.
    #[error("another build wrote the replay cache")]
    Build,
    /// Another job, or another place among its partitions.
    #[error("the replay cache is of another job")]
    Job,
    /// The partition file has changed since.
    #[error("the replay cache is older than its partition file")]
    Stale,
    /// Cut off, or too long.
    #[error("the replay cache is cut off or too long")]
    Length,
    /// A checksum says so.
    #[error("the replay cache is damaged")]
    Damaged,
}

/// A record in flat form. Texts lie one after the other in [`Records::texts`], from `texts_at` on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Flat {
    stamp: u64,
    position: u64,
    /// Of a dead letter; or what a row lacks.
    timestamp: i64,
    key_hash: u64,
    cell_hash: u64,
    incarnation: u64,
    position_minor: u64,
    /// A row's window, a click's time, or why a record was skipped, by its place in [`Skipped::ALL`].
    time: i64,
    /// Low and high half: an `i128` would be aligned to sixteen.
    amount: [u64; 2],
    texts_at: u64,
    /// Lengths: a row's key, cell and product; a dead letter's key, value and error.
    texts: [u32; 3],
    bytes: u32,
    /// Or the reason of a dead letter, by its place in [`Reason::ALL`].
    decoder: u32,
    server: u32,
    position_major: u32,
    position_row: u32,
    kind: u32,
    flags: u32,
}

const _: () = assert!(size_of::<Flat>() == 11 * 8 + 10 * 4 && align_of::<Flat>() == 8, "no padding");

const CLICK: u32 = 0;
const UPSERT: u32 = 1;
const DELETE: u32 = 2;
const SKIPPED: u32 = 3;
const DEAD: u32 = 4;

const VERSIONED: u32 = 1;
const HAS_KEY: u32 = 2;
const HAS_VALUE: u32 = 4;
const HAS_TIMESTAMP: u32 = 8;
const READ: u32 = 32;

/// What follows the header.
#[repr(C)]
#[derive(Default)]
struct Records {
    flat: Vec<Flat>,
    texts: Vec<u8>,
}

// A flat record is its own bytes.
impl Abomonation for Flat {}

impl Abomonation for Records {
    unsafe fn entomb<W: Write>(&self, write: &mut W) -> io::Result<()> {
        // SAFETY: as the caller promises for the whole.
        unsafe {
            self.flat.entomb(write)?;
            self.texts.entomb(write)
        }
    }

    unsafe fn exhume<'b>(&mut self, bytes: &'b mut [u8]) -> Option<&'b mut [u8]> {
        // SAFETY: as the caller promises for the whole.
        unsafe {
            let bytes = self.flat.exhume(bytes)?;
            self.texts.exhume(bytes)
        }
    }

    fn extent(&self) -> usize {
        self.flat.extent() + self.texts.extent()
    }
}

/// What a cache must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    build: u64,
    job: u64,
    source_bytes: u64,
    source_modified: u64,
}

impl Identity {
    fn of(job: &Job, file: &PartitionFile, index: u32, topics: &[String]) -> io::Result<Self> {
        let meta = std::fs::metadata(&file.path)?;
        let modified = meta.modified()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let job = xxh3_64(format!("{job:?} {index} {topics:?} {} {}", file.topic, file.partition).as_bytes());
        Ok(Identity { build: build()?, job, source_bytes: meta.len(), source_modified: modified })
    }
}

/// This build: how its types lie in memory, its version, and the program file itself, as a decoder may change within a version.
fn build() -> io::Result<u64> {
    fn of<T>() -> String {
        format!("{} {} {}", type_name::<T>(), size_of::<T>(), align_of::<T>())
    }
    let program = std::fs::metadata(std::env::current_exe()?)?;
    let types = [of::<Flat>(), of::<Records>(), of::<Decoded>(), of::<Change>(), of::<Row>(), of::<Text>(), of::<DeadLetter>()];
    let version = env!("CARGO_PKG_VERSION");
    Ok(xxh3_64(format!("{version} {types:?} {:?} {} {:?}", Reason::ALL, program.len(), program.modified()?).as_bytes()))
}

/// The header, as words; the rest of the page is zero but for its own checksum at the end.
#[derive(Clone, Copy, Debug)]
struct Header {
    identity: Identity,
    length: u64,
    checksum: u64,
    clock: u64,
    jumps: u64,
    records_per_hour: u64,
}

impl Header {
    fn to_page(self) -> [u8; HEADER] {
        let Header { identity: Identity { build, job, source_bytes, source_modified }, length, checksum, .. } = self;
        let Header { clock, jumps, records_per_hour, .. } = self;
        let words = [MAGIC, FORMAT, build, job, source_bytes, source_modified, length, checksum, clock, jumps, records_per_hour];
        let mut page = [0; HEADER];
        for (place, word) in page.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let own = xxh3_64(&page[..HEADER - 8]);
        page[HEADER - 8..].copy_from_slice(&own.to_le_bytes());
        page
    }

    /// Judges the bytes of a file, header and all.
    fn check(bytes: &[u8], wanted: &Identity) -> Result<Self, Refused> {
        let word = |at: usize| bytes.get(at * 8..at * 8 + 8).and_then(|word| Some(u64::from_le_bytes(word.try_into().ok()?)));
        if word(0) != Some(MAGIC) {
            return Err(Refused::Foreign);
        }
        if word(1) != Some(FORMAT) {
            return Err(Refused::Version);
        }
        let (Some(page), Some(own)) = (bytes.get(..HEADER - 8), word(HEADER / 8 - 1)) else { return Err(Refused::Length) };
        if xxh3_64(page) != own {
            return Err(Refused::Damaged);
        }
        let word = |at: usize| word(at).unwrap_or(0);
        let identity = Identity { build: word(2), job: word(3), source_bytes: word(4), source_modified: word(5) };
        let (length, checksum, clock, jumps, records_per_hour) = (word(6), word(7), word(8), word(9), word(10));
        if identity.build != wanted.build {
            return Err(Refused::Build);
        }
        if identity.job != wanted.job {
            return Err(Refused::Job);
        }
        if identity != *wanted {
            return Err(Refused::Stale);
        }
        if bytes.len() as u64 != HEADER as u64 + length {
            return Err(Refused::Length);
        }
        if xxh3_64(&bytes[HEADER..]) != checksum {
            return Err(Refused::Damaged);
        }
        Ok(Header { identity, length, checksum, clock, jumps, records_per_hour })
    }
}

/// The bytes after the header of a private mapping; they do not move with the value.
struct AfterHeader(MmapMut);

impl std::ops::Deref for AfterHeader {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0[HEADER..]
    }
}

impl std::ops::DerefMut for AfterHeader {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0[HEADER..]
    }
}

/// A cached partition being read.
pub(super) struct Cached {
    records: Abomonated<Records, AfterHeader>,
    next: usize,
    header: Header,
}

/// Opens a partition from the cache in `folder`, which is written first if there is none that can be used.
///
/// # Errors
/// If the partition cannot be read or the cache not written.
pub fn open(
    job: &Job,
    file: &PartitionFile,
    index: u32,
    topics: &[String],
    chunk: usize,
    folder: &Path,
) -> Result<Partition, DatasetError> {
    let path = path(folder, file);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DatasetError::Unreadable { path: path.clone(), source }
    };
    let identity = Identity::of(job, file, index, topics).map_err(failed(&file.path))?;
    let cached = match load(&path, &identity) {
        Ok(cached) => cached,
        Err(refused) => {
            tracing::info!(path = %path.display(), why = %refused, "writing a replay cache");
            write(Partition::open(job, file, index, topics, chunk, &Arc::default())?, identity, &path, &failed(&path))?;
            load(&path, &identity).map_err(|refused| failed(&path)(io::Error::other(refused)))?
        }
    };
    let Header { clock, jumps, records_per_hour, .. } = cached.header;
    Ok(Partition::cached(job, file, index, topics, Box::new(cached), (clock, jumps, records_per_hour)))
}

fn path(folder: &Path, file: &PartitionFile) -> PathBuf {
    folder.join(format!("{}-{}.sfcache", file.topic, file.partition))
}

fn load(path: &Path, wanted: &Identity) -> Result<Cached, Refused> {
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Refused::Missing,
        _ => Refused::Unreadable,
    })?;
    if file.metadata().map_err(|_| Refused::Unreadable)?.len() < HEADER as u64 {
        return Err(Refused::Length);
    }
    // SAFETY: the mapping is private and the file is never written in place; see the header of this module.
    let bytes = unsafe { memmap2::MmapOptions::new().map_copy(&file) }.map_err(|_| Refused::Unreadable)?;
    let header = Header::check(&bytes, wanted)?;
    if header.length < size_of::<Records>() as u64 {
        return Err(Refused::Length);
    }
    // SAFETY: the header says that this build wrote these bytes as `Records`, the checksum that they are what it wrote. They
    // begin at a page's end, so everything in them is aligned to eight, as `Flat` and the two vectors need. The mapping
    // stays where it is when the value moves.
    let records = unsafe { Abomonated::<Records, _>::new(AfterHeader(bytes)) }.ok_or(Refused::Length)?;
    Ok(Cached { records, next: 0, header })
}

/// Decodes a whole partition into a cache file that has its name only once it is complete.
fn write(
    mut partition: Partition,
    identity: Identity,
    path: &Path,
    failed: &impl Fn(io::Error) -> DatasetError,
) -> Result<(), DatasetError> {
    let (clock, records_per_hour) = (partition.clock().now(), partition.records_per_hour());
    let mut records = Records::default();
    while let Some(placed) = partition.next_record()? {
        let flat = flatten(&placed, &mut records.texts).map_err(|what| DatasetError::BadFile {
            path: path.to_owned(),
            what: format!("cannot be written: line {} of the partition holds {what}, which a replay cache has no room for; leave --cache away", placed.order.position),
        })?;
        records.flat.push(flat);
    }
    let mut bytes = Vec::new();
    // SAFETY: no type in `Records` has padding, so all bytes written are initialised; the pointers among them are set anew
    // when they are read.
    unsafe { abomonation::encode(&records, &mut bytes) }.map_err(failed)?;
    let (length, checksum) = (bytes.len() as u64, xxh3_64(&bytes));
    let header = Header { identity, length, checksum, clock, jumps: partition.clock().jumps(), records_per_hour };
    let temporary = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        let mut file = File::create(&temporary)?;
        file.write_all(&header.to_page())?;
        file.write_all(&bytes)?;
        drop(file);
        std::fs::rename(&temporary, path)
    };
    write().map_err(failed)
}

/// The record in flat form, or what it is that has none.
fn flatten(placed: &Placed, texts: &mut Vec<u8>) -> Result<Flat, &'static str> {
    let mut flat = Flat {
        stamp: placed.order.stamp,
        position: placed.order.position,
        bytes: length(placed.bytes),
        texts_at: texts.len() as u64,
        ..Flat::default()
    };
    let mut add = |parts: [&[u8]; 3]| {
        parts.iter().for_each(|part| texts.extend_from_slice(part));
        parts.map(|part| length(part.len()))
    };
    match &placed.outcome {
        Ok((Decoded::Click(Click { event: Some(_), .. }), _)) => return Err("a click with an event id"),
        Ok((Decoded::Changes(_), _)) => return Err("several changes in one record"),
        Ok((Decoded::Truncate(_), _)) => return Err("a truncate"),
        Ok((Decoded::Change(RowChange { what: What::Patch(..), .. }), _)) => return Err("a change that says a part of a row"),
        Ok((Decoded::Click(Click { cell, product, time, event: None }), decoder)) => {
            flat = Flat { kind: CLICK, decoder: *decoder as u32, cell_hash: cell.hash, time: *time as i64, ..flat };
            flat.texts = add([&[], cell.text.as_bytes(), product.as_bytes()]);
        }
        Ok((Decoded::Change(RowChange { key, version, read, what }), decoder)) => {
            flat = Flat { kind: DELETE, decoder: *decoder as u32, key_hash: key.hash, ..flat };
            if let Some(Version { incarnation, server, position: Position(major, minor, row) }) = *version {
                let (position_major, position_minor, position_row) = (major, minor, row);
                flat = Flat {
                    flags: VERSIONED | if *read { READ } else { 0 },
                    incarnation,
                    server,
                    position_major,
                    position_minor,
                    position_row,
                    ..flat
                };
            }
            let (mut cell_text, mut member_text): (&[u8], &[u8]) = (&[], &[]);
            if let What::Row(Row { cell, member, window, amount, lacks }) = what {
                (cell_text, member_text) = (cell.text.as_bytes(), member.as_bytes());
                let amount = [*amount as u64, (*amount >> 64) as u64];
                flat = Flat { kind: UPSERT, cell_hash: cell.hash, time: *window, timestamp: (*lacks).into(), amount, ..flat };
            }
            flat.texts = add([key.text.as_bytes(), cell_text, member_text]);
        }
        Ok((Decoded::Skipped(why), decoder)) => {
            flat = Flat { kind: SKIPPED, decoder: *decoder as u32, time: *why as i64, ..flat };
        }
        Err(letter) => {
            let flag = |set: bool, bit: u32| if set { bit } else { 0 };
            flat.kind = DEAD;
            flat.decoder = Reason::ALL.iter().position(|reason| reason.code() == letter.reason).unwrap_or_default() as u32;
            flat.flags = flag(letter.key.is_some(), HAS_KEY)
                | flag(letter.value.is_some(), HAS_VALUE)
                | flag(letter.timestamp.is_some(), HAS_TIMESTAMP);
            flat.timestamp = letter.timestamp.unwrap_or(0);
            let (key, value) = (letter.key.as_deref(), letter.value.as_deref());
            flat.texts = add([key.unwrap_or_default(), value.unwrap_or_default(), letter.error.as_bytes()]);
        }
    }
    Ok(flat)
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a record is shorter than 4 GiB")
}

impl Cached {
    /// The next record, of partition `index` in the job's list, number `partition` of `topic`; stamped already.
    pub(super) fn next_record(&mut self, index: u32, topic: &Arc<str>, partition: u32) -> Option<Placed> {
        let records: &Records = &self.records;
        let flat = records.flat.get(self.next)?;
        self.next += 1;
        let [first, second, third] = flat.texts.map(|len| len as usize);
        let texts = &records.texts[flat.texts_at as usize..];
        let (first, rest) = texts.split_at(first);
        let (second, rest) = rest.split_at(second);
        let third = &rest[..third];
        let order = Order { stamp: flat.stamp, partition: index, position: flat.position, part: 0 };
        let set = |bit: u32| flat.flags & bit != 0;
        let cell = || Key { hash: flat.cell_hash, text: Text::new(second) };
        let decoded = match flat.kind {
            CLICK => Decoded::Click(Click { cell: cell(), product: Text::new(third), time: flat.time as u64, event: None }),
            UPSERT | DELETE => {
                let position = Position(flat.position_major, flat.position_minor, flat.position_row);
                let version = Version { incarnation: flat.incarnation, server: flat.server, position };
                let amount = (u128::from(flat.amount[1]) << 64 | u128::from(flat.amount[0])) as i128;
                let row = || {
                    let (member, lacks) = (Text::new(third), flat.timestamp as u32);
                    Row { cell: cell(), member, window: flat.time, amount, lacks }
                };
                Decoded::Change(RowChange {
                    key: Key { hash: flat.key_hash, text: Text::new(first) },
                    version: set(VERSIONED).then_some(version),
                    read: set(READ),
                    what: if flat.kind == UPSERT { What::Row(row()) } else { What::Delete },
                })
            }
            SKIPPED => Decoded::Skipped(Skipped::ALL[flat.time as usize]),
            _ => {
                let letter = DeadLetter {
                    topic: Arc::clone(topic),
                    partition,
                    offset: flat.position,
                    timestamp: set(HAS_TIMESTAMP).then_some(flat.timestamp),
                    key: set(HAS_KEY).then(|| first.to_vec()),
                    value: set(HAS_VALUE).then(|| second.to_vec()),
                    headers: Vec::new(),
                    reason: Reason::ALL[flat.decoder as usize].code(),
                    error: String::from_utf8_lossy(third).into_owned(),
                    stamp: flat.stamp,
                    first_stamp: None,
                    by: None,
                };
                return Some(Placed { order, bytes: flat.bytes as usize, line: None, fresh: false, outcome: Err(letter) });
            }
        };
        Some(Placed {
            order,
            bytes: flat.bytes as usize,
            line: None,
            fresh: false,
            outcome: Ok((decoded, flat.decoder as usize)),
        })
    }
}

#[cfg(test)]
#[path = "cache/tests.rs"]
mod tests;
