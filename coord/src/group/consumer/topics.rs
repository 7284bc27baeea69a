//! What group coordinators know of the cluster's topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;
use twox_hash::XxHash3_64;
use uuid::Uuid;

use crate::metadata::MetadataImage;

/// One topic, as far as groups care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// The topic's id.
    pub id: Uuid,
    /// The number of its partitions.
    pub partition_count: usize,
    /// For each partition the racks of its replicas, ascending. Empty if no broker has a rack.
    pub racks: Vec<Vec<Arc<str>>>,
}

/// The topics of a metadata image. The shell makes one for each image and shares it between all coordinators of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicsView {
    version: i64,
    topics: BTreeMap<Arc<str>, TopicView>,
    names: AHashMap<Uuid, Arc<str>>,
}

impl TopicsView {
    /// The view of these topics, as of this version: a number that grows with each change.
    pub fn new(version: i64, topics: impl IntoIterator<Item = (Arc<str>, TopicView)>) -> Self {
        let topics: BTreeMap<_, _> = topics.into_iter().collect();
        let names = topics.iter().map(|(name, topic)| (topic.id, name.clone())).collect();
        TopicsView { version, topics, names }
    }

    /// The view of an image's topics.
    pub fn from_image(image: &MetadataImage) -> Self {
        let racks: BTreeMap<_, Arc<str>> =
            image.brokers().filter_map(|broker| Some((broker.id, broker.rack.as_deref()?.into()))).collect();
        let racks_of = |partition: &crate::metadata::PartitionImage| {
            let mut racks: Vec<_> =
                partition.replicas.iter().filter_map(|broker| racks.get(broker).cloned()).collect();
            racks.sort();
            racks
        };
        let topics = image.topics().map(|topic| {
            let view = TopicView {
                id: topic.id,
                partition_count: topic.partitions.len(),
                racks: if racks.is_empty() {
                    Vec::new()
                } else {
                    topic.partitions.iter().map(racks_of).collect()
                },
            };
            (topic.name.clone(), view)
        });
        TopicsView::new(image.next_offset(), topics)
    }

    /// The version of the image.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// A topic by its name.
    pub fn topic(&self, name: &str) -> Option<&TopicView> {
        self.topics.get(name)
    }

    /// The name of the topic with this id.
    pub fn name(&self, id: Uuid) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    /// All topics in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &TopicView)> {
        self.topics.iter()
    }

    /// The names of the topics that are not the same in both views: created, deleted, created again, with other partitions or racks.
    pub fn changed_since(&self, before: &TopicsView) -> Vec<Arc<str>> {
        let mut changed = Vec::new();
        let (mut old, mut new) = (before.topics.iter().peekable(), self.topics.iter().peekable());
        loop {
            let name = match (old.peek(), new.peek()) {
                (None, None) => return changed,
                (Some((name, _)), None) | (None, Some((name, _))) => (*name).clone(),
                (Some((a, _)), Some((b, _))) => (*a).min(*b).clone(),
            };
            let was = old.next_if(|(topic, _)| **topic == name).map(|(_, topic)| topic);
            let is = new.next_if(|(topic, _)| **topic == name).map(|(_, topic)| topic);
            if was != is {
                changed.push(name);
            }
        }
    }

    /// Kafka's hash of topics that a group has subscribed to; 0 if none of them exists. It changes when a topic appears or disappears,
    /// gets another id, other partitions or other racks. (`Utils.computeTopicHash` and `Utils.computeGroupHash` of the group coordinator.)
    pub fn metadata_hash<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> i64 {
        let mut existing: Vec<_> =
            names.into_iter().filter_map(|name| Some((name, self.topic(name)?))).collect();
        if existing.is_empty() {
            return 0;
        }
        existing.sort_by_key(|(name, _)| *name);
        existing.dedup_by_key(|(name, _)| *name);
        let mut bytes = Vec::new();
        for (name, topic) in existing {
            bytes.extend(topic_hash(name, topic).to_le_bytes());
        }
        XxHash3_64::oneshot(&bytes) as i64
    }
}

/// First of the hashed bytes of a topic: the version of this form.
const TOPIC_HASH_MAGIC: u8 = 0;

fn topic_hash(name: &str, topic: &TopicView) -> i64 {
    let mut bytes = vec![TOPIC_HASH_MAGIC];
    let (most, least) = topic.id.as_u64_pair();
    bytes.extend(most.to_le_bytes());
    bytes.extend(least.to_le_bytes());
    put_string(&mut bytes, name);
    bytes.extend((topic.partition_count as i32).to_le_bytes());
    for partition in 0..topic.partition_count {
        bytes.extend((partition as i32).to_le_bytes());
        let racks = topic.racks.get(partition).map_or(&[][..], Vec::as_slice);
        for rack in racks {
            bytes.extend((rack.encode_utf16().count() as i32).to_le_bytes());
            put_string(&mut bytes, rack);
        }
    }
    XxHash3_64::oneshot(&bytes) as i64
}

/// A string as hash4j hashes it: UTF-16, then its length.
fn put_string(bytes: &mut Vec<u8>, text: &str) {
    let before = bytes.len();
    text.encode_utf16().for_each(|unit| bytes.extend(unit.to_le_bytes()));
    let units = (bytes.len() - before) / 2;
    bytes.extend((units as i32).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(id: (u64, u64), racks: &[&[&str]]) -> TopicView {
        let racks: Vec<Vec<Arc<str>>> =
            racks.iter().map(|racks| racks.iter().map(|rack| Arc::from(*rack)).collect()).collect();
        TopicView { id: Uuid::from_u64_pair(id.0, id.1), partition_count: racks.len(), racks }
    }

    fn two_topics() -> TopicsView {
        let foo = topic((0x0011_2233_4455_6677, 0x8899_aabb_ccdd_eeff), &[&[], &[], &[]]);
        let bar = topic((1, 2), &[&["a", "b"], &["a", "a"]]);
        TopicsView::new(1, [("foo".into(), foo), ("bär".into(), bar)])
    }

    #[test]
    fn the_hash_of_topics_is_the_one_that_kafka_computes() {
        // The values were computed with hash4j and Kafka 4.1.1's Utils.computeGroupHash.
        assert_eq!(two_topics().metadata_hash(["foo"]), -6_210_116_198_078_710_790);
        assert_eq!(two_topics().metadata_hash(["foo", "missing", "bär", "foo"]), -8_982_778_216_826_913_310);
        assert_eq!(two_topics().metadata_hash(["missing"]), 0);
    }

    #[test]
    fn a_view_tells_which_topics_have_changed_since_another() {
        let before = two_topics();
        assert!(before.changed_since(&two_topics()).is_empty());
        let grown = topic((1, 2), &[&["a", "b"], &["a", "a"], &["a"]]);
        let after = TopicsView::new(2, [("bär".into(), grown), ("new".into(), topic((3, 4), &[&[]]))]);
        let changed = after.changed_since(&before);
        assert_eq!(changed.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["bär", "foo", "new"]);
    }
}
