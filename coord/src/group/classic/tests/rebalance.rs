//! How rebalances begin, wait and end.

use super::*;
use crate::group::classic::ClassicGroupState;

#[test]
fn the_first_generation_waits_for_more_members_as_long_as_some_come_but_not_beyond_the_rebalance_time_out() {
    let mut harness = Harness::new();
    let join = Join { version: 3, rebalance_timeout_ms: 7_000, ..Join::default() };
    let first = harness.join(&join);
    harness.pass(2_900);
    harness.join(&join);
    harness.pass(200);
    assert!(harness.is_waiting(first), "a member came: three seconds more");
    harness.join(&join);
    harness.pass(2_900);
    assert!(harness.is_waiting(first), "and another: the second that is left");
    harness.join(&join);
    harness.pass(1_000);
    assert_eq!(harness.joined(first).members.len(), 4);
}

#[test]
fn without_an_initial_delay_the_first_member_is_a_generation_of_its_own() {
    let mut harness = Harness::with(|config| config.group_initial_rebalance_delay_ms = 0);
    let first = harness.join(&Join { version: 3, ..Join::default() });
    harness.pass(0);
    assert_eq!(harness.joined(first).generation_id, 1);
}

#[test]
fn a_rebalance_ends_when_all_members_are_back() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(3);
    let new = harness.join(&Join { version: 3, ..Join::default() });
    let tokens: Vec<_> =
        ids.iter().map(|id| harness.join(&Join { member_id: id, ..Join::default() })).collect();
    assert!(tokens.iter().chain([&new]).all(|token| harness.joined(*token).generation_id == 2));
    assert_eq!(harness.state(), ClassicGroupState::CompletingRebalance);
}

#[test]
fn members_that_do_not_come_back_in_time_are_left_behind() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(3);
    let rejoined = harness.join(&Join { member_id: &ids[0], ..Join::default() });
    for _ in 0..9 {
        harness.pass(6_000);
        assert_eq!(harness.heartbeat(&ids[1]), ErrorCode::REBALANCE_IN_PROGRESS);
        harness.heartbeat(&ids[2]);
        assert!(harness.is_waiting(rejoined));
    }
    harness.pass(6_000);
    assert_eq!(harness.joined(rejoined).members.len(), 1);
    assert_eq!(harness.heartbeat(&ids[1]), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_leader_that_does_not_come_back_is_succeeded_by_somebody_who_does() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(3);
    let new = harness.join(&Join { version: 3, ..Join::default() });
    let follower = harness.join(&Join { member_id: &ids[2], ..Join::default() });
    harness.pass(60_000);
    let leader = harness.joined(follower).leader.clone();
    assert_ne!(leader, ids[0]);
    assert_eq!(harness.joined(new).leader, leader);
}

#[test]
fn a_member_that_is_silent_for_its_session_time_out_is_removed_and_the_others_rebalance() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(2);
    harness.pass(9_000);
    assert_eq!(harness.heartbeat(&ids[0]), ErrorCode::NONE);
    harness.pass(1_000);
    assert_eq!(harness.state(), ClassicGroupState::PreparingRebalance);
    assert_eq!(harness.heartbeat(&ids[1]), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(harness.heartbeat(&ids[0]), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn a_group_whose_members_all_die_is_empty_and_keeps_counting_generations() {
    let mut harness = Harness::new();
    harness.stable_group(2);
    harness.pass(60_000 + 10_000);
    assert_eq!(harness.state(), ClassicGroupState::Empty);
    assert_eq!(harness.classic(GROUP).generation_id(), 2);
    let reloaded = harness.reloaded();
    assert_eq!(reloaded.state(), ClassicGroupState::Empty);
    assert_eq!(reloaded.classic(GROUP).generation_id(), 2);
    assert_eq!(reloaded.classic(GROUP).protocol_type(), Some("consumer"));
}

#[test]
fn members_that_wait_need_no_heartbeats() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(2);
    let waits = harness.join(&Join { member_id: &ids[0], ..Join::default() });
    for _ in 0..6 {
        harness.pass(9_000);
        harness.heartbeat(&ids[1]);
    }
    assert!(harness.is_waiting(waits));
    let last = harness.join(&Join { member_id: &ids[1], ..Join::default() });
    assert_eq!(harness.joined(last).generation_id, 2);
    assert_eq!(harness.classic(GROUP).members().len(), 2);
}

#[test]
fn a_new_member_whose_join_is_not_answered_within_five_minutes_is_given_up() {
    let mut harness = Harness::new();
    let slow = Join { rebalance_timeout_ms: 3_600_000, ..Join::default() };
    let id = harness.join_now(&slow).member_id;
    let first = harness.join(&Join { member_id: &id, ..slow.clone() });
    harness.pass(6_000);
    harness.sync(&id, &[]);
    assert_eq!(harness.joined(first).generation_id, 1);
    let newcomer = harness.join(&Join { version: 3, ..slow });
    for _ in 0..60 {
        harness.pass(5_000);
        harness.heartbeat(&id);
    }
    let reply = harness.joined(newcomer);
    assert_eq!((code(reply.error_code), &*reply.member_id), (ErrorCode::UNKNOWN_MEMBER_ID, ""));
}

#[test]
fn a_heartbeat_of_another_generation_is_refused_and_one_to_no_group_is_unknown() {
    let mut harness = Harness::new();
    assert_eq!(harness.heartbeat_as("anybody", 1, None), ErrorCode::UNKNOWN_MEMBER_ID);
    let ids = harness.stable_group(1);
    assert_eq!(harness.heartbeat_as(&ids[0], 0, None), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(harness.heartbeat_as(&ids[0], 2, None), ErrorCode::ILLEGAL_GENERATION);
}

#[test]
fn heartbeats_between_join_and_sync_keep_the_session_alive() {
    let mut harness = Harness::new();
    let token = harness.join(&Join { version: 3, ..Join::default() });
    harness.pass(3_000);
    let id = harness.joined(token).member_id.clone();
    for _ in 0..5 {
        harness.pass(9_000);
        assert_eq!(harness.heartbeat(&id), ErrorCode::NONE);
    }
    assert_eq!(harness.state(), ClassicGroupState::CompletingRebalance);
}

#[test]
fn after_a_restart_the_group_goes_on_and_sessions_run_from_then() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(2);
    let mut reloaded = harness.reloaded();
    assert_eq!(reloaded.state(), ClassicGroupState::Stable);
    assert_eq!(reloaded.heartbeat(&ids[0]), ErrorCode::NONE);
    let token = reloaded.sync(&ids[1], &[]);
    assert_eq!(&*reloaded.synced(token).assignment, b"assignment-1");
    reloaded.pass(9_999);
    assert_eq!(reloaded.heartbeat(&ids[0]), ErrorCode::NONE);
    reloaded.pass(1);
    assert_eq!(reloaded.heartbeat(&ids[1]), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_restart_in_the_middle_of_a_rebalance_brings_the_last_generation_back() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(2);
    harness.join(&Join { version: 3, ..Join::default() });
    harness.join(&Join { member_id: &ids[0], ..Join::default() });
    let mut reloaded = harness.reloaded();
    assert_eq!((reloaded.state(), reloaded.classic(GROUP).generation_id()), (ClassicGroupState::Stable, 1));
    assert_eq!(reloaded.heartbeat(&ids[1]), ErrorCode::NONE);
}

#[test]
fn a_coordinator_that_ends_answers_everybody_who_waits() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(2);
    let waits = harness.join(&Join { member_id: &ids[0], ..Join::default() });
    let output = harness.coordinator.resign(ErrorCode::NOT_COORDINATOR);
    harness.carry_out(output);
    assert_eq!(code(harness.joined(waits).error_code), ErrorCode::NOT_COORDINATOR);
}
