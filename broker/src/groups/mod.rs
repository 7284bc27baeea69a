//! The group coordinators of this broker: the shell around [`coord::group`].
//!
//! - [`routing`]: which partition of `__consumer_offsets` coordinates a group, and which shard has it; creating that topic;
//! - [`requests`]: a request's way from its handler to the coordinator and back;
//! - [`coordinators`]: the coordinators of one shard, and what an output asks for: append, replay, answer;
//! - [`waiting`]: requests whose answer comes with a later output (JoinGroup, SyncGroup);
//! - [`append`]: records of an output as one batch of the partition;
//! - [`kept`]: when what was appended cannot be lost any more;
//! - [`load`]: reading a partition at the start, or when this broker has come to lead it;
//! - [`timers`]: sessions, rebalances, expiry: one task for each shard;
//! - [`overrides`]: the configs of single groups;
//! - [`follow`]: what the coordinators hear of changes of the metadata;
//! - [`config`]: Kafka's `group.*` and `offsets.*` configs out of the broker's settings;
//! - [`metrics`]: what is counted.
//!
//! A coordinator lives on the shard that has its partition's log, so nothing is awaited between a decision, the append of its records
//! and their replay. Every answer, also of a request that only reads, leaves when everything that the coordinator has appended so far is
//! durable: a crash never takes back what somebody has been told.

pub mod append;
pub mod config;
pub mod coordinators;
pub mod follow;
pub mod kept;
pub mod load;
pub mod metrics;
pub mod overrides;
pub mod requests;
pub mod routing;
pub mod timers;
pub mod waiting;

pub use coordinators::Groups;
pub use requests::{GroupRequest, Patience, read_everywhere, read_groups, submit};
pub use routing::{GroupHome, home_of};
