//! OffsetDelete, and what becomes of the offsets of deleted topics.

use std::rc::Rc;

use protocol::ErrorCode;
use protocol::messages::group_log::OffsetCommitKey;
use protocol::messages::offset_delete::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::TombstoneBudget;
use crate::group::api::{GroupReply, Output, RequestContext};
use crate::group::coordinator::GroupCoordinator;
use crate::group::record::GroupRecord;
use crate::group::timers::Timer;

/// How long after the last batch of tombstones it is looked whether all were appended, in ms.
const RECHECK_MS: i64 = 10_000;

/// The record that removes an offset.
pub(in crate::group) fn offset_tombstone(
    group_id: &str,
    topic: &str,
    partition: i32,
) -> GroupRecord<'static> {
    let key =
        OffsetCommitKey { group: group_id.to_owned().into(), topic: topic.to_owned().into(), partition };
    GroupRecord::OffsetCommit(key, None)
}

impl GroupCoordinator {
    /// OffsetDelete, version 0. That the topics exist is for the caller to check.
    pub fn offset_delete(
        &mut self,
        context: &RequestContext<'_>,
        request: &OffsetDeleteRequest<'_>,
    ) -> Output {
        self.advance_clock(context.now_ms);
        let group = match self.groups.get(&*request.group_id) {
            _ if request.group_id.is_empty() => Err(ErrorCode::INVALID_GROUP_ID),
            None => Err(ErrorCode::GROUP_ID_NOT_FOUND),
            Some(group) => group.validate_offset_delete().map(|()| group),
        };
        let group = match group {
            Ok(group) => group,
            Err(code) => {
                let error_code = code.code();
                let reply = OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() };
                return Output::reply(context.token, GroupReply::OffsetDelete(reply));
            }
        };
        let mut records = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let code = if group.is_subscribed_to_topic(&topic.name) {
                ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC
            } else {
                ErrorCode::NONE
            };
            let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
            for partition in indexes.clone().filter(|_| code.is_none()) {
                if self.offsets.get(&request.group_id, &topic.name, partition).is_some() {
                    records.push(offset_tombstone(&request.group_id, &topic.name, partition));
                }
            }
            let partitions = indexes.map(|partition_index| OffsetDeleteResponsePartition {
                partition_index,
                error_code: code.code(),
            });
            topics.push(OffsetDeleteResponseTopic {
                name: topic.name.to_string().into(),
                partitions: partitions.collect(),
            });
        }
        let reply = OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() };
        Output { records, replies: vec![(context.token, GroupReply::OffsetDelete(reply))] }
    }

    /// Forgets the committed offsets of topics that were deleted: some at once, the rest in later ticks. Offsets that are committed
    /// meanwhile, to new topics of the same names, stay.
    pub fn topics_deleted(&mut self, topics: &[&str]) -> Output {
        for (group_id, offsets) in self.offsets.groups() {
            for topic in topics {
                let Some((topic, partitions)) = offsets.get_key_value(*topic) else { continue };
                for partition in partitions.keys() {
                    self.cleanup.deleted.insert((group_id.clone(), topic.clone(), *partition));
                }
            }
        }
        self.forget_deleted_topics()
    }

    /// The next batch of tombstones for offsets of deleted topics. They are crossed out when they are replayed.
    pub(in crate::group) fn forget_deleted_topics(&mut self) -> Output {
        let mut output = Output::default();
        let mut budget = TombstoneBudget::default();
        for (group_id, topic, partition) in &self.cleanup.deleted {
            if !budget.take(group_id, topic) {
                break;
            }
            output.records.push(offset_tombstone(group_id, topic, *partition));
        }
        if !output.records.is_empty() {
            let is_all = output.records.len() == self.cleanup.deleted.len();
            let rest_ms = if is_all { RECHECK_MS } else { 0 };
            self.timers.schedule(Timer::DeletedTopics, self.now_ms + rest_ms);
        }
        output
    }
}

/// An offset that is to be removed: group, topic, partition.
pub(super) type DoomedOffset = (Rc<str>, Rc<str>, i32);
