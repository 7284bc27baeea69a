//! Opening one partition: what its directory holds, compared with the checkpoint, and completed by a CRC check of what lies behind it.

use crate::{
    cleaner::swap,
    disk::{BLOCK, Disk, DiskFile, Surveyed},
    error::StorageError,
    journal::batch_summary,
    log::{
        index::SegmentIndex,
        leader_epoch::LeaderEpochCache,
        partition::LogInner,
        producer_state::ProducerStates,
        scan::{ScanEnd, scan_batches},
        segment::{SegmentMeta, parse_file_name},
        state::LogState,
    },
    store::{
        checkpoint::PartitionCheckpoint,
        config::TopicStatus,
        partition_dir::{METADATA_FILE, metadata_in, remove_directory},
        writer::producer_of_view,
    },
    types::{LeaderEpoch, Offset},
};
use protocol::{records::BatchView, uuid_text};
use std::{collections::BTreeMap, ops::ControlFlow};

/// What the recovery of a log's segments has found behind the checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Batches that the journal may name instead of holding them, by base offset.
    pub large: BTreeMap<Offset, [u8; 8]>,
    /// The active segment's file goes on behind the last batch with something else.
    is_untrimmed: bool,
    /// Segments that do not continue the log.
    strays: Vec<Offset>,
    /// Segments of which something was taken over that may never have been synced: the broker was killed, and the machine went on.
    unsynced: Vec<Offset>,
}

/// Smaller batches are never named in the journal without being held there. Bytes.
const LARGE_FROM_BYTES: usize = 4096;

/// Why a partition cannot be opened.
pub(crate) enum LogFault {
    /// Its data is damaged: it goes offline, the others work.
    Damaged(String),
    /// The disk fails: nothing works.
    Storage(StorageError),
}

impl<E: Into<StorageError>> From<E> for LogFault {
    fn from(error: E) -> Self {
        Self::Storage(error.into())
    }
}

impl<D: Disk> LogInner<D> {
    /// Brings the log to what its segments hold, of which `directory` tells the files, if there is one. Answers how many bytes had to be checked.
    pub(crate) async fn recover(
        &self,
        checkpoint: Option<&PartitionCheckpoint>,
        directory: Option<Surveyed>,
        is_clean: bool,
    ) -> Result<u64, LogFault> {
        let mut segments = match directory {
            Some(found) => self.list_segments(found).await?,
            None => Vec::new(),
        };
        let is_trusted = checkpoint.is_some();
        if let Some(checkpoint) = checkpoint.filter(|c| c.is_cut) {
            self.cut_files(&mut segments, checkpoint.active.as_ref()).await?;
        }
        let from = {
            let mut state = self.state.borrow_mut();
            if let Some(checkpoint) = checkpoint {
                state.restore(checkpoint);
            }
            match checkpoint.and_then(|c| c.active) {
                Some(active) => {
                    let at = segments.iter().position(|s| s.base_offset == active.base_offset);
                    let Some(at) = at else {
                        let name = self.segment_file(active.base_offset, "log");
                        return Err(LogFault::Damaged(format!("{} is missing", name.display())));
                    };
                    if segments[at].size < active.size {
                        return Err(LogFault::Damaged(format!(
                            "{} has {} bytes, {} were flushed",
                            self.segment_file(active.base_offset, "log").display(),
                            segments[at].size,
                            active.size
                        )));
                    }
                    state.segments = segments.drain(..at).collect();
                    state.segments.push(active);
                    state.active_index = SegmentIndex::starting_at(active.size);
                    Some(segments.remove(0))
                }
                None => None,
            }
        };
        let mut scanned_bytes = 0;
        // Less than a block is the padding of the last write. Should it hold batches, the journal has them too: it only names what is larger.
        let unscanned = (BLOCK as u64).min(self.shared.config.direct_from_bytes as u64);
        // A later segment continues the log only behind all of this one.
        let unscanned = if segments.is_empty() { unscanned } else { 1 };
        let has_more = |active: &SegmentMeta| active.size - self.active_bytes() >= unscanned;
        if let Some(active) = from.filter(|active| !is_clean && has_more(active)) {
            let bytes = self.extend_from(active.size, true).await?.0;
            if bytes > 0 {
                self.state.borrow_mut().findings.get_or_insert_default().unsynced.push(active.base_offset);
            }
            scanned_bytes += bytes;
        }
        // Segments that no checkpoint knows of: written after the last one, or all if there is none.
        let mut is_complete = true;
        for segment in segments {
            let is_next = {
                let state = self.state.borrow();
                match is_trusted {
                    true => segment.base_offset == state.written_end,
                    false => is_complete && segment.base_offset >= state.written_end,
                }
            };
            if !is_next {
                if is_trusted || segment.size == 0 {
                    // All that it may hold is in the journal as well, which is released only behind a checkpoint, or named there, and then it is missed.
                    let mut state = self.state.borrow_mut();
                    state.findings.get_or_insert_default().strays.push(segment.base_offset);
                    continue;
                }
                let name = self.segment_file(segment.base_offset, "log");
                return Err(LogFault::Damaged(format!(
                    "{} does not follow the one before it",
                    name.display()
                )));
            }
            {
                let mut state = self.state.borrow_mut();
                if state.segments.is_empty() && !is_trusted {
                    state.log_start = segment.base_offset;
                }
                state.written_end = state.written_end.max(segment.base_offset);
                state.log_end = state.written_end;
                state.push_segment();
                let last = state.segments.last_mut().expect("just pushed");
                last.base_offset = segment.base_offset;
                state.findings.get_or_insert_default().unsynced.push(segment.base_offset);
            }
            let (bytes, complete) = self.extend_from(segment.size, is_trusted).await?;
            scanned_bytes += bytes;
            is_complete = complete;
        }
        let mut state = self.state.borrow_mut();
        if let Some(first) = state.segments.first().map(|s| s.base_offset) {
            state.log_start = state.log_start.max(first);
        }
        state.log_end = state.written_end;
        assert!(state.log_start <= state.log_end, "a checkpoint's log start is not behind its end");
        state.durable_end = state.log_end;
        Ok(scanned_bytes)
    }

    /// The segment files of the directory with their sizes, in order. Takes a directory of a deleted topic out of the way.
    async fn list_segments(&self, found: Surveyed) -> Result<Vec<SegmentMeta>, LogFault> {
        let disk = &self.shared.disk;
        let directory = self.directory();
        match found.content.map(|bytes| metadata_in(&directory, &bytes)).transpose()? {
            Some(id) if id == self.id.topic_id => {}
            Some(other) if (self.shared.config.topic_status)(other) == TopicStatus::Gone => {
                remove_directory(disk, &directory, other).await?;
                return Ok(Vec::new());
            }
            Some(other) => {
                let what = format!("{} belongs to topic id {}", directory.display(), uuid_text(other));
                return Err(LogFault::Damaged(what));
            }
            None => {
                let mut names = found.files.iter().map(|(name, _)| name);
                if names.any(|name| parse_file_name(name).is_some_and(|(_, suffix)| suffix == "log")) {
                    let what = format!("{} has segments but no partition.metadata", directory.display());
                    return Err(LogFault::Damaged(what));
                }
                return Ok(Vec::new());
            }
        }
        self.state.borrow_mut().has_directory = true;
        let mut files = found.files;
        if swap::recover(disk, &directory, files.iter().map(|(name, _)| name.as_str())).await? {
            files = self.survey().await?.files;
        }
        let mut segments: Vec<_> = files
            .iter()
            .filter_map(|(name, size)| match parse_file_name(name) {
                Some((base_offset, "log")) => {
                    Some(SegmentMeta { size: *size, max_timestamp: None, ..SegmentMeta::new(base_offset) })
                }
                _ => None,
            })
            .collect();
        segments.sort_by_key(|s| s.base_offset);
        Ok(segments)
    }

    /// What is in the log's directory, which exists.
    pub(crate) async fn survey(&self) -> Result<Surveyed, StorageError> {
        let found = self.shared.disk.survey(vec![self.directory()], METADATA_FILE).await?;
        Ok(found.into_iter().next().expect("one directory was asked for"))
    }

    /// How much of the active segment is known. Bytes.
    fn active_bytes(&self) -> u64 {
        self.state.borrow().segments.last().map_or(0, |active| active.size)
    }

    /// Takes over the whole batches that lie behind the active segment's known end, and cuts the file behind them. Answers how many
    /// bytes, and whether that was all of the file.
    ///
    /// `is_dense` says that the batches must continue the log without a gap, as all do that were not compacted.
    async fn extend_from(&self, file_bytes: u64, is_dense: bool) -> Result<(u64, bool), LogFault> {
        let known = *self.state.borrow().segments.last().expect("there is an active segment");
        let file = self.segment_for_writing(known.base_offset).await?;
        let scanned = scan_batches(&*file, known.size, file_bytes, |_, batch| {
            let state = &mut *self.state.borrow_mut();
            let base_offset = Offset(batch.base_offset());
            let follows =
                if is_dense { base_offset == state.written_end } else { base_offset >= state.written_end };
            if !follows || batch.last_offset() < base_offset.0 || batch.check_crc().is_err() {
                return ControlFlow::Break(());
            }
            state.note_recovered(batch);
            if batch.size() >= LARGE_FROM_BYTES.min(self.shared.config.direct_from_bytes) {
                let summary = batch_summary(batch.bytes());
                state.findings.get_or_insert_default().large.insert(base_offset, summary);
            }
            ControlFlow::Continue(())
        })
        .await?;
        let is_complete = scanned.end == ScanEnd::Complete;
        // Less than a block is the padding of the last write; the next one rewrites that block.
        if !is_complete && file_bytes - scanned.position >= BLOCK as u64 {
            self.state.borrow_mut().findings.get_or_insert_default().is_untrimmed = true;
        }
        Ok((scanned.position - known.size, is_complete))
    }
}

impl<D: Disk> LogInner<D> {
    /// Whether [`sync_findings`](Self::sync_findings) has something to do.
    pub(crate) fn has_unsynced_findings(&self) -> bool {
        self.state.borrow().findings.as_ref().is_some_and(|findings| !findings.unsynced.is_empty())
    }

    /// Syncs what recovery has taken over from segments behind the checkpoint: it counts as written, so no flush does it.
    pub(crate) async fn sync_findings(&self) -> Result<(), StorageError> {
        let unsynced = match &mut self.state.borrow_mut().findings {
            Some(findings) => std::mem::take(&mut findings.unsynced),
            None => return Ok(()),
        };
        for &base_offset in &unsynced {
            self.segment_for_writing(base_offset).await?.sync_data().await?;
        }
        if !unsynced.is_empty() {
            self.shared.disk.sync_dir(&self.directory()).await?;
        }
        Ok(())
    }

    /// Takes away what the segments hold besides the log: before anything is written behind it, and not before it is known that nothing
    /// acknowledged is missing.
    pub(crate) async fn trim_findings(&self) -> Result<(), StorageError> {
        let (active, is_untrimmed, strays) = {
            let state = &mut *self.state.borrow_mut();
            let Some(findings) = &mut state.findings else { return Ok(()) };
            let is_untrimmed = std::mem::take(&mut findings.is_untrimmed);
            (state.segments.last().copied(), is_untrimmed, std::mem::take(&mut findings.strays))
        };
        if let Some(active) = active.filter(|_| is_untrimmed) {
            let file = self.segment_for_writing(active.base_offset).await?;
            file.truncate(active.size).await?;
            file.sync_data().await?;
        }
        for stray in strays {
            self.shared.disk.remove(&self.segment_file(stray, "log")).await?;
        }
        Ok(())
    }
}

impl LogState {
    fn restore(&mut self, checkpoint: &PartitionCheckpoint) {
        self.log_start = checkpoint.log_start;
        self.written_end = checkpoint.flushed_end;
        self.log_end = checkpoint.flushed_end;
        self.high_watermark = checkpoint.high_watermark;
        self.clean_end = checkpoint.clean_end;
        self.journal_from = checkpoint.journal_from;
        self.leader_epochs = LeaderEpochCache::from_entries(checkpoint.epochs.iter().copied());
        self.producers = ProducerStates::from_entries(checkpoint.producers.iter().cloned());
    }

    /// A batch that was found in the active segment behind its known end.
    fn note_recovered(&mut self, batch: &BatchView<'_>) {
        let base_offset = Offset(batch.base_offset());
        self.leader_epochs.assign(LeaderEpoch(batch.leader_epoch()), base_offset);
        if let Some(producer) = producer_of_view(batch) {
            self.producers.apply(&producer);
        }
        let interval = self.config.index_interval_bytes;
        let active = self.segments.last_mut().expect("there is an active segment");
        let entry = crate::log::index::IndexedBatch {
            base_offset,
            position: active.size,
            size: batch.size() as u32,
            max_timestamp: batch.max_timestamp(),
        };
        self.active_index.note(active.base_offset, entry, interval);
        active.note(batch.size() as u32, batch.max_timestamp());
        self.written_end = Offset(batch.last_offset()).next();
        self.log_end = self.written_end;
    }
}
