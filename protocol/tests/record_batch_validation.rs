//! Which batches a leader takes, and what it answers about the others.

use protocol::{
    ErrorCode,
    compression::{Compression, compress},
    records::{
        BatchBuilder, BatchError, BatchOptions, BatchView, ControlRecord, Depth, EndTxnMarker, Origin,
        RecordIter, TimestampType, ValidationLimits, assign, end_txn_marker, iter_batches, recompress,
        set_max_timestamp, validate,
    },
};

const NOW_MS: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;

fn batch_with(options: BatchOptions, timestamps: &[i64]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for timestamp in timestamps {
        builder.append(*timestamp, Some(b"key"), Some(b"value"), &[]);
    }
    builder.build().unwrap().to_vec()
}

fn batch() -> Vec<u8> {
    batch_with(BatchOptions::default(), &[NOW_MS, NOW_MS + 2, NOW_MS + 1])
}

fn refused(batch: &[u8], limits: &ValidationLimits) -> (ErrorCode, BatchError) {
    let error = validate(batch, limits, NOW_MS).unwrap_err();
    (error.code(), error)
}

fn code(batch: &[u8]) -> ErrorCode {
    refused(batch, &ValidationLimits::default()).0
}

#[test]
fn message_sets_of_the_old_formats_are_invalid_records_and_unknown_formats_are_corrupt() {
    for (magic, expected) in [
        (0i8, ErrorCode::INVALID_RECORD),
        (1, ErrorCode::INVALID_RECORD),
        (3, ErrorCode::CORRUPT_MESSAGE),
        (-1, ErrorCode::CORRUPT_MESSAGE),
    ] {
        let mut bytes = batch();
        bytes[16] = magic as u8;
        assert_eq!(code(&bytes), expected, "magic {magic}");
    }
}

#[test]
fn a_small_old_message_is_recognised_although_it_is_shorter_than_a_header() {
    // offset, size 14, crc, magic 0, attributes, null key, null value
    let mut message = vec![0; 8];
    message.extend(14i32.to_be_bytes());
    message.extend([0; 4]);
    message.extend([0, 0]);
    message.extend([0xff; 8]);
    assert_eq!(refused(&message, &ValidationLimits::default()).1, BatchError::OldMagic(0));
}

#[test]
fn nothing_and_half_a_batch_are_invalid_records() {
    assert_eq!(code(&[]), ErrorCode::INVALID_RECORD);
    assert_eq!(code(&batch()[..70]), ErrorCode::INVALID_RECORD);
}

#[test]
fn a_second_batch_or_bytes_behind_the_first_are_refused() {
    let mut two = batch();
    two.extend(batch());
    assert_eq!(code(&two), ErrorCode::INVALID_RECORD);
    let mut more = batch();
    more.push(0);
    assert_eq!(code(&more), ErrorCode::INVALID_RECORD);
}

#[test]
fn a_wrong_crc_is_a_corrupt_message() {
    let mut bytes = batch();
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(code(&bytes), ErrorCode::CORRUPT_MESSAGE);
}

#[test]
fn the_size_limit_counts_the_whole_batch() {
    let bytes = batch();
    let mut limits = ValidationLimits { max_message_bytes: bytes.len(), ..ValidationLimits::default() };
    validate(&bytes, &limits, NOW_MS).unwrap();
    limits.max_message_bytes -= 1;
    assert_eq!(refused(&bytes, &limits).0, ErrorCode::MESSAGE_TOO_LARGE);
}

#[test]
fn producers_start_at_offset_zero_and_the_log_does_not() {
    let bytes = batch_with(BatchOptions { base_offset: 5, ..BatchOptions::default() }, &[NOW_MS]);
    assert_eq!(code(&bytes), ErrorCode::INVALID_RECORD);
    let limits = ValidationLimits { origin: Origin::Replication, ..ValidationLimits::default() };
    validate(&bytes, &limits, NOW_MS).unwrap();
}

#[test]
fn only_coordinators_write_control_batches() {
    let marker = EndTxnMarker { committed: true, coordinator_epoch: 9 };
    let bytes = end_txn_marker(77, 3, marker, NOW_MS);
    assert_eq!(code(&bytes), ErrorCode::INVALID_RECORD);

    let limits =
        ValidationLimits { origin: Origin::Coordinator, require_keys: true, ..ValidationLimits::default() };
    let validated = validate(&bytes, &limits, NOW_MS).unwrap();
    assert!(validated.is_control && validated.is_transactional);
    assert_eq!((validated.producer_id, validated.producer_epoch, validated.base_sequence), (77, 3, -1));
    assert_eq!(validated.last_sequence(), -1);
}

#[test]
fn an_idempotent_batch_needs_a_sequence() {
    let options =
        BatchOptions { producer_id: 1, producer_epoch: 0, base_sequence: -1, ..BatchOptions::default() };
    assert_eq!(code(&batch_with(options, &[NOW_MS])), ErrorCode::INVALID_RECORD);
}

#[test]
fn what_only_brokers_set_is_refused_from_producers() {
    let append_time = BatchOptions { log_append_time_ms: Some(NOW_MS), ..BatchOptions::default() };
    assert_eq!(code(&batch_with(append_time, &[NOW_MS])), ErrorCode::INVALID_TIMESTAMP);
    let horizon = BatchOptions { delete_horizon_ms: Some(NOW_MS), ..BatchOptions::default() };
    assert_eq!(code(&batch_with(horizon, &[NOW_MS])), ErrorCode::INVALID_RECORD);
}

#[test]
fn undefined_codecs_are_unsupported_and_zstd_is_for_those_who_know_it() {
    for id in 5..8 {
        let mut bytes = batch();
        bytes[22] |= id;
        assert_eq!(code(&bytes), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    }
    let options = BatchOptions { compression: Compression::Zstd, ..BatchOptions::default() };
    let bytes = batch_with(options, &[NOW_MS]);
    let limits = ValidationLimits { allow_zstd: false, ..ValidationLimits::default() };
    assert_eq!(refused(&bytes, &limits).0, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
}

#[test]
fn timestamps_outside_the_window_are_listed_record_by_record() {
    for compression in Compression::ALL {
        let options = BatchOptions { compression, ..BatchOptions::default() };
        let after = NOW_MS + HOUR_MS;
        let bytes = batch_with(options, &[NOW_MS, after + 1, after, -1, after + 5]);
        let (code, error) = refused(&bytes, &ValidationLimits::default());
        assert_eq!(code, ErrorCode::INVALID_TIMESTAMP);
        let indexes: Vec<_> = error.record_errors().iter().map(|error| error.batch_index).collect();
        assert_eq!(indexes, [1, 4], "-1 is no timestamp, and passes");
        assert!(error.record_errors()[0].message.contains(&format!("{}]", after)), "{error:?}");
        assert_eq!(error.to_string(), "One or more records have been rejected due to invalid timestamp");
    }
}

#[test]
fn the_window_also_has_a_beginning_and_does_not_overflow() {
    let bytes = batch_with(BatchOptions::default(), &[NOW_MS - 1_000]);
    let mut limits = ValidationLimits { message_timestamp_before_max_ms: 999, ..ValidationLimits::default() };
    assert_eq!(refused(&bytes, &limits).0, ErrorCode::INVALID_TIMESTAMP);
    limits.message_timestamp_before_max_ms = 1_000;
    validate(&bytes, &limits, NOW_MS).unwrap();
    let ancient = batch_with(BatchOptions::default(), &[-1_000_000_000]);
    validate(&ancient, &ValidationLimits::default(), NOW_MS).unwrap();
    for extreme in [i64::MIN, i64::MAX] {
        assert_eq!(code(&batch_with(BatchOptions::default(), &[extreme])), ErrorCode::INVALID_TIMESTAMP);
    }
}

#[test]
fn with_log_append_time_the_producers_timestamps_do_not_matter() {
    let bytes = batch_with(BatchOptions::default(), &[i64::MAX]);
    let limits = ValidationLimits {
        message_timestamp_type: TimestampType::LogAppendTime,
        ..ValidationLimits::default()
    };
    validate(&bytes, &limits, NOW_MS).unwrap();
}

#[test]
fn compacted_topics_need_keys() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(NOW_MS, Some(b""), None, &[]);
    builder.append(NOW_MS, None, Some(b"v"), &[]);
    let bytes = builder.build().unwrap();
    validate(&bytes, &ValidationLimits::default(), NOW_MS).unwrap();
    let limits = ValidationLimits { require_keys: true, ..ValidationLimits::default() };
    let (code, error) = refused(&bytes, &limits);
    assert_eq!(code, ErrorCode::INVALID_RECORD);
    assert_eq!(error.record_errors().len(), 1);
    assert_eq!(error.record_errors()[0].batch_index, 1);
}

#[test]
fn compressed_garbage_and_bytes_behind_the_records_are_invalid_records() {
    for compression in Compression::ALL {
        let good = batch_with(BatchOptions { compression, ..BatchOptions::default() }, &[NOW_MS; 10]);
        let view = BatchView::parse(&good).unwrap();
        let mut records = protocol::records::decompress(&view, 1 << 20).unwrap().into_owned();
        records.push(0);
        let mut bytes = good[..61].to_vec();
        compress(compression, None, &records, &mut bytes).unwrap();
        assert_eq!(code(&resealed(bytes)), ErrorCode::INVALID_RECORD, "{compression}");

        let mut garbage = good[..61].to_vec();
        garbage.extend(b"this is nothing that a codec writes");
        assert_eq!(code(&resealed(garbage)), ErrorCode::INVALID_RECORD, "{compression}");
    }
}

fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = BatchView::parse(&bytes).unwrap().computed_crc();
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn looking_at_the_header_only_believes_its_timestamps() {
    let limits = ValidationLimits { depth: Depth::Header, ..ValidationLimits::default() };
    let validated = validate(&batch(), &limits, NOW_MS).unwrap();
    assert_eq!((validated.max_timestamp, validated.max_timestamp_offset_delta), (NOW_MS + 2, 2));
    let validated = validate(&batch(), &ValidationLimits::default(), NOW_MS).unwrap();
    assert_eq!((validated.max_timestamp, validated.max_timestamp_offset_delta), (NOW_MS + 2, 1));
}

#[test]
fn assigning_offset_and_epoch_leaves_the_crc_alone() {
    let mut bytes = batch();
    let crc = BatchView::parse(&bytes).unwrap().crc();
    assign(&mut bytes, 1_000, 7, None);
    let view = BatchView::parse(&bytes).unwrap();
    assert_eq!(
        (view.base_offset(), view.last_offset(), view.next_offset(), view.leader_epoch()),
        (1_000, 1_002, 1_003, 7)
    );
    assert_eq!(view.crc(), crc);
    view.check_crc().unwrap();
}

#[test]
fn assigning_log_append_time_gives_every_record_that_time() {
    let mut bytes = batch();
    assign(&mut bytes, 10, 1, Some(NOW_MS + 99));
    let view = BatchView::parse(&bytes).unwrap();
    view.check_crc().unwrap();
    assert_eq!(view.timestamp_type(), TimestampType::LogAppendTime);
    let timestamps: Vec<_> =
        RecordIter::new(&view, view.payload()).map(|record| record.unwrap().timestamp).collect();
    assert_eq!(timestamps, [NOW_MS + 99; 3]);
}

#[test]
fn a_max_timestamp_that_is_not_the_records_is_corrected_when_the_batch_is_placed() {
    let mut bytes = batch();
    set_max_timestamp(&mut bytes, TimestampType::CreateTime, NOW_MS + 1_000_000_000);
    let validated = validate(&bytes, &ValidationLimits::default(), NOW_MS).unwrap();
    validated.assign(&mut bytes, 5, 0, None);
    let view = BatchView::parse(&bytes).unwrap();
    view.check_crc().unwrap();
    assert_eq!(view.max_timestamp(), NOW_MS + 2);
}

#[test]
fn a_transaction_marker_reads_back() {
    for committed in [false, true] {
        let marker = EndTxnMarker { committed, coordinator_epoch: 123_456 };
        let bytes = end_txn_marker(1 << 40, 5, marker, NOW_MS);
        let view = BatchView::parse(&bytes).unwrap();
        view.check_crc().unwrap();
        assert_eq!(view.record_count(), 1);
        let record = RecordIter::new(&view, view.payload()).next().unwrap().unwrap();
        assert_eq!(ControlRecord::parse(record.key, record.value), Some(ControlRecord::EndTxn(marker)));
    }
    assert_eq!(
        ControlRecord::parse(Some(&[0, 0, 0, 3]), None),
        Some(ControlRecord::Other { control_type: 3 })
    );
    assert_eq!(ControlRecord::parse(Some(&[0, 0, 0, 1]), None), None);
    assert_eq!(ControlRecord::parse(None, Some(&[0; 6])), None);
}

#[test]
fn a_compacted_batch_keeps_offsets_and_sequences_and_may_be_empty() {
    for compression in Compression::ALL {
        let options = BatchOptions {
            compression,
            base_offset: 100,
            partition_leader_epoch: 4,
            producer_id: 8,
            producer_epoch: 2,
            base_sequence: 30,
            ..BatchOptions::default()
        };
        let bytes = batch_with(options, &[NOW_MS + 5, NOW_MS, NOW_MS + 1, NOW_MS + 2]);
        let view = BatchView::parse(&bytes).unwrap();
        let payload = protocol::records::decompress(&view, 1 << 20).unwrap();

        let mut some = BatchBuilder::replacing(&view, Some(NOW_MS + 7_000)).unwrap();
        for record in
            RecordIter::new(&view, &payload).map(Result::unwrap).filter(|record| record.offset % 2 == 1)
        {
            some.append_record(&record);
        }
        let some = some.build().unwrap();
        let kept = BatchView::parse(&some).unwrap();
        assert_eq!((kept.base_offset(), kept.last_offset(), kept.record_count()), (100, 103, 2));
        assert_eq!((kept.base_sequence(), kept.last_sequence(), kept.producer_id()), (30, 33, 8));
        assert_eq!(kept.delete_horizon_ms(), Some(NOW_MS + 7_000));
        let payload = protocol::records::decompress(&kept, 1 << 20).unwrap();
        let records: Vec<_> = RecordIter::new(&kept, &payload).map(Result::unwrap).collect();
        let places: Vec<_> = records.iter().map(|record| (record.offset, record.timestamp)).collect();
        assert_eq!(places, [(101, NOW_MS), (103, NOW_MS + 2)]);
        assert_eq!(kept.max_timestamp(), NOW_MS + 2);

        let none = BatchBuilder::replacing(&view, None).unwrap().build().unwrap();
        let empty = BatchView::parse(&none).unwrap();
        assert_eq!((empty.size(), empty.record_count(), empty.last_offset()), (61, 0, 103));
        assert_eq!(
            (empty.last_sequence(), empty.max_timestamp(), empty.base_timestamp()),
            (33, NOW_MS + 5, -1)
        );
        assert_eq!(empty.compression(), Ok(Compression::None));

        let follower = ValidationLimits { origin: Origin::Replication, ..ValidationLimits::default() };
        validate(&some, &follower, NOW_MS).unwrap();
        validate(&none, &follower, NOW_MS).unwrap();
        assert_eq!(RecordIter::new(&empty, empty.payload()).count(), 0);
        let mut produced = none.to_vec();
        assign(&mut produced, 0, -1, None);
        assert_eq!(code(&produced), ErrorCode::INVALID_RECORD, "a producer sends records");
    }
}

#[test]
fn recompressing_changes_nothing_but_the_codec() {
    for from in Compression::ALL {
        let options =
            BatchOptions { compression: from, producer_id: 3, base_sequence: 9, ..BatchOptions::default() };
        let bytes = batch_with(options.clone(), &[NOW_MS; 50]);
        let before = BatchView::parse(&bytes).unwrap();
        for to in Compression::ALL {
            let recompressed = recompress(&before, to, to.default_level(), 1 << 20).unwrap();
            let validated = validate(&recompressed, &ValidationLimits::default(), NOW_MS).unwrap();
            assert_eq!(validated.compression, to);
            let expected = batch_with(BatchOptions { compression: to, ..options.clone() }, &[NOW_MS; 50]);
            assert_eq!(recompressed, expected, "{from} to {to}");
        }
    }
}

#[test]
fn batches_in_a_row_are_found_up_to_a_cut_tail() {
    let mut bytes = batch();
    let whole = bytes.len() * 2;
    bytes.extend(batch());
    bytes.extend(&batch()[..40]);
    let mut tolerant = iter_batches(&bytes).tolerate_cut_tail();
    assert_eq!(tolerant.by_ref().filter(Result::is_ok).count(), 2);
    assert_eq!(tolerant.position(), whole);
    let strict: Vec<_> = iter_batches(&bytes).collect();
    assert_eq!(strict.len(), 3);
    assert!(matches!(strict[2], Err(BatchError::Truncated { .. })));
}
