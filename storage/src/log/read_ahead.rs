//! What sequential readers of cold data will want next: where their next batch stands, and bytes that were read already. Pure.

use crate::{cache::LogIndex, types::Offset};
use bytes::Bytes;
use std::collections::VecDeque;

/// Where a reader left off.
#[derive(Debug, Clone)]
pub(crate) struct ReadPosition {
    pub log: LogIndex,
    /// The offset that the reader will ask for.
    pub next_offset: Offset,
    pub segment_base: Offset,
    pub segment_revision: u64,
    /// Position of the batch that follows what the reader has got. Bytes.
    pub position: u64,
    /// Bytes of the segment from `position` on; may be empty.
    pub bytes: Bytes,
    /// What keeping `bytes` costs. Bytes.
    pub retained_bytes: usize,
}

/// The positions of the latest readers, bounded in number and bytes.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    positions: VecDeque<ReadPosition>,
    retained_bytes: usize,
    max_bytes: usize,
}

const MAX_POSITIONS: usize = 256;

impl ReadAhead {
    pub fn new(max_bytes: usize) -> Self {
        Self { positions: VecDeque::new(), retained_bytes: 0, max_bytes }
    }

    /// Takes out where the reader that now asks for `offset` left off.
    pub fn take(&mut self, log: LogIndex, offset: Offset) -> Option<ReadPosition> {
        let at = self.positions.iter().rposition(|p| p.log == log && p.next_offset == offset)?;
        let position = self.positions.remove(at)?;
        self.retained_bytes -= position.retained_bytes;
        Some(position)
    }

    /// Remembers where a reader left off.
    pub fn put(&mut self, position: ReadPosition) {
        self.retained_bytes += position.retained_bytes;
        self.positions.push_back(position);
        while self.retained_bytes > self.max_bytes || self.positions.len() > MAX_POSITIONS {
            let Some(oldest) = self.positions.pop_front() else { break };
            self.retained_bytes -= oldest.retained_bytes;
        }
    }

    /// Forgets all about a log.
    pub fn forget(&mut self, log: LogIndex) {
        self.positions.retain(|p| p.log != log);
        self.retained_bytes = self.positions.iter().map(|p| p.retained_bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(log: LogIndex, next: i64, retained_bytes: usize) -> ReadPosition {
        let next_offset = Offset(next);
        ReadPosition {
            log,
            next_offset,
            segment_base: Offset(0),
            segment_revision: 0,
            position: 0,
            bytes: Bytes::new(),
            retained_bytes,
        }
    }

    #[test]
    fn a_position_is_handed_out_once_and_the_bound_holds() {
        let mut r = ReadAhead::new(100);
        r.put(position(1, 10, 60));
        r.put(position(2, 10, 30));
        assert!(r.take(1, Offset(11)).is_none());
        assert!(r.take(1, Offset(10)).is_some());
        assert!(r.take(1, Offset(10)).is_none());
        r.put(position(3, 0, 90));
        assert!(r.take(2, Offset(10)).is_none(), "pushed out");
        r.forget(3);
        assert_eq!((r.retained_bytes, r.positions.len()), (0, 0));
    }
}
