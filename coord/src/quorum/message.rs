//! What controllers say to each other, in an encoding of ours: every length is checked against the bytes that are left, and the protobuf of the crate never
//! sees a byte from the network.
//!
//! Primitive types are those of [`crate::metadata::codec`]; entries and snapshots are those of [`super::journal`].
//!
//! ```text
//! message := version u8 (= 1) | kind u8 | to i32 | from i32 | term i64 | log_term i64 | index i64 | commit i64 | commit_term i64
//!            | request_snapshot i64 | reject bool | reject_hint i64 | priority i64 | context bytes
//!            | entries list | snapshot bool, then the snapshot
//! ```

use raft::eraftpb::{Message, MessageType};
use thiserror::Error;

use super::journal::{
    decode_bytes, decode_entry, decode_id, decode_snapshot, encode_bytes, encode_entry, encode_snapshot,
    unsigned,
};
use super::log::{broker_id, from_raft_entry, from_raft_snapshot, raft_id, to_raft_entry, to_raft_snapshot};
use crate::metadata::RecordError;
use crate::metadata::codec::{Reader, Writer};
use crate::types::BrokerId;

const VERSION: u8 = 1;
/// A position, a kind and a length.
const MIN_ENTRY_BYTES: usize = 21;

/// The kinds that travel, at the index of their number. Proposals do not: commands go to the active controller before they are decided.
const KINDS: [MessageType; 10] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTimeoutNow,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MessageError {
    /// It cannot be read.
    #[error("message of the quorum cannot be read: {0}")]
    Malformed(#[from] RecordError),
    /// It is for another node.
    #[error("message of the quorum is for node {0}")]
    NotForMe(BrokerId),
    /// It does not come from where it says that it comes from.
    #[error("message of the quorum says that it is from node {0}")]
    NotFromThere(BrokerId),
    /// The leader relies on entries that this node has acknowledged and does not have: its journal is not the one that it had.
    #[error(
        "this node has acknowledged entries of the quorum up to {acknowledged}, but its journal ends at {last}: it has lost its disk"
    )]
    LostEntries {
        /// What the leader relies on.
        acknowledged: u64,
        /// What there is.
        last: u64,
    },
}

/// A message from one controller to another.
#[derive(Debug, Clone, PartialEq)]
pub struct QuorumMessage {
    pub(super) raft: Message,
}

impl Eq for QuorumMessage {}

impl QuorumMessage {
    /// The receiver.
    pub fn to(&self) -> BrokerId {
        broker_id(self.raft.to)
    }

    /// The sender.
    pub fn from(&self) -> BrokerId {
        broker_id(self.raft.from)
    }

    /// Whether it holds a whole image: tell the sender what became of it ([`QuorumNode::snapshot_sent`](super::QuorumNode::snapshot_sent)).
    pub fn is_snapshot(&self) -> bool {
        self.raft.get_msg_type() == MessageType::MsgSnapshot
    }

    /// Whether it gives a vote or acknowledges something: what a node that has lost its disk must not do.
    pub fn is_answer(&self) -> bool {
        matches!(
            self.raft.get_msg_type(),
            MessageType::MsgAppendResponse
                | MessageType::MsgRequestVoteResponse
                | MessageType::MsgHeartbeatResponse
                | MessageType::MsgRequestPreVoteResponse
        )
    }

    /// Whether the crate means it to leave the node.
    pub(super) fn travels(raft: &Message) -> bool {
        KINDS.contains(&raft.get_msg_type())
    }

    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let raft = &self.raft;
        let mut w = Writer::default();
        w.u8(VERSION);
        let kind = KINDS.iter().position(|kind| *kind == raft.get_msg_type());
        w.u8(kind.expect("only kinds that travel are made messages") as u8);
        w.i32(self.to().0);
        w.i32(self.from().0);
        for number in
            [raft.term, raft.log_term, raft.index, raft.commit, raft.commit_term, raft.request_snapshot]
        {
            w.i64(number as i64);
        }
        w.bool(raft.reject);
        w.i64(raft.reject_hint as i64);
        w.i64(raft.priority);
        encode_bytes(&mut w, &raft.context);
        w.len(raft.get_entries().len());
        raft.get_entries().iter().for_each(|entry| encode_entry(&mut w, &from_raft_entry(entry)));
        let has_snapshot = !raft.get_snapshot().is_empty();
        w.bool(has_snapshot);
        if has_snapshot {
            encode_snapshot(&mut w, &from_raft_snapshot(raft.get_snapshot()));
        }
        w.bytes
    }

    /// The message of these bytes.
    pub fn decode(bytes: &[u8]) -> Result<QuorumMessage, MessageError> {
        let mut r = Reader::new(bytes);
        match r.u8("message version")? {
            VERSION => {}
            other => return Err(RecordError::UnknownEntryVersion(other).into()),
        }
        let kind = r.u8("message kind")?;
        let known = KINDS.get(usize::from(kind));
        let mut raft = Message::default();
        raft.set_msg_type(*known.ok_or(RecordError::UnknownKind(kind))?);
        raft.to = raft_id(decode_id(&mut r)?);
        raft.from = raft_id(decode_id(&mut r)?);
        raft.term = unsigned(&mut r, "term")?;
        raft.log_term = unsigned(&mut r, "log term")?;
        raft.index = unsigned(&mut r, "index")?;
        raft.commit = unsigned(&mut r, "commit")?;
        raft.commit_term = unsigned(&mut r, "commit term")?;
        raft.request_snapshot = unsigned(&mut r, "requested snapshot")?;
        raft.reject = r.bool("reject")?;
        raft.reject_hint = unsigned(&mut r, "reject hint")?;
        raft.priority = r.i64("priority")?;
        raft.context = decode_bytes(&mut r)?;
        let count = r.len(MIN_ENTRY_BYTES, "entries")?;
        for _ in 0..count {
            raft.mut_entries().push(to_raft_entry(&decode_entry(&mut r)?));
        }
        if r.bool("snapshot")? {
            raft.set_snapshot(to_raft_snapshot(&decode_snapshot(&mut r)?));
        }
        match r.remaining() {
            0 => Ok(QuorumMessage { raft }),
            extra => Err(RecordError::TrailingBytes { what: "message of the quorum", extra }.into()),
        }
    }
}
