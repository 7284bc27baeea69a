//! Server-side assignors: who is to have which partitions (KIP-848).
//!
//! | module | owns |
//! |---|---|
//! | [`uniform`] | `uniform` for groups whose members have all subscribed to the same topics |
//! | [`heterogeneous`] | `uniform` for all other groups |
//! | [`range`] | `range` |
//!
//! An assignor is a function of the group's members, their subscriptions and their former targets. Its result depends on nothing else,
//! not even on the order of a hash map, so a coordinator that recovers computes the same again. Each takes time in the order of
//! (members + partitions) × log(members), plus the size of the subscriptions when these differ.

mod heterogeneous;
mod range;
mod uniform;

use storage::types::{PartitionId, TopicIdPartition};
use uuid::Uuid;

use super::partitions::Partitions;

/// The assignors that this broker has, under the names in `group.consumer.assignors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Assignor {
    /// `uniform`: numbers of partitions that differ by one at most where subscriptions allow it, and as few moves as that permits.
    Uniform,
    /// `range`: consecutive partitions of each topic, the same ones in all topics of the same size when subscriptions are equal.
    Range,
}

impl Assignor {
    /// All of them, the default first.
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    /// The assignor of this name.
    pub fn by_name(name: &str) -> Option<Assignor> {
        Assignor::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// The assignor's name.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// The partitions that each member is to have, in the order of [`GroupSpec::members`]. Every partition of a topic with a subscriber
    /// is given to exactly one member.
    pub fn assign(self, group: &GroupSpec<'_>) -> Vec<Partitions> {
        if group.members.is_empty() {
            return Vec::new();
        }
        let owners = match (self, &group.subscriptions) {
            (Assignor::Uniform, Subscriptions::Same) => uniform::assign(group),
            (Assignor::Uniform, Subscriptions::Different(topics)) => heterogeneous::assign(group, topics),
            (Assignor::Range, _) => range::assign(group),
        };
        owners.into_partitions(group)
    }
}

/// A topic that somebody has subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssignableTopic {
    /// The topic's id.
    pub id: Uuid,
    /// The number of its partitions.
    pub partition_count: usize,
}

/// A member and what it was to have until now.
#[derive(Debug, Clone, Copy)]
pub struct AssignableMember<'a> {
    /// The member's id.
    pub member_id: &'a str,
    /// The id of static membership.
    pub instance_id: Option<&'a str>,
    /// The member's former target.
    pub target: &'a Partitions,
}

/// Which topics the members want.
#[derive(Debug, Clone)]
pub enum Subscriptions {
    /// All members want all topics.
    Same,
    /// For each member the ascending positions of its topics in [`GroupSpec::topics`].
    Different(Vec<Vec<usize>>),
}

/// What an assignor is told.
#[derive(Debug, Clone)]
pub struct GroupSpec<'a> {
    /// The existing topics that members have subscribed to, ascending by id.
    pub topics: Vec<AssignableTopic>,
    /// The members, ascending by member id.
    pub members: Vec<AssignableMember<'a>>,
    /// Who wants what.
    pub subscriptions: Subscriptions,
}

impl GroupSpec<'_> {
    /// The members that want each topic, ascending; `None` if all want all.
    fn subscribers(&self) -> Option<Vec<Vec<u32>>> {
        let Subscriptions::Different(topics_of_members) = &self.subscriptions else { return None };
        let mut subscribers = vec![Vec::new(); self.topics.len()];
        for (member, topics) in topics_of_members.iter().enumerate() {
            topics.iter().for_each(|topic| subscribers[*topic].push(member as u32));
        }
        Some(subscribers)
    }
}

/// Nobody owns the partition (yet).
const NOBODY: u32 = u32::MAX;

/// The owner of every partition, during an assignment: topics one after the other, members by their position.
struct Owners {
    /// Where each topic begins in `owners`, and at the end the number of all partitions.
    starts: Vec<usize>,
    owners: Vec<u32>,
}

impl Owners {
    fn nobody(topics: &[AssignableTopic]) -> Self {
        let mut starts = Vec::with_capacity(topics.len() + 1);
        let mut total = 0;
        for topic in topics {
            starts.push(total);
            total += topic.partition_count;
        }
        starts.push(total);
        Owners { starts, owners: vec![NOBODY; total] }
    }

    /// The number of all partitions.
    fn len(&self) -> usize {
        self.owners.len()
    }

    /// Where the partition stands and at which position its topic is, if the topic and the partition exist.
    fn position(&self, topics: &[AssignableTopic], partition: TopicIdPartition) -> Option<(usize, usize)> {
        let topic = topics.binary_search_by_key(&partition.topic_id, |topic| topic.id).ok()?;
        let index = usize::try_from(partition.partition.0).ok()?;
        (index < topics[topic].partition_count).then(|| (self.starts[topic] + index, topic))
    }

    /// The owners of one topic's partitions.
    fn of_topic(&self, topic: usize) -> &[u32] {
        &self.owners[self.starts[topic]..self.starts[topic + 1]]
    }

    fn into_partitions(self, group: &GroupSpec<'_>) -> Vec<Partitions> {
        let mut assigned = vec![Vec::new(); group.members.len()];
        for (topic, AssignableTopic { id, .. }) in group.topics.iter().enumerate() {
            for (partition, owner) in self.of_topic(topic).iter().enumerate() {
                if *owner != NOBODY {
                    assigned[*owner as usize].push(TopicIdPartition::new(*id, PartitionId(partition as i32)));
                }
            }
        }
        assigned.into_iter().map(Partitions::new).collect()
    }
}

#[cfg(test)]
mod tests;
