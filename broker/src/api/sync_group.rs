//! SyncGroup (key 14): a member of a classic group gets its assignment, the leader brings all of them.
//!
//! The answer comes when the leader has brought the assignments and they are durable. Source: KIP-559, `GroupCoordinatorService.syncGroup`,
//! `KafkaApis.handleSyncGroupRequest`.

use coord::group::GroupReply;
use protocol::ErrorCode;
use protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};

use super::{Answer, Call};
use crate::groups::{self, GroupRequest, Patience};

/// From this version on the request says which protocol it is about.
const FIRST_VERSION_WITH_PROTOCOL: i16 = 5;

/// Asks the group's coordinator.
pub async fn handle(call: Call) -> Answer {
    let request: SyncGroupRequest<'_> = call.decode()?;
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if call.version >= FIRST_VERSION_WITH_PROTOCOL && !names_protocol {
        return call.respond(&failed(ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
    }
    let sync = groups::submit(
        &call,
        &request.group_id,
        Patience::UntilAnswered,
        GroupRequest::of(&call),
        |coordinator, context, request| coordinator.sync_group(context, &request.decode()),
    );
    match sync.await {
        Ok(GroupReply::SyncGroup(response)) => call.respond(&response),
        Ok(other) => Err(groups::requests::mismatch(&call, &other)),
        Err(error) => call.respond(&failed(error)),
    }
}

fn failed(error: ErrorCode) -> SyncGroupResponse<'static> {
    SyncGroupResponse { error_code: error.code(), ..Default::default() }
}
