//! One partition's log: what is appended, where it lies, and how it is read back.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | the topic's configuration, typed |
//! | `partition` | [`PartitionLog`], the broker's handle: append, offsets, epochs |
//! | `state` | the log's state in memory and the only places where it changes |
//! | `read`, `read_cold`, `read_ahead` | whole batches from memory or from segment files |
//! | `replica` | what replication does with a log: a leader's batches as they are, the high watermark, epochs |
//! | `lookup` | records by timestamp |
//! | [`producer_state`] | idempotent producers |
//! | [`leader_epoch`] | where each leader epoch began |
//! | [`segment`], [`retention`] | names, roll and deletion decisions |
//! | [`index`], `load_index` | sparse indexes, and getting hold of them |
//! | `tail` | where recent batches lie in the journal's buffers |
//! | `direct` | where large batches are to lie in the segment |
//! | `files`, `scan` | open segment files; walking over their batches |
//! | [`error`] | why an append or a read is refused |

pub mod config;
pub(crate) mod direct;
pub mod error;
pub(crate) mod files;
pub mod index;
pub mod leader_epoch;
mod load_index;
mod lookup;
pub(crate) mod partition;
pub mod producer_state;
mod read;
pub(crate) mod read_ahead;
pub(crate) mod read_cold;
mod replica;
pub mod retention;
pub(crate) mod scan;
pub mod segment;
pub(crate) mod state;
pub(crate) mod tail;

pub use config::{LogConfig, TimestampType, TopicCompression};
pub use error::{AppendError, ReadError};
pub use lookup::TimestampedOffset;
pub use partition::{AppendContext, AppendOutcome, PartitionLog};
pub use read::ReadOutcome;
pub use replica::ReplicaAppend;
pub use state::LogOffsets;
