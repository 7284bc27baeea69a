//! OffsetCommit, OffsetFetch, OffsetDelete.

use protocol::ErrorCode;
use protocol::messages::OffsetDeleteRequest;
use protocol::messages::offset_delete::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use protocol::messages::offset_fetch::OffsetFetchRequestGroup;
use uuid::Uuid;

use crate::group::api::GroupReply;
use crate::group::classic::ClassicGroupState;
use crate::group::harness::{Commit, GROUP, Harness, Join};

#[test]
fn somebody_outside_commits_and_the_group_comes_to_be() {
    let mut harness = Harness::new();
    assert_eq!(harness.commit(&Commit { metadata: "note", ..Commit::default() }), ErrorCode::NONE);
    for harness in [&harness, &harness.reloaded()] {
        assert_eq!(harness.state(), ClassicGroupState::Empty);
        let offset = harness.coordinator.offsets().get(GROUP, "topic", 0).unwrap();
        assert_eq!((offset.offset, offset.leader_epoch, &*offset.metadata), (42, 3, "note"));
        assert_eq!(offset.commit_timestamp_ms, 1_000_000);
    }
}

#[test]
fn an_unknown_group_with_a_generation_is_refused_in_the_words_of_the_version() {
    let mut harness = Harness::new();
    let commit = Commit { generation_id: 1, member_id: "member", ..Commit::default() };
    assert_eq!(harness.commit(&commit), ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(harness.commit(&Commit { version: 8, ..commit }), ErrorCode::ILLEGAL_GENERATION);
}

#[test]
fn members_commit_in_their_generation_and_nobody_else() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(2);
    let member = Commit { member_id: &ids[1], generation_id: 1, ..Commit::default() };
    assert_eq!(harness.commit(&member), ErrorCode::NONE);
    assert_eq!(harness.commit(&Commit { generation_id: 0, ..member.clone() }), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(harness.commit(&Commit { member_id: "x", ..member.clone() }), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(harness.commit(&Commit::default()), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(harness.commit(&Commit { instance: Some("i"), ..member }), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(harness.fetch("topic", 0), 42);
}

#[test]
fn commits_are_taken_while_a_rebalance_is_prepared_and_not_while_it_is_completed() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(2);
    harness.join(&Join { member_id: &ids[0], ..Join::default() });
    let commit = Commit { member_id: &ids[1], generation_id: 1, ..Commit::default() };
    assert_eq!(harness.commit(&commit), ErrorCode::NONE);
    harness.join(&Join { member_id: &ids[1], ..Join::default() });
    assert_eq!(harness.state(), ClassicGroupState::CompletingRebalance);
    assert_eq!(harness.commit(&commit), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(harness.commit(&Commit { generation_id: 2, ..commit }), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn a_commit_keeps_the_session_alive() {
    let mut harness = Harness::new();
    let ids = harness.stable_group(1);
    for _ in 0..5 {
        harness.pass(9_000);
        let commit = Commit { member_id: &ids[0], generation_id: 1, ..Commit::default() };
        assert_eq!(harness.commit(&commit), ErrorCode::NONE);
    }
}

#[test]
fn a_static_member_that_was_replaced_cannot_commit() {
    let mut harness = Harness::new();
    let token = harness.join(&Join { instance: Some("i"), ..Join::default() });
    harness.pass(3_000);
    let id = harness.joined(token).member_id.to_string();
    harness.sync(&id, &[]);
    harness.join(&Join { instance: Some("i"), ..Join::default() });
    let commit = Commit { member_id: &id, instance: Some("i"), generation_id: 1, ..Commit::default() };
    assert_eq!(harness.commit(&commit), ErrorCode::FENCED_INSTANCE_ID);
}

#[test]
fn metadata_is_measured_as_kafka_measures_it() {
    let mut harness = Harness::new();
    let fits = "é".repeat(4_096);
    assert_eq!(harness.commit(&Commit { metadata: &fits, ..Commit::default() }), ErrorCode::NONE);
    let too_long = "e".repeat(4_097);
    let commit = Commit { metadata: &too_long, offset: 43, ..Commit::default() };
    assert_eq!(harness.commit(&commit), ErrorCode::OFFSET_METADATA_TOO_LARGE);
    assert_eq!(harness.fetch("topic", 0), 42);
}

#[test]
fn a_commit_that_cannot_be_appended_changes_nothing() {
    let mut harness = Harness::new();
    harness.commit(&Commit::default());
    harness.refuses = Some(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(
        harness.commit(&Commit { offset: 43, ..Commit::default() }),
        ErrorCode::COORDINATOR_NOT_AVAILABLE
    );
    assert_eq!(harness.fetch("topic", 0), 42);
}

#[test]
fn a_partition_without_offset_and_a_group_that_does_not_exist_have_minus_one_and_no_error() {
    let mut harness = Harness::new();
    assert_eq!(harness.fetch("topic", 0), -1);
    harness.commit(&Commit::default());
    assert_eq!((harness.fetch("topic", 1), harness.fetch("other", 0)), (-1, -1));
}

#[test]
fn without_topics_all_offsets_are_told() {
    let mut harness = Harness::new();
    for (topic, partition) in [("b", 1), ("a", 0), ("b", 0)] {
        harness.commit(&Commit { topic, partition, ..Commit::default() });
    }
    let request = OffsetFetchRequestGroup {
        group_id: GROUP.into(),
        topics: None,
        ..OffsetFetchRequestGroup::default()
    };
    let reply = harness.coordinator.offset_fetch(&request, true);
    let told: Vec<(&str, Vec<i32>)> = reply
        .topics
        .iter()
        .map(|topic| {
            (&*topic.name, topic.partitions.iter().map(|partition| partition.partition_index).collect())
        })
        .collect();
    assert_eq!(told, [("a", vec![0]), ("b", vec![0, 1])]);
}

#[test]
fn a_new_topic_does_not_inherit_the_offsets_of_one_of_the_same_name() {
    let mut harness = Harness::new();
    let (former, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
    harness.commit(&Commit { topic_id: former, ..Commit::default() });
    let harness = harness.reloaded();
    assert_eq!(harness.fetch_as("topic", former, 0), 42);
    assert_eq!(harness.fetch_as("topic", new, 0), -1);
    assert_eq!(harness.fetch("topic", 0), 42, "who does not say which is told");
}

fn delete(harness: &mut Harness, topics: &[&str]) -> (ErrorCode, Vec<ErrorCode>) {
    let topics = topics.iter().map(|topic| OffsetDeleteRequestTopic {
        name: (*topic).into(),
        partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
    });
    let request = OffsetDeleteRequest { group_id: GROUP.into(), topics: topics.collect() };
    let token = harness.call(0, |coordinator, context| coordinator.offset_delete(context, &request));
    match &harness.replies[&token] {
        GroupReply::OffsetDelete(reply) => {
            let codes = reply.topics.iter().map(|topic| ErrorCode(topic.partitions[0].error_code));
            (ErrorCode(reply.error_code), codes.collect())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn offsets_of_topics_that_members_read_cannot_be_deleted() {
    let mut harness = Harness::new();
    assert_eq!(delete(&mut harness, &["topic"]).0, ErrorCode::GROUP_ID_NOT_FOUND);
    let ids = harness.stable_group(1);
    for topic in ["topic", "other"] {
        harness.commit(&Commit { topic, member_id: &ids[0], generation_id: 1, ..Commit::default() });
    }
    let codes = [ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC, ErrorCode::NONE, ErrorCode::NONE];
    assert_eq!(delete(&mut harness, &["topic", "other", "none"]), (ErrorCode::NONE, codes.to_vec()));
    assert_eq!((harness.fetch("topic", 0), harness.fetch("other", 0)), (42, -1));
    assert_eq!(harness.reloaded().fetch("other", 0), -1);
}

#[test]
fn offsets_of_members_that_are_no_consumers_cannot_be_deleted_at_all() {
    let mut harness = Harness::new();
    harness.commit(&Commit::default());
    harness.join(&Join { version: 3, protocol_type: "connect", ..Join::default() });
    assert_eq!(delete(&mut harness, &["topic"]).0, ErrorCode::NON_EMPTY_GROUP);
}
