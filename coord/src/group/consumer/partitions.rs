//! A set of partitions, as members own it and targets name it.

use std::cmp::Ordering;
use std::rc::Rc;

use storage::types::{PartitionId, TopicIdPartition};
use uuid::Uuid;

/// A set of partitions in the order of topic id and index. Copies share it, so that a member is copied cheaply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partitions(Rc<Vec<TopicIdPartition>>);

impl Partitions {
    /// The set of these partitions, each of which may stand there more than once.
    pub fn new(mut partitions: Vec<TopicIdPartition>) -> Self {
        partitions.sort_unstable();
        partitions.dedup();
        Partitions(Rc::new(partitions))
    }

    /// The set that messages and records give topic by topic.
    pub fn from_topics<'a>(topics: impl IntoIterator<Item = (Uuid, &'a [i32])>) -> Self {
        let topics = topics.into_iter();
        let of_topic = |(topic_id, partitions): (Uuid, &'a [i32])| {
            partitions.iter().map(move |partition| TopicIdPartition::new(topic_id, PartitionId(*partition)))
        };
        Partitions::new(topics.flat_map(of_topic).collect())
    }

    /// The number of partitions.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The partitions in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = TopicIdPartition> + '_ {
        self.0.iter().copied()
    }

    /// Whether the partition is in the set.
    pub fn contains(&self, partition: TopicIdPartition) -> bool {
        self.0.binary_search(&partition).is_ok()
    }

    /// Whether every partition of this set is in `other`.
    pub fn is_subset(&self, other: &Partitions) -> bool {
        self.difference(other).is_empty()
    }

    /// Whether a partition is in both sets.
    pub fn intersects(&self, other: &Partitions) -> bool {
        self.0.iter().any(|partition| other.contains(*partition))
    }

    /// The partitions that are in both sets.
    pub fn intersection(&self, other: &Partitions) -> Partitions {
        self.retain(|partition| other.contains(partition))
    }

    /// The partitions of this set that are not in `other`.
    pub fn difference(&self, other: &Partitions) -> Partitions {
        self.retain(|partition| !other.contains(partition))
    }

    /// The partitions that are in at least one of the sets.
    pub fn union(&self, other: &Partitions) -> Partitions {
        match (self.is_empty(), other.is_empty()) {
            (_, true) => self.clone(),
            (true, _) => other.clone(),
            _ => Partitions::new(self.iter().chain(other.iter()).collect()),
        }
    }

    /// The partitions for which `keep` says so; the same set if it says so for all.
    pub fn retain(&self, mut keep: impl FnMut(TopicIdPartition) -> bool) -> Partitions {
        let kept: Vec<_> = self.iter().filter(|partition| keep(*partition)).collect();
        if kept.len() == self.len() { self.clone() } else { Partitions(Rc::new(kept)) }
    }

    /// The partitions topic by topic, as messages and records give them.
    pub fn by_topic(&self) -> Vec<(Uuid, Vec<i32>)> {
        let same_topic =
            |a: &TopicIdPartition, b: &TopicIdPartition| a.topic_id.cmp(&b.topic_id) == Ordering::Equal;
        let topics = self.0.chunk_by(same_topic);
        topics
            .map(|chunk| (chunk[0].topic_id, chunk.iter().map(|partition| partition.partition.0).collect()))
            .collect()
    }
}

impl FromIterator<TopicIdPartition> for Partitions {
    fn from_iter<I: IntoIterator<Item = TopicIdPartition>>(partitions: I) -> Self {
        Partitions::new(partitions.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(partitions: &[(u128, i32)]) -> Partitions {
        let one = |&(topic, partition): &(u128, i32)| {
            TopicIdPartition::new(Uuid::from_u128(topic), PartitionId(partition))
        };
        partitions.iter().map(one).collect()
    }

    #[test]
    fn a_set_survives_the_way_through_topics() {
        let partitions = set(&[(2, 1), (1, 0), (1, 3), (2, 0), (1, 3)]);
        let topics = partitions.by_topic();
        assert_eq!(topics, vec![(Uuid::from_u128(1), vec![0, 3]), (Uuid::from_u128(2), vec![0, 1])]);
        assert_eq!(
            Partitions::from_topics(topics.iter().map(|(id, list)| (*id, list.as_slice()))),
            partitions
        );
    }

    #[test]
    fn sets_meet_join_and_part_as_sets_do() {
        let (a, b) = (set(&[(1, 0), (1, 1), (2, 0)]), set(&[(1, 1), (3, 0)]));
        assert_eq!(a.intersection(&b), set(&[(1, 1)]));
        assert_eq!(a.difference(&b), set(&[(1, 0), (2, 0)]));
        assert_eq!(a.union(&b), set(&[(1, 0), (1, 1), (2, 0), (3, 0)]));
        assert!(a.intersects(&b) && !a.is_subset(&b) && a.intersection(&b).is_subset(&b));
        assert!(Partitions::default().is_subset(&b) && !Partitions::default().intersects(&b));
    }
}
