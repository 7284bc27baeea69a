//! The configs of the group coordinator out of the broker's settings.

use coord::group::{ConsumerGroupMigrationPolicy, GroupConfig};

use crate::config::{Config, GroupMigration};

/// What the coordinators of every shard are told.
pub fn group_config(config: &Config) -> GroupConfig {
    GroupConfig {
        group_min_session_timeout_ms: config.group_min_session_timeout_ms,
        group_max_session_timeout_ms: config.group_max_session_timeout_ms,
        group_initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
        group_max_size: config.group_max_size,
        group_consumer_session_timeout_ms: config.group_consumer_session_timeout_ms,
        group_consumer_min_session_timeout_ms: config.group_consumer_min_session_timeout_ms,
        group_consumer_max_session_timeout_ms: config.group_consumer_max_session_timeout_ms,
        group_consumer_heartbeat_interval_ms: config.group_consumer_heartbeat_interval_ms,
        group_consumer_min_heartbeat_interval_ms: config.group_consumer_min_heartbeat_interval_ms,
        group_consumer_max_heartbeat_interval_ms: config.group_consumer_max_heartbeat_interval_ms,
        group_consumer_max_size: config.group_consumer_max_size,
        group_consumer_assignors: config.group_consumer_assignors.0.clone(),
        group_consumer_migration_policy: match config.group_consumer_migration_policy {
            GroupMigration::Bidirectional => ConsumerGroupMigrationPolicy::Bidirectional,
            GroupMigration::Upgrade => ConsumerGroupMigrationPolicy::Upgrade,
            GroupMigration::Downgrade => ConsumerGroupMigrationPolicy::Downgrade,
            GroupMigration::Disabled => ConsumerGroupMigrationPolicy::Disabled,
        },
        group_consumer_regex_refresh_interval_ms: config.group_consumer_regex_refresh_interval_ms,
        offsets_retention_minutes: config.offsets_retention_minutes,
        offsets_retention_check_interval_ms: config.offsets_retention_check_interval_ms,
        offset_metadata_max_bytes: config.offset_metadata_max_bytes,
        offsets_topic_num_partitions: config.offsets_topic_num_partitions,
        offsets_topic_replication_factor: config.offsets_topic_replication_factor,
        offsets_topic_segment_bytes: config.offsets_topic_segment_bytes,
        ..GroupConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_have_kafkas_defaults_but_for_the_replicas_that_one_node_cannot_have() {
        let kafka = GroupConfig::default();
        let ours = group_config(&Config::default());
        assert_eq!(ours, GroupConfig { offsets_topic_replication_factor: 1, ..kafka });
    }
}
