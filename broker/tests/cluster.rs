//! Three brokers that are one cluster, as clients and operators see them.

mod client;
mod harness;

use std::collections::BTreeSet;

use client::Client;
use harness::cluster::RunningCluster;
use harness::{RunningBroker, wait_until};
use protocol::ErrorCode;
use protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use protocol::messages::describe_cluster::DescribeClusterRequest;
use protocol::messages::describe_quorum::{DescribeQuorumRequest, PartitionQuery, TopicQuery};
use protocol::messages::init_producer_id::InitProducerIdRequest;
use protocol::messages::metadata::MetadataRequest;

/// Quick enough for a test, slow enough for a loaded machine.
const SETTINGS: [&str; 2] = ["broker_session_timeout_ms=6000", "controller_quorum_election_timeout_ms=1000"];

fn create(broker: &RunningBroker, name: &str, partitions: i32, replication_factor: i16) -> ErrorCode {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    Client::new(broker).call(&request, 7, |response| ErrorCode(response.topics[0].error_code))
}

/// The leaders of a topic's partitions, as a broker tells them; empty if it does not know the topic.
fn leaders(broker: &RunningBroker, topic: &str) -> Vec<i32> {
    let request = MetadataRequest { topics: None, ..Default::default() };
    Client::new(broker).call(&request, 12, |response| {
        let found = response.topics.iter().find(|found| found.name.as_deref() == Some(topic));
        found.map_or(Vec::new(), |found| {
            found.partitions.iter().map(|partition| partition.leader_id).collect()
        })
    })
}

/// The brokers that take part, and the controller.
fn brokers(broker: &RunningBroker) -> (Vec<i32>, i32) {
    let request = DescribeClusterRequest { endpoint_type: 1, ..Default::default() };
    Client::new(broker).call(&request, 1, |response| {
        (response.brokers.iter().map(|broker| broker.broker_id).collect(), response.controller_id)
    })
}

/// The leader of the metadata quorum, and its voters.
fn quorum(broker: &RunningBroker) -> (i32, Vec<i32>) {
    let topic = TopicQuery {
        topic_name: "__cluster_metadata".into(),
        partitions: vec![PartitionQuery::default()],
        ..Default::default()
    };
    let request = DescribeQuorumRequest { topics: vec![topic], ..Default::default() };
    Client::new(broker).call(&request, 2, |response| {
        let partition = &response.topics[0].partitions[0];
        let mut voters: Vec<i32> = partition.current_voters.iter().map(|voter| voter.replica_id).collect();
        voters.sort_unstable();
        (partition.leader_id, voters)
    })
}

fn wait_for_brokers(cluster: &RunningCluster, expected: &[i32]) {
    cluster.wait_everywhere(|broker| brokers(broker).0 == expected);
}

#[test]
fn three_nodes_are_one_cluster_that_survives_the_loss_of_its_controller() {
    let mut cluster = RunningCluster::start(3, &SETTINGS);
    wait_for_brokers(&cluster, &[1, 2, 3]);
    for id in 1..=3 {
        let name = format!("made-through-{id}");
        assert_eq!(create(cluster.node(id), &name, 6, 1), ErrorCode::NONE);
        // Whoever has made it there finds it there at once, the others soon.
        assert_eq!(leaders(cluster.node(id), &name).len(), 6);
        cluster.wait_everywhere(|broker| leaders(broker, &name).len() == 6);
        let of_first = leaders(cluster.node(1), &name);
        assert_eq!(of_first.iter().copied().collect::<BTreeSet<i32>>(), BTreeSet::from([1, 2, 3]));
        for id in 2..=3 {
            assert_eq!(leaders(cluster.node(id), &name), of_first);
        }
    }
    assert_eq!(create(cluster.node(2), "made-through-1", 1, 1), ErrorCode::TOPIC_ALREADY_EXISTS);

    let (leader, voters) = quorum(cluster.node(1));
    assert_eq!(voters, [1, 2, 3]);
    let killed = usize::try_from(leader).expect("there is a leader");
    cluster.kill(killed);
    let others = cluster.running();
    for (at, id) in others.iter().enumerate() {
        // Within the request's time there is another controller.
        assert_eq!(create(cluster.node(*id), &format!("after-{at}"), 2, 1), ErrorCode::NONE);
    }
    let alive: Vec<i32> = others.iter().map(|id| *id as i32).collect();
    wait_for_brokers(&cluster, &alive);
    let (new_leader, _) = quorum(cluster.node(others[0]));
    assert!(alive.contains(&new_leader));
    let doomed = DeleteTopicState { name: Some("made-through-3".into()), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![doomed], timeout_ms: 30_000, ..Default::default() };
    let deleted = Client::new(cluster.node(others[1]))
        .call(&request, 6, |response| ErrorCode(response.responses[0].error_code));
    assert_eq!(deleted, ErrorCode::NONE);

    cluster.restart(killed);
    wait_for_brokers(&cluster, &[1, 2, 3]);
    cluster.wait_everywhere(|broker| {
        leaders(broker, "after-1").len() == 2 && leaders(broker, "made-through-3").is_empty()
    });
    cluster.wait_everywhere(|broker| leaders(broker, "made-through-1").iter().all(|leader| *leader > 0));
}

#[test]
fn a_broker_that_stops_in_good_order_leaves_and_comes_back_and_producer_ids_are_unique() {
    let mut cluster = RunningCluster::start(3, &SETTINGS);
    wait_for_brokers(&cluster, &[1, 2, 3]);
    let mut producers = BTreeSet::new();
    for id in 1..=3 {
        let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
        producers.insert(Client::new(cluster.node(id)).call(&request, 4, |response| response.producer_id));
    }
    assert_eq!(producers.len(), 3);
    assert!(producers.iter().all(|id| *id >= 0));
    let (leader, _) = quorum(cluster.node(1));
    let leaving = usize::try_from(leader).expect("there is a leader");
    assert_eq!(cluster.terminate(leaving), Some(0));
    let alive: Vec<i32> = cluster.running().iter().map(|id| *id as i32).collect();
    for id in cluster.running() {
        // It has been let go before it stopped: there is no session to wait for.
        wait_until(|| brokers(cluster.node(id)).0 == alive);
        assert_eq!(create(cluster.node(id), &format!("without-{id}"), 1, 1), ErrorCode::NONE);
    }
    cluster.restart(leaving);
    wait_for_brokers(&cluster, &[1, 2, 3]);
}

#[test]
fn a_stranger_with_a_wrong_secret_gets_nothing_and_a_broker_that_does_not_vote_follows() {
    let cluster = RunningCluster::start(1, &SETTINGS);
    wait_for_brokers(&cluster, &[1]);
    assert_eq!(create(cluster.node(1), "before", 1, 1), ErrorCode::NONE);
    let start = |secret: &std::path::Path| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder on a disk");
        let voters = format!("--set=controller_quorum_voters={}", cluster.voters());
        let secret = format!("--set=cluster_secret_file={}", secret.display());
        let flags = [
            "--node-id=7",
            "--set=process_roles=broker",
            "--set=cluster_listen=127.0.0.1:0",
            &voters,
            &secret,
        ];
        RunningBroker::launch_in(dir, &flags)
    };
    let wrong = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
    std::fs::write(wrong.path(), "some other secret, long enough").expect("written");
    let mut stranger = start(wrong.path());
    let refused = || cluster.node(1).metric("broker_links_refused_total");
    wait_until(|| refused() >= 3.0);
    assert!(!stranger.has_ended() && !stranger.ready_file.exists());
    drop(stranger);
    assert_eq!(brokers(cluster.node(1)).0, [1]);

    let mut follower = start(&cluster.secret_file());
    follower.wait_until_ready();
    wait_until(|| brokers(&follower).0 == [1, 7] && brokers(cluster.node(1)).0 == [1, 7]);
    assert_eq!(leaders(&follower, "before"), [1]);
    assert_eq!(create(&follower, "through-the-follower", 4, 1), ErrorCode::NONE);
    assert_eq!(leaders(&follower, "through-the-follower").len(), 4);
    assert_eq!(quorum(&follower), (1, vec![1]));
}
