//! ListGroups, DescribeGroups, DeleteGroups.

use protocol::messages::describe_groups::DescribedGroup;
use protocol::messages::list_groups::ListedGroup;
use protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchResponseGroup};
use protocol::messages::{DeleteGroupsResponse, OffsetFetchRequest};
use std::borrow::Cow;

use super::GroupCoordinator;
use super::api::{GroupReply, Output, RequestContext};

impl GroupCoordinator {
    /// The groups in one of the states (any, if none is given) and of one of the types (any, if none is given). Names are compared
    /// without regard to the case of letters.
    pub fn list_groups(&self, states: &[Cow<'_, str>], types: &[Cow<'_, str>]) -> Vec<ListedGroup<'static>> {
        let _ = (states, types);
        Vec::new()
    }

    /// Describes classic groups (DescribeGroups), one entry for each name.
    pub fn describe_groups(&self, api_version: i16, groups: &[Cow<'_, str>]) -> Vec<DescribedGroup<'static>> {
        let _ = (api_version, groups);
        Vec::new()
    }

    /// Answers OffsetFetch for one group, in the form that requests have since version 8. Topics `None` means all that have offsets.
    pub fn offset_fetch(
        &self,
        request: &OffsetFetchRequestGroup<'_>,
        require_stable: bool,
    ) -> OffsetFetchResponseGroup<'static> {
        let _ = (request, require_stable, OffsetFetchRequest::default());
        OffsetFetchResponseGroup::default()
    }

    /// Deletes groups without members, and their offsets.
    pub fn delete_groups(&mut self, context: &RequestContext<'_>, groups: &[Cow<'_, str>]) -> Output {
        let _ = groups;
        Output::reply(context.token, GroupReply::DeleteGroups(DeleteGroupsResponse::default()))
    }
}
