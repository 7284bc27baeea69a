//! Kafka's configs of the group coordinator, with Kafka's defaults (`GroupCoordinatorConfig`, 4.1).

/// Which groups may change their protocol while they have members (`group.consumer.migration.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerGroupMigrationPolicy {
    /// Both ways.
    Bidirectional,
    /// From classic to consumer only.
    Upgrade,
    /// From consumer to classic only.
    Downgrade,
    /// Neither way.
    Disabled,
}

impl ConsumerGroupMigrationPolicy {
    /// The policy of this name, in any case of letters.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Bidirectional, Self::Upgrade, Self::Downgrade, Self::Disabled]
            .into_iter()
            .find(|policy| policy.name().eq_ignore_ascii_case(name.trim()))
    }

    /// Kafka's name of the policy.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bidirectional => "bidirectional",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::Disabled => "disabled",
        }
    }

    /// Whether a classic group may become a consumer group.
    pub fn allows_upgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    /// Whether a consumer group may become a classic group.
    pub fn allows_downgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

/// The configs of the group coordinator; each field is Kafka's name with underscores.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`: the shortest session time-out that a classic member may ask for, in ms.
    pub group_min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`: the longest session time-out that a classic member may ask for, in ms.
    pub group_max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long an empty classic group waits for more members, in ms.
    pub group_initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members that one classic group may have.
    pub group_max_size: i32,
    /// `group.consumer.session.timeout.ms`: session time-out of consumer groups, in ms.
    pub group_consumer_session_timeout_ms: i32,
    /// `group.consumer.min.session.timeout.ms`: least value of the group's own `consumer.session.timeout.ms`.
    pub group_consumer_min_session_timeout_ms: i32,
    /// `group.consumer.max.session.timeout.ms`: greatest value of the group's own `consumer.session.timeout.ms`.
    pub group_consumer_max_session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`: how often members of consumer groups send heartbeats, in ms.
    pub group_consumer_heartbeat_interval_ms: i32,
    /// `group.consumer.min.heartbeat.interval.ms`: least value of the group's own `consumer.heartbeat.interval.ms`.
    pub group_consumer_min_heartbeat_interval_ms: i32,
    /// `group.consumer.max.heartbeat.interval.ms`: greatest value of the group's own `consumer.heartbeat.interval.ms`.
    pub group_consumer_max_heartbeat_interval_ms: i32,
    /// `group.consumer.max.size`: members that one consumer group may have.
    pub group_consumer_max_size: i32,
    /// `group.consumer.assignors`: server-side assignors by name; the first is the default.
    pub group_consumer_assignors: Vec<String>,
    /// `group.consumer.migration.policy`: which groups may change their protocol while they have members.
    pub group_consumer_migration_policy: ConsumerGroupMigrationPolicy,
    /// `group.consumer.regex.refresh.interval.ms`: how often regular expressions are resolved again, in ms.
    pub group_consumer_regex_refresh_interval_ms: i32,
    /// `offsets.retention.minutes`: how long offsets of a group without members (or of topics it has left) are kept, in minutes.
    pub offsets_retention_minutes: i32,
    /// `offsets.retention.check.interval.ms`: how often expired offsets are looked for, in ms.
    pub offsets_retention_check_interval_ms: i64,
    /// `offset.metadata.max.bytes`: the longest metadata of one committed offset, in bytes.
    pub offset_metadata_max_bytes: i32,
    /// `offsets.commit.timeout.ms`: how long a commit may wait to become durable, in ms. Read by the shell.
    pub offsets_commit_timeout_ms: i32,
    /// `offsets.topic.num.partitions`: partitions of `__consumer_offsets`. Read by the shell.
    pub offsets_topic_num_partitions: i32,
    /// `offsets.topic.replication.factor`: replicas of `__consumer_offsets`. Read by the shell.
    pub offsets_topic_replication_factor: i16,
    /// `offsets.topic.segment.bytes`: size of the segments of `__consumer_offsets`, in bytes. Read by the shell.
    pub offsets_topic_segment_bytes: i32,
}

impl Default for GroupConfig {
    fn default() -> Self {
        GroupConfig {
            group_min_session_timeout_ms: 6_000,
            group_max_session_timeout_ms: 1_800_000,
            group_initial_rebalance_delay_ms: 3_000,
            group_max_size: i32::MAX,
            group_consumer_session_timeout_ms: 45_000,
            group_consumer_min_session_timeout_ms: 45_000,
            group_consumer_max_session_timeout_ms: 60_000,
            group_consumer_heartbeat_interval_ms: 5_000,
            group_consumer_min_heartbeat_interval_ms: 5_000,
            group_consumer_max_heartbeat_interval_ms: 15_000,
            group_consumer_max_size: i32::MAX,
            group_consumer_assignors: vec!["uniform".to_owned(), "range".to_owned()],
            group_consumer_migration_policy: ConsumerGroupMigrationPolicy::Bidirectional,
            group_consumer_regex_refresh_interval_ms: 600_000,
            offsets_retention_minutes: 10_080,
            offsets_retention_check_interval_ms: 600_000,
            offset_metadata_max_bytes: 4_096,
            offsets_commit_timeout_ms: 5_000,
            offsets_topic_num_partitions: 50,
            offsets_topic_replication_factor: 3,
            offsets_topic_segment_bytes: 104_857_600,
        }
    }
}

impl GroupConfig {
    /// `offsets.retention.minutes` in ms.
    pub fn offsets_retention_ms(&self) -> i64 {
        i64::from(self.offsets_retention_minutes) * 60_000
    }
}
