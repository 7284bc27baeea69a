//! Which replicas an operator has throttled (KIP-73): topic configs name them, a dynamic config of brokers has the rate.

use std::collections::BTreeMap;

use super::definition::list_elements;
use crate::types::{BrokerId, PartitionId};

/// The dynamic config of brokers that says how many bytes per second a leader may send to throttled replicas.
pub const LEADER_RATE: &str = "leader.replication.throttled.rate";
/// The topic config that names the replicas whose leaders are throttled.
const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";

/// Whether `broker`, when it leads the partition, is to hold what it sends to replicas that are not in sync to the rate for throttled ones.
pub fn is_leader_throttled(
    topic_configs: &BTreeMap<String, String>,
    partition: PartitionId,
    broker: BrokerId,
) -> bool {
    let Some(listed) = topic_configs.get(LEADER_REPLICAS) else { return false };
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
    fn a_leader_is_throttled_where_it_is_listed_or_everything_is() {
        let is_throttled = |listed: &str| {
            let configs = BTreeMap::from([(LEADER_REPLICAS.to_owned(), listed.to_owned())]);
            is_leader_throttled(&configs, PartitionId(1), BrokerId(7))
        };
        assert!(is_throttled("*") && is_throttled("1:7") && is_throttled("0:3,1:7"));
        assert!(!is_throttled("") && !is_throttled("1:6,7:1"));
        assert!(!is_leader_throttled(&BTreeMap::new(), PartitionId(1), BrokerId(7)));
    }
}
