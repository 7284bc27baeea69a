//! The logs of one broker, all of whose appends go through one journal: what is in memory, and what of it a crash leaves.
//!
//! Writes reach the disk in their order. A sync covers what had been written when it began; a crash keeps a prefix of what was not synced.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use coord::replica::{BatchSpan, LogGeneration, LogPositions};
use coord::types::LeaderEpoch;
use protocol::records::BatchView;
use storage::log::leader_epoch::EpochEntry;
use storage::log::producer_state::{ProducerBatch, ProducerStates};
use storage::{Offset, ProducerId, TopicIdPartition};

/// A batch as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// Where it lies.
    pub span: BatchSpan,
    /// Its bytes, the same on every replica.
    pub bytes: Bytes,
}

impl StoredBatch {
    /// A batch whose offsets and epoch are assigned.
    pub fn new(bytes: Bytes) -> Self {
        let view = BatchView::parse(&bytes).expect("batches are built here");
        let span = BatchSpan {
            leader_epoch: LeaderEpoch(view.leader_epoch()),
            base_offset: Offset(view.base_offset()),
            end_offset: Offset(view.next_offset()),
        };
        StoredBatch { span, bytes }
    }

    /// The batch's header and records.
    pub fn view(&self) -> BatchView<'_> {
        BatchView::parse(&self.bytes).expect("batches are built here")
    }

    fn producer(&self) -> Option<ProducerBatch> {
        let view = self.view();
        view.has_producer_id().then(|| ProducerBatch {
            producer_id: ProducerId(view.producer_id()),
            producer_epoch: view.producer_epoch(),
            base_sequence: view.base_sequence(),
            base_offset: Offset(view.base_offset()),
            last_offset: Offset(view.last_offset()),
            timestamp_ms: view.max_timestamp(),
        })
    }
}

/// What a log consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    start: Offset,
    batches: Vec<StoredBatch>,
}

impl Content {
    /// Where the log begins.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Where it ends.
    pub fn end(&self) -> Offset {
        self.batches.last().map_or(self.start, |batch| batch.span.end_offset)
    }

    /// The batches from an offset on.
    pub fn from(&self, offset: Offset) -> &[StoredBatch] {
        &self.batches[self.batches.partition_point(|batch| batch.span.end_offset <= offset)..]
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Append(batch) => {
                assert!(batch.span.base_offset >= self.end(), "a batch does not continue the log");
                self.batches.push(batch);
            }
            Write::Truncate(to) => {
                self.batches.retain(|batch| batch.span.end_offset <= to);
                assert_eq!(self.end(), to, "a truncation cuts between batches");
            }
            Write::RestartAt(at) => {
                self.batches.clear();
                self.start = at;
            }
            Write::AdvanceStart(to) => {
                self.batches.retain(|batch| batch.span.end_offset > to);
                self.start = self.start.max(to);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Write {
    Append(StoredBatch),
    Truncate(Offset),
    RestartAt(Offset),
    AdvanceStart(Offset),
}

#[derive(Debug, Default)]
struct Log {
    memory: Content,
    durable: Content,
    /// Of what is in memory.
    producers: ProducerStates,
}

impl Log {
    fn write(&mut self, write: Write) {
        let appended = match &write {
            Write::Append(batch) => Some(batch.producer()),
            _ => None,
        };
        self.memory.apply(write);
        match appended {
            Some(producer) => producer.iter().for_each(|batch| self.producers.apply(batch)),
            None => self.rebuild_producers(),
        }
    }

    /// What a recovery, and a truncation, make of the batches that are left.
    fn rebuild_producers(&mut self) {
        self.producers = ProducerStates::default();
        let batches = self.memory.batches.iter().filter_map(StoredBatch::producer);
        batches.for_each(|batch| self.producers.apply(&batch));
    }
}

/// A sync that has returned: in this partition everything that was appended in this generation below this end is on disk.
pub type Synced = (TopicIdPartition, LogGeneration, Offset);

/// See the module.
#[derive(Debug, Default)]
pub struct LogStore {
    logs: BTreeMap<TopicIdPartition, Log>,
    unsynced: VecDeque<(TopicIdPartition, Write)>,
    /// The sync under way: how many writes it covers, and what it will say.
    syncing: Option<(usize, Vec<Synced>)>,
}

impl LogStore {
    /// Makes an empty log unless there is one.
    pub fn create(&mut self, id: TopicIdPartition) {
        self.logs.entry(id).or_default();
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

    /// The logs that there are.
    pub fn ids(&self) -> Vec<TopicIdPartition> {
        self.logs.keys().copied().collect()
    }

    /// What a log holds, synced or not.
    pub fn content(&self, id: TopicIdPartition) -> Option<&Content> {
        self.logs.get(&id).map(|log| &log.memory)
    }

    /// What a crash would leave at least.
    pub fn durable(&self, id: TopicIdPartition) -> Option<&Content> {
        self.logs.get(&id).map(|log| &log.durable)
    }

    /// What a log knows of its producers.
    pub fn producers(&self, id: TopicIdPartition) -> &ProducerStates {
        &self.logs[&id].producers
    }

    /// The positions that recovery finds.
    pub fn positions(&self, id: TopicIdPartition) -> LogPositions {
        let content = &self.logs[&id].memory;
        let epochs = content
            .batches
            .iter()
            .map(|batch| EpochEntry { epoch: batch.span.leader_epoch, start_offset: batch.span.base_offset });
        LogPositions::recovered(content.start, content.end(), epochs)
    }

    fn write(&mut self, id: TopicIdPartition, write: Write) {
        self.logs.get_mut(&id).expect("logs are made before they are written").write(write.clone());
        self.unsynced.push_back((id, write));
    }

    /// Appends a batch.
    pub fn append(&mut self, id: TopicIdPartition, batch: StoredBatch) {
        self.write(id, Write::Append(batch));
    }

    /// Cuts the end off.
    pub fn truncate(&mut self, id: TopicIdPartition, to: Offset) {
        self.write(id, Write::Truncate(to));
    }

    /// Drops everything; the log goes on at `at`.
    pub fn restart_at(&mut self, id: TopicIdPartition, at: Offset) {
        self.write(id, Write::RestartAt(at));
    }

    /// Cuts the front off.
    pub fn advance_start(&mut self, id: TopicIdPartition, to: Offset) {
        self.write(id, Write::AdvanceStart(to));
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
    pub fn end_sync(&mut self) -> Vec<Synced> {
        let Some((covered, synced)) = self.syncing.take() else { return Vec::new() };
        self.keep(covered);
        synced
    }

    fn keep(&mut self, writes: usize) {
        for (id, write) in self.unsynced.drain(..writes) {
            self.logs.get_mut(&id).expect("a deleted log has no writes").durable.apply(write);
        }
    }

    /// The process ends without warning, or the power fails: of what was not synced, some first writes have reached the disk.
    pub fn crash(&mut self, random: u64) {
        let kept = (random % (self.unsynced.len() as u64 + 1)) as usize;
        self.keep(kept);
        self.unsynced.clear();
        self.syncing = None;
        for log in self.logs.values_mut() {
            log.memory = log.durable.clone();
            log.rebuild_producers();
        }
    }

    /// Another, empty disk.
    pub fn wipe(&mut self) {
        *self = LogStore::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::records::{BatchBuilder, BatchOptions};
    use storage::PartitionId;

    fn batch(base_offset: i64) -> StoredBatch {
        let options = BatchOptions { base_offset, partition_leader_epoch: 0, ..BatchOptions::default() };
        let mut builder = BatchBuilder::new(options);
        builder.append(1, None, Some(b"value"), &[]);
        StoredBatch::new(builder.build().expect("no codec is involved"))
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_some_first_writes_of_the_rest() {
        let id = TopicIdPartition::new(uuid::Uuid::from_u128(1), PartitionId(0));
        for kept in 0..=2u64 {
            let mut store = LogStore::default();
            store.create(id);
            store.append(id, batch(0));
            assert!(store.begin_sync(|_| Some(LogGeneration(0))));
            store.append(id, batch(1));
            assert!(!store.begin_sync(|_| Some(LogGeneration(0))), "one sync at a time");
            assert_eq!(store.end_sync(), [(id, LogGeneration(0), Offset(1))]);
            store.truncate(id, Offset(1));
            assert_eq!(store.durable(id).unwrap().end(), Offset(1));
            store.crash(kept);
            let expected = [1, 2, 1][kept as usize];
            assert_eq!(store.content(id).unwrap().end(), Offset(expected));
        }
    }
}
