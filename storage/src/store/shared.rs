//! What all logs of a shard share: journal, caches, files, switches and counters.

use crate::{
    cache::{CommitCache, LogIndex},
    disk::Disk,
    error::{DiskError, StorageError},
    journal::{CommitSeq, Journal, JournalEvent, Pressure},
    log::{
        files::FileCache,
        partition::LogInner,
        read_ahead::{PieceRead, ReadAhead},
    },
    store::{
        config::{CommitEvent, HighWatermarkMode, StoreConfig},
        direct::DirectQueue,
        disk_gates::DiskGates,
        pacing::{PRESSED_FROM, Throttle},
    },
    types::TopicIdPartition,
    wake::Notify,
};
use ahash::AHashMap;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    path::PathBuf,
    rc::Rc,
};

/// Counters since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub appended_batches: Cell<u64>,
    pub appended_bytes: Cell<u64>,
    pub flush_rounds: Cell<u64>,
    pub flushed_bytes: Cell<u64>,
    /// In whole blocks, the last one of a segment each time that it is written.
    pub segment_written_bytes: Cell<u64>,
    /// Of large batches that went straight to segments.
    pub direct_bytes: Cell<u64>,
    pub segment_syncs: Cell<u64>,
    pub cache_reads: Cell<u64>,
    pub cold_reads: Cell<u64>,
    pub cold_read_bytes: Cell<u64>,
    pub read_ahead_hits: Cell<u64>,
    pub cleaner_runs: Cell<u64>,
    pub cleaner_read_bytes: Cell<u64>,
    pub cleaner_written_bytes: Cell<u64>,
}

pub(crate) fn add(counter: &Cell<u64>, n: u64) {
    counter.set(counter.get() + n);
}

/// Why the store takes no data at present.
#[derive(Debug, Default)]
pub(crate) struct Switches {
    pub low_space: Cell<Option<u64>>,
    /// A flush has found no space, and none has succeeded since; the file system may say that there is plenty (quotas).
    pub is_out_of_space: Cell<bool>,
    pub migrating: Cell<bool>,
    pub closing: Cell<bool>,
    /// Many logs may be synced with the file system as a whole.
    pub can_sync_all: Cell<bool>,
    /// The last flush found no space; not tried again before the clock has moved on.
    pub flush_blocked: Cell<bool>,
    pub failed: RefCell<Option<StorageError>>,
}

/// Who hears of commits.
pub(crate) type CommitObserver = Rc<dyn Fn(CommitEvent<'_>)>;

pub(crate) struct Shared<D: Disk> {
    pub disk: D,
    pub config: StoreConfig,
    pub journal: Journal<D>,
    pub cache: RefCell<CommitCache>,
    pub files: FileCache<D::File>,
    pub read_ahead: RefCell<ReadAhead>,
    /// What is to be read ahead and has not been begun.
    pub pieces_wanted: RefCell<Vec<PieceRead>>,
    /// Wakes the loop that reads ahead.
    pub piece_wanted: Notify,
    pub gates: DiskGates,
    pub switches: Switches,
    pub counters: Counters,
    /// Every log that ever was, by index; a deleted one leaves a hole.
    pub logs: RefCell<Vec<Option<Rc<LogInner<D>>>>>,
    pub by_id: RefCell<AHashMap<TopicIdPartition, LogIndex>>,
    /// Logs with batches that are not in segments, each once.
    pub dirty: RefCell<Vec<LogIndex>>,
    /// The newest commit whose bytes are final: its batches can be read.
    pub frozen_commit: Cell<u64>,
    /// The newest commit that is durable.
    pub durable: Cell<u64>,
    /// The newest commit of which all is in synced segments.
    pub released: Cell<u64>,
    /// The clock as the shell last told it. Milliseconds.
    pub now_ms: Cell<i64>,
    /// `producer.id.expiration.ms`, which can change while the store runs.
    pub producer_expiration_ms: Cell<i64>,
    /// When what was only written has to be synced, at the latest. Milliseconds.
    pub sync_due_ms: Cell<Option<i64>>,
    /// When compaction last looked for work. Milliseconds.
    pub cleaner_looked_ms: Cell<i64>,
    /// Free space when it was last looked at. Bytes.
    pub free_bytes: Cell<u64>,
    /// When data began to wait for a flush. Milliseconds.
    pub dirty_since_ms: Cell<Option<i64>>,
    /// Wakes the flusher.
    pub flush_wanted: Notify,
    /// Wakes those who wait for room in cache and journal.
    pub room: Notify,
    /// Wakes those who wait for an exchange of segment files to be over.
    pub swapped: Notify,
    /// Held by whoever changes segment files: the flusher, retention, deletion, compaction.
    pub maintenance: futures::lock::Mutex<()>,
    pub throttle: Throttle,
    /// Replication, if there is any.
    pub commit_observer: RefCell<Option<CommitObserver>>,
    /// Large batches that go straight to segments.
    pub direct: DirectQueue,
    /// Wakes who waits for a commit to begin: its bytes can be read then.
    pub frozen: Notify,
    /// Wakes those who wait until nobody writes to a log's segments.
    pub written: Notify,
    /// Partitions that recovery has found in the journal, and that other brokers hold now.
    pub moved: RefCell<BTreeSet<TopicIdPartition>>,
}

impl<D: Disk> Shared<D> {
    pub fn new(disk: D, config: StoreConfig, journal: Journal<D>, now_ms: i64) -> Rc<Self> {
        let throttle = Throttle::new(2 * config.journal.max_commit_bytes);
        Rc::new(Self {
            files: FileCache::new(config.max_open_files, config.index_cache_bytes),
            read_ahead: RefCell::new(ReadAhead::new(config.read_ahead_bytes)),
            pieces_wanted: RefCell::default(),
            piece_wanted: Notify::default(),
            gates: DiskGates::default(),
            producer_expiration_ms: Cell::new(config.producer_expiration_ms),
            disk,
            config,
            journal,
            cache: RefCell::default(),
            switches: Switches::default(),
            counters: Counters::default(),
            logs: RefCell::default(),
            by_id: RefCell::default(),
            dirty: RefCell::default(),
            frozen_commit: Cell::new(0),
            durable: Cell::new(0),
            released: Cell::new(0),
            now_ms: Cell::new(now_ms),
            sync_due_ms: Cell::default(),
            cleaner_looked_ms: Cell::new(now_ms),
            free_bytes: Cell::default(),
            dirty_since_ms: Cell::new(None),
            flush_wanted: Notify::default(),
            room: Notify::default(),
            swapped: Notify::default(),
            maintenance: futures::lock::Mutex::new(()),
            throttle,
            commit_observer: RefCell::default(),
            direct: DirectQueue::default(),
            frozen: Notify::default(),
            written: Notify::default(),
            moved: RefCell::default(),
        })
    }

    pub fn log(&self, index: LogIndex) -> Option<Rc<LogInner<D>>> {
        self.logs.borrow().get(index as usize)?.clone()
    }

    pub fn log_by_id(&self, id: &TopicIdPartition) -> Option<Rc<LogInner<D>>> {
        let index = *self.by_id.borrow().get(id)?;
        self.log(index)
    }

    pub fn topics_dir(&self) -> PathBuf {
        self.config.data_dir.join("topics")
    }

    /// Whether appends are accepted at present.
    pub fn check_writable(&self) -> Result<(), StorageError> {
        self.check_healthy()?;
        if let Some(free_bytes) = self.switches.low_space.get() {
            return Err(StorageError::LowSpace { free_bytes, low_space_bytes: self.config.low_space_bytes });
        }
        if self.switches.migrating.get() {
            return Err(StorageError::Migrating);
        }
        if self.switches.closing.get() {
            return Err(StorageError::Closing);
        }
        Ok(())
    }

    /// Whether no failure has been final so far.
    pub fn check_healthy(&self) -> Result<(), StorageError> {
        self.switches.failed.borrow().clone().map_or(Ok(()), Err)
    }

    /// Writing or syncing segments has failed. Unless only space lacks, what counts as written may not be synced, and no later sync would say so: nothing may
    /// be released, and no checkpoint written, any more. To be called before the maintenance lock is given back.
    pub fn note_flush_error(&self, error: &StorageError) {
        if !error.is_out_of_space() {
            self.fail(error);
        }
    }

    /// A failure after which nothing may be acknowledged any more.
    pub fn fail(&self, error: &StorageError) {
        self.switches.failed.borrow_mut().get_or_insert_with(|| error.clone());
        self.flush_wanted.notify_all();
        self.piece_wanted.notify_all();
        self.room.notify_all();
        self.frozen.notify_all();
        self.direct.wake();
    }

    /// A segment could not be written because the file system is full, which passes. Tried again when the clock has moved on.
    pub fn note_out_of_space(&self, error: &StorageError) {
        tracing::error!(%error, "no space left for segments; produce is refused until there is");
        self.switches.low_space.set(Some(0));
        self.switches.is_out_of_space.set(true);
        self.switches.flush_blocked.set(true);
        self.room.notify_all();
    }

    /// Bytes of pinned commits from which on the flusher runs at once.
    pub fn pinned_flush_threshold(&self) -> usize {
        self.config.cache_bytes / 4
    }

    /// Whether cache and journal have room for a little more than what is under way.
    pub fn has_room(&self) -> bool {
        let pressure = self.journal.pressure();
        let waiting = pressure.waiting_bytes as usize;
        let used = self.room_used_at(&pressure);
        used < 1.0
            && waiting <= self.config.cache_bytes / 4
            && (self.throttle.admits(used) || !self.needs_flush())
    }

    /// The used share of the room that appends have, 0 to 1 and more: of the cache's part that may be pinned, of the whole ring, and of what is left
    /// in ring files that are ready, once that is little.
    pub fn room_used(&self) -> f64 {
        self.room_used_at(&self.journal.pressure())
    }

    fn room_used_at(&self, pressure: &Pressure) -> f64 {
        let journal = &self.config.journal;
        let waiting = pressure.waiting_bytes as f64;
        let of_cache = (self.cache.borrow().pinned_bytes() as f64 + waiting)
            / (self.config.cache_bytes / 4 * 3).max(1) as f64;
        let of_ring = (pressure.used_bytes as f64 + waiting) / pressure.capacity_bytes as f64;
        // Some commits' distance from the point where the journal refuses.
        let reserve = (4 * journal.max_commit_bytes as u64).min(journal.file_bytes / 4);
        let ready = pressure.ready_bytes as f64 - waiting - reserve as f64;
        let of_ready = 1.0 - ready / (journal.file_bytes / 4) as f64;
        of_cache.max(of_ring).max(of_ready)
    }

    /// The flusher has written a piece of a segment.
    pub fn note_flushed(&self, bytes: usize, written_bytes: usize) {
        add(&self.counters.flushed_bytes, bytes as u64);
        add(&self.counters.segment_written_bytes, written_bytes as u64);
        self.throttle.note_flushed(bytes, self.room_used());
        self.room.notify_all();
    }

    /// Whether the flusher should run although nobody is waiting for room yet.
    pub fn needs_flush(&self) -> bool {
        if self.durable.get() <= self.released.get() || self.switches.flush_blocked.get() {
            return false;
        }
        let pressure = self.journal.pressure();
        let is_old = self
            .dirty_since_ms
            .get()
            .is_some_and(|since| self.now_ms.get().saturating_sub(since) >= self.config.idle_flush_ms);
        is_old
            || self.switches.is_out_of_space.get()
            || pressure.fullness() > 0.5
            || self.cache.borrow().pinned_bytes() > self.pinned_flush_threshold()
    }

    /// Whether appends will soon have to wait for the flusher.
    pub fn is_pressed(&self) -> bool {
        self.room_used() >= PRESSED_FROM
    }

    /// The journal's observer.
    pub fn on_journal_event(&self, event: JournalEvent) {
        match event {
            JournalEvent::Started(commit) => {
                self.gates.commit_began();
                let data = commit.buffer.slice(..commit.bytes);
                self.cache.borrow_mut().freeze(commit.seq.0, data, commit.buffer.capacity());
                self.frozen_commit.set(commit.seq.0);
                self.frozen.notify_all();
                self.observe(CommitEvent::Readable);
            }
            JournalEvent::Done(commit) => {
                self.gates.commit_ended();
                self.observe(CommitEvent::Done);
                self.on_commit_done(commit.seq);
            }
            JournalEvent::FileReady => self.room.notify_all(),
            JournalEvent::Failed(error) => self.fail_disk(error),
        }
    }

    fn fail_disk(&self, error: DiskError) {
        self.fail(&StorageError::Journal(crate::error::JournalError::Failed(error)));
    }

    fn on_commit_done(&self, seq: CommitSeq) {
        self.durable.set(seq.0);
        let cache = self.cache.borrow();
        let mut replicated = Vec::new();
        for &index in cache.touched(seq.0) {
            let Some(log) = self.log(index) else { continue };
            let mut state = log.state.borrow_mut();
            let Some(end) = state.tail.end_of_commit(seq.0) else { continue };
            state.note_durable(end);
            if state.high_watermark_mode == HighWatermarkMode::Replicated {
                replicated.push((log.id, end));
            }
        }
        drop(cache);
        if !replicated.is_empty() {
            self.observe(CommitEvent::Durable(&replicated));
        }
        if self.dirty_since_ms.get().is_none() {
            self.dirty_since_ms.set(Some(self.now_ms.get()));
        }
        self.room.notify_all();
        if self.needs_flush() {
            self.flush_wanted.notify_all();
        }
        // Also while a flush is under way: buffers that go one by one are used again, those that go by the hundred are freed.
        self.evict();
    }

    fn observe(&self, event: CommitEvent<'_>) {
        let observer = self.commit_observer.borrow().clone();
        if let Some(observer) = observer {
            observer(event);
        }
    }

    /// What was only written has to be synced at this time, if any.
    pub fn note_sync_due(&self, due_ms: Option<i64>) {
        if let Some(due_ms) = due_ms {
            self.sync_due_ms.set(Some(self.sync_due_ms.get().map_or(due_ms, |known| known.min(due_ms))));
        }
    }

    /// Drops released commits beyond the cache's bound, of which what waits to be written takes its part.
    pub fn evict(&self) {
        let waiting = self.journal.pressure().waiting_bytes as usize;
        let evicted = self.cache.borrow_mut().evict(self.config.cache_bytes.saturating_sub(waiting));
        for e in evicted {
            if let Some(log) = self.log(e.log) {
                log.state.borrow_mut().tail.evict_through(e.up_to);
            }
        }
    }

    /// Notes that `log` got a batch in `commit`.
    pub fn note_touched(&self, index: LogIndex, state: &mut crate::log::state::LogState, commit: CommitSeq) {
        if state.last_commit != commit.0 {
            state.last_commit = commit.0;
            self.cache.borrow_mut().touch(commit.0, index);
        }
        if !state.is_dirty {
            state.is_dirty = true;
            self.dirty.borrow_mut().push(index);
        }
    }
}
