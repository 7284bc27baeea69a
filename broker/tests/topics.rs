//! Topics as a client sees them: created, listed, described, deleted, and still there after a crash.

mod client;
mod harness;

use std::path::Path;

use client::Client;
use harness::{RunningBroker, broker_command};
use protocol::ErrorCode;
use protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use protocol::messages::describe_cluster::DescribeClusterRequest;
use protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use protocol::messages::describe_topic_partitions::{Cursor, DescribeTopicPartitionsRequest};
use protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use protocol::messages::init_producer_id::InitProducerIdRequest;
use protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use protocol::records::{BatchBuilder, BatchOptions};
use protocol::wire::Few;
use protocol::{ApiKey, Decoder, Message};
use uuid::Uuid;

fn new_topic<'a>(name: &'a str, partitions: i32) -> CreatableTopic<'a> {
    CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: -1,
        ..Default::default()
    }
}

/// (error, message, id) of each topic.
fn create(client: &mut Client, topics: Vec<CreatableTopic<'_>>) -> Vec<(ErrorCode, String, Uuid)> {
    let request = CreateTopicsRequest { topics, ..Default::default() };
    client.call(&request, 7, |response| {
        let outcome = |t: &protocol::messages::create_topics::CreatableTopicResult<'_>| {
            (ErrorCode(t.error_code), t.error_message.as_deref().unwrap_or("").to_owned(), t.topic_id)
        };
        response.topics.iter().map(outcome).collect()
    })
}

/// (name, number of partitions, id) of all topics.
fn list(client: &mut Client) -> Vec<(String, usize, Uuid)> {
    let request = MetadataRequest { topics: None, ..Default::default() };
    client.call(&request, 12, |response| {
        response
            .topics
            .iter()
            .map(|topic| (topic.name.as_deref().unwrap().to_owned(), topic.partitions.len(), topic.topic_id))
            .collect()
    })
}

fn ask<'a>(name: &'a str) -> MetadataRequestTopic<'a> {
    MetadataRequestTopic { name: Some(name.into()), ..Default::default() }
}

#[test]
fn topics_are_listed_alike_on_every_connection_and_after_kill_9() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut client = Client::new(&broker);
    let created = create(&mut client, vec![new_topic("a", 3), new_topic("b.c", 5), new_topic("d", -1)]);
    assert!(created.iter().all(|(error, ..)| error.is_none()), "{created:?}");
    let before = list(&mut client);
    let shape: Vec<_> = before.iter().map(|(name, partitions, _)| (name.as_str(), *partitions)).collect();
    assert_eq!(shape, [("a", 3), ("b.c", 5), ("d", 1)]);
    for _ in 0..8 {
        assert_eq!(list(&mut Client::new(&broker)), before, "every shard knows the same");
    }
    let cluster = |client: &mut Client| {
        client.call(&DescribeClusterRequest { endpoint_type: 1, ..Default::default() }, 2, |response| {
            (response.cluster_id.to_string(), response.brokers.len())
        })
    };
    let cluster_before = cluster(&mut client);
    assert_eq!((cluster_before.0.len(), cluster_before.1), (22, 1));

    let broker = RunningBroker::start_in(broker.kill(), &["--cores", "0"]);
    let mut client = Client::new(&broker);
    assert_eq!(list(&mut client), before);
    assert_eq!(cluster(&mut client), cluster_before);

    let by_id = DeleteTopicState { topic_id: before[1].2, name: None, ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![by_id], timeout_ms: 60_000, ..Default::default() };
    let deleted = client.call(&request, 6, |r| {
        (r.responses[0].error_code, r.responses[0].name.as_deref().map(str::to_owned))
    });
    assert_eq!(deleted, (0, Some("b.c".to_owned())));
    let again = create(&mut client, vec![new_topic("b.c", 1)]);
    assert_ne!(again[0].2, before[1].2, "a topic that is created again is another topic");
}

#[test]
fn what_cannot_be_created_is_refused_one_by_one() {
    let broker = RunningBroker::start(&["--cores", "0"]);
    let mut client = Client::new(&broker);
    let with_config = |name: &'static str, config: &'static str, value: &'static str| CreatableTopic {
        configs: vec![CreatableTopicConfig {
            name: config.into(),
            value: Some(value.into()),
            ..Default::default()
        }],
        ..new_topic(name, 1)
    };
    let outcomes = create(
        &mut client,
        vec![
            new_topic("good", 1),
            new_topic("bad name", 1),
            new_topic("zero", 0),
            CreatableTopic { replication_factor: 3, ..new_topic("three", 1) },
            with_config("tiered", "remote.storage.enable", "true"),
            with_config("unknown", "no.such.config", "1"),
            with_config("kept", "retention.ms", "1000"),
        ],
    );
    let errors: Vec<_> = outcomes.iter().map(|(error, ..)| *error).collect();
    assert_eq!(
        errors,
        [
            ErrorCode::NONE,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            ErrorCode::INVALID_PARTITIONS,
            ErrorCode::INVALID_REPLICATION_FACTOR,
            ErrorCode::INVALID_CONFIG,
            ErrorCode::INVALID_CONFIG,
            ErrorCode::NONE,
        ]
    );
    assert!(outcomes[3].1.contains("only 1 broker(s) are registered"), "{}", outcomes[3].1);
    assert_eq!(create(&mut client, vec![new_topic("good", 1)])[0].0, ErrorCode::TOPIC_ALREADY_EXISTS);
    assert_eq!(list(&mut client).len(), 2);
}

#[test]
fn metadata_tells_null_from_empty_and_creates_what_may_be_created() {
    let broker = RunningBroker::start(&["--cores", "0"]);
    let mut client = Client::new(&broker);
    create(&mut client, vec![new_topic("here", 2)]);
    let count = |client: &mut Client, topics, version| {
        let request = MetadataRequest { topics, ..Default::default() };
        client.call(&request, version, |response| response.topics.len())
    };
    assert_eq!(count(&mut client, None, 1), 1);
    assert_eq!(count(&mut client, Some(vec![]), 1), 0);
    assert_eq!(count(&mut client, Some(vec![]), 0), 1, "version 0 has no null, empty means all");

    let errors = |client: &mut Client, names: &[&str], allow| {
        let request = MetadataRequest {
            topics: Some(names.iter().map(|name| ask(name)).collect()),
            allow_auto_topic_creation: allow,
            ..Default::default()
        };
        client.call(&request, 9, |response| {
            response.topics.iter().map(|topic| ErrorCode(topic.error_code)).collect::<Vec<_>>()
        })
    };
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(
        errors(&mut client, &["here", "new", "bad name"], false),
        [ErrorCode::NONE, unknown, ErrorCode::INVALID_TOPIC_EXCEPTION]
    );
    assert_eq!(errors(&mut client, &["new", "__consumer_offsets"], true), [ErrorCode::NONE, unknown]);
    assert_eq!(list(&mut client).len(), 2);

    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            topic_id: Uuid::from_u128(9),
            name: None,
            ..Default::default()
        }]),
        ..Default::default()
    };
    let by_id = client.call(&request, 12, |response| ErrorCode(response.topics[0].error_code));
    assert_eq!(by_id, ErrorCode::UNKNOWN_TOPIC_ID);
}

#[test]
fn an_api_versions_request_from_the_future_is_answered_in_version_0() {
    let broker = RunningBroker::start(&["--cores", "0"]);
    let mut client = Client::new(&broker);
    let frame = [&[0, 0, 0, 11, 0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0][..]].concat();
    let answer = client.call_raw(&frame).expect("an answer");
    let mut body = Decoder::new(&answer[4..]);
    let response = protocol::messages::ApiVersionsResponse::decode(&mut body, 0).unwrap();
    assert_eq!(ErrorCode(response.error_code), ErrorCode::UNSUPPORTED_VERSION);
    assert!(response.api_keys.iter().any(|key| key.api_key == ApiKey::Metadata as i16));
    // Any other request of an unknown version, or key, costs the connection.
    let unknown_version = [0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 8, 0xff, 0xff];
    assert_eq!(client.call_raw(&unknown_version), None);
    let unknown_key = [0, 0, 0, 10, 0x7f, 0, 0, 0, 0, 0, 0, 8, 0xff, 0xff];
    assert_eq!(Client::new(&broker).call_raw(&unknown_key), None);
}

#[test]
fn producer_ids_are_never_given_twice_not_even_after_kill_9() {
    let next = |client: &mut Client| {
        client.call(&InitProducerIdRequest { transactional_id: None, ..Default::default() }, 4, |response| {
            assert_eq!((response.error_code, response.producer_epoch), (0, 0));
            response.producer_id
        })
    };
    let mut seen = std::collections::HashSet::new();
    let mut dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder on a disk");
    for cores in ["0-1", "0"] {
        let broker = RunningBroker::start_in(dir, &["--cores", cores]);
        for _ in 0..6 {
            let mut client = Client::new(&broker);
            assert!((0..20).all(|_| seen.insert(next(&mut client))));
        }
        let refused = InitProducerIdRequest { transactional_id: Some("t".into()), ..Default::default() };
        let error = Client::new(&broker).call(&refused, 4, |response| ErrorCode(response.error_code));
        assert!(error.is_err() && !error.is_retriable());
        let group = FindCoordinatorRequest { key: "g".into(), ..Default::default() };
        let found =
            |response: FindCoordinatorResponse<'_>| (ErrorCode(response.error_code), response.node_id);
        assert_eq!(Client::new(&broker).call(&group, 2, found), (ErrorCode::NONE, 1));
        dir = broker.kill();
    }
}

#[test]
fn configs_of_topics_and_of_the_broker_are_described() {
    let broker =
        RunningBroker::start(&["--cores", "0-1", "--node-id", "3", "--set", "log.segment.bytes=2000000"]);
    let mut client = Client::new(&broker);
    let config = CreatableTopicConfig {
        name: "retention.ms".into(),
        value: Some("1000".into()),
        ..Default::default()
    };
    create(&mut client, vec![CreatableTopic { configs: vec![config], ..new_topic("t", 1) }]);
    let resource = |resource_type, name: &'static str| DescribeConfigsResource {
        resource_type,
        resource_name: name.into(),
        configuration_keys: None,
        ..Default::default()
    };
    let request =
        DescribeConfigsRequest { resources: vec![resource(2, "t"), resource(4, "3")], ..Default::default() };
    client.call(&request, 4, |response| {
        let found = |resource: usize, name: &str| {
            let mut configs = response.results[resource].configs.iter();
            let config = configs.find(|config| config.name == name).unwrap_or_else(|| panic!("{name}"));
            (config.value.as_deref().unwrap_or("").to_owned(), config.config_source, config.read_only)
        };
        assert_eq!(found(0, "retention.ms"), ("1000".to_owned(), 1, false));
        assert_eq!(found(0, "segment.bytes"), ("2000000".to_owned(), 4, false));
        assert_eq!(found(1, "log.segment.bytes"), ("2000000".to_owned(), 4, false));
        assert_eq!(found(1, "node.id"), ("3".to_owned(), 4, true));
        assert_eq!(found(1, "advertised.listeners").0, format!("PLAINTEXT://{}", broker.kafka));
    });
}

#[test]
fn topics_are_described_in_pages() {
    let broker = RunningBroker::start(&["--cores", "0"]);
    let mut client = Client::new(&broker);
    create(&mut client, vec![new_topic("a", 3), new_topic("b", 4), new_topic("c", 1)]);
    let mut cursor = None;
    let mut seen = Vec::new();
    for _ in 0..10 {
        let request =
            DescribeTopicPartitionsRequest { response_partition_limit: 2, cursor, ..Default::default() };
        cursor = client.call(&request, 0, |response| {
            for topic in &response.topics {
                let name = topic.name.as_deref().unwrap().to_owned();
                seen.extend(topic.partitions.iter().map(|p| (name.clone(), p.partition_index)));
            }
            response.next_cursor.map(|next| Cursor {
                topic_name: next.topic_name.into_owned().into(),
                partition_index: next.partition_index,
                ..Default::default()
            })
        });
        if cursor.is_none() {
            break;
        }
    }
    let all = [("a", 3), ("b", 4), ("c", 1)];
    let expected: Vec<_> =
        all.iter().flat_map(|(name, count)| (0..*count).map(|index| (name.to_string(), index))).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_data_directory_of_another_node_is_refused_with_both_numbers() {
    let dir = RunningBroker::start(&["--cores", "0", "--node-id", "3"]).kill();
    let output = broker_command(dir.path()).args(["--cores", "0", "--node-id", "4"]).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("belongs to node 3") && text.contains("node_id is 4"), "{text}");
}

#[test]
fn a_data_directory_that_has_lost_its_metadata_log_is_refused() {
    let dir = RunningBroker::start(&["--cores", "0"]).kill();
    std::fs::remove_file(dir.path().join("data/metadata.log")).unwrap();
    for _ in 0..2 {
        let output = broker_command(dir.path()).args(["--cores", "0"]).output().unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("metadata.log") && text.contains("missing or empty"), "{text}");
    }
}

#[test]
fn what_an_interrupted_deletion_has_left_is_removed_at_the_next_start() {
    let broker = RunningBroker::start(&["--cores", "0"]);
    let mut client = Client::new(&broker);
    create(&mut client, vec![new_topic("kept", 1), new_topic("doomed", 1)]);
    for topic in ["kept", "doomed"] {
        produce(&mut client, topic);
    }
    let (code, dir) = broker.terminate_keeping_data();
    assert_eq!(code, Some(0));
    let topics = dir.path().join("data/topics");
    let aside = dir.path().join("aside");
    copy_files(&topics.join("doomed-0"), &aside);

    let broker = RunningBroker::start_in(dir, &["--cores", "0"]);
    let doomed = DeleteTopicState { name: Some("doomed".into()), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![doomed], timeout_ms: 60_000, ..Default::default() };
    Client::new(&broker).call(&request, 6, |response| assert_eq!(response.responses[0].error_code, 0));
    assert!(!topics.join("doomed-0").exists());
    let dir = broker.kill();
    copy_files(&aside, &topics.join("doomed-0"));

    let broker = RunningBroker::start_in(dir, &["--cores", "0"]);
    assert!(!topics.join("doomed-0").exists());
    assert!(topics.join("kept-0").exists());
    broker.terminate();
}

/// Copies a directory that holds only files.
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// One record into partition 0.
fn produce(client: &mut Client, topic: &str) {
    let mut batch = BatchBuilder::new(BatchOptions::default());
    batch.append(1, None, Some(b"value"), &[]);
    let records = Some(batch.build().unwrap().into());
    let partition = PartitionProduceData { index: 0, records, ..Default::default() };
    let topic =
        TopicProduceData { name: topic.into(), partition_data: Few::one(partition), ..Default::default() };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 60_000, topic_data: Few::one(topic), ..Default::default() };
    client.call(&request, 9, |response| {
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    });
}
