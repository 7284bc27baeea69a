//! A partition's log as replication sees it: where it begins and ends, which epoch each stretch has, and how much is on disk.

use storage::Offset;
use storage::log::leader_epoch::{EpochEntry, LeaderEpochCache};

use super::message::BatchSpan;
use crate::planted::{Planted, PlantedBug};
use crate::types::LeaderEpoch;

/// Counts the truncations of a log in the life of a process: a sync that was begun before one says nothing about what was appended after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LogGeneration(pub u64);

/// Epochs and ends of one log.
#[derive(Debug, Clone)]
pub struct LogPositions {
    epochs: LeaderEpochCache,
    /// The epoch of the record before `start`, if it is still known.
    epoch_before_start: LeaderEpoch,
    start: Offset,
    end: Offset,
    durable_end: Offset,
    generation: LogGeneration,
    /// Truncations that syncs under way may not know of: the generation that each began, and where it cut.
    cuts: Vec<(LogGeneration, Offset)>,
    planted: Planted,
}

impl LogPositions {
    /// The positions of a log as recovery found it: everything in it is on disk. `start` is where its first batch begins, even if consumers may only
    /// read from a later offset on.
    pub fn recovered(start: Offset, end: Offset, epochs: impl IntoIterator<Item = EpochEntry>) -> Self {
        assert!(start <= end, "a log that begins at {start} cannot end at {end}");
        LogPositions {
            epochs: LeaderEpochCache::from_entries(epochs),
            epoch_before_start: LeaderEpoch::UNKNOWN,
            start,
            end,
            durable_end: end,
            generation: LogGeneration::default(),
            cuts: Vec::new(),
            planted: Planted::default(),
        }
    }

    pub(super) fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    /// Where the log begins.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Where it ends.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Up to where it is on disk; may lie before the start when what is on disk is about to go.
    pub fn durable_end(&self) -> Offset {
        self.durable_end
    }

    /// The generation that appends belong to from now on.
    pub fn generation(&self) -> LogGeneration {
        self.generation
    }

    /// The epoch of the last record, or [`LeaderEpoch::UNKNOWN`].
    pub fn last_epoch(&self) -> LeaderEpoch {
        self.epochs.latest().unwrap_or(LeaderEpoch::UNKNOWN)
    }

    /// The epoch of the record at `offset`, or of the one before it where compaction has left a gap.
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        match self.epochs.epoch_for_offset(offset) {
            Some(epoch) if offset < self.end => epoch,
            _ => LeaderEpoch::UNKNOWN,
        }
    }

    /// The epoch of the record before `offset`.
    pub fn epoch_before(&self, offset: Offset) -> LeaderEpoch {
        if offset <= self.start { self.epoch_before_start } else { self.epoch_at(Offset(offset.0 - 1)) }
    }

    /// The largest epoch that is not larger than `epoch`, and where it ends; the start of the log if there is none.
    pub fn end_of(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let entries = self.epochs.entries();
        let next = entries.partition_point(|entry| entry.epoch <= epoch);
        match next.checked_sub(1) {
            Some(floor) => {
                (entries[floor].epoch, entries.get(next).map_or(self.end, |entry| entry.start_offset))
            }
            None => (LeaderEpoch::UNKNOWN, self.start),
        }
    }

    /// A batch was appended.
    pub(super) fn append(&mut self, span: BatchSpan) {
        assert!(
            span.base_offset >= self.end && span.end_offset > span.base_offset,
            "{span:?} does not continue a log that ends at {}",
            self.end
        );
        assert!(span.leader_epoch >= self.last_epoch(), "{span:?} after epoch {}", self.last_epoch());
        self.epochs.assign(span.leader_epoch, span.base_offset);
        self.end = span.end_offset;
    }

    /// Everything from `to` on goes.
    pub(super) fn truncate(&mut self, to: Offset) {
        assert!(self.start <= to && to <= self.end, "cannot truncate [{}, {}) to {to}", self.start, self.end);
        self.epochs.truncate_back(to);
        self.end = to;
        self.durable_end = self.durable_end.min(to);
        self.generation.0 += 1;
        self.cuts.push((self.generation, to));
    }

    /// Everything goes; the log goes on at `at`.
    pub(super) fn restart_at(&mut self, at: Offset) {
        self.truncate(self.start);
        self.epochs = LeaderEpochCache::default();
        self.epoch_before_start = LeaderEpoch::UNKNOWN;
        self.start = at;
        self.end = at;
        // Until that is on disk a crash may leave a log that ends earlier than records which were committed and deleted, and would give their offsets again.
        self.durable_end = Offset::ZERO;
    }

    /// What lies below `to` has gone.
    pub(super) fn advance_start(&mut self, to: Offset) {
        assert!(to <= self.end, "a log that ends at {} cannot begin at {to}", self.end);
        if to > self.start {
            self.epoch_before_start = self.epoch_before(to);
            self.epochs.truncate_front(to);
            self.start = to;
        }
    }

    /// A sync has returned that covers everything appended in `generation` up to `end`. Answers whether more is durable than before.
    pub(super) fn synced(&mut self, generation: LogGeneration, end: Offset) -> bool {
        self.cuts.retain(|(began, _)| *began > generation);
        let cut = self.cuts.iter().map(|(_, to)| *to).min().unwrap_or(self.end);
        let end = if self.planted.has(PlantedBug::SyncOfTruncatedCounts) { end } else { end.min(cut) };
        let advances = end.min(self.end) > self.durable_end;
        self.durable_end = self.durable_end.max(end.min(self.end));
        advances
    }
}
