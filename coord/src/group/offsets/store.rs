//! What is committed.

use std::collections::BTreeMap;
use std::rc::Rc;

use protocol::messages::group_log::OffsetCommitValue;
use uuid::Uuid;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The offset: the next one to be read.
    pub offset: i64,
    /// Leader epoch of the last consumed record, or -1.
    pub leader_epoch: i32,
    /// What the consumer stores with the offset.
    pub metadata: Box<str>,
    /// When the offset was committed, in ms since the epoch.
    pub commit_timestamp_ms: i64,
    /// When the offset expires, if the commit said so (versions 2-4 of OffsetCommit), in ms since the epoch.
    pub expire_timestamp_ms: Option<i64>,
    /// Id of the topic, nil if the commit did not tell.
    pub topic_id: Uuid,
}

impl From<&OffsetCommitValue<'_>> for OffsetAndMetadata {
    fn from(value: &OffsetCommitValue<'_>) -> Self {
        OffsetAndMetadata {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: (&*value.metadata).into(),
            commit_timestamp_ms: value.commit_timestamp,
            expire_timestamp_ms: (value.expire_timestamp >= 0).then_some(value.expire_timestamp),
            topic_id: value.topic_id,
        }
    }
}

impl OffsetAndMetadata {
    /// Whether the offset belongs to a topic of the same name that was deleted since.
    pub fn is_of_another_topic(&self, topic_id: Uuid) -> bool {
        !topic_id.is_nil() && !self.topic_id.is_nil() && topic_id != self.topic_id
    }
}

/// The offsets of one group by topic and partition; no topic is without partitions.
pub type GroupOffsets = BTreeMap<Rc<str>, BTreeMap<i32, OffsetAndMetadata>>;

/// The committed offsets of all groups; no group is without topics.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Offsets {
    groups: BTreeMap<Rc<str>, GroupOffsets>,
    count: usize,
}

impl Offsets {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Those of a group, if it has any.
    pub fn group(&self, group_id: &str) -> Option<&GroupOffsets> {
        self.groups.get(group_id)
    }

    /// One of them.
    pub fn get(&self, group_id: &str, topic: &str, partition: i32) -> Option<&OffsetAndMetadata> {
        self.groups.get(group_id)?.get(topic)?.get(&partition)
    }

    /// All groups that have offsets.
    pub fn groups(&self) -> impl Iterator<Item = (&Rc<str>, &GroupOffsets)> {
        self.groups.iter()
    }

    pub(super) fn set(&mut self, group_id: &str, topic: &str, partition: i32, value: OffsetAndMetadata) {
        let topics = entry(&mut self.groups, group_id);
        let former = entry(topics, topic).insert(partition, value);
        self.count += usize::from(former.is_none());
    }

    pub(super) fn remove(&mut self, group_id: &str, topic: &str, partition: i32) {
        let Some(topics) = self.groups.get_mut(group_id) else { return };
        let Some(partitions) = topics.get_mut(topic) else { return };
        self.count -= usize::from(partitions.remove(&partition).is_some());
        if partitions.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            self.groups.remove(group_id);
        }
    }
}

fn entry<'m, V: Default>(map: &'m mut BTreeMap<Rc<str>, V>, key: &str) -> &'m mut V {
    if !map.contains_key(key) {
        map.insert(key.into(), V::default());
    }
    map.get_mut(key).expect("just inserted")
}
