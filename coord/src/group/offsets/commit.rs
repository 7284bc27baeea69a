//! OffsetCommit, and replay of its records.

use std::rc::Rc;

use protocol::ErrorCode;
use protocol::messages::group_log::{OffsetCommitKey, OffsetCommitValue};
use protocol::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::store::OffsetAndMetadata;
use crate::group::api::{GroupReply, Output, RequestContext};
use crate::group::classic::{ClassicGroup, ClassicGroupState};
use crate::group::coordinator::GroupCoordinator;
use crate::group::either::Group;
use crate::group::record::GroupRecord;

/// First version of OffsetCommit whose clients know GROUP_ID_NOT_FOUND and STALE_MEMBER_EPOCH (KIP-848).
const KNOWS_GROUP_ID_NOT_FOUND_FROM: i16 = 9;

impl GroupCoordinator {
    /// OffsetCommit, versions 2-9. That the topics exist is for the caller to check, who may also fill in their ids: offsets remember
    /// them, so that a later topic of the same name does not inherit them.
    pub fn offset_commit(
        &mut self,
        context: &RequestContext<'_>,
        request: &OffsetCommitRequest<'_>,
    ) -> Output {
        self.advance_clock(context.now_ms);
        if let Err(code) = self.validate_commit(context.api_version, request) {
            let topics = request.topics.iter();
            let topics = topics.map(|topic| respond(topic, topic.partitions.iter().map(|_| code))).collect();
            let reply = OffsetCommitResponse { topics, ..OffsetCommitResponse::default() };
            return Output::reply(context.token, GroupReply::OffsetCommit(reply));
        }
        self.keep_committer(&request.group_id, &request.member_id);
        let expire_timestamp = match request.retention_time_ms {
            retention_ms if retention_ms >= 0 => self.now_ms.saturating_add(retention_ms),
            _ => -1,
        };
        let max_metadata = usize::try_from(self.config.offset_metadata_max_bytes).unwrap_or(0);
        let partition_count = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let mut records = Vec::with_capacity(partition_count);
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let codes = topic.partitions.iter().map(|partition| {
                if is_too_long(partition.committed_metadata.as_deref().unwrap_or_default(), max_metadata) {
                    return ErrorCode::OFFSET_METADATA_TOO_LARGE;
                }
                records.push(self.commit_record(&request.group_id, topic, partition, expire_timestamp));
                ErrorCode::NONE
            });
            topics.push(respond(topic, codes));
        }
        let reply = OffsetCommitResponse { topics, ..OffsetCommitResponse::default() };
        Output { records, replies: vec![(context.token, GroupReply::OffsetCommit(reply))] }
    }

    fn validate_commit(&self, api_version: i16, request: &OffsetCommitRequest<'_>) -> Result<(), ErrorCode> {
        let member_id = &*request.member_id;
        let instance = request.group_instance_id.as_deref();
        let generation_or_epoch = request.generation_id_or_member_epoch;
        match self.groups.get(&*request.group_id) {
            Some(Group::Classic(group)) => {
                group.validate_offset_commit(member_id, instance, generation_or_epoch)
            }
            Some(Group::Consumer(group)) => {
                let verdict =
                    group.validate_offset_commit(member_id, instance, generation_or_epoch, api_version);
                verdict.map_err(|code| match code {
                    ErrorCode::STALE_MEMBER_EPOCH if api_version < KNOWS_GROUP_ID_NOT_FOUND_FROM => {
                        ErrorCode::UNSUPPORTED_VERSION
                    }
                    code => code,
                })
            }
            // Somebody who only keeps offsets here, or an administrator: the group comes to be with the record.
            None if generation_or_epoch < 0 => Ok(()),
            None if api_version >= KNOWS_GROUP_ID_NOT_FOUND_FROM => Err(ErrorCode::GROUP_ID_NOT_FOUND),
            None => Err(ErrorCode::ILLEGAL_GENERATION),
        }
    }

    /// A commit is a sign of life.
    fn keep_committer(&mut self, group_id: &str, member_id: &str) {
        match self.groups.get(group_id) {
            Some(Group::Classic(group))
                if matches!(
                    group.state(),
                    ClassicGroupState::Stable | ClassicGroupState::PreparingRebalance
                ) =>
            {
                let output =
                    self.classic_operation(group_id, |operation, _| operation.restart_session(member_id));
                debug_assert!(output.is_empty());
            }
            Some(Group::Consumer(_)) => self.consumer_group_commits(group_id, member_id),
            _ => {}
        }
    }

    fn commit_record(
        &self,
        group_id: &str,
        topic: &OffsetCommitRequestTopic<'_>,
        partition: &OffsetCommitRequestPartition<'_>,
        expire_timestamp: i64,
    ) -> GroupRecord<'static> {
        let key = OffsetCommitKey {
            group: group_id.to_owned().into(),
            topic: topic.name.to_string().into(),
            partition: partition.partition_index,
        };
        let value = OffsetCommitValue {
            offset: partition.committed_offset,
            // The layout that has room for the time of expiry has none for the epoch.
            leader_epoch: if expire_timestamp < 0 { partition.committed_leader_epoch } else { -1 },
            metadata: partition.committed_metadata.as_deref().unwrap_or_default().to_owned().into(),
            commit_timestamp: self.now_ms,
            expire_timestamp,
            topic_id: topic.topic_id,
            ..OffsetCommitValue::default()
        };
        GroupRecord::OffsetCommit(key, Some(value))
    }

    pub(in crate::group) fn replay_offset_commit(
        &mut self,
        key: &OffsetCommitKey<'_>,
        value: Option<&OffsetCommitValue<'_>>,
    ) {
        self.cleanup.settled(&key.group, &key.topic, key.partition);
        let Some(value) = value else {
            return self.offsets.remove(&key.group, &key.topic, key.partition);
        };
        if !self.groups.contains_key(&*key.group) {
            let group_id: Rc<str> = (&*key.group).into();
            self.groups.insert(group_id.clone(), Group::Classic(Box::new(ClassicGroup::new(group_id))));
        }
        self.offsets.set(&key.group, &key.topic, key.partition, OffsetAndMetadata::from(value));
    }
}

/// Whether the text has more than `max` UTF-16 units, which is how Kafka counts.
fn is_too_long(text: &str, max: usize) -> bool {
    text.len() > max && text.encode_utf16().count() > max
}

fn respond(
    topic: &OffsetCommitRequestTopic<'_>,
    codes: impl Iterator<Item = ErrorCode>,
) -> OffsetCommitResponseTopic<'static> {
    let partitions = topic.partitions.iter().zip(codes);
    OffsetCommitResponseTopic {
        name: topic.name.to_string().into(),
        topic_id: topic.topic_id,
        partitions: partitions
            .map(|(partition, code)| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.code(),
                ..OffsetCommitResponsePartition::default()
            })
            .collect(),
        ..OffsetCommitResponseTopic::default()
    }
}
