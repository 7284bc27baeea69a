//! What goes into the coordinator and what comes out of it.

use protocol::ErrorCode;
use protocol::messages::{
    ConsumerGroupHeartbeatResponse, DeleteGroupsResponse, HeartbeatResponse, JoinGroupResponse,
    LeaveGroupResponse, OffsetCommitResponse, OffsetDeleteResponse, SyncGroupResponse,
};

use super::record::GroupRecord;

/// Names a request that waits for its answer. The shell chooses it, one for each request, and gets it back with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken(pub u64);

/// What a request brings along besides its body.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext<'a> {
    /// Version of the request.
    pub api_version: i16,
    /// Name the client gives itself; may be empty.
    pub client_id: &'a str,
    /// Address the client connects from, `/` in front as Kafka writes it.
    pub client_host: &'a str,
    /// The time, in ms since the epoch; never before that of an earlier call.
    pub now_ms: i64,
    /// Where the answer goes.
    pub token: ReplyToken,
}

/// What a call wants done: the records appended as one batch and replayed, and then, when all that was appended is durable, the replies
/// sent.
#[derive(Debug, Default)]
#[must_use = "records have to be appended, and replies sent"]
pub struct Output {
    /// Records to append, in order.
    pub records: Vec<GroupRecord<'static>>,
    /// Answers to send, in order. They may answer requests that came earlier.
    pub replies: Vec<(ReplyToken, GroupReply)>,
}

impl Output {
    /// An output that appends nothing and answers one request.
    pub fn reply(token: ReplyToken, reply: GroupReply) -> Self {
        Output { records: Vec::new(), replies: vec![(token, reply)] }
    }

    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.replies.is_empty()
    }

    /// Adds what another output wants done after this one.
    pub fn extend(&mut self, other: Output) {
        self.records.extend(other.records);
        self.replies.extend(other.replies);
    }
}

/// An answer, in the form in which it is encoded. Throttle times are the shell's.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupReply {
    /// To JoinGroup.
    JoinGroup(JoinGroupResponse<'static>),
    /// To SyncGroup.
    SyncGroup(SyncGroupResponse<'static>),
    /// To Heartbeat.
    Heartbeat(HeartbeatResponse<'static>),
    /// To LeaveGroup.
    LeaveGroup(LeaveGroupResponse<'static>),
    /// To OffsetCommit.
    OffsetCommit(OffsetCommitResponse<'static>),
    /// To OffsetDelete.
    OffsetDelete(OffsetDeleteResponse<'static>),
    /// To DeleteGroups: the results of the groups that this coordinator was asked about.
    DeleteGroups(DeleteGroupsResponse<'static>),
    /// To ConsumerGroupHeartbeat.
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse<'static>),
}

impl GroupReply {
    /// The answer that takes this one's place when the records it depends on could not be appended.
    pub(super) fn failed(self, code: ErrorCode) -> GroupReply {
        let error_code = code.code();
        match self {
            GroupReply::JoinGroup(reply) => GroupReply::JoinGroup(JoinGroupResponse {
                error_code,
                protocol_name: reply.protocol_name.map(|_| "".into()),
                member_id: reply.member_id,
                ..JoinGroupResponse::default()
            }),
            GroupReply::SyncGroup(_) => {
                GroupReply::SyncGroup(SyncGroupResponse { error_code, ..SyncGroupResponse::default() })
            }
            GroupReply::Heartbeat(_) => {
                GroupReply::Heartbeat(HeartbeatResponse { error_code, ..HeartbeatResponse::default() })
            }
            GroupReply::LeaveGroup(_) => {
                GroupReply::LeaveGroup(LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() })
            }
            GroupReply::OffsetCommit(mut reply) => {
                let partitions = reply.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                partitions.filter(|partition| partition.error_code == 0).for_each(|partition| {
                    partition.error_code = error_code;
                });
                GroupReply::OffsetCommit(reply)
            }
            GroupReply::OffsetDelete(mut reply) => {
                reply.error_code = error_code;
                reply.topics.clear();
                GroupReply::OffsetDelete(reply)
            }
            GroupReply::DeleteGroups(mut reply) => {
                reply.results.iter_mut().filter(|result| result.error_code == 0).for_each(|result| {
                    result.error_code = error_code;
                });
                GroupReply::DeleteGroups(reply)
            }
            GroupReply::ConsumerGroupHeartbeat(_) => {
                GroupReply::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse {
                    error_code,
                    ..ConsumerGroupHeartbeatResponse::default()
                })
            }
        }
    }
}
