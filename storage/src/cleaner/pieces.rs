//! A segment's batches in pieces of bounded size, each of whole batches.

use crate::{
    disk::{DiskFile, DiskResult},
    log::scan::MAX_BATCH_BYTES,
};
use bytes::Bytes;
use protocol::records::{BatchError, BatchView};

/// Reads a segment file from front to back.
pub(crate) struct Pieces<F> {
    file: F,
    position: u64,
    end: u64,
    piece_bytes: usize,
}

/// What comes next.
pub(crate) enum Piece {
    /// Whole batches, and where they stand.
    Batches(u64, Bytes),
    /// What stands at this position is not a batch.
    NotABatch(u64, BatchError),
    /// The segment is at its end.
    End,
}

impl<F: DiskFile> Pieces<F> {
    /// The first `end` bytes of `file`, about `piece_bytes` at once.
    pub fn new(file: F, end: u64, piece_bytes: usize) -> Self {
        Self { file, position: 0, end, piece_bytes: piece_bytes.max(4096) }
    }

    /// Reads the next piece: as many whole batches as fit, at least one.
    pub async fn next(&mut self) -> DiskResult<Piece> {
        let mut want = self.piece_bytes;
        loop {
            let rest = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
            if rest == 0 {
                return Ok(Piece::End);
            }
            let len = want.min(rest);
            let chunk = self.file.read_at(self.position, len).await?;
            let (whole, error) = whole_batches(&chunk);
            let position = self.position;
            if whole > 0 {
                self.position += whole as u64;
                return Ok(Piece::Batches(position, chunk.slice(..whole)));
            }
            match error {
                BatchError::Truncated { needed, .. }
                    if chunk.len() == len && needed > len && needed <= rest.min(MAX_BATCH_BYTES) =>
                {
                    want = needed;
                }
                error => return Ok(Piece::NotABatch(position, error)),
            }
        }
    }
}

/// How many bytes the whole batches at the front take, and why what follows is none.
fn whole_batches(bytes: &[u8]) -> (usize, BatchError) {
    let mut at = 0;
    loop {
        match BatchView::parse(&bytes[at..]) {
            Ok(batch) => at += batch.size(),
            Err(error) => return (at, error),
        }
    }
}
