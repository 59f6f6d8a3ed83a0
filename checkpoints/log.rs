//! The sequence of a generation's checkpoints, and which one is the newest.
//!
//! ```text
//!   manifests   35    36    37    38    39    40    41 (restores 38)   42
//!               └ may be gone ┘     └─┬─┘      └─┬─┘ dropped           └── newest; its `kept`: 38, 41, 42
//!                 older than a day    kept                                 is what can be loaded
//! ```
//!
//! Upholds: (1) the sequence is dense and only ever grows at its end; even going back to an earlier checkpoint adds one, which
//! says what that one said. So whoever still holds an end of it from before finds its next number taken, always: nothing
//! that a process can do after it was replaced is mistaken for a checkpoint; (2) a newest manifest that cannot be trusted is
//! an error, never a reason to take the one before it; (3) a manifest that is missing is noticed: in the middle by its
//! number, at the end by objects that were written after it.
//! Keeps: nothing; every answer is read from the store.
//! Absent on purpose: a pointer to the newest (it would be a second truth), and clocks.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::LogError;
use crate::manifest::{FORMAT, Flaw, Manifest, checksum};
use crate::names::{manifest_key, manifest_number, manifests_folder, state_folder, state_number};
use crate::objects::Objects;

/// Listings that are tried before a missing number is believed: a folder that grows while it is listed may show the later of two.
const LISTINGS: usize = 3;

/// Checkpoints whose objects may be written before the first of them is committed, with room to spare. An object
/// numbered further ahead of the newest manifest than this was written after a later one.
const IN_FLIGHT_MAX: u64 = 8;

/// The checkpoints of one generation of a job; clones are the same.
#[derive(Clone)]
pub struct Log {
    objects: Arc<dyn Objects>,
    prefix: String,
    job: String,
    generation: u64,
}

/// A manifest as it was read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// What it says.
    pub manifest: Manifest,
    /// Its checksum, which the next one repeats.
    pub checksum: String,
}

impl Log {
    /// The log below a prefix (without a slash at its end). Nothing is read yet.
    pub fn open(objects: Arc<dyn Objects>, prefix: &str, job: &str, generation: u64) -> Log {
        Log { objects, prefix: prefix.to_owned(), job: job.to_owned(), generation }
    }

    /// The store it is in.
    pub fn objects(&self) -> &Arc<dyn Objects> {
        &self.objects
    }

    /// Where in the store it is.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The job's name.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// The job's generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The newest checkpoint; `None` if none was committed.
    ///
    /// # Errors
    /// If it is damaged, of another job or an unknown format, if manifests are missing, or if the store does not answer.
    pub fn newest(&self) -> Result<Option<Read>, LogError> {
        // Before the manifests: what a living run writes meanwhile is no further ahead of those then.
        let ahead = self.furthest_object()?;
        let newest = self.numbers()?.map(|numbers| *numbers.end());
        if let Some((number, object)) = ahead
            && number > newest.unwrap_or(0) + IN_FLIGHT_MAX
        {
            let number = newest.unwrap_or(0) + 1;
            return Err(LogError::Lost { number, place: self.place(number), object: self.objects.place(&object) });
        }
        newest.map(|number| self.read(number)).transpose()
    }

    /// Numbers of the manifests that are there; `None` if there are none.
    ///
    /// # Errors
    /// If one is missing in the middle, or the store does not answer.
    pub fn numbers(&self) -> Result<Option<RangeInclusive<u64>>, LogError> {
        let mut missing = 0;
        for _listing in 0..LISTINGS {
            let keys = self.objects.list(&manifests_folder(&self.prefix))?;
            let mut numbers: Vec<u64> = keys.iter().filter_map(|key| manifest_number(key)).collect();
            numbers.sort_unstable();
            let (Some(&first), Some(&last)) = (numbers.first(), numbers.last()) else { return Ok(None) };
            match numbers.windows(2).find(|pair| pair[1] != pair[0] + 1) {
                None => return Ok(Some(first..=last)),
                Some(pair) => missing = pair[0] + 1,
            }
        }
        Err(LogError::Gap { number: missing, place: self.place(missing) })
    }

    /// One manifest.
    ///
    /// # Errors
    /// If it is not there, damaged, of another job or an unknown format, or if the store does not answer.
    pub fn read(&self, number: u64) -> Result<Read, LogError> {
        let bytes = self.bytes(number)?;
        self.parse(number, &bytes)
    }

    /// Reads all manifests in ascending order, and checks that each names the one before it.
    ///
    /// # Errors
    /// If they cannot be listed. What is wrong with a single one goes to `visit`.
    pub fn each(&self, visit: &mut dyn FnMut(u64, Result<Read, LogError>)) -> Result<(), LogError> {
        let Some(numbers) = self.numbers()? else { return Ok(()) };
        let mut before: Option<String> = None;
        for number in numbers {
            let bytes = match self.bytes(number) {
                // The oldest may be deleted meanwhile.
                Err(LogError::Missing { .. }) if before.is_none() => continue,
                bytes => bytes,
            };
            let read = bytes.as_ref().map_err(|_| ()).and_then(|bytes| self.parse(number, bytes).map_err(|_| ()));
            let what = "it follows another manifest than the one before it, which was replaced or changed";
            let strange = before.is_some() && read.is_ok_and(|read| read.manifest.previous != before);
            before = bytes.as_ref().ok().map(|bytes| checksum(bytes));
            visit(
                number,
                match bytes {
                    Ok(_) if strange => Err(LogError::Damaged { place: self.place(number), what: what.to_owned() }),
                    Ok(bytes) => self.parse(number, &bytes),
                    Err(error) => Err(error),
                },
            );
        }
        Ok(())
    }

    /// The latest checkpoint before number `before` that `newest` keeps; `None` if there is none. This is where to start when an object of
    /// `newest` is damaged, and, if that one is damaged as well, again with its number: then the input is replayed to
    /// the positions of `newest`. Manifests that are themselves damaged are passed over, as nothing is shown from here.
    ///
    /// # Errors
    /// If the store does not answer.
    pub fn earlier(&self, newest: &Manifest, before: u64) -> Result<Option<Read>, LogError> {
        // Those that it keeps, and not those that an earlier one kept: objects of the others may be gone.
        for &number in newest.kept.iter().rev().filter(|&&number| number < before) {
            match self.read(number) {
                Ok(read) => return Ok(Some(read)),
                Err(error @ LogError::Objects(_)) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Makes checkpoint `number` the newest again: adds a manifest that says what that one said. Later ones stay where they
    /// are and can no longer be loaded; their objects go with the next run's collection. To be called while no run
    /// is writing; one that lives all the same is superseded. `run` names this call, `written_at` is wall time in ms.
    ///
    /// # Errors
    /// If that checkpoint is not there, damaged, or can no longer be loaded, if a run is writing, or if the store does not answer.
    pub fn drop_after(&self, number: u64, run: &str, written_at: u64) -> Result<Read, LogError> {
        let missing = || LogError::Missing { number, place: self.place(number) };
        let numbers = self.numbers()?.filter(|numbers| numbers.contains(&number)).ok_or_else(missing)?;
        let wanted = self.read(number)?;
        if number == *numbers.end() {
            return Ok(wanted);
        }
        // The newest is often the one that is damaged; then the objects alone say what can be loaded.
        let newest = self.read(*numbers.end());
        if let Err(error @ LogError::Objects(_)) = newest {
            return Err(error);
        }
        let newest = newest.ok().map(|read| read.manifest);
        if newest.as_ref().is_some_and(|newest| !newest.keeps(number)) {
            let what = format!("checkpoint {} no longer keeps it", numbers.end());
            return Err(LogError::Collected { number, what });
        }
        let there = self.objects.list(&state_folder(&self.prefix))?;
        let gone = |manifest: &Manifest| manifest.objects().find(|object| there.binary_search(&object.key).is_err()).cloned();
        if let Some(object) = gone(&wanted.manifest) {
            return Err(LogError::Collected { number, what: format!("{} is missing", self.objects.place(&object.key)) });
        }
        let mut kept = Vec::new();
        for &earlier in wanted.manifest.kept.iter().filter(|&&earlier| earlier != number) {
            if newest.as_ref().is_none_or(|newest| newest.keeps(earlier))
                && self.read(earlier).is_ok_and(|read| gone(&read.manifest).is_none())
            {
                kept.push(earlier);
            }
        }
        let last = *numbers.end();
        kept.extend([number, last + 1]);
        let restoring = Manifest {
            format: FORMAT,
            number: last + 1,
            previous: Some(checksum(&self.bytes(last)?)),
            restores: Some(number),
            run: run.to_owned(),
            written_at,
            kept,
            ..wanted.manifest
        };
        self.create(restoring)
    }

    /// Creates the next manifest, or finds out who did.
    pub(crate) fn create(&self, manifest: Manifest) -> Result<Read, LogError> {
        let number = manifest.number;
        let (key, place) = (manifest_key(&self.prefix, number), self.place(number));
        let bytes = Bytes::from(manifest.to_bytes());
        let read = Read { checksum: checksum(&bytes), manifest };
        let mut doubt = None;
        for _attempt in 0..CREATES {
            match self.objects.put_if_absent(&key, bytes.clone()) {
                Ok(true) => return Ok(read),
                Ok(false) => {}
                Err(error) if error.may_have_happened => doubt = Some(error),
                // Unless an earlier one of ours may still arrive.
                Err(error) => return Err(doubt.map_or(error.into(), |source| LogError::Unconfirmed { place, source })),
            }
            match (self.objects.get(&key), &doubt) {
                // Created by an attempt whose answer was lost, here or in the store's own retries.
                (Ok(Some(found)), _) if found == bytes => return Ok(read),
                (Ok(Some(found)), _) => {
                    let run = Manifest::from_bytes(&found).map_or("unknown".to_owned(), |manifest| manifest.run);
                    return Err(LogError::Superseded { number, run, place });
                }
                // The attempt has not arrived. Trying again is safe: of the two, one is told that it came second.
                (Ok(None), _) => {}
                (Err(_), Some(_)) => break,
                (Err(error), None) => return Err(error.into()),
            }
        }
        match doubt {
            Some(source) => Err(LogError::Unconfirmed { place, source }),
            None => Err(LogError::Gap { number, place }),
        }
    }

    /// Where manifest `number` is, as people read it.
    pub(crate) fn place(&self, number: u64) -> String {
        self.objects.place(&manifest_key(&self.prefix, number))
    }

    fn bytes(&self, number: u64) -> Result<Bytes, LogError> {
        let bytes = self.objects.get(&manifest_key(&self.prefix, number))?;
        bytes.ok_or_else(|| LogError::Missing { number, place: self.place(number) })
    }

    fn parse(&self, number: u64, bytes: &[u8]) -> Result<Read, LogError> {
        let place = self.place(number);
        let manifest = match Manifest::from_bytes(bytes) {
            Ok(manifest) => manifest,
            Err(Flaw::Damaged(what)) => return Err(LogError::Damaged { place, what }),
            Err(Flaw::Format(found)) => return Err(LogError::Format { place, found, known: FORMAT }),
        };
        if (&manifest.job, manifest.generation) != (&self.job, self.generation) {
            let Manifest { job: found_job, generation: found_generation, .. } = manifest;
            let (job, generation) = (self.job.clone(), self.generation);
            return Err(LogError::Job { place, found_job, found_generation, job, generation });
        }
        if manifest.number != number {
            return Err(LogError::Damaged { place, what: format!("it says it is number {}", manifest.number) });
        }
        Ok(Read { manifest, checksum: checksum(bytes) })
    }

    /// The object of state with the highest number.
    fn furthest_object(&self) -> Result<Option<(u64, String)>, LogError> {
        let keys = self.objects.list(&state_folder(&self.prefix))?;
        Ok(keys.into_iter().filter_map(|key| Some((state_number(&key)?, key))).max())
    }
}

/// Attempts at creating a manifest, each of which the store has tried again inside already.
const CREATES: usize = 3;
