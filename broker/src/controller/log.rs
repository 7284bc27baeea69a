//! The metadata log on disk: `metadata.log` in the data directory, one record of [`storage::record_log`] per decision.

use std::path::Path;

use coord::metadata::{MetadataImage, decode_entry, encode_entry};
use storage::disk::DirectDisk;
use storage::record_log::RecordLog;

use super::ControllerError;

/// The file's name in the data directory.
pub const FILE: &str = "metadata.log";
/// The log is replaced by a snapshot when it is this large and has doubled since the last one.
const COMPACT_BYTES_MIN: u64 = 1 << 20;

/// The log of the metadata's records.
pub struct MetadataLog {
    log: RecordLog<DirectDisk>,
    /// Size after the last snapshot.
    snapshot_bytes: u64,
}

impl MetadataLog {
    /// Opens or creates the log, and replays it.
    pub async fn open(
        disk: DirectDisk,
        data_dir: &Path,
    ) -> Result<(MetadataLog, MetadataImage), ControllerError> {
        let path = data_dir.join(FILE);
        let (log, entries) = RecordLog::open(disk, &path).await.map_err(failed)?;
        let mut image = MetadataImage::new();
        for (index, entry) in entries.iter().enumerate() {
            let damaged = |error: String| {
                ControllerError::Failed(format!("{}, entry {index}: {error}", path.display()))
            };
            let records = decode_entry(entry).map_err(|error| damaged(error.to_string()))?;
            image.replay_all(&records).map_err(|error| damaged(error.to_string()))?;
        }
        let mut log = MetadataLog { log, snapshot_bytes: COMPACT_BYTES_MIN / 2 };
        log.compact_if_grown(&image).await?;
        Ok((log, image))
    }

    /// Makes entries durable, in order.
    pub async fn append(&mut self, entries: &[Vec<u8>]) -> Result<(), ControllerError> {
        self.log.append(entries).await.map_err(failed)
    }

    /// Replaces the log by a snapshot of `image`, the state after all its entries, when that is worth it.
    pub async fn compact_if_grown(&mut self, image: &MetadataImage) -> Result<(), ControllerError> {
        if self.log.size_bytes() < 2 * self.snapshot_bytes.max(COMPACT_BYTES_MIN / 2) {
            return Ok(());
        }
        let before = self.log.size_bytes();
        let entries: Vec<Vec<u8>> =
            image.snapshot().iter().map(|record| encode_entry(std::slice::from_ref(record))).collect();
        self.log.rewrite(&entries).await.map_err(failed)?;
        self.snapshot_bytes = self.log.size_bytes();
        tracing::info!(before_bytes = before, after_bytes = self.snapshot_bytes, "metadata log compacted");
        Ok(())
    }
}

fn failed(error: storage::StorageError) -> ControllerError {
    ControllerError::Failed(error.to_string())
}
