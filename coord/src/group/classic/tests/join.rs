//! JoinGroup: who gets in, and what they are told.

use super::*;
use crate::group::classic::ClassicGroupState;

#[test]
fn a_dynamic_member_is_given_an_id_and_has_to_join_again_with_it() {
    let mut harness = Harness::new();
    let reply = harness.join_now(&Join::default());
    assert_eq!(code(reply.error_code), ErrorCode::MEMBER_ID_REQUIRED);
    assert!(reply.member_id.starts_with("client-"));
    assert_eq!(harness.state(), ClassicGroupState::Empty);
    let token = harness.join(&Join { member_id: &reply.member_id, ..Join::default() });
    assert!(harness.is_waiting(token));
    harness.pass(3_000);
    let joined = harness.joined(token);
    assert_eq!(code(joined.error_code), ErrorCode::NONE);
    assert_eq!((joined.generation_id, &joined.leader), (1, &joined.member_id));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(joined.members.len(), 1);
}

#[test]
fn an_old_client_joins_without_a_second_request() {
    for version in 0..4 {
        let mut harness = Harness::new();
        let token = harness.join(&Join { version, ..Join::default() });
        harness.pass(3_000);
        assert_eq!(code(harness.joined(token).error_code), ErrorCode::NONE);
    }
}

#[test]
fn before_version_7_the_protocol_in_an_error_is_empty_instead_of_null() {
    let mut harness = Harness::new();
    let old = harness.join_now(&Join { version: 6, ..Join::default() });
    let new = harness.join_now(&Join { version: 7, ..Join::default() });
    assert_eq!((old.protocol_name.as_deref(), new.protocol_name.as_deref()), (Some(""), None));
}

#[test]
fn a_given_id_that_is_not_used_in_time_is_unknown_and_leaves_no_group() {
    let mut harness = Harness::new();
    let id = harness.join_now(&Join::default()).member_id;
    harness.pass(10_000);
    assert!(harness.coordinator.group(GROUP).is_none());
    let reply = harness.join_now(&Join { member_id: &id, ..Join::default() });
    assert_eq!(code(reply.error_code), ErrorCode::UNKNOWN_MEMBER_ID);
    assert!(harness.log.is_empty(), "nothing of this needs to survive");
}

#[test]
fn session_time_outs_outside_the_limits_are_refused() {
    let mut harness = Harness::new();
    for session_timeout_ms in [i32::MIN, 0, 5_999, 1_800_001] {
        let reply = harness.join_now(&Join { session_timeout_ms, ..Join::default() });
        assert_eq!(code(reply.error_code), ErrorCode::INVALID_SESSION_TIMEOUT);
    }
}

#[test]
fn an_empty_group_id_is_refused() {
    let reply = Harness::new().join_now(&Join { group_id: "", ..Join::default() });
    assert_eq!(code(reply.error_code), ErrorCode::INVALID_GROUP_ID);
}

#[test]
fn an_unknown_member_is_told_so_whether_the_group_exists_or_not() {
    let mut harness = Harness::new();
    let stranger = Join { member_id: "stranger", ..Join::default() };
    assert_eq!(code(harness.join_now(&stranger).error_code), ErrorCode::UNKNOWN_MEMBER_ID);
    harness.stable_group(1);
    assert_eq!(code(harness.join_now(&stranger).error_code), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn members_without_a_common_protocol_do_not_get_in() {
    let mut harness = Harness::new();
    let nothing = Join { protocols: Vec::new(), ..Join::default() };
    assert_eq!(code(harness.join_now(&nothing).error_code), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let no_type = Join { protocol_type: "", ..Join::default() };
    assert_eq!(code(harness.join_now(&no_type).error_code), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    harness.stable_group(2);
    let other = Join { protocols: vec![("sticky", Vec::new())], ..Join::default() };
    assert_eq!(code(harness.join_now(&other).error_code), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let other_type = Join { protocol_type: "connect", ..Join::default() };
    assert_eq!(code(harness.join_now(&other_type).error_code), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
}

#[test]
fn a_protocol_that_one_member_names_twice_does_not_count_for_two() {
    let mut harness = Harness::with(|config| config.group_initial_rebalance_delay_ms = 0);
    let first = Join {
        version: 3,
        protocols: vec![("range", vec![1]), ("a", vec![]), ("a", vec![])],
        ..Join::default()
    };
    harness.join(&first);
    let second = Join { version: 3, protocols: vec![("range", vec![2])], ..Join::default() };
    let token = harness.join(&second);
    harness.pass(60_000);
    assert_eq!(harness.joined(token).protocol_name.as_deref(), Some("range"));
}

#[test]
fn the_protocol_that_most_members_like_best_among_the_common_ones_wins() {
    let mut harness = Harness::new();
    let likes = [["a", "b", "c"], ["b", "a", "c"], ["b", "c", "a"]];
    let tokens: Vec<_> = likes
        .iter()
        .map(|names| {
            let protocols = names.iter().map(|name| (*name, name.as_bytes().to_vec())).collect();
            harness.join(&Join { version: 3, protocols, ..Join::default() })
        })
        .collect();
    harness.pass(60_000);
    for token in &tokens {
        assert_eq!(harness.joined(*token).protocol_name.as_deref(), Some("b"));
    }
    assert!(harness.joined(tokens[0]).members.iter().all(|member| *member.metadata == *b"b"));
}

#[test]
fn only_the_leader_is_told_of_all_members() {
    let mut harness = Harness::new();
    let tokens = [(); 3].map(|()| harness.join(&Join { version: 3, ..Join::default() }));
    harness.pass(60_000);
    let replies = tokens.map(|token| harness.joined(token).clone());
    let leader = &replies[0].leader;
    for reply in &replies {
        assert_eq!((&reply.leader, reply.generation_id), (leader, 1));
        assert_eq!(reply.members.len(), if reply.member_id == *leader { 3 } else { 0 });
    }
}

#[test]
fn a_follower_that_joins_again_unchanged_is_told_of_the_generation_there_is() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(2);
    let reply = harness.join_now(&Join { member_id: &ids[1], ..Join::default() });
    assert_eq!((code(reply.error_code), reply.generation_id), (ErrorCode::NONE, 1));
    assert_eq!((reply.leader.as_ref(), reply.members.len()), (ids[0].as_str(), 0));
    assert_eq!(harness.state(), ClassicGroupState::Stable);
}

#[test]
fn a_leader_that_joins_again_sets_off_a_rebalance() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(2);
    let leader = harness.join(&Join { member_id: &ids[0], ..Join::default() });
    assert_eq!(harness.state(), ClassicGroupState::PreparingRebalance);
    assert_eq!(harness.heartbeat(&ids[1]), ErrorCode::REBALANCE_IN_PROGRESS);
    let follower = harness.join(&Join { member_id: &ids[1], ..Join::default() });
    assert_eq!(harness.joined(leader).generation_id, 2);
    assert_eq!(harness.joined(follower).generation_id, 2);
}

#[test]
fn a_member_whose_metadata_changes_sets_off_a_rebalance() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(2);
    let changed = Join {
        member_id: &ids[1],
        protocols: vec![("range", subscription(&["topic", "other"]))],
        ..Join::default()
    };
    assert!({
        let token = harness.join(&changed);
        harness.is_waiting(token)
    });
    assert_eq!(harness.state(), ClassicGroupState::PreparingRebalance);
}

#[test]
fn a_member_that_has_not_seen_the_answer_to_its_join_gets_it_again() {
    let mut harness = Harness::new();
    let first = harness.join(&Join { version: 3, ..Join::default() });
    harness.join(&Join { version: 3, ..Join::default() });
    harness.pass(6_000);
    let leader = harness.joined(first).clone();
    assert_eq!(harness.state(), ClassicGroupState::CompletingRebalance);
    let again = harness.join_now(&Join { version: 3, member_id: &leader.member_id, ..Join::default() });
    assert_eq!(again, leader);
}

#[test]
fn a_join_that_takes_the_place_of_one_that_waits_lets_the_former_go() {
    let mut harness = Harness::new();
    let id = harness.join_now(&Join::default()).member_id;
    let first = harness.join(&Join { member_id: &id, ..Join::default() });
    let second = harness.join(&Join { member_id: &id, ..Join::default() });
    assert_eq!(code(harness.joined(first).error_code), ErrorCode::REBALANCE_IN_PROGRESS);
    harness.pass(6_000);
    assert_eq!(code(harness.joined(second).error_code), ErrorCode::NONE);
}
