//! Batches that are damaged, or made to hurt: an error each, without a panic and without large allocations.

#[path = "support/counting_allocator.rs"]
mod counting_allocator;
#[path = "support/exercise_batch.rs"]
mod exercise_batch;

use bytes::Bytes;
use counting_allocator::peak_of;
use exercise_batch::exercise_batch;
use protocol::{
    compression::{Compression, CompressionError, DecompressionLimit, compress, decompress_bounded},
    records::{
        BatchBuilder, BatchError, BatchOptions, BatchView, Origin, RecordFault, RecordHeader, RecordIter,
        ValidationLimits, validate,
    },
};

const NOW_MS: i64 = 1_700_000_000_000;
const HEADER: usize = 61;

fn batch(codec: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions { compression: codec, ..BatchOptions::default() });
    let header = RecordHeader { key: b"trace", value: Some(b"0123456789") };
    for index in 0..20u8 {
        let value = [index; 50];
        builder.append(NOW_MS + i64::from(index), Some(&[index]), Some(&value), &[header]);
    }
    builder.build().unwrap().to_vec()
}

/// A batch around these bytes as its records; header and CRC are right.
fn around(payload: &[u8], codec: Compression, record_count: i32) -> Vec<u8> {
    let mut batch = BatchBuilder::new(BatchOptions::default()).build().unwrap()[..HEADER].to_vec();
    batch.extend_from_slice(payload);
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[22] = codec.id();
    batch[23..27].copy_from_slice(&(record_count - 1).to_be_bytes());
    batch[27..35].copy_from_slice(&NOW_MS.to_be_bytes());
    batch[57..61].copy_from_slice(&record_count.to_be_bytes());
    sealed(batch)
}

fn sealed(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = BatchView::parse(&batch).unwrap().computed_crc();
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn check(batch: &[u8]) -> Result<(), BatchError> {
    validate(batch, &ValidationLimits::default(), NOW_MS).map(drop)
}

fn fault_of(payload: &[u8], record_count: i32) -> RecordFault {
    match check(&around(payload, Compression::None, record_count)) {
        Err(BatchError::MalformedRecord { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flipped_bit_is_detected_everywhere_except_in_the_leader_epoch_which_is_overwritten() {
    for codec in Compression::ALL {
        let good = batch(codec);
        check(&good).unwrap();
        for position in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[position] ^= 1 << bit;
                let detected = check(&bad).is_err();
                assert_eq!(detected, !(12..16).contains(&position), "{codec} byte {position} bit {bit}");
            }
        }
    }
}

#[test]
fn a_batch_cut_anywhere_is_refused() {
    for codec in Compression::ALL {
        let good = batch(codec);
        for length in 0..good.len() {
            assert!(check(&good[..length]).is_err(), "{codec} cut at {length}");
        }
    }
}

#[test]
fn compressed_records_cut_anywhere_are_refused_even_with_a_right_crc() {
    for codec in Compression::ALL {
        let good = batch(codec);
        for length in 0..good.len() - HEADER {
            let cut = around(&good[HEADER..HEADER + length], codec, 20);
            assert!(check(&cut).is_err(), "{codec} cut at {length}");
        }
    }
}

#[test]
fn impossible_lengths_are_refused() {
    for length in [i32::MIN, -1, 0, 48, i32::MAX] {
        let mut bad = batch(Compression::None);
        bad[8..12].copy_from_slice(&length.to_be_bytes());
        assert!(check(&bad).is_err(), "{length}");
    }
}

#[test]
fn two_billion_records_claimed_by_a_small_batch_cost_no_memory() {
    for codec in Compression::ALL {
        let payload = &batch(codec)[HEADER..];
        for origin in [Origin::Client, Origin::Replication] {
            let limits = ValidationLimits { origin, ..ValidationLimits::default() };
            let (result, peak) =
                peak_of(|| validate(&around(payload, codec, i32::MAX), &limits, NOW_MS).map(drop));
            assert!(
                matches!(result, Err(BatchError::MalformedRecord { index: 20, .. })),
                "{codec} {result:?}"
            );
            assert!(peak < 300 << 10, "{codec}: {peak} bytes");
        }
    }
}

#[test]
fn counts_below_one_are_refused() {
    for count in [i32::MIN + 1, -1, 0] {
        let bad = around(&[], Compression::None, count);
        assert!(matches!(check(&bad), Err(BatchError::RecordCount { .. })), "{count}");
    }
}

#[test]
fn fields_of_a_record_that_do_not_fit_are_named() {
    // length, attributes, timestamp delta, offset delta, key length, value length, header count; zigzag: 1 is -1
    assert_eq!(fault_of(&[12, 0, 0, 0, 1, 1, 0], 2), RecordFault::Truncated);
    assert_eq!(fault_of(&[1, 0, 0, 0, 1, 1, 0], 1), RecordFault::Size);
    assert_eq!(fault_of(&[14, 0, 0, 0, 1, 1, 0], 1), RecordFault::Size);
    assert_eq!(fault_of(&[12, 0, 0, 0, 3, 1, 0], 1), RecordFault::NegativeLength);
    assert_eq!(fault_of(&[12, 0, 0, 0, 40, 1, 0], 1), RecordFault::Size);
    assert_eq!(fault_of(&[12, 0, 0, 0, 1, 1, 1], 1), RecordFault::HeaderCount);
    assert_eq!(fault_of(&[12, 0, 0, 0, 1, 1, 100], 1), RecordFault::HeaderCount);
    assert_eq!(fault_of(&[12, 0, 0, 2, 1, 1, 0], 1), RecordFault::OffsetDelta);
    assert_eq!(fault_of(&[16, 0, 0, 0, 1, 1, 2, 1, 1], 1), RecordFault::NegativeLength);
    assert_eq!(fault_of(&[0xff, 0xff, 0xff, 0xff, 0xff, 0], 1), RecordFault::Varint);
    assert_eq!(fault_of(&[0xff, 0xff, 0xff, 0xff, 0x1f, 0], 1), RecordFault::Varint);
    assert_eq!(fault_of(&[12, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 1), RecordFault::Varint);
    let mut overlong = vec![60, 0];
    overlong.extend([0xff; 10]);
    assert_eq!(fault_of(&overlong, 1), RecordFault::Varint);
    check(&around(&[12, 0, 0, 0, 1, 1, 0], Compression::None, 1)).unwrap();
}

#[test]
fn iterating_finds_the_same_faults_as_validation() {
    let bad: [&[u8]; 5] = [
        &[1, 0, 0, 0, 1, 1, 0],
        &[14, 0, 0, 0, 1, 1, 0],
        &[12, 0, 0, 0, 3, 1, 0],
        &[12, 0, 0, 0, 1, 1, 1],
        &[12, 0, 0, 0, 1, 1, 0, 0],
    ];
    for payload in bad {
        let bytes = around(payload, Compression::None, 1);
        let batch = BatchView::parse(&bytes).unwrap();
        let mut records = RecordIter::new(&batch, batch.payload());
        let errors = records.by_ref().take(10).filter(Result::is_err).count();
        assert_eq!(errors, 1, "{payload:?}");
        assert!(records.next().is_none(), "nothing comes after an error");
    }
}

#[test]
fn a_decompression_bomb_is_stopped_at_the_limit_and_never_held_in_memory() {
    let bomb_bytes = 24 << 20;
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut payload = Vec::new();
        compress(codec, None, &vec![0; bomb_bytes], &mut payload).unwrap();
        let mut limits = ValidationLimits { max_message_bytes: usize::MAX, ..ValidationLimits::default() };
        limits.decompression = DecompressionLimit::bytes(4 << 20);
        // A single sound record, so that only the limit can stop the walk.
        let value_bytes = bomb_bytes - 100;
        let mut record = varint(value_bytes + 9);
        record.extend([0, 0, 0, 1]);
        record.extend(varint(value_bytes));
        record.resize(record.len() + value_bytes + 1, 0);
        let mut bomb = Vec::new();
        compress(codec, None, &record, &mut bomb).unwrap();
        let bytes = around(&bomb, codec, 1);

        let (result, peak) = peak_of(|| validate(&bytes, &limits, NOW_MS));
        let stopped = matches!(result, Err(BatchError::Compression(CompressionError::TooLarge { .. })));
        assert!(stopped, "{codec}: {result:?}");
        limits.decompression = DecompressionLimit::bytes(bomb_bytes);
        validate(&bytes, &limits, NOW_MS).expect("with room enough it is an honest batch");
        assert!(peak < 300 << 10, "{codec}: {peak} bytes");

        let (result, peak) = peak_of(|| decompress_bounded(codec, &payload, 1 << 20));
        assert!(matches!(result, Err(CompressionError::TooLarge { .. })), "{codec}");
        assert!(peak < 4 << 20, "{codec}: {peak} bytes");
    }
}

#[test]
fn the_ratio_counts_only_beyond_the_free_bytes() {
    let limit = DecompressionLimit { max_bytes: 100 << 20, max_ratio: 10 };
    assert_eq!(limit.for_input(1), DecompressionLimit::FREE_BYTES);
    assert_eq!(limit.for_input(5 << 20), 50 << 20);
    assert_eq!(limit.for_input(50 << 20), 100 << 20);
    assert_eq!(DecompressionLimit::bytes(5).for_input(1), 5);
}

#[test]
fn lengths_declared_by_compressed_data_allocate_nothing_by_themselves() {
    // A raw snappy block that claims 4 GiB, a framed one that claims a chunk of 4 GiB and one of 1 GiB plain.
    let raw = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    let framed = |chunk: &[u8], length: u32| {
        let mut out = b"\x82SNAPPY\0\x00\x00\x00\x01\x00\x00\x00\x01".to_vec();
        out.extend(length.to_be_bytes());
        out.extend(chunk);
        out
    };
    // A frame of 4 MiB blocks with a content size of 2^63, and a block that claims 4 MiB.
    let mut lz4 = vec![0x04, 0x22, 0x4d, 0x18];
    let mut descriptor = vec![0x68, 0x70];
    descriptor.extend((1u64 << 63).to_le_bytes());
    lz4.extend(&descriptor);
    lz4.push((twox_hash::XxHash32::oneshot(0, &descriptor) >> 8) as u8);
    lz4.extend((4u32 << 20).to_le_bytes());
    let cases: [(Compression, Vec<u8>); 4] = [
        (Compression::Snappy, raw.to_vec()),
        (Compression::Snappy, framed(&[1, 2, 3], u32::MAX)),
        (Compression::Snappy, framed(&[0x80, 0x80, 0x80, 0x80, 0x04, 0], 6)),
        (Compression::Lz4, lz4),
    ];
    for (codec, input) in cases {
        let (result, peak) = peak_of(|| decompress_bounded(codec, &input, 1 << 30));
        assert!(matches!(result, Err(CompressionError::Damaged { .. })), "{codec} {result:?}");
        assert!(peak < 70 << 10, "{codec}: {peak} bytes");
    }
}

#[test]
fn errors_of_a_hundred_thousand_bad_records_stay_small() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for _ in 0..100_000 {
        builder.append(NOW_MS, None, None, &[]);
    }
    let bytes = builder.build().unwrap();
    let limits = ValidationLimits { require_keys: true, ..ValidationLimits::default() };
    let (error, peak) = peak_of(|| validate(&bytes, &limits, NOW_MS).unwrap_err());
    assert_eq!(error.record_errors().len(), 100);
    assert!(error.to_string().contains("100000"), "{error}");
    assert!(peak < 64 << 10, "{peak} bytes");
}

/// A zigzag varint.
fn varint(value: usize) -> Vec<u8> {
    let mut rest = value * 2;
    let mut out = Vec::new();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out
}

/// A small generator with a fixed seed: the same bytes on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

#[test]
fn ten_thousand_random_mutations_neither_panic_nor_break_what_valid_means() {
    let seeds: Vec<Bytes> = Compression::ALL.into_iter().map(|codec| batch(codec).into()).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..10_000 {
        let mut bytes = seeds[random.below(seeds.len())].to_vec();
        for _ in 0..=random.below(4) {
            let position = match random.below(3) {
                0 => random.below(HEADER),
                _ => random.below(bytes.len()),
            };
            match random.below(5) {
                0 => bytes[position] ^= 1 << random.below(8),
                1 => bytes[position] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
                2 => bytes[position] = random.next() as u8,
                3 if bytes.len() > HEADER + 1 => {
                    bytes.truncate(HEADER + random.below(bytes.len() - HEADER));
                    let length = bytes.len() as i32 - 12;
                    bytes[8..12].copy_from_slice(&length.to_be_bytes());
                }
                _ => {
                    let value = (random.next() as i32) >> random.below(32);
                    let field = [8, 23, 53, 57][random.below(4)];
                    bytes[field..field + 4].copy_from_slice(&value.to_be_bytes());
                }
            }
        }
        exercise_batch(&bytes);
    }
}

#[test]
fn random_bytes_do_not_panic() {
    let mut random = Random(42);
    for _ in 0..2_000 {
        let mut bytes: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        if let Some(magic) = bytes.get_mut(16) {
            *magic = 2;
        }
        exercise_batch(&bytes);
        for codec in Compression::ALL {
            let _ = decompress_bounded(codec, &bytes, 1 << 16);
        }
    }
}
