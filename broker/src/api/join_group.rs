//! JoinGroup (key 11): a member enters a classic group, or takes part in its rebalance.
//!
//! The answer comes when all members of the group are there; until then it keeps back the later answers of its connection, as in Kafka.
//! Source: KIP-394 (member ids), KIP-345 (static members), KIP-800 (reasons), `GroupCoordinatorService.joinGroup`.

use coord::group::GroupReply;
use protocol::messages::join_group::{JoinGroupRequest, JoinGroupResponse};

use super::{Answer, Call};
use crate::groups::{self, GroupRequest, Patience};

/// Before this version the name of the protocol was not nullable.
const FIRST_VERSION_WITH_NULL_PROTOCOL: i16 = 7;

/// Asks the group's coordinator.
pub async fn handle(call: Call) -> Answer {
    let request: JoinGroupRequest<'_> = call.decode()?;
    let join = groups::submit(
        &call,
        &request.group_id,
        Patience::UntilAnswered,
        GroupRequest::of(&call),
        |coordinator, context, request| coordinator.join_group(context, &request.decode()),
    );
    let response = match join.await {
        Ok(GroupReply::JoinGroup(response)) => response,
        Ok(other) => return Err(groups::requests::mismatch(&call, &other)),
        Err(error) => JoinGroupResponse {
            error_code: error.code(),
            protocol_name: (call.version < FIRST_VERSION_WITH_NULL_PROTOCOL).then(|| "".into()),
            member_id: request.member_id.clone(),
            ..Default::default()
        },
    };
    call.respond(&response)
}
