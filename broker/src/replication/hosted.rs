//! One replica with its log, what waits to be done to it, and the producers that wait for it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use coord::replica::{
    Append, AppendRefusal, LeaderPositions, LogGeneration, LogPositions, PartitionState, Replica,
    ReplicaConfig, Role,
};
use coord::types::BrokerId;
use futures::channel::oneshot;
use protocol::ErrorCode;
use storage::disk::Disk;
use storage::{LeaderEpoch, Offset, PartitionLog, TopicIdPartition};

use super::host::{Heard, Route};

/// What becomes of a batch that its producer wants to be with all in-sync replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is committed.
    Committed,
    /// This broker does not lead any more, or in vain: nothing is known.
    NotLeader,
}

/// A producer that waits until everything below `end` is committed.
struct Waiter {
    end: Offset,
    answer: oneshot::Sender<CommitOutcome>,
}

/// Something that is done to a replica in its turn: what a leader's message asks for may take some waiting for the disk.
pub(super) enum Work {
    /// A leader's message.
    Append(Arrived),
    /// The controller's word.
    State(PartitionState),
}

/// A leader's message.
pub(super) struct Arrived {
    pub route: Route,
    pub append: Append,
    pub consumers_from: Offset,
    pub batches: Bytes,
    /// Dropped when the message has been taken: its frame has room for another then.
    pub _frame: Rc<oneshot::Sender<()>>,
}

/// One replica.
pub struct Hosted<D: Disk> {
    /// Which partition.
    pub id: TopicIdPartition,
    /// Its log.
    pub log: PartitionLog<D>,
    pub(super) replica: RefCell<Replica>,
    /// The generation of the log as the disk has it: behind the replica's while a truncation is under way.
    pub(super) generation: Cell<LogGeneration>,
    /// How its leader was heard last.
    pub(super) heard: Cell<Option<Heard>>,
    pub(super) work: RefCell<VecDeque<Work>>,
    pub(super) is_busy: Cell<bool>,
    /// Somebody looks at it now and then, because time matters to it.
    pub(super) is_watched: Cell<bool>,
    /// It leads, but in vain: see [`super::vain`].
    pub(super) is_in_vain: Cell<bool>,
    /// The latest leader epoch that somebody else knows of.
    pub(super) later_epoch: Cell<LeaderEpoch>,
    /// By offset.
    waiters: RefCell<VecDeque<Waiter>>,
}

impl<D: Disk> Hosted<D> {
    /// A replica of a log of which everything is durable.
    pub(super) fn new(config: ReplicaConfig, log: PartitionLog<D>) -> Rc<Self> {
        let offsets = log.offsets();
        assert_eq!(
            offsets.durable_end_offset, offsets.log_end_offset,
            "a replica begins with what is durable"
        );
        let positions =
            LogPositions::recovered(log.first_batch_offset(), offsets.log_end_offset, log.leader_epochs());
        Rc::new(Hosted {
            id: log.id(),
            log,
            generation: Cell::new(positions.generation()),
            replica: RefCell::new(Replica::new(config, positions)),
            heard: Cell::new(None),
            work: RefCell::default(),
            is_busy: Cell::new(false),
            is_watched: Cell::new(false),
            is_in_vain: Cell::new(false),
            later_epoch: Cell::new(LeaderEpoch::UNKNOWN),
            waiters: RefCell::default(),
        })
    }

    /// What it is to clients.
    pub fn role(&self) -> Role {
        if self.is_in_vain.get() { Role::Leaderless } else { self.replica.borrow().role() }
    }

    /// Whether it leads in vain: [`super::vain`].
    pub fn is_in_vain(&self) -> bool {
        self.is_in_vain.get()
    }

    /// How far its leader was when it last said so, if it follows one.
    pub fn leader_positions(&self) -> Option<LeaderPositions> {
        self.replica.borrow().leader_positions()
    }

    /// The newest leader epoch that it knows.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.replica.borrow().leader_epoch()
    }

    /// Whether a producer's batch may be appended now.
    pub fn check_append(&self, acks_all: bool) -> Result<(), ErrorCode> {
        if self.is_busy.get() || self.is_in_vain.get() {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        self.replica.borrow().may_append(acks_all).map_err(|refusal| match refusal {
            AppendRefusal::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            AppendRefusal::NotEnoughReplicas => ErrorCode::NOT_ENOUGH_REPLICAS,
        })
    }

    /// Whether as many replicas are in sync as the topic asks for.
    pub fn has_enough_in_sync(&self) -> bool {
        self.replica.borrow().has_enough_in_sync()
    }

    /// Whether the end of what is committed is known: a new leader has to hear from its followers first (KIP-207).
    pub fn knows_latest_offset(&self) -> bool {
        match self.role() {
            Role::Leader { epoch_start } => self.log.offsets().high_watermark >= epoch_start,
            _ => false,
        }
    }

    /// The follower that a consumer in a rack had better read from: [`Replica::preferred_read_replica`].
    pub fn preferred_read_replica<'a>(
        &self,
        fetch_offset: Offset,
        client_rack: &str,
        rack_of: impl Fn(BrokerId) -> Option<&'a str>,
        now_ms: i64,
    ) -> Option<BrokerId> {
        self.replica.borrow().preferred_read_replica(fetch_offset, client_rack, rack_of, now_ms)
    }

    /// Waits until everything below `end` is committed, or this broker leads no more.
    pub fn committed(&self, end: Offset) -> impl Future<Output = CommitOutcome> + use<D> {
        let (answer, answered) = oneshot::channel();
        if self.log.offsets().high_watermark >= end {
            let _ = answer.send(CommitOutcome::Committed);
        } else if matches!(self.role(), Role::Leader { .. }) {
            let mut waiters = self.waiters.borrow_mut();
            let at = waiters.partition_point(|waiter| waiter.end <= end);
            waiters.insert(at, Waiter { end, answer });
        }
        async move { answered.await.unwrap_or(CommitOutcome::NotLeader) }
    }

    /// Answers the producers whose batches are committed now.
    pub(super) fn answer_committed(&self) {
        let high_watermark = self.log.offsets().high_watermark;
        let mut waiters = self.waiters.borrow_mut();
        while let Some(waiter) = waiters.pop_front_if(|waiter| waiter.end <= high_watermark) {
            let _ = waiter.answer.send(CommitOutcome::Committed);
        }
        if waiters.is_empty() {
            *waiters = VecDeque::new();
        }
    }

    /// A message has come this way.
    pub(super) fn note_heard(&self, heard: Heard) {
        if heard.supersedes(self.heard.get()) {
            self.heard.set(Some(heard));
        }
    }

    /// Answers all producers that wait: nothing that they hear from here counts any more.
    pub(super) fn dismiss_waiters(&self) {
        for waiter in self.waiters.take() {
            let _ = waiter.answer.send(CommitOutcome::NotLeader);
        }
    }
}
