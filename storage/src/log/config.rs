//! Typed topic configuration as far as a partition log and the append path need it.
//!
//! Names and defaults are Kafka's (`LogConfig.java`); the broker resolves texts, synonyms and ranges and hands the values over.

pub use protocol::records::TimestampType;

/// `compression.type` of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TopicCompression {
    /// Keep what the producer sent.
    #[default]
    Producer,
    /// Store without compression.
    Uncompressed,
    /// Store gzip.
    Gzip,
    /// Store snappy.
    Snappy,
    /// Store LZ4.
    Lz4,
    /// Store zstd.
    Zstd,
}

/// The configuration of one topic, shared by the logs of all its partitions.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is rolled before it grows beyond this. Bytes.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment whose first record is older than this is rolled. Milliseconds.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: at most this much is taken off `segment_ms`, so that segments do not all roll together. Milliseconds.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`: a segment is rolled when its offset index would outgrow this. Bytes.
    pub segment_index_bytes: u64,
    /// `index.interval.bytes`: distance between two index entries. Bytes.
    pub index_interval_bytes: u64,
    /// `cleanup.policy` holds `delete`: retention by time and size applies.
    pub cleanup_delete: bool,
    /// `cleanup.policy` holds `compact`.
    pub cleanup_compact: bool,
    /// `min.cleanable.dirty.ratio`: the share of the log that must be dirty before it is compacted. 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: a record younger than this is not compacted. Milliseconds.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: a record older than this makes the log due for compaction, whatever its ratio. Milliseconds.
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`: for how long a compacted log keeps tombstones and transaction markers. Milliseconds.
    pub delete_retention_ms: i64,
    /// `retention.ms`; negative means for ever. Milliseconds.
    pub retention_ms: i64,
    /// `retention.bytes` of one partition; negative means no limit. Bytes.
    pub retention_bytes: i64,
    /// `max.message.bytes`: the largest batch that is accepted. Bytes.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`. Milliseconds.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`. Milliseconds.
    pub timestamp_after_max_ms: i64,
    /// `compression.type`.
    pub compression: TopicCompression,
    /// `min.insync.replicas`.
    pub min_insync_replicas: u32,
    /// `flush.messages`: sync at least after so many records.
    pub flush_messages: i64,
    /// `flush.ms`: sync at least so often. Milliseconds.
    pub flush_ms: i64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            cleanup_delete: true,
            cleanup_compact: false,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 24 * 3_600_000,
            retention_ms: 7 * 24 * 3_600_000,
            retention_bytes: -1,
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compression: TopicCompression::Producer,
            min_insync_replicas: 1,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
        }
    }
}
