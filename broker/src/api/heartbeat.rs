//! Heartbeat (key 12): a member of a classic group is alive, and hears whether the group rebalances.
//!
//! Source: `GroupCoordinatorService.heartbeat`.

use coord::group::GroupReply;
use protocol::ErrorCode;
use protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::{Answer, Call};
use crate::groups::{self, GroupRequest, Patience};

/// Asks the group's coordinator.
pub async fn handle(call: Call) -> Answer {
    let request: HeartbeatRequest<'_> = call.decode()?;
    let heartbeat = groups::submit(
        &call,
        &request.group_id,
        Patience::None,
        GroupRequest::of(&call),
        |coordinator, context, request| coordinator.heartbeat(context, &request.decode()),
    );
    let error = match heartbeat.await {
        Ok(GroupReply::Heartbeat(response)) => return call.respond(&response),
        Ok(other) => return Err(groups::requests::mismatch(&call, &other)),
        // As Kafka: the member is not to be troubled, its session begins when the group is there.
        Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) => ErrorCode::NONE,
        Err(error) => error,
    };
    call.respond(&HeartbeatResponse { error_code: error.code(), ..Default::default() })
}
