//! The replication of one partition: what a leader sends and when it commits, what a follower stores and acknowledges.
//!
//! | module | owns |
//! |---|---|
//! | [`partition`] | [`Replica`]: one replica of one partition; takes every input and is follower, leader, or neither |
//! | [`leading`], [`leader`] | what a leader does; what it knows of its followers |
//! | [`in_sync`] | who is in sync: proposals to the controller, and who counts until they are answered |
//! | [`following`], [`follower`] | what a follower does; does a batch continue the log, what must go |
//! | [`positions`] | the log as replication sees it: epochs, ends, what is durable |
//! | [`state`] | what the controller says about the partition |
//! | [`selector`] | which replica a consumer had better read from |
//! | [`message`] | what leader and follower say to each other |
//!
//! Nothing here touches records. The shell around a [`Replica`] owns the log and the connections: it feeds in what has happened (a message came, a
//! batch was appended, a sync returned, the controller's state changed, time has passed) and carries out the [`Effect`]s; it reads batches
//! from the log when [`Replica::next_append`] says from where. Leaders push: whatever is appended goes to the followers at once, without waiting
//! for answers, while the leader's own sync is still under way.
//!
//! # Why nothing is lost
//! A record is committed when every member of the *maximal* in-sync replicas (those that the controller has committed and those that the
//! leader has proposed to add) has it on disk and has said so in the leader's current epoch. The controller changes in-sync replicas by compare and
//! set, so the ones that it has committed are among the maximal ones whatever became of a proposal. Hence each of them has every committed record,
//! and so has every leader that is elected among them. Leaving hurts nobody; who joins must have reached the high watermark and the end of the
//! log at which the leader began, below which lies all that earlier leaders committed. A follower takes batches of the newest leader that it knows only, so
//! an old leader, which cannot do without the new one, commits nothing any more.

mod follower;
mod following;
mod in_sync;
mod leader;
mod leading;
pub mod message;
#[cfg(test)]
mod model;
mod partition;
mod positions;
mod selector;
pub mod state;
#[cfg(test)]
mod testing;

pub use follower::{AppendOutcome, LeaderPositions};
pub use in_sync::{AlterPartition, AlterRefusal};
pub use leader::ReplicaStatus;
pub use leading::NextMessage;
pub use message::{Append, BatchSpan, Reply, ReplyBody};
pub use partition::{AppendRefusal, Effect, Replica, ReplicaConfig, Role};
pub use positions::{LogGeneration, LogPositions};
pub use state::{PartitionState, ReplicaBroker};
