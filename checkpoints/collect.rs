//! What no kept checkpoint needs is deleted: objects soon, manifests after a day.
//!
//! ```text
//!              not kept any more              kept
//! manifests    36   37   38   39              40   41   42 ◄── just committed by this run
//! objects       ╳    ╳    a b ╳               a    b c   d      `a` and `b` stay, they are named by 40 and 41
//!              └──┬──┘
//!              deleted once older than a day, oldest first
//! ```
//!
//! Upholds: (1) an object that a manifest of `kept` names is never deleted, and neither is one that a manifest yet to come may
//! name. For the latter it is enough that a run deletes after its own commit only: what another run wrote for
//! a number that is taken by now can never be committed; what it writes for later numbers is left alone; (2) manifests go oldest first, so that
//! the sequence has no hole whenever it is looked at; (3) a manifest outlives every pause that a process can make between
//! looking at the log and writing to it; (4) what an interrupted collection left is found by the first one of the next run.
//! Keeps: the names of the objects of each kept manifest, and what is still to be deleted.
//! Absent on purpose: counting references (the manifests say it all), and any haste: what cannot be deleted now is tried next time.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::LogError;
use crate::log::{Log, Read};
use crate::manifest::Manifest;
use crate::names::{is_of_run, manifest_key, state_folder, state_number};

/// How long manifests stay after they are no longer kept, in milliseconds: a day.
pub const FENCE_MS: u64 = 24 * 60 * 60 * 1000;

/// Manifests deleted in one go: more than come in between, few enough not to hold anybody up after a long pause.
const MANIFESTS_MAX: u64 = 64;

/// Deletes what one run's checkpoints leave behind.
pub struct Collector {
    log: Log,
    run: String,
    /// Objects by the kept manifests that name them; empty before the first collection.
    named: BTreeMap<u64, BTreeSet<String>>,
    doomed: BTreeSet<String>,
    /// The oldest manifest, and when it may be deleted.
    oldest: Option<Oldest>,
}

struct Oldest {
    number: u64,
    /// The last of those that are deleted together: the first whose time can be read.
    through: u64,
    written_at: u64,
}

/// What a collection deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects of state.
    pub objects: usize,
    /// Manifests.
    pub manifests: usize,
}

impl Collector {
    /// For the run that commits under this name.
    pub fn new(log: &Log, run: &str) -> Collector {
        let (log, run) = (log.clone(), run.to_owned());
        Collector { log, run, named: BTreeMap::new(), doomed: BTreeSet::new(), oldest: None }
    }

    /// Collects after a commit of this run; `now` is wall time in milliseconds. The first call also finds what earlier runs left,
    /// and so takes longer.
    ///
    /// # Errors
    /// If something cannot be read or deleted. Nothing is lost by it, and the run can go on: the next call tries again.
    ///
    /// # Panics
    /// If `committed` is another run's.
    pub fn collect(&mut self, committed: &Read, now: u64) -> Result<Collected, LogError> {
        let manifest = &committed.manifest;
        assert_eq!(manifest.run, self.run, "only what follows an own commit can be told to be of no use");
        if self.named.is_empty() {
            self.begin(manifest)?;
        }
        self.named.insert(manifest.number, names(manifest));
        let dropped: Vec<u64> = self.named.keys().copied().filter(|&number| !manifest.keeps(number)).collect();
        let dropped: Vec<BTreeSet<String>> = dropped.iter().filter_map(|number| self.named.remove(number)).collect();
        for key in dropped.into_iter().flatten() {
            if !self.is_named(&key) {
                self.doomed.insert(key);
            }
        }
        let mut collected = Collected::default();
        while let Some(key) = self.doomed.first() {
            self.log.objects().delete(key)?;
            self.doomed.pop_first();
            collected.objects += 1;
        }
        collected.manifests = self.manifests(manifest, now)?;
        Ok(collected)
    }

    /// Learns what the kept manifests name, and dooms what none of them does.
    fn begin(&mut self, manifest: &Manifest) -> Result<(), LogError> {
        let mut named = BTreeMap::from([(manifest.number, names(manifest))]);
        for &number in manifest.kept.iter().filter(|&&number| number != manifest.number) {
            named.insert(number, names(&self.log.read(number)?.manifest));
        }
        let there = self.log.objects().list(&state_folder(self.log.prefix()))?;
        self.named = named;
        // Own objects may be meant for a later checkpoint than the one they are numbered for: merged ones take their time.
        let of_no_use = |key: &String| {
            state_number(key).is_some_and(|number| number <= manifest.number) && !is_of_run(key, &self.run) && !self.is_named(key)
        };
        self.doomed = there.into_iter().filter(of_no_use).collect();
        Ok(())
    }

    fn is_named(&self, key: &str) -> bool {
        self.named.values().any(|names| names.contains(key))
    }

    /// Deletes manifests that are not kept and older than a day, oldest first.
    fn manifests(&mut self, newest: &Manifest, now: u64) -> Result<usize, LogError> {
        let kept = newest.kept.first().copied().unwrap_or(newest.number);
        let mut deleted = 0;
        while deleted < MANIFESTS_MAX {
            let oldest = match &self.oldest {
                Some(oldest) => oldest,
                None => match self.oldest(kept)? {
                    Some(oldest) => self.oldest.insert(oldest),
                    None => break,
                },
            };
            if oldest.written_at.saturating_add(FENCE_MS) > now {
                break;
            }
            let Oldest { number, through, .. } = *oldest;
            for number in number..=through {
                self.log.objects().delete(&manifest_key(self.log.prefix(), number))?;
                deleted += 1;
            }
            // What follows is looked for by its number: listing thousands for each would cost more than they do.
            self.oldest = self.aged(through + 1, kept)?;
            if self.oldest.is_none() {
                break;
            }
        }
        Ok(usize::try_from(deleted).expect("not many at once"))
    }

    fn oldest(&self, kept: u64) -> Result<Option<Oldest>, LogError> {
        let Some(numbers) = self.log.numbers()? else { return Ok(None) };
        self.aged(*numbers.start(), kept)
    }

    /// How old manifest `number` is: at least as old as the first one from it on that can be read.
    fn aged(&self, number: u64, kept: u64) -> Result<Option<Oldest>, LogError> {
        for through in number..kept {
            match self.log.read(through) {
                Ok(read) => return Ok(Some(Oldest { number, through, written_at: read.manifest.written_at })),
                Err(error @ LogError::Objects(_)) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }
}

fn names(manifest: &Manifest) -> BTreeSet<String> {
    manifest.objects().map(|object| object.key.clone()).collect()
}
