//! What goes into the journal and what comes back: entries, their places, and the events of their commits.

use super::{checksum, config::Durability};
use crate::{
    disk::FrozenBuf,
    error::DiskError,
    types::{LeaderEpoch, Offset, TopicIdPartition},
};
use std::{fmt, ops::Range};

/// The number of a commit: 1 for a journal's first, then without holes, also across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitSeq(pub u64);

impl CommitSeq {
    /// Before the first commit.
    pub const NONE: CommitSeq = CommitSeq(0);

    /// The commit that follows.
    pub const fn next(self) -> CommitSeq {
        CommitSeq(self.0 + 1)
    }
}

impl fmt::Display for CommitSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a life of a ring file: grows each time a file is taken into use again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileSeq(pub u64);

impl fmt::Display for FileSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A record batch; the payload is the batch as consumers receive it.
    Batch = 1,
    /// The log was cut to `base_offset` (its new end).
    Truncate = 2,
    /// The log start offset moved to `base_offset`.
    LogStartOffset = 3,
    /// The high watermark was `base_offset`.
    HighWatermark = 4,
    /// The partition was deleted: everything before this entry is void.
    PartitionDeleted = 5,
    /// A record batch that is in its segment, durably, since before this entry's commit was written; the payload is its [`batch_summary`].
    BatchInSegment = 6,
    /// A record batch as with `Batch`, before which the log has a gap: the leader has it so from compaction.
    BatchAfterGap = 7,
}

/// What the journal keeps of a batch that is in its segment: length and CRC-32C of all of it, both little-endian.
pub(crate) fn batch_summary(batch: &[u8]) -> [u8; 8] {
    let mut summary = [0; 8];
    summary[..4].copy_from_slice(&(batch.len() as u32).to_le_bytes());
    summary[4..].copy_from_slice(&checksum::of_payload(EntryKind::Batch, batch).to_le_bytes());
    summary
}

impl EntryKind {
    /// The kind with this number, if there is one.
    pub fn from_u8(kind: u8) -> Option<Self> {
        [
            Self::Batch,
            Self::Truncate,
            Self::LogStartOffset,
            Self::HighWatermark,
            Self::PartitionDeleted,
            Self::BatchInSegment,
            Self::BatchAfterGap,
        ]
        .into_iter()
        .find(|known| *known as u8 == kind)
    }
}

/// An entry without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// What the entry says.
    pub kind: EntryKind,
    /// Whom it is about.
    pub partition: TopicIdPartition,
    /// A batch's first offset; of the other kinds, the offset that they are about.
    pub base_offset: Offset,
    /// A batch's last offset; equal to `base_offset` in the other kinds.
    pub last_offset: Offset,
    /// The leader epoch in which it was written.
    pub leader_epoch: LeaderEpoch,
}

/// Where an entry's payload lies in its commit's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The first byte, from the start of the commit.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Location {
    /// The bytes of the commit's buffer that hold the payload: for [`FrozenBuf::slice`].
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// The answer to an append: it will be durable when `commit` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the commit must be waited for before anything is acknowledged"]
pub struct Appended {
    /// The commit that carries the entry.
    pub commit: CommitSeq,
    /// The payload's place in the commit's buffer.
    pub location: Location,
}

/// A commit whose content is final.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Its number.
    pub seq: CommitSeq,
    /// The file that it goes to.
    pub file_seq: FileSeq,
    /// Its bytes; `location.range()` of an entry's [`Location`] is the payload. Padding and pool rounding may follow them.
    pub buffer: FrozenBuf,
    /// How much of the buffer is used, in whole blocks.
    pub bytes: usize,
    /// What [`JournalEvent::Done`] will mean for it.
    pub durability: Durability,
}

/// What the journal tells its observer, in commit order: `Started` and then `Done` for each commit, or `Failed` once and then nothing.
#[derive(Clone, Debug)]
pub enum JournalEvent {
    /// The commit is being written: its buffer is final and may be sliced. Nothing in it is durable yet.
    Started(Commit),
    /// The commit is as durable as its appends asked for, and so is everything before it. Waiters of [`super::Journal::durable`]
    /// are woken after the observer returns.
    Done(Commit),
    /// A file has become ready to be written: who was refused for want of one may try again. Comes at any time.
    FileReady,
    /// A write or sync failed; nothing that is not `Done` will ever be.
    Failed(DiskError),
}

/// How full the ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// Files that hold commits that were not released, with the one being written.
    pub used_files: usize,
    /// Files ready to be written, or soon (being recycled or created).
    pub free_files: usize,
    /// What the current file and those that are ready can still take without waiting for another one.
    pub ready_bytes: u64,
    /// How many files there may be.
    pub max_files: usize,
    /// Bytes of commits in the used files.
    pub used_bytes: u64,
    /// What all files up to `max_files` can hold.
    pub capacity_bytes: u64,
    /// Bytes that wait to be written: the open commit and those queued behind the one in flight.
    pub waiting_bytes: u64,
    /// The oldest commit that was not released. The flusher frees a file by releasing through [`Pressure::oldest_file_last`].
    pub oldest_unreleased: CommitSeq,
    /// The last commit of the oldest used file, if that file is complete.
    pub oldest_file_last: Option<CommitSeq>,
}

impl Pressure {
    /// Used part of the present ring, 0 to 1: 1 means that the next file is not there yet.
    pub fn fullness(&self) -> f64 {
        self.used_files as f64 / (self.used_files + self.free_files).max(1) as f64
    }
}
