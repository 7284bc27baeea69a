//! The consumer protocol of KIP-848.

use protocol::ErrorCode;
use protocol::messages::leave_group::MemberIdentity;
use protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};

use super::api::{GroupReply, Output, RequestContext};
use super::classic::{join_error, leave_for_version};
use super::coordinator::GroupCoordinator;
use super::record::GroupRecord;
use super::timers::Timer;

/// The state of a consumer group, with Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerGroupState {
    /// The group has no members.
    Empty,
}

impl ConsumerGroupState {
    /// Kafka's name of the state.
    pub fn name(self) -> &'static str {
        "Empty"
    }
}

/// A group of the consumer protocol.
#[derive(Debug, Clone, Default)]
pub struct ConsumerGroup {}

impl ConsumerGroup {
    /// The group's state.
    pub fn state(&self) -> ConsumerGroupState {
        ConsumerGroupState::Empty
    }

    /// Whether the group has no members.
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Whether a member has subscribed to the topic.
    pub fn is_subscribed_to(&self, _topic: &str) -> bool {
        false
    }

    /// The records that end the group, which has no members.
    pub(in crate::group) fn tombstones(&self, _group_id: &str, _records: &mut Vec<GroupRecord<'static>>) {}

    /// Whether this member may commit offsets in this epoch. -1 and no member is somebody outside, who may while there are no members.
    pub(in crate::group) fn validate_offset_commit(
        &self,
        _member_id: &str,
        _group_instance_id: Option<&str>,
        _member_epoch: i32,
        _api_version: i16,
    ) -> Result<(), ErrorCode> {
        Ok(())
    }

    /// Whether this member may fetch offsets in this epoch; no member and an epoch below 0 is somebody outside, who may.
    pub(in crate::group) fn validate_offset_fetch(
        &self,
        _member_id: Option<&str>,
        _member_epoch: i32,
    ) -> Result<(), ErrorCode> {
        Ok(())
    }
}

/// Where the rest of the coordinator hands over to this protocol.
impl GroupCoordinator {
    /// Applies a record of a consumer group. One for a name that a classic group has by now changes that group only by being the
    /// tombstone that ends its predecessor ([`ClassicGroup::replaces`](super::classic::ClassicGroup)).
    pub(super) fn replay_consumer_group(&mut self, _record: &GroupRecord<'_>) {}

    /// Starts the sessions of the members of all consumer groups after a load.
    pub(super) fn consumer_groups_loaded(&mut self) -> Output {
        Output::default()
    }

    /// A timer of a consumer group is due.
    pub(super) fn consumer_group_timer(&mut self, _timer: Timer) -> Output {
        Output::default()
    }

    /// Records of consumer groups could not be appended; the answers have been turned into errors already.
    pub(super) fn consumer_append_refused(
        &mut self,
        _records: &[GroupRecord<'static>],
        _code: ErrorCode,
    ) -> Output {
        Output::default()
    }

    /// JoinGroup to a consumer group that has members.
    pub(super) fn join_consumer_group(
        &mut self,
        context: &RequestContext<'_>,
        _request: &JoinGroupRequest<'_>,
    ) -> Output {
        let reply = join_error(context.api_version, "", ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        Output::reply(context.token, GroupReply::JoinGroup(reply))
    }

    /// SyncGroup to a consumer group that has members.
    pub(super) fn sync_consumer_group(
        &mut self,
        context: &RequestContext<'_>,
        _request: &SyncGroupRequest<'_>,
    ) -> Output {
        let error_code = ErrorCode::UNKNOWN_MEMBER_ID.code();
        let reply = SyncGroupResponse { error_code, ..SyncGroupResponse::default() };
        Output::reply(context.token, GroupReply::SyncGroup(reply))
    }

    /// Heartbeat to a consumer group.
    pub(super) fn heartbeat_to_consumer_group(
        &mut self,
        context: &RequestContext<'_>,
        _request: &HeartbeatRequest<'_>,
    ) -> Output {
        let error_code = ErrorCode::UNKNOWN_MEMBER_ID.code();
        let reply = HeartbeatResponse { error_code, ..HeartbeatResponse::default() };
        Output::reply(context.token, GroupReply::Heartbeat(reply))
    }

    /// LeaveGroup to a consumer group; the answer goes through [`leave_for_version`](super::classic::leave_for_version).
    pub(super) fn leave_consumer_group(
        &mut self,
        context: &RequestContext<'_>,
        _group_id: &str,
        _members: &[MemberIdentity<'_>],
    ) -> Output {
        let error_code = ErrorCode::UNKNOWN_MEMBER_ID.code();
        let reply = LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() };
        let reply = leave_for_version(reply, context.api_version);
        Output::reply(context.token, GroupReply::LeaveGroup(reply))
    }

    /// A member of a consumer group that uses the classic protocol has committed offsets, which keeps its session alive.
    pub(super) fn consumer_group_commits(&mut self, _group_id: &str, _member_id: &str) {}

    /// ConsumerGroupHeartbeat, versions 0-1.
    pub fn consumer_group_heartbeat(
        &mut self,
        context: &RequestContext<'_>,
        _request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> Output {
        let reply = ConsumerGroupHeartbeatResponse::default();
        Output::reply(context.token, GroupReply::ConsumerGroupHeartbeat(reply))
    }
}
