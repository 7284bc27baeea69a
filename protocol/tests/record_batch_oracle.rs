//! Our batches read by another implementation, and its batches read by ours, for every codec.

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    indexmap::IndexMap,
    protocol::StrBytes,
    records::{
        Compression as TheirCompression, Record as TheirRecord, RecordBatchDecoder, RecordBatchEncoder,
        RecordEncodeOptions, TimestampType as TheirTimestampType,
    },
};
use proptest::{collection::vec, option, prelude::*};
use protocol::{
    compression::Compression,
    records::{
        BatchBuilder, BatchOptions, BatchView, RecordHeader, RecordIter, TimestampType, ValidationLimits,
        decompress, validate,
    },
};

const NOW_MS: i64 = 1_700_000_000_000;

/// A record as the tests think of it; headers without repeated names, which the other implementation cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sample {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: IndexMap<String, Option<Vec<u8>>>,
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let headers = vec(("[a-zé]{0,20}", option::of(vec(any::<u8>(), 0..20))), 0..4);
    let sample = (
        NOW_MS - 100_000..NOW_MS,
        option::of(vec(any::<u8>(), 0..40)),
        option::of(vec(0u8..4, 0..3000)),
        headers,
    );
    let sample = sample.prop_map(|(timestamp, key, value, headers)| Sample {
        timestamp,
        key,
        value,
        headers: headers.into_iter().collect(),
    });
    vec(sample, 1..60)
}

fn their_codec(codec: Compression) -> TheirCompression {
    match codec {
        Compression::None => TheirCompression::None,
        Compression::Gzip => TheirCompression::Gzip,
        Compression::Snappy => TheirCompression::Snappy,
        Compression::Lz4 => TheirCompression::Lz4,
        Compression::Zstd => TheirCompression::Zstd,
    }
}

fn build(samples: &[Sample], codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression: codec,
        producer_id: 4242,
        producer_epoch: 7,
        base_sequence: 11,
        is_transactional: true,
        ..BatchOptions::default()
    });
    for sample in samples {
        let headers: Vec<_> = sample
            .headers
            .iter()
            .map(|(key, value)| RecordHeader { key: key.as_bytes(), value: value.as_deref() })
            .collect();
        builder.append(sample.timestamp, sample.key.as_deref(), sample.value.as_deref(), &headers);
    }
    builder.build().unwrap()
}

fn read(batch: &[u8]) -> Vec<Sample> {
    let batch = BatchView::parse(batch).unwrap();
    let payload = decompress(&batch, 64 << 20).unwrap();
    RecordIter::new(&batch, &payload)
        .enumerate()
        .map(|(index, record)| {
            let record = record.unwrap();
            assert_eq!(record.offset, batch.base_offset() + index as i64);
            Sample {
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers
                    .map(|header| {
                        (String::from_utf8(header.key.to_vec()).unwrap(), header.value.map(<[u8]>::to_vec))
                    })
                    .collect(),
            }
        })
        .collect()
}

fn theirs(samples: &[Sample]) -> Vec<TheirRecord> {
    let bytes = |bytes: &Option<Vec<u8>>| bytes.clone().map(Bytes::from);
    samples
        .iter()
        .zip(0..)
        .map(|(sample, index)| TheirRecord {
            transactional: true,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: 4242,
            producer_epoch: 7,
            timestamp_type: TheirTimestampType::Creation,
            offset: index,
            sequence: 11 + index as i32,
            timestamp: sample.timestamp,
            key: bytes(&sample.key),
            value: bytes(&sample.value),
            headers: sample
                .headers
                .iter()
                .map(|(key, value)| (StrBytes::from_string(key.clone()), bytes(value)))
                .collect(),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_other_implementation_reads_what_we_build(samples in samples()) {
        for codec in Compression::ALL {
            let batch = build(&samples, codec);
            let decoded = RecordBatchDecoder::decode(&mut batch.clone()).unwrap();
            prop_assert_eq!(decoded.compression, their_codec(codec));
            prop_assert_eq!(decoded.records, theirs(&samples));
        }
    }

    #[test]
    fn we_validate_and_read_what_the_other_implementation_builds(samples in samples()) {
        for codec in Compression::ALL {
            let mut batch = BytesMut::new();
            let options = RecordEncodeOptions { version: 2, compression: their_codec(codec) };
            RecordBatchEncoder::encode(&mut batch, &theirs(&samples), &options).unwrap();

            let validated = validate(&batch, &ValidationLimits::default(), NOW_MS).unwrap();
            prop_assert_eq!(validated.compression, codec);
            prop_assert_eq!(validated.record_count as usize, samples.len());
            prop_assert_eq!(validated.timestamp_type, TimestampType::CreateTime);
            prop_assert_eq!(
                (validated.producer_id, validated.producer_epoch, validated.base_sequence),
                (4242, 7, 11)
            );
            prop_assert!(validated.is_transactional && !validated.is_control);
            let max = samples.iter().map(|sample| sample.timestamp).max().unwrap();
            prop_assert_eq!(validated.max_timestamp, max);
            let first_of_max = samples.iter().position(|sample| sample.timestamp == max).unwrap();
            prop_assert_eq!(validated.max_timestamp_offset_delta as usize, first_of_max);
            prop_assert_eq!(read(&batch), samples.clone());
        }
    }

    #[test]
    fn what_we_build_passes_our_validation_and_reads_back_the_same(samples in samples()) {
        for codec in Compression::ALL {
            let batch = build(&samples, codec);
            let validated = validate(&batch, &ValidationLimits::default(), NOW_MS).unwrap();
            prop_assert_eq!(validated.size, batch.len());
            prop_assert_eq!(validated.last_sequence(), 11 + samples.len() as i32 - 1);
            prop_assert_eq!(read(&batch), samples.clone());
        }
    }
}
