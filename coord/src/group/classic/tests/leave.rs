//! LeaveGroup.

use protocol::messages::LeaveGroupRequest;

use super::*;
use crate::group::api::GroupReply;
use crate::group::classic::ClassicGroupState;

#[test]
fn a_member_that_leaves_is_gone_at_once_and_the_others_rebalance() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(2);
    let reply = harness.leave(&[(&ids[0], None)]);
    assert_eq!(
        (code(reply.error_code), code(reply.members[0].error_code)),
        (ErrorCode::NONE, ErrorCode::NONE)
    );
    assert_eq!(harness.state(), ClassicGroupState::PreparingRebalance);
    let token = harness.join(&Join { member_id: &ids[1], ..Join::default() });
    assert_eq!(harness.joined(token).leader, ids[1]);
}

#[test]
fn the_last_member_that_leaves_makes_the_group_empty_for_good() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(1);
    harness.leave(&[(&ids[0], None)]);
    assert_eq!(harness.state(), ClassicGroupState::Empty);
    assert_eq!(harness.reloaded().state(), ClassicGroupState::Empty);
}

#[test]
fn each_member_of_a_batch_gets_a_code_of_its_own() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(2);
    let reply =
        harness.leave(&[(&ids[1], None), ("stranger", None), ("", Some("instance")), (&ids[1], None)]);
    let codes: Vec<ErrorCode> = reply.members.iter().map(|member| code(member.error_code)).collect();
    let unknown = ErrorCode::UNKNOWN_MEMBER_ID;
    assert_eq!(codes, [ErrorCode::NONE, unknown, unknown, unknown]);
}

#[test]
fn before_version_3_the_one_members_error_is_that_of_the_answer() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(1);
    let mut leave = |member_id: &str| {
        let request = LeaveGroupRequest {
            group_id: GROUP.into(),
            member_id: member_id.into(),
            ..LeaveGroupRequest::default()
        };
        let token = harness.call(2, |coordinator, context| coordinator.leave_group(context, &request));
        match &harness.replies[&token] {
            GroupReply::LeaveGroup(reply) => (code(reply.error_code), reply.members.len()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(leave("stranger"), (ErrorCode::UNKNOWN_MEMBER_ID, 0));
    assert_eq!(leave(&ids[0]), (ErrorCode::NONE, 0));
}

#[test]
fn a_group_that_does_not_exist_knows_none_of_its_members() {
    let reply = Harness::new().leave(&[("anybody", None)]);
    assert_eq!(code(reply.members[0].error_code), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn an_id_that_was_only_given_out_can_be_given_back_and_holds_nobody_up() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(1);
    let pending = harness.join_now(&Join::default()).member_id;
    let rejoined = harness.join(&Join { member_id: &ids[0], ..Join::default() });
    assert!(harness.is_waiting(rejoined), "the one with the new id may be about to join");
    assert_eq!(code(harness.leave(&[(&pending, None)]).members[0].error_code), ErrorCode::NONE);
    assert_eq!(harness.joined(rejoined).generation_id, 2);
}

#[test]
fn a_member_that_is_removed_while_it_waits_is_told_so() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(2);
    let waits = harness.join(&Join { member_id: &ids[0], ..Join::default() });
    harness.leave(&[(&ids[0], None)]);
    assert_eq!(code(harness.joined(waits).error_code), ErrorCode::UNKNOWN_MEMBER_ID);
}
