//! Answers about one store, kept while the as-of stands.
//!
//! Upholds: (1) what is kept was read after the mark it is kept under was known, and is dropped as soon as there is another mark: a reader
//! who knows of an as-of never gets an answer older than it; (2) what is kept is bounded in bytes.
//! Keeps: the numbers as JSON but for their freshness, which ages; and the whole with a freshness of a moment ago.
//! Absent on purpose: a choice of what stays. As-ofs move every second or so; when there is no room, all of it goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::view::Shown;
use crate::observe::locked;

/// What answers are kept for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    generation: u64,
    as_of: u64,
    finished: bool,
}

impl Mark {
    /// What is shown.
    pub(super) fn of(shown: &Shown) -> Mark {
        Mark { generation: shown.about.generation, as_of: shown.as_of, finished: shown.finished }
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Kept {
    /// Its as-of, milliseconds.
    pub(super) as_of: u64,
    /// A JSON object that lacks its last field, `fresh`.
    numbers: Vec<u8>,
    whole: Mutex<Option<(Instant, Bytes)>>,
}

impl Kept {
    /// Numbers, a JSON object, of an as-of.
    pub(super) fn new(as_of: u64, numbers: Vec<u8>) -> Kept {
        Kept { as_of, numbers, whole: Mutex::new(None) }
    }

    /// The whole answer, if it was made within `recently`.
    pub(super) fn whole(&self, recently: Duration) -> Option<Bytes> {
        locked(&self.whole).as_ref().filter(|(at, _)| at.elapsed() < recently).map(|(_, whole)| whole.clone())
    }

    /// The whole answer with this freshness, a JSON object.
    pub(super) fn with(&self, fresh: &[u8]) -> Bytes {
        let numbers = self.numbers.strip_suffix(b"}").unwrap_or(&self.numbers);
        let whole = Bytes::from([numbers, b",\"fresh\":", fresh, b"}"].concat());
        *locked(&self.whole) = Some((Instant::now(), whole.clone()));
        whole
    }

    /// What it takes, once it is whole, about: the freshness is as long as the numbers at most.
    fn bytes(&self, store: &str) -> usize {
        store.len() + 3 * self.numbers.len() + 256
    }
}

/// Answers.
#[derive(Debug)]
pub(super) struct Answers {
    bytes_max: usize,
    kept: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    mark: Mark,
    bytes: usize,
    by_store: HashMap<String, Arc<Kept>>,
}

impl Answers {
    /// None yet; so many bytes at most.
    pub(super) fn new(bytes_max: usize) -> Answers {
        Answers { bytes_max, kept: Mutex::default() }
    }

    /// The answer about a store, if there is one of this mark.
    pub(super) fn get(&self, mark: Mark, store: &str) -> Option<Arc<Kept>> {
        let mut shelf = locked(&self.kept);
        shelf.turn_to(mark);
        if shelf.mark == mark { shelf.by_store.get(store).cloned() } else { None }
    }

    /// Forgets all: the view was taken back.
    pub(super) fn forget(&self) {
        locked(&self.kept).clear();
    }

    /// Keeps what was read after `mark` was known, unless there is a later one by now.
    pub(super) fn keep(&self, mark: Mark, store: &str, kept: &Arc<Kept>) {
        let bytes = kept.bytes(store);
        let mut shelf = locked(&self.kept);
        // Of two that read it at once, the first one's does.
        if shelf.mark != mark || bytes > self.bytes_max || shelf.by_store.contains_key(store) {
            return;
        }
        if shelf.bytes + bytes > self.bytes_max {
            shelf.clear();
        }
        shelf.by_store.insert(store.to_owned(), Arc::clone(kept));
        shelf.bytes += bytes;
    }
}

impl Shelf {
    /// Forgets what is of an earlier mark. One who is late with an earlier mark changes nothing.
    fn turn_to(&mut self, mark: Mark) {
        // A job that was taken back has an earlier mark for good: then nothing is kept until it is later again.
        if mark > self.mark {
            self.mark = mark;
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.by_store.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(as_of: u64) -> Mark {
        Mark { generation: 1, as_of, finished: false }
    }

    fn kept(as_of: u64) -> Arc<Kept> {
        Arc::new(Kept::new(as_of, br#"{"store":"a"}"#.to_vec()))
    }

    #[test]
    fn an_answer_goes_when_the_as_of_moves() {
        let answers = Answers::new(1 << 20);
        assert!(answers.get(mark(5), "a").is_none());
        answers.keep(mark(5), "a", &kept(5));
        assert_eq!(answers.get(mark(5), "a").expect("kept").as_of, 5);
        assert!(answers.get(mark(5), "b").is_none());
        assert!(answers.get(mark(6), "a").is_none());
        // Whoever is late neither finds nor leaves anything.
        answers.keep(mark(5), "a", &kept(5));
        assert!(answers.get(mark(6), "a").is_none());
        assert!(answers.get(mark(5), "a").is_none());
        answers.keep(mark(6), "a", &kept(6));
        assert_eq!(answers.get(mark(6), "a").expect("kept").as_of, 6);
        let finished = Mark { finished: true, ..mark(6) };
        assert!(answers.get(finished, "a").is_none());
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let one = kept(5).bytes("00");
        let answers = Answers::new(10 * one);
        let _ = answers.get(mark(5), "00");
        for store in 0..100 {
            answers.keep(mark(5), &format!("{store:02}"), &kept(5));
            let shelf = locked(&answers.kept);
            assert!(shelf.bytes <= 10 * one && shelf.bytes == shelf.by_store.len() * one);
        }
        assert!(answers.get(mark(5), "99").is_some());
        // Again is not twice.
        answers.keep(mark(5), "99", &kept(5));
        assert_eq!(locked(&answers.kept).bytes, 10 * one);
        let too_large = Arc::new(Kept::new(5, vec![b' '; 20 * one]));
        answers.keep(mark(5), "large", &too_large);
        assert!(answers.get(mark(5), "large").is_none() && answers.get(mark(5), "99").is_some());
    }

    #[test]
    fn freshness_is_made_anew_once_it_is_old() {
        let kept = kept(5);
        assert_eq!(kept.whole(Duration::from_secs(3_600)), None);
        let whole = kept.with(br#"{"state":"live"}"#);
        assert_eq!(whole, r#"{"store":"a","fresh":{"state":"live"}}"#);
        assert_eq!(kept.whole(Duration::from_secs(3_600)), Some(whole));
        assert_eq!(kept.whole(Duration::ZERO), None);
    }
}
