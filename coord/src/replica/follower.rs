//! A follower's decisions: whether batches continue its log, what of its log must go first, and what it may acknowledge.

use storage::Offset;

use super::message::{Append, BatchSpan};
use super::positions::LogPositions;
use crate::types::{BrokerId, LeaderEpoch};

/// How far a leader was when it last said so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaderPositions {
    /// Below it everything was committed.
    pub high_watermark: Offset,
    /// The end of its log.
    pub log_end_offset: Offset,
}

/// A follower of one leader in one epoch.
#[derive(Debug, Clone)]
pub(super) struct Follower {
    pub(super) leader: BrokerId,
    /// Below it this log is proved to be the leader's; nothing is before the first batch that fitted.
    pub(super) match_end: Option<Offset>,
    /// What the leader has heard last.
    pub(super) acknowledged: Offset,
    /// What the leader has said last of its own log.
    pub(super) leader_positions: LeaderPositions,
}

impl Follower {
    pub(super) fn new(leader: BrokerId) -> Self {
        let leader_positions = LeaderPositions::default();
        Follower { leader, match_end: None, acknowledged: Offset::ZERO, leader_positions }
    }
}

/// What the shell does with the batches of an [`Append`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    /// Nothing is stored: the message is out of date, or does not fit (the leader is told where the logs may agree).
    Refused,
    /// The message contradicts what cannot be contradicted (committed records would go, or its parts do not belong together): leader or follower is broken.
    /// Take the partition offline.
    Corrupt(&'static str),
    /// In this order: drop everything and go on at `restart_at`; truncate to `truncate_to`; append the batches after the first `skip`; forget what lies
    /// below `log_start_offset`.
    Store {
        /// The leader has nothing older than this any more, and this log nothing that belongs there.
        restart_at: Option<Offset>,
        /// The log ends here before the batches are appended; what is cut off was never committed.
        truncate_to: Option<Offset>,
        /// Batches at the start of the message that the log has.
        skip: usize,
        /// The leader's log begins here, and so shall this one.
        log_start_offset: Option<Offset>,
    },
}

/// How a message relates to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// The logs may agree at the end of this epoch, and not later.
    Position(LeaderEpoch, Offset),
    /// The message makes no sense.
    Malformed(&'static str),
    /// The logs agree up to the message's start; see [`AppendOutcome::Store`].
    Fits(Fitting),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fitting {
    pub(super) restart_at: Option<Offset>,
    pub(super) truncate_to: Option<Offset>,
    pub(super) skip: usize,
    /// Up to where the logs agree once the batches are stored.
    pub(super) match_end: Offset,
}

/// Compares a message of the current leader with the log, of which everything below `proved` is known to be the leader's. A stretch of the log agrees with
/// the leader's if the record before it has the same epoch at the same offset: an epoch has one leader, and that one gives an offset once.
pub(super) fn fit(log: &LogPositions, proved: Option<Offset>, append: &Append, batches: &[BatchSpan]) -> Fit {
    if let Some(problem) = malformed(log, append, batches) {
        return Fit::Malformed(problem);
    }
    let from = append.previous_end;
    let match_end = batches.last().map_or(from, |last| last.end_offset);
    // What this log has deleted was committed: below its start there is nothing to compare.
    let is_proved = from <= log.start() || proved.is_some_and(|end| from <= end);
    let is_known = append.previous_epoch != LeaderEpoch::UNKNOWN;
    if from <= log.end() && (is_proved || is_known && log.epoch_before(from) == append.previous_epoch) {
        return Fit::Fits(continued(log, append, batches, match_end));
    }
    if from != append.log_start_offset {
        return position(log, append);
    }
    // Here the leader's log begins, and what lies before it the leader has deleted.
    let restart = Fit::Fits(Fitting { restart_at: Some(from), truncate_to: None, skip: 0, match_end });
    if from > log.end() || is_known {
        return restart;
    }
    match batches.first() {
        // The epoch before its first record is not known any more, but that record tells as much.
        Some(first) if has(log, first) => Fit::Fits(continued(log, append, batches, match_end)),
        Some(_) => restart,
        None if append.log_end_offset == from => restart,
        None => position(log, append),
    }
}

fn malformed(log: &LogPositions, append: &Append, batches: &[BatchSpan]) -> Option<&'static str> {
    let mut end = append.previous_end;
    let mut epoch = append.previous_epoch;
    for batch in batches {
        if batch.base_offset < end || batch.end_offset <= batch.base_offset {
            return Some("batches of a leader overlap");
        }
        if batch.leader_epoch < epoch || batch.leader_epoch > append.leader_epoch {
            return Some("epochs of a leader's batches go backwards");
        }
        if batch.base_offset < log.start() && log.start() < batch.end_offset {
            return Some("a batch spans the start of the log");
        }
        end = batch.end_offset;
        epoch = batch.leader_epoch;
    }
    let is_within = append.log_start_offset <= append.previous_end && end <= append.log_end_offset;
    (!is_within).then_some("a leader sends what its log does not have")
}

fn position(log: &LogPositions, append: &Append) -> Fit {
    let (epoch, end) = log.end_of(append.previous_epoch);
    Fit::Position(epoch, end)
}

fn has(log: &LogPositions, batch: &BatchSpan) -> bool {
    batch.end_offset <= log.start()
        || batch.end_offset <= log.end() && log.epoch_at(batch.base_offset) == batch.leader_epoch
}

fn continued(log: &LogPositions, append: &Append, batches: &[BatchSpan], match_end: Offset) -> Fitting {
    let skip = batches.iter().take_while(|batch| has(log, batch)).count();
    // Also when the next batch begins later: what lies in between, compaction has removed from the leader's log, and this one may have something else there.
    let agreed = batches[..skip].last().map_or(append.previous_end, |last| last.end_offset).max(log.start());
    let truncate_to = (skip < batches.len() && agreed < log.end()).then_some(agreed);
    Fitting { restart_at: None, truncate_to, skip, match_end }
}
