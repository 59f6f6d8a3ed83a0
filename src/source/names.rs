//! Short numbers for (topic, partition), given out as partitions appear while a job runs.
//!
//! Upholds: (1) an id always means the same partition, and everyone who shares the list sees it; (2) ids of topics
//! registered in sorted order sort as (topic, partition) do, which is the order that decides between changes of a key;
//! (3) a topic has the same number in all processes: one that appears later is numbered by the leader (see
//! [`super::operator::Control`]).
//! Keeps: every topic ever named; there are few, and they are not forgotten.

use std::sync::{Arc, PoisonError, RwLock};

/// The topic whose partitions are requests to read dead letters again, by their numbers; no topic of Kafka can have its name.
pub const REPLAY: &str = "~replay";

/// Bits of an id that are the partition's number; the others are the topic's.
const PARTITION_BITS: u32 = 16;

/// The topics that partition ids name.
#[derive(Debug, Default)]
pub struct PartitionNames {
    topics: RwLock<Vec<Arc<str>>>,
}

impl PartitionNames {
    /// Names for these topics, registered in sorted order.
    pub fn sorted<T: AsRef<str>>(topics: impl IntoIterator<Item = T>) -> PartitionNames {
        let mut topics: Vec<Arc<str>> = topics.into_iter().map(|topic| Arc::from(topic.as_ref())).collect();
        topics.sort_unstable();
        topics.dedup();
        PartitionNames { topics: RwLock::new(topics) }
    }

    /// Names with the numbers they had in another run: their places in the list.
    pub fn numbered(topics: &[String]) -> PartitionNames {
        PartitionNames { topics: RwLock::new(topics.iter().map(|topic| Arc::from(topic.as_str())).collect()) }
    }

    /// All topics, by number.
    pub fn topics(&self) -> Vec<String> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).iter().map(|topic| topic.to_string()).collect()
    }

    /// The id of a partition; registers its topic if it is new. Topics and partition numbers must stay below 65,536, which
    /// is beyond what a broker holds.
    pub fn id(&self, topic: &str, partition: u32) -> u32 {
        assert!(partition >> PARTITION_BITS == 0, "partition {partition} of \"{topic}\" is beyond 65535");
        let place = self.register(topic);
        assert!(place >> (u32::BITS - PARTITION_BITS) == 0, "more than 65536 topics");
        place << PARTITION_BITS | partition
    }

    /// The number of a topic; registers it if it is new.
    pub fn register(&self, topic: &str) -> u32 {
        let known = |topics: &[Arc<str>]| topics.iter().position(|known| &**known == topic);
        let found = known(&self.topics.read().unwrap_or_else(PoisonError::into_inner));
        let place = found.unwrap_or_else(|| {
            let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
            // Somebody may have been faster.
            known(&topics).unwrap_or_else(|| {
                topics.push(Arc::from(topic));
                topics.len() - 1
            })
        });
        u32::try_from(place).expect("topics fit the memory, hence 32 bits")
    }

    /// The number of a topic, if it has one.
    pub fn number(&self, topic: &str) -> Option<usize> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).iter().position(|known| &**known == topic)
    }

    /// Whether a topic has a number.
    pub fn knows(&self, topic: &str) -> bool {
        self.number(topic).is_some()
    }

    /// How many topics have a number.
    pub fn len(&self) -> usize {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no topic has a number.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of the topic in an id.
    pub fn topic_of(id: u32) -> usize {
        (id >> PARTITION_BITS) as usize
    }

    /// Topic and partition of an id that was given out.
    pub fn get(&self, id: u32) -> (Arc<str>, u32) {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.get((id >> PARTITION_BITS) as usize).expect("ids come from this list");
        (Arc::clone(topic), id & ((1 << PARTITION_BITS) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_as_topics_and_partitions() {
        let names = PartitionNames::sorted(["b", "a", "b"]);
        let all = [("a", 0), ("a", 1), ("a", 65_535), ("b", 0), ("b", 300)];
        let ids: Vec<u32> = all.iter().map(|(topic, partition)| names.id(topic, *partition)).collect();
        assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
        for ((topic, partition), id) in all.iter().zip(&ids) {
            assert_eq!(names.get(*id), (Arc::from(*topic), *partition));
        }
        let late = names.id("aa", 7);
        assert!(late > ids[4], "a topic that appears later comes after the others");
        assert_eq!((names.get(late), names.id("aa", 7)), ((Arc::from("aa"), 7), late));
        assert_eq!(names.id("a", 1), ids[1]);
        let again = PartitionNames::numbered(&names.topics());
        assert_eq!((again.id("aa", 7), again.id("b", 0)), (late, ids[3]), "another run gives the same numbers");
    }
}
