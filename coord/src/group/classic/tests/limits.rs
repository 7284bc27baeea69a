//! group.max.size, and what strangers can do.

use super::*;
use crate::group::classic::ClassicGroupState;

#[test]
fn a_full_group_takes_nobody_in_but_keeps_those_it_has() {
    let mut harness = Harness::with(|config| config.group_max_size = 2);
    let ids = harness.stable_group(2);
    let reply = harness.join_now(&Join::default());
    assert_eq!((code(reply.error_code), &*reply.member_id), (ErrorCode::GROUP_MAX_SIZE_REACHED, ""));
    assert_eq!(harness.join_now(&Join { member_id: &ids[1], ..Join::default() }).generation_id, 1);
    assert_eq!(harness.state(), ClassicGroupState::Stable);
}

#[test]
fn during_a_rebalance_the_first_to_come_fill_the_group() {
    let mut harness = Harness::with(|config| config.group_max_size = 2);
    let tokens = [(); 3].map(|()| harness.join(&Join { version: 3, ..Join::default() }));
    assert_eq!(code(harness.joined(tokens[2]).error_code), ErrorCode::GROUP_MAX_SIZE_REACHED);
    harness.pass(60_000);
    assert_eq!(harness.joined(tokens[0]).members.len(), 2);
}

#[test]
fn an_id_given_out_too_many_is_taken_back_when_it_comes_too_late() {
    let mut harness = Harness::with(|config| config.group_max_size = 1);
    let ids = [(); 2].map(|()| harness.join_now(&Join::default()).member_id);
    let first = harness.join(&Join { member_id: &ids[0], ..Join::default() });
    let second = harness.join_now(&Join { member_id: &ids[1], ..Join::default() });
    assert_eq!(code(second.error_code), ErrorCode::GROUP_MAX_SIZE_REACHED);
    harness.pass(6_000);
    assert_eq!(harness.joined(first).members.len(), 1);
}

#[test]
fn a_group_that_is_larger_than_allowed_after_a_restart_shrinks() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(3);
    harness.coordinator.config = {
        let mut config = (*harness.coordinator.config).clone();
        config.group_max_size = 2;
        config.into()
    };
    let mut reloaded = harness.reloaded();
    assert_eq!(reloaded.state(), ClassicGroupState::PreparingRebalance);
    let tokens: Vec<_> =
        ids.iter().map(|id| reloaded.join(&Join { member_id: id, ..Join::default() })).collect();
    assert_eq!(code(reloaded.joined(tokens[2]).error_code), ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(reloaded.joined(tokens[0]).members.len(), 2, "nobody waits for the third");
}

#[test]
fn one_group_gives_out_so_many_ids_and_no_more() {
    let mut harness = Harness::new();
    for _ in 0..10_000 {
        harness.join_now(&Join::default());
    }
    let reply = harness.join_now(&Join::default());
    assert_eq!(code(reply.error_code), ErrorCode::GROUP_MAX_SIZE_REACHED);
    harness.pass(10_000);
    assert!(harness.coordinator.group(GROUP).is_none());
}

#[test]
fn the_longest_client_name_fits_into_a_record() {
    let mut harness = Harness::new();
    let name = "é".repeat(16_000);
    let request = protocol::messages::JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![Default::default()],
        ..Default::default()
    };
    let token = harness.call(3, |coordinator, context| {
        let context = crate::group::RequestContext { client_id: &name, ..*context };
        coordinator.join_group(&context, &request)
    });
    harness.pass(6_000);
    let id = harness.joined(token).member_id.to_string();
    harness.sync(&id, &[]);
    assert_eq!(harness.reloaded().state(), ClassicGroupState::Stable);
}
