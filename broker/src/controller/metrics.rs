//! What operators watch of the metadata quorum and of the cluster, under the names that Kafka's metrics have in Prometheus. Shard 0 has all of it.

use coord::metadata::census::cluster_census;

use super::Quorum;
use crate::metrics::Samples;
use crate::shard::Shard;

/// Adds the metrics, if this is shard 0 and it has joined the quorum.
pub fn collect(shard: &Shard, samples: &mut Samples) {
    let Some(quorum) = shard.metadata.quorum() else { return };
    collect_quorum(shard, &quorum, samples);
    // Only controllers tell how the cluster is, so that a sum over all nodes does not count brokers that do not vote.
    if shard.config().process_roles.controller() {
        collect_cluster(shard, samples);
    }
}

fn collect_quorum(shard: &Shard, quorum: &Quorum, samples: &mut Samples) {
    let (status, members) = (quorum.status(), quorum.members());
    let me = shard.broker_id();
    let gauges = [
        (
            "kafka_server_raft_metrics_current_leader",
            "The active controller, or -1.",
            f64::from(status.leader.0),
        ),
        (
            "kafka_server_raft_metrics_current_epoch",
            "The newest term of the metadata quorum that this node knows.",
            status.term as f64,
        ),
        (
            "kafka_server_raft_metrics_high_watermark",
            "The last entry of the metadata log that this node knows to be committed.",
            status.committed as f64,
        ),
        (
            "kafka_server_raft_metrics_log_end_offset",
            "The last entry of this node's metadata log.",
            status.last as f64,
        ),
        ("kafka_server_raft_metrics_number_of_voters", "Controllers that vote.", members.voters.len() as f64),
        (
            "kafka_server_raft_metrics_number_of_observers",
            "Nodes that follow the metadata log and do not vote.",
            members.learners.len() as f64,
        ),
        (
            "kafka_server_raft_metrics_is_voter",
            "1 if this node votes.",
            f64::from(members.voters.contains(&me)),
        ),
        (
            "broker_quorum_applied_index",
            "The last entry that all shards have.",
            shard.metadata.applied.index() as f64,
        ),
        (
            "broker_quorum_links",
            "Members of the quorum that this node is linked to.",
            quorum.linked().len() as f64,
        ),
    ];
    for (name, help, value) in gauges {
        samples.gauge(name, help, &[], value);
    }
}

fn collect_cluster(shard: &Shard, samples: &mut Samples) {
    let census = cluster_census(&shard.image());
    let gauges = [
        (
            "active_controller_count",
            "1 on the active controller: 1 in the sum over all nodes.",
            usize::from(shard.metadata.is_active()),
        ),
        ("active_broker_count", "Brokers that take part.", census.active_brokers),
        ("fenced_broker_count", "Brokers that are registered, and silent or stopped.", census.fenced_brokers),
        ("global_topic_count", "Topics.", census.topics),
        ("global_partition_count", "Partitions of all topics.", census.partitions),
        ("offline_partitions_count", "Partitions without a leader.", census.offline),
        (
            "preferred_replica_imbalance_count",
            "Partitions that are not led by their first replica.",
            census.not_preferred,
        ),
    ];
    for (name, help, count) in gauges {
        samples.gauge(&format!("kafka_controller_{name}"), help, &[], count as f64);
    }
}
