//! Topics, their leaders and offsets, as every subcommand needs them.

use std::collections::BTreeMap;

use protocol::error::ErrorCode;
use protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::messages::metadata::MetadataRequestTopic;
use protocol::messages::{ListOffsetsRequest, MetadataRequest};
use uuid::Uuid;

use super::Client;
use super::error::{ClientError, check};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
    /// Whether it is the broker's own.
    pub is_internal: bool,
    /// Its partitions, ascending.
    pub partitions: Vec<Partition>,
}

/// A position that only the broker can turn into an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The oldest record that is there.
    Earliest,
    /// The end.
    Latest,
    /// The first record with this timestamp (ms since 1970) or a later one.
    Timestamp(i64),
}

impl OffsetSpec {
    /// The number that stands for it in ListOffsets.
    fn wire(self) -> i64 {
        match self {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::Timestamp(timestamp_ms) => timestamp_ms,
        }
    }
}

impl Client {
    /// All topics, by name.
    pub fn topics(&mut self) -> Result<Vec<Topic>, ClientError> {
        self.metadata(None)
    }

    /// One topic. With `create`, a broker that allows it makes the topic.
    pub fn topic(&mut self, name: &str, create: bool) -> Result<Topic, ClientError> {
        self.metadata(Some((name, create)))?
            .pop()
            .ok_or_else(|| ClientError::NoSuchTopic { name: name.to_owned() })
    }

    fn metadata(&mut self, one: Option<(&str, bool)>) -> Result<Vec<Topic>, ClientError> {
        let request = MetadataRequest {
            topics: one.map(|(name, _)| {
                vec![MetadataRequestTopic { name: Some(name.into()), ..Default::default() }]
            }),
            allow_auto_topic_creation: one.is_some_and(|(_, create)| create),
            ..Default::default()
        };
        let response = self.any()?.call(&request)?;
        let brokers: BTreeMap<i32, String> = response
            .brokers
            .iter()
            .map(|broker| (broker.node_id, format!("{}:{}", broker.host, broker.port)))
            .collect();
        let mut topics = Vec::new();
        for topic in &response.topics {
            let name = topic.name.as_deref().unwrap_or_default();
            match ErrorCode(topic.error_code) {
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                    return Err(ClientError::NoSuchTopic { name: name.to_owned() });
                }
                code if one.is_some() => check(|| format!("topic {name}"), code.code(), None)?,
                _ => {}
            }
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
            topics.push(Topic {
                name: name.to_owned(),
                id: topic.topic_id,
                is_internal: topic.is_internal,
                partitions,
            });
        }
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.brokers = brokers;
        Ok(topics)
    }

    /// The offset of each of `partitions` at `spec`, asked of their leaders. A timestamp later than every record gives -1.
    pub fn offsets(
        &mut self,
        topic: &Topic,
        partitions: &[i32],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<i32, i64>, ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in topic.partitions.iter().filter(|partition| partitions.contains(&partition.index)) {
            by_leader.entry(partition.leader).or_default().push(partition.index);
        }
        let mut offsets = BTreeMap::new();
        for (leader, indexes) in by_leader {
            let asked = indexes
                .iter()
                .map(|index| ListOffsetsPartition {
                    partition_index: *index,
                    timestamp: spec.wire(),
                    ..Default::default()
                })
                .collect();
            let request = ListOffsetsRequest {
                replica_id: -1,
                topics: vec![ListOffsetsTopic {
                    name: topic.name.as_str().into(),
                    partitions: asked,
                    ..Default::default()
                }],
                ..Default::default()
            };
            let response = self.broker(leader)?.call(&request)?;
            for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
                check(
                    || format!("offsets of {}-{}", topic.name, answer.partition_index),
                    answer.error_code,
                    None,
                )?;
                offsets.insert(answer.partition_index, answer.offset);
            }
        }
        Ok(offsets)
    }
}
