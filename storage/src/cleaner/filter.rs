//! What compaction does with the bytes of whole batches: notes their keys, or decides what of them stays. Pure.
//!
//! Kafka's rules (`Cleaner.cleanInto`, `MemoryRecords.filterTo`, KIP-534):
//! - a record goes when the map has a later one of its key, or when it has no key (it was written before the topic was compacted);
//! - a record without value, a tombstone, stays at first. The pass that cleans it gives its batch a delete horizon, now plus
//!   `delete.retention.ms`; a pass after that removes it. Records older than a tombstone lie in the same segment or in earlier ones, which are
//!   replaced first, so a crash never lets a deleted key come back;
//! - the batch with the last sequence number of a producer stays, emptied if need be: a log that is read from its start still tells where
//!   each producer stopped. The last batch of the pass stays too, so that the cleaned section ends where it ended;
//! - what is left of a batch keeps base offset, last offset, sequence numbers, producer, epoch, codec and the kind of its timestamps.
//!
//! Batches of transactions and their markers stay whole, and their keys are not noted: whether such a record counts is not known
//! before the outcome of its transaction is.

use super::offset_map::OffsetMap;
use crate::{log::index::IndexedBatch, types::Offset};
use ahash::AHashMap;
use bytes::Bytes;
use protocol::records::{BatchBuilder, BatchError, BatchView, Record, RecordIter, decompress};
use std::ops::ControlFlow;

/// Most bytes that the records of one batch may take when they are decompressed.
const MAX_DECOMPRESSED_BYTES: usize = 256 << 20;

/// What cannot be cleaned, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadBatch {
    /// Where the batch starts in the bytes that were looked at.
    pub at: usize,
    /// What is wrong with it.
    pub error: BatchError,
}

/// Counts of a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CleanStats {
    /// Records looked at in the second half.
    pub records_read: u64,
    /// Those of them that stay.
    pub records_kept: u64,
    /// Tombstones removed.
    pub tombstones_removed: u64,
    /// Records without a key removed.
    pub keyless_removed: u64,
    /// Bytes of batches read in both halves.
    pub bytes_read: u64,
    /// Bytes of batches written.
    pub bytes_written: u64,
}

impl std::ops::AddAssign for CleanStats {
    fn add_assign(&mut self, other: Self) {
        self.records_read += other.records_read;
        self.records_kept += other.records_kept;
        self.tombstones_removed += other.tombstones_removed;
        self.keyless_removed += other.keyless_removed;
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
    }
}

/// Notes the keys of whole batches, from offset `from` on, in the map. `Some`: the map is full, and knows nothing from this offset on.
///
/// # Errors
/// [`BadBatch`]: the bytes are damaged.
pub fn note_keys(map: &mut OffsetMap, bytes: &[u8], from: Offset) -> Result<Option<Offset>, BadBatch> {
    let mut full_at = None;
    each_batch(bytes, |batch| {
        if batch.last_offset() < from.0 || is_kept_whole(batch) {
            return Ok(ControlFlow::Continue(()));
        }
        let records = decompress(batch, MAX_DECOMPRESSED_BYTES)?;
        for record in RecordIter::new(batch, &records) {
            let record = record?;
            let offset = Offset(record.offset);
            if offset >= from
                && let Some(key) = record.key
                && !map.put(key, offset)
            {
                full_at = Some(offset);
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(full_at)
}

/// Whole batches of a segment, and where they stand in it.
pub type ReadPiece = (u64, Bytes);

/// [`note_keys`] of some pieces.
///
/// # Errors
/// The piece that is damaged, and where in it.
pub fn note_all(
    map: &mut OffsetMap,
    pieces: &[ReadPiece],
    from: Offset,
) -> Result<Option<Offset>, (u64, BadBatch)> {
    for (position, bytes) in pieces {
        if let Some(full_at) = note_keys(map, bytes, from).map_err(|bad| (*position, bad))? {
            return Ok(Some(full_at));
        }
    }
    Ok(None)
}

/// [`filter`] of some pieces.
///
/// # Errors
/// The piece that is damaged, and where in it.
pub fn filter_all(rules: &FilterRules, pieces: &[ReadPiece]) -> Result<Vec<Filtered>, (u64, BadBatch)> {
    let filtered =
        pieces.iter().map(|(position, bytes)| filter(rules, bytes).map_err(|bad| (*position, bad)));
    filtered.collect()
}

/// The rules of one pass.
#[derive(Debug)]
pub struct FilterRules {
    /// The latest offset of each key, of what lies below `map_end`.
    pub map: OffsetMap,
    /// Where the knowledge of the map ends: records from here on stay.
    pub map_end: Offset,
    /// The clock. Milliseconds since the epoch.
    pub now_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// The offset of the last record of each active producer, by producer id.
    pub last_of_producer: AHashMap<i64, i64>,
}

/// What stays of some batches.
#[derive(Debug, Default)]
pub struct Filtered {
    /// The batches, one behind the other.
    pub bytes: Vec<u8>,
    /// Where they are; positions count from the start of `bytes`.
    pub batches: Vec<IndexedBatch>,
    /// Whether `bytes` is what was given.
    pub is_unchanged: bool,
    /// Counts.
    pub stats: CleanStats,
}

/// Filters whole batches.
///
/// # Errors
/// [`BadBatch`]: the bytes are damaged.
pub fn filter(rules: &FilterRules, bytes: &Bytes) -> Result<Filtered, BadBatch> {
    let mut filtered =
        Filtered { bytes: Vec::with_capacity(bytes.len()), is_unchanged: true, ..Filtered::default() };
    filtered.stats.bytes_read = bytes.len() as u64;
    each_batch(bytes, |batch| {
        match filter_batch(rules, batch, &mut filtered.stats)? {
            Fate::Keep => filtered.push(batch.bytes()),
            Fate::Replace(with) => {
                filtered.is_unchanged = false;
                filtered.push(&with);
            }
            Fate::Drop => filtered.is_unchanged = false,
        }
        Ok(ControlFlow::Continue(()))
    })?;
    filtered.stats.bytes_written = filtered.bytes.len() as u64;
    Ok(filtered)
}

impl Filtered {
    fn push(&mut self, batch: &[u8]) {
        let view = BatchView::parse(batch).expect("it was parsed, or built, just now");
        self.batches.push(IndexedBatch::of(self.bytes.len() as u64, &view));
        self.bytes.extend_from_slice(batch);
    }
}

/// What becomes of a batch.
enum Fate {
    Keep,
    Replace(Bytes),
    Drop,
}

fn filter_batch(
    rules: &FilterRules,
    batch: &BatchView<'_>,
    stats: &mut CleanStats,
) -> Result<Fate, BatchError> {
    stats.records_read += batch.record_count().max(0) as u64;
    if is_kept_whole(batch) || batch.base_offset() >= rules.map_end.0 {
        stats.records_kept += batch.record_count().max(0) as u64;
        return Ok(Fate::Keep);
    }
    let payload = decompress(batch, MAX_DECOMPRESSED_BYTES)?;
    let mut verdicts = Vec::with_capacity(batch.record_count().max(0) as usize);
    let mut has_tombstone = false;
    for record in RecordIter::new(batch, &payload) {
        let record = record?;
        let stays = record_stays(rules, batch, &record, stats);
        has_tombstone |= stays && record.value.is_none() && record.offset < rules.map_end.0;
        verdicts.push(stays);
    }
    let kept = verdicts.iter().filter(|stays| **stays).count();
    stats.records_kept += kept as u64;
    if kept == 0 {
        return match stays_empty(rules, batch) {
            false => Ok(Fate::Drop),
            true if verdicts.is_empty() => Ok(Fate::Keep),
            true => Ok(Fate::Replace(BatchBuilder::replacing(batch, None)?.build()?)),
        };
    }
    let sets_horizon = has_tombstone && batch.delete_horizon_ms().is_none();
    if kept == verdicts.len() && !sets_horizon {
        return Ok(Fate::Keep);
    }
    let horizon = match sets_horizon {
        true => Some(rules.now_ms.saturating_add(rules.delete_retention_ms)),
        false => batch.delete_horizon_ms(),
    };
    let mut builder = BatchBuilder::replacing(batch, horizon)?;
    for (record, stays) in RecordIter::new(batch, &payload).zip(verdicts) {
        if stays {
            builder.append_record(&record?);
        }
    }
    Ok(Fate::Replace(builder.build()?))
}

fn record_stays(
    rules: &FilterRules,
    batch: &BatchView<'_>,
    record: &Record<'_>,
    stats: &mut CleanStats,
) -> bool {
    if record.offset >= rules.map_end.0 {
        return true;
    }
    let Some(key) = record.key else {
        stats.keyless_removed += 1;
        return false;
    };
    if rules.map.get(key).is_some_and(|latest| latest.0 > record.offset) {
        return false;
    }
    let is_expired = record.value.is_none()
        && batch.delete_horizon_ms().is_some_and(|horizon_ms| rules.now_ms >= horizon_ms);
    stats.tombstones_removed += u64::from(is_expired);
    !is_expired
}

/// Whether a batch without records is still needed.
fn stays_empty(rules: &FilterRules, batch: &BatchView<'_>) -> bool {
    let is_last_of_producer = batch.has_producer_id()
        && rules.last_of_producer.get(&batch.producer_id()) == Some(&batch.last_offset());
    is_last_of_producer || batch.next_offset() == rules.map_end.0
}

fn is_kept_whole(batch: &BatchView<'_>) -> bool {
    batch.is_control() || batch.is_transactional()
}

/// Visits batches whose CRC is right: what is copied gets a new one, which must not hide damage.
fn each_batch(
    bytes: &[u8],
    mut visit: impl FnMut(&BatchView<'_>) -> Result<ControlFlow<()>, BatchError>,
) -> Result<(), BadBatch> {
    let mut at = 0;
    while at < bytes.len() {
        let bad = |error| BadBatch { at, error };
        let batch = BatchView::parse(&bytes[at..]).map_err(bad)?;
        batch.check_crc().map_err(bad)?;
        if visit(&batch).map_err(bad)?.is_break() {
            break;
        }
        at += batch.size();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{
        compression::Compression,
        records::{BatchOptions, EndTxnMarker, assign, end_txn_marker, iter_batches},
    };

    const NOW: i64 = 1_000_000;
    const DAY: i64 = 86_400_000;

    type Row<'a> = (&'a str, Option<&'a str>);

    fn batch(options: BatchOptions, rows: &[Row<'_>]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(options);
        for (i, (key, value)) in rows.iter().enumerate() {
            let key = (!key.is_empty()).then_some(key.as_bytes());
            builder.append(100 + i as i64, key, value.map(str::as_bytes), &[]);
        }
        builder.build().unwrap().to_vec()
    }

    fn at(base_offset: i64) -> BatchOptions {
        BatchOptions { base_offset, partition_leader_epoch: 3, ..BatchOptions::default() }
    }

    fn rules(batches: &[Vec<u8>], map_end: i64) -> FilterRules {
        let mut map = OffsetMap::new(100, 1 << 20, &[7; 16]);
        for batch in batches {
            assert_eq!(note_keys(&mut map, batch, Offset(0)), Ok(None));
        }
        FilterRules {
            map,
            map_end: Offset(map_end),
            now_ms: NOW,
            delete_retention_ms: DAY,
            last_of_producer: AHashMap::new(),
        }
    }

    fn run(rules: &FilterRules, batches: &[Vec<u8>]) -> Filtered {
        filter(rules, &Bytes::from(batches.concat())).unwrap()
    }

    /// (offset, key, value) of every record.
    fn records(bytes: &[u8]) -> Vec<(i64, String, Option<String>)> {
        let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
        let mut all = Vec::new();
        for batch in iter_batches(bytes) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            let payload = decompress(&batch, 1 << 20).unwrap();
            for record in RecordIter::new(&batch, &payload) {
                let record = record.unwrap();
                all.push((record.offset, record.key.map(text).unwrap_or_default(), record.value.map(text)));
            }
        }
        all
    }

    #[test]
    fn of_each_key_the_latest_record_stays_at_its_offset_in_every_codec() {
        for compression in [Compression::None, Compression::Gzip, Compression::Lz4, Compression::Zstd] {
            let options = |base| BatchOptions { compression, ..at(base) };
            let all = [
                batch(options(10), &[("a", Some("1")), ("b", Some("2")), ("a", Some("3"))]),
                batch(options(13), &[("a", Some("4"))]),
                batch(options(14), &[("c", Some("5")), ("b", Some("6"))]),
            ];
            let filtered = run(&rules(&all, 16), &all);
            let expected = [(13, "a", "4"), (14, "c", "5"), (15, "b", "6")]
                .map(|(o, k, v)| (o, k.into(), Some(v.into())));
            assert_eq!(records(&filtered.bytes), expected);
            assert_eq!(filtered.batches.len(), 2, "a batch of which nothing is left goes");
            assert_eq!((filtered.stats.records_read, filtered.stats.records_kept), (6, 3));
            assert!(!filtered.is_unchanged);
            let again = run(&rules(&all, 16), std::slice::from_ref(&filtered.bytes));
            assert!(
                again.is_unchanged && again.bytes == filtered.bytes,
                "cleaning what is clean changes nothing"
            );
        }
    }

    #[test]
    fn what_is_left_of_a_batch_keeps_offsets_sequences_epoch_codec_and_timestamps() {
        let options = BatchOptions {
            compression: Compression::Gzip,
            producer_id: 5,
            producer_epoch: 2,
            base_sequence: 40,
            ..at(10)
        };
        let all = [batch(options, &[("a", Some("1")), ("b", Some("2")), ("a", Some("3")), ("b", Some("4"))])];
        let mut r = rules(&all, 15);
        r.map.put(b"b", Offset(14));
        let filtered = run(&r, &all);
        let kept = BatchView::parse(&filtered.bytes).unwrap();
        assert_eq!((kept.base_offset(), kept.last_offset(), kept.record_count()), (10, 13, 1));
        assert_eq!((kept.base_sequence(), kept.last_sequence(), kept.leader_epoch()), (40, 43, 3));
        assert_eq!((kept.producer_id(), kept.producer_epoch()), (5, 2));
        assert_eq!(kept.compression(), Ok(Compression::Gzip));
        assert_eq!(kept.max_timestamp(), 102, "the largest timestamp is that of the records left");
        let payload = decompress(&kept, 1000).unwrap();
        let record = RecordIter::new(&kept, &payload).next().unwrap().unwrap();
        assert_eq!((record.offset, record.timestamp), (12, 102));
    }

    #[test]
    fn a_tombstone_gets_a_horizon_first_and_goes_only_behind_it() {
        let all = [batch(at(0), &[("a", Some("1")), ("b", Some("2"))]), batch(at(2), &[("a", None)])];
        let mut r = rules(&all, 4);
        let first = run(&r, &all);
        assert_eq!(records(&first.bytes), [(1, "b".into(), Some("2".into())), (2, "a".into(), None)]);
        let horizon = |bytes: &[u8]| iter_batches(bytes).last().unwrap().unwrap().delete_horizon_ms();
        assert_eq!(horizon(&first.bytes), Some(NOW + DAY));
        let timestamp = |bytes: &[u8]| {
            let batch = iter_batches(bytes).last().unwrap().unwrap();
            RecordIter::new(&batch, batch.payload()).next().unwrap().unwrap().timestamp
        };
        assert_eq!(timestamp(&first.bytes), 100, "the record's own timestamp stays");
        r.now_ms = NOW + DAY - 1;
        let second = run(&r, std::slice::from_ref(&first.bytes));
        assert!(second.is_unchanged, "the horizon is set once");
        r.now_ms = NOW + DAY;
        let third = run(&r, &[first.bytes]);
        assert_eq!(records(&third.bytes), [(1, "b".into(), Some("2".into()))]);
        assert_eq!(third.stats.tombstones_removed, 1);
    }

    #[test]
    fn the_last_batch_of_a_producer_and_of_the_pass_stay_as_empty_batches() {
        let of = |base_offset, base_sequence| BatchOptions {
            producer_id: 9,
            producer_epoch: 0,
            base_sequence,
            ..at(base_offset)
        };
        let all = [
            batch(of(0, 0), &[("a", Some("1"))]),
            batch(of(1, 1), &[("a", Some("2")), ("a", Some("3"))]),
            batch(at(3), &[("a", Some("4"))]),
            batch(at(4), &[("a", Some("5"))]),
        ];
        let mut r = rules(&all, 5);
        r.map.put(b"a", Offset(9));
        r.last_of_producer.insert(9, 2);
        let filtered = run(&r, &all);
        let left: Vec<_> = iter_batches(&filtered.bytes).map(|b| b.unwrap()).collect();
        let facts: Vec<_> = left
            .iter()
            .map(|b| (b.base_offset(), b.last_offset(), b.record_count(), b.last_sequence()))
            .collect();
        assert_eq!(facts, [(1, 2, 0, 2), (4, 4, 0, -1)]);
        left.iter().for_each(|b| b.check_crc().unwrap());
        assert!(
            filtered.batches.iter().all(|b| b.max_timestamp == -1),
            "no record, no timestamp to be found"
        );
        let again = run(&r, std::slice::from_ref(&filtered.bytes));
        assert!(again.is_unchanged, "an empty batch that is needed stays");
        r.last_of_producer.insert(9, 20);
        r.map_end = Offset(6);
        assert!(run(&r, &[filtered.bytes]).bytes.is_empty(), "one that is not needed any more goes");
    }

    #[test]
    fn records_without_key_go_and_those_the_map_does_not_know_yet_stay() {
        let all = [batch(at(0), &[("", Some("x")), ("a", Some("1")), ("a", Some("2")), ("", None)])];
        let mut r = rules(&all, 4);
        r.map_end = Offset(2);
        let filtered = run(&r, &all);
        let kept: Vec<_> = records(&filtered.bytes).iter().map(|(offset, ..)| *offset).collect();
        assert_eq!(kept, [2, 3], "offset 1 has a successor, 2 and 3 are beyond the map");
        assert_eq!(filtered.stats.keyless_removed, 1);
        assert_eq!(BatchView::parse(&filtered.bytes).unwrap().delete_horizon_ms(), None);
    }

    #[test]
    fn the_map_is_told_where_it_became_full() {
        let all = batch(at(5), &[("a", Some("1")), ("b", Some("1")), ("a", Some("2")), ("c", Some("1"))]);
        let mut map = OffsetMap::new(2, 1 << 20, &[0; 16]);
        while map.capacity() > 2 {
            map = OffsetMap::new(2, map.heap_bytes() - 24, &[0; 16]);
        }
        assert_eq!(note_keys(&mut map, &all, Offset(5)), Ok(Some(Offset(8))));
        assert_eq!((map.get(b"a"), map.get(b"b")), (Some(Offset(7)), Some(Offset(6))));
        let mut from = OffsetMap::new(9, 1 << 20, &[0; 16]);
        assert_eq!(note_keys(&mut from, &all, Offset(7)), Ok(None));
        assert_eq!((from.get(b"b"), from.get(b"a")), (None, Some(Offset(7))));
    }

    #[test]
    fn transactions_and_their_markers_stay_whole_and_damage_is_not_copied() {
        let transactional = BatchOptions {
            is_transactional: true,
            producer_id: 1,
            producer_epoch: 0,
            base_sequence: 0,
            ..at(0)
        };
        let mut marker =
            end_txn_marker(1, 0, EndTxnMarker { committed: false, coordinator_epoch: 0 }, 1).to_vec();
        assign(&mut marker, 1, 3, None);
        let all = [batch(transactional, &[("a", Some("1"))]), marker, batch(at(2), &[("a", Some("2"))])];
        let r = rules(&all, 3);
        assert_eq!(r.map.len(), 1);
        let filtered = run(&r, &all);
        assert!(filtered.is_unchanged, "the transaction may have been aborted");

        let mut damaged = all.concat();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let at = all[0].len() + all[1].len();
        let bad = filter(&r, &Bytes::from(damaged.clone())).unwrap_err();
        assert!(matches!(bad, BadBatch { at: found, error: BatchError::CrcMismatch { .. } } if found == at));
        assert!(note_keys(&mut rules(&[], 0).map, &damaged, Offset(0)).is_err());
    }
}
