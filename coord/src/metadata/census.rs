//! What operators watch, counted: how one broker's partitions are doing, and how the cluster is.
//!
//! Source: `ReplicaManager`'s and `ControllerMetadataMetrics`' gauges of the same names.

use super::image::MetadataImage;
use crate::config::{TopicDefaults, replication_config};
use crate::types::BrokerId;

/// The partitions of one broker. All but `replicas` are about those that it leads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BrokerCensus {
    /// Partitions that it holds.
    pub replicas: usize,
    /// Partitions that it leads.
    pub leaders: usize,
    /// Some replica is not in sync; replicas that a reassignment adds do not count before it is finished.
    pub under_replicated: usize,
    /// Fewer replicas are in sync than `min.insync.replicas`: producers with acks=all are refused.
    pub under_min_isr: usize,
    /// One replica less in sync, and producers with acks=all are refused.
    pub at_min_isr: usize,
    /// A reassignment is under way.
    pub reassigning: usize,
}

/// The whole cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClusterCensus {
    /// Brokers that take part.
    pub active_brokers: usize,
    /// Brokers that are registered, and silent or stopped.
    pub fenced_brokers: usize,
    /// Topics.
    pub topics: usize,
    /// Partitions of all topics.
    pub partitions: usize,
    /// Partitions without leader.
    pub offline: usize,
    /// Partitions that their first replica does not lead.
    pub not_preferred: usize,
}

/// Counts what one broker has.
pub fn broker_census(image: &MetadataImage, broker: BrokerId, defaults: &TopicDefaults) -> BrokerCensus {
    let mut census = BrokerCensus::default();
    for topic in image.topics() {
        let min_insync_replicas = replication_config(&topic.configs, defaults).min_insync_replicas;
        for partition in topic.partitions.iter().filter(|found| found.replicas.contains(&broker)) {
            census.replicas += 1;
            if partition.leader != broker {
                continue;
            }
            let in_sync = partition.in_sync_replicas.len();
            let wanted = partition.replicas.len() - partition.adding_replicas.len();
            let least = min_insync_replicas.min(partition.replicas.len());
            census.leaders += 1;
            census.under_replicated += usize::from(in_sync < wanted);
            census.under_min_isr += usize::from(in_sync < least);
            census.at_min_isr += usize::from(in_sync == least);
            census.reassigning += usize::from(partition.is_reassigning());
        }
    }
    census
}

/// Counts what the cluster has.
pub fn cluster_census(image: &MetadataImage) -> ClusterCensus {
    let mut census = ClusterCensus {
        topics: image.topic_count(),
        partitions: image.partition_count(),
        ..ClusterCensus::default()
    };
    for broker in image.brokers() {
        match broker.fenced {
            true => census.fenced_brokers += 1,
            false => census.active_brokers += 1,
        }
    }
    for partition in image.topics().flat_map(|topic| &topic.partitions) {
        census.offline += usize::from(!partition.leader.is_some());
        census.not_preferred += usize::from(partition.replicas.first() != Some(&partition.leader));
    }
    census
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::metadata::{BrokerRegistration, MetadataRecord, PartitionImage};

    fn ids(ids: &[i32]) -> Box<[BrokerId]> {
        ids.iter().copied().map(BrokerId).collect()
    }

    fn partition(leader: i32, replicas: &[i32], in_sync: &[i32], adding: &[i32]) -> PartitionImage {
        let adding_replicas = ids(adding);
        PartitionImage {
            adding_replicas,
            ..PartitionImage::new(BrokerId(leader), ids(replicas), ids(in_sync))
        }
    }

    fn image() -> MetadataImage {
        let mut image = MetadataImage::new();
        for (id, fenced) in [(1, false), (2, false), (3, true)] {
            let registration = BrokerRegistration {
                id: BrokerId(id),
                incarnation_id: Uuid::from_u128(1),
                broker_epoch: image.next_offset(),
                fenced,
                rack: None,
                endpoints: Vec::new(),
            };
            image.replay(&MetadataRecord::RegisterBroker(registration)).unwrap();
        }
        let topic = MetadataRecord::Topic {
            topic_id: Uuid::from_u128(2),
            name: "t".into(),
            configs: vec![("min.insync.replicas".to_owned(), "2".to_owned())],
            partitions: vec![
                partition(1, &[1, 2, 3], &[1, 2, 3], &[]),
                partition(1, &[1, 2, 3], &[1, 2], &[]),
                partition(1, &[2, 1, 3], &[1], &[]),
                // All that it had before the reassignment are in sync.
                partition(1, &[1, 2, 3], &[1, 2], &[3]),
                partition(2, &[2, 3], &[2, 3], &[]),
                partition(-1, &[3], &[3], &[]),
            ],
        };
        image.replay(&topic).unwrap();
        image
    }

    #[test]
    fn a_brokers_partitions_are_counted_by_what_their_leader_knows() {
        let defaults = TopicDefaults::default();
        let census = broker_census(&image(), BrokerId(1), &defaults);
        let expected = BrokerCensus {
            replicas: 4,
            leaders: 4,
            under_replicated: 2,
            under_min_isr: 1,
            at_min_isr: 2,
            reassigning: 1,
        };
        assert_eq!(census, expected);
        let of_follower = broker_census(&image(), BrokerId(3), &defaults);
        assert_eq!(of_follower, BrokerCensus { replicas: 6, ..BrokerCensus::default() });
    }

    #[test]
    fn a_clusters_census_has_what_is_offline_and_what_its_first_replica_does_not_lead() {
        let expected = ClusterCensus {
            active_brokers: 2,
            fenced_brokers: 1,
            topics: 1,
            partitions: 6,
            offline: 1,
            not_preferred: 2,
        };
        assert_eq!(cluster_census(&image()), expected);
    }
}
