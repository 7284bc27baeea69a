//! What a shard counts of replication, under the names that Kafka's metrics have in Prometheus.
//!
//! Nothing is kept for a partition: lags are looked up when somebody asks, and only the largest is told.

use std::collections::BTreeMap;
use std::rc::Rc;

use coord::metadata::census::broker_census;
use coord::types::BrokerId;
use storage::Offset;

use super::Host;
use crate::controller::CONTROLLER_SHARD;
use crate::metrics::{Counter, Samples};
use crate::shard::Shard;

/// The counters of one shard.
#[derive(Debug, Default)]
pub struct ReplicationCounters {
    /// Bytes of record batches sent to followers.
    pub bytes_out: Counter,
    /// Bytes of record batches stored for leaders.
    pub bytes_in: Counter,
    /// Proposals to the controller that were refused, or whose outcome is not known.
    pub failed_isr_updates: Counter,
    isr_shrinks: Counter,
    isr_expands: Counter,
}

/// What a proposal of other in-sync replicas would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IsrChange {
    pub shrinks: bool,
    pub expands: bool,
}

impl ReplicationCounters {
    /// The controller has answered a proposal.
    pub(super) fn note_proposal(&self, is_accepted: bool, change: IsrChange) {
        if !is_accepted {
            return self.failed_isr_updates.increment();
        }
        self.isr_shrinks.add(change.shrinks.into());
        self.isr_expands.add(change.expands.into());
    }

    fn collect(&self, samples: &mut Samples) {
        let counters = [
            (
                "replicamanager_isr_shrinks",
                "Times a leader here has dropped an in-sync replica that was too slow.",
                &self.isr_shrinks,
            ),
            ("replicamanager_isr_expands", "Times a replica got in sync again.", &self.isr_expands),
            (
                "replicamanager_failed_isr_updates",
                "Changes of in-sync replicas that the active controller refused, or did not answer.",
                &self.failed_isr_updates,
            ),
            ("brokertopicmetrics_replicationbytesout", "Record bytes sent to followers.", &self.bytes_out),
            ("brokertopicmetrics_replicationbytesin", "Record bytes stored for leaders.", &self.bytes_in),
        ];
        for (name, help, counter) in counters {
            samples.counter(&format!("kafka_server_{name}_total"), help, &[], counter.get());
        }
    }
}

/// How far a follower is behind, in the partition in which it is most.
#[derive(Debug, Clone, Copy, Default)]
struct Lag {
    records: i64,
    behind_ms: i64,
}

/// Adds this shard's metrics; those of the whole broker are added by shard 0.
pub fn collect(shard: &Rc<Shard>, samples: &mut Samples) {
    shard.replication.replicas.counters.collect(samples);
    if shard.id == CONTROLLER_SHARD {
        collect_census(shard, samples);
    }
    if shard.broker.cluster.is_some() {
        collect_lags(shard, samples);
    }
}

fn collect_census(shard: &Shard, samples: &mut Samples) {
    let census = broker_census(&shard.image(), shard.broker_id(), &shard.live().topic_defaults);
    let gauges = [
        ("partition_count", "Replicas here.", census.replicas),
        ("leader_count", "Partitions that this broker leads.", census.leaders),
        (
            "under_replicated_partitions",
            "Partitions led here of which some replica is not in sync.",
            census.under_replicated,
        ),
        (
            "under_min_isr_partition_count",
            "Partitions led here with fewer in-sync replicas than min.insync.replicas: acks=all is refused.",
            census.under_min_isr,
        ),
        (
            "at_min_isr_partition_count",
            "Partitions led here that may not lose another in-sync replica.",
            census.at_min_isr,
        ),
        ("reassigning_partitions", "Partitions led here whose replicas are being moved.", census.reassigning),
    ];
    for (name, help, count) in gauges {
        samples.gauge(&format!("kafka_server_replicamanager_{name}"), help, &[], count as f64);
    }
}

fn collect_lags(shard: &Rc<Shard>, samples: &mut Samples) {
    let now_ms = shard.now_ms();
    let mut of_followers: BTreeMap<BrokerId, Lag> = BTreeMap::new();
    let mut own = 0;
    for hosted in shard.replication.replicas.all() {
        let (replica, end) = (hosted.replica.borrow(), hosted.log.offsets().log_end_offset);
        for status in replica.followers(now_ms) {
            let lag = of_followers.entry(status.id).or_default();
            // One that has not answered in this epoch may have everything.
            let records = status.durable_end.map_or(0, |durable_end| end.0 - durable_end.0);
            lag.records = lag.records.max(records);
            lag.behind_ms = lag.behind_ms.max(status.behind_ms);
        }
        own = own.max(replica.leader_positions().map_or(0, |leader| behind(leader.log_end_offset, end)));
    }
    let shard = shard.id.to_string();
    for (id, lag) in of_followers {
        let follower = id.0.to_string();
        let labels = [("follower", follower.as_str()), ("shard", shard.as_str())];
        samples.gauge(
            "broker_replication_follower_max_lag",
            "Records that a follower lacks of what is led here, in the partition where it lacks most.",
            &labels,
            lag.records as f64,
        );
        samples.gauge(
            "broker_replication_follower_max_behind_ms",
            "For how long a follower has not had everything of what is led here, in the partition where that is longest.",
            &labels,
            lag.behind_ms as f64,
        );
    }
    samples.gauge(
        "kafka_server_replicafetchermanager_max_lag",
        "Records that this broker lacks of what it follows, by its leaders' last word, in the partition where it lacks most.",
        &[("shard", shard.as_str())],
        own as f64,
    );
}

/// Records that a log with this end lacks.
pub(crate) fn behind(leader: Offset, end: Offset) -> i64 {
    (leader.0 - end.0).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_proposal_counts_by_what_it_changes_and_a_refused_one_as_failed() {
        let counters = ReplicationCounters::default();
        counters.note_proposal(true, IsrChange { shrinks: true, expands: false });
        counters.note_proposal(true, IsrChange { shrinks: true, expands: true });
        counters.note_proposal(false, IsrChange { shrinks: true, expands: true });
        let counted = [&counters.isr_shrinks, &counters.isr_expands, &counters.failed_isr_updates];
        assert_eq!(counted.map(Counter::get), [2, 1, 1]);
    }
}
