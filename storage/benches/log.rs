//! Appends to a partition over the journal on the simulated disk (what the processor does, without a disk's waits), index look-ups, and
//! answers to fetches from the cache.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::{FutureExt, executor::LocalPool, task::LocalSpawnExt};
use protocol::{
    Records,
    frame::encode_response,
    messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData},
    records::{BatchBuilder, BatchOptions, Origin, ValidationLimits, validate},
    wire::Few,
};
use std::{hint::black_box, path::Path, rc::Rc};
use storage::{
    AppendContext, LeaderEpoch, LogConfig, Offset, PartitionId, PartitionLog, PartitionSpec, ShardStore,
    StoreConfig,
    disk::{Disk, SimDisk},
    log::index::{IndexedBatch, SegmentIndex},
    store::HighWatermarkMode,
};
use uuid::Uuid;

const NOW: i64 = 1_700_000_000_000;
const FETCH_VERSION: i16 = 17;

/// A new store on the simulated disk with one partition, and the executor that runs its loops.
fn store() -> (LocalPool, ShardStore<SimDisk>, PartitionLog<SimDisk>) {
    let mut pool = LocalPool::new();
    let disk = SimDisk::new(1);
    let mut config = StoreConfig::new("/data", 0, 1, Uuid::from_u128(1));
    config.journal.file_bytes = 8 << 20;
    config.cache_bytes = 16 << 20;
    let log_config =
        Rc::new(LogConfig { segment_bytes: 4 << 20, retention_bytes: 8 << 20, ..LogConfig::default() });
    let spec = PartitionSpec {
        topic_id: Uuid::from_u128(7),
        topic: "orders".into(),
        partition: PartitionId(0),
        leader_epoch: LeaderEpoch(0),
        config: log_config,
        high_watermark: HighWatermarkMode::FollowsDurableEnd,
    };
    let wanted = vec![spec.clone()];
    let (store, _) = pool
        .run_until(async move {
            disk.create_dir_all(Path::new("/data")).await?;
            ShardStore::open(disk, config, wanted, NOW).await
        })
        .expect("a new store opens");
    for task in store.run() {
        pool.spawner().spawn_local(async move { task.await.expect("nothing fails") }).expect("the pool runs");
    }
    let log = store.partition(&spec.id()).expect("it was wanted");
    (pool, store, log)
}

fn batch(records: usize, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for _ in 0..records {
        builder.append(NOW, None, Some(&vec![7; value_bytes]), &[]);
    }
    builder.build().expect("no compression")
}

const CONTEXT: AppendContext =
    AppendContext { leader_epoch: LeaderEpoch(0), now_ms: NOW, origin: Origin::Client };

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for (records, value_bytes) in [(1, 100), (100, 100), (256, 1024)] {
        let (mut pool, store, log) = store();
        let batch = batch(records, value_bytes);
        let validated = validate(&batch, &ValidationLimits::default(), NOW).expect("a sound batch");
        let mut appended = 0;
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(format!("{records} records of {value_bytes} bytes"), |b| {
            b.iter(|| {
                if !store.has_room() {
                    pool.run_until(store.wait_for_room());
                }
                black_box(log.append(&batch, &validated, CONTEXT)).expect("there is room");
                appended += 1;
                if appended % 1000 == 0 {
                    pool.run_until(store.enforce_retention(NOW)).expect("nothing fails");
                }
            })
        });
    }
    group.finish();
}

/// From the cache to the segments of an answer: what a fetch does besides sending.
fn assemble_fetch(c: &mut Criterion) {
    let mut group = c.benchmark_group("fetch assembly from the cache");
    for (batches, records) in [(1, 1), (64, 16), (1000, 1)] {
        let (mut pool, store, log) = store();
        let batch = batch(records, 1000);
        let validated = validate(&batch, &ValidationLimits::default(), NOW).expect("a sound batch");
        for _ in 0..batches {
            let appended = log.append(&batch, &validated, CONTEXT).expect("there is room");
            pool.run_until(store.durable(appended.commit)).expect("durable");
        }
        let end = log.offsets().high_watermark;
        group.throughput(Throughput::Bytes((batches * batch.len()) as u64));
        group.bench_function(format!("{batches} commits of {} bytes", batch.len()), |b| {
            b.iter(|| {
                let read = log.read(Offset(0), end, usize::MAX, true).now_or_never();
                let read = read.expect("in memory").expect("readable");
                let records = Some(Records::Shared(read.slices));
                let partition = PartitionData { records, high_watermark: end.0, ..Default::default() };
                let topic = FetchableTopicResponse { partitions: Few::one(partition), ..Default::default() };
                let response = FetchResponse { responses: Few::one(topic), ..Default::default() };
                black_box(encode_response(1, &response, FETCH_VERSION)).expect("encodable")
            })
        });
    }
    group.finish();
}

fn look_up(c: &mut Criterion) {
    let mut index = SegmentIndex::default();
    let batches = (1u64 << 30) / 4096;
    for i in 0..batches {
        let batch = IndexedBatch {
            base_offset: Offset(i as i64 * 40),
            position: i * 4096,
            size: 4096,
            max_timestamp: NOW + i as i64,
        };
        index.note(Offset(0), batch, 4096);
    }
    let mut at = 0u64;
    c.bench_function("index look-up in a segment of 1 GiB", |b| {
        b.iter(|| {
            at = (at + 7_919_993) % (batches * 40);
            black_box(index.position_floor(Offset(0), Offset(at as i64)))
        })
    });
}

criterion_group!(benches, append, look_up, assemble_fetch);
criterion_main!(benches);
