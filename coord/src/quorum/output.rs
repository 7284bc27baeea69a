//! What a controller's shell has to do.

use bytes::Bytes;

use super::journal::JournalRecord;
use super::message::QuorumMessage;
use crate::types::BrokerId;

/// The place of an entry in the quorum's log. If another term's entry is committed at the index, the one that was proposed there is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// The term of the leader that proposed it.
    pub term: u64,
    /// Counts entries from 1.
    pub index: u64,
}

/// An entry that a majority has on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedEntry {
    /// Where it is.
    pub position: LogPosition,
    /// What was proposed; empty for the quorum's own entries (the first of a term, changes of membership).
    pub data: Bytes,
}

/// The state after all entries up to a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumSnapshot {
    /// The last entry that it holds.
    pub position: LogPosition,
    /// The image, as the shell encoded it.
    pub data: Bytes,
}

/// Records for the controller's journal, to be appended and synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persist {
    /// Grows by one; for [`QuorumNode::persisted`](super::QuorumNode::persisted).
    pub number: u64,
    /// Whether these take the place of everything in the journal, at once.
    pub rewrites: bool,
    /// In this order.
    pub records: Vec<JournalRecord>,
}

/// What to do, all of it, before the next output is asked for: snapshot first, then entries; the rest in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// To make durable, one after the other.
    pub persist: Vec<Persist>,
    /// To send, now.
    pub messages: Vec<QuorumMessage>,
    /// Replaces the image: this node had fallen behind what the others' logs reach back to.
    pub snapshot: Option<QuorumSnapshot>,
    /// To replay, in this order.
    pub committed: Vec<CommittedEntry>,
    /// Somebody joins who needs a newer snapshot than there is: call [`QuorumNode::snapshot_taken`](super::QuorumNode::snapshot_taken) soon.
    pub wants_snapshot: bool,
    /// A new leader, or none, of a new term.
    pub leader: Option<LeaderChange>,
}

impl Output {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Output::default()
    }
}

/// Who leads the quorum: the active controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderChange {
    /// The leader, or [`BrokerId::NONE`].
    pub leader: BrokerId,
    /// Its term.
    pub term: u64,
}

impl Default for LeaderChange {
    fn default() -> Self {
        LeaderChange { leader: BrokerId::NONE, term: 0 }
    }
}
