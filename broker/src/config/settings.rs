//! The struct [`Config`]: the documentation of every setting stands here and nowhere else.

use std::collections::BTreeMap;
use std::path::PathBuf;

use coord::config::ConfigType;

use super::values::{
    Assignors, ByteSize, Cores, Durability, GroupMigration, HostPort, LogFormat, ProcessRoles,
    RebalanceProtocols, ReplicaSelector, Value, ZeroCopy,
};
use super::voters::QuorumVoters;

/// One row of the table made from [`Config`]: what loading, checking and the example file need to know.
#[derive(Debug)]
pub struct Setting {
    /// The key in `broker.toml`; Kafka's dotted spelling of it is accepted too.
    pub name: &'static str,
    /// The documentation, one line each.
    pub doc: &'static [&'static str],
    /// Reads a value into the struct; the error says what is allowed.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
    /// The value in the struct as TOML.
    pub get: fn(&Config) -> String,
    /// The value in the struct as clients are told it; none if it is absent.
    pub text: fn(&Config) -> Option<String>,
    /// The value's type as clients are told it.
    pub kind: ConfigType,
}

/// Writes the struct, its defaults and the table [`SETTINGS`] from one list, so that they cannot disagree.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)*) => {
        /// Everything that the broker can be told, with the values in force.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $name: $type,)*
            /// Defaults of topic configurations, by Kafka's broker-side names (`log.retention.ms`), as the operator wrote them;
            /// `coord` knows their types and ranges.
            pub topic_defaults: BTreeMap<String, String>,
        }

        impl Default for Config {
            fn default() -> Self {
                Config { $($name: $default,)* topic_defaults: BTreeMap::new() }
            }
        }

        /// All settings in the order of the example file.
        pub static SETTINGS: &[Setting] = &[$(Setting {
            name: stringify!($name),
            doc: &[$($doc),+],
            set: |config, text| <$type as Value>::read(text).map(|value| config.$name = value),
            get: |config| config.$name.to_toml(),
            text: |config| config.$name.to_text(),
            kind: <$type as Value>::KIND,
        },)*];
    };
}

settings! {
    /// Number of this node in its cluster (Kafka: `node.id`).
    node_id: i32 = 1;
    /// Where data lives: journals, topics, metadata. One broker at a time may use it.
    data_dir: PathBuf = PathBuf::from("data");
    /// Where Kafka clients connect. 0.0.0.0 or [::] listens on every interface; port 0 lets the kernel choose.
    listen: HostPort = HostPort { host: "127.0.0.1".into(), port: 9092 };
    /// The address that clients are told to use. Empty: the one of `listen`, or this machine's name when that is a wildcard.
    advertise: Option<HostPort> = None;
    /// Where metrics, health and the JSON interface are served over HTTP. It has no authentication: keep it private.
    admin: HostPort = HostPort { host: "127.0.0.1".into(), port: 9644 };
    /// Cores to run on, one shard each, such as "0-7" or "0,2,4"; "all" takes every core that the process may use.
    cores: Cores = Cores::All;
    /// Memory for caches, buffers and requests in flight, shared out evenly among the cores. Empty: half of the machine's.
    memory: Option<ByteSize> = None;
    /// What is logged: a level, and levels of parts, such as "info,broker::net=debug".
    log_filter: String = "info".into();
    /// "text" for people and journald, "json" for one object a line.
    log_format: LogFormat = LogFormat::Text;
    /// A file to write once the broker is ready, with the addresses it listens on as JSON. Empty: none.
    ready_file: Option<PathBuf> = None;
    /// Rack or availability zone of this node (Kafka: `broker.rack`). Empty: none.
    broker_rack: Option<String> = None;

    /// The controllers of the cluster and the addresses of their internal listeners, "1@host:port,2@host:port,3@host:port", the same on all nodes.
    /// Empty: this node by itself is the cluster, and there is no internal listener (Kafka: `controller.quorum.voters`).
    controller_quorum_voters: QuorumVoters = QuorumVoters::default();
    /// What this process does: "broker" (holds partitions, serves clients), "controller" (votes on the metadata; has to be in
    /// controller_quorum_voters), or both (Kafka: `process.roles`).
    process_roles: ProcessRoles = ProcessRoles::default();
    /// Where the other nodes of the cluster connect. Keep it private. Empty: this node's address in controller_quorum_voters.
    cluster_listen: Option<HostPort> = None;
    /// The address of the internal listener that the other nodes are told to use, if this node is not in controller_quorum_voters.
    /// Empty: that of cluster_listen.
    cluster_advertise: Option<HostPort> = None;
    /// A file with at least 16 bytes that all nodes of the cluster have and nobody else: by it they know each other. It is needed with
    /// controller_quorum_voters.
    cluster_secret_file: Option<PathBuf> = None;
    /// How long a controller waits without a word from the active one before it stands for election; up to twice as long
    /// (Kafka: `controller.quorum.election.timeout.ms`).
    controller_quorum_election_timeout_ms: u32 = 1_000;
    /// How often a broker tells the active controller that it is alive (Kafka: `broker.heartbeat.interval.ms`).
    broker_heartbeat_interval_ms: u32 = 500;
    /// A broker that has been silent for so long leads nothing any more (Kafka: `broker.session.timeout.ms`). Kafka gives it 9 s. One whose process
    /// has ended is noticed at once.
    broker_session_timeout_ms: u32 = 3_000;
    /// Whether partitions go back to their preferred leaders when those can lead again (Kafka: `auto.leader.rebalance.enable`).
    auto_leader_rebalance_enable: bool = true;
    /// How often that is looked at (Kafka: `leader.imbalance.check.interval.seconds`).
    leader_imbalance_check_interval_seconds: u32 = 300;

    /// What an acknowledgement promises: "sync" (data survives loss of power) or "write" (synced a little later).
    durability: Durability = Durability::Sync;
    /// Size of one journal file. Each shard keeps at least two, filled with zeros ahead of use.
    journal_file_bytes: ByteSize = ByteSize(64 << 20);
    /// Most journal files of one shard; when all are in use, producers wait for the flusher.
    journal_files_max: u32 = 16;
    /// Free space in the file system below which producing is refused while fetching goes on.
    low_space_bytes: ByteSize = ByteSize(1 << 30);
    /// How often old segments are looked for (Kafka: `log.retention.check.interval.ms`).
    log_retention_check_interval_ms: u64 = 300_000;

    /// Whether topics with `cleanup.policy=compact` are compacted (Kafka: `log.cleaner.enable`).
    log_cleaner_enable: bool = true;
    /// Idle-priority threads that compaction computes on; each shard compacts one partition at a time (Kafka: `log.cleaner.threads`).
    log_cleaner_threads: u32 = 1;
    /// How long compaction waits before it looks again when there was nothing to do (Kafka: `log.cleaner.backoff.ms`).
    log_cleaner_backoff_ms: u64 = 15_000;
    /// Memory for the keys of what is being compacted, on top of `memory`, shared out evenly among the cores, taken while there is
    /// something to do: 24 bytes a key; with more keys a pass takes more rounds (Kafka: `log.cleaner.dedupe.buffer.size`).
    log_cleaner_dedupe_buffer_size: ByteSize = ByteSize(128 << 20);
    /// How much compaction reads, and writes, at once, on each core (Kafka: `log.cleaner.io.buffer.size`).
    log_cleaner_io_buffer_size: u32 = 524_288;
    /// Bytes that compaction may read and write in a second, of the whole broker (Kafka: `log.cleaner.io.max.bytes.per.second`).
    log_cleaner_io_max_bytes_per_second: f64 = f64::MAX;

    /// Largest request that is accepted; a connection that announces a larger one is closed (Kafka: `socket.request.max.bytes`).
    socket_request_max_bytes: u32 = 104_857_600;
    /// Most client connections of the whole broker; more are closed at once (Kafka: `max.connections`).
    max_connections: u32 = 100_000;
    /// A connection that neither sends nor awaits anything for so long is closed (Kafka: `connections.max.idle.ms`).
    connections_max_idle_ms: u64 = 600_000;
    /// A connection that stops in the middle of a request, or does not take its answers, for so long is closed.
    connection_stall_timeout_ms: u64 = 30_000;
    /// Requests of one connection that may be in progress at once; further ones wait in the socket.
    connection_in_flight_max: u32 = 256;
    /// Bytes of answers that may wait for one connection's socket before it is no longer read.
    connection_queued_response_bytes: ByteSize = ByteSize(1 << 20);
    /// Connections that the kernel may hold ready for each core (Kafka: `socket.listen.backlog.size`).
    socket_listen_backlog_size: u32 = 1024;
    /// Whether a connection whose requests mostly need another core than its own is moved to that core; clients do not notice.
    /// Then one core does all of its work; where a few connections have to carry more than a core can, switch it off.
    connection_moves: bool = true;
    /// Where large answers are sent without a copy in the kernel: "auto" tries it on each connection that does not stay on this machine and stops
    /// where the kernel has to copy after all; "always" goes on all the same, and on this machine, too, for measurements; "off" never.
    socket_zero_copy: ZeroCopy = ZeroCopy::Auto;
    /// On SIGTERM, requests in progress may take so long before their connections are closed.
    shutdown_timeout_ms: u64 = 10_000;
    /// Microseconds that an idle core spins before it sleeps. 0: sleep at once. A spinning core answers sooner, and is never idle: 100 cuts a call
    /// to another core from 58 to 13 microseconds; but on a core that also completes disk writes a synced write takes ten times as long.
    spin_before_park_us: u64 = 0;

    /// Partitions of a topic created without a number (Kafka: `num.partitions`).
    num_partitions: i32 = 1;
    /// Replicas of a topic created without a number (Kafka: `default.replication.factor`).
    default_replication_factor: i32 = 1;
    /// A replica that has not had everything for so long leaves the in-sync replicas (Kafka: `replica.lag.time.max.ms`).
    replica_lag_time_max_ms: u64 = 10_000;
    /// A replica that has not had everything for so long leaves the in-sync replicas if as many are left as `min.insync.replicas` asks for:
    /// one slow disk shall not own everybody's latency.
    replica_slow_time_max_ms: u64 = 2_000;
    /// Which replica consumers are told to read from (Kafka: `replica.selector.class`): the leader, or with
    /// "org.apache.kafka.common.replica.RackAwareReplicaSelector" one in their own rack.
    replica_selector_class: Option<ReplicaSelector> = None;
    /// Bytes that the broker may read from segments in a second for replicas that are behind. 0: no limit.
    replica_catch_up_bytes_per_second: ByteSize = ByteSize(0);
    /// Whether a client that asks for an unknown topic may create it (Kafka: `auto.create.topics.enable`).
    auto_create_topics_enable: bool = true;
    /// Whether topics can be deleted (Kafka: `delete.topic.enable`).
    delete_topic_enable: bool = true;
    /// Most bytes of one fetch response, whatever the client asks for (Kafka: `fetch.max.bytes`).
    fetch_max_bytes: u32 = 57_671_680;
    /// Incremental fetch sessions kept by the whole broker (Kafka: `max.incremental.fetch.session.cache.slots`).
    max_incremental_fetch_session_cache_slots: u32 = 1_000;
    /// An idle producer's sequence numbers are forgotten after so long (Kafka: `producer.id.expiration.ms`).
    producer_id_expiration_ms: u64 = 86_400_000;

    /// The protocols that groups may use; "classic" is always one of them (Kafka: `group.coordinator.rebalance.protocols`).
    group_coordinator_rebalance_protocols: RebalanceProtocols = RebalanceProtocols::default();
    /// How long an empty group waits for more members before its first rebalance (Kafka: `group.initial.rebalance.delay.ms`).
    group_initial_rebalance_delay_ms: i32 = 3_000;
    /// The shortest session time-out that a member of a classic group may ask for (Kafka: `group.min.session.timeout.ms`).
    group_min_session_timeout_ms: i32 = 6_000;
    /// The longest session time-out that a member of a classic group may ask for (Kafka: `group.max.session.timeout.ms`).
    group_max_session_timeout_ms: i32 = 1_800_000;
    /// Most members of one classic group (Kafka: `group.max.size`).
    group_max_size: i32 = i32::MAX;
    /// Session time-out of members of consumer groups (Kafka: `group.consumer.session.timeout.ms`).
    group_consumer_session_timeout_ms: i32 = 45_000;
    /// The least session time-out that a consumer group may be given (Kafka: `group.consumer.min.session.timeout.ms`).
    group_consumer_min_session_timeout_ms: i32 = 45_000;
    /// The greatest session time-out that a consumer group may be given (Kafka: `group.consumer.max.session.timeout.ms`).
    group_consumer_max_session_timeout_ms: i32 = 60_000;
    /// How often members of consumer groups send heartbeats (Kafka: `group.consumer.heartbeat.interval.ms`).
    group_consumer_heartbeat_interval_ms: i32 = 5_000;
    /// The least heartbeat interval that a consumer group may be given (Kafka: `group.consumer.min.heartbeat.interval.ms`).
    group_consumer_min_heartbeat_interval_ms: i32 = 5_000;
    /// The greatest heartbeat interval that a consumer group may be given (Kafka: `group.consumer.max.heartbeat.interval.ms`).
    group_consumer_max_heartbeat_interval_ms: i32 = 15_000;
    /// Most members of one consumer group (Kafka: `group.consumer.max.size`).
    group_consumer_max_size: i32 = i32::MAX;
    /// Assignors of consumer groups, the default first: "uniform", "range" (Kafka: `group.consumer.assignors`).
    group_consumer_assignors: Assignors = Assignors::default();
    /// Which groups may change their protocol while they have members (Kafka: `group.consumer.migration.policy`).
    group_consumer_migration_policy: GroupMigration = GroupMigration::Bidirectional;
    /// How often regular expressions of subscriptions are resolved again (Kafka: `group.consumer.regex.refresh.interval.ms`).
    group_consumer_regex_refresh_interval_ms: i32 = 600_000;
    /// The longest text that a committed offset may carry, in bytes (Kafka: `offset.metadata.max.bytes`).
    offset_metadata_max_bytes: i32 = 4_096;
    /// Offsets of a group without members, or of topics that it has left, are kept for so long (Kafka: `offsets.retention.minutes`).
    offsets_retention_minutes: i32 = 10_080;
    /// How often expired offsets are looked for (Kafka: `offsets.retention.check.interval.ms`).
    offsets_retention_check_interval_ms: i64 = 600_000;
    /// Partitions of the topic of offsets when it is created; never change them afterwards (Kafka: `offsets.topic.num.partitions`).
    offsets_topic_num_partitions: i32 = 50;
    /// Replicas of the topic of offsets when it is created (Kafka: `offsets.topic.replication.factor`).
    offsets_topic_replication_factor: i16 = 1;
    /// Size of a segment of the topic of offsets when it is created (Kafka: `offsets.topic.segment.bytes`).
    offsets_topic_segment_bytes: i32 = 104_857_600;
}

/// Kafka's broker-side names of topic defaults; they go to [`Config::topic_defaults`].
pub static TOPIC_DEFAULTS: &[&str] = &[
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "log.cleaner.delete.retention.ms",
    "log.cleaner.max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleanup.policy",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.flush.scheduler.interval.ms",
    "log.index.interval.bytes",
    "log.index.size.max.bytes",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.type",
    "log.preallocate",
    "log.retention.bytes",
    "log.retention.hours",
    "log.retention.minutes",
    "log.retention.ms",
    "log.roll.hours",
    "log.roll.jitter.hours",
    "log.roll.jitter.ms",
    "log.roll.ms",
    "log.segment.bytes",
    "log.segment.delete.delay.ms",
    "message.max.bytes",
    "min.insync.replicas",
    "unclean.leader.election.enable",
];

impl Config {
    /// Checks that need more than one setting; the error names the key, the value and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        let positive: [(&str, bool); 14] = [
            ("connection_in_flight_max", self.connection_in_flight_max > 0),
            ("connection_stall_timeout_ms", self.connection_stall_timeout_ms > 0),
            ("socket_request_max_bytes", self.socket_request_max_bytes >= 1024),
            ("num_partitions", self.num_partitions > 0),
            ("node_id", self.node_id >= 0),
            ("journal_file_bytes", self.journal_file_bytes.0 >= 1 << 20),
            ("log_cleaner_threads", self.log_cleaner_threads > 0),
            ("log_cleaner_dedupe_buffer_size", self.log_cleaner_dedupe_buffer_size.0 >= 1 << 20),
            ("log_cleaner_io_buffer_size", self.log_cleaner_io_buffer_size >= 4096),
            ("log_cleaner_io_max_bytes_per_second", self.log_cleaner_io_max_bytes_per_second >= 1.0),
            ("controller_quorum_election_timeout_ms", self.controller_quorum_election_timeout_ms >= 100),
            ("broker_heartbeat_interval_ms", self.broker_heartbeat_interval_ms > 0),
            ("broker_session_timeout_ms", self.broker_session_timeout_ms > self.broker_heartbeat_interval_ms),
            ("leader_imbalance_check_interval_seconds", self.leader_imbalance_check_interval_seconds > 0),
        ];
        for (name, holds) in positive {
            if !holds {
                let setting = SETTINGS.iter().find(|setting| setting.name == name).expect("named above");
                return Err(format!("{name} = {} is too small", (setting.get)(self)));
            }
        }
        self.check_groups()?;
        self.check_cluster()?;
        if self.advertise.as_ref().is_some_and(|address| address.port == 0) {
            return Err("advertise has port 0, which no client can reach: give the real port".into());
        }
        Ok(())
    }
}

impl Config {
    /// Kafka's `GroupCoordinatorConfig` checks the same.
    fn check_groups(&self) -> Result<(), String> {
        let positive: [(&str, i64); 14] = [
            ("group_min_session_timeout_ms", self.group_min_session_timeout_ms.into()),
            ("group_max_session_timeout_ms", self.group_max_session_timeout_ms.into()),
            ("group_max_size", self.group_max_size.into()),
            ("group_consumer_min_session_timeout_ms", self.group_consumer_min_session_timeout_ms.into()),
            ("group_consumer_session_timeout_ms", self.group_consumer_session_timeout_ms.into()),
            (
                "group_consumer_min_heartbeat_interval_ms",
                self.group_consumer_min_heartbeat_interval_ms.into(),
            ),
            ("group_consumer_heartbeat_interval_ms", self.group_consumer_heartbeat_interval_ms.into()),
            ("group_consumer_max_size", self.group_consumer_max_size.into()),
            (
                "group_consumer_regex_refresh_interval_ms",
                // Kafka's least value is 10 s.
                i64::from(self.group_consumer_regex_refresh_interval_ms) - 9_999,
            ),
            ("offsets_retention_minutes", self.offsets_retention_minutes.into()),
            ("offsets_retention_check_interval_ms", self.offsets_retention_check_interval_ms),
            ("offsets_topic_num_partitions", self.offsets_topic_num_partitions.into()),
            ("offsets_topic_replication_factor", self.offsets_topic_replication_factor.into()),
            ("offsets_topic_segment_bytes", i64::from(self.offsets_topic_segment_bytes) - ((1 << 20) - 1)),
        ];
        for (name, value) in positive {
            if value <= 0 {
                let setting = SETTINGS.iter().find(|setting| setting.name == name).expect("named above");
                return Err(format!("{name} = {} is too small", (setting.get)(self)));
            }
        }
        for (name, value) in [
            ("group_initial_rebalance_delay_ms", self.group_initial_rebalance_delay_ms),
            ("offset_metadata_max_bytes", self.offset_metadata_max_bytes),
        ] {
            if value < 0 {
                return Err(format!("{name} = {value} is too small"));
            }
        }
        let ordered = [
            (
                ("group_min_session_timeout_ms", self.group_min_session_timeout_ms),
                ("group_max_session_timeout_ms", self.group_max_session_timeout_ms),
            ),
            (
                ("group_consumer_min_session_timeout_ms", self.group_consumer_min_session_timeout_ms),
                ("group_consumer_session_timeout_ms", self.group_consumer_session_timeout_ms),
            ),
            (
                ("group_consumer_session_timeout_ms", self.group_consumer_session_timeout_ms),
                ("group_consumer_max_session_timeout_ms", self.group_consumer_max_session_timeout_ms),
            ),
            (
                ("group_consumer_min_heartbeat_interval_ms", self.group_consumer_min_heartbeat_interval_ms),
                ("group_consumer_heartbeat_interval_ms", self.group_consumer_heartbeat_interval_ms),
            ),
            (
                ("group_consumer_heartbeat_interval_ms", self.group_consumer_heartbeat_interval_ms),
                ("group_consumer_max_heartbeat_interval_ms", self.group_consumer_max_heartbeat_interval_ms),
            ),
            (
                ("group_consumer_heartbeat_interval_ms", self.group_consumer_heartbeat_interval_ms),
                ("group_consumer_session_timeout_ms", self.group_consumer_session_timeout_ms),
            ),
        ];
        match ordered.iter().find(|((_, low), (_, high))| low > high) {
            Some(((low, least), (high, most))) => {
                Err(format!("{low} = {least} must not be greater than {high} = {most}"))
            }
            None => Ok(()),
        }
    }
}

impl Config {
    /// The address in the list of voters, if this node is one.
    pub fn voter_address(&self) -> Option<&HostPort> {
        self.controller_quorum_voters.address(self.node_id)
    }

    fn check_cluster(&self) -> Result<(), String> {
        if self.controller_quorum_voters.is_empty() {
            return match self.process_roles == ProcessRoles::default() {
                true => Ok(()),
                false => {
                    Err("process_roles needs controller_quorum_voters: without it this node is the cluster"
                        .into())
                }
            };
        }
        if self.cluster_secret_file.is_none() {
            return Err("controller_quorum_voters needs cluster_secret_file: a file that all nodes of the cluster have".into());
        }
        let node_id = self.node_id;
        match (self.process_roles.controller(), self.voter_address().is_some()) {
            (true, false) => Err(format!(
                "process_roles has controller, but controller_quorum_voters does not have node {node_id}: add it there on all nodes, or \
                 set process_roles = \"broker\""
            )),
            (false, true) => Err(format!(
                "controller_quorum_voters has node {node_id}, so process_roles must have controller"
            )),
            (false, false) if self.cluster_listen.is_none() => {
                Err("cluster_listen is needed on a node that is not in controller_quorum_voters".into())
            }
            _ if self.cluster_advertise.as_ref().is_some_and(|address| address.port == 0) => {
                Err("cluster_advertise has port 0, which no node can reach: give the real port".into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_reads_back_what_it_writes() {
        let defaults = Config::default();
        for setting in SETTINGS {
            let written: toml::Table =
                format!("value = {}", (setting.get)(&defaults)).parse().expect("valid TOML");
            let text = match &written["value"] {
                toml::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let mut config = defaults.clone();
            (setting.set)(&mut config, &text).unwrap_or_else(|allowed| panic!("{}: {allowed}", setting.name));
            assert_eq!(config, defaults, "{}", setting.name);
        }
    }

    #[test]
    fn settings_of_a_cluster_that_contradict_each_other_are_refused() {
        let voters = QuorumVoters::read("1@a:1,2@b:2").unwrap();
        let whole = Config {
            controller_quorum_voters: voters,
            cluster_secret_file: Some("secret".into()),
            ..Config::default()
        };
        assert_eq!(whole.check(), Ok(()));
        let mut other = Config { node_id: 3, ..whole.clone() };
        assert!(other.check().unwrap_err().contains("does not have node 3"));
        other.process_roles = ProcessRoles(vec!["broker".into()]);
        assert!(other.check().unwrap_err().contains("cluster_listen is needed"));
        other.cluster_listen = Some(HostPort { host: "c".into(), port: 0 });
        assert_eq!(other.check(), Ok(()));
        let without_role = Config { process_roles: other.process_roles.clone(), ..whole.clone() };
        assert!(without_role.check().unwrap_err().contains("must have controller"));
        let open = Config { cluster_secret_file: None, ..whole };
        assert!(open.check().unwrap_err().contains("needs cluster_secret_file"));
    }

    #[test]
    fn limits_of_groups_that_contradict_each_other_are_refused_by_name() {
        assert_eq!(Config::default().check(), Ok(()));
        let config =
            Config { group_min_session_timeout_ms: 10, group_max_session_timeout_ms: 5, ..Config::default() };
        assert_eq!(
            config.check(),
            Err(
                "group_min_session_timeout_ms = 10 must not be greater than group_max_session_timeout_ms = 5"
                    .to_owned()
            )
        );
        let config = Config { offsets_topic_segment_bytes: 1000, ..Config::default() };
        assert_eq!(config.check(), Err("offsets_topic_segment_bytes = 1000 is too small".to_owned()));
    }
}
