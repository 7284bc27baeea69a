//! The controller: the real rules for one partition, and everything that they have led to.

use std::collections::BTreeMap;

use super::super::{AlterPartition, PartitionState};
use crate::error::CoordError;
use crate::metadata::{InSyncProposal, PartitionImage, PartitionRules};
use crate::planted::{Planted, PlantedBug};
use crate::types::BrokerId;

#[derive(Debug, Clone, Copy)]
struct Broker {
    epoch: i64,
    is_active: bool,
}

#[derive(Debug)]
pub(super) struct Controller {
    pub(super) partition: PartitionImage,
    brokers: BTreeMap<BrokerId, Broker>,
    min_insync_replicas: usize,
    next_broker_epoch: i64,
    planted: Planted,
    /// What brokers hear, in this order.
    pub(super) history: Vec<PartitionState>,
}

impl Controller {
    pub(super) fn new(nodes: i32, min_insync_replicas: usize, planted: Planted) -> Self {
        let ids: Box<[BrokerId]> = (0..nodes).map(BrokerId).collect();
        let brokers =
            ids.iter().map(|id| (*id, Broker { epoch: i64::from(id.0), is_active: true })).collect();
        let mut controller = Controller {
            partition: PartitionImage::new(BrokerId(0), ids.clone(), ids),
            brokers,
            min_insync_replicas,
            next_broker_epoch: 100,
            planted,
            history: Vec::new(),
        };
        controller.publish();
        controller
    }

    pub(super) fn is_active(&self, id: BrokerId) -> bool {
        self.brokers[&id].is_active
    }

    fn publish(&mut self) {
        let brokers = &self.brokers;
        let state = PartitionState::new(&self.partition, self.min_insync_replicas, |id| {
            brokers.get(&id).map(|broker| (broker.epoch, broker.is_active))
        });
        self.history.push(state);
    }

    fn with_rules<R>(&self, decide: impl FnOnce(&PartitionImage, &PartitionRules<'_>) -> R) -> R {
        let rules = PartitionRules {
            min_insync_replicas: self.min_insync_replicas,
            is_active: &|id| self.brokers[&id].is_active,
            broker_epoch: &|id| self.brokers.get(&id).map(|broker| broker.epoch),
            planted: self.planted,
        };
        decide(&self.partition, &rules)
    }

    fn settle(&mut self, next: Option<PartitionImage>) {
        if let Some(next) = next {
            self.partition = next;
        }
        let unclean = self.planted.has(PlantedBug::UncleanElection);
        if let Some(next) = self.with_rules(|partition, rules| partition.elected(rules, unclean)) {
            self.partition = next;
        }
        self.publish();
    }

    /// A process has started: it gets an epoch and stays fenced until it has caught up with the metadata.
    pub(super) fn register(&mut self, id: BrokerId, is_intact: bool) -> i64 {
        let epoch = self.next_broker_epoch;
        self.next_broker_epoch += 1;
        self.brokers.insert(id, Broker { epoch, is_active: false });
        let next = self.with_rules(|partition, rules| match is_intact {
            true => partition.without(id, rules),
            false => partition.without_data_of(id, rules),
        });
        self.settle(next);
        epoch
    }

    pub(super) fn fence(&mut self, id: BrokerId) {
        self.brokers.get_mut(&id).expect("a node").is_active = false;
        let next = self.with_rules(|partition, rules| partition.without(id, rules));
        self.settle(next);
    }

    pub(super) fn unfence(&mut self, id: BrokerId) {
        self.brokers.get_mut(&id).expect("a node").is_active = true;
        self.settle(None);
    }

    pub(super) fn elect_preferred(&mut self) {
        if let Some(next) = self.with_rules(|partition, rules| partition.with_preferred_leader(rules)) {
            self.settle(Some(next));
        }
    }

    pub(super) fn alter(&mut self, sender: BrokerId, proposal: &AlterPartition) -> Result<(), CoordError> {
        let wanted = InSyncProposal {
            sender,
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch,
            in_sync_replicas: &proposal.in_sync_replicas,
        };
        let next = self.with_rules(|partition, rules| partition.with_in_sync_replicas(&wanted, rules))?;
        self.settle(Some(next));
        Ok(())
    }
}
