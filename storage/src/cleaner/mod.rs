//! Log compaction: of each key only the latest record stays (Kafka's `LogCleaner`, KIP-534 for tombstones).
//!
//! A pass over one log has two halves. The first reads the *dirty* section, which is what was appended since the last pass, and notes for every
//! key the offset of its latest record in a map of bounded size. The second copies the log's closed segments from its start to the end of
//! what the map knows, without the records that the map has a later one for; several small segments become one. Batches keep their offsets,
//! sequence numbers and framing. What follows the pass is one number: everything below is clean, each key occurs there once.
//!
//! Computing is done in pieces on threads that are not the shard's ([`CleanerHost`]); the shard only moves bytes. New segments are written beside the old
//! ones and put in their place by a rename that either happens or does not, see `swap`.
//!
//! | module | owns |
//! |---|---|
//! | [`offset_map`] | [`OffsetMap`]: key → latest offset, in bounded memory |
//! | [`filter`] | what becomes of a batch; both halves' work on bytes. Pure |
//! | [`decide`] | which log is due, how far a pass may go, which segments become one. Pure |
//! | `host` | [`CleanerHost`]: where computing happens and how fast reading and writing may go |
//! | `pieces` | whole batches of a segment, piece by piece |
//! | `output` | writing a cleaned segment |
//! | `pass` | one pass over one log |
//! | `swap` | how new segments take the place of old ones, also after a crash |

pub mod decide;
pub mod filter;
mod host;
pub mod offset_map;
mod output;
mod pass;
mod pieces;
pub(crate) mod swap;

pub use filter::CleanStats;
pub use host::{CleanerConfig, CleanerHost};
pub use offset_map::OffsetMap;
pub use pass::CleanReport;
