//! The states of a classic group, and which may follow which.

/// Where a classic group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassicGroupState {
    /// No members; offsets may remain.
    Empty,
    /// Members are asked to rejoin.
    PreparingRebalance,
    /// The members of the next generation are known, their leader's assignment is not.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// Removed. Groups are never kept in this state; it is what DescribeGroups says of a group that does not exist.
    Dead,
}

impl ClassicGroupState {
    /// Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            ClassicGroupState::Empty => "Empty",
            ClassicGroupState::PreparingRebalance => "PreparingRebalance",
            ClassicGroupState::CompletingRebalance => "CompletingRebalance",
            ClassicGroupState::Stable => "Stable",
            ClassicGroupState::Dead => "Dead",
        }
    }

    /// Whether a group in this state may go over to `next`.
    pub fn may_become(self, next: ClassicGroupState) -> bool {
        use ClassicGroupState::{CompletingRebalance, Dead, Empty, PreparingRebalance, Stable};
        match next {
            Empty => self == PreparingRebalance,
            PreparingRebalance => matches!(self, Stable | CompletingRebalance | Empty),
            CompletingRebalance => self == PreparingRebalance,
            Stable => self == CompletingRebalance,
            Dead => true,
        }
    }
}
