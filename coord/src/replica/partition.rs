//! One replica of one partition: inputs in, effects out.

use storage::Offset;

use super::follower::{Follower, LeaderPositions};
use super::in_sync::{AlterPartition, InSync};
use super::leader::{Leader, Progress, ReplicaStatus};
use super::leading::update_followers;
use super::message::{Addressed, Reply, ReplyBody};
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
pub(super) enum State {
    Leaderless,
    Follower(Follower),
    Leader(Leader),
}

/// One replica.
#[derive(Debug, Clone)]
pub struct Replica {
    pub(super) config: ReplicaConfig,
    pub(super) log: LogPositions,
    pub(super) high_watermark: Offset,
    /// The leader epoch in which `high_watermark` was learned.
    pub(super) high_watermark_epoch: LeaderEpoch,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) partition_epoch: i32,
    pub(super) min_insync_replicas: usize,
    pub(super) state: State,
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

    /// Whether a proposal to the controller is under way: it is sent again by [`Replica::tick`] until it is answered.
    pub fn awaits_controller(&self) -> bool {
        matches!(&self.state, State::Leader(leader) if leader.in_sync.pending.is_some())
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

    /// How far its leader was when it last said so; `None` if this is no follower.
    pub fn leader_positions(&self) -> Option<LeaderPositions> {
        match &self.state {
            State::Follower(follower) => Some(follower.leader_positions),
            _ => None,
        }
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

    pub(super) fn reply(&self, body: ReplyBody, effects: &mut Vec<Effect>) {
        if let State::Follower(follower) = &self.state {
            effects.push(self.reply_to(follower.leader, body));
        }
    }

    pub(super) fn reply_to(&self, to: BrokerId, body: ReplyBody) -> Effect {
        let reply = Reply { broker_epoch: self.config.broker_epoch, leader_epoch: self.leader_epoch, body };
        Effect::Reply(Addressed { to, reply })
    }

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

    /// Retention, or DeleteRecords, has removed what lies below `to`, the beginning of a batch. Only what is committed goes, even if a replica that was started
    /// anew has not heard yet how much that is.
    pub fn log_start_advanced(&mut self, to: Offset) {
        self.high_watermark = self.high_watermark.max(to);
        self.log.advance_start(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::testing::leader;

    #[test]
    fn a_follower_goes_on_from_where_the_log_begins_even_if_its_leader_does_not_know_yet_that_so_much_was_committed()
     {
        let mut replica = leader(&[(2, 2)], &[1]);
        assert_eq!(
            replica.high_watermark(),
            Offset(0),
            "nothing of the leader's own log counts as durable yet"
        );
        replica.channel_opened(BrokerId(2), &mut Vec::new());
        assert_eq!(replica.next_message(BrokerId(2)).map(|next| next.from), Some(Offset(2)));
        replica.log_start_advanced(Offset(4));
        assert_eq!((replica.log().start(), replica.high_watermark()), (Offset(4), Offset(4)));
        assert_eq!(replica.next_message(BrokerId(2)).map(|next| next.from), Some(Offset(4)));
    }
}
