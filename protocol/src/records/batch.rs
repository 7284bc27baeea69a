//! One whole batch, and several in a row.

use std::borrow::Cow;
use std::ops::Deref;

use zerocopy::FromBytes;

use super::{
    error::BatchError,
    header::{
        Attributes, BATCH_HEADER_BYTES, BatchHeader, CRC_START, LOG_OVERHEAD_BYTES, MAGIC_V2, NO_PRODUCER_ID,
        NO_SEQUENCE, TimestampType, sequence_after,
    },
};
use crate::compression::{Compression, decompress_bounded};

/// Where the magic byte is, in every format that Kafka ever had.
const MAGIC_AT: usize = 16;

/// One whole batch of format v2. Its length has been checked, its contents have not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchView<'a> {
    header: &'a BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch at the front of `bytes`; what follows it is ignored.
    ///
    /// # Errors
    /// [`BatchError::Truncated`], [`BatchError::InvalidLength`], [`BatchError::OldMagic`], [`BatchError::UnknownMagic`].
    pub fn parse(bytes: &'a [u8]) -> Result<BatchView<'a>, BatchError> {
        let truncated = |needed| BatchError::Truncated { needed, available: bytes.len() };
        let magic = *bytes.get(MAGIC_AT).ok_or(truncated(BATCH_HEADER_BYTES))?;
        match magic as i8 {
            MAGIC_V2 => {}
            old @ (0 | 1) => return Err(BatchError::OldMagic(old)),
            unknown => return Err(BatchError::UnknownMagic(unknown)),
        }
        let (header, _) = BatchHeader::ref_from_prefix(bytes).map_err(|_| truncated(BATCH_HEADER_BYTES))?;
        let length = header.length.get();
        let size = usize::try_from(length).ok().map(|length| length + LOG_OVERHEAD_BYTES);
        let size =
            size.filter(|size| *size >= BATCH_HEADER_BYTES).ok_or(BatchError::InvalidLength(length))?;
        let bytes = bytes.get(..size).ok_or(truncated(size))?;
        Ok(Self { header, bytes })
    }

    /// The fixed fields.
    pub fn header(&self) -> &'a BatchHeader {
        self.header
    }

    /// The whole batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Size of the whole batch in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// What follows the header, compressed or not.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[BATCH_HEADER_BYTES..]
    }

    /// Offset of the first record that the batch was created with.
    pub fn base_offset(&self) -> i64 {
        self.header.base_offset.get()
    }

    /// Offset of the last record that the batch was created with.
    pub fn last_offset(&self) -> i64 {
        self.base_offset().wrapping_add(i64::from(self.last_offset_delta()))
    }

    /// The offset that the next batch of the log starts at (or above, after compaction).
    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    /// Last offset minus base offset.
    pub fn last_offset_delta(&self) -> i32 {
        self.header.last_offset_delta.get()
    }

    /// Epoch of the leader that took the batch.
    pub fn leader_epoch(&self) -> i32 {
        self.header.partition_leader_epoch.get()
    }

    /// CRC as the header says it.
    pub fn crc(&self) -> u32 {
        self.header.crc.get()
    }

    /// The attribute bits.
    pub fn attributes(&self) -> Attributes {
        self.header.attributes()
    }

    /// The records' codec.
    ///
    /// # Errors
    /// [`BatchError::UnsupportedCompression`] if the id is undefined.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        let attributes = self.attributes();
        attributes.compression().ok_or(BatchError::UnsupportedCompression(attributes.codec_id()))
    }

    /// What the timestamps mean.
    pub fn timestamp_type(&self) -> TimestampType {
        self.attributes().timestamp_type()
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes().is_transactional()
    }

    /// Whether the records are control records.
    pub fn is_control(&self) -> bool {
        self.attributes().is_control()
    }

    /// Time in ms after which compaction may drop the batch's tombstones and markers (KIP-534), if it has been set.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.attributes().has_delete_horizon().then(|| self.base_timestamp())
    }

    /// What timestamp deltas refer to, in ms.
    pub fn base_timestamp(&self) -> i64 {
        self.header.base_timestamp.get()
    }

    /// Largest timestamp, or the time of the append, in ms.
    pub fn max_timestamp(&self) -> i64 {
        self.header.max_timestamp.get()
    }

    /// Producer id, -1 for none.
    pub fn producer_id(&self) -> i64 {
        self.header.producer_id.get()
    }

    /// Whether an idempotent or transactional producer wrote the batch.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id() > NO_PRODUCER_ID
    }

    /// Producer epoch, -1 for none.
    pub fn producer_epoch(&self) -> i16 {
        self.header.producer_epoch.get()
    }

    /// Sequence number of the base offset, -1 for none.
    pub fn base_sequence(&self) -> i32 {
        self.header.base_sequence.get()
    }

    /// Sequence number of the last offset, -1 for none.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            NO_SEQUENCE => NO_SEQUENCE,
            base => sequence_after(base, self.last_offset_delta()),
        }
    }

    /// Records in the batch, as the header says it.
    pub fn record_count(&self) -> i32 {
        self.header.record_count.get()
    }

    /// The CRC-32C that the bytes have.
    pub fn computed_crc(&self) -> u32 {
        crc32c::crc32c(&self.bytes[CRC_START..])
    }

    /// Compares the stored CRC with the bytes.
    ///
    /// # Errors
    /// [`BatchError::CrcMismatch`].
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let (stored, computed) = (self.crc(), self.computed_crc());
        if stored != computed {
            return Err(BatchError::CrcMismatch { stored, computed });
        }
        Ok(())
    }

    /// The batch as one whose checksum need not be looked at again.
    ///
    /// # Errors
    /// [`BatchError::CrcMismatch`].
    pub fn checked(self) -> Result<CheckedBatch<'a>, BatchError> {
        self.check_crc()?;
        Ok(CheckedBatch(self))
    }
}

/// A batch whose stored CRC is that of its bytes.
#[derive(Debug, Clone, Copy)]
pub struct CheckedBatch<'a>(BatchView<'a>);

impl<'a> CheckedBatch<'a> {
    /// The batch that `bytes` are, with nothing behind it.
    ///
    /// # Errors
    /// As [`BatchView::parse`] and [`BatchView::checked`]; [`BatchError::InvalidLength`] if something follows.
    pub fn parse(bytes: &'a [u8]) -> Result<CheckedBatch<'a>, BatchError> {
        let batch = BatchView::parse(bytes)?;
        match batch.size() == bytes.len() {
            true => batch.checked(),
            false => Err(BatchError::InvalidLength(batch.header.length.get())),
        }
    }
}

impl<'a> Deref for CheckedBatch<'a> {
    type Target = BatchView<'a>;

    fn deref(&self) -> &BatchView<'a> {
        &self.0
    }
}

/// The batch's records as plain bytes: borrowed if they are not compressed, else at most `max_bytes` of them.
///
/// # Errors
/// [`BatchError::UnsupportedCompression`], [`BatchError::Compression`].
pub fn decompress<'a>(batch: &BatchView<'a>, max_bytes: usize) -> Result<Cow<'a, [u8]>, BatchError> {
    match batch.compression()? {
        Compression::None => Ok(Cow::Borrowed(batch.payload())),
        codec => Ok(Cow::Owned(decompress_bounded(codec, batch.payload(), max_bytes)?)),
    }
}

/// Iterates over batches that stand one behind another, as in a log segment or a fetch response.
pub fn iter_batches(bytes: &[u8]) -> Batches<'_> {
    Batches { bytes, position: 0, cut_tail: CutTail::Error, failed: false }
}

/// See [`iter_batches`]. After an error nothing more comes: without a length there is no next batch.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    cut_tail: CutTail,
    failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CutTail {
    Error,
    End,
}

impl<'a> Batches<'a> {
    /// Takes a batch that is cut at the end of the bytes as the end, as readers of fetch responses must.
    pub fn tolerate_cut_tail(self) -> Self {
        Self { cut_tail: CutTail::End, ..self }
    }

    /// Where the next batch starts, or where reading stopped.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.position..];
        if rest.is_empty() || self.failed {
            return None;
        }
        match BatchView::parse(rest) {
            Ok(batch) => {
                self.position += batch.size();
                Some(Ok(batch))
            }
            Err(error) => {
                self.failed = true;
                let cut = matches!(error, BatchError::Truncated { .. });
                (!cut || self.cut_tail == CutTail::Error).then_some(Err(error))
            }
        }
    }
}
