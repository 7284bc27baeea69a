//! The state of one partition's log in memory, and the only places where it changes.

use crate::{
    log::{
        config::LogConfig,
        direct::DirectState,
        index::{IndexedBatch, SegmentIndex},
        leader_epoch::LeaderEpochCache,
        producer_state::{ProducerBatch, ProducerStates},
        segment::SegmentMeta,
        tail::{Tail, TailBatch},
    },
    store::{
        checkpoint::PartitionCheckpoint, config::HighWatermarkMode, flush_policy::Unsynced,
        recover_log::Findings,
    },
    types::{LeaderEpoch, Offset},
    wake::WakeList,
};
use std::rc::Rc;

/// The offsets of a log, all at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOffsets {
    /// The first offset that may be read.
    pub log_start_offset: Offset,
    /// The offset that the next record gets.
    pub log_end_offset: Offset,
    /// Everything below is durable here.
    pub durable_end_offset: Offset,
    /// Everything below is committed and may be read by consumers.
    pub high_watermark: Offset,
    /// Everything below belongs to no open transaction.
    pub last_stable_offset: Offset,
}

/// Why a log does not serve.
#[derive(Debug, Clone, Default)]
pub(crate) enum Availability {
    #[default]
    Online,
    /// Its data is damaged: the message says where.
    Offline(Rc<str>),
    /// It is being deleted, or is gone.
    Deleted,
}

/// A batch that has been placed in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlacedBatch {
    pub tail: TailBatch,
    pub leader_epoch: LeaderEpoch,
    pub producer: Option<ProducerBatch>,
}

#[derive(Debug)]
pub(crate) struct LogState {
    pub config: Rc<LogConfig>,
    pub availability: Availability,
    pub log_start: Offset,
    pub log_end: Offset,
    pub durable_end: Offset,
    pub high_watermark: Offset,
    pub high_watermark_mode: HighWatermarkMode,
    /// Up to where replication has said that all is committed; what of it is not durable here waits for that.
    pub committed_end: Offset,
    /// Everything below can be read from segment files. From here on batches exist in memory (and in the journal).
    pub written_end: Offset,
    pub leader_epochs: LeaderEpochCache,
    /// Producers as of the log end.
    pub producers: ProducerStates,
    /// Producers as of `written_end`, for the checkpoint; `None` while that is the same.
    pub written_producers: Option<ProducerStates>,
    pub tail: Tail,
    /// In order of offset; the last one is active. Empty until the first flush.
    pub segments: Vec<SegmentMeta>,
    /// Index of the active segment, possibly only of its later part.
    pub active_index: SegmentIndex,
    /// How far the active segment's file has been preallocated. Bytes.
    pub preallocated: u64,
    /// Bytes of batches that are not in segment files.
    pub unwritten_bytes: u64,
    /// Everything below was compacted: each key occurs there once.
    pub clean_end: Offset,
    /// Compaction is putting new segment files in the place of old ones, or the log's end is being cut off: nobody should open any meanwhile.
    pub is_swapping: bool,
    /// How often that has happened.
    pub swaps: u64,
    /// How often the log's end was cut off.
    pub cuts: u64,
    /// Why compaction leaves this log alone until the next start, if it does.
    pub uncleanable: Option<Rc<str>>,
    /// What may have been written and not synced.
    pub unsynced: Unsynced,
    /// The commit that last touched this log.
    pub last_commit: u64,
    /// Up to this commit the journal has nothing to add to the segments; 0 if the log was never cut.
    pub journal_from: u64,
    /// Batches were appended behind a gap: what the segments hold behind the checkpoint may not be all that continues the log.
    pub has_gaps: bool,
    /// The log's end is being cut off: nothing is appended meanwhile.
    pub is_being_cut: bool,
    /// Directory and metadata file exist.
    pub has_directory: bool,
    /// It waits in the shard's list of logs to be flushed.
    pub is_dirty: bool,
    pub waiters: WakeList,
    /// Large batches that go straight to the segment, if there have been any.
    pub direct: Option<Box<DirectState>>,
    /// What the recovery of the segments has found and the rest of it needs.
    pub findings: Option<Box<Findings>>,
    /// Of a log that is offline: what was known of it before.
    pub last_checkpoint: Option<Box<PartitionCheckpoint>>,
}

impl LogState {
    pub fn new(config: Rc<LogConfig>) -> Self {
        Self {
            config,
            availability: Availability::Online,
            log_start: Offset(0),
            log_end: Offset(0),
            durable_end: Offset(0),
            high_watermark: Offset(0),
            high_watermark_mode: HighWatermarkMode::default(),
            committed_end: Offset(0),
            written_end: Offset(0),
            last_checkpoint: None,
            leader_epochs: LeaderEpochCache::default(),
            producers: ProducerStates::default(),
            written_producers: None,
            tail: Tail::default(),
            segments: Vec::new(),
            active_index: SegmentIndex::default(),
            preallocated: 0,
            unwritten_bytes: 0,
            clean_end: Offset(0),
            is_swapping: false,
            swaps: 0,
            cuts: 0,
            uncleanable: None,
            unsynced: Unsynced::default(),
            last_commit: 0,
            journal_from: 0,
            has_gaps: false,
            is_being_cut: false,
            has_directory: false,
            is_dirty: false,
            waiters: WakeList::default(),
            direct: None,
            findings: None,
        }
    }

    /// A batch goes to the log's end. Used alike when live and when the journal is replayed.
    pub fn note_appended(&mut self, batch: &PlacedBatch) {
        assert!(batch.tail.base_offset >= self.log_end, "batches are appended in order");
        self.has_gaps |= batch.tail.base_offset > self.log_end;
        self.leader_epochs.assign(batch.leader_epoch, batch.tail.base_offset);
        if let Some(producer) = &batch.producer {
            if self.written_producers.is_none() {
                self.written_producers = Some(self.producers.clone());
            }
            self.producers.apply(producer);
        }
        self.tail.push(batch.tail);
        self.log_end = batch.tail.end_offset();
        self.unwritten_bytes += batch.tail.size as u64;
    }

    /// Everything below `end` is durable.
    pub fn note_durable(&mut self, end: Offset) {
        self.durable_end = self.durable_end.max(end);
        assert!(self.durable_end <= self.log_end, "nothing is durable that was not appended");
        match self.high_watermark_mode {
            HighWatermarkMode::FollowsDurableEnd => self.advance_high_watermark(self.durable_end),
            HighWatermarkMode::Replicated => self.advance_high_watermark(self.committed_end),
        };
    }

    /// Moves the high watermark forward, never back and never past what is durable here: the rest follows when that is. Answers whether it moved.
    pub fn advance_high_watermark(&mut self, to: Offset) -> bool {
        self.committed_end = self.committed_end.max(to);
        let to = to.min(self.durable_end);
        if to <= self.high_watermark {
            return false;
        }
        self.high_watermark = to;
        self.waiters.wake_all();
        true
    }

    /// A batch was written to the active segment at its end.
    pub fn note_written(&mut self, batch: &TailBatch, producer: Option<&ProducerBatch>) {
        assert!(batch.base_offset >= self.written_end, "batches are written in order");
        let interval = self.config.index_interval_bytes;
        let active = self.segments.last_mut().expect("a segment was opened before the write");
        let indexed = IndexedBatch {
            base_offset: batch.base_offset,
            position: active.size,
            size: batch.size,
            max_timestamp: batch.max_timestamp,
        };
        self.active_index.note(active.base_offset, indexed, interval);
        active.note(batch.size, batch.max_timestamp);
        self.written_end = batch.end_offset();
        self.unwritten_bytes -= batch.size as u64;
        if let (Some(states), Some(producer)) = (&mut self.written_producers, producer) {
            states.apply(producer);
        }
        if self.written_end == self.log_end {
            self.written_producers = None;
        }
    }

    /// Producers as of `written_end`.
    pub fn producers_as_written(&self) -> &ProducerStates {
        self.written_producers.as_ref().unwrap_or(&self.producers)
    }

    /// Opens an empty segment at `written_end` behind the others.
    pub fn push_segment(&mut self) {
        self.segments.push(SegmentMeta::new(self.written_end));
        self.active_index = SegmentIndex::default();
        self.preallocated = 0;
    }

    /// Last stable offset; without transactions that is the high watermark.
    pub fn last_stable_offset(&self) -> Offset {
        self.high_watermark
    }

    pub fn offsets(&self) -> LogOffsets {
        LogOffsets {
            log_start_offset: self.log_start,
            log_end_offset: self.log_end,
            durable_end_offset: self.durable_end,
            high_watermark: self.high_watermark,
            last_stable_offset: self.last_stable_offset(),
        }
    }

    /// Bytes of all batches, on disk or not yet.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.size).sum::<u64>() + self.unwritten_bytes
    }

    /// Number of the segment that may hold `offset`, and the offset where it ends.
    pub fn segment_for(&self, offset: Offset) -> Option<(SegmentMeta, Offset)> {
        let next = self.segments.partition_point(|s| s.base_offset <= offset);
        // An offset below the first segment belongs to it: the log may start in a gap.
        let at = next.saturating_sub(1);
        let end = self.segments.get(at + 1).map_or(self.written_end, |s| s.base_offset);
        Some((*self.segments.get(at)?, end))
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.tail.heap_bytes()
            + self.segments.capacity() * size_of::<SegmentMeta>()
            + self.active_index.heap_bytes()
            + self.producers.heap_bytes()
            + self.written_producers.as_ref().map_or(0, ProducerStates::heap_bytes)
            + self.leader_epochs.entries().len() * 16
            + self.waiters.heap_bytes()
    }
}
