//! Settings of one shard's journal.

use super::format::FILE_HEADER_BYTES;
use crate::{disk::BLOCK, error::StorageError};
use uuid::Uuid;

/// When an append counts as durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// When it is written to the device; the sync follows in the background ([`super::Journal::sync_now`]). A power failure may lose it.
    Write,
    /// When it is synced.
    #[default]
    Sync,
}

/// Settings of one shard's journal.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// The identity that a new journal gets. An existing one keeps its own. Has to be unique (random).
    pub new_journal_id: Uuid,
    /// The shard, for whoever looks at the file.
    pub shard: u32,
    /// Size of each ring file.
    pub file_bytes: u64,
    /// How many files a new ring starts with.
    pub initial_files: usize,
    /// How many files the ring may grow to.
    pub max_files: usize,
    /// Commits are closed at this size; one larger entry gets a commit of its own.
    pub max_commit_bytes: usize,
}

impl JournalConfig {
    /// The defaults: two files of 64 MiB that may become 32, commits of up to 1 MiB and a bit, so that a full 1 MiB batch fits.
    pub fn new(new_journal_id: Uuid, shard: u32) -> Self {
        Self {
            new_journal_id,
            shard,
            file_bytes: 64 << 20,
            initial_files: 2,
            max_files: 32,
            max_commit_bytes: (1 << 20) + (64 << 10),
        }
    }

    /// Refuses what cannot work.
    pub(super) fn validate(&self) -> Result<(), StorageError> {
        let invalid = |what: String| Err(StorageError::InvalidConfig(what));
        if !self.file_bytes.is_multiple_of(BLOCK as u64)
            || self.file_bytes < (FILE_HEADER_BYTES + BLOCK) as u64
        {
            return invalid(format!(
                "journal file size {} is no sensible multiple of {BLOCK}",
                self.file_bytes
            ));
        }
        if self.file_bytes > u64::from(u32::MAX) {
            return invalid(format!("journal file size {} exceeds 4 GiB", self.file_bytes));
        }
        if self.initial_files < 2 || self.max_files < self.initial_files {
            return invalid(format!(
                "a journal ring needs 2 files or more, not {} growing to {}",
                self.initial_files, self.max_files
            ));
        }
        if self.max_commit_bytes < BLOCK {
            return invalid(format!(
                "journal commits of {} bytes are below one block",
                self.max_commit_bytes
            ));
        }
        Ok(())
    }
}
