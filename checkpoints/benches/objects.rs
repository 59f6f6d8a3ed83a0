//! Rows per second of processor time of writing, loading and merging: `cargo bench -p storeflow-checkpoints`.
//!
//! Rows are as long as a payment's: keys of ten bytes, values of sixty. The store keeps its bytes in memory.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use storeflow_checkpoints::load::load;
use storeflow_checkpoints::merge::merge;
use storeflow_checkpoints::object::{Group, Object, write};
use storeflow_checkpoints::objects::{ObjectError, Objects, Writing};
use storeflow_dataflows::state::{Section, StateRow, StateRows};
use storeflow_dataflows::table::Table;
use xxhash_rust::xxh3::xxh3_64;

const ROWS: u64 = 400_000;
const PAYMENTS: Section = Section::Rows(Table::StorePayments);
const ALL: Group = Group { index: 0, of: 1 };

#[derive(Default)]
struct Memory(Arc<Mutex<HashMap<String, Bytes>>>);

struct Half(String, Vec<u8>, Arc<Mutex<HashMap<String, Bytes>>>);

impl Objects for Memory {
    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectError> {
        self.0.lock().expect("no thread panics").insert(key.to_owned(), bytes);
        Ok(())
    }
    fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<bool, ObjectError> {
        self.put(key, bytes).map(|()| true)
    }
    fn create(&self, key: &str) -> Result<Box<dyn Writing + '_>, ObjectError> {
        Ok(Box::new(Half(key.to_owned(), Vec::new(), self.0.clone())))
    }
    fn get(&self, key: &str) -> Result<Option<Bytes>, ObjectError> {
        Ok(self.0.lock().expect("no thread panics").get(key).cloned())
    }
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, ObjectError> {
        // A copy, as a file would be.
        let cut = |bytes: Bytes| Bytes::copy_from_slice(&bytes[range.start as usize..bytes.len().min(range.end as usize)]);
        Ok(self.get(key)?.map(cut))
    }
    fn list(&self, _prefix: &str) -> Result<Vec<String>, ObjectError> {
        Ok(Vec::new())
    }
    fn delete(&self, _key: &str) -> Result<(), ObjectError> {
        Ok(())
    }
    fn place(&self, key: &str) -> String {
        key.to_owned()
    }
}

impl Writing for Half {
    fn write(&mut self, bytes: &[u8]) -> Result<(), ObjectError> {
        self.1.extend_from_slice(bytes);
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<(), ObjectError> {
        self.2.lock().expect("no thread panics").insert(self.0, self.1.into());
        Ok(())
    }
}

/// Rows of these payments, as the latest-row operator hands them out: version, instants, amount, store, currency, status.
fn payments(rng: &mut rand_pcg::Pcg64Mcg, ids: impl Iterator<Item = u64>, sorted: bool, at: u64) -> StateRows {
    let mut rows = Vec::new();
    for id in ids {
        let key = format!("{:010}", id);
        let mut value = Vec::with_capacity(64);
        value.extend_from_slice(&(at * 1_000_000 + id * 300).to_le_bytes());
        value.extend_from_slice(&(1_700_000_000_000u64 + at * 1000 + rng.random_range(0..1000u64)).to_le_bytes());
        value.extend_from_slice(&(1_700_000_000_000u64 + id / 100).to_le_bytes());
        value.extend_from_slice(&rng.random_range(100..5_000_000i128).to_le_bytes());
        value.push(10);
        value.extend_from_slice(format!("store-{:04}", rng.random_range(0..3000u32)).as_bytes());
        value.push(3);
        value.extend_from_slice(b"KRW");
        value.extend_from_slice(&[1, 0, 0, 1]);
        rows.push((xxh3_64(key.as_bytes()), key, value));
    }
    if sorted {
        rows.sort();
    }
    let mut out = StateRows::default();
    for (hash, key, value) in &rows {
        out.push(StateRow { hash: *hash, key: key.as_bytes(), value });
    }
    out
}

/// Seconds that this thread has been on a processor: others use this machine, too.
fn seconds_of_processor() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts them");
    told.split(' ').next().and_then(|nanos| nanos.parse().ok()).map_or(f64::NAN, |nanos: f64| nanos / 1e9)
}

/// The best of some runs, in seconds.
fn best<T>(runs: usize, mut run: impl FnMut() -> T) -> (f64, T) {
    let mut timed = || {
        let start = seconds_of_processor();
        let out = run();
        (seconds_of_processor() - start, out)
    };
    let first = timed();
    (1..runs).map(|_| timed()).fold(first, |best, next| if next.0 < best.0 { next } else { best })
}

fn tell(what: &str, rows: u64, seconds: f64, object: Option<&Object>) {
    let size =
        object.map(|o| format!(", {:.1} of {:.1} bytes per row", o.bytes as f64 / o.rows as f64, o.raw as f64 / o.rows as f64));
    let (speed, each) = (rows as f64 / seconds / 1e6, seconds / rows as f64 * 1e9);
    println!("{what:<60} {speed:6.2} M rows/s, {each:5.0} ns per row{}", size.unwrap_or_default());
}

fn main() {
    // `cargo bench` itself adds a flag.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let parts: [(&str, fn()); 3] = [("write", writes), ("merge", merges), ("load", loads)];
    parts.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name)).for_each(|(_, run)| run());
}

fn writes() {
    let (store, mut rng) = (Memory::default(), rand_pcg::Pcg64Mcg::seed_from_u64(1));
    let shapes = [("one tick, no order", 1, false), ("ten ticks, no order", 10, false), ("ten ticks, sorted", 10, true)];
    for (name, ticks, sorted) in shapes {
        let per_tick = ROWS / ticks;
        let lists = (0..ticks).map(|tick| payments(&mut rng, tick * per_tick..(tick + 1) * per_tick, sorted, tick)).collect();
        let sections = BTreeMap::from([(PAYMENTS, lists)]);
        let (seconds, object) = best(7, || write(&store, "delta", 1, ALL, &sections).expect("memory takes it"));
        tell(&format!("write {ROWS} rows, {name}"), ROWS, seconds, Some(&object));
    }
    let cells = || {
        let mut rows = StateRows::default();
        let payments = payments(&mut rng, 0..ROWS / 10, true, 7);
        payments.iter().for_each(|row| rows.push(StateRow { value: &row.value[..40], ..row }));
        rows
    };
    let sections = BTreeMap::from([(Section::Cells(Table::StorePayments), std::iter::repeat_with(cells).take(10).collect())]);
    let (seconds, object) = best(7, || write(&store, "cells", 1, ALL, &sections).expect("memory takes it"));
    tell("write the same 40000 cells of ten ticks", ROWS, seconds, Some(&object));
}

/// A base of three million rows, and twenty deltas to a hundred thousand of them.
fn history(store: &Memory) -> (Object, Vec<Object>) {
    let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(2);
    let base = BTreeMap::from([(PAYMENTS, vec![payments(&mut rng, 0..3_000_000, false, 1)])]);
    let base = write(store, "first", 1, ALL, &base).expect("memory takes it");
    let base = merge(store, &[base], "base", ALL, &|_, _| true).expect("it is whole");
    let mut delta = |at| {
        let ids: Vec<u64> = (0..100_000).map(|_| rng.random_range(0..3_000_000)).collect();
        let rows = BTreeMap::from([(PAYMENTS, vec![payments(&mut rng, ids.into_iter(), true, at)])]);
        write(store, &format!("delta-{at}"), at, ALL, &rows).expect("memory takes it")
    };
    (base, (2..22).map(&mut delta).collect())
}

fn merges() {
    let store = Memory::default();
    let (base, deltas) = history(&store);
    let rows = |objects: &[Object]| objects.iter().map(|object| object.rows).sum::<u64>();
    let run = |inputs: &[Object], key: &str| {
        let (seconds, merged) = best(5, || merge(&store, inputs, key, ALL, &|_, _| true).expect("they are whole"));
        tell(&format!("merge {} objects with {} rows", inputs.len(), rows(inputs)), rows(inputs), seconds, Some(&merged));
        merged
    };
    let small = run(&deltas, "small");
    run(&[base.clone(), small], "merged");
    run(&std::iter::once(base).chain(deltas).collect::<Vec<Object>>(), "merged");
}

fn loads() {
    let store = Memory::default();
    let (base, deltas) = history(&store);
    let run = |what: &str, objects: &[Object], of: u64| {
        let (seconds, rows) = best(5, || {
            let mut bytes = 0;
            let visit = &mut |_: Section, row: StateRow<'_>| bytes += black_box(row.key.len() + row.value.len());
            load(&store, objects, |_| true, |shard| shard % of == 0, visit).expect("they are whole").rows
        });
        tell(what, rows, seconds, None);
    };
    run("load a base", std::slice::from_ref(&base), 1);
    run("load a third of its shards", std::slice::from_ref(&base), 3);
    run("load base and 20 deltas", &std::iter::once(base).chain(deltas).collect::<Vec<Object>>(), 1);
}
