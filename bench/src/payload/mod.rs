//! The bytes of the load: record batches at the price of a checksum.
//!
//! | file | owns |
//! |---|---|
//! | `header` | what each value begins with: intended time, number, source, checksum |
//! | `template` | batches of equal records: encoded once, patched for every send |
//! | `varied` | batches of records whose sizes are drawn |
//! | `sizes`, `filler`, `key` | how large values are, what fills them, which keys they have |
//! | `random` | repeatable randomness for all of them |

mod filler;
mod header;
mod key;
mod random;
mod sizes;
mod template;
mod varied;

use template::Template;
use varied::Varied;

pub use filler::Filling;
pub use header::{Contents, Stamp, check, stamp};
pub use key::partition_of;
pub use random::scramble;
pub use sizes::Sizes;

/// Bytes before the records of a batch (record batch format, magic 2).
pub const BATCH_HEADER_BYTES: usize = protocol::records::BATCH_HEADER_BYTES;

/// What records are made of; the same for the whole run.
#[derive(Debug, Clone)]
pub struct PayloadPlan {
    /// How large values are.
    pub sizes: Sizes,
    /// What fills them.
    pub filling: Filling,
    /// Whether records have keys.
    pub keyed: bool,
    /// Largest batch before compression; a larger record travels alone.
    pub batch_bytes: usize,
}

/// Bytes of some records in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The batch that they make, uncompressed.
    pub batch_bytes: usize,
    /// Their keys and values.
    pub payload_bytes: u64,
}

/// Makes batches. A record's place, `at`, is all that its size and its filler depend on.
pub enum Payload {
    /// Of equal records.
    Equal(Template),
    /// Of records of drawn sizes.
    Varied(Varied),
}

impl Payload {
    /// The payload of a run.
    pub fn new(plan: &PayloadPlan) -> Payload {
        match plan.sizes {
            Sizes::Fixed(value_bytes) => {
                Payload::Equal(Template::new(value_bytes, plan.keyed, plan.filling, plan.batch_bytes))
            }
            _ => Payload::Varied(Varied::new(plan)),
        }
    }

    /// How many records from `at` on fit into a batch; at least one.
    #[inline]
    pub fn room(&self, at: u64) -> u32 {
        match self {
            Payload::Equal(template) => template.max_records(),
            Payload::Varied(varied) => varied.room(at),
        }
    }

    /// No batch has more bytes.
    pub fn largest_batch(&self) -> usize {
        match self {
            Payload::Equal(template) => template.batch_len(template.max_records()),
            Payload::Varied(varied) => varied.largest_batch(),
        }
    }

    /// Bytes of `count` records from `at` on.
    pub fn extent(&self, at: u64, count: u32) -> Extent {
        match self {
            Payload::Equal(template) => {
                Extent { batch_bytes: template.batch_len(count), payload_bytes: template.payload_len(count) }
            }
            Payload::Varied(varied) => varied.extent(at, count),
        }
    }

    /// Puts the records of a batch into `out`, which has the length of the whole batch; the header is left for [`finish`].
    /// `stamp_and_key` gives each record's stamp and key, in order. With `patch`, `out` already holds as many records in the same place.
    pub fn write_records(
        &self,
        out: &mut [u8],
        at: u64,
        count: u32,
        patch: bool,
        stamp_and_key: impl FnMut(u32) -> (Stamp, u64),
    ) {
        match self {
            Payload::Equal(template) => template.write_records(out, count, patch, stamp_and_key),
            Payload::Varied(varied) => varied.write_records(out, at, count, stamp_and_key),
        }
    }
}

/// What differs from batch to batch besides the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFields {
    /// Offset of the first record; 0 from producers, the leader assigns it.
    pub base_offset: i64,
    /// Timestamp of all its records, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Compression codec and other attribute bits.
    pub attributes: i16,
    /// Producer id, or -1.
    pub producer_id: i64,
    /// Producer epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
}

/// Where the bytes that the CRC covers begin.
const CRC_FROM: usize = protocol::records::CRC_START;

/// Writes the header of the batch whose `count` records fill the rest of `batch`, checksum included.
pub fn finish(batch: &mut [u8], count: u32, fields: &BatchFields) {
    let length = (batch.len() - 12) as i32;
    let mut header = [0; BATCH_HEADER_BYTES];
    header[..8].copy_from_slice(&fields.base_offset.to_be_bytes());
    header[8..12].copy_from_slice(&length.to_be_bytes());
    header[12..16].copy_from_slice(&(-1i32).to_be_bytes()); // partition leader epoch
    header[16] = 2; // magic
    header[21..23].copy_from_slice(&fields.attributes.to_be_bytes());
    header[23..27].copy_from_slice(&(count as i32 - 1).to_be_bytes()); // last offset delta
    header[27..35].copy_from_slice(&fields.timestamp_ms.to_be_bytes()); // base timestamp
    header[35..43].copy_from_slice(&fields.timestamp_ms.to_be_bytes()); // max timestamp
    header[43..51].copy_from_slice(&fields.producer_id.to_be_bytes());
    header[51..53].copy_from_slice(&fields.producer_epoch.to_be_bytes());
    header[53..57].copy_from_slice(&fields.base_sequence.to_be_bytes());
    header[57..61].copy_from_slice(&(count as i32).to_be_bytes());
    batch[..BATCH_HEADER_BYTES].copy_from_slice(&header);
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Writes a zig-zag varint at the start of `out`; returns its length.
#[inline]
fn put_varint(out: &mut [u8], value: i64) -> usize {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    let mut len = 0;
    while rest >= 0x80 {
        out[len] = rest as u8 | 0x80;
        rest >>= 7;
        len += 1;
    }
    out[len] = rest as u8;
    len + 1
}

/// Bytes of a zig-zag varint.
#[inline]
fn varint_len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

/// Bytes of a record's body (what its length field counts).
#[inline]
fn body_len(offset_delta: u32, key_bytes: usize, value_bytes: usize) -> usize {
    // attributes, timestamp delta, length of the key (one byte: -1 or 10), header count
    4 + varint_len(i64::from(offset_delta)) + key_bytes + varint_len(value_bytes as i64) + value_bytes
}

/// Writes a record up to its value, the key's bytes left open; returns where the value begins.
#[inline]
fn put_record_head(out: &mut [u8], offset_delta: u32, key_bytes: usize, value_bytes: usize) -> usize {
    let mut end = put_varint(out, body_len(offset_delta, key_bytes, value_bytes) as i64);
    out[end] = 0; // attributes
    out[end + 1] = 0; // timestamp delta
    end += 2;
    end += put_varint(&mut out[end..], i64::from(offset_delta));
    end += put_varint(&mut out[end..], if key_bytes == 0 { -1 } else { key_bytes as i64 });
    end += key_bytes;
    end + put_varint(&mut out[end..], value_bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::records::{BatchView, RecordIter};

    pub(super) const FIELDS: BatchFields = BatchFields {
        base_offset: 0,
        timestamp_ms: 5,
        attributes: 0,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
    };

    #[test]
    fn batches_of_every_shape_are_read_back_record_by_record() {
        for sizes in ["24", "100", "24..300", "lognormal:200:1", "mix:30=1,9000=1"] {
            for keyed in [false, true] {
                let plan = PayloadPlan {
                    sizes: sizes.parse().expect("sizes"),
                    filling: Filling::Text,
                    keyed,
                    batch_bytes: 20_000,
                };
                let payload = Payload::new(&plan);
                for at in [0, 1, 1_000_000] {
                    let count = payload.room(at);
                    let extent = payload.extent(at, count);
                    assert!(extent.batch_bytes <= payload.largest_batch());
                    assert!(extent.batch_bytes <= 20_000 && count >= 1, "{sizes}: {count}");
                    let mut batch = vec![0xff; extent.batch_bytes];
                    payload.write_records(&mut batch, at, count, false, |n| {
                        (
                            Stamp { intended_unix_ns: 7, source: 9, number: at + u64::from(n) },
                            u64::from(n % 3),
                        )
                    });
                    finish(&mut batch, count, &FIELDS);
                    let view = BatchView::parse(&batch).expect("a batch");
                    view.check_crc().expect("the right CRC");
                    let mut bytes = 0;
                    for (n, record) in RecordIter::new(&view, view.payload()).enumerate() {
                        let record = record.expect("a sound record");
                        let (key, value) = (record.key.unwrap_or_default(), record.value.expect("a value"));
                        let stamp = Stamp { intended_unix_ns: 7, source: 9, number: at + n as u64 };
                        assert_eq!(check(value, key), Contents::Sound(stamp), "{sizes} {keyed}");
                        bytes += (key.len() + value.len()) as u64;
                    }
                    assert_eq!(bytes, extent.payload_bytes);
                }
            }
        }
    }

    #[test]
    fn varints_are_as_long_as_they_are_said_to_be() {
        let mut out = [0; 10];
        for value in [0, -1, 63, 64, -64, -65, 8191, 8192, i64::from(i32::MAX), i64::MIN] {
            assert_eq!(put_varint(&mut out, value), varint_len(value), "{value}");
        }
    }
}
