//! The classic protocol: members join, their leader assigns, all synchronize, heartbeats keep them in.
//!
//! | module | owns |
//! |---|---|
//! | [`state`] | the states and which may follow which |
//! | [`member`] | a member |
//! | [`members`] | [`ClassicGroup`]: members, votes for a protocol, leader |
//! | [`record`] | between a group and its record; what replaying one does |
//! | [`subscription`] | which topics the members of a consumer group have subscribed to |
//! | `operation` | rebalances: how they begin and end, whatever has set them off |
//! | `join`, `sync`, `heartbeat`, `leave` | the requests |
//! | `expiry` | what happens when time is up |
//!
//! What Kafka calls `ClassicGroup` and the classic half of `GroupMetadataManager`. One thing is simpler here: appending is synchronous, so
//! that no other request comes between a decision and its replay.

mod expiry;
mod heartbeat;
mod join;
mod leave;
pub mod member;
pub mod members;
mod operation;
pub mod record;
pub mod state;
pub mod subscription;
mod sync;
#[cfg(test)]
mod tests;

pub use member::{ClassicMember, ClassicProtocol};
pub use members::ClassicGroup;
pub use state::ClassicGroupState;

pub(super) use leave::for_version as leave_for_version;
pub(super) use operation::{ClassicOperation, join_error};
