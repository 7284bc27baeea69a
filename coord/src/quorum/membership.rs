//! Who belongs to the quorum.

use crate::types::BrokerId;

/// The members of a quorum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Vote, and count for a majority.
    pub voters: Vec<BrokerId>,
    /// Receive the log only.
    pub learners: Vec<BrokerId>,
}

/// One change; the next may follow when it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberChange {
    /// A new controller begins to receive the log.
    AddLearner(BrokerId),
    /// A learner that has caught up votes from now on.
    Promote(BrokerId),
    /// A voter votes no more, and goes on receiving the log. The leader does not demote itself: it hands over first.
    Demote(BrokerId),
    /// A controller leaves. The leader does not remove itself: it hands over first.
    Remove(BrokerId),
}

/// A member as the leader sees it (DescribeQuorum).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberStatus {
    /// Which controller.
    pub id: BrokerId,
    /// Whether it votes.
    pub is_voter: bool,
    /// The last entry that it is known to have on disk.
    pub matched: u64,
    /// Whether the leader has heard from it lately.
    pub is_active: bool,
}
