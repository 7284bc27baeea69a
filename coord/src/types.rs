//! Identifiers: integers that must not be swapped have different types.

use std::fmt;

/// The id of a broker node (`node.id`), never negative except for [`BrokerId::NONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BrokerId(pub i32);

impl BrokerId {
    /// No broker: the leader of a partition that has none.
    pub const NONE: BrokerId = BrokerId(-1);

    /// Whether this is a broker at all.
    pub fn is_some(self) -> bool {
        self.0 >= 0
    }
}

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The index of a partition within its topic, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PartitionId(pub i32);

/// The term of a partition's leader: grows by one with each new leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeaderEpoch(pub i32);

/// The id of an idempotent or transactional producer, unique in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ProducerId(pub i64);
