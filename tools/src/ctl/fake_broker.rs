//! A broker of a hundred lines for tests of clients: one thread per connection, everything in memory, faults on request.
//!
//! The load generator's tests include this file too, so it uses nothing but the crate `protocol`.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use bytes::Bytes;
use protocol::messages::api_versions::ApiVersion;
use protocol::messages::create_topics::CreatableTopicResult;
use protocol::messages::delete_topics::DeletableTopicResult;
use protocol::messages::fetch::{FetchableTopicResponse, PartitionData};
use protocol::messages::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use protocol::messages::metadata::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
use protocol::messages::*;
use protocol::records::{assign, iter_batches};
use protocol::wire::{Decoder, Few, Message, Records};
use protocol::{ApiKey, frame};

/// What the fake serves.
const SERVED: [(ApiKey, i16, i16); 8] = [
    (ApiKey::Produce, 3, 12),
    (ApiKey::Fetch, 4, 12),
    (ApiKey::ListOffsets, 1, 7),
    (ApiKey::Metadata, 1, 12),
    (ApiKey::ApiVersions, 0, 3),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 5),
    (ApiKey::InitProducerId, 0, 4),
];

/// One partition's log: whole batches in order, and the next offset.
#[derive(Debug, Default, Clone)]
pub struct Log {
    /// The batches, with their offsets.
    pub batches: Vec<Vec<u8>>,
    /// The next offset.
    pub end: i64,
}

#[derive(Debug, Default)]
struct State {
    topics: BTreeMap<String, Vec<Log>>,
    refusals: VecDeque<i16>,
    hang_up_before_produce: u32,
    hangs_up_on_fetch: bool,
    produced: u32,
}

/// A running fake; its threads end with the process.
#[derive(Clone)]
pub struct FakeBroker {
    /// Where it listens.
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl FakeBroker {
    /// Starts a broker without topics on a free port of the loopback interface.
    pub fn start() -> FakeBroker {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let broker = FakeBroker { address, state: Arc::default() };
        let accepting = broker.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = accepting.clone();
                thread::spawn(move || serving.serve(stream));
            }
        });
        broker
    }

    /// Adds a topic.
    pub fn with_topic(self, name: &str, partitions: usize) -> FakeBroker {
        self.state().topics.insert(name.to_owned(), vec![Log::default(); partitions]);
        self
    }

    /// Refuses the next batches with these error codes, in order.
    pub fn refuse_next(&self, codes: &[i16]) {
        self.state().refusals.extend(codes);
    }

    /// Closes the connection instead of answering the next `count` produce requests.
    pub fn hang_up(&self, count: u32) {
        self.state().hang_up_before_produce = count;
    }

    /// Closes the connection instead of answering any fetch from now on.
    #[allow(dead_code, reason = "not every crate that includes this file has such tests")]
    pub fn hang_up_on_fetch(&self) {
        self.state().hangs_up_on_fetch = true;
    }

    /// The log of a partition; `None` if there is no such topic.
    pub fn log(&self, topic: &str, partition: usize) -> Option<Log> {
        self.state().topics.get(topic).map(|logs| logs[partition].clone())
    }

    /// Puts another log in the place of a partition's, for brokers that lose or change what they were given.
    #[allow(dead_code, reason = "not every crate that includes this file has such tests")]
    pub fn replace_log(&self, topic: &str, partition: usize, log: Log) {
        if let Some(logs) = self.state().topics.get_mut(topic) {
            logs[partition] = log;
        }
    }

    /// Produce requests answered.
    pub fn produced(&self) -> u32 {
        self.state().produced
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no connection panics while it holds the state")
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut serve = || -> io::Result<()> {
            loop {
                let mut prefix = [0; 4];
                stream.read_exact(&mut prefix)?;
                let mut request = vec![0; i32::from_be_bytes(prefix) as usize];
                stream.read_exact(&mut request)?;
                match self.answer(&request) {
                    Some(segments) => segments.iter().try_for_each(|segment| stream.write_all(segment))?,
                    None => return Ok(()),
                }
            }
        };
        // An error means that the client is gone.
        let _ = serve();
    }

    fn answer(&self, request: &[u8]) -> Option<Few<Bytes>> {
        let (header, d) = frame::decode_request_header(request).expect("a sound header");
        let (version, id) = (header.request_api_version, header.correlation_id);
        fn read<'a, M: Message<'a>>(mut d: Decoder<'a>, version: i16) -> M {
            let message = M::decode(&mut d, version).expect("a sound request");
            d.finish().expect("nothing after the request");
            message
        }
        fn reply<'a, M: Message<'a>>(id: i32, message: &M, version: i16) -> Option<Few<Bytes>> {
            Some(frame::encode_response(id, message, version).expect("the fake's answers fit their versions"))
        }
        match ApiKey::try_from(header.request_api_key).expect("a known request") {
            ApiKey::ApiVersions => reply(id, &api_versions(), version.min(3)),
            ApiKey::Metadata => reply(id, &self.metadata(&read(d, version)), version),
            ApiKey::CreateTopics => reply(id, &self.create(&read(d, version)), version),
            ApiKey::DeleteTopics => reply(id, &self.delete(&read(d, version)), version),
            ApiKey::ListOffsets => reply(id, &self.offsets(&read(d, version)), version),
            ApiKey::Fetch if self.state().hangs_up_on_fetch => None,
            ApiKey::Fetch => reply(id, &self.fetch(&read(d, version)), version),
            ApiKey::Produce => reply(id, &self.produce(&read(d, version))?, version),
            ApiKey::InitProducerId => {
                let answer =
                    InitProducerIdResponse { producer_id: 4000, producer_epoch: 0, ..Default::default() };
                reply(id, &answer, version)
            }
            _ => None,
        }
    }

    fn metadata(&self, request: &MetadataRequest<'_>) -> MetadataResponse<'static> {
        let (host, port) = self.address.rsplit_once(':').expect("host:port");
        let state = self.state();
        let names: Vec<String> = match &request.topics {
            None => state.topics.keys().cloned().collect(),
            Some(topics) => {
                topics.iter().flat_map(|topic| &topic.name).map(|name| name.to_string()).collect()
            }
        };
        let topic = |name: String| {
            let logs = state.topics.get(&name);
            MetadataResponseTopic {
                error_code: if logs.is_some() { 0 } else { 3 },
                partitions: (0..logs.map_or(0, Vec::len) as i32)
                    .map(|index| MetadataResponsePartition {
                        partition_index: index,
                        leader_id: 1,
                        replica_nodes: vec![1],
                        isr_nodes: vec![1],
                        ..Default::default()
                    })
                    .collect(),
                name: Some(name.into()),
                ..Default::default()
            }
        };
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: host.to_owned().into(),
                port: port.parse().expect("a port"),
                ..Default::default()
            }],
            topics: names.into_iter().map(topic).collect(),
            ..Default::default()
        }
    }

    fn create(&self, request: &CreateTopicsRequest<'_>) -> CreateTopicsResponse<'static> {
        let mut state = self.state();
        let mut topics = Vec::new();
        for topic in &request.topics {
            let name = topic.name.to_string();
            let exists = state.topics.contains_key(&name);
            if !exists {
                let partitions = topic.num_partitions.max(1) as usize;
                state.topics.insert(name.clone(), vec![Log::default(); partitions]);
            }
            let error_code = if exists { 36 } else { 0 };
            topics.push(CreatableTopicResult { name: name.into(), error_code, ..Default::default() });
        }
        CreateTopicsResponse { topics, ..Default::default() }
    }

    fn delete(&self, request: &DeleteTopicsRequest<'_>) -> DeleteTopicsResponse<'static> {
        let mut state = self.state();
        let responses = request
            .topic_names
            .iter()
            .map(|name| DeletableTopicResult {
                name: Some(name.to_string().into()),
                error_code: if state.topics.remove(name.as_ref()).is_some() { 0 } else { 3 },
                ..Default::default()
            })
            .collect();
        DeleteTopicsResponse { responses, ..Default::default() }
    }

    fn offsets(&self, request: &ListOffsetsRequest<'_>) -> ListOffsetsResponse<'static> {
        let state = self.state();
        let topic = |asked: &list_offsets::ListOffsetsTopic<'_>| {
            let logs = &state.topics[asked.name.as_ref()];
            let partitions = asked
                .partitions
                .iter()
                .map(|partition| ListOffsetsPartitionResponse {
                    partition_index: partition.partition_index,
                    offset: if partition.timestamp == -1 {
                        logs[partition.partition_index as usize].end
                    } else {
                        0
                    },
                    ..Default::default()
                })
                .collect();
            ListOffsetsTopicResponse { name: asked.name.to_string().into(), partitions, ..Default::default() }
        };
        ListOffsetsResponse { topics: request.topics.iter().map(topic).collect(), ..Default::default() }
    }

    fn fetch(&self, request: &FetchRequest<'_>) -> FetchResponse<'static> {
        let state = self.state();
        let topic = |asked: &fetch::FetchTopic<'_>| {
            let logs = &state.topics[asked.topic.as_ref()];
            let partition = |asked: &fetch::FetchPartition<'_>| {
                let log = &logs[asked.partition as usize];
                let wanted = log.batches.iter().filter(|bytes| {
                    iter_batches(bytes).flatten().any(|batch| batch.next_offset() > asked.fetch_offset)
                });
                PartitionData {
                    partition_index: asked.partition,
                    high_watermark: log.end,
                    records: Some(Records::Shared(wanted.map(|bytes| bytes.clone().into()).collect())),
                    ..Default::default()
                }
            };
            FetchableTopicResponse {
                topic: asked.topic.to_string().into(),
                partitions: asked.partitions.iter().map(partition).collect(),
                ..Default::default()
            }
        };
        FetchResponse { responses: request.topics.iter().map(topic).collect(), ..Default::default() }
    }

    fn produce(&self, request: &ProduceRequest<'_>) -> Option<ProduceResponse<'static>> {
        let mut state = self.state();
        if state.hang_up_before_produce > 0 {
            state.hang_up_before_produce -= 1;
            return None;
        }
        state.produced += 1;
        let mut responses = Few::new();
        for topic in &request.topic_data {
            let mut partition_responses = Few::new();
            for data in &topic.partition_data {
                let refusal = state.refusals.pop_front();
                let log =
                    &mut state.topics.get_mut(topic.name.as_ref()).expect("the topic")[data.index as usize];
                let mut bytes = data.records.as_ref().expect("records").contiguous().into_owned();
                let error_code = refusal.unwrap_or_else(|| order_error(&bytes, log));
                if error_code == 0 {
                    assign(&mut bytes, log.end, 0, None);
                    log.end =
                        iter_batches(&bytes).last().expect("a batch").expect("a sound batch").next_offset();
                    log.batches.push(bytes);
                }
                partition_responses.push(PartitionProduceResponse {
                    index: data.index,
                    error_code,
                    ..Default::default()
                });
            }
            responses.push(TopicProduceResponse {
                name: topic.name.to_string().into(),
                partition_responses,
                ..Default::default()
            });
        }
        Some(ProduceResponse { responses, ..Default::default() })
    }
}

/// What a leader says to an idempotent producer's batch that does not follow its last one. The tests have one producer for each
/// partition, so that sequence numbers are offsets.
fn order_error(bytes: &[u8], log: &Log) -> i16 {
    let batch = iter_batches(bytes).next().expect("a batch").expect("a sound batch");
    match i64::from(batch.base_sequence()) {
        _ if !batch.has_producer_id() => 0,
        sequence if sequence < log.end => 46,
        sequence if sequence > log.end => 45,
        _ => 0,
    }
}

fn api_versions() -> ApiVersionsResponse<'static> {
    let api = |(key, min_version, max_version): &(ApiKey, i16, i16)| ApiVersion {
        api_key: *key as i16,
        min_version: *min_version,
        max_version: *max_version,
        ..Default::default()
    };
    ApiVersionsResponse { api_keys: SERVED.iter().map(api).collect(), ..Default::default() }
}
