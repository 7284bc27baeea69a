//! A coordinator with a clock of its own and a log, for tests: it does what a shell does, in memory.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use protocol::ErrorCode;
use protocol::messages::join_group::JoinGroupRequestProtocol;
use protocol::messages::leave_group::MemberIdentity;
use protocol::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::messages::sync_group::SyncGroupRequestAssignment;
use protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    OffsetCommitRequest, SyncGroupRequest, SyncGroupResponse,
};

use super::api::{GroupReply, Output, ReplyToken, RequestContext};
use super::classic::{ClassicGroup, ClassicGroupState};
use super::config::GroupConfig;
use super::coordinator::GroupCoordinator;
use super::either::Group;
use super::record::GroupRecord;

/// The name of the group in tests that have one.
pub const GROUP: &str = "group";

/// A coordinator, its log, its clock, and the answers it has given.
pub struct Harness {
    pub coordinator: GroupCoordinator,
    pub log: Vec<(Bytes, Option<Bytes>)>,
    pub now_ms: i64,
    pub replies: BTreeMap<ReplyToken, GroupReply>,
    /// Why nothing can be appended at the moment.
    pub refuses: Option<ErrorCode>,
    next_token: u64,
}

impl Harness {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(configure: impl FnOnce(&mut GroupConfig)) -> Self {
        let mut config = GroupConfig::default();
        configure(&mut config);
        let mut harness = Harness {
            coordinator: GroupCoordinator::new(Rc::new(config), 7),
            log: Vec::new(),
            now_ms: 1_000_000,
            replies: BTreeMap::new(),
            refuses: None,
            next_token: 0,
        };
        let output = harness.coordinator.loaded(harness.now_ms);
        harness.carry_out(output);
        harness
    }

    /// Makes a request, and does what comes of it.
    pub fn call(
        &mut self,
        api_version: i16,
        request: impl FnOnce(&mut GroupCoordinator, &RequestContext<'_>) -> Output,
    ) -> ReplyToken {
        self.next_token += 1;
        let token = ReplyToken(self.next_token);
        let context = RequestContext {
            api_version,
            client_id: "client",
            client_host: "/127.0.0.1",
            now_ms: self.now_ms,
            token,
        };
        let output = request(&mut self.coordinator, &context);
        self.carry_out(output);
        token
    }

    pub fn carry_out(&mut self, mut output: Output) {
        if let Some(code) = self.refuses
            && !output.records.is_empty()
        {
            output = self.coordinator.append_refused(output, code, self.now_ms);
            assert!(output.records.is_empty(), "these tests refuse nothing that follows from a refusal");
        }
        for record in &output.records {
            let (key, value) = record.encode().unwrap();
            let decoded = GroupRecord::decode(&key, value.as_deref()).unwrap();
            assert_eq!(decoded, *record, "what is read is what was written");
            self.coordinator.replay(&decoded);
            self.log.push((key, value));
        }
        for (token, reply) in output.replies {
            assert!(self.replies.insert(token, reply).is_none(), "a request was answered twice");
        }
    }

    /// Lets time pass, and what is due happen when it is.
    pub fn pass(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        let mut rounds = 0;
        while let Some(deadline_ms) = self.coordinator.next_deadline_ms().filter(|due_ms| *due_ms <= end_ms) {
            self.now_ms = self.now_ms.max(deadline_ms);
            let output = self.coordinator.tick(self.now_ms);
            self.carry_out(output);
            rounds += 1;
            assert!(rounds < 100_000, "the coordinator is never done");
        }
        self.now_ms = end_ms;
    }

    /// A coordinator that has loaded the log as it is now.
    pub fn reloaded(&self) -> Harness {
        let mut harness = Harness::with(|config| *config = (*self.coordinator.config).clone());
        harness.coordinator = GroupCoordinator::new(self.coordinator.config.clone(), 8);
        harness.now_ms = self.now_ms;
        harness.log = self.log.clone();
        for (key, value) in &self.log {
            harness.coordinator.replay(&GroupRecord::decode(key, value.as_deref()).unwrap());
        }
        let output = harness.coordinator.loaded(self.now_ms);
        harness.carry_out(output);
        harness
    }

    pub fn classic(&self, group_id: &str) -> &ClassicGroup {
        match self.coordinator.group(group_id) {
            Some(Group::Classic(group)) => group,
            other => panic!("{group_id} is no classic group but {other:?}"),
        }
    }

    pub fn state(&self) -> ClassicGroupState {
        self.classic(GROUP).state()
    }

    pub fn is_waiting(&self, token: ReplyToken) -> bool {
        !self.replies.contains_key(&token)
    }

    pub fn join(&mut self, join: &Join<'_>) -> ReplyToken {
        let protocols = join.protocols.iter().map(|(name, metadata)| JoinGroupRequestProtocol {
            name: (*name).into(),
            metadata: metadata.clone().into(),
            ..JoinGroupRequestProtocol::default()
        });
        let request = JoinGroupRequest {
            group_id: join.group_id.into(),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            member_id: join.member_id.into(),
            group_instance_id: join.instance.map(Into::into),
            protocol_type: join.protocol_type.into(),
            protocols: protocols.collect(),
            ..JoinGroupRequest::default()
        };
        self.call(join.version, |coordinator, context| coordinator.join_group(context, &request))
    }

    pub fn joined(&self, token: ReplyToken) -> &JoinGroupResponse<'static> {
        match self.replies.get(&token) {
            Some(GroupReply::JoinGroup(reply)) => reply,
            other => panic!("{token:?} has not joined: {other:?}"),
        }
    }

    /// A join that is answered at once.
    pub fn join_now(&mut self, join: &Join<'_>) -> JoinGroupResponse<'static> {
        let token = self.join(join);
        self.joined(token).clone()
    }

    pub fn sync_as(
        &mut self,
        member_id: &str,
        generation_id: i32,
        instance: Option<&str>,
        assignments: &[(&str, &str)],
    ) -> ReplyToken {
        let assignments = assignments.iter().map(|(member_id, assignment)| SyncGroupRequestAssignment {
            member_id: (*member_id).into(),
            assignment: assignment.as_bytes().into(),
            ..SyncGroupRequestAssignment::default()
        });
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id,
            member_id: member_id.into(),
            group_instance_id: instance.map(Into::into),
            assignments: assignments.collect(),
            ..SyncGroupRequest::default()
        };
        self.call(5, |coordinator, context| coordinator.sync_group(context, &request))
    }

    /// A SyncGroup of the current generation.
    pub fn sync(&mut self, member_id: &str, assignments: &[(&str, &str)]) -> ReplyToken {
        let generation_id = self.classic(GROUP).generation_id();
        self.sync_as(member_id, generation_id, None, assignments)
    }

    pub fn synced(&self, token: ReplyToken) -> &SyncGroupResponse<'static> {
        match self.replies.get(&token) {
            Some(GroupReply::SyncGroup(reply)) => reply,
            other => panic!("{token:?} has not synchronized: {other:?}"),
        }
    }

    pub fn heartbeat_as(&mut self, member_id: &str, generation_id: i32, instance: Option<&str>) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: GROUP.into(),
            generation_id,
            member_id: member_id.into(),
            group_instance_id: instance.map(Into::into),
            ..HeartbeatRequest::default()
        };
        let token = self.call(4, |coordinator, context| coordinator.heartbeat(context, &request));
        match &self.replies[&token] {
            GroupReply::Heartbeat(reply) => ErrorCode(reply.error_code),
            other => panic!("{other:?}"),
        }
    }

    pub fn heartbeat(&mut self, member_id: &str) -> ErrorCode {
        let generation_id = self.classic(GROUP).generation_id();
        self.heartbeat_as(member_id, generation_id, None)
    }

    pub fn leave(&mut self, members: &[(&str, Option<&str>)]) -> LeaveGroupResponse<'static> {
        let members = members.iter().map(|(member_id, instance)| MemberIdentity {
            member_id: (*member_id).into(),
            group_instance_id: instance.map(Into::into),
            ..MemberIdentity::default()
        });
        let request = LeaveGroupRequest {
            group_id: GROUP.into(),
            members: members.collect(),
            ..LeaveGroupRequest::default()
        };
        let token = self.call(5, |coordinator, context| coordinator.leave_group(context, &request));
        match &self.replies[&token] {
            GroupReply::LeaveGroup(reply) => reply.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub fn commit(&mut self, commit: &Commit<'_>) -> ErrorCode {
        let request = OffsetCommitRequest {
            group_id: commit.group_id.into(),
            generation_id_or_member_epoch: commit.generation_id,
            member_id: commit.member_id.into(),
            group_instance_id: commit.instance.map(Into::into),
            retention_time_ms: commit.retention_time_ms,
            topics: vec![OffsetCommitRequestTopic {
                name: commit.topic.into(),
                topic_id: commit.topic_id,
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: commit.partition,
                    committed_offset: commit.offset,
                    committed_leader_epoch: 3,
                    committed_metadata: Some(commit.metadata.into()),
                    ..OffsetCommitRequestPartition::default()
                }],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        let token =
            self.call(commit.version, |coordinator, context| coordinator.offset_commit(context, &request));
        match &self.replies[&token] {
            GroupReply::OffsetCommit(reply) => ErrorCode(reply.topics[0].partitions[0].error_code),
            other => panic!("{other:?}"),
        }
    }

    /// The committed offset of a partition of [`GROUP`], -1 for none.
    pub fn fetch(&self, topic: &str, partition: i32) -> i64 {
        self.fetch_as(topic, uuid::Uuid::nil(), partition)
    }

    pub fn fetch_as(&self, topic: &str, topic_id: uuid::Uuid, partition: i32) -> i64 {
        let request = OffsetFetchRequestGroup {
            group_id: GROUP.into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: topic.into(),
                topic_id,
                partition_indexes: vec![partition],
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        };
        self.coordinator.offset_fetch(&request, false).topics[0].partitions[0].committed_offset
    }

    /// A stable group of so many dynamic members, the leader first, who were assigned `assignment-0`, `assignment-1`, …
    pub fn stable_group(&mut self, members: usize) -> Vec<String> {
        let ids: Vec<String> =
            (0..members).map(|_| self.join_now(&Join::default()).member_id.into_owned()).collect();
        let joins: Vec<ReplyToken> =
            ids.iter().map(|id| self.join(&Join { member_id: id, ..Join::default() })).collect();
        self.pass(i64::from(self.coordinator.config.group_initial_rebalance_delay_ms) * 3);
        let leader = self.joined(joins[0]).leader.to_string();
        assert_eq!(leader, ids[0]);
        let names: Vec<String> = (0..members).map(|n| format!("assignment-{n}")).collect();
        let assignments: Vec<(&str, &str)> =
            ids.iter().zip(&names).map(|(id, name)| (id.as_str(), name.as_str())).collect();
        for id in ids.iter().rev() {
            self.sync(id, if *id == leader { &assignments } else { &[] });
        }
        assert_eq!(self.state(), ClassicGroupState::Stable);
        ids
    }
}

/// A JoinGroup, with what most tests want.
#[derive(Clone)]
pub struct Join<'a> {
    pub version: i16,
    pub group_id: &'a str,
    pub member_id: &'a str,
    pub instance: Option<&'a str>,
    pub protocol_type: &'a str,
    pub protocols: Vec<(&'a str, Vec<u8>)>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
}

impl Default for Join<'_> {
    fn default() -> Self {
        Join {
            version: 9,
            group_id: GROUP,
            member_id: "",
            instance: None,
            protocol_type: "consumer",
            protocols: vec![("range", subscription(&["topic"]))],
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
        }
    }
}

/// An OffsetCommit of one partition, with what most tests want.
#[derive(Clone)]
pub struct Commit<'a> {
    pub version: i16,
    pub group_id: &'a str,
    pub member_id: &'a str,
    pub instance: Option<&'a str>,
    pub generation_id: i32,
    pub retention_time_ms: i64,
    pub topic: &'a str,
    pub topic_id: uuid::Uuid,
    pub partition: i32,
    pub offset: i64,
    pub metadata: &'a str,
}

impl Default for Commit<'_> {
    fn default() -> Self {
        Commit {
            version: 9,
            group_id: GROUP,
            member_id: "",
            instance: None,
            generation_id: -1,
            retention_time_ms: -1,
            topic: "topic",
            topic_id: uuid::Uuid::nil(),
            partition: 0,
            offset: 42,
            metadata: "",
        }
    }
}

/// What a consumer sends that subscribes to these topics.
pub fn subscription(topics: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0, 1];
    bytes.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1i32).to_be_bytes());
    bytes.extend(0i32.to_be_bytes());
    bytes
}
