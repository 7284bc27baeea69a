//! JoinGroup.

use std::rc::Rc;

use bytes::Bytes;
use protocol::ErrorCode;
use protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use tracing::info;

use super::member::{ClassicMember, ClassicProtocol, Waiting, protocols_from};
use super::members::ClassicGroup;
use super::operation::{ClassicOperation, join_error, owned};
use super::state::ClassicGroupState;
use crate::group::api::{GroupReply, Output, RequestContext};
use crate::group::coordinator::GroupCoordinator;
use crate::group::either::Group;
use crate::group::ids::IdGenerator;

/// First version of JoinGroup whose clients join again with the id they are given (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// First version of JoinGroup that can tell a leader to keep the assignment there is (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;
/// Ids that one group gives out before their receivers have come back with them.
const MAX_PENDING_MEMBERS: usize = 10_000;

impl GroupCoordinator {
    /// JoinGroup, versions 0-9.
    pub fn join_group(&mut self, context: &RequestContext<'_>, request: &JoinGroupRequest<'_>) -> Output {
        self.advance_clock(context.now_ms);
        if let Err(code) = self.check_join(request) {
            let reply = join_error(context.api_version, "", code);
            return Output::reply(context.token, GroupReply::JoinGroup(reply));
        }
        let group_id: Rc<str> = (&*request.group_id).into();
        let mut records = Vec::new();
        match self.groups.get(&group_id) {
            Some(Group::Consumer(group)) if !group.is_empty() => {
                return self.join_consumer_group(context, request);
            }
            Some(Group::Consumer(_)) => self.replace_empty_consumer_group(&group_id, &mut records),
            Some(Group::Classic(_)) => {}
            None if request.member_id.is_empty() => {
                let group = Group::Classic(Box::new(ClassicGroup::new(group_id.clone())));
                self.groups.insert(group_id.clone(), group);
            }
            None => {
                let code = ErrorCode::UNKNOWN_MEMBER_ID;
                let reply = join_error(context.api_version, &request.member_id, code);
                return Output::reply(context.token, GroupReply::JoinGroup(reply));
            }
        }
        let mut output = self.classic_operation(&group_id, |operation, ids| {
            operation.output.records = records;
            Join::new(context, request).run(operation, ids);
        });
        output.records.shrink_to_fit();
        self.drop_group_without_content(&group_id);
        output
    }

    fn check_join(&self, request: &JoinGroupRequest<'_>) -> Result<(), ErrorCode> {
        if request.group_id.is_empty() {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        let allowed = self.config.group_min_session_timeout_ms..=self.config.group_max_session_timeout_ms;
        if !allowed.contains(&request.session_timeout_ms) {
            return Err(ErrorCode::INVALID_SESSION_TIMEOUT);
        }
        Ok(())
    }
}

/// A JoinGroup on its way into a classic group.
struct Join<'r> {
    context: &'r RequestContext<'r>,
    request: &'r JoinGroupRequest<'r>,
    protocols: Vec<ClassicProtocol>,
    rebalance_timeout_ms: i32,
    waiting: Waiting,
}

impl<'r> Join<'r> {
    fn new(context: &'r RequestContext<'r>, request: &'r JoinGroupRequest<'r>) -> Self {
        let rebalance_timeout_ms =
            if context.api_version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
        Join {
            context,
            request,
            protocols: protocols_from(&request.protocols),
            rebalance_timeout_ms,
            waiting: Waiting { token: context.token, api_version: context.api_version },
        }
    }

    fn run(self, operation: &mut ClassicOperation<'_>, ids: &mut IdGenerator) {
        let member_id = &*self.request.member_id;
        if !accepts(operation, member_id) {
            self.reject(operation, "", ErrorCode::GROUP_MAX_SIZE_REACHED);
            // Whoever comes too late for a group that shrinks is out, and nobody waits for it.
            operation.drop_member(member_id);
            operation.complete_join_if_all_joined();
        } else if !operation.group.supports_protocols(&self.request.protocol_type, &self.protocols) {
            self.reject(operation, member_id, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        } else if member_id.is_empty() {
            self.join_without_id(operation, ids);
        } else {
            self.join_with_id(operation);
        }
    }

    fn reject(&self, operation: &mut ClassicOperation<'_>, member_id: &str, code: ErrorCode) {
        operation.reply_join(self.waiting, join_error(self.context.api_version, member_id, code));
    }

    fn join_without_id(self, operation: &mut ClassicOperation<'_>, ids: &mut IdGenerator) {
        let group = &mut *operation.group;
        match self.request.group_instance_id.as_deref() {
            Some(instance) => {
                let member_id = ids.member_id(instance);
                match group.static_member_id(instance).cloned() {
                    Some(former_id) => self.take_over(operation, &former_id, member_id),
                    None => self.add(operation, member_id),
                }
            }
            None if self.context.api_version >= MEMBER_ID_REQUIRED_FROM => {
                if group.pending_join_members.len() >= MAX_PENDING_MEMBERS {
                    return self.reject(operation, "", ErrorCode::GROUP_MAX_SIZE_REACHED);
                }
                let member_id = ids.member_id(self.context.client_id);
                group.pending_join_members.insert(member_id.clone());
                self.reject(operation, &member_id, ErrorCode::MEMBER_ID_REQUIRED);
                operation.schedule_session(member_id, i64::from(self.request.session_timeout_ms));
            }
            None => {
                let member_id = ids.member_id(self.context.client_id);
                self.add(operation, member_id);
            }
        }
    }

    fn join_with_id(self, operation: &mut ClassicOperation<'_>) {
        let member_id = &*self.request.member_id;
        let instance = self.request.group_instance_id.as_deref();
        if operation.group.pending_join_members.contains(member_id) && instance.is_none() {
            return self.add(operation, member_id.into());
        }
        if let Err(code) = operation.group.validate_member(member_id, instance) {
            return self.reject(operation, member_id, code);
        }
        let same = operation.group.members[member_id].matches(&self.protocols);
        match operation.group.state {
            ClassicGroupState::CompletingRebalance if same => self.tell_current_generation(operation),
            // A leader that joins again wants to assign again, perhaps because of new partitions.
            ClassicGroupState::Stable if same && !operation.group.is_leader(member_id) => {
                self.tell_current_generation(operation);
            }
            ClassicGroupState::PreparingRebalance
            | ClassicGroupState::CompletingRebalance
            | ClassicGroupState::Stable => {
                let reason = self.reason("a member rejoins");
                let member_id = member_id.to_owned();
                self.update(operation, &member_id);
                operation.prepare_rebalance_or_complete_join(&reason);
            }
            ClassicGroupState::Empty | ClassicGroupState::Dead => {
                self.reject(operation, member_id, ErrorCode::UNKNOWN_MEMBER_ID);
            }
        }
    }

    fn tell_current_generation(&self, operation: &mut ClassicOperation<'_>) {
        let mut reply = operation.current_generation(&self.request.member_id, self.context.api_version);
        if operation.group.state == ClassicGroupState::Stable {
            reply.members.clear();
        }
        operation.reply_join(self.waiting, reply);
    }

    fn reason(&self, what: &str) -> String {
        let client = self.request.reason.as_deref().unwrap_or("not provided");
        let end = client.floor_char_boundary(255);
        format!("{what}; client reason: {}", &client[..end])
    }

    fn member(self, member_id: Rc<str>) -> ClassicMember {
        ClassicMember {
            member_id,
            group_instance_id: self.request.group_instance_id.as_deref().map(Into::into),
            client_id: self.context.client_id.into(),
            client_host: self.context.client_host.into(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.request.session_timeout_ms,
            protocols: self.protocols,
            assignment: Bytes::new(),
            is_new: false,
            awaiting_join: None,
            awaiting_sync: None,
        }
    }

    /// Takes a new member in.
    fn add(self, operation: &mut ClassicOperation<'_>, member_id: Rc<str>) {
        let group = &mut *operation.group;
        if group.state == ClassicGroupState::PreparingRebalance
            && group.previous_state == ClassicGroupState::Empty
        {
            group.new_member_added = true;
        }
        let reason = self.reason("a new member joins");
        let protocol_type = self.request.protocol_type.clone();
        let waiting = self.waiting;
        let mut member = self.member(member_id.clone());
        member.is_new = true;
        member.awaiting_join = Some(waiting);
        group.add(member, &protocol_type);
        operation.start_session_of_new_member(member_id);
        operation.prepare_rebalance_or_complete_join(&reason);
    }

    /// Brings a member up to date and lets it wait.
    fn update(self, operation: &mut ClassicOperation<'_>, member_id: &str) {
        operation.await_join(member_id, self.waiting);
        let (protocols, request) = (self.protocols, self.request);
        operation.group.update(member_id, |member| {
            member.protocols = protocols;
            member.rebalance_timeout_ms = self.rebalance_timeout_ms;
            member.session_timeout_ms = request.session_timeout_ms;
        });
    }

    /// A static member is back without knowing its id: it takes over from its former self, which is fenced (KIP-345).
    fn take_over(self, operation: &mut ClassicOperation<'_>, former_id: &Rc<str>, member_id: Rc<str>) {
        info!(
            group = %operation.group.group_id,
            former = %former_id,
            member = %member_id,
            state = operation.group.state.name(),
            "a static member returns with a new id"
        );
        operation.fail_waiting_join(former_id, former_id, ErrorCode::FENCED_INSTANCE_ID);
        let former = operation.group.members.get_mut(former_id).expect("the static member exists");
        let former_sync = former.awaiting_sync.take();
        let (client_id, client_host) = (former.client_id.clone(), former.client_host.clone());
        let assignment = former.assignment.clone();
        if let Some(waiting) = former_sync {
            operation.fail_sync(waiting, ErrorCode::FENCED_INSTANCE_ID);
        }
        let reason = self.reason("a static member returns");
        let (waiting, api_version) = (self.waiting, self.context.api_version);
        let session_timeout_ms = i64::from(self.request.session_timeout_ms);
        let mut member = self.member(member_id.clone());
        // As Kafka does: the member is still shown with the client that it first came from.
        (member.client_id, member.client_host, member.assignment) = (client_id, client_host, assignment);
        let stable = operation.group.state == ClassicGroupState::Stable;
        if stable && operation.group.select_protocol_with(&member, former_id) == operation.group.protocol_name
        {
            return Self::take_over_without_rebalance(operation, former_id, member, waiting, api_version);
        }
        member.awaiting_join = Some(waiting);
        operation.group.replace_static_member(former_id, member);
        operation.cancel_session(former_id);
        operation.schedule_session(member_id, session_timeout_ms);
        operation.prepare_rebalance_or_complete_join(&reason);
    }

    /// The generation goes on with the new id, as soon as that is recorded.
    fn take_over_without_rebalance(
        operation: &mut ClassicOperation<'_>,
        former_id: &str,
        member: ClassicMember,
        waiting: Waiting,
        api_version: i16,
    ) {
        let group = &*operation.group;
        let is_leader = group.is_leader(former_id);
        let timestamp_ms = group.state_timestamp_ms.unwrap_or(operation.now_ms);
        let record =
            group.metadata_record(timestamp_ms, Some(&member), |member| member.assignment.to_vec().into());
        let mut reply: JoinGroupResponse<'static> = operation.current_generation(former_id, api_version);
        reply.member_id = owned(&member.member_id);
        if api_version >= SKIP_ASSIGNMENT_FROM {
            reply.skip_assignment = is_leader;
            let entry = reply.members.iter_mut().find(|entry| entry.member_id == former_id);
            if let Some(entry) = entry {
                entry.member_id = owned(&member.member_id);
                let protocol = group.protocol_name.as_deref().unwrap_or_default();
                entry.metadata = member.metadata(protocol).to_vec().into();
            }
            if is_leader {
                reply.leader = owned(&member.member_id);
            }
        } else {
            // An older client that is told it leads would assign: it is told of the leader that is no more.
            reply.members.clear();
        }
        operation.output.records.push(record);
        operation.group.replacement = Some(Box::new(member));
        operation.reply_join(waiting, reply);
    }
}

/// Whether the group has room for a member: for those it has, always, unless a rebalance is on, which is when a group that is too large
/// shrinks to those who come first.
fn accepts(operation: &ClassicOperation<'_>, member_id: &str) -> bool {
    let group = &*operation.group;
    let max_size = usize::try_from(operation.config.group_max_size).unwrap_or(0);
    match group.state {
        ClassicGroupState::Empty | ClassicGroupState::Dead => true,
        ClassicGroupState::PreparingRebalance => {
            let waits = group.members.get(member_id).is_some_and(|member| member.awaiting_join.is_some());
            waits || group.awaiting_join_count() < max_size
        }
        ClassicGroupState::CompletingRebalance | ClassicGroupState::Stable => {
            group.members.contains_key(member_id) || group.members.len() < max_size
        }
    }
}
