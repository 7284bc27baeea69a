//! Runs against a fake broker, and the hand-written bytes against the codec.

use std::collections::BTreeMap;

use clap::Parser;
use protocol::frame::decode_request_header;
use protocol::messages::ProduceRequest;
use protocol::records::{BatchView, RecordIter, decompress};
use protocol::wire::Message;

use super::frame::{Frame, RequestFields, VERSIONS};
use super::run::ProducerEnd;
use super::{ProduceArgs, acknowledged_and_not_read, measure};
use crate::fake_broker::FakeBroker;
use crate::payload::{BatchFields, Filling, Payload, PayloadPlan, Stamp, finish, stamp};
use crate::report::Report;

const NOT_LEADER: i16 = 6;

#[derive(Parser)]
#[command(args_override_self = true)]
struct Line {
    #[command(flatten)]
    args: ProduceArgs,
}

pub(crate) fn produce(broker: &FakeBroker, options: &str) -> Report {
    produce_to(&broker.address, options)
}

pub(crate) fn produce_to(address: &str, options: &str) -> Report {
    let common = ["bench", "--bootstrap", address, "--quiet", "--warmup", "0", "--duration", "1s"];
    let line = Line::try_parse_from(common.into_iter().chain(options.split(' '))).expect("valid options");
    measure(&line.args).expect("the run succeeds")
}

/// All records of a partition, checked like a leader checks them: (sequence or -1, key, value) in order.
fn records(broker: &FakeBroker, topic: &str, partition: usize) -> Vec<(i32, Option<Vec<u8>>, Vec<u8>)> {
    let mut all = Vec::new();
    for bytes in broker.log(topic, partition).expect("the topic").batches {
        let batch = BatchView::parse(&bytes).expect("a sound batch");
        batch.check_crc().expect("the right CRC");
        let payload = decompress(&batch, 1 << 20).expect("decompresses");
        for (number, record) in RecordIter::new(&batch, &payload).enumerate() {
            let record = record.expect("a sound record");
            let sequence = if batch.base_sequence() < 0 { -1 } else { batch.base_sequence() + number as i32 };
            let value = record.value.expect("a value").to_vec();
            all.push((sequence, record.key.map(<[u8]>::to_vec), value));
        }
    }
    all
}

#[test]
fn requests_and_batches_written_by_hand_are_what_the_codec_reads() {
    let plan = PayloadPlan {
        sizes: "50".parse().expect("a size"),
        filling: Filling::Text,
        keyed: true,
        batch_bytes: 4096,
    };
    let payload = Payload::new(&plan);
    let mut frame = Frame::default();
    for version in VERSIONS {
        // The second time the buffer holds an older request with other batch lengths, the third time the same.
        for counts in [[3, 5], [2, 7], [2, 7]] {
            let fields = RequestFields {
                version,
                client_id: "me".to_owned(),
                acks: -1,
                timeout_ms: 1500,
                topic: "orders".to_owned(),
            };
            frame.begin(&fields, 77, counts.len());
            for (partition, count) in counts.into_iter().enumerate() {
                let len = payload.extent(0, count).batch_bytes;
                frame.batch(partition as i32, len, count, |out, patch| {
                    payload.write_records(out, 0, count, patch, |number| {
                        let number = u64::from(number);
                        (Stamp { intended_unix_ns: 1000 + number, source: 1, number }, 9)
                    });
                    let fields = BatchFields {
                        base_offset: 0,
                        timestamp_ms: 42,
                        attributes: 0,
                        producer_id: 5,
                        producer_epoch: 1,
                        base_sequence: 10,
                    };
                    finish(out, count, &fields);
                });
            }
            let bytes = frame.finish();
            assert_eq!(
                bytes.len() - 4,
                i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
            );
            let (header, mut decoder) = decode_request_header(&bytes[4..]).expect("a header");
            assert_eq!((header.correlation_id, header.request_api_version), (77, version));
            let request = ProduceRequest::decode(&mut decoder, version).expect("a request");
            decoder.finish().expect("nothing left");
            assert_eq!((request.acks, request.timeout_ms), (-1, 1500));
            assert_eq!(request.topic_data[0].name, "orders");
            for (data, count) in request.topic_data[0].partition_data.iter().zip(counts) {
                let records = data.records.as_ref().expect("records").contiguous().into_owned();
                let batch = BatchView::parse(&records).expect("a batch");
                batch.check_crc().expect("the right CRC");
                assert_eq!((batch.record_count(), batch.base_timestamp()), (count as i32, 42));
                let read: Vec<_> =
                    RecordIter::new(&batch, batch.payload()).map(|r| r.expect("sound")).collect();
                assert_eq!(read.len(), count as usize);
                let last = read.last().expect("not empty");
                assert_eq!(last.key, Some(&b"0000000009"[..]));
                assert_eq!(last.value.map(|v| &v[..8]), Some(&(999 + u64::from(count)).to_be_bytes()[..]));
            }
        }
    }
}

#[test]
fn every_scheduled_record_arrives_once_and_in_order() {
    for options in ["--rate 2k --partitions 3", "--rate 2k --partitions 3 --compression lz4 --linger-ms 20"] {
        let broker = FakeBroker::start();
        let report = produce(&broker, options);
        assert_eq!((report.records, report.unfinished), (2000, 0), "{options}");
        assert_eq!(report.latency.as_ref().map(|latency| latency.count), Some(2000));
        let mut stamps = Vec::new();
        for partition in 0..3 {
            let records = records(&broker, "bench", partition);
            let of_partition: Vec<u64> =
                records.iter().map(|(_, _, value)| stamp(value).expect("a stamp").intended_unix_ns).collect();
            assert!(of_partition.is_sorted());
            stamps.extend(of_partition);
        }
        stamps.sort_unstable();
        assert_eq!(stamps.len(), 2000);
        assert!(
            stamps.windows(2).all(|pair| pair[1] - pair[0] == 500_000),
            "intended times are 0.5 ms apart"
        );
    }
}

#[test]
fn keys_go_where_kafkas_partitioner_puts_them() {
    let broker = FakeBroker::start();
    produce(&broker, "--rate 1k --keys 50 --partitions 4");
    let mut total = 0;
    for partition in 0..4 {
        for (_, key, _) in records(&broker, "bench", partition) {
            let key = key.expect("a key");
            assert_eq!(protocol::partitioner::partition_for_key(&key, 4) as usize, partition);
            total += 1;
        }
    }
    assert_eq!(total, 1000);
}

#[test]
fn refused_batches_are_sent_again_in_order_and_counted_by_name() {
    let broker = FakeBroker::start();
    broker.refuse_next(&[NOT_LEADER]);
    let report = produce(&broker, "--rate 1k --partitions 1 --idempotent --linger-ms 0");
    assert_eq!((report.records, report.unfinished), (1000, 0));
    assert!(report.errors.contains_key("NOT_LEADER_OR_FOLLOWER"), "{:?}", report.errors);
    assert!(report.retried > 0);
    let sequences: Vec<i32> =
        records(&broker, "bench", 0).into_iter().map(|(sequence, ..)| sequence).collect();
    assert_eq!(sequences, (0..1000).collect::<Vec<_>>());
    // The first record waited for its second try, and that is in the latencies.
    assert!(report.latency.is_some_and(|latency| latency.max_ns >= 100_000_000));
}

#[test]
fn a_broken_connection_is_made_again_and_nothing_is_lost() {
    let broker = FakeBroker::start();
    broker.hang_up(1);
    let report = produce(&broker, "--rate 1k --partitions 2 --idempotent");
    assert_eq!((report.records, report.unfinished, report.reconnects), (1000, 0, 1));
    assert!(report.errors.contains_key("CONNECTION_LOST"));
}

#[test]
fn an_error_that_does_not_pass_leaves_records_unwritten_and_says_so() {
    const MESSAGE_TOO_LARGE: i16 = 10;
    let broker = FakeBroker::start();
    broker.refuse_next(&[MESSAGE_TOO_LARGE]);
    let report = produce(&broker, "--rate 1k --partitions 1 --linger-ms 0");
    assert!(report.unfinished > 0 && report.records + report.unfinished == 1000);
    assert_eq!(report.errors["MESSAGE_TOO_LARGE"], report.unfinished);
    assert_eq!(report.latency_lower_bounds, report.unfinished);
    assert_eq!(report.latency.map(|latency| latency.count), Some(1000));
}

#[test]
fn records_that_a_broker_never_takes_are_in_the_latencies() {
    for options in ["--rate 1k", "--rate 1k --warmup 1s"] {
        let broker = FakeBroker::start();
        broker.refuse_next(&vec![NOT_LEADER; 100_000]);
        let report = produce(&broker, &format!("{options} --partitions 3 --drain 500ms"));
        let scheduled = if options.contains("warmup") { 2000 } else { 1000 };
        assert_eq!((report.records, report.unfinished), (0, scheduled), "{options}");
        let latency = report.latency.as_ref().expect("latencies");
        assert_eq!((latency.count, report.latency_lower_bounds), (1000, 1000), "{options}");
        assert!(latency.min_ns >= 500_000_000 && latency.max_ns >= 1_490_000_000, "{latency:?}");
        let verdict = report.verdict().expect_err("nothing was written").to_string();
        assert!(verdict.contains("refused or never answered"), "{verdict}");
        let remark = report.remarks.iter().find(|remark| remark.contains("lower bounds"));
        assert!(remark.is_some_and(|remark| remark.starts_with("1.00k of")), "{:?}", report.remarks);
    }
}

#[test]
fn a_closed_loop_sends_full_batches() {
    let broker = FakeBroker::start().with_topic("bench", 2);
    let report = produce(&broker, "--rate max --partitions 2 --batch-bytes 16KiB --acks 1");
    assert!(report.records > 0 && report.target_rate.is_none());
    assert!(report.records_per_batch > 100.0, "{}", report.records_per_batch);
    assert!(broker.produced() > 0);
}

#[test]
fn several_producers_share_the_rate_and_each_has_its_own_sequences() {
    let broker = FakeBroker::start();
    let report = produce(&broker, "--rate 1k --partitions 3 --producers 4 --linger-ms 0");
    assert_eq!((report.records, report.unfinished), (1000, 0));
    let mut next: BTreeMap<(usize, u32), u64> = BTreeMap::new();
    let mut stamps = Vec::new();
    for partition in 0..3 {
        for (_, _, value) in records(&broker, "bench", partition) {
            let stamp = stamp(&value).expect("a stamp");
            let next = next.entry((partition, stamp.source)).or_default();
            assert_eq!(stamp.number, *next);
            *next += 1;
            stamps.push(stamp.intended_unix_ns);
        }
    }
    assert_eq!(next.len(), 12, "each producer writes to each partition");
    stamps.sort_unstable();
    assert!(stamps.windows(2).all(|pair| pair[1] - pair[0] == 1_000_000), "together they are as even as one");
}

#[test]
fn sizes_follow_their_distribution_in_batches_that_keep_their_limit() {
    let broker = FakeBroker::start();
    let report =
        produce(&broker, "--rate 5k --partitions 2 --size mix:50=3,1000=1 --batch-bytes 4000 --linger-ms 50");
    assert_eq!((report.records, report.unfinished), (5000, 0));
    let mut sizes: BTreeMap<usize, u64> = BTreeMap::new();
    for partition in 0..2 {
        for batch in broker.log("bench", partition).expect("the topic").batches {
            assert!(batch.len() <= 4000);
        }
        for (_, _, value) in records(&broker, "bench", partition) {
            *sizes.entry(value.len()).or_default() += 1;
        }
    }
    assert_eq!(sizes.keys().collect::<Vec<_>>(), [&50, &1000]);
    assert!(sizes[&50].abs_diff(3750) < 150, "{sizes:?}");
    assert_eq!(report.payload_bytes, sizes[&50] * 50 + sizes[&1000] * 1000);
}

#[test]
fn the_runs_own_consumers_see_every_record_once() {
    let broker = FakeBroker::start();
    let report = produce(&broker, "--rate 1k --partitions 3 --producers 2 --consumers 2 --max-wait-ms 5");
    assert_eq!((report.records, report.unfinished), (1000, 0));
    let reading = report.end_to_end.as_ref().expect("consumers");
    let verification = reading.verification.as_ref().expect("verified");
    assert_eq!((verification.checked, verification.is_sound()), (1000, true), "{verification:?}");
    assert_eq!(reading.records, 1000);
    assert_eq!(reading.latency.as_ref().map(|latency| latency.count), Some(1000));
    report.verdict().expect("nothing is wrong");
}

#[test]
fn records_that_are_acknowledged_and_never_come_are_lost() {
    let written = |source, written: &[(i32, u64)]| ProducerEnd {
        source,
        written: written.to_vec(),
        ..ProducerEnd::default()
    };
    let producers = [written(1, &[(0, 100), (1, 50)]), written(2, &[(0, 10)])];
    let mut distinct = BTreeMap::from([((0, 1), 100), ((1, 1), 50), ((0, 2), 10), ((0, 99), 7)]);
    assert_eq!(acknowledged_and_not_read(&producers, &distinct), 0);
    distinct.insert((1, 1), 47);
    distinct.remove(&(0, 2));
    assert_eq!(acknowledged_and_not_read(&producers, &distinct), 13);
}
