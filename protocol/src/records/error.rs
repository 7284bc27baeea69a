//! What can be wrong with a batch, and the error code that tells the producer.

use crate::{compression::CompressionError, error::ErrorCode};

/// Why bytes are not a batch, or not one that may be appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A produce request's partition without a batch, or with less than its header announces.
    #[error("the record batch is cut: it needs {needed} bytes and there are {available}")]
    Truncated {
        /// Bytes that the whole batch needs, as far as known.
        needed: usize,
        /// Bytes that there are.
        available: usize,
    },
    /// The length field is smaller than a header or negative.
    #[error("the record batch has an impossible length of {0}")]
    InvalidLength(i32),
    /// A message set of format v0 or v1.
    #[error("only record batches with magic version 2 are supported, this one has {0}")]
    OldMagic(i8),
    /// A format that nobody has defined.
    #[error("the record batch has an unknown magic version {0}")]
    UnknownMagic(i8),
    /// The stored CRC is not that of the bytes.
    #[error("the record batch is corrupt (stored crc = {stored}, computed crc = {computed})")]
    CrcMismatch {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// Larger than `max.message.bytes`.
    #[error("the record batch's size of {size} bytes exceeds the maximum of {max}")]
    TooLarge {
        /// Whole batch in bytes.
        size: usize,
        /// The topic's limit in bytes.
        max: usize,
    },
    /// More than one batch for a partition, or bytes behind the only one.
    #[error("a produce request may hold exactly one record batch per partition, {0} bytes follow the first")]
    TrailingBytes(usize),
    /// A producer's batch must start at offset 0.
    #[error("the base offset of a produced record batch should be 0, but it is {0}")]
    BaseOffset(i64),
    /// Count of records and range of offsets do not agree, or one of them is not positive.
    #[error("the record batch claims {record_count} records and a last offset delta of {last_offset_delta}")]
    RecordCount {
        /// As in the header.
        record_count: i32,
        /// As in the header.
        last_offset_delta: i32,
    },
    /// Clients write no control records.
    #[error("clients are not allowed to write control records")]
    ControlBatch,
    /// Only compaction sets a delete horizon.
    #[error("clients are not allowed to set a delete horizon")]
    DeleteHorizon,
    /// A producer id without a sequence.
    #[error("invalid sequence number {base_sequence} in a record batch with producer id {producer_id}")]
    Sequence {
        /// As in the header.
        producer_id: i64,
        /// As in the header.
        base_sequence: i32,
    },
    /// Only brokers write LogAppendTime.
    #[error("producers should not set the timestamp type to LogAppendTime")]
    LogAppendTime,
    /// An undefined codec, or one that this request's version must not use.
    #[error("unsupported compression codec {0}")]
    UnsupportedCompression(u8),
    /// The compressed records cannot be read.
    #[error("cannot decompress the records: {0}")]
    Compression(CompressionError),
    /// A record's fields do not fit together.
    #[error("record {index}: {fault}")]
    MalformedRecord {
        /// Place in the batch, from 0.
        index: i32,
        /// What is wrong.
        fault: RecordFault,
    },
    /// Bytes are left behind the last record.
    #[error("incorrect declared batch size, bytes remain behind the last record")]
    BytesBehindRecords,
    /// The batch is sound, but some of its records break the topic's rules (KIP-467).
    #[error("{}", .0.message())]
    Records(Box<RecordErrors>),
}

impl From<CompressionError> for BatchError {
    fn from(error: CompressionError) -> Self {
        Self::Compression(error)
    }
}

/// What is wrong with a record's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The batch ends within the record.
    #[error("premature end of the batch")]
    Truncated,
    /// A varint of more bytes or bits than its type has.
    #[error("a varint is too long")]
    Varint,
    /// The record's length is negative, or not what its fields add up to.
    #[error("the record's size is not the sum of its fields")]
    Size,
    /// A negative length of something that cannot be null, or below -1 elsewhere.
    #[error("a length is negative")]
    NegativeLength,
    /// More headers than the record's bytes could hold, or a negative count.
    #[error("an impossible number of headers")]
    HeaderCount,
    /// Offset deltas do not count 0, 1, 2 and so on.
    #[error("the record's offset delta is not its place in the batch")]
    OffsetDelta,
}

/// Records that a topic's rules refuse; the whole batch is refused with them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordErrors {
    /// Whether a timestamp out of range is among them.
    pub(super) timestamp: bool,
    /// How many records are affected.
    pub total: u32,
    /// The first [`RecordErrors::MAX_LISTED`] of them.
    pub listed: Vec<RecordError>,
}

/// One record that a topic's rules refuse: `batch_index` and `batch_index_error_message` of a produce response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// Place in the batch, from 0.
    pub batch_index: i32,
    /// What the producer is told.
    pub message: String,
}

impl RecordErrors {
    /// A batch can hold 100,000 bad records; a producer learns from the first of them.
    pub const MAX_LISTED: usize = 100;

    /// The response's error message for the partition, in Kafka's words.
    pub fn message(&self) -> String {
        if self.timestamp {
            "One or more records have been rejected due to invalid timestamp".to_owned()
        } else {
            format!("One or more records have been rejected due to {} record errors in total", self.total)
        }
    }
}

impl BatchError {
    /// The error code for a produce response, as Kafka's `ProduceRequest.validateRecords`, `UnifiedLog` and
    /// `LogValidator` choose it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidLength(_) | Self::UnknownMagic(_) | Self::CrcMismatch { .. } => {
                ErrorCode::CORRUPT_MESSAGE
            }
            // A Java producer answers this one by splitting the batch, which is what helps here too.
            Self::TooLarge { .. } | Self::Compression(CompressionError::TooLarge { .. }) => {
                ErrorCode::MESSAGE_TOO_LARGE
            }
            Self::LogAppendTime => ErrorCode::INVALID_TIMESTAMP,
            Self::Records(errors) if errors.timestamp => ErrorCode::INVALID_TIMESTAMP,
            Self::UnsupportedCompression(_) => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            Self::Truncated { .. }
            | Self::OldMagic(_)
            | Self::TrailingBytes(_)
            | Self::BaseOffset(_)
            | Self::RecordCount { .. }
            | Self::ControlBatch
            | Self::DeleteHorizon
            | Self::Sequence { .. }
            | Self::Compression(_)
            | Self::MalformedRecord { .. }
            | Self::BytesBehindRecords
            | Self::Records(_) => ErrorCode::INVALID_RECORD,
        }
    }

    /// The records to list in a produce response of version 8 and later; empty if the error is about the whole batch.
    pub fn record_errors(&self) -> &[RecordError] {
        match self {
            Self::Records(errors) => &errors.listed,
            _ => &[],
        }
    }
}
