//! Where keys are unique: the bytes that all keys of a source begin with.
//!
//! ```text
//! varint(number)                                          of payments, order items, products: the topic's number, or the role's
//! varint(4) len name  len value  len value …              of a lookup: its name, and what its topics capture, by name
//! ```
//!
//! Upholds: two key spaces never have a key in common, as no beginning is the beginning of another; a row that refers to a
//! lookup's makes that row's key, byte by byte.

use storeflow_dataflows::change::Version;
use storeflow_dataflows::key::{Text, push_varint};

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::{Decoded, Skipped, Truncate};
use crate::config::{Job, KeySpace, Role, SourceSpec};

/// Topics whose truncates were skipped, and that it was said.
static SKIPPED_TRUNCATES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The key space of a source's rows in one topic.
#[derive(Clone, Debug)]
pub(super) struct Space {
    beginning: Vec<u8>,
    kind: KeySpace,
    topic: String,
}

impl Space {
    /// The space of the source's own rows; `number` is that of [`super::Decoder::new`].
    pub(super) fn own(job: &Job, spec: &SourceSpec, topic: &str, number: u32) -> Self {
        let beginning = match (spec.role, &spec.name) {
            (Role::Lookup, Some(name)) => lookup(job, name, spec, topic),
            _ => {
                let mut beginning = Vec::new();
                push_varint(&mut beginning, u64::from(number));
                beginning
            }
        };
        Space { beginning, kind: spec.key_space, topic: topic.to_owned() }
    }

    /// What keys begin with.
    pub(super) fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    /// That the table was emptied, unless other topics are shards of the same one: which rows came from this one is not kept.
    pub(super) fn truncate(&self, version: Option<Version>) -> Decoded {
        match self.kind {
            KeySpace::Topic => Decoded::Truncate(Truncate { space: Text::new(&self.beginning), version }),
            KeySpace::Role => {
                let mut said = SKIPPED_TRUNCATES.lock().unwrap_or_else(PoisonError::into_inner);
                if said.insert(self.topic.clone()) {
                    tracing::warn!(
                        topic = self.topic,
                        "a table was emptied, but with key_space = \"role\" its rows cannot be told from those of other topics, so they stay"
                    );
                }
                Decoded::Skipped(Skipped::Control)
            }
        }
    }
}

/// What the keys of a lookup begin with, as `topic` of `spec` tells them: the lookup's own, or that of a source that refers to it.
pub(crate) fn lookup(job: &Job, name: &str, spec: &SourceSpec, topic: &str) -> Vec<u8> {
    let mut beginning = lookup_key_prefix(name);
    let lookups = || job.sources.iter().filter(|source| source.role == Role::Lookup && source.name.as_deref() == Some(name));
    if lookups().all(|lookup| lookup.key_space == KeySpace::Topic) {
        let mut captured = spec.captures(topic).unwrap_or_default();
        captured.retain(|(name, _)| lookups().any(|lookup| lookup.is_captured(name)));
        captured.sort_unstable();
        captured.iter().for_each(|(_, value)| push_part(&mut beginning, value.as_bytes()));
    }
    beginning
}

/// What the keys of all rows of a lookup begin with.
pub fn lookup_key_prefix(name: &str) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(name.len() + 2);
    push_varint(&mut prefix, Role::Lookup as u64);
    push_part(&mut prefix, name.as_bytes());
    prefix
}

fn push_part(out: &mut Vec<u8>, part: &[u8]) {
    push_varint(out, part.len() as u64);
    out.extend_from_slice(part);
}
