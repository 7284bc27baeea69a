//! What operators of a cluster see and do: metrics, `brokerctl cluster`, partitions that move, a broker that joins and one that leaves.

mod harness;

use std::time::Instant;

use harness::brokerctl::{brokerctl, json, numbers, quorum, try_brokerctl};
use harness::cluster::RunningCluster;
use harness::{METRICS_OF_A_CLUSTER, RunningBroker, has_metric, wait_until};
use serde_json::Value;

/// Quick enough for a test, slow enough for a loaded machine.
const SETTINGS: [&str; 7] = [
    "broker_session_timeout_ms=6000",
    "controller_quorum_election_timeout_ms=1000",
    "offsets_topic_num_partitions=3",
    "offsets_topic_replication_factor=3",
    "journal_file_bytes=4MiB",
    "low_space_bytes=1MiB",
    "replica_slow_time_max_ms=10000",
];

/// The sum of a metric over all nodes that run.
fn total(cluster: &RunningCluster, name: &str) -> f64 {
    let nodes = cluster.running().into_iter();
    nodes.map(|id| cluster.node(id).metric(name)).sum()
}

/// The same over some nodes.
fn total_of(cluster: &RunningCluster, nodes: &[usize], name: &str) -> f64 {
    nodes.iter().map(|id| cluster.node(*id).metric(name)).sum()
}

fn replicas_of(cluster: &Value, broker: i32) -> u64 {
    let brokers = cluster["brokers"].as_array().expect("a list");
    let found = brokers.iter().find(|known| known["id"] == broker).expect("it is registered");
    found["replicas"].as_u64().expect("a number")
}

/// The replicas of each partition, and whether all of them are in sync.
fn replicas(broker: &RunningBroker, topic: &str) -> (Vec<Vec<i64>>, bool) {
    let described = json(broker, &format!("topic describe {topic}"));
    let ids = |list: &Value| -> Vec<i64> {
        list.as_array().expect("a list").iter().filter_map(Value::as_i64).collect()
    };
    let partitions = described["partitions"].as_array().expect("a list");
    let all_in_sync =
        partitions.iter().all(|found| ids(&found["replicas"]).len() == ids(&found["in_sync_replicas"]).len());
    (partitions.iter().map(|found| ids(&found["replicas"])).collect(), all_in_sync)
}

#[test]
fn the_loss_of_a_broker_shows_in_metrics_and_in_brokerctl_cluster() {
    let mut cluster = RunningCluster::start(3, &SETTINGS);
    cluster.wait_everywhere(|broker| json(broker, "cluster")["brokers"].as_array().map(Vec::len) == Some(3));
    let create = "topic create orders --partitions 6 --replication-factor 3 --config min.insync.replicas=3";
    brokerctl(cluster.node(1), create, "");
    wait_until(|| total(&cluster, "kafka_server_replicamanager_leader_count") == 6.0);
    brokerctl(cluster.node(1), "produce orders", &numbers(1..=600));
    wait_until(|| {
        total(&cluster, "kafka_server_replicamanager_partition_count") == 18.0
            && total(&cluster, "kafka_server_replicamanager_at_min_isr_partition_count") == 6.0
            && total(&cluster, "kafka_server_replicamanager_under_replicated_partitions") == 0.0
    });
    assert_eq!(total(&cluster, "kafka_controller_active_controller_count"), 1.0);
    assert_eq!(total(&cluster, "kafka_controller_active_broker_count"), 9.0, "each of three sees three");
    assert_eq!(total(&cluster, "kafka_controller_global_partition_count"), 18.0);
    let (sent, stored) = (
        total(&cluster, "kafka_server_brokertopicmetrics_replicationbytesout_total"),
        total(&cluster, "kafka_server_brokertopicmetrics_replicationbytesin_total"),
    );
    assert!(sent > 0.0 && stored > 0.0 && sent >= stored, "{sent} sent, {stored} stored");
    for name in METRICS_OF_A_CLUSTER {
        assert!((1..=3).all(|id| has_metric(&cluster.node(id).http_get("/metrics").1, name)), "{name}");
    }
    let shown = json(cluster.node(2), "cluster --verbose");
    assert_eq!(shown["partition_counts"]["under_replicated"], 0, "{shown}");
    let partitions = shown["partitions"].as_array().expect("a list");
    assert_eq!(partitions.len(), 6);
    for partition in partitions {
        let lags = partition["replicas"].as_array().expect("a list").iter();
        assert_eq!(lags.filter(|replica| replica["lag"] == 0).count(), 2, "{partition}");
    }
    let leader = shown["quorum"]["leader"].as_i64().expect("there is a leader");
    let members = shown["quorum"]["members"].as_array().expect("a list");
    assert!(members.iter().all(|member| member["voter"] == true) && members.len() == 3, "{shown}");

    // Not the active controller: that is another story.
    let lost = usize::try_from(leader % 3 + 1).expect("small");
    cluster.kill(lost);
    wait_until(|| total(&cluster, "kafka_server_replicamanager_under_min_isr_partition_count") == 6.0);
    assert_eq!(total(&cluster, "kafka_server_replicamanager_under_replicated_partitions"), 6.0);
    assert_eq!(total(&cluster, "kafka_controller_fenced_broker_count"), 2.0, "each of two sees one");
    assert_eq!(total(&cluster, "kafka_controller_offline_partitions_count"), 0.0);
    let other = cluster.running()[0];
    let shown = json(cluster.node(other), "cluster");
    assert_eq!(shown["partition_counts"]["under_min_isr"], 6, "{shown}");
    let text = brokerctl(cluster.node(other), "cluster", "");
    assert!(
        text.contains("under-replicated, under min.insync.replicas") && text.contains("fenced"),
        "{text}"
    );

    cluster.restart(lost);
    cluster.wait_everywhere(|broker| replicas(broker, "orders").1);
    wait_until(|| total(&cluster, "kafka_server_replicamanager_under_replicated_partitions") == 0.0);
    assert!(total(&cluster, "kafka_server_replicamanager_isr_expands_total") >= 6.0);
    wait_until(|| {
        brokerctl(cluster.node(other), "partition elect", "");
        total(&cluster, "kafka_controller_preferred_replica_imbalance_count") == 0.0
    });
}

#[test]
fn partitions_move_to_a_broker_that_joins_and_one_that_is_decommissioned_holds_nothing() {
    let cluster = RunningCluster::start(3, &SETTINGS);
    cluster.wait_everywhere(|broker| json(broker, "cluster")["brokers"].as_array().map(Vec::len) == Some(3));
    let through = cluster.node(1);
    brokerctl(through, "topic create orders --partitions 4 --replication-factor 3", "");
    brokerctl(through, "produce orders", &numbers(1..=1000));
    brokerctl(through, "consume orders --group billing --count 400", "");
    let fourth = cluster.join(4, &[]);
    wait_until(|| json(through, "cluster")["brokers"].as_array().map(Vec::len) == Some(4));
    assert_eq!(replicas_of(&json(through, "cluster"), 4), 0);

    let moved = brokerctl(through, "partition move orders:0,1 --to 4,1,2", "");
    assert_eq!(moved, "orders-0 is on 4,1,2\norders-1 is on 1,2,4\n");
    wait_until(|| replicas(&fourth, "orders").0[..2] == [vec![4, 1, 2], vec![1, 2, 4]]);
    assert!(brokerctl(through, "partition list", "").contains("Nothing is being moved"));
    assert_eq!(try_brokerctl(through, "partition cancel orders:0", "").expect_err("nothing to cancel").0, 4);
    let (code, _) =
        try_brokerctl(through, "partition move orders:0 --to 4,9", "").expect_err("no such broker");
    assert_eq!(code, 1);

    let plan = brokerctl(through, "broker decommission 3", "");
    assert!(plan.contains("Nothing has been changed"), "{plan}");
    assert!(replicas_of(&json(through, "cluster"), 3) > 0);
    let done = brokerctl(through, "broker decommission 3 --execute", "");
    assert!(done.contains("broker 3 holds nothing any more") && done.contains("votes"), "{done}");
    wait_until(|| replicas_of(&json(through, "cluster"), 3) == 0);
    assert!(replicas(through, "orders").1);
    assert!(!replicas(through, "__consumer_offsets").0.concat().contains(&3));

    brokerctl(through, "produce orders", &numbers(1001..=1100));
    let mut read: Vec<u32> = brokerctl(through, "consume orders", "")
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    read.sort_unstable();
    assert_eq!(read, (1..=1100).collect::<Vec<u32>>());
    assert_eq!(json(through, "group describe billing")["lag"], 700);

    // The new one does not vote, so it can go for good.
    let done = brokerctl(through, "broker decommission 4 --execute", "");
    assert!(done.contains("brokerctl broker unregister 4"), "{done}");
    assert_eq!(fourth.terminate(), Some(0));
    wait_until(|| try_brokerctl(through, "broker unregister 4", "").is_ok());
    wait_until(|| json(through, "cluster")["brokers"].as_array().map(Vec::len) == Some(3));
}

fn directory(broker: &RunningBroker, node: i64) -> String {
    let shown = json(broker, "cluster");
    let members = shown["quorum"]["members"].as_array().cloned().unwrap_or_default();
    let found = members.iter().find(|member| member["id"] == node).expect("it is a member");
    found["directory"].as_str().expect("text").to_owned()
}

#[test]
fn a_voter_that_has_lost_its_disk_does_not_vote_before_it_is_removed_and_added_again() {
    let mut cluster = RunningCluster::start(3, &SETTINGS);
    cluster.wait_everywhere(|broker| json(broker, "cluster")["brokers"].as_array().map(Vec::len) == Some(3));
    wait_until(|| quorum(cluster.node(1)) == (vec![1, 2, 3], vec![]));
    let leader = json(cluster.node(1), "cluster")["quorum"]["leader"].as_i64().expect("there is one");
    let lost = usize::try_from(leader % 3 + 1).expect("small");
    let other = (1..=3).find(|id| *id != lost && *id as i64 != leader).expect("there are three");
    let before = directory(cluster.node(other), lost as i64);
    cluster.kill(lost);
    cluster.wipe(lost);
    cluster.launch(lost);
    // It is told why it may not come back, and tells so; it serves nobody.
    wait_until(|| cluster.log(lost).contains("with another data directory"));
    // Its vote does not count: without the second of the two others there is no majority.
    cluster.kill(other);
    let survivor = cluster.node(usize::try_from(leader).expect("small"));
    wait_until(|| survivor.metric("kafka_controller_active_controller_count") == 0.0);
    assert!(!cluster.is_ready(lost));
    cluster.restart(other);
    wait_until(|| {
        total_of(&cluster, &[other, leader as usize], "kafka_controller_active_controller_count") == 1.0
    });

    let through = cluster.node(other);
    wait_until(|| try_brokerctl(through, &format!("quorum remove {lost}"), "").is_ok());
    cluster.wait_until_ready(lost);
    let through = cluster.node(other);
    wait_until(|| quorum(through).1 == [lost as i64]);
    let after = directory(through, lost as i64);
    assert_ne!(after, before);
    wait_until(|| try_brokerctl(through, &format!("quorum add {lost}"), "").is_ok());
    assert_eq!(quorum(through), (vec![1, 2, 3], vec![]));
    let (code, message) = try_brokerctl(through, &format!("quorum add {lost}"), "").expect_err("it votes");
    assert!(code == 1 && message.contains("DUPLICATE_VOTER"), "{message}");
    // Now its vote counts again.
    cluster.kill(other);
    let survivor = cluster.node(lost);
    wait_until(|| json(survivor, "cluster")["quorum"]["leader"].as_i64().is_some_and(|id| id > 0));
    brokerctl(survivor, "topic create made-by-two", "");
}

#[test]
fn a_fourth_node_takes_the_vote_of_one_that_leaves_be_it_the_active_controller() {
    let cluster = RunningCluster::start(3, &SETTINGS);
    cluster.wait_everywhere(|broker| json(broker, "cluster")["brokers"].as_array().map(Vec::len) == Some(3));
    let fourth = cluster.join(4, &[]);
    wait_until(|| quorum(&fourth) == (vec![1, 2, 3], vec![4]));
    assert_eq!(try_brokerctl(&fourth, "quorum add 9", "").expect_err("nobody").0, 4);
    assert_eq!(brokerctl(&fourth, "quorum add 4", ""), "node 4 votes in the metadata quorum\n");
    assert_eq!(quorum(&fourth), (vec![1, 2, 3, 4], vec![]));
    let leader = json(&fourth, "cluster")["quorum"]["leader"].as_i64().expect("there is one");
    brokerctl(&fourth, &format!("quorum remove {leader}"), "");
    let (voters, observers) = quorum(&fourth);
    assert!(
        voters.len() == 3 && !voters.contains(&leader) && observers == [leader],
        "{voters:?} {observers:?}"
    );
    let (code, message) = try_brokerctl(&fourth, &format!("quorum remove {leader}"), "").expect_err("gone");
    assert!(code == 1 && message.contains("VOTER_NOT_FOUND"), "{message}");
    // It follows on, and serves.
    brokerctl(&fourth, "topic create after --partitions 4", "");
    let former = cluster.node(usize::try_from(leader).expect("small"));
    wait_until(|| try_brokerctl(former, "topic describe after", "").is_ok());
}

/// Whether replicas of the topic are being moved.
fn is_moving(broker: &RunningBroker, topic: &str) -> bool {
    let moving = json(broker, "partition list");
    moving.as_array().expect("a list").iter().any(|row| row["topic"] == topic)
}

/// What somebody has set on a topic or broker.
fn was_set(broker: &RunningBroker, whose: &str, setting: &str) -> Option<String> {
    let entries = json(broker, &format!("config get {whose} {setting}"));
    let entry = &entries.as_array().expect("a list")[0];
    (entry["source"] != "default").then(|| entry["value"].as_str().expect("text").to_owned())
}

#[test]
fn a_throttled_follower_gets_no_more_than_its_rate_while_other_partitions_go_on() {
    const RATE: u64 = 10_000;
    /// A batch or two before there is anything to wait for, and the other topic.
    const SLACK: u64 = 700_000;
    let cluster = RunningCluster::start(3, &SETTINGS);
    cluster.wait_everywhere(|broker| json(broker, "cluster")["brokers"].as_array().map(Vec::len) == Some(3));
    let through = cluster.node(1);
    for topic in ["orders", "quick"] {
        brokerctl(through, &format!("topic create {topic} --replication-factor 1"), "");
        brokerctl(through, &format!("partition move {topic} --to 2"), "");
    }
    let line = format!("{}\n", "x".repeat(1_000));
    brokerctl(through, "produce orders", &line.repeat(2_000));
    brokerctl(through, "partition move quick --to 2,3", "");

    // The follower's rate alone.
    brokerctl(through, &format!("config set broker 3 follower.replication.throttled.rate={RATE}"), "");
    brokerctl(through, "config set topic orders follower.replication.throttled.replicas=0:3", "");
    assert_eq!(was_set(through, "broker 3", "follower.replication.throttled.rate"), Some(RATE.to_string()));
    let received =
        || total_of(&cluster, &[3], "kafka_server_brokertopicmetrics_replicationbytesin_total") as u64;
    let (before, began) = (received(), Instant::now());
    brokerctl(through, "partition move orders --to 2,3 --no-wait", "");
    for round in 0..20 {
        // These are answered when the follower has them.
        brokerctl(through, "produce quick", &numbers(round * 10 + 1..=round * 10 + 10));
        let (bytes, allowed) = (received() - before, RATE * (began.elapsed().as_secs() + 1) + SLACK);
        assert!(bytes <= allowed, "{bytes} bytes, {allowed} are allowed");
    }
    assert_eq!(brokerctl(through, "consume quick", "").lines().count(), 200);
    assert!(is_moving(through, "orders"), "2 MB take 200 s at this rate");
    brokerctl(through, "config unset broker 3 follower.replication.throttled.rate", "");
    wait_until(|| !is_moving(through, "orders"));
    assert!(received() - before > 2_000_000);
    brokerctl(through, "config unset topic orders follower.replication.throttled.replicas", "");

    // Both ends, as a move sets them.
    brokerctl(through, "partition move orders --to 2", "");
    brokerctl(through, &format!("partition move orders --to 2,3 --no-wait --throttle {RATE}"), "");
    let listed =
        |side: &str| was_set(through, "topic orders", &format!("{side}.replication.throttled.replicas"));
    assert_eq!((listed("leader").as_deref(), listed("follower").as_deref()), (Some("0:2"), Some("0:3")));
    for (broker, side) in [(2, "leader"), (2, "follower"), (3, "leader"), (3, "follower")] {
        let rate =
            was_set(through, &format!("broker {broker}"), &format!("{side}.replication.throttled.rate"));
        assert_eq!(rate, Some(RATE.to_string()), "{side} on broker {broker}");
    }
    let shown = brokerctl(through, "partition list", "");
    assert!(
        shown.contains("orders") && shown.contains("Broker 3 sends 10000 bytes per second and receives"),
        "{shown}"
    );
    assert!(is_moving(through, "orders"));
    let freed = brokerctl(through, "partition unthrottle", "");
    assert_eq!(freed.lines().count(), 3, "{freed}");
    wait_until(|| !is_moving(through, "orders"));
    assert_eq!(brokerctl(through, "partition unthrottle", ""), "Nothing is throttled.\n");

    // Nothing of it is left behind a move that was waited for.
    brokerctl(through, "partition move orders --to 2", "");
    let moved = brokerctl(through, "partition move orders --to 3,2 --throttle 100000000", "");
    assert_eq!(moved, "orders-0 is on 3,2\n");
    assert_eq!((listed("leader"), listed("follower")), (None, None));
    assert_eq!(brokerctl(through, "partition list", ""), "Nothing is being moved.\n");
}
