//! Elections of leaders that an administrator asks for (KIP-460).

use std::collections::HashSet;

use storage::TopicIdPartition;

use super::{ClusterView, Decision, elect_replica_leader};
use crate::error::CoordError;
use crate::metadata::image::{MetadataImage, TopicImage};
use crate::types::PartitionId;

/// Who shall be elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElectionType {
    /// The first of the replicas.
    Preferred,
    /// Anybody, at the price of data.
    Unclean,
}

impl ElectionType {
    /// The type of this number in requests.
    pub fn from_wire(number: i8) -> Option<Self> {
        match number {
            0 => Some(ElectionType::Preferred),
            1 => Some(ElectionType::Unclean),
            _ => None,
        }
    }
}

/// Elects leaders for partitions, by the names of their topics; an outcome for each, in their order.
pub fn elect_leaders(
    view: ClusterView<'_>,
    partitions: &[(String, PartitionId)],
    election: ElectionType,
) -> Decision<Vec<Result<(), CoordError>>> {
    let mut records = Vec::new();
    let mut elected = HashSet::new();
    let mut elect = |topic: &str, partition: PartitionId| {
        match elect_leader(view.image, topic, partition, election) {
            // It depends on who else could lead.
            Err(CoordError::PreferredLeaderNotAvailable | CoordError::EligibleLeadersNotAvailable) => {}
            settled => return settled,
        }
        let topic_id = view.image.topic(topic).ok_or(CoordError::UnknownTopicOrPartition)?.id;
        let id = TopicIdPartition { topic_id, partition };
        if !elected.insert(id) {
            return Err(CoordError::ElectionNotNeeded);
        }
        records.extend(elect_replica_leader(view, id, election)?.records);
        Ok(())
    };
    let reply = partitions.iter().map(|(topic, partition)| elect(topic, *partition)).collect();
    Decision { records, reply }
}

/// Why no leader is elected for a partition of a topic, by name, as far as its own replica can tell.
fn elect_leader(
    image: &MetadataImage,
    topic: &str,
    partition: PartitionId,
    election: ElectionType,
) -> Result<(), CoordError> {
    let missing = |text: String| CoordError::NoSuchTopicOrPartition(text);
    let image_of: &TopicImage =
        image.topic(topic).ok_or_else(|| missing(format!("No such topic as {topic}")))?;
    let state = image_of
        .partition(partition)
        .ok_or_else(|| missing(format!("No such partition as {topic}-{}", partition.0)))?;
    match election {
        _ if state.leader.is_some() && state.replicas.len() == 1 => Err(CoordError::ElectionNotNeeded),
        ElectionType::Preferred if state.replicas.first() == Some(&state.leader) => {
            Err(CoordError::ElectionNotNeeded)
        }
        ElectionType::Preferred => Err(CoordError::PreferredLeaderNotAvailable),
        ElectionType::Unclean if state.leader.is_some() => Err(CoordError::ElectionNotNeeded),
        ElectionType::Unclean => Err(CoordError::EligibleLeadersNotAvailable),
    }
}
