//! All topic configs of Kafka 4.1, and what this broker does with each.

use std::collections::BTreeMap;

use super::definition::Importance::Medium;
use super::definition::{ConfigDefinition, ConfigType, ServerSynonym, Support, Valid};
use super::throttle::{FOLLOWER_REPLICAS, LEADER_REPLICAS};
use crate::error::CoordError;

const DAY_MS: &str = "86400000";
const WEEK_MS: &str = "604800000";
const LONG_MAX: &str = "9223372036854775807";
const HOUR_IN_MS: i64 = 3_600_000;

const NO_TIERED_STORAGE: &str = "tiered storage is not available in this broker";
const NO_LEVELS: &str =
    "compression levels cannot be chosen in this version of the broker, leave the default";

const fn server(name: &'static str) -> ServerSynonym {
    ServerSynonym { name, factor: 1 }
}

/// The rows, sorted by name.
pub static TOPIC_CONFIGS: &[ConfigDefinition] = &[
    ConfigDefinition {
        name: "cleanup.policy",
        kind: ConfigType::List,
        default: "delete",
        valid: Valid::ListOf(&["compact", "delete"]),
        importance: Medium,
        synonyms: &[server("log.cleanup.policy")],
        support: Support::Works,
        documentation: "What happens to old segments. \"delete\" removes them when they exceed the retention time or size; \
             \"compact\" keeps the latest record of each key. Both may be given; without either nothing is removed.",
    },
    ConfigDefinition {
        name: "compression.gzip.level",
        kind: ConfigType::Int,
        default: "-1",
        valid: Valid::Level(1, 9),
        importance: Medium,
        synonyms: &[server("compression.gzip.level")],
        support: Support::Only(&[], NO_LEVELS),
        documentation: "The effort of gzip when compression.type is \"gzip\"; -1 is the library's default.",
    },
    ConfigDefinition {
        name: "compression.lz4.level",
        kind: ConfigType::Int,
        default: "9",
        valid: Valid::Between(1, 17),
        importance: Medium,
        synonyms: &[server("compression.lz4.level")],
        support: Support::Only(&[], NO_LEVELS),
        documentation: "The effort of LZ4 when compression.type is \"lz4\".",
    },
    ConfigDefinition {
        name: "compression.type",
        kind: ConfigType::String,
        default: "producer",
        valid: Valid::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        importance: Medium,
        synonyms: &[server("compression.type")],
        support: Support::Works,
        documentation: "How the topic's batches are stored. \"producer\" keeps each batch as its producer compressed it; \
             any other value makes the broker re-compress batches that come in another form.",
    },
    ConfigDefinition {
        name: "compression.zstd.level",
        kind: ConfigType::Int,
        default: "3",
        valid: Valid::Between(-131_072, 22),
        importance: Medium,
        synonyms: &[server("compression.zstd.level")],
        support: Support::Only(&[], NO_LEVELS),
        documentation: "The effort of zstd when compression.type is \"zstd\".",
    },
    ConfigDefinition {
        name: "delete.retention.ms",
        kind: ConfigType::Long,
        default: DAY_MS,
        valid: Valid::AtLeast(0),
        importance: Medium,
        synonyms: &[server("log.cleaner.delete.retention.ms")],
        support: Support::Works,
        documentation: "How long a compacted topic keeps the markers of deleted keys, so that a consumer which reads the topic \
             from its start sees every deletion.",
    },
    ConfigDefinition {
        name: "file.delete.delay.ms",
        kind: ConfigType::Long,
        default: "60000",
        valid: Valid::AtLeast(0),
        importance: Medium,
        synonyms: &[server("log.segment.delete.delay.ms")],
        support: Support::Satisfied(
            "a deleted segment's file goes away when its last reader has finished, so no reader needs a delay",
        ),
        documentation: "How long the file of a deleted segment is kept for readers that have it open.",
    },
    ConfigDefinition {
        name: "flush.messages",
        kind: ConfigType::Long,
        default: LONG_MAX,
        valid: Valid::AtLeast(1),
        importance: Medium,
        synonyms: &[server("log.flush.interval.messages")],
        support: Support::Works,
        documentation: "The largest number of records that may be appended before they are synced to disk. With the broker's \
             durability = \"sync\" every record is synced before it is acknowledged, whatever the value.",
    },
    ConfigDefinition {
        name: "flush.ms",
        kind: ConfigType::Long,
        default: LONG_MAX,
        valid: Valid::AtLeast(0),
        importance: Medium,
        synonyms: &[server("log.flush.interval.ms"), server("log.flush.scheduler.interval.ms")],
        support: Support::Works,
        documentation: "The longest time that appended records may wait before they are synced to disk; looked at with every \
             append and every second. With the broker's durability = \"sync\" every record is synced before it is \
             acknowledged, whatever the value.",
    },
    ConfigDefinition {
        name: FOLLOWER_REPLICAS,
        kind: ConfigType::List,
        default: "",
        valid: Valid::ThrottledReplicas,
        importance: Medium,
        synonyms: &[],
        support: Support::Works,
        documentation: "Replicas whose replication is throttled on the follower's side: partition:broker pairs, or * for all.",
    },
    ConfigDefinition {
        name: "index.interval.bytes",
        kind: ConfigType::Int,
        default: "4096",
        valid: Valid::AtLeast(0),
        importance: Medium,
        synonyms: &[server("log.index.interval.bytes")],
        support: Support::Works,
        documentation: "Distance in bytes between two entries of the offset index: a smaller one finds a position with less \
             reading and makes the index larger.",
    },
    ConfigDefinition {
        name: LEADER_REPLICAS,
        kind: ConfigType::List,
        default: "",
        valid: Valid::ThrottledReplicas,
        importance: Medium,
        synonyms: &[],
        support: Support::Works,
        documentation: "Replicas whose replication is throttled on the leader's side: partition:broker pairs, or * for all.",
    },
    ConfigDefinition {
        name: "local.retention.bytes",
        kind: ConfigType::Long,
        default: "-2",
        valid: Valid::AtLeast(-2),
        importance: Medium,
        synonyms: &[server("log.local.retention.bytes")],
        support: Support::Only(&[], NO_TIERED_STORAGE),
        documentation: "With tiered storage: how many bytes of a partition stay on local disks; -2 follows retention.bytes.",
    },
    ConfigDefinition {
        name: "local.retention.ms",
        kind: ConfigType::Long,
        default: "-2",
        valid: Valid::AtLeast(-2),
        importance: Medium,
        synonyms: &[server("log.local.retention.ms")],
        support: Support::Only(&[], NO_TIERED_STORAGE),
        documentation: "With tiered storage: how long a segment stays on local disks; -2 follows retention.ms.",
    },
    ConfigDefinition {
        name: "max.compaction.lag.ms",
        kind: ConfigType::Long,
        default: LONG_MAX,
        valid: Valid::AtLeast(1),
        importance: Medium,
        synonyms: &[server("log.cleaner.max.compaction.lag.ms")],
        support: Support::Works,
        documentation: "The longest time that a record of a compacted topic may wait for compaction.",
    },
    ConfigDefinition {
        name: "max.message.bytes",
        kind: ConfigType::Int,
        default: "1048588",
        valid: Valid::AtLeast(0),
        importance: Medium,
        synonyms: &[server("message.max.bytes")],
        support: Support::Works,
        documentation: "The largest record batch, in bytes and after compression, that producers may send.",
    },
    ConfigDefinition {
        name: "message.timestamp.after.max.ms",
        kind: ConfigType::Long,
        default: "3600000",
        valid: Valid::AtLeast(0),
        importance: Medium,
        synonyms: &[server("log.message.timestamp.after.max.ms")],
        support: Support::Works,
        documentation: "How far a producer's timestamp may lie ahead of the broker's clock. Records beyond it are refused. \
             Has no effect with message.timestamp.type=LogAppendTime.",
    },
    ConfigDefinition {
        name: "message.timestamp.before.max.ms",
        kind: ConfigType::Long,
        default: LONG_MAX,
        valid: Valid::AtLeast(0),
        importance: Medium,
        synonyms: &[server("log.message.timestamp.before.max.ms")],
        support: Support::Works,
        documentation: "How far a producer's timestamp may lie behind the broker's clock. Records beyond it are refused. \
             Has no effect with message.timestamp.type=LogAppendTime.",
    },
    ConfigDefinition {
        name: "message.timestamp.type",
        kind: ConfigType::String,
        default: "CreateTime",
        valid: Valid::OneOf(&["CreateTime", "LogAppendTime"]),
        importance: Medium,
        synonyms: &[server("log.message.timestamp.type")],
        support: Support::Works,
        documentation: "Whether a record's timestamp is the one its producer gave it, or the time at which the broker appended it.",
    },
    ConfigDefinition {
        name: "min.cleanable.dirty.ratio",
        kind: ConfigType::Double,
        default: "0.5",
        valid: Valid::Fraction(0.0, 1.0),
        importance: Medium,
        synonyms: &[server("log.cleaner.min.cleanable.ratio")],
        support: Support::Works,
        documentation: "The share of a compacted log that must be new before it is compacted again.",
    },
    ConfigDefinition {
        name: "min.compaction.lag.ms",
        kind: ConfigType::Long,
        default: "0",
        valid: Valid::AtLeast(0),
        importance: Medium,
        synonyms: &[server("log.cleaner.min.compaction.lag.ms")],
        support: Support::Works,
        documentation: "The time during which a record of a compacted topic is left alone.",
    },
    ConfigDefinition {
        name: "min.insync.replicas",
        kind: ConfigType::Int,
        default: "1",
        valid: Valid::AtLeast(1),
        importance: Medium,
        synonyms: &[server("min.insync.replicas")],
        support: Support::Works,
        documentation: "How many replicas must have a record before a producer with acks=all is told that it is safe; never more \
             than the topic has.",
    },
    ConfigDefinition {
        name: "preallocate",
        kind: ConfigType::Boolean,
        default: "false",
        valid: Valid::Any,
        importance: Medium,
        synonyms: &[server("log.preallocate")],
        support: Support::Satisfied("space is always allocated ahead of writing, in steps"),
        documentation: "Whether the space of a segment is allocated when it is created.",
    },
    ConfigDefinition {
        name: "remote.log.copy.disable",
        kind: ConfigType::Boolean,
        default: "false",
        valid: Valid::Any,
        importance: Medium,
        synonyms: &[],
        support: Support::Only(&[], NO_TIERED_STORAGE),
        documentation: "With tiered storage: stops copying segments to the remote tier.",
    },
    ConfigDefinition {
        name: "remote.log.delete.on.disable",
        kind: ConfigType::Boolean,
        default: "false",
        valid: Valid::Any,
        importance: Medium,
        synonyms: &[],
        support: Support::Only(&[], NO_TIERED_STORAGE),
        documentation: "With tiered storage: whether switching it off deletes the remote data.",
    },
    ConfigDefinition {
        name: "remote.storage.enable",
        kind: ConfigType::Boolean,
        default: "false",
        valid: Valid::Any,
        importance: Medium,
        synonyms: &[],
        support: Support::Only(&[], NO_TIERED_STORAGE),
        documentation: "Whether old segments move to a remote tier.",
    },
    ConfigDefinition {
        name: "retention.bytes",
        kind: ConfigType::Long,
        default: "-1",
        valid: Valid::Any,
        importance: Medium,
        synonyms: &[server("log.retention.bytes")],
        support: Support::Works,
        documentation: "The size of each partition beyond which its oldest segments are deleted; -1 for no limit. \
             A topic may take this many bytes times its number of partitions.",
    },
    ConfigDefinition {
        name: "retention.ms",
        kind: ConfigType::Long,
        default: WEEK_MS,
        valid: Valid::AtLeast(-1),
        importance: Medium,
        synonyms: &[
            server("log.retention.ms"),
            ServerSynonym { name: "log.retention.minutes", factor: 60_000 },
            ServerSynonym { name: "log.retention.hours", factor: HOUR_IN_MS },
        ],
        support: Support::Works,
        documentation: "The age beyond which segments are deleted; -1 keeps them for ever. It is the time within which consumers \
             must have read their data.",
    },
    ConfigDefinition {
        name: "segment.bytes",
        kind: ConfigType::Int,
        default: "1073741824",
        valid: Valid::AtLeast(1_048_576),
        importance: Medium,
        synonyms: &[server("log.segment.bytes")],
        support: Support::Works,
        documentation: "The size of a segment file. Retention works on whole segments: larger ones mean fewer files and coarser \
             retention.",
    },
    ConfigDefinition {
        name: "segment.index.bytes",
        kind: ConfigType::Int,
        default: "10485760",
        valid: Valid::AtLeast(4),
        importance: Medium,
        synonyms: &[server("log.index.size.max.bytes")],
        support: Support::Works,
        documentation: "The size of a segment's offset index at which the next segment is begun.",
    },
    ConfigDefinition {
        name: "segment.jitter.ms",
        kind: ConfigType::Long,
        default: "0",
        valid: Valid::AtLeast(0),
        importance: Medium,
        synonyms: &[
            server("log.roll.jitter.ms"),
            ServerSynonym { name: "log.roll.jitter.hours", factor: HOUR_IN_MS },
        ],
        support: Support::Works,
        documentation: "The largest random part that is taken off segment.ms, so that not all partitions begin a segment at once.",
    },
    ConfigDefinition {
        name: "segment.ms",
        kind: ConfigType::Long,
        default: WEEK_MS,
        valid: Valid::AtLeast(1),
        importance: Medium,
        synonyms: &[server("log.roll.ms"), ServerSynonym { name: "log.roll.hours", factor: HOUR_IN_MS }],
        support: Support::Works,
        documentation: "The age at which a segment is closed although it is not full, so that retention can take it.",
    },
    ConfigDefinition {
        name: "unclean.leader.election.enable",
        kind: ConfigType::Boolean,
        default: "false",
        valid: Valid::Any,
        importance: Medium,
        synonyms: &[server("unclean.leader.election.enable")],
        support: Support::Satisfied(
            "a partition with one replica has no other replica that could be elected",
        ),
        documentation: "Whether a replica that has not everything may become leader when no other is left, at the price of data.",
    },
];

/// The row of this name.
pub fn topic_config(name: &str) -> Option<&'static ConfigDefinition> {
    let index = TOPIC_CONFIGS.binary_search_by(|definition| definition.name.cmp(name)).ok()?;
    Some(&TOPIC_CONFIGS[index])
}

/// Checks all configs of one topic: known names, valid values, values that this broker honours, and that they agree with each other.
pub fn validate_topic_configs(configs: &BTreeMap<String, String>) -> Result<(), CoordError> {
    for (name, value) in configs {
        let definition = topic_config(name)
            .ok_or_else(|| CoordError::InvalidConfig(format!("Unknown topic config name: {name}")))?;
        definition
            .check(value)
            .and_then(|()| definition.check_supported(value))
            .map_err(CoordError::InvalidConfig)?;
    }
    check_compaction_lags(configs)
}

/// The shortest compaction lag must not be longer than the longest.
fn check_compaction_lags(configs: &BTreeMap<String, String>) -> Result<(), CoordError> {
    let lag = |name| configs.get(name).and_then(|value| value.trim().parse::<i64>().ok());
    let min = lag("min.compaction.lag.ms").unwrap_or(0);
    let max = lag("max.compaction.lag.ms").unwrap_or(i64::MAX);
    if min > max {
        let problem = format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        );
        return Err(CoordError::InvalidConfig(problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, value: &str) -> String {
        let configs = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        validate_topic_configs(&configs).unwrap_err().to_string()
    }

    #[test]
    fn values_are_checked_and_refused_in_kafkas_words() {
        assert_eq!(refusal("nonsense", "1"), "Unknown topic config name: nonsense");
        assert_eq!(
            refusal("retention.ms", "soon"),
            "Invalid value soon for configuration retention.ms: Not a number of type LONG"
        );
        assert_eq!(
            refusal("retention.ms", "-2"),
            "Invalid value -2 for configuration retention.ms: Value must be at least -1"
        );
        assert_eq!(
            refusal("segment.bytes", "1000"),
            "Invalid value 1000 for configuration segment.bytes: Value must be at least 1048576"
        );
        assert_eq!(
            refusal("segment.bytes", "9999999999"),
            "Invalid value 9999999999 for configuration segment.bytes: Not a number of type INT"
        );
        assert_eq!(
            refusal("cleanup.policy", "shred"),
            "Invalid value shred for configuration cleanup.policy: String must be one of: compact, delete"
        );
        assert_eq!(
            refusal("preallocate", "yes"),
            "Invalid value yes for configuration preallocate: Expected value to be either true or false"
        );
        assert!(refusal("min.cleanable.dirty.ratio", "1.5").ends_with("Value must be no more than 1"));
        assert!(refusal("compression.gzip.level", "0").ends_with("between 1 and 9 or equal to -1"));
        assert!(refusal("leader.replication.throttled.replicas", "0-1").contains("[partitionId]:[brokerId]"));
    }

    #[test]
    fn what_does_not_work_yet_is_refused_with_the_reason_and_its_default_is_accepted() {
        for (name, value) in [
            ("remote.storage.enable", "true"),
            ("local.retention.ms", "1000"),
            ("compression.zstd.level", "19"),
        ] {
            assert!(
                refusal(name, value).contains("not available") || refusal(name, value).contains("cannot"),
                "{name}"
            );
        }
        for definition in TOPIC_CONFIGS {
            let padded = BTreeMap::from([(definition.name.to_owned(), format!(" {} ", definition.default))]);
            assert_eq!(validate_topic_configs(&padded), Ok(()), "{}", definition.name);
        }
    }

    #[test]
    fn compaction_is_accepted_unless_its_lags_contradict_each_other() {
        let configs = |pairs: &[(&str, &str)]| {
            validate_topic_configs(&pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect())
        };
        for policy in ["compact", "delete", "compact,delete", "delete, compact"] {
            assert_eq!(configs(&[("cleanup.policy", policy)]), Ok(()), "{policy}");
        }
        assert_eq!(
            configs(&[("min.compaction.lag.ms", "2"), ("max.compaction.lag.ms", "1")])
                .unwrap_err()
                .to_string(),
            "conflict topic config setting min.compaction.lag.ms (2) > max.compaction.lag.ms (1)"
        );
        assert_eq!(configs(&[("min.compaction.lag.ms", "2"), ("max.compaction.lag.ms", "2")]), Ok(()));
    }

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_valid_and_supported() {
        assert!(TOPIC_CONFIGS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for definition in TOPIC_CONFIGS {
            definition.check(definition.default).unwrap();
            definition.check_supported(definition.default).unwrap();
            assert_eq!(definition.normalize(definition.default), definition.default, "{}", definition.name);
            assert!(definition.documentation.ends_with('.'), "{}", definition.name);
        }
    }
}
