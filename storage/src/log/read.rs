//! The read path: from memory if the batches are there, else one aligned direct read with read-ahead for sequential readers.
//!
//! A read that has to wait for the disk holds no lock: roll, retention, eviction, deletion and compaction go on meanwhile. What it planned is
//! checked again when a file turns out to be gone; an open file stays readable after it was unlinked, and bytes below a segment's size never
//! change. Only compaction puts another file under a name that was in use: a read that this happens to is done again.

use crate::{
    disk::{Disk, DiskFile},
    error::StorageError,
    log::{
        error::ReadError,
        partition::{LogInner, PartitionLog},
        read_ahead::ReadPosition,
        scan::batch_size_at,
        segment::SegmentMeta,
        state::{Availability, LogState},
    },
    store::shared::add,
    types::Offset,
};
use bytes::Bytes;
use protocol::records::BatchView;
use std::rc::Rc;

/// Most bytes that one read takes from a segment, unless a single batch is larger.
const MAX_COLD_READ_BYTES: usize = 2 << 20;
/// Least bytes that a read takes from a segment: smaller ones cost as much.
const MIN_COLD_READ_BYTES: usize = 64 << 10;

/// Whole batches of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOutcome {
    /// The batches, in pieces that may each hold several; exactly the bytes that were appended.
    pub slices: Vec<Bytes>,
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
struct Wanted {
    from: Offset,
    upper: Offset,
    max_bytes: usize,
    at_least_one: bool,
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
        let mut wanted = Wanted { from, upper, max_bytes, at_least_one };
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
            let read = self.inner.read_cold(&segment, is_active, wanted).await;
            if self.inner.was_disturbed(swaps) {
                continue;
            }
            match read {
                Ok(Some((outcome, position))) => {
                    if let Some(position) = position {
                        self.inner.shared.read_ahead.borrow_mut().put(position);
                    }
                    return Ok(outcome);
                }
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
    pub fn available_bytes(&self, from: Offset, upper: Offset, cap: usize) -> usize {
        let state = self.inner.state.borrow();
        if from >= upper || state.check_read(from).is_err() {
            return 0;
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
        bytes.min(cap)
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
        state.check_read(wanted.from)?;
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
        for batch in state.tail.from(wanted.from) {
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

    /// Whether compaction has begun to exchange segment files since there had been `swaps` exchanges: what was read meanwhile may be of files
    /// that do not belong together.
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

    /// Reads from a segment file; answers too where the reader has left off. `None`: the segment holds nothing at or after the wanted offset.
    async fn read_cold(
        &self,
        segment: &SegmentMeta,
        is_active: bool,
        wanted: Wanted,
    ) -> Result<Option<(ReadOutcome, Option<ReadPosition>)>, ReadError> {
        add(&self.shared.counters.cold_reads, 1);
        if segment.size == 0 {
            return Ok(None);
        }
        let left_off = self.shared.read_ahead.borrow_mut().take(self.index, wanted.from);
        let left_off = left_off
            .filter(|p| (p.segment_base, p.segment_revision) == (segment.base_offset, segment.revision));
        let is_sequential = left_off.is_some();
        let file = self.open_segment(segment).await?;
        let budget = wanted.max_bytes.clamp(MIN_COLD_READ_BYTES, MAX_COLD_READ_BYTES);
        let read_bytes = if is_sequential { budget.max(MAX_COLD_READ_BYTES / 2) } else { budget };
        let (mut position, mut chunk) = match left_off {
            Some(p) => (p.position, p.bytes),
            None => self.read_near(&file, segment, is_active, wanted.from, read_bytes).await?,
        };
        let mut take: Option<(usize, usize, Offset)> = None;
        let mut at = 0;
        loop {
            match BatchView::parse(&chunk[at..]) {
                Ok(batch) if last_offset(&batch) < wanted.from => at += batch.size(),
                Ok(batch) => {
                    let (start, end, _) = take.unwrap_or((at, at, wanted.from));
                    let is_first = start == end;
                    let fits =
                        end - start + batch.size() <= wanted.max_bytes || (is_first && wanted.at_least_one);
                    if !fits || last_offset(&batch) >= wanted.upper {
                        break;
                    }
                    at += batch.size();
                    take = Some((start, at, last_offset(&batch).next()));
                }
                // The chunk ends within a batch: that is enough, or the next piece has to be read.
                Err(_) => {
                    if take.is_some() {
                        break;
                    }
                    position += at as u64;
                    let rest = (segment.size - position.min(segment.size)) as usize;
                    if rest == 0 {
                        return Ok(None);
                    }
                    let available = chunk.len() - at;
                    let needed = batch_size_at(&chunk[at..]).unwrap_or(0);
                    let len = read_bytes.max(needed).min(rest);
                    if available >= len || needed > rest {
                        return Err(self.damaged(segment, position, "not a whole record batch").into());
                    }
                    chunk = file.read_at(position, len).await?;
                    at = 0;
                    if chunk.len() < len {
                        return Err(self.damaged(segment, position, "the file is too short").into());
                    }
                    if len > available && BatchView::parse(&chunk).is_err() && batch_size_at(&chunk).is_none()
                    {
                        return Err(self.damaged(segment, position, "not a record batch").into());
                    }
                }
            }
        }
        let Some((start, end, next_offset)) = take else {
            // The next batch is too large for the reader, or reaches beyond what it may see.
            let nothing = ReadOutcome { next_offset: wanted.from, ..ReadOutcome::default() };
            return Ok(Some((nothing, None)));
        };
        let slice = chunk.slice(start..end);
        let position = ReadPosition {
            log: self.index,
            next_offset,
            segment_base: segment.base_offset,
            segment_revision: segment.revision,
            position: position + end as u64,
            retained_bytes: if end < chunk.len() { chunk.len() } else { 0 },
            bytes: chunk.slice(end..),
        };
        let outcome = ReadOutcome { bytes: slice.len(), slices: vec![slice], next_offset };
        Ok(Some((outcome, Some(position))))
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

fn last_offset(batch: &BatchView<'_>) -> Offset {
    Offset(batch.last_offset())
}
