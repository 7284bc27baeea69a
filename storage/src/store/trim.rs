//! Moving the log start forward: delete-records, and retention by time and size.

use crate::{
    disk::Disk,
    error::StorageError,
    journal::{CommitSeq, EntryHeader, EntryKind},
    log::{
        error::ReadError,
        partition::{LogInner, PartitionLog},
        retention::{RetentionDecision, RetentionFacts, RetentionReason, decide},
        state::Availability,
    },
    store::{
        ShardStore, flusher::checkpoint_logs, partition_dir::remove_segment, shard_store::expire_producers,
    },
    types::Offset,
    wake::yield_now,
};
use std::rc::Rc;

/// What a retention run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionReport {
    /// Segments deleted.
    pub deleted_segments: usize,
    /// Their size. Bytes.
    pub deleted_bytes: u64,
    /// Producers forgotten because they were silent.
    pub partitions: usize,
}

impl<D: Disk> PartitionLog<D> {
    /// Makes records below `before` unreadable (DeleteRecords, KIP-107); -1 means all below the high watermark. Durable when it returns. Answers the
    /// log start offset. Segments that lie wholly below go with the next retention run.
    ///
    /// # Errors
    /// [`ReadError::OffsetOutOfRange`] above the high watermark; see [`ReadError`].
    pub async fn delete_records(&self, before: Offset) -> Result<Offset, ReadError> {
        let (commit, log_start) = {
            let mut state = self.inner.state.borrow_mut();
            state.check_available()?;
            let before = if before.0 == -1 { state.high_watermark } else { before };
            if before > state.high_watermark || before.0 < 0 {
                return Err(ReadError::OffsetOutOfRange {
                    offset: before,
                    log_start_offset: state.log_start,
                    log_end_offset: state.high_watermark,
                });
            }
            if before <= state.log_start {
                return Ok(state.log_start);
            }
            let commit = self.inner.advance_log_start(&mut state, before)?;
            (commit, before)
        };
        self.inner.shared.journal.durable(commit).await.map_err(StorageError::from)?;
        Ok(log_start)
    }
}

impl<D: Disk> LogInner<D> {
    /// Moves the log start; durable when the commit is. The next flush round puts it into the checkpoint.
    pub(crate) fn advance_log_start(
        &self,
        state: &mut crate::log::state::LogState,
        to: Offset,
    ) -> Result<CommitSeq, StorageError> {
        let shared = &self.shared;
        let entry = EntryHeader {
            kind: EntryKind::LogStartOffset,
            partition: self.id,
            base_offset: to,
            last_offset: to,
            leader_epoch: state.leader_epochs.latest().unwrap_or_default(),
        };
        let appended = shared.journal.append(&entry, shared.config.durability, &[], |_| {})?;
        // Epochs stay: of what replicas may still read, which is more than that.
        state.log_start = state.log_start.max(to);
        shared.note_touched(self.index, state, appended.commit);
        Ok(appended.commit)
    }

    fn retention(&self, now_ms: i64) -> RetentionDecision {
        let state = self.state.borrow();
        let Some(first) = state.segments.first() else { return RetentionDecision::Keep };
        let is_active = state.segments.len() == 1;
        if !matches!(state.availability, Availability::Online)
            || (is_active && state.written_end < state.log_end)
        {
            return RetentionDecision::Keep;
        }
        let facts = RetentionFacts {
            first,
            first_end: state.segments.get(1).map_or(state.log_end, |s| s.base_offset),
            first_is_active: is_active,
            total_bytes: state.size_bytes(),
            log_start_offset: state.log_start,
            high_watermark: state.high_watermark,
            now_ms,
        };
        decide(facts, &state.config)
    }
}

impl<D: Disk> ShardStore<D> {
    /// Deletes the segments that retention lets go of, and forgets producers that have been silent for too long. Waits for the disk between
    /// partitions, so that produce goes on meanwhile.
    ///
    /// # Errors
    /// A failing disk. What was deleted is deleted.
    pub async fn enforce_retention(&self, now_ms: i64) -> Result<RetentionReport, StorageError> {
        let mut report = RetentionReport::default();
        expire_producers(&self.shared, now_ms);
        let count = self.shared.logs.borrow().len();
        for index in 0..count as u32 {
            let Some(log) = self.shared.log(index) else { continue };
            report.partitions += 1;
            self.retain(&log, now_ms, &mut report).await?;
            if index % 256 == 255 {
                yield_now().await;
            }
        }
        Ok(report)
    }

    async fn retain(
        &self,
        log: &Rc<LogInner<D>>,
        now_ms: i64,
        report: &mut RetentionReport,
    ) -> Result<(), StorageError> {
        let mut doomed = Vec::new();
        loop {
            match log.retention(now_ms) {
                RetentionDecision::Keep => break,
                RetentionDecision::NeedTimestamp => {
                    let found = log.undisturbed(async || {
                        let (segment, is_active) = {
                            let state = log.state.borrow();
                            (state.segments[0], state.segments.len() == 1)
                        };
                        log.largest_timestamp(&segment, is_active).await
                    });
                    match found.await {
                        Ok(_) => {}
                        Err(ReadError::Storage(error)) => return Err(error),
                        Err(_) => break,
                    }
                }
                RetentionDecision::DeleteFirst(reason) => {
                    let _lock = self.shared.maintenance.lock().await;
                    // While waiting for the lock a flush may have added to it.
                    if log.retention(now_ms) != RetentionDecision::DeleteFirst(reason) {
                        continue;
                    }
                    if !self.let_go(log, reason, &mut doomed).await? {
                        break;
                    }
                }
            }
        }
        if doomed.is_empty() {
            return Ok(());
        }
        let _lock = self.shared.maintenance.lock().await;
        // A checkpoint that names a segment must not outlive it.
        checkpoint_logs(&self.shared, &self.checkpoints, &[log.index]).await?;
        for segment in doomed {
            let removed = remove_segment(&self.shared.disk, &log.directory(), segment.base_offset).await;
            // Not before: a reader may have opened it meanwhile.
            self.shared.files.remove(log.segment_key(&segment));
            removed?;
            report.deleted_segments += 1;
            report.deleted_bytes += segment.size;
        }
        Ok(())
    }

    /// Takes the oldest segment out of the log. False: not now.
    async fn let_go(
        &self,
        log: &Rc<LogInner<D>>,
        reason: RetentionReason,
        doomed: &mut Vec<crate::log::segment::SegmentMeta>,
    ) -> Result<bool, StorageError> {
        let is_active = log.state.borrow().segments.len() == 1;
        if is_active {
            let _writing = log.writing().await;
            log.roll().await?;
        }
        let commit = {
            let mut state = log.state.borrow_mut();
            let first_end = state.segments[1].base_offset;
            if first_end > state.log_start {
                match log.advance_log_start(&mut state, first_end) {
                    Ok(commit) => Some(commit),
                    // The journal is full or closed: the next run tries again.
                    Err(StorageError::Journal(_)) => return Ok(false),
                    Err(error) => return Err(error),
                }
            } else {
                None
            }
        };
        if let Some(commit) = commit {
            self.durable(commit).await?;
        }
        let segment = {
            let state = &mut *log.state.borrow_mut();
            let segment = state.segments.remove(0);
            state.leader_epochs.truncate_front(state.first_batch_offset());
            segment
        };
        tracing::info!(
            partition = %format_args!("{}-{}", log.topic, log.id.partition),
            base_offset = segment.base_offset.0, bytes = segment.size, ?reason, "segment deleted"
        );
        doomed.push(segment);
        Ok(true)
    }
}
