//! Bugs for the tests of the tests: each takes one rule out of the replication protocol, and a simulation that does not notice is worth nothing.
//!
//! Only tests and the feature `planted-bugs` can switch one on; in everything else [`Planted`] is empty and every question to it is `false` at
//! compile time.

/// A rule of the replication protocol that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlantedBug {
    /// A follower acknowledges what it has not synced.
    AckBeforeSync,
    /// The high watermark is taken over the committed in-sync replicas, without those that are only proposed.
    CommitWithoutProposed,
    /// A new follower truncates to its high watermark (Kafka before KIP-101). For the shell around a replica to carry out: the core cannot.
    TruncateToHighWatermark,
    /// A follower takes batches of a leader that has been replaced.
    StaleLeaderAccepted,
    /// The controller takes in-sync replicas that were proposed for an earlier state.
    AlterWithoutCompareAndSet,
    /// A replica joins as soon as it has reached the high watermark, which a new leader does not know yet.
    JoinAtHighWatermark,
    /// Neither leader nor controller looks at a broker's epoch, so that a replica which has lost its disk counts as what it was (KIP-903).
    IncarnationNotChecked,
    /// The leader counts its own records before they are synced.
    LeaderCountsUnsynced,
    /// The controller makes any replica leader.
    UncleanElection,
    /// A follower acknowledges its synced end, proved equal to the leader's log or not.
    AckBeyondMatch,
    /// A sync of records that have been truncated since counts for those that took their place.
    SyncOfTruncatedCounts,
    /// A refused proposal is forgotten, though a copy of it may still be accepted.
    RefusedProposalForgotten,
    /// A replica that was restarted follows whomever old metadata names, though its log is of a later epoch.
    RestartForgetsEpoch,
}

impl PlantedBug {
    /// All of them.
    pub const ALL: [PlantedBug; 13] = [
        PlantedBug::AckBeforeSync,
        PlantedBug::CommitWithoutProposed,
        PlantedBug::TruncateToHighWatermark,
        PlantedBug::StaleLeaderAccepted,
        PlantedBug::AlterWithoutCompareAndSet,
        PlantedBug::JoinAtHighWatermark,
        PlantedBug::IncarnationNotChecked,
        PlantedBug::LeaderCountsUnsynced,
        PlantedBug::UncleanElection,
        PlantedBug::AckBeyondMatch,
        PlantedBug::SyncOfTruncatedCounts,
        PlantedBug::RefusedProposalForgotten,
        PlantedBug::RestartForgetsEpoch,
    ];
}

/// At most one planted bug; none in a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Planted {
    #[cfg(any(test, feature = "planted-bugs"))]
    bug: Option<PlantedBug>,
}

impl Planted {
    /// With this bug.
    #[cfg(any(test, feature = "planted-bugs"))]
    pub fn bug(bug: PlantedBug) -> Self {
        Planted { bug: Some(bug) }
    }

    #[cfg(any(test, feature = "planted-bugs"))]
    pub(crate) fn has(self, bug: PlantedBug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(any(test, feature = "planted-bugs")))]
    pub(crate) fn has(self, _: PlantedBug) -> bool {
        false
    }
}
