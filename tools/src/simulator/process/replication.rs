//! The partitions' replicas: what happens goes into the real [`Replica`]s, and what they want is done. Their logs are in [`super::storing`].

use std::collections::{BTreeSet, VecDeque};

use coord::replica::message::Addressed;
use coord::replica::{Effect, PartitionState, Replica, ReplicaConfig, Reply, Role};
use coord::types::{BrokerId, LeaderEpoch};
use protocol::ErrorCode;
use storage::{Offset, TopicIdPartition};

use super::groups::Coordinator;
use super::storing::{Storing, Work};
use super::{Env, Message, Out, Process, Registration};
use crate::simulator::message::{Address, Command, Response};
use crate::simulator::settings;

/// A producer that waits for its batch to be committed.
#[derive(Debug)]
pub(super) struct WaitingProducer {
    pub(super) client: Address,
    pub(super) number: u64,
    pub(super) base_offset: Offset,
    pub(super) end_offset: Offset,
}

/// One replica of this broker, with who waits for it.
pub(super) struct Partition {
    pub(super) replica: Replica,
    /// Followers to whom there may be something to send.
    pub(super) ready: BTreeSet<BrokerId>,
    /// Those of them for whom something is being read.
    pub(super) read_for: BTreeSet<BrokerId>,
    /// What is to be done to the replica when its log has done what it is at.
    pub(super) work: VecDeque<Work>,
    /// What its log is at.
    pub(super) storing: Option<Storing>,
    pub(super) producers: Vec<WaitingProducer>,
    /// On the leader of a partition of `__consumer_offsets`.
    pub(super) coordinator: Option<Box<Coordinator>>,
    is_group_home: bool,
    /// The disk had no room for something that the leader has sent.
    pub(super) has_refused: bool,
    /// What has been checked of what this replica shows.
    shown: Offset,
    /// The high watermark and the epoch in which it was heard of last.
    last_shown: (LeaderEpoch, Offset),
}

impl Process {
    /// The metadata tells of a partition of this broker.
    pub(super) fn partition_changed(
        &mut self,
        id: TopicIdPartition,
        state: &PartitionState,
        is_group_home: bool,
        env: &mut Env<'_>,
    ) {
        let Registration::Registered(broker_epoch) = self.registration else { return };
        if !self.partitions.contains_key(&id) {
            let config = ReplicaConfig {
                me: self.id,
                broker_epoch,
                replica_lag_time_max_ms: settings::REPLICA_LAG_MAX_MS,
                slow_replica_time_max_ms: settings::SLOW_REPLICA_MS,
                rejoin_after_ms: settings::REJOIN_AFTER_MS,
                alter_partition_retry_ms: settings::ALTER_RETRY_MS,
                planted: self.settings.planted,
            };
            let replica = Replica::new(config, env.store.positions(id));
            let partition = Partition {
                shown: replica.log().start(),
                replica,
                ready: BTreeSet::new(),
                read_for: BTreeSet::new(),
                work: VecDeque::new(),
                storing: None,
                producers: Vec::new(),
                coordinator: None,
                is_group_home,
                has_refused: false,
                last_shown: (LeaderEpoch::UNKNOWN, Offset::ZERO),
            };
            self.partitions.insert(id, partition);
        }
        self.enqueue(id, Work::State(state.clone()), env);
    }

    /// This broker has the partition no more.
    pub(super) fn remove_partition(&mut self, id: TopicIdPartition, env: &mut Env<'_>) {
        self.deposed(id, env);
        self.partitions.remove(&id);
        env.store.delete(id);
        env.trace.note_partition(id, || format!("broker {} drops {id}", self.id));
    }

    /// Gives an input to a replica and does what follows.
    pub(super) fn input(
        &mut self,
        id: TopicIdPartition,
        env: &mut Env<'_>,
        input: impl FnOnce(&mut Replica, i64, &mut Vec<Effect>),
    ) {
        let now_ms = self.now_ms(env);
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let mut effects = Vec::new();
        input(&mut partition.replica, now_ms, &mut effects);
        self.carry_out(id, effects, env);
    }

    pub(super) fn carry_out(&mut self, id: TopicIdPartition, effects: Vec<Effect>, env: &mut Env<'_>) {
        for effect in effects {
            if !matches!(effect, Effect::Replicate { .. }) {
                env.trace.note_partition(id, || format!("broker {} {id}: {effect:?}", self.id));
            }
            match effect {
                Effect::Replicate { to } => {
                    if let Some(partition) = self.partitions.get_mut(&id) {
                        partition.ready.insert(to);
                    }
                }
                Effect::Reply(Addressed { to, reply }) => {
                    self.send(to, Message::Reply { partition: id, reply }, env);
                }
                Effect::HighWatermark(high_watermark) => {
                    self.high_watermark_advanced(id, high_watermark, env)
                }
                Effect::AlterPartition(proposal) => {
                    let Registration::Registered(broker_epoch) = self.registration else { continue };
                    let broker = self.id;
                    self.command(Command::Alter { broker, broker_epoch, partition: id, proposal }, env);
                }
                Effect::RoleChanged(role) => self.role_changed(id, role, env),
                Effect::MetadataBehind(_) => {}
            }
        }
    }

    fn high_watermark_advanced(&mut self, id: TopicIdPartition, high_watermark: Offset, env: &mut Env<'_>) {
        let partition = self.partitions.get_mut(&id).expect("it has just said so");
        let epoch = partition.replica.leader_epoch();
        let (last_epoch, last) = partition.last_shown;
        if epoch == last_epoch && high_watermark < last {
            let text =
                format!("broker {}: high watermark goes back from {last} to {high_watermark}", self.id);
            env.oracle.fail(Some(id), text);
        }
        partition.last_shown = (epoch, high_watermark);
        env.trace.mix(high_watermark.0 as u64);
        env.store.advance_high_watermark(id, high_watermark);
        let content = env.store.content(id).expect("a replica has a log");
        env.oracle.shown(id, (self.id, epoch), content, partition.shown, high_watermark);
        partition.shown = partition.shown.max(high_watermark);
        let (done, waiting) = std::mem::take(&mut partition.producers)
            .into_iter()
            .partition(|producer: &WaitingProducer| producer.end_offset <= high_watermark);
        partition.producers = waiting;
        for WaitingProducer { client, number, base_offset, .. } in done {
            let response = Response::Produced(Ok(base_offset));
            env.out.push(Out::Send(client, Message::Response(number, response)));
        }
        if let Some(coordinator) = &mut partition.coordinator {
            coordinator.answer(high_watermark, env.out);
        }
    }

    fn role_changed(&mut self, id: TopicIdPartition, role: Role, env: &mut Env<'_>) {
        let Registration::Registered(broker_epoch) = self.registration else { return };
        match role {
            Role::Leader { .. } => {
                let partition = self.partitions.get_mut(&id).expect("it has just said so");
                let epoch = partition.replica.leader_epoch();
                let content = env.store.content(id).expect("a replica has a log");
                env.oracle.leads(id, epoch, (self.id, broker_epoch), content);
                if partition.is_group_home {
                    // Somebody else may have led between the epochs, whatever this process has seen of that.
                    if let Some(mut former) = partition.coordinator.take() {
                        former.resign(env.out);
                    }
                    self.read_groups(id, epoch, env);
                }
            }
            Role::Follower { .. } => {
                self.deposed(id, env);
                #[cfg(feature = "planted-bugs")]
                if let Some(partition) = self.partitions.get_mut(&id)
                    && let Some(to) = partition.replica.truncate_to_high_watermark()
                {
                    let generation = partition.replica.log().generation();
                    let job = crate::simulator::store::Job {
                        restart_at: None,
                        truncate_to: Some(to),
                        batches: Vec::new(),
                        log_start: Offset::ZERO,
                        generation,
                    };
                    self.begin_storing(id, job, Vec::new(), env);
                }
            }
            Role::Leaderless => self.deposed(id, env),
        }
    }

    /// Whoever waits for this broker as leader is told to look elsewhere.
    fn deposed(&mut self, id: TopicIdPartition, env: &mut Env<'_>) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        partition.ready.clear();
        partition.read_for.clear();
        for WaitingProducer { client, number, .. } in std::mem::take(&mut partition.producers) {
            let response = Response::Produced(Err(ErrorCode::NOT_LEADER_OR_FOLLOWER));
            env.out.push(Out::Send(client, Message::Response(number, response)));
        }
        if let Some(mut coordinator) = partition.coordinator.take() {
            coordinator.resign(env.out);
        }
    }

    pub(super) fn replied(&mut self, id: TopicIdPartition, from: BrokerId, reply: &Reply, env: &mut Env<'_>) {
        env.trace.note_partition(id, || format!("broker {} {id}: from {from} {reply:?}", self.id));
        self.input(id, env, |replica, now_ms, effects| replica.replied(from, reply, now_ms, effects));
    }

    pub(super) fn channels_opened(&mut self, peer: BrokerId, env: &mut Env<'_>) {
        let ids: Vec<TopicIdPartition> = self.partitions.keys().copied().collect();
        for id in ids {
            self.input(id, env, |replica, _, effects| replica.channel_opened(peer, effects));
        }
    }

    pub(super) fn tick_replicas(&mut self, env: &mut Env<'_>) {
        let ids: Vec<TopicIdPartition> = self.partitions.keys().copied().collect();
        for id in ids {
            self.input(id, env, Replica::tick);
            if !env.store.is_refusing() {
                self.ask_again(id, env);
            }
        }
    }

    /// There is room again: the leader is to send what the disk had no room for.
    fn ask_again(&mut self, id: TopicIdPartition, env: &mut Env<'_>) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        if let Role::Follower { leader } = partition.replica.role()
            && std::mem::take(&mut partition.has_refused)
        {
            self.input(id, env, |replica, _, effects| replica.channel_opened(leader, effects));
        }
    }

    /// The replica of a partition, for who looks on.
    pub fn replica(&self, id: TopicIdPartition) -> Option<&Replica> {
        self.partitions.get(&id).map(|partition| &partition.replica)
    }
}
