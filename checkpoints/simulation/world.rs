//! What the clusters of a simulation live in: input, store, view and time; and the twin that knows what is right.
//!
//! Upholds: at every change of the view, (1) no bucket and no marker goes back; (2) a bucket holds exactly what a recomputation
//! over the records before its as-of gives; (3) that as-of was committed. Anything else ends the test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::Rng;
use rand_pcg::Pcg32;

use crate::log::Log;
use crate::manifest::{ClockAt, Manifest, PartitionAt};
use crate::names::manifest_key;
use crate::testing::MemoryStore;

/// Where the generation's checkpoints are.
pub(super) const PREFIX: &str = "mall/gen-000001/checkpoints";
/// Parts of the view that change one by one.
pub(super) const BUCKETS: usize = 2;
/// The as-of at the end of the input.
pub(super) const END: u64 = 160;
const KEYS: u64 = 12;
const HOUR_MS: u64 = 3_600_000;

/// Random decisions of one seed and stream.
pub(super) struct Dice(Pcg32);

impl Dice {
    pub(super) fn new(seed: u64, stream: u64) -> Dice {
        Dice(Pcg32::new(seed, stream))
    }

    /// A number in `0..bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        (u64::from(self.0.next_u32()) * bound) >> 32
    }

    /// True once in so many cases.
    pub(super) fn one_in(&mut self, cases: u64) -> bool {
        self.below(cases) == 0
    }
}

/// A record: adds to a key's total.
struct Record {
    stamp: u64,
    key: u64,
    add: i64,
}

/// Key and total; keys whose total is zero have none.
pub(super) type Totals = BTreeMap<u64, i64>;

pub(super) struct World {
    pub(super) store: MemoryStore,
    /// By partition, in the order of stamps.
    records: Vec<Vec<Record>>,
    view: Mutex<View>,
    /// As-ofs of the manifests that were seen in the store; they may have been deleted since.
    committed: Mutex<BTreeSet<u64>>,
    /// True time in milliseconds.
    now: AtomicU64,
    /// Processes between looking at the time and the end of their commit. None is stopped there for hours (see the fence).
    committing: AtomicUsize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct View {
    buckets: [Bucket; BUCKETS],
    marker: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bucket {
    as_of: u64,
    totals: Totals,
}

/// What a bucket's script answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    Done,
    /// It shows a later as-of and stays as it is.
    Ahead,
    /// It shows an earlier one than these are changes to.
    Behind,
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<World> {
        let mut dice = Dice::new(seed, 0);
        let mut partition = |records: u64| {
            let record = |dice: &mut Dice| (dice.below(END), dice.below(KEYS), dice.below(7) as i64 - 3);
            let mut records: Vec<_> = (0..records).map(|_| record(&mut dice)).collect();
            records.sort_unstable();
            records.into_iter().map(|(stamp, key, add)| Record { stamp, key, add }).collect()
        };
        let records = vec![partition(40), partition(10), Vec::new()];
        let (store, view, committed) = (MemoryStore::default(), Mutex::default(), Mutex::default());
        Arc::new(World { store, records, view, committed, now: AtomicU64::new(1000 * HOUR_MS), committing: AtomicUsize::new(0) })
    }

    /// Totals over the records with stamps in a range.
    pub(super) fn added(&self, stamps: std::ops::Range<u64>) -> BTreeMap<u64, i64> {
        let mut added = BTreeMap::new();
        for record in self.records.iter().flatten().filter(|record| stamps.contains(&record.stamp)) {
            *added.entry(record.key).or_default() += record.add;
        }
        added
    }

    /// What is right at an as-of.
    pub(super) fn twin(&self, as_of: u64) -> Totals {
        let mut totals = self.added(0..as_of);
        totals.retain(|_, total| *total != 0);
        totals
    }

    pub(super) fn partitions(&self, as_of: u64) -> Vec<PartitionAt> {
        let partition = |(partition, records): (u32, &Vec<Record>)| {
            let before: Vec<&Record> = records.iter().take_while(|record| record.stamp < as_of).collect();
            let clock = before.last().map(|last| ClockAt { now: last.stamp, pending: 0, pending_least: 0, jumps: 0 });
            PartitionAt { topic: "mall.payments".to_owned(), partition, position: before.len() as u64, clock }
        };
        (0..).zip(&self.records).map(partition).collect()
    }

    /// A little time goes by.
    pub(super) fn tick(&self) -> u64 {
        self.now.fetch_add(1000, Ordering::SeqCst)
    }

    /// Much time goes by, unless somebody is committing.
    pub(super) fn sleep(&self, hours: u64) {
        if self.committing.load(Ordering::SeqCst) == 0 {
            self.now.fetch_add(hours * HOUR_MS, Ordering::SeqCst);
        }
    }

    pub(super) fn committing<R>(&self, commit: impl FnOnce() -> R) -> R {
        self.committing.fetch_add(1, Ordering::SeqCst);
        let result = commit();
        self.committing.fetch_sub(1, Ordering::SeqCst);
        result
    }

    // === The view ===

    /// A run has this checkpoint, read or written just now: it is in the store.
    pub(super) fn saw(&self, manifest: &Manifest) {
        assert!(self.manifests().contains(manifest), "checkpoint {} is not in the store", manifest.number);
        self.committed().insert(manifest.as_of);
    }

    fn committed(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows changes to `since` (`None`: all there is) at `as_of`, in one bucket.
    pub(super) fn show(&self, bucket: usize, since: Option<u64>, as_of: u64, totals: &Totals) -> Applied {
        assert!(self.committed().contains(&as_of), "as-of {as_of} is shown and not committed");
        let of_bucket = |totals: &Totals| -> Totals {
            totals.iter().filter(|&(key, _)| *key as usize % BUCKETS == bucket).map(|(&key, &total)| (key, total)).collect()
        };
        let mut view = self.view();
        let shown = &mut view.buckets[bucket];
        if shown.as_of > as_of {
            return Applied::Ahead;
        }
        match since {
            Some(since) if shown.as_of < since => return Applied::Behind,
            // Changes to an earlier as-of than the shown one say all of their keys; the others are what they were.
            Some(_) => shown.totals.extend(of_bucket(totals)),
            None => shown.totals = of_bucket(totals),
        }
        shown.totals.retain(|_, total| *total != 0);
        shown.as_of = as_of;
        assert_eq!(shown.totals, of_bucket(&self.twin(as_of)), "bucket {bucket} at as-of {as_of}");
        Applied::Done
    }

    /// Moves the marker, after all buckets.
    pub(super) fn mark(&self, as_of: u64) {
        let mut view = self.view();
        assert!(view.buckets.iter().all(|bucket| bucket.as_of >= as_of), "the marker {as_of} is ahead of {view:?}");
        view.marker = view.marker.max(as_of);
    }

    /// `rebuild-view`: it starts empty.
    pub(super) fn reset_view(&self) {
        *self.view() = View::default();
    }

    /// All that may not change once a process is superseded: the view, and what can be loaded.
    pub(super) fn public(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        // Others are deleted in time by whoever comes to it.
        let newest = self.manifests().pop().map_or_else(Vec::new, |newest| newest.kept);
        let mut kept = self.kept();
        kept.extend(newest.into_iter().map(|number| manifest_key(PREFIX, number)));
        let mut contents = self.store.contents();
        contents.retain(|key, _| kept.contains(key));
        let view = self.view().clone();
        (view, contents)
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // === What must hold ===

    /// All manifests that are there, in their order, without taking a step.
    pub(super) fn manifests(&self) -> Vec<Manifest> {
        let mut contents = self.store.contents();
        contents.retain(|key, _| key.contains("/manifests/"));
        contents.values().map(|bytes| Manifest::from_bytes(bytes).expect("no manifest is ever damaged here")).collect()
    }

    /// Keys of the objects that kept manifests name.
    pub(super) fn kept(&self) -> BTreeSet<String> {
        let manifests = self.manifests();
        let Some(newest) = manifests.last() else { return BTreeSet::new() };
        let kept = manifests.iter().filter(|manifest| newest.keeps(manifest.number));
        kept.flat_map(|manifest| manifest.objects().map(|object| object.key.clone())).collect()
    }

    /// Ends the test if something that is needed is gone, or was written twice.
    pub(super) fn check_store(&self) {
        let contents = self.store.contents();
        let missing: Vec<String> = self.kept().into_iter().filter(|key| !contents.contains_key(key)).collect();
        assert!(missing.is_empty(), "kept manifests name {missing:?}, which are gone");
        assert_eq!(self.store.overwritten(), [""; 0], "objects were replaced by others");
        let manifests = self.manifests();
        let (Some(first), Some(newest)) = (manifests.first(), manifests.last()) else { return };
        assert_eq!(manifests.len() as u64, newest.number - first.number + 1, "the sequence has a hole");
        assert!(newest.kept.iter().all(|&number| contents.contains_key(&manifest_key(PREFIX, number))));
    }

    /// Ends the test unless everything is as if nothing had happened.
    pub(super) fn check_end(&self) {
        self.check_store();
        let view = self.view().clone();
        assert_eq!(view.marker, END);
        let totals: Totals = view.buckets.iter().flat_map(|bucket| bucket.totals.clone()).collect();
        assert_eq!(totals, self.twin(END));
        assert!(self.manifests().last().is_some_and(|newest| newest.complete));
        let log = Log::open(self.store.process(), PREFIX, "mall", 1);
        log.each(&mut |number, read| {
            read.unwrap_or_else(|error| panic!("manifest {number}: {error}"));
        })
        .expect("nothing fails without a fault");
    }

    /// Objects of state that no kept manifest names.
    pub(super) fn unnamed(&self) -> Vec<String> {
        let kept = self.kept();
        self.store.contents().into_keys().filter(|key| key.contains("/state/") && !kept.contains(key)).collect()
    }
}
