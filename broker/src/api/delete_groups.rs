//! DeleteGroups (key 42): groups without members go, with their offsets.
//!
//! Source: KIP-229, `GroupCoordinatorService.deleteGroups`.

use coord::group::GroupReply;
use futures::future::join_all;
use protocol::messages::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};

use super::{Answer, Call};
use crate::groups::{self, GroupRequest, Patience};

/// Asks the coordinator of each group.
pub async fn handle(call: Call) -> Answer {
    let request: DeleteGroupsRequest<'_> = call.decode()?;
    let deletions = request.groups_names.iter().map(|name| {
        let call = &call;
        async move {
            let group_id = name.to_string();
            let delete = groups::submit(
                call,
                name,
                Patience::None,
                GroupRequest::of(call),
                move |coordinator, context, _| coordinator.delete_groups(context, &[group_id.into()]),
            );
            match delete.await {
                Ok(GroupReply::DeleteGroups(response)) => Ok(response.results),
                Ok(other) => Err(groups::requests::mismatch(call, &other)),
                Err(error) => Ok(vec![DeletableGroupResult {
                    group_id: name.to_string().into(),
                    error_code: error.code(),
                    ..Default::default()
                }]),
            }
        }
    });
    let mut results = Vec::with_capacity(request.groups_names.len());
    for rows in join_all(deletions.collect::<Vec<_>>()).await {
        results.extend(rows?);
    }
    call.respond(&DeleteGroupsResponse { results, ..Default::default() })
}
