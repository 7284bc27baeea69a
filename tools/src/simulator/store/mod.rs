//! The logs of one broker, whose disk outlives its processes: in most runs a model ([`LogStore`]), in the others a real store ([`RealLogs`]).
//!
//! | module | owns |
//! |---|---|
//! | [`content`] | batches, and what a log consists of |
//! | [`model`] | writes, of which a sync covers those before it and a crash keeps a first part |
//! | [`real`] | storage's own store on a simulated disk, and what it has said so far |
//! | [`life`] | the tasks of one life of that store |
//! | [`timers`] | virtual time for them |

mod content;
mod life;
mod model;
mod real;
mod timers;

use bytes::Bytes;
use coord::replica::{LogGeneration, LogPositions};
use coord::types::LeaderEpoch;
use protocol::ErrorCode;
use storage::disk::sim::SimOp;
use storage::{Offset, TopicIdPartition};

pub use content::{Content, StoredBatch};
pub use life::Job;
pub use model::LogStore;
pub use real::RealLogs;
pub use timers::Conditions;

/// A log that a broker is to have.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which partition.
    pub id: TopicIdPartition,
    /// Its topic's name.
    pub topic: String,
    /// The leader epoch at present.
    pub leader_epoch: LeaderEpoch,
}

/// Where a leader's append went.
#[derive(Debug, Clone, Copy)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset after the last record.
    pub end_offset: Offset,
    /// The batch was there already.
    pub is_repeated: bool,
}

/// For whom something is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// From where consumers may begin.
    Consumer,
    /// Everything that is still there.
    Replica,
}

/// What logs tell.
#[derive(Debug)]
pub enum LogEvent {
    /// The logs are there.
    Opened,
    /// A log is there.
    Created(TopicIdPartition),
    /// Everything below this end that was appended in this generation is on disk.
    Synced(TopicIdPartition, LogGeneration, Offset),
    /// A leader's message is stored.
    Stored(TopicIdPartition, u64),
    /// What was read.
    Read(u64, Result<Vec<StoredBatch>, ErrorCode>),
    /// Where a log begins after DeleteRecords.
    Deleted(u64, Result<Offset, ErrorCode>),
    /// Old segments may have gone.
    Maintained,
    /// The disk has failed.
    Failed(String),
    /// Something that must not happen.
    Broken(Option<TopicIdPartition>, String),
}

/// See the module.
pub enum Logs {
    /// A model.
    Model(Box<LogStore>),
    /// A real store.
    Real(Box<RealLogs>),
}

macro_rules! both {
    ($logs:expr, $it:ident => $does:expr) => {
        match $logs {
            Logs::Model($it) => $does,
            Logs::Real($it) => $does,
        }
    };
}

impl Logs {
    /// A process begins.
    pub fn begin_life(&mut self, seed: u64, conditions: Conditions) {
        if let Logs::Real(real) = self {
            real.begin_life(seed, conditions);
        }
        self.update(conditions);
    }

    /// Opens these logs, and removes others. [`LogEvent::Opened`] says when that is done.
    pub fn open(&mut self, wanted: &[Wanted]) {
        both!(self, logs => logs.open(wanted));
    }

    /// Makes a log. [`LogEvent::Created`] says when it is there.
    pub fn create(&mut self, wanted: &Wanted) {
        both!(self, logs => logs.create(wanted));
    }

    /// Removes a log.
    pub fn delete(&mut self, id: TopicIdPartition) {
        both!(self, logs => logs.delete(id));
    }

    /// Whether a log is there.
    pub fn has(&self, id: TopicIdPartition) -> bool {
        both!(self, logs => logs.has(id))
    }

    /// What a log holds, synced or not.
    pub fn content(&self, id: TopicIdPartition) -> Option<&Content> {
        both!(self, logs => logs.content(id))
    }

    /// What a crash would leave at least.
    pub fn durable(&self, id: TopicIdPartition) -> Option<&Content> {
        both!(self, logs => logs.durable(id))
    }

    /// The positions that a replica begins with.
    pub fn positions(&self, id: TopicIdPartition) -> LogPositions {
        both!(self, logs => logs.positions(id))
    }

    /// Where the first batch begins that the log still has.
    pub fn first_batch_offset(&self, id: TopicIdPartition) -> Offset {
        both!(self, logs => logs.first_batch_offset(id))
    }

    /// Where consumers may begin to read.
    pub fn log_start(&self, id: TopicIdPartition) -> Offset {
        both!(self, logs => logs.log_start(id))
    }

    /// Up to where the log can be read at present.
    pub fn readable_end(&self, id: TopicIdPartition) -> Offset {
        both!(self, logs => logs.readable_end(id))
    }

    /// Everything below is committed.
    pub fn advance_high_watermark(&mut self, id: TopicIdPartition, to: Offset) {
        both!(self, logs => logs.advance_high_watermark(id, to));
    }

    /// What consumers may read.
    pub fn high_watermark(&self, id: TopicIdPartition) -> Offset {
        both!(self, logs => logs.high_watermark(id))
    }

    /// Whether nothing is appended at present.
    pub fn is_refusing(&self) -> bool {
        both!(self, logs => logs.is_refusing())
    }

    /// Appends a producer's or a coordinator's batch under a leader epoch.
    pub fn append(
        &mut self,
        id: TopicIdPartition,
        leader_epoch: LeaderEpoch,
        batch: &Bytes,
        now_ms: i64,
    ) -> Result<Appended, ErrorCode> {
        both!(self, logs => logs.append(id, leader_epoch, batch, now_ms))
    }

    /// Stores a leader's message. [`LogEvent::Stored`] with this ticket says when that is done.
    pub fn store(&mut self, id: TopicIdPartition, job: Job, now_ms: i64) -> u64 {
        both!(self, logs => logs.store(id, job, now_ms))
    }

    /// Reads some batches from an offset up to another; with `Err` the ticket's [`LogEvent::Read`] brings them.
    pub fn read(
        &mut self,
        id: TopicIdPartition,
        from: Offset,
        upper: Offset,
        reader: Reader,
    ) -> Result<Result<Vec<StoredBatch>, ErrorCode>, u64> {
        both!(self, logs => logs.read(id, from, upper, reader))
    }

    /// Reads everything; the ticket's [`LogEvent::Read`] brings it.
    pub fn read_all(&mut self, id: TopicIdPartition) -> u64 {
        both!(self, logs => logs.read_all(id))
    }

    /// DeleteRecords, below the high watermark; the ticket's [`LogEvent::Deleted`] says where the log begins then.
    pub fn delete_records(&mut self, id: TopicIdPartition, before: Offset) -> u64 {
        both!(self, logs => logs.delete_records(id, before))
    }

    /// Tells the time; what is old may go.
    pub fn maintain(&mut self, now_ms: i64) {
        both!(self, logs => logs.maintain(now_ms));
    }

    /// Time has passed, or the disk is another.
    pub fn update(&mut self, conditions: Conditions) {
        both!(self, logs => logs.update(conditions));
    }

    /// When something happens by itself next. µs.
    pub fn next_due_us(&self) -> Option<u64> {
        match self {
            Logs::Model(_) => None,
            Logs::Real(real) => real.next_due_us(),
        }
    }

    /// Begins a sync of the model, whose end the world tells; `generation` says of each log in which generation it is. Answers whether one has begun.
    pub fn begin_sync(&mut self, generation: impl Fn(TopicIdPartition) -> Option<LogGeneration>) -> bool {
        match self {
            Logs::Model(model) => model.begin_sync(generation),
            Logs::Real(_) => false,
        }
    }

    /// The model's sync has returned.
    pub fn end_sync(&mut self) {
        if let Logs::Model(model) = self {
            model.end_sync();
        }
    }

    /// Lets everything go on that can, and tells what has happened.
    pub fn run(&mut self) -> Vec<LogEvent> {
        both!(self, logs => logs.run())
    }

    /// From now on the disk fails at what it is told. Nothing of that in the model.
    pub fn fail_disk(&mut self, op: SimOp, after: u64) {
        if let Logs::Real(real) = self {
            real.fail_disk(op, after);
        }
    }

    /// The process ends without warning, or the power fails.
    pub fn crash(&mut self, random: u64) {
        both!(self, logs => logs.crash(random));
    }

    /// Another, empty disk.
    pub fn wipe(&mut self, seed: u64) {
        both!(self, logs => logs.wipe(seed));
    }
}
