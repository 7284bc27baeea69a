//! Building batches: tests, the benchmark's producer, coordinators' own topics, compaction, recompression.

use bytes::Bytes;
use zerocopy::{FromZeros, IntoBytes};

use super::{
    batch::{BatchView, decompress},
    error::BatchError,
    header::{
        Attributes, BATCH_HEADER_BYTES, BatchHeader, CRC_START, LOG_OVERHEAD_BYTES, MAGIC_V2,
        NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, TimestampType,
    },
    record::{Record, RecordHeader},
    varint::{put_varint, put_varlong, varlong_len},
};
use crate::compression::{Compression, CompressionError, compress};

/// What a batch says about itself besides its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOptions {
    /// Codec of the records.
    pub compression: Compression,
    /// The codec's own scale; `None`: its default.
    pub level: Option<i32>,
    /// 0 for a producer: the leader assigns the real one.
    pub base_offset: i64,
    /// -1 for a producer.
    pub partition_leader_epoch: i32,
    /// -1 for none.
    pub producer_id: i64,
    /// -1 for none.
    pub producer_epoch: i16,
    /// -1 for none.
    pub base_sequence: i32,
    /// Part of a transaction.
    pub is_transactional: bool,
    /// Control records.
    pub is_control: bool,
    /// Makes the batch's timestamps LogAppendTime with this value in ms.
    pub log_append_time_ms: Option<i64>,
    /// When compaction may drop tombstones and markers, in ms (KIP-534).
    pub delete_horizon_ms: Option<i64>,
}

impl Default for BatchOptions {
    /// An uncompressed batch of a plain producer.
    fn default() -> Self {
        Self {
            compression: Compression::None,
            level: None,
            base_offset: 0,
            partition_leader_epoch: -1,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            is_transactional: false,
            is_control: false,
            log_append_time_ms: None,
            delete_horizon_ms: None,
        }
    }
}

/// Collects records and turns them into a batch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// Room for the header, then the records as they are before compression.
    buffer: Vec<u8>,
    record_count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    last_offset_delta: i32,
}

impl BatchBuilder {
    /// A batch without records so far.
    pub fn new(options: BatchOptions) -> Self {
        Self::with_capacity(options, 512)
    }

    /// The same with room for `capacity` bytes of records.
    pub fn with_capacity(options: BatchOptions, capacity: usize) -> Self {
        let mut buffer = Vec::with_capacity(BATCH_HEADER_BYTES + capacity);
        buffer.resize(BATCH_HEADER_BYTES, 0);
        Self {
            base_timestamp: options.delete_horizon_ms.unwrap_or(NO_TIMESTAMP),
            options,
            buffer,
            record_count: 0,
            max_timestamp: NO_TIMESTAMP,
            last_offset_delta: -1,
        }
    }

    /// A batch that takes the place of `batch` in its log, as compaction writes it: same offsets, sequences, producer,
    /// epoch, codec and kind of timestamps, whatever records are appended. If none are, the batch stays as a header that
    /// keeps the producer's state alive.
    ///
    /// # Errors
    /// [`BatchError::UnsupportedCompression`].
    pub fn replacing(batch: &BatchView<'_>, delete_horizon_ms: Option<i64>) -> Result<Self, BatchError> {
        let log_append_time = batch.timestamp_type() == TimestampType::LogAppendTime;
        let mut builder = Self::new(BatchOptions {
            compression: batch.compression()?,
            level: None,
            base_offset: batch.base_offset(),
            partition_leader_epoch: batch.leader_epoch(),
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            base_sequence: batch.base_sequence(),
            is_transactional: batch.is_transactional(),
            is_control: batch.is_control(),
            log_append_time_ms: log_append_time.then(|| batch.max_timestamp()),
            delete_horizon_ms,
        });
        builder.last_offset_delta = batch.last_offset_delta();
        builder.max_timestamp = batch.max_timestamp();
        Ok(builder)
    }

    /// Appends a record at the next offset. `timestamp` in ms.
    ///
    /// # Panics
    /// If the record or the batch grows beyond what the format's 31-bit lengths can say.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) {
        self.write(self.record_count, timestamp, key, value, headers.iter().copied());
        self.last_offset_delta = self.last_offset_delta.max(self.record_count - 1);
    }

    /// Appends a record of another batch with its offset, as compaction does.
    ///
    /// # Panics
    /// As [`append`](Self::append); or if the record's offset is below the base offset or too far above.
    pub fn append_record(&mut self, record: &Record<'_>) {
        let delta = i32::try_from(record.offset - self.options.base_offset)
            .ok()
            .filter(|delta| *delta >= 0)
            .expect("the record's offset lies in the batch's range");
        self.write(delta, record.timestamp, record.key, record.value, record.headers.clone());
        self.last_offset_delta = self.last_offset_delta.max(delta);
    }

    /// Records so far.
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Bytes of the batch so far, before compression.
    pub fn uncompressed_size(&self) -> usize {
        self.buffer.len()
    }

    fn write<'h>(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = RecordHeader<'h>> + Clone,
    ) {
        if self.record_count == 0 {
            self.max_timestamp = timestamp;
            if self.options.delete_horizon_ms.is_none() {
                self.base_timestamp = timestamp;
            }
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.record_count = self.record_count.checked_add(1).expect("fewer than 2^31 records");
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);

        let header_count = headers.len();
        let headers_len: usize =
            headers.clone().map(|h| nullable_len(Some(h.key)) + nullable_len(h.value)).sum();
        let body_len = 1
            + varlong_len(timestamp_delta)
            + varlong_len(i64::from(offset_delta))
            + nullable_len(key)
            + nullable_len(value)
            + varlong_len(header_count as i64)
            + headers_len;

        let out = &mut self.buffer;
        put_len(out, body_len);
        out.push(0);
        put_varlong(out, timestamp_delta);
        put_varint(out, offset_delta);
        put_nullable(out, key);
        put_nullable(out, value);
        put_len(out, header_count);
        for header in headers {
            put_nullable(out, Some(header.key));
            put_nullable(out, header.value);
        }
    }

    /// The finished batch. An empty batch is not compressed, as Kafka writes it.
    ///
    /// # Errors
    /// [`CompressionError::Compress`].
    ///
    /// # Panics
    /// If the batch is larger than 2 GiB.
    pub fn build(mut self) -> Result<Bytes, CompressionError> {
        let compression = if self.record_count == 0 { Compression::None } else { self.options.compression };
        if compression != Compression::None {
            let records = std::mem::take(&mut self.buffer);
            self.buffer.reserve(BATCH_HEADER_BYTES + records.len() / 2);
            self.buffer.resize(BATCH_HEADER_BYTES, 0);
            compress(compression, self.options.level, &records[BATCH_HEADER_BYTES..], &mut self.buffer)?;
        }
        let header = self.header(compression);
        Ok(sealed(header, self.buffer))
    }

    fn header(&self, compression: Compression) -> BatchHeader {
        let options = &self.options;
        let timestamp_type = match options.log_append_time_ms {
            Some(_) => TimestampType::LogAppendTime,
            None => TimestampType::CreateTime,
        };
        let attributes = Attributes::default()
            .with_compression(compression)
            .with_timestamp_type(timestamp_type)
            .with_transactional(options.is_transactional)
            .with_control(options.is_control)
            .with_delete_horizon(options.delete_horizon_ms.is_some());
        let mut header = BatchHeader::new_zeroed();
        header.base_offset.set(options.base_offset);
        header.partition_leader_epoch.set(options.partition_leader_epoch);
        header.magic = MAGIC_V2;
        header.attributes.set(attributes.0);
        header.last_offset_delta.set(self.last_offset_delta);
        header.base_timestamp.set(self.base_timestamp);
        header.max_timestamp.set(options.log_append_time_ms.unwrap_or(self.max_timestamp));
        header.producer_id.set(options.producer_id);
        header.producer_epoch.set(options.producer_epoch);
        header.base_sequence.set(options.base_sequence);
        header.record_count.set(self.record_count);
        header
    }
}

/// The same batch with its records in another codec: what a topic's `compression.type` asks for.
///
/// # Errors
/// [`BatchError::UnsupportedCompression`], [`BatchError::Compression`]; `max_bytes` bounds the plain records.
///
/// # Panics
/// If the result is larger than 2 GiB.
pub fn recompress(
    batch: &BatchView<'_>,
    codec: Compression,
    level: Option<i32>,
    max_bytes: usize,
) -> Result<Bytes, BatchError> {
    let records = decompress(batch, max_bytes)?;
    let mut buffer = Vec::with_capacity(BATCH_HEADER_BYTES + records.len());
    buffer.resize(BATCH_HEADER_BYTES, 0);
    compress(codec, level, &records, &mut buffer)?;
    let mut header = *batch.header();
    header.attributes.set(batch.attributes().with_compression(codec).0);
    Ok(sealed(header, buffer))
}

/// Writes the header into the room at the buffer's front, with the length and CRC that the buffer has.
fn sealed(mut header: BatchHeader, mut buffer: Vec<u8>) -> Bytes {
    let length = i32::try_from(buffer.len() - LOG_OVERHEAD_BYTES).expect("a batch is smaller than 2 GiB");
    header.length.set(length);
    buffer[..BATCH_HEADER_BYTES].copy_from_slice(header.as_bytes());
    header.crc.set(crc32c::crc32c(&buffer[CRC_START..]));
    buffer[..BATCH_HEADER_BYTES].copy_from_slice(header.as_bytes());
    Bytes::from(buffer)
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varlong_len(bytes.len() as i64) + bytes.len())
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_len(out, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    put_varint(out, i32::try_from(len).expect("lengths within a batch are below 2^31"));
}
