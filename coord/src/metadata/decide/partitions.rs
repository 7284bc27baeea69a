//! New partitions, of new topics and of old ones.

use std::collections::HashMap;

use super::{DecideContext, Decision};
use crate::error::CoordError;
use crate::metadata::image::MetadataImage;
use crate::metadata::partition::PartitionImage;
use crate::metadata::placement;
use crate::metadata::record::MetadataRecord;
use crate::types::{BrokerId, PartitionId};

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

/// An outcome for each distinct topic of a request.
pub type CreatePartitionsReply = Vec<(String, Result<(), CoordError>)>;

/// Adds partitions to topics, to each by itself; replies with an outcome for each *distinct* name in the order in which the names first appear.
/// A name that appears twice fails once.
pub fn create_partitions(
    image: &MetadataImage,
    commands: &[CreatePartitions],
    validate_only: bool,
    context: &mut DecideContext<'_>,
) -> Decision<CreatePartitionsReply> {
    let mut appearances: HashMap<&str, usize> = HashMap::new();
    for command in commands {
        *appearances.entry(&command.topic).or_default() += 1;
    }
    let mut records = Vec::new();
    let mut reply = Vec::with_capacity(appearances.len());
    for command in commands {
        let outcome = match appearances.remove(command.topic.as_str()) {
            None => continue,
            Some(1) => add_partitions(image, command, validate_only, context),
            Some(_) => Err(CoordError::InvalidRequest("Duplicate topic name.".to_owned())),
        };
        reply.push((command.topic.clone(), outcome.map(|record| records.extend(record))));
    }
    Decision { records, reply }
}

/// Adds partitions to one topic (KIP-195).
fn add_partitions(
    image: &MetadataImage,
    command: &CreatePartitions,
    validate_only: bool,
    context: &mut DecideContext<'_>,
) -> Result<Option<MetadataRecord>, CoordError> {
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
        return Ok(None);
    }
    let first_partition = PartitionId(current);
    Ok(Some(MetadataRecord::Partitions { topic_id: topic.id, first_partition, partitions }))
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
    Ok(PartitionImage::new(leader, replicas, in_sync_replicas))
}
