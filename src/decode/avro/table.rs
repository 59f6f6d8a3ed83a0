//! The schemas that are known, by id: shared by all decoders of a process, filled by whoever can fetch.
//!
//! ```text
//! decoder ── id ──► known: its schema │ refused: why │ neither: wanted ──► whoever fetches ──► known or refused
//! ```
//!
//! Upholds: (1) a schema that is known stays the same: registries give an id away once; (2) a decoder never waits here; (3) where nobody
//! fetches, what is not known is refused at once.
//! Keeps: all schemas seen, in the memory of their types.
//! Absent on purpose: where schemas come from; see `source::registry`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::schema::Schema;
use crate::observe::wall_ms;

/// How long it is remembered that an id is unknown: a schema is registered before its first record is written, so that more would only
/// be asked again for nothing; less, and a topic full of them would be one question each.
pub const REFUSED_FOR: Duration = Duration::from_secs(60);

/// What is known of an id.
#[derive(Clone, Debug)]
pub enum Known {
    /// Its schema.
    Schema(Arc<Schema>),
    /// There is none that can be read by; why.
    Refused(Arc<str>),
}

/// Who waits for a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Since when, milliseconds of wall time.
    pub since: u64,
    /// Numbers of partitions, by topic.
    pub partitions: BTreeMap<String, BTreeSet<u32>>,
}

/// Schemas by id.
#[derive(Debug, Default)]
pub struct Schemas {
    known: RwLock<HashMap<u32, (Known, Instant)>>,
    wanted: Mutex<Wants>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wants {
    /// Somebody fetches what is wanted.
    served: bool,
    ids: BTreeMap<u32, Waiting>,
}

impl Schemas {
    /// What is known of an id; `None` if it must be waited for.
    pub fn get(&self, id: u32) -> Option<Known> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        match known.get(&id) {
            Some((Known::Refused(_), since)) if since.elapsed() > REFUSED_FOR && self.lock().served => None,
            Some((known, _)) => Some(known.clone()),
            None if self.lock().served => None,
            None => Some(Known::Refused("it is not at hand, and the job names no [schema_registry]".into())),
        }
    }

    /// Makes a schema known.
    pub fn add(&self, id: u32, known: Known) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(id, (known, Instant::now()));
        self.lock().ids.remove(&id);
        self.changed.notify_all();
    }

    /// How many schemas are known.
    pub fn len(&self) -> usize {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().filter(|(known, _)| matches!(known, Known::Schema(_))).count()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Asks for a schema on behalf of a partition, which may ask again. Costs a lock: for what is not known only.
    pub fn want(&self, id: u32, topic: &str, partition: u32) {
        let mut wants = self.lock();
        let waiting = wants.ids.entry(id).or_insert_with(|| Waiting { since: wall_ms(), partitions: BTreeMap::new() });
        if !waiting.partitions.get(topic).is_some_and(|numbers| numbers.contains(&partition)) {
            waiting.partitions.entry(topic.to_owned()).or_default().insert(partition);
            self.changed.notify_all();
        }
    }

    /// Waits until something is known of an id: for who opens files, and may.
    pub fn wait_for(&self, id: u32) -> Known {
        loop {
            // Looked at first: what is added between the two looks is missed for one turn only.
            if let Some(known) = self.get(id) {
                return known;
            }
            let wants = self.lock();
            drop(self.changed.wait_timeout(wants, Duration::from_millis(50)));
        }
    }

    /// From now on somebody fetches what is wanted.
    pub fn serve(&self) {
        self.lock().served = true;
    }

    /// Waits so long for something to be wanted, and says what is, and by whom.
    pub fn wanted(&self, patience: Duration) -> BTreeMap<u32, Waiting> {
        let wants = self.lock();
        let wants = if wants.ids.is_empty() {
            self.changed.wait_timeout(wants, patience).unwrap_or_else(PoisonError::into_inner).0
        } else {
            wants
        };
        wants.ids.clone()
    }

    /// Since when somebody has waited, milliseconds of wall time; `None`: nobody does.
    pub fn longest_wait(&self) -> Option<u64> {
        self.lock().ids.values().map(|waiting| waiting.since).min()
    }

    /// Ends the wait of whoever fetches.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Wants> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Known {
        Known::Schema(Arc::new(Schema::parse("\"long\"", &[]).expect("a schema")))
    }

    #[test]
    fn what_nobody_fetches_is_refused_at_once() {
        let schemas = Schemas::default();
        schemas.add(1, schema());
        assert!(matches!(schemas.get(1), Some(Known::Schema(_))));
        assert!(matches!(schemas.get(2), Some(Known::Refused(_))));
        schemas.serve();
        assert!(schemas.get(2).is_none());
    }

    #[test]
    fn what_is_wanted_is_told_until_it_is_known() {
        let schemas = Schemas::default();
        schemas.serve();
        assert!(schemas.wanted(Duration::ZERO).is_empty());
        schemas.want(7, "t", 0);
        schemas.want(7, "t", 1);
        schemas.want(7, "t", 0);
        let wanted = schemas.wanted(Duration::ZERO);
        assert_eq!(wanted[&7].partitions, [("t".to_owned(), [0, 1].into())].into());
        schemas.add(7, Known::Refused("no".into()));
        assert!(schemas.wanted(Duration::ZERO).is_empty());
        assert!(matches!(schemas.wait_for(7), Known::Refused(_)));
    }
}
