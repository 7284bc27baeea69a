//! Nodes, the messages between them, and every step that can be taken.

use std::collections::{BTreeMap, BTreeSet};

use super::super::message::Addressed;
use super::super::{
    AlterPartition, AlterRefusal, Append, AppendOutcome, BatchSpan, Effect, Replica, ReplicaConfig, Reply,
    Role,
};
use super::controller::Controller;
use super::disk::{Batch, Disk};
use super::invariants::Oracle;
use crate::error::CoordError;
use crate::planted::Planted;
use crate::types::{BrokerId, LeaderEpoch};

pub(super) struct Node {
    pub(super) id: BrokerId,
    pub(super) broker_epoch: i64,
    /// `None` while the process is down.
    pub(super) replica: Option<Replica>,
    pub(super) disk: Disk,
    /// Whether the disk has lost everything and the controller does not know.
    pub(super) is_wiped: bool,
    /// The next state of the controller's history that the node hears of.
    pub(super) metadata_at: usize,
    /// The state in which the node knows that it is registered.
    registered_at: usize,
    /// Followers to whom there is something to send.
    pub(super) ready: BTreeSet<BrokerId>,
}

#[derive(Debug, Clone)]
pub(super) enum Message {
    Append { from: BrokerId, to: BrokerId, append: Append, batches: Vec<Batch> },
    Reply { from: BrokerId, to: BrokerId, reply: Reply },
    Alter { from: BrokerId, proposal: AlterPartition },
    AlterRefused { to: BrokerId, leader_epoch: LeaderEpoch, partition_epoch: i32, refusal: AlterRefusal },
}

pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) controller: Controller,
    pub(super) network: Vec<Message>,
    pub(super) oracle: Oracle,
    pub(super) now_ms: i64,
    pub(super) counts: BTreeMap<&'static str, u64>,
    pub(super) trace: Option<Vec<String>>,
    next_batch: u64,
    planted: Planted,
}

pub(super) type Checked = Result<(), String>;

impl World {
    pub(super) fn new(nodes: i32, min_insync_replicas: usize, planted: Planted) -> Self {
        let mut world = World {
            nodes: Vec::new(),
            controller: Controller::new(nodes, min_insync_replicas, planted),
            network: Vec::new(),
            oracle: Oracle::default(),
            now_ms: 0,
            counts: BTreeMap::new(),
            trace: None,
            next_batch: 0,
            planted,
        };
        for id in (0..nodes).map(BrokerId) {
            let disk = Disk::default();
            let broker_epoch = i64::from(id.0);
            let replica = Replica::new(world.config(id, broker_epoch), disk.memory.positions());
            world.nodes.push(Node {
                id,
                broker_epoch,
                replica: Some(replica),
                disk,
                is_wiped: false,
                metadata_at: 0,
                registered_at: 0,
                ready: BTreeSet::new(),
            });
        }
        world
    }

    fn config(&self, me: BrokerId, broker_epoch: i64) -> ReplicaConfig {
        ReplicaConfig {
            me,
            broker_epoch,
            replica_lag_time_max_ms: 100,
            slow_replica_time_max_ms: 30,
            rejoin_after_ms: 40,
            alter_partition_retry_ms: 20,
            planted: self.planted,
        }
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(text());
        }
    }

    fn count(&mut self, what: &'static str, by: u64) {
        *self.counts.entry(what).or_insert(0) += by;
    }

    pub(super) fn is_up(&self, node: usize) -> bool {
        self.nodes[node].replica.is_some()
    }

    pub(super) fn leads(&self, node: usize) -> bool {
        self.nodes[node].replica.as_ref().is_some_and(|replica| matches!(replica.role(), Role::Leader { .. }))
    }

    /// Gives an input to a node's replica and carries out what follows.
    fn input(&mut self, node: usize, input: impl FnOnce(&mut Replica, i64, &mut Vec<Effect>)) -> Checked {
        let mut effects = Vec::new();
        let now_ms = self.now_ms;
        let Some(replica) = &mut self.nodes[node].replica else { return Ok(()) };
        input(replica, now_ms, &mut effects);
        self.carry_out(node, effects)
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) -> Checked {
        let id = self.nodes[node].id;
        for effect in effects {
            self.note(|| format!("      {id}: {effect:?}"));
            match effect {
                Effect::Replicate { to } => {
                    self.nodes[node].ready.insert(to);
                }
                Effect::Reply(Addressed { to, reply }) => {
                    self.network.push(Message::Reply { from: id, to, reply });
                }
                Effect::HighWatermark(high_watermark) => {
                    let before = self.oracle.committed();
                    self.oracle.shown(&self.nodes[node].disk.memory, high_watermark)?;
                    self.count("commits", (self.oracle.committed() - before) as u64);
                }
                Effect::AlterPartition(proposal) => self.network.push(Message::Alter { from: id, proposal }),
                Effect::RoleChanged(role) => self.role_changed(node, role)?,
                Effect::MetadataBehind(_) => {}
            }
        }
        Ok(())
    }

    fn role_changed(&mut self, node: usize, role: Role) -> Checked {
        let node = &mut self.nodes[node];
        node.ready.retain(|_| matches!(role, Role::Leader { .. }));
        let replica = node.replica.as_mut().expect("it has just said so");
        match role {
            Role::Leader { .. } => self.oracle.leads(replica.leader_epoch(), node.id, node.broker_epoch),
            Role::Follower { .. } => {
                if let Some(to) = replica.truncate_to_high_watermark() {
                    node.disk.truncate(to);
                }
                Ok(())
            }
            Role::Leaderless => Ok(()),
        }
    }

    /// The controller has done something.
    fn controller_acts(&mut self, act: impl FnOnce(&mut Controller)) {
        let before = self.controller.partition.clone();
        act(&mut self.controller);
        let after = self.controller.partition.clone();
        self.note(|| format!("      controller: {after:?}"));
        let elected = after.leader_epoch != before.leader_epoch && after.leader.is_some();
        self.count("elections", u64::from(elected));
        self.count("in-sync changes", u64::from(after.in_sync_replicas != before.in_sync_replicas));
    }

    // ---- steps

    pub(super) fn produce(&mut self, node: usize, records: i64) -> Checked {
        let number = self.next_batch;
        self.next_batch += 1;
        let Some(replica) = &self.nodes[node].replica else { return Ok(()) };
        if replica.may_append(number.is_multiple_of(2)).is_err() {
            return Ok(());
        }
        let base_offset = replica.log().end();
        let span = BatchSpan {
            leader_epoch: replica.leader_epoch(),
            base_offset,
            end_offset: base_offset + records,
        };
        self.nodes[node].disk.append(Batch { span, number });
        self.input(node, |replica, now_ms, effects| {
            replica.appended(base_offset, base_offset + records, now_ms, effects);
        })
    }

    /// Sends what there is for one follower.
    pub(super) fn send(&mut self, node: usize, to: BrokerId, at_most: usize) {
        let from = &mut self.nodes[node];
        from.ready.remove(&to);
        let Some(replica) = &mut from.replica else { return };
        let Some(append) = replica.next_append(to) else { return };
        let at_least = usize::from(append.previous_epoch == LeaderEpoch::UNKNOWN);
        let batches = from.disk.read(append.previous_end, at_most.max(at_least));
        let end = batches.last().map_or(append.previous_end, |batch| batch.span.end_offset);
        replica.sent(to, end);
        if end < replica.log().end() {
            from.ready.insert(to);
        }
        let from = from.id;
        self.network.push(Message::Append { from, to, append, batches });
    }

    pub(super) fn deliver(&mut self, at: usize, keeps_copy: bool) -> Checked {
        let message = match keeps_copy {
            true => self.network[at].clone(),
            false => self.network.swap_remove(at),
        };
        self.note(|| format!("   {message:?}"));
        match message {
            Message::Append { from, to, append, batches } => {
                self.append_received(from, to, &append, &batches)
            }
            Message::Reply { from, to, reply } => self.input(to.0 as usize, |replica, now_ms, effects| {
                replica.replied(from, &reply, now_ms, effects);
            }),
            Message::Alter { from, proposal } => {
                self.alter_received(from, &proposal);
                Ok(())
            }
            Message::AlterRefused { to, leader_epoch, partition_epoch, refusal } => {
                self.input(to.0 as usize, |replica, now_ms, effects| {
                    replica.alter_refused(leader_epoch, partition_epoch, refusal, now_ms, effects);
                })
            }
        }
    }

    fn append_received(
        &mut self,
        from: BrokerId,
        to: BrokerId,
        append: &Append,
        batches: &[Batch],
    ) -> Checked {
        let node = to.0 as usize;
        let spans: Vec<BatchSpan> = batches.iter().map(|batch| batch.span).collect();
        let mut effects = Vec::new();
        let Some(replica) = &mut self.nodes[node].replica else { return Ok(()) };
        let outcome = replica.append_received(from, append, &spans, &mut effects);
        self.note(|| format!("      {to}: {outcome:?}"));
        match outcome {
            AppendOutcome::Refused => {}
            AppendOutcome::Corrupt(problem) => return Err(format!("node {to}: {problem}")),
            AppendOutcome::Store { restart_at, truncate_to, skip, log_start_offset } => {
                self.count("truncations", u64::from(truncate_to.is_some() || restart_at.is_some()));
                let disk = &mut self.nodes[node].disk;
                restart_at.into_iter().for_each(|at| disk.restart_at(at));
                truncate_to.into_iter().for_each(|to| disk.truncate(to));
                batches[skip..].iter().for_each(|batch| disk.append(*batch));
                log_start_offset.into_iter().for_each(|to| disk.advance_start(to));
                let end = self.nodes[node].replica.as_ref().expect("up").log().end();
                assert_eq!(self.nodes[node].disk.memory.end(), end, "the replica knows its log");
            }
        }
        self.carry_out(node, effects)
    }

    fn alter_received(&mut self, from: BrokerId, proposal: &AlterPartition) {
        let mut outcome = Ok(());
        self.controller_acts(|controller| outcome = controller.alter(from, proposal));
        let refusal = match outcome {
            Ok(()) => return,
            Err(CoordError::IneligibleReplica) => AlterRefusal::Ineligible,
            Err(_) => AlterRefusal::Outdated,
        };
        let AlterPartition { leader_epoch, partition_epoch, .. } = *proposal;
        self.network.push(Message::AlterRefused { to: from, leader_epoch, partition_epoch, refusal });
    }

    pub(super) fn begin_sync(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        if let Some(replica) = &node.replica {
            node.disk.begin_sync(replica.log().generation());
        }
    }

    pub(super) fn end_sync(&mut self, node: usize) -> Checked {
        match self.nodes[node].disk.end_sync() {
            Some((generation, end)) => {
                self.input(node, |replica, _, effects| replica.synced(generation, end, effects))
            }
            None => Ok(()),
        }
    }

    /// A node hears of the next state.
    pub(super) fn hear(&mut self, node: usize) -> Checked {
        let at = self.nodes[node].metadata_at;
        let Some(state) = self.controller.history.get(at).cloned() else { return Ok(()) };
        if !self.is_up(node) {
            return Ok(());
        }
        self.note(|| format!("      {node} hears of {state:?}"));
        self.nodes[node].metadata_at += 1;
        self.input(node, |replica, now_ms, effects| replica.state_changed(&state, now_ms, effects))
    }

    pub(super) fn tick(&mut self, node: usize) -> Checked {
        self.input(node, |replica, now_ms, effects| replica.tick(now_ms, effects))
    }

    pub(super) fn open_channel(&mut self, node: usize, peer: BrokerId) -> Checked {
        self.input(node, |replica, _, effects| replica.channel_opened(peer, effects))
    }

    /// Old records go.
    pub(super) fn retain(&mut self, node: usize) -> Checked {
        if !self.leads(node) {
            return Ok(());
        }
        let node = &mut self.nodes[node];
        let replica = node.replica.as_mut().expect("it leads");
        let Some(first) = node.disk.memory.batches.first() else { return Ok(()) };
        if first.span.end_offset <= replica.high_watermark() {
            replica.log_start_advanced(first.span.end_offset);
            node.disk.advance_start(first.span.end_offset);
        }
        Ok(())
    }

    pub(super) fn crash(&mut self, node: usize, random: u64) {
        self.count("crashes", 1);
        let node = &mut self.nodes[node];
        node.replica = None;
        node.ready.clear();
        node.disk.crash(random);
    }

    /// The disk is exchanged for an empty one while the process is down. Only as long as nothing committed has but one copy.
    pub(super) fn wipe(&mut self, node: usize) {
        let partition = &self.controller.partition;
        let complete = partition.in_sync_replicas.iter().chain(&partition.eligible_leader_replicas);
        let others =
            complete.filter(|id| **id != self.nodes[node].id && !self.nodes[id.0 as usize].is_wiped).count();
        if self.is_up(node) || others == 0 {
            return;
        }
        self.count("wipes", 1);
        self.nodes[node].disk.wipe();
        self.nodes[node].is_wiped = true;
    }

    /// A new process: it registers, and replays metadata from an earlier state on.
    pub(super) fn restart(&mut self, node: usize, metadata_at: usize) {
        if self.is_up(node) {
            return;
        }
        let (id, is_intact) = (self.nodes[node].id, !self.nodes[node].is_wiped);
        let mut broker_epoch = 0;
        self.controller_acts(|controller| broker_epoch = controller.register(id, is_intact));
        let config = self.config(id, broker_epoch);
        let registered_at = self.controller.history.len();
        let node = &mut self.nodes[node];
        node.broker_epoch = broker_epoch;
        node.is_wiped = false;
        node.registered_at = registered_at;
        node.metadata_at = metadata_at.min(node.metadata_at);
        node.replica = Some(Replica::new(config, node.disk.memory.positions()));
    }

    /// A heartbeat: the controller lets a broker take part again once that one knows of its registration.
    pub(super) fn heartbeat(&mut self, node: usize) {
        let id = self.nodes[node].id;
        let has_caught_up = self.nodes[node].metadata_at >= self.nodes[node].registered_at;
        if self.is_up(node) && has_caught_up && !self.controller.is_active(id) {
            self.controller_acts(|controller| controller.unfence(id));
        }
    }

    pub(super) fn fence(&mut self, node: usize) {
        let id = self.nodes[node].id;
        if self.controller.is_active(id) {
            self.controller_acts(|controller| controller.fence(id));
        }
    }

    pub(super) fn elect_preferred(&mut self) {
        self.controller_acts(Controller::elect_preferred);
    }

    pub(super) fn check(&self) -> Checked {
        self.oracle.check_candidates(&self.controller, &self.nodes)
    }

    // ---- the end of all faults

    /// Everything works from now on; after a while everybody must be in sync and know it.
    pub(super) fn heal(&mut self) -> Checked {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        for node in &all {
            self.restart(*node, usize::MAX);
        }
        for round in 0..60 {
            self.now_ms += 10;
            for node in &all {
                while self.nodes[*node].metadata_at < self.controller.history.len() {
                    self.hear(*node)?;
                }
                self.heartbeat(*node);
                if round == 2 {
                    for peer in &all {
                        self.open_channel(*node, BrokerId(*peer as i32))?;
                    }
                }
                if round == 30
                    && self.leads(*node)
                    && self.controller.partition.leader == self.nodes[*node].id
                {
                    self.produce(*node, 1)?;
                }
                self.tick(*node)?;
                for peer in &all {
                    self.send(*node, BrokerId(*peer as i32), 3);
                }
            }
            while !self.network.is_empty() {
                let last = self.network.len() - 1;
                self.deliver(last, false)?;
            }
            for node in &all {
                self.begin_sync(*node);
                self.end_sync(*node)?;
            }
            self.check()?;
        }
        self.oracle.check_settled(&self.controller, &self.nodes)
    }
}
