//! ConsumerGroupHeartbeat (key 68): a member of a consumer group joins, reports what it owns, hears its assignment, leaves.
//!
//! Source: KIP-848, `GroupCoordinatorService.consumerGroupHeartbeat`, `KafkaApis.handleConsumerGroupHeartbeat`.

use coord::group::GroupReply;
use protocol::ErrorCode;
use protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};

use super::{Answer, Call};
use crate::groups::{self, GroupRequest, Patience};
use crate::shard::Shard;

/// The feature that stands for this protocol.
const GROUP_VERSION: &str = "group.version";

/// Asks the group's coordinator.
pub async fn handle(call: Call) -> Answer {
    let request: ConsumerGroupHeartbeatRequest<'_> = call.decode()?;
    if !is_enabled(&call.shard) {
        return call.respond(&failed(ErrorCode::UNSUPPORTED_VERSION));
    }
    let heartbeat = groups::submit(
        &call,
        &request.group_id,
        Patience::None,
        GroupRequest::of(&call),
        |coordinator, context, request| coordinator.consumer_group_heartbeat(context, &request.decode()),
    );
    match heartbeat.await {
        Ok(GroupReply::ConsumerGroupHeartbeat(response)) => call.respond(&response),
        Ok(other) => Err(groups::requests::mismatch(&call, &other)),
        Err(error) => call.respond(&failed(error)),
    }
}

/// Whether groups may use this protocol: by `group.coordinator.rebalance.protocols`, and by the level of the cluster's feature.
pub(super) fn is_enabled(shard: &Shard) -> bool {
    let protocols = &shard.config().group_coordinator_rebalance_protocols.0;
    let level = shard.image().features().get(GROUP_VERSION).copied().unwrap_or(0);
    level > 0 && protocols.iter().any(|protocol| protocol == "consumer")
}

fn failed(error: ErrorCode) -> ConsumerGroupHeartbeatResponse<'static> {
    ConsumerGroupHeartbeatResponse { error_code: error.code(), ..Default::default() }
}
