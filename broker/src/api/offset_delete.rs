//! OffsetDelete (key 47): a group forgets offsets of topics that it does not read any more.
//!
//! Partitions that do not exist are refused here, one by one. Source: KIP-496, `KafkaApis.handleOffsetDeleteRequest`.

use coord::group::GroupReply;
use coord::metadata::MetadataImage;
use protocol::ErrorCode;
use protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic, OffsetDeleteResponse,
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

use super::merge::merge_by_name;
use super::{Answer, Call};
use crate::groups::{self, GroupRequest, Patience};
use crate::partitions;

/// Asks the group's coordinator.
pub async fn handle(call: Call) -> Answer {
    let request: OffsetDeleteRequest<'_> = call.decode()?;
    let (known, refused) = split(&call.shard.image(), &request);
    let delete = groups::submit(
        &call,
        &request.group_id,
        Patience::None,
        GroupRequest::changed(&call, &known)?,
        |coordinator, context, request| coordinator.offset_delete(context, &request.decode()),
    );
    let mut response = match delete.await {
        Ok(GroupReply::OffsetDelete(response)) => response,
        Ok(other) => return Err(groups::requests::mismatch(&call, &other)),
        Err(error) => OffsetDeleteResponse { error_code: error.code(), ..Default::default() },
    };
    if response.error_code == 0 {
        merge_by_name(
            &mut response.topics,
            refused,
            |row| &row.name,
            |known, row| known.partitions.extend(row.partitions),
        );
    }
    call.respond(&response)
}

/// The request without partitions that do not exist, and the refusal of those.
fn split<'a>(
    image: &MetadataImage,
    request: &OffsetDeleteRequest<'a>,
) -> (OffsetDeleteRequest<'a>, Vec<OffsetDeleteResponseTopic<'static>>) {
    let mut known = OffsetDeleteRequest { topics: Vec::new(), ..request.clone() };
    let mut refused = Vec::new();
    for topic in &request.topics {
        let exists =
            |row: &OffsetDeleteRequestPartition| partitions::exists(image, &topic.name, row.partition_index);
        let (have, have_not): (Vec<_>, Vec<_>) = topic.partitions.iter().cloned().partition(exists);
        if !have.is_empty() {
            known.topics.push(OffsetDeleteRequestTopic { partitions: have, ..topic.clone() });
        }
        if !have_not.is_empty() {
            let row = |row: &OffsetDeleteRequestPartition| OffsetDeleteResponsePartition {
                partition_index: row.partition_index,
                error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code(),
            };
            refused.push(OffsetDeleteResponseTopic {
                name: topic.name.to_string().into(),
                partitions: have_not.iter().map(row).collect(),
            });
        }
    }
    (known, refused)
}
