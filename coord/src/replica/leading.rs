//! What a leader does: appends, sends, hears answers, commits, proposes.

use storage::Offset;

use super::in_sync::{AlterPartition, AlterRefusal, Pending};
use super::leader::{Leader, Progress};
use super::message::{Append, BatchSpan, Reply, ReplyBody};
use super::partition::{Effect, Replica, ReplicaConfig, State};
use super::state::PartitionState;
use crate::planted::PlantedBug;
use crate::types::{BrokerId, LeaderEpoch};

/// What a leader would say next to a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextMessage {
    /// Where it begins.
    pub from: Offset,
    /// Whether it asks where the logs agree.
    pub is_probe: bool,
    /// Whether the log has batches from there on.
    pub has_batches: bool,
}

impl Replica {
    /// The leader has appended a batch of a producer, which must be allowed ([`Replica::may_append`]).
    pub fn appended(
        &mut self,
        base_offset: Offset,
        end_offset: Offset,
        now_ms: i64,
        effects: &mut Vec<Effect>,
    ) {
        let State::Leader(leader) = &mut self.state else { panic!("only a leader appends for producers") };
        let before = self.log.end();
        self.log.append(BatchSpan { leader_epoch: self.leader_epoch, base_offset, end_offset });
        for progress in &mut leader.followers {
            progress.appended(before, end_offset, now_ms);
            if !progress.is_asked {
                effects.push(Effect::Replicate { to: progress.broker.id });
            }
        }
    }

    /// Where the message would begin that [`Replica::next_append`] would give now, and whether the follower would hear of more than a new high watermark.
    /// `None` if there is nothing to say.
    pub fn next_message(&self, to: BrokerId) -> Option<NextMessage> {
        let State::Leader(leader) = &self.state else { return None };
        let progress = leader.follower(to)?;
        let has_batches = progress.next < self.log.end();
        let brings_watermark = progress.high_watermark_sent < self.high_watermark;
        let has_something = progress.is_probing || has_batches || brings_watermark;
        (has_something && !progress.is_asked).then(|| NextMessage {
            from: progress.next.max(self.log.start()),
            is_probe: progress.is_probing,
            has_batches,
        })
    }

    /// What to send to a follower now: batches of the log from [`Append::previous_end`] on, as many as the shell thinks fit: none are needed, but one at least, if there is any, where
    /// [`Append::previous_epoch`] is unknown. `None` if there is
    /// nothing to say. The message counts as sent: follow with [`Replica::sent`].
    pub fn next_append(&mut self, to: BrokerId) -> Option<Append> {
        let State::Leader(leader) = &mut self.state else { return None };
        let progress = leader.follower_mut(to)?;
        let brings_watermark = progress.high_watermark_sent < self.high_watermark;
        let has_something = progress.is_probing || progress.next < self.log.end() || brings_watermark;
        if progress.is_asked || !has_something {
            return None;
        }
        // A follower that is behind the start of the log goes on from there.
        progress.next = progress.next.max(self.log.start());
        progress.is_asked = progress.is_probing;
        progress.high_watermark_sent = self.high_watermark;
        Some(Append {
            leader_epoch: self.leader_epoch,
            round: progress.round,
            previous_end: progress.next,
            previous_epoch: self.log.epoch_before(progress.next),
            high_watermark: self.high_watermark,
            log_start_offset: self.log.start(),
            log_end_offset: self.log.end(),
        })
    }

    /// The message that [`Replica::next_append`] gave could not be sent, because its batches cannot be read at present. It, or what has taken its place, is still to be
    /// said.
    pub fn not_sent(&mut self, to: BrokerId) {
        if let State::Leader(leader) = &mut self.state
            && let Some(progress) = leader.follower_mut(to)
        {
            progress.is_asked = false;
            progress.high_watermark_sent = Offset::ZERO;
        }
    }

    /// The message that [`Replica::next_append`] gave has been sent with batches up to `end`.
    pub fn sent(&mut self, to: BrokerId, end: Offset) {
        if let State::Leader(leader) = &mut self.state
            && let Some(progress) = leader.follower_mut(to)
        {
            progress.next = progress.next.max(end);
        }
    }

    /// A follower has answered.
    pub fn replied(&mut self, from: BrokerId, reply: &Reply, now_ms: i64, effects: &mut Vec<Effect>) {
        if reply.leader_epoch > self.leader_epoch {
            effects.push(Effect::MetadataBehind(reply.leader_epoch));
        }
        let State::Leader(leader) = &mut self.state else { return };
        let Some(progress) = leader.follower_mut(from) else { return };
        let checks_incarnation = !self.config.planted.has(PlantedBug::IncarnationNotChecked);
        if reply.leader_epoch != self.leader_epoch
            || checks_incarnation && reply.broker_epoch != progress.broker.broker_epoch
        {
            return;
        }
        match reply.body {
            // Beyond the end of this log nothing can have been proved equal to it.
            ReplyBody::Durable { end } if end > self.log.end() => {}
            ReplyBody::Durable { end } => {
                progress.acknowledged(end, self.log.end(), now_ms);
                if progress.next < self.log.end() || progress.high_watermark_sent < self.high_watermark {
                    effects.push(Effect::Replicate { to: from });
                }
                self.advance_high_watermark(effects);
                self.review_in_sync(now_ms, effects);
            }
            ReplyBody::Position { round, epoch, end } => {
                if round.is_none_or(|round| round == progress.round) {
                    // Only within one epoch do batches end at the same offsets; otherwise the follower's end may be amid a batch of this log.
                    let common = match self.log.end_of(epoch) {
                        (same, common) if same == epoch => common.min(end),
                        (_, common) => common,
                    };
                    let proved = progress.durable_match.unwrap_or(Offset::ZERO);
                    progress.probe(common.max(proved).max(self.log.start()));
                    effects.push(Effect::Replicate { to: from });
                }
            }
            ReplyBody::StaleLeader => {}
        }
    }

    /// The controller has refused a proposal for this state. As a copy of it may be under way and be accepted later, those whom it adds go on counting; a
    /// proposal of what is committed already settles the matter, because only one of both can be accepted.
    pub fn alter_refused(
        &mut self,
        leader_epoch: LeaderEpoch,
        partition_epoch: i32,
        refusal: AlterRefusal,
        now_ms: i64,
        effects: &mut Vec<Effect>,
    ) {
        let is_current = (leader_epoch, partition_epoch) == (self.leader_epoch, self.partition_epoch);
        let State::Leader(leader) = &mut self.state else { return };
        let Some(pending) = &mut leader.in_sync.pending else { return };
        if !is_current || refusal == AlterRefusal::Outdated {
            return;
        }
        if self.config.planted.has(PlantedBug::RefusedProposalForgotten) {
            leader.in_sync.pending = None;
            return;
        }
        let committed = leader.in_sync.committed.clone();
        let members = with_epochs(&committed, &leader.followers, &self.config);
        pending.proposal.in_sync_replicas = members;
        pending.sent_ms = now_ms;
        effects.push(Effect::AlterPartition(pending.proposal.clone()));
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: i64, effects: &mut Vec<Effect>) {
        if let State::Leader(leader) = &mut self.state
            && let Some(pending) = &mut leader.in_sync.pending
            && now_ms - pending.sent_ms >= self.config.alter_partition_retry_ms
        {
            pending.sent_ms = now_ms;
            effects.push(Effect::AlterPartition(pending.proposal.clone()));
        }
        self.review_in_sync(now_ms, effects);
    }

    /// Proposes other in-sync replicas if somebody is too slow or has caught up, unless a proposal is under way.
    pub(super) fn review_in_sync(&mut self, now_ms: i64, effects: &mut Vec<Effect>) {
        let State::Leader(leader) = &mut self.state else { return };
        if leader.in_sync.pending.is_some() {
            return;
        }
        let mut members = leader.in_sync.committed.clone();
        let mut additions = Vec::new();
        let joins_at = match self.config.planted.has(PlantedBug::JoinAtHighWatermark) {
            true => self.high_watermark,
            false => self.high_watermark.max(leader.epoch_start),
        };
        for progress in &mut leader.followers {
            let id = progress.broker.id;
            let behind_ms = progress.behind_ms(self.log.end(), now_ms);
            if let Some(at) = members.iter().position(|member| *member == id) {
                let is_lost = behind_ms > self.config.replica_lag_time_max_ms;
                let is_slow = behind_ms > self.config.slow_replica_time_max_ms;
                if is_lost || is_slow && members.len() > self.min_insync_replicas {
                    members.remove(at);
                    progress.stay_out_until(now_ms + self.config.rejoin_after_ms);
                }
            } else if progress.broker.is_active
                && progress.durable_match.is_some_and(|end| end >= joins_at)
                && behind_ms <= self.config.slow_replica_time_max_ms
                && progress.may_rejoin(now_ms)
            {
                additions.push(id);
            }
        }
        members.extend(&additions);
        if members == leader.in_sync.committed {
            return;
        }
        let proposal = AlterPartition {
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            in_sync_replicas: with_epochs(&members, &leader.followers, &self.config),
        };
        effects.push(Effect::AlterPartition(proposal.clone()));
        leader.in_sync.pending = Some(Pending { proposal, additions, sent_ms: now_ms });
    }

    /// The smallest durable end of everybody who counts.
    pub(super) fn advance_high_watermark(&mut self, effects: &mut Vec<Effect>) {
        let State::Leader(leader) = &self.state else { return };
        if leader.in_sync.committed.len() < self.min_insync_replicas {
            return;
        }
        let planted = self.config.planted;
        let own = match planted.has(PlantedBug::LeaderCountsUnsynced) {
            true => self.log.end(),
            false => self.log.durable_end(),
        };
        let durable_end = |id: BrokerId| match leader.follower(id) {
            Some(progress) => progress.durable_match.unwrap_or(Offset::ZERO),
            None => own,
        };
        let maximal_end = match planted.has(PlantedBug::CommitWithoutProposed) {
            true => leader.in_sync.committed.iter().copied().map(durable_end).min(),
            false => leader.in_sync.maximal().map(durable_end).min(),
        };
        let committed = maximal_end.unwrap_or(own).min(own);
        if committed > self.high_watermark {
            self.high_watermark = committed;
            self.high_watermark_epoch = self.leader_epoch;
            effects.push(Effect::HighWatermark(committed));
            // Followers hear of it with the next batches; if there are none, alone.
            let free = leader.followers.iter().filter(|progress| !progress.is_asked);
            effects.extend(free.map(|progress| Effect::Replicate { to: progress.broker.id }));
        }
    }
}

/// Followers that are new, gone or reborn.
pub(super) fn update_followers(
    leader: &mut Leader,
    state: &PartitionState,
    config: &ReplicaConfig,
    log_end: Offset,
    now_ms: i64,
    effects: &mut Vec<Effect>,
) {
    leader.followers.retain(|progress| state.replica(progress.broker.id).is_some());
    for replica in state.replicas.iter().filter(|replica| replica.id != config.me) {
        match leader.follower_mut(replica.id) {
            Some(progress) if replica.broker_epoch <= progress.broker.broker_epoch => {
                progress.broker.is_active = replica.is_active;
                continue;
            }
            Some(progress) if config.planted.has(PlantedBug::IncarnationNotChecked) => {
                progress.broker = *replica;
                continue;
            }
            Some(progress) => progress.reborn(*replica, log_end),
            None => leader.followers.push(Progress::new(*replica, log_end, now_ms)),
        }
        effects.push(Effect::Replicate { to: replica.id });
    }
}

fn with_epochs(members: &[BrokerId], followers: &[Progress], config: &ReplicaConfig) -> Vec<(BrokerId, i64)> {
    let epoch = |id: &BrokerId| {
        let follower = followers.iter().find(|progress| progress.broker.id == *id);
        follower.map_or(config.broker_epoch, |progress| progress.broker.broker_epoch)
    };
    members.iter().map(|id| (*id, epoch(id))).collect()
}
