//! What leader and follower say to each other about one partition. Which partition, which cluster and between which processes is said by the channel.

use crate::types::{BrokerId, LeaderEpoch};
use storage::Offset;

/// Where one stored batch lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSpan {
    /// The epoch of the leader that appended it.
    pub leader_epoch: LeaderEpoch,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset after its last record.
    pub end_offset: Offset,
}

/// Leader to follower: "after `previous_end` come these batches", without waiting for answers to earlier ones. Without batches it asks whether the logs agree
/// up to there, or brings a new high watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Append {
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// Counts the leader's fresh starts with this follower; comes back in the answer.
    pub round: u32,
    /// Where the batches continue the log.
    pub previous_end: Offset,
    /// The epoch of the record before that; [`LeaderEpoch::UNKNOWN`] where the leader's log begins.
    pub previous_epoch: LeaderEpoch,
    /// Below it everything is committed.
    pub high_watermark: Offset,
    /// Where the leader's log begins.
    pub log_start_offset: Offset,
    /// Where it ends.
    pub log_end_offset: Offset,
}

/// Follower to leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The registration of the process that answers: an answer of an earlier one says nothing about this disk (KIP-903).
    pub broker_epoch: i64,
    /// The newest leader epoch that the follower knows; if it is beyond the leader's, that one is deposed.
    pub leader_epoch: LeaderEpoch,
    /// What it says.
    pub body: ReplyBody,
}

/// What a follower says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyBody {
    /// "Below this offset my log is yours, and on disk."
    Durable {
        /// The offset.
        end: Offset,
    },
    /// "My log has no record under a later epoch than this one (or than the one that you asked for), and this epoch ends here." The leader looks for the
    /// last point at which both logs agree (KIP-101, KIP-279).
    Position {
        /// The round of the [`Append`] that did not fit; `None` when the follower introduces itself.
        round: Option<u32>,
        /// The epoch; [`LeaderEpoch::UNKNOWN`] if there is none.
        epoch: LeaderEpoch,
        /// Where it ends.
        end: Offset,
    },
    /// "You have been replaced."
    StaleLeader,
}

/// A reply with its way: effects carry it to the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addressed {
    /// The leader.
    pub to: BrokerId,
    /// What it is told.
    pub reply: Reply,
}
