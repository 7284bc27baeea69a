//! What a leader checks before it appends a batch: Kafka's `ProduceRequest.validateRecords`, the CRC and size checks of
//! `UnifiedLog` and the `LogValidator`, in that order.
//!
//! Where we are stricter than Kafka, and why no client in use notices: a record's offset delta must be its place in the
//! batch (Kafka rebuilds compressed batches that break this, and passes uncompressed ones on), no bytes may follow the
//! batch, lengths below -1 are not another way to write null, and the delete horizon bit is the broker's.

use super::{
    assign::{assign, set_max_timestamp},
    batch::BatchView,
    error::{BatchError, RecordError, RecordErrors, RecordFault},
    header::{NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, TimestampType, sequence_after},
    input::{Input, SliceInput, Stop, StreamInput},
    walk::Outline,
};
use crate::compression::{Compression, DecompressionLimit, Decompressor};

/// How far [`validate`] looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// Header and CRC. Timestamps are believed to be what the header says.
    Header,
    /// Every record as well, decompressed if need be. Needed for keys in compacted topics and for the timestamp window.
    #[default]
    Records,
}

/// Who wrote the batch: Kafka's `AppendOrigin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// A producer: every rule applies.
    #[default]
    Client,
    /// A coordinator of this cluster: control batches are allowed.
    Coordinator,
    /// The partition's leader: offsets are assigned already, and compaction may have left gaps and empty batches.
    Replication,
}

/// The rules that a batch has to keep: a topic's configuration, the request's version and the broker's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationLimits {
    /// Who wrote the batch.
    pub origin: Origin,
    /// How far to look.
    pub depth: Depth,
    /// `max.message.bytes`: size of the whole batch as it is sent.
    pub max_message_bytes: usize,
    /// What may come out of compressed records.
    pub decompression: DecompressionLimit,
    /// `message.timestamp.type`. With LogAppendTime the producer's timestamps do not matter.
    pub message_timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub message_timestamp_after_max_ms: i64,
    /// Whether every record needs a key: the topic is compacted.
    pub require_keys: bool,
    /// False for produce requests below version 7, whose senders' consumers may not know zstd.
    pub allow_zstd: bool,
}

impl Default for ValidationLimits {
    /// A topic with Kafka's defaults, and a current producer.
    fn default() -> Self {
        Self {
            origin: Origin::Client,
            depth: Depth::Records,
            max_message_bytes: 1_048_588,
            decompression: DecompressionLimit::default(),
            message_timestamp_type: TimestampType::CreateTime,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_after_max_ms: 3_600_000,
            require_keys: false,
            allow_zstd: true,
        }
    }
}

/// What is known of a batch that [`validate`] has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidatedBatch {
    /// Bytes of the whole batch.
    pub size: usize,
    /// Records in it.
    pub record_count: i32,
    /// Last offset minus base offset.
    pub last_offset_delta: i32,
    /// What timestamp deltas refer to, in ms.
    pub base_timestamp: i64,
    /// Largest timestamp of the records in ms, found by walking over them (with [`Depth::Header`]: the header's).
    pub max_timestamp: i64,
    /// Offset delta of the first record with `max_timestamp` (with [`Depth::Header`]: of the last record); -1 if no
    /// record has a timestamp.
    pub max_timestamp_offset_delta: i32,
    /// What the header says of timestamps.
    pub timestamp_type: TimestampType,
    /// The codec as sent.
    pub compression: Compression,
    /// -1 for none.
    pub producer_id: i64,
    /// -1 for none.
    pub producer_epoch: i16,
    /// -1 for none.
    pub base_sequence: i32,
    /// Whether the batch belongs to a transaction.
    pub is_transactional: bool,
    /// Whether the records are control records.
    pub is_control: bool,
}

impl ValidatedBatch {
    /// Sequence number of the last record, -1 for none.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence {
            NO_SEQUENCE => NO_SEQUENCE,
            base => sequence_after(base, self.last_offset_delta),
        }
    }

    /// Whether an idempotent or transactional producer wrote the batch.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// [`assign`](super::assign) for a copy of the batch that was validated; besides, a max timestamp that is not the
    /// records' is corrected, as Kafka does it: time indexes and retention rely on it.
    ///
    /// # Panics
    /// If `batch` is not of the validated size.
    pub fn assign(
        &self,
        batch: &mut [u8],
        base_offset: i64,
        leader_epoch: i32,
        log_append_time_ms: Option<i64>,
    ) {
        assert_eq!(batch.len(), self.size, "the bytes are those that were validated");
        assign(batch, base_offset, leader_epoch, log_append_time_ms);
        if log_append_time_ms.is_none() {
            set_max_timestamp(batch, self.timestamp_type, self.max_timestamp);
        }
    }

    fn from_header(batch: &BatchView<'_>, compression: Compression) -> Self {
        Self {
            size: batch.size(),
            record_count: batch.record_count(),
            last_offset_delta: batch.last_offset_delta(),
            base_timestamp: batch.base_timestamp(),
            max_timestamp: batch.max_timestamp(),
            max_timestamp_offset_delta: batch.last_offset_delta(),
            timestamp_type: batch.timestamp_type(),
            compression,
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            base_sequence: batch.base_sequence(),
            is_transactional: batch.is_transactional(),
            is_control: batch.is_control(),
        }
    }
}

/// Checks the records of one partition of a produce request, which must be exactly one batch.
///
/// `now_ms` is the wall clock for the timestamp window.
///
/// # Errors
/// [`BatchError`]; its [`code`](BatchError::code) and [`record_errors`](BatchError::record_errors) are for the response.
pub fn validate(
    records: &[u8],
    limits: &ValidationLimits,
    now_ms: i64,
) -> Result<ValidatedBatch, BatchError> {
    let batch = BatchView::parse(records)?;
    let compression = batch.compression()?;
    if compression == Compression::Zstd && !limits.allow_zstd {
        return Err(BatchError::UnsupportedCompression(compression.id()));
    }
    if batch.size() != records.len() {
        return Err(BatchError::TrailingBytes(records.len() - batch.size()));
    }
    if limits.origin == Origin::Client && batch.base_offset() != 0 {
        return Err(BatchError::BaseOffset(batch.base_offset()));
    }
    if batch.size() > limits.max_message_bytes {
        return Err(BatchError::TooLarge { size: batch.size(), max: limits.max_message_bytes });
    }
    batch.check_crc()?;
    check_header(&batch, limits.origin)?;

    let mut validated = ValidatedBatch::from_header(&batch, compression);
    if limits.depth == Depth::Records {
        let mut rules = Rules::new(&batch, limits, now_ms);
        if compression == Compression::None {
            rules.check_all(&mut SliceInput::new(batch.payload()))?;
        } else {
            let limit = limits.decompression.for_input(batch.payload().len());
            let source = Decompressor::new(compression, batch.payload(), limit)?;
            rules.check_all(&mut StreamInput::new(source))?;
        }
        if limits.origin != Origin::Replication {
            validated.max_timestamp = rules.max_timestamp;
            validated.max_timestamp_offset_delta = rules.max_timestamp_offset_delta;
        }
    }
    Ok(validated)
}

fn check_header(batch: &BatchView<'_>, origin: Origin) -> Result<(), BatchError> {
    let (record_count, last_offset_delta) = (batch.record_count(), batch.last_offset_delta());
    let counts_agree = match origin {
        Origin::Client | Origin::Coordinator => record_count > 0 && record_count - 1 == last_offset_delta,
        Origin::Replication => {
            record_count >= 0 && record_count - 1 <= last_offset_delta && last_offset_delta >= 0
        }
    };
    if !counts_agree {
        return Err(BatchError::RecordCount { record_count, last_offset_delta });
    }
    if origin == Origin::Client {
        if batch.is_control() {
            return Err(BatchError::ControlBatch);
        }
        if batch.attributes().has_delete_horizon() {
            return Err(BatchError::DeleteHorizon);
        }
        if batch.timestamp_type() == TimestampType::LogAppendTime {
            return Err(BatchError::LogAppendTime);
        }
        if batch.has_producer_id() && batch.base_sequence() < 0 {
            return Err(BatchError::Sequence {
                producer_id: batch.producer_id(),
                base_sequence: batch.base_sequence(),
            });
        }
    }
    Ok(())
}

/// The rules for single records, and what is learned from walking over them.
struct Rules {
    record_count: i32,
    last_offset_delta: i32,
    dense_offsets: bool,
    base_timestamp: i64,
    /// First and last timestamp in ms that the topic takes.
    window: (i64, i64),
    require_keys: bool,
    max_timestamp: i64,
    max_timestamp_offset_delta: i32,
    errors: Option<Box<RecordErrors>>,
}

impl Rules {
    fn new(batch: &BatchView<'_>, limits: &ValidationLimits, now_ms: i64) -> Self {
        let ruled = limits.origin != Origin::Replication;
        let window = if ruled && limits.message_timestamp_type == TimestampType::CreateTime {
            (
                now_ms.saturating_sub(limits.message_timestamp_before_max_ms),
                now_ms.saturating_add(limits.message_timestamp_after_max_ms),
            )
        } else {
            (i64::MIN, i64::MAX)
        };
        Self {
            record_count: batch.record_count(),
            last_offset_delta: batch.last_offset_delta(),
            dense_offsets: ruled,
            base_timestamp: batch.base_timestamp(),
            window,
            require_keys: ruled && limits.require_keys && !batch.is_control(),
            max_timestamp: NO_TIMESTAMP,
            max_timestamp_offset_delta: -1,
            errors: None,
        }
    }

    fn check_all(&mut self, input: &mut impl Input) -> Result<(), BatchError> {
        let mut previous_offset_delta = -1;
        for index in 0..self.record_count {
            let record = input.record().map_err(|stop| stop.at(index))?;
            let in_order = if self.dense_offsets {
                record.offset_delta == index
            } else {
                record.offset_delta > previous_offset_delta && record.offset_delta <= self.last_offset_delta
            };
            if !in_order {
                return Err(Stop::from(RecordFault::OffsetDelta).at(index));
            }
            previous_offset_delta = record.offset_delta;
            self.check(index, record);
        }
        if !input.at_end().map_err(|stop| stop.at(self.record_count))? {
            return Err(BatchError::BytesBehindRecords);
        }
        match self.errors.take() {
            Some(errors) => Err(BatchError::Records(errors)),
            None => Ok(()),
        }
    }

    #[inline]
    fn check(&mut self, index: i32, record: Outline) {
        let timestamp = self.base_timestamp.wrapping_add(record.timestamp_delta);
        if timestamp > self.max_timestamp {
            self.max_timestamp = timestamp;
            self.max_timestamp_offset_delta = record.offset_delta;
        }
        if self.require_keys && !record.has_key {
            self.refuse_keyless(index);
        } else if (timestamp < self.window.0 || timestamp > self.window.1) && timestamp != NO_TIMESTAMP {
            self.refuse_timestamp(index, timestamp);
        }
    }

    #[cold]
    fn refuse_keyless(&mut self, batch_index: i32) {
        self.refuse(batch_index, false, || "Compacted topic cannot accept message without key".to_owned());
    }

    #[cold]
    fn refuse_timestamp(&mut self, batch_index: i32, timestamp: i64) {
        let (first, last) = self.window;
        self.refuse(batch_index, true, || {
            format!(
                "Timestamp {timestamp} of message with offset {batch_index} is out of range. \
                 The timestamp should be within [{first}, {last}]"
            )
        });
    }

    fn refuse(&mut self, batch_index: i32, timestamp: bool, message: impl FnOnce() -> String) {
        let errors = self.errors.get_or_insert_default();
        errors.total += 1;
        errors.timestamp |= timestamp;
        if errors.listed.len() < RecordErrors::MAX_LISTED {
            errors.listed.push(RecordError { batch_index, message: message() });
        }
    }
}
