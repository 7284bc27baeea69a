//! Records as producers and consumers see them: written, acknowledged, read back byte for byte, also after kill -9.

mod client;
mod harness;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use client::Client;
use harness::{DEADLINE, RunningBroker, wait_until};
use protocol::ErrorCode;
use protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use protocol::records::{BatchBuilder, BatchOptions, BatchView, iter_batches};
use protocol::wire::Few;
use protocol::wire::Records;

const TOPIC: &str = "t";
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
const NO_SESSION: i32 = -1;

fn create_topic(client: &mut Client, partitions: i32, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
        ..Default::default()
    });
    let topic = CreatableTopic {
        name: TOPIC.into(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let error = client.call(&request, 7, |response| ErrorCode(response.topics[0].error_code));
    assert_eq!(error, ErrorCode::NONE);
}

/// A batch of records with these values; the first sequence number makes it idempotent.
fn batch(values: &[&str], sequence: Option<i32>) -> Vec<u8> {
    let options = match sequence {
        None => BatchOptions::default(),
        Some(base_sequence) => {
            BatchOptions { producer_id: 7, producer_epoch: 0, base_sequence, ..BatchOptions::default() }
        }
    };
    let mut builder = BatchBuilder::new(options);
    for value in values {
        builder.append(1_000, None, Some(value.as_bytes()), &[]);
    }
    builder.build().expect("small").to_vec()
}

fn produce_request<'a>(acks: i16, batches: &'a [(i32, Vec<u8>)]) -> ProduceRequest<'a> {
    let partition_data = batches.iter().map(|(index, batch)| PartitionProduceData {
        index: *index,
        records: Some(Records::Borrowed(batch)),
        ..Default::default()
    });
    let topic = TopicProduceData {
        name: TOPIC.into(),
        partition_data: partition_data.collect(),
        ..Default::default()
    };
    ProduceRequest { acks, timeout_ms: 30_000, topic_data: Few::one(topic), ..Default::default() }
}

/// (partition, error, base offset) of each batch.
fn produce(client: &mut Client, batches: &[(i32, Vec<u8>)]) -> Vec<(i32, ErrorCode, i64)> {
    client.call(&produce_request(-1, batches), PRODUCE_VERSION, |response| {
        let rows = &response.responses[0].partition_responses;
        rows.iter().map(|row| (row.index, ErrorCode(row.error_code), row.base_offset)).collect()
    })
}

fn fetch_request<'a>(from: &[(i32, i64)], max_wait_ms: i32, min_bytes: i32) -> FetchRequest<'a> {
    let partitions = from.iter().map(|(partition, fetch_offset)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    });
    let topic = FetchTopic { topic: TOPIC.into(), partitions: partitions.collect(), ..Default::default() };
    FetchRequest {
        max_wait_ms,
        min_bytes,
        session_epoch: NO_SESSION,
        topics: Few::one(topic),
        ..Default::default()
    }
}

/// What one partition's row of a fetch says.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    partition: i32,
    error: ErrorCode,
    high_watermark: i64,
    records: Vec<u8>,
}

fn fetch(client: &mut Client, request: &FetchRequest<'_>) -> Vec<Row> {
    client.call(request, FETCH_VERSION, |response| {
        let rows = response.responses.iter().flat_map(|topic| &topic.partitions);
        rows.map(|row| Row {
            partition: row.partition_index,
            error: ErrorCode(row.error_code),
            high_watermark: row.high_watermark,
            records: row.records.as_ref().map(|r| r.contiguous().into_owned()).unwrap_or_default(),
        })
        .collect()
    })
}

fn fetch_from_start(client: &mut Client, partition: i32) -> Row {
    fetch(client, &fetch_request(&[(partition, 0)], 0, 0)).remove(0)
}

/// The stored batch without what the broker writes into it: base offset and leader epoch.
fn as_sent(batch: &BatchView<'_>) -> Vec<u8> {
    let mut bytes = batch.bytes().to_vec();
    bytes[..8].fill(0);
    bytes[12..16].copy_from_slice(&(-1i32).to_be_bytes());
    bytes
}

#[test]
fn what_is_acknowledged_comes_back_byte_for_byte_from_every_partition_also_after_kill_9() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut client = Client::new(&broker);
    create_topic(&mut client, 8, &[]);
    let sent: Vec<_> = (0..8).map(|n| (n, batch(&["one", "two", &n.to_string()], None))).collect();
    for round in 0..3 {
        let expected: Vec<_> = (0..8).map(|n| (n, ErrorCode::NONE, 3 * round)).collect();
        assert_eq!(produce(&mut client, &sent), expected);
    }
    let check = |client: &mut Client| {
        for (partition, sent) in &sent {
            let row = fetch_from_start(client, *partition);
            assert_eq!((row.error, row.high_watermark), (ErrorCode::NONE, 9));
            let batches: Vec<_> = iter_batches(&row.records).map(|batch| batch.expect("whole")).collect();
            assert_eq!(batches.iter().map(BatchView::base_offset).collect::<Vec<_>>(), [0, 3, 6]);
            assert!(batches.iter().all(|batch| as_sent(batch) == *sent));
        }
    };
    check(&mut client);
    let broker = RunningBroker::start_in(broker.kill(), &["--cores", "0-1"]);
    check(&mut Client::new(&broker));
    // Another number of shards finds the same.
    let broker = RunningBroker::start_in(broker.kill(), &["--cores", "0"]);
    let mut client = Client::new(&broker);
    check(&mut client);
    assert_eq!(produce(&mut client, &sent)[5], (5, ErrorCode::NONE, 9));
    let (code, dir) = broker.terminate_keeping_data();
    assert_eq!(code, Some(0));
    let broker = RunningBroker::start_in(dir, &["--cores", "0-1"]);
    let row = fetch_from_start(&mut Client::new(&broker), 5);
    assert_eq!(row.high_watermark, 12);
}

#[test]
fn an_idempotent_batch_that_is_sent_again_is_there_once_also_across_kill_9() {
    let broker = RunningBroker::start(&["--cores", "0"]);
    let mut client = Client::new(&broker);
    create_topic(&mut client, 1, &[]);
    let first = [(0, batch(&["a", "b"], Some(0)))];
    let second = [(0, batch(&["c"], Some(2)))];
    assert_eq!(produce(&mut client, &first), [(0, ErrorCode::NONE, 0)]);
    assert_eq!(produce(&mut client, &second), [(0, ErrorCode::NONE, 2)]);
    assert_eq!(produce(&mut client, &first), [(0, ErrorCode::NONE, 0)], "its first offset");
    let broker = RunningBroker::start_in(broker.kill(), &["--cores", "0"]);
    let mut client = Client::new(&broker);
    assert_eq!(produce(&mut client, &second), [(0, ErrorCode::NONE, 2)]);
    let gap = [(0, batch(&["z"], Some(9)))];
    assert_eq!(produce(&mut client, &gap)[0].1, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(fetch_from_start(&mut client, 0).high_watermark, 3);
}

#[test]
fn one_bad_partition_does_not_fail_the_others() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut client = Client::new(&broker);
    create_topic(&mut client, 2, &[("max.message.bytes", "200")]);
    let mut corrupt = batch(&["x"], None);
    *corrupt.last_mut().unwrap() ^= 1;
    let large = batch(&[&"y".repeat(500)], None);
    let batches = [(0, corrupt), (1, batch(&["ok"], None)), (7, batch(&["nowhere"], None)), (1, large)];
    assert_eq!(
        produce(&mut client, &batches),
        [
            (0, ErrorCode::CORRUPT_MESSAGE, -1),
            (1, ErrorCode::NONE, 0),
            (7, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1),
            (1, ErrorCode::MESSAGE_TOO_LARGE, -1),
        ]
    );
    let rows = fetch(&mut client, &fetch_request(&[(0, 0), (1, 0), (1, 5), (9, 0)], 60_000, 1 << 20));
    let errors: Vec<_> = rows.iter().map(|row| (row.partition, row.error)).collect();
    assert!(errors.contains(&(1, ErrorCode::NONE)), "{errors:?}");
    assert!(errors.contains(&(1, ErrorCode::OFFSET_OUT_OF_RANGE)), "{errors:?}");
    assert!(errors.contains(&(9, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)), "{errors:?}");
}

#[test]
fn a_fetch_waits_for_records_of_any_shard_and_is_woken_by_the_append() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut producer = Client::new(&broker);
    create_topic(&mut producer, 8, &[]);
    for partition in 0..8 {
        let mut consumer = Client::new(&broker);
        let (answer, answered) = mpsc::channel();
        std::thread::spawn(move || {
            let from: Vec<_> = (0..8).map(|n| (n, i64::from(n < partition))).collect();
            let rows = fetch(&mut consumer, &fetch_request(&from, i32::MAX, 1));
            let _ = answer.send(rows);
        });
        assert!(answered.try_recv().is_err(), "nothing is there yet");
        assert_eq!(produce(&mut producer, &[(partition, batch(&["now"], None))])[0].1, ErrorCode::NONE);
        let rows = answered.recv_timeout(DEADLINE).expect("woken");
        let with_records: Vec<_> =
            rows.iter().filter(|row| !row.records.is_empty()).map(|row| row.partition).collect();
        assert_eq!(with_records, [partition]);
    }
}

#[test]
fn a_fetch_waits_until_there_is_as_much_as_it_asks_for() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut producer = Client::new(&broker);
    create_topic(&mut producer, 4, &[]);
    let one = batch(&["0123456789"], None);
    let min_bytes = i32::try_from(one.len() * 6).unwrap();
    let mut consumer = Client::new(&broker);
    let (answer, answered) = mpsc::channel();
    std::thread::spawn(move || {
        let from: Vec<_> = (0..4).map(|n| (n, 0)).collect();
        let _ = answer.send(fetch(&mut consumer, &fetch_request(&from, i32::MAX, min_bytes)));
    });
    for n in 0..6 {
        assert!(answered.try_recv().is_err(), "answered with {n} of 6 batches");
        assert_eq!(produce(&mut producer, &[(n % 4, one.clone())])[0].1, ErrorCode::NONE);
    }
    let rows = answered.recv_timeout(DEADLINE).expect("woken");
    assert_eq!(rows.iter().map(|row| row.records.len()).sum::<usize>(), one.len() * 6);
}

#[test]
fn a_fetch_without_news_answers_empty_when_its_time_is_over() {
    let broker = RunningBroker::start(&["--cores", "0"]);
    let mut client = Client::new(&broker);
    create_topic(&mut client, 1, &[]);
    let rows = fetch(&mut client, &fetch_request(&[(0, 0)], 50, 1));
    assert_eq!(rows, [Row { partition: 0, error: ErrorCode::NONE, high_watermark: 0, records: vec![] }]);
}

#[test]
fn a_stop_does_not_wait_for_a_fetch_that_waits() {
    let broker = RunningBroker::start(&["--cores", "0-1", "--set", "shutdown_timeout_ms=3600000"]);
    let mut client = Client::new(&broker);
    create_topic(&mut client, 4, &[]);
    let mut consumer = Client::new(&broker);
    let waiting = std::thread::spawn(move || {
        let from: Vec<_> = (0..4).map(|n| (n, 0)).collect();
        fetch(&mut consumer, &fetch_request(&from, i32::MAX, 1)).len()
    });
    wait_until(|| broker.metric("broker_requests_in_flight") >= 1.0);
    assert_eq!(broker.terminate(), Some(0));
    assert_eq!(waiting.join().expect("answered"), 4);
}

#[test]
fn acks_0_gets_no_answer_and_an_error_costs_the_connection() {
    let broker = RunningBroker::start(&["--cores", "0"]);
    let mut client = Client::new(&broker);
    create_topic(&mut client, 1, &[]);
    let frame = |batches: &[(i32, Vec<u8>)]| {
        let request = produce_request(0, batches);
        protocol::frame::encode_request(1, None, &request, PRODUCE_VERSION).expect("encodable").concat()
    };
    // The next answer on the connection is the fetch's.
    client.send_raw(&frame(&[(0, batch(&["quiet"], None))]));
    wait_until(|| fetch_from_start(&mut client, 0).high_watermark == 1);
    assert_eq!(client.call_raw(&frame(&[(5, batch(&["nowhere"], None))])), None);
}

#[test]
fn offsets_are_found_by_place_and_by_timestamp() {
    let broker = RunningBroker::start(&["--cores", "0"]);
    let mut client = Client::new(&broker);
    create_topic(&mut client, 1, &[]);
    for timestamp in [100, 300, 200] {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(timestamp, None, Some(b"v"), &[]);
        builder.append(timestamp + 10, None, Some(b"w"), &[]);
        produce(&mut client, &[(0, builder.build().unwrap().to_vec())]);
    }
    let mut find = |timestamp: i64| {
        let partition = ListOffsetsPartition { timestamp, ..Default::default() };
        let topic =
            ListOffsetsTopic { name: TOPIC.into(), partitions: vec![partition], ..Default::default() };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        client.call(&request, 7, |response| {
            let row = &response.topics[0].partitions[0];
            (ErrorCode(row.error_code), row.offset, row.timestamp)
        })
    };
    assert_eq!(find(-1), (ErrorCode::NONE, 6, -1), "latest");
    assert_eq!(find(-2), (ErrorCode::NONE, 0, -1), "earliest");
    assert_eq!(find(-3), (ErrorCode::NONE, 3, 310), "largest timestamp");
    assert_eq!(find(105), (ErrorCode::NONE, 1, 110));
    assert_eq!(find(301), (ErrorCode::NONE, 3, 310));
    assert_eq!(find(311), (ErrorCode::NONE, -1, -1));
    assert_eq!(find(-9).0, ErrorCode::UNSUPPORTED_VERSION);
}

#[test]
fn a_topic_that_wants_another_codec_or_the_brokers_time_gets_it() {
    let broker = RunningBroker::start(&["--cores", "0"]);
    let mut client = Client::new(&broker);
    let configs = [("compression.type", "zstd"), ("message.timestamp.type", "LogAppendTime")];
    create_topic(&mut client, 1, &configs);
    let value = "the same again and again ".repeat(50);
    assert_eq!(produce(&mut client, &[(0, batch(&[&value], None))])[0].1, ErrorCode::NONE);
    let row = fetch_from_start(&mut client, 0);
    let stored = BatchView::parse(&row.records).expect("a batch");
    stored.check_crc().expect("intact");
    assert_eq!(stored.compression().unwrap(), protocol::compression::Compression::Zstd);
    assert!(stored.max_timestamp() > 1_000_000_000_000, "the broker's clock, not the producer's");
}

#[test]
fn a_thousand_requests_sent_at_once_are_answered_in_order() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    let mut client = Client::new(&broker);
    create_topic(&mut client, 4, &[]);
    let batches: Vec<Vec<(i32, Vec<u8>)>> =
        (0..1000).map(|n| vec![(n % 4, batch(&[&n.to_string()], None))]).collect();
    let frames: Vec<u8> = batches
        .iter()
        .enumerate()
        .flat_map(|(n, batches)| {
            let request = produce_request(1, batches);
            protocol::frame::encode_request(n as i32, None, &request, PRODUCE_VERSION).unwrap().concat()
        })
        .collect();
    client.send_raw(&frames);
    let began = Instant::now();
    for n in 0..1000 {
        let answer = client.receive_raw().expect("an answer");
        assert_eq!(i32::from_be_bytes(answer[..4].try_into().unwrap()), n);
        assert!(began.elapsed() < DEADLINE + Duration::from_secs(1));
    }
    for partition in 0..4 {
        let row = fetch_from_start(&mut client, partition);
        let values: Vec<String> = iter_batches(&row.records)
            .flat_map(|stored| {
                let stored = stored.expect("whole");
                let payload = stored.payload().to_vec();
                let records = protocol::records::RecordIter::new(&stored, &payload);
                records
                    .map(|r| String::from_utf8(r.unwrap().value.unwrap().to_vec()).unwrap())
                    .collect::<Vec<_>>()
            })
            .collect();
        let expected: Vec<String> = (0..1000).filter(|n| n % 4 == partition).map(|n| n.to_string()).collect();
        assert_eq!(values, expected, "partition {partition} is in the order of sending");
    }
}

#[test]
fn a_compacted_topic_refuses_records_without_a_key_and_names_them() {
    let broker = RunningBroker::start(&[]);
    let mut client = Client::new(&broker);
    create_topic(&mut client, 1, &[("cleanup.policy", "compact")]);
    let mut mixed = BatchBuilder::new(BatchOptions::default());
    for key in [Some(&b"k"[..]), None, Some(b""), None] {
        mixed.append(1_000, key, Some(b"v"), &[]);
    }
    let mixed = [(0, mixed.build().expect("small").to_vec())];
    let (code, refused, message) = client.call(&produce_request(-1, &mixed), PRODUCE_VERSION, |response| {
        let row = &response.responses[0].partition_responses[0];
        let refused: Vec<_> = row.record_errors.iter().map(|error| error.batch_index).collect();
        let message = row.record_errors[0].batch_index_error_message.as_deref().map(str::to_owned);
        (ErrorCode(row.error_code), refused, message)
    });
    assert_eq!((code, refused), (ErrorCode::INVALID_RECORD, vec![1, 3]));
    assert!(message.unwrap().contains("Compacted topic cannot accept message without key"));

    let mut keyed = BatchBuilder::new(BatchOptions::default());
    keyed.append(1_000, Some(b"k"), None, &[]);
    let keyed = [(0, keyed.build().expect("small").to_vec())];
    assert_eq!(produce(&mut client, &keyed), [(0, ErrorCode::NONE, 0)]);
}
