//! Groups that change their protocol while they have members.

use protocol::messages::consumer_protocol::ConsumerProtocolSubscription;
use protocol::messages::join_group::JoinGroupRequestProtocol;
use protocol::messages::leave_group::MemberIdentity;
use protocol::messages::sync_group::SyncGroupRequestAssignment;
use protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    SyncGroupRequest, SyncGroupResponse,
};
use protocol::{Encoder, Message};

use super::super::{ConsumerGroupState, consumer_protocol};
use super::*;
use crate::group::classic::ClassicGroupState;
use crate::group::{ConsumerGroupMigrationPolicy, GroupType};

/// The session time-out that classic members ask for, in ms.
const SESSION_TIMEOUT_MS: i32 = 10_000;

fn shell() -> Shell {
    let config = GroupConfig { group_initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
    Shell::new(config, &[("foo", 4)])
}

fn subscription(topics: &[&str]) -> Vec<u8> {
    let subscription = ConsumerProtocolSubscription {
        topics: topics.iter().map(|topic| topic.to_string().into()).collect(),
        ..ConsumerProtocolSubscription::default()
    };
    let mut encoder = Encoder::new();
    encoder.int16(1);
    subscription.encode(&mut encoder, 1).unwrap();
    encoder.finish_contiguous().to_vec()
}

impl Shell {
    fn reply<T>(&mut self, token: ReplyToken, pick: impl FnOnce(GroupReply) -> Option<T>) -> Option<T> {
        let reply = self.replies.remove(&token.0)?;
        Some(pick(reply).expect("an answer of the right kind"))
    }

    fn classic_join(&mut self, member_id: &str) -> ReplyToken {
        let context = self.context(3);
        let metadata = subscription(&["foo"]);
        let request = JoinGroupRequest {
            group_id: GROUP.into(),
            session_timeout_ms: SESSION_TIMEOUT_MS,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            member_id: member_id.to_owned().into(),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: metadata.into(),
                ..Default::default()
            }],
            ..JoinGroupRequest::default()
        };
        let output = self.coordinator.join_group(&context, &request);
        self.carry_out(output);
        context.token
    }

    fn joined(&mut self, token: ReplyToken) -> Option<JoinGroupResponse<'static>> {
        self.reply(token, |reply| match reply {
            GroupReply::JoinGroup(reply) => Some(reply),
            _ => None,
        })
    }

    fn classic_sync(
        &mut self,
        joined: &JoinGroupResponse<'_>,
        assignments: &[(&str, Partitions)],
    ) -> SyncGroupResponse<'static> {
        let context = self.context(3);
        let topics = TopicsView::new(
            1,
            self.topics.iter().map(|(name, (id, count))| {
                (name.as_str().into(), TopicView { id: *id, partition_count: *count, racks: Vec::new() })
            }),
        );
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

    fn classic_heartbeat(&mut self, member_id: &str, generation_id: i32) -> ErrorCode {
        let context = self.context(3);
        let request = HeartbeatRequest {
            group_id: GROUP.into(),
            generation_id,
            member_id: member_id.to_owned().into(),
            ..HeartbeatRequest::default()
        };
        let output = self.coordinator.heartbeat(&context, &request);
        self.carry_out(output);
        let reply: Option<HeartbeatResponse<'static>> = self.reply(context.token, |reply| match reply {
            GroupReply::Heartbeat(reply) => Some(reply),
            _ => None,
        });
        ErrorCode(reply.expect("an answer at once").error_code)
    }

    fn partitions_in(&self, response: &SyncGroupResponse<'_>) -> Partitions {
        let topics = TopicsView::new(
            1,
            self.topics.iter().map(|(name, (id, count))| {
                (name.as_str().into(), TopicView { id: *id, partition_count: *count, racks: Vec::new() })
            }),
        );
        consumer_protocol::assignment(&response.assignment, &topics).expect("an assignment").0
    }

    fn group_type(&self) -> GroupType {
        self.coordinator.group(GROUP).expect("a group").group_type()
    }

    /// A classic group with one member that owns everything; its member id and generation.
    fn classic_group(&mut self) -> (String, i32) {
        let token = self.classic_join("");
        self.advance(1);
        let joined = self.joined(token).expect("the only member has joined");
        let all = self.partitions("foo", 0..4);
        let synchronized = self.classic_sync(&joined, &[(&joined.member_id, all.clone())]);
        assert_eq!((synchronized.error_code, self.partitions_in(&synchronized)), (0, all));
        (joined.member_id.to_string(), joined.generation_id)
    }
}

#[test]
fn a_classic_group_becomes_a_consumer_group_when_the_first_member_of_the_new_protocol_comes() {
    let mut shell = shell();
    let (classic, generation) = shell.classic_group();
    let new = shell.join("new", &["foo"]);
    assert_eq!(shell.group_type(), GroupType::Consumer);
    assert_eq!((new.member_epoch, assigned(&new)), (generation + 1, Some(Partitions::default())));
    // The classic member keeps what it has until it is told to join again.
    assert_eq!(shell.group().members()[classic.as_str()].current.assigned, shell.partitions("foo", 0..4));
    assert_eq!(shell.classic_heartbeat(&classic, generation), ErrorCode::REBALANCE_IN_PROGRESS);
    // An eager member gives everything up before it joins, and gets its share with the next generation.
    let token = shell.classic_join(&classic);
    let joined = shell.joined(token).expect("an answer at once");
    assert_eq!((joined.error_code, joined.generation_id), (0, generation + 1));
    let synchronized = shell.classic_sync(&joined, &[]);
    let own = shell.partitions_in(&synchronized);
    assert_eq!(own.len(), 2);
    let new = assigned(&shell.beat("new", generation + 1, None)).expect("partitions are free");
    assert_eq!(new.union(&own), shell.partitions("foo", 0..4));
    assert_eq!(shell.group().state(), ConsumerGroupState::Stable);
    assert_eq!(shell.classic_heartbeat(&classic, generation + 1), ErrorCode::NONE);
    let described = shell.coordinator.consumer_group_describe(&[GROUP.into()]);
    assert_eq!(described[0].members.iter().map(|member| member.member_type).sum::<i8>(), 1);
}

#[test]
fn the_group_becomes_classic_again_when_the_last_member_of_the_new_protocol_leaves() {
    let mut shell = shell();
    let (classic, generation) = shell.classic_group();
    shell.join("new", &["foo"]);
    let token = shell.classic_join(&classic);
    let joined = shell.joined(token).unwrap();
    shell.classic_sync(&joined, &[]);
    shell.beat("new", generation + 1, None);
    shell.beat("new", -1, None);
    assert_eq!(shell.group_type(), GroupType::Classic);
    let Some(Group::Classic(group)) = shell.coordinator.group(GROUP) else { panic!("a classic group") };
    assert_eq!(group.generation_id(), generation + 1);
    shell.advance(1);
    let Some(Group::Classic(group)) = shell.coordinator.group(GROUP) else { panic!("a classic group") };
    assert_eq!(group.state(), ClassicGroupState::PreparingRebalance);
    assert_eq!(shell.classic_heartbeat(&classic, generation + 1), ErrorCode::REBALANCE_IN_PROGRESS);
    let token = shell.classic_join(&classic);
    let joined = shell.joined(token).expect("all have joined");
    assert_eq!((joined.leader.as_ref(), joined.generation_id), (classic.as_str(), generation + 2));
    let all = shell.partitions("foo", 0..4);
    assert_eq!(shell.classic_sync(&joined, &[(&classic, all)]).error_code, 0);
}

#[test]
fn what_has_changed_its_protocol_is_the_same_after_a_crash() {
    let mut shell = shell();
    let (classic, generation) = shell.classic_group();
    shell.join("new", &["foo"]);
    let before = shell.group().clone();
    shell.crash();
    assert_eq!(*shell.group(), before);
    shell.beat("new", -1, None);
    shell.crash();
    assert_eq!(shell.group_type(), GroupType::Classic);
    // The crash came before the rebalance; whoever is still in the old generation has to join again all the same.
    assert_eq!(shell.classic_heartbeat(&classic, generation), ErrorCode::ILLEGAL_GENERATION);
}

#[test]
fn a_policy_against_it_keeps_groups_as_they_are() {
    for (policy, upgrades) in [
        (ConsumerGroupMigrationPolicy::Disabled, false),
        (ConsumerGroupMigrationPolicy::Downgrade, false),
        (ConsumerGroupMigrationPolicy::Upgrade, true),
    ] {
        let config = GroupConfig {
            group_initial_rebalance_delay_ms: 0,
            group_consumer_migration_policy: policy,
            ..GroupConfig::default()
        };
        let mut shell = Shell::new(config, &[("foo", 4)]);
        shell.classic_group();
        let response = shell.send(1, &joining("new", &["foo"]));
        let expected = if upgrades { ErrorCode::NONE } else { ErrorCode::GROUP_ID_NOT_FOUND };
        assert_eq!(ErrorCode(response.error_code), expected);
        if upgrades {
            shell.beat("new", -1, None);
            assert_eq!(shell.group_type(), GroupType::Consumer, "there is no way back");
        }
    }
}

#[test]
fn a_member_that_waits_for_the_classic_rebalance_is_told_to_join_the_new_group() {
    let mut shell = shell();
    let (classic, _) = shell.classic_group();
    let second = shell.classic_join("");
    assert_eq!(shell.joined(second), None);
    shell.join("new", &["foo"]);
    let told = shell.joined(second).expect("an answer");
    assert_eq!(ErrorCode(told.error_code), ErrorCode::REBALANCE_IN_PROGRESS);
    let token = shell.classic_join(&classic);
    assert_eq!(shell.joined(token).map(|joined| joined.error_code), Some(0));
}

#[test]
fn an_empty_group_changes_its_protocol_with_whoever_comes_first() {
    let mut shell = shell();
    let (classic, _) = shell.classic_group();
    let context = shell.context(3);
    let member = MemberIdentity { member_id: classic.into(), ..Default::default() };
    let leave = LeaveGroupRequest { group_id: GROUP.into(), members: vec![member], ..Default::default() };
    let output = shell.coordinator.leave_group(&context, &leave);
    shell.carry_out(output);
    shell.join("new", &["foo"]);
    assert_eq!(shell.group_type(), GroupType::Consumer);
    shell.beat("new", -1, None);
    shell.classic_group();
    assert_eq!(shell.group_type(), GroupType::Classic);
    let recovered = shell.recovered();
    assert_eq!(recovered.group(GROUP).map(Group::group_type), Some(GroupType::Classic));
}

#[test]
fn a_classic_member_that_does_not_join_again_or_falls_silent_is_removed() {
    let mut shell = shell();
    let (classic, generation) = shell.classic_group();
    shell.join("new", &["foo"]);
    for _ in 0..12 {
        assert_eq!(shell.classic_heartbeat(&classic, generation), ErrorCode::REBALANCE_IN_PROGRESS);
        shell.beat("new", generation + 1, None);
        shell.advance(5_000);
    }
    assert_eq!(shell.classic_heartbeat(&classic, generation), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(assigned(&shell.beat("new", generation + 1, None)), Some(shell.partitions("foo", 0..4)));

    let token = shell.classic_join("");
    let joined = shell.joined(token).unwrap();
    assert_eq!(joined.error_code, 0);
    shell.advance(i64::from(SESSION_TIMEOUT_MS));
    assert_eq!(shell.group().members().len(), 1);
}

#[test]
fn requests_of_the_classic_protocol_from_strangers_and_members_of_the_new_one_are_refused() {
    let mut shell = shell();
    shell.join("new", &["foo"]);
    assert_eq!(shell.classic_heartbeat("new", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(shell.classic_heartbeat("nobody", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    let token = shell.classic_join("");
    let joined = shell.joined(token).unwrap();
    assert_eq!(shell.classic_heartbeat(&joined.member_id, 99), ErrorCode::ILLEGAL_GENERATION);
    let wrong = JoinGroupResponse { generation_id: 99, ..joined.clone() };
    assert_eq!(ErrorCode(shell.classic_sync(&wrong, &[]).error_code), ErrorCode::ILLEGAL_GENERATION);
    let context = shell.context(5);
    let request = JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: SESSION_TIMEOUT_MS,
        protocol_type: "connect".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), ..Default::default() }],
        ..JoinGroupRequest::default()
    };
    let output = shell.coordinator.join_group(&context, &request);
    shell.carry_out(output);
    assert_eq!(
        ErrorCode(shell.joined(context.token).unwrap().error_code),
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL
    );
}
