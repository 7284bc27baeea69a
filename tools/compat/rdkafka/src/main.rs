//! What the crate rdkafka has to show. usage: suite DATA NULLS | write TOPIC COMPRESSION DATA | read TOPIC | agent

mod agent;
mod client;
mod row;

use client::{Client, DEADLINE, replication_factor};
use rdkafka::Offset;
use rdkafka::error::RDKafkaErrorCode;
use row::{Row, expected, load};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

const ALL: [(i32, Offset); 3] = [(0, Offset::Beginning), (1, Offset::Beginning), (2, Offset::Beginning)];
/// Some time in 2023: the suite's topics keep everything.
const SOME_TIME_MS: i64 = 1_700_000_000_000;

fn main() {
    let bootstrap = std::env::var("BOOTSTRAP").expect("BOOTSTRAP is set");
    let client = Client::new(&bootstrap);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["suite", data, nulls] => {
            let mut suite = Suite::new(client, load(data));
            suite.run(&load(nulls));
            std::process::exit(i32::from(suite.failed > 0));
        }
        ["write", topic, compression, data] => {
            client
                .produce(topic, &load(data), &[("compression.type", compression)])
                .expect("everything is delivered");
        }
        ["read", topic] => {
            let partitions = client.topics()[topic] as i32;
            let starts: Vec<_> = (0..partitions).map(|partition| (partition, Offset::Beginning)).collect();
            let ends =
                (0..partitions).map(|partition| client.watermarks(topic, partition).expect("watermarks").1);
            let count = ends.sum::<i64>() as usize;
            for row in client.consume(topic, &starts, count).expect("records") {
                println!("{}", row.line());
            }
        }
        ["agent"] => agent::run(&bootstrap, &client),
        _ => panic!("usage: suite DATA NULLS | write TOPIC COMPRESSION DATA | read TOPIC | agent"),
    }
}

struct Suite {
    client: Client,
    rows: Vec<Row>,
    prefix: String,
    passed: u32,
    failed: u32,
}

impl Suite {
    fn new(client: Client, rows: Vec<Row>) -> Suite {
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_secs());
        let prefix = format!("rdkafka-{}-{}", std::process::id(), seconds % 100_000);
        Suite { client, rows, prefix, passed: 0, failed: 0 }
    }

    fn run(&mut self, nulls: &[Row]) {
        self.test("topics are created, listed, refused when wrong, and deleted", Suite::topics);
        for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
            for acks in ["0", "1", "all"] {
                let name =
                    format!("{compression}, acks={acks}: everything written is read back, byte for byte");
                self.test(&name, |suite| suite.round_trip(compression, acks));
            }
        }
        self.test("records with neither key nor value, and headers without a value", |suite| {
            let topic = suite.topic("nulls", 3);
            suite.client.produce(&topic, nulls, &[]).expect("written");
            suite.reads(&topic, &ALL, &expected(nulls));
        });
        self.test("an idempotent producer's records are there once and in order", Suite::idempotent);
        self.test("a record over max.message.bytes is refused, the next one is taken", Suite::too_large);
        let topic = self.topic("read", 3);
        self.client.produce(&topic, &self.rows, &[]).expect("written");
        self.test("consumes from the earliest offset", |suite| {
            suite.reads(&topic, &[(1, Offset::Beginning)], &suite.from(1, 0));
        });
        self.test("consumes from the end backwards and from any offset", |suite| {
            let last = suite.from(1, 0).len() as i64;
            suite.reads(&topic, &[(1, Offset::OffsetTail(3))], &suite.from(1, last - 3));
            let wanted = [suite.from(0, 17), suite.from(2, 40)].concat();
            suite.reads(&topic, &[(0, Offset::Offset(17)), (2, Offset::Offset(40))], &wanted);
        });
        self.test("consumes from the latest offset: only what comes afterwards", Suite::from_latest);
        self.test("finds offsets by timestamp and consumes from there", |suite| suite.from_timestamp(&topic));
        self.test("first and last offsets are told", |suite| {
            for partition in 0..3 {
                let end = suite.from(partition, 0).len() as i64;
                assert_eq!(suite.client.watermarks(&topic, partition).expect("watermarks"), (0, end));
            }
        });
        self.test("20,000 small records in large batches, in order", Suite::many);
        println!("{} passed, {} failed", self.passed, self.failed);
    }

    fn topics(&self) {
        let name = self.topic("admin", 5);
        eventually("the new topic is listed", || self.client.topics().get(&name) == Some(&5));
        let create = |name: &str, replication| self.client.create_topic(name, 1, replication);
        assert_eq!(create(&name, 1), Err(RDKafkaErrorCode::TopicAlreadyExists));
        assert_eq!(create(&format!("{name} with spaces"), 1), Err(RDKafkaErrorCode::InvalidTopic));
        assert_eq!(create(&format!("{name}-rf"), 9), Err(RDKafkaErrorCode::InvalidReplicationFactor));
        self.client.delete_topic(&name).expect("deleted");
        eventually("the deleted topic is gone", || !self.client.topics().contains_key(&name));
        assert_eq!(self.client.delete_topic(&name), Err(RDKafkaErrorCode::UnknownTopicOrPartition));
    }

    fn round_trip(&self, compression: &str, acks: &str) {
        let topic = self.topic(&format!("{compression}-{acks}"), 3);
        let settings = [("compression.type", compression), ("acks", acks)];
        let mut offsets = self.client.produce(&topic, &self.rows, &settings).expect("written");
        let wanted = expected(&self.rows);
        if acks != "0" {
            offsets.sort();
            let dense: Vec<_> = wanted.iter().map(|row| (row.partition, row.offset)).collect();
            assert!(offsets == dense, "acknowledged offsets are not 0, 1, 2, ...");
        }
        self.reads(&topic, &ALL, &wanted);
    }

    fn idempotent(&self) {
        let topic = self.topic("idempotent", 3);
        for _ in 0..2 {
            let settings = [("enable.idempotence", "true"), ("compression.type", "lz4")];
            self.client.produce(&topic, &self.rows, &settings).expect("written");
        }
        self.reads(&topic, &ALL, &expected(&[&self.rows[..], &self.rows[..]].concat()));
    }

    fn too_large(&self) {
        let topic = self.topic("too-large", 1);
        let big = Row::new(0, SOME_TIME_MS, &vec![7; 1_500_000]);
        let refused = self.client.produce(&topic, &[big], &[("message.max.bytes", "4000000")]);
        assert_eq!(refused, Err(RDKafkaErrorCode::MessageSizeTooLarge));
        assert_eq!(self.client.produce(&topic, &[Row::new(0, SOME_TIME_MS, b"v")], &[]), Ok(vec![(0, 0)]));
    }

    fn from_latest(&self) {
        let topic = self.topic("latest", 1);
        self.client.produce(&topic, &vec![Row::new(0, SOME_TIME_MS, b"old"); 5], &[]).expect("written");
        // Nobody tells when the reader has found the end, so there is something new until it has read one.
        let read = std::thread::scope(|scope| {
            let reader = scope.spawn(|| self.client.consume(&topic, &[(0, Offset::End)], 1));
            while !reader.is_finished() {
                self.client.produce(&topic, &[Row::new(0, SOME_TIME_MS, b"new")], &[]).expect("written");
            }
            reader.join().expect("a result").expect("a record")
        });
        assert!(read[0].offset >= 5 && read[0].value.as_deref() == Some(b"new"), "read {}", read[0].line());
    }

    fn from_timestamp(&self, topic: &str) {
        let all = self.from(0, 0);
        let mark = all.iter().find(|row| row.key.as_deref() == Some(b"mark")).expect("the mark");
        let find = |timestamp| self.client.offset_for_timestamp(topic, 0, timestamp);
        assert_eq!(find(mark.timestamp), Offset::Offset(mark.offset));
        assert_eq!(find(mark.timestamp + 1), Offset::Offset(mark.offset + 1));
        assert_eq!(find(0), Offset::Offset(0));
        assert_eq!(find(mark.timestamp + 10_000_000), Offset::End);
        self.reads(topic, &[(0, find(mark.timestamp))], &self.from(0, mark.offset));
    }

    fn many(&self) {
        let topic = self.topic("many", 2);
        let row = |i: i64| Row::new((i % 2) as i32, SOME_TIME_MS + i, format!("{i:0100}").as_bytes());
        let rows: Vec<Row> = (0..20_000).map(row).collect();
        self.client.produce(&topic, &rows, &[("compression.type", "zstd")]).expect("written");
        self.reads(&topic, &[(0, Offset::Beginning), (1, Offset::Beginning)], &expected(&rows));
    }

    fn test(&mut self, name: &str, body: impl FnOnce(&Suite)) {
        let started = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| body(self))).is_ok() {
            self.passed += 1;
            println!("ok rdkafka: {name} ({:.2} s)", started.elapsed().as_secs_f64());
        } else {
            self.failed += 1;
            println!("FAILED rdkafka: {name}");
        }
    }

    fn topic(&self, suffix: &str, partitions: i32) -> String {
        let name = format!("{}-{suffix}", self.prefix);
        self.client.create_topic(&name, partitions, replication_factor()).expect("created");
        // A partition that is not ready yet loses records with acks=0, and puts them out of order without idempotence.
        eventually("the topic is ready", || {
            (0..partitions).all(|p| self.client.watermarks(&name, p).is_ok())
        });
        name
    }

    fn from(&self, partition: i32, offset: i64) -> Vec<Row> {
        expected(&self.rows)
            .into_iter()
            .filter(|row| row.partition == partition && row.offset >= offset)
            .collect()
    }

    fn reads(&self, topic: &str, starts: &[(i32, Offset)], wanted: &[Row]) {
        let got = self.client.consume(topic, starts, wanted.len()).expect("records");
        assert_eq!(got.len(), wanted.len());
        for (one, other) in got.iter().zip(wanted) {
            let (one, other) = (one.line(), other.line());
            assert!(one == other, "expected {other:.300}, got {one:.300}");
        }
    }
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
