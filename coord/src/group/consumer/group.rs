//! A consumer group: what its records say.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ahash::AHashMap;
use protocol::messages::group_log::ConsumerGroupTargetAssignmentMemberValue;
use storage::types::TopicIdPartition;

use super::member::{CurrentAssignment, LEAVE_GROUP_MEMBER_EPOCH, Member};
use super::partitions::Partitions;
use super::records::Records;
use crate::group::record::GroupRecord;

/// The state of a consumer group, with Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerGroupState {
    /// The group has no members.
    Empty,
    /// The target assignment is older than the group's epoch.
    Assigning,
    /// Not all members are where the target assignment wants them.
    Reconciling,
    /// All members own their targets.
    Stable,
}

impl ConsumerGroupState {
    /// Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            ConsumerGroupState::Empty => "Empty",
            ConsumerGroupState::Assigning => "Assigning",
            ConsumerGroupState::Reconciling => "Reconciling",
            ConsumerGroupState::Stable => "Stable",
        }
    }
}

/// The topics that a regular expression stood for when it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvedRegularExpression {
    /// The names that matched.
    pub topics: Rc<BTreeSet<String>>,
    /// The version of the metadata image in which they were looked for.
    pub version: i64,
    /// When they were looked for, in ms since the epoch.
    pub timestamp_ms: i64,
}

/// A group of the consumer protocol. It changes by [`ConsumerGroup::replay`] only; a copy shares what is large.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsumerGroup {
    /// Grows with each change of members, subscriptions or topics; 0 before the first.
    pub(super) group_epoch: i32,
    /// The hash of the subscribed topics when the epoch last grew.
    pub(super) metadata_hash: i64,
    /// Whether a version before 4.1 has left a ConsumerGroupPartitionMetadata record, which has to go.
    pub(super) has_partition_metadata_record: bool,
    /// Members by id.
    pub(super) members: BTreeMap<Rc<str>, Member>,
    /// The ids of static members by their instance ids.
    pub(super) static_members: BTreeMap<Rc<str>, Rc<str>>,
    /// The group epoch for which the targets were computed.
    pub(super) assignment_epoch: i32,
    /// What members are to have.
    pub(super) targets: BTreeMap<Rc<str>, Partitions>,
    /// The subscribed regular expressions that have been resolved.
    pub(super) resolved: BTreeMap<Rc<str>, ResolvedRegularExpression>,
    /// Who has a partition, assigned or pending revocation.
    owners: AHashMap<TopicIdPartition, Rc<str>>,
}

impl ConsumerGroup {
    /// A group without members whose targets are those of this epoch.
    pub(super) fn at_epoch(epoch: i32) -> Self {
        ConsumerGroup { group_epoch: epoch, assignment_epoch: epoch, ..ConsumerGroup::default() }
    }

    /// The group's state.
    pub fn state(&self) -> ConsumerGroupState {
        if self.members.is_empty() {
            ConsumerGroupState::Empty
        } else if self.group_epoch > self.assignment_epoch {
            ConsumerGroupState::Assigning
        } else if self.members.values().all(|member| member.current.is_reconciled_to(self.assignment_epoch)) {
            ConsumerGroupState::Stable
        } else {
            ConsumerGroupState::Reconciling
        }
    }

    /// Whether the group has no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The group's members by id.
    pub fn members(&self) -> &BTreeMap<Rc<str>, Member> {
        &self.members
    }

    /// The group's epoch.
    pub fn group_epoch(&self) -> i32 {
        self.group_epoch
    }

    /// Whether a member has subscribed to the topic, by name or by a regular expression.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.subscribed_topic_names.contains(topic))
            || self.resolved.values().any(|resolved| resolved.topics.contains(topic))
    }

    /// The names of all topics that members have subscribed to.
    pub(super) fn subscribed_topics(&self) -> BTreeSet<&str> {
        let by_name = self.members.values().map(|member| &member.subscribed_topic_names);
        let by_pattern = self.resolved.values().map(|resolved| &resolved.topics);
        by_name.chain(by_pattern).flat_map(|topics| topics.iter().map(String::as_str)).collect()
    }

    /// The regular expressions that members have subscribed to.
    pub(super) fn subscribed_regexes(&self) -> BTreeSet<Rc<str>> {
        self.members.values().filter_map(|member| member.subscribed_topic_regex.clone()).collect()
    }

    /// How many members have subscribed with this regular expression.
    pub(super) fn subscribers_of_regex(&self, regex: &str) -> usize {
        self.members.values().filter(|member| member.subscribed_topic_regex.as_deref() == Some(regex)).count()
    }

    /// The static member with this instance id.
    pub(super) fn static_member(&self, instance_id: &str) -> Option<(&Rc<str>, &Member)> {
        self.members.get_key_value(self.static_members.get(instance_id)?)
    }

    /// What the member is to have.
    pub(super) fn target(&self, member_id: &str) -> Partitions {
        self.targets.get(member_id).cloned().unwrap_or_default()
    }

    /// Who has the partition, assigned or pending revocation.
    pub fn owner(&self, partition: TopicIdPartition) -> Option<&Rc<str>> {
        self.owners.get(&partition)
    }

    /// The records that end the group.
    pub(in crate::group) fn tombstones(&self, group_id: &str, records: &mut Vec<GroupRecord<'static>>) {
        records.extend(Records { group_id }.no_group_and_members(self));
    }

    /// Applies one of the group's records; records of other kinds change nothing. Returns whether the group still exists.
    pub(in crate::group) fn replay(&mut self, record: &GroupRecord<'_>) -> bool {
        match record {
            GroupRecord::ConsumerGroupMetadata(_, Some(value)) => {
                self.group_epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            GroupRecord::ConsumerGroupMetadata(_, None) => return false,
            GroupRecord::ConsumerGroupPartitionMetadata(_, value) => {
                self.has_partition_metadata_record = value.is_some()
            }
            GroupRecord::ConsumerGroupMemberMetadata(key, Some(value)) => {
                let current = self.members.get(key.member_id.as_ref()).map(|member| member.current.clone());
                let member = Member::from_value(value, current.unwrap_or_default());
                self.set_member(&key.member_id, member);
            }
            GroupRecord::ConsumerGroupMemberMetadata(key, None) => self.remove_member(&key.member_id),
            GroupRecord::ConsumerGroupTargetAssignmentMetadata(_, value) => {
                self.assignment_epoch =
                    value.as_ref().map_or(LEAVE_GROUP_MEMBER_EPOCH, |value| value.assignment_epoch);
            }
            GroupRecord::ConsumerGroupTargetAssignmentMember(key, Some(value)) => {
                self.targets.insert(key.member_id.as_ref().into(), target_from_value(value));
            }
            GroupRecord::ConsumerGroupTargetAssignmentMember(key, None) => {
                self.targets.remove(key.member_id.as_ref());
            }
            GroupRecord::ConsumerGroupCurrentMemberAssignment(key, Some(value)) => {
                let member = self.members.get(key.member_id.as_ref()).cloned().unwrap_or_default();
                self.set_member(
                    &key.member_id,
                    Member { current: CurrentAssignment::from_value(value), ..member },
                );
            }
            GroupRecord::ConsumerGroupCurrentMemberAssignment(key, None) => {
                if let Some(member) = self.members.get(key.member_id.as_ref()).cloned() {
                    self.set_member(
                        &key.member_id,
                        Member { current: CurrentAssignment::default(), ..member },
                    );
                }
            }
            GroupRecord::ConsumerGroupRegularExpression(key, Some(value)) => {
                let resolved = ResolvedRegularExpression {
                    topics: Rc::new(value.topics.iter().map(|topic| topic.to_string()).collect()),
                    version: value.version,
                    timestamp_ms: value.timestamp,
                };
                self.resolved.insert(key.regular_expression.as_ref().into(), resolved);
            }
            GroupRecord::ConsumerGroupRegularExpression(key, None) => {
                self.resolved.remove(key.regular_expression.as_ref());
            }
            GroupRecord::OffsetCommit(..) | GroupRecord::GroupMetadata(..) | GroupRecord::Unknown { .. } => {}
        }
        true
    }

    fn set_member(&mut self, member_id: &str, member: Member) {
        let id =
            self.members.get_key_value(member_id).map_or_else(|| Rc::from(member_id), |(id, _)| id.clone());
        self.forget_partitions(&id);
        for partition in member.current.assigned.iter().chain(member.current.pending_revocation.iter()) {
            self.owners.insert(partition, id.clone());
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), id.clone());
        }
        self.members.insert(id, member);
    }

    fn remove_member(&mut self, member_id: &str) {
        self.forget_partitions(member_id);
        let Some(member) = self.members.remove(member_id) else { return };
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id).is_some_and(|id| id.as_ref() == member_id)
        {
            self.static_members.remove(instance_id);
        }
    }

    /// The member's partitions belong to nobody, unless another has them by now: a compacted log may tell of the new owner first.
    fn forget_partitions(&mut self, member_id: &str) {
        let Some(member) = self.members.get(member_id) else { return };
        for partition in member.current.assigned.iter().chain(member.current.pending_revocation.iter()) {
            if self.owners.get(&partition).is_some_and(|owner| owner.as_ref() == member_id) {
                self.owners.remove(&partition);
            }
        }
    }
}

fn target_from_value(value: &ConsumerGroupTargetAssignmentMemberValue<'_>) -> Partitions {
    Partitions::from_topics(
        value.topic_partitions.iter().map(|topic| (topic.topic_id, topic.partitions.as_slice())),
    )
}
