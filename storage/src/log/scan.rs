//! Walking over the batches of a segment file in bounded reads.

use crate::disk::{DiskFile, DiskResult};
use protocol::records::{BATCH_HEADER_BYTES, BatchError, BatchView, LOG_OVERHEAD_BYTES};
use std::ops::ControlFlow;

/// How much is read at once. Bytes.
const CHUNK_BYTES: usize = 512 * 1024;
/// No batch is larger: protects against a damaged length field. Bytes.
pub(crate) const MAX_BATCH_BYTES: usize = 1 << 30;

/// Why a scan ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ScanEnd {
    /// It reached the end position exactly.
    Complete,
    /// The visitor stopped it.
    Stopped,
    /// What stands at the position is not a whole batch.
    NotABatch(BatchError),
}

/// Where a scan ended, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// End of the last batch that was visited. Bytes.
    pub position: u64,
    pub end: ScanEnd,
}

/// Visits the batches between two file positions. `from` must be a batch boundary.
pub(crate) async fn scan_batches<F: DiskFile>(
    file: &F,
    from: u64,
    to: u64,
    mut visit: impl FnMut(u64, &BatchView<'_>) -> ControlFlow<()>,
) -> DiskResult<Scanned> {
    let mut position = from;
    let mut want = CHUNK_BYTES;
    while position < to {
        let chunk = file.read_at(position, want.min((to - position) as usize)).await?;
        let mut at = 0;
        let mut needed_bytes = 0;
        while at < chunk.len() {
            match BatchView::parse(&chunk[at..]) {
                Ok(batch) => {
                    if visit(position + at as u64, &batch).is_break() {
                        return Ok(Scanned { position: position + at as u64, end: ScanEnd::Stopped });
                    }
                    at += batch.size();
                }
                Err(BatchError::Truncated { needed, .. }) if needed <= MAX_BATCH_BYTES => {
                    needed_bytes = needed;
                    break;
                }
                Err(error) => {
                    return Ok(Scanned { position: position + at as u64, end: ScanEnd::NotABatch(error) });
                }
            }
        }
        let is_short = chunk.len() < want.min((to - position) as usize);
        position += at as u64;
        if at == 0 && (is_short || position + needed_bytes as u64 > to) {
            let error = BatchError::Truncated { needed: needed_bytes, available: chunk.len() };
            return Ok(Scanned { position, end: ScanEnd::NotABatch(error) });
        }
        want = CHUNK_BYTES.max(needed_bytes);
    }
    Ok(Scanned { position, end: ScanEnd::Complete })
}

/// The size of the batch whose first bytes are `bytes`, if they tell and it can be.
pub(crate) fn batch_size_at(bytes: &[u8]) -> Option<usize> {
    match BatchView::parse(bytes) {
        Ok(batch) => Some(batch.size()),
        Err(BatchError::Truncated { needed, .. }) if bytes.len() >= BATCH_HEADER_BYTES => {
            (LOG_OVERHEAD_BYTES..=MAX_BATCH_BYTES).contains(&needed).then_some(needed)
        }
        Err(_) => None,
    }
}
