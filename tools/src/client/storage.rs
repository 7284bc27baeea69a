//! What brokers have on their disks: log folders with their sizes, and the deletion of old records.

use std::collections::BTreeMap;

use protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use protocol::messages::describe_log_dirs::DescribableLogDirTopic;
use protocol::messages::{DeleteRecordsRequest, DescribeLogDirsRequest};

use super::error::{ClientError, check};
use super::{Client, Topic, TopicPartition};

/// A folder in which a broker keeps logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDir {
    /// The broker's id.
    pub broker: i32,
    /// The folder's path there.
    pub path: String,
    /// Size of the volume in bytes, if the broker tells.
    pub total_bytes: Option<u64>,
    /// What is free of it, if the broker tells.
    pub usable_bytes: Option<u64>,
    /// The replicas in it.
    pub replicas: Vec<ReplicaSize>,
}

/// The log of one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSize {
    /// The partition.
    pub partition: TopicPartition,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Client {
    /// The log folders of a broker with all replicas, or only with those of `topic`.
    pub fn log_dirs(&mut self, broker: i32, topic: Option<&Topic>) -> Result<Vec<LogDir>, ClientError> {
        let topics = topic.map(|topic| {
            vec![DescribableLogDirTopic {
                topic: topic.name.as_str().into(),
                partitions: topic.partitions.iter().map(|partition| partition.index).collect(),
                ..Default::default()
            }]
        });
        let response = self.broker(broker)?.call(&DescribeLogDirsRequest { topics, ..Default::default() })?;
        check(|| format!("log folders of broker {broker}"), response.error_code, None)?;
        let mut dirs = Vec::new();
        for result in &response.results {
            check(|| format!("log folder {} of broker {broker}", result.log_dir), result.error_code, None)?;
            let mut replicas = Vec::new();
            for topic in &result.topics {
                for replica in topic.partitions.iter().filter(|replica| !replica.is_future_key) {
                    replicas.push(ReplicaSize {
                        partition: TopicPartition::new(topic.name.as_ref(), replica.partition_index),
                        bytes: u64::try_from(replica.partition_size).unwrap_or_default(),
                    });
                }
            }
            dirs.push(LogDir {
                broker,
                path: result.log_dir.to_string(),
                total_bytes: u64::try_from(result.total_bytes).ok(),
                usable_bytes: u64::try_from(result.usable_bytes).ok(),
                replicas,
            });
        }
        Ok(dirs)
    }

    /// Deletes the records below the given offsets; the partitions' new log start offsets. -1 stands for the high watermark.
    pub fn delete_records(
        &mut self,
        topic: &Topic,
        before: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<DeleteRecordsPartition>> = BTreeMap::new();
        for (partition, offset) in before {
            let leader = topic.partition(partition.partition).map_or(-1, |known| known.leader);
            by_leader.entry(leader).or_default().push(DeleteRecordsPartition {
                partition_index: partition.partition,
                offset: *offset,
                ..Default::default()
            });
        }
        let timeout_ms = self.timeout_ms();
        let mut starts = BTreeMap::new();
        for (leader, partitions) in by_leader {
            let name = topic.name.as_str().into();
            let request = DeleteRecordsRequest {
                topics: vec![DeleteRecordsTopic { name, partitions, ..Default::default() }],
                timeout_ms,
                ..Default::default()
            };
            let response = self.broker(leader)?.call(&request)?;
            for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
                let partition = TopicPartition::new(&topic.name, answer.partition_index);
                check(|| format!("deleting records of {partition}"), answer.error_code, None)?;
                starts.insert(partition, answer.low_watermark);
            }
        }
        Ok(starts)
    }
}
