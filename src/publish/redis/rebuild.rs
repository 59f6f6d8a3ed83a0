//! Buckets written in full from the view in memory, and what should not be there taken away.
//!
//! Each hash is replaced as a whole, so readers miss nothing while it lasts; keys that the view does not have (they are of
//! before Redis lost or kept what it should not) are removed last, under the guard like all else. What is there is found by one scan
//! before anything is written: nobody else writes a bucket that is ours, so no other key comes in between.
//! The guard says `rebuilding` from the first write to the last, so a bucket that says how far it is has no key too many; and only
//! a group of buckets says so at a time, as nobody reads them then.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use storeflow_dataflows::key::{Text, WordMap};
use storeflow_dataflows::table::{CellChange, NO_WINDOW, Window};
use xxhash_rust::xxh3::xxh3_64;

use super::applier::Applier;
use super::bucket::{REBUILDING, State};
use super::error::RedisError;
use super::keys::{Kind, push_store, push_window};
use super::link::{Cursor, Wire};
use super::pending::{by_hash, sort};
use super::steps::Steps;
use super::writer::{Claim, Rebuilt, Writer, claim, claimed};

/// Cells copied out of the view at a time, about 130 bytes each: a worker that publishes waits for the copying, and readers of these buckets
/// for the writing.
const CELLS_AT_A_TIME: usize = 200_000;

/// Bytes of one script call while rebuilding; about 10,000 fields.
const STEPS_BYTES: usize = 512 << 10;

/// Rebuilds all lost buckets.
pub(super) fn rebuild(writer: &mut Writer) -> Result<Rebuilt, RedisError> {
    let mut lost: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, bucket) in writer.buckets.iter().enumerate().filter(|(_, bucket)| bucket.state == State::Lost) {
        lost.entry(bucket.worker).or_default().push(at);
    }
    let rebuilt = rebuild_these(writer, &lost);
    if rebuilt.is_err() {
        // Whatever was done of them, it is done again, down to the last stale key.
        lost.values().flatten().for_each(|&at| writer.buckets[at].state = State::Lost);
    }
    rebuilt
}

fn rebuild_these(writer: &mut Writer, lost: &BTreeMap<usize, Vec<usize>>) -> Result<Rebuilt, RedisError> {
    let mut there = scan(writer, lost)?;
    let mut rebuilt = Rebuilt::default();
    for (worker, places) in lost {
        let of_worker = writer.buckets.iter().filter(|bucket| bucket.worker == *worker).count();
        let per_bucket = writer.view.extent(*worker).1 / of_worker.max(1) + 1;
        for group in places.chunks((CELLS_AT_A_TIME / per_bucket).max(1)) {
            take(writer, group)?;
            let (mut written, mut ids) = (HashSet::new(), BTreeMap::new());
            let as_of = write_group(writer, *worker, group, (&mut written, &mut ids), &mut rebuilt)?;
            rebuilt.written += written.len();
            rebuilt.stale += finish(writer, group, as_of, (&written, &ids), &mut there)?;
        }
    }
    Ok(rebuilt)
}

/// The keys of the lost buckets, by place.
fn scan(writer: &mut Writer, lost: &BTreeMap<usize, Vec<usize>>) -> Result<BTreeMap<usize, Vec<Vec<u8>>>, RedisError> {
    let Some(link) = &mut writer.link else { return Ok(BTreeMap::new()) };
    let place_of: WordMap<u64, usize> = lost.values().flatten().map(|&at| (writer.buckets[at].number, at)).collect();
    let (mut cursor, mut page) = (Cursor::default(), Vec::new());
    let mut there: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
    while !cursor.at_end() {
        link.scan(&mut cursor, &writer.keys.all(), &mut page)?;
        for key in page.drain(..) {
            if let Some((bucket, Kind::Store(_) | Kind::Window(..))) = writer.keys.parse(&key)
                && let Some(&at) = place_of.get(&bucket)
            {
                there.entry(at).or_default().push(key);
            }
        }
    }
    Ok(there)
}

/// Marks lost buckets as being rebuilt, unless another run has taken one.
fn take(writer: &mut Writer, group: &[usize]) -> Result<(), RedisError> {
    let Some(link) = &mut writer.link else { return Ok(()) };
    let mut wire = Wire::default();
    for &at in group {
        let bucket = &mut writer.buckets[at];
        bucket.sequence += 1;
        let rest = format!("{}:{REBUILDING}", bucket.sequence);
        claim(&mut wire, &writer.scripts.claim, &writer.guards[at], &writer.run, Claim { held: bucket.claim, known: 0 }, &rest);
    }
    let answers = link.call("take lost buckets", &wire)?;
    for (&at, answer) in group.iter().zip(answers) {
        claimed(&mut writer.buckets[at], &answer)?;
        // A guard that is not as we left it makes it lost again.
        writer.buckets[at].state = State::Ready;
    }
    Ok(())
}

/// Hashes of the keys that were written, and the ids of stores by bucket's place.
type Content<'a> = (&'a mut HashSet<u64>, &'a mut BTreeMap<usize, BTreeSet<Text>>);

/// Writes some buckets of one worker from one cut of the view, whose as-of is given back.
fn write_group(
    writer: &mut Writer,
    worker: usize,
    group: &[usize],
    (written, ids): Content<'_>,
    rebuilt: &mut Rebuilt,
) -> Result<u64, RedisError> {
    let Some(link) = &mut writer.link else { return Ok(0) };
    let numbers: HashSet<u64> = group.iter().map(|&at| writer.buckets[at].number).collect();
    let cut = writer.view.cut(worker, |shard| numbers.contains(&shard));
    let as_of = cut.as_of;
    let cells: Vec<CellChange> = cut
        .cells
        .into_iter()
        .map(|(table, cell)| CellChange {
            after: as_of.saturating_sub(1),
            table,
            window: cell.window,
            key: cell.key,
            value: Some((cell.value, cell.revision)),
        })
        .collect();
    let mut cells: Vec<&CellChange> = cells.iter().collect();
    sort(&mut cells);
    let mut rest = &cells[..];
    let mut applier = Applier::new(link, &writer.scripts.apply, &writer.run, &mut writer.buckets);
    let (mut steps, mut key) = (Steps::default(), Vec::new());
    for &at in group {
        let number = applier.bucket(at).number;
        let (guard, prefix) = (&writer.guards[at], &writer.prefixes[at]);
        let (of_bucket, later) = rest.split_at(rest.partition_point(|cell| cell.key.shard() <= number));
        rest = later;
        ids.insert(at, of_bucket.iter().map(|cell| Text::new(cell.key.cell_parts().0)).collect());
        let mut newest: WordMap<Text, Window> = WordMap::default();
        for hash in by_hash(of_bucket).filter(|hash| hash[0].window != NO_WINDOW) {
            // Windows ascend, so the last one stays.
            newest.insert(Text::new(hash[0].key.cell_parts().0), hash[0].window);
        }
        writer.newest.extend(newest.iter().map(|(store, window)| (store.clone(), *window)));
        steps.clear();
        for hash in by_hash(of_bucket) {
            let (window, store) = (hash[0].window, hash[0].key.cell_parts().0);
            key.clear();
            if window == NO_WINDOW {
                steps.replace(prefix, hash, as_of, &writer.style, newest.remove(&Text::new(store)));
                push_store(&mut key, prefix, store);
            } else {
                steps.replace(prefix, hash, as_of, &writer.style, None);
                push_window(&mut key, prefix, window, store);
                rebuilt.windows.insert(window, writer.style.ttl(window, as_of));
            }
            written.insert(xxh3_64(&key));
            if steps.bytes() > STEPS_BYTES {
                applier.add(at, guard, None, &steps)?;
                steps.clear();
            }
        }
        for (store, window) in newest {
            key.clear();
            push_store(&mut key, prefix, store.as_bytes());
            written.insert(xxh3_64(&key));
            steps.replace_newest(prefix, store.as_bytes(), window, as_of);
        }
        if !steps.is_empty() {
            applier.add(at, guard, None, &steps)?;
        }
    }
    applier.finish()?;
    Ok(as_of)
}

/// Removes the keys of these buckets that were not written, how many, puts the ids of stores right, and lets the guards say the as-of
/// they have reached.
fn finish(
    writer: &mut Writer,
    group: &[usize],
    as_of: u64,
    (written, ids): (&HashSet<u64>, &BTreeMap<usize, BTreeSet<Text>>),
    there: &mut BTreeMap<usize, Vec<Vec<u8>>>,
) -> Result<usize, RedisError> {
    let Some(link) = &mut writer.link else { return Ok(0) };
    let mut applier = Applier::new(link, &writer.scripts.apply, &writer.run, &mut writer.buckets);
    let (mut steps, mut count) = (Steps::default(), 0);
    for &at in group {
        steps.clear();
        let stale = there.remove(&at).unwrap_or_default().into_iter().filter(|key| !written.contains(&xxh3_64(key)));
        for key in stale {
            steps.remove(&key);
            count += 1;
        }
        let number = applier.bucket(at).number;
        steps.ids(writer.keys.stores(number).as_bytes(), ids.get(&at).into_iter().flatten());
        applier.add(at, &writer.guards[at], Some(as_of), &steps)?;
    }
    applier.finish()?;
    Ok(count)
}
