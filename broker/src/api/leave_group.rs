//! LeaveGroup (key 13): members leave a classic group, or an administrator removes them; before version 3 one member by itself.
//!
//! Source: KIP-345, `GroupCoordinatorService.leaveGroup`, `LeaveGroupRequest.normalizedData`, `LeaveGroupResponse`.

use coord::group::GroupReply;
use protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};

use super::{Answer, Call};
use crate::groups::{self, GroupRequest, Patience};

/// From this version on several members may leave with one request.
const FIRST_VERSION_WITH_MEMBERS: i16 = 3;

/// Asks the group's coordinator.
pub async fn handle(call: Call) -> Answer {
    let request: LeaveGroupRequest<'_> = call.decode()?;
    let leave = groups::submit(
        &call,
        &request.group_id,
        Patience::None,
        GroupRequest::of(&call),
        |coordinator, context, request| {
            coordinator.leave_group(context, &normalized(request.decode(), context.api_version))
        },
    );
    let response = match leave.await {
        Ok(GroupReply::LeaveGroup(response)) => for_version(response, call.version),
        Ok(other) => return Err(groups::requests::mismatch(&call, &other)),
        Err(error) => LeaveGroupResponse { error_code: error.code(), ..Default::default() },
    };
    call.respond(&response)
}

/// The request in the form that it has since version 3.
fn normalized(request: LeaveGroupRequest<'_>, version: i16) -> LeaveGroupRequest<'_> {
    if version >= FIRST_VERSION_WITH_MEMBERS {
        return request;
    }
    let member = MemberIdentity { member_id: request.member_id.clone(), ..Default::default() };
    LeaveGroupRequest { members: vec![member], ..request }
}

/// Old versions have one error for the one member.
fn for_version(response: LeaveGroupResponse<'static>, version: i16) -> LeaveGroupResponse<'static> {
    if version >= FIRST_VERSION_WITH_MEMBERS {
        return response;
    }
    let of_member = response.members.first().map_or(0, |member| member.error_code);
    let error_code = if response.error_code == 0 { of_member } else { response.error_code };
    LeaveGroupResponse { error_code, members: Vec::new(), ..response }
}

#[cfg(test)]
mod tests {
    use protocol::ErrorCode;
    use protocol::messages::leave_group::MemberResponse;

    use super::*;

    #[test]
    fn one_member_of_an_old_client_is_treated_like_a_list_of_one() {
        let request = LeaveGroupRequest { member_id: "m".into(), ..Default::default() };
        let asked = normalized(request.clone(), 2);
        assert_eq!(asked.members.iter().map(|m| m.member_id.as_ref()).collect::<Vec<_>>(), ["m"]);
        let error_code = ErrorCode::UNKNOWN_MEMBER_ID.code();
        let member = MemberResponse { member_id: "m".into(), error_code, ..Default::default() };
        let response = LeaveGroupResponse { members: vec![member], ..Default::default() };
        let old = for_version(response.clone(), 2);
        assert_eq!((old.error_code, old.members.len()), (error_code, 0));
        assert_eq!(for_version(response.clone(), 3), response);
    }
}
