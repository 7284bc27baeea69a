//! The verbs of the client: create and delete topics, write, read, look offsets up.

use crate::row::{Row, order};
use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{ClientConfig, ClientContext, Offset};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// What became of each record, by its number: partition and offset, or why not.
type Outcomes = Arc<Mutex<HashMap<usize, Result<(i32, i64), RDKafkaErrorCode>>>>;

struct Deliveries(Outcomes);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<usize>) {
        let outcome = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        };
        self.0.lock().expect("no panic in a callback").insert(*number, outcome);
    }
}

pub struct Client {
    bootstrap: String,
    pub admin: AdminClient<DefaultClientContext>,
}

/// Replicas of the topics that the suite creates.
pub fn replication_factor() -> i32 {
    let given = std::env::var("REPLICATION_FACTOR");
    given.map_or(1, |text| text.parse().expect("REPLICATION_FACTOR is a number"))
}

impl Client {
    pub fn new(bootstrap: &str) -> Client {
        let admin =
            ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client");
        Client { bootstrap: bootstrap.to_owned(), admin }
    }

    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication: i32,
    ) -> Result<(), RDKafkaErrorCode> {
        let topic =
            NewTopic::new(name, partitions, TopicReplication::Fixed(replication)).set("retention.ms", "-1");
        let answers = block_on(self.admin.create_topics([&topic], &AdminOptions::new())).expect("an answer");
        answers.into_iter().next().expect("one topic").map(drop).map_err(|(_, code)| code)
    }

    pub fn delete_topic(&self, name: &str) -> Result<(), RDKafkaErrorCode> {
        let answers = block_on(self.admin.delete_topics(&[name], &AdminOptions::new())).expect("an answer");
        answers.into_iter().next().expect("one topic").map(drop).map_err(|(_, code)| code)
    }

    /// Name and number of partitions of each topic.
    pub fn topics(&self) -> HashMap<String, usize> {
        let metadata = self.admin.inner().fetch_metadata(None, DEADLINE).expect("metadata");
        metadata.topics().iter().map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect()
    }

    /// Writes the rows and says where each one is, or why the first one of them is not.
    pub fn produce(
        &self,
        topic: &str,
        rows: &[Row],
        settings: &[(&str, &str)],
    ) -> Result<Vec<(i32, i64)>, RDKafkaErrorCode> {
        let outcomes = Outcomes::default();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("linger.ms", "5");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let producer: BaseProducer<Deliveries> =
            config.create_with_context(Deliveries(outcomes.clone())).expect("a producer");
        for (number, row) in rows.iter().enumerate() {
            let headers = row.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
                headers.insert(Header { key: name, value: value.as_ref() })
            });
            let mut record = BaseRecord::<[u8], [u8], Box<usize>>::with_opaque_to(topic, Box::new(number))
                .partition(row.partition)
                .timestamp(row.timestamp)
                .headers(headers);
            record.key = row.key.as_deref();
            record.payload = row.value.as_deref();
            while let Err((error, back)) = producer.send(record) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
                producer.poll(Duration::from_millis(100));
                record = back;
            }
            producer.poll(Duration::ZERO);
        }
        producer.flush(DEADLINE).expect("everything is delivered in time");
        let outcomes = outcomes.lock().expect("no panic in a callback");
        (0..rows.len()).map(|number| outcomes[&number]).collect()
    }

    fn consumer(&self) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", "no-group")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("fetch.wait.max.ms", "100")
            .create()
            .expect("a consumer")
    }

    /// Reads `count` rows from the partitions' starts, ordered by partition and offset.
    pub fn consume(
        &self,
        topic: &str,
        starts: &[(i32, Offset)],
        count: usize,
    ) -> Result<Vec<Row>, KafkaError> {
        let consumer = self.consumer();
        let mut assignment = TopicPartitionList::new();
        for &(partition, start) in starts {
            assignment.add_partition_offset(topic, partition, start)?;
        }
        consumer.assign(&assignment)?;
        let (mut rows, deadline) = (Vec::new(), Instant::now() + DEADLINE);
        while rows.len() < count {
            assert!(Instant::now() < deadline, "only {} of {count} records came in time", rows.len());
            if let Some(message) = consumer.poll(Duration::from_millis(200)) {
                rows.push(Row::of(&message?));
            }
        }
        order(&mut rows);
        Ok(rows)
    }

    /// The first offset that is at least as young as the timestamp.
    pub fn offset_for_timestamp(&self, topic: &str, partition: i32, timestamp: i64) -> Offset {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_offset(topic, partition, Offset::Offset(timestamp)).expect("a timestamp");
        let found = self.consumer().offsets_for_times(wanted, DEADLINE).expect("offsets");
        found.elements()[0].offset()
    }

    /// The first offset and the one behind the last record.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.consumer().fetch_watermarks(topic, partition, DEADLINE)
    }
}
