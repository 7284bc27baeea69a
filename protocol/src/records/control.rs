//! Control records: what brokers write into logs for each other. Transaction markers are KIP-98's.

use bytes::Bytes;

use super::builder::{BatchBuilder, BatchOptions};

/// A control record, decoded from a record's key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlRecord {
    /// The end of a producer's transaction in this partition.
    EndTxn(EndTxnMarker),
    /// Another type (2 leader change, 3 snapshot header, 4 snapshot footer, 5 KRaft version, 6 KRaft voters, …).
    Other {
        /// As in the key.
        control_type: i16,
    },
}

/// A transaction's outcome as its coordinator announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// Committed, not aborted.
    pub committed: bool,
    /// Epoch of the coordinator's partition; a marker with an older one is from a coordinator that has been replaced.
    pub coordinator_epoch: i32,
}

const ABORT: i16 = 0;
const COMMIT: i16 = 1;

impl ControlRecord {
    /// Decodes a record of a control batch; `None` if it is none.
    ///
    /// Newer versions of key and value only append fields, so whatever follows the known ones is ignored.
    pub fn parse(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<ControlRecord> {
        let (version, rest) = key?.split_first_chunk::<2>()?;
        let (control_type, _) = rest.split_first_chunk::<2>()?;
        if i16::from_be_bytes(*version) < 0 {
            return None;
        }
        match i16::from_be_bytes(*control_type) {
            outcome @ (ABORT | COMMIT) => {
                let (version, rest) = value?.split_first_chunk::<2>()?;
                let (epoch, _) = rest.split_first_chunk::<4>()?;
                (i16::from_be_bytes(*version) >= 0).then(|| {
                    ControlRecord::EndTxn(EndTxnMarker {
                        committed: outcome == COMMIT,
                        coordinator_epoch: i32::from_be_bytes(*epoch),
                    })
                })
            }
            control_type => Some(ControlRecord::Other { control_type }),
        }
    }
}

/// The control batch that ends `producer_id`'s transaction: one record, one offset. Base offset and leader epoch are for
/// [`assign`](super::assign).
pub fn end_txn_marker(
    producer_id: i64,
    producer_epoch: i16,
    marker: EndTxnMarker,
    timestamp_ms: i64,
) -> Bytes {
    let mut key = [0; 4];
    key[2..].copy_from_slice(&if marker.committed { COMMIT } else { ABORT }.to_be_bytes());
    let mut value = [0; 6];
    value[2..].copy_from_slice(&marker.coordinator_epoch.to_be_bytes());
    let mut builder = BatchBuilder::new(BatchOptions {
        producer_id,
        producer_epoch,
        is_transactional: true,
        is_control: true,
        ..BatchOptions::default()
    });
    builder.append(timestamp_ms, Some(&key), Some(&value), &[]);
    builder.build().expect("an uncompressed batch cannot fail to compress")
}
