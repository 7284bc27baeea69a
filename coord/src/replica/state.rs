//! What the controller says about a partition, as a replica needs to know it.

use crate::metadata::PartitionImage;
use crate::types::{BrokerId, LeaderEpoch};

/// The broker of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaBroker {
    /// Which broker.
    pub id: BrokerId,
    /// The epoch of its registration; -1 if it has none.
    pub broker_epoch: i64,
    /// Whether it may be in sync: registered, not fenced, not stopping.
    pub is_active: bool,
}

/// A partition's state together with what the same metadata says about its brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// Who leads, or [`BrokerId::NONE`].
    pub leader: BrokerId,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The version of this state.
    pub partition_epoch: i32,
    /// Everybody who holds the partition.
    pub replicas: Vec<ReplicaBroker>,
    /// The members of `replicas` that are in sync.
    pub in_sync_replicas: Vec<BrokerId>,
    /// `min.insync.replicas` of the topic, at most the number of replicas. It comes with the state so that leader and controller cannot
    /// disagree about it for the same partition epoch.
    pub min_insync_replicas: usize,
    /// The latest epoch whose leader may have lacked committed records.
    pub last_unclean_epoch: LeaderEpoch,
}

impl PartitionState {
    /// The state of `partition`; `broker` says what is known about a broker: its epoch and whether it is active.
    pub fn new(
        partition: &PartitionImage,
        min_insync_replicas: usize,
        broker: impl Fn(BrokerId) -> Option<(i64, bool)>,
    ) -> Self {
        let replica = |id: &BrokerId| {
            let (broker_epoch, is_active) = broker(*id).unwrap_or((-1, false));
            ReplicaBroker { id: *id, broker_epoch, is_active }
        };
        PartitionState {
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            replicas: partition.replicas.iter().map(replica).collect(),
            in_sync_replicas: partition.in_sync_replicas.to_vec(),
            min_insync_replicas: min_insync_replicas.min(partition.replicas.len()),
            last_unclean_epoch: partition.last_unclean_epoch,
        }
    }

    /// The replica on this broker.
    pub fn replica(&self, id: BrokerId) -> Option<&ReplicaBroker> {
        self.replicas.iter().find(|replica| replica.id == id)
    }

    /// Whether the state of the partition itself is newer than that of the two epochs.
    pub(super) fn is_newer_than(&self, leader_epoch: LeaderEpoch, partition_epoch: i32) -> bool {
        (self.leader_epoch, self.partition_epoch) > (leader_epoch, partition_epoch)
    }
}
