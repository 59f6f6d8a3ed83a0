//! Numbers for names, and names that are kept once.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

/// Numbers for names, from 0 in the order in which they come.
#[derive(Debug)]
pub(super) struct Names<T>(HashMap<T, u32>);

impl<T: Hash + Eq> Names<T> {
    /// None yet.
    pub(super) fn new() -> Self {
        Names(HashMap::new())
    }

    /// The number of a name.
    pub(super) fn number(&mut self, name: T) -> u32 {
        let next = u32::try_from(self.0.len()).expect("fewer than 2^32 names");
        *self.0.entry(name).or_insert(next)
    }

    /// The names in the order of their numbers.
    pub(super) fn into_list(self) -> Vec<T> {
        let mut names: Vec<(T, u32)> = self.0.into_iter().collect();
        names.sort_unstable_by_key(|(_, number)| *number);
        names.into_iter().map(|(name, _)| name).collect()
    }
}

/// Texts, of which equal ones are one.
#[derive(Debug, Default)]
pub(super) struct Texts(HashSet<Arc<str>>);

impl Texts {
    /// The text, kept once.
    pub(super) fn keep(&mut self, text: &str) -> Arc<str> {
        if let Some(kept) = self.0.get(text) {
            return Arc::clone(kept);
        }
        let kept: Arc<str> = text.into();
        self.0.insert(Arc::clone(&kept));
        kept
    }
}
