//! SyncGroup.

use std::collections::HashMap;

use protocol::ErrorCode;
use protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use tracing::{info, warn};

use super::member::Waiting;
use super::operation::{ClassicOperation, owned};
use super::state::ClassicGroupState;
use crate::group::api::{GroupReply, Output, RequestContext};
use crate::group::coordinator::GroupCoordinator;
use crate::group::either::Group;
use crate::group::timers::Timer;

impl GroupCoordinator {
    /// SyncGroup, versions 0-5.
    pub fn sync_group(&mut self, context: &RequestContext<'_>, request: &SyncGroupRequest<'_>) -> Output {
        self.advance_clock(context.now_ms);
        let waiting = Waiting { token: context.token, api_version: context.api_version };
        match self.groups.get(&*request.group_id) {
            _ if request.group_id.is_empty() => sync_error(waiting, ErrorCode::INVALID_GROUP_ID),
            Some(Group::Classic(group)) if !group.is_empty() => {
                let group_id = group.group_id.clone();
                self.classic_operation(&group_id, |operation, _| operation.sync(waiting, request))
            }
            Some(Group::Consumer(group)) if !group.is_empty() => self.sync_consumer_group(context, request),
            _ => sync_error(waiting, ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }
}

fn sync_error(waiting: Waiting, code: ErrorCode) -> Output {
    let reply = SyncGroupResponse { error_code: code.code(), ..SyncGroupResponse::default() };
    Output::reply(waiting.token, GroupReply::SyncGroup(reply))
}

impl ClassicOperation<'_> {
    fn sync(&mut self, waiting: Waiting, request: &SyncGroupRequest<'_>) {
        if let Err(code) = self.validate_sync(request) {
            return self.fail_sync(waiting, code);
        }
        let member_id = &*request.member_id;
        match self.group.state {
            ClassicGroupState::PreparingRebalance => {
                self.fail_sync(waiting, ErrorCode::REBALANCE_IN_PROGRESS);
            }
            ClassicGroupState::CompletingRebalance => {
                let member = self.group.members.get_mut(member_id).expect("validated");
                if let Some(former) = member.awaiting_sync.replace(waiting) {
                    // The sender has given up on its first request.
                    self.fail_sync(former, ErrorCode::REBALANCE_IN_PROGRESS);
                }
                self.has_synced(member_id);
                if self.group.is_leader(member_id) {
                    self.record_assignment(request);
                }
            }
            ClassicGroupState::Stable => {
                self.has_synced(member_id);
                self.tell_assignment(waiting, &self.group.members[member_id].assignment.clone());
            }
            ClassicGroupState::Empty | ClassicGroupState::Dead => {
                self.fail_sync(waiting, ErrorCode::UNKNOWN_MEMBER_ID);
            }
        }
    }

    fn validate_sync(&self, request: &SyncGroupRequest<'_>) -> Result<(), ErrorCode> {
        let group = &*self.group;
        group.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != group.generation_id {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let differs = |asked: Option<&str>, is: Option<&str>| asked.is_some() && is.is_some() && asked != is;
        if differs(request.protocol_type.as_deref(), group.protocol_type.as_deref())
            || differs(request.protocol_name.as_deref(), group.protocol_name.as_deref())
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        Ok(())
    }

    /// The leader has assigned: once that is recorded the group is stable, and all who wait are told.
    fn record_assignment(&mut self, request: &SyncGroupRequest<'_>) {
        let given = request.assignments.iter();
        let assignments: HashMap<&str, &[u8]> =
            given.map(|assignment| (&*assignment.member_id, &*assignment.assignment)).collect();
        let group = &*self.group;
        let without = group.members.keys().filter(|id| !assignments.contains_key(&***id)).count();
        if without > 0 {
            warn!(group = %group.group_id, members = without, "the leader has assigned nothing to some members");
        }
        info!(
            group = %group.group_id,
            generation = group.generation_id,
            members = group.members.len(),
            "the leader has assigned"
        );
        let assignment_of =
            |member_id: &str| assignments.get(member_id).copied().unwrap_or_default().to_vec();
        let record =
            group.metadata_record(self.now_ms, None, |member| assignment_of(&member.member_id).into());
        self.output.records.push(record);
        for member_id in self.group.members.keys().cloned().collect::<Vec<_>>() {
            let member = self.group.members.get_mut(&member_id).expect("nobody leaves meanwhile");
            if let Some(waiting) = member.awaiting_sync.take() {
                self.tell_assignment(waiting, &assignment_of(&member_id));
                self.restart_session(&member_id);
            }
        }
    }

    fn tell_assignment(&mut self, waiting: Waiting, assignment: &[u8]) {
        let reply = SyncGroupResponse {
            protocol_type: self.group.protocol_type.as_deref().map(owned),
            protocol_name: self.group.protocol_name.as_deref().map(owned),
            assignment: assignment.to_vec().into(),
            ..SyncGroupResponse::default()
        };
        self.output.replies.push((waiting.token, GroupReply::SyncGroup(reply)));
    }

    pub(super) fn fail_sync(&mut self, waiting: Waiting, code: ErrorCode) {
        self.output.replies.extend(sync_error(waiting, code).replies);
    }

    fn has_synced(&mut self, member_id: &str) {
        self.group.pending_sync_members.remove(member_id);
        if self.group.pending_sync_members.is_empty() {
            self.timers.cancel(&Timer::ClassicSync(self.group.group_id.clone()));
        }
    }
}
