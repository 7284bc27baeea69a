//! Rebalances: how they begin and end, whatever has set them off.

use std::borrow::Cow;
use std::rc::Rc;

use protocol::ErrorCode;
use protocol::messages::join_group::JoinGroupResponseMember;
use protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use tracing::{debug, info};

use super::member::Waiting;
use super::members::{ClassicGroup, InitialDelay};
use super::state::ClassicGroupState;
use crate::group::api::{GroupReply, Output};
use crate::group::config::GroupConfig;
use crate::group::timers::{Timer, Timers};

/// How long the JoinGroup of a member that has no id yet may wait, in ms (Kafka's `CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS`). Such a
/// member cannot send heartbeats; if it is gone, nobody would notice otherwise.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60 * 1_000;

/// One thing that happens to one classic group, and what comes of it.
pub(in crate::group) struct ClassicOperation<'c> {
    pub(in crate::group) group: &'c mut ClassicGroup,
    pub(in crate::group) timers: &'c mut Timers,
    pub(in crate::group) config: &'c GroupConfig,
    pub(in crate::group) now_ms: i64,
    pub(in crate::group) output: Output,
}

impl ClassicOperation<'_> {
    /// Begins a rebalance if the state allows one; if one runs, ends it when all have joined.
    pub(super) fn prepare_rebalance_or_complete_join(&mut self, reason: &str) {
        if self.group.state.may_become(ClassicGroupState::PreparingRebalance) {
            self.prepare_rebalance(reason);
        } else {
            self.complete_join_if_all_joined();
        }
    }

    /// Asks all members to rejoin.
    pub(in crate::group) fn prepare_rebalance(&mut self, reason: &str) {
        if self.group.state == ClassicGroupState::CompletingRebalance {
            self.fail_waiting_syncs(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.group.pending_sync_members.clear();
        self.timers.cancel(&Timer::ClassicSync(self.group.group_id.clone()));
        let initial = self.group.is_empty();
        self.group.transition_to(ClassicGroupState::PreparingRebalance, self.now_ms);
        info!(
            group = %self.group.group_id,
            generation = self.group.generation_id,
            reason,
            "preparing a rebalance"
        );
        if initial {
            let delay_ms = self.config.group_initial_rebalance_delay_ms.max(0);
            let remaining_ms = self.group.rebalance_timeout_ms().saturating_sub(delay_ms).max(0);
            self.group.initial_delay = Some(InitialDelay { delay_ms, remaining_ms });
            self.schedule_join(delay_ms);
        } else if self.group.has_all_members_joined() {
            self.complete_join();
        } else {
            self.schedule_join(self.group.rebalance_timeout_ms());
        }
    }

    /// Ends the join phase of a rebalance that is not a group's first if nobody is missing.
    pub(super) fn complete_join_if_all_joined(&mut self) {
        if self.group.state == ClassicGroupState::PreparingRebalance
            && self.group.previous_state != ClassicGroupState::Empty
            && self.group.has_all_members_joined()
        {
            self.complete_join();
        }
    }

    /// The delay before a group's first generation is over: it is extended if members came in the meantime and there is time.
    pub(super) fn initial_delay_over(&mut self, delay: InitialDelay) {
        if !self.group.new_member_added || delay.remaining_ms == 0 {
            return self.complete_join();
        }
        self.group.new_member_added = false;
        let delay_ms = self.config.group_initial_rebalance_delay_ms.max(0).min(delay.remaining_ms);
        let remaining_ms = (delay.remaining_ms - delay.delay_ms).max(0);
        self.group.initial_delay = Some(InitialDelay { delay_ms, remaining_ms });
        self.schedule_join(delay_ms);
    }

    /// Ends the join phase: drops dynamic members that have not rejoined, and begins the next generation with the others.
    pub(super) fn complete_join(&mut self) {
        self.group.initial_delay = None;
        self.group.new_member_added = false;
        self.timers.cancel(&Timer::ClassicJoin(self.group.group_id.clone()));
        let absent = self
            .group
            .members
            .values()
            .filter(|member| member.awaiting_join.is_none() && member.group_instance_id.is_none());
        for member_id in absent.map(|member| member.member_id.clone()).collect::<Vec<_>>() {
            debug!(group = %self.group.group_id, member = %member_id, "removing a member that has not rejoined");
            self.group.remove(&member_id);
            self.cancel_session(&member_id);
        }
        if !self.group.elect_joined_leader() && !self.group.members.is_empty() {
            // Only static members, all of them silent: wait until their sessions end, or one comes back.
            self.schedule_join(self.group.rebalance_timeout_ms());
            return;
        }
        self.begin_generation();
    }

    fn begin_generation(&mut self) {
        let group = &mut *self.group;
        group.generation_id = group.generation_id.checked_add(1).unwrap_or(0);
        group.pending_sync_members.clear();
        group.protocol_name = group.select_protocol();
        group.subscribed_topics = group.compute_subscribed_topics();
        if group.members.is_empty() {
            group.transition_to(ClassicGroupState::Empty, self.now_ms);
            info!(group = %group.group_id, generation = group.generation_id, "the group is now empty");
            let record = group.metadata_record(self.now_ms, None, |_| Cow::Borrowed(&[]));
            self.output.records.push(record);
            return;
        }
        assert!(group.protocol_name.is_some(), "members of {} have nothing in common", group.group_id);
        group.transition_to(ClassicGroupState::CompletingRebalance, self.now_ms);
        info!(
            group = %group.group_id,
            generation = group.generation_id,
            members = group.members.len(),
            "a new generation waits for its assignment"
        );
        for member_id in group.members.keys().cloned().collect::<Vec<_>>() {
            if let Some(waiting) = self.group.take_awaiting_join(&member_id) {
                let reply = self.current_generation(&member_id, waiting.api_version);
                self.reply_join(waiting, reply);
            }
            let member = self.group.members.get_mut(&member_id).expect("nobody leaves meanwhile");
            member.is_new = false;
            self.restart_session(&member_id);
            self.group.pending_sync_members.insert(member_id);
        }
        let deadline_ms = self.now_ms + i64::from(self.group.rebalance_timeout_ms());
        self.timers.schedule(Timer::ClassicSync(self.group.group_id.clone()), deadline_ms);
    }

    /// What a member is told of the current generation; the leader is told of all members.
    pub(super) fn current_generation(&self, member_id: &str, api_version: i16) -> JoinGroupResponse<'static> {
        let group = &*self.group;
        let members = if group.is_leader(member_id) { self.generation_members() } else { Vec::new() };
        JoinGroupResponse {
            generation_id: group.generation_id,
            protocol_type: group.protocol_type.as_deref().map(owned),
            protocol_name: group.protocol_name.as_deref().map(owned).or_else(|| no_protocol(api_version)),
            leader: owned(group.leader_id.as_deref().unwrap_or_default()),
            member_id: owned(member_id),
            members,
            ..JoinGroupResponse::default()
        }
    }

    fn generation_members(&self) -> Vec<JoinGroupResponseMember<'static>> {
        let protocol = self.group.protocol_name.as_deref().unwrap_or_default();
        let members = self.group.members.values();
        members
            .map(|member| JoinGroupResponseMember {
                member_id: owned(&member.member_id),
                group_instance_id: member.group_instance_id.as_deref().map(owned),
                metadata: member.metadata(protocol).to_vec().into(),
                ..JoinGroupResponseMember::default()
            })
            .collect()
    }

    /// Answers every SyncGroup that waits with an error; assignments of the generation that has not begun are dropped.
    pub(in crate::group) fn fail_waiting_syncs(&mut self, code: ErrorCode) {
        for member_id in self.group.members.keys().cloned().collect::<Vec<_>>() {
            let member = self.group.members.get_mut(&member_id).expect("nobody leaves meanwhile");
            member.assignment.clear();
            if let Some(waiting) = member.awaiting_sync.take() {
                let reply = SyncGroupResponse { error_code: code.code(), ..SyncGroupResponse::default() };
                self.output.replies.push((waiting.token, GroupReply::SyncGroup(reply)));
                self.restart_session(&member_id);
            }
        }
    }

    /// Answers every JoinGroup that waits with an error.
    pub(in crate::group) fn fail_waiting_joins(&mut self, code: ErrorCode) {
        for member_id in self.group.members.keys().cloned().collect::<Vec<_>>() {
            self.fail_waiting_join(&member_id, &member_id, code);
        }
    }

    /// Answers a member's JoinGroup, if it waits, with an error; `told_id` is the member id in the answer.
    pub(super) fn fail_waiting_join(&mut self, member_id: &str, told_id: &str, code: ErrorCode) {
        if let Some(waiting) = self.group.take_awaiting_join(member_id) {
            let reply = join_error(waiting.api_version, told_id, code);
            self.reply_join(waiting, reply);
        }
    }

    /// Puts a JoinGroup among those that wait. One of the same member that waits already is answered: its sender has given it up.
    pub(super) fn await_join(&mut self, member_id: &str, waiting: Waiting) {
        self.fail_waiting_join(member_id, member_id, ErrorCode::REBALANCE_IN_PROGRESS);
        self.group.update(member_id, |member| member.awaiting_join = Some(waiting));
    }

    pub(super) fn reply_join(&mut self, waiting: Waiting, reply: JoinGroupResponse<'static>) {
        self.output.replies.push((waiting.token, GroupReply::JoinGroup(reply)));
    }

    /// Answers what waits of a member that leaves, removes it, and goes on without it.
    pub(super) fn remove_member(&mut self, member_id: &str, reason: &str) {
        self.drop_member(member_id);
        match self.group.state {
            ClassicGroupState::Stable | ClassicGroupState::CompletingRebalance => {
                self.prepare_rebalance(reason);
            }
            ClassicGroupState::PreparingRebalance if self.group.has_all_members_joined() => {
                self.complete_join()
            }
            _ => {}
        }
    }

    /// Answers what waits of a member that leaves, and removes it.
    pub(super) fn drop_member(&mut self, member_id: &str) {
        self.fail_waiting_join(member_id, "", ErrorCode::UNKNOWN_MEMBER_ID);
        let removed = self.group.remove(member_id);
        if let Some(waiting) = removed.and_then(|member| member.awaiting_sync) {
            let error_code = ErrorCode::UNKNOWN_MEMBER_ID.code();
            let reply = SyncGroupResponse { error_code, ..SyncGroupResponse::default() };
            self.output.replies.push((waiting.token, GroupReply::SyncGroup(reply)));
        }
        self.cancel_session(member_id);
    }

    fn schedule_join(&mut self, delay_ms: i32) {
        let deadline_ms = self.now_ms + i64::from(delay_ms);
        self.timers.schedule(Timer::ClassicJoin(self.group.group_id.clone()), deadline_ms);
    }

    /// Counts a member's session time-out from now.
    pub(in crate::group) fn restart_session(&mut self, member_id: &str) {
        if let Some(member) = self.group.members.get(member_id) {
            let timeout_ms = i64::from(member.session_timeout_ms);
            let member_id = member.member_id.clone();
            self.schedule_session(member_id, timeout_ms);
        }
    }

    /// Gives a member that has no id yet its time.
    pub(super) fn start_session_of_new_member(&mut self, member_id: Rc<str>) {
        self.schedule_session(member_id, NEW_MEMBER_JOIN_TIMEOUT_MS);
    }

    /// Lets a session end after this time if nothing is heard.
    pub(super) fn schedule_session(&mut self, member_id: Rc<str>, timeout_ms: i64) {
        let timer = Timer::ClassicSession(self.group.group_id.clone(), member_id);
        self.timers.schedule(timer, self.now_ms + timeout_ms);
    }

    /// Cancels all timers of the group.
    pub(in crate::group) fn cancel_timers(&mut self) {
        let members = self.group.members.keys().chain(&self.group.pending_join_members);
        for member_id in members.cloned().collect::<Vec<_>>() {
            self.cancel_session(&member_id);
        }
        self.timers.cancel(&Timer::ClassicJoin(self.group.group_id.clone()));
        self.timers.cancel(&Timer::ClassicSync(self.group.group_id.clone()));
    }

    pub(in crate::group) fn cancel_session(&mut self, member_id: &str) {
        self.timers.cancel(&Timer::ClassicSession(self.group.group_id.clone(), member_id.into()));
    }
}

/// An answer to JoinGroup that says what is wrong.
pub(in crate::group) fn join_error(
    api_version: i16,
    member_id: &str,
    code: ErrorCode,
) -> JoinGroupResponse<'static> {
    JoinGroupResponse {
        error_code: code.code(),
        protocol_name: no_protocol(api_version),
        member_id: owned(member_id),
        ..JoinGroupResponse::default()
    }
}

/// No protocol, in a version of JoinGroup: before version 7 the name cannot be null.
fn no_protocol(api_version: i16) -> Option<Cow<'static, str>> {
    (api_version < 7).then_some(Cow::Borrowed(""))
}

pub(super) fn owned(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.to_owned())
}
