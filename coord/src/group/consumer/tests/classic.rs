//! Requests of the classic protocol, for groups that have members of both.

use std::borrow::Cow;

use protocol::messages::consumer_protocol::{ConsumerProtocolSubscription, TopicPartition};
use protocol::messages::join_group::JoinGroupRequestProtocol;
use protocol::messages::leave_group::MemberIdentity;
use protocol::messages::sync_group::SyncGroupRequestAssignment;
use protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
    SyncGroupResponse,
};
use protocol::{Encoder, Message};

use super::super::consumer_protocol;
use super::*;

/// The session time-out that classic members ask for, in ms.
pub(super) const SESSION_TIMEOUT_MS: i32 = 10_000;

/// A classic member that wants to join.
#[derive(Debug, Clone, Default)]
pub(super) struct Joining<'a> {
    pub(super) member_id: &'a str,
    pub(super) instance_id: Option<&'a str>,
    pub(super) topics: &'a [&'a str],
    /// What a cooperative member says it owns; an eager one has given up everything.
    pub(super) owned: Partitions,
}

impl Shell {
    fn reply<T>(&mut self, token: ReplyToken, pick: impl FnOnce(GroupReply) -> Option<T>) -> Option<T> {
        let reply = self.replies.remove(&token.0)?;
        Some(pick(reply).expect("an answer of the right kind"))
    }

    /// The topics as coordinators see them.
    pub(super) fn topics_view(&self) -> TopicsView {
        let view = |(name, (id, partition_count)): (&String, &(Uuid, usize))| {
            (
                name.as_str().into(),
                TopicView { id: *id, partition_count: *partition_count, racks: Vec::new() },
            )
        };
        TopicsView::new(self.version, self.topics.iter().map(view))
    }

    fn subscription(&self, joining: &Joining<'_>) -> Vec<u8> {
        let topics = self.topics_view();
        let owned = joining.owned.by_topic().into_iter().filter_map(|(id, partitions)| {
            Some(TopicPartition { topic: Cow::Owned(topics.name(id)?.to_string()), partitions })
        });
        let subscription = ConsumerProtocolSubscription {
            topics: joining.topics.iter().map(|topic| topic.to_string().into()).collect(),
            owned_partitions: owned.collect(),
            ..ConsumerProtocolSubscription::default()
        };
        let mut encoder = Encoder::new();
        encoder.int16(1);
        subscription.encode(&mut encoder, 1).expect("a subscription can be encoded");
        encoder.finish_contiguous().to_vec()
    }

    /// Sends a JoinGroup, whose answer may come later.
    pub(super) fn classic_join(&mut self, joining: &Joining<'_>) -> ReplyToken {
        let context = self.context(5);
        let context =
            RequestContext { api_version: if joining.instance_id.is_some() { 5 } else { 3 }, ..context };
        let metadata = self.subscription(joining).into();
        let request = JoinGroupRequest {
            group_id: GROUP.into(),
            session_timeout_ms: SESSION_TIMEOUT_MS,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            member_id: joining.member_id.to_owned().into(),
            group_instance_id: joining.instance_id.map(|id| id.to_owned().into()),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata,
                ..Default::default()
            }],
            ..JoinGroupRequest::default()
        };
        let output = self.coordinator.join_group(&context, &request);
        self.carry_out(output);
        context.token
    }

    /// The answer to a JoinGroup, if it has come.
    pub(super) fn joined(&mut self, token: ReplyToken) -> Option<JoinGroupResponse<'static>> {
        self.reply(token, |reply| match reply {
            GroupReply::JoinGroup(reply) => Some(reply),
            _ => None,
        })
    }

    pub(super) fn classic_sync(
        &mut self,
        joined: &JoinGroupResponse<'_>,
        assignments: &[(&str, Partitions)],
    ) -> SyncGroupResponse<'static> {
        let context = self.context(3);
        let topics = self.topics_view();
        let assignment = |(member_id, partitions): &(&str, Partitions)| SyncGroupRequestAssignment {
            member_id: member_id.to_string().into(),
            assignment: consumer_protocol::encode_assignment(1, partitions, &topics).into(),
            ..Default::default()
        };
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            assignments: assignments.iter().map(assignment).collect(),
            ..SyncGroupRequest::default()
        };
        let output = self.coordinator.sync_group(&context, &request);
        self.carry_out(output);
        let reply = self.reply(context.token, |reply| match reply {
            GroupReply::SyncGroup(reply) => Some(reply),
            _ => None,
        });
        reply.expect("an answer at once")
    }

    pub(super) fn partitions_in(&self, response: &SyncGroupResponse<'_>) -> Partitions {
        consumer_protocol::assignment(&response.assignment, &self.topics_view()).expect("an assignment").0
    }

    pub(super) fn classic_heartbeat(&mut self, member_id: &str, generation_id: i32) -> ErrorCode {
        let context = self.context(3);
        let request = HeartbeatRequest {
            group_id: GROUP.into(),
            generation_id,
            member_id: member_id.to_owned().into(),
            ..HeartbeatRequest::default()
        };
        let output = self.coordinator.heartbeat(&context, &request);
        self.carry_out(output);
        let error_code = self.reply(context.token, |reply| match reply {
            GroupReply::Heartbeat(reply) => Some(reply.error_code),
            _ => None,
        });
        ErrorCode(error_code.expect("an answer at once"))
    }

    /// The classic member leaves; the answer has to be good.
    pub(super) fn classic_leave(&mut self, member_id: &str) {
        let context = self.context(3);
        let member = MemberIdentity { member_id: member_id.to_owned().into(), ..Default::default() };
        let request =
            LeaveGroupRequest { group_id: GROUP.into(), members: vec![member], ..Default::default() };
        let output = self.coordinator.leave_group(&context, &request);
        self.carry_out(output);
        let error_codes = self.reply(context.token, |reply| match reply {
            GroupReply::LeaveGroup(reply) => Some((reply.error_code, reply.members[0].error_code)),
            _ => None,
        });
        assert_eq!(error_codes, Some((0, 0)));
    }
}
