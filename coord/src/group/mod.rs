//! The group coordinator: consumer groups of both protocols and their committed offsets.
//!
//! | module | owns |
//! |---|---|
//! | [`api`] | what goes in and comes out of the coordinator: tokens, contexts, outputs, replies |
//! | [`config`] | Kafka's `group.*` and `offsets.*` configs |
//! | [`record`] | the records of `__consumer_offsets`, in Kafka's formats |
//! | [`coordinator`] | [`GroupCoordinator`]: one partition of `__consumer_offsets`; replay, timers, dispatch |
//! | [`either`] | [`Group`]: a name belongs to one group, classic or consumer |
//! | [`classic`] | the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup |
//! | [`consumer`] | the consumer protocol of KIP-848 |
//! | [`offsets`] | committed offsets: commit, fetch, delete, expiry |
//! | [`queries`] | ListGroups, DescribeGroups, DeleteGroups |
//! | [`timers`] | deadlines, ordered |
//!
//! One [`GroupCoordinator`] owns all groups of one partition of `__consumer_offsets`. It has two kinds of state. What must survive a
//! restart changes only in [`GroupCoordinator::replay`], live and at load alike. What need not (who waits for an answer, when a session
//! ends) changes at once. The shell around it appends the records of each [`Output`] as one batch, replays them, and sends answers only
//! when everything appended so far is durable; so a crash never takes back what somebody has been told.

pub mod api;
pub mod classic;
pub mod config;
pub mod consumer;
pub mod coordinator;
pub mod either;
#[cfg(test)]
mod harness;
mod ids;
pub mod offsets;
pub mod queries;
pub mod record;
pub mod timers;

pub use api::{GroupReply, Output, ReplyToken, RequestContext};
pub use config::{ConsumerGroupMigrationPolicy, GroupConfig};
pub use coordinator::GroupCoordinator;
pub use either::{Group, GroupType};
pub use record::{GroupRecord, GroupRecordError};
