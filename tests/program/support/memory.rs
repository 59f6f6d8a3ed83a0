//! A log in memory: what a connector would bring, in the hands of a test.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use storeflow::source::envelope::Envelopes;
use storeflow::source::feed::{Feed, FeedError, Polled, Raw};

/// A record of the log: position, timestamp, key, value.
pub(crate) type Entry = (u64, Option<u64>, Option<Vec<u8>>, Option<Vec<u8>>);

/// One partition's log, shared by the test and its feed.
#[derive(Debug, Default)]
pub(crate) struct MemoryLog {
    entries: Mutex<Vec<Entry>>,
    /// The log has been asked at this wall time; 0 if not yet.
    asked: AtomicU64,
    /// It ends behind its last record.
    ends: bool,
}

impl MemoryLog {
    /// A log that ends with these.
    pub(crate) fn ending(entries: Vec<Entry>) -> Arc<Self> {
        Arc::new(MemoryLog { entries: Mutex::new(entries), asked: AtomicU64::new(1), ends: true })
    }
    /// A log that goes on after these; it has been asked once.
    pub(crate) fn going_on(entries: Vec<Entry>) -> Arc<Self> {
        Arc::new(MemoryLog { entries: Mutex::new(entries), asked: AtomicU64::new(1), ends: false })
    }
    /// Appends.
    pub(crate) fn append(&self, entry: Entry) {
        self.entries.lock().expect("not poisoned").push(entry);
    }
    /// Says that nothing is missing up to this wall time.
    pub(crate) fn ask(&self, wall: u64) {
        self.asked.store(wall, Ordering::SeqCst);
    }
    /// A reader of it; every so many polls bring nothing, 0 for none.
    pub(crate) fn feed(self: &Arc<Self>, dry_every: u64) -> Box<dyn Feed> {
        Box::new(MemoryFeed { log: Arc::clone(self), next: 0, polls: 0, dry_every })
    }
}

/// The records of a partition file's lines, and the file without the lines that are no record a log could hold.
pub(crate) fn entries(content: &[u8]) -> (Vec<Entry>, Vec<u8>) {
    let envelopes = Envelopes::default();
    let (mut entries, mut kept) = (Vec::new(), Vec::new());
    for (number, line) in (0..).zip(content.split(|&byte| byte == b'\n')) {
        let blank = line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
        let opened = if std::str::from_utf8(line).is_ok() { envelopes.open(line) } else { Ok(None) };
        match opened {
            _ if blank => {}
            Ok(Some(record)) => {
                let owned = |bytes: Option<std::borrow::Cow<'_, [u8]>>| bytes.map(|bytes| bytes.into_owned());
                entries.push((record.position, record.timestamp, owned(record.key), owned(record.value)));
                kept.extend_from_slice(line);
            }
            Ok(None) => {
                entries.push((number, None, None, Some(line.to_vec())));
                kept.extend_from_slice(line);
            }
            Err(_) => {}
        }
        kept.push(b'\n');
    }
    (entries, kept)
}

struct MemoryFeed {
    log: Arc<MemoryLog>,
    next: usize,
    polls: u64,
    dry_every: u64,
}

impl Feed for MemoryFeed {
    fn poll(&mut self, take: &mut dyn FnMut(Raw<'_>)) -> Result<Polled, FeedError> {
        self.polls += 1;
        if self.dry_every > 0 && self.polls.is_multiple_of(self.dry_every) {
            return Ok(Polled::Empty);
        }
        let entries = self.log.entries.lock().expect("not poisoned");
        match entries.get(self.next) {
            Some((position, timestamp, key, value)) => {
                take(Raw {
                    position: *position,
                    timestamp: *timestamp,
                    key: key.as_deref(),
                    value: value.as_deref(),
                    headers: None,
                });
                self.next += 1;
                Ok(Polled::Record)
            }
            None if self.log.ends => Ok(Polled::End),
            None => Ok(Polled::Empty),
        }
    }
    fn position(&self) -> u64 {
        self.log.entries.lock().expect("not poisoned").get(self.next).map_or(u64::MAX, |(position, ..)| *position)
    }
    fn complete_until(&self) -> Option<u64> {
        // Asked first: what is appended after that has a later timestamp.
        let asked = self.log.asked.load(Ordering::SeqCst);
        (self.next == self.log.entries.lock().expect("not poisoned").len() && asked > 0).then_some(asked)
    }
}
