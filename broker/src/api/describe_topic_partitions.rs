//! DescribeTopicPartitions (key 75): topics in pages (KIP-966).
//!
//! Source: `DescribeTopicPartitionsRequestHandler`, `KRaftMetadataCache.describeTopicResponse`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use coord::metadata::{MetadataImage, TopicImage, names};
use protocol::ErrorCode;
use protocol::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, NextCursor,
};

use super::metadata::{OPERATIONS_NOT_ASKED, TOPIC_OPERATIONS, offline_replicas};
use super::{Answer, Call};

/// Partitions in one answer (Kafka's `max.request.partition.size.limit`).
const MAX_PARTITIONS: i32 = 2000;

/// Answers from this shard's image.
pub async fn handle(call: Call) -> Answer {
    let request: DescribeTopicPartitionsRequest<'_> = call.decode()?;
    call.respond(&response(&call.shard.image(), &request))
}

fn response<'a>(
    image: &'a MetadataImage,
    request: &'a DescribeTopicPartitionsRequest<'_>,
) -> DescribeTopicPartitionsResponse<'a> {
    let (start, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_ref(), cursor.partition_index),
        None => ("", 0),
    };
    let asked: BTreeSet<&str> =
        request.topics.iter().map(|topic| topic.name.as_ref()).filter(|name| *name >= start).collect();
    let cursor_is_missing = request.cursor.is_some() && !request.topics.is_empty() && !asked.contains(start);
    if first_partition < 0 || cursor_is_missing {
        return invalid(request);
    }
    let mut page = Page {
        image,
        response: DescribeTopicPartitionsResponse::default(),
        room: request.response_partition_limit.clamp(1, MAX_PARTITIONS) as usize,
    };
    let first = |name: &str| if name == start { first_partition as usize } else { 0 };
    if request.topics.is_empty() {
        for topic in image.topics_from(start) {
            if !page.add(topic, first(&topic.name)) {
                break;
            }
        }
    } else {
        for name in asked {
            let goes_on = match image.topic(name) {
                Some(topic) => page.add(topic, first(name)),
                None => page.add_unknown(name),
            };
            if !goes_on {
                break;
            }
        }
    }
    page.response
}

/// An answer that grows until it is full.
struct Page<'a> {
    image: &'a MetadataImage,
    response: DescribeTopicPartitionsResponse<'a>,
    room: usize,
}

impl<'a> Page<'a> {
    /// Adds partitions of a topic from `first` on; false if the page ends here.
    fn add(&mut self, topic: &'a TopicImage, first: usize) -> bool {
        if self.room == 0 {
            return self.end(&topic.name, 0);
        }
        let partitions: Vec<_> = topic
            .indexed_partitions()
            .skip(first)
            .take(self.room)
            .map(|(index, partition)| DescribeTopicPartitionsResponsePartition {
                error_code: match self.image.is_active(partition.leader) {
                    true => ErrorCode::NONE.code(),
                    false => ErrorCode::LEADER_NOT_AVAILABLE.code(),
                },
                partition_index: index.0,
                leader_id: partition.leader.0,
                leader_epoch: partition.leader_epoch.0,
                replica_nodes: partition.replicas.iter().map(|id| id.0).collect(),
                isr_nodes: partition.in_sync_replicas.iter().map(|id| id.0).collect(),
                eligible_leader_replicas: Some(Vec::new()),
                last_known_elr: Some(Vec::new()),
                offline_replicas: offline_replicas(self.image, partition),
                ..Default::default()
            })
            .collect();
        self.room -= partitions.len();
        let next = first + partitions.len();
        self.response.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(Cow::Borrowed(&topic.name)),
            topic_id: topic.id,
            is_internal: topic.is_internal(),
            partitions,
            topic_authorized_operations: TOPIC_OPERATIONS,
            ..Default::default()
        });
        if next < topic.partitions.len() { self.end(&topic.name, next as i32) } else { true }
    }

    fn add_unknown(&mut self, name: &'a str) -> bool {
        if self.room == 0 {
            return self.end(name, 0);
        }
        self.response.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: match names::validate(name) {
                Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code(),
                Err(error) => error.code().code(),
            },
            name: Some(Cow::Borrowed(name)),
            is_internal: names::is_internal(name),
            topic_authorized_operations: OPERATIONS_NOT_ASKED,
            ..Default::default()
        });
        true
    }

    fn end(&mut self, topic: &'a str, partition_index: i32) -> bool {
        let topic_name = Cow::Borrowed(topic);
        self.response.next_cursor = Some(NextCursor { topic_name, partition_index, ..Default::default() });
        false
    }
}

fn invalid<'a>(request: &'a DescribeTopicPartitionsRequest<'_>) -> DescribeTopicPartitionsResponse<'a> {
    let topics = request
        .topics
        .iter()
        .map(|topic| DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::INVALID_REQUEST.code(),
            name: Some(Cow::Borrowed(&topic.name)),
            topic_authorized_operations: OPERATIONS_NOT_ASKED,
            ..Default::default()
        })
        .collect();
    DescribeTopicPartitionsResponse { topics, ..Default::default() }
}
