//! One shard's store: the table of its partition logs over its journal, and the loops that keep both in shape.
//!
//! | module | owns |
//! |---|---|
//! | `shard_store` | [`ShardStore`]: opening, partitions, closing |
//! | `config` | settings, partition specs, reports, figures |
//! | `shared` | what all logs share; the journal's observer |
//! | `flusher`, `writer` | rounds of flushing; one partition's segment writes, roll |
//! | `flush_policy` | when written data has to be synced |
//! | `checkpoint`, `checkpoint_log` | up to where partitions are safe in segments |
//! | `recovery`, `recover_log` | replay of the journal; one partition's segments |
//! | `disk_gates` | how much may be under way to the disk beside commits |
//! | `pacing` | how fast appends go on when there is little room |
//! | `direct` | large batches, written straight to segments |
//! | `layout` | generations of shards |
//! | `partition_dir` | directories: whose they are, and how they go |
//! | `moved` | what is left of partitions that other brokers hold now |
//! | `cut` | a follower's log gives up its end, or all of it |
//! | `trim` | delete-records and retention |

pub(crate) mod checkpoint;
mod checkpoint_log;
pub(crate) mod config;
mod cut;
mod direct;
pub(crate) mod disk_gates;
pub(crate) mod flush_policy;
pub(crate) mod flusher;
mod layout;
mod moved;
mod pacing;
pub(crate) mod partition_dir;
pub(crate) mod recover_log;
mod recovery;
mod shard_store;
pub(crate) mod shared;
mod together;
mod trim;
pub(crate) mod writer;

pub use config::{
    CommitEvent, HighWatermarkMode, PartitionSpec, RecoveryReport, StoreConfig, StoreStats, TopicStatus,
};
pub use partition_dir::{StrayReport, remove_gone_partitions};
pub use shard_store::ShardStore;
pub use trim::RetentionReport;
