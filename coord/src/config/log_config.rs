//! The configs of one topic as storage's typed [`LogConfig`].

use std::collections::BTreeMap;
use std::str::FromStr;

use storage::LogConfig;
use storage::log::config::{TimestampType, TopicCompression};

use super::defaults::TopicDefaults;
use super::definition::list_elements;
use super::resolve::value_in_force;
use super::topic::topic_config;

/// Resolves what a topic's logs have to know: the topic's own values, else the operator's, else the built-in ones.
///
/// All values were validated when they were set; one that cannot be read all the same (written by a newer version) counts as the built-in default.
pub fn log_config(topic_configs: &BTreeMap<String, String>, defaults: &TopicDefaults) -> LogConfig {
    let values = Values { topic_configs, defaults };
    let fallback = LogConfig::default();
    let policy = values.text("cleanup.policy");
    let has_policy = |name| list_elements(&policy).any(|element| element == name);
    LogConfig {
        segment_bytes: values.number("segment.bytes", fallback.segment_bytes),
        segment_ms: values.number("segment.ms", fallback.segment_ms),
        segment_jitter_ms: values.number("segment.jitter.ms", fallback.segment_jitter_ms),
        segment_index_bytes: values.number("segment.index.bytes", fallback.segment_index_bytes),
        index_interval_bytes: values.number("index.interval.bytes", fallback.index_interval_bytes),
        cleanup_delete: has_policy("delete"),
        cleanup_compact: has_policy("compact"),
        min_cleanable_dirty_ratio: values
            .number("min.cleanable.dirty.ratio", fallback.min_cleanable_dirty_ratio),
        min_compaction_lag_ms: values.number("min.compaction.lag.ms", fallback.min_compaction_lag_ms),
        max_compaction_lag_ms: values.number("max.compaction.lag.ms", fallback.max_compaction_lag_ms),
        delete_retention_ms: values.number("delete.retention.ms", fallback.delete_retention_ms),
        retention_ms: values.number("retention.ms", fallback.retention_ms),
        retention_bytes: values.number("retention.bytes", fallback.retention_bytes),
        max_message_bytes: values.number("max.message.bytes", fallback.max_message_bytes),
        timestamp_type: match values.text("message.timestamp.type").as_str() {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        },
        timestamp_before_max_ms: values
            .number("message.timestamp.before.max.ms", fallback.timestamp_before_max_ms),
        timestamp_after_max_ms: values
            .number("message.timestamp.after.max.ms", fallback.timestamp_after_max_ms),
        compression: match values.text("compression.type").as_str() {
            "uncompressed" => TopicCompression::Uncompressed,
            "gzip" => TopicCompression::Gzip,
            "snappy" => TopicCompression::Snappy,
            "lz4" => TopicCompression::Lz4,
            "zstd" => TopicCompression::Zstd,
            _ => TopicCompression::Producer,
        },
        min_insync_replicas: values.number("min.insync.replicas", fallback.min_insync_replicas),
        flush_messages: values.number("flush.messages", fallback.flush_messages),
        flush_ms: values.number("flush.ms", fallback.flush_ms),
    }
}

/// What the controller has to know about a topic's replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicationConfig {
    /// `min.insync.replicas`
    pub min_insync_replicas: usize,
    /// `unclean.leader.election.enable`
    pub allows_unclean_election: bool,
}

/// Resolves what holds for the replication of a topic.
pub fn replication_config(
    topic_configs: &BTreeMap<String, String>,
    defaults: &TopicDefaults,
) -> ReplicationConfig {
    let values = Values { topic_configs, defaults };
    ReplicationConfig {
        min_insync_replicas: values.number("min.insync.replicas", 1),
        allows_unclean_election: values.text("unclean.leader.election.enable") == "true",
    }
}

struct Values<'a> {
    topic_configs: &'a BTreeMap<String, String>,
    defaults: &'a TopicDefaults,
}

impl Values<'_> {
    fn text(&self, name: &str) -> String {
        let definition = topic_config(name).expect("a name of the table");
        value_in_force(definition, self.topic_configs, self.defaults).0
    }

    fn number<T: FromStr>(&self, name: &str, fallback: T) -> T {
        self.text(name).parse().unwrap_or(fallback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_settings_the_values_are_storages_own_defaults() {
        assert_eq!(log_config(&BTreeMap::new(), &TopicDefaults::default()), LogConfig::default());
    }

    #[test]
    fn what_is_set_on_the_topic_reaches_the_log() {
        let set = [
            ("segment.bytes", "2097152"),
            ("retention.ms", "-1"),
            ("retention.bytes", "5000000"),
            ("max.message.bytes", "42"),
            ("message.timestamp.type", "LogAppendTime"),
            ("message.timestamp.after.max.ms", "7"),
            ("compression.type", "zstd"),
            ("cleanup.policy", "compact,delete"),
            ("min.cleanable.dirty.ratio", "0.1"),
            ("min.compaction.lag.ms", "11"),
            ("max.compaction.lag.ms", "12"),
            ("delete.retention.ms", "13"),
        ];
        let set = set.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let expected = LogConfig {
            segment_bytes: 2 << 20,
            retention_ms: -1,
            retention_bytes: 5_000_000,
            max_message_bytes: 42,
            timestamp_type: TimestampType::LogAppendTime,
            timestamp_after_max_ms: 7,
            compression: TopicCompression::Zstd,
            cleanup_compact: true,
            min_cleanable_dirty_ratio: 0.1,
            min_compaction_lag_ms: 11,
            max_compaction_lag_ms: 12,
            delete_retention_ms: 13,
            ..LogConfig::default()
        };
        assert_eq!(log_config(&set, &TopicDefaults::default()), expected);
    }
}
