//! Identifiers: integers that must not be swapped have different types.

use std::fmt;

pub use storage::types::{LeaderEpoch, PartitionId, ProducerId};

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
