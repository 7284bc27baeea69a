//! Groups that change their protocol while they have members.

use protocol::messages::join_group::JoinGroupRequestProtocol;
use protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::super::ConsumerGroupState;
use super::classic::{Joining, SESSION_TIMEOUT_MS};
use super::*;
use crate::group::classic::ClassicGroupState;
use crate::group::{ConsumerGroupMigrationPolicy, GroupType};

fn shell() -> Shell {
    let config = GroupConfig { group_initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
    Shell::new(config, &[("foo", 4)])
}

/// An eager member that joins.
fn eager(member_id: &str) -> Joining<'_> {
    Joining { member_id, topics: &["foo"], ..Joining::default() }
}

impl Shell {
    fn group_type(&self) -> GroupType {
        self.coordinator.group(GROUP).expect("a group").group_type()
    }

    /// A classic group with one member that owns everything; its member id and generation.
    fn classic_group(&mut self) -> (String, i32) {
        let token = self.classic_join(&eager(""));
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
    let token = shell.classic_join(&eager(&classic));
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
    let token = shell.classic_join(&eager(&classic));
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
    let token = shell.classic_join(&eager(&classic));
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
    let second = shell.classic_join(&eager(""));
    assert_eq!(shell.joined(second), None);
    shell.join("new", &["foo"]);
    let told = shell.joined(second).expect("an answer");
    assert_eq!(ErrorCode(told.error_code), ErrorCode::REBALANCE_IN_PROGRESS);
    let token = shell.classic_join(&eager(&classic));
    assert_eq!(shell.joined(token).map(|joined| joined.error_code), Some(0));
}

#[test]
fn an_empty_group_changes_its_protocol_with_whoever_comes_first() {
    let mut shell = shell();
    let (classic, _) = shell.classic_group();
    shell.classic_leave(&classic);
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

    let token = shell.classic_join(&eager(""));
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
    let token = shell.classic_join(&eager(""));
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

#[test]
fn a_cooperative_classic_member_keeps_what_stays_its_own() {
    let mut shell = shell();
    let (classic, generation) = shell.classic_group();
    let cooperative = |owned: Partitions| Joining { owned, ..eager(&classic) };
    shell.join("new", &["foo"]);
    assert_eq!(shell.classic_heartbeat(&classic, generation), ErrorCode::REBALANCE_IN_PROGRESS);
    let token = shell.classic_join(&cooperative(shell.partitions("foo", 0..4)));
    let joined = shell.joined(token).expect("an answer at once");
    assert_eq!(joined.generation_id, generation, "it has to give up partitions first");
    let synchronized = shell.classic_sync(&joined, &[]);
    let kept = shell.partitions_in(&synchronized);
    assert_eq!(kept.len(), 2);
    assert_eq!(shell.classic_heartbeat(&classic, generation), ErrorCode::REBALANCE_IN_PROGRESS);
    let token = shell.classic_join(&cooperative(kept.clone()));
    let joined = shell.joined(token).expect("an answer at once");
    assert_eq!(joined.generation_id, generation + 1);
    let synchronized = shell.classic_sync(&joined, &[]);
    assert_eq!(shell.partitions_in(&synchronized), kept);
    assert_eq!(shell.classic_heartbeat(&classic, generation + 1), ErrorCode::NONE);
    assert_eq!(assigned(&shell.beat("new", generation + 1, None)).map(|assigned| assigned.len()), Some(2));
}

#[test]
fn a_static_member_that_goes_back_to_the_classic_protocol_takes_the_group_along_without_a_rebalance() {
    let mut shell = shell();
    let (classic, generation) = shell.classic_group();
    let request =
        ConsumerGroupHeartbeatRequest { instance_id: Some("one".into()), ..joining("new", &["foo"]) };
    assert_eq!(shell.send(1, &request).error_code, 0);
    let token = shell.classic_join(&eager(&classic));
    let joined = shell.joined(token).unwrap();
    shell.classic_sync(&joined, &[]);
    let own = assigned(&shell.beat("new", generation + 1, None)).unwrap();

    let token = shell.classic_join(&Joining { instance_id: Some("one"), ..eager("") });
    let joined = shell.joined(token).expect("an answer at once");
    assert_eq!((joined.error_code, joined.generation_id), (0, generation + 1));
    assert_eq!(shell.group_type(), GroupType::Classic);
    shell.advance(1);
    assert_eq!(shell.classic_heartbeat(&classic, generation + 1), ErrorCode::NONE);
    let synchronized = shell.classic_sync(&joined, &[]);
    assert_eq!((synchronized.error_code, shell.partitions_in(&synchronized)), (0, own));
    let Some(Group::Classic(group)) = shell.coordinator.group(GROUP) else { panic!("a classic group") };
    assert_eq!((group.state(), group.members().len()), (ClassicGroupState::Stable, 2));
}

#[test]
fn committed_offsets_stay_when_the_protocol_changes() {
    let mut shell = shell();
    let (classic, _) = shell.classic_group();
    let commit = |shell: &mut Shell, member_id: &str, generation_id: i32, offset: i64| {
        use protocol::messages::OffsetCommitRequest;
        use protocol::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
        let context = shell.context(9);
        let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
        let topic = OffsetCommitRequestTopic {
            name: "foo".into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: GROUP.into(),
            generation_id_or_member_epoch: generation_id,
            member_id: member_id.to_owned().into(),
            topics: vec![topic],
            ..Default::default()
        };
        let output = shell.coordinator.offset_commit(&context, &request);
        shell.carry_out(output);
        match shell.replies.remove(&context.token.0) {
            Some(GroupReply::OffsetCommit(reply)) => ErrorCode(reply.topics[0].partitions[0].error_code),
            other => panic!("no answer to a commit: {other:?}"),
        }
    };
    let committed = |coordinator: &GroupCoordinator| coordinator.offset_count();
    assert_eq!(commit(&mut shell, &classic, 1, 7), ErrorCode::NONE);
    shell.join("new", &["foo"]);
    assert_eq!(commit(&mut shell, &classic, 1, 8), ErrorCode::NONE);
    assert_eq!(commit(&mut shell, &classic, 2, 9), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(commit(&mut shell, "new", 2, 9), ErrorCode::NONE);
    assert_eq!(commit(&mut shell, "new", 1, 9), ErrorCode::STALE_MEMBER_EPOCH);
    shell.beat("new", -1, None);
    assert_eq!(shell.group_type(), GroupType::Classic);
    assert_eq!((committed(&shell.coordinator), committed(&shell.recovered())), (1, 1));
}
