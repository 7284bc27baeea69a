//! Moving partitions to other brokers (KIP-455).
//!
//! Replicas cannot move yet: a cluster has one broker. What is asked for is checked all the same, so that a tool hears what is wrong with it,
//! and a partition may be "moved" to where it is.

use super::partitions::check_manual_assignment;
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

/// Says whether a reassignment is carried out, which it is at once if nothing has to move.
pub fn check_reassignment(
    image: &MetadataImage,
    topic: &str,
    partition: PartitionId,
    reassignment: &Reassignment,
    allow_replication_factor_change: bool,
) -> Result<(), CoordError> {
    let missing = CoordError::NoSuchTopicOrPartition;
    let topic_image =
        image.topic(topic).ok_or_else(|| missing(format!("Unable to find a topic named {topic}.")))?;
    let state = topic_image
        .partition(partition)
        .ok_or_else(|| missing(format!("Unable to find partition {topic}:{}.", partition.0)))?;
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
