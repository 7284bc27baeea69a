//! Consumers that read from the follower in their rack (KIP-392), and clients that are told who leads (KIP-951).

mod client;
mod harness;

use client::Client;
use harness::cluster::RunningCluster;
use harness::{RunningBroker, sum_of, wait_until};
use protocol::ErrorCode;
use protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use protocol::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use protocol::messages::metadata::MetadataRequest;
use protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use protocol::records::{BatchBuilder, BatchOptions, iter_batches};
use protocol::wire::Few;
use protocol::wire::Records;
use uuid::Uuid;

/// Quick enough for a test, slow enough for a loaded machine.
const SETTINGS: [&str; 5] = [
    "broker_session_timeout_ms=6000",
    "controller_quorum_election_timeout_ms=1000",
    "journal_file_bytes=4MiB",
    "low_space_bytes=1MiB",
    "replica_selector_class=org.apache.kafka.common.replica.RackAwareReplicaSelector",
];
const RACKS: [&str; 3] = ["a", "b", "c"];
const TOPIC: &str = "orders";
const FETCH_VERSION: i16 = 18;
const PRODUCE_VERSION: i16 = 13;

fn create_topic(broker: &RunningBroker, name: &str, replication_factor: i16) {
    let topic =
        CreatableTopic { name: name.into(), num_partitions: 1, replication_factor, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let error = Client::new(broker).call(&request, 7, |response| ErrorCode(response.topics[0].error_code));
    assert_eq!(error, ErrorCode::NONE);
}

/// A topic's only partition, as a broker knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Partition {
    topic_id: Uuid,
    leader: i32,
    epoch: i32,
    in_sync: Vec<i32>,
}

fn partition(broker: &RunningBroker, topic: &str) -> Option<Partition> {
    let request = MetadataRequest { topics: None, ..Default::default() };
    Client::new(broker).call(&request, 12, |response| {
        let found = response.topics.iter().find(|found| found.name.as_deref() == Some(topic))?;
        let row = found.partitions.first()?;
        let mut in_sync = row.isr_nodes.to_vec();
        in_sync.sort_unstable();
        Some(Partition { topic_id: found.topic_id, leader: row.leader_id, epoch: row.leader_epoch, in_sync })
    })
}

/// Waits until all nodes that run tell the same of the topic, with these in sync and a leader among them.
fn settled(cluster: &RunningCluster, topic: &str, in_sync: &[i32]) -> Partition {
    let mut found = None;
    wait_until(|| {
        let running = cluster.running();
        let told: Vec<_> = running.iter().map(|id| partition(cluster.node(*id), topic)).collect();
        found = told[0].clone().filter(|first| first.in_sync == in_sync && in_sync.contains(&first.leader));
        found.is_some() && told.iter().all(|other| *other == found)
    });
    found.expect("waited for")
}

/// What a client is told of a leader: (leader, epoch), and (node, port) of the addresses that come with it.
type Hint = ((i32, i32), Vec<(i32, i32)>);
const NO_HINT: Hint = ((-1, -1), Vec::new());

fn hint_of(cluster: &RunningCluster, leader: i32, epoch: i32) -> Hint {
    let port = cluster.node(leader as usize).kafka.port();
    ((leader, epoch), vec![(leader, i32::from(port))])
}

fn produce(broker: &RunningBroker, name: &str, topic_id: Uuid, version: i16) -> (ErrorCode, Hint) {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(1_000, None, Some(b"value"), &[]);
    let records = builder.build().expect("small").to_vec();
    let data =
        PartitionProduceData { index: 0, records: Some(Records::Borrowed(&records)), ..Default::default() };
    let topic = TopicProduceData {
        name: name.into(),
        topic_id,
        partition_data: Few::one(data),
        ..Default::default()
    };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: Few::one(topic), ..Default::default() };
    Client::new(broker).call(&request, version, |response| {
        let row = &response.responses[0].partition_responses[0];
        let leader = (row.current_leader.leader_id, row.current_leader.leader_epoch);
        let endpoints = response.node_endpoints.iter().map(|node| (node.node_id, node.port));
        (ErrorCode(row.error_code), (leader, endpoints.collect()))
    })
}

fn produce_one(cluster: &RunningCluster, found: &Partition) {
    let leader = cluster.node(found.leader as usize);
    assert_eq!(produce(leader, TOPIC, found.topic_id, PRODUCE_VERSION).0, ErrorCode::NONE);
}

/// A fetch of the topic's only partition.
#[derive(Debug, Clone, Copy)]
struct Fetch<'a> {
    name: &'a str,
    topic_id: Uuid,
    offset: i64,
    epoch: i32,
    rack: &'a str,
    max_wait_ms: i32,
    version: i16,
}

/// What it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fetched {
    error: ErrorCode,
    high_watermark: i64,
    preferred: i32,
    /// Offsets of the batches.
    batches: Vec<i64>,
    hint: Hint,
}

impl<'a> Fetch<'a> {
    fn of(found: &Partition) -> Fetch<'a> {
        let (topic_id, epoch) = (found.topic_id, found.epoch);
        Fetch { name: TOPIC, topic_id, offset: 0, epoch, rack: "", max_wait_ms: 0, version: FETCH_VERSION }
    }

    fn from(self, broker: &RunningBroker) -> Fetched {
        let row = FetchPartition {
            partition: 0,
            current_leader_epoch: self.epoch,
            fetch_offset: self.offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic {
            topic: self.name.into(),
            topic_id: self.topic_id,
            partitions: Few::one(row),
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms: self.max_wait_ms,
            min_bytes: 1,
            topics: Few::one(topic),
            rack_id: self.rack.into(),
            ..Default::default()
        };
        Client::new(broker).call(&request, self.version, |response| {
            let row = &response.responses[0].partitions[0];
            let batches = match &row.records {
                Some(Records::Borrowed(bytes)) => {
                    iter_batches(bytes).map(|batch| batch.expect("a batch").base_offset()).collect()
                }
                _ => Vec::new(),
            };
            let endpoints = response.node_endpoints.iter().map(|node| (node.node_id, node.port));
            Fetched {
                error: ErrorCode(row.error_code),
                high_watermark: row.high_watermark,
                preferred: row.preferred_read_replica,
                batches,
                hint: ((row.current_leader.leader_id, row.current_leader.leader_epoch), endpoints.collect()),
            }
        })
    }
}

fn latest_offset(broker: &RunningBroker) -> ErrorCode {
    let row = ListOffsetsPartition { timestamp: -1, ..Default::default() };
    let topic = ListOffsetsTopic { name: TOPIC.into(), partitions: vec![row], ..Default::default() };
    let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
    Client::new(broker).call(&request, 7, |response| ErrorCode(response.topics[0].partitions[0].error_code))
}

fn elect_preferred(broker: &RunningBroker) {
    let topic = TopicPartitions { topic: TOPIC.into(), partitions: vec![0], ..Default::default() };
    let request =
        ElectLeadersRequest { topic_partitions: Some(vec![topic]), timeout_ms: 30_000, ..Default::default() };
    Client::new(broker).call(&request, 2, |response| assert_eq!(response.error_code, 0));
}

#[test]
fn clients_that_ask_the_wrong_broker_are_told_who_leads_and_where_it_is() {
    let mut cluster = RunningCluster::start(3, &SETTINGS);
    create_topic(cluster.node(1), TOPIC, 3);
    create_topic(cluster.node(1), "alone", 1);
    let (found, alone) =
        (settled(&cluster, TOPIC, &[1, 2, 3]), partition(cluster.node(1), "alone").expect("there"));

    let other = (1..=3).find(|id| *id != found.leader).expect("two others") as usize;
    let expected = hint_of(&cluster, found.leader, found.epoch);
    for version in 3..=PRODUCE_VERSION {
        let hint = if version < 10 { NO_HINT } else { expected.clone() };
        let told = produce(cluster.node(other), TOPIC, found.topic_id, version);
        assert_eq!(told, (ErrorCode::NOT_LEADER_OR_FOLLOWER, hint), "Produce {version}");
    }
    assert_eq!(
        produce(cluster.node(found.leader as usize), TOPIC, found.topic_id, 13),
        (ErrorCode::NONE, NO_HINT)
    );

    let elsewhere = (1..=3).find(|id| *id != alone.leader).expect("two others") as usize;
    wait_until(|| partition(cluster.node(elsewhere), "alone").is_some());
    let expected = hint_of(&cluster, alone.leader, alone.epoch);
    for version in 4..=FETCH_VERSION {
        let hint = if version < 16 { NO_HINT } else { expected.clone() };
        let fetch = Fetch { name: "alone", version, ..Fetch::of(&alone) };
        let told = fetch.from(cluster.node(elsewhere));
        assert_eq!((told.error, told.hint), (ErrorCode::NOT_LEADER_OR_FOLLOWER, hint), "Fetch {version}");
    }

    // With the next leader the old epoch is fenced.
    cluster.kill(found.leader as usize);
    let survivors: Vec<i32> = (1..=3).filter(|id| *id != found.leader).collect();
    let next = settled(&cluster, TOPIC, &survivors);
    for survivor in survivors {
        let told = Fetch::of(&found).from(cluster.node(survivor as usize));
        let expected = (ErrorCode::FENCED_LEADER_EPOCH, hint_of(&cluster, next.leader, next.epoch));
        assert_eq!((told.error, told.hint), expected);
    }
}

#[test]
fn consumers_are_sent_to_the_follower_in_their_rack_which_serves_them_up_to_the_high_watermark() {
    let mut cluster = RunningCluster::start_in_racks(&RACKS, &SETTINGS);
    create_topic(cluster.node(1), TOPIC, 3);
    let found = settled(&cluster, TOPIC, &[1, 2, 3]);
    (0..10).for_each(|_| produce_one(&cluster, &found));
    let all: Vec<i64> = (0..10).collect();
    let rack_of = |id: i32| RACKS[id as usize - 1];

    let follower = (1..=3).find(|id| *id != found.leader).expect("two others");
    let (at_leader, at_follower) = (cluster.node(found.leader as usize), cluster.node(follower as usize));
    let fetch = Fetch::of(&found);
    let near_follower = Fetch { rack: rack_of(follower), ..fetch };
    // Also a request that may wait is answered at once.
    let told = Fetch { max_wait_ms: 30_000, offset: 10, ..near_follower }.from(at_leader);
    assert_eq!((told.error, told.preferred, told.high_watermark), (ErrorCode::NONE, follower, 10));
    assert_eq!(near_follower.from(at_leader).batches, Vec::<i64>::new());
    for rack in [rack_of(found.leader), "", "far away"] {
        let told = Fetch { rack, ..fetch }.from(at_leader);
        assert_eq!((told.preferred, &told.batches), (-1, &all), "rack {rack:?}");
    }
    // Before version 11 nobody knows of racks: consumers read from the leader, and from nobody else.
    assert_eq!(Fetch { version: 10, ..near_follower }.from(at_leader).batches, all);
    let told = Fetch { version: 10, ..near_follower }.from(at_follower);
    assert_eq!(told.error, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(latest_offset(at_follower), ErrorCode::NOT_LEADER_OR_FOLLOWER);

    wait_until(|| near_follower.from(at_follower).high_watermark == 10);
    for version in 11..=FETCH_VERSION {
        let told = Fetch { version, ..near_follower }.from(at_follower);
        assert_eq!((told.preferred, &told.batches), (-1, &all), "Fetch {version}");
    }
    let metrics = at_follower.http_get("/metrics").1;
    assert!(sum_of(&metrics, "broker_follower_fetch_bytes_total") > 0.0);
    let told = Fetch { offset: 11, ..near_follower }.from(at_follower);
    assert_eq!(told.error, ErrorCode::OFFSET_OUT_OF_RANGE);
    let told = Fetch { epoch: found.epoch + 1, ..near_follower }.from(at_follower);
    assert_eq!(told.error, ErrorCode::UNKNOWN_LEADER_EPOCH);

    // Whoever waits at a follower hears of what comes.
    let waiting = Fetch { offset: 10, max_wait_ms: 30_000, ..near_follower };
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| waiting.from(at_follower));
        produce_one(&cluster, &found);
        assert_eq!(waiter.join().expect("answered").batches, [10]);
    });

    // A follower that is gone is not preferred, and one that is back is, even if nothing is produced any more.
    let third = (1..=3).find(|id| *id != found.leader && *id != follower).expect("another");
    cluster.kill(follower as usize);
    let mut left = vec![found.leader, third];
    left.sort_unstable();
    settled(&cluster, TOPIC, &left);
    let told = near_follower.from(cluster.node(found.leader as usize));
    assert_eq!((told.preferred, told.batches.len()), (-1, 11));
    cluster.restart(follower as usize);
    settled(&cluster, TOPIC, &[1, 2, 3]);
    let at_follower = cluster.node(follower as usize);
    wait_until(|| near_follower.from(at_follower).high_watermark == 11);
    assert_eq!(near_follower.from(at_follower).batches.len(), 11);
    assert_eq!(near_follower.from(cluster.node(found.leader as usize)).preferred, follower);
}

#[test]
fn a_consumer_that_waits_hears_at_once_that_another_broker_leads() {
    let mut cluster = RunningCluster::start(3, &SETTINGS);
    create_topic(cluster.node(1), TOPIC, 3);
    let first = settled(&cluster, TOPIC, &[1, 2, 3]);
    cluster.kill(first.leader as usize);
    let left: Vec<i32> = (1..=3).filter(|id| *id != first.leader).collect();
    let second = settled(&cluster, TOPIC, &left);
    cluster.restart(first.leader as usize);
    let second = Partition { in_sync: settled(&cluster, TOPIC, &[1, 2, 3]).in_sync, ..second };

    // The preferred leader takes over while a consumer waits at the other one, and one at a follower.
    let waiting = Fetch { max_wait_ms: 30_000, ..Fetch::of(&second) };
    std::thread::scope(|scope| {
        let waiters: Vec<_> =
            left.iter().map(|id| (*id, scope.spawn(|| waiting.from(cluster.node(*id as usize))))).collect();
        wait_until(|| {
            left.iter().all(|id| {
                let metrics = cluster.node(*id as usize).http_get("/metrics").1;
                sum_of(&metrics, "broker_requests_in_flight") > 0.0
            })
        });
        elect_preferred(cluster.node(first.leader as usize));
        let third = settled(&cluster, TOPIC, &[1, 2, 3]);
        assert_eq!(third.leader, first.leader);
        for (id, waiter) in waiters {
            let told = waiter.join().expect("answered");
            // Another core's metadata may lag by a moment: then the answer is empty, and the next one says it.
            let is_expected = [ErrorCode::FENCED_LEADER_EPOCH, ErrorCode::NONE].contains(&told.error);
            // The leader of now may have been heard before the metadata names it: then there is nobody to point at.
            let leads_in_vain = id == second.leader
                && (told.error, &told.hint) == (ErrorCode::NOT_LEADER_OR_FOLLOWER, &NO_HINT);
            assert!(is_expected || leads_in_vain, "{id}: {told:?}");
        }
        let told = waiting.from(cluster.node(second.leader as usize));
        let expected = (ErrorCode::FENCED_LEADER_EPOCH, hint_of(&cluster, third.leader, third.epoch));
        assert_eq!((told.error, told.hint), expected);
    });
}
