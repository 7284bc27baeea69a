//! The same store on a real folder with direct I/O.

use crate::harness::*;
use glommio::{LocalExecutorBuilder, Placement};
use protocol::records::BatchOptions;
use std::{path::Path, rc::Rc, time::Instant};
use storage::{
    LogConfig, Offset, PartitionId, PartitionSpec, ShardStore, StoreConfig, StoreStats,
    disk::{DirectDisk, Disk},
    store::TopicStatus,
};
use uuid::Uuid;

fn on_executor<T: 'static>(work: impl Future<Output = T> + 'static) -> T {
    let executor = LocalExecutorBuilder::new(Placement::Unbound).make().unwrap();
    executor.run(work)
}

fn config(dir: &Path) -> StoreConfig {
    let mut config = StoreConfig::new(dir, 0, 1, Uuid::from_u128(1));
    config.journal.file_bytes = 16 << 20;
    config.cache_bytes = 32 << 20;
    config.low_space_bytes = 0;
    config.topic_status = Rc::new(|_| TopicStatus::Live);
    config
}

fn specs(count: i32) -> Vec<PartitionSpec> {
    let config = Rc::new(LogConfig { segment_bytes: 8 << 20, ..LogConfig::default() });
    (0..count).map(|p| PartitionSpec { partition: PartitionId(p), ..spec(p, &config) }).collect()
}

async fn open(dir: &Path, specs: &[PartitionSpec]) -> Rc<ShardStore<DirectDisk>> {
    let disk = DirectDisk::new(dir, 64 << 20).await.unwrap();
    let (store, report) = ShardStore::open(disk, config(dir), specs.to_vec(), NOW).await.unwrap();
    assert!(report.offline.is_empty(), "{report:?}");
    for task in store.run() {
        glommio::spawn_local(async move { task.await.unwrap() }).detach();
    }
    Rc::new(store)
}

/// Appends `rounds` batches to each partition, waiting for durability once per round. Answers what the logs hold.
async fn fill(
    store: &ShardStore<DirectDisk>,
    specs: &[PartitionSpec],
    rounds: u64,
    bytes: usize,
) -> Vec<Vec<u8>> {
    let mut expected = vec![Vec::new(); specs.len()];
    for round in 0..rounds {
        let mut last = None;
        for (p, spec) in specs.iter().enumerate() {
            store.wait_for_room().await;
            let batch = batch(BatchOptions::default(), round, 4, bytes / 4, NOW);
            let log = store.partition(&spec.id()).unwrap();
            let outcome = append(&log, &batch).unwrap();
            expected[p].extend_from_slice(&stored(&batch, outcome.base_offset));
            last = Some(outcome.commit);
        }
        store.durable(last.unwrap()).await.unwrap();
    }
    expected
}

async fn check(store: &ShardStore<DirectDisk>, specs: &[PartitionSpec], expected: &[Vec<u8>]) {
    for (p, spec) in specs.iter().enumerate() {
        let log = store.partition(&spec.id()).unwrap();
        let end = log.offsets().high_watermark;
        let (mut at, mut bytes) = (Offset(0), Vec::new());
        while at < end {
            let outcome = log.read(at, end, 300_000, true).await.unwrap();
            assert!(!outcome.slices.is_empty());
            outcome.slices.iter().for_each(|s| bytes.extend_from_slice(s));
            at = outcome.next_offset;
        }
        assert!(bytes == expected[p], "partition {p}");
    }
}

/// Fills the partitions of a store that just ends then, lets `look` at it before, and checks what is left after that, and after the store was shut down.
fn check_restarts(
    partitions: i32,
    rounds: u64,
    bytes: usize,
    look: impl AsyncFnOnce(&ShardStore<DirectDisk>, &Path) + 'static,
) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().to_owned();
    let specs = specs(partitions);
    let expected = {
        let (path, specs) = (path.clone(), specs.clone());
        on_executor(async move {
            let store = open(&path, &specs).await;
            let expected = fill(&store, &specs, rounds, bytes).await;
            check(&store, &specs, &expected).await;
            look(&store, &path).await;
            // No shutdown: the executor ends with all its tasks, as a killed process does.
            expected
        })
    };
    for _ in 0..2 {
        let (path, specs, expected) = (path.clone(), specs.clone(), expected.clone());
        on_executor(async move {
            let store = open(&path, &specs).await;
            check(&store, &specs, &expected).await;
            store.shutdown().await.unwrap();
        });
    }
}

#[test]
fn data_survives_a_clean_and_an_unclean_restart_on_a_real_disk() {
    check_restarts(3, 150, 100_000, async |store, _| {
        let stats = store.stats();
        assert!(stats.flush_rounds > 0 && stats.cold_reads > 0, "{stats:?}");
    });
}

#[test]
fn logs_that_are_synced_together_survive_a_clean_and_an_unclean_restart_on_a_real_disk() {
    check_restarts(200, 40, 4_000, async |store, path| {
        store.flush().await.unwrap();
        let stats = store.stats();
        let disk = DirectDisk::new(path, 0).await.unwrap();
        if disk.can_sync_all(path).await.unwrap() {
            assert!((1..=200).contains(&stats.segment_syncs), "{stats:?}");
        } else {
            assert!(stats.segment_syncs >= 200, "{stats:?}");
        }
    });
}

#[test]
fn large_batches_survive_a_clean_and_an_unclean_restart_on_a_real_disk() {
    check_restarts(3, 60, 400_000, async |store, _| {
        let stats = store.stats();
        assert!(stats.direct_bytes > stats.appended_bytes / 4, "{stats:?}");
    });
}

/// Appends batches of 900 KiB to four partitions for some seconds, five of them on their way; answers GB/s, and what was written.
async fn rate_of_large_batches(dir: &Path, direct_from_bytes: usize) -> (f64, StoreStats) {
    const IN_FLIGHT: usize = 5;
    std::fs::create_dir_all(dir).unwrap();
    let log_config = Rc::new(LogConfig::default());
    let specs: Vec<_> = (0..4).map(|p| spec(p, &log_config)).collect();
    let disk = DirectDisk::new(dir, 256 << 20).await.unwrap();
    let mut config = StoreConfig { direct_from_bytes, cache_bytes: 512 << 20, ..config(dir) };
    config.journal.file_bytes = 64 << 20;
    config.journal.max_files = 16;
    let (store, _) = ShardStore::open(disk, config, specs.clone(), NOW).await.unwrap();
    for task in store.run() {
        glommio::spawn_local(async move { task.await.unwrap() }).detach();
    }
    let batch = batch(BatchOptions::default(), 1, 900, 1000, NOW);
    let valid = validated(&batch);
    let (mut in_flight, mut bytes, mut i) = (std::collections::VecDeque::new(), 0, 0);
    let mut started = Instant::now();
    let mut is_warm = false;
    loop {
        store.wait_for_room().await;
        let log = store.partition(&specs[i % specs.len()].id()).unwrap();
        let context = storage::AppendContext {
            leader_epoch: storage::LeaderEpoch(0),
            now_ms: NOW,
            origin: protocol::records::Origin::Client,
        };
        in_flight.push_back(log.append(&batch, &valid, context).unwrap().commit);
        (i, bytes) = (i + 1, bytes + batch.len());
        if in_flight.len() == IN_FLIGHT {
            store.durable(in_flight.pop_front().unwrap()).await.unwrap();
        }
        if !is_warm && bytes > 1 << 30 {
            (is_warm, bytes, started) = (true, 0, Instant::now());
        }
        if is_warm && started.elapsed().as_secs() >= 3 {
            let rate = bytes as f64 / 1e9 / started.elapsed().as_secs_f64();
            return (rate, store.stats());
        }
    }
}

/// Prints figures; run it alone, in release: `cargo test --release -p storage --test store large_batches -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn figures_of_large_batches_with_and_without_the_journal() {
    for round in 0..3 {
        for from in [usize::MAX, 256 << 10] {
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let path = dir.path().to_owned();
            let (rate, stats) = on_executor(async move { rate_of_large_batches(&path, from).await });
            let written = (stats.journal_written_bytes + stats.segment_written_bytes) as f64;
            println!(
                "round {round}, direct from {from}: {rate:.2} GB/s, {:.2} bytes written for each, {} GB direct",
                written / stats.appended_bytes as f64,
                stats.direct_bytes / 1_000_000_000
            );
        }
    }
}

/// Prints figures; run it alone, in release: `cargo test --release -p storage --test store figures -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn figures_of_the_flusher_and_of_many_partitions() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().to_owned();
    on_executor(async move {
        let specs: Vec<_> = {
            let config = Rc::new(LogConfig::default());
            (0..16).map(|p| spec(p, &config)).collect()
        };
        let large = path.join("large");
        std::fs::create_dir_all(&large).unwrap();
        let disk = DirectDisk::new(&large, 256 << 20).await.unwrap();
        let mut config = config(&large);
        config.journal.file_bytes = 64 << 20;
        config.journal.max_files = 16;
        config.cache_bytes = 512 << 20;
        let (store, _) = ShardStore::open(disk, config, specs.clone(), NOW).await.unwrap();
        for task in store.run() {
            glommio::spawn_local(async move { task.await.unwrap() }).detach();
        }
        let batch = batch(BatchOptions::default(), 1, 256, 1024, NOW);
        let valid = validated(&batch);
        let (total, started) = (4usize << 30, Instant::now());
        let mut last = None;
        for i in 0..total / batch.len() {
            if !store.has_room() {
                store.wait_for_room().await;
            }
            let log = store.partition(&specs[i % 16].id()).unwrap();
            let context = storage::AppendContext {
                leader_epoch: storage::LeaderEpoch(0),
                now_ms: NOW,
                origin: protocol::records::Origin::Client,
            };
            last = Some(log.append(&batch, &valid, context).unwrap().commit);
            if i % 4 == 0 {
                store.durable(last.unwrap()).await.unwrap();
            }
        }
        store.durable(last.unwrap()).await.unwrap();
        let appended = started.elapsed();
        store.flush().await.unwrap();
        let flushed = started.elapsed();
        let gb = total as f64 / 1e9;
        println!(
            "append+journal+flush: {:.2} GB/s durable, {:.2} GB/s in segments",
            gb / appended.as_secs_f64(),
            gb / flushed.as_secs_f64()
        );
        println!("{:?}", store.stats());
        drop(store);

        let many = path.join("many");
        std::fs::create_dir_all(&many).unwrap();
        let specs = super::direct::specs(5000);
        let started = Instant::now();
        let store = open(&many, &[]).await;
        for spec in &specs {
            store.create_partition(spec.clone()).await.unwrap();
        }
        println!("5000 partitions created in {:?}", started.elapsed());
        let idle = store.stats();
        println!("empty: {} bytes per partition", idle.partition_heap_bytes / 5000);
        let started = Instant::now();
        fill(&store, &specs, 1, 200).await;
        println!("one small batch to each, durable: {:?}", started.elapsed());
        let started = Instant::now();
        store.flush().await.unwrap();
        println!("first flush of 5000 (creates directories): {:?}", started.elapsed());
        fill(&store, &specs, 1, 200).await;
        let started = Instant::now();
        store.flush().await.unwrap();
        println!("second flush of 5000: {:?}", started.elapsed());
        let StoreStats { partition_heap_bytes, open_files, .. } = store.stats();
        println!("idle: {} bytes per partition, {open_files} open files", partition_heap_bytes / 5000);
        let expected = fill(&store, &specs, 1, 200).await;
        drop((store, expected));
        let started = Instant::now();
        let store = open(&many, &specs).await;
        println!("unclean restart with 5000: {:?}", started.elapsed());
        let started = Instant::now();
        store.shutdown().await.unwrap();
        println!("shutdown with 5000: {:?}", started.elapsed());
        let started = Instant::now();
        let _store = open(&many, &specs).await;
        println!("clean restart with 5000: {:?}", started.elapsed());
    });
}
