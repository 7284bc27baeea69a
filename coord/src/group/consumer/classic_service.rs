//! Where the coordinator hands over requests of the classic protocol that are for a consumer group.

use std::borrow::Cow;
use std::rc::Rc;

use protocol::ErrorCode;
use protocol::messages::leave_group::{MemberIdentity, MemberResponse};
use protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};

use super::classic_member;
use super::consumer_protocol;
use super::draft::Draft;
use super::refusal::Refusal;
use crate::group::api::{GroupReply, Output, RequestContext};
use crate::group::classic::{join_error, leave_for_version};
use crate::group::coordinator::GroupCoordinator;
use crate::group::either::Group;
use crate::group::timers::Timer;

impl GroupCoordinator {
    /// JoinGroup to a consumer group that has members.
    pub(in crate::group) fn join_consumer_group(
        &mut self,
        context: &RequestContext<'_>,
        request: &JoinGroupRequest<'_>,
    ) -> Output {
        let member_id: Rc<str> = match request.member_id.as_ref() {
            "" => self.ids.member_id(request.group_instance_id.as_deref().unwrap_or(context.client_id)),
            own => own.into(),
        };
        self.join_as(context, &member_id, request).unwrap_or_else(|refusal| {
            let reply = join_error(context.api_version, &request.member_id, refusal.code);
            Output::reply(context.token, GroupReply::JoinGroup(reply))
        })
    }

    fn join_as(
        &mut self,
        context: &RequestContext<'_>,
        member_id: &Rc<str>,
        request: &JoinGroupRequest<'_>,
    ) -> Result<Output, Refusal> {
        let group_id = request.group_id.as_ref();
        let check_topics = self.has_to_check_topics(group_id);
        let env = self.environment();
        let draft = Draft::new(&env, group_id, Cow::Borrowed(self.consumer_group(group_id)?));
        classic_member::check_join(&draft, member_id, request)?;
        if classic_member::needs_member_id(context.api_version, request) {
            let reply = join_error(context.api_version, member_id, ErrorCode::MEMBER_ID_REQUIRED);
            return Ok(Output::reply(context.token, GroupReply::JoinGroup(reply)));
        }
        let rebalance_timeout_ms =
            if context.api_version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
        let client = (context.client_id, context.client_host);
        let joined =
            classic_member::join(draft, member_id, client, rebalance_timeout_ms, request, check_topics)?;
        let reply = JoinGroupResponse {
            member_id: member_id.to_string().into(),
            generation_id: joined.member_epoch,
            protocol_type: Some(consumer_protocol::PROTOCOL_TYPE.into()),
            protocol_name: Some(joined.protocol_name.into()),
            ..JoinGroupResponse::default()
        };
        let group_id: Rc<str> = group_id.into();
        self.timers.cancel(&Timer::ConsumerJoin(group_id.clone(), member_id.clone()));
        match joined.downgraded {
            Some(rebalances) => {
                if rebalances {
                    self.schedule_consumer_timer(Timer::ConsumerDowngraded(group_id), 0);
                }
            }
            None => {
                self.topics_checked(&group_id);
                let session = Timer::ConsumerSession(group_id.clone(), member_id.clone());
                self.schedule_consumer_timer(session, request.session_timeout_ms);
                self.schedule_consumer_timer(
                    Timer::ConsumerSync(group_id, member_id.clone()),
                    rebalance_timeout_ms,
                );
            }
        }
        Ok(Output { records: joined.records, replies: vec![(context.token, GroupReply::JoinGroup(reply))] })
    }

    /// SyncGroup to a consumer group that has members.
    pub(in crate::group) fn sync_consumer_group(
        &mut self,
        context: &RequestContext<'_>,
        request: &SyncGroupRequest<'_>,
    ) -> Output {
        let group_id: Rc<str> = request.group_id.as_ref().into();
        let member_id: Rc<str> = request.member_id.as_ref().into();
        let synchronized = self
            .consumer_group(&group_id)
            .and_then(|group| classic_member::sync(group, self.environment().topics, request));
        let reply = match synchronized {
            Ok((assignment, session_timeout_ms)) => {
                self.timers.cancel(&Timer::ConsumerSync(group_id.clone(), member_id.clone()));
                self.schedule_consumer_timer(Timer::ConsumerSession(group_id, member_id), session_timeout_ms);
                let own = |text: &Option<Cow<'_, str>>| text.as_ref().map(|text| text.to_string().into());
                SyncGroupResponse {
                    protocol_type: own(&request.protocol_type),
                    protocol_name: own(&request.protocol_name),
                    assignment: assignment.into(),
                    ..SyncGroupResponse::default()
                }
            }
            Err(refusal) => {
                if refusal.code == ErrorCode::REBALANCE_IN_PROGRESS {
                    self.expect_join(group_id, member_id);
                }
                SyncGroupResponse { error_code: refusal.code.code(), ..SyncGroupResponse::default() }
            }
        };
        Output::reply(context.token, GroupReply::SyncGroup(reply))
    }

    /// Gives a member that was told to join again its rebalance time-out, unless it runs already.
    fn expect_join(&mut self, group_id: Rc<str>, member_id: Rc<str>) {
        let Some(Group::Consumer(group)) = self.groups.get(&group_id) else { return };
        let Some(rebalance_timeout_ms) =
            group.members.get(&member_id).map(|member| member.rebalance_timeout_ms)
        else {
            return;
        };
        let timer = Timer::ConsumerJoin(group_id, member_id);
        if self.timers.deadline_ms(&timer).is_none() {
            self.schedule_consumer_timer(timer, rebalance_timeout_ms);
        }
    }

    /// Heartbeat to a consumer group.
    pub(in crate::group) fn heartbeat_to_consumer_group(
        &mut self,
        context: &RequestContext<'_>,
        request: &HeartbeatRequest<'_>,
    ) -> Output {
        let group_id: Rc<str> = request.group_id.as_ref().into();
        let member_id: Rc<str> = request.member_id.as_ref().into();
        let alive =
            self.consumer_group(&group_id).and_then(|group| classic_member::heartbeat(group, request));
        let code = match alive {
            Ok((has_to_join, session_timeout_ms)) => {
                let session = Timer::ConsumerSession(group_id.clone(), member_id.clone());
                self.schedule_consumer_timer(session, session_timeout_ms);
                if has_to_join {
                    self.expect_join(group_id, member_id);
                }
                if has_to_join { ErrorCode::REBALANCE_IN_PROGRESS } else { ErrorCode::NONE }
            }
            Err(refusal) => refusal.code,
        };
        let reply = HeartbeatResponse { error_code: code.code(), ..HeartbeatResponse::default() };
        Output::reply(context.token, GroupReply::Heartbeat(reply))
    }

    /// LeaveGroup to a consumer group.
    pub(in crate::group) fn leave_consumer_group(
        &mut self,
        context: &RequestContext<'_>,
        group_id: &str,
        members: &[MemberIdentity<'_>],
    ) -> Output {
        let mut leaving: Vec<Rc<str>> = Vec::new();
        let mut responses = Vec::with_capacity(members.len());
        for member in members {
            let instance_id = member.group_instance_id.as_deref();
            let found = self
                .consumer_group(group_id)
                .and_then(|group| group.leaving_member(group_id, &member.member_id, instance_id));
            let error_code = match found {
                Ok(member_id) => {
                    if !leaving.contains(&member_id) {
                        leaving.push(member_id);
                    }
                    ErrorCode::NONE
                }
                Err(refusal) => refusal.code,
            };
            responses.push(MemberResponse {
                member_id: member.member_id.to_string().into(),
                group_instance_id: instance_id.map(|id| id.to_owned().into()),
                error_code: error_code.code(),
                ..MemberResponse::default()
            });
        }
        let mut output = self.remove_consumer_members(group_id, &leaving);
        let reply = LeaveGroupResponse { members: responses, ..LeaveGroupResponse::default() };
        let reply = leave_for_version(reply, context.api_version);
        output.replies.push((context.token, GroupReply::LeaveGroup(reply)));
        output
    }

    /// A member of a consumer group has committed offsets, which keeps the session of one that uses the classic protocol alive.
    pub(in crate::group) fn consumer_group_commits(&mut self, group_id: &str, member_id: &str) {
        let Ok(group) = self.consumer_group(group_id) else { return };
        let classic = group.members.get(member_id).and_then(|member| member.classic.as_ref());
        if let Some(session_timeout_ms) = classic.map(|classic| classic.session_timeout_ms) {
            self.schedule_consumer_timer(
                Timer::ConsumerSession(group_id.into(), member_id.into()),
                session_timeout_ms,
            );
        }
    }
}
