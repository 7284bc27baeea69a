//! What is checked where nodes have to be looked at: after every event, and at the end.

use coord::types::BrokerId;
use storage::{Offset, TopicIdPartition};

use super::world::World;

impl World {
    /// Whoever may be elected has every committed record on disk. Looks at what has changed.
    pub(super) fn check_candidates(&mut self) {
        if self.oracle.due.is_empty() {
            return;
        }
        self.note_registrations();
        for (id, from) in std::mem::take(&mut self.oracle.due) {
            if let Some((broker, text)) = self.incomplete_candidate(id, from) {
                self.oracle.fail(Some(id), format!("broker {broker} may be elected and lacks {text}"));
            }
        }
    }

    /// An empty disk counts as one once the controller knows of it.
    fn note_registrations(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.is_wiped) {
            let registered = self.oracle.truth.broker(node.id).map(|broker| broker.incarnation_id);
            if let Some(process) = &node.process
                && registered == Some(process.incarnation_id)
            {
                node.is_wiped = false;
            }
        }
    }

    fn incomplete_candidate(&self, id: TopicIdPartition, from: Offset) -> Option<(BrokerId, String)> {
        let history = self.oracle.history(id)?;
        let topic = self.oracle.truth.topic_by_id(id.topic_id)?;
        let partition = topic.partition(id.partition)?;
        let candidates = partition.in_sync_replicas.iter().chain(&partition.eligible_leader_replicas);
        for candidate in candidates {
            let node = &self.nodes[candidate.0 as usize];
            if node.is_wiped {
                continue;
            }
            let Some(durable) = node.store.durable(id) else {
                if history.end() > Offset::ZERO {
                    return Some((*candidate, "the whole log".to_owned()));
                }
                continue;
            };
            if let Some(lacking) = history.lacking(durable, from) {
                return Some((*candidate, format!("{:?}", lacking.span)));
            }
        }
        None
    }

    /// What is not yet as it must be once faults have ended: everybody in sync, everything committed, everybody's questions answered. `None` if all is well.
    pub(super) fn unsettled(&self) -> Option<(Option<TopicIdPartition>, String)> {
        let truth = &self.oracle.truth;
        if truth.topic_count() == 0 {
            return Some((None, "there are no topics".to_owned()));
        }
        for node in &self.nodes {
            let Some(process) = &node.process else {
                return Some((None, format!("broker {} is down", node.id)));
            };
            if process.applied_index() != self.oracle.truth_index() {
                return Some((None, format!("broker {} has not replayed all metadata", node.id)));
            }
            if !truth.is_active(node.id) {
                return Some((None, format!("broker {} is fenced", node.id)));
            }
        }
        for topic in truth.topics() {
            for (index, partition) in topic.indexed_partitions() {
                let id = TopicIdPartition::new(topic.id, index);
                if !partition.leader.is_some()
                    || partition.in_sync_replicas.len() != partition.replicas.len()
                    || partition.is_reassigning()
                {
                    return Some((Some(id), format!("not all are in sync: {partition:?}")));
                }
                let end = self.oracle.history(id).map_or(Offset::ZERO, |history| history.end());
                for broker in &partition.replicas {
                    let replica = self.nodes[broker.0 as usize].process.as_ref()?.replica(id);
                    // A follower may hold more, of an earlier epoch, until its leader has something to put in its place.
                    let has_all = replica.is_some_and(|replica| {
                        let durable_end = replica.log().durable_end();
                        let is_even = durable_end == end || *broker != partition.leader;
                        replica.high_watermark() == end && durable_end >= end && is_even
                    });
                    if !has_all {
                        let text = format!("broker {broker} does not have all up to {end}, or does not know");
                        return Some((Some(id), text));
                    }
                }
            }
        }
        self.clients.iter().find_map(|client| Some((None, client.unfinished(&self.oracle)?)))
    }
}
