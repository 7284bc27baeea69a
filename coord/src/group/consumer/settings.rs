//! The configs of single groups (`kafka-configs --entity-type groups`).

use std::collections::BTreeMap;

use crate::CoordError;
use crate::group::config::GroupConfig;

/// The name of a group's own session time-out.
pub const CONSUMER_SESSION_TIMEOUT_MS: &str = "consumer.session.timeout.ms";
/// The name of a group's own heartbeat interval.
pub const CONSUMER_HEARTBEAT_INTERVAL_MS: &str = "consumer.heartbeat.interval.ms";

/// What is set for one group; `None` is the broker's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupOverrides {
    /// `consumer.session.timeout.ms`
    pub consumer_session_timeout_ms: Option<i32>,
    /// `consumer.heartbeat.interval.ms`
    pub consumer_heartbeat_interval_ms: Option<i32>,
}

impl GroupOverrides {
    /// What these configs say; an error that fits INVALID_CONFIG if a name is unknown or a value out of the broker's range.
    pub fn parse(configs: &BTreeMap<String, String>, broker: &GroupConfig) -> Result<Self, CoordError> {
        let mut overrides = GroupOverrides::default();
        for (name, value) in configs {
            let number = || {
                let message =
                    || format!("Invalid value {value} for configuration {name}: Not a number of type INT");
                value.trim().parse::<i32>().map_err(|_| CoordError::InvalidConfig(message()))
            };
            match name.as_str() {
                CONSUMER_SESSION_TIMEOUT_MS => overrides.consumer_session_timeout_ms = Some(number()?),
                CONSUMER_HEARTBEAT_INTERVAL_MS => overrides.consumer_heartbeat_interval_ms = Some(number()?),
                _ => return Err(CoordError::InvalidConfig(format!("Unknown group config name: {name}"))),
            }
        }
        let (session_ms, heartbeat_ms) =
            (overrides.consumer_session_timeout_ms, overrides.consumer_heartbeat_interval_ms);
        check_range(
            CONSUMER_HEARTBEAT_INTERVAL_MS,
            heartbeat_ms,
            ("group.consumer.min.heartbeat.interval.ms", broker.group_consumer_min_heartbeat_interval_ms),
            ("group.consumer.max.heartbeat.interval.ms", broker.group_consumer_max_heartbeat_interval_ms),
        )?;
        check_range(
            CONSUMER_SESSION_TIMEOUT_MS,
            session_ms,
            ("group.consumer.min.session.timeout.ms", broker.group_consumer_min_session_timeout_ms),
            ("group.consumer.max.session.timeout.ms", broker.group_consumer_max_session_timeout_ms),
        )?;
        if overrides.session_timeout_ms(broker) <= overrides.heartbeat_interval_ms(broker) {
            let message = format!(
                "{CONSUMER_SESSION_TIMEOUT_MS} must be greater than {CONSUMER_HEARTBEAT_INTERVAL_MS}"
            );
            return Err(CoordError::InvalidConfig(message));
        }
        Ok(overrides)
    }

    /// The group's session time-out, in ms: its own, within the broker's limits of today.
    pub fn session_timeout_ms(&self, broker: &GroupConfig) -> i32 {
        match self.consumer_session_timeout_ms {
            Some(own) => own
                .max(broker.group_consumer_min_session_timeout_ms)
                .min(broker.group_consumer_max_session_timeout_ms),
            None => broker.group_consumer_session_timeout_ms,
        }
    }

    /// The group's heartbeat interval, in ms: its own, within the broker's limits of today.
    pub fn heartbeat_interval_ms(&self, broker: &GroupConfig) -> i32 {
        match self.consumer_heartbeat_interval_ms {
            Some(own) => own
                .max(broker.group_consumer_min_heartbeat_interval_ms)
                .min(broker.group_consumer_max_heartbeat_interval_ms),
            None => broker.group_consumer_heartbeat_interval_ms,
        }
    }
}

fn check_range(
    name: &str,
    value: Option<i32>,
    least: (&str, i32),
    most: (&str, i32),
) -> Result<(), CoordError> {
    let refused = |relation: &str, limit: &str| {
        Err(CoordError::InvalidConfig(format!("{name} must be {relation} or equals to {limit}")))
    };
    match value {
        Some(value) if value < least.1 => refused("greater than", least.0),
        Some(value) if value > most.1 => refused("less than", most.0),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(configs: &[(&str, &str)]) -> Result<GroupOverrides, CoordError> {
        let configs = configs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        GroupOverrides::parse(&configs, &GroupConfig::default())
    }

    #[test]
    fn a_group_may_have_its_own_times_within_the_brokers_limits() {
        let own = parse(&[(CONSUMER_SESSION_TIMEOUT_MS, "50000"), (CONSUMER_HEARTBEAT_INTERVAL_MS, "6000")])
            .unwrap();
        let broker = GroupConfig::default();
        assert_eq!((own.session_timeout_ms(&broker), own.heartbeat_interval_ms(&broker)), (50_000, 6_000));
        let none = parse(&[]).unwrap();
        assert_eq!((none.session_timeout_ms(&broker), none.heartbeat_interval_ms(&broker)), (45_000, 5_000));
    }

    #[test]
    fn what_is_unknown_no_number_or_out_of_range_is_refused() {
        for config in [
            ("session.timeout.ms", "45000"),
            (CONSUMER_SESSION_TIMEOUT_MS, "soon"),
            (CONSUMER_SESSION_TIMEOUT_MS, "44999"),
            (CONSUMER_SESSION_TIMEOUT_MS, "60001"),
            (CONSUMER_HEARTBEAT_INTERVAL_MS, "4999"),
            (CONSUMER_HEARTBEAT_INTERVAL_MS, "15001"),
        ] {
            assert!(matches!(parse(&[config]), Err(CoordError::InvalidConfig(_))), "{config:?}");
        }
    }

    #[test]
    fn a_value_that_the_brokers_limits_have_passed_by_is_brought_within_them() {
        let own = GroupOverrides {
            consumer_session_timeout_ms: Some(1),
            consumer_heartbeat_interval_ms: Some(i32::MAX),
        };
        let broker = GroupConfig::default();
        assert_eq!((own.session_timeout_ms(&broker), own.heartbeat_interval_ms(&broker)), (45_000, 15_000));
    }
}
