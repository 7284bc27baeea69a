//! The flushed checkpoint: up to where each partition is safely in synced segments, and what cannot be read back from segments cheaply.
//!
//! One record per flush round, appended to a small record log and durable before the journal is released; it holds the partitions that changed.
//! The last entry of a partition counts. So a restart reads no segments, except what was written after the last round.
//!
//! ```text
//! record   = kind u8 (1 entries, 2 clean shutdown, 3 in use), count u32, entry*
//! entry    = topic id 16 bytes, partition i32, flags u8 (1 deleted: nothing follows, 2 clean end follows),
//!            log start i64, flushed end i64, high watermark i64, [clean end i64],
//!            segment base i64 (-1 none), segment size u64, first timestamp i64, largest timestamp i64 (i64::MIN not known),
//!            epochs u32 × {epoch i32, start offset i64},
//!            producers u32 × {id i64, epoch i16, batches u8 × {last sequence i32, offset delta i32, last offset i64, timestamp i64}}
//! ```
//! Integers are little-endian. The record log adds length and CRC.

use crate::{
    log::{
        leader_epoch::EpochEntry,
        producer_state::{BATCHES_REMEMBERED, ProducerEntry, RememberedBatch},
        segment::SegmentMeta,
        state::LogState,
    },
    types::{LeaderEpoch, Offset, PartitionId, ProducerId, TopicIdPartition},
};
use ahash::AHashMap;
use std::collections::VecDeque;
use uuid::Uuid;

const KIND_ENTRIES: u8 = 1;
const KIND_CLEAN: u8 = 2;
const KIND_IN_USE: u8 = 3;
const FLAG_DELETED: u8 = 1;
const FLAG_CLEAN_END: u8 = 2;
const FLAG_JOURNAL_FROM: u8 = 4;
const FLAG_CUT: u8 = 8;
const UNKNOWN_TIME: i64 = i64::MIN;

/// What is known to be safely in segments of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionCheckpoint {
    pub log_start: Offset,
    pub flushed_end: Offset,
    pub high_watermark: Offset,
    /// Everything below was compacted.
    pub clean_end: Offset,
    /// The active segment with what of it is synced.
    pub active: Option<SegmentMeta>,
    pub epochs: Vec<EpochEntry>,
    pub producers: Vec<ProducerEntry>,
    /// Up to this commit the journal has nothing to add; 0 if that does not matter. What was cut off must not come back from there.
    pub journal_from: u64,
    /// What the segments hold behind this is to be removed: the log was cut here, and a crash may have come between.
    pub is_cut: bool,
}

impl PartitionCheckpoint {
    /// What the log's segments hold now; the caller has synced them.
    pub fn of(state: &LogState) -> Self {
        let epochs = state.leader_epochs.entries().iter();
        Self {
            // A later log start is in the journal, like the batches below it.
            log_start: state.log_start.min(state.written_end),
            flushed_end: state.written_end,
            high_watermark: state.high_watermark.min(state.written_end),
            clean_end: state.clean_end,
            active: state.segments.last().copied(),
            epochs: epochs.filter(|e| e.start_offset < state.written_end).copied().collect(),
            producers: state.producers_as_written().entries().to_vec(),
            journal_from: state.journal_from,
            is_cut: false,
        }
    }
}

/// All that the checkpoint records of a shard say.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    pub partitions: AHashMap<TopicIdPartition, PartitionCheckpoint>,
    pub is_clean: bool,
}

/// A record that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Builds a record of changed partitions.
#[derive(Debug)]
pub(crate) struct RecordBuilder {
    bytes: Vec<u8>,
    count: u32,
}

impl RecordBuilder {
    pub fn new() -> Self {
        Self { bytes: vec![KIND_ENTRIES, 0, 0, 0, 0], count: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn put(&mut self, id: &TopicIdPartition, c: &PartitionCheckpoint) {
        let is_compacted = c.clean_end > Offset::ZERO;
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let flags = flag(is_compacted, FLAG_CLEAN_END)
            | flag(c.journal_from > 0, FLAG_JOURNAL_FROM)
            | flag(c.is_cut, FLAG_CUT);
        self.begin(id, flags);
        let out = &mut self.bytes;
        let mut i64s = |values: &[i64]| values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
        i64s(&[c.log_start.0, c.flushed_end.0, c.high_watermark.0]);
        if is_compacted {
            i64s(&[c.clean_end.0]);
        }
        if c.journal_from > 0 {
            i64s(&[c.journal_from as i64]);
        }
        match &c.active {
            None => i64s(&[-1, 0, UNKNOWN_TIME, UNKNOWN_TIME]),
            Some(s) => i64s(&[
                s.base_offset.0,
                s.size as i64,
                s.first_timestamp.unwrap_or(UNKNOWN_TIME),
                s.max_timestamp.unwrap_or(UNKNOWN_TIME),
            ]),
        }
        out.extend_from_slice(&(c.epochs.len() as u32).to_le_bytes());
        for e in &c.epochs {
            out.extend_from_slice(&e.epoch.0.to_le_bytes());
            out.extend_from_slice(&e.start_offset.0.to_le_bytes());
        }
        out.extend_from_slice(&(c.producers.len() as u32).to_le_bytes());
        for p in &c.producers {
            out.extend_from_slice(&p.producer_id.0.to_le_bytes());
            out.extend_from_slice(&p.producer_epoch.to_le_bytes());
            out.push(p.batches.len() as u8);
            for b in &p.batches {
                out.extend_from_slice(&b.last_sequence.to_le_bytes());
                out.extend_from_slice(&b.offset_delta.to_le_bytes());
                out.extend_from_slice(&b.last_offset.0.to_le_bytes());
                out.extend_from_slice(&b.timestamp_ms.to_le_bytes());
            }
        }
    }

    pub fn put_deleted(&mut self, id: &TopicIdPartition) {
        self.begin(id, FLAG_DELETED);
    }

    fn begin(&mut self, id: &TopicIdPartition, flags: u8) {
        self.count += 1;
        self.bytes.extend_from_slice(id.topic_id.as_bytes());
        self.bytes.extend_from_slice(&id.partition.0.to_le_bytes());
        self.bytes.push(flags);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.bytes[1..5].copy_from_slice(&self.count.to_le_bytes());
        self.bytes
    }
}

/// The record that says that everything was flushed before the store was closed.
pub(crate) fn clean_record() -> Vec<u8> {
    vec![KIND_CLEAN]
}

/// The record that says that the store is open: until the next clean record it is not clean.
pub(crate) fn in_use_record() -> Vec<u8> {
    vec![KIND_IN_USE]
}

impl Checkpoints {
    /// Takes over one record, in the order in which they were written.
    pub fn apply(&mut self, record: &[u8]) -> Result<(), Unreadable> {
        let mut r = Reader(record);
        match r.u8()? {
            KIND_CLEAN => self.is_clean = true,
            KIND_IN_USE => self.is_clean = false,
            KIND_ENTRIES => {
                self.is_clean = false;
                for _ in 0..r.u32()? {
                    self.apply_entry(&mut r)?;
                }
            }
            _ => return Err(Unreadable),
        }
        if r.0.is_empty() { Ok(()) } else { Err(Unreadable) }
    }

    fn apply_entry(&mut self, r: &mut Reader<'_>) -> Result<(), Unreadable> {
        let topic_id = Uuid::from_bytes(r.array()?);
        let id = TopicIdPartition::new(topic_id, PartitionId(r.i32()?));
        let flags = r.u8()?;
        if flags & !(FLAG_DELETED | FLAG_CLEAN_END | FLAG_JOURNAL_FROM | FLAG_CUT) != 0 {
            return Err(Unreadable);
        }
        if flags & FLAG_DELETED != 0 {
            self.partitions.remove(&id);
            return Ok(());
        }
        let time = |t: i64| (t != UNKNOWN_TIME).then_some(t);
        let (log_start, flushed_end, high_watermark) = (Offset(r.i64()?), Offset(r.i64()?), Offset(r.i64()?));
        let clean_end = if flags & FLAG_CLEAN_END != 0 { Offset(r.i64()?) } else { Offset::ZERO };
        let journal_from = if flags & FLAG_JOURNAL_FROM != 0 { r.i64()? as u64 } else { 0 };
        let segment = SegmentMeta {
            base_offset: Offset(r.i64()?),
            size: r.i64()? as u64,
            first_timestamp: time(r.i64()?),
            max_timestamp: time(r.i64()?),
            revision: 0,
        };
        let mut epochs = Vec::new();
        for _ in 0..r.u32()? {
            epochs.push(EpochEntry { epoch: LeaderEpoch(r.i32()?), start_offset: Offset(r.i64()?) });
        }
        let mut producers = Vec::new();
        for _ in 0..r.u32()? {
            producers.push(r.producer()?);
        }
        let active = (segment.base_offset.0 >= 0).then_some(segment);
        let entry = PartitionCheckpoint {
            log_start,
            flushed_end,
            high_watermark,
            clean_end,
            active,
            epochs,
            producers,
            journal_from,
            is_cut: flags & FLAG_CUT != 0,
        };
        self.partitions.insert(id, entry);
        Ok(())
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Unreadable)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Unreadable> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, Unreadable> {
        self.array().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Result<i32, Unreadable> {
        self.array().map(i32::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Unreadable> {
        self.array().map(i64::from_le_bytes)
    }

    fn producer(&mut self) -> Result<ProducerEntry, Unreadable> {
        let producer_id = ProducerId(self.i64()?);
        let producer_epoch = self.array().map(i16::from_le_bytes)?;
        let count = self.u8()? as usize;
        if count > BATCHES_REMEMBERED {
            return Err(Unreadable);
        }
        let mut batches = VecDeque::with_capacity(count);
        for _ in 0..count {
            batches.push_back(RememberedBatch {
                last_sequence: self.i32()?,
                offset_delta: self.i32()?,
                last_offset: Offset(self.i64()?),
                timestamp_ms: self.i64()?,
            });
        }
        Ok(ProducerEntry { producer_id, producer_epoch, batches })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: i32) -> TopicIdPartition {
        TopicIdPartition::new(Uuid::from_u128(n as u128), PartitionId(n))
    }

    fn checkpoint(end: i64) -> PartitionCheckpoint {
        let batch = RememberedBatch {
            last_sequence: 4,
            offset_delta: 4,
            last_offset: Offset(end - 1),
            timestamp_ms: 77,
        };
        PartitionCheckpoint {
            log_start: Offset(3),
            flushed_end: Offset(end),
            high_watermark: Offset(end),
            active: Some(SegmentMeta {
                base_offset: Offset(0),
                size: 1234,
                max_timestamp: None,
                first_timestamp: Some(5),
                revision: 0,
            }),
            clean_end: Offset(2),
            epochs: vec![EpochEntry { epoch: LeaderEpoch(2), start_offset: Offset(0) }],
            producers: vec![ProducerEntry {
                producer_id: ProducerId(9),
                producer_epoch: 1,
                batches: VecDeque::from([batch; 2]),
            }],
            journal_from: 0,
            is_cut: false,
        }
    }

    #[test]
    fn the_last_entry_of_a_partition_counts() {
        let mut first = RecordBuilder::new();
        first.put(&id(1), &checkpoint(10));
        first.put(&id(2), &PartitionCheckpoint { active: None, clean_end: Offset(0), ..checkpoint(5) });
        let mut second = RecordBuilder::new();
        let cut = PartitionCheckpoint { journal_from: 77, is_cut: true, ..checkpoint(20) };
        second.put(&id(1), &cut);
        second.put_deleted(&id(2));
        let mut all = Checkpoints::default();
        all.apply(&first.finish()).unwrap();
        assert_eq!((all.partitions[&id(2)].active, all.partitions[&id(2)].clean_end), (None, Offset(0)));
        all.apply(&second.finish()).unwrap();
        assert_eq!(all.partitions.len(), 1);
        assert_eq!(all.partitions[&id(1)], cut);
    }

    #[test]
    fn only_a_clean_record_at_the_end_means_clean() {
        let mut all = Checkpoints::default();
        all.apply(&clean_record()).unwrap();
        assert!(all.is_clean);
        all.apply(&in_use_record()).unwrap();
        assert!(!all.is_clean);
    }

    #[test]
    fn records_that_are_cut_or_unknown_are_refused() {
        let mut b = RecordBuilder::new();
        b.put(&id(1), &checkpoint(10));
        let whole = b.finish();
        for len in 0..whole.len() {
            assert_eq!(Checkpoints::default().apply(&whole[..len]), Err(Unreadable), "{len}");
        }
        assert_eq!(Checkpoints::default().apply(&[9]), Err(Unreadable));
    }
}
