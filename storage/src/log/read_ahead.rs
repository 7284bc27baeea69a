//! What readers of cold data will want next: where each of them left off, and pieces of segments that are in memory or on their way there.
//!
//! A reader is known by the partition and the offset that it asks for next, not by its connection. A piece is known by its place in its segment, so
//! readers that are near each other share pieces. It starts and ends between batches: its end comes from the segment's index.
//!
//! A reader that goes on where it left off gets a window: so many bytes are read ahead of it. The window grows when the reader had to wait, up
//! to its fair part of the bound; so a slow reader holds little, and where there are too many readers nothing is read ahead. Room is made of pieces
//! that have been read, oldest first, and of those that nobody has come for; never of what an active reader is about to want.
//!
//! Decides without I/O: a piece's reading is a future that is made elsewhere.

use crate::{cache::LogIndex, disk::DiskResult, log::files::SegmentKey, types::Offset};
use bytes::Bytes;
use futures::{
    FutureExt,
    future::{LocalBoxFuture, Shared},
};
use std::collections::{BTreeMap, VecDeque};

/// Most bytes of a piece that is read ahead, unless a single batch is larger.
pub(crate) const PIECE_BYTES_MAX: usize = 256 << 10;
/// Least bytes of a piece, but at the end of a segment: smaller reads cost as much.
pub(crate) const PIECE_BYTES_MIN: usize = 128 << 10;
/// Most bytes that are read ahead of one reader.
const WINDOW_BYTES_MAX: usize = 4 << 20;
/// Readers that are remembered.
const READERS_MAX: usize = 256;
/// Who has not read for this long has no part of the bound, and what was read ahead of him may go. Milliseconds.
const IDLE_MS: i64 = 5_000;

/// The reading of a piece: done by whoever waits for it, and by the loop that reads ahead.
pub(crate) type PieceRead = Shared<LocalBoxFuture<'static, DiskResult<Bytes>>>;

/// A reader that goes through a log in order.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    /// The segment that its last read was of.
    pub segment: SegmentKey,
    /// The offset that it will ask for.
    pub next_offset: Offset,
    /// Position in the segment of the batch that follows what the reader has got. Bytes.
    pub position: u64,
    /// How much is read ahead of it. Bytes.
    pub window: usize,
}

/// Part of a segment.
struct Piece {
    /// Where it ends in the segment. Bytes.
    end: u64,
    /// Up to where somebody has read. Bytes.
    read_to: u64,
    /// Nobody had asked for it when it was read.
    is_ahead: bool,
    used_ms: i64,
    read: PieceRead,
}

/// A piece that a reader has found.
#[derive(Clone)]
pub(crate) struct FoundPiece {
    /// Where it starts in the segment. Bytes.
    pub start: u64,
    /// Where it ends. Bytes.
    pub end: u64,
    /// Its bytes, now or soon.
    pub read: PieceRead,
}

/// What became of what was read ahead, since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReadAheadStats {
    /// Bytes of pieces in memory or on their way there.
    pub bytes: usize,
    /// Bytes that were read ahead and dropped before anybody wanted them.
    pub wasted_bytes: u64,
}

/// The readers of a shard and the pieces for them, bounded in number and bytes.
pub(crate) struct ReadAhead {
    /// With the time of each one's last read, oldest first.
    readers: VecDeque<(Reader, i64)>,
    /// By segment and start.
    pieces: BTreeMap<(SegmentKey, u64), Piece>,
    bytes: usize,
    bytes_max: usize,
    wasted_bytes: u64,
}

impl Piece {
    fn is_spent(&self, now_ms: i64) -> bool {
        self.read_to >= self.end || now_ms.saturating_sub(self.used_ms) >= IDLE_MS
    }
}

impl ReadAhead {
    pub fn new(bytes_max: usize) -> Self {
        Self { readers: VecDeque::new(), pieces: BTreeMap::new(), bytes: 0, bytes_max, wasted_bytes: 0 }
    }

    /// Takes out the reader that now asks for `offset`, if one left off there.
    pub fn take_reader(&mut self, log: LogIndex, offset: Offset) -> Option<Reader> {
        let at = self.readers.iter().rposition(|(r, _)| r.segment.0 == log && r.next_offset == offset)?;
        self.readers.remove(at).map(|(reader, _)| reader)
    }

    /// Remembers where a reader left off.
    pub fn put_reader(&mut self, reader: Reader, now_ms: i64) {
        self.readers.push_back((reader, now_ms));
        if self.readers.len() > READERS_MAX {
            self.readers.pop_front();
        }
    }

    /// How many bytes may be read ahead of each reader at present, one that has been taken out included.
    pub fn window_bytes_max(&self, now_ms: i64) -> usize {
        let active =
            self.readers.iter().rev().take_while(|(_, used_ms)| now_ms.saturating_sub(*used_ms) < IDLE_MS);
        (self.bytes_max / (active.count() + 1)).min(WINDOW_BYTES_MAX)
    }

    /// The piece that holds `position` of a segment, for a reader who wants it now or soon.
    pub fn find(&mut self, segment: SegmentKey, position: u64, now_ms: i64) -> Option<FoundPiece> {
        let (&(found, start), piece) = self.pieces.range_mut(..=(segment, position)).next_back()?;
        let is_it = found == segment && position < piece.end;
        is_it.then(|| {
            piece.used_ms = now_ms;
            FoundPiece { start, end: piece.end, read: piece.read.clone() }
        })
    }

    /// Makes room for a piece of `bytes`; false if what is kept is still wanted.
    pub fn make_room(&mut self, bytes: usize, now_ms: i64) -> bool {
        while self.bytes + bytes > self.bytes_max {
            let spent = self.pieces.iter().filter(|(_, piece)| piece.is_spent(now_ms));
            let Some((&key, _)) = spent.min_by_key(|(_, piece)| piece.used_ms) else { return false };
            self.remove(key);
        }
        true
    }

    /// Keeps a piece, `start..end` of a segment, for which there is room.
    pub fn insert(
        &mut self,
        segment: SegmentKey,
        (start, end): (u64, u64),
        is_ahead: bool,
        read: LocalBoxFuture<'static, DiskResult<Bytes>>,
        now_ms: i64,
    ) -> PieceRead {
        self.remove((segment, start));
        let read = read.shared();
        self.bytes += (end - start) as usize;
        let piece = Piece { end, read_to: start, is_ahead, used_ms: now_ms, read: read.clone() };
        self.pieces.insert((segment, start), piece);
        read
    }

    /// A reader has read the piece that starts at `start` up to `position`.
    pub fn note_read(&mut self, segment: SegmentKey, start: u64, position: u64, now_ms: i64) {
        if let Some(piece) = self.pieces.get_mut(&(segment, start)) {
            piece.read_to = piece.read_to.max(position);
            piece.used_ms = now_ms;
        }
    }

    /// Drops the piece that starts at `start`: it is not what it should be.
    pub fn discard(&mut self, segment: SegmentKey, start: u64) {
        self.remove((segment, start));
    }

    fn remove(&mut self, key: (SegmentKey, u64)) {
        if let Some(piece) = self.pieces.remove(&key) {
            self.bytes -= (piece.end - key.1) as usize;
            if piece.is_ahead {
                self.wasted_bytes += piece.end - piece.read_to;
            }
        }
    }

    /// Drops what has not been used for long.
    pub fn expire(&mut self, now_ms: i64) {
        let old = self.pieces.iter().filter(|(_, piece)| now_ms.saturating_sub(piece.used_ms) >= IDLE_MS);
        for key in old.map(|(&key, _)| key).collect::<Vec<_>>() {
            self.remove(key);
        }
    }

    /// Forgets all about a log.
    pub fn forget(&mut self, log: LogIndex) {
        self.readers.retain(|(reader, _)| reader.segment.0 != log);
        let its = ((log, Offset(i64::MIN), 0), 0)..=((log, Offset(i64::MAX), u64::MAX), u64::MAX);
        for key in self.pieces.range(its).map(|(&key, _)| key).collect::<Vec<_>>() {
            self.remove(key);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self { wasted_bytes: self.wasted_bytes, ..Self::new(self.bytes_max) };
    }

    pub fn stats(&self) -> ReadAheadStats {
        ReadAheadStats { bytes: self.bytes, wasted_bytes: self.wasted_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::ready;

    const SEGMENT: SegmentKey = (1, Offset(0), 0);

    fn reader(log: LogIndex, next: i64) -> Reader {
        Reader { segment: (log, Offset(0), 0), next_offset: Offset(next), position: 0, window: 0 }
    }

    fn insert(r: &mut ReadAhead, segment: SegmentKey, start: u64, end: u64, now_ms: i64) {
        let bytes = Bytes::from(vec![0; (end - start) as usize]);
        drop(r.insert(segment, (start, end), true, ready(Ok(bytes)).boxed_local(), now_ms));
    }

    #[test]
    fn a_reader_is_known_by_the_offset_that_it_asks_for_next() {
        let mut r = ReadAhead::new(100);
        r.put_reader(reader(1, 10), 0);
        r.put_reader(reader(2, 10), 0);
        assert!(r.take_reader(1, Offset(11)).is_none());
        assert!(r.take_reader(1, Offset(10)).is_some());
        assert!(r.take_reader(1, Offset(10)).is_none(), "it is reading");
        for n in 0..READERS_MAX as i64 {
            r.put_reader(reader(3, n), 0);
        }
        assert!(r.take_reader(2, Offset(10)).is_none(), "the oldest was forgotten");
    }

    #[test]
    fn the_bound_is_shared_out_among_those_who_read_at_present() {
        let mut r = ReadAhead::new(8 << 20);
        assert_eq!(r.window_bytes_max(0), WINDOW_BYTES_MAX);
        for n in 0..7 {
            r.put_reader(reader(1, n), 0);
        }
        assert_eq!(r.window_bytes_max(0), 1 << 20);
        r.put_reader(reader(2, 0), IDLE_MS);
        assert_eq!(r.window_bytes_max(IDLE_MS), WINDOW_BYTES_MAX, "seven have stopped");
    }

    #[test]
    fn a_position_is_found_in_the_piece_that_holds_it() {
        let mut r = ReadAhead::new(1000);
        insert(&mut r, SEGMENT, 100, 200, 0);
        insert(&mut r, SEGMENT, 200, 250, 0);
        let mut found =
            |segment, position| r.find(segment, position, 0).map(|piece| (piece.start, piece.end));
        assert_eq!(found(SEGMENT, 99), None);
        assert_eq!(found(SEGMENT, 199), Some((100, 200)));
        assert_eq!(found(SEGMENT, 200), Some((200, 250)));
        assert_eq!(found(SEGMENT, 250), None);
        assert_eq!(found((1, Offset(0), 1), 220), None, "another file of that name");
    }

    #[test]
    fn room_is_made_of_what_was_read_and_of_what_nobody_came_for_only() {
        let mut r = ReadAhead::new(300);
        insert(&mut r, SEGMENT, 0, 100, 0);
        insert(&mut r, SEGMENT, 100, 200, 1);
        insert(&mut r, SEGMENT, 200, 300, 2);
        assert!(!r.make_room(100, 2), "all are wanted");
        r.note_read(SEGMENT, 100, 150, 3);
        assert!(!r.make_room(100, 3), "half of it is to come");
        r.note_read(SEGMENT, 100, 200, 4);
        assert!(r.make_room(100, 4));
        assert!(r.find(SEGMENT, 100, 0).is_none() && r.find(SEGMENT, 0, 0).is_some());
        assert_eq!(r.stats(), ReadAheadStats { bytes: 200, wasted_bytes: 0 });
        assert!(r.make_room(300, IDLE_MS + 2), "nobody came");
        assert_eq!(r.stats(), ReadAheadStats { bytes: 0, wasted_bytes: 200 });
    }

    #[test]
    fn a_log_is_forgotten_with_its_readers_and_pieces() {
        let mut r = ReadAhead::new(1000);
        for log in 1..=3 {
            r.put_reader(reader(log, 0), 0);
            insert(&mut r, (log, Offset(5), 7), 0, 10, 0);
        }
        r.forget(2);
        assert_eq!((r.stats().bytes, r.readers.len()), (20, 2));
        assert!(r.find((2, Offset(5), 7), 0, 0).is_none());
        r.expire(IDLE_MS);
        assert_eq!(r.stats().bytes, 0);
    }
}
