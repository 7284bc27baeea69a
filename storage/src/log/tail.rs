//! The part of a partition that is in memory: where each recent batch lies in the journal's commit buffers. Pure.

use crate::types::Offset;
use std::collections::VecDeque;

/// A batch in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailBatch {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Sequence of the commit that holds it.
    pub commit: u64,
    /// Its largest timestamp. Milliseconds.
    pub max_timestamp: i64,
    /// Offset of its last record minus `base_offset`.
    pub last_offset_delta: u32,
    /// Where it starts in the commit's buffer, in bytes; or [`own_buffer`].
    pub at: u32,
    /// Its size. Bytes.
    pub size: u32,
}

/// Set in [`TailBatch::at`] of a batch that has a buffer of its own.
const OWN_BUFFER: u32 = 1 << 31;

/// The place of a batch in the `number`-th of the buffers that a commit's large batches have for themselves.
pub(crate) fn own_buffer(number: usize) -> u32 {
    OWN_BUFFER | number as u32
}

/// The number of the buffer that [`own_buffer`] made this place of.
pub(crate) fn own_buffer_number(at: u32) -> Option<usize> {
    (at & OWN_BUFFER != 0).then_some((at & !OWN_BUFFER) as usize)
}

impl TailBatch {
    /// Whether it went straight to the segment, and has a buffer of its own in memory.
    pub(crate) fn has_own_buffer(&self) -> bool {
        own_buffer_number(self.at).is_some()
    }

    /// Offset of its last record.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0 + self.last_offset_delta as i64)
    }

    /// Offset after its last record.
    pub fn end_offset(&self) -> Offset {
        Offset(self.last_offset().0 + 1)
    }
}

/// Batches in memory, in order of offset, from the oldest that is cached to the log end.
#[derive(Debug, Default)]
pub struct Tail {
    batches: VecDeque<TailBatch>,
}

impl Tail {
    /// Adds the newest batch.
    pub fn push(&mut self, batch: TailBatch) {
        debug_assert!(self.batches.back().is_none_or(|b| b.end_offset() <= batch.base_offset));
        self.batches.push_back(batch);
    }

    /// Offset of the first record in memory.
    pub fn first_offset(&self) -> Option<Offset> {
        self.batches.front().map(|b| b.base_offset)
    }

    /// The batches whose last offset is at or after `offset`, oldest first. Found by binary search.
    pub fn from(&self, offset: Offset) -> impl ExactSizeIterator<Item = &TailBatch> + '_ {
        let first = self.batches.partition_point(|b| b.last_offset() < offset);
        self.batches.range(first..)
    }

    /// The newest batch in memory.
    pub fn last(&self) -> Option<&TailBatch> {
        self.batches.back()
    }

    /// The number of batches whose last offset is at or after `offset`.
    pub fn len_from(&self, offset: Offset) -> usize {
        self.batches.len() - self.batches.partition_point(|b| b.last_offset() < offset)
    }

    /// Offset after the last batch that `commit` or an older one holds.
    pub fn end_of_commit(&self, commit: u64) -> Option<Offset> {
        let next = self.batches.partition_point(|b| b.commit <= commit);
        Some(self.batches.get(next.checked_sub(1)?)?.end_offset())
    }

    /// Forgets batches of commits up to `commit`, and memory that an idle partition does not need.
    pub fn evict_through(&mut self, commit: u64) {
        while self.batches.front().is_some_and(|b| b.commit <= commit) {
            self.batches.pop_front();
        }
        if self.batches.is_empty() {
            self.batches = VecDeque::new();
        } else if self.batches.len() * 4 < self.batches.capacity() && self.batches.capacity() > 64 {
            self.batches.shrink_to(self.batches.len() * 2);
        }
    }

    /// Forgets batches that lie wholly below `offset`; they are in segments.
    pub fn forget_below(&mut self, offset: Offset) {
        while self.batches.front().is_some_and(|b| b.last_offset() < offset) {
            self.batches.pop_front();
        }
    }

    /// Bytes of memory held by the entries.
    pub fn heap_bytes(&self) -> usize {
        self.batches.capacity() * size_of::<TailBatch>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail() -> Tail {
        let mut t = Tail::default();
        for (i, (base, delta)) in [(10, 4), (15, 0), (20, 9)].into_iter().enumerate() {
            t.push(TailBatch {
                base_offset: Offset(base),
                commit: i as u64 + 1,
                max_timestamp: 0,
                last_offset_delta: delta,
                at: 0,
                size: 100,
            });
        }
        t
    }

    fn first_from(t: &Tail, offset: i64) -> Option<i64> {
        t.from(Offset(offset)).next().map(|b| b.base_offset.0)
    }

    #[test]
    fn a_search_finds_the_batch_that_holds_the_offset_or_the_next_after_a_gap() {
        let t = tail();
        for (wanted, found) in [(0, 10), (10, 10), (14, 10), (15, 15), (16, 20), (19, 20), (29, 20)] {
            assert_eq!(first_from(&t, wanted), Some(found), "{wanted}");
        }
        assert_eq!(first_from(&t, 30), None);
    }

    #[test]
    fn eviction_takes_the_batches_of_old_commits() {
        let mut t = tail();
        t.evict_through(2);
        assert_eq!(t.first_offset(), Some(Offset(20)));
        t.evict_through(3);
        assert_eq!(t.first_offset(), None);
        assert_eq!(t.heap_bytes(), 0);
    }
}
