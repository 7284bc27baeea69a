//! DescribeQuorum (key 55): who keeps the metadata log (KIP-595, KIP-836, KIP-853). This node alone does.
//!
//! Source: `KafkaRaftClient.handleDescribeQuorumRequest`.

use std::borrow::Cow;

use coord::CoordError;
use coord::metadata::MetadataImage;
use coord::metadata::names::CLUSTER_METADATA_TOPIC;
use coord::types::BrokerId;
use protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};

use super::{Answer, Call};
use crate::logs::now_ms;

/// The leader of a quorum of one never changes.
const LEADER_EPOCH: i32 = 1;

const FIRST_VERSION_WITH_NODES: i16 = 2;

/// Answers from this shard's image.
pub async fn handle(call: Call) -> Answer {
    let request: DescribeQuorumRequest<'_> = call.decode()?;
    let image = call.shard.image();
    let mut response = response(&image, call.shard.broker_id(), now_ms(), &request);
    if call.version < FIRST_VERSION_WITH_NODES {
        response.nodes.clear();
    }
    call.respond(&response)
}

fn response<'a>(
    image: &'a MetadataImage,
    node: BrokerId,
    now_ms: i64,
    request: &'a DescribeQuorumRequest<'_>,
) -> DescribeQuorumResponse<'a> {
    // As in Kafka, anything else in the request spoils all of it.
    let is_for_the_quorum = match &request.topics[..] {
        [topic] => {
            topic.topic_name == CLUSTER_METADATA_TOPIC
                && matches!(&topic.partitions[..], [partition] if partition.partition_index == 0)
        }
        _ => false,
    };
    let topics = request.topics.iter().map(|topic| TopicData {
        topic_name: topic.topic_name.as_ref().into(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| match is_for_the_quorum {
                true => quorum(image, node, now_ms),
                false => unknown(partition.partition_index),
            })
            .collect(),
        ..Default::default()
    });
    let nodes = if is_for_the_quorum { nodes(image, node) } else { Vec::new() };
    DescribeQuorumResponse {
        error_message: Some(Cow::Borrowed("")),
        topics: topics.collect(),
        nodes,
        ..Default::default()
    }
}

/// The image has what is durable in the metadata log, and nothing else.
fn quorum(image: &MetadataImage, node: BrokerId, now_ms: i64) -> PartitionData<'static> {
    let end_offset = image.next_offset();
    let this_node = ReplicaState {
        replica_id: node.0,
        log_end_offset: end_offset,
        last_fetch_timestamp: now_ms,
        last_caught_up_timestamp: now_ms,
        ..Default::default()
    };
    PartitionData {
        partition_index: 0,
        error_message: Some(Cow::Borrowed("")),
        leader_id: node.0,
        leader_epoch: LEADER_EPOCH,
        high_watermark: end_offset,
        current_voters: vec![this_node],
        ..Default::default()
    }
}

fn unknown(partition_index: i32) -> PartitionData<'static> {
    let error = CoordError::UnknownTopicOrPartition;
    PartitionData {
        partition_index,
        error_code: error.code().code(),
        error_message: Some(Cow::Owned(error.to_string())),
        ..Default::default()
    }
}

fn nodes(image: &MetadataImage, node: BrokerId) -> Vec<Node<'_>> {
    let Some(broker) = image.broker(node) else { return Vec::new() };
    let listener = |endpoint: &'_ coord::metadata::Endpoint| Listener {
        name: Cow::Owned(endpoint.listener.clone()),
        host: Cow::Owned(endpoint.host.clone()),
        port: endpoint.port,
        ..Default::default()
    };
    let listeners = broker.endpoints.iter().map(listener).collect();
    vec![Node { node_id: node.0, listeners, ..Default::default() }]
}

#[cfg(test)]
mod tests {
    use protocol::messages::describe_quorum::{PartitionQuery, TopicQuery};

    use super::*;

    fn ask(topics: &[(&'static str, &[i32])]) -> Vec<(i32, i16)> {
        let query = |index: &i32| PartitionQuery { partition_index: *index, ..Default::default() };
        let topics = topics.iter().map(|(name, partitions)| TopicQuery {
            topic_name: (*name).into(),
            partitions: partitions.iter().map(query).collect(),
            ..Default::default()
        });
        let request = DescribeQuorumRequest { topics: topics.collect(), ..Default::default() };
        let image = MetadataImage::new();
        let answer = response(&image, BrokerId(7), 1, &request);
        let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
        rows.map(|row| (row.leader_id, row.error_code)).collect()
    }

    #[test]
    fn only_the_metadata_log_by_itself_is_described() {
        assert_eq!(ask(&[(CLUSTER_METADATA_TOPIC, &[0])]), [(7, 0)]);
        assert_eq!(ask(&[(CLUSTER_METADATA_TOPIC, &[0, 0])]), [(0, 3), (0, 3)]);
        assert_eq!(ask(&[(CLUSTER_METADATA_TOPIC, &[1])]), [(0, 3)]);
        assert_eq!(ask(&[("t", &[0])]), [(0, 3)]);
        assert_eq!(ask(&[(CLUSTER_METADATA_TOPIC, &[0]), ("t", &[0])]), [(0, 3), (0, 3)]);
    }
}
