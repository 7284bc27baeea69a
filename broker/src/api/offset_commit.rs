//! OffsetCommit (key 8): how far a group has read.
//!
//! Partitions that do not exist are refused here, one by one; what is left goes to the group's coordinator and is answered when it is durable.
//! Source: `KafkaApis.handleOffsetCommitRequest`, `GroupCoordinatorService.commitOffsets`.

use coord::group::GroupReply;
use coord::metadata::MetadataImage;
use protocol::ErrorCode;
use protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

use super::merge::merge_by_name;
use super::{Answer, Call, Refusal};
use crate::groups::{self, GroupRequest, Patience};
use crate::partitions;

/// Asks the group's coordinator.
pub async fn handle(call: Call) -> Answer {
    let request: OffsetCommitRequest<'_> = call.decode()?;
    let image = call.shard.image();
    let are_known = |topic: &OffsetCommitRequestTopic<'_>| {
        topic.partitions.iter().all(|row| partitions::exists(&image, &topic.name, row.partition_index))
    };
    if request.topics.iter().all(are_known) {
        let response = commit(&call, &request, GroupRequest::of(&call)).await?;
        return call.respond(&response);
    }
    let (known, refused) = split(&image, &request);
    drop(image);
    let mut response = OffsetCommitResponse { topics: refused, ..Default::default() };
    // As in Kafka, a request that is empty from the start does reach the group.
    if !known.topics.is_empty() {
        let submitted = GroupRequest::changed(&call, &known)?;
        merge(&mut response, commit(&call, &known, submitted).await?);
    }
    call.respond(&response)
}

async fn commit(
    call: &Call,
    request: &OffsetCommitRequest<'_>,
    submitted: GroupRequest,
) -> Result<OffsetCommitResponse<'static>, Refusal> {
    let commit = groups::submit(
        call,
        &request.group_id,
        Patience::None,
        submitted,
        |coordinator, context, request| coordinator.offset_commit(context, &request.decode()),
    );
    match commit.await {
        Ok(GroupReply::OffsetCommit(response)) => Ok(response),
        Ok(other) => Err(groups::requests::mismatch(call, &other)),
        Err(error) => Ok(failed(request, error)),
    }
}

/// The request without partitions that do not exist, and the refusal of those.
fn split<'a>(
    image: &MetadataImage,
    request: &OffsetCommitRequest<'a>,
) -> (OffsetCommitRequest<'a>, Vec<OffsetCommitResponseTopic<'static>>) {
    let mut known = OffsetCommitRequest { topics: Vec::new(), ..request.clone() };
    let mut refused = Vec::new();
    for topic in &request.topics {
        let exists = |row: &OffsetCommitRequestPartition<'_>| {
            partitions::exists(image, &topic.name, row.partition_index)
        };
        let (have, have_not): (Vec<_>, Vec<_>) = topic.partitions.iter().cloned().partition(exists);
        if !have.is_empty() {
            known.topics.push(OffsetCommitRequestTopic { partitions: have, ..topic.clone() });
        }
        if !have_not.is_empty() {
            let indexes = have_not.iter().map(|row| row.partition_index);
            refused.push(topic_error(&topic.name, indexes, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        }
    }
    (known, refused)
}

/// The whole request has failed: each partition says so.
fn failed(request: &OffsetCommitRequest<'_>, error: ErrorCode) -> OffsetCommitResponse<'static> {
    let topics = request
        .topics
        .iter()
        .map(|topic| topic_error(&topic.name, topic.partitions.iter().map(|row| row.partition_index), error));
    OffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}

fn topic_error(
    name: &str,
    partitions: impl Iterator<Item = i32>,
    error: ErrorCode,
) -> OffsetCommitResponseTopic<'static> {
    let row = |partition_index| OffsetCommitResponsePartition {
        partition_index,
        error_code: error.code(),
        ..Default::default()
    };
    OffsetCommitResponseTopic {
        name: name.to_owned().into(),
        partitions: partitions.map(row).collect(),
        ..Default::default()
    }
}

/// Adds the coordinator's answer to the refusals, each topic once.
fn merge(response: &mut OffsetCommitResponse<'static>, answer: OffsetCommitResponse<'static>) {
    merge_by_name(
        &mut response.topics,
        answer.topics,
        |row| &row.name,
        |known, row| known.partitions.extend(row.partitions),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_do_not_exist_are_refused_and_the_others_are_not() {
        let mut image = MetadataImage::default();
        let broker = coord::types::BrokerId(1);
        let partition = coord::metadata::PartitionImage::new(broker, [broker].into(), [broker].into());
        let topic = coord::metadata::MetadataRecord::Topic {
            topic_id: uuid::Uuid::from_u128(1),
            name: "t".into(),
            configs: vec![],
            partitions: vec![partition.clone(), partition],
        };
        image.replay(&topic).unwrap();
        let rows = |indexes: &[i32]| {
            let row =
                |&partition_index| OffsetCommitRequestPartition { partition_index, ..Default::default() };
            indexes.iter().map(row).collect::<Vec<_>>()
        };
        let request = OffsetCommitRequest {
            group_id: "g".into(),
            topics: vec![
                OffsetCommitRequestTopic {
                    name: "t".into(),
                    partitions: rows(&[1, 2, -1, 0]),
                    ..Default::default()
                },
                OffsetCommitRequestTopic {
                    name: "gone".into(),
                    partitions: rows(&[0]),
                    ..Default::default()
                },
            ],
            ..Default::default()
        };
        let (known, topics) = split(&image, &request);
        assert_eq!(known.topics.len(), 1);
        assert_eq!(known.topics[0].partitions, rows(&[1, 0]));
        let mut response = OffsetCommitResponse { topics, ..Default::default() };
        merge(&mut response, failed(&known, ErrorCode::NONE));
        let of = |topic: &OffsetCommitResponseTopic<'_>| {
            let rows = topic.partitions.iter().map(|row| (row.partition_index, row.error_code));
            (topic.name.to_string(), rows.collect::<Vec<_>>())
        };
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code();
        assert_eq!(
            response.topics.iter().map(of).collect::<Vec<_>>(),
            [
                ("t".to_owned(), vec![(2, unknown), (-1, unknown), (1, 0), (0, 0)]),
                ("gone".to_owned(), vec![(0, unknown)])
            ]
        );
    }
}
