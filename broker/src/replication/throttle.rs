//! The rates for replicas that an operator has throttled (KIP-73), out of the metadata. Pure.
//!
//! Leaders hold back at both ends: what they send at their own rates, and what followers get at those of the followers, which the metadata knows as well. A
//! follower that held back by itself would hold up all partitions that share a link. A broker's rate is shared out evenly among those who send: the rate of a
//! leader among its shards, that of a follower among its leaders first. So it is never exceeded, but not used up either where one of them has less to send.

use std::collections::BTreeSet;

use coord::config::ConfigResourceType;
use coord::config::throttle::{
    FOLLOWER_RATE, FOLLOWER_REPLICAS, LEADER_RATE, LEADER_REPLICAS, is_follower_throttled,
    is_leader_throttled,
};
use coord::metadata::{MetadataImage, TopicImage};
use coord::types::BrokerId;

use crate::live::ALL_BROKERS;
use crate::placement::shard_of;

/// Something of the leader, and of the follower.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends<T> {
    /// What is sent.
    pub leader: T,
    /// What is received.
    pub follower: T,
}

/// What a shard of broker `leader`, which has so many, may send in a second to replicas that are not in sync and whose leader is throttled, and to throttled
/// ones of `follower` that are not in sync. Bytes; 0 is no limit.
pub(super) fn rates(image: &MetadataImage, leader: BrokerId, follower: BrokerId, shards: usize) -> Ends<u64> {
    let (leader_rate, follower_rate) =
        (rate(image, LEADER_RATE, leader), rate(image, FOLLOWER_RATE, follower));
    if leader_rate.is_none() && follower_rate.is_none() {
        return Ends::default();
    }
    let mut sending: Ends<BTreeSet<_>> = Ends { leader: BTreeSet::new(), follower: BTreeSet::new() };
    let mut leaders = BTreeSet::new();
    let names_replicas = |topic: &TopicImage| {
        [LEADER_REPLICAS, FOLLOWER_REPLICAS].iter().any(|config| topic.configs.contains_key(*config))
    };
    for topic in image.topics().filter(|topic| names_replicas(topic)) {
        for (index, partition) in topic.indexed_partitions() {
            let shard = || shard_of(topic.id, index.0, shards);
            let is_behind = |id: &BrokerId| !partition.in_sync_replicas.contains(id);
            let is_led = partition.leader == leader;
            if is_led
                && is_leader_throttled(&topic.configs, index, leader)
                && partition.replicas.iter().any(is_behind)
            {
                sending.leader.insert(shard());
            }
            if partition.replicas.contains(&follower)
                && is_behind(&follower)
                && is_follower_throttled(&topic.configs, index, follower)
            {
                leaders.insert(partition.leader);
                if is_led {
                    sending.follower.insert(shard());
                }
            }
        }
    }
    Ends {
        leader: leader_rate.map_or(0, |rate| share(rate, sending.leader.len())),
        follower: follower_rate.map_or(0, |rate| share(share(rate, leaders.len()), sending.follower.len())),
    }
}

/// The rate that was set for the broker, or for all.
fn rate(image: &MetadataImage, config: &str, broker: BrokerId) -> Option<u64> {
    let own = image.resource_configs(ConfigResourceType::Broker, &broker.to_string());
    let set = own
        .get(config)
        .or_else(|| image.resource_configs(ConfigResourceType::Broker, ALL_BROKERS).get(config));
    set?.parse().ok()
}

/// A part of a rate that is a limit still.
fn share(rate: u64, among: usize) -> u64 {
    (rate / among.max(1) as u64).max(1)
}

#[cfg(test)]
mod tests {
    use coord::metadata::{MetadataRecord, PartitionImage};
    use uuid::Uuid;

    use super::*;
    use crate::live::set_at_run_time;

    const SHARDS: usize = 4;

    /// Brokers 1 and 2 lead partitions of which broker 3 lacks something, and 1 leads one that is complete.
    fn image(leader_replicas: &str, follower_replicas: &str) -> MetadataImage {
        let mut image = MetadataImage::new();
        let partition = |leader: i32, in_sync: &[i32]| {
            let ids = |ids: &[i32]| ids.iter().map(|id| BrokerId(*id)).collect();
            PartitionImage::new(BrokerId(leader), ids(&[1, 2, 3]), ids(in_sync))
        };
        let partitions = vec![
            partition(1, &[1, 2]),
            partition(1, &[1, 2]),
            partition(1, &[1, 2]),
            partition(2, &[1, 2]),
            partition(1, &[1, 2, 3]),
        ];
        let configs = [(LEADER_REPLICAS, leader_replicas), (FOLLOWER_REPLICAS, follower_replicas)];
        let topic = MetadataRecord::Topic {
            topic_id: Uuid::from_u128(7),
            name: "orders".into(),
            configs: configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            partitions,
        };
        image.replay(&topic).unwrap();
        image
    }

    fn set(image: &mut MetadataImage, broker: &str, config: &str, rate: &str) {
        set_at_run_time(image, ConfigResourceType::Broker, broker, config, rate);
    }

    fn shards_of(partitions: &[i32]) -> u64 {
        let shards = partitions.iter().map(|index| shard_of(Uuid::from_u128(7), *index, SHARDS));
        shards.collect::<BTreeSet<_>>().len() as u64
    }

    #[test]
    fn without_a_rate_nothing_is_limited_and_the_brokers_own_beats_that_of_all() {
        let mut image = image("*", "*");
        let of = |image: &MetadataImage| rates(image, BrokerId(2), BrokerId(3), SHARDS);
        assert_eq!(of(&image), Ends { leader: 0, follower: 0 });
        set(&mut image, ALL_BROKERS, LEADER_RATE, "1000");
        set(&mut image, "3", LEADER_RATE, "1");
        assert_eq!(of(&image), Ends { leader: 1000, follower: 0 });
        set(&mut image, "2", LEADER_RATE, "10");
        set(&mut image, "2", FOLLOWER_RATE, "1");
        set(&mut image, "3", FOLLOWER_RATE, "2000");
        assert_eq!(of(&image), Ends { leader: 10, follower: 1000 });
    }

    #[test]
    fn a_rate_is_shared_out_among_those_who_send() {
        let mut image = image("0:1,1:1,2:1,4:1,3:2", "0:3,1:3,3:3");
        set(&mut image, ALL_BROKERS, LEADER_RATE, "120000");
        set(&mut image, ALL_BROKERS, FOLLOWER_RATE, "240000");
        // Two leaders; partition 2 is not throttled on the follower's side, and 4 is in sync.
        let expected =
            Ends { leader: 120_000 / shards_of(&[0, 1, 2]), follower: 120_000 / shards_of(&[0, 1]) };
        assert_eq!(rates(&image, BrokerId(1), BrokerId(3), SHARDS), expected);
        assert_eq!(
            rates(&image, BrokerId(2), BrokerId(3), SHARDS),
            Ends { leader: 120_000, follower: 120_000 }
        );
        // Nobody sends anything to broker 2.
        assert_eq!(rates(&image, BrokerId(1), BrokerId(2), SHARDS).follower, 240_000);
    }

    #[test]
    fn a_share_of_next_to_nothing_is_a_limit_still() {
        let mut image = image("*", "*");
        set(&mut image, ALL_BROKERS, LEADER_RATE, "0");
        set(&mut image, ALL_BROKERS, FOLLOWER_RATE, "1");
        assert_eq!(rates(&image, BrokerId(1), BrokerId(3), SHARDS), Ends { leader: 1, follower: 1 });
    }
}
