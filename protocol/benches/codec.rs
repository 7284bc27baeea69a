//! Decoding and encoding of the messages that carry the load, Produce and Fetch, and of Metadata, with few and with many partitions.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use protocol::{
    Decoder, Encoder, Message, Records,
    messages::{
        FetchRequest, FetchResponse, MetadataRequest, MetadataResponse, ProduceRequest,
        fetch::{FetchPartition, FetchTopic, FetchableTopicResponse, PartitionData},
        metadata::{
            MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
        },
        produce::{PartitionProduceData, TopicProduceData},
    },
    wire::Few,
};
use std::hint::black_box;
use uuid::Uuid;

const FETCH_VERSION: i16 = 17;
const PRODUCE_VERSION: i16 = 12;
const METADATA_VERSION: i16 = 12;
const BATCH_BYTES: usize = 16 * 1024;

fn produce_request(partitions: i32) -> ProduceRequest<'static> {
    let batch = Bytes::from(vec![7; BATCH_BYTES]);
    let partition_data = (0..partitions)
        .map(|index| PartitionProduceData {
            index,
            records: Some(Records::from(batch.clone())),
            ..Default::default()
        })
        .collect();
    let topic = TopicProduceData { name: "orders".into(), partition_data, ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: Few::one(topic), ..Default::default() }
}

fn fetch_request(partitions: i32) -> FetchRequest<'static> {
    let partitions = (0..partitions)
        .map(|partition| FetchPartition {
            partition,
            fetch_offset: 1_000_000,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        })
        .collect();
    let topic = FetchTopic { topic_id: Uuid::from_u128(42), partitions, ..Default::default() };
    FetchRequest { max_wait_ms: 500, min_bytes: 1, topics: Few::one(topic), ..Default::default() }
}

fn fetch_response(partitions: i32) -> FetchResponse<'static> {
    let batch = Bytes::from(vec![7; BATCH_BYTES]);
    let partitions = (0..partitions)
        .map(|partition_index| PartitionData {
            partition_index,
            high_watermark: 1_000_000,
            records: Some(Records::from(batch.clone())),
            ..Default::default()
        })
        .collect();
    let topic = FetchableTopicResponse { topic_id: Uuid::from_u128(42), partitions, ..Default::default() };
    FetchResponse { responses: Few::one(topic), ..Default::default() }
}

fn metadata_request(topics: i32) -> MetadataRequest<'static> {
    let topics = (0..topics).map(|topic| MetadataRequestTopic {
        name: Some(format!("orders-{topic}").into()),
        ..Default::default()
    });
    MetadataRequest { topics: Some(topics.collect()), ..Default::default() }
}

/// One broker that leads everything; topics of ten partitions.
fn metadata_response(partitions: i32) -> MetadataResponse<'static> {
    let broker =
        MetadataResponseBroker { node_id: 1, host: "localhost".into(), port: 9092, ..Default::default() };
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        leader_epoch: 0,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..Default::default()
    };
    let topics = (0..(partitions / 10).max(1)).map(|topic| MetadataResponseTopic {
        name: Some(format!("orders-{topic}").into()),
        topic_id: Uuid::from_u128(topic as u128 + 1),
        partitions: (0..partitions.min(10)).map(partition).collect(),
        ..Default::default()
    });
    MetadataResponse {
        brokers: vec![broker],
        controller_id: 1,
        topics: topics.collect(),
        ..Default::default()
    }
}

fn encode<'a, M: Message<'a>>(message: &M, version: i16) -> Encoder {
    let mut e = Encoder::with_capacity(256);
    message.encode(&mut e, version).expect("a valid message");
    e
}

fn codec(c: &mut Criterion) {
    for partitions in [1, 100, 5_000] {
        let mut group = c.benchmark_group(format!("{partitions} partitions"));
        group.throughput(Throughput::Elements(partitions as u64));

        if partitions <= 100 {
            let produce = produce_request(partitions);
            let frame = encode(&produce, PRODUCE_VERSION).finish_contiguous();
            group.bench_function("produce request decode", |b| {
                b.iter(|| ProduceRequest::decode(&mut Decoder::new(black_box(&frame)), PRODUCE_VERSION))
            });
            group.bench_function("produce request encode", |b| {
                b.iter(|| encode(black_box(&produce), PRODUCE_VERSION).finish())
            });
        }

        let fetch = fetch_request(partitions);
        let frame = encode(&fetch, FETCH_VERSION).finish_contiguous();
        group.bench_function("fetch request decode", |b| {
            b.iter(|| FetchRequest::decode(&mut Decoder::new(black_box(&frame)), FETCH_VERSION))
        });
        group.bench_function("fetch request encode", |b| {
            b.iter(|| encode(black_box(&fetch), FETCH_VERSION).finish())
        });

        let response = fetch_response(partitions);
        group.bench_function("fetch response encode", |b| {
            b.iter_batched_ref(
                || response.clone(),
                |response| encode(black_box(response), FETCH_VERSION).finish(),
                BatchSize::LargeInput,
            )
        });

        let request = metadata_request((partitions / 10).max(1));
        let frame = encode(&request, METADATA_VERSION).finish_contiguous();
        group.bench_function("metadata request decode", |b| {
            b.iter(|| MetadataRequest::decode(&mut Decoder::new(black_box(&frame)), METADATA_VERSION))
        });
        let response = metadata_response(partitions);
        let frame = encode(&response, METADATA_VERSION).finish_contiguous();
        group.bench_function("metadata response encode", |b| {
            b.iter(|| encode(black_box(&response), METADATA_VERSION).finish())
        });
        group.bench_function("metadata response decode", |b| {
            b.iter(|| MetadataResponse::decode(&mut Decoder::new(black_box(&frame)), METADATA_VERSION))
        });
        group.finish();
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
