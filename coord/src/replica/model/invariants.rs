//! What must hold after every step, whatever has happened.

use std::collections::BTreeMap;

use storage::Offset;

use super::controller::Controller;
use super::disk::{Batch, Content};
use super::world::Node;
use crate::types::{BrokerId, LeaderEpoch};

/// Everything that anybody has ever been shown as committed.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    committed: Vec<Batch>,
    leaders: BTreeMap<LeaderEpoch, (BrokerId, i64)>,
}

impl Oracle {
    pub(super) fn committed_end(&self) -> Offset {
        self.committed.last().map_or(Offset::ZERO, |batch| batch.span.end_offset)
    }

    pub(super) fn committed(&self) -> usize {
        self.committed.len()
    }

    /// A replica shows everything below `high_watermark`: the same as everybody before it (invariants 1 and 4 of the cluster).
    pub(super) fn shown(&mut self, content: &Content, high_watermark: Offset) -> Result<(), String> {
        if high_watermark > content.end() {
            return Err(format!("high watermark {high_watermark} is beyond the end {}", content.end()));
        }
        let shown = content.batches.iter().filter(|batch| batch.span.end_offset <= high_watermark);
        for batch in shown {
            if batch.span.base_offset >= self.committed_end() {
                self.committed.push(*batch);
                continue;
            }
            let known =
                self.committed.binary_search_by_key(&batch.span.base_offset, |known| known.span.base_offset);
            match known {
                Ok(at) if self.committed[at] == *batch => {}
                _ => return Err(format!("{batch:?} is shown where something else was committed")),
            }
        }
        Ok(())
    }

    /// One leader in an epoch, and one life of it (invariant 3).
    pub(super) fn leads(
        &mut self,
        epoch: LeaderEpoch,
        id: BrokerId,
        broker_epoch: i64,
    ) -> Result<(), String> {
        let leader = *self.leaders.entry(epoch).or_insert((id, broker_epoch));
        if leader == (id, broker_epoch) {
            Ok(())
        } else {
            Err(format!("epoch {epoch} has two leaders: {leader:?} and {id}"))
        }
    }

    /// Whoever may be elected has every committed record on disk (invariant 2).
    pub(super) fn check_candidates(&self, controller: &Controller, nodes: &[Node]) -> Result<(), String> {
        let partition = &controller.partition;
        for id in partition.in_sync_replicas.iter().chain(&partition.eligible_leader_replicas) {
            let node = &nodes[id.0 as usize];
            if node.is_wiped {
                // The controller has not heard of it yet.
                continue;
            }
            self.has_all(&node.disk.durable).map_err(|lacks| format!("candidate {id} lacks {lacks:?}"))?;
        }
        Ok(())
    }

    fn has_all(&self, content: &Content) -> Result<(), Batch> {
        let start = Offset(content.start);
        let from = self.committed.partition_point(|batch| batch.span.base_offset < start);
        let expected = &self.committed[from..];
        match expected.iter().enumerate().find(|(at, batch)| content.batches.get(*at) != Some(batch)) {
            Some((_, lacking)) => Err(*lacking),
            None => Ok(()),
        }
    }

    /// After all faults have ended: everybody has everything, and knows it.
    pub(super) fn check_settled(&self, controller: &Controller, nodes: &[Node]) -> Result<(), String> {
        if controller.partition.in_sync_replicas.len() != nodes.len() {
            return Err(format!("not all are in sync in the end: {:?}", controller.partition));
        }
        for node in nodes {
            let replica = node.replica.as_ref().ok_or("a node is down in the end")?;
            let ends = (replica.log().end(), replica.log().durable_end(), replica.high_watermark());
            let end = self.committed_end();
            if ends != (end, end, end) {
                return Err(format!("node {} ends at {ends:?}, committed is {end}", node.id));
            }
            self.has_all(&node.disk.durable).map_err(|lacks| format!("node {} lacks {lacks:?}", node.id))?;
        }
        Ok(())
    }
}
