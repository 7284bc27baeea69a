//! Offsets that nobody needs any more, and groups that have nothing left (KIP-211).

use std::collections::BTreeSet;
use std::ops::Bound;
use std::rc::Rc;

use tracing::debug;

use super::TombstoneBudget;
use super::delete::{DoomedOffset, offset_tombstone};
use super::store::OffsetAndMetadata;
use crate::group::api::Output;
use crate::group::classic::{ClassicGroup, ClassicGroupState};
use crate::group::coordinator::GroupCoordinator;
use crate::group::either::Group;
use crate::group::timers::Timer;

/// Offsets looked at in one tick; a group counts as one more.
const LOOKED_AT_PER_TICK: usize = 20_000;

/// Removals that take more than one tick.
#[derive(Debug, Default)]
pub(in crate::group) struct Cleanup {
    /// Where the search for expired offsets goes on.
    next_groups: Option<Bound<Rc<str>>>,
    /// Offsets of deleted topics that remain to be removed.
    pub(super) deleted: BTreeSet<DoomedOffset>,
}

impl Cleanup {
    /// Crosses out an offset that was removed, or committed anew.
    pub(super) fn settled(&mut self, group_id: &str, topic: &str, partition: i32) {
        if !self.deleted.is_empty() {
            self.deleted.remove(&(group_id.into(), topic.into(), partition));
        }
    }
}

/// From when on an offset's retention counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetentionSince {
    /// From the time when the group lost its last member.
    Empty(i64),
    /// From the commit.
    Commit,
    /// Never: members need it, or may.
    Never,
}

impl RetentionSince {
    fn of(group: &Group) -> Self {
        match group {
            Group::Classic(group) => Self::of_classic(group),
            Group::Consumer(_) => RetentionSince::Commit,
        }
    }

    fn of_classic(group: &ClassicGroup) -> Self {
        match group.state() {
            // A simple group: nobody can tell whether somebody needs it.
            _ if group.protocol_type().is_none() => RetentionSince::Commit,
            ClassicGroupState::Empty => {
                group.state_timestamp_ms().map_or(RetentionSince::Commit, RetentionSince::Empty)
            }
            // With members, topics that nobody has subscribed to any more, if that is known.
            ClassicGroupState::Stable
                if group.uses_consumer_group_protocol() && group.knows_subscribed_topics() =>
            {
                RetentionSince::Commit
            }
            _ => RetentionSince::Never,
        }
    }

    fn is_over(self, offset: &OffsetAndMetadata, now_ms: i64, retention_ms: i64) -> bool {
        let since_ms = match (self, offset.expire_timestamp_ms) {
            (RetentionSince::Never, _) => return false,
            (_, Some(expire_timestamp_ms)) => return now_ms >= expire_timestamp_ms,
            (RetentionSince::Empty(since_ms), None) => since_ms,
            (RetentionSince::Commit, None) => offset.commit_timestamp_ms,
        };
        now_ms.saturating_sub(since_ms) >= retention_ms
    }
}

impl GroupCoordinator {
    /// Looks for expired offsets and groups without content: some groups in each tick, all of them in each round.
    pub(in crate::group) fn expire_offsets(&mut self) -> Output {
        let mut output = Output::default();
        let mut budget = TombstoneBudget::default();
        let mut looked_at = 0;
        let range = (self.cleanup.next_groups.take().unwrap_or(Bound::Unbounded), Bound::Unbounded);
        for (group_id, group) in self.groups.range::<Rc<str>, _>(range) {
            let offsets = self.offsets.group(group_id);
            looked_at +=
                1 + offsets.into_iter().flatten().map(|(_, partitions)| partitions.len()).sum::<usize>();
            let outcome = self.expire_offsets_of(group_id, group, &mut budget, &mut output);
            if outcome == Outcome::Full {
                self.cleanup.next_groups = Some(Bound::Included(group_id.clone()));
                break;
            }
            if looked_at >= LOOKED_AT_PER_TICK {
                self.cleanup.next_groups = Some(Bound::Excluded(group_id.clone()));
                break;
            }
        }
        let rest_ms = match self.cleanup.next_groups {
            Some(_) => 0,
            None => self.config.offsets_retention_check_interval_ms.max(1),
        };
        self.timers.schedule(Timer::OffsetExpiry, self.now_ms + rest_ms);
        output
    }

    fn expire_offsets_of(
        &self,
        group_id: &str,
        group: &Group,
        budget: &mut TombstoneBudget,
        output: &mut Output,
    ) -> Outcome {
        let since = RetentionSince::of(group);
        let mut keeps_some = false;
        for (topic, partitions) in self.offsets.group(group_id).into_iter().flatten() {
            if group.is_subscribed_to_topic(topic) {
                keeps_some = true;
                continue;
            }
            for (partition, offset) in partitions {
                if !since.is_over(offset, self.now_ms, self.config.offsets_retention_ms()) {
                    keeps_some = true;
                } else if budget.take(group_id, topic) {
                    debug!(group = %group_id, %topic, partition, "a committed offset has expired");
                    output.records.push(offset_tombstone(group_id, topic, *partition));
                } else {
                    return Outcome::Full;
                }
            }
        }
        let has_pending = matches!(group, Group::Classic(group) if group.has_pending_members());
        if !keeps_some && group.is_empty() && !has_pending {
            if !budget.take(group_id, "") {
                return Outcome::Full;
            }
            debug!(group = %group_id, "a group without members and offsets is removed");
            self.group_tombstones(group_id, &mut output.records);
        }
        Outcome::Done
    }
}

/// How far the search came with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All of it was looked at.
    Done,
    /// The batch is full; more may have expired.
    Full,
}
