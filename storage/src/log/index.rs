//! Sparse indexes of one segment: offset → file position, and timestamp → offset. Pure; the files' bytes are Kafka's.
//!
//! `.index`: 8-byte entries {relative offset i32, position i32}; `.timeindex`: 12-byte entries {timestamp i64, relative offset i32}, all
//! big-endian and increasing (`OffsetIndex.java`, `TimeIndex.java`). An offset entry names the *first* offset of the batch at its position, so
//! a floor look-up always lands on a batch boundary at or before the wanted one.

use crate::types::Offset;
use protocol::records::BatchView;

/// Bytes of one entry in the offset index file.
pub const OFFSET_ENTRY_BYTES: usize = 8;
/// Bytes of one entry in the time index file.
pub const TIME_ENTRY_BYTES: usize = 12;

/// Offset of a batch relative to its segment's base, and its position in the segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetEntry {
    /// First offset of the batch, relative to the segment's base offset.
    pub relative_offset: u32,
    /// Where the batch starts in the segment file. Bytes.
    pub position: u32,
}

/// The largest timestamp up to a batch, and the first offset of the batch that brought it, relative to the segment's base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeEntry {
    /// Largest timestamp of the segment up to and including the batch. Milliseconds.
    pub timestamp: i64,
    /// First offset of the batch that holds it, relative to the segment's base offset.
    pub relative_offset: u32,
}

/// Both sparse indexes of a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SegmentIndex {
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    last_indexed_end: u64,
    indexed_from: u64,
    max_timestamp: Option<TimeEntry>,
}

/// What the index has to know about a batch.
#[derive(Debug, Clone, Copy)]
pub struct IndexedBatch {
    /// First offset.
    pub base_offset: Offset,
    /// Position in the segment file. Bytes.
    pub position: u64,
    /// Size of the batch. Bytes.
    pub size: u32,
    /// Largest timestamp of its records, -1 if none. Milliseconds.
    pub max_timestamp: i64,
}

impl IndexedBatch {
    /// A batch that stands at `position`. One that compaction has emptied has no timestamp that a look-up could find.
    pub fn of(position: u64, batch: &BatchView<'_>) -> Self {
        Self {
            base_offset: Offset(batch.base_offset()),
            position,
            size: batch.size() as u32,
            max_timestamp: if batch.record_count() > 0 { batch.max_timestamp() } else { -1 },
        }
    }
}

impl SegmentIndex {
    /// An empty index that will hold batches from file position `from` on (0 for a new segment).
    pub fn starting_at(from: u64) -> Self {
        Self { indexed_from: from, last_indexed_end: from, ..Self::default() }
    }

    /// The file position from which batches are indexed; anything but 0 means that the part before is unknown.
    pub fn indexed_from(&self) -> u64 {
        self.indexed_from
    }

    /// Number of offset entries.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether no batch has been indexed.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Bytes of memory held by entries.
    pub fn heap_bytes(&self) -> usize {
        self.offsets.capacity() * size_of::<OffsetEntry>() + self.times.capacity() * size_of::<TimeEntry>()
    }

    /// Gives memory that is not needed back.
    pub fn shrink(&mut self) {
        self.offsets.shrink_to_fit();
        self.times.shrink_to_fit();
    }

    /// Notes a batch that was appended to the segment; an entry is made when `interval` bytes have passed since the last.
    pub fn note(&mut self, segment_base: Offset, batch: IndexedBatch, interval: u64) {
        debug_assert!(batch.base_offset >= segment_base);
        let relative_offset = (batch.base_offset.0 - segment_base.0) as u32;
        let newer = self.max_timestamp.is_none_or(|m| batch.max_timestamp > m.timestamp);
        if newer && batch.max_timestamp >= 0 {
            self.max_timestamp = Some(TimeEntry { timestamp: batch.max_timestamp, relative_offset });
        }
        if batch.position >= self.last_indexed_end + interval {
            self.offsets.push(OffsetEntry { relative_offset, position: batch.position as u32 });
            self.last_indexed_end = batch.position;
            if let Some(max) = self.max_timestamp
                && self.times.last().is_none_or(|t| t.timestamp < max.timestamp)
            {
                self.times.push(max);
            }
        }
    }

    /// Where a piece of about `bytes` from `position` on may end so that the next one starts with a batch of a segment of `segment_bytes`: at most
    /// `bytes` further on or else, if there is none, at the next indexed batch, unless that is very far away.
    pub fn piece_end(&self, position: u64, bytes: u64, segment_bytes: u64) -> Option<u64> {
        const FAR_BYTES: u64 = 8 << 20;
        if segment_bytes <= position + bytes {
            return Some(segment_bytes);
        }
        let next = self.offsets.partition_point(|e| e.position as u64 <= position + bytes);
        let last = next.checked_sub(1).map(|i| self.offsets[i].position as u64);
        if last.is_some_and(|last| last > position) {
            return last;
        }
        let next = self.offsets.get(next).map_or(segment_bytes, |e| e.position as u64);
        (next - position <= FAR_BYTES).then_some(next)
    }

    /// Position of the last indexed batch that starts at or before `offset`; the start of the indexed part when there is none.
    pub fn position_floor(&self, segment_base: Offset, offset: Offset) -> u64 {
        let relative = offset.0.saturating_sub(segment_base.0).clamp(0, u32::MAX as i64) as u32;
        let next = self.offsets.partition_point(|e| e.relative_offset <= relative);
        next.checked_sub(1).map_or(self.indexed_from, |i| self.offsets[i].position as u64)
    }

    /// The same with the first offset of the batch that stands there, if the index knows it: for a check of the index against the segment.
    pub fn floor(&self, segment_base: Offset, offset: Offset) -> (u64, Option<Offset>) {
        let position = self.position_floor(segment_base, offset);
        let entry = self.offsets.binary_search_by_key(&position, |e| e.position as u64).ok();
        (position, entry.map(|i| Offset(segment_base.0 + self.offsets[i].relative_offset as i64)))
    }

    /// First offset of a batch before which nothing reaches `timestamp`: where a search for the first record at or after it may start.
    pub fn offset_before_timestamp(&self, segment_base: Offset, timestamp: i64) -> Offset {
        let next = self.times.partition_point(|e| e.timestamp < timestamp);
        next.checked_sub(1)
            .map_or(segment_base, |i| Offset(segment_base.0 + self.times[i].relative_offset as i64))
    }

    /// Largest timestamp seen in the indexed part and the first offset of its batch.
    pub fn max_timestamp(&self) -> Option<TimeEntry> {
        self.max_timestamp
    }

    /// Puts the index of the part before [`indexed_from`](Self::indexed_from) in front of this one.
    pub fn prepend(&mut self, mut front: SegmentIndex) {
        front.offsets.extend(self.offsets.iter().filter(|e| e.position as u64 >= self.indexed_from));
        let front_max = front.max_timestamp;
        for t in self.times.iter().chain(self.max_timestamp.iter()) {
            if front.max_timestamp.is_none_or(|m| m.timestamp < t.timestamp) {
                front.max_timestamp = Some(*t);
            }
        }
        for t in &self.times {
            let rising = front.times.last().is_none_or(|l| l.timestamp < t.timestamp);
            if rising && front_max.is_none_or(|m| m.timestamp < t.timestamp) {
                front.times.push(*t);
            }
        }
        front.last_indexed_end = front.last_indexed_end.max(self.last_indexed_end);
        *self = front;
    }

    /// The bytes of the `.index` file.
    pub fn offset_file(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.offsets.len() * OFFSET_ENTRY_BYTES);
        for e in &self.offsets {
            out.extend_from_slice(&e.relative_offset.to_be_bytes());
            out.extend_from_slice(&e.position.to_be_bytes());
        }
        out
    }

    /// The bytes of the `.timeindex` file. Its last entry is the largest timestamp of the segment, whatever the interval.
    pub fn time_file(&self) -> Vec<u8> {
        let last = self.max_timestamp.filter(|m| self.times.last().is_none_or(|t| t.timestamp < m.timestamp));
        let mut out = Vec::with_capacity((self.times.len() + 1) * TIME_ENTRY_BYTES);
        for e in self.times.iter().chain(last.iter()) {
            out.extend_from_slice(&e.timestamp.to_be_bytes());
            out.extend_from_slice(&e.relative_offset.to_be_bytes());
        }
        out
    }

    /// Reads both files of a closed segment of `segment_size` bytes. `None` when they cannot be right, so that they must be rebuilt.
    pub fn parse(offset_file: &[u8], time_file: &[u8], segment_size: u64) -> Option<Self> {
        if !offset_file.len().is_multiple_of(OFFSET_ENTRY_BYTES)
            || !time_file.len().is_multiple_of(TIME_ENTRY_BYTES)
        {
            return None;
        }
        let mut index = Self::default();
        for c in offset_file.chunks_exact(OFFSET_ENTRY_BYTES) {
            let e = OffsetEntry {
                relative_offset: u32::from_be_bytes(c[..4].try_into().ok()?),
                position: u32::from_be_bytes(c[4..].try_into().ok()?),
            };
            let rising = index.offsets.last().is_none_or(|l: &OffsetEntry| {
                l.relative_offset < e.relative_offset && l.position < e.position
            });
            if !rising || e.position as u64 >= segment_size {
                return None;
            }
            index.offsets.push(e);
        }
        for c in time_file.chunks_exact(TIME_ENTRY_BYTES) {
            let e = TimeEntry {
                timestamp: i64::from_be_bytes(c[..8].try_into().ok()?),
                relative_offset: u32::from_be_bytes(c[8..].try_into().ok()?),
            };
            let rising = index.times.last().is_none_or(|l: &TimeEntry| {
                l.timestamp < e.timestamp && l.relative_offset < e.relative_offset
            });
            if !rising {
                return None;
            }
            index.times.push(e);
        }
        index.max_timestamp = index.times.last().copied();
        index.last_indexed_end = index.offsets.last().map_or(0, |e| e.position as u64);
        Some(index)
    }

    /// The last offset entry, for a cheap check of a loaded index against the segment's bytes.
    pub fn last_offset_entry(&self) -> Option<OffsetEntry> {
        self.offsets.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(base: i64, batches: &[(u32, u32, i64)], interval: u64) -> (SegmentIndex, Vec<IndexedBatch>) {
        let (mut index, mut offset, mut position) = (SegmentIndex::default(), base, 0);
        let mut all = Vec::new();
        for &(count, size, max_timestamp) in batches {
            let b = IndexedBatch { base_offset: Offset(offset), position, size, max_timestamp };
            index.note(Offset(base), b, interval);
            all.push(b);
            offset += count as i64;
            position += size as u64;
        }
        (index, all)
    }

    proptest! {
        #[test]
        fn a_look_up_lands_on_a_batch_at_or_before_the_wanted_one_and_within_reach(
            base in 0i64..1_000_000,
            batches in prop::collection::vec((1u32..50, 61u32..9000, 0i64..1000), 1..200),
            interval in 1u64..20_000,
        ) {
            let (index, all) = build(base, &batches, interval);
            for b in &all {
                let p = index.position_floor(Offset(base), b.base_offset);
                prop_assert!(p <= b.position);
                prop_assert!(all.iter().any(|x| x.position == p));
                prop_assert!(b.position - p < interval + 9000);
            }
        }

        #[test]
        fn a_search_by_timestamp_never_starts_behind_the_first_match(
            batches in prop::collection::vec((1u32..50, 61u32..9000, 0i64..1000), 1..200),
            interval in 1u64..20_000, wanted in 0i64..1100,
        ) {
            let (index, all) = build(7, &batches, interval);
            let start = index.offset_before_timestamp(Offset(7), wanted);
            if let Some(first) = all.iter().find(|b| b.max_timestamp >= wanted) {
                prop_assert!(start <= first.base_offset);
            }
        }

        #[test]
        fn the_files_bring_the_same_index_back(
            batches in prop::collection::vec((1u32..50, 61u32..9000, 0i64..1000), 1..100),
            interval in 1u64..20_000,
        ) {
            let (index, all) = build(3, &batches, interval);
            let size = all.last().map(|b| b.position + b.size as u64).unwrap();
            let back = SegmentIndex::parse(&index.offset_file(), &index.time_file(), size).unwrap();
            prop_assert_eq!(&back.offsets, &index.offsets);
            prop_assert_eq!(back.max_timestamp, index.max_timestamp);
            for b in &all {
                prop_assert_eq!(back.position_floor(Offset(3), b.base_offset), index.position_floor(Offset(3), b.base_offset));
            }
        }

        #[test]
        fn an_index_in_two_halves_is_as_good_as_a_whole(
            batches in prop::collection::vec((1u32..50, 61u32..9000, 0i64..1000), 2..100),
            cut in 1usize..99, interval in 1u64..20_000,
        ) {
            let (_, all) = build(0, &batches, interval);
            let cut = cut.min(all.len() - 1);
            let mut front = SegmentIndex::default();
            let mut back = SegmentIndex::starting_at(all[cut].position);
            for (i, b) in all.iter().enumerate() {
                if i < cut { front.note(Offset(0), *b, interval) } else { back.note(Offset(0), *b, interval) }
            }
            back.prepend(front);
            for b in &all {
                let p = back.position_floor(Offset(0), b.base_offset);
                prop_assert!(p <= b.position && all.iter().any(|x| x.position == p));
                let start = back.offset_before_timestamp(Offset(0), b.max_timestamp);
                let first = all.iter().find(|x| x.max_timestamp >= b.max_timestamp).unwrap();
                prop_assert!(start <= first.base_offset);
            }
            prop_assert_eq!(back.max_timestamp().map(|m| m.timestamp), all.iter().map(|b| b.max_timestamp).max());
        }
    }

    #[test]
    fn files_that_cannot_be_right_are_refused() {
        let (index, all) = build(0, &[(1, 5000, 1), (1, 5000, 2), (1, 5000, 3)], 4096);
        let size = all.last().map(|b| b.position + b.size as u64).unwrap();
        let (o, t) = (index.offset_file(), index.time_file());
        assert!(SegmentIndex::parse(&o, &t, size).is_some());
        assert!(SegmentIndex::parse(&o[..o.len() - 1], &t, size).is_none());
        assert!(SegmentIndex::parse(&o, &t, 6000).is_none());
        let mut twice = o.clone();
        twice.extend_from_slice(&o);
        assert!(SegmentIndex::parse(&twice, &t, size).is_none());
    }
}
