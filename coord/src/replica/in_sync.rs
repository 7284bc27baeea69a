//! Which replicas are in sync: what the controller has committed, what the leader has proposed, and who counts in between.

use crate::types::{BrokerId, LeaderEpoch};

/// A leader's proposal of new in-sync replicas (AlterPartition, KIP-497). It is sent again, unchanged, until the partition's state has a later
/// partition epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterPartition {
    /// The epoch in which the sender leads.
    pub leader_epoch: LeaderEpoch,
    /// The state that it wants changed.
    pub partition_epoch: i32,
    /// The members, each with the broker epoch in which the leader knows its progress (KIP-903).
    pub in_sync_replicas: Vec<(BrokerId, i64)>,
}

/// What a controller's refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlterRefusal {
    /// The state has changed; the leader is about to hear of it.
    Outdated,
    /// A member cannot be in sync (INELIGIBLE_REPLICA).
    Ineligible,
}

/// The proposal under way.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) proposal: AlterPartition,
    /// Everybody whom this or an earlier proposal for the same state would add: any copy of it may still be accepted.
    pub(super) additions: Vec<BrokerId>,
    pub(super) sent_ms: i64,
}

/// In-sync replicas of a leader.
#[derive(Debug, Clone)]
pub(super) struct InSync {
    pub(super) committed: Vec<BrokerId>,
    pub(super) pending: Option<Pending>,
}

impl InSync {
    /// Everybody without whom nothing may be committed.
    pub(super) fn maximal(&self) -> impl Iterator<Item = BrokerId> {
        let added = self.pending.iter().flat_map(|pending| pending.additions.iter().copied());
        self.committed.iter().copied().chain(added)
    }
}
