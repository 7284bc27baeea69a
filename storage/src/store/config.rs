//! What a store is opened with, and what it tells about its opening.

use crate::{
    journal::{Durability, JournalConfig},
    log::config::LogConfig,
    types::{LeaderEpoch, Offset, PartitionId, TopicIdPartition},
};
use std::{path::PathBuf, rc::Rc};
use uuid::Uuid;

/// What the cluster's metadata says of a topic id that the disk holds data of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicStatus {
    /// The topic exists.
    Live,
    /// The topic existed and was deleted: its data may go.
    Gone,
    /// The metadata knows nothing. Data of such a topic is never touched.
    Unknown,
}

/// Who moves the high watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HighWatermarkMode {
    /// The only replica: committed is what is durable here.
    #[default]
    FollowsDurableEnd,
    /// One of several replicas: replication decides, by [`crate::log::PartitionLog::advance_high_watermark`].
    Replicated,
}

/// What the shell hears of the journal's commits, in their order. One is written at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitEvent<'a> {
    /// A commit is being written: its batches can be read from now on. None of them is durable.
    Readable,
    /// A commit is as durable as its batches asked for.
    Done,
    /// It has batches of replicated logs: up to where it makes each of them durable.
    Durable(&'a [(TopicIdPartition, Offset)]),
}

/// How one shard's store is set up.
#[derive(Clone)]
pub struct StoreConfig {
    /// The broker's data directory, common to all shards.
    pub data_dir: PathBuf,
    /// This shard.
    pub shard: u32,
    /// How many shards there are.
    pub shards: u32,
    /// The shard's journal.
    pub journal: JournalConfig,
    /// What an acknowledgement means, unless a topic's configuration says otherwise.
    pub durability: Durability,
    /// Bound of the tail cache. Bytes of commit buffers.
    pub cache_bytes: usize,
    /// Data is refused while the file system has less free space than this. Bytes.
    pub low_space_bytes: u64,
    /// Batches from this size on are written once, straight to their segment, and only named in the journal. Bytes.
    pub direct_from_bytes: usize,
    /// From so many logs in a round on the flusher has the file system synced as a whole, where that can be, and not each log's segment.
    pub sync_together_from: usize,
    /// Open segment files kept.
    pub max_open_files: usize,
    /// Loaded indexes of closed segments kept. Bytes.
    pub index_cache_bytes: usize,
    /// Cold data kept for sequential readers. Bytes.
    pub read_ahead_bytes: usize,
    /// Data that has been waiting this long in the journal is flushed although nothing asks for room. Milliseconds.
    pub idle_flush_ms: i64,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
    /// What the metadata says of a topic id.
    pub topic_status: Rc<dyn Fn(Uuid) -> TopicStatus>,
}

impl StoreConfig {
    /// The defaults for shard `shard` of `shards`. The metadata is taken to know nothing: data of topics that are not wanted is an error.
    pub fn new(data_dir: impl Into<PathBuf>, shard: u32, shards: u32, new_journal_id: Uuid) -> Self {
        Self {
            data_dir: data_dir.into(),
            shard,
            shards,
            journal: JournalConfig::new(new_journal_id, shard),
            durability: Durability::Sync,
            cache_bytes: 256 << 20,
            low_space_bytes: 1 << 30,
            direct_from_bytes: 256 << 10,
            sync_together_from: 64,
            max_open_files: 512,
            index_cache_bytes: 32 << 20,
            read_ahead_bytes: 16 << 20,
            idle_flush_ms: 30_000,
            producer_expiration_ms: 24 * 3_600_000,
            topic_status: Rc::new(|_| TopicStatus::Unknown),
        }
    }
}

/// A partition that the store is to hold.
#[derive(Debug, Clone)]
pub struct PartitionSpec {
    /// Id of its topic.
    pub topic_id: Uuid,
    /// Name of its topic: part of the directory's name.
    pub topic: Rc<str>,
    /// Its number.
    pub partition: PartitionId,
    /// The leader epoch at present; what is in the log may be older.
    pub leader_epoch: LeaderEpoch,
    /// Configuration of its topic.
    pub config: Rc<LogConfig>,
    /// Who moves its high watermark.
    pub high_watermark: HighWatermarkMode,
}

impl PartitionSpec {
    /// The partition by its topic's id.
    pub fn id(&self) -> TopicIdPartition {
        TopicIdPartition::new(self.topic_id, self.partition)
    }
}

/// What the opening of a store found.
#[derive(Debug, Clone, Default)]
pub struct RecoveryReport {
    /// Whether the store had been shut down cleanly: nothing had to be replayed.
    pub was_clean: bool,
    /// Whether the number of shards has changed; the broker calls [`crate::store::ShardStore::finish_migration`] once all shards are open.
    pub is_migrating: bool,
    /// Partitions that are served.
    pub partitions: usize,
    /// Batches of the journal that the segments lacked.
    pub replayed_batches: u64,
    /// Their size. Bytes.
    pub replayed_bytes: u64,
    /// Bytes of segment files that were checked by CRC.
    pub scanned_bytes: u64,
    /// Partitions that are damaged and therefore offline, and why.
    pub offline: Vec<(TopicIdPartition, String)>,
    /// Journal entries of topics that the metadata says are gone, and of partitions that it has given to other brokers.
    pub dropped_entries: u64,
}

/// Figures of a store at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StoreStats {
    /// Partitions that are served or offline.
    pub partitions: usize,
    /// Partitions that are damaged.
    pub offline_partitions: usize,
    /// Bytes of all logs.
    pub log_bytes: u64,
    /// Bytes of commit buffers in memory.
    pub cache_bytes: usize,
    /// Those of them that segments do not have yet.
    pub pinned_bytes: usize,
    /// Memory of the partitions themselves, without the cache. Bytes.
    pub partition_heap_bytes: usize,
    /// Open segment files.
    pub open_files: usize,
    /// Batches appended.
    pub appended_batches: u64,
    /// Bytes appended.
    pub appended_bytes: u64,
    /// Flush rounds completed.
    pub flush_rounds: u64,
    /// Bytes of batches written to segment files.
    pub flushed_bytes: u64,
    /// Bytes that went to the disk for that: whole blocks, a segment's last one each time that it is written.
    pub segment_written_bytes: u64,
    /// Bytes of large batches that went straight to segments, and not through the journal.
    pub direct_bytes: u64,
    /// Bytes of commits written to the journal, in whole blocks.
    pub journal_written_bytes: u64,
    /// Segment files synced.
    pub segment_syncs: u64,
    /// Reads answered from memory.
    pub cache_reads: u64,
    /// Reads that went to a segment file or to what was read ahead.
    pub cold_reads: u64,
    /// Bytes that were read from segment files for readers, ahead of them or not.
    pub cold_read_bytes: u64,
    /// Cold data in memory or on its way there. Bytes.
    pub read_ahead_bytes: usize,
    /// Cold reads that found what they wanted in memory.
    pub read_ahead_hits: u64,
    /// Bytes that were read ahead and dropped before anybody wanted them.
    pub read_ahead_wasted_bytes: u64,
    /// Passes of compaction completed.
    pub cleaner_runs: u64,
    /// Bytes of batches that compaction has read.
    pub cleaner_read_bytes: u64,
    /// Bytes of batches that compaction has written.
    pub cleaner_written_bytes: u64,
    /// The dirty share of the compacted log where it is largest. 0 to 1.
    pub max_dirty_ratio: f64,
    /// Time since compaction last looked for work, or since the store was opened. Milliseconds.
    pub ms_since_cleaner_look: i64,
    /// Logs that compaction leaves alone because they are damaged.
    pub uncleanable_partitions: usize,
    /// Whether data is refused because the file system is short of space.
    pub is_low_on_space: bool,
    /// Free space of the file system when it was last looked at. Bytes.
    pub free_bytes: u64,
    /// Share of the journal, grown to its full size, that holds data which segments do not have yet. 0 to 1.
    pub journal_used_ratio: f64,
}
