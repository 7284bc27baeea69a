//! The records of a consumer group.

use protocol::messages::group_log::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupMemberMetadataKey, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, ConsumerGroupPartitionMetadataKey, ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue, ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue, TopicPartition,
};

use super::group::{ConsumerGroup, ResolvedRegularExpression};
use super::member::{CurrentAssignment, Member};
use super::partitions::Partitions;
use crate::group::record::GroupRecord;

/// Makes the records of one group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Records<'a> {
    /// The group's id.
    pub group_id: &'a str,
}

impl Records<'_> {
    fn id(&self) -> std::borrow::Cow<'static, str> {
        self.group_id.to_owned().into()
    }

    /// The group's epoch and the hash of its topics.
    pub fn epoch(&self, epoch: i32, metadata_hash: i64) -> GroupRecord<'static> {
        let key = ConsumerGroupMetadataKey { group_id: self.id() };
        GroupRecord::ConsumerGroupMetadata(
            key,
            Some(ConsumerGroupMetadataValue { epoch, metadata_hash, ..Default::default() }),
        )
    }

    /// The end of the group.
    pub fn no_group(&self) -> GroupRecord<'static> {
        let key = ConsumerGroupMetadataKey { group_id: self.id() };
        GroupRecord::ConsumerGroupMetadata(key, None)
    }

    /// The end of a record that versions before 4.1 have written.
    pub fn no_partition_metadata(&self) -> GroupRecord<'static> {
        let key = ConsumerGroupPartitionMetadataKey { group_id: self.id() };
        GroupRecord::ConsumerGroupPartitionMetadata(key, None)
    }

    /// What a member has told about itself.
    pub fn member(&self, member_id: &str, member: &Member) -> GroupRecord<'static> {
        GroupRecord::ConsumerGroupMemberMetadata(self.member_key(member_id), Some(member.to_value()))
    }

    fn member_key(&self, member_id: &str) -> ConsumerGroupMemberMetadataKey<'static> {
        ConsumerGroupMemberMetadataKey { group_id: self.id(), member_id: member_id.to_owned().into() }
    }

    /// What a member owns.
    pub fn current(&self, member_id: &str, current: &CurrentAssignment) -> GroupRecord<'static> {
        GroupRecord::ConsumerGroupCurrentMemberAssignment(
            self.current_key(member_id),
            Some(current.to_value()),
        )
    }

    fn current_key(&self, member_id: &str) -> ConsumerGroupCurrentMemberAssignmentKey<'static> {
        let member_id = member_id.to_owned().into();
        ConsumerGroupCurrentMemberAssignmentKey { group_id: self.id(), member_id }
    }

    /// What a member is to have.
    pub fn target(&self, member_id: &str, target: &Partitions) -> GroupRecord<'static> {
        let topics = target.by_topic().into_iter();
        let topic_partitions = topics
            .map(|(topic_id, partitions)| TopicPartition { topic_id, partitions, ..Default::default() })
            .collect();
        let value = ConsumerGroupTargetAssignmentMemberValue { topic_partitions, ..Default::default() };
        GroupRecord::ConsumerGroupTargetAssignmentMember(self.target_key(member_id), Some(value))
    }

    fn target_key(&self, member_id: &str) -> ConsumerGroupTargetAssignmentMemberKey<'static> {
        let member_id = member_id.to_owned().into();
        ConsumerGroupTargetAssignmentMemberKey { group_id: self.id(), member_id }
    }

    /// The epoch of the targets.
    pub fn assignment_epoch(&self, assignment_epoch: i32) -> GroupRecord<'static> {
        let key = ConsumerGroupTargetAssignmentMetadataKey { group_id: self.id() };
        let value = ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch, ..Default::default() };
        GroupRecord::ConsumerGroupTargetAssignmentMetadata(key, Some(value))
    }

    /// The topics that a regular expression stands for.
    pub fn regex(&self, regex: &str, resolved: &ResolvedRegularExpression) -> GroupRecord<'static> {
        let value = ConsumerGroupRegularExpressionValue {
            topics: resolved.topics.iter().map(|topic| topic.clone().into()).collect(),
            version: resolved.version,
            timestamp: resolved.timestamp_ms,
            ..Default::default()
        };
        GroupRecord::ConsumerGroupRegularExpression(self.regex_key(regex), Some(value))
    }

    /// Nobody subscribes with the regular expression any more.
    pub fn no_regex(&self, regex: &str) -> GroupRecord<'static> {
        GroupRecord::ConsumerGroupRegularExpression(self.regex_key(regex), None)
    }

    fn regex_key(&self, regex: &str) -> ConsumerGroupRegularExpressionKey<'static> {
        let regular_expression = regex.to_owned().into();
        ConsumerGroupRegularExpressionKey { group_id: self.id(), regular_expression }
    }

    /// The end of a member, in the order that Kafka's coordinator wants: what it owns, what it was to have, who it was.
    pub fn no_member(&self, member_id: &str) -> [GroupRecord<'static>; 3] {
        [
            GroupRecord::ConsumerGroupCurrentMemberAssignment(self.current_key(member_id), None),
            GroupRecord::ConsumerGroupTargetAssignmentMember(self.target_key(member_id), None),
            GroupRecord::ConsumerGroupMemberMetadata(self.member_key(member_id), None),
        ]
    }

    /// The end of everything that the group has records of.
    pub fn no_group_and_members(&self, group: &ConsumerGroup) -> Vec<GroupRecord<'static>> {
        let members = || group.members.keys();
        let mut records: Vec<_> = members()
            .map(|id| GroupRecord::ConsumerGroupCurrentMemberAssignment(self.current_key(id), None))
            .collect();
        let with_target = members().chain(group.targets.keys().filter(|id| !group.members.contains_key(*id)));
        records.extend(
            with_target.map(|id| GroupRecord::ConsumerGroupTargetAssignmentMember(self.target_key(id), None)),
        );
        let key = ConsumerGroupTargetAssignmentMetadataKey { group_id: self.id() };
        records.push(GroupRecord::ConsumerGroupTargetAssignmentMetadata(key, None));
        records
            .extend(members().map(|id| GroupRecord::ConsumerGroupMemberMetadata(self.member_key(id), None)));
        records.extend(group.resolved.keys().map(|regex| self.no_regex(regex)));
        if group.has_partition_metadata_record {
            records.push(self.no_partition_metadata());
        }
        records.push(self.no_group());
        records
    }

    /// The records that make a group out of nothing.
    pub fn whole_group(&self, group: &ConsumerGroup) -> Vec<GroupRecord<'static>> {
        let mut records: Vec<_> = group.members.iter().map(|(id, member)| self.member(id, member)).collect();
        records.push(self.epoch(group.group_epoch, group.metadata_hash));
        records.extend(group.members.keys().map(|id| self.target(id, &group.target(id))));
        records.push(self.assignment_epoch(group.assignment_epoch));
        records.extend(group.members.iter().map(|(id, member)| self.current(id, &member.current)));
        records
    }
}
