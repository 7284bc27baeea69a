//! A controller's journal: storage's own [`RecordLog`] on a simulated disk, so that what a restart finds has gone through the real encoding and recovery.
//!
//! What is handed over waits in memory until the virtual sync returns, and is written then; a crash before leaves some of it, the last of it perhaps in part.

use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;
use coord::quorum::{JournalRecord, Persist, Recovered, recover};
use futures::executor::block_on;
use storage::StorageError;
use storage::disk::SimDisk;
use storage::disk::sim::Survival;
use storage::record_log::RecordLog;

use super::random::Random;

const PATH: &str = "/metadata.log";

/// See the module.
pub struct QuorumJournal {
    disk: SimDisk,
    log: Option<RecordLog<SimDisk>>,
    waiting: VecDeque<Persist>,
    /// Of those that wait, how many the sync under way covers.
    syncing: Option<usize>,
}

impl QuorumJournal {
    /// A new disk with the first records of a controller's journal, if it has any.
    pub fn new(seed: u64, first: &[JournalRecord]) -> Self {
        let disk = SimDisk::new(seed);
        let (mut log, _) =
            block_on(RecordLog::open(disk.clone(), Path::new(PATH))).expect("a new disk works");
        block_on(append(&mut log, first)).expect("a new disk works");
        QuorumJournal { disk, log: Some(log), waiting: VecDeque::new(), syncing: None }
    }

    /// What the journal says after a start.
    pub fn recover(&mut self) -> Recovered {
        self.log = None;
        let opened = block_on(RecordLog::open(self.disk.clone(), Path::new(PATH)));
        let (log, bytes) = opened.expect("a crash leaves a log that can be opened");
        self.log = Some(log);
        let records =
            bytes.iter().map(|bytes| JournalRecord::decode(bytes).expect("what was written is read"));
        recover(records).expect("a journal has no gaps")
    }

    /// Takes something that is to be made durable.
    pub fn push(&mut self, persist: Persist) {
        self.waiting.push_back(persist);
    }

    /// Begins a sync of everything that waits, if there is anything and no sync is under way. Answers whether one has begun.
    pub fn begin_sync(&mut self) -> bool {
        let begins = self.syncing.is_none() && !self.waiting.is_empty();
        if begins {
            self.syncing = Some(self.waiting.len());
        }
        begins
    }

    /// The sync has returned: the number of the last [`Persist`] that is durable now.
    pub fn end_sync(&mut self) -> Option<u64> {
        let covered = self.syncing.take()?;
        let mut last = None;
        for persist in self.waiting.drain(..covered) {
            let log = self.log.as_mut().expect("it is open while the process runs");
            block_on(write(log, &persist)).expect("this disk does not fail");
            last = Some(persist.number);
        }
        last
    }

    /// The power fails. Some of what waits has reached the disk, the next of it perhaps in part.
    pub fn crash(&mut self, random: &mut Random) {
        let whole = random.below(self.waiting.len() as u64 + 1) as usize;
        self.syncing = None;
        if let Some(log) = &mut self.log {
            for persist in self.waiting.iter().take(whole) {
                block_on(write(log, persist)).expect("this disk does not fail");
            }
            if let Some(torn) = self.waiting.get(whole) {
                self.disk.crash_at(self.disk.operations() + random.between(1, 3));
                // It ends in the middle, or has just been finished.
                let _ = block_on(write(log, torn));
            }
        }
        self.waiting.clear();
        self.log = None;
        self.disk = self.disk.crash(Survival::AnySubset, random.bits());
    }
}

async fn write(log: &mut RecordLog<SimDisk>, persist: &Persist) -> Result<(), StorageError> {
    if persist.rewrites {
        let records: Vec<Bytes> = encoded(&persist.records);
        return log.rewrite(&records).await;
    }
    append(log, &persist.records).await
}

async fn append(log: &mut RecordLog<SimDisk>, records: &[JournalRecord]) -> Result<(), StorageError> {
    log.append(&encoded(records)).await
}

fn encoded(records: &[JournalRecord]) -> Vec<Bytes> {
    records.iter().map(|record| Bytes::from(record.encode())).collect()
}
