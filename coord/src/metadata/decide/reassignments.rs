//! Moving partitions to other brokers (KIP-455).

use std::collections::HashSet;

use storage::TopicIdPartition;

use super::partitions::check_manual_assignment;
use super::{ClusterView, Decision, reassign_partition};
use crate::error::CoordError;
use crate::metadata::image::MetadataImage;
use crate::types::{BrokerId, PartitionId};

/// Where a partition shall go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reassignment {
    /// To these brokers.
    To(Vec<BrokerId>),
    /// Back to where it was before the reassignment that is under way.
    Cancel,
}

/// Starts, changes or calls off reassignments, by the names of their topics; an outcome for each, in their order.
pub fn reassign_partitions(
    view: ClusterView<'_>,
    reassignments: &[(String, PartitionId, Reassignment)],
    allow_replication_factor_change: bool,
) -> Decision<Vec<Result<(), CoordError>>> {
    let mut records = Vec::new();
    let mut changed = HashSet::new();
    let mut reassign = |topic: &str, partition: PartitionId, reassignment: &Reassignment| {
        let id = find(view.image, topic, partition)?;
        if !changed.insert(id) {
            let text = format!("Partition {topic}:{} appears more than once.", partition.0);
            return Err(CoordError::InvalidRequest(text));
        }
        let decision = reassign_partition(view, id, reassignment, allow_replication_factor_change)?;
        records.extend(decision.records);
        Ok(())
    };
    let reply = reassignments
        .iter()
        .map(|(topic, partition, reassignment)| reassign(topic, *partition, reassignment))
        .collect();
    Decision { records, reply }
}

fn find(image: &MetadataImage, topic: &str, partition: PartitionId) -> Result<TopicIdPartition, CoordError> {
    let missing = CoordError::NoSuchTopicOrPartition;
    let topic_image =
        image.topic(topic).ok_or_else(|| missing(format!("Unable to find a topic named {topic}.")))?;
    match topic_image.partition(partition) {
        Some(_) => Ok(TopicIdPartition { topic_id: topic_image.id, partition }),
        None => Err(missing(format!("Unable to find partition {topic}:{}.", partition.0))),
    }
}

/// Says whether a reassignment is carried out where no replica can move: only to where it is. What is asked for is checked all the same, so that a tool hears
/// what is wrong with it.
pub fn check_reassignment(
    image: &MetadataImage,
    topic: &str,
    partition: PartitionId,
    reassignment: &Reassignment,
    allow_replication_factor_change: bool,
) -> Result<(), CoordError> {
    let id = find(image, topic, partition)?;
    let state = image.topic_by_id(id.topic_id).and_then(|topic| topic.partition(partition));
    let state = state.ok_or(CoordError::UnknownTopicOrPartition)?;
    let brokers = match reassignment {
        Reassignment::Cancel => return Err(CoordError::NoReassignmentInProgress),
        Reassignment::To(brokers) => brokers,
    };
    check_manual_assignment(image, brokers, None)?;
    if !allow_replication_factor_change && brokers.len() != state.replicas.len() {
        return Err(CoordError::InvalidReplicationFactor(format!(
            "The replication factor is changed from {} to {}",
            state.replicas.len(),
            brokers.len()
        )));
    }
    if brokers.as_slice() != &*state.replicas {
        let text = "Replicas cannot be moved in this version of the broker.";
        return Err(CoordError::InvalidReplicaAssignment(text.to_owned()));
    }
    Ok(())
}
