//! The state of one partition, and the rules by which the controller changes it.
//!
//! Every function here takes the state as it is and returns the state that a
//! [`PartitionChange`](super::record::MetadataRecord::PartitionChange) record would install: one partition epoch later, and one leader epoch later if
//! the leader changed. The promise behind them (KIP-966, Kafka's `PartitionChangeBuilder`): whoever is in the in-sync replicas or among the
//! eligible leader replicas has every committed record on its disk, so an election among them loses nothing.

use std::collections::BTreeSet;

use crate::error::CoordError;
use crate::planted::{Planted, PlantedBug};
use crate::types::{BrokerId, LeaderEpoch};

/// The state of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionImage {
    /// The leading broker, or [`BrokerId::NONE`].
    pub leader: BrokerId,
    /// Grows by one with each new leader, and when a replica goes for good.
    pub leader_epoch: LeaderEpoch,
    /// Grows by one with each change of this partition.
    pub partition_epoch: i32,
    /// Brokers that hold the partition; the first is the preferred leader.
    pub replicas: Box<[BrokerId]>,
    /// The replicas that have everything which was acknowledged with acks=all.
    pub in_sync_replicas: Box<[BrokerId]>,
    /// Replicas that left the in-sync replicas while those were fewer than `min.insync.replicas`: nothing was committed without them since (KIP-966).
    pub eligible_leader_replicas: Box<[BrokerId]>,
    /// Replicas that were eligible until they lost data; only an unclean election looks at them (KIP-966).
    pub last_known_eligible_leader_replicas: Box<[BrokerId]>,
    /// Replicas that a reassignment adds (KIP-455); part of `replicas`.
    pub adding_replicas: Box<[BrokerId]>,
    /// Replicas that a reassignment removes in the end (KIP-455); part of `replicas` until then.
    pub removing_replicas: Box<[BrokerId]>,
    /// The latest leader epoch that began with an unclean election, or [`LeaderEpoch::UNKNOWN`]: a replica whose high watermark is of an earlier
    /// epoch may have to give up records below it.
    pub last_unclean_epoch: LeaderEpoch,
}

impl PartitionImage {
    /// A new partition, empty on all its replicas.
    pub fn new(leader: BrokerId, replicas: Box<[BrokerId]>, in_sync_replicas: Box<[BrokerId]>) -> Self {
        PartitionImage {
            leader,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            replicas,
            in_sync_replicas,
            eligible_leader_replicas: Box::default(),
            last_known_eligible_leader_replicas: Box::default(),
            adding_replicas: Box::default(),
            removing_replicas: Box::default(),
            last_unclean_epoch: LeaderEpoch::UNKNOWN,
        }
    }

    /// Whether a reassignment is under way.
    pub fn is_reassigning(&self) -> bool {
        !self.adding_replicas.is_empty() || !self.removing_replicas.is_empty()
    }

    /// The replicas that the partition shall have once its reassignment is finished.
    pub fn target_replicas(&self) -> Vec<BrokerId> {
        self.replicas.iter().copied().filter(|id| !self.removing_replicas.contains(id)).collect()
    }

    /// The state in which `broker` is neither leader nor in sync, after it was fenced or is about to stop; `None` if it is neither already.
    pub fn without(&self, broker: BrokerId, rules: &PartitionRules<'_>) -> Option<PartitionImage> {
        if self.leader != broker && !self.in_sync_replicas.contains(&broker) {
            return None;
        }
        self.next(
            Change { in_sync_replicas: except(&self.in_sync_replicas, broker), ..self.change() },
            rules,
            broker,
        )
    }

    /// The state after `broker` has come up without the data that it had: it can vouch for nothing, not even as an eligible leader. `None` if nobody
    /// counted on it.
    pub fn without_data_of(&self, broker: BrokerId, rules: &PartitionRules<'_>) -> Option<PartitionImage> {
        let counted_on = self.leader == broker
            || self.in_sync_replicas.contains(&broker)
            || self.eligible_leader_replicas.contains(&broker);
        let change = Change {
            in_sync_replicas: except(&self.in_sync_replicas, broker),
            lost_data: Some(broker),
            ..self.change()
        };
        if counted_on { self.next(change, rules, broker) } else { None }
    }

    /// The state after a leader's proposal of in-sync replicas (AlterPartition, KIP-497): accepted only from the leader, and only if nothing
    /// has changed since the state that the leader proposes to change.
    pub fn with_in_sync_replicas(
        &self,
        proposal: &InSyncProposal<'_>,
        rules: &PartitionRules<'_>,
    ) -> Result<PartitionImage, CoordError> {
        if proposal.sender != self.leader {
            return Err(CoordError::FencedLeaderEpoch);
        }
        if !rules.planted.has(PlantedBug::AlterWithoutCompareAndSet) {
            self.compare_epochs(proposal)?;
        }
        let members: Vec<BrokerId> = proposal.in_sync_replicas.iter().map(|(id, _)| *id).collect();
        let is_distinct = (1..members.len()).all(|at| !members[..at].contains(&members[at]));
        if !is_distinct
            || !members.contains(&self.leader)
            || members.iter().any(|id| !self.replicas.contains(id))
        {
            return Err(CoordError::InvalidRequest(
                "The in-sync replicas must be distinct replicas, the leader among them.".to_owned(),
            ));
        }
        for (id, broker_epoch) in proposal.in_sync_replicas {
            let is_current = (rules.broker_epoch)(*id) == Some(*broker_epoch)
                || rules.planted.has(PlantedBug::IncarnationNotChecked);
            if !(rules.is_active)(*id) || !is_current {
                return Err(CoordError::IneligibleReplica);
            }
        }
        let in_sync_replicas = self.replicas.iter().copied().filter(|id| members.contains(id)).collect();
        let change = self.finish_reassignment(Change { in_sync_replicas, ..self.change() });
        Ok(self.next(change, rules, BrokerId::NONE).expect("a proposal counts as a change"))
    }

    fn compare_epochs(&self, proposal: &InSyncProposal<'_>) -> Result<(), CoordError> {
        if proposal.leader_epoch < self.leader_epoch {
            return Err(CoordError::FencedLeaderEpoch);
        }
        if proposal.leader_epoch > self.leader_epoch || proposal.partition_epoch > self.partition_epoch {
            return Err(CoordError::NotController);
        }
        if proposal.partition_epoch < self.partition_epoch {
            return Err(CoordError::InvalidPartitionEpoch);
        }
        Ok(())
    }

    /// The state with a leader, if there is none and somebody may lead; with `unclean` also somebody who may lack committed records. `None` if
    /// there is nothing to change.
    pub fn elected(&self, rules: &PartitionRules<'_>, unclean: bool) -> Option<PartitionImage> {
        if self.leader.is_some() {
            return None;
        }
        let change = Change { may_be_unclean: unclean, ..self.change() };
        self.next(change, rules, BrokerId::NONE).filter(|next| next.leader.is_some())
    }

    /// The state in which the first replica leads (preferred election); `None` if it does already or cannot without loss.
    pub fn with_preferred_leader(&self, rules: &PartitionRules<'_>) -> Option<PartitionImage> {
        let preferred = *self.replicas.first()?;
        let can_lead = self.in_sync_replicas.contains(&preferred) && (rules.is_active)(preferred);
        let change = Change { wants_leader: Some(preferred), ..self.change() };
        if self.leader != preferred && can_lead { self.next(change, rules, BrokerId::NONE) } else { None }
    }

    /// The state in which none of these brokers leads; `None` if none does, or if nobody else can without loss.
    pub fn led_by_none_of(
        &self,
        brokers: &BTreeSet<BrokerId>,
        rules: &PartitionRules<'_>,
    ) -> Option<PartitionImage> {
        let can_lead = |id: &BrokerId| {
            !brokers.contains(id) && self.in_sync_replicas.contains(id) && (rules.is_active)(*id)
        };
        let other =
            self.replicas.iter().copied().filter(|_| brokers.contains(&self.leader)).find(can_lead)?;
        self.next(Change { wants_leader: Some(other), ..self.change() }, rules, BrokerId::NONE)
    }

    /// The state after the rules have changed: the partition's eligible leader replicas follow, and its leader hears of it.
    pub fn under_other_rules(&self, rules: &PartitionRules<'_>) -> PartitionImage {
        self.next(self.change(), rules, BrokerId::NONE).expect("a change of rules counts as a change")
    }

    /// The first state of a reassignment to `target` (KIP-455): the new replicas are added beside the old ones, which go when all of
    /// `target` are in sync. `None` if the partition is there already.
    pub fn reassigned(&self, target: &[BrokerId], rules: &PartitionRules<'_>) -> Option<PartitionImage> {
        if !self.is_reassigning() && *self.replicas == *target {
            return None;
        }
        let before = self.replicas_before_reassignment();
        let removing: Box<[BrokerId]> = before.iter().copied().filter(|id| !target.contains(id)).collect();
        let adding: Box<[BrokerId]> = target.iter().copied().filter(|id| !before.contains(id)).collect();
        let replicas: Box<[BrokerId]> = target.iter().chain(removing.iter()).copied().collect();
        let in_sync_replicas =
            self.in_sync_replicas.iter().copied().filter(|id| replicas.contains(id)).collect();
        let change = Change { replicas, adding, removing, in_sync_replicas, ..self.change() };
        self.next(self.finish_reassignment(change), rules, BrokerId::NONE)
    }

    /// The state after a reassignment is called off; `None` if there is none, or if none of the replicas from before could go on.
    pub fn reassignment_cancelled(&self, rules: &PartitionRules<'_>) -> Option<PartitionImage> {
        if !self.is_reassigning() {
            return None;
        }
        let replicas = self.replicas_before_reassignment();
        let in_sync_replicas: Box<[BrokerId]> =
            self.in_sync_replicas.iter().copied().filter(|id| replicas.contains(id)).collect();
        if in_sync_replicas.is_empty() && !self.in_sync_replicas.is_empty()
            || !self.has_complete_among(&replicas)
        {
            return None;
        }
        let change = Change {
            replicas,
            adding: Box::default(),
            removing: Box::default(),
            in_sync_replicas,
            ..self.change()
        };
        self.next(change, rules, BrokerId::NONE)
    }

    /// Whether somebody of these has everything that is committed, if anybody has.
    fn has_complete_among(&self, replicas: &[BrokerId]) -> bool {
        let mut complete =
            self.in_sync_replicas.iter().chain(self.eligible_leader_replicas.iter()).peekable();
        complete.peek().is_none() || complete.any(|id| replicas.contains(id))
    }

    /// Whether a reassignment to `target` would drop everybody who has everything that is committed: those whom an unfinished one has added.
    pub fn reassignment_loses_all(&self, target: &[BrokerId]) -> bool {
        let before = self.replicas_before_reassignment();
        let kept: Vec<BrokerId> = target.iter().chain(before.iter()).copied().collect();
        !self.has_complete_among(&kept)
    }

    fn replicas_before_reassignment(&self) -> Box<[BrokerId]> {
        self.replicas.iter().copied().filter(|id| !self.adding_replicas.contains(id)).collect()
    }

    /// No change yet.
    fn change(&self) -> Change {
        Change {
            replicas: self.replicas.clone(),
            adding: self.adding_replicas.clone(),
            removing: self.removing_replicas.clone(),
            in_sync_replicas: self.in_sync_replicas.clone(),
            lost_data: None,
            wants_leader: None,
            may_be_unclean: false,
        }
    }

    /// Drops the replicas that go, if all that stay are in sync.
    fn finish_reassignment(&self, mut change: Change) -> Change {
        if change.adding.is_empty() && change.removing.is_empty() {
            return change;
        }
        let stay: Box<[BrokerId]> =
            change.replicas.iter().copied().filter(|id| !change.removing.contains(id)).collect();
        if stay.iter().all(|id| change.in_sync_replicas.contains(id)) {
            change.in_sync_replicas =
                change.in_sync_replicas.iter().copied().filter(|id| stay.contains(id)).collect();
            change.replicas = stay;
            change.adding = Box::default();
            change.removing = Box::default();
        }
        change
    }

    /// Eligible leaders, then the leader, then the epochs follow from the change. `excluded` cannot lead whatever the rules say.
    fn next(&self, change: Change, rules: &PartitionRules<'_>, excluded: BrokerId) -> Option<PartitionImage> {
        let mut next = PartitionImage {
            replicas: change.replicas,
            in_sync_replicas: change.in_sync_replicas,
            adding_replicas: change.adding,
            removing_replicas: change.removing,
            partition_epoch: self.partition_epoch + 1,
            ..self.clone()
        };
        next.settle_eligible_leaders(self, change.lost_data, rules);
        let can_lead = |id: BrokerId| id != excluded && (rules.is_active)(id);
        let stays = self.in_sync_leader_of(&next) && can_lead(self.leader);
        next.leader = match change.wants_leader {
            Some(wanted) => wanted,
            None if stays => self.leader,
            None => first(&next.replicas, |id| next.in_sync_replicas.contains(&id) && can_lead(id)),
        };
        if !next.leader.is_some() {
            let eligible =
                first(&next.replicas, |id| next.eligible_leader_replicas.contains(&id) && can_lead(id));
            let anybody =
                if change.may_be_unclean { next.unclean_candidate(can_lead) } else { BrokerId::NONE };
            next.leader = if eligible.is_some() { eligible } else { anybody };
            if next.leader.is_some() {
                let is_unclean = !eligible.is_some();
                next.in_sync_replicas = [next.leader].into();
                next.settle_eligible_leaders(self, change.lost_data, rules);
                if is_unclean {
                    next.eligible_leader_replicas = Box::default();
                    next.last_unclean_epoch = LeaderEpoch(self.leader_epoch.0 + 1);
                }
            }
        }
        // What a replica that goes has acknowledged must not count for the empty one that may come back in its place, however late it arrives: acknowledgements belong
        // to an epoch (Kafka's `triggerLeaderEpochBumpForReplicaReassignmentIfNeeded`).
        let somebody_goes = self.replicas.iter().any(|id| !next.replicas.contains(id));
        if next.leader != self.leader || somebody_goes {
            next.leader_epoch = LeaderEpoch(self.leader_epoch.0 + 1);
        }
        Some(next)
    }

    fn in_sync_leader_of(&self, next: &PartitionImage) -> bool {
        self.leader.is_some() && next.in_sync_replicas.contains(&self.leader)
    }

    /// Those who lost most recently what made them eligible come first: they lack the least.
    fn unclean_candidate(&self, can_lead: impl Fn(BrokerId) -> bool) -> BrokerId {
        let known = first(&self.replicas, |id| {
            self.last_known_eligible_leader_replicas.contains(&id) && can_lead(id)
        });
        if known.is_some() { known } else { first(&self.replicas, can_lead) }
    }

    /// While there are fewer in-sync replicas than `min.insync.replicas` nothing is committed, so that whoever was complete stays so.
    fn settle_eligible_leaders(
        &mut self,
        before: &PartitionImage,
        lost_data: Option<BrokerId>,
        rules: &PartitionRules<'_>,
    ) {
        if self.in_sync_replicas.len() >= rules.effective_min_insync_replicas(self.replicas.len()) {
            self.eligible_leader_replicas = Box::default();
            self.last_known_eligible_leader_replicas = Box::default();
            return;
        }
        let among = |list: &[BrokerId], id: &BrokerId| list.contains(id);
        let was_complete = |id: &BrokerId| {
            among(&before.in_sync_replicas, id) || among(&before.eligible_leader_replicas, id)
        };
        let eligible =
            |id: &BrokerId| was_complete(id) && !among(&self.in_sync_replicas, id) && lost_data != Some(*id);
        let eligible_leader_replicas: Box<[BrokerId]> =
            self.replicas.iter().copied().filter(eligible).collect();
        let was_known = |id: &BrokerId| {
            lost_data == Some(*id) && was_complete(id)
                || among(&before.last_known_eligible_leader_replicas, id)
        };
        self.last_known_eligible_leader_replicas = self
            .replicas
            .iter()
            .copied()
            .filter(|id| {
                was_known(id) && !among(&self.in_sync_replicas, id) && !eligible_leader_replicas.contains(id)
            })
            .collect();
        self.eligible_leader_replicas = eligible_leader_replicas;
    }
}

/// What the rules need to know about the rest of the cluster.
pub struct PartitionRules<'a> {
    /// The topic's `min.insync.replicas`.
    pub min_insync_replicas: usize,
    /// Whether a broker may lead and join: registered, not fenced, not about to stop.
    pub is_active: &'a dyn Fn(BrokerId) -> bool,
    /// The epoch of a broker's current registration.
    pub broker_epoch: &'a dyn Fn(BrokerId) -> Option<i64>,
    /// For the tests of the tests.
    pub planted: Planted,
}

impl PartitionRules<'_> {
    /// As many as the topic asks for, but never more than the partition has replicas (KIP-966).
    pub fn effective_min_insync_replicas(&self, replicas: usize) -> usize {
        self.min_insync_replicas.min(replicas)
    }
}

/// What a leader proposes (AlterPartition).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InSyncProposal<'a> {
    /// Who asks.
    pub sender: BrokerId,
    /// The epoch in which it leads.
    pub leader_epoch: LeaderEpoch,
    /// The state that it wants changed.
    pub partition_epoch: i32,
    /// The members, each with the registration that the leader has seen its progress in (KIP-903).
    pub in_sync_replicas: &'a [(BrokerId, i64)],
}

/// What is about to change; everything else follows from it.
struct Change {
    replicas: Box<[BrokerId]>,
    adding: Box<[BrokerId]>,
    removing: Box<[BrokerId]>,
    in_sync_replicas: Box<[BrokerId]>,
    lost_data: Option<BrokerId>,
    wants_leader: Option<BrokerId>,
    may_be_unclean: bool,
}

fn except(brokers: &[BrokerId], gone: BrokerId) -> Box<[BrokerId]> {
    brokers.iter().copied().filter(|id| *id != gone).collect()
}

fn first(replicas: &[BrokerId], fits: impl Fn(BrokerId) -> bool) -> BrokerId {
    replicas.iter().copied().find(|id| fits(*id)).unwrap_or(BrokerId::NONE)
}
