//! Record batches at the price of a checksum: encoded once, patched for every send.
//!
//! All records of a run have the same size, so that the bytes of a batch of `n` records are a prefix of the bytes of the largest
//! batch. Only the header, each record's stamp (and key) and the CRC change. A buffer that already holds a batch of the same
//! length is patched where it lies, without copying the payload again.
//!
//! A record's value starts with its *stamp*: the moment at which the schedule meant it to be sent, nanoseconds since 1970, eight
//! bytes big-endian. `bench consume` measures end-to-end latency from it. The rest of the value is text, different in each record.

use super::key::{KEY_BYTES, write_key};

/// Bytes before the records of a batch (record batch format, magic 2).
pub const HEADER_BYTES: usize = 61;
/// Bytes of the stamp at the start of each value.
pub const STAMP_BYTES: usize = 8;
/// Where the bytes that the CRC covers begin.
const CRC_FROM: usize = 21;

/// What differs from batch to batch besides the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFields {
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

/// The largest batch of a run, encoded.
#[derive(Debug)]
pub struct Template {
    bytes: Vec<u8>,
    /// Of each record: where its value starts and where it ends, from the start of the batch.
    records: Vec<(u32, u32)>,
    keyed: bool,
    value_bytes: usize,
}

impl Template {
    /// Records with values of `value_bytes` (at least [`STAMP_BYTES`]), as many as fit in a batch of `batch_bytes`, at least one
    /// and at most `most_records`.
    ///
    /// # Panics
    /// If a value cannot hold a stamp.
    pub fn new(value_bytes: usize, keyed: bool, batch_bytes: usize, most_records: usize) -> Template {
        assert!(value_bytes >= STAMP_BYTES, "a value holds at least its stamp");
        let mut template = Template { bytes: vec![0; HEADER_BYTES], records: Vec::new(), keyed, value_bytes };
        let mut filler = Filler(0x9e37_79b9_7f4a_7c15);
        while template.records.len() < most_records.max(1) {
            let before = template.bytes.len();
            template.push_record(&mut filler);
            if template.bytes.len() > batch_bytes && template.records.len() > 1 {
                template.bytes.truncate(before);
                template.records.pop();
                break;
            }
        }
        template
    }

    fn push_record(&mut self, filler: &mut Filler) {
        let offset_delta = self.records.len() as i64;
        let mut body = Vec::with_capacity(self.value_bytes + 32);
        body.push(0); // attributes
        put_varint(&mut body, 0); // timestamp delta
        put_varint(&mut body, offset_delta);
        if self.keyed {
            put_varint(&mut body, KEY_BYTES as i64);
            body.extend_from_slice(&[b'0'; KEY_BYTES]);
        } else {
            put_varint(&mut body, -1);
        }
        put_varint(&mut body, self.value_bytes as i64);
        let value_in_body = body.len();
        body.extend_from_slice(&[0; STAMP_BYTES]);
        body.extend((STAMP_BYTES..self.value_bytes).map(|_| filler.letter()));
        put_varint(&mut body, 0); // headers
        put_varint(&mut self.bytes, body.len() as i64);
        let value_at = self.bytes.len() + value_in_body;
        self.bytes.extend_from_slice(&body);
        self.records.push((value_at as u32, self.bytes.len() as u32));
    }

    /// Records in the largest batch.
    pub fn max_records(&self) -> u32 {
        self.records.len() as u32
    }

    /// Bytes of a batch of `count` uncompressed records.
    ///
    /// # Panics
    /// If `count` is 0 or larger than [`Template::max_records`].
    pub fn batch_len(&self, count: u32) -> usize {
        self.records[count as usize - 1].1 as usize
    }

    /// Bytes of keys and values of `count` records.
    pub fn payload_len(&self, count: u32) -> u64 {
        u64::from(count) * (self.value_bytes + if self.keyed { KEY_BYTES } else { 0 }) as u64
    }

    /// Puts the records of a batch of `count` into `out` (of [`Template::batch_len`] bytes) with their stamps and keys; the
    /// header is left for [`finish`]. With `patch`, `out` already holds records of the same count from an earlier call.
    /// `stamp_and_key` gives both for each record, in order.
    pub fn write_records(
        &self,
        out: &mut [u8],
        count: u32,
        patch: bool,
        mut stamp_and_key: impl FnMut(u32) -> (u64, u64),
    ) {
        if !patch {
            out[HEADER_BYTES..].copy_from_slice(&self.bytes[HEADER_BYTES..self.batch_len(count)]);
        }
        for (number, (value_at, _)) in self.records[..count as usize].iter().enumerate() {
            let (stamp, key) = stamp_and_key(number as u32);
            let value_at = *value_at as usize;
            out[value_at..value_at + STAMP_BYTES].copy_from_slice(&stamp.to_be_bytes());
            if self.keyed {
                // The value's length, a varint, stands between key and value.
                let key_end = value_at - varint_len(self.value_bytes as i64);
                write_key(key, &mut out[key_end - KEY_BYTES..key_end]);
            }
        }
    }
}

/// Writes the header of the batch whose `count` records fill the rest of `batch`, checksum included.
pub fn finish(batch: &mut [u8], count: u32, fields: &BatchFields) {
    let length = (batch.len() - 12) as i32;
    let mut header = [0; HEADER_BYTES];
    // base offset (8): 0, the leader assigns it
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
    batch[..HEADER_BYTES].copy_from_slice(&header);
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Appends a zig-zag varint.
fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes of a zig-zag varint.
fn varint_len(value: i64) -> usize {
    let mut out = Vec::with_capacity(10);
    put_varint(&mut out, value);
    out.len()
}

/// Letters that compress about as badly as real text's rarer words (xorshift).
struct Filler(u64);

impl Filler {
    fn letter(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        b'A' + (self.0 % 26) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_batch_fits_its_limit_and_one_record_more_would_not() {
        let template = Template::new(100, false, 16384, usize::MAX);
        let largest = template.batch_len(template.max_records());
        assert!(largest <= 16384 && largest + 110 > 16384, "{largest}");
        assert_eq!(template.payload_len(3), 300);
    }

    #[test]
    fn a_record_larger_than_the_batch_limit_travels_alone() {
        let template = Template::new(5000, true, 1000, usize::MAX);
        assert_eq!(template.max_records(), 1);
        assert_eq!(template.payload_len(1), 5000 + KEY_BYTES as u64);
    }

    #[test]
    fn a_patched_batch_equals_one_that_is_written_afresh() {
        let template = Template::new(40, true, 4096, usize::MAX);
        let fields = BatchFields {
            timestamp_ms: 5,
            attributes: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
        };
        let count = 20;
        let mut reused = vec![0; template.batch_len(count)];
        template.write_records(&mut reused, count, false, |n| (u64::from(n), 7));
        finish(&mut reused, count, &fields);
        template.write_records(&mut reused, count, true, |n| (1000 + u64::from(n), 8));
        finish(&mut reused, count, &fields);
        let mut fresh = vec![0; template.batch_len(count)];
        template.write_records(&mut fresh, count, false, |n| (1000 + u64::from(n), 8));
        finish(&mut fresh, count, &fields);
        assert_eq!(reused, fresh);
    }
}
