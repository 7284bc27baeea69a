//! One replica of one partition: inputs in, effects out.

use storage::Offset;

use super::follower::{AppendOutcome, Fit, Fitting, Follower, fit};
use super::in_sync::{AlterPartition, AlterRefusal, InSync, Pending};
use super::leader::{Leader, Progress, ReplicaStatus};
use super::message::{Addressed, Append, BatchSpan, Reply, ReplyBody};
use super::positions::{LogGeneration, LogPositions};
use super::state::{PartitionState, ReplicaBroker};
use crate::planted::{Planted, PlantedBug};
use crate::types::{BrokerId, LeaderEpoch};

/// What a broker's replicas have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// This broker.
    pub me: BrokerId,
    /// The epoch of its registration.
    pub broker_epoch: i64,
    /// `replica.lag.time.max.ms`: who has not had everything for this long leaves the in-sync replicas.
    pub replica_lag_time_max_ms: i64,
    /// Who has not had everything for this long leaves if `min.insync.replicas` are left without it: one slow disk shall not own everybody's latency.
    pub slow_replica_time_max_ms: i64,
    /// For how long a replica that was too slow stays out at least.
    pub rejoin_after_ms: i64,
    /// After this time without an answer a proposal is sent again.
    pub alter_partition_retry_ms: i64,
    /// For the tests of the tests.
    pub planted: Planted,
}

/// Something for the shell to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// There is something to send to a follower: ask [`Replica::next_append`] when its channel has room.
    Replicate {
        /// Which follower.
        to: BrokerId,
    },
    /// Tell the leader.
    Reply(Addressed),
    /// Everything below is committed: consumers may read it, producers with acks=all hear of it.
    HighWatermark(Offset),
    /// Ask the controller.
    AlterPartition(AlterPartition),
    /// The replica has another role: producers that wait get NOT_LEADER_OR_FOLLOWER unless it leads still, groups move.
    RoleChanged(Role),
    /// Somebody knows of a later leader epoch: metadata is missing here.
    MetadataBehind(LeaderEpoch),
}

/// What a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nobody leads, or it is not known who does.
    Leaderless,
    /// Follows a leader.
    Follower {
        /// Whom.
        leader: BrokerId,
    },
    /// Leads.
    Leader {
        /// The end of the log when it began to; until the high watermark gets there, the latest offset is not known
        /// (OFFSET_NOT_AVAILABLE).
        epoch_start: Offset,
    },
}

/// Why a producer's batch is not appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendRefusal {
    /// NOT_LEADER_OR_FOLLOWER
    NotLeader,
    /// NOT_ENOUGH_REPLICAS
    NotEnoughReplicas,
}

#[derive(Debug, Clone)]
enum State {
    Leaderless,
    Follower(Follower),
    Leader(Leader),
}

/// One replica.
#[derive(Debug, Clone)]
pub struct Replica {
    config: ReplicaConfig,
    log: LogPositions,
    high_watermark: Offset,
    /// The leader epoch in which `high_watermark` was learned.
    high_watermark_epoch: LeaderEpoch,
    leader_epoch: LeaderEpoch,
    partition_epoch: i32,
    min_insync_replicas: usize,
    state: State,
}

impl Replica {
    /// A replica whose log recovery has found as `log`. It is leaderless until it hears of the partition's state.
    ///
    /// The metadata that a process replays at its start may be older than what it had heard before, and name a leader that has been replaced. That one may lack
    /// what this log has of a later epoch, so the log's last epoch counts as known.
    pub fn new(config: ReplicaConfig, mut log: LogPositions) -> Self {
        log.plant(config.planted);
        Replica {
            config,
            high_watermark: log.start(),
            high_watermark_epoch: LeaderEpoch::UNKNOWN,
            leader_epoch: match config.planted.has(PlantedBug::RestartForgetsEpoch) {
                true => LeaderEpoch::UNKNOWN,
                false => log.last_epoch(),
            },
            log,
            partition_epoch: -1,
            min_insync_replicas: 1,
            state: State::Leaderless,
        }
    }

    /// The log's positions.
    pub fn log(&self) -> &LogPositions {
        &self.log
    }

    /// Everything below is committed.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The newest leader epoch that this replica knows.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The version of the state that it knows.
    pub fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    /// What it is.
    pub fn role(&self) -> Role {
        match &self.state {
            State::Leaderless => Role::Leaderless,
            State::Follower(follower) => Role::Follower { leader: follower.leader },
            State::Leader(leader) => Role::Leader { epoch_start: leader.epoch_start },
        }
    }

    /// Whether a producer's batch may be appended; `acks_all` if it wants to hear that all in-sync replicas have it.
    pub fn may_append(&self, acks_all: bool) -> Result<(), AppendRefusal> {
        match &self.state {
            State::Leader(_) if acks_all && !self.has_enough_in_sync() => {
                Err(AppendRefusal::NotEnoughReplicas)
            }
            State::Leader(_) => Ok(()),
            _ => Err(AppendRefusal::NotLeader),
        }
    }

    /// Whether as many replicas are in sync as `min.insync.replicas` asks for; nothing is committed while they are not.
    pub fn has_enough_in_sync(&self) -> bool {
        match &self.state {
            State::Leader(leader) => leader.in_sync.committed.len() >= self.min_insync_replicas,
            _ => false,
        }
    }

    /// The replicas as this leader sees them, without itself; empty elsewhere.
    pub fn followers(&self, now_ms: i64) -> impl Iterator<Item = ReplicaStatus> {
        let (followers, in_sync): (&[Progress], &[BrokerId]) = match &self.state {
            State::Leader(leader) => (&leader.followers, &leader.in_sync.committed),
            _ => (&[], &[]),
        };
        followers.iter().map(move |progress| ReplicaStatus {
            id: progress.broker.id,
            is_in_sync: in_sync.contains(&progress.broker.id),
            durable_end: progress.durable_match,
            behind_ms: progress.behind_ms(self.log.end(), now_ms),
        })
    }

    /// The controller's word about the partition. Out of date ones are ignored; one that is as new may still say more about brokers.
    pub fn state_changed(&mut self, state: &PartitionState, now_ms: i64, effects: &mut Vec<Effect>) {
        if !state.is_newer_than(self.leader_epoch, self.partition_epoch) {
            let is_same =
                (state.leader_epoch, state.partition_epoch) == (self.leader_epoch, self.partition_epoch);
            if let State::Leader(leader) = &mut self.state
                && is_same
            {
                update_followers(leader, state, &self.config, self.log.end(), now_ms, effects);
                self.review_in_sync(now_ms, effects);
            }
            return;
        }
        let begins_epoch = state.leader_epoch > self.leader_epoch;
        self.leader_epoch = state.leader_epoch;
        self.partition_epoch = state.partition_epoch;
        self.min_insync_replicas = state.min_insync_replicas;
        if begins_epoch || matches!(self.state, State::Leaderless) {
            self.take_role(state, now_ms, effects);
        } else if state.replica(self.config.me).is_none() {
            self.state = State::Leaderless;
            effects.push(Effect::RoleChanged(Role::Leaderless));
        } else if let State::Leader(leader) = &mut self.state {
            leader.in_sync = InSync { committed: state.in_sync_replicas.clone(), pending: None };
            update_followers(leader, state, &self.config, self.log.end(), now_ms, effects);
        }
        self.advance_high_watermark(effects);
        self.review_in_sync(now_ms, effects);
    }

    fn take_role(&mut self, state: &PartitionState, now_ms: i64, effects: &mut Vec<Effect>) {
        let me = self.config.me;
        // A state from before this process registered may name it leader; what it says is about the process that is gone, and whose log was longer.
        let is_about_me =
            state.replica(me).is_some_and(|replica| replica.broker_epoch == self.config.broker_epoch);
        self.state = if state.leader == me && is_about_me {
            let followers = state.replicas.iter().filter(|replica| replica.id != me);
            let progress = |replica: &ReplicaBroker| Progress::new(*replica, self.log.end(), now_ms);
            State::Leader(Leader {
                epoch_start: self.log.end(),
                followers: followers.map(progress).collect(),
                in_sync: InSync { committed: state.in_sync_replicas.clone(), pending: None },
            })
        } else if state.leader == me || !state.leader.is_some() || state.replica(me).is_none() {
            State::Leaderless
        } else {
            State::Follower(Follower::new(state.leader))
        };
        effects.push(Effect::RoleChanged(self.role()));
        match &self.state {
            State::Leader(leader) => {
                self.high_watermark_epoch = self.leader_epoch;
                effects.extend(
                    leader.followers.iter().map(|follower| Effect::Replicate { to: follower.broker.id }),
                );
            }
            State::Follower(_) => {
                if state.last_unclean_epoch > self.high_watermark_epoch {
                    // What was committed before may be gone.
                    self.high_watermark = self.log.start();
                }
                self.introduce(effects);
            }
            State::Leaderless => {}
        }
    }

    /// A channel to `peer` has been set up, anew if there was one: nothing that was sent over an earlier one can be relied on.
    pub fn channel_opened(&mut self, peer: BrokerId, effects: &mut Vec<Effect>) {
        match &mut self.state {
            State::Leader(leader) => {
                if let Some(progress) = leader.follower_mut(peer) {
                    let next = progress.durable_match.unwrap_or(progress.next);
                    progress.probe(next);
                    effects.push(Effect::Replicate { to: peer });
                }
            }
            State::Follower(follower) if follower.leader == peer => self.introduce(effects),
            _ => {}
        }
    }

    /// The follower tells its leader where its log ends, so that the leader need not search.
    fn introduce(&self, effects: &mut Vec<Effect>) {
        let (epoch, end) = (self.log.last_epoch(), self.log.end());
        self.reply(ReplyBody::Position { round: None, epoch, end }, effects);
    }

    fn reply(&self, body: ReplyBody, effects: &mut Vec<Effect>) {
        if let State::Follower(follower) = &self.state {
            effects.push(self.reply_to(follower.leader, body));
        }
    }

    fn reply_to(&self, to: BrokerId, body: ReplyBody) -> Effect {
        let reply = Reply { broker_epoch: self.config.broker_epoch, leader_epoch: self.leader_epoch, body };
        Effect::Reply(Addressed { to, reply })
    }

    // ---- leader

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

    /// What to send to a follower now: batches of the log from [`Append::previous_end`] on, as many as the shell thinks fit (none are needed). `None` if there is
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
        })
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
                if progress.next < self.log.end() {
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
    fn review_in_sync(&mut self, now_ms: i64, effects: &mut Vec<Effect>) {
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
    fn advance_high_watermark(&mut self, effects: &mut Vec<Effect>) {
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
        }
    }

    // ---- follower

    /// The leader's message, with the batches in it. What the outcome says is as good as done: the shell must do it before the next input, and stop if it cannot.
    pub fn append_received(
        &mut self,
        from: BrokerId,
        append: &Append,
        batches: &[BatchSpan],
        effects: &mut Vec<Effect>,
    ) -> AppendOutcome {
        let accepts_stale = self.config.planted.has(PlantedBug::StaleLeaderAccepted);
        if append.leader_epoch > self.leader_epoch {
            effects.push(Effect::MetadataBehind(append.leader_epoch));
            return AppendOutcome::Refused;
        }
        if append.leader_epoch < self.leader_epoch && !accepts_stale {
            effects.push(self.reply_to(from, ReplyBody::StaleLeader));
            return AppendOutcome::Refused;
        }
        if !matches!(self.state, State::Follower(_)) {
            return AppendOutcome::Refused;
        }
        let fitting = match fit(&self.log, append, batches) {
            Fit::Fits(fitting) => fitting,
            Fit::Malformed(problem) => return AppendOutcome::Corrupt(problem),
            Fit::Position(epoch, end) => {
                self.reply(ReplyBody::Position { round: Some(append.round), epoch, end }, effects);
                return AppendOutcome::Refused;
            }
        };
        let Fitting { restart_at, truncate_to, skip, .. } = fitting;
        let cut = truncate_to.or(restart_at.filter(|at| *at < self.log.end()));
        if let Some(problem) = cut.and_then(|to| self.cannot_give_up(to)) {
            return AppendOutcome::Corrupt(problem);
        }
        self.store(restart_at, truncate_to, &batches[skip..]);
        let log_start_offset = self.learn(append, &fitting, effects);
        if batches.is_empty() || skip == batches.len() || self.planted_ack() {
            self.acknowledge(true, effects);
        }
        AppendOutcome::Store { restart_at, truncate_to, skip, log_start_offset }
    }

    fn planted_ack(&self) -> bool {
        self.config.planted.has(PlantedBug::AckBeforeSync)
    }

    /// Why the log cannot be truncated to `to`, if it cannot. (After an unclean election the high watermark does not count.)
    fn cannot_give_up(&self, to: Offset) -> Option<&'static str> {
        let State::Follower(follower) = &self.state else { return None };
        if follower.match_end.is_some_and(|end| to < end) {
            return Some("a leader contradicts what it has sent in the same epoch");
        }
        (to < self.high_watermark).then_some("a leader lacks committed records")
    }

    fn store(&mut self, restart_at: Option<Offset>, truncate_to: Option<Offset>, batches: &[BatchSpan]) {
        if let Some(at) = restart_at {
            self.log.restart_at(at);
            self.high_watermark = at;
        }
        if let Some(to) = truncate_to {
            self.log.truncate(to);
            self.high_watermark = self.high_watermark.min(to);
        }
        batches.iter().for_each(|batch| self.log.append(*batch));
    }

    /// What a message that fits tells besides its batches. Returns the new start of the log, if it moves.
    fn learn(&mut self, append: &Append, fitting: &Fitting, effects: &mut Vec<Effect>) -> Option<Offset> {
        let State::Follower(follower) = &mut self.state else { return None };
        let match_end =
            follower.match_end.map_or(fitting.match_end, |earlier| earlier.max(fitting.match_end));
        follower.match_end = Some(match_end);
        if !fitting.is_proved {
            return None;
        }
        let start = append.log_start_offset.min(self.log.end());
        let log_start_offset = (start > self.log.start()).then_some(start);
        self.log.advance_start(start);
        let high_watermark = append.high_watermark.min(match_end);
        if high_watermark > self.high_watermark {
            self.high_watermark = high_watermark;
            effects.push(Effect::HighWatermark(high_watermark));
        }
        self.high_watermark_epoch = append.leader_epoch;
        log_start_offset
    }

    /// Tells the leader what is proved equal to its log and on disk; `always` also if it has heard that before.
    fn acknowledge(&mut self, always: bool, effects: &mut Vec<Effect>) {
        let planted = self.config.planted;
        let State::Follower(follower) = &mut self.state else { return };
        let Some(match_end) = follower.match_end else { return };
        let end = if planted.has(PlantedBug::AckBeforeSync) {
            match_end
        } else if planted.has(PlantedBug::AckBeyondMatch) {
            self.log.durable_end()
        } else {
            match_end.min(self.log.durable_end())
        };
        if always || end > follower.acknowledged {
            follower.acknowledged = end;
            self.reply(ReplyBody::Durable { end }, effects);
        }
    }

    // ---- both

    /// A sync has returned: everything appended in this generation of the log below `end` is on disk. Generations change with truncations
    /// ([`LogPositions::generation`]); note the one in force when the append is handed to the journal.
    pub fn synced(&mut self, generation: LogGeneration, end: Offset, effects: &mut Vec<Effect>) {
        if !self.log.synced(generation, end) {
            return;
        }
        match self.state {
            State::Leader(_) => self.advance_high_watermark(effects),
            State::Follower(_) => self.acknowledge(false, effects),
            State::Leaderless => {}
        }
    }

    /// What [`PlantedBug::TruncateToHighWatermark`] has a shell do when it hears that the replica follows: the new end of the log, if it was cut.
    #[cfg(any(test, feature = "planted-bugs"))]
    pub fn truncate_to_high_watermark(&mut self) -> Option<Offset> {
        let is_planted = self.config.planted.has(PlantedBug::TruncateToHighWatermark);
        let cuts = is_planted && self.high_watermark < self.log.end();
        cuts.then(|| {
            self.log.truncate(self.high_watermark);
            self.high_watermark
        })
    }

    /// Retention, or DeleteRecords, has removed what lies below `to`, the beginning of a batch; only what is committed may go.
    pub fn log_start_advanced(&mut self, to: Offset) {
        assert!(to <= self.high_watermark, "records from {} to {to} are not committed", self.high_watermark);
        self.log.advance_start(to);
    }
}

/// Followers that are new, gone or reborn.
fn update_followers(
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
