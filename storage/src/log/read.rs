//! The read path: from memory if the batches are there, else from segment files (`read_cold`).
//!
//! A read that has to wait for the disk holds no lock: roll, retention, eviction, deletion and compaction go on meanwhile. What it planned is
//! checked again when a file turns out to be gone; an open file stays readable after it was unlinked, and bytes below a segment's size never
//! change. Only compaction puts another file under a name that was in use: a read that this happens to is done again.

use crate::{
    disk::Disk,
    error::StorageError,
    log::{
        error::ReadError,
        partition::{LogInner, PartitionLog},
        segment::SegmentMeta,
        state::{Availability, LogState},
    },
    store::shared::add,
    types::Offset,
};
use bytes::Bytes;
use protocol::wire::Few;
use std::rc::Rc;

/// Whole batches of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOutcome {
    /// The batches, in pieces that may each hold several; exactly the bytes that were appended.
    pub slices: Few<Bytes>,
    /// Sum of the slices' lengths.
    pub bytes: usize,
    /// Where to read on: the offset after the last batch, or the offset asked for if there is none.
    pub next_offset: Offset,
}

/// What a read needs to do next.
enum Step {
    Done(ReadOutcome),
    /// Segment files are being exchanged.
    AfterSwap,
    /// Read from this segment, which holds offsets below `end`.
    Cold {
        segment: SegmentMeta,
        end: Offset,
        is_active: bool,
    },
}

/// What one read is after.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub from: Offset,
    pub upper: Offset,
    pub max_bytes: usize,
    pub at_least_one: bool,
    /// Also what lies before the log start offset and is still there.
    pub is_for_replica: bool,
}

impl LogState {
    /// Whether reads are served, and `offset` is within the log.
    pub(crate) fn check_read(&self, offset: Offset) -> Result<(), ReadError> {
        self.check_available()?;
        if offset < self.log_start || offset > self.log_end {
            return Err(ReadError::OffsetOutOfRange {
                offset,
                log_start_offset: self.log_start,
                log_end_offset: self.log_end,
            });
        }
        Ok(())
    }

    /// Whether reads of replicas are served, and `offset` is within what the log still has.
    pub(crate) fn check_held(&self, offset: Offset) -> Result<(), ReadError> {
        self.check_available()?;
        let first = self.first_batch_offset();
        if offset < first || offset > self.log_end {
            return Err(ReadError::OffsetOutOfRange {
                offset,
                log_start_offset: first,
                log_end_offset: self.log_end,
            });
        }
        Ok(())
    }

    /// Where the first batch begins that the log still has, or would begin.
    pub(crate) fn first_batch_offset(&self) -> Offset {
        let first = self.segments.first().map(|segment| segment.base_offset);
        first.or(self.tail.first_offset()).unwrap_or(self.log_end).min(self.log_start)
    }

    pub(crate) fn check_available(&self) -> Result<(), ReadError> {
        match &self.availability {
            Availability::Online => Ok(()),
            Availability::Offline(why) => Err(ReadError::Offline(why.clone())),
            Availability::Deleted => Err(ReadError::Deleted),
        }
    }

    /// Whether the batch with `offset` (or the next one) is in memory.
    pub(crate) fn is_in_memory(&self, offset: Offset) -> bool {
        offset >= self.written_end || self.tail.first_offset().is_some_and(|first| offset >= first)
    }
}

impl<D: Disk> PartitionLog<D> {
    /// Reads whole batches from the one that holds `from` on, up to but excluding those that reach `upper` (a high watermark or last stable
    /// offset), at most `max_bytes`; with `at_least_one` the first batch comes even if it is larger. Where the log has a gap, reading goes on
    /// behind it. Fewer bytes than there are may come back: the caller asks again at `next_offset`.
    ///
    /// Does not wait when the batches are in memory.
    ///
    /// # Errors
    /// [`ReadError::OffsetOutOfRange`] outside of log start and log end; see [`ReadError`].
    pub async fn read(
        &self,
        from: Offset,
        upper: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<ReadOutcome, ReadError> {
        self.read_wanted(Wanted { from, upper, max_bytes, at_least_one, is_for_replica: false }).await
    }

    /// As [`read`](Self::read), for another replica: from [`first_batch_offset`](Self::first_batch_offset) on. A replica has to have what lies in one batch, or one
    /// segment, with the log start offset.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_for_replica(
        &self,
        from: Offset,
        upper: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<ReadOutcome, ReadError> {
        self.read_wanted(Wanted { from, upper, max_bytes, at_least_one, is_for_replica: true }).await
    }

    async fn read_wanted(&self, mut wanted: Wanted) -> Result<ReadOutcome, ReadError> {
        let from = wanted.from;
        let mut vanished = None;
        loop {
            let (segment, end, is_active) = match self.inner.plan_read(wanted)? {
                Step::Done(outcome) => {
                    return Ok(ReadOutcome { next_offset: outcome.next_offset.max(from), ..outcome });
                }
                Step::AfterSwap => {
                    self.inner.swap_over().await;
                    continue;
                }
                Step::Cold { segment, end, is_active } => (segment, end, is_active),
            };
            let swaps = self.inner.state.borrow().swaps;
            let read = self.inner.read_cold(&segment, is_active, swaps, wanted).await;
            if self.inner.was_disturbed(swaps) {
                continue;
            }
            match read {
                Ok(Some(outcome)) => return Ok(outcome),
                // The rest of the segment holds nothing at or after `from`: go on behind it.
                Ok(None) => wanted.from = end.max(wanted.from.next()),
                // Retention was faster. The next plan will see it; if not, the file is really missing.
                Err(ReadError::Storage(StorageError::Disk(error)))
                    if error.is_not_found() && vanished != Some(segment.base_offset) =>
                {
                    vanished = Some(segment.base_offset);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes of whole batches from `from` to `upper`, counted up to `cap`. Exact in memory, an estimate for what is only in segments.
    ///
    /// # Errors
    /// Why `from` cannot be read, as [`read`](Self::read) would tell.
    pub fn available_bytes(&self, from: Offset, upper: Offset, cap: usize) -> Result<usize, ReadError> {
        let state = self.inner.state.borrow();
        state.check_read(from)?;
        if from >= upper {
            return Ok(0);
        }
        let mut bytes = 0;
        let mut tail_from = from;
        if !state.is_in_memory(from) {
            let tail_start = state.tail.first_offset().unwrap_or(state.written_end);
            bytes += cold_bytes(&state, from, upper.min(tail_start));
            tail_from = tail_start;
        }
        for batch in state.tail.from(tail_from) {
            if bytes >= cap || batch.end_offset() > upper {
                break;
            }
            bytes += batch.size as usize;
        }
        Ok(bytes.min(cap))
    }
}

/// About how many bytes of segments lie between two offsets; at least 1 if any.
fn cold_bytes(state: &LogState, from: Offset, to: Offset) -> usize {
    let mut bytes = 0u64;
    for (i, segment) in state.segments.iter().enumerate() {
        let end = state.segments.get(i + 1).map_or(state.written_end, |s| s.base_offset);
        let overlap = end.min(to) - segment.base_offset.max(from);
        if overlap > 0 {
            let span = (end - segment.base_offset).max(1);
            bytes += (segment.size as u128 * overlap as u128 / span as u128) as u64;
        }
    }
    if to > from { bytes.max(1) as usize } else { 0 }
}

impl<D: Disk> LogInner<D> {
    fn plan_read(&self, wanted: Wanted) -> Result<Step, ReadError> {
        let state = self.state.borrow();
        match wanted.is_for_replica {
            true => state.check_held(wanted.from)?,
            false => state.check_read(wanted.from)?,
        }
        if wanted.from >= wanted.upper {
            return Ok(Step::Done(ReadOutcome { next_offset: wanted.from, ..ReadOutcome::default() }));
        }
        if state.is_in_memory(wanted.from) {
            add(&self.shared.counters.cache_reads, 1);
            return Ok(Step::Done(self.read_memory(&state, wanted)));
        }
        if state.is_swapping {
            return Ok(Step::AfterSwap);
        }
        let Some((segment, end)) = state.segment_for(wanted.from) else {
            return Ok(Step::Done(self.read_memory(&state, wanted)));
        };
        let is_active = state.segments.last().is_some_and(|s| s.base_offset == segment.base_offset);
        Ok(Step::Cold { segment, end, is_active })
    }

    fn read_memory(&self, state: &LogState, wanted: Wanted) -> ReadOutcome {
        let cache = self.shared.cache.borrow();
        let mut outcome = ReadOutcome { next_offset: wanted.from, ..ReadOutcome::default() };
        let mut batches = state.tail.from(wanted.from).peekable();
        if let Some(first) = batches.peek() {
            let fitting = wanted.max_bytes / first.size.max(1) as usize;
            outcome.slices.reserve(fitting.clamp(1, batches.len()));
        }
        for batch in batches {
            let fits = outcome.bytes + batch.size as usize <= wanted.max_bytes
                || (outcome.bytes == 0 && wanted.at_least_one);
            if !fits || batch.end_offset() > wanted.upper {
                break;
            }
            // A commit that is not being written yet cannot be read yet.
            let Some(slice) = cache.slice(batch.commit, batch.at, batch.size) else { break };
            outcome.bytes += slice.len();
            outcome.slices.push(slice);
            outcome.next_offset = batch.end_offset();
        }
        outcome
    }

    /// Waits until compaction is not exchanging segment files of this log.
    pub(crate) async fn swap_over(&self) {
        self.shared.swapped.wait_until(|| !self.state.borrow().is_swapping).await;
    }

    /// Whether an exchange of segment files has begun since there had been `swaps` of them, by compaction or because the log's end is cut off: what was read
    /// meanwhile may be of files that do not belong together, or gone. Nothing of it may be kept for others.
    pub(crate) fn was_disturbed(&self, swaps: u64) -> bool {
        let state = self.state.borrow();
        state.is_swapping || state.swaps != swaps
    }

    /// Looks something up in segment files, again if compaction exchanges them meanwhile.
    pub(crate) async fn undisturbed<R>(
        &self,
        mut look_up: impl AsyncFnMut() -> Result<R, ReadError>,
    ) -> Result<R, ReadError> {
        loop {
            self.swap_over().await;
            let swaps = self.state.borrow().swaps;
            let found = look_up().await;
            if !self.was_disturbed(swaps) {
                return found;
            }
        }
    }

    /// The open file of a segment.
    pub(crate) async fn open_segment(&self, segment: &SegmentMeta) -> Result<Rc<D::File>, ReadError> {
        let shared = &self.shared;
        let path = || self.segment_file(segment.base_offset, "log");
        Ok(shared.files.open(&shared.disk, self.segment_key(segment), path).await?)
    }

    pub(crate) fn damaged(&self, segment: &SegmentMeta, position: u64, what: &str) -> StorageError {
        StorageError::Corrupt {
            path: self.segment_file(segment.base_offset, "log"),
            position,
            what: what.to_owned(),
            partitions: vec![self.id],
        }
    }
}
