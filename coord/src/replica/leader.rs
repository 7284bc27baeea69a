//! A leader's knowledge: how far each follower is, and up to where everything is committed.

use storage::Offset;

use super::in_sync::InSync;
use super::state::ReplicaBroker;
use crate::types::BrokerId;

/// A leader in one epoch.
#[derive(Debug, Clone)]
pub(super) struct Leader {
    /// The end of the log when the epoch began: all that earlier leaders committed lies below it.
    pub(super) epoch_start: Offset,
    pub(super) followers: Vec<Progress>,
    pub(super) in_sync: InSync,
}

impl Leader {
    pub(super) fn follower(&self, id: BrokerId) -> Option<&Progress> {
        self.followers.iter().find(|progress| progress.broker.id == id)
    }

    pub(super) fn follower_mut(&mut self, id: BrokerId) -> Option<&mut Progress> {
        self.followers.iter_mut().find(|progress| progress.broker.id == id)
    }
}

/// What a leader knows of one follower.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    pub(super) broker: ReplicaBroker,
    /// What is sent next.
    pub(super) next: Offset,
    /// Below it the follower's log is the leader's, and on disk: it has said so in this epoch and in this life.
    pub(super) durable_match: Option<Offset>,
    /// Counts fresh starts: answers to what was sent before one are of no use.
    pub(super) round: u32,
    /// Whether it is not known yet where the logs agree: one message at a time.
    pub(super) is_probing: bool,
    /// Whether a probe waits for its answer.
    pub(super) is_asked: bool,
    pub(super) high_watermark_sent: Offset,
    /// The latest time for which it is known that the follower had everything that the leader then had.
    caught_up_ms: i64,
    /// A time and the end of the log then: when the follower gets there, it had caught up with that time.
    mark: Option<(i64, Offset)>,
    /// After it was too slow a replica does not come back before this time, so that it does not flap.
    rejoins_from_ms: i64,
}

impl Progress {
    pub(super) fn new(broker: ReplicaBroker, log_end: Offset, now_ms: i64) -> Self {
        Progress {
            broker,
            next: log_end,
            durable_match: None,
            round: 0,
            is_probing: true,
            is_asked: false,
            high_watermark_sent: Offset::ZERO,
            caught_up_ms: now_ms,
            mark: None,
            rejoins_from_ms: now_ms,
        }
    }

    /// Starts over at `next`: what has been sent may be lost, or did not fit.
    pub(super) fn probe(&mut self, next: Offset) {
        self.next = next;
        self.round += 1;
        self.is_probing = true;
        self.is_asked = false;
        self.high_watermark_sent = Offset::ZERO;
    }

    /// Another process, or another disk: nothing that the earlier one said counts.
    pub(super) fn reborn(&mut self, broker: ReplicaBroker, log_end: Offset) {
        self.broker = broker;
        self.durable_match = None;
        self.mark = None;
        self.probe(log_end);
    }

    /// The follower has everything below `end` on disk.
    pub(super) fn acknowledged(&mut self, end: Offset, log_end: Offset, now_ms: i64) {
        let end = self.durable_match.map_or(end, |earlier| earlier.max(end));
        self.durable_match = Some(end);
        self.next = self.next.max(end);
        self.is_probing = false;
        self.is_asked = false;
        if end == log_end {
            self.caught_up_ms = self.caught_up_ms.max(now_ms);
            self.mark = None;
            return;
        }
        match self.mark {
            Some((at_ms, reached)) if end >= reached => {
                self.caught_up_ms = self.caught_up_ms.max(at_ms);
                self.mark = Some((now_ms, log_end));
            }
            Some(_) => {}
            None => self.mark = Some((now_ms, log_end)),
        }
    }

    /// The leader's log grows beyond what the follower had: from now on it is behind.
    pub(super) fn appended(&mut self, before: Offset, end: Offset, now_ms: i64) {
        if self.durable_match == Some(before) {
            self.caught_up_ms = self.caught_up_ms.max(now_ms);
            self.mark = Some((now_ms, end));
        }
    }

    /// For how long the follower has not had everything that the leader had.
    pub(super) fn behind_ms(&self, log_end: Offset, now_ms: i64) -> i64 {
        if self.durable_match == Some(log_end) { 0 } else { now_ms - self.caught_up_ms }
    }

    pub(super) fn may_rejoin(&self, now_ms: i64) -> bool {
        now_ms >= self.rejoins_from_ms
    }

    pub(super) fn stay_out_until(&mut self, ms: i64) {
        self.rejoins_from_ms = ms;
    }
}

/// A replica as its leader sees it, for those who ask (DescribeReplicaState, metrics).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Which broker.
    pub id: BrokerId,
    /// Whether the controller has it among the in-sync replicas.
    pub is_in_sync: bool,
    /// Up to where it has the leader's log on disk, if it has said so.
    pub durable_end: Option<Offset>,
    /// For how long it has not had everything.
    pub behind_ms: i64,
}
