//! Large batches are written once: straight to their segment. The journal holds only their offsets and checksum.
//!
//! A batch from [`StoreConfig::direct_from_bytes`](crate::store::StoreConfig) on is copied into a buffer of its own, laid out as the segment's
//! blocks will be, and an entry that names it goes into the commit that is gathering. That commit is *held*: the journal does not write it before
//! the batch is in the segment and durable there, so an entry that is found at a start always has its batch, and an acknowledgement means
//! what it always means. Later appends gather in later commits meanwhile.
//!
//! Batches of one log are written in order, with O_DSYNC, by one task at a time; whatever of the log is only in the journal before them goes along. So all
//! of a segment below such a batch is durable, and the recovery of the segment's tail, which goes from batch to batch, always comes to it. Different logs
//! write at the same time.
//!
//! Where that cannot be done at once (no segment yet, one that is to be closed, no space reserved in it) the batch goes into the journal as any other, and
//! the log is prepared for the next one. Where the disk is full while a commit waits, it goes on waiting until there is space. Nothing but speed depends on the planned place: if it turns out to be another one the bytes are copied there.

use crate::{
    cache::{DirectBuffer, LogIndex},
    disk::{BLOCK, Disk, DiskFile, block_align},
    error::StorageError,
    journal::{Appended, CommitSeq, Durability, EntryHeader, EntryKind, Location, batch_summary},
    log::{
        direct::DirectEnd,
        error::AppendError,
        partition::LogInner,
        segment::NextBatch,
        state::LogState,
        tail::{TailBatch, own_buffer},
    },
    store::{
        shared::{Shared, Switches, add},
        writer::{Step, WriteMode},
    },
    wake::{ByteGate, Notify},
};
use futures::{StreamExt, stream::FuturesUnordered};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::Poll,
};

/// A log is prepared for direct writes when it has so many times the least size of a large batch to be flushed: that must be worth a sync.
const PREPARE_FROM_BATCHES: u64 = 4;
/// Space is reserved in a segment in steps of so much, ahead of the writes. Bytes.
const RESERVE_STEP_BYTES: u64 = 64 << 20;
/// Bytes of durable writes under way at once.
const DURABLE_BYTES_IN_FLIGHT: usize = 8 << 20;

/// Logs that somebody has to write for.
#[derive(Debug)]
pub(crate) struct DirectQueue {
    logs: RefCell<Vec<LogIndex>>,
    wanted: Notify,
    /// Logs whose large batches wait for space on the disk, and commits for them.
    awaiting_space: Cell<usize>,
    /// Bounds what is under way at once.
    pub gate: ByteGate,
}

impl Default for DirectQueue {
    fn default() -> Self {
        Self {
            logs: RefCell::default(),
            wanted: Notify::default(),
            awaiting_space: Cell::default(),
            gate: ByteGate::new(DURABLE_BYTES_IN_FLIGHT),
        }
    }
}

impl DirectQueue {
    /// Wakes [`run`], which looks whether it is over.
    pub fn wake(&self) {
        self.wanted.notify_all();
    }

    /// Whether commits wait for space on the disk.
    pub fn awaits_space(&self) -> bool {
        self.awaiting_space.get() > 0
    }
}

/// A large batch on its way, and what is known of its place.
pub(crate) struct DirectAppend {
    /// The commit that names it, and its place in memory.
    pub appended: Appended,
    end: Option<DirectEnd>,
    buffer: DirectBuffer,
}

impl<D: Disk> LogInner<D> {
    /// Appends a large batch to the log's segment, if it is one and that is possible now. `patch` gives the copy its offsets.
    pub(crate) fn append_direct(
        &self,
        state: &LogState,
        header: &EntryHeader,
        durability: Durability,
        batch: &[u8],
        max_timestamp: i64,
        patch: impl FnOnce(&mut [u8]),
    ) -> Result<Option<DirectAppend>, AppendError> {
        let shared = &self.shared;
        if batch.len() < shared.config.direct_from_bytes || durability != Durability::Sync {
            return Ok(None);
        }
        // Compaction exchanges segments while nobody writes to the log.
        if state.config.cleanup_compact {
            return Ok(None);
        }
        let next = NextBatch { last_offset: header.last_offset, size: batch.len() as u32, max_timestamp };
        let Some(planned) = state.plan_direct(next, self.index.into()) else {
            return Ok(None);
        };

        let before = state.block_before(planned);
        let lead = planned.lead();
        let end = lead + batch.len();
        let mut buffer = shared.disk.alloc(end);
        match before {
            Some(block) => buffer[..lead].copy_from_slice(block),
            None => buffer[..lead].fill(0),
        }
        buffer[lead..end].copy_from_slice(batch);
        patch(&mut buffer[lead..end]);
        buffer[end..block_align(end)].fill(0);
        let buffer = buffer.freeze();

        if let Some(last) = state.tail.last().filter(|last| !last.has_own_buffer()) {
            // Its bytes can be written only when its commit has begun to be, so that must not be the one that waits for this batch.
            shared.journal.seal_through(CommitSeq(last.commit));
        }
        let summary = batch_summary(&buffer.slice(lead..end));
        let entry = EntryHeader { kind: EntryKind::BatchInSegment, ..*header };
        let commit = shared.journal.append(&entry, durability, &[&summary], |_| {})?.commit;
        shared.journal.hold(commit);
        let number = shared.cache.borrow().direct_len(commit.0);
        let location = Location { start: own_buffer(number), len: batch.len() as u32 };
        let appended = Appended { commit, location };

        let last_block = end - end % BLOCK;
        let is_end_known = before.is_some() || last_block >= lead;
        let end = is_end_known.then(|| DirectEnd {
            offset: header.last_offset.next(),
            position: planned.position + batch.len() as u64,
            block: buffer.slice(last_block..end).to_vec(),
        });
        let position = before.is_some().then_some(planned.position);
        let buffer = DirectBuffer { data: buffer, lead, bytes: batch.len(), position };
        Ok(Some(DirectAppend { appended, end, buffer }))
    }

    /// The batch of a direct append has been noted in the log: keeps its bytes for readers, and has it written.
    pub(crate) fn begin_direct(&self, state: &mut LogState, tail: &TailBatch, append: DirectAppend) {
        state.note_direct(tail, append.end);
        self.shared.cache.borrow_mut().put_direct(tail.commit, append.buffer);
        add(&self.shared.counters.direct_bytes, tail.size.into());
        self.queue_direct(state);
    }

    /// A large batch had to go into the journal: has the log prepared for the next one, if enough has gathered.
    pub(crate) fn prepare_direct(&self, state: &mut LogState, size: usize) {
        let from = self.shared.config.direct_from_bytes;
        let is_worth_it =
            size >= from && state.unwritten_bytes >= (from as u64).saturating_mul(PREPARE_FROM_BATCHES);
        if is_worth_it && !state.config.cleanup_compact {
            self.queue_direct(state);
        }
    }

    fn queue_direct(&self, state: &mut LogState) {
        let direct = state.direct.get_or_insert_default();
        if !std::mem::replace(&mut direct.is_queued, true) {
            let queue = &self.shared.direct;
            queue.logs.borrow_mut().push(self.index);
            queue.wake();
        }
    }

    /// Writes to the segment, durably, until no large batch is waited for, and lets their commits go. Beforehand, what the log has in memory now: then the next
    /// large batch finds the segment ready for it.
    async fn write_direct(&self) -> Result<(), StorageError> {
        let shared = &self.shared;
        let mut writing = self.writing().await;
        let prepare_to = self.state.borrow().log_end;
        let mut last_block = None;
        loop {
            let (is_waited_for, is_prepared) = {
                let state = self.state.borrow();
                (state.has_pending_direct(), state.written_end >= prepare_to)
            };
            if !is_waited_for && (is_prepared || !self.has_step()) {
                self.reserve_ahead().await?;
                let mut state = self.state.borrow_mut();
                if !state.has_pending_direct() {
                    state.direct.get_or_insert_default().is_queued = false;
                    return Ok(());
                }
                continue;
            }
            let done = match self.next_step(WriteMode::Durable, u64::MAX) {
                // What is before the next large batch is in a commit that has yet to begin.
                Step::Nothing => {
                    let failed = || shared.switches.failed.borrow().is_some();
                    shared.frozen.wait_until(|| self.has_step() || failed()).await;
                    if failed() {
                        return Ok(());
                    }
                    continue;
                }
                Step::Roll => self.roll().await.map(|()| None),
                Step::Write(batches) => self.write(WriteMode::Durable, &batches, last_block).await.map(Some),
                Step::Whole(batch, buffer) => {
                    self.write_whole(WriteMode::Durable, &batch, &buffer).await.map(Some)
                }
            };
            last_block = match done {
                Ok(block) => block,
                Err(error) if error.is_out_of_space() => {
                    // Retention, which may free some, writes to the log, too.
                    drop(writing);
                    if !self.waits_for_space(error).await? {
                        return Ok(());
                    }
                    writing = self.writing().await;
                    None
                }
                Err(error) => return Err(error),
            };
            let safe = self.state.borrow_mut().take_safe();
            for commit in safe {
                shared.journal.let_go(CommitSeq(commit));
            }
        }
    }

    /// A write has found no space: waits until it may be tried again. Says no if nobody waits for it, or if the store has failed.
    async fn waits_for_space(&self, error: StorageError) -> Result<bool, StorageError> {
        let shared = &self.shared;
        {
            let mut state = self.state.borrow_mut();
            if !state.has_pending_direct() {
                state.direct.get_or_insert_default().is_queued = false;
                return Ok(false);
            }
        }
        shared.note_out_of_space(&error);
        let Switches { flush_blocked, closing, failed, .. } = &shared.switches;
        let awaiting = &shared.direct.awaiting_space;
        awaiting.set(awaiting.get() + 1);
        let is_over = || closing.get() || failed.borrow().is_some();
        shared.room.wait_until(|| is_over() || !flush_blocked.get()).await;
        awaiting.set(awaiting.get() - 1);
        if closing.get() { Err(error) } else { Ok(failed.borrow().is_none()) }
    }

    /// Whether the oldest batch that the segments lack is in memory for writing.
    fn has_step(&self) -> bool {
        let state = self.state.borrow();
        let first = state.tail.from(state.written_end).next();
        first.is_some_and(|b| self.shared.cache.borrow().slice(b.commit, b.at, b.size).is_some())
    }

    /// Reserves space in the active segment for the next large batches. A disk without space is no error here: they go through the journal then.
    async fn reserve_ahead(&self) -> Result<(), StorageError> {
        let (active, target) = {
            let state = self.state.borrow();
            let Some(active) = state.segments.last().copied() else { return Ok(()) };
            let planned = active.size + state.unwritten_bytes;
            let limit = state.config.segment_bytes.next_multiple_of(BLOCK as u64);
            let step = RESERVE_STEP_BYTES.min(limit);
            if state.preallocated >= limit || state.preallocated >= planned + step / 2 {
                return Ok(());
            }
            (active, (planned + step).next_multiple_of(step).min(limit))
        };
        let file = self.segment_for_writing(active.base_offset).await?;
        match file.preallocate(target).await {
            Ok(()) => {
                let mut state = self.state.borrow_mut();
                state.preallocated = state.preallocated.max(target);
                Ok(())
            }
            Err(error) if error.is_out_of_space() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Writes large batches of all logs as they come, until the store is closed. An error is final: commits wait for what cannot be written. A full disk is one only
/// if the store is closed meanwhile.
pub(crate) async fn run<D: Disk>(shared: Rc<Shared<D>>) -> Result<(), StorageError> {
    let mut running = FuturesUnordered::new();
    loop {
        for index in shared.direct.logs.take() {
            if let Some(log) = shared.log(index) {
                running.push(async move { log.write_direct().await });
            }
        }
        shared.check_healthy()?;
        if running.is_empty() && shared.switches.closing.get() {
            return Ok(());
        }
        let is_idle = running.is_empty();
        let is_woken = || {
            !shared.direct.logs.borrow().is_empty()
                || shared.switches.failed.borrow().is_some()
                || (is_idle && shared.switches.closing.get())
        };
        let mut woken = pin!(shared.direct.wanted.wait_until(is_woken));
        let finished = poll_fn(|cx| match running.poll_next_unpin(cx) {
            Poll::Ready(Some(outcome)) => Poll::Ready(Some(outcome)),
            _ => woken.as_mut().poll(cx).map(|()| None),
        })
        .await;
        if let Some(Err(error)) = finished {
            shared.fail(&error);
            return Err(error);
        }
    }
}
