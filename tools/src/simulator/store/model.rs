//! A model of the logs of one broker, all of whose appends go through one journal: what is in memory, and what of it a crash leaves.
//!
//! Writes reach the disk in their order. A sync covers what had been written when it began; a crash keeps a prefix of what was not synced.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use coord::replica::{LogGeneration, LogPositions};
use coord::types::LeaderEpoch;
use protocol::ErrorCode;
use protocol::records::{BatchView, assign};
use storage::log::leader_epoch::EpochEntry;
use storage::log::producer_state::{ProducerStates, SequenceCheck};
use storage::{Offset, ProducerId, TopicIdPartition};

use super::content::{Content, StoredBatch};
use super::{Appended, Conditions, Job, LogEvent, Reader, Wanted};

/// Batches of one read.
const READ_AT_ONCE: usize = 20;

#[derive(Debug, Clone)]
enum Write {
    Append(StoredBatch),
    Truncate(Offset),
    RestartAt(Offset),
    AdvanceStart(Offset),
}

impl Write {
    fn apply(self, content: &mut Content) {
        match self {
            Write::Append(batch) => content.append(batch),
            Write::Truncate(to) => content.truncate(to),
            Write::RestartAt(at) => content.restart_at(at),
            Write::AdvanceStart(to) => content.advance_start(to),
        }
    }
}

#[derive(Debug, Default)]
struct Log {
    memory: Content,
    durable: Content,
    /// Of what is in memory.
    producers: ProducerStates,
    high_watermark: Offset,
}

impl Log {
    fn write(&mut self, write: Write) {
        let appended = match &write {
            Write::Append(batch) => Some(batch.producer()),
            _ => None,
        };
        write.apply(&mut self.memory);
        match appended {
            Some(producer) => producer.iter().for_each(|batch| self.producers.apply(batch)),
            None => self.rebuild_producers(),
        }
    }

    /// What a recovery, and a truncation, make of the batches that are left.
    fn rebuild_producers(&mut self) {
        self.producers = ProducerStates::default();
        let batches = self.memory.batches().iter().filter_map(StoredBatch::producer);
        batches.for_each(|batch| self.producers.apply(&batch));
    }
}

/// A sync that has returned: in this partition everything that was appended in this generation below this end is on disk.
type Synced = (TopicIdPartition, LogGeneration, Offset);

/// See the module.
#[derive(Debug, Default)]
pub struct LogStore {
    logs: BTreeMap<TopicIdPartition, Log>,
    unsynced: VecDeque<(TopicIdPartition, Write)>,
    /// The sync under way: how many writes it covers, and what it will say.
    syncing: Option<(usize, Vec<Synced>)>,
    events: Vec<LogEvent>,
    next_ticket: u64,
    is_open: bool,
    is_full: bool,
}

impl LogStore {
    /// Keeps these logs, and makes those that are missing.
    pub fn open(&mut self, wanted: &[Wanted]) {
        let is_wanted = |id: &TopicIdPartition| wanted.iter().any(|wanted| wanted.id == *id);
        let others: Vec<TopicIdPartition> = self.logs.keys().copied().filter(|id| !is_wanted(id)).collect();
        others.into_iter().for_each(|id| self.delete(id));
        for wanted in wanted {
            self.logs.entry(wanted.id).or_default();
        }
        self.is_open = true;
        self.events.push(LogEvent::Opened);
    }

    /// Makes an empty log.
    pub fn create(&mut self, wanted: &Wanted) {
        self.logs.insert(wanted.id, Log::default());
        self.events.push(LogEvent::Created(wanted.id));
    }

    /// Whether a log is there.
    pub fn has(&self, id: TopicIdPartition) -> bool {
        self.is_open && self.logs.contains_key(&id)
    }

    /// Removes a log.
    pub fn delete(&mut self, id: TopicIdPartition) {
        self.logs.remove(&id);
        if let Some((covered, synced)) = &mut self.syncing {
            *covered -= self.unsynced.iter().take(*covered).filter(|(of, _)| *of == id).count();
            synced.retain(|(of, ..)| *of != id);
        }
        self.unsynced.retain(|(of, _)| *of != id);
    }

    /// What a log holds, synced or not.
    pub fn content(&self, id: TopicIdPartition) -> Option<&Content> {
        self.logs.get(&id).map(|log| &log.memory)
    }

    /// What a crash would leave at least.
    pub fn durable(&self, id: TopicIdPartition) -> Option<&Content> {
        self.logs.get(&id).map(|log| &log.durable)
    }

    /// The positions that recovery finds.
    pub fn positions(&self, id: TopicIdPartition) -> LogPositions {
        let content = &self.logs[&id].memory;
        let epochs = content
            .batches()
            .iter()
            .map(|batch| EpochEntry { epoch: batch.span.leader_epoch, start_offset: batch.span.base_offset });
        LogPositions::recovered(self.first_batch_offset(id), content.end(), epochs)
    }

    /// Where the first batch begins.
    pub fn first_batch_offset(&self, id: TopicIdPartition) -> Offset {
        let content = &self.logs[&id].memory;
        content.batches().first().map_or(content.start(), |batch| batch.span.base_offset.min(content.start()))
    }

    /// Where consumers may begin to read.
    pub fn log_start(&self, id: TopicIdPartition) -> Offset {
        self.logs[&id].memory.start()
    }

    /// Up to where the log can be read.
    pub fn readable_end(&self, id: TopicIdPartition) -> Offset {
        self.logs[&id].memory.end()
    }

    /// Everything below is committed.
    pub fn advance_high_watermark(&mut self, id: TopicIdPartition, to: Offset) {
        let log = self.logs.get_mut(&id).expect("a replica has a log");
        log.high_watermark = log.high_watermark.max(to);
    }

    /// What consumers may read.
    pub fn high_watermark(&self, id: TopicIdPartition) -> Offset {
        self.logs[&id].high_watermark
    }

    /// Whether there is no room.
    pub fn is_refusing(&self) -> bool {
        self.is_full
    }

    fn write(&mut self, id: TopicIdPartition, write: Write) {
        self.logs.get_mut(&id).expect("logs are made before they are written").write(write.clone());
        self.unsynced.push_back((id, write));
    }

    /// Appends a batch under a leader epoch.
    pub fn append(
        &mut self,
        id: TopicIdPartition,
        leader_epoch: LeaderEpoch,
        batch: &Bytes,
        _: i64,
    ) -> Result<Appended, ErrorCode> {
        let log = &self.logs[&id];
        let view = BatchView::parse(batch).expect("batches are built here");
        let producer = ProducerId(view.producer_id());
        let check = match view.has_producer_id() {
            true => {
                let (epoch, sequence) = (view.producer_epoch(), view.base_sequence());
                log.producers.check(producer, epoch, sequence, view.record_count())
            }
            false => SequenceCheck::Append,
        };
        match check {
            SequenceCheck::Append if self.is_full => Err(ErrorCode::KAFKA_STORAGE_ERROR),
            SequenceCheck::Append => {
                let base_offset = log.memory.end();
                let mut copy = batch.to_vec();
                assign(&mut copy, base_offset.0, leader_epoch.0, None);
                let stored = StoredBatch::new(copy.into());
                let end_offset = stored.span.end_offset;
                self.write(id, Write::Append(stored));
                Ok(Appended { base_offset, end_offset, is_repeated: false })
            }
            SequenceCheck::Duplicate(known) => Ok(Appended {
                base_offset: known.first_offset(),
                end_offset: known.last_offset.next(),
                is_repeated: true,
            }),
            SequenceCheck::StaleEpoch { .. } => Err(ErrorCode::INVALID_PRODUCER_EPOCH),
            SequenceCheck::OutOfOrder { .. } => Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
        }
    }

    /// Does to a follower's log what a leader's message asks for.
    pub fn store(&mut self, id: TopicIdPartition, job: Job, _: i64) -> u64 {
        if let Some(at) = job.restart_at {
            self.write(id, Write::RestartAt(at));
        }
        if let Some(to) = job.truncate_to {
            self.write(id, Write::Truncate(to));
        }
        job.batches.into_iter().for_each(|batch| self.write(id, Write::Append(batch)));
        let content = &self.logs[&id].memory;
        let start = job.log_start.min(content.end());
        if start > content.start() {
            self.write(id, Write::AdvanceStart(start));
        }
        let ticket = self.ticket();
        self.events.push(LogEvent::Stored(id, ticket));
        ticket
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// Reads some batches.
    pub fn read(
        &mut self,
        id: TopicIdPartition,
        from: Offset,
        upper: Offset,
        reader: Reader,
    ) -> Result<Result<Vec<StoredBatch>, ErrorCode>, u64> {
        let content = &self.logs[&id].memory;
        let start = match reader {
            Reader::Consumer => content.start(),
            Reader::Replica => self.first_batch_offset(id),
        };
        if from < start || from > content.end() {
            return Ok(Err(ErrorCode::OFFSET_OUT_OF_RANGE));
        }
        let batches = content.from(from).iter().take_while(|batch| batch.span.end_offset <= upper);
        Ok(Ok(batches.take(READ_AT_ONCE).cloned().collect()))
    }

    /// Reads everything.
    pub fn read_all(&mut self, id: TopicIdPartition) -> u64 {
        let ticket = self.ticket();
        let batches = self.logs[&id].memory.batches().to_vec();
        self.events.push(LogEvent::Read(ticket, Ok(batches)));
        ticket
    }

    /// DeleteRecords.
    pub fn delete_records(&mut self, id: TopicIdPartition, before: Offset) -> u64 {
        if before > self.logs[&id].memory.start() {
            self.write(id, Write::AdvanceStart(before));
        }
        let ticket = self.ticket();
        self.events.push(LogEvent::Deleted(ticket, Ok(self.logs[&id].memory.start())));
        ticket
    }

    /// Nothing is old here.
    pub fn maintain(&mut self, _: i64) {
        self.events.push(LogEvent::Maintained);
    }

    /// The disk may have room, or none any more.
    pub fn update(&mut self, conditions: Conditions) {
        self.is_full = conditions.is_full;
    }

    /// What has happened.
    pub fn run(&mut self) -> Vec<LogEvent> {
        std::mem::take(&mut self.events)
    }

    /// Begins a sync of everything that has been written, if there is anything and no sync is under way; `generation` tells of each log in which
    /// generation it is. Answers whether a sync has begun.
    pub fn begin_sync(&mut self, generation: impl Fn(TopicIdPartition) -> Option<LogGeneration>) -> bool {
        if self.syncing.is_some() || self.unsynced.is_empty() {
            return false;
        }
        let mut ids: Vec<TopicIdPartition> = self.unsynced.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let synced =
            ids.into_iter().filter_map(|id| Some((id, generation(id)?, self.logs[&id].memory.end())));
        self.syncing = Some((self.unsynced.len(), synced.collect()));
        true
    }

    /// The sync under way has returned.
    pub fn end_sync(&mut self) {
        if let Some((covered, synced)) = self.syncing.take() {
            self.keep(covered);
            let told = synced.into_iter().map(|(id, generation, end)| LogEvent::Synced(id, generation, end));
            self.events.extend(told);
        }
    }

    fn keep(&mut self, writes: usize) {
        for (id, write) in self.unsynced.drain(..writes) {
            let log = self.logs.get_mut(&id).expect("a deleted log has no writes");
            write.apply(&mut log.durable);
        }
    }

    /// The process ends without warning, or the power fails: of what was not synced, some first writes have reached the disk.
    pub fn crash(&mut self, random: u64) {
        let kept = (random % (self.unsynced.len() as u64 + 1)) as usize;
        self.keep(kept);
        self.unsynced.clear();
        self.syncing = None;
        self.events.clear();
        self.is_open = false;
        for log in self.logs.values_mut() {
            log.memory = log.durable.clone();
            log.rebuild_producers();
            log.high_watermark = Offset::ZERO;
        }
    }

    /// Another, empty disk.
    pub fn wipe(&mut self, _: u64) {
        *self = LogStore::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::records::{BatchBuilder, BatchOptions};
    use storage::PartitionId;

    fn batch() -> Bytes {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(1, None, Some(b"value"), &[]);
        builder.build().expect("no codec is involved")
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_some_first_writes_of_the_rest() {
        let id = TopicIdPartition::new(uuid::Uuid::from_u128(1), PartitionId(0));
        let wanted = Wanted { id, topic: "topic".to_owned(), leader_epoch: LeaderEpoch(0) };
        for kept in 0..=2u64 {
            let mut store = LogStore::default();
            store.open(std::slice::from_ref(&wanted));
            store.append(id, LeaderEpoch(0), &batch(), 0).unwrap();
            assert!(store.begin_sync(|_| Some(LogGeneration(0))));
            store.append(id, LeaderEpoch(0), &batch(), 0).unwrap();
            assert!(!store.begin_sync(|_| Some(LogGeneration(0))), "one sync at a time");
            store.end_sync();
            let told = store.run();
            assert!(
                matches!(told[1], LogEvent::Synced(of, LogGeneration(0), Offset(1)) if of == id),
                "{told:?}"
            );
            store.write(id, Write::Truncate(Offset(1)));
            assert_eq!(store.durable(id).unwrap().end(), Offset(1));
            store.crash(kept);
            let expected = [1, 2, 1][kept as usize];
            assert_eq!(store.content(id).unwrap().end(), Offset(expected));
        }
    }
}
