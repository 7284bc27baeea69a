//! Record batches of format v2 (magic 2), the only format that Kafka still writes: KIP-98, Kafka's `DefaultRecordBatch`.
//!
//! ```text
//! offset size field                     offset size field
//!  0      8   base offset                27     8   base timestamp (delete horizon if attribute bit 6 is set)
//!  8      4   length of what follows     35     8   max timestamp
//! 12      4   partition leader epoch     43     8   producer id        (-1: none)
//! 16      1   magic = 2                  51     2   producer epoch     (-1: none)
//! 17      4   CRC-32C of bytes 21..      53     4   base sequence      (-1: none)
//! 21      2   attributes                 57     4   record count
//! 23      4   last offset delta          61         records, compressed as one
//! ```
//! All big-endian. Attributes: bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon. The CRC
//! starts after the leader epoch, so a broker places a batch in its log ([`assign`]) without touching the checksum.
//!
//! | file | owns |
//! |---|---|
//! | `header` | [`BatchHeader`], the 61 bytes as a struct over bytes; [`Attributes`] |
//! | `batch` | [`BatchView`], one whole batch; [`Batches`], several in a row; [`decompress`] |
//! | `validate` | [`validate`], a leader's check of a produced batch; [`ValidatedBatch`] |
//! | `assign` | [`assign`], offsets, epoch and append time written in place |
//! | `record` | [`RecordIter`], [`Record`], [`RecordHeaders`] |
//! | `builder` | [`BatchBuilder`] |
//! | `control` | [`ControlRecord`], transaction markers |
//! | `input`, `walk` | bytes as validation reads them (from a slice or while decompressing), and one record's fields |
//! | `error` | [`BatchError`] and its error codes |

mod assign;
mod batch;
mod builder;
mod control;
mod error;
mod header;
mod input;
mod record;
mod validate;
mod varint;
mod walk;

pub use assign::{assign, set_max_timestamp};
pub use batch::{BatchView, Batches, CheckedBatch, decompress, iter_batches};
pub use builder::{BatchBuilder, BatchOptions, recompress};
pub use control::{ControlRecord, EndTxnMarker, end_txn_marker};
pub use error::{BatchError, RecordError, RecordErrors, RecordFault};
pub use header::{
    Attributes, BATCH_HEADER_BYTES, BatchHeader, CRC_START, LOG_OVERHEAD_BYTES, MAGIC_V2, NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, TimestampType, sequence_after,
};
pub use record::{Record, RecordHeader, RecordHeaders, RecordIter};
pub use validate::{Depth, Origin, ValidatedBatch, ValidationLimits, validate};
