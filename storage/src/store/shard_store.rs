//! [`ShardStore`]: opening, the table of partitions, and the end.

use crate::{
    disk::Disk,
    error::{JournalError, StorageError},
    journal::{CommitSeq, EntryHeader, EntryKind, Journal, Scan},
    log::{
        config::LogConfig,
        partition::{LogInner, PartitionLog, directory_name},
        read_cold,
        state::{Availability, LogState},
    },
    store::{
        checkpoint::Checkpoints,
        checkpoint_log::CheckpointLog,
        config::{
            CommitEvent, HighWatermarkMode, PartitionSpec, RecoveryReport, StoreConfig, StoreStats,
            TopicStatus,
        },
        direct, flusher,
        layout::Layout,
        partition_dir::{read_metadata, remove_directory},
        recover_log::LogFault,
        recovery::{Replay, recover_logs, release},
        shared::Shared,
    },
    types::{LeaderEpoch, Offset, TopicIdPartition},
};
use futures::{
    FutureExt,
    future::{LocalBoxFuture, try_join},
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};
use uuid::Uuid;

/// The data of one shard: its journal and the logs of its partitions. Belongs to one executor. Dropping it without
/// [`shutdown`](ShardStore::shutdown) is like a crash: nothing acknowledged is lost, the next start takes longer.
pub struct ShardStore<D: Disk> {
    pub(crate) shared: Rc<Shared<D>>,
    pub(crate) checkpoints: Rc<CheckpointLog<D>>,
    layout: Layout,
}

impl<D: Disk> Drop for ShardStore<D> {
    fn drop(&mut self) {
        // Logs and what they share hold each other.
        self.shared.logs.borrow_mut().clear();
        self.shared.by_id.borrow_mut().clear();
        self.shared.read_ahead.borrow_mut().clear();
        self.shared.pieces_wanted.borrow_mut().clear();
        self.shared.commit_observer.borrow_mut().take();
    }
}

impl<D: Disk> ShardStore<D> {
    /// Opens the store of one shard with the partitions that it is to hold, and recovers what a crash left in the journal. Afterwards everything
    /// that was ever acknowledged can be read: it is in synced segments, or in the journal and in memory as what was appended since.
    /// Damaged partitions are offline and named in the report; the others work.
    ///
    /// `data_dir` exists and is locked ([`crate::data_dir::DataDir::open`]).
    ///
    /// # Errors
    /// A failing disk, damage that cannot be assigned to partitions, a newer format, or journal data of a topic that the metadata does not know.
    pub async fn open(
        disk: D,
        config: StoreConfig,
        wanted: Vec<PartitionSpec>,
        now_ms: i64,
    ) -> Result<(Self, RecoveryReport), StorageError> {
        let data_dir = config.data_dir.clone();
        let stored = Layout::read(&disk, &data_dir).await?;
        let first = Layout { generation: 0, shards: config.shards };
        let old = stored.unwrap_or(first);
        let is_migrating = old.shards != config.shards;
        let layout = match is_migrating {
            true => Layout { generation: old.generation + 1, shards: config.shards },
            false => old,
        };
        let dir = layout.shard_dir(&data_dir, config.shard);
        if is_migrating {
            // A migration that a crash has interrupted begins anew.
            remove_stale(&disk, &dir).await?;
        }
        disk.create_dir_all(&data_dir.join("topics")).await?;
        disk.create_dir_all(&dir).await?;
        if stored.is_none() && config.shard == 0 {
            layout.write(&disk, &data_dir).await?;
        }

        let (checkpoint_log, mut checkpoints) = CheckpointLog::open(&disk, &dir).await?;
        let (journal, mut scan) =
            Journal::open(disk.clone(), &dir.join("journal"), config.journal.clone()).await?;
        let last = scan.last();
        let shard = config.shard;
        let shared = Shared::new(disk.clone(), config, journal, now_ms);
        shared.switches.migrating.set(is_migrating);
        shared.switches.can_sync_all.set(shared.disk.can_sync_all(&shared.topics_dir()).await?);
        for spec in &wanted {
            insert_log(&shared, spec);
        }

        let mut report = RecoveryReport { is_migrating, ..RecoveryReport::default() };
        let mut old_scans = Vec::new();
        if is_migrating {
            for old_shard in 0..old.shards {
                let old_dir = old.shard_dir(&data_dir, old_shard);
                let Some(found) = read_old(&disk, &old_dir).await? else { continue };
                checkpoints.partitions.extend(found.partitions);
                old_scans.push(Scan::open(disk.clone(), &old_dir.join("journal")).await?);
            }
        }
        report.was_clean = checkpoints.is_clean && !is_migrating;
        recover_logs(&shared, &checkpoints, report.was_clean, &mut report).await?;
        let mut replay = Replay::new(&shared, &mut report);
        for old_scan in &mut old_scans {
            replay.apply(old_scan).await?;
        }
        replay.apply(&mut scan).await?;
        let flushed = replay.finish().await?.map_or(last, |flushed| flushed.max(scan.released()));
        expire_producers(&shared, now_ms);

        checkpoint_log.rewrite(&shared, false).await?;
        release(&shared, last, flushed);
        for log in shared.logs.borrow().iter().flatten() {
            let state = log.state.borrow();
            match &state.availability {
                Availability::Online => report.partitions += 1,
                Availability::Offline(why) => report.offline.push((log.id, why.to_string())),
                Availability::Deleted => {}
            }
        }
        let weak = Rc::downgrade(&shared);
        shared.journal.set_observer(move |event| {
            if let Some(shared) = weak.upgrade() {
                shared.on_journal_event(event);
            }
        });
        tracing::info!(
            shard,
            partitions = report.partitions,
            offline = report.offline.len(),
            clean = report.was_clean,
            replayed_batches = report.replayed_batches,
            replayed_bytes = report.replayed_bytes,
            "store opened"
        );
        let store = Self { shared, checkpoints: Rc::new(checkpoint_log), layout };
        store.check_space().await?;
        Ok((store, report))
    }

    /// The loops of the store: journal writer, flusher, and reading ahead. The shell spawns them, once, and stops the broker when one ends with an error: then
    /// pending data can not be made durable.
    pub fn run(&self) -> Vec<LocalBoxFuture<'static, Result<(), StorageError>>> {
        let (shared, checkpoints) = (self.shared.clone(), self.checkpoints.clone());
        let journal = self.shared.journal.clone();
        let segments = try_join(flusher::run(shared.clone(), checkpoints), direct::run(shared.clone()));
        let cold = read_cold::run(shared.clone()).boxed_local();
        let segments = async move {
            // Commits may wait for a large batch that nobody writes any more.
            segments.await.map(|_| ()).inspect_err(|error| shared.journal.abandon(error))
        };
        vec![async move { journal.run().await }.boxed_local(), segments.boxed_local(), cold]
    }

    /// Adds an empty partition. Cheap: directory and files come with its first flush. One that exists already is left as it is.
    ///
    /// # Errors
    /// A directory of that name that belongs to another topic which the metadata does not call gone.
    pub async fn create_partition(&self, spec: PartitionSpec) -> Result<PartitionLog<D>, StorageError> {
        if let Some(log) = self.partition(&spec.id()) {
            return Ok(log);
        }
        let directory = self.shared.topics_dir().join(directory_name(&spec.topic, spec.partition));
        let owner = read_metadata(&self.shared.disk, &directory).await?;
        if let Some(other) = owner.filter(|id| *id != spec.topic_id) {
            if (self.shared.config.topic_status)(other) != TopicStatus::Gone {
                return Err(StorageError::ForeignDirectory { path: directory, topic_id: other });
            }
            remove_directory(&self.shared.disk, &directory, other).await?;
        }
        // Somebody else may have created it meanwhile.
        if let Some(log) = self.partition(&spec.id()) {
            return Ok(log);
        }
        let log = insert_log(&self.shared, &spec);
        if owner == Some(spec.topic_id) {
            adopt(&log).await?;
        }
        Ok(PartitionLog { inner: log })
    }

    /// Deletes a partition with its data. Readers that are under way get what they read until its files have gone.
    ///
    /// # Errors
    /// [`StorageError::Disk`], [`StorageError::Journal`]: some of it may be left on disk; [`crate::store::remove_gone_partitions`] takes it
    /// away at the next start.
    pub async fn delete_partition(&self, id: &TopicIdPartition) -> Result<(), StorageError> {
        let Some(log) = self.shared.log_by_id(id) else { return Ok(()) };
        let (leader_epoch, log_end) = {
            let mut state = log.state.borrow_mut();
            state.availability = Availability::Deleted;
            state.waiters.wake_all();
            (state.leader_epochs.latest().unwrap_or_default(), state.log_end)
        };
        self.shared.by_id.borrow_mut().remove(id);
        let told = self.tell_deleted(id, log_end, leader_epoch).await?;
        self.durable(told).await?;

        let _lock = self.shared.maintenance.lock().await;
        let _writing = log.writing().await;
        self.checkpoints.append_deleted(id).await?;
        remove_directory(&self.shared.disk, &log.directory(), id.topic_id).await?;
        self.shared.files.remove_log(log.index);
        self.shared.read_ahead.borrow_mut().forget(log.index);
        self.shared.logs.borrow_mut()[log.index as usize] = None;
        let mut state = log.state.borrow_mut();
        *state = LogState {
            availability: Availability::Deleted,
            // Another partition may take the directory's name: what readers find there from now on is not theirs.
            swaps: state.swaps + 1,
            ..LogState::new(Rc::new(LogConfig::default()))
        };
        Ok(())
    }

    /// Tells the journal that a partition is deleted, as soon as it has room: unlike a producer nobody would come again.
    pub(super) async fn tell_deleted(
        &self,
        id: &TopicIdPartition,
        log_end: Offset,
        leader_epoch: LeaderEpoch,
    ) -> Result<CommitSeq, StorageError> {
        let entry = EntryHeader {
            kind: EntryKind::PartitionDeleted,
            partition: *id,
            base_offset: log_end,
            last_offset: log_end,
            leader_epoch,
        };
        let shared = &self.shared;
        let mut told = Err(JournalError::Full);
        let is_told = || {
            told = shared.journal.append(&entry, shared.config.durability, &[], |_| {});
            !matches!(told, Err(JournalError::Full))
        };
        shared.room.wait_until(is_told).await;
        Ok(told?.commit)
    }

    /// The log of a partition, if this shard has it.
    pub fn partition(&self, id: &TopicIdPartition) -> Option<PartitionLog<D>> {
        self.shared.log_by_id(id).map(|inner| PartitionLog { inner })
    }

    /// All partitions, in the order of their ids.
    #[expect(clippy::disallowed_methods, reason = "they are sorted")]
    pub fn partitions(&self) -> Vec<TopicIdPartition> {
        let mut ids: Vec<TopicIdPartition> = self.shared.by_id.borrow().keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// A topic's configuration has changed.
    pub fn update_config(&self, topic_id: Uuid, config: &Rc<LogConfig>) {
        for log in self.shared.logs.borrow().iter().flatten().filter(|log| log.id.topic_id == topic_id) {
            log.state.borrow_mut().config = config.clone();
        }
    }

    /// The configuration of all topics may have changed; a topic that `config_of` does not know keeps what it has.
    pub fn update_configs(&self, mut config_of: impl FnMut(Uuid) -> Option<Rc<LogConfig>>) {
        for log in self.shared.logs.borrow().iter().flatten() {
            if let Some(config) = config_of(log.id.topic_id) {
                log.state.borrow_mut().config = config;
            }
        }
    }

    /// `producer.id.expiration.ms` has changed.
    pub fn set_producer_expiration(&self, expiration_ms: i64) {
        self.shared.producer_expiration_ms.set(expiration_ms);
    }

    /// Waits until everything is durable that has been appended so far.
    pub fn all_durable(&self) -> impl Future<Output = Result<(), StorageError>> + use<D> {
        self.durable(self.shared.journal.last_appended())
    }

    /// Who hears of commits. Called from the journal's loop: must not wait, and may call the store. Replaces an earlier one.
    pub fn observe_commits(&self, observer: impl Fn(CommitEvent<'_>) + 'static) {
        *self.shared.commit_observer.borrow_mut() = Some(Rc::new(observer));
    }

    /// Waits until a commit is durable.
    pub fn durable(&self, commit: CommitSeq) -> impl Future<Output = Result<(), StorageError>> + use<D> {
        let durable = self.shared.journal.durable(commit);
        async move { Ok(durable.await?) }
    }

    /// Whether produce is accepted at present. Cheap enough to ask for every request.
    ///
    /// # Errors
    /// Why it is not: low space, a failed disk, a migration, or the store is closing.
    pub fn writable(&self) -> Result<(), StorageError> {
        self.shared.check_writable()
    }

    /// Whether there is room for more data than is under way: while not, the shell stops reading from producers.
    pub fn has_room(&self) -> bool {
        self.shared.has_room()
    }

    /// Waits until there is room, or the store takes nothing at all: then waiting is of no use.
    pub async fn wait_for_room(&self) {
        let shared = self.shared.clone();
        shared.room.wait_until(|| shared.check_writable().is_err() || shared.has_room()).await;
    }

    /// To be called about every second: tells the time, looks at the free space, syncs what `flush.ms` says, and has old data flushed.
    ///
    /// # Errors
    /// The free space cannot be found out, or the journal has failed.
    pub async fn tick(&self, now_ms: i64) -> Result<(), StorageError> {
        self.shared.now_ms.set(now_ms);
        self.shared.gates.tick(self.shared.is_pressed());
        self.shared.read_ahead.borrow_mut().expire(now_ms);
        self.check_space().await?;
        self.shared.journal.retry_upkeep();
        if self.shared.sync_due_ms.get().is_some_and(|due_ms| now_ms >= due_ms) {
            self.shared.sync_due_ms.set(None);
            self.shared.journal.sync_now().await?;
        }
        if self.shared.switches.flush_blocked.replace(false) {
            self.shared.room.notify_all();
        }
        if self.shared.needs_flush() {
            self.shared.flush_wanted.notify_all();
        }
        Ok(())
    }

    async fn check_space(&self) -> Result<(), StorageError> {
        let shared = &self.shared;
        let free = shared.disk.free_space(&shared.config.data_dir).await?;
        let was_low = shared.switches.low_space.get().is_some();
        // Some distance between the two marks, so that the state does not flap.
        let limit = shared.config.low_space_bytes;
        let awaits_space = shared.switches.is_out_of_space.get()
            && shared.durable.get() > shared.released.get()
            || shared.direct.awaits_space();
        let is_low = awaits_space || if was_low { free < limit + limit / 16 } else { free < limit };
        if is_low != was_low {
            tracing::warn!(
                free_bytes = free,
                low_space_bytes = limit,
                "free space: produce is {}",
                match is_low {
                    true => "refused until there is more",
                    false => "accepted again",
                }
            );
        }
        shared.switches.low_space.set(is_low.then_some(free));
        shared.free_bytes.set(free);
        if is_low && !was_low {
            shared.room.notify_all();
        }
        Ok(())
    }

    /// Brings everything that is durable now into synced segments. For tests and tools; the flusher does it by itself when it is needed.
    ///
    /// # Errors
    /// As the flusher's: final.
    pub async fn flush(&self) -> Result<(), StorageError> {
        flusher::flush_round(&self.shared, &self.checkpoints, u64::MAX).await
    }

    /// Takes no more data, waits until all is durable, flushes it, writes indexes and the mark that makes the next start quick. The loops of
    /// [`run`](ShardStore::run) have to be running; they end.
    ///
    /// # Errors
    /// What is not in segments then is still in the journal.
    pub async fn shutdown(&self) -> Result<(), StorageError> {
        let shared = &self.shared;
        shared.switches.closing.set(true);
        shared.room.notify_all();
        self.durable(shared.journal.last_appended()).await?;
        shared.flush_wanted.notify_all();
        shared.piece_wanted.notify_all();
        shared.room.notify_all();
        shared.direct.wake();
        self.flush().await?;
        {
            let _lock = shared.maintenance.lock().await;
            let logs: Vec<_> = shared.logs.borrow().iter().flatten().cloned().collect();
            flusher::for_each(&logs, 16, async |log| log.settle().await).await?;
        }
        shared.journal.shutdown().await?;
        self.checkpoints.rewrite(shared, true).await?;
        shared.files.clear();
        shared.read_ahead.borrow_mut().clear();
        Ok(())
    }

    /// After a change of the number of shards, once the stores of all shards are open: makes the new number count, removes what the old one left,
    /// and lets produce in. To be called on every shard; shard 0 does the work and has to be called first.
    ///
    /// # Errors
    /// [`StorageError::Disk`]: the next start begins the change anew.
    pub async fn finish_migration(&self) -> Result<(), StorageError> {
        let config = &self.shared.config;
        if !self.shared.switches.migrating.get() {
            return Ok(());
        }
        if config.shard == 0 {
            self.layout.write(&self.shared.disk, &config.data_dir).await?;
            self.layout.remove_others(&self.shared.disk, &config.data_dir).await?;
        }
        self.shared.switches.migrating.set(false);
        Ok(())
    }

    /// How many batches were appended since the store was opened.
    pub fn appended_batches(&self) -> u64 {
        self.shared.counters.appended_batches.get()
    }

    /// Figures of this moment. Walks over all partitions.
    pub fn stats(&self) -> StoreStats {
        let shared = &self.shared;
        let counters = &shared.counters;
        let pressure = shared.journal.pressure();
        let read_ahead = shared.read_ahead.borrow().stats();
        let mut stats = StoreStats {
            cache_bytes: shared.cache.borrow().retained_bytes(),
            pinned_bytes: shared.cache.borrow().pinned_bytes(),
            open_files: shared.files.open_files(),
            appended_batches: counters.appended_batches.get(),
            appended_bytes: counters.appended_bytes.get(),
            flush_rounds: counters.flush_rounds.get(),
            flushed_bytes: counters.flushed_bytes.get(),
            segment_written_bytes: counters.segment_written_bytes.get(),
            direct_bytes: counters.direct_bytes.get(),
            journal_written_bytes: shared.journal.written_bytes(),
            segment_syncs: counters.segment_syncs.get(),
            cache_reads: counters.cache_reads.get(),
            cold_reads: counters.cold_reads.get(),
            cold_read_bytes: counters.cold_read_bytes.get(),
            read_ahead_bytes: read_ahead.bytes,
            read_ahead_hits: counters.read_ahead_hits.get(),
            read_ahead_wasted_bytes: read_ahead.wasted_bytes,
            cleaner_runs: counters.cleaner_runs.get(),
            cleaner_read_bytes: counters.cleaner_read_bytes.get(),
            cleaner_written_bytes: counters.cleaner_written_bytes.get(),
            ms_since_cleaner_look: shared.now_ms.get().saturating_sub(shared.cleaner_looked_ms.get()).max(0),
            is_low_on_space: shared.switches.low_space.get().is_some(),
            free_bytes: shared.free_bytes.get(),
            journal_used_ratio: pressure.used_bytes as f64 / pressure.capacity_bytes as f64,
            ..StoreStats::default()
        };
        for log in shared.logs.borrow().iter().flatten() {
            let state = log.state.borrow();
            stats.partitions += 1;
            stats.offline_partitions += usize::from(matches!(state.availability, Availability::Offline(_)));
            stats.log_bytes += state.size_bytes();
            stats.uncleanable_partitions += usize::from(state.uncleanable.is_some());
            if let Some(ratio) = state.dirty_ratio(shared.now_ms.get()) {
                stats.max_dirty_ratio = stats.max_dirty_ratio.max(ratio);
            }
            stats.partition_heap_bytes += size_of::<RefCell<LogInner<D>>>() + 32 + state.heap_bytes();
        }
        stats
    }
}

/// Takes over what the directory of a partition holds that this store did not know.
async fn adopt<D: Disk>(log: &Rc<LogInner<D>>) -> Result<(), StorageError> {
    let found = log.survey().await?;
    match log.recover(None, Some(found), false).await {
        Ok(_) => {
            log.sync_findings().await?;
            log.trim_findings().await?;
            let mut state = log.state.borrow_mut();
            state.findings = None;
            if state.high_watermark_mode == HighWatermarkMode::FollowsDurableEnd {
                state.high_watermark = state.log_end;
            }
        }
        Err(LogFault::Storage(error)) => return Err(error),
        Err(LogFault::Damaged(why)) => log.take_offline(why),
    }
    Ok(())
}

/// Puts an empty log into the table.
fn insert_log<D: Disk>(shared: &Rc<Shared<D>>, spec: &PartitionSpec) -> Rc<LogInner<D>> {
    let mut logs = shared.logs.borrow_mut();
    let index = u32::try_from(logs.len()).expect("fewer than 2^32 partitions in the life of a process");
    let log = Rc::new(LogInner {
        id: spec.id(),
        topic: spec.topic.clone(),
        index,
        shared: shared.clone(),
        state: RefCell::new(LogState {
            high_watermark_mode: spec.high_watermark,
            ..LogState::new(spec.config.clone())
        }),
        is_being_written: Cell::new(false),
    });
    logs.push(Some(log.clone()));
    shared.by_id.borrow_mut().insert(spec.id(), index);
    log
}

/// What an old generation's shard has checkpointed; `None` if it never ran.
async fn read_old<D: Disk>(disk: &D, dir: &std::path::Path) -> Result<Option<Checkpoints>, StorageError> {
    match disk.list(&dir.join("journal")).await {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    Ok(Some(CheckpointLog::open(disk, dir).await?.1))
}

async fn remove_stale<D: Disk>(disk: &D, dir: &std::path::Path) -> Result<(), StorageError> {
    match disk.list(dir).await {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => super::layout::remove_tree(disk, dir).await,
    }
}

/// Forgets producers that have been silent for too long, in all logs.
pub(crate) fn expire_producers<D: Disk>(shared: &Shared<D>, now_ms: i64) {
    let expiration_ms = shared.producer_expiration_ms.get();
    for log in shared.logs.borrow().iter().flatten() {
        let state = &mut *log.state.borrow_mut();
        state.producers.expire(now_ms, expiration_ms);
        if let Some(written) = &mut state.written_producers {
            written.expire(now_ms, expiration_ms);
        }
    }
}
