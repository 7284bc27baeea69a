//! Committed offsets.
//!
//! | module | owns |
//! |---|---|
//! | [`store`] | [`Offsets`]: what is committed, by group, topic and partition |
//! | `commit` | OffsetCommit, and replay of its records |
//! | `fetch` | OffsetFetch |
//! | `delete` | OffsetDelete, and what becomes of the offsets of deleted topics |
//! | [`expiry`] | offsets that nobody needs any more (KIP-211) |

mod commit;
mod delete;
pub mod expiry;
mod fetch;
pub mod store;
#[cfg(test)]
mod tests;

pub use store::{OffsetAndMetadata, Offsets};

pub(super) use delete::offset_tombstone;
pub(super) use expiry::Cleanup;

/// Bytes of keys in one batch of tombstones: well below the largest batch of any topic config.
const TOMBSTONE_BATCH_BYTES: usize = 256 << 10;

/// Counts what goes into one batch of tombstones.
#[derive(Debug, Default)]
struct TombstoneBudget {
    bytes: usize,
}

impl TombstoneBudget {
    /// Counts one more tombstone; returns whether there is room for it. There is always room for the first.
    fn take(&mut self, group_id: &str, topic: &str) -> bool {
        let is_first = self.bytes == 0;
        self.bytes += group_id.len() + topic.len() + 32;
        is_first || self.bytes <= TOMBSTONE_BATCH_BYTES
    }
}
