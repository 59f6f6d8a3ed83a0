//! The names under which keys are unique: what tells rows of one topic, or of one table in it, from equal keys elsewhere.
//!
//! Upholds: a name's number is the same in every run that goes on with the state of another.

use std::collections::BTreeSet;

use crate::config::{KeySpace, SourceSpec};

/// Sources of a job that take one table each, at most.
const SLOTS: usize = 1_024;

/// The names under which keys are unique: a topic (and the one table a source takes of it), or a role for its shards. The
/// same number for the same name, in every run that goes on with the state of another.
pub(super) fn key_space(spec: &SourceSpec, topic: usize) -> u32 {
    let place = match spec.key_space {
        KeySpace::Topic => {
            assert!(spec.slot + 1 < SLOTS, "a job has at most {} sources", SLOTS - 1);
            8 + topic * SLOTS + if spec.table.is_some() { spec.slot + 1 } else { 0 }
        }
        KeySpace::Role => spec.role as usize,
    };
    u32::try_from(place).expect("topics times sources fit 32 bits")
}

/// The names under which the keys of a source may be, of the topics that there are.
pub(crate) fn key_spaces(spec: &SourceSpec, topics: &[String]) -> BTreeSet<u32> {
    let read = topics.iter().enumerate().filter(|(_, topic)| spec.reads(topic));
    read.map(|(number, _)| key_space(spec, number)).collect()
}

/// Whose keys are in a key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySpaceOf {
    /// All topics of a role.
    Role,
    /// One topic's, by its number; `slot`: only those of the one table that this source takes.
    Topic {
        /// The topic.
        topic: usize,
        /// The source.
        slot: Option<usize>,
    },
}

/// What the number of a key space means, for people.
pub fn key_space_of(number: u32) -> KeySpaceOf {
    match (number as usize).checked_sub(8) {
        None => KeySpaceOf::Role,
        Some(place) => KeySpaceOf::Topic { topic: place / SLOTS, slot: (place % SLOTS).checked_sub(1) },
    }
}
