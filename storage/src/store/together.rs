//! Thousands of logs with little data each: written one by one, but synced with the file system as a whole.
//!
//! To sync a file costs a disk operation or two and a wake-up of a kernel's worker, whatever it holds; the first flush of a log has four such syncs, of
//! directories and the metadata file too. Done for each of 10,000 logs they take ten seconds, in which the journal's ring fills up. `syncfs` writes all inodes and directories
//! that have changed, side by side, and flushes the disk once.
//!
//! Logs go in groups. A group's logs are taken for writing all at once or not at all, without waiting: a large batch of one may be what a commit waits for
//! ([`direct`](super::direct)), and what another waits for may be behind that commit. They are given back when all is durable, because whoever writes to a log next
//! takes everything below the end of its segment for durable.

use crate::{
    disk::{Disk, DiskFile, NameStep},
    error::StorageError,
    log::{partition::LogInner, segment::SegmentMeta, state::Availability},
    store::{
        flusher::{PARTITIONS_AT_ONCE, for_each},
        partition_dir::{naming, preparation},
        shared::{Shared, add},
    },
};
use std::{cell::RefCell, rc::Rc};

/// Logs that are synced at once. They are held as long as that takes.
const GROUP_LOGS: usize = 1024;
/// A log that has more to be written is worth a sync of its own. Bytes.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// Writes and syncs what those of the logs hold of commits up to `up_to` for which it is worth it; answers the others.
pub(super) async fn flush<D: Disk>(
    shared: &Rc<Shared<D>>,
    logs: Vec<Rc<LogInner<D>>>,
    up_to: u64,
) -> Result<Vec<Rc<LogInner<D>>>, StorageError> {
    if !is_worth_it(shared, logs.len()) {
        return Ok(logs);
    }
    let (together, mut alone): (Vec<_>, Vec<_>) =
        logs.into_iter().partition(|log| log.goes_with_others(up_to));
    for group in together.chunks(GROUP_LOGS) {
        match is_worth_it(shared, group.len()) {
            true => alone.extend(flush_group(shared, group, up_to).await?),
            false => alone.extend_from_slice(group),
        }
    }
    Ok(alone)
}

/// Whether so many logs are to be synced with the file system as a whole.
fn is_worth_it<D: Disk>(shared: &Shared<D>, logs: usize) -> bool {
    shared.switches.can_sync_all.get() && logs >= shared.config.sync_together_from.max(1)
}

/// Syncs what recovery has taken over from the segments of these logs.
pub(super) async fn sync_recovered<D: Disk>(
    shared: &Shared<D>,
    logs: &[Rc<LogInner<D>>],
) -> Result<(), StorageError> {
    let alone = match logs {
        [first, ..] if is_worth_it(shared, logs.len()) => {
            shared.disk.sync_all(&shared.topics_dir()).await?;
            // Its own sync is what surely flushes the disk.
            std::slice::from_ref(first)
        }
        logs => logs,
    };
    for_each(alone, PARTITIONS_AT_ONCE, async |log| {
        let synced = log.sync_findings().await;
        shared.files.remove_log(log.index);
        synced
    })
    .await
}

/// Flushes these logs; answers those that somebody else is writing to.
async fn flush_group<D: Disk>(
    shared: &Shared<D>,
    group: &[Rc<LogInner<D>>],
    up_to: u64,
) -> Result<Vec<Rc<LogInner<D>>>, StorageError> {
    let (mut taken, mut busy, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for log in group {
        match log.try_writing() {
            None => busy.push(Rc::clone(log)),
            Some(writing) => {
                held.push(writing);
                taken.push(Rc::clone(log));
            }
        }
    }
    let written = RefCell::new(None);
    let write = async |log: &LogInner<D>| {
        let mut unsynced = None;
        let outcome = log.write_with_others(up_to, &mut unsynced).await;
        if unsynced.is_some() {
            written.replace(unsynced);
        }
        outcome
    };
    let outcome = match create_files(shared, &taken).await {
        Ok(()) => for_each(&taken, PARTITIONS_AT_ONCE, write).await,
        failed => failed,
    };
    // Also what was done before something failed: nobody comes back to it.
    sync(shared, written.take()).await?;
    outcome.map(|()| busy)
}

/// Creates directories and first segments where there are none, whose names become durable with what is written then.
async fn create_files<D: Disk>(shared: &Shared<D>, logs: &[Rc<LogInner<D>>]) -> Result<(), StorageError> {
    let has_directory = |log: &&Rc<LogInner<D>>| log.state.borrow().has_directory;
    let has_segment = |log: &&Rc<LogInner<D>>| !log.state.borrow().segments.is_empty();
    let new: Vec<_> = logs.iter().filter(|log| !has_directory(log)).collect();
    if !new.is_empty() {
        let steps = new.iter().flat_map(|log| preparation(&log.directory(), log.id.topic_id)).collect();
        shared.disk.carry_out(steps).await?;
        sync(shared, None).await?;
    }
    let names = new.iter().map(|log| naming(&log.directory()));
    let segments = logs.iter().filter(|log| !has_segment(log)).map(|log| {
        let base_offset = log.state.borrow().written_end;
        NameStep::WriteFile(log.segment_file(base_offset, "log"), Vec::new())
    });
    let steps: Vec<_> = names.chain(segments).collect();
    if !steps.is_empty() {
        shared.disk.carry_out(steps).await?;
    }
    new.iter().for_each(|log| log.state.borrow_mut().has_directory = true);
    Ok(())
}

/// Makes all durable; `written` is one of the files that were written.
async fn sync<D: Disk>(shared: &Shared<D>, written: Option<Rc<D::File>>) -> Result<(), StorageError> {
    shared.disk.sync_all(&shared.topics_dir()).await?;
    add(&shared.counters.segment_syncs, 1);
    if let Some(file) = written {
        // A file system none of whose own data has changed may leave out the flush of the disk. A file's sync never does.
        file.sync_data().await?;
        add(&shared.counters.segment_syncs, 1);
    }
    Ok(())
}

impl<D: Disk> LogInner<D> {
    /// Whether the log has little to be written of commits up to `up_to`, nothing that a commit waits for, and nothing left to be tidied up.
    fn goes_with_others(&self, up_to: u64) -> bool {
        let state = self.state.borrow();
        let mut bytes = 0;
        let pending = state.tail.from(state.written_end).take_while(|batch| batch.commit <= up_to);
        let is_little = pending.map(|batch| u64::from(batch.size)).all(|size| {
            bytes += size;
            bytes <= LOG_BYTES_MAX
        });
        bytes > 0 && is_little && state.direct.is_none() && matches!(state.availability, Availability::Online)
    }

    /// Writes all batches of commits up to `up_to`. A segment that is full is closed durably; all else is not durable yet.
    async fn write_with_others(
        &self,
        up_to: u64,
        unsynced: &mut Option<Rc<D::File>>,
    ) -> Result<(), StorageError> {
        let roll = async || {
            if !self.state.borrow().segments.is_empty() {
                return self.roll().await;
            }
            // Its file was created with those of the others. One that had its name before is not it.
            let new = SegmentMeta::new(self.state.borrow().written_end);
            self.shared.files.remove(self.segment_key(&new));
            self.state.borrow_mut().push_segment();
            Ok(())
        };
        self.write_pending(up_to, roll, unsynced).await
    }
}
