//! Groups as their members and administrators see them: joined, committed, fetched, left, and still there after kill -9.

mod client;
mod harness;

use std::time::Instant;

use client::Client;
use harness::{DEADLINE, RunningBroker, sum_of, wait_until};
use protocol::ErrorCode;
use protocol::frame::{decode_response, encode_request};
use protocol::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use protocol::messages::consumer_group_heartbeat::{self, ConsumerGroupHeartbeatRequest};
use protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use protocol::messages::delete_groups::DeleteGroupsRequest;
use protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use protocol::messages::describe_groups::DescribeGroupsRequest;
use protocol::messages::find_coordinator::FindCoordinatorRequest;
use protocol::messages::heartbeat::HeartbeatRequest;
use protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use protocol::messages::list_groups::ListGroupsRequest;
use protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use protocol::records::{BatchBuilder, BatchOptions};
use protocol::wire::Few;
use protocol::wire::Records;
use uuid::Uuid;

const TOPIC: &str = "t";
const JOIN_VERSION: i16 = 9;
/// Empty groups do not wait for more members, and sessions may be short.
const QUICK: [&str; 4] =
    ["--set", "group.initial.rebalance.delay.ms=0", "--set", "group.min.session.timeout.ms=100"];

fn start(cores: &str) -> RunningBroker {
    RunningBroker::start(&[&["--cores", cores], &QUICK[..]].concat())
}

fn start_in(dir: tempfile::TempDir, cores: &str) -> RunningBroker {
    RunningBroker::start_in(dir, &[&["--cores", cores], &QUICK[..]].concat())
}

fn create_topic(client: &mut Client, name: &str, partitions: i32) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let error = client.call(&request, 7, |response| ErrorCode(response.topics[0].error_code));
    assert_eq!(error, ErrorCode::NONE);
}

fn find_coordinator(client: &mut Client, group: &str) -> (ErrorCode, i32) {
    let request = FindCoordinatorRequest { coordinator_keys: vec![group.into()], ..Default::default() };
    client.call(&request, 6, |response| {
        (ErrorCode(response.coordinators[0].error_code), response.coordinators[0].port)
    })
}

/// Asks again while the coordinator loads.
fn once_loaded<R>(mut ask: impl FnMut() -> (ErrorCode, R)) -> (ErrorCode, R) {
    let mut outcome = ask();
    wait_until(|| {
        if outcome.0 == ErrorCode::COORDINATOR_LOAD_IN_PROGRESS {
            outcome = ask();
        }
        outcome.0 != ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
    });
    outcome
}

fn join_request<'a>(group: &'a str, member: &'a str, session_timeout_ms: i32) -> JoinGroupRequest<'a> {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms,
        rebalance_timeout_ms: 60_000,
        member_id: member.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: b"subscription"[..].into(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// What a member is told when it has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Joined {
    error: ErrorCode,
    generation: i32,
    member: String,
    leader: String,
    members: Vec<String>,
}

impl From<JoinGroupResponse<'_>> for Joined {
    fn from(response: JoinGroupResponse<'_>) -> Self {
        Joined {
            error: ErrorCode(response.error_code),
            generation: response.generation_id,
            member: response.member_id.to_string(),
            leader: response.leader.to_string(),
            members: response.members.iter().map(|member| member.member_id.to_string()).collect(),
        }
    }
}

fn join(client: &mut Client, group: &str, member: &str, session_timeout_ms: i32) -> Joined {
    let joined = |member: &str, client: &mut Client| {
        client.call(&join_request(group, member, session_timeout_ms), JOIN_VERSION, |response| {
            Joined::from(response)
        })
    };
    let first = joined(member, client);
    match first.error {
        ErrorCode::MEMBER_ID_REQUIRED => joined(&first.member, client),
        _ => first,
    }
}

fn sync(client: &mut Client, group: &str, joined: &Joined) -> (ErrorCode, Vec<u8>) {
    let assignments = joined.members.iter().map(|member| SyncGroupRequestAssignment {
        member_id: member.as_str().into(),
        assignment: member.as_bytes().into(),
        ..Default::default()
    });
    let request = SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation,
        member_id: joined.member.as_str().into(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: assignments.collect(),
        ..Default::default()
    };
    client.call(&request, 5, |response| (ErrorCode(response.error_code), response.assignment.to_vec()))
}

fn heartbeat(client: &mut Client, group: &str, joined: &Joined) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: group.into(),
        generation_id: joined.generation,
        member_id: joined.member.as_str().into(),
        ..Default::default()
    };
    client.call(&request, 4, |response| ErrorCode(response.error_code))
}

fn commit(
    client: &mut Client,
    group: &str,
    member: Option<&Joined>,
    topic: &str,
    offsets: &[(i32, i64)],
) -> Vec<(i32, ErrorCode)> {
    let row = |&(partition_index, committed_offset): &(i32, i64)| OffsetCommitRequestPartition {
        partition_index,
        committed_offset,
        committed_metadata: Some("note".into()),
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: member.map_or(-1, |joined| joined.generation),
        member_id: member.map_or("", |joined| &joined.member).into(),
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: offsets.iter().map(row).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    client.call(&request, 9, |response| {
        let rows = response.topics.iter().flat_map(|topic| &topic.partitions);
        rows.map(|row| (row.partition_index, ErrorCode(row.error_code))).collect()
    })
}

/// (topic, partition, offset) of everything that the groups have committed, in the order of the groups.
fn fetch_all(client: &mut Client, groups: &[&str]) -> Vec<Vec<(String, i32, i64)>> {
    let ask = || {
        let asked = groups.iter().map(|group| OffsetFetchRequestGroup {
            group_id: (*group).into(),
            topics: None,
            ..Default::default()
        });
        let request = OffsetFetchRequest { groups: asked.collect(), ..Default::default() };
        client.call(&request, 9, |response| {
            let loading = response
                .groups
                .iter()
                .map(|group| ErrorCode(group.error_code))
                .find(|error| error.is_err())
                .unwrap_or(ErrorCode::NONE);
            let found = response.groups.iter().map(|group| {
                let mut rows: Vec<_> = group
                    .topics
                    .iter()
                    .flat_map(|topic| {
                        topic
                            .partitions
                            .iter()
                            .map(|row| (topic.name.to_string(), row.partition_index, row.committed_offset))
                    })
                    .collect();
                rows.sort();
                rows
            });
            (loading, found.collect())
        })
    };
    let (error, found) = once_loaded(ask);
    assert_eq!(error, ErrorCode::NONE);
    found
}

/// (state, members) of each group.
fn describe(client: &mut Client, groups: &[&str]) -> Vec<(ErrorCode, String, usize)> {
    let request = DescribeGroupsRequest {
        groups: groups.iter().map(|group| (*group).into()).collect(),
        ..Default::default()
    };
    client.call(&request, 6, |response| {
        let groups = response.groups.iter();
        groups
            .map(|group| (ErrorCode(group.error_code), group.group_state.to_string(), group.members.len()))
            .collect()
    })
}

fn list(client: &mut Client) -> Vec<String> {
    let mut groups = client.call(&ListGroupsRequest::default(), 5, |response| {
        assert_eq!(response.error_code, 0);
        response.groups.iter().map(|group| group.group_id.to_string()).collect::<Vec<_>>()
    });
    groups.sort();
    groups
}

#[test]
fn a_group_of_two_shares_its_work_commits_and_goes_on_after_kill_9() {
    let broker = start("0-1");
    let mut first = Client::new(&broker);
    create_topic(&mut first, TOPIC, 4);
    assert_eq!(find_coordinator(&mut first, "g"), (ErrorCode::NONE, i32::from(broker.kafka.port())));
    let alone = join(&mut first, "g", "", 30_000);
    assert_eq!((alone.error, alone.generation), (ErrorCode::NONE, 1));
    assert_eq!(alone.members, std::slice::from_ref(&alone.member));
    assert_eq!(sync(&mut first, "g", &alone), (ErrorCode::NONE, alone.member.clone().into_bytes()));

    // The second one waits until the first has come again.
    let mut second = Client::new(&broker);
    let waiting = std::thread::spawn(move || {
        let joined = join(&mut second, "g", "", 30_000);
        let synced = sync(&mut second, "g", &joined);
        (second, joined, synced)
    });
    wait_until(|| heartbeat(&mut first, "g", &alone) == ErrorCode::REBALANCE_IN_PROGRESS);
    let leader = join(&mut first, "g", &alone.member, 30_000);
    assert_eq!((leader.error, leader.generation, leader.members.len()), (ErrorCode::NONE, 2, 2));
    assert_eq!(leader.leader, leader.member);
    let synced = sync(&mut first, "g", &leader);
    let (mut second, follower, synced_too) = waiting.join().expect("it has joined");
    assert_eq!((follower.error, follower.generation, follower.members.len()), (ErrorCode::NONE, 2, 0));
    assert_eq!(synced, (ErrorCode::NONE, leader.member.clone().into_bytes()));
    assert_eq!(synced_too, (ErrorCode::NONE, follower.member.clone().into_bytes()));
    assert_eq!(describe(&mut second, &["g"]), [(ErrorCode::NONE, "Stable".to_owned(), 2)]);

    let done = [(0, ErrorCode::NONE), (3, ErrorCode::NONE)];
    assert_eq!(commit(&mut first, "g", Some(&leader), TOPIC, &[(0, 10), (3, 13)]), done);
    assert_eq!(commit(&mut second, "g", Some(&follower), TOPIC, &[(1, 11)]), [(1, ErrorCode::NONE)]);
    assert_eq!(
        commit(&mut first, "g", Some(&alone), TOPIC, &[(0, 9)]),
        [(0, ErrorCode::ILLEGAL_GENERATION)],
        "a stale generation"
    );

    // Both members are there after a crash, in their generation, with their offsets.
    let broker = start_in(broker.kill(), "0-1");
    let (mut first, mut second) = (Client::new(&broker), Client::new(&broker));
    let committed = vec![(TOPIC.to_owned(), 0, 10), (TOPIC.to_owned(), 1, 11), (TOPIC.to_owned(), 3, 13)];
    assert_eq!(fetch_all(&mut first, &["g"]), [committed]);
    assert_eq!(heartbeat(&mut first, "g", &leader), ErrorCode::NONE);
    assert_eq!(heartbeat(&mut second, "g", &follower), ErrorCode::NONE);
    assert_eq!(sync(&mut second, "g", &follower).0, ErrorCode::NONE);
    assert_eq!(commit(&mut second, "g", Some(&follower), TOPIC, &[(1, 21)]), [(1, ErrorCode::NONE)]);

    // One leaves, the other is alone again.
    let leave = LeaveGroupRequest {
        group_id: "g".into(),
        members: vec![MemberIdentity { member_id: follower.member.as_str().into(), ..Default::default() }],
        ..Default::default()
    };
    let left = second.call(&leave, 5, |response| {
        (ErrorCode(response.error_code), ErrorCode(response.members[0].error_code))
    });
    assert_eq!(left, (ErrorCode::NONE, ErrorCode::NONE));
    assert_eq!(heartbeat(&mut first, "g", &leader), ErrorCode::REBALANCE_IN_PROGRESS);
    let again = join(&mut first, "g", &leader.member, 30_000);
    assert_eq!((again.generation, again.members.len()), (3, 1));
    assert_eq!(sync(&mut first, "g", &again).0, ErrorCode::NONE);

    // Another number of cores finds the same.
    let (code, dir) = broker.terminate_keeping_data();
    assert_eq!(code, Some(0));
    let broker = start_in(dir, "0");
    let mut first = Client::new(&broker);
    let committed = vec![(TOPIC.to_owned(), 0, 10), (TOPIC.to_owned(), 1, 21), (TOPIC.to_owned(), 3, 13)];
    assert_eq!(fetch_all(&mut first, &["g"]), [committed]);
    assert_eq!(heartbeat(&mut first, "g", &again), ErrorCode::NONE);
}

#[test]
fn a_member_that_falls_silent_is_removed_and_its_group_goes_on_without_it() {
    let broker = start("0-1");
    let mut client = Client::new(&broker);
    find_coordinator(&mut client, "g");
    let joined = join(&mut client, "g", "", 100);
    assert_eq!(sync(&mut client, "g", &joined).0, ErrorCode::NONE);
    wait_until(|| describe(&mut client, &["g"]) == [(ErrorCode::NONE, "Empty".to_owned(), 0)]);
    assert_eq!(heartbeat(&mut client, "g", &joined), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn many_groups_are_spread_over_the_cores_and_none_of_their_offsets_is_lost() {
    let broker = start("0-1");
    let mut client = Client::new(&broker);
    create_topic(&mut client, TOPIC, 2);
    create_topic(&mut client, "gone", 1);
    find_coordinator(&mut client, "g");
    let names: Vec<String> = (0..200).map(|n| format!("group-{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let n = n as i64;
        assert_eq!(commit(&mut client, name, None, TOPIC, &[(0, n), (1, 2 * n)]).len(), 2);
        assert_eq!(commit(&mut client, name, None, "gone", &[(0, n)]), [(0, ErrorCode::NONE)]);
    }
    let groups: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(list(&mut client), sorted);
    // Offsets of a topic that is deleted go with it.
    let by_name = DeleteTopicState { name: Some("gone".into()), ..Default::default() };
    let delete = DeleteTopicsRequest { topics: vec![by_name], timeout_ms: 60_000, ..Default::default() };
    assert_eq!(client.call(&delete, 6, |response| response.responses[0].error_code), 0);
    let expected: Vec<Vec<_>> =
        (0..200).map(|n| vec![(TOPIC.to_owned(), 0, n), (TOPIC.to_owned(), 1, 2 * n)]).collect();
    wait_until(|| fetch_all(&mut client, &groups) == expected);
    let (_, metrics) = broker.http_get("/metrics");
    assert_eq!(sum_of(&metrics, "kafka_server_group_coordinator_metrics_num_offsets"), 400.0);
    assert_eq!(sum_of(&metrics, "kafka_server_group_coordinator_metrics_group_count"), 200.0);

    let mut dir = broker.kill();
    for cores in ["0-1", "0"] {
        let broker = start_in(dir, cores);
        assert_eq!(fetch_all(&mut Client::new(&broker), &groups), expected);
        dir = broker.kill();
    }
}

#[test]
fn administrators_list_describe_and_delete_groups_and_offsets() {
    let broker = start("0-1");
    let mut client = Client::new(&broker);
    create_topic(&mut client, TOPIC, 2);
    let unknown = describe(&mut client, &["a"]);
    assert_eq!(unknown[0].0, ErrorCode::NOT_COORDINATOR, "nobody has asked for a coordinator yet");
    assert_eq!(list(&mut client), Vec::<String>::new());
    find_coordinator(&mut client, "a");
    let done = |partition| (partition, ErrorCode::NONE);
    assert_eq!(commit(&mut client, "a", None, TOPIC, &[(0, 1), (1, 2)]), [done(0), done(1)]);
    assert_eq!(commit(&mut client, "b", None, TOPIC, &[(0, 3)]), [done(0)]);
    let missing = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(commit(&mut client, "a", None, TOPIC, &[(0, 4), (7, 5)]), [(7, missing), done(0)]);
    assert_eq!(commit(&mut client, "a", None, "missing", &[(0, 4)]), [(0, missing)]);
    let member = join(&mut client, "busy", "", 30_000);
    assert_eq!(list(&mut client), ["a", "b", "busy"]);
    assert_eq!(
        describe(&mut client, &["a", "none", "busy"]),
        [
            (ErrorCode::NONE, "Empty".to_owned(), 0),
            (ErrorCode::GROUP_ID_NOT_FOUND, "Dead".to_owned(), 0),
            (ErrorCode::NONE, "CompletingRebalance".to_owned(), 1)
        ]
    );
    assert_eq!(member.error, ErrorCode::NONE);

    let partition = |partition_index| OffsetDeleteRequestPartition { partition_index };
    let topic = OffsetDeleteRequestTopic { name: TOPIC.into(), partitions: vec![partition(0), partition(9)] };
    let delete = OffsetDeleteRequest { group_id: "a".into(), topics: vec![topic] };
    let deleted = client.call(&delete, 0, |response| {
        assert_eq!(response.error_code, 0);
        let rows = response.topics.iter().flat_map(|topic| &topic.partitions);
        rows.map(|row| (row.partition_index, ErrorCode(row.error_code))).collect::<Vec<_>>()
    });
    assert_eq!(deleted, [done(0), (9, missing)]);
    let some =
        OffsetFetchRequestTopics { name: TOPIC.into(), partition_indexes: vec![0, 1], ..Default::default() };
    let group =
        OffsetFetchRequestGroup { group_id: "a".into(), topics: Some(vec![some]), ..Default::default() };
    let fetch = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let offsets = client.call(&fetch, 9, |response| {
        let rows = response.groups[0].topics.iter().flat_map(|topic| &topic.partitions);
        rows.map(|row| (row.committed_offset, row.error_code)).collect::<Vec<_>>()
    });
    assert_eq!(offsets, [(-1, 0), (2, 0)]);

    let delete = DeleteGroupsRequest {
        groups_names: vec!["busy".into(), "none".into(), "a".into()],
        ..Default::default()
    };
    let deleted = client.call(&delete, 2, |response| {
        let results = response.results.iter();
        results.map(|row| (row.group_id.to_string(), ErrorCode(row.error_code))).collect::<Vec<_>>()
    });
    let expected = [
        ("busy", ErrorCode::NON_EMPTY_GROUP),
        ("none", ErrorCode::GROUP_ID_NOT_FOUND),
        ("a", ErrorCode::NONE),
    ];
    assert_eq!(deleted, expected.map(|(name, error)| (name.to_owned(), error)));
    let broker = start_in(broker.kill(), "0-1");
    let mut client = Client::new(&broker);
    assert_eq!(fetch_all(&mut client, &["a"]), [vec![]]);
    assert_eq!(list(&mut client), ["b"], "a group without generation is gone with the process");
}

#[test]
fn a_group_with_more_offsets_than_one_batch_takes_is_deleted_all_the_same() {
    let broker = start("0");
    let mut client = Client::new(&broker);
    create_topic(&mut client, TOPIC, 200);
    find_coordinator(&mut client, "wide");
    let offsets: Vec<_> = (0..200).map(|partition| (partition, 7)).collect();
    let committed = commit(&mut client, "wide", None, TOPIC, &offsets);
    assert!(committed.iter().all(|(_, error)| error.is_none()), "{committed:?}");
    let smaller = AlterableConfig {
        name: "max.message.bytes".into(),
        config_operation: 0,
        value: Some("2000".into()),
        ..Default::default()
    };
    let alter = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: "__consumer_offsets".into(),
            configs: vec![smaller],
            ..Default::default()
        }],
        ..Default::default()
    };
    client.call(&alter, 1, |response| assert_eq!(response.responses[0].error_code, 0));
    let delete = DeleteGroupsRequest { groups_names: vec!["wide".into()], ..Default::default() };
    client.call(&delete, 2, |response| assert_eq!(response.results[0].error_code, 0));
    assert_eq!(fetch_all(&mut client, &["wide"]), [vec![]]);
    let broker = start_in(broker.kill(), "0");
    let mut client = Client::new(&broker);
    assert_eq!(fetch_all(&mut client, &["wide"]), [vec![]]);
    assert_eq!(list(&mut client), Vec::<String>::new());
}

#[test]
fn the_topic_of_offsets_is_internal_and_no_producer_writes_to_it() {
    let broker = start("0-1");
    let mut client = Client::new(&broker);
    find_coordinator(&mut client, "g");
    let name = "__consumer_offsets";
    let asked = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![asked]), ..Default::default() };
    let topic = client.call(&request, 12, |response| {
        (response.topics[0].error_code, response.topics[0].is_internal, response.topics[0].partitions.len())
    });
    assert_eq!(topic, (0, true, 50));
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(1_000, Some(b"key"), Some(b"value"), &[]);
    let batch = builder.build().expect("small");
    let partition =
        PartitionProduceData { index: 0, records: Some(Records::Borrowed(&batch)), ..Default::default() };
    let data =
        TopicProduceData { name: name.into(), partition_data: Few::one(partition), ..Default::default() };
    let produce =
        ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: Few::one(data), ..Default::default() };
    let error = client
        .call(&produce, 9, |response| ErrorCode(response.responses[0].partition_responses[0].error_code));
    assert_eq!(error, ErrorCode::INVALID_TOPIC_EXCEPTION);
}

/// What a member of a consumer group hears: its epoch, and its partitions of `TOPIC` if they are told.
fn consumer_heartbeat(
    client: &mut Client,
    group: &str,
    member: &str,
    epoch: i32,
    owned: Option<(Uuid, &[i32])>,
) -> (ErrorCode, i32, Option<Vec<i32>>) {
    let is_new = epoch == 0;
    let owned = owned.map(|(topic_id, partitions)| consumer_group_heartbeat::TopicPartitions {
        topic_id,
        partitions: partitions.to_vec(),
        ..Default::default()
    });
    let request = ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: member.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: if is_new { 60_000 } else { -1 },
        subscribed_topic_names: is_new.then(|| vec![TOPIC.into()]),
        topic_partitions: if is_new { Some(Vec::new()) } else { owned.map(|owned| vec![owned]) },
        ..Default::default()
    };
    client.call(&request, 1, |response| {
        let assigned = response.assignment.map(|assignment| {
            let mut partitions: Vec<i32> =
                assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect();
            partitions.sort();
            partitions
        });
        (ErrorCode(response.error_code), response.member_epoch, assigned)
    })
}

#[test]
fn a_consumer_group_assigns_by_itself_and_survives_kill_9() {
    let broker = start("0-1");
    let mut client = Client::new(&broker);
    create_topic(&mut client, TOPIC, 4);
    let asked = MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![asked]), ..Default::default() };
    let topic_id = client.call(&request, 12, |response| response.topics[0].topic_id);
    find_coordinator(&mut client, "c");
    let (one, two) = ("11111111111111111111AA", "22222222222222222222AA");
    assert_eq!(
        consumer_heartbeat(&mut client, "c", one, 0, None),
        (ErrorCode::NONE, 1, Some(vec![0, 1, 2, 3]))
    );
    let owned = consumer_heartbeat(&mut client, "c", one, 1, Some((topic_id, &[0, 1, 2, 3])));
    assert_eq!((owned.0, owned.1), (ErrorCode::NONE, 1));
    // The second one gets its half when the first has given it up.
    assert_eq!(consumer_heartbeat(&mut client, "c", two, 0, None).0, ErrorCode::NONE);
    let (_, epoch, kept) = consumer_heartbeat(&mut client, "c", one, 1, None);
    let kept = kept.expect("there is something to give up");
    assert_eq!((epoch, kept.len()), (1, 2));
    let given_up = consumer_heartbeat(&mut client, "c", one, 1, Some((topic_id, &kept)));
    assert_eq!((given_up.0, given_up.1), (ErrorCode::NONE, 2));

    let broker = start_in(broker.kill(), "0-1");
    let mut client = Client::new(&broker);
    let (error, (epoch, got)) = once_loaded(|| {
        let (error, epoch, got) = consumer_heartbeat(&mut client, "c", two, 2, None);
        (error, (epoch, got))
    });
    let mut all = [kept.clone(), got.expect("what the first has given up")].concat();
    all.sort();
    assert_eq!((error, epoch, all), (ErrorCode::NONE, 2, vec![0, 1, 2, 3]));
    let describe =
        ConsumerGroupDescribeRequest { group_ids: vec!["c".into(), "none".into()], ..Default::default() };
    let described = client.call(&describe, 1, |response| {
        let groups = response.groups.iter();
        groups.map(|group| (ErrorCode(group.error_code), group.members.len())).collect::<Vec<_>>()
    });
    assert_eq!(described, [(ErrorCode::NONE, 2), (ErrorCode::GROUP_ID_NOT_FOUND, 0)]);
    for (member, rest) in [(one, 1), (two, 0)] {
        assert_eq!(consumer_heartbeat(&mut client, "c", member, -1, None).0, ErrorCode::NONE);
        let described = client.call(&describe, 1, |response| response.groups[0].members.len());
        assert_eq!(described, rest);
    }
}

/// A member's request to join that nobody has answered yet.
fn send_join(client: &mut Client, group: &str, member: &str) {
    let request = join_request(group, member, 30_000);
    client.send_raw(&encode_request(7, Some("test"), &request, JOIN_VERSION).expect("encodable").concat());
}

fn requests_waiting(broker: &RunningBroker) -> f64 {
    broker.metric("broker_group_requests_waiting")
}

#[test]
fn whoever_waits_for_a_group_is_forgotten_with_its_connection_and_told_when_the_broker_stops() {
    let broker = start("0-1");
    let mut client = Client::new(&broker);
    find_coordinator(&mut client, "g");
    let first = join(&mut client, "g", "", 30_000);
    assert_eq!(sync(&mut client, "g", &first).0, ErrorCode::NONE);
    // On connections of both cores, whichever has the group.
    for _ in 0..8 {
        let mut other = Client::new(&broker);
        let id = other.call(&join_request("g", "", 30_000), JOIN_VERSION, |r| r.member_id.to_string());
        send_join(&mut other, "g", &id);
        wait_until(|| requests_waiting(&broker) == 1.0);
        drop(other);
        wait_until(|| requests_waiting(&broker) == 0.0);
    }
    let mut last = Client::new(&broker);
    let id = last.call(&join_request("g", "", 30_000), JOIN_VERSION, |r| r.member_id.to_string());
    send_join(&mut last, "g", &id);
    wait_until(|| requests_waiting(&broker) == 1.0);
    let began = Instant::now();
    assert_eq!(broker.terminate(), Some(0));
    assert!(began.elapsed() < DEADLINE);
    let answer = last.receive_raw().expect("it is told");
    let (_, response) = decode_response::<JoinGroupResponse<'_>>(&answer, JOIN_VERSION).expect("decodable");
    assert_eq!(ErrorCode(response.error_code), ErrorCode::NOT_COORDINATOR);
}
