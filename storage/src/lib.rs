//! One shard's data on disk. No sockets, no clock, no executor in a public signature except the real disk.
//!
//! | module | owns |
//! |---|---|
//! | [`types`] | offsets, epochs, ids as types of their own |
//! | [`error`] | the crate's errors |
//! | [`disk`] | the [`disk::Disk`] trait; the real disk (direct I/O) and the simulated one |
//! | [`journal`] | the ring of preallocated files that makes appends of all partitions durable |
//! | [`record_log`] | a small durable log of opaque records with snapshots |

pub mod disk;
pub mod error;
pub mod journal;
pub mod record_log;
pub mod types;

pub use error::{DiskError, JournalError, StorageError};
pub use types::{LeaderEpoch, Offset, PartitionId, ProducerId, TopicIdPartition};
