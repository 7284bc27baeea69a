//! Batches of records whose sizes are drawn: written afresh for every send, the filler taken from a pool.

use super::filler::Filler;
use super::header::{Stamp, VALUE_HEADER_BYTES, filler_checksum, seal};
use super::key::{KEY_BYTES, write_key};
use super::random::scramble;
use super::sizes::DrawnSizes;
use super::{BATCH_HEADER_BYTES, Extent, PayloadPlan, body_len, put_record_head, varint_len};

/// Filler beyond the largest value, so that values begin at different places of it.
const POOL_BYTES: usize = 4 << 20;

/// Makes batches of records of drawn sizes.
#[derive(Debug)]
pub struct Varied {
    sizes: DrawnSizes,
    pool: Vec<u8>,
    keyed: bool,
    batch_bytes: usize,
    largest_value: usize,
}

impl Varied {
    /// The payload of a run.
    pub fn new(plan: &PayloadPlan) -> Varied {
        let largest_value = plan.sizes.largest();
        let mut pool = Vec::new();
        Filler::new(plan.filling).fill(POOL_BYTES + largest_value, &mut pool);
        Varied {
            sizes: plan.sizes.draw(),
            pool,
            keyed: plan.keyed,
            batch_bytes: plan.batch_bytes,
            largest_value,
        }
    }

    fn key_bytes(&self) -> usize {
        if self.keyed { KEY_BYTES } else { 0 }
    }

    /// Bytes of record `at` with its length field.
    #[inline]
    fn record_len(&self, at: u64, offset_delta: u32) -> usize {
        let body = body_len(offset_delta, self.key_bytes(), self.sizes.of(at));
        varint_len(body as i64) + body
    }

    /// See [`super::Payload::room`].
    pub fn room(&self, at: u64) -> u32 {
        let mut bytes = BATCH_HEADER_BYTES;
        let mut count = 0;
        loop {
            bytes += self.record_len(at.wrapping_add(u64::from(count)), count);
            if bytes > self.batch_bytes {
                return count.max(1);
            }
            count += 1;
        }
    }

    /// See [`super::Payload::largest_batch`].
    pub fn largest_batch(&self) -> usize {
        let body = body_len(0, self.key_bytes(), self.largest_value);
        self.batch_bytes.max(BATCH_HEADER_BYTES + varint_len(body as i64) + body)
    }

    /// See [`super::Payload::extent`].
    pub fn extent(&self, at: u64, count: u32) -> Extent {
        let mut extent = Extent { batch_bytes: BATCH_HEADER_BYTES, payload_bytes: 0 };
        for delta in 0..count {
            let at = at.wrapping_add(u64::from(delta));
            extent.batch_bytes += self.record_len(at, delta);
            extent.payload_bytes += (self.key_bytes() + self.sizes.of(at)) as u64;
        }
        extent
    }

    /// See [`super::Payload::write_records`].
    pub fn write_records(
        &self,
        out: &mut [u8],
        at: u64,
        count: u32,
        mut stamp_and_key: impl FnMut(u32) -> (Stamp, u64),
    ) {
        let mut rest = &mut out[BATCH_HEADER_BYTES..];
        for delta in 0..count {
            let at = at.wrapping_add(u64::from(delta));
            let (stamp, key) = stamp_and_key(delta);
            let value_bytes = self.sizes.of(at);
            let head = put_record_head(rest, delta, self.key_bytes(), value_bytes);
            let (before, value) = rest.split_at_mut(head);
            let (value, behind) = value.split_at_mut(value_bytes);
            let from = scramble(at ^ 0x5eed) as usize % POOL_BYTES;
            let filler = &self.pool[from..from + value_bytes - VALUE_HEADER_BYTES];
            value[VALUE_HEADER_BYTES..].copy_from_slice(filler);
            let header = value.first_chunk_mut().expect("a value holds at least its header");
            let key_end = before.len() - varint_len(value_bytes as i64);
            let key_at = &mut before[key_end - self.key_bytes()..key_end];
            write_key(key, key_at);
            seal(header, stamp, filler_checksum(filler), key_at);
            behind[0] = 0; // headers
            rest = &mut behind[1..];
        }
    }
}
