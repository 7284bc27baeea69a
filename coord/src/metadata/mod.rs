//! The cluster's metadata: an image that is a function of a log of records.
//!
//! - [`image`]: [`MetadataImage`], what is known; changed by `replay` alone;
//! - [`record`]: [`MetadataRecord`], what can change, and its encoding byte by byte ([`codec`] holds the primitives);
//! - [`decide`]: pure functions from (image, command) to (records, reply);
//! - [`snapshot`]: an image as the shortest list of records that gives it;
//! - [`names`]: rules for topic names;
//! - [`placement`]: which brokers hold a new partition.

pub mod codec;
pub mod decide;
pub mod image;
pub mod names;
pub mod placement;
pub mod record;
pub mod snapshot;

pub use codec::RecordError;
pub use decide::{DecideContext, Decision};
pub use image::{BrokerRegistration, Endpoint, MetadataImage, PartitionImage, ReplayError, TopicImage};
pub use record::{MetadataRecord, decode_entry, encode_entry};
