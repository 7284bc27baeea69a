//! What a batch costs: validation next to its yardstick (the CRC alone, in the same run), building, iterating, codecs.
//!
//! `cargo bench -p protocol --bench records`

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use protocol::{
    compression::Compression,
    records::{
        BatchBuilder, BatchOptions, BatchView, Depth, RecordIter, ValidationLimits, decompress, validate,
    },
};

const NOW_MS: i64 = 1_700_000_000_000;

/// Batch size and record size in bytes, as their name says.
const SHAPES: [(&str, usize, usize); 2] =
    [("1MiB_of_1KiB", 1 << 20, 1 << 10), ("16KiB_of_100B", 16 << 10, 100)];

/// Text-like values that compress about as well as JSON does.
fn values(record_bytes: usize) -> Vec<Vec<u8>> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..64)
        .map(|_| {
            (0..record_bytes)
                .map(|at| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    if at % 3 == 0 { b'0' + (state >> 60) as u8 } else { b"{\"id\": , \"name\""[at % 15] }
                })
                .collect()
        })
        .collect()
}

fn build(batch_bytes: usize, record_bytes: usize, compression: Compression, values: &[Vec<u8>]) -> Bytes {
    let options = BatchOptions { compression, ..BatchOptions::default() };
    let mut builder = BatchBuilder::with_capacity(options, batch_bytes);
    for (value, timestamp) in values.iter().cycle().zip(NOW_MS..) {
        if builder.uncompressed_size() + record_bytes + 16 > batch_bytes {
            break;
        }
        builder.append(timestamp, None, Some(value), &[]);
    }
    builder.build().expect("the codec works")
}

fn plain(criterion: &mut Criterion) {
    for (name, batch_bytes, record_bytes) in SHAPES {
        let values = values(record_bytes);
        let batch = build(batch_bytes, record_bytes, Compression::None, &values);
        let view = BatchView::parse(&batch).expect("just built");
        let limits = ValidationLimits { max_message_bytes: usize::MAX, ..ValidationLimits::default() };
        let header_only = ValidationLimits { depth: Depth::Header, ..limits.clone() };
        eprintln!("{name}: {} records in {} bytes", view.record_count(), batch.len());

        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function("yardstick_crc", |bencher| bencher.iter(|| black_box(view).computed_crc()));
        group.bench_function("validate_header", |bencher| {
            bencher.iter(|| validate(black_box(&batch), &header_only, NOW_MS).expect("valid"));
        });
        group.bench_function("validate_records", |bencher| {
            bencher.iter(|| validate(black_box(&batch), &limits, NOW_MS).expect("valid"));
        });
        group.bench_function("iterate", |bencher| {
            bencher.iter(|| {
                RecordIter::new(&view, view.payload())
                    .map(|record| record.expect("valid").value.map_or(0, <[u8]>::len))
                    .sum::<usize>()
            });
        });
        group.bench_function("build", |bencher| {
            bencher.iter(|| build(batch_bytes, record_bytes, Compression::None, &values));
        });
        group.finish();
    }
}

fn compressed(criterion: &mut Criterion) {
    for (name, batch_bytes, record_bytes) in SHAPES {
        let values = values(record_bytes);
        let limits = ValidationLimits { max_message_bytes: usize::MAX, ..ValidationLimits::default() };
        let mut group = criterion.benchmark_group(format!("{name}_compressed"));
        group.throughput(Throughput::Bytes(batch_bytes as u64));
        for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let batch = build(batch_bytes, record_bytes, codec, &values);
            let view = BatchView::parse(&batch).expect("just built");
            group.bench_function(BenchmarkId::new("validate", codec), |bencher| {
                bencher.iter(|| validate(black_box(&batch), &limits, NOW_MS).expect("valid"));
            });
            group.bench_function(BenchmarkId::new("decompress", codec), |bencher| {
                bencher.iter(|| decompress(black_box(&view), usize::MAX).expect("valid").len());
            });
            group.bench_function(BenchmarkId::new("build", codec), |bencher| {
                bencher.iter(|| build(batch_bytes, record_bytes, codec, &values));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, plain, compressed);
criterion_main!(benches);
