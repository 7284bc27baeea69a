//! Which offsets expire when (KIP-211), and what becomes of groups without content.

use std::borrow::Cow;

use protocol::ErrorCode;

use crate::group::api::GroupReply;
use crate::group::harness::{Commit, GROUP, Harness, Join, subscription};

const RETENTION_MS: i64 = 7 * 24 * 3_600_000;
const CHECK_MS: i64 = 600_000;

#[test]
fn offsets_of_nobody_in_particular_expire_with_their_commit_and_the_group_with_them() {
    let mut harness = Harness::new();
    harness.commit(&Commit::default());
    harness.pass(1_000_000);
    harness.commit(&Commit { partition: 1, ..Commit::default() });
    harness.pass(RETENTION_MS - 1_000_000 - CHECK_MS);
    assert_eq!((harness.fetch("topic", 0), harness.fetch("topic", 1)), (42, 42));
    harness.pass(2 * CHECK_MS);
    assert_eq!((harness.fetch("topic", 0), harness.fetch("topic", 1)), (-1, 42));
    assert_eq!(harness.reloaded().coordinator.offset_count(), 1);
    harness.pass(1_000_000 + CHECK_MS);
    assert!(harness.coordinator.group(GROUP).is_none());
    assert!(harness.reloaded().coordinator.group(GROUP).is_none());
}

#[test]
fn offsets_of_a_group_that_lost_its_members_are_kept_from_that_time_on() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(1);
    harness.commit(&Commit { member_id: &ids[0], generation_id: 1, ..Commit::default() });
    for _ in 0..2_000 {
        harness.pass(9_000);
        harness.heartbeat(&ids[0]);
    }
    harness.leave(&[(&ids[0], None)]);
    let mut harness = harness.reloaded();
    harness.pass(RETENTION_MS - CHECK_MS);
    assert_eq!(harness.fetch("topic", 0), 42, "the commit is older, but that does not count");
    harness.pass(2 * CHECK_MS);
    assert_eq!(harness.fetch("topic", 0), -1);
    assert!(harness.coordinator.group(GROUP).is_none());
}

#[test]
fn members_that_are_alive_keep_the_offsets_of_their_topics_but_not_those_of_others() {
    let mut harness = Harness::with(|config| config.offsets_retention_minutes = 60);
    let ids = harness.stable_group(1);
    for topic in ["topic", "left behind"] {
        harness.commit(&Commit { topic, member_id: &ids[0], generation_id: 1, ..Commit::default() });
    }
    for _ in 0..600 {
        harness.pass(9_000);
        assert_eq!(harness.heartbeat(&ids[0]), ErrorCode::NONE);
    }
    assert_eq!((harness.fetch("topic", 0), harness.fetch("left behind", 0)), (42, -1));
}

#[test]
fn offsets_of_members_whose_topics_are_unknown_do_not_expire() {
    let mut harness = Harness::with(|config| config.offsets_retention_minutes = 1);
    let token = harness.join(&Join { version: 3, protocols: vec![("range", vec![1])], ..Join::default() });
    harness.pass(3_000);
    let id = harness.joined(token).member_id.to_string();
    harness.sync(&id, &[]);
    harness.commit(&Commit { member_id: &id, generation_id: 1, ..Commit::default() });
    for _ in 0..200 {
        harness.pass(9_000);
        harness.heartbeat(&id);
    }
    assert_eq!(harness.fetch("topic", 0), 42);
}

#[test]
fn an_old_client_says_itself_how_long_its_offsets_are_kept() {
    let mut harness = Harness::new();
    harness.commit(&Commit { version: 4, retention_time_ms: CHECK_MS, ..Commit::default() });
    assert_eq!(harness.reloaded().coordinator.offsets(), harness.coordinator.offsets());
    harness.pass(CHECK_MS - 1);
    assert_eq!(harness.fetch("topic", 0), 42);
    harness.pass(CHECK_MS);
    assert_eq!(harness.fetch("topic", 0), -1);
}

#[test]
fn more_offsets_than_fit_into_a_batch_expire_batch_by_batch() {
    let mut harness = Harness::with(|config| config.offsets_retention_minutes = 1);
    for partition in 0..9_000 {
        harness.commit(&Commit { partition, ..Commit::default() });
        harness.commit(&Commit { partition, group_id: "another group", ..Commit::default() });
    }
    harness.log.clear();
    harness.pass(2 * CHECK_MS);
    assert_eq!((harness.coordinator.offset_count(), harness.coordinator.group_count()), (0, 0));
    assert_eq!(harness.log.len(), 18_002);
}

#[test]
fn expiry_that_cannot_be_recorded_is_tried_again_later() {
    let mut harness = Harness::with(|config| config.offsets_retention_minutes = 1);
    harness.commit(&Commit::default());
    harness.refuses = Some(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    harness.pass(CHECK_MS);
    assert_eq!(harness.fetch("topic", 0), 42);
    harness.refuses = None;
    harness.pass(CHECK_MS);
    assert_eq!(harness.fetch("topic", 0), -1);
}

#[test]
fn the_offsets_of_deleted_topics_go_and_later_commits_stay() {
    let mut harness = Harness::new();
    for partition in 0..10_000 {
        harness.commit(&Commit { partition, ..Commit::default() });
    }
    harness.commit(&Commit { topic: "stays", ..Commit::default() });
    let output = harness.coordinator.topics_deleted(&["topic", "unheard of"]);
    assert!(output.records.len() < 10_000, "more than one batch");
    harness.carry_out(output);
    harness.commit(&Commit { partition: 9_999, offset: 1, ..Commit::default() });
    harness.pass(0);
    assert_eq!(harness.coordinator.offset_count(), 2);
    assert_eq!((harness.fetch("topic", 9_999), harness.fetch("stays", 0)), (1, 42));
    harness.pass(100_000);
    assert_eq!(harness.coordinator.offset_count(), 2);
}

#[test]
fn the_offsets_of_deleted_topics_go_even_if_that_cannot_be_recorded_at_first() {
    let mut harness = Harness::new();
    harness.commit(&Commit::default());
    harness.refuses = Some(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    let output = harness.coordinator.topics_deleted(&["topic"]);
    harness.carry_out(output);
    harness.pass(60_000);
    assert_eq!(harness.fetch("topic", 0), 42);
    harness.refuses = None;
    harness.pass(60_000);
    assert_eq!(harness.fetch("topic", 0), -1);
}

fn delete_groups(harness: &mut Harness, groups: &[&'static str]) -> Vec<ErrorCode> {
    let groups: Vec<Cow<'_, str>> = groups.iter().map(|group| Cow::Borrowed(*group)).collect();
    let token = harness.call(2, |coordinator, context| coordinator.delete_groups(context, &groups));
    match &harness.replies[&token] {
        GroupReply::DeleteGroups(reply) => {
            reply.results.iter().map(|result| ErrorCode(result.error_code)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_without_members_is_deleted_with_its_offsets_and_one_with_members_is_not() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(1);
    harness.commit(&Commit { group_id: "simple", ..Commit::default() });
    let codes = delete_groups(&mut harness, &[GROUP, "simple", "none"]);
    assert_eq!(codes, [ErrorCode::NON_EMPTY_GROUP, ErrorCode::NONE, ErrorCode::GROUP_ID_NOT_FOUND]);
    harness.commit(&Commit { member_id: &ids[0], generation_id: 1, ..Commit::default() });
    harness.leave(&[(&ids[0], None)]);
    assert_eq!(delete_groups(&mut harness, &[GROUP, GROUP]), [ErrorCode::NONE]);
    for harness in [&harness, &harness.reloaded()] {
        assert_eq!((harness.coordinator.group_count(), harness.coordinator.offset_count()), (0, 0));
    }
}

#[test]
fn groups_are_listed_by_state_and_type_in_any_case_of_letters() {
    let mut harness = Harness::new();
    harness.stable_group(1);
    harness.commit(&Commit { group_id: "simple", ..Commit::default() });
    let list = |states: &[&'static str], types: &[&'static str]| {
        let names =
            |names: &[&'static str]| names.iter().map(|name| Cow::Borrowed(*name)).collect::<Vec<_>>();
        let groups = harness.coordinator.list_groups(&names(states), &names(types));
        groups.iter().map(|group| group.group_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list(&[], &[]), ["group", "simple"]);
    assert_eq!(list(&["stable"], &[]), ["group"]);
    assert_eq!(list(&["Empty", "STABLE"], &["Classic"]), ["group", "simple"]);
    assert_eq!(list(&[], &["consumer"]), Vec::<String>::new());
    assert_eq!(list(&["unheard of"], &[]), Vec::<String>::new());
}

#[test]
fn a_description_shows_metadata_and_assignments_of_a_stable_group_only() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(2);
    let describe = |harness: &Harness, version| {
        harness.coordinator.describe_groups(version, &["group".into(), "none".into()])
    };
    let described = describe(&harness, 6);
    assert_eq!((&*described[0].group_state, &*described[0].protocol_data), ("Stable", "range"));
    let member = described[0].members.iter().find(|member| member.member_id == ids[1]).unwrap();
    assert_eq!((&*member.client_id, &*member.client_host), ("client", "/127.0.0.1"));
    assert_eq!(
        (&*member.member_metadata, &*member.member_assignment),
        (&subscription(&["topic"])[..], &b"assignment-1"[..])
    );
    assert_eq!(ErrorCode(described[1].error_code), ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(described[1].error_message.as_deref(), Some("Group none not found."));
    let older = &describe(&harness, 5)[1];
    assert_eq!((older.error_code, &*older.group_state, &older.error_message), (0, "Dead", &None));
    harness.join(&Join { member_id: &ids[0], ..Join::default() });
    let described = &describe(&harness, 6)[0];
    assert_eq!((&*described.group_state, described.members.len()), ("PreparingRebalance", 2));
    assert!(described.members.iter().all(|member| member.member_metadata.is_empty()));
}
