//! Static membership (KIP-345).

use super::*;
use crate::group::classic::ClassicGroupState;

fn instance(instance: &str) -> Join<'_> {
    Join { instance: Some(instance), ..Join::default() }
}

/// A stable group of static members `a` (the leader) and `b`; their member ids.
fn stable(harness: &mut Harness) -> [String; 2] {
    let tokens = ["a", "b"].map(|name| harness.join(&instance(name)));
    harness.pass(6_000);
    let ids = tokens.map(|token| harness.joined(token).member_id.to_string());
    assert_eq!(harness.joined(tokens[0]).leader, ids[0]);
    harness.sync(&ids[0], &[(&ids[0], "for a"), (&ids[1], "for b")]);
    harness.sync(&ids[1], &[]);
    ids
}

#[test]
fn a_static_member_needs_no_second_request_and_its_id_tells_its_instance() {
    let mut harness = Harness::new();
    let ids = stable(&mut harness);
    assert!(ids[0].starts_with("a-") && ids[1].starts_with("b-"));
}

#[test]
fn a_static_member_that_returns_takes_over_without_a_rebalance() {
    let mut harness = Harness::new();
    let [leader, former] = stable(&mut harness);
    let reply = harness.join_now(&instance("b"));
    assert_eq!((code(reply.error_code), reply.generation_id), (ErrorCode::NONE, 1));
    assert!(reply.member_id != former && reply.leader == leader && !reply.skip_assignment);
    assert_eq!(harness.state(), ClassicGroupState::Stable);
    let token = harness.sync_as(&reply.member_id, 1, Some("b"), &[]);
    assert_eq!(&*harness.synced(token).assignment, b"for b");
    assert_eq!(harness.heartbeat_as(&former, 1, Some("b")), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(harness.heartbeat_as(&former, 1, None), ErrorCode::UNKNOWN_MEMBER_ID);
    let mut reloaded = harness.reloaded();
    assert_eq!(reloaded.heartbeat_as(&reply.member_id, 1, Some("b")), ErrorCode::NONE);
    assert_eq!(reloaded.heartbeat_as(&former, 1, Some("b")), ErrorCode::FENCED_INSTANCE_ID);
}

#[test]
fn a_static_leader_that_returns_is_told_to_keep_the_assignment_if_it_understands() {
    let mut harness = Harness::new();
    let [_, follower] = stable(&mut harness);
    let reply = harness.join_now(&instance("a"));
    assert!(reply.skip_assignment && reply.leader == reply.member_id);
    let shown: Vec<&str> = reply.members.iter().map(|member| &*member.member_id).collect();
    assert!(shown.len() == 2 && shown.contains(&&*reply.member_id) && shown.contains(&&*follower));
    let token = harness.sync_as(&reply.member_id, 1, Some("a"), &[]);
    assert_eq!(&*harness.synced(token).assignment, b"for a");
}

#[test]
fn an_older_static_leader_that_returns_is_told_of_a_leader_that_is_no_more() {
    let mut harness = Harness::new();
    let [former, _] = stable(&mut harness);
    let reply = harness.join_now(&Join { version: 8, ..instance("a") });
    assert!(reply.leader == former && reply.members.is_empty() && !reply.skip_assignment);
    assert_eq!(harness.classic(GROUP).leader_id(), Some(&*reply.member_id));
}

#[test]
fn a_static_member_that_returns_with_another_choice_of_protocol_sets_off_a_rebalance() {
    let mut harness = Harness::new();
    let both = |name| Join { protocols: vec![("range", vec![]), ("sticky", vec![])], ..instance(name) };
    let token = harness.join(&both("a"));
    harness.pass(6_000);
    let id = harness.joined(token).member_id.to_string();
    harness.sync(&id, &[]);
    let returned = harness.join(&Join { protocols: vec![("sticky", vec![])], ..instance("a") });
    assert_eq!(harness.joined(returned).protocol_name.as_deref(), Some("sticky"));
    assert_eq!(harness.joined(returned).generation_id, 2);
}

#[test]
fn a_static_member_that_returns_with_new_metadata_has_it_recorded() {
    let mut harness = Harness::new();
    stable(&mut harness);
    let protocols = vec![("range", subscription(&["another"]))];
    let reply = harness.join_now(&Join { protocols, session_timeout_ms: 20_000, ..instance("b") });
    for harness in [&harness, &harness.reloaded()] {
        let member = harness.classic(GROUP).member(&reply.member_id).unwrap();
        assert_eq!(member.metadata("range"), subscription(&["another"]));
        assert_eq!(member.session_timeout_ms, 20_000);
        assert!(harness.classic(GROUP).is_subscribed_to_topic("another"));
    }
}

#[test]
fn the_former_self_of_a_static_member_that_waits_is_fenced() {
    let mut harness = Harness::new();
    let first = harness.join(&instance("a"));
    let second = harness.join(&instance("a"));
    assert_eq!(code(harness.joined(first).error_code), ErrorCode::FENCED_INSTANCE_ID);
    harness.pass(6_000);
    assert_eq!(code(harness.joined(second).error_code), ErrorCode::NONE);
    assert_eq!(harness.classic(GROUP).members().len(), 1);
}

#[test]
fn a_static_member_that_returns_between_join_and_sync_sets_off_another_rebalance() {
    let mut harness = Harness::new();
    let tokens = ["a", "b"].map(|name| harness.join(&instance(name)));
    harness.pass(6_000);
    let ids = tokens.map(|token| harness.joined(token).member_id.to_string());
    let waits = harness.sync(&ids[1], &[]);
    let returned = harness.join(&instance("b"));
    assert_eq!(code(harness.synced(waits).error_code), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(harness.state(), ClassicGroupState::PreparingRebalance);
    let leader = harness.join(&Join { member_id: &ids[0], ..instance("a") });
    assert_eq!(harness.joined(returned).generation_id, 2);
    assert_eq!(harness.joined(leader).members.len(), 2);
}

#[test]
fn a_static_member_that_joins_with_anothers_id_is_fenced() {
    let mut harness = Harness::new();
    let [a, _] = stable(&mut harness);
    let reply = harness.join_now(&Join { member_id: &a, ..instance("b") });
    assert_eq!(code(reply.error_code), ErrorCode::FENCED_INSTANCE_ID);
    let reply = harness.join_now(&Join { member_id: &a, ..instance("unheard of") });
    assert_eq!(code(reply.error_code), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_static_member_may_be_silent_for_its_session_time_out_and_return() {
    let mut harness = Harness::new();
    let [a, _] = stable(&mut harness);
    harness.pass(9_999);
    assert_eq!(harness.heartbeat_as(&a, 1, Some("a")), ErrorCode::NONE);
    assert_eq!(harness.join_now(&instance("b")).generation_id, 1);
    harness.pass(5_000);
    assert_eq!(harness.heartbeat_as(&a, 1, Some("a")), ErrorCode::NONE);
    harness.pass(4_999);
    assert_eq!(harness.state(), ClassicGroupState::Stable, "the session of the former self is nobody's");
    harness.pass(1);
    assert_eq!(harness.state(), ClassicGroupState::PreparingRebalance);
}

#[test]
fn static_members_are_kept_through_a_rebalance_they_miss() {
    let mut harness = Harness::new();
    let long = |name, member_id| Join { session_timeout_ms: 1_800_000, member_id, ..instance(name) };
    let tokens = ["a", "b"].map(|name| harness.join(&long(name, "")));
    harness.pass(6_000);
    let ids = tokens.map(|token| harness.joined(token).member_id.to_string());
    harness.sync(&ids[0], &[]);
    harness.sync(&ids[1], &[]);
    let leader = harness.join(&long("a", &ids[0]));
    harness.pass(60_000);
    assert_eq!(harness.joined(leader).members.len(), 2, "b is silent, and stays");
}

#[test]
fn a_group_of_silent_static_members_waits_for_them_without_a_new_generation() {
    let mut harness = Harness::new();
    let long = |name| Join { session_timeout_ms: 600_000, ..instance(name) };
    let token = harness.join(&long("a"));
    harness.pass(6_000);
    let a = harness.joined(token).member_id.to_string();
    harness.sync(&a, &[]);
    let newcomer = harness.join_now(&Join { rebalance_timeout_ms: 10_000, ..Join::default() }).member_id;
    let joins = harness.join(&Join { member_id: &newcomer, ..Join::default() });
    harness.leave(&[(&newcomer, None)]);
    assert_eq!(code(harness.joined(joins).error_code), ErrorCode::UNKNOWN_MEMBER_ID);
    harness.pass(200_000);
    assert_eq!(harness.state(), ClassicGroupState::PreparingRebalance);
    assert_eq!(harness.classic(GROUP).generation_id(), 1);
    let returned = harness.join(&long("a"));
    assert_eq!(harness.joined(returned).generation_id, 2);
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance() {
    let mut harness = Harness::new();
    let [_, b] = stable(&mut harness);
    let reply = harness.leave(&[("", Some("b"))]);
    assert_eq!(code(reply.members[0].error_code), ErrorCode::NONE);
    assert_eq!(harness.heartbeat_as(&b, 1, Some("b")), ErrorCode::UNKNOWN_MEMBER_ID);
    let fenced = harness.leave(&[("wrong id", Some("a"))]);
    assert_eq!(code(fenced.members[0].error_code), ErrorCode::FENCED_INSTANCE_ID);
}

#[test]
fn a_take_over_that_cannot_be_recorded_leaves_the_former_self_in_place() {
    let mut harness = Harness::new();
    let [_, former] = stable(&mut harness);
    harness.refuses = Some(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    let reply = harness.join_now(&instance("b"));
    assert_eq!(code(reply.error_code), ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(harness.heartbeat_as(&former, 1, Some("b")), ErrorCode::NONE);
    harness.refuses = None;
    assert_eq!(code(harness.join_now(&instance("b")).error_code), ErrorCode::NONE);
    assert_eq!(harness.heartbeat_as(&former, 1, Some("b")), ErrorCode::FENCED_INSTANCE_ID);
}
