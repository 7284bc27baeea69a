//! DescribeGroups (key 15): classic groups with their members.
//!
//! Source: KIP-1043 (errors of version 6), `GroupCoordinatorService.describeGroups`.

use std::borrow::Cow;

use coord::group::GroupCoordinator;
use protocol::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup};

use super::{Answer, Call};
use crate::groups::{self, GroupRequest};

/// Operations on a group that a client may be allowed, as bits: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
pub(super) const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// Asks the coordinators of the groups, each once.
pub async fn handle(call: Call) -> Answer {
    let request: DescribeGroupsRequest<'_> = call.decode()?;
    let version = call.version;
    let submitted = GroupRequest::of(&call);
    let look = move |coordinator: &GroupCoordinator, places: &[usize]| {
        let request: DescribeGroupsRequest<'_> = submitted.decode();
        let names: Vec<Cow<'_, str>> = places.iter().map(|place| request.groups[*place].clone()).collect();
        coordinator.describe_groups(version, &names)
    };
    let found = groups::read_groups(&call, &request.groups, look).await;
    let described = request.groups.iter().zip(found).map(|(name, found)| match found {
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
    call.respond(&DescribeGroupsResponse { groups: described.collect(), ..Default::default() })
}
