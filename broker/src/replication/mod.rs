//! Replication: the shell around [`coord::replica`]. It owns what a [`coord::replica::Replica`] only decides about: logs, links, waiting producers.
//!
//! - [`host`]: what a shard is to its replicas, so that they also run in a test without sockets;
//! - [`replicas`]: the replicas of a shard: inputs in, effects carried out;
//! - [`hosted`]: one of them, with its log and whoever waits for it;
//! - [`outbox`]: what is to be said to one follower, and the next frame for it;
//! - [`vain`]: leaders that nobody follows any more, and do not know it;
//! - [`storing`]: a follower's side: what a leader's message does to the log;
//! - [`message`]: the frames, byte by byte;
//! - [`shard_host`], [`links`], [`follow`]: a shard of the broker as the host; both ends of the links; what replicas hear of the metadata;
//! - [`pace`]: how fast followers that are behind are served from segments, and throttled ones at all; [`throttle`]: the rates for these;
//! - [`metrics`]: what operators watch.
//!
//! A leader's shard dials one link to each node that follows it in anything, and all its partitions with that node share it: a frame carries whatever
//! is ready, as slices of the cache. Costs follow the bytes; a partition without news costs nothing and has no timer. The follower's node hands each
//! partition of a frame to the shard that owns it. That one appends to its journal and says what is durable once for each of its commits. How many bytes may be
//! under way to a follower is bounded; it gives them back when it has taken them.
//!
//! A message that cannot be stored at present (no space, say) ends the link instead: with the next one everything that was under way is said again.

pub mod follow;
pub mod host;
pub mod hosted;
pub mod links;
pub mod message;
pub mod metrics;
pub mod outbox;
pub mod pace;
pub mod replicas;
pub mod shard_host;
pub mod storing;
#[cfg(test)]
mod tests;
pub mod throttle;
pub mod vain;

pub use host::{Host, Route};
pub use hosted::{CommitOutcome, Hosted};
pub use outbox::Outbox;
pub use replicas::{LeadError, Replicas};
pub use shard_host::Replication;
