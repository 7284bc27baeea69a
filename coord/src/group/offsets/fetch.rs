//! OffsetFetch.

use protocol::ErrorCode;
use protocol::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
};

use super::store::OffsetAndMetadata;
use crate::group::coordinator::GroupCoordinator;
use crate::group::either::Group;

impl GroupCoordinator {
    /// Answers OffsetFetch for one group, in the form that requests have since version 8. Topics `None` means all that have offsets.
    /// A partition without offset gets -1 and no error; so does every partition of a group that does not exist.
    ///
    /// `require_stable` asks not to be told offsets that a running transaction is about to change; no transaction can at present.
    pub fn offset_fetch(
        &self,
        request: &OffsetFetchRequestGroup<'_>,
        require_stable: bool,
    ) -> OffsetFetchResponseGroup<'static> {
        let _ = require_stable;
        let group_id = request.group_id.to_string().into();
        if let Some(Group::Consumer(group)) = self.groups.get(&*request.group_id)
            && let Err(code) = group.validate_offset_fetch(request.member_id.as_deref(), request.member_epoch)
        {
            return fetch_error(&request.group_id, code);
        }
        let offsets = self.offsets.group(&request.group_id);
        let topics = match &request.topics {
            Some(topics) => topics
                .iter()
                .map(|topic| {
                    let committed = offsets.and_then(|offsets| offsets.get(&*topic.name));
                    let partitions = topic.partition_indexes.iter().map(|partition| {
                        let offset = committed.and_then(|committed| committed.get(partition));
                        let offset = offset.filter(|offset| !offset.is_of_another_topic(topic.topic_id));
                        respond(*partition, offset)
                    });
                    OffsetFetchResponseTopics {
                        name: topic.name.to_string().into(),
                        topic_id: topic.topic_id,
                        partitions: partitions.collect(),
                        ..OffsetFetchResponseTopics::default()
                    }
                })
                .collect(),
            None => offsets
                .into_iter()
                .flatten()
                .map(|(topic, partitions)| OffsetFetchResponseTopics {
                    name: topic.to_string().into(),
                    partitions: partitions
                        .iter()
                        .map(|(partition, offset)| respond(*partition, Some(offset)))
                        .collect(),
                    ..OffsetFetchResponseTopics::default()
                })
                .collect(),
        };
        OffsetFetchResponseGroup { group_id, topics, ..OffsetFetchResponseGroup::default() }
    }
}

/// The answer for a group whose offsets cannot be told at all.
pub fn fetch_error(group_id: &str, code: ErrorCode) -> OffsetFetchResponseGroup<'static> {
    OffsetFetchResponseGroup {
        group_id: group_id.to_owned().into(),
        error_code: code.code(),
        ..OffsetFetchResponseGroup::default()
    }
}

fn respond(partition: i32, offset: Option<&OffsetAndMetadata>) -> OffsetFetchResponsePartitions<'static> {
    OffsetFetchResponsePartitions {
        partition_index: partition,
        committed_offset: offset.map_or(-1, |offset| offset.offset),
        committed_leader_epoch: offset.map_or(-1, |offset| offset.leader_epoch),
        metadata: Some(offset.map_or_else(String::new, |offset| offset.metadata.to_string()).into()),
        ..OffsetFetchResponsePartitions::default()
    }
}
