//! Objects against a map that keeps the last row of each key, and against every way to damage one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use proptest::prelude::*;
use storeflow_dataflows::state::{Section, StateRow, StateRows};
use storeflow_dataflows::table::Table;

use crate::chain::{chain, plan};
use crate::damage::CheckpointError;
use crate::file::Writer;
use crate::load::{Loaded, check, load};
use crate::merge::merge;
use crate::object::{Group, Object, write};
use crate::objects::Objects;
use crate::testing::{Fault, MemoryStore};

const SECTIONS: [Section; 3] = [Section::Rows(Table::StorePayments), Section::Cells(Table::StoreClicks), Section::Late];
const ONE: Group = Group { index: 0, of: 1 };

type Rows = BTreeMap<(Section, Vec<u8>), (u64, Vec<u8>)>;

/// Rows of sections, in the order of time.
type Delta = Vec<(Section, u64, Vec<u8>, Vec<u8>)>;

fn lists(delta: &Delta, group: Group, per_list: usize) -> BTreeMap<Section, Vec<StateRows>> {
    let mut out: BTreeMap<Section, Vec<StateRows>> = BTreeMap::new();
    for (section, hash, key, value) in delta.iter().filter(|(_, hash, ..)| group.owns(hash >> 54)) {
        let lists = out.entry(*section).or_default();
        if lists.last().is_none_or(|list| list.len() >= per_list) {
            lists.push(StateRows::default());
        }
        if let Some(list) = lists.last_mut() {
            list.push(StateRow { hash: *hash, key, value });
        }
    }
    out
}

fn loaded(store: &dyn Objects, all: &[Object], shards: impl Fn(u64) -> bool) -> Result<(Rows, Loaded), CheckpointError> {
    let mut rows = Rows::new();
    let visit = &mut |section: Section, row: StateRow<'_>| {
        rows.insert((section, row.key.to_vec()), (row.hash, row.value.to_vec()));
    };
    let loaded = load(store, all, |_| true, shards, visit)?;
    Ok((rows, loaded))
}

/// What a row with this value may be dropped for, at a merge that sees all of its key.
fn forgotten(value: &[u8]) -> bool {
    value.first() == Some(&b'-')
}

fn without_forgotten(rows: &Rows) -> Rows {
    rows.iter().filter(|(_, (_, value))| !forgotten(value)).map(|(key, row)| (key.clone(), row.clone())).collect()
}

/// What happens to a job.
#[derive(Clone, Debug)]
enum Step {
    /// A checkpoint with these rows, given in lists of so many.
    Checkpoint(Delta, usize),
    /// A worker does what is planned.
    Plan(usize),
    /// A worker merges some of its objects.
    Merge(usize, usize, usize),
    /// The job starts again with so many workers.
    Rescale(usize),
}

fn delta() -> impl Strategy<Value = Delta> {
    // Few keys, and fewer hashes than keys: rows of a key meet, and keys with the same hash, too.
    let value = prop_oneof!["[a-z]{0,9}", "-[a-z]{0,3}"].prop_map(String::into_bytes);
    let row = (0..SECTIONS.len(), 0..60u64, value).prop_map(|(section, number, value)| {
        let hash = (number % 41).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (SECTIONS[section], hash, format!("key {number}").into_bytes(), value)
    });
    proptest::collection::vec(row, 0..60)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (delta(), 1..40usize).prop_map(|(delta, per_list)| Step::Checkpoint(delta, per_list)),
        2 => (0..6usize).prop_map(Step::Plan),
        2 => (0..6usize, 0..30usize, 0..30usize).prop_map(|(worker, from, to)| Step::Merge(worker, from, to)),
        1 => (1..6usize).prop_map(Step::Rescale),
    ]
}

/// A job at the level of its objects: a chain per worker.
struct Job {
    store: std::sync::Arc<crate::testing::Process>,
    chains: Vec<Vec<Object>>,
    through: u64,
    names: u64,
    twin: Rows,
}

impl Job {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("state/{:010}", self.names)
    }

    fn group(&self, index: usize) -> Group {
        Group { index, of: self.chains.len() }
    }

    fn merge(&mut self, worker: usize, range: std::ops::Range<usize>) {
        let (name, group) = (self.name(), self.group(worker));
        let keep = |_: Section, row: StateRow<'_>| range.start > 0 || !forgotten(row.value);
        let merged = merge(&*self.store, &self.chains[worker][range.clone()], &name, group, &keep).unwrap();
        check(&*self.store, &merged).unwrap();
        self.chains[worker].splice(range, [merged]);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Checkpoint(delta, per_list) => {
                self.through += 1000;
                for index in 0..self.chains.len() {
                    let (name, group) = (self.name(), self.group(index));
                    let object = write(&*self.store, &name, self.through, group, &lists(&delta, group, per_list)).unwrap();
                    let rows = check(&*self.store, &object).unwrap().rows;
                    assert_eq!(rows, object.rows);
                    self.chains[index].push(object);
                }
                for (section, hash, key, value) in delta {
                    self.twin.insert((section, key), (hash, value));
                }
            }
            Step::Plan(worker) => {
                let worker = worker % self.chains.len();
                while let Some(range) = plan(&self.chains[worker], self.group(worker)) {
                    self.merge(worker, range);
                }
            }
            Step::Merge(worker, from, to) => {
                let worker = worker % self.chains.len();
                let chain = &self.chains[worker];
                if !chain.is_empty() {
                    let (from, to) = (from % chain.len(), to % chain.len());
                    let (from, mut to) = (from.min(to), from.max(to));
                    // As the plan does: objects of one as-of stay together.
                    while to + 1 < chain.len() && chain[to + 1].through == chain[to].through {
                        to += 1;
                    }
                    self.merge(worker, from..to + 1);
                }
            }
            Step::Rescale(of) => {
                let all = self.chains.concat();
                self.chains = (0..of).map(|index| chain(&all, Group { index, of })).collect();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Whatever was merged, and however many workers there were in between: any number of workers loads what a map would hold.
    #[test]
    fn any_history_loads_as_the_last_row_of_each_key(
        workers in 1..6usize,
        steps in proptest::collection::vec(step(), 1..40),
        of in 1..6u64,
        half in any::<bool>(),
    ) {
        let store = MemoryStore::default();
        let mut job =
            Job { store: store.process(), chains: vec![Vec::new(); workers], through: 0, names: 0, twin: Rows::new() };
        for step in steps {
            job.take(step);
        }
        let all = job.chains.concat();
        for index in 0..of {
            let (rows, _) = loaded(&*job.store, &all, |shard| shard % of == index).unwrap();
            let mut expected = without_forgotten(&job.twin);
            expected.retain(|_, (hash, _)| (*hash >> 54) % of == index);
            prop_assert_eq!(without_forgotten(&rows), expected, "worker {} of {}", index, of);
            for (key, row) in rows {
                // A forgotten row may still be there, but never an earlier one of its key.
                prop_assert_eq!(Some(&row), job.twin.get(&key));
            }
        }
        let section = SECTIONS[usize::from(half)];
        let mut sections = Vec::new();
        load(&*job.store, &all, |wanted| wanted == section, |_| true, &mut |section, _| sections.push(section)).unwrap();
        prop_assert!(sections.iter().all(|found| *found == section));
        prop_assert_eq!(store.overwritten(), Vec::<String>::new());
    }

    /// How rows were cut into lists changes no byte, nor does merging in the order of as-ofs or another.
    #[test]
    fn the_same_rows_make_the_same_bytes(delta in delta(), later in delta(), per_list in 1..20usize) {
        let store = MemoryStore::default();
        let process = store.process();
        let first = write(&*process, "first", 1, ONE, &lists(&delta, ONE, 1000)).unwrap();
        let again = write(&*process, "again", 1, ONE, &lists(&delta, ONE, per_list)).unwrap();
        prop_assert_eq!(&first.checksum, &again.checksum);
        let later = write(&*process, "later", 2, ONE, &lists(&later, ONE, 1000)).unwrap();
        let keep = |_: Section, _: StateRow<'_>| true;
        let merged = merge(&*process, &[first.clone(), later.clone()], "merged", ONE, &keep).unwrap();
        let other = merge(&*process, &[later, first], "other", ONE, &keep).unwrap();
        prop_assert_eq!(&merged.checksum, &other.checksum);
        let contents = store.contents();
        prop_assert_eq!(&contents["first"], &contents["again"]);
        prop_assert_eq!(&contents["merged"], &contents["other"]);
    }
}

/// Rows of several sections and shards, in some blocks.
fn small(store: &dyn Objects, key: &str) -> (Object, Rows) {
    let row = |section: Section, number: u64| {
        let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (section, hash, format!("key {number}").into_bytes(), format!("value {}", number * number).into_bytes())
    };
    let delta: Delta = SECTIONS.iter().flat_map(|section| (0..7).map(|number| row(*section, number))).collect();
    let object = write(store, key, 7, ONE, &lists(&delta, ONE, 3)).unwrap();
    let rows = delta.into_iter().map(|(section, hash, key, value)| ((section, key), (hash, value))).collect();
    (object, rows)
}

/// What a check says of an object that was changed; loading it fails, too, or gives what was written.
fn after(change: impl FnOnce(&mut Vec<u8>)) -> CheckpointError {
    let store = MemoryStore::default();
    let process = store.process();
    let (object, rows) = small(&*process, "state/0000000007-0of1-run");
    store.damage(&object.key, change);
    if let Ok((found, _)) = loaded(&*process, std::slice::from_ref(&object), |_| true) {
        assert_eq!(found, rows);
    }
    let error = check(&*process, &object).expect_err("it was changed");
    assert!(error.to_string().contains("memory:state/0000000007-0of1-run"), "{error}");
    error
}

#[test]
fn every_changed_byte_is_noticed() {
    let store = MemoryStore::default();
    let bytes = small(&*store.process(), "object").0.bytes as usize;
    for place in 0..bytes {
        for mask in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let error = after(|bytes| bytes[place] ^= mask);
            assert!(matches!(error, CheckpointError::Damaged { .. }), "byte {place} of {bytes}, {mask}: {error}");
            assert!(error.is_damage());
        }
    }
}

#[test]
fn every_torn_tail_is_noticed() {
    let store = MemoryStore::default();
    let process = store.process();
    let (object, _) = small(&*process, "object");
    for length in 0..object.bytes as usize {
        let error = after(|bytes| bytes.truncate(length));
        assert!(error.is_damage(), "cut to {length}: {error}");
        // As a file system may leave it after a loss of power: of the right length, with zeros.
        let error = after(|bytes| bytes[length..].fill(0));
        assert!(error.is_damage(), "zeros from {length}: {error}");
        let store = MemoryStore::default();
        let process = store.process();
        small(&*process, "object");
        store.damage("object", |bytes| bytes.truncate(length));
        loaded(&*process, std::slice::from_ref(&object), |_| true).expect_err("it is cut off");
    }
    assert!(after(|bytes| bytes.push(0)).to_string().contains("and it has more"));
}

#[test]
fn a_damaged_block_is_named_and_others_load() {
    let store = MemoryStore::default();
    let process = store.process();
    let (object, rows) = small(&*process, "object");
    store.damage("object", |bytes| bytes[10] ^= 1);
    let error = check(&*process, &object).expect_err("it was changed").to_string();
    assert!(error.contains("the block at byte 8 ") && error.contains("(rows of store_payments, shards 0 to "), "{error}");
    let mut found = Rows::new();
    let visit = &mut |section: Section, row: StateRow<'_>| {
        found.insert((section, row.key.to_vec()), (row.hash, row.value.to_vec()));
    };
    load(&*process, &[object], |section| section == Section::Late, |_| true, visit).unwrap();
    assert_eq!(found, rows.into_iter().filter(|((section, _), _)| *section == Section::Late).collect());
}

#[test]
fn another_object_missing_objects_and_outages_are_told_apart() {
    let store = MemoryStore::default();
    let process = store.process();
    let (object, _) = small(&*process, "object");
    // Another whole object of the same length under the key.
    let other = write(&*process, "other", 8, ONE, &BTreeMap::new()).unwrap();
    let empty = write(&*process, "empty", 7, ONE, &BTreeMap::new()).unwrap();
    assert_eq!(other.bytes, empty.bytes);
    let error = check(&*process, &Object { key: "other".to_owned(), ..empty }).expect_err("it is another");
    assert!(error.is_damage() && error.to_string().contains("checksum"), "{error}");

    store.remove("object");
    let error = check(&*process, &object).expect_err("it is gone");
    assert!(matches!(error, CheckpointError::Missing { .. }) && error.is_damage(), "{error}");

    let faulty = store.process_with((0..9).map(|step| (step, Fault::Refused)).collect(), Box::new(|_| {}));
    let error = check(&*faulty, &object).expect_err("the store is out of reach");
    assert!(matches!(error, CheckpointError::Objects(_)) && !error.is_damage(), "{error}");
}

#[test]
fn a_key_that_is_there_twice_is_noticed() {
    let store = MemoryStore::default();
    let process = store.process();
    let mut writer = Writer::new(&*process, "object").unwrap();
    for key in [b"a", b"b", b"b"] {
        writer.push(SECTIONS[0], StateRow { hash: 1, key, value: b"value" }).unwrap();
    }
    let object = writer.finish("object", 1, ONE).unwrap();
    let error = check(&*process, &object).expect_err("a key is there twice");
    assert!(error.to_string().ends_with("is damaged: row 2 is out of order"), "{error}");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let error = after(|bytes| {
        let last = bytes.len() - 1;
        (bytes[7], bytes[last]) = (2, 2);
    });
    assert!(matches!(error, CheckpointError::Format { found: 2, known: 1, .. }) && !error.is_damage(), "{error}");
}

#[test]
fn empty_long_and_huge_rows_come_back() {
    let store = MemoryStore::default();
    let process = store.process();
    let mut twin = Rows::new();
    let mut all = Vec::new();
    for through in 0..6u64 {
        let mut delta = Delta::new();
        for number in (0..through).map(|number| number * 3 % 5) {
            let fill = (number + through) as u8;
            let sizes = [(0, 0), (100_000, 3), (4, 1 << 20), (70_000, 3 << 20), (1, 0)];
            let (key, value) = sizes[number as usize];
            delta.push((SECTIONS[1], number << 56, vec![number as u8; key], vec![fill; value]));
        }
        for (section, hash, key, value) in &delta {
            twin.insert((*section, key.clone()), (*hash, value.clone()));
        }
        all.push(write(&*process, &format!("delta {through}"), through, ONE, &lists(&delta, ONE, 2)).unwrap());
    }
    assert!(loaded(&*process, &all, |_| true).unwrap().0 == twin);
    let merged = merge(&*process, &all, "merged", ONE, &|_, _| true).unwrap();
    assert_eq!((merged.rows, merged.through), (twin.len() as u64, 5));
    assert_eq!(check(&*process, &merged).unwrap().rows, merged.rows);
    assert!(loaded(&*process, &[merged], |_| true).unwrap().0 == twin);
    let none = merge(&*process, &[], "none", ONE, &|_, _| true).unwrap();
    assert_eq!((none.rows, check(&*process, &none).unwrap().rows), (0, 0));
}

/// Keys of one hash, too large for one block, in different objects.
#[test]
fn equal_hashes_stay_together() {
    let store = MemoryStore::default();
    let process = store.process();
    let row = |key: u8, value: u8| (SECTIONS[0], 7 << 54, vec![key], vec![value; 100]);
    let first = vec![row(1, 1), row(2, 1), row(3, 1), (SECTIONS[0], 8 << 54, vec![0], vec![])];
    let second = vec![row(3, 2), row(4, 2), row(2, 2)];
    let first = write(&*process, "first", 1, ONE, &lists(&first, ONE, 10)).unwrap();
    let second = write(&*process, "second", 2, ONE, &lists(&second, ONE, 10)).unwrap();
    let all = [first, second];
    let merged = merge(&*process, &all, "merged", ONE, &|_, _| true).unwrap();
    assert_eq!(check(&*process, &merged).unwrap().rows, 5);
    let rows = loaded(&*process, &[merged], |_| true).unwrap().0;
    let values: Vec<u8> = rows.values().filter_map(|(_, value)| value.first().copied()).collect();
    assert_eq!(values, [1, 2, 2, 2]);
    assert!(rows == loaded(&*process, &all, |_| true).unwrap().0);
}

/// What a worker reads is its part of a large object, whatever the number of workers.
#[test]
fn a_worker_reads_little_more_than_its_shards() {
    let store = MemoryStore::default();
    let process = store.process();
    let mut rows = StateRows::default();
    for number in 0..6_000u64 {
        // Twelve shards of 500 rows.
        let hash = (number % 12) << 54 | number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 10;
        rows.push(StateRow { hash, key: &number.to_le_bytes(), value: &hash.wrapping_mul(number).to_be_bytes() });
    }
    let object = write(&*process, "object", 1, ONE, &BTreeMap::from([(SECTIONS[0], vec![rows])])).unwrap();
    let all = std::slice::from_ref(&object);
    let (every, whole) = loaded(&*process, all, |_| true).unwrap();
    assert_eq!((every.len(), whole.rows), (6_000, 6_000));
    let mut parts = Rows::new();
    for index in 0..5 {
        let (rows, part) = loaded(&*process, all, |shard| shard % 5 == index).unwrap();
        let shards = (0..12).filter(|shard| shard % 5 == index).count() as u64;
        // Besides the blocks it reads the index, which with blocks as small as these is not small beside them.
        let index = loaded(&*process, all, |shard| shard == 13).unwrap().1.bytes;
        let (blocks, part) = (whole.bytes - index, part.bytes - index);
        assert!(part <= blocks * (shards + 1) / 12 && part >= blocks * (shards - 1) / 12, "{part} of {blocks}");
        for (key, row) in rows {
            match parts.entry(key) {
                Entry::Vacant(entry) => entry.insert(row),
                Entry::Occupied(entry) => panic!("two workers loaded {:?}", entry.key()),
            };
        }
    }
    assert!(parts == every);
}

#[test]
#[should_panic(expected = "hold a row of shard 1, which is not worker")]
fn a_row_of_another_workers_shard_is_a_broken_promise() {
    let mut rows = StateRows::default();
    rows.push(StateRow { hash: 1 << 54, key: b"key", value: b"value" });
    let sections = BTreeMap::from([(SECTIONS[0], vec![rows])]);
    let _ = write(&*MemoryStore::default().process(), "object", 1, Group { index: 0, of: 2 }, &sections);
}
