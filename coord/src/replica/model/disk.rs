//! A log on a simulated disk.

use std::collections::VecDeque;

use storage::Offset;
use storage::log::leader_epoch::EpochEntry;

use super::super::{BatchSpan, LogGeneration, LogPositions};

/// A batch; the number tells batches apart that lie at the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) span: BatchSpan,
    pub(super) number: u64,
}

/// What a log consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) start: i64,
    pub(super) batches: Vec<Batch>,
}

#[derive(Debug, Clone, Copy)]
enum Write {
    Append(Batch),
    Truncate(Offset),
    RestartAt(Offset),
    AdvanceStart(Offset),
}

impl Content {
    pub(super) fn end(&self) -> Offset {
        self.batches.last().map_or(Offset(self.start), |batch| batch.span.end_offset)
    }

    /// The positions that recovery finds.
    pub(super) fn positions(&self) -> LogPositions {
        let epochs = self
            .batches
            .iter()
            .map(|batch| EpochEntry { epoch: batch.span.leader_epoch, start_offset: batch.span.base_offset });
        LogPositions::recovered(Offset(self.start), self.end(), epochs)
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Append(batch) => {
                assert!(batch.span.base_offset >= self.end(), "a batch does not continue the log");
                self.batches.push(batch);
            }
            Write::Truncate(to) => self.batches.retain(|batch| batch.span.end_offset <= to),
            Write::RestartAt(at) => {
                self.batches.clear();
                self.start = at.0;
            }
            Write::AdvanceStart(to) => {
                self.batches.retain(|batch| batch.span.base_offset >= to);
                self.start = self.start.max(to.0);
            }
        }
    }
}

/// The log in memory, and what of it a crash leaves.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub(super) memory: Content,
    pub(super) durable: Content,
    unsynced: VecDeque<Write>,
    /// A sync under way: writes that it covers, and what it will say.
    syncing: Option<(usize, LogGeneration, Offset)>,
}

impl Disk {
    fn write(&mut self, write: Write) {
        self.memory.apply(write);
        self.unsynced.push_back(write);
    }

    pub(super) fn append(&mut self, batch: Batch) {
        self.write(Write::Append(batch));
    }

    pub(super) fn truncate(&mut self, to: Offset) {
        self.write(Write::Truncate(to));
        assert_eq!(self.memory.end(), to, "a truncation cuts between batches");
    }

    pub(super) fn restart_at(&mut self, at: Offset) {
        self.write(Write::RestartAt(at));
    }

    pub(super) fn advance_start(&mut self, to: Offset) {
        self.write(Write::AdvanceStart(to));
    }

    pub(super) fn begin_sync(&mut self, generation: LogGeneration) {
        if self.syncing.is_none() && !self.unsynced.is_empty() {
            self.syncing = Some((self.unsynced.len(), generation, self.memory.end()));
        }
    }

    pub(super) fn end_sync(&mut self) -> Option<(LogGeneration, Offset)> {
        let (writes, generation, end) = self.syncing.take()?;
        self.keep(writes);
        Some((generation, end))
    }

    fn keep(&mut self, writes: usize) {
        for write in self.unsynced.drain(..writes) {
            self.durable.apply(write);
        }
    }

    /// The power fails: of what was not synced, the first `kept` writes have reached the disk.
    pub(super) fn crash(&mut self, random: u64) {
        let kept = (random % (self.unsynced.len() as u64 + 1)) as usize;
        self.keep(kept);
        self.unsynced.clear();
        self.syncing = None;
        self.memory = self.durable.clone();
    }

    pub(super) fn wipe(&mut self) {
        *self = Disk::default();
    }

    /// Batches from an offset on, at most so many.
    pub(super) fn read(&self, from: Offset, at_most: usize) -> Vec<Batch> {
        let from = self.memory.batches.partition_point(|batch| batch.span.base_offset < from);
        self.memory.batches[from..].iter().copied().take(at_most).collect()
    }
}
