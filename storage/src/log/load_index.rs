//! Getting hold of a segment's index: from memory, from its files if they are right, or from the segment itself.

use crate::{
    disk::{Disk, DiskFile, OpenMode},
    error::StorageError,
    log::{
        error::ReadError,
        index::{IndexedBatch, SegmentIndex},
        partition::LogInner,
        read_cold::Chunk,
        scan::{ScanEnd, scan_batches},
        segment::SegmentMeta,
    },
    store::partition_dir::remove_index,
    types::Offset,
};
use std::{ops::ControlFlow, rc::Rc};

impl<D: Disk> LogInner<D> {
    /// Reads, by `read_at`, from a batch at or before the one that holds `offset`; answers its position too. An index that points elsewhere
    /// than at a batch is thrown away and built anew.
    pub(crate) async fn read_near(
        &self,
        segment: &SegmentMeta,
        is_active: bool,
        offset: Offset,
        mut read_at: impl AsyncFnMut(u64) -> Result<Chunk, ReadError>,
    ) -> Result<(u64, Chunk), ReadError> {
        let mut is_second_try = false;
        loop {
            let base = segment.base_offset;
            let (position, expected) = self.with_index(segment, is_active, |i| i.floor(base, offset)).await?;
            let chunk = read_at(position).await?;
            let found = chunk.at(position).first_chunk().map(|b| Offset(i64::from_be_bytes(*b)));
            if expected.is_none() || expected == found || is_second_try {
                return Ok((position, chunk));
            }
            tracing::warn!(path = %self.segment_file(base, "index").display(), "the index is wrong and is rebuilt");
            self.discard_index(segment).await?;
            is_second_try = true;
        }
    }

    /// Removes the index files of a segment and forgets what was loaded from them.
    async fn discard_index(&self, segment: &SegmentMeta) -> Result<(), ReadError> {
        let base_offset = segment.base_offset;
        remove_index(&self.shared.disk, &self.directory(), base_offset).await?;
        self.shared.files.remove(self.segment_key(segment));
        self.shared.read_ahead.borrow_mut().forget(self.index);
        let state = &mut *self.state.borrow_mut();
        if let Some(active) = state.segments.last().filter(|s| s.base_offset == base_offset) {
            state.active_index = SegmentIndex::starting_at(active.size);
        }
        Ok(())
    }

    /// Looks something up in the whole index of a segment.
    pub(crate) async fn with_index<R>(
        &self,
        segment: &SegmentMeta,
        is_active: bool,
        look_up: impl Fn(&SegmentIndex) -> R,
    ) -> Result<R, ReadError> {
        let swaps = self.state.borrow().swaps;
        if is_active {
            let until = {
                let state = self.state.borrow();
                let is_still_active =
                    state.segments.last().is_some_and(|s| s.base_offset == segment.base_offset);
                match is_still_active.then(|| state.active_index.indexed_from()) {
                    Some(0) => return Ok(look_up(&state.active_index)),
                    other => other,
                }
            };
            if let Some(until) = until {
                let front = self.load_index(segment, until).await?;
                let is_outdated = self.was_disturbed(swaps);
                let mut state = self.state.borrow_mut();
                let is_still_active = !is_outdated
                    && state.segments.last().is_some_and(|s| s.base_offset == segment.base_offset);
                if is_still_active && state.active_index.indexed_from() == until {
                    state.active_index.prepend(front);
                    return Ok(look_up(&state.active_index));
                }
                if is_still_active && state.active_index.indexed_from() == 0 {
                    return Ok(look_up(&state.active_index));
                }
            }
        }
        // The segment may have been the active one when the caller looked, and have grown since.
        let closed = self.closed_segment(segment);
        let segment = closed.as_ref().unwrap_or(segment);
        let key = self.segment_key(segment);
        if let Some(index) = self.shared.files.index(key) {
            return Ok(look_up(&index));
        }
        let index = Rc::new(self.load_index(segment, segment.size).await?);
        if closed.is_some() && self.closed_segment(segment).is_some() && !self.was_disturbed(swaps) {
            self.shared.files.put_index(key, index.clone());
        }
        Ok(look_up(&index))
    }

    /// A segment as it is now, if it is closed and no other has taken its place.
    fn closed_segment(&self, segment: &SegmentMeta) -> Option<SegmentMeta> {
        let state = self.state.borrow();
        let (_, closed) = state.segments.split_last()?;
        let is_it = |s: &&SegmentMeta| (s.base_offset, s.revision) == (segment.base_offset, segment.revision);
        closed.iter().find(is_it).copied()
    }

    /// The index of a segment's first `until` bytes: what the index files say, checked where they end, completed from the segment.
    async fn load_index(&self, segment: &SegmentMeta, until: u64) -> Result<SegmentIndex, ReadError> {
        let file = self.open_segment(segment).await?;
        let interval = self.state.borrow().config.index_interval_bytes;
        let (mut index, from) = match self.read_index_files(segment, until).await {
            Some(index) => match self.check_last_entry(&file, segment, &index).await? {
                Some(from) => (index, from),
                None => (SegmentIndex::default(), 0),
            },
            None => (SegmentIndex::default(), 0),
        };
        let base = segment.base_offset;
        let scanned = scan_batches(&*file, from, until, |position, batch| {
            if index.last_offset_entry().is_none_or(|e| (e.position as u64) < position) {
                index.note(base, IndexedBatch::of(position, batch), interval);
            }
            ControlFlow::Continue(())
        })
        .await?;
        if scanned.end != ScanEnd::Complete {
            return Err(self.damaged(segment, scanned.position, "not a record batch").into());
        }
        index.shrink();
        Ok(index)
    }

    async fn read_index_files(&self, segment: &SegmentMeta, until: u64) -> Option<SegmentIndex> {
        let disk = &self.shared.disk;
        let mut files = [const { Vec::new() }; 2];
        for (suffix, bytes) in ["index", "timeindex"].into_iter().zip(&mut files) {
            let file =
                disk.open(&self.segment_file(segment.base_offset, suffix), OpenMode::READ).await.ok()?;
            let len = file.len().await.ok()?;
            *bytes = file.read_at(0, usize::try_from(len).ok()?).await.ok()?.to_vec();
        }
        SegmentIndex::parse(&files[0], &files[1], until)
    }

    /// Whether the last entry of a loaded index points at a batch with its offset; if so, the position from which to complete it.
    async fn check_last_entry(
        &self,
        file: &D::File,
        segment: &SegmentMeta,
        index: &SegmentIndex,
    ) -> Result<Option<u64>, ReadError> {
        let Some(entry) = index.last_offset_entry() else { return Ok(Some(0)) };
        let header = file.read_at(entry.position as u64, protocol::records::BATCH_HEADER_BYTES).await?;
        let expected = segment.base_offset.0 + entry.relative_offset as i64;
        let base_offset = header.get(..8).map(|b| i64::from_be_bytes(b.try_into().expect("eight bytes")));
        Ok((base_offset == Some(expected)).then_some(entry.position as u64))
    }

    /// Writes the index files of a segment. They are a shortcut, so they are not synced: a reader checks them.
    pub(crate) async fn write_index_files(
        &self,
        base_offset: Offset,
        index: &SegmentIndex,
    ) -> Result<(), StorageError> {
        for (suffix, bytes) in [("index", index.offset_file()), ("timeindex", index.time_file())] {
            let disk = &self.shared.disk;
            let file = disk.open(&self.segment_file(base_offset, suffix), OpenMode::CREATE).await?;
            if !bytes.is_empty() {
                let mut buffer = disk.alloc(bytes.len());
                let aligned = crate::disk::block_align(bytes.len());
                buffer[..bytes.len()].copy_from_slice(&bytes);
                buffer[bytes.len()..aligned].fill(0);
                file.write_at(0, &buffer.freeze(), aligned).await?;
            }
            file.truncate(bytes.len() as u64).await?;
            file.close().await?;
        }
        Ok(())
    }
}
