//! One shard's journal: a ring of preallocated files in which one write makes the appends of all partitions durable.

mod config;
mod entry;
#[allow(dead_code)]
mod format;

pub use config::{Durability, JournalConfig};
pub use entry::{
    Appended, Commit, CommitSeq, EntryHeader, EntryKind, FileSeq, JournalEvent, Location, Pressure,
};
