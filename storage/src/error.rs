//! What can go wrong in storage, as far as a caller can act on it. All errors are cheap to clone, because one failed sync
//! answers thousands of waiters.

use crate::types::TopicIdPartition;
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What was attempted on the disk, as a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// To make something durable: "sync", "sync directory". If that fails nobody knows what is durable.
    Sync(&'static str),
    /// Anything else: "open", "write".
    Other(&'static str),
}

impl From<&'static str> for DiskOperation {
    fn from(verb: &'static str) -> Self {
        Self::Other(verb)
    }
}

impl fmt::Display for DiskOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Sync(verb) | Self::Other(verb)) = self;
        f.write_str(verb)
    }
}

/// A failed disk operation, with what was attempted and on which file.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {op} {}: {source}", path.display())]
pub struct DiskError {
    /// The operation.
    pub op: DiskOperation,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: Arc<io::Error>,
}

impl DiskError {
    /// An error of operation `op` on `path`.
    pub fn new(op: impl Into<DiskOperation>, path: &Path, source: io::Error) -> Self {
        Self { op: op.into(), path: path.to_owned(), source: Arc::new(source) }
    }

    /// The kind of the system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the file or directory does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// Whether it means that the file system is full: a state that passes, not a failure of the disk. A failed sync, of whatever, is always one: who tries
    /// it again may hear of a success that does not cover what the first one should have.
    pub fn is_out_of_space(&self) -> bool {
        let is_full = matches!(self.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        is_full && !matches!(self.op, DiskOperation::Sync(_))
    }
}

/// Why the journal refuses an append, or cannot confirm one.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// All ring files hold data that is not in synced segments yet. Retriable: the flusher makes room.
    #[error("the journal is full until the flusher has caught up")]
    Full,
    /// Appends are switched off (low space or shutdown). Retriable.
    #[error("the journal accepts no appends at present")]
    ReadOnly,
    /// A write or sync failed. Final for this journal: the broker has to stop, nothing pending may be acknowledged.
    #[error("the journal has failed for good: {0}")]
    Failed(DiskError),
    /// The entry does not fit into a journal file.
    #[error("an entry of {bytes} bytes exceeds the journal's limit of {limit_bytes}")]
    TooLarge {
        /// Size of the entry with its header.
        bytes: u64,
        /// The most that one journal file can hold.
        limit_bytes: u64,
    },
    /// The journal was closed before the commit became durable.
    #[error("the journal was closed before the commit became durable")]
    Closed,
}

/// Any failure of this crate.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// A disk operation failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The journal refused or failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file holds bytes that were acknowledged and do not verify any more.
    #[error("{} is damaged at byte {position}: {what}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in the file.
        position: u64,
        /// What does not verify.
        what: String,
        /// The partitions known to be hit.
        partitions: Vec<TopicIdPartition>,
    },
    /// The file was written by a newer version.
    #[error("{} has format version {found}, this program reads up to {supported}", path.display())]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that we know.
        supported: u32,
    },
    /// The file system is short of space: data is refused until there is more.
    #[error(
        "{free_bytes} bytes are free on the file system of the data directory, less than the {low_space_bytes} that must be"
    )]
    LowSpace {
        /// What is free. Bytes.
        free_bytes: u64,
        /// The watermark. Bytes.
        low_space_bytes: u64,
    },
    /// The number of shards has changed and not all shards have taken over their partitions yet.
    #[error("partitions are being moved to another number of shards")]
    Migrating,
    /// The store is being closed.
    #[error("the store is being closed")]
    Closing,
    /// The journal holds data of a partition that is not wanted, and the metadata does not say that its topic is gone.
    #[error(
        "the journal holds data of partition {id}, which the metadata does not know: is the metadata log missing or older?"
    )]
    UnknownPartition {
        /// The partition.
        id: TopicIdPartition,
    },
    /// The directory of a new partition belongs to another topic that the metadata does not call gone.
    #[error("{} belongs to topic id {topic_id}, which the metadata does not call deleted", path.display())]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        topic_id: uuid::Uuid,
    },
    /// A setting cannot work.
    #[error("invalid storage setting: {0}")]
    InvalidConfig(String),
}

impl StorageError {
    /// Whether the file system is full: a state that passes.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, StorageError::Disk(error) if error.is_out_of_space())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_space_passes_and_a_failed_sync_never_does() {
        let error =
            |op: DiskOperation, kind: io::ErrorKind| DiskError::new(op, Path::new("/data"), kind.into());
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert!(error("write".into(), kind).is_out_of_space());
            for verb in ["sync", "sync directory", "make durable"] {
                assert!(!error(DiskOperation::Sync(verb), kind).is_out_of_space());
            }
        }
        assert!(!error("write".into(), io::ErrorKind::InvalidInput).is_out_of_space());
    }
}
