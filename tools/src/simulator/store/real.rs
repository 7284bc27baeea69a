//! The logs of one broker in a real [`ShardStore`] on a simulated disk: journal, segments, flusher, recovery and all.
//!
//! Beside it stands what the store has said of each log, batch by batch. Everything that is read, and what every recovery finds, is compared with that.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use coord::replica::{LogGeneration, LogPositions};
use coord::types::LeaderEpoch;
use protocol::ErrorCode;
use protocol::records::{Origin, ValidationLimits, assign, validate};
use storage::disk::SimDisk;
use storage::disk::sim::{SimOp, Survival};
use storage::store::{HighWatermarkMode, TopicStatus};
use storage::{AppendContext, LogConfig, Offset, PartitionLog, PartitionSpec, StoreConfig, TopicIdPartition};
use uuid::Uuid;

use super::content::{Content, StoredBatch};
use super::life::{Event, Job, Life, data_dir};
use super::timers::{Conditions, Timers};
use super::{Appended, LogEvent, Reader, Wanted};
use crate::simulator::random::Random;

/// What the store has said of one log.
#[derive(Debug, Default)]
struct Known {
    memory: Content,
    durable: Content,
    /// As the disk has it: behind the replica's while a cut is under way.
    generation: LogGeneration,
    /// What a crash leaves now is either of two logs.
    is_being_cut: bool,
}

/// See the module.
pub struct RealLogs {
    disk: SimDisk,
    config: StoreConfig,
    log_config: Rc<LogConfig>,
    /// See [`Timers`].
    sync_us: u64,
    life: Option<Life>,
    known: BTreeMap<TopicIdPartition, Known>,
    next_ticket: u64,
    /// The disk was told to fail: then the process has to end.
    is_disk_failing: bool,
    is_full: bool,
}

impl RealLogs {
    /// A new disk. Sizes are small, and differ from one to the other.
    pub fn new(sync_us: u64, random: &mut Random) -> Self {
        let mut one_of = |sizes: &[usize]| *random.pick(sizes).expect("there are some");
        let mut config = StoreConfig::new(data_dir(), 0, 1, Uuid::from_u128(1));
        config.journal.file_bytes = one_of(&[32 << 10, 64 << 10, 256 << 10]) as u64;
        config.journal.max_files = one_of(&[4, 8]);
        config.journal.max_commit_bytes = 8 << 10;
        config.cache_bytes = one_of(&[48 << 10, 128 << 10, 1 << 20]);
        config.read_ahead_bytes = one_of(&[0, 64 << 10]);
        config.max_open_files = one_of(&[2, 64]);
        config.sync_together_from = one_of(&[1, 64]);
        config.idle_flush_ms = one_of(&[200, 1_000, 5_000]) as i64;
        config.low_space_bytes = 1 << 20;
        config.topic_status = Rc::new(|_| TopicStatus::Live);
        let log_config = LogConfig {
            segment_bytes: one_of(&[2 << 10, 8 << 10, 32 << 10]) as u64,
            index_interval_bytes: 512,
            retention_ms: -1,
            ..LogConfig::default()
        };
        RealLogs {
            disk: SimDisk::new(random.bits()),
            config,
            log_config: Rc::new(log_config),
            sync_us,
            life: None,
            known: BTreeMap::new(),
            next_ticket: 0,
            is_disk_failing: false,
            is_full: false,
        }
    }

    /// A process begins.
    pub fn begin_life(&mut self, seed: u64, conditions: Conditions) {
        let timers = Timers::new(seed, self.sync_us, conditions);
        let of_disk = timers.clone();
        self.disk.set_pace(move |op| of_disk.disk_operation(op));
        self.life = Some(Life::new(timers));
        self.set_full(conditions.is_full);
    }

    fn life(&self) -> &Life {
        self.life.as_ref().expect("only a process works with its logs")
    }

    /// Opens the store with these logs. [`LogEvent::Opened`] says when it is.
    pub fn open(&mut self, wanted: &[Wanted]) {
        let specs = wanted.iter().map(|wanted| self.spec(wanted)).collect();
        let (disk, config) = (self.disk.clone(), self.config.clone());
        self.life.as_mut().expect("only a process works with its logs").open(disk, config, specs);
    }

    fn spec(&self, wanted: &Wanted) -> PartitionSpec {
        PartitionSpec {
            topic_id: wanted.id.topic_id,
            topic: wanted.topic.as_str().into(),
            partition: wanted.id.partition,
            leader_epoch: wanted.leader_epoch,
            config: self.log_config.clone(),
            high_watermark: HighWatermarkMode::Replicated,
        }
    }

    /// Makes a log. [`LogEvent::Created`] says when it is there.
    pub fn create(&mut self, wanted: &Wanted) {
        self.life().create(self.spec(wanted));
    }

    /// Removes a log.
    pub fn delete(&mut self, id: TopicIdPartition) {
        self.known.remove(&id);
        self.life().delete(id);
    }

    /// Whether a log is there.
    pub fn has(&self, id: TopicIdPartition) -> bool {
        self.known.contains_key(&id) && self.log(id).is_some()
    }

    fn log(&self, id: TopicIdPartition) -> Option<PartitionLog<SimDisk>> {
        self.life.as_ref()?.shell.store()?.partition(&id)
    }

    fn known_log(&self, id: TopicIdPartition) -> PartitionLog<SimDisk> {
        self.log(id).expect("a replica has a log")
    }

    /// What a log holds, as the store has said.
    pub fn content(&self, id: TopicIdPartition) -> Option<&Content> {
        self.known.get(&id).map(|known| &known.memory)
    }

    /// What a crash would leave at least, as the store has said.
    pub fn durable(&self, id: TopicIdPartition) -> Option<&Content> {
        self.known.get(&id).map(|known| &known.durable)
    }

    /// The positions that a replica begins with.
    pub fn positions(&self, id: TopicIdPartition) -> LogPositions {
        let log = self.known_log(id);
        LogPositions::recovered(log.first_batch_offset(), log.offsets().log_end_offset, log.leader_epochs())
    }

    /// Where the first batch begins that the log still has.
    pub fn first_batch_offset(&self, id: TopicIdPartition) -> Offset {
        self.known_log(id).first_batch_offset()
    }

    /// Where consumers may begin to read.
    pub fn log_start(&self, id: TopicIdPartition) -> Offset {
        self.known_log(id).offsets().log_start_offset
    }

    /// Up to where the log can be read at present.
    pub fn readable_end(&self, id: TopicIdPartition) -> Offset {
        self.known_log(id).readable_end()
    }

    /// Everything below is committed. Answers with what consumers may read.
    pub fn advance_high_watermark(&mut self, id: TopicIdPartition, to: Offset) {
        self.known_log(id).advance_high_watermark(to);
    }

    /// What consumers may read.
    pub fn high_watermark(&self, id: TopicIdPartition) -> Offset {
        self.known_log(id).offsets().high_watermark
    }

    /// Whether nothing is appended, because there is no room or for another reason.
    pub fn is_refusing(&self) -> bool {
        self.life().shell.store().is_none_or(|store| store.writable().is_err())
    }

    /// Appends a batch under a leader epoch.
    pub fn append(
        &mut self,
        id: TopicIdPartition,
        leader_epoch: LeaderEpoch,
        batch: &Bytes,
        now_ms: i64,
    ) -> Result<Appended, ErrorCode> {
        let validated =
            validate(batch, &ValidationLimits::default(), now_ms).expect("batches are built here");
        let context = AppendContext { leader_epoch, now_ms, origin: Origin::Client };
        let outcome = self.known_log(id).append(batch, &validated, context).map_err(|error| error.code())?;
        if !outcome.duplicate {
            let mut copy = batch.to_vec();
            assign(&mut copy, outcome.base_offset.0, leader_epoch.0, None);
            self.known_mut(id).memory.append(StoredBatch::new(copy.into()));
        }
        Ok(Appended {
            base_offset: outcome.base_offset,
            end_offset: outcome.last_offset.next(),
            is_repeated: outcome.duplicate,
        })
    }

    fn known_mut(&mut self, id: TopicIdPartition) -> &mut Known {
        self.known.get_mut(&id).expect("a replica has a log")
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// Stores a leader's message. [`LogEvent::Stored`] with this ticket says when that is done.
    pub fn store(&mut self, id: TopicIdPartition, job: Job, now_ms: i64) -> u64 {
        let (ticket, log) = (self.ticket(), self.known_log(id));
        self.known_mut(id).is_being_cut |= job.restart_at.is_some() || job.truncate_to.is_some();
        self.life().shell.now_ms.set(now_ms);
        self.life().store(log, ticket, job);
        ticket
    }

    /// Reads some batches, now or with the ticket's event.
    pub fn read(
        &mut self,
        id: TopicIdPartition,
        from: Offset,
        upper: Offset,
        reader: Reader,
    ) -> Result<Result<Vec<StoredBatch>, ErrorCode>, u64> {
        let (ticket, log) = (self.ticket(), self.known_log(id));
        let generation = self.known_mut(id).generation;
        match self.life().read(log, (ticket, generation), (from, upper), reader) {
            None => Err(ticket),
            Some(Ok(batches)) => {
                if let Some(problem) = self.misread(id, from, &batches) {
                    // As loud as an assertion of the store itself.
                    panic!("{problem}");
                }
                Ok(Ok(batches))
            }
            Some(Err(code)) => Ok(Err(code)),
        }
    }

    /// Reads everything; the ticket's event brings it.
    pub fn read_all(&mut self, id: TopicIdPartition) -> u64 {
        let (ticket, log) = (self.ticket(), self.known_log(id));
        let generation = self.known_mut(id).generation;
        self.life().read_all(log, (ticket, generation));
        ticket
    }

    /// DeleteRecords; the ticket's event says where the log begins then.
    pub fn delete_records(&mut self, id: TopicIdPartition, before: Offset) -> u64 {
        let (ticket, log) = (self.ticket(), self.known_log(id));
        self.life().delete_records(log, ticket, before);
        ticket
    }

    /// Tells the store the time; old segments may go.
    pub fn maintain(&mut self, now_ms: i64) {
        self.life().shell.now_ms.set(now_ms);
        self.life().maintain();
    }

    /// What is wrong with batches that were read from an offset on, if anything.
    fn misread(&self, id: TopicIdPartition, from: Offset, batches: &[StoredBatch]) -> Option<String> {
        let content = self.content(id)?;
        // What lies before the log start, and goes to replicas only, is not remembered.
        let batches = &batches[batches.partition_point(|batch| batch.span.end_offset <= content.start())..];
        let expected = content.from(batches.first()?.span.base_offset);
        let is_right = batches.len() <= expected.len() && *batches == expected[..batches.len()];
        let spans = |batches: &[StoredBatch]| batches.iter().map(|batch| batch.span).collect::<Vec<_>>();
        (!is_right).then(|| {
            let expected = spans(&expected[..expected.len().min(batches.len())]);
            format!("{id} is read at {from}: {:?}, and what was written is {expected:?}", spans(batches))
        })
    }

    /// Time has passed, or the disk is another.
    pub fn update(&mut self, conditions: Conditions) {
        let Some(life) = &self.life else { return };
        life.shell.timers.update(conditions);
        if self.is_full != conditions.is_full {
            self.set_full(conditions.is_full);
            self.life().look_at_space();
        }
    }

    fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
        self.disk.set_free_space(if is_full { 0 } else { 1 << 40 });
        if is_full { self.disk.fill_up() } else { self.disk.make_room() }
    }

    /// When something happens by itself next.
    pub fn next_due_us(&self) -> Option<u64> {
        self.life.as_ref()?.shell.timers.next_due_us()
    }

    /// Lets everything go on that can, and tells what has happened.
    pub fn run(&mut self) -> Vec<LogEvent> {
        let Some(life) = &mut self.life else { return Vec::new() };
        let mut events = life.run();
        if events.iter().any(|event| matches!(event, Event::Failed(_))) {
            // The process ends: nobody hears what else did not work.
            events.retain(|event| !matches!(event, Event::Read { result: Err(_), .. }));
        }
        events.into_iter().filter_map(|event| self.told(event)).collect()
    }

    fn told(&mut self, event: Event) -> Option<LogEvent> {
        match event {
            Event::Opened(found) => return Some(self.opened(found)),
            Event::Created(id, content) => {
                let known = Known { memory: content.clone(), durable: content, ..Known::default() };
                self.known.insert(id, known);
                return Some(LogEvent::Created(id));
            }
            Event::Broken(id, text) => return Some(LogEvent::Broken(id, text)),
            // Without any room a store cannot be opened.
            Event::Failed(why) if self.is_disk_failing || self.is_full => return Some(LogEvent::Failed(why)),
            Event::Failed(why) => return Some(LogEvent::Broken(None, why)),
            Event::Maintained => {
                self.follow_log_starts();
                return Some(LogEvent::Maintained);
            }
            Event::Deleted(ticket, result) => {
                self.follow_log_starts();
                return Some(LogEvent::Deleted(ticket, result));
            }
            _ => {}
        }
        // What is told of a log that is gone does not count.
        match event {
            Event::Durable(id, end) => {
                let known = self.known.get_mut(&id)?;
                known.make_durable(end);
                Some(LogEvent::Synced(id, known.generation, end))
            }
            Event::Cut { id, restart_at, truncate_to, generation } => {
                let known = self.known.get_mut(&id)?;
                if let Some(at) = restart_at {
                    known.memory.restart_at(at);
                }
                if let Some(to) = truncate_to {
                    known.memory.truncate(to);
                }
                known.durable = known.memory.clone();
                known.is_being_cut = false;
                known.generation = generation;
                Some(LogEvent::Synced(id, generation, known.memory.end()))
            }
            Event::Appended(id, batch) => {
                self.known.get_mut(&id)?.memory.append(batch);
                None
            }
            Event::Stored(id, ticket) => {
                self.known.get(&id)?;
                self.follow_log_start(id);
                Some(LogEvent::Stored(id, ticket))
            }
            Event::Read { id, ticket, generation, from, result } => {
                let is_outdated = self.known.get(&id)?.generation != generation;
                let result = if is_outdated { Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) } else { result };
                let problem = result.as_ref().ok().and_then(|batches| self.misread(id, from, batches));
                Some(match problem {
                    Some(problem) => LogEvent::Broken(Some(id), problem),
                    None => LogEvent::Read(ticket, result),
                })
            }
            _ => None,
        }
    }

    fn follow_log_starts(&mut self) {
        self.known_ids().into_iter().for_each(|id| self.follow_log_start(id));
    }

    fn known_ids(&self) -> Vec<TopicIdPartition> {
        self.known.keys().copied().collect()
    }

    /// Where the store lets the log begin now, if it has it.
    fn start_in_store(&self, id: TopicIdPartition) -> Option<Offset> {
        self.log(id).map(|log| log.offsets().log_start_offset)
    }

    fn follow_log_start(&mut self, id: TopicIdPartition) {
        if let Some(start) = self.start_in_store(id) {
            let known = self.known_mut(id);
            known.memory.advance_start(start);
            known.durable.advance_start(start);
        }
    }

    /// Recovery is done. Everything is there that was said to be durable, and nothing that was never written.
    fn opened(&mut self, found: Vec<(TopicIdPartition, Content)>) -> LogEvent {
        let former = std::mem::take(&mut self.known);
        for (id, content) in found {
            if let Some(problem) = former.get(&id).and_then(|known| known.contradicts(&content)) {
                return LogEvent::Broken(Some(id), format!("recovery of {id}: {problem}"));
            }
            self.known.insert(id, Known { memory: content.clone(), durable: content, ..Known::default() });
        }
        LogEvent::Opened
    }

    /// From now on the disk fails: whoever writes has to end.
    pub fn fail_disk(&mut self, op: SimOp, after: u64) {
        self.disk.fail_after(op, after);
        self.is_disk_failing = true;
    }

    /// The process ends without warning, or the power fails: of what was not synced any sectors have reached the disk.
    pub fn crash(&mut self, random: u64) {
        // A start that has moved may be on the disk before anybody is told of it.
        for id in self.known_ids() {
            if let Some(start) = self.start_in_store(id) {
                self.known_mut(id).memory.advance_start(start);
            }
        }
        self.life = None;
        self.is_disk_failing = false;
        self.disk = self.disk.crash(Survival::AnySubset, random);
    }

    /// Another, empty disk.
    pub fn wipe(&mut self, seed: u64) {
        self.disk = SimDisk::new(seed);
        self.known.clear();
    }
}

impl Known {
    fn make_durable(&mut self, end: Offset) {
        let known = self.durable.batches().last().map_or(self.durable.start(), |last| last.span.end_offset);
        for batch in self.memory.from(known).iter().take_while(|batch| batch.span.end_offset <= end) {
            self.durable.append(batch.clone());
        }
    }

    /// What does not go together with what a recovery has found.
    fn contradicts(&self, found: &Content) -> Option<String> {
        if self.is_being_cut {
            return None;
        }
        if found.start() > self.memory.start() {
            return Some(format!("the log begins at {} instead of {}", found.start(), self.memory.start()));
        }
        let start = self.durable.start().max(found.start());
        let (durable, kept) = (self.durable.from(start), found.from(start));
        let lost = (0..durable.len()).find(|at| kept.get(*at) != durable.get(*at));
        if let Some(at) = lost {
            return Some(format!("{:?} was durable, and is not there", durable[at].span));
        }
        let end = self.durable.end();
        let (unsynced, more) = (self.memory.from(end), found.from(end));
        let invented = (0..more.len()).find(|at| more.get(*at) != unsynced.get(*at));
        invented.map(|at| format!("{:?} was never written, or something before it is missing", more[at].span))
    }
}
