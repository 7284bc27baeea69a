//! LeaveGroup.

use protocol::ErrorCode;
use protocol::messages::leave_group::{MemberIdentity, MemberResponse};
use protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use std::borrow::Cow;
use tracing::info;

use super::operation::{ClassicOperation, owned};
use super::state::ClassicGroupState;
use crate::group::api::{GroupReply, Output, RequestContext};
use crate::group::coordinator::GroupCoordinator;
use crate::group::either::Group;

/// First version of LeaveGroup that names several members.
const BATCH_FROM: i16 = 3;

impl GroupCoordinator {
    /// LeaveGroup, versions 0-5.
    pub fn leave_group(&mut self, context: &RequestContext<'_>, request: &LeaveGroupRequest<'_>) -> Output {
        self.advance_clock(context.now_ms);
        let lone_member;
        let members = if context.api_version < BATCH_FROM {
            let member_id = Cow::Borrowed(&*request.member_id);
            lone_member = [MemberIdentity { member_id, ..MemberIdentity::default() }];
            &lone_member[..]
        } else {
            &request.members
        };
        let mut output = Output::default();
        let reply = match self.groups.get(&*request.group_id) {
            _ if request.group_id.is_empty() => LeaveGroupResponse {
                error_code: ErrorCode::INVALID_GROUP_ID.code(),
                ..LeaveGroupResponse::default()
            },
            None => leave_response(members.iter().map(|member| (member, ErrorCode::UNKNOWN_MEMBER_ID))),
            Some(Group::Consumer(_)) => {
                let members = members.to_vec();
                return self.leave_consumer_group(context, &request.group_id, &members);
            }
            Some(Group::Classic(group)) => {
                let group_id = group.group_id.clone();
                let mut codes = Vec::with_capacity(members.len());
                output = self.classic_operation(&group_id, |operation, _| {
                    codes = operation.leave(members);
                });
                self.drop_group_without_content(&group_id);
                leave_response(members.iter().zip(codes))
            }
        };
        output.replies.push((context.token, GroupReply::LeaveGroup(for_version(reply, context.api_version))));
        output
    }
}

fn leave_response<'m>(
    members: impl Iterator<Item = (&'m MemberIdentity<'m>, ErrorCode)>,
) -> LeaveGroupResponse<'static> {
    let members = members.map(|(member, code)| MemberResponse {
        member_id: owned(&member.member_id),
        group_instance_id: member.group_instance_id.as_deref().map(owned),
        error_code: code.code(),
        ..MemberResponse::default()
    });
    LeaveGroupResponse { members: members.collect(), ..LeaveGroupResponse::default() }
}

/// The answer as a version has it: before version 3 the one member's error is that of the whole.
pub(in crate::group) fn for_version(
    mut reply: LeaveGroupResponse<'static>,
    api_version: i16,
) -> LeaveGroupResponse<'static> {
    if api_version < BATCH_FROM
        && let [member] = &reply.members[..]
    {
        reply.error_code = member.error_code;
        reply.members.clear();
    }
    reply
}

impl ClassicOperation<'_> {
    /// Lets members go; returns one code for each.
    fn leave(&mut self, members: &[MemberIdentity<'_>]) -> Vec<ErrorCode> {
        let codes: Vec<ErrorCode> = members.iter().map(|member| self.leave_one(member)).collect();
        if codes.contains(&ErrorCode::NONE) {
            match self.group.state {
                ClassicGroupState::Stable | ClassicGroupState::CompletingRebalance => {
                    self.prepare_rebalance("members leave");
                }
                ClassicGroupState::PreparingRebalance => self.complete_join_if_all_joined(),
                ClassicGroupState::Empty | ClassicGroupState::Dead => {}
            }
        }
        codes
    }

    fn leave_one(&mut self, member: &MemberIdentity<'_>) -> ErrorCode {
        let instance = member.group_instance_id.as_deref();
        let member_id = if member.member_id.is_empty() {
            // An administrator removes a static member whose member id nobody knows.
            match instance.and_then(|instance| self.group.static_member_id(instance)) {
                Some(member_id) => member_id.to_string(),
                None => return ErrorCode::UNKNOWN_MEMBER_ID,
            }
        } else if self.group.pending_join_members.contains(&*member.member_id) {
            self.group.remove(&member.member_id);
            self.cancel_session(&member.member_id);
            return ErrorCode::NONE;
        } else {
            if let Err(code) = self.group.validate_member(&member.member_id, instance) {
                return code;
            }
            member.member_id.to_string()
        };
        info!(
            group = %self.group.group_id,
            member = %member_id,
            reason = member.reason.as_deref().unwrap_or("not provided"),
            "a member leaves"
        );
        self.drop_member(&member_id);
        ErrorCode::NONE
    }
}
