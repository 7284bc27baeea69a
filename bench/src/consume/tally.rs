//! What fetched bytes count for: records, bytes, latencies from their stamps, and whether they are what they should be.

use protocol::records::{BatchError, BatchView, Record, RecordIter, decompress, iter_batches};

use super::sequence::Sequences;
use super::verification::Verification;
use crate::payload::{self, Contents, Stamp};
use crate::stats::Interval;

/// No batch of a run is larger after decompression.
const MOST_DECOMPRESSED_BYTES: usize = 1 << 30;

/// What to look at besides counting.
#[derive(Debug, Clone, Copy)]
pub struct Checks {
    /// Measure the latency of records that were meant to be sent at this moment or later, nanoseconds since 1970.
    pub latency_from: Option<u64>,
    /// Check checksums, numbers and offsets.
    pub verify: bool,
}

/// What has been read of one partition.
#[derive(Debug, Default)]
pub struct PartitionTally {
    /// Its number, for messages.
    pub partition: i32,
    /// Its sources.
    pub sequences: Sequences,
}

/// What came out of one partition's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tallied {
    /// Where reading goes on.
    pub next_offset: i64,
    /// Records that carry no stamp.
    pub unstamped: u64,
}

/// Where reading goes on after `bytes`, found from the batch headers alone; `position` if they hold no whole batch.
pub fn next_offset(bytes: &[u8], position: i64) -> Result<i64, BatchError> {
    let mut next = position;
    for batch in iter_batches(bytes).tolerate_cut_tail() {
        next = next.max(batch?.next_offset());
    }
    Ok(next)
}

impl PartitionTally {
    /// Nothing read yet; `from_first` if reading begins with the partition's first record.
    pub fn new(partition: i32, from_first: bool) -> PartitionTally {
        PartitionTally { partition, sequences: Sequences::new(from_first) }
    }

    /// Counts the whole batches in `bytes`, fetched from `position` on, into `interval`. They arrived at `arrived_unix_ns`.
    pub fn count(
        &mut self,
        bytes: &[u8],
        position: i64,
        checks: Checks,
        arrived_unix_ns: u64,
        interval: &mut Interval,
        verification: &mut Verification,
    ) -> Result<Tallied, BatchError> {
        let mut tallied = Tallied { next_offset: position, ..Tallied::default() };
        for batch in iter_batches(bytes).tolerate_cut_tail() {
            let batch = batch?;
            if checks.verify
                && let Some(wrong) = examine(&batch, tallied.next_offset)
            {
                interval.count_error("WRONG_BATCH", batch.record_count().max(0) as u64);
                verification.wrong_batch(format!("partition {}: {wrong}", self.partition));
            }
            interval.wire_bytes += batch.size() as u64;
            interval.batches += 1;
            let payload = decompress(&batch, MOST_DECOMPRESSED_BYTES)?;
            for record in RecordIter::new(&batch, &payload) {
                let record = record?;
                if record.offset < position || batch.is_control() {
                    continue;
                }
                let value = record.value.unwrap_or_default();
                interval.records += 1;
                interval.payload_bytes += (value.len() + record.key.map_or(0, <[u8]>::len)) as u64;
                let stamp = if checks.verify {
                    self.verify(&record, interval, verification)
                } else {
                    payload::stamp(value)
                };
                match (checks.latency_from, stamp) {
                    (Some(from), Some(stamp)) if stamp.intended_unix_ns >= from => {
                        interval
                            .latency
                            .saturating_record(arrived_unix_ns.saturating_sub(stamp.intended_unix_ns));
                    }
                    (_, Some(_)) => {}
                    (_, None) => tallied.unstamped += 1,
                }
            }
            tallied.next_offset = tallied.next_offset.max(batch.next_offset());
        }
        Ok(tallied)
    }

    /// Compares a record with its checksum and with those before it.
    #[inline]
    fn verify(
        &mut self,
        record: &Record<'_>,
        interval: &mut Interval,
        verification: &mut Verification,
    ) -> Option<Stamp> {
        let (partition, offset) = (self.partition, record.offset);
        let describe = || format!("partition {partition}, offset {offset}");
        match payload::check(record.value.unwrap_or_default(), record.key.unwrap_or_default()) {
            Contents::Sound(stamp) => {
                let place = self.sequences.see(stamp.source, stamp.number);
                verification.place(place, describe);
                if let Some(name) = place.name() {
                    interval.count_error(name, 1);
                }
                Some(stamp)
            }
            Contents::Damaged => {
                verification.damaged(describe);
                interval.count_error("DAMAGED", 1);
                None
            }
            Contents::Foreign => {
                verification.foreign += 1;
                None
            }
        }
    }
}

/// What is wrong with a batch whose predecessor ended before `expected`.
fn examine(batch: &BatchView<'_>, expected: i64) -> Option<String> {
    let offsets = batch.base_offset()..=batch.last_offset();
    if batch.check_crc().is_err() {
        return Some(format!("batch at offset {}: the CRC is wrong", batch.base_offset()));
    }
    // The first batch of a fetch may begin before the offset that was asked for.
    if !offsets.contains(&expected) {
        return Some(format!("batch of offsets {offsets:?} where {expected} was due"));
    }
    if i64::from(batch.record_count()) != batch.next_offset() - batch.base_offset() {
        return Some(format!("batch of offsets {offsets:?} has {} records", batch.record_count()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{BatchFields, Filling, Payload, PayloadPlan, finish};
    use protocol::compression::{Compression, compress};
    use protocol::records::{BatchBuilder, BatchOptions};

    const ALL: Checks = Checks { latency_from: Some(0), verify: true };

    /// A batch of records of one source, `numbers` long, at an offset.
    fn batch(base_offset: i64, numbers: std::ops::Range<u64>, compression: Compression) -> Vec<u8> {
        let plan = PayloadPlan {
            sizes: "60".parse().expect("a size"),
            filling: Filling::Text,
            keyed: true,
            batch_bytes: 1 << 20,
        };
        let payload = Payload::new(&plan);
        let count = (numbers.end - numbers.start) as u32;
        let mut plain = vec![0; payload.extent(0, count).batch_bytes];
        payload.write_records(&mut plain, 0, count, false, |n| {
            let number = numbers.start + u64::from(n);
            (Stamp { intended_unix_ns: 1_000_000 * (number + 1), source: 5, number }, 3)
        });
        let header = crate::payload::BATCH_HEADER_BYTES;
        let mut batch = plain[..header].to_vec();
        compress(compression, None, &plain[header..], &mut batch).expect("compresses");
        let fields = BatchFields {
            base_offset,
            timestamp_ms: 1,
            attributes: i16::from(compression.id()),
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
        };
        finish(&mut batch, count, &fields);
        batch
    }

    fn tally(bytes: &[u8], position: i64) -> (Tallied, Interval, Verification) {
        let (mut interval, mut verification) = (Interval::new(0), Verification::default());
        let tallied = PartitionTally::new(0, true)
            .count(bytes, position, ALL, 10_000_000, &mut interval, &mut verification)
            .expect("readable");
        (tallied, interval, verification)
    }

    #[test]
    fn latency_counts_from_the_stamp_in_the_record() {
        for compression in Compression::ALL {
            let (tallied, interval, verification) = tally(&batch(5, 0..3, compression), 5);
            assert_eq!(tallied, Tallied { next_offset: 8, unstamped: 0 });
            assert_eq!((interval.records, interval.payload_bytes, interval.batches), (3, 210, 1));
            assert!(interval.latency.max() >= 8_990_000 && interval.latency.min() <= 7_010_000);
            assert!(verification.is_sound() && verification.checked == 3, "{verification:?}");
        }
    }

    #[test]
    fn records_of_the_warm_up_have_no_latency_and_are_checked_all_the_same() {
        let (mut interval, mut verification) = (Interval::new(0), Verification::default());
        let checks = Checks { latency_from: Some(2_500_000), verify: true };
        PartitionTally::new(0, true)
            .count(
                &batch(0, 0..4, Compression::None),
                0,
                checks,
                10_000_000,
                &mut interval,
                &mut verification,
            )
            .expect("sound");
        assert_eq!((interval.latency.len(), verification.checked), (2, 4));
    }

    #[test]
    fn records_before_the_position_do_not_count_again() {
        let bytes = batch(0, 0..3, Compression::None);
        let (mut interval, mut verification) = (Interval::new(0), Verification::default());
        let tallied = PartitionTally::new(0, false)
            .count(&bytes, 2, ALL, 100, &mut interval, &mut verification)
            .expect("sound");
        assert_eq!((tallied.next_offset, interval.records), (3, 1));
        assert!(verification.is_sound(), "{verification:?}");
    }

    #[test]
    fn loss_repetition_and_damage_are_found_whoever_hides_them() {
        let two = |first: Vec<u8>, second: Vec<u8>| tally(&[first, second].concat(), 0).2;
        let none = Compression::None;
        // The broker lost records: offsets have a gap.
        let found = two(batch(0, 0..2, none), batch(3, 3..4, none));
        assert_eq!((found.lost, found.wrong_batches), (1, 1));
        // The broker lost records, and its offsets hide it.
        let found = two(batch(0, 0..2, none), batch(2, 3..4, none));
        assert_eq!((found.lost, found.wrong_batches), (1, 0));
        assert!(found.first.is_some_and(|first| first.contains("offset 2: 1 records")));
        // The same batch twice, at two offsets.
        let found = two(batch(0, 0..2, none), batch(2, 0..2, none));
        assert_eq!((found.duplicated, found.wrong_batches), (2, 0));
        // Two batches in the wrong order.
        let found = two(batch(0, 2..4, none), batch(2, 0..2, none));
        assert_eq!((found.lost, found.reordered), (0, 2));
        // A flipped bit in a value, with the batch's CRC made right again.
        let mut bytes = batch(0, 0..2, none);
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        assert_eq!(tally(&bytes, 0).2.wrong_batches, 1);
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let found = tally(&bytes, 0).2;
        assert_eq!((found.damaged, found.wrong_batches), (1, 0));
        assert!(found.first.is_some_and(|first| first.contains("offset 1")));
    }

    #[test]
    fn a_cut_batch_at_the_end_is_left_for_the_next_fetch() {
        let mut bytes = batch(0, 0..2, Compression::None);
        bytes.extend(&batch(2, 2..4, Compression::None)[..40]);
        assert_eq!(next_offset(&bytes, 0), Ok(2));
        assert_eq!(tally(&bytes, 0).0.next_offset, 2);
        assert_eq!(next_offset(&[], 9), Ok(9));
    }

    #[test]
    fn records_of_other_programs_count_and_have_no_latency() {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(1, None, Some(b"short"), &[]);
        builder.append(1, None, None, &[]);
        builder.append(1, None, Some(b"a text of any length that is no stamp"), &[]);
        let bytes = builder.build().expect("builds");
        let (tallied, interval, verification) = tally(&bytes, 0);
        assert_eq!((tallied.unstamped, interval.records, interval.latency.len()), (3, 3, 0));
        assert!(verification.is_sound() && verification.foreign == 3);
    }
}
