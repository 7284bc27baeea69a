//! A store on a simulated disk, driven by a single-threaded pool.

use futures::{executor::LocalPool, task::LocalSpawnExt};
use protocol::records::{BatchBuilder, BatchOptions, Origin, ValidatedBatch, ValidationLimits, validate};
use std::{cell::RefCell, path::Path, rc::Rc};
use storage::{
    AppendContext, AppendError, AppendOutcome, LeaderEpoch, LogConfig, Offset, PartitionId, PartitionLog,
    PartitionSpec, ReadError, RecoveryReport, ShardStore, StorageError, StoreConfig,
    disk::{Disk, SimDisk},
    store::{HighWatermarkMode, TopicStatus},
};
use uuid::Uuid;

pub const DATA: &str = "/data";
pub const NOW: i64 = 1_700_000_000_000;

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub fn small_log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 16 << 10,
        index_interval_bytes: 1024,
        retention_ms: -1,
        ..LogConfig::default()
    }
}

pub fn small_store_config(shard: u32, shards: u32) -> StoreConfig {
    let mut config = StoreConfig::new(DATA, shard, shards, Uuid::from_u128(0x1000 + shard as u128));
    config.journal.file_bytes = 64 << 10;
    config.journal.max_files = 4;
    config.journal.max_commit_bytes = 16 << 10;
    config.cache_bytes = 96 << 10;
    config.low_space_bytes = 1 << 20;
    config.max_open_files = 4;
    config.topic_status = Rc::new(|_| TopicStatus::Live);
    config
}

pub fn spec(partition: i32, config: &Rc<LogConfig>) -> PartitionSpec {
    PartitionSpec {
        topic_id: Uuid::from_u128(7),
        topic: "orders".into(),
        partition: PartitionId(partition),
        leader_epoch: LeaderEpoch(0),
        config: config.clone(),
        high_watermark: HighWatermarkMode::FollowsDurableEnd,
    }
}

pub fn batch(
    options: BatchOptions,
    first_value: u64,
    records: usize,
    value_bytes: usize,
    timestamp: i64,
) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for i in 0..records {
        let mut value = (first_value + i as u64).to_be_bytes().to_vec();
        value.resize(value_bytes.max(8), (first_value + i as u64) as u8);
        builder.append(timestamp + i as i64, None, Some(&value), &[]);
    }
    builder.build().unwrap().to_vec()
}

pub fn validated(batch: &[u8]) -> ValidatedBatch {
    let limits = ValidationLimits { max_message_bytes: 1 << 30, ..ValidationLimits::default() };
    validate(batch, &limits, NOW).unwrap()
}

pub fn append<D: Disk>(log: &PartitionLog<D>, batch: &[u8]) -> Result<AppendOutcome, AppendError> {
    let context = AppendContext { leader_epoch: LeaderEpoch(0), now_ms: NOW, origin: Origin::Client };
    log.append(batch, &validated(batch), context)
}

/// The bytes that a log must hold for a batch that was appended at `base_offset` under epoch 0.
pub fn stored(batch: &[u8], base_offset: Offset) -> Vec<u8> {
    let mut copy = batch.to_vec();
    validated(batch).assign(&mut copy, base_offset.0, 0, None);
    copy
}

/// One run of a broker's shard on a disk: from open to close or crash.
pub struct Run {
    pub pool: LocalPool,
    pub store: ShardStore<SimDisk>,
    pub report: RecoveryReport,
    /// How the store's loops ended.
    pub ended: Rc<RefCell<Vec<Result<(), StorageError>>>>,
}

impl Run {
    pub fn open(
        disk: &SimDisk,
        config: StoreConfig,
        wanted: Vec<PartitionSpec>,
    ) -> Result<Self, StorageError> {
        let mut pool = LocalPool::new();
        let disk = disk.clone();
        let (store, report) = pool.run_until(async move {
            disk.create_dir_all(Path::new(DATA)).await?;
            ShardStore::open(disk, config, wanted, NOW).await
        })?;
        let ended = Rc::new(RefCell::new(Vec::new()));
        for task in store.run() {
            let ended = ended.clone();
            let task = async move {
                let outcome = task.await;
                ended.borrow_mut().push(outcome);
            };
            pool.spawner().spawn_local(task).unwrap();
        }
        Ok(Self { pool, store, report, ended })
    }

    /// A store whose first log has so many batches of 2,000 bytes in segments, and nothing in memory.
    pub fn open_cold(
        disk: &SimDisk,
        config: &StoreConfig,
        wanted: &[PartitionSpec],
        batches: u64,
    ) -> (Self, PartitionLog<SimDisk>) {
        let mut run = Self::open(disk, config.clone(), wanted.to_vec()).unwrap();
        let log = run.log(&wanted[0]);
        for value in 0..batches {
            run.append_durably(&log, &batch(BatchOptions::default(), value, 1, 2000, NOW));
        }
        drop(log);
        run.shutdown();
        let run = Self::open(disk, config.clone(), wanted.to_vec()).unwrap();
        let log = run.log(&wanted[0]);
        (run, log)
    }

    pub fn log(&self, spec: &PartitionSpec) -> PartitionLog<SimDisk> {
        self.store.partition(&spec.id()).unwrap()
    }

    /// Runs everything until nothing moves.
    pub fn settle(&mut self) {
        self.pool.run_until_stalled();
    }

    /// Appends, when there is room as a broker does, and waits for the acknowledgement.
    pub fn append_durably(&mut self, log: &PartitionLog<SimDisk>, batch: &[u8]) -> AppendOutcome {
        self.pool.run_until(self.store.wait_for_room());
        let outcome = append(log, batch).unwrap();
        let durable = self.store.durable(outcome.commit);
        self.pool.run_until(durable).unwrap();
        outcome
    }

    /// Reads the log from `from` to the high watermark, in reads of `max_bytes`.
    pub fn read_all(&mut self, log: &PartitionLog<SimDisk>, from: Offset, max_bytes: usize) -> Vec<u8> {
        self.try_read_all(log, from, max_bytes).unwrap()
    }

    pub fn try_read_all(
        &mut self,
        log: &PartitionLog<SimDisk>,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let end = log.offsets().high_watermark;
        let (mut at, mut bytes) = (from, Vec::new());
        while at < end {
            let outcome = self.pool.run_until(log.read(at, end, max_bytes, true))?;
            assert!(!outcome.slices.is_empty(), "nothing at {at} of {:?}", log.offsets());
            assert_eq!(outcome.bytes, outcome.slices.iter().map(|s| s.len()).sum::<usize>());
            for slice in &outcome.slices {
                bytes.extend_from_slice(slice);
            }
            at = outcome.next_offset;
        }
        Ok(bytes)
    }

    pub fn shutdown(mut self) {
        self.pool.run_until(self.store.shutdown()).unwrap();
        self.settle();
        let ended = self.ended.borrow();
        assert_eq!(ended.len(), 3, "the loops end");
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    }
}
