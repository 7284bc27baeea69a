//! Configs of groups (KIP-848): what one group has different from the broker's own settings for all groups.

use std::collections::BTreeMap;

use super::definition::{ConfigDefinition, ConfigType, Importance, Support, Valid};
use crate::error::CoordError;
use crate::group::GroupConfig;

const NO_SHARE_GROUPS: &str = "share groups are not available in this version of the broker";
const NO_STREAMS_GROUPS: &str =
    "the streams rebalance protocol is not available in this version of the broker";

/// The rows, sorted by name. Defaults are those of a broker without settings of its own; see [`default_of`].
pub static GROUP_CONFIGS: &[ConfigDefinition] = &[
    row(
        "consumer.heartbeat.interval.ms",
        ConfigType::Int,
        "5000",
        Valid::AtLeast(1),
        Support::Works,
        "How often members of a consumer group send heartbeats.",
    ),
    row(
        "consumer.session.timeout.ms",
        ConfigType::Int,
        "45000",
        Valid::AtLeast(1),
        Support::Works,
        "The time without a heartbeat after which a member of a consumer group is taken for dead.",
    ),
    row(
        "share.auto.offset.reset",
        ConfigType::String,
        "latest",
        Valid::Any,
        Support::Only(&[], NO_SHARE_GROUPS),
        "Where a share group starts to read a partition: earliest, latest, or by_duration:PnDTnHnMn.nS.",
    ),
    row(
        "share.heartbeat.interval.ms",
        ConfigType::Int,
        "5000",
        Valid::AtLeast(1),
        Support::Only(&[], NO_SHARE_GROUPS),
        "How often members of a share group send heartbeats.",
    ),
    row(
        "share.isolation.level",
        ConfigType::String,
        "read_uncommitted",
        Valid::OneOf(&["read_committed", "read_uncommitted"]),
        Support::Only(&[], NO_SHARE_GROUPS),
        "Whether a share group is given records of transactions that are not committed.",
    ),
    row(
        "share.record.lock.duration.ms",
        ConfigType::Int,
        "30000",
        Valid::AtLeast(1),
        Support::Only(&[], NO_SHARE_GROUPS),
        "How long a member of a share group may hold a record before another member may have it.",
    ),
    row(
        "share.session.timeout.ms",
        ConfigType::Int,
        "45000",
        Valid::AtLeast(1),
        Support::Only(&[], NO_SHARE_GROUPS),
        "The time without a heartbeat after which a member of a share group is taken for dead.",
    ),
    row(
        "streams.heartbeat.interval.ms",
        ConfigType::Int,
        "5000",
        Valid::AtLeast(1),
        Support::Only(&[], NO_STREAMS_GROUPS),
        "How often members of a streams group send heartbeats.",
    ),
    row(
        "streams.num.standby.replicas",
        ConfigType::Int,
        "0",
        Valid::AtLeast(0),
        Support::Only(&[], NO_STREAMS_GROUPS),
        "The number of standby replicas of each task of a streams group.",
    ),
    row(
        "streams.session.timeout.ms",
        ConfigType::Int,
        "45000",
        Valid::AtLeast(1),
        Support::Only(&[], NO_STREAMS_GROUPS),
        "The time without a heartbeat after which a member of a streams group is taken for dead.",
    ),
];

const fn row(
    name: &'static str,
    kind: ConfigType,
    default: &'static str,
    valid: Valid,
    support: Support,
    documentation: &'static str,
) -> ConfigDefinition {
    let importance = Importance::Medium;
    ConfigDefinition { name, kind, default, valid, importance, synonyms: &[], support, documentation }
}

/// The row of this name.
pub fn group_config(name: &str) -> Option<&'static ConfigDefinition> {
    let index = GROUP_CONFIGS.binary_search_by(|definition| definition.name.cmp(name)).ok()?;
    Some(&GROUP_CONFIGS[index])
}

/// The value that a group has which does not set the config itself: the broker's, where it has a setting for it.
pub fn default_of(definition: &ConfigDefinition, broker: &GroupConfig) -> String {
    match definition.name {
        "consumer.heartbeat.interval.ms" => broker.group_consumer_heartbeat_interval_ms.to_string(),
        "consumer.session.timeout.ms" => broker.group_consumer_session_timeout_ms.to_string(),
        _ => definition.default.to_owned(),
    }
}

/// Checks all configs of one group: known names, valid values, within the broker's limits, in agreement with each other.
///
/// # Errors
/// INVALID_CONFIG, in Kafka's words.
pub fn validate(configs: &BTreeMap<String, String>, broker: &GroupConfig) -> Result<(), CoordError> {
    for (name, value) in configs {
        let definition = group_config(name)
            .ok_or_else(|| CoordError::InvalidConfig(format!("Unknown group config name: {name}")))?;
        definition
            .check(value)
            .and_then(|()| definition.check_supported(value))
            .map_err(CoordError::InvalidConfig)?;
    }
    let number = |name: &str, default: i32| {
        configs.get(name).and_then(|value| value.trim().parse().ok()).unwrap_or(default)
    };
    let heartbeat = "consumer.heartbeat.interval.ms";
    let heartbeat_ms = number(heartbeat, broker.group_consumer_heartbeat_interval_ms);
    within(
        heartbeat,
        heartbeat_ms,
        (broker.group_consumer_min_heartbeat_interval_ms, broker.group_consumer_max_heartbeat_interval_ms),
    )?;
    let session = "consumer.session.timeout.ms";
    let session_ms = number(session, broker.group_consumer_session_timeout_ms);
    within(
        session,
        session_ms,
        (broker.group_consumer_min_session_timeout_ms, broker.group_consumer_max_session_timeout_ms),
    )?;
    if session_ms <= heartbeat_ms {
        let text = format!("{session} must be greater than {heartbeat}");
        return Err(CoordError::InvalidConfig(text));
    }
    Ok(())
}

/// `name` is `consumer.X`; the limits are the broker's `group.consumer.min.X` and `group.consumer.max.X`.
fn within(name: &str, value: i32, (low, high): (i32, i32)) -> Result<(), CoordError> {
    let limit = |end: &str| name.replacen("consumer.", &format!("group.consumer.{end}."), 1);
    let text = if value < low {
        format!("{name} must be greater than or equal to {}", limit("min"))
    } else if value > high {
        format!("{name} must be less than or equal to {}", limit("max"))
    } else {
        return Ok(());
    };
    Err(CoordError::InvalidConfig(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, value: &str) -> Result<(), String> {
        let configs = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        validate(&configs, &GroupConfig::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn values_stay_within_the_brokers_limits() {
        assert_eq!(outcome("consumer.session.timeout.ms", "50000"), Ok(()));
        for (name, value, text) in [
            (
                "consumer.session.timeout.ms",
                "1000",
                "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
            ),
            (
                "consumer.heartbeat.interval.ms",
                "15001",
                "consumer.heartbeat.interval.ms must be less than or equal to group.consumer.max.heartbeat.interval.ms",
            ),
            (
                "consumer.session.timeout.ms",
                "0",
                "Invalid value 0 for configuration consumer.session.timeout.ms: Value must be at least 1",
            ),
            (
                "consumer.session.timeout.ms",
                "x",
                "Invalid value x for configuration consumer.session.timeout.ms: Not a number of type INT",
            ),
            ("nope", "1", "Unknown group config name: nope"),
        ] {
            assert_eq!(outcome(name, value), Err(text.to_owned()));
        }
    }

    #[test]
    fn a_session_is_longer_than_the_time_between_heartbeats() {
        let broker = GroupConfig {
            group_consumer_min_session_timeout_ms: 1000,
            group_consumer_session_timeout_ms: 6000,
            ..GroupConfig::default()
        };
        let configs = BTreeMap::from([("consumer.session.timeout.ms".to_owned(), "5000".to_owned())]);
        let error = validate(&configs, &broker).unwrap_err().to_string();
        assert_eq!(error, "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms");
    }

    #[test]
    fn configs_of_groups_that_do_not_exist_here_are_refused_except_for_their_defaults() {
        assert!(outcome("share.session.timeout.ms", "50000").unwrap_err().contains("share groups"));
        assert_eq!(outcome("share.session.timeout.ms", "45000"), Ok(()));
        assert!(outcome("streams.num.standby.replicas", "1").unwrap_err().contains("streams"));
    }

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_valid_and_those_of_the_broker() {
        assert!(GROUP_CONFIGS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for definition in GROUP_CONFIGS {
            definition.check(definition.default).unwrap();
            assert_eq!(default_of(definition, &GroupConfig::default()), definition.default);
        }
    }
}
