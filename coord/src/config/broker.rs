//! Configs of brokers that can be changed at run time, on one broker or for the whole cluster (KIP-226).
//!
//! They are the defaults of topic configs, under the broker's names for them (`log.retention.ms`), and the few in [`DYNAMIC_CONFIGS`].
//! As in Kafka only the finest unit of a default is dynamic (`log.retention.ms`, not `log.retention.hours`). Every other setting of a
//! broker comes from its file and is read-only here: [`validate`] is told their names.

use std::collections::BTreeMap;

use super::definition::{ConfigDefinition, ConfigType, Importance, ServerSynonym, Support, Valid};
use super::throttle::{FOLLOWER_RATE, LEADER_RATE};
use super::topic::TOPIC_CONFIGS;
use crate::error::CoordError;

const ONE_FOLDER: &str = "there is one folder for data, so nothing is moved between folders";
const LONG_MAX: &str = "9223372036854775807";

/// Dynamic configs of brokers that are not defaults of topics, sorted by name.
pub static DYNAMIC_CONFIGS: &[ConfigDefinition] = &[
    throttle(
        FOLLOWER_RATE,
        "Bytes per second that a broker may be sent for its throttled replicas that are not in sync.",
        Support::Works,
    ),
    throttle(
        LEADER_RATE,
        "Bytes per second that a broker may send to throttled replicas that are not in sync.",
        Support::Works,
    ),
    ConfigDefinition {
        name: "log.cleaner.backoff.ms",
        kind: ConfigType::Long,
        default: "15000",
        valid: Valid::AtLeast(0),
        importance: Importance::Medium,
        synonyms: &[],
        support: Support::Works,
        documentation: "How long compaction waits before it looks again when there was nothing to do.",
    },
    ConfigDefinition {
        name: "log.cleaner.dedupe.buffer.size",
        kind: ConfigType::Long,
        default: "134217728",
        valid: Valid::AtLeast(1 << 20),
        importance: Importance::Medium,
        synonyms: &[],
        support: Support::Works,
        documentation: "Memory for the keys of what is being compacted, of the whole broker.",
    },
    ConfigDefinition {
        name: "log.cleaner.io.buffer.size",
        kind: ConfigType::Int,
        default: "524288",
        valid: Valid::AtLeast(4096),
        importance: Importance::Medium,
        synonyms: &[],
        support: Support::Works,
        documentation: "How much compaction reads, and writes, at once, on each core.",
    },
    ConfigDefinition {
        name: "log.cleaner.io.max.bytes.per.second",
        kind: ConfigType::Double,
        default: "1.7976931348623157E308",
        valid: Valid::Fraction(1.0, f64::MAX),
        importance: Importance::Medium,
        synonyms: &[],
        support: Support::Works,
        documentation: "Bytes that compaction may read and write in a second, of the whole broker.",
    },
    ConfigDefinition {
        name: "log.cleaner.threads",
        kind: ConfigType::Int,
        default: "1",
        valid: Valid::AtLeast(1),
        importance: Importance::Medium,
        synonyms: &[],
        support: Support::Works,
        documentation: "Idle-priority threads that compaction computes on.",
    },
    ConfigDefinition {
        name: "max.connections",
        kind: ConfigType::Int,
        default: "100000",
        valid: Valid::AtLeast(1),
        importance: Importance::Medium,
        synonyms: &[],
        support: Support::Works,
        documentation: "Most client connections of the whole broker; more are closed at once.",
    },
    ConfigDefinition {
        name: "producer.id.expiration.ms",
        kind: ConfigType::Int,
        default: "86400000",
        valid: Valid::AtLeast(1),
        importance: Importance::Low,
        synonyms: &[],
        support: Support::Works,
        documentation: "An idle producer's sequence numbers are forgotten after so long.",
    },
    throttle(
        "replica.alter.log.dirs.io.max.bytes.per.second",
        "Bytes per second that may be copied between the folders of a broker.",
        Support::Satisfied(ONE_FOLDER),
    ),
];

const fn throttle(name: &'static str, documentation: &'static str, support: Support) -> ConfigDefinition {
    ConfigDefinition {
        name,
        kind: ConfigType::Long,
        default: LONG_MAX,
        valid: Valid::AtLeast(0),
        importance: Importance::Medium,
        synonyms: &[],
        support,
        documentation,
    }
}

/// The definition of a dynamic config, and the name under which its values are checked.
pub fn dynamic_config(name: &str) -> Option<&'static ConfigDefinition> {
    match DYNAMIC_CONFIGS.binary_search_by(|definition| definition.name.cmp(name)) {
        Ok(index) => Some(&DYNAMIC_CONFIGS[index]),
        Err(_) => dynamic_default(name),
    }
}

/// The topic config whose default this property gives, if the property can be changed at run time.
fn dynamic_default(name: &str) -> Option<&'static ConfigDefinition> {
    let (definition, synonym) = topic_default(name)?;
    is_dynamic(definition, synonym).then_some(definition)
}

/// The topic config whose default this property gives.
pub fn topic_default(name: &str) -> Option<(&'static ConfigDefinition, &'static ServerSynonym)> {
    TOPIC_CONFIGS.iter().find_map(|definition| {
        definition.synonyms.iter().find(|synonym| synonym.name == name).map(|synonym| (definition, synonym))
    })
}

/// Of several properties for one config the first, which has the finest unit, is dynamic.
pub fn is_dynamic(definition: &ConfigDefinition, synonym: &ServerSynonym) -> bool {
    definition.synonyms.first() == Some(synonym)
}

/// Checks all dynamic configs of a broker, or of the cluster. `is_read_only` tells names that only the broker's file can set.
///
/// # Errors
/// As Kafka, INVALID_REQUEST for a read-only name and for a bad value. A name that nobody knows is INVALID_CONFIG; Kafka keeps it,
/// because a plug-in might know it.
pub fn validate(
    configs: &BTreeMap<String, String>,
    is_read_only: &dyn Fn(&str) -> bool,
) -> Result<(), CoordError> {
    let fixed =
        |name: &&str| dynamic_config(name).is_none() && (is_read_only(name) || topic_default(name).is_some());
    let read_only: Vec<&str> = configs.keys().map(String::as_str).filter(fixed).collect();
    if !read_only.is_empty() {
        let text = format!("Cannot update these configs dynamically: Set({})", read_only.join(", "));
        return Err(CoordError::InvalidRequest(text));
    }
    for (name, value) in configs {
        let definition = dynamic_config(name)
            .ok_or_else(|| CoordError::InvalidConfig(format!("Unknown broker config name: {name}")))?;
        definition
            .check_as(name, value)
            .and_then(|()| definition.check_supported_as(name, value))
            .map_err(CoordError::InvalidRequest)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(pairs: &[(&str, &str)]) -> (String, bool) {
        let configs = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let error =
            validate(&configs, &|name| ["num.partitions", "broker.rack"].contains(&name)).unwrap_err();
        let is_request = matches!(error, CoordError::InvalidRequest(_));
        (error.to_string(), is_request)
    }

    #[test]
    fn what_only_the_file_can_set_is_refused_in_kafkas_words() {
        assert_eq!(
            refusal(&[("num.partitions", "2"), ("broker.rack", "a"), ("log.retention.ms", "1")]),
            ("Cannot update these configs dynamically: Set(broker.rack, num.partitions)".to_owned(), true)
        );
        for coarse in ["log.retention.hours", "log.retention.minutes", "log.roll.hours"] {
            assert!(refusal(&[(coarse, "1")]).0.contains("Set("), "{coarse}");
        }
    }

    #[test]
    fn values_are_checked_under_the_brokers_name_for_them() {
        let wrong = |name, value| refusal(&[(name, value)]);
        assert_eq!(
            wrong("log.retention.ms", "abc"),
            (
                "Invalid value abc for configuration log.retention.ms: Not a number of type LONG".to_owned(),
                true
            )
        );
        assert_eq!(
            wrong("log.segment.bytes", "10").0,
            "Invalid value 10 for configuration log.segment.bytes: Value must be at least 1048576"
        );
        assert!(wrong("max.connections", "0").0.ends_with("Value must be at least 1"));
        assert!(wrong("compression.zstd.level", "19").0.starts_with("Invalid value 19 for configuration"));
        assert_eq!(wrong("no.such", "1"), ("Unknown broker config name: no.such".to_owned(), false));
    }

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_valid() {
        assert!(DYNAMIC_CONFIGS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for definition in DYNAMIC_CONFIGS {
            let configs = BTreeMap::from([(definition.name.to_owned(), definition.default.to_owned())]);
            assert_eq!(validate(&configs, &|_| true), Ok(()), "{}", definition.name);
        }
    }
}
