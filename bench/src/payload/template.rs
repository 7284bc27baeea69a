//! Batches of equal records: encoded once, patched for every send.
//!
//! All records have the same size, so that the bytes of a batch of `n` records are a prefix of the bytes of the largest batch. Only the
//! batch's header, each value's header and key, and the CRC change. A buffer that already holds a batch of the same length is patched where
//! it lies, without copying the payload again. The filler is different in each record of a batch, and the same in every batch.

use super::filler::{Filler, Filling};
use super::header::{Stamp, VALUE_HEADER_BYTES, filler_checksum, seal};
use super::key::{KEY_BYTES, write_key};
use super::{BATCH_HEADER_BYTES, body_len, put_record_head, varint_len};

/// One record in the template, with places from the start of the batch.
#[derive(Debug, Clone, Copy)]
struct Place {
    value_at: u32,
    end: u32,
    /// Checksum of its filler.
    filler: u32,
}

/// The largest batch of a run, encoded.
#[derive(Debug)]
pub struct Template {
    bytes: Vec<u8>,
    records: Vec<Place>,
    keyed: bool,
    value_bytes: usize,
    /// From the end of the key to the value: the value's length.
    key_gap: usize,
}

impl Template {
    /// Records with values of `value_bytes`, as many as fit in a batch of `batch_bytes`, at least one.
    ///
    /// # Panics
    /// If a value cannot hold its header.
    pub fn new(value_bytes: usize, keyed: bool, filling: Filling, batch_bytes: usize) -> Template {
        assert!(value_bytes >= VALUE_HEADER_BYTES, "a value holds at least its header");
        let key_gap = varint_len(value_bytes as i64);
        let mut template =
            Template { bytes: vec![0; BATCH_HEADER_BYTES], records: Vec::new(), keyed, value_bytes, key_gap };
        let mut filler = Filler::new(filling);
        loop {
            let delta = template.records.len() as u32;
            let body = body_len(delta, template.key_bytes(), value_bytes);
            let end = template.bytes.len() + varint_len(body as i64) + body;
            if end > batch_bytes && !template.records.is_empty() {
                return template;
            }
            template.push_record(delta, end, &mut filler);
        }
    }

    fn key_bytes(&self) -> usize {
        if self.keyed { KEY_BYTES } else { 0 }
    }

    fn push_record(&mut self, offset_delta: u32, end: usize, filler: &mut Filler) {
        let (start, key_bytes) = (self.bytes.len(), self.key_bytes());
        self.bytes.resize(end - self.value_bytes - 1, 0);
        let head = put_record_head(&mut self.bytes[start..], offset_delta, key_bytes, self.value_bytes);
        let value_at = start + head;
        self.bytes.resize(value_at + VALUE_HEADER_BYTES, 0);
        filler.fill(self.value_bytes - VALUE_HEADER_BYTES, &mut self.bytes);
        let filler = filler_checksum(&self.bytes[value_at + VALUE_HEADER_BYTES..]);
        self.bytes.push(0); // headers
        assert_eq!(self.bytes.len(), end, "a record has the length that was computed");
        self.records.push(Place { value_at: value_at as u32, end: end as u32, filler });
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
        self.records[count as usize - 1].end as usize
    }

    /// Bytes of keys and values of `count` records.
    pub fn payload_len(&self, count: u32) -> u64 {
        u64::from(count) * (self.value_bytes + self.key_bytes()) as u64
    }

    /// See [`super::Payload::write_records`].
    pub fn write_records(
        &self,
        out: &mut [u8],
        count: u32,
        patch: bool,
        mut stamp_and_key: impl FnMut(u32) -> (Stamp, u64),
    ) {
        if !patch {
            out[BATCH_HEADER_BYTES..].copy_from_slice(&self.bytes[BATCH_HEADER_BYTES..self.batch_len(count)]);
        }
        for (number, place) in self.records[..count as usize].iter().enumerate() {
            let (stamp, key) = stamp_and_key(number as u32);
            let (before, value) = out.split_at_mut(place.value_at as usize);
            let header = value.first_chunk_mut().expect("a value holds at least its header");
            if self.keyed {
                let key_end = before.len() - self.key_gap;
                let key_at = &mut before[key_end - KEY_BYTES..key_end];
                write_key(key, key_at);
                seal(header, stamp, place.filler, key_at);
            } else {
                seal(header, stamp, place.filler, &[]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finish;
    use super::super::tests::FIELDS;
    use super::*;

    #[test]
    fn the_largest_batch_fits_its_limit_and_one_record_more_would_not() {
        let template = Template::new(100, false, Filling::Text, 16384);
        let largest = template.batch_len(template.max_records());
        assert!(largest <= 16384 && largest + 110 > 16384, "{largest}");
        assert_eq!(template.payload_len(3), 300);
    }

    #[test]
    fn a_record_larger_than_the_batch_limit_travels_alone() {
        let template = Template::new(5000, true, Filling::Text, 1000);
        assert_eq!(template.max_records(), 1);
        assert_eq!(template.payload_len(1), 5000 + KEY_BYTES as u64);
    }

    #[test]
    fn a_patched_batch_equals_one_that_is_written_afresh() {
        let template = Template::new(40, true, Filling::Text, 4096);
        let count = 20;
        let records = |from: u64, key: u64| {
            move |n: u32| {
                let number = from + u64::from(n);
                (Stamp { intended_unix_ns: 1000 * number, source: 3, number }, key)
            }
        };
        let mut reused = vec![0; template.batch_len(count)];
        template.write_records(&mut reused, count, false, records(0, 7));
        finish(&mut reused, count, &FIELDS);
        template.write_records(&mut reused, count, true, records(1000, 8));
        finish(&mut reused, count, &FIELDS);
        let mut fresh = vec![0; template.batch_len(count)];
        template.write_records(&mut fresh, count, false, records(1000, 8));
        finish(&mut fresh, count, &FIELDS);
        assert_eq!(reused, fresh);
    }
}
