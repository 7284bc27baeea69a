//! [`PartitionLog`]: the handle through which the broker appends to, reads from and asks about one partition.

use crate::{
    cache::LogIndex,
    disk::Disk,
    journal::{CommitSeq, EntryHeader, EntryKind},
    log::{
        config::{LogConfig, TimestampType},
        error::AppendError,
        files::SegmentKey,
        producer_state::{ProducerBatch, SequenceCheck},
        segment::{self, SegmentMeta},
        state::{Availability, LogOffsets, LogState, PlacedBatch},
        tail::TailBatch,
    },
    store::{
        checkpoint::PartitionCheckpoint,
        shared::{Shared, add},
    },
    types::{LeaderEpoch, Offset, PartitionId, ProducerId, TopicIdPartition},
    wake::WakeSignal,
};
use protocol::records::{Origin, ValidatedBatch};
use std::{
    cell::{Cell, RefCell},
    fmt,
    path::PathBuf,
    rc::Rc,
};

/// One partition's log of this shard. A cheap handle: clones are the same log. Operations on a deleted log fail by name.
pub struct PartitionLog<D: Disk> {
    pub(crate) inner: Rc<LogInner<D>>,
}

pub(crate) struct LogInner<D: Disk> {
    pub id: TopicIdPartition,
    pub topic: Rc<str>,
    pub index: LogIndex,
    pub shared: Rc<Shared<D>>,
    pub state: RefCell<LogState>,
    /// Somebody writes to its segments: see `LogInner::writing`.
    pub is_being_written: Cell<bool>,
}

/// A batch to be placed in a log.
pub(super) struct BatchContent<'a> {
    pub bytes: &'a [u8],
    pub record_count: i64,
    pub max_timestamp: i64,
    pub producer: Option<ProducerBatch>,
}

/// Who appends, and under which terms.
#[derive(Debug, Clone, Copy)]
pub struct AppendContext {
    /// The leader epoch that the caller acts under; written into the batch.
    pub leader_epoch: LeaderEpoch,
    /// The clock. Milliseconds since the epoch.
    pub now_ms: i64,
    /// Only batches of clients have their sequence numbers checked.
    pub origin: Origin,
}

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendOutcome {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// The time that the broker stamped it with; -1 unless the topic uses LogAppendTime. Milliseconds.
    pub log_append_time_ms: i64,
    /// The first offset of the log.
    pub log_start_offset: Offset,
    /// The batch was there already: the offsets are those that it got the first time.
    pub duplicate: bool,
    /// The batch is durable when this commit is.
    pub commit: CommitSeq,
}

impl<D: Disk> Clone for PartitionLog<D> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<D: Disk> fmt::Debug for PartitionLog<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartitionLog({}-{}, {:?})", self.inner.topic, self.inner.id.partition, self.offsets())
    }
}

impl<D: Disk> LogInner<D> {
    /// `topics/<topic>-<partition>`.
    pub fn directory(&self) -> PathBuf {
        self.shared.topics_dir().join(directory_name(&self.topic, self.id.partition))
    }

    /// A file of the segment with this base offset.
    pub fn segment_file(&self, base_offset: Offset, suffix: &str) -> PathBuf {
        self.directory().join(segment::file_name(base_offset, suffix))
    }

    /// How the caches know a segment's file.
    pub fn segment_key(&self, segment: &SegmentMeta) -> SegmentKey {
        (self.index, segment.base_offset, segment.revision)
    }

    /// Puts a batch whose place is decided into the journal or straight into its segment, and notes it. `patch` may edit the copy.
    pub(super) fn place(
        &self,
        state: &mut LogState,
        entry: &EntryHeader,
        batch: BatchContent<'_>,
        now_ms: i64,
        patch: impl FnOnce(&mut [u8]),
    ) -> Result<CommitSeq, AppendError> {
        let shared = &self.shared;
        let durability = {
            let LogState { unsynced, config, .. } = &mut *state;
            let (at_least, synced) = (shared.config.durability, shared.journal.synced_end().0);
            unsynced.durability(config, at_least, synced, batch.record_count, now_ms)
        };
        let BatchContent { bytes, max_timestamp, producer, .. } = batch;
        let mut patch = Some(patch);
        let mut patch_once = |copy: &mut [u8]| patch.take().expect("a batch is copied once")(copy);
        let direct = match entry.kind {
            EntryKind::Batch => {
                self.append_direct(state, entry, durability, bytes, max_timestamp, &mut patch_once)?
            }
            _ => None,
        };
        let appended = match &direct {
            Some(direct) => direct.appended,
            None => shared.journal.append(entry, durability, &[bytes], patch_once)?,
        };
        state.unsynced.note(appended.commit.0);
        shared.note_sync_due(state.unsynced.due_ms(&state.config));
        let tail = TailBatch {
            base_offset: entry.base_offset,
            commit: appended.commit.0,
            max_timestamp,
            last_offset_delta: (entry.last_offset - entry.base_offset) as u32,
            at: appended.location.start,
            size: appended.location.len,
        };
        state.note_appended(&PlacedBatch { tail, leader_epoch: entry.leader_epoch, producer });
        shared.note_touched(self.index, state, appended.commit);
        match direct {
            Some(direct) => self.begin_direct(state, &tail, direct),
            None => self.prepare_direct(state, bytes.len()),
        }
        add(&shared.counters.appended_batches, 1);
        add(&shared.counters.appended_bytes, bytes.len() as u64);
        shared.throttle.note_appended(bytes.len(), shared.room_used());
        Ok(appended.commit)
    }

    /// Takes the log out of service, because of what the message says.
    pub fn take_offline(&self, why: impl Into<Rc<str>>) {
        let why = why.into();
        tracing::error!(partition = %format_args!("{}-{}", self.topic, self.id.partition), "partition goes offline: {why}");
        let mut state = self.state.borrow_mut();
        if state.last_checkpoint.is_none() {
            state.last_checkpoint = Some(Box::new(PartitionCheckpoint::of(&state)));
        }
        state.availability = Availability::Offline(why);
        state.waiters.wake_all();
    }
}

impl LogState {
    /// Whether anything may be appended.
    pub(super) fn check_appendable(&self) -> Result<(), AppendError> {
        match &self.availability {
            Availability::Online if self.is_being_cut => Err(AppendError::BeingCut),
            Availability::Online => Ok(()),
            Availability::Offline(why) => Err(AppendError::Offline(why.clone())),
            Availability::Deleted => Err(AppendError::Deleted),
        }
    }
}

/// Name of a partition's directory.
pub(crate) fn directory_name(topic: &str, partition: PartitionId) -> String {
    format!("{topic}-{partition}")
}

impl<D: Disk> PartitionLog<D> {
    /// The partition by its topic's id.
    pub fn id(&self) -> TopicIdPartition {
        self.inner.id
    }

    /// The name of its topic.
    pub fn topic(&self) -> &Rc<str> {
        &self.inner.topic
    }

    /// The topic's configuration as this log uses it.
    pub fn config(&self) -> Rc<LogConfig> {
        self.inner.state.borrow().config.clone()
    }

    /// Appends one validated batch: assigns its offsets, leader epoch and append time in the journal's copy of it. Nothing is durable until
    /// the returned commit is. `batch` is what `validated` was made from.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing has been appended then.
    pub fn append(
        &self,
        batch: &[u8],
        validated: &ValidatedBatch,
        context: AppendContext,
    ) -> Result<AppendOutcome, AppendError> {
        let shared = &self.inner.shared;
        let mut state = self.inner.state.borrow_mut();
        self.check_append(&state, validated, context)?;
        let sequence = check_sequence(&state, validated, context.origin);
        if let Ok(Some(duplicate)) = sequence {
            return Ok(duplicate);
        }
        // Who has been refused for want of space does not hear of a gap, which the refused batch has left: librdkafka would take another producer id then, and send
        // also those batches again that are appended and wait for their answer.
        shared.check_writable()?;
        sequence?;

        let base_offset = state.log_end;
        let last_offset = base_offset + i64::from(validated.last_offset_delta);
        let append_time =
            (state.config.timestamp_type == TimestampType::LogAppendTime).then_some(context.now_ms);
        let entry = EntryHeader {
            kind: EntryKind::Batch,
            partition: self.inner.id,
            base_offset,
            last_offset,
            leader_epoch: context.leader_epoch,
        };
        let max_timestamp = append_time.unwrap_or(validated.max_timestamp);
        let content = BatchContent {
            bytes: batch,
            record_count: validated.record_count.into(),
            max_timestamp,
            producer: (validated.has_producer_id() && !validated.is_control).then_some(ProducerBatch {
                producer_id: ProducerId(validated.producer_id),
                producer_epoch: validated.producer_epoch,
                base_sequence: validated.base_sequence,
                base_offset,
                last_offset,
                timestamp_ms: max_timestamp,
            }),
        };
        let commit = self.inner.place(&mut state, &entry, content, context.now_ms, |copy: &mut [u8]| {
            validated.assign(copy, base_offset.0, context.leader_epoch.0, append_time);
        })?;
        Ok(AppendOutcome {
            base_offset,
            last_offset,
            log_append_time_ms: append_time.unwrap_or(-1),
            log_start_offset: state.log_start,
            duplicate: false,
            commit,
        })
    }

    fn check_append(
        &self,
        state: &LogState,
        validated: &ValidatedBatch,
        context: AppendContext,
    ) -> Result<(), AppendError> {
        state.check_appendable()?;
        if let Some(current) = state.leader_epochs.latest()
            && context.leader_epoch < current
        {
            return Err(AppendError::StaleLeaderEpoch { offered: context.leader_epoch, current });
        }
        if validated.size as u64 > state.config.segment_bytes {
            let segment_bytes = state.config.segment_bytes;
            return Err(AppendError::LargerThanSegment { size: validated.size, segment_bytes });
        }
        Ok(())
    }

    /// The log's offsets, all at this moment.
    pub fn offsets(&self) -> LogOffsets {
        self.inner.state.borrow().offsets()
    }

    /// Moves the high watermark forward (never back, never past the durable end) and wakes subscribers if it moved.
    pub fn advance_high_watermark(&self, to: Offset) -> bool {
        self.inner.state.borrow_mut().advance_high_watermark(to)
    }

    /// Registers a signal that fires once when high watermark or last stable offset advance next, or when the log is deleted or goes offline.
    pub fn subscribe(&self, signal: &Rc<WakeSignal>) {
        let mut state = self.inner.state.borrow_mut();
        match state.availability {
            Availability::Online => state.waiters.subscribe(signal),
            _ => signal.wake(),
        }
    }

    /// Fires the signals of all who have [subscribed](Self::subscribe): something has happened that readers want to know of.
    pub fn wake_readers(&self) {
        self.inner.state.borrow_mut().waiters.wake_all();
    }

    /// The newest leader epoch that has a batch.
    pub fn latest_leader_epoch(&self) -> Option<LeaderEpoch> {
        self.inner.state.borrow().leader_epochs.latest()
    }

    /// The largest epoch with batches that is not larger than `epoch`, and where it ends; of one that is older than what consumers can read, itself and the
    /// log start offset. `None` is Kafka's undefined (-1, -1).
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let state = self.inner.state.borrow();
        state.leader_epochs.end_offset_for(epoch, state.log_start, state.log_end)
    }

    /// The epoch under which the record at `offset` was appended.
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.inner.state.borrow().leader_epochs.epoch_for_offset(offset)
    }

    /// Bytes of all batches of the log, in segments or not yet.
    pub fn size_bytes(&self) -> u64 {
        self.inner.state.borrow().size_bytes()
    }

    /// Why the log is not served, if it is not.
    pub fn offline_reason(&self) -> Option<Rc<str>> {
        match &self.inner.state.borrow().availability {
            Availability::Offline(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// The idempotent producers that the log knows: (id, epoch, last sequence number, last offset, last timestamp in ms).
    pub fn producers(&self) -> Vec<(ProducerId, i16, i32, Offset, i64)> {
        let state = self.inner.state.borrow();
        let entries = state.producers.entries().iter();
        entries
            .filter_map(|e| {
                let last = e.batches.back()?;
                Some((
                    e.producer_id,
                    e.producer_epoch,
                    last.last_sequence,
                    last.last_offset,
                    last.timestamp_ms,
                ))
            })
            .collect()
    }
}

/// Compares a client's batch with what its producer sent before. Answers a repetition.
fn check_sequence(
    state: &LogState,
    validated: &ValidatedBatch,
    origin: Origin,
) -> Result<Option<AppendOutcome>, AppendError> {
    if !validated.has_producer_id() || origin != Origin::Client {
        return Ok(None);
    }
    let producer_id = ProducerId(validated.producer_id);
    let (epoch, sequence) = (validated.producer_epoch, validated.base_sequence);
    match state.producers.check(producer_id, epoch, sequence, validated.record_count) {
        SequenceCheck::Append => Ok(None),
        SequenceCheck::Duplicate(original) => Ok(Some(AppendOutcome {
            base_offset: original.first_offset(),
            last_offset: original.last_offset,
            log_append_time_ms: match state.config.timestamp_type {
                TimestampType::LogAppendTime => original.timestamp_ms,
                TimestampType::CreateTime => -1,
            },
            log_start_offset: state.log_start,
            duplicate: true,
            // The original may still be on its way to the disk; the log's last commit is not before its.
            commit: CommitSeq(state.last_commit),
        })),
        SequenceCheck::StaleEpoch { current } => {
            Err(AppendError::InvalidProducerEpoch { producer_id, offered: epoch, current })
        }
        SequenceCheck::OutOfOrder { expected } => {
            Err(AppendError::OutOfOrderSequence { producer_id, got: sequence, expected })
        }
    }
}
