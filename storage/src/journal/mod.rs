//! One shard's journal: a ring of preallocated files in which one write makes the appends of all partitions durable.
//!
//! [`Journal::append`] copies an entry into the commit that is gathering. [`Journal::run`] writes one commit at a time: the first append goes out
//! at once, and what arrives meanwhile gathers in the next commit (group commit without a timer). A commit that is written is confirmed, in
//! order, to the observer and to whoever waits for [`Journal::durable`]. When the partition logs have brought all data of the oldest file into
//! synced segments they [`Journal::release`] it, and the file is recycled.
//!
//! What is promised: an entry whose commit is confirmed with [`Durability::Sync`] is there after any crash, byte for byte and in order,
//! and nothing is there that was not appended; [`Scan`] gives the entries back, and tells if acknowledged ones are damaged. A disk error in a
//! write or sync ends the journal for good: nothing is tried a second time.
//!
//! | file | subject |
//! |---|---|
//! | `handle` | [`Journal`]: append, wait, release |
//! | `commit` | the buffer that a commit gathers in |
//! | `writer` | the loops that write commits and keep files ready |
//! | `ring`, `maintain` | which files there are; creating and recycling them |
//! | `format` | the bytes on disk |
//! | `scan` | reading it all back |
//! | `signal` | waking the writer, and thousands of waiters |

mod checksum;
mod commit;
mod config;
mod entry;
mod format;
mod handle;
mod maintain;
mod ring;
mod scan;
mod signal;
mod writer;

pub use config::{Durability, JournalConfig};
pub(crate) use entry::batch_summary;
pub use entry::{
    Appended, Commit, CommitSeq, EntryHeader, EntryKind, FileSeq, JournalEvent, Location, Pressure,
};
pub use handle::Journal;
pub use scan::{Damage, Scan, ScannedCommit, ScannedEntry};
pub use signal::Durable;

#[cfg(test)]
mod tests;
