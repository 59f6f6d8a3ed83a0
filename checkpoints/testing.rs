//! A store in memory whose processes crash, pause and lose answers at the step that a test chooses.
//!
//! ```text
//!               ┌─► Process 1 (fault at step 7: the answer is lost) ─┐
//! a test, or ───┤                                                    ├─► MemoryStore: whole objects by key
//! its schedule  └─► Process 2 (paused before step 3)                ─┘    and writes that arrive late
//! ```
//!
//! Upholds: (1) every request is one step, counted from 0 per process, so that a test can name each of them; (2) an object that was
//! begun and not finished is not there; (3) a process that crashed does nothing any more.
//! Keeps: the objects; keys that were overwritten with something else, which storeflow must never do.
//! Absent on purpose: time. A write that arrives late does so after so many further steps of any process.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::objects::{ObjectError, Objects, Writing};

/// What goes wrong at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends before it.
    CrashBefore,
    /// It happens, and the process ends before it has the answer.
    CrashAfter,
    /// It does not happen, and the process is told so.
    Refused,
    /// It happens, and the process is told that nobody knows.
    AnswerLost,
    /// It does not happen, and the process is told that nobody knows.
    RequestLost,
    /// It happens after so many further steps of any process; the process is told that nobody knows.
    Late(u64),
}

/// Objects in memory, shared by any number of processes. Clones are the same store.
#[derive(Clone, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Bytes>,
    late: Vec<(u64, Effect)>,
    overwritten: Vec<String>,
}

#[derive(Clone)]
enum Effect {
    Put(String, Bytes),
    PutIfAbsent(String, Bytes),
    Delete(String),
}

impl Inner {
    fn apply(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::Put(key, bytes) => {
                if self.objects.get(&key).is_some_and(|there| *there != bytes) {
                    self.overwritten.push(key.clone());
                }
                self.objects.insert(key, bytes);
                true
            }
            Effect::PutIfAbsent(key, bytes) => {
                let absent = !self.objects.contains_key(&key);
                if absent {
                    self.objects.insert(key, bytes);
                }
                absent
            }
            Effect::Delete(key) => self.objects.remove(&key).is_some(),
        }
    }

    fn arrive(&mut self) {
        let (due, late) = std::mem::take(&mut self.late).into_iter().partition(|(steps, _)| *steps == 0);
        self.late = late;
        self.late.iter_mut().for_each(|(steps, _)| *steps -= 1);
        let due: Vec<(u64, Effect)> = due;
        for (_, effect) in due {
            self.apply(effect);
        }
    }
}

impl MemoryStore {
    /// A process without faults.
    pub fn process(&self) -> Arc<Process> {
        self.process_with(BTreeMap::new(), Box::new(|_step| {}))
    }

    /// A process with faults at some of its steps. `gate` is called before each step with its number, and may take its time.
    pub fn process_with(&self, faults: BTreeMap<u64, Fault>, gate: Box<dyn Fn(u64) + Send + Sync>) -> Arc<Process> {
        let (steps, crashed) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Process { store: self.clone(), faults, gate, steps, crashed })
    }

    /// All objects.
    pub fn contents(&self) -> BTreeMap<String, Bytes> {
        self.inner().objects.clone()
    }

    /// Keys that were overwritten with other bytes.
    pub fn overwritten(&self) -> Vec<String> {
        self.inner().overwritten.clone()
    }

    /// Changes the bytes of an object, as a bad disk would.
    ///
    /// # Panics
    /// If it is not there.
    pub fn damage(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.inner();
        let mut bytes = inner.objects.get(key).expect("an object that is there").to_vec();
        change(&mut bytes);
        inner.objects.insert(key.to_owned(), bytes.into());
    }

    /// Removes an object, as an operator would.
    pub fn remove(&self, key: &str) {
        self.inner().objects.remove(key);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One process's handle of a [`MemoryStore`].
pub struct Process {
    store: MemoryStore,
    faults: BTreeMap<u64, Fault>,
    gate: Box<dyn Fn(u64) + Send + Sync>,
    steps: AtomicU64,
    crashed: AtomicBool,
}

impl Process {
    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }

    /// Whether it crashed.
    pub fn crashed(&self) -> bool {
        self.crashed.load(Ordering::SeqCst)
    }

    /// A step elsewhere than in the store, such as in a view: does it, unless a fault prevents it.
    ///
    /// # Errors
    /// If a fault is planned here, or the process has crashed.
    pub fn step<R>(&self, doing: &'static str, place: &str, act: impl FnOnce() -> R) -> Result<R, ObjectError> {
        let fault = self.begin(doing, place)?;
        match fault {
            None => Ok(act()),
            Some(fault) => {
                if matches!(fault, Fault::CrashAfter | Fault::AnswerLost) {
                    act();
                }
                Err(self.fail(fault, doing, place))
            }
        }
    }

    fn begin(&self, doing: &'static str, place: &str) -> Result<Option<Fault>, ObjectError> {
        if self.crashed() {
            return Err(error(doing, place, "the process has crashed", false));
        }
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        (self.gate)(step);
        self.store.inner().arrive();
        Ok(self.faults.get(&step).copied())
    }

    fn fail(&self, fault: Fault, doing: &'static str, place: &str) -> ObjectError {
        if matches!(fault, Fault::CrashBefore | Fault::CrashAfter) {
            self.crashed.store(true, Ordering::SeqCst);
        }
        error(doing, place, "a fault of the test", fault != Fault::Refused)
    }

    fn change(&self, doing: &'static str, effect: Effect) -> Result<bool, ObjectError> {
        let (Effect::Put(key, _) | Effect::PutIfAbsent(key, _) | Effect::Delete(key)) = &effect;
        let place = self.place(key);
        let fault = self.begin(doing, &place)?;
        let mut inner = self.store.inner();
        match fault {
            None => return Ok(inner.apply(effect)),
            Some(Fault::CrashAfter | Fault::AnswerLost) => {
                inner.apply(effect);
            }
            Some(Fault::Late(steps)) => inner.late.push((steps, effect)),
            Some(Fault::CrashBefore | Fault::Refused | Fault::RequestLost) => {}
        }
        drop(inner);
        Err(fault.map_or_else(|| error(doing, &place, "no fault", false), |fault| self.fail(fault, doing, &place)))
    }
}

fn error(doing: &'static str, place: &str, why: &str, may_have_happened: bool) -> ObjectError {
    ObjectError { doing, place: place.to_owned(), may_have_happened, source: Arc::from(Box::<_>::from(why)) }
}

impl Objects for Process {
    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectError> {
        self.change("could not put", Effect::Put(key.to_owned(), bytes)).map(|_| ())
    }

    fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<bool, ObjectError> {
        self.change("could not create", Effect::PutIfAbsent(key.to_owned(), bytes))
    }

    fn create(&self, key: &str) -> Result<Box<dyn Writing + '_>, ObjectError> {
        self.step("could not begin", &self.place(key), || ())?;
        Ok(Box::new(Unfinished { process: self, key: key.to_owned(), bytes: Vec::new() }))
    }

    fn get(&self, key: &str) -> Result<Option<Bytes>, ObjectError> {
        self.step("could not read", &self.place(key), || self.store.inner().objects.get(key).cloned())
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, ObjectError> {
        let bytes = self.step("could not read", &self.place(key), || self.store.inner().objects.get(key).cloned())?;
        Ok(bytes.map(|bytes| {
            let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
            bytes.slice(at(range.start)..at(range.end).max(at(range.start)))
        }))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let folder = format!("{prefix}/");
        self.step("could not list", &self.place(prefix), || {
            let inner = self.store.inner();
            inner.objects.keys().filter(|key| key.starts_with(&folder)).cloned().collect()
        })
    }

    fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.change("could not delete", Effect::Delete(key.to_owned())).map(|_| ())
    }

    fn place(&self, key: &str) -> String {
        format!("memory:{key}")
    }
}

struct Unfinished<'a> {
    process: &'a Process,
    key: String,
    bytes: Vec<u8>,
}

impl Writing for Unfinished<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), ObjectError> {
        self.process.step("could not write", &self.process.place(&self.key), || self.bytes.extend_from_slice(bytes))
    }

    fn finish(self: Box<Self>) -> Result<(), ObjectError> {
        self.process.change("could not finish", Effect::Put(self.key, self.bytes.into())).map(|_| ())
    }
}
