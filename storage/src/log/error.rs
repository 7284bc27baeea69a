//! Why a log refuses an append or a read, and what to tell the client.

use crate::{
    error::{JournalError, StorageError},
    types::{LeaderEpoch, Offset, ProducerId},
};
use protocol::ErrorCode;
use std::rc::Rc;

/// Why a batch was not appended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The partition is being deleted, or is gone.
    #[error("the partition has been deleted")]
    Deleted,
    /// The partition's data is damaged; it accepts nothing until somebody has looked at it.
    #[error("the partition is offline: {0}")]
    Offline(Rc<str>),
    /// The log's end is being cut off: it follows another leader.
    #[error("the end of the log is being cut off")]
    BeingCut,
    /// A leader's batch does not continue the log, or is damaged.
    #[error("a batch of the leader cannot be stored: {0}")]
    Unfit(&'static str),
    /// The caller acts under an epoch that is older than the log's.
    #[error("leader epoch {offered} is older than {current}")]
    StaleLeaderEpoch {
        /// What the caller has.
        offered: LeaderEpoch,
        /// What the log has.
        current: LeaderEpoch,
    },
    /// The batch does not fit into a segment.
    #[error("a batch of {size} bytes exceeds segment.bytes = {segment_bytes}")]
    LargerThanSegment {
        /// The batch. Bytes.
        size: usize,
        /// The configuration. Bytes.
        segment_bytes: u64,
    },
    /// The batch does not continue its producer's sequence.
    #[error("out of order sequence number for producer {producer_id}: got {got}, expected {expected}")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// First sequence number of the batch.
        got: i32,
        /// What would continue.
        expected: i32,
    },
    /// The producer has been replaced by a newer incarnation of itself.
    #[error("epoch {offered} of producer {producer_id} is older than {current}")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The batch's epoch.
        offered: i16,
        /// The newest epoch.
        current: i16,
    },
    /// The store takes no data at present: low space, a failed disk, a migration, or the flusher is behind.
    #[error(transparent)]
    NotWritable(#[from] StorageError),
}

impl From<JournalError> for AppendError {
    fn from(error: JournalError) -> Self {
        Self::NotWritable(error.into())
    }
}

impl AppendError {
    /// Kafka's error code for it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Deleted => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Self::StaleLeaderEpoch { .. } | Self::BeingCut => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            Self::LargerThanSegment { .. } => ErrorCode::RECORD_LIST_TOO_LARGE,
            Self::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            Self::InvalidProducerEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
            Self::Offline(_) | Self::NotWritable(_) | Self::Unfit(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        }
    }
}

/// Why a read or a look-up failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Below the log start offset, or above the log end offset.
    #[error("offset {offset} is outside of {log_start_offset}..={log_end_offset}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first offset that can be read.
        log_start_offset: Offset,
        /// The offset after the last.
        log_end_offset: Offset,
    },
    /// The partition is being deleted, or is gone.
    #[error("the partition has been deleted")]
    Deleted,
    /// The partition's data is damaged.
    #[error("the partition is offline: {0}")]
    Offline(Rc<str>),
    /// A file could not be read, or does not hold what it should.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<crate::error::DiskError> for ReadError {
    fn from(error: crate::error::DiskError) -> Self {
        Self::Storage(error.into())
    }
}

impl ReadError {
    /// Kafka's error code for it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            Self::Deleted => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Self::Offline(_) | Self::Storage(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        }
    }
}
