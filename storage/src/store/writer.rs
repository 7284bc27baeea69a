//! Moving one partition's batches from memory into its segment files, in large aligned pieces.

use crate::{
    cache::DirectBuffer,
    disk::{BLOCK, Disk, DiskFile, OpenMode, block_align},
    error::StorageError,
    log::{
        index::SegmentIndex,
        partition::LogInner,
        producer_state::ProducerBatch,
        segment::{self, NextBatch, SegmentMeta},
        state::Availability,
        tail::TailBatch,
    },
    store::shared::add,
    types::{Offset, ProducerId},
    wake::ByteGateGuard,
};
use bytes::Bytes;
use protocol::records::BatchView;
use std::rc::Rc;

/// Size of one write, unless a single batch is larger, or less may be under way. Bytes.
const WRITE_BYTES: usize = 512 << 10;
/// Segments that have reached the first figure are preallocated in steps of the second. Bytes.
const PREALLOCATE_FROM_BYTES: u64 = 4 << 20;
const PREALLOCATE_STEP_BYTES: u64 = 64 << 20;

/// What comes next for a partition.
pub(super) enum Step {
    /// Nothing (more) to write, at present.
    Nothing,
    /// The active segment has to be closed, or there is none.
    Roll,
    /// These batches go behind the active segment's end.
    Write(Vec<(TailBatch, Bytes)>),
    /// This large batch goes there, in a buffer that is laid out for the place.
    Whole(TailBatch, DirectBuffer),
}

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteMode {
    /// The flusher: what is in the journal, synced at the end.
    Flush,
    /// For large batches that commits wait for: durable write by write.
    Durable,
}

/// Nobody else writes to the log's segments for as long as this lives.
pub(crate) struct WritingGuard<'a, D: Disk>(&'a LogInner<D>);

impl<D: Disk> Drop for WritingGuard<'_, D> {
    fn drop(&mut self) {
        self.0.is_being_written.set(false);
        self.0.shared.written.notify_all();
    }
}

impl<D: Disk> LogInner<D> {
    /// Writes all batches of commits up to `up_to` to segment files and syncs them. The caller holds the maintenance lock.
    pub(crate) async fn flush(&self, up_to: u64) -> Result<(), StorageError> {
        let _writing = self.writing().await;
        let mut unsynced = None;
        let written = self.write_pending(up_to, async || self.roll().await, &mut unsynced).await;
        if let Some(file) = unsynced {
            file.sync_data().await?;
            add(&self.shared.counters.segment_syncs, 1);
        }
        written
    }

    /// Writes all batches of commits up to `up_to` to segment files, and opens new ones by `roll`. Leaves in `unsynced` the file that has to be synced, also
    /// if the rest could not be written: for whoever comes next it is written. For whoever has the log for writing.
    pub(super) async fn write_pending(
        &self,
        up_to: u64,
        roll: impl AsyncFn() -> Result<(), StorageError>,
        unsynced: &mut Option<Rc<D::File>>,
    ) -> Result<(), StorageError> {
        self.trim_findings().await?;
        let mut last_block: Option<Bytes> = None;
        loop {
            let step = self.next_step(WriteMode::Flush, up_to);
            if matches!(step, Step::Write(_) | Step::Whole(..)) {
                let active = self.state.borrow().segments.last().expect("a roll has opened it").base_offset;
                *unsynced = Some(self.segment_for_writing(active).await?);
            }
            last_block = match step {
                Step::Nothing => return Ok(()),
                Step::Roll => {
                    roll().await?;
                    *unsynced = None;
                    None
                }
                Step::Write(batches) => Some(self.write(WriteMode::Flush, &batches, last_block).await?),
                Step::Whole(batch, buffer) => {
                    Some(self.write_whole(WriteMode::Flush, &batch, &buffer).await?)
                }
            };
        }
    }

    /// Waits until nobody else writes to the log's segments, and is the one who does.
    pub(crate) async fn writing(&self) -> WritingGuard<'_, D> {
        self.shared.written.wait_until(|| !self.is_being_written.get()).await;
        self.try_writing().expect("nobody writes")
    }

    /// The same, if nobody writes at present.
    pub(super) fn try_writing(&self) -> Option<WritingGuard<'_, D>> {
        (!self.is_being_written.replace(true)).then_some(WritingGuard(self))
    }

    /// What is to be written next of commits up to `up_to`.
    pub(super) fn next_step(&self, mode: WriteMode, up_to: u64) -> Step {
        let state = self.state.borrow();
        // A commit that waits for a large batch must not wait for ever: also of a log that is being deleted it is written.
        if mode == WriteMode::Flush && !matches!(state.availability, Availability::Online) {
            return Step::Nothing;
        }
        let write_bytes = match mode {
            WriteMode::Flush => WRITE_BYTES.min(self.shared.gates.limit_writes(self.shared.is_pressed())),
            WriteMode::Durable => WRITE_BYTES,
        };
        let cache = self.shared.cache.borrow();
        let mut batches = Vec::new();
        let mut bytes = 0;
        let mut active = state.segments.last().copied();
        for batch in state.tail.from(state.written_end) {
            if batch.commit > up_to || (bytes > 0 && bytes + batch.size as usize > write_bytes) {
                break;
            }
            let is_roll_due = active.is_none_or(|a| {
                let next = NextBatch {
                    last_offset: batch.last_offset(),
                    size: batch.size,
                    max_timestamp: batch.max_timestamp,
                };
                segment::should_roll(
                    &a,
                    state.active_index.len() + batches.len(),
                    next,
                    &state.config,
                    self.index as u64,
                )
            });
            if is_roll_due {
                if batches.is_empty() {
                    return Step::Roll;
                }
                break;
            }
            let position = active.map(|a| a.size);
            if let Some(whole) = cache.direct(batch.commit, batch.at).filter(|d| d.position == position) {
                if batches.is_empty() {
                    return Step::Whole(*batch, whole.clone());
                }
                break;
            }
            if let Some(active) = &mut active {
                active.note(batch.size, batch.max_timestamp);
            }
            let Some(slice) = cache.slice(batch.commit, batch.at, batch.size) else {
                assert!(mode == WriteMode::Durable, "a batch that is not in a segment is pinned in memory");
                break;
            };
            batches.push((*batch, slice));
            bytes += batch.size as usize;
        }
        if batches.is_empty() { Step::Nothing } else { Step::Write(batches) }
    }

    /// Writes batches at the active segment's end. `last_block` is what the segment holds from the last block boundary on, if the caller
    /// knows; answers the same for the next call.
    pub(super) async fn write(
        &self,
        mode: WriteMode,
        batches: &[(TailBatch, Bytes)],
        last_block: Option<Bytes>,
    ) -> Result<Bytes, StorageError> {
        let active = *self.state.borrow().segments.last().expect("a roll has opened a segment");
        let file = self.active_file(mode, active.base_offset).await?;
        let bytes: usize = batches.iter().map(|(b, _)| b.size as usize).sum();
        let partial = (active.size % BLOCK as u64) as usize;
        let start = active.size - partial as u64;
        let last_block = match last_block {
            Some(block) => block,
            None if partial == 0 => Bytes::new(),
            None => file.read_at(start, partial).await?,
        };
        if last_block.len() != partial {
            return Err(self.damaged(&active, start, "the last block is shorter than the segment"));
        }
        self.preallocate(&file, active.size + bytes as u64).await?;

        let len = block_align(partial + bytes);
        let _pass = self.pass(mode, len).await;
        let mut buffer = self.shared.disk.alloc(len);
        buffer[..partial].copy_from_slice(&last_block);
        let mut at = partial;
        for (_, slice) in batches {
            buffer[at..at + slice.len()].copy_from_slice(slice);
            at += slice.len();
        }
        buffer[at..len].fill(0);
        let buffer = buffer.freeze();
        file.write_at(start, &buffer, len).await?;

        self.note_written(batches, start + len as u64, len);
        // A copy: a slice would keep the whole buffer from its pool.
        Ok(Bytes::copy_from_slice(&buffer.slice(at - at % BLOCK..at)))
    }

    /// Writes a large batch at the active segment's end, out of the buffer that readers have it from. Answers as `write`.
    pub(super) async fn write_whole(
        &self,
        mode: WriteMode,
        batch: &TailBatch,
        buffer: &DirectBuffer,
    ) -> Result<Bytes, StorageError> {
        let active = *self.state.borrow().segments.last().expect("a roll has opened a segment");
        assert_eq!(buffer.position, Some(active.size), "the buffer is laid out for this place");
        let file = self.active_file(mode, active.base_offset).await?;
        let end = buffer.lead + buffer.bytes;
        self.preallocate(&file, active.size + buffer.bytes as u64).await?;
        let len = block_align(end);
        let _pass = self.pass(mode, len).await;
        let start = active.size - buffer.lead as u64;
        file.write_at(start, &buffer.data, len).await?;
        let slice = buffer.data.slice(buffer.lead..end);
        self.note_written(&[(*batch, slice)], start + len as u64, len);
        Ok(Bytes::copy_from_slice(&buffer.data.slice(end - end % BLOCK..end)))
    }

    /// Batches are in the active segment, whose file reaches to `file_end` at least.
    fn note_written(&self, batches: &[(TailBatch, Bytes)], file_end: u64, written_bytes: usize) {
        let mut state = self.state.borrow_mut();
        for (batch, slice) in batches {
            state.note_written(batch, producer_of(slice).as_ref());
        }
        state.preallocated = state.preallocated.max(file_end);
        drop(state);
        self.shared.note_flushed(batches.iter().map(|(b, _)| b.size as usize).sum(), written_bytes);
    }

    /// Waits until so much more may be under way to the disk.
    async fn pass(&self, mode: WriteMode, bytes: usize) -> ByteGateGuard<'_> {
        let shared = &self.shared;
        match mode {
            WriteMode::Flush => shared.gates.writes.enter(bytes).await,
            WriteMode::Durable => shared.direct.gate.enter(bytes).await,
        }
    }

    async fn active_file(&self, mode: WriteMode, base_offset: Offset) -> Result<Rc<D::File>, StorageError> {
        if mode == WriteMode::Flush {
            return self.segment_for_writing(base_offset).await;
        }
        let shared = &self.shared;
        let path = || self.segment_file(base_offset, "log");
        Ok(shared.files.open_through(&shared.disk, (self.index, base_offset, 0), path).await?)
    }

    async fn preallocate(&self, file: &D::File, needed: u64) -> Result<(), StorageError> {
        let (preallocated, segment_bytes) = {
            let state = self.state.borrow();
            (state.preallocated, state.config.segment_bytes)
        };
        if needed <= preallocated || needed < PREALLOCATE_FROM_BYTES {
            return Ok(());
        }
        let target = needed.next_multiple_of(PREALLOCATE_STEP_BYTES).min(segment_bytes.max(needed));
        let target = target.next_multiple_of(BLOCK as u64);
        file.preallocate(target).await?;
        self.state.borrow_mut().preallocated = target;
        Ok(())
    }

    /// Closes the active segment, if there is one, and opens the next at the end of what is written. Both are durable when it returns.
    pub(crate) async fn roll(&self) -> Result<(), StorageError> {
        let shared = &self.shared;
        self.ensure_directory().await?;
        let active = self.state.borrow().segments.last().copied();
        if let Some(active) = active {
            let file = self.segment_for_writing(active.base_offset).await?;
            file.truncate(active.size).await?;
            file.sync_data().await?;
            add(&shared.counters.segment_syncs, 1);
            // A copy: until the next segment is there, readers of this one go on using the original.
            let index = self.state.borrow().active_index.clone();
            if index.indexed_from() == 0 {
                self.write_index_files(active.base_offset, &index).await?;
                shared.files.put_index(self.segment_key(&active), Rc::new(index));
            }
        }
        let base_offset = self.state.borrow().written_end;
        let file = shared.disk.open(&self.segment_file(base_offset, "log"), OpenMode::CREATE).await?;
        if file.len().await? > 0 {
            // Left behind by a crash before its directory entry counted for anything.
            file.truncate(0).await?;
        }
        shared.disk.sync_dir(&self.directory()).await?;
        shared.files.put_file(self.segment_key(&SegmentMeta::new(base_offset)), Rc::new(file));
        self.state.borrow_mut().push_segment();
        Ok(())
    }

    /// Creates the partition's directory with its metadata file, durably, on the first flush.
    async fn ensure_directory(&self) -> Result<(), StorageError> {
        if self.state.borrow().has_directory {
            return Ok(());
        }
        let disk = &self.shared.disk;
        let directory = self.directory();
        disk.create_dir_all(&directory).await?;
        super::partition_dir::write_metadata(disk, &directory, self.id.topic_id).await?;
        self.state.borrow_mut().has_directory = true;
        Ok(())
    }

    pub(crate) async fn segment_for_writing(&self, base_offset: Offset) -> Result<Rc<D::File>, StorageError> {
        let shared = &self.shared;
        // The active segment is never one that compaction has made.
        let key = (self.index, base_offset, 0);
        Ok(shared.files.open(&shared.disk, key, || self.segment_file(base_offset, "log")).await?)
    }

    /// Writes the active segment's index and trims its file, so that the next start finds all as after a roll. At clean shutdown.
    pub(crate) async fn settle(&self) -> Result<(), StorageError> {
        let _writing = self.writing().await;
        let (active, index, is_trimmed) = {
            let mut state = self.state.borrow_mut();
            let Some(active) = state.segments.last().copied() else { return Ok(()) };
            let index = std::mem::replace(&mut state.active_index, SegmentIndex::starting_at(active.size));
            (active, index, state.preallocated <= active.size)
        };
        if !is_trimmed {
            let file = self.segment_for_writing(active.base_offset).await?;
            file.truncate(active.size).await?;
        }
        if index.indexed_from() == 0 && !index.is_empty() {
            self.write_index_files(active.base_offset, &index).await?;
        }
        self.shared.files.remove(self.segment_key(&active));
        Ok(())
    }
}

/// What a stored batch says about its producer.
pub(crate) fn producer_of(batch: &[u8]) -> Option<ProducerBatch> {
    let batch = BatchView::parse(batch).expect("a batch that was appended is a batch");
    producer_of_view(&batch)
}

/// What a stored batch says about its producer.
pub(crate) fn producer_of_view(batch: &BatchView<'_>) -> Option<ProducerBatch> {
    (batch.has_producer_id() && !batch.is_control()).then(|| ProducerBatch {
        producer_id: ProducerId(batch.producer_id()),
        producer_epoch: batch.producer_epoch(),
        base_sequence: batch.base_sequence(),
        base_offset: Offset(batch.base_offset()),
        last_offset: Offset(batch.last_offset()),
        timestamp_ms: batch.max_timestamp(),
    })
}
