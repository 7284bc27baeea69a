//! Leader epoch cache: at which offset each leader epoch of a partition began (KIP-101, KIP-279; `LeaderEpochFileCache.java`).

use crate::types::{LeaderEpoch, Offset};

/// The start of one leader epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEntry {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Offset of the first batch that was appended under it.
    pub start_offset: Offset,
}

/// Epochs and start offsets, both strictly increasing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaderEpochCache {
    entries: Vec<EpochEntry>,
}

impl LeaderEpochCache {
    /// Restores a cache from entries that were stored; entries out of order are dropped.
    pub fn from_entries(entries: impl IntoIterator<Item = EpochEntry>) -> Self {
        let mut cache = Self::default();
        for e in entries {
            cache.assign(e.epoch, e.start_offset);
        }
        cache
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The newest epoch that has a batch.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|e| e.epoch)
    }

    /// Notes that a batch of `epoch` was appended at `start_offset`. Answers whether the cache changed.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        match self.entries.last() {
            Some(last) if epoch <= last.epoch => return false,
            // An epoch in which nothing was appended gives way to the one that did append.
            Some(last) if start_offset < last.start_offset => return false,
            Some(last) if start_offset == last.start_offset => {
                self.entries.pop();
            }
            _ => {}
        }
        self.entries.push(EpochEntry { epoch, start_offset });
        true
    }

    /// The largest epoch that is not larger than `requested`, and the offset where it ends (where the next one starts, or the log end). Of one that consumers
    /// cannot read any more, or that is older than all known, only this much is known: it ended where the log starts, or before.
    ///
    /// `None` when `requested` is newer than all known: Kafka then answers with undefined epoch and offset.
    pub fn end_offset_for(
        &self,
        requested: LeaderEpoch,
        log_start_offset: Offset,
        log_end_offset: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.latest()?;
        if requested > latest {
            return None;
        }
        let next = self.entries.partition_point(|e| e.epoch <= requested);
        let end = self.entries.get(next).map_or(log_end_offset, |e| e.start_offset);
        match self.entries[..next].last() {
            Some(floor) if end > log_start_offset || floor.epoch == latest => Some((floor.epoch, end)),
            _ => Some((requested, end.max(log_start_offset))),
        }
    }

    /// The epoch under which the batch at `offset` was appended.
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        let next = self.entries.partition_point(|e| e.start_offset <= offset);
        self.entries[..next].last().map(|e| e.epoch)
    }

    /// Forgets what lies wholly below `log_start_offset`; the epoch that spans it now starts there.
    pub fn truncate_front(&mut self, log_start_offset: Offset) {
        let next = self.entries.partition_point(|e| e.start_offset <= log_start_offset);
        if next > 0 {
            self.entries.drain(..next - 1);
            self.entries[0].start_offset = self.entries[0].start_offset.max(log_start_offset);
        }
    }

    /// Forgets epochs that start at or after `end`.
    pub fn truncate_back(&mut self, end: Offset) {
        self.entries.retain(|e| e.start_offset < end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(pairs: &[(i32, i64)]) -> LeaderEpochCache {
        LeaderEpochCache::from_entries(
            pairs.iter().map(|&(e, o)| EpochEntry { epoch: LeaderEpoch(e), start_offset: Offset(o) }),
        )
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let c = cache(&[(0, 0), (2, 10), (5, 30)]);
        let end_of = |epoch, start| {
            let found = c.end_offset_for(LeaderEpoch(epoch), Offset(start), Offset(50));
            found.map(|(epoch, end)| (epoch.0, end.0))
        };
        assert_eq!(
            [0, 1, 2, 5].map(|epoch| end_of(epoch, 0)),
            [(0, 10), (0, 10), (2, 30), (5, 50)].map(Some)
        );
        assert_eq!(end_of(6, 0), None);
        assert_eq!(LeaderEpochCache::default().end_offset_for(LeaderEpoch(0), Offset(0), Offset(0)), None);
        // All of epoch 0 is gone for consumers, and then all of epoch 2.
        assert_eq!([0, 1, 2].map(|epoch| end_of(epoch, 10)), [(0, 10), (1, 10), (2, 30)].map(Some));
        assert_eq!(
            [0, 2, 4, 5].map(|epoch| end_of(epoch, 40)),
            [(0, 40), (2, 40), (4, 40), (5, 50)].map(Some)
        );
        assert_eq!(end_of(5, 50), Some((5, 50)));
    }

    #[test]
    fn an_epoch_that_is_older_than_all_known_ended_where_the_log_starts() {
        let c = cache(&[(3, 70), (4, 80)]);
        for (start, end) in [(70, 70), (75, 75)] {
            let found = c.end_offset_for(LeaderEpoch(2), Offset(start), Offset(90));
            assert_eq!(found, Some((LeaderEpoch(2), Offset(end))));
        }
    }

    #[test]
    fn an_epoch_without_batches_is_replaced() {
        let mut c = cache(&[(0, 0), (1, 10)]);
        assert!(c.assign(LeaderEpoch(2), Offset(10)));
        assert_eq!(c, cache(&[(0, 0), (2, 10)]));
        assert!(!c.assign(LeaderEpoch(2), Offset(20)));
        assert!(!c.assign(LeaderEpoch(1), Offset(20)));
    }

    #[test]
    fn truncation_keeps_the_epoch_that_spans_the_edge() {
        let mut c = cache(&[(0, 0), (1, 10), (2, 20)]);
        c.truncate_front(Offset(15));
        assert_eq!(c, cache(&[(1, 15), (2, 20)]));
        assert_eq!(c.epoch_for_offset(Offset(17)), Some(LeaderEpoch(1)));
        c.truncate_back(Offset(20));
        assert_eq!(c, cache(&[(1, 15)]));
        assert_eq!(c.epoch_for_offset(Offset(3)), None);
    }
}
