//! What a log knows of its large batches that go straight to the segment. Pure.

use crate::{
    disk::BLOCK,
    log::{
        segment::{self, NextBatch},
        state::LogState,
        tail::TailBatch,
    },
    types::Offset,
};
use std::collections::VecDeque;

/// The large batches of one log that are on their way to the segment.
#[derive(Debug, Default)]
pub(crate) struct DirectState {
    /// Those that are not safe yet, oldest first: the last offset, and the commit that waits for it.
    pub pending: VecDeque<(Offset, u64)>,
    /// The log's end, if a large batch is the last one.
    pub end: Option<DirectEnd>,
    /// Somebody writes them, or soon will.
    pub is_queued: bool,
}

/// Where a large batch at the log's end ends in the segment, if all goes as planned.
#[derive(Debug, Clone)]
pub(crate) struct DirectEnd {
    pub offset: Offset,
    pub position: u64,
    /// The segment's bytes from the last block boundary below `position` on.
    pub block: Vec<u8>,
}

/// Where the next batch is to lie in the active segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    pub position: u64,
}

impl Planned {
    /// How far into a block it begins.
    pub fn lead(self) -> usize {
        (self.position % BLOCK as u64) as usize
    }
}

impl LogState {
    /// The place of a batch that goes straight to the active segment behind all that the log holds already; `None` if the segment is not there, has to be
    /// closed first, or has no space reserved for that much.
    pub fn plan_direct(&self, next: NextBatch, jitter_seed: u64) -> Option<Planned> {
        if self.has_gaps {
            // Recovery takes over from segments what continues the log without a gap.
            return None;
        }
        let mut active = *self.segments.last()?;
        active.size += self.unwritten_bytes;
        // An entry for each batch would be the most that the index can grow by.
        let index_entries = self.active_index.len() + self.tail.len_from(self.written_end);
        let is_full = segment::should_roll(&active, index_entries, next, &self.config, jitter_seed);
        let end = active.size + u64::from(next.size);
        (!is_full && end <= self.preallocated).then_some(Planned { position: active.size })
    }

    /// The bytes of the segment in front of `planned` back to the block boundary, if they are known: those of a large batch that ends there.
    pub fn block_before(&self, planned: Planned) -> Option<&[u8]> {
        if planned.lead() == 0 {
            return Some(&[]);
        }
        let end = self.direct.as_ref()?.end.as_ref()?;
        (end.offset == self.log_end && end.position == planned.position).then_some(&end.block)
    }

    /// A large batch was appended in `commit`; its end is known if all of the block before it is.
    pub fn note_direct(&mut self, batch: &TailBatch, end: Option<DirectEnd>) {
        let direct = self.direct.get_or_insert_default();
        direct.pending.push_back((batch.last_offset(), batch.commit));
        direct.end = end;
    }

    /// Takes the commits that need not wait any longer: one for each large batch that is in the segment.
    pub fn take_safe(&mut self) -> Vec<u64> {
        let written_end = self.written_end;
        let Some(direct) = &mut self.direct else { return Vec::new() };
        let mut safe = Vec::new();
        while let Some((_, commit)) = direct.pending.pop_front_if(|(last, _)| *last < written_end) {
            safe.push(commit);
        }
        safe
    }

    /// Whether large batches wait for being written.
    pub fn has_pending_direct(&self) -> bool {
        self.direct.as_ref().is_some_and(|direct| !direct.pending.is_empty())
    }
}
