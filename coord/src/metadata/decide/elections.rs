//! Elections of leaders that an administrator asks for (KIP-460).
//!
//! With one replica for each partition an election changes nothing: either the replica leads, or it cannot.

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

/// Why no leader is elected for a partition of a topic, by name.
pub fn elect_leader(
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
