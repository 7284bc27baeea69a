//! The coordinator of one partition of `__consumer_offsets`.

use std::collections::BTreeMap;
use std::rc::Rc;

use protocol::ErrorCode;
use protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, SyncGroupRequest, SyncGroupResponse,
};

use super::api::{GroupReply, Output, RequestContext};
use super::config::GroupConfig;
use super::group::Group;
use super::ids::IdGenerator;
use super::record::GroupRecord;
use super::timers::Timers;

/// All groups, and their offsets, of one partition of `__consumer_offsets`.
///
/// Calls that take a request change what need not survive at once and return an [`Output`]; what must survive changes in
/// [`GroupCoordinator::replay`] only. The caller appends an output's records and replays them before the next call, or says that it could
/// not ([`GroupCoordinator::append_refused`]).
#[derive(Debug)]
pub struct GroupCoordinator {
    pub(super) config: Rc<GroupConfig>,
    pub(super) groups: BTreeMap<Rc<str>, Group>,
    pub(super) timers: Timers,
    pub(super) ids: IdGenerator,
}

impl GroupCoordinator {
    /// A coordinator without groups. Member ids come from `seed`, which should be random.
    pub fn new(config: Rc<GroupConfig>, seed: u64) -> Self {
        GroupCoordinator {
            config,
            groups: BTreeMap::new(),
            timers: Timers::default(),
            ids: IdGenerator::new(seed),
        }
    }

    /// Changes the configs; timers that run keep their deadlines.
    pub fn set_config(&mut self, config: Rc<GroupConfig>) {
        self.config = config;
    }

    /// Applies a record of the partition: one that was just appended, or one that is read at a start. The only code that changes what
    /// must survive.
    pub fn replay(&mut self, record: &GroupRecord<'_>) {
        let _ = record;
    }

    /// To be called once when the whole partition has been replayed: starts the sessions of the members that were found.
    pub fn loaded(&mut self, now_ms: i64) -> Output {
        let _ = now_ms;
        Output::default()
    }

    /// When [`GroupCoordinator::tick`] is to be called next, if at all, in ms since the epoch.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.timers.next_ms()
    }

    /// Does what is due. Much of it is done in several calls: look at [`GroupCoordinator::next_deadline_ms`] again.
    pub fn tick(&mut self, now_ms: i64) -> Output {
        let _ = now_ms;
        Output::default()
    }

    /// To be called instead of replaying when an output's records could not be appended: the output's answers become errors, and groups
    /// go back to where they can go on from. The result is to be treated like that of any other call.
    pub fn append_refused(&mut self, output: Output, code: ErrorCode, now_ms: i64) -> Output {
        let _ = now_ms;
        let replies = output.replies.into_iter().map(|(token, reply)| (token, reply.failed(code))).collect();
        Output { records: Vec::new(), replies }
    }

    /// JoinGroup, versions 0-9.
    pub fn join_group(&mut self, context: &RequestContext<'_>, request: &JoinGroupRequest<'_>) -> Output {
        let _ = request;
        Output::reply(context.token, GroupReply::JoinGroup(JoinGroupResponse::default()))
    }

    /// SyncGroup, versions 0-5.
    pub fn sync_group(&mut self, context: &RequestContext<'_>, request: &SyncGroupRequest<'_>) -> Output {
        let _ = request;
        Output::reply(context.token, GroupReply::SyncGroup(SyncGroupResponse::default()))
    }

    /// Heartbeat, versions 0-4.
    pub fn heartbeat(&mut self, context: &RequestContext<'_>, request: &HeartbeatRequest<'_>) -> Output {
        let _ = request;
        Output::reply(context.token, GroupReply::Heartbeat(HeartbeatResponse::default()))
    }

    /// LeaveGroup, versions 0-5.
    pub fn leave_group(&mut self, context: &RequestContext<'_>, request: &LeaveGroupRequest<'_>) -> Output {
        let _ = request;
        Output::reply(context.token, GroupReply::LeaveGroup(LeaveGroupResponse::default()))
    }

    /// OffsetCommit, versions 2-9. That the topics exist is for the caller to check.
    pub fn offset_commit(
        &mut self,
        context: &RequestContext<'_>,
        request: &OffsetCommitRequest<'_>,
    ) -> Output {
        let _ = request;
        Output::reply(context.token, GroupReply::OffsetCommit(OffsetCommitResponse::default()))
    }

    /// OffsetDelete, version 0. That the topics exist is for the caller to check.
    pub fn offset_delete(
        &mut self,
        context: &RequestContext<'_>,
        request: &OffsetDeleteRequest<'_>,
    ) -> Output {
        let _ = request;
        Output::reply(context.token, GroupReply::OffsetDelete(OffsetDeleteResponse::default()))
    }

    /// ConsumerGroupHeartbeat, versions 0-1.
    pub fn consumer_group_heartbeat(
        &mut self,
        context: &RequestContext<'_>,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> Output {
        let _ = request;
        let reply = ConsumerGroupHeartbeatResponse::default();
        Output::reply(context.token, GroupReply::ConsumerGroupHeartbeat(reply))
    }

    /// Forgets the committed offsets of topics that were deleted.
    pub fn topics_deleted(&mut self, topics: &[&str]) -> Output {
        let _ = topics;
        Output::default()
    }
}
