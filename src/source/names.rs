//! The numbers that topics and partitions are known by inside a run.
//!
//! Upholds: (1) numbers of a job's first topics ascend with their names, so partitions sort by their ids as by (topic, number);
//! (2) a topic keeps its number, and has the same in all processes: topics that appear later are numbered by the leader
//! (see [`super::operator::Control`]).

use std::sync::{Arc, PoisonError, RwLock};

/// Partitions that a topic can have.
const PARTITIONS: u32 = 1 << 16;

/// Topics by number.
#[derive(Debug, Default)]
pub struct PartitionNames {
    topics: RwLock<Vec<Arc<str>>>,
}

impl PartitionNames {
    /// Numbers these topics, by name.
    pub fn new<'a>(topics: impl IntoIterator<Item = &'a str>) -> Self {
        let mut topics: Vec<Arc<str>> = topics.into_iter().map(Arc::from).collect();
        topics.sort_unstable();
        topics.dedup();
        PartitionNames { topics: RwLock::new(topics) }
    }

    /// The number of a topic, if it has one.
    pub fn topic(&self, topic: &str) -> Option<u32> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.iter().position(|known| &**known == topic).and_then(|at| u32::try_from(at).ok())
    }

    /// Gives a topic the next number, if it has none. Returns its number.
    pub fn add(&self, topic: &str) -> u32 {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let at = topics.iter().position(|known| &**known == topic).unwrap_or_else(|| {
            topics.push(topic.into());
            topics.len() - 1
        });
        u32::try_from(at).expect("fewer topics than 2^32")
    }

    /// The id of a partition of a topic that has a number. Panics if there are 65,536 topics or partitions of one.
    pub fn id(topic: u32, partition: u32) -> u32 {
        assert!(topic < PARTITIONS && partition < PARTITIONS, "storeflow numbers 65,536 topics of 65,536 partitions at most");
        topic * PARTITIONS + partition
    }

    /// The partition with an id.
    pub fn name(&self, id: u32) -> Option<(Arc<str>, u32)> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        Some((Arc::clone(topics.get((id / PARTITIONS) as usize)?), id % PARTITIONS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_as_names_do_and_later_topics_come_last() {
        let names = PartitionNames::new(["b", "a", "b"]);
        assert_eq!((names.topic("a"), names.topic("b"), names.topic("c")), (Some(0), Some(1), None));
        assert_eq!((names.add("aa"), names.add("b")), (2, 1));
        assert!(PartitionNames::id(0, 9) < PartitionNames::id(1, 0));
        assert_eq!(names.name(PartitionNames::id(2, 7)), Some(("aa".into(), 7)));
        assert_eq!(names.name(PartitionNames::id(3, 0)), None);
    }
}
