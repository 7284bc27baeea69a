//! Records of a batch, one after another.

use super::{
    batch::BatchView,
    error::{BatchError, RecordFault},
    header::TimestampType,
    input::{Input, SliceInput, Stop},
};

/// One record; key, value and headers are slices of the (decompressed) batch.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// Offset in the log.
    pub offset: i64,
    /// Time in ms: the producer's, or the batch's append time.
    pub timestamp: i64,
    /// `None`: null.
    pub key: Option<&'a [u8]>,
    /// `None`: null, a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Name-value pairs.
    pub headers: RecordHeaders<'a>,
    /// Bytes that the record takes, its length field included.
    pub size: usize,
}

/// Iterates over a batch's records.
///
/// Offsets need not be dense: compaction leaves gaps. After an error nothing more comes.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    input: SliceInput<'a>,
    base_offset: i64,
    base_timestamp: i64,
    log_append_time: Option<i64>,
    index: i32,
    count: i32,
    failed: bool,
}

impl<'a> RecordIter<'a> {
    /// Iterates over `payload`, which is what [`decompress`](super::decompress) made of `batch`.
    pub fn new(batch: &BatchView<'_>, payload: &'a [u8]) -> Self {
        let log_append_time = match batch.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(batch.max_timestamp()),
        };
        Self {
            input: SliceInput::new(payload),
            base_offset: batch.base_offset(),
            base_timestamp: batch.base_timestamp(),
            log_append_time,
            index: 0,
            count: batch.record_count(),
            failed: false,
        }
    }

    fn read(&mut self) -> Result<Record<'a>, Stop> {
        let start = self.input.position();
        let length = usize::try_from(self.input.varint()?).map_err(|_| RecordFault::Size)?;
        let mut body = SliceInput::new(self.input.take(length)?);
        body.byte()?;
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        let key = nullable(&mut body)?;
        let value = nullable(&mut body)?;
        let count = body.varint()?;
        let headers = RecordHeaders::checked(count, body.rest())?;
        Ok(Record {
            offset: self.base_offset.wrapping_add(i64::from(offset_delta)),
            timestamp: self.log_append_time.unwrap_or(self.base_timestamp.wrapping_add(timestamp_delta)),
            key,
            value,
            headers,
            size: (self.input.position() - start) as usize,
        })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = if self.index < self.count {
            self.read().map_err(|stop| stop.at(self.index))
        } else if self.input.rest().is_empty() {
            return None;
        } else {
            Err(BatchError::BytesBehindRecords)
        };
        self.index = self.index.saturating_add(1);
        self.failed = item.is_err();
        Some(item)
    }
}

/// A record's headers, in the producer's order; names may repeat.
#[derive(Debug, Clone, Default)]
pub struct RecordHeaders<'a> {
    input: Option<SliceInput<'a>>,
    left: usize,
}

/// One header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// UTF-8 if the producer followed the protocol; nobody checks.
    pub key: &'a [u8],
    /// `None`: null.
    pub value: Option<&'a [u8]>,
}

impl<'a> RecordHeaders<'a> {
    /// Walks over all headers once, so that iterating cannot fail later.
    fn checked(count: i32, bytes: &'a [u8]) -> Result<Self, Stop> {
        let left = usize::try_from(count).map_err(|_| RecordFault::HeaderCount)?;
        let mut input = SliceInput::new(bytes);
        if left > bytes.len() / 2 {
            return Err(RecordFault::HeaderCount.into());
        }
        for _ in 0..left {
            header(&mut input)?;
        }
        if !input.at_end()? {
            return Err(RecordFault::Size.into());
        }
        Ok(Self { input: Some(SliceInput::new(bytes)), left })
    }
}

impl<'a> Iterator for RecordHeaders<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<RecordHeader<'a>> {
        self.left = self.left.checked_sub(1)?;
        header(self.input.as_mut()?).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for RecordHeaders<'_> {}

fn header<'a>(input: &mut SliceInput<'a>) -> Result<RecordHeader<'a>, Stop> {
    let length = usize::try_from(input.varint()?).map_err(|_| RecordFault::NegativeLength)?;
    Ok(RecordHeader { key: input.take(length)?, value: nullable(input)? })
}

fn nullable<'a>(input: &mut SliceInput<'a>) -> Result<Option<&'a [u8]>, Stop> {
    match input.varint()? {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length).map_err(|_| RecordFault::NegativeLength)?;
            Ok(Some(input.take(length)?))
        }
    }
}
