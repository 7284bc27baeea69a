//! ListGroups, DescribeGroups, DeleteGroups.

use std::borrow::Cow;
use std::collections::BTreeSet;

use protocol::ErrorCode;
use protocol::messages::DeleteGroupsResponse;
use protocol::messages::delete_groups::DeletableGroupResult;
use protocol::messages::describe_groups::{DescribedGroup, DescribedGroupMember};
use protocol::messages::list_groups::ListedGroup;

use super::api::{GroupReply, Output, RequestContext};
use super::classic::{ClassicGroup, ClassicGroupState};
use super::coordinator::GroupCoordinator;
use super::either::Group;
use super::offsets::offset_tombstone;

/// First version of DescribeGroups that says GROUP_ID_NOT_FOUND (KIP-1043); before, such a group is Dead.
const GROUP_ID_NOT_FOUND_FROM: i16 = 6;

impl GroupCoordinator {
    /// The groups in one of the states (any, if none is given) and of one of the types (any, if none is given). Names are compared
    /// without regard to the case of letters.
    pub fn list_groups(&self, states: &[Cow<'_, str>], types: &[Cow<'_, str>]) -> Vec<ListedGroup<'static>> {
        let is_among = |names: &[Cow<'_, str>], name: &str| {
            names.is_empty() || names.iter().any(|candidate| candidate.eq_ignore_ascii_case(name))
        };
        let groups = self.groups.iter().filter(|(_, group)| {
            is_among(states, group.state_name()) && is_among(types, group.group_type().name())
        });
        groups
            .map(|(group_id, group)| ListedGroup {
                group_id: group_id.to_string().into(),
                protocol_type: group.protocol_type().to_owned().into(),
                group_state: group.state_name().into(),
                group_type: group.group_type().name().into(),
                ..ListedGroup::default()
            })
            .collect()
    }

    /// Describes classic groups (DescribeGroups), one entry for each name.
    pub fn describe_groups(&self, api_version: i16, groups: &[Cow<'_, str>]) -> Vec<DescribedGroup<'static>> {
        groups.iter().map(|group_id| self.describe_group(api_version, group_id)).collect()
    }

    fn describe_group(&self, api_version: i16, group_id: &str) -> DescribedGroup<'static> {
        let problem = match self.groups.get(group_id) {
            Some(Group::Classic(group)) => return describe(group),
            Some(Group::Consumer(_)) => format!("Group {group_id} is not a classic group."),
            None => format!("Group {group_id} not found."),
        };
        let mut described = DescribedGroup {
            group_id: group_id.to_owned().into(),
            group_state: ClassicGroupState::Dead.name().into(),
            ..DescribedGroup::default()
        };
        if api_version >= GROUP_ID_NOT_FOUND_FROM {
            described.error_code = ErrorCode::GROUP_ID_NOT_FOUND.code();
            described.error_message = Some(problem.into());
        }
        described
    }

    /// Deletes groups without members, and their offsets.
    pub fn delete_groups(&mut self, context: &RequestContext<'_>, groups: &[Cow<'_, str>]) -> Output {
        self.advance_clock(context.now_ms);
        let mut records = Vec::new();
        let mut results = Vec::with_capacity(groups.len());
        let mut seen = BTreeSet::new();
        for group_id in groups.iter().filter(|group_id| seen.insert(&***group_id)) {
            let code = match self.groups.get(&**group_id) {
                None => ErrorCode::GROUP_ID_NOT_FOUND,
                Some(group) if !group.is_empty() => ErrorCode::NON_EMPTY_GROUP,
                Some(_) => {
                    for (topic, partitions) in self.offsets.group(group_id).into_iter().flatten() {
                        let indexes = partitions.keys();
                        records
                            .extend(indexes.map(|partition| offset_tombstone(group_id, topic, *partition)));
                    }
                    self.group_tombstones(group_id, &mut records);
                    ErrorCode::NONE
                }
            };
            results.push(DeletableGroupResult {
                group_id: group_id.to_string().into(),
                error_code: code.code(),
                ..DeletableGroupResult::default()
            });
        }
        let reply = DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() };
        Output { records, replies: vec![(context.token, GroupReply::DeleteGroups(reply))] }
    }
}

fn describe(group: &ClassicGroup) -> DescribedGroup<'static> {
    // What the members bring along and what they got is shown when both belong to one generation.
    let protocol = match group.state() {
        ClassicGroupState::Stable => group.protocol_name(),
        _ => None,
    };
    let members = group.members().map(|member| DescribedGroupMember {
        member_id: member.member_id.to_string().into(),
        group_instance_id: member.group_instance_id.as_deref().map(|instance| instance.to_owned().into()),
        client_id: member.client_id.to_string().into(),
        client_host: member.client_host.to_string().into(),
        member_metadata: protocol.map(|name| member.metadata(name).to_vec()).unwrap_or_default().into(),
        member_assignment: protocol.map(|_| member.assignment.to_vec()).unwrap_or_default().into(),
        ..DescribedGroupMember::default()
    });
    DescribedGroup {
        group_id: group.group_id().to_owned().into(),
        group_state: group.state().name().into(),
        protocol_type: group.protocol_type().unwrap_or_default().to_owned().into(),
        protocol_data: protocol.unwrap_or_default().to_owned().into(),
        members: members.collect(),
        ..DescribedGroup::default()
    }
}
