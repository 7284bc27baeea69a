//! What an administrator does to a running broker: configs, partitions, records, log folders, and the rest that one node has.

mod client;
mod harness;

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use client::Client;
use harness::{DEADLINE, RunningBroker, wait_until};
use protocol::ErrorCode;
use protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use protocol::messages::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
use protocol::messages::describe_producers::{DescribeProducersRequest, TopicRequest};
use protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use protocol::messages::{alter_configs, alter_partition_reassignments, elect_leaders, update_features};
use protocol::messages::{
    describe_quorum::{DescribeQuorumRequest, PartitionQuery, TopicQuery},
    list_config_resources::ListConfigResourcesRequest,
    list_partition_reassignments::ListPartitionReassignmentsRequest,
    unregister_broker::UnregisterBrokerRequest,
};
use protocol::records::{BatchBuilder, BatchOptions};
use protocol::wire::Few;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const GROUP: i8 = 32;
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Error code and text.
type Outcome = (i16, String);

fn ok() -> Outcome {
    (0, String::new())
}

fn create(client: &mut Client, name: &'static str, partitions: i32) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: -1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    client.call(&request, 7, |response| assert_eq!(response.topics[0].error_code, 0, "{response:?}"));
}

/// One resource's configs: (name, operation, value).
fn alter(client: &mut Client, kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> Outcome {
    let configs = changes.iter().map(|(name, op, value)| AlterableConfig {
        name: (*name).into(),
        config_operation: *op,
        value: value.map(Into::into),
        ..Default::default()
    });
    let resource = AlterConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configs: configs.collect(),
        ..Default::default()
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    client.call(&request, 1, |response| {
        let row = &response.responses[0];
        (row.error_code, row.error_message.as_deref().unwrap_or_default().to_owned())
    })
}

fn set(client: &mut Client, kind: i8, name: &str, config: &str, value: &str) -> Outcome {
    alter(client, kind, name, &[(config, SET, Some(value))])
}

/// A config's value and source.
fn config(client: &mut Client, kind: i8, name: &str, config: &str) -> Option<(String, i8)> {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: Some(vec![config.into()]),
        ..Default::default()
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    client.call(&request, 4, |response| {
        let found = response.results[0].configs.first()?;
        Some((found.value.as_deref().unwrap_or("null").to_owned(), found.config_source))
    })
}

/// One batch of `count` records into partition 0, of a producer if one is given; the error code.
fn produce(client: &mut Client, topic: &str, count: usize, producer: Option<(i64, i16, i32)>) -> i16 {
    let mut options = BatchOptions::default();
    if let Some((producer_id, producer_epoch, base_sequence)) = producer {
        options = BatchOptions { producer_id, producer_epoch, base_sequence, ..options };
    }
    let mut batch = BatchBuilder::new(options);
    for n in 0..count {
        batch.append(n as i64 + 1, None, Some(&[7; 100]), &[]);
    }
    let records = Some(batch.build().expect("a batch").into());
    let partition = PartitionProduceData { index: 0, records, ..Default::default() };
    let topic =
        TopicProduceData { name: topic.into(), partition_data: Few::one(partition), ..Default::default() };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 60_000, topic_data: Few::one(topic), ..Default::default() };
    client.call(&request, 9, |response| response.responses[0].partition_responses[0].error_code)
}

fn earliest_offset(client: &mut Client, topic: &str) -> i64 {
    let partition = ListOffsetsPartition { partition_index: 0, timestamp: -2, ..Default::default() };
    let topic = ListOffsetsTopic { name: topic.into(), partitions: vec![partition], ..Default::default() };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    client.call(&request, 6, |response| response.topics[0].partitions[0].offset)
}

fn partition_count(client: &mut Client, topic: &str) -> usize {
    let topics = vec![MetadataRequestTopic { name: Some(topic.into()), ..Default::default() }];
    let request = MetadataRequest { topics: Some(topics), ..Default::default() };
    client.call(&request, 9, |response| response.topics[0].partitions.len())
}

#[test]
fn a_dynamic_default_takes_effect_on_every_topic_at_once_and_survives_kill_9() {
    let flags = ["--cores", "0-1", "--set", "message.max.bytes=5000"];
    let broker = RunningBroker::start(&flags);
    let mut client = Client::new(&broker);
    create(&mut client, "t", 2);
    create(&mut client, "own", 2);
    assert_eq!(set(&mut client, TOPIC, "own", "max.message.bytes", "4000"), ok());
    assert_eq!(produce(&mut client, "t", 10, None), 0);
    let name = "message.max.bytes";
    let of_topic = |client: &mut Client, topic: &str| config(client, TOPIC, topic, "max.message.bytes");
    let text = |value: &str, source: i8| Some((value.to_owned(), source));
    assert_eq!(of_topic(&mut client, "t"), text("5000", 4));

    assert_eq!(set(&mut client, BROKER, "", name, "900"), ok());
    assert_eq!(of_topic(&mut client, "t"), text("900", 3));
    let too_large = ErrorCode::MESSAGE_TOO_LARGE.code();
    assert_eq!(produce(&mut client, "t", 10, None), too_large);
    assert_eq!(produce(&mut client, "own", 10, None), 0, "the topic's own value is not touched");

    assert_eq!(set(&mut client, BROKER, "1", name, "2000"), ok());
    assert_eq!(of_topic(&mut client, "t"), text("2000", 2));
    assert_eq!(produce(&mut client, "t", 10, None), 0);
    assert_eq!(produce(&mut client, "t", 30, None), too_large);

    let broker = RunningBroker::start_in(broker.kill(), &flags);
    let mut client = Client::new(&broker);
    assert_eq!(config(&mut client, BROKER, "1", name), text("2000", 2));
    assert_eq!(config(&mut client, BROKER, "", name), text("900", 3));
    assert_eq!(produce(&mut client, "t", 30, None), too_large);
    create(&mut client, "new", 1);
    assert_eq!(produce(&mut client, "new", 30, None), too_large, "new topics have it too");

    for broker in ["1", ""] {
        assert_eq!(alter(&mut client, BROKER, broker, &[(name, DELETE, None)]), ok());
    }
    assert_eq!(of_topic(&mut client, "t"), text("5000", 4));
    assert_eq!(produce(&mut client, "t", 30, None), 0);
}

#[test]
fn the_number_of_connections_can_be_limited_while_clients_are_connected() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut client = Client::new(&broker);
    create(&mut client, "t", 1);
    assert_eq!(set(&mut client, BROKER, "", "max.connections", "1"), ok());
    let metadata = |client: &mut Client| {
        let frame = protocol::frame::encode_request(1, None, &MetadataRequest::default(), 9);
        client.call_raw(&frame.expect("encodable").concat())
    };
    // The kernel takes the connection before the broker closes it.
    let mut refused = TcpStream::connect(broker.kafka).expect("the kernel takes it");
    refused.set_read_timeout(Some(DEADLINE)).expect("a valid time-out");
    match refused.read(&mut [0]) {
        Ok(bytes) => assert_eq!(bytes, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert!(metadata(&mut client).is_some(), "open connections stay");
    assert_eq!(alter(&mut client, BROKER, "", &[("max.connections", DELETE, None)]), ok());
    assert!(metadata(&mut Client::new(&broker)).is_some());
}

#[test]
fn compaction_takes_new_settings_while_it_waits() {
    let flags = ["--cores", "0", "--set", "log_cleaner_backoff_ms=3600000"];
    let broker = RunningBroker::start(&flags);
    let mut client = Client::new(&broker);
    create(&mut client, "t", 1);
    assert_eq!(produce(&mut client, "t", 3, None), 0);
    assert_eq!(set(&mut client, TOPIC, "t", "cleanup.policy", "compact"), ok());
    assert_eq!(set(&mut client, TOPIC, "t", "max.compaction.lag.ms", "1"), ok());
    let (_, dir) = broker.terminate_keeping_data();
    let broker = RunningBroker::start_in(dir, &flags);
    let mut client = Client::new(&broker);
    let runs = || broker.metric("broker_cleaner_runs_total");
    assert_eq!(runs(), 0.0, "the pause before the first look is an hour");
    assert_eq!(set(&mut client, BROKER, "", "log.cleaner.threads", "3"), ok());
    assert_eq!(set(&mut client, BROKER, "", "log.cleaner.io.max.bytes.per.second", "1e9"), ok());
    assert_eq!(set(&mut client, BROKER, "", "log.cleaner.backoff.ms", "10"), ok());
    wait_until(|| runs() >= 1.0);
    for (config, value) in [("log.cleaner.threads", "0"), ("log.cleaner.io.max.bytes.per.second", "0.5")] {
        let text = format!("Invalid value {value} for configuration {config}: Value must be at least 1");
        assert_eq!(set(&mut client, BROKER, "", config, value), (ErrorCode::INVALID_REQUEST.code(), text));
    }
}

#[test]
fn configs_that_cannot_be_changed_are_refused_in_kafkas_words() {
    let broker = RunningBroker::start(&["--cores", "0"]);
    let mut client = Client::new(&broker);
    create(&mut client, "t", 1);
    let invalid_config = |text: &str| (ErrorCode::INVALID_CONFIG.code(), text.to_owned());
    let invalid_request = |text: &str| (ErrorCode::INVALID_REQUEST.code(), text.to_owned());
    for (kind, name, config, value, expected) in [
        (TOPIC, "t", "no.such", "1", invalid_config("Unknown topic config name: no.such")),
        (
            TOPIC,
            "t",
            "retention.ms",
            "soon",
            invalid_config("Invalid value soon for configuration retention.ms: Not a number of type LONG"),
        ),
        (
            TOPIC,
            "missing",
            "retention.ms",
            "1",
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code(), "The topic 'missing' does not exist.".to_owned()),
        ),
        (TOPIC, "", "retention.ms", "1", invalid_request("Default topic resources are not allowed.")),
        (
            BROKER,
            "1",
            "num.partitions",
            "2",
            invalid_request("Cannot update these configs dynamically: Set(num.partitions)"),
        ),
        (
            BROKER,
            "",
            "log.retention.hours",
            "2",
            invalid_request("Cannot update these configs dynamically: Set(log.retention.hours)"),
        ),
        (
            BROKER,
            "",
            "log.segment.bytes",
            "10",
            invalid_request(
                "Invalid value 10 for configuration log.segment.bytes: Value must be at least 1048576",
            ),
        ),
        (
            BROKER,
            "7",
            "log.retention.ms",
            "1",
            invalid_request("Unexpected broker id, expected 1, but received 7"),
        ),
        (BROKER, "x", "log.retention.ms", "1", invalid_request("Node id must be an integer, but it is: x")),
        (GROUP, "g", "no.such", "1", invalid_config("Unknown group config name: no.such")),
        (
            GROUP,
            "",
            "consumer.session.timeout.ms",
            "50000",
            invalid_request("Default group resources are not allowed."),
        ),
        (16, "m", "interval.ms", "1", invalid_request("Unknown resource type 16")),
        (3, "t", "retention.ms", "1", invalid_request("Unknown resource type 3")),
    ] {
        assert_eq!(set(&mut client, kind, name, config, value), expected, "{kind} {name} {config}");
    }
    let twice = [("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)];
    assert_eq!(alter(&mut client, TOPIC, "t", &twice), invalid_request("Error due to duplicate config keys"));
    assert_eq!(
        alter(&mut client, TOPIC, "t", &[("retention.ms", 2, Some("1"))]),
        invalid_config("Can't APPEND to key retention.ms because its type is not LIST.")
    );
    assert_eq!(config(&mut client, TOPIC, "t", "retention.ms"), Some(("604800000".to_owned(), 5)));
}

#[test]
fn lists_grow_and_shrink_and_the_old_request_replaces_everything() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut client = Client::new(&broker);
    create(&mut client, "t", 1);
    let policy = "cleanup.policy";
    assert_eq!(alter(&mut client, TOPIC, "t", &[(policy, 2, Some("compact"))]), ok());
    assert_eq!(config(&mut client, TOPIC, "t", policy), Some(("delete,compact".to_owned(), 1)));
    assert_eq!(alter(&mut client, TOPIC, "t", &[(policy, 3, Some("delete"))]), ok());
    assert_eq!(config(&mut client, TOPIC, "t", policy), Some(("compact".to_owned(), 1)));

    let entry = alter_configs::AlterableConfig {
        name: "segment.ms".into(),
        value: Some("60000".into()),
        ..Default::default()
    };
    let resource = alter_configs::AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: "t".into(),
        configs: vec![entry],
        ..Default::default()
    };
    let request = alter_configs::AlterConfigsRequest { resources: vec![resource], ..Default::default() };
    client.call(&request, 2, |response| assert_eq!(response.responses[0].error_code, 0));
    assert_eq!(config(&mut client, TOPIC, "t", "segment.ms"), Some(("60000".to_owned(), 1)));
    assert_eq!(config(&mut client, TOPIC, "t", policy), Some(("delete".to_owned(), 5)));
}

#[test]
fn loggers_change_their_levels_while_the_broker_runs() {
    let broker = RunningBroker::start(&["--cores", "0-1", "--log", "warn,broker::net=error"]);
    let mut client = Client::new(&broker);
    let level = |client: &mut Client, logger: &str| config(client, LOGGER, "1", logger);
    let text = |level: &str| Some((level.to_owned(), 6));
    assert_eq!(level(&mut client, "root"), text("WARN"));
    assert_eq!(level(&mut client, "broker::net"), text("ERROR"));
    assert_eq!(level(&mut client, "storage"), None);
    assert_eq!(set(&mut client, LOGGER, "1", "storage", "INFO"), ok());
    assert_eq!(level(&mut Client::new(&broker), "storage"), text("INFO"));
    assert_eq!(alter(&mut client, LOGGER, "1", &[("storage", DELETE, None)]), ok());
    assert_eq!(level(&mut client, "storage"), None);
    let refused = (ErrorCode::INVALID_CONFIG.code(), "Logger kafka.log does not exist!".to_owned());
    assert_eq!(set(&mut client, LOGGER, "1", "kafka.log", "INFO"), refused);
}

#[test]
fn configs_of_groups_are_kept_and_listed() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut client = Client::new(&broker);
    create(&mut client, "t", 1);
    assert_eq!(set(&mut client, GROUP, "g", "consumer.session.timeout.ms", "50000"), ok());
    let list = |client: &mut Client, kinds: &[i8]| {
        let request = ListConfigResourcesRequest { resource_types: kinds.to_vec(), ..Default::default() };
        client.call(&request, 1, |response| {
            let rows = response.config_resources.iter();
            let rows = rows.map(|row| (row.resource_type, row.resource_name.to_string())).collect::<Vec<_>>();
            (response.error_code, rows)
        })
    };
    let row = |kind: i8, name: &str| (kind, name.to_owned());
    assert_eq!(
        list(&mut client, &[]),
        (0, vec![row(TOPIC, "t"), row(BROKER, "1"), row(LOGGER, "1"), row(GROUP, "g")])
    );
    assert_eq!(list(&mut client, &[GROUP]), (0, vec![row(GROUP, "g")]));
    assert_eq!(list(&mut client, &[3]), (ErrorCode::UNSUPPORTED_VERSION.code(), vec![]));
    let broker = RunningBroker::start_in(broker.kill(), &["--cores", "0"]);
    let mut client = Client::new(&broker);
    let session = "consumer.session.timeout.ms";
    assert_eq!(config(&mut client, GROUP, "g", session), Some(("50000".to_owned(), 8)));
    assert_eq!(config(&mut client, GROUP, "other", session), Some(("45000".to_owned(), 5)));
}

#[test]
fn a_topic_grows_and_its_new_partitions_take_records_at_once() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut client = Client::new(&broker);
    create(&mut client, "t", 2);
    let grow = |client: &mut Client, topics: &[(&'static str, i32)], validate_only: bool| {
        let topics = topics.iter().map(|(name, count)| CreatePartitionsTopic {
            name: (*name).into(),
            count: *count,
            assignments: None,
            ..Default::default()
        });
        let request = CreatePartitionsRequest {
            topics: topics.collect(),
            validate_only,
            timeout_ms: 60_000,
            ..Default::default()
        };
        client.call(&request, 3, |response| {
            let rows = response.results.iter();
            rows.map(|row| (row.error_code, row.error_message.as_deref().unwrap_or_default().to_owned()))
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(grow(&mut client, &[("t", 5)], true), [ok()]);
    assert_eq!(partition_count(&mut client, "t"), 2);
    assert_eq!(grow(&mut client, &[("t", 5)], false), [ok()]);
    assert_eq!(partition_count(&mut client, "t"), 5);
    let batch = {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        batch.append(1, None, Some(b"value"), &[]);
        batch.build().expect("a batch")
    };
    let partitions = (0..5).map(|index| PartitionProduceData {
        index,
        records: Some(batch.clone().into()),
        ..Default::default()
    });
    let topic_data = Few::one(TopicProduceData {
        name: "t".into(),
        partition_data: partitions.collect(),
        ..Default::default()
    });
    let request = ProduceRequest { acks: -1, timeout_ms: 60_000, topic_data, ..Default::default() };
    for _ in 0..4 {
        // Connections go to any shard.
        Client::new(&broker).call(&request, 9, |response| {
            assert!(response.responses[0].partition_responses.iter().all(|row| row.error_code == 0));
        });
    }
    let invalid = |text: &str| (ErrorCode::INVALID_PARTITIONS.code(), text.to_owned());
    assert_eq!(
        grow(&mut client, &[("t", 5), ("missing", 3)], false),
        [
            invalid("Topic already has 5 partition(s)."),
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code(), String::new())
        ]
    );
    assert_eq!(
        grow(&mut client, &[("t", 4)], false),
        [invalid("The topic t currently has 5 partition(s); 4 would not be an increase.")]
    );
    assert_eq!(
        grow(&mut client, &[("t", 6), ("t", 7)], false),
        [(ErrorCode::INVALID_REQUEST.code(), "Duplicate topic name.".to_owned())]
    );
    let broker = RunningBroker::start_in(broker.kill(), &["--cores", "0"]);
    assert_eq!(partition_count(&mut Client::new(&broker), "t"), 5);
}

/// (partition, offset) of one topic; the new log start and error of each.
fn delete_records(client: &mut Client, topic: &'static str, wanted: &[(i32, i64)]) -> Vec<(i64, i16)> {
    let partitions = wanted.iter().map(|(partition_index, offset)| DeleteRecordsPartition {
        partition_index: *partition_index,
        offset: *offset,
        ..Default::default()
    });
    let topic =
        DeleteRecordsTopic { name: topic.into(), partitions: partitions.collect(), ..Default::default() };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 60_000, ..Default::default() };
    client.call(&request, 2, |response| {
        let rows = response.topics[0].partitions.iter();
        rows.map(|row| (row.low_watermark, row.error_code)).collect()
    })
}

#[test]
fn deleted_records_stay_deleted_after_kill_9() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut client = Client::new(&broker);
    create(&mut client, "t", 1);
    for _ in 0..3 {
        assert_eq!(produce(&mut client, "t", 10, None), 0);
    }
    assert_eq!(delete_records(&mut client, "t", &[(0, 12)]), [(12, 0)]);
    assert_eq!(delete_records(&mut client, "t", &[(0, 3)]), [(12, 0)], "the start never moves back");
    let out_of_range = ErrorCode::OFFSET_OUT_OF_RANGE.code();
    assert_eq!(delete_records(&mut client, "t", &[(0, 31)]), [(-1, out_of_range)]);
    assert_eq!(delete_records(&mut client, "t", &[(0, -5)]), [(-1, out_of_range)]);
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code();
    assert_eq!(delete_records(&mut client, "t", &[(0, 0), (7, 0)]), [(12, 0), (-1, unknown)]);
    assert_eq!(delete_records(&mut client, "missing", &[(0, 0)]), [(-1, unknown)]);

    let broker = RunningBroker::start_in(broker.kill(), &["--cores", "0"]);
    let mut client = Client::new(&broker);
    assert_eq!(earliest_offset(&mut client, "t"), 12);
    assert_eq!(delete_records(&mut client, "t", &[(0, -1)]), [(30, 0)], "-1 is the high watermark");
    assert_eq!(earliest_offset(&mut client, "t"), 30);
    assert_eq!(set(&mut client, TOPIC, "t", "cleanup.policy", "compact"), ok());
    let refused = ErrorCode::POLICY_VIOLATION.code();
    assert_eq!(delete_records(&mut client, "t", &[(0, -1)]), [(-1, refused)]);
}

#[test]
fn log_folders_have_the_sizes_of_all_shards_and_of_the_file_system() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut client = Client::new(&broker);
    create(&mut client, "a", 3);
    create(&mut client, "b", 1);
    assert_eq!(produce(&mut client, "a", 10, None), 0);
    let ask = |client: &mut Client, topics: Option<Vec<DescribableLogDirTopic<'static>>>| {
        let request = DescribeLogDirsRequest { topics, ..Default::default() };
        client.call(&request, 4, |response| {
            let [dir] = &response.results[..] else { panic!("one folder") };
            assert_eq!((response.error_code, dir.error_code), (0, 0));
            assert!(
                dir.log_dir.starts_with('/') && dir.total_bytes > dir.usable_bytes && dir.usable_bytes > 0
            );
            let topics = dir.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|p| (topic.name.to_string(), p.partition_index, p.partition_size))
            });
            topics.collect::<Vec<_>>()
        })
    };
    let all = ask(&mut client, None);
    let sizes: Vec<_> = all.iter().map(|(name, index, size)| (name.as_str(), *index, *size > 1000)).collect();
    assert_eq!(sizes, [("a", 0, true), ("a", 1, false), ("a", 2, false), ("b", 0, false)]);
    let some = vec![
        DescribableLogDirTopic { topic: "a".into(), partitions: vec![0, 9], ..Default::default() },
        DescribableLogDirTopic { topic: "missing".into(), partitions: vec![0], ..Default::default() },
    ];
    assert_eq!(ask(&mut client, Some(some)), all[..1]);
    assert_eq!(ask(&mut client, Some(vec![])), []);
}

#[test]
fn producers_are_described_with_their_last_sequence_number() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut client = Client::new(&broker);
    create(&mut client, "t", 1);
    assert_eq!(produce(&mut client, "t", 5, Some((4711, 2, 0))), 0);
    assert_eq!(produce(&mut client, "t", 3, Some((4711, 2, 5))), 0);
    assert_eq!(produce(&mut client, "t", 3, None), 0);
    let topic = |name: &'static str, partitions: &[i32]| TopicRequest {
        name: name.into(),
        partition_indexes: partitions.to_vec(),
        ..Default::default()
    };
    let request = DescribeProducersRequest {
        topics: vec![topic("t", &[0, 1]), topic("bad name", &[0])],
        ..Default::default()
    };
    client.call(&request, 0, |response| {
        let [of_t, bad] = &response.topics[..] else { panic!("two topics") };
        let known: Vec<_> = of_t.partitions[0]
            .active_producers
            .iter()
            .map(|p| (p.producer_id, p.producer_epoch, p.last_sequence, p.last_timestamp))
            .collect();
        assert_eq!(known, [(4711, 2, 7, 3)]);
        assert_eq!(of_t.partitions[1].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code());
        assert_eq!(bad.partitions[0].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION.code());
    });
}

#[test]
fn one_node_elects_moves_and_forgets_nothing() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut client = Client::new(&broker);
    create(&mut client, "t", 2);
    let wanted =
        elect_leaders::TopicPartitions { topic: "t".into(), partitions: vec![0, 9], ..Default::default() };
    let request = elect_leaders::ElectLeadersRequest {
        topic_partitions: Some(vec![wanted]),
        timeout_ms: 60_000,
        ..Default::default()
    };
    for version in 0..=2 {
        client.call(&request, version, |response| {
            let rows = response.replica_election_results[0].partition_result.iter();
            let rows: Vec<_> = rows.map(|row| ErrorCode(row.error_code)).collect();
            assert_eq!(rows, [ErrorCode::ELECTION_NOT_NEEDED, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
        });
    }
    let move_to =
        |index: i32, replicas: Option<Vec<i32>>| alter_partition_reassignments::ReassignablePartition {
            partition_index: index,
            replicas,
            ..Default::default()
        };
    let topic = alter_partition_reassignments::ReassignableTopic {
        name: "t".into(),
        partitions: vec![move_to(0, Some(vec![1])), move_to(1, Some(vec![2])), move_to(0, None)],
        ..Default::default()
    };
    let request = alter_partition_reassignments::AlterPartitionReassignmentsRequest {
        topics: vec![topic],
        ..Default::default()
    };
    client.call(&request, 1, |response| {
        let rows = response.responses[0].partitions.iter();
        let rows: Vec<_> = rows.map(|row| ErrorCode(row.error_code)).collect();
        let expected =
            [ErrorCode::NONE, ErrorCode::INVALID_REPLICA_ASSIGNMENT, ErrorCode::NO_REASSIGNMENT_IN_PROGRESS];
        assert_eq!(rows, expected);
    });
    client.call(&ListPartitionReassignmentsRequest::default(), 0, |response| {
        assert_eq!((response.error_code, response.topics.len()), (0, 0));
    });
    for (broker_id, expected) in [(1, ErrorCode::INVALID_REQUEST), (7, ErrorCode::BROKER_ID_NOT_REGISTERED)] {
        let request = UnregisterBrokerRequest { broker_id, ..Default::default() };
        client.call(&request, 0, |response| assert_eq!(ErrorCode(response.error_code), expected));
    }
    let partitions = vec![PartitionQuery { partition_index: 0, ..Default::default() }];
    let topic = TopicQuery { topic_name: "__cluster_metadata".into(), partitions, ..Default::default() };
    let request = DescribeQuorumRequest { topics: vec![topic], ..Default::default() };
    for version in 0..=2 {
        client.call(&request, version, |response| {
            let quorum = &response.topics[0].partitions[0];
            assert_eq!((response.error_code, quorum.error_code, quorum.leader_id), (0, 0, 1));
            assert_eq!(quorum.current_voters[0].log_end_offset, quorum.high_watermark);
        });
    }
}

#[test]
fn a_features_level_is_told_and_changed() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut client = Client::new(&broker);
    let level = |client: &mut Client| {
        let request = protocol::messages::api_versions::ApiVersionsRequest {
            client_software_name: "test".into(),
            client_software_version: "1".into(),
            ..Default::default()
        };
        client.call(&request, 4, |response| {
            let supported = response.supported_features.iter().find(|f| f.name == "group.version");
            assert_eq!(supported.map(|f| (f.min_version, f.max_version)), Some((0, 1)));
            let finalized = response.finalized_features.iter().find(|f| f.name == "group.version");
            finalized.map(|f| f.max_version_level)
        })
    };
    let update = |client: &mut Client, feature: &'static str, level: i16, upgrade_type: i8| {
        let update = update_features::FeatureUpdateKey {
            feature: feature.into(),
            max_version_level: level,
            upgrade_type,
            ..Default::default()
        };
        let request =
            update_features::UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
        client.call(&request, 2, |response| ErrorCode(response.error_code))
    };
    assert_eq!(level(&mut client), Some(1), "a new cluster has the highest level");
    let invalid = ErrorCode::INVALID_UPDATE_VERSION;
    assert_eq!(update(&mut client, "group.version", 0, 1), invalid);
    assert_eq!(update(&mut client, "group.version", 2, 1), invalid);
    assert_eq!(update(&mut client, "no.such", 1, 1), invalid);
    assert_eq!(update(&mut client, "group.version", 0, 2), ErrorCode::NONE);
    assert_eq!(level(&mut client), None);
    let broker = RunningBroker::start_in(broker.kill(), &["--cores", "0"]);
    let mut client = Client::new(&broker);
    assert_eq!(level(&mut client), None, "it stays off");
    assert_eq!(update(&mut client, "group.version", 1, 1), ErrorCode::NONE);
    assert_eq!(level(&mut client), Some(1));
}

#[test]
fn a_topic_that_is_deleted_and_created_again_at_once_is_empty() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut client = Client::new(&broker);
    let mut deleter = Client::new(&broker);
    for round in 0..10 {
        create(&mut client, "t", 2);
        assert_eq!(produce(&mut client, "t", 10, None), 0);
        let state = protocol::messages::delete_topics::DeleteTopicState {
            name: Some("t".into()),
            ..Default::default()
        };
        let request = protocol::messages::delete_topics::DeleteTopicsRequest {
            topics: vec![state],
            timeout_ms: 60_000,
            ..Default::default()
        };
        deleter.call(&request, 6, |response| assert_eq!(response.responses[0].error_code, 0, "{round}"));
    }
    create(&mut client, "t", 2);
    assert_eq!(earliest_offset(&mut client, "t"), 0);
    assert_eq!(produce(&mut client, "t", 1, None), 0);
}
