//! ConsumerGroupDescribe (key 69): consumer groups with their members, what these own and what they are to own.
//!
//! Source: KIP-848, `GroupCoordinatorService.consumerGroupDescribe`, `KafkaApis.handleConsumerGroupDescribe`.

use std::borrow::Cow;

use coord::group::GroupCoordinator;
use protocol::ErrorCode;
use protocol::messages::consumer_group_describe::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup,
};

use super::consumer_group_heartbeat::is_enabled;
use super::describe_groups::GROUP_OPERATIONS;
use super::{Answer, Call};
use crate::groups::{self, GroupRequest};

/// Asks the coordinators of the groups, each once.
pub async fn handle(call: Call) -> Answer {
    let request: ConsumerGroupDescribeRequest<'_> = call.decode()?;
    let found = if is_enabled(&call.shard) {
        let submitted = GroupRequest::of(&call);
        let look = move |coordinator: &GroupCoordinator, places: &[usize]| {
            let request: ConsumerGroupDescribeRequest<'_> = submitted.decode();
            let names: Vec<Cow<'_, str>> =
                places.iter().map(|place| request.group_ids[*place].clone()).collect();
            coordinator.consumer_group_describe(&names)
        };
        groups::read_groups(&call, &request.group_ids, look).await
    } else {
        request.group_ids.iter().map(|_| Err(ErrorCode::UNSUPPORTED_VERSION)).collect()
    };
    let described = request.group_ids.iter().zip(found).map(|(name, found)| match found {
        Ok(group) if request.include_authorized_operations && group.error_code == 0 => {
            DescribedGroup { authorized_operations: GROUP_OPERATIONS, ..group }
        }
        Ok(group) => group,
        Err(error) => DescribedGroup {
            group_id: name.to_string().into(),
            error_code: error.code(),
            ..Default::default()
        },
    });
    call.respond(&ConsumerGroupDescribeResponse { groups: described.collect(), ..Default::default() })
}
