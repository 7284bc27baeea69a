//! The metadata quorum: one Raft group of controllers that agrees on the log of metadata entries.
//!
//! | module | owns |
//! |---|---|
//! | [`node`] | [`QuorumNode`]: one controller's side of it; inputs in, [`Output`] out |
//! | [`output`] | what the shell has to make durable, send and replay |
//! | [`journal`] | the records that a controller keeps on disk, and recovery from them |
//! | [`log`] | entries and snapshot in memory, as Raft reads them |
//! | [`message`] | what controllers say to each other, in an encoding with limits |
//! | [`membership`] | adding and removing controllers |
//!
//! The algorithm is the crate `raft`'s, and nothing outside this module knows of it. It runs with pre-vote (a controller that was cut off does not
//! disturb the others when it comes back) and check-quorum (a leader that does not hear from a majority steps down). Time is ticks that the shell counts. A
//! controller without any configuration is a quorum of one: it elects itself at its first chance, and an entry is committed when it is on its own disk.
//!
//! Entries are sent while they are being written: the shell makes [`Persist`] durable and says so with [`QuorumNode::persisted`], in order; until then nothing
//! leaves that would promise them. The crate draws election time-outs from a generator of the thread; they are replaced after every input by a function of
//! (seed, node, term, role), so that a simulation replays.

pub mod journal;
mod log;
pub mod membership;
pub mod message;
pub mod node;
pub mod output;
#[cfg(test)]
mod tests;

pub use journal::{JournalRecord, Recovered, bootstrap, recover};
pub use membership::{MemberChange, MemberStatus, Members};
pub use message::{MessageError, QuorumMessage};
pub use node::{QuorumConfig, QuorumError, QuorumNode};
pub use output::{CommittedEntry, LeaderChange, LogPosition, Output, Persist, QuorumSnapshot};
