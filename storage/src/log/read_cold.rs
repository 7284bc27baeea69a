//! Reading from segment files: aligned direct reads, ahead of readers that go on where they left off.
//!
//! All disk reads for readers pass one gate, so that however many there are the journal's writes do not queue behind them for long. What is read
//! goes to readers as slices, without a copy, and never into the tail cache.

use crate::{
    disk::{Disk, DiskFile, DiskResult},
    error::StorageError,
    log::{
        error::ReadError,
        files::SegmentKey,
        partition::LogInner,
        read::{ReadOutcome, Wanted},
        read_ahead::{FoundPiece, PIECE_BYTES_MAX, PIECE_BYTES_MIN, PieceRead, ReadAhead, Reader},
        scan::batch_size_at,
        segment::SegmentMeta,
    },
    store::shared::{Shared, add},
    types::Offset,
};
use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    future::{LocalBoxFuture, select},
    stream::FuturesUnordered,
};
use protocol::records::BatchView;
use std::{pin::pin, rc::Rc};

/// Most bytes that one read of a stranger takes from a segment, unless a single batch is larger.
const STRANGER_BYTES_MAX: usize = 2 << 20;
/// Least bytes that it takes: smaller reads cost as much.
const STRANGER_BYTES_MIN: usize = 64 << 10;

/// Part of a segment in memory.
pub(crate) struct Chunk {
    /// Where it starts in the segment. Bytes.
    start: u64,
    bytes: Bytes,
}

impl Chunk {
    /// What it holds from `position` on.
    pub fn at(&self, position: u64) -> &[u8] {
        self.bytes.get(self.place(position)..).unwrap_or_default()
    }

    fn place(&self, position: u64) -> usize {
        (position - self.start) as usize
    }
}

/// Whole batches of a chunk that a reader takes.
struct Taken {
    start: usize,
    end: usize,
    next_offset: Offset,
    /// The next batch is more than the reader wants or may see.
    is_full: bool,
}

/// Takes what `wanted` asks for from `bytes`, from `at` on, when `have` bytes were taken before.
fn take_batches(bytes: &[u8], at: usize, wanted: Wanted, have: usize) -> Taken {
    let mut taken = Taken { start: at, end: at, next_offset: wanted.from, is_full: false };
    while taken.end < bytes.len()
        && let Ok(batch) = BatchView::parse(&bytes[taken.end..])
    {
        let last_offset = Offset(batch.last_offset());
        if last_offset < wanted.from {
            taken.end += batch.size();
            taken.start = taken.end;
            continue;
        }
        let bytes_before = have + taken.end - taken.start;
        let fits =
            bytes_before + batch.size() <= wanted.max_bytes || (bytes_before == 0 && wanted.at_least_one);
        if !fits || last_offset >= wanted.upper {
            taken.is_full = true;
            break;
        }
        taken.end += batch.size();
        taken.next_offset = last_offset.next();
    }
    taken
}

/// One read of one segment.
struct SegmentRead<'a, D: Disk> {
    log: &'a LogInner<D>,
    segment: &'a SegmentMeta,
    is_active: bool,
    /// How often the log's segment files had been exchanged when this read was planned.
    swaps: u64,
    key: SegmentKey,
    file: Rc<D::File>,
    /// What a read that nobody planned takes. Bytes.
    read_bytes: usize,
    now_ms: i64,
}

impl<D: Disk> LogInner<D> {
    /// Reads from a segment file, of which the caller has learnt when the log's files had been exchanged `swaps` times. `None`: the segment holds nothing at
    /// or after the wanted offset.
    pub(super) async fn read_cold(
        &self,
        segment: &SegmentMeta,
        is_active: bool,
        swaps: u64,
        wanted: Wanted,
    ) -> Result<Option<ReadOutcome>, ReadError> {
        let shared = &self.shared;
        add(&shared.counters.cold_reads, 1);
        if segment.size == 0 {
            return Ok(None);
        }
        let read = SegmentRead {
            log: self,
            segment,
            is_active,
            swaps,
            key: self.segment_key(segment),
            file: self.open_segment(segment).await?,
            read_bytes: wanted.max_bytes.clamp(STRANGER_BYTES_MIN, STRANGER_BYTES_MAX),
            now_ms: shared.now_ms.get(),
        };
        let left_off = shared.read_ahead.borrow_mut().take_reader(self.index, wanted.from);
        let mut window = left_off.as_ref().map_or(0, |reader| reader.window);
        let known = left_off.and_then(|reader| match reader.segment == read.key {
            true => Some(reader.position),
            // It has come to the end of the segment before.
            false => (wanted.from <= segment.base_offset).then_some(0),
        });
        let (mut position, mut chunk) = match known {
            Some(position) if position >= segment.size => return Ok(None),
            Some(position) => {
                window = read.read_ahead(position, window.max(PIECE_BYTES_MIN), wanted.max_bytes);
                let (chunk, has_waited) = read.chunk_at(position).await?;
                if has_waited {
                    window *= 2;
                }
                (position, chunk)
            }
            None => {
                let read_at = async |position| Ok(read.chunk_at(position).await?.0);
                self.read_near(segment, is_active, wanted.from, read_at).await?
            }
        };

        let mut outcome = ReadOutcome { next_offset: wanted.from, ..ReadOutcome::default() };
        loop {
            let wanted = Wanted { from: outcome.next_offset, ..wanted };
            let taken = take_batches(&chunk.bytes, chunk.place(position), wanted, outcome.bytes);
            position = chunk.start + taken.end as u64;
            let has_taken = taken.start < taken.end;
            if has_taken {
                outcome.bytes += taken.end - taken.start;
                outcome.slices.push(chunk.bytes.slice(taken.start..taken.end));
                outcome.next_offset = taken.next_offset;
                shared.read_ahead.borrow_mut().note_read(read.key, chunk.start, position, read.now_ms);
            }
            if taken.is_full || position >= segment.size {
                break;
            }
            if outcome.slices.is_empty() {
                chunk = read.next_chunk(&chunk, position).await?;
            } else if has_taken && let Some(next) = read.chunk_in_memory(position) {
                chunk = next;
            } else {
                break;
            }
        }
        if outcome.slices.is_empty() && position >= segment.size {
            return Ok(None);
        }
        if !read.is_outdated() {
            let reader = Reader { segment: read.key, next_offset: outcome.next_offset, position, window };
            shared.read_ahead.borrow_mut().put_reader(reader, read.now_ms);
        }
        Ok(Some(outcome))
    }
}

impl<D: Disk> SegmentRead<'_, D> {
    /// Whether the log's segment files have been exchanged, or cut, since the read was planned. It goes on, in vain, but leaves nothing behind that others
    /// would take for the segment's: what the log had left of others was forgotten when that began.
    fn is_outdated(&self) -> bool {
        self.log.was_disturbed(self.swaps)
    }

    /// Begins to read the piece at `position` and those that lie in the window behind it. Answers the window that the reader may have.
    fn read_ahead(&self, position: u64, window: usize, max_bytes: usize) -> usize {
        let shared = &self.log.shared;
        let ahead = &mut *shared.read_ahead.borrow_mut();
        let window_max = ahead.window_bytes_max(self.now_ms);
        if window_max < 2 * PIECE_BYTES_MIN || self.is_outdated() {
            return 0;
        }
        let window = window.min(window_max);
        // Of a piece that is much larger than what a reader takes at a time, a slow reader would keep all in memory for a part.
        let piece_bytes =
            max_bytes.saturating_mul(4).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX).min(window_max / 2);
        let end = self.segment.size.min(position + (piece_bytes + window) as u64);
        let mut at = position;
        while at < end {
            if let Some(piece) = ahead.find(self.key, at, self.now_ms) {
                at = piece.end;
                continue;
            }
            let Some(piece_end) = self.piece_end(at, piece_bytes) else { break };
            if !ahead.make_room((piece_end - at) as usize, self.now_ms) {
                break;
            }
            let _read_by_the_loop = self.begin_piece(ahead, (at, piece_end), at != position);
            at = piece_end;
        }
        window
    }

    /// What the segment holds from `position` on, or from before it: a piece that is there, or else one that is read now. Answers too whether
    /// it had to be waited for.
    async fn chunk_at(&self, position: u64) -> Result<(Chunk, bool), ReadError> {
        let shared = &self.log.shared;
        let mut found = self.find(position);
        if found.is_none() {
            let (bytes, size) = (self.read_bytes, self.segment.size);
            let end = self
                .log
                .with_index(self.segment, self.is_active, |i| i.piece_end(position, bytes as u64, size))
                .await?;
            // Somebody else may have begun to read it meanwhile.
            found = self.find(position).or_else(|| {
                let (end, ahead) = (end?, &mut *shared.read_ahead.borrow_mut());
                let is_kept = !self.is_outdated() && ahead.make_room((end - position) as usize, self.now_ms);
                is_kept.then(|| {
                    let read = self.begin_piece(ahead, (position, end), false);
                    FoundPiece { start: position, end, read }
                })
            });
        }
        let Some(FoundPiece { start, end, read }) = found else {
            let rest = usize::try_from(self.segment.size - position).unwrap_or(usize::MAX);
            return Ok((self.read_now(position, self.read_bytes.min(rest)).await?, true));
        };
        let has_waited = read.peek().is_none();
        if !has_waited {
            add(&shared.counters.read_ahead_hits, 1);
        }
        match read.await {
            Ok(bytes) if bytes.len() as u64 == end - start => Ok((Chunk { start, bytes }, has_waited)),
            failed => {
                shared.read_ahead.borrow_mut().discard(self.key, start);
                failed?;
                Err(self.damaged(position, "the file is too short"))
            }
        }
    }

    fn find(&self, position: u64) -> Option<FoundPiece> {
        self.log.shared.read_ahead.borrow_mut().find(self.key, position, self.now_ms)
    }

    /// What is in memory of the segment from `position` on.
    fn chunk_in_memory(&self, position: u64) -> Option<Chunk> {
        let found = self.find(position)?;
        match found.read.peek()? {
            Ok(bytes) if bytes.len() as u64 == found.end - found.start => {
                Some(Chunk { start: found.start, bytes: bytes.clone() })
            }
            _ => None,
        }
    }

    /// More than `chunk` holds of the segment from `position` on, where it does not hold a whole batch.
    async fn next_chunk(&self, chunk: &Chunk, position: u64) -> Result<Chunk, ReadError> {
        let have = chunk.at(position);
        if have.is_empty() {
            return Ok(self.chunk_at(position).await?.0);
        }
        let rest = usize::try_from(self.segment.size - position).unwrap_or(usize::MAX);
        let needed = batch_size_at(have).unwrap_or(0);
        let len = self.read_bytes.max(needed).min(rest);
        if have.len() >= len || needed > rest {
            return Err(self.damaged(position, "not a whole record batch"));
        }
        let chunk = self.read_now(position, len).await?;
        if BatchView::parse(&chunk.bytes).is_err() && batch_size_at(&chunk.bytes).is_none() {
            return Err(self.damaged(position, "not a record batch"));
        }
        Ok(chunk)
    }

    /// Where a piece of about `bytes` from `position` on should end for the next one to begin with a batch. Asks only an index that is in memory.
    fn piece_end(&self, position: u64, bytes: usize) -> Option<u64> {
        let state = self.log.state.borrow();
        let active =
            state.segments.last().filter(|s| self.is_active && s.base_offset == self.segment.base_offset);
        match active {
            Some(_) => state.active_index.piece_end(position, bytes as u64, self.segment.size),
            None => {
                let index = self.log.shared.files.index(self.key)?;
                index.piece_end(position, bytes as u64, self.segment.size)
            }
        }
    }

    /// The reading of a part of the segment, for whoever polls it.
    fn begin(&self, start: u64, end: u64) -> LocalBoxFuture<'static, DiskResult<Bytes>> {
        let (file, gate, len) =
            (self.file.clone(), self.log.shared.gates.reads.clone(), (end - start) as usize);
        add(&self.log.shared.counters.cold_read_bytes, len as u64);
        async move {
            let _pass = gate.enter(len).await;
            file.read_at(start, len).await
        }
        .boxed_local()
    }

    /// Begins to read a piece that others may come for too. The loop that reads ahead sees to it that it ends, whatever becomes of this reader:
    /// else it would keep its place at the gate.
    fn begin_piece(&self, ahead: &mut ReadAhead, (start, end): (u64, u64), is_ahead: bool) -> PieceRead {
        assert!(!self.is_outdated(), "a piece that others come for is of the segment as it is");
        let shared = &self.log.shared;
        let read = ahead.insert(self.key, (start, end), is_ahead, self.begin(start, end), self.now_ms);
        shared.pieces_wanted.borrow_mut().push(read.clone());
        shared.piece_wanted.notify_all();
        read
    }

    /// Reads a part of the segment for this reader alone.
    async fn read_now(&self, position: u64, len: usize) -> Result<Chunk, ReadError> {
        let bytes = self.begin(position, position + len as u64).await?;
        if bytes.len() < len {
            return Err(self.damaged(position, "the file is too short"));
        }
        Ok(Chunk { start: position, bytes })
    }

    fn damaged(&self, position: u64, what: &str) -> ReadError {
        self.log.damaged(self.segment, position, what).into()
    }
}

/// Reads ahead until the store is closed: what readers have planned goes on while nobody waits for it.
pub(crate) async fn run<D: Disk>(shared: Rc<Shared<D>>) -> Result<(), StorageError> {
    let mut reading: FuturesUnordered<PieceRead> = FuturesUnordered::new();
    loop {
        // An error is told to whoever comes for the piece.
        reading.extend(shared.pieces_wanted.take());
        let is_over = || shared.switches.closing.get() || shared.switches.failed.borrow().is_some();
        if is_over() {
            shared.read_ahead.borrow_mut().clear();
            return shared.check_healthy();
        }
        let is_wanted = || is_over() || !shared.pieces_wanted.borrow().is_empty();
        let wanted = pin!(shared.piece_wanted.wait_until(is_wanted));
        if reading.is_empty() {
            wanted.await;
        } else {
            select(wanted, reading.next()).await;
        }
    }
}
