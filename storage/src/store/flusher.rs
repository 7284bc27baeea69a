//! The flusher: brings what the journal holds into segment files, so that journal files and memory can be used again.
//!
//! One round takes what is durable at its start, or the older part of that if there is much: writes and syncs the segments of the partitions concerned (a bounded number at once),
//! makes the checkpoint durable, and only then releases the journal and unpins the cache. Rounds run when the ring or the cache fills up, or when
//! data has waited for long; so thousands of partitions with little data each are synced once per ring, not once per second.

use crate::{
    cache::LogIndex,
    disk::Disk,
    error::StorageError,
    journal::CommitSeq,
    log::{partition::LogInner, state::Availability},
    store::{
        checkpoint::{PartitionCheckpoint, RecordBuilder},
        checkpoint_log::CheckpointLog,
        shared::{Shared, add},
        together,
    },
};
use futures::{StreamExt, stream};
use std::rc::Rc;

/// A round takes at least so many bytes for each log that it has to sync.
const ROUND_BYTES_PER_LOG: usize = 256 << 10;
/// Partitions that are written and synced at the same time.
pub(super) const PARTITIONS_AT_ONCE: usize = 32;

/// Flushes whenever that is needed, until the store is closed. An error is final: what is pending can not be brought to safety.
pub(crate) async fn run<D: Disk>(
    shared: Rc<Shared<D>>,
    checkpoints: Rc<CheckpointLog<D>>,
) -> Result<(), StorageError> {
    loop {
        let is_over = || shared.switches.closing.get() || shared.switches.failed.borrow().is_some();
        shared.flush_wanted.wait_until(|| is_over() || shared.needs_flush()).await;
        shared.check_healthy()?;
        if shared.switches.closing.get() {
            return Ok(());
        }
        match flush_round(&shared, &checkpoints, shared.next_round_end()).await {
            Ok(()) => shared.switches.is_out_of_space.set(false),
            Err(StorageError::Disk(error)) if error.is_out_of_space() => {
                shared.note_out_of_space(&error.into());
            }
            Err(error) => return Err(error),
        }
    }
}

impl<D: Disk> Shared<D> {
    /// Up to where the flusher's next round goes: about a journal file's worth, so that room is given back every now and then and not all at once; but
    /// more where many logs share it, because each has to be synced.
    fn next_round_end(&self) -> u64 {
        let for_syncs = self.dirty.borrow().len() * ROUND_BYTES_PER_LOG;
        let bytes = (self.config.journal.file_bytes as usize).max(for_syncs);
        self.cache.borrow().pinned_prefix(bytes).unwrap_or(u64::MAX)
    }
}

/// Brings what is durable of commits up to `up_to` into synced segments and releases it.
pub(crate) async fn flush_round<D: Disk>(
    shared: &Rc<Shared<D>>,
    checkpoints: &CheckpointLog<D>,
    up_to: u64,
) -> Result<(), StorageError> {
    let _lock = shared.maintenance.lock().await;
    shared.check_healthy()?;
    let up_to = up_to.min(shared.durable.get());
    let dirty = shared.dirty.take();
    shared.dirty_since_ms.set(None);
    let flushed = async {
        flush_log_set(shared, &dirty, up_to).await?;
        checkpoint_logs(shared, checkpoints, &dirty).await
    };
    let flushed = flushed.await.inspect_err(|error| shared.note_flush_error(error));
    keep_dirty(shared, &dirty, flushed.is_ok().then_some(up_to));
    flushed?;

    if up_to > shared.released.get() {
        shared.journal.release(CommitSeq(up_to));
        shared.released.set(up_to);
        shared.cache.borrow_mut().release(up_to);
    }
    shared.evict();
    add(&shared.counters.flush_rounds, 1);
    shared.throttle.refill();
    shared.room.notify_all();
    Ok(())
}

/// Writes and syncs what these logs hold of commits up to `up_to`.
pub(crate) async fn flush_log_set<D: Disk>(
    shared: &Rc<Shared<D>>,
    logs: &[LogIndex],
    up_to: u64,
) -> Result<(), StorageError> {
    let logs: Vec<_> = logs.iter().filter_map(|&index| shared.log(index)).collect();
    let alone = together::flush(shared, logs, up_to).await?;
    for_each(&alone, PARTITIONS_AT_ONCE, async |log| log.flush(up_to).await).await
}

/// Does something with all these logs, `at_once` of them at a time. All are brought to an end before a failure is reported: nothing writes to files behind the
/// caller's back. Of several failures it is one that does not pass, if there is one.
pub(super) async fn for_each<D: Disk>(
    logs: &[Rc<LogInner<D>>],
    at_once: usize,
    work: impl AsyncFn(&LogInner<D>) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let mut working = stream::iter(logs).map(|log| work(log)).buffer_unordered(at_once);
    let mut outcome = Ok(());
    while let Some(done) = working.next().await {
        if outcome.is_ok() || done.is_err() && outcome.as_ref().is_err_and(StorageError::is_out_of_space) {
            outcome = done;
        }
    }
    outcome
}

/// Makes durable what the segments of these logs hold. They have been synced.
pub(crate) async fn checkpoint_logs<D: Disk>(
    shared: &Rc<Shared<D>>,
    checkpoints: &CheckpointLog<D>,
    logs: &[LogIndex],
) -> Result<(), StorageError> {
    let mut record = RecordBuilder::new();
    for &index in logs {
        if let Some(log) = shared.log(index) {
            let state = log.state.borrow();
            if matches!(state.availability, Availability::Online) {
                record.put(&log.id, &PartitionCheckpoint::of(&state));
            }
        }
    }
    if !record.is_empty() {
        checkpoints.append(shared, record).await?;
    }
    Ok(())
}

/// Logs that have changed in commits after those that the round has finished stay in the list: the checkpoint does not know of that, also if
/// it is only a new log start, or if somebody else has written the batches to the segment.
fn keep_dirty<D: Disk>(shared: &Shared<D>, dirty: &[LogIndex], finished: Option<u64>) {
    for &index in dirty {
        let Some(log) = shared.log(index) else { continue };
        let mut state = log.state.borrow_mut();
        if finished.is_some_and(|up_to| state.last_commit <= up_to) {
            state.is_dirty = false;
        } else {
            shared.dirty.borrow_mut().push(index);
        }
    }
    if !shared.dirty.borrow().is_empty() && shared.dirty_since_ms.get().is_none() {
        shared.dirty_since_ms.set(Some(shared.now_ms.get()));
    }
}
