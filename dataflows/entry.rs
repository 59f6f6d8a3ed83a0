//! What is kept of a key, packed: version, row, stamp of the last change; and when it may be forgotten.
//!
//! Two forms: in memory an entry names its incarnation by a number of this worker's, in checkpoints by itself. The rest is the
//! same bytes, so going from one to the other copies.
//!
//! What a row lacks stands behind all else, and only if it lacks something. Rows that were written before there was such a mask and
//! that do not count lack conditions, nobody knows which.

use crate::change::{Position, Row, Version, says};
use crate::epoch::Horizons;
use crate::key::{Key, Text, push_varint, read_varint};
use crate::table::{ELSEWHERE, NO_WINDOW};

/// What is kept of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where the source database stood when it made the last change, if the record said so.
    pub version: Option<Version>,
    /// Stamp of the last change in milliseconds; for a marker the instant it was deleted or forgotten.
    pub since: u64,
    /// `None`: a marker.
    pub row: Option<Row>,
    /// Of a row of a lookup, how long it is kept after its last change, milliseconds; 0: until it is deleted. `None`: by its window.
    pub kept: Option<u64>,
}

/// Reads the value of a row of [`Section::Rows`](crate::state::Section::Rows), for people. Files carry checksums, so what is read
/// is what was written.
///
/// # Panics
/// If it is the value of anything else.
pub fn read(value: &[u8]) -> Entry {
    let (mut incarnations, mut packed) = (Vec::new(), Vec::new());
    from_portable(value, &mut incarnations, &mut packed);
    decode(&packed, &incarnations)
}

/// The instant at which a live row, or a group of such rows, is forgotten; never without a window.
pub(crate) fn forgotten_at(since: u64, window: i64, horizons: &Horizons) -> Option<u64> {
    match window {
        ELSEWHERE => Some(horizons.forgotten_elsewhere(since)),
        window => horizons.expiry(window).map(|expiry| expiry.max(since + horizons.replay_horizon)),
    }
}

/// Whether at `now` nothing is left of an entry, not even its marker.
fn is_gone(live: bool, since: u64, window: i64, kept: Option<u64>, horizons: &Horizons, now: u64) -> bool {
    let marked = match (live, kept) {
        (true, Some(0)) => return false,
        (true, Some(kept)) => return since + kept <= now,
        (true, None) => forgotten_at(since, window, horizons),
        (false, _) => Some(since),
    };
    marked.is_some_and(|marked| marked + horizons.replay_horizon <= now)
}

/// The same of a packed entry.
pub(crate) fn gone(payload: &[u8], horizons: &Horizons, now: u64) -> bool {
    let Header { live, since, window, kept, .. } = header(payload);
    is_gone(live, since, window, kept, horizons, now)
}

/// The entry as it stands at `now`: whole, as a marker, or not at all.
pub(crate) fn remember(entry: Entry, horizons: &Horizons, now: u64) -> Option<Entry> {
    let window = entry.row.as_ref().map_or(NO_WINDOW, |row| row.window);
    if is_gone(entry.row.is_some(), entry.since, window, entry.kept, horizons, now) {
        return None;
    }
    match forgotten_at(entry.since, window, horizons) {
        Some(at) if entry.row.is_some() && entry.kept.is_none() && at <= now => {
            Some(Entry { version: entry.version, since: at, row: None, kept: None })
        }
        _ => Some(entry),
    }
}

/// The first fields of a packed entry: flags, since, window, how long it is kept.
pub(crate) struct Header {
    pub(crate) live: bool,
    counts: bool,
    lacks: bool,
    versioned: bool,
    since: u64,
    window: i64,
    kept: Option<u64>,
    end: usize,
}

const LIVE: u8 = 1;
const COUNTS: u8 = 2;
const VERSIONED: u8 = 4;
const WINDOWED: u8 = 8;
const LACKS: u8 = 16;
const WINDOW_ELSEWHERE: u8 = 32;
const KEPT: u8 = 64;

pub(crate) fn header(payload: &[u8]) -> Header {
    let flags = payload[0];
    let mut end = 1;
    let since = read_varint(payload, &mut end);
    let is = |bit: u8| flags & bit != 0;
    let window = match (is(WINDOWED), is(WINDOW_ELSEWHERE)) {
        // Windows start on whole minutes.
        (true, _) => read_varint(payload, &mut end) as i64 * 60_000,
        (false, true) => ELSEWHERE,
        (false, false) => NO_WINDOW,
    };
    let kept = is(KEPT).then(|| read_varint(payload, &mut end));
    Header { live: is(LIVE), counts: is(COUNTS), lacks: is(LACKS), versioned: is(VERSIONED), since, window, kept, end }
}

pub(crate) fn encode(entry: &Entry, incarnations: &mut Vec<(u64, u32)>, out: &mut Vec<u8>) {
    let row = entry.row.as_ref();
    let elsewhere = row.is_some_and(|row| row.window == ELSEWHERE);
    let windowed = !elsewhere && row.is_some_and(|row| row.window != NO_WINDOW);
    let counts = row.is_some_and(Row::counts);
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(
        flag(row.is_some(), LIVE)
            | flag(counts, COUNTS)
            | flag(entry.version.is_some(), VERSIONED)
            | flag(windowed, WINDOWED)
            | flag(row.is_some() && !counts, LACKS)
            | flag(elsewhere, WINDOW_ELSEWHERE)
            | flag(entry.kept.is_some(), KEPT),
    );
    push_varint(out, entry.since);
    if let (true, Some(row)) = (windowed, row) {
        debug_assert!(row.window % 60_000 == 0);
        push_varint(out, (row.window / 60_000) as u64);
    }
    if let Some(kept) = entry.kept {
        push_varint(out, kept);
    }
    if let Some(Version { incarnation, server, position }) = entry.version {
        push_varint(out, number_of((incarnation, server), incarnations));
        push_varint(out, u64::from(position.0));
        push_varint(out, position.1);
        push_varint(out, u64::from(position.2));
    }
    if let Some(row) = row {
        let zigzag = (row.amount << 1) ^ (row.amount >> 127);
        push_varint(out, zigzag as u128 as u64 & (u64::MAX >> 1) | if zigzag as u128 >> 63 != 0 { 1 << 63 } else { 0 });
        if zigzag as u128 >> 63 != 0 {
            // Rare: more than 63 bits. The high bits follow.
            push_varint(out, (zigzag as u128 >> 63) as u64);
            push_varint(out, (zigzag as u128 >> 127) as u64);
        }
        out.extend_from_slice(&row.cell.hash.to_le_bytes());
        for text in [&row.cell.text, &row.member] {
            push_varint(out, text.as_bytes().len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
        if !counts {
            push_varint(out, u64::from(row.lacks));
        }
    }
}

pub(crate) fn decode(payload: &[u8], incarnations: &[(u64, u32)]) -> Entry {
    let Header { live, counts, lacks, versioned, since, window, kept, end: mut at } = header(payload);
    let version = versioned.then(|| {
        let (incarnation, server) = incarnations[read_varint(payload, &mut at) as usize];
        let major = read_varint(payload, &mut at) as u32;
        let minor = read_varint(payload, &mut at);
        Version { incarnation, server, position: Position(major, minor, read_varint(payload, &mut at) as u32) }
    });
    let row = live.then(|| {
        let low = read_varint(payload, &mut at);
        let mut zigzag = u128::from(low & (u64::MAX >> 1));
        if low >> 63 != 0 {
            zigzag |= u128::from(read_varint(payload, &mut at)) << 63;
            zigzag |= u128::from(read_varint(payload, &mut at)) << 127;
        }
        let amount = (zigzag >> 1) as i128 ^ -((zigzag & 1) as i128);
        let mut hash = [0; 8];
        hash.copy_from_slice(&payload[at..at + 8]);
        at += 8;
        let mut text = || {
            let len = read_varint(payload, &mut at) as usize;
            at += len;
            Text::new(&payload[at - len..at])
        };
        let cell = Key { hash: u64::from_le_bytes(hash), text: text() };
        let member = text();
        let lacks = match (counts, lacks) {
            (true, _) => 0,
            (false, true) => read_varint(payload, &mut at) as u32,
            (false, false) => says::CONDITIONS,
        };
        Row { cell, member, window, amount, lacks }
    });
    Entry { version, since, row, kept }
}

/// The same entry for any worker: its incarnation by name, not by its number here.
pub(crate) fn to_portable(payload: &[u8], incarnations: &[(u64, u32)], out: &mut Vec<u8>) {
    out.clear();
    let Header { versioned, end, .. } = header(payload);
    out.extend_from_slice(&payload[..end]);
    let mut at = end;
    if versioned {
        let (incarnation, server) = incarnations[read_varint(payload, &mut at) as usize];
        out.extend_from_slice(&incarnation.to_le_bytes());
        push_varint(out, u64::from(server));
    }
    out.extend_from_slice(&payload[at..]);
}

/// What [`to_portable`] wrote, as this worker packs it. Files carry checksums, so what is read is what was written.
pub(crate) fn from_portable(portable: &[u8], incarnations: &mut Vec<(u64, u32)>, out: &mut Vec<u8>) {
    out.clear();
    let Header { versioned, end, .. } = header(portable);
    out.extend_from_slice(&portable[..end]);
    let mut at = end;
    if versioned {
        let mut incarnation = [0; 8];
        incarnation.copy_from_slice(&portable[at..at + 8]);
        at += 8;
        let server = read_varint(portable, &mut at) as u32;
        push_varint(out, number_of((u64::from_le_bytes(incarnation), server), incarnations));
    }
    out.extend_from_slice(&portable[at..]);
}

/// The number an incarnation has here.
fn number_of(named: (u64, u32), incarnations: &mut Vec<(u64, u32)>) -> u64 {
    let at = incarnations.iter().position(|&known| known == named).unwrap_or_else(|| {
        incarnations.push(named);
        incarnations.len() - 1
    });
    at as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = Text> {
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| Text::new(&bytes))
    }

    fn row() -> impl Strategy<Value = Row> {
        let window = prop_oneof![Just(NO_WINDOW), Just(ELSEWHERE), (0i64..4_000_000).prop_map(|w| w * 60_000)];
        let amount = prop_oneof![any::<i128>(), any::<i64>().prop_map(i128::from), -500i128..500];
        let lacks = prop_oneof![Just(0), any::<u32>().prop_map(|bits| bits & says::ALL)];
        (any::<u64>(), text(), text(), window, amount, lacks).prop_map(|(hash, text, member, window, amount, lacks)| Row {
            cell: Key { hash, text },
            member,
            window,
            amount,
            lacks,
        })
    }

    fn version() -> impl Strategy<Value = Version> {
        (0u64..3, 0u32..3, any::<u32>(), any::<u64>(), any::<u32>()).prop_map(|(incarnation, server, a, b, c)| Version {
            incarnation,
            server,
            position: Position(a, b, c),
        })
    }

    proptest! {
        #[test]
        fn entries_come_back(
            version in proptest::option::of(version()),
            row in proptest::option::of(row()),
            since in 0u64..8_000_000_000_000,
            kept in proptest::option::of(0u64..10_000_000_000),
        ) {
            let entry = Entry { version, since, row, kept };
            let (mut names, mut bytes) = (vec![(9, 9)], Vec::new());
            encode(&entry, &mut names, &mut bytes);
            let (mut portable, mut others, mut back) = (Vec::new(), vec![(7, 7), (8, 8)], Vec::new());
            to_portable(&bytes, &names, &mut portable);
            from_portable(&portable, &mut others, &mut back);
            prop_assert_eq!(decode(&bytes, &names), entry.clone());
            prop_assert_eq!(decode(&back, &others), entry.clone());
            prop_assert_eq!(read(&portable), entry);
        }
    }

    #[test]
    fn a_row_from_before_there_were_masks_lacks_conditions() {
        let cell = Key { hash: 7, text: Text::new(b"\x01sKRW") };
        let row = Row { cell, member: Text::new(b"p"), window: 1_800_000, amount: 5, lacks: says::CONDITIONS };
        let entry = Entry { version: None, since: 1_000, row: Some(row), kept: None };
        let mut bytes = Vec::new();
        encode(&entry, &mut Vec::new(), &mut bytes);
        // Without the flag, and without the mask of three bytes.
        bytes[0] &= !LACKS;
        bytes.truncate(bytes.len() - 3);
        assert_eq!(bytes[0], LIVE | WINDOWED);
        assert_eq!(decode(&bytes, &[]), entry);
    }

    #[test]
    fn a_payment_row_packs_into_64_bytes() {
        let mut bytes = Vec::new();
        let entry = Entry {
            version: Some(Version { incarnation: 1, server: 2, position: Position(171, 369_123_330, 3) }),
            since: 1_795_000_000_000,
            row: Some(Row {
                cell: Key { hash: 1, text: Text::new(b"\x09store-123KRW") },
                member: Text::EMPTY,
                window: 1_795_000_200_000 / 1_800_000 * 1_800_000,
                amount: 1_234_500,
                lacks: 0,
            }),
            kept: None,
        };
        encode(&entry, &mut Vec::new(), &mut bytes);
        // Plus hash 4, two lengths, and a key of two bytes of key space and an eight digit integer.
        assert!(bytes.len() + 4 + 2 + 10 <= 72, "{}", bytes.len());
    }
}
