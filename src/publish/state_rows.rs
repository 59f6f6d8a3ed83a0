//! What is still to be shown, as rows of state: so that a checkpoint holds it, and a restart shows it again.
//!
//! Rows of history travel with the checkpoint that commits them; late adjustments and dead letters are kept until the file of
//! their epoch is shown.
//!
//! Upholds: what is read is what was written; the layout is part of the format of checkpoints (dead letters of earlier programs end
//! before their headers, which are then none, as is who made them). A late adjustment or a dead letter is
//! where its record was read, and has a hash of that worker's: so it comes back into the file it was in.
//! Absent on purpose: compression and checksums, which are the object's.

use std::collections::HashMap;
use std::sync::Arc;

use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::key::{Key, Text, push_signed, push_varint, read_signed, read_varint};
use storeflow_dataflows::state::{StateRow, StateRows};
use storeflow_dataflows::table::{HistoryRow, LateAdjustment, Table, Value, Window};

use super::dead_letters::{DeadLetter, Header, MadeBy};
use crate::decode::Reason;

/// Adds a row of history.
pub fn push_history(row: &HistoryRow, rows: &mut StateRows) {
    let HistoryRow { epoch, table, window, key, value, revision } = row;
    let mut name = vec![*table as u8];
    push_varint(&mut name, *epoch);
    push_window(*window, &mut name);
    name.extend_from_slice(key.text.as_bytes());
    let mut all = Vec::with_capacity(32);
    push_signed(&mut all, value.sum);
    push_signed(&mut all, value.count.into());
    push_signed(&mut all, value.distinct.into());
    push_varint(&mut all, u64::from(*revision));
    rows.push(StateRow { hash: key.hash, key: &name, value: &all });
}

/// Reads a row of history.
pub fn read_history(row: StateRow<'_>) -> HistoryRow {
    let mut at = 1;
    let table = table_of(row.key[0]);
    let epoch = read_varint(row.key, &mut at);
    let window = read_window(row.key, &mut at);
    let key = Key { hash: row.hash, text: Text::new(&row.key[at..]) };
    let mut at = 0;
    let sum = read_signed(row.value, &mut at);
    let count = read_signed(row.value, &mut at) as i64;
    let value = Value { sum, count, distinct: read_signed(row.value, &mut at) as i64 };
    HistoryRow { epoch, table, window, key, value, revision: read_varint(row.value, &mut at) as u32 }
}

/// Adds the late adjustments that a worker has of one cut, which holds all of each of their records.
pub fn push_lates(late: &[LateAdjustment], worker: usize, rows: &mut StateRows) {
    let mut of_record: HashMap<(u32, u64), u64> = HashMap::new();
    for late in late {
        let before = of_record.entry((late.partition, late.position)).or_default();
        push_late(late, *before, worker, rows);
        *before += 1;
    }
}

/// Adds a late adjustment; so many of its record are before it.
fn push_late(late: &LateAdjustment, before: u64, worker: usize, rows: &mut StateRows) {
    let LateAdjustment { table, window, key, sum, count, partition, position, stamp } = late;
    // A change may take a row out of one cell and put it into another, one of a lookup many of each.
    let mut name = Vec::with_capacity(48);
    push_varint(&mut name, *stamp);
    push_varint(&mut name, u64::from(*partition));
    push_varint(&mut name, *position);
    name.push(*table as u8);
    push_window(*window, &mut name);
    push_signed(&mut name, *sum);
    push_signed(&mut name, (*count).into());
    if before > 0 {
        push_varint(&mut name, before);
    }
    let mut all = key.hash.to_le_bytes().to_vec();
    all.extend_from_slice(key.text.as_bytes());
    rows.push(StateRow { hash: hash_of(worker, &name), key: &name, value: &all });
}

/// Reads a late adjustment.
pub fn read_late(row: StateRow<'_>) -> LateAdjustment {
    let mut at = 0;
    let stamp = read_varint(row.key, &mut at);
    let partition = read_varint(row.key, &mut at) as u32;
    let position = read_varint(row.key, &mut at);
    let table = table_of(row.key[at]);
    at += 1;
    let window = read_window(row.key, &mut at);
    let sum = read_signed(row.key, &mut at);
    let count = read_signed(row.key, &mut at) as i64;
    let (hash, text) = row.value.split_at(8);
    let key = Key { hash: u64::from_le_bytes(hash.try_into().expect("eight bytes")), text: Text::new(text) };
    LateAdjustment { table, window, key, sum, count, partition, position, stamp }
}

/// Adds the dead letters that a worker has of one cut, which holds all of each stamp; `by` is this run.
pub fn push_dead_letters(letters: &[DeadLetter], worker: usize, by: &MadeBy, rows: &mut StateRows) {
    let mut at_place: HashMap<(&str, u32, u64, u64), u64> = HashMap::new();
    for letter in letters {
        let before = at_place.entry((&letter.topic, letter.partition, letter.offset, letter.stamp)).or_default();
        push_dead_letter(letter, *before, worker, by, rows);
        *before += 1;
    }
}

/// Adds a dead letter; so many at its place are before it: a dataset may repeat a position.
fn push_dead_letter(letter: &DeadLetter, before: u64, worker: usize, by: &MadeBy, rows: &mut StateRows) {
    let DeadLetter { topic, partition, offset, timestamp, key, value, headers, reason, error, stamp, .. } = letter;
    let DeadLetter { first_stamp, by: made_by, .. } = letter;
    let mut name = Vec::with_capacity(64);
    push_varint(&mut name, *stamp);
    push_varint(&mut name, u64::from(*partition));
    push_varint(&mut name, *offset);
    name.extend_from_slice(topic.as_bytes());
    if before > 0 {
        // No name of a topic or of a folder has this byte.
        name.push(0);
        push_varint(&mut name, before);
    }
    let mut all = Vec::new();
    push_bytes(reason.as_bytes(), &mut all);
    push_bytes(error.as_bytes(), &mut all);
    push_option(timestamp.map(i128::from), &mut all, |value, out| push_signed(out, value));
    push_option(key.as_deref(), &mut all, push_bytes);
    push_option(value.as_deref(), &mut all, push_bytes);
    push_varint(&mut all, headers.len() as u64);
    for (name, value) in headers {
        push_bytes(name.as_bytes(), &mut all);
        push_option(value.as_deref(), &mut all, push_bytes);
    }
    let MadeBy { job_version, storeflow_version } = made_by.as_deref().unwrap_or(by);
    push_option(job_version.as_deref(), &mut all, |text, out| push_bytes(text.as_bytes(), out));
    push_option(storeflow_version.as_deref(), &mut all, |text, out| push_bytes(text.as_bytes(), out));
    push_option(*first_stamp, &mut all, |stamp, out| push_varint(out, stamp));
    rows.push(StateRow { hash: hash_of(worker, &name), key: &name, value: &all });
}

/// Reads a dead letter.
pub fn read_dead_letter(row: StateRow<'_>) -> DeadLetter {
    let mut at = 0;
    let stamp = read_varint(row.key, &mut at);
    let partition = read_varint(row.key, &mut at) as u32;
    let offset = read_varint(row.key, &mut at);
    let topic = row.key[at..].split(|byte| *byte == 0).next().unwrap_or_default();
    let topic = Arc::from(String::from_utf8_lossy(topic));
    let mut at = 0;
    let code = read_bytes(row.value, &mut at);
    let known = Reason::ALL.iter().map(|reason| reason.code()).find(|known| known.as_bytes() == code);
    let reason = known.expect("codes of reasons are never taken back");
    let error = read_text(row.value, &mut at);
    let timestamp = read_option(row.value, &mut at, read_signed).map(|timestamp| timestamp as i64);
    let key = read_option(row.value, &mut at, read_bytes).map(<[u8]>::to_vec);
    let value = read_option(row.value, &mut at, read_bytes).map(<[u8]>::to_vec);
    let (mut headers, mut by, mut first_stamp) = (Vec::new(), MadeBy::default(), None);
    if at < row.value.len() {
        for _ in 0..read_varint(row.value, &mut at) {
            headers.push(read_header(row.value, &mut at));
        }
        by.job_version = read_option(row.value, &mut at, read_text);
        by.storeflow_version = read_option(row.value, &mut at, read_text);
        first_stamp = read_option(row.value, &mut at, read_varint);
    }
    let by = Some(Arc::new(by));
    DeadLetter { topic, partition, offset, timestamp, key, value, headers, reason, error, stamp, first_stamp, by }
}

/// The epoch whose file a late adjustment or a dead letter is in.
pub fn epoch_of(row: StateRow<'_>, horizons: &Horizons) -> u64 {
    // Both begin with the record's stamp.
    horizons.epoch_after(read_varint(row.key, &mut 0))
}

/// A hash of the worker's own: shard `w` belongs to worker `w`, however many there are.
fn hash_of(worker: usize, name: &[u8]) -> u64 {
    (worker as u64) << 54 | xxhash_rust::xxh3::xxh3_64(name) >> 10
}

fn table_of(code: u8) -> Table {
    Table::ALL[usize::from(code)]
}

fn push_window(window: Window, out: &mut Vec<u8>) {
    out.extend_from_slice(&(window as u64).to_be_bytes());
}

fn read_window(bytes: &[u8], at: &mut usize) -> Window {
    let mut window = [0; 8];
    window.copy_from_slice(&bytes[*at..*at + 8]);
    *at += 8;
    u64::from_be_bytes(window) as Window
}

fn push_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn read_bytes<'b>(bytes: &'b [u8], at: &mut usize) -> &'b [u8] {
    let len = read_varint(bytes, at) as usize;
    *at += len;
    &bytes[*at - len..*at]
}

fn read_text(bytes: &[u8], at: &mut usize) -> String {
    String::from_utf8_lossy(read_bytes(bytes, at)).into_owned()
}

fn read_header(bytes: &[u8], at: &mut usize) -> Header {
    let name = read_text(bytes, at);
    (name, read_option(bytes, at, read_bytes).map(<[u8]>::to_vec))
}

fn push_option<T>(value: Option<T>, out: &mut Vec<u8>, push: impl FnOnce(T, &mut Vec<u8>)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        push(value, out);
    }
}

fn read_option<'b, T>(bytes: &'b [u8], at: &mut usize, read: impl FnOnce(&'b [u8], &mut usize) -> T) -> Option<T> {
    *at += 1;
    (bytes[*at - 1] == 1).then(|| read(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use storeflow_dataflows::epoch::Before;
    use storeflow_dataflows::table::NO_WINDOW;

    fn key() -> impl Strategy<Value = Key> {
        (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..50))
            .prop_map(|(hash, text)| Key { hash, text: Text::new(&text) })
    }

    fn window() -> impl Strategy<Value = Window> {
        prop_oneof![Just(NO_WINDOW), 0i64..4_000_000_000_000]
    }

    fn only(rows: &StateRows) -> StateRow<'_> {
        assert_eq!(rows.len(), 1);
        rows.iter().next().expect("one row")
    }

    /// Bytes from the headers on.
    fn tail_of(letter: &DeadLetter) -> usize {
        let mut tail = Vec::new();
        push_varint(&mut tail, letter.headers.len() as u64);
        for (name, value) in &letter.headers {
            push_bytes(name.as_bytes(), &mut tail);
            push_option(value.as_deref(), &mut tail, push_bytes);
        }
        let by = letter.by.as_deref().expect("made by somebody");
        for text in [&by.job_version, &by.storeflow_version] {
            push_option(text.as_deref(), &mut tail, |text, out| push_bytes(text.as_bytes(), out));
        }
        push_option(letter.first_stamp, &mut tail, |stamp, out| push_varint(out, stamp));
        tail.len()
    }

    proptest! {
        #[test]
        fn rows_to_show_come_back(
            table in proptest::sample::select(&Table::ALL[..]),
            (epoch, window, key, revision) in (any::<u64>(), window(), key(), any::<u32>()),
            (sum, count, distinct) in (any::<i128>(), any::<i64>(), any::<i64>()),
            (partition, position, stamp) in (any::<u32>(), any::<u64>(), any::<u64>()),
        ) {
            let row = HistoryRow { epoch, table, window, key: key.clone(), value: Value { sum, count, distinct }, revision };
            let mut rows = StateRows::default();
            push_history(&row, &mut rows);
            prop_assert_eq!(read_history(only(&rows)), row);
            let late = LateAdjustment { table, window, key, sum, count, partition, position, stamp };
            let mut rows = StateRows::default();
            // A record may say the same several times, and each counts.
            push_lates(&[late.clone(), late.clone(), late.clone()], 5, &mut rows);
            let keys: HashSet<&[u8]> = rows.iter().map(|row| row.key).collect();
            prop_assert_eq!(keys.len(), 3);
            for row in rows.iter() {
                prop_assert_eq!(row.hash >> 54, 5);
                prop_assert_eq!(&read_late(row), &late);
            }
        }

        #[test]
        fn dead_letters_come_back(
            topic in "[a-z.]{1,20}",
            (partition, offset, stamp) in (any::<u32>(), any::<u64>(), 0u64..4_000_000_000_000),
            timestamp in proptest::option::of(any::<i64>()),
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..400)),
            reason in proptest::sample::select(Reason::ALL),
            error in ".{0,40}",
            headers in proptest::collection::vec((".{0,9}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40))), 0..3),
            (job_version, storeflow_version) in (proptest::option::of("[0-9a-f]{16}"), proptest::option::of("[0-9.]{1,9}")),
            (own, first_stamp) in (any::<bool>(), proptest::option::of(any::<u64>())),
        ) {
            let reason = reason.code();
            let made_by = MadeBy { job_version, storeflow_version };
            let by = own.then(|| Arc::new(made_by.clone()));
            let topic = topic.into();
            let letter = DeadLetter { topic, partition, offset, timestamp, key, value, headers, reason, error, stamp, first_stamp, by };
            let run = if own { MadeBy::default() } else { made_by.clone() };
            let mut rows = StateRows::default();
            push_dead_letters(std::slice::from_ref(&letter), 7, &run, &mut rows);
            prop_assert_eq!(only(&rows).hash >> 54, 7);
            let horizons = Horizons { window: 1_800_000, grace: 120_000, retention: 7_200_000, replay_horizon: 0, before: Before::NOTHING };
            prop_assert_eq!(epoch_of(only(&rows), &horizons), horizons.epoch_after(stamp));
            let letter = DeadLetter { by: Some(Arc::new(made_by)), ..letter };
            prop_assert_eq!(&read_dead_letter(only(&rows)), &letter);
            let mut repeated = StateRows::default();
            push_dead_letters(&[letter.clone(), letter.clone()], 7, &MadeBy::default(), &mut repeated);
            let keys: HashSet<&[u8]> = repeated.iter().map(|row| row.key).collect();
            prop_assert!(keys.len() == 2 && repeated.iter().all(|row| read_dead_letter(row) == letter));
            // A row as it was before there were headers.
            let StateRow { hash, key, value } = only(&rows);
            let tail = value.len() - tail_of(&letter);
            let before = DeadLetter { headers: Vec::new(), first_stamp: None, by: Some(Arc::default()), ..letter };
            prop_assert_eq!(read_dead_letter(StateRow { hash, key, value: &value[..tail] }), before);
        }
    }
}
