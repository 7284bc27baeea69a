//! Decisions about replicated partitions: brokers that come, go and fall silent, what leaders propose, elections, reassignments.
//!
//! Each takes the whole image and returns the records of all partitions that the change touches; the rules of one partition are those of
//! [`crate::metadata::partition`].

use std::collections::{BTreeMap, BTreeSet};

use storage::TopicIdPartition;

use super::partitions::check_manual_assignment;
use super::{
    AlterConfigs, ConfigRules, Decision, ElectionType, Reassignment, RegisterBroker, alter_configs,
    register_broker, set_fencing,
};
use crate::config::{ReplicationConfig, TopicDefaults, replication_config};
use crate::error::CoordError;
use crate::metadata::image::{MetadataImage, TopicImage};
use crate::metadata::partition::{InSyncProposal, PartitionImage, PartitionRules};
use crate::metadata::record::MetadataRecord;
use crate::planted::Planted;
use crate::types::{BrokerId, PartitionId};

/// The metadata, and the operator's defaults of topic configs, which all controllers must have in common.
#[derive(Debug, Clone, Copy)]
pub struct ClusterView<'a> {
    /// What is known.
    pub image: &'a MetadataImage,
    /// `min.insync.replicas` and `unclean.leader.election.enable` of topics that do not say.
    pub defaults: &'a TopicDefaults,
    /// For the tests of the tests; [`Planted::default`] everywhere else.
    pub planted: Planted,
}

/// How a broker is to be seen before the records that say so are replayed.
#[derive(Debug, Clone, Copy)]
struct Seen {
    broker: BrokerId,
    is_active: bool,
}

impl ClusterView<'_> {
    /// Runs the rules of a partition of `topic`; `seen` is ahead of the image.
    fn rules<R>(
        &self,
        topic: &TopicImage,
        seen: Option<Seen>,
        run: impl FnOnce(&PartitionRules<'_>, ReplicationConfig) -> R,
    ) -> R {
        let config = replication_config(&topic.configs, self.defaults);
        let is_active = |id| match seen {
            Some(seen) if seen.broker == id => seen.is_active,
            _ => self.image.is_active(id),
        };
        let broker_epoch = |id| self.image.broker(id).map(|broker| broker.broker_epoch);
        let rules = PartitionRules {
            min_insync_replicas: config.min_insync_replicas,
            is_active: &is_active,
            broker_epoch: &broker_epoch,
            planted: self.planted,
        };
        run(&rules, config)
    }

    /// A record for each partition that `change` changes.
    fn changes(
        &self,
        seen: Option<Seen>,
        change: impl Fn(&PartitionImage, &PartitionRules<'_>, ReplicationConfig) -> Option<PartitionImage>,
    ) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        for topic in self.image.topics() {
            self.rules(topic, seen, |rules, config| {
                for (partition, state) in topic.indexed_partitions() {
                    if let Some(state) = change(state, rules, config) {
                        records.push(MetadataRecord::PartitionChange {
                            topic_id: topic.id,
                            partition,
                            state,
                        });
                    }
                }
            });
        }
        records
    }

    fn partition(&self, id: TopicIdPartition) -> Result<(&TopicImage, &PartitionImage), CoordError> {
        let topic = self.image.topic_by_id(id.topic_id).ok_or(CoordError::UnknownTopicId)?;
        let state = topic.partition(id.partition).ok_or(CoordError::UnknownTopicOrPartition)?;
        Ok((topic, state))
    }
}

/// Registers a broker of a cluster: fenced until it has caught up with the metadata, and in sync nowhere until it has caught up with its leaders. `is_intact` says
/// that its disks have everything that it acknowledged before; otherwise nobody counts on it as an eligible leader either.
pub fn register_replica_broker(
    view: ClusterView<'_>,
    command: RegisterBroker,
    is_intact: bool,
    takes_over: bool,
) -> Result<Decision<i64>, CoordError> {
    let broker = command.id;
    let mut decision = register_broker(view.image, RegisterBroker { fenced: true, ..command }, takes_over)?;
    if decision.records.is_empty() {
        return Ok(decision);
    }
    let seen = Seen { broker, is_active: false };
    decision.records.extend(view.changes(Some(seen), |state, rules, _| match is_intact {
        true => state.without(broker, rules),
        false => state.without_data_of(broker, rules),
    }));
    Ok(decision)
}

/// What a broker says at regular intervals (BrokerHeartbeat).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerHeartbeat {
    /// Which broker.
    pub broker: BrokerId,
    /// Its registration.
    pub broker_epoch: i64,
    /// The metadata offset of the last record that it has replayed.
    pub metadata_offset: i64,
    /// It wants to be fenced, or to stay so.
    pub wants_fence: bool,
    /// It wants to stop: its leaders shall move first.
    pub wants_shutdown: bool,
}

/// What a broker is told (BrokerHeartbeat).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerHeartbeatReply {
    /// Whether it has replayed its own registration.
    pub is_caught_up: bool,
    /// Whether it is fenced now.
    pub is_fenced: bool,
    /// Whether nothing keeps it from stopping.
    pub may_stop: bool,
}

/// Carries out what a heartbeat asks for: a broker that has caught up takes part, one that wants to stop is relieved of everything that others can lead.
pub fn broker_heartbeat(
    view: ClusterView<'_>,
    heartbeat: &BrokerHeartbeat,
) -> Result<Decision<BrokerHeartbeatReply>, CoordError> {
    let BrokerHeartbeat { broker, broker_epoch, .. } = *heartbeat;
    let registration = view.image.broker(broker).ok_or(CoordError::BrokerIdNotRegistered(broker.0))?;
    let is_caught_up = heartbeat.metadata_offset >= registration.broker_epoch;
    let is_fenced = heartbeat.wants_fence || heartbeat.wants_shutdown || registration.fenced && !is_caught_up;
    let records = match is_fenced {
        true => fence_broker(view, broker, broker_epoch)?.records,
        false => unfence_broker(view, broker, broker_epoch)?.records,
    };
    let reply = BrokerHeartbeatReply { is_caught_up, is_fenced, may_stop: heartbeat.wants_shutdown };
    Ok(Decision { records, reply })
}

/// Takes a broker out of everything, because it is silent or about to stop.
pub fn fence_broker(
    view: ClusterView<'_>,
    broker: BrokerId,
    broker_epoch: i64,
) -> Result<Decision<()>, CoordError> {
    let mut decision = set_fencing(view.image, broker, broker_epoch, true)?;
    if !decision.records.is_empty() {
        let seen = Seen { broker, is_active: false };
        decision.records.extend(view.changes(Some(seen), |state, rules, _| state.without(broker, rules)));
    }
    Ok(decision)
}

/// Lets a broker take part, and lead what has no leader.
pub fn unfence_broker(
    view: ClusterView<'_>,
    broker: BrokerId,
    broker_epoch: i64,
) -> Result<Decision<()>, CoordError> {
    let mut decision = set_fencing(view.image, broker, broker_epoch, false)?;
    if !decision.records.is_empty() {
        let seen = Seen { broker, is_active: true };
        decision.records.extend(view.changes(Some(seen), |state, rules, config| {
            state
                .replicas
                .contains(&broker)
                .then(|| state.elected(rules, config.allows_unclean_election))
                .flatten()
        }));
    }
    Ok(decision)
}

/// Elects leaders by the topics' configs for all partitions that have none: once after each change of controller, and when a topic comes to allow unclean elections.
pub fn elect_missing_leaders(view: ClusterView<'_>) -> Decision<()> {
    let records =
        view.changes(None, |state, rules, config| state.elected(rules, config.allows_unclean_election));
    Decision { records, reply: () }
}

/// What the leaders on a broker propose (AlterPartition); an outcome for each partition, in their order.
pub fn alter_partitions(
    view: ClusterView<'_>,
    broker_epoch: i64,
    proposals: &[(TopicIdPartition, InSyncProposal<'_>)],
) -> Result<Decision<Vec<Result<PartitionImage, CoordError>>>, CoordError> {
    let mut records = Vec::new();
    let mut reply = Vec::with_capacity(proposals.len());
    // What this request has changed already: a partition that is named twice meets its new epoch.
    let mut changed: BTreeMap<TopicIdPartition, PartitionImage> = BTreeMap::new();
    for (id, proposal) in proposals {
        check_broker_epoch(view.image, proposal.sender, broker_epoch)?;
        let outcome = view.partition(*id).and_then(|(topic, state)| {
            let state = changed.get(id).unwrap_or(state);
            view.rules(topic, None, |rules, _| state.with_in_sync_replicas(proposal, rules))
        });
        if let Ok(state) = &outcome {
            changed.insert(*id, state.clone());
            records.push(MetadataRecord::PartitionChange {
                topic_id: id.topic_id,
                partition: id.partition,
                state: state.clone(),
            });
        }
        reply.push(outcome);
    }
    Ok(Decision { records, reply })
}

fn check_broker_epoch(image: &MetadataImage, broker: BrokerId, got: i64) -> Result<(), CoordError> {
    let registration = image.broker(broker).ok_or(CoordError::BrokerIdNotRegistered(broker.0))?;
    let expected = registration.broker_epoch;
    if expected == got { Ok(()) } else { Err(CoordError::StaleBrokerEpoch { expected, got }) }
}

/// Elects a leader because an administrator asks for it (ElectLeaders, KIP-460).
pub fn elect_replica_leader(
    view: ClusterView<'_>,
    id: TopicIdPartition,
    election: ElectionType,
) -> Result<Decision<()>, CoordError> {
    let (topic, state) = view.partition(id)?;
    let next = view.rules(topic, None, |rules, _| match election {
        ElectionType::Preferred if state.replicas.first() == Some(&state.leader) => {
            Err(CoordError::ElectionNotNeeded)
        }
        ElectionType::Preferred => {
            state.with_preferred_leader(rules).ok_or(CoordError::PreferredLeaderNotAvailable)
        }
        ElectionType::Unclean if state.leader.is_some() => Err(CoordError::ElectionNotNeeded),
        ElectionType::Unclean => state.elected(rules, true).ok_or(CoordError::EligibleLeadersNotAvailable),
    })?;
    Ok(one_change(id, next))
}

/// Brokers whose disks are full lead nothing any more that others can lead without loss; the rest stays with them, so that it can be read at least. Answers how many partitions
/// have another leader.
pub fn relieve_full_brokers(view: ClusterView<'_>, full: &BTreeSet<BrokerId>) -> Decision<usize> {
    let records = view.changes(None, |state, rules, _| state.led_by_none_of(full, rules));
    Decision { reply: records.len(), records }
}

/// Gives leadership back to preferred leaders that can lead again and whose disks are not `full`, at most `limit` at once (`auto.leader.rebalance.enable`). Answers how many.
pub fn balance_leaders(view: ClusterView<'_>, full: &BTreeSet<BrokerId>, limit: usize) -> Decision<usize> {
    let mut records = view.changes(None, |state, rules, _| {
        state.with_preferred_leader(rules).filter(|next| !full.contains(&next.leader))
    });
    records.truncate(limit);
    Decision { reply: records.len(), records }
}

/// Changes configs as [`alter_configs`] does. Where that changes how many in-sync replicas a partition needs, its state changes with it: leaders hear of the new
/// number in the partition epoch in which it holds (KAFKA-16540), and eligible leader replicas go before a leader may commit without them.
pub fn alter_replica_configs(
    view: ClusterView<'_>,
    resources: &[AlterConfigs],
    rules: &ConfigRules,
    validate_only: bool,
) -> Decision<Vec<Result<(), CoordError>>> {
    let mut decision = alter_configs(view.image, resources, rules, validate_only);
    let mut changes = Vec::new();
    for record in &decision.records {
        let MetadataRecord::TopicConfig { topic_id, config, value } = record else { continue };
        let Some(topic) = view.image.topic_by_id(*topic_id) else { continue };
        if config != "min.insync.replicas" {
            continue;
        }
        let mut changed = TopicImage::clone(topic);
        match value {
            Some(value) => changed.configs.insert(config.clone(), value.clone()),
            None => changed.configs.remove(config),
        };
        let needed = |topic: &TopicImage, replicas| {
            view.rules(topic, None, |rules, _| rules.effective_min_insync_replicas(replicas))
        };
        view.rules(&changed, None, |rules, _| {
            for (partition, state) in topic.indexed_partitions() {
                let replicas = state.replicas.len();
                if needed(topic, replicas) != needed(&changed, replicas) {
                    let state = state.under_other_rules(rules);
                    changes.push(MetadataRecord::PartitionChange { topic_id: *topic_id, partition, state });
                }
            }
        });
    }
    decision.records.extend(changes);
    decision
}

/// Starts, changes or calls off the reassignment of a partition (AlterPartitionReassignments, KIP-455).
pub fn reassign_partition(
    view: ClusterView<'_>,
    id: TopicIdPartition,
    reassignment: &Reassignment,
    allow_replication_factor_change: bool,
) -> Result<Decision<()>, CoordError> {
    let (topic, state) = view.partition(id)?;
    let next = view.rules(topic, None, |rules, _| match reassignment {
        Reassignment::Cancel if !state.is_reassigning() => Err(CoordError::NoReassignmentInProgress),
        Reassignment::Cancel => match state.reassignment_cancelled(rules) {
            Some(next) => Ok(Some(next)),
            None => Err(CoordError::InvalidReplicaAssignment(
                "None of the replicas from before the reassignment is in sync.".to_owned(),
            )),
        },
        Reassignment::To(target) => {
            check_manual_assignment(view.image, target, None)?;
            let factor = state.replicas.len() - state.adding_replicas.len();
            if !allow_replication_factor_change && target.len() != factor {
                return Err(CoordError::InvalidReplicationFactor(format!(
                    "The replication factor is changed from {factor} to {}",
                    target.len()
                )));
            }
            if state.reassignment_loses_all(target) {
                return Err(CoordError::InvalidReplicaAssignment(
                    "The only replicas that have everything would be dropped.".to_owned(),
                ));
            }
            Ok(state.reassigned(target, rules))
        }
    })?;
    Ok(next.map_or_else(|| Decision::unchanged(()), |next| one_change(id, next)))
}

fn one_change(id: TopicIdPartition, state: PartitionImage) -> Decision<()> {
    let TopicIdPartition { topic_id, partition } = id;
    let records = vec![MetadataRecord::PartitionChange { topic_id, partition, state }];
    Decision { records, reply: () }
}

/// The partitions whose reassignment is under way (ListPartitionReassignments).
pub fn reassignments(
    image: &MetadataImage,
) -> impl Iterator<Item = (&TopicImage, PartitionId, &PartitionImage)> {
    image.topics().flat_map(|topic| {
        let under_way = topic.indexed_partitions().filter(|(_, state)| state.is_reassigning());
        under_way.map(move |(partition, state)| (&**topic, partition, state))
    })
}

#[cfg(test)]
mod tests;
