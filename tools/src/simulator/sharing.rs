//! What is known of a group whose members share the data partitions: who owns what, and what owners have committed.

use std::collections::{BTreeMap, BTreeSet};

use storage::TopicIdPartition;

/// The offset of one partition that the members of a group commit, each as its owner.
#[derive(Debug, Default)]
struct Committed {
    /// The last number that somebody took to commit it.
    last: i64,
    /// The last one whose commit was acknowledged.
    acknowledged: Option<i64>,
    /// Those of whose commit nobody knows what became of it.
    unknown: BTreeSet<i64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Sharing {
    owners: BTreeMap<TopicIdPartition, usize>,
    offsets: BTreeMap<TopicIdPartition, Committed>,
}

impl Sharing {
    /// A member owns these from now on, and nothing else; an error if somebody else owns one of them.
    pub fn owns(
        &mut self,
        member: usize,
        partitions: &BTreeSet<TopicIdPartition>,
    ) -> Result<(), (TopicIdPartition, String)> {
        self.owners.retain(|_, owner| *owner != member);
        let mut result = Ok(());
        for id in partitions {
            if let Some(other) = self.owners.insert(*id, member) {
                result = Err((*id, format!("members {other} and {member} own it at the same time")));
            }
        }
        result
    }

    /// How many partitions have an owner.
    pub fn owned_partitions(&self) -> usize {
        self.owners.len()
    }

    /// A number that the owner of a partition commits.
    pub fn offset_to_commit(&mut self, id: TopicIdPartition) -> i64 {
        let committed = self.offsets.entry(id).or_default();
        committed.last += 1;
        committed.unknown.insert(committed.last);
        committed.last
    }

    /// The owner has heard that it is committed.
    pub fn offset_committed(&mut self, id: TopicIdPartition, offset: i64) {
        let committed = self.offsets.entry(id).or_default();
        committed.unknown.remove(&offset);
        committed.acknowledged = Some(offset);
    }

    /// The owner has looked for what is committed; an error if that cannot be.
    pub fn offset_found(&mut self, id: TopicIdPartition, found: i64) -> Result<(), String> {
        let committed = self.offsets.entry(id).or_default();
        if found == committed.acknowledged.unwrap_or(-1) || committed.unknown.contains(&found) {
            return Ok(());
        }
        Err(format!("its owner finds the committed offset {found}, and knows {committed:?}"))
    }
}
