//! Nodes that are controllers only: they keep the metadata for brokers that do not vote, and have little to say to clients.

mod client;
mod harness;

use std::collections::BTreeMap;

use client::Client;
use harness::brokerctl::{brokerctl, json, numbers, quorum, try_brokerctl};
use harness::cluster::RunningCluster;
use harness::{RunningBroker, wait_until};
use protocol::frame::encode_request;
use protocol::messages::api_versions::ApiVersionsRequest;
use protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use protocol::messages::describe_cluster::DescribeClusterRequest;
use protocol::messages::metadata::MetadataRequest;
use protocol::{ApiKey, ErrorCode};
use serde_json::Value;

/// Quick enough for a test, slow enough for a loaded machine.
const SETTINGS: [&str; 7] = [
    "broker_session_timeout_ms=6000",
    "controller_quorum_election_timeout_ms=1000",
    "offsets_topic_num_partitions=3",
    "offsets_topic_replication_factor=2",
    "journal_file_bytes=4MiB",
    "low_space_bytes=1MiB",
    "replica_slow_time_max_ms=10000",
];

/// Brokers by their ids.
type Brokers = BTreeMap<i64, RunningBroker>;

/// Brokers that do not vote, and take part.
fn join_brokers(cluster: &RunningCluster, ids: std::ops::RangeInclusive<i64>) -> Brokers {
    let brokers: Brokers = ids.map(|id| (id, cluster.join(id as i32, &[]))).collect();
    for broker in brokers.values() {
        wait_until(|| ids_in_metadata(broker).iter().eq(brokers.keys()));
    }
    brokers
}

/// The brokers that Metadata tells clients of.
fn ids_in_metadata(broker: &RunningBroker) -> Vec<i64> {
    let request = MetadataRequest { topics: None, ..Default::default() };
    Client::new(broker).call(&request, 12, |response| {
        response.brokers.iter().map(|broker| i64::from(broker.node_id)).collect()
    })
}

fn ids(list: &Value) -> Vec<i64> {
    list.as_array().expect("a list").iter().filter_map(Value::as_i64).collect()
}

/// Leader, replicas and in-sync replicas of each partition.
fn partitions(broker: &RunningBroker, topic: &str) -> Vec<(i64, Vec<i64>, Vec<i64>)> {
    let described = json(broker, &format!("topic describe {topic}"));
    let partitions = described["partitions"].as_array().expect("a list").iter();
    partitions
        .map(|found| {
            let leader = found["leader"].as_i64().unwrap_or(-1);
            (leader, ids(&found["replicas"]), ids(&found["in_sync_replicas"]))
        })
        .collect()
}

/// Everything that a topic holds, in order.
fn read(broker: &RunningBroker, topic: &str) -> Vec<u32> {
    let text = brokerctl(broker, &format!("consume {topic}"), "");
    let mut values: Vec<u32> = text.lines().map(|line| line.parse().expect("a number")).collect();
    values.sort_unstable();
    values
}

#[test]
fn brokers_serve_what_controllers_decide_and_survive_the_loss_of_a_leader_and_of_the_active_controller() {
    let mut cluster = RunningCluster::start_controllers(3, &SETTINGS);
    let mut brokers = join_brokers(&cluster, 4..=6);
    let through = &brokers[&4];
    brokerctl(through, "topic create orders --partitions 6 --replication-factor 2", "");
    brokerctl(through, "produce orders", &numbers(1..=600));
    brokerctl(through, "consume orders --group billing --count 100", "");
    assert_eq!(read(&brokers[&5], "orders"), (1..=600).collect::<Vec<u32>>());
    for (leader, replicas, _) in partitions(through, "orders") {
        assert!(replicas.len() == 2 && replicas.iter().all(|id| brokers.contains_key(id)), "{replicas:?}");
        assert!(replicas.contains(&leader));
    }
    let shown = json(through, "cluster");
    let members = shown["quorum"]["members"].as_array().expect("a list");
    let voters: Vec<i64> = members
        .iter()
        .filter(|member| member["voter"] == true)
        .filter_map(|member| member["id"].as_i64())
        .collect();
    assert_eq!(voters, [1, 2, 3], "{shown}");
    for id in 1..=3 {
        assert_eq!(cluster.node(id).metric("kafka_server_replicamanager_partition_count"), 0.0);
    }

    // A leader dies: it is fenced, and others lead.
    let (killed, ..) = partitions(through, "orders")[0];
    let folder = brokers.remove(&killed).expect("it runs").kill();
    let alive: Vec<i64> = brokers.keys().copied().collect();
    let through = &brokers[&alive[0]];
    wait_until(|| ids_in_metadata(through) == alive);
    wait_until(|| partitions(through, "orders").iter().all(|(leader, ..)| alive.contains(leader)));
    let of_controllers =
        |name: &str| cluster.running().iter().map(|id| cluster.node(*id).metric(name)).sum::<f64>();
    assert_eq!(of_controllers("kafka_controller_fenced_broker_count"), 3.0, "each of three sees one");
    brokerctl(through, "produce orders", &numbers(601..=700));
    assert_eq!(read(through, "orders"), (1..=700).collect::<Vec<u32>>());

    // The active controller dies: another one takes over, and lets the broker back in.
    let active = json(through, "cluster")["quorum"]["leader"].as_u64().expect("there is one") as usize;
    assert!((1..=3).contains(&active));
    cluster.kill(active);
    brokerctl(through, "topic create after --partitions 2 --replication-factor 2", "");
    brokers.insert(killed, cluster.join_in(folder, killed as i32, &[]));
    let through = &brokers[&alive[0]];
    wait_until(|| {
        partitions(through, "orders").iter().all(|(_, replicas, in_sync)| replicas.len() == in_sync.len())
    });
    cluster.restart(active);
    assert_eq!(read(&brokers[&killed], "orders"), (1..=700).collect::<Vec<u32>>());
    assert_eq!(json(through, "group describe billing")["lag"], 600);
}

#[test]
fn one_controller_may_be_away_while_brokers_go_on_and_stops_in_good_order() {
    let mut cluster = RunningCluster::start_controllers(1, &SETTINGS);
    let brokers = join_brokers(&cluster, 2..=3);
    let through = &brokers[&2];
    brokerctl(through, "topic create orders --partitions 2 --replication-factor 2", "");
    assert_eq!(cluster.terminate(1), Some(0));
    // Nothing about the cluster changes now; what it has goes on.
    brokerctl(through, "produce orders", &numbers(1..=50));
    assert_eq!(read(&brokers[&3], "orders"), (1..=50).collect::<Vec<u32>>());
    cluster.restart(1);
    wait_until(|| cluster.node(1).metric("kafka_controller_active_broker_count") == 2.0);
    brokerctl(through, "topic create after --partitions 2 --replication-factor 2", "");
    brokerctl(&brokers[&3], "produce after", &numbers(1..=10));
    assert_eq!(read(through, "after").len(), 10);
    for (_, broker) in brokers {
        assert_eq!(broker.terminate(), Some(0));
    }
    assert_eq!(cluster.terminate(1), Some(0));
}

#[test]
fn clients_of_a_controller_may_administer_the_cluster_and_are_not_taken_for_producers_or_consumers() {
    let cluster = RunningCluster::start_controllers(1, &SETTINGS);
    let brokers = join_brokers(&cluster, 2..=3);
    let controller = cluster.node(1);
    let keys: Vec<i16> = Client::new(controller).call(&ApiVersionsRequest::default(), 0, |response| {
        assert_eq!(ErrorCode(response.error_code), ErrorCode::NONE);
        response.api_keys.iter().map(|row| row.api_key).collect()
    });
    let serves = |key: ApiKey| keys.contains(&(key as i16));
    for key in [ApiKey::ApiVersions, ApiKey::DescribeCluster, ApiKey::CreateTopics, ApiKey::DescribeQuorum] {
        assert!(serves(key), "{}", key.name());
    }
    for key in [ApiKey::Metadata, ApiKey::Produce, ApiKey::Fetch, ApiKey::FindCoordinator] {
        assert!(!serves(key), "{}", key.name());
    }
    let request = MetadataRequest { topics: None, ..Default::default() };
    let frame = encode_request(1, Some("test"), &request, 12).expect("encodable").concat();
    assert!(Client::new(controller).call_raw(&frame).is_none(), "as by Kafka, the connection is closed");

    let describe = |node: &RunningBroker, endpoint_type| {
        let request = DescribeClusterRequest { endpoint_type, ..Default::default() };
        Client::new(node).call(&request, 1, |response| {
            let nodes = response.brokers.iter().map(|row| (row.broker_id, row.port));
            (ErrorCode(response.error_code), nodes.collect::<Vec<_>>(), response.controller_id)
        })
    };
    let own = (1, i32::from(controller.kafka.port()));
    assert_eq!(describe(controller, 2), (ErrorCode::NONE, vec![own], 1));
    assert_eq!(describe(controller, 1).0, ErrorCode::MISMATCHED_ENDPOINT_TYPE);
    assert_eq!(describe(&brokers[&2], 2).0, ErrorCode::MISMATCHED_ENDPOINT_TYPE);

    let topic = CreatableTopic {
        name: "made-through-the-controller".into(),
        num_partitions: 2,
        replication_factor: 2,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let error =
        Client::new(controller).call(&request, 7, |response| ErrorCode(response.topics[0].error_code));
    assert_eq!(error, ErrorCode::NONE);
    let described = || try_brokerctl(&brokers[&3], "topic describe made-through-the-controller", "");
    wait_until(|| described().is_ok());
}

#[test]
fn a_controller_that_joins_follows_first_and_votes_in_the_place_of_another_one() {
    let mut cluster = RunningCluster::start_controllers(3, &SETTINGS);
    let brokers = join_brokers(&cluster, 5..=5);
    let through = &brokers[&5];
    brokerctl(through, "topic create before", "");
    let fourth = cluster.join_as_controller(4);
    wait_until(|| quorum(through) == (vec![1, 2, 3], vec![4, 5]));
    brokerctl(through, "quorum add 4", "");
    assert_eq!(quorum(through), (vec![1, 2, 3, 4], vec![5]));
    let leader = json(through, "cluster")["quorum"]["leader"].as_u64().expect("there is one");
    let leaving = usize::try_from(leader % 3 + 1).expect("small");
    assert_eq!(cluster.terminate(leaving), Some(0));
    wait_until(|| try_brokerctl(through, &format!("quorum remove {leaving}"), "").is_ok());
    let left: Vec<i64> = (1..=4).filter(|id| *id != leaving as i64).collect();
    assert_eq!(quorum(through).0, left);
    // Its vote is needed now.
    let another = cluster.running()[0];
    cluster.kill(another);
    brokerctl(through, "topic create after", "");
    wait_until(|| fourth.metric("kafka_controller_global_topic_count") == 2.0);
    assert_eq!(fourth.terminate(), Some(0));
}
