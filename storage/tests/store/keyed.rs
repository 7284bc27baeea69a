//! Compacted logs in tests: keyed batches, a model of what was appended, and what a log must hold of it.

use crate::harness::*;
use protocol::{
    compression::Compression,
    records::{BatchBuilder, BatchOptions, RecordIter, decompress, iter_batches},
};
use std::{collections::BTreeMap, rc::Rc};
pub use storage::wake::yield_now;
use storage::{
    AppendError, AppendOutcome, LogConfig, Offset, PartitionLog, StorageError,
    cleaner::{CleanReport, CleanerConfig, CleanerHost},
    disk::SimDisk,
};

/// One record as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub offset: i64,
    pub key: Option<u64>,
    pub value: Option<Vec<u8>>,
    pub timestamp: i64,
}

/// Computes on the spot, after letting others have their turn.
pub struct InlineHost;

impl CleanerHost for InlineHost {
    async fn compute<R, F>(&self, work: F) -> R
    where
        R: Send + 'static,
        F: FnOnce() -> R + Send + 'static,
    {
        yield_now().await;
        work()
    }

    async fn pace(&self, _bytes: usize) {
        yield_now().await;
    }

    fn secret(&self) -> [u8; 16] {
        [42; 16]
    }
}

/// A compacted topic that is due as soon as anything is dirty.
pub fn compacted() -> LogConfig {
    LogConfig {
        segment_bytes: 4 << 10,
        index_interval_bytes: 512,
        cleanup_delete: false,
        cleanup_compact: true,
        min_cleanable_dirty_ratio: 0.0,
        delete_retention_ms: 1_000,
        retention_ms: -1,
        ..LogConfig::default()
    }
}

pub fn cleaner_config() -> CleanerConfig {
    CleanerConfig { dedupe_buffer_bytes: 1 << 20, io_buffer_bytes: 2 << 10 }
}

impl Run {
    /// Brings all into segments and cleans one log.
    pub fn clean(&mut self, now_ms: i64) -> Result<Option<CleanReport>, StorageError> {
        self.clean_with(&cleaner_config(), now_ms)
    }

    pub fn clean_with(
        &mut self,
        config: &CleanerConfig,
        now_ms: i64,
    ) -> Result<Option<CleanReport>, StorageError> {
        self.pool.run_until(self.store.flush())?;
        self.pool.run_until(self.store.clean_next(&InlineHost, config, now_ms))
    }

    /// All records of a log from its start.
    pub fn rows(&mut self, log: &PartitionLog<SimDisk>) -> Vec<Row> {
        rows(&self.read_all(log, log.offsets().log_start_offset, 3000))
    }
}

/// The records of batches; checks that batches and records are whole and in order.
pub fn rows(bytes: &[u8]) -> Vec<Row> {
    let (mut all, mut end) = (Vec::<Row>::new(), i64::MIN);
    for batch in iter_batches(bytes) {
        let batch = batch.unwrap();
        batch.check_crc().unwrap();
        assert!(batch.base_offset() >= end, "batches overlap at {}", batch.base_offset());
        end = batch.next_offset();
        let payload = decompress(&batch, 1 << 20).unwrap();
        for record in RecordIter::new(&batch, &payload) {
            let record = record.unwrap();
            assert!((batch.base_offset()..end).contains(&record.offset));
            assert!(all.last().is_none_or(|last| last.offset < record.offset), "records are in order");
            all.push(Row {
                offset: record.offset,
                key: record.key.map(|key| u64::from_be_bytes(key.try_into().unwrap())),
                value: record.value.map(<[u8]>::to_vec),
                timestamp: record.timestamp,
            });
        }
    }
    all
}

/// The state that a reader builds: the latest value of each key.
pub fn fold<'a>(rows: impl IntoIterator<Item = &'a Row>) -> BTreeMap<u64, (i64, Vec<u8>)> {
    let mut state = BTreeMap::new();
    for row in rows {
        let Some(key) = row.key else { continue };
        match &row.value {
            Some(value) => state.insert(key, (row.offset, value.clone())),
            None => state.remove(&key),
        };
    }
    state
}

/// Everything that was ever appended to one log, and what its producers have sent.
#[derive(Default, Clone)]
pub struct Keyed {
    pub rows: Vec<Row>,
    pub sequences: BTreeMap<i64, i32>,
    clock: i64,
}

impl Keyed {
    pub fn end(&self) -> i64 {
        self.rows.last().map_or(0, |row| row.offset + 1)
    }

    /// Appends a random batch over `keys` keys: several records, some tombstones, any codec, perhaps of an idempotent producer.
    pub fn append(
        &mut self,
        log: &PartitionLog<SimDisk>,
        random: &mut Random,
        keys: u64,
    ) -> Result<AppendOutcome, AppendError> {
        let codecs =
            [Compression::None, Compression::None, Compression::Lz4, Compression::Zstd, Compression::Gzip];
        let mut options =
            BatchOptions { compression: codecs[random.below(5) as usize], ..BatchOptions::default() };
        let producer = random.below(4) as i64;
        let count = 1 + random.below(6) as i32;
        if producer < 2 {
            options.producer_id = producer;
            options.producer_epoch = 0;
            options.base_sequence = *self.sequences.get(&producer).unwrap_or(&0);
        }
        let mut builder = BatchBuilder::new(options);
        let mut rows = Vec::new();
        for i in 0..count as i64 {
            let key = random.below(keys);
            let offset = self.end() + i;
            let value = match random.below(6) {
                0 => None,
                _ => {
                    let mut value = offset.to_be_bytes().to_vec();
                    value.resize(8 + random.below(150) as usize, key as u8);
                    Some(value)
                }
            };
            self.clock += random.below(3) as i64;
            let timestamp = NOW + self.clock;
            builder.append(timestamp, Some(&key.to_be_bytes()), value.as_deref(), &[]);
            rows.push(Row { offset, key: Some(key), value, timestamp });
        }
        let outcome = append(log, &builder.build().unwrap())?;
        assert_eq!(outcome.base_offset.0, self.end());
        self.rows.extend(rows);
        if producer < 2 {
            *self.sequences.entry(producer).or_default() += count;
        }
        Ok(outcome)
    }

    /// Forgets what a crash has taken.
    pub fn cut(&mut self, end: Offset, log: &PartitionLog<SimDisk>) {
        self.rows.retain(|row| row.offset < end.0);
        self.sequences = log.producers().iter().map(|(id, _, last, ..)| (id.0, last + 1)).collect();
    }

    /// What must hold at every moment: what is there was appended, as it is there; nothing that counts is missing; the state that a reader
    /// builds is the state that was written.
    pub fn check(&self, found: &[Row], context: &str) {
        let appended: BTreeMap<i64, &Row> = self.rows.iter().map(|row| (row.offset, row)).collect();
        for row in found {
            assert_eq!(appended.get(&row.offset), Some(&row), "{context}: not what was appended");
        }
        assert_eq!(fold(found), fold(&self.rows), "{context}");
    }

    /// What must hold after a pass that has come to its end: below `clean_end` each key occurs once at most, from there on nothing is missing.
    pub fn check_clean(&self, found: &[Row], clean_end: Offset, context: &str) {
        self.check(found, context);
        let mut seen = std::collections::BTreeSet::new();
        for row in found.iter().filter(|row| row.offset < clean_end.0) {
            assert!(seen.insert(row.key), "{context}: key {:?} occurs twice below {clean_end}", row.key);
        }
        let behind =
            |rows: &[Row]| rows.iter().filter(|row| row.offset >= clean_end.0).cloned().collect::<Vec<_>>();
        assert_eq!(behind(found), behind(&self.rows), "{context}: what is not clean yet is whole");
    }
}

/// A store with one compacted partition.
pub fn open_compacted(disk: &SimDisk, config: LogConfig) -> Run {
    let spec = spec(0, &Rc::new(config));
    Run::open(disk, small_store_config(0, 1), vec![spec]).unwrap()
}

/// The only partition of the store.
pub fn only_log(run: &Run) -> PartitionLog<SimDisk> {
    run.store.partition(&run.store.partitions()[0]).unwrap()
}
