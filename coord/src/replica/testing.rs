//! What tests of replicas begin with.

use storage::Offset;

use super::{
    BatchSpan, LogPositions, PartitionState, Replica, ReplicaBroker, ReplicaConfig, Reply, ReplyBody,
};
use crate::planted::Planted;
use crate::types::{BrokerId, LeaderEpoch};

const LEADER: BrokerId = BrokerId(1);

/// A leader of ten records, of which each follower has so many.
pub(super) fn leader(followers: &[(i32, i64)], in_sync: &[i32]) -> Replica {
    let config = ReplicaConfig {
        me: LEADER,
        broker_epoch: 1,
        replica_lag_time_max_ms: 1_000,
        slow_replica_time_max_ms: 1_000,
        rejoin_after_ms: 1_000,
        alter_partition_retry_ms: 1_000,
        planted: Planted::default(),
    };
    let mut log = LogPositions::recovered(Offset(0), Offset(0), Vec::new());
    log.append(BatchSpan { leader_epoch: LeaderEpoch(0), base_offset: Offset(0), end_offset: Offset(10) });
    let mut replica = Replica::new(config, log);
    let broker = |id| ReplicaBroker { id: BrokerId(id), broker_epoch: 1, is_active: true };
    let state = PartitionState {
        leader: LEADER,
        leader_epoch: LeaderEpoch(1),
        partition_epoch: 1,
        replicas: [1].into_iter().chain(followers.iter().map(|(id, _)| *id)).map(broker).collect(),
        in_sync_replicas: in_sync.iter().map(|id| BrokerId(*id)).collect(),
        min_insync_replicas: 1,
        last_unclean_epoch: LeaderEpoch::UNKNOWN,
    };
    let mut effects = Vec::new();
    replica.state_changed(&state, 0, &mut effects);
    for (id, end) in followers {
        let body = ReplyBody::Durable { end: Offset(*end) };
        let reply = Reply { broker_epoch: 1, leader_epoch: LeaderEpoch(1), body };
        replica.replied(BrokerId(*id), &reply, 0, &mut effects);
    }
    replica
}
