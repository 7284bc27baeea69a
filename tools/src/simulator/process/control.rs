//! The active controller: takes commands one by one, decides, proposes the records to the quorum, and answers when they are committed.

use std::collections::{BTreeSet, VecDeque};

use coord::CoordError;
use coord::config::ConfigResourceType;
use coord::group::GroupConfig;
use coord::metadata::decide::{
    AlterConfigs, ClusterView, ConfigChange, ConfigEdit, ConfigOp, ConfigRules, CreateTopicsOptions,
    ElectionType, Reassignment, alter_partitions, alter_replica_configs, balance_leaders, broker_heartbeat,
    create_cluster, create_topics, elect_missing_leaders, elect_replica_leader, fence_broker,
    reassign_partition, register_replica_broker,
};
use coord::metadata::{BrokerSessions, DecideContext, Decision, InSyncProposal, encode_entry};
use coord::quorum::LogPosition;
use coord::replica::AlterRefusal;
use coord::types::BrokerId;

use super::{Env, Message, Out, Process};
use crate::simulator::message::{Address, AdminCommand, Command, Outcome, Response};
use crate::simulator::settings;

/// Between two looks at preferred leaders.
const BALANCE_MS: i64 = 2_000;

/// Who waits for the answer to a command.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker {
    /// The controller itself.
    Nobody,
    /// A broker.
    Broker(BrokerId),
    /// A client's request of this number.
    Client(usize, u64),
}

/// What a node does as active controller; empty elsewhere.
#[derive(Debug, Default)]
pub(super) struct Controller {
    /// While the node is active.
    sessions: Option<BrokerSessions>,
    queue: VecDeque<(Asker, Command)>,
    /// The decision under way.
    proposed: Option<(LogPosition, Asker, Outcome)>,
    next_balance_ms: i64,
}

impl Process {
    pub(super) fn command_received(&mut self, asker: Asker, command: Command) {
        self.controller.queue.push_back((asker, command));
    }

    /// Brokers that have fallen silent, or where nobody listens any more, are fenced, and leaders balanced now and then.
    pub(super) fn expire_sessions(&mut self, now_ms: i64) {
        let Some(sessions) = &self.controller.sessions else { return };
        let queue = &mut self.controller.queue;
        let gone: Vec<(BrokerId, i64)> = self.gone.iter().map(|(id, since_ms)| (*id, *since_ms)).collect();
        let mut silent = sessions.left(&self.image, &gone, now_ms);
        silent.extend(sessions.expired(&self.image, settings::SESSION_MS, now_ms));
        for (broker, epoch) in silent {
            let is_queued =
                |(_, command): &(Asker, Command)| matches!(command, Command::Fence(id, _) if *id == broker);
            if !queue.iter().any(is_queued) {
                queue.push_back((Asker::Nobody, Command::Fence(broker, epoch)));
            }
        }
        if now_ms >= self.controller.next_balance_ms {
            self.controller.next_balance_ms = now_ms + BALANCE_MS;
            queue.push_back((Asker::Nobody, Command::Balance));
        }
    }

    /// Decides what can be decided now.
    pub(super) fn control(&mut self, env: &mut Env<'_>) {
        if !self.quorum.may_decide() {
            self.controller.sessions = None;
            self.controller.proposed = None;
            for (asker, _) in std::mem::take(&mut self.controller.queue) {
                self.answer(asker, Outcome::NotController, env);
            }
            return;
        }
        if self.controller.sessions.is_none() {
            let now_ms = self.now_ms(env);
            self.controller.sessions = Some(BrokerSessions::new(now_ms));
            self.controller.queue.push_front((Asker::Nobody, Command::ElectMissing));
            env.oracle.count("active controllers", 1);
            env.trace.note(|| format!("broker {} is the active controller", self.id));
        }
        while self.controller.proposed.is_none()
            && let Some((asker, command)) = self.controller.queue.pop_front()
        {
            self.run_command(asker, &command, env);
        }
    }

    fn run_command(&mut self, asker: Asker, command: &Command, env: &mut Env<'_>) {
        let (records, outcome) = match self.decide(command, env) {
            Ok(decision) => (decision.records, decision.reply),
            Err(error) => (Vec::new(), refused(command, error)),
        };
        if records.is_empty() {
            return self.answer(asker, outcome, env);
        }
        match self.quorum.propose(encode_entry(&records)) {
            Ok(position) => {
                env.trace.note(|| format!("controller {} proposes {command:?} at {position:?}", self.id));
                self.controller.proposed = Some((position, asker, outcome));
            }
            Err(_) => self.answer(asker, Outcome::NotController, env),
        }
    }

    /// An entry of the quorum's log has been replayed here: perhaps the one that a decision waits for.
    pub(super) fn decision_applied(&mut self, at: LogPosition, env: &mut Env<'_>) {
        let Some((position, ..)) = self.controller.proposed else { return };
        if position.index > at.index {
            return;
        }
        let (_, asker, outcome) = self.controller.proposed.take().expect("it was there a moment ago");
        // Another leader's entry in its place: the proposal is lost, and whoever waits asks again.
        let outcome = if position == at { outcome } else { Outcome::NotController };
        self.answer(asker, outcome, env);
    }

    fn answer(&mut self, asker: Asker, outcome: Outcome, env: &mut Env<'_>) {
        match asker {
            Asker::Nobody => {}
            Asker::Broker(broker) => self.send(broker, Message::Outcome(outcome), env),
            Asker::Client(client, number) => {
                let response = match outcome {
                    Outcome::Done => Response::Done,
                    _ => Response::Failed,
                };
                env.out.push(Out::Send(Address::Client(client), Message::Response(number, response)));
            }
        }
    }

    fn decide(&mut self, command: &Command, env: &mut Env<'_>) -> Result<Decision<Outcome>, CoordError> {
        let now_ms = self.now_ms(env);
        let view =
            ClusterView { image: &self.image, defaults: &self.defaults, planted: self.settings.planted };
        let sessions = self.controller.sessions.as_mut().expect("only the active controller decides");
        match command {
            Command::Register { command, is_intact } => {
                let id = command.id;
                let decision = register_replica_broker(view, command.clone(), *is_intact, *is_intact)?;
                sessions.heard(id, now_ms);
                Ok(done(decision))
            }
            Command::Heartbeat(heartbeat) => {
                let decision = broker_heartbeat(view, heartbeat)?;
                sessions.heard(heartbeat.broker, now_ms);
                Ok(done(decision))
            }
            Command::Alter { broker, broker_epoch, partition, proposal } => {
                let wanted = InSyncProposal {
                    sender: *broker,
                    leader_epoch: proposal.leader_epoch,
                    partition_epoch: proposal.partition_epoch,
                    in_sync_replicas: &proposal.in_sync_replicas,
                };
                let mut decision = alter_partitions(view, *broker_epoch, &[(*partition, wanted)])?;
                decision.reply.remove(0)?;
                Ok(done(decision))
            }
            Command::Fence(broker, epoch) => fence_broker(view, *broker, *epoch).map(done),
            Command::ElectMissing => {
                let mut random = || env.random.bits();
                let mut decision = create_cluster(view.image, &mut DecideContext { random: &mut random });
                decision.records.extend(elect_missing_leaders(view).records);
                Ok(done(decision))
            }
            Command::Balance => Ok(done(balance_leaders(view, &BTreeSet::new(), 2))),
            Command::Admin(command) => decide_for_admin(view, command, env),
        }
    }
}

fn done<R>(decision: Decision<R>) -> Decision<Outcome> {
    Decision { records: decision.records, reply: Outcome::Done }
}

fn refused(command: &Command, error: CoordError) -> Outcome {
    match (command, error) {
        (Command::Alter { partition, proposal, .. }, error) => Outcome::AlterRefused {
            partition: *partition,
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch,
            refusal: match error {
                CoordError::IneligibleReplica => AlterRefusal::Ineligible,
                _ => AlterRefusal::Outdated,
            },
        },
        (
            Command::Heartbeat(_),
            CoordError::StaleBrokerEpoch { .. } | CoordError::BrokerIdNotRegistered(_),
        ) => Outcome::BrokerStale,
        (_, error) => Outcome::Refused(error),
    }
}

fn decide_for_admin(
    view: ClusterView<'_>,
    command: &AdminCommand,
    env: &mut Env<'_>,
) -> Result<Decision<Outcome>, CoordError> {
    match command {
        AdminCommand::CreateTopics(topics) => {
            let options = CreateTopicsOptions {
                validate_only: false,
                default_partitions: 1,
                default_replication_factor: 3,
            };
            let mut random = || env.random.bits();
            let mut context = DecideContext { random: &mut random };
            let decision = create_topics(view.image, topics, options, &mut context)?;
            for (_, outcome) in &decision.reply {
                match outcome {
                    Ok(_) | Err(CoordError::TopicAlreadyExists(_)) => {}
                    Err(error) => return Err(error.clone()),
                }
            }
            Ok(done(decision))
        }
        AdminCommand::SetMinInsync(topic, value) => {
            let change = ConfigChange {
                name: "min.insync.replicas".to_owned(),
                op: ConfigOp::Set,
                value: Some(value.to_string()),
            };
            let resource = AlterConfigs {
                resource_type: ConfigResourceType::Topic,
                resource_name: topic.clone(),
                edit: ConfigEdit::Incremental(vec![change]),
            };
            let rules = ConfigRules { read_only: Default::default(), group: GroupConfig::default() };
            let mut decision = alter_replica_configs(view, &[resource], &rules, false);
            decision.reply.remove(0)?;
            Ok(done(decision))
        }
        AdminCommand::Reassign(id, target) => {
            let reassignment = match target {
                Some(target) => Reassignment::To(target.clone()),
                None => Reassignment::Cancel,
            };
            reassign_partition(view, *id, &reassignment, true).map(done)
        }
        AdminCommand::ElectPreferred(id) => {
            elect_replica_leader(view, *id, ElectionType::Preferred).map(done)
        }
    }
}
