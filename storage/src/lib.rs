//! One shard's data on disk. No sockets, no clock, no executor in a public signature except the real disk.
//!
//! | module | owns |
//! |---|---|
//! | [`types`] | offsets, epochs, ids as types of their own |
//! | [`error`] | the crate's errors |
//! | [`disk`] | the [`disk::Disk`] trait; the real disk (direct I/O) and the simulated one |
//! | [`journal`] | the ring of preallocated files that makes appends of all partitions durable |
//! | [`record_log`] | a small durable log of opaque records with snapshots |
//! | [`log`] | one partition: segments, indexes, producer state, epochs; append and read |
//! | [`cleaner`] | log compaction |
//! | [`cache`] | the tail cache over the journal's commit buffers |
//! | [`store`] | one shard: its partitions over its journal; flusher, recovery, retention |
//! | [`data_dir`] | lock and format of the data directory |
//! | [`wake`] | waiting within an executor |

pub mod cache;
pub mod cleaner;
pub mod data_dir;
pub mod disk;
pub mod error;
pub mod journal;
pub mod log;
pub mod record_log;
pub mod store;
pub mod types;
pub mod wake;

pub use error::{DiskError, DiskOperation, JournalError, StorageError};
pub use types::{LeaderEpoch, Offset, PartitionId, ProducerId, TopicIdPartition};

pub use log::{
    AppendContext, AppendError, AppendOutcome, LogConfig, LogOffsets, PartitionLog, ReadError, ReadOutcome,
};
pub use store::{PartitionSpec, RecoveryReport, ShardStore, StoreConfig, StoreStats};
pub use wake::WakeSignal;
