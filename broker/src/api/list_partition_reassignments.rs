//! ListPartitionReassignments (key 46): which partitions are on their way to other brokers (KIP-455).

use std::borrow::Cow;

use coord::metadata::MetadataImage;
use coord::metadata::decide::reassignments;
use coord::types::BrokerId;
use protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, OngoingPartitionReassignment,
    OngoingTopicReassignment,
};

use super::{Answer, Call};

/// Answers from this shard's image.
pub async fn handle(call: Call) -> Answer {
    let request: ListPartitionReassignmentsRequest<'_> = call.decode()?;
    let image = call.shard.image();
    call.respond(&ListPartitionReassignmentsResponse {
        error_message: None,
        topics: under_way(&image, &request),
        ..Default::default()
    })
}

fn under_way<'a>(
    image: &'a MetadataImage,
    request: &ListPartitionReassignmentsRequest<'_>,
) -> Vec<OngoingTopicReassignment<'a>> {
    let is_asked = |topic: &str, partition: i32| match &request.topics {
        None => true,
        Some(topics) => {
            topics.iter().any(|asked| asked.name == topic && asked.partition_indexes.contains(&partition))
        }
    };
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.0).collect();
    let mut topics: Vec<OngoingTopicReassignment<'a>> = Vec::new();
    for (topic, partition, state) in reassignments(image) {
        if !is_asked(&topic.name, partition.0) {
            continue;
        }
        let row = OngoingPartitionReassignment {
            partition_index: partition.0,
            replicas: ids(&state.replicas),
            adding_replicas: ids(&state.adding_replicas),
            removing_replicas: ids(&state.removing_replicas),
            ..Default::default()
        };
        // They come in the order of their topics.
        match topics.last_mut().filter(|last| last.name == *topic.name) {
            Some(last) => last.partitions.push(row),
            None => topics.push(OngoingTopicReassignment {
                name: Cow::Borrowed(&topic.name),
                partitions: vec![row],
                ..Default::default()
            }),
        }
    }
    topics
}
