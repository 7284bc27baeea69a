//! Opening a store: checkpoints, segments, journals, in this order, until all that was acknowledged can be served.
//!
//! 1. The checkpoints say up to where each partition is safe in segments. What lies behind that in the files is checked by CRC and taken over as
//!    far as it continues the log.
//! 2. The journal's entries are applied in the order of their commits; what a log has already is skipped, a gap takes the partition offline.
//! 3. What fits into memory stays there, in the journal and dirty, as if it had been appended just now, and the flusher brings it into segments when it
//!    would do that anyway: with thousands of partitions that takes longer than all the rest. If it is too much, or if the journal is damaged or has
//!    become long, everything is flushed and synced here and now.
//! 4. The checkpoints are rewritten, and what is in segments is released from the journal. A crash during recovery begins it anew.
//!
//! The work is bounded by the size of the journal's ring, not by the data.

use crate::{
    cache::{CommitCache, LogIndex},
    disk::{Disk, Surveyed},
    error::StorageError,
    journal::{CommitSeq, EntryKind, Scan, ScannedEntry},
    log::{
        partition::{LogInner, directory_name},
        segment,
        state::{Availability, LogState, PlacedBatch},
        tail::TailBatch,
    },
    store::{
        checkpoint::Checkpoints,
        config::{HighWatermarkMode, RecoveryReport, TopicStatus},
        flusher::flush_log_set,
        partition_dir::{METADATA_FILE, remove_directory},
        recover_log::LogFault,
        shared::Shared,
        together,
        writer::producer_of_view,
    },
    types::{Offset, TopicIdPartition},
};
use ahash::AHashSet;
use bytes::Bytes;
use futures::{StreamExt, stream};
use protocol::records::BatchView;
use std::{collections::BTreeMap, path::PathBuf, rc::Rc};

/// Partitions that are opened at the same time.
const PARTITIONS_AT_ONCE: usize = 64;
/// Directories that are looked into at once.
const DIRECTORIES_AT_ONCE: usize = 512;

/// Opens all logs of the table with what checkpoints and segments hold.
pub(crate) async fn recover_logs<D: Disk>(
    shared: &Rc<Shared<D>>,
    checkpoints: &Checkpoints,
    is_clean: bool,
    report: &mut RecoveryReport,
) -> Result<(), StorageError> {
    let names = match shared.disk.list(&shared.topics_dir()).await {
        Ok(entries) => entries.into_iter().filter(|e| e.is_dir).map(|e| e.name).collect(),
        Err(error) if error.is_not_found() => AHashSet::new(),
        Err(error) => return Err(error.into()),
    };
    let logs: Vec<_> = shared.logs.borrow().iter().flatten().cloned().collect();
    for logs in logs.chunks(DIRECTORIES_AT_ONCE) {
        recover_some(shared, logs, &names, checkpoints, is_clean, report).await?;
    }
    Ok(())
}

async fn recover_some<D: Disk>(
    shared: &Rc<Shared<D>>,
    logs: &[Rc<LogInner<D>>],
    names: &AHashSet<String>,
    checkpoints: &Checkpoints,
    is_clean: bool,
    report: &mut RecoveryReport,
) -> Result<(), StorageError> {
    let has_directory = |log: &LogInner<D>| names.contains(&directory_name(&log.topic, log.id.partition));
    let directories = logs.iter().filter(|log| has_directory(log)).map(|log| log.directory()).collect();
    let mut found = shared.disk.survey(directories, METADATA_FILE).await?.into_iter();
    let looked_into: Vec<(_, Option<Surveyed>)> =
        logs.iter().map(|log| (log.clone(), if has_directory(log) { found.next() } else { None })).collect();
    let mut opening = stream::iter(looked_into)
        .map(|(log, directory)| async move {
            let checkpoint = checkpoints.partitions.get(&log.id);
            let outcome = log.recover(checkpoint, directory, is_clean).await;
            shared.files.remove_log(log.index);
            (log, checkpoint, outcome)
        })
        .buffer_unordered(PARTITIONS_AT_ONCE);
    let mut unsynced = Vec::new();
    while let Some((log, checkpoint, outcome)) = opening.next().await {
        match outcome {
            Ok(bytes) => {
                report.scanned_bytes += bytes;
                if log.has_unsynced_findings() {
                    unsynced.push(log);
                }
            }
            Err(LogFault::Storage(error)) => return Err(error),
            Err(LogFault::Damaged(why)) => {
                log.state.borrow_mut().last_checkpoint = checkpoint.map(|c| Box::new(c.clone()));
                log.take_offline(why);
            }
        }
    }
    together::sync_recovered(shared, &unsynced).await
}

/// Applies journals to the logs of a store that is being opened.
pub(crate) struct Replay<'a, D: Disk> {
    shared: &'a Rc<Shared<D>>,
    report: &'a mut RecoveryReport,
    /// The commit that is being applied. Several journals count alike.
    sequence: u64,
    /// Its number in its own journal.
    commit: u64,
    /// Everything up to this one is in synced segments, if there was reason to bring it there.
    flushed: Option<u64>,
    unflushed_bytes: u64,
    /// A journal has lost commits.
    is_damaged: bool,
    /// Logs whose journal entries cannot be used any more, and why.
    faults: BTreeMap<LogIndex, String>,
    /// What the journal holds of logs that cannot take it.
    salvage: BTreeMap<LogIndex, Vec<(Offset, Bytes)>>,
}

impl<'a, D: Disk> Replay<'a, D> {
    pub fn new(shared: &'a Rc<Shared<D>>, report: &'a mut RecoveryReport) -> Self {
        let (faults, salvage) = Default::default();
        Self {
            shared,
            report,
            sequence: 0,
            commit: 0,
            flushed: None,
            unflushed_bytes: 0,
            is_damaged: false,
            faults,
            salvage,
        }
    }

    /// Applies all of one journal.
    pub async fn apply(&mut self, scan: &mut Scan<D>) -> Result<(), StorageError> {
        while let Some(commit) = scan.next().await? {
            self.commit = commit.seq.0;
            self.sequence = if self.report.is_migrating { self.sequence + 1 } else { commit.seq.0 };
            for entry in commit.entries {
                self.apply_entry(entry).await?;
            }
            // A copy: a slice would keep a larger piece of the file in memory.
            let data = Bytes::copy_from_slice(&commit.bytes);
            self.unflushed_bytes += data.len() as u64;
            let size = data.len();
            self.shared.cache.borrow_mut().freeze(self.sequence, data, size);
            // As much as a live broker pins before it keeps producers waiting, and some distance to that.
            if self.unflushed_bytes >= self.shared.config.cache_bytes as u64 / 2 {
                self.flush().await?;
            }
        }
        self.is_damaged |= !scan.damage().is_empty();
        for damage in scan.damage() {
            let why = format!("commits {:?} of {} are damaged", damage.commits, damage.path.display());
            if damage.partitions.is_empty() || !damage.is_complete {
                tracing::error!("{why}; other partitions than {:?} may be hit", damage.partitions);
            }
            for id in &damage.partitions {
                if let Some(log) = self.shared.log_by_id(id) {
                    self.faults.entry(log.index).or_insert_with(|| why.clone());
                }
            }
        }
        Ok(())
    }

    /// Takes the logs with faults offline, and brings the rest into segments if it cannot wait. Answers up to which commit all is there; all of it if
    /// none.
    pub async fn finish(mut self) -> Result<Option<CommitSeq>, StorageError> {
        let waits = self.may_wait();
        if !waits {
            self.flush().await?;
        }
        for (index, batches) in std::mem::take(&mut self.salvage) {
            if let Some(log) = self.shared.log(index) {
                write_salvage(&log, batches).await?;
            }
        }
        for (index, why) in std::mem::take(&mut self.faults) {
            if let Some(log) = self.shared.log(index) {
                log.take_offline(why);
            }
        }
        let logs: Vec<_> = self.shared.logs.borrow().iter().flatten().cloned().collect();
        for log in logs {
            // Of a log that has gone offline everything is kept as it was found.
            if matches!(log.state.borrow().availability, Availability::Online) {
                log.trim_findings().await?;
            }
            log.state.borrow_mut().findings = None;
        }
        for log in self.shared.logs.borrow().iter().flatten() {
            let state = &mut *log.state.borrow_mut();
            if !waits {
                state.tail.evict_through(u64::MAX);
                state.last_commit = 0;
                state.is_dirty = false;
            }
            state.durable_end = state.log_end;
            state.high_watermark = match state.high_watermark_mode {
                HighWatermarkMode::FollowsDurableEnd => state.log_end,
                HighWatermarkMode::Replicated => state.high_watermark.clamp(state.log_start, state.log_end),
            };
            state.committed_end = state.high_watermark;
            if self.report.is_migrating {
                // All is in segments, and the new journal counts anew.
                state.journal_from = 0;
            }
        }
        if waits {
            self.shared.dirty_since_ms.set(Some(self.shared.now_ms.get()));
            return Ok(Some(CommitSeq(self.flushed.unwrap_or(0))));
        }
        self.shared.dirty.take();
        *self.shared.cache.borrow_mut() = CommitCache::default();
        Ok(None)
    }

    /// Whether what was replayed may stay in memory and in the journal.
    fn may_wait(&self) -> bool {
        let journal = &self.shared.config.journal;
        // Every start takes a new file: a broker that is killed again and again must not let the ring grow for ever.
        let is_short = self.shared.journal.pressure().used_files <= journal.max_files / 2;
        let is_sound = !self.is_damaged && self.faults.is_empty() && self.salvage.is_empty();
        is_short && is_sound && !self.report.is_migrating && !self.shared.dirty.borrow().is_empty()
    }

    async fn flush(&mut self) -> Result<(), StorageError> {
        let dirty = self.shared.dirty.take();
        flush_log_set(self.shared, &dirty, self.sequence).await?;
        for log in dirty.iter().filter_map(|index| self.shared.log(*index)) {
            let mut state = log.state.borrow_mut();
            state.is_dirty = false;
            state.tail.evict_through(self.sequence);
        }
        let mut cache = self.shared.cache.borrow_mut();
        cache.release(self.sequence);
        cache.evict(0);
        self.unflushed_bytes = 0;
        self.flushed = Some(self.sequence);
        Ok(())
    }

    async fn apply_entry(&mut self, entry: ScannedEntry) -> Result<(), StorageError> {
        let header = entry.header;
        let Some(log) = self.shared.log_by_id(&header.partition) else {
            return self.apply_unwanted(&header.partition);
        };
        if self.commit <= log.state.borrow().journal_from {
            return Ok(());
        }
        let is_offline = matches!(log.state.borrow().availability, Availability::Offline(_));
        match header.kind {
            EntryKind::Batch | EntryKind::BatchAfterGap
                if is_offline || self.faults.contains_key(&log.index) =>
            {
                self.salvage.entry(log.index).or_default().push((header.base_offset, entry.payload));
            }
            EntryKind::Batch | EntryKind::BatchAfterGap => self.apply_batch(&log, entry),
            EntryKind::BatchInSegment => self.check_in_segment(&log, &entry),
            _ if is_offline => {}
            EntryKind::LogStartOffset => {
                let mut state = log.state.borrow_mut();
                state.log_start = state.log_start.max(header.base_offset.min(state.log_end));
                self.shared.note_touched(log.index, &mut state, CommitSeq(self.sequence));
            }
            EntryKind::HighWatermark => {
                let mut state = log.state.borrow_mut();
                state.high_watermark = state.high_watermark.max(header.base_offset.min(state.log_end));
            }
            EntryKind::PartitionDeleted => self.reset(&log).await?,
            EntryKind::Truncate => {
                let why = format!(
                    "the journal truncates it to {}, which this version does not do",
                    header.base_offset
                );
                self.faults.entry(log.index).or_insert(why);
            }
        }
        Ok(())
    }

    fn apply_batch(&mut self, log: &Rc<LogInner<D>>, entry: ScannedEntry) {
        let header = entry.header;
        let mut state = log.state.borrow_mut();
        if header.last_offset < state.log_end {
            return;
        }
        let may_jump = header.kind == EntryKind::BatchAfterGap;
        if header.base_offset < state.log_end || header.base_offset > state.log_end && !may_jump {
            let why = format!(
                "the journal goes on at offset {}, but the log ends at {}",
                header.base_offset, state.log_end
            );
            self.faults.insert(log.index, why);
            self.salvage.entry(log.index).or_default().push((header.base_offset, entry.payload));
            return;
        }
        let Ok(batch) = BatchView::parse(&entry.payload) else {
            self.faults.insert(log.index, format!("the journal's batch at {} is none", header.base_offset));
            return;
        };
        let placed = PlacedBatch {
            tail: TailBatch {
                base_offset: header.base_offset,
                commit: self.sequence,
                max_timestamp: batch.max_timestamp(),
                last_offset_delta: (header.last_offset - header.base_offset) as u32,
                at: entry.location.start,
                size: entry.location.len,
            },
            leader_epoch: header.leader_epoch,
            producer: producer_of_view(&batch),
        };
        state.note_appended(&placed);
        self.shared.note_touched(log.index, &mut state, CommitSeq(self.sequence));
        self.report.replayed_batches += 1;
        self.report.replayed_bytes += entry.payload.len() as u64;
    }

    /// The segment was durable before the journal named the batch: if it lacks it, that is damage.
    fn check_in_segment(&mut self, log: &Rc<LogInner<D>>, entry: &ScannedEntry) {
        let (header, state) = (&entry.header, log.state.borrow());
        let found = state.findings.as_ref().and_then(|findings| findings.large.get(&header.base_offset));
        let is_there = match found {
            Some(summary) => entry.payload == summary.as_slice(),
            // The segments were checked from the checkpoint on; what is below it need not be.
            None => header.last_offset < state.log_end,
        };
        if !is_there {
            self.faults.entry(log.index).or_insert_with(|| {
                format!(
                    "the acknowledged batch of offsets {} to {} is not in its segment, whose sound part ends at {}",
                    header.base_offset, header.last_offset, state.log_end
                )
            });
        }
    }

    /// An entry of a partition that is not ours.
    fn apply_unwanted(&mut self, id: &TopicIdPartition) -> Result<(), StorageError> {
        match (self.shared.config.topic_status)(id.topic_id) {
            TopicStatus::Gone => self.report.dropped_entries += 1,
            // After a change of the number of shards every shard reads all journals.
            TopicStatus::Live | TopicStatus::Unknown if self.report.is_migrating => {}
            // The metadata has given it to others while this broker was down.
            TopicStatus::Live => {
                self.report.dropped_entries += 1;
                self.shared.moved.borrow_mut().insert(*id);
            }
            TopicStatus::Unknown => {
                return Err(StorageError::UnknownPartition { id: *id });
            }
        }
        Ok(())
    }

    /// The partition was deleted here and is wanted again: it begins anew.
    async fn reset(&mut self, log: &Rc<LogInner<D>>) -> Result<(), StorageError> {
        self.shared.files.remove_log(log.index);
        remove_directory(&self.shared.disk, &log.directory(), log.id.topic_id).await?;
        let mut state = log.state.borrow_mut();
        let (is_dirty, last_commit) = (state.is_dirty, state.last_commit);
        let high_watermark_mode = state.high_watermark_mode;
        *state =
            LogState { is_dirty, last_commit, high_watermark_mode, ..LogState::new(state.config.clone()) };
        // What its former life lacks is of no interest.
        self.faults.remove(&log.index);
        self.salvage.remove(&log.index);
        Ok(())
    }
}

/// Keeps what the journal holds of a damaged partition beside its segments: the journal's files will be used again.
async fn write_salvage<D: Disk>(
    log: &LogInner<D>,
    batches: Vec<(Offset, Bytes)>,
) -> Result<(), StorageError> {
    let Some((first, _)) = batches.first() else { return Ok(()) };
    let disk = &log.shared.disk;
    disk.create_dir_all(&log.directory()).await?;
    let path: PathBuf = log.directory().join(segment::file_name(*first, "salvaged"));
    let bytes: Vec<u8> = batches.iter().flat_map(|(_, b)| b.iter().copied()).collect();
    super::partition_dir::write_file(disk, &path, &bytes).await
}

/// Everything up to `last` is durable, and up to `flushed` in synced segments.
pub(crate) fn release<D: Disk>(shared: &Shared<D>, last: CommitSeq, flushed: CommitSeq) {
    shared.journal.release(flushed);
    shared.frozen_commit.set(last.0);
    shared.durable.set(last.0);
    shared.released.set(flushed.0);
}
