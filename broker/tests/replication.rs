//! Three brokers that hold the same partitions: what was acknowledged survives the loss of one of them, and groups go on.

mod client;
mod harness;

use std::collections::BTreeMap;

use client::Client;
use harness::RunningBroker;
use harness::cluster::RunningCluster;
use harness::wait_until;
use protocol::ErrorCode;
use protocol::frame::{decode_response, encode_request};
use protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use protocol::messages::find_coordinator::FindCoordinatorRequest;
use protocol::messages::metadata::MetadataRequest;
use protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
use protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use protocol::records::{BatchBuilder, BatchOptions, RecordIter, decompress, iter_batches};
use protocol::wire::Few;
use protocol::wire::Records;

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
const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;
const PRODUCE_VERSION: i16 = 9;
/// As many requests as an idempotent producer has under way.
const WINDOW: usize = 5;

fn create_topic(broker: &RunningBroker) {
    let min_in_sync = CreatableTopicConfig {
        name: "min.insync.replicas".into(),
        value: Some("2".into()),
        ..Default::default()
    };
    let topic = CreatableTopic {
        name: TOPIC.into(),
        num_partitions: PARTITIONS,
        replication_factor: 3,
        configs: vec![min_in_sync],
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let error = Client::new(broker).call(&request, 7, |response| ErrorCode(response.topics[0].error_code));
    assert_eq!(error, ErrorCode::NONE);
}

/// Leader and in-sync replicas of each partition, as a broker tells them.
fn partitions(broker: &RunningBroker) -> BTreeMap<i32, (i32, Vec<i32>)> {
    let request = MetadataRequest { topics: None, ..Default::default() };
    Client::new(broker).call(&request, 12, |response| {
        let found = response.topics.iter().find(|found| found.name.as_deref() == Some(TOPIC));
        let rows = found.into_iter().flat_map(|topic| &topic.partitions);
        rows.map(|row| {
            let mut in_sync = row.isr_nodes.to_vec();
            in_sync.sort_unstable();
            (row.partition_index, (row.leader_id, in_sync))
        })
        .collect()
    })
}

fn wait_until_all_in_sync(cluster: &RunningCluster, expected: &[i32]) {
    cluster.wait_everywhere(|broker| {
        let found = partitions(broker);
        found.len() == PARTITIONS as usize
            && found.values().all(|(leader, in_sync)| *leader > 0 && *in_sync == expected)
    });
}

fn batch(partition: i32, sequence: i32) -> Vec<u8> {
    let options = BatchOptions {
        producer_id: 1_000_000 + i64::from(partition),
        producer_epoch: 0,
        base_sequence: sequence,
        ..BatchOptions::default()
    };
    let mut builder = BatchBuilder::new(options);
    builder.append(1_000, None, Some(format!("{partition}-{sequence}").as_bytes()), &[]);
    builder.build().expect("small").to_vec()
}

/// A request that wants a batch in all in-sync replicas.
fn produce(partition: i32, records: &[u8], correlation_id: i32, timeout_ms: i32) -> Vec<u8> {
    let data = PartitionProduceData {
        index: partition,
        records: Some(Records::Borrowed(records)),
        ..Default::default()
    };
    let topic = TopicProduceData { name: TOPIC.into(), partition_data: Few::one(data), ..Default::default() };
    let request = ProduceRequest { acks: -1, timeout_ms, topic_data: Few::one(topic), ..Default::default() };
    encode_request(correlation_id, Some("test"), &request, PRODUCE_VERSION).expect("encodable").concat()
}

/// An idempotent producer of one partition that has several requests under way, and sends again what was not answered.
struct Producer {
    partition: i32,
    client: Option<(i32, Client)>,
    /// Everything below was acknowledged.
    acknowledged: i32,
    under_way: usize,
}

impl Producer {
    fn new(partition: i32) -> Producer {
        Producer { partition, client: None, acknowledged: 0, under_way: 0 }
    }

    fn send(&mut self, sequence: i32) {
        let frame = produce(self.partition, &batch(self.partition, sequence), sequence, 10_000);
        let (_, client) = self.client.as_mut().expect("connected");
        // That a connection is gone shows when its answers are missed.
        client.try_send_raw(&frame);
        self.under_way += 1;
    }

    /// Sends as much as may be under way.
    fn fill(&mut self) {
        while self.under_way < WINDOW {
            self.send(self.acknowledged + self.under_way as i32);
        }
    }

    /// Takes one answer; false if everything that is under way has to be sent again.
    fn hear(&mut self) -> bool {
        let (_, client) = self.client.as_mut().expect("connected");
        let Some(answer) = client.receive_raw() else { return false };
        let (_, response): (i32, ProduceResponse<'_>) =
            decode_response(&answer, PRODUCE_VERSION).expect("decodable");
        let row = &response.responses[0].partition_responses[0];
        match ErrorCode(row.error_code) {
            ErrorCode::NONE => {
                self.acknowledged += 1;
                self.under_way -= 1;
                true
            }
            error if error.is_retriable() || error == ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => false,
            error => panic!("partition {}: {error}", self.partition),
        }
    }

    /// Produces until `acknowledged` batches are, whatever happens to leaders.
    fn produce_until(&mut self, cluster: &RunningCluster, acknowledged: i32) {
        while self.acknowledged < acknowledged {
            if self.client.is_none() {
                let asked = cluster.running()[0];
                let leader = partitions(cluster.node(asked)).get(&self.partition).map_or(-1, |found| found.0);
                if !cluster.running().contains(&(leader.max(0) as usize)) {
                    std::thread::yield_now();
                    continue;
                }
                self.under_way = 0;
                self.client = Some((leader, Client::new(cluster.node(leader as usize))));
            }
            self.fill();
            if !self.hear() {
                self.client = None;
            }
        }
    }
}

/// The values of a partition's records, read from its leader.
fn values(cluster: &RunningCluster, partition: i32) -> Vec<String> {
    let leader = partitions(cluster.node(cluster.running()[0]))[&partition].0;
    let mut client = Client::new(cluster.node(leader as usize));
    let (mut values, mut next) = (Vec::new(), 0);
    loop {
        let wanted = FetchPartition {
            partition,
            fetch_offset: next,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic { topic: TOPIC.into(), partitions: Few::one(wanted), ..Default::default() };
        let request = FetchRequest {
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: Few::one(topic),
            ..Default::default()
        };
        let (error, records, high_watermark) = client.call(&request, 12, |response| {
            let row = &response.responses[0].partitions[0];
            let records = row.records.as_ref().map(|r| r.contiguous().into_owned()).unwrap_or_default();
            (ErrorCode(row.error_code), records, row.high_watermark)
        });
        assert_eq!(error, ErrorCode::NONE);
        for batch in iter_batches(&records) {
            let batch = batch.expect("a batch");
            next = batch.next_offset();
            let payload = decompress(&batch, 1 << 20).expect("not compressed");
            values.extend(RecordIter::new(&batch, &payload).map(|record| {
                let value = record.expect("a record").value.expect("a value");
                String::from_utf8(value.to_vec()).expect("text")
            }));
        }
        if next >= high_watermark {
            return values;
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9_of_leaders_and_the_killed_broker_comes_back_into_sync() {
    let mut cluster = RunningCluster::start(3, &SETTINGS);
    create_topic(cluster.node(1));
    wait_until_all_in_sync(&cluster, &[1, 2, 3]);
    let mut producers: Vec<Producer> = (0..PARTITIONS).map(Producer::new).collect();
    for producer in &mut producers {
        producer.produce_until(&cluster, 50);
        // What is under way when the leader dies may be there or not.
        producer.fill();
    }
    let killed = partitions(cluster.node(1))[&0].0 as usize;
    cluster.kill(killed);
    for producer in &mut producers {
        producer.produce_until(&cluster, 120);
    }
    cluster.restart(killed);
    wait_until_all_in_sync(&cluster, &[1, 2, 3]);
    for producer in &mut producers {
        producer.produce_until(&cluster, 150);
    }
    // Whoever leads next has it all, too.
    let second = cluster.running().into_iter().find(|id| *id != killed).expect("two others");
    cluster.kill(second);
    for producer in &mut producers {
        producer.produce_until(&cluster, 170);
        let found = values(&cluster, producer.partition);
        let expected: Vec<String> =
            (0..found.len()).map(|sequence| format!("{}-{sequence}", producer.partition)).collect();
        assert_eq!(found, expected, "everything once, and in order");
        assert!(found.len() >= producer.acknowledged as usize);
    }
}

#[test]
fn requests_that_wait_for_a_follower_have_let_go_of_their_memory() {
    const COPIED: &str = "kafka_server_socket_server_metrics_copied_byte_total";
    const MESSAGES_IN: &str = "kafka_server_brokertopicmetrics_messagesin_total";
    const REQUESTS: usize = 32;
    // Between cores they keep it until the other one has looked at them.
    let one_core = format!("cores={}", broker::runtime::cores::allowed().expect("readable")[0]);
    let mut cluster = RunningCluster::start(3, &[&SETTINGS[..], &[&one_core]].concat());
    create_topic(cluster.node(1));
    wait_until_all_in_sync(&cluster, &[1, 2, 3]);
    let leader = partitions(cluster.node(1))[&0].0 as usize;
    let follower = cluster.running().into_iter().find(|id| *id != leader).expect("two others");
    let mut clients: Vec<Client> = (0..REQUESTS).map(|_| Client::new(cluster.node(leader))).collect();
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(1_000, None, Some(&[7; 8192]), &[]);
    // Longer than a new controller and the end of the follower's session take on any machine.
    let request = produce(0, &builder.build().expect("small"), 1, i32::MAX);
    let before = [COPIED, MESSAGES_IN].map(|name| cluster.node(leader).metric(name));
    cluster.kill(follower);
    clients.iter_mut().for_each(|client| client.send_raw(&request));
    wait_until(|| cluster.node(leader).metric(MESSAGES_IN) == before[1] + REQUESTS as f64);
    // Those that kept their bytes would keep receive buffers, of which there are few, and the others would have been copied.
    let copied = cluster.node(leader).metric(COPIED) - before[0];
    assert!(copied < (REQUESTS * request.len() / 4) as f64, "{copied} bytes of {REQUESTS} requests copied");
    // The killed one leaves the in-sync replicas, and they are answered.
    for client in &mut clients {
        let answer = client.receive_raw().expect("an answer");
        let (_, response): (i32, ProduceResponse<'_>) =
            decode_response(&answer, PRODUCE_VERSION).expect("decodable");
        let topic = &response.responses[0];
        assert_eq!((&*topic.name, topic.partition_responses[0].error_code), (TOPIC, 0));
    }
}

fn coordinator(cluster: &RunningCluster, group: &str) -> Option<usize> {
    let request = FindCoordinatorRequest { coordinator_keys: vec![group.into()], ..Default::default() };
    Client::new(cluster.node(cluster.running()[0])).call(&request, 4, |response| {
        let found = &response.coordinators[0];
        (found.error_code == 0).then_some(found.node_id as usize)
    })
}

fn commit(cluster: &RunningCluster, group: &str, offset: i64) -> ErrorCode {
    let Some(node) = coordinator(cluster, group).filter(|node| cluster.running().contains(node)) else {
        return ErrorCode::COORDINATOR_NOT_AVAILABLE;
    };
    let row = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
    let topic = OffsetCommitRequestTopic { name: TOPIC.into(), partitions: vec![row], ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    Client::new(cluster.node(node))
        .call(&request, 8, |response| ErrorCode(response.topics[0].partitions[0].error_code))
}

fn committed(cluster: &RunningCluster, group: &str) -> Option<i64> {
    let node = coordinator(cluster, group).filter(|node| cluster.running().contains(node))?;
    let wanted = OffsetFetchRequestGroup { group_id: group.into(), topics: None, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![wanted], ..Default::default() };
    Client::new(cluster.node(node)).call(&request, 8, |response| {
        let found = &response.groups[0];
        let row = found.topics.first().and_then(|topic| topic.partitions.first());
        row.filter(|_| found.error_code == 0).map(|row| row.committed_offset)
    })
}

#[test]
fn groups_go_on_from_their_offsets_when_their_coordinator_is_killed() {
    let mut cluster = RunningCluster::start(3, &SETTINGS);
    create_topic(cluster.node(1));
    wait_until_all_in_sync(&cluster, &[1, 2, 3]);
    let groups = ["a", "b", "c", "d"];
    for (number, group) in groups.iter().enumerate() {
        wait_until(|| commit(&cluster, group, 10 + number as i64) == ErrorCode::NONE);
    }
    let killed = coordinator(&cluster, groups[0]).expect("a coordinator");
    cluster.kill(killed);
    for (number, group) in groups.iter().enumerate() {
        wait_until(|| committed(&cluster, group) == Some(10 + number as i64));
        wait_until(|| commit(&cluster, group, 20 + number as i64) == ErrorCode::NONE);
    }
    cluster.restart(killed);
    wait_until_all_in_sync(&cluster, &[1, 2, 3]);
    for (number, group) in groups.iter().enumerate() {
        wait_until(|| committed(&cluster, group) == Some(20 + number as i64));
    }
}
