//! SyncGroup: the leader assigns, everybody is told.

use super::*;
use crate::group::api::ReplyToken;
use crate::group::classic::ClassicGroupState;

/// Members of the first generation that have joined and not synchronized, the leader first.
fn joined(harness: &mut Harness, members: usize) -> Vec<String> {
    let tokens: Vec<ReplyToken> =
        (0..members).map(|_| harness.join(&Join { version: 3, ..Join::default() })).collect();
    harness.pass(6_000);
    let mut ids: Vec<String> =
        tokens.iter().map(|token| harness.joined(*token).member_id.to_string()).collect();
    let leader = harness.joined(tokens[0]).leader.to_string();
    ids.sort_by_key(|id| *id != leader);
    ids
}

#[test]
fn followers_wait_until_the_leader_has_assigned() {
    let mut harness = Harness::new();
    let ids = joined(&mut harness, 2);
    let follower = harness.sync(&ids[1], &[]);
    assert!(harness.is_waiting(follower));
    let leader = harness.sync(&ids[0], &[(&ids[0], "mine"), (&ids[1], "yours"), ("stranger", "nobody's")]);
    assert_eq!(&*harness.synced(leader).assignment, b"mine");
    assert_eq!(&*harness.synced(follower).assignment, b"yours");
    assert_eq!(harness.synced(follower).protocol_name.as_deref(), Some("range"));
    assert_eq!(harness.state(), ClassicGroupState::Stable);
    assert_eq!(harness.log.len(), 1);
}

#[test]
fn a_member_that_the_leader_forgot_gets_an_empty_assignment() {
    let mut harness = Harness::new();
    let ids = joined(&mut harness, 2);
    harness.sync(&ids[0], &[(&ids[0], "all")]);
    let follower = harness.sync(&ids[1], &[]);
    assert_eq!(
        (code(harness.synced(follower).error_code), harness.synced(follower).assignment.len()),
        (ErrorCode::NONE, 0)
    );
}

#[test]
fn a_late_follower_gets_its_assignment_at_once() {
    let mut harness = Harness::new();
    let ids = joined(&mut harness, 2);
    harness.sync(&ids[0], &[(&ids[1], "yours")]);
    let follower = harness.sync(&ids[1], &[]);
    assert_eq!(&*harness.synced(follower).assignment, b"yours");
}

#[test]
fn whoever_does_not_synchronize_in_time_is_removed() {
    let mut harness = Harness::new();
    let ids = joined(&mut harness, 3);
    harness.sync(&ids[0], &[]);
    harness.sync(&ids[1], &[]);
    for _ in 0..10 {
        harness.pass(6_000);
        ids.iter().for_each(|id| {
            harness.heartbeat(id);
        });
    }
    assert_eq!(harness.state(), ClassicGroupState::PreparingRebalance);
    assert_eq!(harness.heartbeat(&ids[2]), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(harness.heartbeat(&ids[1]), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn a_sync_that_waits_is_sent_back_when_a_new_member_joins() {
    let mut harness = Harness::new();
    let ids = joined(&mut harness, 2);
    let follower = harness.sync(&ids[1], &[]);
    harness.join(&Join { version: 3, ..Join::default() });
    assert_eq!(code(harness.synced(follower).error_code), ErrorCode::REBALANCE_IN_PROGRESS);
    let leader = harness.sync(&ids[0], &[]);
    assert_eq!(code(harness.synced(leader).error_code), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn syncs_of_strangers_other_generations_and_other_protocols_are_refused() {
    let mut harness = Harness::new();
    let nobody = harness.sync_as("anybody", 1, None, &[]);
    assert_eq!(code(harness.synced(nobody).error_code), ErrorCode::UNKNOWN_MEMBER_ID);
    let ids = harness.stable_group(1);
    let stranger = harness.sync("stranger", &[]);
    assert_eq!(code(harness.synced(stranger).error_code), ErrorCode::UNKNOWN_MEMBER_ID);
    let old = harness.sync_as(&ids[0], 0, None, &[]);
    assert_eq!(code(harness.synced(old).error_code), ErrorCode::ILLEGAL_GENERATION);
    for (protocol_type, protocol_name) in [("connect", "range"), ("consumer", "sticky")] {
        let request = protocol::messages::SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: 1,
            member_id: ids[0].as_str().into(),
            protocol_type: Some(protocol_type.into()),
            protocol_name: Some(protocol_name.into()),
            ..protocol::messages::SyncGroupRequest::default()
        };
        let token = harness.call(5, |coordinator, context| coordinator.sync_group(context, &request));
        assert_eq!(code(harness.synced(token).error_code), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
}

#[test]
fn an_assignment_that_cannot_be_stored_is_told_to_nobody_and_members_rejoin() {
    let mut harness = Harness::new();
    let ids = joined(&mut harness, 2);
    let follower = harness.sync(&ids[1], &[]);
    harness.refuses = Some(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    let leader = harness.sync(&ids[0], &[(&ids[0], "mine"), (&ids[1], "yours")]);
    for token in [leader, follower] {
        assert_eq!(code(harness.synced(token).error_code), ErrorCode::COORDINATOR_NOT_AVAILABLE);
        assert!(harness.synced(token).assignment.is_empty());
    }
    assert_eq!(harness.state(), ClassicGroupState::PreparingRebalance);
    harness.refuses = None;
    let tokens: Vec<_> =
        ids.iter().map(|id| harness.join(&Join { member_id: id, ..Join::default() })).collect();
    assert_eq!(harness.joined(tokens[0]).generation_id, 2);
    harness.sync(&ids[0], &[]);
    assert_eq!(harness.state(), ClassicGroupState::Stable);
}

#[test]
fn a_second_sync_of_one_member_lets_the_first_go() {
    let mut harness = Harness::new();
    let ids = joined(&mut harness, 2);
    let first = harness.sync(&ids[1], &[]);
    let second = harness.sync(&ids[1], &[]);
    assert_eq!(code(harness.synced(first).error_code), ErrorCode::REBALANCE_IN_PROGRESS);
    harness.sync(&ids[0], &[(&ids[1], "yours")]);
    assert_eq!(&*harness.synced(second).assignment, b"yours");
}
