//! Where the coordinator hands over to this protocol: replay, timers, failures, and ConsumerGroupHeartbeat and -Describe.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use protocol::ErrorCode;
use protocol::messages::consumer_group_describe::DescribedGroup;
use protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use tracing::info;

use super::draft::{Draft, Environment};
use super::group::ConsumerGroup;
use super::heartbeat::{self, Heartbeat};
use super::member::{LEAVE_GROUP_STATIC_MEMBER_EPOCH, Member, MemberState};
use super::migration;
use super::refusal::Refusal;
use super::settings::GroupOverrides;
use super::topics::TopicsView;
use crate::group::api::{GroupReply, Output, RequestContext};
use crate::group::classic::ClassicGroup;
use crate::group::coordinator::GroupCoordinator;
use crate::group::either::Group;
use crate::group::record::GroupRecord;
use crate::group::timers::Timer;

/// What all consumer groups of a coordinator share. Nothing of it has to survive.
#[derive(Debug, Default)]
pub(in crate::group) struct ConsumerContext {
    topics: Rc<TopicsView>,
    /// The version of the first view that had the topics created last.
    version_with_new_topics: i64,
    /// Groups that have looked at their topics since these have changed.
    up_to_date: BTreeSet<Rc<str>>,
    /// Configs of single groups.
    overrides: BTreeMap<String, GroupOverrides>,
}

impl GroupCoordinator {
    /// Tells the coordinator what topics there are: once before requests are let in, then after each change.
    pub fn metadata_changed(&mut self, topics: &Rc<TopicsView>, now_ms: i64) -> Output {
        self.advance_clock(now_ms);
        let context = &mut self.consumer;
        let changed = topics.changed_since(&context.topics);
        if changed.iter().any(|name| context.topics.topic(name).is_none()) {
            context.version_with_new_topics = topics.version();
        }
        if !changed.is_empty() {
            // Each group compares hashes with its next heartbeat; most will find that they are not concerned.
            context.up_to_date.clear();
        }
        context.topics = topics.clone();
        Output::default()
    }

    /// Sets the configs of single groups, by group id; groups that are missing have none.
    pub fn set_group_overrides(&mut self, overrides: BTreeMap<String, GroupOverrides>) {
        self.consumer.overrides = overrides;
    }

    /// ConsumerGroupHeartbeat, versions 0-1.
    pub fn consumer_group_heartbeat(
        &mut self,
        context: &RequestContext<'_>,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> Output {
        self.advance_clock(context.now_ms);
        let result = match heartbeat::validate(&self.environment(), context.api_version, request) {
            Err(refusal) => Err(refusal),
            Ok(()) if request.member_epoch < 0 => self.leave(request),
            Ok(()) => self.stay(context, request),
        };
        let (mut output, reply) = result.unwrap_or_else(|refusal| {
            let reply = ConsumerGroupHeartbeatResponse {
                error_code: refusal.code.code(),
                error_message: Some(refusal.message.into()),
                ..ConsumerGroupHeartbeatResponse::default()
            };
            (Output::default(), reply)
        });
        output.replies.push((context.token, GroupReply::ConsumerGroupHeartbeat(reply)));
        output
    }

    /// ConsumerGroupDescribe, versions 0-1: one entry for each name.
    pub fn consumer_group_describe(&self, group_ids: &[Cow<'_, str>]) -> Vec<DescribedGroup<'static>> {
        let failed = |group_id: &str, message: String| DescribedGroup {
            group_id: group_id.to_owned().into(),
            error_code: ErrorCode::GROUP_ID_NOT_FOUND.code(),
            error_message: Some(message.into()),
            ..DescribedGroup::default()
        };
        let describe = |group_id: &Cow<'_, str>| match self.groups.get(group_id.as_ref()) {
            Some(Group::Consumer(group)) => group.describe(&self.environment(), group_id),
            Some(Group::Classic(_)) => failed(group_id, format!("Group {group_id} is not a consumer group.")),
            None => failed(group_id, format!("Group {group_id} not found.")),
        };
        group_ids.iter().map(describe).collect()
    }

    /// What decisions depend on besides the group.
    pub(super) fn environment(&self) -> Environment<'_> {
        Environment {
            config: &self.config,
            topics: &self.consumer.topics,
            version_with_new_topics: self.consumer.version_with_new_topics,
            now_ms: self.now_ms,
        }
    }

    pub(super) fn consumer_group(&self, group_id: &str) -> Result<&ConsumerGroup, Refusal> {
        let message = match self.groups.get(group_id) {
            Some(Group::Consumer(group)) => return Ok(group),
            Some(Group::Classic(_)) => format!("Group {group_id} is not a consumer group."),
            None => format!("Consumer group {group_id} not found."),
        };
        Err(Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message))
    }

    /// Whether the group's topics may have changed since it has last looked.
    pub(super) fn has_to_check_topics(&self, group_id: &str) -> bool {
        !self.consumer.up_to_date.contains(group_id)
    }

    /// Remembers that the group has looked at its topics.
    pub(super) fn topics_checked(&mut self, group_id: &str) {
        if self.has_to_check_topics(group_id) {
            self.consumer.up_to_date.insert(group_id.into());
        }
    }

    /// A member joins or sends a heartbeat.
    fn stay(
        &mut self,
        context: &RequestContext<'_>,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> Result<(Output, ConsumerGroupHeartbeatResponse<'static>), Refusal> {
        let group_id = request.group_id.as_ref();
        let member_id: Rc<str> = match request.member_id.as_ref() {
            "" => self.ids.uuid().hyphenated().to_string().into(),
            own => own.into(),
        };
        let check_topics = self.has_to_check_topics(group_id);
        let env = self.environment();
        let (mut records, group) = self.group_for_heartbeat(&env, group_id, request.member_epoch == 0)?;
        let is_upgrade = !records.is_empty() && !group.is_empty();
        let draft = Draft::new(&env, group_id, group);
        let client = (context.client_id, context.client_host);
        let heartbeat = heartbeat::decide(draft, &member_id, client, request, check_topics)?;

        let overrides = self.group_overrides(group_id);
        let reply = heartbeat::response(
            &member_id,
            request,
            &heartbeat,
            overrides.heartbeat_interval_ms(&self.config),
        );
        let mut output = Output::default();
        if is_upgrade {
            // Whoever waits for the classic rebalance is to join again, now to the consumer group.
            output.extend(self.classic_operation(group_id, |operation, _| {
                operation.fail_waiting_joins(ErrorCode::REBALANCE_IN_PROGRESS);
                operation.fail_waiting_syncs(ErrorCode::REBALANCE_IN_PROGRESS);
            }));
        }
        self.topics_checked(group_id);
        self.schedule_after_heartbeat(group_id, &member_id, &heartbeat);
        records.extend(heartbeat.records);
        output.records.append(&mut records);
        Ok((output, reply))
    }

    /// The group that a heartbeat is for, and the records that make it one: of nothing if a member joins, or of a classic group.
    fn group_for_heartbeat<'a>(
        &'a self,
        env: &Environment<'_>,
        group_id: &str,
        joins: bool,
    ) -> Result<(Vec<GroupRecord<'static>>, Cow<'a, ConsumerGroup>), Refusal> {
        match self.groups.get(group_id) {
            Some(Group::Consumer(group)) => Ok((Vec::new(), Cow::Borrowed(group))),
            None if joins => Ok((Vec::new(), Cow::Owned(ConsumerGroup::default()))),
            Some(Group::Classic(classic)) if joins && can_be_replaced(classic) => {
                let tombstone = crate::group::classic::record::group_metadata_tombstone(group_id);
                let records = if classic.is_simple() { Vec::new() } else { vec![tombstone] };
                Ok((records, Cow::Owned(ConsumerGroup::default())))
            }
            Some(Group::Classic(classic)) if joins => {
                let (records, group) = migration::upgrade(env, group_id, classic)?;
                Ok((records, Cow::Owned(group)))
            }
            Some(Group::Classic(_)) | None => {
                self.consumer_group(group_id).map(|group| (Vec::new(), Cow::Borrowed(group)))
            }
        }
    }

    fn schedule_after_heartbeat(&mut self, group_id: &str, member_id: &Rc<str>, heartbeat: &Heartbeat) {
        let group_id: Rc<str> = group_id.into();
        let session_timeout_ms = self.group_overrides(&group_id).session_timeout_ms(&self.config);
        self.schedule_consumer_timer(
            Timer::ConsumerSession(group_id.clone(), member_id.clone()),
            session_timeout_ms,
        );
        let timer = Timer::ConsumerRebalance(group_id, member_id.clone());
        if heartbeat.current.state != MemberState::UnrevokedPartitions {
            self.timers.cancel(&timer);
        } else if heartbeat.moved {
            self.schedule_consumer_timer(timer, heartbeat.rebalance_timeout_ms);
        }
    }

    pub(super) fn schedule_consumer_timer(&mut self, timer: Timer, delay_ms: i32) {
        self.timers.schedule(timer, self.now_ms + i64::from(delay_ms.max(0)));
    }

    fn group_overrides(&self, group_id: &str) -> GroupOverrides {
        self.consumer.overrides.get(group_id).copied().unwrap_or_default()
    }

    /// A member leaves: for good, or (a static one) for a while.
    fn leave(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> Result<(Output, ConsumerGroupHeartbeatResponse<'static>), Refusal> {
        let group_id = request.group_id.as_ref();
        let group = self.consumer_group(group_id)?;
        let member_id = group.leaving_member(group_id, &request.member_id, request.instance_id.as_deref())?;
        if request.instance_id.is_some() && member_id.as_ref() != request.member_id {
            return Err(Refusal::unknown_member(group_id, &request.member_id));
        }
        let output = if request.member_epoch == LEAVE_GROUP_STATIC_MEMBER_EPOCH {
            info!(group = group_id, member = %member_id, "a static member has left for a while");
            let env = self.environment();
            let mut draft = Draft::new(&env, group_id, Cow::Borrowed(group));
            draft.leave_for_a_while(&member_id);
            Output { records: draft.into_records(), replies: Vec::new() }
        } else {
            info!(group = group_id, member = %member_id, "a member has left the consumer group");
            self.remove_consumer_members(group_id, &[member_id])
        };
        let reply = ConsumerGroupHeartbeatResponse {
            member_id: Some(request.member_id.to_string().into()),
            member_epoch: request.member_epoch,
            ..ConsumerGroupHeartbeatResponse::default()
        };
        Ok((output, reply))
    }

    /// Removes members. The group becomes a classic one if that leaves only classic members, and may.
    pub(super) fn remove_consumer_members(&mut self, group_id: &str, member_ids: &[Rc<str>]) -> Output {
        let Ok(group) = self.consumer_group(group_id) else { return Output::default() };
        if member_ids.is_empty() {
            return Output::default();
        }
        let env = self.environment();
        let downgrades = migration::may_downgrade(&env, group, member_ids, false);
        let mut draft = Draft::new(&env, group_id, Cow::Borrowed(group));
        match downgrades {
            true => migration::downgrade(&mut draft, member_ids),
            false => draft.remove_members(member_ids),
        }
        let records = draft.into_records();
        let group_id: Rc<str> = group_id.into();
        for member_id in member_ids {
            self.cancel_consumer_timers(&group_id, member_id);
        }
        if downgrades {
            self.schedule_consumer_timer(Timer::ConsumerDowngraded(group_id), 0);
        }
        Output { records, replies: Vec::new() }
    }

    fn cancel_consumer_timers(&mut self, group_id: &Rc<str>, member_id: &Rc<str>) {
        for timer in
            [Timer::ConsumerSession, Timer::ConsumerRebalance, Timer::ConsumerJoin, Timer::ConsumerSync]
        {
            self.timers.cancel(&timer(group_id.clone(), member_id.clone()));
        }
    }

    /// Applies a record of a consumer group. One for a name that a classic group has by now changes that group only by being the
    /// tombstone that ends its predecessor ([`ClassicGroup::replaces`](crate::group::classic::ClassicGroup)).
    pub(in crate::group) fn replay_consumer_group(&mut self, record: &GroupRecord<'_>) {
        let Some(group_id) = group_id(record) else { return };
        if let Some(Group::Classic(classic)) = self.groups.get_mut(group_id) {
            if matches!(record, GroupRecord::ConsumerGroupMetadata(_, None)) {
                classic.replaces = None;
            }
            // A group that only holds offsets gives way.
            if !classic.is_simple() || classic.replaces.is_some() || record.is_tombstone() {
                return;
            }
            self.remove_classic_group(group_id);
        }
        match self.groups.get_mut(group_id) {
            Some(Group::Consumer(group)) => {
                if !group.replay(record) {
                    self.forget_consumer_group(group_id);
                }
            }
            Some(Group::Classic(_)) => {}
            None if record.is_tombstone() => {}
            None => {
                let mut group = ConsumerGroup::default();
                group.replay(record);
                self.groups.insert(group_id.into(), Group::Consumer(Box::new(group)));
            }
        }
    }

    fn forget_consumer_group(&mut self, group_id: &str) {
        let Some((group_id, Group::Consumer(group))) = self.groups.remove_entry(group_id) else { return };
        self.consumer.up_to_date.remove(&group_id);
        for member_id in group.members.keys() {
            self.cancel_consumer_timers(&group_id, member_id);
        }
    }

    /// Starts the sessions of the members of all consumer groups after a load.
    pub(in crate::group) fn consumer_groups_loaded(&mut self) -> Output {
        for group_id in self.groups.keys().cloned().collect::<Vec<_>>() {
            self.start_missing_timers(&group_id);
        }
        Output::default()
    }

    /// Sets the timers that the group's members should have and have not.
    fn start_missing_timers(&mut self, group_id: &Rc<str>) {
        let Some(Group::Consumer(group)) = self.groups.get(group_id) else { return };
        let session_timeout_ms = self.group_overrides(group_id).session_timeout_ms(&self.config);
        let of_member = |(id, member): (&Rc<str>, &Member)| {
            let classic = member.classic.as_ref().map(|classic| classic.session_timeout_ms);
            let session = Timer::ConsumerSession(group_id.clone(), id.clone());
            let has_to_revoke = member.current.state == MemberState::UnrevokedPartitions && classic.is_none();
            let rebalance = Timer::ConsumerRebalance(group_id.clone(), id.clone());
            let rebalance = has_to_revoke.then_some((rebalance, member.rebalance_timeout_ms));
            [Some((session, classic.unwrap_or(session_timeout_ms))), rebalance]
        };
        let timers: Vec<_> = group.members.iter().flat_map(of_member).flatten().collect();
        for (timer, delay_ms) in timers {
            if self.timers.deadline_ms(&timer).is_none() {
                self.schedule_consumer_timer(timer, delay_ms);
            }
        }
    }

    /// A timer of a consumer group is due.
    pub(in crate::group) fn consumer_group_timer(&mut self, timer: Timer) -> Output {
        let (group_id, member_id, reason) = match timer {
            Timer::ConsumerDowngraded(group_id) => {
                return self.classic_operation(&group_id, |operation, _| {
                    if operation.group.state() == crate::group::classic::ClassicGroupState::Stable {
                        operation.prepare_rebalance("the group has become a classic one");
                    }
                });
            }
            Timer::ConsumerSession(group_id, member_id) => (group_id, member_id, "its session is over"),
            Timer::ConsumerJoin(group_id, member_id) => (group_id, member_id, "it has not joined in time"),
            Timer::ConsumerSync(group_id, member_id) => {
                (group_id, member_id, "it has not synchronized in time")
            }
            Timer::ConsumerRebalance(group_id, member_id) => {
                let member =
                    self.consumer_group(&group_id).ok().and_then(|group| group.members.get(&member_id));
                if member.is_none_or(|member| member.current.state != MemberState::UnrevokedPartitions) {
                    return Output::default();
                }
                (group_id, member_id, "it has not given up its partitions in time")
            }
            _ => return Output::default(),
        };
        if !self.consumer_group(&group_id).is_ok_and(|group| group.members.contains_key(&member_id)) {
            return Output::default();
        }
        info!(group = %group_id, member = %member_id, reason, "removing a member of the consumer group");
        self.remove_consumer_members(&group_id, &[member_id])
    }

    /// Records of consumer groups could not be appended; the answers have been turned into errors already.
    pub(in crate::group) fn consumer_append_refused(
        &mut self,
        records: &[GroupRecord<'static>],
        _code: ErrorCode,
    ) -> Output {
        let groups: BTreeSet<Rc<str>> = records.iter().filter_map(group_id).map(Rc::from).collect();
        for group_id in groups {
            self.consumer.up_to_date.remove(&group_id);
            self.timers.cancel(&Timer::ConsumerDowngraded(group_id.clone()));
            self.start_missing_timers(&group_id);
        }
        Output::default()
    }
}

/// Whether a consumer group may take the place of the classic group without more ado.
fn can_be_replaced(classic: &ClassicGroup) -> bool {
    classic.is_empty()
}

/// The group that a record of a consumer group is about.
fn group_id<'a>(record: &'a GroupRecord<'_>) -> Option<&'a str> {
    Some(match record {
        GroupRecord::ConsumerGroupMetadata(key, _) => &key.group_id,
        GroupRecord::ConsumerGroupPartitionMetadata(key, _) => &key.group_id,
        GroupRecord::ConsumerGroupMemberMetadata(key, _) => &key.group_id,
        GroupRecord::ConsumerGroupTargetAssignmentMetadata(key, _) => &key.group_id,
        GroupRecord::ConsumerGroupTargetAssignmentMember(key, _) => &key.group_id,
        GroupRecord::ConsumerGroupCurrentMemberAssignment(key, _) => &key.group_id,
        GroupRecord::ConsumerGroupRegularExpression(key, _) => &key.group_id,
        GroupRecord::OffsetCommit(..) | GroupRecord::GroupMetadata(..) | GroupRecord::Unknown { .. } => {
            return None;
        }
    })
}
