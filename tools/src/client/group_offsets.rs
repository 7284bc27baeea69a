//! What groups have committed.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use protocol::error::ErrorCode;
use protocol::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::offset_delete::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use protocol::messages::offset_fetch::OffsetFetchRequestGroup;
use protocol::messages::{OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest};

use super::error::{ClientError, check};
use super::{Client, TopicPartition};

/// Versions of OffsetFetch that name groups and topics; later ones know topics by their ids only.
const FETCH_BY_NAME: RangeInclusive<i16> = 8..=9;
/// Versions of OffsetCommit that name topics.
const COMMIT_BY_NAME: RangeInclusive<i16> = 2..=9;
/// Generation of a commit that comes from no member.
const NO_MEMBER: (&str, i32) = ("", -1);

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The offset of the next record to read.
    pub offset: i64,
    /// What the consumer has written beside it.
    pub metadata: String,
}

impl Client {
    /// All that a group has committed.
    pub fn committed(&mut self, group: &str) -> Result<BTreeMap<TopicPartition, Committed>, ClientError> {
        self.at_coordinator(group, |connection| {
            let asked =
                OffsetFetchRequestGroup { group_id: group.into(), topics: None, ..Default::default() };
            let request = OffsetFetchRequest { groups: vec![asked], ..Default::default() };
            let response = connection.call_in(&request, FETCH_BY_NAME)?;
            let what = || format!("offsets of group '{group}'");
            let mut committed = BTreeMap::new();
            for answer in &response.groups {
                check(what, answer.error_code, None)?;
                for topic in &answer.topics {
                    for partition in &topic.partitions {
                        check(what, partition.error_code, None)?;
                        if partition.committed_offset >= 0 {
                            let metadata = partition.metadata.as_deref().unwrap_or_default().to_owned();
                            committed.insert(
                                TopicPartition::new(topic.name.as_ref(), partition.partition_index),
                                Committed { offset: partition.committed_offset, metadata },
                            );
                        }
                    }
                }
            }
            Ok(committed)
        })
    }

    /// Commits offsets for a group: as its member with this id and epoch, or, if it has no members, from outside.
    pub fn commit(
        &mut self,
        group: &str,
        member: Option<(&str, i32)>,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<(), ClientError> {
        let (member_id, epoch) = member.unwrap_or(NO_MEMBER);
        self.at_coordinator(group, |connection| {
            let mut topics: Vec<OffsetCommitRequestTopic<'_>> = Vec::new();
            for (partition, offset) in offsets {
                let asked = OffsetCommitRequestPartition {
                    partition_index: partition.partition,
                    committed_offset: *offset,
                    committed_metadata: Some("".into()),
                    ..Default::default()
                };
                match topics.last_mut() {
                    Some(topic) if topic.name == partition.topic.as_str() => topic.partitions.push(asked),
                    _ => topics.push(OffsetCommitRequestTopic {
                        name: partition.topic.as_str().into(),
                        partitions: vec![asked],
                        ..Default::default()
                    }),
                }
            }
            let request = OffsetCommitRequest {
                group_id: group.into(),
                member_id: member_id.into(),
                generation_id_or_member_epoch: epoch,
                topics,
                ..Default::default()
            };
            let response = connection.call_in(&request, COMMIT_BY_NAME)?;
            for topic in &response.topics {
                for answer in &topic.partitions {
                    let what =
                        || format!("committing {}-{} of group '{group}'", topic.name, answer.partition_index);
                    check(what, answer.error_code, None)?;
                }
            }
            Ok(())
        })
    }

    /// Deletes what a group has committed for these partitions.
    pub fn delete_offsets(&mut self, group: &str, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        let mut by_topic: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
        for partition in partitions {
            let asked = OffsetDeleteRequestPartition { partition_index: partition.partition };
            by_topic.entry(&partition.topic).or_default().push(asked);
        }
        let outcome = self.at_coordinator(group, |connection| {
            let topics = by_topic.iter().map(|(name, partitions)| OffsetDeleteRequestTopic {
                name: (*name).into(),
                partitions: partitions.clone(),
            });
            let request = OffsetDeleteRequest { group_id: group.into(), topics: topics.collect() };
            let response = connection.call(&request)?;
            check(|| format!("deleting offsets of group '{group}'"), response.error_code, None)?;
            for topic in &response.topics {
                for answer in &topic.partitions {
                    let what = || {
                        format!(
                            "deleting offsets of {}-{} in group '{group}'",
                            topic.name, answer.partition_index
                        )
                    };
                    check(what, answer.error_code, None)?;
                }
            }
            Ok(())
        });
        match outcome {
            Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => {
                Err(self.no_such_group(group))
            }
            outcome => outcome,
        }
    }
}
