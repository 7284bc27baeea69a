//! Members join, move, leave and are fenced.

use super::super::ConsumerGroupState;
use super::super::member::MemberState;
use super::*;

fn shell(partitions: usize) -> Shell {
    Shell::new(GroupConfig::default(), &[("foo", partitions)])
}

fn code(response: &ConsumerGroupHeartbeatResponse<'_>) -> ErrorCode {
    ErrorCode(response.error_code)
}

#[test]
fn the_first_member_gets_everything_with_its_first_heartbeat() {
    let mut shell = shell(3);
    let response = shell.join("a", &["foo"]);
    assert_eq!((response.member_epoch, response.heartbeat_interval_ms), (1, 5_000));
    assert_eq!(response.member_id.as_deref(), Some("a"));
    assert_eq!(assigned(&response), Some(shell.partitions("foo", 0..3)));
    assert_eq!(shell.group().state(), ConsumerGroupState::Stable);
}

#[test]
fn a_heartbeat_that_changes_nothing_writes_nothing_and_repeats_no_assignment() {
    let mut shell = shell(3);
    shell.join("a", &["foo"]);
    let before = shell.log.len();
    let response = shell.beat("a", 1, None);
    assert_eq!((code(&response), response.member_epoch, assigned(&response)), (ErrorCode::NONE, 1, None));
    assert_eq!(shell.log.len(), before);
}

#[test]
fn a_second_member_waits_until_the_first_has_given_up_its_share() {
    let mut shell = shell(4);
    shell.join("a", &["foo"]);
    let second = shell.join("b", &["foo"]);
    assert_eq!((second.member_epoch, assigned(&second)), (2, Some(Partitions::default())));
    assert_eq!(shell.group().members()["b"].current.state, MemberState::UnreleasedPartitions);

    // The first is told to give up two partitions, in its old epoch.
    let first = shell.beat("a", 1, None);
    let kept = assigned(&first).expect("the assignment has changed");
    assert_eq!((first.member_epoch, kept.len()), (1, 2));
    assert_eq!(shell.group().state(), ConsumerGroupState::Reconciling);
    // Nothing passes on while it has not said that it has.
    assert_eq!(assigned(&shell.beat("b", 2, None)), None);
    assert_eq!(assigned(&shell.beat("a", 1, Some(&shell.partitions("foo", 0..4)))), None);
    assert_eq!(assigned(&shell.beat("b", 2, None)), None);
    // Now it says so.
    assert_eq!(shell.beat("a", 1, Some(&kept)).member_epoch, 2);
    let second = assigned(&shell.beat("b", 2, None)).expect("partitions are free");
    assert_eq!(second.union(&kept), shell.partitions("foo", 0..4));
    assert_eq!(shell.group().state(), ConsumerGroupState::Stable);
}

#[test]
fn a_member_that_leaves_hands_its_partitions_on_at_once() {
    let mut shell = shell(2);
    shell.join("a", &["foo"]);
    assert_eq!(code(&shell.beat("a", -1, None)), ErrorCode::NONE);
    assert_eq!(shell.group().state(), ConsumerGroupState::Empty);
    let response = shell.join("b", &["foo"]);
    assert_eq!(assigned(&response), Some(shell.partitions("foo", 0..2)));
}

#[test]
fn a_member_that_falls_silent_is_removed_when_its_session_is_over() {
    let mut shell = shell(2);
    shell.join("a", &["foo"]);
    shell.advance(30_000);
    shell.beat("a", 1, None);
    shell.advance(44_999);
    assert_eq!(shell.group().members().len(), 1);
    shell.advance(1);
    assert!(shell.group().is_empty());
    assert_eq!(code(&shell.beat("a", 1, None)), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_member_that_does_not_give_up_partitions_within_its_rebalance_time_out_is_removed() {
    let mut shell = shell(2);
    shell.join("a", &["foo"]);
    shell.join("b", &["foo"]);
    let told = shell.beat("a", 1, None);
    assert_eq!(told.member_epoch, 1);
    for _ in 0..11 {
        shell.advance(5_000);
        shell.beat("a", 1, None);
        shell.beat("b", 2, None);
    }
    assert_eq!(shell.group().members().len(), 2);
    shell.advance(5_000);
    assert!(!shell.group().members().contains_key("a"));
    assert_eq!(assigned(&shell.beat("b", 2, None)), Some(shell.partitions("foo", 0..2)));
}

#[test]
fn sessions_and_the_wait_for_partitions_go_on_after_a_crash_of_the_coordinator() {
    let mut shell = shell(2);
    shell.join("a", &["foo"]);
    shell.join("b", &["foo"]);
    shell.beat("a", 1, None);
    shell.crash();
    assert_eq!(shell.group().members()["a"].current.state, MemberState::UnrevokedPartitions);
    for _ in 0..12 {
        shell.advance(5_000);
        shell.beat("a", 1, None);
    }
    // One was silent, the other kept what it should have given up.
    assert!(shell.group().is_empty());
}

#[test]
fn a_wrong_epoch_is_fenced_but_the_epoch_before_is_taken_from_who_owns_nothing_new() {
    let mut shell = shell(4);
    shell.join("a", &["foo"]);
    shell.join("b", &["foo"]);
    let kept = assigned(&shell.beat("a", 1, None)).unwrap();
    assert_eq!(shell.beat("a", 1, Some(&kept)).member_epoch, 2);
    // The answer with epoch 2 is lost.
    assert_eq!(code(&shell.beat("a", 1, None)), ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(
        code(&shell.beat("a", 1, Some(&shell.partitions("foo", 0..4)))),
        ErrorCode::FENCED_MEMBER_EPOCH
    );
    assert_eq!(shell.beat("a", 1, Some(&kept)).member_epoch, 2);
    assert_eq!(code(&shell.beat("a", 3, Some(&kept))), ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(code(&shell.beat("nobody", 2, None)), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_member_without_an_id_gets_one_in_version_0_only() {
    let mut shell = shell(1);
    let response = shell.send(0, &joining("", &["foo"]));
    assert_eq!(code(&response), ErrorCode::NONE);
    let id = response.member_id.expect("an id");
    assert_eq!(shell.group().members().keys().map(AsRef::as_ref).collect::<Vec<_>>(), [id.as_ref()]);
    assert_eq!(code(&shell.send(1, &joining("", &["foo"]))), ErrorCode::INVALID_REQUEST);
}

#[test]
fn requests_that_contradict_themselves_are_refused_with_a_reason() {
    let mut shell = shell(1);
    let good = || joining("a", &["foo"]);
    let bad = [
        ConsumerGroupHeartbeatRequest { group_id: "".into(), ..good() },
        ConsumerGroupHeartbeatRequest { instance_id: Some("".into()), ..good() },
        ConsumerGroupHeartbeatRequest { rack_id: Some("".into()), ..good() },
        ConsumerGroupHeartbeatRequest { rebalance_timeout_ms: -1, ..good() },
        ConsumerGroupHeartbeatRequest { topic_partitions: None, ..good() },
        ConsumerGroupHeartbeatRequest { topic_partitions: Some(vec![TopicPartitions::default()]), ..good() },
        ConsumerGroupHeartbeatRequest { subscribed_topic_names: None, ..good() },
        ConsumerGroupHeartbeatRequest { member_epoch: -3, ..good() },
        ConsumerGroupHeartbeatRequest { member_epoch: -2, ..good() },
        ConsumerGroupHeartbeatRequest { member_id: "x".repeat(40_000).into(), ..good() },
    ];
    for request in bad {
        let response = shell.send(1, &request);
        assert_eq!(code(&response), ErrorCode::INVALID_REQUEST, "{request:?}");
        assert!(response.error_message.is_some());
    }
    let wish = ConsumerGroupHeartbeatRequest { server_assignor: Some("sticky".into()), ..good() };
    let response = shell.send(1, &wish);
    assert_eq!(code(&response), ErrorCode::UNSUPPORTED_ASSIGNOR);
    assert_eq!(
        response.error_message.as_deref(),
        Some("ServerAssignor sticky is not supported. Supported assignors: uniform, range.")
    );
    assert_eq!(code(&shell.beat("a", 1, None)), ErrorCode::GROUP_ID_NOT_FOUND);
    assert!(shell.log.is_empty());
}

#[test]
fn a_full_group_takes_nobody_else() {
    let config = GroupConfig { group_consumer_max_size: 1, ..GroupConfig::default() };
    let mut shell = Shell::new(config, &[("foo", 2)]);
    shell.join("a", &["foo"]);
    assert_eq!(code(&shell.send(1, &joining("b", &["foo"]))), ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(code(&shell.beat("a", 1, None)), ErrorCode::NONE);
}

#[test]
fn the_assignor_that_most_members_wish_for_is_used() {
    let mut shell = Shell::new(GroupConfig::default(), &[("foo", 4), ("bar", 4)]);
    let wish = |id: &str| ConsumerGroupHeartbeatRequest {
        server_assignor: Some("range".into()),
        ..joining(id, &["foo", "bar"])
    };
    shell.send(1, &wish("a"));
    shell.send(1, &wish("b"));
    let expected = shell.partitions("foo", 0..2).union(&shell.partitions("bar", 0..2));
    assert_eq!(shell.group().target("a"), expected);
    let described = shell.coordinator.consumer_group_describe(&[GROUP.into()]);
    assert_eq!(described[0].assignor_name, "range");
}

fn static_member(member_id: &str, instance_id: &str) -> ConsumerGroupHeartbeatRequest<'static> {
    ConsumerGroupHeartbeatRequest {
        instance_id: Some(instance_id.to_owned().into()),
        ..joining(member_id, &["foo"])
    }
}

#[test]
fn a_static_member_that_comes_back_takes_its_partitions_over_without_a_rebalance() {
    let mut shell = shell(4);
    shell.send(1, &static_member("a", "one"));
    shell.join("b", &["foo"]);
    let kept = assigned(&shell.beat("a", 1, None)).unwrap();
    shell.beat("a", 1, Some(&kept));
    shell.beat("b", 2, None);

    // While the first lives nobody may take its place.
    assert_eq!(code(&shell.send(1, &static_member("a2", "one"))), ErrorCode::UNRELEASED_INSTANCE_ID);
    let leave = ConsumerGroupHeartbeatRequest { instance_id: Some("one".into()), ..heartbeat("a", -2) };
    assert_eq!(shell.send(1, &leave).member_epoch, -2);
    assert_eq!(shell.group().group_epoch(), 2);
    assert_eq!(assigned(&shell.beat("b", 2, None)), None);

    let back = shell.send(1, &static_member("a2", "one"));
    assert_eq!((code(&back), back.member_epoch, assigned(&back)), (ErrorCode::NONE, 2, Some(kept)));
    assert_eq!(shell.group().group_epoch(), 2);
    assert!(!shell.group().members().contains_key("a"));
    // The one that was replaced is told so.
    let old = ConsumerGroupHeartbeatRequest { instance_id: Some("one".into()), ..heartbeat("a", 2) };
    assert_eq!(code(&shell.send(1, &old)), ErrorCode::FENCED_INSTANCE_ID);
}

#[test]
fn a_static_member_that_does_not_come_back_in_time_loses_its_place() {
    let mut shell = shell(2);
    shell.send(1, &static_member("a", "one"));
    let leave = ConsumerGroupHeartbeatRequest { instance_id: Some("one".into()), ..heartbeat("a", -2) };
    shell.send(1, &leave);
    shell.advance(45_000);
    assert!(shell.group().is_empty());
    let other = ConsumerGroupHeartbeatRequest { instance_id: Some("one".into()), ..heartbeat("a", 1) };
    assert_eq!(code(&shell.send(1, &other)), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn more_partitions_and_deleted_topics_are_noticed_with_the_next_heartbeat() {
    let mut shell = Shell::new(GroupConfig::default(), &[("foo", 2), ("bar", 1), ("other", 1)]);
    shell.join("a", &["foo", "bar", "later"]);
    shell.set_topic("other", 5);
    assert_eq!(assigned(&shell.beat("a", 1, None)), None);
    shell.set_topic("foo", 3);
    let grown = assigned(&shell.beat("a", 1, None)).expect("a partition came");
    assert_eq!(grown, shell.partitions("foo", 0..3).union(&shell.partitions("bar", 0..1)));
    shell.set_topic("later", 1);
    assert_eq!(assigned(&shell.beat("a", 2, None)).map(|assigned| assigned.len()), Some(5));
    let owned = grown.union(&shell.partitions("later", 0..1));
    shell.delete_topic("bar");
    assert_eq!(shell.beat("a", 3, None).member_epoch, 3);
    let left = shell.partitions("foo", 0..3).union(&shell.partitions("later", 0..1));
    assert_eq!(shell.beat("a", 3, Some(&owned.intersection(&left))).member_epoch, 4);
    assert_eq!(shell.group().members()["a"].current.assigned, left);
}

#[test]
fn a_topic_that_is_deleted_and_created_again_is_another_topic() {
    let mut shell = shell(2);
    shell.join("a", &["foo"]);
    let old = shell.partitions("foo", 0..2);
    shell.delete_topic("foo");
    shell.set_topic("foo", 2);
    assert_eq!(assigned(&shell.beat("a", 1, None)), Some(Partitions::default()));
    assert_eq!(
        assigned(&shell.beat("a", 1, Some(&Partitions::default()))),
        Some(shell.partitions("foo", 0..2))
    );
    assert!(!shell.group().members()["a"].current.assigned.intersects(&old));
}

#[test]
fn an_append_that_was_refused_leaves_no_trace_and_the_member_tries_again() {
    let mut shell = shell(2);
    let response = shell.send_in_vain(&joining("a", &["foo"]));
    assert_eq!(code(&response), ErrorCode::NOT_COORDINATOR);
    assert!(shell.coordinator.group(GROUP).is_none());
    shell.join("a", &["foo"]);
    shell.set_topic("foo", 3);
    shell.send_in_vain(&heartbeat("a", 1));
    assert_eq!(assigned(&shell.beat("a", 1, None)), Some(shell.partitions("foo", 0..3)));
    // Somebody who could not be removed is removed later.
    shell.now_ms += 45_000;
    let output = shell.coordinator.tick(shell.now_ms);
    assert!(!output.records.is_empty());
    let output = shell.coordinator.append_refused(output, ErrorCode::NOT_COORDINATOR, shell.now_ms);
    shell.carry_out(output);
    assert_eq!(shell.group().members().len(), 1);
    shell.advance(45_000);
    assert!(shell.group().is_empty());
}

#[test]
fn only_members_in_their_epoch_commit_and_fetch_offsets() {
    let mut shell = shell(2);
    shell.join("a", &["foo"]);
    let group = shell.group();
    assert_eq!(group.validate_offset_commit("a", None, 1, 9), Ok(()));
    assert_eq!(group.validate_offset_commit("a", None, 0, 9), Err(ErrorCode::STALE_MEMBER_EPOCH));
    assert_eq!(group.validate_offset_commit("a", None, 2, 9), Err(ErrorCode::STALE_MEMBER_EPOCH));
    assert_eq!(group.validate_offset_commit("a", None, 1, 8), Err(ErrorCode::UNSUPPORTED_VERSION));
    assert_eq!(group.validate_offset_commit("b", None, 1, 9), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(group.validate_offset_commit("", None, -1, 9), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(group.validate_offset_fetch(Some("a"), 1), Ok(()));
    assert_eq!(group.validate_offset_fetch(Some("a"), 2), Err(ErrorCode::STALE_MEMBER_EPOCH));
    assert_eq!(group.validate_offset_fetch(Some("b"), 1), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(group.validate_offset_fetch(None, -1), Ok(()));
    shell.beat("a", -1, None);
    assert_eq!(shell.group().validate_offset_commit("", None, -1, 9), Ok(()));
}

#[test]
fn a_group_is_described_with_its_members_and_their_partitions() {
    let mut shell = shell(2);
    shell.join("a", &["foo"]);
    let described = shell.coordinator.consumer_group_describe(&[GROUP.into(), "none".into()]);
    let group = &described[0];
    assert_eq!((group.error_code, group.group_state.as_ref()), (0, "Stable"));
    assert_eq!((group.group_epoch, group.assignment_epoch, group.assignor_name.as_ref()), (1, 1, "uniform"));
    let member = &group.members[0];
    assert_eq!(
        (member.member_id.as_ref(), member.client_id.as_ref(), member.member_type),
        ("a", "client", 1)
    );
    assert_eq!(member.assignment.topic_partitions[0].topic_name, "foo");
    assert_eq!(member.assignment, member.target_assignment);
    assert_eq!(ErrorCode(described[1].error_code), ErrorCode::GROUP_ID_NOT_FOUND);
}

#[test]
fn a_group_may_have_its_own_session_time_out_and_heartbeat_interval() {
    let mut shell = shell(1);
    let own = super::super::GroupOverrides {
        consumer_session_timeout_ms: Some(50_000),
        consumer_heartbeat_interval_ms: Some(7_000),
    };
    shell.coordinator.set_group_overrides([(GROUP.to_owned(), own)].into());
    assert_eq!(shell.join("a", &["foo"]).heartbeat_interval_ms, 7_000);
    shell.advance(49_999);
    assert_eq!(shell.group().members().len(), 1);
    shell.advance(1);
    assert!(shell.group().is_empty());
}

#[test]
fn a_hundred_members_settle_on_two_hundred_partitions_with_no_more_moves_than_needed() {
    let mut shell = shell(200);
    let ids: Vec<String> = (0..100).map(|index| format!("member-{index:03}")).collect();
    let mut owned: BTreeMap<&str, (i32, Partitions)> = BTreeMap::new();
    for id in &ids {
        let response = shell.join(id, &["foo"]);
        owned.insert(id, (response.member_epoch, assigned(&response).unwrap()));
    }
    let mut rounds = 0;
    while shell.group().state() != ConsumerGroupState::Stable {
        rounds += 1;
        assert!(rounds <= 4, "a round is a heartbeat of each member");
        for id in &ids {
            let (epoch, partitions) = owned[id.as_str()].clone();
            let response = shell.beat(id, epoch, Some(&partitions));
            assert_eq!(response.error_code, 0);
            owned.insert(id, (response.member_epoch, assigned(&response).unwrap_or(partitions)));
        }
    }
    assert!(owned.values().all(|(_, partitions)| partitions.len() == 2));
    // Half of them leave; who stays keeps what it has.
    for id in &ids[50..] {
        shell.beat(id, -1, None);
    }
    for id in &ids[..50] {
        shell.beat(id, owned[id.as_str()].0, None);
        let target = shell.group().target(id);
        assert!(target.len() == 4 && owned[id.as_str()].1.is_subset(&target));
    }
}
