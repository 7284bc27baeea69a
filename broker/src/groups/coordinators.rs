//! The coordinators of one shard, and what is done with their outputs: append, replay, answer, in one go.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use coord::group::consumer::TopicsView;
use coord::group::{GroupConfig, GroupCoordinator, GroupReply, Output, ReplyToken};
use coord::metadata::MetadataImage;
use coord::types::LeaderEpoch;
use protocol::ErrorCode;
use storage::disk::DirectDisk;

use super::append;
use super::kept::Kept;
use super::metrics::GroupMetrics;
use super::routing::OffsetsTopic;
use super::timers::TimerArm;
use super::waiting::WaitingRoom;
use crate::logs::{ShardLog, now_ms};
use crate::replication::Hosted;
use crate::shard::Shard;

/// An output whose refusal leads to records that are refused, too, is given up after so many rounds.
const REFUSALS_MAX: usize = 3;

/// The group coordinators of one shard.
pub struct Groups {
    config: Rc<GroupConfig>,
    topic: Cell<Option<OffsetsTopic>>,
    partitions: RefCell<BTreeMap<i32, Rc<Partition>>>,
    /// The topics of the image as coordinators see them; none if they have changed since somebody looked.
    topics: RefCell<Option<Rc<TopicsView>>>,
    /// Requests whose answer comes later.
    pub waiting: WaitingRoom,
    /// What the timer's task waits for.
    pub timer: TimerArm,
    /// What is counted.
    pub metrics: GroupMetrics,
    next_token: Cell<u64>,
    latest_now_ms: Cell<i64>,
}

/// One partition of `__consumer_offsets` that this shard has.
pub struct Partition {
    /// Its index.
    pub index: i32,
    /// Its log.
    pub log: ShardLog,
    /// The epoch of its leader, this broker.
    pub leader_epoch: LeaderEpoch,
    /// How far its coordinator is.
    pub state: RefCell<PartitionState>,
    /// Its replica, where other brokers have one, too, and the shard.
    pub replica: Option<(Weak<Shard>, Rc<Hosted<DirectDisk>>)>,
    /// What the coordinator has appended last.
    last_kept: RefCell<Option<Kept>>,
    /// Topics that were deleted while the coordinator was loading.
    deleted_topics: RefCell<Vec<Vec<Rc<str>>>>,
    /// What its coordinator knows of topics.
    topics: RefCell<Option<Rc<TopicsView>>>,
}

/// How far a coordinator is.
pub enum PartitionState {
    /// The partition is being read.
    Loading,
    /// It cannot be read: the log says why.
    Failed,
    /// It serves. (A box, because coordinators are large and states move.)
    Active(Box<GroupCoordinator>),
}

/// An answer, and what it has to wait for.
pub type PendingReply = (GroupReply, Option<Kept>);

impl Groups {
    /// No partitions so far.
    pub fn new(config: GroupConfig) -> Self {
        Groups {
            config: Rc::new(config),
            topic: Cell::new(None),
            partitions: RefCell::default(),
            topics: RefCell::default(),
            waiting: WaitingRoom::default(),
            timer: TimerArm::default(),
            metrics: GroupMetrics::default(),
            next_token: Cell::new(0),
            latest_now_ms: Cell::new(0),
        }
    }

    /// The configs of all coordinators.
    pub fn config(&self) -> &Rc<GroupConfig> {
        &self.config
    }

    /// `__consumer_offsets`, if it exists.
    pub fn topic(&self) -> Option<OffsetsTopic> {
        self.topic.get()
    }

    /// Notes that there is `__consumer_offsets` now, or none any more: then its coordinators end, and whoever waits for them is told.
    pub fn set_topic(&self, topic: Option<OffsetsTopic>) {
        self.topic.set(topic);
        if topic.is_none() {
            self.partitions.borrow_mut().clear();
            self.waiting.release();
        }
    }

    /// Adds a partition that is about to be loaded.
    pub fn add(
        &self,
        index: i32,
        log: ShardLog,
        leader_epoch: LeaderEpoch,
        replica: Option<(Weak<Shard>, Rc<Hosted<DirectDisk>>)>,
    ) -> Rc<Partition> {
        let partition = Rc::new(Partition {
            index,
            log,
            leader_epoch,
            state: RefCell::new(PartitionState::Loading),
            replica,
            last_kept: RefCell::new(None),
            deleted_topics: RefCell::default(),
            topics: RefCell::default(),
        });
        self.partitions.borrow_mut().insert(index, Rc::clone(&partition));
        partition
    }

    /// Another broker leads the partition: its coordinator ends, and whoever waits for it is told.
    pub fn remove(&self, index: i32) {
        if self.partitions.borrow_mut().remove(&index).is_some() {
            self.waiting.release_partition(index);
        }
    }

    /// The partition, or what a client is told if it is not here.
    pub fn partition(&self, index: i32) -> Result<Rc<Partition>, ErrorCode> {
        self.partitions.borrow().get(&index).cloned().ok_or(ErrorCode::NOT_COORDINATOR)
    }

    /// Whether this is still the partition's coordinator: one that has ended must not append any more, what it knows may be out of date.
    pub fn has(&self, partition: &Rc<Partition>) -> bool {
        self.partitions.borrow().get(&partition.index).is_some_and(|current| Rc::ptr_eq(current, partition))
    }

    /// All partitions that this shard has, in the order of their indexes.
    pub fn partitions(&self) -> Vec<Rc<Partition>> {
        self.partitions.borrow().values().cloned().collect()
    }

    /// Notes that topics have come, gone or changed. Coordinators are told when they are needed next: with thousands of topics each look costs
    /// some time, and most changes come many at once.
    pub fn topics_have_changed(&self) {
        self.topics.replace(None);
    }

    /// Tells the coordinator of topics, if they have changed since it was told.
    pub fn tell_topics(
        &self,
        image: &MetadataImage,
        partition: &Partition,
        coordinator: &mut GroupCoordinator,
        now_ms: i64,
    ) {
        let current =
            Rc::clone(self.topics.borrow_mut().get_or_insert_with(|| Rc::new(TopicsView::from_image(image))));
        if partition.topics.borrow().as_ref().is_some_and(|known| Rc::ptr_eq(known, &current)) {
            return;
        }
        let output = coordinator.metadata_changed(&current, now_ms);
        partition.topics.replace(Some(current));
        self.carry_out(partition, coordinator, output, None, now_ms);
    }

    /// A token that nobody else has.
    pub fn next_token(&self) -> ReplyToken {
        let token = self.next_token.get();
        self.next_token.set(token + 1);
        ReplyToken(token)
    }

    /// The clock of the coordinators: the wall clock in ms, which stands still while that goes back.
    pub fn now_ms(&self) -> i64 {
        let now_ms = now_ms().max(self.latest_now_ms.get());
        self.latest_now_ms.set(now_ms);
        now_ms
    }

    /// Does what a coordinator wants done: its records are appended and replayed, answers go to whoever waits for them. Returns the answer
    /// for `own`, the request that has led to this, if it is among them.
    pub fn carry_out(
        &self,
        partition: &Partition,
        coordinator: &mut GroupCoordinator,
        output: Output,
        own: Option<ReplyToken>,
        now_ms: i64,
    ) -> Option<PendingReply> {
        let replies = self.append(partition, coordinator, output, now_ms);
        let kept = partition.last_kept();
        let mut own_reply = None;
        for (token, reply) in replies {
            if own == Some(token) {
                own_reply = Some((reply, kept.clone()));
            } else {
                self.waiting.answer(token, (reply, kept.clone()));
            }
        }
        if let Some(deadline_ms) = coordinator.next_deadline_ms() {
            self.timer.note_deadline(deadline_ms);
        }
        own_reply
    }

    /// Appends and replays the output's records, or has the coordinator go on without them; the answers that are to be given.
    fn append(
        &self,
        partition: &Partition,
        coordinator: &mut GroupCoordinator,
        mut output: Output,
        now_ms: i64,
    ) -> Vec<(ReplyToken, GroupReply)> {
        for _ in 0..REFUSALS_MAX {
            if output.records.is_empty() {
                return output.replies;
            }
            let mut appended = 0;
            let refused = loop {
                match append::append(partition, &output.records[appended..], now_ms) {
                    Ok((kept, count)) => {
                        partition.last_kept.replace(Some(kept));
                        let records = &output.records[appended..appended + count];
                        records.iter().for_each(|record| coordinator.replay(record));
                        self.metrics.count_records(records);
                        appended += count;
                    }
                    Err(code) => break Some(code),
                }
                if appended == output.records.len() {
                    break None;
                }
            };
            let Some(code) = refused else { return output.replies };
            self.metrics.refused_appends.increment();
            output.records.drain(..appended);
            output = coordinator.append_refused(output, code, now_ms);
        }
        output.replies
    }
}

impl Partition {
    /// What the coordinator has appended last: everything is kept when that is.
    pub fn last_kept(&self) -> Option<Kept> {
        self.last_kept.borrow().clone()
    }

    /// Keeps for later that topics were deleted: the coordinator is loading.
    pub fn note_deleted_topics(&self, topics: Vec<Rc<str>>) {
        self.deleted_topics.borrow_mut().push(topics);
    }

    /// What was kept for later.
    pub fn take_deleted_topics(&self) -> Vec<Vec<Rc<str>>> {
        self.deleted_topics.take()
    }
}

impl PartitionState {
    /// The coordinator, or what a client is told if it does not serve.
    pub fn active(&mut self) -> Result<&mut GroupCoordinator, ErrorCode> {
        match self {
            PartitionState::Active(coordinator) => Ok(coordinator),
            PartitionState::Loading => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
            PartitionState::Failed => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        }
    }
}
