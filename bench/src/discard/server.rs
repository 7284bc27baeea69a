//! Connections, each with a thread of its own and blocking calls: as little as possible between the socket and the answer.

use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::{Buf, Bytes};
use protocol::messages::api_versions::ApiVersion;
use protocol::messages::fetch::{FetchTopic, FetchableTopicResponse, PartitionData};
use protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsTopic, ListOffsetsTopicResponse,
};
use protocol::messages::metadata::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
use protocol::messages::{
    ApiVersionsResponse, FetchRequest, FetchResponse, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
};
use protocol::wire::{Decoder, Few, Message, Records};
use protocol::{ApiKey, client, frame};

use super::log::PreparedLog;
use crate::error::BenchError;
use crate::sys::pin_to_core;
use crate::terminal;

/// What is served, in versions that name topics by their names.
const SERVED: [(ApiKey, i16, i16); 6] = [
    (ApiKey::Produce, 3, 12),
    (ApiKey::Fetch, 4, 12),
    (ApiKey::ListOffsets, 1, 7),
    (ApiKey::Metadata, 1, 12),
    (ApiKey::ApiVersions, 0, 3),
    (ApiKey::InitProducerId, 0, 4),
];
const NODE: i32 = 1;
const RECEIVE_BYTES: usize = 2 << 20;
const LARGEST_REQUEST_BYTES: usize = 600 << 20;

/// A server that is listening.
pub struct Server {
    /// Where.
    pub address: String,
    listener: TcpListener,
    core: Option<usize>,
    state: Arc<State>,
}

struct State {
    host: String,
    port: i32,
    partitions: i32,
    log: PreparedLog,
    next_producer_id: AtomicI64,
}

impl Server {
    /// Listens at `address`; connections will be served on `core`.
    pub fn bind(
        address: &str,
        partitions: u32,
        core: Option<usize>,
        log: PreparedLog,
    ) -> Result<Server, BenchError> {
        let failed = |error| BenchError::Option(format!("--listen {address}: {error}"));
        let listener = TcpListener::bind(address).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let state = State {
            host: bound.ip().to_string(),
            port: i32::from(bound.port()),
            partitions: partitions as i32,
            log,
            next_producer_id: AtomicI64::new(1),
        };
        Ok(Server { address: bound.to_string(), listener, core, state: Arc::new(state) })
    }

    /// Serves whoever connects, for ever.
    pub fn serve(self) -> Result<(), BenchError> {
        for stream in self.listener.incoming() {
            let stream = stream.map_err(|error| BenchError::Option(format!("cannot accept: {error}")))?;
            let (state, core) = (Arc::clone(&self.state), self.core);
            thread::spawn(move || {
                if let Err(error) = serve(stream, core, &state) {
                    terminal::tell(format_args!("a connection ended: {error}"));
                }
            });
        }
        Ok(())
    }
}

/// Serves a connection until its client hangs up.
fn serve(mut stream: TcpStream, core: Option<usize>, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    core.map_or(Ok(()), pin_to_core)?;
    let mut buffer = vec![0; RECEIVE_BYTES];
    let (mut start, mut end) = (0, 0);
    loop {
        let whole = buffer[start..end].first_chunk().map(|prefix| i32::from_be_bytes(*prefix));
        let needed = match whole.map(usize::try_from) {
            None => 4,
            Some(Ok(len)) if len <= LARGEST_REQUEST_BYTES => 4 + len,
            Some(_) => return Err(malformed("a length prefix that no request has")),
        };
        if end - start < needed {
            // Small requests follow each other in the buffer; a large one moves to its beginning.
            if buffer.len() - start < needed.max(buffer.len() / 4) {
                buffer.copy_within(start..end, 0);
                (start, end) = (0, end - start);
                buffer.resize(buffer.len().max(needed), 0);
            }
            match stream.read(&mut buffer[end..])? {
                0 => return Ok(()),
                received => end += received,
            }
            continue;
        }
        let answer = state.answer(&buffer[start + 4..start + needed])?;
        start += needed;
        if start == end {
            (start, end) = (0, 0);
        }
        write_all(&mut stream, answer)?;
    }
}

fn write_all(stream: &mut TcpStream, mut segments: Few<Bytes>) -> io::Result<()> {
    let mut first = 0;
    while first < segments.len() {
        let slices: Vec<IoSlice<'_>> =
            segments[first..].iter().map(|segment| IoSlice::new(segment)).collect();
        let mut written = stream.write_vectored(&slices)?;
        while first < segments.len() && written >= segments[first].len() {
            written -= segments[first].len();
            first += 1;
        }
        if let Some(segment) = segments.get_mut(first) {
            segment.advance(written);
        }
    }
    Ok(())
}

fn malformed(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl State {
    /// The answer to a request; nothing if it wants none.
    fn answer(&self, request: &[u8]) -> io::Result<Few<Bytes>> {
        let (header, d) = frame::decode_request_header(request).map_err(malformed)?;
        let (version, id) = (header.request_api_version, header.correlation_id);
        fn read<'a, M: Message<'a>>(mut d: Decoder<'a>, version: i16) -> io::Result<M> {
            let message = M::decode(&mut d, version).map_err(malformed)?;
            d.finish().map_err(malformed)?;
            Ok(message)
        }
        fn reply<'a, M: Message<'a>>(id: i32, message: &M, version: i16) -> io::Result<Few<Bytes>> {
            frame::encode_response(id, message, version).map_err(malformed)
        }
        match ApiKey::try_from(header.request_api_key).map_err(malformed)? {
            ApiKey::Produce => match produce(&read(d, version)?) {
                Some(response) => reply(id, &response, version),
                None => Ok(Few::new()),
            },
            ApiKey::Fetch => reply(id, &self.fetch(&read(d, version)?), version),
            ApiKey::ListOffsets => reply(id, &self.list_offsets(&read(d, version)?), version),
            ApiKey::Metadata => reply(id, &self.metadata(&read(d, version)?), version),
            ApiKey::ApiVersions => reply(id, &api_versions(), version.min(3)),
            ApiKey::InitProducerId => {
                let producer_id = self.next_producer_id.fetch_add(1, Ordering::Relaxed);
                reply(id, &InitProducerIdResponse { producer_id, ..Default::default() }, version)
            }
            other => Err(malformed(format!("{other:?} is not served"))),
        }
    }

    /// Every topic that is asked for is there.
    fn metadata<'a>(&self, request: &MetadataRequest<'a>) -> MetadataResponse<'a> {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: NODE,
            replica_nodes: vec![NODE],
            isr_nodes: vec![NODE],
            ..Default::default()
        };
        let names = request.topics.iter().flatten().filter_map(|topic| topic.name.clone());
        let broker = MetadataResponseBroker {
            node_id: NODE,
            host: self.host.clone().into(),
            port: self.port,
            ..Default::default()
        };
        MetadataResponse {
            brokers: vec![broker],
            topics: names
                .map(|name| MetadataResponseTopic {
                    name: Some(name),
                    partitions: (0..self.partitions).map(partition).collect(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }

    fn list_offsets<'a>(&self, request: &ListOffsetsRequest<'a>) -> ListOffsetsResponse<'a> {
        let topic = |topic: &ListOffsetsTopic<'a>| ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|asked| ListOffsetsPartitionResponse {
                    partition_index: asked.partition_index,
                    offset: if asked.timestamp == client::EARLIEST_TIMESTAMP {
                        0
                    } else {
                        self.log.end_offset()
                    },
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        ListOffsetsResponse { topics: request.topics.iter().map(topic).collect(), ..Default::default() }
    }

    fn fetch<'a>(&self, request: &FetchRequest<'a>) -> FetchResponse<'a> {
        let mut left = request.max_bytes.max(0) as usize;
        let mut topic = |topic: &FetchTopic<'a>| FetchableTopicResponse {
            topic: topic.topic.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|asked| {
                    let max_bytes = left.min(asked.partition_max_bytes.max(0) as usize);
                    let records = match left {
                        0 => Bytes::new(),
                        _ => self.log.read(asked.fetch_offset, max_bytes),
                    };
                    left = left.saturating_sub(records.len());
                    PartitionData {
                        partition_index: asked.partition,
                        high_watermark: self.log.end_offset(),
                        records: Some(Records::from(records)),
                        ..Default::default()
                    }
                })
                .collect(),
            ..Default::default()
        };
        let responses = request.topics.iter().map(&mut topic).collect();
        if left == request.max_bytes.max(0) as usize {
            thread::sleep(Duration::from_millis(request.max_wait_ms.clamp(0, 1000) as u64));
        }
        FetchResponse { responses, ..Default::default() }
    }
}

/// Acknowledges everything.
fn produce<'a>(request: &ProduceRequest<'a>) -> Option<ProduceResponse<'a>> {
    let responses = request
        .topic_data
        .iter()
        .map(|topic| TopicProduceResponse {
            name: topic.name.clone(),
            partition_responses: topic
                .partition_data
                .iter()
                .map(|data| PartitionProduceResponse { index: data.index, ..Default::default() })
                .collect(),
            ..Default::default()
        })
        .collect();
    (request.acks != 0).then_some(ProduceResponse { responses, ..Default::default() })
}

fn api_versions() -> ApiVersionsResponse<'static> {
    let api = |(key, min_version, max_version): (ApiKey, i16, i16)| ApiVersion {
        api_key: key as i16,
        min_version,
        max_version,
        ..Default::default()
    };
    ApiVersionsResponse { api_keys: SERVED.map(api).to_vec(), ..Default::default() }
}
