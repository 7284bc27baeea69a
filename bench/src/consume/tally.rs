//! What fetched bytes count for: records, bytes, latencies from their stamps, and whether they are what they should be.

use protocol::records::{BatchError, BatchView, RecordIter, decompress, iter_batches};

use crate::produce::STAMP_BYTES;
use crate::stats::Interval;

/// No batch of a run is larger after decompression.
const MOST_DECOMPRESSED_BYTES: usize = 1 << 30;
/// A stamp that is further in the past is no stamp of a running load.
const OLDEST_STAMP_NS: u64 = 3_600_000_000_000;

/// What to look at besides counting.
#[derive(Debug, Clone, Copy)]
pub struct Checks {
    /// Measure latency from stamps.
    pub latency: bool,
    /// Check CRCs and that offsets follow each other.
    pub verify: bool,
}

/// What came out of one partition's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tallied {
    /// Where reading goes on.
    pub next_offset: i64,
    /// Records that carry no stamp.
    pub unstamped: u64,
    /// The first thing that was wrong, with the offset.
    pub wrong: Option<String>,
}

/// Where reading goes on after `bytes`, found from the batch headers alone; `position` if they hold no whole batch.
pub fn next_offset(bytes: &[u8], position: i64) -> Result<i64, BatchError> {
    let mut next = position;
    for batch in iter_batches(bytes).tolerate_cut_tail() {
        next = next.max(batch?.next_offset());
    }
    Ok(next)
}

/// Counts the whole batches in `bytes`, fetched from `position` on, into `interval`. They arrived at `arrived_unix_ns`.
pub fn tally(
    bytes: &[u8],
    position: i64,
    checks: Checks,
    arrived_unix_ns: u64,
    interval: &mut Interval,
) -> Result<Tallied, BatchError> {
    let mut tallied = Tallied { next_offset: position, ..Tallied::default() };
    for batch in iter_batches(bytes).tolerate_cut_tail() {
        let batch = batch?;
        if checks.verify && tallied.wrong.is_none() {
            tallied.wrong = examine(&batch, tallied.next_offset);
        }
        interval.wire_bytes += batch.size() as u64;
        interval.batches += 1;
        let payload = decompress(&batch, MOST_DECOMPRESSED_BYTES)?;
        let mut expected = batch.base_offset();
        for record in RecordIter::new(&batch, &payload) {
            let record = record?;
            if checks.verify && record.offset != expected && tallied.wrong.is_none() {
                tallied.wrong = Some(format!("record offset {} where {expected} was due", record.offset));
            }
            expected = record.offset + 1;
            if record.offset < position || batch.is_control() {
                continue;
            }
            let value = record.value.unwrap_or_default();
            interval.records += 1;
            interval.payload_bytes += (value.len() + record.key.map_or(0, <[u8]>::len)) as u64;
            if checks.latency {
                match stamp(value).and_then(|stamp| arrived_unix_ns.checked_sub(stamp)) {
                    Some(latency) if latency < OLDEST_STAMP_NS => interval.latency.saturating_record(latency),
                    _ => tallied.unstamped += 1,
                }
            }
        }
        tallied.next_offset = tallied.next_offset.max(batch.next_offset());
    }
    Ok(tallied)
}

fn stamp(value: &[u8]) -> Option<u64> {
    value.first_chunk::<STAMP_BYTES>().map(|bytes| u64::from_be_bytes(*bytes))
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
    use protocol::compression::Compression;
    use protocol::records::{BatchBuilder, BatchOptions};

    fn batch(base_offset: i64, stamps: &[u64], compression: Compression) -> Vec<u8> {
        let mut builder =
            BatchBuilder::new(BatchOptions { base_offset, compression, ..BatchOptions::default() });
        for stamp in stamps {
            builder.append(1, Some(b"key"), Some(&stamp.to_be_bytes()), &[]);
        }
        builder.build().expect("builds").to_vec()
    }

    const ALL: Checks = Checks { latency: true, verify: true };

    #[test]
    fn latency_counts_from_the_stamp_in_the_record() {
        for compression in Compression::ALL {
            let mut interval = Interval::new(0);
            let bytes = batch(5, &[1_000_000, 2_000_000, 3_000_000], compression);
            let tallied = tally(&bytes, 5, ALL, 10_000_000, &mut interval).expect("sound");
            assert_eq!(tallied, Tallied { next_offset: 8, unstamped: 0, wrong: None });
            assert_eq!((interval.records, interval.payload_bytes, interval.batches), (3, 33, 1));
            assert!(interval.latency.max() >= 8_990_000 && interval.latency.min() <= 7_010_000);
        }
    }

    #[test]
    fn records_before_the_position_do_not_count_again() {
        let mut interval = Interval::new(0);
        let bytes = batch(0, &[1, 2, 3], Compression::None);
        let tallied = tally(&bytes, 2, ALL, 100, &mut interval).expect("sound");
        assert_eq!((tallied.next_offset, tallied.wrong, interval.records), (3, None, 1));
    }

    #[test]
    fn a_gap_a_repetition_and_a_flipped_bit_are_found() {
        let mut interval = Interval::new(0);
        let gap = [batch(0, &[1, 2], Compression::None), batch(3, &[3], Compression::None)].concat();
        let wrong = tally(&gap, 0, ALL, 100, &mut interval).expect("readable").wrong;
        assert!(wrong.is_some_and(|text| text.contains("2 was due")));
        let again = [batch(0, &[1, 2], Compression::None), batch(0, &[1, 2], Compression::None)].concat();
        assert!(tally(&again, 0, ALL, 100, &mut interval).expect("readable").wrong.is_some());
        let mut flipped = batch(0, &[1, 2], Compression::None);
        let last = flipped.len() - 3;
        flipped[last] ^= 1;
        let wrong = tally(&flipped, 0, ALL, 100, &mut interval).expect("readable").wrong;
        assert!(wrong.is_some_and(|text| text.contains("CRC")));
    }

    #[test]
    fn a_cut_batch_at_the_end_is_left_for_the_next_fetch() {
        let mut bytes = batch(0, &[1, 2], Compression::None);
        bytes.extend(&batch(2, &[3, 4], Compression::None)[..40]);
        let mut interval = Interval::new(0);
        assert_eq!(next_offset(&bytes, 0), Ok(2));
        assert_eq!(tally(&bytes, 0, ALL, 100, &mut interval).expect("sound").next_offset, 2);
        assert_eq!(next_offset(&[], 9), Ok(9));
    }

    #[test]
    fn values_without_a_stamp_have_no_latency() {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(1, None, Some(b"short"), &[]);
        builder.append(1, None, None, &[]);
        builder.append(1, None, Some(b"a text that is no stamp"), &[]);
        let bytes = builder.build().expect("builds");
        let mut interval = Interval::new(0);
        let tallied = tally(&bytes, 0, ALL, 1_700_000_000_000_000_000, &mut interval).expect("sound");
        assert_eq!((tallied.unstamped, interval.records, interval.latency.len()), (3, 3, 0));
    }
}
