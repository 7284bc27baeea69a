//! The records that every partition seems to hold: made once, served as often as they are asked for.

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::unix_ms;
use crate::payload::{BatchFields, Filling, Payload, PayloadPlan, Sizes, Stamp, finish};

/// Whole batches in one piece of memory.
pub struct PreparedLog {
    bytes: Bytes,
    /// First offset and place of each batch, ascending, and behind them the end of both.
    batches: Vec<(i64, usize)>,
}

impl PreparedLog {
    /// As many batches as `log_bytes` hold, and one at least.
    pub fn new(sizes: Sizes, filling: Filling, batch_bytes: usize, log_bytes: usize) -> PreparedLog {
        let payload = Payload::new(&PayloadPlan { sizes, filling, keyed: false, batch_bytes });
        let source = Uuid::new_v4().as_u128() as u32;
        let now_ms = unix_ms();
        let mut bytes = Vec::with_capacity(log_bytes);
        let mut batches = vec![(0, 0)];
        let mut offset: i64 = 0;
        loop {
            let count = payload.room(offset as u64);
            let start = bytes.len();
            let end = start + payload.extent(offset as u64, count).batch_bytes;
            if end > log_bytes && start > 0 {
                return PreparedLog { bytes: bytes.into(), batches };
            }
            bytes.resize(end, 0);
            payload.write_records(&mut bytes[start..], offset as u64, count, false, |n| {
                let number = offset as u64 + u64::from(n);
                (Stamp { intended_unix_ns: now_ms * 1_000_000, source, number }, 0)
            });
            let fields = BatchFields {
                base_offset: offset,
                timestamp_ms: now_ms as i64,
                attributes: 0,
                producer_id: -1,
                producer_epoch: -1,
                base_sequence: -1,
            };
            finish(&mut bytes[start..], count, &fields);
            offset += i64::from(count);
            batches.push((offset, end));
        }
    }

    /// The offset behind the last record.
    pub fn end_offset(&self) -> i64 {
        self.batches.last().map_or(0, |(offset, _)| *offset)
    }

    /// The batches from the one with `offset` on, at most `max_bytes` of them but one at least; nothing at the end.
    pub fn read(&self, offset: i64, max_bytes: usize) -> Bytes {
        if offset >= self.end_offset() {
            return Bytes::new();
        }
        let first = self.batches.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        let from = self.batches[first].1;
        let behind = self.batches.partition_point(|(_, place)| *place <= from + max_bytes) - 1;
        self.bytes.slice(from..self.batches[behind.max(first + 1)].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::records::iter_batches;

    #[test]
    fn reading_yields_whole_batches_from_any_offset() {
        let log = PreparedLog::new("100".parse().expect("a size"), Filling::Zeros, 1000, 10_000);
        let mut offset = 0;
        let mut reads = 0;
        while offset < log.end_offset() {
            let bytes = log.read(offset, 2500);
            let batches: Vec<_> = iter_batches(&bytes).map(|batch| batch.expect("whole")).collect();
            assert!(bytes.len() <= 2500 && batches[0].base_offset() == offset);
            batches.iter().for_each(|batch| batch.check_crc().expect("the right CRC"));
            offset = batches.last().expect("one at least").next_offset();
            reads += 1;
        }
        assert!(reads >= 4 && log.read(offset, 2500).is_empty());
        let batch = log.read(0, 1);
        assert_eq!(iter_batches(&batch).count(), 1, "one batch at least");
        assert_eq!(log.read(1, 1), batch, "an offset inside of a batch");
    }
}
