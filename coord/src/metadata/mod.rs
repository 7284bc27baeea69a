//! The cluster's metadata: an image that is a function of a log of records.
//!
//! - [`image`]: [`MetadataImage`], what is known; changed by `replay` alone;
//! - [`partition`]: [`PartitionImage`], one partition's state, and the rules by which leader and in-sync replicas change;
//! - [`record`]: [`MetadataRecord`], what can change, and its encoding byte by byte ([`codec`] holds the primitives);
//! - [`decide`]: pure functions from (image, command) to (records, reply);
//! - [`heartbeats`]: which brokers have fallen silent;
//! - [`census`]: how many partitions are well, for metrics;
//! - [`snapshot`]: an image as the shortest list of records that gives it;
//! - [`names`]: rules for topic names;
//! - [`placement`]: which brokers hold a new partition.

pub mod census;
pub mod codec;
pub mod decide;
pub mod heartbeats;
pub mod image;
pub mod names;
pub mod partition;
pub mod placement;
pub mod record;
pub mod snapshot;

pub use codec::RecordError;
pub use decide::{DecideContext, Decision};
pub use heartbeats::BrokerSessions;
pub use image::{BrokerRegistration, Endpoint, MetadataImage, NodeDirectory, ReplayError, TopicImage};
pub use partition::{InSyncProposal, PartitionImage, PartitionRules};
pub use record::{MetadataRecord, decode_entry, encode_entry};
