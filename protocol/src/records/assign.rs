//! Placing a batch in a log, in place.

use zerocopy::FromBytes;

use super::header::{BATCH_HEADER_BYTES, BatchHeader, CRC_START, TimestampType};

/// Gives a validated batch its place: base offset and leader epoch, which the CRC does not cover; and, if the topic's
/// timestamp type is LogAppendTime, the time of the append, which it does cover and which costs a pass over the bytes.
///
/// `batch` is exactly one batch. See [`ValidatedBatch::assign`](super::ValidatedBatch::assign), which also corrects
/// what a producer wrote into the header.
///
/// # Panics
/// If `batch` is shorter than a header: it has not been validated.
pub fn assign(batch: &mut [u8], base_offset: i64, leader_epoch: i32, log_append_time_ms: Option<i64>) {
    let header = header_mut(batch);
    header.base_offset.set(base_offset);
    header.partition_leader_epoch.set(leader_epoch);
    if let Some(now_ms) = log_append_time_ms {
        set_max_timestamp(batch, TimestampType::LogAppendTime, now_ms);
    }
}

/// Sets timestamp type and max timestamp, and the CRC if one of them changes.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn set_max_timestamp(batch: &mut [u8], timestamp_type: TimestampType, max_timestamp_ms: i64) {
    let header = header_mut(batch);
    let attributes = header.attributes().with_timestamp_type(timestamp_type);
    if attributes == header.attributes() && header.max_timestamp.get() == max_timestamp_ms {
        return;
    }
    header.attributes.set(attributes.0);
    header.max_timestamp.set(max_timestamp_ms);
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    header_mut(batch).crc.set(crc);
}

pub(super) fn header_mut(batch: &mut [u8]) -> &mut BatchHeader {
    assert!(batch.len() >= BATCH_HEADER_BYTES, "a batch starts with a whole header");
    BatchHeader::mut_from_prefix(batch).expect("the header has no alignment and fits").0
}
