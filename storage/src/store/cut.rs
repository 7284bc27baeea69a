//! A follower's log gives up its end, or all of it, because its leader has something else there (KIP-101).
//!
//! What is to stay is brought into segments first. Then a checkpoint says where the log ends now: from that moment on the rest is gone, although it still
//! lies in segment files and in the journal. The checkpoint says that files are to be cut there, so that a start does it if the machine was faster; and up to
//! which commit the journal has nothing to add, so that nothing comes back from there. When the files are cut, a second checkpoint takes the first remark
//! back, and only then anything is appended again. This happens after elections and costs some syncs.

use crate::{
    disk::{Disk, DiskFile},
    error::StorageError,
    log::{
        error::ReadError,
        index::SegmentIndex,
        leader_epoch::LeaderEpochCache,
        partition::LogInner,
        producer_state::{ProducerBatch, ProducerStates},
        scan::{ScanEnd, scan_batches},
        segment::SegmentMeta,
    },
    store::{
        ShardStore,
        checkpoint::{PartitionCheckpoint, RecordBuilder},
        partition_dir::{remove_index, remove_segment},
        recover_log::LogFault,
        writer::producer_of_view,
    },
    types::{Offset, ProducerId, TopicIdPartition},
};
use std::{ops::ControlFlow, rc::Rc};

/// Where a log is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NewEnd {
    /// What lies behind this offset goes.
    At(Offset),
    /// Everything goes, and the log goes on here.
    RestartAt(Offset),
}

/// What is left of a log.
struct Cut {
    end: Offset,
    log_start: Offset,
    segments: Vec<SegmentMeta>,
    /// Whether the last of them is shorter than it was.
    is_last_cut: bool,
    epochs: LeaderEpochCache,
    producers: ProducerStates,
}

/// While this lives nothing is appended to the log, and nobody opens its segments.
struct Cutting<'a, D: Disk>(&'a LogInner<D>);

impl<'a, D: Disk> Cutting<'a, D> {
    fn begin(log: &'a LogInner<D>) -> Self {
        log.state.borrow_mut().is_being_cut = true;
        Self(log)
    }
}

impl<D: Disk> Drop for Cutting<'_, D> {
    fn drop(&mut self) {
        let mut state = self.0.state.borrow_mut();
        state.is_being_cut = false;
        state.is_swapping = false;
        drop(state);
        self.0.shared.swapped.notify_all();
    }
}

impl<D: Disk> ShardStore<D> {
    /// Cuts off what a log holds from `to` on, which must be where a batch begins or the log ends. Durable when it returns: no crash brings anything
    /// back. Producers and epochs are what they were then; the high watermark is not beyond the end. Appends are refused meanwhile.
    ///
    /// # Errors
    /// The partition is not here or offline, `to` is not within the log or lies amid a batch, or the disk fails.
    pub async fn truncate_to(&self, id: &TopicIdPartition, to: Offset) -> Result<(), ReadError> {
        self.cut(id, NewEnd::At(to)).await
    }

    /// Drops all that a log holds and lets it go on at `at`: the leader has nothing older. Durable when it returns.
    ///
    /// # Errors
    /// As [`truncate_to`](Self::truncate_to).
    pub async fn restart_at(&self, id: &TopicIdPartition, at: Offset) -> Result<(), ReadError> {
        self.cut(id, NewEnd::RestartAt(at)).await
    }

    async fn cut(&self, id: &TopicIdPartition, new_end: NewEnd) -> Result<(), ReadError> {
        let shared = &self.shared;
        let log = shared.log_by_id(id).ok_or(ReadError::Deleted)?;
        {
            let state = log.state.borrow();
            state.check_available()?;
            if let NewEnd::At(to) = new_end {
                state.check_held(to)?;
                if to == state.log_end {
                    return Ok(());
                }
            }
        }
        let cutting = Cutting::begin(&log);
        let _lock = loop {
            let last_commit = log.state.borrow().last_commit;
            shared
                .journal
                .durable(crate::journal::CommitSeq(last_commit))
                .await
                .map_err(StorageError::from)?;
            let lock = shared.maintenance.lock().await;
            shared.check_healthy()?;
            log.flush(u64::MAX).await.inspect_err(|error| shared.note_flush_error(error))?;
            // The log start may have moved meanwhile.
            if log.state.borrow().last_commit <= shared.durable.get() {
                break lock;
            }
        };
        if shared.switches.closing.get() {
            return Err(StorageError::Closing.into());
        }
        let _writing = log.writing().await;
        log.state.borrow().check_available()?;
        assert!(!log.state.borrow().has_pending_direct(), "large batches are written before their commits");
        let cut = match new_end {
            NewEnd::At(to) => log.plan_cut(to).await?,
            NewEnd::RestartAt(at) => Cut {
                end: at,
                log_start: at,
                segments: Vec::new(),
                is_last_cut: false,
                epochs: LeaderEpochCache::default(),
                producers: ProducerStates::default(),
            },
        };
        let done = match self.announce(&log, &cut).await {
            Ok(checkpoint) => self.carry_out(&log, cut, checkpoint).await,
            // Nothing has happened.
            Err(error) if error.is_out_of_space() => return Err(error.into()),
            Err(error) => Err(error),
        };
        if let Err(error) = &done {
            // What is on disk is not what is in memory; a start makes it so.
            log.take_offline(format!("its end could not be cut off: {error}"));
            shared.fail(error);
        }
        drop(cutting);
        Ok(done?)
    }

    /// From the moment on that this returns the log ends there, whatever lies in its files.
    async fn announce(&self, log: &Rc<LogInner<D>>, cut: &Cut) -> Result<PartitionCheckpoint, StorageError> {
        let checkpoint = {
            let mut state = log.state.borrow_mut();
            assert_eq!(state.written_end, state.log_end, "everything is in segments");
            state.is_swapping = true;
            state.journal_from = self.shared.durable.get();
            let checkpoint = PartitionCheckpoint {
                log_start: cut.log_start,
                flushed_end: cut.end,
                high_watermark: state.high_watermark.clamp(cut.log_start, cut.end),
                clean_end: state.clean_end.min(cut.end),
                active: cut.segments.last().copied(),
                epochs: cut.epochs.entries().to_vec(),
                producers: cut.producers.entries().to_vec(),
                journal_from: state.journal_from,
                is_cut: true,
            };
            // Should this fail halfway, that is what is known of the log.
            state.last_checkpoint = Some(Box::new(checkpoint.clone()));
            checkpoint
        };
        let announced = self.append_checkpoint(log, &checkpoint).await;
        if announced.as_ref().is_err_and(StorageError::is_out_of_space) {
            log.state.borrow_mut().last_checkpoint = None;
        }
        announced.map(|()| checkpoint)
    }

    async fn carry_out(
        &self,
        log: &Rc<LogInner<D>>,
        cut: Cut,
        checkpoint: PartitionCheckpoint,
    ) -> Result<(), StorageError> {
        let shared = &self.shared;
        let before = log.state.borrow().segments.clone();
        shared.files.remove_log(log.index);
        shared.read_ahead.borrow_mut().forget(log.index);
        let kept = cut.segments.len();
        for segment in before[kept..].iter().rev() {
            remove_segment(&shared.disk, &log.directory(), segment.base_offset).await?;
        }
        if let Some(active) = cut.segments.last().filter(|_| cut.is_last_cut) {
            log.shorten(active).await?;
        }
        if log.state.borrow().has_directory {
            shared.disk.sync_dir(&log.directory()).await?;
        }
        tracing::info!(
            partition = %format_args!("{}-{}", log.topic, log.id.partition),
            from = log.state.borrow().log_end.0, to = cut.end.0, log_start = cut.log_start.0, "log cut"
        );
        // The names are gone by now: what was opened beforehand, or meanwhile, does not stay either.
        shared.files.remove_log(log.index);
        log.take_over(cut);
        self.append_checkpoint(log, &PartitionCheckpoint { is_cut: false, ..checkpoint }).await?;
        log.state.borrow_mut().last_checkpoint = None;
        Ok(())
    }

    async fn append_checkpoint(
        &self,
        log: &LogInner<D>,
        checkpoint: &PartitionCheckpoint,
    ) -> Result<(), StorageError> {
        let mut record = RecordBuilder::new();
        record.put(&log.id, checkpoint);
        self.checkpoints.append_only(record).await
    }
}

impl<D: Disk> LogInner<D> {
    /// What is left when the log ends at `to`.
    async fn plan_cut(&self, to: Offset) -> Result<Cut, ReadError> {
        let (mut segments, log_start, mut epochs, mut producers) = {
            let state = self.state.borrow();
            (state.segments.clone(), state.log_start, state.leader_epochs.clone(), state.producers.clone())
        };
        let active = segments.last().map(|active| active.base_offset);
        while segments.last().is_some_and(|segment| segment.base_offset >= to) {
            segments.pop();
        }
        let mut is_last_cut = false;
        if let Some(&last) = segments.last() {
            let size = self.position_of(&last, active == Some(last.base_offset), to).await?;
            is_last_cut = size < last.size;
            let last = segments.last_mut().expect("looked at above");
            // A segment that compaction has made is the active one now, which is known by its first revision.
            *last = SegmentMeta { size, max_timestamp: None, revision: 0, ..*last };
        }
        epochs.truncate_back(to);
        let unknown = producers.truncate(to);
        if !unknown.is_empty() {
            for batch in self.batches_of(&unknown, &segments).await? {
                producers.apply(&batch);
            }
        }
        Ok(Cut { end: to, log_start: log_start.min(to), segments, is_last_cut, epochs, producers })
    }

    /// Where in a segment the batch begins whose first offset is `to`, or the one behind the gap that `to` lies in.
    async fn position_of(
        &self,
        segment: &SegmentMeta,
        is_active: bool,
        to: Offset,
    ) -> Result<u64, ReadError> {
        let floor =
            self.with_index(segment, is_active, |i| i.position_floor(segment.base_offset, to)).await?;
        let file = self.open_segment(segment).await?;
        for from in [floor, 0] {
            let mut is_amid = false;
            let scanned = scan_batches(&*file, from, segment.size, |_, batch| {
                if batch.last_offset() < to.0 {
                    return ControlFlow::Continue(());
                }
                is_amid = batch.base_offset() < to.0;
                ControlFlow::Break(())
            })
            .await?;
            match scanned.end {
                ScanEnd::Stopped if is_amid => {
                    let what = format!("offset {to} lies amid a batch, the log cannot end there");
                    return Err(self.damaged(segment, scanned.position, &what).into());
                }
                ScanEnd::Stopped | ScanEnd::Complete => return Ok(scanned.position),
                // The index is wrong: from the start.
                ScanEnd::NotABatch(_) => {}
            }
        }
        Err(self.damaged(segment, 0, "not a record batch").into())
    }

    /// The batches that these segments hold of some producers.
    async fn batches_of(
        &self,
        producers: &[ProducerId],
        segments: &[SegmentMeta],
    ) -> Result<Vec<ProducerBatch>, ReadError> {
        let mut found = Vec::new();
        for segment in segments {
            let file = self.open_segment(segment).await?;
            scan_batches(&*file, 0, segment.size, |_, batch| {
                found.extend(producer_of_view(batch).filter(|b| producers.contains(&b.producer_id)));
                ControlFlow::Continue(())
            })
            .await?;
        }
        Ok(found)
    }

    fn take_over(&self, cut: Cut) {
        let state = &mut *self.state.borrow_mut();
        state.log_start = cut.log_start;
        state.log_end = cut.end;
        state.written_end = cut.end;
        state.durable_end = cut.end;
        state.high_watermark = state.high_watermark.clamp(cut.log_start, cut.end);
        state.committed_end = state.high_watermark;
        state.clean_end = state.clean_end.min(cut.end);
        let active_bytes = cut.segments.last().map_or(0, |active| active.size);
        state.segments = cut.segments;
        state.active_index = SegmentIndex::starting_at(active_bytes);
        state.preallocated = active_bytes;
        state.leader_epochs = cut.epochs;
        state.producers = cut.producers;
        state.written_producers = None;
        state.tail.evict_through(u64::MAX);
        state.unwritten_bytes = 0;
        if let Some(direct) = &mut state.direct {
            direct.end = None;
        }
        state.swaps += 1;
        state.cuts += 1;
        state.waiters.wake_all();
    }

    /// Cuts a segment's file, which becomes the active one. Its index files say too much.
    async fn shorten(&self, active: &SegmentMeta) -> Result<(), StorageError> {
        remove_index(&self.shared.disk, &self.directory(), active.base_offset).await?;
        let file = self.segment_for_writing(active.base_offset).await?;
        file.truncate(active.size).await?;
        Ok(file.sync_data().await?)
    }

    /// At a start: brings to an end what a checkpoint says was begun. `segments` are the files that were found.
    pub(super) async fn cut_files(
        &self,
        segments: &mut Vec<SegmentMeta>,
        active: Option<&SegmentMeta>,
    ) -> Result<(), LogFault> {
        if segments.is_empty() {
            return Ok(());
        }
        while let Some(segment) = segments.pop_if(|s| active.is_none_or(|a| s.base_offset > a.base_offset)) {
            remove_segment(&self.shared.disk, &self.directory(), segment.base_offset).await?;
        }
        if let (Some(found), Some(active)) = (segments.last_mut(), active)
            && found.base_offset == active.base_offset
            && found.size > active.size
        {
            self.shorten(active).await?;
            found.size = active.size;
        }
        Ok(self.shared.disk.sync_dir(&self.directory()).await?)
    }
}
