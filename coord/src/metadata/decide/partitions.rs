//! New partitions, of new topics and of old ones.

use super::{DecideContext, Decision};
use crate::error::CoordError;
use crate::metadata::image::{MetadataImage, PartitionImage};
use crate::metadata::record::MetadataRecord;
use crate::metadata::{names, placement};
use crate::types::{BrokerId, LeaderEpoch, PartitionId};

/// Partitions to add to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatePartitions {
    /// The topic's name.
    pub topic: String,
    /// The number of partitions that the topic shall have in the end.
    pub count: i32,
    /// Brokers of each new partition; `None` lets the controller choose.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// Adds partitions to a topic (KIP-195).
pub fn create_partitions(
    image: &MetadataImage,
    command: &CreatePartitions,
    validate_only: bool,
    context: &mut DecideContext<'_>,
) -> Result<Decision<()>, CoordError> {
    names::validate(&command.topic)?;
    let topic = image.topic(&command.topic).ok_or(CoordError::UnknownTopicOrPartition)?;
    let current = topic.partitions.len() as i32;
    let wanted = command.count;
    if wanted == current {
        let text = format!("Topic already has {current} partition(s).");
        return Err(CoordError::InvalidPartitions(text));
    }
    if wanted < current {
        let text = format!(
            "The topic {} currently has {current} partition(s); {wanted} would not be an increase.",
            command.topic
        );
        return Err(CoordError::InvalidPartitions(text));
    }
    let additional = (wanted - current) as usize;
    if additional > super::MAX_PARTITIONS_PER_REQUEST {
        let text = "Excessively large number of partitions per request.";
        return Err(CoordError::PolicyViolation(text.to_owned()));
    }
    let factor = topic.partitions[0].replicas.len();
    let placed: Vec<Box<[BrokerId]>> = match &command.assignments {
        Some(assignments) => {
            if assignments.len() != additional {
                let text = format!(
                    "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
                    assignments.len()
                );
                return Err(CoordError::InvalidReplicaAssignment(text));
            }
            for brokers in assignments {
                check_manual_assignment(image, brokers, Some(factor))?;
            }
            assignments.iter().map(|brokers| brokers.as_slice().into()).collect()
        }
        None => placement::place(image, additional, factor as i16, context.random)?,
    };
    let partitions = placed
        .into_iter()
        .enumerate()
        .map(|(index, replicas)| new_partition(image, replicas, current + index as i32))
        .collect::<Result<Vec<_>, _>>()?;
    if validate_only {
        return Ok(Decision::unchanged(()));
    }
    let record =
        MetadataRecord::Partitions { topic_id: topic.id, first_partition: PartitionId(current), partitions };
    Ok(Decision { records: vec![record], reply: () })
}

/// Checks the brokers that a client wants for one partition.
pub(super) fn check_manual_assignment(
    image: &MetadataImage,
    brokers: &[BrokerId],
    factor: Option<usize>,
) -> Result<(), CoordError> {
    let invalid = |text: String| Err(CoordError::InvalidReplicaAssignment(text));
    if brokers.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut sorted = brokers.to_vec();
    sorted.sort_unstable();
    if let Some(unknown) = sorted.iter().find(|id| image.broker(**id).is_none()) {
        return invalid(format!(
            "The manual partition assignment includes broker {unknown}, but no such broker is registered."
        ));
    }
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return invalid(format!(
            "The manual partition assignment includes the broker {} more than once.",
            pair[0]
        ));
    }
    match factor {
        Some(factor) if factor != brokers.len() => invalid(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with \
             previous partitions, which have {factor} replica(s).",
            brokers.len()
        )),
        _ => Ok(()),
    }
}

/// The first state of a partition: every active replica is in sync (all are empty), the first of them leads.
pub(super) fn new_partition(
    image: &MetadataImage,
    replicas: Box<[BrokerId]>,
    index: i32,
) -> Result<PartitionImage, CoordError> {
    let in_sync_replicas: Box<[BrokerId]> =
        replicas.iter().copied().filter(|id| image.is_active(*id)).collect();
    let Some(leader) = in_sync_replicas.first().copied() else {
        return Err(CoordError::InvalidReplicaAssignment(format!(
            "All brokers specified in the manual partition assignment for partition {index} are fenced or in \
             controlled shutdown."
        )));
    };
    Ok(PartitionImage {
        leader,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        replicas,
        in_sync_replicas,
    })
}
