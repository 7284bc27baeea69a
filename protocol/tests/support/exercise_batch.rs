//! What the fuzz target and the random smoke test do with bytes from a stranger.

use protocol::records::{
    BatchView, ControlRecord, Origin, RecordIter, ValidatedBatch, ValidationLimits, decompress, iter_batches,
    validate,
};

const NOW_MS: i64 = 1_700_000_000_000;
const MAX_BYTES: usize = 1 << 20;

/// Reads `bytes` in every way that the broker does, as they are and with their CRC made right (otherwise hardly anything
/// would get past it), and checks what must hold of whatever passes.
pub fn exercise_batch(bytes: &[u8]) {
    for batch in iter_batches(bytes).tolerate_cut_tail().flatten() {
        read_records(&batch);
    }
    check(bytes);
    if let Ok(batch) = BatchView::parse(bytes) {
        let crc = batch.computed_crc();
        let mut sealed = bytes.to_vec();
        sealed[17..21].copy_from_slice(&crc.to_be_bytes());
        check(&sealed);
    }
}

fn check(bytes: &[u8]) {
    for origin in [Origin::Client, Origin::Coordinator, Origin::Replication] {
        for require_keys in [false, true] {
            let mut limits = ValidationLimits { origin, require_keys, ..ValidationLimits::default() };
            limits.decompression.max_bytes = MAX_BYTES;
            match validate(bytes, &limits, NOW_MS) {
                Ok(validated) => check_valid(bytes, &validated, origin),
                Err(error) => assert!(!error.to_string().is_empty() && error.code().0 > 0),
            }
        }
    }
}

/// A batch that passed must read back completely, and survive being placed in a log.
fn check_valid(bytes: &[u8], validated: &ValidatedBatch, origin: Origin) {
    let batch = BatchView::parse(bytes).expect("a valid batch parses");
    assert_eq!(read_records(&batch), Some(validated.record_count as usize));

    let mut placed = bytes.to_vec();
    validated.assign(&mut placed, 1 << 40, 3, None);
    let replicated = ValidationLimits { origin: Origin::Replication, ..ValidationLimits::default() };
    let again = validate(&placed, &replicated, NOW_MS).expect("a placed batch is valid for a follower");
    assert_eq!(again.max_timestamp, validated.max_timestamp);
    if origin != Origin::Replication {
        validated.assign(&mut placed, 1 << 40, 3, Some(NOW_MS));
        validate(&placed, &replicated, NOW_MS).expect("so is one with LogAppendTime");
    }
}

/// The number of records, if all of them could be read.
fn read_records(batch: &BatchView<'_>) -> Option<usize> {
    let payload = decompress(batch, MAX_BYTES).ok()?;
    let mut count = 0;
    for record in RecordIter::new(batch, &payload) {
        let record = record.ok()?;
        let headers = record.headers.len();
        assert_eq!(record.headers.count(), headers);
        ControlRecord::parse(record.key, record.value);
        count += 1;
    }
    Some(count)
}
