//! What the leader of a classic group's generation gives to its members, in the bytes that the coordinator keeps without looking into them.
//!
//! They say of which generation they are, and of which leader's, so that a member notices when it gets something else.

use bytes::Bytes;
use storage::{PartitionId, TopicIdPartition};
use uuid::Uuid;

use super::share::Owned;
use crate::simulator::message::{ClusterMetadata, Generation};

/// What one member gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    pub generation: i32,
    pub leader: String,
    pub partitions: Owned,
}

/// Gives all data partitions to the members, one after the other. Who gets more than others differs from generation to generation.
pub(super) fn assign(generation: &Generation, metadata: &ClusterMetadata) -> Vec<(String, Bytes)> {
    let mut partitions = vec![Owned::new(); generation.members.len()];
    let count = partitions.len().max(1);
    let first = usize::try_from(generation.id).unwrap_or(0);
    for (at, partition) in metadata.data_partitions().enumerate() {
        if let Some(of_member) = partitions.get_mut((first + at) % count) {
            of_member.insert(partition.id);
        }
    }
    let of_each = generation.members.iter().zip(partitions);
    of_each
        .map(|(member, partitions)| {
            let leader = generation.leader.clone();
            (member.clone(), Assignment { generation: generation.id, leader, partitions }.encode())
        })
        .collect()
}

impl Assignment {
    fn encode(&self) -> Bytes {
        let mut bytes = self.generation.to_be_bytes().to_vec();
        bytes.extend((self.leader.len() as u32).to_be_bytes());
        bytes.extend(self.leader.as_bytes());
        for id in &self.partitions {
            bytes.extend(id.topic_id.as_bytes());
            bytes.extend(id.partition.0.to_be_bytes());
        }
        bytes.into()
    }

    /// `None` if no leader has written this.
    pub(super) fn decode(bytes: &[u8]) -> Option<Assignment> {
        let (generation, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (leader, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        let of_one = |bytes: &[u8]| {
            let (topic_id, rest) = bytes.split_first_chunk()?;
            let partition = i32::from_be_bytes(rest.try_into().ok()?);
            Some(TopicIdPartition::new(Uuid::from_bytes(*topic_id), PartitionId(partition)))
        };
        Some(Assignment {
            generation: i32::from_be_bytes(*generation),
            leader: String::from_utf8(leader.to_vec()).ok()?,
            partitions: rest.chunks(20).map(of_one).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use coord::types::{BrokerId, LeaderEpoch};

    use super::*;
    use crate::simulator::message::{OFFSETS_TOPIC, PartitionMetadata};

    fn partition(topic: &str, index: i32) -> PartitionMetadata {
        PartitionMetadata {
            topic: topic.to_owned(),
            id: TopicIdPartition::new(Uuid::from_u128(topic.len() as u128), PartitionId(index)),
            leader: BrokerId(0),
            leader_epoch: LeaderEpoch(0),
            replicas: Vec::new(),
        }
    }

    #[test]
    fn members_get_all_data_partitions_among_them_and_can_read_what() {
        let partitions = vec![partition(OFFSETS_TOPIC, 0), partition("t0", 0), partition("t0", 1)];
        let metadata = ClusterMetadata { controller: BrokerId(0), partitions };
        let members = ["a", "b", "c"].map(str::to_owned).to_vec();
        let generation = Generation { id: 7, member_id: "b".into(), leader: "b".into(), members };
        let assigned: Vec<(String, Assignment)> = assign(&generation, &metadata)
            .into_iter()
            .map(|(member, bytes)| (member, Assignment::decode(&bytes).unwrap()))
            .collect();
        assert_eq!(assigned.len(), 3);
        assert!(assigned.iter().all(|(_, of_one)| (of_one.generation, &*of_one.leader) == (7, "b")));
        let owned: Vec<_> = assigned.iter().flat_map(|(_, of_one)| &of_one.partitions).copied().collect();
        assert_eq!(owned.len(), 2);
        assert_eq!(owned.into_iter().collect::<Owned>(), metadata.data_partitions().map(|p| p.id).collect());
        assert_eq!(Assignment::decode(b""), None);
        assert_eq!(Assignment::decode(&assign(&generation, &metadata)[1].1[..28]), None);
    }
}
