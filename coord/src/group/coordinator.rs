//! The coordinator of one partition of `__consumer_offsets`: its state, its replay, its clock.

use std::collections::BTreeMap;
use std::rc::Rc;

use protocol::ErrorCode;

use super::api::Output;
use super::classic::record::group_metadata_tombstone;
use super::classic::{ClassicGroup, ClassicGroupState, ClassicOperation};
use super::config::GroupConfig;
use super::consumer::ConsumerContext;
use super::either::Group;
use super::ids::IdGenerator;
use super::offsets::{Cleanup, Offsets};
use super::record::GroupRecord;
use super::timers::{Timer, Timers};

/// How long work that nobody waits for rests after its records could not be appended, in ms.
const REFUSED_REST_MS: i64 = 10_000;
/// Timers that one tick fires.
const TIMERS_PER_TICK: usize = 1_000;

/// All groups, and their offsets, of one partition of `__consumer_offsets`.
///
/// Calls that take a request change what need not survive at once and return an [`Output`]; what must survive changes in
/// [`GroupCoordinator::replay`] only. The caller appends an output's records and replays them before the next call, or says that it could
/// not ([`GroupCoordinator::append_refused`]).
#[derive(Debug)]
pub struct GroupCoordinator {
    pub(super) config: Rc<GroupConfig>,
    pub(super) groups: BTreeMap<Rc<str>, Group>,
    pub(super) offsets: Offsets,
    pub(super) cleanup: Cleanup,
    pub(super) consumer: ConsumerContext,
    pub(super) timers: Timers,
    pub(super) ids: IdGenerator,
    /// The latest time that a call has brought, in ms since the epoch.
    pub(super) now_ms: i64,
    /// Whether the partition has been loaded; sessions run from then on.
    pub(super) is_loaded: bool,
}

impl GroupCoordinator {
    /// A coordinator without groups. Member ids come from `seed`, which should be random.
    pub fn new(config: Rc<GroupConfig>, seed: u64) -> Self {
        GroupCoordinator {
            config,
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            cleanup: Cleanup::default(),
            consumer: ConsumerContext::default(),
            timers: Timers::default(),
            ids: IdGenerator::new(seed),
            now_ms: 0,
            is_loaded: false,
        }
    }

    /// Changes the configs; timers that run keep their deadlines.
    pub fn set_config(&mut self, config: Rc<GroupConfig>) {
        self.config = config;
    }

    /// How many groups there are.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// How many offsets are committed.
    pub fn offset_count(&self) -> usize {
        self.offsets.len()
    }

    /// The committed offsets.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// The groups by name.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(group_id, group)| (&**group_id, group))
    }

    /// A group.
    pub fn group(&self, group_id: &str) -> Option<&Group> {
        self.groups.get(group_id)
    }

    /// Applies a record of the partition: one that was just appended, or one that is read at a start. The only code that changes what
    /// must survive.
    pub fn replay(&mut self, record: &GroupRecord<'_>) {
        match record {
            GroupRecord::OffsetCommit(key, value) => self.replay_offset_commit(key, value.as_ref()),
            GroupRecord::GroupMetadata(key, Some(value)) => {
                let group = match self.groups.remove_entry(&*key.group) {
                    Some((group_id, Group::Classic(group))) => (group_id, group),
                    // A consumer group that has become a classic one.
                    Some((group_id, Group::Consumer(_))) => {
                        (group_id.clone(), Box::new(ClassicGroup::new(group_id)))
                    }
                    None => {
                        let group_id: Rc<str> = (&*key.group).into();
                        (group_id.clone(), Box::new(ClassicGroup::new(group_id)))
                    }
                };
                let (group_id, mut group) = group;
                let changed = group.replay(value);
                self.groups.insert(group_id.clone(), Group::Classic(group));
                if self.is_loaded {
                    let _ = self.classic_operation(&group_id, |operation, _| {
                        changed.left.iter().for_each(|member_id| operation.cancel_session(member_id));
                        changed.joined.iter().for_each(|member_id| operation.restart_session(member_id));
                    });
                }
            }
            GroupRecord::GroupMetadata(key, None) => {
                if let Some(Group::Classic(_)) = self.groups.get(&*key.group) {
                    self.remove_classic_group(&key.group);
                }
            }
            GroupRecord::Unknown { .. } => {}
            _ => self.replay_consumer_group(record),
        }
    }

    /// To be called once when the whole partition has been replayed: starts the sessions of the members that were found.
    pub fn loaded(&mut self, now_ms: i64) -> Output {
        self.advance_clock(now_ms);
        self.is_loaded = true;
        let mut output = Output::default();
        for group_id in self.groups.keys().cloned().collect::<Vec<_>>() {
            self.drop_group_without_content(&group_id);
            if let Some(Group::Classic(group)) = self.groups.get(&group_id) {
                let member_ids: Vec<Rc<str>> =
                    group.members().map(|member| member.member_id.clone()).collect();
                let max_size = usize::try_from(self.config.group_max_size).unwrap_or(0);
                output.extend(self.classic_operation(&group_id, |operation, _| {
                    member_ids.iter().for_each(|member_id| operation.restart_session(member_id));
                    if member_ids.len() > max_size {
                        operation.prepare_rebalance("the group is larger than group.max.size");
                    }
                }));
            }
        }
        output.extend(self.consumer_groups_loaded());
        self.timers.schedule(Timer::OffsetExpiry, now_ms + self.config.offsets_retention_check_interval_ms);
        output
    }

    /// When [`GroupCoordinator::tick`] is to be called next, if at all, in ms since the epoch.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.timers.next_ms()
    }

    /// Does what is due. Much of it is done in several calls: look at [`GroupCoordinator::next_deadline_ms`] again.
    ///
    /// No group is in the output twice: what is decided for a group may depend on its records being replayed.
    pub fn tick(&mut self, now_ms: i64) -> Output {
        self.advance_clock(now_ms);
        let mut output = Output::default();
        for _ in 0..TIMERS_PER_TICK {
            let Some(timer) = self.timers.pop_due(now_ms) else { break };
            output.extend(match timer {
                Timer::OffsetExpiry => self.expire_offsets(),
                Timer::DeletedTopics => self.forget_deleted_topics(),
                Timer::ClassicSession(group_id, member_id) => {
                    let output =
                        self.classic_operation(&group_id, |operation, _| operation.session_over(&member_id));
                    self.drop_group_without_content(&group_id);
                    output
                }
                Timer::ClassicJoin(group_id) => {
                    self.classic_operation(&group_id, |operation, _| operation.join_over())
                }
                Timer::ClassicSync(group_id) => {
                    self.classic_operation(&group_id, |operation, _| operation.sync_over())
                }
                timer => self.consumer_group_timer(timer),
            });
            if !output.records.is_empty() {
                break;
            }
        }
        output
    }

    /// To be called instead of replaying when an output's records could not be appended: the output's answers become errors, and groups
    /// go back to where they can go on from. The result is to be treated like that of any other call.
    pub fn append_refused(&mut self, output: Output, code: ErrorCode, now_ms: i64) -> Output {
        self.advance_clock(now_ms);
        let replies = output.replies.into_iter().map(|(token, reply)| (token, reply.failed(code))).collect();
        let mut refused = Output { records: Vec::new(), replies };
        for record in &output.records {
            if let GroupRecord::GroupMetadata(key, Some(_)) = record {
                refused.extend(self.classic_operation(&key.group, |operation, _| {
                    operation.group.withdraw_replacement();
                    if operation.group.state() == ClassicGroupState::CompletingRebalance {
                        operation.fail_waiting_syncs(code);
                        operation.prepare_rebalance("the assignment could not be stored");
                    }
                }));
            }
            refused.extend(self.restore_consumer_group(record, code));
        }
        for timer in [Timer::OffsetExpiry, Timer::DeletedTopics] {
            if self.timers.deadline_ms(&timer).is_some_and(|due_ms| due_ms <= now_ms) {
                self.timers.schedule(timer, now_ms + REFUSED_REST_MS);
            }
        }
        refused.extend(self.consumer_append_refused(&output.records, code));
        refused
    }

    /// Answers every request that waits, with an error: the coordinator is about to end.
    pub fn resign(&mut self, code: ErrorCode) -> Output {
        let mut output = Output::default();
        for group_id in self.groups.keys().cloned().collect::<Vec<_>>() {
            output.extend(self.classic_operation(&group_id, |operation, _| {
                operation.fail_waiting_joins(code);
                operation.fail_waiting_syncs(code);
            }));
        }
        output
    }

    pub(super) fn advance_clock(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Runs one operation on a classic group; nothing happens if there is none of this name.
    pub(super) fn classic_operation(
        &mut self,
        group_id: &str,
        operation: impl FnOnce(&mut ClassicOperation<'_>, &mut IdGenerator),
    ) -> Output {
        let Some(Group::Classic(group)) = self.groups.get_mut(group_id) else {
            return Output::default();
        };
        let mut running = ClassicOperation {
            group,
            timers: &mut self.timers,
            config: &self.config,
            now_ms: self.now_ms,
            output: Output::default(),
        };
        operation(&mut running, &mut self.ids);
        running.output
    }

    /// Removes a classic group with its timers. Requests that wait must have been answered.
    pub(super) fn remove_classic_group(&mut self, group_id: &str) {
        let _ = self.classic_operation(group_id, |operation, _| operation.cancel_timers());
        self.groups.remove(group_id);
    }

    /// Drops a group that nothing is known of any more and that no record tells of.
    pub(super) fn drop_group_without_content(&mut self, group_id: &str) {
        if let Some(Group::Classic(group)) = self.groups.get(group_id)
            && group.is_simple()
            && group.replaces.is_none()
            && self.offsets.group(group_id).is_none()
        {
            self.remove_classic_group(group_id);
        }
    }

    /// Puts a classic group without members in the place of a consumer group without members, whose tombstones go to `records`.
    pub(super) fn replace_empty_consumer_group(
        &mut self,
        group_id: &Rc<str>,
        records: &mut Vec<GroupRecord<'static>>,
    ) {
        if let Some(Group::Consumer(group)) = self.groups.remove(group_id) {
            group.tombstones(group_id, records);
            let mut classic = ClassicGroup::new(group_id.clone());
            classic.replaces = Some(group);
            self.groups.insert(group_id.clone(), Group::Classic(Box::new(classic)));
        }
    }

    /// Puts the consumer group back whose tombstones could not be appended; whoever waits in its successor is told.
    fn restore_consumer_group(&mut self, record: &GroupRecord<'_>, code: ErrorCode) -> Output {
        let GroupRecord::ConsumerGroupMetadata(key, None) = record else { return Output::default() };
        let mut former = None;
        let output = self.classic_operation(&key.group_id, |operation, _| {
            former = operation.group.replaces.take();
            if former.is_some() {
                operation.fail_waiting_joins(code);
                operation.fail_waiting_syncs(code);
            }
        });
        if let Some(former) = former {
            let group_id: Rc<str> = (&*key.group_id).into();
            self.remove_classic_group(&group_id);
            self.groups.insert(group_id, Group::Consumer(former));
        }
        output
    }

    /// The records that end a group without members; its offsets are not among them.
    pub(super) fn group_tombstones(&self, group_id: &str, records: &mut Vec<GroupRecord<'static>>) {
        match self.groups.get(group_id) {
            Some(Group::Classic(_)) => records.push(group_metadata_tombstone(group_id)),
            Some(Group::Consumer(group)) => group.tombstones(group_id, records),
            None => {}
        }
    }
}
