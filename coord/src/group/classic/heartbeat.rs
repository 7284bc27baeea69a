//! Heartbeat.

use protocol::ErrorCode;
use protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::operation::ClassicOperation;
use super::state::ClassicGroupState;
use crate::group::api::{GroupReply, Output, RequestContext};
use crate::group::coordinator::GroupCoordinator;
use crate::group::either::Group;

impl GroupCoordinator {
    /// Heartbeat, versions 0-4.
    pub fn heartbeat(&mut self, context: &RequestContext<'_>, request: &HeartbeatRequest<'_>) -> Output {
        self.advance_clock(context.now_ms);
        let code = match self.groups.get(&*request.group_id) {
            _ if request.group_id.is_empty() => ErrorCode::INVALID_GROUP_ID,
            None => ErrorCode::UNKNOWN_MEMBER_ID,
            Some(Group::Consumer(_)) => return self.heartbeat_to_consumer_group(context, request),
            Some(Group::Classic(group)) => {
                let group_id = group.group_id.clone();
                let mut code = ErrorCode::NONE;
                let output = self.classic_operation(&group_id, |operation, _| {
                    code = operation.heartbeat(request);
                });
                debug_assert!(output.is_empty(), "a heartbeat changes nothing for others");
                code
            }
        };
        let reply = HeartbeatResponse { error_code: code.code(), ..HeartbeatResponse::default() };
        Output::reply(context.token, GroupReply::Heartbeat(reply))
    }
}

impl ClassicOperation<'_> {
    fn heartbeat(&mut self, request: &HeartbeatRequest<'_>) -> ErrorCode {
        let member_id = &*request.member_id;
        if let Err(code) = self.group.validate_member(member_id, request.group_instance_id.as_deref()) {
            return code;
        }
        if request.generation_id != self.group.generation_id {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        self.restart_session(member_id);
        match self.group.state {
            ClassicGroupState::PreparingRebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            // Members may send heartbeats as soon as they have joined.
            ClassicGroupState::CompletingRebalance | ClassicGroupState::Stable => ErrorCode::NONE,
            ClassicGroupState::Empty | ClassicGroupState::Dead => ErrorCode::UNKNOWN_MEMBER_ID,
        }
    }
}
