//! The record log that holds a shard's checkpoints, rewritten when most of it is history.

use crate::{
    disk::Disk,
    error::StorageError,
    log::state::Availability,
    record_log::RecordLog,
    store::{
        checkpoint::{Checkpoints, PartitionCheckpoint, RecordBuilder, clean_record, in_use_record},
        shared::Shared,
    },
    types::TopicIdPartition,
};
use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

/// Below this size a rewrite is not worth it. Bytes.
const REWRITE_FROM_BYTES: u64 = 1 << 20;
/// A rewrite puts partitions together into records of about this size. Bytes.
const REWRITE_RECORD_BYTES: usize = 256 << 10;

pub(crate) const FILE_NAME: &str = "checkpoints";

pub(crate) struct CheckpointLog<D: Disk> {
    log: futures::lock::Mutex<RecordLog<D>>,
    /// Size after the last rewrite. Bytes.
    live_bytes: Cell<u64>,
}

impl<D: Disk> CheckpointLog<D> {
    /// Opens the checkpoints in `dir`, which must exist, and reads them.
    pub async fn open(disk: &D, dir: &Path) -> Result<(Self, Checkpoints), StorageError> {
        let path = dir.join(FILE_NAME);
        let (log, records) = RecordLog::open(disk.clone(), &path).await?;
        let mut checkpoints = Checkpoints::default();
        for record in records {
            checkpoints.apply(&record).map_err(|_| unreadable(&path))?;
        }
        let live_bytes = Cell::new(log.size_bytes());
        Ok((Self { log: futures::lock::Mutex::new(log), live_bytes }, checkpoints))
    }

    /// Makes a record durable. Not after a failure: what counts as written then may not be synced.
    pub async fn append(&self, shared: &Shared<D>, record: RecordBuilder) -> Result<(), StorageError> {
        let mut log = self.log.lock().await;
        shared.check_healthy()?;
        log.append(&[record.finish()]).await?;
        if log.size_bytes() > REWRITE_FROM_BYTES.max(self.live_bytes.get() * 4) {
            let records = snapshot(shared, in_use_record());
            log.rewrite(&records).await?;
            self.live_bytes.set(log.size_bytes());
        }
        Ok(())
    }

    /// Makes a record durable, however large the log has become: the next [`append`](Self::append) sees to that.
    pub async fn append_only(&self, record: RecordBuilder) -> Result<(), StorageError> {
        self.log.lock().await.append(&[record.finish()]).await
    }

    /// Makes durable that a partition was deleted.
    pub async fn append_deleted(&self, id: &TopicIdPartition) -> Result<(), StorageError> {
        let mut record = RecordBuilder::new();
        record.put_deleted(id);
        self.log.lock().await.append(&[record.finish()]).await
    }

    /// Replaces all by what the partitions have in segments now, and says whether the store is in use or cleanly closed. The caller has seen to it
    /// that all that counts is synced.
    pub async fn rewrite(&self, shared: &Shared<D>, is_clean: bool) -> Result<(), StorageError> {
        let mut log = self.log.lock().await;
        shared.check_healthy()?;
        let last = if is_clean { clean_record() } else { in_use_record() };
        log.rewrite(&snapshot(shared, last)).await?;
        self.live_bytes.set(log.size_bytes());
        Ok(())
    }
}

/// Records of all partitions, and `last` behind them.
fn snapshot<D: Disk>(shared: &Shared<D>, last: Vec<u8>) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut record = RecordBuilder::new();
    for log in shared.logs.borrow().iter().flatten() {
        let state = log.state.borrow();
        let checkpoint = match &state.availability {
            Availability::Online => PartitionCheckpoint::of(&state),
            // What was known before it went offline is evidence, and stays.
            Availability::Offline(_) => match &state.last_checkpoint {
                Some(known) => (**known).clone(),
                None => continue,
            },
            Availability::Deleted => continue,
        };
        record.put(&log.id, &checkpoint);
        if record.len() >= REWRITE_RECORD_BYTES {
            records.push(std::mem::replace(&mut record, RecordBuilder::new()).finish());
        }
    }
    if !record.is_empty() {
        records.push(record.finish());
    }
    records.push(last);
    records
}

fn unreadable(path: &Path) -> StorageError {
    StorageError::Corrupt {
        path: PathBuf::from(path),
        position: 0,
        what: "a checkpoint record of unknown form".to_owned(),
        partitions: Vec::new(),
    }
}
