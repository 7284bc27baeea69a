//! From what a client names to the log that has it: topic, partition, leader, owner shard.

use coord::metadata::{MetadataImage, TopicImage};
use protocol::ErrorCode;
use protocol::wire::Few;
use storage::{LeaderEpoch, PartitionId, TopicIdPartition};
use uuid::Uuid;

use crate::placement::ShardId;
use crate::shard::Shard;

/// A partition that this broker leads, or at least holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedPartition {
    /// Its id.
    pub id: TopicIdPartition,
    /// The epoch of its leader.
    pub leader_epoch: LeaderEpoch,
    /// The shard that has its log.
    pub owner: ShardId,
}

/// A partition of which this broker has a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldPartition {
    /// Its id.
    pub id: TopicIdPartition,
    /// The epoch of its leader.
    pub leader_epoch: LeaderEpoch,
    /// Whether the leader is this broker.
    pub is_led: bool,
    /// The shard that has its log.
    pub owner: ShardId,
}

/// A topic as a request names it: by name, or by id in newer versions (KIP-516).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicName<'a> {
    /// By name.
    Name(&'a str),
    /// By id.
    Id(Uuid),
}

/// Finds a topic; `UNKNOWN_TOPIC_OR_PARTITION` or `UNKNOWN_TOPIC_ID` if there is none.
pub fn find_topic<'i>(image: &'i MetadataImage, name: TopicName<'_>) -> Result<&'i TopicImage, ErrorCode> {
    match name {
        TopicName::Name(name) => {
            image.topic(name).map(AsRef::as_ref).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        }
        TopicName::Id(id) => image.topic_by_id(id).map(AsRef::as_ref).ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
    }
}

/// Whether there is such a partition, whoever leads it.
pub fn exists(image: &MetadataImage, topic: &str, partition: i32) -> bool {
    image.topic(topic).is_some_and(|topic| topic.partition(PartitionId(partition)).is_some())
}

/// Finds a partition of `topic` that this broker leads; `UNKNOWN_TOPIC_OR_PARTITION` or `NOT_LEADER_OR_FOLLOWER` if it does not.
pub fn find_led(shard: &Shard, topic: &TopicImage, partition: i32) -> Result<LedPartition, ErrorCode> {
    let HeldPartition { id, leader_epoch, is_led, owner } = find_held(shard, topic, partition)?;
    is_led.then_some(LedPartition { id, leader_epoch, owner }).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)
}

/// Finds a partition of `topic` that this broker leads or follows; `UNKNOWN_TOPIC_OR_PARTITION` or `NOT_LEADER_OR_FOLLOWER` if it does neither.
pub fn find_held(shard: &Shard, topic: &TopicImage, partition: i32) -> Result<HeldPartition, ErrorCode> {
    let partition_image =
        topic.partition(PartitionId(partition)).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let me = shard.broker_id();
    let is_led = partition_image.leader == me;
    if !is_led && !partition_image.replicas.contains(&me) {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    Ok(HeldPartition {
        id: TopicIdPartition { topic_id: topic.id, partition: PartitionId(partition) },
        leader_epoch: partition_image.leader_epoch,
        is_led,
        owner: shard.owner_of(topic.id, partition),
    })
}

/// Checks the leader epoch that a client believes in (KIP-320); -1 is no belief.
pub fn check_leader_epoch(client: i32, current: LeaderEpoch) -> Result<(), ErrorCode> {
    match client {
        -1 => Ok(()),
        epoch if epoch < current.0 => Err(ErrorCode::FENCED_LEADER_EPOCH),
        epoch if epoch > current.0 => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}

/// Items of a request for each shard that has any.
pub type ByOwner<T> = Few<(ShardId, Few<T>)>;

/// Items of a request sorted by the shard that they are for, each with its place in the request.
pub fn by_owner<T>(items: impl IntoIterator<Item = (ShardId, T)>) -> ByOwner<T> {
    let mut groups: ByOwner<T> = Few::new();
    for (owner, item) in items {
        // There are no more groups than cores, and neighbours mostly have one owner.
        match groups.iter_mut().rev().find(|(known, _)| *known == owner) {
            Some((_, group)) => group.push(item),
            None => groups.push((owner, Few::one(item))),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_behind_is_fenced_and_one_that_is_ahead_must_wait() {
        let current = LeaderEpoch(3);
        assert_eq!(check_leader_epoch(-1, current), Ok(()));
        assert_eq!(check_leader_epoch(3, current), Ok(()));
        assert_eq!(check_leader_epoch(2, current), Err(ErrorCode::FENCED_LEADER_EPOCH));
        assert_eq!(check_leader_epoch(4, current), Err(ErrorCode::UNKNOWN_LEADER_EPOCH));
    }

    #[test]
    fn items_keep_their_order_within_their_shard() {
        let items = [(ShardId(1), 'a'), (ShardId(0), 'b'), (ShardId(1), 'c')];
        assert_eq!(by_owner(items), [(ShardId(1), vec!['a', 'c'].into()), (ShardId(0), Few::one('b'))]);
    }
}
