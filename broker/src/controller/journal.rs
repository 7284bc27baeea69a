//! What this node has of the quorum's log on disk: `metadata.log` in the data directory, one record of [`storage::record_log`] for each record of
//! [`coord::quorum::journal`].
//!
//! A log of the time before there was a quorum (one record per decision, each an entry of [`coord::metadata::record`]) is taken over: its image becomes the
//! first snapshot of a quorum of this node alone. The file is replaced at once, so a crash leaves one or the other.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use coord::metadata::{MetadataImage, decode_entry, encode_entry};
use coord::quorum::{JournalRecord, Persist, Recovered, bootstrap, recover};
use coord::types::BrokerId;
use storage::disk::DirectDisk;
use storage::record_log::RecordLog;
use tokio::sync::mpsc;

use super::ControllerError;

/// The file's name in the data directory.
pub const FILE: &str = "metadata.log";
/// A snapshot takes the place of the entries when the journal is this large and has doubled since the last one.
const COMPACT_BYTES_MIN: u64 = 1 << 20;
/// Records that are written in one go.
const BATCH_MAX: usize = 1000;

/// Sizes of the journal, for whoever decides when a snapshot pays.
#[derive(Debug, Default)]
pub struct JournalSize {
    bytes: Cell<u64>,
    after_snapshot: Cell<u64>,
}

impl JournalSize {
    /// Whether a snapshot would make the journal much smaller.
    pub fn has_grown(&self) -> bool {
        self.bytes.get() >= 2 * self.after_snapshot.get().max(COMPACT_BYTES_MIN / 2)
    }
}

/// The journal on disk.
pub struct Journal {
    log: RecordLog<DirectDisk>,
    size: Rc<JournalSize>,
}

/// What was found on disk.
pub struct Found {
    /// The journal, to be written to.
    pub journal: Journal,
    /// What it says.
    pub recovered: Recovered,
    /// Whether there was nothing: this node is new, or its disk is.
    pub is_new: bool,
}

impl Found {
    /// Begins the quorum of these voters in a journal that is new. Without voters it stays empty: the log comes from the others.
    pub async fn begin(&mut self, voters: &[BrokerId]) -> Result<(), ControllerError> {
        if !self.is_new || voters.is_empty() {
            return Ok(());
        }
        let records = bootstrap(voters, Bytes::new());
        self.journal.append(&records).await?;
        self.recovered = recover(records).map_err(|error| ControllerError::Failed(error.to_string()))?;
        Ok(())
    }
}

impl Journal {
    /// Opens the journal, or makes an empty one; see [`Found::begin`].
    pub async fn open(disk: DirectDisk, data_dir: &Path, me: BrokerId) -> Result<Found, ControllerError> {
        let path = data_dir.join(FILE);
        let (log, kept) = RecordLog::open(disk, &path).await.map_err(failed)?;
        let size = Rc::new(JournalSize { bytes: Cell::new(log.size_bytes()), ..JournalSize::default() });
        let mut journal = Journal { log, size };
        let damaged = |error: String| ControllerError::Failed(format!("{}: {error}", path.display()));
        let is_new = kept.is_empty();
        let records = if is_of_former_format(&kept) {
            let image = replay_former_format(&kept).map_err(damaged)?;
            let records = bootstrap(&[me], encode_image(&image));
            journal.rewrite(&records).await?;
            tracing::info!(entries = kept.len(), "the metadata log is taken over as that of a quorum");
            records
        } else {
            let decoded: Result<Vec<_>, _> = kept.iter().map(|bytes| JournalRecord::decode(bytes)).collect();
            decoded.map_err(|error| damaged(error.to_string()))?
        };
        let recovered = recover(records).map_err(|error| damaged(error.to_string()))?;
        Ok(Found { journal, recovered, is_new })
    }

    /// Its sizes, also while it is written to.
    pub fn size(&self) -> Rc<JournalSize> {
        Rc::clone(&self.size)
    }

    async fn append(&mut self, records: &[JournalRecord]) -> Result<(), ControllerError> {
        let encoded: Vec<Vec<u8>> = records.iter().map(JournalRecord::encode).collect();
        self.log.append(&encoded).await.map_err(failed)?;
        self.size.bytes.set(self.log.size_bytes());
        Ok(())
    }

    async fn rewrite(&mut self, records: &[JournalRecord]) -> Result<(), ControllerError> {
        let encoded: Vec<Vec<u8>> = records.iter().map(JournalRecord::encode).collect();
        let before = self.size.bytes.get();
        self.log.rewrite(&encoded).await.map_err(failed)?;
        self.size.bytes.set(self.log.size_bytes());
        self.size.after_snapshot.set(self.log.size_bytes());
        tracing::info!(before_bytes = before, after_bytes = self.log.size_bytes(), "metadata log compacted");
        Ok(())
    }

    /// Makes durable what comes in, in order: everything that waits is one write and one sync. `done` is told the number of the last one. Ends when
    /// the sender is gone, or with the first error.
    pub async fn run(
        mut self,
        mut persists: mpsc::UnboundedReceiver<Persist>,
        done: impl Fn(u64),
    ) -> Result<(), ControllerError> {
        let mut batch = Vec::new();
        while persists.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let mut appended = Vec::new();
            let mut last = 0;
            for Persist { number, rewrites, mut records } in batch.drain(..) {
                last = number;
                if rewrites {
                    self.append(&appended).await?;
                    appended.clear();
                    self.rewrite(&records).await?;
                } else {
                    appended.append(&mut records);
                }
            }
            self.append(&appended).await?;
            done(last);
        }
        Ok(())
    }
}

fn is_of_former_format(kept: &[Bytes]) -> bool {
    // No record of a quorum's journal can be read as an entry with at least one record: its second byte is the kind, which would be the first of
    // the number of records, and where that is 0 the rest of the number is a term below 2^32.
    kept.first().is_some_and(|first| decode_entry(first).is_ok())
}

fn replay_former_format(kept: &[Bytes]) -> Result<MetadataImage, String> {
    let mut image = MetadataImage::new();
    for (index, entry) in kept.iter().enumerate() {
        let damaged = |error: String| format!("entry {index}: {error}");
        let records = decode_entry(entry).map_err(|error| damaged(error.to_string()))?;
        image.replay_all(&records).map_err(|error| damaged(error.to_string()))?;
    }
    Ok(image)
}

/// An image as the quorum keeps it in snapshots.
pub fn encode_image(image: &MetadataImage) -> Bytes {
    encode_entry(&image.snapshot()).into()
}

/// The image of a snapshot; empty bytes are the state before the first record.
pub fn decode_image(data: &[u8]) -> Result<MetadataImage, ControllerError> {
    let mut image = MetadataImage::new();
    if !data.is_empty() {
        let unreadable = |error: &dyn std::fmt::Display| {
            ControllerError::Failed(format!("a snapshot of the metadata cannot be used: {error}"))
        };
        let records = decode_entry(data).map_err(|error| unreadable(&error))?;
        image.replay_all(&records).map_err(|error| unreadable(&error))?;
    }
    Ok(image)
}

fn failed(error: storage::StorageError) -> ControllerError {
    ControllerError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use coord::metadata::MetadataRecord;
    use coord::quorum::LogPosition;
    use coord::quorum::journal::{EntryKind, LogEntry, Vote};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_former_format_is_told_from_every_record_of_a_journal() {
        let cluster = MetadataRecord::Cluster { cluster_id: Uuid::from_u128(1) };
        let former = [Bytes::from(encode_entry(&[cluster]))];
        assert!(is_of_former_format(&former));
        assert_eq!(replay_former_format(&former).unwrap().cluster_id(), Uuid::from_u128(1));
        let position = LogPosition { term: 3, index: 9 };
        let entry = |data| JournalRecord::Entry(LogEntry { position, kind: EntryKind::Data, data });
        let vote = |term, commit| JournalRecord::Vote(Vote { term, vote: BrokerId(1), commit });
        let mut records = bootstrap(&[BrokerId(1)], former[0].clone());
        records.extend([entry(former[0].clone()), vote(0, 0), vote(1, 7), vote(u64::from(u32::MAX), 1)]);
        for record in records {
            assert!(!is_of_former_format(&[record.encode().into()]), "{record:?}");
        }
    }

    #[test]
    fn an_image_survives_its_snapshot_and_nothing_is_the_empty_image() {
        let mut image = MetadataImage::new();
        image.replay(&MetadataRecord::Cluster { cluster_id: Uuid::from_u128(5) }).unwrap();
        assert_eq!(decode_image(&encode_image(&image)).unwrap(), image);
        assert_eq!(decode_image(&[]).unwrap(), MetadataImage::new());
        assert!(decode_image(&[9, 9]).is_err());
    }
}
