//! What clients make of answers, and what they ask in the same way: topics and brokers out of Metadata, offsets at a time, acks.

use std::collections::BTreeMap;
use std::fmt;

use uuid::Uuid;

use crate::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use crate::messages::metadata::MetadataResponseTopic;
use crate::messages::{ListOffsetsRequest, MetadataResponse};

/// The timestamp that stands for the end of a partition in ListOffsets.
pub const LATEST_TIMESTAMP: i64 = -1;
/// The timestamp that stands for the first record that is there in ListOffsets.
pub const EARLIEST_TIMESTAMP: i64 = -2;

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<String>, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A partition as metadata shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// Broker id of its leader, or -1.
    pub leader: i32,
    /// Epoch of the leader, or -1.
    pub leader_epoch: i32,
    /// Broker ids of all replicas, preferred leader first.
    pub replicas: Vec<i32>,
    /// Broker ids of those in sync.
    pub in_sync_replicas: Vec<i32>,
}

/// A topic as metadata shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id; nil from brokers older than Kafka 2.8.
    pub id: Uuid,
    /// Whether it is the broker's own.
    pub is_internal: bool,
    /// Its partitions, ascending.
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// The partition with this number.
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.index == index)
    }

    /// All its partitions by name.
    pub fn topic_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.partitions.iter().map(|partition| TopicPartition::new(&self.name, partition.index))
    }
}

impl From<&MetadataResponseTopic<'_>> for Topic {
    fn from(topic: &MetadataResponseTopic<'_>) -> Topic {
        let mut partitions: Vec<Partition> = topic
            .partitions
            .iter()
            .map(|partition| Partition {
                index: partition.partition_index,
                leader: partition.leader_id,
                leader_epoch: partition.leader_epoch,
                replicas: partition.replica_nodes.clone(),
                in_sync_replicas: partition.isr_nodes.clone(),
            })
            .collect();
        partitions.sort_unstable_by_key(|partition| partition.index);
        Topic {
            name: topic.name.as_deref().unwrap_or_default().to_owned(),
            id: topic.topic_id,
            is_internal: topic.is_internal,
            partitions,
        }
    }
}

/// Where the brokers of an answer listen, as `host:port`, by id.
pub fn broker_addresses(response: &MetadataResponse<'_>) -> BTreeMap<i32, String> {
    let address = |host: &str, port: i32| format!("{host}:{port}");
    response.brokers.iter().map(|broker| (broker.node_id, address(&broker.host, broker.port))).collect()
}

/// Asks a leader for the first offset at `timestamp` (ms since 1970, or one of the special values) or later, in each of these
/// partitions of each topic.
pub fn list_offsets<'a>(
    topics: impl IntoIterator<Item = (&'a str, Vec<i32>)>,
    timestamp: i64,
) -> ListOffsetsRequest<'a> {
    let partition =
        |partition_index| ListOffsetsPartition { partition_index, timestamp, ..Default::default() };
    let topic = |(name, partitions): (&'a str, Vec<i32>)| ListOffsetsTopic {
        name: name.into(),
        partitions: partitions.into_iter().map(partition).collect(),
        ..Default::default()
    };
    ListOffsetsRequest {
        replica_id: -1,
        topics: topics.into_iter().map(topic).collect(),
        ..Default::default()
    }
}

/// Reads the acks of a produce request from a command line.
///
/// # Errors
/// What is allowed.
pub fn parse_acks(text: &str) -> Result<i16, String> {
    match text {
        "0" => Ok(0),
        "1" => Ok(1),
        "all" | "-1" => Ok(-1),
        _ => Err("write 0, 1 or all".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::metadata::{MetadataResponseBroker, MetadataResponsePartition};

    #[test]
    fn a_topic_has_its_partitions_in_order() {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 10 + partition_index,
            ..Default::default()
        };
        let answer = MetadataResponseTopic {
            name: Some("t".into()),
            partitions: vec![partition(2), partition(0)],
            ..Default::default()
        };
        let topic = Topic::from(&answer);
        assert_eq!(topic.topic_partitions().map(|p| p.to_string()).collect::<Vec<_>>(), ["t-0", "t-2"]);
        assert_eq!(topic.partition(2).map(|partition| partition.leader), Some(12));
        assert_eq!(topic.partition(1), None);
    }

    #[test]
    fn brokers_are_found_by_id() {
        let broker =
            MetadataResponseBroker { node_id: 3, host: "h".into(), port: 9092, ..Default::default() };
        let response = MetadataResponse { brokers: vec![broker], ..Default::default() };
        assert_eq!(broker_addresses(&response), BTreeMap::from([(3, "h:9092".to_owned())]));
    }
}
