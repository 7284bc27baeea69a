//! The configs of single groups (`kafka-configs --entity-type groups`).

use std::collections::BTreeMap;

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
    /// What these configs say, as [`crate::config::group::validate`] has let them in; those of other kinds of groups are not looked at.
    pub fn of(configs: &BTreeMap<String, String>) -> Self {
        let number = |name| configs.get(name).and_then(|value: &String| value.trim().parse().ok());
        GroupOverrides {
            consumer_session_timeout_ms: number(CONSUMER_SESSION_TIMEOUT_MS),
            consumer_heartbeat_interval_ms: number(CONSUMER_HEARTBEAT_INTERVAL_MS),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(configs: &[(&str, &str)]) -> GroupOverrides {
        GroupOverrides::of(
            &configs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        )
    }

    #[test]
    fn a_group_may_have_its_own_times_within_the_brokers_limits() {
        let own = of(&[(CONSUMER_SESSION_TIMEOUT_MS, "50000"), (CONSUMER_HEARTBEAT_INTERVAL_MS, "6000")]);
        let broker = GroupConfig::default();
        assert_eq!((own.session_timeout_ms(&broker), own.heartbeat_interval_ms(&broker)), (50_000, 6_000));
        let none = of(&[("share.session.timeout.ms", "50000")]);
        assert_eq!((none.session_timeout_ms(&broker), none.heartbeat_interval_ms(&broker)), (45_000, 5_000));
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
