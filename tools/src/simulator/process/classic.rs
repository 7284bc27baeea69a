//! What members of classic groups ask: their messages become requests of the protocol, and the coordinator's replies what they hear.

use coord::group::{GroupCoordinator, GroupReply, Output, RequestContext};
use protocol::ErrorCode;
use protocol::messages::join_group::JoinGroupRequestProtocol;
use protocol::messages::leave_group::MemberIdentity;
use protocol::messages::sync_group::SyncGroupRequestAssignment;
use protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};

use super::{Env, Process};
use crate::simulator::message::{Address, ClassicAnswer, ClassicRequest, ClassicWish, Generation, Response};
use crate::simulator::settings;

/// Version of JoinGroup that these clients send: their first one brings an id only (KIP-394).
const JOIN_VERSION: i16 = 9;
/// Version of SyncGroup, and of LeaveGroup, that these clients send.
const SYNC_VERSION: i16 = 5;
/// Version of Heartbeat that these clients send.
const HEARTBEAT_VERSION: i16 = 4;
/// The assignor that all members have.
const PROTOCOL: &str = "range";
/// A subscription of version 1 as the client library writes it: t0 and t1, neither user data nor owned partitions.
const SUBSCRIPTION: &[u8] = b"\x00\x01\x00\x00\x00\x02\x00\x02t0\x00\x02t1\xff\xff\xff\xff\x00\x00\x00\x00";

impl Process {
    pub(super) fn classic_request(
        &mut self,
        client: Address,
        number: u64,
        request: &ClassicRequest,
        env: &mut Env<'_>,
    ) -> Option<Response> {
        let api_version = match request.wish {
            ClassicWish::Join => JOIN_VERSION,
            ClassicWish::Sync(_) | ClassicWish::Leave => SYNC_VERSION,
            ClassicWish::Heartbeat => HEARTBEAT_VERSION,
        };
        self.ask_coordinator(request.home, (client, number), api_version, env, |core, context| {
            ask(core, context, request)
        })
    }
}

fn ask(core: &mut GroupCoordinator, context: &RequestContext<'_>, request: &ClassicRequest) -> Output {
    let group_id = || request.group.as_str().into();
    let member_id = || request.member_id.as_str().into();
    match &request.wish {
        ClassicWish::Join => {
            let protocol = JoinGroupRequestProtocol {
                name: PROTOCOL.into(),
                metadata: SUBSCRIPTION.into(),
                ..JoinGroupRequestProtocol::default()
            };
            let request = JoinGroupRequest {
                group_id: group_id(),
                session_timeout_ms: settings::GROUP_SESSION_MS,
                rebalance_timeout_ms: settings::REBALANCE_TIMEOUT_MS,
                member_id: member_id(),
                protocol_type: "consumer".into(),
                protocols: vec![protocol],
                ..JoinGroupRequest::default()
            };
            core.join_group(context, &request)
        }
        ClassicWish::Sync(assignments) => {
            let assignments = assignments.iter().map(|(member_id, assignment)| SyncGroupRequestAssignment {
                member_id: member_id.as_str().into(),
                assignment: (&assignment[..]).into(),
                ..SyncGroupRequestAssignment::default()
            });
            let request = SyncGroupRequest {
                group_id: group_id(),
                generation_id: request.generation,
                member_id: member_id(),
                protocol_type: Some("consumer".into()),
                protocol_name: Some(PROTOCOL.into()),
                assignments: assignments.collect(),
                ..SyncGroupRequest::default()
            };
            core.sync_group(context, &request)
        }
        ClassicWish::Heartbeat => {
            let request = HeartbeatRequest {
                group_id: group_id(),
                generation_id: request.generation,
                member_id: member_id(),
                ..HeartbeatRequest::default()
            };
            core.heartbeat(context, &request)
        }
        ClassicWish::Leave => {
            let request = LeaveGroupRequest {
                group_id: group_id(),
                members: vec![MemberIdentity { member_id: member_id(), ..MemberIdentity::default() }],
                ..LeaveGroupRequest::default()
            };
            core.leave_group(context, &request)
        }
    }
}

/// What a member hears.
pub(super) fn classic_answer(reply: GroupReply) -> Result<ClassicAnswer, ErrorCode> {
    let (error_code, answer) = match reply {
        GroupReply::JoinGroup(reply) if ErrorCode(reply.error_code) == ErrorCode::MEMBER_ID_REQUIRED => {
            (0, ClassicAnswer::MemberId(reply.member_id.into_owned()))
        }
        GroupReply::JoinGroup(reply) => (reply.error_code, ClassicAnswer::Joined(generation(reply))),
        GroupReply::SyncGroup(reply) => {
            (reply.error_code, ClassicAnswer::Assignment(reply.assignment.into_owned().into()))
        }
        GroupReply::Heartbeat(reply) => (reply.error_code, ClassicAnswer::Fine),
        GroupReply::LeaveGroup(reply) => (reply.error_code, ClassicAnswer::Fine),
        reply => unreachable!("nobody asks for {reply:?}"),
    };
    if error_code == 0 { Ok(answer) } else { Err(ErrorCode(error_code)) }
}

fn generation(reply: JoinGroupResponse<'static>) -> Generation {
    Generation {
        id: reply.generation_id,
        member_id: reply.member_id.into_owned(),
        leader: reply.leader.into_owned(),
        members: reply.members.into_iter().map(|member| member.member_id.into_owned()).collect(),
    }
}
