//! The requests that are served: the one place that says which, in which versions, and by which handler.
//!
//! `docs/protocol.md` lists the same for people. Versions are those of Kafka 4.1. Clients infer the broker's version from this table, so a row is complete or absent.

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use protocol::ApiKey;

use super::{Answer, Call};
use crate::net::DispatchOutcome;

/// One row.
pub struct Served {
    /// Which request.
    pub key: ApiKey,
    /// The lowest version that clients are told.
    pub min_version: i16,
    /// The highest version that clients are told.
    pub max_version: i16,
    /// Who answers.
    pub handler: fn(Call) -> LocalBoxFuture<'static, DispatchOutcome>,
}

macro_rules! served {
    ($($(#[doc = $doc:literal])+ $key:ident $min:literal..=$max:literal by $module:ident;)*) => {
        /// All rows, sorted by key.
        pub static SERVED: &[Served] = &[$(Served {
            key: ApiKey::$key,
            min_version: $min,
            max_version: $max,
            handler: |call| super::$module::handle(call).map(outcome).boxed_local(),
        }),*];
    };
}

served! {
    /// 0 to 2 are advertised and refused, as by Kafka 4: with a minimum of 3 librdkafka before 2.11 sends compressed topics uncompressed.
    Produce 0..=13 by produce;
    /// Sessions from 7, topic ids from 13.
    Fetch 4..=18 by fetch;
    /// Maximum timestamp from 7, local log from 8.
    ListOffsets 1..=10 by list_offsets;
    /// Auto-creation, topic ids and names; 13 brings the top-level error.
    Metadata 0..=13 by metadata;
    /// 10 (topic ids) is of Kafka 4.2.
    OffsetCommit 2..=9 by offset_commit;
    /// Several groups from 8.
    OffsetFetch 1..=9 by offset_fetch;
    /// Several keys from 4. librdkafka takes version 0 as the sign that a broker knows LZ4.
    FindCoordinator 0..=6 by find_coordinator;
    /// Static members from 5.
    JoinGroup 0..=9 by join_group;
    /// Of classic groups.
    Heartbeat 0..=4 by heartbeat;
    /// Several members from 3.
    LeaveGroup 0..=5 by leave_group;
    /// Of classic groups.
    SyncGroup 0..=5 by sync_group;
    /// Classic groups.
    DescribeGroups 0..=6 by describe_groups;
    /// Groups of all types.
    ListGroups 0..=5 by list_groups;
    /// Any version is answered, see the handler.
    ApiVersions 0..=4 by api_versions;
    /// 0 and 1 were removed in Kafka 4.0.
    CreateTopics 2..=7 by create_topics;
    /// 0 was removed in Kafka 4.0.
    DeleteTopics 1..=6 by delete_topics;
    /// -1 deletes everything below the high watermark.
    DeleteRecords 0..=2 by delete_records;
    /// Idempotent producers. 6 (two-phase commit) is not stable in 4.1.
    InitProducerId 0..=5 by init_producer_id;
    /// Consumers find out whether their leader has lost records.
    OffsetForLeaderEpoch 2..=4 by offset_for_leader_epoch;
    /// Of topics, brokers and groups.
    DescribeConfigs 1..=4 by describe_configs;
    /// Replaces all configs of a resource; newer clients have IncrementalAlterConfigs.
    AlterConfigs 0..=2 by alter_configs;
    /// Errors of the whole request from 3, the file system from 4. 0 was removed in Kafka 4.0.
    DescribeLogDirs 1..=4 by describe_log_dirs;
    /// A topic grows.
    CreatePartitions 0..=3 by create_partitions;
    /// Groups without members.
    DeleteGroups 0..=2 by delete_groups;
    /// Preferred or unclean.
    ElectLeaders 0..=2 by elect_leaders;
    /// Changes some configs of a resource.
    IncrementalAlterConfigs 0..=1 by incremental_alter_configs;
    /// The replication factor may change from 1.
    AlterPartitionReassignments 0..=1 by alter_partition_reassignments;
    /// Those under way.
    ListPartitionReassignments 0..=0 by list_partition_reassignments;
    /// KIP-496.
    OffsetDelete 0..=0 by offset_delete;
    /// Voters and learners that keep the metadata log.
    DescribeQuorum 0..=2 by describe_quorum;
    /// `group.version`.
    UpdateFeatures 0..=2 by update_features;
    /// Admin clients fall back to Metadata without it.
    DescribeCluster 0..=2 by describe_cluster;
    /// Idempotent ones; there are no transactions.
    DescribeProducers 0..=0 by describe_producers;
    /// Forgets a broker that is gone.
    UnregisterBroker 0..=0 by unregister_broker;
    /// KIP-848. librdkafka wants version 1.
    ConsumerGroupHeartbeat 0..=1 by consumer_group_heartbeat;
    /// Consumer groups; classic ones have DescribeGroups.
    ConsumerGroupDescribe 0..=1 by consumer_group_describe;
    /// Client metrics alone in 0.
    ListConfigResources 0..=1 by list_config_resources;
    /// Admin clients fall back to Metadata without it.
    DescribeTopicPartitions 0..=0 by describe_topic_partitions;
    /// A node that follows the metadata log votes from now on.
    AddRaftVoter 0..=0 by add_raft_voter;
    /// And votes no more.
    RemoveRaftVoter 0..=0 by remove_raft_voter;
}

/// A refused request costs the client its connection.
fn outcome(answer: Answer) -> DispatchOutcome {
    answer.unwrap_or_else(|refusal| DispatchOutcome::Close(refusal.to_string()))
}

/// The row of an API key.
pub fn find(api_key: i16) -> Option<&'static Served> {
    let index = SERVED.binary_search_by(|served| (served.key as i16).cmp(&api_key)).ok()?;
    Some(&SERVED[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_no_key_that_belongs_between_brokers() {
        assert!(SERVED.windows(2).all(|pair| (pair[0].key as i16) < (pair[1].key as i16)));
        let internal = [52, 53, 54, 56, 58, 59, 62, 63, 67, 70, 71, 72, 73, 82];
        for served in SERVED {
            assert!(served.min_version <= served.max_version);
            assert!(!internal.contains(&(served.key as i16)), "{}", served.key.name());
        }
    }

    #[test]
    fn versions_that_old_clients_test_for_are_in_range() {
        for (key, version) in
            [(ApiKey::FindCoordinator, 0), (ApiKey::InitProducerId, 0), (ApiKey::Metadata, 0)]
        {
            let served = find(key as i16).unwrap();
            assert!((served.min_version..=served.max_version).contains(&version), "{}", key.name());
        }
    }
}
