//! The consumer protocol of KIP-848: the broker assigns, one request does everything.
//!
//! | module | owns |
//! |---|---|
//! | [`partitions`] | a set of partitions |
//! | [`assignor`] | server-side assignors: `uniform` and `range` |
//! | [`topics`] | what coordinators know of topics, and the hash by which a group notices that they have changed |
//! | `pattern` | regular expressions of topic names |
//! | [`member`] | a member: what it has told about itself, what it owns |
//! | [`group`] | [`ConsumerGroup`]: what a group's records say |
//! | `records` | the records |
//! | `reconcile` | a member's next step towards its target |
//! | `draft` | a group while a decision is made: epochs, targets, regular expressions |
//! | `heartbeat` | ConsumerGroupHeartbeat |
//! | `describe` | ConsumerGroupDescribe |
//! | `offsets` | who may commit and fetch offsets |
//! | `classic_member` | members that use the classic protocol in a consumer group |
//! | `consumer_protocol` | what such members send as metadata and get as assignments |
//! | `migration` | a classic group becomes a consumer group, and back |
//! | [`settings`] | configs of single groups |
//! | `service`, `classic_service` | where the coordinator hands over to this protocol |
//! | [`refusal`] | why a request was refused |
//!
//! A group has three kinds of epochs. The *group epoch* grows when members, subscriptions or topics change. The *assignment epoch* says
//! for which group epoch the targets were computed. A member's epoch says how far it has come; it moves to the assignment epoch when it
//! has given up everything that it is not to have any more.

pub mod assignor;
mod classic_member;
mod classic_service;
mod consumer_protocol;
mod describe;
mod draft;
pub mod group;
mod heartbeat;
pub mod member;
mod migration;
mod offsets;
pub mod partitions;
mod pattern;
mod reconcile;
mod records;
pub mod refusal;
mod service;
pub mod settings;
pub mod topics;

pub use group::{ConsumerGroup, ConsumerGroupState};
pub use settings::GroupOverrides;
pub use topics::{TopicView, TopicsView};

pub(super) use service::ConsumerContext;

#[cfg(test)]
mod tests;
