//! What replication does with a log: a follower takes a leader's batches as they are, and both are told how far everything is committed.

use crate::{
    disk::Disk,
    journal::{CommitSeq, EntryHeader, EntryKind},
    log::{
        error::{AppendError, ReadError},
        leader_epoch::EpochEntry,
        partition::{BatchContent, PartitionLog},
    },
    store::{HighWatermarkMode, writer::producer_of_view},
    types::{LeaderEpoch, Offset},
};
use protocol::records::CheckedBatch;

/// Where a leader's batch lies in a follower's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaAppend {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset after its last record.
    pub end_offset: Offset,
    /// The batch is durable when this commit is.
    pub commit: CommitSeq,
}

impl<D: Disk> PartitionLog<D> {
    /// Appends one batch of a leader, byte for byte, at the offset and under the epoch that stand in it. It may begin behind the log's end: what is
    /// missing, compaction has taken from the leader's log.
    ///
    /// # Errors
    /// [`AppendError::Unfit`] for what does not continue the log; see [`AppendError`]. Nothing has been appended then.
    pub fn append_replica(
        &self,
        batch: &CheckedBatch<'_>,
        now_ms: i64,
    ) -> Result<ReplicaAppend, AppendError> {
        let shared = &self.inner.shared;
        let mut state = self.inner.state.borrow_mut();
        state.check_appendable()?;
        let base_offset = Offset(batch.base_offset());
        let (last_offset, leader_epoch) = (Offset(batch.last_offset()), LeaderEpoch(batch.leader_epoch()));
        if base_offset < state.log_end || last_offset < base_offset {
            return Err(AppendError::Unfit("its offsets do not continue the log"));
        }
        if leader_epoch.0 < 0 || state.leader_epochs.latest().is_some_and(|latest| leader_epoch < latest) {
            return Err(AppendError::Unfit("its leader epoch is older than the log's"));
        }
        shared.check_writable()?;

        let kind = match base_offset == state.log_end {
            true => EntryKind::Batch,
            false => EntryKind::BatchAfterGap,
        };
        let entry = EntryHeader { kind, partition: self.id(), base_offset, last_offset, leader_epoch };
        let content = BatchContent {
            bytes: batch.bytes(),
            record_count: batch.record_count().into(),
            max_timestamp: batch.max_timestamp(),
            producer: producer_of_view(batch),
        };
        let commit = self.inner.place(&mut state, &entry, content, now_ms, |_| {})?;
        Ok(ReplicaAppend { base_offset, end_offset: last_offset.next(), commit })
    }

    /// Up to where the log can be read at present: its end, but for what gathers in a commit that has yet to begin.
    pub fn readable_end(&self) -> Offset {
        let state = self.inner.state.borrow();
        let frozen = self.inner.shared.frozen_commit.get();
        match (state.tail.end_of_commit(frozen), state.tail.first_offset()) {
            (Some(end), _) => end,
            (None, Some(_)) => state.written_end,
            (None, None) => state.log_end,
        }
    }

    /// Whether what lies at `offset` is read from memory.
    pub fn is_in_memory(&self, offset: Offset) -> bool {
        self.inner.state.borrow().is_in_memory(offset)
    }

    /// Whether replication says what is committed.
    pub fn is_replicated(&self) -> bool {
        self.inner.state.borrow().high_watermark_mode == HighWatermarkMode::Replicated
    }

    /// Takes the log out of service: what it holds contradicts what its leader says.
    pub fn take_offline(&self, why: &str) {
        self.inner.take_offline(why);
    }

    /// Who moves the high watermark from now on.
    pub fn set_high_watermark_mode(&self, mode: HighWatermarkMode) {
        let mut state = self.inner.state.borrow_mut();
        state.high_watermark_mode = mode;
        if mode == HighWatermarkMode::FollowsDurableEnd {
            let durable_end = state.durable_end;
            state.advance_high_watermark(durable_end);
        }
    }

    /// Moves the log start forward to what a leader says, as far as the log reaches. Not durable before some later commit is: a crash may bring back
    /// what the leader will say again.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn advance_log_start(&self, to: Offset) -> Result<(), ReadError> {
        let mut state = self.inner.state.borrow_mut();
        state.check_available()?;
        let to = to.min(state.log_end);
        if to > state.log_start {
            self.inner.advance_log_start(&mut state, to)?;
            state.high_watermark = state.high_watermark.max(to.min(state.durable_end));
        }
        Ok(())
    }

    /// Where the first batch begins that the log still has, or would begin: at or before the log start offset, which may lie amid a batch.
    pub fn first_batch_offset(&self) -> Offset {
        self.inner.state.borrow().first_batch_offset()
    }

    /// Where each leader epoch of the log began.
    pub fn leader_epochs(&self) -> Vec<EpochEntry> {
        self.inner.state.borrow().leader_epochs.entries().to_vec()
    }
}
