//! Which replicas an operator has throttled (KIP-73): topic configs name them, dynamic configs of brokers have the rates.

use std::collections::BTreeMap;

use super::definition::list_elements;
use crate::types::{BrokerId, PartitionId};

/// The dynamic config of brokers that says how many bytes per second a leader may send to throttled replicas.
pub const LEADER_RATE: &str = "leader.replication.throttled.rate";
/// The dynamic config of brokers that says how many bytes per second a follower may be sent for its throttled replicas.
pub const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
/// The topic config that names the replicas whose leaders are throttled.
pub const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";
/// The topic config that names the replicas that are throttled themselves.
pub const FOLLOWER_REPLICAS: &str = "follower.replication.throttled.replicas";

/// Whether `broker`, when it leads the partition, is to hold what it sends to replicas that are not in sync to its rate for throttled ones.
pub fn is_leader_throttled(
    topic_configs: &BTreeMap<String, String>,
    partition: PartitionId,
    broker: BrokerId,
) -> bool {
    names(topic_configs, LEADER_REPLICAS, partition, broker)
}

/// Whether what `broker` gets of the partition, as long as it is not in sync, is to be held to its rate for throttled replicas.
pub fn is_follower_throttled(
    topic_configs: &BTreeMap<String, String>,
    partition: PartitionId,
    broker: BrokerId,
) -> bool {
    names(topic_configs, FOLLOWER_REPLICAS, partition, broker)
}

fn names(
    topic_configs: &BTreeMap<String, String>,
    config: &str,
    partition: PartitionId,
    broker: BrokerId,
) -> bool {
    let Some(listed) = topic_configs.get(config) else { return false };
    let is_this = |element: &str| {
        element
            .split_once(':')
            .is_some_and(|(p, b)| p.parse() == Ok(partition.0) && b.parse() == Ok(broker.0))
    };
    listed == "*" || list_elements(listed).any(is_this)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_throttled_where_it_is_listed_or_everything_is() {
        for (config, asked, other) in [
            (
                LEADER_REPLICAS,
                is_leader_throttled as fn(&_, _, _) -> bool,
                is_follower_throttled as fn(&_, _, _) -> bool,
            ),
            (FOLLOWER_REPLICAS, is_follower_throttled, is_leader_throttled),
        ] {
            let is_throttled = |listed: &str| {
                let configs = BTreeMap::from([(config.to_owned(), listed.to_owned())]);
                assert!(!other(&configs, PartitionId(1), BrokerId(7)), "that is the other side");
                asked(&configs, PartitionId(1), BrokerId(7))
            };
            assert!(is_throttled("*") && is_throttled("1:7") && is_throttled("0:3,1:7"));
            assert!(!is_throttled("") && !is_throttled("1:6,7:1"));
            assert!(!asked(&BTreeMap::new(), PartitionId(1), BrokerId(7)));
        }
    }
}
