//! The bytes of an object of state.
//!
//! ```text
//! header │ block │ block │ ... │ index │ length of index │ its checksum │ header again
//! ```
//!
//! The header is a name and a format version. The index says of each block its section, range of hashes, rows, length and checksum;
//! blocks follow each other without a gap, so an index fits one sequence of bytes only. The manifest holds the index's checksum.
//! Upholds: a byte that was changed, lost or added is noticed before a row of its block is seen.
//! Absent on purpose: a compressed index (it is checksums and hashes, which do not compress, some 40 bytes per megabyte of rows).

use storeflow_dataflows::key::push_varint;
use storeflow_dataflows::state::{Section, StateRow};
use xxhash_rust::xxh3::xxh3_64;

use crate::block::{Packed, Packing};
use crate::column::take_u64;
use crate::damage::CheckpointError;
use crate::object::{Group, Object};
use crate::objects::{ObjectError, Objects, Writing};
use crate::sizes::TAIL;

const MAGIC: [u8; 7] = *b"sfstate";
/// The version that this build writes, and the only one that it reads.
const VERSION: u8 = 1;
const HEADER: u64 = 8;
const FOOTER: u64 = 24;

fn header() -> [u8; HEADER as usize] {
    let [a, b, c, d, e, f, g] = MAGIC;
    [a, b, c, d, e, f, g, VERSION]
}

/// A block, and where it is.
pub(crate) struct Placed {
    pub(crate) packed: Packed,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) checksum: u64,
}

/// An object that is being written. Rows come in the order of (section, hash, key), each key once.
pub(crate) struct Writer<'a> {
    writing: Box<dyn Writing + 'a>,
    packing: Packing,
    blocks: Vec<Placed>,
    offset: u64,
    bytes: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(objects: &'a dyn Objects, key: &str) -> Result<Self, ObjectError> {
        let mut writing = objects.create(key)?;
        writing.write(&header())?;
        Ok(Writer { writing, packing: Packing::new(), blocks: Vec::new(), offset: HEADER, bytes: Vec::new() })
    }

    /// Adds a row.
    #[inline]
    pub(crate) fn push(&mut self, section: Section, row: StateRow<'_>) -> Result<(), ObjectError> {
        if self.packing.ends_before(section, row.hash) && !self.packing.is_empty() {
            self.end_block()?;
        }
        self.packing.push(section, row);
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), ObjectError> {
        self.bytes.clear();
        let packed = self.packing.pack(&mut self.bytes);
        let (length, checksum) = (self.bytes.len() as u64, xxh3_64(&self.bytes));
        self.blocks.push(Placed { packed, offset: self.offset, length, checksum });
        self.offset += length;
        self.writing.write(&self.bytes)
    }

    /// Ends the object: it appears.
    pub(crate) fn finish(mut self, key: &str, through: u64, group: Group) -> Result<Object, ObjectError> {
        if !self.packing.is_empty() {
            self.end_block()?;
        }
        let rows = self.blocks.iter().map(|block| block.packed.rows as u64).sum();
        let raw = self.blocks.iter().map(|block| block.packed.plain as u64 + 8 * block.packed.rows as u64).sum();
        let mut end = Vec::new();
        for number in [through, group.index as u64, group.of as u64, rows, raw, self.blocks.len() as u64] {
            push_varint(&mut end, number);
        }
        for block in &self.blocks {
            end.push(block.packed.section.code());
            for number in [block.packed.rows as u64, block.packed.plain as u64, block.length] {
                push_varint(&mut end, number);
            }
            for word in [block.packed.first, block.packed.last, block.checksum] {
                end.extend_from_slice(&word.to_le_bytes());
            }
        }
        let (length, checksum) = (end.len() as u64, xxh3_64(&end));
        end.extend_from_slice(&length.to_le_bytes());
        end.extend_from_slice(&checksum.to_le_bytes());
        end.extend_from_slice(&header());
        self.writing.write(&end)?;
        self.writing.finish()?;
        let bytes = self.offset + end.len() as u64;
        Ok(Object { key: key.to_owned(), bytes, checksum: format!("{checksum:016x}"), through, group, rows, raw })
    }
}

/// Reads the index of an object: its blocks, which are those that were written if each has its checksum; and the bytes read.
pub(crate) fn read_index(objects: &dyn Objects, object: &Object) -> Result<(Vec<Placed>, u64), CheckpointError> {
    let place = || objects.place(&object.key);
    let damaged = |what: &str| CheckpointError::Damaged { place: place(), what: what.to_owned() };
    let mut from = object.bytes.saturating_sub(TAIL);
    // One byte more than there should be, so that an object with something behind it is noticed, too.
    let get = |from| {
        let tail = objects.get_range(&object.key, from..object.bytes + 1)?;
        tail.ok_or_else(|| CheckpointError::Missing { place: place() })
    };
    let mut tail = get(from)?;
    let mut read = tail.len() as u64;
    if tail.len() as u64 != object.bytes - from {
        let end = from + tail.len() as u64;
        let found = if end > object.bytes { "more".to_owned() } else { format!("at most {end}") };
        return Err(damaged(&format!("its manifest says {} bytes, and it has {found}", object.bytes)));
    }
    if object.bytes < HEADER + FOOTER {
        return Err(damaged("it is too short to be an object of state"));
    }
    let footer = &tail[tail.len() - FOOTER as usize..];
    check_header(objects, object, &footer[16..])?;
    let length = take_u64(&mut &footer[..8]).unwrap_or_default();
    let checksum = take_u64(&mut &footer[8..]).unwrap_or_default();
    let end = object.bytes - FOOTER;
    if format!("{checksum:016x}") != object.checksum {
        return Err(damaged(&format!("its manifest says checksum {}, and it says {checksum:016x}", object.checksum)));
    }
    if length > end - HEADER {
        return Err(damaged("the length of its index"));
    }
    if end - length < from {
        from = end - length;
        tail = get(from)?;
        read += tail.len() as u64;
        if tail.len() as u64 != object.bytes - from {
            return Err(damaged("its length changed while it was read"));
        }
    }
    let index = &tail[(end - length - from) as usize..(end - from) as usize];
    if xxh3_64(index) != checksum {
        return Err(damaged("its index does not have its checksum"));
    }
    let blocks =
        parse_index(index, object, end - length).ok_or_else(|| damaged("its index contradicts itself or its manifest"))?;
    Ok((blocks, read))
}

/// Checks what an object begins with, which nothing else reads.
pub(crate) fn read_header(objects: &dyn Objects, object: &Object) -> Result<(), CheckpointError> {
    let found = objects.get_range(&object.key, 0..HEADER)?;
    check_header(objects, object, &found.ok_or_else(|| CheckpointError::Missing { place: objects.place(&object.key) })?)
}

fn check_header(objects: &dyn Objects, object: &Object, found: &[u8]) -> Result<(), CheckpointError> {
    if found == header() {
        return Ok(());
    }
    // A version that is unknown is one only if both ends say so; otherwise it is a flipped bit.
    let first = objects.get_range(&object.key, 0..HEADER)?.unwrap_or_default();
    let last = objects.get_range(&object.key, object.bytes.saturating_sub(HEADER)..object.bytes)?.unwrap_or_default();
    let place = objects.place(&object.key);
    match first.strip_prefix(&MAGIC) {
        Some(&[version]) if first == last && version != VERSION => {
            Err(CheckpointError::Format { place, found: u32::from(version), known: u32::from(VERSION) })
        }
        _ => Err(CheckpointError::Damaged { place, what: "it does not begin and end as an object of state".to_owned() }),
    }
}

fn parse_index(mut index: &[u8], object: &Object, end: u64) -> Option<Vec<Placed>> {
    let bytes = &mut index;
    // Through and group are for people with nothing but the object; a manifest may give it a narrower group.
    let [through, _index, _of, rows, raw] = take_varints(bytes)?;
    let [count] = take_varints(bytes)?;
    let mut offset = HEADER;
    let mut blocks = Vec::new();
    for _ in 0..count {
        let section = Section::of_code(bytes.split_off_first().copied()?)?;
        let [rows, plain, length] = take_varints(bytes)?;
        let (first, last, checksum) = (take_u64(bytes)?, take_u64(bytes)?, take_u64(bytes)?);
        let (rows, plain) = (usize::try_from(rows).ok()?, usize::try_from(plain).ok()?);
        blocks.push(Placed { packed: Packed { section, rows, first, last, plain }, offset, length, checksum });
        offset = offset.checked_add(length)?;
    }
    let sum: u64 = blocks.iter().map(|block| block.packed.rows as u64).sum();
    let whole = bytes.is_empty() && offset == end && sum == rows;
    (whole && (through, rows, raw) == (object.through, object.rows, object.raw)).then_some(blocks)
}

fn take_varints<const COUNT: usize>(bytes: &mut &[u8]) -> Option<[u64; COUNT]> {
    let mut numbers = [0; COUNT];
    for number in &mut numbers {
        for shift in (0..64).step_by(7) {
            let byte = *bytes.split_off_first()?;
            *number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
    }
    Some(numbers)
}
