//! Writing a cleaned segment beside the one that it is to replace, in large aligned pieces, with its index in memory.

use super::filter::Filtered;
use crate::{
    disk::{Disk, DiskFile, DiskResult, OpenMode, block_align},
    log::{
        index::{IndexedBatch, SegmentIndex},
        segment::SegmentMeta,
    },
    types::Offset,
    wake::ByteGate,
};
use std::path::Path;

/// A cleaned segment that is being written.
pub(crate) struct Output<D: Disk> {
    disk: D,
    file: D::File,
    segment: SegmentMeta,
    index: SegmentIndex,
    index_interval_bytes: u64,
    /// Bytes that are in the file: whole blocks.
    written: u64,
    /// Bytes that are not in the file yet.
    pending: Vec<u8>,
    piece_bytes: usize,
}

impl<D: Disk> Output<D> {
    /// Begins a segment with this base offset in a new file; one that a crash has left there is overwritten.
    pub async fn create(
        disk: &D,
        path: &Path,
        base_offset: Offset,
        index_interval_bytes: u64,
        piece_bytes: usize,
    ) -> DiskResult<Self> {
        let file = disk.open(path, OpenMode::CREATE).await?;
        file.truncate(0).await?;
        Ok(Self {
            disk: disk.clone(),
            file,
            segment: SegmentMeta::new(base_offset),
            index: SegmentIndex::default(),
            index_interval_bytes,
            written: 0,
            pending: Vec::new(),
            piece_bytes: block_align(piece_bytes.max(1)),
        })
    }

    /// Size of the segment so far. Bytes.
    pub fn size(&self) -> u64 {
        self.segment.size
    }

    /// Adds batches. `gate` bounds what is on its way to the disk.
    pub async fn append(&mut self, filtered: &Filtered, gate: &ByteGate) -> DiskResult<()> {
        for batch in &filtered.batches {
            let placed = IndexedBatch { position: self.segment.size, ..*batch };
            self.index.note(self.segment.base_offset, placed, self.index_interval_bytes);
            self.segment.note(batch.size, batch.max_timestamp);
        }
        self.pending.extend_from_slice(&filtered.bytes);
        while self.pending.len() >= self.piece_bytes {
            self.write(self.piece_bytes, gate).await?;
        }
        Ok(())
    }

    /// Writes the rest and makes the file durable; its name is not.
    pub async fn finish(mut self, gate: &ByteGate) -> DiskResult<(SegmentMeta, SegmentIndex)> {
        if !self.pending.is_empty() {
            self.write(self.pending.len(), gate).await?;
        }
        self.file.truncate(self.segment.size).await?;
        self.file.sync_data().await?;
        self.file.close().await?;
        self.index.shrink();
        Ok((self.segment, self.index))
    }

    /// Writes the first `len` pending bytes, which end a block or the segment.
    async fn write(&mut self, len: usize, gate: &ByteGate) -> DiskResult<()> {
        let aligned = block_align(len);
        let _pass = gate.enter(aligned).await;
        let mut buffer = self.disk.alloc(aligned);
        buffer[..len].copy_from_slice(&self.pending[..len]);
        buffer[len..aligned].fill(0);
        self.file.write_at(self.written, &buffer.freeze(), aligned).await?;
        self.written += aligned as u64;
        self.pending.drain(..len);
        Ok(())
    }
}
