//! Look-ups by timestamp (ListOffsets; KIP-79, KIP-734).

use crate::{
    disk::Disk,
    log::{
        error::ReadError,
        partition::{LogInner, PartitionLog},
        scan::{ScanEnd, scan_batches},
        segment::SegmentMeta,
    },
    types::{LeaderEpoch, Offset},
};
use protocol::records::{BatchView, RecordIter, decompress};
use std::ops::ControlFlow;

/// Most bytes that the records of one batch may take when they are decompressed for a look-up.
const MAX_DECOMPRESSED_BYTES: usize = 256 << 20;

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// Its timestamp. Milliseconds.
    pub timestamp: i64,
    /// Its offset.
    pub offset: Offset,
    /// The epoch under which it was appended.
    pub leader_epoch: LeaderEpoch,
}

impl<D: Disk> PartitionLog<D> {
    /// The first record, from the log start on, whose timestamp is at least `timestamp`. The caller compares it with the high watermark.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampedOffset>, ReadError> {
        let at_least = |t| t >= timestamp;
        self.inner.undisturbed(async || self.first_record(at_least, at_least, Some(timestamp)).await).await
    }

    /// The first record with the largest timestamp of the log; `None` if no record has one.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn max_timestamp(&self) -> Result<Option<TimestampedOffset>, ReadError> {
        self.inner.undisturbed(async || self.find_max_timestamp().await).await
    }

    async fn find_max_timestamp(&self) -> Result<Option<TimestampedOffset>, ReadError> {
        let mut largest = -1;
        let segments = self.inner.readable_segments()?;
        for (segment, is_active) in &segments {
            largest = largest.max(self.inner.largest_timestamp(segment, *is_active).await?);
        }
        {
            let state = self.inner.state.borrow();
            let unwritten = state.tail.from(state.written_end).map(|b| b.max_timestamp);
            largest = unwritten.fold(largest, i64::max);
        }
        if largest < 0 {
            return Ok(None);
        }
        let is_largest = |t| t >= largest;
        self.first_record(is_largest, is_largest, Some(largest)).await
    }

    async fn first_record(
        &self,
        is_batch: impl Fn(i64) -> bool,
        is_record: impl Fn(i64) -> bool,
        search: Option<i64>,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let inner = &self.inner;
        for (segment, is_active) in inner.readable_segments()? {
            if !is_batch(inner.largest_timestamp(&segment, is_active).await?) {
                continue;
            }
            let log_start = inner.state.borrow().log_start;
            let base = segment.base_offset;
            let position = inner
                .with_index(&segment, is_active, |index| match search {
                    Some(t) => {
                        index.position_floor(base, index.offset_before_timestamp(base, t).max(log_start))
                    }
                    None => 0,
                })
                .await?;
            let file = inner.open_segment(&segment).await?;
            let mut found = Ok(None);
            let scanned = scan_batches(&*file, position, segment.size, |_, batch| {
                if !is_batch(batch.max_timestamp()) {
                    return ControlFlow::Continue(());
                }
                found = record_in(batch, log_start, &is_record);
                if matches!(found, Ok(None)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .await?;
            if let ScanEnd::NotABatch(_) = scanned.end {
                return Err(inner.damaged(&segment, scanned.position, "not a record batch").into());
            }
            match found {
                Ok(None) => {}
                Ok(some) => return Ok(some),
                Err(what) => return Err(inner.damaged(&segment, scanned.position, &what).into()),
            }
        }
        Ok(inner.record_in_tail(is_batch, is_record))
    }
}

impl<D: Disk> LogInner<D> {
    /// The segments that hold something at or above the log start, and whether each is the active one.
    fn readable_segments(&self) -> Result<Vec<(SegmentMeta, bool)>, ReadError> {
        let state = self.state.borrow();
        state.check_available()?;
        let last = state.segments.len();
        let mut segments = Vec::with_capacity(last);
        for (i, segment) in state.segments.iter().enumerate() {
            let end = state.segments.get(i + 1).map_or(state.written_end, |s| s.base_offset);
            if segment.size > 0 && end > state.log_start {
                segments.push((*segment, i + 1 == last));
            }
        }
        Ok(segments)
    }

    /// Largest timestamp of a segment, -1 if none; read from its index if it is not known.
    pub(crate) async fn largest_timestamp(
        &self,
        segment: &SegmentMeta,
        is_active: bool,
    ) -> Result<i64, ReadError> {
        if let Some(known) = segment.max_timestamp {
            return Ok(known);
        }
        let found =
            self.with_index(segment, is_active, |i| i.max_timestamp().map_or(-1, |m| m.timestamp)).await?;
        let mut state = self.state.borrow_mut();
        if let Some(meta) = state.segments.iter_mut().find(|s| s.base_offset == segment.base_offset)
            && meta.max_timestamp.is_none()
            && (meta.size, meta.revision) == (segment.size, segment.revision)
        {
            meta.max_timestamp = Some(found);
        }
        Ok(found)
    }

    /// Looks through the batches that are not in a segment.
    fn record_in_tail(
        &self,
        is_batch: impl Fn(i64) -> bool,
        is_record: impl Fn(i64) -> bool,
    ) -> Option<TimestampedOffset> {
        let state = self.state.borrow();
        let cache = self.shared.cache.borrow();
        let candidates = state.tail.from(state.written_end).filter(|b| is_batch(b.max_timestamp));
        candidates
            .filter_map(|b| cache.slice(b.commit, b.at, b.size))
            .find_map(|bytes| record_in(&BatchView::parse(&bytes).ok()?, state.log_start, &is_record).ok()?)
    }
}

/// The first record of a batch at or above `from` whose timestamp is wanted.
fn record_in(
    batch: &BatchView<'_>,
    from: Offset,
    is_record: impl Fn(i64) -> bool,
) -> Result<Option<TimestampedOffset>, String> {
    let payload = decompress(batch, MAX_DECOMPRESSED_BYTES).map_err(|e| e.to_string())?;
    for record in RecordIter::new(batch, &payload) {
        let record = record.map_err(|e| e.to_string())?;
        if record.offset >= from.0 && is_record(record.timestamp) {
            return Ok(Some(TimestampedOffset {
                timestamp: record.timestamp,
                offset: Offset(record.offset),
                leader_epoch: LeaderEpoch(batch.leader_epoch()),
            }));
        }
    }
    Ok(None)
}
