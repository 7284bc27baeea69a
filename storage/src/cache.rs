//! The shard's tail cache: the journal's commit buffers, kept after their write, and those of large batches that went straight to segments.
//!
//! Recent batches are read from here. A commit is pinned until all its batches are in synced segments; after that it may go, oldest first,
//! when the bound is passed. Cold reads never enter, so a consumer that reads from the beginning cannot evict the hot tail.
//! Pure: knows bytes, sequences and the indexes of the logs that a commit touched, nothing of journals or files.

use crate::{disk::FrozenBuf, log::tail::own_buffer_number};
use bytes::Bytes;
use std::collections::VecDeque;

/// The number of a log in its shard's table.
pub type LogIndex = u32;

#[derive(Debug)]
struct CachedCommit {
    seq: u64,
    /// `None` until the journal has frozen the buffer.
    data: Option<Bytes>,
    /// Large batches, which the commit only names.
    direct: Vec<DirectBuffer>,
    /// What keeping `data` and the others costs: the capacity of the whole buffers.
    retained_bytes: usize,
    /// Logs with a batch in this commit, each once.
    touched: Vec<LogIndex>,
}

/// A large batch, laid out as it lies in the blocks of its segment.
#[derive(Debug, Clone)]
pub struct DirectBuffer {
    /// The blocks.
    pub data: FrozenBuf,
    /// Where in the first block the batch begins.
    pub lead: usize,
    /// Its size.
    pub bytes: usize,
    /// Where in the segment it begins; `None` if what is before it in the first block is not the segment's.
    pub position: Option<u64>,
}

/// A log that lost cached batches: everything of commits up to `up_to` is gone from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evicted {
    /// The log.
    pub log: LogIndex,
    /// The newest evicted commit.
    pub up_to: u64,
}

/// Commits from the oldest still in memory to the one that is being filled.
#[derive(Debug, Default)]
pub struct CommitCache {
    commits: VecDeque<CachedCommit>,
    retained_bytes: usize,
    pinned_bytes: usize,
    released: u64,
}

impl CommitCache {
    /// Notes that `log` has a batch in commit `seq`. Sequences never decrease; a log is noted once per commit.
    pub fn touch(&mut self, seq: u64, log: LogIndex) {
        match self.commits.back_mut() {
            Some(c) if c.seq == seq => c.touched.push(log),
            last => {
                assert!(last.is_none_or(|c| c.seq < seq), "commit sequences only grow");
                self.commits.push_back(CachedCommit {
                    seq,
                    data: None,
                    direct: Vec::new(),
                    retained_bytes: 0,
                    touched: vec![log],
                });
            }
        }
    }

    /// The journal has frozen commit `seq`: its bytes can be read from now on. A commit that touched no log is not kept.
    pub fn freeze(&mut self, seq: u64, data: Bytes, retained_bytes: usize) {
        if let Some(i) = self.find(seq) {
            let commit = &mut self.commits[i];
            assert!(commit.data.is_none(), "a commit is frozen once");
            commit.data = Some(data);
            commit.retained_bytes += retained_bytes;
            self.retained_bytes += retained_bytes;
            self.pinned_bytes += retained_bytes;
        }
    }

    /// How many large batches commit `seq` names.
    pub fn direct_len(&self, seq: u64) -> usize {
        self.find(seq).map_or(0, |i| self.commits[i].direct.len())
    }

    /// Keeps a large batch that commit `seq` names; the log was noted before.
    pub fn put_direct(&mut self, seq: u64, buffer: DirectBuffer) {
        let i = self.find(seq).expect("a log was touched by the commit");
        self.commits[i].retained_bytes += buffer.data.capacity();
        self.retained_bytes += buffer.data.capacity();
        self.pinned_bytes += buffer.data.capacity();
        self.commits[i].direct.push(buffer);
    }

    /// The large batch at this place of commit `seq`, if it is one.
    pub fn direct(&self, seq: u64, at: u32) -> Option<&DirectBuffer> {
        let number = own_buffer_number(at)?;
        self.commits[self.find(seq)?].direct.get(number)
    }

    /// Part of commit `seq`, if it is frozen and still in memory; or a large batch.
    pub fn slice(&self, seq: u64, at: u32, len: u32) -> Option<Bytes> {
        if own_buffer_number(at).is_some() {
            let direct = self.direct(seq, at)?;
            return Some(direct.data.slice(direct.lead..direct.lead + direct.bytes));
        }
        let data = self.commits[self.find(seq)?].data.as_ref()?;
        Some(data.slice(at as usize..at as usize + len as usize))
    }

    /// The logs that commit `seq` touched.
    pub fn touched(&self, seq: u64) -> &[LogIndex] {
        self.find(seq).map_or(&[], |i| &self.commits[i].touched)
    }

    /// The commit at which the oldest pinned ones come to `bytes`; `None` if all together are less.
    pub fn pinned_prefix(&self, bytes: usize) -> Option<u64> {
        let mut sum = 0;
        let pinned = self.commits.iter().skip_while(|c| c.seq <= self.released);
        pinned
            .map(|c| {
                sum += c.retained_bytes;
                (c.seq, sum)
            })
            .find(|(_, sum)| *sum >= bytes)
            .map(|(seq, _)| seq)
    }

    /// Everything up to commit `up_to` is in synced segments and no longer pinned.
    pub fn release(&mut self, up_to: u64) {
        let newly = self.commits.iter().skip_while(|c| c.seq <= self.released).take_while(|c| c.seq <= up_to);
        self.pinned_bytes -= newly.map(|c| c.retained_bytes).sum::<usize>();
        self.released = self.released.max(up_to);
    }

    /// Drops released commits, oldest first, until at most `limit_bytes` are kept. Tells which logs lost batches.
    pub fn evict(&mut self, limit_bytes: usize) -> Vec<Evicted> {
        let mut evicted = Vec::new();
        while self.retained_bytes > limit_bytes
            && let Some(front) = self.commits.front()
            && front.seq <= self.released
        {
            let commit = self.commits.pop_front().expect("front exists");
            self.retained_bytes -= commit.retained_bytes;
            evicted.extend(commit.touched.into_iter().map(|log| Evicted { log, up_to: commit.seq }));
        }
        evicted
    }

    /// Bytes of buffers that are kept.
    pub fn retained_bytes(&self) -> usize {
        self.retained_bytes
    }

    /// Bytes of buffers that must be kept because the segments do not have them yet.
    pub fn pinned_bytes(&self) -> usize {
        self.pinned_bytes
    }

    /// Number of commits kept.
    pub fn len(&self) -> usize {
        self.commits.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    fn find(&self, seq: u64) -> Option<usize> {
        let first = self.commits.front()?.seq;
        // Sequences are contiguous unless a commit held no batch: guess, then search.
        let guess = seq.checked_sub(first)? as usize;
        if self.commits.get(guess).is_some_and(|c| c.seq == seq) {
            return Some(guess);
        }
        self.commits.binary_search_by_key(&seq, |c| c.seq).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> CommitCache {
        let mut c = CommitCache::default();
        for seq in [1, 2, 4, 5] {
            c.touch(seq, seq as u32);
            c.touch(seq, 9);
            c.freeze(seq, Bytes::from(vec![seq as u8; 100]), 128);
        }
        c
    }

    #[test]
    fn a_frozen_commit_is_found_by_its_sequence() {
        let mut c = filled();
        assert_eq!(c.slice(4, 10, 3).unwrap(), Bytes::from_static(&[4, 4, 4]));
        assert_eq!(c.touched(5), [5, 9]);
        assert!(c.slice(3, 0, 1).is_none());
        c.touch(6, 1);
        assert!(c.slice(6, 0, 1).is_none(), "not frozen yet");
        c.freeze(7, Bytes::new(), 1000);
        assert_eq!(c.retained_bytes(), 512, "a commit without batches is not kept");
    }

    #[test]
    fn only_released_commits_are_evicted_and_oldest_first() {
        let mut c = filled();
        assert!(c.evict(0).is_empty());
        assert_eq!((c.pinned_prefix(129), c.pinned_prefix(600)), (Some(2), None));
        c.release(2);
        assert_eq!(c.pinned_prefix(128), Some(4));
        assert_eq!(c.pinned_bytes(), 256);
        assert_eq!(c.evict(400), [Evicted { log: 1, up_to: 1 }, Evicted { log: 9, up_to: 1 }]);
        assert_eq!(c.evict(0), [Evicted { log: 2, up_to: 2 }, Evicted { log: 9, up_to: 2 }]);
        assert_eq!((c.retained_bytes(), c.len()), (256, 2));
        c.release(5);
        assert_eq!(c.pinned_bytes(), 0);
        c.release(5);
        assert_eq!(c.pinned_bytes(), 0);
    }
}
