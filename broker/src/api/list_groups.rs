//! ListGroups (key 16): all groups, or those in some states (4+) or of some types (5+).
//!
//! Source: KIP-518, KIP-848, `GroupCoordinatorService.listGroups`.

use coord::group::GroupCoordinator;
use protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};

use super::{Answer, Call};
use crate::groups::{self, GroupRequest};

/// Asks all coordinators; one that is loading is the error of the whole answer, as in Kafka.
pub async fn handle(call: Call) -> Answer {
    let _: ListGroupsRequest<'_> = call.decode()?;
    let request = GroupRequest::of(&call);
    let look = move |coordinator: &GroupCoordinator| {
        let request: ListGroupsRequest<'_> = request.decode();
        coordinator.list_groups(&request.states_filter, &request.types_filter)
    };
    let response = match groups::read_everywhere(&call.shard, look).await {
        Ok(found) => {
            ListGroupsResponse { groups: found.into_iter().flatten().collect(), ..Default::default() }
        }
        Err(error) => ListGroupsResponse { error_code: error.code(), ..Default::default() },
    };
    call.respond(&response)
}
