//! DescribeQuorum (key 55): who keeps the metadata log (KIP-595, KIP-836, KIP-853), as the active controller sees it. Offsets are indexes of the log.
//!
//! Source: `KafkaRaftClient.handleDescribeQuorumRequest`.

use std::borrow::Cow;

use coord::CoordError;
use coord::metadata::MetadataImage;
use coord::metadata::names::CLUSTER_METADATA_TOPIC;
use coord::quorum::MemberStatus;
use coord::types::BrokerId;
use protocol::ErrorCode;
use protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};

use uuid::Uuid;

use super::{Answer, Call};
use crate::cluster::CLUSTER_LISTENER;
use crate::controller::CONTROLLER_SHARD;
use crate::controller::quorum::QuorumStatus;
use crate::logs::now_ms;

const FIRST_VERSION_WITH_NODES: i16 = 2;

/// Answers from what shard 0 knows of the quorum.
pub async fn handle(call: Call) -> Answer {
    let request: DescribeQuorumRequest<'_> = call.decode()?;
    let status = call.shard.mesh.call(CONTROLLER_SHARD, |controller| {
        std::future::ready(controller.metadata.quorum().map(|quorum| quorum.status()))
    });
    let status = status.await.unwrap_or_default();
    let image = call.shard.image();
    let mut response = response(&image, &status, now_ms(), &request);
    if call.version < FIRST_VERSION_WITH_NODES {
        response.nodes.clear();
        let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for row in partitions.flat_map(|row| row.current_voters.iter_mut().chain(&mut row.observers)) {
            row.replica_directory_id = Uuid::nil();
        }
    }
    call.respond(&response)
}

fn response<'a>(
    image: &'a MetadataImage,
    status: &QuorumStatus,
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
                true => quorum(image, status, now_ms),
                false => unknown(partition.partition_index),
            })
            .collect(),
        ..Default::default()
    });
    let nodes = if is_for_the_quorum { nodes(image, status) } else { Vec::new() };
    DescribeQuorumResponse {
        error_message: Some(Cow::Borrowed("")),
        topics: topics.collect(),
        nodes,
        ..Default::default()
    }
}

fn quorum(image: &MetadataImage, status: &QuorumStatus, now_ms: i64) -> PartitionData<'static> {
    if status.members.is_empty() {
        let error = ErrorCode::NOT_LEADER_OR_FOLLOWER;
        return PartitionData {
            error_code: error.code(),
            error_message: Some(Cow::Borrowed(error.message())),
            ..Default::default()
        };
    }
    let offset = |index: u64| i64::try_from(index).unwrap_or(i64::MAX);
    let replica = |member: &MemberStatus| {
        // The leader knows who has answered lately, not when.
        let heard_ms = if member.is_active || member.id == status.leader { now_ms } else { -1 };
        ReplicaState {
            replica_id: member.id.0,
            replica_directory_id: image.node(member.id).map_or(Uuid::nil(), |node| node.directory),
            log_end_offset: offset(member.matched),
            last_fetch_timestamp: heard_ms,
            last_caught_up_timestamp: if member.matched >= status.committed { heard_ms } else { -1 },
            ..Default::default()
        }
    };
    let of_kind =
        |votes: bool| status.members.iter().filter(move |member| member.is_voter == votes).map(replica);
    PartitionData {
        partition_index: 0,
        error_message: Some(Cow::Borrowed("")),
        leader_id: status.leader.0,
        leader_epoch: i32::try_from(status.term).unwrap_or(i32::MAX),
        high_watermark: offset(status.committed),
        current_voters: of_kind(true).collect(),
        observers: of_kind(false).collect(),
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

/// Where the voters are: the listeners of those that are brokers, the internal one of those that are controllers only.
fn nodes<'a>(image: &'a MetadataImage, status: &QuorumStatus) -> Vec<Node<'a>> {
    let listener = |name: &'a str, host: &'a str, port: u16| Listener {
        name: Cow::Borrowed(name),
        host: Cow::Borrowed(host),
        port,
        ..Default::default()
    };
    let listeners = |id: BrokerId| match (image.broker(id), image.node(id)) {
        (Some(broker), _) => {
            let endpoints = broker.endpoints.iter();
            Some(endpoints.map(|known| listener(&known.listener, &known.host, known.port)).collect())
        }
        (None, Some(node)) => Some(vec![listener(CLUSTER_LISTENER, &node.host, node.port)]),
        (None, None) => None,
    };
    let voters = status.members.iter().filter(|member| member.is_voter);
    let node = |member: &MemberStatus| {
        Some(Node { node_id: member.id.0, listeners: listeners(member.id)?, ..Default::default() })
    };
    voters.filter_map(node).collect()
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
        let member = MemberStatus { id: BrokerId(7), is_voter: true, matched: 9, is_active: true };
        let status =
            QuorumStatus { leader: BrokerId(7), term: 2, committed: 9, last: 9, members: vec![member] };
        let answer = response(&image, &status, 1, &request);
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
