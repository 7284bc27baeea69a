//! Where a group is coordinated: a partition of `__consumer_offsets`, and the shard that has its log.

use std::rc::Rc;

use coord::metadata::decide::NewTopic;
use coord::metadata::names::GROUP_METADATA_TOPIC;
use protocol::ErrorCode;
use uuid::Uuid;

use crate::config::Config;
use crate::controller;
use crate::placement::ShardId;
use crate::shard::Shard;

/// Where one group is coordinated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHome {
    /// The partition of `__consumer_offsets`.
    pub partition: i32,
    /// The shard that has it.
    pub owner: ShardId,
}

/// `__consumer_offsets` as this process has found it. The number of partitions counts as it was then, as in Kafka: a group must not change
/// its coordinator while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetsTopic {
    /// Its id.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: i32,
}

/// Where the group is coordinated; `NOT_COORDINATOR` if there is no `__consumer_offsets`, which FindCoordinator creates.
pub fn home_of(shard: &Shard, group_id: &str) -> Result<GroupHome, ErrorCode> {
    let topic = shard.groups.topic().ok_or(ErrorCode::NOT_COORDINATOR)?;
    let partition = partition_of(group_id, topic.partitions);
    Ok(GroupHome { partition, owner: shard.owner_of(topic.id, partition) })
}

/// The partition of a group: Kafka's `Utils.abs(groupId.hashCode()) % partitions`. Other tools compute it, too.
pub fn partition_of(group_id: &str, partitions: i32) -> i32 {
    let hash = java_hash(group_id);
    // The absolute value of the minimum would not be an int.
    let hash = if hash == i32::MIN { 0 } else { hash.abs() };
    hash % partitions
}

/// Java's `String.hashCode`, over UTF-16 code units.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// Creates `__consumer_offsets` if it does not exist.
pub async fn ensure_topic(shard: &Rc<Shard>) -> Result<(), ErrorCode> {
    if shard.groups.topic().is_some() {
        return Ok(());
    }
    let created = controller::commands::create_topics_anywhere(shard, vec![new_topic(shard.config())]).await;
    match created.map_err(|error| error.code())?.into_iter().next() {
        Some((topic, Ok(partitions))) => {
            tracing::info!(topic, partitions, "topic created for groups");
            Ok(())
        }
        None | Some((_, Err((ErrorCode::TOPIC_ALREADY_EXISTS, _)))) => Ok(()),
        Some((topic, Err((code, error)))) => {
            tracing::warn!(topic, error, "groups have nowhere to keep their offsets");
            Err(code)
        }
    }
}

/// As Kafka creates it (`GroupCoordinatorService.groupMetadataTopicConfigs`).
fn new_topic(config: &Config) -> NewTopic {
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", config.offsets_topic_segment_bytes.to_string()),
    ];
    NewTopic {
        name: GROUP_METADATA_TOPIC.to_owned(),
        num_partitions: config.offsets_topic_num_partitions,
        replication_factor: config.offsets_topic_replication_factor,
        configs: configs.map(|(name, value)| (name.to_owned(), Some(value))).into(),
        ..NewTopic::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_the_partitions_that_java_gives_them() {
        // From a JVM: "…".hashCode().
        for (text, hash) in
            [("", 0), ("a", 97), ("my-group", -1_906_497_762), ("grüße", 98_768_023), ("😀", 1_772_899)]
        {
            assert_eq!(java_hash(text), hash, "{text}");
        }
        assert_eq!(java_hash("polygenelubricants"), i32::MIN);
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        assert_eq!(partition_of("my-group", 50), 12);
    }
}
